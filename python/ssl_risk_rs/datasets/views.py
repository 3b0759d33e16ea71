"""Augmented views of an image, for statistics that ask how far views of one sample lie apart.

A view is a random square of the image, turned left to right every second time: the universal augmentation of Dubois et
al. (2023, a random resized crop and a flip) with the encoder's own preprocessing in the place of the resize. The square
covers 8 to 100 % of the largest one; theirs is of the whole image's area, and not quite square. It is drawn from the
sample id and the view's number, so that a view is the same in every run, in any order, on any machine.
"""

from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np

from ssl_risk_rs.datasets.sources import Picture
from ssl_risk_rs.errors import ParameterError

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["VIEWS_VERSION", "check_view", "view_of"]

#: rises when the same sample and number give another view: part of a bank's key
VIEWS_VERSION = 1
#: least share of the largest square's area that a view covers
LEAST_AREA = 0.08


def check_view(view: object) -> int:
    """A view's number.

    Raises
    ------
    ParameterError for anything but a whole number from 1.
    """
    if isinstance(view, bool) or not isinstance(view, int) or view < 1:
        raise ParameterError(f"view is {view!r}; give a whole number from 1, or None for images as they are")
    return view


def view_of(picture: Picture, sample_id: str, number: int) -> Picture:
    """View `number` (from 1) of a decoded image."""
    seed = blake2b(f"{number}\0{sample_id}".encode(errors="surrogateescape"), digest_size=16).digest()
    draws = np.random.default_rng(int.from_bytes(seed, "little")).random(4)
    return picture._replace(image=_square(picture.image, draws))


def _square(image: "Image.Image", draws: np.ndarray) -> "Image.Image":
    """Four uniform numbers: area, place from the left, place from the top, flip."""
    from PIL import Image

    width, height = image.size
    share = LEAST_AREA + (1 - LEAST_AREA) * draws[0]
    side = max(1, round(min(width, height) * float(np.sqrt(share))))
    left, top = (int(draw * (length - side + 1)) for draw, length in zip(draws[1:3], (width, height), strict=True))
    square = image.crop((left, top, left + side, top + side))
    return square.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if draws[3] < 0.5 else square
