"""Names of the features that families of architectures offer, without building one: no torch here."""

import re

__all__ = ["features_of", "resnet_features", "vit_features"]

#: blocks of plain ViTs by the size in their name, which name their inner layers
_VIT_DEPTH = {"tiny": 12, "small": 12, "base": 12, "large": 24, "huge": 32, "giant": 40}


def features_of(architecture: str, default: str = "") -> tuple[str, ...]:
    """Features of an architecture of the catalogue, `default` first."""
    if re.fullmatch(r"resnet\d+(w\d)?", architecture):
        return resnet_features()
    if architecture.startswith(("vit_", "beit")):
        own = vit_features(_VIT_DEPTH[architecture.split("_")[1]], default or "cls")
        return tuple(dict.fromkeys([default or own[0], *own]))
    return (default or "output",)


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
