"""What every source of images provides, and what several of them share."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ssl_risk_rs.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["DataFile", "Listing", "Source", "array_image", "existing_folder", "stable_hash", "stratified_cut"]


@dataclass(frozen=True, slots=True)
class DataFile:
    """One file a source is read from: its name relative to the source's root, and where it is.

    Either may be bytes, which spares a large folder a million conversions.
    """

    name: str | bytes
    path: str | bytes | Path


@dataclass(frozen=True, slots=True)
class Listing:
    """Every image of a source: the training images first, then the test images.

    sample_id : bytes array (n,), unique; does not depend on the order of the images
    label : int64 array (n,), index into the class names
    n_train : how many of the n are training images
    path : bytes array (n,) of absolute file names, or None where an image is no file of its own

    Byte arrays, not lists of str: a million Python objects would be copied into every decode worker, one
    reference count at a time.
    """

    sample_id: np.ndarray
    label: np.ndarray
    n_train: int
    path: np.ndarray | None = None


class Source(Protocol):
    """Images that a URI names. Constructing one checks that its files exist and reads no image."""

    scheme: str
    location: str  # what follows the scheme, absolute; "" if there is nothing
    name: str

    def class_names(self) -> list[str]:
        """Names of the classes; a label is an index into them."""
        ...

    def listing(self) -> Listing:
        """Every image; may read label files, never pixels where they can be left alone."""
        ...

    def load(self, index: int) -> "Image.Image":
        """Decode the image at this position of the listing."""
        ...

    def files(self) -> Iterator[DataFile]:
        """Every file whose change changes an image, a label or a split. None: the data cannot change."""
        ...

    def notes(self) -> list[str]:
        """Sentences a user should read: files that were left alone, a split that was made up."""
        ...


class DropsArrays:
    """Pickles without what was read from files (`_loaded`), which a decode worker reads again if it must."""

    _loaded: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_loaded": None}


def existing_folder(path: str, scheme: str, wanted: str) -> Path:
    """The absolute folder, or a DataError that says what was looked for and how to give it."""
    if not path:
        raise DataError(f"{scheme}: names no folder; give {wanted}, for example {scheme}:/path/to/images")
    folder = Path(path).expanduser().absolute()
    if not folder.exists():
        raise DataError(f"{scheme}:{path}: {folder} does not exist; give {wanted}")
    if not folder.is_dir():
        raise DataError(f"{scheme}:{path}: {folder} is a file; give {wanted}")
    return folder


def stable_hash(key: bytes, *, seed: int = 0) -> int:
    """64-bit hash of a sample id: the same on every machine and in every release."""
    digest = blake2b(key, digest_size=8, salt=seed.to_bytes(8, "little")).digest()
    return int.from_bytes(digest, "little")


def stratified_cut(labels: np.ndarray, sample_ids: Sequence[bytes], *, share: float, seed: int) -> np.ndarray:
    """Mask of the rows put aside as test: this share of each class (rounded, at least one of two rows).

    The rows with the smallest hash of (seed, sample id) are taken, so that the cut depends neither on the
    order of the rows nor on how many other rows there are in other classes.
    """
    order = np.array([stable_hash(bytes(s), seed=seed) for s in sample_ids], dtype=np.uint64)
    test = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        n_test = max(round(share * len(rows)), 1) if len(rows) > 1 else 0
        test[rows[np.argsort(order[rows], kind="stable")[:n_test]]] = True
    return test


def array_image(pixels: np.ndarray) -> "Image.Image":
    """uint8 (h, w) or (h, w, 1) → mode L, (h, w, 3) → RGB, (h, w, 4) → RGBA."""
    from PIL import Image

    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    return Image.fromarray(np.ascontiguousarray(pixels))


def text(value: str | bytes) -> str:
    """A file name or id as text; bytes that are no UTF-8 are spelled out, so that any table can hold it."""
    return os.fsencode(value).decode("utf-8", "backslashreplace")
