"""What the rows do not show: how much the probe itself varies, and how optimistic its training error is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ssl_risk_rs.decomposition.units import Units
from ssl_risk_rs.results.judgements import Judgements, Outcome
from ssl_risk_rs.results.metrics import ERROR, Metric, risk_of, row_values, row_weights
from ssl_risk_rs.results.quantities import PROBE_RISKS, Quantity

__all__ = [
    "ProbeScores", "contrast_probe_variance", "lacked_classes", "optimism", "probe_share", "probe_variance",
    "unseen_error",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Replicates:
    """Probes that each lack a part of the training rows, judged on the test rows, what makes their variance that of a
    probe of all rows, and the classes that each lacks altogether: bool (probes, k)."""

    outcomes: tuple[Outcome, ...]
    scale: float
    lacks: np.ndarray


def probe_variance(
    judged: Judgements, units: Units, metric: Metric = ERROR, *, fitted: Judgements | None = None
) -> tuple[float, float]:
    """Variance of a risk over refitted probes, and its degrees of freedom; NaN where there are too few probes.

    The fold probes at α* (or, where only one fold was fitted, the complements) are delete-a-part replicates. Errors
    on the test rows are smoothed by the margin's spread, and the noise of the test rows is taken away.

    fitted : all rows, where `judged` are some of those that the probes were fitted on and judged on
    """
    replicates = _of_folds(judged, metric, fitted) or _of_complements(judged, fitted)
    if replicates is None:
        return math.nan, math.inf
    smooth = _smoothed(judged, replicates, metric)
    if smooth is None:
        return 0.0, len(replicates.outcomes) - 1
    return _between(smooth, units) * replicates.scale, len(smooth) - 1


def probe_share(quantity: Quantity, fitted: Judgements) -> float:
    """The part of V_P that a quantity has: that of the squared sum of its weights of risks that vary with the probe.

    They cancel in R_US − R_CS. What is left is which rows are set aside: with w_i the mean weight of row i in the
    complements' probes, 1/(n − n_j) or 0 in that without subset j, the two means differ by Σ (1/n − w_i) φ_i where V_P
    is that of Σ φ_i/n, so that it has n Σ w_i² − 1 of V_P.
    """
    moved = sum(w for risk, w in quantity.weights.items() if risk in PROBE_RISKS)
    if moved or "risk_cs" not in quantity.weights or "risk_us" not in quantity.weights:
        return moved**2
    sizes = np.bincount(fitted.subset[fitted.in_subset], minlength=fitted.n_subsets)
    n = len(fitted.train_labels)
    if sizes.max(initial=0) == n:  # rows of one subset alone judge: nothing tells what its complement has
        return 0.0
    each = 1 / (n - sizes) / len(sizes)  # of a row, by complement
    squares = (n - sizes.sum()) * each.sum() ** 2 + float(sizes @ (each.sum() - each) ** 2)
    return max(0.0, float(n * squares - 1))


class ProbeScores:
    """Scores of an encoder's own probes on the test rows, smoothed; made once for all contrasts that need them."""

    def __init__(self, judged: Judgements, metric: Metric = ERROR) -> None:
        self.judged, self.metric = judged, metric

    @cached_property
    def of_folds(self) -> "_Scores | None":
        """The fold probes; None without them."""
        return self._scores(_of_folds(self.judged, self.metric))

    @cached_property
    def of_complements(self) -> "_Scores | None":
        """The complements; None without them."""
        return self._scores(_of_complements(self.judged))

    def _scores(self, replicates: "_Replicates | None") -> "_Scores | None":
        if replicates is None:
            return None
        return _Scores(len(replicates.outcomes), replicates.scale, _smoothed(self.judged, replicates, self.metric))


@dataclass(frozen=True, slots=True)
class _Scores:
    """Smoothed scores (probes, n_te), None where all margins are equal, so that nothing varies; see `_Replicates`."""

    count: int
    scale: float
    smooth: np.ndarray | None


def contrast_probe_variance(
    encoders: Sequence[ProbeScores], signs: Sequence[float], units: Units
) -> tuple[float, float]:
    """The same of a signed sum of encoders' errors, whose probes lack the same rows: the k-th probes of all are
    summed before anything is squared."""
    first, *others = (e.judged for e in encoders)
    same = all(np.array_equal(first.fold, j.fold) for j in others)
    every = [s for e in encoders if same and (s := e.of_folds) is not None]
    if len(every) < len(encoders) or len({s.count for s in every}) > 1:
        every = [s for e in encoders if (s := e.of_complements) is not None]
    if len(every) < len(encoders):
        return math.nan, math.inf
    total = np.zeros((every[0].count, len(first.test_labels)))
    for scores, sign in zip(every, signs, strict=True):
        if scores.smooth is not None:
            total += sign * scores.smooth
    return _between(total, units) * every[0].scale, len(total) - 1


def _of_folds(judged: Judgements, metric: Metric, fitted: Judgements | None = None) -> _Replicates | None:
    """The fold probes, where what the metric reads of them was kept."""
    margins, losses, ranks = judged.fold_margins, judged.fold_losses, judged.fold_ranks
    if margins is None or len(margins) < 3:
        return None
    if (losses is None and "loss" in metric.reads) or (ranks is None and "rank" in metric.reads):
        return None
    if losses is None:
        losses = np.zeros_like(margins)
    wrong = (margins < 0).astype(np.uint32) if ranks is None else ranks.astype(np.uint32)
    predicted = np.zeros(margins.shape[1], np.uint32)  # no metric reads it
    fitted = fitted or judged
    count, n, folded = len(margins), len(fitted.train_labels), int((fitted.subset < 0).sum())
    outcomes = tuple(Outcome(predicted, *arrays) for arrays in zip(wrong, losses, margins, strict=True))
    return _Replicates(outcomes, (count - 1) ** 2 / count * folded / n, _lacked_by_folds(fitted, count))


def _lacked_by_folds(judged: Judgements, count: int) -> np.ndarray:
    """Classes without a row among those that a fold's probe was fitted on: bool (count, k)."""
    k = len(judged.class_names)
    fitted = [judged.train_labels[~judged.in_subset & (judged.fold != fold)] for fold in range(count)]
    return np.stack([np.bincount(labels, minlength=k) == 0 for labels in fitted])


def lacked_classes(judged: Judgements, fitted: Judgements | None = None) -> int:
    """Classes with test rows that some fold's probe was fitted without; `fitted` as in `probe_variance`."""
    if judged.fold_margins is None:
        return 0
    there = np.bincount(judged.test_labels, minlength=len(judged.class_names)) > 0
    return int((_lacked_by_folds(fitted or judged, len(judged.fold_margins)).any(0) & there).sum())


def _of_complements(judged: Judgements, fitted: Judgements | None = None) -> _Replicates | None:
    if judged.n_subsets < 2:
        return None
    fitted = fitted or judged
    n = len(fitted.train_labels)
    size = float(np.mean(np.bincount(fitted.subset[fitted.in_subset])))
    k = len(judged.class_names)
    complements = [fitted.train_labels[fitted.subset != j] for j in range(judged.n_subsets)]
    lacks = np.stack([np.bincount(labels, minlength=k) == 0 for labels in complements])
    return _Replicates(judged.cs, (n - size) ** 2 / (size * n), lacks)


def _smoothed(judged: Judgements, replicates: _Replicates, metric: Metric) -> np.ndarray | None:
    """Scores of the probes on the test rows, (probes, n_te), whose means over the rows are their risks; errors are
    smoothed. None where all margins are equal.

    A probe that was fitted without a class gives its rows a probability of nearly 0. A sample of these class counts has
    the class: where losses have no bound, such rows vary as far as the other probes do, whose mean stands in.
    """
    n = len(judged.test_labels)
    weights = row_weights(metric, judged.test_labels, len(judged.class_names))
    spread = float(np.std(judged.us.margin)) * n ** (-1 / 5)
    if metric.smoothed and not spread > 0:
        return None
    from scipy.special import ndtr

    found = []
    for outcome in replicates.outcomes:
        wrong = ndtr(-outcome.margin.astype(np.float64) / spread) if metric.smoothed else None
        found.append(n * weights * row_values(metric, outcome, weights, wrong))
    scores = np.stack(found)
    if math.isfinite(metric.high):
        return scores
    lacking = replicates.lacks[:, judged.test_labels]
    others = (~lacking).sum(0)
    mean = np.where(lacking, 0.0, scores).sum(0) / np.maximum(others, 1)
    return np.where(lacking, mean, scores)


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


def optimism(judged: Judgements, risk: str, metric: Metric = ERROR) -> float:
    """max(1, H/R) of a training error, H the same probe's error on the test rows; infinity where R is 0."""
    trained, tested = _in_and_out_of_sample(judged, risk, metric)
    if tested <= trained:
        return 1.0
    return tested / trained if trained > 0 else math.inf


def unseen_error(judged: Judgements, risk: str, metric: Metric = ERROR) -> float:
    """H, where the training error is 0; else 0."""
    trained, tested = _in_and_out_of_sample(judged, risk, metric)
    return tested if trained == 0 else 0.0


def _in_and_out_of_sample(judged: Judgements, risk: str, metric: Metric) -> tuple[float, float]:
    """A training error, and the same probe's error on the test rows; 0 and 0 where there is no such pair."""
    own, on_test = {
        "risk_af": (judged.af, judged.floor_on_test),
        "risk_sup": (judged.sup, judged.sup_on_test),
        # no row is left that the probe of all rows has not seen: the floor probe of the training rows stands in
        "risk_uf": (judged.uf, judged.floor_on_test),
    }.get(risk, (None, None))
    if own is None or on_test is None:
        return 0.0, 0.0
    k = len(judged.class_names)
    own_labels = judged.test_labels if risk == "risk_uf" else judged.train_labels  # rows that the probe was fitted on
    return risk_of(metric, own, own_labels, k), risk_of(metric, on_test, judged.test_labels, k)
