"""Fewer rows than features: fits in the span of the rows against fits on all features."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from ssl_risk_rs import LogisticProbe, ParameterError, decompose
from ssl_risk_rs.probes.features import Features
from ssl_risk_rs.probes.kernel_solver import KernelSolver
from ssl_risk_rs.probes.solver import Goal
from ssl_risk_rs.probes.span import SpanMoments, span_of
from ssl_risk_rs.probes.span_solver import LogisticFit, SpanSolver

N, D, K = 60, 90, 3
SCALINGS = ["none", "standardize", "minmax"]


def world(n: int = N, d: int = D, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Three classes; feature 5 is constant, feature 6 far from 0 and ten times as wide."""
    rng = np.random.default_rng(seed)
    y = (np.arange(n) % K).astype(np.uint32)
    x = rng.normal(size=(n, d)) + 0.6 * np.random.default_rng(9).normal(size=(K, d))[y]
    x[:, 5] = 7.0
    x[:, 6] = 500 + 10 * x[:, 6]
    return x.astype(np.float32), y


def both(x: np.ndarray, y: np.ndarray, rows: np.ndarray, scaling: str, cells=None, kept=None, k: int = K):
    """Solver and design in the span, and by products of features."""
    features = Features.of_arrays(x)
    few, many = SpanSolver(features, "cpu"), KernelSolver(features)
    moments = few.moments(rows, y, k, cells=cells)
    assert isinstance(moments, SpanMoments)
    plain = many.moments(rows, y, k, cells=cells, precision="float64").design(kept, scaling=scaling)
    return few, few.design(moments, kept, scaling), many, plain


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_ridge_in_the_span_is_ridge_on_the_features(scaling, dtype):
    x, y = world()
    x = x.astype(dtype)
    rows = np.arange(0, N, 2, dtype=np.uint32)
    few, design, many, plain = both(x, y, rows, scaling)
    assert design.mean_variance == pytest.approx(plain.mean_variance, rel=1e-6)
    np.testing.assert_array_equal(design.constant, plain.constant)
    at = np.arange(N, dtype=np.uint32)
    for share in (1.0, 1e-3):
        alpha = share * design.mean_variance
        ours, theirs = (s.solve_ridge(d, [alpha])[0].scores(x, at) for s, d in ((few, design), (many, plain)))
        np.testing.assert_allclose(ours, theirs, atol=2e-5)
        wrong, probe = few.try_ridge(design, alpha, at, y)
        assert probe is not None and np.array_equal(wrong, probe.scores(x, at).argmax(1) != y)
    z = (x[rows].astype(float) - x[rows].astype(float).mean(0)) * design.scaled.scale
    independent = Ridge(alpha=len(rows) * alpha).fit(z, np.eye(K)[y[rows]])
    np.testing.assert_allclose(ours[rows], independent.predict(z), atol=2e-5)


@pytest.mark.parametrize("scaling", SCALINGS)
def test_logistic_in_the_span_is_logistic_on_the_features(scaling):
    x, y = world()
    rows = np.arange(0, N, 2, dtype=np.uint32)
    few, design, many, plain = both(x, y, rows, scaling)
    alpha, goal, at = 0.01 * design.mean_variance, Goal(1e-7, 2000), np.arange(N, dtype=np.uint32)
    ours = few.fit_logistic(rows, y, design, alpha, goal)
    theirs = many.fit_logistic(rows, y, plain, alpha, goal)
    assert ours.fit.objective == pytest.approx(theirs.objective, rel=1e-6)
    scores = [fit.probe.scores(x, at) for fit in (ours, theirs)]
    np.testing.assert_allclose(*scores, atol=5e-3 * np.abs(scores[1]).max())
    z = (x[rows].astype(float) - x[rows].astype(float).mean(0)) * design.scaled.scale
    independent = LogisticRegression(C=1 / (len(rows) * alpha), tol=1e-9, max_iter=5000).fit(z, y[rows])
    w = independent.coef_
    log_p = independent.predict_log_proba(z)[np.arange(len(rows)), y[rows]]
    assert ours.fit.objective == pytest.approx(-log_p.mean() + alpha / 2 * (w**2).sum(), rel=1e-5)


def test_cells_choose_rows_and_classes_without_rows_are_never_predicted():
    x, y = world()
    y[y == 1] = 2
    rows, cells = np.arange(N, dtype=np.uint32), (np.arange(N) // K % 4).astype(np.uint8)
    few, design, many, plain = both(x, y, rows, "standardize", cells, [0, 2, 3], k=4)
    own = rows[cells != 1]
    np.testing.assert_array_equal(design.rows, own)
    for fits in ("ridge", "logistic"):
        found = []
        for solver, of in ((few, design), (many, plain)):
            if fits == "ridge":
                found.append(solver.solve_ridge(of, [0.1])[0])
            else:
                found.append(solver.fit_logistic(own, y, of, 0.1, Goal(1e-7, 500)).probe)
        scores = [probe.scores(x, rows) for probe in found]
        assert set(scores[0].argmax(1).tolist()) <= {0, 2}
        np.testing.assert_allclose(*scores, atol=2e-3 if fits == "logistic" else 2e-5)
    with pytest.raises(ParameterError, match="not those of its design"):
        few.fit_logistic(rows, y, design, 0.1, Goal(1e-3, 9))
    y[cells != 1] = 0
    with pytest.raises(ParameterError, match="at least two classes, its training rows have 1 of 4"):
        few.design(few.moments(rows, y, 4, cells=cells), [0, 2, 3], "none")


def test_a_fit_goes_on_from_one_of_its_own_rows_and_from_one_of_other_rows():
    x, y = world()
    features, rows = Features.of_arrays(x), np.arange(N, dtype=np.uint32)
    solver, cells = SpanSolver(features, "cpu"), (np.arange(N) // K % 4).astype(np.uint8)
    moments = solver.moments(rows, y, K, cells=cells)
    whole, part = (solver.design(moments, kept, "standardize") for kept in (None, [0, 1, 2]))
    first = solver.fit_logistic(rows[cells != 3], y, part, 0.05, Goal(1e-6, 500))
    alone = solver.fit_logistic(rows, y, whole, 0.05, Goal(1e-6, 500))
    again = solver.fit_logistic(rows, y, whole, 0.05, Goal(1e-6, 500), start=alone)
    assert again.fit.passes <= 2  # it is there
    same = whole.projected(alone.probe).scores(features_of(whole), rows)
    np.testing.assert_allclose(same, alone.fit.probe.scores(features_of(whole), rows), atol=1e-3)
    for start in (first, first.probe):
        found = solver.fit_logistic(rows, y, whole, 0.05, Goal(1e-6, 500), start=start)
        assert found.fit.objective == pytest.approx(alone.fit.objective, rel=2e-6)
    # between the span and the features, either way
    many = SpanSolver(Features.of_arrays(x[:, :40].copy()), "cpu")
    design = many.design(many.moments(rows, y, K), None, "standardize")
    of_features = many.fit_logistic(rows, y, design, 0.05, Goal(1e-6, 500))
    some = rows[:30]
    few = many.design(many.moments(some, y, K), None, "standardize")
    in_span = many.fit_logistic(some, y, few, 0.05, Goal(1e-6, 500), start=of_features)
    assert isinstance(in_span, LogisticFit) and in_span.design is few
    back = many.fit_logistic(rows, y, design, 0.05, Goal(1e-6, 500), start=in_span)
    assert back.fit.objective == pytest.approx(of_features.fit.objective, rel=2e-6)


def features_of(design) -> np.ndarray:
    """Coordinates of a design's rows, float32."""
    (block,) = design.span.solver.features.source
    return block


@pytest.mark.parametrize("big", [1e3, 1e6])
@pytest.mark.parametrize("same", [False, True])
def test_one_wide_feature_hides_no_others(big, same):
    """Products of the rows see nothing of the others beside it."""
    rng = np.random.default_rng(0)
    means = 0.5 * rng.normal(size=(4, 100))

    def draw(n: int) -> tuple[np.ndarray, np.ndarray]:
        y = np.arange(n) % 4
        return np.c_[big * rng.normal(size=n), means[y] + rng.normal(size=(n, 100))].astype(np.float32), y

    x, y = draw(80)
    if same:  # rows that coincide span no direction between them
        x[:40] = x[40:]
    held, truth = draw(1000)
    probe = LogisticProbe(1e-2, tol=1e-5).fit(x, y)
    rows = np.arange(80, dtype=np.uint32)
    many = KernelSolver(Features.of_arrays(x))
    design = many.moments(rows, y.astype(np.uint32), 4, precision="float64").design()
    fit = many.fit_logistic(rows, y.astype(np.uint32), design, 1e-2, Goal(1e-5, 500))
    assert probe.objective_ == pytest.approx(fit.objective, rel=1e-4)
    assert probe.score(held, truth) == pytest.approx(
        (fit.probe.scores(held, np.arange(1000, dtype=np.uint32)).argmax(1) == truth).mean(), abs=0.01
    )


@pytest.mark.parametrize("case", ["several rows", "one row each", "unequal", "coincident", "constant", "uneven"])
def test_a_basis_is_orthonormal_spans_all_rows_and_diagonalizes_what_varies_within_classes(case):
    rng = np.random.default_rng(3)
    labels = {"one row each": np.arange(9), "unequal": np.repeat([0, 3, 4, 7], [1, 6, 2, 5])}.get(
        case, np.repeat(range(4), 5)
    )
    z = rng.normal(size=(len(labels), 30)) + 3 * rng.normal(size=(8, 30))[labels % 8]
    if case == "coincident":  # class means are all multiples of one direction
        z = rng.normal(size=(len(labels), 30)) + labels[:, None] * rng.normal(size=30)
        z[labels == 2] = z[labels == 1][:1]  # and rows of a class coincide with each other and with one of another
    if case == "constant":
        z = np.zeros_like(z)
    if case == "uneven":
        z *= 10.0 ** -np.linspace(0, 12, 30)
    z -= z.mean(0)
    basis, coordinates = span_of(z, labels)
    size = max(np.abs(z).max(), 1e-300)
    np.testing.assert_allclose(basis.T @ basis, np.eye(basis.shape[1]), atol=1e-9)
    np.testing.assert_allclose(coordinates @ basis.T, z, atol=1e-12 * size)
    within = sum(
        (part - part.mean(0)).T @ (part - part.mean(0))
        for part in (coordinates[labels == c] for c in np.unique(labels))
    )
    np.testing.assert_allclose(within - np.diag(np.diag(within)), 0, atol=1e-9 * size**2 * len(z))


def by_features(self, rows, labels, n_classes, *, cells=None, precision="float64"):
    """`SpanSolver.moments` of as many rows as features or more, whatever there are."""
    return self.solver.moments(rows, labels, n_classes, cells=cells, precision="float64")


@pytest.mark.parametrize("protocol", ["strict", "paper"])
@pytest.mark.parametrize("probe", ["ridge", "logistic"])
def test_a_decomposition_of_few_rows_is_that_of_products_of_features(probe, protocol, monkeypatch):
    (x, y), (xt, yt) = world(150, 300), world(60, 300, 1)
    twin, _ = world(150, 200, 2)
    # the order and the twin take the spans of other rows: 210 of them, more than the twin has features
    options = {"probe": probe, "protocol": protocol, "order": "both", "supervised": twin, "n_threads": 2}
    if probe == "logistic":
        options |= {"tol": 1e-7, "max_passes": 3000}
    found = decompose(x, y, xt, yt, **options)

    monkeypatch.setattr(SpanSolver, "moments", by_features)
    expected = decompose(x, y, xt, yt, **options)
    assert found.penalties["tuned" if protocol == "strict" else "tuned_us"].grid
    for name, estimate in expected.estimates.items():
        assert found.estimate(name) == pytest.approx(estimate.estimate, abs=0.02), name
    assert replace(found.sizes, train=0) == replace(expected.sizes, train=0)


@pytest.mark.parametrize("kind", ["numbers", "labels"])
def test_targets_of_few_rows_are_those_of_products_of_features(kind, monkeypatch):
    x, xt = world(150, 300)[0], world(60, 300, 1)[0]
    numbers = [np.c_[v[:, 0] + v[:, 1], v[:, 2]] for v in (x, xt)]
    if kind == "labels":
        numbers = [(v > 0).astype(int) for v in numbers]
    options = {"probe": "ridge", "target_kind": kind, "n_threads": 2}
    found = decompose(x, numbers[0], xt, numbers[1], **options)

    monkeypatch.setattr(SpanSolver, "moments", by_features)
    expected = decompose(x, numbers[0], xt, numbers[1], **options)
    for name, estimate in expected.estimates.items():
        assert found.estimate(name) == pytest.approx(estimate.estimate, rel=1e-4, abs=1e-6), name


def test_more_features_than_their_products_would_fit_in_memory_are_decomposed():
    (x, y), (xt, yt) = world(90, 60_000), world(40, 60_000, 1)  # 14 GB of products for each cell
    for probe in ("ridge", "logistic"):
        found = decompose(x, y, xt, yt, probe=probe, n_subsets=1, midpoint=False)
        assert found.estimate("risk_us") < 0.1


def test_products_of_rows_take_as_many_threads_as_were_asked_for():
    """Of a fresh process: scipy has a BLAS of its own, which is loaded late, and rows that coincide take it."""
    script = """
import numpy as np
from ssl_risk_rs import decompose
from ssl_risk_rs.probes import span
from threadpoolctl import threadpool_info
seen, real = [], span.span_of
def noted(z, labels):
    found = real(z, labels)
    seen.extend((pool["filepath"], pool["num_threads"]) for pool in threadpool_info() if pool["user_api"] == "blas")
    return found
span.span_of = noted
x = np.tile(np.random.default_rng(0).normal(size=(40, 90)), (2, 1)).astype(np.float32)
y = np.arange(80) % 4
decompose(x, y, x[:40], y[:40], n_threads=1, n_subsets=1)
assert {n for _, n in seen} == {1} and len({path for path, _ in seen}) > 1, set(seen)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_threads_at_once_leave_the_limits_as_they_were():
    from threadpoolctl import threadpool_info

    def limits():
        return {pool["filepath"]: pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    x, y = world()
    LogisticProbe(n_threads=1).fit(x, y)
    before = limits()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: LogisticProbe(n_threads=1).fit(x, y), range(40)))
    assert limits() == before
