"""The solver of all rows: fewer rows than features are fitted in their span, others by the solver of a device."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from ssl_risk_rs import _core
from ssl_risk_rs._limits import Scaling
from ssl_risk_rs._memory import free_bytes
from ssl_risk_rs.errors import ParameterError
from ssl_risk_rs.probes import solver as of_device
from ssl_risk_rs.probes.devices import Device, open_solver
from ssl_risk_rs.probes.features import Features
from ssl_risk_rs.probes.parts import PartedFeatures
from ssl_risk_rs.probes.solver import Goal, OutcomeArrays, Precision, Trial
from ssl_risk_rs.probes.span import SpanDesign, SpanMoments

__all__ = ["AnyDesign", "AnyMoments", "LogisticFit", "SpanSolver", "Start"]


AnyMoments: TypeAlias = _core.Moments | SpanMoments
AnyDesign: TypeAlias = _core.Design | SpanDesign


@dataclass(frozen=True, slots=True)
class LogisticFit:
    """A certified logistic probe, wherever it was fitted.

    probe : on features
    fit : in the coordinates of `design`; in a span, too, objective and gap are those of the features
    """

    probe: "_core.LinearProbe"
    fit: "_core.LogisticFit"
    design: AnyDesign


Start: TypeAlias = _core.LinearProbe | LogisticFit


#: matrices of d × d that a fit holds beside the sums of each cell
DESIGNS = 4
#: bytes that sums may take unasked: they are free wherever torch can be imported, and many small fits need fewer
SMALL_SUMS = 1 << 28


def _warn_of_memory(d: int, n_cells: int) -> None:
    """Log what is about to be needed where it is more than is free: a process that takes too much is killed, and then
    says nothing."""
    needed = 8 * d * d * (n_cells + DESIGNS)
    if needed <= SMALL_SUMS:
        return
    free = free_bytes()
    if free is not None and needed > free:
        logging.getLogger(__name__).warning(
            "Sums of products of %s features need about %.1f GB, and %.1f GB are free. One held-out subset "
            "(--splits 1) needs less, and so do fewer features.",
            f"{d:,}", needed / 1e9, free / 1e9,
        )  # fmt: skip


class SpanSolver:
    """Fits and judges probes, as `Solver`; few rows in their span.

    Attributes
    ----------
    solver : of the device, for as many rows as features or more
    """

    def __init__(self, features: Features, device: Device, *, n_threads: int | None = None) -> None:
        self.features, self.device, self.n_threads = features, device, n_threads
        self.solver = open_solver(features, device, n_threads=n_threads)

    @property
    def resident(self) -> bool:
        """See `Solver`."""
        return self.solver.resident

    def release(self) -> None:
        """See `Solver`."""
        self.solver.release()

    def moments(
        self,
        rows: np.ndarray,
        labels: np.ndarray,
        n_classes: int,
        *,
        cells: np.ndarray | None = None,
        precision: Precision = "auto",
    ) -> AnyMoments:
        """Statistics of `rows` by cell; of fewer rows than features, where this process has them, the rows themselves.

        precision : of as many rows as features or more, as `_core.Moments`
        """
        if len(rows) >= self.features.n_features or isinstance(self.features, PartedFeatures):
            if self.device == "cpu":
                _warn_of_memory(self.features.n_features, of_device.cells_of(rows, labels, cells, None)[1])
            return self.solver.moments(rows, labels, n_classes, cells=cells, precision=precision)
        return SpanMoments(self.features, rows, labels, n_classes, cells, device=self.device, n_threads=self.n_threads)

    def design(
        self, moments: AnyMoments, cells: Sequence[int] | None, scaling: Scaling, *, like: AnyDesign | None = None
    ) -> AnyDesign:
        """Rows of these cells, None for all, scaled.

        like : a design of most of the rows, whose metric logistic fits take over; a span has its own
        """
        listed = None if cells is None else list(cells)
        if isinstance(moments, SpanMoments):
            return moments.design(listed, scaling=scaling)
        known = None if isinstance(like, SpanDesign) else like
        return moments.design(listed, scaling=scaling, like=known, n_threads=self.n_threads)

    def solve_ridge(self, design: AnyDesign, alphas: Sequence[float]) -> list["_core.LinearProbe"]:
        """The ridge probe of each penalty; a class without rows has weights and intercept 0."""
        if not isinstance(design, SpanDesign):
            return self.solver.solve_ridge(design, alphas)
        targets = np.zeros((len(design.rows), design.n_classes))
        targets[np.arange(len(targets)), design.labels] = 1
        return [design.probe(weights.T, targets.mean(0)) for weights in design.ridge_weights(targets, alphas)]

    def try_ridge(self, design: AnyDesign, alpha: float, rows: np.ndarray, labels: np.ndarray) -> Trial:
        """As `Solver.try_ridge`."""
        if not isinstance(design, SpanDesign):
            return self.solver.try_ridge(design, alpha, rows, labels)
        (probe,) = self.solve_ridge(design, [alpha])
        ((_, rank, *_),) = self.judge([probe], rows, labels)
        return rank > 0, probe

    def fit_logistic(
        self,
        rows: np.ndarray,
        labels: np.ndarray,
        design: AnyDesign,
        alpha: float,
        goal: Goal,
        *,
        start: Start | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> LogisticFit:
        """A certified logistic probe, as `Solver.fit_logistic`."""
        begin = _start_in(design, start)
        if not isinstance(design, SpanDesign):
            fit = self.solver.fit_logistic(rows, labels, design, alpha, goal, start=begin, progress=progress)
            return LogisticFit(fit.probe, fit, design)
        if not np.array_equal(rows, design.rows):
            raise ParameterError("the rows of a fit are not those of its design")
        span, own = design.span, np.arange(len(rows), dtype=np.uint32)
        fit = span.solver.fit_logistic(own, design.labels, span.design, alpha, goal, start=begin, progress=progress)
        return LogisticFit(design.on_features(*fit.probe.raw()), fit, design)

    def judge(self, probes: Sequence["_core.LinearProbe"], rows: np.ndarray, labels: np.ndarray) -> list[OutcomeArrays]:
        """What each probe does on `rows`, as `_core.judge`."""
        return self.solver.judge(probes, rows, labels)


def _start_in(design: AnyDesign, start: Start | None) -> of_device.Start | None:
    """A start in the coordinates of a design: the fit with what it learned, where those are its own."""
    if start is None or isinstance(start, _core.LinearProbe):
        return design.projected(start) if start and isinstance(design, SpanDesign) else start
    if isinstance(design, SpanDesign):
        return start.fit if start.design is design else design.projected(start.probe)
    return start.probe if isinstance(start.design, SpanDesign) else start.fit
