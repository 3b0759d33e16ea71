"""One few-shot probe: its penalty is tuned on folds of its own few rows, then it is fitted on all of them.

Fewer rows than features lie in a space of at most as many dimensions as there are rows. There a fit costs no more than
the rows do, so they are rotated into it, fitted, and the probe is rotated back.
Penalties are those of the scaled features: rotation leaves ‖W‖ as it is.
"""

from dataclasses import dataclass, replace

import numpy as np

from ssl_risk_rs import _core
from ssl_risk_rs.decomposition.fitting import Fitted, Fitter, Start
from ssl_risk_rs.decomposition.tuning import FoldPath, Leaves, PenaltyPath, as_penalty, best_of, nearest, tune
from ssl_risk_rs.events import Report
from ssl_risk_rs.probes.features import Features
from ssl_risk_rs.probes.span import RowSpan
from ssl_risk_rs.results.record import FitRecord, Method, Penalty

__all__ = ["ALPHAS", "STRONGEST", "UNTUNED", "DrawFit", "Shot", "fit_shot", "fold_rows"]

#: penalties tried first, in units of the mean variance: few rows want strong ones; and the strongest that is tried.
#: From there on predictions are those of class means and stay the same, so that ties would go up and up
ALPHAS, STRONGEST = (10.0, 1.0, 1e-1, 1e-2, 1e-3, 1e-4), 100.0
#: penalty where no class has two rows, so that nothing can be held out: with standardized features it is as strong as
#: their own variance
UNTUNED = 1.0
#: how many folds a draw may have; of those that use as many of its rows, the number next to five
FOLDS, USUAL = (3, 4, 5, 6, 7), 5


@dataclass(frozen=True, slots=True)
class Shot:
    """The rows of one draw: features (n, d), classes uint32 (n,), fold of each row int (n,); n_folds: in none.

    groups : group of each row, int (n,); None where rows are independent
    """

    x: np.ndarray
    labels: np.ndarray
    folds: np.ndarray
    n_folds: int
    groups: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class DrawFit:
    """A few-shot probe on raw features, its penalty, and the record of its fits."""

    probe: "_core.LinearProbe"
    penalty: Penalty
    fit: FitRecord
    tuning_fits: int
    tuning_missed: int


def fold_rows(keys: np.ndarray, labels: np.ndarray, groups: np.ndarray | None) -> tuple[np.ndarray, int, bool]:
    """Fold of each row of a draw, how many folds there are (0: nothing can be held out), and whether they cut groups.

    Each fold has as many rows of a class as any other; what is left over is in no fold (its number is that of the
    folds). With a row more in one fold, its class would be rarer in the training folds just where it is held out, and a
    strong penalty, under which the more frequent class wins, would look bad. Classes with fewer rows than folds are
    dealt in turn. Where every class has rows of two groups or more, groups lie in one fold whole.
    """
    # classes in the order of their smallest key, so that their numbers decide nothing
    present = np.unique(labels)
    order = np.argsort([keys[labels == c].min() for c in present], kind="stable")
    labels = np.argsort(order)[np.searchsorted(present, labels)]
    counts = np.bincount(labels)
    most = int(counts.max())
    if most < 2:
        return np.zeros(len(labels), np.int64), 0, False
    if groups is not None:
        codes = np.unique(groups, return_inverse=True)[1].ravel()
        sizes = np.bincount(codes)
        fewest = min(len(np.unique(codes[labels == c])) for c in range(len(counts)))
        if fewest >= 2:
            n_folds = min(USUAL, fewest)
            key = np.array([keys[codes == g].min() for g in range(len(sizes))])
            main = np.array([np.bincount(labels[codes == g]).argmax() for g in range(len(sizes))])
            # from the largest on, so that the folds have like shares of the classes
            return _dealt(main, np.lexsort((key, -sizes)), n_folds, whole=True)[codes], n_folds, False
    candidates = [f for f in FOLDS if f <= most] or [2]
    n_folds = max(candidates, key=lambda f: (_used(counts, f), -abs(f - USUAL), f))
    return _dealt(labels, np.argsort(keys, kind="stable"), n_folds, whole=False), n_folds, groups is not None


def _dealt(classes: np.ndarray, order: np.ndarray, n_folds: int, *, whole: bool) -> np.ndarray:
    """Fold of each unit: those of a class in turn, in this order; classes with fewer units than folds go on where the
    last such class ended. Without `whole`, units that would make folds uneven are in none."""
    folds = np.full(len(classes), n_folds, np.int64)
    dealt = 0
    for c in range(int(classes.max()) + 1):
        own = order[classes[order] == c]
        if len(own) < n_folds:
            folds[own] = (dealt + np.arange(len(own))) % n_folds
            dealt += len(own)
            continue
        own = own if whole else own[: len(own) // n_folds * n_folds]
        folds[own] = np.arange(len(own)) % n_folds
    return folds


def _used(counts: np.ndarray, n_folds: int) -> int:
    """Rows of classes that have as many in each fold."""
    return int((counts // n_folds * n_folds).sum())


def fit_shot(shot: Shot, n_classes: int, method: Method, role: str, folds_judged: int, report: Report) -> DrawFit:
    """Tune on the first `folds_judged` folds of the draw, then fit all of its rows."""
    n, d = shot.x.shape
    whole = _Rotated if n <= d else _Plain
    fitted = whole(shot, n_classes, method, report)
    paths = [path for fold in range(folds_judged) if (path := fitted.path(fold)) is not None]
    penalty: Penalty | None = None
    alpha = UNTUNED
    if paths:
        curve = tune(paths, ALPHAS, STRONGEST)
        alpha = best_of(curve)
        penalty = as_penalty(curve, alpha)
    tuning = fitted.tuning_records()
    probe, last = fitted.final(role, alpha)
    absolute = last.absolute
    return DrawFit(
        probe,
        Penalty(alpha, absolute) if penalty is None else replace(penalty, absolute=absolute),
        fitted.records[-1],
        len(tuning),
        sum(record.missed for record in tuning),
    )


class _Plain:
    """More rows than features: folds are cells of the moments, as in a decomposition."""

    def __init__(self, shot: Shot, n_classes: int, method: Method, report: Report) -> None:
        self.shot = shot
        self.fitter = Fitter(Features.of_arrays(shot.x), shot.labels, n_classes, method, report)
        self.rows = np.arange(len(shot.labels), dtype=np.uint32)
        self.cells = shot.folds.astype(np.uint8)
        self.moments = self.fitter.moments(self.rows, self.cells)

    def path(self, fold: int) -> PenaltyPath | None:
        """Probes of all folds but one; None if fewer than two classes are left."""
        own = (self.shot.folds != fold) & (self.shot.folds < self.shot.n_folds)
        if len(np.unique(self.shot.labels[own])) < 2:
            return None
        return FoldPath(self.fitter, self.moments, self.rows, self.cells, fold, self.shot.n_folds, self.shot.groups)

    @property
    def records(self) -> list[FitRecord]:
        """Of all fits so far."""
        return self.fitter.fits

    def tuning_records(self) -> list[FitRecord]:
        """Of the fits so far, which only tuned."""
        return list(self.fitter.fits)

    def final(self, role: str, alpha: float) -> tuple["_core.LinearProbe", Fitted]:
        """The probe of all rows."""
        design = self.fitter.design(self.moments)
        fitted = self.fitter.fit(role, design, self.rows, alpha)
        return fitted.probe, fitted


class _Rotated:
    """At most as many rows as features: each fit in the space of its own rows."""

    def __init__(self, shot: Shot, n_classes: int, method: Method, report: Report) -> None:
        self.shot, self.n_classes, self.report = shot, n_classes, report
        self.wide = shot.x.astype(np.float64)  # (n, d), once for all folds
        self.scaling = method.scaling
        self.method = replace(method, scaling="none")
        self.tuning: list[_SpanPath] = []
        self.records: list[FitRecord] = []

    def path(self, fold: int) -> PenaltyPath | None:
        """Probes of all folds but one; None if fewer than two classes are left."""
        own = np.flatnonzero((self.shot.folds != fold) & (self.shot.folds < self.shot.n_folds))
        if len(np.unique(self.shot.labels[own])) < 2:
            return None
        held = np.flatnonzero(self.shot.folds == fold)
        groups = None if self.shot.groups is None else self.shot.groups[held]
        path = _SpanPath(f"fold_{fold}", self._span(own, held), groups)
        self.tuning.append(path)
        return path

    def _span(self, own: np.ndarray, held: np.ndarray) -> "_Span":
        return _Span(self.shot, self.wide, own, held, self.scaling, self.n_classes, self.method, self.report)

    def tuning_records(self) -> list[FitRecord]:
        """Of the fits that only tuned."""
        return [record for path in self.tuning for record in path.span.fitter.fits]

    def final(self, role: str, alpha: float) -> tuple["_core.LinearProbe", Fitted]:
        """The probe of all rows, on raw features."""
        span = self._span(np.arange(len(self.shot.labels)), np.zeros(0, np.int64))
        fitted = span.fit(role, alpha, None, judged=True)
        self.records += span.fitter.fits
        return span.back(fitted.probe), fitted


class _Span:
    """Fits to some rows of a draw in the space that they span."""

    def __init__(
        self,
        shot: Shot,
        wide: np.ndarray,
        own: np.ndarray,
        held: np.ndarray,
        scaling: str,
        n_classes: int,
        method: Method,
        report: Report,
    ) -> None:
        scaled = _core.feature_scaling(shot.x, own.astype(np.uint32), scaling=scaling)
        unit = scaled.mean_variance
        self.unit = unit if np.isfinite(unit) and unit > 0 else 1.0
        self.rows_span = RowSpan(scaled, wide[own], shot.labels[own])
        coordinates = self.rows_span.coordinates
        if len(held):
            coordinates = np.concatenate([coordinates, self.rows_span.project(wide[held])])
        labels = np.concatenate([shot.labels[own], shot.labels[held]])
        features = Features.of_arrays(np.ascontiguousarray(coordinates, dtype=np.float32))
        self.fitter = Fitter(features, labels, n_classes, method, report)
        self.rows = np.arange(len(own), dtype=np.uint32)
        self.held = np.arange(len(own), len(labels), dtype=np.uint32)
        self.design = self.fitter.moments(self.rows).design(scaling="none", n_threads=method.n_threads)

    def fit(self, role: str, alpha: float, start: Start | None, *, judged: bool) -> Fitted:
        """A probe in these coordinates; α in units of the mean variance of the scaled features."""
        return self.fitter.fit(role, self.design, self.rows, alpha * self.unit, start, judged=judged, absolute=True)

    def back(self, probe: "_core.LinearProbe") -> "_core.LinearProbe":
        """The same probe on raw features."""
        return self.rows_span.on_features(probe)


class _SpanPath:
    """Probes in the space of the rows of all folds but one, along the penalties."""

    def __init__(self, role: str, span: _Span, groups: np.ndarray | None) -> None:
        self.role, self.span, self.groups = role, span, groups
        self.starts: dict[float, Start] = {}

    def wrong(self, alpha: float, leaves: Leaves | None = None) -> np.ndarray:
        """See `PenaltyPath`; `leaves` is not asked: fits are small."""
        start = self.starts[nearest(alpha, self.starts)] if self.starts else None
        fitted = self.span.fit(self.role, alpha, start, judged=False)
        self.starts[alpha] = fitted.start
        return self.span.fitter.outcome(fitted.probe, self.span.held).wrong
