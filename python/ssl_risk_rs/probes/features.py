"""Representations as solvers take them: an array, blocks of rows, or a bank."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from jaxtyping import Float

from ssl_risk_rs import _core
from ssl_risk_rs._float32 import refuse_lost_spread, refuse_masked, refuse_overflow
from ssl_risk_rs._tensors import of_tensor
from ssl_risk_rs.errors import ParameterError, ShapeError

if TYPE_CHECKING:
    from ssl_risk_rs.bank import FeatureBank

__all__ = ["Features", "as_float_rows", "column_names", "in_line", "refuse_not_finite", "refuse_other_columns"]

#: what `_core` takes
Source: TypeAlias = _core.Bank | list[np.ndarray]


@dataclass(frozen=True, slots=True)
class Features:
    """Rows of representations; `source` is borrowed by a solver, never copied.

    source : `_core.Bank`, or C-contiguous float16 or float32 arrays (n_i, d) whose rows follow each other
    """

    source: Source
    n_rows: int
    n_features: int

    @property
    def dtype(self) -> "np.dtype[np.generic]":
        """float16 if all rows are stored so, else float32."""
        if isinstance(self.source, _core.Bank):
            return np.dtype(self.source.dtype)
        return np.dtype(np.float16 if all(block.dtype == np.float16 for block in self.source) else np.float32)

    def read_into(self, rows: np.ndarray, out: np.ndarray, *, n_threads: int | None = None) -> None:
        """Copy `rows`, uint32 (m,), into `out`, (m, n_features) of `dtype`; by all CPUs unless `n_threads` says fewer.

        Raises
        ------
        BankError if a bank is incomplete or its file has shrunk; ParameterError for a row out of range.
        """
        _core.read_rows(self.source, np.ascontiguousarray(rows, np.uint32), out, n_threads=n_threads)

    def read(self, rows: np.ndarray, *, n_threads: int | None = None) -> np.ndarray:
        """A copy of `rows`, uint32 (m,), as they are stored: (m, n_features) of `dtype`; see `read_into`."""
        out = np.empty((len(rows), self.n_features), self.dtype)
        self.read_into(rows, out, n_threads=n_threads)
        return out

    @classmethod
    def of_arrays(cls, *blocks: np.ndarray) -> "Features":
        """Rows of arrays that have the same features, checked by `as_float_rows`."""
        widths = {block.shape[1] for block in blocks}
        if len(widths) != 1:
            raise ShapeError(f"blocks of rows have {sorted(widths)} features; they must be equal")
        return cls(list(blocks), sum(len(block) for block in blocks), widths.pop())

    @classmethod
    def of_bank(cls, bank: "FeatureBank") -> "Features":
        """All rows of a feature bank."""
        return cls(bank.core, bank.n_rows, bank.n_features)


def in_line(numbers: np.ndarray) -> bool:
    """Whether each is one more than the last."""
    return int(numbers[-1]) - int(numbers[0]) + 1 == len(numbers) and bool((np.diff(numbers) == 1).all())


def refuse_not_finite(x: np.ndarray, name: str, rows: np.ndarray) -> None:
    """Name the first of these rows of an array that has NaN or infinity by its number there, where solvers, which have
    training and test rows one behind the other, would count on.

    Raises
    ------
    ParameterError naming row and feature.
    """
    with np.errstate(invalid="ignore"):
        total = x.sum(dtype=np.float64)
    if np.isfinite(total):
        return
    for block in np.array_split(rows, max(1, len(rows) // 4096)):
        bad = ~np.isfinite(x[block])
        if bad.any():
            at, feature = np.argwhere(bad)[0].tolist()
            value = float(x[block[at], feature])
            raise ParameterError(
                f"{name}: row {block[at]}, feature {feature} is {'NaN' if np.isnan(value) else value}; remove the row, "
                "or find out why the encoder gave it"
            )


def as_float_rows(x: object, name: str, *, spread: bool = True) -> Float[np.ndarray, "n d"]:
    """A C-contiguous float16 or float32 array (n, d); float16 and float32 are not copied where they lie so. PyTorch
    tensors are taken from any device.

    Parameters
    ----------
    spread : whether each feature must keep its spread in float32: of rows that a probe is fitted to, not of a few
        that it judges

    Raises
    ------
    ShapeError unless it has two dimensions; ParameterError unless it holds numbers, none of them masked, that float32
    can tell apart.
    """
    if hasattr(x, "tocsr"):
        raise ParameterError(f"{name} is a sparse matrix; representations are dense: pass {name}.toarray()")
    refuse_masked(x, name)
    array = np.asarray(of_tensor(x))
    if array.ndim != 2:
        raise ShapeError(f"{name} has shape {array.shape}, expected (n_samples, n_features)")
    if array.dtype not in (np.float16, np.float32):
        if array.dtype.kind not in "fiub":
            raise ParameterError(f"{name} has dtype {array.dtype}, expected numbers")
        given = array
        with np.errstate(over="ignore", invalid="ignore"):
            array = given.astype(np.float32)
        refuse_overflow(given, array, name)
        if spread:
            refuse_lost_spread(given, name)
    return np.require(array, requirements=["C", "A"])  # of a map with an odd offset, values are not aligned


def refuse_other_columns(x: object, name: str, other: object, other_name: str) -> None:
    """Refuse two frames whose columns are not called alike, one after the other; arrays have no names.

    Raises
    ------
    ParameterError naming the first column that differs.
    """
    names, others = column_names(x), column_names(other)
    if names is None or others is None or names == others:
        return
    place = next(
        (i for i, (a, b) in enumerate(zip(names, others, strict=False)) if a != b), min(map(len, (names, others)))
    )
    there = [repr(of[place]) if place < len(of) else "missing" for of in (names, others)]
    raise ParameterError(
        f"{name} and {other_name} have other columns, or the same in another order: column {place} is {there[0]} in "
        f"{name} and {there[1]} in {other_name}; select the same columns in both, or give arrays"
    )


def column_names(x: object) -> list[str] | None:
    """Names of a frame's columns; None for what has none, or numbers for names, as pandas gives to an array."""
    columns = getattr(x, "columns", None)
    if columns is None:
        return None
    names = list(columns)
    return names if all(isinstance(name, str) for name in names) else None
