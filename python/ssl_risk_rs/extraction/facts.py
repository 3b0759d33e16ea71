"""What decides a bank's numbers, and what its header tells about where they come from."""

import re
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssl_risk_rs.datasets import ImageDataset
    from ssl_risk_rs.extraction.decoding import CorruptImage

__all__ = ["facts", "header", "library_versions"]

#: libraries whose release can move a feature
LIBRARIES = ("ssl-risk-rs", "numpy", "pillow", "timm", "torch", "torchvision")

#: fields of an encoder's spec that change an image before the network sees it
TRANSFORM = ("img_size", "resize", "interpolation", "mean", "std", "channels")


def facts(encoder: Any, dataset: "ImageDataset", *, feature: str, precision: str, hash_content: bool) -> dict[str, Any]:
    """Everything that changes a bank's numbers but the dtype it is stored in: the bank's key is their hash.

    The files' fingerprint is taken before any limit; limit and left-out images are facts of their own.
    """
    excluded = blake2b("\n".join(sorted(dataset.excluded)).encode(), digest_size=16).hexdigest()
    return {
        "encoder": encoder.spec.name,
        "weights": encoder.weights_hash,
        "feature": feature,
        "transform": transform_facts(encoder),
        "precision": precision,
        "data": dataset.fingerprint(hash_content),
        "limit": None if dataset.limit is None else str(dataset.limit),
        "excluded": excluded if dataset.excluded else None,
    }


def transform_facts(encoder: Any) -> dict[str, Any]:
    """From decoded image to network input, JSON-ready.

    The fields of the spec say it all for our own transforms. Another library's are described by their `repr`
    too, less the addresses in it.
    """
    values = {name: getattr(encoder.spec, name) for name in TRANSFORM}
    found = {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}
    transform = encoder.transform
    if type(transform).__module__.startswith("ssl_risk_rs."):
        transform = getattr(transform, "transform", None)
    if transform is not None:
        found["other"] = re.sub(r" at 0x[0-9a-f]+", "", repr(transform))
    return found


def header(
    encoder: Any,
    dataset: "ImageDataset",
    *,
    feature: str,
    precision: str,
    device: str,
    fingerprint: str,
    corrupt: "list[CorruptImage]",
) -> dict[str, Any]:
    """Provenance of a bank, JSON-ready."""
    spec = encoder.spec
    layer, _, pooling = feature.rpartition(":")
    return {
        "encoder": spec.name,
        "encoder_spec": spec.to_dict(),
        "weights_hash": encoder.weights_hash,
        "feature": feature,
        "layer": layer or "last",
        "pooling": pooling,
        "img_size": spec.img_size,
        "transform": transform_facts(encoder),
        "precision": precision,
        "device": device,
        "data": dataset.uri,
        "data_name": dataset.name,
        "data_fingerprint": fingerprint,
        "data_notes": dataset.notes,
        "limit": None if dataset.limit is None else str(dataset.limit),
        "excluded": [{"where": image.where, "reason": image.reason} for image in corrupt],
        "class_names": dataset.class_names,
        "pretraining_data": spec.pretraining_data,
        "licence": spec.licence,
        "versions": library_versions(),
    }


def library_versions() -> dict[str, str]:
    """Installed release of each library that can move a feature; imports none of them."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # torchvision, say
            continue
    return found
