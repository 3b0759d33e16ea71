"""`ssl-risk-rs models`: the encoders one can name."""

import csv
import io
import json
import shutil
import sys
from typing import Any

import click

from ssl_risk_rs.cli._options import show as show_text

_format = click.option(
    "--format", "form", type=click.Choice(["table", "csv", "json"]), default="table", show_default=True
)


@click.group()
def models() -> None:
    """List and show encoders.

    \b
    ssl-risk-rs models list 'swav*'
    """


@models.command("list")
@click.argument("pattern", default="*")
@_format
def list_(pattern: str, form: str) -> None:
    """List the encoders whose names match a shell pattern; 'timm:PATTERN' searches timm's.

    Published encoders that cannot be loaded by name yet are listed with the reason.

    \b
    ssl-risk-rs models list 'timm:*dinov2*'
    """
    from ssl_risk_rs.encoders import describe_encoder, list_encoders
    from ssl_risk_rs.errors import EncoderError

    rows: list[dict[str, Any]] = []
    loadable = set(list_encoders(pattern))
    for name in list_encoders(pattern, recognised=True):
        if name.startswith("timm:"):
            rows.append({"name": name})
            continue
        row: dict[str, Any] = {"name": name, "loadable": name in loadable}
        try:
            spec = describe_encoder(name)
            row |= {
                "objective": spec.objective,
                "architecture": spec.architecture,
                "feature": spec.features[0],
            }
            row |= {"pretraining_data": spec.pretraining_data, "epochs": spec.epochs, "note": spec.notes}
        except EncoderError as error:
            row["note"] = str(error).partition(": ")[2]
        rows.append(row)
    if not rows:
        raise EncoderError(f"no encoder matches {pattern!r}; `ssl-risk-rs models list` shows all names")
    _print_rows(rows, form)


@models.command()
@click.argument("name")
@_format
def show(name: str, form: str) -> None:
    """Show what is known of an encoder: weights, features, preprocessing, training, licence, twins.

    \b
    ssl-risk-rs models show swav
    """
    from ssl_risk_rs.encoders import describe_encoder

    facts = describe_encoder(name).to_dict()
    if form == "json":
        show_text(json.dumps(facts, ensure_ascii=False, indent=1))
        return
    rows = [{"field": key, "value": _text(value)} for key, value in facts.items() if value not in (None, "")]
    _print_rows(rows, form)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _print_rows(rows: list[dict[str, Any]], form: str) -> None:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    if form == "json":
        show_text(json.dumps(rows, ensure_ascii=False, indent=1))
        return
    text = io.StringIO()
    if form == "csv":
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([[_text(row.get(key)) for key in columns] for row in rows])
    else:
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(*columns, box=SIMPLE_HEAD)
        for row in rows:
            table.add_row(*(Text(_text(row.get(key))) for key in columns))
        on_terminal = sys.stdout is not None and sys.stdout.isatty()
        # a file or a pipe has no width: do not break names
        Console(file=text, width=shutil.get_terminal_size().columns if on_terminal else 200).print(table)
    show_text(text.getvalue().removesuffix("\n"))
