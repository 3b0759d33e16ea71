"""Columns of a design matrix from design choices."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Bool, Float64, Int64

from ssl_risk_rs.study.choices import Choice

__all__ = ["Column", "clusters", "columns", "determines", "known_rows", "values"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column: an indicator of a level, or a number less its mean."""

    choice: str
    level: str
    reference: str
    values: Float64[np.ndarray, " n"]

    @property
    def name(self) -> str:
        """How a table calls it.

        >>> Column("family", "vit", "resnet", np.zeros(1)).name
        'family = vit'
        """
        return f"{self.choice} = {self.level}" if self.reference else self.choice


def values(frame: pl.DataFrame, choice: Choice) -> pl.Series:
    """The choice's values in every row, null where it has none: text for a category, numbers for all others."""
    text = choice.kind == "category"
    dtype = pl.String if text else pl.Float64
    expression = pl.col(choice.name).cast(dtype)
    for other in choice.else_from:
        if other in frame.columns:
            expression = pl.coalesce(expression, pl.col(other).cast(dtype))
    if text and choice.missing is not None:
        expression = expression.fill_null(choice.missing)
    if choice.levels:
        expression = pl.when(expression.is_in(choice.levels)).then(expression)
    if choice.kind == "log":
        expression = pl.when(expression > 0).then(expression).log()
    return frame.select(expression.alias(choice.name)).to_series()


def determines(frame: pl.DataFrame, one: str, other: str) -> bool:
    """Whether rows with one value of the first column have one value of the other; a missing value is none.

    >>> frame = pl.DataFrame({"architecture": ["rn18", "rn18", "rn50"], "z_dim": [512, 512, 512]})
    >>> determines(frame, "architecture", "z_dim"), determines(frame, "z_dim", "architecture")
    (True, False)
    """
    pairs = frame.select(one, other).drop_nulls().unique()
    return pairs.height == pairs[one].n_unique()


def known_rows(frame: pl.DataFrame, choices: Sequence[Choice], examined: str) -> Bool[np.ndarray, " n"]:
    """Rows in which all these choices have values, but for numbers that some encoders cannot have."""
    known = np.ones(frame.height, dtype=bool)
    for choice in choices:
        if not choice.only_some or choice.name == examined:
            known &= values(frame, choice).is_not_null().to_numpy()
    return known


def columns(frame: pl.DataFrame, choice: Choice, reference: str = "") -> list[Column]:
    """The columns that a choice makes: one less than its levels for a category or flag, one for a number.

    A given `reference` goes before the choice's own, and that before the most frequent level. Numbers are centred on
    the mean of the rows that have one; rows without stand at 0.
    """
    series = values(frame, choice)
    if choice.kind in ("category", "flag"):
        levels = series.cast(pl.String) if choice.kind == "category" else _truth(series)
        counts = levels.drop_nulls().value_counts(sort=False).sort(["count", choice.name], descending=[True, False])
        names: list[str] = counts[choice.name].to_list()
        if not names:
            return []
        if choice.kind == "flag" and "no" in names:
            names.insert(0, "no")
        reference = next(name for name in (reference, choice.reference, names[0]) if name in names)
        cells = levels.to_list()
        return [
            Column(choice.name, name, reference, np.array([float(cell == name) for cell in cells]))
            for name in sorted(set(names))
            if name != reference
        ]
    numbers = series.to_numpy().astype(np.float64)
    known = np.isfinite(numbers)
    if not known.any():
        return []
    centred = np.where(known, numbers - numbers[known].mean(), 0.0)
    return [Column(choice.name, "× e" if choice.kind == "log" else "+1", "", centred)]


def _truth(series: pl.Series) -> pl.Series:
    words = {True: "yes", False: "no", None: None}
    return pl.Series(series.name, [words[cell] for cell in series.cast(pl.Boolean).to_list()], dtype=pl.String)


def clusters(frame: pl.DataFrame, column: str) -> Int64[np.ndarray, " n"]:
    """The group of each row, as numbers; a row without a value is a group of its own."""
    if not column:
        return np.arange(frame.height, dtype=np.int64)
    cells = frame[column].cast(pl.String).to_list()
    seen: dict[str, int] = {}
    alone = iter(range(len(cells), 2 * len(cells) + 1))
    return np.array(
        [next(alone) if cell is None else seen.setdefault(cell, len(seen)) for cell in cells], dtype=np.int64
    )
