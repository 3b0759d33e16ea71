"""Import of other programs' features into a bank, export of a bank for other programs."""

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ssl_risk_rs._files import beside, replace_folder
from ssl_risk_rs.bank import SPLITS, FeatureBank, Split, fits_float16, in_float16_range, is_bank
from ssl_risk_rs.bank.formats import TEST_FRACTION, FeatureSource, as_floats, read_source
from ssl_risk_rs.errors import BankError, ParameterError

__all__ = ["export_bank", "import_bank"]

Progress = Callable[[int, int], Any]

#: bytes of a block: large against a wait for the disk, small against memory
BLOCK_BYTES = 16 << 20
#: rows on which the rounding of float16 is judged
PROBE_ROWS = 8192
_EXPORTED = {"X_train.npy", "y_train.npy", "X_test.npy", "y_test.npy", "class_names.json", "samples.parquet"}


def import_bank(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    test: str | os.PathLike[str] | None = None,
    dtype: Literal["auto", "float16", "float32"] = "auto",
    header: dict[str, Any] | None = None,
    seed: int = 0,
    test_fraction: float = TEST_FRACTION,
    force: bool = False,
    progress: Progress | None = None,
) -> FeatureBank:
    """Make a bank of features that another program computed.

    Files of .npy and .safetensors are mapped and copied block by block. An interrupted import goes on where
    it stopped.

    Parameters
    ----------
    source, test, seed, test_fraction : as in `load_features`
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
    found = read_source(source, test, seed=seed, test_fraction=test_fraction)
    if dtype == "auto":
        dtype = "float16" if _all_fit(found) else "float32"
    if dtype not in ("float16", "float32"):
        raise ParameterError(f"dtype is {dtype!r}; use auto, float16 or float32")
    facts = {
        "encoder": Path(os.fspath(source).split(",")[0]).stem,
        "source": os.fspath(source),
        **({} if test is None else {"source_test": os.fspath(test)}),
        **({} if found.note is None else {"note": found.note}),
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
    target : `NAME.safetensors`: one file with X_train, y_train, X_test, y_test and the class names in its
        metadata. A name without suffix: a folder with X_train.npy, y_train.npy, X_test.npy, y_test.npy,
        class_names.json and samples.parquet. Features keep the bank's dtype, labels are int64.
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
    if all(block.dtype == np.float16 for block in source.blocks):
        return True
    n = len(source.labels)
    probe = []
    for block in source.blocks:
        for start, stop in _ranges(len(block), block.shape[1] * 4):
            if not in_float16_range(as_floats(block[start:stop])):  # NaN is told by its row when it is written
                return False
        probe.append(as_floats(block[:: max(1, n // PROBE_ROWS)]))
    return fits_float16(np.concatenate(probe))


def _samples(source: FeatureSource) -> Any:
    import polars as pl

    n = len(source.labels)
    ids = source.ids if source.ids is not None else [str(row) for row in range(n)]
    return pl.DataFrame(
        {
            "row": np.arange(n, dtype=np.uint64),
            "split": np.where(source.is_test, "test", "train").tolist(),
            "sample_id": ids,
            "label": source.labels,
        }
    )


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
                low, high = int(chunk[0]) - first, int(chunk[-1]) - first + 1
                values = block[low:high] if high - low == len(chunk) else block[chunk - first]
                writer.append(chunk.astype(np.uint64), as_floats(values))
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
    if not is_bank(target):
        raise BankError(f"{target} exists and is no bank; choose another folder")
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
    shutil.copyfile(bank.path / "samples.parquet", folder / "samples.parquet")


def _write_safetensors(bank: FeatureBank, path: Path, progress: Progress | None) -> None:
    """The library's writer needs all tensors in memory; the format is a header and the bytes."""
    labels, done, offset = bank.labels(), 0, 0
    item = {"float16": ("F16", 2), "float32": ("F32", 4)}[bank.dtype]
    tensors: dict[str, tuple[str, list[int], int]] = {}
    for split in SPLITS:
        n = len(bank.rows(split))
        # labels first: their 8-byte alignment holds for what follows
        tensors[f"y_{split}"] = ("I64", [n], 8 * n)
    for split in SPLITS:
        n = tensors[f"y_{split}"][1][0]
        tensors[f"X_{split}"] = (item[0], [n, bank.n_features], item[1] * n * bank.n_features)
    header: dict[str, Any] = {"__metadata__": {"format": "np"}}
    if bank.class_names is not None:
        header["__metadata__"]["class_names"] = json.dumps(bank.class_names, ensure_ascii=False)
    for name, (dtype, shape, size) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for split in SPLITS:
            file.write(labels[bank.rows(split)].astype("<i8").tobytes())
        for split in SPLITS:
            done = _copy(bank, split, file, done, progress)


def _copy(bank: FeatureBank, split: Split, file: Any, done: int, progress: Progress | None) -> int:
    for block in _blocks(bank, split):
        file.write(block.tobytes())
        done += len(block)
        if progress is not None:
            progress(done, bank.n_rows)
    return done
