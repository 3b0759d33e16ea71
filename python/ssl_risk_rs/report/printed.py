"""Read back the numbers of a printed table of results: LaTeX as `to_latex` writes it, also edited by hand, or CSV."""

import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path

from ssl_risk_rs.errors import ParameterError
from ssl_risk_rs.report.latex import escape
from ssl_risk_rs.results.quantities import QUANTITIES

__all__ = ["KEYS", "PrintedCell", "PrintedTable", "read_table"]

#: columns that say which result a row is of
KEYS = ("encoder", "data", "probe", "protocol", "shots", "metric", "target")
_NUMBER = r"[+-]?\d+(?:\.\d+)?"
_CELL = re.compile(rf"(?P<value>{_NUMBER})(?:\^\S*)?(?:\s*\[\s*(?P<low>{_NUMBER})\s*,\s*(?P<high>{_NUMBER})\s*\])?")
#: LaTeX that changes how a number looks and not what it is
_LOOKS = re.compile(
    r"\\(?:scriptsize|footnotesize|small|textbf|mathbf|underline|bfseries|emph|,|;|!)(?![A-Za-z])|[${}~]"
)
_MARK = re.compile(r"\^\{[^}]*\}")
_RULES = re.compile(
    r"\\(?:toprule|midrule|bottomrule|hline|cmidrule(?:\([lr]+\))?\{[^}]*\}|addlinespace(?:\[[^\]]*\])?)"
)


@dataclass(frozen=True, slots=True)
class PrintedCell:
    """A number as it is printed.

    keys : which result it is of, by column; quantity : name in `QUANTITIES`
    text : the cell; numbers : estimate, or estimate, low and high, as text; scale : printed number of an error of 1
    """

    keys: tuple[tuple[str, str], ...]
    quantity: str
    text: str
    numbers: tuple[str, ...]
    scale: float


@dataclass(frozen=True, slots=True)
class PrintedTable:
    """The cells of a table, and how many dashes stand for results that are not there."""

    cells: tuple[PrintedCell, ...]
    dashes: tuple[tuple[tuple[tuple[str, str], ...], str], ...]


def read_table(path: "str | Path") -> PrintedTable:
    """Read a .tex file with one or several tabulars, or a .csv of `--format csv`.

    Raises
    ------
    ParameterError where there is no table, a column or a cell cannot be read: nothing is passed over.
    """
    path = Path(path).expanduser()
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ParameterError(f"{path} is not UTF-8 text: give a .tex or .csv file") from error
    table = _csv(text, path) if path.suffix.lower() in (".csv", ".tsv") else _latex(text, path)
    if not table.cells:
        raise ParameterError(f"{path} holds no number of a table that could be verified")
    return table


def _csv(text: str, path: Path) -> PrintedTable:
    rows = list(csv.DictReader(io.StringIO(text), delimiter="\t" if path.suffix.lower() == ".tsv" else ","))
    if not rows or not {"encoder", "quantity", "estimate"} <= set(rows[0]):
        raise ParameterError(f"{path} has no columns encoder, quantity and estimate: give what --format csv prints")
    cells = []
    for i, row in enumerate(rows):
        if row["quantity"] not in QUANTITIES:
            raise ParameterError(f"{path}, line {i + 2}: {row['quantity']!r} is no quantity")
        group = [("group", row["group"])] if row.get("group") else []
        keys = tuple([(name, row[name]) for name in KEYS if row.get(name)] + group)
        ends = [row[name] for name in ("low", "high") if row.get(name) not in (None, "", "nan", "NaN")]
        numbers = tuple([row["estimate"], *(ends if len(ends) == 2 else [])])
        try:
            [float(number) for number in numbers]
        except ValueError as error:
            raise ParameterError(f"{path}, line {i + 2}: {error}") from error
        cells.append(PrintedCell(keys, row["quantity"], ", ".join(numbers), numbers, 1.0))
    return PrintedTable(tuple(cells), ())


def _latex(text: str, path: Path) -> PrintedTable:
    text = re.sub(r"(?<!\\)%.*", "", text)
    found = re.findall(r"\\begin\{tabular[*x]?\}.*?\\end\{tabular[*x]?\}", text, re.DOTALL)
    if not found:
        raise ParameterError(f"{path} holds no tabular: give a table as ssl-risk-rs report --latex writes it")
    cells: list[PrintedCell] = []
    dashes = []
    for tabular in found:
        body = re.sub(r"^\\begin\{tabular[*x]?\}(?:\{[^{}]*\})+|\\end\{tabular[*x]?\}$", "", tabular).strip()
        lines = [line.strip() for line in re.split(r"\\\\(?:\[[^\]]*\])?", _RULES.sub("", body))]
        head, *rows = [_split(line) for line in lines if line]
        columns = [_column(cell, path) for cell in head]
        for row in rows:
            if len(row) != len(columns):
                raise ParameterError(f"{path}: a row has {len(row)} cells, its head {len(columns)}: {' & '.join(row)}")
            keys = tuple(
                (name, cell) for (kind, name), cell in zip(columns, row, strict=True) if kind == "key" and cell
            )
            for (kind, name), cell in zip(columns, row, strict=True):
                if kind == "key":
                    continue
                if cell in ("--", "---", "–", "—", ""):
                    dashes.append((keys, name))
                else:
                    cells.append(_cell(keys, name, cell, path))
    return PrintedTable(tuple(cells), tuple(dashes))


def _split(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)&", line)]


def _column(cell: str, path: Path) -> tuple[str, str]:
    """("key", column) or ("quantity", name) of a head."""
    plain = _LOOKS.sub("", cell).strip()
    if plain.lower() in KEYS:
        return "key", plain.lower()
    for name, q in QUANTITIES.items():
        if plain in (name, name.replace("_", r"\_"), q.label, _LOOKS.sub("", escape(q.label))):
            return "quantity", name
    raise ParameterError(f"{path}: column {cell!r} is neither one of {', '.join(KEYS)} nor a quantity")


def _cell(keys: tuple[tuple[str, str], ...], quantity: str, cell: str, path: Path) -> PrintedCell:
    match = _CELL.fullmatch(_LOOKS.sub("", _MARK.sub("", cell)).strip())
    if match is None:
        raise ParameterError(
            f"{path}: cell {cell!r} of {dict(keys).get('encoder', '?')} is no number with its interval"
        )
    numbers = tuple(n for n in (match["value"], match["low"], match["high"]) if n is not None)
    return PrintedCell(keys, quantity, cell, numbers, 100.0)
