"""`ssl-risk-rs models`: the encoders one can name."""

import csv
import io
import json
import shutil
import sys

import click

from ssl_risk_rs.cli._options import show as show_text

_format = click.option(
    "--format", "form", type=click.Choice(["table", "csv", "json"]), default="table", show_default=True
)

Row = dict[str, object]

#: columns of the table that fit a terminal; CSV and JSON have all
_NARROW = ("name", "status", "objective")


@click.group()
def models() -> None:
    """List and show encoders.

    \b
    ssl-risk-rs models list 'swav*'
    """


@models.command("list")
@click.argument("pattern", default="*")
@click.option(
    "--status",
    type=click.Choice(["loads", "needs extra", "address dead"]),
    help="Only encoders with this status.",
)
@_format
def list_(pattern: str, status: str | None, form: str) -> None:
    """List the encoders whose names match a shell pattern; 'timm:PATTERN' searches timm's.

    A word without * or ? finds every name that contains it. The status of a published encoder says whether its name
    can be used here: it loads, packages are missing, or all its addresses are dead and its file has to be at hand.
    CSV and JSON have more columns than the table.

    \b
    ssl-risk-rs models list 'timm:*dinov2*'
    """
    from ssl_risk_rs.encoders import list_encoders
    from ssl_risk_rs.errors import EncoderError

    names = list_encoders(pattern, recognised=True)
    if not names and not set("*?[") & set(pattern):
        names = list_encoders(f"*{pattern}*", recognised=True)
    rows: list[Row] = [{"name": name} if name.startswith("timm:") else _facts(name) for name in names]
    rows = [row for row in rows if status is None or row.get("status") == status]
    if not rows:
        raise EncoderError(f"no encoder matches {pattern!r}; `ssl-risk-rs models list` shows all names")
    if form == "table":
        rows = [{key: row[key] for key in _NARROW if key in row} for row in rows]
    _print_rows(rows, form)


def _facts(name: str) -> Row:
    """What the list says of an encoder."""
    from ssl_risk_rs.encoders import describe_encoder
    from ssl_risk_rs.encoders.catalogue import catalogue, published_entry

    spec, row = describe_encoder(name), published_entry(name)
    status = "loads" if row is None else catalogue().status(row).value
    return {
        "name": name,
        "status": status,
        "objective": spec.objective,
        "architecture": spec.architecture + (f"?{spec.options}" if spec.options else ""),
        "feature": spec.features[0],
        "pretraining_data": spec.pretraining_data,
        "epochs": spec.epochs,
        "batch_size": spec.batch_size,
        "licence": spec.licence,
        "group": "" if row is None else row.group,
        "note": spec.notes,
    }


@models.command()
@click.argument("name")
@_format
def show(name: str, form: str) -> None:
    """Show what is known of an encoder: weights, features, preprocessing, training, licence, twins.

    For an encoder of the paper, its hyper-parameters and metadata follow under the paper's names; a cell that is
    known to be wrong is shown corrected, beside what was published and why.

    \b
    ssl-risk-rs models show swav
    """
    from ssl_risk_rs.encoders import describe_encoder
    from ssl_risk_rs.encoders.catalogue import published_entry

    facts: Row = describe_encoder(name).to_dict()
    if (row := published_entry(name)) is not None:
        facts |= _catalogue_facts(row.name)
    if form == "json":
        show_text(json.dumps(facts, ensure_ascii=False, indent=1))
        return
    rows: list[Row] = []
    for key, value in facts.items():
        if isinstance(value, dict):
            rows += [{"field": f"{key}.{k}", "value": _text(v)} for k, v in value.items() if v not in (None, "")]
        elif value not in (None, ""):
            rows.append({"field": key, "value": _text(value)})
    _print_rows(rows, form)


def _catalogue_facts(name: str) -> Row:
    """Status, addresses and the paper's columns of an encoder of the catalogue."""
    from ssl_risk_rs.encoders.catalogue import catalogue, published_entry

    tables, row = catalogue(), published_entry(name)
    assert row is not None  # its name comes from there
    places = [place for file in row.files for place in tables.files[file]]
    corrected = {
        column: f"{value}, published as {tables.published[name][column]}: {reason}"
        for (of, column), (value, reason) in tables.corrections.items()
        if of == name
    }
    return {
        "status": tables.status(row).value,
        "addresses": [f"{place.address} ({place.state}, {place.dialect})" for place in places],
        "sha256": [f"{place.sha256}" for place in places if place.sha256],
        "paper": tables.corrected(name) if name in tables.published else {},
        "corrected": corrected,
    }


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _print_rows(rows: list[Row], form: str) -> None:
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

        table = Table(*columns, box=SIMPLE_HEAD, pad_edge=False)
        for row in rows:
            table.add_row(*(Text(_text(row.get(key))) for key in columns))
        on_terminal = sys.stdout is not None and sys.stdout.isatty()
        # a file or a pipe has no width: do not break names
        Console(file=text, width=shutil.get_terminal_size().columns if on_terminal else 200).print(table)
    show_text(text.getvalue().removesuffix("\n"))
