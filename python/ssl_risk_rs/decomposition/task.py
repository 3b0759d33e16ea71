"""What is decomposed: one encoder's features with labels, groups and the roles of the rows, checked once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, Union

import numpy as np
from jaxtyping import Float64, Int64, UInt32

from ssl_risk_rs._labels import encode_labels, label_vector
from ssl_risk_rs._limits import check_text
from ssl_risk_rs._notes import Note
from ssl_risk_rs._same_rows import RowNames, numbered, refuse_other_rows
from ssl_risk_rs._splits import encode_groups, entries, id_text
from ssl_risk_rs.errors import ParameterError, ShapeError
from ssl_risk_rs.probes.features import Features, as_float_rows, refuse_not_finite, refuse_other_columns

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from ssl_risk_rs.bank import FeatureBank
    from ssl_risk_rs.bank.formats import FeatureArrays

__all__ = [
    "Representations",
    "TargetKind",
    "Task",
    "check_task",
    "group_like",
    "make_task",
    "other_features",
    "task_of_rows",
]

#: what a probe predicts of a row: one class, numbers, or any of several labels
TargetKind: TypeAlias = Literal["classes", "numbers", "labels"]
#: representations of one encoder
OneEncoder: TypeAlias = Union["FeatureBank", "FeatureArrays", "ArrayLike"]
#: what a caller may hand over as such; a mapping holds one bank, as `extract` gives it
Representations: TypeAlias = Union[OneEncoder, "Mapping[str, FeatureBank]"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Features of one encoder with labels and the roles of the rows.

    features : of n rows; labels : uint32 (n,); train_rows, test_rows : uint32, ascending
    sample_ids : of the n rows; class_names : of the k classes
    groups : int64 (n,) positions in `group_names`, or None where rows are independent
    notes : what was found while checking
    overlap : test images that are also training images; None where it is not known
    repeats : training images that are another training image too; None where it is not known
    view : number of the augmented view that the features are of; None: of images as they are
    target : the column that stands in for the labels; None for the labels themselves
    targets : float64 (n, k), where they are numbers or labels (0 or 1); `labels` are then the strata that splits are
        drawn by, and `target_names` name the k
    """

    features: Features
    labels: UInt32[np.ndarray, " n"]
    train_rows: UInt32[np.ndarray, " n_train"]
    test_rows: UInt32[np.ndarray, " n_test"]
    sample_ids: Sequence[str]
    class_names: tuple[str, ...]
    groups: Int64[np.ndarray, " n"] | None = None
    group_names: tuple[str, ...] = ()
    notes: tuple[Note, ...] = ()
    overlap: int | None = None
    repeats: int | None = None
    view: int | None = None
    target: str | None = None
    target_kind: TargetKind = "classes"
    targets: Float64[np.ndarray, "n k"] | None = None
    target_names: tuple[str, ...] = ()

    @property
    def n_classes(self) -> int:
        """k"""
        return len(self.class_names)


def make_task(
    features: Representations,
    y: "ArrayLike | None" = None,
    X_test: "ArrayLike | None" = None,
    y_test: "ArrayLike | None" = None,
    *,
    sample_ids: Sequence[str] | None = None,
    groups: "str | tuple[Sequence[object], Sequence[object]] | None" = None,
    drop_unlabelled: bool = False,
) -> Task:
    """Check what the caller gave and bring it into one form; arguments as in `decompose`."""
    from ssl_risk_rs.bank import FeatureBank, only_one
    from ssl_risk_rs.bank.formats import FeatureArrays

    given: OneEncoder = only_one(features, "features")
    if isinstance(given, (FeatureBank, FeatureArrays)):
        what = "a feature bank holds its" if isinstance(given, FeatureBank) else "loaded features hold their"
        if y is not None or X_test is not None or y_test is not None:
            raise ParameterError(f"{what} labels and splits: give no y and no X_test")
        if sample_ids is not None:
            raise ParameterError(f"{what} sample ids: give no sample_ids")
        if groups is not None and not isinstance(groups, str):
            raise ParameterError(f"{what} groups in columns: name one of them")
        return _of_bank(given, groups) if isinstance(given, FeatureBank) else _of_loaded(given, groups)
    if y is None or X_test is None or y_test is None:
        raise ParameterError("arrays come as X_train, y_train, X_test, y_test: all four are needed")
    if isinstance(groups, str):
        raise ParameterError("groups of arrays come as two arrays: groups=(groups_train, groups_test)")
    return _of_arrays(given, y, X_test, y_test, sample_ids, groups, drop_unlabelled)


def _of_bank(bank: "FeatureBank", column: str | None) -> Task:
    codes = bank.labels()
    notes = [] if column is not None else [Note("groups_unused", {"column": n}) for n in group_like(bank.extra_columns)]
    if bank.header.view is not None:
        notes.append(Note("augmented_view", {"view": bank.header.view}))
    known = bank.header.overlap or {}
    overlap, repeats = known.get("test_images_in_train"), known.get("training_images_repeated")
    task = task_of_rows(
        Features.of_bank(bank),
        codes,
        bank.class_names or [str(c) for c in range(int(codes.max(initial=0)) + 1)],
        (bank.rows("train"), bank.rows("test")),
        bank.sample_ids(),
        groups=None if column is None else bank.groups(column),
        where=str(bank.path),
    )
    return replace(
        task,
        notes=(*task.notes, *notes),
        overlap=overlap if isinstance(overlap, int) else None,
        repeats=repeats if isinstance(repeats, int) else None,
        view=bank.header.view,
    )


def task_of_rows(
    features: Features,
    codes: np.ndarray,
    class_names: Sequence[str],
    rows: tuple[np.ndarray, np.ndarray],
    sample_ids: Sequence[str],
    *,
    groups: Sequence[str] | None,
    where: str,
) -> Task:
    """The task of rows whose labels are numbered already.

    Parameters
    ----------
    codes : whole numbers (n,), positions in `class_names`
    rows : training rows and test rows, uint32, ascending
    groups : name of the group of each of the n rows; where : what the rows are of, for messages
    """
    train, test = rows
    encoded = encode_labels({"train": codes[train], "test": codes[test]}, class_names=list(class_names), where=where)
    labels = np.zeros(len(codes), np.uint32)
    labels[train], labels[test] = encoded.codes["train"], encoded.codes["test"]
    of_rows: np.ndarray | None = None
    group_names: tuple[str, ...] = ()
    if groups is not None:
        group_names, of_rows = _groups(groups)
    return Task(
        features=features,
        labels=labels,
        train_rows=train,
        test_rows=test,
        sample_ids=sample_ids,
        class_names=tuple(encoded.class_names or class_names),
        groups=of_rows,
        group_names=group_names,
        notes=tuple(encoded.notes),
    )


def _of_arrays(
    features: "ArrayLike",
    y: "ArrayLike",
    X_test: "ArrayLike",
    y_test: "ArrayLike",
    sample_ids: Sequence[str] | None,
    groups: tuple[Sequence[object], Sequence[object]] | None,
    drop_unlabelled: bool,
) -> Task:
    train_x, test_x = as_float_rows(features, "X_train"), as_float_rows(X_test, "X_test", spread=False)
    if train_x.shape[1] != test_x.shape[1]:
        raise ShapeError(f"X_train has {train_x.shape[1]} features, X_test has {test_x.shape[1]}")
    refuse_other_columns(features, "X_train", X_test, "X_test")
    given = {"train": label_vector(y, "y_train"), "test": label_vector(y_test, "y_test")}
    for part, x in (("train", train_x), ("test", test_x)):
        if len(x) != len(given[part]):
            raise ShapeError(f"y_{part} has {len(given[part])} labels, X_{part} has {len(x)} rows")
    n, m = len(train_x), len(test_x)
    given_ids = None if sample_ids is None else entries(sample_ids, "sample_ids")
    if given_ids is not None and len(given_ids) != n + m:
        raise ShapeError(f"sample_ids has {len(given_ids)} entries, expected {n + m} (train, then test)")
    where = {"train": "y_train", "test": "y_test"}
    encoded = encode_labels(given, where=where, drop_unlabelled=drop_unlabelled)
    labels = np.zeros(n + m, np.uint32)
    kept = np.concatenate([encoded.kept["train"], encoded.kept["test"]])
    labels[kept] = np.concatenate([encoded.codes["train"], encoded.codes["test"]])
    # without ids, a row is named by its number, as in files: also where others are left out
    ids = np.arange(n + m).astype(str).tolist() if given_ids is None else [id_text(i) for i in given_ids]
    for i, name in enumerate(ids if sample_ids is not None else ()):
        check_text(f"sample_ids[{i}]", name)
    codes: np.ndarray | None = None
    group_names: tuple[str, ...] = ()
    if groups is not None:
        if not isinstance(groups, (tuple, list)) or len(groups) != 2:
            raise ParameterError("groups of arrays are a pair: (groups of the training rows, groups of the test rows)")
        every: list[object] = []
        for part, of_part, rows in (("train", groups[0], n), ("test", groups[1], m)):
            found = entries(of_part, f"groups of the {part} rows")
            if len(found) != rows:
                raise ShapeError(f"groups of the {part} rows have {len(found)} entries, expected {rows}")
            every += found
        group_names, of_kept = _groups([every[row] for row in np.flatnonzero(kept).tolist()])
        codes = np.zeros(n + m, np.int64)
        codes[kept] = of_kept
    refuse_not_finite(test_x, "X_test", np.flatnonzero(kept[n:]))
    names = encoded.class_names or [str(c) for c in range(int(labels.max(initial=0)) + 1)]
    return Task(
        features=Features.of_arrays(train_x, test_x),
        labels=labels,
        train_rows=np.flatnonzero(kept[:n]).astype(np.uint32),
        test_rows=(n + np.flatnonzero(kept[n:])).astype(np.uint32),
        sample_ids=ids,
        class_names=tuple(names),
        groups=codes,
        group_names=group_names,
        notes=tuple(encoded.notes),
    )


def _of_loaded(loaded: "FeatureArrays", group: str | None) -> Task:
    n = len(loaded.y_train)
    labels = np.concatenate([loaded.y_train, loaded.y_test]).astype(np.uint32)
    names = loaded.class_names or [str(c) for c in range(int(labels.max(initial=0)) + 1)]
    notes = list(loaded.notes)
    groups: np.ndarray | None = None
    group_names: tuple[str, ...] = ()
    if group is not None:
        if group not in loaded.train_columns or group not in loaded.test_columns:
            there = ", ".join(loaded.train_columns) or "none"
            raise ParameterError(
                f"there is no column {group!r} of text or numbers to take groups from; further columns are: {there}"
            )
        values = [*loaded.train_columns[group].tolist(), *loaded.test_columns[group].tolist()]
        found, groups = encode_groups(values)
        group_names = tuple(found)
    else:
        notes += [Note("groups_unused", {"column": name}) for name in group_like(list(loaded.train_columns))]
    return Task(
        features=Features.of_arrays(loaded.X_train, loaded.X_test),
        labels=labels,
        train_rows=np.arange(n, dtype=np.uint32),
        test_rows=np.arange(n, len(labels), dtype=np.uint32),
        sample_ids=[*loaded.train_ids, *loaded.test_ids],
        class_names=tuple(names),
        groups=groups,
        group_names=group_names,
        notes=tuple(notes),
    )


def _groups(values: Sequence[object]) -> tuple[tuple[str, ...], np.ndarray]:
    names, codes = encode_groups(values)
    return tuple(names), codes


def group_like(columns: Sequence[str]) -> list[str]:
    """Columns named like groups of rows that are not independent."""
    exact, beginnings = {"group", "groups"}, ("patient", "subject", "slide", "scene")
    return [c for c in columns if c.lower() in exact or c.lower().startswith(beginnings)]


def check_task(task: Task) -> None:
    """Raise ParameterError unless a decomposition can be made of the task."""
    if len(task.train_rows) == 0 or len(task.test_rows) == 0:
        raise ParameterError(f"{len(task.train_rows)} training and {len(task.test_rows)} test rows: both are needed")
    n_present = len(np.unique(task.labels[task.train_rows]))
    if n_present < 2 and task.targets is None:
        raise ParameterError(f"the training rows have {n_present} class: a probe needs at least two")
    ids = np.array([task.sample_ids[row] for row in task.train_rows.tolist()], dtype=str)
    unique, counts = np.unique(ids, return_counts=True)
    if len(unique) < len(ids):
        raise ParameterError(
            f"sample id {str(unique[counts > 1][0])!r} occurs twice among the training rows; splits are drawn by it"
        )


def other_features(task: Task, features: Any, test: "ArrayLike | None", role: str) -> Features:
    """Other features in the rows of `task`: those of a twin (training rows may be enough) or of a control."""
    from ssl_risk_rs.bank import FeatureBank
    from ssl_risk_rs.bank.formats import FeatureArrays

    if isinstance(features, FeatureBank):
        _same_rows(task, features)
        return Features.of_bank(features)
    if isinstance(features, FeatureArrays):
        if not isinstance(task.features.source, list):
            raise ParameterError(
                f"{role} was loaded from a file, the features are a bank: import_bank makes a bank of the file"
            )
        return same_loaded_rows(task, features, role)
    x = as_float_rows(features, role)
    source, n_train = task.features.source, len(task.train_rows)
    if isinstance(source, list):
        n_train = len(source[0])
    elif test is None and len(x) == len(task.labels):
        return Features.of_arrays(x)  # in the bank's order
    elif n_train and int(task.train_rows[-1]) + 1 != n_train:
        raise ShapeError(
            f"{role} has {len(x)} rows, expected {len(task.labels)}: training and test rows of the bank are mixed, so "
            f"that {role} must have all of its rows, in its order"
        )
    if len(x) != n_train:
        raise ShapeError(f"{role} has {len(x)} rows, expected {n_train} (training rows)")
    if test is None:
        return Features.of_arrays(x)
    t = as_float_rows(test, f"{role}_test", spread=False)
    refuse_other_columns(features, role, test, f"{role}_test")
    expected = len(task.labels) - n_train
    if len(t) != expected:
        raise ShapeError(f"{role}_test has {len(t)} rows, expected {expected} (test rows)")
    refuse_not_finite(t, f"{role}_test", task.test_rows.astype(np.int64) - n_train)
    return Features.of_arrays(x, t)


def _seen(view: int | None) -> str:
    return "images as they are" if view is None else f"augmented view {view}"


def _same_rows(task: Task, bank: "FeatureBank") -> None:
    """Complain unless a bank has the labels and sample ids of the task in the same order, of images seen alike."""
    if task.view != bank.header.view:
        raise ParameterError(
            f"{bank.path} is of {_seen(bank.header.view)}, the features are of {_seen(task.view)}: extract both alike"
        )
    if bank.n_rows != len(task.labels):
        raise ShapeError(
            f"{bank.path} has {bank.n_rows} rows, the features have {len(task.labels)}: both need the same"
        )
    names = np.array(bank.class_names or task.class_names, object)
    ids = bank.sample_ids()
    refuse_other_rows(
        str(bank.path), RowNames(names[bank.labels()], None if numbered(ids) else ids), "the features", row_names(task)
    )


def same_loaded_rows(task: Task, loaded: "FeatureArrays", name: str, *, training_only: bool = False) -> Features:
    """Loaded features, if they have the labels and ids of the task, or of its training rows, in the same order.

    Raises
    ------
    ShapeError, in which `name` has other rows.
    """
    other = _of_loaded(loaded, None)
    rows, expected, features = np.arange(len(other.labels)), np.arange(len(task.labels)), other.features
    if training_only:
        rows, expected, features = other.train_rows, task.train_rows, Features.of_arrays(loaded.X_train)
    if len(rows) != len(expected):
        of = " training" if training_only else ""
        raise ShapeError(
            f"{name} has {len(rows)}{of} rows, the features have {len(expected)}: load both from files of the same rows"
        )
    refuse_other_rows(name, row_names(other, rows), "the features", row_names(task, expected))
    return features


def row_names(task: Task, rows: np.ndarray | None = None) -> RowNames:
    """What the rows of a task are known by, or some of them."""
    rows = np.arange(len(task.labels)) if rows is None else rows
    labels = np.array(task.class_names, object)[task.labels[rows]] if task.target is None else None
    every = task.sample_ids
    return RowNames(labels, None if numbered(every) else [every[row] for row in rows.tolist()])
