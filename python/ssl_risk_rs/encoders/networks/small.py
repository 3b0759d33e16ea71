"""Two small networks, for 8×8 digits and 28×28 grey images: demo and tests are real without a download."""

from torch import Tensor, nn

__all__ = ["SmallConvNet", "TinyConvNet"]


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
