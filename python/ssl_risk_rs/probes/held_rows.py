"""The rows that one process holds, and what it computes of them when it is asked."""

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from ssl_risk_rs import _core
from ssl_risk_rs.errors import SslRiskError
from ssl_risk_rs.probes.features import Features
from ssl_risk_rs.probes.holders import Reply, Span
from ssl_risk_rs.probes.solver import OutcomeArrays, Precision

__all__ = ["Holder", "LocalHolders"]


class Holder:
    """The rows `begin` to `end` of a data set, in the process that has them.

    Its methods count rows from `begin`; labels and cells are those of its rows. A call needs nothing of an earlier one,
    so that another process with the same rows can take its place.

    Parameters
    ----------
    features : that hold the rows, the first of them at `offset`; of a feature bank only these are read
    """

    def __init__(self, features: Features, span: Span, *, offset: int = 0, n_threads: int | None = None) -> None:
        self.features = features
        self.span = span
        self.offset = offset
        self.n_threads = n_threads
        self._held: Any = None

    @classmethod
    def of_bank(cls, path: str, span: Span, n_threads: int | None = None) -> "Holder":
        """A range of a bank's rows."""
        from ssl_risk_rs.bank import FeatureBank

        return cls(Features.of_bank(FeatureBank.open(path)), span, offset=span[0], n_threads=n_threads)

    def _placed(self, values: np.ndarray) -> np.ndarray:
        """Values of its rows, by row of `features`; what is not its own is never touched, nor does it take memory."""
        placed = np.zeros(self.features.n_rows, values.dtype)
        placed[self.offset : self.offset + len(values)] = values
        return placed

    def _rows(self, rows: np.ndarray) -> np.ndarray:
        moved: np.ndarray = rows + np.uint32(self.offset)
        return moved

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        """An error that names a row says where rows are counted from, where that is not row 0."""
        try:
            yield
        except SslRiskError as error:
            if self.offset == self.span[0]:
                raise
            raise type(error)(f"in the rows from {self.span[0]} on, counted from there: {error}") from error

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Some rows, (m, n_features): a sample, never all."""
        return self.features.read(self._rows(rows))

    def moments(
        self,
        rows: np.ndarray,
        labels: np.ndarray,
        cells: np.ndarray,
        shift: np.ndarray,
        n_classes: int,
        n_cells: int,
        precision: Precision,
    ) -> bytes:
        """Statistics of `rows` by cell, as the bytes of a file of `Moments.save`."""
        moments = _core.Moments(len(shift), n_classes, n_cells=n_cells, shift=shift, precision=precision)
        placed, cell_of = self._placed(labels), self._placed(cells)
        with self._counted():
            moments.update(self.features.source, placed, self._rows(rows), cell_of, n_threads=self.n_threads)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "part.moments")
            moments.save(file)
            return file.read_bytes()

    def judge(
        self, rows: np.ndarray, labels: np.ndarray, probes: "Sequence[_core.LinearProbe]"
    ) -> list[OutcomeArrays]:  # fmt: skip
        """What each probe does on `rows`."""
        placed = self._placed(labels)
        with self._counted():
            return _core.judge(self.features.source, self._rows(rows), placed, list(probes), n_threads=self.n_threads)

    def sums(self, part: Any, *arguments: Any) -> Any:
        """A pass of a logistic fit over its rows; see `torch_parts`."""
        return self._share(part).sums(*arguments)

    def losses(self, part: Any, *arguments: Any) -> Any:
        """Losses along a line; see `torch_parts`."""
        return self._share(part).losses(*arguments)

    def _share(self, part: Any) -> Any:
        """The rows of a fit, made at its first pass; those of the last fit are kept."""
        from ssl_risk_rs.probes.torch_parts import HeldShare

        if self._held is None or self._held.token != part.token:
            self._held = HeldShare(self.features, self.offset, part)
        return self._held


class LocalHolders:
    """Holders in this process, a thread for each."""

    def __init__(self, holders: Sequence[Holder]) -> None:
        self.holders = list(holders)
        self.spans = tuple(holder.span for holder in holders)
        self._pool = ThreadPoolExecutor(len(self.holders), thread_name_prefix="holder")

    def submit(self, index: int, method: str, *arguments: Any) -> Reply:
        """See `Holders`."""
        return self._pool.submit(getattr(self.holders[index], method), *arguments)

    def keep(self, value: Any) -> Any:
        """See `Holders`."""
        return value
