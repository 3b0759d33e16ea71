"""A folder of `.npy` files, as `export_bank` writes it: with class_names.json and samples.parquet if they are there."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ssl_risk_rs._tables import read_parquet
from ssl_risk_rs.bank.formats.arrays import Unusable, tables_of_arrays
from ssl_risk_rs.bank.formats.npy import read_array
from ssl_risk_rs.bank.formats.rows import texts
from ssl_risk_rs.bank.formats.samples import with_samples
from ssl_risk_rs.bank.formats.table import FeatureFile, refuse_columns
from ssl_risk_rs.errors import DataError

__all__ = ["read", "refuse_other_folder"]


def read(folder: Path, columns: str | Sequence[str] | None) -> FeatureFile:
    """Tables of a folder; its arrays stay mapped."""
    refuse_columns(folder, columns)
    if (folder / "bank.json").exists():
        raise DataError(f"{folder} is a feature bank; open it with FeatureBank.open")
    refuse_other_folder(folder)
    arrays: dict[str, np.ndarray | Unusable] = {}
    files = sorted(folder.glob("*.npy"))
    for file in files:
        try:
            arrays[file.stem] = read_array(file)
        except DataError as error:
            arrays[file.stem] = Unusable(f"cannot be used: {error}")
    names = folder / "class_names.json"
    if names.exists():
        arrays["class_names"] = texts(_class_names(names))
        files.append(names)
    found = tables_of_arrays(arrays, folder, files)
    samples = folder / "samples.parquet"
    if not samples.exists():
        return found
    return replace(with_samples(found, read_parquet(samples), samples), files=(*found.files, samples))


def refuse_other_folder(folder: Path) -> None:
    """Refuse a folder that holds no arrays, by what it is: a run's, or one of runs or of banks.

    Raises
    ------
    DataError.
    """
    if next(folder.glob("*.npy"), None) is not None:
        return
    if (folder / "run.json").exists():
        raise DataError(
            f"{folder} is a run folder, which holds results and no features: name the bank or the file that it was "
            "made of"
        )
    runs, banks = (sorted(folder.glob(f"*/{name}")) for name in ("run.json", "bank.json"))
    if runs:
        raise DataError(f"{folder} is a folder of {len(runs)} run folders: name one, such as {runs[-1].parent}")
    if banks:
        raise DataError(f"{folder} is a folder of {len(banks)} feature banks: name one, such as {banks[0].parent}")
    raise DataError(
        f"{folder} holds no .npy file; a folder of features has X_train.npy, y_train.npy, X_test.npy, y_test.npy"
    )


def _class_names(path: Path) -> list[str]:
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is no JSON list of names: {error}") from None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{path} is no JSON list of names")
    return names
