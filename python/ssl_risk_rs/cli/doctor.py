"""`ssl-risk-rs doctor`: whether an encoder is what a run needs."""

import click

from ssl_risk_rs.cli.doctor_model import model


@click.group()
def doctor() -> None:
    """Look at an encoder, and say what to do about each fault. The exit status is 1 if there is a fault.

    \b
    ssl-risk-rs doctor model demo_ssl
    """


doctor.add_command(model)
