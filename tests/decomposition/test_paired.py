"""Differences between encoders: against loops over rows, what they cancel, ranks, Holm, and what is refused."""

import math
from dataclasses import astuple, replace

import numpy as np
import pytest
import scipy.stats
from ssl_risk_rs import ParameterError
from ssl_risk_rs._inference import holm
from ssl_risk_rs.decomposition import compare, decompose
from ssl_risk_rs.decomposition.grading import FEW_DF, grade
from ssl_risk_rs.decomposition.paired import common_probes
from ssl_risk_rs.decomposition.variation import ProbeScores, contrast_variation, probe_variation
from ssl_risk_rs.report.comparison import render_comparison
from ssl_risk_rs.report.text import PLAIN
from ssl_risk_rs.results import NotComparableError, Provenance, Run
from ssl_risk_rs.results.compare import common_rows, rank_intervals
from ssl_risk_rs.results.estimate import Grade
from ssl_risk_rs.results.quantities import QUANTITIES
from ssl_risk_rs.results.record import ProbeVariation

COMPONENTS = ("approx_usability", "probe_gen", "enc_gen")
#: sums of at most 1,000 terms below 1
ROUNDING = 1000 * np.finfo(float).eps


def rows(n: int, seed: int, k: int = 4, d: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """n points around k centres that overlap."""
    y = np.arange(n) % k
    centres = np.random.default_rng(9).standard_normal((k, d))
    return (centres[y] + 1.2 * np.random.default_rng(seed).standard_normal((n, d))).astype(np.float32), y


@pytest.fixture(scope="module")
def data():
    return (*rows(600, 0), *rows(240, 1))


def of(data, columns, probe="ridge", **options):
    x, y, x_test, y_test = data
    return decompose(np.ascontiguousarray(x[:, columns]), y, np.ascontiguousarray(x_test[:, columns]), y_test,
                     probe=probe, n_threads=1, **options)  # fmt: skip


@pytest.fixture(scope="module")
def four(data):
    """Encoders that see ever less of the features."""
    return [of(data, slice(0, d), name=f"d{d}") for d in (8, 7, 5, 3)]


# --- the estimates


@pytest.mark.parametrize("probe", ["ridge", "logistic"])
def test_differences_are_those_of_the_estimates(data, probe):
    one, other = of(data, slice(0, 8), probe, name="a"), of(data, slice(0, 5), probe, name="b")
    found = compare([one, other])
    assert (found.baseline, found.probe, found.protocol, found.n_train, found.n_test) == (
        "a",
        probe,
        "strict",
        600,
        240,
    )
    for d in found.differences:
        assert d.estimate_baseline == pytest.approx(one.estimate(d.quantity), abs=ROUNDING)
        assert d.estimate == pytest.approx(other.estimate(d.quantity), abs=ROUNDING)
        assert d.difference == pytest.approx(d.estimate - d.estimate_baseline, abs=ROUNDING)
        assert d.low < d.difference < d.high and 0 <= d.p <= 1
    total = sum(found.difference("b", name).difference for name in COMPONENTS)
    assert total == pytest.approx(found.difference("b", "agg_risk").difference, abs=ROUNDING)


def independent_standard_error(one, other, quantity):
    """Root of the row variance of a difference, in loops over sets and classes."""
    a = one.judgements
    held = a.subset >= 0
    y, n = a.train_labels, len(a.train_labels)
    counts = np.bincount(y)

    def scores(result):
        j = result.judgements
        weight = np.zeros(n)
        for row in np.flatnonzero(held):
            inside = (j.subset == j.subset[row]) & (y == y[row])
            cells = len({int(s) for s, c in zip(j.subset, y, strict=True) if s >= 0 and c == y[row]})
            weight[row] = counts[y[row]] / n / (cells * inside.sum())
        f = j.at_alpha.wrong.astype(float)
        e = np.zeros(n)
        e[held] = j.held_out.wrong
        beta = result.beta
        risk_as = beta * f / n + weight * (e - beta * f)
        return {
            "risk_af": (j.af.wrong / n, None), "risk_as": (risk_as, None),
            "risk_us": (None, j.us.wrong / len(j.us.rank)),
            "risk_cs": (None, np.mean([o.wrong for o in j.cs], axis=0) / len(j.us.rank)),
        }, weight, e - beta * f, beta * f  # fmt: skip

    parts = [scores(one), scores(other)]
    variance = 0.0
    for name, chosen in (("sub", held), ("rest", ~held), ("te", None)):
        labels = a.test_labels if name == "te" else y[chosen]
        total = np.zeros(len(labels))
        for sign, (z, weight, u, bf) in zip((-1, 1), parts, strict=True):
            for risk, factor in QUANTITIES[quantity].weights.items():
                train, test = z[risk]
                values = test if name == "te" else None if train is None else train[chosen]
                if values is None:
                    continue
                for c in np.unique(labels):
                    own = labels == c
                    g = own.sum()
                    if name == "sub" and risk == "risk_as":  # weights differ inside a class
                        w, uu, ff = weight[chosen][own], u[chosen][own], bf[chosen][own]
                        phi = w * (uu - (w * uu).sum() / w.sum()) + (ff - ff.mean()) / n
                    else:
                        phi = values[own] - values[own].mean()
                    total[own] += sign * factor * phi * np.sqrt(g / (g - 1))
        variance += (total**2).sum()
    return math.sqrt(variance)


def without_held_folds(result):
    """As an older record, which takes both errors of a probe to move alike: they cancel in encoder generalization."""
    return replace(result, judgements=replace(result.judgements, fold_margins_held=None))


@pytest.mark.parametrize("quantity", ["approx_usability", "enc_gen", "enc_gen_equal_labels", "label_count"])
def test_standard_errors_are_those_of_a_loop_over_rows(four, quantity):
    """Without a part for the probe's own variation; the strata, weights and centring are the same."""
    found = compare([without_held_folds(four[0]), without_held_folds(four[2])]).difference("d5", quantity)
    assert found.se == pytest.approx(independent_standard_error(four[0], four[2], quantity), rel=1e-9)


def test_the_interval_is_t_with_guards(four):
    d = compare([without_held_folds(four[0]), without_held_folds(four[2])]).difference("d5", "enc_gen")
    n_test, n_held = 240, int((four[0].judgements.subset >= 0).sum())
    half = 1.959964 * math.sqrt(d.se**2 + 1 / n_test**2 + 1 / n_held**2)
    assert d.df == math.inf and (d.high - d.low) / 2 == pytest.approx(half, rel=1e-6)
    t = d.difference / (half / 1.959964)
    assert d.p == pytest.approx(2 * scipy.stats.norm.sf(abs(t)), rel=1e-5)
    assert d.better == pytest.approx(scipy.stats.norm.cdf(-t), rel=1e-5)
    u = compare([four[0], four[3]], confidence=0.9).difference("d3", "agg_risk")
    assert u.df < math.inf  # the probes' own variation is estimated from few of them
    half = scipy.stats.t.ppf(0.95, u.df) * math.sqrt(u.se**2 + 1 / n_test**2)
    assert (u.high - u.low) / 2 == pytest.approx(half, rel=1e-6)


def test_pairing_makes_intervals_shorter_than_two_separate_ones(four):
    d = compare(four[:2]).difference("d7", "agg_risk")
    apart = math.hypot(four[0].estimates["agg_risk"].se, four[1].estimates["agg_risk"].se)
    assert d.se < 0.8 * apart  # most rows are hard, or easy, for both


def test_the_probes_variation_is_that_of_their_differences(four):
    from ssl_risk_rs.decomposition.scores import RowScores

    one, other = four[3].judgements, four[2].judgements
    sets = RowScores(one, corrected=True, random_counts=False).sets
    units = sets["test"], sets["subset"]

    def varied(*judged):
        return contrast_variation([ProbeScores(j) for j in judged], (-1, 1), *units)

    assert varied(one, one)[0] == ProbeVariation(0, 0, 0)
    # an encoder whose probes never vary adds nothing: the other's own variation is left
    repeated = {
        name: np.repeat(getattr(other, name)[:1], len(other.fold_margins), axis=0)
        for name in ("fold_margins", "fold_margins_held")
    }
    (left, df), (alone, df_alone) = varied(one, replace(other, **repeated)), probe_variation(one, *units)
    assert astuple(left) == pytest.approx(astuple(alone), rel=1e-12) and df == df_alone
    assert alone.test > 0 and alone.both != alone.test
    # where the folds were judged on test rows only, or there are none, both errors are taken to move alike
    for name in ("fold_margins_held", "fold_margins"):
        bare = [replace(j, **{name: None}) for j in (one, other)]
        found, _ = varied(*bare)
        assert found.test == found.held == found.both and varied(one, bare[1])[0] == found
    alone = [replace(j, fold_margins=None, cs=j.cs[:1]) for j in (one, other)]
    assert not varied(*alone)[0].known


def test_what_the_intervals_do_not_hold_is_said(four):
    one, other = (
        replace(d, sizes=replace(d.sizes, subsets=1), judgements=replace(d.judgements, fold_margins=None,
                cs=d.judgements.cs[:1], subset=np.where(d.judgements.subset >= 0, 0, -1).astype(np.int8)))
        for d in (four[0], four[2])
    )  # fmt: skip
    assert [n.code for n in compare([one, other]).notes if n.code == "no_probe_variation"]
    assert not [n.code for n in compare([four[0], four[2]]).notes if n.code == "no_probe_variation"]


def test_an_encoder_does_not_differ_from_its_copy(data):
    one, copy = of(data, slice(0, 8), name="a"), of(data, slice(0, 8), name="b")
    found = compare([one, copy])
    for d in found.differences:
        assert d.identical and d.difference == 0 and d.p == 1 and d.better == 0.5 and d.p_holm is None
    assert {(r.rank, r.low, r.high) for r in found.ranks} == {(1, 1, 2)}  # a tie is a tie
    assert "equal on every row" in str(found)


def test_a_rotation_leaves_no_difference_beyond_rounding(data):
    x, y, x_test, y_test = data
    turn = np.linalg.qr(np.random.default_rng(3).standard_normal((8, 8)))[0].astype(np.float32)
    options = {"probe": "ridge", "scaling": "none", "n_threads": 1}  # standardizing sees the axes
    found = compare(
        [decompose(x, y, x_test, y_test, name="a", **options),
         decompose(x @ turn, y, x_test @ turn, y_test, name="b", **options)]
    )  # fmt: skip
    for d in found.differences:
        assert d.discordant <= 2 and d.low <= 0 <= d.high, d  # rows whose two best scores are equal in float32


# --- rows are matched by id, classes by name


def test_order_of_rows_and_of_classes_does_not_matter(data, tmp_path):
    x, y, x_test, y_test = data
    names = np.array(["cat", "dog", "ape", "zebra"])
    ids = [f"s{i}" for i in range(840)]
    b, b_test = np.ascontiguousarray(x[:, :5]), np.ascontiguousarray(x_test[:, :5])
    one = decompose(x, names[y], x_test, names[y_test], sample_ids=ids, probe="ridge", name="a")
    other = decompose(b, names[y], b_test, names[y_test], sample_ids=ids, probe="ridge", name="b")
    p, q = np.random.default_rng(0).permutation(600), np.random.default_rng(1).permutation(240)
    mixed = [ids[i] for i in p] + [ids[600 + i] for i in q]
    shuffled = decompose(b[p], names[y[p]], b_test[q], names[y_test[q]], sample_ids=mixed, probe="ridge", name="b")
    assert not np.array_equal(shuffled.judgements.train_labels, other.judgements.train_labels)
    plain, again = compare([one, other]), compare([one, shuffled])
    for d, e in zip(plain.differences, again.differences, strict=True):
        # fits of rows in another order: a row or two on a boundary of 240 may change sides
        assert d.difference == pytest.approx(e.difference, abs=2.5 / 240)
        assert d.se == pytest.approx(e.se, rel=0.1)
    # the outcomes themselves are brought into one order: the same run, its rows and classes renumbered
    turned = reordered(other, p, q, np.array([2, 0, 3, 1]))
    for d, e in zip(plain.differences, compare([one, turned]).differences, strict=True):
        assert (d.difference, d.se) == pytest.approx((e.difference, e.se), abs=1e-12)
    loaded = [Run.load(r.save(tmp_path / r.name)) for r in (one, other)]
    assert compare(loaded).differences == plain.differences


def reordered(result, p, q, classes):
    """A result whose rows are in another order, and whose class c is called classes[c]."""
    j = result.judgements
    place = np.argsort(classes)  # new number of each class

    def outcome(o, order):
        return replace(o, predicted=place[o.predicted[order]].astype(np.uint32), rank=o.rank[order],
                       loss=o.loss[order], margin=o.margin[order])  # fmt: skip

    held = np.flatnonzero(j.subset >= 0)
    held_order = [int(np.flatnonzero(held == row)[0]) for row in p if j.subset[row] >= 0]
    return replace(result, judgements=replace(
        j, class_names=tuple(j.class_names[c] for c in classes), train_ids=j.train_ids[p], test_ids=j.test_ids[q],
        train_labels=place[j.train_labels[p]].astype(np.uint32), test_labels=place[j.test_labels[q]].astype(np.uint32),
        subset=j.subset[p], fold=j.fold[p], af=outcome(j.af, p), at_alpha=outcome(j.at_alpha, p), us=outcome(j.us, q),
        held_out=outcome(j.held_out, held_order), held_out_floor=outcome(j.held_out_floor, held_order),
        cs=tuple(outcome(o, q) for o in j.cs), floor_on_test=outcome(j.floor_on_test, q),
        fold_margins=j.fold_margins[:, q], fold_margins_held=j.fold_margins_held[:, held_order],
        fold_ranks=j.fold_ranks[:, q], fold_ranks_held=j.fold_ranks_held[:, held_order],
        other_penalties=tuple(outcome(o, q) for o in j.other_penalties),
        other_penalties_held=tuple(outcome(o, held_order) for o in j.other_penalties_held),
    ))  # fmt: skip


@pytest.mark.parametrize("pure", [True, False])
def test_groups_are_the_units_where_there_are_groups(pure):
    rng = np.random.default_rng(4)
    groups, groups_test = np.repeat(np.arange(60), 10), np.repeat(np.arange(100, 130), 10)
    y, y_test = (groups % 3, groups_test % 3) if pure else (rng.integers(0, 3, 600), rng.integers(0, 3, 300))
    centres = rng.standard_normal((3, 6))
    moved = rng.standard_normal((200, 6))
    x, x_test = (
        (centres[c] + moved[g] + rng.standard_normal((len(c), 6))).astype(np.float32)
        for c, g in ((y, groups), (y_test, groups_test))
    )
    both = (groups.astype(str).tolist(), groups_test.astype(str).tolist())
    made = [decompose(np.ascontiguousarray(x[:, :d]), y, np.ascontiguousarray(x_test[:, :d]), y_test, groups=both,
                      probe="ridge", name=f"d{d}") for d in (6, 3)]  # fmt: skip
    found = compare(made)
    d = found.difference("d3", "agg_risk")
    assert found.n_groups == 30 and d.n_groups == 30 and d.df < 40 and "paired by group (30" in str(found)
    # every group's difference of mean errors, as if groups were rows: near the cluster standard error
    change = made[1].judgements.us.wrong.astype(float) - made[0].judgements.us.wrong
    by_group = change.reshape(30, 10).mean(1)
    assert d.se == pytest.approx(by_group.std(ddof=1) / math.sqrt(30), rel=0.3)  # strata, probe variation are in one
    ungrouped = decompose(x, y, x_test, y_test, probe="ridge", name="rows")
    with pytest.raises(NotComparableError, match="rows was cut without groups") as error:
        compare([made[0], ungrouped])
    assert error.value.field == "group"


# --- twins


def test_the_group_that_decides_a_difference_is_told_and_not_that_of_one_encoder():
    """All labels of test group 0 are wrong, for every encoder alike; group 3 is turned over for the second alone."""
    rng = np.random.default_rng(0)
    centres = 1.3 * rng.standard_normal((3, 6))
    groups, groups_test = np.repeat(np.arange(80), 20), np.repeat(np.arange(100, 140), 20)
    y, y_test = rng.integers(0, 3, 1600), rng.integers(0, 3, 800)
    x, x_test = ((centres[c] + rng.standard_normal((len(c), 6))).astype(np.float32) for c in (y, y_test))
    y_test[groups_test == 100] = (y_test[groups_test == 100] + 1) % 3

    def of_group(features: int, flipped: int | None = None):
        test = x_test[:, :features].copy()
        if flipped is not None:
            test[groups_test == flipped] *= -2
        train = np.ascontiguousarray(x[:, :features])
        return decompose(train, y, test, y_test, groups=(groups, groups_test), probe="ridge", n_threads=1)

    one, narrow, turned = of_group(6), of_group(5), of_group(6, flipped=103)
    assert "one_group_decides" in {note.code for note in one.notes}
    for pair in ([one, narrow], [narrow, one]):  # that group cancels
        codes = {note.code for note in compare(pair, names=["a", "b"]).notes}
        assert not codes & {"one_group_decides", "one_group_decides_difference"}
    shares = []
    for pair in ([one, turned], [turned, one]):
        notes = compare(pair, names=["a", "b"]).notes
        (note,) = (note for note in notes if note.code == "one_group_decides_difference")
        assert "difference of b's total" in note.sentence()
        shares.append(note.values["percent"])
    assert shares[0] == shares[1] and 60 < shares[0] < 100


def test_a_common_twin_cancels_and_a_missing_one_is_said(data):
    x, _, x_test, _ = data
    twin = {"supervised": x, "supervised_test": x_test}
    one, other = of(data, slice(0, 6), name="a", **twin), of(data, slice(0, 4), name="b", **twin)
    found = compare([one, other])
    assert found.difference("b", "approx").identical and not found.difference("b", "usability").identical
    # usability differs by R_AF alone
    alone = compare([of(data, slice(0, 6), name="a"), of(data, slice(0, 4), name="b")])
    assert found.difference("b", "usability").se == pytest.approx(alone.difference("b", "approx_usability").se)
    mixed = compare([one, of(data, slice(0, 4), name="b")])
    assert {d.quantity for d in mixed.differences} >= set(COMPONENTS)
    assert [n.code for n in mixed.notes if n.code == "compared_without_twin"]
    assert "there is no supervised twin of b" in str(mixed)


# --- several encoders


def test_holm_is_that_of_the_definition(rng):
    p = rng.random(7).tolist()
    adjusted, order, highest = holm(p), np.argsort(p), 0.0
    for place, i in enumerate(order):
        highest = max(highest, min(1, (7 - place) * p[i]))
        assert adjusted[i] == highest
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06]) and holm([]) == []


def test_ranks_share_ties_and_exclude_only_what_is_found():
    apart = np.zeros((4, 4), bool)
    apart[0, 2] = apart[0, 3] = apart[1, 3] = True
    assert rank_intervals([0.1, 0.1, 0.2, 0.3], apart) == [(1, 1, 2), (1, 1, 3), (3, 2, 4), (4, 3, 4)]
    with pytest.raises(ParameterError, match=r"need an array \(2, 2\)"):
        rank_intervals([0.1, 0.2], apart)


def test_p_values_are_corrected_over_all_components_and_encoders(four):
    found = compare(four)
    family = [d for d in found.differences if d.quantity in (*COMPONENTS, "agg_risk")]
    assert len(family) == 12 and [d.p_holm for d in family] == holm([d.p for d in family])
    assert all(d.p_holm is None for d in found.differences if QUANTITIES[d.quantity].kind == "detail")
    by_risk = {r.encoder: r for r in found.ranks if r.quantity == "agg_risk"}
    estimates = [r.estimate for r in by_risk.values()]
    assert [r.rank for r in by_risk.values()] == (1 + np.argsort(np.argsort(estimates))).tolist()
    assert all(r.low <= r.rank <= r.high for r in found.ranks)
    assert by_risk["d3"].low == 4  # far worse than all others, and found to be
    frame = found.frame()
    assert frame.height == 3 * 6 and set(frame["encoder"]) == {"d7", "d5", "d3"} and set(frame["baseline"]) == {"d8"}
    assert found.rank_frame().height == 4 * 4


def test_the_table_shows_every_encoder_and_fits_a_terminal(four):
    found = compare(four)
    text = str(found)
    assert text.count(" against d8") == 3 and "ranks, the least error first" in text
    d = found.difference("d3", "agg_risk")
    lines = text[text.index("d3 against") :].splitlines()
    total = next(x for x in lines if x.strip().startswith("aggregated risk"))
    assert f"{100 * d.difference:+.2f}" in total and "< 0.01" in total  # P(better)
    steps = [x for x in lines if x.strip().startswith("representation") or x.strip().startswith("approximation")]
    assert any("+++" in x for x in steps)  # the bar of the waterfall
    assert max(map(len, render_comparison(found, 80).splitlines())) <= 80
    assert text.translate(PLAIN).encode("ascii")
    assert "ranks" not in str(compare(four[:2]))


def test_the_waterfall_goes_from_one_total_to_the_other(four):
    found = compare([four[0], four[3]])
    lines = str(found).splitlines()
    start = next(i for i, x in enumerate(lines) if x.startswith("  d8 "))
    end = next(i for i, x in enumerate(lines) if x.startswith("  d3 "))
    assert end - start == 4  # three components between
    at = lines[start].count("█")
    for line in lines[start + 1 : end]:
        bar = line[38:]
        filled = [i for i, c in enumerate(bar) if c in "+-"]
        if filled:
            assert at == (filled[0] if "+" in bar else filled[-1] + 1), line
            at = filled[-1] + 1 if "+" in bar else filled[0]
    assert at == lines[end].count("█")
    assert max(len(x) for x in lines[start : end + 1]) == 38 + 40  # the highest level takes all columns


# --- what is refused


def test_what_differs_is_named(data, four):
    x, y, x_test, y_test = data
    one = four[0]
    cases = {
        "probe": of(data, slice(0, 8), "logistic", name="b"),
        "scaling": of(data, slice(0, 8), name="b", scaling="none"),
        "seed": of(data, slice(0, 8), name="b", seed=1),
        "subsets": of(data, slice(0, 8), name="b", n_subsets=2),
        "floor": of(data, slice(0, 8), name="b", floor=1e-4),
        "protocol": of(data, slice(0, 8), name="b", protocol="paper"),
        "random_counts": of(data, slice(0, 8), name="b", random_counts=True),
        "train_ids": decompose(x[:500], y[:500], x_test, y_test, probe="ridge", name="b"),
        "test_ids": decompose(x, y, x_test[:200], y_test[:200], probe="ridge", name="b"),
        "test_labels": decompose(x, y, x_test, np.r_[y_test[1], y_test[1:]], probe="ridge", name="b"),
        "judgements": replace(one, judgements=None, name="b"),
    }
    for field, other in cases.items():
        with pytest.raises(NotComparableError, match="b") as error:
            compare([one, other])
        assert error.value.field == field, error.value
    moved = replace(one.judgements, subset=np.roll(one.judgements.subset, 4), held_out=one.judgements.held_out)
    with pytest.raises(NotComparableError, match="training rows are held out in one and not in the other") as error:
        compare([one, replace(one, judgements=moved, name="b")])
    assert error.value.field == "subset"
    ids = replace(one.judgements, train_ids=np.char.add(one.judgements.train_ids, b"x"))
    with pytest.raises(NotComparableError, match=r"other training rows: for example '0' is not in both") as error:
        compare([one, replace(one, judgements=ids, name="b")])
    assert error.value.field == "train_ids"


def test_classes_under_other_names_are_told(data, four):
    x, y, x_test, y_test = data
    words = np.array([f"class {i}" for i in range(int(y.max()) + 1)])[::-1]
    other = decompose(x, words[y], x_test, words[y_test], probe="ridge", name="b")
    said = rf"same classes of train rows under other names: '{y[0]}' in one is '{words[y[0]]}' in the other, always"
    with pytest.raises(NotComparableError, match=said) as error:
        compare([four[0], other])
    assert error.value.field == "class_names"


def test_results_are_at_least_two_with_names_and_a_common_probe(data, four):
    with pytest.raises(ParameterError, match="at least two results, got 1"):
        compare(four[:1])
    with pytest.raises(ParameterError, match="as many different names"):
        compare(four[:2], names=["a", "a"])
    with pytest.raises(ParameterError, match="confidence must lie between 0 and 1"):
        compare(four[:2], confidence=95)
    with pytest.raises(NotComparableError, match="d8 has no logistic probe"):
        compare(four[:2], probe="logistic")
    both = Run.of(four[0], of(data, slice(0, 8), "logistic", name="d8"), provenance=Provenance(encoder="two"))
    assert common_probes([both, four[1]]) == ("ridge",) and common_probes([both, both]) == ("ridge", "logistic")
    assert compare([both, four[1]]).probe == "ridge" and compare([both, both]).probe == "logistic"
    assert compare([both, both]).encoders == ("two #1", "two #2")


def test_marks_follow_discordant_rows_and_training_errors(data, four):
    x, y, x_test, y_test = data
    near = decompose(x, y, x_test, y_test, probe="ridge", name="near", floor=1e-5, n_threads=1)
    nearly = x.copy()
    nearly[0, 0] += 0.01
    other = decompose(nearly, y, x_test, y_test, probe="ridge", name="other", n_threads=1)
    found = compare([near, other])
    assert all(d.grade is (Grade.FEW_ROWS if d.df >= FEW_DF else Grade.INDICATIVE) for d in found.differences)
    assert compare([four[0], four[3]]).difference("d3", "agg_risk").grade is Grade.SOUND
    wide = np.random.default_rng(0).standard_normal((600, 150)).astype(np.float32)
    wide_test = np.random.default_rng(1).standard_normal((240, 150)).astype(np.float32)
    memorizer = decompose(np.c_[x, wide], y, np.c_[x_test, wide_test], y_test, probe="logistic", name="memorizer")
    found = compare([of(data, slice(0, 8), "logistic", name="a"), memorizer])
    assert found.difference("memorizer", "approx_usability").grade is Grade.INDICATIVE


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, Grade.SOUND),
        ({"deciding": 9}, Grade.FEW_ROWS),
        ({"groups": 19, "deciding": 9}, Grade.FEW_GROUPS),
        ({"groups": 19, "factor": 4.1}, Grade.INDICATIVE),  # the worse fault is told
        ({"groups": 19, "crowded": True}, Grade.INDICATIVE),
        ({"groups": 9}, Grade.INDICATIVE),
        ({"df": 4.9}, Grade.INDICATIVE),
        ({"groups": 3, "factor": 4.1}, Grade.NONE),
    ],
)
def test_of_several_faults_an_interval_is_marked_by_the_worst(given, expected):
    assert grade(**{"groups": None, "df": math.inf, "deciding": 10, **given}) is expected


def test_other_rows_are_told_before_what_follows_from_their_number():
    """Few rows hold out fewer subsets: that is no reason to decompose both alike."""
    rng = np.random.default_rng(0)

    def made(n):
        y, y_test = np.repeat(np.arange(5), n), np.repeat(np.arange(5), 20)
        x, x_test = (rng.normal(size=(len(c), 6)).astype(np.float32) + c[:, None] for c in (y, y_test))
        return decompose(x, y, x_test, y_test, probe="ridge", name=f"{n} rows")

    few, many = made(8), made(60)
    assert few.sizes.subsets < many.sizes.subsets
    with pytest.raises(NotComparableError, match=r"40 training rows, .* 300: both need the same rows"):
        compare([few, many])


def test_an_encoder_that_no_row_tells_apart_is_identical_beside_a_separating_probe():
    """Training errors of 0 that may be others in further samples are no difference of a copy."""
    rng = np.random.default_rng(0)
    y, y_test = np.arange(200) % 4, np.arange(100) % 4
    x, x_test = ((np.eye(4, 80)[c] + rng.standard_normal((len(c), 80))).astype(np.float32) for c in (y, y_test))
    made = [decompose(x, y, x_test, y_test, probe="logistic", name=name, n_threads=1) for name in "ab"]
    assert made[0].estimate("risk_af") == 0 and made[0].estimates["risk_af"].se > 0
    assert all(d.identical for d in compare(made).differences)


def test_pretraining_on_other_images_is_said_where_encoders_differ_in_it(four):
    def pretrained(*saw):
        return compare(
            [
                Run.of(d, provenance=Provenance(encoder=d.name, saw_training_images=s))
                for d, s in zip(four, saw, strict=False)
            ]
        )

    codes = {n.code: n.sentence() for n in pretrained(True, False).notes}
    assert "others were: d7." in codes["compared_pretraining"]
    for saw in ((False, False), (True, True), (None, False)):
        assert "compared_pretraining" not in {n.code for n in pretrained(*saw).notes}


def test_training_labels_and_groups_that_differ_are_named(data, four):
    j = four[0].judgements
    other = j.train_labels.copy()
    other[[0, 1]] = other[[1, 0]]
    with pytest.raises(NotComparableError, match="differ in the label of 2 train rows") as error:
        compare([four[0], replace(four[0], judgements=replace(j, train_labels=other), name="b")])
    assert error.value.field == "train_labels"
    groups = [
        replace(
            j,
            train_groups=np.array([b"a", b"b"])[np.arange(600) % 2],
            test_groups=np.array([b"c", b"d"])[(np.arange(240) + k) % 2],
        )
        for k in (0, 1)
    ]
    with pytest.raises(NotComparableError, match="have other groups of the same test rows"):
        compare([replace(four[0], judgements=groups[0]), replace(four[0], judgements=groups[1], name="b")])


def test_long_names_are_told_apart_in_every_table(four):
    names = [f"{'very_long_' * 14}{i}" for i in range(len(four))]
    lines = str(compare(four, names=names)).splitlines()
    ranks = lines[next(i for i, line in enumerate(lines) if line.startswith("ranks")) + 2 :][: len(four)]
    assert {line.split()[0][-2:] for line in ranks} == {f"_{i}" for i in range(len(four))}
    assert all("…" in line and len(line) <= 2 + 42 + 15 * 5 for line in ranks)
    starts = [line.split()[0] for line in lines if line.startswith("  very_lon") and "█" in line]
    assert {name[-1] for name in starts} == {str(i) for i in range(len(four))}


def test_errors_that_differ_by_a_row_have_ranks_of_their_own():
    apart = np.zeros((2, 2), bool)
    assert [r[0] for r in rank_intervals([0.1000, 0.1004], apart)] == [1, 2]


def test_features_of_another_view_are_not_compared(four):
    shifted = replace(four[1], method=replace(four[1].method, view="flip"))
    with pytest.raises(NotComparableError, match="augmented view") as error:
        compare([four[0], shifted])
    assert error.value.field == "view"


def test_balanced_comparisons_of_groups_of_several_classes_do_not_know_the_order_of_rows(rng):
    """A group of several classes is of no stratum."""
    n, m, k = 300, 120, 3
    y, y_test = (rng.choice(k, size, p=[0.6, 0.3, 0.1]) for size in (n, m))
    groups, groups_test = np.arange(n) // 10, 1000 + np.arange(m) // 10
    means = rng.standard_normal((k, 6))
    x, x_test = ((means[v] + rng.standard_normal((len(v), 6))).astype(np.float32) for v in (y, y_test))

    def made(train, test):
        ids = [f"r{i}" for i in train] + [f"r{n + i}" for i in test]
        return compare([
            decompose(
                np.ascontiguousarray(x[train, :d]), y[train], np.ascontiguousarray(x_test[test, :d]), y_test[test],
                groups=(groups[train], groups_test[test]), probe="ridge", sample_ids=ids, n_threads=1, name=str(d),
            )
            for d in (6, 4)], metric="balanced")  # fmt: skip

    one, other = made(np.arange(n), np.arange(m)), made(rng.permutation(n), rng.permutation(m))
    for d in one.differences:
        there = other.difference(d.encoder, d.quantity)
        assert (d.df, d.low, d.high) == pytest.approx((there.df, there.low, there.high), rel=1e-6), d.quantity
        assert QUANTITIES[d.quantity].rows != "test" or d.df <= 24  # twelve test groups, and what the probes add


def test_rows_of_a_comparison_have_both_errors_and_the_corrected_p(four):
    found = compare([four[0], four[3]])
    told = replace(found, differences=tuple(replace(d, p=0.012, p_holm=0.345) for d in found.differences))
    d = told.difference("d3", "agg_risk")
    (line,) = (x for x in str(told).splitlines() if x.strip().startswith("aggregated risk"))
    errors = [f"{100 * d.estimate_baseline:.2f}", f"{100 * d.estimate:.2f}", f"{100 * d.difference:+.2f}"]
    assert line.split()[2:5] == errors and line.endswith(" 0.345") and d.difference > 0


def test_marks_of_a_comparison_are_explained_below_it(four):
    found = compare([four[0], four[3]])
    for grade_, explained in ((Grade.FEW_ROWS, True), (Grade.SOUND, False)):
        told = replace(found, differences=tuple(replace(d, grade=grade_) for d in found.differences))
        assert ("  *     fewer than 10 rows decide this number" in str(told)) is explained


def test_ranks_are_told_in_their_order_with_what_is_not_excluded(four):
    found = compare(four[:3])
    places = {"d8": (3, 2, 3), "d7": (1, 1, 2), "d5": (2, 1, 3)}
    ranks = tuple(
        replace(r, rank=places[r.encoder][0], low=places[r.encoder][1], high=places[r.encoder][2]) for r in found.ranks
    )
    lines = str(replace(found, ranks=ranks)).splitlines()
    start = next(i for i, x in enumerate(lines) if x.startswith("ranks, the least error first"))
    rows_ = [" ".join(x.split()) for x in lines[start + 2 : start + 5]]
    assert rows_ == [" ".join(["d7"] + ["1 [1, 2]"] * 4), " ".join(["d5"] + ["2 [1, 3]"] * 4),
                     " ".join(["d8"] + ["3 [2, 3]"] * 4)]  # fmt: skip


def test_predictions_of_every_probe_are_numbered_alike(four):
    one, other = four[:2]
    turned = reordered(other, np.arange(600), np.arange(240), np.array([2, 0, 3, 1]))
    _, found = common_rows([one.judgements, turned.judgements], ["a", "b"])
    for (name, _, outcome), (_, _, wanted) in zip(found.outcomes(), other.judgements.outcomes(), strict=True):
        assert np.array_equal(outcome.predicted, wanted.predicted), name
