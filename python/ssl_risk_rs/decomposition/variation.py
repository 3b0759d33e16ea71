"""What the rows do not show: how much the probe itself varies, and how optimistic its training error is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ssl_risk_rs.decomposition.units import Units
from ssl_risk_rs.results.judgements import Judgements

__all__ = ["contrast_probe_variance", "optimism", "probe_variance"]


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


def contrast_probe_variance(judged: Sequence[Judgements], signs: Sequence[float], units: Units) -> tuple[float, float]:
    """The same of a signed sum of encoders' risks, whose probes lack the same rows: the k-th probes of all are summed
    before anything is squared."""
    of_folds = [_of_folds(j) for j in judged]
    shapes = {None if r is None else r.margins.shape for r in of_folds}
    same = len(shapes) == 1 and all(np.array_equal(judged[0].fold, j.fold) for j in judged[1:])
    every = [r for r in (of_folds if same else []) if r is not None]
    if len(every) < len(judged):
        every = [r for j in judged if (r := _of_complements(j)) is not None]
    if len(every) < len(judged):
        return math.nan, math.inf
    total = np.zeros(every[0].margins.shape)
    for j, replicates, sign in zip(judged, every, signs, strict=True):
        smooth = _smoothed(j, replicates)
        if smooth is not None:  # else all margins are equal, and nothing varies
            total += sign * smooth
    return _between(total, units) * every[0].scale, len(total) - 1


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
        # no row is left that the probe of all rows has not seen: the floor probe of the training rows stands in
        "risk_uf": (judged.uf, judged.floor_on_test),
    }.get(risk, (None, None))
    if own is None or on_test is None or on_test.error <= own.error:
        return 1.0
    return on_test.error / own.error if own.error > 0 else math.inf
