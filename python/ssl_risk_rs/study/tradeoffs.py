"""Trade-offs between risks, encoders that no other beats in both, and how sure that is."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Bool, Float64

from ssl_risk_rs._inference import critical_value
from ssl_risk_rs.study._extra import require

__all__ = ["IMAGENET_ROWS", "Front", "Member", "Tradeoff", "best_chances", "front", "ranks", "tradeoffs"]

#: rows that each published risk is judged on; components are differences of such risks
IMAGENET_ROWS = 50_000
#: draws of the intervals: a share of 5 % is then known to half a percent
_DRAWS = 2000
#: encoders that a stratum must have for a correlation
_LEAST = 5
#: encoders from which on their spread says how far measured risks are off
_SHRUNK = 4


@dataclass(frozen=True, slots=True)
class Tradeoff:
    """Spearman's rank correlation of two risks over encoders; a negative one is a trade-off.

    Attributes
    ----------
    by, stratum : column and value of the encoders it is over; "" for all
    low, high : interval from leaving out groups (objectives) in turn, or encoders where all are of one; NaN where there
        are two to four groups, which say too little, and where the order is the same or the reverse
    n, groups : encoders, and groups that were left out in turn
    """

    first: str
    second: str
    by: str
    stratum: str
    rho: float
    low: float
    high: float
    confidence: float
    n: int
    groups: int


@dataclass(frozen=True, slots=True)
class Member:
    """An encoder that is on a front, or may be.

    `chance` is the share of draws from the sampling errors of its risks, and of all others', in which it is on the
    front; NaN where the number of judged rows is not known.
    """

    encoder: str
    first: float
    second: float
    on_front: bool
    chance: float


@dataclass(frozen=True, slots=True)
class Front:
    """Encoders that no other beats in both risks, with those that may be such."""

    first: str
    second: str
    members: tuple[Member, ...]
    n: int


def ranks(values: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """Ranks from 1; ties share their mean."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return ((ends - counts + 1 + ends) / 2)[place]


def spearman(a: Float64[np.ndarray, " n"], b: Float64[np.ndarray, " n"]) -> float:
    """Spearman's ρ; NaN where one of them is constant."""
    x, y = ranks(a), ranks(b)
    x, y = x - x.mean(), y - y.mean()
    size = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / size if size > 0 else math.nan


def tradeoffs(
    frame: pl.DataFrame,
    pairs: Sequence[tuple[str, str]],
    *,
    by: Sequence[str] = ("year", "family", "objective", "z_dim"),
    cluster: str = "",
    confidence: float = 0.95,
) -> list[Tradeoff]:
    """Rank correlations of pairs of risks, over all encoders and within each value of the columns `by`.

    Dimensions are taken by the power of two next to them. Strata of fewer than five encoders are left out.
    """
    found = []
    for first, second in pairs:
        both = frame.drop_nulls([first, second])
        found += [_tradeoff(both, first, second, "", "", cluster, confidence)] if both.height >= _LEAST else []
        for column in by:
            if column not in both.columns:
                continue
            value = pl.col(column)
            if column == "z_dim":
                value = (2 ** value.cast(pl.Float64).log(2).round()).cast(pl.Int64)
            named = both.with_columns(value.cast(pl.String).alias("_stratum")).drop_nulls("_stratum")
            order = named.with_columns(pl.col(column).alias("_order")).sort("_order")
            for stratum in order["_stratum"].unique(maintain_order=True).to_list():
                rows = named.filter(pl.col("_stratum") == stratum)
                if rows.height >= _LEAST:
                    found.append(_tradeoff(rows, first, second, column, stratum, cluster, confidence))
    return found


def _tradeoff(
    rows: pl.DataFrame, first: str, second: str, by: str, stratum: str, cluster: str, confidence: float
) -> Tradeoff:
    a, b = (rows[c].to_numpy().astype(np.float64) for c in (first, second))
    names = rows[cluster].cast(pl.String).to_list() if cluster in rows.columns else [None] * rows.height
    places: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        places.setdefault(f"row {i}" if name is None else name, []).append(i)
    groups = list(places.values()) if len(places) > 1 else [[i] for i in range(rows.height)]
    rho = spearman(a, b)
    low, high = math.nan, math.nan
    if len(groups) >= _LEAST:
        low, high = _jackknife(a, b, groups, rho, confidence)
    return Tradeoff(first, second, by, stratum, rho, low, high, confidence, rows.height, len(groups))


def _jackknife(
    a: Float64[np.ndarray, " n"], b: Float64[np.ndarray, " n"], groups: Sequence[Sequence[int]], rho: float,
    confidence: float,
) -> tuple[float, float]:  # fmt: skip
    """Interval from leaving out each group in turn, on the scale of Fisher's z."""
    require("scipy.special")
    count = len(groups)
    without = np.array([spearman(np.delete(a, list(g)), np.delete(b, list(g))) for g in groups])
    if not np.isfinite(rho) or abs(rho) >= 1 or not np.isfinite(without).all() or np.abs(without).max() >= 1:
        return math.nan, math.nan
    z = np.arctanh(without)
    se = math.sqrt((count - 1) / count * float(np.sum((z - z.mean()) ** 2)))
    reach = critical_value(confidence, count - 1) * se
    return math.tanh(math.atanh(rho) - reach), math.tanh(math.atanh(rho) + reach)


def front(
    frame: pl.DataFrame, first: str, second: str, *, judged_rows: int | None = IMAGENET_ROWS, seed: int = 0
) -> Front:
    """Encoders that no other beats in both risks, and the chance of each to be one.

    Parameters
    ----------
    judged_rows : rows that each risk is judged on, for its sampling error; None gives no chances. A component is taken
        for a difference of two such risks where the frame has `agg_risk` and `risk_af`. Errors of few-shot draws and of
        pretraining are not in it.
    """
    rows = frame.drop_nulls([first, second]).sort(first)
    points = rows.select(first, second).to_numpy().astype(np.float64)
    on = _undominated(points)
    chance = np.full(len(points), math.nan)
    if judged_rows is not None and len(points):
        spread = np.column_stack([_error(rows, name, judged_rows) for name in (first, second)])
        rng = np.random.default_rng(seed)
        count = np.zeros(len(points))
        for _ in range(_DRAWS):
            count += _undominated(points + spread * rng.standard_normal(points.shape))
        chance = count / _DRAWS
    names = rows["encoder"].cast(pl.String).to_list()
    members = tuple(
        Member(names[i], float(points[i, 0]), float(points[i, 1]), bool(on[i]), float(chance[i]))
        for i in range(len(points))
        if on[i] or chance[i] >= 0.05
    )
    return Front(first, second, members, len(points))


def _error(rows: pl.DataFrame, name: str, judged: int) -> Float64[np.ndarray, " n"]:
    """Standard error of a risk, or of a component as the larger of the risks that it is a difference of."""
    base = {"probe_gen": "agg_risk", "enc_gen": "agg_risk", "usability": "risk_af", "approx": "risk_af"}.get(name, name)
    risk = rows[base if base in rows.columns else name].to_numpy().astype(np.float64)
    risk = np.clip(np.nan_to_num(risk, nan=0.5), 0.0, 1.0)
    times = 2.0 if name == "enc_gen" else 1.0  # test rows and held-out training rows both vary
    return np.asarray(np.sqrt(times * risk * (1 - risk) / judged))


def _undominated(points: Float64[np.ndarray, "n 2"]) -> Bool[np.ndarray, " n"]:
    """Points that no other is at least as good as in both and better in one."""
    order = np.lexsort((points[:, 1], points[:, 0]))
    kept = np.zeros(len(points), dtype=bool)
    best, previous = math.inf, None
    for i in order:
        x, y = points[i]
        if y < best or (previous is not None and x == previous[0] and y == previous[1]):
            kept[i], best, previous = True, y, (x, y)
    return kept


def best_chances(
    frame: pl.DataFrame, column: str, *, judged_rows: int | None = IMAGENET_ROWS, count: int = 3, seed: int = 0
) -> list[tuple[str, float, float]]:
    """The `count` encoders of least risk: name, risk, and chance to be the best of all given the sampling error.

    The least of many measured risks is too low: each is taken as far towards the mean of all as encoders that differ
    by so much, measured with such errors, call for (empirical Bayes; `_SHRUNK` of them or more).
    """
    rows = frame.drop_nulls([column]).sort(column, "encoder")
    risk = rows[column].to_numpy().astype(np.float64)
    chance: Mapping[int, float] = {}
    if judged_rows is not None and len(risk):
        spread = np.sqrt(np.clip(risk * (1 - risk), 0, None) / judged_rows)
        centre, kept = float(risk.mean()), np.ones(len(risk))
        if len(risk) >= _SHRUNK:
            between = max(0.0, float(risk.var(ddof=1) - np.mean(spread**2)))
            kept = between / np.maximum(between + spread**2, np.finfo(float).tiny)
        # ties of encoders that all are alike are broken by chance
        width = np.maximum(np.sqrt(kept) * spread, 1e-12)
        noise = np.random.default_rng(seed).standard_normal((_DRAWS, len(risk)))
        best = np.argmin(centre + kept * (risk - centre) + width * noise, axis=1)
        chance = {int(i): float(np.mean(best == i)) for i in range(min(count, len(risk)))}
    names = rows["encoder"].cast(pl.String).to_list()
    return [(names[i], float(risk[i]), chance.get(i, math.nan)) for i in range(min(count, len(risk)))]
