"""PIL image → normalized float32 tensor, as an encoder's spec says."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ssl_risk_rs.encoders.spec import EncoderSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL.Image import Image

__all__ = ["GridPixels", "InColour", "Preprocess"]


@dataclass(frozen=True)  # no slots: workers of a data loader unpickle it
class Preprocess:
    """Resize the short side, crop the centre, scale to [0, 1], normalize, with torchvision."""

    spec: EncoderSpec

    def __call__(self, image: "Image") -> Tensor:
        from torchvision.transforms import InterpolationMode
        from torchvision.transforms import functional as F

        spec = self.spec
        image = image.convert("L" if spec.channels == 1 else "RGB")
        if spec.resize is not None and min(image.size) != spec.resize:
            image = F.resize(image, [spec.resize], InterpolationMode(spec.interpolation))
        if spec.img_size is not None and image.size != (spec.img_size, spec.img_size):
            image = F.center_crop(image, [spec.img_size, spec.img_size])
        normalized: Tensor = F.normalize(F.to_tensor(image), list(spec.mean), list(spec.std))
        return normalized


@dataclass(frozen=True)
class InColour:
    """Another library's transform, given the colour mode it expects."""

    transform: "Callable[[Image], Tensor]"
    channels: int = 3

    def __call__(self, image: "Image") -> Tensor:
        return self.transform(image.convert("L" if self.channels == 1 else "RGB"))


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
