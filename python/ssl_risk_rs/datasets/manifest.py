"""Images that a table lists: one row each, with its file, its label and whatever else is known of it."""

import contextlib
import os
import re
from collections.abc import Iterator
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np

from ssl_risk_rs._identity import DataIdentity
from ssl_risk_rs._labels import encode_labels
from ssl_risk_rs._names import counted
from ssl_risk_rs._tables import (
    find_column,
    has_no_text,
    numbers_or_text,
    numbers_unless_merged,
    read_table,
    text_column,
)
from ssl_risk_rs.datasets.parts import chosen_parts
from ssl_risk_rs.datasets.pixels import open_picture
from ssl_risk_rs.datasets.sources import COLUMNS, DataFile, Listing, Picture, existing_file, some, text
from ssl_risk_rs.errors import DataError

if TYPE_CHECKING:
    import polars as pl

__all__ = ["ManifestSource", "column_array", "labels_of"]

#: spellings of a column, the first that is there is taken
PATHS = ("path", "file", "filename", "file_name", "filepath", "image", "image_path")
LABELS = ("label", "class", "target", "y")
IDS = ("sample_id", "id")

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ].*)?")


class ManifestSource:
    """A csv, tsv or parquet file with columns `path` and `label`, and perhaps `split`, `sample_id`, `group` and others.

    A path is absolute, or relative to the file's folder, which it must not leave. Ids of samples are the column
    `sample_id`, else the paths relative to that folder. Further columns of plain values become columns of the samples.
    Labels are names or whole numbers; the classes are in the order of their names, by value where all are numbers.
    """

    scheme = "manifest"
    wanted = "a csv, tsv or parquet file with columns path and label (and split: train or test)"

    def __init__(self, location: str) -> None:
        self.file = existing_file(location, self.scheme, self.wanted)
        self.location = str(self.file)
        self.name = self.file.stem
        self._loaded: tuple[list[str], Listing] | None = None
        self._notes: list[str] = []
        self._mark = ""

    def class_names(self) -> list[str]:
        return self._read()[0]

    def listing(self) -> Listing:
        return self._read()[1]

    def notes(self) -> list[str]:
        self._read()
        return list(self._notes)

    def identity(self) -> DataIdentity:
        return DataIdentity(self.name)

    def files(self) -> Iterator[DataFile]:
        listing = self.listing()
        assert listing.path is not None
        yield DataFile("\0manifest", self.file, self._mark)
        root = os.fsencode(self.file.parent) + b"/"
        for path in listing.path.tolist():
            yield DataFile(path.removeprefix(root), path)

    def content(self, index: int) -> bytes:
        raise NotImplementedError("an image of a manifest is a file")

    def load(self, index: int) -> Picture:
        path = self.listing().path
        assert path is not None
        return open_picture(path[index])

    def _read(self) -> tuple[list[str], Listing]:
        if self._loaded is None:
            frame = read_table(self.file)
            if not frame.height:
                raise DataError(f"{self.file} has no rows; give {self.wanted}")
            path_column, label_column = self._column(frame, PATHS), self._column(frame, LABELS)
            id_column = find_column(frame.columns, IDS, self.file)
            split_column = find_column(frame.columns, ("split",), self.file)
            names, paths = self._paths(frame[path_column])
            labels, class_names = labels_of(frame[label_column], f"{self.file}: column {label_column!r}")
            ids = names if id_column is None else self._ids(frame[id_column])
            taken = {path_column, label_column, id_column, split_column}
            order, n_train = np.arange(frame.height), None
            if split_column is not None:
                order, n_train = self._parts(frame[split_column])
            listing = Listing(
                np.array([os.fsencode(name) for name in ids]),
                labels,
                n_train,
                np.array([os.fsencode(path) for path in paths]),
                self._columns(frame.drop(name for name in taken if name is not None)),
            )
            if n_train is not None:
                listing = listing.taken(order, n_train)
            self._mark = _hash(listing, class_names)
            self._loaded = class_names, listing
        return self._loaded

    def _column(self, frame: "pl.DataFrame", names: tuple[str, ...]) -> str:
        found = find_column(frame.columns, names, self.file)
        if found is None:
            others = " or ".join(names[1:])
            raise DataError(
                f"{self.file} has no column {names[0]} (nor {others}); it has {', '.join(frame.columns)}. "
                "Rename the column that holds it"
            )
        return found

    def _paths(self, column: "pl.Series") -> tuple[list[str], list[str]]:
        """Names relative to the manifest's folder, where they lie in it, and absolute paths."""
        root = str(self.file.parent)
        written = self._filled(column)
        self._refuse(
            written,
            [bool(_URL.match(name)) for name in written],
            "URLs. Images are read from local files only, because an address may give another image tomorrow: download "
            "them, and list the files",
        )
        normal = [os.path.normpath(name) for name in written]
        self._refuse(
            written,
            [name == ".." or name.startswith("../") for name in normal],
            f"paths that lead out of {root}; list files elsewhere by their absolute path",
        )
        names = [name.removeprefix(root + "/") for name in normal]
        self._refuse(names, _repeated(names), "paths that occur more than once; an image has one row and one label")
        paths = [os.path.join(root, name) for name in names]
        self._refuse(
            paths,
            _absent(paths),
            f"paths of files that do not exist. A path is absolute, or relative to {root}; correct them, or remove "
            "the rows",
        )
        return names, paths

    def _ids(self, column: "pl.Series") -> list[str]:
        ids = self._filled(column)
        self._refuse(
            ids, _repeated(ids), f"values of {column.name!r} that occur more than once; each row needs its own"
        )
        return ids

    def _filled(self, column: "pl.Series") -> list[str]:
        """A column as text; DataError if it is empty somewhere, or holds no text."""
        values: list[str | None] = text_column(column, f"{self.file}: column {column.name!r}").to_list()
        empty = [i for i, value in enumerate(values) if not value]
        if empty:
            raise DataError(
                f"{self.file} has {counted(len(empty), 'row')} without {column.name}: row "
                f"{some([str(i) for i in empty])}; fill the column there, or remove the rows"
            )
        return [value for value in values if value is not None]

    def _refuse(self, values: list[str], wrong: list[bool], what: str) -> None:
        """DataError that counts and shows the values for which `wrong` is true, if there are any."""
        rows = [i for i, is_wrong in enumerate(wrong) if is_wrong]
        if rows:
            examples = some([f"{text(values[i])} (row {i})" for i in rows])
            raise DataError(f"{self.file}: {len(rows):,} of {len(values):,} rows have {what}. They are {examples}")

    def _parts(self, column: "pl.Series") -> tuple[np.ndarray, int]:
        """Rows of the training and then of the test part, and how many are training rows."""
        parts = text_column(column, f"{self.file}: column {column.name!r}").to_list()
        used, test = chosen_parts(parts, str(self.file))
        rows = np.array(used)
        if left := len(column) - len(rows):
            self._notes.append(f"{self.file.name} has {counted(left, 'row')} of the part val, not used beside test")
        return np.concatenate([rows[~test], rows[test]]), int((~test).sum())

    def _columns(self, frame: "pl.DataFrame") -> dict[str, np.ndarray]:
        """Further columns of plain values."""
        columns, left_out = {}, []
        for name in frame.columns:
            values = None if name in COLUMNS else column_array(frame[name])
            if values is None:
                left_out.append(name)
            else:
                columns[name] = values
        if left_out:
            self._notes.append(
                f"{self.file.name}: columns that hold no plain values, or are called as one that samples have, are "
                f"not kept ({len(left_out):,}): {some(left_out)}"
            )
        return columns


def column_array(column: "pl.Series") -> np.ndarray | None:
    """A column as int64, float64 (NaN where a value is absent), str, or objects where values of the others are; None if
    it is empty or holds no values.

    Text that holds numbers only is numbers, as in a file of features (`numbers_unless_merged`).
    """
    import polars as pl

    if has_no_text(column.dtype) or column.dtype == pl.Binary or column.null_count() == len(column):
        return None
    if column.dtype == pl.String:
        column = numbers_unless_merged(column)
    if column.dtype.is_float():
        return np.asarray(column.cast(pl.Float64).to_numpy())
    if column.dtype.is_integer():
        whole = column.cast(pl.Int64, strict=False)
        if whole.null_count() == column.null_count():  # beyond int64 the digits are kept
            column = whole
    else:
        column = column.cast(pl.String)
    if column.null_count():
        array = np.empty(len(column), object)
        array[:] = column.to_list()
        return array
    return np.asarray(column.to_numpy()) if column.dtype == pl.Int64 else np.array(column.cast(pl.String).to_list())


def labels_of(column: "pl.Series", where: str) -> tuple[np.ndarray, list[str]]:
    """Codes int64 (n,) and class names of a column of labels.

    Raises
    ------
    DataError for rows without label, dates, fractions, and what else is no class.
    """
    import polars as pl

    if column.dtype.is_temporal() and column.dtype != pl.Duration:
        raise _dates(where, str(column[0]))
    as_text = text_column(column, where)
    is_number = column.dtype.is_float() or column.dtype.is_integer() or column.dtype == pl.Boolean
    is_plain = is_number and str(column.dtype) not in ("Int128", "UInt128")  # those have no NumPy type
    values = column if is_plain else numbers_or_text(as_text)
    as_text = as_text.fill_null("")
    none = (
        {"", "-1", "-1.0"} if set(as_text.unique()) - {"-1", "-1.0", "1", "1.0"} else {""}
    )  # -1 and 1 are two classes
    empty = as_text.is_in(list(none)) | values.is_null()
    if values.dtype.is_float():
        empty |= values.is_nan().fill_null(False)
    if empty.any():
        rows = [str(i) for i in empty.arg_true().to_list()]
        raise DataError(
            f"{where} is empty, or -1, in {counted(len(rows), 'row')} of {len(column):,}: row {some(rows)}; give each "
            "a class, or remove the rows"
        )
    if values.dtype == pl.String:
        distinct = values.unique().to_list()
        if all(_DATE.fullmatch(name) for name in distinct):
            raise _dates(where, distinct[0])
    # objects: NumPy's own texts end before a NUL, which would make one class of two
    given = np.array(values.to_list(), dtype=object) if values.dtype == pl.String else values.to_numpy()
    encoded = encode_labels({"all": given}, where=where)
    codes = encoded.codes["all"]
    return codes, encoded.class_names or [str(code) for code in range(int(codes.max()) + 1)]


def _dates(where: str, example: str) -> DataError:
    return DataError(f"{where} holds dates, such as {example}, which are no classes; write the class into that column")


def _absent(paths: list[str]) -> list[bool]:
    """Whether each path is no file: folders are listed once, which a million questions after files are slow beside."""
    there: dict[str, set[str]] = {}
    absent = []
    for path in paths:
        folder, _, name = path.rpartition("/")
        if folder not in there:
            there[folder] = set()
            with contextlib.suppress(OSError), os.scandir(folder or "/") as entries:
                there[folder] = {entry.name for entry in entries if not entry.is_dir()}
        absent.append(name not in there[folder])
    return absent


def _repeated(values: list[str]) -> list[bool]:
    """Whether each value has occurred before."""
    first: dict[str, int] = {}
    return [first.setdefault(value, i) != i for i, value in enumerate(values)]


def _hash(listing: Listing, class_names: list[str]) -> str:
    """What the manifest says, whatever kind of file it is and whenever it was written."""
    digest = blake2b("\0".join(class_names).encode(errors="surrogateescape"), digest_size=16)
    digest.update(f"\n{listing.n_train}\n".encode() + b"\0".join(listing.sample_id.tolist()))
    digest.update(listing.label.tobytes())
    for name, values in sorted(listing.columns.items()):
        digest.update(f"\n{name}\n".encode() + "\0".join(map(str, values.tolist())).encode(errors="surrogateescape"))
    return digest.hexdigest()
