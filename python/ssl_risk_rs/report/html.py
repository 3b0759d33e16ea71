"""A report as one HTML file that needs nothing else: no script, no request, drawings as SVG in the page."""

import re
from typing import TYPE_CHECKING

from ssl_risk_rs.report.page import Code, Definitions, Figure, Page, Sentences, Table
from ssl_risk_rs.report.svg import NARROW, WIDE, require, svg

if TYPE_CHECKING:
    from ssl_risk_rs.report.page import Block

__all__ = ["check_installed", "render_page"]


def check_installed() -> None:
    """Raise ParameterError if a package that a page needs, one of the extra `report`, is not installed."""
    for package in ("jinja2", "altair", "vl_convert"):
        require(package)


def render_page(page: Page) -> str:
    """The page as HTML.

    Each drawing is in it twice, for wide and for narrow windows; the one that does not fit is hidden, from screen
    readers as well. A content policy in the page forbids scripts and requests.

    Raises
    ------
    ParameterError if a package of the extra `report` is not installed.
    """
    check_installed()
    jinja2 = require("jinja2")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ssl_risk_rs.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    environment.tests["kind"] = _is_kind
    environment.filters["tied"] = tied
    environment.filters["drawn"] = lambda figure, width: require("markupsafe").Markup(svg(figure, width))
    found: str = environment.get_template("page.html").render(page=page, wide=WIDE, narrow=NARROW)
    return found


def tied(text: str) -> str:
    """Text as it is set: no line ends between a number and its unit, and minus signs are minus signs.

    >>> tied("-1.5 points, 3 % of 1e-05")
    '−1.5 points, 3\\xa0% of 1e-05'
    """
    return re.sub(r"(?<![\w.])-(?=\d)", "−", re.sub(r"(?<=\d) %", "\N{NO-BREAK SPACE}%", text))


def _is_kind(block: "Block", kind: str) -> bool:
    kinds = {"sentences": Sentences, "table": Table, "figure": Figure, "code": Code, "definitions": Definitions}
    return isinstance(block, kinds[kind])
