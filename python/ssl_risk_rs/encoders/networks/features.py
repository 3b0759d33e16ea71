"""The features a network offers, and a wrapper that returns them by name from one forward pass."""

import inspect
from collections import Counter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ssl_risk_rs.encoders.encoder import OutputModule
from ssl_risk_rs.encoders.feature_names import resnet_features, vit_features
from ssl_risk_rs.encoders.networks.codec import ClipCompressor
from ssl_risk_rs.encoders.networks.resnet import ResNet
from ssl_risk_rs.errors import EncoderError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["check_patches", "name_features", "offered_features", "resize_input"]

_POOL_NAMES = {"token": "cls", "avg": "avgpool", "map": "map", "": "output"}


def check_patches(network: nn.Module, img_size: int, name: str) -> None:
    """Refuse a side that the network's patches do not divide: timm would leave out the rest of the image.

    Raises
    ------
    EncoderError.
    """
    patch = getattr(getattr(network, "patch_embed", None), "patch_size", None)
    side = patch[0] if isinstance(patch, tuple) else patch
    if isinstance(side, int) and img_size % side:
        raise EncoderError(f"{name} cannot take images of {img_size} pixels: no multiple of its patches of {side}")


def resize_input(network: nn.Module, img_size: int, name: str) -> None:
    """Prepare a network for images of another side, where it has to be told (position embeddings).

    Raises
    ------
    EncoderError if the network cannot.
    """
    check_patches(network, img_size, name)
    if hasattr(network, "set_input_size"):
        net: Any = network
        try:
            net.set_input_size(img_size=(img_size, img_size))
        except (AssertionError, TypeError, ValueError, RuntimeError) as error:
            raise EncoderError(f"{name} cannot take images of {img_size} pixels: {error or 'not divisible'}") from error


def offered_features(network: nn.Module) -> tuple[str, ...]:
    """Names of the features a network offers, the one it pools itself first."""
    if isinstance(network, ResNet):
        return resnet_features()
    if isinstance(network, ClipCompressor):
        return ("pred",)
    if not hasattr(network, "forward_head"):
        return ("output",)
    own = _own_pooling(network)
    if _is_vit(network):
        if getattr(network, "dist_token", None) is not None:
            own = "output"  # distilled DeiT: timm's own pooling is the mean of both tokens
        depth = len(network.blocks)  # type: ignore[arg-type]  # torch types submodules as Tensor or Module
        if not _final_norm_on_tokens(network):
            pools_first = own == "avgpool" and isinstance(getattr(network, "fc_norm", None), nn.Module)
            return (own, *(f"blocks.{i}:avgpool" for i in range(depth - 1) if pools_first))
        own = "avg" if own == "avgpool" else own
        if getattr(network, "cls_token", None) is None:
            return tuple(dict.fromkeys([own, "avg", *(f"blocks.{i}:avg" for i in range(depth - 1))]))
        projected = ("proj", "proj+cls") if _has_projection(network) else ()
        return tuple(dict.fromkeys([own, *projected, *vit_features(depth, own)]))
    if own == "cls" and "AttentionPool" in type(getattr(network, "head", None)).__name__:
        own = "attnpool"  # CLIP's ResNets: the query is the mean
    stages = Counter(_stages(network))  # a name that several stages have would say of which map a feature is
    return (own, *(f"{stage}:avgpool" for stage, n in stages.items() if n == 1))


def name_features(network: nn.Module, wanted: "Sequence[str]") -> nn.Module:
    """Wrap a network so that it returns exactly the features `wanted`, from one forward pass."""
    if isinstance(network, ResNet):
        return ResNetFeatures(network, wanted)
    if isinstance(network, ClipCompressor):
        return OutputModule(network, "pred")
    if not hasattr(network, "forward_head"):
        return OutputModule(network)
    return VitFeatures(network, wanted) if _is_vit(network) else StageFeatures(network, wanted)


class ResNetFeatures(nn.Module):
    """Global average pools of our ResNet's stages."""

    def __init__(self, backbone: ResNet, wanted: "Sequence[str]") -> None:
        super().__init__()
        self.backbone, self.wanted = backbone, tuple(wanted)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps = self.backbone.stages(images)
        return {
            f: self.backbone.pooled(maps["layer4"]) if f == "avgpool" else maps[f.partition(":")[0]].mean((2, 3))
            for f in self.wanted
        }


class StageFeatures(nn.Module):
    """The model's own pooled features, and global average pools of its inner stages."""

    def __init__(self, backbone: nn.Module, wanted: "Sequence[str]") -> None:
        super().__init__()
        self.backbone, self.wanted = backbone, tuple(wanted)
        stages = _stages(backbone)
        self.indices = {f: stages.index(f.rpartition(":")[0]) for f in wanted if ":" in f}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        net: Any = self.backbone
        maps: dict[int, Tensor] = {}
        if self.indices:
            order = sorted(set(self.indices.values()))
            final, found = net.forward_intermediates(images, indices=order, output_fmt="NCHW")
            maps = dict(zip(order, found, strict=True))
        else:
            final = net.forward_features(images)
        return {
            f: maps[self.indices[f]].mean((2, 3)) if f in self.indices else net.forward_head(final, pre_logits=True)
            for f in self.wanted
        }


class VitFeatures(nn.Module):
    """Class and patch tokens of a timm ViT after its final LayerNorm, of the last block and of inner ones.

    "proj" is the class token through the network's head, where it was built with one: CLIP's projection. "avgpool" of
    networks that normalize after pooling (EVA-02, BEiT) is the mean patch token through that LayerNorm.
    """

    def __init__(self, backbone: nn.Module, wanted: "Sequence[str]") -> None:
        super().__init__()
        self.backbone, self.wanted = backbone, tuple(wanted)
        self.own = offered_features(backbone)[0]
        self.n_prefix = int(getattr(backbone, "num_prefix_tokens", 0))
        depth = len(backbone.blocks)  # type: ignore[arg-type]  # as above
        blocks = {int(f.split(":")[0].removeprefix("blocks.")) for f in wanted if ":" in f}
        if "4xcls" in wanted:
            blocks |= set(range(depth - 4, depth))
        self.blocks, self.depth = sorted(blocks), depth

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        net: Any = self.backbone
        cls: dict[int, Tensor] = {}
        avg: dict[int, Tensor] = {}
        if self.blocks:
            final, found = net.forward_intermediates(
                images, indices=self.blocks, return_prefix_tokens=True, norm=True, output_fmt="NLC"
            )
            for index, tokens in zip(self.blocks, found, strict=True):
                patches, prefix = tokens if isinstance(tokens, tuple) else (tokens, None)
                avg[index] = patches.mean(1)
                if prefix is not None:
                    cls[index] = prefix[:, 0]
        else:
            final = net.forward_features(images)
        out = {}
        for feature in self.wanted:
            layer, _, pooling = feature.rpartition(":")
            if not layer and feature == self.own:
                out[feature] = net.forward_head(final, pre_logits=True)
            elif feature == "4xcls":
                out[feature] = torch.cat([cls[i] for i in range(self.depth - 4, self.depth)], 1)
            else:
                index = int(layer.removeprefix("blocks.")) if layer else -1
                out[feature] = torch.cat([self._part(part, final, index, cls, avg) for part in pooling.split("+")], 1)
        return out

    def _part(self, part: str, final: Tensor, index: int, cls: dict[int, Tensor], avg: dict[int, Tensor]) -> Tensor:
        """One pooling (b, d), of an inner block or, with `index` -1, of the last."""
        net: Any = self.backbone
        if part == "proj":
            projected: Tensor = net.forward_head(final)
            return projected
        if part == "avgpool":
            normalized: Tensor = net.fc_norm(avg[index])
            return normalized
        if index >= 0:
            return cls[index] if part == "cls" else avg[index]
        return final[:, 0] if part == "cls" else final[:, self.n_prefix :].mean(1)


def _is_vit(network: nn.Module) -> bool:
    forward = getattr(network, "forward_intermediates", None)
    return (
        forward is not None
        and hasattr(network, "blocks")
        and hasattr(network, "num_prefix_tokens")
        and "return_prefix_tokens" in inspect.signature(forward).parameters
    )


def _has_projection(network: nn.Module) -> bool:
    """Whether a ViT was built with a head, as CLIP's are to keep their projection."""
    return isinstance(getattr(network, "head", None), nn.Linear)


def _final_norm_on_tokens(network: nn.Module) -> bool:
    """False for ViTs that pool first and normalize after: their tokens are not normalized ones."""
    return not isinstance(getattr(network, "norm", None), nn.Identity)


def _own_pooling(network: nn.Module) -> str:
    pool: Any = getattr(network, "global_pool", None)
    if pool is None or isinstance(pool, nn.Module):
        head: Any = getattr(network, "head", None)
        module = pool if pool is not None else getattr(head, "global_pool", None)
        pool = getattr(module, "pool_type", "avgpool" if module is None else "output")
    return _POOL_NAMES.get(pool, str(pool))


def _stages(network: nn.Module) -> list[str]:
    """Names of the stages that `forward_intermediates` can return, in order."""
    info: Any = getattr(network, "feature_info", None)
    if info is None or not hasattr(network, "forward_intermediates"):
        return []
    return [stage["module"] for stage in (info.info if hasattr(info, "info") else info)]
