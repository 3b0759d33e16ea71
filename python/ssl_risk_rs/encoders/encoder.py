"""A built encoder: frozen module, preprocessing, sizes and a hash of its weights."""

import hashlib
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from ssl_risk_rs.encoders.code_places import placed
from ssl_risk_rs.encoders.spec import EncoderSpec
from ssl_risk_rs.encoders.transforms import InColour
from ssl_risk_rs.errors import EncoderError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    "Encoder", "OutputModule", "behaviour", "finish", "finish_own", "hash_weights", "random_numbers_of_its_own",
    "side_of",
]  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Encoder:
    """An encoder ready to extract with.

    Attributes
    ----------
    spec : what is known of it; `spec.features` are the features this encoder returns
    module : in eval mode, without gradients; float32 images (b, c, h, w) → {feature name: Tensor (b, d)}
    transform : PIL image → float32 tensor (c, h, w)
    num_features : d of each feature
    weights_hash : SHA-256 over names, dtypes, shapes and values of the module's tensors
    code_hash : SHA-256 over the source files of a `file.py:function`, None for all others
    code_files : those files, relative to the first one's folder
    notes : what was told of it while it was built: which tensors of its file, what was left over or guessed
    """

    spec: EncoderSpec
    module: nn.Module
    transform: "Callable[[Image], Tensor]"
    num_features: dict[str, int]
    weights_hash: str
    code_hash: str | None = None
    code_files: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class OutputModule(nn.Module):
    """Gives a module that returns one tensor (b, d), or a dictionary of them, the form of an encoder."""

    def __init__(self, module: nn.Module, name: str = "output") -> None:
        super().__init__()
        self.backbone = module
        self.name = name

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        out = self.backbone(images)
        return out if isinstance(out, dict) else {self.name: out}


def finish(spec: EncoderSpec, module: nn.Module, transform: "Callable[[Image], Tensor]") -> Encoder:
    """Freeze the module, run it once on a grey image, and hash its weights.

    Raises
    ------
    EncoderError if the module fails, or returns something else than named features of shape (b, d).
    """
    from PIL import Image as pil

    module.eval().requires_grad_(False)
    side = spec.img_size or 32
    try:
        with torch.inference_mode(), torch.random.fork_rng(devices=[]):
            image = transform(pil.new("RGB", (side, side), (127, 127, 127)))
            if not isinstance(image, Tensor):
                raise TypeError(f"its transform returns {type(image).__name__}, no Tensor (c, h, w)")
            out = module(image[None].repeat(2, 1, 1, 1))
    except Exception as error:  # the module may be anyone's
        said = placed(error) or error
        of_own = spec.source in ("code", "memory")
        hint = "; if it takes images of another side, --img-size (img_size=) says which" if of_own else ""
        if of_own and "channels" in str(said):
            hint = "; images come in colour: Grayscale() in its transform gives one channel"
        raise EncoderError(f"{spec.name} fails on an image of {side}×{side} pixels: {said}{hint}") from error
    for name, value in out.items():
        if not isinstance(value, Tensor) or value.ndim != 2 or len(value) != 2:
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise EncoderError(f"{spec.name} returns {shape} as {name} for 2 images; pool it to (2, n_features)")
    features = {name: value.shape[1] for name, value in out.items()}
    return Encoder(replace(spec, features=tuple(features)), module, transform, features, hash_weights(module))


def finish_own(
    spec: EncoderSpec, module: nn.Module, transform: "Callable[[Image], Tensor]", *, img_size: int | None
) -> Encoder:
    """`finish` with a transform of the user's own: images reach it in colour, as every other does, and the size of
    images is what it gives, else the one that was named.

    Raises
    ------
    As `finish`.
    """
    encoder = finish(spec, module, InColour(transform))
    return replace(encoder, spec=replace(encoder.spec, img_size=side_of(transform) or img_size))


def side_of(transform: "Callable[[Image], Tensor]") -> int | None:
    """Side of the square images that a transform gives, whatever image it is given; None where there is no such side.

    Examples
    --------
    >>> side_of(lambda image: torch.zeros(3, 96, 96)), side_of(lambda image: torch.zeros(3, *image.size))
    (96, None)
    """
    from PIL import Image as pil

    try:
        with torch.random.fork_rng(devices=[]):
            shapes = {tuple(transform(pil.new("RGB", size)).shape[-2:]) for size in ((224, 224), (288, 352))}
        (height, width), *others = shapes
    except Exception:  # anyone's code, which may take images of one size alone, or give no images
        return None
    return int(height) if not others and height == width else None


def behaviour(encoder: Encoder) -> str:
    """Sizes of the features of one made-up image, and their mean size and spread to three digits: what the weights of a
    network do not tell of it."""
    from PIL import Image as pil

    side = encoder.spec.img_size or 224  # as `finish` has tried it where the size of images is not known
    pixels = (torch.arange(side * side * 3).reshape(side, side, 3) * 37 % 251).to(torch.uint8)
    with torch.inference_mode(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)  # one that draws while it is evaluated is known again
        image = encoder.transform(pil.fromarray(pixels.numpy()))
        found = {name: out.float() for name, out in encoder.module(image[None].repeat(2, 1, 1, 1)).items()}
    return " ".join(
        f"{name} {out.shape[1]} {float(out.abs().mean()):.3g} {float(out.std(correction=0)):.3g}"
        for name, out in sorted(found.items())
    )


@contextmanager
def random_numbers_of_its_own() -> Iterator[None]:
    """The generators of torch, NumPy and Python are after the block as they were before: a transform or a module may
    draw, and the training does not notice. They start from 0, so that what one thread draws is the same each time."""
    before = random.getstate(), np.random.get_state()  # noqa: NPY002  # the generator that transforms draw from
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    try:
        with torch.random.fork_rng(devices=devices):
            torch.default_generator.manual_seed(0)
            random.seed(0)
            np.random.seed(0)  # noqa: NPY002
            yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002


def hash_weights(module: nn.Module) -> str:
    """SHA-256 over names, dtypes, shapes and values of the tensors, whatever their order and device."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        if flat.numel():
            digest.update(memoryview(flat.view(torch.uint8).numpy()))
    return f"sha256:{digest.hexdigest()}"
