"""Bars of parts, values with intervals, and what leads from one total to another."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import TYPE_CHECKING

from ssl_risk_rs.report.charts.style import (
    BELOW,
    COLOURS,
    FAINT,
    INK,
    ON_DARK,
    SIZE,
    VALUE,
    Row,
    chart_of,
    finished,
    fitted,
    in_percent,
    names_axis,
    part_label,
    room_for,
    scale_of,
    x_axis,
)  # fmt: skip
from ssl_risk_rs.report.numbers import percent, points
from ssl_risk_rs.report.svg import WIDE, require

if TYPE_CHECKING:
    from altair import Chart, LayerChart, Scale, Y

__all__ = ["Bar", "Dot", "dots", "stacked", "waterfall"]


@dataclass(frozen=True, slots=True)
class Bar:
    """Parts of one whole; `total` with its interval, NaN where there is none."""

    label: str
    parts: tuple[tuple[str, float], ...]
    total: float = math.nan
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True, slots=True)
class Dot:
    """A number with its interval; `hollow`: set apart from the others (a control, not significant)."""

    label: str
    value: float
    low: float = math.nan
    high: float = math.nan
    colour: str = INK
    hollow: bool = False


def stacked(bars: Sequence[Bar], width: int, *, title: str = "error, %", below: Sequence[Dot] = ()) -> "LayerChart":
    """Stacked bars with the interval of the whole; `below` each part by itself, with its interval.

    Negative parts go left of 0, so that the bar's ends say more than the total: a thin line marks the total.
    """
    alt = require("altair")
    names = list(dict.fromkeys(name for bar in bars for name, _ in bar.parts))
    order = fitted([*(bar.label for bar in bars), *(dot.label for dot in below)], width)
    bars = [replace(bar, label=label) for bar, label in zip(bars, order, strict=False)]
    below = [replace(dot, label=label) for dot, label in zip(below, order[len(bars) :], strict=True)]
    segments: list[Row] = []
    ends: list[Row] = []
    for bar in bars:
        right = left = 0.0
        for name, value in bar.parts:
            start = right if value >= 0 else left
            ink = "white" if COLOURS[name] in ON_DARK else INK
            segments.append({"row": bar.label, "part": part_label(name), "a": 100 * start, "b": 100 * (start + value),
                             "said": percent(value, 1), "ink": ink})  # fmt: skip
            if value >= 0:
                right += value
            else:
                left += value
        if math.isfinite(bar.total):
            ends.append(
                {"row": bar.label, "value": 100 * bar.total, "low": in_percent(bar.low), "high": in_percent(bar.high)}
            )
    seen = [v for s in segments for v in (s["a"], s["b"])] + [v for e in ends for v in (e["low"], e["high"]) if v]
    seen += [100 * v for dot in below for v in (dot.value, dot.low, dot.high) if math.isfinite(v)]
    scale = scale_of(alt, seen)
    room = room_for(order, width)
    pixels = (width - room) / max(1e-9, scale.domain[1] - scale.domain[0])
    said = [s for s in segments if abs(s["b"] - s["a"]) * pixels > VALUE]
    y = alt.Y("row:N", sort=order, title=None, axis=names_axis(alt, room))
    x = x_axis(alt, "a", scale, title)
    colour = alt.Color(
        "part:N",
        scale=alt.Scale(domain=[part_label(n) for n in names], range=[COLOURS[n] for n in names]),
        legend=None if below else alt.Legend(
            orient="top", title=None, labelFontSize=SIZE, symbolType="square", columns=2 if width < WIDE / 2 else 0,
            labelColor=INK, offset=8, columnPadding=24,
        ),
    )  # fmt: skip
    layers = [
        chart_of(alt, segments).mark_bar(stroke="white", strokeWidth=1, height=18).encode(
            x=x, x2="b:Q", y=y, color=colour
        ),
        *_dot_layers(alt, below, y, scale, title),
    ]  # fmt: skip
    if said:
        middle = [{**s, "m": (s["a"] + s["b"]) / 2} for s in said]
        layers.append(
            chart_of(alt, middle).mark_text(fontSize=SIZE).encode(
                x=x_axis(alt, "m", scale, title), y=y, text="said:N", color=alt.Color("ink:N", scale=None)
            )
        )  # fmt: skip
    if ends:
        layers += _whiskers(alt, ends, y, scale, title)
    tall = 38 if math.isfinite(bars[0].total) else 28
    return finished(alt, layers, width, tall * len(bars) + 24 * len(below) + (50 if below else 76))


def dots(rows: Sequence[Dot], width: int, *, title: str, at: float | None = None) -> "LayerChart":
    """Numbers with their intervals, one below the other; a dashed line at `at`."""
    alt = require("altair")
    order = fitted([row.label for row in rows], width)
    rows = [replace(row, label=label) for row, label in zip(rows, order, strict=True)]
    seen = [100 * v for row in rows for v in (row.value, row.low, row.high) if math.isfinite(v)]
    if at is not None:
        seen.append(100 * at)
    scale = scale_of(alt, seen)
    y = alt.Y("row:N", sort=order, title=None, axis=names_axis(alt, room_for(order, width)))
    layers = _dot_layers(alt, rows, y, scale, title)
    if at is not None:
        rule = chart_of(alt, [{"at": 100 * at}]).mark_rule(color=FAINT, strokeDash=[4, 3])
        layers.insert(0, rule.encode(x=x_axis(alt, "at", scale, title)))
    return finished(alt, layers, width, 20 * len(rows) + 50)


def waterfall(
    start: tuple[str, float], steps: Sequence[tuple[str, float, float, float]], end: tuple[str, float], width: int
) -> "LayerChart":
    """From one total to another, a step for each part: (label, difference, low, high), with the interval of the step
    at its end."""
    alt = require("altair")
    order = fitted([start[0], *(label for label, *_ in steps), end[0]], width)
    blocks: list[Row] = [{"row": order[0], "a": 0.0, "b": 100 * start[1], "kind": "total", "said": percent(start[1])}]
    ends: list[Row] = []
    level = start[1]
    for label, (_, difference, low, high) in zip(order[1:-1], steps, strict=True):
        kind = "more error" if difference > 0 else "less error"
        blocks.append({"row": label, "a": 100 * level, "b": 100 * (level + difference), "kind": kind,
                       "said": points(difference)})  # fmt: skip
        if math.isfinite(low):
            ends.append({"row": label, "low": 100 * (level + low), "high": 100 * (level + high)})
        level += difference
    blocks.append({"row": order[-1], "a": 0.0, "b": 100 * end[1], "kind": "total", "said": percent(end[1])})
    scale = scale_of(
        alt, [v for b in blocks for v in (b["a"], b["b"])] + [v for e in ends for v in (e["low"], e["high"])]
    )
    y = alt.Y("row:N", sort=order, title=None, axis=names_axis(alt, room_for(order, width)))
    kinds, colours = ["total", "less error", "more error"], ["#8b95a3", "#d3d8e0", "#22355a"]
    colour = alt.Color(
        "kind:N", scale=alt.Scale(domain=kinds, range=colours),
        legend=alt.Legend(orient="top", title=None, labelFontSize=SIZE, symbolType="square", values=kinds[1:],
                          offset=8, columnPadding=24),
    )  # fmt: skip
    title = "error, %"
    bars = chart_of(alt, blocks).mark_bar(height=16).encode(
        x=x_axis(alt, "a", scale, title), x2="b:Q", y=y, color=colour
    )  # fmt: skip
    by_row = {e["row"]: e for e in ends}
    place = [
        {**b, "right": max(b["a"], b["b"], by_row.get(b["row"], {}).get("high", -math.inf))} for b in blocks
    ]  # fmt: skip
    text = chart_of(alt, place).mark_text(align="left", dx=6, fontSize=SIZE, color=INK).encode(
        x=x_axis(alt, "right", scale, title), y=y, text="said:N"
    )  # fmt: skip
    layers = [bars, *(_whiskers(alt, ends, y, scale, title) if ends else []), text]
    return finished(alt, layers, width, 36 * len(order) + 76, right=20)


def _dot_layers(alt: ModuleType, rows: Sequence[Dot], y: "Y", scale: "Scale", title: str) -> "list[Chart]":
    if not rows:
        return []
    found: list[Row] = [
        {"row": r.label, "value": 100 * r.value, "low": in_percent(r.low), "high": in_percent(r.high), "ink": r.colour,
         "fill": "white" if r.hollow else r.colour}
        for r in rows
    ]  # fmt: skip
    with_ends = [row for row in found if row["low"] is not None]
    layers = []
    if scale.domain[0] < 0 < scale.domain[1]:
        layers.append(
            chart_of(alt, [{"zero": 0}]).mark_rule(color="#9aa3ae").encode(x=x_axis(alt, "zero", scale, title))
        )
    if with_ends:
        layers.append(
            chart_of(alt, with_ends).mark_rule(color=INK, strokeWidth=1.5).encode(
                x=x_axis(alt, "low", scale, title), x2="high:Q", y=y
            )
        )  # fmt: skip
    layers.append(
        chart_of(alt, found).mark_point(size=64, opacity=1, strokeWidth=1.5, stroke=INK, shape="circle").encode(
            x=x_axis(alt, "value", scale, title), y=y, fill=alt.Fill("fill:N", scale=None)
        )
    )  # fmt: skip
    return layers


def _whiskers(alt: ModuleType, ends: Sequence[Row], y: "Y", scale: "Scale", title: str) -> "list[Chart]":
    """Intervals, with caps, below their bars; a dot where the `value` of a row is given."""
    known = [e for e in ends if e["low"] is not None]
    rule = chart_of(alt, known).mark_rule(color=INK, strokeWidth=1.5, yOffset=BELOW)
    layers = [rule.encode(x=x_axis(alt, "low", scale, title), x2="high:Q", y=y)]
    for end in ("low", "high"):
        cap = chart_of(alt, known).mark_tick(color=INK, size=7, thickness=1.5, yOffset=BELOW)
        layers.append(cap.encode(x=x_axis(alt, end, scale, title), y=y))
    valued = [e for e in ends if "value" in e]
    if valued:
        dot = chart_of(alt, valued).mark_point(
            shape="circle", size=36, filled=True, color=INK, opacity=1, yOffset=BELOW
        )
        layers.append(dot.encode(x=x_axis(alt, "value", scale, title), y=y))
    return layers
