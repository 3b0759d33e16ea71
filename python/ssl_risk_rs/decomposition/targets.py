"""Other targets than the labels: another column of the same rows as classes, numbers, or several labels a row."""

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ssl_risk_rs._labels import encode_labels, is_row, row_of_labels
from ssl_risk_rs._notes import Note, Values
from ssl_risk_rs._tensors import of_tensor
from ssl_risk_rs.decomposition.settings import N_FOLDS, Settings
from ssl_risk_rs.decomposition.task import TargetKind, Task
from ssl_risk_rs.errors import DataError, ParameterError, ShapeError
from ssl_risk_rs.results.record import Headline

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from ssl_risk_rs.bank import FeatureBank
    from ssl_risk_rs.bank.formats import FeatureArrays

__all__ = [
    "HEADLINE_OF", "MAX_WHOLE", "Target", "bank_values", "chosen", "kind_of", "refuse_for_targets", "retargeted",
    "with_arrays", "with_numbers",
]  # fmt: skip

#: different whole numbers up to which a column is read as classes: more are counts, years or ids
MAX_WHOLE = 50
#: training rows of a combination of labels from which it is a stratum of its own: two for each fold and subset
STRATUM_ROWS = 2 * (N_FOLDS + 3)


#: what errors are, by how a target is read
HEADLINE_OF: dict[TargetKind, Headline] = {"classes": "error", "numbers": "r2", "labels": "auroc"}


@dataclass(frozen=True, slots=True)
class Target:
    """What to predict.

    column : a name, or names and patterns joined by commas
    kind : how it is read. "auto" takes text and at most `MAX_WHOLE` whole numbers for classes, several columns of 0
        and 1 for labels, and all else for numbers
    """

    column: str
    kind: Literal["auto"] | TargetKind = "auto"


def chosen(target: Target, there: Sequence[str], where: str) -> list[str]:
    """The columns that a target names.

    Raises
    ------
    ParameterError naming the columns there are.
    """
    if target.column in there:
        return [target.column]
    found: list[str] = []
    for pattern in (part.strip() for part in target.column.split(",")):
        matches = [name for name in there if fnmatch.fnmatchcase(name, pattern)]
        if not matches:
            raise ParameterError(
                f"{where} has no further column {pattern!r} to predict; further columns are: "
                f"{', '.join(sorted(there)) or 'none'}. In npz files they are arrays NAME_train and NAME_test"
            )
        found += matches
    return list(dict.fromkeys(found))


def bank_values(bank: "FeatureBank", target: Target) -> dict[str, np.ndarray]:
    """The columns of a bank's samples that a target names."""
    names = chosen(target, bank.extra_columns, str(bank.path))
    return {name: np.array(bank.samples[name].to_list(), dtype=object) for name in names}


def array_values(arrays: "FeatureArrays", target: Target, where: str) -> dict[str, np.ndarray]:
    """The columns of loaded features that a target names, training rows first; `where` they are from."""
    train, test = arrays.train_columns, arrays.test_columns
    names = chosen(target, [name for name in train if name in test], where)
    return {name: np.array([*train[name].tolist(), *test[name].tolist()], dtype=object) for name in names}


def kind_of(columns: Mapping[str, "np.ndarray | Sequence[Any]"]) -> TargetKind:
    """How "auto" reads columns."""
    every = [_numbers(values) for values in columns.values()]
    if len(every) == 1:
        (numbers,) = every
        if numbers is None or (_whole(numbers) and len(np.unique(numbers)) <= MAX_WHOLE):
            return "classes"
        return "numbers"
    return "labels" if all(n is not None and np.isin(n, (0, 1)).all() for n in every) else "numbers"


def _numbers(values: "np.ndarray | Sequence[Any]") -> np.ndarray | None:
    """The numbers of a column, without those that are missing; None for a column of anything else."""
    column = np.asarray(values)
    if column.dtype.kind == "O":
        known = [value for value in column.tolist() if value is not None]
        if not all(isinstance(value, (bool, int, float, np.number)) for value in known):
            return None
        column = np.array(known, float)
    if column.dtype.kind not in "biuf":
        return None
    column = column.astype(float)
    return np.asarray(column[~np.isnan(column)])


def _whole(numbers: np.ndarray) -> bool:
    return bool((numbers == np.round(numbers)).all())


def retargeted(
    task: Task,
    columns: Mapping[str, "np.ndarray | Sequence[Any]"],
    target: Target,
    *,
    drop_unlabelled: bool = False,
) -> Task:
    """The task with columns as target; rows, sample ids, groups and the keys of splits stay.

    Parameters
    ----------
    columns : name → values of the n rows of the task's features, in their order
    drop_unlabelled : leave rows without a value (null, NaN; as a class −1 or empty text) out instead of refusing them

    Raises
    ------
    DataError for rows without a value, or a test class without training rows; ParameterError for a column with
    nothing to predict, or one that cannot be read as `target.kind` says.
    """
    kind = kind_of(columns) if target.kind == "auto" else target.kind
    if kind != "classes":
        numbers = np.stack([_read_numbers(name, values) for name, values in columns.items()], axis=1)
        found = with_numbers(task, numbers, list(columns), kind, drop_unlabelled=drop_unlabelled)
        return replace(found, target=target.column)
    if len(columns) > 1:
        raise ParameterError(
            f"{len(columns)} columns ({', '.join(list(columns)[:5])}) cannot be one class: name one, or read them as "
            "numbers or labels"
        )
    ((column, values),) = columns.items()
    return _with_classes(task, np.asarray(values), column, drop_unlabelled)


def _with_classes(task: Task, column: np.ndarray, name: str, drop_unlabelled: bool) -> Task:
    rows = {"train": task.train_rows, "test": task.test_rows}
    encoded = encode_labels(
        {part: column[own] for part, own in rows.items()},
        where={"train": f"the column {name}, training rows", "test": f"the column {name}, test rows"},
        rows=rows,
        drop_unlabelled=drop_unlabelled,
    )
    present = np.unique(encoded.codes["train"])
    if len(present) == 1:
        code = int(present[0])
        value = str(code) if encoded.class_names is None else encoded.class_names[code]
        raise ParameterError(f"the column {name} is {value!r} in every training row: there is nothing to predict")
    labels = np.zeros(len(task.labels), np.uint32)
    kept = {part: own[encoded.kept[part]] for part, own in rows.items()}
    for part, own in kept.items():
        labels[own] = encoded.codes[part]
    names = encoded.class_names or [str(code) for code in range(int(labels.max(initial=0)) + 1)]
    return replace(
        task,
        labels=labels,
        train_rows=kept["train"],
        test_rows=kept["test"],
        class_names=tuple(names),
        notes=(*task.notes, *encoded.notes, Note("target_classes", {"column": name, "classes": len(present)})),
        target=name,
    )


def _read_numbers(name: str, values: "np.ndarray | Sequence[Any]") -> np.ndarray:
    """A column as float64, NaN where it has no value."""
    if _numbers(values) is None:
        column = np.asarray(values)
        if column.dtype.kind in "mM":
            raise DataError(f"the column {name} holds times ({column.dtype}), which are no numbers: give days, say")
        wrong = next(v for v in column.tolist() if v is not None and not isinstance(v, (int, float, np.number)))
        raise DataError(f"the column {name} holds {wrong!r}, which is no number: text can only be classes")
    return np.array([np.nan if value is None else float(value) for value in np.asarray(values).tolist()])


def with_numbers(
    task: Task,
    numbers: np.ndarray,
    names: Sequence[str],
    kind: Literal["numbers", "labels"],
    *,
    drop_unlabelled: bool = False,
) -> Task:
    """The task with numbers, or labels of 0 and 1, as targets.

    Parameters
    ----------
    numbers : float64 (n, k), of the n rows of the task's features
    names : of the k targets
    drop_unlabelled : leave rows with a NaN out instead of refusing them

    Raises
    ------
    DataError for NaN, infinity, or a label that is neither 0 nor 1.
    """
    used = np.zeros(len(numbers), bool)
    used[task.train_rows] = used[task.test_rows] = True
    without = used & np.isnan(numbers).any(1)
    notes = list(task.notes)
    if without.any():
        row, column = int(without.argmax()), int(np.isnan(numbers[int(without.argmax())]).argmax())
        if not drop_unlabelled:
            raise DataError(
                f"the target {names[column]!r} has no value in row {row} ({int(without.sum()):,} of "
                f"{int(used.sum()):,} rows lack one); fill them in, or leave such rows out: drop_unlabelled=True, "
                "--drop-unlabelled"
            )
        values: Values = {"where": "the targets", "count": int(without.sum()), "n": int(used.sum())}
        notes.append(Note("unlabelled_dropped", values))
        used &= ~without
    wrong = ~np.isfinite(numbers) if kind == "numbers" else ~np.isin(numbers, (0, 1))
    wrong &= used[:, None]
    if wrong.any():
        row, column = (int(i) for i in np.argwhere(wrong)[0])
        what = "is not finite" if kind == "numbers" else "is neither 0 nor 1: labels are, numbers take kind numbers"
        raise DataError(f"the target {names[column]!r} is {numbers[row, column]:g} in row {row}, which {what}")
    train, test = (rows[used[rows]] for rows in (task.train_rows, task.test_rows))
    strata = np.zeros(len(numbers), np.uint32)
    if kind == "labels" and task.groups is None:
        strata = _strata(numbers, train)
    notes.append(Note("target_numbers" if kind == "numbers" else "target_labels", {"count": len(names)}))
    return replace(
        task,
        labels=strata,
        train_rows=train,
        test_rows=test,
        class_names=tuple(str(code) for code in range(int(strata.max(initial=0)) + 1)),
        notes=tuple(notes),
        target_kind=kind,
        targets=np.where(used[:, None], numbers, 0.0),
        target_names=tuple(names),
    )


def _strata(labels: np.ndarray, train: np.ndarray) -> np.ndarray:
    """A stratum for each combination of labels that enough training rows have, and one for all others: uint32 (n,)."""
    _, codes = np.unique(labels, axis=0, return_inverse=True)
    codes = codes.ravel()
    counts = np.bincount(codes[train], minlength=int(codes.max()) + 1)
    places = np.zeros(len(counts), np.uint32)
    frequent = np.flatnonzero(counts >= STRATUM_ROWS)
    places[frequent] = np.arange(1, len(frequent) + 1)
    return np.asarray(places[codes])


def with_arrays(
    y: "ArrayLike", y_test: "ArrayLike", kind: Literal["auto"] | TargetKind
) -> tuple[np.ndarray, Literal["numbers", "labels"]] | None:
    """Targets of the training rows, then the test rows, as (n, k), and what they are; None where they are classes.

    Raises
    ------
    ShapeError for other shapes, or rows that may be one-hot classes as well as labels.
    """
    parts = [_with_gaps(y), _with_gaps(y_test)]
    several = parts[0].ndim == 2 and parts[0].shape[1] > 1
    if kind == "classes" or (kind == "auto" and (not several or parts[0].dtype.kind not in "biuf")):
        return None
    if is_row(parts[0]):
        raise row_of_labels(parts[0].shape, "y_train")
    if not several and is_row(parts[1]):
        raise row_of_labels(parts[1].shape, "y_test")
    for name, part in zip(("y", "y_test"), parts, strict=True):
        if part.ndim not in (1, 2) or part.dtype.kind not in "biuf":
            raise ShapeError(
                f"{name} has shape {part.shape} and type {part.dtype}, expected numbers: (n_samples,) or (n_samples, k)"
            )
    train, test = (part.reshape(len(part), -1).astype(float) for part in parts)
    if train.shape[1] != test.shape[1]:
        raise ShapeError(f"y has {train.shape[1]} targets, y_test has {test.shape[1]}")
    both = np.concatenate([train, test])
    if kind != "auto":
        return both, kind
    binary = bool(np.isin(both, (0, 1)).all())
    if binary and (both.sum(1) == 1).all():
        raise ShapeError(
            f"y has shape {parts[0].shape}, one-hot rows: give one class a row (y.argmax(axis=1)), or say "
            "target_kind='labels' if a row could have several"
        )
    return both, "labels" if binary else "numbers"


def _with_gaps(y: "ArrayLike") -> np.ndarray:
    """An array of targets in which masked numbers are NaN: they have no value."""
    if isinstance(y, np.ma.MaskedArray) and y.dtype.kind in "biuf":
        return np.asarray(np.ma.filled(y.astype(float), np.nan))
    return np.asarray(of_tensor(y))


def refuse_for_targets(task: Task, settings: Settings) -> None:
    """Raise ParameterError for what only a decomposition of classes has."""
    if task.targets is None:
        return
    what = "numbers" if task.target_kind == "numbers" else "several labels a row"
    named = f"the target {task.target}" if task.target else "the target"
    if settings.probe != "ridge":
        classes = "; --target-kind classes reads whole numbers as classes" if task.target_kind == "numbers" else ""
        raise ParameterError(
            f"{named} holds {what}, which a ridge probe predicts and a logistic one does not: add --probe "
            f"ridge{classes}"
        )
    refused = {
        "--protocol paper": settings.protocol != "strict",
        "--shots": settings.shots is not None,
        "--order": settings.order != "paper",
        "--tune-on": settings.tune_on != "error",
        "--metric": settings.metrics != ("error",),
    }
    for option, given in refused.items():
        if given:
            raise ParameterError(f"{option} is about classes, and {named} holds {what}: leave it out")
