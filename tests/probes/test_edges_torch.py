"""Edges of the solvers on a device, on torch's CPU device, and of rows in parts."""

from types import SimpleNamespace

import numpy as np
import pytest
from ssl_risk_rs import _core
from ssl_risk_rs.probes.features import Features
from ssl_risk_rs.probes.held_rows import Holder, LocalHolders
from ssl_risk_rs.probes.holders import spans_of
from ssl_risk_rs.probes.parts import PartedFeatures, PartsSolver

torch = pytest.importorskip("torch")
from ssl_risk_rs.probes.torch_half_passes import _may_be_stored  # noqa: E402
from ssl_risk_rs.probes.torch_parts import FitPart, HeldShare  # noqa: E402
from ssl_risk_rs.probes.torch_ridge import RidgeEquations  # noqa: E402

CPU = torch.device("cpu")


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
