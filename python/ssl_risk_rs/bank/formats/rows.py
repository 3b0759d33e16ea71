"""What lies beside the features of a row: its identifier and further columns."""

from collections.abc import Iterable

import numpy as np

from ssl_risk_rs.errors import DataError, ShapeError

__all__ = ["as_column", "as_ids", "joined", "texts"]


def texts(values: Iterable[object]) -> np.ndarray:
    """An object array, of text as a rule: unlike NumPy's own, as large as its texts, and with None."""
    given = list(values)
    array = np.empty(len(given), object)
    array[:] = given
    return array


def as_column(values: np.ndarray, name: str) -> np.ndarray | None:
    """A further column of n rows in native types: numbers, or an object array of text and gaps; else None."""
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1 or values.dtype.kind not in "biufUSTO":
        return None
    if values.dtype.kind == "S":
        return texts(_decoded(value, row, name) for row, value in enumerate(values.tolist()))
    if values.dtype.kind in "UTO":
        return texts(v if v is None or isinstance(v, (bool, int, float)) else str(v) for v in values.tolist())
    return np.array(values, dtype=values.dtype.newbyteorder("="))


def as_ids(values: np.ndarray, n: int, name: str) -> list[str]:
    """Identifier of each of n rows, as text: whole numbers by their digits, whatever their type."""
    column = as_column(np.asanyarray(values), name)
    if column is None:
        raise DataError(f"{name} is {values.dtype} of shape {values.shape}; an identifier is text or a whole number")
    if len(column) != n:
        raise ShapeError(f"{name} has {len(column)} rows, the features have {n}; each row needs one")
    if column.dtype.kind == "f":
        wrong = ~((column == np.round(column)) & np.isfinite(column))
        if wrong.any():
            row = int(wrong.argmax())
            raise DataError(f"{name}: row {row} is {column[row]}; an identifier is text or a whole number")
        return [str(int(value)) for value in column.tolist()]
    ids = column.tolist()
    if None in ids:
        raise DataError(f"{name}: row {ids.index(None)} is empty; each row needs an identifier")
    return [str(value) for value in ids]


def joined(parts: list[np.ndarray]) -> np.ndarray:
    """Rows of several parts of a column; where one holds numbers and another text, all become text."""
    if any(part.dtype == object for part in parts) and len({part.dtype for part in parts}) > 1:
        values = [value for part in parts for value in part.tolist()]
        if any(isinstance(value, str) for value in values):
            values = [None if value is None else str(value) for value in values]
        return texts(values)
    return np.concatenate(parts)


def _decoded(value: bytes, row: int, name: str) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise DataError(f"{name}: row {row} is {value!r}, which is no UTF-8 text") from None
