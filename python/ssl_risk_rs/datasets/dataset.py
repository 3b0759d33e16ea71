"""Images of a source as numbered rows."""

import os
from collections.abc import Collection
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ssl_risk_rs._identity import DataIdentity
from ssl_risk_rs._labels import check_test_classes
from ssl_risk_rs._splits import stratified_cut
from ssl_risk_rs.datasets.limits import Limit
from ssl_risk_rs.datasets.pixels import upright
from ssl_risk_rs.datasets.sources import GROUP, Glances, Listing, Picture, Source, regular_file, text
from ssl_risk_rs.datasets.split_file import SplitFile
from ssl_risk_rs.datasets.views import check_view, view_of
from ssl_risk_rs.errors import DataError

if TYPE_CHECKING:
    import polars as pl
    from PIL import Image

__all__ = ["ImageDataset"]

#: the part that is set aside for testing where neither the source nor a file tells which images are test images
TEST_SHARE, CUT_SEED = 0.2, 0


class ImageDataset:
    """Rows 0 … n−1 of images with labels: the training rows first, then the test rows.

    Made by `create_dataset`. Pickles small (no pixels), so that decode workers can have it.

    Attributes
    ----------
    uri : str, what names it, with an absolute path
    name : str, short name for tables
    class_names : list of str; a label is an index into it
    identity : DataIdentity, which published data these are, where the source tells
    split_file : SplitFile or None, the file that tells training from test images
    limit : Limit or None
    group : column of `samples` whose groups a limit, and a part that is set aside, keep whole, or None
    exif_orientation : whether images are turned as their EXIF data ask
    view : number of the augmented view that images are seen in (see `viewed`); None: as they are
    samples : polars frame of n rows, see `samples`
    notes : list of str, sentences a user should read
    """

    def __init__(
        self,
        source: Source,
        *,
        split_file: SplitFile | None = None,
        limit: Limit | None = None,
        group: str | None = None,
        excluded: Collection[str] = (),
        exif_orientation: bool = False,
        view: int | None = None,
    ) -> None:
        self.source = source
        self.split_file = split_file
        self.limit = limit
        self.group = group
        self.excluded = frozenset(excluded)
        self.exif_orientation = exif_orientation
        self.view = None if view is None else check_view(view)
        self.name = source.name
        self.uri = f"{source.scheme}:{source.location}" if source.location else source.scheme

    def __len__(self) -> int:
        return len(self._positions)

    def __repr__(self) -> str:
        limit, view = f" limit {self.limit}" if self.limit else "", f" view {self.view}" if self.view else ""
        return f"<ImageDataset {self.uri}{limit}{view}>"

    @property
    def class_names(self) -> list[str]:
        return self.source.class_names()

    @property
    def identity(self) -> DataIdentity:
        return self.source.identity()

    @property
    def notes(self) -> list[str]:
        notes = list(self.source.notes())
        if self.split_file is not None:
            listing, order = self._listing
            assert order is not None and listing.n_train is not None
            notes += self.split_file.notes(self.source.listing(), order, listing.n_train)
        elif self.source.listing().n_train is None:
            share = f"{TEST_SHARE:.0%} of each class"
            drawn = f"{share} in whole groups of {self._cut_group!r}" if self._cut_group else share
            notes.append(
                f"no test part in {self.uri}: {drawn}, drawn by sample id with seed {CUT_SEED}, is the test part "
                "(--split FILE gives another)"
            )
        if self.limit is not None:
            listing = self._listing[0]
            notes += self.limit.notes(listing, self._limited, self.class_names, self.group)
        if self.excluded:
            notes.append(f"{len(self.excluded):,} images that cannot be decoded are left out")
        return notes

    @property
    def drawing_group(self) -> str | None:
        """The column whose groups decide which images are drawn, by a limit or for the test part; None if none does."""
        if self.group is None:
            return None
        drawn = self.limit is not None or (self.split_file is None and self.source.listing().n_train is None)
        return self.group if drawn else None

    @property
    def _cut_group(self) -> str | None:
        """The column whose groups stay whole where a test part is set aside."""
        return self.group or (GROUP if GROUP in self.source.listing().columns else None)

    @cached_property
    def _listing(self) -> tuple[Listing, np.ndarray | None]:
        """Training images, then test images, and the position of each in the source's listing (None: the same)."""
        listing = self.source.listing()
        if self.group is not None and self.group not in listing.columns:
            has = f"it has {', '.join(listing.columns)}" if listing.columns else "it has none"
            raise DataError(
                f"{self.uri} has no column {self.group!r} of groups; {has}. Class folders give one with "
                "folder:PATH?group=parent, an .npz file with arrays groups_train and groups_test, a manifest with a "
                "column of that name"
            )
        order, arranged = None, listing
        if self.split_file is not None:
            order, n_train = self.split_file.order(listing)
            arranged = listing.taken(order, n_train)
        elif listing.n_train is None:
            ids = [text(s) for s in listing.sample_id.tolist()]
            groups = None if self._cut_group is None else listing.columns[self._cut_group].tolist()
            test = stratified_cut(listing.label, ids, share=TEST_SHARE, seed=CUT_SEED, groups=groups)
            order = np.argsort(test, kind="stable")
            arranged = listing.taken(order, int((~test).sum()))
        train, rest = arranged.parts()
        check_test_classes(
            arranged.label[train], arranged.label[rest], self.class_names, f"{self.uri}: the test labels"
        )
        return arranged, order

    @cached_property
    def _limited(self) -> np.ndarray:
        """Positions in `_listing` that the limit keeps (int64)."""
        listing = self._listing[0]
        return np.arange(len(listing.label)) if self.limit is None else self.limit.select(listing, self.group)

    @cached_property
    def _kept(self) -> np.ndarray:
        """Position in `_listing` of each row (int64)."""
        listing, kept = self._listing[0], self._limited
        if self.excluded:
            ids = listing.sample_id[kept].tolist()
            kept = kept[np.array([text(s) not in self.excluded for s in ids], dtype=bool)]
        if len(kept) == 0:
            raise DataError(f"{self.uri} has no images that can be used")
        return kept

    @cached_property
    def _positions(self) -> np.ndarray:
        """Position in the source's listing of each row (int64)."""
        order = self._listing[1]
        return self._kept if order is None else order[self._kept]

    @cached_property
    def samples(self) -> "pl.DataFrame":
        """One line for each row: row (u64), split ("train" or "test"), sample_id (str, independent of the
        order of the rows), label (i64), path (str, null where the image is no file of its own), and the source's
        further columns (str or i64), such as `group`."""
        import polars as pl

        listing, kept = self._listing[0], self._kept
        n_train = int(np.searchsorted(kept, listing.parts()[1].start))
        paths = [None] * len(kept) if listing.path is None else map(text, listing.path[kept].tolist())
        frame = pl.DataFrame(
            {
                "row": np.arange(len(kept), dtype=np.uint64),
                "split": ["train"] * n_train + ["test"] * (len(kept) - n_train),
                "sample_id": [text(s) for s in listing.sample_id[kept].tolist()],
                "label": listing.label[kept],
                "path": list(paths),
            },
            schema_overrides={"path": pl.String, "label": pl.Int64},
        )
        return frame.with_columns(pl.Series(name, values[kept].tolist()) for name, values in listing.columns.items())

    def load(self, row: int) -> "Image.Image":
        """Decode one image, in an 8-bit mode.

        Raises whatever the decoder raises for a corrupt image (DataError, OSError, ValueError, SyntaxError …).
        """
        return self.picture(row).image

    def picture(self, row: int) -> Picture:
        """Decode one image, in its view if there is one, and the orientation EXIF data ask for, applied if told to."""
        picture = self.source.load(int(self._positions[row]))
        picture = upright(picture) if self.exif_orientation else picture
        return picture if self.view is None else view_of(picture, self.sample_id(row), self.view)

    def content(self, row: int) -> bytes | str:
        """What tells whether two rows are the same image: the path of its file, or what is stored where it has none."""
        listing, at = self.source.listing(), int(self._positions[row])
        return self.source.content(at) if listing.path is None else os.fsdecode(listing.path[at])

    def glance(self, row: int) -> bytes | None:
        """A few bytes that are equal where `content` is, from a source that can give them at little cost; else None."""
        return self.source.glance(int(self._positions[row])) if isinstance(self.source, Glances) else None

    def where(self, row: int) -> str:
        """File, or data set and sample id, of a row: for messages."""
        listing, at = self.source.listing(), int(self._positions[row])
        if listing.path is not None:
            return text(listing.path[at])
        return f"{self.uri} image {text(listing.sample_id[at])}"

    def sample_id(self, row: int) -> str:
        """Sample id of a row, as in `samples`."""
        return text(self.source.listing().sample_id[self._positions[row]])

    def without(self, sample_ids: Collection[str]) -> "ImageDataset":
        """The same data set with these samples left out; the rows are numbered anew."""
        return self._changed(excluded=self.excluded | set(sample_ids))

    def oriented(self, exif_orientation: bool) -> "ImageDataset":
        """The same data set, its images turned as their EXIF data ask, or not."""
        return self if exif_orientation == self.exif_orientation else self._changed(exif_orientation=exif_orientation)

    def unlimited(self) -> "ImageDataset":
        """The same data set with all its images."""
        return self if self.limit is None else self._changed(limited=False)

    def viewed(self, view: int) -> "ImageDataset":
        """The same data set, its images seen in augmented view 1, 2, …: see `datasets.views`."""
        return self._changed(view=view)

    def _changed(
        self,
        *,
        excluded: Collection[str] | None = None,
        exif_orientation: bool | None = None,
        view: int | None = None,
        limited: bool = True,
    ) -> "ImageDataset":
        return ImageDataset(
            self.source,
            split_file=self.split_file,
            limit=self.limit if limited else None,
            group=self.group,
            excluded=self.excluded if excluded is None else excluded,
            exif_orientation=self.exif_orientation if exif_orientation is None else exif_orientation,
            view=self.view if view is None else view,
        )

    def fingerprint(self, hash_content: bool = False) -> str:
        """Hash of the data's files, before any limit: their names (relative to the data's root), sizes and
        modification times, or with `hash_content` their names and contents, which survives a copy. A file that
        cannot be read (a link that leads nowhere, a named pipe) counts as that: it is told when it is decoded.

        Reads no image unless `hash_content`. 32 hexadecimal digits.
        """
        digest = blake2b(self.source.scheme.encode() + b"\n", digest_size=16)
        split = [] if self.split_file is None else [self.split_file.file]
        for file in sorted([*self.source.files(), *split], key=lambda file: os.fsencode(file.name)):
            if file.mark is not None:
                digest.update(f"{text(file.name)}\0{file.mark}\n".encode())
                continue
            try:
                stat = regular_file(file.path)
                mark = _content_hash(file.path) if hash_content else str(stat.st_mtime_ns)
                facts = f"{stat.st_size}\0{mark}"
            except OSError as error:
                facts = f"unreadable\0{error.errno}"
            except DataError:
                facts = "unreadable"
            digest.update(f"{text(file.name)}\0{facts}\n".encode())
        return digest.hexdigest()

    def __getstate__(self) -> dict[str, object]:
        self._positions  # noqa: B018  # what a decode worker asks for; the rest it can do without
        return {key: value for key, value in self.__dict__.items() if key not in _REMADE}


#: what a copy in another process makes anew if it is ever asked for
_REMADE = ("samples", "_listing", "_limited", "_kept")


def _content_hash(path: str | bytes | Path) -> str:
    digest = blake2b(digest_size=16)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
