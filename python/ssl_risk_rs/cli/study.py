"""`ssl-risk-rs study`: what design choices do, over many encoders."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from ssl_risk_rs._limits import whole_number
from ssl_risk_rs.cli import _options as opt
from ssl_risk_rs.cli import _printing as printing

#: what one table of the result holds → options that are needed for it
SHOWN = ("effects", "law", "trees", "tradeoffs", "fronts", "advice", "corrections", "differences")


@click.command()
@click.argument("tables", nargs=-1, required=True, metavar="TABLE...", type=click.Path())
@click.option(
    "--choice",
    "choices",
    multiple=True,
    metavar="NAME:KIND[:A+B]",
    help="This column is a design choice too: category, flag, linear or log. The columns A and B vary along with it. "
    "May be repeated.",
)
@click.option("--only", metavar="A,B", help="Only these choices are examined.")
@click.option("--component", "components", metavar="A,B", help="Only these risks are studied.")
@click.option(
    "--method",
    "methods",
    metavar="A,B",
    default="controlled,linear",
    show_default=True,
    help="controlled, linear, trees. Trees take minutes.",
)
@click.option(
    "--confounder",
    "confounders",
    multiple=True,
    metavar="NAME[:KIND]",
    help="The linear model holds these fixed. The default are the paper's, where the table has them, and the other "
    "choices of a table of your own; none holds nothing.",
)
@click.option(
    "--cluster",
    metavar="COLUMN",
    help="Rows with the same value are not independent. The default is objective, where there is one.",
)
@click.option("--data", metavar="NAME", help="Of tables with several data sets, the rows of this one are studied.")
@click.option("--probe", metavar="NAME", help="Of tables with several probes, the rows of this one are studied.")
@click.option("--metadata", metavar="FILE", help="The authors' metadata.yaml, if it is not beside their table.")
@click.option("--percent", is_flag=True, help="Risks of tables that are not the authors' are percent.")
@click.option(
    "--shots",
    metavar="COLUMN=N,...",
    help="Training rows behind each few-shot column, for the law of label counts. Known for the published table.",
)
@click.option("--labels", "n_full", type=click.IntRange(2), help="Training rows behind agg_risk, with --shots.")
@click.option(
    "--judged-rows",
    type=click.IntRange(1),
    help="Rows that each risk is judged on, for chances to be the best. Known for the published table.",
)
@click.option(
    "--as-published",
    is_flag=True,
    help="The authors' methods with their flaws, on their table without corrections, beside ours.",
)
@click.option(
    "--ci",
    "confidence",
    type=opt.CONFIDENCE,
    default=0.95,
    show_default=True,
    help="This is the confidence of the intervals.",
)
@click.option("--show", type=click.Choice(SHOWN), help="One table of the result. csv and json have effects by default.")
@click.option("--all", "every", is_flag=True, help="All effects are listed, not only those that stay after Holm.")
@click.option("--figures", metavar="DIR", help="Figures are written to this folder, as PNG and SVG.")
@click.option(
    "--html", metavar="FILE", help="A page of effects, held-out errors and trade-offs is written to this file."
)
@click.option(
    "--force",
    is_flag=True,
    help="A page or a law that is there is replaced, and figures are written into a folder that holds files.",
)
@click.option("--save-law", metavar="FILE", help="The fitted laws of label counts are written to this file, as JSON.")
@opt.format_option
def study(**given: Any) -> None:
    """Estimate what design choices do to each risk, over many encoders.

    TABLE is a csv, parquet or json file with one row an encoder: risks as fractions (approx, usability, probe_gen,
    enc_gen, agg_risk, agg_risk@30 …) and design choices (z_dim, objective, epochs …); or the authors' all_results.csv.
    Several tables are joined, and a column says where a row is from.

    Effects come from encoders that are equal in all but one choice, from a linear model with confounders (variances
    between groups, and Holm's correction), and from boosted trees. Then follow the law that gives the error at few
    labels, trade-offs, fronts and advice. What cannot be estimated is named, with the reason.

    \b
    ssl-risk-rs study all_results.csv
    """
    from ssl_risk_rs.errors import ParameterError
    from ssl_risk_rs.study import Settings, published_effects, read_table, run_study, study_table
    from ssl_risk_rs.study.choices import parse_choice
    from ssl_risk_rs.study.law import write_laws
    from ssl_risk_rs.study.study import differences
    from ssl_risk_rs.study.text import render, render_differences

    page, law, drawings = (Path(given[name]) if given[name] else None for name in ("html", "save_law", "figures"))
    if page or law or drawings:
        from ssl_risk_rs._files import check_outputs
        from ssl_risk_rs.report.files import check_figures

        check_outputs([page, law], force=given["force"], inputs=given["tables"])
        check_figures(drawings, force=given["force"])
    reading = {"metadata": given["metadata"], "percent": given["percent"]}
    reading |= {"data": given["data"], "probe": given["probe"]}
    naming = {
        "choices": [parse_choice(text) for text in given["choices"]],
        "only": _names(given["only"]),
        "components": _names(given["components"]),
        "cluster": given["cluster"],
    }
    frame, found = read_table(given["tables"], **reading)
    table = study_table(frame, found=found, **naming)
    if given["show"] == "corrections":
        _print([asdict(c) for c in found], given["form"], "corrections")
        return
    named = {name: given[name] for name in ("confidence", "n_full", "judged_rows") if given[name] is not None}
    if given["confounders"]:
        alone = tuple(given["confounders"]) == ("none",)
        named["confounders"] = () if alone else tuple(parse_choice(text) for text in given["confounders"])
    if given["shots"]:
        named["shots"] = tuple(_shots(given["shots"]))
        _check_shots(named["shots"], table.frame.columns, given["n_full"], own=not table.is_published)
    settings = Settings.for_table(table, methods=tuple(_names(given["methods"])), **named)
    result = run_study(table, settings, printing.say)
    different = []
    if given["as_published"] or given["show"] == "differences":
        plain, _ = read_table(given["tables"], as_published=True, **reading)
        theirs = published_effects(study_table(plain, **naming), confidence=settings.confidence)
        different = differences(theirs, result.effects)
    if drawings is not None:
        from ssl_risk_rs.study.figures import write_figures

        paths = write_figures(result, drawings)
        printing.say(f"{len(paths)} files with figures are in {drawings}.")
    if page is not None:
        from ssl_risk_rs.report.files import write_html
        from ssl_risk_rs.study.page import study_page

        write_html(study_page(result, made_by=opt.command_line()), page)
        printing.say(f"The page is in {page}.")
    if law is not None:
        if result.laws is None:
            raise ParameterError(f"no law can be saved: {result.no_laws}")
        write_laws(law, result.laws.logit, ", ".join(map(str, given["tables"])))
        printing.say(f"The laws of label counts are in {law}.")
    form, shown = given["form"], given["show"]
    if form == "table" and shown in (None, "differences"):
        if shown is None:
            printing.show(render(result, every=given["every"]))
        if different:
            printing.show("\n" + render_differences(different, every=given["every"]))
    else:
        shown = shown or ("differences" if given["as_published"] else "effects")
        _print(_rows(result, different, shown), form, shown)
    if table.unknown:
        listed = ", ".join(table.unknown[:8]) + (" …" if len(table.unknown) > 8 else "")
        printing.say(f"{len(table.unknown)} columns are no known design choices and are not examined: {listed}.")


def _print(rows: list[dict[str, Any]], form: str, shown: str) -> None:
    if rows or form == "json":
        printing.print_rows(rows, form)
    else:
        printing.say(f"There is nothing to show for {shown}.")


def _names(text: str | None) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()] if text else []


def _shots(text: str) -> list[tuple[str, int]]:
    pairs = []
    for part in _names(text):
        column, _, count = part.partition("=")
        if not (number := whole_number(count)):
            raise click.BadParameter(f"{part!r} is not COLUMN=N", param_hint="--shots")
        pairs.append((column, number))
    return pairs


def _check_shots(shots: Sequence[tuple[str, int]], columns: Sequence[str], n_full: int | None, *, own: bool) -> None:
    """Complain about numbers of labels that are not the table's before anything is fitted."""
    for column, count in shots:
        wrong = ""
        if column not in columns:
            few = ", ".join(name for name in columns if "@" in name) or "none"
            wrong = f"the table has no column {column!r}; of few shots it has {few}"
        elif n_full is not None and count >= n_full:
            wrong = f"{column} has {count:,} labels, which are not fewer than --labels {n_full:,}"
        if wrong:
            raise click.BadParameter(wrong, param_hint="--shots")
    if n_full is None and own:
        raise click.UsageError("--shots needs --labels N beside it: the training rows behind agg_risk")


def _rows(result: Any, different: Any, shown: str) -> list[dict[str, Any]]:
    """One table of the result, as rows with the same keys."""
    from ssl_risk_rs.study.effects import frame
    from ssl_risk_rs.study.study import difference_frame

    if shown == "effects":
        return frame(result.effects).to_dicts()
    if shown == "differences":
        return difference_frame(different).to_dicts()
    if shown == "law":
        rows = [_plain(asdict(h)) for h in (result.laws.held_out if result.laws else ())]
        every = list(dict.fromkeys(name for row in rows for name in row))  # sets have other numbers of labels
        return [{name: row.get(name) for name in every} for row in rows]
    if shown == "trees":
        return [_plain(asdict(r)) for r in result.trees]
    if shown == "fronts":
        return [
            {"first": f.first, "second": f.second, "n": f.n}
            | _plain({"encoder": m.encoder, "risk": m.first, "other_risk": m.second, "on_front": m.on_front,
                      "chance": m.chance})
            for f in result.fronts for m in f.members
        ]  # fmt: skip
    return [_plain(asdict(each)) for each in (result.tradeoffs if shown == "tradeoffs" else result.advice)]


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Cells that a table can hold: NaN is nothing, a list is joined, a mapping is one column for each key."""
    cells: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, dict):
            cells |= {f"{name}@{key}" if isinstance(key, int) else key: v for key, v in value.items()}
        elif isinstance(value, (tuple, list)):
            cells[name] = " ".join(map(str, value))
        elif isinstance(value, float) and math.isnan(value):
            cells[name] = None
        else:
            cells[name] = getattr(value, "value", value)
    return cells
