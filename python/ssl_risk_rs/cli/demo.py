"""`ssl-risk-rs demo`."""

import click

from ssl_risk_rs.cli import _options as opt
from ssl_risk_rs.cli._results import Asked, Ending, decomposition_options

#: a small SSL encoder, pretrained without labels on the training images of `digits`
MODEL = "demo_ssl"


@click.command()
@opt.store_option
@decomposition_options
def demo(store: str | None, asked: Asked, ending: Ending) -> None:
    """Run the bundled example: a small SSL encoder, its supervised twin and a random twin on 8×8 digits.

    Needs no network, no GPU and no data.

    \b
    ssl-risk-rs demo
    """
    from ssl_risk_rs.cli.run import evaluate_and_print

    evaluate_and_print(MODEL, "digits", asked, ending, store=store)
