"""PIL image → normalized float32 tensor, as an encoder's spec says."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from ssl_risk_rs.encoders.byte_transform import ByteTransform
from ssl_risk_rs.encoders.spec import EncoderSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL.Image import Image

__all__ = ["GridPixels", "InColour", "InColourBytes", "Preprocess", "ProcessorTransform", "in_colour"]


Floats: TypeAlias = Sequence[float] | Tensor


@dataclass(frozen=True)  # no slots: workers of a data loader unpickle it
class Preprocess(ByteTransform):
    """Resize the short side, crop the centre, scale to [0, 1], normalize, with torchvision."""

    spec: EncoderSpec

    def pixels(self, image: "Image") -> Tensor:
        """See `ByteTransform`."""
        from torchvision.transforms import InterpolationMode
        from torchvision.transforms import functional as F

        spec = self.spec
        image = image.convert("L" if spec.channels == 1 else "RGB")
        if spec.resize is not None and min(image.size) != spec.resize:
            image = F.resize(image, [spec.resize], InterpolationMode(spec.interpolation))
        if spec.img_size is not None and image.size != (spec.img_size, spec.img_size):
            image = F.center_crop(image, [spec.img_size, spec.img_size])
        return _as_bytes(image)

    def normalize(self, pixels: Tensor) -> Tensor:
        """See `ByteTransform`."""
        return _normalized(pixels, self.spec.mean, self.spec.std)


def _as_bytes(image: "Image") -> Tensor:
    """A picture's pixels, uint8 (h, w, c)."""
    pixels = np.array(image)
    return torch.from_numpy(pixels if pixels.ndim == 3 else pixels[:, :, None])


@lru_cache(maxsize=8)
def _constants(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """255, mean and deviation on a device, float32 (c, 1, 1); made once, since each copy would wait for the device.

    255 is a tensor too: by a number, CUDA multiplies with its reciprocal, which rounds differently.
    """
    most, centre, spread = (
        torch.tensor(values, dtype=torch.float32, device=device)[:, None, None] for values in ((255.0,), mean, std)
    )
    return most, centre, spread


def _normalized(pixels: Tensor, mean: "Floats", std: "Floats") -> Tensor:
    """What torchvision's `to_tensor` and `normalize` make of bytes (b, h, w, c), bit for bit: float32 (b, c, h, w)."""
    most, centre, spread = _constants(tuple(map(float, mean)), tuple(map(float, std)), pixels.device)
    return pixels.permute(0, 3, 1, 2).to(torch.float32).div_(most).sub_(centre).div_(spread)


@dataclass(frozen=True)
class InColour:
    """Another library's transform, given the colour mode it expects."""

    transform: "Callable[[Image], Tensor]"
    channels: int = 3

    def __call__(self, image: "Image") -> Tensor:
        return self.transform(self.coloured(image))

    def coloured(self, image: "Image") -> "Image":
        """The image in that mode."""
        return image.convert("L" if self.channels == 1 else "RGB")


@dataclass(frozen=True)
class InColourBytes(ByteTransform, InColour):
    """The same of a torchvision `Compose` of steps on pictures, `ToTensor` and `Normalize`; a `ByteTransform`."""

    def pixels(self, image: "Image") -> Tensor:
        """See `ByteTransform`."""
        *steps, _, _ = self.transform.transforms  # type: ignore[attr-defined]  # a `Compose`, as its class says
        image = self.coloured(image)
        for step in steps:
            image = step(image)
        return _as_bytes(image)

    def normalize(self, pixels: Tensor) -> Tensor:
        """See `ByteTransform`."""
        last = self.transform.transforms[-1]  # type: ignore[attr-defined]  # as above
        return _normalized(pixels, last.mean, last.std)


def in_colour(transform: "Callable[[Image], Tensor]", channels: int = 3) -> InColour:
    """Another library's transform, in two steps where it has the form that `InColourBytes` needs."""
    from PIL import Image as pil
    from torchvision.transforms import Compose, Normalize, ToTensor

    if isinstance(transform, Compose) and len(transform.transforms) >= 2:
        *steps, to_tensor, normalize = transform.transforms
        image: object = pil.new("L" if channels == 1 else "RGB", (64, 64))
        if isinstance(to_tensor, ToTensor) and isinstance(normalize, Normalize):
            for step in steps:
                image = step(image)
            if isinstance(image, pil.Image) and image.mode in ("L", "RGB"):
                return InColourBytes(transform, channels)
    return InColour(transform, channels)


@dataclass(frozen=True)
class ProcessorTransform:
    """An image processor of transformers, on one image."""

    transform: "Callable[..., Any]"

    def __call__(self, image: "Image") -> Tensor:
        prepared: Tensor = self.transform(image.convert("RGB"), return_tensors="pt")["pixel_values"][0]
        return prepared


@dataclass(frozen=True)
class GridPixels:
    """Mean pixel of each cell of a `grid` × `grid` division, in [0, 1], from images of any size."""

    grid: int
    channels: int

    def __call__(self, image: "Image") -> Tensor:
        from torchvision.transforms import functional as F

        pixels = F.to_tensor(image.convert("L" if self.channels == 1 else "RGB"))
        return torch.nn.functional.adaptive_avg_pool2d(pixels, self.grid)
