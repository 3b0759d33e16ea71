"""`ssl-risk-rs run`."""

from typing import Any

import click

from ssl_risk_rs.cli import _options as opt
from ssl_risk_rs.cli import _results as res


@click.command()
@opt.model_option(required=False)
@opt.data_option
@click.option("--features", metavar="PATH", help="Features instead of a model and data; as in `decompose`.")
@click.option("--test-features", metavar="PATH", help="Test rows, if they are in a file of their own.")
@click.option("--supervised-features", metavar="PATH", help="The twin's features, in the same rows.")
@click.option(
    "--supervised", default="auto", show_default=True, metavar="auto|none|MODEL",
    help="Twin that gives the approximation error.",
)  # fmt: skip
@click.option(
    "--control", default="auto", show_default=True, metavar="auto|none|MODEL",
    help="Encoder that cannot have memorized an image; auto: where it is cheap.",
)  # fmt: skip
@opt.store_option
@opt.extraction_options
@res.decomposition_options
@opt.format_option
def run(
    model: str | None,
    data: str | None,
    features: str | None,
    test_features: str | None,
    supervised_features: str | None,
    supervised: str,
    control: str,
    store: str | None,
    form: str,
    out: str | None,
    force: bool,
    strict_convergence: bool,
    **options: Any,
) -> None:
    """Split the error of an encoder's linear probe into four components, with intervals.

    Encodes the images that are not in the feature store yet, fits the probes, prints the table and writes a
    run folder. Without a model, the bundled example (`ssl-risk-rs demo`).

    \b
    ssl-risk-rs run -m swav -d imagenet:/data/imagenet
    """
    extraction = opt.extraction_settings(options)
    probes, fields = res.settings(options)
    ending = {"form": form, "out": out, "force": force, "strict_convergence": strict_convergence}
    if features is not None:
        if model is not None or data is not None:
            raise click.UsageError("--features stands instead of --model and --data: give one or the other")
        from ssl_risk_rs.cli.decompose import decompose_features

        decompose_features(features, test_features, supervised_features, probes, fields, ending)
        return
    if test_features is not None or supervised_features is not None:
        raise click.UsageError("--test-features and --supervised-features go with --features")
    if model is None:
        from ssl_risk_rs.cli.demo import MODEL

        if data not in (None, "digits"):
            raise click.UsageError("name an encoder with -m; ssl-risk-rs models list shows them")
        opt.say(f"no model named: the bundled example {MODEL}; ssl-risk-rs models list shows others")
        model, data = MODEL, "digits"
    evaluate_and_print(model, opt.named_data(data), probes, fields, ending,
                       supervised=supervised, control=control, store=store, extraction=extraction)  # fmt: skip


def evaluate_and_print(
    model: str,
    data: str,
    probes: tuple[str, ...],
    fields: dict[str, Any],
    ending: dict[str, Any],
    **options: Any,
) -> None:
    """The main job, shared with `demo`."""
    from ssl_risk_rs.cli._progress import EventDisplay
    from ssl_risk_rs.workflow.evaluate import evaluate

    res.check(ending)
    with EventDisplay() as progress:
        results, provenance = evaluate(
            model, data, probes=probes, settings=fields, say=opt.say, progress=progress, **options
        )
    res.finish(results, provenance, **ending)
