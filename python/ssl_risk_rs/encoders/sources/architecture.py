"""Architectures by name: ours, whose facts need no torch, and timm's, whose features and preprocessing timm knows."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ssl_risk_rs.encoders.feature_names import resnet_features
from ssl_risk_rs.encoders.names import EncoderName
from ssl_risk_rs.encoders.spec import EncoderSpec
from ssl_risk_rs.errors import EncoderError

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor
    from torch.nn import Module

__all__ = [
    "Options",
    "default_transform",
    "describe_architecture",
    "describe_random",
    "describe_timm",
    "is_our_resnet",
    "network_options",
    "options_at",
    "options_for_random",
    "preprocessing_of",
    "query_of",
    "seed_of",
    "short_side",
]

Options = Mapping[str, object]

#: our ResNets: timm's too, but these specs need no torch and keep the preprocessing of published checkpoints
_OUR_RESNETS = ("resnet50", "resnet50w2", "resnet50w4", "resnet50w5", "resnet101")
_OUR_OPTIONS = {"padding", "expand"}

#: options of a name that are not the architecture's
_OWN_OPTIONS = {
    "random": ("seed",),
    "checkpoint": ("match", "ema", "mean", "std", "resize", "interpolation"),
}


def is_our_resnet(architecture: str, options: Options, kind: str = "") -> bool:
    """Whether the network is one of our ResNets rather than timm's of the same name, which `timm:` always means."""
    return kind != "timm" and architecture in _OUR_RESNETS and options.keys() <= _OUR_OPTIONS


def network_options(name: EncoderName) -> dict[str, object]:
    """The options in a name that are the architecture's."""
    own = _OWN_OPTIONS.get(name.kind, ())
    return {key: value for key, value in name.options.items() if key not in own}


def query_of(options: Options) -> str:
    """Options in one spelling."""
    return "&".join(f"{k}={v if isinstance(v, str) else json.dumps(v)}" for k, v in sorted(options.items()))


def seed_of(name: EncoderName) -> int:
    """The seed of random weights.

    Raises
    ------
    EncoderError if it is no whole number.
    """
    seed = name.options.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise EncoderError(f"{name.text}: the seed is a whole number, not {seed!r}")
    return seed


def describe_architecture(architecture: str, options: Options) -> EncoderSpec:
    """Spec of an architecture without its weights' story."""
    if is_our_resnet(architecture, options):
        return EncoderSpec(architecture, architecture, "random", resnet_features())
    grey = EncoderSpec(architecture, architecture, "random", ("output",), channels=1)
    if architecture == "tiny_convnet":
        return replace(grey, img_size=8, resize=8, mean=(0.306,), std=(0.376,))
    if architecture == "small_convnet":
        return replace(grey, img_size=28, resize=28, mean=(0.286,), std=(0.353,))
    import torch

    from ssl_risk_rs.encoders.networks.build import build_network

    with torch.device("meta"):
        network = build_network(architecture, options)
    return _described_by_timm(architecture, options, network)


def _described_by_timm(architecture: str, options: Options, network: "Module") -> EncoderSpec:
    from ssl_risk_rs.encoders.networks.features import offered_features

    config = _timm_data().resolve_model_data_config(getattr(network, "tower", network))
    _, height, width = config["input_size"]
    if height != width and "img_size" not in options:
        raise EncoderError(
            f"{architecture} is made for images of {height} × {width} pixels, and images are cropped to squares here; "
            f"name the side of one: {architecture}?img_size={min(height, width)}"
        )
    size = options.get("img_size", width)
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise EncoderError(f"{architecture}: img_size is the side of a square, a whole number, not {size!r}")
    return EncoderSpec(
        name=architecture,
        architecture=architecture,
        source="random",
        features=offered_features(network),
        img_size=size,
        resize=size if config.get("crop_mode") == "squash" else short_side(size, config),
        interpolation=config["interpolation"],
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        channels=config["input_size"][0],
    )


def describe_random(name: EncoderName) -> EncoderSpec:
    """Spec of an architecture with random weights."""
    options = network_options(name)
    spec = describe_architecture(name.target, options)
    note = f"Weights drawn from seed {seed_of(name)}."
    return replace(spec, name=name.text, source="random", options=query_of(options), notes=note)


def describe_timm(name: EncoderName) -> EncoderSpec:
    """Spec of one of timm's models with timm's weights."""
    import timm
    import torch

    from ssl_risk_rs.encoders.networks.build import timm_network

    options = network_options(name)
    with torch.device("meta"):
        spec = _described_by_timm(name.target, options, timm_network(name.target, options))
    config = timm.get_pretrained_cfg(name.target)
    tag = (config.tag or "") if config else ""
    query = query_of(options)
    # with the tag, which gives it timm's preprocessing, where the name alone is one of ours
    twin = f"{name.target}.{tag}" if tag and is_our_resnet(name.target, options) else name.target
    return replace(
        spec,
        name=name.text,
        source="timm",
        licence=config.license if config else None,
        random_twin=f"random:{twin}" + (f"?{query}" if query else ""),
        options=query,
        notes=f"timm's pretrained tag: {tag}." if tag else None,
    )


def options_for_random(architecture: str, options: Options) -> Options:
    """timm's ResNets start with residual branches at zero, which would make the control shallower."""
    if is_our_resnet(architecture, options):
        return options
    import torch
    from timm.models.resnet import ResNet

    from ssl_risk_rs.encoders.networks.build import build_network

    with torch.device("meta"):
        is_resnet = isinstance(build_network(architecture, options), ResNet)
    return {"zero_init_last": False, **options} if is_resnet else options


def options_at(architecture: str, options: Options, img_size: int) -> dict[str, object] | None:
    """Options that build an architecture for images of a side; None where it takes none, or they name one."""
    if "img_size" in options or is_our_resnet(architecture, options):
        return None
    import torch

    from ssl_risk_rs.encoders.networks.build import build_network

    sized = {**options, "img_size": img_size}
    try:
        with torch.device("meta"):
            build_network(architecture, sized)
    except EncoderError:
        return None
    return sized


def default_transform(spec: EncoderSpec, options: Options) -> "Callable[[Image], Tensor]":
    """timm's own evaluation transform of an architecture, at the spec's image size, mean, deviation and
    interpolation."""
    from ssl_risk_rs.encoders.transforms import in_colour

    config = preprocessing_of(spec.architecture, options)
    config["input_size"] = (spec.channels, spec.img_size, spec.img_size)
    config |= {"mean": spec.mean, "std": spec.std, "interpolation": spec.interpolation}
    return in_colour(_timm_data().create_transform(**config), spec.channels)


def preprocessing_of(architecture: str, options: Options) -> dict[str, Any]:
    """How timm prepares images for one of its architectures."""
    import torch

    from ssl_risk_rs.encoders.networks.build import timm_network

    with torch.device("meta"):
        config: dict[str, Any] = _timm_data().resolve_model_data_config(timm_network(architecture, options))
    return config


def short_side(img_size: int, config: Mapping[str, Any]) -> int:
    """Side to which timm resizes before it crops `img_size`, rounded as timm does."""
    return int(img_size / config["crop_pct"])


def _timm_data() -> Any:
    """timm's module of transforms, which has no annotations."""
    return import_module("timm.data")
