"""What every command's help has: -h beside --help, and a line to paste at its end."""

import click

__all__ = ["NAMES", "prepare_help"]

NAMES = ["-h", "--help"]


def prepare_help(command: click.Command) -> None:
    """Let a command and all below it know -h too, however its context comes about: Click keeps the first.

    The line to paste, which stands last in a docstring behind `\\b`, comes last in the help too, below the options.
    """
    command.context_settings.setdefault("help_option_names", NAMES)
    words, mark, line = (command.help or "").rpartition("\b\n")
    if mark:
        command.help, command.epilog = words.strip(), mark + line
    if isinstance(command, click.Group):
        for below in command.commands.values():
            prepare_help(below)
