"""The section of a report on other metrics than the 0-1 error."""

import math

from ssl_risk_rs.report import charts
from ssl_risk_rs.report.metrics import HEADS
from ssl_risk_rs.report.numbers import MINUS, count, rounded
from ssl_risk_rs.report.overview import mark_notes
from ssl_risk_rs.report.page import Column, Missing, Section, Table
from ssl_risk_rs.report.sentences import decomposed_again, mark
from ssl_risk_rs.results.estimate import Estimate
from ssl_risk_rs.results.metrics import METRICS, Metric
from ssl_risk_rs.results.run import Decomposition, Run

__all__ = ["metrics"]


def metrics(run: Run, result: Decomposition, key: str) -> Section | Missing:
    """The parts in other metrics, with their intervals."""
    title = "In other metrics"
    if not result.predicts_classes:
        why = "The target is numbers or labels, which have a loss of their own and no other."
        return Missing(f"{key}-metrics", title, why, None)
    if not result.metrics:
        more = "balanced,log_loss,ece" if result.method.probe == "logistic" else "balanced,top5"
        return Missing(
            f"{key}-metrics", title, "The probes were judged by their 0-1 error alone.",
            f"{decomposed_again(run)} --metric {more}",
        )  # fmt: skip
    names = (*result.component_names, "agg_risk")
    rows = tuple(
        (
            HEADS.get(found.metric, found.metric),
            *(_with_ends(found.estimates[name], METRICS[found.metric]) for name in names),
            count(result.sizes.test),
        )
        for found in result.metrics
    )
    table = Table(
        f"The error and its parts in other metrics, with {100 * result.method.confidence:g} % intervals",
        (Column("metric", False), *(Column(charts.part_label(name)) for name in names), Column("n, test rows")),
        rows,
        notes=(
            "The probes are those of the 0-1 error, their penalty included."
            if result.method.tuned_on == "error"
            else "The probes are those of the 0-1 error; their penalty was tuned on the class-balanced one.",
            *mark_notes([found.estimates[name].grade for found in result.metrics for name in names]),
        ),
    )  # fmt: skip
    return Section(f"{key}-metrics", title, (table,))


def _with_ends(e: Estimate, metric: Metric) -> str:
    scale, digits = (100, 2) if metric.unit == "fraction" else (1, 3)

    def written(value: float) -> str:
        return f"{rounded(scale * value, digits):.{digits}f}".replace("-", MINUS)

    ends = "none" if math.isnan(e.low) else f"{written(e.low)} to {written(e.high)}"
    return f"{written(e.estimate)} ({ends}) {mark(e.grade)}".rstrip()
