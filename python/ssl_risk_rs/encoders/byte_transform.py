"""Transforms whose pixels stay bytes until they are on the device."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

__all__ = ["ByteTransform", "in_two_steps"]


class ByteTransform(ABC):
    """A transform in two steps: what is done to a picture, and what is done to whole batches, wherever they lie.

    Between them pixels are bytes, a quarter of what float32 images would have to travel to a device.
    """

    def __call__(self, image: "Image") -> "Tensor":
        return self.normalize(self.pixels(image)[None])[0].contiguous()

    @abstractmethod
    def pixels(self, image: "Image") -> "Tensor":
        """uint8 (h, w, c)"""

    @abstractmethod
    def normalize(self, pixels: "Tensor") -> "Tensor":
        """uint8 (b, h, w, c) → float32 (b, c, h, w), on the same device: the values of the whole transform."""


def in_two_steps(transform: object) -> ByteTransform | None:
    """A transform that may be taken in two steps; None for any other, and for one that changes what both make."""
    if isinstance(transform, ByteTransform) and type(transform).__call__ is ByteTransform.__call__:
        return transform
    return None
