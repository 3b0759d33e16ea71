"""`ssl-risk-rs extract --shards N`: the lines of the shards, on an engine."""

import shlex
from typing import Literal

import click

from ssl_risk_rs.cli import _options as opt
from ssl_risk_rs.cli import _printing as printing
from ssl_risk_rs.cli._engines import engine_options_of, words_of

__all__ = ["run_shards"]

#: options that a shard's line has of its own, or does without
_OWN = ("model", "data", "store", "engine", "engine_options", "jobs", "shards", "form", "dry_run",
        *opt.PREPARATION)  # fmt: skip


def run_shards(
    context: click.Context,
    model: str,
    data: str,
    store: str | None,
    *,
    engine: Literal["local", "ray", "slurm"],
    engine_options: tuple[str, ...],
    jobs: int | None,
    shards: int | None,
    device: str,
    dry_run: bool,
) -> None:
    """Run `extract --shard i/n` for each i, or say where they would run; when they ended well, every row is there.

    Raises
    ------
    click.ClickException that names the lines which failed; ParameterError as `open_engine`.
    """
    from ssl_risk_rs.bank.store import FeatureStore, bank_key
    from ssl_risk_rs.cli._sweep_board import last_line
    from ssl_risk_rs.datasets import create_dataset
    from ssl_risk_rs.workflow.engines import Change, Line, open_engine
    from ssl_risk_rs.workflow.engines.local import LocalEngine

    root = FeatureStore(store).root.absolute()
    folder = root / "engines"
    runs_on = open_engine(engine, engine_options_of(engine_options), jobs=jobs, device=device, folder=folder)
    count = shards or (runs_on.jobs if isinstance(runs_on, LocalEngine) else None)
    if count is None:
        raise click.UsageError(f"--engine {engine} needs --shards N: how many ranges of images to make")
    uri = create_dataset(data).uri  # what is not there is told now, and other machines have other folders
    common = ("extract", "-m", model, "-d", uri, *words_of(context, without=_OWN), "--store", str(root))
    name = bank_key({"line": list(common)})[:16]
    lines = [
        Line(f"{i}/{count}", (*common, "--shard", f"{i}/{count}"), folder / f"{name}-{i}-of-{count}.log")
        for i in range(count)
    ]
    if dry_run:
        for sentence in runs_on.describe():
            printing.say(f"{count} shards would run as {sentence}")
        return
    failed: list[Line] = []

    def tell(change: Change) -> None:
        if change.state == "ended" and change.code != 0:
            failed.append(change.line)
        said = {
            "started": f"runs on {change.place}",
            "lost": f"lost {change.place}; it is started again elsewhere",
            "ended": "is done"
            if change.code == 0
            else f"failed (status {change.code}): {last_line(change.line.log)} (in {change.line.log})",
        }
        printing.say(f"Shard {change.line.name} {said[change.state]}.")

    runs_on.run(lines, tell)
    if failed:
        again = "\n".join(shlex.join(["ssl-risk-rs", *line.arguments]) for line in failed)
        raise click.ClickException(
            f"{len(failed)} of {count} shards failed; what was encoded is kept. The same line goes on, or:\n{again}"
        )
