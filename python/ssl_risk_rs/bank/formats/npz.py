"""`.npz`: a zip of `.npy` files."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ssl_risk_rs._tables import refuse_repeated, unreadable
from ssl_risk_rs.bank.formats.arrays import Unusable, tables_of_arrays
from ssl_risk_rs.bank.formats.npy import OBJECTS
from ssl_risk_rs.bank.formats.table import FeatureFile, refuse_columns
from ssl_risk_rs.errors import DataError

__all__ = ["SUFFIXES", "read"]

SUFFIXES: tuple[str, ...] = (".npz",)


def read(path: Path, columns: str | Sequence[str] | None) -> FeatureFile:
    """Tables of an `.npz` file; arrays of Python objects are not read."""
    refuse_columns(path, columns)
    arrays: dict[str, np.ndarray | Unusable] = {}
    try:
        with zipfile.ZipFile(path) as members, np.load(path, allow_pickle=False) as archive:
            refuse_repeated(members.namelist(), path, "members")
            for name in archive.files:
                member = name if name in members.namelist() else f"{name}.npy"
                with members.open(member) as file:
                    objects = _holds_objects(file.read(1 << 16))
                arrays[name] = OBJECTS if objects else archive[name]
    except DataError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy's parsers let many kinds out of a damaged file
        raise unreadable(path, error) from None
    return tables_of_arrays(arrays, path)


def _holds_objects(head: bytes) -> bool:
    """Whether the `.npy` file that begins like this needs unpickling."""
    import io

    file = io.BytesIO(head)
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return bool(np.lib.format.read_array_header_1_0(file)[2].hasobject)
    if version == (2, 0):
        return bool(np.lib.format.read_array_header_2_0(file)[2].hasobject)
    return False  # version 3: names of fields in UTF-8; np.load refuses objects there too
