"""Few-shot: draws, fits inside them, intervals against the slow reference, the label curve, records, bad input."""

import json
import math
from dataclasses import astuple, replace
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from reference import fewshot as reference
from ssl_risk_rs import FeatureBank, ParameterError
from ssl_risk_rs._splits import sample_keys
from ssl_risk_rs.decomposition import Settings, decompose, fewshot, make_task
from ssl_risk_rs.decomposition.crossed import Crossed
from ssl_risk_rs.decomposition.draws import MOST_DRAWS, plan_draws
from ssl_risk_rs.decomposition.fewshot import AUTO_SHOTS
from ssl_risk_rs.decomposition.fewshot import _notes as notes_of
from ssl_risk_rs.decomposition.labelcurve import Measured, label_curve, measure, predict
from ssl_risk_rs.decomposition.shotfits import fold_rows
from ssl_risk_rs.report.shots import forecast_sentences
from ssl_risk_rs.results import Run, ShotSize
from ssl_risk_rs.results.fewshot import DISJOINT, BackTest, LabelsNeeded, Overlap, parse_shots
from ssl_risk_rs.results.frames import draws_frame
from ssl_risk_rs.results.record import Method

QUANTITIES = ("risk_as", "risk_us", "probe_gen", "enc_gen")
METHOD = Method("ridge", "strict", "standardize", 0, 1e-7, 1e-7, 300, 0.95, n_threads=1)


def rows(n, k, d, seed=0, shares=None, spread=0.8):
    """n points around k centres that overlap; classes in turn, or by shares."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % k if shares is None else np.repeat(np.arange(k), np.rint(np.array(shares) * n).astype(int))
    centres = spread * np.random.default_rng(99).normal(size=(k, d))
    return (centres[y] + rng.normal(size=(len(y), d))).astype(np.float32), y


def world(name):
    """(X, y, X_test, y_test)"""
    k, d, shares, n = {
        "plain": (4, 10, None, 480),
        "unequal": (3, 8, (0.6, 0.25, 0.15), 400),
        "more features than rows": (3, 40, None, 300),
    }[name]
    return *rows(n, k, d, 1, shares), *rows(160, k, d, 2, shares)


def grouped(mixed, n_groups=60, size=10, k=3, d=8):
    """(X, y, X_test, y_test, groups, test groups)"""
    rng = np.random.default_rng(3)
    centres = 0.7 * rng.normal(size=(k, d))

    def part(first, count):
        g = np.repeat(np.arange(first, first + count), size)
        y = rng.integers(0, k, len(g)) if mixed else g % k
        moved = 0.5 * rng.normal(size=(count, d))[g - first]
        return (centres[y] + moved + rng.normal(size=(len(g), d))).astype(np.float32), y, g

    (x, y, g), (xt, yt, gt) = part(0, n_groups), part(1000, 30)
    return x, y, xt, yt, g, gt


@pytest.fixture(scope="module")
def small():
    return decompose(*world("plain"), probe="ridge", shots="8,3", n_threads=1)


# --- draws


def plan(y, size="5", groups=None, ids=None, draws=None, seed=0):
    x = np.zeros((len(y), 2), np.float32)
    given = None if groups is None else (groups, [f"test {i}" for i in range(len(y))])
    task = make_task(x, y, x, y, groups=given, sample_ids=None if ids is None else [*ids, *[f"t{i}" for i in ids]])
    return plan_draws(task, ShotSize.parse(size), seed, draws)


@pytest.mark.parametrize("size", ["1", "5", "2%"])
def test_draws_are_disjoint_of_equal_counts_and_from_half_of_each_class(size):
    y = np.repeat([0, 1, 2], (300, 240, 401))
    p = plan(y, size)
    assert p.disjoint and p.overlap == DISJOINT and p.first == 10
    assert np.bincount(y[p.pool]).tolist() == [150, 120, 200]
    draws = p.rows(p.most)
    assert len(np.unique(np.concatenate(draws))) == sum(map(len, draws))
    expected = {"1": [1, 1, 1], "5": [5, 5, 5], "2%": [6, 5, 8]}[size]
    for draw in draws:
        assert np.bincount(y[draw]).tolist() == expected
        assert np.isin(draw, p.pool).all() and (np.diff(draw) > 0).all()
    judged = p.judged(7, len(y))
    assert set(judged) == set(range(len(y))) - set(np.concatenate(draws[:7]).tolist())


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [((760, 760, 740), [8, 8, 8]), ((300, 900), [3, 9]), ((30, 900), [1, 9]), ((149, 151), [2, 2])],
)
def test_a_share_takes_the_same_of_classes_that_are_nearly_of_one_size(sizes, expected):
    p = plan(np.repeat(np.arange(len(sizes)), sizes), "1%")
    assert p.counts.tolist() == expected and p.shots == tuple(sorted({min(expected), max(expected)}))


def test_draws_overlap_where_the_pool_is_small():
    y = np.repeat([0, 1], (40, 60))  # pools of 20 and 30
    p = plan(y, "5")
    assert not p.disjoint and p.first == 10 and p.most == MOST_DRAWS
    assert p.overlap.share == pytest.approx((1 / 20 + 1 / 30) / (1 / 5 + 1 / 5))
    assert p.overlap.df == pytest.approx((1 / 20 + 1 / 30) ** 2 / (1 / 20**2 / 19 + 1 / 30**2 / 29))
    draws = p.rows(10)
    assert len({draw.tobytes() for draw in draws}) == 10
    assert all(np.bincount(y[draw]).tolist() == [5, 5] and np.isin(draw, p.pool).all() for draw in draws)
    assert set(p.judged(10, 100)) == set(range(100)) - set(p.pool.tolist())
    assert plan(y, "4").disjoint  # five disjoint draws are enough


def test_a_class_of_few_rows_decides_what_pools_add():
    """By all rows of the pool ρ was 0.04 here, and intervals covered 63 to 72 %."""
    p = plan(np.repeat([0, 1], (400, 10)), "4")  # pools of 200 and 5
    assert p.overlap.share == pytest.approx((1 / 200 + 1 / 5) / (2 / 4))
    assert p.overlap.factor(10) == pytest.approx(1 / 10 + (1 / 200 + 1 / 5) / (2 / 4 - 1 / 200 - 1 / 5))
    assert 3 < p.overlap.degrees(10) < 4 < p.overlap.df < 5
    assert DISJOINT.degrees(10) == 9 and DISJOINT.factor(10) == 1 / 10
    assert Overlap.of(np.array([2.0]), np.array([2.0])).share == 1


def test_draws_are_those_of_the_ids_whatever_the_order_and_the_numbers_of_classes():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], (80, 90, 70))
    ids = np.array([f"image {i}" for i in range(240)])
    turned = rng.permutation(240)
    for size, groups in (("5", None), ("12", None), ("5", np.arange(240) // 4)):
        one = plan(y, size, groups, ids)
        other = plan(2 - y[turned], size, None if groups is None else groups[turned], ids[turned])
        assert one.disjoint == other.disjoint
        for a, b in zip(one.rows(5), other.rows(5), strict=True):
            assert sorted(ids[a]) == sorted(ids[turned][b])
        assert any(
            sorted(ids[a]) != sorted(ids[b])
            for a, b in zip(one.rows(5), plan(y, size, groups, ids, seed=1).rows(5), strict=True)
        )


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("size", ["3", "14"])
def test_a_group_belongs_to_one_draw_or_is_judged(mixed, size):
    _, y, _, _, groups, _ = grouped(mixed)
    p = plan(y, size, groups)
    draws = p.rows(p.first)
    assert all(np.bincount(y[draw]).tolist() == [int(size)] * 3 for draw in draws)
    judged = set(groups[p.judged(p.first, len(y))])
    assert judged and judged.isdisjoint(groups[p.pool if not p.disjoint else np.concatenate(draws)])
    if p.disjoint:
        of = [set(groups[draw]) for draw in draws]
        assert sum(map(len, of)) == len(set.union(*of))
    else:
        assert 0 < p.overlap.share < 1


def test_folds_of_a_draw():
    y = np.repeat([0, 1, 2], (5, 7, 1))
    keys = sample_keys([f"{i}" for i in range(13)])
    fold, n, cut = fold_rows(keys, y, None)
    assert n == 5 and not cut
    # one row of a class in each fold; two of the second are in none, the row of the third is in one of them
    assert np.bincount(fold[y == 0]).tolist() == [1] * 5 and np.bincount(fold[y == 1]).tolist() == [1] * 5 + [2]
    assert fold[12] < 5
    turned = np.random.default_rng(0).permutation(13)
    assert np.array_equal(fold_rows(keys[turned], 2 - y[turned], None)[0], fold[turned])
    for shots, folds in ((2, 2), (3, 3), (4, 4), (6, 6), (7, 7), (8, 4), (9, 3), (11, 5), (13, 6), (30, 5)):
        each = np.repeat([0, 1], shots)
        fold, n, _ = fold_rows(sample_keys([f"{i}" for i in range(2 * shots)]), each, None)
        assert n == folds
        assert all((np.bincount(fold[each == c], minlength=n)[:n] == shots // n).all() for c in (0, 1))
    groups = np.array([0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 3, 3, 4])
    fold, n, cut = fold_rows(keys, y, groups)
    assert n == 5 and cut  # the last class has one group
    assert np.array_equal(fold, fold_rows(keys, y, None)[0])
    fold, n, cut = fold_rows(keys[:12], y[:12], groups[:12])
    assert n == 2 and not cut and all(len(set(fold[groups[:12] == g])) == 1 for g in range(4))
    # the larger group of each class is in the first fold
    turned = np.random.default_rng(0).permutation(12)
    again, _, _ = fold_rows(keys[turned], 1 - y[turned], groups[turned])
    assert np.array_equal(again, fold[turned])
    assert [fold[groups[:12] == g][0] for g in range(4)] == [0, 1, 1, 0]
    assert fold_rows(keys[:3], np.arange(3), None)[1] == 0


# --- against the reference


def folds_of(result, x, y, groups=None):
    """Folds inside each draw, as the package deals them, and how many there are."""
    found = []
    for draw in result.outcomes.draws:
        keys = sample_keys([str(i) for i in draw.tolist()], 0)
        folds, n_folds, _ = fold_rows(keys, y[draw], None if groups is None else groups[draw])
        found.append(folds)
    return found, n_folds


def check(shot, drawn, theirs, exact):
    if exact:
        assert np.array_equal(shot.outcomes.wrong_train, drawn.wrong_j)
        assert np.array_equal(shot.outcomes.wrong_test, drawn.wrong_te)
    for name in QUANTITIES:
        e, v, r = shot.estimates[name], shot.variances[name], theirs[name]
        # without exact outcomes a few rows of each draw lie on the other side of a boundary
        close = {"abs": 1e-9} if exact else {"abs": 0.25 * math.sqrt(r.variance)}
        assert e.estimate == pytest.approx(r.estimate, **close), name
        assert (e.low, e.high) == (
            pytest.approx(r.low, abs=2 * close["abs"]),
            pytest.approx(r.high, abs=2 * close["abs"]),
        )
        if exact:
            assert (v.between, v.interaction, v.rows, v.total, e.df) == pytest.approx(
                (r.between, r.interaction, r.rows, r.variance, r.df), rel=1e-9
            ), name


@pytest.mark.parametrize(
    ("probe", "name", "shots", "draws"),
    [
        ("ridge", "plain", "3,16,4%", 8),
        ("ridge", "unequal", "3,16,4%", 8),
        ("ridge", "more features than rows", "3,16,4%", 8),
        ("logistic", "plain", "3", 6),
        ("logistic", "unequal", "16", 6),
        ("logistic", "more features than rows", "4", 6),
    ],
)
def test_against_the_reference(probe, name, shots, draws):
    x, y, xt, yt = world(name)
    result = decompose(x, y, xt, yt, probe=probe, shots=shots, draws=draws, n_threads=1, tol=1e-7, midpoint=False)
    assert probe == "logistic" or {shot.overlap.share > 0 for shot in result.shots} == {False, True}
    for shot in result.shots:
        drawn = reference.probes_of_draws(
            x, y, xt, yt, list(shot.outcomes.draws), *folds_of(shot, x, y), shot.outcomes.judged, probe=probe
        )
        tuned = [p.value for p in shot.penalties]
        # a grid that ends early, and rows on the boundary of a fold, may choose another penalty of like errors
        same = np.isclose(tuned, drawn.alphas)
        assert same.mean() >= 0.75, (tuned, drawn.alphas)
        theirs = reference.shot_estimates(
            drawn, y, yt, shot.outcomes.judged, result.judgements.af.wrong.astype(float), overlap=astuple(shot.overlap)
        )
        check(shot, drawn, theirs, exact=probe == "ridge" and same.all())


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("size", ["3", "24"])
def test_intervals_by_group_against_the_reference(mixed, size):
    x, y, xt, yt, g, gt = grouped(mixed)
    result = decompose(x, y, xt, yt, groups=(g, gt), probe="ridge", shots=size, draws=6, n_threads=1)
    (shot,) = result.shots
    drawn = reference.Drawn(shot.outcomes.wrong_train, shot.outcomes.wrong_test, [])
    theirs = reference.shot_estimates(
        drawn, y, yt, shot.outcomes.judged, result.judgements.af.wrong.astype(float),
        overlap=astuple(shot.overlap), groups=(g, gt),
    )  # fmt: skip
    check(shot, drawn, theirs, exact=True)
    assert shot.estimates["risk_us"].n_groups == 30
    assert ("class_mix" in shot.estimates) == mixed


# --- the result


def test_components_at_each_size_sum_to_its_risk(small):
    for shot in small.shots:
        parts = sum(shot.estimate(name) for name in small.component_names)
        assert parts == pytest.approx(shot.estimate("agg_risk"), abs=1e-12)
        assert shot.estimates["approx_usability"] is small.estimates["approx_usability"]
        assert shot.estimates["risk_af"] is small.estimates["risk_af"]
    assert [shot.size.name for shot in small.shots] == ["3", "8"]  # few labels first
    errors = [shot.estimate("agg_risk") for shot in small.shots] + [small.estimate("agg_risk")]
    assert errors == sorted(errors, reverse=True)


def test_a_twin_splits_usability_at_every_size():
    x, y, xt, yt = world("plain")
    result = decompose(x, y, xt, yt, supervised=x[:, :6], probe="ridge", shots="3", n_threads=1)
    (shot,) = result.shots
    assert {"approx", "usability", "risk_sup"} <= set(shot.estimates)
    parts = sum(shot.estimate(name) for name in result.component_names)
    assert parts == pytest.approx(shot.estimate("agg_risk"), abs=1e-12)


def test_no_probe_meets_a_row_that_any_probe_was_fitted_on(small):
    for shot in small.shots:
        assert not set(shot.outcomes.judged.tolist()) & set(shot.outcomes.draws.ravel().tolist())
        assert shot.outcomes.wrong_train.shape == (shot.draws, shot.judged_train)


@pytest.mark.parametrize("grouped", [False, True])
def test_probes_are_judged_on_a_sample_where_many_rows_were_in_no_draw(monkeypatch, grouped):
    x, y = rows(2400, 4, 6, seed=3)
    groups = (np.arange(2000) // 8, 1000 + np.arange(400) // 8) if grouped else None
    ids = np.random.default_rng(0).permutation(2400).astype(str)
    given = (x[:2000], y[:2000], x[2000:], y[2000:])
    options = {"probe": "ridge", "shots": 5, "draws": 10, "sample_ids": ids, "groups": groups}
    everyone = decompose(*given, **options).shots[0]
    monkeypatch.setattr(fewshot, "MOST_JUDGED", 400)
    found = decompose(*given, **options)
    shot = found.shots[0]
    judged = shot.outcomes.judged
    assert abs(len(judged) - 400) <= 8 and shot.judged_train == len(judged) < everyone.judged_train
    assert not np.isin(judged, shot.outcomes.draws).any() and np.isin(judged, everyone.outcomes.judged).all()
    assert np.ptp(np.bincount(y[judged])) <= 1
    place = np.searchsorted(everyone.outcomes.judged, judged)
    assert np.array_equal(shot.outcomes.wrong_train, everyone.outcomes.wrong_train[:, place])  # the same probes
    for name in ("risk_as", "probe_gen", "enc_gen"):
        e, whole = shot.estimates[name], everyone.estimates[name]
        assert abs(e.estimate - whole.estimate) < 3 * e.se and e.se >= whole.se
    assert shot.estimates["risk_us"].estimate == everyone.estimates["risk_us"].estimate
    if grouped:  # none of which is in a draw
        assert not np.isin(groups[0][judged], groups[0][shot.outcomes.draws.ravel()]).any()
    again = decompose(*(a[::-1] for a in given[:2]), *given[2:], probe="ridge", shots=5, draws=10,
                      sample_ids=[*ids[:2000][::-1], *ids[2000:]],
                      groups=None if groups is None else (groups[0][::-1], groups[1]))  # fmt: skip
    assert set(ids[:2000][::-1][again.shots[0].outcomes.judged]) == set(ids[judged])  # by ids, not by order


def test_a_sample_of_large_groups_keeps_every_class(monkeypatch):
    """Groups of one class that are larger than its share of the sample: parts of them will do."""
    x, y = rows(2400, 4, 6, seed=3)
    order = np.argsort(y[:2000], kind="stable")
    groups = np.empty(2000, int)
    groups[order] = np.arange(2000) // 50
    given = (x[:2000], y[:2000], x[2000:], y[2000:])
    options = {"probe": "ridge", "shots": 50, "draws": 4, "groups": (groups, 1000 + np.arange(400) // 8)}
    everyone = decompose(*given, **options).shots[0]
    monkeypatch.setattr(fewshot, "MOST_JUDGED", 80)
    shot = decompose(*given, **options).shots[0]
    assert np.bincount(y[shot.outcomes.judged]).tolist() == [20] * 4
    e, whole = shot.estimates["risk_as"], everyone.estimates["risk_as"]
    assert abs(e.estimate - whole.estimate) < 3 * e.se and not np.isnan(e.low)


def test_draws_are_added_while_their_spread_decides(small):
    few = next(shot for shot in small.shots if shot.size.name == "3")
    assert few.draws == MOST_DRAWS
    v = few.variances["risk_us"]
    assert v.between / 10 > v.rows / 4  # with ten draws it would have decided
    fixed = decompose(*world("plain"), probe="ridge", shots="3", draws=4, n_threads=1).shots[0]
    assert fixed.draws == 4
    # the first draws are the same, and so is what their probes do
    assert np.array_equal(fixed.outcomes.draws, few.outcomes.draws[:4])
    assert np.array_equal(fixed.outcomes.wrong_test, few.outcomes.wrong_test[:4])
    kept = np.isin(fixed.outcomes.judged, few.outcomes.judged)
    assert np.array_equal(fixed.outcomes.wrong_train[:, kept], few.outcomes.wrong_train[:4])


def test_side_by_side_gives_what_one_after_the_other_gives(small):
    other = decompose(*world("plain"), probe="ridge", shots="8,3", n_threads=2)
    for a, b in zip(small.shots, other.shots, strict=True):
        assert np.array_equal(a.outcomes.wrong_test, b.outcomes.wrong_test)
        assert [p.value for p in a.penalties] == [p.value for p in b.penalties]


def test_large_fits_run_one_after_the_other_with_all_threads(small, monkeypatch):
    monkeypatch.setattr(fewshot, "SIDE_BY_SIDE", 0)
    monkeypatch.setattr(fewshot, "JUDGED_BYTES", 16 * 480 * 3)  # three probes at once
    events = []
    other = decompose(*world("plain"), probe="ridge", shots="8,3", n_threads=2, report=events.append)
    for a, b in zip(small.shots, other.shots, strict=True):
        assert np.array_equal(a.outcomes.draws, b.outcomes.draws)
        # sums of two threads differ in the last digits: a row or two on a boundary
        assert (a.outcomes.wrong_test != b.outcomes.wrong_test).mean() < 0.005
    assert any(event.stage == "fit" and event.detail.startswith("3_draw_0") for event in events)


def test_costly_sizes_tune_on_one_fold_and_say_so(monkeypatch):
    monkeypatch.setattr(fewshot, "ONE_FOLD_PRODUCTS", 0)
    (shot,) = decompose(*world("plain"), shots="4", draws=3, n_threads=1, midpoint=False).shots
    assert (shot.folds, shot.folds_judged) == (4, 1)
    assert [note.code for note in shot.notes] == ["draws_one_fold"]
    assert all(sum(p.errors) <= 4 * len(p.errors) for p in shot.penalties)  # of the four rows of one fold


def test_an_interrupt_ends_the_fits(small):
    seen = []

    def report(event):
        seen.append(event)
        if "draw" in event.detail:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        decompose(*world("plain"), probe="ridge", shots="3", n_threads=2, report=report)
    assert sum("draw" in event.detail for event in seen) == 1


def test_features_of_a_bank_give_the_same_numbers(tmp_path, small):
    x, y, xt, yt = world("plain")
    n = len(x) + len(xt)
    samples = pl.DataFrame(
        {
            "row": np.arange(n, dtype=np.uint64),
            "split": ["train"] * len(x) + ["test"] * len(xt),
            "sample_id": [str(i) for i in range(n)],
            "label": np.concatenate([y, yt]).astype(np.int64),
        }
    )
    header = {"data_fingerprint": "anything", "class_names": [str(c) for c in range(4)]}
    bank = FeatureBank.create(tmp_path / "bank", header, samples, n_features=x.shape[1], dtype="float32")
    with bank.writer() as writer:
        writer.append(np.arange(n, dtype=np.uint64), np.vstack([x, xt]))
    result = decompose(FeatureBank.open(tmp_path / "bank"), probe="ridge", shots="8,3", n_threads=1)
    for ours, theirs in zip(result.shots, small.shots, strict=True):
        assert np.array_equal(ours.outcomes.draws, theirs.outcomes.draws)
        assert repr(ours.estimates) == repr(theirs.estimates)


def test_one_shot_is_not_tuned_and_says_so():
    result = decompose(*world("plain"), probe="ridge", shots="1", draws=5, n_threads=1)
    (shot,) = result.shots
    assert {p.value for p in shot.penalties} == {1.0} and shot.penalties[0].inside is None
    assert shot.tuning_fits == 0 and [note.code for note in shot.notes] == ["draws_untuned"]


def test_auto_takes_what_the_data_allow_and_says_what_not():
    result = decompose(*world("plain"), probe="ridge", shots="auto", n_threads=1)
    assert [shot.size.name for shot in result.shots] == ["3", "5", "30"]
    left = [note for note in result.notes if note.code == "shots_left_out"]
    assert len(left) == 1 and left[0].sentence().startswith("Few-shot size 1 % is left out: it is one row")
    assert AUTO_SHOTS == "1%,30,5,3"


# --- bad input


@pytest.mark.parametrize(
    ("shots", "says"),
    [
        ("0", "few-shot size 0: a probe needs at least one row of each class"),
        ("-3", "few-shot size '-3' is neither"),
        ("five", "few-shot size 'five' is neither"),
        ("x%", "few-shot size 'x%' is neither"),
        ("0%", "a share must lie between 0 and 50 %"),
        ("60%", "a share must lie between 0 and 50 %"),
        ("nan%", "a share must lie between 0 and 50 %"),
        ("5,5", "few-shot size 5 is given twice"),
        ("", "few-shot size '' is neither"),
        ([], "no few-shot size is given"),
    ],
)
def test_sizes_that_are_none(shots, says):
    with pytest.raises(ParameterError, match=says):
        decompose(*world("plain"), probe="ridge", shots=shots)


def test_sizes_are_parsed():
    assert parse_shots("1%, 30,5") == (ShotSize(share=0.01), ShotSize(shots=30), ShotSize(shots=5))
    assert parse_shots([3, "0.5%"])[1].title == "0.5 %"
    assert parse_shots(1)[0].title == "1 shot"


def test_a_class_with_fewer_rows_than_shots_is_named_before_any_fit():
    x, y, xt, yt = world("unequal")  # 60 rows of the last class
    events = []
    says = r"40 shots: class 2 has 60 training rows, and draws come from half of them \(30 rows\), fewer than 40; "
    with pytest.raises(ParameterError, match=says + "ask for at most 30 shots"):
        decompose(x, y, xt, yt, probe="ridge", shots="3,40", report=events.append)
    assert not events
    with pytest.raises(ParameterError, match="half of the training rows is just one draw"):
        decompose(*world("plain"), probe="ridge", shots="60")
    y = y.copy()
    y[-1] = 3
    with pytest.raises(ParameterError, match=r"class 3 has 1 training rows.*give more rows of it"):
        decompose(x, y, xt, yt, probe="ridge", shots="3")


def test_groups_that_do_not_suffice():
    x, y, xt, yt, _, _ = grouped(False)
    with pytest.raises(ParameterError, match="at least two groups"):
        decompose(x, y, xt, yt, groups=(["a"] * len(x), ["b"] * len(xt)), probe="ridge", shots="3")
    ten = np.arange(len(y)) // 60  # ten groups of all classes
    with pytest.raises(ParameterError, match="whole groups"):
        decompose(x, y, xt, yt, groups=(ten, [f"t{i}" for i in range(len(yt))]), probe="ridge", shots="150")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"shots": "5", "draws": 1}, "1 draw of few-shot rows cannot show how much draws differ"),
        ({"shots": "5", "draws": 0}, "0 draws of few-shot rows"),
        ({"draws": 5}, "give --shots as well"),
        ({"labels_for": (0.1,)}, "give --shots as well"),
        ({"shots": "5", "labels_for": (1.5,)}, "an error of 150 %"),
        ({"shots": "5", "labels_for": (math.nan,)}, "an error of nan %"),
        ({"shots": "5", "protocol": "paper"}, "--protocol paper fixes shots"),
    ],
)
def test_options_that_do_not_go_together(options, says):
    with pytest.raises(ParameterError, match=says):
        Settings(**options)


@pytest.mark.parametrize("probe", ["ridge", "logistic"])
def test_a_value_that_is_not_finite_is_named_by_its_row(probe):
    x, y, xt, yt = world("plain")
    x[17, 3] = np.nan
    with pytest.raises(ParameterError, match="row 17"):
        decompose(x, y, xt, yt, probe=probe, shots="3")


def test_two_draws_are_enough_and_marked():
    (shot,) = decompose(*world("plain"), probe="ridge", shots="3", draws=2, n_threads=1).shots
    assert shot.draws == 2 and shot.estimates["risk_us"].df >= 1
    assert shot.estimates["risk_us"].low < shot.estimates["risk_us"].high


# --- records


def test_a_run_comes_back_and_every_number_can_be_computed_again(tmp_path, small):
    folder = small.save(tmp_path / "r")
    loaded = Run.load(folder)
    (back,) = loaded.decompositions
    assert str(loaded) == str(Run.of(small)) and loaded._repr_html_() == Run.of(small)._repr_html_()
    assert repr(back.label_curve) == repr(small.label_curve)
    assert len(back.shots) == 2
    for ours, theirs in zip(back.shots, small.shots, strict=True):
        for name in ("size", "labels", "shots", "draws", "overlap", "pool", "penalties", "fits", "notes", "variances"):
            assert getattr(ours, name) == getattr(theirs, name), name
        assert repr(ours.estimates) == repr(theirs.estimates)
        for name, array in theirs.outcomes.to_arrays().items():
            assert np.array_equal(ours.outcomes.to_arrays()[name], array), name
        crossed = Crossed(back.judgements, ours.outcomes, overlap=ours.overlap)
        again, variances = crossed.estimates(back.estimates, back.method.confidence)
        assert repr(again) == repr(dict(theirs.estimates)) and variances == theirs.variances


def test_the_folder_has_the_rows_of_each_draw(tmp_path, small):
    folder = small.save(tmp_path / "r")
    draws = pl.read_parquet(folder / "draws_0_ridge.parquet")
    assert draws.columns == ["shots", "draw", "row", "sample_id", "class"]
    assert draws.equals(draws_frame(small))
    y = world("plain")[1]
    one = draws.filter((pl.col("shots") == "8") & (pl.col("draw") == 2))
    rows_of = one["row"].to_numpy()
    assert rows_of.tolist() == small.shots[1].outcomes.draws[2].tolist()
    assert one["sample_id"].to_list() == [str(i) for i in rows_of]
    assert one["class"].to_list() == [str(c) for c in y[rows_of]]


def test_frames_have_every_size(small):
    frame = Run.of(small).frame()
    for shot in small.shots:
        own = frame.filter(pl.col("shots") == shot.size.name)
        assert dict(zip(own["quantity"], own["estimate"], strict=True)) == {
            n: e.estimate for n, e in shot.estimates.items()
        }
    assert frame.filter(pl.col("shots").is_null()).height == len(small.estimates)


def test_runs_without_few_shot_results_are_read(tmp_path):
    whole = decompose(*world("plain"), probe="ridge", n_threads=1)
    folder = whole.save(tmp_path / "r")
    assert sorted(p.name for p in folder.iterdir()) == ["outcomes.npz", "results.parquet", "run.json"]
    document = json.loads((folder / "run.json").read_text())
    del document["sha256"]
    for d in document["decompositions"]:  # as an earlier release wrote it
        del d["shots"], d["label_curve"]
    (folder / "run.json").write_text(json.dumps(document))
    (back,) = Run.load(folder).decompositions
    assert back.shots == () and back.label_curve is None


def test_the_table_says_each_size_and_each_prediction_once(small):
    table = str(Run.of(small))
    lines = table.splitlines()
    (head,) = [i for i, line in enumerate(lines) if line.split()[:2] == ["labels", "total"]]
    assert max(map(len, lines[head : head + 4])) < 80  # it fits a terminal as it is
    for shot in small.shots:
        (line,) = [line for line in lines if line.strip().startswith(shot.size.title) and "[" in line]
        assert f"{100 * shot.estimate('agg_risk'):.2f}" in line
    assert sum("Twice the labels" in line for line in lines) == 3
    assert "Twice the labels, 480 → 960" in table and "an extrapolation" in table
    assert "Back-test: each size predicted from the others" in table
    for need in small.label_curve.needed:
        assert f"An error of {100 * need.error:g} % needs about" in table


def test_the_table_counts_few_shot_fits_and_says_which_missed(small):
    table = str(Run.of(small))
    count = sum(shot.tuning_fits + shot.draws for shot in small.shots)
    assert f"✓ {count} few-shot fits reached their tolerance" in table and small.converged
    missed = replace(small, shots=(replace(small.shots[0], tuning_missed=2), small.shots[1]))
    assert not missed.converged
    assert f"✗ 2 of {count} few-shot fits missed their tolerance" in str(Run.of(missed))


def test_twice_the_labels_is_told_by_size_and_without_a_rise(small):
    curve = small.label_curve
    last, first = curve.doublings[-1], curve.doublings[0]
    up = replace(last, change=0.01, low=-0.02, high=0.04, extrapolates=True)
    twice = replace(small, label_curve=replace(curve, doublings=(first, replace(first, name="5 %"), up)))
    said = list(forecast_sentences(twice))
    assert f"({first.name}): " in said[0] and "(5 %): " in said[1]
    assert said[2].endswith("an extrapolation that cannot tell whether they lower it.") and "(" not in said[2]


def test_the_table_says_where_the_draws_penalties_lie(small):
    first = small.shots[0]
    grid = (0.1, 1.0, 10.0)
    penalties = [
        replace(first.penalties[0], value=v, grid=grid, errors=(1, 1, 1), rows=(), inside=v == 1.0) for v in grid
    ]

    def said(*penalties):
        return " ".join(str(Run.of(replace(small, shots=(replace(first, penalties=penalties),)))).split())

    weak, inside, strong = penalties
    assert "✓ the tuned penalties of 2 of 2 draws are inside their grids ✓ the tuned penalty of all rows" in said(
        inside, inside
    )
    assert (
        "✓ the tuned penalties of 1 of 4 draws are inside their grids, 2 at the strong end, beyond which predictions "
        "stay the same, 1 at the weak end"
    ) in said(inside, strong, strong, weak)
    assert "✗ the tuned penalties of 0 of 2 draws are inside their grids, 2 at the weak end" in said(weak, weak)


def test_the_same_draws_are_one_point_of_the_curve():
    result = decompose(*world("plain"), probe="ridge", shots="3,2.5%,9", draws=5, n_threads=1)
    three, share, _ = sorted(result.shots, key=lambda shot: (shot.labels, shot.size.name != "3"))
    assert np.array_equal(three.outcomes.draws, share.outcomes.draws)
    assert [point.labels for point in result.label_curve.points] == [12, 36, 480]


def test_the_control_is_not_decomposed_at_each_size():
    x, y, xt, yt = world("plain")
    result = decompose(x, y, xt, yt, control=(x[:, :3], xt[:, :3]), probe="ridge", shots="3", draws=4, n_threads=1)
    assert result.shots and result.control.shots == ()


# --- the curve


def measured(labels, errors, se=0.002, shared=0.0):
    labels, errors = np.array(labels, float), np.array(errors, float)
    covariance = np.diag(np.full(len(labels), se**2)) + shared**2 * np.outer(errors, errors)
    return Measured(labels, errors, covariance, tuple(f"{n:g}" for n in labels), np.zeros(len(labels), bool))


def power(n, a=2.0, b=-0.3):
    return a * np.asarray(n, float) ** b


def curve_of(m, **options):
    return label_curve(m, **{"confidence": 0.95, "n_classes": 10, **options})


def test_the_curve_goes_through_what_was_measured_without_noise():
    sizes = [30, 50, 300, 3000]
    m = measured(sizes, power(sizes), se=1e-6)
    mean, covariance = predict(m, np.array(sizes, float))
    np.testing.assert_allclose(np.exp(mean), power(sizes), rtol=1e-4)  # the noise is kept at a relative 1e-4
    assert np.sqrt(np.diag(covariance)).max() < 3e-4
    between, beyond = np.sqrt(np.diag(predict(m, np.array([900.0, 12000.0]))[1]))
    assert 3e-4 < between < beyond


def test_doubling_and_labels_needed_of_a_power_law():
    sizes = [30, 50, 130, 300, 3000]
    curve = curve_of(measured(sizes, power(sizes)), errors=(float(power(100)), float(power(20000)), 1e-4))
    for d, n in zip(curve.doublings, sizes, strict=True):
        truth = power(2 * n) - power(n)
        assert d.low <= truth <= d.high and d.change < 0
        assert d.extrapolates == (n == 3000)
    inside, beyond, never = curve.needed
    assert inside.low <= 100 <= inside.high and not inside.extrapolates and inside.high / inside.low < 1.5
    assert beyond.extrapolates and beyond.low <= 20000 and not beyond.high <= 20000
    assert math.isnan(never.labels) and never.extrapolates
    assert all(test.inside for test in curve.back_tests)
    assert [test.extrapolates for test in curve.back_tests] == [True, False, False, False, True]


def test_the_interval_widens_where_the_sizes_miss_their_predictions():
    sizes = [30, 60, 120, 240, 2000]
    straight = curve_of(measured(sizes, power(sizes)))
    uneven = curve_of(measured(sizes, power(sizes) * np.array([1, 1.3, 0.8, 1.2, 1])))
    assert straight.inflation == 1 and uneven.inflation > 1
    assert sum(t.inside for t in uneven.back_tests) >= 4
    for a, b in zip(uneven.doublings[3:], straight.doublings[3:], strict=True):  # twice 30, 60 and 120 is measured
        assert a.high - a.low > 2 * (b.high - b.low)


def test_an_error_that_falls_to_a_floor_is_followed():
    def error(n):
        return 0.12 + power(n, 8, -0.9)

    sizes = [30, 60, 120, 240, 2000]
    floor = curve_of(measured(sizes, error(sizes)))
    for d, n in zip(floor.doublings, sizes, strict=True):
        assert d.low <= error(2 * n) - error(n) <= d.high, n
    assert all(test.inside for test in floor.back_tests)


@pytest.mark.parametrize("sizes", [[100, 2000], [40, 2000]])
def test_two_sizes_alone_do_not_say_how_the_error_bends(sizes):
    def error(n):
        return 0.1 + 15 / np.asarray(n, float)

    two = curve_of(measured(sizes, error(sizes)))
    assert two.inflation == 6 and two.back_tests == ()
    for d, n in zip(two.doublings, sizes, strict=True):
        assert d.low <= error(2 * n) - error(n) <= d.high, n
    assert curve_of(replace(measured(sizes, error(sizes)), grouped=True)).inflation == 8


def test_draws_of_equal_shots_may_lie_beside_the_curve_of_all_rows():
    sizes = [30, 50, 300, 3000]
    beside = power(sizes) * np.array([0.85, 0.85, 0.85, 1])
    m = measured(sizes, beside)
    one = replace(m, equal=np.array([True, True, True, False]))
    two = replace(one, offset=0.15)
    last = [curve_of(each).doublings[2] for each in (one, two)]
    truth = 0.85 * (power(600) - power(300))
    assert abs(last[1].change - truth) < abs(last[0].change - truth)
    assert last[1].low <= truth <= last[1].high and last[1].high - last[1].low > last[0].high - last[0].low


def test_labels_that_come_in_whole_groups_have_wider_predictions():
    m = measured([30, 50, 300, 3000], power([30, 50, 300, 3000]))
    rows_alone, in_groups = curve_of(m), curve_of(replace(m, grouped=True))
    assert in_groups.inflation == 8 and rows_alone.inflation == 1
    for a, b in zip(rows_alone.doublings[1:], in_groups.doublings[1:], strict=True):
        assert b.high - b.low > 1.5 * (a.high - a.low)
    x, y, xt, yt, g, gt = grouped(False)
    result = decompose(x, y, xt, yt, groups=(g, gt), probe="ridge", shots="3,12", draws=6, n_threads=1)
    assert result.label_curve.inflation >= 8 and "Labels are counted in rows" in str(result)
    assert "Labels are counted in rows" not in str(decompose(*world("plain"), probe="ridge", shots="3", draws=3))


def test_noise_that_all_sizes_share_leaves_differences_alone():
    sizes = [30, 60, 300, 3000]
    alone = curve_of(measured(sizes, power(sizes), se=1e-4))
    common = curve_of(measured(sizes, power(sizes), se=1e-4, shared=0.05))
    for a, c in zip(alone.doublings, common.doublings, strict=True):
        # a common factor of 1 ± 0.05 moves a difference by 5 % of itself
        assert c.high - c.low < (a.high - a.low) + 4 * 0.06 * abs(a.change)


def test_two_sizes_give_a_line_without_a_back_test():
    curve = curve_of(measured([30, 3000], power([30, 3000])))
    assert curve.back_tests == () and len(curve.doublings) == 2
    result = decompose(*world("plain"), probe="ridge", shots="3", draws=3, n_threads=1)
    assert "There is no back-test of these predictions" in str(result)


def test_sizes_without_an_error_have_no_curve():
    x, y = rows(400, 2, 4, 0, spread=30.0)
    xt, yt = rows(100, 2, 4, 1, spread=30.0)
    result = decompose(x, y, xt, yt, probe="ridge", shots="3,5", n_threads=1)
    assert result.label_curve is None and "There is no curve of error against labels" in str(result)
    e = result.shots[0].estimates["risk_us"]
    assert e.estimate == 0 and e.high > 0  # no error among 100 rows is not certainty


def _said(*, disjoint=True, share=0.0, folds=5, judged=5, cut=False, uncovered=0, edge=0, fits=4, count=4, asked=None):
    """Notes of a size whose draws, folds and fits are as said."""
    plan = SimpleNamespace(size=ShotSize.parse("5"), disjoint=disjoint, overlap=Overlap(share, 9.0))
    made = [
        SimpleNamespace(
            penalty=SimpleNamespace(value=0.1 if i < edge else 1.0, grid=(0.1, 1.0, 10.0)),
            folds=folds,
            folds_judged=judged,
            cuts_groups=cut and i == 1,  # one draw is enough
        )
        for i in range(fits)
    ]
    return {n.code: n.sentence() for n in notes_of(plan, SimpleNamespace(uncovered=uncovered), made, count, asked)}


def test_what_is_said_of_the_draws_of_a_size():
    assert _said() == {} and _said(asked=4) == {}
    assert "4 draws overlap, each takes 40 % of it" in _said(disjoint=False, share=0.4)["draws_overlap"]
    assert "4 disjoint draws instead of 9" in _said(asked=9)["fewer_draws"]
    assert "fewer_draws" not in _said(asked=3)
    assert "one group only" in _said(cut=True)["draws_cut_groups"]
    assert "2 classes have no training row left" in _said(uncovered=2)["draws_uncovered"]
    assert "weakest of its grid in 3 of 4 draws" in _said(edge=3)["draws_at_edge"]
    assert "draws_at_edge" not in _said(edge=2)


def test_labels_are_told_for_errors_between_those_that_were_measured():
    measured = Measured(
        np.array([10.0, 100.0, 1000.0]),
        np.array([0.32, 0.24, 0.18]),
        1e-6 * np.eye(3),
        ("a", "b", "c"),
        np.zeros(3, bool),
    )
    found = label_curve(measured, confidence=0.95, n_classes=2)
    assert [n.error for n in found.needed] == [0.2, 0.25, 0.3]
    steep = replace(measured, errors=np.array([0.19, 0.12, 0.08]))
    assert [n.error for n in label_curve(steep, confidence=0.95, n_classes=2).needed] == [0.1, 0.15]


def test_fewer_labels_than_were_measured_are_an_extrapolation():
    measured = Measured(
        np.array([10.0, 100.0, 1000.0]), np.array([0.4, 0.2, 0.1]), 1e-6 * np.eye(3), ("a", "b", "c"), np.zeros(3, bool)
    )
    below, inside = label_curve(measured, confidence=0.95, n_classes=2, errors=[0.5, 0.15]).needed
    assert below.labels < 10 and below.extrapolates and not inside.extrapolates


def test_sizes_vary_by_their_test_rows_and_draws_at_least(small):
    """The noise of a size is no less than that of the test rows that all are judged on, and unequal classes count by
    their coefficient of variation."""
    result = decompose(*world("unequal"), probe="ridge", shots="5,20", draws=4, n_threads=1)
    found = measure(result.judgements, result.estimates["risk_us"], result.shots)
    counts = np.bincount(result.judgements.train_labels)
    assert found.offset == pytest.approx(0.3 * counts.std() / counts.mean())
    little = [
        replace(s, variances={**s.variances, "risk_us": replace(s.variances["risk_us"], total=1e-12)})
        for s in result.shots
    ]
    bare = measure(result.judgements, replace(result.estimates["risk_us"], se=1e-9), little)
    p = bare.errors
    assert (np.diag(bare.covariance) > 0.2 * p * (1 - p) / 160).all()


@pytest.mark.parametrize("size", ["50%", "0%"])
def test_half_of_the_rows_is_no_few_shot_size(size):
    with pytest.raises(ParameterError, match="must lie between 0 and 50 %"):
        ShotSize.parse(size)


def test_more_labels_that_help_are_not_said_to_help_nobody(small):
    curve = small.label_curve
    down = replace(curve.doublings[-1], change=-0.01, low=-0.03, high=0.02, extrapolates=True)
    (said, *_) = forecast_sentences(replace(small, label_curve=replace(curve, doublings=(down,))))
    assert said.endswith("-1.00 points of error [-3.00, +2.00], an extrapolation.")


def test_labels_that_cannot_be_told_are_said_with_what_is_known(small):
    curve = small.label_curve
    most = f"{100 * curve.points[-1].labels:,}"
    beyond = LabelsNeeded(0.01, math.nan, math.nan, math.nan, extrapolates=True)
    at_least = LabelsNeeded(0.02, math.nan, 1200.0, math.nan, extrapolates=True)
    found = list(
        forecast_sentences(replace(small, label_curve=replace(curve, doublings=(), needed=(beyond, at_least))))
    )
    assert found[0].startswith(f"An error of 1 % is not reached with {most} labels, as far as the curve can tell")
    assert found[1].startswith(f"An error of 2 % needs 1,200 labels or more; whether {most} suffice cannot be told")


def test_a_back_test_holds_within_both_ends():
    found = [BackTest("3", 30, measured, 0.2, 0.1, 0.3, False).inside for measured in (0.05, 0.2, 0.35)]
    assert found == [False, True, False]


def test_noise_that_all_sizes_share_does_not_widen_a_back_test():
    """What is on both sides is taken off."""
    sizes = [30, 60, 300, 3000]
    alone, common = (
        label_curve(measured(sizes, power(sizes), se=1e-4, shared=s), confidence=0.95, n_classes=10) for s in (0, 0.1)
    )
    for a, c in zip(alone.back_tests, common.back_tests, strict=True):
        assert c.high - c.low == pytest.approx(a.high - a.low, rel=0.02)


def test_a_size_of_equal_classes_is_doubled_along_their_own_curve():
    """And not along that of the shares of all rows."""
    sizes = [30, 50, 300, 3000]
    m = replace(
        measured(sizes, power(sizes) * np.array([0.85, 0.85, 0.85, 1])),
        equal=np.array([True, True, True, False]), offset=0.15,
    )  # fmt: skip
    curve = label_curve(m, confidence=0.95, n_classes=10)
    mean, _ = predict(m, np.array([50.0, 100.0]), curve.inflation, equal=True)
    assert curve.doublings[1].change == pytest.approx(np.diff(np.exp(mean))[0], rel=1e-9)
