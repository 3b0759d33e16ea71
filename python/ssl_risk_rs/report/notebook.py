"""The table of a run as HTML, and its drawing, for notebooks."""

import math
from html import escape
from typing import TYPE_CHECKING

from ssl_risk_rs.report.metrics import metric_lines, metric_marks
from ssl_risk_rs.report.numbers import hundred
from ssl_risk_rs.report.orders import shown_names
from ssl_risk_rs.report.sentences import checks, legend, mark, notes, short
from ssl_risk_rs.report.shots import marks_of, shot_lines
from ssl_risk_rs.results.metrics import HEADLINES
from ssl_risk_rs.results.quantities import QUANTITIES
from ssl_risk_rs.results.run import Decomposition, Run

if TYPE_CHECKING:
    import altair as alt

__all__ = ["draw", "render_html"]


def draw(run: Run, result: Decomposition, width: int) -> "alt.LayerChart":
    """The parts of an error as an Altair chart, which notebooks show and `save` writes."""
    from ssl_risk_rs.report.overview import figure

    drawn = figure(run, result, "components")
    chart: alt.LayerChart = drawn.draw(width).properties(title=drawn.title)
    return chart


def render_html(run: Run) -> str:
    """One table for each decomposition, with its checks and notes."""
    parts = []
    for result in run.decompositions:
        target = f", target {run.provenance.target}" if run.provenance.target else ""
        title = f"{short(run.provenance.encoder)} on {run.provenance.data}{target}, {result.method.probe} probe"
        rows = []
        names = shown_names(result)
        shown = [e for name, e in result.estimates.items() if name in names]
        for e in shown:
            interval = "" if math.isnan(e.low) else f"{hundred(e.low):.2f} to {hundred(e.high):.2f}"
            sign = mark(e.grade)
            cells = (QUANTITIES[e.quantity].label, f"{hundred(e.estimate):.2f}{sign}", interval)
            rows.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
        said = [f"{'✓' if check.passed else '✗'} {check.text}" for check in checks(result)]
        said += [note.sentence() for note in notes(result, run.provenance)]
        said += [line.strip() for line in legend({e.grade for e in shown} | marks_of(result) | metric_marks(result))]
        shots = "\n".join([*metric_lines(result), *shot_lines(result)])
        shots = f"<pre>{escape(shots)}</pre>" if shots else ""
        error = "error" if result.method.metric == "error" else HEADLINES[result.method.metric].label
        head = f"<th>component</th><th>{error}, %</th><th>{100 * result.method.confidence:g} % interval</th>"
        parts.append(
            f"<table><caption>{escape(title)}</caption><thead><tr>{head}</tr></thead>"
            f"<tbody>{''.join(rows)}</tbody></table>{shots}<ul>{''.join(f'<li>{escape(s)}</li>' for s in said)}</ul>"
        )
    return "".join(parts)
