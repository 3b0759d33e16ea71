"""`--split FILE`: which images of a source are training images, and which are test images."""

import os
import re
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np

from ssl_risk_rs._names import counted
from ssl_risk_rs._tables import CSV_SUFFIXES, PARQUET_SUFFIXES, find_column, read_table, text_column
from ssl_risk_rs.datasets.parts import TEST_NAMES, TRAIN_NAMES, chosen_parts
from ssl_risk_rs.datasets.sources import DataFile, Listing, existing_file, some, text
from ssl_risk_rs.errors import DataError

__all__ = ["SplitFile"]

WANTED = (
    "a csv, tsv or parquet file with columns sample_id (or path) and split (train, test or val), or a .txt file with "
    "the id of a test image on each line"
)

#: columns that name an image, in the order in which they are looked for
IDS = ("sample_id", "id", "path", "file", "filename", "file_name", "image")

#: a line of a text file that holds both
_ID_AND_PART = re.compile(
    rf"(.*\S)[\s,]\s*({'|'.join((*TRAIN_NAMES, *(name for names in TEST_NAMES for name in names)))})", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class SplitFile:
    """Ids or paths of images, each with its part.

    path : the file
    ids : sample ids as `samples` has them, or paths: absolute, or relative to the file's folder
    test : bool array, whether each of them is a test image
    lists_test_only : the file names test images; all others are training images
    unused : how many lines name images of a further part (val beside test)
    """

    path: Path
    ids: tuple[str, ...]
    test: np.ndarray
    lists_test_only: bool
    unused: int = 0

    @classmethod
    def read(cls, location: "str | os.PathLike[str]") -> "SplitFile":
        """Read such a file; DataError if it is none, or puts an image on both sides."""
        path = existing_file(os.fspath(location), "--split", WANTED)
        suffix = path.suffix.lower()
        if suffix == ".txt":
            ids, parts = _lines(path)
        elif suffix in CSV_SUFFIXES + PARQUET_SUFFIXES:
            ids, parts = _columns(path)
        else:
            raise DataError(f"{path} ends in {suffix or 'nothing'}; give {WANTED}")
        if not ids:
            raise DataError(f"{path} names no image; give {WANTED}")
        if parts is None:
            return cls(path, tuple(dict.fromkeys(ids)), np.ones(len(set(ids)), bool), True)
        used, test = chosen_parts(parts, str(path))
        side: dict[str, bool] = {}
        both: list[str] = []
        for name, is_test in zip([ids[i] for i in used], test.tolist(), strict=True):
            if side.setdefault(name, is_test) != is_test:
                both.append(name)
        if both:
            raise DataError(
                f"{path} puts {counted(len(both), 'image')} on both sides, train and test: {some(both)}; "
                "keep each on one"
            )
        return cls(path, tuple(side), np.array(list(side.values())), False, len(ids) - len(used))

    @property
    def file(self) -> DataFile:
        """The file, pinned by its content."""
        facts = "\n".join(f"{name}\0{int(test)}" for name, test in sorted(zip(self.ids, self.test, strict=True)))
        mark = blake2b(f"{self.lists_test_only}\n{facts}".encode(), digest_size=16).hexdigest()
        return DataFile("\0split", self.path, mark)

    def order(self, listing: Listing) -> tuple[np.ndarray, int]:
        """Positions in the listing of the training and then of the test images, and how many are training images.

        Raises
        ------
        DataError for ids that are none of the listing's.
        """
        found = self._positions(listing)
        side = np.full(len(listing.label), 0 if self.lists_test_only else -1, np.int8)
        twice = np.bincount(found, minlength=len(side)) > 1
        if twice.any():
            raise DataError(
                f"{self.path} names {counted(int(twice.sum()), 'image')} twice, by id and by path, for example "
                f"{text(listing.sample_id[int(twice.argmax())])}; name each once"
            )
        side[found] = self.test
        train, test = np.flatnonzero(side == 0), np.flatnonzero(side == 1)
        if not len(train) or not len(test):
            raise DataError(
                f"{self.path} leaves no {'test' if len(train) else 'training'} image: {len(train):,} training and "
                f"{len(test):,} test images of {len(side):,}; both parts need some"
            )
        return np.concatenate([train, test]), len(train)

    def notes(self, listing: Listing, order: np.ndarray, n_train: int) -> list[str]:
        """Where the parts come from, and how many images they leave out, given the result of `order`."""
        sides = f"{n_train:,} training and {len(order) - n_train:,} test images"
        rest = " (those it does not name are training images)" if self.lists_test_only else ""
        notes = [f"the parts are those of {self.path}: {sides}{rest}"]
        left = np.setdiff1d(np.arange(len(listing.label)), order)
        if len(left):
            examples = some([text(s) for s in listing.sample_id[left[:6]].tolist()])
            notes.append(f"{self.path} leaves {counted(len(left), 'image')} out, which it does not name: {examples}")
        if self.unused:
            notes.append(
                f"{self.path} has {counted(self.unused, 'line')} of the part val, which is not used beside test"
            )
        return notes

    def _positions(self, listing: Listing) -> np.ndarray:
        """Position in the listing of each id."""
        known = {text(s): i for i, s in enumerate(listing.sample_id.tolist())}
        found = [known.get(name, -1) for name in self.ids]
        unknown = [i for i, at in enumerate(found) if at < 0]
        if unknown and listing.path is not None:
            paths = {text(p): i for i, p in enumerate(listing.path.tolist())}
            for i in unknown:  # an absolute path stands for itself
                found[i] = paths.get(os.path.normpath(os.path.join(self.path.parent, self.ids[i])), -1)
            unknown = [i for i in unknown if found[i] < 0]
        if unknown:
            raise DataError(
                f"{self.path} names {counted(len(unknown), 'image')} ({len(self.ids):,} in all) that these data do "
                f"not have: {some([self.ids[i] for i in unknown])}. The data have, for example, "
                f"{some([text(s) for s in listing.sample_id[:2].tolist()])}; name images by sample id, or by path "
                "from the folder of the file"
            )
        return np.array(found, np.int64)


def _lines(path: Path) -> tuple[list[str], list[str | None] | None]:
    """Ids, one a line; and parts, where each line ends in one (`ID train`)."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is no UTF-8 text ({error.reason} at byte {error.start}); convert it with iconv"
        ) from None
    ids = [line.strip() for line in lines if line.strip()]
    pairs = [_ID_AND_PART.fullmatch(line) for line in ids]
    if ids and all(pairs):
        return [pair[1] for pair in pairs if pair], [pair[2] for pair in pairs if pair]
    return ids, None


def _columns(path: Path) -> tuple[list[str], list[str | None] | None]:
    frame = read_table(path)
    name, split = find_column(frame.columns, IDS, path), find_column(frame.columns, ("split",), path)
    if name is None:
        raise DataError(f"{path} has no column {', '.join(IDS)}; it has {', '.join(frame.columns)}. Give {WANTED}")
    ids = text_column(frame[name], f"{path}: column {name!r}")
    if ids.null_count():
        raise DataError(
            f"{path} has {counted(ids.null_count(), 'row')} without {name}, the first is row "
            f"{int(ids.is_null().arg_max() or 0)}; remove them"
        )
    if split is not None:
        return ids.to_list(), text_column(frame[split], f"{path}: column {split!r}").to_list()
    if frame.width > 1:
        raise DataError(f"{path} has no column split; it has {', '.join(frame.columns)}. Give {WANTED}")
    return ids.to_list(), None
