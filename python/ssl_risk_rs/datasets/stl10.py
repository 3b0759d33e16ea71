"""STL-10's files of bytes."""

from pathlib import Path
from types import MappingProxyType

import numpy as np

from ssl_risk_rs._identity import DataIdentity
from ssl_risk_rs.datasets.two_parts import PartArrays, TwoPartSource, names_in
from ssl_risk_rs.errors import DataError

__all__ = ["Stl10Source"]

_SIDE = 96


class Stl10Source(TwoPartSource):
    """`train_X.bin`, `train_y.bin`, `test_X.bin`, `test_y.bin` and `class_names.txt`; the folder may be the one above.

    Labels are counted from 1. The unlabelled images are not read.
    """

    scheme = "stl10"
    wanted = "the folder stl10_binary with train_X.bin, train_y.bin and the same with test, or the one above"
    published = DataIdentity("STL-10", "stl-10")
    size = (5_000, 8_000)
    not_read = MappingProxyType({"unlabeled_X.bin": "its images have no labels"})

    def _find(self) -> list[Path]:
        names = ("train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin", "class_names.txt")
        return [self._first_file(name, f"stl10_binary/{name}") for name in names]

    def _read(self) -> tuple[list[PartArrays], list[str] | None]:
        *_, names = self.paths
        parts = [_part(*self.paths[:2]), _part(*self.paths[2:4])]
        return parts, names_in(names)


def _part(images: Path, labels: Path) -> PartArrays:
    size = images.stat().st_size
    if size % (3 * _SIDE * _SIDE):
        raise DataError(f"{images} has {size:,} bytes, which are no whole images of 3 × 96 × 96; copy the file again")
    shape = (-1, 3, _SIDE, _SIDE)
    pixels = np.memmap(images, np.uint8, "r").reshape(shape) if size else np.zeros((0, 3, _SIDE, _SIDE), np.uint8)
    # columns come before rows in the file
    return PartArrays(pixels.transpose(0, 3, 2, 1), np.fromfile(labels, np.uint8).astype(np.int64) - 1)
