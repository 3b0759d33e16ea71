"""The MNIST family's idx files, gzip-compressed or not."""

import gzip
import struct
from pathlib import Path

import numpy as np

from ssl_risk_rs.datasets.two_parts import PartArrays, TwoPartSource
from ssl_risk_rs.errors import DataError

__all__ = ["IdxSource", "read_idx"]

#: where Debian's package dataset-fashion-mnist puts the four files
DEBIAN_FASHION_MNIST = "/usr/share/datasets/fashion-mnist"


class IdxSource(TwoPartSource):
    """Four files: `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and the same with `t10k`.

    Each may end in `.gz`, and may be spelled with a dot (`train-images.idx3-ubyte`). Images are uint8 grey. Whether it
    is MNIST, Fashion-MNIST or EMNIST the files do not say.
    """

    scheme = "idx"
    wanted = (
        "a folder with train-images-idx3-ubyte[.gz], train-labels-idx1-ubyte[.gz] and the same with t10k; "
        f"Debian's package dataset-fashion-mnist gives idx:{DEBIAN_FASHION_MNIST}"
    )
    part_names = ("train", "t10k")

    def __init__(self, location: str) -> None:
        super().__init__(location)
        self.name = self.root.name or self.scheme

    def _find(self) -> list[Path]:
        kinds = ("images-idx3-ubyte", "labels-idx1-ubyte")
        names = [f"{part}-{kind}" for part in self.part_names for kind in kinds]
        return [
            self._first_file(name, f"{name}.gz", name.replace("-idx", ".idx"), name.replace("-idx", ".idx") + ".gz")
            for name in names
        ]

    def _read(self) -> tuple[list[PartArrays], list[str] | None]:
        train, train_labels, test, test_labels = self.paths
        return [
            PartArrays(read_idx(images, ndim=3), read_idx(labels, ndim=1))
            for images, labels in ((train, train_labels), (test, test_labels))
        ], None


def read_idx(path: Path, *, ndim: int) -> np.ndarray:
    """Read an idx file of unsigned bytes (big-endian header: 0, 0, type 8, number of dimensions, sizes).

    Returns a uint8 array with `ndim` dimensions. DataError if the header or the length is wrong.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            data = file.read()
    except (OSError, EOFError) as error:
        raise DataError(f"{path} cannot be read ({error}); copy the file again") from error
    n_header = 4 + 4 * ndim
    if len(data) < n_header or data[:4] != bytes([0, 0, 8, ndim]):
        raise DataError(f"{path} is no idx file of unsigned bytes with {ndim} dimensions; copy the file again")
    shape = struct.unpack(f">{ndim}I", data[4:n_header])
    if len(data) - n_header != int(np.prod(shape, dtype=object)):
        raise DataError(f"{path} has {len(data) - n_header} bytes of data, its header says {shape}; copy it again")
    return np.frombuffer(data, dtype=np.uint8, offset=n_header).reshape(shape)
