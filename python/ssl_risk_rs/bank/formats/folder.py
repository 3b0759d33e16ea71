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

__all__ = ["read"]


def read(folder: Path, columns: str | Sequence[str] | None) -> FeatureFile:
    """Tables of a folder; its arrays stay mapped."""
    refuse_columns(folder, columns)
    if (folder / "bank.json").exists():
        raise DataError(f"{folder} is a feature bank; open it with FeatureBank.open")
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


def _class_names(path: Path) -> list[str]:
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is no JSON list of names: {error}") from None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{path} is no JSON list of names")
    return names
