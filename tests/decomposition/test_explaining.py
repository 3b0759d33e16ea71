"""Explanations of constructed runs: verdicts that must not be misread, parts by class and group, the usability gap."""

from dataclasses import replace

import numpy as np
import pytest
from ssl_risk_rs import ParameterError
from ssl_risk_rs._notes import Note
from ssl_risk_rs.decomposition import decompose, make_task
from ssl_risk_rs.decomposition.explaining import (
    beside_control,
    class_parts,
    compare_layers,
    compare_probes,
    confusions,
    decide,
    group_parts,
    spread_of,
)
from ssl_risk_rs.decomposition.nystrom import _Kernel, _squared, n_landmarks, usability_gap
from ssl_risk_rs.probes.features import Features
from ssl_risk_rs.report.explanation import (
    _gap_sentence,
    _layers,
    _parts,
    _probes,
    render_explanation,
    verdict_sentences,
)
from ssl_risk_rs.report.overview import verdict
from ssl_risk_rs.results.compare import Difference
from ssl_risk_rs.results.estimate import Grade
from ssl_risk_rs.results.explain import Explanation, Layer, NoGap, ProbeContrast, Spread, UsabilityGap, Verdict
from ssl_risk_rs.results.provenance import Provenance
from ssl_risk_rs.results.quantities import QUANTITIES
from ssl_risk_rs.results.record import Bottleneck, ProbeVariation
from ssl_risk_rs.results.run import Decomposition, Run

N, M, K, D = 600, 200, 4, 12
PIXELS = np.random.default_rng(5).standard_normal((K, D))


def draw(n: int, seed: int, spread: float = 0.55, noise: int = 0, stretch: float = 1.0):
    """n rows around four centres that overlap, then `noise` features that carry nothing; float32, and classes."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % K
    x = spread * PIXELS[y] + stretch * rng.standard_normal((n, D))
    return np.c_[x, rng.standard_normal((n, noise))].astype(np.float32), y


def decomposed(train, test, control=None, **options) -> Decomposition:
    found = {"probe": "logistic", "n_threads": 1, "midpoint": False, **options}
    return decompose(*train, *test, control=control, **found)


def explained(result: Decomposition, *, untrained: bool = False, spread=None, **facts) -> Explanation:
    provenance = Provenance(encoder="mine", data="these rows", control="pixels:8" if result.control else None, **facts)
    of_control = beside_control(result, ("pixels:8", "mine"))
    verdict = decide(result, provenance, untrained=untrained, of_control=of_control, spread=spread)
    classes, left_out = class_parts(result)
    return Explanation(
        result, provenance, verdict, untrained, of_control, spread, classes, left_out, group_parts(result),
        no_gap=NoGap.FILES,
    )  # fmt: skip


def said(found: Explanation) -> str:
    return " ".join(verdict_sentences(found))


@pytest.fixture(scope="module")
def pixels():
    """Features of a control: the signal, weakly."""
    return draw(N, 1, spread=0.25), draw(M, 2, spread=0.25)


# --- verdicts: what a newcomer must not misread


def test_a_random_encoder_beside_pixels_is_not_told_to_buy_labels(pixels):
    """Random projections of the pixels: most of the error is probe generalization, and it says nothing."""
    turn = np.random.default_rng(7).standard_normal((D, 60)) / 3
    (x, y), (xt, yt) = pixels
    project = [np.tanh(part @ turn).astype(np.float32) for part in (x, xt)]
    found = explained(decomposed((project[0], y), (project[1], yt), control=(x, xt)))
    assert found.verdict is Verdict.NOTHING_BEYOND_CONTROL
    text = said(found)
    assert "beyond the pixels" in text and "more labels would serve the control as well" in text
    assert "want of labels" not in text


def test_too_few_rows_do_not_tell_an_encoder_from_its_control():
    """It errs much less than the control in these rows, which may be chance: nobody may say that it carries nothing."""
    train, test = draw(300, 1, spread=0.6), draw(45, 2, spread=0.6)
    weak, weak_test = draw(300, 1, spread=0.45), draw(45, 2, spread=0.45)
    result = decomposed(train, test, control=(weak[0], weak_test[0]), probe="ridge")
    found = explained(result)
    d = found.control("agg_risk")
    assert d.difference < -0.1 * d.estimate_baseline and d.high >= 0, d
    assert found.verdict is Verdict.CONTROL_NOT_EXCLUDED
    text = said(found)
    assert "too few to tell whether the representation carries more than" in text and "more test rows" in text
    assert "carries nothing" not in text and "serve the control as well" not in text
    # where probes of other training rows differ by more than test rows do, more of these would not help
    varying = replace(result, probe_variation=ProbeVariation.alike(0.01))
    assert "Fit it on more training rows" in said(replace(found, result=varying))


@pytest.mark.parametrize("with_control", [False, True])
def test_three_groups_of_test_rows_tell_nothing(with_control):
    """Without an interval the total lies neither below guessing nor below the control for sure."""
    rng = np.random.default_rng(0)
    (x, y), (xt, yt) = draw(N, 1, spread=0.0), draw(M, 2, spread=0.0)
    groups = rng.integers(0, 30, N), 100 + rng.integers(0, 3, M)
    control = tuple(rng.normal(size=v.shape).astype(np.float32) for v in (x, xt)) if with_control else None
    found = explained(decomposed((x, y), (xt, yt), control=control, probe="ridge", groups=groups))
    assert np.isnan(found.result.estimates["agg_risk"].high) and found.verdict is Verdict.NO_INTERVAL
    assert "from 3 groups: too few for an interval" in said(found)


def test_a_random_encoder_by_its_name_is_a_yardstick():
    train, test = draw(N, 1), draw(M, 2)
    found = explained(decomposed(train, test), untrained=True)
    assert found.verdict is Verdict.UNTRAINED
    assert "never trained" in said(found) and "not a reason to buy labels" in said(found)


def test_few_labels_are_told_with_what_labels_can_gain(pixels):
    """Strong signal in many features and few rows: probe generalization, and far better than the control."""
    train, test = draw(160, 3, spread=0.75, noise=25), draw(400, 4, spread=0.75, noise=25)
    weak, weak_test = draw(160, 3, spread=0.1), draw(400, 4, spread=0.1)
    result = decomposed(train, test, control=(weak[0], weak_test[0]), probe="ridge", floor=1e-3)
    found = explained(result)
    assert found.verdict is Verdict.LABELS, (result.bottleneck, str(result))
    text = said(found)
    gain = 100 * result.estimate("probe_gen")
    assert "want of labels" in text and f"{gain:.1f} points at most" in text
    assert "which was never trained" in text and "random weights can show the same pattern" not in text


def test_without_a_control_few_labels_and_random_weights_are_said_to_look_alike():
    train, test = draw(160, 3, spread=0.75, noise=25), draw(400, 4, spread=0.75, noise=25)
    found = explained(decomposed(train, test, probe="ridge", floor=1e-3))
    assert found.verdict is Verdict.LABELS
    assert "an encoder with random weights can show the same pattern" in said(found)


def test_a_shifted_test_set_is_not_taken_for_memorized_images():
    """Test rows lie farther out, for the encoder and for pixels alike."""
    train, test = draw(1200, 3, spread=0.9), draw(400, 4, spread=0.9, stretch=2.2)
    control = (draw(1200, 3, spread=0.6)[0], draw(400, 4, spread=0.6, stretch=2.2)[0])
    result = decomposed(train, test, control=control)
    assert result.bottleneck.quantity == "enc_gen"
    found = explained(result)
    assert found.verdict is Verdict.SHIFT, (found.of_control, result.control.estimates["enc_gen"])
    assert "shift between train and test rows first" in said(found)  # the control loses as much: that excludes nothing
    unseen = explained(decomposed(train, test))
    assert unseen.verdict is Verdict.UNSEEN and "do not tell which" in said(unseen)
    foreign = explained(decomposed(train, test), saw_training_images=False)
    assert foreign.verdict is Verdict.SHIFT and "not as memorized images" in said(foreign)


def unlike_shares(**options) -> Decomposition:
    """Three classes on top of each other: the probe names the one that most training rows are of."""
    sets = []
    for seed, shares in ((1, (0.7, 0.2, 0.1)), (2, (0.2, 0.3, 0.5))):
        rng = np.random.default_rng(seed)
        y = rng.choice(3, 900, p=shares)
        x = rng.standard_normal((900, D))
        x[:, 0] += 0.8 * y
        sets.append((x.astype(np.float32), y))
    return decomposed(*sets, probe="ridge", **options)


def test_other_class_shares_are_not_taken_for_images_that_were_seen():
    result = unlike_shares()
    found = explained(result, saw_training_images=True)
    assert result.bottleneck.quantity == "enc_gen" and found.verdict is Verdict.OF_CLASSES
    text = said(found)
    assert "The class shares of the test rows may explain all of it" in text and "surely there too" not in text
    page = " ".join(verdict(result, found.provenance))
    assert "the class shares of the test rows may explain all of it" in page and "has seen" not in page
    # what is left is sure: classes explain a part of it only
    notes = tuple(note for note in result.notes if note.code not in result.of_classes)
    few = replace(result, notes=(*notes, Note("other_class_shares", {"points": 0.5})))
    assert explained(few, saw_training_images=False).verdict is Verdict.SHIFT
    assert "has seen" in " ".join(verdict(few, found.provenance))


def test_memorized_images_are_told_where_the_control_has_no_shift(pixels):
    """The encoder is clean on images it has seen and noisy on others; the control is the same on both."""
    train, test = draw(N, 3, spread=1.2), draw(M, 4, spread=1.2, stretch=2.5)
    result = decomposed(train, test, control=(pixels[0][0], pixels[1][0]))
    found = explained(result, saw_training_images=True)
    assert found.verdict is Verdict.MEMORIZED
    assert "it was pretrained on" in said(found)
    # of an encoder that may never have seen an image the same numbers say no such thing
    unknown = explained(result)
    assert unknown.verdict is Verdict.UNSEEN and "do not tell which" in said(unknown)


@pytest.mark.parametrize("probe", ["logistic", "ridge"])
def test_test_rows_of_another_order_of_the_classes_are_not_called_chance(probe):
    (x, y), (xt, yt) = draw(1200, 3, spread=1.2), draw(400, 4, spread=1.2)
    found = explained(decomposed((x, y), (xt, (yt + 1) % K), probe=probe))
    assert found.verdict is Verdict.TEST_ROWS and "worse than guessing" in said(found)
    assert "Held-out training rows are predicted" in said(found) and "carries nothing" not in said(found)
    apart = explained(decomposed((x, y), (np.random.default_rng(0).permutation(xt), yt), probe=probe))
    assert apart.verdict is Verdict.TEST_ROWS and "worse than guessing" not in said(apart)
    # naming the most frequent class errs less on held-out rows where these have more of it
    rng = np.random.default_rng(7)
    shares = rng.permutation(np.repeat([0, 1, 2], [438, 108, 54])), rng.permutation(np.repeat([0, 1, 2], [207, 63, 30]))
    blind = [(rng.standard_normal((len(v), 8)).astype(np.float32), v) for v in shares]
    named = explained(decomposed(*blind, probe=probe))
    assert named.result.estimate("risk_as") < named.result.sizes.chance == pytest.approx(0.31)
    assert named.verdict is Verdict.AT_CHANCE
    # labels that no row tells are chance for held-out training rows too
    rng = np.random.default_rng(2)
    nothing = explained(decomposed((x, rng.permutation(y)), (xt, rng.permutation(yt)), probe=probe))
    assert nothing.verdict is Verdict.AT_CHANCE and "carries nothing" in said(nothing)


def test_one_shift_of_encoder_and_control_hides_no_better_encoder():
    """Both predict shifted test rows badly; on held-out training rows the encoder errs far less."""
    (x, y), (xt, yt) = draw(1200, 3, spread=1.2), draw(400, 4, spread=1.2)
    (weak, _), (weak_test, _) = draw(1200, 3, spread=0.8), draw(400, 4, spread=0.8)
    turned = [np.roll(part, 1, axis=1) for part in (xt, weak_test)]
    result = decomposed((x, y), (turned[0], yt), control=(weak, turned[1]))
    found = explained(result)
    d = found.control("agg_risk")
    assert -d.difference < 0.1 * d.estimate_baseline  # by the total it is hardly better
    assert found.verdict in (Verdict.UNSEEN, Verdict.SHIFT) and found.result.bottleneck.quantity == "enc_gen"
    assert "hardly anything beyond" not in said(found)


def test_what_an_encoder_knows_by_heart_is_named_beside_a_probe_that_separates():
    """Training rows lie at their centres: usability and probe generalization are 0 together, whatever each is."""
    (x, y), (xt, yt) = draw(1200, 3, spread=1.0), draw(400, 4, spread=1.0)
    x = (PIXELS[y] + 0.02 * x).astype(np.float32)
    result = decomposed((x, y), (xt, yt))
    assert result.floor.separable
    assert result.bottleneck.quantity == "enc_gen" and result.bottleneck.probability > 0.99
    found = explained(result)
    assert found.verdict is Verdict.UNSEEN and "The largest part of the error is encoder generalization" in said(found)
    assert "← largest" in str(Run.of(result))
    # where the others together may be as large, nothing is named
    few = decomposed(draw(60, 3, spread=0.8, noise=60), draw(400, 4, spread=0.8, noise=60))
    assert few.floor.separable and few.bottleneck.probability is None


def test_wrong_labels_of_training_rows_are_suspected():
    (x, y), (xt, yt) = draw(1600, 3, spread=1.5), draw(500, 4, spread=1.5)
    rng = np.random.default_rng(0)
    wrong = rng.random(len(y)) < 0.3
    y = np.where(wrong, (y + rng.integers(1, K, len(y))) % K, y)
    result = decomposed((x, y), (xt, yt))
    found = explained(result)
    assert result.estimates["enc_gen"].high < 0 and found.verdict is Verdict.TRAINING_ROWS
    assert "wrong labels among the training rows would look like this" in said(found)
    page = " ".join(verdict(result, Provenance()))
    assert "wrong labels among the training rows" in page and "more than the error" in page and "255 %" not in page


def test_a_twin_that_errs_more_than_the_encoder_measures_no_architecture():
    (x, y), (xt, yt) = draw(1200, 3, spread=0.9), draw(400, 4, spread=0.9)
    weak = draw(1200, 3, spread=0.3)[0]
    found = explained(decomposed((x, y), (xt, yt), supervised=weak))
    assert found.result.bottleneck.quantity == "approx" and found.verdict is Verdict.WEAK_TWIN
    assert "the twin is too weak" in said(found) and "another architecture is what can" not in said(found)


def test_labels_promise_what_the_midpoint_holds_where_training_errors_are_optimistic():
    """Sixty features carry nothing: R_AF is optimistic, and little of the error is for want of labels."""
    train, test = draw(400, 3, spread=0.8, noise=60), draw(2000, 4, spread=0.8, noise=60)
    found = explained(decomposed(train, test, probe="ridge", midpoint=True))
    assert found.verdict is Verdict.LABELS
    text = said(found)
    middle = found.result.estimates["risk_af_midpoint"].estimate
    gain = 100 * max(0.0, found.result.estimate("agg_risk") - middle)
    assert "The training error is optimistic here" in text and f"about {gain:.1f} points" in text
    assert "Approximation + usability is surely there too" not in text  # that number is the optimistic one


def test_other_parts_that_are_surely_there_are_told():
    (x, y), (xt, yt) = draw(1600, 3, spread=0.6), draw(500, 4, spread=0.6)
    found = explained(decomposed((x, y), (xt + np.float32(0.7), yt)))
    assert found.verdict is Verdict.REPRESENTATION and found.result.estimates["enc_gen"].low > 0
    assert "Encoder generalization is surely there too" in said(found)
    alike = explained(decomposed((x, y), (xt, yt)))
    assert "is surely there too" not in said(alike)


def test_one_row_far_out_is_no_collapse():
    (x, y), test = draw(1200, 3, spread=0.9), draw(400, 4, spread=0.9)
    x = x.copy()
    x[0] *= 1e4
    spread = spread_of(Features.of_arrays(x), np.arange(1200, dtype=np.uint32))
    assert not spread.collapsed and spread.far == 1 and spread.far_share > 0.9 and spread.directions > 5
    found = explained(decomposed((x, y), test), spread=spread)
    assert found.verdict is not Verdict.COLLAPSED
    assert "Of 1,200 training rows, one row makes 100 %" in said(found)
    clean = spread_of(Features.of_arrays(test[0]), np.arange(400, dtype=np.uint32))
    assert clean.far == 0 and clean.n == 400


def test_two_directions_are_said_to_be_nearly_none():
    rng = np.random.default_rng(0)
    (x, y), (xt, yt) = draw(1600, 3, spread=0.9), draw(400, 4, spread=0.9)
    y, yt = (np.arange(n) % 10 for n in (1600, 400))
    centres = rng.standard_normal((10, 2))
    wide = rng.standard_normal((2, 64))
    x, xt = (
        ((centres[labels] + 0.5 * rng.standard_normal((len(labels), 2))) @ wide).astype(np.float32)
        for labels in (y, yt)
    )
    spread = spread_of(Features.of_arrays(x), np.arange(len(x), dtype=np.uint32))
    found = explained(decomposed((x, y), (xt, yt)), spread=spread)
    assert found.verdict is not Verdict.COLLAPSED and spread.directions < 2.5
    assert "has nearly collapsed" in said(found) and "10 classes may need as many as 9" in said(found)


def test_classes_taken_for_another_are_named():
    (x, y), (xt, yt) = draw(1600, 3, spread=1.5), draw(400, 4, spread=1.5)
    yt = np.where(yt == 1, 2, np.where(yt == 2, 1, yt))
    result = decomposed((x, y), (xt, yt))
    first, second = confusions(result.judgements)[:2]
    assert {(first.name, first.taken_for), (second.name, second.taken_for)} == {("1", "2"), ("2", "1")}
    assert first.n == 100 and first.count > 80
    wrong = result.judgements.us.wrong
    assert sum(each.count for each in confusions(result.judgements)) == wrong.sum()
    table = render_explanation(replace(explained(result), confusions=confusions(result.judgements)))
    assert f"taken for another class: {first.name} for {first.taken_for} ({first.count} of 100)" in table


def test_a_training_group_with_wrong_labels_is_found():
    x, y = draw(1200, 1, spread=1.0)
    y[60:120] = np.random.default_rng(3).permutation(y[60:120])
    groups = ([f"a{i // 60}" for i in range(1200)], [f"b{i // 20}" for i in range(400)])
    parts = group_parts(decomposed((x, y), draw(400, 2, spread=1.0), groups=groups))
    assert (parts[0].name, parts[0].quantity, parts[0].n_train, parts[0].n_test) == ("a1", "risk_af", 60, 0)
    assert parts[0].p_holm < 0.001


def test_a_representation_that_is_not_separable_is_told_so():
    train, test = draw(2000, 3), draw(500, 4)
    found = explained(decomposed(train, test))
    assert found.verdict is Verdict.REPRESENTATION
    assert "More labels do not lower this part" in said(found)


@pytest.mark.parametrize("kind", ["point", "line", "rounding"])
def test_a_collapsed_representation_is_told_apart_from_few_labels(kind):
    rng = np.random.default_rng(0)
    y, yt = np.arange(N) % K, np.arange(M) % K
    if kind == "line":
        x, xt = (np.outer(rng.standard_normal(n), rng.standard_normal(D)).astype(np.float32) for n in (N, M))
    elif kind == "point":
        x, xt = np.full((N, D), 3, np.float32), np.full((M, D), 3, np.float32)
    else:
        x, xt = (np.float32(100) + 1e-3 * rng.standard_normal((n, D)).astype(np.float32) for n in (N, M))
    task = make_task(x, y, xt, yt)
    spread = spread_of(task.features, task.train_rows)
    assert spread.collapsed and spread.n == N
    found = explained(decomposed((x, y), (xt, yt), probe="ridge"), spread=spread)
    assert found.verdict is Verdict.COLLAPSED
    assert "has collapsed" in said(found) and "More labels do not help" in said(found)


def test_a_common_factor_is_no_collapse():
    """Features share a factor with most of their variance: what tells the classes apart is there, and labels help."""
    rng = np.random.default_rng(0)
    means = 0.3 * rng.standard_normal((K, 64))

    def rows(n: int) -> tuple[np.ndarray, np.ndarray]:
        y = np.arange(n) % K
        return (2.6 * rng.standard_normal((n, 1)) + means[y] + rng.standard_normal((n, 64))).astype(np.float32), y

    train, test = rows(300), rows(400)
    task = make_task(*train, *test)
    spread = spread_of(task.features, task.train_rows)
    assert 1.2 < spread.directions < 2 and not spread.collapsed
    assert explained(decomposed(train, test, probe="ridge"), spread=spread).verdict is not Verdict.COLLAPSED


def rare(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """One row of twenty is of the other class, 1.6 deviations away: AUROC 0.87, and a 0-1 error as of guessing."""
    rng = np.random.default_rng(seed)
    y = (np.arange(n) % 20 == 0).astype(int)
    x = rng.standard_normal((n, 4))
    x[:, 0] += 1.6 * y
    return x.astype(np.float32), y


def test_rare_classes_that_are_told_apart_are_not_at_chance():
    result = decomposed(rare(3000, 1), rare(1500, 2), tune_on="balanced")
    assert result.estimates["agg_risk"].high >= result.sizes.chance
    found = explained(result)
    assert found.verdict is not Verdict.AT_CHANCE
    assert "by class it clearly does" in said(found)


def test_unequal_classes_at_chance_are_told_what_may_help():
    found = explained(decomposed(rare(3000, 1), rare(1500, 2), probe="ridge"))
    assert found.verdict is Verdict.AT_CHANCE
    assert "--tune-on balanced --metric balanced" in said(found) and "carries nothing" not in said(found)


def test_what_was_done_is_not_advised_again():
    found = explained(decomposed(rare(3000, 1), rare(300, 5), probe="ridge", tune_on="balanced"))
    assert found.verdict is Verdict.AT_CHANCE
    assert "--tune-on balanced" not in said(found)
    assert "Check that labels and images" in said(found)


def test_classes_that_the_test_rows_lack_do_not_make_classes_unequal():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((N, D)).astype(np.float32), np.arange(N) % 10
    found = explained(decomposed((x, y), (x[:M], np.arange(M) % 2)))
    assert found.verdict is Verdict.AT_CHANCE
    assert "Classes are unequal" not in said(found)


def test_two_classes_on_one_line_are_no_collapse():
    """Neural collapse: one direction that tells both classes apart."""
    y, yt = np.arange(N) % 2, np.arange(M) % 2
    rng = np.random.default_rng(0)
    x, xt = (np.outer(4 * c - 2 + rng.standard_normal(len(c)), np.ones(D)).astype(np.float32) for c in (y, yt))
    task = make_task(x, y, xt, yt)
    found = explained(decomposed((x, y), (xt, yt)), spread=spread_of(task.features, task.train_rows))
    assert found.spread.collapsed and found.verdict is not Verdict.COLLAPSED


def test_labels_that_belong_to_other_rows_are_at_chance():
    train, test = draw(N, 3), draw(M, 4)
    shuffled = np.random.default_rng(1).permutation(train[1]), np.random.default_rng(2).permutation(test[1])
    found = explained(decomposed((train[0], shuffled[0]), (test[0], shuffled[1])))
    assert found.verdict is Verdict.AT_CHANCE
    assert "check that labels and images belong together" in said(found)


def test_a_probe_that_separates_has_no_largest_part():
    train, test = draw(120, 3, noise=200), draw(M, 4, noise=200)
    found = explained(decomposed(train, test))
    assert found.verdict is Verdict.NOT_IDENTIFIED
    assert "cannot be told apart" in said(found) and "want of labels" not in said(found)


def test_no_largest_part_is_named_where_a_probe_separates_whatever_the_verdict():
    train, test = draw(120, 3, noise=200), draw(M, 4, noise=200)
    found = replace(explained(decomposed(train, test)), verdict=Verdict.UNTRAINED)
    assert "largest part of the error is" not in said(found) and "Which part is the largest cannot be told" in said(
        found
    )


def test_every_sentence_ends_and_has_a_capital(pixels):
    found = explained(decomposed(draw(N, 3), draw(M, 4), control=(pixels[0][0], pixels[1][0])))
    for sentence in verdict_sentences(found):
        assert sentence[0].isupper() and sentence.endswith("."), sentence
    assert all(len(line) <= 80 for line in render_explanation(found, 80).splitlines())


# --- classes and groups


@pytest.fixture(scope="module")
def hard_class():
    """Class 3 lies on top of class 2 in half of its rows; the other classes are far apart."""
    found = []
    for n, seed in ((1200, 1), (400, 2)):
        x, y = draw(n, seed, spread=1.3)
        move = (y == 3) & (np.arange(n) % 8 < 4)
        x[move] += (1.3 * (PIXELS[2] - PIXELS[3])).astype(np.float32)
        found.append((x, y))
    return found


def test_the_hard_classes_come_first(hard_class):
    result = decomposed(*hard_class)
    parts, left_out = class_parts(result)
    assert left_out == 0 and len(parts) == K * 4
    worse = [p for p in parts if p.p_holm < 0.01 and p.difference > 0]
    assert worse and {p.name for p in worse} <= {"2", "3"}  # easy classes differ from all rows as well
    adjusted = [p.p_holm for p in parts]
    assert adjusted == sorted(adjusted) and all(p.p_holm >= p.p for p in parts)


def test_the_surest_come_first_also_where_none_is_sure():
    """Of seventy groups of three rows Holm's p is 1 for all, and the two that err most were the last."""
    x, y = draw(630, 1, spread=1.0)
    xt, yt = draw(210, 2, spread=1.0)
    xt[:3] = -xt[:3]
    groups = ([f"a{i // 9}" for i in range(630)], [f"b{i // 3}" for i in range(210)])
    parts = group_parts(decomposed((x, y), (xt, yt), groups=groups))
    assert parts[0].name == "b0" and parts[0].p_holm > 0.01
    alike = [p for p in parts if p.p_holm == 1]
    assert len(alike) > 100 and [p.p for p in alike] == sorted(p.p for p in alike)


def test_classes_that_differ_by_rounding_do_not_differ():
    """Of constant features every class has every error of all rows, but for 1e-16."""
    y, yt = np.arange(300) % K, np.arange(100) % K
    result = decomposed((np.ones((300, 3), np.float32), y), (np.ones((100, 3), np.float32), yt), probe="ridge")
    parts = [p for p in class_parts(result)[0] if p.quantity in ("probe_gen", "enc_gen")]
    assert parts and all(abs(p.difference) < 1e-9 and p.p == 1 for p in parts)


@pytest.mark.parametrize("width", [80, 100])
def test_long_names_of_one_hierarchy_are_told_apart(hard_class, width):
    names = np.array([f"animalia.chordata.mammalia.carnivora.species_{i}" for i in range(K)])
    result = decomposed(*((x, names[y]) for x, y in hard_class))
    table = render_explanation(explained(result), width)
    rows = [line for line in table.splitlines() if line.startswith("  ani") and "[" in line]
    assert len(rows) >= 4 and max(map(len, table.splitlines())) <= width
    assert len({line.split()[0] for line in rows}) >= 3 and all(line.split()[0][-2] == "_" for line in rows)


@pytest.mark.parametrize("probe", ["ridge", "logistic"])
def test_parts_of_classes_make_the_whole(hard_class, probe):
    result = decomposed(*hard_class, probe=probe)
    parts, _ = class_parts(result)
    for name in (*result.component_names, "agg_risk"):
        of_name = [p for p in parts if p.quantity == name]
        assert sum(p.n_train for p in of_name) == 1200 and sum(p.n_test for p in of_name) == 400
        # R_AS of a class has a control variate of its own: its slope is estimated from fewer rows
        near = 0.01 if "risk_as" in QUANTITIES[name].weights else 1e-12
        assert sum(p.carried for p in of_name) == pytest.approx(result.estimate(name), abs=near)
    judged = result.judgements
    own = next(p for p in parts if (p.name, p.quantity) == ("3", "agg_risk"))
    assert own.estimate == pytest.approx(judged.us.wrong[judged.test_labels == 3].mean(), abs=1e-12)


def test_classes_alike_are_rarely_found_to_differ():
    """Four classes in symmetric places: with Holm's correction over 16 comparisons, nearly never."""
    centres = 1.2 * np.eye(K, D)
    found = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        y, yt = np.arange(400) % K, np.arange(160) % K
        x, xt = ((centres[c] + rng.standard_normal((len(c), D))).astype(np.float32) for c in (y, yt))
        parts, _ = class_parts(decomposed((x, y), (xt, yt), probe="ridge"))
        found += parts[0].p_holm < 0.05
    assert found <= 3  # binomial(20, 0.05): 4 or more has probability 0.016


def test_classes_are_rarely_found_to_differ_where_a_ridge_probe_learns_nothing():
    """One probe shifts whole classes then: their errors vary with it, far beyond what their rows show."""
    found, worlds, train = 0, 15, 400
    for seed in range(worlds):
        rng = np.random.default_rng(seed)
        y, y_test = np.arange(K * train) % K, np.arange(K * 40) % K
        x, x_test = (rng.standard_normal((len(labels), 3)).astype(np.float32) for labels in (y, y_test))
        parts, _ = class_parts(decomposed((x, y), (x_test, y_test), probe="ridge"))
        found += parts[0].p_holm < 0.05
    assert found <= 5  # by rows alone 14


def test_a_class_without_errors_is_found_among_others_with_many():
    """0 of 100 rows where one in three errs elsewhere."""
    rng = np.random.default_rng(0)
    y, yt = np.arange(1200) % K, np.arange(400) % K
    x, xt = ((0.25 * PIXELS[c] + rng.standard_normal((len(c), D))).astype(np.float32) for c in (y, yt))
    x[y == 0, 0] += 30
    xt[yt == 0, 0] += 30
    parts, _ = class_parts(decomposed((x, y), (xt, yt)))
    total = next(p for p in parts if (p.name, p.quantity) == ("0", "agg_risk"))
    assert total.estimate == 0 and total.p_holm < 0.01


def test_a_class_with_too_few_rows_is_counted():
    x, y = draw(N, 1)
    xt, yt = draw(M, 2)
    keep = (yt != 2) | (np.cumsum(yt == 2) <= 1)
    parts, left_out = class_parts(decomposed((x, y), (xt[keep], yt[keep]), probe="ridge"))
    assert left_out == 1 and {p.name for p in parts} == {"0", "1", "3"}


def test_a_hard_group_is_found():
    x, y = draw(1200, 1, spread=1.0)
    xt, yt = draw(400, 2, spread=1.0)
    xt[:20] = -xt[:20]  # one patient's images are inverted
    groups = ([f"a{i // 20}" for i in range(1200)], [f"b{i // 20}" for i in range(400)])
    parts = group_parts(decomposed((x, y), (xt, yt), groups=groups))
    assert (parts[0].name, parts[0].quantity, parts[0].n_test) == ("b0", "agg_risk", 20)
    assert parts[0].p_holm < 0.001 and parts[1].p_holm > 0.01
    assert {p.quantity for p in parts} == {"agg_risk", "probe_gen", "risk_af"}
    assert parts[0].grade is Grade.FEW_ROWS  # 20 rows, of which fewer than ten are the rarer of right and wrong
    large = ([f"a{i // 300}" for i in range(1200)], [f"b{i // 100}" for i in range(400)])
    total, *_ = group_parts(decomposed((x, y), (xt, yt), groups=large))
    assert total.estimate * total.n_test > 10 and total.grade is Grade.SOUND
    result = decomposed((x, y), (xt, yt), groups=groups)
    table = render_explanation(explained(result), 100)
    assert "  *     fewer than 10 rows decide this number" in table  # a line for each mark that is in it
    assert max(map(len, table.splitlines())) <= 100
    assert group_parts(decomposed((x, y), (xt, yt), probe="ridge")) == ()


# --- other probes and layers


def test_ridge_is_set_against_logistic_on_the_same_rows():
    train, test = draw(N, 3), draw(M, 4)
    logistic, ridge = decomposed(train, test), decomposed(train, test, probe="ridge")
    found = compare_probes(Run.of(logistic, ridge))
    for d in found.differences:
        assert d.difference == pytest.approx(ridge.estimate(d.quantity) - logistic.estimate(d.quantity), abs=1e-12)
    assert found.agree == (logistic.bottleneck.quantity == ridge.bottleneck.quantity)
    assert compare_probes(Run.of(logistic)) is None


def test_the_best_layer_and_its_ties():
    train, test = draw(1200, 3), draw(400, 4)
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((D, D)))[0].astype(np.float32)
    layers = [lambda x: x[:, :4].copy(), lambda x: x, lambda x: x @ turn]
    results = [
        decomposed((f(train[0]), train[1]), (f(test[0]), test[1]), probe="ridge", scaling="none") for f in layers
    ]
    found = compare_layers(results, ["early", "late", "turned"])
    assert [layer.n_features for layer in found] == [4, D, D]
    assert found[0].low > 1 and found[1].low == found[2].low == 1


# --- the usability gap


def rings(n: int, seed: int):
    """Two classes by their distance from the origin, in eight features: no plane tells them apart."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    x = rng.standard_normal((n, 8))
    x *= (1 + 1.2 * y[:, None]) / np.linalg.norm(x, axis=1, keepdims=True) * np.sqrt(8)
    return (x + 0.3 * rng.standard_normal(x.shape)).astype(np.float32), y


@pytest.mark.parametrize("probe", ["ridge", "logistic"])
def test_rings_need_more_than_a_linear_layer(probe):
    train, test = rings(800, 1), rings(300, 2)
    linear = decomposed(train, test, probe=probe, midpoint=True)
    gap = usability_gap(make_task(*train, *test), linear)
    d = gap.difference("agg_risk")
    assert d.estimate_baseline > 0.35 and d.estimate < 0.15 and d.high < -0.2
    assert gap.difference("risk_af_midpoint").high < 0
    assert gap.landmarks == n_landmarks(800) == 200


def test_gaussians_of_one_covariance_need_a_linear_layer_only():
    """The best rule is linear: a non-linear probe gains nothing beyond its interval, and may pay for its features."""
    train, test = draw(1200, 1), draw(500, 2)
    gap = usability_gap(make_task(*train, *test), decomposed(train, test, midpoint=True))
    d = gap.difference("agg_risk")
    assert d.high >= 0 and d.difference > -0.02
    # R_AF falls with features that carry nothing; that is why it does not answer
    assert gap.difference("approx_usability").difference < 0


def test_nystrom_features_reproduce_the_kernel_on_the_landmarks():
    x, y = draw(N, 1)
    task = make_task(x, y, *draw(M, 2))
    kernel = _Kernel.of(task, task.train_rows, 0)
    scaled = kernel.landmarks * kernel.scale + kernel.mean
    features = kernel.features(Features.of_arrays(scaled.astype(np.float32)))[:, D:].astype(np.float64)
    wanted = np.exp(-_squared(kernel.landmarks, kernel.landmarks) / (2 * kernel.bandwidth**2))
    # eigenvalues below 1e-6 of the largest, which is below the number of landmarks, are left out
    np.testing.assert_allclose(features @ features.T, wanted, atol=1e-6 * len(wanted))


def test_no_judged_row_is_a_landmark():
    x, y = draw(N, 1)
    task = make_task(x, y, *draw(M, 2))
    linear = decomposed((x, y), draw(M, 2), probe="ridge")
    held = task.train_rows[linear.judgements.in_subset]
    from ssl_risk_rs.decomposition.nystrom import _fold_rows

    assert not set(_fold_rows(task, linear).tolist()) & set(held.tolist())


def test_the_gap_refuses_the_paper_s_protocol():
    train, test = draw(N, 1), draw(M, 2)
    with pytest.raises(ParameterError, match="needs a decomposition of the strict protocol"):
        usability_gap(make_task(*train, *test), decomposed(train, test, protocol="paper", probe="ridge"))


def test_many_classes_of_few_rows_do_not_differ_by_chance():
    """Thirty classes in symmetric places, ten test rows each: by normal quantiles 3 of these tables, and 18 of 100, had
    one that differs."""
    found = 0
    for seed in range(25):
        rng = np.random.default_rng(seed)
        y, y_test = np.arange(1200) % 30, np.arange(300) % 30
        x, x_test = (
            (2.5 * np.eye(30, 40)[c] + rng.standard_normal((len(c), 40))).astype(np.float32) for c in (y, y_test)
        )
        parts, _ = class_parts(decomposed((x, y), (x_test, y_test), probe="ridge"))
        found += parts[0].p_holm < 0.05
    assert found <= 1


@pytest.mark.parametrize(
    ("low", "high", "p_holm", "begins"),
    [
        (-0.04, -0.01, 0.01, "A linear layer is not enough: a non-linear probe errs 2.50 points less"),
        (-0.04, -0.01, 0.09, "A linear layer may not be enough:"),
        # an interval that is short, and far on the side of the non-linear probe
        (-0.024, 0.001, 0.1, "These rows are too few to tell whether a linear layer is enough"),
        (-0.015, 0.05, 1.0, "A linear layer is enough here"),
        (-0.03, 0.05, 1.0, "These rows are too few"),
        (0.01, 0.05, 0.01, "A linear layer is enough here"),
    ],
)
def test_a_linear_layer_is_enough_where_nothing_is_left_to_gain(low, high, p_holm, begins):
    d = Difference(
        "agg_risk", "a", "b", 0.179, 0.17, (low + high) / 2, 0.01, low, high, 100, None, 10, np.inf, 0.1, p_holm, 0.5,
        Grade.SOUND,
    )  # fmt: skip
    said = _gap_sentence(UsabilityGap(10, 1.0, (d, d, d), 1.0), 0.95)
    assert said.startswith(begins)
    assert ("p = 0.090" in said) == (p_holm == 0.09)


def _gap_of(agg: tuple[float, float], middle: tuple[float, float], unseen: tuple[float, float], p: float = 0.001):
    rows = {"agg_risk": agg, "risk_af_midpoint": middle, "enc_gen": unseen}
    rest = (100, None, 10, np.inf, p, p, 0.5, Grade.SOUND)
    differences = [Difference(n, "a", "b", 0.179, 0.17, sum(e) / 2, 0.01, *e, *rest) for n, e in rows.items()]
    return UsabilityGap(10, 1.0, tuple(differences), 1.0)


@pytest.mark.parametrize(
    ("middle", "unseen", "p", "far", "begins"),
    [
        ((-0.04, -0.01), (-0.01, 0.02), 0.001, False, "A linear layer is not enough: a non-linear probe errs 5.00"),
        # only the test rows tell the probes apart
        ((-0.01, 0.01), (-0.07, -0.02), 0.001, False, "A linear layer bears the test rows worse: a non-linear probe"),
        ((-0.01, 0.01), (-0.07, -0.02), 0.001, True, "A linear layer bears the test rows worse"),
        ((-0.04, -0.01), (-0.07, -0.02), 0.001, False, "A linear layer is not enough: "),
        ((-0.01, 0.01), (-0.07, 0.02), 0.001, False, "A linear layer is not enough: "),
        ((-0.04, -0.01), (-0.01, 0.02), 0.001, True, "A linear layer is not enough, or rows far out spoil it: "),
    ],
)
def test_a_shift_and_rows_far_out_are_not_taken_for_what_is_not_linearly_readable(middle, unseen, p, far, begins):
    gap = _gap_of((-0.08, -0.02), middle, unseen, p)
    assert _gap_sentence(gap, 0.95, far=far).startswith(begins)


def test_of_collapsed_features_nothing_is_enough():
    gap = _gap_of((-0.001, 0.001), (-0.001, 0.001), (-0.001, 0.001), 1.0)
    assert _gap_sentence(gap, 0.95, collapsed=True).startswith("A non-linear probe finds no more in these features: ")


def test_wrong_labels_of_training_rows_are_not_blamed_on_the_representation():
    """Every fifth training label is wrong, and no test label: the total is next to nothing."""
    (x, y), test = draw(1200, 1, spread=3.0), draw(400, 2, spread=3.0)
    wrong = np.arange(len(y)) % 5 == 0
    found = explained(decomposed((x, np.where(wrong, (y + 1) % (y.max() + 1), y)), test, probe="ridge"))
    assert found.result.estimate("agg_risk") < 0.1 and found.verdict is Verdict.TRAINING_ROWS
    assert "whose labels may be wrong" in said(found) and "Training rows are harder than test rows" in said(found)
    few = {name: replace(e, grade=Grade.INDICATIVE) for name, e in found.result.estimates.items()}
    indicative = replace(found.result, estimates=few)  # of which nothing is sure
    assert explained(indicative).verdict is not Verdict.TRAINING_ROWS
    noisy_too = explained(decomposed(draw(1200, 1, spread=0.3), draw(400, 2, spread=0.3), probe="ridge"))
    assert noisy_too.verdict is not Verdict.TRAINING_ROWS


def test_classes_that_a_non_linear_probe_tells_are_there_where_the_linear_one_guesses():
    """Two classes on rings around one centre."""
    rng = np.random.default_rng(5)
    angle, y = rng.uniform(0, 2 * np.pi, 900), np.arange(900) % 2
    x = ((1 + y + 0.1 * rng.standard_normal(900)) * np.stack([np.cos(angle), np.sin(angle)])).T.astype(np.float32)
    result = decomposed((x[:600], y[:600]), (x[600:], y[600:]), probe="ridge")
    found = explained(result)
    assert found.verdict is Verdict.AT_CHANCE and "check that labels and images" in said(found)
    gap = _gap_of((-0.48, -0.42), (-0.48, -0.42), (-0.02, 0.02))
    gap = replace(gap, differences=tuple(replace(d, estimate_baseline=0.5) for d in gap.differences))
    text = said(replace(found, gap=gap, no_gap=None))
    assert "A non-linear probe does tell the classes" in text and "check" not in text
    assert "Make sure first that no rows lie far out" in text
    spoilt = Spread(3.0, 0.5, 2, 0, 600, far_share=0.9)  # by more than a hundredth of the rows
    assert "A few rows lie far out and move it" in said(replace(found, gap=gap, no_gap=None, spread=spoilt))
    swapped = said(replace(found, gap=gap, no_gap=None, verdict=Verdict.TEST_ROWS))
    assert "their labels are right" in swapped and "another order of the classes" not in swapped
    unsure = replace(gap, differences=tuple(replace(d, p_holm=0.3) for d in gap.differences))
    assert "check that labels" in said(replace(found, gap=unsure, no_gap=None))


def test_labels_gain_no_more_than_the_total():
    train, test = draw(160, 3, spread=0.75, noise=25), draw(400, 4, spread=0.75, noise=25)
    result = decomposed(train, test, probe="ridge", floor=1e-3)
    total = result.estimate("agg_risk")
    more = replace(result.estimates["probe_gen"], estimate=total + 0.04)
    beyond = replace(result, estimates={**result.estimates, "probe_gen": more},
                     bottleneck=replace(result.bottleneck, quantity="probe_gen"))  # fmt: skip
    found = replace(explained(result), result=beyond, verdict=Verdict.LABELS)
    assert f"lower the total by all of its {100 * total:.1f} points at most" in said(found)


def _with_total(result, estimate, low, high):
    e = replace(result.estimates["agg_risk"], estimate=estimate, low=low, high=high)
    return replace(result, estimates={**result.estimates, "agg_risk": e})


def _control(found, quantity, baseline, difference, low, high):
    (d,) = (d for d in found.of_control if d.quantity == quantity)
    changed = replace(
        d, estimate_baseline=baseline, estimate=baseline + difference, difference=difference, low=low, high=high
    )
    return tuple(changed if each is d else each for each in found.of_control)


@pytest.fixture(scope="module")
def beside(pixels):
    return explained(decomposed(draw(N, 3), draw(M, 4), control=(pixels[0][0], pixels[1][0])))


def test_a_total_whose_interval_reaches_guessing_is_at_chance(beside):
    chance = beside.result.sizes.chance
    result = _with_total(beside.result.with_control(None), chance - 0.01, chance - 0.05, chance + 0.03)
    judged = np.random.default_rng(1).permutation(result.judgements.us.rank)  # no class is told either
    result = replace(
        result, judgements=replace(result.judgements, us=replace(result.judgements.us, rank=np.full_like(judged, 1)))
    )
    assert decide(result, beside.provenance, untrained=False) is Verdict.TEST_ROWS  # held-out rows are told well
    held_out = replace(result.estimates["risk_as"], low=chance - 0.1, high=chance + 0.02)
    result = replace(result, estimates={**result.estimates, "risk_as": held_out})
    assert decide(result, beside.provenance, untrained=False) is Verdict.AT_CHANCE


def test_at_chance_no_sentence_says_that_classes_are_told(beside):
    chance = beside.result.sizes.chance
    result = _with_total(beside.result, chance, chance - 0.05, chance + 0.05)
    for which in (Verdict.AT_CHANCE, Verdict.COLLAPSED):
        assert "by class it clearly does" not in said(replace(beside, result=result, verdict=which))
    assert "by class it clearly does" in said(replace(beside, result=result, verdict=Verdict.LABELS))


def test_a_collapsed_encoder_is_not_said_to_be_untrained_as_well(beside):
    found = replace(beside, verdict=Verdict.COLLAPSED, untrained=True, spread=Spread(1.0, 1.0, 12, 0, N))
    assert "never trained" not in said(found)


@pytest.mark.parametrize(("p", "settled"), [(0.79, False), (0.5, False), (0.81, True)])
def test_a_largest_part_that_is_not_sure_is_said_to_be_so(beside, p, settled):
    result = replace(
        beside.result, bottleneck=Bottleneck("probe_gen", p), floor=replace(beside.result.floor, separable=False)
    )
    text = said(replace(beside, result=result, verdict=Verdict.LABELS))
    assert ("do not settle which part is the largest" not in text) == settled


def test_less_than_the_control_has_an_interval_of_what_is_less(beside):
    of_control = _control(beside, "agg_risk", 0.5, -0.1, -0.14, -0.06)
    text = said(replace(beside, of_control=of_control, verdict=Verdict.LABELS))
    assert "errs on 10.0 % of the rows less (interval 6.0 % to 14.0 %)" in text


def test_hardly_anything_is_not_nothing(beside):
    for high, how in (
        (-0.001, "carries hardly anything beyond"),
        (0.01, "do not show that the representation carries anything beyond"),
    ):
        of_control = _control(beside, "agg_risk", 0.5, -0.02, -0.04, high)
        assert how in said(replace(beside, of_control=of_control, verdict=Verdict.NOTHING_BEYOND_CONTROL))


@pytest.mark.parametrize("supervised", [True, False])
def test_an_architecture_may_help_where_no_twin_tells_it_apart(beside, supervised):
    (x, y), (xt, yt) = draw(N, 3), draw(M, 4)
    twin = {"supervised": x[:, :8].copy()} if supervised else {}
    found = replace(
        beside,
        result=decomposed((x, y), (xt, yt), probe="ridge", **twin),
        of_control=(),
        verdict=Verdict.REPRESENTATION,
    )
    assert ("without a supervised twin the two are not told apart" in said(found)) != supervised


def test_a_shift_is_told_with_what_an_untrained_encoder_loses(beside):
    of_control = _control(beside, "enc_gen", 0.07, 0.02, -0.01, 0.05)
    assert "loses 7.0 % between them, and this one 9.0 %" in said(
        replace(beside, of_control=of_control, verdict=Verdict.SHIFT)
    )
    of_control = _control(beside, "enc_gen", -0.01, 0.02, -0.01, 0.05)
    assert "never trained loses" not in said(replace(beside, of_control=of_control, verdict=Verdict.SHIFT))


def test_a_shift_needs_one_that_the_control_shows_for_sure(beside):
    enc_gen = replace(beside.result.control.estimates["enc_gen"], estimate=0.03, low=-0.01, high=0.07)
    control = replace(beside.result.control, estimates={**beside.result.control.estimates, "enc_gen": enc_gen})
    result = replace(
        _with_total(beside.result, 0.3, 0.25, 0.35), bottleneck=Bottleneck("enc_gen", 0.9), control=control
    )
    of_control = [replace(d, estimate_baseline=0.6, difference=-0.3, low=-0.35, high=-0.25) if d.quantity == "agg_risk"
                  else replace(d, low=-0.02, high=0.02) for d in beside.of_control]  # fmt: skip
    assert decide(result, beside.provenance, untrained=False, of_control=of_control) is Verdict.UNSEEN


def test_the_best_layer_is_no_tie_of_its_own(beside):
    e = (beside.result.estimates["agg_risk"],)
    layers = [Layer("early", 4, e, 2, 1, 2), Layer("late", 4, e, 1, 1, 2), Layer("first", 4, e, 3, 3, 3)]
    assert next(_layers(layers, 0.95)) == (
        "  Of 3 layers, late errs least in total; early is not excluded (95 %, all pairs considered)."
    )


def test_each_probe_has_its_own_largest_part(beside):
    contrast = ProbeContrast((), (Bottleneck("probe_gen", 0.9), Bottleneck("approx_usability", 0.9)))
    assert (
        "probe generalization is the largest part of the logistic probe's error and approximation + usability of"
        in next(_probes(replace(beside, probes=contrast)))
    )


def test_a_small_gain_of_a_small_error_is_enough():
    d = Difference(
        "agg_risk",
        "a",
        "b",
        0.02,
        0.0195,
        -0.0005,
        0.002,
        -0.0045,
        0.0035,
        100,
        None,
        10,
        np.inf,
        0.1,
        1.0,
        0.5,
        Grade.SOUND,
    )
    assert _gap_sentence(UsabilityGap(10, 1.0, (d,), 1.0), 0.95).startswith("A linear layer is enough here")


def test_the_table_of_classes_counts_those_that_differ_and_shows_what_they_carry(hard_class):
    found = explained(decomposed(*hard_class, probe="ridge"))
    apart = {p.name for p in found.classes if p.p_holm < 0.05}
    lines = list(_parts("class", found.classes, found, wide=True))
    assert f"; {len(apart)} of them differ" in lines[0]
    best = found.classes[0]
    assert f"{100 * best.carried:.2f}" in lines[2] and abs(best.carried - best.estimate) > 0.001
    alike = tuple(replace(p, p_holm=0.5) for p in found.classes)
    assert "the data do not show that any differs" in next(_parts("class", alike, found, wide=True))


def test_directions_are_those_of_the_correlations_with_more_features_than_rows():
    x = np.random.default_rng(0).standard_normal((20, 50)).astype(np.float32)
    found = spread_of(Features.of_arrays(x), np.arange(20))
    values = np.linalg.eigvalsh(np.corrcoef(x.T.astype(float)))
    assert found.directions == pytest.approx(values.sum() ** 2 / (values**2).sum(), rel=1e-6)


def test_parts_of_groups_are_those_of_their_rows():
    x, y = draw(600, 1, spread=1.0)
    xt, yt = draw(201, 2, spread=1.0)
    groups = ([f"a{i // 20}" for i in range(600)], [f"b{i // 20}" for i in range(201)])
    result = decomposed((x, y), (xt, yt), groups=groups, probe="ridge")
    parts = group_parts(result)
    total = [p for p in parts if p.quantity == "agg_risk"]
    assert len(total) == 10  # the last group has one row
    wrong = result.judgements.us.wrong.astype(float)
    assert sum(p.carried for p in total) == pytest.approx((wrong[:200]).sum() / 201, abs=1e-12)
    held = [p for p in parts if p.quantity == "probe_gen"]
    e = result.judgements.held_out.wrong.astype(float) - result.judgements.af.wrong[result.judgements.in_subset]
    own = result.judgements.train_groups[result.judgements.in_subset]
    for p in held:
        values = e[own == p.name.encode()]
        assert p.n_train == p.n_subset == len(values)
        half = 1.959964 * np.sqrt(values.var(ddof=1) / len(values) + 1 / len(values) ** 2)
        assert p.high - p.estimate == pytest.approx(half, rel=1e-6)
        assert p.se == pytest.approx(np.sqrt(e.var(ddof=1) / len(values) + 1 / len(values) ** 2), rel=1e-9)


def test_copies_among_training_rows_are_not_taken_for_rows_that_are_told():
    """Random labels: held-out rows are predicted by their copies, and test rows by nobody."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((300, 60)).astype(np.float32), rng.integers(0, K, 300)
    again = np.repeat(np.arange(300), 5)
    result = decomposed(
        (x[again], y[again]), (rng.standard_normal((400, 60)).astype(np.float32), rng.integers(0, K, 400))
    )
    assert result.estimates["risk_as"].high < 0.65  # chance level is 0.75
    found = explained(result)
    assert found.verdict is Verdict.AT_CHANCE and "are equal to another one in every feature" in said(found)


@pytest.mark.parametrize(("bad", "n"), [(1, 90), (4, 2000), (6, 2000)])
def test_rows_far_out_hide_no_spread(bad, n):
    x = np.random.default_rng(0).standard_normal((n, 64)).astype(np.float32)
    x[:bad] *= 1e4
    spread = spread_of(Features.of_arrays(x), np.arange(n, dtype=np.uint32))
    assert spread.far == bad and spread.directions > 30 and not spread.collapsed


def test_labels_set_aside_are_no_wrong_labels():
    """Encoder generalization is below 0 by fewer labels of held-out rows' probes alone: nothing is suspected."""
    train, test = draw(400, 3, spread=0.8, noise=60), draw(4000, 4, spread=0.8, noise=60)
    result = decomposed(train, test, probe="ridge")
    estimates = dict(result.estimates)
    estimates["enc_gen"] = replace(estimates["enc_gen"], estimate=-0.04, low=-0.06, high=-0.02)
    for high, suspected in ((0.01, False), (-0.005, True)):
        estimates["enc_gen_equal_labels"] = replace(estimates["enc_gen_equal_labels"], estimate=-0.02, high=high)
        found = explained(replace(result, estimates=estimates))
        assert ("wrong labels among the training rows" in said(found)) is suspected
