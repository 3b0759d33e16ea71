"""Data sets of the Hugging Face hub, and those that its library has saved: map-style, any row at any time."""

import importlib
import io
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ssl_risk_rs import _extras
from ssl_risk_rs._files import is_offline
from ssl_risk_rs._identity import DataIdentity, data_id
from ssl_risk_rs._names import counted
from ssl_risk_rs.datasets.manifest import column_array, labels_of
from ssl_risk_rs.datasets.parts import TEST_NAMES, TRAIN_NAMES
from ssl_risk_rs.datasets.pixels import open_picture
from ssl_risk_rs.datasets.sources import COLUMNS, DataFile, Listing, Picture, some, split_options
from ssl_risk_rs.errors import DataError, first_line

if TYPE_CHECKING:
    import datasets

__all__ = ["HfSource"]

OPTIONS = ("image", "label", "train", "test")

#: seconds to wait for the hub before the cache is used
TIMEOUT = 20

_REPOSITORY = re.compile(r"(?P<repo>[\w.-]+(?:/[\w.-]+)?)(?::(?P<config>[^@/]+))?(?:@(?P<revision>[^@]+))?")
_COMMIT = re.compile(r"[0-9a-f]{7,40}")


@dataclass(frozen=True, slots=True)
class _Opened:
    """Splits by name, and what pins each of them."""

    splits: "dict[str, datasets.Dataset]"
    marks: dict[str, str]


class HfSource:
    """`hf:ORG/NAME[:CONFIG][@REVISION]` of the hub, or `hf:/folder` as `save_to_disk` wrote it.

    The image is the column of type Image, the label the one of type ClassLabel; `?image=…&label=…&train=…&test=…` name
    columns and splits where that does not decide. The test part is the split `test`, else `validation`; without
    either, a part is set aside. Ids of samples are `train/0`, … and `test/0`, …, or `all/0`, …. Further columns of
    plain values become columns of the samples.

    A revision is resolved to a commit, which pins the data. Without a network the library's cache is used, and a note
    says so.
    """

    scheme = "hf"
    wanted = "hf:ORG/NAME, hf:ORG/NAME:CONFIG@REVISION, or hf:/folder that save_to_disk wrote"

    def __init__(self, location: str) -> None:
        place, self.options = split_options(location)
        for key, value in self.options.items():
            if key not in OPTIONS or not value:
                raise DataError(f"hf:{location}: {key!r} is no option; write {', '.join(f'{o}=…' for o in OPTIONS)}")
        self._notes: list[str] = []
        folder = Path(place).expanduser()
        if place[:1] in ("/", ".", "~") or (place and folder.is_dir()):
            place = str(folder.absolute())
            self.name = folder.absolute().name
            self._opened = _from_disk(folder.absolute())
        else:
            found = _REPOSITORY.fullmatch(place)
            if found is None:
                raise DataError(f"hf:{location} names no data set; give {self.wanted}")
            self.name = found["repo"].rpartition("/")[2]
            self._opened = _from_hub(found["repo"], found["config"], found["revision"], self._notes)
        chosen = "&".join(f"{key}={value}" for key, value in self.options.items())
        self.location = f"{place}?{chosen}" if chosen else place
        self._loaded: tuple[list[str], Listing, list[tuple[str, int]]] | None = None
        self.parts = self._parts()
        self.image, self.label = self._columns()
        self._images = {name: _undecoded(self._opened.splits[name], self.image) for name in self.parts}

    def class_names(self) -> list[str]:
        return self._read()[0]

    def listing(self) -> Listing:
        return self._read()[1]

    def notes(self) -> list[str]:
        self._read()
        return list(self._notes)

    def identity(self) -> DataIdentity:
        return DataIdentity(self.name, data_id(self.name))

    def files(self) -> Iterator[DataFile]:
        for number, name in enumerate(self.parts):
            yield DataFile(f"{number}/{self.image}/{self.label}", name, self._opened.marks[name])

    def content(self, index: int) -> bytes:
        found = self._stored(index)
        return found if isinstance(found, bytes) else found.read_bytes()

    def load(self, index: int) -> Picture:
        found = self._stored(index)
        return open_picture(io.BytesIO(found) if isinstance(found, bytes) else found)

    def _stored(self, index: int) -> bytes | Path:
        """An image's bytes, or its file."""
        starts = self._read()[2]
        part, start = next((part, start) for part, start in reversed(starts) if start <= index)
        row = index - start
        found = self._images[part][row][self.image]
        if not found or (found.get("bytes") is None and not found.get("path")):
            raise DataError(f"row {row} of {part} holds no image")
        if found.get("bytes") is not None:
            return bytes(found["bytes"])
        if "://" in found["path"]:
            raise DataError(f"row {row} of {part} names the address {found['path']}; only stored images are read")
        return Path(found["path"])

    def _read(self) -> tuple[list[str], Listing, list[tuple[str, int]]]:
        """Class names, listing, and the position of the first image of each part."""
        if self._loaded is None:
            import polars as pl

            splits = [self._opened.splits[name] for name in self.parts]
            sizes = [len(split) for split in splits]
            labels = [split.select_columns([self.label])[:][self.label] for split in splits]
            named: list[Any] = [getattr(split.features[self.label], "names", None) for split in splits]
            self._check_labelled(labels, named[0] is not None)
            if all(named):
                codes, names = self._same_names(labels, named)
            elif not any(named):
                where = f"hf:{self.location}: column {self.label!r}"
                codes, names = labels_of(pl.Series([value for part in labels for value in part]), where)
            else:
                kinds = ", ".join(
                    f"{part} {'ClassLabel' if has else 'plain values'}"
                    for part, has in zip(self.parts, named, strict=True)
                )
                raise DataError(
                    f"hf:{self.location}: column {self.label!r} is of two types ({kinds}); cast one of them"
                )
            prefixes = ["train", "test"] if len(splits) == 2 else ["all"]
            ids = [b"%s/%d" % (p.encode(), i) for p, n in zip(prefixes, sizes, strict=True) for i in range(n)]
            n_train = sizes[0] if len(splits) == 2 else None
            listing = Listing(np.array(ids), codes, n_train, columns=self._further(splits))
            starts = np.cumsum([0, *sizes[:-1]]).tolist()
            self._loaded = list(names), listing, list(zip(self.parts, starts, strict=True))
        return self._loaded

    def _same_names(self, labels: list[list[int]], named: list[list[str]]) -> tuple[np.ndarray, list[str]]:
        """Codes of all rows by one list of names: each split numbers its classes by a list of its own."""
        names = list(dict.fromkeys(name for of_split in named for name in of_split))
        if any(of_split != named[0] for of_split in named):
            self._notes.append(f"hf:{self.name}: the splits number their classes differently; they are matched by name")
        place = {name: code for code, name in enumerate(names)}
        codes = [
            np.array([place[name] for name in of_split], np.int64)[np.array(part, np.int64)]
            for part, of_split in zip(labels, named, strict=True)
        ]
        return np.concatenate(codes), names

    def _further(self, splits: "list[datasets.Dataset]") -> dict[str, np.ndarray]:
        """Columns of plain values that all parts have."""
        import polars as pl

        columns: dict[str, np.ndarray] = {}
        for name, feature in splits[0].features.items():
            dtype = str(getattr(feature, "dtype", ""))
            plain = type(feature).__name__ in ("Value", "ClassLabel") and dtype not in ("binary", "large_binary")
            if name in (self.image, self.label, *COLUMNS) or not plain:
                continue
            if any(name not in split.features for split in splits):
                continue
            values = [value for split in splits for value in split.select_columns([name])[:][name]]
            array = column_array(pl.Series(values, strict=False))
            if array is not None:
                columns[name] = array
        return columns

    def _parts(self) -> list[str]:
        """Names of the training and the test split, or of the only one."""
        splits = self._opened.splits
        there = ", ".join(f"{name} ({len(split):,} rows)" for name, split in splits.items())
        for key in ("train", "test"):
            if (name := self.options.get(key)) and name not in splits:
                raise DataError(f"hf:{self.location} has no split {name!r}; it has {there}")
        train = self.options.get("train") or next((name for name in TRAIN_NAMES if name in splits), None)
        known = [name for names in TEST_NAMES for name in names if name in splits]
        test = self.options.get("test") or next((name for name in known if name != train), None)
        if len(splits) == 1 and not self.options.get("test"):
            return list(splits)
        if train is None:
            raise DataError(f"hf:{self.location} has no split train; it has {there}. Write ?train=NAME&test=NAME")
        if train == test:
            raise DataError(f"hf:{self.location}: {train} is both parts; name another split, there are {there}")
        if len(known) > 1 and "test" not in self.options:
            left = [name for name in known if name not in (train, test)]
            self._notes += [f"hf:{self.name}: the split {name} is not used, {test} is the test part" for name in left]
        for name in TRAIN_NAMES:
            if name in splits and name not in (train, test):
                self._notes.append(f"hf:{self.name}: the split {name} is not used, {train} is the training part")
        return [train] if test is None else [train, test]

    def _columns(self) -> tuple[str, str]:
        """Names of the columns with the image and the label."""
        features = self._opened.splits[self.parts[0]].features
        there = ", ".join(f"{name} ({type(feature).__name__})" for name, feature in features.items())
        found = {}
        for key, kind in (("image", "Image"), ("label", "ClassLabel")):
            of_kind = [name for name, feature in features.items() if type(feature).__name__ == kind]
            chosen = self.options.get(key)
            if chosen is None and len(of_kind) != 1:
                many = f"{len(of_kind)} columns of type {kind}" if of_kind else f"no column of type {kind}"
                raise DataError(f"hf:{self.location} has {many}; name one with ?{key}=NAME. Its columns: {there}")
            if chosen is not None and chosen not in features:
                raise DataError(f"hf:{self.location} has no column {chosen!r}; its columns: {there}")
            found[key] = chosen or of_kind[0]
        for name in self.parts:
            if type(self._opened.splits[name].features.get(found["image"])).__name__ != "Image":
                raise DataError(f"hf:{self.location}: column {found['image']!r} of {name} is of no type Image: {there}")
            if found["label"] not in self._opened.splits[name].features:
                raise DataError(f"hf:{self.location}: the split {name} has no column {found['label']!r}")
        return found["image"], found["label"]

    def _check_labelled(self, labels: list[list[Any]], codes: bool) -> None:
        """DataError for rows without label, with the splits that have labels."""

        def missing(values: list[Any]) -> int:
            return sum(value is None or (codes and value == -1) for value in values)

        for name, values in zip(self.parts, labels, strict=True):
            if not values:
                raise DataError(f"hf:{self.location}: the split {name} has no rows")
            if n := missing(values):
                others = {
                    other: split.select_columns([self.label])[:][self.label]
                    for other, split in self._opened.splits.items()
                    if other not in self.parts and self.label in split.features
                }
                labelled = [other for other, found in others.items() if found and not missing(found)]
                hint = "its labels are not public, as it seems" if n == len(values) else "give each row a class"
                if labelled:
                    hint = f"splits with labels: {', '.join(labelled)}; write ?test={labelled[0]}"
                raise DataError(
                    f"hf:{self.location}: {n:,} of {len(values):,} rows of {name} have no label (-1); {hint}"
                )


def _library() -> Any:
    return _extras.require("datasets", "hf", "data hf:… needs the package", error_type=DataError)


def _from_disk(folder: Path) -> _Opened:
    if not (folder / "dataset_dict.json").is_file() and not (folder / "state.json").is_file():
        what = "holds no data set that save_to_disk wrote" if folder.is_dir() else "does not exist"
        raise DataError(
            f"hf:{folder} {what} (dataset_dict.json or state.json); for class folders write folder:{folder}"
        )
    library = _library()
    try:
        found = library.load_from_disk(str(folder))
    except Exception as error:  # pyarrow's, json's and the library's own
        raise DataError(f"hf:{folder} cannot be read: {first_line(error)}; save it again") from error
    splits = dict(found) if isinstance(found, library.DatasetDict) else {"all": found}
    splits = {name: split.with_format(None) for name, split in splits.items()}  # plain values, whatever it was saved as
    marks = {name: f"{split._fingerprint} {_bytes_of(split)}" for name, split in splits.items()}
    return _Opened(splits, marks)


def _from_hub(repository: str, config: str | None, revision: str | None, notes: list[str]) -> _Opened:
    library = _library()
    commit = _commit(repository, revision)
    if commit is None:
        found, commit = _from_cache(repository, config, revision, notes)
    else:
        try:
            found = library.load_dataset(repository, config, revision=commit)
        except Exception as error:  # a configuration that must be named, a full disk, a damaged file
            raise DataError(f"hf:{repository} cannot be loaded: {first_line(error)}") from error
    return _Opened(dict(found), {name: f"{config or ''}@{commit}/{name}" for name in found})


def _commit(repository: str, revision: str | None) -> str | None:
    """The commit that a revision is now; None if the hub cannot be reached, or must not be."""
    if is_offline() or _library().config.HF_HUB_OFFLINE:
        return None
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    unreachable: tuple[type[Exception], ...] = (OSError, *_transport_errors())
    try:
        return str(HfApi().dataset_info(repository, revision=revision, timeout=TIMEOUT).sha)
    except HfHubHTTPError as error:
        raise DataError(f"hf:{repository}@{revision or 'main'} is not to be had: {first_line(error)}") from error
    except unreachable:
        return None


def _transport_errors() -> tuple[type[Exception], ...]:
    """What the hub's client raises where it reaches nobody: httpx's errors, those of its successor, or OSError."""
    found = []
    for client in ("httpx", "httpx2"):
        with suppress(ImportError):
            found.append(importlib.import_module(client).TransportError)
    return tuple(found)


def _from_cache(repository: str, config: str | None, revision: str | None, notes: list[str]) -> tuple[Any, str]:
    """Splits that an earlier load left in the library's cache, and their commit."""
    library = _library()
    owner, _, name = repository.rpartition("/")
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
    root = Path(library.config.HF_DATASETS_CACHE).expanduser() / (f"{owner}___{snake}" if owner else snake)
    folders = [info.parent for info in root.glob("*/*/*/dataset_info.json")]
    folders = [folder for folder in folders if config in (None, folder.parts[-3])]
    held = ", ".join(sorted(f"{folder.parts[-3]}@{folder.name[:12]}" for folder in folders)) or "nothing of it"
    if revision and _COMMIT.fullmatch(revision):
        folders = [folder for folder in folders if folder.name.startswith(revision)]
    asked = f"{repository}{f':{config}' if config else ''}{f'@{revision}' if revision else ''}"
    if not folders:
        why = "nothing may be downloaded (--offline)" if is_offline() else "the hub cannot be reached"
        raise DataError(f"hf:{asked}: {why}, and the cache {root.parent} has {held}; load it once with a network")
    if len({folder.parts[-3] for folder in folders}) > 1:
        raise DataError(f"hf:{asked}: the cache has several configurations ({held}); write hf:{repository}:CONFIG")
    folder = max(folders, key=lambda folder: folder.stat().st_mtime)
    sure = revision is not None and _COMMIT.fullmatch(revision)
    notes.append(
        f"the hub was not asked: {asked} is read from the cache, commit {folder.name}"
        + ("" if sure else f"; whether that is {revision or 'the latest one'} cannot be told")
    )
    from datasets.packaged_modules.cache.cache import Cache

    try:
        builder = Cache(
            cache_dir=str(root.parent), dataset_name=name, repo_id=repository if owner else None,
            config_name=folder.parts[-3], version=folder.parts[-2], hash=folder.name,
        )  # fmt: skip
        return builder.as_dataset(), folder.name
    except Exception as error:  # pyarrow's, json's and the library's own
        raise DataError(f"{folder} cannot be read: {first_line(error)}; remove it and load it anew") from error


def _undecoded(split: "datasets.Dataset", column: str) -> "datasets.Dataset":
    """The column of images as stored bytes."""
    from datasets import Image

    return split.select_columns([column]).cast_column(column, Image(decode=False))


def _bytes_of(split: "datasets.Dataset") -> str:
    sizes = [os.path.getsize(file["filename"]) for file in split.cache_files]
    return f"{counted(len(split), 'row')} {some([str(size) for size in sizes], len(sizes))}"
