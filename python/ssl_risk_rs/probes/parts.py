"""Probes on rows that several processes or machines hold: sums and outcomes travel, features do not.

Each holder sums the moments of its own rows; the sums add up here, are solved here, and the probes go back to the
holders, which judge their rows. What comes out is what one machine gives, up to the order in which sums are added.
"""

import contextlib
import itertools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ssl_risk_rs import _core
from ssl_risk_rs.errors import ParameterError, SslRiskError
from ssl_risk_rs.probes.features import Features
from ssl_risk_rs.probes.solver import (
    Goal,
    Judged,
    Precision,
    Start,
    Trial,
    WholeRace,
    cells_of,
    fit_in_space,
    summed_in,
    tried_here,
)

__all__ = ["Holder", "Holders", "LocalHolders", "PartedFeatures", "PartsSolver", "spans_of"]

#: rows that `_core.choose_shift` looks at, strided
SHIFT_ROWS = 2048

Span = tuple[int, int]


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
        out = np.empty((len(rows), self.features.n_features), self.features.dtype)
        self.features.read_into(self._rows(rows), out)
        return out

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
    ) -> list[Judged]:  # fmt: skip
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


class Reply(Protocol):
    """What a holder will answer."""

    def result(self) -> Any:
        """The answer, when it is there; raises what the holder raised."""


class Holders(Protocol):
    """Holders of all rows, wherever they are; `spans` follow each other from row 0 on."""

    spans: tuple[Span, ...]

    def submit(self, index: int, method: str, *arguments: Any) -> Reply:
        """Call a method of a holder; holders work at the same time."""

    def keep(self, value: Any) -> Any:
        """What stands for a value in arguments, so that it travels once however often it is an argument."""


def ask(holders: Holders, method: str, each: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Call a method of every holder with arguments of its own; the answers in the order of spans."""
    replies = [holders.submit(i, method, *arguments) for i, arguments in enumerate(each)]
    return [reply.result() for reply in replies]


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


@dataclass(frozen=True, slots=True)
class PartedFeatures(Features):
    """Features of which this process holds no row; solvers ask `holders`."""

    holders: Holders | None = None
    stored: str = "float32"

    @classmethod
    def of(cls, holders: Holders, n_features: int, dtype: str) -> "PartedFeatures":
        """The rows of all holders, as they are stored."""
        ends = [end for _, end in holders.spans]
        if [begin for begin, _ in holders.spans] != [0, *ends[:-1]]:
            raise ParameterError(f"the parts {list(holders.spans)} do not follow each other from row 0 on")
        return cls([], ends[-1], n_features, holders, dtype)

    @property
    def dtype(self) -> "np.dtype[np.generic]":
        """See `Features`."""
        return np.dtype(self.stored)


def spans_of(n_rows: int, count: int) -> tuple[Span, ...]:
    """`count` ranges of nearly equal length, as those of `--shard`.

    Raises
    ------
    ParameterError if there are none, or more than rows.
    """
    if not 1 <= count <= n_rows:
        raise ParameterError(f"{n_rows:,} rows can be held in 1 to {n_rows:,} parts, not {count}")
    edges = [i * n_rows // count for i in range(count + 1)]
    return tuple(itertools.pairwise(edges))


class PartsSolver:
    """See `Solver`; passes over rows are made where the rows are.

    Parts are added in their order, so that the same parts give the same bits on any cluster.
    """

    device = "cpu"
    resident = True

    def __init__(self, features: PartedFeatures, *, n_threads: int | None = None) -> None:
        if features.holders is None:
            raise ParameterError("the features have no holders; PartedFeatures.of makes them")
        self.features = features
        self.holders = features.holders
        self.n_threads = n_threads
        self._model: tuple[_core.Design, Any] | None = None  # of the last logistic fit's design

    def _picked(self, rows: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each part: places of its rows among `rows`, and their numbers within the part, uint32."""
        if len(rows) and int(rows.max()) >= self.features.n_rows:
            raise ParameterError(f"row {int(rows.max())} asked for, there are {self.features.n_rows}")
        found = []
        for begin, end in self.holders.spans:
            places = np.flatnonzero((rows >= begin) & (rows < end))
            found.append((places, (rows[places] - begin).astype(np.uint32)))
        return found

    def _shift(self, rows: np.ndarray) -> np.ndarray:
        """The shift that `choose_shift` gives for all rows: it looks at a strided sample, which is fetched."""
        sample = rows[:: max(1, -(-len(rows) // SHIFT_ROWS))]
        picked = self._picked(sample)
        values = np.empty((len(sample), self.features.n_features), self.features.dtype)
        for (places, _), part in zip(picked, ask(self.holders, "read", [(own,) for _, own in picked]), strict=True):
            values[places] = part
        return _core.choose_shift([values], np.arange(len(sample), dtype=np.uint32))

    def release(self) -> None:
        """See `Solver`: nothing lies elsewhere."""

    def moments(
        self,
        rows: np.ndarray,
        labels: np.ndarray,
        n_classes: int,
        *,
        cells: np.ndarray | None = None,
        n_cells: int | None = None,
        precision: Precision = "auto",
    ) -> "_core.Moments":
        """See `Solver`."""
        cells, n_cells = cells_of(rows, labels, cells, n_cells)
        shift = self._shift(rows)
        summed = summed_in(precision, len(rows), self.features.n_features)
        each = [
            (own, labels[begin:end], cells[begin:end], shift, n_classes, n_cells, summed)
            for (begin, end), (_, own) in zip(self.holders.spans, self._picked(rows), strict=True)
        ]
        merged: _core.Moments | None = None
        with tempfile.TemporaryDirectory() as folder:
            for part in ask(self.holders, "moments", each):
                file = Path(folder, "part.moments")
                file.write_bytes(part)
                loaded = _core.Moments.load(file)
                if merged is None:
                    merged = loaded
                else:
                    merged.merge(loaded, n_threads=self.n_threads)
        assert merged is not None  # there is at least one part
        return merged

    def solve_ridge(
        self, design: "_core.Design", alphas: Sequence[float], *, reuse: bool = True
    ) -> list["_core.LinearProbe"]:
        """See `Solver`; here, from the sums of all parts."""
        return design.solve_ridge(list(alphas), reuse=reuse, n_threads=self.n_threads)

    def try_ridge(self, design: "_core.Design", alpha: float, rows: np.ndarray, labels: np.ndarray) -> Trial:
        """See `Solver`."""
        return tried_here(self, design, alpha, rows, labels)

    def ridge_race(self, n_alphas: int) -> WholeRace:
        """See `Solver`; every penalty is counted to the end."""
        return WholeRace(self, n_alphas)

    def fit_logistic(
        self,
        rows: np.ndarray,
        labels: np.ndarray,
        design: "_core.Design",
        alpha: float,
        goal: Goal,
        *,
        start: Start | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> "_core.LogisticFit":
        """See `Solver`; losses and gradients of the parts add up, in products of torch."""
        from ssl_risk_rs.probes.torch_parts import class_model, parts_space

        if self._model is None or self._model[0] is not design:
            self._model = None  # its memory is free for the next
            self._model = (design, class_model(design))
        space = parts_space(self.holders, self._picked(rows), rows, labels, design, self._model[1])
        return fit_in_space(space, design, alpha, goal, start, progress)

    def judge(self, probes: Sequence["_core.LinearProbe"], rows: np.ndarray, labels: np.ndarray) -> list[Judged]:
        """See `Solver`."""
        picked = self._picked(rows)
        each = [
            (own, labels[begin:end], list(probes))
            for (begin, end), (_, own) in zip(self.holders.spans, picked, strict=True)
        ]
        outcomes = ask(self.holders, "judge", each)
        kinds = (np.uint32, np.uint32, np.float32, np.float32)
        found = []
        for i in range(len(probes)):
            joined = tuple(np.empty(len(rows), kind) for kind in kinds)
            for (places, _), part in zip(picked, outcomes, strict=True):
                for whole, own in zip(joined, part[i], strict=True):
                    whole[places] = own
            found.append((joined[0], joined[1], joined[2], joined[3]))
        return found
