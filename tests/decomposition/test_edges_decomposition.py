"""Edges of rules: what rows add to variances and notes, by hand."""

from dataclasses import replace

import numpy as np
import pytest
from ssl_risk_rs import ParameterError, decompose
from ssl_risk_rs.decomposition import Settings, make_task
from ssl_risk_rs.decomposition.labelcurve import Measured, label_curve
from ssl_risk_rs.decomposition.matched_labels import _shared_out, match_labels
from ssl_risk_rs.decomposition.scores import RowScores
from ssl_risk_rs.decomposition.targets import MAX_WHOLE, STRATUM_ROWS, _strata, kind_of, with_numbers
from ssl_risk_rs.decomposition.tuning import FEWEST_GROUPS, Tried, _is_clearly_worse, as_penalty, best_of
from ssl_risk_rs.results.metrics import HEADLINES, METRICS
from ssl_risk_rs.results.quantities import QUANTITIES


def scores(judged, **options):
    return RowScores(judged, **{"corrected": True, "random_counts": False, **options})


def test_class_shares_and_classes_without_held_out_rows_add_up_where_a_probe_predicts_one_class():
    """It errs by the shares of the other classes alone, so that the two are all of encoder generalization."""
    rng = np.random.default_rng(0)
    y = np.repeat(["a", "b", "c"], [420, 179, 1])
    y_test = np.repeat(["a", "b", "c"], [200, 140, 60])
    x, x_test = (rng.standard_normal((len(labels), 1)).astype(np.float32) for labels in (y, y_test))
    result = decompose(x, y, x_test, y_test, probe="ridge", n_threads=1)
    rows = scores(result.judgements)
    assert (result.judgements.us.predicted == 0).all() and (result.judgements.held_out.predicted == 0).all()
    assert rows.covered.tolist() == [True, True, False]
    both = rows.of_class_shares() + rows.of_uncovered()
    assert both == pytest.approx(result.estimate("enc_gen"), abs=1e-12)


def test_a_balanced_variance_that_few_rows_decide_is_raised_to_that_of_independent_rows_and_no_further():
    rng = np.random.default_rng(0)
    y, y_test = np.repeat([0, 1, 2], [300, 280, 20]), np.repeat([0, 1, 2], [150, 140, 10])
    x, x_test = (np.eye(3, 6)[c] + rng.standard_normal((len(c), 6)) for c in (y, y_test))
    judged = decompose(
        x.astype(np.float32), y, x_test.astype(np.float32), y_test, probe="ridge", n_threads=1
    ).judgements
    rows = scores(judged, metric=METRICS["balanced"])
    assert "test" in rows.few_decide
    i = rows.names.index("risk_us")
    shown = sum(float((units[:, i] ** 2).sum()) for units in rows.unit_scores.values())
    independent = rows.risks[i] * (1 - rows.risks[i]) * float(rows.test_weight @ rows.test_weight)
    total = sum(c[i, i] for c in rows.covariance.values())
    assert total == pytest.approx(max(shown, independent), rel=1e-9)
    assert 0.05 < shown / independent < 0.95  # both count


def test_a_quantity_rests_on_the_set_of_rows_with_the_fewest_groups():
    rng = np.random.default_rng(0)
    y, y_test = np.arange(600) % 3, np.arange(60) % 3
    x, x_test = (np.eye(3, 6)[c] + rng.standard_normal((len(c), 6)) for c in (y, y_test))
    groups = np.arange(600) // 6, 1000 + np.arange(60) // 15
    judged = decompose(
        x.astype(np.float32), y, x_test.astype(np.float32), y_test, probe="ridge", n_threads=1, groups=groups
    ).judgements
    rows = scores(judged)
    assert rows.n_groups("test") == 4 and rows.n_groups("subset") > 4
    assert rows.fewest_groups(QUANTITIES["enc_gen"]) == 4


def test_what_rows_of_a_part_make_of_the_unit_of_numbers_is_of_all_rows():
    """Their variance is a mean of all fitted rows: a part of n of N rows moves it by the root of n/N as much."""
    rng = np.random.default_rng(0)
    x, x_test = (rng.standard_normal((n, 5)).astype(np.float32) for n in (400, 200))
    y, y_test = (values[:, 0] + rng.standard_normal(len(values)) for values in (x, x_test))
    result = decompose(x, y, x_test, y_test, probe="ridge", n_threads=1, target_kind="numbers")
    whole = result.judgements
    part = whole.take(np.arange(100), np.arange(len(whole.test_labels)))
    metric = HEADLINES[result.method.metric]
    alone, of_all = scores(part, metric=metric), scores(part, metric=metric, fitted=whole)
    for name in ("subset", "rest"):
        moved = [rows.unit_scores[name] - rows.own_scores[name] for rows in (alone, of_all)]
        np.testing.assert_allclose(moved[1], moved[0] * np.sqrt(100 / 400), atol=1e-15)
        assert np.abs(moved[0]).max() > 0


# --- penalties


def test_of_penalties_that_err_alike_the_stronger_is_taken():
    assert best_of({1e-4: Tried(5, 100), 1e-2: Tried(5, 100), 1e-3: Tried(5, 100), 1e-1: Tried(6, 100)}) == 1e-2


@pytest.mark.parametrize(("best", "inside"), [(1e-4, False), (1e-3, True), (1e-2, False)])
def test_a_penalty_at_either_end_of_its_grid_is_not_inside(best, inside):
    curve = {alpha: Tried(5 + (alpha != best), 100) for alpha in (1e-4, 1e-3, 1e-2)}
    assert as_penalty(curve, 1.0).inside is inside


def test_rows_of_few_groups_drop_no_penalty():
    wrong, best = np.ones(1000, bool), np.zeros(1000, bool)
    of = [
        _is_clearly_worse(wrong, best, np.arange(1000) % groups, 0.0) for groups in (FEWEST_GROUPS - 1, FEWEST_GROUPS)
    ]
    assert of == [False, True]


# --- equal class counts


def test_rows_that_are_left_over_go_to_the_largest_remainders():
    assert _shared_out(np.array([30, 60, 10]), 7).tolist() == [2, 4, 1]  # of 2.1, 4.2 and 0.7


def test_the_number_of_rows_that_all_can_have_is_always_among_the_levels():
    rng = np.random.default_rng(0)
    y, y_test = np.arange(240) % 3, np.arange(90) % 3
    x, x_test = ((np.eye(3, 6)[c] + rng.standard_normal((len(c), 6))).astype(np.float32) for c in (y, y_test))
    ids = [*(f"a{i}" for i in range(240)), *(f"t{i}" for i in range(90))]
    task = make_task(x, y, x_test, y_test, sample_ids=ids)
    settings = Settings(probe="ridge", n_threads=1, midpoint=False)
    found = match_labels([task, task], ["A", "B"], (120,), settings=settings)
    assert [level.n for level in found.levels] == [120, 240]


# --- targets


def test_fifty_whole_numbers_are_classes_and_more_are_numbers():
    assert [kind_of({"a": np.arange(n) % n}) for n in (MAX_WHOLE, MAX_WHOLE + 1)] == ["classes", "numbers"]


def test_a_combination_of_labels_is_a_stratum_from_two_rows_for_each_fold_and_subset_on():
    labels = np.zeros((3 * STRATUM_ROWS, 2))
    labels[:STRATUM_ROWS, 0] = labels[STRATUM_ROWS : 2 * STRATUM_ROWS - 1, 1] = 1
    strata = _strata(labels, np.arange(len(labels)))
    assert strata[0] > 0 and strata[STRATUM_ROWS] == 0 and strata[-1] > 0 and strata[0] != strata[-1]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_of_rows_that_are_not_used_do_not_matter(value):
    x = np.random.default_rng(0).standard_normal((60, 3)).astype(np.float32)
    task = make_task(x[:40], np.arange(40) % 2, x[40:], np.arange(20) % 2)
    task = replace(task, train_rows=task.train_rows[1:])
    numbers = np.arange(60.0)[:, None]
    numbers[0] = value
    found = with_numbers(task, numbers, ["y"], "numbers")
    assert len(found.train_rows) == 39 and np.isfinite(found.targets).all()


def test_rows_left_out_for_want_of_a_value_have_none():
    x = np.random.default_rng(0).standard_normal((60, 3)).astype(np.float32)
    task = make_task(x[:40], np.arange(40) % 2, x[40:], np.arange(20) % 2)
    numbers = np.arange(60.0)[:, None]
    numbers[[3, 50]] = np.nan
    found = with_numbers(task, numbers, ["y"], "numbers", drop_unlabelled=True)
    assert (len(found.train_rows), len(found.test_rows)) == (39, 19) and np.isfinite(found.targets).all()


def test_numbers_are_not_tuned_on_the_mean_over_classes():
    x = np.random.default_rng(0).standard_normal((60, 3)).astype(np.float32)
    with pytest.raises(ParameterError, match="--tune-on is about classes"):
        decompose(x[:40], x[:40, 0], x[40:], x[40:, 0], probe="ridge", target_kind="numbers", tune_on="balanced")


# --- labels and errors


def measured(labels, **options):
    errors = 0.5 * np.asarray(labels, float) ** -0.2
    named = tuple(f"s{n}" for n in labels)
    return Measured(
        np.array(labels, float), errors, np.diag((0.01 * errors) ** 2), named, np.zeros(len(labels), bool), **options
    )


def test_a_doubling_to_the_largest_measured_size_is_not_beyond_it():
    found = label_curve(measured([100, 200, 400]), confidence=0.95, n_classes=2)
    assert [doubling.extrapolates for doubling in found.doublings] == [False, False, True]


def test_labels_below_the_least_measured_size_are_beyond_it():
    curve = measured([100, 200, 400])
    error = 0.5 * 50**-0.2
    needed = label_curve(curve, confidence=0.95, n_classes=2, errors=[error, float(curve.errors[1])]).needed
    assert 40 < needed[0].labels < 60 and [n.extrapolates for n in needed] == [True, False]


def test_the_curve_of_whole_groups_may_bend_more():
    ends = [
        label_curve(measured([100, 200, 400], grouped=grouped), confidence=0.95, n_classes=2).doublings[-1]
        for grouped in (False, True)
    ]
    assert ends[1].high - ends[1].low > 1.2 * (ends[0].high - ends[0].low)
