"""How commands speak to the user: results on stdout, sentences on stderr, as far as either can show them."""

import json
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click

__all__ = ["on_terminal", "print_csv", "print_json", "print_rows", "say", "show", "width"]


def say(sentence: str) -> None:
    """A sentence for the user, on stderr."""
    click.echo(_showable(sentence, sys.stderr), err=True)


def on_terminal() -> bool:
    """Whether stderr is a terminal; it may be closed."""
    return sys.stderr is not None and sys.stderr.isatty()


def show(text: str) -> None:
    """A result, on stdout; what its encoding lacks is replaced."""
    click.echo(_showable(text, sys.stdout))


def width() -> int | None:
    """Columns of the terminal that stdout is; None for a file or a pipe, which has no width."""
    on_terminal = sys.stdout is not None and sys.stdout.isatty()
    return shutil.get_terminal_size().columns if on_terminal else None


def _showable(text: str, stream: Any) -> str:
    """The text as a stream can show it: no controls, plain characters for drawn ones, question marks for the rest."""
    from ssl_risk_rs._characters import shown

    return _encodable(shown(text), stream)


def _encodable(text: str, stream: Any) -> str:
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        from ssl_risk_rs.report.text import PLAIN

        return text.translate(PLAIN).encode(encoding, "replace").decode(encoding)
    return text


def print_json(value: Any) -> None:
    """A document of plain values, or of what `to_json` makes plain; NaN is null."""
    from ssl_risk_rs.results._json import to_json

    text = json.dumps(to_json(value), indent=2, ensure_ascii=False, allow_nan=False)
    click.echo(_encodable(text, sys.stdout))  # controls are escaped in it, or are what a name holds


def print_csv(columns: Sequence[str], rows: Iterable[Sequence[str | None]]) -> None:
    """Rows of text on stdout as CSV; what divides cells or rows is quoted within them, a lone carriage return too."""
    import polars as pl

    table = pl.DataFrame([list(row) for row in rows], schema=dict.fromkeys(columns, pl.String), orient="row")
    click.echo(_encodable(table.write_csv(), sys.stdout), nl=False)


def _rounded_cell(value: object) -> str:
    return f"{value:.5g}" if isinstance(value, float) else _cell(value)


def _cell(value: Any) -> str:
    return "" if value is None else str(value)


def print_rows(rows: list[dict[str, Any]], form: str, *, columns: Sequence[str] = ()) -> None:
    """Rows with the same keys on stdout, as aligned columns with numbers of five digits, JSON or CSV; `columns` are
    their keys, where there may be no row."""
    if form == "json":
        print_json(rows)
        return
    columns = list(rows[0]) if rows else list(columns)
    if form == "csv":
        print_csv(columns, [[_cell(row[c]) or None for c in columns] for row in rows])
        return
    cells = [columns, *([_rounded_cell(row[c]) for c in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    for line in cells:
        show("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
