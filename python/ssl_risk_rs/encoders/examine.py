"""What a built encoder does with eight images: whether a pass changes it, whether features depend on more than the
image, what its transform does to pixels. Numbers only; `workflow.doctor_model` judges them."""

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ssl_risk_rs.encoders.catalogue import published_entry
from ssl_risk_rs.encoders.code_places import placed
from ssl_risk_rs.encoders.golden import golden_images
from ssl_risk_rs.encoders.names import parse_name
from ssl_risk_rs.encoders.sources.published import describe_published
from ssl_risk_rs.encoders.transforms import Preprocess
from ssl_risk_rs.errors import EncoderError

if TYPE_CHECKING:
    from ssl_risk_rs.encoders.encoder import Encoder

__all__ = ["Behaviour", "Prepared", "examine_module", "examine_transform"]


@dataclass(frozen=True, slots=True, eq=False)
class Behaviour:
    """What passes over the golden images show; differences are relative to the largest feature.

    Attributes
    ----------
    training : modules that are in training mode
    changed : tensors of the state that a pass changed, such as statistics of BatchNorm
    repeated : between two passes of the same batch
    order : between a batch and the same images in reverse
    size : between a batch of eight and images one by one; infinite where one image alone makes the module fail
    not_finite : images, from 0, that have a feature that is NaN or infinite
    features : float32 (8, d) by name; pixels : hash of what the network saw
    """

    training: tuple[str, ...]
    changed: tuple[str, ...]
    repeated: float
    order: float
    size: float
    not_finite: tuple[int, ...]
    features: dict[str, np.ndarray]
    pixels: str


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a transform does.

    Attributes
    ----------
    shape : (c, h, w) that the network sees
    mean, std : of its normalization, measured on a black and a white image
    levels : largest difference from the catalogue's preprocessing on the golden images, in grey levels of 255; None for
        an encoder that is not in the catalogue
    """

    shape: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    levels: float | None


def examine_module(encoder: "Encoder") -> Behaviour:
    """Run the encoder on the golden images, on the CPU in float32, and leave its state as it was."""
    module = encoder.module
    images = torch.stack([encoder.transform(image) for image in golden_images()])
    training = tuple(name or type(part).__name__ for name, part in module.named_modules() if part.training)
    before = {name: value.detach().clone() for name, value in module.state_dict().items()}
    with torch.inference_mode():
        first = _run(encoder, images)
        after = module.state_dict()
        changed = tuple(name for name, value in before.items() if not torch.equal(value, after[name]))
        second = _run(encoder, images)
        backward = _run(encoder, images.flip(0))
        try:
            single = [_run(encoder, image[None]) for image in images]
        except EncoderError:  # BatchNorm in training mode refuses one image
            single = []
    if changed:
        module.load_state_dict(before)
    one_by_one = {name: torch.cat([part[name] for part in single]) for name in first} if single else {}
    return Behaviour(
        training=training,
        changed=changed,
        repeated=_apart(first, second),
        order=_apart(first, {name: value.flip(0) for name, value in backward.items()}),
        size=_apart(first, one_by_one) if single else float("inf"),
        not_finite=_not_finite(first),
        features={name: value.numpy() for name, value in first.items()},
        pixels=hashlib.sha256(images.contiguous().numpy().tobytes()).hexdigest(),
    )


def examine_transform(encoder: "Encoder") -> Prepared:
    """Look at an encoder's transform, and at the catalogue's where it has the encoder."""
    from PIL import Image as pil

    black, white = (encoder.transform(pil.new("RGB", (300, 300), (v, v, v))).flatten(1).mean(1) for v in (0, 255))
    std = 1 / (white - black)  # (0 − mean)/std and (1 − mean)/std
    mean = -black * std
    levels = None
    name = parse_name(encoder.spec.name)
    row = published_entry(name.target if name.kind == "registry" else name.part)
    spec = None if row is None else describe_published(row)
    is_copy = name.kind in ("registry", "checkpoint") and not name.options
    if is_copy and spec is not None and spec.img_size == encoder.spec.img_size:
        reference = Preprocess(spec)
        scale = torch.tensor(spec.std)[:, None, None] * 255
        levels = 0.0
        for image in golden_images():
            ours, theirs = encoder.transform(image), reference(image)
            levels = max(levels, float((ours - theirs).mul(scale).abs().max()) if ours.shape == theirs.shape else 255.0)
    return Prepared(tuple(encoder.transform(golden_images()[0]).shape), _tuple(mean), _tuple(std), levels)


def _run(encoder: "Encoder", images: Tensor) -> dict[str, Tensor]:
    try:
        out: dict[str, Tensor] = encoder.module(images)
    except Exception as error:  # the module may be anyone's
        shape = " × ".join(map(str, images.shape))
        said = placed(error) or f"{type(error).__name__}: {error}"
        raise EncoderError(f"{encoder.spec.name} fails on the golden images, {shape}: {said}") from error
    return {name: value.float().clone() for name, value in out.items()}


def _not_finite(features: dict[str, Tensor]) -> tuple[int, ...]:
    finite = torch.stack([value.flatten(1).isfinite().all(1) for value in features.values()]).all(0)
    return tuple(torch.nonzero(~finite).flatten().tolist())


def _apart(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Largest difference, relative to the largest feature; infinite where one is no number."""
    found = 0.0
    for name, value in one.items():
        difference = float((value - other[name]).abs().max() / value.abs().max().clamp_min(1e-30))
        found = max(found, difference if difference == difference else float("inf"))
    return found


def _tuple(values: Tensor) -> tuple[float, ...]:
    return tuple(round(float(value), 6) + 0.0 for value in values)  # no -0
