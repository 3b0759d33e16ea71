"""`ssl-risk-rs stats`."""

import math
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ssl_risk_rs.cli import _options as opt
from ssl_risk_rs.cli import _printing as printing

if TYPE_CHECKING:
    from ssl_risk_rs.geometry import Agreement, Geometry
    from ssl_risk_rs.geometry.measuring import Split
    from ssl_risk_rs.workflow.stats import Measured

#: columns of a table that is not shown on a terminal
PAGE = 80
#: columns of an encoder's numbers
LEAST_COLUMN = 10


@click.command()
@click.argument("targets", nargs=-1, required=True, metavar="BANK|FILE...")
@click.option(
    "--views", multiple=True, metavar="BANK|FILE",
    help="Another view of the same samples, in the same rows; may be given several times. BANK is the first view.",
)  # fmt: skip
@click.option("--cka", is_flag=True, help="Linear CKA of each pair is computed as well; all need the same rows.")
@click.option(
    "--split", type=click.Choice(["train", "test", "all"]), default="train", show_default=True,
    help="These rows are measured.",
)  # fmt: skip
@click.option("--seed", type=opt.SEED, default=0, show_default=True, help="Draws the rows of uniformity.")
@click.option(
    "--uniformity-rows",
    type=click.IntRange(2),
    metavar="N",
    help="Uniformity is over pairs of N rows.  [default: 4096]",
)
@click.option("--threads", "n_threads", type=opt.THREADS, help="The default is all cores.")
@opt.columns_options
@opt.store_option
@click.option(
    "--out", metavar="FILE",
    help="The numbers of one representation are written as parquet, with the spectrum, for `report --geometry`.",
)  # fmt: skip
@click.option("--force", is_flag=True, help="A file that is there is replaced.")
@opt.format_option
def stats(
    targets: tuple[str, ...],
    views: tuple[str, ...],
    cka: bool,
    split: "Split",
    seed: int,
    uniformity_rows: int | None,
    n_threads: int | None,
    features_columns: str | None,
    drop_unlabelled: bool,
    store: str | None,
    out: str | None,
    force: bool,
    form: str,
) -> None:
    """Measure the geometry of representations: ranks, spectrum, uniformity, classes, views. No probe is fitted.

    BANK is a feature bank or its key in the store; FILE holds features and labels, as for `decompose`. Several are
    shown side by side. What each number means, and what it does not: docs/geometry.md.

    \b
    ssl-risk-rs stats a.npz b.npz --cka
    """
    if out is not None and len(targets) > 1:
        raise click.UsageError(f"--out is for one representation, and {len(targets)} are named")
    from ssl_risk_rs._files import check_outputs
    from ssl_risk_rs.geometry.measuring import UNIFORMITY_ROWS
    from ssl_risk_rs.workflow.features import Reading
    from ssl_risk_rs.workflow.stats import measure_targets

    check_outputs([out if out is None else Path(out).expanduser()], force=force, inputs=(*targets, *views))
    found = measure_targets(
        targets,
        views=views,
        split=split,
        cka=cka,
        reading=Reading(features_columns, drop_unlabelled, store),
        seed=seed,
        uniformity_rows=uniformity_rows or UNIFORMITY_ROWS,
        n_threads=n_threads,
    )
    for note in found.notes:
        printing.say(note.sentence())
    if out is not None:
        found.geometries[0].save(out)
        shown = shlex.quote(str(out))
        printing.say(f"The statistics are in {out}; ssl-risk-rs report RUN --geometry {shown} shows them.")
    rows = found.frame().to_dicts()
    if form == "csv":
        printing.print_rows(rows, form)
    elif form == "json":
        printing.print_json(rows)
    else:
        printing.show("\n".join(_lines(found, printing.width() or PAGE)))


def _lines(found: "Measured", width: int) -> Iterator[str]:
    from ssl_risk_rs.report.text import folded

    names = {one.name: _short(one.name) for one in found.geometries}
    if len(set(names.values())) < len(names):
        names = {one.name: f"#{i}" for i, one in enumerate(found.geometries, 1)}
    for one in found.geometries:
        yield folded(_heading(one, names[one.name]), width)
    column = max(LEAST_COLUMN, *(len(name) for name in names.values()))
    label = max(len(row) for row in _labels(found.geometries))
    at_once = max(1, (width - label - 10) // (column + 2))
    for start in range(0, len(found.geometries), at_once):
        yield ""
        yield from _table(found.geometries[start : start + at_once], names, label, column)
    yield ""
    for line in _said(found.geometries, names):
        yield folded(f"  {line}", width)
    if found.agreements:
        yield ""
        yield from _matrix(found.agreements, list(names), names, column, width)


def _heading(one: "Geometry", short: str) -> str:
    classes = "" if one.n_classes is None else f", {one.n_classes:,} classes"
    views = f", {one.n_views} views of each" if one.n_views > 1 else ""
    constant = f", {one.constant_features:,} of them constant" if one.constant_features else ""
    zeros = f", {one.zero_rows:,} rows are zero" if one.zero_rows else ""
    name = short if short == _short(one.name) else f"{short} = {one.name}"
    rows = {"train": "training rows", "test": "test rows", "all": "rows"}[one.split]
    return f"{name} on {one.data}: {one.n_rows:,} {rows}{views}, {one.n_features:,} features{constant}{classes}{zeros}"


def _short(name: str) -> str:
    """A name without the folder of a file."""
    return name.rsplit("/", 1)[-1]


def _labels(every: "Sequence[Geometry]") -> list[str]:
    from ssl_risk_rs.geometry import STATISTICS

    return [STATISTICS[s.name].label for s in every[0].statistics]


def _table(every: "Sequence[Geometry]", names: dict[str, str], label: int, column: int) -> Iterator[str]:
    from ssl_risk_rs.geometry import STATISTICS

    header = "".join(f"  {names[one.name]:>{column}}" for one in every)
    yield f"{'':{label}}  better {header}"
    for i, statistic in enumerate(every[0].statistics):
        entry = STATISTICS[statistic.name]
        better = "" if entry.better.value == "neither" else entry.better.value
        numbers = "".join(f"  {_number(one.statistics[i].value):>{column}}" for one in every)
        yield f"{entry.label:{label}}  {better:7}{numbers}".rstrip()


def _number(value: float) -> str:
    if math.isnan(value):
        return "-"
    value += 0.0  # −0 is 0
    return f"{value:,.0f}" if value == round(value) and abs(value) < 1e6 else f"{value:.4g}"


def _said(every: "Sequence[Geometry]", names: dict[str, str]) -> Iterator[str]:
    """What was chosen for a statistic, and why one has no value: once where it is the same for all."""
    from ssl_risk_rs.geometry import STATISTICS

    for i, statistic in enumerate(every[0].statistics):
        texts: dict[str, list[str]] = {}
        for one in every:
            found = one.statistics[i]
            text = f"has no value: {found.reason}" if found.reason else found.detail
            if text:
                texts.setdefault(text, []).append(names[one.name])
        for text, of in texts.items():
            whose = "" if len(of) == len(every) else f" ({', '.join(of)})"
            joint = "" if text.startswith("has no value") else ":"
            yield f"{STATISTICS[statistic.name].label}{whose}{joint} {text}"


def _matrix(
    pairs: "Sequence[Agreement]", order: list[str], names: dict[str, str], column: int, width: int
) -> Iterator[str]:
    values = {(pair.name, pair.other): pair.value for pair in pairs}
    values |= {(other, name): value for (name, other), value in values.items()}
    yield f"linear CKA on {pairs[0].n:,} rows (1: alike up to rotation and scale)"
    at_once = max(1, (width - column) // (column + 2))
    for start in range(0, len(order), at_once):
        shown = order[start : start + at_once]
        yield f"{'':{column}}" + "".join(f"  {names[name]:>{column}}" for name in shown)
        for name in order:
            cells = (1.0 if name == other else values[name, other] for other in shown)
            yield f"{names[name]:{column}}" + "".join(
                f"  {_number(c) if math.isnan(c) else f'{c:.3f}':>{column}}" for c in cells
            )
