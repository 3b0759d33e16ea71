"""The MNIST family's idx files, gzip-compressed or not."""

import gzip
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ssl_risk_rs._identity import DataIdentity
from ssl_risk_rs.datasets.sources import DataFile, DropsArrays, Listing, Picture, array_image, existing_folder
from ssl_risk_rs.errors import DataError

__all__ = ["IdxSource", "read_idx"]

#: where Debian's package dataset-fashion-mnist puts the four files
DEBIAN_FASHION_MNIST = "/usr/share/datasets/fashion-mnist"


#: images of both parts, all rows, the classes' names
IdxArrays = tuple[list[np.ndarray], Listing, list[str]]


class IdxSource(DropsArrays[IdxArrays]):
    """Four files: `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and the same with `t10k`.

    Each may end in `.gz`, and may be spelled with a dot (`train-images.idx3-ubyte`). Images are uint8 grey.
    """

    scheme = "idx"
    wanted = (
        "a folder with train-images-idx3-ubyte[.gz], train-labels-idx1-ubyte[.gz] and the same with t10k; "
        f"Debian's package dataset-fashion-mnist gives idx:{DEBIAN_FASHION_MNIST}"
    )

    def __init__(self, location: str) -> None:
        self.root = existing_folder(location, self.scheme, self.wanted)
        self.location = str(self.root)
        self.name = self.root.name or self.scheme
        self.paths = {
            (part, kind): self._find(f"{part}-{kind}")
            for part in ("train", "t10k")
            for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")
        }

    def _find(self, name: str) -> Path:
        for spelling in (name, name.replace("-idx", ".idx")):
            for path in (self.root / spelling, self.root / f"{spelling}.gz"):
                if path.is_file():
                    return path
        raise DataError(f"idx:{self.root} has no {name} and no {name}.gz; give {self.wanted}")

    def files(self) -> Iterator[DataFile]:
        for path in self.paths.values():
            yield DataFile(path.name, path)

    def notes(self) -> list[str]:
        return []

    def identity(self) -> DataIdentity:
        return DataIdentity(self.name)  # MNIST, Fashion-MNIST, EMNIST: the files do not say which

    def _arrays(self) -> IdxArrays:
        if self._loaded is None:
            parts = ("train", "t10k")
            images = [read_idx(self.paths[part, "images-idx3-ubyte"], ndim=3) for part in parts]
            labels = [read_idx(self.paths[part, "labels-idx1-ubyte"], ndim=1) for part in parts]
            for part, x, y in zip(parts, images, labels, strict=True):
                if len(x) != len(y) or len(x) == 0:
                    raise DataError(
                        f"idx:{self.root}: {part} has {len(x)} images, {len(y)} labels; copy the files again"
                    )
            # distinct values, not 0 … maximum: EMNIST's letters begin at 1
            values, label = np.unique(np.concatenate(labels), return_inverse=True)
            ids = [b"%s/%d" % (part.encode(), i) for part, y in zip(parts, labels, strict=True) for i in range(len(y))]
            listing = Listing(np.array(ids), label.astype(np.int64), len(labels[0]))
            self._loaded = images, listing, [str(value) for value in values.tolist()]
        return self._loaded

    def class_names(self) -> list[str]:
        return self._arrays()[2]

    def listing(self) -> Listing:
        return self._arrays()[1]

    def content(self, index: int) -> bytes:
        return self._pixels(index).tobytes()

    def load(self, index: int) -> Picture:
        return array_image(self._pixels(index))

    def _pixels(self, index: int) -> np.ndarray:
        train, test = self._arrays()[0]
        return np.asarray(train[index] if index < len(train) else test[index - len(train)])


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
