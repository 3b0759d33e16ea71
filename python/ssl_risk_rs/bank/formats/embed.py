"""`embed:PATH?labels=FILE`: vectors without a model, joined to labels by identifier.

PATH is a folder with one file a slide, image or patient (`.h5`, `.hdf5`, `.npy`, `.pt`; its name is the identifier), or
one file: HDF5 with a group for each identifier, or with `features` and `ids`; `.npz` with `features` (or X) and `ids`;
parquet or csv with an identifier and columns of features. HDF5 is read as CLAM and TRIDENT write it: `features` (n, d)
or (1, n, d), and `coords` (n, 2), of the n patches of a slide.

    labels=FILE     csv, tsv or parquet with a row for each identifier
    id=, label=, split=
                    its columns; by default slide_id (or id, sample_id), label (or y, target), split if there is one
    group=COLUMN    whose groups stay whole, as --group says
    pool=mean       one row for each identifier, the mean of its vectors; without it each vector is a row
    key=features    another name of the array of features
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ssl_risk_rs._extras import refuse_without_torch
from ssl_risk_rs._notes import Note
from ssl_risk_rs._tables import read_parquet, unreadable
from ssl_risk_rs.bank.formats.columns import (
    LABELS,
    features_of_columns,
    further_columns,
    plain_column,
    splits_of_column,
)
from ssl_risk_rs.bank.formats.csv import read_frame
from ssl_risk_rs.bank.formats.rows import as_ids
from ssl_risk_rs.bank.formats.table import FeatureFile, FeatureTable, some
from ssl_risk_rs.errors import DataError, ParameterError, ShapeError

if TYPE_CHECKING:
    import polars as pl

__all__ = ["SCHEME", "Embedding", "is_embedding", "parse_embedding", "read"]

SCHEME = "embed:"
_OPTIONS = ("labels", "id", "label", "split", "group", "pool", "key")
_IDS = ("slide_id", "id", "sample_id")
#: names of the identifiers beside an array of features in one file
_FILE_IDS = ("ids", "slide_ids", "slide_id", "sample_ids", "names")
#: files that hold one identifier's vectors
_PARTS = (".h5", ".hdf5", ".npy", ".pt")
_TABLES = (".csv", ".tsv", ".parquet")


@dataclass(frozen=True, slots=True)
class Embedding:
    """A URI taken apart; `None` leaves a column to its usual name."""

    path: Path
    labels: Path
    id: str | None = None
    label: str | None = None
    split: str | None = None
    group: str | None = None
    pool: str | None = None
    key: str = "features"

    def files(self) -> list[Path]:
        """The files that it is made of, labels last."""
        if not self.path.is_dir():
            return [self.path, self.labels]
        return [*sorted(p for p in self.path.iterdir() if p.suffix.lower() in _PARTS), self.labels]


def is_embedding(text: str) -> bool:
    """Whether a text is such a URI."""
    return text.startswith(SCHEME)


def parse_embedding(text: str) -> Embedding:
    """Take a URI apart; nothing is opened.

    Raises
    ------
    ParameterError for an option that is none, or without labels.
    """
    place, _, query = text.removeprefix(SCHEME).partition("?")
    given: dict[str, str] = {}
    for item in query.split("&") if query else []:
        key, equals, value = item.partition("=")
        if key not in _OPTIONS or not equals or not value:
            raise ParameterError(f"{text}: {item!r} is none of the options {', '.join(f'{o}=…' for o in _OPTIONS)}")
        given[key] = value
    if not place or "labels" not in given:
        raise ParameterError(f"{text}: write {SCHEME}PATH?labels=FILE; the file has an identifier and a label a row")
    if given.get("pool") not in (None, "mean"):
        raise ParameterError(f"{text}: pool={given['pool']} is not known; the one way to pool is mean")
    labels = Path(given.pop("labels")).expanduser()
    return Embedding(Path(place).expanduser(), labels, **given)


def read(text: str, columns: str | Sequence[str] | None = None) -> FeatureFile:
    """Vectors with their labels; what has no label, or no vector, is left out, counted and said.

    Raises
    ------
    DataError, ShapeError for what is there or not.
    """
    asked = parse_embedding(text)
    table, identifier = _label_table(asked)
    wanted = {name: row for row, name in enumerate(table.ids)}
    names: list[str] = []
    counts: list[int] = []
    parts: list[np.ndarray] = []
    coords: list[np.ndarray | None] = []
    unlabelled, empty, n_files = 0, 0, 0
    seen: set[str] = set()
    example = ""
    for name, vectors, places in _vectors(asked, columns):
        n_files += 1
        if name in seen:
            raise DataError(f"{asked.path} has {name!r} twice; each identifier is in one file or row")
        seen.add(name)
        if name not in wanted:
            unlabelled, example = unlabelled + 1, example or name
        elif not len(vectors):
            empty += 1
        else:
            _check_width(asked.path, name, vectors, parts)
            pooled = asked.pool is not None
            parts.append(vectors.mean(0, keepdims=True, dtype=np.float64).astype(np.float32) if pooled else vectors)
            names.append(name)
            counts.append(len(parts[-1]))
            coords.append(None if pooled else places)
    if not parts:
        raise DataError(
            f"no identifier of {asked.labels} (column {identifier!r}, such as {table.ids[0]!r}) is in {asked.path}"
            + (f", which has {n_files:,}, such as {example!r}" if example else "")
        )
    rows = np.repeat([wanted[name] for name in names], counts)
    by_patch = max(counts) > 1
    ids = [name for name, count in zip(names, counts, strict=True) for _ in range(count)]
    own = dict(table.columns)
    picked = {key: column[rows] for key, column in own.items()}
    if by_patch:
        picked[identifier] = np.array(ids, dtype=object)
        if all(place is not None for place in coords):
            every = np.concatenate([place for place in coords if place is not None])
            picked |= {"coord_x": every[:, 0], "coord_y": every[:, 1]}
        ids = [f"{name}:{i}" for name, count in zip(names, counts, strict=True) for i in range(count)]
    notes = []
    lacking = len(wanted) - len(names) - empty
    if unlabelled or lacking or empty:
        values: dict[str, str | int | float] = {"file": str(asked.path), "labels": str(asked.labels)}
        values |= {"joined": len(names), "unlabelled": unlabelled, "lacking": lacking, "empty": empty}
        notes.append(Note("embed_joined", values))
    feature_table = FeatureTable(
        np.concatenate(parts) if len(parts) > 1 else parts[0],
        table.labels[rows],
        str(asked.path),
        f"{asked.labels}: column {table.label!r}",
        None if table.split is None else table.split[rows],
        ids,
        picked,
    )
    whole = identifier if by_patch else None
    return FeatureFile((feature_table,), tuple(asked.files()), notes=tuple(notes), whole=whole)


# --- labels


@dataclass(frozen=True, slots=True)
class _Labels:
    """The file of labels: identifiers, labels, splits (perhaps), what else is known of each row."""

    ids: list[str]
    label: str
    labels: np.ndarray
    split: np.ndarray | None
    columns: Mapping[str, np.ndarray]


def _label_table(asked: Embedding) -> tuple[_Labels, str]:
    frame = _read_frame(asked.labels, asked.id, (asked.label, asked.group), columns=())

    def column(given: str | None, usual: Sequence[str], what: str) -> str | None:
        if given is not None:
            if given not in frame.columns:
                raise DataError(f"{asked.labels} has no column {given!r} ({what}=); it has {some(frame.columns)}")
            return given
        return next((name for name in usual if name in frame.columns), None)

    identifier, label = column(asked.id, _IDS, "id"), column(asked.label, LABELS, "label")
    split = column(asked.split, ("split",), "split")
    column(asked.group, (), "group")
    for found, what, usual in ((identifier, "id", _IDS), (label, "label", LABELS)):
        if found is None:
            raise DataError(
                f"{asked.labels} has none of the columns {', '.join(usual)}; name it: &{what}=COLUMN (it has "
                f"{some(frame.columns)})"
            )
    assert identifier is not None and label is not None
    where = f"{asked.labels}: column {identifier!r}"
    ids = as_ids(plain_column(frame[identifier], where), frame.height, where)
    if len(set(ids)) < len(ids):
        twice = next(name for i, name in enumerate(ids) if name in ids[:i])
        raise DataError(f"{asked.labels}: {twice!r} is in two rows of column {identifier!r}; each has one label")
    rest = [name for name in frame.columns if name not in (identifier, label, split)]
    columns, _ = further_columns(frame, rest)
    splits = None if split is None else splits_of_column(frame[split], asked.labels)
    labels = plain_column(frame[label], f"{asked.labels}: column {label!r}")
    return _Labels(ids, label, labels, splits, columns), identifier


def _read_frame(
    path: Path,
    identifier: str | None,
    labels: Sequence[str | None] = (),
    columns: str | Sequence[str] | None = None,
) -> "pl.DataFrame":
    """A csv, tsv or parquet file; identifiers stay text (007 is no number)."""
    if path.suffix.lower() not in _TABLES:
        raise DataError(f"{path} is no file of columns; use one of {', '.join(_TABLES)}")
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    if path.suffix.lower() == ".parquet":
        frame = read_parquet(path)
    else:
        usual = () if identifier is None else (identifier,)
        frame = read_frame(path, columns, (*usual, *_IDS), [name for name in labels if name is not None])
    if not frame.height:
        raise DataError(f"{path} has no rows")
    return frame


# --- vectors


def _vectors(
    asked: Embedding, columns: str | Sequence[str] | None
) -> Iterator[tuple[str, np.ndarray, np.ndarray | None]]:
    """(identifier, (n, d), coordinates (n, 2) or None), one after the other."""
    path = asked.path
    if columns is not None and path.suffix.lower() not in _TABLES:
        raise ParameterError(f"{path} is no parquet or csv file: leave out --features-columns")
    if path.is_dir():
        files = asked.files()[:-1]
        if not files:
            raise DataError(f"{path} has no files {', '.join(_PARTS)}; CLAM writes them to h5_files or pt_files")
        for file in files:
            yield from _one_file(file, asked.key)
        return
    if not path.is_file():
        raise DataError(f"{path}: no such file or folder")
    kind = path.suffix.lower()
    if kind in (".h5", ".hdf5"):
        from ssl_risk_rs.bank.formats.hdf5 import read_groups

        yield from ((n, _matrix(x, path, n), c) for n, x, c in read_groups(path, asked.key, _FILE_IDS))
    elif kind == ".npz":
        yield from _rows(*_npz(path, asked.key))
    elif kind in _TABLES:
        yield from _rows(*_columns(path, asked.id, columns))
    else:
        raise DataError(
            f"{path}: vectors are joined to labels by identifier, which such a file has none of; use one of .h5, .npz, "
            f"{', '.join(_TABLES)}, or a folder with a file for each identifier"
        )


def _one_file(file: Path, key: str) -> Iterator[tuple[str, np.ndarray, np.ndarray | None]]:
    coords = None
    kind = file.suffix.lower()
    if kind == ".npy":
        try:
            values = np.load(file, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise unreadable(file, error) from None
    elif kind == ".pt":
        values = _tensor(file, key)
    else:
        from ssl_risk_rs.bank.formats.hdf5 import read_slide

        values, coords = read_slide(file, key)
    yield file.name[: -len(file.suffix)], _matrix(values, file, ""), coords


def _tensor(file: Path, key: str) -> np.ndarray:
    refuse_without_torch(f"{file} needs")
    import torch

    try:
        content: object = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle ends anywhere
        raise unreadable(file, error) from None
    found = content.get(key) if isinstance(content, Mapping) else content
    if not isinstance(found, torch.Tensor):
        raise DataError(f"{file} holds no tensor, nor one under {key!r}; name it: &key=NAME")
    return found.float().numpy() if found.dtype == torch.bfloat16 else found.numpy()


def _npz(path: Path, key: str) -> tuple[Path, list[str], np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError) as error:
        raise unreadable(path, error) from None
    features = next((arrays[name] for name in (key, "X", "x") if name in arrays), None)
    ids = next((arrays[name] for name in _FILE_IDS if name in arrays), None)
    if features is None or ids is None:
        what = f"array {key!r} or X" if features is None else f"identifiers ({', '.join(_FILE_IDS)})"
        raise DataError(f"{path} has no {what}; it has {some(sorted(arrays))}")
    return path, as_ids(ids, len(features), f"{path}: identifiers"), features


def _columns(
    path: Path, identifier: str | None, chosen: str | Sequence[str] | None
) -> tuple[Path, list[str], np.ndarray]:
    frame = _read_frame(path, identifier, columns=chosen)
    name = next((n for n in (identifier, *_IDS) if n in frame.columns), None)
    if name is None:
        raise DataError(f"{path} has no identifier ({', '.join(_IDS)}); name it: &id=COLUMN")
    where = f"{path}: column {name!r}"
    ids = as_ids(plain_column(frame[name], where), frame.height, where)
    return path, ids, features_of_columns(frame.drop(name), path, chosen)


def _rows(path: Path, ids: list[str], values: np.ndarray) -> Iterator[tuple[str, np.ndarray, np.ndarray | None]]:
    """Rows of one array by identifier; those with the same one belong together."""
    matrix = _matrix(values, path, "")
    if len(set(ids)) == len(ids):
        yield from ((name, matrix[i : i + 1], None) for i, name in enumerate(ids))
        return
    order: dict[str, list[int]] = {}
    for i, name in enumerate(ids):
        order.setdefault(name, []).append(i)
    yield from ((name, matrix[rows], None) for name, rows in order.items())


def _matrix(values: np.ndarray, path: Path, name: str) -> np.ndarray:
    """(n, d), from a vector, a matrix, or a matrix in a batch of one."""
    shape = values.shape
    if values.ndim == 3 and shape[0] == 1:
        values = values[0]
    if values.ndim == 1 and values.dtype.kind == "f":
        values = values[None]
    if values.ndim != 2 or values.dtype.kind not in "fiu":
        called = f"{path}, {name}" if name else str(path)
        raise ShapeError(f"{called}: features are {values.dtype} of shape {shape}; they are (n, d) numbers")
    return values


def _check_width(path: Path, name: str, vectors: np.ndarray, parts: Sequence[np.ndarray]) -> None:
    if parts and vectors.shape[1] != parts[0].shape[1]:
        raise ShapeError(f"{path}: {name!r} has {vectors.shape[1]} features, the others have {parts[0].shape[1]}")
