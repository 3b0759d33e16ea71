"""Read back the numbers of a printed table of results: LaTeX as `to_latex` writes it, also edited by hand, or CSV."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ssl_risk_rs._tables import SEPARATORS
from ssl_risk_rs.errors import ParameterError
from ssl_risk_rs.report.latex import escape
from ssl_risk_rs.results.frames import RESULT_COLUMNS
from ssl_risk_rs.results.metrics import ERROR
from ssl_risk_rs.results.quantities import QUANTITIES

__all__ = ["KEYS", "UNSAID", "PrintedCell", "PrintedRow", "PrintedTable", "decimals", "read_table"]

#: columns that say which result a row is of
KEYS = ("run", "encoder", "data", "probe", "protocol", "shots", "metric", "target")
#: what a row is of where its keys do not say
UNSAID = {"shots": "", "group": "all", "metric": ERROR.name}
#: columns beside an estimate that say something of it
_BESIDE = ("low", "high", "se", "confidence", "n", "n_groups", "df", "grade", "unit", "split")
_WORDS = ("grade", "unit", "split")
_NUMBER = r"[+-]?\d+(?:\.\d+)?"
_CELL = re.compile(rf"(?P<value>{_NUMBER})(?:\^\S*)?(?:\s*\[\s*(?P<low>{_NUMBER})\s*,\s*(?P<high>{_NUMBER})\s*\])?")
#: LaTeX that changes how a number looks and not what it is
_LOOKS = re.compile(
    r"\\(?:scriptsize|footnotesize|small|textbf|mathbf|underline|bfseries|emph|,|;|!)(?![A-Za-z])|[${}~]"
)
_FLOAT = re.compile(r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d{1,4})?|nan|inf)", re.IGNORECASE)
_MARK = re.compile(r"\^\{[^}]*\}")
_DASHES = ("--", "---", "–", "—", "")
_RULES = re.compile(
    r"\\(?:toprule|midrule|bottomrule|hline|cmidrule(?:\([lr]+\))?\{[^}]*\}|addlinespace(?:\[[^\]]*\])?)"
)


@dataclass(frozen=True, slots=True)
class PrintedCell:
    """A number as it is printed.

    keys : which result it is of, by column; quantity : name in `QUANTITIES`
    text : the cell; numbers : estimate, or estimate, low and high, as text; scale : printed number of an error of 1
    beside : what else the row says of it, by column: an end of the interval that stands alone, standard error, level,
        rows, groups, degrees of freedom, grade, unit, split
    """

    keys: tuple[tuple[str, str], ...]
    quantity: str
    text: str
    numbers: tuple[str, ...]
    scale: float
    beside: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class PrintedRow:
    """What a table says of one result: its keys, its numbers, and the quantities that it has a dash for."""

    keys: tuple[tuple[str, str], ...]
    cells: tuple[PrintedCell, ...]
    dashes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PrintedTable:
    """The rows of a table, and how many numbers are differences of encoders, which are no results of a run."""

    rows: tuple[PrintedRow, ...]
    differences: int = 0


def read_table(path: "str | Path") -> PrintedTable:
    """Read a .tex file with one or several tabulars, or a .csv of `--format csv`.

    Raises
    ------
    ParameterError where there is no table, a column or a cell cannot be read: nothing is passed over.
    """
    path = Path(path).expanduser()
    try:
        text = path.read_text(encoding="utf-8-sig")  # spreadsheets put a mark before the text
    except UnicodeDecodeError as error:
        raise ParameterError(f"{path} is not UTF-8 text: give a .tex or .csv file") from error
    table = _csv(text, path) if path.suffix.lower() in (".csv", ".tsv") else _latex(text, path)
    if not any(row.cells for row in table.rows):
        if table.differences:
            raise _only_differences(path)
        raise ParameterError(f"{path} holds no number of a table that could be verified")
    return table


def decimals(number: str) -> int:
    """Decimal places that a number is written with; below 0 where its last digit stands for tens.

    >>> [decimals(number) for number in ("0.50", "5e-1", "5", "1.5e3")]
    [2, 1, 0, -2]
    """
    digits, _, power = number.strip().lower().partition("e")
    return len(digits.partition(".")[2]) - int(power or 0)


def _csv(text: str, path: Path) -> PrintedTable:
    names = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text), delimiter=max(SEPARATORS, key=names.count))
    try:
        lines = [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise ParameterError(f"{path}, line {reader.line_num}: {error}; give what --format csv prints") from error
    head = lines[0][1] if lines else []
    _check_head(head, path)
    rows = []
    for line, cells in lines[1:]:
        if len(cells) != len(head):
            raise ParameterError(f"{path}, line {line}: it has {len(cells)} cells, the head {len(head)}")
        rows.append((f"{path}, line {line}", dict(zip(head, cells, strict=True))))
    runs_named = any(row.get("run") for _, row in rows)
    results = _Results()
    for place, row in rows:
        if runs_named and not row["run"]:
            raise ParameterError(f"{place}: it names no run, and other lines do")
        results.add(_csv_cell(row, place), row.get("path", ""))
    return PrintedTable(results.rows)


@dataclass(frozen=True, slots=True)
class _Results:
    """Lines of one number each, put together by result: a quantity that a result has is another's of the same keys."""

    found: dict[tuple[object, ...], list[dict[str, PrintedCell]]] = field(default_factory=dict)

    def add(self, cell: PrintedCell, path: str) -> None:
        keys = {**UNSAID, **dict(cell.keys)}
        alike = self.found.setdefault((path, *sorted(keys.items())), [])
        for cells in alike:
            if cell.quantity not in cells:
                cells[cell.quantity] = cell
                return
        alike.append({cell.quantity: cell})

    @property
    def rows(self) -> tuple[PrintedRow, ...]:
        every = (cells for alike in self.found.values() for cells in alike)
        return tuple(PrintedRow(next(iter(cells.values())).keys, tuple(cells.values())) for cells in every)


def _only_differences(path: Path) -> ParameterError:
    return ParameterError(
        f"{path} is a table of differences, which cannot be verified: give the table of each run, as "
        "ssl-risk-rs decompose --format csv or report --latex prints it"
    )


def _check_head(head: list[str], path: Path) -> None:
    if "difference" in head:
        raise _only_differences(path)
    if not {"encoder", "quantity", "estimate"} <= set(head):
        raise ParameterError(f"{path} has no columns encoder, quantity and estimate: give what --format csv prints")
    for name in head:
        if name not in RESULT_COLUMNS:
            raise ParameterError(f"{path}: column {name!r} cannot be verified: remove it")
        if head.count(name) > 1:
            raise ParameterError(f"{path} has two columns {name!r}: remove one of them")


def _csv_cell(row: Mapping[str, str], place: str) -> PrintedCell:
    if row["quantity"] not in QUANTITIES:
        raise ParameterError(f"{place}: {row['quantity']!r} is no quantity")
    said = {name: row[name].strip() for name in ("estimate", *_BESIDE) if name in row}
    beside = {name: text for name, text in said.items() if text and name != "estimate"}
    for name in ("estimate", *beside):
        if name not in _WORDS and not _FLOAT.fullmatch(said[name]):
            comma = ": write it with a decimal point" if _FLOAT.fullmatch(said[name].replace(",", ".")) else ""
            raise ParameterError(f"{place}: {name} {said[name][:40]!r} is no number{comma}")
    keys = tuple((name, row[name]) for name in (*KEYS, "group") if row.get(name))
    ends = (beside.pop("low"), beside.pop("high")) if {"low", "high"} <= set(beside) else ()
    numbers = (said["estimate"], *ends)
    return PrintedCell(keys, row["quantity"], ", ".join(numbers), numbers, 1.0, tuple(beside.items()))


def _latex(text: str, path: Path) -> PrintedTable:
    text = re.sub(r"(?<!\\)%.*", "", text)
    differences = 0
    found = re.findall(r"\\begin\{tabular[*x]?\}.*?\\end\{tabular[*x]?\}", text, re.DOTALL)
    if not found:
        raise ParameterError(f"{path} holds no tabular: give a table as ssl-risk-rs report --latex writes it")
    printed: list[PrintedRow] = []
    for tabular in found:
        body = re.sub(r"^\\begin\{tabular[*x]?\}(?:\{[^{}]*\})+|\\end\{tabular[*x]?\}$", "", tabular).strip()
        lines = [line.strip() for line in re.split(r"\\\\(?:\[[^\]]*\])?", _RULES.sub("", body))]
        head, *rows = [_split(line) for line in lines if line]
        columns = [_column(cell, path) for cell in head]
        for row in rows:
            if len(row) != len(columns):
                raise ParameterError(f"{path}: a row has {len(row)} cells, its head {len(columns)}: {' & '.join(row)}")
        numbers = [
            (name, cell)
            for row in rows
            for (kind, name), cell in zip(columns, row, strict=True)
            if kind == "quantity" and cell not in _DASHES
        ]
        if _are_differences(numbers, path):
            differences += len(numbers)
        else:
            printed += [_row(columns, row, path) for row in rows]
    return PrintedTable(tuple(printed), differences)


def _row(columns: Sequence[tuple[str, str]], row: Sequence[str], path: Path) -> PrintedRow:
    together = list(zip(columns, row, strict=True))
    keys = tuple((name, cell) for (kind, name), cell in together if kind == "key" and cell)
    quantities = [(name, cell) for (kind, name), cell in together if kind == "quantity"]
    cells = tuple(_cell(keys, name, cell, path) for name, cell in quantities if cell not in _DASHES)
    return PrintedRow(keys, cells, tuple(name for name, cell in quantities if cell in _DASHES))


def _are_differences(numbers: Sequence[tuple[str, str]], path: Path) -> bool:
    """Whether a tabular's numbers, by quantity, are differences: those have signs, and a total below zero is no error.

    Raises
    ------
    ParameterError where some are and some cannot be.
    """
    plain = [_LOOKS.sub("", _MARK.sub("", cell)).strip() for _, cell in numbers]
    signed = [
        cell for (name, _), cell in zip(numbers, plain, strict=True)
        if cell.startswith("+") or (name == "agg_risk" and cell.startswith("-") and cell[1:2].isdigit())
    ]  # fmt: skip
    unsigned = [cell for cell in plain if not cell.startswith(("+", "-"))]
    if signed and unsigned:
        raise ParameterError(
            f"{path}: a table of differences has signs on all numbers, one of results on none above zero: "
            f"{signed[0]!r} stands beside {unsigned[0]!r}"
        )
    return bool(signed)


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
