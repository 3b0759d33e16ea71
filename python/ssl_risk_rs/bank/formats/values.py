"""Feature values: what may be one, and their conversion to float16 or float32 with the user's row in every message."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ssl_risk_rs._float32 import FLOAT16_MAX, drawn, refuse_lost_spread
from ssl_risk_rs.errors import DataError, ParameterError, ShapeError

__all__ = ["FeatureBlock", "check_matrix"]

#: values converted at a time: 16 MB of float32
CHUNK_VALUES = 4 << 20


@dataclass(frozen=True, slots=True)
class FeatureBlock:
    """Rows of a file's array, perhaps mapped, perhaps some of them only."""

    #: (m, d), numbers of any type and order
    values: np.ndarray
    #: what messages call it: file and array, or file and column
    name: str
    #: name of each feature, where each is a column of the file
    feature_names: tuple[str, ...] | None = None
    #: int64, ascending: the rows of `values` that count; all if None
    rows: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.values) if self.rows is None else len(self.rows)

    @property
    def n_features(self) -> int:
        return int(self.values.shape[1])

    def floats(self, which: np.ndarray | None = None) -> np.ndarray:
        """Rows as float16 or float32, row-major, every value finite.

        Parameters
        ----------
        which : ascending positions among the block's rows; all if None. Adjacent rows that are floats in row-major
            order already are not copied.

        Raises
        ------
        ParameterError for a value that is not finite or beyond float32, naming the row of the user's file.
        """
        rows = self.rows if which is None else which if self.rows is None else self.rows[which]
        x, dtype = self.values, _dtype(self.values)
        if rows is not None and _adjacent(rows):
            x, rows = _take(x, rows), None
        if rows is None and x.dtype == dtype and x.flags.c_contiguous and x.flags.aligned:
            for start, stop in _chunks(len(x), self.n_features):
                if not _finite(x[start:stop]):
                    raise self._refusal()
            return x
        n = len(x) if rows is None else len(rows)
        out = np.empty((n, self.n_features), dtype)
        for start, stop in _chunks(n, self.n_features):
            with np.errstate(over="ignore", invalid="ignore"):
                out[start:stop] = x[start:stop] if rows is None else _take(x, rows[start:stop])
            if not _finite(out[start:stop]):
                raise self._refusal()
        return out

    def check_spread(self, which: np.ndarray | None = None) -> None:
        """Refuse features that float32 makes all but constant.

        Parameters
        ----------
        which : ascending positions among the block's rows, of those that a probe is fitted to; all if None
        """
        if self.values.dtype.kind == "f" and self.values.dtype.itemsize <= 4:
            return
        rows = np.arange(len(self.values)) if self.rows is None else self.rows
        rows = rows if which is None else rows[which]
        if len(rows):
            refuse_lost_spread(self.values[drawn(rows)], self.name, self.feature_names)

    def beyond_float16(self) -> ParameterError:
        """The error for a block that was to be float16."""
        count, row, column, value = self._first(lambda x: ~(np.abs(x) <= FLOAT16_MAX))
        return ParameterError(
            f"{self._at(row, column)} is {value:g}: beyond ±65504, the range of float16 ({_such(count)}); "
            "use --dtype float32 (dtype='float32')"
        )

    def _refusal(self) -> ParameterError:
        count, row, column, value = self._first(lambda x: ~np.isfinite(x))
        if count:
            said = "NaN" if np.isnan(value) else f"{value:g}"
            return ParameterError(
                f"{self._at(row, column)} is {said} ({_such(count)}); remove the row, or find out why the "
                "encoder gave it"
            )
        largest = float(np.finfo(np.float32).max)
        count, row, column, value = self._first(lambda x: np.abs(x) > largest)
        return ParameterError(
            f"{self._at(row, column)} is {value:g}: beyond ±3.4e38, the range of float32 ({_such(count)}); "
            "scale the features, or remove the row"
        )

    def _first(self, wrong: Callable[[np.ndarray], np.ndarray]) -> tuple[int, int, int, float]:
        """Number of values for which `wrong` holds, and row, feature and value of the first."""
        count, first = 0, (0, 0, 0.0)
        rows = np.arange(len(self.values)) if self.rows is None else self.rows
        for start, stop in _chunks(len(rows), self.n_features):
            x = _take(self.values, rows[start:stop])
            if x.dtype.kind != "f":
                continue  # whole numbers are finite, and within the range of float32
            hits = wrong(x)
            if not count and hits.any():
                row, column = np.argwhere(hits)[0].tolist()
                first = (int(rows[start + row]), column, float(x[row, column]))
            count += int(hits.sum())
        return count, *first

    def _at(self, row: int, column: int) -> str:
        if self.feature_names is None:
            return f"{self.name}: row {row}, feature {column}"
        return f"{self.name}: row {row}, column {self.feature_names[column]!r}"


def check_matrix(x: np.ndarray, name: str) -> None:
    """Refuse what is no matrix of numbers with a feature at least."""
    if x.dtype.kind not in "fiub":
        hint = {
            "c": "; take the real part, or real and imaginary part as features of their own",
            "O": "; save plain arrays of numbers",
        }.get(x.dtype.kind, "")
        raise DataError(f"{name} is {x.dtype}, expected numbers{hint}")
    if x.ndim > 2:
        what = "pool or flatten each row to one vector"
        if x.ndim == 4 or x.dtype == np.uint8:
            what += ", or, if these are images, encode them: ssl-risk-rs extract --data npz:FILE"
        raise ShapeError(f"{name} has shape {x.shape}, expected (n_samples, n_features); {what}")
    if x.ndim != 2:
        raise ShapeError(f"{name} has shape {x.shape}, expected (n_samples, n_features)")
    if x.shape[1] == 0:
        raise ShapeError(f"{name} has shape {x.shape}: no features")


def _such(count: int) -> str:
    return "the only such value" if count == 1 else f"{count:,} such values"


def _dtype(x: np.ndarray) -> np.dtype[np.float16] | np.dtype[np.float32]:
    """float16 stays, everything else becomes float32."""
    if x.dtype.kind == "f" and x.dtype.itemsize == 2:
        return np.dtype(np.float16)
    return np.dtype(np.float32)


def _adjacent(rows: np.ndarray) -> bool:
    """Whether ascending rows are a, a + 1, …; also if there are none."""
    return not len(rows) or int(rows[-1]) - int(rows[0]) + 1 == len(rows)


def _take(x: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Rows in ascending order; adjacent ones are not copied."""
    if not len(rows):
        return x[:0]
    taken: np.ndarray = x[int(rows[0]) : int(rows[-1]) + 1] if _adjacent(rows) else x[rows]
    return taken


def _finite(x: np.ndarray) -> bool:
    """Whether every float16 or float32 value is finite."""
    if x.dtype == np.float16:
        return not bool(((x.view(np.uint16) & 0x7C00) == 0x7C00).any())  # the exponent of infinity and NaN
    with np.errstate(over="ignore", invalid="ignore"):
        # a sum is one read without temporaries; it may overflow though all values are finite
        return bool(np.isfinite(x.sum())) or bool(np.isfinite(x).all())


def _chunks(n: int, n_features: int) -> Iterator[tuple[int, int]]:
    step = max(1, CHUNK_VALUES // n_features)
    for start in range(0, n, step):
        yield start, min(start + step, n)
