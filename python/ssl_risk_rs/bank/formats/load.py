"""Features and labels of a file, checked and put together."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ssl_risk_rs._labels import EncodedLabels, check_test_classes, encode_labels, is_row, row_of_labels
from ssl_risk_rs._limits import MOST_SEED, check_whole
from ssl_risk_rs._notes import Note
from ssl_risk_rs._splits import is_no_group, stratified_cut
from ssl_risk_rs.bank.formats.read import read_file
from ssl_risk_rs.bank.formats.rows import joined
from ssl_risk_rs.bank.formats.table import FeatureFile, FeatureTable, some
from ssl_risk_rs.bank.formats.values import FeatureBlock, check_matrix
from ssl_risk_rs.errors import DataError, ShapeError

__all__ = ["TEST_FRACTION", "FeatureArrays", "FeatureSource", "load_features", "read_source"]

#: share of each class that becomes test rows where the file has none: 20 % as in the common 80/20 split
TEST_FRACTION = 0.2


@dataclass(frozen=True, slots=True)
class FeatureArrays:
    """Features and labels of a data set, in memory or mapped."""

    #: float16 or float32 (n_train, d), all values finite
    X_train: np.ndarray
    #: int64 (n_train,), classes 0 … k-1
    y_train: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray
    #: name of each class, if known or if the labels were not 0 … k-1
    class_names: list[str] | None
    #: identifier of each row; without one in the file its number among all rows, training rows first
    train_ids: list[str]
    test_ids: list[str]
    #: what else is known of each row, for instance groups: name → (n_train,), numbers or objects of text
    train_columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    test_columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    #: what was guessed or left out
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True)
class FeatureSource:
    """Features as they lie in a file, row after row, and what is known of each row."""

    #: their rows in order are the rows of the source
    blocks: tuple[FeatureBlock, ...]
    #: int64 (n,), classes 0 … k-1
    labels: np.ndarray
    #: bool (n,)
    is_test: np.ndarray
    #: identifier of each row; without one in the file its number, training rows first
    ids: list[str]
    class_names: list[str] | None
    #: what else is known of each row: name → (n,)
    columns: Mapping[str, np.ndarray]
    notes: tuple[Note, ...]
    #: the files that were read
    files: tuple[Path, ...]

    @property
    def n_rows(self) -> int:
        return len(self.labels)

    @property
    def n_features(self) -> int:
        return self.blocks[0].n_features


def load_features(
    path: str | os.PathLike[str],
    test: str | os.PathLike[str] | None = None,
    *,
    seed: int = 0,
    test_fraction: float = TEST_FRACTION,
    features_columns: str | Sequence[str] | None = None,
    group: str | None = None,
    drop_unlabelled: bool = False,
) -> FeatureArrays:
    """Read features and labels.

    Parameters
    ----------
    path : .npz, .safetensors, .parquet, .csv, .tsv, .pt or .pth file; a folder of .npy files; or a pair
        `X.npy,y.npy`. Arrays are X_train, y_train, X_test, y_test (or X, y), perhaps ids_train, ids_test and
        further vectors NAME_train, NAME_test, for instance groups. A file of columns has `label`, the features (a
        column of lists `features`, or numbered columns f0, f1, …), and perhaps `split`, `sample_id` and others. Labels
        and groups of a csv file are text unless all are numbers plainly written: 01 and 1 are two classes, 1 and 1.0
        are one. Further columns are text where one has a leading zero, or two texts are one number otherwise written.
    test : the test rows, if they are in a file of their own; both files then hold `X, y`
    seed, test_fraction : of the stratified cut where the file does not tell train from test
    features_columns : names or patterns of the feature columns of a parquet or csv file: "f*", "a,b,c", or a
        sequence; needed where they are neither lists nor one numbered family
    group : column whose groups the cut keeps whole
    drop_unlabelled : leave rows without label (-1, NaN, null, empty text) out

    Raises
    ------
    DataError if the file cannot be read or lacks an array, naming those it has, or for labels that are no
    classes; ShapeError if arrays disagree; ParameterError for a value that is not finite. Row numbers in messages
    are those of the file's array or table, from 0.
    """
    source = read_source(
        path,
        test,
        seed=seed,
        test_fraction=test_fraction,
        features_columns=features_columns,
        group=group,
        drop_unlabelled=drop_unlabelled,
    )
    train, test_rows = np.flatnonzero(~source.is_test), np.flatnonzero(source.is_test)
    return FeatureArrays(
        _select(source.blocks, train),
        source.labels[train],
        _select(source.blocks, test_rows),
        source.labels[test_rows],
        source.class_names,
        [source.ids[row] for row in train.tolist()],
        [source.ids[row] for row in test_rows.tolist()],
        {name: column[train] for name, column in source.columns.items()},
        {name: column[test_rows] for name, column in source.columns.items()},
        source.notes,
    )


def read_source(
    path: str | os.PathLike[str],
    test: str | os.PathLike[str] | None = None,
    *,
    seed: int = 0,
    test_fraction: float = TEST_FRACTION,
    features_columns: str | Sequence[str] | None = None,
    group: str | None = None,
    drop_unlabelled: bool = False,
) -> FeatureSource:
    """What `load_features` reads, before train and test rows are put apart; large files stay mapped."""
    found = read_file(path, features_columns)
    if test is not None:
        found = _paired(found, read_file(test, features_columns), path, test)
    for table in found.tables:
        _check(table)
    _check_widths(found.tables)
    encoded, parts = _encoded(found, drop_unlabelled)
    labels, kept, is_test, numbers = _scattered(found.tables, encoded, parts)
    notes = [*found.notes, *encoded.notes]
    _check_groups(found.tables, kept, group, path, test)
    columns = _columns(found.tables, kept, notes)
    ids = _given_ids(found.tables, kept)
    if is_test is None:
        group = group or found.whole
        is_test, note = _cut(path, labels, ids or numbers, columns, group, seed, test_fraction)
        notes.append(note)
        if not encoded.n_dropped:  # as `decompose` counts the arrays of a cut
            numbers = _numbered(is_test)
        _check_cut(path, labels, is_test, encoded.class_names, group, seed)
        notes += check_test_classes(labels[~is_test], labels[is_test], encoded.class_names, f"{path}, test rows")
    for name, mask in (("train", ~is_test), ("test", is_test)):
        if not mask.any():
            without = f" ({encoded.n_dropped} rows without label are left out)" if encoded.n_dropped else ""
            raise DataError(f"{path} has no {name} rows{without}; a decomposition needs both train and test rows")
    if ids is None:
        ids = numbers
    else:
        _check_unique(ids, is_test, path)
    blocks = []
    for table, mask in zip(found.tables, kept, strict=True):
        rows = None if mask.all() else np.flatnonzero(mask)
        blocks.append(FeatureBlock(np.asanyarray(table.x), table.x_name, table.feature_names, rows))
    _check_spread(blocks, is_test)
    return FeatureSource(tuple(blocks), labels, is_test, ids, encoded.class_names, columns, tuple(notes), found.files)


def _paired(
    train: FeatureFile, test: FeatureFile, path: str | os.PathLike[str], test_path: str | os.PathLike[str]
) -> FeatureFile:
    """Training rows of one file and test rows of another."""
    tables = []
    for found, name in ((train, path), (test, test_path)):
        if len(found.tables) != 1 or found.tables[0].split is not None:
            raise DataError(f"{name} tells train from test itself; with a test file, each holds X and y")
        tables.append(found.tables[0])
    names = [found.class_names for found in (train, test) if found.class_names is not None]
    if len(names) == 2 and names[0] != names[1]:
        raise DataError(
            f"{path} and {test_path} have different class_names; labels are positions in them: write one list"
        )
    if (tables[0].ids is None) != (tables[1].ids is None):
        lacking = path if tables[0].ids is None else test_path
        raise DataError(f"{lacking} has no identifiers and the other file has; add them, or leave both out")
    return FeatureFile(
        (replace(tables[0], split="train"), replace(tables[1], split="test")),
        (*train.files, *test.files),
        names[0] if names else None,
        (*train.notes, *test.notes),
    )


def _check(table: FeatureTable) -> None:
    x = np.asanyarray(table.x)
    check_matrix(x, table.x_name)
    y = table.y if isinstance(table.y, np.ndarray) else np.asarray(table.y, dtype=object)
    if y.ndim == 0:
        raise ShapeError(f"{table.y_name} is a single value ({y}), expected a label for each of {len(x)} rows")
    if is_row(y) and len(x) > 1:
        raise row_of_labels(y.shape, table.y_name)
    if len(y) != len(x):
        raise ShapeError(f"{table.y_name}: {len(x)} representations, {len(y)} labels; each row needs one")


def _check_widths(tables: Sequence[FeatureTable]) -> None:
    """Training and test rows must have the same features in the same order."""
    one, other = tables[0], tables[-1]
    widths = one.x.shape[1], other.x.shape[1]
    if widths[0] != widths[1]:
        raise ShapeError(
            f"{one.x_name} and {other.x_name} have {widths[0]} and {widths[1]} features; they must be equal"
        )
    if one.feature_names is not None and other.feature_names is not None and one.feature_names != other.feature_names:
        pairs = zip(one.feature_names, other.feature_names, strict=True)
        a, b = next(pair for pair in pairs if pair[0] != pair[1])
        raise DataError(
            f"{one.x_name} has feature column {a!r} where {other.x_name} has {b!r}; name the columns of both alike"
        )


def _check_spread(blocks: Sequence[FeatureBlock], is_test: np.ndarray) -> None:
    """Refuse features whose training rows float32 does not tell apart."""
    first = 0
    for block in blocks:
        block.check_spread(np.flatnonzero(~is_test[first : first + len(block)]))
        first += len(block)


def _encoded(found: FeatureFile, drop_unlabelled: bool) -> tuple[EncodedLabels, dict[str, tuple[int, np.ndarray]]]:
    """Labels as codes, and for each part of them its table and the rows of that table."""
    parts: dict[str, tuple[int, np.ndarray]] = {}
    for i, table in enumerate(found.tables):
        n = len(table.x)
        if isinstance(table.split, np.ndarray):
            parts |= {split: (i, np.flatnonzero(table.split == split)) for split in ("train", "test")}
        else:
            parts[table.split or "all"] = (i, np.arange(n))
    labels, where = {}, {}
    for name, (i, rows) in parts.items():
        y = found.tables[i].y
        labels[name] = y[rows] if isinstance(y, np.ndarray) and len(rows) < len(y) else y
        own = f", {name} rows" if isinstance(found.tables[i].split, np.ndarray) else ""
        where[name] = f"{found.tables[i].y_name}{own}"
    encoded = encode_labels(
        labels,
        class_names=found.class_names,
        where=where,
        rows={name: rows for name, (_, rows) in parts.items()},
        drop_unlabelled=drop_unlabelled,
    )
    return encoded, parts


def _scattered(
    tables: Sequence[FeatureTable], encoded: EncodedLabels, parts: Mapping[str, tuple[int, np.ndarray]]
) -> tuple[np.ndarray, list[np.ndarray], np.ndarray | None, list[str]]:
    """Of the rows that are kept, in the order of the tables: codes, which rows of each table they are, the test mask,
    None where it has to be cut, and numbers among all rows."""
    codes = [np.full(len(table.x), -1, np.int64) for table in tables]
    test = [np.zeros(len(table.x), bool) for table in tables]
    for name, (i, rows) in parts.items():
        codes[i][rows[encoded.kept[name]]] = encoded.codes[name]
        test[i][rows] = name == "test"
    kept = [code >= 0 for code in codes]
    labels = np.concatenate([code[mask] for code, mask in zip(codes, kept, strict=True)])
    every, is_test = np.concatenate(kept), np.concatenate(test)
    numbers = [name for name, keep in zip(_numbered(is_test), every.tolist(), strict=True) if keep]
    return labels, kept, None if "all" in parts else is_test[every], numbers


def _columns(tables: Sequence[FeatureTable], kept: Sequence[np.ndarray], notes: list[Note]) -> dict[str, np.ndarray]:
    """Further columns of the kept rows; those that one of two files lacks are named in a note."""
    common = [name for name in tables[0].columns if all(name in table.columns for table in tables)]
    for table in tables:
        if lonely := sorted(set(table.columns) - set(common)):
            values: dict[str, str | int | float] = {"count": len(lonely), "columns": some(lonely)}
            notes.append(Note("columns_left_out", {"file": table.x_name, **values}))
    return {
        name: joined([table.columns[name][mask] for table, mask in zip(tables, kept, strict=True)]) for name in common
    }


def _check_groups(
    tables: Sequence[FeatureTable],
    kept: Sequence[np.ndarray],
    group: str | None,
    path: str | os.PathLike[str],
    test: str | os.PathLike[str] | None,
) -> None:
    """Refuse rows that the column of groups says nothing of."""
    for table, mask in zip(tables, kept, strict=True):
        if group is None or group not in table.columns:
            continue
        values = table.columns[group].tolist()
        without = [row for row in np.flatnonzero(mask).tolist() if is_no_group(values[row])]
        if without:
            file = path if test is None or table.split == "train" else test
            part = f", {table.split} rows" if test is None and isinstance(table.split, str) else ""
            raise DataError(
                f"{file}{part}: column {group!r} is empty, or NaN, in {len(without):,} rows (the first is row "
                f"{without[0]}); each row needs its group: fill the column in, or remove those rows"
            )


def _given_ids(tables: Sequence[FeatureTable], kept: Sequence[np.ndarray]) -> list[str] | None:
    ids: list[str] = []
    for table, mask in zip(tables, kept, strict=True):
        if table.ids is None:
            return None
        ids += [name for name, keep in zip(table.ids, mask.tolist(), strict=True) if keep]
    return ids


def _numbered(is_test: np.ndarray) -> list[str]:
    """Identifiers of rows that have none: their number, training rows first, as `decompose` counts arrays."""
    numbers = np.empty(len(is_test), np.int64)
    numbers[np.argsort(is_test, kind="stable")] = np.arange(len(is_test))
    return [str(number) for number in numbers.tolist()]


def _check_unique(ids: Sequence[str], is_test: np.ndarray, path: str | os.PathLike[str]) -> None:
    seen: set[tuple[str, bool]] = set()
    for pair in zip(ids, is_test.tolist(), strict=True):
        if pair in seen:
            raise DataError(
                f"{path}: the identifier {pair[0]!r} occurs twice in the {'test' if pair[1] else 'train'} rows; splits "
                "are drawn by it: give each row its own"
            )
        seen.add(pair)


def _cut(
    path: str | os.PathLike[str],
    labels: np.ndarray,
    names: list[str],
    columns: Mapping[str, np.ndarray],
    group: str | None,
    seed: int,
    share: float,
) -> tuple[np.ndarray, Note]:
    """Test rows of a file that does not tell them, and the note that says so."""
    groups = None
    if group is not None:
        if group not in columns:
            there = some(sorted(columns)) or "none"
            raise DataError(f"{path} has no column {group!r} of text or numbers to group by; it has {there}")
        groups = columns[group].tolist()
    check_whole("seed", seed, 0, MOST_SEED)
    is_test = stratified_cut(labels, names, share=share, seed=seed, groups=groups)
    values: dict[str, str | int | float] = {"file": os.fspath(path), "n_test": int(is_test.sum()), "n": len(labels)}
    values |= {"share": share, "seed": seed}
    if group is None:
        return is_test, Note("cut_made", values)
    return is_test, Note("cut_made_by_group", {**values, "group": group})


def _check_cut(
    path: str | os.PathLike[str],
    labels: np.ndarray,
    is_test: np.ndarray,
    class_names: Sequence[str] | None,
    group: str | None,
    seed: int,
) -> None:
    """Refuse a cut that leaves a class without training rows: it can only be one by groups."""
    lost = np.setdiff1d(labels[is_test], labels[~is_test])
    if lost.size:
        names = [str(code) if class_names is None else repr(class_names[code]) for code in lost.tolist()]
        raise DataError(
            f"{path}: every group of {group!r} with rows of class {some(names)} was drawn for the test rows (seed "
            f"{seed}); take another seed or fewer test rows (test_fraction), or name the test rows in the file"
        )


def _select(blocks: Sequence[FeatureBlock], rows: np.ndarray) -> np.ndarray:
    """Rows as float16 or float32; a block that is wanted whole is not copied."""
    parts, first = [], 0
    for block in blocks:
        own = rows[np.searchsorted(rows, first) : np.searchsorted(rows, first + len(block))] - first
        first += len(block)
        if len(own):
            parts.append(block.floats(None if len(own) == len(block) else own))
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
