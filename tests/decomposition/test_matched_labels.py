"""Encoders at equal class counts: constructions whose answer is known, which rows are taken, what is refused."""

import numpy as np
import pytest
from ssl_risk_rs import ParameterError
from ssl_risk_rs.decomposition import Settings, make_task
from ssl_risk_rs.decomposition.contrasts import ScoredResult
from ssl_risk_rs.decomposition.decomposing import decompose_task
from ssl_risk_rs.decomposition.loose import gap
from ssl_risk_rs.decomposition.matched_labels import _first, _named, _ordered, _shared_out, match_labels
from ssl_risk_rs.decomposition.paired import paired_differences
from ssl_risk_rs.decomposition.targets import with_numbers
from ssl_risk_rs.errors import NotComparableError
from ssl_risk_rs.report.matched_labels import render_matched_labels

N, M, D = 1000, 400, 20
COMPONENTS = ("approx_usability", "probe_gen", "enc_gen", "agg_risk")


def draw(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """n points around five centres that overlap, in 20 features, a class in every fifth row."""
    y = np.arange(n) % 5
    centres = np.random.default_rng(9).standard_normal((5, D))
    return (0.55 * centres[y] + np.random.default_rng(seed).standard_normal((n, D))).astype(np.float32), y


def task(change=lambda x, part: x, keep=slice(None), seed=0, prefix="a"):
    """All rows, or some of the training rows, as an encoder `change` sees them; ids name the rows."""
    (x, y), (xt, yt) = draw(N, seed), draw(M, 1)
    ids = np.array([f"{prefix}{i}" for i in range(N)])[keep].tolist() + [f"t{i}" for i in range(M)]
    return make_task(
        np.ascontiguousarray(change(x, 0)[keep], np.float32), y[keep],
        np.ascontiguousarray(change(xt, 1), np.float32), yt, sample_ids=ids,
    )  # fmt: skip


def wide(n_features: int):
    """Features that carry nothing beside those of the rows."""
    noise = [np.random.default_rng(s).standard_normal((n, n_features)) for s, n in ((4, N), (5, M))]
    return lambda x, part: np.c_[x, noise[part]]


def match(one, other, counts=(300, N), **options):
    settings = Settings(**{"probe": "ridge", "n_threads": 1, "midpoint": False, **options})
    return match_labels([one, other], ["A", "B"], counts, settings=settings)


def part(found, quantity):
    return next(p for p in found.parts if p.part.quantity == quantity)


HALF = np.arange(N) // 5 % 2 == 0
EIGHTH = np.arange(N) // 5 % 8 == 0


# --- constructions whose answer is known


def test_nothing_of_a_gap_goes_with_rows_that_are_the_same():
    """Both have all rows: the gap of all rows less that of matched rows is 0 by identity, and nothing of it varies."""
    found = match(task(), task(wide(10)), counts=(N,))
    for name in COMPONENTS:
        p = part(found, name)
        assert p.full.value == p.matched.value and p.full.low < p.full.high
        assert (p.part.value, p.part.low, p.part.high, p.part.p) == (0, 0, 0, 1)


@pytest.mark.parametrize("seed", range(4))
def test_rounding_is_no_part_of_a_gap(seed):
    """The same rows: sums of the same numbers in another order differ by 1e-18, which is nothing to say of."""
    found = match(task(seed=seed), task(wide(7), seed=seed), counts=(N,))
    assert [p.part.value for p in found.parts] == [0.0] * len(COMPONENTS)


@pytest.mark.parametrize("kind", ["numbers", "labels"])
def test_numbers_and_labels_have_no_classes_to_match(kind):
    one = task()
    values = np.arange(len(one.labels), dtype=float)[:, None] % 2
    target = with_numbers(one, values, ["x"], kind)
    for pair in ((target, one), (one, target)):
        with pytest.raises(NotComparableError, match="predicts numbers or labels, and only classes are compared"):
            match(*pair)


@pytest.mark.parametrize("probe", ["ridge", "logistic"])
def test_half_the_rows_of_one_encoder_leave_no_gap(probe):
    """B is A with half its training rows: at equal labels both are the same, the whole gap goes with the rows."""
    found = match(task(), task(keep=HALF), probe=probe)
    assert found.n_train == (1000, 500) and [level.n for level in found.levels] == [300, 500]
    assert found.common == 500
    for level in found.levels:
        for each in level.gaps[0]:
            assert each.value == 0 and each.low == each.high == 0 and each.p == 1
    for name in COMPONENTS:
        p = part(found, name)
        assert p.part.value == pytest.approx(p.full.value, abs=1e-12) and p.matched.value == 0


def test_few_of_the_rows_cost_probe_generalization_and_nothing_else_stays():
    """B is A with 25 of 200 rows a class: the training error is lower, more is lost on held-out rows."""
    found = match(task(wide(40)), task(wide(40), keep=EIGHTH), counts=(N,))
    assert found.common == 125
    assert part(found, "approx_usability").part.high < 0 < part(found, "probe_gen").part.low
    assert part(found, "agg_risk").part.value > 0.05  # of 125 rows another sample may choose quite another penalty
    assert all(each.matched.value == 0 for each in found.parts)


def test_other_rows_of_one_encoder_leave_no_gap_within_the_interval():
    """B's training rows are others of the same distribution: nothing cancels, and nothing is found."""
    found = match(task(), task(keep=HALF, seed=5, prefix="b"))
    assert found.common == 0
    for level in found.levels:
        for each in level.gaps[0]:
            assert each.low < 0 < each.high and each.se > 0


def test_noise_features_are_a_gap_of_the_representation():
    found = match(task(), task(wide(80)))
    for name in COMPONENTS:  # both have all rows: nothing goes with their number
        assert part(found, name).part.value == 0 and part(found, name).matched.value == part(found, name).full.value
    assert part(found, "approx_usability").matched.high < 0 < part(found, "probe_gen").matched.low


def test_noise_features_and_few_rows_are_told_apart():
    """B pays for its noise at equal labels, and for its rows beside that: both parts are seen."""
    found = match(task(wide(10)), task(wide(150), keep=EIGHTH), counts=(N,))
    p = part(found, "agg_risk")
    assert p.matched.low > 0 and p.matched.value > 0.1
    # A alone, with 125 rows instead of 1,000, loses what is said to go with the rows
    few = match(task(wide(10)), task(wide(10), keep=EIGHTH), counts=(N,))
    assert p.part.value == pytest.approx(part(few, "agg_risk").part.value, abs=1e-12)
    assert p.full.value == pytest.approx(p.matched.value + p.part.value, abs=1e-12)


@pytest.mark.parametrize("probe", ["ridge", "logistic"])
def test_a_rotation_leaves_no_gap_at_any_number_of_labels(probe):
    turn = np.linalg.qr(np.random.default_rng(3).standard_normal((D, D)))[0]
    found = match(task(), task(lambda x, _: x @ turn, keep=HALF), counts=(200, 500), probe=probe, scaling="none")
    for level in found.levels:
        for each in level.gaps[0]:
            assert each.low <= 0 <= each.high and abs(each.value) < 0.02  # a few rows on a boundary, in float32


def test_a_truncation_stays_a_gap_of_the_representation():
    found = match(task(), task(lambda x, _: x[:, :6], keep=HALF), counts=(500,))
    p = part(found, "agg_risk")
    assert p.matched.low > 0.05 and p.part.low < 0 < p.part.high


def test_paired_where_rows_are_the_same():
    """With the same rows the interval is that of a paired comparison."""
    settings = Settings(probe="ridge", n_threads=1, midpoint=False)
    one, other = task(), task(lambda x, _: x[:, :12])
    results = [decompose_task(t, settings=settings) for t in (one, other)]
    judges = [ScoredResult.of(r) for r in results]
    for d in paired_differences(*results, ("A", "B"), COMPONENTS):
        g = gap([(-1, judges[0]), (1, judges[1])], d.quantity, 0.95)
        assert g.value == pytest.approx(d.difference, abs=1e-12)
        assert g.se == pytest.approx(d.se, rel=1e-9)  # no class has a single row, so that strata are the same


def test_intervals_cover_where_rows_are_other_rows():
    """The gap of two samples of one encoder is 0: 95 % intervals leave it out in about 1 of 20."""
    settings = Settings(probe="ridge", n_threads=1, midpoint=False)
    missed = 0
    for seed in range(30):
        found = []
        for place in range(2):
            (x, y), (xt, yt) = draw(400, 100 + 3 * seed + place), draw(200, 102 + 3 * seed)
            ids = [f"{place}-{i}" for i in range(400)] + [f"t{i}" for i in range(200)]
            found.append(ScoredResult.of(decompose_task(make_task(x, y, xt, yt, sample_ids=ids), settings=settings)))
        each = gap([(-1, found[0]), (1, found[1])], "agg_risk", 0.95)
        missed += not each.low <= 0 <= each.high
    assert missed <= 5  # binomial(30, 0.05): 6 or more has probability 0.003


# --- which rows


def test_common_rows_come_first_and_numbers_are_nested():
    one, other = task(), task(keep=HALF)
    ordered, common = _ordered([one, other], ["A", "B"], 0)
    assert common.tolist() == [100] * 5
    for a, b in zip(*ordered, strict=True):
        first = [one.sample_ids[row] for row in a[: len(b)].tolist()]
        assert first == [other.sample_ids[row] for row in b.tolist()]
    few, many = (set(_first(ordered[0], np.full(5, n)).tolist()) for n in (20, 60))
    assert few < many


def test_rows_are_shared_out_in_proportion():
    assert _shared_out(np.array([10, 20, 30]), 30).tolist() == [5, 10, 15]
    assert _shared_out(np.array([1, 1, 1]), 2).sum() == 2
    assert _shared_out(np.array([5, 3, 2]), 4).tolist() == [2, 1, 1]  # of 2, 1.2 and 0.8


def test_rows_without_ids_are_numbered_apart():
    (x, y), (xt, yt) = draw(50, 0), draw(20, 1)
    named = _named(make_task(x, y, xt, yt))
    assert named.sample_ids[:2] == ["0", "1"] and named.sample_ids[50:52] == ["test 0", "test 1"]
    assert _named(task()).sample_ids == task().sample_ids


# --- what is refused


def test_other_test_rows_are_refused():
    (x, y), (xt, yt) = draw(N, 0), draw(M, 1)
    other = make_task(x, y, xt[:-5], yt[:-5], sample_ids=[f"a{i}" for i in range(N)] + [f"t{i}" for i in range(M - 5)])
    with pytest.raises(NotComparableError, match="differ in 5 test rows"):
        match(task(), other)


def test_numbers_that_name_other_rows_are_refused():
    """Every second row of A, without ids: row 1 of B is row 2 of A."""
    (x, y), (xt, yt) = draw(N, 0), draw(M, 1)
    with pytest.raises(NotComparableError, match="matched by their number: give ids"):
        match(make_task(x, y, xt, yt), make_task(x[::2], y[::2], xt, yt))


@pytest.mark.parametrize(
    ("options", "said"), [({"counts": ()}, "must be positive"), ({"counts": (0, 5)}, "must be positive"),
                          ({"protocol": "paper"}, "--protocol strict only")],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(options, said):
    with pytest.raises(ParameterError, match=said):
        match(task(), task(), **options)


def test_a_class_that_one_lacks_and_groups_are_refused():
    (x, y), (xt, yt) = draw(N, 0), draw(M, 1)
    ids = [f"a{i}" for i in range(N)] + [f"t{i}" for i in range(M)]
    more = make_task(x, np.where(np.arange(N) % 50 == 0, 5, y), xt, yt, sample_ids=ids)
    keep = np.r_[np.arange(N) % 50 != 0, np.ones(M, bool)]
    fewer = make_task(x[keep[:N]], y[keep[:N]], xt, yt, sample_ids=np.array(ids)[keep].tolist())
    with pytest.raises(ParameterError, match="B has no training row of class '5'"):
        match(more, fewer)
    (x, y), (xt, yt) = draw(100, 0), draw(50, 1)
    grouped = make_task(x, y, xt, yt, groups=([str(i // 5) for i in range(100)], [f"t{i // 5}" for i in range(50)]))
    with pytest.raises(ParameterError, match="leave out --group"):
        match(grouped, grouped)


def test_a_gap_that_stays_is_told_whoever_errs_less():
    one, other = task(wide(10)), task(wide(150), keep=EIGHTH)
    for pair in ((one, other), (other, one)):
        found = match(*pair, counts=(N,))
        p, text = part(found, "agg_risk"), " ".join(render_matched_labels(found).split())
        assert p.matched.low > 0 or p.matched.high < 0
        assert f"{abs(100 * p.matched.value):.2f} points stay, which go with the representation" in text


def test_frames_hold_gaps_with_their_ends():
    found = match(task(wide(10)), task(wide(150), keep=EIGHTH), counts=(N,))
    p, rows = part(found, "agg_risk"), found.frame().filter(quantity="agg_risk").to_dicts()
    whole, matched = ([row for row in rows if row["matched"] is at] for at in (False, True))
    assert [(row["encoder"], row["n_train"], row["gap"]) for row in whole] == [("A", 1000, None), ("B", 125, None)]
    assert [row["gap"] for row in matched] == [None, p.matched.value]
    assert (matched[1]["gap_low"], matched[1]["gap_high"]) == (p.matched.low, p.matched.high)
    (row,) = found.part_frame().filter(quantity="agg_risk").to_dicts()
    assert (row["matched_low"], row["matched_high"]) == (p.matched.low, p.matched.high) != (p.full.low, p.full.high)
    assert (row["full"], row["matched"], row["part"]) == (p.full.value, p.matched.value, p.part.value)


def test_ids_that_are_numbers_of_other_rows_stay():
    (x, y), (xt, yt) = draw(50, 0), draw(20, 1)
    given = make_task(x, y, xt, yt, sample_ids=[str(1000 + i) for i in range(70)])
    assert _named(given).sample_ids == given.sample_ids


def test_rows_are_drawn_with_the_seed_of_the_settings(monkeypatch):
    from ssl_risk_rs.decomposition import matched_labels

    seeds = []
    monkeypatch.setattr(matched_labels, "_ordered", lambda *given: seeds.append(given[2]) or _ordered(*given))
    match(task(), task(keep=EIGHTH), counts=(100,), seed=3)
    assert seeds == [3]
