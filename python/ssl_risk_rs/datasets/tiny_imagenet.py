"""Tiny ImageNet as it is distributed: class folders of training images, and a table of the validation images."""

import os
from collections import Counter
from pathlib import Path

from ssl_risk_rs._identity import DataIdentity
from ssl_risk_rs.datasets.folder import FolderSource, FoundPart, Layout
from ssl_risk_rs.datasets.sources import some
from ssl_risk_rs.errors import DataError

__all__ = ["TinyImageNetSource"]

_TABLE = "val_annotations.txt"


class TinyImageNetSource(FolderSource):
    """`train/nXXXXXXXX/images/*.JPEG`, and `val/images/*.JPEG` whose classes `val/val_annotations.txt` tells.

    Validation images that were sorted into class folders are taken as they lie. `test/` has no labels.
    """

    scheme = "tinyimagenet"
    wanted = "the folder tiny-imagenet-200 with train/nXXXXXXXX/images/*.JPEG, val/images and val/val_annotations.txt"
    test_names = ("val",)
    flat = False

    def __init__(self, location: str) -> None:
        super().__init__(location)
        if self.layout != Layout():
            raise DataError(f"{self.scheme}:{location}: the layout is known, leave out {str(self.layout)[1:]}")
        self.name = self.scheme

    def identity(self) -> DataIdentity:
        return DataIdentity("Tiny ImageNet", "tiny-imagenet")

    def _other_parts(self) -> list[str]:
        return [name for name in super()._other_parts() if name != "test"]  # its images have no labels

    def _note_deeper_folders(self, parts: list[FoundPart]) -> None:
        """They are part of the layout."""

    def _read_part(self, part: str) -> FoundPart:
        found = super()._read_part(part)
        found.strangers.clear()  # boxes of objects, and the table
        if part == "train" or set(found.images) != {"images"}:
            return found
        table = self.root / part / _TABLE
        classes = _table(table)
        names = found.images.pop("images")
        images = {os.path.basename(name): name for name in names}
        if len(images) < len(names):
            raise DataError(f"{self.root / part} has {len(names) - len(images):,} images whose names others have")
        if without := sorted(images.keys() - classes.keys()):
            raise DataError(f"{table} tells no class of {len(without):,} images: {some(without)}; copy the files again")
        if gone := sorted(classes.keys() - images.keys()):
            raise DataError(
                f"{table} names {len(gone):,} images that are not there: {some(gone)}; copy the files again"
            )
        for name in sorted(images):
            found.images.setdefault(classes[name], []).append(images[name])
        return found


def _table(path: Path) -> dict[str, str]:
    """Class of each image by its file's name."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}); it tells the classes of val/images") from error
    rows = [line.split("\t") for line in lines if line.strip()]
    if any(len(row) < 2 for row in rows):
        raise DataError(f"{path} has lines without a class; copy the file again")
    if twice := [name for name, n in Counter(row[0] for row in rows).items() if n > 1]:
        raise DataError(f"{path} names {twice[0]} more than once; copy the file again")
    return {row[0]: row[1] for row in rows}
