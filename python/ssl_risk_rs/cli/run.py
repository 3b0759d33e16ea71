"""`ssl-risk-rs run`."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import click

from ssl_risk_rs.cli import _options as opt
from ssl_risk_rs.cli import _printing as printing
from ssl_risk_rs.cli._help import LongCommand
from ssl_risk_rs.cli._jobs import DEMO_MODEL, decompose_features, evaluate_and_print
from ssl_risk_rs.cli._many import run_checkpoints, run_layers
from ssl_risk_rs.cli._results import Ending, beside_an_encoder, check_question, decomposition_options

if TYPE_CHECKING:
    from ssl_risk_rs.encoders.names import Preparation
    from ssl_risk_rs.extraction.settings import Encoding
    from ssl_risk_rs.workflow.question import Question


@click.command(cls=LongCommand)
@opt.model_option(required=False, multiple=True)
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
    model: tuple[str, ...],
    data: str | None,
    features: str | None,
    supervised: str,
    control: str,
    store: str | None,
    encoding: "Encoding",
    preparation: "Preparation",
    question: "Question",
    ending: Ending,
    dry_run: bool,
    **options: Any,
) -> None:
    """Split the error of an encoder's linear probe into four components, with intervals.

    Encodes the images that are not in the feature store yet, fits the probes, prints the table and writes a
    run folder. Without a model, the bundled example (`ssl-risk-rs demo`).

    Several -m, or a pattern of checkpoints ('ckpt:runs/ep*.pth@resnet18', quoted), give a run for each, one curve over
    epochs and the paired differences from each to the next. Several --layers ("blocks.*", all) or --pool (cls,mean)
    come from one forward pass; one is chosen on folds of the training rows, and its interval is on rows that had no
    part in the choice. The same line again makes only what is missing.

    \b
    ssl-risk-rs run -m swav -d imagenet:/data/imagenet
    """
    encoding = opt.encoding_on(encoding, question.settings.device)
    if features is not None:
        if dry_run:
            raise click.UsageError("--dry-run tells what encoding takes, and --features are encoded already")
        if model or data is not None:
            raise click.UsageError("--features stands instead of --model and --data: give one or the other")
        opt.refuse_encoding("supervised", "control")
        decompose_features(features, store, question, ending, **options)
        return
    drop_unlabelled = options.pop("drop_unlabelled")
    if any(options.values()):
        raise click.UsageError("--test-features, --supervised-features and --features-columns go with --features")
    models = tuple(preparation.named(name) for name in model or (DEMO_MODEL,))
    question = replace(
        beside_an_encoder(question),
        encoding=encoding,
        drop_unlabelled=drop_unlabelled,
        supervised=preparation.shared(supervised),
        control=preparation.shared(control),
    )
    if not model:
        if data not in (None, "digits"):
            raise click.UsageError("name an encoder with -m; ssl-risk-rs models list shows them")
        printing.say(f"no model named: the bundled example {DEMO_MODEL}; ssl-risk-rs models list shows others")
        data = "digits"
    check_question(question)
    several = _several(models, encoding)
    named = opt.named_data(data)
    if dry_run:
        if several == "models":
            raise click.UsageError("--dry-run of run is for one encoder; ssl-risk-rs sweep --dry-run takes several")
        _print_forecast(models[0], named, question, store, ending.form)
        return
    data_named = opt.is_named(data)
    if several is None:
        evaluate_and_print(models[0], named, question, ending, store=store, data_named=data_named)
    elif isinstance(several, tuple):
        run_layers(models[0], named, several, question, ending, store=store, data_named=data_named)
    else:
        run_checkpoints(models, named, question, ending, store=store, data_named=data_named)


def _several(models: tuple[str, ...], encoding: "Encoding") -> "tuple[str, ...] | Literal['models'] | None":
    """What there are several of: models, or features (their names); None for one run."""
    from ssl_risk_rs.encoders.names import is_pattern
    from ssl_risk_rs.workflow.layers import named_features

    if len(models) > 1 or is_pattern(models[0]):
        return "models"
    return named_features(models[0], encoding.layers, encoding.pool, printing.say)


def _print_forecast(model: str, data: str, question: "Question", store: str | None, form: str) -> None:
    from ssl_risk_rs.cli._forecast import print_forecasts
    from ssl_risk_rs.workflow.forecast import forecast_run

    print_forecasts(forecast_run(model, data, question=question, store=store, say=printing.say), form, fits=True)
