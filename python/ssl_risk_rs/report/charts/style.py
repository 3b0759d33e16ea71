"""What all drawings share: colours, sizes, labels, axes, and how layers become one chart."""

import math
from collections.abc import Sequence
from itertools import pairwise
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

from ssl_risk_rs._characters import clipped
from ssl_risk_rs._names import distinct
from ssl_risk_rs.results.quantities import QUANTITIES

if TYPE_CHECKING:
    from altair import Axis, Chart, LayerChart, Scale, X

__all__ = [
    "BELOW", "COLOURS", "DASHES", "FAINT", "HEIGHT", "INK", "LETTER", "ON_DARK", "RULE", "SHAPES", "SIZE", "SOURCES",
    "VALUE", "WIDER", "Row", "chart_of", "domain", "finished", "finite", "fitted", "in_percent", "names_axis",
    "part_label", "quoted", "room_for", "scale_of", "spread_apart", "x_axis",
]  # fmt: skip

INK, FAINT, RULE = "#1d232b", "#5b6470", "#dfe3e8"
#: a row of data as Vega takes it: names, numbers, None
Row: TypeAlias = dict[str, Any]
#: parts of an error, and of the variance of an interval, each darker than the one before
COLOURS = {
    "approx": "#d3d8e0", "usability": "#e2a63b", "approx_usability": "#e2a63b", "probe_gen": "#37848f",
    "enc_gen": "#22355a", "enc_gen_alt": "#22355a", "probe_gen_alt": "#37848f", "agg_risk": INK,
    "test": "#d3d8e0", "train": "#e2a63b", "probe": "#37848f", "floor": "#22355a",
}  # fmt: skip
#: parts of the variance of an interval, and their labels
SOURCES = {
    "test": "test rows", "train": "training rows", "probe": "probe refitted", "floor": "penalty's floor",
}  # fmt: skip
ON_DARK = {"#37848f", "#22355a", INK}
SHAPES = ("circle", "square", "diamond", "triangle-up", "cross", "triangle-down")
DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3])
#: pixels of a letter of 12 pixels, and of a value inside a bar
LETTER, VALUE = 6.6, 36
#: by how much of its width a text may be wider than it is measured
WIDER = 0.18
SIZE = 12
#: share of a drawing's width that names of rows may take
_MOST_ROOM = 0.38
#: pixels of a drawing over encoders
HEIGHT = 300
#: pixels from the middle of a bar to its interval
BELOW = 14


def part_label(name: str) -> str:
    """What a drawing calls a part."""
    if name in SOURCES:
        return SOURCES[name]
    quantity = QUANTITIES[name]
    return quantity.short if quantity.kind == "component" else quantity.label


def chart_of(alt: ModuleType, rows: Sequence[Row]) -> "Chart":
    """A chart of these rows, without marks."""
    found: Chart = alt.Chart(alt.Data(values=rows))
    return found


def x_axis(alt: ModuleType, field: str, scale: "Scale", title: str) -> "X":
    """The level axis of a field."""
    found: X = alt.X(f"{field}:Q", scale=scale, title=title, axis=alt.Axis(tickCount=6))
    return found


def names_axis(alt: ModuleType, room: float) -> "Axis":
    """The axis of rows: names without ticks."""
    found: Axis = alt.Axis(domain=False, ticks=False, grid=False, labelFontSize=SIZE, labelColor=INK, labelLimit=room,
                    minExtent=room * 0.6, labelPadding=8)  # fmt: skip
    return found


def room_for(labels: Sequence[str], width: int) -> float:
    """Pixels for the names of rows."""
    return min(LETTER * max(map(len, labels)) + 8, _MOST_ROOM * width)


def fitted(labels: Sequence[str], width: int) -> list[str]:
    """Names of rows that differ and have room: long ones are cut in the middle."""
    most = int((_MOST_ROOM * width - 8) / (0.85 * LETTER))  # which is that of wide letters
    short = [clipped(label, most) for label in labels]
    if len(set(short)) < len(set(labels)):
        short = [clipped(label, most - 3) for label in labels]
    return distinct(short)


def domain(values: Sequence[float]) -> list[float]:
    """Ends of an axis: a little beyond what is shown."""
    low, high = min(values), max(values)
    room = 0.04 * (high - low or abs(high) or 1.0)
    return [low - room if low != 0 else 0.0, high + room]


def scale_of(alt: ModuleType, values: Sequence[float]) -> "Scale":
    """A scale of zero and these values."""
    found: Scale = alt.Scale(domain=domain([0.0, *values]), nice=False)
    return found


def in_percent(value: float) -> float | None:
    """A fraction in percent; None where there is none."""
    return None if math.isnan(value) else 100 * value


def finite(value: float) -> float | None:
    """A number that can be drawn, or None."""
    return value if math.isfinite(value) else None


def quoted(text: str) -> str:
    """As a string of Vega's expressions."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def spread_apart(tags: list[Row], least: float) -> None:
    """Names at the ends of curves are moved apart where they would cover each other."""
    ordered = sorted(tags, key=lambda tag: float(tag["y"]))
    for below, above in pairwise(ordered):
        if float(above["y"]) - float(below["y"]) < least:
            above["y"] = float(below["y"]) + least


def finished(
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
            labelFontSize=11, titleFontSize=SIZE, titleFontWeight="normal", titlePadding=8, tickSize=4,
        )
    )  # fmt: skip
    if above:
        found = found.properties(
            title=alt.TitleParams(
                above, anchor="start", frame="bounds", fontSize=SIZE, fontWeight="normal", color=FAINT, offset=8
            )
        )
    return found
