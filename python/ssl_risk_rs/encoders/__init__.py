"""Encoders: a name becomes a frozen module, its preprocessing and a hash of its weights.

    swav, dino_vitS16_last, …       published encoders, downloaded once (list_encoders)
    timm:vit_small_patch14_dinov2   any model of timm with pretrained weights
    random:resnet50?seed=1          an architecture with random weights: the control encoder
    ckpt:FILE@resnet50              a file of weights, of which nothing is run, and its architecture (timm's, ours,
                                    or a published name); how its images were prepared: ?mean=…&std=…&resize=…
    file.py:function                your own code: it is run; ckpt:FILE@file.py:function fills its network from a file
    hub:OWNER/REPO[:REF]:ENTRY      an entry of a repository's hubconf.py: its code is run
    hf:OWNER/REPO[@REVISION]        a model of transformers, or a folder of save_pretrained, with its own processor
    openclip:ARCH/TAG               the image tower of a model of open_clip: a tag, a file, or a folder
    pixels:8                        mean pixels on an 8 by 8 grid: cannot have memorized anything
    demo_ssl                        bundled: 8×8 digits, SSL; with demo_supervised and demo_random

In Python a torch.nn.Module stands in place of a name: one that is being trained, say.

Describing and listing need no torch (timm's models aside); creating does.
"""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from ssl_risk_rs.encoders.sources import build, describe, list_names
from ssl_risk_rs.encoders.spec import EncoderSpec, Layers
from ssl_risk_rs.encoders.told import Told
from ssl_risk_rs.errors import EncoderError, ParameterError

if TYPE_CHECKING:
    from typing import TypeAlias

    from PIL.Image import Image
    from torch import Tensor
    from torch.nn import Module as Module

    from ssl_risk_rs.encoders.encoder import Encoder

    #: PIL image → float32 Tensor (c, h, w)
    Transform: TypeAlias = Callable[[Image], Tensor]

__all__ = ["Encoder", "EncoderSpec", "create_encoder", "describe_encoder", "list_encoders"]


def __getattr__(name: str) -> object:  # the class needs torch
    if name == "Encoder":
        from ssl_risk_rs.encoders.encoder import Encoder

        return Encoder
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


#: packages that run encoders
_RUNTIME = ("torch", "torchvision", "timm")


@contextmanager
def _needs_torch(name: str) -> Iterator[None]:
    """A missing package becomes a sentence with the line that installs it."""
    try:
        yield
    except ImportError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _RUNTIME:
            raise
        raise EncoderError(
            f"{name} needs {package}, which cannot be imported ({error}). Install what runs encoders:  "
            "python -m pip install torch torchvision timm"
        ) from error


def create_encoder(
    encoder: "str | Module",
    *,
    layers: Layers = None,
    pool: str | None = None,
    img_size: int | None = None,
    match: Literal["name", "order"] = "name",
    transform: "Transform | None" = None,
    name: str | None = None,
    pretraining_data: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> "Encoder":
    """Build an encoder, on the CPU, frozen and in eval mode.

    >>> from torch import nn
    >>> net = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten())  # one that is being trained, say
    >>> create_encoder(net, img_size=32, name="epoch 3").num_features
    {'output': 48}

    Parameters
    ----------
    encoder : a name, see the module's docstring; `file.py:function` runs that file. Or a module that maps float32
        images (b, c, h, w) to a Tensor (b, d), or to {feature: Tensor (b, d)}: it is copied, and neither its mode nor
        its weights change, now or when the copy encodes
    layers : feature names ("cls+avg", "blocks.5:cls") or layers ("last", "blocks.5"); default: its own
    pool : pooling for layers that name none ("avgpool", "cls", "avg", "cls+avg", "4xcls")
    img_size : side of the images the network sees (the resize keeps its ratio to it); default: its own
    match : "order" assigns a checkpoint's tensors by position, where only names differ; shapes must fit
    transform : of a module: PIL image → float32 Tensor (c, h, w); default: ImageNet's usual one, at `img_size`
    name : of a module, in tables and banks; default: its class
    pretraining_data : of a module: the data set that trained it ("imagenet"), which notes on encoder generalization
        depend on
    progress : receives lines of text (downloads, licence, tensors matched, left over); default: the log

    Returns
    -------
    Encoder: `module` maps float32 images (b, c, h, w) to {feature: Tensor (b, num_features[feature])}.

    Raises
    ------
    EncoderError if the name is unknown, the weights cannot be had, or a tensor does not fit; ParameterError for what
    is neither a name nor a module, and for what only the other takes.
    """
    if match not in ("name", "order"):
        raise ParameterError(f'match is "name" or "order", not {match!r}')
    told = Told(progress or logging.getLogger(__name__).info)
    of_module = {"transform": transform, "name": name, "pretraining_data": pretraining_data}
    if isinstance(encoder, str):
        given = [option for option, value in of_module.items() if value is not None]
        if given:
            raise ParameterError(f"{given[0]} belongs to a module; {encoder} has its own")
        with _needs_torch(encoder):
            built = build(encoder, layers=layers, pool=pool, img_size=img_size, match=match, progress=told)
            return replace(built, notes=(*built.notes, *told.sentences))
    if not _is_module(encoder):
        raise ParameterError(
            f"an encoder is a name or a torch.nn.Module, not {type(encoder).__name__}; a function that makes one is "
            "named file.py:function"
        )
    from ssl_risk_rs.encoders.sources.live import build_live

    built = build_live(
        encoder,
        name=name,
        transform=transform,
        layers=layers,
        pool=pool,
        img_size=img_size,
        pretraining_data=pretraining_data,
        progress=told,
    )
    return replace(built, notes=told.sentences)


def _is_module(value: object) -> bool:
    """Whether it is a module of torch; where torch was not imported nothing is."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.nn.Module)


def describe_encoder(name: str) -> EncoderSpec:
    """The facts of an encoder, nothing built or downloaded.

    Raises
    ------
    EncoderError if the name is unknown (with the nearest names), or known but not loadable (with the reason).
    """
    with _needs_torch(name):
        return describe(name)


def list_encoders(pattern: str = "*", *, recognised: bool = False) -> list[str]:
    """Names matching a shell pattern: bundled and published encoders, or timm's for `timm:PATTERN`.

    `recognised=True` adds published encoders that cannot be loaded by name yet.
    """
    return list_names(pattern, recognised=recognised)
