"""`samples.parquet`: what each row of a bank is."""

import hashlib
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from ssl_risk_rs._splits import group_name
from ssl_risk_rs.bank.header import BankDocument, short
from ssl_risk_rs.errors import BankError, ParameterError

if TYPE_CHECKING:
    import polars as pl

__all__ = [
    "COLUMNS", "SAMPLES", "SPLITS", "Split", "checked_samples", "groups_of", "read_samples", "require_same",
]  # fmt: skip

#: name of the file in a bank's folder
SAMPLES = "samples.parquet"

Split = Literal["train", "test"]
SPLITS: tuple[Split, Split] = ("train", "test")
#: columns that every bank has; all but the last are without nulls
COLUMNS = ("row", "split", "sample_id", "label", "path")
#: A class beyond is a damaged column: the weights of so many classes of 64 features fill 4 GB.
MAX_CLASSES = 1 << 24


def checked_samples(samples: "pl.DataFrame", n_classes: int | None) -> "pl.DataFrame":
    """Columns in their order and types, sorted by row.

    Parameters
    ----------
    samples : columns row, split, sample_id, label, and path if there are files; others are kept
    n_classes : number of class names, if they are known

    Raises
    ------
    ParameterError if they do not describe rows 0 … n-1 of a bank.
    """
    import polars as pl

    if not isinstance(samples, pl.DataFrame):
        raise ParameterError(
            f"samples must be a polars frame, got {type(samples).__name__}: polars.from_pandas makes one"
        )
    if "path" not in samples.columns:
        samples = samples.with_columns(path=pl.lit(None, pl.String))
    missing = [name for name in COLUMNS if name not in samples.columns]
    if missing:
        there = [name for name in samples.columns if name != "path"]
        raise ParameterError(f"samples lack the columns {', '.join(missing)}; there are {', '.join(there) or 'none'}")
    for name in COLUMNS[:4]:
        if samples[name].null_count():
            raise ParameterError(f"samples have no {name} in line {int(samples[name].is_null().arg_max() or 0)}")
    given = samples["label"] if samples.height else pl.Series("label", [], pl.Int64)
    labels = _codes(given.to_numpy(), n_classes, "labels of the samples")
    types = {"row": pl.UInt64, "split": pl.String, "sample_id": pl.String, "path": pl.String}
    try:
        samples = samples.with_columns(
            pl.Series("label", labels, pl.Int64), *(pl.col(name).cast(dtype) for name, dtype in types.items())
        )
    except pl.exceptions.PolarsError as error:
        raise ParameterError(f"samples have a column of the wrong type: {error}") from None
    samples = samples.select(*COLUMNS, pl.exclude(*COLUMNS)).sort("row")
    _check_rows(samples)
    return samples


def read_samples(path: Path, document: BankDocument) -> "pl.DataFrame":
    """The frame in the `samples.parquet` at `path`, checked.

    The file is read once; the hash of its bytes is compared with that in `bank.json` before any of them is
    interpreted (0.1 s for 100 MB).

    Raises
    ------
    BankError if the file is damaged or does not belong to the bank.
    """
    import polars as pl

    data = _verified_bytes(path, document.samples_sha256)
    try:
        frame = pl.read_parquet(io.BytesIO(data))
    except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise BankError(f"{path} cannot be read: {error}") from None
    missing = [name for name in COLUMNS if name not in frame.columns]
    if missing or frame.height != document.n_rows:
        raise BankError(
            f"{path} has {frame.height} rows and columns {frame.columns}; "
            f"the bank has {document.n_rows} rows and needs {list(COLUMNS)}: it belongs to another bank"
        )
    names = document.header.class_names
    try:
        return checked_samples(frame, None if names is None else len(names))
    except ParameterError as error:
        raise BankError(f"{path}: {error}; make the bank anew") from None


def require_same(path: Path, there: "pl.DataFrame", asked: "pl.DataFrame") -> None:
    """Raise a BankError that names the difference, if the samples of the bank at `path` are not those asked for."""
    if there.equals(asked):
        return
    if there.columns != asked.columns or there.height != asked.height:
        what = f"{there.height} rows of {there.columns} there, {asked.height} of {asked.columns} asked for"
    else:
        column = next((name for name in there.columns if not there[name].equals(asked[name])), there.columns[0])
        old, new = there[column].to_list(), asked[column].to_list()
        row = next((i for i, (a, b) in enumerate(zip(old, new, strict=True)) if a != b), None)
        what = f"column {column!r} is {there[column].dtype} there, {asked[column].dtype} asked for"
        if row is not None:
            what = f"{column} of row {row} is {short(old[row])} there, {short(new[row])} asked for"
    raise BankError(f"{path} holds a bank of other samples: {what}\nuse another folder, or remove this one")


def groups_of(samples: "pl.DataFrame", column: str) -> list[str]:
    """A column of the samples as text, one group for each row.

    Raises
    ------
    ParameterError naming the columns there are, or counting the rows without a value.
    """
    import polars as pl

    if column not in samples.columns:
        others = extra_columns(samples)
        raise ParameterError(
            f"samples have no column {column!r}; further columns of this bank: {', '.join(others) or 'none'} "
            f"(and {', '.join(COLUMNS)})"
        )
    values = samples[column]
    absent = values.is_null() | (values.is_nan().fill_null(False) if values.dtype.is_float() else False)
    if nulls := int(absent.sum()):
        first = int(absent.arg_max() or 0)
        raise ParameterError(
            f"column {column!r} has no value in {nulls} of {len(values)} rows (the first is row {first}); "
            "a row without group belongs to no patient, scene …: give each a value of its own, or leave them out"
        )
    if values.dtype.is_nested() or values.dtype == pl.Binary or values.dtype == pl.Object:
        raise ParameterError(f"column {column!r} is {values.dtype}; a group is text or a number")
    # as the files that a bank was made of name them: splits are drawn by these names
    return [group_name(value) for value in values.to_list()]


def extra_columns(samples: "pl.DataFrame") -> list[str]:
    """Names of the columns that the maker added."""
    return [name for name in samples.columns if name not in COLUMNS]


def _verified_bytes(path: Path, expected: str | None) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BankError(f"{path} cannot be read: {error.strerror}") from None
    if expected is None:
        raise BankError(
            f"{path}: bank.json has no samples_sha256, so nobody can tell whether the file is damaged; write the "
            "SHA-256 of its bytes there (docs/bank-format.md)"
        )
    if hashlib.sha256(data).hexdigest() != expected.lower():
        raise BankError(
            f"{path} is not the file that was written with the bank (its SHA-256 is not that in bank.json): it is "
            "damaged, or belongs to another bank; copy it again, or make the bank anew"
        )
    return data


def _check_rows(samples: "pl.DataFrame") -> None:
    if not np.array_equal(samples["row"].to_numpy(), np.arange(samples.height, dtype=np.uint64)):
        raise ParameterError(f"samples must number their {samples.height} rows 0, 1, 2, … without gap or repeat")
    other = set(samples["split"].unique()) - set(SPLITS)
    if other:
        raise ParameterError(f"samples have split {sorted(other)[0]!r}; use train or test")
    twice = samples.select("split", "sample_id").is_duplicated()
    if twice.any():
        name = samples["sample_id"][int(twice.arg_max() or 0)]
        raise ParameterError(f"sample_id {name!r} occurs twice in a split; splits are drawn by it")


def _codes(labels: npt.NDArray[Any], n_classes: int | None, where: str) -> npt.NDArray[np.int64]:
    """Class codes as int64 (n,), checked before they are converted."""
    if labels.dtype.kind not in "iu":
        raise ParameterError(f"{where} are {labels.dtype}, which is the wrong type; expected whole numbers from 0")
    wrong = (labels < 0) | (labels >= (MAX_CLASSES if n_classes is None else n_classes))
    if wrong.any():
        row = int(wrong.argmax())
        known = f"classes go from 0 to {MAX_CLASSES - 1}" if n_classes is None else f"there are {n_classes} class names"
        raise ParameterError(f"{where}: line {row} has class {labels[row]}; {known}")
    return labels.astype(np.int64, copy=False)
