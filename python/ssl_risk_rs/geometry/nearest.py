"""Near-duplicates between two sets of rows: for each query its most similar base row, and how similar is too similar.

The rule. If queries and base rows are drawn alike and none is a copy, a query is as similar to its nearest base row as
a base row is to its nearest other one. So the threshold is a quantile of the latter, leave-one-out, and about a share
`false_share` of queries lies above it by chance. The most similar base rows are each other's nearest and come in pairs:
one more row would be in such a pair too, and its partner is no longer in it where it is left out. So values at the
threshold count as above it, which leaves pairs whole. Copies inside the base raise the threshold: the rule then finds
fewer pairs, not more.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, UInt32

from ssl_risk_rs import _core
from ssl_risk_rs.errors import ParameterError
from ssl_risk_rs.geometry.measuring import SampleRows

__all__ = ["FALSE_SHARE", "NULL_ROWS", "Matches", "find_matches"]

#: share of queries that are listed by chance: 10 of 10,000
FALSE_SHARE = 0.001
#: base rows that the search packs at a time: queries pass by once for each such block
BASE_BLOCK = 4096
#: base rows whose nearest other row is looked for: enough for a quantile of 0.999 to be known to a third
NULL_ROWS = 10_000


@dataclass(frozen=True, eq=False)
class Matches:
    """Queries that are more similar to a base row than the threshold.

    Attributes
    ----------
    queries, base : uint32 (p,), row numbers, most similar pairs first
    similarity : cosine of each pair; p_value : share of base rows that are as similar to another base row
    threshold : pairs above it (and those equal in every feature) are listed
    false_share : of queries that may lie above it by chance; NaN where the threshold was given by hand
    expected : queries that are listed by chance; low, high : of them in 95 of 100 draws of base rows and queries
    n_queries, n_base : rows that were compared; zero_rows : queries without a direction, which match nothing
    null_rows : base rows behind the threshold; seed : that drew them
    null : float64, ascending, their similarities to their nearest other base row
    nearest : float64 (n_queries,), similarity of every query to its nearest base row; NaN where there is none
    """

    queries: UInt32[np.ndarray, " p"]
    base: UInt32[np.ndarray, " p"]
    similarity: Float64[np.ndarray, " p"]
    p_value: Float64[np.ndarray, " p"]
    threshold: float
    false_share: float
    expected: float
    low: int
    high: int
    n_queries: int
    n_base: int
    zero_rows: int
    null_rows: int
    seed: int
    null: Float64[np.ndarray, " q"]
    nearest: Float64[np.ndarray, " m"]


def find_matches(
    sample: SampleRows,
    base: SampleRows,
    *,
    false_share: float = FALSE_SHARE,
    threshold: float | None = None,
    null_rows: int = NULL_ROWS,
    seed: int = 0,
    n_threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Matches:
    """Find the rows of `sample` that are as good as copies of a row of `base`, by cosine.

    Parameters
    ----------
    false_share : of queries that may lie above the threshold by chance, between 0 and 1
    threshold : by hand, instead of by `false_share`
    null_rows : base rows, drawn with `seed`, whose nearest other row gives the distribution
    progress : called with rows visited, and how many there are

    Raises
    ------
    ParameterError for a share or threshold out of range, fewer than two base rows, NaN or infinity; ShapeError if the
    two differ in features.

    Notes
    -----
    Time 2·(m + null_rows)·n·d operations on the kernels of the probes, memory O(m + n).
    """
    if not 0 < false_share < 1:
        raise ParameterError(f"false_share must lie between 0 and 1, got {false_share}")
    if threshold is not None and not -1 <= threshold <= 1:
        raise ParameterError(f"threshold is a cosine: it must lie between -1 and 1, got {threshold}")
    n = len(base.rows)
    if n < 2:
        raise ParameterError(f"there are {n} base rows: their nearest neighbours need at least two")
    drawn = base.rows
    if n > null_rows:
        drawn = np.sort(np.random.default_rng(seed).choice(base.rows, null_rows, replace=False)).astype(np.uint32)
    passes = math.ceil(n / BASE_BLOCK)
    total = passes * (len(drawn) + len(sample.rows))

    def of(done: int) -> Callable[[int], None] | None:
        return None if progress is None else lambda rows: progress(done + rows, total)

    _, null = _core.nearest_rows(
        base.features.source, drawn, base.features.source, base.rows, same=True, n_threads=n_threads, progress=of(0)
    )
    places, nearest = _core.nearest_rows(
        sample.features.source, sample.rows, base.features.source, base.rows, n_threads=n_threads,
        progress=of(passes * len(drawn)),
    )  # fmt: skip
    null = np.sort(null[~np.isnan(null)])
    if threshold is None:
        threshold = _threshold(null, false_share)
    else:
        false_share = math.nan
    known = ~np.isnan(nearest)
    expected, low, high = _by_chance(null, threshold, int(known.sum()))
    chosen = np.flatnonzero(known & ((nearest > threshold) | (nearest == 1.0)))
    chosen = chosen[np.argsort(-nearest[chosen], kind="stable")]
    as_similar = len(null) - np.searchsorted(null, nearest[chosen], side="left")
    return Matches(
        queries=sample.rows[chosen],
        base=base.rows[places[chosen]],
        similarity=nearest[chosen],
        p_value=(1 + as_similar) / (1 + len(null)),
        threshold=threshold,
        false_share=false_share,
        expected=expected,
        low=low,
        high=high,
        n_queries=len(sample.rows),
        n_base=n,
        zero_rows=int((~known).sum()),
        null_rows=len(null),
        seed=seed,
        null=null,
        nearest=nearest,
    )


def _threshold(null: np.ndarray, false_share: float) -> float:
    """Smallest value of the distribution that at most a share of it reaches; 1, which only copies reach, where there
    are too few rows to tell."""
    values, first = np.unique(null, return_index=True)
    reached = len(null) - first <= false_share * (len(null) + 1)
    return float(values[reached.argmax()]) if reached.any() else 1.0


def _by_chance(null: np.ndarray, threshold: float, n_queries: int) -> tuple[float, int, int]:
    """Queries that are listed if they are drawn as the base rows are, and their range in 95 of 100 draws.

    They are binomial with a share that the distribution knows by those of its values that reach the threshold: Beta,
    with rows that are each other's nearest counted once.
    """
    import scipy.stats

    at = null[(null >= threshold) if threshold < 1 else (null == 1.0)]
    by_hand = threshold < 1 and threshold not in at  # as one more draw from the distribution
    count = len(at) + by_hand
    if count in (0, len(null) + 1) or n_queries == 0:
        whole = n_queries if count else 0
        return float(whole), whole, whole
    copies = int((at == 1.0).sum())
    known = len(np.unique(at[at < 1])) + copies / 2 + by_hand
    share = count / (len(null) + 1)
    listed = scipy.stats.betabinom(n_queries, known, known * (1 - share) / share)
    return n_queries * share, int(listed.ppf(0.025)), int(listed.ppf(0.975))
