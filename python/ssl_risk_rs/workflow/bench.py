"""What this machine reaches: images decoded and encoded, rows summed, scored and fitted; ImageNet at these rates."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from ssl_risk_rs import _core
from ssl_risk_rs._limits import check_whole
from ssl_risk_rs.datasets import create_dataset
from ssl_risk_rs.encoders import create_encoder
from ssl_risk_rs.errors import ParameterError
from ssl_risk_rs.extraction.forward import choose_device as choose_encoder_device
from ssl_risk_rs.probes.devices import choose_device, open_solver
from ssl_risk_rs.probes.features import Features
from ssl_risk_rs.probes.solver import Goal

if TYPE_CHECKING:
    from ssl_risk_rs.datasets import ImageDataset
    from ssl_risk_rs.extraction.speed import Speed

__all__ = ["MODEL", "Measured", "bench_machine"]

#: the encoder that is timed where none is named: an architecture that everyone knows, with random weights
MODEL = "random:resnet50"
#: rows of the drawn features, and their number and that of classes where nothing says otherwise: those of ImageNet
ROWS, FEATURES, CLASSES = 32_768, 2048, 1000
#: values that are drawn at most: 2 GB in float32, and half of that again for the rows as they are kept
MOST_VALUES = 1 << 29
#: images of ImageNet, and those of them that are training images
IMAGENET, IMAGENET_TRAIN = 1_331_167, 1_281_167
#: passes over all rows of a logistic decomposition of that size, those over a fold counted by its rows, and how many
#: times its rows a ridge one scores: measured (docs/speed.md)
PASSES, SCORED = 71, 3.0
#: of the logistic fit that is timed
ALPHA, TOL, MAX_PASSES = 1e-3, 1e-3, 100
#: passes of a fit that is cut off, the last of them exact, and the share of rows of a second such fit: what both take
#: besides is taken off
CUT, SHARE = 6, 0.25
#: share of its time from which the difference of both counts
CLEAR = 0.2
#: drawn images: how many, width and height of a photograph as ImageNet has them, octaves of their noise, and its grain,
#: with which a file has the 110 kB of ImageNet's
IMAGES, SIZE, OCTAVES, GRAIN = 64, (500, 375), 7, 42


@dataclass(frozen=True, slots=True)
class Measured:
    """One stage, or what follows for ImageNet.

    Attributes
    ----------
    stage : decode, encode, gram, judge, pass, logistic; "ImageNet: …" for what follows
    per_second : images or rows a second; None for a whole fit and for what follows
    seconds : that were timed, or that it would take
    how : what was done, as a user reads it
    """

    stage: str
    per_second: float | None
    seconds: float
    how: str


def bench_machine(
    *,
    model: str = MODEL,
    data: str | None = None,
    device: str = "auto",
    encoder_device: str = "auto",
    n_threads: int | None = None,
    n_rows: int = ROWS,
    n_features: int | None = None,
    n_classes: int = CLASSES,
    say: Callable[[str], None] = lambda _: None,
) -> Iterator[Measured]:
    """Time each stage of a run by itself, one after the other, in about half a minute on a laptop; nothing is kept.

    Parameters
    ----------
    model : encoder; default, a ResNet-50 with random weights
    data : images; default, drawn photographs of ImageNet's size
    device : of the probes, as in `decompose`; encoder_device : of the encoder, as in `extract`
    n_threads : of the probes' kernels; default, all
    n_rows, n_features, n_classes : of the drawn features; the encoder's number by default, else 2048
    say : called with sentences for the user

    Raises
    ------
    ParameterError for a number out of its range or a device that is not there; DataError, EncoderError for images or an
    encoder that cannot be used.
    """
    given = FEATURES if n_features is None else n_features
    for name, value in (("n_rows", n_rows), ("n_features", given), ("n_classes", n_classes)):
        check_whole(name, value, 2, MOST_VALUES)
    if (n_rows + n_classes) * given > MOST_VALUES:
        raise ParameterError(
            f"{n_rows:,} rows and {n_classes:,} classes of {given:,} features are too many to be drawn; give fewer: "
            f"{MOST_VALUES // given:,} in all"
        )
    if n_rows < 2 * n_classes:
        raise ParameterError(f"{n_rows:,} rows are too few for {n_classes:,} classes: give two for each, or more")
    place = choose_device(device, IMAGENET_TRAIN * given * n_classes)  # before minutes are spent
    choose_encoder_device(encoder_device)
    own = FEATURES
    images: list[Speed] = []
    with TemporaryDirectory(prefix="ssl-risk-bench-") as folder:
        for stage, speed, width in _images(model, data, encoder_device, Path(folder), say):
            own = width
            images.append(speed)
            yield Measured(stage, speed.images_per_second, speed.seconds, speed.how)
    rows: list[Measured] = []
    say("Features are drawn, summed, scored and fitted …")
    width = own if n_features is None else n_features
    for measured in _rows(n_rows, width, n_classes, place, n_threads):
        rows.append(measured)
        yield measured
    yield from _on_imagenet(images, rows)


def _images(
    model: str, data: str | None, device: str, folder: Path, say: Callable[[str], None]
) -> "Iterator[tuple[str, Speed, int]]":
    """Decoding and encoding, each with the number of the encoder's features."""
    from ssl_risk_rs.extraction.speed import decoding_speed, encoding_speed

    say(f"{model} is built …")
    encoder = create_encoder(model)
    dataset = _drawn_images(folder) if data is None else create_dataset(data)
    width = encoder.num_features[encoder.spec.features[0]]
    say("Images are decoded and encoded …")
    decoded, chunk = decoding_speed(dataset, encoder)
    source = f"{len(dataset):,} images of {data}" if data else f"{IMAGES} drawn JPEGs of {SIZE[0]} × {SIZE[1]}"
    yield "decode", replace(decoded, how=f"{source}, {decoded.how}"), width
    yield "encode", encoding_speed(encoder, chunk, device=device), width


def _drawn_images(folder: Path) -> "ImageDataset":
    """JPEGs of noise at all scales, half of them for each of two classes, as large as photographs of that size."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for i in range(IMAGES):
        picture = np.zeros((SIZE[1], SIZE[0], 3))
        for octave in range(1, OCTAVES + 1):
            small = rng.integers(0, 256, (2**octave + 1, 2**octave + 1, 3), dtype=np.uint8)
            picture += np.asarray(Image.fromarray(small).resize(SIZE, Image.Resampling.BICUBIC)) * 0.5**octave
        picture += rng.integers(-GRAIN, GRAIN + 1, (SIZE[1], SIZE[0], 1))
        place = folder / ("train" if i < IMAGES - 8 else "test") / f"class_{i % 2}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(place / f"{i}.jpg", quality=90)
    return create_dataset(f"folder:{folder}")


def _rows(n: int, d: int, k: int, place: str, n_threads: int | None) -> Iterator[Measured]:
    """Sums, scores and a logistic fit of drawn features."""
    rng = np.random.default_rng(0)
    labels = np.arange(n, dtype=np.uint32) % k
    x = rng.standard_normal((n, d), dtype=np.float32)
    x += 0.3 * rng.standard_normal((k, d), dtype=np.float32)[labels]
    features = Features.of_arrays(x.astype(np.float16))
    solver = open_solver(features, place, n_threads=n_threads)
    rows = np.arange(n, dtype=np.uint32)
    where = f"{n:,} × {d:,}" + ("" if place == "cpu" else f" on {solver.device}")
    solver.moments(rows[:256], labels, k, precision="float32")  # pays for what is done once
    began = time.perf_counter()
    moments = solver.moments(rows, labels, k, precision="float32")
    took = time.perf_counter() - began
    yield Measured("gram", n / took, took, f"{where}, float32{_kernel(place)}")
    design = moments.design(scaling="standardize", n_threads=n_threads)
    alpha = ALPHA * design.mean_variance
    (probe,) = solver.solve_ridge(design, [alpha])
    solver.judge([probe], rows[:256], labels)
    began = time.perf_counter()
    solver.judge([probe], rows, labels)
    took = time.perf_counter() - began
    yield Measured("judge", n / took, took, f"{where}, {k:,} classes")
    fit = solver.fit_logistic(rows, labels, design, alpha, Goal(TOL, MAX_PASSES))
    few = rows[: max(int(SHARE * n), k)]
    fewer = solver.moments(few, labels, k).design(scaling="standardize", n_threads=n_threads)
    _, on_few, on_all = (
        solver.fit_logistic(r, labels, of, alpha, Goal(1e-9, CUT), start=probe)
        for r, of in ((few, fewer), (few, fewer), (rows, design))  # the first on a design makes its model
    )
    took, gone = on_all.seconds, on_all.passes * n
    besides = "with what a fit takes besides, which so few rows do not show"
    if took - on_few.seconds > CLEAR * took:
        took, gone, besides = took - on_few.seconds, gone - on_few.passes * len(few), "without what a fit takes besides"
    yield Measured("pass", gone / took, took, f"{where}, {k:,} classes, {CUT - 1} of {CUT} rounded at most, {besides}")
    how = f"{where}, {k:,} classes, α {ALPHA:g}: to {TOL:g} in {fit.passes:.0f} passes"
    yield Measured("logistic", None, fit.seconds, how)


def _kernel(place: str) -> str:
    """Name of the kernel of exact products, where they are this CPU's."""
    chosen = [kernel.name for kernel in _core.kernels() if kernel.chosen and kernel.precision == "exact"]
    return f" ({chosen[0]})" if place == "cpu" and chosen else ""


def _on_imagenet(images: "list[Speed]", rows: list[Measured]) -> Iterator[Measured]:
    """What a run on ImageNet would take at these rates."""
    decode, encode = (IMAGENET / speed.images_per_second for speed in images)
    if images[1].on_cpu:
        yield Measured("ImageNet: images", None, decode + encode, f"{IMAGENET:,} images, both on the same cores")
    else:
        slower = "encode" if encode > decode else "decode"
        yield Measured("ImageNet: images", None, max(decode, encode), f"{IMAGENET:,} images, which wait for: {slower}")
    gram, judge, gone = (measured.per_second or np.nan for measured in rows[:3])
    ridge = IMAGENET_TRAIN * (1 / gram + SCORED / judge)
    yield Measured("ImageNet: ridge", None, ridge, "all risks, tuned: one pass, and scores of three times as many rows")
    took = IMAGENET_TRAIN * PASSES / gone
    yield Measured("ImageNet: logistic", None, took, f"all risks, tuned: about {PASSES} passes")
