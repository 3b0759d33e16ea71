"""Write docs/cli-reference.md from the help of every command.

python scripts/cli_reference.py            # or: make docs
"""

from collections.abc import Iterator
from pathlib import Path

import click
from ssl_risk_rs.cli import main

TARGET = Path(__file__).parents[1] / "docs" / "cli-reference.md"
PROGRAM = "ssl-risk-rs"
WIDTH = 100


def commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    """A command and all below it, by the words that a user types."""
    yield name, command
    if isinstance(command, click.Group):
        for word in command.list_commands(click.Context(command)):
            below = command.get_command(click.Context(command), word)
            assert below is not None
            yield from commands(below, f"{name} {word}")


def render() -> str:
    """The page."""
    parts = [
        "# Command line\n",
        "Generated from `--help` by `make docs`. Results go to stdout, progress and warnings to stderr. Exit codes: "
        "0 done, 1 failed, 2 misused, 130 interrupted (^C), 143 terminated (SIGTERM).\n",
    ]
    for name, command in commands(main, PROGRAM):
        context = click.Context(
            command, info_name=name, max_content_width=WIDTH, terminal_width=WIDTH, **main.context_settings
        )
        parts += [f"## {name}\n", f"```text\n{command.get_help(context)}\n```\n"]
    return "\n".join(parts)


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
    print(TARGET)
