"""Golden vectors: eight images made by code, and the features that an encoder gave them at first, kept in the cache.

A changed file of weights, library, preprocessing or processor shows as another vector, whatever its version says.
"""

import json
from dataclasses import asdict, dataclass, field
from hashlib import blake2b, sha256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ssl_risk_rs._files import cache_folder, publish
from ssl_risk_rs.errors import EncoderError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from PIL.Image import Image

__all__ = [
    "IMAGES_DIGEST",
    "GoldenFacts",
    "golden_images",
    "golden_path",
    "images_digest",
    "read_golden",
    "write_golden",
]

#: blake2b of the images' pixels: another numpy or Pillow must draw the same ones
IMAGES_DIGEST = "d65b9b5f144fa08cc710930c8b4515bc"
_HEIGHT, _WIDTH = 288, 352


@dataclass(frozen=True, slots=True)
class GoldenFacts:
    """What stands beside stored features: of which encoder, images and tensors they are, and when they were made."""

    name: str
    weights_hash: str
    code_hash: str | None
    images: str
    pixels: str
    date: str
    versions: "Mapping[str, str]" = field(default_factory=dict)


def golden_images() -> "list[Image]":
    """Eight images of 352 × 288 pixels from whole numbers alone: ramps, a board, rings, stripes, noise, blocks, grey,
    a disc."""
    from PIL import Image as pil

    y, x = np.mgrid[:_HEIGHT, :_WIDTH].astype(np.int64)
    distance = (x - _WIDTH // 2) ** 2 + (y - _HEIGHT // 2) ** 2
    # a linear congruential generator's bits: no library's random numbers, which may change
    noise = ((x * 1103515245 + y * 12345 + x * y * 69069 + 907633385) >> 8) & 255
    blocks = ((x // 32) * 7 + (y // 32) * 13) * 29 % 256
    planes = [
        (x * 255 // (_WIDTH - 1), y * 255 // (_HEIGHT - 1), (x + y) % 256),
        ((x // 16 + y // 16) % 2 * 255, (x // 8 + y // 8) % 2 * 200, x * 0 + 60),
        (distance // 128 % 256, distance // 64 % 256, 255 - distance // 256 % 256),
        ((x % 24 < 12) * 220, (y % 24 < 12) * 220, ((x + y) % 24 < 12) * 220),
        (noise, noise[::-1], noise[:, ::-1]),
        (blocks, blocks * 3 % 256, blocks * 5 % 256),
        (x * 0 + 127, y * 0 + 127, x * 0 + 127),
        ((distance < 9000) * 230 + 10, (distance < 4000) * 120 + 60, x * 255 // (_WIDTH - 1)),
    ]
    return [pil.fromarray(np.stack(plane, -1).astype(np.uint8)) for plane in planes]


def images_digest() -> str:
    """Hash of the golden images' pixels."""
    digest = blake2b(digest_size=16)
    for image in golden_images():
        digest.update(np.asarray(image).tobytes())
    return digest.hexdigest()


def golden_path(name: str) -> Path:
    """Where the golden vectors of an encoder lie, or would lie."""
    readable = "".join(c if c.isalnum() or c in "-_." else "_" for c in name)[:60]
    return cache_folder() / "golden" / f"{readable}--{sha256(name.encode()).hexdigest()[:12]}.npz"


def read_golden(path: Path) -> "tuple[GoldenFacts, dict[str, np.ndarray]] | None":
    """Stored facts and features (8, d) by name; None where none are stored.

    Raises
    ------
    EncoderError for a damaged file.
    """
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as archive:
            features = {name.removeprefix("x:"): archive[name] for name in archive.files if name.startswith("x:")}
            facts = GoldenFacts(**json.loads(str(archive["facts"])))
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise EncoderError(f"{path} is damaged ({error}); delete it to have golden vectors stored anew") from error
    return facts, features


def write_golden(path: Path, facts: GoldenFacts, features: "Mapping[str, np.ndarray]") -> None:
    """Store facts and features; the file appears whole or not at all."""
    arrays = {f"x:{name}": values.astype(np.float32) for name, values in features.items()}

    def write(target: Path) -> None:
        with target.open("wb") as file:
            written = np.array(json.dumps(asdict(facts)))
            np.savez(file, facts=written, **arrays)  # type: ignore[arg-type]  # the names are arrays, no option

    path.parent.mkdir(parents=True, exist_ok=True)
    publish(path, write)
