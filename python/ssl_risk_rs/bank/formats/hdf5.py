"""HDF5 files of vectors: one slide a file, as CLAM and TRIDENT write them, or a group for each slide."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssl_risk_rs import _extras
from ssl_risk_rs._tables import unreadable
from ssl_risk_rs.bank.formats.rows import as_ids
from ssl_risk_rs.bank.formats.table import some
from ssl_risk_rs.errors import DataError

__all__ = ["read_groups", "read_slide"]


def read_slide(path: Path, key: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Features and coordinates (None where there are none) of a file.

    Raises
    ------
    DataError if h5py is missing, or the file is damaged or lacks the features.
    """
    with _opened(path) as file:
        return _pair(file, key, path, "")


def read_groups(path: Path, key: str, id_names: Sequence[str]) -> Iterator[tuple[str, np.ndarray, np.ndarray | None]]:
    """(identifier, features, coordinates) of a file: of each group, or of rows with identifiers beside them; a file
    without either is one slide, called by its name."""
    with _opened(path) as file:
        groups = [name for name in file if not hasattr(file[name], "shape")]
        if groups:
            for name in groups:
                yield (name, *_pair(file[name], key, path, name))
            return
        ids = next((file[name] for name in id_names if name in file), None)
        features, coords = _pair(file, key, path, "")
        if ids is None:
            yield path.stem, features, coords
            return
        names = as_ids(np.asarray(ids.asstr()[:] if ids.dtype.kind == "O" else ids[:]), len(features), f"{path}: ids")
        order: dict[str, list[int]] = {}
        for row, name in enumerate(names):
            order.setdefault(name, []).append(row)
        yield from ((name, features[rows], None if coords is None else coords[rows]) for name, rows in order.items())


def _opened(path: Path) -> Any:
    h5py = _extras.require("h5py", "h5", f"{path} needs", error_type=DataError)
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise unreadable(path, error) from None


def _pair(group: Any, key: str, path: Path, name: str) -> tuple[np.ndarray, np.ndarray | None]:
    where = f"{path}, group {name!r}" if name else str(path)
    if key not in group:
        raise DataError(f"{where} has no {key!r}; it has {some(sorted(group)) or 'nothing'}; name it: &key=NAME")
    features = np.asarray(group[key][()])
    coords = np.asarray(group["coords"][()]) if "coords" in group else None
    if coords is not None:
        coords = coords[0] if coords.ndim == 3 and coords.shape[0] == 1 else coords
        n = features.shape[1] if features.ndim == 3 else len(features)
        if coords.ndim != 2 or coords.shape[1] < 2 or (features.ndim > 1 and len(coords) != n):
            raise DataError(f"{where}: coords of shape {coords.shape} do not belong to features of {features.shape}")
    return features, coords
