"""Labels of any kind → class codes: one check for arrays, files, banks and images, made before any conversion.

A label is a name. Whole numbers, in any number type or as text, have their decimal digits as name: 1, 1.0, True
and "1" are one class. Classes are numbered in the order of their names, by value where all are whole numbers.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ssl_risk_rs._class_names import in_order, is_whole, likely_cause, nearly_equal, shown
from ssl_risk_rs._notes import Note
from ssl_risk_rs._tensors import is_rounded, of_tensor
from ssl_risk_rs.errors import DataError, ShapeError, first_line

__all__ = [
    "MAX_CLASSES",
    "EncodedLabels",
    "check_test_classes",
    "encode_labels",
    "has_unlabelled",
    "is_row",
    "label_vector",
    "refuse_unlabelled",
    "row_of_labels",
]

#: A class beyond is a damaged column: the weights of so many classes of 64 features fill 4 GB
MAX_CLASSES = 1 << 24
#: floats up to here tell neighbouring whole numbers apart
_EXACT = {2: 2.0**11, 4: 2.0**24, 8: 2.0**53}
#: name that stands for "no label"
_UNLABELLED = "-1"


@dataclass(frozen=True, slots=True)
class EncodedLabels:
    """Labels as class codes; made by `encode_labels`."""

    #: of each part, int64 (n_kept,), classes 0 … k-1
    codes: dict[str, np.ndarray]
    #: name of each class; `None` where the labels were 0 … k-1
    class_names: list[str] | None
    #: of each part, bool (n,): the rows that `codes` holds
    kept: dict[str, np.ndarray]
    #: rows without a label that are left out
    n_dropped: int
    notes: tuple[Note, ...] = ()


def encode_labels(
    parts: Mapping[str, npt.ArrayLike],
    *,
    class_names: Sequence[str] | None = None,
    where: str | Mapping[str, str] = "labels",
    rows: Mapping[str, np.ndarray] | None = None,
    drop_unlabelled: bool = False,
) -> EncodedLabels:
    """Check labels and number their classes.

    Parameters
    ----------
    parts : labels of each part, (n,) or (n, 1): whole numbers of any type, text or bytes (UTF-8). Where there are
        parts "train" and "test", every class of the test rows must have a training row.
    class_names : name of each class, if known: numbers are then positions in it, texts are names of it
    where : what the labels are called in messages, for all parts or for each
    rows : of each part, the number of each row in the user's file, for messages; default 0 … n-1
    drop_unlabelled : leave rows out that have no label (-1, NaN, null, masked, empty text) instead of refusing them

    Returns
    -------
    EncodedLabels. Classes are in the order of their names, by value where all names are whole numbers.

    Raises
    ------
    ShapeError for labels that are no vector; DataError for anything that is no class, naming the row.
    """
    named = {part: where if isinstance(where, str) else where[part] for part in parts}
    read = {part: _read(labels, _Place(named[part], (rows or {}).get(part))) for part, labels in parts.items()}
    notes: list[Note] = []
    everywhere = " and ".join(dict.fromkeys(named.values()))
    read = _mark_unlabelled(read, class_names, drop_unlabelled, everywhere, notes)
    n_dropped = sum(int((part.codes < 0).sum()) for part in read.values())
    if n_dropped and not drop_unlabelled:
        raise _unlabelled(read)
    for name, part in read.items():
        if count := int((part.codes < 0).sum()):
            notes.append(Note("unlabelled_dropped", {"where": named[name], "count": count, "n": len(part.codes)}))
    kept = {name: part.codes >= 0 for name, part in read.items()}
    if class_names is None:
        present = {name: [part.names[code] for code in _used(part)] for name, part in read.items()}
        names = in_order({label for labels in present.values() for label in labels})
        place = {label: code for code, label in enumerate(names)}
        tables = {name: [place.get(label, -1) for label in part.names] for name, part in read.items()}
    else:
        names = list(class_names)
        tables = {name: _positions(part, names) for name, part in read.items()}
    codes = {name: np.array([*tables[name], -1], np.int64)[part.codes][kept[name]] for name, part in read.items()}
    if {"train", "test"} <= codes.keys():
        notes += check_test_classes(codes["train"], codes["test"], names, named["test"])
    notes += _name_notes(codes.values(), names, everywhere)
    plain = class_names is None and names == [str(code) for code in range(len(names))]
    return EncodedLabels(codes, None if plain else names, kept, n_dropped, tuple(notes))


def check_test_classes(train: np.ndarray, test: np.ndarray, names: Sequence[str] | None, where_test: str) -> list[Note]:
    """Refuse test rows of a class that no training row has; note the classes that only training rows have.

    Parameters
    ----------
    train, test : int64 codes
    names : name of each class; default its code
    where_test : what the test labels are called in a message
    """
    in_train, in_test = np.unique(train), np.unique(test)
    if not in_train.size or not in_test.size:  # which of the parts is empty is said where both are needed
        return []

    def named(codes: np.ndarray) -> list[str]:
        return [str(code) if names is None else names[code] for code in codes.tolist()]

    strangers = np.setdiff1d(in_test, in_train)
    if strangers.size:
        count, rows = strangers.size, int(np.isin(test, strangers).sum())
        there, here = named(in_train), named(in_test)
        raise DataError(
            f"{where_test}: {count} {'class has' if count == 1 else 'classes have'} test rows and no training row: "
            f"{shown(named(strangers))} ({rows} of {len(test)} test rows). The training rows have {shown(there)}; the "
            f"test rows have {shown(here)}. {likely_cause(there, here)}"
        )
    lonely = np.setdiff1d(in_train, in_test)
    if not lonely.size:
        return []
    return [
        Note(
            "train_only_classes",
            {
                "where": where_test,
                "count": int(lonely.size),
                "n_classes": int(in_train.size),
                "examples": shown(named(lonely)),
            },
        )
    ]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where labels lie, for messages."""

    name: str
    rows: np.ndarray | None

    def number(self, position: int) -> int:
        """Number of a row in the user's file."""
        return position if self.rows is None else int(self.rows[position])

    def row(self, position: int) -> str:
        return f"{self.name}: row {self.number(position)}"


@dataclass(frozen=True, slots=True)
class _Part:
    """Distinct labels and which of them each row has; -1: none."""

    names: list[str]
    codes: np.ndarray
    #: whether the labels were numbers (positions in class names, where these are known)
    numbers: bool
    place: _Place


def _used(part: _Part) -> list[int]:
    used: list[int] = np.unique(part.codes[part.codes >= 0]).tolist()
    return used


def _read(labels: npt.ArrayLike, place: _Place) -> _Part:
    """Distinct names and codes of one part."""
    y = label_vector(labels, place.name)
    missing = np.zeros(len(y), bool)
    if isinstance(y, np.ma.MaskedArray):
        missing, y = np.ma.getmaskarray(y), y.data
    kind = y.dtype.kind
    if kind == "T":  # NumPy's variable-width text
        y, kind = y.astype(object), "O"
    if kind not in "biufUSO":
        raise DataError(f"{place.name} are {y.dtype}; classes are whole numbers or text")
    if kind == "O":
        return _read_objects(y, missing, place)
    if kind == "f":
        missing = missing | np.isnan(y)
        y = np.where(missing, y.dtype.type(0), y)
        _check_floats(y, place)
    values, codes = np.unique(y, return_inverse=True)
    codes = codes.ravel().astype(np.int64)
    if kind == "S":
        rows = np.unique(codes, return_index=True)[1].tolist()
        names = [_decoded(value, rows[code], place) for code, value in enumerate(values.tolist())]
    elif kind == "U":
        names = [str(value) for value in values]
    else:
        names = [str(int(value)) for value in values]
    codes[missing] = -1
    return _merged(names, codes, kind not in "US", place)


def label_vector(labels: npt.ArrayLike, where: str) -> np.ndarray:
    """The labels as (n,), with their mask if they have one, and None and NaN among text as they are.

    Raises
    ------
    ShapeError for labels that are no vector; DataError for what is no array.
    """
    y = _array(labels, where)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    several = y.ndim == 2 and y.dtype.kind in "biuf" and y.shape[1] > 1
    one_hot = several and bool(((y == 0) | (y == 1)).all() and (y.sum(axis=1) == 1).all())
    if is_row(y) and not one_hot:
        raise row_of_labels(y.shape, where)
    if several:
        what = "one-hot rows" if one_hot else "scores or several labels a row"
        raise ShapeError(
            f"{where} have shape {y.shape}, {what}; give one class a row: labels.argmax(axis=1)"
            f"{' undoes one-hot' if one_hot else ' takes the highest score'}"
        )
    if y.ndim != 1:
        raise ShapeError(f"{where} have shape {y.shape}, expected (n_samples,): one class a row")
    return y


def is_row(y: np.ndarray) -> bool:
    """Whether labels have the shape (1, n): a vector that lies on its side, where n is more than 1."""
    return y.ndim == 2 and y.shape[0] == 1 < y.shape[1]


def row_of_labels(shape: tuple[int, ...], where: str) -> ShapeError:
    """The error to raise for labels of the shape (1, n)."""
    return ShapeError(
        f"{where} have shape {shape}, one row of {shape[1]} labels; expected (n_samples,): labels.ravel() makes it that"
    )


def refuse_unlabelled(labels: npt.ArrayLike, where: str) -> None:
    """Refuse labels some of which are masked, None or NaN, before a conversion makes classes of them.

    Raises
    ------
    DataError naming the first such row.
    """
    y = _array(labels, where)
    missing = np.ma.getmaskarray(y)
    if y.dtype.kind == "f":
        missing = missing | np.isnan(np.ma.getdata(y))
    elif y.dtype.kind == "O":
        missing = missing | np.array([_is_null(value) for value in y.ravel()], bool).reshape(y.shape)
    if y.ndim and missing.any():
        rows = missing.reshape(len(y), -1).any(1)
        raise DataError(
            f"{where}: {int(rows.sum())} of {len(y)} rows have no label (NaN, null or masked; the first is row "
            f"{int(rows.argmax())}); give them a class, or leave those rows out"
        )


def _array(labels: npt.ArrayLike, where: str) -> np.ndarray:
    """The labels as an array that keeps masks, and None and NaN among text."""
    if isinstance(labels, np.ma.MaskedArray):
        return labels
    if is_rounded(labels):
        kind = str(getattr(labels, "dtype", "")).removeprefix("torch.")
        raise DataError(f"{where} are {kind}, in which whole numbers beyond 256 are rounded; give them as integers")
    try:
        y = np.asarray(of_tensor(labels))
        if y.dtype.kind in "US" and not isinstance(labels, np.ndarray):
            y = np.array(labels, dtype=object)  # numbers beside text: NumPy would make text of None and NaN
    except Exception as error:  # whatever a foreign object's __array__ raises
        raise DataError(f"{where} cannot be read as a vector of labels: {first_line(error)}") from None
    return y


def _check_floats(y: np.ndarray, place: _Place) -> None:
    """Refuse floats that are no class; NaN are out already."""
    limit = _EXACT.get(y.dtype.itemsize, 2.0**53)
    for wrong, why in (
        (np.isinf(y), "that is no class"),
        (
            y != np.round(y),
            "classes are whole numbers or text; scores become classes by a threshold or argmax, and "
            "in Python decompose(…, target_kind='numbers') predicts numbers as they are",
        ),
        (
            np.abs(y) > limit,
            f"whole numbers beyond {limit:.0f} cannot be told apart as {y.dtype}; save them as integers",
        ),
    ):
        if wrong.any():
            first = int(wrong.argmax())
            raise DataError(
                f"{place.row(first)} has label {y[first]} ({int(wrong.sum())} of {len(y)} such labels are not whole "
                f"numbers that can be classes): {why}"
            )


def _decoded(value: bytes, row: int, place: _Place) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise DataError(f"{place.row(row)} has the label {value!r}, which is no UTF-8 text") from None


def _read_objects(y: np.ndarray, missing: np.ndarray, place: _Place) -> _Part:
    """Labels of an object array, one by one."""
    known: dict[object, int] = {}
    names: list[str] = []
    codes = np.empty(len(y), np.int64)
    numbers = True
    for i, value in enumerate(y.tolist()):
        if missing[i] or _is_null(value):
            codes[i] = -1
            continue
        if isinstance(value, np.generic):
            value = value.item()
        numbers = numbers and not isinstance(value, (str, bytes))
        try:
            code = known.get((type(value), value))
        except TypeError:  # a list, an array
            code = None
        if code is None:
            code = known[(type(value), _hashable(value, i, place))] = len(names)
            names.append(_name(value, i, place))
        codes[i] = code
    return _merged(names, codes, numbers, place)


def _is_null(value: Any) -> bool:
    if isinstance(value, (float, np.floating)) and not np.ma.is_masked(value):
        return math.isnan(value)
    return value is None or type(value).__name__ in (
        "NAType",
        "NaTType",
        "MaskedConstant",
    )  # pandas' NA has no truth value


def _hashable(value: object, row: int, place: _Place) -> object:
    try:
        hash(value)
    except TypeError:
        raise DataError(f"{place.row(row)} has a label of type {type(value).__name__}; give one class a row") from None
    return value


def _name(value: object, row: int, place: _Place) -> str:
    if isinstance(value, (bool, int)):
        return str(int(value))
    if isinstance(value, float):
        if not value.is_integer():
            raise DataError(f"{place.row(row)} has label {value}, which is no whole number; classes are, or are text")
        if abs(value) > _EXACT[8]:
            raise DataError(f"{place.row(row)} has label {value}, too large for a float to be exact; use integers")
        return str(int(value))
    if isinstance(value, bytes):
        return _decoded(value, row, place)
    if isinstance(value, str):
        return value
    raise DataError(f"{place.row(row)} has a label of type {type(value).__name__}; classes are whole numbers or text")


def _merged(names: list[str], codes: np.ndarray, numbers: bool, place: _Place) -> _Part:
    """One code a name: 1 and "1" may both occur. Empty text is no label."""
    place_of: dict[str, int] = {}
    table = np.full(len(names) + 1, -1, np.int64)  # the last is for code -1
    for i, name in enumerate(names):
        if name:
            table[i] = place_of.setdefault(name, len(place_of))
    return _Part(list(place_of), table[codes], numbers, place)


def has_unlabelled(names: Set[str]) -> bool:
    """Whether -1 stands for rows without label, which it does but where the two classes are -1 and 1."""
    return _UNLABELLED in names and names != {_UNLABELLED, "1"}


def _mark_unlabelled(
    parts: dict[str, _Part], class_names: Sequence[str] | None, drop: bool, where: str, notes: list[Note]
) -> dict[str, _Part]:
    """Rows with label -1 become rows without label, except where the two classes are -1 and 1."""
    present = {part.names[code] for part in parts.values() for code in _used(part)}
    if _UNLABELLED not in present:
        return parts
    if class_names is not None and _UNLABELLED in class_names and not any(part.numbers for part in parts.values()):
        return parts
    if not has_unlabelled(present) and class_names is None and not drop:
        notes.append(Note("minus_one_is_a_class", {"where": where}))
        return parts
    marked = {}
    for name, part in parts.items():
        codes = part.codes
        if _UNLABELLED in part.names:
            codes = np.where(codes == part.names.index(_UNLABELLED), -1, codes)
        marked[name] = _Part(part.names, codes, part.numbers, part.place)
    return marked


def _unlabelled(parts: dict[str, _Part]) -> DataError:
    counts = [(part, int((part.codes < 0).sum())) for part in parts.values()]
    said = [f"{part.place.name}: {count} of {len(part.codes)} rows" for part, count in counts if count]
    first = next(part for part, count in counts if count)
    return DataError(
        f"{', '.join(said)} have no label (-1, NaN, null, masked or empty text; the first is row "
        f"{first.place.number(int((first.codes < 0).argmax()))}); "
        "give them a class, or leave them out (--drop-unlabelled; of decompose drop_unlabelled=True)"
    )


def _positions(part: _Part, names: list[str]) -> list[int]:
    """Position among the class names of each distinct label of a part."""
    known: dict[str, int] = {}
    for code, name in enumerate(names):
        known.setdefault(name, code)
    used = {part.names[code] for code in _used(part)}
    whole = all(map(is_whole, used))
    if part.numbers or (whole and not used <= known.keys()):
        values = sorted(int(name) for name in used)
        if values and (values[0] < 0 or values[-1] >= len(names)):
            wrong = next(v for v in (values[-1], values[0]) if not 0 <= v < len(names))
            first = int((part.codes == part.names.index(str(wrong))).argmax())
            raise DataError(
                f"{part.place.name}: labels go from {values[0]} to {values[-1]}, there are {len(names)} class_names, "
                f"for classes 0 to {len(names) - 1} (class {wrong} is that of row {part.place.number(first)})"
            )
        return [int(name) if name in used else -1 for name in part.names]
    twice = used & {name for name, count in Counter(names).items() if count > 1}
    if twice:
        raise DataError(
            f"{part.place.name}: {sorted(twice)[0]!r} occurs twice in class_names; give labels as positions in them"
        )
    unknown = sorted(used - known.keys())
    if unknown:
        first = int((part.codes == part.names.index(unknown[0])).argmax())
        raise DataError(
            f"{part.place.row(first)}: label {unknown[0]!r} is not among the {len(names)} class_names "
            f"({shown(names)}). {likely_cause(names, unknown)}"
        )
    return [known[name] if name in used else -1 for name in part.names]


def _name_notes(codes: Iterable[np.ndarray], names: list[str], where: str) -> list[Note]:
    """Notes on class names that no row has, and on those that look alike."""
    seen = np.zeros(len(names), bool)
    for part in codes:
        seen[part] = True
    notes = []
    if not seen.all():
        empty = [names[code] for code in np.flatnonzero(~seen).tolist()]
        counts = {"count": len(empty), "n_classes": len(names)}
        notes.append(Note("classes_without_rows", {"where": where, **counts, "examples": shown(empty)}))
    if pairs := nearly_equal(names):
        examples = " and ".join(map(repr, pairs[0]))
        notes.append(Note("class_names_nearly_equal", {"where": where, "count": len(pairs), "examples": examples}))
    return notes
