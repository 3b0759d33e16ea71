"""A table of columns → features, labels and what lies beside them: what parquet and csv files share.

The features are one column of lists, or a numbered family of columns (one prefix, numbers that follow each other
from 0 or 1), or what the caller names. No other column of numbers ever becomes a feature: a row index, an age, a
second label would.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ssl_risk_rs._float32 import refuse_lost_spread
from ssl_risk_rs._notes import Note
from ssl_risk_rs._tables import find_column, has_no_text, text_column
from ssl_risk_rs.bank.formats.rows import as_ids, texts
from ssl_risk_rs.bank.formats.table import FeatureFile, FeatureTable, some
from ssl_risk_rs.errors import DataError, ParameterError, ShapeError

if TYPE_CHECKING:
    import polars as pl

__all__ = [
    "IDS", "LABELS", "chosen_names", "features_of_columns", "further_columns", "plain_column", "says_what_rows_are",
    "splits_of_column", "table_of_columns",
]  # fmt: skip

LABELS = ("label", "y", "target")
IDS = ("sample_id", "id")
VECTORS = ("features", "x")
#: names that belong to rows, not to features: taken for features only where the caller names them
_OF_ROWS = {"split", "row", "group", "groups", "path"}
#: prefixes of families that say what a row is: label_0, label_1 would tell the class
_NO_FEATURES = re.compile(
    r"(label|target|class|y|id|sample|row|index|group|patient|subject|slide|scene|fold|split)s?(_?id)?", re.IGNORECASE
)


def table_of_columns(frame: "pl.DataFrame", path: Path, chosen: str | Sequence[str] | None) -> FeatureFile:
    """The table of a file of columns.

    Parameters
    ----------
    chosen : the feature columns: names or patterns ("f*"), in one text divided by commas or in a sequence;
        default: a column of lists, or a numbered family

    Raises
    ------
    DataError if columns are missing, or if it is not known which are the features, with the line that selects
    them; ShapeError for lists that differ in length.
    """
    if not frame.height:
        raise DataError(f"{path} has no rows")
    roles = _Roles.of(frame, path)
    names = roles.named_by_caller(chosen) if chosen is not None else roles.found()
    notes = []
    single = len(names) == 1 and _is_list(frame.schema[names[0]])
    x = _matrix_of_lists(frame[names[0]], path) if single else _matrix_of_columns(frame, names, path)
    beside = [name for name in frame.columns if name not in {*names, roles.label, roles.split, roles.ids, roles.row}]
    columns, left_out = further_columns(frame, beside)
    numbers = [name for name in columns if frame.schema[name].is_numeric() and name.lower() not in _OF_ROWS]
    if numbers:
        if single:
            features = f"the lists of column {names[0]!r}"
        else:
            features = f"columns {names[0]} to {names[-1]}" if len(names) > 1 else f"column {names[0]}"
        values: dict[str, str | int | float] = {"n_features": int(x.shape[1]), "features": features}
        values |= {"file": str(path), "count": len(numbers), "columns": some(numbers)}
        notes.append(Note("columns_not_features", values))
    if left_out:
        values = {"file": str(path), "count": len(left_out), "columns": some(left_out)}
        notes.append(Note("columns_left_out", values))
    ids = None
    if roles.ids is not None:
        where = f"{path}: column {roles.ids!r}"
        ids = as_ids(plain_column(frame[roles.ids], where), frame.height, where)
    table = FeatureTable(
        x,
        plain_column(frame[roles.label], f"{path}: column {roles.label!r}"),
        f"{path}: column {names[0]!r}" if single else str(path),
        f"{path}: column {roles.label!r}",
        None if roles.split is None else splits_of_column(frame[roles.split], path),
        ids,
        columns,
        None if single else tuple(names),
    )
    return FeatureFile((table,), (path,), notes=tuple(notes))


def features_of_columns(frame: "pl.DataFrame", path: Path, chosen: str | Sequence[str] | None) -> np.ndarray:
    """The matrix (n, d) of a file of columns that needs no label: a column of lists, a numbered family, or `chosen`."""
    roles = _Roles(frame, path, "", None, None, None)
    names = roles.named_by_caller(chosen) if chosen is not None else roles.found()
    if len(names) == 1 and _is_list(frame.schema[names[0]]):
        return _matrix_of_lists(frame[names[0]], path)
    return _matrix_of_columns(frame, names, path)


def further_columns(frame: "pl.DataFrame", names: Iterable[str]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Columns of plain values as arrays, and the names of those that are none (nested, durations, or empty)."""
    columns, left_out = {}, []
    for name in names:
        column = frame[name]
        if has_no_text(column.dtype) or column.null_count() == len(column):
            left_out.append(name)
        else:
            columns[name] = plain_column(column, f"column {name!r}")
    return columns, [name for name in left_out if name.lower() != "path"]


@dataclass(frozen=True, slots=True)
class _Roles:
    """Which column is what."""

    frame: "pl.DataFrame"
    path: Path
    label: str
    split: str | None
    ids: str | None
    row: str | None

    @classmethod
    def of(cls, frame: "pl.DataFrame", path: Path) -> "_Roles":
        def find(*names: str) -> str | None:
            return find_column(frame.columns, names, path)

        label = find(*LABELS)
        if label is None:
            raise DataError(
                f"{path} has no column 'label' (or {' or '.join(map(repr, LABELS[1:]))}); it has {some(frame.columns)}"
            )
        return cls(frame, path, label, find("split"), find(*IDS), find("row"))

    def numeric(self) -> list[str]:
        """Columns of numbers without a role."""
        taken = {self.label, self.split, self.ids, self.row}
        return [
            name
            for name, dtype in self.frame.schema.items()
            if dtype.is_numeric() and name not in taken and name.lower() not in _OF_ROWS
        ]

    def named_by_caller(self, chosen: str | Sequence[str]) -> list[str]:
        """The columns that names and patterns select; those of a pattern in the order of the numbers in their names."""
        wanted = chosen_names(chosen)
        if not wanted:
            raise ParameterError("--features-columns (features_columns) names no column")
        names: list[str] = []
        for name in wanted:
            if name in self.frame.columns:
                hits = [name]
            else:
                usable = [*self.numeric(), *self._lists()]
                hits = sorted((column for column in usable if fnmatchcase(column, name)), key=_natural)
            if not hits:
                raise DataError(
                    f"{self.path} has no column of numbers {name!r} (--features-columns); it has "
                    f"{some(self.frame.columns)}"
                )
            names += [hit for hit in hits if hit not in names]
        for name in names:
            if name in (self.label, self.split, self.ids):
                raise ParameterError(f"{self.path}: column {name!r} tells label, split or identifier; it is no feature")
            dtype = self.frame.schema[name]
            if _is_list(dtype) and len(names) > 1:
                raise ParameterError(f"{self.path}: column {name!r} holds lists; name it alone in --features-columns")
            if not dtype.is_numeric() and not _is_list(dtype) and str(dtype) != "Boolean":
                raise self._no_number(name)
        return names

    def found(self) -> list[str]:
        """The columns that are features without a doubt."""
        lists, families = self._feature_lists(), self._families()
        vector = next((name for name in lists if name.lower() in VECTORS), None)
        if vector is not None:
            return [vector]
        if lists and families:
            prefix, members = max(families.items(), key=lambda family: len(family[1]))
            raise self._ask(
                f"has a column of lists ({some(lists)}) and columns {members[min(members)]} to {members[max(members)]}",
                [f"{prefix}*"],
            )
        if len(lists) == 1:
            return lists
        if lists:
            raise self._ask(f"has {len(lists)} columns of lists ({some(lists)})", [lists[0]])
        if len(families) == 1:
            prefix, members = next(iter(families.items()))
            return self._checked_family(prefix, members)
        numeric = self.numeric()
        if families:
            said = " and ".join(
                f"{members[0]} to {members[-1]}" for members in map(list, map(dict.values, families.values()))
            )
            prefix, members = max(families.items(), key=lambda family: len(family[1]))
            raise self._ask(f"has {len(families)} numbered families of columns ({said})", [f"{prefix}*"])
        if not numeric:
            raise DataError(
                f"{self.path} has no feature columns: no column of lists and none of numbers beside label, split and "
                f"identifier; it has {some(self.frame.columns)}{self._commas()}"
            )
        columns = "1 column" if len(numeric) == 1 else f"{len(numeric)} columns"
        what = f"has {columns} of numbers that may or may not be features ({some(numeric)})"
        raise self._ask(what, numeric if len(numeric) <= 12 else ["*"])

    def _lists(self) -> list[str]:
        return [name for name, dtype in self.frame.schema.items() if _is_list(dtype) and name != self.label]

    def _feature_lists(self) -> list[str]:
        """Columns of lists whose name does not say that they tell what a row is."""
        taken = {self.label, self.split, self.ids, self.row}
        return [name for name in self._lists() if name not in taken and not says_what_rows_are(name)]

    def _families(self) -> dict[str, dict[int, str]]:
        """prefix → number → column, of two numeric columns at least, that begin at 0 or 1."""
        taken = {self.label, self.split, self.ids, self.row}
        families: dict[str, dict[int, str]] = {}
        for name in self.frame.columns:
            match = re.fullmatch(r"(.*?)([0-9]{1,18})", name, re.DOTALL)
            if match is None or name in taken:
                continue
            if says_what_rows_are(match[1]):
                continue
            families.setdefault(match[1], {}).setdefault(int(match[2]), name)
        numeric = set(self.numeric())
        return {
            prefix: dict(sorted(members.items()))
            for prefix, members in families.items()
            if sum(name in numeric for name in members.values()) > 1 and min(members) in (0, 1)
        }

    def _checked_family(self, prefix: str, members: Mapping[int, str]) -> list[str]:
        first = min(members)
        missing = [number for number in range(first, first + len(members)) if number not in members]
        if missing:
            raise self._ask(
                f"has columns {members[first]} to {members[max(members)]}, but no {prefix}{missing[0]}", [f"{prefix}*"]
            )
        for name in members.values():
            if not self.frame.schema[name].is_numeric():
                raise self._no_number(name)
        return list(members.values())

    def _ask(self, what: str, select: Sequence[str]) -> DataError:
        line = ",".join(select)
        return DataError(
            f"{self.path} {what}; name the columns that are features: --features-columns '{line}' "
            f"(features_columns={line!r}){self._commas()}"
        )

    def _commas(self) -> str:
        """What is said of columns whose numbers are text here."""
        import polars as pl

        for name in self.frame.columns:
            column = self.frame[name]
            if name in (self.label, self.ids) or column.dtype != pl.String:
                continue
            with_comma = column.str.contains(r"^\s*[-+]?[0-9]+,[0-9]+\s*$")
            if with_comma.any() and column.str.contains(r"^\s*[-+]?[0-9]+(,[0-9]+)?\s*$").all():
                example = column[int(with_comma.arg_max() or 0)]
                return (
                    f". Column {name!r} holds decimal commas, such as {example!r}, and is text for that: write "
                    f"{example.replace(',', '.')!r}"
                )
        return ""

    def _no_number(self, name: str) -> DataError:
        import polars as pl

        column = self.frame[name]
        text = f"{self.path}: column {name!r} is {column.dtype}, expected numbers"
        if column.dtype == pl.String:
            # the text "nan" can be cast to a number, yet it is what made the column one of text
            finite = column.cast(pl.Float64, strict=False).is_finite().fill_null(False)
            wrong = ~finite & column.is_not_null()
            if wrong.any():
                row = int(wrong.arg_max() or 0)
                text += f": row {row} has {column[row]!r}"
        return DataError(f"{text}; remove the column or those rows")


def chosen_names(chosen: str | Sequence[str] | None) -> list[str]:
    """Names and patterns of the feature columns, as a caller gives them."""
    wanted = [part.strip() for part in chosen.split(",")] if isinstance(chosen, str) else list(chosen or ())
    return [name for name in wanted if name]


def says_what_rows_are(name: str) -> bool:
    """Whether a column's name, or the prefix of a family, is that of labels, groups and the like."""
    return bool(_NO_FEATURES.fullmatch(name.strip("_-. ")))


def _is_list(dtype: "pl.DataType") -> bool:
    import polars as pl

    return isinstance(dtype, (pl.List, pl.Array))


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorting key in which f2 comes before f10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]{1,18})", name) if part]


def plain_column(column: "pl.Series", where: str) -> np.ndarray:
    """A column as numbers, or as an object array where it holds text or gaps.

    Raises
    ------
    DataError for a type that has no text.
    """
    import polars as pl

    dtype = column.dtype
    if dtype.is_nested():
        return np.asarray(column.to_list(), dtype=object) if not column.null_count() else texts(column.to_list())
    if has_no_text(dtype):
        raise DataError(f"{where} is {dtype}; write text or whole numbers there")
    if dtype.is_numeric() and (dtype.is_decimal() or str(dtype) in ("Int128", "UInt128")):
        column = column.cast(pl.Float64)
    if column.null_count() == 0 and (dtype.is_numeric() or dtype == pl.Boolean):
        return column.to_numpy()
    if dtype in (pl.Categorical, pl.Enum) or dtype.is_temporal():
        column = column.cast(pl.String)
    array = np.empty(len(column), object)
    array[:] = column.to_list()
    return array


def splits_of_column(column: "pl.Series", path: Path) -> np.ndarray:
    """A column of train and test, as text."""
    if column.null_count():
        row = int(column.is_null().arg_max() or 0)
        raise DataError(f"{path}: split is empty in row {row}; write train or test")
    text = text_column(column, f"{path}: column {column.name!r}")
    other = set(text.unique().to_list()) - {"train", "test"}
    if other:
        raise DataError(f"{path}: split {min(other)!r} is neither train nor test; drop those rows")
    return np.array(text.to_list(), dtype=str)


def _matrix_of_columns(frame: "pl.DataFrame", names: list[str], path: Path) -> np.ndarray:
    """Columns of numbers → (n, d)."""
    import polars as pl

    picked = frame.select(names)
    for name in names:
        if picked[name].null_count():
            row = int(picked[name].is_null().arg_max() or 0)
            raise DataError(
                f"{path}: row {row}, column {name!r} is empty ({picked[name].null_count():,} rows of it are); each "
                "feature needs a value: fill it, or remove the row"
            )
        if picked[name].dtype.is_integer() and str(picked[name].dtype) not in ("Int128", "UInt128"):
            # beside floats they become float64, which rounds them beyond 2⁵³
            refuse_lost_spread(picked[name].to_numpy()[:, None], str(path), (name,))
    odd = [
        name for name in names if picked[name].dtype.is_decimal() or str(picked[name].dtype) in ("Int128", "UInt128")
    ]
    return picked.with_columns(pl.col(odd).cast(pl.Float64)).to_numpy() if odd else picked.to_numpy()


def _matrix_of_lists(column: "pl.Series", path: Path) -> np.ndarray:
    """A column of equally long lists → (n, d)."""
    import polars as pl

    where = f"{path}: column {column.name!r}"
    if column.null_count():
        raise DataError(f"{where} is empty in row {int(column.is_null().arg_max() or 0)}; each row needs its features")
    if isinstance(column.dtype, pl.Array):
        inner = column.dtype.inner
        if len(column.dtype.shape) > 1:
            raise ShapeError(
                f"{where} holds arrays of shape {column.dtype.shape}; flatten or pool each row to one vector"
            )
        width = column.dtype.shape[0]
        flat = column.explode() if width else column
    else:
        assert isinstance(column.dtype, pl.List)
        inner = column.dtype.inner
        lengths = column.list.len()
        width = int(lengths[0])
        differ = lengths != width
        if differ.any():
            row = int(differ.arg_max() or 0)
            raise ShapeError(
                f"{where} has lists of lengths {some([str(n) for n in sorted(lengths.unique().to_list())], 5)} (row 0 "
                f"has {width}, row {row} has {lengths[row]}); pool each row to one vector of equal length"
            )
        flat = column.explode() if width else column
    if isinstance(inner, type) or not inner.is_numeric():
        raise DataError(f"{where} holds lists of {inner}, expected lists of numbers")
    if not width:
        raise ShapeError(f"{where} has empty lists: no features")
    if flat.null_count():
        position = int(flat.is_null().arg_max() or 0)
        raise DataError(
            f"{where}: row {position // width}, feature {position % width} is empty; fill it, or remove the row"
        )
    if inner.is_decimal() or str(inner) in ("Int128", "UInt128"):
        flat = flat.cast(pl.Float64)
    return flat.to_numpy().reshape(len(column), width)
