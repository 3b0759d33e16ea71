"""`ssl-risk-rs demo`."""

import click

from ssl_risk_rs.cli import _options as opt
from ssl_risk_rs.cli._jobs import DEMO_MODEL, evaluate_and_print
from ssl_risk_rs.cli._results import Asked, Ending, decomposition_options


@click.command()
@opt.store_option
@decomposition_options
def demo(store: str | None, asked: Asked, ending: Ending) -> None:
    """Run the bundled example: a small SSL encoder, its supervised twin and a random twin on 8×8 digits.

    Needs no network, no GPU and no data.

    \b
    ssl-risk-rs demo
    """
    from ssl_risk_rs.extraction.settings import Encoding

    asked.check()
    evaluate_and_print(DEMO_MODEL, "digits", asked.question(Encoding()), ending, store=store, data_named=True)
