"""Results as one tidy polars frame."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ssl_risk_rs.results.estimate import Estimate
from ssl_risk_rs.results.metrics import HEADLINES, METRICS, Metric
from ssl_risk_rs.results.provenance import Provenance
from ssl_risk_rs.results.quantities import QUANTITIES

if TYPE_CHECKING:
    import polars as pl

    from ssl_risk_rs.results.run import Decomposition

__all__ = ["COLUMNS", "draws_frame", "tidy"]

#: columns of results.parquet
COLUMNS = (
    "run", "encoder", "data", "target", "probe", "protocol", "split", "shots", "group", "metric", "quantity",
    "estimate", "se", "low", "high", "n", "n_groups", "df", "grade", "unit",
)  # fmt: skip


def tidy(decompositions: "Sequence[Decomposition]", provenance: Provenance, run: str = "") -> "pl.DataFrame":
    """One row for each quantity of each decomposition, in each metric, of its few-shot sizes and of its control."""
    import polars as pl

    rows = []
    for whole in decompositions:
        for group, result in (("all", whole), ("control", whole.control)):
            if result is None:
                continue
            head = {
                "run": run,
                "encoder": provenance.encoder if group == "all" else provenance.control or "control",
                "data": provenance.data,
                "target": provenance.target,
                "probe": result.method.probe,
                "protocol": result.method.protocol,
                "group": group,
            }
            for shots, estimates in _sizes(result):
                rows += [{**head, "shots": shots, **_row(e, HEADLINES[result.method.metric])} for e in estimates]
            for other in result.metrics:
                rows += [{**head, "shots": None, **_row(e, METRICS[other.metric])} for e in other.estimates.values()]
    types = {"target": pl.String, "shots": pl.String, "n": pl.Int64, "n_groups": pl.Int64}
    return pl.DataFrame(rows, schema_overrides=types).select(COLUMNS)


def _sizes(result: "Decomposition") -> "Iterator[tuple[str | None, list[Estimate]]]":
    """Estimates of all labels, and of each few-shot size by its name."""
    yield None, list(result.estimates.values())
    for shot in result.shots:
        yield shot.size.name, list(shot.estimates.values())


def _row(e: Estimate, metric: Metric) -> dict[str, Any]:
    return {
        "metric": metric.name,
        "split": QUANTITIES[e.quantity].rows,
        "quantity": e.quantity,
        "estimate": e.estimate,
        "se": e.se,
        "low": e.low,
        "high": e.high,
        "n": e.n,
        "n_groups": e.n_groups,
        "df": e.df,
        "grade": e.grade.value,
        "unit": metric.unit,
    }


def draws_frame(result: "Decomposition") -> "pl.DataFrame":
    """Rows of every few-shot draw: shots, draw, row (position among the training rows, from 0), sample_id, class."""
    import polars as pl

    judged = result.judgements
    parts = []
    for shot in result.shots:
        if shot.outcomes is None:
            continue
        draws = shot.outcomes.draws
        rows = draws.ravel()
        columns: dict[str, Any] = {
            "shots": [shot.size.name] * len(rows),
            "draw": np.repeat(np.arange(len(draws), dtype=np.int32), draws.shape[1]),
            "row": rows,
        }
        if judged is not None:
            columns["sample_id"] = [name.decode() for name in judged.train_ids[rows].tolist()]
            columns["class"] = np.array(judged.class_names)[judged.train_labels[rows]].tolist()
        parts.append(pl.DataFrame(columns))
    return pl.concat(parts)
