"""Random views of a whole batch at once, on the device that holds it: every image draws its own."""

import math

import torch
from networks import MEAN, STD
from recipes import ViewSettings
from torch import Tensor
from torch.nn import functional as F

__all__ = ["normalize", "random_views", "rotate"]


def normalize(pixels: Tensor) -> Tensor:
    """uint8 images (b, h, w) → float32 (b, 1, h, w), as the encoders see them."""
    return (pixels.float().unsqueeze(1) / 255 - MEAN) / STD


def random_views(pixels: Tensor, settings: ViewSettings, generator: torch.Generator) -> Tensor:
    """One random view of each image: crop and mirror by one interpolation, brightness, contrast, blur.

    Parameters
    ----------
    pixels : uint8 tensor of shape (b, h, w)
    settings : what is drawn
    generator : on the same device

    Returns
    -------
    float32 tensor of shape (b, 1, h, w), normalized.
    """
    b, device = len(pixels), pixels.device

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(b, *shape, generator=generator, device=device) * (high - low) + low

    view = pixels.float().unsqueeze(1) / 255
    area, log_ratio = uniform(*settings.area), uniform(-1, 1) * math.log(settings.ratio)
    width = torch.sqrt(area * torch.exp(log_ratio)).clamp(max=1)  # shares of the image's sides
    height = torch.sqrt(area * torch.exp(-log_ratio)).clamp(max=1)
    mirror = 1 - 2 * (uniform(0, 1) < settings.flip).float()
    theta = torch.zeros(b, 2, 3, device=device)
    theta[:, 0, 0], theta[:, 1, 1] = width * mirror, height
    theta[:, 0, 2] = uniform(-1, 1) * (1 - width)  # the crop lies anywhere inside the image
    theta[:, 1, 2] = uniform(-1, 1) * (1 - height)
    grid = F.affine_grid(theta, list(view.shape), align_corners=False)
    view = F.grid_sample(view, grid, align_corners=False, padding_mode="border")
    if settings.jitter:
        low, high = 1 - settings.jitter, 1 + settings.jitter
        view = view * uniform(low, high, 1, 1, 1)
        mean = view.mean((1, 2, 3), keepdim=True)
        view = ((view - mean) * uniform(low, high, 1, 1, 1) + mean).clamp(0, 1)
    if settings.blur:
        weights = torch.tensor([0.25, 0.5, 0.25], device=device)
        blurred = F.conv2d(view, torch.outer(weights, weights)[None, None], padding=1)
        amount = uniform(0, 1, 1, 1, 1) * (uniform(0, 1, 1, 1, 1) < settings.blur)
        view = torch.lerp(view, blurred, amount)
    return (view - MEAN) / STD


def rotate(images: Tensor, turns: Tensor) -> Tensor:
    """Turn each image (b, c, h, h) by its own number (b,) of right angles, 0 … 3."""
    turned = torch.stack([torch.rot90(images, k, (2, 3)) for k in range(4)])
    return turned[turns, torch.arange(len(images), device=images.device)]
