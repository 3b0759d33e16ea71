"""The jobs that several commands do: parse, call one library function, print."""

from contextlib import nullcontext
from typing import TYPE_CHECKING

from ssl_risk_rs.cli import _printing as printing
from ssl_risk_rs.cli._results import Ending, check_question

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from ssl_risk_rs.bank import FeatureBank
    from ssl_risk_rs.probes.features import Features
    from ssl_risk_rs.workflow.question import Question

    Spread = Callable[[FeatureBank], Features]

__all__ = ["DEMO_MODEL", "decompose_features", "evaluate_and_print"]

#: a small SSL encoder, pretrained without labels on the training images of `digits`
DEMO_MODEL = "demo_ssl"


#: rows stay in this process
_HERE: "AbstractContextManager[Spread | None]" = nullcontext()


def evaluate_and_print(
    model: str, data: str, question: "Question", ending: Ending, *, store: str | None, data_named: bool
) -> None:
    """Encode what is missing, decompose, print the result."""
    from ssl_risk_rs.cli._progress import EventDisplay
    from ssl_risk_rs.workflow.evaluate import answer

    ending.check()
    with EventDisplay() as report:
        done, failure = answer(
            model, data, question, store=store, data_named=data_named, say=printing.say, report=report
        )
    ending.finish(done, failure)


def decompose_features(
    path: str,
    store: str | None,
    question: "Question",
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

    check_question(question)
    ending.check()
    with EventDisplay() as report, spreading as spread:
        run, failure = features.decompose_features(
            path,
            test=test_features,
            supervised=supervised_features,
            group=question.group,
            target=question.target,
            reading=features.Reading(features_columns, drop_unlabelled, store),
            probes=question.probes,
            settings=question.settings,
            report=report,
            spread=spread,
        )
    ending.finish(run, failure)
