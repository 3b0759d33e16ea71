"""Tables that people write: csv and tsv files of any spreadsheet, parquet files, as frames."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ssl_risk_rs.errors import DataError

if TYPE_CHECKING:
    import polars as pl

__all__ = ["CSV_SUFFIXES", "PARQUET_SUFFIXES", "read_csv", "read_parquet", "read_table", "unreadable"]

CSV_SUFFIXES: tuple[str, ...] = (".csv", ".tsv")
PARQUET_SUFFIXES: tuple[str, ...] = (".parquet", ".pq")

#: what may divide the columns of a csv file; the first that the line of names has most of
SEPARATORS = (",", ";", "\t")

#: how a text begins that is UTF-16, which some spreadsheets call Unicode
_UTF16 = (b"\xff\xfe", b"\xfe\xff")

#: bytes that hold the line of names
_HEAD = 1 << 20


def read_table(path: Path) -> "pl.DataFrame":
    """A csv or tsv file, every column as text, or a parquet file with its own types.

    Raises
    ------
    DataError if it is none of these, damaged, or not UTF-8.
    """
    suffix = path.suffix.lower()
    if suffix in PARQUET_SUFFIXES:
        return read_parquet(path)
    if suffix in CSV_SUFFIXES:
        return read_csv(path, lambda _: True)
    raise DataError(f"{path} ends in {suffix or 'nothing'}; a table is {', '.join(CSV_SUFFIXES + PARQUET_SUFFIXES)}")


def read_csv(path: Path, is_text: Callable[[str], bool]) -> "pl.DataFrame":
    """Comma-, semicolon- or tab-separated values in UTF-8, with or without a byte-order mark; row 0 is the line
    below the names.

    Parameters
    ----------
    is_text : whether the column of this name is text whatever it holds; the types of others follow from all values
    """
    import polars as pl

    try:
        separator = "\t" if path.suffix.lower() == ".tsv" else _separator(path)
        names = pl.read_csv(path, separator=separator, n_rows=0).columns
        as_text = {name: pl.String for name in names if is_text(name)}
        return pl.read_csv(path, separator=separator, infer_schema_length=None, schema_overrides=as_text)
    except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise _no_utf8(path) or unreadable(path, error) from None


def read_parquet(path: Path) -> "pl.DataFrame":
    """A parquet file as a frame; DataError if it is none."""
    import polars as pl

    try:
        return pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:  # damage can end in a panic
        raise unreadable(path, error) from None


def unreadable(path: Path, error: BaseException) -> DataError:
    """The error to raise for a file that a library cannot read."""
    if isinstance(error, OSError) and error.strerror:
        return DataError(f"{path} cannot be read: {error.strerror}")
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return DataError(f"{path} is damaged or no {path.suffix} file: {reason}")


def _separator(path: Path) -> str:
    with path.open("rb") as file:
        names = file.read(_HEAD).split(b"\n", 1)[0]
    outside_quotes = re.sub(rb'"[^"]*"', b"", names)
    return max(SEPARATORS, key=lambda separator: outside_quotes.count(separator.encode()))


def _no_utf8(path: Path) -> DataError | None:
    """The error that names the first line which is no UTF-8 text, if there is one."""
    try:
        with path.open("rb") as file:
            if file.read(2) in _UTF16:
                return DataError(f"{path} is UTF-16 text; save it as UTF-8:  iconv -f UTF-16 -t UTF-8 {path}")
            file.seek(0)
            for number, line in enumerate(file, start=1):
                try:
                    line.decode("utf-8")
                except UnicodeDecodeError:
                    shown = line.strip()[:60]
                    return DataError(
                        f"{path}: line {number} is no UTF-8 text ({shown!r}); if it is Latin-1, convert the file:  "
                        f"iconv -f LATIN1 -t UTF-8 {path}"
                    )
    except OSError:
        return None
    return None
