"""How the choice of the penalty varies, and what that adds to the variance of a risk."""

from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest
from ssl_risk_rs import Run, compare, decompose
from ssl_risk_rs.decomposition.chances import chances
from ssl_risk_rs.decomposition.choice import Choice, choice_of, contrast_choice
from ssl_risk_rs.decomposition.intervals import quantify_by
from ssl_risk_rs.decomposition.units import Units
from ssl_risk_rs.results.compare import _renumbered
from ssl_risk_rs.results.judgements import Judgements


def wrong(m: int, *rows: int) -> np.ndarray:
    return np.isin(np.arange(m), rows)


def units(m: int, groups: np.ndarray | None = None) -> Units:
    return Units(np.zeros(m, np.int64), groups, np.zeros(1), ["a"])


def test_a_penalty_is_chosen_as_often_as_its_costs_come_out_lower():
    m = 50
    costs = {1e-2: wrong(m, 0, 1, 2, 3), 1e-3: wrong(m, 3, 4, 5), 1e-1: wrong(m, *range(20, 50))}
    # 1e-2 alone is wrong on 3 rows, 1e-3 on 2: D = 1, the sum of squares 5
    weight = NormalDist().cdf(-1 / np.sqrt(m / (m - 1) * (5 - 1 / m)))
    found = chances(costs, 1e-3)
    assert list(found) == [1e-3, 1e-2]
    assert found[1e-2] == pytest.approx(weight / (0.5 + weight))
    assert sum(found.values()) == pytest.approx(1)


def test_chances_are_those_of_samples_drawn_anew():
    rng = np.random.default_rng(0)
    m, truth = 300, np.array([0.2, 0.21, 0.25])
    same = rng.random((2_000, m, 1)) < 0.7  # most rows are alike to all
    draws = np.where(same, rng.random((2_000, m, 1)) < 0.2, rng.random((2_000, m, 3)) < truth)
    costs = draws.sum(1)
    often = np.bincount(costs.argmin(1), minlength=3) / len(draws)
    by_draw = []
    for draw, cost in zip(draws[:400], costs[:400], strict=True):
        found = chances({-float(a): draw[:, a] for a in range(3)}, -float(cost.argmin()))
        by_draw.append([found.get(-float(a), 0.0) for a in range(3)])
    # of three nearly alike the chance is shared out more evenly by one sample than over samples
    assert np.abs(np.mean(by_draw, axis=0) - often).max() < 0.12


def test_of_penalties_that_cost_the_same_the_strongest_is_chosen():
    rows = wrong(30, 1, 2, 3)
    assert chances({1.0: rows, 0.1: rows, 0.01: rows}, 1.0) == {1.0: 1.0}
    other = wrong(30, 1, 2, 4)
    assert chances({1.0: rows, 0.1: other, 0.01: other}, 1.0) == {1.0: 0.5, 0.1: 0.5}
    assert chances({1.0: np.zeros(4), 0.1: np.ones(4)}, 1.0) == {1.0: 1.0}  # on every row by the same
    assert chances({1.0: np.zeros(1), 0.1: np.ones(1)}, 1.0) == {1.0: 1.0}


def test_groups_say_less_than_their_rows():
    groups = np.repeat(np.arange(10), 20)
    worse = (groups < 2) & (np.arange(200) % 2 == 0)
    none = np.zeros(200, bool)
    by_row, by_group = chances({1.0: none, 0.1: worse}, 1.0), chances({1.0: none, 0.1: worse}, 1.0, groups)
    assert by_row == {1.0: 1.0}
    sums = np.r_[10, 10, np.zeros(8)]
    weight = NormalDist().cdf(-20 / np.sqrt(10 * sums.var(ddof=1)))
    assert by_group[0.1] == pytest.approx(weight / (0.5 + weight))


def test_the_variance_of_a_choice():
    p = np.array([0.5, 0.3, 0.2])
    errors, held = np.array([0.1, 0.4, 0.2]), np.array([0.3, 0.2, 0.3])
    choice = Choice(p, np.tile(errors[:, None], 40), np.tile(held[:, None], 30))
    v = choice.variation(units(40), units(30))
    of_test, of_held = (float(p @ (e - p @ e) ** 2) for e in (errors, held))
    assert (v.test, v.held) == (pytest.approx(of_test), pytest.approx(of_held))
    # of opposite signs, and no further than the root of the product allows
    assert v.both == pytest.approx(
        max(float(p @ ((errors - p @ errors) * (held - p @ held))), -np.sqrt(of_test * of_held))
    )


def test_rows_that_tell_two_probes_apart_by_chance_add_nothing():
    rng = np.random.default_rng(1)
    shares = np.array([0.5, 0.5])
    found = []
    for _ in range(300):
        scores = (rng.random((2, 200)) < 0.3).astype(float)
        apart = scores - scores.mean(0)
        found.append(float(shares @ apart.mean(1) ** 2 - np.mean(apart.var(1, ddof=1)) / 200))
        v = Choice(shares, scores, scores[:, :150]).variation(units(200), units(150))
        assert v.test == pytest.approx(max(0.0, found[-1]), abs=1e-15)
    assert abs(np.mean(found)) < 2e-4  # where the noise alone is 5e-4
    # whole groups are fewer, and noisier
    scores, groups = np.repeat((rng.random((2, 20)) < 0.5).astype(float), 10, axis=1), np.repeat(np.arange(20), 10)
    choice = Choice(shares, scores, scores)
    assert choice.variation(units(200, groups), units(200)).test <= choice.variation(units(200), units(200)).test


def test_choices_of_two_encoders_add_up_and_those_of_one_cancel():
    p = np.array([0.5, 0.5])
    one = Choice(p, np.array([[0.1], [0.3]]) + np.zeros(40), np.array([[0.2], [0.3]]) + np.zeros(30))
    two = Choice(p, np.array([[0.1], [0.2]]) + np.zeros(40), np.array([[0.2], [0.2]]) + np.zeros(30))
    rows = units(40), units(30)
    v = contrast_choice([one, two], [1.0, -1.0], *rows)
    assert (v.test, v.held, v.both) == pytest.approx((0.01 + 0.0025, 0.0025, 0.005))
    assert contrast_choice([one, replace(one)], [1.0, -1.0], *rows).test == 0
    assert contrast_choice([one, None], [1.0, -2.0], *rows) == one.variation(*rows)
    assert contrast_choice([None, one], [1.0, -2.0], *rows).test == pytest.approx(4 * 0.01)


def paler(seed: int, *, like_training_rows: bool = False) -> tuple[np.ndarray, ...]:
    """400 rows each of 5 classes with features of very different widths; test rows are paler and lighter."""
    rng = np.random.default_rng(seed)
    of_world = np.random.default_rng(8)
    means, mix = of_world.normal(size=(5, 24)), np.random.default_rng(9).normal(size=(24, 24))
    y = np.arange(400) % 5
    parts = []
    for test in (False, True):
        rows = (0.4 * means[y] + rng.normal(size=(400, 24))) * np.geomspace(2.0, 0.05, 24) @ mix
        parts.append((0.8 * rows + 0.25 if test and not like_training_rows else rows).astype(np.float32))
    return parts[0], y, parts[1], y


@pytest.fixture(scope="module")
def shifted():
    return decompose(*paler(3), probe="ridge")


def test_a_shift_shows_in_the_interval_and_in_a_note(shifted):
    choice = choice_of(shifted.judgements)
    assert choice is not None and len(choice.chances) > 1
    errors = choice.on_test.mean(1)
    note = next(n for n in shifted.notes if n.code == "penalties_differ")
    likely = errors[choice.chances >= 0.05]
    assert note.values == {"count": len(likely), "low": 100 * likely.min(), "high": 100 * likely.max()}
    assert note.values["high"] - note.values["low"] > 5
    # the first of the scores are those of the penalty that was chosen
    assert errors[0] == pytest.approx((shifted.judgements.fold_margins[0] < 0).mean())
    kept = decompose(*paler(3, like_training_rows=True), probe="ridge")
    assert "penalties_differ" not in {n.code for n in kept.notes}
    narrow = {name: kept.estimates[name].se for name in ("risk_us", "enc_gen")}
    assert all(shifted.estimates[name].se > 1.5 * se for name, se in narrow.items())


def test_what_a_choice_adds_is_part_of_the_recorded_variation(shifted):
    j = shifted.judgements
    without = shifted.variation
    bare = quantify_by(
        replace(j, other_penalties=(), other_penalties_held=(), penalty_chances=None), shifted.method, shifted.sizes
    )
    units_of = [Units(labels.astype(np.int64), None, np.zeros(5), list(j.class_names)) for labels in
                (j.test_labels, j.train_labels[j.in_subset])]  # fmt: skip
    added = choice_of(j).variation(*units_of)
    assert (without.test, without.held, without.both) == pytest.approx(
        (bare.variation.test + added.test, bare.variation.held + added.held, bare.variation.both + added.both)
    )
    for name, weight in (("risk_us", added.test), ("risk_as", added.held), ("label_count", 0.0), ("risk_af", 0.0)):
        assert shifted.estimates[name].se ** 2 - bare.estimates[name].se ** 2 == pytest.approx(weight, abs=1e-12), name


def test_an_encoder_beside_itself_differs_by_next_to_nothing(shifted):
    """Of another encoder the choice of its penalty is part of the difference."""
    x, y, x_test, y_test = paler(3)
    other = decompose(x[:, :12], y, x_test[:, :12], y_test, probe="ridge")
    same, unlike = (
        {d.quantity: d for d in compare([shifted, one], names=["a", "b"]).differences} for one in (shifted, other)
    )
    assert same["agg_risk"].high < 0.01
    alone = choice_of(shifted.judgements)
    assert unlike["agg_risk"].se > np.sqrt(alone.variation(units(400), units(80)).test) > 0.02


def test_a_run_folder_keeps_the_other_penalties(shifted, tmp_path):
    shifted.save(tmp_path / "run")
    again = Run.load(tmp_path / "run").main
    j, kept = shifted.judgements, again.judgements
    np.testing.assert_array_equal(kept.penalty_chances, j.penalty_chances)
    for one, two in zip(
        (*kept.other_penalties, *kept.other_penalties_held), (*j.other_penalties, *j.other_penalties_held), strict=True
    ):
        np.testing.assert_array_equal(one.margin, two.margin)
        np.testing.assert_array_equal(one.predicted, two.predicted)
    arrays = j.to_arrays()
    assert {"other_penalties_0.rank", "other_penalties_held_0.loss", "cs_2.rank"} <= set(arrays)
    old = {name: array for name, array in arrays.items() if not name.startswith(("other_penalties", "penalty_chances"))}
    assert choice_of(Judgements.from_arrays(old)) is None  # a record of an older build


def test_rows_and_classes_are_taken_of_the_other_penalties_too(shifted):
    j = shifted.judgements
    rows = np.flatnonzero(j.train_labels != 1), np.flatnonzero(j.test_labels != 1)
    some = j.take(*rows)
    assert len(some.other_penalties[0].rank) == len(rows[1]) and len(some.other_penalties_held[0].rank) == int(
        some.in_subset.sum()
    )
    renamed = _renumbered(j, list(j.class_names)[::-1])
    for one, two in zip(renamed.other_penalties, j.other_penalties, strict=True):
        np.testing.assert_array_equal(one.predicted, 4 - two.predicted)


def test_a_record_that_kept_no_other_penalties_is_compared_without_them(shifted):
    older = replace(shifted, judgements=replace(
        shifted.judgements, other_penalties=(), other_penalties_held=(), penalty_chances=None
    ))  # fmt: skip
    found = compare([shifted, older], names=["new", "old"])
    total = next(d for d in found.differences if d.quantity == "agg_risk")
    assert total.high < 0.01
    (note,) = (n for n in found.notes if n.code == "choice_unknown")
    assert "(old)" in note.sentence()
    assert not [n for n in compare([older, older], names=["a", "b"]).notes if n.code == "choice_unknown"]


def test_scores_of_a_class_less_all_are_differences_of_errors():
    rng = np.random.default_rng(0)
    scores, held, ours = rng.random((3, 40)), rng.random((3, 20)), np.arange(40) < 10
    own = Choice(np.full(3, 1 / 3), scores, held).less_all(ours, np.arange(20) < 4)
    np.testing.assert_allclose(own.on_test.mean(1), scores[:, ours].mean(1) - scores.mean(1))
    np.testing.assert_allclose(own.on_held.mean(1), held[:, :4].mean(1) - held.mean(1))
