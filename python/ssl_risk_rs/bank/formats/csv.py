"""`.csv`, `.tsv`: a table of columns as text; the first line names them."""

from collections.abc import Sequence
from pathlib import Path

from ssl_risk_rs._tables import CSV_SUFFIXES, read_csv
from ssl_risk_rs.bank.formats.columns import IDS, table_of_columns
from ssl_risk_rs.bank.formats.table import FeatureFile
from ssl_risk_rs.errors import DataError

__all__ = ["SUFFIXES", "read"]

SUFFIXES = CSV_SUFFIXES


def read(path: Path, columns: str | Sequence[str] | None) -> FeatureFile:
    """The table of a file of values in UTF-8 that commas, semicolons or tabs divide. Row 0 is the line below the
    names."""
    frame = read_csv(path, lambda name: name.lower() in IDS)  # an identifier 007 is a text, not 7
    if frame.width < 2:
        raise DataError(
            f"{path} has one column ({frame.columns[0] if frame.columns else 'nothing'}); separate columns by "
            f"{'tabs' if path.suffix.lower() == '.tsv' else 'commas'}, and name them in the first line"
        )
    return table_of_columns(frame, path, columns)
