"""`.parquet`: a table of columns."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ssl_risk_rs.bank.formats.columns import table_of_columns
from ssl_risk_rs.bank.formats.table import FeatureFile, unreadable

if TYPE_CHECKING:
    import polars as pl

__all__ = ["SUFFIXES", "read", "read_frame"]

SUFFIXES: tuple[str, ...] = (".parquet", ".pq")


def read(path: Path, columns: str | Sequence[str] | None) -> FeatureFile:
    """The table of a parquet file."""
    return table_of_columns(read_frame(path), path, columns)


def read_frame(path: Path) -> "pl.DataFrame":
    """A parquet file as a frame; DataError if it is none."""
    import polars as pl

    try:
        return pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:  # damage can end in a panic
        raise unreadable(path, error) from None
