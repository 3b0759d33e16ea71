"""The quantities of a decomposition in other metrics than the 0-1 error, from the rows that were judged anyway."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ssl_risk_rs._notes import Note, Values
from ssl_risk_rs.decomposition.intervals import quantify_by
from ssl_risk_rs.decomposition.variation import lacked_classes
from ssl_risk_rs.errors import ParameterError
from ssl_risk_rs.results.judgements import Judgements
from ssl_risk_rs.results.metrics import (
    ERROR,
    Metric,
    MetricEstimates,
    calibrated_by_chance,
    parse_metrics,
    refuse_probabilities,
)
from ssl_risk_rs.results.record import Method, Sizes
from ssl_risk_rs.results.run import Decomposition

__all__ = ["measure_metrics", "with_metrics"]


def with_metrics(result: Decomposition, metrics: "str | Sequence[str]") -> Decomposition:
    """A decomposition, live or loaded from a run folder, with its quantities in these metrics; nothing is fitted.

    Parameters
    ----------
    metrics : names, "balanced,log_loss,ece,top5" or a sequence; those that the decomposition has already stay

    Raises
    ------
    ParameterError for an unknown metric; for log_loss or ece of a ridge probe; for a run of schema version 1, which
    holds the numbers but not the rows that they were made from.

    Examples
    --------
    >>> result = with_metrics(decompose(X, y, X_test, y_test, probe="ridge"), "balanced")
    >>> balanced = result.metric("balanced").estimates["agg_risk"].estimate
    >>> round(balanced - result.estimate("agg_risk"), 12)  # the test classes have equally many rows
    0.0
    """
    if result.judgements is None:
        raise ParameterError(
            f"the run of {result.name} holds no judged rows (schema version 1), so that only its 0-1 error is known: "
            "decompose the features again"
        )
    if not result.predicts_classes:
        raise ParameterError(f"the target of {result.name} is no class: it has no other metrics than its own")
    there = [found.metric for found in result.metrics]
    wanted = [metric for metric in parse_metrics(metrics) if metric.name not in there]
    refuse_probabilities(result.method.probe, wanted)
    found, notes = measure_metrics(result.judgements, wanted, result.method, result.sizes)
    control = None if result.control is None else with_metrics(result.control, metrics)
    more = tuple(note for note in notes if note not in result.notes)
    return replace(result, metrics=(*result.metrics, *found), notes=(*result.notes, *more), control=control)


def measure_metrics(
    judged: Judgements,
    metrics: Sequence[Metric],
    method: Method,
    sizes: Sizes,
    *,
    fitted: Judgements | None = None,
) -> tuple[tuple[MetricEstimates, ...], tuple[Note, ...]]:
    """Estimates in each metric but the 0-1 error, and notes on what was left out; `fitted` as in `quantify`."""
    found: list[MetricEstimates] = []
    notes: list[Note] = []
    classes = len(np.unique(judged.train_labels))
    absent = classes - len(np.unique(judged.test_labels))
    for metric in metrics:
        if metric is ERROR:
            continue
        if classes < metric.least_classes:
            values: Values = {"label": metric.label, "classes": classes, "least": metric.least_classes}
            notes.append(Note("metric_left_out", values))
            continue
        of_metric = quantify_by(judged, method, sizes, metric, fitted=fitted)
        own: list[Note] = []
        if metric.mean == "bins":
            chance = calibrated_by_chance(judged.us)
            own.append(Note("calibrated_by_chance", {"percent": 100 * chance, "rows": len(judged.test_labels)}))
        if metric.mean == "classes" and absent:
            own.append(Note("balanced_without_classes", {"classes": absent, "total": classes}))
        if math.isinf(metric.high) and (lacked := lacked_classes(judged, fitted)):
            own.append(Note("variation_without_classes", {"label": metric.label, "classes": lacked}))
        found.append(MetricEstimates(metric.name, of_metric.estimates, tuple(own)))
    return tuple(found), tuple(notes)
