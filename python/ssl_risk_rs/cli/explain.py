"""`ssl-risk-rs explain`."""

from typing import TYPE_CHECKING, Literal

import click

from ssl_risk_rs.cli import _options as opt
from ssl_risk_rs.cli import _printing as printing
from ssl_risk_rs.cli._results import keeper

if TYPE_CHECKING:
    from ssl_risk_rs.results.explain import Explanation


@click.command()
@click.argument("targets", nargs=-1, required=True, metavar="RUN|FILES...")
@click.option(
    "--probe", type=click.Choice(["logistic", "ridge", "both"]),
    help="This probe is explained, and fitted where a target is not decomposed yet. The default is logistic, or the "
    "one that a run folder has.",
)  # fmt: skip
@click.option("--group", metavar="COLUMN", help="Rows with the same value in this column stay together.")
@click.option("--shared-groups", type=click.Choice(["refuse", "warn"]), help="As in `decompose`.")
@click.option("--overlap", type=click.Choice(["refuse", "warn"]), help="As in `decompose`.")
@click.option(
    "--gap/--no-gap", default=None,
    help="A non-linear probe is fitted beside the linear one: is a linear layer enough? The default is yes where the "
    "features are at hand and it takes a minute at most.",
)  # fmt: skip
@opt.columns_options
@opt.store_option
@click.option("--out", metavar="DIR", help="New run folders are made in this folder; the default is runs.")
@opt.format_option
def explain(
    targets: tuple[str, ...],
    probe: str | None,
    group: str | None,
    shared_groups: Literal["refuse", "warn"] | None,
    overlap: Literal["refuse", "warn"] | None,
    gap: bool | None,
    features_columns: str | None,
    drop_unlabelled: bool,
    store: str | None,
    out: str | None,
    form: str,
) -> None:
    """Explain an error: its largest part, beside guessing and a control, and which classes and groups carry it.

    RUN is a run folder; FILES are feature banks or feature files, which are decomposed first. Several are taken for
    layers of one encoder: they are compared, and the first is explained. Where the features are at hand a non-linear
    probe shows whether a linear layer is enough; where the published table was fetched (`paper fetch`), it shows what
    published encoders with the same largest part differ in.

    \b
    ssl-risk-rs explain runs/20260101-120000_swav
    """
    from ssl_risk_rs.cli._progress import EventDisplay
    from ssl_risk_rs.decomposition.settings import Settings
    from ssl_risk_rs.workflow import explain as explaining
    from ssl_risk_rs.workflow.features import Reading
    from ssl_risk_rs.workflow.targets import is_run

    if all(is_run(target) for target in targets):
        opt.refuse_beside_runs("shared_groups", "overlap", "features_columns", "drop_unlabelled", "out")
    with EventDisplay() as report:
        found = explaining.explain(
            targets,
            probes=("logistic", "ridge") if probe == "both" else (probe or "logistic",),
            probe=None if probe == "both" else probe,
            group=group,
            reading=Reading(features_columns, drop_unlabelled, store),
            gap=gap,
            settings=Settings(shared_groups=shared_groups, overlap=overlap),
            keep=keeper(out),
            say=printing.say,
            report=report,
        )
    _print(found, form)


def _print(found: "Explanation", form: str) -> None:
    from ssl_risk_rs.report.explanation import render_explanation, verdict_sentences

    if form == "table":
        printing.show(render_explanation(found, printing.width()))
    elif form == "csv":
        printing.print_rows(found.frame().to_dicts(), form)
        for sentence in verdict_sentences(found):
            printing.say(sentence)
    else:
        value = {**found.to_dict(), "sentences": verdict_sentences(found), "rows": found.frame().to_dicts()}
        printing.print_json(value)
