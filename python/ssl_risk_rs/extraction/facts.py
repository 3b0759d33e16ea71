"""What decides a bank's numbers, and what its header tells about where they come from."""

import re
from hashlib import blake2b
from typing import TYPE_CHECKING

from ssl_risk_rs._extras import releases
from ssl_risk_rs.datasets.pixels import PIXELS_VERSION
from ssl_risk_rs.datasets.views import VIEWS_VERSION

if TYPE_CHECKING:
    from ssl_risk_rs.datasets import ImageDataset
    from ssl_risk_rs.encoders import Encoder
    from ssl_risk_rs.extraction.decoding import CorruptImage
    from ssl_risk_rs.extraction.scan import OverlapRecord

__all__ = ["FACTS_VERSION", "facts", "header", "library_versions", "samples_hash"]

#: rises when equal facts of an older release could stand for other numbers
FACTS_VERSION = 2

#: libraries whose release can move a feature
LIBRARIES = ("ssl-risk-rs", "numpy", "pillow", "timm", "torch", "torchvision")

#: fields of an encoder's spec that change an image before the network sees it
TRANSFORM = ("img_size", "resize", "interpolation", "mean", "std", "channels")


def facts(
    encoder: "Encoder", dataset: "ImageDataset", *, weights_hash: str, precision: str, fingerprint: str
) -> dict[str, object]:
    """Everything that changes a bank's numbers but the feature and the dtype it is stored in: its key hashes them.

    An encoder is its weights, architecture and, if it is the user's own, the code that built it: never the name or
    path it was asked for by. `weights_hash` is that of its module now. What pretrained it is among the facts because
    the header tells it.
    """
    spec = encoder.spec
    return {
        "version": FACTS_VERSION,
        "weights": weights_hash,
        "architecture": spec.architecture,
        "options": spec.options,
        "code": encoder.code_hash,
        "pretraining_data": spec.pretraining_data,
        "transform": transform_facts(encoder),
        "precision": precision,
        "data": fingerprint,
        "samples": samples_hash(dataset),
        "pixels": PIXELS_VERSION,
        "exif_orientation": dataset.exif_orientation,
        **({} if dataset.view is None else {"view": [dataset.view, VIEWS_VERSION]}),
    }


def samples_hash(dataset: "ImageDataset") -> str:
    """Hash of which images are used and how they are labelled: limit, left-out images, classes, further columns."""
    digest = blake2b("\0".join(dataset.class_names).encode(), digest_size=16)
    for column in dataset.samples.drop("path").iter_columns():
        digest.update(f"\n{column.name}\n".encode())
        digest.update("\0".join(map(str, column.to_list())).encode())
    return digest.hexdigest()


def transform_facts(encoder: "Encoder") -> dict[str, object]:
    """From decoded image to network input, JSON-ready.

    The fields of the spec say it all for our own transforms. Another library's are described by their `repr`
    too, less the addresses in it; of a user's own, nothing else is known but the side of its images.
    """
    transform: object = encoder.transform
    of_user = False
    if type(transform).__module__.startswith("ssl_risk_rs."):
        transform = getattr(transform, "transform", None)
        of_user = transform is not None and encoder.spec.source in ("code", "memory")
    values = {name: getattr(encoder.spec, name) for name in (("img_size",) if of_user else TRANSFORM)}
    found = {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}
    if transform is not None:
        found["other"] = re.sub(r" at 0x[0-9a-f]+", "", repr(transform))
    return found


def header(
    encoder: "Encoder",
    dataset: "ImageDataset",
    *,
    weights_hash: str,
    feature: str,
    precision: str,
    device: str,
    fingerprint: str,
    corrupt: "list[CorruptImage]",
    overlap: "OverlapRecord",
) -> dict[str, object]:
    """Provenance of a bank, JSON-ready."""
    spec = encoder.spec
    layer, _, pooling = feature.rpartition(":")
    return {
        "encoder": spec.name,
        "encoder_spec": spec.to_dict(),
        "encoder_notes": list(getattr(encoder, "notes", ())),  # an encoder of one's own may have none
        "weights_hash": weights_hash,
        "code_hash": encoder.code_hash,
        "code_files": list(encoder.code_files),
        "feature": feature,
        "layer": layer or "last",
        "pooling": pooling,
        "img_size": spec.img_size,
        "transform": transform_facts(encoder),
        "precision": precision,
        "device": device,
        "data": dataset.uri,
        "data_name": dataset.name,
        "data_id": dataset.identity.kind,
        "data_identity": {"name": dataset.identity.name, "kind": dataset.identity.kind},
        "data_fingerprint": fingerprint,
        "data_notes": dataset.notes,
        "limit": None if dataset.limit is None else str(dataset.limit),
        "limit_group": None if dataset.limit is None else dataset.group,
        "exif_orientation": dataset.exif_orientation,
        "view": dataset.view,
        "pixels_version": PIXELS_VERSION,
        "overlap": overlap,
        "excluded": [{"where": image.where, "reason": image.reason} for image in corrupt],
        "class_names": dataset.class_names,
        "pretraining_data": spec.pretraining_data,
        "pretraining_id": spec.pretraining_id,
        "licence": spec.licence,
        "versions": library_versions(),
    }


def library_versions() -> dict[str, str]:
    """Installed release of each library that can move a feature; imports none of them."""
    return releases(LIBRARIES)
