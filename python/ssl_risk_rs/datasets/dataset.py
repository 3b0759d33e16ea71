"""Images of a source as numbered rows."""

import os
from collections.abc import Collection
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ssl_risk_rs.datasets.limits import Limit
from ssl_risk_rs.datasets.sources import Source, text
from ssl_risk_rs.errors import DataError

if TYPE_CHECKING:
    import polars as pl
    from PIL import Image

__all__ = ["ImageDataset"]


class ImageDataset:
    """Rows 0 … n−1 of images with labels: the training rows first, then the test rows.

    Made by `create_dataset`. Pickles small (no pixels), so that decode workers can have it.

    Attributes
    ----------
    uri : str, what names it, with an absolute path
    name : str, short name for tables
    class_names : list of str; a label is an index into it
    limit : Limit or None
    samples : polars frame of shape (n, 5), see `samples`
    notes : list of str, sentences a user should read
    """

    def __init__(self, source: Source, *, limit: Limit | None = None, excluded: Collection[str] = ()) -> None:
        self.source = source
        self.limit = limit
        self.excluded = frozenset(excluded)
        self.name = source.name
        self.uri = f"{source.scheme}:{source.location}" if source.location else source.scheme

    def __len__(self) -> int:
        return len(self._positions)

    def __repr__(self) -> str:
        return f"<ImageDataset {self.uri}{f' limit {self.limit}' if self.limit else ''}>"

    @property
    def class_names(self) -> list[str]:
        return self.source.class_names()

    @property
    def notes(self) -> list[str]:
        notes = list(self.source.notes())
        if self.limit is not None:
            notes.append(self.limit.sentence())
        if self.excluded:
            notes.append(f"{len(self.excluded):,} images that cannot be decoded are left out")
        return notes

    @cached_property
    def _positions(self) -> np.ndarray:
        """Position in the source's listing of each row (int64)."""
        listing = self.source.listing()
        kept = np.arange(len(listing.label)) if self.limit is None else self.limit.select(listing)
        if self.excluded:
            ids = listing.sample_id[kept].tolist()
            kept = kept[np.array([text(s) not in self.excluded for s in ids], dtype=bool)]
        if len(kept) == 0:
            raise DataError(f"{self.uri} has no images that can be used")
        return kept

    @cached_property
    def samples(self) -> "pl.DataFrame":
        """One line for each row: row (u64), split ("train" or "test"), sample_id (str, independent of the
        order of the rows), label (i64), path (str, null where the image is no file of its own)."""
        import polars as pl

        listing, kept = self.source.listing(), self._positions
        n_train = int(np.searchsorted(kept, listing.n_train))
        paths = [None] * len(kept) if listing.path is None else map(text, listing.path[kept].tolist())
        return pl.DataFrame(
            {
                "row": np.arange(len(kept), dtype=np.uint64),
                "split": ["train"] * n_train + ["test"] * (len(kept) - n_train),
                "sample_id": [text(s) for s in listing.sample_id[kept].tolist()],
                "label": listing.label[kept],
                "path": list(paths),
            },
            schema_overrides={"path": pl.String, "label": pl.Int64},
        )

    def load(self, row: int) -> "Image.Image":
        """Decode one image, in the mode it is stored in.

        Raises whatever the decoder raises for a corrupt image (OSError, ValueError, SyntaxError …).
        """
        return self.source.load(int(self._positions[row]))

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
        return ImageDataset(self.source, limit=self.limit, excluded=self.excluded | set(sample_ids))

    def fingerprint(self, hash_content: bool = False) -> str:
        """Hash of the data's files, before any limit: their names (relative to the data's root), sizes and
        modification times, or with `hash_content` their names and contents, which survives a copy.

        Reads no image unless `hash_content`. 32 hexadecimal digits.
        """
        digest = blake2b(self.source.scheme.encode() + b"\n", digest_size=16)
        for file in sorted(self.source.files(), key=lambda file: os.fsencode(file.name)):
            stat = os.stat(file.path)
            mark = _content_hash(file.path) if hash_content else str(stat.st_mtime_ns)
            digest.update(f"{text(file.name)}\0{stat.st_size}\0{mark}\n".encode())
        return digest.hexdigest()

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "samples"}


def _content_hash(path: str | bytes | Path) -> str:
    digest = blake2b(digest_size=16)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
