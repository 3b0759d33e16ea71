"""`.csv`, `.tsv`: a table of columns as text; the first line names them."""

from collections.abc import Container, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ssl_risk_rs._tables import CSV_SUFFIXES, numbers_or_text, read_csv
from ssl_risk_rs.bank.formats.columns import IDS, says_what_rows_are, table_of_columns
from ssl_risk_rs.bank.formats.table import FeatureFile
from ssl_risk_rs.errors import DataError

if TYPE_CHECKING:
    import polars as pl

__all__ = ["SUFFIXES", "read", "read_frame"]

SUFFIXES = CSV_SUFFIXES


def read(path: Path, columns: str | Sequence[str] | None) -> FeatureFile:
    """The table of a file of values in UTF-8 that commas, semicolons or tabs divide. Row 0 is the line below the
    names."""
    frame = read_frame(path)
    if frame.width < 2:
        raise DataError(
            f"{path} has one column ({frame.columns[0] if frame.columns else 'nothing'}); separate columns by "
            f"{'tabs' if path.suffix.lower() == '.tsv' else 'commas'}, and name them in the first line"
        )
    return table_of_columns(frame, path, columns)


def read_frame(path: Path, ids: Container[str] = (), labels: Container[str] = ()) -> "pl.DataFrame":
    """The columns of a file: identifiers are text (007 is not 7), and labels and groups are, unless all of them are
    numbers plainly written.

    Parameters
    ----------
    ids, labels : names of columns that are such beside the usual names
    """
    import polars as pl

    def is_id(name: str) -> bool:
        return name in ids or name.lower() in IDS

    def is_label(name: str) -> bool:
        return not is_id(name) and (name in labels or says_what_rows_are(name))

    frame = read_csv(path, lambda name: is_id(name) or is_label(name))
    found = [name for name, dtype in frame.schema.items() if is_label(name) and dtype == pl.String]
    return frame.with_columns(numbers_or_text(frame[name]) for name in found)
