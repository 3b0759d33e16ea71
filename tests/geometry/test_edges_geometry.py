"""Edges of rules: formulas by hand, and the change that rows make."""

import math

import numpy as np
import pytest
import scipy.stats
from ssl_risk_rs.decomposition.task import make_task
from ssl_risk_rs.geometry import formulas
from ssl_risk_rs.geometry.sums import positive
from ssl_risk_rs.workflow.audit import _change, audit_task


def test_directions_below_a_given_least_are_not_counted():
    values = np.array([1.0, 0.5, 0.05, 0.005])
    assert formulas.count_above(values) == 3 and formulas.count_above(values, 0.1) == 2


def test_a_power_law_of_five_eigenvalues_is_fitted_from_the_first():
    first, last = formulas.fit_range(5)
    assert (first, last) == (1, 5)
    exponent, r2 = formulas.power_law(np.arange(1, 6) ** -1.5, first, last)
    assert exponent == pytest.approx(1.5) and r2 == pytest.approx(1)
    assert math.isnan(formulas.power_law(np.ones(4), 1, 4)[0])


def test_a_power_law_is_fitted_to_no_more_than_500_eigenvalues():
    assert [formulas.fit_range(rank) for rank in (79, 80, 500, 501, 2000)] == [
        (10, 79), (11, 80), (11, 500), (11, 500), (11, 500),
    ]  # fmt: skip


def test_values_of_nothing_take_no_part_in_a_rank():
    assert formulas.entropy_rank(np.array([1.0, 1.0, 0.0])) == pytest.approx(2)


def test_eigenvalues_that_rounding_may_have_made_are_zero():
    step = np.finfo(float).eps
    values = np.array([15 * step, -step, 1.0, 17 * step])  # 4 · d · ε is 16 ε
    assert positive(values, 4).tolist() == [1, 17 * step, 0, 0]
    assert positive(values, 1).tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize("left", [0.0, 1e-14, 1e-11])
def test_labels_that_are_fitted_but_for_rounding_have_no_evidence(left):
    eigenvalues, explained = np.array([2.0, 1.0, 0.5]), np.array([6.0, 3.0, 1.0])
    along = np.sqrt(eigenvalues * explained * (1 - left))[None]
    found, settled = formulas.log_evidence(eigenvalues, along, np.array([10.0]), 30)
    assert np.isnan(found).all() and settled.all()


def test_directions_of_next_to_no_variance_take_no_part_in_a_pseudo_inverse():
    roots = np.diag([1.0, 0.05])  # variances 1 and 0.0025
    assert formulas.pseudo_trace(roots, np.diag([0.5, 7.0])) == pytest.approx(0.5)


@pytest.mark.parametrize("grouped", [False, True])
def test_the_interval_of_a_change_is_that_of_its_formula(grouped):
    """Few rows, of which the factor √(G/(G − 1)) and 1/m² are most of the width."""
    errors, listed = np.array([1, 0, 1, 0, 0, 1.0]), np.arange(6) < 2
    groups = np.array([0, 1, 2, 2, 3, 3]) if grouped else None
    change, half = _change(errors, listed, groups, 0.95)
    assert change == pytest.approx(errors[2:].mean() - errors.mean())
    units = np.arange(6) if groups is None else groups
    total, parts = np.zeros(6), []
    for kind in (listed, ~listed):
        weight = -1 / 6 if kind[0] else 1 / 4 - 1 / 6
        count = len(np.unique(units[kind]))
        own = np.zeros(6)
        np.add.at(own, units[kind], weight * (errors[kind] - errors[kind].mean()) * np.sqrt(count / (count - 1)))
        total += own
        parts.append(((own**2).sum(), count - 1))
    df = sum(v for v, _ in parts) ** 2 / sum(v**2 / d for v, d in parts)
    assert half == pytest.approx(scipy.stats.t.ppf(0.975, df) * np.sqrt((total**2).sum() + 1 / 36), rel=1e-6)


def audited(grouped=False):
    """30 copies under other labels, which the probe judges wrongly, among 200 test rows of 50 groups."""
    rng = np.random.default_rng(0)
    centres = 1.5 * rng.standard_normal((4, 8))
    y, y_test = np.arange(600) % 4, np.arange(200) % 4
    x, x_test = ((rng.standard_normal((len(c), 8)) + centres[c]).astype(np.float32) for c in (y, y_test))
    x_test[:30], y_test[:30] = x[:30] + 1e-3, (y[:30] + 1) % 4
    groups = (np.arange(600) // 4, 1000 + np.arange(200) // 4) if grouped else None
    task = make_task(x, y, x_test, y_test, groups=groups)
    found = audit_task(task, probe="ridge", false_share=0.01, n_threads=1)
    listed = np.isin(task.test_rows, found.matches.queries)
    return found, listed, next(change for change in found.changes if change.quantity == "agg_risk")


def test_the_rows_beside_the_listed_ones_are_the_nearest_of_the_others():
    found, listed, total = audited()
    wrong = found.decomposition.judgements.us.wrong
    near = np.argsort(np.where(listed, 2.0, -found.matches.nearest), kind="stable")[: listed.sum()]
    beside = np.isin(np.arange(200), near)
    assert total.beside == pytest.approx(wrong[~beside].mean() - wrong.mean(), abs=1e-12)
    assert total.change < total.beside - 0.02  # copies are wrong, and others are not


def test_the_interval_of_what_listed_rows_change_is_one_of_groups():
    found, listed, total = audited(grouped=True)
    wrong = found.decomposition.judgements.us.wrong.astype(float)
    half = {
        grouped: _change(wrong, listed, np.arange(200) // 4 if grouped else None, 0.95)[1] for grouped in (True, False)
    }
    assert total.high - total.change == pytest.approx(half[True]) and half[True] != pytest.approx(half[False])
