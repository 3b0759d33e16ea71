"""Statistics of one representation, and of pairs, as values and as a frame."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ssl_risk_rs._files import publish
from ssl_risk_rs.errors import ParameterError
from ssl_risk_rs.geometry.definitions import STATISTICS

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Agreement", "Geometry", "Statistic", "geometry_frame"]


@dataclass(frozen=True, slots=True)
class Statistic:
    """One number.

    Attributes
    ----------
    name : in `STATISTICS`
    value : NaN where it is not defined
    n : rows (samples, for statistics of views) that it was computed from
    detail : what was chosen for it, such as the range of a fit
    reason : why the value is NaN
    """

    name: str
    value: float
    n: int
    detail: str = ""
    reason: str = ""


@dataclass(frozen=True, eq=False, repr=False)
class Geometry:
    """The statistics of one representation on one set of rows; `print` shows them.

    Attributes
    ----------
    name, data : of the encoder and of the rows; split : "train", "test" or "all"
    n_rows, n_features, n_classes : n_classes counts those with rows, and is None without labels
    n_views : of each sample; 1 where there are no others
    constant_features : that do not vary on these rows; zero_rows : rows without a direction
    statistics : every statistic whose needs are met, in the order of `STATISTICS`
    spectrum : eigenvalues of the correlation matrix, descending
    """

    name: str
    data: str
    split: str
    n_rows: int
    n_features: int
    n_classes: int | None
    n_views: int
    constant_features: int
    zero_rows: int
    statistics: tuple[Statistic, ...]
    spectrum: np.ndarray = field(repr=False)

    def statistic(self, name: str) -> Statistic:
        """The statistic of that name.

        Raises
        ------
        ParameterError naming what it needs, or those there are.
        """
        for found in self.statistics:
            if found.name == name:
                return found
        if name in STATISTICS:
            raise ParameterError(f"{name} needs {STATISTICS[name].needs.value}, which were not given")
        raise ParameterError(f"there is no statistic {name!r}; there are {', '.join(STATISTICS)}")

    def value(self, name: str) -> float:
        """Value of a statistic; as `statistic`."""
        return self.statistic(name).value

    def __str__(self) -> str:
        width = max(len(STATISTICS[s.name].label) for s in self.statistics)
        rows = [f"  {STATISTICS[s.name].label:{width}}  {s.reason or f'{s.value:.4g}'}" for s in self.statistics]
        return "\n".join([self._head(), *rows])

    def __repr__(self) -> str:
        return f"<Geometry of {self._head()}>"

    def _head(self) -> str:
        return f"{self.name} on {self.data}: {self.n_rows:,} rows, {self.n_features:,} features"

    def frame(self) -> "pl.DataFrame":
        """One row for each statistic; see `geometry_frame`."""
        return geometry_frame([self])

    def save(self, path: "os.PathLike[str] | str") -> None:
        """Write what a report shows of it, and what it is of: parquet with statistic, value, n, encoder, data and
        n_features; the spectrum as `eigenvalue_1`, …"""
        import polars as pl

        names = [f"eigenvalue_{j}" for j in range(1, len(self.spectrum) + 1)]
        spectrum = pl.DataFrame({"statistic": names, "value": self.spectrum, "n": [self.n_rows] * len(names)})
        rows = self.frame().select("statistic", "value", "n")
        of = (
            pl.lit(self.name).alias("encoder"),
            pl.lit(self.data).alias("data"),
            pl.lit(self.n_features).alias("n_features"),
        )
        whole = pl.concat([rows, spectrum.cast(rows.schema)]).with_columns(of)
        publish(Path(path).expanduser(), whole.write_parquet)


@dataclass(frozen=True, slots=True)
class Agreement:
    """Linear CKA of two representations of the same rows: 1 if they differ by rotation and scale, 0 if no linear
    function of one correlates with the other; NaN if one is constant."""

    name: str
    other: str
    data: str
    split: str
    value: float
    n: int


def geometry_frame(found: "Geometry | Sequence[Geometry]", agreements: Sequence[Agreement] = ()) -> "pl.DataFrame":
    """The statistics of a representation, or of several, as one tidy frame.

    Columns
    -------
    encoder, data, split, statistic, value (null where undefined), n, n_features, n_classes, n_views, better
    ("larger", "smaller", "neither"), larger_means, detail, reason, other (the second encoder of `linear_cka`, else
    null). docs/geometry.md describes them.
    """
    import polars as pl

    found = [found] if isinstance(found, Geometry) else found
    rows: list[dict[str, object]] = [
        {
            "encoder": one.name,
            "data": one.data,
            "split": one.split,
            "statistic": statistic.name,
            "value": statistic.value if math.isfinite(statistic.value) else None,
            "n": statistic.n,
            "n_features": one.n_features,
            "n_classes": one.n_classes,
            "n_views": one.n_views,
            "better": STATISTICS[statistic.name].better.value,
            "larger_means": STATISTICS[statistic.name].larger,
            "detail": statistic.detail,
            "reason": statistic.reason,
            "other": None,
        }
        for one in found
        for statistic in one.statistics
    ]
    rows += [
        {
            "encoder": pair.name,
            "data": pair.data,
            "split": pair.split,
            "statistic": "linear_cka",
            "value": pair.value if math.isfinite(pair.value) else None,
            "n": pair.n,
            "better": "neither",
            "larger_means": "the two representations are more alike, up to rotation and scale",
            "detail": "",
            "reason": "" if math.isfinite(pair.value) else "one of the two is constant",
            "other": pair.other,
        }
        for pair in agreements
    ]
    schema = {
        "encoder": pl.String, "data": pl.String, "split": pl.String, "statistic": pl.String, "value": pl.Float64,
        "n": pl.Int64, "n_features": pl.Int64, "n_classes": pl.Int64, "n_views": pl.Int64, "better": pl.String,
        "larger_means": pl.String, "detail": pl.String, "reason": pl.String, "other": pl.String,
    }  # fmt: skip
    return pl.DataFrame(rows, schema=schema)
