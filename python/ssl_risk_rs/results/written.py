"""Whether the rows of a results.parquet are the numbers of the run.json beside it."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssl_risk_rs._tables import read_parquet
from ssl_risk_rs.errors import DataError, ResultError, first_line
from ssl_risk_rs.results._json import from_json
from ssl_risk_rs.results.fewshot import ShotSize
from ssl_risk_rs.results.frames import COLUMNS, result_types
from ssl_risk_rs.results.metrics import ERROR

if TYPE_CHECKING:
    import polars as pl

__all__ = ["TABLE", "read_rows", "recorded_rows", "row_disagreement", "typed"]

#: the file of a run folder that holds the rows
TABLE = "results.parquet"

Cell = str | int | float | None
#: column → cell, of the columns below
Row = dict[str, Cell]

#: which number a row holds, and what the row says of it
KEYS = ("encoder", "data", "target", "probe", "protocol", "group", "shots", "metric", "quantity")
VALUES = ("estimate", "se", "low", "high", "confidence", "n", "n_groups", "df", "grade")
#: columns that every release wrote; one that lacks others is compared by those it has
_ALWAYS = ("encoder", "data", "probe", "protocol", "group", "quantity", "estimate")


def recorded_rows(document: Mapping[str, Any]) -> list[Row]:
    """Every number of a run.json, as a row of `KEYS` and `VALUES`; null for what is not finite.

    Raises
    ------
    KeyError, TypeError, ValueError, AttributeError for a document that is no run's.
    """
    rows: list[Row] = []
    for d in document["decompositions"]:
        head = {"data": document["data"], "target": document.get("target")}
        rows += _of_one(d, {**head, "group": "all", "encoder": document["encoder"]})
        if (control := d.get("control")) is not None:
            name = document.get("control") or "control"
            rows += _of_one(control, {**head, "group": "control", "encoder": name})
    return rows


def _of_one(d: Mapping[str, Any], head: Row) -> Iterator[Row]:
    """The rows of one decomposition: of all labels, of few-shot sizes, and in other metrics."""
    method = d["method"]
    head = {**head, "probe": method["probe"], "protocol": method["protocol"]}
    headline = method.get("metric", ERROR.name)
    sizes = [(from_json(ShotSize, shot["size"]).name, shot) for shot in d.get("shots", ())]
    parts = [
        (None, headline, d),
        *((name, headline, shot) for name, shot in sizes),
        *((None, other["metric"], other) for other in d.get("metrics", ())),
    ]
    for shots, metric, part in parts:
        for e in part["estimates"].values():
            said = {"grade": "sound", "confidence": method.get("confidence"), **e}
            values = {name: said.get(name) for name in VALUES}
            yield {**head, "shots": shots, "metric": metric, "quantity": e["quantity"], **values}


def read_rows(folder: Path, recorded: list[Row]) -> "pl.DataFrame":
    """The rows of a run folder's results.parquet, which are those that are recorded.

    Columns have the types of `result_types`; those that an older release did not write are not there.

    Raises
    ------
    ResultError if it cannot be read, has other columns, or other rows.
    """
    try:
        rows = read_parquet(folder / TABLE)
    except DataError as error:
        raise ResultError(f"{error}; take the {TABLE} of this run, or run it again") from error
    rows = typed(rows, folder)
    if (problem := row_disagreement(rows, recorded)) is not None:
        raise ResultError(
            f"{folder}: {TABLE} and run.json are not of the same run, or one of them was changed: {problem}. "
            "Take both files of one run, or run it again"
        )
    return rows


def typed(rows: "pl.DataFrame", folder: Path) -> "pl.DataFrame":
    """Rows with the types of their columns.

    Raises
    ------
    ResultError for a column that this release does not know, or values of another kind.
    """
    import polars as pl

    if unknown := [name for name in rows.columns if name not in COLUMNS]:
        raise ResultError(f"{folder} has a column that this release does not know: {unknown[0]}; upgrade it")
    if "metric" not in rows.columns:  # until there were others, every number was a 0-1 error
        rows = rows.with_columns(pl.lit(ERROR.name).alias("metric"))
    types = result_types()
    try:
        return rows.cast({name: types[name] for name in rows.columns})
    except pl.exceptions.PolarsError as error:
        reason = first_line(error)
        raise ResultError(f"{folder} is damaged: {TABLE} has values of another kind ({reason})") from error


def row_disagreement(rows: "pl.DataFrame", recorded: list[Row]) -> str | None:
    """The first difference between the rows of a results.parquet and those that are recorded; None if there is none.

    Columns that an older release did not write are not compared.
    """
    if missing := [name for name in _ALWAYS if name not in rows.columns]:
        return f"it has no column {missing[0]}"
    keys = [name for name in KEYS if name in rows.columns]
    values = [name for name in VALUES if name in rows.columns]
    there = sorted((_cells(row, (*keys, *values)) for row in rows.iter_rows(named=True)), key=repr)
    expected = sorted((_cells(row, (*keys, *values)) for row in recorded), key=repr)
    if there == expected:
        return None
    if [row[: len(keys)] for row in there] != [row[: len(keys)] for row in expected]:
        return f"it has {len(there)} numbers of its own, and {len(expected)} are recorded"
    one, other = next(pair for pair in zip(there, expected, strict=True) if pair[0] != pair[1])
    at = next(i for i in range(len(keys), len(one)) if one[i] != other[i])
    of = " ".join(str(cell) for cell in one[: len(keys)] if cell is not None)
    return f"{values[at - len(keys)]} of {of} is {one[at]}, and {other[at]} is recorded"


def _cells(row: Mapping[str, Cell], names: tuple[str, ...]) -> tuple[Cell, ...]:
    cells = (row[name] for name in names)
    return tuple(None if isinstance(cell, float) and not math.isfinite(cell) else cell for cell in cells)
