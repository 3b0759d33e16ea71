"""What every source of images provides, and what several of them share."""

import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np

from ssl_risk_rs._identity import DataIdentity
from ssl_risk_rs.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

__all__ = [
    "COLUMNS",
    "GROUP",
    "ArraySource",
    "DataFile",
    "DropsArrays",
    "Glances",
    "Listing",
    "Picture",
    "Source",
    "array_image",
    "existing_file",
    "existing_folder",
    "regular_file",
    "some",
    "split_options",
    "text",
]

#: column of the samples that groups (patients, scenes) have where the source knows them
GROUP = "group"

#: columns of `ImageDataset.samples` that every data set has; a further column has another name
COLUMNS = ("row", "split", "sample_id", "label", "path")


@dataclass(frozen=True, slots=True)
class DataFile:
    """One file a source is read from: its name relative to the source's root, and where it is.

    Either may be bytes, which spares a large folder a million conversions. `mark` is a hash that pins the content
    where there is one already: it then stands for size and time.
    """

    name: str | bytes
    path: str | bytes | Path
    mark: str | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """Every image of a source: the training images first, then the test images.

    sample_id : bytes array (n,), unique; does not depend on the order of the images
    label : int64 array (n,), index into the class names
    n_train : how many of the n are training images; None where the source does not tell: a part is then set aside
    path : bytes array (n,) of absolute file names, or None where an image is no file of its own
    columns : further facts of each image by name, such as its group: str or int64 arrays (n,)

    Byte arrays, not lists of str: a million Python objects would be copied into every decode worker, one
    reference count at a time.
    """

    sample_id: np.ndarray
    label: np.ndarray
    n_train: int | None
    path: np.ndarray | None = None
    columns: dict[str, np.ndarray] = field(default_factory=dict)

    def parts(self) -> tuple[slice, slice]:
        """Positions of the training images, and of the test images."""
        assert self.n_train is not None  # `ImageDataset` has set a part aside
        return slice(0, self.n_train), slice(self.n_train, len(self.label))

    def taken(self, order: np.ndarray, n_train: int) -> "Listing":
        """These images in this order."""
        path = None if self.path is None else self.path[order]
        columns = {name: values[order] for name, values in self.columns.items()}
        return Listing(self.sample_id[order], self.label[order], n_train, path, columns)


class Picture(NamedTuple):
    """A decoded image in an 8-bit mode, the orientation that its EXIF data ask for (1: none), and the mode that its
    file has; "" for that of the image."""

    image: "Image.Image"
    orientation: int = 1
    mode: str = ""


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

    def load(self, index: int) -> Picture:
        """Decode the image at this position of the listing."""
        ...

    def content(self, index: int) -> bytes:
        """The image as it is stored, its bytes or pixels. Asked only where an image is no file of its own."""
        ...

    def identity(self) -> DataIdentity:
        """What these data are, as far as their source tells."""
        ...

    def files(self) -> Iterator[DataFile]:
        """Every file whose change changes an image, a label or a split. None: the data cannot change."""
        ...

    def notes(self) -> list[str]:
        """Sentences a user should read: files that were left alone, what was guessed."""
        ...


@runtime_checkable
class Glances(Protocol):
    """A source that can tell most of its images apart without reading them whole."""

    def glance(self, index: int) -> bytes:
        """A few bytes that are equal where `content` is."""
        ...


Arrays = TypeVar("Arrays")


class DropsArrays(Generic[Arrays]):
    """Pickles without what was read from files (`_loaded`), which a decode worker reads again if it must."""

    _loaded: Arrays | None = None

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_loaded": None}


class Listed(Protocol):
    """Arrays that were read, with the rows and the classes' names that they are of."""

    @property
    def listing(self) -> Listing: ...

    @property
    def class_names(self) -> list[str]: ...


ListedArrays = TypeVar("ListedArrays", bound=Listed)


class ArraySource(DropsArrays[ListedArrays], ABC):
    """Images that are parts of arrays."""

    @abstractmethod
    def _arrays(self) -> ListedArrays:
        """What the files hold, read once."""

    @abstractmethod
    def _pixels(self, index: int) -> np.ndarray:
        """The image at this position of the listing, uint8 (h, w) or (h, w, c)."""

    def class_names(self) -> list[str]:
        return self._arrays().class_names

    def listing(self) -> Listing:
        return self._arrays().listing

    def content(self, index: int) -> bytes:
        return self._pixels(index).tobytes()

    def load(self, index: int) -> Picture:
        return array_image(self._pixels(index))


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


def existing_file(path: str, scheme: str, wanted: str) -> Path:
    """The absolute file, or a DataError that says what was looked for and how to give it."""
    if not path:
        raise DataError(f"{scheme}: names no file; give {wanted}, for example {scheme}:/path/to/file")
    file = Path(path).expanduser().absolute()
    if not file.is_file():
        raise DataError(f"{scheme}:{path}: {file} {'is a folder' if file.is_dir() else 'is no file'}; give {wanted}")
    return file


def regular_file(path: str | bytes | Path) -> os.stat_result:
    """Facts of a file that can be read to its end.

    Raises
    ------
    DataError for a named pipe, whose reading waits for a writer, a socket or a device; OSError where there is nothing.
    """
    facts = os.stat(path)
    if not (stat.S_ISREG(facts.st_mode) or stat.S_ISDIR(facts.st_mode)):  # whoever opens a folder says that it is one
        raise DataError("it is a named pipe, a socket or a device, and no file; remove it")
    return facts


def split_options(location: str) -> tuple[str, dict[str, str]]:
    """`PATH?key=value&key=value` → PATH and its options. A file or folder whose name holds a question mark is one."""
    path, mark, query = location.rpartition("?")
    if not mark or Path(location).expanduser().exists():
        return location, {}
    options: dict[str, str] = {}
    for item in query.split("&"):
        key, equals, value = item.partition("=")
        if key in options:
            raise DataError(f"{location}: {key} is given twice; keep one of them")
        options[key] = value if equals else ""
    return path, options


def array_image(pixels: np.ndarray) -> Picture:
    """uint8 (h, w) or (h, w, 1) → mode L, (h, w, 3) → RGB, (h, w, 4) → RGBA."""
    from PIL import Image

    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    return Picture(Image.fromarray(np.ascontiguousarray(pixels)))


def text(value: str | bytes) -> str:
    """A file name or id as text; bytes that are no UTF-8 are spelled out, so that any table can hold it."""
    return os.fsencode(value).decode("utf-8", "backslashreplace")


def some(names: Sequence[str], show: int = 5) -> str:
    """The first names, and an ellipsis where there are more."""
    return ", ".join(names[:show]) + (", …" if len(names) > show else "")
