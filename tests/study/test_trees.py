"""Boosted trees: contributions add up, folds are honest, planted effects are found."""

from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from ssl_risk_rs.errors import ParameterError
from ssl_risk_rs.study import study_table
from ssl_risk_rs.study.effects import Effect
from ssl_risk_rs.study.text import _trees
from ssl_risk_rs.study.trees import (
    METHOD,
    Parameters,
    TreeReport,
    _group_folds,
    _predict,
    contributions,
    fit_trees,
    inputs_of,
    tree_report,
)  # fmt: skip

pytest.importorskip("lightgbm")

CHOSEN = Parameters(16, True, 50)


def test_contributions_sum_to_the_prediction(planted):
    table = study_table(planted)
    found = contributions(table, "usability", CHOSEN)
    inputs = inputs_of(table)
    booster = fit_trees(inputs.x, planted["usability"].to_numpy(), inputs.categories, CHOSEN)
    # contributions are sums of leaf values of 50 trees in float64
    np.testing.assert_allclose(found.values.sum(axis=1) + found.base, _predict(booster, inputs.x), atol=1e-12)


def test_planted_effects_are_found(planted):
    found = contributions(study_table(planted), "usability", Parameters(16, True, 200))
    size = {e.choice: e for e in found.effects if e.level == "importance"}
    largest = sorted(size, key=lambda name: -size[name].effect)
    assert largest[0] == "z_dim" and size["optimizer"].effect < 0.1 * size["z_dim"].effect
    (slope,) = [e for e in found.effects if e.choice == "z_dim" and e.level == "× e"]
    assert slope.low < slope.effect < slope.high < 0
    assert slope.effect == pytest.approx(-0.03, abs=0.008)  # shrunken by a learning rate of 0.1
    (head,) = [e for e in found.effects if e.level == "mlp"]
    assert head.reference == "identity" and head.effect == pytest.approx(-0.02, abs=0.006)
    assert head.groups == 12 and np.isnan(head.p)


def test_a_planted_interaction_is_the_largest(rng):
    n = 200
    a, b, c = (rng.integers(0, 2, n) for _ in range(3))
    y = 0.3 + 0.05 * (a == b) + 0.02 * c + rng.normal(0, 0.002, n)
    frame = pl.DataFrame(
        {"is_ema": a == 1, "is_stopgrad": b == 1, "projection_same": c == 1, "usability": y,
         "objective": [f"o{i % 9}" for i in range(n)]}
    )  # fmt: skip
    table = study_table(frame, only=["is_ema", "is_stopgrad", "projection_same"])
    found = contributions(table, "usability", Parameters(8, False, 100)).interactions
    assert {found[0].first, found[0].second} == {"is_ema", "is_stopgrad"}
    assert found[0].h2 > 0.8
    assert all(i.h2 < 0.05 for i in found[1:])


def test_held_out_errors_of_noise_are_not_below_those_of_the_mean(planted):
    """A target without any relation: what is tuned inside the folds that are reported would look better than it is."""
    noise = np.random.default_rng(5).normal(0.3, 0.05, 96)
    found = tree_report(study_table(planted.with_columns(agg_risk=noise)), "agg_risk", n_folds=6, inner_folds=3)
    assert found.trees > 0.97 * found.mean
    assert found.mean == pytest.approx(0.05, rel=0.2)


def test_planted_effects_are_predicted(planted):
    found = tree_report(study_table(planted), "probe_gen", n_folds=6, inner_folds=3)
    assert found.trees < 0.25 * found.mean
    assert found.linear < 0.15 * found.mean  # the truth is linear
    assert (found.n, found.groups, found.folds, found.n_folds) == (96, 12, "random", 6)
    whole = tree_report(study_table(planted), "usability", n_folds=6, inner_folds=3, by_group=True)
    assert whole.folds == "objective" and whole.trees < whole.mean


def test_groups_stay_whole():
    groups = np.repeat(np.arange(9), [30, 1, 5, 5, 2, 8, 3, 3, 3]).astype(np.int64)
    folds = _group_folds(groups, 4, 0)
    assert all(len(np.unique(folds[groups == g])) == 1 for g in range(9))
    assert len(np.unique(folds)) == 4


def test_categories_are_no_numbers(planted):
    """Codes of categories in another order give the same errors; as numbers they would not."""
    rng = np.random.default_rng(2)
    level = rng.permutation([f"l{i}" for i in range(8)] * 12)
    y = 0.3 + 0.1 * np.isin(level, ["l1", "l4", "l6"]) + rng.normal(0, 0.005, 96)
    frame = planted.with_columns(architecture=pl.Series(level), agg_risk=y)
    other = frame.with_columns(pl.col("architecture").replace({"l1": "z", "l6": "a"}))
    first, second = (
        contributions(study_table(f, only=["architecture"]), "agg_risk", Parameters(4, False, 50))
        for f in (frame, other)
    )
    np.testing.assert_allclose(first.values, second.values, atol=1e-9)


def test_too_few_encoders(planted):
    with pytest.raises(ParameterError, match="12 encoders have agg_risk; nested folds of trees need 20"):
        tree_report(study_table(planted.head(12)), "agg_risk")
    with pytest.raises(ParameterError, match="the column objective has 1 groups; leaving some out needs 3"):
        tree_report(study_table(planted.with_columns(objective=pl.lit("a"))), "agg_risk", by_group=True)
    with pytest.raises(ParameterError, match="no examined choice varies"):
        inputs_of(study_table(planted.with_columns(epochs=100), only=["epochs"]))


@pytest.mark.parametrize(("component", "theirs"), [("usability", 4.75), ("probe_gen", 2.26), ("agg_risk", 3.62)])
def test_held_out_errors_are_near_the_authors(published, component, theirs):
    """Theirs are tuned on the folds that they report, and vary by 15 % between versions of their library."""
    found = tree_report(published, component)
    assert 100 * found.trees < 1.15 * theirs
    assert found.trees < found.linear < found.mean


def test_the_choices_that_contribute_most_are_the_ones_that_are_named():
    effects = [Effect(f"c{i}", "importance", "", "usability", METHOD, 30, 9, effect=i / 100) for i in range(7)]
    study = SimpleNamespace(
        trees=(TreeReport("usability", "random", 5, 0.01, 0.02, 0.03, 30, 9, CHOSEN),),
        contributions=(SimpleNamespace(component="usability", effects=effects, interactions=()),),
    )
    (said,) = (line for line in _trees(study) if "largest mean contributions" in line)
    assert [word for word in said.split() if word.startswith("c")][1:] == ["c6", "c5", "c4", "c3", "c2"]
