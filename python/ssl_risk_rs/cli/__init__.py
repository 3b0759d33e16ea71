"""The command line: parse, call one library function, print."""

import errno
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module

import click

from ssl_risk_rs.cli._help import NAMES, prepare_help
from ssl_risk_rs.errors import SslRiskError

#: command → module that defines it under the same name; imported when it is called or listed
COMMANDS: dict[str, str] = {
    "run": "ssl_risk_rs.cli.run",
    "demo": "ssl_risk_rs.cli.demo",
    "decompose": "ssl_risk_rs.cli.decompose",
    "sweep": "ssl_risk_rs.cli.sweep",
    "compare": "ssl_risk_rs.cli.compare",
    "explain": "ssl_risk_rs.cli.explain",
    "fewshot": "ssl_risk_rs.cli.fewshot",
    "knn": "ssl_risk_rs.cli.knn",
    "stats": "ssl_risk_rs.cli.stats",
    "report": "ssl_risk_rs.cli.report",
    "extract": "ssl_risk_rs.cli.extract",
    "data": "ssl_risk_rs.cli.data",
    "store": "ssl_risk_rs.cli.store",
    "models": "ssl_risk_rs.cli.models",
    "paper": "ssl_risk_rs.cli.paper",
    "study": "ssl_risk_rs.cli.study",
    "bench": "ssl_risk_rs.cli.bench",
    "doctor": "ssl_risk_rs.cli.doctor",
    "pack": "ssl_risk_rs.cli.pack",
    "verify": "ssl_risk_rs.cli.verify",
}


#: commands that go on where they were interrupted: images that are encoded are kept
GO_ON = ("run", "demo", "extract", "fewshot", "sweep")


class LazyGroup(click.Group):
    """A group whose commands are imported when they are needed, so that `--help` stays fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(COMMANDS[cmd_name]), cmd_name)
        prepare_help(command)
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        for given in args:
            _check_encoding(given, ctx, "Rename what it names, or give a link to it (ln -s)")
        try:
            return super().parse_args(ctx, args)
        except OSError as error:  # --help and --version print here
            raise _said(error) from error

    def invoke(self, ctx: click.Context) -> object:
        try:
            _check_encoding(os.getcwd(), ctx, "Rename this folder, or work in another")
        except FileNotFoundError:
            raise click.ClickException("the folder that you are in is gone: cd to one that is there") from None
        except OSError:  # it may not be asked for its name, which whoever needs it says
            pass
        for name, value in os.environ.items():
            if name.startswith("SSL_RISK_"):
                _check_encoding(value, ctx, f"Give the variable {name} another value")
        ended: list[int] = []
        try:
            with _sigterm_ends_like_ctrl_c(ended):
                return super().invoke(ctx)
        except SslRiskError as error:  # expected: the message is enough
            raise click.ClickException(str(error)) from error
        except OSError as error:  # a full disk, a folder one may not write to
            raise _said(error) from error
        except KeyboardInterrupt:
            from ssl_risk_rs.cli._options import command_line

            line = command_line()
            said = "what is done is kept. To go on" if ctx.invoked_subcommand in GO_ON else "this line begins anew"
            click.echo(f"\n{'terminated (SIGTERM)' if ended else 'interrupted'}; {said}:\n{line}", err=True)
            raise click.exceptions.Exit(128 + (ended[0] if ended else signal.SIGINT)) from None


def _said(error: OSError) -> Exception:
    """What a system's error ends a command with; a full disk without a name is what is printed to."""
    if error.errno in (None, errno.EPIPE):  # on a closed pipe Click ends quietly
        return error
    full = "the result cannot be printed: " if error.errno == errno.ENOSPC else ""
    return click.ClickException(f"{full if error.filename is None else f'{error.filename}: '}{error.strerror}")


@contextmanager
def _sigterm_ends_like_ctrl_c(ended: list[int]) -> Iterator[None]:
    """Meanwhile SIGTERM, with which schedulers announce that they will kill, commits what is done as ^C does.

    The signal is appended to `ended`. A handler that somebody else set stays theirs.
    """

    def end(number: int, _: object) -> None:
        ended.append(number)
        raise KeyboardInterrupt

    own = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if not own:
        yield
        return
    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _check_encoding(text: str, ctx: click.Context, remedy: str) -> None:
    """Names that are no UTF-8 are refused before any work: neither a record nor a Parquet file can hold them."""
    try:
        text.encode()
    except UnicodeEncodeError:
        with suppress(UnicodeDecodeError):
            os.fsencode(text).decode()  # what is typed is UTF-8, and the locale is not
            raise click.UsageError(
                f"{os.fsencode(text).decode()} is UTF-8, which this locale does not read: set PYTHONUTF8=1, or another "
                "locale (LC_ALL=C.UTF-8)",
                ctx,
            ) from None
        raise click.UsageError(
            f"{os.fsencode(text)!r} is not UTF-8, so that no record could hold it. {remedy}", ctx
        ) from None


@click.group(cls=LazyGroup, context_settings={"help_option_names": NAMES})
@click.version_option(package_name="ssl-risk-rs")
def main() -> None:
    """Evaluate self-supervised encoders by where their error comes from.

    \b
    ssl-risk-rs demo
    """


prepare_help(main)
