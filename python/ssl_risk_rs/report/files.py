"""A report written to files: pages, LaTeX tables and drawings, each whole or not at all."""

import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from urllib.parse import quote

from ssl_risk_rs._characters import shown
from ssl_risk_rs._files import publish
from ssl_risk_rs.errors import ParameterError
from ssl_risk_rs.report.html import render_page
from ssl_risk_rs.report.markdown import render_markdown
from ssl_risk_rs.report.page import Figure, Page
from ssl_risk_rs.report.svg import WIDE, png, svg

__all__ = ["check_figures", "write_figures", "write_html", "write_markdown", "write_text"]


def check_figures(folder: "Path | None", *, force: bool) -> None:
    """As `check_outputs`, of a folder for figures: one that holds something is not written into.

    Raises
    ------
    ParameterError if it does and `force` is not set, or is a file.
    """
    if folder is None or not folder.exists():
        return
    if not folder.is_dir():
        raise ParameterError(f"{folder} is a file; name a folder for the figures")
    if any(folder.iterdir()) and not force:
        raise ParameterError(f"{folder} holds files; name another folder, or give --force to write figures into it")


def write_html(page: Page, path: Path) -> None:
    """Write the page as one HTML file."""
    write_text(render_page(page), path)


def write_markdown(page: Page, path: Path, drawn: dict[str, Path] | None = None) -> None:
    """Write the page as Markdown; `drawn`: key of a figure → its file, which is linked from the folder of `path`."""
    links = {key: _relative(file, path.absolute().parent) for key, file in (drawn or {}).items()}
    write_text(render_markdown(page, links), path)


def write_figures(figures: Iterable[Figure], folder: Path) -> dict[str, Path]:
    """Write every figure as SVG and as PNG, and return the SVG files by key."""
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for figure in figures:
        written[figure.key] = folder / f"{figure.key}.svg"
        write_text(svg(figure, WIDE, alone=True), written[figure.key])
        publish(folder / f"{figure.key}.png", partial(_write_bytes, png(figure, WIDE)))
    return written


def write_text(text: str, path: Path) -> None:
    """Write a text file as UTF-8 with plain line ends, whatever the locale, and without control characters."""
    path.absolute().parent.mkdir(parents=True, exist_ok=True)
    publish(path.absolute(), lambda target: target.write_text(shown(text), encoding="utf-8", newline="\n"))


def _write_bytes(content: bytes, target: Path) -> None:
    target.write_bytes(content)


def _relative(file: Path, folder: Path) -> str:
    return quote(Path(os.path.relpath(file.absolute(), folder)).as_posix())
