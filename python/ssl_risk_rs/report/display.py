"""How each kind of result is shown when it is printed, plotted or the last line of a notebook's cell."""

from functools import singledispatch
from typing import TYPE_CHECKING

from ssl_risk_rs.report.comparison import render_comparison, render_matched
from ssl_risk_rs.report.explanation import render_explanation
from ssl_risk_rs.report.many import render_curve
from ssl_risk_rs.report.neighbours import render_neighbours
from ssl_risk_rs.report.notebook import draw, render_html
from ssl_risk_rs.report.text import render
from ssl_risk_rs.results.compare import Comparison, Matched
from ssl_risk_rs.results.explain import Explanation
from ssl_risk_rs.results.knn import Neighbours
from ssl_risk_rs.results.many import Curve
from ssl_risk_rs.results.run import Decomposition, Run

if TYPE_CHECKING:
    import altair as alt

__all__ = ["chart", "html", "text"]


@singledispatch
def text(shown: object) -> str:
    """What `print` shows."""
    raise TypeError(f"{type(shown).__name__} has no table")


@text.register
def _(shown: Run) -> str:
    return render(shown)


@text.register
def _(shown: Comparison) -> str:
    return render_comparison(shown)


@text.register
def _(shown: Matched) -> str:
    return render_matched(shown)


@text.register
def _(shown: Curve) -> str:
    return render_curve(shown)


@text.register
def _(shown: Explanation) -> str:
    return render_explanation(shown)


@text.register
def _(shown: Neighbours) -> str:
    return render_neighbours([shown])


def html(shown: Run) -> str:
    """The tables of a run, for notebooks."""
    return render_html(shown)


def chart(shown: Decomposition, width: int) -> "alt.LayerChart":
    """The components of a decomposition, `width` pixels wide."""
    return draw(Run.of(shown), shown, width)
