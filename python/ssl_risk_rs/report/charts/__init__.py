"""The drawings of a report, from plain rows to charts; they are readable in grey: lightness falls from part to part,
points differ in shape and fill, lines are labelled where they end.

Only generic font families are named, so that no font can be missing. Texts are a little wider in some families than
where they are measured: labels get room for that.
"""

from ssl_risk_rs.report.charts.bars import Bar, Dot, dots, stacked, waterfall
from ssl_risk_rs.report.charts.curves import Line, area, lines, radar, scatter
from ssl_risk_rs.report.charts.style import COLOURS, INK, SOURCES, part_label

__all__ = [
    "COLOURS", "INK", "SOURCES", "Bar", "Dot", "Line", "area", "dots", "lines", "part_label", "radar", "scatter",
    "stacked", "waterfall",
]  # fmt: skip
