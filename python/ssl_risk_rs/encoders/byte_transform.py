"""Transforms whose pixels stay bytes until they are on the device."""

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

__all__ = ["ByteTransform"]


@runtime_checkable
class ByteTransform(Protocol):
    """A transform in two steps: what is done to a picture, and what is done to whole batches, wherever they lie.

    Between them pixels are bytes, a quarter of what float32 images would have to travel to a device.
    """

    def pixels(self, image: "Image") -> "Tensor":
        """uint8 (h, w, c)"""

    def normalize(self, pixels: "Tensor") -> "Tensor":
        """uint8 (b, h, w, c) → float32 (b, c, h, w), on the same device: the values of the whole transform."""
