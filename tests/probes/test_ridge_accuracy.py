"""What the docstrings promise of ridge probes, on the features that make it hard."""

import numpy as np
import pytest
from ssl_risk_rs import NumericalError, ParameterError, _core
from ssl_risk_rs.probes.estimators import RidgeProbe, RidgeProbeCV


def features(kind: str, n: int = 4000, d: int = 64, k: int = 10, seed: int = 0):
    """Rows in float32 whose features hang together, far from the origin or not, and labels."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, k, n).astype(np.uint32)
    y[:k] = np.arange(k)
    x = rng.normal(size=(n, d)) + 0.5 * rng.normal(size=(k, d))[y]
    if kind.startswith("factor"):  # one common factor, the rest so many times smaller
        x = rng.normal(size=(n, 1)) + float(kind.split()[1]) * x
    elif kind.startswith("power"):  # standard deviations of the principal directions
        x = x * np.arange(1.0, d + 1) ** -float(kind.split()[1]) @ np.linalg.qr(rng.normal(size=(d, d)))[0]
    elif kind.startswith("mean"):
        x = x + float(kind.split()[1])
    return x.astype(np.float32), y


KINDS = ["plain", "factor 0.1", "factor 0.03", "factor 0.01", "power 1", "power 2", "mean 3", "mean 1e4"]


def exact(x, y, alphas, scaling="standardize"):
    """Scores in float64 on the rows, for each penalty in units of the mean variance, and that unit."""
    k = int(y.max()) + 1
    z = x.astype(np.float64) - x.mean(0, dtype=np.float64)
    z = z / z.std(0) if scaling == "standardize" else z
    targets = np.eye(k)[y]
    left, values, _ = np.linalg.svd(z, full_matrices=False)
    unit = (values**2).sum() / len(x) / x.shape[1]
    share = values**2 / (values**2 + len(x) * unit * np.asarray(alphas)[:, None])
    scores = [left * s @ (left.T @ (targets - targets.mean(0))) + targets.mean(0) for s in share]
    return np.array(scores), unit


def design_of(x, y, precision="auto", scaling="standardize", n_classes=None):
    rows = np.arange(len(x), dtype=np.uint32)
    moments = _core.Moments(
        x.shape[1], n_classes or int(y.max()) + 1, shift=_core.choose_shift(x, rows), precision=precision
    )
    moments.update(x, y, rows, np.zeros(len(x), np.uint8))
    return rows, moments.design(scaling=scaling)


@pytest.mark.parametrize("scaling", ["none", "standardize"])
@pytest.mark.parametrize("kind", KINDS)
def test_float64_sums_give_the_scores_of_float64(kind, scaling):
    x, y = features(kind)
    relative = [1e-5, 1e-4, 1e-3, 1e-1, 10.0]
    expected, unit = exact(x, y, relative, scaling)
    rows, design = design_of(x, y, scaling=scaling)
    for alpha, scores, probe in zip(relative, expected, design.solve_ridge([a * unit for a in relative]), strict=True):
        # float32 weights and products: 2^-24 of weights that grow as 1/√α, on targets of 0 and 1
        tolerance = 3e-5 if kind in ("factor 0.01", "power 2") and alpha <= 1e-4 else 1e-5
        assert np.abs(probe.scores(x, rows) - scores).max() <= tolerance, alpha
        coef, intercept = probe.raw()
        raw = x.astype(np.float64) @ coef.T + intercept
        assert np.abs(raw - scores).max() <= 1e-7, alpha  # float32 holds the scales, so that α means 1e-7 more or less


@pytest.mark.parametrize("kind", ["plain", "power 1", "mean 1e4", "factor 0.1"])
def test_float32_sums_give_them_nearly(kind):
    x, y = features(kind)
    relative = [1.00001e-5, 1e-4, 1e-3, 1e-1, 10.0]  # the floor comes from float32 sums
    expected, unit = exact(x, y, relative)
    rows, design = design_of(x, y, "float32")
    for scores, probe in zip(expected, design.solve_ridge([a * unit for a in relative]), strict=True):
        assert np.abs(probe.scores(x, rows) - scores).max() <= 1e-4  # what Design.solve_ridge says of such features


def test_the_intercept_knows_the_rounded_shift():
    x, y = features("mean 1e4", n=60, d=90, k=5)
    for dtype in (np.float32, np.float16):
        z = (x - 1e4 + (1e4 if dtype == np.float32 else 1e3)).astype(dtype)
        rows = np.arange(60, dtype=np.uint32)
        expected, unit = exact(z, y, [1e-3, 1.0])
        dual = _core.solve_ridge_dual(z, rows, y, 5, [1e-3 * unit, unit], scaling="standardize")
        for probe, scores in zip(dual, expected, strict=True):
            assert np.abs(probe.scores(z, rows) - scores).max() <= 1e-5  # float32 scores
            coef, intercept = probe.raw()
            raw = z.astype(np.float64) @ coef.T + intercept
            assert np.abs(raw - scores).max() <= 1e-6  # float32 scales


@pytest.mark.parametrize("scaling", ["none", "standardize"])
def test_penalties_are_tried_by_intercepts_that_know_the_rounded_shift(scaling):
    """Means between two float32 numbers that are a third of a standard deviation apart."""
    rng = np.random.default_rng(0)
    y = (np.arange(3000) % 3).astype(np.uint32)
    x = (1e7 + np.rint(3 * (rng.normal(size=(3000, 8)) + np.eye(3, 8)[y]))).astype(np.float32)
    x += np.float32(10 + np.arange(3000)[:, None] % 2)
    rows, design = design_of(x, y, scaling=scaling)
    unit = 9.0 if scaling == "none" else 1.0
    alphas = [unit * alpha for alpha in (1e-3, 1e-2, 0.1, 0.3, 1.0, 3.0)]
    judged = [int((_core.judge(x, rows, y, [probe])[0][0] != y).sum()) for probe in design.solve_ridge(alphas)]
    few = _core.RidgeRace(2)  # from Cholesky factors; six are from one eigendecomposition
    few.add(design, x, rows, y, alphas[:2])
    # one row for near-ties
    assert np.abs(np.subtract(design.ridge_errors(x, rows, y, alphas), judged)).max() <= 1
    assert np.abs(few.errors - judged[:2]).max() <= 1


def test_a_penalty_is_not_chosen_by_scores_that_overflow():
    x, y = features("plain", n=300, d=8, k=3)
    rows, design = design_of(0.01 * x, y)
    x[7] = 3e38
    for alphas in ([1e-3], [1e-3] * 6):  # from a Cholesky factor, and from an eigendecomposition
        with pytest.raises(NumericalError, match="scores of row 7"):
            _core.RidgeRace(len(alphas)).add(design, x, rows, y, alphas)
    with pytest.raises(NumericalError, match="scores of row 7"):
        design.ridge_errors(x, rows, y, [1e-3])


def test_a_weak_penalty_on_ordinary_features_is_no_reason_to_refuse():
    x, y = features("plain", n=900, d=16, k=3)
    for factor in (0.3, 1.0, 3.0, 30.0):
        z = x * np.float32(factor)
        alpha = 1e-5
        expected, unit = exact(z, y, [1.0], "none")
        expected, _ = exact(z, y, [alpha / unit], "none")
        fit = RidgeProbe(alpha).fit(z, y)
        assert np.abs(fit.decision_function(z) - expected[0]).max() <= 1e-5  # float32 scores
        chosen = RidgeProbeCV([alpha, 1e-3]).fit(z, y)
        assert chosen.alpha_ in (alpha, 1e-3)


def test_below_what_float64_sums_bear_the_least_penalty_is_named():
    x, y = features("plain", n=900, d=16, k=3)
    z = x * np.float32(1e6)
    with pytest.raises(ParameterError, match=r"use at least [0-9.e-]+") as error:
        RidgeProbe(1e-5).fit(z, y)
    least = float(str(error.value).split("use at least ")[1].split()[0].rstrip(";,."))
    assert RidgeProbe(least).fit(z, y).score(z, y) > 0.5
    with pytest.raises(ParameterError, match="use at least"):
        RidgeProbeCV([1e-5, least]).fit(z, y)
    _, rough = design_of(z, y, "float32", "none")
    with pytest.raises(ParameterError, match="use at least"):
        rough.solve_ridge([0.5e-5 * rough.mean_variance])
    assert rough.alpha_floor == pytest.approx(1e-5 * rough.mean_variance)


@pytest.mark.parametrize("kind", ["factor 1", "factor 0.1", "factor 0.03", "factor 0.01", "power 1", "power 2"])
def test_errors_with_many_classes_are_those_of_the_probes(kind):
    x, y = features(kind, n=4000, d=48, k=64)
    rows, design = design_of(x, y)
    held = rows[2000:].copy()
    alphas = [10.0 ** (i / 2) for i in range(-10, 3)]
    fast = np.array(design.ridge_errors(x, held, y, alphas))
    slow = [int((outcome[1] > 0).sum()) for outcome in _core.judge(x, held, y, design.solve_ridge(alphas))]
    # near-ties: scores in another basis differ by float32 rounding
    assert np.abs(fast - slow).max() <= 2


@pytest.mark.parametrize(("d", "k", "n_alphas"), [(48, 64, 14), (96, 5, 20), (48, 8, 3)])
def test_the_race_chooses_what_counting_every_error_chooses(d, k, n_alphas):
    x, y = features("power 1", n=6000, d=d, k=k, seed=3)
    alphas = np.geomspace(1e-6, 1e3, n_alphas)
    fit = RidgeProbeCV(alphas, n_threads=2).fit(x, y)
    rows = np.arange(len(x), dtype=np.uint32)
    keys = _core.sample_keys([str(i) for i in rows], 0)
    folds = _core.assign_cells(keys, rows, y, n_folds=5, n_subsets=0, subset_size=0)
    moments = _core.Moments(d, k, n_cells=5, shift=_core.choose_shift(x, rows))
    moments.update(x, y, rows, folds)
    slow, by_fold = np.zeros(n_alphas, np.int64), []
    for fold in range(5):
        design = moments.design([f for f in range(5) if f != fold])
        by_fold.append(design.ridge_errors(x, rows[folds == fold], y, list(alphas)))
        slow += by_fold[-1]
    stayed = fit.judged_ == fit.n_judged_
    assert fit.n_judged_ == len(x) and 1 <= stayed.sum() < n_alphas
    # near-ties fall as scores in another basis round
    assert np.abs(fit.errors_ - slow)[stayed].max() <= 2
    assert slow[list(alphas).index(fit.alpha_)] <= slow.min() + 2
    assert (fit.errors_ <= fit.judged_).all() and (fit.judged_[~stayed] >= 500).all()


def test_a_race_names_what_does_not_fit_and_stays_as_it_was():
    x, y = features("plain", n=900, d=16, k=3)
    rows, design = design_of(x, y)
    race = _core.RidgeRace(2)
    race.add(design, x, rows[:300], y, [1e-2, 1.0])
    before = race.errors.tolist(), race.judged.tolist(), race.running
    assert before[1] == [300, 300] and before[2] == [0, 1]  # too few rows to leave any out
    with pytest.raises(ValueError, match="number of penalties has 1, expected 2"):
        race.add(design, x, rows[300:], y, [1e-2])
    with pytest.raises(ParameterError, match="use at least"):
        race.add(design, x, rows[300:], y, [1e-2, 1e-12])
    with pytest.raises(ParameterError, match="has label"):
        race.add(design, x, rows[300:], y + 9, [1e-2, 1.0])
    assert (race.errors.tolist(), race.judged.tolist(), race.running) == before
