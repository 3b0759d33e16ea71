"""Path → content: which reader reads it."""

import os
from collections.abc import Sequence
from pathlib import Path

from ssl_risk_rs.bank.formats import csv, embed, folder, npy, npz, parquet, safetensors, torch
from ssl_risk_rs.bank.formats.table import FeatureFile, Reader, refuse_columns
from ssl_risk_rs.errors import DataError

__all__ = ["read_file"]

_READERS: tuple[Reader, ...] = (npz, safetensors, torch, parquet, csv)


def read_file(path: str | os.PathLike[str], columns: str | Sequence[str] | None = None) -> FeatureFile:
    """Read a file, a folder of .npy files, or a pair `X.npy,y.npy`.

    Parameters
    ----------
    columns : the feature columns of a parquet or csv file, see `load_features`

    Raises
    ------
    DataError, ShapeError, ParameterError for what is there or not.
    """
    text = os.fspath(path)
    if embed.is_embedding(text):
        return embed.read(text, columns)
    if "," in text and not Path(text).expanduser().exists():
        names = [name.strip() for name in text.split(",")]
        if len(names) != 2 or not all(name.endswith(".npy") for name in names):
            raise DataError(f"{text}: a pair of files is written X.npy,y.npy (features first)")
        refuse_columns(Path(text), columns)
        return npy.read_pair(Path(names[0]).expanduser(), Path(names[1]).expanduser())
    file = Path(text).expanduser()
    if file.is_dir():
        return folder.read(file, columns)
    if not file.exists():
        raise DataError(f"{file}: no such file")
    suffix = file.suffix.lower()
    for reader in _READERS:
        if suffix in reader.SUFFIXES:
            return reader.read(file, columns)
    if suffix in (".h5", ".hdf5"):
        raise DataError(f"{file}: an HDF5 file is joined to its labels: embed:{file}?labels=FILE.csv")
    if suffix == ".npy":
        raise DataError(f"{file} holds no labels; give them behind a comma: {file},y.npy")
    known = ", ".join(sorted(suffix for reader in _READERS for suffix in reader.SUFFIXES))
    raise DataError(f"{file}: unknown kind of file; use one of {known}, a folder of .npy files, or X.npy,y.npy")
