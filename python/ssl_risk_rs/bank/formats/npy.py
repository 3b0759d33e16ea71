"""One `.npy` file, mapped; a pair of them, features and labels."""

from pathlib import Path
from typing import Literal

import numpy as np

from ssl_risk_rs._tables import unreadable
from ssl_risk_rs.bank.formats.arrays import READ_AT_ONCE, Unusable
from ssl_risk_rs.bank.formats.table import FeatureFile, FeatureTable
from ssl_risk_rs.errors import DataError

__all__ = ["OBJECTS", "read_array", "read_pair"]

OBJECTS = Unusable("holds Python objects, which are never unpickled; save a plain array of numbers or text")


def read_pair(x: Path, y: Path) -> FeatureFile:
    """Features and labels in a file each."""
    arrays = []
    for path in (x, y):
        array = read_array(path)
        if isinstance(array, Unusable):
            raise DataError(f"{path} {array.reason}")
        arrays.append(array)
    return FeatureFile((FeatureTable(arrays[0], arrays[1], str(x), str(y)),), (x, y))


def read_array(path: Path) -> np.ndarray | Unusable:
    """The array in a file; one that is too large to be read at once is mapped read-only."""
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            read_header = (
                np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            )
            if version <= (2, 0):
                shape, _, dtype = read_header(file)
                if dtype.hasobject:
                    return OBJECTS
                if 0 in shape:  # nothing to map
                    return np.zeros(shape, dtype)
        mapped: Literal["r"] | None = None if path.stat().st_size <= READ_AT_ONCE else "r"
        array: np.ndarray = np.load(path, mmap_mode=mapped, allow_pickle=False)
        return array
    except Exception as error:  # NumPy's parsers let many kinds out of a damaged file
        raise unreadable(path, error) from None
