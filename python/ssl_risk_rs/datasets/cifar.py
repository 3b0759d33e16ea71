"""CIFAR-10 and CIFAR-100 as their authors distribute them: batches for Python, or records of bytes."""

import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from ssl_risk_rs._identity import DataIdentity
from ssl_risk_rs.datasets.two_parts import PartArrays, TwoPartSource, names_in
from ssl_risk_rs.errors import DataError

__all__ = ["Cifar10Source", "Cifar100Source"]

_PIXELS = 3 * 32 * 32


class Cifar10Source(TwoPartSource):
    """`data_batch_1` … `data_batch_5`, `test_batch` and `batches.meta`, or the same as `.bin`.

    The folder may be the one above.
    """

    scheme = "cifar10"
    wanted = "the folder cifar-10-batches-py or cifar-10-batches-bin, or the one above"
    published = DataIdentity("CIFAR-10", "cifar-10")
    size = (50_000, 10_000)
    _folders = ("cifar-10-batches-py", "cifar-10-batches-bin")
    _train: tuple[str, ...] = tuple(f"data_batch_{i}" for i in range(1, 6))
    _test = "test_batch"
    _names, _key = ("batches.meta", "batches.meta.txt"), "label_names"

    def _find(self) -> list[Path]:
        first, *others = (*self._train, self._test)
        spellings = (first, f"{first}.bin")
        found = self._first_file(*spellings, *(f"{folder}/{s}" for folder in self._folders for s in spellings))
        folder, suffix = found.parent.relative_to(self.root), found.suffix  # one copy of the data, whole
        more = [self._first_file((folder / f"{name}{suffix}").as_posix()) for name in others]
        return [found, *more, self._first_file((folder / self._names[suffix == ".bin"]).as_posix())]

    def _read(self) -> tuple[list[PartArrays], list[str] | None]:
        *train, test, _ = self.paths
        return [_joined([self._batch(path) for path in train]), self._batch(test)], self._class_names()

    def _batch(self, path: Path) -> PartArrays:
        if path.suffix == ".bin":
            labels, images = _records(path, n_labels=1)
            return PartArrays(images, labels[:, 0])
        found = _unpickled(path)
        return PartArrays(_images(found, path), _integers(found, "labels", path))

    def _class_names(self) -> list[str]:
        path = self.paths[-1]
        return names_in(path) if path.suffix == ".txt" else _words(_unpickled(path), self._key, path)


class Cifar100Source(Cifar10Source):
    """`train`, `test` and `meta`, or `train.bin` and `test.bin`; the folder may be the one above.

    The classes are the 100 fine ones; their 20 superclasses are the column `superclass`.
    """

    scheme = "cifar100"
    wanted = "the folder cifar-100-python or cifar-100-binary, or the one above"
    published = DataIdentity("CIFAR-100", "cifar-100")
    _folders = ("cifar-100-python", "cifar-100-binary")
    _train = ("train",)
    _test = "test"
    _names, _key = ("meta", "fine_label_names.txt"), "fine_label_names"

    def _batch(self, path: Path) -> PartArrays:
        if path.suffix == ".bin":
            labels, images = _records(path, n_labels=2)
            coarse, fine = labels.T
        else:
            found = _unpickled(path)
            images = _images(found, path)
            coarse, fine = (_integers(found, f"{kind}_labels", path) for kind in ("coarse", "fine"))
        names = self._superclasses()
        if len(coarse) and not 0 <= coarse.min() <= coarse.max() < len(names):
            raise DataError(f"{path}: coarse labels are not those of {len(names)} superclasses; copy the files again")
        return PartArrays(images, fine, {"superclass": np.array(names)[coarse]})

    def _superclasses(self) -> list[str]:
        path = self.paths[-1]
        if path.suffix != ".txt":
            return _words(_unpickled(path), "coarse_label_names", path)
        folder = path.parent.relative_to(self.root)
        return names_in(self._first_file((folder / "coarse_label_names.txt").as_posix()))


def _joined(batches: list[PartArrays]) -> PartArrays:
    if len(batches) == 1:
        return batches[0]
    return PartArrays(np.concatenate([b.images for b in batches]), np.concatenate([b.labels for b in batches]))


def _records(path: Path, *, n_labels: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels (n, n_labels) and images (n, 32, 32, 3) of records of bytes."""
    data = np.fromfile(path, np.uint8)
    width = n_labels + _PIXELS
    if len(data) % width:
        raise DataError(f"{path} has {len(data):,} bytes, which are no whole records of {width:,}; copy the file again")
    rows = data.reshape(-1, width)
    return rows[:, :n_labels].astype(np.int64), _as_images(rows[:, n_labels:])


def _as_images(rows: np.ndarray) -> np.ndarray:
    """(n, 3072), channel by channel → (n, 32, 32, 3)."""
    images: np.ndarray = rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return images


# --- batches for Python: pickles, of which nothing but arrays of bytes is made


class _Type:
    """Stands for `numpy.dtype("u1")`; no other is made."""

    def __init__(self, name: object, *_: object) -> None:
        if name not in ("u1", "|u1"):
            raise pickle.UnpicklingError(f"it has an array of {name!r}, and pixels are bytes")

    def __setstate__(self, state: object) -> None:
        """What numpy keeps of a type says nothing more of bytes."""


class _Array:
    """Stands for an array until its bytes are known: numpy's own could be given a buffer that is not its own."""

    pixels: np.ndarray | None = None

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise pickle.UnpicklingError("it has an array without its five parts")
        _, shape, kind, by_columns, data = state
        data = data.encode("latin1") if isinstance(data, str) else data
        whole = isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)
        if not whole or type(kind) is not _Type or by_columns or not isinstance(data, bytes):
            raise pickle.UnpicklingError("it has an array that is no array of bytes, row by row")
        if len(data) != math.prod(shape):
            raise pickle.UnpicklingError(f"it has an array of shape {shape} with {len(data):,} bytes")
        self.pixels = np.frombuffer(data, np.uint8).reshape(shape)


def _ndarray(*_: object) -> None:
    """What a pickle names as the kind of an array."""
    raise pickle.UnpicklingError("it makes an array without its bytes")


def _array(kind: object, *_: object) -> _Array:
    if kind is not _ndarray:
        raise pickle.UnpicklingError("it has an array of another kind than numpy's")
    return _Array()


def _encoded(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it has text in {encoding}")
    return text.encode(encoding)


class _Arrays(pickle.Unpickler):
    """Makes arrays of bytes and plain values; whatever else a pickle asks for is refused, so that none of it is run."""

    def find_class(self, module: str, name: str) -> Any:
        known = {
            ("numpy", "ndarray"): _ndarray,
            ("numpy", "dtype"): _Type,
            ("numpy.core.multiarray", "_reconstruct"): _array,
            ("numpy._core.multiarray", "_reconstruct"): _array,
            ("_codecs", "encode"): _encoded,  # bytes, as Python 3 writes them for Python 2
        }
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no batch of CIFAR has")
        return known[module, name]


def _unpickled(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            found = _Arrays(file, encoding="latin1").load()
    except Exception as error:  # a damaged pickle fails in many ways
        raise DataError(
            f"{path} is no batch of CIFAR ({error or type(error).__name__}); copy the file again"
        ) from error
    if not isinstance(found, dict):
        raise DataError(f"{path} is no batch of CIFAR: it holds {type(found).__name__}; copy the file again")
    return found


def _images(found: dict[str, Any], path: Path) -> np.ndarray:
    held = found.get("data")
    data = held.pixels if isinstance(held, _Array) else None
    if data is None or data.ndim != 2 or data.shape[1] != _PIXELS:
        raise DataError(f"{path}: its data are not n × {_PIXELS} bytes; copy the file again")
    return _as_images(data)


def _integers(found: dict[str, Any], key: str, path: Path) -> np.ndarray:
    values = found.get(key)
    if not isinstance(values, list) or not all(type(value) is int and 0 <= value < 1000 for value in values):
        raise DataError(f"{path} has no {key}, a list of whole numbers below 1,000; copy the file again")
    return np.array(values, dtype=np.int64)


def _words(found: dict[str, Any], key: str, path: Path) -> list[str]:
    values = found.get(key)
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise DataError(f"{path} has no {key}, a list of names; copy the file again")
    return values
