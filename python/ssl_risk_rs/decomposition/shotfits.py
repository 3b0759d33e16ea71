"""One few-shot probe: its penalty is tuned on folds of its own few rows, then it is fitted on all of them."""

from dataclasses import dataclass, replace

import numpy as np

from ssl_risk_rs import _core
from ssl_risk_rs.decomposition.fitting import Fitter
from ssl_risk_rs.decomposition.shares import leave_out_by_shares
from ssl_risk_rs.decomposition.tuning import FoldPath, as_penalty, best_of, race
from ssl_risk_rs.events import Report
from ssl_risk_rs.probes.features import Features
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
    cuts_groups : whether folds do not keep them whole
    """

    x: np.ndarray
    labels: np.ndarray
    folds: np.ndarray
    n_folds: int
    groups: np.ndarray | None = None
    cuts_groups: bool = False


@dataclass(frozen=True, slots=True)
class DrawFit:
    """A few-shot probe on raw features, its penalty, the record of its fits, and the folds that tuned it."""

    probe: "_core.LinearProbe"
    penalty: Penalty
    fit: FitRecord
    tuning_fits: int
    tuning_missed: int
    folds: int
    folds_judged: int
    cuts_groups: bool


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
    fitter = Fitter(Features.of_arrays(shot.x), shot.labels, n_classes, method, report)
    rows, cells = np.arange(len(shot.labels), dtype=np.uint32), shot.folds.astype(np.uint8)
    moments = fitter.moments(rows, cells)
    paths = []
    for fold in range(folds_judged):
        own = (shot.folds != fold) & (shot.folds < shot.n_folds)
        if len(np.unique(shot.labels[own])) > 1:
            paths.append(FoldPath(fitter, moments, rows, cells, fold, shot.n_folds, shot.groups))
    penalty: Penalty | None = None
    alpha = UNTUNED
    if paths:
        tried = race(paths, ALPHAS, STRONGEST, on=method.tuned_on)
        curve = tried.curve()
        leave_out_by_shares(tried, [rows])
        alpha = best_of(tried.curve())
        penalty = as_penalty(curve, alpha, chosen=alpha)
    tuning = tuple(fitter.fits)
    fitted = fitter.fit(role, fitter.design(moments), rows, alpha)
    return DrawFit(
        fitted.probe,
        Penalty(alpha, fitted.absolute) if penalty is None else replace(penalty, absolute=fitted.absolute),
        fitter.fits[-1],
        len(tuning),
        sum(record.missed for record in tuning),
        shot.n_folds,
        folds_judged,
        shot.cuts_groups,
    )
