"""Charts → SVG that stands by itself in a page: text as text, a title and a description, no ids that collide."""

import re
from types import ModuleType
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from ssl_risk_rs import _extras
from ssl_risk_rs._characters import shown, shown_in

if TYPE_CHECKING:
    import altair as alt

    from ssl_risk_rs.report.page import Figure

__all__ = ["NARROW", "WIDE", "png", "require", "svg"]

#: widths in pixels at which a figure is drawn: for a page, and for a telephone
WIDE, NARROW = 700, 340
_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
#: attributes of the drawing program that a still picture does not need
_DROPPED = ("class", "role", "pointer-events", "aria-hidden", "aria-label", "aria-roledescription", "stroke-miterlimit")


def require(module: str) -> ModuleType:
    """Import a package of the extra `report`; ParameterError with the line that installs it, if it is absent."""
    return _extras.require(module, "report", "pages and figures need")


def svg(figure: "Figure", width: int, *, alone: bool = False) -> str:
    """A figure as SVG, with its title and description.

    Parameters
    ----------
    alone : as a file of its own, with namespace and white ground; otherwise as part of an HTML page
    """
    root = ElementTree.fromstring(_convert(figure.draw(width), "vegalite_to_svg"))
    name = f"{figure.key}-{width}"
    _clean(root, name)
    for element, child in ((root, "desc"), (root, "title")):  # each is put first: the title in front
        found = ElementTree.Element(f"{{{_SVG}}}{child}", {"id": f"{name}-{child}"})
        found.text = figure.text if child == "desc" else figure.title
        element.insert(0, found)
    root.set("role", "img")
    root.set("aria-labelledby", f"{name}-title {name}-desc")
    if not alone:
        root.attrib.pop("height")
        root.set("style", f"max-width:{root.attrib.pop('width')}px")
        _without_ground(root)
    ElementTree.register_namespace("", _SVG)
    text = shown(ElementTree.tostring(root, encoding="unicode"))
    return text if alone else text.replace(f' xmlns="{_SVG}"', "")


def png(figure: "Figure", width: int) -> bytes:
    """A figure as PNG, at twice the resolution of the page."""
    return bytes(require("vl_convert").vegalite_to_png(_spec(figure.draw(width)), scale=2))


def _spec(chart: "alt.TopLevelMixin") -> object:
    return shown_in(chart.to_dict(validate=False))


def _convert(chart: "alt.TopLevelMixin", how: str) -> str:
    return str(getattr(require("vl_convert"), how)(_spec(chart)))


def _clean(root: ElementTree.Element, name: str) -> None:
    """No attribute that only a live drawing needs, no empty path, ids of their own."""
    for parent in root.iter():
        for child in list(parent):
            empty = child.get("display") == "none" or (child.get("d") == "M0,0h0v0h0Z")
            if child.tag == f"{{{_SVG}}}path" and empty:
                parent.remove(child)
    for element in root.iter():
        for attribute in (*_DROPPED, f"{{{_XLINK}}}href"):
            element.attrib.pop(attribute, None)
        if element.get("opacity") == "1":
            del element.attrib["opacity"]
        if "id" in element.attrib:
            element.set("id", f"{name}-{element.attrib['id']}")
        for attribute, value in element.attrib.items():
            if "url(#" in value:
                element.set(attribute, re.sub(r"url\(#", f"url(#{name}-", value))


def _without_ground(root: ElementTree.Element) -> None:
    first = next((child for child in root if child.tag == f"{{{_SVG}}}rect"), None)
    if first is not None and first.get("fill") == "white":
        root.remove(first)
