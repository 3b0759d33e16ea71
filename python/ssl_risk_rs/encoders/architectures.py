"""Architectures that timm does not have: ResNets with every width multiplied, and two small networks.

Each module maps float32 images (b, c, h, w) to representations (b, d) and has no head. The ResNets carry
torchvision's tensor names, which most published checkpoints use; at width 1 they equal torchvision's and
timm's. The two small networks are for 8×8 digits and 28×28 grey images: they make the demo
and the tests real without a download.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn

__all__ = ["ResNet", "SmallConvNet", "TinyConvNet", "build_architecture"]


class Bottleneck(nn.Module):
    """Residual block 1×1 → 3×3 → 1×1 whose output is four times as wide as its middle."""

    expansion = 4

    def __init__(self, in_width: int, width: int, stride: int) -> None:
        super().__init__()
        out_width = width * self.expansion
        self.conv1 = nn.Conv2d(in_width, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or in_width != out_width:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_width, out_width, 1, stride, bias=False), nn.BatchNorm2d(out_width)
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        out: Tensor = self.relu(self.bn3(self.conv3(y)) + shortcut)
        return out


class ResNet(nn.Module):
    """A bottleneck ResNet up to its global average pool, all widths (the stem's too) times `multiplier`.

    SwAV pads its images by 1 and the stem by 2, others pad the stem by 3: the same zeros.
    He et al. 2016; Caron et al. 2020 (wider networks).
    """

    def __init__(self, depths: tuple[int, int, int, int], multiplier: int = 1) -> None:
        super().__init__()
        base = 64 * multiplier
        self.conv1 = nn.Conv2d(3, base, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(base)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        in_width = base
        for stage, depth in enumerate(depths):
            width = base * 2**stage
            blocks: list[nn.Module] = []
            for index in range(depth):
                blocks.append(Bottleneck(in_width, width, stride=2 if index == 0 and stage > 0 else 1))
                in_width = width * Bottleneck.expansion
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.num_features = in_width
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def stages(self, x: Tensor) -> "OrderedDict[str, Tensor]":
        """Feature maps (b, width, h, w) after each of the four stages, by name."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        maps: OrderedDict[str, Tensor] = OrderedDict()
        for name in ("layer1", "layer2", "layer3", "layer4"):
            x = getattr(self, name)(x)
            maps[name] = x
        return maps

    def forward(self, x: Tensor) -> Tensor:
        return self.stages(x)["layer4"].mean((2, 3))


def _conv(in_width: int, width: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_width, width, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
    )


class TinyConvNet(nn.Module):
    """Grey 8×8 images → 16 features: two convolutions, then a linear layer on the 4×4 map.

    16 features for 10 classes: few enough that a linear probe does not separate some 1,400 training rows of
    whatever representation, which would leave usability unidentified.
    """

    num_features = 16

    def __init__(self) -> None:
        super().__init__()
        self.stem = _conv(1, 8, 1)
        self.body = _conv(8, 16, 2)
        self.project = nn.Linear(16 * 4 * 4, self.num_features)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.project(self.body(self.stem(x)).flatten(1))
        return out


class SmallConvNet(nn.Module):
    """Grey 28×28 images → 128 features: three convolutions and a global average pool, 93 thousand weights."""

    num_features = 128

    def __init__(self) -> None:
        super().__init__()
        self.stem = _conv(1, 32, 2)
        self.stage1 = _conv(32, 64, 2)
        self.stage2 = _conv(64, 128, 1)

    def forward(self, x: Tensor) -> Tensor:
        maps: Tensor = self.stage2(self.stage1(self.stem(x)))
        return maps.mean((2, 3))


def build_architecture(name: str, seed: int = 0) -> nn.Module:
    """Build one of our architectures with weights drawn from `seed`; the global generator is untouched.

    Raises
    ------
    KeyError if the name is not ours.
    """
    builders = {
        "resnet50": lambda: ResNet((3, 4, 6, 3)),
        "resnet50w2": lambda: ResNet((3, 4, 6, 3), 2),
        "resnet50w4": lambda: ResNet((3, 4, 6, 3), 4),
        "resnet101": lambda: ResNet((3, 4, 23, 3)),
        "small_convnet": SmallConvNet,
        "tiny_convnet": TinyConvNet,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return builders[name]()
