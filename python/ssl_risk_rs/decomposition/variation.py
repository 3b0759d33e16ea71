"""What the rows do not show: how much the probe itself varies, and how optimistic its training error is."""

import math
from dataclasses import dataclass

import numpy as np

from ssl_risk_rs.decomposition.units import Units
from ssl_risk_rs.results.judgements import Judgements

__all__ = ["optimism", "paired_probe_variance", "probe_variance"]


@dataclass(frozen=True, slots=True)
class _Replicates:
    """Margins of probes that each lack a part of the training rows, (probes, n_te), and what makes their variance that
    of a probe of all rows."""

    margins: np.ndarray
    scale: float


def probe_variance(judged: Judgements, units: Units) -> tuple[float, float]:
    """Variance of a risk over refitted probes, and its degrees of freedom; NaN where there are too few probes.

    The fold probes at α* (or, where only one fold was fitted, the complements) are delete-a-part replicates. Errors
    on the test rows are smoothed by the margin's spread, and the noise of the test rows is taken away.
    """
    replicates = _of_folds(judged) or _of_complements(judged)
    if replicates is None:
        return math.nan, math.inf
    smooth = _smoothed(judged, replicates)
    if smooth is None:
        return 0.0, len(replicates.margins) - 1
    return _between(smooth, units) * replicates.scale, len(smooth) - 1


def paired_probe_variance(one: Judgements, other: Judgements, units: Units) -> tuple[float, float]:
    """The same of the difference of two encoders' risks, whose probes lack the same rows: the k-th of one is paired
    with the k-th of the other."""
    pair = (_of_folds(one), _of_folds(other))
    same_folds = np.array_equal(one.fold, other.fold)
    if pair[0] is None or pair[1] is None or not same_folds or pair[0].margins.shape != pair[1].margins.shape:
        pair = (_of_complements(one), _of_complements(other))
    if pair[0] is None or pair[1] is None:
        return math.nan, math.inf
    first, second = _smoothed(one, pair[0]), _smoothed(other, pair[1])
    if first is None or second is None:
        smooth = next((s for s in (first, second) if s is not None), None)
        return (0.0 if smooth is None else _between(smooth, units) * pair[0].scale), len(pair[0].margins) - 1
    return _between(second - first, units) * pair[0].scale, len(first) - 1


def _of_folds(judged: Judgements) -> _Replicates | None:
    margins = judged.fold_margins
    if margins is None or len(margins) < 3:
        return None
    count, n, folded = len(margins), len(judged.train_labels), int((judged.subset < 0).sum())
    return _Replicates(margins, (count - 1) ** 2 / count * folded / n)


def _of_complements(judged: Judgements) -> _Replicates | None:
    if judged.n_subsets < 2:
        return None
    n = len(judged.train_labels)
    size = float(np.mean(np.bincount(judged.subset[judged.in_subset])))
    return _Replicates(np.stack([outcome.margin for outcome in judged.cs]), (n - size) ** 2 / (size * n))


def _smoothed(judged: Judgements, replicates: _Replicates) -> np.ndarray | None:
    """Errors of the probes on the test rows, smoothed: (probes, n_te); None where all margins are equal."""
    spread = float(np.std(judged.us.margin)) * len(judged.test_labels) ** (-1 / 5)
    if not spread > 0:
        return None
    from scipy.special import ndtr

    return np.asarray(ndtr(-replicates.margins.astype(np.float64) / spread))


def _between(smooth: np.ndarray, units: Units) -> float:
    """Variance between probes of their mean over the test rows, less the noise of those rows."""
    count, m = smooth.shape
    between = float(np.var(smooth.mean(1), ddof=1))
    by_unit = units.summed(smooth.T) / m  # (units, probes)
    inner = by_unit - by_unit.mean(1, keepdims=True)
    inner -= inner.mean(0)
    g = len(by_unit)
    noise = g / (g - 1) * float((inner**2).sum()) / (count - 1) if g > 1 else 0.0
    return max(0.0, between - noise)


def optimism(judged: Judgements, risk: str) -> float:
    """max(1, H/R) of a training error, H the same probe's error on the test rows; infinity where R is 0."""
    own, on_test = {
        "risk_af": (judged.af, judged.floor_on_test),
        "risk_sup": (judged.sup, judged.sup_on_test),
    }.get(risk, (None, None))
    if own is None or on_test is None or on_test.error <= own.error:
        return 1.0
    return on_test.error / own.error if own.error > 0 else math.inf
