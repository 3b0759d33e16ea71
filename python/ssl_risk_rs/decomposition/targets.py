"""Another column of the same rows as what the probe predicts: how readable a site, a scanner or a batch is."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from ssl_risk_rs._labels import encode_labels
from ssl_risk_rs._notes import Note
from ssl_risk_rs.decomposition.task import Task
from ssl_risk_rs.errors import ParameterError

__all__ = ["MAX_WHOLE", "Target", "kind_of", "retargeted"]

#: different whole numbers up to which a column is read as classes: more are counts, years or ids
MAX_WHOLE = 50


@dataclass(frozen=True, slots=True)
class Target:
    """A column to predict. kind : "classes"; "auto" takes text and at most `MAX_WHOLE` whole numbers for classes."""

    column: str
    kind: Literal["auto", "classes"] = "auto"


def kind_of(values: "np.ndarray | Sequence[Any]") -> Literal["classes", "numbers"]:
    """What a column holds: text, truth values and few whole numbers are classes, all else are numbers."""
    column = np.asarray(values)
    if column.dtype.kind == "O":
        known = [value for value in column.tolist() if value is not None and value == value]
        if not all(isinstance(value, (int, float, np.number)) for value in known):
            return "classes"
        column = np.array(known, float)
    if column.dtype.kind not in "iuf":
        return "classes"
    known_numbers = column[~np.isnan(column)] if column.dtype.kind == "f" else column
    if column.dtype.kind == "f" and not (known_numbers == np.round(known_numbers)).all():
        return "numbers"
    return "classes" if len(np.unique(known_numbers)) <= MAX_WHOLE else "numbers"


def retargeted(
    task: Task, values: "np.ndarray | Sequence[Any]", target: Target, *, drop_unlabelled: bool = False
) -> Task:
    """The task with a column's values as labels; rows, sample ids, groups and the keys of splits stay.

    Parameters
    ----------
    values : of the n rows of the task's features, in their order
    drop_unlabelled : leave rows without a value (null, NaN, −1, empty text) out instead of refusing them

    Raises
    ------
    DataError for rows without a value, or a test class without training rows; ParameterError for a column of numbers,
    and for one that has one value only.
    """
    column = np.asarray(values)
    name = f"the column {target.column}"
    if target.kind == "auto" and kind_of(column) == "numbers":
        known = np.array([value for value in column.tolist() if value is not None], float)
        known = known[~np.isnan(known)]
        raise ParameterError(
            f"{name} holds {len(np.unique(known)):,} different numbers from {known.min():g} to {known.max():g}: it "
            f"is no class. --target-kind classes takes each number for a class (whole numbers only); or bin them into "
            "a column of text"
        )
    rows = {"train": task.train_rows, "test": task.test_rows}
    encoded = encode_labels(
        {part: column[own] for part, own in rows.items()},
        where={"train": f"{name}, training rows", "test": f"{name}, test rows"},
        rows=rows,
        drop_unlabelled=drop_unlabelled,
    )
    if len(np.unique(encoded.codes["train"])) == 1:
        code = int(encoded.codes["train"][0])
        value = str(code) if encoded.class_names is None else encoded.class_names[code]
        raise ParameterError(f"{name} is {value!r} in every training row: there is nothing to predict")
    labels = np.zeros(len(task.labels), np.uint32)
    kept = {part: own[encoded.kept[part]] for part, own in rows.items()}
    for part, own in kept.items():
        labels[own] = encoded.codes[part]
    names = encoded.class_names or [str(code) for code in range(int(labels.max(initial=0)) + 1)]
    note = Note("target_classes", {"column": target.column, "classes": len(np.unique(labels[kept["train"]]))})
    return replace(
        task,
        labels=labels,
        train_rows=kept["train"],
        test_rows=kept["test"],
        class_names=tuple(names),
        notes=(*task.notes, *encoded.notes, note),
        target=target.column,
    )
