"""`ssl-risk-rs verify`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from ssl_risk_rs.cli import _options as opt
from ssl_risk_rs.cli import _printing as printing

if TYPE_CHECKING:
    from ssl_risk_rs.workflow.verify import Checked


@click.command()
@click.argument("table", metavar="TABLE")
@click.argument("pack", metavar="PACK")
@click.option("--sha256", metavar="HEX", help="The pack must have this hash, as it was published.")
@opt.format_option
def verify(table: str, pack: str, sha256: str | None, form: str) -> None:
    """Compute every number of a printed table again from a pack.

    TABLE is a .tex file as `report --latex` writes it, also edited by hand, or a .csv file as --format csv prints it.
    A number holds if the outcomes in the pack give its digits, and what its row says of it (standard error, rows,
    groups, degrees of freedom, grade, unit), and probes that are fitted again, where the pack has moments or features,
    agree within its interval. What has to be taken on trust is said. Exits with 1 if any number does not hold.

    \b
    ssl-risk-rs verify table.tex table.pack
    """
    from ssl_risk_rs.report.printed import KEYS
    from ssl_risk_rs.workflow.verify import verify_table

    found = verify_table(table, pack, sha256=sha256, say=printing.say)
    keys = [key for key in KEYS if any(key in dict(checked.cell.keys) for checked in found.cells)]
    printing.print_rows([_row(checked, keys) for checked in found.cells], form)
    wrong = sum(checked.verdict.value != "holds" for checked in found.cells)
    again = sum(checked.again is not None for checked in found.cells)
    held = f"{len(found.cells) - wrong} of {len(found.cells)}"
    printing.say(f"{held} numbers hold; for {again} of all, probes were fitted again.")
    printing.say(f"The pack's SHA-256 is {found.sha256}; one that was published tells whether this is that pack.")
    for sentence in found.trusted:
        printing.say(sentence)
    if wrong:
        raise click.exceptions.Exit(1)


def _row(checked: "Checked", keys: Sequence[str]) -> dict[str, Any]:
    from ssl_risk_rs.report.numbers import rounded
    from ssl_risk_rs.report.printed import decimals

    cell, e = checked.cell, checked.computed
    digits = min(max(0, *map(decimals, cell.numbers)), 20) if cell.numbers else 2
    beside, others = dict(cell.beside), checked.others

    def shown(value: float | None) -> str | None:
        return None if value is None else f"{rounded(cell.scale * value, digits):.{digits}f}"

    printed = [*cell.numbers, *(f"{name}={beside[name]}" for name in others)]
    computed = [] if e is None else [*filter(None, map(shown, (e.estimate, e.low, e.high)))]
    return {
        **{key: dict(cell.keys).get(key) for key in keys},
        "quantity": cell.quantity,
        "printed": " ".join(printed) or cell.text,
        "computed": " ".join([*computed, *(f"{name}={value}" for name, value in others.items())]) or None,
        "again": shown(checked.again),
        "verdict": checked.verdict.value,
    }
