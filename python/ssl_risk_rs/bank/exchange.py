"""Import of other programs' features into a bank, export of a bank for other programs."""

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal

import numpy as np

from ssl_risk_rs._files import beside, replace_folder, sha256_of
from ssl_risk_rs.bank import SPLITS, FeatureBank, Split, fits_float16, in_float16_range, is_bank
from ssl_risk_rs.bank.formats import TEST_FRACTION, FeatureSource, read_source
from ssl_risk_rs.bank.formats.embed import is_embedding, parse_embedding
from ssl_risk_rs.bank.formats.safetensors import encode_texts
from ssl_risk_rs.bank.samples import SAMPLES, extra_columns
from ssl_risk_rs.errors import BankError, ParameterError

if TYPE_CHECKING:
    import polars as pl

__all__ = ["export_bank", "import_bank"]

Progress = Callable[[int, int], object]

#: bytes of a block: large against a wait for the disk, small against memory
BLOCK_BYTES = 16 << 20
#: rows on which the rounding of float16 is judged
PROBE_ROWS = 8192
_TENSOR_TYPES = {"<i8": "I64", "<u8": "U64", "<f8": "F64", "|b1": "BOOL", "|u1": "U8"}
_EXPORTED = {"X_train.npy", "y_train.npy", "X_test.npy", "y_test.npy", "class_names.json", "samples.parquet"}


def import_bank(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    test: str | os.PathLike[str] | None = None,
    dtype: Literal["auto", "float16", "float32"] = "auto",
    header: Mapping[str, object] | None = None,
    seed: int = 0,
    test_fraction: float = TEST_FRACTION,
    features_columns: str | Sequence[str] | None = None,
    group: str | None = None,
    drop_unlabelled: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> FeatureBank:
    """Make a bank of features that another program computed.

    Files of .npy and .safetensors are mapped and copied block by block. An interrupted import goes on where
    it stopped, as long as the files are what they were. Identifiers, groups and further columns of the source
    become columns of `samples`, notes (what was cut, left out) stand in the header.

    Parameters
    ----------
    source, test, seed, test_fraction, features_columns, group, drop_unlabelled : as in `load_features`
    target : folder of the bank
    dtype : "auto" is float16 where `fits_float16` holds and all values are within its range
    header : facts to record, for instance encoder and data; default encoder: the name of the source
    force : replace a bank that is there
    progress : called with rows done and rows in all

    Raises
    ------
    DataError, ShapeError for what the source holds; ParameterError for values that are not finite, naming the
    row; BankError if another bank is there.
    """
    target = Path(target)
    if force and target.exists() and not is_bank(target):
        raise BankError(f"{target} exists and is no bank; choose another folder")
    embedding = parse_embedding(str(source)) if is_embedding(str(source)) else None
    if embedding is not None:
        group = group or embedding.group
    found = read_source(
        source,
        test,
        seed=seed,
        test_fraction=test_fraction,
        features_columns=features_columns,
        group=group,
        drop_unlabelled=drop_unlabelled,
    )
    if dtype == "auto":
        dtype = "float16" if _all_fit(found) else "float32"
    if dtype not in ("float16", "float32"):
        raise ParameterError(f"dtype is {dtype!r}; use auto, float16 or float32")
    facts: dict[str, object] = {
        "encoder": Path(os.fspath(source).split(",")[0]).stem if embedding is None else embedding.path.stem,
        "source": os.fspath(source),
        **({} if test is None else {"source_test": os.fspath(test)}),
        "source_files": [_fingerprint(file) for file in found.files],
        **({"notes": [asdict(note) for note in found.notes]} if found.notes else {}),
        **({} if found.class_names is None else {"class_names": found.class_names}),
        **(header or {}),
    }
    with _replacing(target, force) as folder:
        bank = FeatureBank.create(folder, facts, _samples(found), n_features=found.n_features, dtype=dtype)
        _fill(bank, found, progress)
    return FeatureBank.open(target)


def export_bank(
    bank: FeatureBank,
    target: str | os.PathLike[str],
    *,
    force: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Write a bank's rows for other programs, block by block.

    Parameters
    ----------
    target : `NAME.safetensors`: one file with X_train, y_train, X_test, y_test, identifiers and further columns as
        vectors (text as NAME_bytes and NAME_offsets, docs/bank-format.md) and the class names in its metadata. A
        name without suffix: a folder with X_train.npy, y_train.npy, X_test.npy, y_test.npy, class_names.json and
        samples.parquet. Features keep the bank's dtype, labels are int64. Both are read by `load_features` and
        give the same splits as the bank.
    force : replace an export that is there
    progress : called with rows done and rows in all

    Raises
    ------
    BankError if rows are missing or the target is there.
    """
    target = Path(target).expanduser()
    if target.suffix not in ("", ".safetensors"):
        raise ParameterError(f"{target}: name a folder (without suffix) or a file NAME.safetensors")
    if target.exists() and not force:
        raise BankError(f"{target} exists; choose another name, or --force (force=True) to replace it")
    if target.is_dir() and (strangers := {file.name for file in target.iterdir()} - _EXPORTED):
        raise BankError(f"{target} holds more than an export ({sorted(strangers)[0]}); choose another name")
    if not bank.complete:
        raise BankError(
            f"{bank.path}: {len(bank.missing_rows())} of {bank.n_rows} rows are missing; "
            "run the extraction again, it encodes only those"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    with beside(target) as temporary:
        if target.suffix:
            _write_safetensors(bank, temporary, progress)
            temporary.replace(target)
        else:
            _write_folder(bank, temporary, progress)
            replace_folder(temporary, target)
    return target


def _all_fit(source: FeatureSource) -> bool:
    """Whether float16 holds every value, and keeps what matters on evenly spaced rows."""
    if all(block.values.dtype == np.float16 for block in source.blocks):
        return True
    probe = []
    for block in source.blocks:
        for start, stop in _ranges(len(block), block.n_features * 4):
            if not in_float16_range(block.floats(np.arange(start, stop))):
                return False
        if len(block):
            probe.append(block.floats(np.arange(0, len(block), max(1, source.n_rows // PROBE_ROWS))))
    return fits_float16(np.concatenate(probe))


def _samples(source: FeatureSource) -> "pl.DataFrame":
    import polars as pl

    columns = [
        pl.Series(name, column.tolist() if column.dtype == object else column, strict=False)
        for name, column in source.columns.items()
    ]
    return pl.DataFrame(
        {
            "row": np.arange(source.n_rows, dtype=np.uint64),
            "split": np.where(source.is_test, "test", "train").tolist(),
            "sample_id": source.ids,
            "label": source.labels,
        }
    ).with_columns(columns)


def _fingerprint(file: Path) -> dict[str, str | int]:
    """What a bank records of the file it was made from. Not its time: a copy is the same file."""
    return {"name": file.name, "size": file.stat().st_size, "sha256": sha256_of(file)}


def _fill(bank: FeatureBank, source: FeatureSource, progress: Progress | None) -> None:
    """Append the missing rows, reading the source in order."""
    missing = bank.missing_rows().astype(np.int64)
    done = bank.n_rows - len(missing)
    with bank.writer() as writer:
        first = 0
        for block in source.blocks:
            rows = missing[np.searchsorted(missing, first) : np.searchsorted(missing, first + len(block))]
            for start, stop in _ranges(len(rows), source.n_features * 4):
                chunk = rows[start:stop]
                values = block.floats(chunk - first)
                if bank.dtype == "float16" and not in_float16_range(values):
                    raise block.beyond_float16()
                writer.append(chunk.astype(np.uint64), values)
                done += len(chunk)
                if progress is not None:
                    progress(done, bank.n_rows)
            first += len(block)


@contextlib.contextmanager
def _replacing(target: Path, force: bool) -> Iterator[Path]:
    """The folder to write to: the target itself, or, to replace a bank, one beside it."""
    if not target.exists() or not force:
        there = target.exists()
        try:
            yield target
        except ParameterError:  # a value is at fault: unlike after an interruption, nothing can go on from here
            if not there and target.is_dir():
                shutil.rmtree(target)
            raise
        return
    with beside(target) as temporary:
        yield temporary
        replace_folder(temporary, target)


def _ranges(n: int, row_bytes: int) -> Iterator[tuple[int, int]]:
    step = max(1, BLOCK_BYTES // row_bytes)
    for start in range(0, n, step):
        yield start, min(start + step, n)


def _blocks(bank: FeatureBank, split: Split) -> Iterator[np.ndarray]:
    """The rows of a split in the bank's dtype."""
    rows = bank.rows(split)
    for start, stop in _ranges(len(rows), bank.n_features * 4):
        # float32 → float16 is exact here: these values were float16
        yield bank.read(rows[start:stop]).astype(bank.dtype, copy=False)


def _write_folder(bank: FeatureBank, folder: Path, progress: Progress | None) -> None:
    folder.mkdir()
    labels, done = bank.labels(), 0
    for split in SPLITS:
        rows = bank.rows(split)
        np.save(folder / f"y_{split}.npy", labels[rows])
        path, shape = folder / f"X_{split}.npy", (len(rows), bank.n_features)
        with path.open("wb") as file:
            header = {
                "descr": np.dtype(bank.dtype).newbyteorder("<").str,
                "fortran_order": False,
                "shape": shape,
            }
            np.lib.format.write_array_header_1_0(file, header)
            done = _copy(bank, split, file, done, progress)
    if bank.class_names is not None:
        (folder / "class_names.json").write_text(json.dumps(bank.class_names, ensure_ascii=False), encoding="utf-8")
    shutil.copyfile(bank.path / SAMPLES, folder / SAMPLES)


def _write_safetensors(bank: FeatureBank, path: Path, progress: Progress | None) -> None:
    """The library's writer needs all tensors in memory; the format is a header and the bytes.

    Tensors lie in the order of their alignment: 8 bytes (labels, numbers, offsets of texts), features, single bytes.
    """
    done, offset = 0, 0
    _refuse_names(bank, path)
    vectors = {f"{name}_{split}": vector for split in SPLITS for name, vector in _vectors(bank, split).items()}
    wide = {name: vector for name, vector in vectors.items() if vector.itemsize == 8}
    narrow = {name: vector for name, vector in vectors.items() if vector.itemsize != 8}
    item = {"float16": ("F16", 2), "float32": ("F32", 4)}[bank.dtype]
    header: dict[str, dict[str, object]] = {"__metadata__": {"format": "np"}}
    if bank.class_names is not None:
        header["__metadata__"]["class_names"] = json.dumps(bank.class_names, ensure_ascii=False)

    def enter(name: str, dtype: str, shape: list[int], size: int) -> None:
        nonlocal offset
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size

    for name, vector in wide.items():
        enter(name, _TENSOR_TYPES[vector.dtype.str], [len(vector)], vector.nbytes)
    for split in SPLITS:
        n = len(bank.rows(split))
        enter(f"X_{split}", item[0], [n, bank.n_features], item[1] * n * bank.n_features)
    for name, vector in narrow.items():
        enter(name, _TENSOR_TYPES[vector.dtype.str], [len(vector)], vector.nbytes)
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for vector in wide.values():
            file.write(vector.tobytes())
        for split in SPLITS:
            done = _copy(bank, split, file, done, progress)
        for vector in narrow.values():
            file.write(vector.tobytes())


def _refuse_names(bank: FeatureBank, path: Path) -> None:
    """Refuse further columns whose arrays would be those of features, labels, identifiers, or of another column."""
    taken = {name: "the file itself" for name in ("x", "y", "ids", "sample_ids", "sample_id")}
    for column in extra_columns(bank.samples):
        for name in (column, *(f"{column}_{part}" for part in ("valid", "bytes", "offsets"))):
            other = taken.get(name.lower())
            if other is not None and other != column:
                raise BankError(
                    f"{path} cannot hold the column {column!r} of {bank.path}: arrays of that name belong to {other}. "
                    "Rename the column, or export to a folder (a target without ending)"
                )
            taken[name.lower()] = column


def _vectors(bank: FeatureBank, split: Split) -> dict[str, np.ndarray]:
    """Labels, identifiers and further columns of a split, as vectors of a type that safetensors has."""
    import polars as pl

    samples = bank.samples[bank.rows(split).astype(np.int64)]
    vectors = {"y": samples["label"].to_numpy().astype("<i8")}
    for name in samples.columns:
        column = samples[name]
        if name in ("row", "split", "label") or column.null_count() == len(column) or column.dtype.is_nested():
            continue
        if column.null_count():
            vectors[f"{name}_valid"] = column.is_not_null().to_numpy()
        if column.dtype == pl.Boolean:
            vectors[name] = column.fill_null(False).to_numpy()
        elif column.dtype.is_integer() and column.dtype != pl.UInt64:
            vectors[name] = column.fill_null(0).to_numpy().astype("<i8")
        elif column.dtype == pl.UInt64:
            vectors[name] = column.fill_null(0).to_numpy().astype("<u8")
        elif column.dtype.is_float():
            vectors[name] = column.fill_null(0.0).to_numpy().astype("<f8")
        else:
            data, offsets = encode_texts(column.cast(pl.String).fill_null("").to_list())
            vectors |= {f"{name}_bytes": data, f"{name}_offsets": offsets}
    return vectors


def _copy(bank: FeatureBank, split: Split, file: IO[bytes], done: int, progress: Progress | None) -> int:
    for block in _blocks(bank, split):
        file.write(block.tobytes())
        done += len(block)
        if progress is not None:
            progress(done, bank.n_rows)
    return done
