"""Edges of the solvers on a device, on torch's CPU device, and of rows in parts."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ssl_risk_rs import _core
from ssl_risk_rs.errors import ShapeError
from ssl_risk_rs.probes import torch_passes
from ssl_risk_rs.probes.features import Features
from ssl_risk_rs.probes.held_rows import Holder, LocalHolders
from ssl_risk_rs.probes.holders import spans_of
from ssl_risk_rs.probes.kernel_solver import KernelSolver
from ssl_risk_rs.probes.parts import PartedFeatures, PartsSolver
from ssl_risk_rs.probes.solver import Goal
from ssl_risk_rs.probes.torch_half_passes import _may_be_stored
from ssl_risk_rs.probes.torch_parts import FitPart, HeldShare
from ssl_risk_rs.probes.torch_ridge import RidgeEquations
from ssl_risk_rs.probes.torch_solver import TorchSolver

N, D, K = 3000, 33, 7
CPU = torch.device("cpu")


def features(n: int = N, *, dtype: str = "float16", seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """As in test_solvers."""
    rng = np.random.default_rng(seed)
    y = rng.choice([0, 1, 2, 3, 4, 6], size=n, p=[0.3, 0.2, 0.2, 0.15, 0.14, 0.01]).astype(np.uint32)
    means = 0.7 * rng.normal(size=(K, D))
    x = means[y] + rng.normal(size=(n, D)) * rng.uniform(0.3, 3, D)
    x[:, 3] = 1.5
    x[:, 4] += 200
    x[:, 5] *= 1e-2
    return x.astype(dtype), y


def both_fit(solver: TorchSolver, f: Features, y: np.ndarray) -> None:
    theirs, rows = KernelSolver(f), np.arange(N, dtype=np.uint32)
    design = theirs.moments(rows, y, K).design(scaling="standardize")
    one = theirs.fit_logistic(rows, y, design, 1e-1, Goal(1e-6, 300))
    other = solver.fit_logistic(rows, y, design, 1e-1, Goal(1e-6, 300))
    assert one.converged and other.converged
    assert other.objective == pytest.approx(one.objective, rel=3e-6)


def test_a_block_of_more_rows_than_are_summed_in_float32_has_all_in_its_gradient(monkeypatch):
    """Rows beyond the first PASS_ROWS of a block enter the gradient too."""
    monkeypatch.setattr(torch_passes, "PASS_ROWS", 257)
    x, y = features()
    f = Features.of_arrays(x)
    both_fit(TorchSolver(f, [CPU], block_rows=1000), f, y)


def test_three_devices_add_up():
    """The sums of every device count."""
    x, y = features()
    f = Features.of_arrays(x)
    both_fit(TorchSolver(f, [CPU] * 3), f, y)


def test_a_class_just_beyond_those_of_a_probe_is_refused():
    """As many classes as the probe has are allowed, and no more."""
    x, y = features()
    solver, rows = TorchSolver(Features.of_arrays(x), [CPU]), np.flatnonzero(y <= 2).astype(np.uint32)
    with pytest.raises(ShapeError, match="2 classes, a row's class is 2"):
        solver.judge([_core.LinearProbe(np.ones((2, D)), np.zeros(2))], rows, y)


def test_a_row_whose_scores_overflow_is_named_by_its_number_among_all():
    """Not by its place among the judged rows."""
    x, y = features(dtype="float32")
    x[2100, 7] = 1e38
    solver, rows = TorchSolver(Features.of_arrays(x), [CPU]), np.arange(2000, N, dtype=np.uint32)
    with pytest.raises(Exception, match="row 2100"):
        solver.judge([_core.LinearProbe(np.full((K, D), 1e3), np.zeros(K))], rows, y)


@pytest.mark.parametrize("resident", [True, False])
def test_rows_whose_ends_look_in_line_are_taken_as_they_are(resident):
    """Rows are in line where all numbers are, not only the first and the last."""
    x, y = features()
    f = Features.of_arrays(x)
    rows = np.arange(100, 1100, dtype=np.uint32)
    rows[1:-1] = np.random.default_rng(0).permutation(rows[1:-1])
    probe = KernelSolver(f).solve_ridge(KernelSolver(f).moments(rows, y, K).design(), [1e-2])
    (left,), (right,) = (s.judge(probe, rows, y) for s in (KernelSolver(f), TorchSolver(f, [CPU], resident=resident)))
    np.testing.assert_allclose(right[2], left[2], rtol=1e-5, atol=1e-5)


def test_a_covariance_that_rounding_left_below_zero_is_no_matter_of_a_factorization():
    """Eigenvalues below −α/10 are left to an eigendecomposition."""

    def weights(lowest: float):
        covariance = np.diag([1.0, 0.5, lowest])
        design = SimpleNamespace(alpha_floor=1e-6, covariance=covariance, priors=np.full(2, 0.5), means=np.ones((2, 3)))
        return RidgeEquations(CPU)._weights(design, 1e-2, alone=True)

    assert weights(-5e-4) is not None
    assert weights(-5e-3) is None


def test_the_shift_of_parts_is_that_of_one_process():
    """Also where the rows are a multiple of SHIFT_ROWS."""
    n = 2 * _core.SHIFT_ROWS
    x = np.random.default_rng(0).normal(size=(n, 5)).astype(np.float32)
    x[::2] += 300  # every second row is far
    x[1::2] += 3000
    holders = LocalHolders([Holder(Features.of_arrays(x[a:b]), (a, b), n_threads=1) for a, b in spans_of(n, 3)])
    rows = np.arange(n, dtype=np.uint32)
    found = PartsSolver(PartedFeatures.of(holders, 5, "float32"))._shift(rows)
    np.testing.assert_array_equal(found, _core.choose_shift([x], rows))


def test_the_rows_of_a_part_are_sampled_by_their_places_among_all():
    """And not from the part's own first row."""
    x = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
    y = np.arange(10) % 2
    plain = (np.zeros(3, np.float32), np.ones(3, np.float32))
    of_part, rows = [], np.arange(5, dtype=np.uint32)
    w, b = np.random.default_rng(1).normal(size=(3, 2)).astype(np.float32), np.zeros(2, np.float32)
    for begin in (0, 5):
        part = FitPart("", rows, np.arange(begin, begin + 5), y[begin : begin + 5], *plain)
        of_part.append(HeldShare(Features.of_arrays(x), begin, part).losses(w, b, [1.0], 3)[0])
    scores = (x @ w)[::3].astype(float)
    expected = np.log(np.exp(scores).sum(1)) - scores[np.arange(4), y[::3]]
    assert sum(of_part) == pytest.approx(expected.sum(), rel=1e-5)


@pytest.mark.parametrize(
    ("far", "deviation", "may"), [(60.0, 1.0, True), (70.0, 1.0, False), (0.0, 2.0**-14, True), (0.0, 2.0**-16, False)]
)
def test_one_feature_that_is_far_or_small_beside_the_others_forbids_stored_rows(far, deviation, may):
    """Both the distance of the farthest feature and the ratio of deviations decide."""
    shift, scale, deviations = (torch.full((1000,), v, dtype=torch.float64) for v in (0.0, 1.0, 1.0))
    shift[7], deviations[9] = far, deviation
    assert _may_be_stored(shift, scale, deviations) == may
