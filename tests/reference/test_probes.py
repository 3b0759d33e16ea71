"""The reference probes against scikit-learn and against their own gradient."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from reference import probes

SCALERS = {"none": None, "standardize": StandardScaler, "minmax": MinMaxScaler}


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 300)
    y[:4] = range(4)
    x = 0.8 * rng.standard_normal((4, 7))[y] + rng.standard_normal((300, 7))
    x = x * np.geomspace(0.1, 10, 7) + np.linspace(-3, 3, 7)
    x[:, 2] = 5.0  # a feature that tells nothing
    return x, y


def scaled(x, scaling):
    x = np.delete(x, 2, axis=1)
    return x if SCALERS[scaling] is None else SCALERS[scaling]().fit_transform(x)


@pytest.mark.parametrize("scaling", SCALERS)
@pytest.mark.parametrize("alpha", [1e-8, 1e-3, 1.0])
def test_ridge_is_scikit_learns(data, scaling, alpha):
    x, y = data
    ours = probes.fit(x, y, 4, alpha, probe="ridge", scaling=scaling, relative=False)
    z = scaled(x, scaling)
    theirs = Ridge(alpha=len(y) * alpha).fit(z, np.eye(4)[y])
    assert ours.scaler.keep.tolist() == [True, True, False, True, True, True, True]
    # two float64 factorizations of a matrix with a condition number of 1e4 at most
    np.testing.assert_allclose(ours.scores(x), theirs.predict(z), rtol=0, atol=1e-10)


@pytest.mark.parametrize("scaling", SCALERS)
@pytest.mark.parametrize("alpha", [1e-5, 1e-2])
def test_logistic_is_scikit_learns(data, scaling, alpha):
    x, y = data
    ours = probes.fit(x, y, 4, alpha, probe="logistic", scaling=scaling, relative=False)
    z = scaled(x, scaling)
    theirs = LogisticRegression(C=1 / (len(y) * alpha), solver="newton-cholesky", tol=1e-12, max_iter=1000).fit(z, y)
    # scikit-learn's own stopping rule leaves about 1e-9 of the probabilities
    np.testing.assert_allclose(probes.scipy.special.softmax(ours.scores(x), 1), theirs.predict_proba(z), atol=1e-7)


@pytest.mark.parametrize("alpha", [1e-8, 1e-5, 1e-1])
def test_logistic_gradient_vanishes_by_finite_differences(data, alpha):
    x, y = data
    z = scaled(x, "standardize")
    weights, intercept = probes.solve_logistic(z, y, 4, alpha)
    f = probes.logistic_objective(z, y, weights, intercept, alpha)
    rng = np.random.default_rng(1)
    for _ in range(5):
        dw, db = rng.standard_normal(weights.shape), rng.standard_normal(4)
        step = 1e-4
        up = probes.logistic_objective(z, y, weights + step * dw, intercept + step * db, alpha)
        down = probes.logistic_objective(z, y, weights - step * dw, intercept - step * db, alpha)
        assert up > f
        assert down > f
        # central difference: an error of order step² of the third derivative
        assert abs(up - down) / (2 * step) < 1e-6


def test_start_changes_nothing(data):
    x, y = data
    z = scaled(x, "standardize")
    cold = probes.solve_logistic(z, y, 4, 1e-4)
    warm = probes.solve_logistic(z, y, 4, 1e-4, start=np.random.default_rng(2).standard_normal((7, 4)))
    for a, b in zip(cold, warm, strict=True):
        # gradient 1e-10 over the smallest curvature, 1e-4
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("kind", ["ridge", "logistic"])
@pytest.mark.parametrize("scaling", SCALERS)
def test_a_relative_penalty_does_not_see_the_unit(data, kind, scaling):
    x, y = data
    one, hundred = (probes.fit(u * x, y, 4, 1e-3, probe=kind, scaling=scaling) for u in (1, 100))
    np.testing.assert_allclose(one.scores(x), hundred.scores(100 * x), atol=1e-6)
    if scaling == "none":
        assert hundred.alpha == pytest.approx(1e4 * one.alpha)
        assert one.alpha == pytest.approx(1e-3 * np.delete(x, 2, 1).var(0).mean())
    if scaling == "standardize":
        assert one.alpha == pytest.approx(1e-3)


def test_a_class_without_rows_is_never_predicted(data):
    x, y = data
    rows = y != 1
    for kind in ("ridge", "logistic"):
        fitted = probes.fit(x[rows], y[rows], 4, 1e-3, probe=kind)
        assert not (fitted.scores(x).argmax(1) == 1).any()
        assert fitted.errors(x[~rows], y[~rows]).all()


def test_margins_and_errors_agree(data):
    x, y = data
    fitted = probes.fit(x, y, 4, 1e-3)
    np.testing.assert_array_equal(fitted.errors(x, y) == 1, fitted.margins(x, y) < 0)


def test_unknown_scaling():
    with pytest.raises(ValueError, match="scaling must be"):
        probes.fit_scaler(np.eye(3), "robust")
