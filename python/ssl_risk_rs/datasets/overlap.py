"""Test images that are training images: content decides, never a name.

Images that are files are compared by size, then by the hash of their last bytes, and only where both agree by the
hash of all of them: a file whose size occurs on one side only is not opened. Images that are no files of their own
are compared by the hash of what is stored, their pixels or, in a shard, their bytes, of which size and end are looked
at first. Equal bytes are found; the same scene saved twice is not.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

from ssl_risk_rs.datasets.sources import regular_file
from ssl_risk_rs.errors import DataError

if TYPE_CHECKING:
    from ssl_risk_rs.datasets.dataset import ImageDataset

__all__ = ["Overlap", "find_duplicates", "find_overlap"]

#: last bytes of a file that are looked at before all of it is: compressed pixels, where headers are alike
TAIL = 4096

#: threads that read files: they wait for the disk, not for a core
THREADS = 8

#: rows between two reports of progress
REPORT_EVERY = 4096


@dataclass(frozen=True, slots=True)
class Overlap:
    """Images whose content occurs among the training images.

    Attributes
    ----------
    n_test : how many test images are training images
    pairs : for each of them, in row order, the test row and the first training row with the same content
    n_repeated : how many training images are an earlier training image
    """

    n_test: int
    pairs: tuple[tuple[int, int], ...]
    n_repeated: int = 0

    def examples(self, dataset: "ImageDataset", show: int = 5) -> list[tuple[str, str]]:
        """Test image and training image of the first pairs, as `ImageDataset.where` names them."""
        return [(dataset.where(test), dataset.where(train)) for test, train in self.pairs[:show]]


def find_overlap(dataset: "ImageDataset", *, progress: Callable[[int], None] | None = None) -> Overlap:
    """Compare every image of a data set with every training image by content.

    `progress(rows)` is called now and then with the number of rows looked at.
    """
    is_test = (dataset.samples["split"] == "test").to_numpy()
    if not is_test.any() or is_test.all():
        return Overlap(0, ())

    def like_a_training_image(keys: dict[int, bytes]) -> set[bytes]:
        several = {key for key, count in Counter(keys.values()).items() if count > 1}
        return {key for row, key in keys.items() if not is_test[row] and key in several}

    train: dict[bytes, int] = {}
    repeated = 0
    keys = _keys(dataset, like_a_training_image, progress or (lambda _: None))
    for row, key in keys.items():
        if not is_test[row]:
            repeated += train.setdefault(key, row) != row
    found = tuple((row, train[key]) for row, key in keys.items() if is_test[row] and key in train)
    return Overlap(len(found), found, repeated)


def find_duplicates(dataset: "ImageDataset", *, progress: Callable[[int], None] | None = None) -> list[tuple[int, ...]]:
    """Rows with equal content, two or more each, of any part; in the order of the first of them.

    `progress` is that of `find_overlap`.
    """

    def repeated(keys: dict[int, bytes]) -> set[bytes]:
        return {key for key, count in Counter(keys.values()).items() if count > 1}

    rows: dict[bytes, list[int]] = {}
    for row, key in _keys(dataset, repeated, progress or (lambda _: None)).items():
        rows.setdefault(key, []).append(row)
    return [tuple(same) for same in rows.values()]


def _keys(
    dataset: "ImageDataset",
    wanted: Callable[[dict[int, bytes]], set[bytes]],
    tell: Callable[[int], None],
) -> dict[int, bytes]:
    """Row → what its content is told apart by, ascending, of the rows whose key is wanted.

    `wanted` is asked with what is known so far, which is less than the content: a row that it lets go is read no
    further.
    """

    def kept(keys: dict[int, bytes]) -> dict[int, bytes]:
        among = wanted(keys)
        return {row: key for row, key in keys.items() if key in among}

    if not isinstance(dataset.content(0), str):
        rows = _telling(range(len(dataset)), tell)
        if dataset.glance(0) is None:
            return kept({row: _hash_content(dataset, row) for row in rows})
        alike = kept({row: dataset.glance(row) or b"" for row in rows})
        return kept({row: _hash_content(dataset, row) for row in alike})
    n = len(dataset)
    paths = [str(dataset.content(row)) for row in range(n)]

    def looked(step: int, done: int, of: int) -> None:
        """Three looks at the files, each of fewer of them: all are told of as a third of the work."""
        tell(round(n * (step + done / of) / 3))

    sizes = [_size(paths[row]) for row in _telling(range(n), lambda done: looked(0, done, n))]
    keys = kept({row: b"%d" % size for row, size in enumerate(sizes) if size >= 0})
    known: dict[int, bytes] = {}
    for step, read in enumerate((_hash_tail, _hash_file), 1):
        with ThreadPoolExecutor(THREADS, thread_name_prefix="overlap") as pool:
            found = pool.map(read, [paths[row] for row in keys], chunksize=64)
            hashed = {}
            for i, ((row, key), more) in enumerate(zip(keys.items(), found, strict=True)):
                if more:
                    hashed[row] = key + more
                if i % REPORT_EVERY == 0:
                    looked(step, i, len(keys))
        keys = kept(hashed)
        if step == 1:  # of a short file the tail is all there is
            known = {row: key for row, key in keys.items() if sizes[row] <= TAIL}
            keys = {row: key for row, key in keys.items() if row not in known}
    tell(n)
    return dict(sorted({**known, **keys}.items()))


def _telling(rows: range, tell: Callable[[int], None]) -> Iterator[int]:
    for row in rows:
        if row and row % REPORT_EVERY == 0:
            tell(row)
        yield row
    tell(len(rows))


def _hash_content(dataset: "ImageDataset", row: int) -> bytes:
    content = dataset.content(row)
    assert isinstance(content, bytes)
    return blake2b(content, digest_size=16).digest()


def _size(path: str) -> int:
    """Bytes of a file; -1 for one that cannot be read, which is told when it is decoded."""
    try:
        return regular_file(path).st_size
    except (OSError, DataError):
        return -1


def _hash_tail(path: str) -> bytes:
    """Hash of the last bytes; b"" for a file that cannot be read."""
    try:
        with open(path, "rb", buffering=0) as file:
            file.seek(max(os.fstat(file.fileno()).st_size - TAIL, 0))
            return blake2b(file.read(TAIL), digest_size=16).digest()
    except OSError:
        return b""


def _hash_file(path: str) -> bytes:
    """Hash of all bytes; b"" for a file that cannot be read."""
    digest = blake2b(digest_size=16)
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError:
        return b""
    return digest.digest()
