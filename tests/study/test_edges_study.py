"""Edges of rules: which choices are told apart, which estimates are weak, what is compared."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from ssl_risk_rs.study.choices import parse_choice
from ssl_risk_rs.study.controlled import Comparisons, _crossed, _degrees_shown, _keys, _pooled, comparisons
from ssl_risk_rs.study.design import Column
from ssl_risk_rs.study.effects import Status
from ssl_risk_rs.study.linear import _vary_alike, _weak, linear_effects
from ssl_risk_rs.study.ols import Contrast
from ssl_risk_rs.study.table import StudyTable


def test_numbers_that_fall_as_another_rises_say_the_same():
    lr = np.random.default_rng(0).standard_normal(20)
    frame = pl.DataFrame({"lr": lr, "less": 1 - 2 * lr, "other": lr**2})
    of = {name: parse_choice(f"{name}:linear") for name in frame.columns}
    assert _vary_alike(frame, of["lr"], of["less"]) and not _vary_alike(frame, of["lr"], of["other"])


def test_levels_that_are_not_known_in_all_rows_hide_none_that_are():
    frame = pl.DataFrame(
        {"encoder": [f"e{i}" for i in range(60)], "aug": ["x", "y"] * 30, "crop": ["p", None] * 30,
         "usability": np.random.default_rng(0).standard_normal(60)}
    )  # fmt: skip
    table = StudyTable(frame, ("usability",), tuple(parse_choice(f"{n}:category") for n in ("aug", "crop")), "")
    found = {e.choice: e.status for e in linear_effects(table, covariances=("HC3",))}
    assert found == {"aug": Status.ESTIMATED, "crop": Status.ONE_LEVEL}


@pytest.mark.parametrize(("having", "said"), [(4, "4 rows have this level"), (5, "")])
def test_a_level_of_fewer_than_five_rows_is_weak(having, said):
    empty = np.zeros(0)
    contrast = Contrast("HC3", empty, empty, empty.astype(np.int64), 1.0, 9.0, 1.0)
    column = Column("aug", "b", "a", (np.arange(20) < having).astype(float))
    assert _weak(column, contrast) == said


def test_degrees_of_a_pooled_variance_are_those_of_its_jackknife():
    rng = np.random.default_rng(0)
    groups, clustered = np.repeat(np.arange(6), 5), np.tile(np.arange(5), 6)
    y = rng.standard_normal(30) * (1 + clustered)  # clusters differ in spread, so that the jackknife has few degrees
    variance, most = _pooled(y, groups)
    without = [_pooled(y[clustered != c], groups[clustered != c])[0] for c in range(5)]
    spread = 4 / 5 * np.square(without - np.mean(without)).sum()
    expected = 2 * variance**2 / spread
    assert 1 < expected < most
    assert _degrees_shown(y, groups, clustered, variance, most) == pytest.approx(expected)


def test_a_choice_along_which_the_cluster_varies_is_not_clustered_by_it():
    frame = pl.DataFrame({"recipe": ["r", "s", "r", "s"], "aug": ["a", "b", "a", "b"]})
    table = StudyTable(frame, (), (), "recipe")
    compared = Comparisons(np.arange(4), np.array([0, 0, 1, 1]))
    choice = parse_choice("aug:category")
    assert _crossed(table, compared, choice) is not None
    assert _crossed(table, compared, replace(choice, along=("recipe",))) is None


def test_encoders_without_a_level_are_in_no_comparison():
    frame = pl.DataFrame(
        {"encoder": list("abc"), "aug": ["x", "y", None], "source": ["own"] * 3, "agg_risk": [0.1, 0.2, 0.3]}
    )
    choice = parse_choice("aug:category")
    table = StudyTable(frame, ("agg_risk",), (choice,), "")
    assert comparisons(table, choice, [True] * 3).rows.tolist() == [0, 1]


def test_published_rows_share_no_values_of_ones_own_choices():
    frame = pl.DataFrame({"source": ["published", "mine"], "epochs": [100, 100], "aug": [None, "a"]})
    assert _keys(frame, ["epochs"], ["aug"]) == [(100,), (100, "a")]
