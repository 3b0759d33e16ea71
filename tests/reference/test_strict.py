"""The reference protocol against scikit-learn's classifiers and hand-made examples."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from reference import strict


def sample(rng, n, spread=0.9):
    y = np.repeat(np.arange(4), n // 4)
    centres = np.random.default_rng(9).standard_normal((4, 6))
    return spread * centres[y] + rng.standard_normal((n, 6)), y


def cells_of(y, rng):
    """Six rows of each class in each of three subsets, the rest in five folds."""
    cells = np.empty(len(y), int)
    for c in np.unique(y):
        rows = rng.permutation(np.flatnonzero(y == c))
        cells[rows[:18]] = 5 + np.arange(18) % 3
        cells[rows[18:]] = np.arange(len(rows) - 18) % 5
    return cells


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(1)
    x, y = sample(rng, 400)
    x_test, y_test = sample(rng, 120)
    return x, y, x_test, y_test, cells_of(y, rng)


def classifier(probe, n, alpha):
    last = (
        RidgeClassifier(alpha=n * alpha)
        if probe == "ridge"
        else LogisticRegression(C=1 / (n * alpha), solver="newton-cholesky", tol=1e-10, max_iter=500)
    )
    return make_pipeline(StandardScaler(), last)


@pytest.mark.parametrize("probe", ["ridge", "logistic"])
def test_every_risk_from_scikit_learns_classifiers(data, probe):
    x, y, x_test, y_test, cells = data
    got = strict.risks(*data, probe=probe, twin=1.3 * x[:, :5], twin_test=1.3 * x_test[:, :5])

    def error(rows, alpha, judged_x, judged_y, features=x):
        fitted = classifier(probe, rows.sum(), alpha).fit(features[rows], y[rows])
        return np.mean(fitted.predict(judged_x) != judged_y)

    everything = np.ones(len(y), bool)
    counts = {
        alpha: sum(
            round(error((cells < 5) & (cells != k), alpha, x[cells == k], y[cells == k]) * (cells == k).sum())
            for k in range(5)
        )
        for alpha in got.tuning_errors
    }
    assert got.tuning_errors == counts
    assert got.alpha == max(a for a in counts if counts[a] == min(counts.values()))
    assert got.risks["risk_af"] == pytest.approx(error(everything, 1e-5, x, y))
    assert got.risks["risk_af_decade_above"] == pytest.approx(error(everything, 1e-4, x, y))
    assert got.risks["risk_us"] == pytest.approx(error(everything, got.alpha, x_test, y_test))
    assert got.risks["risk_sup"] == pytest.approx(error(everything, 1e-5, x[:, :5], y, x[:, :5]))
    cs = [error(cells != 5 + j, got.alpha, x_test, y_test) for j in range(3)]
    assert got.risks["risk_cs"] == pytest.approx(np.mean(cs))
    # equal cells: the weights of (class, subset) cells are those of a plain mean
    plain = [error(cells != 5 + j, got.alpha, x[cells == 5 + j], y[cells == 5 + j]) for j in range(3)]
    assert got.risks["risk_as_plain"] == pytest.approx(np.mean(plain))
    floor = [error(cells != 5 + j, 1e-5, x[cells == 5 + j], y[cells == 5 + j]) for j in range(3)]
    assert got.risks["risk_af_midpoint"] == pytest.approx((got.risks["risk_af"] + np.mean(floor)) / 2)
    assert got.outcomes.af_test == pytest.approx(error(everything, 1e-5, x_test, y_test))
    assert got.outcomes.sup_test == pytest.approx(error(everything, 1e-5, x_test[:, :5], y_test, x[:, :5]))
    fold = classifier(probe, ((cells < 5) & (cells != 2)).sum(), got.alpha)
    fold.fit(x[(cells < 5) & (cells != 2)], y[(cells < 5) & (cells != 2)])
    scores = fold.decision_function(x_test)
    own = scores[np.arange(len(y_test)), y_test]
    others = np.where(np.eye(4, dtype=bool)[y_test], -np.inf, scores).max(1)
    # RidgeClassifier has targets ±1: its scores are twice ours
    scale = 2 if probe == "ridge" else 1
    np.testing.assert_allclose(scale * got.outcomes.fold_margins[2], own - others, atol=1e-6)


def test_control_variate_is_least_squares_with_class_means(data):
    got = strict.risks(*data)
    o = got.outcomes
    rows = o.cells >= 5
    w = strict.subset_weights(o.train_y, o.cells, 5)
    design = np.column_stack([(w * o.full)[rows], np.eye(4)[o.train_y[rows]]])
    b = np.linalg.lstsq(design, (w * o.as_)[rows], rcond=None)[0][0]
    assert got.control_coefficient == pytest.approx(b)
    corrected = got.risks["risk_as_plain"] - b * ((w * o.full)[rows].sum() - o.full.mean())
    assert got.risks["risk_as"] == pytest.approx(corrected)
    assert abs(got.risks["risk_as"] - got.risks["risk_as_plain"]) > 1e-3


def test_components_sum_to_the_risk(data):
    got = strict.risks(*data, twin=data[0][:, :5])
    parts = [got.components[q] for q in ("approx", "usability", "probe_gen", "enc_gen")]
    assert sum(parts) == pytest.approx(got.risks["risk_us"], abs=1e-15)
    two = got.components["enc_gen_equal_labels"] + got.components["label_count"]
    assert two == pytest.approx(got.components["enc_gen"], abs=1e-15)
    assert strict.risks(*data).components["approx_usability"] == got.risks["risk_af"]


def test_weights_give_every_cell_of_a_class_the_same_part():
    y = np.array([0] * 8 + [1] * 2)
    cells = np.array([5, 5, 6, 0, 0, 0, 0, 0, 6, 0])
    # class 0: 0.8 over two subsets, of 2 and 1 rows; class 1: 0.2 in the only subset that holds it
    np.testing.assert_allclose(strict.subset_weights(y, cells, 5), [0.2, 0.2, 0.4, 0, 0, 0, 0, 0, 0.2, 0], atol=1e-15)
    # class 1 in no subset: class 0 stands for all
    cells[8] = 0
    np.testing.assert_allclose(strict.subset_weights(y, cells, 5)[:3], [0.25, 0.25, 0.5])


def test_ties_go_to_the_stronger_penalty_and_the_grid_grows():
    rng = np.random.default_rng(3)
    y = np.repeat([0, 1], 40)
    cells = np.tile(np.arange(8), 10)
    apart = np.where(y == 0, -9.0, 9.0)[:, None] + rng.standard_normal((80, 1))
    # no penalty errs: the strongest wins by ties, up to the last decade that may be added
    got = strict.risks(apart, y, apart, y, cells)
    assert set(got.tuning_errors.values()) == {0}
    assert got.alpha == pytest.approx(1e-2 * 10**strict.MAX_DECADES)
    # many useless features and few rows: a strong penalty often wins, and the one beyond it was tried
    grown = 0
    for _ in range(10):
        noisy = np.hstack([apart / 9 + rng.standard_normal((80, 1)), rng.standard_normal((80, 40))])
        got = strict.risks(noisy, y, noisy, y, cells, alphas=(1e-3, 1e-4))
        fewest = [a for a, n in got.tuning_errors.items() if n == min(got.tuning_errors.values())]
        assert got.alpha == max(fewest)
        assert got.alpha < max(got.tuning_errors) or len(got.tuning_errors) == 2 + strict.MAX_DECADES
        grown += got.alpha > 1e-3
    assert grown >= 5


def test_class_mix_is_the_difference_of_shares(data):
    x, y, x_test, y_test, cells = data
    keep = np.flatnonzero((y_test != 3) | (np.arange(len(y_test)) % 2 == 0))
    got = strict.risks(x, y, x_test[keep], y_test[keep], cells)
    us = got.outcomes.us
    by_class = [us[y_test[keep] == c].mean() for c in range(4)]
    assert got.class_mix == pytest.approx(np.mean(by_class) - us.mean())
    assert got.class_mix != 0
