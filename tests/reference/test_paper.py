"""The reference of the authors' protocol: its cut, its studies, and its risks from scikit-learn's classifiers."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import StratifiedShuffleSplit

from reference import intervals, paper


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    centres = 0.8 * rng.standard_normal((20, 8))
    y = rng.permutation(np.repeat(np.arange(20), 30))
    y_test = np.repeat(np.arange(20), 6)
    x = centres[y] + rng.standard_normal((600, 8))
    x_test = centres[y_test] + rng.standard_normal((120, 8))
    return x, y, x_test, y_test


@pytest.fixture(scope="module")
def ridge(data):
    return paper.risks(*data, probe="ridge", twin=data[0][:, :6])


def test_the_cut(data, ridge):
    y = data[1]
    # what train_test_split does by its own documentation: one StratifiedShuffleSplit, second output the subset
    splitter = StratifiedShuffleSplit(test_size=120, random_state=123)
    _, subset = next(splitter.split(np.zeros(600), y))
    np.testing.assert_array_equal(ridge.subset, subset)
    assert np.bincount(y[subset]).tolist() == [6] * 20
    np.random.seed(123)  # noqa: NPY002 - the authors' own generator
    np.testing.assert_array_equal(ridge.tuning_classes, np.random.permutation(np.arange(20))[:4])  # noqa: NPY002


def test_halves_are_cut_from_the_rows_of_the_chosen_classes(data, ridge):
    y = data[1]
    both = np.concatenate([ridge.first_half, ridge.second_half])
    assert len(set(both)) == len(both) == 120
    assert set(y[both]) == set(ridge.tuning_classes)
    assert len(ridge.first_half) == len(ridge.second_half)


def errors(probe, x, y, rows, alpha, judged_x, judged_y):
    if probe == "ridge":
        targets = np.eye(20)[y[rows]]
        scores = Ridge(alpha=len(rows) * alpha, solver="svd").fit(x[rows], targets).predict(judged_x)
        return (scores.argmax(1) != judged_y).mean()
    fitted = LogisticRegression(C=1 / (len(rows) * alpha), solver="newton-cholesky", tol=1e-10, max_iter=500)
    return (fitted.fit(x[rows], y[rows]).predict(judged_x) != judged_y).mean()


@pytest.mark.parametrize("probe", ["ridge", "logistic"])
def test_every_study_and_risk_from_scikit_learn(data, probe):
    x, y, x_test, y_test = data
    twin = x[:, :6]
    alphas = (2e-4, 1e-5)
    got = paper.risks(*data, probe=probe, twin=twin, alphas=alphas)
    first, second = got.first_half, got.second_half
    test = np.isin(y_test, got.tuning_classes)
    studies = {
        "risk_af": (x, x[first], y[first]),
        "risk_as": (x, x[second], y[second]),
        "risk_us": (x, x_test[test], y_test[test]),
        "risk_sup": (twin, twin[first], y[first]),
    }
    for risk, (features, judged_x, judged_y) in studies.items():
        counts = {a: round(errors(probe, features, y, first, a, judged_x, judged_y) * len(judged_y)) for a in alphas}
        assert got.tuning_errors[risk] == counts
        assert got.alpha[risk] == max(a for a in alphas if counts[a] == min(counts.values()))
    complement = np.setdiff1d(np.arange(600), got.subset)
    every = np.arange(600)
    assert got.risks == pytest.approx(
        {
            "risk_af": errors(probe, x, y, every, got.alpha["risk_af"], x, y),
            "risk_as": errors(probe, x, y, complement, got.alpha["risk_as"], x[got.subset], y[got.subset]),
            "risk_cs": errors(probe, x, y, complement, got.alpha["risk_as"], x_test, y_test),
            "risk_us": errors(probe, x, y, every, got.alpha["risk_us"], x_test, y_test),
            "risk_sup": errors(probe, twin, y, every, got.alpha["risk_sup"], twin, y),
        }
    )


def test_studies_differ_and_the_twin_has_its_own(data):
    x, y, x_test, y_test = data
    got = paper.risks(x, y, x_test, y_test, probe="ridge", twin=1e-2 * x, alphas=(1e-1, 1e-4, 1e-8))
    # features a hundred times smaller: another penalty, as absolute penalties are
    assert got.tuning_errors["risk_sup"] != got.tuning_errors["risk_af"]
    assert len({tuple(counts.values()) for counts in got.tuning_errors.values()}) == 4


def test_two_classes_are_the_least_that_a_study_uses():
    assert len(paper.tuning_classes(3)) == 2
    assert len(paper.tuning_classes(1000)) == 200


def test_intervals_have_no_control_variate_and_no_probe_variance(data, ridge):
    got = intervals.estimates(ridge)
    o = ridge.outcomes
    held = o.as_[ridge.subset]
    by_class = [held[data[1][ridge.subset] == c] for c in range(20)]
    variance = sum(len(e) ** 2 * e.var(ddof=1) / len(e) for e in by_class) / 120**2
    assert got["risk_as"].estimate == pytest.approx(held.mean())
    assert got["risk_as"].se == pytest.approx(np.sqrt(variance))
    assert got["risk_as"].probe_variance == 0
    assert got["enc_gen"].se == pytest.approx(np.hypot(got["risk_as"].se, got["risk_us"].se))
