"""How outcomes of judged rows are scored: the 0-1 error, which is the headline, and the other metrics.

Every metric is computed from the same judged rows of the same probes: nothing is fitted or tuned again. A risk is
Σ weight · value over rows, so that all metrics share one machinery of intervals (`decomposition.scores`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ssl_risk_rs._notes import Note
from ssl_risk_rs.errors import ParameterError
from ssl_risk_rs.results.estimate import Estimate
from ssl_risk_rs.results.judgements import Outcome

__all__ = [
    "BINS", "ERROR", "HEADLINES", "METRICS", "Metric", "MetricEstimates", "calibrated_by_chance", "class_shares_of",
    "parse_metrics", "refuse_probabilities", "risk_of", "row_values", "row_weights",
]  # fmt: skip

#: equal bins of confidence that the calibration error is summed over, as in Guo et al. 2017
BINS = 15


@dataclass(frozen=True, slots=True)
class Metric:
    """One way to score the rows that a probe is judged on.

    Attributes
    ----------
    name : as options and columns say it; label : what a table prints
    unit : "fraction", printed in percent, or "nats"
    mean : over "rows"; over "classes", each the mean of its rows; or over "bins" of confidence, each the absolute
        value of its rows' sum, which makes the metric no mean of rows
    score : outcome → float64 (n,), the value of each row; reads : the arrays of the outcome that it takes
    smoothed : whether the score is 1 more where the row is wrong, a step that `variation` smooths
    high : the largest value a risk can have; the smallest is 0
    probabilities : whether it reads scores as probabilities, which those of a ridge probe are not
    least_classes : with fewer classes it is 0 for every probe
    """

    name: str
    label: str
    unit: Literal["fraction", "nats"]
    mean: Literal["rows", "classes", "bins"]
    score: Callable[[Outcome], np.ndarray]
    reads: tuple[Literal["rank", "loss", "margin"], ...]
    smoothed: bool = False
    high: float = 1.0
    probabilities: bool = False
    least_classes: int = 2


def _wrong(outcome: Outcome) -> np.ndarray:
    return outcome.wrong.astype(float)


def _missed_5(outcome: Outcome) -> np.ndarray:
    return (outcome.rank >= 5).astype(float)


def _log_loss(outcome: Outcome) -> np.ndarray:
    return outcome.loss.astype(float)


def _overconfidence(outcome: Outcome) -> np.ndarray:
    return np.asarray(outcome.confidence - ~outcome.wrong)


METRICS: dict[str, Metric] = {
    m.name: m
    for m in (
        Metric("error", "0-1 error", "fraction", "rows", _wrong, ("margin",), smoothed=True),
        Metric("balanced", "class-balanced error", "fraction", "classes", _wrong, ("margin",), smoothed=True),
        Metric("top5", "top-5 error", "fraction", "rows", _missed_5, ("rank",), least_classes=6),
        Metric("log_loss", "log-loss", "nats", "rows", _log_loss, ("loss",), high=np.inf, probabilities=True),
        Metric(
            "ece", "calibration error", "fraction", "bins", _overconfidence, ("loss", "margin"), smoothed=True,
            probabilities=True,
        ),
    )
}  # fmt: skip
#: of rows whose targets are numbers or labels, and of nothing else: losses as `decomposition.losses` makes them
HEADLINES: dict[str, Metric] = {
    "r2": Metric("r2", "1 − R²", "fraction", "rows", _log_loss, ("loss",), high=np.inf),
    "auroc": Metric("auroc", "1 − AUROC", "fraction", "rows", _log_loss, ("loss",)),
    "error": METRICS["error"],
}
#: the headline; penalties are tuned on it
ERROR = METRICS["error"]


@dataclass(frozen=True, slots=True)
class MetricEstimates:
    """Every quantity of a decomposition in another metric than the 0-1 error.

    metric : name in `METRICS`; estimates : as those of the decomposition, in the metric's unit; notes : on them
    """

    metric: str
    estimates: Mapping[str, Estimate]
    notes: tuple[Note, ...] = ()


def parse_metrics(metrics: "str | Sequence[str]") -> tuple[Metric, ...]:
    """`"balanced,ece"` or a sequence of names; the 0-1 error comes first, whether it is named or not.

    Raises
    ------
    ParameterError for a name that is no metric.
    """
    if not isinstance(metrics, (str, Sequence)):
        raise ParameterError(f"metrics must be names, such as ('error', 'balanced'), got {metrics!r}")
    names = [name.strip() for name in metrics.split(",")] if isinstance(metrics, str) else list(metrics)
    for name in names:
        if name not in METRICS:
            raise ParameterError(f"{name!r} is no metric; choose from {', '.join(METRICS)}")
    return tuple(METRICS[name] for name in dict.fromkeys((ERROR.name, *names)))


def refuse_probabilities(probe: str, metrics: Sequence[Metric]) -> None:
    """Raise ParameterError for metrics that a probe's scores do not allow."""
    for metric in metrics:
        if metric.probabilities and probe == "ridge":
            raise ParameterError(
                f"the metric {metric.name} needs probabilities, and scores of a ridge probe are none: use --probe "
                "logistic, or both"
            )


def class_shares_of(metric: Metric, counts: np.ndarray) -> np.ndarray:
    """What each class weighs in a set of rows with these class counts: (k,), sum 1; classes without rows nothing."""
    held = (counts > 0).astype(float) if metric.mean == "classes" else counts.astype(float)
    return np.asarray(held / held.sum())


def row_weights(metric: Metric, labels: np.ndarray, k: int) -> np.ndarray:
    """What each row weighs in the risk of all of them: (n,), sum 1."""
    if metric.mean != "classes":
        return np.full(len(labels), 1 / len(labels))
    counts = np.bincount(labels, minlength=k)
    return np.asarray(class_shares_of(metric, counts)[labels] / counts[labels])


def row_values(
    metric: Metric, outcome: Outcome, weights: np.ndarray, smooth_wrong: np.ndarray | None = None
) -> np.ndarray:
    """Value of each row, (n,), so that Σ weights · values is the risk.

    Over bins, the risk is Σ_b |Σ_{i in b} w_i s_i|: the values are s_i with the sign of their bin's sum, which
    is also the derivative of the risk (while no bin's sum crosses 0).

    smooth_wrong : probabilities, (n,), that stand for being wrong or right in metrics that are `smoothed`
    """
    values = metric.score(outcome)
    if smooth_wrong is not None and metric.smoothed:
        values = values + (smooth_wrong - outcome.wrong)
    if metric.mean != "bins":
        return values
    bins = _bins(outcome)
    sums = np.bincount(bins, weights=weights * values, minlength=BINS)
    return np.asarray(np.sign(sums)[bins] * values)


def risk_of(metric: Metric, outcome: Outcome, labels: np.ndarray, k: int) -> float:
    """The risk of a probe on rows with these labels."""
    weights = row_weights(metric, labels, k)
    return float(weights @ row_values(metric, outcome, weights))


def calibrated_by_chance(outcome: Outcome) -> float:
    """Calibration error that a probe with these confidences would show on so many rows if it were calibrated.

    Each bin's sum is then normal around 0 with variance Σ c(1 − c), and its absolute value √(2/π) of that deviation.
    """
    confidence = outcome.confidence
    variance = np.bincount(_bins(outcome), weights=confidence * (1 - confidence), minlength=BINS)
    return float(np.sqrt(2 / np.pi * np.maximum(variance, 0)).sum() / len(confidence))


def _bins(outcome: Outcome) -> np.ndarray:
    return np.minimum((outcome.confidence * BINS).astype(np.int64), BINS - 1)
