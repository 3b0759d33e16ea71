"""Features of vision models of transformers, by name, from one forward pass."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["HELD_BY_ALL", "HfFeatures"]

#: features of the last block: a file without their weights is no whole one
HELD_BY_ALL = frozenset(("cls", "avg", "avgpool"))


class HfFeatures(nn.Module):
    """Named features of a model of transformers.

    cls, avg         class token and mean patch token of `last_hidden_state`
    pooler           `pooler_output`, where the model has one and the file its weights (an untrained layer in some
                     checkpoints: see its card)
    proj             `image_embeds` of CLIP and its kin: pooled and projected
    avgpool          of convolutional networks: `pooler_output`, else the mean of the last map
    blocks.i:cls|avg tokens after block i, through the model's final LayerNorm where it is named so (`layernorm`,
                     `norm`: not in CLIP, SigLIP and their kin)
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        whole: Any = model
        self.vision: Any = getattr(whole, "vision_model", None) or whole  # the image tower of a pair
        self.projection = getattr(whole, "visual_projection", None)
        self.wanted: tuple[str, ...] = ()
        config = getattr(self.vision, "config", whole.config)
        self.config: Any = getattr(config, "vision_config", config)
        embeddings = getattr(self.vision, "embeddings", None)
        self.has_cls = any(getattr(embeddings, key, None) is not None for key in ("cls_token", "class_embedding"))
        self.n_prefix = int(self.has_cls) * (1 + int(getattr(self.config, "num_register_tokens", 0) or 0))
        if self.has_cls and getattr(embeddings, "distillation_token", None) is not None:
            self.n_prefix += 1
        self.norm = next((m for key in ("layernorm", "norm") if (m := getattr(self.vision, key, None))), nn.Identity())
        self.depth = int(getattr(self.config, "num_hidden_layers", 0) or 0)

    def offered(self) -> tuple[str, ...]:
        """Names of the features, the usual one first: the class token, or what the model pools itself."""
        out = self._run(torch.zeros(1, 3, *self._size()), blocks=False)
        maps = out.last_hidden_state.ndim == 4
        pooled = getattr(out, "pooler_output", None) is not None
        if maps:
            return ("avgpool",)
        first = ("cls",) if self.has_cls else ("pooler",) if pooled else ()
        last = [*first, "avg", *(("pooler",) if pooled else ()), *(("proj",) if self.projection is not None else ())]
        inner = [f"blocks.{i}:{p}" for i in range(self.depth - 1) for p in ("cls", "avg") if p != "cls" or self.has_cls]
        return tuple(dict.fromkeys([*last, *inner]))

    def lacking(self, model: nn.Module, missing: Iterable[str], offered: tuple[str, ...]) -> tuple[str, ...]:
        """The features, of those offered, that depend on weights of the model that a file did not have, for which
        transformers has drawn random ones; these are set to 0, so that each load gives the same weights."""
        absent = {name for name in missing if not name.endswith("num_batches_tracked")}  # which training alone reads
        # what is fixed, as positions that are sines, transformers computes
        named = {n: tensor for n, tensor in model.named_parameters() if n in absent and tensor.requires_grad}
        own = {id(buffer) for buffer in self.buffers()}
        if any(name in absent and id(buffer) in own for name, buffer in model.named_buffers()):
            return offered  # statistics of a BatchNorm, which gradients do not show
        if not named:
            return ()
        with torch.enable_grad():
            for tensor in named.values():
                tensor.requires_grad_(True)
            self.wanted = offered
            found = self.forward(torch.zeros(1, 3, *self._size()))
            depending = [
                feature
                for feature, value in found.items()
                if value.requires_grad
                and any(
                    gradient is not None
                    for gradient in torch.autograd.grad(
                        value.sum(), list(named.values()), retain_graph=True, allow_unused=True
                    )
                )
            ]
        with torch.no_grad():
            for tensor in named.values():
                tensor.requires_grad_(False).zero_()
        self.wanted = ()
        return tuple(depending)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        out = self._run(images, blocks=any(":" in f for f in self.wanted))
        return {feature: self._feature(feature, out) for feature in self.wanted}

    def _feature(self, feature: str, out: Any) -> Tensor:
        layer, _, pooling = feature.rpartition(":")
        tokens: Tensor = out.last_hidden_state
        if layer:  # hidden_states[0] are the embeddings
            tokens = self.norm(out.hidden_states[int(layer.removeprefix("blocks.")) + 1])
        if pooling == "avgpool":
            pooled = getattr(out, "pooler_output", None)
            return tokens.mean((2, 3)) if pooled is None else pooled.flatten(1)
        if pooling == "pooler":
            return out.pooler_output  # type: ignore[no-any-return]  # `out` is of a class of the user's package
        if pooling == "proj":
            return self.projection(out.pooler_output)  # type: ignore[misc, no-any-return]  # None without `proj`
        return tokens[:, 0] if pooling == "cls" else tokens[:, self.n_prefix :].mean(1)

    def _run(self, images: Tensor, *, blocks: bool) -> Any:
        more: dict[str, Any] = {"output_hidden_states": True} if blocks else {}
        if hasattr(self.config, "mask_ratio"):  # patches are shuffled by noise: a fixed one keeps their order
            patches = (images.shape[2] // self.config.patch_size) * (images.shape[3] // self.config.patch_size)
            more["noise"] = torch.arange(patches, device=images.device).expand(len(images), -1)
        return self.vision(images, **more)

    def _size(self) -> tuple[int, int]:
        side = getattr(self.config, "image_size", 224)
        return tuple(side) if isinstance(side, (list, tuple)) else (side, side)
