"""`ssl-risk-rs knn`."""

import click

from ssl_risk_rs.cli import _options as opt
from ssl_risk_rs.cli import _printing as printing


@click.command()
@click.argument("targets", nargs=-1, required=True, metavar="BANK|FILE...")
@click.option("--test-features", metavar="PATH", help="The test rows, if they are in a file of their own.")
@click.option(
    "-k", "--neighbours", type=click.IntRange(1), default=20, show_default=True, metavar="K",
    help="So many nearest training rows vote.",
)  # fmt: skip
@click.option(
    "--temperature", type=opt.FiniteRange(0.001), metavar="T",
    help="Votes have the weight exp(cosine/T).  [default: 0.07]",
)  # fmt: skip
@click.option("--equal-votes", is_flag=True, help="Each neighbour has one vote, instead.")
@click.option(
    "--group", metavar="COLUMN",
    help="Rows with the same value in this column are held out together, and intervals are by group.",
)  # fmt: skip
@click.option(
    "--held-rows", type=click.IntRange(0), metavar="N",
    help="So many training rows are held out and classified by the others. The default is a fifth of them, and no more "
    "than 10,000.",
)  # fmt: skip
@click.option(
    "--ci", "confidence", type=opt.CONFIDENCE, default=0.95, show_default=True,
    help="This is the confidence of the intervals.",
)  # fmt: skip
@click.option("--seed", type=opt.SEED, default=0, show_default=True, help="Draws the training rows.")
@click.option("--threads", "n_threads", type=opt.THREADS, help="The default is all cores.")
@opt.columns_options
@opt.store_option
@opt.format_option
def knn(
    targets: tuple[str, ...],
    test_features: str | None,
    neighbours: int,
    temperature: float | None,
    equal_votes: bool,
    group: str | None,
    held_rows: int | None,
    confidence: float,
    seed: int,
    n_threads: int | None,
    features_columns: str | None,
    drop_unlabelled: bool,
    store: str | None,
    form: str,
) -> None:
    """Classify rows by their nearest training rows: an error without a probe, a fit or a penalty.

    BANK is a feature bank or its key in the store; FILE holds features and labels, as for `decompose`. Test rows are
    classified by the training rows, and held-out training rows by the others: what test rows are harder by.
    docs/probes.md.

    \b
    ssl-risk-rs knn feats.npz
    """
    if test_features is not None and len(targets) > 1:
        raise click.UsageError(f"--test-features is for one representation, and {len(targets)} are named")
    if equal_votes and temperature is not None:
        raise click.UsageError("--equal-votes takes the place of --temperature: give one of them")
    from ssl_risk_rs.cli._progress import EventDisplay
    from ssl_risk_rs.decomposition.knn import TEMPERATURE
    from ssl_risk_rs.report.neighbours import render_neighbours
    from ssl_risk_rs.results.knn import knn_frame
    from ssl_risk_rs.workflow.features import Reading
    from ssl_risk_rs.workflow.knn import classify_targets

    with EventDisplay() as report:
        found = classify_targets(
            targets,
            test=test_features,
            group=group,
            reading=Reading(features_columns, drop_unlabelled, store),
            k=neighbours,
            temperature=None if equal_votes else temperature or TEMPERATURE,
            held_rows=held_rows,
            confidence=confidence,
            seed=seed,
            n_threads=n_threads,
            report=report,
        )
    if form == "table":
        printing.show(render_neighbours(found, printing.width()))
        return
    printing.print_rows(knn_frame(found).to_dicts(), form)
    for note in dict.fromkeys(note.sentence() for one in found for note in one.notes):
        printing.say(note)
