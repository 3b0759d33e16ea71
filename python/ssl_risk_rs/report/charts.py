"""The drawings of a report, from plain rows to charts; they are readable in grey: lightness falls from part to part,
points differ in shape and fill, lines are labelled where they end.

Only generic font families are named, so that no font can be missing. Texts are a little wider in some families than
where they are measured: labels get room for that.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

from ssl_risk_rs.report.numbers import percent, points
from ssl_risk_rs.report.svg import WIDE, require

if TYPE_CHECKING:
    from altair import Axis, Chart, LayerChart, Scale, X, Y

__all__ = [
    "INK", "PARTS", "Bar", "Dot", "Line", "area", "dots", "lines", "part_label", "radar", "scatter", "stacked",
    "waterfall",
]  # fmt: skip

INK, FAINT, RULE = "#1d232b", "#5b6470", "#dfe3e8"
#: a row of data as Vega takes it: names, numbers, None
Row: TypeAlias = dict[str, Any]
#: part → label and colour, each darker than the one before
PARTS: dict[str, tuple[str, str]] = {
    "approx": ("approximation", "#d3d8e0"),
    "usability": ("usability", "#e2a63b"),
    "approx_usability": ("approx. + usability", "#e2a63b"),
    "probe_gen": ("probe gen.", "#37848f"),
    "enc_gen": ("encoder gen.", "#22355a"),
    "enc_gen_alt": ("encoder gen., other order", "#22355a"),
    "probe_gen_alt": ("probe gen., other order", "#37848f"),
    "agg_risk": ("aggregated risk", INK),
    # variance of an interval
    "test": ("test rows", "#d3d8e0"),
    "train": ("training rows", "#e2a63b"),
    "probe": ("probe refitted", "#37848f"),
    "floor": ("penalty's floor", "#22355a"),
}
_ON_DARK = {"#37848f", "#22355a", INK}
_SHAPES = ("circle", "square", "diamond", "triangle-up", "cross", "triangle-down")
_DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3])
#: pixels of a letter of 12 pixels, and of a value inside a bar
_LETTER, _VALUE = 6.6, 36
#: by how much of its width a text may be wider than it is measured
_WIDER = 0.18
_SIZE = 12
#: pixels of a drawing over encoders
_HEIGHT = 300
#: pixels from the middle of a bar to its interval
_BELOW = 14


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


def part_label(name: str) -> str:
    """What a drawing calls a part."""
    return PARTS[name][0]


# --- bars and dots


def stacked(bars: Sequence[Bar], width: int, *, title: str = "error, %", below: Sequence[Dot] = ()) -> "LayerChart":
    """Stacked bars with the interval of the whole; `below` each part by itself, with its interval.

    Negative parts go left of 0, so that the bar's ends say more than the total: a thin line marks the total.
    """
    alt = require("altair")
    names = list(dict.fromkeys(name for bar in bars for name, _ in bar.parts))
    order = [bar.label for bar in bars] + [dot.label for dot in below]
    segments: list[Row] = []
    ends: list[Row] = []
    for bar in bars:
        right = left = 0.0
        for name, value in bar.parts:
            start = right if value >= 0 else left
            ink = "white" if PARTS[name][1] in _ON_DARK else INK
            segments.append({"row": bar.label, "part": part_label(name), "a": 100 * start, "b": 100 * (start + value),
                             "said": percent(value, 1), "ink": ink})  # fmt: skip
            if value >= 0:
                right += value
            else:
                left += value
        if math.isfinite(bar.total):
            ends.append({"row": bar.label, "value": 100 * bar.total, "low": _pc(bar.low), "high": _pc(bar.high)})
    seen = [v for s in segments for v in (s["a"], s["b"])] + [v for e in ends for v in (e["low"], e["high"]) if v]
    seen += [100 * v for dot in below for v in (dot.value, dot.low, dot.high) if math.isfinite(v)]
    scale = _scale(alt, seen)
    room = _room(order, width)
    pixels = (width - room) / max(1e-9, scale.domain[1] - scale.domain[0])
    said = [s for s in segments if abs(s["b"] - s["a"]) * pixels > _VALUE]
    y = alt.Y("row:N", sort=order, title=None, axis=_names(alt, room))
    x = _x(alt, "a", scale, title)
    colour = alt.Color(
        "part:N",
        scale=alt.Scale(domain=[part_label(n) for n in names], range=[PARTS[n][1] for n in names]),
        legend=None if below else alt.Legend(
            orient="top", title=None, labelFontSize=_SIZE, symbolType="square", columns=2 if width < WIDE / 2 else 0,
            labelColor=INK, offset=8, columnPadding=24,
        ),
    )  # fmt: skip
    layers = [
        _values(alt, segments).mark_bar(stroke="white", strokeWidth=1, height=18).encode(
            x=x, x2="b:Q", y=y, color=colour
        ),
        *_dot_layers(alt, below, y, scale, title),
    ]  # fmt: skip
    if said:
        middle = [{**s, "m": (s["a"] + s["b"]) / 2} for s in said]
        layers.append(
            _values(alt, middle).mark_text(fontSize=_SIZE).encode(
                x=_x(alt, "m", scale, title), y=y, text="said:N", color=alt.Color("ink:N", scale=None)
            )
        )  # fmt: skip
    if ends:
        layers += _whiskers(alt, ends, y, scale, title)
    tall = 38 if math.isfinite(bars[0].total) else 28
    return _finished(alt, layers, width, tall * len(bars) + 24 * len(below) + (50 if below else 76))


def dots(rows: Sequence[Dot], width: int, *, title: str, at: float | None = None) -> "LayerChart":
    """Numbers with their intervals, one below the other; a dashed line at `at`."""
    alt = require("altair")
    order = [row.label for row in rows]
    seen = [100 * v for row in rows for v in (row.value, row.low, row.high) if math.isfinite(v)]
    if at is not None:
        seen.append(100 * at)
    scale = _scale(alt, seen)
    y = alt.Y("row:N", sort=order, title=None, axis=_names(alt, _room(order, width)))
    layers = _dot_layers(alt, rows, y, scale, title)
    if at is not None:
        rule = _values(alt, [{"at": 100 * at}]).mark_rule(color=FAINT, strokeDash=[4, 3])
        layers.insert(0, rule.encode(x=_x(alt, "at", scale, title)))
    return _finished(alt, layers, width, 20 * len(rows) + 50)


def waterfall(
    start: tuple[str, float], steps: Sequence[tuple[str, float, float, float]], end: tuple[str, float], width: int
) -> "LayerChart":
    """From one total to another, a step for each part: (label, difference, low, high), with the interval of the step
    at its end."""
    alt = require("altair")
    order = [start[0], *(label for label, *_ in steps), end[0]]
    blocks: list[Row] = [{"row": start[0], "a": 0.0, "b": 100 * start[1], "kind": "total", "said": percent(start[1])}]
    ends: list[Row] = []
    level = start[1]
    for label, difference, low, high in steps:
        kind = "more error" if difference > 0 else "less error"
        blocks.append({"row": label, "a": 100 * level, "b": 100 * (level + difference), "kind": kind,
                       "said": points(difference)})  # fmt: skip
        if math.isfinite(low):
            ends.append({"row": label, "low": 100 * (level + low), "high": 100 * (level + high)})
        level += difference
    blocks.append({"row": end[0], "a": 0.0, "b": 100 * end[1], "kind": "total", "said": percent(end[1])})
    scale = _scale(
        alt, [v for b in blocks for v in (b["a"], b["b"])] + [v for e in ends for v in (e["low"], e["high"])]
    )
    y = alt.Y("row:N", sort=order, title=None, axis=_names(alt, _room(order, width)))
    kinds, colours = ["total", "less error", "more error"], ["#8b95a3", "#d3d8e0", "#22355a"]
    colour = alt.Color(
        "kind:N", scale=alt.Scale(domain=kinds, range=colours),
        legend=alt.Legend(orient="top", title=None, labelFontSize=_SIZE, symbolType="square", values=kinds[1:],
                          offset=8, columnPadding=24),
    )  # fmt: skip
    title = "error, %"
    bars = _values(alt, blocks).mark_bar(height=16).encode(
        x=_x(alt, "a", scale, title), x2="b:Q", y=y, color=colour
    )  # fmt: skip
    by_row = {e["row"]: e for e in ends}
    place = [
        {**b, "right": max(b["a"], b["b"], by_row.get(b["row"], {}).get("high", -math.inf))} for b in blocks
    ]  # fmt: skip
    text = _values(alt, place).mark_text(align="left", dx=6, fontSize=_SIZE, color=INK).encode(
        x=_x(alt, "right", scale, title), y=y, text="said:N"
    )  # fmt: skip
    layers = [bars, *(_whiskers(alt, ends, y, scale, title) if ends else []), text]
    return _finished(alt, layers, width, 36 * len(order) + 76, right=20)


def _dot_layers(alt: ModuleType, rows: Sequence[Dot], y: "Y", scale: "Scale", title: str) -> "list[Chart]":
    if not rows:
        return []
    found: list[Row] = [
        {"row": r.label, "value": 100 * r.value, "low": _pc(r.low), "high": _pc(r.high), "ink": r.colour,
         "fill": "white" if r.hollow else r.colour}
        for r in rows
    ]  # fmt: skip
    with_ends = [row for row in found if row["low"] is not None]
    layers = []
    if scale.domain[0] < 0 < scale.domain[1]:
        layers.append(_values(alt, [{"zero": 0}]).mark_rule(color="#9aa3ae").encode(x=_x(alt, "zero", scale, title)))
    if with_ends:
        layers.append(
            _values(alt, with_ends).mark_rule(color=INK, strokeWidth=1.5).encode(
                x=_x(alt, "low", scale, title), x2="high:Q", y=y
            )
        )  # fmt: skip
    layers.append(
        _values(alt, found).mark_point(size=64, opacity=1, strokeWidth=1.5, stroke=INK, shape="circle").encode(
            x=_x(alt, "value", scale, title), y=y, fill=alt.Fill("fill:N", scale=None)
        )
    )  # fmt: skip
    return layers


def _whiskers(alt: ModuleType, ends: Sequence[Row], y: "Y", scale: "Scale", title: str) -> "list[Chart]":
    """Intervals, with caps, below their bars; a dot where the `value` of a row is given."""
    known = [e for e in ends if e["low"] is not None]
    rule = _values(alt, known).mark_rule(color=INK, strokeWidth=1.5, yOffset=_BELOW)
    layers = [rule.encode(x=_x(alt, "low", scale, title), x2="high:Q", y=y)]
    for end in ("low", "high"):
        cap = _values(alt, known).mark_tick(color=INK, size=7, thickness=1.5, yOffset=_BELOW)
        layers.append(cap.encode(x=_x(alt, end, scale, title), y=y))
    valued = [e for e in ends if "value" in e]
    if valued:
        dot = _values(alt, valued).mark_point(
            shape="circle", size=36, filled=True, color=INK, opacity=1, yOffset=_BELOW
        )
        layers.append(dot.encode(x=_x(alt, "value", scale, title), y=y))
    return layers


# --- curves


def lines(
    curves: Sequence[Line], width: int, *, x_title: str, y_title: str, percent_y: bool = True, log_y: bool = False,
    ticks: Sequence[float] = (), height: int = 280,
) -> "LayerChart":  # fmt: skip
    """Curves over a logarithmic axis, each with its name at its right end, its own dashes and points."""
    alt = require("altair")
    factor = 100 if percent_y else 1
    rows: list[Row] = []
    tags: list[Row] = []
    for curve in curves:
        for j, (x, y) in enumerate(zip(curve.x, curve.y, strict=True)):
            filled = curve.marked is None or curve.marked == j
            rows.append({
                "curve": curve.label, "x": x, "y": factor * y, "fill": curve.colour if filled else "white",
                "low": _finite(factor * curve.low[j]) if curve.low else None,
                "high": _finite(factor * curve.high[j]) if curve.high else None,
                "ink": curve.colour,
            })  # fmt: skip
        tags.append({"curve": curve.label, "x": curve.x[-1], "y": factor * curve.y[-1]})
    seen = [v for r in rows for v in (r["y"], r["low"], r["high"]) if v is not None]
    scale_y = alt.Scale(type="log", nice=False) if log_y else alt.Scale(domain=_domain(seen), nice=False)
    _spread(tags, (max(seen) - min(seen)) * 22 / height if not log_y else 0)
    xs = sorted({row["x"] for row in rows})
    axis = alt.Axis(values=list(ticks) or xs, format=",~g", labelOverlap=True, grid=False, tickColor=FAINT)
    x = alt.X("x:Q", title=x_title, scale=alt.Scale(type="log", nice=False, padding=10), axis=axis)
    y = alt.Y("y:Q", title=None, scale=scale_y, axis=alt.Axis(tickCount=5))
    layers = []
    for i, curve in enumerate(curves):
        own = [row for row in rows if row["curve"] == curve.label]
        mark: Row = {"color": curve.colour, "strokeDash": _DASHES[i % len(_DASHES)], "strokeWidth": 1.8}
        layers.append(_values(alt, own).mark_line(**mark).encode(x=x, y=y))
        ends = [row for row in own if row["low"] is not None]
        if ends:
            layers.append(
                _values(alt, ends).mark_rule(color=curve.colour, strokeWidth=1.3).encode(
                    x=x, y=alt.Y("low:Q", title=None, scale=scale_y), y2="high:Q"
                )
            )  # fmt: skip
    # names stand at the ends of curves where there is room, else in a legend
    legend = len(curves) > 1 and width < WIDE / 2
    shape = alt.Shape(
        "curve:N", scale=alt.Scale(domain=[c.label for c in curves], range=list(_SHAPES[: len(curves)])),
        legend=alt.Legend(orient="top", title=None, labelFontSize=_SIZE, labelColor=INK, columns=2, columnPadding=24,
                          symbolStrokeColor=INK, symbolFillColor=INK) if legend else None,
    )  # fmt: skip
    layers.append(
        _values(alt, rows).mark_point(size=58, opacity=1, strokeWidth=1.5).encode(
            x=x, y=y, shape=shape, fill=alt.Fill("fill:N", scale=None),
            stroke=alt.Stroke("ink:N", scale=None),
        )
    )  # fmt: skip
    right = 10.0
    if len(curves) > 1 and not legend:
        right = 14 + _WIDER * _LETTER * max(len(curve.label) for curve in curves)
        layers.append(
            _values(alt, tags).mark_text(align="left", dx=9, fontSize=_SIZE, color=INK).encode(x=x, y=y, text="curve:N")
        )
    return _finished(alt, layers, width, height, right=right, above=y_title)


def area(columns: Sequence[Bar], width: int) -> "LayerChart":
    """Stacked areas over encoders, least error first: each boundary is a sum of parts."""
    alt = require("altair")
    names = list(dict.fromkeys(name for bar in columns for name, _ in bar.parts))
    rows = []
    for i, bar in enumerate(columns):
        level = 0.0
        for name, value in bar.parts:
            ends = sorted((level, level + value))
            rows.append({"at": i, "part": part_label(name), "a": 100 * ends[0], "b": 100 * ends[1]})
            level += value
    short = {i: bar.label if len(bar.label) <= 22 else bar.label[:21] + "…" for i, bar in enumerate(columns)}
    text = " : ".join(f"datum.value == {i} ? {_quoted(label)}" for i, label in short.items()) + " : ''"
    axis = alt.Axis(values=list(short), labelExpr=text, labelAngle=-40, labelAlign="right", grid=False, labelLimit=150)
    x = alt.X("at:Q", title=None, axis=axis, scale=alt.Scale(domain=[0, len(columns) - 1], nice=False))
    colour = alt.Color(
        "part:N", scale=alt.Scale(domain=[part_label(n) for n in names], range=[PARTS[n][1] for n in names]),
        legend=alt.Legend(orient="top", title=None, labelFontSize=_SIZE, symbolType="square", offset=8,
                          columns=2 if width < WIDE / 2 else 0, labelColor=INK, columnPadding=24),
    )  # fmt: skip
    base = _values(alt, rows).mark_area(stroke="white", strokeWidth=1, opacity=1)
    layers = [base.encode(x=x, y=alt.Y("a:Q", title=None, axis=alt.Axis(tickCount=5)), y2="b:Q", color=colour)]
    totals = [{"at": i, "a": 100 * bar.total} for i, bar in enumerate(columns)]
    points_of = _values(alt, totals).mark_point(shape="circle", size=40, filled=True, color=INK, opacity=1)
    layers.append(points_of.encode(x=x, y="a:Q"))
    return _finished(alt, layers, width, _HEIGHT, left=44, above="error, %")


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
        layers.append(_values(alt, ring).mark_line(color=RULE, strokeWidth=1).encode(x=x, y=y, order="i:Q"))
    spokes = [{**at(name, 1), "x0": 0, "y0": 0} for name in names]
    layers.append(_values(alt, spokes).mark_rule(color=RULE).encode(x=x, y=y, x2="x0:Q", y2="y0:Q"))
    heads = [
        {
            "x": 1.42 * math.sin(angle[n]),
            "y": 1.2 * math.cos(angle[n]),
            "said": [part_label(n), f"{percent(most[n])} %"],
        }
        for n in names
    ]
    layers.append(
        _values(alt, heads).mark_text(fontSize=_SIZE, color=INK, lineBreak="\n").encode(x=x, y=y, text="said:N")
    )
    inks = (INK, "#37848f", "#b9770e", "#7a8594", "#22355a", "#8c4a5a")
    keys = []
    for i, (encoder, parts) in enumerate(shapes.items()):
        radius = {n: (max(0.0, parts.get(n, 0.0)) / most[n] if most[n] > 0 else 0.0) for n in names}
        ring = [{**at(name, radius[name]), "i": j} for j, name in enumerate([*names, names[0]])]
        mark: Row = {"color": inks[i % len(inks)], "strokeDash": _DASHES[i % len(_DASHES)], "strokeWidth": 2}
        layers.append(_values(alt, ring).mark_line(**mark).encode(x=x, y=y, order="i:Q"))
        points_of = _values(alt, ring[:-1]).mark_point(
            shape=_SHAPES[i % len(_SHAPES)], size=50, filled=True, color=inks[i % len(inks)], opacity=1
        )
        layers.append(points_of.encode(x=x, y=y))
        keys.append((encoder, inks[i % len(inks)], _SHAPES[i % len(_SHAPES)]))
    legend = [{"x": 0, "y": 0, "encoder": key[0]} for key in keys]
    layers.append(
        _values(alt, legend).mark_point(opacity=0, size=60).encode(
            x=x, y=y,
            shape=alt.Shape("encoder:N", scale=alt.Scale(domain=[k[0] for k in keys], range=[k[2] for k in keys]),
                            legend=alt.Legend(orient="bottom", title=None, columns=1, labelFontSize=_SIZE,
                                              labelLimit=side, labelColor=INK, symbolOpacity=1)),
            fill=alt.Fill("encoder:N", scale=alt.Scale(domain=[k[0] for k in keys], range=[k[1] for k in keys]),
                          legend=alt.Legend(orient="bottom", title=None, columns=1)),
        )
    )  # fmt: skip
    return _finished(alt, layers, side, int(0.74 * side) + 20 * len(keys), left=0)


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
        layers.append(_values(alt, path).mark_line(color=FAINT, strokeWidth=1.2).encode(x=x, y=y))
    shape = alt.value("circle")
    if kinds:
        shapes = alt.Scale(domain=kinds, range=list(_SHAPES[: len(kinds)]))
        legend = alt.Legend(orient="top", title=None, labelFontSize=_SIZE, columnPadding=24)
        shape = alt.Shape("mark:N", scale=shapes, legend=legend)
    plain = [row for row in found if not row["filled"]]
    layers.append(
        _values(alt, plain).mark_point(size=28, color=FAINT, strokeWidth=1, opacity=0.85).encode(x=x, y=y, shape=shape)
    )
    filled = [row for row in found if row["filled"]]
    if filled:
        layers.append(_values(alt, filled).mark_circle(size=46, color=INK, opacity=1).encode(x=x, y=y))
        layers.append(
            _values(alt, filled).mark_text(align="left", dx=6, dy=-5, fontSize=10, color=INK).encode(
                x=x, y=y, text="name:N"
            )
        )  # fmt: skip
    right = 10 + _WIDER * _LETTER * max((len(row["name"]) for row in filled), default=0)
    return _finished(alt, layers, width, height, right=right, above=y_title)


# --- what they share


def _values(alt: ModuleType, rows: Sequence[Row]) -> "Chart":
    found: Chart = alt.Chart(alt.Data(values=rows))
    return found


def _x(alt: ModuleType, field: str, scale: "Scale", title: str) -> "X":
    found: X = alt.X(f"{field}:Q", scale=scale, title=title, axis=alt.Axis(tickCount=6))
    return found


def _names(alt: ModuleType, room: float) -> "Axis":
    """The axis of rows: names without ticks."""
    found: Axis = alt.Axis(domain=False, ticks=False, grid=False, labelFontSize=_SIZE, labelColor=INK, labelLimit=room,
                    minExtent=room * 0.6, labelPadding=8)  # fmt: skip
    return found


def _room(labels: Sequence[str], width: int) -> float:
    """Pixels for the names of rows."""
    return min(_LETTER * max(map(len, labels)) + 8, 0.38 * width)


def _domain(values: Sequence[float]) -> list[float]:
    """Ends of an axis: a little beyond what is shown."""
    low, high = min(values), max(values)
    room = 0.04 * (high - low or abs(high) or 1.0)
    return [low - room if low != 0 else 0.0, high + room]


def _scale(alt: ModuleType, values: Sequence[float]) -> "Scale":
    found: Scale = alt.Scale(domain=_domain([0.0, *values]), nice=False)
    return found


def _pc(value: float) -> float | None:
    return None if math.isnan(value) else 100 * value


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _quoted(text: str) -> str:
    """As a string of Vega's expressions."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _spread(tags: list[Row], least: float) -> None:
    """Names at the ends of curves are moved apart where they would cover each other."""
    ordered = sorted(tags, key=lambda tag: float(tag["y"]))
    for below, above in pairwise(ordered):
        if float(above["y"]) - float(below["y"]) < least:
            above["y"] = float(below["y"]) + least


def _finished(
    alt: ModuleType,
    layers: "Sequence[Chart]",
    width: int,
    height: int,
    *,
    left: float = 14.0,
    right: float = 12.0,
    above: str = "",
) -> "LayerChart":
    """Layers as one chart of a width; `above`: the title of the upright axis, written level above it."""
    found: LayerChart = (
        alt.layer(*layers)
        .properties(
            width=width,
            height=height,
            autosize=alt.AutoSizeParams(type="fit", contains="padding"),
            padding={"left": left, "right": right, "top": 4, "bottom": 4},
        )
        .configure(font="sans-serif", background="white")
        .configure_view(stroke=None)
        .configure_axis(
            gridColor=RULE, domainColor="#9aa3ae", tickColor="#9aa3ae", labelColor=FAINT, titleColor=FAINT,
            labelFontSize=11, titleFontSize=_SIZE, titleFontWeight="normal", titlePadding=8, tickSize=4,
        )
    )  # fmt: skip
    if above:
        found = found.properties(
            title=alt.TitleParams(
                above, anchor="start", frame="bounds", fontSize=_SIZE, fontWeight="normal", color=FAINT, offset=8
            )
        )
    return found
