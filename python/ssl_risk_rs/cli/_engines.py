"""--engine and what belongs to it."""

from collections.abc import Callable, Collection
from typing import Any, TypeVar

import click

__all__ = ["engine_option", "engine_options_of", "words_of"]

Command = TypeVar("Command", bound=Callable[..., Any])


def engine_option(*names: str, what: str) -> Callable[[Command], Command]:
    """--engine among `names` and --engine-option; `what` runs there."""

    def add(command: Command) -> Command:
        command = click.option(
            "--engine-option", "engine_options", multiple=True, metavar="KEY=VALUE",
            help="The engine gets this option; may be repeated. Ray knows address=HOST:PORT"
            + (
                ". Slurm gets timeout_min (1440 unless given), cpus_per_task (8), gpus_per_node (1), mem_gb, "
                "partition, account and whatever else sbatch knows."
                if "slurm" in names
                else "."
            ),
        )(command)  # fmt: skip
        places = {"local": "on this machine", "ray": "on a Ray cluster", "slurm": "as jobs of Slurm"}
        return click.option(
            "--engine", type=click.Choice(names), default="local", show_default=True,
            help=f"{what} {', '.join(places[name] for name in names[:-1])}, or {places[names[-1]]}.",
        )(command)  # fmt: skip

    return add


def engine_options_of(texts: tuple[str, ...]) -> dict[str, str]:
    """KEY=VALUE, several times, as a table."""
    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (equals and key):
            raise click.BadParameter(f"{text!r} is no KEY=VALUE", param_hint="--engine-option")
        found[key] = value
    return found


def words_of(context: click.Context, *, without: Collection[str]) -> list[str]:
    """The options that were typed, as words of a line; `without` names those that it leaves out."""
    words: list[str] = []
    for option in context.command.params:
        name = option.name or ""
        typed = context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
        if name in without or not typed or not isinstance(option, click.Option):
            continue
        value = context.params.get(name, True)  # of --offline alone the value is not handed over
        if option.is_flag:
            words.append((option.opts if value else option.secondary_opts)[0])
            continue
        if name == "labels_for":  # fractions by now
            value = ",".join(f"{100 * error:g}" for error in value)
        words += [max(option.opts, key=len), str(value)]
    return words
