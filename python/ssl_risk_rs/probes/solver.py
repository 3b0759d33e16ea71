"""One way to fit and judge probes, wherever the rows lie: by the kernels of this CPU, or on a GPU through torch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import numpy as np

from ssl_risk_rs import _core

__all__ = [
    "Goal",
    "OutcomeArrays",
    "Precision",
    "Race",
    "Solver",
    "Start",
    "Trial",
    "WholeRace",
    "cells_of",
    "fit_in_space",
    "summed_in",
    "tried_here",
]

Start: TypeAlias = _core.LinearProbe | _core.LogisticFit
Precision: TypeAlias = Literal["auto", "float64", "float32", "bfloat16"]
#: of one probe: predicted uint32 (m,), rank uint32 (m,), loss float32 (m,), margin float32 (m,); as `_core.judge`
OutcomeArrays: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
#: of a penalty: rows predicted wrongly, bool (m,), and the probe where it is at hand
Trial: TypeAlias = tuple[np.ndarray, _core.LinearProbe | None]


@dataclass(frozen=True, slots=True)
class Goal:
    """When a logistic fit may end, as `_core.fit_logistic`.

    tol : relative suboptimality; max_passes : the limit on passes
    error_tol : how far the training error may be from that of the minimum, where it alone is wanted
    draft : whether a look is all that is wanted, which a rounded pass may end
    """

    tol: float
    max_passes: int
    error_tol: float | None = None
    draft: bool = False


class Race(Protocol):
    """A choice among ridge penalties by their errors on held-out folds; see `_core.RidgeRace`."""

    def add(self, design: "_core.Design", rows: np.ndarray, labels: np.ndarray, alphas: Sequence[float]) -> None:
        """Judge the penalties that are running on `rows`, a fold, by the design of other rows."""

    @property
    def running(self) -> list[int]:
        """Indices of the penalties that may still be chosen."""

    @property
    def errors(self) -> np.ndarray:
        """int64 (n_alphas,): rows predicted wrongly, of `judged`."""

    @property
    def judged(self) -> np.ndarray:
        """int64 (n_alphas,): rows that each was judged on."""


class Solver(Protocol):
    """Fits and judges probes on the rows of one set of features.

    Rows are row numbers, uint32 (m,); labels and cells are indexed by row.
    """

    @property
    def device(self) -> str:
        """What it runs on: "cpu", or names of devices."""

    @property
    def resident(self) -> bool:
        """Whether passes read rows where they run: False for a GPU whose memory does not hold them."""

    def release(self) -> None:
        """Give up what lies on a device: later passes read rows anew."""

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
        """Statistics of `rows` by cell; `cells` is uint8 (n,), one cell by default; there are as many cells as `rows`
        use unless `n_cells` says more."""

    def solve_ridge(self, design: "_core.Design", alphas: Sequence[float]) -> list["_core.LinearProbe"]:
        """The ridge probe of each penalty, as `Design.solve_ridge`."""

    def try_ridge(self, design: "_core.Design", alpha: float, rows: np.ndarray, labels: np.ndarray) -> "Trial":
        """Whether the ridge probe of a penalty predicts each of `rows` wrongly, bool (m,); and the probe, unless it is
        on a device that it would have to be copied from."""

    def ridge_race(self, n_alphas: int) -> "Race":
        """A choice among so many ridge penalties, all running."""

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
        """A certified logistic probe, as `_core.fit_logistic`."""

    def judge(self, probes: Sequence["_core.LinearProbe"], rows: np.ndarray, labels: np.ndarray) -> list[OutcomeArrays]:
        """What each probe does on `rows`, as `_core.judge`."""


class WholeRace:
    """A race that nobody leaves; near-ties of two classes fall as in `judge`."""

    def __init__(self, solver: Solver, n_alphas: int) -> None:
        self._solver = solver
        self.running = list(range(n_alphas))
        self.errors: np.ndarray = np.zeros(n_alphas, np.int64)
        self.judged: np.ndarray = np.zeros(n_alphas, np.int64)

    def add(self, design: "_core.Design", rows: np.ndarray, labels: np.ndarray, alphas: Sequence[float]) -> None:
        """See `Race`."""
        for i, alpha in enumerate(alphas):
            self.errors[i] += int(self._solver.try_ridge(design, alpha, rows, labels)[0].sum())
            self.judged[i] += len(rows)


def fit_in_space(
    space: object,
    design: "_core.Design",
    alpha: float,
    goal: Goal,
    start: Start | None,
    progress: Callable[[int], None] | None,
) -> "_core.LogisticFit":
    """`Solver.fit_logistic` where a space holds the rows, as `_core.fit_logistic_in`."""
    return _core.fit_logistic_in(
        space,
        design,
        alpha,
        tol=goal.tol,
        max_passes=goal.max_passes,
        error_tol=goal.error_tol,
        draft=goal.draft,
        start=start,
        progress=progress,
    )


def tried_here(solver: Solver, design: "_core.Design", alpha: float, rows: np.ndarray, labels: np.ndarray) -> Trial:
    """`Solver.try_ridge` by a probe that is here."""
    (probe,) = solver.solve_ridge(design, [alpha])
    ((_, rank, *_),) = solver.judge([probe], rows, labels)
    return rank > 0, probe


def cells_of(
    rows: np.ndarray, labels: np.ndarray, cells: np.ndarray | None, n_cells: int | None
) -> tuple[np.ndarray, int]:
    """Cells by row, and how many there are: those that `rows` use, unless more are asked for; without cells, one."""
    if cells is None:
        return np.zeros(len(labels), np.uint8), n_cells or 1
    return cells[: len(labels)], n_cells or int(cells[rows].max(initial=0)) + 1


def summed_in(precision: Precision, n_rows: int, n_features: int) -> Precision:
    """What "auto" stands for where rows are summed in several places: by the products of all of them."""
    if precision != "auto":
        return precision
    return "float64" if n_rows * n_features**2 <= _core.CHEAP_PRODUCTS else "float32"
