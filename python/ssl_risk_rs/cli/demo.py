"""`ssl-risk-rs demo`."""

from typing import TYPE_CHECKING

import click

from ssl_risk_rs.cli import _options as opt
from ssl_risk_rs.cli._help import LongCommand
from ssl_risk_rs.cli._jobs import DEMO_MODEL, evaluate_and_print
from ssl_risk_rs.cli._results import Ending, check_question, decomposition_options

if TYPE_CHECKING:
    from ssl_risk_rs.workflow.question import Question


@click.command(cls=LongCommand)
@opt.store_option
@decomposition_options
def demo(store: str | None, question: "Question", ending: Ending) -> None:
    """Run the bundled example: a small SSL encoder, its supervised twin and a random twin on 8×8 digits.

    Needs no network, no GPU and no data.

    \b
    ssl-risk-rs demo
    """
    check_question(question)
    evaluate_and_print(DEMO_MODEL, "digits", question, ending, store=store, data_named=True)
