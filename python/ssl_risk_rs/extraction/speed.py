"""How fast this machine decodes images and encodes them, each stage alone."""

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ssl_risk_rs._cpus import count_cpus
from ssl_risk_rs.encoders.byte_transform import in_two_steps
from ssl_risk_rs.errors import DataError
from ssl_risk_rs.extraction.decoding import MOST_WORKERS, Decoder, decode
from ssl_risk_rs.extraction.forward import Amp, Features, Forward, choose_device, choose_precision

if TYPE_CHECKING:
    import torch

    from ssl_risk_rs.datasets import ImageDataset
    from ssl_risk_rs.encoders import Encoder

__all__ = ["Speed", "decoding_speed", "encoding_speed"]

#: seconds after which a stage is no longer timed, and images that it decodes at most
SECONDS = 4.0
MOST_IMAGES = 16_384


@dataclass(frozen=True, slots=True)
class Speed:
    """Images that a stage took, the seconds, how it ran, and whether on the host's cores."""

    images: int
    seconds: float
    how: str
    on_cpu: bool = True

    @property
    def images_per_second(self) -> float:
        """Images a second."""
        return self.images / max(self.seconds, 1e-9)


def decoding_speed(
    dataset: "ImageDataset", encoder: "Encoder", *, seconds: float = SECONDS
) -> "tuple[Speed, torch.Tensor]":
    """Files to what the encoder takes, by as many workers as a run beside a GPU has; and a chunk of it.

    Up to 16,384 images, few ones again and again. The start of the workers is not counted.

    Raises
    ------
    DataError if an image cannot be decoded.
    """
    workers = min(count_cpus(), MOST_WORKERS)
    rows = np.resize(np.arange(len(dataset), dtype=np.uint64), MOST_IMAGES)
    chunk: torch.Tensor | None = None
    done, began, ended = 0, time.perf_counter(), 0.0
    with closing(decode(Decoder(dataset, encoder.transform, rows), workers)) as stream:
        for decoded in stream:
            for image in decoded.corrupt:
                raise DataError(f"{image.where}: {image.reason}; ssl-risk-rs data check lists such images")
            ended = time.perf_counter()
            if chunk is None:  # the workers are there now
                chunk, began = decoded.images, ended
                continue
            done += len(decoded.rows)
            if ended - began > seconds:
                break
    if chunk is None:
        raise DataError(f"{dataset.uri} has no images")
    of = "worker" if workers == 1 else "workers"
    return Speed(done, ended - began, f"{workers} {of}"), chunk


def encoding_speed(
    encoder: "Encoder", images: "torch.Tensor", *, device: str = "auto", amp: Amp = "auto", seconds: float = SECONDS
) -> Speed:
    """Pixels to features, as a run encodes them: a batch begins before the one before has arrived.

    images : a chunk that `decoding_speed` gave
    """
    place = choose_device(device)
    precision = choose_precision(amp, place)
    steps = in_two_steps(encoder.transform)
    forward = Forward(
        encoder.module,
        encoder.spec.features[:1],
        device=place,
        precision=precision,
        img_size=encoder.spec.img_size,
        normalize=None if steps is None else steps.normalize,
    )
    batch = images[np.resize(np.arange(len(images)), forward.batch_size)]
    if place.type == "cuda":
        batch = batch.pin_memory()
    forward([batch]).arrays()  # pays for what is done once
    done, began = 0, time.perf_counter()
    for features in _ahead(forward, batch):
        features.arrays()
        done += len(batch)
        if time.perf_counter() - began > seconds:
            break
    took = time.perf_counter() - began
    return Speed(
        done, took, f"{encoder.spec.name}, {precision} on {place}, batches of {len(batch)}", place.type == "cpu"
    )


def _ahead(forward: Forward, batch: "torch.Tensor") -> Iterator[Features]:
    """The same batch without end, the next one begun before the last is handed over."""
    before = forward([batch])
    while True:
        after = forward([batch])
        yield before
        before = after
