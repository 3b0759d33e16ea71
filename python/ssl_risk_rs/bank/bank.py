"""Feature bank: the representations of one encoder on one data set, on disk.

A bank is a folder of plain files; docs/bank-format.md specifies them. Writers commit block by block, so an
interrupted extraction loses at most the block at hand, and `numpy.load(part, mmap_mode="r")` reads a part
without this package.
"""

import contextlib
import hashlib
import json
import os
import platform
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from ssl_risk_rs import _core
from ssl_risk_rs._files import publish_exclusive, sha256_of
from ssl_risk_rs._float32 import FLOAT16_MAX
from ssl_risk_rs._limits import check_threads
from ssl_risk_rs.bank.header import BankDocument, BankHeader, header_of
from ssl_risk_rs.bank.samples import (
    SAMPLES,
    SPLITS,
    Split,
    checked_samples,
    extra_columns,
    groups_of,
    read_samples,
    require_same,
)
from ssl_risk_rs.errors import BankError, ParameterError

if TYPE_CHECKING:
    import polars as pl

__all__ = ["FeatureBank", "PartArrays", "fits_float16", "in_float16_range", "is_bank", "only_one"]

#: data of a part's `.npy` files begin here (docs/bank-format.md)
HEADER_BYTES = 128
#: damaged blocks that a message lists
LISTED = 20


class PartArrays(NamedTuple):
    """Committed rows of a part, mapped read-only; each map keeps a file open."""

    name: str
    #: uint64 (m,): row of the bank for each line of `features`
    rows: npt.NDArray[np.uint64]
    #: float16 or float32 (m, n_features)
    features: npt.NDArray[Any]


class FeatureBank:
    """A feature bank: rows, samples, header. Made by `create` or `open`.

    >>> bank = FeatureBank.create(path, header, samples, n_features=768, dtype="float16")
    >>> with bank.writer() as writer:
    ...     writer.append(rows, features)  # on disk when it returns
    >>> bank.read(bank.rows("train")[:5])  # float32 (5, 768), once no row is missing
    """

    def __init__(self, path: Path, document: BankDocument, core: _core.Bank) -> None:
        self.path = path
        self._document = document
        self._core = core

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        header: Mapping[str, Any] | BankHeader,
        samples: "pl.DataFrame",
        *,
        n_features: int,
        dtype: str,
    ) -> "FeatureBank":
        """Make a bank, or open the one that is there to write its missing rows.

        Parameters
        ----------
        path : folder of the bank; made if it is not there
        header : what changes the numbers or describes them: a `BankHeader`, or its fields (and any others) as JSON
        samples : frame with columns row (0 … n-1), split ("train" or "test"), sample_id, label (whole numbers from
            0), and path if there are files; other columns are kept
        n_features : length of a representation
        dtype : "float16" or "float32", in which features are stored; `fits_float16` helps to choose

        Raises
        ------
        BankError if another bank is there, naming what differs; ParameterError for samples or a header that
        a bank cannot have.
        """
        path = Path(path).expanduser()
        checked = header_of(header)
        names = checked.class_names
        samples = checked_samples(samples, None if names is None else len(names))
        if dtype not in ("float16", "float32"):
            raise ParameterError(f"dtype is {dtype!r}; a bank stores float16 or float32")
        if not 0 < n_features <= 1 << 28:
            raise ParameterError(f"n_features is {n_features}; a bank stores 1 to {1 << 28}")
        asked = BankDocument(n_rows=samples.height, n_features=int(n_features), dtype=str(dtype), header=checked)
        path.mkdir(parents=True, exist_ok=True)
        if (path / "bank.json").exists():
            _same_document(path, asked)
        samples_path = path / SAMPLES
        written = publish_exclusive(samples_path, lambda file: samples.write_parquet(file, compression="zstd"))
        document = BankDocument(
            n_rows=asked.n_rows,
            n_features=asked.n_features,
            dtype=asked.dtype,
            header=checked,
            samples_sha256=sha256_of(samples_path),
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )
        text = json.dumps(document.to_json(), indent=1, ensure_ascii=False, allow_nan=False)

        def publish() -> None:
            if not publish_exclusive(path / "bank.json", lambda file: file.write_text(text, encoding="utf-8")):
                _same_document(path, asked)

        if written:
            publish()
        elif (path / "bank.json").exists():
            require_same(path, read_samples(samples_path, _document(path)), samples)
        else:  # who wrote the samples died, or is at work
            require_same(path, read_samples(samples_path, document), samples)
            publish()
        bank = cls.open(path)
        return cls.open(path) if bank._repair_headers() else bank

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "FeatureBank":
        """Open the bank in the folder `path`; complete or not.

        Reads `bank.json`, journals and row indexes; `samples.parquet` is read, and its hash compared, when samples
        are asked for.

        Raises
        ------
        BankError if there is no bank, or a file is damaged or cannot be read; `verify_path` then says what is.
        """
        path = Path(path).expanduser()
        core = _core_bank(path)  # checks the manifest as far as it concerns the rows
        return cls(path, _document(path), core)

    @property
    def key(self) -> str:
        """Name of the folder: in a `FeatureStore`, the bank's key."""
        return self.path.resolve().name

    @property
    def header(self) -> BankHeader:
        """What the bank's maker recorded: encoder, weights, transform, data, versions …"""
        return self._document.header

    @property
    def shown_encoder(self) -> str:
        """What tables call the encoder; the bank's folder where it names none."""
        return self.header.encoder or self.path.name

    @property
    def shown_data(self) -> str:
        """What tables call the data; the bank's folder where it names none."""
        return self.header.data_name or self.header.data or self.path.name

    @property
    def n_rows(self) -> int:
        """Rows of the complete bank."""
        return self._core.n_rows

    @property
    def n_features(self) -> int:
        """Length of a representation."""
        return self._core.n_features

    @property
    def dtype(self) -> Literal["float16", "float32"]:
        """Type of the stored features; `read` gives float32."""
        return self._core.dtype

    @property
    def class_names(self) -> list[str] | None:
        """Name of each class, if known."""
        names = self.header.class_names
        return None if names is None else list(names)

    @property
    def created(self) -> str | None:
        """When the bank was made, ISO 8601, UTC."""
        return self._document.created

    @property
    def core(self) -> _core.Bank:
        """The mapped rows, for the solvers. Opened again as long as rows are missing, so it is up to date."""
        if not self._core.complete:
            self._core = _core_bank(self.path)
        return self._core

    @property
    def complete(self) -> bool:
        """Whether every row is there."""
        return self.core.complete

    @property
    def n_missing(self) -> int:
        """Number of rows that are not there yet."""
        return self.core.n_missing

    def missing_rows(self) -> npt.NDArray[np.uint64]:
        """Rows that are not there yet: uint64, ascending.

        Raises
        ------
        BankError if `samples.parquet` does not have the rows that `bank.json` promises: a list of any length would
        have to be made.
        """
        core = self.core
        if not core.complete:
            _ = self.samples  # has n_rows lines, or is an error
        return core.missing_rows()

    @property
    def content_hash(self) -> str:
        """SHA-256, hexadecimal, of the hashes of samples and blocks of rows, in whatever parts these lie.

        Banks with other features or labels have another, and so have those with the same rows in other blocks.
        """
        lines = {line for journal in self.path.glob("*.journal") for line in journal.read_text("ascii").splitlines()}
        # rows and their two hashes, not where they lie in their part, nor the line's own check: docs/bank-format.md
        blocks = sorted({" ".join([fields[0], *fields[2:4]]) for line in lines if (fields := line.split())})
        return hashlib.sha256("\n".join([str(self._document.samples_sha256), *blocks]).encode()).hexdigest()

    def writer(self, part: str | None = None) -> _core.BankWriter:
        """A writer, to be closed or used in a `with` statement, in this process.

        Without `part`, the first part of this machine that has no writer: any number of processes may ask.

        Raises
        ------
        BankError if `part` has a writer already.
        """
        if part is not None:
            return _core.BankWriter.open(self.path, part)
        host = re.sub(r"[^A-Za-z0-9_-]+", "-", platform.node())[:60].strip("-") or "host"
        return _core.BankWriter.open_free(self.path, host)

    @cached_property
    def samples(self) -> "pl.DataFrame":
        """One line for each row: row, split, sample_id, label, path, and whatever the maker added.

        Read when it is first asked for, after its hash has been compared.

        Raises
        ------
        BankError if the file is damaged or does not belong to the bank.
        """
        return read_samples(self.path / SAMPLES, self._document)

    def labels(self) -> npt.NDArray[np.int64]:
        """Class of each row: int64 (n_rows,)."""
        labels: npt.NDArray[np.int64] = self.samples["label"].to_numpy()
        return labels

    def rows(self, split: Split) -> npt.NDArray[np.uint32]:
        """Rows of a split: uint32, ascending."""
        if split not in SPLITS:
            raise ParameterError(f"split is {split!r}; a bank has {' and '.join(SPLITS)}")
        return np.flatnonzero((self.samples["split"] == split).to_numpy()).astype(np.uint32)

    def sample_ids(self) -> list[str]:
        """Name of each row's sample: unique within its split, the same wherever the data lie."""
        ids: list[str] = self.samples["sample_id"].to_list()
        return ids

    @property
    def extra_columns(self) -> list[str]:
        """Columns of the samples that the maker added; each may serve as groups."""
        return extra_columns(self.samples)

    def groups(self, column: str) -> list[str]:
        """Value of a column of the samples for each row, as text: the row's patient, slide, scene …

        Raises
        ------
        ParameterError naming the columns there are, or counting the rows without a value.
        """
        return groups_of(self.samples, column)

    def read(
        self, rows: npt.ArrayLike, *, dtype: Literal["float16", "float32"] = "float32", n_threads: int | None = None
    ) -> npt.NDArray[Any]:
        """Copy rows, in the order asked for: (m, n_features).

        Parameters
        ----------
        rows : vector of integers
        dtype : "float16" gives the stored bytes of a float16 bank
        n_threads : default all cores

        Raises
        ------
        BankError if rows are missing, or a file has shrunk; ParameterError if one asked for is beyond the bank, or
        float16 is asked of a float32 bank, whose values it may not hold.
        """
        rows = np.asarray(rows)
        if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
            raise ParameterError(f"rows must be a vector of integers, got {rows.dtype} of shape {rows.shape}")
        if rows.size and rows.min() < 0:
            raise ParameterError(f"row {rows.min()} asked for; rows count from 0")
        check_threads(n_threads)
        return self.core.read(rows.astype(np.uint64), dtype=dtype, n_threads=n_threads)

    def arrays(self) -> list[PartArrays]:
        """The parts as read-only memory maps, in storage order; parts without rows are left out."""
        arrays = []
        for part in self.core.parts():
            if part.rows == 0:
                continue
            stem = self.path / part.name
            index = np.memmap(f"{stem}.rows.npy", np.dtype("<u8"), "r", HEADER_BYTES, (part.rows,))
            dtype, shape = np.dtype(self.dtype).newbyteorder("<"), (part.rows, self.n_features)
            arrays.append(PartArrays(part.name, index, np.memmap(f"{stem}.npy", dtype, "r", HEADER_BYTES, shape)))
        return arrays

    def nbytes(self) -> int:
        """Bytes of the bank's files."""
        return sum(file.stat().st_size for file in self.path.iterdir() if file.is_file())

    def verify(self, progress: Callable[[int], Any] | None = None) -> _core.BankVerification:
        """`verify_path` of this bank's folder."""
        return self.verify_path(self.path, progress)

    @staticmethod
    def verify_path(
        path: str | os.PathLike[str], progress: Callable[[int], Any] | None = None
    ) -> _core.BankVerification:
        """Read everything again and compare it with the hashes taken when it was written.

        Works for banks that `open` refuses, as long as their `bank.json` can be read.

        Parameters
        ----------
        path : folder of the bank
        progress : called now and then with the rows visited, out of 2 × the committed ones

        Raises
        ------
        BankError naming part, block and rows of all that is damaged.
        """
        path = Path(path).expanduser()
        try:
            found = _core.Bank.verify_path(path, progress)
        except OSError as error:
            raise _unreadable(path, error) from error
        lines = _samples_damage(path) + [_describe(path, damage) for damage in found.damage]
        if lines:
            shown = "".join(f"\n  {line}" for line in lines[:LISTED])
            if len(lines) > LISTED:
                shown += f"\n  and {len(lines) - LISTED} more"
            raise BankError(
                f"{path} is damaged in {len(lines)} place(s); {found.blocks} blocks of {found.parts} part(s) were "
                f"read:{shown}\n"
                "copy the files again, or move the part's three files out of the bank and extract anew"
            )
        return found

    def _repair_headers(self) -> bool:
        """Bring `.npy` headers up to their journals where a writer died between the two; whether any was."""
        behind = [part.name for part in self._core.parts() if part.header_behind]
        for name in behind:
            with contextlib.suppress(BankError):  # it has a writer, which will do so
                _core.BankWriter.open(self.path, name).close()
        return bool(behind)

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        """Pickled as its path: another process opens the bank again."""
        return type(self).open, (self.path.absolute(),)

    def __repr__(self) -> str:
        return (
            f"FeatureBank({str(self.path)!r}, {self.n_rows} rows, {self.n_features} features, {self.dtype}"
            f"{'' if self._core.complete else ', incomplete'})"
        )


def is_bank(path: str | os.PathLike[str]) -> bool:
    """Whether the folder holds a feature bank."""
    return (Path(path) / "bank.json").is_file()


def only_one(features: Any, name: str) -> Any:
    """The features themselves, or the one bank of a dictionary, as `extract` gives one.

    Raises
    ------
    ParameterError for a dictionary of several banks, and for a path, with what to do.
    """
    if isinstance(features, Mapping):
        if len(features) != 1:
            listed = ", ".join(map(str, features)) or "nothing"
            raise ParameterError(f"{name} holds {len(features)} features ({listed}): hand over one, as banks[NAME]")
        return next(iter(features.values()))
    if isinstance(features, (str, os.PathLike)):
        raise ParameterError(
            f"{name} is a path: open a bank with FeatureBank.open({str(features)!r}), or read a file with load_features"
        )
    return features


def in_float16_range(features: npt.ArrayLike) -> bool:
    """Whether every value is finite and at most 65504 in size: what a float16 bank accepts."""
    features = np.asarray(features)
    if features.dtype == np.float16:
        return bool(np.isfinite(features).all())
    return bool(np.all(np.abs(features) <= FLOAT16_MAX))  # NaN fails too


def fits_float16(features: npt.ArrayLike) -> bool:
    """Whether float16 keeps what a probe uses of these features.

    True if they are `in_float16_range` and rounding adds less than 1/64 of its standard deviation to each
    feature (its variance changes by less than 1/4000). A feature far from zero for its spread fails: at mean
    100 and deviation 0.1, float16 has steps of 0.06. Features that are constant to float32 accuracy, beside
    their own size or the spread of the widest feature, have nothing to lose.

    Parameters
    ----------
    features : array of shape (n, d); rows drawn from all of the data, since the spread over a few rows of one
        class says little
    """
    features = np.asarray(features)
    if features.dtype == np.float16 or len(features) < 2 or not in_float16_range(features):
        return in_float16_range(features)
    x = features.astype(np.float64)
    spread = x.std(axis=0)
    error = (x - x.astype(np.float16)).std(axis=0)
    noise = np.finfo(np.float32).eps * np.maximum(np.abs(x).max(axis=0), spread.max())
    return bool(np.all((error <= spread / 64) | (spread <= noise)))


def _document(path: Path) -> BankDocument:
    return BankDocument.read(path / "bank.json")


def _core_bank(path: Path) -> _core.Bank:
    """The bank's rows; BankError, as for a damaged file, where one cannot be read."""
    try:
        return _core.Bank.open(path)
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> BankError:
    reason = re.sub(r" \(os error \d+\)$", "", error.strerror or str(error))
    return BankError(f"{error.filename or path} cannot be read: {reason}; copy the file again, or allow it to be read")


def _same_document(path: Path, asked: BankDocument) -> None:
    """Raise unless the bank that is there is the one that is meant."""
    _core_bank(path)  # a damaged manifest gets its own message
    differences = "".join(f"\n  {line}" for line in _document(path).differences(asked))
    if differences:
        raise BankError(f"{path} holds another bank{differences}\nuse another folder, or remove this one")


def _samples_damage(path: Path) -> list[str]:
    """What is wrong with the samples: no line, or one."""
    try:
        document, samples = _document(path), path / SAMPLES
        if document.samples_sha256 is not None or os.path.lexists(samples):  # else the bank was made without samples
            read_samples(samples, document)
    except BankError as error:
        return [str(error)]
    return []


def _describe(path: Path, damage: _core.BankDamage) -> str:
    name = damage.path.name
    if damage.block is None:
        return f"{name}: {damage.reason}"
    text = f"{name}: block {damage.block}, lines {damage.start} to {damage.stop - 1}"
    if not name.endswith(".rows.npy"):
        shape = (damage.stop - damage.start,)
        with contextlib.suppress(OSError, ValueError):  # the index may be damaged too, and has its own line then
            index = path / f"{damage.part}.rows.npy"
            rows = np.memmap(index, np.dtype("<u8"), "r", HEADER_BYTES + 8 * damage.start, shape)
            text += f" (rows {rows.min()} to {rows.max()} of the bank)"
    return f"{text}: {damage.reason}"
