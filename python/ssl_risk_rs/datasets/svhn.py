"""SVHN's cropped digits in MATLAB's files."""

from pathlib import Path
from types import MappingProxyType

import numpy as np

from ssl_risk_rs._identity import DataIdentity
from ssl_risk_rs.datasets.two_parts import PartArrays, TwoPartSource
from ssl_risk_rs.errors import DataError

__all__ = ["SvhnSource"]


class SvhnSource(TwoPartSource):
    """`train_32x32.mat` and `test_32x32.mat`. The file's label 10 is the digit 0; `extra_32x32.mat` is not read."""

    scheme = "svhn"
    wanted = "a folder with train_32x32.mat and test_32x32.mat"
    published = DataIdentity("SVHN", "svhn")
    size = (73_257, 26_032)
    not_read = MappingProxyType({"extra_32x32.mat": "it is a further training set"})

    def _find(self) -> list[Path]:
        return [self._first_file(f"{part}_32x32.mat") for part in self.part_names]

    def _read(self) -> tuple[list[PartArrays], list[str] | None]:
        return [_part(path) for path in self.paths], [str(digit) for digit in range(10)]


def _part(path: Path) -> PartArrays:
    from scipy.io import loadmat

    try:
        found = loadmat(path, variable_names=("X", "y"))
        images, labels = found["X"], found["y"].reshape(-1)
    except Exception as error:  # a damaged file fails in many ways
        raise DataError(f"{path} is no file of SVHN ({error or type(error).__name__}); copy the file again") from error
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[:3] != (32, 32, 3):
        raise DataError(f"{path}: X is {images.dtype} of shape {images.shape}, and not 32 × 32 × 3 × n of bytes")
    if labels.dtype.kind not in "uif" or not np.isin(labels, np.arange(11)).all():
        held = f"{labels.min():g} to {labels.max():g}" if labels.dtype.kind in "uif" else str(labels.dtype)
        raise DataError(f"{path}: y holds {held}, and not the digits, 10 for 0")
    return PartArrays(images.transpose(3, 0, 1, 2), labels.astype(np.int64) % 10)
