"""Options of commands that decompose, and how their results leave."""

import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ssl_risk_rs.cli import _options as opt

if TYPE_CHECKING:
    from ssl_risk_rs.decomposition import Decomposition
    from ssl_risk_rs.results import Provenance

Command = TypeVar("Command", bound=Callable[..., Any])

#: names of the fields of `Settings` that `settings` takes out of a command's options
FIELDS = ("protocol", "seed", "n_threads", "tol", "scaling")


def decomposition_options(command: Command) -> Command:
    """Options of the probe, the protocol, the intervals and the output."""
    options = [
        click.option(
            "--probe",
            type=click.Choice(["logistic", "ridge", "both"]),
            default="logistic",
            show_default=True,
            help="logistic: the paper's probe; ridge: faster, for screening.",
        ),
        click.option(
            "--protocol",
            type=click.Choice(["strict", "paper"]),
            default="strict",
            show_default=True,
            help="strict: no choice sees the rows it is judged on; paper: the authors' choices.",
        ),
        click.option(
            "--scaling",
            type=click.Choice(["standardize", "minmax", "none"]),
            default="standardize",
            show_default=True,
            help="Of the features, from the probe's own training rows.",
        ),
        click.option(
            "--splits", "n_subsets", type=click.IntRange(1, 3),
            help="Held-out training subsets that R_AS is averaged over. Default: 3, or 1 where a fit takes minutes.",
        ),
        click.option(
            "--ci", "confidence", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.95,
            show_default=True, help="Confidence of the intervals.",
        ),
        click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the splits."),
        click.option("--tol", type=click.FloatRange(0, min_open=True), default=3e-4, show_default=True,
                     help="Relative suboptimality of a logistic fit that is judged."),
        click.option("--threads", "n_threads", type=click.IntRange(1), help="Default: all cores."),
        click.option("--strict-convergence", is_flag=True, help="Exit 1 if a fit missed its tolerance."),
        click.option("--out", metavar="DIR", help="Run folder; default: runs/TIME_ENCODER."),
        click.option("--force", is_flag=True, help="Replace an existing run folder."),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def settings(options: dict[str, Any]) -> tuple[tuple[str, ...], dict[str, Any]]:
    """(probes, other fields of `Settings`), taken out of `options`."""
    probe = options.pop("probe")
    probes = ("logistic", "ridge") if probe == "both" else (probe,)
    names = (*FIELDS, "n_subsets", "confidence")
    return probes, {name: options.pop(name) for name in names}


def check(ending: dict[str, Any]) -> None:
    """Complain about --out before the work, not after."""
    from ssl_risk_rs.results import check_target

    if ending["out"] is not None:
        check_target(ending["out"], force=ending["force"])


def finish(
    results: "Sequence[Decomposition]",
    provenance: "Provenance",
    *,
    form: str,
    out: str | None,
    force: bool,
    strict_convergence: bool,
) -> None:
    """Save the run, print it, and say where it is."""
    from dataclasses import replace

    from ssl_risk_rs.report import render
    from ssl_risk_rs.results import save_run, tidy

    provenance = replace(provenance, command=shlex.join(["ssl-risk-rs", *sys.argv[1:]]))
    folder = save_run(out or default_folder(provenance.encoder), results, provenance=provenance, force=force)
    if form == "table":
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        click.echo("\n\n".join(render(result, provenance, width) for result in results))
        click.echo(f"  records {folder}/{{run.json,results.parquet,outcomes.npz}}")
    else:
        frame = tidy(results, provenance, folder.name)
        opt.print_rows(frame.to_dicts(), form)
        opt.say(f"records {folder}")
    loose = [fit for result in results for fit in result.fits if not fit.converged]
    if loose:
        opt.say(f"{len(loose)} fits did not reach their tolerance: {', '.join(f.role for f in loose)}")
    estimated = [f for r in results for f in r.fits if f.stop == "estimated" and (f.gap or 0) > r.settings.tol]
    if strict_convergence and (loose or estimated):
        raise click.ClickException(
            f"{len(loose) + len(estimated)} fits have no certificate of tolerance {results[0].settings.tol:g} "
            "(--strict-convergence); the run is saved"
        )


def default_folder(encoder: str) -> Path:
    """runs/TIME_ENCODER, a name that is free."""
    safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in Path(encoder).name)[:60]
    stem = f"runs/{datetime.now():%Y%m%d-%H%M%S}_{safe}"
    path, i = Path(stem), 1
    while path.exists():
        path, i = Path(f"{stem}_{i}"), i + 1
    return path
