"""How several runs of one line leave: checkpoints as a curve, features of one encoder as a table."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ssl_risk_rs.cli import _options as opt
from ssl_risk_rs.cli import _printing as printing
from ssl_risk_rs.cli._results import Ending

if TYPE_CHECKING:
    import polars as pl

    from ssl_risk_rs.results.many import Curve, Failed, Layers
    from ssl_risk_rs.workflow.question import Question

__all__ = ["run_checkpoints", "run_layers"]


def run_checkpoints(
    models: tuple[str, ...], data: str, question: "Question", ending: Ending, *, store: str | None, data_named: bool
) -> None:
    """Evaluate several encoders, print their curve."""
    from ssl_risk_rs.cli._progress import EventDisplay
    from ssl_risk_rs.report.many import render_curve
    from ssl_risk_rs.workflow.checkpoints import evaluate_checkpoints

    folder = _folder("checkpoints", ending, models, data, question)
    with EventDisplay() as report:
        curve = evaluate_checkpoints(
            models, data, question, folder=folder, force=ending.force, command=opt.command_line(), store=store,
            say=printing.say, report=report, data_named=data_named,
        )  # fmt: skip
    files = {}
    if curve.entries:
        files["curve.parquet"] = curve.frame()
    if curve.steps:
        files["steps.parquet"] = curve.step_frame()
    _write(folder, files)
    if ending.form == "table":
        if curve.entries:
            printing.show(render_curve(curve, printing.width()))
    elif ending.form == "csv":
        printing.print_rows(curve.frame().to_dicts() if curve.entries else [], "csv")
    else:
        printing.print_json({
            "runs": files["curve.parquet"].to_dicts() if curve.entries else [],
            "steps": files["steps.parquet"].to_dicts() if curve.steps else [],
            "failed": [{"name": f.name, "reason": f.reason} for f in curve.failed],
        })  # fmt: skip
    _end(curve, folder, [*files], ending)


def run_layers(
    model: str, data: str, features: tuple[str, ...], question: "Question", ending: Ending, *, store: str | None,
    data_named: bool,
) -> None:  # fmt: skip
    """Evaluate several features of an encoder, print them in one table and the chosen one in full."""
    from ssl_risk_rs.cli._progress import EventDisplay
    from ssl_risk_rs.report.many import render_layers
    from ssl_risk_rs.report.text import render_one
    from ssl_risk_rs.workflow.layers import evaluate_layers

    folder = _folder("layers", ending, (model, *features), data, question)
    with EventDisplay() as report:
        found = evaluate_layers(
            model, data, features, question, folder=folder, force=ending.force, command=opt.command_line(),
            store=store, say=printing.say, report=report, data_named=data_named,
        )  # fmt: skip
    files = {"layers.parquet": found.frame()} if found.entries else {}
    _write(folder, files)
    if ending.form == "csv":
        printing.print_rows(found.frame().to_dicts() if found.entries else [], "csv")
    elif ending.form == "json":
        printing.print_json({
            "features": found.frame().to_dicts() if found.entries else [],
            "chosen": {probe: found.chosen(probe).name for probe in found.fold_errors},
            "failed": [{"name": f.name, "reason": f.reason} for f in found.failed],
        })  # fmt: skip
    elif found.entries:
        printing.show(render_layers(found, printing.width()))
        for probe in found.fold_errors:
            best = found.chosen(probe)
            printing.show(f"\nthe chosen feature, {best.name}:")
            printing.show(render_one(found.unseen[probe], best.run.provenance, printing.width()))
    _end(found, folder, [*files], ending)


def _folder(kind: str, ending: Ending, named: tuple[str, ...], data: str, question: "Question") -> Path:
    """--out, else a folder that the same line finds again."""
    if ending.out is not None:
        return Path(ending.out).expanduser()
    return Path("runs") / f"{kind}_{question.key(named, data, question.encoding.content())[:8]}"


def _write(folder: Path, frames: "dict[str, pl.DataFrame]") -> None:
    from ssl_risk_rs._files import publish

    for name, frame in frames.items():
        publish(folder / name, frame.write_parquet)


def _end(found: "Curve | Layers", folder: Path, files: list[str], ending: Ending) -> None:
    """Say where the records are; exit with 1 where one failed."""
    if found.entries:
        printing.say(f"The records are in {folder} ({', '.join(files)}, and a run folder for each).")
        ending.write_page(folder)
    if found.failed:
        raise click.ClickException(_failures(found.failed))
    for entry in found.entries:
        ending.judge_fits(entry.run)


def _failures(failed: "tuple[Failed, ...]") -> str:
    lines = [f"{len(failed)} failed:", *(f"  {f.name}: {f.reason}" for f in failed)]
    return "\n".join([*lines, "The same line makes only what is missing."])
