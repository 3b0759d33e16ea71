"""`.parquet`: a table of columns."""

from collections.abc import Sequence
from pathlib import Path

from ssl_risk_rs._tables import PARQUET_SUFFIXES, read_parquet
from ssl_risk_rs.bank.formats.columns import table_of_columns
from ssl_risk_rs.bank.formats.table import FeatureFile

__all__ = ["SUFFIXES", "read"]

SUFFIXES = PARQUET_SUFFIXES


def read(path: Path, columns: str | Sequence[str] | None) -> FeatureFile:
    """The table of a parquet file."""
    return table_of_columns(read_parquet(path), path, columns)
