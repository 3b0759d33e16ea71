"""The first part of a report: what a decomposition says, as sentences, a drawing and a table."""

import math
from collections.abc import Iterator, Sequence

from ssl_risk_rs._notes import Note
from ssl_risk_rs.report import charts
from ssl_risk_rs.report.numbers import count, interval, percent, probability, share
from ssl_risk_rs.report.orders import encoder_generalization, order_rows, order_sentence
from ssl_risk_rs.report.page import Column, Figure, Section, Sentences, Table
from ssl_risk_rs.report.sentences import (
    MARKS,
    checks,
    classes_that_make,
    harder_training,
    mark,
    notes,
    short,
    targets,
)
from ssl_risk_rs.results.estimate import Estimate, Grade
from ssl_risk_rs.results.metrics import HEADLINES
from ssl_risk_rs.results.provenance import Provenance
from ssl_risk_rs.results.quantities import DETAILS, QUANTITIES
from ssl_risk_rs.results.run import Decomposition, Run

__all__ = ["bar_of", "components", "facts", "figure", "mark_notes", "name_of", "verdict"]

#: component → what it means that it is the largest
_MEANING = {
    "approx": "a linear probe on the supervised twin errs as well, so that the architecture or the labels set this "
    "limit",
    "usability": "a linear probe cannot tell these classes apart in this representation, however many labels it gets",
    "approx_usability": "a linear probe cannot tell these classes apart in this representation, however many labels it "
    "gets",
    "probe_gen": "the probe would err less with more labels, or on a representation that needs fewer",
    "enc_gen": "test rows are harder than training rows for a probe of the same labels: the encoder has seen the "
    "training rows, or the two sets differ",
}
_MEANING["enc_gen_alt"] = _MEANING["enc_gen"]
_MEANING["probe_gen_alt"] = _MEANING["probe_gen"]
#: the same where the target is numbers or labels
_OF_TARGETS = {
    **dict.fromkeys(
        ("usability", "approx_usability"),
        "a linear probe cannot read the target from this representation, however many rows it gets",
    ),
    **dict.fromkeys(
        ("probe_gen", "probe_gen_alt"),
        "the probe would err less with more rows, or on a representation that needs fewer",
    ),
}
#: metric → what guessing costs
_GUESSES = {
    "error": "Always predicting the most frequent training class errs on {} % of the test rows.",
    "r2": "Predicting the mean of the training rows has 1 − R² of {} % on the test rows.",
    "auroc": "Scores that know nothing have 1 − AUROC of {} % on the test rows.",
}
#: probability from which the largest part is named without reserve
_SURE = 0.9


def name_of(run: Run, result: Decomposition) -> str:
    """What a chapter of one decomposition is called."""
    name = short(run.provenance.encoder)
    return f"{name}, {result.method.probe}" if len(run.decompositions) > 1 else name


def facts(runs: Sequence[Run]) -> tuple[str, ...]:
    """A few words each: data, sizes, protocol; of several runs on the same data, what they have in common."""
    run, first = runs[0], runs[0].decompositions[0]
    sizes = first.sizes
    data = run.provenance.data if run.provenance.data_named else f"{run.provenance.data}, since no data were named"
    said = [data, f"{count(sizes.train)} training rows", f"{count(sizes.test)} test rows"]
    if sizes.groups_test is not None:
        said.append(f"{count(sizes.groups_test)} test groups")
    said.append(targets(first))
    if sizes.features and len(runs) == 1:
        said.append(f"{count(sizes.features)} features")
    said.append(f"{first.method.protocol} protocol")
    return tuple(said)


def verdict(result: Decomposition, provenance: Provenance) -> tuple[str, ...]:
    """What the decomposition says, as sentences that can be quoted."""
    total = result.estimates["agg_risk"]
    ends = "" if math.isnan(total.low) else f" ({100 * result.method.confidence:g} % interval {_ends(total)})"
    probe = f"{result.method.probe} probe on {short(provenance.encoder)}"
    said = [
        f"A {probe} errs on {percent(total.estimate)} % of the test rows of {provenance.data}{ends}."
        if result.predicts_classes
        else f"{HEADLINES[result.method.metric].label} of a {probe} is {percent(total.estimate)} % on the test rows of "
        f"{provenance.data}{ends}."
    ]
    largest, p = result.bottleneck.quantity, result.bottleneck.probability
    if p is None and result.floor.separable:
        said.append(
            "Which part is the largest cannot be told: a probe separates the training rows, so that it is not "
            "identified where usability ends and probe generalization begins."
        )
        return tuple(said)
    e = result.estimates[largest]
    size = f"{percent(e.estimate)} points"
    if total.estimate >= e.estimate > 0:
        size += f", {share(e.estimate / total.estimate)} of the error"
    elif e.estimate > total.estimate:
        size += ", more than the error, since other parts are negative"
    meanings = _MEANING if result.predicts_classes else {**_MEANING, **_OF_TARGETS}
    label, meaning = QUANTITIES[largest].label, meanings[largest]
    if largest == "enc_gen" and result.may_be_of_classes:
        points_of = percent(sum(result.of_classes.values()))
        meaning = f"{classes_that_make(result)} may explain all of it ({points_of} points, see the notes)"
    if p is None:
        said.append(
            f"Its largest part here is {label} ({size}), but nothing says how sure that is: a part has no interval, "
            "since its rows come from too few groups."
        )
    elif p >= _SURE:
        said.append(f"Its largest part is {label} ({size}; probability {probability(p)}): {meaning}.")
    else:
        said.append(
            f"Its largest part is probably {label} ({size}), but the data leave room: the probability that it is the "
            f"largest is {probability(p)}. If it is, {meaning}."
        )
    if result.predicts_classes:
        said += harder_training(result, lambda value: f"{percent(value)} points")
    return tuple(said)


def bar_of(label: str, result: Decomposition, parts: Sequence[str]) -> charts.Bar:
    """A decomposition as one bar of these parts, which may be those of several (`common_components`)."""
    total = result.estimates["agg_risk"]
    values = tuple((name, result.part(name).estimate) for name in parts)
    return charts.Bar(label, values, total.estimate, total.low, total.high)


def components(run: Run, result: Decomposition, key: str) -> Section:
    """Verdict, drawing, table, checks and notes."""
    return Section(
        f"{key}-components",
        "Where the error comes from",
        (
            Sentences(verdict(result, run.provenance), "verdict"),
            figure(run, result, key),
            _table(run, result),
            *_checked(result),
            *_noted(notes(result, run.provenance)),
        ),
    )


def mark_notes(grades: Sequence[Grade]) -> tuple[str, ...]:
    """What the marks behind intervals say, of those that are used."""
    return tuple(f"{sign} {_capital(text)}." for grade, (sign, text) in MARKS.items() if grade in set(grades))


def figure(run: Run, result: Decomposition, key: str) -> Figure:
    """One bar of all parts, and each part with its interval."""
    bar = bar_of(charts.part_label("agg_risk"), result, result.component_names)
    dots = [
        charts.Dot(charts.part_label(name), e.estimate, e.low, e.high, charts.COLOURS[name])
        for name in result.component_names
        if (e := result.estimates[name])
    ]
    if result.control is not None:
        encoder = encoder_generalization(result)
        e = result.control.estimates[encoder]
        dots.append(charts.Dot(f"control: {QUANTITIES[encoder].short}", e.estimate, e.low, e.high, hollow=True))
    said = ", ".join(
        f"{QUANTITIES[name].label} {percent(e.estimate)} ({_ends(e)})"
        for name in (*result.component_names, "agg_risk")
        if (e := result.estimates[name])
    )
    return Figure(
        f"{key}-components",
        f"The error of {name_of(run, result)} and its parts",
        f"One bar of all parts with the interval of their sum; below, each part with its interval. In percent: {said}.",
        lambda width: charts.stacked([bar], width, below=dots),
        (bar.label, *(dot.label for dot in dots)),
    )


def _table(run: Run, result: Decomposition) -> Table:
    total = result.estimates["agg_risk"].estimate
    rows: list[tuple[str, ...]] = []
    minor: set[int] = set()
    sums: set[int] = set()
    used: list[Grade] = []

    def add(label: str, e: Estimate, part: float | None) -> None:
        groups = () if result.sizes.groups_test is None else (count(e.n_groups),)
        sign = mark(e.grade)
        ends = interval(e.low, e.high) + (f" {sign}" if sign else "")
        rows.append((label, percent(e.estimate), ends, "" if part is None else share(part), count(e.n), *groups))
        used.append(e.grade)

    for name in result.component_names:
        e = result.estimates[name]
        add(QUANTITIES[name].label, e, e.estimate / total if total > 0 else None)
        if name == "enc_gen":
            for detail in DETAILS:
                if detail in result.estimates:
                    minor.add(len(rows))
                    add(f"of it, {QUANTITIES[detail].label}", result.estimates[detail], None)
    sums.add(len(rows))
    add(QUANTITIES["agg_risk"].label, result.estimates["agg_risk"], 1.0 if total > 0 else None)
    for e in order_rows(result):
        minor.add(len(rows))
        add(QUANTITIES[e.quantity].label, e, None)
    if result.control is not None:
        name = short(run.provenance.control or "encoder")
        for quantity in (encoder_generalization(result), "agg_risk"):
            minor.add(len(rows))
            add(f"control {name}: {QUANTITIES[quantity].label}", result.control.estimates[quantity], None)
    groups = () if result.sizes.groups_test is None else (Column("n, groups"),)
    confidence = f"{100 * result.method.confidence:g} % interval"
    said = [
        "n is the number of rows on which a part is judged. Parts are signed and add up to the aggregated risk, before "
        "they are rounded."
    ]
    if result.supervised and run.provenance.supervised:
        twin = short(run.provenance.supervised)
        said.append(f"Approximation is the training error on the supervised twin, {twin}.")
    if math.isfinite(result.sizes.chance):
        chance = percent(result.sizes.chance)
        said.append(_GUESSES[result.method.metric].format(chance))
    if sentence := order_sentence(result):
        said.append(sentence)
    return Table(
        f"Parts of the error in percent, {result.method.probe} probe "
        f"({count(result.sizes.train)} training rows, {count(result.sizes.test)} test rows)",
        (Column("part", False), Column("error, %"), Column(confidence), Column("share"), Column("n, rows"), *groups),
        tuple(rows),
        frozenset(sums),
        frozenset(minor),
        (*said, *mark_notes(used)),
    )


def _checked(result: Decomposition) -> Iterator[Sentences]:
    found = checks(result)
    for passed, tone in ((True, "passed"), (False, "failed")):
        texts = tuple(_sentence(check.text) for check in found if check.passed is passed)
        if texts:
            yield Sentences(texts, "passed" if tone == "passed" else "failed", listed=True)


def _noted(found: Sequence[Note]) -> Iterator[Sentences]:
    texts = tuple(_capital(note.sentence()) for note in found)
    if texts:
        yield Sentences(texts, "note", listed=True)


def _ends(e: Estimate) -> str:
    return interval(e.low, e.high)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _sentence(text: str) -> str:
    return f"{_capital(text)}."
