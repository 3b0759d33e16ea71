"""`ssl-risk-rs pack`."""

from pathlib import Path

import click

from ssl_risk_rs.cli import _options as opt
from ssl_risk_rs.cli import _printing as printing


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("-o", "--out", required=True, metavar="FILE", help="The pack is written to this file.")
@click.option(
    "--with", "evidence", type=click.Choice(["outcomes", "moments", "features"]), default="outcomes",
    show_default=True,
    help="What numbers can be computed again from: outcomes of every row; sums of the training rows with the features "
    "of held-out rows (ridge); or the features of all rows.",
)  # fmt: skip
@click.option(
    "--features", multiple=True, metavar="PATH",
    help="The bank or feature file of each run, in their order. The default is the bank that a run names.",
)  # fmt: skip
@opt.store_option
@click.option("--force", is_flag=True, help="A pack that is there is replaced.")
def pack(
    runs: tuple[str, ...], out: str, evidence: str, features: tuple[str, ...], store: str | None, force: bool
) -> None:
    """Pack run folders into one file from which a reviewer can compute a table again.

    The pack holds records, outcomes of every judged row, sample ids, groups, hashes of weights and data, protocol,
    certificates and licences, and on request sums or features. Every byte of it is hashed; the hash is printed.

    \b
    ssl-risk-rs pack runs/a runs/b --out table.pack
    """
    from ssl_risk_rs._files import check_outputs
    from ssl_risk_rs.workflow.packs import Evidence, tasks_of, write_pack

    wanted = Evidence(evidence)
    if features and wanted is Evidence.OUTCOMES:
        raise click.UsageError("--features go with --with moments or --with features")
    if features and len(features) != len(runs):
        raise click.UsageError(f"{len(runs)} runs need as many --features, in their order; got {len(features)}")
    check_outputs([Path(out).expanduser()], force=force, inputs=(*runs, *features))
    tasks = () if wanted is Evidence.OUTCOMES else tasks_of(runs, features, store)
    digest = write_pack(runs, out, evidence=wanted, tasks=tasks, force=force)
    printing.say(
        f"{out} holds {len(runs)} run{'' if len(runs) == 1 else 's'} with {evidence}; print its SHA-256 beside it:"
    )
    printing.show(digest)
