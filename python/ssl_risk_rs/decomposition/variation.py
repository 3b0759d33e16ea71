"""What the rows do not show: how much the probe itself varies, and how optimistic its training error is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ssl_risk_rs.decomposition.units import Units
from ssl_risk_rs.results.judgements import Judgements, Outcome
from ssl_risk_rs.results.metrics import ERROR, Metric, risk_of, row_values, row_weights
from ssl_risk_rs.results.quantities import IN_SAMPLE, Quantity
from ssl_risk_rs.results.record import ProbeVariation

__all__ = [
    "UNKNOWN", "ProbeScores", "contrast_variation", "fold_outcomes", "lacked_by_folds", "lacked_classes", "of_probe",
    "optimism", "probe_variation", "unseen_error",
]  # fmt: skip

UNKNOWN = ProbeVariation.alike(math.nan)


@dataclass(frozen=True, slots=True)
class _Replicates:
    """Probes that each lack a part of the training rows, judged on the test rows and, where they all lack them, on the
    rows of the held-out subsets, what makes their variance that of a probe of all rows, and the classes that each lacks
    altogether: bool (probes, k)."""

    on_test: tuple[Outcome, ...]
    on_held: tuple[Outcome, ...] | None
    scale: float
    lacks: np.ndarray


def probe_variation(
    judged: Judgements, test: Units, held: Units, metric: Metric = ERROR, *, fitted: Judgements | None = None
) -> tuple[ProbeVariation, float]:
    """How much the errors vary over refitted probes, and degrees of freedom; NaN where there are too few probes.

    The fold probes at α* (or, where only one fold was fitted, the complements) are delete-a-part replicates. Errors are
    smoothed by the margin's spread, and the noise of the rows is taken away. The fold probes are judged on the held-out
    subsets too: where test images are unlike training images, a probe that is fitted anew moves the two errors by
    different amounts. The complements were fitted on most of these rows: there both errors are taken to move alike.

    Parameters
    ----------
    test, held : units of the test rows, and of the rows of the held-out subsets
    fitted : all rows, where `judged` are some of those that the probes were fitted on and judged on
    """
    replicates = _of_folds(judged, metric, fitted) or _of_complements(judged, fitted)
    if replicates is None:
        return UNKNOWN, math.inf
    scores = _scores(judged, replicates, metric)
    return _variation(scores.on_test, scores.on_held, test, held, scores.scale), scores.count - 1


def of_probe(quantity: Quantity, variation: ProbeVariation, fitted: Judgements, *, of_class: bool = False) -> float:
    """Variance that the probe's own variation adds to a quantity; 0 where it could not be estimated.

    It cancels in R_US − R_CS. What is left is which rows are set aside: with w_i the mean weight of row i in the
    complements' probes, 1/(n − n_j) or 0 in that without subset j, the two means differ by Σ (1/n − w_i) φ_i where V_P
    is that of Σ φ_i/n, so that it has n Σ w_i² − 1 of V_P.

    of_class : as for `quantify`: the training errors of a class vary as its errors on test rows do
    """
    if not variation.known:
        return 0.0
    if of_class and set(quantity.weights) <= set(IN_SAMPLE):
        return sum(weight**2 for weight in quantity.weights.values()) * variation.test
    on_test, on_held = quantity.probe_weights
    if on_test or on_held:
        return variation.of(on_test, on_held)
    return variation.test * _set_aside(quantity, fitted)


def _set_aside(quantity: Quantity, fitted: Judgements) -> float:
    """n Σ w_i² − 1, see `of_probe`."""
    if "risk_cs" not in quantity.weights or "risk_us" not in quantity.weights:
        return 0.0
    sizes = np.bincount(fitted.subset[fitted.in_subset], minlength=fitted.n_subsets)
    n = len(fitted.train_labels)
    if sizes.max(initial=0) == n:  # rows of one subset alone judge: nothing tells what its complement has
        return 0.0
    each = 1 / (n - sizes) / len(sizes)  # of a row, by complement
    squares = (n - sizes.sum()) * each.sum() ** 2 + float(sizes @ (each.sum() - each) ** 2)
    return max(0.0, float(n * squares - 1))


class ProbeScores:
    """Scores of an encoder's own probes, smoothed; made once for all contrasts that need them."""

    def __init__(self, judged: Judgements, metric: Metric = ERROR) -> None:
        self.judged, self.metric = judged, metric

    @cached_property
    def of_folds(self) -> "_Scores | None":
        """The fold probes; None without them."""
        found = _of_folds(self.judged, self.metric)
        return None if found is None else _scores(self.judged, found, self.metric)

    @cached_property
    def of_complements(self) -> "_Scores | None":
        """The complements; None without them."""
        found = _of_complements(self.judged)
        return None if found is None else _scores(self.judged, found, self.metric)


@dataclass(frozen=True, slots=True)
class _Scores:
    """Smoothed scores of `count` probes, (probes, n_te) and (probes, held); see `_Replicates`."""

    count: int
    scale: float
    on_test: np.ndarray
    on_held: np.ndarray | None


def contrast_variation(
    encoders: Sequence[ProbeScores], signs: Sequence[float], test: Units, held: Units
) -> tuple[ProbeVariation, float]:
    """`probe_variation` of a signed sum of encoders' errors, whose probes lack the same rows: the k-th probes of all
    are summed before anything is squared."""
    first, *others = (e.judged for e in encoders)
    same = all(np.array_equal(first.fold, j.fold) for j in others)
    every = [s for e in encoders if same and (s := e.of_folds) is not None]
    if len(every) < len(encoders) or len({s.count for s in every}) > 1:
        every = [s for e in encoders if (s := e.of_complements) is not None]
    if len(every) < len(encoders):
        return UNKNOWN, math.inf
    on_test = np.einsum("e,epr->pr", signs, [s.on_test for s in every])
    held_scores = [s.on_held for s in every if s.on_held is not None]
    on_held = np.einsum("e,epr->pr", signs, held_scores) if len(held_scores) == len(every) else None
    return _variation(on_test, on_held, test, held, every[0].scale), every[0].count - 1


def _of_folds(judged: Judgements, metric: Metric, fitted: Judgements | None = None) -> _Replicates | None:
    """The fold probes, where what the metric reads of them was kept."""
    j = judged
    on_test = fold_outcomes(j.fold_margins, j.fold_losses, j.fold_ranks, metric)
    if on_test is None or len(on_test) < 3:
        return None
    on_held = fold_outcomes(j.fold_margins_held, j.fold_losses_held, j.fold_ranks_held, metric)
    fitted = fitted or judged
    count, n, folded = len(on_test), len(fitted.train_labels), int((fitted.subset < 0).sum())
    return _Replicates(on_test, on_held, (count - 1) ** 2 / count * folded / n, lacked_by_folds(fitted, count))


def fold_outcomes(
    margins: np.ndarray | None, losses: np.ndarray | None, ranks: np.ndarray | None, metric: Metric
) -> tuple[Outcome, ...] | None:
    """Of each probe; None where what the metric reads of them was not kept."""
    if margins is None or (losses is None and "loss" in metric.reads) or (ranks is None and "rank" in metric.reads):
        return None
    if losses is None:
        losses = np.zeros_like(margins)
    wrong = (margins < 0).astype(np.uint32) if ranks is None else ranks.astype(np.uint32)
    predicted = np.zeros(margins.shape[1], np.uint32)  # no metric reads it
    return tuple(Outcome(predicted, *arrays) for arrays in zip(wrong, losses, margins, strict=True))


def lacked_by_folds(judged: Judgements, count: int) -> np.ndarray:
    """Classes without a row among those that a fold's probe was fitted on: bool (count, k)."""
    k = len(judged.class_names)
    fitted = [judged.train_labels[~judged.in_subset & (judged.fold != fold)] for fold in range(count)]
    return np.stack([np.bincount(labels, minlength=k) == 0 for labels in fitted])


def lacked_classes(judged: Judgements, fitted: Judgements | None = None) -> int:
    """Classes with test rows that some fold's probe was fitted without; `fitted` as in `probe_variation`."""
    if judged.fold_margins is None:
        return 0
    there = np.bincount(judged.test_labels, minlength=len(judged.class_names)) > 0
    return int((lacked_by_folds(fitted or judged, len(judged.fold_margins)).any(0) & there).sum())


def _of_complements(judged: Judgements, fitted: Judgements | None = None) -> _Replicates | None:
    if judged.n_subsets < 2:
        return None
    fitted = fitted or judged
    n = len(fitted.train_labels)
    size = float(np.mean(np.bincount(fitted.subset[fitted.in_subset])))
    k = len(judged.class_names)
    complements = [fitted.train_labels[fitted.subset != j] for j in range(judged.n_subsets)]
    lacks = np.stack([np.bincount(labels, minlength=k) == 0 for labels in complements])
    return _Replicates(judged.cs, None, (n - size) ** 2 / (size * n), lacks)


def _scores(judged: Judgements, replicates: _Replicates, metric: Metric) -> _Scores:
    """Scores of the probes on both sets of rows."""
    held = None
    if replicates.on_held is not None:
        labels = judged.train_labels[judged.in_subset]
        held = _smoothed(judged, replicates.on_held, labels, judged.held_out.margin, replicates.lacks, metric)
    test = _smoothed(judged, replicates.on_test, judged.test_labels, judged.us.margin, replicates.lacks, metric)
    return _Scores(len(replicates.on_test), replicates.scale, test, held)


def _smoothed(
    judged: Judgements,
    outcomes: Sequence[Outcome],
    labels: np.ndarray,
    margins: np.ndarray,
    lacks: np.ndarray,
    metric: Metric,
) -> np.ndarray:
    """Scores of the probes on rows of these labels, (probes, rows), whose means over the rows are their risks; errors
    are smoothed by the spread of `margins`, (rows,), on these rows. All are 0 where all margins are equal.

    A probe that was fitted without a class gives its rows a probability of nearly 0. A sample of these class counts has
    the class: where losses have no bound, such rows vary as far as the other probes do, whose mean stands in.
    """
    n = len(labels)
    weights = row_weights(metric, labels, len(judged.class_names))
    spread = float(np.std(margins)) * n ** (-1 / 5) if n else 0.0
    if metric.smoothed and not spread > 0:
        return np.zeros((len(outcomes), n))
    from scipy.special import ndtr

    found = []
    for outcome in outcomes:
        wrong = ndtr(-outcome.margin.astype(np.float64) / spread) if metric.smoothed else None
        found.append(n * weights * row_values(metric, outcome, weights, wrong))
    scores = np.stack(found)
    if math.isfinite(metric.high):
        return scores
    lacking = lacks[:, labels]
    others = (~lacking).sum(0)
    mean = np.where(lacking, 0.0, scores).sum(0) / np.maximum(others, 1)
    return np.where(lacking, mean, scores)


def _variation(
    on_test: np.ndarray, on_held: np.ndarray | None, test: Units, held: Units, scale: float
) -> ProbeVariation:
    """Variances between probes of their means over the rows, less the noise of those rows, and the covariance, which
    has no such noise, since the rows are others; it is no larger than the variances allow."""
    of_test = scale * _between(on_test, test)
    if on_held is None or on_held.shape[1] == 0:
        return ProbeVariation.alike(of_test)
    of_held = scale * _between(on_held, held)
    both, most = scale * float(np.cov(on_test.mean(1), on_held.mean(1))[0, 1]), math.sqrt(of_test * of_held)
    return ProbeVariation(of_test, of_held, min(max(both, -most), most))


def _between(smooth: np.ndarray, units: Units) -> float:
    """Variance between probes of their mean over rows, less the noise of those rows."""
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
