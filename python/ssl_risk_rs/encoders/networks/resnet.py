"""Bottleneck ResNets: every width multiplied, padded as TensorFlow pads, widened before the pool.

Maps float32 images (b, 3, h, w) to representations (b, d), without a head. Tensors have torchvision's names, which
most published checkpoints use; at width 1 and with padding on both sides the networks equal torchvision's and timm's.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

__all__ = ["Padding", "ResNet", "ResNetOptions"]

#: "both": zeros on both sides, as torch pads; "same": to ceil(n / stride) outputs, the extra zero at the end, as
#: TensorFlow and JAX pad
Padding = Literal["both", "same"]


@dataclass(frozen=True, slots=True)
class ResNetOptions:
    """What may differ from the plain network.

    Attributes
    ----------
    padding : how convolutions and the max pool pad
    expand : width of the representation after one more block before the pool; None for no such block
    """

    padding: Padding = "both"
    expand: int | None = None


#: channels of the stem at width 1; the stages have 4, 8, 16 and 32 times as many
STEM_WIDTH = 64


def _end_heavy(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Zeros around (b, c, h, w) for ceil(n / stride) outputs; an odd one goes to the end."""
    needed = [max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in x.shape[-2:]]
    rows, columns = needed
    return nn.functional.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))


class SameConv2d(nn.Conv2d):
    """A square convolution that pads as TensorFlow does."""

    def forward(self, x: Tensor) -> Tensor:
        x = _end_heavy(x, self.kernel_size[0], self.stride[0])
        return nn.functional.conv2d(x, self.weight, self.bias, self.stride)


class SameMaxPool2d(nn.MaxPool2d):
    """A square max pool that pads as TensorFlow does; zeros are neutral behind a ReLU."""

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size, self.stride
        assert isinstance(kernel, int) and isinstance(stride, int)  # as it is built below
        return nn.functional.max_pool2d(_end_heavy(x, kernel, stride), kernel, stride)


def _convolution(in_width: int, width: int, kernel: int, stride: int, padding: Padding) -> nn.Conv2d:
    if padding == "same":
        return SameConv2d(in_width, width, kernel, stride, bias=False)
    return nn.Conv2d(in_width, width, kernel, stride, padding=kernel // 2, bias=False)


class Bottleneck(nn.Module):
    """Residual block 1×1 → 3×3 → 1×1 whose output is four times as wide as its middle."""

    expansion = 4

    def __init__(self, in_width: int, width: int, stride: int, padding: Padding) -> None:
        super().__init__()
        out_width = width * self.expansion
        self.conv1 = _convolution(in_width, width, 1, 1, padding)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _convolution(width, width, 3, stride, padding)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = _convolution(width, out_width, 1, 1, padding)
        self.bn3 = nn.BatchNorm2d(out_width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or in_width != out_width:
            self.downsample = nn.Sequential(
                _convolution(in_width, out_width, 1, stride, padding), nn.BatchNorm2d(out_width)
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        out: Tensor = self.relu(self.bn3(self.conv3(y)) + shortcut)
        return out


class ExpandingBlock(nn.Module):
    """Residual block 1×1 → 3×3 → 1×1 that widens a map; its shortcut is the map, repeated along the channels.

    Dubois et al. 2022 (DISSL), for representations of more dimensions than the trunk has.
    """

    def __init__(self, in_width: int, out_width: int, padding: Padding) -> None:
        super().__init__()
        if out_width % in_width:
            raise ValueError(f"expand is a multiple of {in_width}, the width of the trunk, not {out_width}")
        self.repeats = out_width // in_width
        hidden = in_width // 4  # 512 of 2048
        self.conv1 = _convolution(in_width, hidden, 1, 1, padding)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.conv2 = _convolution(hidden, hidden, 3, 1, padding)
        self.bn2 = nn.BatchNorm2d(hidden)
        self.conv3 = _convolution(hidden, out_width, 1, 1, padding)
        self.bn3 = nn.BatchNorm2d(out_width)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        out: Tensor = self.relu(self.bn3(self.conv3(y)) + x.repeat(1, self.repeats, 1, 1))
        return out


class ResNet(nn.Module):
    """A bottleneck ResNet up to its global average pool, all widths (the stem's too) times `multiplier`.

    SwAV pads its images by 1 and the stem by 2, others pad the stem by 3: the same zeros.
    He et al. 2016; Caron et al. 2020 (wider networks).
    """

    def __init__(
        self, depths: tuple[int, int, int, int], multiplier: int = 1, options: ResNetOptions | None = None
    ) -> None:
        super().__init__()
        options = options or ResNetOptions()
        padding = options.padding
        base = STEM_WIDTH * multiplier
        self.conv1 = _convolution(3, base, 7, 2, padding)
        self.bn1 = nn.BatchNorm2d(base)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = SameMaxPool2d(3, stride=2) if padding == "same" else nn.MaxPool2d(3, stride=2, padding=1)
        in_width = base
        for stage, depth in enumerate(depths):
            width = base * 2**stage
            blocks: list[nn.Module] = []
            for index in range(depth):
                blocks.append(Bottleneck(in_width, width, 2 if index == 0 and stage > 0 else 1, padding))
                in_width = width * Bottleneck.expansion
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.resizer = ExpandingBlock(in_width, options.expand, padding) if options.expand else None
        self.num_features = options.expand or in_width
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

    def pooled(self, last: Tensor) -> Tensor:
        """The representation (b, d) from the last stage's map."""
        return (last if self.resizer is None else self.resizer(last)).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.pooled(self.stages(x)["layer4"])
