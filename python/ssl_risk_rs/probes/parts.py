"""Probes on rows that several processes or machines hold: sums and outcomes travel, features do not.

Each holder sums the moments of its own rows; the sums add up here, are solved here, and the probes go back to the
holders, which judge their rows. What comes out is what one machine gives, up to the order in which sums are added.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ssl_risk_rs import _core
from ssl_risk_rs.errors import ParameterError
from ssl_risk_rs.probes.features import Features
from ssl_risk_rs.probes.holders import Holders, ask
from ssl_risk_rs.probes.solver import (
    Goal,
    OutcomeArrays,
    Precision,
    Start,
    Trial,
    WholeRace,
    cells_of,
    fit_in_space,
    summed_in,
    tried_here,
)

__all__ = ["PartedFeatures", "PartsSolver"]


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
        sample = rows[:: max(1, -(-len(rows) // _core.SHIFT_ROWS))]
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

    def solve_ridge(self, design: "_core.Design", alphas: Sequence[float]) -> list["_core.LinearProbe"]:
        """See `Solver`; here, from the sums of all parts."""
        return design.solve_ridge(list(alphas), reuse=False, n_threads=self.n_threads)

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

    def judge(self, probes: Sequence["_core.LinearProbe"], rows: np.ndarray, labels: np.ndarray) -> list[OutcomeArrays]:
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
