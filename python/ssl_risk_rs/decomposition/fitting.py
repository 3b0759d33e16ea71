"""Fits and judges probes on the rows of one encoder's features, and keeps the record of each fit."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ssl_risk_rs import _core
from ssl_risk_rs.events import Event, Report
from ssl_risk_rs.probes.features import Features
from ssl_risk_rs.probes.opened import Solvers
from ssl_risk_rs.probes.solver import Goal, Trial
from ssl_risk_rs.probes.span_solver import AnyDesign, AnyMoments, LogisticFit, Start
from ssl_risk_rs.results.judgements import Outcome
from ssl_risk_rs.results.record import FitRecord, Method

__all__ = ["Fitted", "Fitter", "Start", "floor_fits", "penalty_unit"]

#: rows on which a training error that is only printed is judged, where the fit did not count it
MAX_PRINTED_ROWS = 100_000
#: penalties on the way to the floor
DECADES = (1e-2, 1e-3)
#: relative suboptimality of a fit that is looked at before it goes on
DRAFT_TOL = 1e-2


@dataclass(frozen=True, slots=True)
class Fitted:
    """A probe, what fits on these rows, or on these and others, start from, and its error on its own rows where it was
    counted."""

    probe: "_core.LinearProbe"
    start: Start
    absolute: float
    train_error: float | None = None


class Fitter:
    """Probes of one encoder's features; penalties are in units of the mean variance of the scaled features.

    solvers : what other work on the same features has opened and summed
    """

    def __init__(
        self,
        features: Features,
        labels: np.ndarray,
        n_classes: int,
        method: Method,
        report: Report,
        solvers: Solvers | None = None,
    ) -> None:
        self.features = features
        self.solvers = solvers or Solvers()
        self.solver = self.solvers.open(features, method.device, n_threads=method.n_threads)
        self.labels = labels[: features.n_rows]
        self.n_classes = n_classes
        self.method = method
        self.report = report
        self.fits: list[FitRecord] = []

    def moments(self, rows: np.ndarray, cells: np.ndarray | None = None) -> AnyMoments:
        """Statistics of `rows` by cell, in one pass."""
        self.report(Event("moments", detail=f"{len(rows):,} rows"))
        return self.solvers.moments(self.solver, self.features, rows, self.labels, self.n_classes, cells)

    def design(
        self, moments: AnyMoments, cells: Sequence[int] | None = None, *, like: AnyDesign | None = None
    ) -> AnyDesign:
        """Rows of these cells (default all), scaled as the method says.

        like : a design of most of the rows, whose metric a logistic fit takes over; ridge has no use for it
        """
        like = like if self.method.probe == "logistic" else None
        return self.solver.design(moments, cells, self.method.scaling, like=like)

    def _taken(self, absolute: float, design: AnyDesign) -> float:
        """A penalty as the solver takes it: for ridge at least what the sums of this design determine."""
        return max(absolute, design.alpha_floor) if self.method.probe == "ridge" else absolute

    def fit(
        self,
        role: str,
        design: AnyDesign,
        rows: np.ndarray,
        alpha: float,
        start: Start | None = None,
        *,
        judged: bool = True,
        absolute: bool = False,
        by_error: bool = False,
        leaves: Callable[["_core.LinearProbe"], bool] | None = None,
    ) -> Fitted:
        """One probe; `start` must have been fitted on a subset of `rows`.

        judged : rows are judged by it; otherwise the looser tolerance of tuning is enough
        absolute : `alpha` is as the solver takes it
        by_error : only the training error is wanted of it
        leaves : whether no more is wanted of it, asked once when it is within a hundredth of its minimum by estimate
        """
        taken = self._taken(alpha if absolute else alpha * penalty_unit(design), design)
        self.report(Event("fit", detail=f"{role}, α = {alpha:g}"))
        if self.method.probe == "ridge":
            began = time.perf_counter()
            probe = self.solver.solve_ridge(design, [taken])[0]
            self._keep_ridge(role, taken, len(rows), began)
            return Fitted(probe, probe, taken)
        goal = Goal(
            self.method.tol if judged else self.method.tuning_tol,
            self.method.max_passes,
            self.method.error_tol if by_error else None,
        )
        detail = f"{role}, α = {alpha:g}"

        began = time.perf_counter()

        def solve(goal: Goal, start: Start | None, before: float) -> LogisticFit:
            return self.solver.fit_logistic(
                rows,
                self.labels,
                design,
                taken,
                goal,
                start=start,
                progress=lambda seen: self.report(Event("fit", before + seen / len(rows), detail=detail)),
            )

        legs: list[LogisticFit] = []
        left = False
        if leaves is not None and goal.tol < DRAFT_TOL:
            legs.append(solve(replace(goal, tol=DRAFT_TOL, draft=True), start, 0.0))
            start = legs[0]
            left = start.fit.converged and leaves(start.probe)
            goal = replace(goal, max_passes=max(goal.max_passes - int(start.fit.passes), 1))
        if not legs or (legs[0].fit.converged and not left):
            legs.append(solve(goal, start, sum(leg.fit.passes for leg in legs)))
        found = legs[-1]
        fit = found.fit
        self.fits.append(
            FitRecord(
                role=role,
                probe="logistic",
                alpha=taken,
                n=len(rows),
                converged=fit.converged and not left,
                stop="left" if left else fit.stop,
                passes=sum(leg.fit.passes for leg in legs),
                reduced_passes=sum(leg.fit.reduced_passes for leg in legs),
                gap=None if left else fit.gap,
                objective=fit.objective,
                seconds=time.perf_counter() - began,
            )
        )
        return Fitted(found.probe, found, taken, fit.train_error)

    def try_ridge(self, role: str, design: AnyDesign, rows: np.ndarray, alpha: float, held: np.ndarray) -> Trial:
        """Whether a ridge probe of `rows` predicts each of the rows `held` wrongly, as `Solver.try_ridge`."""
        taken = self._taken(alpha * penalty_unit(design), design)
        self.report(Event("fit", detail=f"{role}, α = {alpha:g}, judged on {len(held):,} rows"))
        began = time.perf_counter()
        tried = self.solver.try_ridge(design, taken, held, self.labels)
        self._keep_ridge(role, taken, len(rows), began)
        return tried

    def ridge_probe(self, design: AnyDesign, alpha: float) -> "_core.LinearProbe":
        """The probe of a penalty that was tried, and is on record already."""
        return self.solver.solve_ridge(design, [self._taken(alpha * penalty_unit(design), design)])[0]

    def _keep_ridge(self, role: str, taken: float, n: int, began: float) -> None:
        seconds = time.perf_counter() - began
        self.fits.append(FitRecord(role, "ridge", taken, n, True, "closed_form", 0.0, 0.0, 0.0, None, seconds))

    def judge(self, probes: Sequence["_core.LinearProbe"], rows: np.ndarray) -> list[Outcome]:
        """What each probe does on `rows`."""
        self.report(Event("judge", detail=f"{len(rows):,} rows"))
        found = self.solver.judge(probes, rows, self.labels)
        return [Outcome(*arrays) for arrays in found]

    def outcome(self, probe: "_core.LinearProbe", rows: np.ndarray) -> Outcome:
        """What one probe does on `rows`."""
        return self.judge([probe], rows)[0]

    def errors(self, probe: "_core.LinearProbe", rows: np.ndarray) -> int:
        """Rows that a probe predicts wrongly."""
        return int(self.outcome(probe, rows).wrong.sum())

    def train_error(self, fitted: Fitted, rows: np.ndarray) -> float:
        """0-1 error on the rows of the fit, or on a strided sample of them where the fit did not count it."""
        if fitted.train_error is not None:
            return fitted.train_error
        sample = np.ascontiguousarray(rows[:: -(-len(rows) // MAX_PRINTED_ROWS)])
        return self.errors(fitted.probe, sample) / len(sample)


def penalty_unit(design: AnyDesign) -> float:
    """Mean variance of the scaled features; 1 where all are constant, so that any penalty will do."""
    unit = design.mean_variance
    return unit if np.isfinite(unit) and unit > 0 else 1.0


def floor_fits(
    fitter: Fitter,
    role: str,
    design: AnyDesign,
    rows: np.ndarray,
    floor: float,
    start: Start | None,
    tuned: float | None,
    *,
    by_error: bool = True,
) -> tuple[Fitted, Fitted]:
    """Probes one decade above the floor and at it, by a path of decades from the tuned penalty on.

    by_error : their training errors are what is wanted of them
    """
    above = floor * 10
    path = [a for a in DECADES if above < a and (tuned is None or a < tuned)]
    for alpha in path if fitter.method.probe == "logistic" else ():
        start = fitter.fit(f"{role}_path", design, rows, alpha, start, judged=False).start
    upper = fitter.fit(f"{role}_above", design, rows, above, start, by_error=by_error)
    return upper, fitter.fit(role, design, rows, floor, upper.start, by_error=by_error)
