"""Whether two representations have the same rows, as far as labels and ids tell: one check for all that pairs them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ssl_risk_rs.errors import ShapeError

__all__ = ["RowNames", "numbered", "refuse_other_rows"]


@dataclass(frozen=True, slots=True)
class RowNames:
    """What rows are known by.

    labels : names of their classes; None where another column is predicted
    ids : of the rows; None where they are the numbers of the rows, because the source has none
    """

    labels: np.ndarray | None
    ids: Sequence[str] | None


def numbered(ids: Sequence[str]) -> bool:
    """Whether ids are the numbers of all rows of a source."""
    return list(ids) == [str(row) for row in range(len(ids))]


def refuse_other_rows(name: str, rows: RowNames, other: str, expected: RowNames) -> None:
    """Raise ShapeError, naming the first row that differs, unless both are of the same number of rows and alike.

    Parameters
    ----------
    name, other : what has the rows, in a message
    """
    found = None
    for one, two in ((rows.labels, expected.labels), (rows.ids, expected.ids)):
        if found is None and one is not None and two is not None:
            found = next((row for row, (a, b) in enumerate(zip(one, two, strict=True)) if a != b), None)
    if found is not None:
        raise ShapeError(
            f"{name} has other rows than {other}, or another order: they differ first in row {found}; "
            "extract both from one data set"
        )
