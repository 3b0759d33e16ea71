"""Penalties so strong that probes tell classes by their shares of the rows.

Scores shrink with a penalty, the intercept does not: it has the share of each class among the rows of the fit (of a
logistic probe, its logarithm). Folds of equal classes hide it, where a fit that lacks whole groups of rows has other
shares, and predicts its largest class. So a penalty is chosen only if scores of rows of one class spread by more than
what these shares differ by from fit to fit.
"""

from collections.abc import Sequence

import numpy as np

from ssl_risk_rs._notes import Note
from ssl_risk_rs.decomposition.tuning import FoldPath, Race, best_of

__all__ = ["leave_out_by_shares"]

#: penalties up to here leave scores that spread far more
STRONG = 1.0
#: spread of the scores, over that of the shares, from which a penalty stays: at 3 complements err by 5 points more than
#: fits of all rows do, at 9 by no more than at weaker penalties
SPREAD = 5.0


def leave_out_by_shares(tried: Race, others: Sequence[np.ndarray]) -> Note | None:
    """Take out the best of the penalties that were tried, as long as it is such a one; the note that says so, None
    where there was none.

    others : rows of the fits that the penalty is chosen for, integer
    """
    best, path = best_of(tried.curve()), tried.paths[0]
    if best <= STRONG:
        return None
    fitter, log = path.fitter, path.fitter.method.probe == "logistic"
    fits = [_shares(fitter.labels[rows], fitter.n_classes) for rows in (*others, *(p.rows for p in tried.paths))]
    apart = max(_apart(one, other, log=log) for one in fits[: len(others)] for other in fits[len(others) :])
    left = []
    while best > STRONG and len(tried.stayed()) > 1 and _spread(path, best) <= SPREAD * apart:
        tried.leave_out(best)
        left.append(best)
        best = best_of(tried.curve())
    return Note("penalties_by_shares", {"alpha": left[0], "chosen": best}) if left else None


def _spread(path: FoldPath, alpha: float) -> float:
    """Standard deviation of the held-out rows' margins within their classes: between them intercepts differ too."""
    margin = path.fitter.outcome(path.probe(alpha), path.held).margin
    counts = np.maximum(np.bincount(path.labels), 1)
    means = np.bincount(path.labels, margin) / counts
    return float(np.sqrt(np.mean((margin - means[path.labels]) ** 2)))


def _shares(labels: np.ndarray, n_classes: int) -> np.ndarray:
    return np.asarray(np.bincount(labels, minlength=n_classes) / len(labels))


def _apart(shares: np.ndarray, others: np.ndarray, *, log: bool) -> float:
    """How far intercepts differ, of classes that both have, weighed by their shares."""
    both = (shares > 0) & (others > 0)
    a, b = shares[both], others[both]
    more = np.log(a / b) if log else a - b
    return float(np.sqrt(a @ more**2))
