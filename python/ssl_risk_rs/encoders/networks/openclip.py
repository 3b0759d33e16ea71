"""Features of open_clip's image towers, by name, from one forward pass."""

from typing import Any

from torch import Tensor, nn

__all__ = ["OpenClipFeatures"]


class OpenClipFeatures(nn.Module):
    """Named features of an image tower.

    proj             what `encode_image` gives, not normalized
    blocks.i:cls|avg class and mean patch token after block i, of open_clip's own ViTs, through their final LayerNorm
    cls, avg         of the last block
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        whole: Any = model
        self.visual: Any = whole.visual
        self.wanted: tuple[str, ...] = ()
        own = hasattr(self.visual, "transformer") and hasattr(self.visual, "class_embedding")
        own &= getattr(self.visual, "attn_pool", None) is None  # CoCa's tokens end in a pool of their own
        self.depth = len(self.visual.transformer.resblocks) if own else 0

    def offered(self) -> tuple[str, ...]:
        """Names of the features, `proj` first."""
        last = ("cls", "avg") if self.depth else ()
        return ("proj", *last, *(f"blocks.{i}:{p}" for i in range(self.depth - 1) for p in ("cls", "avg")))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        blocks = {f: self._block(f) for f in self.wanted if f != "proj"}
        if not blocks:
            out = self.visual(images)
            return {"proj": out[0] if isinstance(out, tuple) else out}  # CoCa's tower gives its tokens too
        order = sorted(set(blocks.values()))
        found = self.visual.forward_intermediates(
            images, indices=order, normalize_intermediates=True, output_fmt="NLC", output_extra_tokens=True
        )
        patches = dict(zip(order, found["image_intermediates"], strict=True))
        first = dict(zip(order, found["image_intermediates_prefix"], strict=True))
        return {
            f: found["image_features"]
            if f == "proj"
            else (first[blocks[f]][:, 0] if f.endswith("cls") else patches[blocks[f]].mean(1))
            for f in self.wanted
        }

    def _block(self, feature: str) -> int:
        layer = feature.rpartition(":")[0]
        return int(layer.removeprefix("blocks.")) if layer else self.depth - 1
