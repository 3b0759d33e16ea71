"""How torch takes products of float32 factors: whole, or rounded to TF32 (11 bits), where a device is faster at it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["full_float32", "has_tf32"]


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
