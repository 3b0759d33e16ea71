"""The bundled data set: 1,797 handwritten digits of 8 × 8 pixels."""

import importlib.util
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

import numpy as np

from ssl_risk_rs._identity import DataIdentity
from ssl_risk_rs.datasets.sources import DataFile, DropsArrays, Listing, Picture, array_image
from ssl_risk_rs.errors import DataError

__all__ = ["DigitsSource"]

#: blake2b-128 of the images (uint8, 0..16) followed by the labels (uint8): tells a changed release
CONTENT = "3add1ae1fa53cc89d7599167a31c4e88"

#: within each class, in the data's order, each image at position 4, 9, 14, … is a test image
TEST_EVERY = 5


#: images (uint8, 0..16), labels, the listing's order, number of training images
Digits = tuple[np.ndarray, np.ndarray, np.ndarray, int]


class DigitsSource(DropsArrays[Digits]):
    """scikit-learn's `load_digits`: the test part of the UCI "Optical Recognition of Handwritten Digits" by
    E. Alpaydin and C. Kaynak (1998). Grey values 0..16 are scaled to 0..255.

    The data have no split of their own. Within each class, in `load_digits` order, every fifth image
    (positions 4, 9, 14, …) is a test image.
    """

    scheme = "digits"
    location = ""
    name = "digits"

    def __init__(self, location: str = "") -> None:
        if location:
            raise DataError(f"digits:{location}: digits is bundled and takes no path; write digits")

    def class_names(self) -> list[str]:
        return [str(digit) for digit in range(10)]

    def notes(self) -> list[str]:
        return []

    def files(self) -> Iterator[DataFile]:
        return iter(())  # bundled; `_arrays` checks that the content is the one this module knows

    def identity(self) -> DataIdentity:
        return DataIdentity(self.name, "digits")  # `_arrays` checks that the content is the one this module knows

    def _arrays(self) -> Digits:
        if self._loaded is None:
            images, labels = _load_digits()
            content = blake2b(images.tobytes() + labels.astype(np.uint8).tobytes(), digest_size=16)
            if content.hexdigest() != CONTENT:
                raise DataError(
                    "scikit-learn's digits are not the ones this release knows, so results could not be "
                    "compared; install another scikit-learn release"
                )
            position = np.zeros(len(labels), dtype=np.int64)  # of each image within its class
            for digit in range(10):
                rows = np.flatnonzero(labels == digit)
                position[rows] = np.arange(len(rows))
            test = position % TEST_EVERY == TEST_EVERY - 1
            order = np.concatenate([np.flatnonzero(~test), np.flatnonzero(test)])
            self._loaded = images, labels, order, int((~test).sum())
        return self._loaded

    def listing(self) -> Listing:
        _, labels, order, n_train = self._arrays()
        return Listing(np.array([b"%d" % i for i in order]), labels[order], n_train)

    def content(self, index: int) -> bytes:
        images, _, order, _ = self._arrays()
        return bytes(images[order[index]].tobytes())

    def load(self, index: int) -> Picture:
        images, _, order, _ = self._arrays()
        return array_image(np.round(images[order[index]] * (255 / 16)).astype(np.uint8))


def _load_digits() -> tuple[np.ndarray, np.ndarray]:
    """uint8 (n, 8, 8) and int64 (n,), as scikit-learn's `load_digits`: from its file, because to import it takes
    seconds."""
    package = importlib.util.find_spec("sklearn")
    file = Path(str(package.origin)).parent / "datasets" / "data" / "digits.csv.gz" if package else None
    if file is None or not file.is_file():
        from sklearn.datasets import load_digits

        bunch = load_digits()
        return bunch.images.astype(np.uint8), bunch.target.astype(np.int64)
    rows = np.loadtxt(file, np.uint8, delimiter=",")  # unpacks by the name's ending
    return np.ascontiguousarray(rows[:, :-1]).reshape(-1, 8, 8), rows[:, -1].astype(np.int64)
