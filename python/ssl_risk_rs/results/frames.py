"""Results as one tidy polars frame."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ssl_risk_rs.results.estimate import Estimate
from ssl_risk_rs.results.metrics import HEADLINES, METRICS, Metric
from ssl_risk_rs.results.provenance import Provenance
from ssl_risk_rs.results.quantities import QUANTITIES

if TYPE_CHECKING:
    import polars as pl

    from ssl_risk_rs.results.run import Decomposition

__all__ = ["COLUMNS", "RESULT_COLUMNS", "draws_frame", "result_types", "tidy"]

#: column of `read_results` → (type, what it holds); docs/results.md prints it
RESULT_COLUMNS: dict[str, tuple[Literal["text", "integer", "number"], str]] = {
    "path": ("text", "the run folder"),
    "created": ("text", "when the run was made, ISO 8601 with time zone"),
    "schema": ("integer", "schema version of its run.json"),
    "run": ("text", "name of the run folder"),
    "encoder": ("text", "encoder, in rows of the control the control encoder"),
    "data": ("text", "data set"),
    "target": ("text", "column that stood in for the labels; null for the labels themselves"),
    "probe": ("text", "`logistic` or `ridge`"),
    "protocol": ("text", "`strict` or `paper`"),
    "split": ("text", "set of rows it is judged on: `train`, `subset` (held-out training rows) or `test`"),
    "shots": ("text", "labels a class; null with all labels"),
    "group": ("text", "`all`, or `control` for the control encoder"),
    "metric": (
        "text",
        "`error` (0-1 error), or another that was asked for: `balanced`, `top5`, `log_loss`, `ece`; `r2` or `auroc` "
        "where numbers or labels are predicted",
    ),
    "quantity": ("text", "risk or component, a name of docs/decomposition.md"),
    "estimate": ("number", "the error, in the unit of the metric"),
    "se": ("number", "its standard error"),
    "low": ("number", "lower end of its interval; NaN where there is none"),
    "high": ("number", "upper end of its interval; NaN where there is none"),
    "confidence": ("number", "level of the interval, 0.95 say"),
    "n": ("integer", "rows it is judged on"),
    "n_groups": ("integer", "groups of those rows; null where rows have none"),
    "df": ("number", "degrees of freedom of the t quantile; infinity for a normal interval"),
    "grade": ("text", "how far the interval can be trusted: `sound`, `few_rows`, `few_groups`, `indicative`, `none`"),
    "unit": ("text", "`fraction`, or `nats` for `log_loss`"),
}

#: columns of results.parquet
COLUMNS = tuple(name for name in RESULT_COLUMNS if name not in ("path", "created", "schema"))


def result_types() -> "dict[str, Any]":
    """The columns of `RESULT_COLUMNS` with their types in polars."""
    import polars as pl

    types = {"text": pl.String, "integer": pl.Int64, "number": pl.Float64}
    return {name: types[kind] for name, (kind, _) in RESULT_COLUMNS.items()}


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
                "confidence": result.method.confidence,
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
