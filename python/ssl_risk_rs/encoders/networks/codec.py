"""CLIP's projected feature through a learned quantizer, as the lossless-prediction compressor of Dubois et al. 2021.

What a receiver decodes is the feature itself, moved to a grid: with z the projected feature, s and b a scale and a
shift for each dimension, and m the median of each dimension's prior,

    feature = (round((z + b) eˢ − m) + m) e⁻ˢ − b

The entropy coder between the two sides is lossless and is left out. The medians are read from the file, not learned
again. A last-bit difference of z next to the middle of two codes may flip one.
"""

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["ClipCompressor", "Quantizer"]


class Quantizer(nn.Module):
    """Moves each of `width` dimensions to its grid."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scaling = nn.Parameter(torch.zeros(width))
        self.biasing = nn.Parameter(torch.zeros(width))
        self.entropy_bottleneck = nn.Module()
        # (width, 1, 3): lower tail, median, upper tail of the prior
        self.entropy_bottleneck.quantiles = nn.Parameter(torch.zeros(width, 1, 3))

    def forward(self, z: Tensor) -> Tensor:
        quantiles: Any = self.entropy_bottleneck.quantiles
        median = quantiles[:, 0, 1]
        codes = torch.round((z + self.biasing) * torch.exp(self.scaling) - median)
        decoded: Tensor = (codes + median) * torch.exp(-self.scaling) - self.biasing
        return decoded


class ClipCompressor(nn.Module):
    """A CLIP tower with its projection (b, width), then the quantizer."""

    def __init__(self, tower: nn.Module, width: int) -> None:
        super().__init__()
        self.tower, self.quantizer = tower, Quantizer(width)

    @property
    def weight_parts(self) -> tuple[nn.Module, ...]:
        """What each file of weights fills, in the catalogue's order."""
        return self.tower, self.quantizer

    def forward(self, images: Tensor) -> Tensor:
        decoded: Tensor = self.quantizer(self.tower(images))
        return decoded
