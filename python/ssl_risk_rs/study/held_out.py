"""How well the laws of label counts do on encoders that they were not fitted on."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import polars as pl
from jaxtyping import Bool, Float64

from ssl_risk_rs.study.labels import LabelPoints
from ssl_risk_rs.study.law import fit_logit_law, measured_at
from ssl_risk_rs.study.law_paper import fit_paper_law, fit_rival_law

__all__ = ["By", "HeldOut", "held_out_logit", "held_out_paper", "held_out_sets", "summary"]

By = Literal["encoder", "objective"]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Errors of a law on points that it was not fitted on.

    Attributes
    ----------
    law : "paper", "logit", "logit given 30,000" …
    left_out : what was left out together: "encoder", "objective", or a set by name
    rmse : root mean square error, a fraction; `by_labels` at each number of labels
    coverage, width : of the intervals at `confidence`, NaN where the law has none, each point counting the same; a
        width of 1 is that of intervals that hold every error, where objectives are too few for others
    coverage_groups : share covered, each left-out group counting the same
    n, groups : points and groups
    """

    law: str
    left_out: str
    rmse: float
    by_labels: Mapping[int, float]
    n: int
    groups: int
    r2: float = math.nan
    coverage: float = math.nan
    coverage_groups: float = math.nan
    width: float = math.nan
    confidence: float = math.nan

    @property
    def holds_every_error(self) -> bool:
        """Whether its intervals are as wide as errors can be, so that what they cover says nothing."""
        return self.width > 1 - 1e-9


def summary(law: str, left_out: str, points: LabelPoints, predicted: Float64[np.ndarray, " n"], groups: int) -> HeldOut:
    """Root mean square error and R² of predictions."""
    off = predicted - points.error
    by = {int(n): math.sqrt(float(np.mean(off[points.n_labels == n] ** 2))) for n in np.unique(points.n_labels)}
    total = float(np.sum((points.error - points.error.mean()) ** 2))
    r2 = 1 - float(off @ off) / total if total > 0 else math.nan
    return HeldOut(law, left_out, math.sqrt(float(np.mean(off**2))), by, len(points), groups, r2)


def held_out_paper(points: LabelPoints, by: By) -> HeldOut:
    """The paper's law on left-out encoders or objectives: fitted on all points, judged on the few-shot ones."""
    judged = points.take(points.n_labels < points.n_full)
    groups = np.array(judged.encoder if by == "encoder" else judged.objective)
    fitted_on = np.array(points.encoder if by == "encoder" else points.objective)
    predicted = np.empty(len(judged))
    for name in np.unique(groups):
        law = fit_paper_law(points.take(fitted_on != name))
        predicted[groups == name] = law.predict(judged.take(groups == name))
    return summary("paper", by, judged, predicted, len(np.unique(groups)))


def held_out_logit(
    points: LabelPoints,
    by: By,
    *,
    measured: float | None = None,
    confidence: float = 0.9,
    intervals: bool = True,
) -> HeldOut:
    """The law on the logit scale on left-out encoders or objectives, with the coverage of its intervals.

    Intervals are made anew without the left-out group, from residuals of objectives left out of the rest; without
    `intervals` there is no coverage.
    """
    used, _ = measured_at(points.take(points.n_labels < points.n_full), measured)
    points = points.take(points.n_labels < points.n_full)
    every = np.array(points.encoder if by == "encoder" else points.objective)
    judged = np.array(used.encoder if by == "encoder" else used.objective)
    predicted, inside, width = np.empty(len(used)), np.empty(len(used)), np.empty(len(used))
    for name in np.unique(judged):
        law = fit_logit_law(points.take(every != name), measured=measured, intervals=intervals)
        out, known = measured_at(points.take(every == name), measured)
        here = judged == name
        predicted[here] = law.predict(out, known)
        low, high = law.intervals(out, known, confidence)
        inside[here] = (low <= out.error) & (out.error <= high)
        width[here] = high - low
    name = "logit" if measured is None else f"logit given {measured:,.0f}"
    plain = summary(name, by, used, predicted, len(np.unique(judged)))
    if not intervals:
        return plain
    return replace(
        plain,
        coverage=float(inside.mean()),
        coverage_groups=float(np.mean([inside[judged == g].mean() for g in np.unique(judged)])),
        width=float(width.mean()),
        confidence=confidence,
    )


#: sets of encoders that the authors leave out: name → column and value
_SETS = {
    "year 2022": ("year", "2022"), "contrastive": ("ssl_mode", "contrastive"), "generative": ("ssl_mode", "generative"),
    "ViT": ("family", "vit"), "ResNet": ("family", "resnet"),
}  # fmt: skip


def held_out_sets(frame: pl.DataFrame, points: LabelPoints, *, seed: int = 0) -> list[HeldOut]:
    """Three laws on the sets that the authors leave out, fitted on the rest.

    The paper's law, the law on the logit scale, and the law of sizes, each on some 60 % of the points of every
    encoder, drawn at random, and on the sets whose columns the frame has. The law on the logit scale is fitted on the
    few-shot points.
    """
    rng = np.random.default_rng(seed)
    names, place = np.unique(np.array(points.encoder), return_inverse=True)
    out = np.zeros(len(points), dtype=bool)
    for i in range(len(names)):
        here = rng.permutation(np.flatnonzero(place == i))
        out[here[: round(0.6 * len(here))]] = True
    sets: dict[str, Bool[np.ndarray, " n"]] = {f"random {out.mean():.0%}".replace("%", " %"): out}
    for name, (column, value) in _SETS.items():
        if column in frame.columns:
            chosen = set(frame.filter(pl.col(column).cast(pl.String) == value)["encoder"].cast(pl.String).to_list())
            sets[name] = np.array([encoder in chosen for encoder in points.encoder])
    found = []
    for name, left in sets.items():
        if not 0 < left.sum() < len(left):
            continue
        rest, judged = points.take(~left), points.take(left)
        predicted = {
            "paper": fit_paper_law(rest).predict(judged),
            "logit": fit_logit_law(rest, intervals=False).predict(judged),
            "sizes": fit_rival_law(rest).predict(judged),
        }
        found += [summary(law, name, judged, values, 1) for law, values in predicted.items()]
    return found
