"""Statistics of a representation's geometry that lie beside a run, as a frame of `statistic`, `value`, `n`."""

import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ssl_risk_rs._tables import read_parquet
from ssl_risk_rs.errors import DataError, first_line
from ssl_risk_rs.report import charts
from ssl_risk_rs.report.numbers import count
from ssl_risk_rs.report.page import Column, Figure, Missing, Section, Table
from ssl_risk_rs.report.sentences import features_of, place
from ssl_risk_rs.results.run import Run

if TYPE_CHECKING:
    import polars as pl

__all__ = ["FILE", "Statistic", "read_statistics", "section"]

#: name of the file beside a run
FILE = "geometry.parquet"
#: `eigenvalue_12` is the twelfth of a spectrum
_SPECTRUM = re.compile(r"(eigenvalue|spectrum)[_ .]?(\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Statistic:
    """One number of a representation, and the rows it is computed from."""

    name: str
    value: float
    n: int | None


def read_statistics(
    path: "os.PathLike[str] | str", run: Run | None = None, say: Callable[[str], None] = lambda _: None
) -> tuple[Statistic, ...]:
    """Read a frame of statistics.

    Parameters
    ----------
    run : the run that they are to be of; say : receives a sentence where they name another encoder

    Raises
    ------
    DataError if the file cannot be read, or lacks a column, or is of another number of features than the run.
    """
    file = Path(path).expanduser()
    frame = _read(file)
    if run is not None:
        _compare(file, frame, run, say)
    return tuple(
        Statistic(name, math.nan if value is None else value, n)
        for name, value, n in frame.select("statistic", "value", "n").iter_rows()
        if name
    )


def _compare(file: Path, frame: "pl.DataFrame", run: Run, say: Callable[[str], None]) -> None:
    """Statistics of another number of features are of another representation; those of another encoder may be."""
    features = run.main.sizes.features
    if "n_features" in frame.columns and (other := set(frame["n_features"].drop_nulls().to_list()) - {features}):
        raise DataError(
            f"{file} is of {min(other):,} features and the run of {features:,}: these are the statistics of another "
            "representation"
        )
    named = frame["encoder"].drop_nulls().unique().sort().to_list() if "encoder" in frame.columns else []
    if named and named != [run.provenance.encoder]:
        say(f"{file} was measured on {', '.join(named)}; the run is of {run.provenance.encoder}.")


def _read(file: Path) -> "pl.DataFrame":
    import polars as pl

    frame = read_parquet(file)
    if missing := [name for name in ("statistic", "value", "n") if name not in frame.columns]:
        raise DataError(
            f"{file} has no column {missing[0]!r}: a frame of statistics has statistic, value and n, one row a number"
        )
    if not frame["value"].dtype.is_numeric():
        raise DataError(f"{file}: the column 'value' holds {frame['value'].dtype}, not numbers")
    types = {"statistic": pl.String, "value": pl.Float64, "n": pl.Int64, "encoder": pl.String, "n_features": pl.Int64}
    try:
        return frame.select(
            pl.col(name).cast(kind, strict=False) for name, kind in types.items() if name in frame.columns
        )
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{file} has columns that are no names and numbers: {first_line(error)}") from error


def section(run: Run, found: tuple[Statistic, ...], key: str) -> Section | Missing:
    """The statistics as a table, and the spectrum as a curve where eigenvalues are among them."""
    title = "Geometry of the representation"
    if not found:
        return Missing(
            f"{key}-geometry", title, f"There is no {FILE} beside the run.",
            f"ssl-risk-rs stats {features_of(run)} --out {place(run, FILE)}",
        )  # fmt: skip
    spectrum = sorted((int(m[2]), s) for s in found if (m := _SPECTRUM.fullmatch(s.name)))
    others = [s for s in found if not _SPECTRUM.fullmatch(s.name)]
    blocks: list[Figure | Table] = []
    drawn = [(i, s.value) for i, s in spectrum if s.value > 0]
    if len(drawn) > 1:
        line = charts.Line("spectrum", tuple(float(i) for i, _ in drawn), tuple(v for _, v in drawn))
        first, last = drawn[0], drawn[-1]
        ticks = [t for t in (1, 10, 100, 1000, 10_000) if t <= last[0]]
        blocks.append(
            Figure(
                f"{key}-spectrum",
                "Eigenvalues of the representation's correlation matrix",
                f"Eigenvalues over their place, both axes logarithmic, from {first[1]:.3g} at {first[0]} to "
                f"{last[1]:.3g} at {last[0]}; {len(drawn)} of {len(spectrum)} are above 0.",
                lambda width: charts.lines(
                    [line], width, x_title="place", y_title="eigenvalue", percent_y=False, log_y=True, ticks=ticks,
                    height=240,
                ),
                ("place", "eigenvalue"),
            )
        )  # fmt: skip
    if others:
        rows = tuple((s.name.replace("_", " "), _number(s.value), count(s.n)) for s in others)
        blocks.append(
            Table(
                "Statistics of the representation",
                (Column("statistic", False), Column("value"), Column("n, rows")),
                rows,
            )
        )  # fmt: skip
    return Section(f"{key}-geometry", title, tuple(blocks))


def _number(value: float) -> str:
    if math.isnan(value):
        return "–"
    value += 0.0  # −0 is 0
    return f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.4g}".replace("-", "−")
