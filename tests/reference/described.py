"""What the authors' table shows before any model: best by year and by setting, rank changes, geometry against risk."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Float64
from ssl_risk_rs.errors import DataError
from ssl_risk_rs.study._extra import require
from ssl_risk_rs.study.ols import factor
from ssl_risk_rs.study.tradeoffs import ranks

__all__ = ["RankChange", "Regression", "best_by_setting", "best_by_year", "geometry", "kendall", "rank_change"]


@dataclass(frozen=True, slots=True)
class RankChange:
    """How the order of encoders differs between two columns of risks.

    Attributes
    ----------
    tau : Kendall's τ-b
    mean_move : mean absolute change of rank, in places
    n : encoders that have both
    """

    first: str
    second: str
    tau: float
    mean_move: float
    n: int


@dataclass(frozen=True, slots=True)
class Regression:
    """Least squares of one column on others: coefficients by name, R², rows."""

    target: str
    coefficients: dict[str, float]
    r2: float
    n: int


def best_by_year(frame: pl.DataFrame, *, pretraining_data: str | None = "ImageNet-1K") -> pl.DataFrame:
    """For each year the encoder with the least aggregated risk; a missing component stays null."""
    if missing := [c for c in ("year", "agg_risk", "encoder") if c not in frame.columns]:
        raise DataError(f"the best encoder of each year needs the columns {', '.join(missing)}")
    if pretraining_data is not None and "pretraining_data" in frame.columns:
        frame = frame.filter(pl.col("pretraining_data") == pretraining_data)
    shown = [c for c in ("approx", "usability", "probe_gen", "enc_gen", "agg_risk") if c in frame.columns]
    best = frame.filter(pl.col("agg_risk").is_not_null()).sort("year", "agg_risk")
    return best.group_by("year", maintain_order=True).first().select("year", "encoder", *shown)


def best_by_setting(frame: pl.DataFrame, columns: Sequence[str], count: int = 1) -> dict[str, list[tuple[str, float]]]:
    """The `count` encoders of least risk in each column, best first."""
    found = {}
    for column in columns:
        top = frame.filter(pl.col(column).is_not_null()).sort(column, "encoder").head(count)
        found[column] = list(zip(top["encoder"].to_list(), top[column].to_list(), strict=True))
    return found


def kendall(a: Float64[np.ndarray, " n"], b: Float64[np.ndarray, " n"]) -> float:
    """Kendall's τ-b; NaN if one of them is constant."""
    signs = np.sign(a[:, None] - a) * np.sign(b[:, None] - b)
    pairs = math.sqrt(float(np.count_nonzero(a[:, None] - a)) * float(np.count_nonzero(b[:, None] - b)))
    return float(signs.sum()) / pairs if pairs else math.nan


def rank_change(frame: pl.DataFrame, first: str, second: str, among: Sequence[str] = ()) -> RankChange:
    """Compare the order of encoders in two columns of risks, over the rows that have both and all of `among`."""
    both = frame.drop_nulls([first, second, *among])
    a, b = (both[c].to_numpy().astype(np.float64) for c in (first, second))
    move = float(np.mean(np.abs(ranks(a) - ranks(b)))) if len(a) else math.nan
    return RankChange(first, second, kendall(a, b), move, both.height)


def geometry(frame: pl.DataFrame, target: str = "agg_risk") -> Regression:
    """Aggregated risk on effective dimensionality, uniformity and alignment, over ResNet-50 rows as the authors do."""
    inputs = ("train_rank", "train_uniformity", "trainrealaug_alignment")
    if missing := [c for c in (*inputs, "architecture_exact", target) if c not in frame.columns]:
        raise DataError(f"the regression on geometry needs the columns {', '.join(missing)}")
    rows = frame.filter(pl.col("architecture_exact") == "resnet50").drop_nulls([target, *inputs])
    if rows.height < 5:
        raise DataError(f"{rows.height} rows of architecture resnet50 have these statistics; the regression needs 5")
    require("scipy")
    names = ("log train_rank", "train_uniformity", "trainrealaug_alignment")
    columns = [np.log(rows["train_rank"].to_numpy()), *(rows[c].to_numpy() for c in inputs[1:])]
    x = np.column_stack([np.ones(rows.height), *(c - c.mean() for c in columns)])
    y = rows[target].to_numpy().astype(np.float64)
    fit = factor(x).fit(y)
    r2 = 1 - float(fit.residuals @ fit.residuals) / float(np.sum((y - y.mean()) ** 2))
    return Regression(target, dict(zip(names, map(float, fit.coefficients[1:]), strict=True)), r2, rows.height)
