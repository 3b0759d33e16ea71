"""The table of a comparison as plain text in percent: differences, a waterfall, ranks."""

from collections.abc import Iterator, Sequence

from ssl_risk_rs._characters import clipped
from ssl_risk_rs.report.numbers import hundred, p_value, probability
from ssl_risk_rs.report.sentences import legend, mark, short
from ssl_risk_rs.report.text import between, folded
from ssl_risk_rs.results.compare import Comparison, Difference, Matched
from ssl_risk_rs.results.metrics import ERROR, METRICS
from ssl_risk_rs.results.quantities import QUANTITIES

__all__ = ["render_comparison", "render_matched"]

#: columns of the waterfall's bars
BARS = 40
#: columns of a row with both errors; on a narrower terminal only their difference is shown
WIDE = 96
#: characters of an encoder's name in the table of ranks
_LONGEST = 40
_LEVEL, _MORE, _LESS = "█", "+", "-"


def render_comparison(found: Comparison, width: int | None = None) -> str:
    """Differences of each encoder against the baseline, and the ranks of all."""
    lines = list(_heading(found))
    for encoder in found.encoders[1:]:
        lines += ["", *_against(found, encoder, both=width is None or width >= WIDE)]
    if len(found.encoders) > 2:
        lines += ["", *_ranks(found)]
    lines += [f"  note  {note.sentence()}" for note in found.notes]
    used = {d.grade for d in found.differences if not d.identical}
    lines += legend(used)
    return "\n".join(line.rstrip() if width is None else folded(line, width) for line in lines)


def render_matched(found: Matched, width: int | None = None) -> str:
    """Parts of the gaps that go with the dimension, and totals along the dimensions."""
    full, names = found.full, found.full.encoders
    at = found.dimensions[-1]
    lines = [
        f"{len(names)} encoders at equal dimension, on {full.n_train:,} training and {full.n_test:,} test rows",
        f"  {full.probe} probe ({full.protocol} protocol), features not scaled; p is of each part by itself",
        "  features: " + ", ".join(f"{short(n)} {d:,}" for n, d in zip(names, found.features, strict=True)),
        "  directions come from training rows on which nothing is judged",
        "  these are subspaces of the encoders at hand: encoders that were trained narrower may differ",
    ]
    ends = f"{100 * full.confidence:g} % interval"
    for encoder in names[1:]:
        lines += ["", f"{short(encoder)} against {short(full.baseline)}: differences in points"]
        lines.append(f"{'':28}{'all features':>13}{f'at {at:,}':>12}{'by dimension':>14}   {ends:^17}  {'p':>7}")
        for part in (p for p in found.parts if p.encoder == encoder):
            sign = mark(part.grade) or " "
            lines.append(
                f"  {QUANTITIES[part.quantity].label:<26}{hundred(part.full):+13.2f}{hundred(part.matched):+12.2f}"
                f"{hundred(part.part):+14.2f}   {between(part.low, part.high):<17}{sign} {p_value(part.p):>7}"
            )
    wide = max(10, *(len(short(n)) + 2 for n in names))
    lines += ["", "aggregated risk in percent, on leading principal and (in brackets) on random directions"]
    lines.append(f"  {'dimension':>9}" + "".join(f"{short(n):>{wide + 8}}" for n in names))
    for m, leading, random in zip(found.dimensions, found.leading, found.random, strict=True):
        lines.append(f"  {m:>9,}" + "".join(_totals(leading, random, n, wide) for n in names))
    lines.append(f"  {'all':>9}" + "".join(f"{hundred(_total(full, n)):>{wide}.2f}{'':8}" for n in names))
    used = {part.grade for part in found.parts}
    lines += legend(used)
    return "\n".join(line.rstrip() if width is None else folded(line, width) for line in lines)


def _total(found: Comparison, encoder: str) -> float:
    return next(r.estimate for r in found.ranks if (r.encoder, r.quantity) == (encoder, "agg_risk"))


def _totals(leading: Comparison, random: Comparison, encoder: str, wide: int) -> str:
    return f"{hundred(_total(leading, encoder)):>{wide}.2f} ({hundred(_total(random, encoder)):5.2f})"


def _heading(found: Comparison) -> Iterator[str]:
    yield (
        f"{len(found.encoders)} encoders on the same {found.n_train:,} training and {found.n_test:,} test rows · "
        f"{found.probe} probe ({found.protocol} protocol)" + (f" · target {found.target}" if found.target else "")
    )
    if found.metric != ERROR.name:
        yield f"  errors are {METRICS[found.metric].label}s: the same rows of the same probes, scored otherwise"
    paired = "row" if found.n_groups is None else f"group ({found.n_groups:,} in the test rows)"
    several = "all components" if len(found.encoders) == 2 else "all components and encoders"
    yield f"  differences are paired by {paired}; P(better) is the probability that the error is really less"
    yield f"  p is that of no difference, after Holm's correction over {several}"


def _against(found: Comparison, encoder: str, *, both: bool) -> Iterator[str]:
    rows = found.against(encoder)
    yield f"{short(encoder)} against {short(found.baseline)}"
    ends = f"{100 * found.confidence:g} % interval"
    errors = f"{'from %':>8}{'to %':>8}" if both else ""
    yield f"{'':28}{errors}{'difference':>12}   {ends:^17}  {'P(better)':>9}  {'p':>7}"
    for d in rows:
        if d.quantity == "agg_risk":
            yield f"  {'─' * 72}"
        yield _row(d, both=both)
    yield from _waterfall([d for d in rows if QUANTITIES[d.quantity].kind == "component"], rows[-1], found, encoder)


def _row(d: Difference, *, both: bool) -> str:
    quantity = QUANTITIES[d.quantity]
    label = f"  {quantity.label}" if quantity.kind == "detail" else quantity.label
    errors = f"{hundred(d.estimate_baseline):8.2f}{hundred(d.estimate):8.2f}" if both else ""
    start = f"  {label:<26}{errors}{hundred(d.difference):+12.2f}   "
    if d.identical:
        return f"{start}{'equal on every row':<17}"
    sign = mark(d.grade) or " "
    return f"{start}{between(d.low, d.high):<17}{sign} {probability(d.better):>9}  {p_value(d.p_holm):>7}"


def _waterfall(steps: Sequence[Difference], total: Difference, found: Comparison, encoder: str) -> Iterator[str]:
    """From the baseline's total to the encoder's, one component after the other."""
    levels = [total.estimate_baseline]
    for d in steps:
        levels.append(levels[-1] + d.difference)
    top = max(levels, default=0.0)
    if top <= 0:
        return
    scale = BARS / top

    def place(value: float) -> int:
        return round(max(0.0, value) * scale)

    yield f"  {clipped(short(found.baseline), 26):<26}{hundred(levels[0]):8.2f}  {_LEVEL * place(levels[0])}"
    for d, before, after in zip(steps, levels, levels[1:], strict=False):
        low, high = sorted((place(before), place(after)))
        sign = _LESS if d.difference < 0 else _MORE
        label = QUANTITIES[d.quantity].label
        yield f"  {label:<26}{hundred(d.difference):+8.2f}  {' ' * low}{sign * (high - low)}"
    yield f"  {clipped(short(encoder), 26):<26}{hundred(levels[-1]):8.2f}  {_LEVEL * place(levels[-1])}"


def _ranks(found: Comparison) -> Iterator[str]:
    by = dict.fromkeys(rank.quantity for rank in found.ranks)
    yield (
        f"ranks, the least error first; in brackets the ranks that the data do not exclude ({100 * found.confidence:g} "
        "% for all encoders at once)"
    )
    names = [QUANTITIES[name].short for name in by]
    called = {e: clipped(short(e), _LONGEST) for e in found.encoders}
    wide = max(18, *(len(name) + 2 for name in called.values()))
    yield f"  {'':<{wide}}" + "".join(f"{name:>15}" for name in names)
    shown = {(r.encoder, r.quantity): f"{r.rank} [{r.low}, {r.high}]" for r in found.ranks}
    ordered = sorted((r for r in found.ranks if r.quantity == "agg_risk"), key=lambda r: (r.rank, r.encoder))
    for first in ordered:
        cells = [shown[first.encoder, name] for name in by]
        yield f"  {called[first.encoder]:<{wide}}" + "".join(f"{cell:>15}" for cell in cells)
