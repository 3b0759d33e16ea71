"""Position embeddings of a file that are for images of another size."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ssl_risk_rs.encoders.weights.match import MisshapedTensor

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Positions", "positions_of", "resample", "resampled_from", "size_hint"]


@dataclass(frozen=True, slots=True)
class Positions:
    """The architecture's grid of position embeddings, to which a file's of another size are resampled.

    Attributes
    ----------
    n_prefix : tokens before the patches that have a position too
    grid : patches down and across
    patch : side of a patch, in pixels
    """

    n_prefix: int
    grid: tuple[int, int]
    patch: int


def positions_of(module: "nn.Module") -> Positions | None:
    """The grid of a ViT's absolute position embeddings; None where it has none."""
    embed = getattr(module, "patch_embed", None)
    grid, patch = getattr(embed, "grid_size", None), getattr(embed, "patch_size", None)
    table = getattr(module, "pos_embed", None)
    if not (isinstance(grid, tuple) and isinstance(patch, tuple)) or getattr(table, "ndim", 0) != 3:
        return None
    shape: tuple[int, ...] = tuple(getattr(table, "shape", ()))
    return Positions(shape[1] - grid[0] * grid[1], (int(grid[0]), int(grid[1])), int(patch[0]))


def resampled_from(name: str, tensor: "Tensor", wanted: "Tensor", positions: Positions | None) -> int | None:
    """Side of the square grid that position embeddings of a file are for, if they only differ in that."""
    if positions is None or name != "pos_embed" or tensor.ndim != 3 or tensor.shape[2] != wanted.shape[2]:
        return None
    side = math.isqrt(max(tensor.shape[1] - positions.n_prefix, 0))
    return side if side and side * side == tensor.shape[1] - positions.n_prefix else None


def resample(
    chosen: "dict[str, Tensor]", wanted: "Mapping[str, Tensor]", positions: Positions | None
) -> "tuple[dict[str, Tensor], list[str]]":
    """Position embeddings at the architecture's grid, bicubic, and the sentence that says so."""
    notes = []
    for name, tensor in chosen.items():
        side = resampled_from(name, tensor, wanted[name], positions)
        if tensor.shape == wanted[name].shape or side is None or positions is None:
            continue
        from timm.layers.pos_embed import resample_abs_pos_embed

        rows, columns = positions.grid
        changed = resample_abs_pos_embed(
            tensor.float(), [rows, columns], old_size=[side, side], num_prefix_tokens=positions.n_prefix
        )
        chosen = chosen | {name: changed}
        notes.append(
            f"Position embeddings for images of {side * positions.patch} pixels were resampled from {side}×{side} to "
            f"{rows}×{columns} (bicubic); for the file's own size write "
            f"ckpt:FILE@ARCH?img_size={side * positions.patch}"
        )
    return chosen, notes


def size_hint(module: "nn.Module", error: MisshapedTensor) -> str:
    """The side of the images that a file's position embeddings are for, where that is what does not fit."""
    patch = getattr(getattr(module, "patch_embed", None), "patch_size", None)
    side = patch[0] if isinstance(patch, tuple) else patch
    if not error.name.endswith("pos_embed") or len(error.got) != 3 or not isinstance(side, int):
        return ""
    for n_prefix in dict.fromkeys((int(getattr(module, "num_prefix_tokens", 1)), 1, 0)):
        grid = math.isqrt(max(error.got[1] - n_prefix, 0))
        if grid and grid * grid == error.got[1] - n_prefix:
            size = grid * side
            return f". The file is for images of {size} pixels: write ckpt:FILE@ARCH?img_size={size}"
    return ""
