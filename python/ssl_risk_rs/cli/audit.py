"""`ssl-risk-rs data audit`."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import click

from ssl_risk_rs.cli import _options as opt
from ssl_risk_rs.cli import _printing as printing

if TYPE_CHECKING:
    from ssl_risk_rs.geometry.nearest import Matches
    from ssl_risk_rs.workflow.audit import Audit

#: pairs that a table shows; csv and json hold all
SHOWN = 20
PAGE = 80


@click.command()
@click.argument("target", metavar="BANK|FILE")
@click.option("--test-features", metavar="PATH", help="The test rows, if they are in a file of their own.")
@click.option(
    "--false-share", type=click.FloatRange(0, 1, min_open=True, max_open=True), metavar="SHARE",
    help="About this share of test rows, or less, is listed by chance where nothing is wrong.  [default: 0.001]",
)  # fmt: skip
@click.option("--threshold", type=click.FloatRange(-1, 1), help="Pairs above this cosine are listed, instead.")
@click.option(
    "--probe", type=click.Choice(["logistic", "ridge", "none"]), default="logistic", show_default=True,
    help="This probe is decomposed with and without the listed rows; none only lists them.",
)  # fmt: skip
@click.option("--group", metavar="COLUMN", help="Rows with the same value in this column stay together.")
@click.option("--seed", type=opt.SEED, default=0, show_default=True, help="Draws training rows, and splits.")
@click.option("--threads", "n_threads", type=opt.THREADS, help="The default is all cores.")
@opt.columns_options
@opt.store_option
@opt.format_option
def audit(
    target: str,
    test_features: str | None,
    false_share: float | None,
    threshold: float | None,
    probe: Literal["logistic", "ridge", "none"],
    group: str | None,
    seed: int,
    n_threads: int | None,
    features_columns: str | None,
    drop_unlabelled: bool,
    store: str | None,
    form: str,
) -> None:
    """List test rows that are near-duplicates of training rows, by features; decompose with and without them.

    A test row is listed if it is more similar (cosine) to a training row than all but a share of training rows are to
    another training row. Look at the pairs before you call them leaks: what is listed depends on the encoder.

    \b
    ssl-risk-rs data audit feats.npz
    """
    from ssl_risk_rs.cli._progress import EventDisplay
    from ssl_risk_rs.decomposition.settings import Settings
    from ssl_risk_rs.geometry.nearest import FALSE_SHARE
    from ssl_risk_rs.workflow.audit import audit_target
    from ssl_risk_rs.workflow.features import Reading

    if false_share is not None and threshold is not None:
        raise click.UsageError("--threshold takes the place of --false-share: give one of them")
    with EventDisplay() as report:
        found = audit_target(
            target,
            test=test_features,
            group=group,
            reading=Reading(features_columns, drop_unlabelled, store),
            false_share=FALSE_SHARE if false_share is None else false_share,
            threshold=threshold,
            probe=None if probe == "none" else probe,
            settings=Settings(seed=seed),
            seed=seed,
            n_threads=n_threads,
            report=report,
        )
    if form == "csv":
        frame = found.frame()
        printing.print_rows(frame.to_dicts(), form, columns=frame.columns)
    elif form == "json":
        printing.print_json(_document(found))
    else:
        printing.show("\n".join(_lines(found, printing.width() or PAGE)))
        return
    for note in found.notes:
        printing.say(note.sentence())


def _document(found: "Audit") -> dict[str, object]:
    from ssl_risk_rs.results._json import to_json

    matches = found.matches
    facts = {
        name: getattr(matches, name)
        for name in (
            "threshold",
            "false_share",
            "expected",
            "low",
            "high",
            "n_queries",
            "n_base",
            "zero_rows",
            "null_rows",
            "seed",
        )
    }
    document: dict[str, object] = to_json({**facts, "pairs": found.pairs, "changes": found.changes})
    return document


def _lines(found: "Audit", width: int) -> Iterator[str]:
    from ssl_risk_rs.report.text import folded

    for part in (_heading(found), _pairs(found), _changes(found)):
        lines = list(part)
        yield from (folded(line, width) for line in lines)
        if lines:
            yield ""
    for note in found.notes:
        yield folded(f"  note  {note.sentence()}", width)


def _heading(found: "Audit") -> Iterator[str]:
    matches = found.matches
    yield (
        f"{found.name} on {found.data}: {matches.n_queries:,} test rows against {matches.n_base:,} training rows, "
        f"{found.n_features:,} features, cosine"
    )
    if math.isnan(matches.false_share):
        rule = f"the threshold {matches.threshold:.6g} was given"
    else:
        rule = (
            f"the threshold is {matches.threshold:.6g}: at most a share {matches.false_share:g} of training rows is as "
            "similar to another one"
        )
    copies = int((matches.null == 1.0).sum())
    if _null_is_copies(matches):
        rule = (
            f"the threshold is 1: {copies:,} of {matches.null_rows:,} training rows are copies of another one, so that "
            "nothing less tells a copy from the usual. Drop them first, or give --threshold"
        )
    yield f"  {rule} (nearest neighbours of {matches.null_rows:,} training rows, leave-one-out)"
    if matches.threshold >= 1 and not copies and matches.false_share * (matches.null_rows + 1) < 2:
        least = 2 / (matches.null_rows + 1)  # the two most similar ones are each other's nearest
        yield (
            f"  only exact copies can be listed: {matches.null_rows:,} training rows do not show what a share "
            f"{matches.false_share:g} of them exceeds. Give --false-share {math.ceil(1000 * least) / 1000:g} or more, "
            "or --threshold"
        )
    n = len(found.pairs)
    chance = f"by chance it would be {matches.expected:.1f}, in 95 of 100 draws {matches.low:,} to {matches.high:,}"
    if _null_is_copies(matches):
        chance = "how many chance would list is not known, nor any p, since training rows are copies of each other"
    yield (
        f"  {n:,} test row{' is' if n == 1 else 's are'} listed ({100 * n / matches.n_queries:.2f} %); {chance}"
        + (f"; pairs of different classes: {found.other_class:,}" if n else "")
    )
    if matches.zero_rows:
        yield f"  {matches.zero_rows:,} test rows are zero: they have no direction and were not compared, equal or not"


def _null_is_copies(matches: "Matches") -> bool:
    """Whether copies among the training rows decide what is usual, so that they say nothing of chance."""
    copies = int((matches.null == 1.0).sum())
    return matches.threshold >= 1 and copies > matches.false_share * (matches.null_rows + 1)


def _pairs(found: "Audit") -> Iterator[str]:
    if not found.pairs:
        return
    shown = found.pairs[:SHOWN]
    names = max(len("test row"), *(len(pair.test_id) for pair in shown))
    others = max(len("training row"), *(len(pair.train_id) for pair in shown))
    known = not _null_is_copies(found.matches)
    yield f"  {'test row':{names}}  {'training row':{others}}  {'cosine':>8}  {'p':>7}  class"
    for pair in shown:
        same = pair.test_class == pair.train_class
        classes = pair.test_class if same else f"{pair.test_class} / {pair.train_class}"
        p = f"{pair.p_value:.5f}" if known else ""
        yield f"  {pair.test_id:{names}}  {pair.train_id:{others}}  {pair.similarity:8.6f}  {p}  {classes}"
    if len(found.pairs) > SHOWN:
        yield f"  … and {len(found.pairs) - SHOWN:,} more (--format csv has all)"


def _changes(found: "Audit") -> Iterator[str]:
    from ssl_risk_rs.decomposition.grading import FEW_ROWS
    from ssl_risk_rs.report.numbers import hundred
    from ssl_risk_rs.report.text import between
    from ssl_risk_rs.results.quantities import QUANTITIES

    if found.decomposition is None:
        if not found.pairs:
            yield "  Nothing is decomposed, because no test row is listed."
        return
    probe, n = found.decomposition.method.probe, len(found.pairs)

    yield f"{probe} probe, error %"
    interval = f"{100 * found.confidence:g} % interval"
    yield f"  {'':24}{'all test rows':>13}{'without them':>14}{'change':>9}   {interval:^17}"
    for change in found.changes:
        yield (
            f"  {QUANTITIES[change.quantity].label:24}{hundred(change.all_rows.estimate):13.2f}"
            f"{hundred(change.without.estimate):14.2f}{hundred(change.change):+9.2f}   "
            f"{between(change.low, change.high)}"
        )
    if found.wrong < FEW_ROWS:
        yield f"  The probe judges {found.wrong} of the listed rows wrongly: the intervals are indicative."
    yield "  Training rows are the same: approximation, usability and probe generalization do not change."
    beside = next(change.beside for change in found.changes if change.quantity == "agg_risk")
    if not math.isnan(beside):
        yield (
            f"  Rows near a training row are easier, copies or not: leaving out the {n:,} next most similar test rows "
            f"instead changes the aggregated risk by {hundred(beside):+.2f}."
        )
