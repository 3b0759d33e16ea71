"""A number with its interval."""

import math
from dataclasses import dataclass
from enum import Enum

__all__ = ["LEAST_GROUPS", "Estimate", "Grade", "wilson"]

#: groups in a set of rows below which no interval is given
LEAST_GROUPS = 4
#: share of the variance of n independent rows below which a variance is the rounding of none
ROUNDING = 1e-9


class Grade(str, Enum):
    """How far an interval can be trusted."""

    SOUND = "sound"
    #: fewer than ten rows decide it
    FEW_ROWS = "few_rows"
    #: fewer than 20 groups in a set of rows it rests on
    FEW_GROUPS = "few_groups"
    #: fewer than 10 groups, fewer than 5 degrees of freedom, or a training error too optimistic to bound
    INDICATIVE = "indicative"
    #: too few groups for any interval: `low` and `high` are NaN
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Estimate:
    """A quantity with its interval, in fractions (never percent), or in the unit of another metric.

    Attributes
    ----------
    quantity : name in `QUANTITIES`
    estimate, se, low, high : float; se includes everything the interval does but guards for few rows
    n : rows it is judged on
    n_groups : groups of those rows; None where rows have no groups
    df : degrees of freedom of the t quantile; infinity for a normal interval
    grade : how far the interval can be trusted
    """

    quantity: str
    estimate: float
    se: float
    low: float
    high: float
    n: int
    n_groups: int | None = None
    df: float = math.inf
    grade: Grade = Grade.SOUND


def wilson(p: float, variance: float, n: float, quantile: float) -> tuple[float, float]:
    """Wilson's interval of a risk with n_eff = p(1 − p)/variance rows, `n` where either is 0 but for rounding."""
    spread = p * (1 - p)
    n_eff = spread / variance if spread > 0 and variance > ROUNDING * spread / n else n
    shrink = 1 + quantile**2 / n_eff
    centre = (p + quantile**2 / (2 * n_eff)) / shrink
    half = quantile / shrink * math.sqrt(spread / n_eff + quantile**2 / (4 * n_eff**2))
    # the interval contains p; at p = 0 or 1 rounding would leave it out by an ulp
    return min(p, max(0.0, centre - half)), max(p, min(1.0, centre + half))
