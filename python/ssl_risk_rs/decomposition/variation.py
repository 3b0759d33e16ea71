"""What the rows do not show: how much the probe itself varies, and how optimistic its training error is."""

import math

import numpy as np

from ssl_risk_rs.decomposition.units import Units
from ssl_risk_rs.results.judgements import Judgements

__all__ = ["optimism", "probe_variance"]


def probe_variance(judged: Judgements, units: Units) -> tuple[float, float]:
    """Variance of a risk over refitted probes, and its degrees of freedom; NaN where there are too few probes.

    The fold probes at α* (or, where only one fold was fitted, the complements) are delete-a-part replicates. Errors
    on the test rows are smoothed by the margin's spread, and the noise of the test rows is taken away.
    """
    n, m = len(judged.train_labels), len(judged.test_labels)
    folded = int((judged.subset < 0).sum())
    margins = judged.fold_margins
    if margins is not None and len(margins) >= 3:
        count = len(margins)
        scale = (count - 1) ** 2 / count * folded / n
    elif judged.n_subsets >= 2:
        margins = np.stack([outcome.margin for outcome in judged.cs])
        size = float(np.mean(np.bincount(judged.subset[judged.in_subset])))
        count, scale = len(margins), (n - size) ** 2 / (size * n)
    else:
        return math.nan, math.inf
    spread = float(np.std(judged.us.margin)) * m ** (-1 / 5)
    if not spread > 0:
        return 0.0, count - 1
    from scipy.special import ndtr

    smooth = ndtr(-margins.astype(np.float64) / spread)  # (probes, n_te)
    between = float(np.var(smooth.mean(1), ddof=1))
    by_unit = units.summed(smooth.T) / m  # (units, probes)
    inner = by_unit - by_unit.mean(1, keepdims=True)
    inner -= inner.mean(0)
    g = len(by_unit)
    noise = g / (g - 1) * float((inner**2).sum()) / (count - 1) if g > 1 else 0.0
    return max(0.0, between - noise) * scale, count - 1


def optimism(judged: Judgements, risk: str) -> float:
    """max(1, H/R) of a training error, H the same probe's error on the test rows; infinity where R is 0."""
    own, on_test = {
        "risk_af": (judged.af, judged.floor_on_test),
        "risk_sup": (judged.sup, judged.sup_on_test),
    }.get(risk, (None, None))
    if own is None or on_test is None or on_test.error <= own.error:
        return 1.0
    return on_test.error / own.error if own.error > 0 else math.inf
