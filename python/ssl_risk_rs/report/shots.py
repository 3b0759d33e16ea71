"""The few-shot part of a table: the decomposition at each size, and what more labels would bring."""

import math
from collections.abc import Iterator, Mapping

from ssl_risk_rs.report.numbers import hundred
from ssl_risk_rs.report.sentences import mark
from ssl_risk_rs.results.estimate import Estimate, Grade
from ssl_risk_rs.results.fewshot import BackTest, LabelCurve, LabelsNeeded
from ssl_risk_rs.results.quantities import QUANTITIES, components
from ssl_risk_rs.results.run import Decomposition

__all__ = ["forecast_sentences", "marks_of", "shot_lines"]

#: quantities of a few-shot row, in the order of the columns: 79 characters in all
COLUMNS = ("agg_risk", "probe_gen", "enc_gen")


def shot_lines(result: Decomposition) -> Iterator[str]:
    """Rows for each size and for all labels, then the curve's predictions and notes."""
    if not result.shots:
        return
    yield ""
    heads = "".join(f"{QUANTITIES[name].short:>20}" for name in COLUMNS)
    wide = max(9, len(f"{result.sizes.train:,}") + 1)  # a blank before the largest number
    yield f"  {'':<8}{'labels':>{wide}}{heads}"
    for shot in result.shots:
        yield f"  {shot.size.title:<8}{shot.labels:>{wide},}{_cells(shot.estimates)}"
    yield f"  {'all rows':<8}{result.sizes.train:>{wide},}{_cells(result.estimates)}"
    # whatever the order of all rows: draws have no R_UF
    same = [QUANTITIES[name].label for name in components(supervised=result.supervised) if name not in COLUMNS]
    verb = "is" if len(same) == 1 else "are"
    yield f"  At each size, {' and '.join(same)} {verb} that of all rows; the components add up."
    draws = ", ".join(f"{shot.draws} of {shot.size.title}" for shot in result.shots)
    yield f"  Each size is the mean over draws ({draws}), judged on rows that no draw has seen."
    for sentence in forecast_sentences(result):
        yield f"  {sentence}"
    for shot in result.shots:
        yield from (f"  note  {note.sentence()}" for note in shot.notes)


def forecast_sentences(result: Decomposition) -> Iterator[str]:
    """What twice the labels would change, which labels an error needs, and how such predictions did."""
    curve, confidence = result.label_curve, result.method.confidence
    if curve is None:
        if result.shots:
            totals = [result.estimates["agg_risk"], *(shot.estimates["agg_risk"] for shot in result.shots)]
            few = any(total.grade is Grade.NONE for total in totals)
            why = "too few groups for an interval" if few else "fewer than two sizes have an error above 0"
            yield f"There is no curve of error against labels: {why}."
        return
    interval = f"{100 * confidence:g} % interval"
    if result.sizes.groups_train is not None:
        yield (
            "Labels are counted in rows, which come in whole groups: with few shots, twice the labels are mostly more "
            "rows of the same groups."
        )
    for d in curve.doublings:
        beyond = ", an extrapolation" if d.extrapolates else ""
        if d.extrapolates and d.low < 0 < d.change:  # more labels do not make a probe worse
            beyond += " that cannot tell whether they lower it"
        same = sum(other.labels == d.labels for other in curve.doublings) > 1
        yield (
            f"Twice the labels, {d.labels:,} → {2 * d.labels:,}{f' ({d.name})' if same else ''}: "
            f"{hundred(d.change):+.2f} points of error [{hundred(d.low):+.2f}, {hundred(d.high):+.2f}]{beyond}."
        )
    for need in curve.needed:
        yield _need(need, curve)
    if curve.back_tests:
        inside = f"{sum(test.inside for test in curve.back_tests)} of {len(curve.back_tests)}"
        yield (
            f"Back-test: each size predicted from the others, {inside} lie in the {interval}: "
            f"{', '.join(map(_tested, curve.back_tests))}."
        )
    else:
        yield "There is no back-test of these predictions: it takes three sizes, all rows included."


def marks_of(result: Decomposition) -> set[Grade]:
    """Grades of the intervals in the table of few-shot sizes, which has a row of all labels."""
    every = [result.estimates, *(shot.estimates for shot in result.shots)] if result.shots else []
    return {estimates[name].grade for estimates in every for name in COLUMNS}


def _cells(estimates: Mapping[str, Estimate]) -> str:
    return "".join(_cell(estimates[name]) for name in COLUMNS)


def _cell(e: Estimate) -> str:
    sign = mark(e.grade) or " "
    interval = "no interval" if math.isnan(e.low) else f"[{hundred(e.low, 1):.1f}, {hundred(e.high, 1):.1f}]"
    return f"{hundred(e.estimate):>6.2f} {interval:>12}{sign}"


def _need(need: LabelsNeeded, curve: LabelCurve) -> str:
    target = f"An error of {100 * need.error:g} %"
    far = f"{100 * curve.points[-1].labels:,}"
    if math.isnan(need.labels):
        if math.isnan(need.low):
            return f"{target} is not reached with {far} labels, as far as the curve can tell (an extrapolation)."
        return (
            f"{target} needs {need.low:,.0f} labels or more; whether {far} suffice cannot be told (an extrapolation)."
        )
    high = f"more than {far}" if math.isnan(need.high) else f"{need.high:,.0f}"
    low = "?" if math.isnan(need.low) else f"{need.low:,.0f}"
    beyond = ", an extrapolation" if need.extrapolates else ""
    return f"{target} needs about {need.labels:,.0f} labels [{low} to {high}]{beyond}."


def _tested(test: BackTest) -> str:
    return f"{test.name} {hundred(test.measured, 1):.1f} ({hundred(test.low, 1):.1f} to {hundred(test.high, 1):.1f})"
