"""Encoders at equal numbers of training rows as plain text in percent: parts of the gaps, and curves."""

import math
from collections.abc import Iterator

from ssl_risk_rs.report.numbers import hundred
from ssl_risk_rs.report.sentences import legend, mark, short
from ssl_risk_rs.report.text import between, folded
from ssl_risk_rs.results.matched_labels import Gap, MatchedLabels
from ssl_risk_rs.results.quantities import QUANTITIES

__all__ = ["render_matched_labels"]


def render_matched_labels(found: MatchedLabels, width: int | None = None) -> str:
    """Parts of the gaps that go with the number of training rows, and components along that number."""
    names = [short(name) for name in found.encoders]
    at = found.levels[-1].n
    rows = ", ".join(f"{name} {n:,}" for name, n in zip(names, found.n_train, strict=True))
    lines = [
        f"{len(names)} encoders with equal numbers of training rows, on the same {found.n_test:,} test rows",
        f"  {found.probe} probe (strict protocol); training rows: {rows}",
        f"  at {at:,} rows every class has as many as the encoder with the fewest has; {found.common:,} of them are "
        "the same rows in all",
    ]
    ends = f"{100 * found.confidence:g} % interval"
    for i, encoder in enumerate(found.encoders[1:], start=1):
        lines += ["", f"{names[i]} against {names[0]}: differences in points"]
        lines.append(f"{'':28}{'all rows':>9}{f'at {at:,}':>11}  {ends:^17}  {'by labels':>9}  {ends:^17}")
        for p in (p for p in found.parts if p.encoder == encoder):
            lines.append(
                f"  {QUANTITIES[p.part.quantity].label:<26}{hundred(p.full.value):+9.2f}"
                f"{hundred(p.matched.value):+11.2f}  {_interval(p.matched)} "
                f"{hundred(p.part.value):+9.2f}  {_interval(p.part)}"
            )
        lines.append(f"  {_sentence(found, encoder)}")
    lines += ["", *_curves(found, names)]
    used = {g.grade for p in found.parts for g in (p.matched, p.part) if g.low < g.high}
    lines += legend(used)
    return "\n".join(line.rstrip() if width is None else folded(line, width) for line in lines)


def _interval(gap: Gap) -> str:
    sign = mark(gap.grade) if gap.low < gap.high else ""
    text = "no row differs" if gap.low == gap.high else between(gap.low, gap.high)
    return f"{text:<17}{sign or ' '}"


def _sentence(found: MatchedLabels, encoder: str) -> str:
    """What the parts of the total say."""
    p = next(p for p in found.parts if p.encoder == encoder and p.part.quantity == "agg_risk")
    at = found.levels[-1].n
    goes = "part of the gap goes" if _apart(p.matched) else "the gap goes"
    labels = f"{goes} with the number of training rows" if _apart(p.part) else (
        "the data do not show that any of the gap goes with the number of training rows"
    )  # fmt: skip
    if p.matched.low == p.matched.high == 0:
        rest = f"with {at:,} rows each the two are equal on every row"
    elif _apart(p.matched):
        rest = f"with {at:,} rows each {abs(100 * p.matched.value):.2f} points stay, which go with the representation"
    else:
        rest = f"with {at:,} rows each no gap is found"
    return f"Of the total, {labels}; {rest}."


def _apart(gap: Gap) -> bool:
    return gap.low > 0 or gap.high < 0


def _curves(found: MatchedLabels, names: list[str]) -> Iterator[str]:
    wide = max(12, *(len(name) + 2 for name in names))
    quantities = [e.quantity for e in found.whole[0]]
    for place, quantity in enumerate(quantities):
        yield f"{QUANTITIES[quantity].label} in percent, by training rows"
        yield f"  {'rows':>9}" + "".join(f"{name:>{wide}}" for name in names)
        for level in found.levels:
            yield f"  {level.n:>9,}" + "".join(f"{_cell(of[place].estimate):>{wide}}" for of in level.estimates)
        yield f"  {'all':>9}" + "".join(f"{_cell(of[place].estimate):>{wide}}" for of in found.whole)


def _cell(value: float) -> str:
    return "" if math.isnan(value) else f"{hundred(value):.2f}"
