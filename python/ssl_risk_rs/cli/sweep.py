"""`ssl-risk-rs sweep`."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import click

from ssl_risk_rs._names import counted
from ssl_risk_rs.cli import _options as opt
from ssl_risk_rs.cli import _printing as printing
from ssl_risk_rs.cli._engines import engine_option, engine_options_of, words_of
from ssl_risk_rs.cli._help import LongCommand
from ssl_risk_rs.cli._results import beside_an_encoder, check_question, probe_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ssl_risk_rs.encoders.names import Preparation
    from ssl_risk_rs.extraction.settings import Encoding
    from ssl_risk_rs.workflow.engines import Engine
    from ssl_risk_rs.workflow.question import Question
    from ssl_risk_rs.workflow.sweep import Sweep
    from ssl_risk_rs.workflow.sweep_plan import Preview

#: options that a line of one job has of its own, or does without
_OWN = (
    "model",
    "data",
    "store",
    "out",
    "engine",
    "jobs",
    "engine_options",
    "dry_run",
    "form",
    "supervised",
    "control",
    *opt.PREPARATION,
)

Row = dict[str, Any]


@click.command(cls=LongCommand)
@click.option(
    "-m", "--model", multiple=True, required=True,
    help="Encoders: names, patterns ('swav*,dino*', 'ckpt:ep*.pth@ARCH'), or @FILE with one of these on each line; may "
    "be repeated.",
)  # fmt: skip
@click.option("-d", "--data", multiple=True, help="Images, as in `run`; may be repeated.")
@opt.store_option
@click.option("--out", metavar="DIR", default="sweep", show_default=True,
              help="This folder gets a run folder for each pair, and sweep.json; the same line goes on.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="List the pairs and what each would take; nothing is run.")
@engine_option("local", "ray", "slurm", what="Pairs run")
@click.option("--jobs", type=click.IntRange(1), metavar="N",
              help="So many pairs at a time. The default is one on each GPU, else one.")  # fmt: skip
@click.option("--supervised", default="auto", show_default=True, metavar="auto|none|MODEL", help="As in `run`.")
@click.option("--control", default="auto", show_default=True, metavar="auto|none|MODEL", help="As in `run`.")
@opt.drop_unlabelled_option("Images without a value of --target are left out.")
@opt.extraction_options
@probe_options
@opt.format_option
@click.pass_context
def sweep(
    context: click.Context,
    /,
    model: tuple[str, ...],
    data: tuple[str, ...],
    store: str | None,
    out: str,
    dry_run: bool,
    engine: Literal["local", "ray", "slurm"],
    engine_options: tuple[str, ...],
    jobs: int | None,
    supervised: str,
    control: str,
    drop_unlabelled: bool,
    encoding: "Encoding",
    preparation: "Preparation",
    question: "Question",
    form: str,
) -> None:
    """Run every encoder on every data set: a run folder for each pair, and one table.

    Each pair is a process of its own; one that fails does not stop the others, and is named at the end with the line
    that tries it again. Runs that are there with the same encoder, data and settings are not made again, so that after
    an interruption the same line goes on. --layers A,B gives a run for each layer, from one pass over the images.

    \b
    ssl-risk-rs sweep -m 'swav*,dino*' -m @zoo.txt -d imagenet:/data/imagenet --dry-run
    """
    from ssl_risk_rs.bank.store import FeatureStore
    from ssl_risk_rs.workflow.engines import open_engine
    from ssl_risk_rs.workflow.sweep import Sweep
    from ssl_risk_rs.workflow.sweep_plan import SweepSettings, plan_sweep
    from ssl_risk_rs.workflow.sweep_records import SweepFolder
    from ssl_risk_rs.workflow.sweep_table import read_design

    device = question.settings.device
    encoding = opt.encoding_on(encoding, device)
    layers = encoding.layers
    if patterns := [name for name in layers or () if name == "all" or any(sign in name for sign in "*?[")]:
        raise click.UsageError(
            f"--layers of a sweep are names, not {patterns[0]!r}: encoders have layers of their own; "
            "ssl-risk-rs models show NAME lists them, and  run --layers  takes patterns"
        )
    question = replace(
        beside_an_encoder(question),
        encoding=replace(encoding, layers=None),
        drop_unlabelled=drop_unlabelled,
        supervised=preparation.shared(supervised),
        control=preparation.shared(control),
    )
    check_question(question)
    settings = SweepSettings(
        question,
        store=str(FeatureStore(store).root.absolute()),
        layers=None if layers is None else tuple(dict.fromkeys(layers)),
        data_named=bool(data) or opt.is_named(None),
    )
    folder = SweepFolder(out)
    folder.check()
    read_design(folder)
    runs_on = open_engine(engine, engine_options_of(engine_options), jobs=jobs, device=device, folder=folder.hidden)
    plan = plan_sweep(model, data or (opt.named_data(None),), settings, preparation)
    common = [*words_of(context, without=_OWN), "--supervised", question.supervised, "--control", question.control]
    common += ["--store", str(settings.store), "--out", str(folder.root)]
    made = Sweep(
        plan, settings, folder, lambda job: ("sweep", "-m", job.encoder, "-d", job.data, *common), opt.command_line()
    )
    for note in plan.notes:
        printing.say(note)
    if plan.dead:
        printing.say(
            f"{len(plan.dead)} encoders match and are left out, because their published addresses are dead: "
            f"{', '.join(plan.dead)}. With a file at hand, name it as ckpt:FILE@NAME."
        )
    if dry_run:
        _show_plan(made, runs_on, form)
    else:
        _run(made, runs_on, form)


# --- before


def _show_plan(made: "Sweep", engine: "Engine", form: str) -> None:
    from ssl_risk_rs.workflow.sweep import unfinished
    from ssl_risk_rs.workflow.sweep_plan import preview

    records = made.folder.records()
    left = {job: pairs for job, pairs in unfinished(made)}
    previews = [preview(job, made.asked, records, left.get(job, ())) for job in made.plan.jobs]
    rows = [_plan_row(made, shown, len(left.get(shown.job, ()))) for shown in previews]
    empty = dict.fromkeys(rows[0])
    rows += [{**empty, "encoder": e, "state": "left out", "weights": "address dead"} for e in made.plan.dead]
    printing.print_rows([_narrow(row, rows) for row in rows] if form == "table" else rows, form)
    n_runs = sum(len(job.pairs) for job in made.plan.jobs)
    n_left = sum(map(len, left.values()))
    printing.say(f"{n_left} of {counted(n_runs, 'run')} {'is' if n_left == 1 else 'are'} to be made. {_cost(previews)}")
    for sentence in engine.describe():
        printing.say(f"It would run as {sentence}")


def _plan_row(made: "Sweep", shown: "Preview", n_left: int) -> Row:
    from ssl_risk_rs.workflow.locks import is_held

    job = shown.job
    state = "done" if n_left == 0 else "to do"
    if 0 < n_left < len(job.pairs):
        state = f"{len(job.pairs) - n_left} of {len(job.pairs)} done"
    if any(is_held(made.folder.file(pair.id, "lock")) for pair in job.pairs):
        state = "at work"
    return {
        "encoder": job.encoder,
        "data": job.data_name,
        "layers": len(job.pairs),
        "state": state,
        "weights": shown.weights,
        "download_mb": None if shown.download is None else round(shown.download / 1e6, 1),
        "images": job.n_images,
        "passes": shown.passes,
        "gb": None if shown.gigabytes is None else round(shown.gigabytes, 3),
        "minutes": None if shown.minutes is None else round(shown.minutes, 1),
    }


def _narrow(row: Row, rows: list[Row]) -> Row:
    """A row for a terminal: without columns that say the same everywhere."""
    varies = {name for name in ("data", "layers") if len({r[name] for r in rows if r[name] is not None}) > 1}
    size = "" if row["download_mb"] is None else f", {row['download_mb']:.0f} MB"
    shown = {
        name: value for name, value in row.items() if name not in ("data", "layers", "download_mb") or name in varies
    }
    return {**shown, "weights": f"{row['weights']}{size}"}


def _cost(previews: "Sequence[Preview]") -> str:
    """What the jobs take together, in sentences."""
    todo = [shown for shown in previews if shown.passes]
    if not todo:
        return "No image is encoded for them, twins and controls aside."
    known = [shown.gigabytes for shown in todo if shown.gigabytes is not None]
    images = sum(shown.job.n_images for shown in todo)
    said = [
        f"{counted(len(todo), 'pass', 'passes')} encode{'s' if len(todo) == 1 else ''} {images:,} images, twins and "
        f"controls aside{_stored(known, len(todo) - len(known))}"
    ]
    sizes = {shown.job.encoder: shown.download for shown in todo if shown.weights == "to download"}
    if sizes:
        unknown = sum(size is None for size in sizes.values())
        megabytes = f"{sum(size or 0 for size in sizes.values()) / 1e6:,.0f} MB"
        of = f"{megabytes} and {counted(unknown, 'file')} whose size is not known" if unknown else megabytes
        if unknown == len(sizes):
            of = "of sizes that are not known before"
        said.append(f"Weights of {counted(len(sizes), 'encoder')} are downloaded, {of}.")
    rates = {shown.job.encoder: shown.rate for shown in todo if shown.rate}
    if rates:
        some = ", ".join(f"{encoder} {rate:,.0f} images/s" for encoder, rate in list(rates.items())[:5])
        more = " …" if len(rates) > 5 else ""
        said.append(f"Minutes are of encoding, at rates that runs in this folder measured: {some}{more}.")
    else:
        said.append("No minutes are given: no run in this folder has measured a rate yet.")
    return "\n".join(said)


def _stored(gigabytes: "Sequence[float]", unknown: int) -> str:
    """The end of the sentence on what is stored; a sum of what is not known is no 0."""
    if not gigabytes:
        return "; how much they store is not known before."
    return f", and store {sum(gigabytes):,.1f} GB of features" + (
        f"; of {unknown} the size is not known before." if unknown else "."
    )


# --- while and after


def _run(made: "Sweep", engine: "Engine", form: str) -> None:
    from ssl_risk_rs.cli._progress import EventDisplay
    from ssl_risk_rs.cli._sweep_board import Board
    from ssl_risk_rs.workflow.sweep import run_sweep
    from ssl_risk_rs.workflow.sweep_records import State
    from ssl_risk_rs.workflow.sweep_table import write_table

    alone = len(made.plan.jobs) == 1
    board = Board(made.plan, made.folder, live=not alone)
    with EventDisplay() as report, board:
        records = run_sweep(
            made,
            engine,
            tell=board.tell,
            say=board.say,
            report=report if alone else None,
        )
    printing.print_rows(board.rows(records, form), form)
    failed = [record for record in records if record.state is not State.DONE]
    for record in failed:
        printing.say(f"\n{record.encoder} on {record.data}{f', {record.layer}' if record.layer else ''} failed: "
                f"{record.error or 'it was not run'}")  # fmt: skip
        if record.retry:
            printing.say(f"To try it again:\n{record.retry}")
    written = write_table(made.folder.records(), made.folder)  # of all runs there, whoever made them
    for sentence in written.unread.values():
        printing.say(f"\nNot in sweep.csv: {sentence}")
    for sentence in written.notes:
        printing.say(f"\n{sentence}")
    done = len(records) - len(failed)
    printing.say(f"{done} of {len(records)} runs are in {made.folder.root}; ssl-risk-rs study takes its sweep.csv.")
    if failed or any(record.id in written.unread for record in records):
        raise click.exceptions.Exit(1)
