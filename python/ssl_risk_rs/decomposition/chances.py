"""How probably each penalty would be the one that another sample of training rows has chosen.

The penalty with the least held-out cost is chosen. Another, whose sum of costs is larger by D, of differences d_i
between the costs of g independent rows (or groups of rows), is the less one in so many samples, and as often chosen
compared with the others:

    w = Φ(−D/s),   s² = g/(g − 1) Σ (d_i − D/g)²,   w = ½ of the chosen one,   chance = w / Σ w

Of penalties that cost the same on every row the strongest alone is chosen.
"""

import math
from collections.abc import Mapping

import numpy as np

__all__ = ["chances"]

#: a penalty that is chosen less often is left out
LEAST_CHANCE = 0.005


def chances(costs: Mapping[float, np.ndarray], chosen: float, groups: np.ndarray | None = None) -> dict[float, float]:
    """Chance of each penalty that has one, the chosen one first, the others from strong to weak; their sum is 1.

    Parameters
    ----------
    costs : by penalty, what each held-out row costs, (m,)
    groups : group of each row, int (m,); None where rows are independent
    """
    from scipy.special import ndtr

    number = None if groups is None else np.unique(groups, return_inverse=True)[1].ravel()
    weights = {chosen: 0.5}
    for alpha in sorted(costs, reverse=True):
        if any(np.array_equal(costs[alpha], costs[other]) for other in weights):
            continue
        more = costs[alpha].astype(np.float64) - costs[chosen]
        if number is not None:
            more = np.bincount(number, more)
        spread = math.sqrt(len(more) * float(np.var(more, ddof=1))) if len(more) > 1 else 0.0
        if spread > 0:
            weights[alpha] = float(ndtr(-float(more.sum()) / spread))
    total = sum(weights.values())
    there = {alpha: w for alpha, w in weights.items() if w >= LEAST_CHANCE * total}
    return {alpha: w / sum(there.values()) for alpha, w in there.items()}
