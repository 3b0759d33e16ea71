"""`ssl-risk-rs paper`: the published table of 169 encoders."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ssl_risk_rs.cli import _options as opt
from ssl_risk_rs.cli import _printing as printing

if TYPE_CHECKING:
    from ssl_risk_rs.results.counterpart import Counterpart
    from ssl_risk_rs.results.place import Place
    from ssl_risk_rs.results.published import Published
    from ssl_risk_rs.results.run import Run

#: what one can rank by, the paper's numbers first; held by a test against `results.published.RISKS`
BY = (
    "agg_risk", "approx", "usability", "approx_usability", "probe_gen", "enc_gen", "risk_30_shots", "risk_1_percent",
    "risk_5_shots", "risk_3_shots",
)  # fmt: skip


@click.group()
def paper() -> None:
    """Fetch, show and rank the published decompositions of 169 encoders.

    The table is that of Dubois, Hashimoto and Liang (ICML 2023): ImageNet-1K, a logistic probe, one seed, no
    intervals. It is downloaded from the authors' repository at a pinned commit, checked by SHA-256 and kept in the
    user's cache folder (or $SSL_RISK_CACHE). Known faults are mended on reading: components that were clipped at 0 sum
    to the total again, encoders without a supervised twin are marked, wrong cells are corrected; `paper show` says so.

    \b
    ssl-risk-rs paper fetch
    """


@paper.command()
@click.option(
    "--file", "files", multiple=True, metavar="PATH",
    help="The table is taken from this file or folder instead of the network; can be given more than once.",
)  # fmt: skip
@opt.format_option
def fetch(files: tuple[str, ...], form: str) -> None:
    """Download the published table once, check it, and keep it.

    Prints the files that are there afterwards. A file that is not the pinned one byte for byte is refused.

    \b
    ssl-risk-rs paper fetch --file all_results.csv
    """
    from ssl_risk_rs.workflow import published

    found = published.fetch(files, say=printing.say)
    printing.print_rows([{"file": str(f.path), "from": f.origin} for f in found], form)
    if not published.is_fetched():
        printing.say(f"{published.TABLE} is still missing, so the table cannot be shown: give that file, too.")


@paper.command()
@click.argument("target")
@click.option("--as", "encoder", metavar="NAME", help="The run is of this published encoder, where it does not tell.")
@click.option(
    "--architecture", metavar="NAME",
    help="The run's encoder has this architecture (resnet50, vitb/16 …), where it is not a published one.",
)  # fmt: skip
@opt.format_option
def show(target: str, encoder: str | None, architecture: str | None, form: str) -> None:
    """Show a published encoder, or a run beside its published numbers.

    TARGET is an encoder's name (swav) or a run folder. For an encoder: its errors, its place among the others, the
    nearest encoders, what it errs beyond others of its architecture and dimension, and what is known to be wrong in
    its row. For a run: measured, published, difference, and why they may differ.

    \b
    ssl-risk-rs paper show swav
    """
    from ssl_risk_rs.errors import ParameterError
    from ssl_risk_rs.results.run import Run
    from ssl_risk_rs.workflow.published import load_published, published_encoder

    table = load_published()
    if (Path(target).expanduser() / "run.json").is_file():
        _show_run(Run.load(target), target, table, encoder, architecture, form)
        return
    if encoder is not None or architecture is not None:
        raise click.UsageError(f"--as and --architecture go with a run folder, and {target} is none")
    name = published_encoder(table, target)
    if name is None:
        from ssl_risk_rs.encoders.spec import nearest

        near = nearest(target, table.names())
        raise ParameterError(
            f"{target!r} is neither a published encoder nor a run folder"
            + (f"; near are {', '.join(near)}" if near else "; ssl-risk-rs paper rank lists the encoders")
        )
    _show_encoder(table, name, form)


@paper.command()
@click.option(
    "--by", type=click.Choice(BY), default="agg_risk", show_default=True, help="Encoders are ranked by this error."
)
@click.option("--top", type=click.IntRange(1), metavar="N", help="Only the first N ranks are printed.")
@opt.format_option
def rank(by: str, top: int | None, form: str) -> None:
    """Rank the published encoders by an error, the least first; equal errors share a rank.

    \b
    ssl-risk-rs paper rank --by probe_gen --top 10
    """
    from ssl_risk_rs.results.published import ranked
    from ssl_risk_rs.workflow.published import load_published

    table = load_published()
    frame = ranked(table, by)
    n, every = frame.height, table.frame.height
    rows = [row for row in frame.to_dicts() if top is None or row["rank"] <= top]
    if form == "table":
        rows = [_shown(row, by) for row in rows]
    printing.print_rows(rows, form)
    if n < every:
        printing.say(
            f"{n} of {every} encoders are ranked: for the others {by} is not known"
            + (" (they have no supervised twin)." if by in ("approx", "usability") else ".")
        )


def _shown(row: dict[str, Any], by: str) -> dict[str, Any]:
    """A row for people: percent, and a mark instead of a flag."""
    from ssl_risk_rs.report.numbers import hundred

    percent = {f"{name} %": f"{hundred(row[name]):.2f}" for name in dict.fromkeys([by, "agg_risk"])}
    left = {name: value for name, value in row.items() if name not in ("rank", "encoder", by, "agg_risk", "trusted")}
    mark = None if row["trusted"] else "of another checkpoint than its name says"
    return {"rank": row["rank"], "encoder": row["encoder"], **percent, **left, "mark": mark}


def _show_encoder(table: "Published", name: str, form: str) -> None:
    from ssl_risk_rs.report.published import render_encoder
    from ssl_risk_rs.results.place import place
    from ssl_risk_rs.results.published import RISKS

    if form == "table":
        printing.show(render_encoder(table, name, printing.width()))
        return
    row = table.row(name) or {}
    errors = {risk: value for risk in RISKS if isinstance(value := row[risk], float)}
    found = place(table, errors, encoder=name)
    if form == "csv":
        printing.print_rows(found.standings.to_dicts(), form)
        return
    faults = table.faults.filter(table.faults["encoder"] == name).to_dicts()
    printing.print_json({"encoder": name, "row": row, "faults": faults, **_place(found)})


def _show_run(
    run: "Run", target: str, table: "Published", encoder: str | None, architecture: str | None, form: str
) -> None:
    from ssl_risk_rs.errors import ParameterError
    from ssl_risk_rs.report.published import render_beside
    from ssl_risk_rs.workflow.published import beside

    found = beside(run, table, encoder=encoder, architecture=architecture)
    if not found:
        raise ParameterError(
            f"{target} is of {run.provenance.encoder} on {run.provenance.data}: the table has neither; where the "
            "encoder is published under another name, give it by --as NAME"
        )
    if form == "table":
        printing.show("\n\n".join(render_beside(each, table.frame.height, printing.width()) for each in found))
    elif form == "csv":
        printing.print_rows([row for each in found for row in _rows(each)], form)
    else:
        printing.print_json(
            [
                {
                    "encoder": each.encoder,
                    "probe": each.probe,
                    "rows": _rows(each),
                    "reasons": [note.sentence() for note in each.reasons],
                    "place_is_measured": each.place_is_measured,
                    **({} if each.place is None else _place(each.place)),
                }
                for each in found
            ]
        )


def _rows(found: "Counterpart") -> list[dict[str, Any]]:
    return [
        {
            "encoder": found.encoder,
            "probe": found.probe,
            "quantity": row.quantity,
            "measured": row.measured,
            "low": row.low,
            "high": row.high,
            "published": row.published,
            "difference": row.difference,
        }
        for row in found.rows
    ]


def _place(found: "Place") -> dict[str, list[dict[str, Any]]]:
    return {
        "standings": found.standings.to_dicts(),
        "nearest": found.nearest.to_dicts(),
        "residuals": found.residuals.to_dicts(),
    }
