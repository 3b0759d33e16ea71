"""An explanation as plain text: sentences that can be read alone, then the numbers they rest on, in percent.

A sentence never turns the size of a component into advice before the total has been set against guessing and against
an encoder that was never trained: with random weights, too, most of the error is probe generalization.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from ssl_risk_rs._characters import clipped
from ssl_risk_rs.report.budget import budget
from ssl_risk_rs.report.numbers import hundred, p_value, rounded
from ssl_risk_rs.report.published import label as published_label
from ssl_risk_rs.report.sentences import classes_that_make, harder_training, legend, mark, short
from ssl_risk_rs.report.text import between, folded
from ssl_risk_rs.results.compare import Difference
from ssl_risk_rs.results.estimate import Estimate, Grade
from ssl_risk_rs.results.explain import (
    COLLAPSED_DIRECTIONS,
    FAR_SHARE,
    LEAST_FEATURES,
    Explanation,
    Layer,
    NoGap,
    Part,
    UsabilityGap,
    Verdict,
)
from ssl_risk_rs.results.explain_published import PublishedTraits
from ssl_risk_rs.results.quantities import QUANTITIES
from ssl_risk_rs.results.run import Decomposition

__all__ = ["ROWS", "render_explanation", "verdict_sentences"]

#: classes, or groups, that the table shows
ROWS = 10
#: columns without a terminal
WIDTH = 100
#: a non-linear probe that errs less by no more than this share of the linear total, for sure, is of no use
NARROW_GAP = 0.1
#: classes are called unequal where naming the most frequent one errs less than this share of guessing among equal ones
UNEQUAL = 0.9
#: directions below which features of more classes have nearly collapsed
FEW_DIRECTIONS = 3.0
#: pairs of classes that are shown as taken for each other
CONFUSIONS = 3
#: rows of a class that are taken for another one, from which that is shown
LEAST_CONFUSED = 5
#: columns of the published table in words
_CHOICES = {
    "z_dim": "dimension", "n_parameters": "number of parameters", "batch_size": "batch size",
    "nviews": "number of views", "projection_nparameters": "number of parameters of the projection head",
    "n_augmentations": "number of augmentations", "ssl_mode": "kind of pretraining", "family": "architecture",
    "pretraining_data": "pretraining data",
}  # fmt: skip
_NO_GAP = {
    NoGap.DECLINED: "it was declined (--no-gap)",
    NoGap.FILES: "the record does not name the files of the features; explain the files themselves",
    NoGap.BANK_GONE: "the feature bank of this run is gone, or holds other features now; extract it again",
    NoGap.TOO_LARGE: "it would take more than a minute, or more than 4 GB (--gap fits it where memory allows)",
    NoGap.PAPER: "the paper's protocol has no rows on which nothing is judged; use --protocol strict",
    NoGap.OTHER_ROWS: "the features have other rows, or are cut otherwise, than this run judged",
}


#: verdicts that are decided once the probe was found to do better than guessing
_AFTER_CHANCE = frozenset(Verdict) - {Verdict.COLLAPSED, Verdict.NO_INTERVAL, Verdict.TEST_ROWS, Verdict.AT_CHANCE}


def render_explanation(found: Explanation, width: int | None = None) -> str:
    """The whole explanation; lines are folded to `width`, or to 100 columns."""
    result, provenance = found.result, found.provenance
    sizes = result.sizes
    columns = WIDTH if width is None else width
    lines = [
        f"{short(provenance.encoder)} on {provenance.data}"
        f"{f', target {provenance.target}' if provenance.target else ''} · {result.method.probe} probe "
        f"({result.method.protocol} protocol)",
        f"  {sizes.train:,} training rows · {sizes.test:,} test rows · {sizes.features:,} features · "
        f"{sizes.classes:,} classes",
        "",
        *(f"  {sentence}" for sentence in verdict_sentences(found)),
        "",
        *_numbers(found),
    ]
    if found.layers:
        lines += ["", *_layers(found.layers, result.method.confidence)]
    if found.probes is not None:
        lines += ["", *_probes(found)]
    lines += ["", *_gap(found)]
    lines += ["", *_parts("class", found.classes, found, wide=columns >= WIDTH)]
    if found.confusions and found.confusions[0].count >= LEAST_CONFUSED:
        lines += ["", *_confusions(found)]
    if found.groups:
        lines += ["", *_parts("group", found.groups, found, wide=columns >= WIDTH)]
    if found.published is not None:
        lines += ["", *_published(found.published)]
    if below := legend(_grades(found)):
        lines += ["", *below]
    return "\n".join(folded(line, columns) if line else "" for line in lines)


def _grades(found: Explanation) -> Iterator[Grade]:
    """Of all intervals that are printed."""
    yield from (found.result.estimates[name].grade for name in (*found.result.component_names, "agg_risk"))
    for differences in (found.of_control, None if found.probes is None else found.probes.differences,
                        None if found.gap is None else found.gap.differences):  # fmt: skip
        yield from (d.grade for d in differences or ())
    yield from (part.grade for parts in (found.classes, found.groups) for part in parts[:ROWS])


# --- the verdict


def verdict_sentences(found: Explanation) -> list[str]:
    """What the error is mostly made of, and what that does and does not mean."""
    sentences = {
        Verdict.COLLAPSED: _collapsed,
        Verdict.NO_INTERVAL: _no_interval,
        Verdict.TEST_ROWS: _test_rows,
        Verdict.AT_CHANCE: _at_chance,
        Verdict.NOTHING_BEYOND_CONTROL: _nothing_beyond_control,
        Verdict.CONTROL_NOT_EXCLUDED: _control_not_excluded,
        Verdict.UNTRAINED: _untrained,
        Verdict.NOT_IDENTIFIED: _not_identified,
        Verdict.ARCHITECTURE: _architecture,
        Verdict.WEAK_TWIN: _weak_twin,
        Verdict.REPRESENTATION: _representation,
        Verdict.TRAINING_ROWS: _training_rows,
        Verdict.LABELS: _labels,
        Verdict.OF_CLASSES: _of_classes,
        Verdict.SHIFT: _shift,
        Verdict.MEMORIZED: _memorized,
        Verdict.UNSEEN: _unseen,
    }[found.verdict](found)
    sentences += _besides(found)
    if found.result.estimates["agg_risk"].high >= found.result.sizes.chance and found.verdict in _AFTER_CHANCE:
        sentences.append(
            "In 0-1 error it may do no better than always naming the most frequent class; by class it clearly does: "
            "--metric balanced shows these numbers with classes weighed alike."
        )
    if found.untrained and found.verdict not in (Verdict.UNTRAINED, Verdict.COLLAPSED):
        sentences.append("The encoder was never trained, as its name says.")
    return sentences


def _percent(value: float) -> str:
    return f"{hundred(value, 1):.1f} %"


def _total(found: Explanation) -> str:
    e = found.result.estimates["agg_risk"]
    return f"The probe errs on {_percent(e.estimate)} of the test rows; guessing errs on " + _percent(
        found.result.sizes.chance
    )


def _largest(found: Explanation) -> str:
    """The largest component with its probability."""
    largest = found.result.bottleneck
    p = largest.probability
    if p is None and found.result.floor.separable:
        return (
            "Which part is the largest cannot be told: a probe separates the training rows, so that usability and "
            "probe generalization are not told apart."
        )
    e = found.result.estimates[largest.quantity]
    text = f"The largest part of the error is {QUANTITIES[largest.quantity].label}, {_percent(e.estimate)}"
    if p is None:
        return f"{text}; nothing says how sure that is: a part has no interval, its rows come from too few groups."
    sure = "> 0.99" if p > 0.99 else f"= {p:.2f}"
    text = f"{text} (P {sure} that it is the largest, over samples and over the penalty's floor)."
    if p < 0.8:
        text += " The data do not settle which part is the largest."
    return text


def _beside_control(found: Explanation) -> str:
    d = found.control("agg_risk")
    name = "" if found.provenance.control is None else f" {short(found.provenance.control)}"
    if d is None:
        if found.provenance.no_control or found.result.control is None:
            return (
                "There is no control encoder here: an encoder with random weights can show the same pattern, and "
                "nothing in these numbers tells the two apart (ssl-risk-rs run adds a control)."
            )
        return ""
    how, low, high = ("less", -d.high, -d.low) if d.difference < 0 else ("more", d.low, d.high)
    return (
        f"The control{name}, which was never trained, errs on {_percent(d.estimate_baseline)}: this encoder errs on "
        f"{_percent(abs(d.difference))} of the rows {how} (interval {_percent(low)} to {_percent(high)})."
    )


def _collapsed(found: Explanation) -> list[str]:
    spread = found.spread
    if spread is None or spread.constant == spread.n_features:
        what = f"all {found.result.sizes.features:,} features are constant"
    elif spread.directions < COLLAPSED_DIRECTIONS:
        what = f"the {spread.n_features:,} features vary along {spread.directions:.2f} directions"
    else:
        what = f"the features vary by {math.sqrt(spread.variance):.0e} of their mean, which is rounding"
    return [
        f"The representation has collapsed: {what}.",
        f"{_total(found)}. More labels do not help: what tells the classes apart is not in the representation.",
    ]


def _no_interval(found: Explanation) -> list[str]:
    groups = found.result.sizes.groups_test
    some = "few" if groups is None else f"{groups:,}"
    return [
        f"{_total(found)}. The test rows come from {some} groups: too few for an interval, so that nothing tells these "
        "numbers from those of guessing, or of a control.",
        "Judge it on rows of more groups; twenty or more give intervals that need no mark.",
    ]


def _test_rows(found: Explanation) -> list[str]:
    total, held_out = found.result.estimates["agg_risk"], found.result.estimates["risk_as"]
    worse = total.low > found.result.sizes.chance
    if _tells_non_linearly(found):
        return [
            f"{_total(found)}.",
            f"Held-out training rows are predicted: there a probe errs on {_percent(held_out.estimate)}. A non-linear "
            "probe predicts test rows as well (below), so that their labels are right: a linear probe is moved by "
            "features of test or training rows that lie far out, or differ between the two.",
            "Look for such rows (ssl-risk-rs stats), and at how the features of the two sets were made.",
        ]
    likely = (
        "That is worse than guessing: test rows are probably labelled by another order of the classes"
        if worse
        else "The labels of the test rows may be of another order of the classes, or the rows have little in common"
    )
    return [
        f"{_total(found)}.",
        f"Held-out training rows are predicted: there a probe errs on {_percent(held_out.estimate)}, so that features "
        f"and labels of the training rows belong together. {likely}.",
        "Compare how the two sets were made: class names and their numbers, and how rows and labels were joined.",
    ]


def _at_chance(found: Explanation) -> list[str]:
    if _is_unequal(found.result):
        if found.result.method.tuned_on == "balanced":
            check = "Check"
        else:
            check = (
                "Its scores may still rank rows: --tune-on balanced --metric balanced chooses the penalty for all "
                "classes alike. If that changes nothing, check"
            )
        return [
            f"{_total(found)}, and the difference may be chance.",
            f"Classes are unequal, and the class-balanced error tells this probe from guessing no better. {check} "
            "that labels and images belong together, and that weights were loaded.",
        ]
    if _tells_non_linearly(found):
        return [
            f"{_total(found)}, and the difference may be chance.",
            "A non-linear probe does tell the classes (below): they are in the representation, labels and images go "
            f"together. A linear probe does not read them as these features are scaled. {_look_for_far_rows(found)}"
            "If that changes nothing, another representation, or a probe with hidden layers, is what would help, and "
            "more labels would not.",
        ]
    return [
        f"{_total(found)}, and the difference may be chance.",
        "The representation carries nothing about these labels that a linear probe finds. More labels are not what is "
        "missing; check that labels and images belong together, and that the encoder's weights were loaded.",
    ]


def _look_for_far_rows(found: Explanation) -> str:
    """What to do before a linear probe is blamed."""
    if _is_moved_by_far_rows(found):
        return "A few rows lie far out and move it: leave them out, or clip the features, first. "
    return "Make sure first that no rows lie far out (ssl-risk-rs stats). "


def _is_moved_by_far_rows(found: Explanation) -> bool:
    """Whether rows far out make most of the variance by which a linear probe's features are scaled."""
    return found.spread is not None and found.spread.far_share >= FAR_SHARE


def _tells_non_linearly(found: Explanation) -> bool:
    """Whether the non-linear probe surely errs less than guessing, where the linear one does not."""
    if found.gap is None:
        return False
    d = found.gap.difference("agg_risk")
    below = d.estimate_baseline + d.high < found.result.sizes.chance
    return below and _is_surely_less(d, found.result.method.confidence)


def _is_unequal(result: Decomposition) -> bool:
    """Whether always naming the most frequent class errs much less than guessing among as many equal ones as the test
    rows have."""
    judged = result.judgements
    classes = result.sizes.classes if judged is None else len(np.unique(judged.test_labels))
    return result.sizes.chance < UNEQUAL * (1 - 1 / classes)


def _nothing_beyond_control(found: Explanation) -> list[str]:
    d = found.control("agg_risk")
    assert d is not None  # the verdict rests on it
    given = _given_for_nothing(found)
    shown = (
        f"These rows do not show that the representation carries anything beyond {given} that this probe can use."
        if d.high >= 0
        else f"The representation carries hardly anything beyond {given} that this probe can use."
    )
    return [
        shown,
        f"{_beside_control(found)} Guessing errs on {_percent(found.result.sizes.chance)}.",
        "Components do not say what to change here: an encoder that was never trained shows the same ones, and more "
        "labels would serve the control as well.",
    ]


def _control_not_excluded(found: Explanation) -> list[str]:
    return [
        f"These rows are too few to tell whether the representation carries more than {_given_for_nothing(found)}.",
        f"{_beside_control(found)} Guessing errs on {_percent(found.result.sizes.chance)}.",
        f"{_what_more_rows(found)} Until then its components may be those of an encoder that was never trained.",
    ]


def _what_more_rows(found: Explanation) -> str:
    """Which rows would make the interval of the total shorter, by what it and the control's are made of."""
    made = [b for d in (found.result, found.result.control) if d is not None for b in budget(d)]
    totals = [b for b in made if b.quantity == "agg_risk"]
    if sum(b.probe for b in totals) > sum(b.test for b in totals):
        return "Fit it on more training rows: how far probes of other training rows err is most of what is not known."
    return "Judge it on more test rows."


def _given_for_nothing(found: Explanation) -> str:
    """What a control has."""
    return "the pixels" if (found.provenance.control or "").startswith("pixels:") else "what random weights give"


def _untrained(found: Explanation) -> list[str]:
    return [
        "The encoder was never trained, as its name says. Its components are those of its architecture on these "
        "images: they are a yardstick for trained encoders, not a reason to buy labels.",
        f"{_total(found)}.",
        _largest(found),
    ]


def _not_identified(found: Explanation) -> list[str]:
    sizes = found.result.sizes
    if not found.result.floor.separable:
        return [f"{_total(found)}.", _largest(found), _beside_control(found)]
    return [
        f"{_total(found)}.",
        "The probe makes no error on its own training rows at the penalty's floor: usability and probe generalization "
        f"cannot be told apart with {sizes.features:,} features and {sizes.train:,} training rows, and no part is "
        "called the largest. Their sum is known.",
        _beside_control(found),
    ]


def _architecture(found: Explanation) -> list[str]:
    return [
        f"{_total(found)}. {_largest(found)}",
        "A supervised encoder of this architecture errs as much on its own training images: another architecture is "
        "what can lower this part, not more labels and not more pretraining.",
    ]


def _weak_twin(found: Explanation) -> list[str]:
    less = _percent(-found.result.estimates["usability"].estimate)
    return [
        f"{_total(found)}. {_largest(found)}",
        "That is the training error of the twin, and this encoder, of the same architecture, errs on "
        f"{less} of the rows less there: the twin is too weak to measure what the architecture cannot do. Take a "
        "better one (--supervised), or none: approximation and usability are then one part.",
    ]


def _representation(found: Explanation) -> list[str]:
    what = (
        "the classes are not linearly separable in this representation, however many labels the probe has. More labels "
        "do not lower this part; another representation may"
    )
    if not found.result.supervised:
        what += ", or another architecture: without a supervised twin the two are not told apart"
    return [
        f"{_total(found)}. {_largest(found)}",
        f"It says that {what}. Labels that are wrong or ambiguous, in both sets, count here as well.",
        _beside_control(found),
    ]


def _training_rows(found: Explanation) -> list[str]:
    held_out, name = found.result.estimates["risk_as"], found.result.bottleneck.quantity
    return [
        f"{_total(found)}. On held-out training rows the probe errs on {_percent(held_out.estimate)}.",
        f"{QUANTITIES[name].label.capitalize()} is the largest part, "
        f"{_percent(found.result.estimates[name].estimate)}, which is more than all that test rows show: it is of the "
        "training rows, whose labels may be wrong, or whose images are harder.",
        "Look at the training rows that the probe judges wrongly (outcomes.npz of the run has them) before the "
        "representation is blamed.",
        _beside_control(found),
    ]


def _labels(found: Explanation) -> list[str]:
    largest, total = (found.result.estimates[name].estimate for name in (found.result.bottleneck.quantity, "agg_risk"))
    # other parts may be negative
    gain = (
        f"about {hundred(largest, 1):.1f} points" if largest < total else f"all of its {hundred(total, 1):.1f} points"
    )
    return [
        f"{_total(found)}. {_largest(found)}",
        f"It is what the probe loses for want of labels: labels without end lower the total by {gain} at most. How "
        "fast, few-shot sizes tell (ssl-risk-rs fewshot). A representation that needs fewer labels lowers it as well.",
        *_by_the_midpoint(found),
        _beside_control(found),
    ]


def _by_the_midpoint(found: Explanation) -> list[str]:
    """What labels without end would gain where the training error is optimistic, as it is with features that carry
    nothing."""
    middle, total = found.result.estimates.get("risk_af_midpoint"), found.result.estimates["agg_risk"]
    if middle is None or not _is_optimistic(found.result):
        return []
    gain = max(0.0, total.estimate - middle.estimate)
    text = (
        "The training error is optimistic here, as it is with many features that carry nothing: by the midpoint of "
        f"training and held-out errors ({_percent(middle.estimate)}), labels without end lower the total by about "
        f"{hundred(gain, 1):.1f} points"
    )
    return [f"{text}."]


def _is_optimistic(result: Decomposition) -> bool:
    """Whether errors on training rows are well below those of the same probes on others."""
    return any(note.code.startswith("optimistic_af") for note in result.notes)


def _of_classes(found: Explanation) -> list[str]:
    points = _percent(sum(found.result.of_classes.values()))
    return [
        f"{_total(found)}. {_largest(found)}",
        f"{classes_that_make(found.result).capitalize()} may explain all of it ({points}): read it as what test rows "
        "ask, and not as images that the encoder has seen. --metric balanced weighs classes alike on both sides.",
        _beside_control(found),
    ]


def _shift(found: Explanation) -> list[str]:
    d = found.control("enc_gen")
    sentences = [f"{_total(found)}. {_largest(found)}"]
    if d is not None and d.estimate_baseline > 0:
        sentences.append(
            "Test rows differ from training rows: an encoder that was never trained loses "
            f"{_percent(d.estimate_baseline)} between them, and this one {_percent(d.estimate)}."
        )
    if found.provenance.saw_training_images is False:
        text = "Read this part as the shift between train and test rows, not as memorized images."
    else:
        text = (
            "Read this part as the shift between train and test rows first; what the encoder does better on images "
            "that it has seen would lie in it too, and these numbers do not exclude that."
        )
    sentences.append(f"{text} Labels of rows like the test rows can lower it; more labels of the same kind cannot.")
    return sentences


def _memorized(found: Explanation) -> list[str]:
    d = found.control("enc_gen")
    assert d is not None  # the verdict rests on it
    return [
        f"{_total(found)}. {_largest(found)}",
        f"The control loses {_percent(d.estimate_baseline)} between training and test rows, this encoder "
        f"{_percent(d.difference)} more (interval {_percent(d.low)} to {_percent(d.high)}): it does better on images "
        "that it was pretrained on, unless the rows differ and that costs a better representation more. More or more "
        "varied pretraining images can lower this part.",
    ]


def _unseen(found: Explanation) -> list[str]:
    return [
        f"{_total(found)}. {_largest(found)}",
        "Test rows are predicted worse than held-out training rows. Either the rows differ (in how they were taken or "
        "labelled), or the encoder does better on images that it was pretrained on: these numbers do not tell which.",
        _beside_control(found),
    ]


#: component → what it says where it is not the largest, and surely above 0
_BESIDES = {
    "approx": "what the architecture, or its twin, cannot do",
    "usability": "what this representation does not make linear",
    "approx_usability": "what no linear probe reads from this representation, however many labels it has",
    "probe_gen": "what more labels, or a representation that needs fewer, would lower",
    "enc_gen": "what test rows are harder by: they differ from training rows, or the encoder has seen those",
}
_BESIDES_UNSEEN = "what test rows are harder by: they differ from training rows"
#: verdicts that say what the parts mean; the others say that they mean nothing
_OF_PARTS = (
    Verdict.ARCHITECTURE, Verdict.WEAK_TWIN, Verdict.REPRESENTATION, Verdict.TRAINING_ROWS, Verdict.LABELS,
    Verdict.OF_CLASSES, Verdict.SHIFT, Verdict.MEMORIZED, Verdict.UNSEEN, Verdict.NOT_IDENTIFIED,
)  # fmt: skip


def _besides(found: Explanation) -> list[str]:
    """Of the parts beside the largest those that are surely there; what points to the labels, or to single rows."""
    result, said = found.result, []
    e = result.estimates
    if found.verdict in _OF_PARTS:
        named = "" if result.bottleneck.probability is None else result.bottleneck.quantity
        untold: tuple[str, ...] = ("usability", "approx_usability", "probe_gen") if result.floor.separable else ()
        if _is_optimistic(result):
            untold = ("usability", "approx_usability")
        if result.may_be_of_classes:
            untold = (*untold, "enc_gen")
        if any(note.code.startswith("repeated_training") for note in result.notes):  # one hides in the other
            untold = (*untold, "enc_gen", "probe_gen")
        unseen = found.provenance.saw_training_images is False
        for name in result.component_names:
            part = e[name]
            if name != named and name in _BESIDES and name not in untold and _is_sure(part):
                said.append(
                    f"{QUANTITIES[name].label.capitalize()} is surely there too, {_percent(part.estimate)} (interval "
                    f"{_percent(part.low)} to {_percent(part.high)}): "
                    f"{_BESIDES_UNSEEN if name == 'enc_gen' and unseen else _BESIDES[name]}."
                )
        said += harder_training(result, _percent)
        said += [note.sentence() for note in result.notes if note.code in result.of_classes]
    said += [note.sentence() for note in result.notes if note.code.startswith("repeated_training")]
    spread = found.spread
    if spread is not None and spread.far:
        rows = "one row makes" if spread.far == 1 else f"{spread.far:,} rows make"
        said.append(
            f"Of {spread.n + spread.far:,} training rows, {rows} {100 * spread.far_share:.0f} % of the variance of the "
            "features: look at them before any of these numbers is believed."
        )
    if (
        spread is not None
        and found.verdict is not Verdict.COLLAPSED
        and spread.n_features >= LEAST_FEATURES
        and spread.directions < min(FEW_DIRECTIONS, (result.sizes.classes - 1) / 2)
    ):
        said.append(
            f"The {spread.n_features:,} features vary along {spread.directions:.1f} directions only, and "
            f"{result.sizes.classes:,} classes may need as many as {result.sizes.classes - 1:,}: the representation "
            "has nearly collapsed (ssl-risk-rs stats shows its spectrum)."
        )
    return said


# --- the numbers


def _numbers(found: Explanation) -> Iterator[str]:
    result = found.result
    ends = f"{100 * result.method.confidence:g} % interval"
    control = None if result.control is None else result.control.estimates
    heading = "" if control is None else f"{'control %':>11}"
    yield f"{'':28}{'error %':>9}   {ends:^17}{heading}"
    for name in (*result.component_names, "agg_risk"):
        e = result.estimates[name]
        beside = "" if control is None or name not in control else f"{hundred(control[name].estimate):10.2f}"
        sign = mark(e.grade) or " "
        yield f"  {QUANTITIES[name].label:<26}{hundred(e.estimate):9.2f}   {between(e.low, e.high):<17}{sign}{beside}"
    yield f"  {'guessing':<26}{hundred(result.sizes.chance):9.2f}"


def _difference(label: str, d: Difference) -> str:
    if d.identical:
        return f"  {label:<26}{'equal on every row':>20}"
    sign = mark(d.grade) or " "
    return f"  {label:<26}{hundred(d.difference):+9.2f}   {between(d.low, d.high):<17}{sign} {_p(d.p_holm)}"


def _p(p: float | None) -> str:
    text = p_value(p)
    return f"p {text}" if text.startswith("<") else f"p = {text}" if text else ""


def _layers(layers: Sequence[Layer], confidence: float) -> Iterator[str]:
    best = min(layers, key=lambda layer: layer.rank)
    least = [layer.name for layer in layers if layer.rank == best.rank]
    ties = [layer.name for layer in layers if layer.low == 1 and layer.rank != best.rank]
    text = f"Of {len(layers)} layers, {best.name} errs least in total"
    if len(least) > 1:
        text = f"Of {len(layers)} layers, {', '.join(least[:-1])} and {least[-1]} err least in total, alike"
    if ties:
        also = f"{', '.join(ties)} {'is' if len(ties) == 1 else 'are'} not excluded"
        text += f"; {also} ({100 * confidence:g} %, all pairs considered)"
    yield f"  {text}."
    heads = [QUANTITIES[e.quantity].short for e in layers[0].estimates]
    column = 1 + max(map(len, heads))
    wide = max(12, *(len(layer.name) + 2 for layer in layers))
    yield f"  {'layer':<{wide}}{'features':>9}" + "".join(f"{head:>{column}}" for head in heads) + f"{'rank':>10}"
    for layer in layers:
        cells = "".join(f"{hundred(e.estimate):{column}.2f}" for e in layer.estimates)
        rank = f"{layer.rank} [{layer.low}, {layer.high}]"
        yield f"  {layer.name:<{wide}}{layer.n_features:>9,}{cells}{rank:>10}"


def _probes(found: Explanation) -> Iterator[str]:
    contrast = found.probes
    assert contrast is not None
    labels = [QUANTITIES[b.quantity].label for b in contrast.bottlenecks]
    if not contrast.identified:
        yield (
            "  Which part is the largest is not told of both: a probe separates the training rows, or a part has no "
            "interval."
        )
    elif contrast.agree:
        yield f"  Ridge and logistic probes agree that {labels[0]} is the largest part."
    else:
        yield (
            f"  The probes disagree: {labels[0]} is the largest part of the logistic probe's error and {labels[1]} of "
            "the ridge probe's. Ridge fits one-hot targets, which can move its components by points; read the "
            "logistic ones."
        )
    yield f"  {'ridge less logistic':<26}{'points':>9}   {'interval':^17}  p (Holm)"
    for d in contrast.differences:
        yield _difference(QUANTITIES[d.quantity].label, d)


def _gap(found: Explanation) -> Iterator[str]:
    gap = found.gap
    if gap is None:
        assert found.no_gap is not None  # there is a gap, or the reason why not
        reason = _NO_GAP[found.no_gap]
        yield f"  Whether a linear layer is enough was not tested: {reason}."
        if found.spread is None and found.verdict is not Verdict.COLLAPSED:
            yield "  Whether the features have collapsed was not looked at: they are not at hand."
        return
    far, collapsed = _is_moved_by_far_rows(found), found.verdict is Verdict.COLLAPSED
    sentence = _gap_sentence(gap, found.result.method.confidence, far=far, collapsed=collapsed)
    yield f"  {sentence}"
    yield f"  {'non-linear less linear':<26}{'points':>9}   {'interval':^17}  p (Holm)"
    for d in gap.differences:
        yield _difference(QUANTITIES[d.quantity].label, d)
    yield (
        f"  The non-linear probe has {gap.landmarks:,} Nyström features of a Gaussian kernel beside the linear ones. "
        "More features lower a training error by their number alone: the total and the midpoint answer, "
        "approximation + usability does not."
    )


def _gap_sentence(gap: UsabilityGap, confidence: float, *, far: bool = False, collapsed: bool = False) -> str:
    """`far` : whether rows far out move a linear probe; `collapsed` : there is nothing that a layer could read."""
    d = gap.difference("agg_risk")
    if d.high < 0:
        less = (
            f"a non-linear probe errs {hundred(-d.difference):.2f} points less "
            f"(interval {hundred(-d.high):.2f} to {hundred(-d.low):.2f})"
        )
        if not _is_surely_less(d, confidence):
            return (
                f"A linear layer may not be enough: {less}. Among the {len(gap.differences)} numbers below that is not "
                f"sure ({_p(d.p_holm)})."
            )
        if _is_of_shift(gap, confidence):
            middle = gap.difference("risk_af_midpoint")
            return (
                f"A linear layer bears the test rows worse: {less}, and on training rows by the midpoint "
                f"{hundred(middle.difference):+.2f} points (interval {hundred(middle.low):+.2f} to "
                f"{hundred(middle.high):+.2f}). The probes differ in what they lose between training and test rows, "
                "not in what is linearly readable of training rows."
            )
        if far:
            return (
                f"A linear layer is not enough, or rows far out spoil it: {less}. Such rows move a linear probe and "
                "hardly a non-linear one: look at them first."
            )
        return f"A linear layer is not enough: {less}. That much is in the representation, and not linearly readable."
    differs = (
        f"the error of a non-linear probe differs by {hundred(d.difference):+.2f} points "
        f"(interval {hundred(d.low):+.2f} to {hundred(d.high):+.2f})."
    )
    if -d.low <= max(NARROW_GAP * d.estimate_baseline, 0.005):
        if collapsed:
            return f"A non-linear probe finds no more in these features: {differs}"
        return f"A linear layer is enough here: {differs}"
    return f"These rows are too few to tell whether a linear layer is enough: {differs}"


def _is_of_shift(gap: UsabilityGap, confidence: float) -> bool:
    """Whether the probes differ in what they lose between training and test rows, and not surely in training rows."""
    by = {d.quantity: d for d in gap.differences}
    if not {"risk_af_midpoint", "enc_gen"} <= by.keys():
        return False
    return _is_surely_less(by["enc_gen"], confidence) and by["risk_af_midpoint"].high >= 0


def _is_surely_less(d: Difference, confidence: float) -> bool:
    """Whether the interval of a difference lies below 0, and its p stands after Holm's correction."""
    return d.high < 0 and (d.p_holm is None or d.p_holm < 1 - confidence)


def _is_sure(part: Estimate) -> bool:
    """Whether a part is surely above 0; of an interval that is indicative only nothing is sure."""
    return part.low > 0 and part.grade is not Grade.INDICATIVE


def _parts(kind: str, parts: Sequence[Part], found: Explanation, *, wide: bool) -> Iterator[str]:
    plural = {"class": "classes", "group": "groups"}[kind]
    left_out = found.classes_left_out if kind == "class" else 0
    names = {part.name for part in parts}
    if not parts:
        yield (
            f"  No {kind} is judged by itself: {left_out} of {found.result.sizes.classes} {plural} have fewer than two "
            "rows in a set."
            if left_out
            else f"  No {kind} is judged by itself, because the record holds no judged rows."
        )
        return
    sure = [part for part in parts if part.p_holm < 1 - found.result.method.confidence]
    apart = {part.name for part in sure}
    text = f"{len(names):,} {plural} were judged by themselves"
    if left_out:
        text += f" and {left_out:,} {'was' if left_out == 1 else 'were'} left out, with fewer than two rows in a set"
    if sure:
        text += f"; {len(apart):,} of them differ{'s' if len(apart) == 1 else ''} from all rows in some component"
    else:
        text += "; the data do not show that any differs from all rows"
    yield f"  {text} (Holm's correction over {len(parts):,} comparisons). The surest come first."
    rows = [f"{part.n_train:,}+{part.n_test:,}" for part in parts[:ROWS]]
    most = (24 if wide else 12) - max(0, max(map(len, rows)) - 4)
    name = max(9, min(most, max(len(part.name) for part in parts[:ROWS]) + 1))
    carries = f"{'carries':>9}" if wide else ""
    yield (
        f"  {kind:<{name}}{'component':<14}{'error %':>7}  {'interval':^17}  {'less all':>8} {'p (Holm)':>8}{carries}  "
        "rows"
    )
    for part, of_part in zip(parts[:ROWS], rows, strict=True):
        sign = mark(part.grade) or " "
        carries = f"{hundred(part.carried):9.2f}" if wide else ""
        p, called = p_value(part.p_holm), clipped(part.name, name - 1)
        yield (
            f"  {called:<{name}}{_component(part.quantity):<14}{hundred(part.estimate):7.2f}  "
            f"{between(part.low, part.high):<17}{sign} {hundred(part.difference):+8.2f} {p:>8}{carries}  {of_part}"
        )
    whole = "all rows" if kind == "class" else "all such rows (of probe gen.: held-out training rows)"
    meaning = f"less all: difference from {whole}, in points. rows: training + test."
    if wide:
        meaning += f" carries: points of the number over {whole if kind == 'class' else 'these'} that they make."
    if (rest := len(parts) - ROWS) > 0:
        meaning += f" {rest:,} more rows: --format csv."
    yield f"  {meaning}"


def _component(quantity: str) -> str:
    return QUANTITIES[quantity].short or QUANTITIES[quantity].label


def _confusions(found: Explanation) -> Iterator[str]:
    shown = ", ".join(
        f"{each.name} for {each.taken_for} ({each.count:,} of {each.n:,})"
        for each in found.confusions[:CONFUSIONS]
        if each.count >= LEAST_CONFUSED
    )
    yield f"  Test rows most often taken for another class: {shown}."


def _published(found: PublishedTraits) -> Iterator[str]:
    name = published_label(found.quantity)
    yield (
        f"  Of {found.n_all} published encoders (ImageNet-1K), {found.n} have {name} as their largest part. What goes "
        f"with its size among them, of {found.n_choices} choices tested (Holm); observed, not shown to be a cause:"
    )
    if not found.traits:
        yield "  nothing that remains after the correction."
    for trait in found.traits:
        choice = _CHOICES.get(trait.choice, trait.choice)
        if trait.correlation is not None:
            more = "more" if trait.correlation > 0 else "less"
            yield (
                f"  · larger {choice} goes with {more} of it (rank correlation {rounded(trait.correlation):+.2f}, "
                f"{trait.n} encoders, {_p(trait.p_holm)})"
            )
        elif trait.least is not None and trait.most is not None:
            (low, least, n_low), (high, most, n_high) = trait.least, trait.most
            yield (
                f"  · {choice}: least with {low} (median {_percent(least)}, {n_low} encoders), most with {high} "
                f"({_percent(most)}, {n_high}; {_p(trait.p_holm)})"
            )
