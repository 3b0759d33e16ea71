"""Which data a name stands for: one canonical id for data sets and for what pretrained an encoder.

Two names are the same data if their ids are equal, and for no other reason: a folder called `image` is not
ImageNet.
"""

import re
from dataclasses import dataclass

__all__ = ["DataIdentity", "data_id", "saw"]

#: id → spellings, reduced to letters and digits. A spelling stands for these data only.
_SPELLINGS = {
    "imagenet-1k": ("imagenet1k", "in1k", "ilsvrc2012"),
    "imagenet-1k-10%": ("10imagenet1k",),
    "imagenet-1k-30%": ("30imagenet1k",),
    "imagenet-22k": ("imagenet22k", "imagenet21k", "in22k", "in21k"),
    "wit-400m": ("wit400mclip", "wit400m"),
    "laion-2b": ("laion2b", "laion2ben"),
    "digits": ("digits",),
    "fashion-mnist": ("fashionmnist",),
    "mnist": ("mnist",),
    "cifar-10": ("cifar10",),
    "cifar-100": ("cifar100",),
    "stl-10": ("stl10",),
    "svhn": ("svhn",),
    "tiny-imagenet": ("tinyimagenet", "tinyimagenet200"),
}
_IDS = {spelling: name for name, spellings in _SPELLINGS.items() for spelling in spellings}

#: ImageNet's 1,000 classes and their images are a part of the 22K release
_CONTAINS = {"imagenet-22k": ("imagenet-1k", "imagenet-1k-10%", "imagenet-1k-30%"),
             "imagenet-1k": ("imagenet-1k-10%", "imagenet-1k-30%")}  # fmt: skip

#: parts of other data, and crawls of the web: whether they hold a given image cannot be told from names
_UNCERTAIN = ("imagenet-1k-10%", "imagenet-1k-30%", "wit-400m", "laion-2b", "stl-10", "tiny-imagenet")


@dataclass(frozen=True, slots=True)
class DataIdentity:
    """What a data set is.

    Attributes
    ----------
    name : as its source gives it: "ImageNet-1K", "digits", a folder's or file's name
    kind : canonical id ("imagenet-1k", "digits"), None where the source does not tell
    """

    name: str
    kind: str | None = None


def data_id(name: str | None) -> str | None:
    """Canonical id of published data by name ("ImageNet-1K" → "imagenet-1k"); None for any other name."""
    return None if name is None else _IDS.get(re.sub(r"[^a-z0-9]", "", name.lower()))


def saw(pretraining: str | None, data: DataIdentity | str | None) -> bool | None:
    """Whether training images of `data` were among those that pretrained an encoder.

    Parameters
    ----------
    pretraining : canonical id of the encoder's pretraining data, from `data_id` (`EncoderSpec.pretraining_id`)
    data : identity of the probe's data, or its canonical id

    Returns
    -------
    True if the ids are equal or one is known to hold the other, False if both are known and differ, None if
    either is unknown or cannot be told (a crawl of the web, a part of the same data).
    """
    mine = data.kind if isinstance(data, DataIdentity) else data
    if pretraining is None or mine is None:
        return None
    if pretraining == mine or mine in _CONTAINS.get(pretraining, ()):
        return True
    return None if pretraining in _UNCERTAIN or mine in _UNCERTAIN else False
