"""Named arrays → tables: what npz, npy folders, safetensors and torch files share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ssl_risk_rs._notes import Note
from ssl_risk_rs.bank.formats.rows import as_column, as_ids
from ssl_risk_rs.bank.formats.table import FeatureFile, FeatureTable, Split, some
from ssl_risk_rs.errors import DataError

__all__ = ["KEYS", "READ_AT_ONCE", "ROUNDED_LABELS", "Arrays", "Unusable", "is_label", "tables_of_arrays"]

#: what a file of arrays may hold
KEYS = (
    "X_train, y_train, X_test, y_test (or X, y); optional ids_train, ids_test (or ids), class_names, and further "
    "vectors NAME_train, NAME_test (or NAME), for example groups"
)
#: bytes of a file that is read at once, and not mapped: a process ends without a word where a file that it has mapped
#: is cut off, as whoever writes one anew does first
READ_AT_ONCE = 1 << 28
_IDS = ("ids", "sample_id", "sample_ids")
#: columns that a bank has itself
RESERVED = frozenset({"row", "split", "sample_id", "label"})


@dataclass(frozen=True, slots=True)
class Unusable:
    """Something with a name that is no array of numbers or text."""

    #: "is a sparse tensor; save X.to_dense()"
    reason: str


#: bfloat16 has 8 significant bits: label 257 would become 256
ROUNDED_LABELS = Unusable("is bfloat16, in which whole numbers beyond 256 are rounded; save labels as integers")


def is_label(name: str) -> bool:
    """Whether an array of this name holds labels."""
    return name.lower() in ("y", "y_train", "y_test")


Arrays = Mapping[str, np.ndarray | Unusable]


def tables_of_arrays(arrays: Arrays, path: Path, files: Sequence[Path] | None = None) -> FeatureFile:
    """Tables from named arrays. Names are compared without regard to case.

    Raises
    ------
    DataError if an array is missing, naming those there are, or cannot be used.
    """
    found = _Names(arrays, path)
    class_names = found.class_names()
    if found.has("X") and not found.has("X_train"):
        tables = [found.table("", None)]
    else:
        splits: tuple[Split, Split] = ("train", "test")
        tables = [found.table(f"_{split}", split) for split in splits]
        one, other = (table.ids is None for table in tables)
        if one != other:
            lacking = splits[0] if one else splits[1]
            raise DataError(f"{path} has identifiers of one part only; add ids_{lacking}, or leave both out")
    common = {name for name in tables[0].columns if all(name in table.columns for table in tables)}
    for table in tables:
        for name in table.columns:
            if name in common:
                found.used.add(f"{name}_{table.split}".lower() if table.split is not None else name.lower())
    tables = [
        FeatureTable(t.x, t.y, t.x_name, t.y_name, t.split, t.ids, {k: v for k, v in t.columns.items() if k in common})
        for t in tables
    ]
    return FeatureFile(tuple(tables), tuple(files or (path,)), class_names, found.left_out())


class _Names:
    """The arrays of a file, and which of them were used."""

    def __init__(self, arrays: Arrays, path: Path) -> None:
        self.arrays, self.path = arrays, path
        self.spelled: dict[str, str] = {}
        self.used: set[str] = set()
        for name in arrays:
            other = self.spelled.setdefault(name.lower(), name)
            if other != name:
                raise DataError(f"{path} has arrays {other!r} and {name!r}; keep one of them")

    def has(self, name: str) -> bool:
        return name.lower() in self.spelled

    def get(self, name: str) -> np.ndarray:
        if not self.has(name):
            there = some(sorted(self.arrays)) or "nothing"
            raise DataError(f"{self.path} has no array {name!r}; it has {there}. Needed: {KEYS}")
        self.used.add(name.lower())
        value = self.arrays[self.spelled[name.lower()]]
        if isinstance(value, Unusable):
            raise DataError(f"{self.path}: {self.spelled[name.lower()]} {value.reason}")
        return value

    def called(self, name: str) -> str:
        """What messages call an array."""
        return f"{self.path}: {self.spelled[name.lower()]}"

    def class_names(self) -> list[str] | None:
        if not self.has("class_names"):
            return None
        names = as_column(self.get("class_names").ravel(), self.called("class_names"))
        if names is None:
            raise DataError(f"{self.called('class_names')} is no list of names")
        return [str(name) for name in names.tolist()]

    def table(self, end: str, split: Split | None) -> FeatureTable:
        x, y = self.get(f"X{end}"), self.get(f"y{end}")
        n = len(x) if x.ndim else 0
        ids = next((name + end for name in _IDS if self.has(name + end)), None)
        return FeatureTable(
            x,
            y,
            self.called(f"X{end}"),
            self.called(f"y{end}"),
            split,
            None if ids is None else as_ids(self.get(ids), n, self.called(ids)),
            self._columns(end, n),
        )

    def _columns(self, end: str, n: int) -> dict[str, np.ndarray]:
        """Further vectors of n rows; whether they are used depends on the other part."""
        columns = {}
        for lower, name in self.spelled.items():
            value = self.arrays[name]
            stem = name[: len(name) - len(end)]
            if lower in self.used or not lower.endswith(end) or not stem or isinstance(value, Unusable):
                continue
            if stem.lower() in RESERVED or value.ndim == 0 or len(value) != n:
                continue
            column = as_column(value, f"{self.path}: {name}")
            if column is not None:
                columns[stem] = column
        return columns

    def left_out(self) -> tuple[Note, ...]:
        names = sorted(name for lower, name in self.spelled.items() if lower not in self.used)
        if not names:
            return ()
        return (Note("arrays_left_out", {"file": str(self.path), "count": len(names), "arrays": some(names)}),)
