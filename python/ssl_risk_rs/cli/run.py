"""`ssl-risk-rs run`."""

from typing import Any

import click

from ssl_risk_rs.cli import _options as opt
from ssl_risk_rs.cli._jobs import DEMO_MODEL, decompose_features, evaluate_and_print
from ssl_risk_rs.cli._results import Asked, Ending, decomposition_options


@click.command()
@opt.model_option(required=False)
@opt.data_option
@click.option("--features", metavar="PATH", help="Features instead of a model and data; as in `decompose`.")
@opt.features_options
@click.option(
    "--supervised", default="auto", show_default=True, metavar="auto|none|MODEL",
    help="This twin gives the approximation error.",
)  # fmt: skip
@click.option(
    "--control", default="auto", show_default=True, metavar="auto|none|MODEL",
    help="This encoder cannot have memorized an image; auto takes one where it is cheap.",
)  # fmt: skip
@opt.store_option
@opt.extraction_options
@opt.refuse_shard
@opt.dry_run_option
@decomposition_options
def run(
    model: str | None,
    data: str | None,
    features: str | None,
    supervised: str,
    control: str,
    store: str | None,
    asked: Asked,
    ending: Ending,
    dry_run: bool,
    **options: Any,
) -> None:
    """Split the error of an encoder's linear probe into four components, with intervals.

    Encodes the images that are not in the feature store yet, fits the probes, prints the table and writes a
    run folder. Without a model, the bundled example (`ssl-risk-rs demo`).

    \b
    ssl-risk-rs run -m swav -d imagenet:/data/imagenet
    """
    options["device"] = opt.encoder_device(asked.fields["device"])
    prepared = opt.prepared_model(model or DEMO_MODEL, options)
    extraction = opt.extraction_settings(options)
    if features is not None:
        if dry_run:
            raise click.UsageError("--dry-run tells what encoding takes, and --features are encoded already")
        if model is not None or data is not None:
            raise click.UsageError("--features stands instead of --model and --data: give one or the other")
        decompose_features(features, store, asked, ending, **options)
        return
    if any(options.values()):
        raise click.UsageError(
            "--test-features, --supervised-features, --features-columns and --drop-unlabelled go with --features"
        )
    if model is None:
        if data not in (None, "digits"):
            raise click.UsageError("name an encoder with -m; ssl-risk-rs models list shows them")
        opt.say(f"no model named: the bundled example {DEMO_MODEL}; ssl-risk-rs models list shows others")
        model, data = DEMO_MODEL, "digits"
    else:
        model = prepared
    if dry_run:
        from ssl_risk_rs.cli._forecast import print_forecasts
        from ssl_risk_rs.workflow.forecast import forecast_run

        asked.check()
        found = forecast_run(
            model, opt.named_data(data), supervised=supervised, control=control, group=asked.group, store=store,
            say=opt.say, extraction=extraction,
        )  # fmt: skip
        print_forecasts(found, ending.form, fits=True)
        return
    evaluate_and_print(
        model, opt.named_data(data), asked, ending,
        supervised=supervised, control=control, store=store, extraction=extraction,
    )  # fmt: skip
