"""Representations as solvers take them: an array, blocks of rows, or a bank."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from jaxtyping import Float

from ssl_risk_rs import _core
from ssl_risk_rs._cpus import count_cpus
from ssl_risk_rs.errors import ParameterError, ShapeError

if TYPE_CHECKING:
    from ssl_risk_rs.bank import FeatureBank

__all__ = ["Features", "as_float_rows", "in_line"]

#: what `_core` takes
Source: TypeAlias = _core.Bank | list[np.ndarray]

#: bytes of arrays that one thread copies, and threads at most: a copy in memory is as fast with eight as with more
COPIED_AT_ONCE, MOST_COPIERS = 1 << 23, 8


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
        source = self.source
        if isinstance(source, _core.Bank):
            source.read_into(rows.astype(np.uint64), out, n_threads=n_threads)
            return
        if len(rows) and int(rows.max()) >= self.n_rows:
            raise ParameterError(f"row {int(rows.max())} asked for, there are {self.n_rows}")
        step = max(1, COPIED_AT_ONCE // max(1, self.n_features * out.itemsize))
        pieces = [slice(start, start + step) for start in range(0, len(rows), step)]
        copiers = min(len(pieces), MOST_COPIERS, n_threads or count_cpus())
        if copiers < 2:
            _copy_rows(source, rows, out)
            return
        with ThreadPoolExecutor(copiers, thread_name_prefix="copy") as pool:
            for _ in pool.map(lambda piece: _copy_rows(source, rows[piece], out[piece]), pieces):
                pass

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


def _copy_rows(blocks: list[np.ndarray], rows: np.ndarray, out: np.ndarray) -> None:
    """Copy rows of arrays that follow each other; numpy holds no lock meanwhile."""
    begin = 0
    for block in blocks:
        places = np.flatnonzero((rows >= begin) & (rows < begin + len(block)))
        numbers = rows[places] - np.uint32(begin)
        begin += len(block)
        if len(places) == 0:
            continue
        if not in_line(places):
            out[places] = block[numbers]
            continue
        target = out[places[0] : places[-1] + 1]
        if in_line(numbers):
            target[...] = block[numbers[0] : int(numbers[-1]) + 1]
        elif block.dtype == out.dtype:
            np.take(block, numbers, axis=0, out=target, mode="clip")  # in range; other modes make a copy first
        else:
            target[...] = block[numbers]


def in_line(numbers: np.ndarray) -> bool:
    """Whether each is one more than the last."""
    return int(numbers[-1]) - int(numbers[0]) + 1 == len(numbers) and bool((np.diff(numbers) == 1).all())


def as_float_rows(x: object, name: str) -> Float[np.ndarray, "n d"]:
    """A C-contiguous float16 or float32 array (n, d); float16 and float32 are not copied where they lie so.

    Raises
    ------
    ShapeError unless it has two dimensions; ParameterError unless it holds numbers.
    """
    if hasattr(x, "tocsr"):
        raise ParameterError(f"{name} is a sparse matrix; representations are dense: pass {name}.toarray()")
    array = np.asanyarray(x)
    if array.ndim != 2:
        raise ShapeError(f"{name} has shape {array.shape}, expected (n_samples, n_features)")
    if array.dtype not in (np.float16, np.float32):
        if array.dtype.kind not in "fiub":
            raise ParameterError(f"{name} has dtype {array.dtype}, expected numbers")
        array = array.astype(np.float32)
    return np.ascontiguousarray(array)
