"""The published encoders, read from `registry.json` without torch.

An entry holds an address and facts, never weights: files are downloaded from their authors' hosts, under
their authors' licences. Entries with `not_loadable` are recognised, so that their names get an answer
that helps.
"""

import json
from functools import cache
from importlib.resources import files
from typing import Any

from ssl_risk_rs.encoders.spec import IMAGENET_MEAN, IMAGENET_STD, EncoderSpec
from ssl_risk_rs.errors import EncoderError

__all__ = ["published_entry", "published_names", "published_spec", "resolve_alias"]

#: blocks of each plain ViT in the registry, which name its inner layers
_VIT_DEPTH = {"small": 12, "base": 12, "large": 24, "huge": 32}

#: timm's supervised twin of an architecture: trained on ImageNet-1K labels, same preprocessing
_SUPERVISED = {"resnet50": "timm:resnet50.tv_in1k", "resnet101": "timm:resnet101.tv_in1k"}


@cache
def _registry() -> dict[str, Any]:
    data = json.loads((files(__package__) / "registry.json").read_text(encoding="utf-8"))
    data["by_name"] = {entry["name"].lower(): entry for entry in data["encoders"]}
    return data


def resolve_alias(name: str) -> str:
    """The name an alias stands for; any other name unchanged."""
    return _registry()["aliases"].get(name, name)


def published_names(*, loadable_only: bool = False) -> list[str]:
    """Names in the registry, sorted."""
    entries = _registry()["encoders"]
    return [e["name"] for e in entries if not (loadable_only and "not_loadable" in e)]


def published_entry(name: str) -> dict[str, Any] | None:
    """The registry's record of `name` (any case, aliases allowed), or None."""
    return _registry()["by_name"].get(resolve_alias(name).lower())


def published_spec(entry: dict[str, Any]) -> EncoderSpec:
    """Make the spec of a registry entry that can be loaded.

    Raises
    ------
    EncoderError for an entry that is only recognised; it says why and what to do.
    """
    name, architecture = entry["name"], entry["architecture"]
    if "not_loadable" in entry:
        where = f"; its published address is {entry['url']}" if "url" in entry else ""
        raise EncoderError(
            f"{name} is a published encoder that cannot be loaded by name yet: {entry['not_loadable']}{where}"
        )
    size = entry.get("img_size", 224)
    return EncoderSpec(
        name=name,
        architecture=architecture,
        source=entry["url"],
        features=published_features(architecture, entry["feature"]),
        img_size=size,
        resize=round(size * 256 / 224),
        interpolation=entry.get("interpolation", "bilinear"),
        mean=tuple(entry.get("mean", IMAGENET_MEAN)),
        std=tuple(entry.get("std", IMAGENET_STD)),
        objective=entry["objective"],
        pretraining_data=entry["pretraining_data"],
        epochs=entry["epochs"],
        batch_size=entry["batch_size"],
        licence=entry.get("licence"),
        supervised_twin=_SUPERVISED.get(architecture),
        twin_labels="ImageNet-1K" if architecture in _SUPERVISED else None,
        random_twin=f"random:{architecture}",
        notes=entry.get("notes"),
    )


def published_features(architecture: str, default: str = "") -> tuple[str, ...]:
    """Feature names of the ResNets and plain ViTs of the registry, `default` first."""
    if architecture.startswith("resnet"):
        return resnet_features()
    depth = _VIT_DEPTH[architecture.split("_")[1]]
    return vit_features(depth, default or "cls")


def resnet_features() -> tuple[str, ...]:
    """Global average pools: of the last stage, then of the three before it."""
    return ("avgpool", *(f"layer{stage}:avgpool" for stage in (1, 2, 3)))


def vit_features(depth: int, default: str = "cls") -> tuple[str, ...]:
    """Class token, mean patch token, both, class tokens of the last four blocks; then of inner blocks.

    All tokens have passed the final LayerNorm (as in DINO's evaluation; Caron et al. 2021).
    """
    last = [f for f in ("cls", "avg", "cls+avg", "4xcls") if depth >= 4 or f != "4xcls"]
    last.sort(key=lambda f: f != default)
    inner = [f"blocks.{b}:{p}" for b in range(depth - 1) for p in ("cls", "avg", "cls+avg")]
    return (*last, *inner)
