"""Curves over labels, encoders side by side, and points."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ssl_risk_rs.report.charts.bars import Bar
from ssl_risk_rs.report.charts.style import (
    COLOURS,
    DASHES,
    FAINT,
    HEIGHT,
    INK,
    LETTER,
    RULE,
    SHAPES,
    SIZE,
    WIDER,
    Row,
    chart_of,
    domain,
    finished,
    finite,
    part_label,
    quoted,
    spread_apart,
)  # fmt: skip
from ssl_risk_rs.report.numbers import percent
from ssl_risk_rs.report.svg import WIDE, require

if TYPE_CHECKING:
    from altair import LayerChart

__all__ = ["Line", "area", "lines", "radar", "scatter"]


@dataclass(frozen=True, slots=True)
class Line:
    """A curve: x, y, and ends of intervals (NaN where there are none); `marked`: position of the filled point."""

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    marked: int | None = None
    colour: str = INK


def lines(
    curves: Sequence[Line], width: int, *, x_title: str, y_title: str, percent_y: bool = True, log_y: bool = False,
    log_x: bool = True, ticks: Sequence[float] = (), height: int = 280,
) -> "LayerChart":  # fmt: skip
    """Curves over a logarithmic or plain axis, each with its name at its right end, its own dashes and points."""
    alt = require("altair")
    factor = 100 if percent_y else 1
    rows: list[Row] = []
    tags: list[Row] = []
    for curve in curves:
        for j, (x, y) in enumerate(zip(curve.x, curve.y, strict=True)):
            filled = curve.marked is None or curve.marked == j
            rows.append({
                "curve": curve.label, "x": x, "y": factor * y, "fill": curve.colour if filled else "white",
                "low": finite(factor * curve.low[j]) if curve.low else None,
                "high": finite(factor * curve.high[j]) if curve.high else None,
            })  # fmt: skip
        tags.append({"curve": curve.label, "x": curve.x[-1], "y": factor * curve.y[-1]})
    seen = [v for r in rows for v in (r["y"], r["low"], r["high"]) if v is not None]
    scale_y = alt.Scale(type="log", nice=False) if log_y else alt.Scale(domain=domain(seen), nice=False)
    spread_apart(tags, (max(seen) - min(seen)) * 22 / height if not log_y else 0)
    xs = sorted({row["x"] for row in rows})
    axis = alt.Axis(values=list(ticks) or xs, format=",~g", labelOverlap=True, grid=False, tickColor=FAINT)
    scale_x = alt.Scale(type="log" if log_x else "linear", nice=False, zero=False, padding=10)
    x = alt.X("x:Q", title=x_title, scale=scale_x, axis=axis)
    y = alt.Y("y:Q", title=None, scale=scale_y, axis=alt.Axis(tickCount=5))
    layers = []
    for i, curve in enumerate(curves):
        own = [row for row in rows if row["curve"] == curve.label]
        mark: Row = {"color": curve.colour, "strokeDash": DASHES[i % len(DASHES)], "strokeWidth": 1.8}
        layers.append(chart_of(alt, own).mark_line(**mark).encode(x=x, y=y))
        ends = [row for row in own if row["low"] is not None]
        if ends:
            layers.append(
                chart_of(alt, ends).mark_rule(color=curve.colour, strokeWidth=1.3).encode(
                    x=x, y=alt.Y("low:Q", title=None, scale=scale_y), y2="high:Q"
                )
            )  # fmt: skip
    # names stand at the ends of curves where there is room, else in a legend
    legend = len(curves) > 1 and width < WIDE / 2
    shown = alt.Legend(
        orient="top",
        title=None,
        labelFontSize=SIZE,
        labelColor=INK,
        columns=2,
        columnPadding=24,
        symbolFillColor="white",
    )
    names = [curve.label for curve in curves]
    shape = alt.Shape(
        "curve:N", scale=alt.Scale(domain=names, range=list(SHAPES[: len(curves)])), legend=shown if legend else None
    )
    ink = alt.Stroke(
        "curve:N", scale=alt.Scale(domain=names, range=[c.colour for c in curves]), legend=shown if legend else None
    )
    layers.append(
        chart_of(alt, rows).mark_point(size=58, opacity=1, strokeWidth=1.5).encode(
            x=x, y=y, shape=shape, fill=alt.Fill("fill:N", scale=None), stroke=ink,
        )
    )  # fmt: skip
    right = 10.0
    if len(curves) > 1 and not legend:
        right = 14 + WIDER * LETTER * max(len(curve.label) for curve in curves)
        layers.append(
            chart_of(alt, tags).mark_text(align="left", dx=9, fontSize=SIZE, color=INK).encode(x=x, y=y, text="curve:N")
        )
    return finished(alt, layers, width, height, right=right, above=y_title)


def area(columns: Sequence[Bar], width: int) -> "LayerChart":
    """Stacked areas over encoders, least error first: parts above 0 from there up, negative ones from there down."""
    alt = require("altair")
    names = list(dict.fromkeys(name for bar in columns for name, _ in bar.parts))
    rows = []
    for i, bar in enumerate(columns):
        # two areas for each part, so that none crosses the others where it changes its sign between two encoders
        level = {"above": 0.0, "below": 0.0}
        for name, value in bar.parts:
            for side, own in (("above", max(0.0, value)), ("below", min(0.0, value))):
                if any(dict(other.parts).get(name, 0.0) * (1 if side == "above" else -1) > 0 for other in columns):
                    ends = sorted((level[side], level[side] + own))
                    part = {"at": i, "part": part_label(name), "side": side}
                    rows.append({**part, "a": 100 * ends[0], "b": 100 * ends[1]})
                level[side] += own
    short = {i: bar.label if len(bar.label) <= 22 else bar.label[:21] + "…" for i, bar in enumerate(columns)}
    text = " : ".join(f"datum.value == {i} ? {quoted(label)}" for i, label in short.items()) + " : ''"
    axis = alt.Axis(values=list(short), labelExpr=text, labelAngle=-40, labelAlign="right", grid=False, labelLimit=150,
                    labelOverlap=False)  # fmt: skip
    x = alt.X("at:Q", title=None, axis=axis, scale=alt.Scale(domain=[0, len(columns) - 1], nice=False))
    colour = alt.Color(
        "part:N", scale=alt.Scale(domain=[part_label(n) for n in names], range=[COLOURS[n] for n in names]),
        legend=alt.Legend(orient="top", title=None, labelFontSize=SIZE, symbolType="square", offset=8,
                          columns=2 if width < WIDE / 2 else 0, labelColor=INK, columnPadding=24),
    )  # fmt: skip
    base = chart_of(alt, rows).mark_area(stroke="white", strokeWidth=1, opacity=1)
    layers = [base.encode(x=x, y=alt.Y("a:Q", title=None, axis=alt.Axis(tickCount=5)), y2="b:Q", color=colour,
                          detail="side:N")]  # fmt: skip
    totals = [{"at": i, "a": 100 * bar.total} for i, bar in enumerate(columns)]
    points_of = chart_of(alt, totals).mark_point(shape="circle", size=40, filled=True, color=INK, opacity=1)
    layers.append(points_of.encode(x=x, y="a:Q"))
    return finished(alt, layers, width, HEIGHT, left=44, above="error, %")


def radar(shapes: Mapping[str, Mapping[str, float]], width: int) -> "LayerChart":
    """One polygon an encoder: each axis is a part, its rim the largest error of that part among them; inside is less.

    A part that no encoder errs in is left out of the scale, not of the axes.
    """
    alt = require("altair")
    names = list(dict.fromkeys(name for parts in shapes.values() for name in parts))
    most = {name: max((max(0.0, parts.get(name, 0.0)) for parts in shapes.values()), default=0.0) for name in names}
    angle = {name: 2 * math.pi * i / len(names) for i, name in enumerate(names)}

    def at(name: str, radius: float) -> dict[str, float]:
        return {"x": radius * math.sin(angle[name]), "y": radius * math.cos(angle[name])}

    side = min(width, 430)
    x = alt.X("x:Q", axis=None, scale=alt.Scale(domain=[-1.9, 1.9], nice=False))
    y = alt.Y("y:Q", axis=None, scale=alt.Scale(domain=[-1.35, 1.4], nice=False))
    layers = []
    for level in (0.25, 0.5, 0.75, 1.0):
        ring = [{**at(name, level), "i": i} for i, name in enumerate([*names, names[0]])]
        layers.append(chart_of(alt, ring).mark_line(color=RULE, strokeWidth=1).encode(x=x, y=y, order="i:Q"))
    spokes = [{**at(name, 1), "x0": 0, "y0": 0} for name in names]
    layers.append(chart_of(alt, spokes).mark_rule(color=RULE).encode(x=x, y=y, x2="x0:Q", y2="y0:Q"))
    heads = [
        {
            "x": 1.42 * math.sin(angle[n]),
            "y": 1.2 * math.cos(angle[n]),
            "said": [part_label(n), f"{percent(most[n])} %"],
        }
        for n in names
    ]
    layers.append(
        chart_of(alt, heads).mark_text(fontSize=SIZE, color=INK, lineBreak="\n").encode(x=x, y=y, text="said:N")
    )
    inks = (INK, "#37848f", "#b9770e", "#7a8594", "#22355a", "#8c4a5a")
    keys = []
    for i, (encoder, parts) in enumerate(shapes.items()):
        radius = {n: (max(0.0, parts.get(n, 0.0)) / most[n] if most[n] > 0 else 0.0) for n in names}
        ring = [{**at(name, radius[name]), "i": j} for j, name in enumerate([*names, names[0]])]
        mark: Row = {"color": inks[i % len(inks)], "strokeDash": DASHES[i % len(DASHES)], "strokeWidth": 2}
        layers.append(chart_of(alt, ring).mark_line(**mark).encode(x=x, y=y, order="i:Q"))
        points_of = chart_of(alt, ring[:-1]).mark_point(
            shape=SHAPES[i % len(SHAPES)], size=50, filled=True, color=inks[i % len(inks)], opacity=1
        )
        layers.append(points_of.encode(x=x, y=y))
        keys.append((encoder, inks[i % len(inks)], SHAPES[i % len(SHAPES)]))
    legend = [{"x": 0, "y": 0, "encoder": key[0]} for key in keys]
    layers.append(
        chart_of(alt, legend).mark_point(opacity=0, size=60).encode(
            x=x, y=y,
            shape=alt.Shape("encoder:N", scale=alt.Scale(domain=[k[0] for k in keys], range=[k[2] for k in keys]),
                            legend=alt.Legend(orient="bottom", title=None, columns=1, labelFontSize=SIZE,
                                              labelLimit=side, labelColor=INK, symbolOpacity=1)),
            fill=alt.Fill("encoder:N", scale=alt.Scale(domain=[k[0] for k in keys], range=[k[1] for k in keys]),
                          legend=alt.Legend(orient="bottom", title=None, columns=1)),
        )
    )  # fmt: skip
    return finished(alt, layers, side, int(0.74 * side) + 20 * len(keys), left=0)


def scatter(
    rows: Sequence[tuple[float, float, str]], width: int, *, x_title: str, y_title: str, named: Sequence[int] = (),
    line: Sequence[tuple[float, float]] = (), marks: Sequence[str] = (), height: int = 320,
) -> "LayerChart":  # fmt: skip
    """Points in a plane (x, y, name); those at `named` are filled and named, `marks` are groups told by shape, and
    `line` is drawn through."""
    alt = require("altair")
    kinds = list(dict.fromkeys(marks))
    found: list[Row] = [
        {"x": x, "y": y, "name": name, "mark": marks[i] if marks else "", "filled": i in set(named)}
        for i, (x, y, name) in enumerate(rows)
    ]  # fmt: skip
    x = alt.X("x:Q", title=x_title, scale=alt.Scale(zero=False, padding=8), axis=alt.Axis(tickCount=6))
    y = alt.Y("y:Q", title=None, scale=alt.Scale(zero=False, padding=8), axis=alt.Axis(tickCount=6))
    layers = []
    if line:
        path = [{"x": a, "y": b} for a, b in line]
        layers.append(chart_of(alt, path).mark_line(color=FAINT, strokeWidth=1.2).encode(x=x, y=y))
    shape = alt.value("circle")
    if kinds:
        shapes = alt.Scale(domain=kinds, range=list(SHAPES[: len(kinds)]))
        legend = alt.Legend(orient="top", title=None, labelFontSize=SIZE, columnPadding=24)
        shape = alt.Shape("mark:N", scale=shapes, legend=legend)
    plain = [row for row in found if not row["filled"]]
    layers.append(
        chart_of(alt, plain).mark_point(size=28, color=FAINT, strokeWidth=1, opacity=0.85).encode(x=x, y=y, shape=shape)
    )
    filled = [row for row in found if row["filled"]]
    if filled:
        layers.append(chart_of(alt, filled).mark_circle(size=46, color=INK, opacity=1).encode(x=x, y=y))
        layers.append(
            chart_of(alt, filled).mark_text(align="left", dx=6, dy=-5, fontSize=10, color=INK).encode(
                x=x, y=y, text="name:N"
            )
        )  # fmt: skip
    right = 10 + WIDER * LETTER * max((len(row["name"]) for row in filled), default=0)
    return finished(alt, layers, width, height, right=right, above=y_title)
