"""Edges of rules: which choices are told apart, which estimates are weak, what is compared."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from ssl_risk_rs.study.advice import Support, advise
from ssl_risk_rs.study.choices import parse_choice
from ssl_risk_rs.study.controlled import (
    Comparisons,
    _are_crossed,
    _crossed,
    _degrees_shown,
    _keys,
    _pooled,
    comparisons,
    controlled_effects,
)
from ssl_risk_rs.study.design import Column, clusters, known_rows, values
from ssl_risk_rs.study.effects import Status, adjusted
from ssl_risk_rs.study.linear import _vary_alike, _weak, confounders_of, linear_effects
from ssl_risk_rs.study.ols import Contrast
from ssl_risk_rs.study.table import StudyTable, study_table


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
    assert 4 < expected < most
    assert _degrees_shown(y, groups, clustered, variance, most) == 4  # of five clusters
    y[clustered == 4] *= 30  # one makes nearly all of it
    variance, most = _pooled(y, groups)
    without = [_pooled(y[clustered != c], groups[clustered != c])[0] for c in range(5)]
    expected = 2 * variance**2 / (4 / 5 * np.square(without - np.mean(without)).sum())
    assert 1 < expected < 4
    assert _degrees_shown(y, groups, clustered, variance, most) == pytest.approx(expected)


def test_rows_of_a_cluster_depend_on_each_other_in_one_comparison_or_in_several():
    frame = pl.DataFrame({"recipe": ["r", "s", "r", "s"], "aug": ["a", "b", "a", "b"], "lab": ["x", "x", "y", "y"]})
    table = StudyTable(frame, (), (), "recipe")
    compared = Comparisons(np.arange(4), np.array([0, 0, 1, 1]))
    choice = parse_choice("aug:category")
    assert _crossed(table, compared, choice).tolist() == [0, 1, 0, 1]
    assert _crossed(table, compared, replace(choice, along=("recipe",))).tolist() == [0, 1, 0, 1]
    assert _crossed(replace(table, cluster="lab"), compared, choice).tolist() == [0, 0, 1, 1]
    assert _crossed(replace(table, cluster="aug"), compared, choice) is None  # the choice itself
    rows = Comparisons(np.arange(2), np.array([0, 0]))
    assert _crossed(table, rows, choice) is None  # each its own
    assert _crossed(replace(table, cluster="lab"), rows, choice) is None  # of one lab, and so is the effect


def runs(effect_of_lab: float, seed: int) -> pl.DataFrame:
    """Six labs, each of which trains four architectures with and without a flag; what it does differs by lab."""
    rng = np.random.default_rng(seed)
    of_lab = effect_of_lab * rng.standard_normal(6)
    rows = [
        {"encoder": f"{lab}{arch}{flag}", "objective": f"lab{lab}", "architecture": f"a{arch}", "trick": flag,
         "usability": 0.2 + 0.01 * arch + of_lab[lab] * flag + 0.01 * rng.standard_normal()}
        for lab in range(6) for arch in range(4) for flag in (0, 1)
    ]  # fmt: skip
    return pl.DataFrame(rows)


def test_an_effect_that_differs_between_clusters_is_no_sure_one():
    """Comparisons each lie in one lab: 48 rows, and six labs."""
    false = {"controlled": 0, "independent": 0}
    for seed in range(60):
        table = study_table(runs(0.02, seed), choices=[parse_choice("trick:flag")], only=["trick"])
        (e,) = controlled_effects(table)
        assert e.status is Status.ESTIMATED and e.df < 6
        false["controlled"] += e.p < 0.05
        (e,) = controlled_effects(replace(table, cluster=""))
        false["independent"] += e.p < 0.05
    assert false["controlled"] <= 9 < false["independent"]


def test_an_effect_of_a_single_cluster_is_told_and_supports_nothing_alone():
    """One lab has trick b and another c, each beside a, over four architectures."""
    rng = np.random.default_rng(0)
    rows = [
        {"encoder": f"{lab}{arch}{trick}", "objective": lab, "architecture": f"a{arch}", "trick": trick,
         "usability": 0.3 + 0.01 * arch - 0.1 * (trick != "a") + 0.01 * rng.standard_normal()}
        for lab, tricks in (("x", "ab"), ("y", "ac")) for arch in range(4) for trick in tricks
    ]  # fmt: skip
    table = study_table(pl.DataFrame(rows), choices=[parse_choice("trick:category")], only=["trick"])
    found = controlled_effects(table)
    assert {e.level for e in found} == {"b", "c"}
    for e in found:
        assert e.status is Status.ESTIMATED and e.p < 1e-3 and e.decided_by == "objective"
        assert e.reason == "a single objective decides it, and others may differ"
    advice = [a for a in advise(table, adjusted(found), ["usability"]) if a.choice == "trick"]
    assert all(a.support is not Support.STRONG for a in advice)


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


def correlated(seed: int, names: tuple[str, str] = ("width", "dropout"), n: int = 40) -> pl.DataFrame:
    """Independent runs whose second choice follows the first (r = 0.9) and does nothing."""
    rng = np.random.default_rng(seed)
    one = rng.standard_normal(n)
    other = 0.9 * one + np.sqrt(1 - 0.81) * rng.standard_normal(n)
    return pl.DataFrame({
        "encoder": [f"e{i}" for i in range(n)], names[0]: one, names[1]: other,
        "usability": 0.3 + 0.02 * one + 0.02 * rng.standard_normal(n),
    })  # fmt: skip


@pytest.mark.parametrize("names", [("width", "dropout"), ("learning_rate", "img_size")])
def test_a_choice_that_is_correlated_with_another_does_not_take_its_effect(names):
    choices = [parse_choice(f"{name}:linear") for name in names]
    seen = {True: 0, False: 0}
    for seed in range(40):
        table = study_table(correlated(seed, names), choices=choices, only=list(names))
        for held in (True, False):
            found = linear_effects(table, covariances=("HC3",), confounders=None if held else ())
            (e,) = (e for e in found if e.choice == names[1])
            assert (names[0] in e.held) is held
            seen[held] += e.p < 0.05
    assert seen[True] <= 6 < 20 < seen[False]


def test_other_choices_that_are_part_of_one_are_not_held_fixed():
    rng = np.random.default_rng(3)
    frame = correlated(0, n=24).with_columns(
        pl.Series("depth", np.arange(24) % 2 + 10), pl.Series("some", [*rng.standard_normal(12), *[None] * 12]),
        pl.Series("net", [f"net{i % 4}" for i in range(24)]), pl.lit(5.0).alias("n_negatives"),
    )  # fmt: skip
    every = ("width:linear", "dropout:linear", "net:category", "depth:category", "some:linear")
    table = study_table(frame, choices=[parse_choice(text) for text in every])
    of = {choice.name: choice for choice in table.choices}

    def held(name):
        return {c.name for c in confounders_of(of[name], table)} - {"source"}

    assert held("width") == {"dropout", "net", "depth"}  # `some` is not known in all rows, negatives follow from others
    assert held("some") == {"width", "dropout", "net", "depth"}
    assert held("net") == {"width", "dropout"} and held("depth") == {"width", "dropout"}  # a net has one depth
    assert "net" not in {c.name for c in confounders_of(replace(of["width"], along=("net",)), table)}
    published = study_table(frame.with_columns(source=pl.lit("published")), choices=[parse_choice(t) for t in every])
    assert [c.name for c in confounders_of(of["width"], published)] == ["source"]


@pytest.mark.parametrize(
    ("clustered", "crossed"), [([0, 1, 2, 3], False), ([0, 0, 1, 1], False), ([0, 1, 0, 1], True), ([0, 1, 2, 1], True)]
)
def test_clusters_are_crossed_where_one_of_several_rows_meets_another(clustered, crossed):
    assert _are_crossed(np.array([5, 5, 7, 7]), np.array(clustered)) == crossed


def test_two_clusters_show_one_degree_of_freedom():
    y, design, clustered = np.array([0.0, 1, 0, 1]), np.zeros(4, np.int64), np.array([0, 0, 1, 1])
    assert _degrees_shown(y, design, clustered, 1 / 3, 3.0) == 1


def test_encoders_of_other_seeds_are_no_pair():
    rows = pl.DataFrame(
        {"encoder": list("abcd"), "objective": list("aabb"), "seed": [0, 0, 1, 1], "agg_risk": [0.1] * 4}
    )
    (found,) = controlled_effects(study_table(rows))
    assert found.status is Status.NO_PAIRS


def test_levels_of_which_one_column_has_more_are_told_apart():
    frame = pl.DataFrame({"aug": ["a", "a", "b", "b"], "recipe": ["r", "s", "t", "t"]})
    aug, recipe = (parse_choice(f"{name}:category") for name in frame.columns)
    assert not _vary_alike(frame, aug, recipe) and not _vary_alike(frame, recipe, aug)


@pytest.mark.parametrize(
    ("rows", "compared"),
    [
        ({("a", "m"): 9, ("b", "n"): 4, ("c", "n"): 6, ("d", "n"): 3}, {("b", "c"), ("d", "c")}),
        ({("a", "m"): 9, ("e", "m"): 3, ("b", "n"): 8, ("c", "n"): 8}, {("e", "a")}),  # as many as with another
    ],
)
def test_levels_are_compared_with_the_most_frequent_of_those_that_can_be(rows, compared):
    cells = [cell for cell, n in rows.items() for _ in range(n)]
    frame = pl.DataFrame(
        {"encoder": [f"e{i}" for i in range(len(cells))], "aug": [aug for aug, _ in cells],
         "mode": [mode for _, mode in cells], "usability": np.random.default_rng(0).standard_normal(len(cells))}
    )  # fmt: skip
    aug, mode = (parse_choice(f"{name}:category") for name in ("aug", "mode"))
    found = linear_effects(StudyTable(frame, ("usability",), (aug,), ""), confounders=[mode], covariances=("HC3",))
    assert {(e.level, e.reference) for e in found if e.status is Status.ESTIMATED} == compared


def test_rows_without_a_group_are_groups_of_their_own():
    found = clusters(pl.DataFrame({"objective": ["a", None, "b", None, "a"]}), "objective").tolist()
    assert found[0] == found[4] and len(set(found)) == 4


def test_a_logarithm_is_of_what_is_above_0():
    frame = pl.DataFrame({"width": [1.0, 0.0, -2.0, None]})
    assert values(frame, parse_choice("width:log")).to_list() == [0.0, None, None, None]


def test_rows_without_a_number_that_only_some_have_are_left_out_where_it_is_examined():
    frame = pl.DataFrame({"width": [1.0, None, 3.0], "depth": [1.0, 2.0, None]})
    width, depth = (replace(parse_choice(f"{name}:linear"), only_some=True) for name in frame.columns)
    assert known_rows(frame, (width, depth), "width").tolist() == [True, False, True]


def test_a_choice_with_a_few_blanks_is_held_fixed_and_one_with_many_is_said():
    frame, choices = correlated(0), [parse_choice(f"{name}:linear") for name in ("width", "dropout")]
    row = pl.int_range(pl.len())
    few = frame.with_columns(width=pl.when(row > 0).then("width"))
    many = frame.with_columns(width=pl.when(row > 15).then("width"))

    def of(table):
        found = linear_effects(study_table(table, choices=choices), covariances=("HC3",))
        return next(e for e in found if e.choice == "dropout")

    assert "width" in of(few).held and not of(few).not_held and of(few).n == 39
    assert of(many).not_held == ("width",) and of(many).n == 40
    assert "width is not held fixed: too many rows lack it" in of(many).reason
    sure = replace(of(many), effect=-0.05, p=1e-6, p_adjusted=1e-5)
    table = study_table(many, choices=choices)
    assert not [a for a in advise(table, [sure], ["usability"]) if a.support is Support.STRONG]


def test_what_is_held_fixed_is_named_where_rows_are_too_few():
    rng = np.random.default_rng(0)
    names = [f"c{i}" for i in range(6)]
    frame = pl.DataFrame({
        "encoder": [f"e{i}" for i in range(7)], **{name: rng.standard_normal(7) for name in names},
        "usability": rng.random(7),
    })  # fmt: skip
    table = study_table(frame, choices=[parse_choice(f"{name}:linear") for name in names])
    found = [e for e in linear_effects(table, covariances=("HC3",)) if e.choice == "c0"]
    assert all(e.reason.endswith("c1, c2, c3, c4, c5: --confounder names fewer") for e in found), found[0].reason
    assert all(e.status is Status.ESTIMATED for e in linear_effects(table, covariances=("HC3",), confounders=()))
