"""Features from other programs' files: npz, npy, safetensors, parquet, torch.

Keyed files hold `X_train, y_train, X_test, y_test`, or `X, y`, which are cut: 20 % of each class, drawn by
sample id and seed, become the test rows. Nothing that needs unpickling is read.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ssl_risk_rs.errors import DataError, ParameterError, ShapeError

__all__ = ["FeatureArrays", "FeatureSource", "load_features", "read_source"]

TEST_FRACTION = 0.2
#: what a keyed file may hold
KEYS = "X_train, y_train, X_test, y_test (or X, y); optional ids_train, ids_test (or ids), class_names"
#: safetensors types that NumPy knows; BF16 is widened
_SAFETENSORS = {
    **{"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "BOOL": "?"},
    **{"I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1"},
    **{"U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1"},
}


@dataclass(frozen=True, slots=True)
class FeatureArrays:
    """Features and labels of a data set, in memory or mapped."""

    #: float16 or float32 (n_train, d)
    X_train: np.ndarray
    #: int64 (n_train,), classes 0 … k-1
    y_train: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray
    #: name of each class, if known or if the labels were not 0 … k-1
    class_names: list[str] | None = None
    #: identifier of each row, if the file has them
    train_ids: list[str] | None = None
    test_ids: list[str] | None = None
    #: how train and test were cut, if the file did not say
    note: str | None = None


@dataclass(frozen=True, slots=True)
class FeatureSource:
    """Features as they lie in a file, row after row, and what is known of each row."""

    #: arrays (n_i, d), perhaps mapped; their rows in order are the rows of the source
    blocks: tuple[np.ndarray, ...]
    #: int64 (n,)
    labels: np.ndarray
    #: bool (n,)
    is_test: np.ndarray
    #: identifier of each row; `None` if the file has none
    ids: list[str] | None
    class_names: list[str] | None
    note: str | None

    @property
    def n_features(self) -> int:
        return self.blocks[0].shape[1]


def load_features(
    path: str | os.PathLike[str],
    test: str | os.PathLike[str] | None = None,
    *,
    seed: int = 0,
    test_fraction: float = TEST_FRACTION,
) -> FeatureArrays:
    """Read features and labels.

    Parameters
    ----------
    path : .npz, .safetensors, .parquet, .pt or .pth file; a folder of .npy files; or a pair `X.npy,y.npy`.
        A parquet file has a column of lists `features` (or one numeric column for each feature), `label`, and
        perhaps `split` and `sample_id`.
    test : the test rows, if they are in a file of their own; both files then hold `X, y`
    seed, test_fraction : of the stratified cut where the file does not tell train from test

    Raises
    ------
    DataError if the file cannot be read or lacks an array, naming those it has; ShapeError if arrays
    disagree.
    """
    source = read_source(path, test, seed=seed, test_fraction=test_fraction)
    parts = {}
    for name, mask in (("train", ~source.is_test), ("test", source.is_test)):
        ids = None if source.ids is None else [source.ids[i] for i in np.flatnonzero(mask)]
        parts[name] = (_select(source.blocks, mask), source.labels[mask], ids)
    (x, y, ids), (x_test, y_test, test_ids) = parts["train"], parts["test"]
    return FeatureArrays(x, y, x_test, y_test, source.class_names, ids, test_ids, source.note)


def read_source(
    path: str | os.PathLike[str],
    test: str | os.PathLike[str] | None = None,
    *,
    seed: int = 0,
    test_fraction: float = TEST_FRACTION,
) -> FeatureSource:
    """What `load_features` reads, before train and test rows are put apart; large files stay mapped."""
    tables, class_names = _read_tables(path)
    if test is not None:
        others, _ = _read_tables(test)
        tables = [_only(tables, path)._replace(split="train"), _only(others, test)._replace(split="test")]
    tables = [_checked(table, path if i == 0 or test is None else test) for i, table in enumerate(tables)]
    if len({table.x.shape[1] for table in tables}) > 1:
        widths = " and ".join(str(table.x.shape[1]) for table in tables)
        raise ShapeError(f"{path}: train and test representations have {widths} features; they must be equal")
    labels, class_names = _as_classes([table.y for table in tables], class_names, path)
    ids = None
    if all(table.ids is not None for table in tables):
        ids = [str(name) for table in tables for name in table.ids]  # type: ignore[union-attr]
    note = None
    if tables[0].split is None:
        is_test = _cut(labels, ids, seed, test_fraction)
        note = (
            f"{path} does not tell train from test: {int(is_test.sum())} of {len(labels)} rows "
            f"({test_fraction:.0%} of each class, seed {seed}) were set aside as test rows"
        )
    else:
        is_test = np.concatenate([np.broadcast_to(np.asarray(t.split) == "test", len(t.y)) for t in tables])
    for name, mask in (("train", ~is_test), ("test", is_test)):
        if not mask.any():
            raise DataError(f"{path} has no {name} rows; a decomposition needs both train and test rows")
    return FeatureSource(tuple(t.x for t in tables), labels, is_test, ids, class_names, note)


class _Table(NamedTuple):
    x: np.ndarray
    y: np.ndarray
    ids: np.ndarray | None
    #: "train", "test", one of them for each row, or None: not known
    split: str | np.ndarray | None


def _read_tables(path: str | os.PathLike[str]) -> tuple[list[_Table], list[str] | None]:
    text = os.fspath(path)
    if "," in text and not Path(text).exists():
        names = [name.strip() for name in text.split(",")]
        if len(names) != 2 or not all(name.endswith(".npy") for name in names):
            raise DataError(f"{text}: a pair of files is written X.npy,y.npy (features first)")
        return [_Table(_npy(Path(names[0])), _npy(Path(names[1])), None, None)], None
    file = Path(text).expanduser()
    if file.is_dir():
        return _from_folder(file)
    if not file.exists():
        raise DataError(f"{file}: no such file")
    readers = {".npz": _npz, ".safetensors": _safetensors, ".pt": _torch, ".pth": _torch}
    if file.suffix == ".parquet":
        return _from_parquet(file), None
    if file.suffix == ".npy":
        raise DataError(f"{file} holds no labels; give them behind a comma: {file},y.npy")
    if file.suffix not in readers:
        known = ", ".join(sorted([*readers, ".parquet"]))
        raise DataError(f"{file}: unknown kind of file; use one of {known}, a folder of .npy files, or X.npy,y.npy")
    return _from_keys(readers[file.suffix](file), file)


def _from_folder(folder: Path) -> tuple[list[_Table], list[str] | None]:
    if (folder / "bank.json").exists():
        raise DataError(f"{folder} is a feature bank; open it with FeatureBank.open")
    arrays: dict[str, Any] = {file.stem: _npy(file) for file in sorted(folder.glob("*.npy"))}
    names = folder / "class_names.json"
    if names.exists():
        try:
            arrays["class_names"] = np.array(json.loads(names.read_text(encoding="utf-8")), dtype=str)
        except ValueError as error:
            raise DataError(f"{names} is no JSON list of names: {error}") from None
    return _from_keys(arrays, folder)


def _from_keys(arrays: Mapping[str, Any], path: Path) -> tuple[list[_Table], list[str] | None]:
    """Tables from named arrays. Names are compared without regard to case."""
    spelled = {name.lower(): name for name in arrays}

    def get(name: str) -> Any:
        if name.lower() not in spelled:
            there = ", ".join(sorted(arrays)) or "nothing"
            raise DataError(f"{path} has no array {name!r}; it has {there}. Needed: {KEYS}")
        return arrays[spelled[name.lower()]]

    def optional(name: str) -> np.ndarray | None:
        return np.asarray(get(name)) if name in spelled else None

    names = optional("class_names")
    class_names = None if names is None else [str(name) for name in names.ravel()]
    if "x" in spelled and "x_train" not in spelled:
        return [_Table(get("X"), get("y"), optional("ids"), None)], class_names
    tables = [
        _Table(get(f"X_{split}"), get(f"y_{split}"), optional(f"ids_{split}"), split) for split in ("train", "test")
    ]
    return tables, class_names


def _npy(file: Path) -> np.ndarray:
    try:
        return np.load(file, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # numpy's parsers let many kinds out of a damaged file
        raise _unreadable(file, error) from None


def _npz(file: Path) -> Mapping[str, Any]:
    try:
        with np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # zipfile, zlib and numpy's parsers let many kinds out of a damaged file
        raise _unreadable(file, error) from None


def _safetensors(file: Path) -> Mapping[str, Any]:
    """Tensors mapped from the file, after the library has checked it."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as checked:
            metadata = checked.metadata() or {}
        with file.open("rb") as raw:
            length = int.from_bytes(raw.read(8), "little")
            header = json.loads(raw.read(length))
    except (OSError, ValueError, SafetensorError) as error:
        raise _unreadable(file, error) from None
    arrays: dict[str, Any] = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if entry["dtype"] not in _SAFETENSORS:
            raise DataError(f"{file}: array {name!r} has type {entry['dtype']}; save it as F32 or I64")
        dtype, shape = np.dtype(_SAFETENSORS[entry["dtype"]]), tuple(entry["shape"])
        if 0 in shape:
            arrays[name] = np.zeros(shape, dtype)
            continue
        array = np.memmap(file, dtype, "r", 8 + length + entry["data_offsets"][0], shape)
        arrays[name] = _widen(array) if entry["dtype"] == "BF16" else array
    if "class_names" in metadata:
        arrays["class_names"] = np.array(json.loads(metadata["class_names"]), dtype=str)
    return arrays


def _widen(bits: np.ndarray) -> np.ndarray:
    """bfloat16 bits → float32: they are its upper half."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _torch(file: Path) -> Mapping[str, Any]:
    import pickle

    import torch

    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise _unreadable(file, error) from None
    if not isinstance(content, dict):
        raise DataError(f"{file} holds a {type(content).__name__}; save a dict with {KEYS}")
    arrays: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, torch.Tensor):
            value = value.detach()
            arrays[str(name)] = (value.float() if value.dtype == torch.bfloat16 else value).numpy()
        elif isinstance(value, list):
            arrays[str(name)] = np.array(value)
    return arrays


def _from_parquet(file: Path) -> list[_Table]:
    import polars as pl

    try:
        frame = pl.read_parquet(file)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise _unreadable(file, error) from None
    spelled = {name.lower(): name for name in frame.columns}

    def find(*names: str) -> str | None:
        return next((spelled[name] for name in names if name in spelled), None)

    label, split, ids = find("label", "y", "target"), find("split"), find("sample_id", "id")
    if label is None:
        raise DataError(f"{file} has no column 'label'; it has {', '.join(frame.columns)}")
    lists = [name for name, dtype in frame.schema.items() if isinstance(dtype, (pl.List, pl.Array))]
    vector = find("features", "x") or (lists[0] if len(lists) == 1 else None)
    if vector is not None:
        x = _stack(frame[vector], file)
    else:
        known = {label, split, ids, find("row")}
        columns = [name for name, dtype in frame.schema.items() if dtype.is_numeric() and name not in known]
        if not columns:
            raise DataError(f"{file} has no feature columns; it has {', '.join(frame.columns)}")
        x = frame.select(columns).to_numpy()
    y = frame[label]
    if y.null_count():
        raise DataError(f"{file}: column {label!r} is empty in {y.null_count()} rows; give each row a class")
    splits = None
    if split is not None:
        other = set(frame[split].cast(pl.String).unique().to_list()) - {"train", "test"}
        if other:
            raise DataError(f"{file}: split {sorted(map(str, other))[0]!r} is neither train nor test; drop those rows")
        splits = np.array(frame[split].to_list(), dtype=str)
    labels = y.to_numpy() if y.dtype.is_numeric() else np.array(y.cast(pl.String).to_list(), dtype=str)
    names = None if ids is None else np.array(frame[ids].cast(pl.String).to_list(), dtype=str)
    return [_Table(x, labels, names, splits)]


def _stack(column: Any, file: Path) -> np.ndarray:
    """A column of equally long lists → (n, d)."""
    import polars as pl

    if isinstance(column.dtype, pl.Array):
        return np.asarray(column.to_numpy())
    if not isinstance(column.dtype, pl.List):
        raise DataError(f"{file}: column {column.name!r} is {column.dtype}, expected lists of numbers")
    lengths = column.list.len().unique().to_list()
    if len(lengths) != 1 or not lengths[0]:
        raise ShapeError(f"{file}: column {column.name!r} has lists of lengths {sorted(map(str, lengths))[:5]}")
    return column.explode().to_numpy().reshape(len(column), lengths[0])


def _unreadable(file: Path, error: Exception) -> DataError:
    if isinstance(error, OSError) and error.strerror:
        return DataError(f"{file} cannot be read: {error.strerror}")
    text = str(error).lower()
    if "pickle" in text or "weights_only" in text or "python objects" in text:
        return DataError(
            f"{file} is damaged, or holds Python objects, which are never unpickled; save plain arrays of numbers"
        )
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return DataError(f"{file} is damaged or no {file.suffix} file: {reason}")


def _only(tables: list[_Table], path: str | os.PathLike[str]) -> _Table:
    if len(tables) != 1 or tables[0].split is not None:
        raise DataError(f"{path} tells train from test itself; with a test file, each holds X and y")
    return tables[0]


def _checked(table: _Table, path: str | os.PathLike[str]) -> _Table:
    x, y, ids = np.asanyarray(table.x), np.asarray(table.y), table.ids
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if x.ndim != 2 or x.shape[1] == 0:
        raise ShapeError(f"{path}: representations have shape {x.shape}, expected (n_samples, n_features)")
    if x.dtype.kind not in "fiub":
        raise DataError(f"{path}: representations are {x.dtype}, expected numbers")
    if y.ndim != 1:
        raise ShapeError(f"{path}: labels have shape {y.shape}, expected (n_samples,); argmax undoes one-hot")
    if len(y) != len(x) or (ids is not None and len(ids) != len(x)):
        raise ShapeError(f"{path}: {len(x)} representations, {len(y)} labels; each row needs one")
    return table._replace(x=x, y=y)


def _as_classes(
    labels: list[np.ndarray], names: list[str] | None, path: str | os.PathLike[str]
) -> tuple[np.ndarray, list[str] | None]:
    """Labels as codes 0 … k-1. What is not that already gets its old label as class name."""
    y = np.concatenate(labels)
    if y.dtype.kind == "f":
        if not np.array_equal(y, np.round(y)):  # NaN too
            raise DataError(f"{path}: labels are not whole numbers; a probe needs classes")
        y = y.astype(np.int64)
    if y.dtype.kind not in "iubUS":
        raise DataError(f"{path}: labels are {y.dtype}, expected integers or strings")
    if y.dtype.kind == "S":
        y = np.char.decode(y, "utf-8")
    if y.dtype.kind == "U" and names is not None:
        codes = {name: code for code, name in enumerate(names)}
        unknown = sorted(set(y.tolist()) - codes.keys())
        if unknown:
            raise DataError(f"{path}: label {unknown[0]!r} is not among the {len(names)} class_names")
        return np.array([codes[name] for name in y.tolist()], dtype=np.int64), names
    values, codes_of = np.unique(y, return_inverse=True)
    if names is not None:
        if values.size and (int(values[0]) < 0 or int(values[-1]) >= len(names)):
            raise DataError(f"{path}: labels go from {values[0]} to {values[-1]}, there are {len(names)} class_names")
        return y.astype(np.int64), names
    if y.dtype.kind != "U" and np.array_equal(values, np.arange(values.size)):
        return y.astype(np.int64), None
    return codes_of.astype(np.int64), [str(value) for value in values]


def _cut(labels: np.ndarray, ids: list[str] | None, seed: int, fraction: float) -> np.ndarray:
    """Which rows are test rows: `fraction` of each class, at least one of a class that has two.

    A row's place in the draw is a hash of seed and sample id, so it does not depend on the order of rows
    (without ids, the row number is the id).
    """
    if not 0 < fraction < 1:
        raise ParameterError(f"test_fraction is {fraction}; it must lie between 0 and 1")
    names = ids if ids is not None else [str(row) for row in range(len(labels))]
    draw = np.array(
        [int.from_bytes(hashlib.blake2b(f"{seed}\0{n}".encode(), digest_size=8).digest(), "big") for n in names],
        dtype=np.uint64,
    )
    order = np.lexsort((draw, labels))
    _, start, counts = np.unique(labels[order], return_index=True, return_counts=True)
    wanted = np.where(counts > 1, np.clip(np.rint(fraction * counts), 1, counts - 1), 0).astype(np.int64)
    within = np.arange(len(labels)) - np.repeat(start, counts)
    is_test = np.zeros(len(labels), dtype=bool)
    is_test[order] = within < np.repeat(wanted, counts)
    return is_test


def as_floats(block: np.ndarray) -> np.ndarray:
    """float16 stays, everything else becomes float32; native byte order, row-major."""
    dtype = np.float16 if block.dtype.kind == "f" and block.dtype.itemsize == 2 else np.float32
    with np.errstate(over="ignore"):  # infinity is refused where it matters, with the row's number
        return np.ascontiguousarray(block, dtype=dtype)


def _select(blocks: tuple[np.ndarray, ...], mask: np.ndarray) -> np.ndarray:
    """Rows of `mask` as float16 or float32; a block that is wanted whole is not copied."""
    parts, start = [], 0
    for block in blocks:
        wanted = mask[start : start + len(block)]
        start += len(block)
        if wanted.all():
            parts.append(as_floats(block))
        elif wanted.any():
            parts.append(as_floats(block[wanted]))
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
