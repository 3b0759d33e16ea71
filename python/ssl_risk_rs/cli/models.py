"""`ssl-risk-rs models`: the encoders one can name."""

import io
import re
import shutil
import sys
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import click

from ssl_risk_rs._limits import whole_number
from ssl_risk_rs.cli._options import offline_option
from ssl_risk_rs.cli._printing import print_csv, print_json, say
from ssl_risk_rs.cli._printing import show as show_text

if TYPE_CHECKING:
    from ssl_risk_rs.encoders.catalogue import Address
    from ssl_risk_rs.encoders.weights.check import Checked

_format = click.option(
    "--format", "form", type=click.Choice(["table", "csv", "json"]), default="table", show_default=True
)

Row = dict[str, object]

#: columns of the table that fit a terminal; CSV and JSON have all
_NARROW = ("name", "status", "objective", "dim")


@click.group()
def models() -> None:
    """List, show and check encoders.

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
@click.option("--family", metavar="NAME", help="Only these architectures: resnet, vit, beit …")
@click.option("--objective", metavar="NAME", help="Only this objective: dino, mae, swav …; * and ? are patterns.")
@click.option("--dim", metavar="N|A..B", help="Only this number of features, or numbers from A to B.")
@_format
def list_(
    pattern: str, status: str | None, family: str | None, objective: str | None, dim: str | None, form: str
) -> None:
    """List the encoders whose names match a shell pattern; 'timm:PATTERN' searches timm's.

    A word without * or ? finds every name that contains it. The status of a published encoder says whether its name
    can be used here: it loads, packages are missing, or all its addresses are dead and its file has to be at hand.
    `dim` is the number of features as published. CSV and JSON have more columns than the table.

    \b
    ssl-risk-rs models list 'timm:*dinov2*'
    """
    from ssl_risk_rs.encoders import list_encoders
    from ssl_risk_rs.errors import EncoderError

    wanted = {"status": status, "family": family, "objective": objective}
    low, high = _range(dim)
    if pattern.startswith("timm:") and (dim or any(wanted.values())):
        raise click.UsageError("the filters are of published encoders: of timm's only names are listed")
    names = list_encoders(pattern, recognised=True)
    if not names and not set("*?[") & set(pattern):
        names = list_encoders(f"*{pattern}*", recognised=True)
    rows: list[Row] = [{"name": name} if name.startswith("timm:") else _facts(name) for name in names]
    if not rows:
        raise EncoderError(f"no encoder matches {pattern!r}; `ssl-risk-rs models list` shows all names")
    found = [row for row in rows if all(_is_like(row.get(key), value) for key, value in wanted.items())]
    found = [row for row in found if dim is None or (isinstance(d := row["dim"], int) and low <= d <= high)]
    if not found:
        known = {key: sorted({str(row[key]) for row in rows if row.get(key)}) for key in wanted if wanted[key]}
        there = "".join(f"; values of {key} are {', '.join(values)}" for key, values in known.items())
        raise EncoderError(f"none of {len(rows)} encoders is of this kind{there}")
    rows = found
    if form == "table":
        rows = [{key: row[key] for key in _NARROW if key in row} for row in rows]
    _print_rows(rows, form)


def _is_like(value: object, wanted: str | None) -> bool:
    return wanted is None or fnmatchcase(str(value or "").lower(), wanted.lower())


def _range(dim: str | None) -> tuple[int, int]:
    """`2048` or `512..1024`."""
    first, dots, last = (dim or "0").partition("..")
    low, high = whole_number(first), whole_number(last if dots else first)
    if low is None or high is None:
        raise click.BadParameter(f"{dim!r} is no number of features: write 2048, or 512..1024", param_hint="--dim")
    return low, high


def _facts(name: str) -> Row:
    """What the list says of an encoder."""
    from ssl_risk_rs.encoders import describe_encoder
    from ssl_risk_rs.encoders.catalogue import catalogue, published_entry

    spec, row = describe_encoder(name), published_entry(name)
    paper = {} if row is None or row.name not in catalogue().published else catalogue().corrected(row.name)
    status = "loads" if row is None else catalogue().status(row).value
    return {
        "name": name,
        "status": status,
        "objective": spec.objective,
        "dim": int(paper["z_dim"]) if paper.get("z_dim") else None,
        "family": paper.get("family") or next(iter(re.findall("resnet|vit|convnext", spec.architecture)), None),
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
    known to be wrong is shown corrected, beside what was published and why. Its published errors follow where the
    paper's table is on this machine (`ssl-risk-rs paper fetch`).

    \b
    ssl-risk-rs models show swav
    """
    from ssl_risk_rs.encoders import describe_encoder
    from ssl_risk_rs.encoders.catalogue import published_entry
    from ssl_risk_rs.encoders.names import parse_name

    facts: Row = describe_encoder(name).to_dict()
    if parse_name(name).code is not None:  # the function returns its own transform, or none
        facts = {key: value for key, value in facts.items() if key in ("name", "architecture", "source", "features")}
        facts["note"] = f"what the function returns decides the rest; ssl-risk-rs doctor model {name} runs it"
    if (row := published_entry(name)) is not None:
        facts |= _catalogue_facts(row.name) | _published_errors(row.name)
    if form == "json":
        print_json(facts)
        return
    rows: list[Row] = []
    for key, value in facts.items():
        if isinstance(value, dict):
            as_text = _percent if key == "published" and form == "table" else _text
            rows += [{"field": f"{key}.{k}", "value": as_text(v)} for k, v in value.items() if v not in (None, "")]
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


def _published_errors(name: str) -> Row:
    """Errors of the published table, fractions; a sentence where the table is not here."""
    from ssl_risk_rs.results.counterpart import NotPublished
    from ssl_risk_rs.results.published import RISKS
    from ssl_risk_rs.workflow import published

    table = published.find_published(say)
    if isinstance(table, NotPublished):
        if table is NotPublished.NOT_FETCHED:
            say("ssl-risk-rs paper fetch  gets the table that has the published errors of this encoder.")
        return {}
    row = table.row(published.published_encoder(table, name) or "") or {}
    errors = {risk: value for risk in RISKS if isinstance(value := row.get(risk), float)}
    return {"published": errors} if errors else {}


@models.command()
@click.argument("pattern", default="*")
@click.option("--timeout", type=click.FloatRange(0, min_open=True), default=15.0, show_default=True,
              help="Seconds without an answer.")  # fmt: skip
@offline_option
@_format
def check(pattern: str, timeout: float, form: str) -> None:
    """Ask whether the addresses of published weights answer; nothing is downloaded.

    Every address of the files of the encoders that match gets a HEAD request, mirrors too. Exits with 1 if a file has
    no address that gives it; such an encoder still works with its file: ckpt:FILE@NAME. With --offline, the addresses
    are listed and not asked.

    \b
    ssl-risk-rs models check 'swav*'
    """
    from ssl_risk_rs._files import is_offline
    from ssl_risk_rs.encoders.weights.check import Answer, check_addresses, files_without_address
    from ssl_risk_rs.encoders.weights.download import cached_path, url_of

    files = _files_of(pattern)
    places = {place: mirror > 0 for of_file in files.values() for mirror, place in enumerate(of_file)}
    if is_offline():
        _print_rows([_place_row(place, mirror) for place, mirror in places.items()], form)
        say(f"{len(places)} addresses of {len(files)} files would be asked; none was (offline).")
        return

    def tell(found: "Checked") -> None:
        if found.answer is not Answer.ALIVE:
            say(f"{found.url}: {found.answer.value} ({found.detail})")

    checked = check_addresses(files.values(), timeout=timeout, progress=tell)
    rows = [_place_row(c.place, c.mirror) | {"answer": c.answer.value, "detail": c.detail} for c in checked]
    if form == "table":  # addresses are longer than a terminal is wide
        rows = [{key: value for key, value in row.items() if key != "address"} for row in rows]
    _print_rows(rows, form)
    alive = sum(c.answer is Answer.ALIVE for c in checked)
    if all(c.answer is Answer.NO_ANSWER for c in checked):
        raise click.ClickException(f"none of {len(checked)} addresses answered: this machine may have no network")
    say(f"{alive} of {len(checked)} addresses of {len(files)} files are alive.")
    if lost := files_without_address(checked):
        held = [file for file in lost if any(cached_path(place).is_file() for place in files[file])]
        here = f" ({', '.join(held)}: in the cache)" if held else ""
        first = url_of(files[lost[0]][0].address)
        raise click.ClickException(
            f"{len(lost)} files have no address that gives them{here}: {', '.join(lost)}. The first is {first}"
        )


def _files_of(pattern: str) -> "dict[str, tuple[Address, ...]]":
    """The files of the published encoders that match, and their addresses."""
    from ssl_risk_rs.encoders import list_encoders
    from ssl_risk_rs.encoders.catalogue import catalogue, published_entry
    from ssl_risk_rs.errors import EncoderError

    names = list_encoders(pattern, recognised=True) or list_encoders(f"*{pattern}*", recognised=True)
    rows = [row for name in names if (row := published_entry(name)) is not None]
    if not rows:
        raise EncoderError(f"no published encoder matches {pattern!r}; `ssl-risk-rs models list` shows all names")
    return {file: catalogue().files[file] for row in rows for file in row.files}


def _place_row(place: "Address", mirror: bool) -> Row:
    from ssl_risk_rs.encoders.weights.download import url_of

    kind = "mirror" if mirror else "original"
    return {"file": place.file, "kind": kind, "recorded": place.state, "address": url_of(place.address)}


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _percent(error: object) -> str:
    return f"{100 * error:.2f} %" if isinstance(error, float) else str(error)


def _print_rows(rows: list[Row], form: str) -> None:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    if form == "json":
        print_json(rows)
        return
    if form == "csv":
        print_csv(columns, [[_text(row.get(key)) or None for key in columns] for row in rows])
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for row in rows:
        table.add_row(*(Text(_text(row.get(key))) for key in columns))
    text = io.StringIO()
    on_terminal = sys.stdout is not None and sys.stdout.isatty()
    # a file or a pipe has no width: do not break names
    Console(file=text, width=shutil.get_terminal_size().columns if on_terminal else 200).print(table)
    show_text(text.getvalue().removesuffix("\n"))
