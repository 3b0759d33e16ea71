"""Decompositions of rows that several holders have: what one process gives."""

from dataclasses import replace

import numpy as np
import pytest
from ssl_risk_rs.decomposition.decomposing import decompose_task
from ssl_risk_rs.decomposition.settings import Settings
from ssl_risk_rs.decomposition.task import Task, make_task
from ssl_risk_rs.errors import ParameterError
from ssl_risk_rs.probes.devices import open_solver
from ssl_risk_rs.probes.features import Features
from ssl_risk_rs.probes.held_rows import Holder, LocalHolders
from ssl_risk_rs.probes.holders import spans_of
from ssl_risk_rs.probes.kernel_solver import KernelSolver
from ssl_risk_rs.probes.parts import PartedFeatures, PartsSolver
from ssl_risk_rs.probes.solver import Goal
from ssl_risk_rs.results.record import Overlap
from ssl_risk_rs.workflow.features import decompose_features

N, D, K = 2400, 24, 6


def rows(dtype: str = "float16") -> tuple[np.ndarray, np.ndarray]:
    """Rows of classes that overlap, one feature constant, one far from the origin."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, K, N).astype(np.uint32)
    x = 0.6 * rng.normal(size=(K, D))[y] + rng.normal(size=(N, D))
    x[:, 3] = 1.5
    x[:, 4] += 200
    return x.astype(dtype), y


def in_parts(x: np.ndarray, count: int) -> PartedFeatures:
    """Each part has an array of its own rows only."""
    spans = spans_of(len(x), count)
    holders = [Holder(Features.of_arrays(x[begin:end]), (begin, end), n_threads=1) for begin, end in spans]
    return PartedFeatures.of(LocalHolders(holders), x.shape[1], str(x.dtype))


def task() -> Task:
    x, y = rows()
    return make_task(x[:2000], y[:2000], x[2000:], y[2000:])


@pytest.mark.parametrize("count", [1, 3, 7])
@pytest.mark.parametrize("precision", ["auto", "float32"])
def test_sums_and_outcomes_add_up(count, precision):
    x, y = rows()
    alone = KernelSolver(Features.of_arrays(x), n_threads=1)
    solver = open_solver(in_parts(x, count), "cpu")
    assert isinstance(solver, PartsSolver)
    picked = np.random.default_rng(1).permutation(N)[:2000].astype(np.uint32)  # of all parts, in no order
    cells = (np.arange(N) % 3).astype(np.uint8)
    a, b = (s.moments(picked, y, K, cells=cells, precision=precision).design([0, 2], scaling="standardize")
            for s in (alone, solver))  # fmt: skip
    np.testing.assert_array_equal(a.constant, b.constant)
    assert a.n_samples == b.n_samples and a.alpha_floor == pytest.approx(b.alpha_floor)
    # other orders of sums: of float64, or of blocks in float32
    rounding = 1e-12 if precision == "auto" else 2e-6
    np.testing.assert_allclose(b.covariance, a.covariance, atol=rounding * np.abs(a.covariance).max())
    probes = alone.solve_ridge(a, [1e-3, 1e-1])
    for one, other in zip(alone.judge(probes, picked, y), solver.judge(probes, picked, y), strict=True):
        for left, right in zip(one, other, strict=True):
            np.testing.assert_array_equal(left, right)  # the same products of the same rows
    race = solver.ridge_race(2)
    race.add(b, picked, y, [1e-3, 1e-1])
    assert race.judged.tolist() == [2000, 2000]
    assert race.errors.tolist() == [
        int((o[1] > 0).sum()) for o in solver.judge(solver.solve_ridge(b, [1e-3, 1e-1]), picked, y)
    ]


@pytest.mark.parametrize("probe", ["ridge", "logistic"])
def test_a_decomposition_in_parts_is_that_of_one_process(probe):
    if probe == "logistic":
        pytest.importorskip("torch")
    whole = task()
    x, _ = rows()
    settings = Settings(probe=probe, device="cpu", n_threads=1)
    one = decompose_task(whole, settings=settings)
    other = decompose_task(replace(whole, features=in_parts(x, 3)), twin=None, settings=settings)
    # a logistic pass of torch rounds otherwise than the kernels': a row on the edge of 2,000 or 400 may fall either way
    within = 1e-6 if probe == "ridge" else 1.5 / 400
    assert set(one.estimates) == set(other.estimates)
    for name in one.estimates:
        assert other.estimate(name) == pytest.approx(one.estimate(name), abs=within), name
    assert other.converged
    assert (one.sizes.overlap, other.sizes.overlap) == (Overlap("features", 0), None)
    assert "not_compared" in {note.code for note in other.notes}
    if probe == "logistic":
        for left, right in zip(one.fits, other.fits, strict=True):
            assert right.objective == pytest.approx(left.objective, rel=1e-6), left.role


def test_a_fit_in_parts_ends_by_the_training_error_where_that_is_asked_for():
    pytest.importorskip("torch")
    x, y = rows()
    solver, every = PartsSolver(in_parts(x, 3)), np.arange(N, dtype=np.uint32)
    design = solver.moments(every, y, K).design(scaling="standardize")
    stops = [solver.fit_logistic(every, y, design, 1e-5, Goal(1e-9, 60, error_tol=tol)).stop for tol in (0.9, None)]
    assert stops[0] == "error_estimated" != stops[1]
    draft = solver.fit_logistic(every, y, design, 1e-3, Goal(1e-2, 60, draft=True))
    assert draft.gap == np.inf and draft.stop == "estimated"


def test_a_part_names_the_row_that_is_wrong():
    x, y = rows("float32")
    x[1000, 2] = np.nan
    with pytest.raises(ParameterError, match=r"rows from 800 on.*row 200"):
        PartsSolver(in_parts(x, 3)).moments(np.arange(N, dtype=np.uint32), y, K)


@pytest.mark.parametrize(("n", "count"), [(5, 0), (5, 6)])
def test_more_parts_than_rows_are_refused(n, count):
    with pytest.raises(ParameterError, match="can be held in 1 to 5 parts"):
        spans_of(n, count)


def test_parts_that_leave_a_gap_are_refused():
    x, _ = rows()
    holders = LocalHolders([Holder(Features.of_arrays(x[:5]), (0, 5)), Holder(Features.of_arrays(x[7:]), (7, N))])
    with pytest.raises(ParameterError, match="do not follow each other"):
        PartedFeatures.of(holders, D, "float16")


def test_files_cannot_be_spread(tmp_path):
    x, y = rows()
    np.savez(tmp_path / "f.npz", X_train=x[:2000], y_train=y[:2000], X_test=x[2000:], y_test=y[2000:])
    with pytest.raises(ParameterError, match="is no feature bank"):
        decompose_features(str(tmp_path / "f.npz"), spread=lambda bank: in_parts(x, 2))
