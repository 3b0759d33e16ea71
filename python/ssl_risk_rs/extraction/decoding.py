"""Rows of a data set → image tensors, decoded by threads or processes ahead of the encoder."""

import ast
import shutil
import signal
import sys
import time
import warnings
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ssl_risk_rs.encoders.byte_transform import in_two_steps
from ssl_risk_rs.errors import EncoderError, SslRiskError

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from ssl_risk_rs.datasets import ImageDataset

    Transform = Callable[[Image], torch.Tensor]

__all__ = [
    "CorruptImage",
    "Decoded",
    "Decoder",
    "count_images",
    "decode",
    "describe_corrupt",
    "find_corrupt",
]

#: images a worker decodes at a time: small against a batch, so that the first batch is soon there
CHUNK = 32

#: workers at most beside a GPU
MOST_WORKERS = 32

#: chunks waiting for the encoder, for each worker
AHEAD = 2

#: below this many workers, or images for each of them, threads are as fast as processes and start at once
MIN_PROCESSES, MIN_IMAGES_EACH = 4, 200


class CorruptImage(NamedTuple):
    """An image that cannot be decoded."""

    row: int
    where: str  # file, or data set and sample id
    reason: str


class Decoded(NamedTuple):
    """Images of one chunk: uint64 rows (m,) and a float32 tensor (m, c, h, w), None if m = 0; of a `ByteTransform`
    uint8 (m, h, w, c), not normalized yet.

    `oriented` counts the images whose EXIF data ask for another orientation than the stored one; the rest are seconds
    that the worker took to read and decode files, to transform images, and to put them into one tensor.
    """

    rows: np.ndarray
    images: "torch.Tensor | None"
    corrupt: list[CorruptImage]
    oriented: int = 0
    decode_seconds: float = 0.0
    transform_seconds: float = 0.0
    collate_seconds: float = 0.0


class Decoder:
    """Chunk i of the rows, decoded; what a worker holds.

    With `pin` a chunk made in this process lies in pinned memory, which a CUDA device reads while the host goes on.
    """

    def __init__(
        self,
        dataset: "ImageDataset",
        transform: "Transform",
        rows: np.ndarray,
        chunk: int = CHUNK,
        *,
        pin: bool = False,
    ) -> None:
        self.dataset, self.rows, self.chunk, self.pin = dataset, rows, chunk, pin
        steps = in_two_steps(transform)
        self.transform = transform if steps is None else steps.pixels

    def __len__(self) -> int:
        return -(-len(self.rows) // self.chunk)

    def __getitem__(self, i: int) -> Decoded:
        import torch

        rows: list[int] = []
        images: list[torch.Tensor] = []
        corrupt: list[CorruptImage] = []
        oriented = 0
        decode_seconds = transform_seconds = 0.0
        for row in self.rows[i * self.chunk : (i + 1) * self.chunk].tolist():
            start = time.perf_counter()
            try:
                picture = self.dataset.picture(row)
            except SslRiskError as error:  # a sentence
                corrupt.append(CorruptImage(row, self.dataset.where(row), str(error)))
                continue
            except Exception as error:  # decoders raise almost anything on a damaged file
                corrupt.append(CorruptImage(row, self.dataset.where(row), f"{type(error).__name__}: {error}"))
                continue
            oriented += picture.orientation != 1
            decoded = time.perf_counter()
            try:
                images.append(self.transform(picture.image))
            except Exception as error:
                where = self.dataset.where(row)
                raise EncoderError(f"the encoder's transform fails on {where}: {error}") from error
            rows.append(row)
            decode_seconds += decoded - start
            transform_seconds += time.perf_counter() - decoded
        if len({image.shape for image in images}) > 1:
            shapes = sorted({tuple(image.shape) for image in images})
            raise EncoderError(f"the transform gives images of different sizes, {shapes}; set --img-size")
        start = time.perf_counter()
        stacked = None
        if images and self.pin and torch.utils.data.get_worker_info() is None:
            shape = (len(images), *images[0].shape)
            stacked = torch.stack(images, out=torch.empty(shape, dtype=images[0].dtype, pin_memory=True))
        elif images:
            stacked = torch.stack(images)
        return Decoded(
            np.array(rows, dtype=np.uint64), stacked, corrupt, oriented,
            decode_seconds, transform_seconds, time.perf_counter() - start,
        )  # fmt: skip


def decode(decoder: Decoder, workers: int, *, chunk_bytes: int = 0) -> Generator[Decoded, None, None]:
    """The chunks in order, decoded ahead by `workers` (0: in this thread, when asked for).

    Processes where many images wait for many workers, because the interpreter lock holds threads back at some
    thousand images a second; threads otherwise, or where shared memory has no room for `chunk_bytes` a chunk.
    Close the generator to end the workers early.
    """
    if workers < 1:
        return (decoder[i] for i in range(len(decoder)))
    many = workers >= MIN_PROCESSES and len(decoder.rows) >= MIN_IMAGES_EACH * workers
    if many and _processes_work(decoder, 2 * workers * AHEAD * chunk_bytes):
        return _in_processes(decoder, workers)
    return _in_threads(decoder, workers)


def _in_threads(decoder: Decoder, workers: int) -> Generator[Decoded, None, None]:
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        window = deque(pool.submit(decoder.__getitem__, i) for i in range(min(len(decoder), AHEAD * workers)))
        try:
            for i in range(len(decoder)):
                decoded = window.popleft().result()
                if i + AHEAD * workers < len(decoder):
                    window.append(pool.submit(decoder.__getitem__, i + AHEAD * workers))
                yield decoded
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _in_processes(decoder: Decoder, workers: int) -> Generator[Decoded, None, None]:
    from torch.utils.data import DataLoader

    # a generator like the others: closing it drops the loader's iterator, which ends the workers
    with warnings.catch_warnings():
        # as many were asked for, or found out from what this process may use
        warnings.filterwarnings("ignore", message="This DataLoader will create")
        loader: DataLoader[Decoded] = DataLoader(
            decoder,  # type: ignore[arg-type]  # a map from index to chunk, as DataLoader wants
            batch_size=None,  # a chunk is what travels
            num_workers=workers,
            prefetch_factor=AHEAD,
            pin_memory=decoder.pin,
            worker_init_fn=_ignore_interrupt,
        )
    yield from loader


def _ignore_interrupt(_: int) -> None:
    """^C is the main process's business; it ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _processes_work(decoder: Decoder, shared_bytes: int) -> bool:
    """Whether shared memory has room (containers often give 64 MB) and a worker can be given the decoder."""
    import multiprocessing
    import pickle

    with suppress(OSError):
        if shutil.disk_usage("/dev/shm").free < shared_bytes:
            return False
    if multiprocessing.get_start_method() == "fork":
        return True
    if not _main_can_be_imported():
        return False
    try:
        pickle.dumps(decoder)
    except Exception:  # a transform written as a lambda, say
        return False
    return True


def _main_can_be_imported() -> bool:
    """Whether workers that are not forked, which import the main module anew, may do so: not a script whose lines would
    all run again, because none of them is below an `if __name__ == …`."""
    file = getattr(sys.modules["__main__"], "__file__", None)
    if file is None:  # a prompt or a notebook, which is not imported
        return True
    try:
        lines = ast.parse(Path(file).read_bytes()).body
    except (OSError, SyntaxError, ValueError):  # no file of Python: a binary that starts it
        return True
    guards = (line.test for line in lines if isinstance(line, ast.If))
    return any(isinstance(part, ast.Name) and part.id == "__name__" for test in guards for part in ast.walk(test))


def find_corrupt(
    dataset: "ImageDataset",
    *,
    workers: int,
    rows: np.ndarray | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[CorruptImage]:
    """Decode every image once, or those of `rows` (uint64), and list those that cannot be.

    `progress(rows)` is called after each chunk with the number of rows decoded so far.
    """
    rows = np.arange(len(dataset), dtype=np.uint64) if rows is None else rows
    corrupt: list[CorruptImage] = []
    for i, decoded in enumerate(decode(Decoder(dataset, _nothing, rows), workers)):
        corrupt += decoded.corrupt
        if progress is not None:
            progress(min((i + 1) * CHUNK, len(rows)))
    return corrupt


def _nothing(image: "Image") -> "torch.Tensor":
    import torch

    return torch.empty(0)


def count_images(n: int) -> str:
    """`1 image`, `1,200 images`."""
    return f"{n:,} image" if n == 1 else f"{n:,} images"


def describe_corrupt(corrupt: Sequence[CorruptImage], show: int = 10) -> str:
    """The images, one a line; the first `show` of them."""
    lines = [f"  {image.where}: {image.reason}" for image in corrupt[:show]]
    if len(corrupt) > show:
        lines.append(f"  … and {len(corrupt) - show:,} more")
    return "\n".join(lines)
