"""Products of float32 factors on a device of torch: whole, rounded to TF32, or whole by three products of rounded ones.

A GPU multiplies factors rounded to TF32 (11 bits) eight times as fast as whole ones. A factor is the sum of its first
11 bits and of the rest; three products of such parts leave out 2⁻²² of each term, as much as float32 sums of a thousand
terms lose:

    a b ≈ a₁ b₁ + a₁ b₂ + a₂ b₁            a = a₁ + a₂, b = b₁ + b₂
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch

__all__ = ["Mode", "Parts", "Products", "exact_mode", "full_float32", "has_tf32"]

#: of factors: as they are, rounded, or in two parts
Mode: TypeAlias = Literal["float32", "tf32", "3xtf32"]
#: a matrix, or its first bits and the rest
Parts: TypeAlias = "tuple[torch.Tensor, ...]"

#: the first 11 bits of a float32's 24
FIRST_BITS = -(1 << 13)


@contextmanager
def full_float32(*, rounded: bool = False) -> Iterator[None]:
    """Products of float32 factors: whole, or rounded to TF32. What the user had set comes back at the end."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if rounded else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def has_tf32(device: "torch.device") -> bool:
    """Whether products of factors rounded to TF32 are faster there."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 8


def exact_mode(device: "torch.device") -> Mode:
    """How a device takes products that decide."""
    return "3xtf32" if has_tf32(device) else "float32"


@dataclass(frozen=True, slots=True)
class Products:
    """How products are taken. Call within `full_float32(rounded=self.rounds)`."""

    mode: Mode

    @property
    def rounds(self) -> bool:
        """Whether the device is to round factors."""
        return self.mode != "float32"

    def parts(self, a: "torch.Tensor") -> Parts:
        """A factor as this takes it."""
        if self.mode != "3xtf32":
            return (a,)
        first = (a.view(torch.int32) & FIRST_BITS).view(torch.float32)
        return first, a - first

    def times(self, left: Parts, right: Parts) -> "torch.Tensor":
        """The product of two factors."""
        out = left[0] @ right[0]
        if len(left) == 2:
            out.addmm_(left[0], right[1]).addmm_(left[1], right[0])
        return out
