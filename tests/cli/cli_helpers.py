"""Commands as a user runs them, and what they print read back."""

import json
import math

import pytest
from click.testing import CliRunner, Result
from ssl_risk_rs.cli import main


def run(*arguments: object, code: int = 0) -> Result:
    """A command that ends with this status; what is no message of a command is raised."""
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.stderr
    return result


def parsed(text: str) -> list[dict]:
    """Rows of JSON, which has null where a normal interval has infinite degrees of freedom."""
    rows = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    return [{**row, "df": math.inf if row["df"] is None else row["df"]} for row in rows]
