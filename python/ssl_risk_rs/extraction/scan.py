"""What is found by looking at all of a data set's images, once, and kept in the store: corrupt ones, repeated ones.

A bank's samples are written first and never change, and a bank is complete when each of its rows is there.
An image to be skipped must therefore be known before its bank exists: `skip_corrupt` decodes every image
once, ahead of the encoder, and remembers the result under the data's fingerprint, so that resumed runs and
further encoders do not decode them a second time.
"""

import json
import shutil
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from ssl_risk_rs._files import publish
from ssl_risk_rs.bank.store import bank_key
from ssl_risk_rs.datasets import find_overlap
from ssl_risk_rs.extraction.decoding import CorruptImage, find_corrupt
from ssl_risk_rs.extraction.shard import Shard

if TYPE_CHECKING:
    from ssl_risk_rs.datasets import ImageDataset

__all__ = ["OverlapRecord", "known_corrupt", "known_overlap"]

#: rows after which what was found is written down: a minute or so of decoding
BLOCK_ROWS = 8192

#: rises when the same files give another answer
VERSION = 3


class OverlapRecord(TypedDict):
    """Images that are training images by content, as a bank's header has them."""

    test_images_in_train: int
    training_images_repeated: int
    examples: list[list[str]]  # [test image, equal training image]


def known_corrupt(
    dataset: "ImageDataset",
    folder: Path,
    *,
    workers: int,
    fingerprint: str,
    shard: Shard | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[CorruptImage]:
    """Images of the data set that cannot be decoded; decodes them all unless `folder` has the answer.

    Each block of rows is written down once it is decoded: a scan that was interrupted goes on, and shards that scan at
    the same time begin at different blocks and use each other's. `fingerprint` must be the data set's own: a changed
    file is looked at again.
    """
    path = _path(folder, "corrupt", dataset, fingerprint)
    blocks = path.with_suffix(".blocks")
    n = len(dataset)
    starts = list(range(0, n, BLOCK_ROWS))
    first = 0 if shard is None else shard.index * len(starts) // shard.count
    found: list[CorruptImage] = []
    done = 0
    for start in starts[first:] + starts[:first]:
        if (whole := _kept(path)) is not None:
            return _images(whole)
        rows = np.arange(start, min(start + BLOCK_ROWS, n), dtype=np.uint64)
        file = blocks / f"{start}-{start + len(rows)}.json"
        if (block := _kept(file)) is not None:
            found += _images(block)
        else:
            before = done
            report = None if progress is None else lambda rows, before=before: progress(before + rows)
            corrupt = find_corrupt(dataset, workers=workers, rows=rows, progress=report)
            _write(file, _found(dataset, corrupt))
            found += corrupt
        done += len(rows)
    found.sort()
    if _kept(path) is None:
        _write(path, _found(dataset, found))
        shutil.rmtree(blocks, ignore_errors=True)
    return found


def _found(dataset: "ImageDataset", corrupt: list[CorruptImage]) -> dict[str, object]:
    return {"data": dataset.uri, "rows": len(dataset), "corrupt": [image._asdict() for image in corrupt]}


def _images(found: dict[str, Any]) -> list[CorruptImage]:
    return [CorruptImage(**entry) for entry in found["corrupt"]]


def known_overlap(
    dataset: "ImageDataset", folder: Path, *, fingerprint: str, progress: Callable[[int], None] | None = None
) -> OverlapRecord:
    """Images of the data set whose content is a training image's, unless `folder` has the answer."""
    path = _path(folder, "overlap, repeats", dataset, fingerprint)
    if (kept := _kept(path)) is not None:
        found: OverlapRecord = kept["overlap"]
        return found
    overlap = find_overlap(dataset, progress=progress)
    examples = [list(pair) for pair in overlap.examples(dataset)]
    record = OverlapRecord(
        test_images_in_train=overlap.n_test, training_images_repeated=overlap.n_repeated, examples=examples
    )
    _write(path, {"data": dataset.uri, "rows": len(dataset), "overlap": record})
    return record


def _path(folder: Path, what: str, dataset: "ImageDataset", fingerprint: str) -> Path:
    excluded = "\n".join(sorted(dataset.excluded))
    asked = f"{VERSION} {what} {dataset.uri} {fingerprint} {dataset.limit} {dataset.group} {excluded}"
    return folder / f"{blake2b(asked.encode(), digest_size=16).hexdigest()}.json"


def _kept(path: Path) -> dict[str, Any] | None:
    """What an earlier scan has written; None where there is nothing, or not all of it: it is found again."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found if found.pop("digest") == bank_key(found) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _write(path: Path, found: dict[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**found, "digest": bank_key(found)}, indent=1, ensure_ascii=False)
    publish(path, lambda file: file.write_text(text, encoding="utf-8"))
