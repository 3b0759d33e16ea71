"""Student's t and Holm's correction, for every room that tests something; scipy is imported where a t is needed."""

import math
from collections.abc import Iterable, Sequence
from statistics import NormalDist

import numpy as np

__all__ = ["below", "critical_value", "holm", "satterthwaite", "two_sided"]

#: degrees of freedom from which a t is taken for it: scipy has no t of infinitely many
_MANY = 1e9


def critical_value(confidence: float, df: float = math.inf) -> float:
    """Standard errors from an estimate to either end of its interval: a quantile of Student's t, normal where the
    degrees of freedom are infinite.

    >>> round(critical_value(0.95), 3)
    1.96
    """
    if math.isinf(df):
        return NormalDist().inv_cdf(0.5 + confidence / 2)
    from scipy.special import stdtrit

    return float(stdtrit(df, 0.5 + confidence / 2))


def below(t: float, df: float) -> float:
    """Probability that Student's t is at most `t`; normal where the degrees of freedom are infinite."""
    if math.isinf(df):
        return NormalDist().cdf(t)
    from scipy.special import stdtr

    return float(stdtr(min(df, _MANY), t))


def satterthwaite(parts: Iterable[tuple[float, float]]) -> float:
    """Degrees of freedom of a sum of independent variances, at least 1; infinite where nothing varies.

    parts : each variance with its own degrees of freedom

    >>> round(satterthwaite([(1.0, 4.0), (1.0, 4.0)]), 12)
    8.0
    """
    known = list(parts)
    total = sum(variance for variance, _ in known)
    squares = sum(variance**2 / df for variance, df in known)
    return max(1.0, total**2 / squares) if squares > 0 and total > 0 else math.inf


def two_sided(value: float, se: float, df: float) -> float:
    """p-value of no difference from 0; NaN where the standard error is 0."""
    return 2 * below(-abs(value) / se, df) if se > 0 else math.nan


def holm(p: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given: those at most α are together wrong with probability at most α. NaN
    stays and is not counted as a test.

    >>> [round(q, 6) for q in holm([0.01, 0.04, 0.03, float("nan")])]
    [0.03, 0.06, 0.06, nan]
    """
    values = np.asarray(p, dtype=np.float64)
    tested = np.flatnonzero(np.isfinite(values))
    order = tested[np.argsort(values[tested], kind="stable")]
    steps = values[order] * np.arange(len(order), 0, -1)
    adjusted = np.full(len(values), np.nan)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(steps)) if len(order) else []
    return [float(value) for value in adjusted]
