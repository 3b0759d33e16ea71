"""What notes say of class shares that differ between training and test rows."""

from dataclasses import replace

import numpy as np
import pytest
from ssl_risk_rs import RidgeProbe, decompose
from ssl_risk_rs.decomposition.intervals import quantify_by
from ssl_risk_rs.decomposition.scores import RowScores
from ssl_risk_rs.results.estimate import Grade


def of(keys, result):
    return {note.code: note for note in result.notes if note.code in keys}


KEYS = ("one_class_predicted", "other_class_shares")


def test_a_probe_that_predicts_one_class_and_what_class_shares_make_of_it_are_said():
    rng = np.random.default_rng(0)
    x, x_test = (rng.standard_normal((n, 8)).astype(np.float32) for n in (600, 400))
    y = np.repeat(["a", "b"], [420, 180])
    y_test = np.repeat(["a", "b"], [240, 160])
    result = decompose(x, y, x_test, y_test, probe="ridge", n_threads=1)
    notes = of(KEYS, result)
    assert "predicts class a for every test row" in notes["one_class_predicted"].sentence()
    # it errs by the share of b, which is 40 % of the test rows and 30 % of the others: no other difference
    assert abs(result.estimates["enc_gen"].estimate - 0.10) < 1e-9
    assert "+10.00 points of encoder generalization" in notes["other_class_shares"].sentence()


def test_what_class_shares_make_is_not_called_more_than_chance():
    """Fewer rows of the rare class among test rows than among training rows, and no other difference."""
    rng = np.random.default_rng(3)

    def rows(n: int, rare: int) -> tuple[np.ndarray, np.ndarray]:
        y = (np.arange(n) < rare).astype(int)
        x = rng.standard_normal((n, 6))
        x[:, 0] += 1.6 * y
        return x.astype(np.float32), y

    result = decompose(*rows(1500, 150), *rows(750, 45), probe="ridge", n_threads=1)
    assert result.estimates["enc_gen"].high < 0 and "other_class_shares" in of(KEYS, result)
    text = str(result)
    assert "no more than the class shares of the test rows may explain" in " ".join(text.split())
    assert "more than chance explains" not in " ".join(text.split())


def test_groups_that_take_a_class_out_of_the_rest_are_told_and_not_those_that_leave_it_more():
    """Groups differ in size and in their mix of classes, so that no subset has the shares of all rows."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(30), rng.integers(5, 60, 30))
    mix = rng.dirichlet(np.full(3, 0.5), 30)
    y = np.array([rng.choice(3, p=mix[g]) for g in groups])
    x = (3 * np.eye(3)[y] + rng.standard_normal((len(y), 3))).astype(np.float32)
    yt = np.arange(90) % 3
    xt = (3 * np.eye(3)[yt] + rng.standard_normal((90, 3))).astype(np.float32)
    seen = 0
    for seed in range(8):
        result = decompose(
            x, y, xt, yt, probe="ridge", n_threads=1, seed=seed, groups=(groups, 100 + np.arange(90) // 3)
        )
        judged = result.judgements
        assert judged is not None
        share = np.bincount(judged.train_labels) / len(judged.train_labels)
        for note in result.notes:
            if note.code == "shares_moved":
                c = judged.class_names.index(str(note.values["class_name"]))
                rest = judged.train_labels[judged.subset != int(note.values["subset"]) - 1]
                lost = 1 - np.bincount(rest, minlength=3)[c] / len(rest) / share[c]
                assert lost > 0 and abs(100 * lost - float(note.values["percent"])) < 1e-9
                assert "lowers the share of class" in note.sentence()
                seen += 1
    assert seen > 3


def long_tailed(seed: int) -> tuple[np.ndarray, ...]:
    """Train and test rows of one law of class sizes, features of an encoder that has seen none of them."""
    rng = np.random.default_rng(seed)
    centres, law = rng.standard_normal((300, 32)), 1 / np.arange(1, 301) ** 0.9
    y, y_test = (rng.choice(300, n, p=law / law.sum()) for n in (3000, 1000))
    y_test = y_test[np.isin(y_test, y)]
    x, x_test = ((centres[c] + 1.6 * rng.standard_normal((len(c), 32))).astype(np.float32) for c in (y, y_test))
    return x, y, x_test, y_test


def test_a_long_tail_is_no_sign_that_the_encoder_has_seen_the_images():
    found = []
    for seed in range(1, 7):
        result = decompose(*long_tailed(seed), probe="ridge")
        enc_gen, judged = result.estimates["enc_gen"], result.judgements
        sizes = np.bincount(judged.train_labels)
        held = np.bincount(judged.train_labels[judged.in_subset], minlength=len(sizes))
        assert (held[sizes > 1] > 0).all() and (held[sizes == 1] == 0).all()
        assert enc_gen.grade is Grade.SOUND
        found.append(enc_gen.estimate)
    # 3.1 to 6.4 points of each, when classes of two to four rows had no row held out
    assert abs(np.mean(found)) < 0.01 and np.ptp(found) < 0.04


@pytest.mark.parametrize("seed", [1, 3, 6])
def test_classes_of_one_training_row_are_told_apart_from_what_the_encoder_saw(seed):
    """No row of theirs can be held out: an encoder that has seen no row seems to do worse on test rows."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((260, 32))
    y = np.concatenate([np.repeat(np.arange(60), 30), np.arange(60, 260)])
    y_test = rng.integers(0, 260, 800)
    x, x_test = ((centres[c] + 1.6 * rng.standard_normal((len(c), 32))).astype(np.float32) for c in (y, y_test))
    result = decompose(x, y, x_test, y_test, probe="ridge")
    enc_gen, judged = result.estimates["enc_gen"], result.judgements
    assert enc_gen.low > 0 and enc_gen.grade is Grade.INDICATIVE
    assert result.estimates["probe_gen"].grade is Grade.INDICATIVE
    assert result.estimates["risk_as"].grade is not Grade.INDICATIVE
    notes = of(("uncovered_on_test", "other_class_shares"), result)
    apart = ~np.isin(judged.test_labels, judged.train_labels[judged.in_subset])
    points = float(notes["uncovered_on_test"].values["points"])
    risk_as = result.estimates["risk_as"].estimate
    assert points == pytest.approx(100 * apart.mean() * (judged.us.wrong[apart].mean() - risk_as))
    of_shares = float(notes["other_class_shares"].values["points"]) if "other_class_shares" in notes else 0.0
    left = enc_gen.estimate - (points + of_shares) / 100
    assert left - (enc_gen.high - enc_gen.estimate) < 0  # nothing that is surely there
    assert f"{points:+.2f} points of encoder generalization come from them" in notes["uncovered_on_test"].sentence()


def test_classes_without_a_test_row_count_by_their_errors_on_held_out_rows():
    """Of 100 classes two thirds have no test row: where the others are harder, that is what their shares make."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((100, 16))
    y, y_test = np.arange(2000) % 100, np.arange(400) % 34
    x, x_test = ((centres[c] + 1.5 * rng.standard_normal((len(c), 16))).astype(np.float32) for c in (y, y_test))
    result = decompose(x, y, x_test, y_test, probe="ridge")
    rows = RowScores(result.judgements, corrected=True, random_counts=False)
    held = result.judgements.in_subset
    wrong = result.judgements.held_out.wrong
    labels = result.judgements.train_labels[held]
    error = np.bincount(labels, rows.weight * wrong) / np.bincount(labels, rows.weight)
    assert rows.of_class_shares() == pytest.approx(error[result.judgements.test_labels].mean() - error.mean())
    assert rows.of_uncovered() == 0


def test_like_shares_and_probes_that_tell_classes_apart_have_no_such_note():
    rng = np.random.default_rng(0)
    y, y_test = np.arange(600) % 3, np.arange(300) % 3
    centres = rng.standard_normal((3, 8))
    x, x_test = ((centres[v] + rng.standard_normal((len(v), 8))).astype(np.float32) for v in (y, y_test))
    assert not of(KEYS, decompose(x, y, x_test, y_test, probe="ridge", n_threads=1))


def test_test_rows_of_one_class_are_no_sign_that_features_tell_nothing():
    rng = np.random.default_rng(0)
    y, y_test = np.arange(200) % 2, np.zeros(80, int)
    x, x_test = ((4 * np.eye(4)[v] + rng.standard_normal((len(v), 4))).astype(np.float32) for v in (y, y_test))
    result = decompose(x, y, x_test, y_test, probe="ridge", n_threads=1)
    assert result.estimates["risk_us"].estimate < 0.05 and "one_class_predicted" not in of(KEYS, result)


def unequal(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows drawn at random of classes of which one is hard."""
    y = rng.choice(3, n, p=(0.6, 0.25, 0.15))
    centres = np.array([[3.0, 0, 0, 0], [0, 3.0, 0, 0], [0, 2.6, 0.8, 0]])
    return (centres[y] + rng.standard_normal((n, 4))).astype(np.float32), y


def test_class_counts_that_look_drawn_are_told_where_they_matter():
    rng = np.random.default_rng(0)
    (x, y), (xt, yt) = unequal(rng, 600), unequal(rng, 300)
    fixed = decompose(x, y, xt, yt, probe="ridge", n_threads=1)
    drawn = decompose(x, y, xt, yt, probe="ridge", n_threads=1, random_counts=True)
    note = of(("drawn_counts",), fixed)["drawn_counts"]
    assert not of(("drawn_counts",), drawn)
    wider = drawn.estimates["risk_us"].se / fixed.estimates["risk_us"].se - 1
    assert note.values["percent"] == pytest.approx(100 * wider, abs=3) and wider > 0.15
    # in proportion, or equally many, they look chosen; and where classes err alike they hardly matter
    counts = np.bincount(y) // 2
    some = np.concatenate([np.flatnonzero(y == c)[:n] for c, n in enumerate(counts)])
    rest = np.setdiff1d(np.arange(600), some)
    halves = [(x[rows], y[rows]) for rows in (rest, some)]
    assert not of(("drawn_counts",), decompose(*halves[0], *halves[1], probe="ridge", n_threads=1))
    equal = np.concatenate([np.flatnonzero(yt == c)[:30] for c in range(3)])
    assert not of(("drawn_counts",), decompose(x, y, xt[equal], yt[equal], probe="ridge", n_threads=1))
    blind = [rng.standard_normal((len(v), 4)).astype(np.float32) * 0 + np.eye(4)[v % 3] * 9 for v in (y, yt)]
    assert not of(("drawn_counts",), decompose(blind[0], y, blind[1], yt, probe="ridge", n_threads=1))


def test_random_counts_cover_where_rows_are_drawn_at_random():
    rng = np.random.default_rng(1)
    far = unequal(rng, 200_000)
    found, truths = [], []
    for _ in range(100):
        (x, y), (xt, yt) = unequal(rng, 600), unequal(rng, 300)
        drawn = decompose(x, y, xt, yt, probe="ridge", n_threads=1, random_counts=True)
        fixed = quantify_by(drawn.judgements, replace(drawn.method, random_counts=False), drawn.sizes)
        found.append([each.estimates["risk_us"] for each in (fixed, drawn)])
        if len(truths) < 12:
            probe = RidgeProbe(1e-2, scaling="standardize").fit(x, y)
            truths.append(float((probe.predict(far[0]) != far[1]).mean()))
    truth = np.mean(truths)
    of_fixed, of_drawn = np.mean([[e.low <= truth <= e.high for e in pair] for pair in found], axis=0)
    assert of_fixed < 0.92 <= of_drawn
