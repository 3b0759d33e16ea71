"""Feature bank: the representations of one encoder on one data set, on disk.

A bank is a folder of plain files; docs/bank-format.md specifies them. Writers commit block by block, so an
interrupted extraction loses at most the block at hand, and `numpy.load(part, mmap_mode="r")` reads a part
without this package.
"""

import contextlib
import hashlib
import json
import platform
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from ssl_risk_rs import _core
from ssl_risk_rs._files import publish_exclusive
from ssl_risk_rs.errors import BankError, ParameterError

if TYPE_CHECKING:
    import os

    import polars as pl

__all__ = ["FeatureBank", "PartArrays", "fits_float16", "in_float16_range", "is_bank"]

FORMAT = "ssl-risk-bank"
SCHEMA_VERSION = 1
#: data of a part's `.npy` files begin here (docs/bank-format.md)
HEADER_BYTES = 128
FLOAT16_MAX = 65504.0
Split = Literal["train", "test"]
SPLITS: tuple[Split, Split] = ("train", "test")


class PartArrays(NamedTuple):
    """Committed rows of a part, mapped read-only."""

    name: str
    #: uint64 (m,): row of the bank for each line of `features`
    rows: np.memmap
    #: float16 or float32 (m, n_features)
    features: np.memmap


class FeatureBank:
    """A feature bank: rows, samples, header. Made by `create` or `open`.

    >>> bank = FeatureBank.create(path, header, samples, n_features=768, dtype="float16")
    >>> with bank.writer() as writer:
    ...     writer.append(rows, features)  # on disk when it returns
    >>> bank.read(bank.rows("train")[:5])  # float32 (5, 768), once no row is missing
    """

    def __init__(self, path: Path, document: dict[str, Any], core: _core.Bank) -> None:
        self.path = path
        self._document = document
        self._core = core

    @classmethod
    def create(
        cls,
        path: "str | os.PathLike[str]",
        header: Mapping[str, Any],
        samples: "pl.DataFrame",
        *,
        n_features: int,
        dtype: str,
    ) -> "FeatureBank":
        """Make a bank, or open the one that is there to write its missing rows.

        Parameters
        ----------
        path : folder of the bank; made if it is not there
        header : what changes the numbers or describes them, as JSON: encoder, weights, layer, pooling,
            transform, img_size, precision, data, class_names, pretraining, licence, versions, key …
        samples : frame with columns row (0 … n-1), split ("train" or "test"), sample_id, label (from 0), and
            path if there are files; other columns are kept
        n_features : length of a representation
        dtype : "float16" or "float32", in which features are stored; `fits_float16` helps to choose

        Raises
        ------
        BankError if another bank is there, naming what differs; ParameterError for samples or a header that
        a bank cannot have.
        """
        path = Path(path)
        header = _as_json(header)
        samples = _checked_samples(samples, header.get("class_names"))
        manifest: dict[str, Any] = {
            "format": FORMAT,
            "schema_version": SCHEMA_VERSION,
            "n_rows": samples.height,
            "n_features": int(n_features),
            "dtype": str(dtype),
            "header": header,
        }
        if dtype not in ("float16", "float32"):
            raise ParameterError(f"dtype is {dtype!r}; a bank stores float16 or float32")
        if not 0 < n_features <= 1 << 28:
            raise ParameterError(f"n_features is {n_features}; a bank stores 1 to {1 << 28}")
        path.mkdir(parents=True, exist_ok=True)
        if (path / "bank.json").exists():
            _same_manifest(path, manifest)
        samples_path = path / "samples.parquet"
        if not publish_exclusive(samples_path, lambda file: samples.write_parquet(file, compression="zstd")):
            _same_samples(path, samples)
        document = {
            **manifest,
            "samples_sha256": _sha256(samples_path),
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }
        text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
        if not publish_exclusive(path / "bank.json", lambda file: file.write_text(text, encoding="utf-8")):
            _same_manifest(path, manifest)
        bank = cls.open(path)
        return cls.open(path) if bank._repair_headers() else bank

    @classmethod
    def open(cls, path: "str | os.PathLike[str]") -> "FeatureBank":
        """Open the bank in the folder `path`; complete or not.

        Raises
        ------
        BankError if there is no bank, or a file is damaged.
        """
        path = Path(path)
        core = _core.Bank.open(path)  # checks the manifest as far as it concerns the rows
        document = _read_manifest(path)
        if not isinstance(document.get("header", {}), dict):
            raise BankError(f"{path / 'bank.json'}: header is no JSON object")
        return cls(path, document, core)

    @property
    def key(self) -> str:
        """Name of the folder: in a `FeatureStore`, the bank's key."""
        return self.path.resolve().name

    @property
    def header(self) -> dict[str, Any]:
        """What the bank's maker recorded: encoder, weights, transform, data, versions …"""
        return self._document.get("header", {})

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
        return self.header.get("class_names")

    @property
    def created(self) -> str | None:
        """When the bank was made, ISO 8601, UTC."""
        return self._document.get("created")

    @property
    def core(self) -> _core.Bank:
        """The mapped rows, for the solvers. Opened again as long as rows are missing, so it is up to date."""
        if not self._core.complete:
            self._core = _core.Bank.open(self.path)
        return self._core

    @property
    def complete(self) -> bool:
        """Whether every row is there."""
        return self.core.complete

    def missing_rows(self) -> np.ndarray:
        """Rows that are not there yet: uint64, ascending."""
        return self.core.missing_rows()

    def writer(self, part: str | None = None) -> _core.BankWriter:
        """A writer, to be closed or used in a `with` statement.

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

        Raises
        ------
        BankError if the file is damaged or does not belong to the bank.
        """
        frame = _read_samples(self.path)
        missing = [name for name in _COLUMNS if name not in frame.columns]
        if missing or frame.height != self.n_rows:
            raise BankError(
                f"{self.path / 'samples.parquet'} has {frame.height} rows and columns {frame.columns}; "
                f"the bank has {self.n_rows} rows and needs {list(_COLUMNS)}: it belongs to another bank"
            )
        return frame

    def labels(self) -> np.ndarray:
        """Class of each row: int64 (n_rows,)."""
        return self.samples["label"].to_numpy().astype(np.int64, copy=False)

    def rows(self, split: Split) -> np.ndarray:
        """Rows of a split: uint32, ascending."""
        if split not in SPLITS:
            raise ParameterError(f"split is {split!r}; a bank has {' and '.join(SPLITS)}")
        return np.flatnonzero((self.samples["split"] == split).to_numpy()).astype(np.uint32)

    def read(
        self, rows: Any, *, dtype: Literal["float16", "float32"] = "float32", n_threads: int | None = None
    ) -> np.ndarray:
        """Copy rows, in the order asked for: (m, n_features).

        Parameters
        ----------
        rows : vector of integers
        dtype : "float16" gives the stored bytes of a float16 bank
        n_threads : default all cores

        Raises
        ------
        BankError if rows are missing; ParameterError if one asked for is beyond the bank, or float16 is asked
        of a float32 bank, whose values it may not hold.
        """
        rows = np.asarray(rows)
        if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
            raise ParameterError(f"rows must be a vector of integers, got {rows.dtype} of shape {rows.shape}")
        if rows.size and rows.min() < 0:
            raise ParameterError(f"row {rows.min()} asked for; rows count from 0")
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
        """Read everything again and compare it with the hashes taken when it was written.

        Parameters
        ----------
        progress : called now and then with the rows visited, out of 2 × the committed ones

        Raises
        ------
        BankError naming part, block and rows of what is damaged.
        """
        expected = self._document.get("samples_sha256")
        if expected is not None and _sha256(self.path / "samples.parquet") != expected:
            raise BankError(f"{self.path / 'samples.parquet'} has changed since the bank was made")
        found = self.core.verify(progress)
        if found.damage:
            lines = [f"\n  {self._describe(damage)}" for damage in found.damage[:20]]
            if len(found.damage) > len(lines):
                lines.append(f"\n  and {len(found.damage) - len(lines)} more")
            raise BankError(
                f"{self.path}: {len(found.damage)} damaged block(s) of {found.blocks}{''.join(lines)}\n"
                "copy the files again, or move the part's three files out of the bank and extract anew"
            )
        return found

    def _describe(self, damage: _core.BankDamage) -> str:
        text = f"{damage.path.name}: block {damage.block}, lines {damage.start} to {damage.stop - 1}"
        if not damage.path.name.endswith(".rows.npy"):
            index = self.path / f"{damage.part}.rows.npy"
            shape = (damage.stop - damage.start,)
            rows = np.memmap(index, np.dtype("<u8"), "r", HEADER_BYTES + 8 * damage.start, shape)
            text += f" (rows {rows.min()} to {rows.max()} of the bank)"
        return text

    def _repair_headers(self) -> bool:
        """Bring `.npy` headers up to their journals where a writer died between the two; whether any was."""
        behind = [part.name for part in self._core.parts() if part.header_behind]
        for name in behind:
            with contextlib.suppress(BankError):  # it has a writer, which will do so
                _core.BankWriter.open(self.path, name).close()
        return bool(behind)

    def __repr__(self) -> str:
        return (
            f"FeatureBank({str(self.path)!r}, {self.n_rows} rows, {self.n_features} features, {self.dtype}"
            f"{'' if self._core.complete else ', incomplete'})"
        )


def is_bank(path: "str | os.PathLike[str]") -> bool:
    """Whether the folder holds a feature bank."""
    return (Path(path) / "bank.json").is_file()


def in_float16_range(features: Any) -> bool:
    """Whether every value is finite and at most 65504 in size: what a float16 bank accepts."""
    features = np.asarray(features)
    if features.dtype == np.float16:
        return bool(np.isfinite(features).all())
    return bool(np.all(np.abs(features) <= FLOAT16_MAX))  # NaN fails too


def fits_float16(features: Any) -> bool:
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


_COLUMNS = ("row", "split", "sample_id", "label", "path")


def _as_json(header: Mapping[str, Any]) -> dict[str, Any]:
    """The header as it will be read back: lists for tuples, strings for keys."""
    try:
        plain: dict[str, Any] = json.loads(json.dumps(dict(header), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ParameterError(f"header cannot be written as JSON: {error}") from None
    names = plain.get("class_names")
    if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise ParameterError("header's class_names must be a list of strings")
    return plain


def _checked_samples(samples: "pl.DataFrame", class_names: list[str] | None) -> "pl.DataFrame":
    """Columns in their order and types, sorted by row; an error if they do not describe rows 0 … n-1."""
    import polars as pl

    if "path" not in samples.columns:
        samples = samples.with_columns(path=pl.lit(None, pl.String))
    missing = [name for name in _COLUMNS if name not in samples.columns]
    if missing:
        raise ParameterError(f"samples lack the columns {missing}; there are {samples.columns}")
    types = {
        "row": pl.UInt64,
        "split": pl.String,
        "sample_id": pl.String,
        "label": pl.Int64,
        "path": pl.String,
    }
    try:
        samples = samples.with_columns(pl.col(name).cast(dtype) for name, dtype in types.items())
    except pl.exceptions.PolarsError as error:
        raise ParameterError(f"samples have a column of the wrong type: {error}") from None
    for name in _COLUMNS[:4]:
        if samples[name].null_count():
            raise ParameterError(f"samples have no {name} in line {int(samples[name].is_null().arg_max() or 0)}")
    samples = samples.select(*_COLUMNS, pl.exclude(*_COLUMNS)).sort("row")
    if not np.array_equal(samples["row"].to_numpy(), np.arange(samples.height, dtype=np.uint64)):
        raise ParameterError(f"samples must number their {samples.height} rows 0, 1, 2, … without gap or repeat")
    other = set(samples["split"].unique()) - set(SPLITS)
    if other:
        raise ParameterError(f"samples have split {sorted(other)[0]!r}; use train or test")
    if samples.height:
        low, high = (int(v) for v in (samples["label"].to_numpy().min(), samples["label"].to_numpy().max()))
        if low < 0 or (class_names is not None and high >= len(class_names)):
            known = "" if class_names is None else f" to {len(class_names) - 1} (the class names)"
            raise ParameterError(f"labels go from {low} to {high}; a bank needs them from 0{known}")
    twice = samples.select("split", "sample_id").is_duplicated()
    if twice.any():
        name = samples["sample_id"][int(twice.arg_max() or 0)]
        raise ParameterError(f"sample_id {name!r} occurs twice in a split; splits are drawn by it")
    return samples


def _read_manifest(path: Path) -> dict[str, Any]:
    return json.loads((path / "bank.json").read_text(encoding="utf-8"))


def _read_samples(path: Path) -> "pl.DataFrame":
    import polars as pl

    try:
        return pl.read_parquet(path / "samples.parquet")
    except (OSError, pl.exceptions.PolarsError) as error:
        raise BankError(f"{path / 'samples.parquet'} cannot be read: {error}") from None


def _same_manifest(path: Path, manifest: dict[str, Any]) -> None:
    """Raise unless the bank that is there is the one that is meant."""
    _core.Bank.open(path)  # a damaged manifest gets its own message
    there = _read_manifest(path)
    old, new = (
        {**{k: m.get(k) for k in ("n_rows", "n_features", "dtype")}, **m.get("header", {})} for m in (there, manifest)
    )
    differences = [
        f"\n  {key}: {_short(old.get(key))} there, {_short(new.get(key))} asked for"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]
    if differences:
        raise BankError(f"{path} holds another bank{''.join(differences)}\nuse another folder, or remove this one")


def _same_samples(path: Path, samples: "pl.DataFrame") -> None:
    there = _read_samples(path)
    if there.equals(samples):
        return
    if there.columns != samples.columns or there.height != samples.height:
        what = f"{there.height} rows of {there.columns} there, {samples.height} of {samples.columns} asked for"
    else:
        column = next(name for name in there.columns if not there[name].equals(samples[name]))
        old, new = there[column].to_list(), samples[column].to_list()
        row = next((i for i, (a, b) in enumerate(zip(old, new, strict=True)) if a != b), None)
        what = f"column {column!r} is {there[column].dtype} there, {samples[column].dtype} asked for"
        if row is not None:
            what = f"{column} of row {row} is {_short(old[row])} there, {_short(new[row])} asked for"
    raise BankError(f"{path} holds a bank of other samples: {what}\nuse another folder, or remove this one")


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else text[:77] + "…"


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            digest = hashlib.sha256()
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except OSError as error:
        raise BankError(f"{path} cannot be read: {error.strerror}") from None
    return digest.hexdigest()
