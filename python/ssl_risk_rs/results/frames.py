"""Results as one tidy polars frame."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ssl_risk_rs.results.provenance import Provenance
from ssl_risk_rs.results.quantities import QUANTITIES

if TYPE_CHECKING:
    import polars as pl

    from ssl_risk_rs.results.run import Decomposition

__all__ = ["COLUMNS", "tidy"]

#: columns of results.parquet
COLUMNS = (
    "run", "encoder", "data", "probe", "protocol", "split", "shots", "group", "quantity", "estimate", "se",
    "low", "high", "n", "n_groups", "df", "grade", "unit",
)  # fmt: skip


def tidy(decompositions: "Sequence[Decomposition]", provenance: Provenance, run: str = "") -> "pl.DataFrame":
    """One row for each quantity of each decomposition and of its control."""
    import polars as pl

    rows = []
    for whole in decompositions:
        for group, result in (("all", whole), ("control", whole.control)):
            if result is None:
                continue
            for e in result.estimates.values():
                rows.append(
                    {
                        "run": run,
                        "encoder": provenance.encoder if group == "all" else provenance.control or "control",
                        "data": provenance.data,
                        "probe": result.method.probe,
                        "protocol": result.method.protocol,
                        "split": QUANTITIES[e.quantity].rows,
                        "shots": None,
                        "group": group,
                        "quantity": e.quantity,
                        "estimate": e.estimate,
                        "se": e.se,
                        "low": e.low,
                        "high": e.high,
                        "n": e.n,
                        "n_groups": e.n_groups,
                        "df": e.df,
                        "grade": e.grade.value,
                        "unit": "fraction",
                    }
                )
    types = {"shots": pl.String, "n": pl.Int64, "n_groups": pl.Int64}
    return pl.DataFrame(rows, schema_overrides=types).select(COLUMNS)
