"""Data sets that are a few files of pixels: a training part and a test part, held as arrays."""

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from ssl_risk_rs._identity import DataIdentity
from ssl_risk_rs.datasets.sources import ArraySource, DataFile, Listing, existing_folder
from ssl_risk_rs.errors import DataError

__all__ = ["PartArrays", "TwoPartSource", "names_in"]


@dataclass(frozen=True, slots=True)
class PartArrays:
    """One part.

    images : uint8 (n, h, w) or (n, h, w, 3), may be memory-mapped; labels : integers (n,); columns : further facts of
    each image by name, (n,)
    """

    images: np.ndarray
    labels: np.ndarray
    columns: dict[str, np.ndarray] = field(default_factory=dict)


class LoadedParts(NamedTuple):
    """Images of both parts, their rows as a listing, and the classes' names."""

    images: list[np.ndarray]
    listing: Listing
    class_names: list[str]


class TwoPartSource(ArraySource[LoadedParts]):
    """The files are found when the source is made, and read when the listing is asked for."""

    scheme: str
    wanted: str
    #: how sample ids begin
    part_names = ("train", "test")
    #: the published data set; None where the files do not say which it is
    published: DataIdentity | None = None
    #: images of each part as published
    size: tuple[int, int] | None = None
    #: files beside the first that are not read, and why
    not_read: Mapping[str, str] = MappingProxyType({})

    def __init__(self, location: str) -> None:
        self.root = existing_folder(location, self.scheme, self.wanted)
        self.location = str(self.root)
        self.name = self.scheme
        self.paths = self._find()

    @abstractmethod
    def _find(self) -> list[Path]:
        """The files that are read; DataError where one is missing."""

    @abstractmethod
    def _read(self) -> tuple[list[PartArrays], list[str] | None]:
        """The training and the test part, and the names of the classes, which labels are indices of; None: labels are
        their own names."""

    def files(self) -> Iterator[DataFile]:
        for path in self.paths:
            yield DataFile(path.relative_to(self.root).as_posix(), path)

    def identity(self) -> DataIdentity:
        return self.published or DataIdentity(self.name)

    def notes(self) -> list[str]:
        said = []
        if self.size is not None and (found := tuple(map(len, self._arrays().images))) != self.size:
            full = f"{self.size[0]:,} + {self.size[1]:,}"
            said.append(f"{found[0]:,} + {found[1]:,} images; the full {self.identity().name} has {full}")
        there = [name for name in self.not_read if self.paths[0].with_name(name).is_file()]
        return [*said, *(f"{name} is not used: {self.not_read[name]}" for name in there)]

    def _pixels(self, index: int) -> np.ndarray:
        train, test = self._arrays().images
        return np.asarray(train[index] if index < len(train) else test[index - len(train)])

    def _arrays(self) -> LoadedParts:
        if self._loaded is None:
            parts, names = self._read()
            for part, found in zip(self.part_names, parts, strict=True):
                if len(found.images) != len(found.labels) or len(found.images) == 0:
                    raise DataError(
                        f"{self.scheme}:{self.root}: {part} has {len(found.images)} images, {len(found.labels)} "
                        "labels; copy the files again"
                    )
            labels = [found.labels.astype(np.int64) for found in parts]
            if names is not None and (twice := [name for name, n in Counter(names).items() if n > 1]):
                raise DataError(
                    f"{self.scheme}:{self.root}: {twice[0]!r} is the name of several classes; copy the files again"
                )
            # distinct values, not 0 … maximum: EMNIST's letters begin at 1
            values, label = np.unique(np.concatenate(labels), return_inverse=True)
            if names is not None and not 0 <= values[0] <= values[-1] < len(names):
                raise DataError(
                    f"{self.scheme}:{self.root}: labels are from {values[0]} to {values[-1]}, and there are "
                    f"{len(names)} classes; copy the files again"
                )
            ids = [
                b"%s/%d" % (p.encode(), i) for p, y in zip(self.part_names, labels, strict=True) for i in range(len(y))
            ]
            columns = {name: np.concatenate([found.columns[name] for found in parts]) for name in parts[0].columns}
            listing = Listing(np.array(ids), label.reshape(-1).astype(np.int64), len(labels[0]), columns=columns)
            chosen = [str(value) if names is None else names[value] for value in values.tolist()]
            self._loaded = LoadedParts([found.images for found in parts], listing, chosen)
        return self._loaded

    def _first_file(self, *names: str) -> Path:
        """The first of these files that is there.

        Raises
        ------
        DataError where none is, which names an archive that is not extracted.
        """
        for name in names:
            if (self.root / name).is_file():
                return self.root / name
        archives = sorted(path.name for pattern in ("*.tar.gz", "*.tgz") for path in self.root.glob(pattern))
        hint = f"; extract it: tar -xf {self.root / archives[0]} -C {self.root}" if archives else ""
        raise DataError(f"{self.scheme}:{self.root} has no {' and no '.join(names)}; give {self.wanted}{hint}")


def names_in(path: Path) -> list[str]:
    """Words of a file: names of classes."""
    try:
        return path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}): it names the classes; copy the file again") from error
