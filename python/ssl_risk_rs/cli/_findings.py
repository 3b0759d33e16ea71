"""Findings of checks as a table, JSON or CSV."""

import json
import textwrap
from collections.abc import Iterable

import click

from ssl_risk_rs.cli import _printing as printing
from ssl_risk_rs.workflow.doctor import Finding

__all__ = ["finish", "print_findings"]

#: columns of text where stdout is no terminal
WIDTH = 80

#: examples of a finding that the table shows; JSON has all
SHOWN = 10


def print_findings(findings: Iterable[Finding], form: str) -> list[Finding]:
    """Print findings on stdout, in a table as soon as each is there, and return them."""
    if form == "table":
        done = []
        for finding in findings:
            _print(finding)
            done.append(finding)
        return done
    done = list(findings)
    rows = [
        {"check": each.check, "status": each.status, "found": each.found, "do": each.do, "values": dict(each.values),
         "examples": list(each.examples)}
        for each in done
    ]  # fmt: skip
    if form == "csv":
        rows = [
            {**row, **{key: json.dumps(row[key], ensure_ascii=False) for key in ("values", "examples")}} for row in rows
        ]
    printing.print_rows(rows, form)
    return done


def finish(findings: Iterable[Finding]) -> None:
    """Exit with status 1 if there is a fault among them."""
    if any(finding.status == "fault" for finding in findings):
        raise click.exceptions.Exit(1)


def _print(finding: Finding) -> None:
    width = max(printing.width() or WIDTH, 40)
    head = f"{finding.status:5}  {finding.check:13}  "
    indent = " " * len(head)

    def wrap(text: str, first: str) -> None:
        lines = textwrap.wrap(
            text, width, initial_indent=first, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        )
        printing.show("\n".join(lines) or first.rstrip())

    wrap(finding.found, head)
    if finding.do:
        wrap(f"-> {finding.do}", indent)
    for example in finding.examples[:SHOWN]:
        wrap(example, indent)
    if len(finding.examples) > SHOWN:
        wrap(f"and {len(finding.examples) - SHOWN:,} more (--format json lists all)", indent)
