"""Which images cannot be decoded, found once for each data set and kept in the store.

A bank's samples are written first and never change, and a bank is complete when each of its rows is there.
An image to be skipped must therefore be known before its bank exists: `skip_corrupt` decodes every image
once, ahead of the encoder, and remembers the result under the data's fingerprint, so that resumed runs and
further encoders do not decode them a second time.
"""

import json
import os
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

from ssl_risk_rs.extraction.decoding import CorruptImage, find_corrupt

if TYPE_CHECKING:
    from ssl_risk_rs.datasets import ImageDataset

__all__ = ["known_corrupt"]


def known_corrupt(
    dataset: "ImageDataset",
    folder: Path,
    *,
    workers: int,
    fingerprint: str,
    progress: Callable[[int], None] | None = None,
) -> list[CorruptImage]:
    """Images of the data set that cannot be decoded; decodes them all unless `folder` has the answer.

    `fingerprint` must be the data set's own: a changed file is looked at again.
    """
    name = blake2b(f"{fingerprint} {dataset.limit}".encode(), digest_size=16).hexdigest()
    path = folder / f"{name}.json"
    if path.exists():
        return [CorruptImage(**entry) for entry in json.loads(path.read_text())["corrupt"]]
    corrupt = find_corrupt(dataset, workers=workers, progress=progress)
    folder.mkdir(parents=True, exist_ok=True)
    found = {"data": dataset.uri, "rows": len(dataset), "corrupt": [image._asdict() for image in corrupt]}
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_text(json.dumps(found, indent=1))
    part.replace(path)
    return corrupt
