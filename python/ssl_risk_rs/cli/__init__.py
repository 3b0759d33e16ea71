"""The command line: parse, call one library function, print."""

from importlib import import_module

import click

from ssl_risk_rs.errors import SslRiskError

#: command → module that defines it under the same name; imported when it is called or listed
COMMANDS: dict[str, str] = {
    "run": "ssl_risk_rs.cli.run",
    "demo": "ssl_risk_rs.cli.demo",
    "decompose": "ssl_risk_rs.cli.decompose",
    "extract": "ssl_risk_rs.cli.extract",
    "data": "ssl_risk_rs.cli.data",
    "store": "ssl_risk_rs.cli.store",
    "models": "ssl_risk_rs.cli.models",
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are needed, so that `--help` stays fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        return getattr(import_module(COMMANDS[cmd_name]), cmd_name)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except SslRiskError as error:  # expected: the message is enough
            raise click.ClickException(str(error)) from error


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ssl-risk-rs")
def main() -> None:
    """Evaluate self-supervised encoders by where their error comes from.

    \b
    ssl-risk-rs demo
    """
