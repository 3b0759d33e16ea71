"""`ssl-risk-rs compare`."""

from typing import TYPE_CHECKING, Any

import click

from ssl_risk_rs.cli import _options as opt
from ssl_risk_rs.cli import _printing as printing
from ssl_risk_rs.cli._results import keeper

if TYPE_CHECKING:
    import polars as pl

    from ssl_risk_rs.workflow.compare import Compared

#: fields of `Settings` that options set under their own name
_FIELDS = ("protocol", "scaling", "n_subsets", "seed", "tol", "n_threads", "shared_groups", "overlap")


@click.command()
@click.argument("targets", nargs=-1, required=True, metavar="A B...")
@click.option(
    "--probe", type=click.Choice(["logistic", "ridge", "both"]),
    help="The default is every probe that all run folders have, and logistic where there is none.",
)  # fmt: skip
@click.option("--protocol", type=click.Choice(["strict", "paper"]), help="The default is that of the first run folder.")
@click.option(
    "--scaling",
    type=click.Choice(["standardize", "minmax", "none"]),
    help="As in `decompose`; the default is that of the first run folder.",
)
@click.option(
    "--group",
    metavar="COLUMN",
    help="Rows with the same value in this column stay together. The default is that of the first run folder.",
)
@click.option("--shared-groups", type=click.Choice(["refuse", "warn"]), help="As in `decompose`.")
@click.option("--overlap", type=click.Choice(["refuse", "warn"]), help="As in `decompose`.")
@click.option(
    "--splits", "n_subsets", type=opt.SPLITS, help="As in `decompose`; the default is that of the first run folder."
)
@click.option("--seed", type=opt.SEED, help="As in `decompose`; the default is that of the first run folder.")
@click.option("--tol", type=opt.TOLERANCE, help="As in `decompose`.")
@click.option("--threads", "n_threads", type=opt.THREADS, help="So many threads fit probes. The default is all cores.")
@click.option(
    "--ci", "confidence", type=opt.CONFIDENCE,
    help="This is the confidence of intervals and ranks. The default is that of the first run.",
)  # fmt: skip
@click.option(
    "--metric", type=click.Choice(["error", "balanced", "top5"]), default="error", show_default=True,
    help="Errors are scored so: the 0-1 error, its mean over classes, or the top-5 error.",
)  # fmt: skip
@opt.columns_options
@click.option(
    "--match-dim", "dimensions", metavar="FROM..TO|A,B",
    help="The encoders are compared at equal dimension as well: on leading principal directions, and on random ones. "
    "Needs banks or feature files; features are not scaled, and no run folders are made.",
)  # fmt: skip
@click.option(
    "--match-labels", "counts", metavar="FROM..TO|A,B",
    help="The encoders are compared with equal numbers of training rows as well, of each class as many as the encoder "
    "with the fewest has: which part of a gap goes with the rows. Needs banks or feature files with the same test "
    "rows; no run folders are made.",
)  # fmt: skip
@opt.store_option
@click.option("--out", metavar="DIR", help="New run folders are made in this folder; the default is runs.")
@opt.format_option
def compare(
    targets: tuple[str, ...],
    probe: str | None,
    group: str | None,
    confidence: float | None,
    metric: str,
    features_columns: str | None,
    drop_unlabelled: bool,
    dimensions: str | None,
    counts: str | None,
    store: str | None,
    out: str | None,
    form: str,
    **options: Any,
) -> None:
    """Compare encoders on the same rows: each component's difference, paired by row, with intervals and ranks.

    A, B, … are run folders, feature banks or feature files; the first is what the others are compared with. What is
    not decomposed yet is decomposed like the first run folder, and its run folder is kept. Encoders are compared only
    if they were judged on the same rows, cut alike, with the same probe and protocol; otherwise the field that differs
    is named. Rows are paired (whole groups, where there are groups), so that what makes a row hard for every encoder
    cancels.

    \b
    ssl-risk-rs compare a.npz b.npz c.npz
    """
    from ssl_risk_rs.cli._progress import EventDisplay
    from ssl_risk_rs.report.comparison import render_matched
    from ssl_risk_rs.report.matched_labels import render_matched_labels
    from ssl_risk_rs.workflow.compare import compare_targets, match_target_labels, match_targets
    from ssl_risk_rs.workflow.features import Reading
    from ssl_risk_rs.workflow.targets import is_run

    reading = Reading(features_columns, drop_unlabelled, store)
    settings = {name: options.pop(name) for name in _FIELDS}
    if out is not None and (counts is not None or dimensions is not None):
        raise click.UsageError("--out is for run folders, and --match-dim and --match-labels make none")
    if metric != "error" and (counts is not None or dimensions is not None):
        raise click.UsageError("--match-dim and --match-labels compare 0-1 errors: leave out --metric")
    if counts is not None:
        if probe == "both" or dimensions is not None:
            raise click.UsageError("--match-labels takes one probe, and no --match-dim beside it")
        with EventDisplay() as report:
            at_labels = match_target_labels(
                targets, counts, probe=probe or "logistic", settings=settings, group=group, confidence=confidence,
                reading=reading, report=report,
            )  # fmt: skip
        text = render_matched_labels(at_labels, printing.width())
        _print_matched(form, text, at_labels.frame(), at_labels.part_frame(), "curves")
        return
    if dimensions is not None:
        if probe == "both" or settings["scaling"] not in (None, "none"):
            raise click.UsageError("--match-dim takes one probe, and no --scaling but none: directions are unscaled")
        with EventDisplay() as report:
            matched = match_targets(
                targets, dimensions, probe=probe or "logistic", settings=settings, group=group, confidence=confidence,
                reading=reading, report=report,
            )  # fmt: skip
        text = render_matched(matched, printing.width())
        _print_matched(form, text, matched.frame(), matched.part_frame(), "differences")
        return

    if all(is_run(target) for target in targets):
        opt.refuse_beside_runs("shared_groups", "overlap", "tol", "features_columns", "drop_unlabelled", "out")
    probes = {None: None, "both": ("logistic", "ridge")}.get(probe, (str(probe),))
    with EventDisplay() as report:
        found = compare_targets(
            targets,
            probes=probes,
            settings=settings,
            group=group,
            confidence=confidence,
            metric=metric,
            reading=reading,
            keep=keeper(out),
            report=report,
        )
    _print(found, form)


def _print_matched(form: str, text: str, rows: "pl.DataFrame", parts: "pl.DataFrame", called: str) -> None:
    """Encoders at equal dimension, or with equal numbers of rows: `rows` are `called` so in JSON."""
    if form == "table":
        printing.show(text)
    elif form == "csv":
        printing.print_rows(rows.to_dicts(), form)
    else:
        value = {"parts": parts.to_dicts(), called: rows.to_dicts()}
        printing.print_json(value)


def _print(found: "Compared", form: str) -> None:
    from ssl_risk_rs.report.comparison import render_comparison

    if form == "table":
        printing.show("\n\n".join(render_comparison(each, printing.width()) for each in found.comparisons))
        return
    rows = [row for each in found.comparisons for row in each.frame().to_dicts()]
    notes = list(dict.fromkeys(note.sentence() for each in found.comparisons for note in each.notes))
    if form == "csv":
        printing.print_rows(rows, form)
        for note in notes:
            printing.say(note)
        return

    ranks = [row for each in found.comparisons for row in each.rank_frame().to_dicts()]
    value = {"differences": rows, "ranks": ranks, "notes": notes}
    printing.print_json(value)
