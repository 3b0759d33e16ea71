"""`.csv`, `.tsv`: a table of columns as text; the first line names them."""

from collections.abc import Sequence
from pathlib import Path

from ssl_risk_rs.bank.formats.columns import IDS, table_of_columns
from ssl_risk_rs.bank.formats.table import FeatureFile, unreadable
from ssl_risk_rs.errors import DataError

__all__ = ["SUFFIXES", "read"]

SUFFIXES: tuple[str, ...] = (".csv", ".tsv")


def read(path: Path, columns: str | Sequence[str] | None) -> FeatureFile:
    """The table of a file of comma- or tab-separated values in UTF-8. Row 0 is the line below the names."""
    import polars as pl

    separator = "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        names = pl.read_csv(path, separator=separator, n_rows=0).columns
        # an identifier 007 is a text, not 7
        as_text = {name: pl.String for name in names if name.lower() in IDS}
        frame = pl.read_csv(path, separator=separator, infer_schema_length=None, schema_overrides=as_text)
    except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise unreadable(path, error) from None
    if len(names) < 2:
        raise DataError(
            f"{path} has one column ({names[0] if names else 'nothing'}); separate columns by "
            f"{'tabs' if separator != ',' else 'commas'}, and name them in the first line"
        )
    return table_of_columns(frame, path, columns)
