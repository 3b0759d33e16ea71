"""The jobs that several commands do: parse, call one library function, print."""

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from ssl_risk_rs.cli import _options as opt
from ssl_risk_rs.cli._results import Asked, Ending

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from ssl_risk_rs.bank import FeatureBank
    from ssl_risk_rs.probes.features import Features

    Spread = Callable[[FeatureBank], Features]

__all__ = ["DEMO_MODEL", "decompose_features", "evaluate_and_print"]

#: a small SSL encoder, pretrained without labels on the training images of `digits`
DEMO_MODEL = "demo_ssl"


#: rows stay in this process
_HERE: "AbstractContextManager[Spread | None]" = nullcontext()


def evaluate_and_print(model: str, data: str, asked: Asked, ending: Ending, **options: Any) -> None:
    """Encode what is missing, decompose, print the result."""
    from ssl_risk_rs.cli._progress import EventDisplay
    from ssl_risk_rs.workflow.evaluate import evaluate

    asked.check()
    ending.check()
    with EventDisplay() as report:
        done, failure = evaluate(
            model, data, probes=asked.probes, settings=asked.fields, group=asked.group, target=asked.target,
            say=opt.say, report=report, **options,
        )  # fmt: skip
    ending.finish(done, failure)


def decompose_features(
    path: str,
    store: str | None,
    asked: Asked,
    ending: Ending,
    *,
    test_features: str | None,
    supervised_features: str | None,
    features_columns: str | None,
    drop_unlabelled: bool,
    spreading: "AbstractContextManager[Spread | None]" = _HERE,
) -> None:
    """Decompose a bank or feature files and print the result; `spreading` gives what spreads a bank over processes."""
    from ssl_risk_rs.cli._progress import EventDisplay
    from ssl_risk_rs.workflow import features

    asked.check()
    ending.check()
    with EventDisplay() as report, spreading as spread:
        run, failure = features.decompose_features(
            path,
            test=test_features,
            supervised=supervised_features,
            group=asked.group,
            target=asked.target,
            features_columns=features_columns,
            drop_unlabelled=drop_unlabelled,
            store=store,
            probes=asked.probes,
            settings=asked.fields,
            report=report,
            spread=spread,
        )
    ending.finish(run, failure)
