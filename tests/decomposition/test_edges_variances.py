"""Edges of rules: training errors of 0, what decides a number, how much refitted probes vary."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from ssl_risk_rs import ParameterError, decompose
from ssl_risk_rs.decomposition.cells import _size, plan_cells
from ssl_risk_rs.decomposition.intervals import _deciding, crowded_risks, separated_risks
from ssl_risk_rs.decomposition.labelcurve import _unlike
from ssl_risk_rs.decomposition.loose import _same_rows
from ssl_risk_rs.decomposition.metrics import with_metrics
from ssl_risk_rs.decomposition.paired import _target
from ssl_risk_rs.decomposition.scores import RowScores
from ssl_risk_rs.decomposition.settings import Settings
from ssl_risk_rs.decomposition.units import Units
from ssl_risk_rs.decomposition.variation import _between, _of_folds, lacked_classes
from ssl_risk_rs.results.metrics import ERROR


@pytest.fixture(scope="module")
def result():
    rng = np.random.default_rng(0)
    y, y_test = np.arange(300) % 3, np.arange(90) % 3
    x, x_test = ((np.eye(3, 6)[c] + rng.standard_normal((len(c), 6))).astype(np.float32) for c in (y, y_test))
    return decompose(x, y, x_test, y_test, probe="ridge", n_threads=1, name="mine")


def test_what_drawing_class_shares_adds_is_the_variance_of_a_mean():
    """A probe that predicts one class: errors do not vary within classes, and all of their variance is of shares."""
    rng = np.random.default_rng(0)
    y, y_test = np.repeat([0, 1], [210, 90]), np.repeat([0, 1], [14, 6])
    x, x_test = (rng.standard_normal((len(c), 1)).astype(np.float32) for c in (y, y_test))
    judged = decompose(x, y, x_test, y_test, probe="ridge", n_threads=1).judgements
    assert (judged.us.predicted == 0).all()
    rows = RowScores(judged, corrected=True, random_counts=True)
    i = rows.names.index("risk_us")
    assert rows.covariance["test"][i, i] == pytest.approx(0.3 * 0.7 / 19)


@pytest.mark.parametrize(("n", "separated"), [(101, ("risk_af",)), (102, ())])
def test_a_probe_of_as_many_weights_as_rows_separates_them_and_its_intercept_is_one(result, n, separated):
    sizes = replace(result.sizes, train=n, test=300, features=103, constant_features=3)
    assert separated_risks(sizes) == separated


@pytest.mark.parametrize(("classes", "crowded"), [(6, ()), (7, ("risk_af", "risk_uf"))])
def test_ridge_is_crowded_by_more_classes_than_features(result, classes, crowded):
    sizes = replace(result.sizes, features=6, classes=classes, twin_features=None)
    assert crowded_risks(result.method, sizes) == crowded


@pytest.mark.parametrize("wrong", [5, 85])
def test_what_decides_a_risk_is_the_rarer_of_right_and_wrong(result, wrong):
    judged, us = result.judgements, result.judgements.us
    missed = np.arange(90) < wrong
    labels = judged.test_labels
    outcome = replace(us, predicted=np.where(missed, (labels + 1) % 3, labels).astype(us.predicted.dtype),
                      rank=missed.astype(us.rank.dtype))  # fmt: skip
    rows = RowScores(replace(judged, us=outcome), corrected=True, random_counts=False)
    assert _deciding(rows, "risk_us") == 5


# --- refitted probes


def test_two_folds_say_too_little_of_how_much_a_probe_varies(result):
    judged = result.judgements

    def of(count):
        cut = {name: None if (a := getattr(judged, name)) is None else a[:count]
               for name in ("fold_margins", "fold_losses", "fold_ranks")}  # fmt: skip
        cut |= {f"{name}_held": None if (a := getattr(judged, f"{name}_held")) is None else a[:count] for name in cut}
        return _of_folds(replace(judged, **cut), ERROR)

    assert of(2) is None and len(of(3).on_test) == 3


def test_the_noise_of_few_groups_is_taken_away_whole():
    """Two groups of test rows, probes that differ in one of them alone."""
    smooth = np.array([[0.0, 0.0], [0.0, 1.0], [0.0, 0.5], [1.0, 1.0]])
    units = Units(np.zeros(2, np.uint32), None, np.zeros(1), ["a"])
    inner = smooth.T / 2 - (smooth.T / 2).mean(1, keepdims=True)
    inner -= inner.mean(0)
    noise = 2 / 1 * (inner**2).sum() / 3
    between = np.var(smooth.mean(1), ddof=1)
    assert between > noise > 0
    assert _between(smooth, units) == pytest.approx(between - noise)


def test_a_class_that_folds_lack_counts_only_if_it_has_test_rows(result):
    judged = result.judgements
    labels = judged.train_labels.copy()
    labels[(labels == 2) & (np.arange(300) != np.flatnonzero((labels == 2) & ~judged.in_subset)[0])] = 0
    lacking = replace(judged, train_labels=labels)  # one row of class 2 outside of the subsets, which one fold lacks
    assert lacked_classes(lacking) == 1
    assert lacked_classes(replace(lacking, test_labels=np.minimum(judged.test_labels, 1))) == 0


# --- folds and subsets


def test_a_held_out_subset_has_no_more_rows_than_the_test_part():
    assert [_size(300, m, 3) for m in (5, 20, 500)] == [5, 20, 20]


def planned(n, m, classes, probe="ridge", d=10):
    labels = np.arange(n + m) % classes
    task = SimpleNamespace(
        train_rows=np.arange(n), test_rows=np.arange(n, n + m), labels=labels, groups=None, n_classes=classes,
        features=SimpleNamespace(n_features=d),
    )  # fmt: skip
    return plan_cells(task, Settings(probe=probe), SimpleNamespace(probe=probe))


def test_fewer_subsets_are_planned_only_where_that_gives_each_as_many_rows_as_classes():
    assert [planned(100, 50, classes).subsets for classes in (6, 10, 20, 21)] == [3, 2, 1, 3]


def test_subsets_of_groups_take_no_more_than_half_of_the_rows_either():
    """They took three quarters of them without a word, or all, which ended in another error."""
    rng = np.random.default_rng(0)
    y, groups = np.arange(600) // 10 % 3, np.arange(600) // 10
    x = rng.standard_normal((600, 4)).astype(np.float32)
    test = x[:150], y[:150]
    both = (groups, 100 + np.arange(150) // 5)
    for size in (150, 5000):
        with pytest.raises(ParameterError, match=f"3 subsets of {size} rows would take more than half of the 600"):
            decompose(x, y, *test, groups=both, probe="ridge", subset_size=size)
    assert decompose(x, y, *test, groups=both, probe="ridge", subset_size=100).sizes.subsets == 3


def test_a_ridge_probe_is_judged_on_every_fold_whatever_it_costs():
    plans = {probe: planned(100_000, 1000, 10, probe, d=100_000) for probe in ("ridge", "logistic")}
    assert [(plan.folds_judged, plan.midpoint) for plan in plans.values()] == [(5, True), (1, False)]


# --- what belongs together


def test_decompositions_of_other_training_rows_do_not_vary_together(result):
    judged = result.judgements
    other = replace(judged, train_ids=judged.train_ids[::-1])
    one, same, two = (SimpleNamespace(judged=j) for j in (judged, replace(judged), other))
    assert _same_rows(one, same) and not _same_rows(one, two)


def test_sizes_of_equal_draws_are_one_point_of_the_curve():
    draws = [np.arange(6).reshape(2, 3), np.arange(6).reshape(2, 3), np.arange(8).reshape(2, 4)]
    shots = [SimpleNamespace(outcomes=SimpleNamespace(draws=d)) for d in draws] + [SimpleNamespace(outcomes=None)]
    assert [shot for shot, _ in _unlike(shots)] == [shots[0], shots[2]]


def test_a_target_is_common_only_if_all_have_it():
    def of(*targets):
        return _target([SimpleNamespace(provenance=SimpleNamespace(target=t)) for t in targets])

    assert of("age", "age") == "age" and of("age", None) is None and of("age", "sex") is None


def test_a_control_has_the_metrics_of_the_encoder_and_what_is_left_out_is_said_once(result):
    both = replace(result, control=result)
    found = with_metrics(both, "balanced,top5")
    assert [m.metric for m in found.control.metrics] == [m.metric for m in found.metrics] == ["balanced"]
    again = with_metrics(found, "top5")
    assert [note.code for note in again.notes].count("metric_left_out") == 1
