"""Tables of several runs as plain text in percent: a curve over epochs, features of one encoder."""

import math
from collections.abc import Iterator

from ssl_risk_rs._characters import clipped
from ssl_risk_rs.report.numbers import hundred, p_value
from ssl_risk_rs.report.sentences import legend, mark, short, stand_in
from ssl_risk_rs.report.text import between, folded
from ssl_risk_rs.results.compare import Comparison, Difference
from ssl_risk_rs.results.estimate import Estimate, Grade
from ssl_risk_rs.results.many import Curve, Entry, Layers, epoch_text
from ssl_risk_rs.results.quantities import QUANTITIES
from ssl_risk_rs.results.run import Decomposition, common_components

__all__ = ["render_curve", "render_layers"]

#: columns of the longest bar of a curve
BARS = 46
#: what stands for each component in a bar, in the order of the components
FILLS = ("█", "▓", "▒", "░")


def render_curve(curve: Curve, width: int | None = None) -> str:
    """For each probe: components of every run with half the width of their intervals, bars, and the steps."""
    lines: list[str] = []
    probes = curve.entries[0].run.probes if curve.entries else ()
    for probe in probes:
        entries = [e for e in curve.entries if probe in e.run.probes]
        lines += [*([""] if lines else []), *_curve(entries, probe)]
        steps = [s for s in curve.steps if s.probe == probe]
        if steps:
            lines += ["", *_steps(steps)]
        lines += legend(_grades(entries, probe, steps))
    return _folded(lines, width)


def render_layers(found: Layers, width: int | None = None) -> str:
    """For each probe a table of all features in their order, the chosen one marked."""
    lines: list[str] = []
    for probe in found.fold_errors:
        lines += [*([""] if lines else []), *_layers(found, probe)]
    return _folded(lines, width)


def _folded(lines: list[str], width: int | None) -> str:
    return "\n".join(line.rstrip() if width is None else folded(line, width) for line in lines)


def _curve(entries: list[Entry], probe: str) -> Iterator[str]:
    every = [e.run.of_probe(probe) for e in entries]
    first = every[0]
    parts = common_components(every)
    names = [*parts, "agg_risk"]
    data, protocol = entries[0].run.provenance.data, first.method.protocol
    yield f"{len(entries)} encoders on {data} · {probe} probe ({protocol} protocol)"
    yield from stand_in(entries[0].run.provenance)
    yield f"  errors in %, ± half of the {100 * first.method.confidence:g} % interval"
    with_epochs = all(e.epoch is not None for e in entries)
    labels = [e.name if not with_epochs or e.epoch is None else epoch_text(e.epoch) for e in entries]
    head = "epoch" if with_epochs else "encoder"
    wide = min(18, max(len(head), *map(len, labels)))  # with four columns, 80 in all
    heads = [QUANTITIES[name].short for name in names]
    column = max(13, *map(len, heads))  # and a mark behind it
    yield f"  {head:<{wide}}" + "".join(f" {text:>{column}} " for text in heads)
    for label, d in zip(labels, every, strict=True):
        yield f"  {clipped(label, wide):<{wide}}" + "".join(_cell(_of(d, name), column) for name in names)
    yield ""
    yield "  " + "  ".join(f"{fill} {QUANTITIES[n].label}" for fill, n in zip(FILLS, parts, strict=False))
    most = max(max(sum(max(0.0, _of(d, n).estimate) for n in parts) for d in every), 1e-9)
    below = False
    for label, d in zip(labels, every, strict=True):
        edges = [0.0]
        for name in parts:
            value = _of(d, name).estimate
            edges.append(edges[-1] + max(0.0, value))
            below |= value < 0
        ends = [round(edge / most * BARS) for edge in edges]
        drawn = "".join(fill * (b - a) for fill, a, b in zip(FILLS, ends, ends[1:], strict=False))
        yield f"  {clipped(label, wide):<{wide}} {drawn} {hundred(d.estimate('agg_risk')):.2f}"
    if below:
        yield "  Components below zero have no part in a bar, which is then longer than the aggregated risk."


def _of(d: Decomposition, name: str) -> Estimate:
    """A quantity; approximation and usability together are R_AF, which every run has."""
    return d.estimates["risk_af" if name == "approx_usability" else name]


def _cell(e: Estimate, column: int) -> str:
    half = "none" if math.isnan(e.low) else f"{50 * (e.high - e.low):.2f}"
    text = f"{hundred(e.estimate):.2f} ±{half:>5}"
    return f" {text:>{column}}{mark(e.grade) or ' '}"


def _steps(steps: list[Comparison]) -> Iterator[str]:
    confidence = steps[0].confidence
    yield f"from each to the next, paired by row: differences in points, {100 * confidence:g} % intervals"
    yield "  p is that of no difference, after Holm's correction over all components and steps"
    wide = min(24, max(len(s.encoders[1]) for s in steps))
    for step in steps:
        for d in _shown(step):
            label = d.encoder[:wide] if d is step.differences[0] else ""
            change = f"{hundred(d.difference):+8.2f}   "
            if d.identical:
                change += "equal on every row"
            else:
                sign = mark(d.grade) or " "
                change += f"{between(d.low, d.high):<17}{sign} {p_value(d.p_holm):>7}"
            yield f"  {label:<{wide}} {QUANTITIES[d.quantity].short:<14}{change}"


def _shown(step: Comparison) -> list[Difference]:
    return [d for d in step.differences if QUANTITIES[d.quantity].kind != "detail"]


def _grades(entries: list[Entry], probe: str, steps: list[Comparison]) -> set[Grade]:
    """Grades of the numbers in the table of a probe and in its steps."""
    every = [e.run.of_probe(probe) for e in entries]
    names = (*common_components(every), "agg_risk")
    found = {_of(d, name).grade for d in every for name in names}
    return found | {d.grade for step in steps for d in _shown(step) if not d.identical}


def _layers(found: Layers, probe: str) -> Iterator[str]:
    errors, best = found.fold_errors[probe], found.chosen(probe)
    entries = [e for e in found.entries if e.name in errors]
    first = entries[0].run.of_probe(probe)
    where = best.run.provenance
    yield f"{len(entries)} features of {short(where.encoder)} on {where.data} · {probe} probe (strict protocol)"
    yield from stand_in(where)
    yield f"  errors in %; aggregated risk with its {100 * first.method.confidence:g} % interval"
    wide = max(7, *(len(e.name) for e in entries))
    yield f"    {'feature':<{wide}} {'dim.':>6} {'on folds':>9} {'rank':>5} {'agg. risk':>10}   {'interval':^17}"
    for entry in entries:
        d = entry.run.of_probe(probe)
        yield f"  {'→' if entry is best else ' '} {entry.name:<{wide}} {_layer_row(found, entry, d)}"
    least = "fewest errors" if first.method.tuned_on == "error" else "least class-balanced error"
    yield (
        f"  → {best.name} has the {least} on held-out folds of the training rows. Test rows and held-out subsets "
        "had no part in the choice, so its interval holds; the least of all test errors would be optimistic."
    )
    yield from legend({entry.run.of_probe(probe).estimates["agg_risk"].grade for entry in entries})


def _layer_row(found: Layers, entry: Entry, d: Decomposition) -> str:
    probe = d.method.probe
    e = d.estimates["agg_risk"]
    sign = mark(e.grade) or " "
    return (
        f"{d.sizes.features:>6} {hundred(found.fold_errors[probe][entry.name]):9.2f} "
        f"{found.rank(entry.name, probe):>5} {hundred(e.estimate):10.2f}   {between(e.low, e.high):<17}{sign}"
    )
