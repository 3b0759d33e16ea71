"""`ssl-risk-rs doctor`: whether the machine, the data and an encoder are what a run needs."""

from importlib import import_module
from importlib.util import find_spec

import click

from ssl_risk_rs.cli import _options as opt
from ssl_risk_rs.cli import _printing as printing
from ssl_risk_rs.cli._help import prepare_help

#: commands of the group that lie in modules of their own, imported when they are called; absent ones are not listed
ELSEWHERE: dict[str, str] = {"model": "ssl_risk_rs.cli.doctor_model"}


class _Doctor(click.Group):
    """A group some of whose commands are imported when they are needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *(name for name, module in ELSEWHERE.items() if find_spec(module))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in ELSEWHERE or not find_spec(ELSEWHERE[cmd_name]):
            return super().get_command(ctx, cmd_name)
        command: click.Command = getattr(import_module(ELSEWHERE[cmd_name]), cmd_name)
        prepare_help(command)
        return command


@click.group(cls=_Doctor, invoke_without_command=True)
@click.pass_context
def doctor(context: click.Context) -> None:
    """Look at the machine, at data or at an encoder, and say what to do about each fault.

    Without a command, at the machine. The exit status is 1 if there is a fault.

    \b
    ssl-risk-rs doctor
    """
    if context.invoked_subcommand is None:
        context.invoke(machine, store=None, form="table")


@doctor.command()
@opt.store_option
@opt.format_option
def machine(store: str | None, form: str) -> None:
    """Say what this machine has: CPU and kernels, memory, the store's disk, torch, GPUs, extras, caches.

    The disk is measured with a file of 64 MB in the store's folder, which is removed again.

    \b
    ssl-risk-rs doctor machine
    """
    from ssl_risk_rs.cli._findings import finish, print_findings
    from ssl_risk_rs.workflow.doctor_machine import examine_machine

    finish(print_findings(examine_machine(store), form))


@doctor.command()
@click.argument("uri")
@opt.one_option("-m", "--model", help="Some of the images go through this encoder's transform too.")
@click.option("--group", metavar="COLUMN", help="Column of groups: patients, slides, scenes.")
@opt.split_option
@opt.format_option
def data(uri: str, model: str | None, group: str | None, split: str | None, form: str) -> None:
    """Look at the rows of a data set and at a sample of its images, and measure how fast they decode.

    256 images, spread over the rows, are decoded in one thread; `ssl-risk-rs data check` decodes all.

    \b
    ssl-risk-rs doctor data folder:imgs -m swav
    """
    from ssl_risk_rs.cli._findings import finish, print_findings
    from ssl_risk_rs.datasets import create_dataset
    from ssl_risk_rs.workflow.doctor_data import examine_data

    dataset = create_dataset(uri, group=group, split=split)
    for note in dataset.notes:
        printing.say(note)
    finish(print_findings(examine_data(dataset, group=group, model=model, say=printing.say), form))
