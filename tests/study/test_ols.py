"""Least squares: against statsmodels, against dense definitions, and on designs whose rank is known."""

import numpy as np
import pytest
from ssl_risk_rs.errors import NumericalError, ShapeError
from ssl_risk_rs.study.ols import factor


@pytest.fixture
def problem(rng):
    x = np.column_stack([np.ones(60), rng.normal(size=(60, 4)), rng.integers(0, 2, 60)])
    groups = np.repeat(np.arange(12), 5).astype(np.int64)
    y = x @ rng.normal(size=6) + rng.normal(size=60) + rng.normal(size=12)[groups]
    return x, y, groups


def test_coefficients_and_variances_are_those_of_statsmodels(problem):
    api = pytest.importorskip("statsmodels.api")
    x, y, _ = problem
    other = api.OLS(y, x).fit()
    f = factor(x)
    fit = f.fit(y)
    # both are backward stable and the design is well conditioned: some 100 eps
    np.testing.assert_allclose(fit.coefficients, other.params, rtol=1e-11)
    np.testing.assert_allclose(f.leverage, other.get_influence().hat_matrix_diag, rtol=1e-11)
    for i in range(6):
        assert f.contrast(i, "classical").variance(fit) == pytest.approx(other.cov_params()[i, i], rel=1e-11)
        assert f.contrast(i, "HC3").variance(fit) == pytest.approx(other.cov_HC3[i, i], rel=1e-11)
        left = f.without_row(f.contrast(i, "HC3").weights, fit, float(fit.coefficients[i]))
        scaled = other.params[i] - other.get_influence().dfbeta[:, i]
        np.testing.assert_allclose(left, scaled, rtol=1e-9)


def naive_cr2(x, y, groups, i):
    """CR2 and its Satterthwaite degrees of freedom by dense n × n matrices (Bell and McCaffrey 2002)."""
    bread = np.linalg.inv(x.T @ x)
    hat = x @ bread @ x.T
    rest = np.eye(len(x)) - hat
    e = rest @ y
    total, directions = 0.0, []
    for g in np.unique(groups):
        rows = groups == g
        values, vectors = np.linalg.eigh(rest[np.ix_(rows, rows)])
        root = vectors @ np.diag(values**-0.5) @ vectors.T
        vector = root @ x[rows] @ bread[:, i]
        total += float(vector @ e[rows]) ** 2
        directions.append(rest[:, rows] @ vector)
    gram = np.array(directions) @ np.array(directions).T
    return total, np.trace(gram) ** 2 / np.sum(gram**2), np.trace(gram) / bread[i, i]


def test_clustered_variance_is_its_dense_definition(problem):
    x, y, groups = problem
    f = factor(x)
    fit = f.fit(y)
    for i in range(6):
        variance, df, seen = naive_cr2(x, y, groups, i)
        c = f.contrast(i, "cluster", groups)
        assert c.variance(fit) == pytest.approx(variance, rel=1e-9)
        assert c.df == pytest.approx(df, rel=1e-9)
        assert c.seen == pytest.approx(seen, rel=1e-9) == pytest.approx(1.0, rel=1e-9)  # unbiased under equal errors


def test_clusters_of_one_row_give_hc2(problem):
    api = pytest.importorskip("statsmodels.api")
    x, y, _ = problem
    f = factor(x)
    fit = f.fit(y)
    other = api.OLS(y, x).fit().cov_HC2
    for i in range(6):
        c = f.contrast(i, "cluster", np.arange(60, dtype=np.int64))
        assert c.variance(fit) == pytest.approx(other[i, i], rel=1e-10)


def test_effects_that_are_not_identified_are_named(problem, rng):
    x, y, _ = problem
    alias = np.column_stack([x, x[:, 5], x[:, 1] + 2 * x[:, 2], rng.normal(size=60)])
    f = factor(alias)
    assert f.rank == 7
    assert f.identified.tolist() == [True, False, False, True, True, False, False, False, True]
    assert f.aliases(5) == [6]
    assert f.aliases(7) == [1, 2]
    fit = f.fit(y)
    assert np.isnan(fit.coefficients[[1, 2, 5, 6, 7]]).all()
    plain = factor(np.column_stack([x, alias[:, 8]])).fit(y).coefficients
    np.testing.assert_allclose(fit.coefficients[[0, 3, 4, 8]], plain[[0, 3, 4, 6]], rtol=1e-10)


def test_a_pseudo_inverse_prints_a_number_for_them(problem):
    x, y, _ = problem
    alias = np.column_stack([x, x[:, 5]])
    f = factor(alias)
    value, variance = f.minimum_norm(6, f.fit(y), y)
    assert value == pytest.approx((np.linalg.pinv(alias) @ y)[6], rel=1e-10)
    api = pytest.importorskip("statsmodels.api")
    assert variance == pytest.approx(api.OLS(y, alias).fit().cov_params()[6, 6], rel=1e-10)


def test_levels_that_can_be_compared_with_each_other():
    # levels a, b occur with one value of another choice, c and d (the reference) with the other
    level = np.array(["a", "a", "b", "b", "c", "c", "d", "d", "d"])
    other = np.isin(level, ["a", "b"]).astype(float)
    x = np.column_stack([np.ones(9), *((level == n).astype(float) for n in "abc"), other])
    f = factor(x)
    assert f.identified.tolist() == [True, False, False, True, False]
    assert f.comparable([1, 2, 3]) == [[-1, 3], [1, 2]]


def test_a_level_in_one_row_or_one_group_has_no_variance_of_its_own(problem):
    x, y, groups = problem
    row, group = np.zeros(60), np.zeros(60)
    row[7], group[groups == 3] = 1, 1
    f = factor(np.column_stack([x, row, group]))
    assert not f.contrast(6, "HC3").sound
    assert f.contrast(7, "HC3").sound
    assert not f.contrast(7, "cluster", groups).sound
    assert f.contrast(1, "cluster", groups).sound
    own = f.without_row(f.contrast(6, "classical").weights, f.fit(y), 0.0)
    assert np.isnan(own[7]) and np.isfinite(np.delete(own, 7)).all()


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_rows(n):
    f = factor(np.ones((n, 2)))
    assert f.rank == min(n, 1)
    assert not f.identified.any()
    assert f.df == n - f.rank


def test_bad_designs():
    with pytest.raises(NumericalError, match="the design has values that are not finite"):
        factor(np.array([[np.nan]]))
    f = factor(np.ones((3, 1)))
    with pytest.raises(ShapeError, match="the design has 3 rows, the outcome 2"):
        f.fit(np.ones(2))
    with pytest.raises(NumericalError, match="the outcome has values that are not finite"):
        f.fit(np.array([1.0, np.inf, 0.0]))
    with pytest.raises(ShapeError, match="the cluster of each of the 3 rows"):
        f.contrast(0, "cluster")
