"""The zoo's architectures: grey 28×28 images → representations of any dimension, at most 0.5 million weights.

All three end alike, so that the dimension can be varied without another network: the last feature map, or the mean of
the tokens, is mapped linearly to the dimension.
"""

import torch
from torch import Tensor, nn

__all__ = ["IMG_SIZE", "MEAN", "STD", "build_network"]

IMG_SIZE = 28
#: of Fashion-MNIST's training pixels in [0, 1]
MEAN, STD = 0.286, 0.353


def _conv(in_width: int, width: int, stride: int, kernel: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_width, width, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
    )


class ConvNet(nn.Module):
    """Three 3×3 convolutions, a 1×1 convolution to the dimension, and a global average pool."""

    def __init__(self, z_dim: int) -> None:
        super().__init__()
        self.body = nn.Sequential(_conv(1, 32, 2), _conv(32, 64, 2), _conv(64, 128, 1))
        self.expand = _conv(128, z_dim, 1, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        maps: Tensor = self.expand(self.body(x))
        return maps.mean((2, 3))


class Block(nn.Module):
    """Two 3×3 convolutions around a shortcut."""

    def __init__(self, in_width: int, width: int, stride: int) -> None:
        super().__init__()
        self.first = _conv(in_width, width, stride)
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))
        same = stride == 1 and in_width == width
        self.shortcut: nn.Module = (
            nn.Identity()
            if same
            else nn.Sequential(nn.Conv2d(in_width, width, 1, stride, bias=False), nn.BatchNorm2d(width))
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.second(self.first(x)) + self.shortcut(x))


class SmallResNet(nn.Module):
    """A stem of stride 2 and three residual blocks of 32, 64 and 128 channels. He et al. 2016."""

    def __init__(self, z_dim: int) -> None:
        super().__init__()
        self.stem = _conv(1, 32, 2)
        self.blocks = nn.Sequential(Block(32, 32, 1), Block(32, 64, 2), Block(64, 128, 2))
        self.expand = _conv(128, z_dim, 1, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        maps: Tensor = self.expand(self.blocks(self.stem(x)))
        return maps.mean((2, 3))


class SmallViT(nn.Module):
    """Four transformer blocks of width 96 on 4×4 patches; the mean of the tokens, then a linear layer.

    Dosovitskiy et al. 2021; blocks are timm's.
    """

    def __init__(self, z_dim: int) -> None:
        super().__init__()
        from timm.models.vision_transformer import VisionTransformer

        self.trunk = VisionTransformer(
            img_size=IMG_SIZE, patch_size=4, in_chans=1, embed_dim=96, depth=4, num_heads=3, mlp_ratio=2.0,
            num_classes=0, global_pool="avg", class_token=False,
        )  # fmt: skip
        self.project = nn.Linear(96, z_dim)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.project(self.trunk(x))
        return out


def build_network(architecture: str, z_dim: int, seed: int = 0) -> nn.Module:
    """Build an encoder with weights drawn from `seed`; float32 images (b, 1, 28, 28) → (b, z_dim).

    The global generator is untouched.
    """
    classes: dict[str, type[ConvNet | SmallResNet | SmallViT]] = {
        "convnet": ConvNet, "resnet": SmallResNet, "vit": SmallViT,
    }  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return classes[architecture](z_dim)
