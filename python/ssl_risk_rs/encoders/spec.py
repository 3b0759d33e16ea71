"""What is known of an encoder before it is built: plain data, so that describing needs no torch."""

from dataclasses import asdict, dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import TypeAlias

from ssl_risk_rs._identity import data_id
from ssl_risk_rs.errors import EncoderError

__all__ = ["EncoderSpec", "Layers", "choose_features", "may_be_several", "nearest", "usual_resize"]

#: layers or features as a caller names them
Layers: TypeAlias = str | list[str] | tuple[str, ...] | None

#: mean and standard deviation of ImageNet's training pixels (RGB, in [0, 1]), as most checkpoints use them
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """The facts of one encoder.

    Attributes
    ----------
    name : as typed, aliases resolved
    architecture : one of ours, or a timm model name
    options : of the architecture, as in the name ("global_pool=avg&patch_size=8"), sorted; "" for none
    source : URL, path, "timm", "bundled", "random" or "code"
    features : representations offered, "pooling" (of the last layer) or "layer:pooling"; default first
    img_size : side of the square the network sees; None: the image's own size
    resize : short side before the centre crop; None: no resizing
    interpolation : "bilinear", "bicubic", …
    mean, std : for each channel, of pixels in [0, 1]
    channels : 1 (grey) or 3 (RGB)
    objective, pretraining_data, epochs, batch_size, licence : how the weights came about, None where unknown
    supervised_twin : same architecture trained with labels; its training error is the approximation error
    twin_labels : the data set whose labels trained the twin; it counts as a twin on that data only
    random_twin : the same architecture with random weights
    notes : anything a user of the numbers should know
    """

    name: str
    architecture: str
    source: str
    features: tuple[str, ...]
    img_size: int | None = 224
    resize: int | None = 256
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    channels: int = 3
    objective: str | None = None
    pretraining_data: str | None = None
    epochs: int | None = None
    batch_size: int | None = None
    licence: str | None = None
    supervised_twin: str | None = None
    twin_labels: str | None = None
    random_twin: str | None = None
    notes: str | None = None
    options: str = ""

    @property
    def pretraining_id(self) -> str | None:
        """Canonical id of the data that pretrained it, None where unknown; `saw` compares it with the probe's."""
        return data_id(self.pretraining_data)

    @property
    def twin_labels_id(self) -> str | None:
        """Canonical id of the data whose labels trained the supervised twin."""
        return data_id(self.twin_labels)

    def to_dict(self) -> dict[str, object]:
        """The fields and the data's canonical ids as JSON-ready values."""
        plain = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
        return plain | {"pretraining_id": self.pretraining_id, "twin_labels_id": self.twin_labels_id}


def usual_resize(img_size: int) -> int:
    """Short side that ImageNet's usual preparation gives images before it cuts out `img_size`: 256 for 224."""
    return round(img_size * 256 / 224)


def nearest(word: str, choices: "list[str] | tuple[str, ...]", n: int = 5) -> list[str]:
    """The choices most like `word`: those that contain it first, then by edit distance."""
    lower = word.lower()
    inside = [choice for choice in choices if lower and lower in choice.lower()]
    by_lower = {choice.lower(): choice for choice in choices}
    close = [by_lower[match] for match in get_close_matches(lower, list(by_lower), n, cutoff=0.6)]
    return list(dict.fromkeys([*close, *inside]))[:n]


def may_be_several(layer: str | None, pool: str | None) -> bool:
    """Whether one layer and pooling can stand for more than one feature: patterns, "all", poolings joined by commas."""
    return "," in (pool or "") or layer == "all" or bool(set("*?[") & set(layer or ""))


def choose_features(offered: tuple[str, ...], layers: Layers, pool: str | None) -> tuple[str, ...]:
    """Turn `layers` and `pool` into names among `offered`.

    A layer is "last", a layer's name, a pattern ("blocks.*"; "all" is every layer), or a full feature name; `pool`
    applies to layers that name none, and may be several joined by commas ("cls,mean"; "mean" is the average pool).
    Neither: the default, the first offered.

    Raises
    ------
    EncoderError that lists what is offered.
    """
    names = [layers] if isinstance(layers, str) else list(layers or ["last"])
    poolings: list[str | None] = [p.strip() for p in pool.split(",") if p.strip()] if pool is not None else [None]
    chosen: list[str] = []
    for name in names:
        if name in offered:
            chosen.append(name)
            continue
        own = list(dict.fromkeys(_layer(f) for f in offered))
        matching = own if name == "all" else [layer for layer in own if fnmatchcase(layer, name)]
        for layer in matching or [name]:
            for pooling in poolings:
                found = [f for f in offered if _layer(f) == layer and _is_pooled(f, pooling)][:1]
                if not found:
                    asked = layer if pooling is None else f"{layer} with pooling {pooling}"
                    raise EncoderError(f"the encoder offers no feature {asked}; it offers {_summary(offered)}")
                chosen += found
    return tuple(dict.fromkeys(chosen))


def _layer(feature: str) -> str:
    return feature.rpartition(":")[0] or "last"


def _is_pooled(feature: str, pooling: str | None) -> bool:
    own = feature.rpartition(":")[2]
    return pooling is None or own == pooling or (pooling == "mean" and own in ("avg", "avgpool"))


def _summary(offered: tuple[str, ...]) -> str:
    last = [f for f in offered if ":" not in f]
    inner = list(dict.fromkeys(f.rpartition(":")[0] for f in offered if ":" in f))
    text = "for the last layer " + ", ".join(last)
    if inner:
        poolings = list(dict.fromkeys(f.rpartition(":")[2] for f in offered if ":" in f))
        text += f"; for the layers {', '.join(inner)}: {', '.join(poolings)}"
    return text
