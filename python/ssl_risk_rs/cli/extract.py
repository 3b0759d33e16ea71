"""`ssl-risk-rs extract`."""

import shlex
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import click

from ssl_risk_rs.cli import _options as opt
from ssl_risk_rs.cli import _printing as printing
from ssl_risk_rs.cli._engines import engine_option
from ssl_risk_rs.cli._help import LongCommand
from ssl_risk_rs.cli._shards import run_shards

if TYPE_CHECKING:
    from ssl_risk_rs.bank import FeatureBank
    from ssl_risk_rs.encoders.names import Preparation
    from ssl_risk_rs.extraction import Encoding, Shard


@click.command(cls=LongCommand)
@opt.model_option()
@opt.data_option
@opt.store_option
@opt.device_option
@opt.extraction_options
@opt.shard_option
@click.option("--shards", type=click.IntRange(1), metavar="N",
              help="Run the N lines with --shard on the engine; here, the default is one a GPU.")  # fmt: skip
@engine_option("local", "ray", "slurm", what="Shards run")
@click.option("--jobs", type=click.IntRange(1), metavar="N", help="So many shards at a time; default: one on each GPU.")
@opt.dry_run_option
@click.option("--views", type=click.IntRange(2), metavar="N",
              help="N augmented views of every image, a bank each, for `stats --views`.")  # fmt: skip
@click.option("--group", metavar="COLUMN", help="Column of groups (patients, scenes) that --limit keeps whole.")
@opt.format_option
@click.pass_context
def extract(
    context: click.Context,
    /,
    model: str,
    data: str | None,
    store: str | None,
    group: str | None,
    form: str,
    shard: "Shard | None",
    shards: int | None,
    engine: Literal["local", "ray", "slurm"],
    engine_options: tuple[str, ...],
    jobs: int | None,
    dry_run: bool,
    views: int | None,
    encoding: "Encoding",
    preparation: "Preparation",
    device: str,
) -> None:
    """Encode images into a feature bank and print where it is.

    Rows that the bank has already are not encoded again: after an interruption the same line goes on from the
    last committed block. When the bank is complete, neither torch nor an image is touched. Several processes or
    machines share the work with --shard 0/4 … --shard 3/4, which --shards 4 runs on this machine or on an engine.
    --views 3 makes three banks, of augmented views of every image, and prints the line that measures them.

    \b
    ssl-risk-rs extract -m timm:vit_small_patch14_dinov2 -d folder:imgs --limit 100/class --store banks
    """
    from ssl_risk_rs.cli._forecast import print_forecasts
    from ssl_risk_rs.cli._progress import EventDisplay
    from ssl_risk_rs.events import once
    from ssl_risk_rs.extraction import ensure_banks, shards_filled
    from ssl_risk_rs.extraction.cached import KeptEncoder, forecast_banks

    model, encoding = preparation.named(model), opt.encoding_on(encoding, device)
    data = opt.named_data(data)
    several = shards is not None or engine != "local" or jobs is not None
    if engine_options and engine == "local":
        raise click.UsageError("--engine-option is of Ray or Slurm: name one with --engine")
    if several and shard is not None:
        raise click.UsageError("--shard is one range; --shards, --engine and --jobs run all of them")
    seen = [encoding]
    say, kept = once(printing.say), KeptEncoder()  # each view would say the same of encoder and data, and build it
    if views is not None:
        seen = [replace(encoding, settings=replace(encoding.settings, view=view)) for view in range(1, views + 1)]
    if dry_run:
        forecasts = [
            forecast
            for one in seen
            for forecast in forecast_banks(model, data, one, store=store, group=group, shard=shard, kept=kept, say=say)
        ]
        print_forecasts(forecasts, form)
    if several:
        run_shards(
            context, model, data, store, engine=engine, engine_options=engine_options, jobs=jobs, shards=shards,
            device=encoding.settings.device, dry_run=dry_run,
        )  # fmt: skip
    if dry_run:
        return
    found: list[FeatureBank] = []
    with EventDisplay() as progress:
        for one in seen:
            found += ensure_banks(
                model, data, one, store=store, group=group, shard=shard, kept=kept, say=say, progress=progress
            ).values()
    rows = [_row(bank) for bank in found]
    if shard is not None:
        for row, bank in zip(rows, found, strict=True):
            filled = shards_filled(bank, shard.count)
            row |= {"shard": str(shard), "shard_rows": len(shard.span(bank.n_rows)), "missing": filled.n_missing}
            printing.say(f"{row['feature']}: {filled}.")
    printing.print_rows(rows, form)
    if views is not None and all(bank.complete for bank in found):
        for feature in dict.fromkeys(bank.header.feature for bank in found):
            first, *others = (bank.path for bank in found if bank.header.feature == feature)
            line = ["ssl-risk-rs", "stats", str(first)]
            for path in others:
                line += ["--views", str(path)]
            printing.say(f"Statistics of the views:\n{shlex.join(line)}")


def _row(bank: "FeatureBank") -> dict[str, Any]:
    view = bank.header.view
    return {
        "encoder": bank.header.encoder,
        "feature": bank.header.feature,
        **({} if view is None else {"view": view}),
        "data": bank.header.data,
        "rows": bank.n_rows,
        "n_features": bank.n_features,
        "dtype": bank.dtype,
        "path": str(bank.path),
    }
