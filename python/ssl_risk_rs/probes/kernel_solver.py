"""Probes by the kernels of this CPU."""

from collections.abc import Callable, Sequence

import numpy as np

from ssl_risk_rs import _core
from ssl_risk_rs.probes.features import Features
from ssl_risk_rs.probes.solver import Goal, OutcomeArrays, Precision, Start, Trial, cells_of, tried_here

__all__ = ["KernelRace", "KernelSolver"]

#: products n·d·k from which passes may round: below, the exact pass that must follow costs more than they
#: save (400 rows, 399 features, 100 classes: 27 instead of 35 ms)
ROUNDED_PRODUCTS = 1e8


class KernelRace:
    """`_core.RidgeRace` over the rows of some features."""

    def __init__(self, features: Features, n_alphas: int, n_threads: int | None) -> None:
        self._features = features
        self._race = _core.RidgeRace(n_alphas)
        self._n_threads = n_threads

    def add(self, design: "_core.Design", rows: np.ndarray, labels: np.ndarray, alphas: Sequence[float]) -> None:
        """See `Race`."""
        self._race.add(design, self._features.source, rows, labels, list(alphas), n_threads=self._n_threads)

    @property
    def running(self) -> list[int]:
        """See `Race`."""
        return self._race.running

    @property
    def errors(self) -> np.ndarray:
        """See `Race`."""
        return self._race.errors

    @property
    def judged(self) -> np.ndarray:
        """See `Race`."""
        return self._race.judged


class KernelSolver:
    """The Rust kernels of this CPU; rows are read where they lie."""

    device = "cpu"
    resident = True

    def __init__(self, features: Features, *, n_threads: int | None = None) -> None:
        self.features = features
        self.n_threads = n_threads

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
        shift = _core.choose_shift(self.features.source, rows)
        moments = _core.Moments(len(shift), n_classes, n_cells=n_cells, shift=shift, precision=precision)
        moments.update(self.features.source, labels, rows, cells, n_threads=self.n_threads)
        return moments

    def solve_ridge(self, design: "_core.Design", alphas: Sequence[float]) -> list["_core.LinearProbe"]:
        """See `Solver`; a factorization for each penalty."""
        return design.solve_ridge(list(alphas), reuse=False, n_threads=self.n_threads)

    def try_ridge(self, design: "_core.Design", alpha: float, rows: np.ndarray, labels: np.ndarray) -> Trial:
        """See `Solver`."""
        return tried_here(self, design, alpha, rows, labels)

    def ridge_race(self, n_alphas: int) -> "KernelRace":
        """See `Solver`; penalties that are clearly worse are not counted to the end."""
        return KernelRace(self.features, n_alphas, self.n_threads)

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
        """See `Solver`."""
        return _core.fit_logistic(
            self.features.source,
            rows,
            labels,
            design,
            alpha,
            tol=goal.tol,
            max_passes=goal.max_passes,
            error_tol=goal.error_tol,
            draft=goal.draft,
            start=start,
            reduced=len(rows) * self.features.n_features * design.n_classes >= ROUNDED_PRODUCTS,
            n_threads=self.n_threads,
            progress=progress,
        )

    def judge(self, probes: Sequence["_core.LinearProbe"], rows: np.ndarray, labels: np.ndarray) -> list[OutcomeArrays]:
        """See `Solver`."""
        return _core.judge(self.features.source, rows, labels, list(probes), n_threads=self.n_threads)
