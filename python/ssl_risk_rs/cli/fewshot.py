"""`ssl-risk-rs fewshot`."""

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from ssl_risk_rs.cli import _options as opt
from ssl_risk_rs.cli._help import LongCommand
from ssl_risk_rs.cli._jobs import decompose_features, evaluate_and_print
from ssl_risk_rs.cli._results import Ending, beside_an_encoder, check_question, decomposition_options

if TYPE_CHECKING:
    from ssl_risk_rs.encoders.names import Preparation
    from ssl_risk_rs.extraction.settings import Encoding
    from ssl_risk_rs.workflow.question import Question


@click.command(cls=LongCommand)
@click.argument("path", required=False)
@click.option("--features", metavar="PATH", help="This is the same as PATH.")
@opt.features_options
@opt.model_option(required=False)
@opt.data_option
@opt.store_option
@opt.extraction_options
@partial(decomposition_options, shots="auto")
def fewshot(
    path: str | None,
    features: str | None,
    model: str | None,
    data: str | None,
    store: str | None,
    encoding: "Encoding",
    preparation: "Preparation",
    question: "Question",
    ending: Ending,
    **options: Any,
) -> None:
    """Decompose the error at small numbers of labels, and say what more labels would bring.

    PATH is a bank or features as in `decompose`; or name an encoder with -m and images with -d, as in `run`. Probes are
    fitted on draws of a few training rows and judged on rows that no draw has seen. The default sizes are those of 1 %,
    30, 5 and 3 rows of each class that the data allow.

    \b
    ssl-risk-rs fewshot feats.npz --shots 30,5,3 --labels-for 10
    """
    encoding = opt.encoding_on(encoding, question.settings.device)
    named = path or features
    if named is not None:
        if (path is not None and features is not None) or model is not None or data is not None:
            raise click.UsageError("name the features once: PATH, --features, or -m and -d")
        opt.refuse_encoding()
        decompose_features(named, store, question, ending, **options)
        return
    drop_unlabelled = options.pop("drop_unlabelled")
    if any(options.values()):
        raise click.UsageError("--test-features, --supervised-features and --features-columns go with features in PATH")
    if model is None:
        raise click.UsageError("name features, or an encoder with -m: ssl-risk-rs fewshot feats.npz")
    question = replace(beside_an_encoder(question), encoding=encoding, drop_unlabelled=drop_unlabelled, control="none")
    check_question(question)
    evaluate_and_print(
        preparation.named(model),
        opt.named_data(data),
        question,
        ending,
        store=store,
        data_named=opt.is_named(data),
    )
