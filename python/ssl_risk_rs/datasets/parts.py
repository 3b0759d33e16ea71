"""Names of the parts of a data set."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from ssl_risk_rs._names import counted
from ssl_risk_rs.errors import DataError

__all__ = ["TEST_NAMES", "TRAIN_NAMES", "chosen_parts"]

#: spellings of the training part; and of test parts, in the order in which they are taken
TRAIN_NAMES = ("train", "training")
TEST_NAMES = (("test", "testing"), ("val", "valid", "validation", "dev"))


def chosen_parts(parts: Sequence[str | None], where: str) -> tuple[list[int], np.ndarray]:
    """Rows of the training and of the test part, by the name of each row's part.

    The test part is `test`, or `val` where no row is of `test`, as for folders.

    Parameters
    ----------
    parts : name of the part of each row, in any case
    where : what holds them, for messages

    Returns
    -------
    positions of the rows that are used, in order, and a bool array: which of them are test rows

    Raises
    ------
    DataError for a row without a part, or of one that is neither.
    """
    names = [None if part is None else part.strip().lower() for part in parts]
    counts = Counter(names)
    empty = counts.pop(None, 0) + counts.pop("", 0)
    if empty:
        first = next(i for i, name in enumerate(names) if not name)
        raise DataError(
            f"{where} has {counted(empty, 'row')} without split, the first is row {first}; write train or test"
        )
    known = {*TRAIN_NAMES, *(name for spellings in TEST_NAMES for name in spellings)}
    strange = [name for name in counts if name not in known]
    if strange:
        rows = sum(counts[name] for name in strange)
        raise DataError(
            f"{where} has {counted(rows, 'row')} whose split is neither train, test nor val, for example "
            f"{strange[0]!r}; write one of these, or remove the rows"
        )
    test = next((set(spellings) for spellings in TEST_NAMES if any(name in counts for name in spellings)), set())
    if not test or not any(name in counts for name in TRAIN_NAMES):
        there = ", ".join(f"{name} ({counted(count, 'row')})" for name, count in counts.items() if name)
        raise DataError(f"{where}: both parts need rows, train and test (or val); there is {there}")
    used = [i for i, name in enumerate(names) if name in TRAIN_NAMES or name in test]
    return used, np.array([names[i] in test for i in used], bool)
