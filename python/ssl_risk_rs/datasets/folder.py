"""Class folders of image files, and ImageNet in the same layout."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ssl_risk_rs.datasets.sources import DataFile, Listing, existing_folder
from ssl_risk_rs.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["FolderSource", "ImageNetSource"]

#: file name endings taken for images, in lower case
IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


class FolderSource:
    """`train/CLASS/…` and `test/CLASS/…` (or `val/`), any depth below the class folder.

    The classes are the sorted names of the class folders; both parts must have the same ones. Where there are
    both `test/` and `val/`, `test/` is used and a note says so. Names that begin with a dot are skipped;
    files that are no images by their ending are counted in a note.
    """

    scheme = "folder"
    wanted = "a folder with train/CLASS/*.jpg and test/CLASS/*.jpg (or val/)"
    test_names: tuple[str, ...] = ("test", "val")

    def __init__(self, location: str) -> None:
        self.root = existing_folder(location, self.scheme, self.wanted)
        self.location = str(self.root)
        self.name = self.root.name or self.scheme
        self._notes: list[str] = []
        self._loaded: tuple[list[str], Listing] | None = None
        present = [part for part in self.test_names if (self.root / part).is_dir()]
        if not (self.root / "train").is_dir() or not present:
            raise DataError(self._no_parts())
        self.parts = ("train", present[0])
        if len(present) > 1:
            self._notes.append(f"{self.root / present[1]} is not used: {present[0]}/ is the test part")

    def _no_parts(self) -> str:
        looked = f"{self.scheme}:{self.root} needs train/ and {' or '.join(p + '/' for p in self.test_names)}"
        found = sorted(entry.name for entry in self.root.iterdir() if not entry.name.startswith("."))
        inside = f"it holds {', '.join(found[:5])}{', …' if len(found) > 5 else ''}" if found else "it is empty"
        return f"{looked}; {inside}. Give {self.wanted}"

    def class_names(self) -> list[str]:
        return self._scan()[0]

    def listing(self) -> Listing:
        return self._scan()[1]

    def notes(self) -> list[str]:
        self._scan()
        return list(self._notes)

    def files(self) -> Iterator[DataFile]:
        listing = self.listing()
        assert listing.path is not None
        for name, path in zip(listing.sample_id.tolist(), listing.path.tolist(), strict=True):
            yield DataFile(name, path)

    def load(self, index: int) -> "Image.Image":
        from PIL import Image

        path = self.listing().path
        assert path is not None
        with Image.open(os.fsdecode(path[index])) as image:
            image.load()  # decode now: a truncated file must fail here, not in the transform
            return image

    def _scan(self) -> tuple[list[str], Listing]:
        if self._loaded is None:
            train, test = ({name: None for name in self._class_folders(part)} for part in self.parts)
            self._check_classes(sorted(train), sorted(test))
            names, ids, labels = sorted(train), [], []
            n_train, strangers = 0, []
            for part in self.parts:
                for label, name in enumerate(names):
                    images, others = _images(self.root, f"{part}/{name}")
                    if not images:
                        raise DataError(
                            f"{self.root / part / name} has no images ({', '.join(IMAGE_SUFFIXES)}); "
                            f"remove class {name!r} from both parts or add its images"
                        )
                    strangers += others
                    ids += images
                    labels += [label] * len(images)
                if part == "train":
                    n_train = len(ids)
            if strangers:
                self._notes.append(
                    f"{len(strangers):,} files are no images by their ending and are not used, "
                    f"for example {self.root / strangers[0]}"
                )
            sample_id = np.array([os.fsencode(name) for name in ids])
            root = os.fsencode(self.root) + b"/"
            path = np.char.add(np.array(root), sample_id)
            self._loaded = names, Listing(sample_id, np.array(labels, dtype=np.int64), n_train, path)
            self._check_listing(self._loaded[1])
        return self._loaded

    def _class_folders(self, part: str) -> list[str]:
        with os.scandir(self.root / part) as entries:
            return [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")]

    def _check_classes(self, train: list[str], test: list[str]) -> None:
        """Both parts must have the same, at least two, classes."""
        a, b = self.parts
        if not train or not test:
            empty = self.root / (b if train else a)
            raise DataError(f"{empty} has no class folders; give {self.wanted}")
        for have, miss, only in ((a, b, set(train) - set(test)), (b, a, set(test) - set(train))):
            if only:
                some = ", ".join(sorted(only)[:5]) + (", …" if len(only) > 5 else "")
                raise DataError(
                    f"{self.root}: {len(only)} class folders of {have}/ are missing in {miss}/ ({some}); "
                    "both parts need the same classes"
                )
        if len(train) < 2:
            raise DataError(f"{self.root} has one class ({train[0]}); a probe needs two or more")

    def _check_listing(self, listing: Listing) -> None:
        """A further look by a layout that knows what to expect."""


class ImageNetSource(FolderSource):
    """ILSVRC 2012 as torchvision lays it out: `train/nXXXXXXXX/*.JPEG` and `val/nXXXXXXXX/*.JPEG`.

    Labels are positions in the sorted WordNet ids, the usual ImageNet numbering when all 1,000 are there.
    """

    scheme = "imagenet"
    wanted = "the folder that holds train/nXXXXXXXX/*.JPEG and val/nXXXXXXXX/*.JPEG"
    test_names = ("val",)
    #: images of ILSVRC 2012: training, validation
    size = (1_281_167, 50_000)

    def __init__(self, location: str) -> None:
        super().__init__(location)
        self.name = "imagenet"

    def _no_parts(self) -> str:
        tars = sorted(path.name for path in self.root.glob("ILSVRC2012*.tar*"))
        if tars:
            return (
                f"imagenet:{self.root} holds {', '.join(tars)}, not yet extracted. Extract them once, with "
                'torchvision: python -c "from torchvision.datasets import ImageNet; '
                f"[ImageNet('{self.root}', s) for s in ('train', 'val')]\""
            )
        return super()._no_parts()

    def _check_classes(self, train: list[str], test: list[str]) -> None:
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
        super()._check_classes(train, test)
        wrong = [name for name in train if not re.fullmatch(r"n\d{8}", name)]
        if wrong:
            raise DataError(
                f"{self.root}: class folder {wrong[0]} is no WordNet id (n and eight digits); "
                f"for other images write folder:{self.root}"
            )

    def _check_listing(self, listing: Listing) -> None:
        found = (listing.n_train, len(listing.label) - listing.n_train)
        if found != self.size:
            full = f"{self.size[0]:,} + {self.size[1]:,}"
            self._notes.append(f"{found[0]:,} + {found[1]:,} images; the full ImageNet has {full}")


def _images(root: Path, folder: str) -> tuple[list[str], list[str]]:
    """Image files and other files below `root/folder`, each sorted, relative to root with `/`."""
    images, others, pending = [], [], [folder]
    while pending:
        here = pending.pop()
        with os.scandir(root / here) as entries:
            for entry in entries:
                name = f"{here}/{entry.name}"
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    pending.append(name)
                elif entry.name.lower().endswith(IMAGE_SUFFIXES):
                    images.append(name)
                else:
                    others.append(name)
    return sorted(images), sorted(others)
