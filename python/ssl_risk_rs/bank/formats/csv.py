"""`.csv`, `.tsv`: a table of columns as text; the first line names them."""

import re
from collections.abc import Container, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from ssl_risk_rs._tables import CSV_SUFFIXES, numbers_or_text, numbers_unless_merged, read_csv
from ssl_risk_rs.bank.formats.columns import IDS, chosen_names, says_what_rows_are, table_of_columns
from ssl_risk_rs.bank.formats.table import FeatureFile
from ssl_risk_rs.errors import DataError

if TYPE_CHECKING:
    import polars as pl

__all__ = ["SUFFIXES", "read", "read_frame"]

SUFFIXES = CSV_SUFFIXES


def read(path: Path, columns: str | Sequence[str] | None) -> FeatureFile:
    """The table of a file of values in UTF-8 that commas, semicolons or tabs divide. Row 0 is the line below the
    names."""
    frame = read_frame(path, columns)
    if frame.width < 2:
        raise DataError(
            f"{path} has one column ({frame.columns[0] if frame.columns else 'nothing'}); separate columns by "
            f"{'tabs' if path.suffix.lower() == '.tsv' else 'commas'}, and name them in the first line"
        )
    return table_of_columns(frame, path, columns)


def read_frame(
    path: Path, columns: str | Sequence[str] | None = None, ids: Container[str] = (), labels: Container[str] = ()
) -> "pl.DataFrame":
    """The columns of a file; only those that may be features are numbers from the start.

    Identifiers are text (007 is not 7). Labels and groups are text unless all of them are numbers plainly written, and
    other columns unless all are numbers, of which none has a leading zero and no two texts are the same.

    Parameters
    ----------
    columns : names or patterns of the feature columns, if the caller gives them; () if there are none in the file
    ids, labels : names of columns that are such beside the usual names
    """

    def is_id(name: str) -> bool:
        return name in ids or name.lower() in IDS

    def is_label(name: str) -> bool:
        return not is_id(name) and (name in labels or says_what_rows_are(name))

    def beside(names: Sequence[str]) -> set[str]:
        """All but what may be features."""
        taken = {name for name in names if is_id(name) or is_label(name)}
        return taken | (set(names) - _possible_features(names, columns))

    frame = read_csv(path, beside)
    return frame.with_columns(
        numbers_or_text(frame[name]) if is_label(name) else numbers_unless_merged(frame[name])
        for name in beside(frame.columns)
        if not is_id(name)
    )


def _possible_features(names: Sequence[str], columns: str | Sequence[str] | None) -> set[str]:
    """The columns that the caller selects, else the members of numbered families."""
    if columns is not None:
        chosen = chosen_names(columns)
        return {name for name in names if any(name == one or fnmatchcase(name, one) for one in chosen)}
    families: dict[str, set[str]] = {}
    for name in names:
        member = re.fullmatch(r"(.*?)[0-9]+", name, re.DOTALL)
        if member is not None and not says_what_rows_are(member[1]):
            families.setdefault(member[1], set()).add(name)
    return {name for family in families.values() if len(family) > 1 for name in family}
