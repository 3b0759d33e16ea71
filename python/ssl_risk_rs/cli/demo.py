"""`ssl-risk-rs demo`."""

from typing import Any

import click

from ssl_risk_rs.cli import _options as opt
from ssl_risk_rs.cli import _results as res

#: a small SSL encoder, pretrained without labels on the training images of `digits`
MODEL = "demo_ssl"


@click.command()
@opt.store_option
@res.decomposition_options
@opt.format_option
def demo(store: str | None, form: str, out: str | None, force: bool, strict_convergence: bool, **options: Any) -> None:
    """Run the bundled example: a small SSL encoder, its supervised twin and a random twin on 8×8 digits.

    Needs no network, no GPU and no data.

    \b
    ssl-risk-rs demo
    """
    from ssl_risk_rs.cli.run import evaluate_and_print

    probes, fields = res.settings(options)
    ending = {"form": form, "out": out, "force": force, "strict_convergence": strict_convergence}
    evaluate_and_print(MODEL, "digits", probes, fields, ending, store=store)
