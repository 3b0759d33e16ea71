"""Architecture name → network without a head, and the features it offers: ours first, then timm's."""

import inspect
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ssl_risk_rs.encoders.architectures import ResNet, build_architecture
from ssl_risk_rs.encoders.encoder import OutputModule
from ssl_risk_rs.encoders.registry import resnet_features, vit_features
from ssl_risk_rs.encoders.spec import nearest
from ssl_risk_rs.errors import EncoderError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["build_network", "name_features", "offered_features", "resize_input", "timm_network"]

#: seconds for the hub's first answer
HUB_TIMEOUT = 10

_POOL_NAMES = {"token": "cls", "avg": "avgpool", "map": "map", "": "output"}


def build_network(architecture: str, options: dict[str, Any], *, seed: int = 0) -> nn.Module:
    """Build a network with random weights drawn from `seed`: one of ours, or timm's without classifier."""
    if "/" not in architecture and not options:
        try:
            return build_architecture(architecture, seed)
        except KeyError:
            pass
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return timm_network(architecture, options)


def timm_network(name: str, options: dict[str, Any], *, pretrained: bool = False) -> nn.Module:
    """Build timm's model `name` without its classifier.

    Raises
    ------
    EncoderError for an unknown name (with the nearest), for options it does not take, and for weights
    that cannot be had (with what to do instead).
    """
    import timm

    base, _, tag = name.partition(".")
    if not timm.is_model(base):
        close = nearest(base, timm.list_models()) or ["resnet50", "vit_small_patch16_224"]
        raise EncoderError(f"timm {timm.__version__} has no model {base}; nearest: {', '.join(close)}")
    tags = timm.list_pretrained(f"{base}*")
    tags = [t for t in tags if t.partition(".")[0] == base]
    if tag and name not in tags:
        raise EncoderError(f"timm has no weights {name}; it has {', '.join(tags) or 'none of ' + base}")
    if pretrained and not tags:
        raise EncoderError(f"timm has no pretrained weights of {base}; with random weights: random:{base}")
    try:
        if pretrained:
            return _with_weights(name, options)
        return timm.create_model(name, pretrained=False, num_classes=0, **options)
    except TypeError as error:
        raise EncoderError(f"timm's {base} does not take the options {options}: {error}") from error
    except Exception as error:  # the hub's client has many ways to fail
        if not pretrained:
            raise EncoderError(f"timm cannot build {base} with the options {options}: {error}") from error
        raise EncoderError(
            f"the weights of timm:{name} cannot be had ({_first_line(error)}). Without a network: fetch them "
            f"on a machine with one (hf download timm/{name if tag else tags[0]}), copy its cache ($HF_HOME, "
            "default ~/.cache/huggingface) here and set HF_HUB_OFFLINE=1; or name a file: "
            f"ckpt:FILE@{base}; or take random weights: random:{base}"
        ) from error


def _with_weights(name: str, options: dict[str, Any]) -> nn.Module:
    """timm's model with its weights: from the local cache; else from the hub, if one request shows it can be reached.

    The hub's client tries each of several files six times, which takes a minute on a machine without a network.
    """
    import timm

    with _hub_offline() as switched:
        try:
            return timm.create_model(name, pretrained=True, num_classes=0, **options)
        except TypeError:  # options that the model does not take
            raise
        except Exception:  # not in the cache: the client's errors differ between releases
            if not switched:
                raise
    _reach_hub()
    return timm.create_model(name, pretrained=True, num_classes=0, **options)


@contextmanager
def _hub_offline() -> "Iterator[bool]":
    """The hub's client reads its cache only; False if that is so anyway, or there is no client to tell."""
    try:
        from huggingface_hub import constants, utils
    except ImportError:
        yield False
        return
    if constants.HF_HUB_OFFLINE:
        yield False
        return
    constants.HF_HUB_OFFLINE = True
    try:
        yield True
    finally:
        constants.HF_HUB_OFFLINE = False
        # before release 1.0 the client kept the connection that refuses everything
        getattr(utils, "reset_sessions", lambda: None)()


def _reach_hub() -> None:
    """Raise OSError if the hub cannot be reached by one request; any answer will do."""
    import ssl
    import urllib.error
    import urllib.request

    from huggingface_hub import constants

    request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=HUB_TIMEOUT).close()
    except urllib.error.HTTPError:
        return
    except urllib.error.URLError as error:
        if not isinstance(error.reason, ssl.SSLError):  # certificates are the client's business
            raise


def resize_input(network: nn.Module, img_size: int, name: str) -> None:
    """Prepare a network for images of another side, where it has to be told (position embeddings).

    Raises
    ------
    EncoderError if the network cannot.
    """
    patch = getattr(getattr(network, "patch_embed", None), "patch_size", None)
    side = patch[0] if isinstance(patch, tuple) else patch
    if isinstance(side, int) and img_size % side:  # timm would leave out the rest of the image
        raise EncoderError(f"{name} cannot take images of {img_size} pixels: no multiple of its patches of {side}")
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
    if not hasattr(network, "forward_head"):
        return ("output",)
    own = _own_pooling(network)
    if _is_vit(network):
        if not _final_norm_on_tokens(network):
            return (own,)
        depth = len(network.blocks)  # type: ignore[arg-type]
        own = "avg" if own == "avgpool" else own
        if getattr(network, "cls_token", None) is None:
            return tuple(dict.fromkeys([own, "avg", *(f"blocks.{i}:avg" for i in range(depth - 1))]))
        return tuple(dict.fromkeys([own, *vit_features(depth, own)]))
    own = "attnpool" if own == "cls" else own  # CLIP's ResNets: an attention pool whose query is the mean
    return (own, *(f"{stage}:avgpool" for stage in _stages(network)))


def name_features(network: nn.Module, wanted: "Sequence[str]") -> nn.Module:
    """Wrap a network so that it returns exactly the features `wanted`, from one forward pass."""
    if isinstance(network, ResNet):
        return ResNetFeatures(network, wanted)
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
        return {f: maps["layer4" if f == "avgpool" else f.partition(":")[0]].mean((2, 3)) for f in self.wanted}


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
    """Class and patch tokens of a timm ViT after its final LayerNorm, of the last block and of inner ones."""

    def __init__(self, backbone: nn.Module, wanted: "Sequence[str]") -> None:
        super().__init__()
        self.backbone, self.wanted = backbone, tuple(wanted)
        own = _own_pooling(backbone)
        self.own = "avg" if own == "avgpool" and _final_norm_on_tokens(backbone) else own
        self.n_prefix = int(getattr(backbone, "num_prefix_tokens", 0))
        depth = len(backbone.blocks)  # type: ignore[arg-type]
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
                parts = {
                    "cls": lambda i=index: cls[i] if i >= 0 else final[:, 0],
                    "avg": lambda i=index: avg[i] if i >= 0 else final[:, self.n_prefix :].mean(1),
                }
                out[feature] = torch.cat([parts[p]() for p in pooling.split("+")], 1)
        return out


def _is_vit(network: nn.Module) -> bool:
    forward = getattr(network, "forward_intermediates", None)
    return (
        forward is not None
        and hasattr(network, "blocks")
        and hasattr(network, "num_prefix_tokens")
        and "return_prefix_tokens" in inspect.signature(forward).parameters
    )


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


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
