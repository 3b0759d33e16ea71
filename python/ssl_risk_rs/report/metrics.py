"""The components in other metrics than the 0-1 error, as a second table."""

import math

from ssl_risk_rs.report.numbers import rounded
from ssl_risk_rs.report.sentences import mark
from ssl_risk_rs.results.estimate import Estimate, Grade
from ssl_risk_rs.results.metrics import METRICS, Metric
from ssl_risk_rs.results.quantities import QUANTITIES
from ssl_risk_rs.results.run import Decomposition

__all__ = ["HEADS", "metric_lines", "metric_marks"]

#: columns of a component's name, at the least, and of a metric: −12.34±1.23 and a mark. Four metrics fit into 80
NAME, COLUMN = 20, 14
#: what a column is headed, where the metric's name alone would not say its unit
HEADS = {"balanced": "balanced %", "top5": "top-5 %", "log_loss": "log-loss", "ece": "ECE %"}


def metric_lines(result: Decomposition) -> list[str]:
    """A row for each component, a column for each metric: estimate and half of its interval."""
    if not result.metrics:
        return []
    names = (*result.component_names, "agg_risk")
    metrics = [METRICS[found.metric] for found in result.metrics]
    wide = max(NAME, *(len(_short(name)) + 1 for name in names))
    heads = "".join(f"{HEADS.get(m.name, m.name):>{COLUMN}}" for m in metrics)
    lines = [f"  {'in other metrics':<{wide}}{heads}"]
    for name in names:
        cells = [_cell(found.estimates[name], m) for found, m in zip(result.metrics, metrics, strict=True)]
        lines.append(f"  {_short(name):<{wide}}{''.join(f'{cell:>{COLUMN}}' for cell in cells)}")
        if name == result.component_names[-1]:
            lines.append(f"  {'─' * (wide + COLUMN * len(metrics))}")
    lines.append(f"  (± is half of the {100 * result.method.confidence:g} % interval; its ends are in results.parquet)")
    return lines


def _short(name: str) -> str:
    label = QUANTITIES[name].label.removeprefix("representation ").replace("generalization", "gen.")
    return label.replace("approximation +", "approx. +")


def metric_marks(result: Decomposition) -> set[Grade]:
    """Grades of the numbers in that table."""
    shown = (*result.component_names, "agg_risk")
    return {found.estimates[name].grade for found in result.metrics for name in shown}


def _cell(e: Estimate, metric: Metric) -> str:
    scale, digits = (100, 2) if metric.unit == "fraction" else (1, 3)
    half = "" if math.isnan(e.low) else f"±{scale * (e.high - e.low) / 2:.{digits}f}"
    return f"{rounded(scale * e.estimate, digits):.{digits}f}{half}{mark(e.grade) or ' '}"
