"""Errors of a k-nearest-neighbour classifier on a representation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ssl_risk_rs._display import display
from ssl_risk_rs._notes import Note
from ssl_risk_rs.results.estimate import Estimate

if TYPE_CHECKING:
    import polars as pl

__all__ = ["KNN_QUANTITIES", "Neighbours", "knn_frame"]

#: quantity → what it is
KNN_QUANTITIES = {
    "knn_test": "error on test rows, classified by the training rows",
    "knn_test_rest": "error on test rows, classified by the training rows that are not held out",
    "knn_held": "error on held-out training rows, classified by the others",
    "knn_gap": "the last but one less the last: what test rows are harder by, beside the same neighbours",
}


@dataclass(frozen=True, eq=False, repr=False)
class Neighbours:
    """How often the nearest training rows name the wrong class; `print` shows the table.

    Attributes
    ----------
    name, data : of the encoder and of the rows
    k : neighbours that vote; temperature : of their weights exp(cosine/temperature), None for one vote each
    n_train, n_test, n_features, n_classes : of the task; n_held : training rows that were held out
    chance : error of naming the most frequent training class for every test row
    estimates : by the names of `KNN_QUANTITIES`, fractions
    notes : what was left out or cannot be told
    """

    name: str
    data: str
    k: int
    temperature: float | None
    n_train: int
    n_test: int
    n_held: int
    n_features: int
    n_classes: int
    chance: float
    estimates: dict[str, Estimate]
    confidence: float = 0.95
    notes: tuple[Note, ...] = ()

    def estimate(self, quantity: str) -> float:
        """Point estimate of a quantity."""
        return self.estimates[quantity].estimate

    def __str__(self) -> str:
        return display().text(self)

    def __repr__(self) -> str:
        e = self.estimates["knn_test"]
        error = f"{e.estimate:.4f} [{e.low:.4f}, {e.high:.4f}]"
        return f"<Neighbours of {self.name} on {self.data}: {self.k} vote, error {error}>"

    def frame(self) -> "pl.DataFrame":
        """One row for each quantity; see `knn_frame`."""
        return knn_frame([self])


def knn_frame(found: Sequence[Neighbours]) -> "pl.DataFrame":
    """The errors of several representations as one tidy frame.

    Columns
    -------
    encoder, data, k, temperature (null for one vote each), quantity, estimate, se, low, high, confidence, n, n_groups,
    df, grade
    """
    import polars as pl

    rows = [
        {
            "encoder": one.name,
            "data": one.data,
            "k": one.k,
            "temperature": one.temperature,
            "quantity": name,
            "estimate": e.estimate,
            "se": e.se,
            "low": e.low,
            "high": e.high,
            "confidence": one.confidence,
            "n": e.n,
            "n_groups": e.n_groups,
            "df": e.df,
            "grade": e.grade.value,
        }
        for one in found
        for name, e in one.estimates.items()
    ]
    return pl.DataFrame(rows, schema_overrides={"temperature": pl.Float64, "n_groups": pl.Int64})
