"""Pages that are made from the code, and commands that pages show."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_command_line_reference_is_that_of_the_commands():
    spec = importlib.util.spec_from_file_location("cli_reference", ROOT / "scripts" / "cli_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.TARGET.read_text(encoding="utf-8") == module.render(), "stale: run `make docs`"
    for name, command in module.commands(module.main, module.PROGRAM):
        assert command.help, f"{name} has no help"
