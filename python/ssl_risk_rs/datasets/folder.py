"""Class folders of image files, and ImageNet in the same layout."""

import errno
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np

from ssl_risk_rs._identity import DataIdentity
from ssl_risk_rs._limits import whole_number
from ssl_risk_rs._names import counted
from ssl_risk_rs.datasets.guessing import benchmark_in
from ssl_risk_rs.datasets.parts import TEST_NAMES, TRAIN_NAMES
from ssl_risk_rs.datasets.pixels import IMAGE_SUFFIXES, open_picture
from ssl_risk_rs.datasets.sources import GROUP, DataFile, Listing, Picture, existing_folder, some, split_options, text
from ssl_risk_rs.errors import DataError

__all__ = ["FolderSource", "FoundPart", "ImageNetSource", "Layout"]

IMAGENET = DataIdentity("ImageNet-1K", "imagenet-1k")
WORDNET_ID = re.compile(r"n\d{8}")


@dataclass(frozen=True, slots=True)
class Layout:
    """What the folders below `train/` and `test/` (or below the data's root, where it has no parts) stand for.

    classes : "top", the folders in them; "nested", every folder that holds images (`a/abbey`)
    group : None, "parent" (all folders between the class folder and the image) or how many of them from the class
        folder down: the name of a patient, a slide, a scene
    """

    classes: Literal["top", "nested"] = "top"
    group: int | Literal["parent"] | None = None

    def __str__(self) -> str:
        options = ["classes=nested"] if self.classes == "nested" else []
        options += [] if self.group is None else [f"group={self.group}"]
        return "?" + "&".join(options) if options else ""


@dataclass(slots=True)
class FoundPart:
    """What was found below `train/` or `test/`, or below the root; names are relative to the data's root, with `/`."""

    images: dict[str, list[str]]  # by class
    strangers: list[str] = field(default_factory=list)  # files that are no images by their ending
    outside: list[str] = field(default_factory=list)  # images beside the class folders
    hidden: list[str] = field(default_factory=list)  # images whose name begins with a dot
    hidden_folders: list[str] = field(default_factory=list)  # folders of such a name that hold images
    loops: list[str] = field(default_factory=list)  # links to a folder that they lie in: following them would not end


class FolderSource:
    """`train/CLASS/…` and `test/CLASS/…` (or `val/`), any depth below the class folder; or `CLASS/…` alone.

    The classes are the sorted names of the class folders; both parts must have the same ones. Where there are
    both `test/` and `val/`, `test/` is used and a note says so. Counted in notes are images and folders with images
    whose name begins with a dot, files that are no images by their ending, images outside the class folders, and links
    to a folder that they lie in. A link that leads nowhere, or back to itself, is an image that cannot be decoded.
    Bytes of a name that are no UTF-8 are spelled out.

    Options follow a question mark: `folder:PATH?classes=nested` takes every folder that holds images for a class;
    `?group=1` (2, …) or `?group=parent` gives each image the column `group`, the folders below its class folder.
    """

    scheme = "folder"
    wanted = "a folder with train/CLASS/*.jpg and test/CLASS/*.jpg (or val/), or with CLASS/*.jpg alone"
    test_names: tuple[str, ...] = ("test", "val")
    #: whether class folders without train/ and test/ are taken
    flat = True

    def __init__(self, location: str) -> None:
        path, self.layout = _layout(location, self.scheme)
        self.root = existing_folder(path, self.scheme, self.wanted)
        self.location = f"{self.root}{self.layout}"
        self.name = self.root.name or self.scheme
        self._notes: list[str] = []
        self._loaded: tuple[list[str], Listing] | None = None
        present = [part for part in self.test_names if (self.root / part).is_dir()]
        train = (self.root / "train").is_dir()
        if train and present:
            self.parts: tuple[str, ...] = ("train", present[0])
        elif self.flat and not train and not present and self._has_class_folders():
            self.parts = ("",)
        else:
            raise DataError(self._no_parts())
        for name in self._other_parts():
            is_train = name.lower() in TRAIN_NAMES
            self._notes.append(
                f"{self.root / name} is not used: {self.parts[0 if is_train else 1]}/ is the "
                f"{'training' if is_train else 'test'} part"
            )

    def _other_parts(self) -> list[str]:
        """Folders that are called as a part is, and are none of this data set."""
        if len(self.parts) < 2:  # class folders alone: none of them is called so
            return []
        folders = sorted(entry.name for entry in self.root.iterdir() if entry.is_dir())
        return [name for name in folders if name.lower() in _spellings() and name not in self.parts]

    def _has_class_folders(self) -> bool:
        """Whether the root holds folders, none of them called as a part is: two parts taken for two classes would give
        results that look sound."""
        folders = [entry.name for entry in self.root.iterdir() if not entry.name.startswith(".") and entry.is_dir()]
        return bool(folders) and not any(name.lower() in _spellings() for name in folders)

    def _no_parts(self) -> str:
        looked = f"{self.scheme}:{self.root} needs train/ and {' or '.join(p + '/' for p in self.test_names)}"
        found = sorted(entry.name for entry in self.root.iterdir() if not entry.name.startswith("."))
        inside = f"it holds {', '.join(found[:5])}{', …' if len(found) > 5 else ''}" if found else "it is empty"
        hint = ""
        if (benchmark := benchmark_in(self.root)) and benchmark != self.scheme:
            hint = f". Its files are those of a benchmark: {benchmark}:{self.root}"
        elif self.flat and (self.root / "train").is_dir():
            hint = f", or {self.scheme}:{self.root / 'train'}, of which a fifth is then set aside as test images"
        return f"{looked}; {inside}. Give {self.wanted}{hint}"

    def class_names(self) -> list[str]:
        return self._scan()[0]

    def listing(self) -> Listing:
        return self._scan()[1]

    def notes(self) -> list[str]:
        self._scan()
        return [text(note) for note in self._notes]

    def files(self) -> Iterator[DataFile]:
        listing = self.listing()
        assert listing.path is not None
        for name, path in zip(listing.sample_id.tolist(), listing.path.tolist(), strict=True):
            yield DataFile(name, path)

    def identity(self) -> DataIdentity:
        """ImageNet-1K if there are exactly 1,000 class folders, all of them WordNet ids; else only a name."""
        names = self.class_names()
        if len(names) == 1000 and all(WORDNET_ID.fullmatch(name) for name in names):
            return IMAGENET
        return DataIdentity(self.name)

    def content(self, index: int) -> bytes:
        raise NotImplementedError("an image of a folder is a file")

    def load(self, index: int) -> Picture:
        path = self.listing().path
        assert path is not None
        return open_picture(path[index])

    def _scan(self) -> tuple[list[str], Listing]:
        if self._loaded is None:
            parts = [self._read_part(part) for part in self.parts]
            self._check_classes(*(sorted(found.images) for found in parts))
            names, ids, labels = sorted(parts[0].images), [], []
            for part, found in zip(self.parts, parts, strict=True):
                for label, name in enumerate(names):
                    images = found.images[name]
                    if not images:
                        where = "both parts" if len(parts) > 1 else str(self.root)
                        raise DataError(
                            f"{self.root / part / name} has no images ({', '.join(IMAGE_SUFFIXES)}); "
                            f"remove class {name!r} from {where} or add its images"
                        )
                    ids += images
                    labels += [label] * len(images)
            n_train = sum(map(len, parts[0].images.values())) if len(parts) > 1 else None
            self._note_what_is_left_out(parts)
            groups = self._groups(ids, labels, names)
            sample_id = np.array([os.fsencode(name) for name in ids])
            root = os.fsencode(self.root) + b"/"
            path = np.char.add(np.array(root), sample_id)
            columns = {} if groups is None else {GROUP: np.array([text(group) for group in groups])}
            listing = Listing(sample_id, np.array(labels, dtype=np.int64), n_train, path, columns)
            self._loaded = [text(name) for name in names], listing
            self._check_listing(listing)
        return self._loaded

    def _read_part(self, part: str) -> FoundPart:
        inside = f"{part}/" if part else ""
        found = FoundPart({})
        folders = []
        with os.scandir(self.root / part) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                kind = _kind_of(entry, f"{inside}{entry.name}", found)
                if kind == "folder":
                    folders.append(entry.name)
                elif kind == "image":
                    found.outside.append(f"{inside}{entry.name}")
        for folder in folders:
            images = _images(self.root, f"{inside}{folder}", found)
            if self.layout.classes == "top":
                found.images[folder] = images
                continue
            for image in images:
                found.images.setdefault(self._below_part(image), []).append(image)
        return found

    def _below_part(self, image: str) -> str:
        """Folder of an image, below its part."""
        folder = _folder_of(image)
        return folder if self.parts == ("",) else folder.partition("/")[2]

    def _note_what_is_left_out(self, parts: list[FoundPart]) -> None:
        strangers = [name for found in parts for name in found.strangers]
        if strangers:
            self._notes.append(
                f"{_files(len(strangers))} not used, since the ending is no image's, "
                f"for example {self.root / strangers[0]}"
            )
        hidden = [name for found in parts for name in found.hidden]
        folders = [name for found in parts for name in found.hidden_folders]
        if hidden or folders:
            what = [counted(len(hidden), "image")] if hidden else []
            what += [f"{counted(len(folders), 'folder')} with images"] if folders else []
            one = len(hidden) + len(folders) == 1
            verb = "is not used, since its name begins" if one else "are not used, since their names begin"
            self._notes.append(
                f"{' and '.join(what)} {verb} with a dot, for example {self.root / [*hidden, *folders][0]}; rename "
                "what belongs to the data"
            )
        loops = [name for found in parts for name in found.loops]
        if loops:
            lie = "it lies in is" if len(loops) == 1 else "they lie in are"
            self._notes.append(
                f"{counted(len(loops), 'link')} to a folder that {lie} not followed, which would not end, for example "
                f"{self.root / loops[0]}"
            )
        for part, found in zip(self.parts, parts, strict=True):
            if found.outside:
                self._notes.append(
                    f"{counted(len(found.outside), 'image')} in {part or self.root}/ itself, outside its class "
                    f"folders, not used, for example {self.root / found.outside[0]}"
                )
        if self.layout == Layout():
            self._note_deeper_folders(parts)

    def _note_deeper_folders(self, parts: list[FoundPart]) -> None:
        deeper, classes = set(), set()
        for found in parts:
            for name, images in found.images.items():
                below = {self._below_part(image) for image in images} - {name}
                deeper |= below
                classes |= {name} if below else set()
        if deeper:
            self._notes.append(
                f"{len(classes):,} of {len(parts[0].images):,} class folders have {len(deeper):,} further folders with "
                f"images below them, for example {min(deeper)}/: their images count as the class folder's. If these "
                f"folders are the classes, write {self.scheme}:{self.root}?classes=nested; if they are groups, such as "
                "patients, write ?group=parent"
            )

    def _groups(self, ids: list[str], labels: list[int], names: list[str]) -> list[str] | None:
        """Group of each image: folders between its class folder and itself."""
        level = self.layout.group
        if level is None:
            return None
        groups, without = [], []
        for image, label in zip(ids, labels, strict=True):
            folder = self._below_part(image)
            below = folder[len(names[label]) + 1 :].split("/") if len(folder) > len(names[label]) else []
            if len(below) < (1 if level == "parent" else level):
                without.append(image)
            groups.append("/".join(below if level == "parent" else below[:level]))
        if without:
            raise DataError(
                f"{self.root}: {len(without):,} of {len(ids):,} images lie in no folder below their class folder that "
                f"group={level} could name, for example {without[0]}"
            )
        return groups

    def _check_classes(self, *classes: list[str]) -> None:
        """All parts must have the same, at least two, classes."""
        for part, names in zip(self.parts, classes, strict=True):
            if not names:
                raise DataError(f"{self.root / part} has no class folders; give {self.wanted}")
        if len(classes) == 2:
            (a, b), (train, test) = self.parts, map(set, classes)
            sides = [
                f"{len(only)} class folders of {have}/ are missing in {miss}/ ({some(sorted(only))})"
                for have, miss, only in ((a, b, train - test), (b, a, test - train))
                if only
            ]
            if sides:
                raise DataError(
                    f"{self.root}: {', and '.join(sides)}; both parts need the same classes (manifest:FILE.csv lists "
                    "images, and takes classes without test images)"
                )
        if len(classes[0]) < 2:
            raise DataError(f"{self.root} has one class ({classes[0][0]}); a probe needs two or more")

    def _check_listing(self, listing: Listing) -> None:
        """A further look by a layout that knows what to expect."""


class ImageNetSource(FolderSource):
    """ILSVRC 2012 as torchvision lays it out: `train/nXXXXXXXX/*.JPEG` and `val/nXXXXXXXX/*.JPEG`.

    Labels are positions in the sorted WordNet ids, the usual ImageNet numbering when all 1,000 are there.
    """

    scheme = "imagenet"
    wanted = "the folder that holds train/nXXXXXXXX/*.JPEG and val/nXXXXXXXX/*.JPEG"
    test_names = ("val",)
    flat = False
    #: images of ILSVRC 2012: training, validation
    size = (1_281_167, 50_000)

    def __init__(self, location: str) -> None:
        super().__init__(location)
        self.name = "imagenet"

    def identity(self) -> DataIdentity:
        return IMAGENET

    def _no_parts(self) -> str:
        tars = sorted(path.name for path in self.root.glob("ILSVRC2012*.tar*"))
        if tars:
            return (
                f"imagenet:{self.root} holds {', '.join(tars)}, not yet extracted. Extract them once, with "
                'torchvision: python -c "from torchvision.datasets import ImageNet; '
                f"[ImageNet('{self.root}', s) for s in ('train', 'val')]\""
            )
        return super()._no_parts()

    def _check_classes(self, *classes: list[str]) -> None:
        train, test = classes
        if not train and any((self.root / "train").glob("n*.tar")):
            raise DataError(
                f"{self.root / 'train'} holds one tar for each class, not yet extracted: "
                "cd there and run  for t in n*.tar; do mkdir ${t%.tar} && tar -xf $t -C ${t%.tar}; done"
            )
        if train and not test and any((self.root / "val").glob("ILSVRC2012_val_*")):
            raise DataError(
                f"{self.root / 'val'} holds the validation images without class folders; sort them into "
                "nXXXXXXXX folders, as torchvision.datasets.ImageNet does from the devkit archive"
            )
        super()._check_classes(*classes)
        wrong = [name for name in train if not WORDNET_ID.fullmatch(name)]
        if wrong:
            raise DataError(
                f"{self.root}: class folder {wrong[0]} is no WordNet id (n and eight digits); "
                f"for other images write folder:{self.root}"
            )

    def _check_listing(self, listing: Listing) -> None:
        assert listing.n_train is not None  # there are train/ and val/
        found = (listing.n_train, len(listing.label) - listing.n_train)
        if found != self.size:
            full = f"{self.size[0]:,} + {self.size[1]:,}"
            self._notes.append(f"{found[0]:,} + {found[1]:,} images; the full ImageNet has {full}")


def _spellings() -> set[str]:
    """What parts are called."""
    return {*TRAIN_NAMES, *(name for names in TEST_NAMES for name in names)}


def _layout(location: str, scheme: str) -> tuple[str, Layout]:
    """`PATH?classes=nested&group=1` → PATH and its layout."""
    path, options = split_options(location)
    classes: Literal["top", "nested"] = "top"
    group: int | Literal["parent"] | None = None
    for key, value in options.items():
        if key == "classes" and value in ("top", "nested"):
            classes = "nested" if value == "nested" else "top"
        elif key == "group" and value == "parent":
            group = "parent"
        elif key == "group" and (level := whole_number(value)):
            group = level
        else:
            item = f"{key}={value}" if value else key
            raise DataError(
                f"{scheme}:{location}: {item!r} is no option; write classes=nested, group=parent or group=1 (2, …), "
                f"for example {scheme}:{path}?group=parent"
            )
    if classes == "nested" and group is not None:
        raise DataError(f"{scheme}:{location}: classes=nested takes all folders for classes, which leaves no groups")
    return path, Layout(classes, group)


def _images(root: Path, folder: str, found: FoundPart) -> list[str]:
    """Image files below `root/folder`, sorted, relative to root with `/`; what is none goes to `found`."""
    images: list[str] = []
    pending = [folder]
    while pending:
        here = pending.pop()
        with os.scandir(root / here) as scanned:
            entries = sorted(scanned, key=lambda entry: entry.name)
        for entry in entries:
            name = f"{here}/{entry.name}"
            kind = _kind_of(entry, name, found)
            if kind == "folder":
                pending.append(name)
            elif kind == "image":
                images.append(name)
    return sorted(images)


def _kind_of(entry: os.DirEntry[str], name: str, found: FoundPart) -> Literal["folder", "image"] | None:
    """What is read further; anything else goes to `found` under `name`, or is nothing of the data set."""
    is_folder, is_image = _is_folder(entry), _is_image(entry.name)
    if entry.name.startswith("."):
        if is_folder and not entry.is_symlink() and _holds_images(entry.path):
            found.hidden_folders.append(name)
        elif is_image and not is_folder and not entry.name.startswith("._"):  # those are macOS's notes on a file
            found.hidden.append(name)
        return None
    if is_folder and entry.is_symlink() and _leads_back(entry.path, name):
        found.loops.append(name)
        return None
    if is_folder or is_image:
        return "folder" if is_folder else "image"
    found.strangers.append(name)
    return None


def _holds_images(folder: str) -> bool:
    """Whether an image lies anywhere below."""
    return any(_is_image(name) and not name.startswith("._") for _, _, names in os.walk(folder) for name in names)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder, or a link to one; a link that leads back to itself is none."""
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        return False


def _leads_back(link: str, name: str) -> bool:
    """Whether a link, `name` in the data set, leads to a folder above it, or to one that it was reached through by
    another link."""
    real, above = os.path.realpath(link), link
    for _ in PurePosixPath(name).parents:  # up to the data set's own folder, whose path may have any form
        above = os.path.dirname(above)
        if os.path.commonpath([real, os.path.realpath(above)]) == real:
            return True
    return False


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES)


def _folder_of(name: str) -> str:
    return name.rpartition("/")[0]


def _files(n: int) -> str:
    return f"{n:,} file is" if n == 1 else f"{n:,} files are"
