"""Tables that people write: csv and tsv files of any spreadsheet, parquet files, as frames."""

import csv
import re
import shlex
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ssl_risk_rs.errors import DataError, first_line

if TYPE_CHECKING:
    import polars as pl

__all__ = [
    "CSV_SUFFIXES",
    "PARQUET_SUFFIXES",
    "SEPARATORS",
    "find_column",
    "has_no_text",
    "numbers_or_text",
    "numbers_unless_merged",
    "read_csv",
    "read_parquet",
    "read_table",
    "refuse_repeated",
    "text_column",
    "unreadable",
]

CSV_SUFFIXES: tuple[str, ...] = (".csv", ".tsv")
PARQUET_SUFFIXES: tuple[str, ...] = (".parquet", ".pq")

#: what may divide the columns of a csv file; the first that the line of names has most of
SEPARATORS = (",", ";", "\t")

#: how a text begins that is UTF-16, which some spreadsheets call Unicode
_UTF16 = (b"\xff\xfe", b"\xfe\xff")

#: bytes that hold the line of names as a rule
_HEAD = 1 << 20

#: the one way to write a whole number, and numbers without exponent or leading zeros
_WHOLE, _PLAIN = r"^(0|-?[1-9][0-9]*)$", r"^-?(0|[1-9][0-9]*)(\.[0-9]*)?$"
#: what no number begins with that someone measured: 007 is an identifier
_LEADING_ZERO = r"^[-+]?0[0-9]"
#: a number with an exponent
_EXPONENT = r"^[-+]?[0-9]+(\.[0-9]+)?[eE][-+]?[0-9]+$"
#: floats up to here tell neighbouring whole numbers apart
_EXACT = 2.0**53


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
        return read_csv(path, list)
    raise DataError(f"{path} ends in {suffix or 'nothing'}; a table is {', '.join(CSV_SUFFIXES + PARQUET_SUFFIXES)}")


def read_csv(path: Path, texts: Callable[[list[str]], Collection[str]]) -> "pl.DataFrame":
    """Comma-, semicolon- or tab-separated values in UTF-8, with or without a byte-order mark; row 0 is the line
    below the names.

    Parameters
    ----------
    texts : from the names of all columns, those of columns that are text whatever they hold; the types of others
        follow from all values

    Raises
    ------
    DataError if it is damaged, no UTF-8, or has two columns of one name or the line of names among its rows.
    """
    import polars as pl

    try:
        head = _head(path)
        separator = _separator(head, path)
        first = pl.read_csv(
            head, separator=separator, n_rows=1, has_header=False, infer_schema=False, truncate_ragged_lines=True
        )
        refuse_repeated(first.row(0), path)
        names = pl.read_csv(head, separator=separator, n_rows=0, infer_schema=False).columns
        as_text = dict.fromkeys(texts(names), pl.String)
        frame = pl.read_csv(  # a name is no pattern: f[1].csv is not f1.csv
            path, separator=separator, infer_schema_length=None, schema_overrides=as_text, glob=False
        )
    except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise _no_utf8(path) or _malformed(path) or unreadable(path, error) from None
    _refuse_nul(frame, path)
    _refuse_names_among_rows(frame, path)
    return frame


def read_parquet(path: Path) -> "pl.DataFrame":
    """A parquet file as a frame; DataError if it is none."""
    import polars as pl

    try:
        return pl.read_parquet(path, glob=False)  # as above
    except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:  # damage can end in a panic
        raise unreadable(path, error) from None


def find_column(columns: Sequence[str], names: Sequence[str], path: Path) -> str | None:
    """The column that has the first of these names (in lower case) that is there, in any case; None if none is.

    Raises
    ------
    DataError where two columns differ in case alone: which one is meant is not known.
    """
    for name in names:
        found = [column for column in columns if column.lower() == name]
        if len(found) > 1:
            raise DataError(
                f"{path} has columns {' and '.join(map(repr, found))}; keep one of them, or rename the others"
            )
        if found:
            return found[0]
    return None


def has_no_text(dtype: "pl.DataType") -> bool:
    """Whether values of this type cannot be written as text: lists, structs, durations, objects."""
    import polars as pl

    return dtype.is_nested() or isinstance(dtype, (pl.Duration, pl.Object))


def text_column(column: "pl.Series", where: str) -> "pl.Series":
    """A column as text, for identifiers, paths, splits and labels.

    Raises
    ------
    DataError for a type that has no text, or bytes that are no UTF-8.
    """
    import polars as pl

    if has_no_text(column.dtype):
        raise DataError(f"{where} is {column.dtype}; write text or whole numbers there")
    try:
        text: pl.Series = column.cast(pl.String)
    except pl.exceptions.PolarsError:
        raise DataError(f"{where} is {column.dtype} that is no UTF-8 text; write text there") from None
    return text


def numbers_or_text(column: "pl.Series") -> "pl.Series":
    """A column of text as numbers where each text is the plain spelling of one, else as it is.

    Whole numbers as Python writes them become int64: 01 and 1 are two texts, and so are 1e3 and 1000. With a decimal
    point in some, all become float64, in which 1 and 1.0 are one number. `nan` beside numbers is an empty field.
    """
    import polars as pl

    filled = pl.select(pl.when(column.str.to_lowercase() != "nan").then(column).alias(column.name)).to_series()
    if filled.str.contains(_WHOLE).all():
        whole = filled.cast(pl.Int64, strict=False)
        return column if whole.null_count() > filled.null_count() else whole  # beyond int64: the digits stay
    plain = filled.str.contains(_PLAIN).all()
    if not plain and not filled.str.contains(_EXPONENT).all():  # all of them, as numpy.savetxt writes
        return column
    numbers = filled.cast(pl.Float64)
    apart = plain or numbers.n_unique() == filled.n_unique()
    return numbers if apart and bool((numbers.abs() < _EXACT).all()) else column


def numbers_unless_merged(column: "pl.Series") -> "pl.Series":
    """A column of text as numbers, or as booleans, where each text is one and no two become the same; else as it is.

    With a leading zero in some it stays text, because 007 of one file and 7 of another are two identifiers.
    """
    import polars as pl

    plain = numbers_or_text(column)
    if plain.dtype != pl.String or column.str.contains(_WHOLE).all():  # beyond int64 the digits stay
        return plain
    if column.str.contains(_LEADING_ZERO).any():
        return column
    for dtype in (pl.Int64, pl.Float64):
        numbers = column.cast(dtype, strict=False)
        if numbers.null_count() == column.null_count():
            return numbers if numbers.n_unique() == column.n_unique() else column
    return column == "true" if column.is_in(["true", "false"]).all() else column


def unreadable(path: Path, error: BaseException) -> DataError:
    """The error to raise for a file that a library cannot read."""
    if isinstance(error, OSError) and error.strerror:
        return DataError(f"{path} cannot be read: {error.strerror}")
    reason = first_line(error)
    if len(reason.split()) < 2:  # the bare key of a KeyError tells nothing
        return DataError(f"{path} is damaged or no {path.suffix} file ({type(error).__name__} in its reader)")
    return DataError(f"{path} is damaged or no {path.suffix} file: {reason}")


def _head(path: Path) -> bytes:
    """The first lines of a file, each of them whole."""
    with path.open("rb") as file:
        return file.read(_HEAD) + file.readline()


def _separator(head: bytes, path: Path) -> str:
    """What divides the columns, from the line of names."""
    if head.startswith(_UTF16):
        raise DataError(f"{path} is UTF-16 text; save it as UTF-8:  iconv -f UTF-16 -t UTF-8 {path}")
    if b"\r" in head and b"\n" not in head:
        raise DataError(
            f"{path} ends its lines by carriage returns alone; convert it:  tr '\\r' '\\n' < {path} > new.csv"
        )
    if path.suffix.lower() == ".tsv":
        return "\t"
    names = head.split(b"\n", 1)[0]
    outside_quotes = re.sub(rb'"[^"]*"', b"", names)
    return max(SEPARATORS, key=lambda separator: outside_quotes.count(separator.encode()))


def refuse_repeated(names: Sequence[object], path: Path, what: str = "columns") -> None:
    """Refuse names of columns, or members of an archive, that hold one twice; some without name may be several."""
    twice = [str(name) for name, count in Counter(names).items() if name and count > 1]
    if twice:
        raise DataError(
            f"{path} has {Counter(names)[twice[0]]} {what} called {twice[0]!r}; keep one of them, or rename the others"
        )


def _refuse_names_among_rows(frame: "pl.DataFrame", path: Path) -> None:
    """Refuse a table in which the line of names occurs again: files that were joined."""
    import polars as pl

    named = [name for name in frame.columns if not re.fullmatch(r"[-+.0-9]*", name)]
    if len(named) < 2 or any(frame.schema[name] != pl.String for name in named):
        return
    again = frame.select(pl.all_horizontal(pl.col(name) == name for name in named)).to_series()
    if again.any():
        raise DataError(
            f"{path}: row {int(again.arg_max() or 0)} is the line of names once more ({int(again.sum())} such rows); "
            "remove it"
        )


def _refuse_nul(frame: "pl.DataFrame", path: Path) -> None:
    """Refuse text with a NUL character, which nobody sees and which makes another class or group of it."""
    import polars as pl

    for column in frame.select(pl.col(pl.String)).iter_columns():
        has = column.str.contains("\0", literal=True)
        if has.any():
            row = int(has.arg_max() or 0)
            raise DataError(
                f"{path}: row {row}, column {column.name!r} holds a NUL character (in {int(has.sum())} rows); remove "
                f"it:  tr -d '\\000' < {shlex.quote(str(path))} > new.csv"
            )


def _malformed(path: Path) -> DataError | None:
    """The error that names the first row with too many fields, or with a quote that does not end."""
    begin = 1
    try:
        separator = _separator(_head(path), path)
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, delimiter=separator, strict=True)
            width, begin = len(next(rows)), rows.line_num + 1
            for row, fields in enumerate(rows):
                if len(fields) > width:
                    return DataError(
                        f"{path}: row {row} (line {begin}) has {len(fields)} fields, and the line of names has "
                        f"{width}; put fields that hold {separator!r} into quotes, or remove what is too much"
                    )
                begin = rows.line_num + 1
    except csv.Error as error:
        return DataError(
            f"{path}: the row that begins in line {begin} cannot be read, as if a quote did not end ({error})"
        )
    except (OSError, UnicodeDecodeError, StopIteration, DataError):
        return None
    return None


def _no_utf8(path: Path) -> DataError | None:
    """The error that names the first line which is no UTF-8 text, if there is one."""
    try:
        with path.open("rb") as file:
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
