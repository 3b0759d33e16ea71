"""What a reader makes of a file: tables of features with labels, as they lie there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from ssl_risk_rs._notes import Note
from ssl_risk_rs.errors import ParameterError

__all__ = ["FeatureFile", "FeatureTable", "Reader", "Split", "refuse_columns", "some"]

Split = Literal["train", "test"]


@dataclass(frozen=True, slots=True)
class FeatureTable:
    """Rows of a file that belong together; nothing is converted yet."""

    #: (n, d), perhaps mapped
    x: np.ndarray
    #: n labels
    y: npt.ArrayLike
    #: what x and y are called in messages: file and array, or file and column
    x_name: str
    y_name: str
    #: part of all rows, of each row (text, (n,)), or None: not known
    split: Split | np.ndarray | None = None
    #: identifier of each row
    ids: list[str] | None = None
    #: what else is known of each row: name → numbers, or an object array of text
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    #: columns of the file that are the features, in order
    feature_names: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class FeatureFile:
    """Content of a file, a folder or a pair of files."""

    #: one table, or one for train and one for test
    tables: tuple[FeatureTable, ...]
    #: the files that were read
    files: tuple[Path, ...]
    class_names: list[str] | None = None
    notes: tuple[Note, ...] = ()
    #: column whose groups a cut keeps whole where the caller names none: patches of one slide
    whole: str | None = None


class Reader(Protocol):
    """A kind of file: a module of this package."""

    #: endings of file names
    SUFFIXES: tuple[str, ...]

    def read(self, path: Path, columns: str | Sequence[str] | None) -> FeatureFile:
        """Read a file; `columns` names the feature columns of a file of columns."""
        ...


def refuse_columns(path: Path, columns: str | Sequence[str] | None) -> None:
    """Complain if feature columns are named for a file that has none."""
    if columns is not None:
        raise ParameterError(
            f"{path} holds arrays: leave out --features-columns (features_columns), which names columns of a "
            "parquet or csv file"
        )


def some(names: Sequence[str], count: int = 8) -> str:
    """Names for a message, the first of many."""
    text = ", ".join(names[:count])
    return text if len(names) <= count else f"{text}, … ({len(names):,} in all)"
