"""Images in one `.npz` file."""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ssl_risk_rs._identity import DataIdentity
from ssl_risk_rs._labels import has_unlabelled
from ssl_risk_rs._names import counted
from ssl_risk_rs._tables import refuse_repeated
from ssl_risk_rs.datasets.sources import (
    COLUMNS,
    GROUP,
    ArraySource,
    DataFile,
    Listing,
    existing_file,
    some,
    text,
)
from ssl_risk_rs.errors import DataError

__all__ = ["NpzSource"]

_IMAGES = ("x_{}", "X_{}", "images_{}", "{}_images", "{}_x", "{}_X")
_LABELS = ("y_{}", "Y_{}", "labels_{}", "{}_labels", "{}_y", "{}_Y")
_PLAIN_IMAGES, _PLAIN_LABELS = ("x", "X", "images"), ("y", "Y", "labels")


class _Arrays(NamedTuple):
    """Images (uint8, n × h × w [× c]) of one or two parts, and their rows as a listing."""

    images: list[np.ndarray]
    part: np.ndarray  # of each image of the listing
    place: np.ndarray  # and its position in that part
    listing: Listing
    class_names: list[str]


class NpzSource(ArraySource[_Arrays]):
    """`x_train`, `y_train`, `x_test`, `y_test`: uint8 images (n, h, w) or (n, h, w, c) and integer labels.

    Also spelled `X_…`, `images_…`/`labels_…` or `train_images`/`train_labels`. The test part may be absent, or the
    names plain `x`, `y`. Labels may be any integers; the classes are their sorted distinct values. A label -1 stands
    for none and is refused, unless -1 and 1 are all there are.

    `groups_train`, `groups_test` (or `group_…`) become the column `group` of the samples, and so does any further
    pair of 1-D arrays of the images' length, numbers, booleans or strings, under its own name: `site_train`,
    `site_test` → `site`. Arrays of other shapes are named in a note.
    """

    scheme = "npz"
    wanted = "an .npz file with x_train, y_train, x_test, y_test (uint8 images n × h × w or n × h × w × c)"

    def __init__(self, location: str) -> None:
        self.path = existing_file(location, self.scheme, self.wanted)
        self.location = str(self.path)
        self.name = self.path.stem
        try:
            with zipfile.ZipFile(self.path) as archive:
                keys = [name.removesuffix(".npy") for name in archive.namelist()]
                refuse_repeated(keys, self.path, "arrays")
        except (zipfile.BadZipFile, NotImplementedError) as error:
            raise DataError(f"{self.path} is no .npz file ({error}); give {self.wanted}") from error
        train, test = _pair(keys, "train"), _pair(keys, "test")
        plain = _first(keys, _PLAIN_IMAGES), _first(keys, _PLAIN_LABELS)
        if train is None and test is None and plain[0] and plain[1]:
            train = plain[0], plain[1]
        if train is None:
            raise DataError(f"{self.path} holds {', '.join(sorted(keys)) or 'nothing'}; give {self.wanted}")
        self.keys = [train] if test is None else [train, test]
        self._others = [key for key in keys if not any(key in pair for pair in self.keys)]
        self._unused: list[str] = []

    def files(self) -> Iterator[DataFile]:
        yield DataFile(self.path.name, self.path)

    def identity(self) -> DataIdentity:
        return DataIdentity(self.name)

    def notes(self) -> list[str]:
        self._arrays()
        if not self._unused:
            return []
        return [
            f"{self.path.name}: {len(self._unused)} arrays are neither images, labels nor a column of the samples "
            f"and are not used: {', '.join(self._unused)}"
        ]

    def _pixels(self, index: int) -> np.ndarray:
        arrays = self._arrays()
        return np.asarray(arrays.images[arrays.part[index]][arrays.place[index]])

    def _arrays(self) -> _Arrays:
        if self._loaded is None:
            images, labels = [], []
            with np.load(self.path, allow_pickle=False) as file:
                for image_key, label_key in self.keys:
                    images.append(self._images(_member(file, image_key, self.path), image_key))
                    labels.append(self._labels(_member(file, label_key, self.path), label_key, len(images[-1])))
                columns = self._columns(file, [len(x) for x in images])
            values, label = np.unique(np.concatenate(labels), return_inverse=True)
            part = np.repeat(np.arange(len(images)), [len(x) for x in images])
            index = np.concatenate([np.arange(len(x)) for x in images])
            names = [b"train", b"test"] if len(images) == 2 else [b"all"]
            ids = np.array([b"%s/%d" % (names[p], i) for p, i in zip(part.tolist(), index.tolist(), strict=True)])
            n_train = len(images[0]) if len(images) == 2 else None
            self._refuse_unlabelled(values[label], ids)
            listing = Listing(ids, label.astype(np.int64), n_train, columns=columns)
            class_names = [str(value) for value in values.tolist()]
            self._loaded = _Arrays(images, part, index, listing, class_names)
        return self._loaded

    def _refuse_unlabelled(self, labels: np.ndarray, ids: np.ndarray) -> None:
        """Refuse images of label -1, except where the two classes are -1 and 1."""
        if not has_unlabelled(set(np.unique(labels).astype(str).tolist())):
            return
        without = [text(name) for name in ids[labels == -1].tolist()]
        keys = " or ".join(key for _, key in self.keys)
        raise DataError(
            f"{self.path}: {keys} is -1, which stands for no label, for {counted(len(without), 'image')} of "
            f"{len(labels):,}: {some(without)}; give each a class, or leave the images out of the file"
        )

    def _columns(self, file: np.lib.npyio.NpzFile, sizes: list[int]) -> dict[str, np.ndarray]:
        """Further columns: 1-D numbers, booleans or strings for each image of each part."""
        columns: dict[str, np.ndarray] = {}
        used: set[str] = set()
        for name, keys in self._candidates().items():
            values = [_member(file, key, self.path) for key in keys]
            kinds = "iuUS" if name == GROUP else "iufbUS"
            plain = all(v.ndim == 1 and v.dtype.kind in kinds for v in values)
            if not plain or [len(v) for v in values] != sizes:
                if name != GROUP:
                    continue
                got = ", ".join(f"{key} {v.dtype} {v.shape}" for key, v in zip(keys, values, strict=True))
                raise DataError(
                    f"{self.path}: groups are one integer or string for each image of each part, {sizes} of them; "
                    f"it has {got}"
                )
            if name in COLUMNS:
                raise DataError(f"{self.path}: rename {keys[0]}: {name!r} is a column that samples have already")
            used.update(keys)
            columns[name] = _column(values)
        self._unused = sorted(set(self._others) - used)
        return columns

    def _candidates(self) -> dict[str, list[str]]:
        """Column → its array in each part, for the names that fit."""
        parts = ("train", "test")[: len(self.keys)]
        found: dict[str, dict[str, str]] = {}
        for key in self._others:
            for part in parts:
                stem = _stem(key, part) or (key if len(parts) == 1 else None)
                if stem is None:
                    continue
                name = GROUP if stem == "groups" else stem
                twice = found.setdefault(name, {}).setdefault(part, key)
                if twice != key:
                    raise DataError(f"{self.path}: {twice} and {key} both are the column {name!r}; keep one of them")
        return {name: list(keys.values()) for name, keys in found.items()}

    def _images(self, x: np.ndarray, key: str) -> np.ndarray:
        if x.ndim == 2:
            raise DataError(
                f"{self.path}: {key} is n × d, features rather than images; "
                f"use  ssl-risk-rs decompose --features {self.path}"
            )
        if x.dtype != np.uint8 or x.ndim not in (3, 4) or (x.ndim == 4 and x.shape[3] not in (1, 3, 4)):
            raise DataError(
                f"{self.path}: {key} is {x.dtype} of shape {x.shape}; images are uint8 (0..255), "
                "n × h × w or n × h × w × c with c of 1, 3 or 4"
            )
        if x.size == 0:
            raise DataError(f"{self.path}: {key} has no images (shape {x.shape})")
        return x

    def _labels(self, y: np.ndarray, key: str, n: int) -> np.ndarray:
        if y.ndim == 2 and y.shape[1] == 1:
            y = y[:, 0]
        if y.shape != (n,) or not np.issubdtype(y.dtype, np.integer):
            raise DataError(f"{self.path}: {key} is {y.dtype} of shape {y.shape}; expected {n} integers")
        return y.astype(np.int64)


def _first(keys: list[str], spellings: tuple[str, ...]) -> str | None:
    return next((key for key in spellings if key in keys), None)


def _stem(key: str, part: str) -> str | None:
    """`site_train` and `train_site` → `site`; None for a name of another part."""
    if key.endswith(f"_{part}"):
        return key.removesuffix(f"_{part}") or None
    return key.removeprefix(f"{part}_") or None if key.startswith(f"{part}_") else None


def _column(parts: list[np.ndarray]) -> np.ndarray:
    """A column as int64, float64 or text, whatever part has which; booleans are text, as in other files."""
    kinds = {values.dtype.kind for values in parts}
    if kinds <= set("iu"):
        return np.concatenate([values.astype(np.int64) for values in parts])
    if kinds <= set("iuf"):
        return np.concatenate([values.astype(np.float64) for values in parts])
    return np.concatenate([_text(values) for values in parts])


def _text(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "S":
        return np.char.decode(values, "utf-8", "backslashreplace")
    return np.where(values, "true", "false") if values.dtype.kind == "b" else values.astype(str)


def _pair(keys: list[str], part: str) -> tuple[str, str] | None:
    """Names of the images and labels of a part, if both are there."""
    images = _first(keys, tuple(s.format(part) for s in _IMAGES))
    labels = _first(keys, tuple(s.format(part) for s in _LABELS))
    return (images, labels) if images and labels else None


def _member(file: np.lib.npyio.NpzFile, key: str, path: Path) -> np.ndarray:
    try:
        return file[key]
    except Exception as error:  # zipfile, zlib and numpy's parsers let many kinds out of a damaged file
        reason = str(error) or type(error).__name__
        raise DataError(f"{path}: {key} cannot be read ({reason}); write it with numpy.savez") from error
