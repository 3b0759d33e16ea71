"""What an extraction would take: rows, bytes, time and memory, from a few timed batches, written nowhere."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ssl_risk_rs.extraction.decoding import Decoded
from ssl_risk_rs.extraction.job import Job, feature_names
from ssl_risk_rs.extraction.loop import Loop
from ssl_risk_rs.extraction.rates import Bottleneck
from ssl_risk_rs.extraction.settings import ExtractionSettings
from ssl_risk_rs.extraction.shard import Shard, missing_in

if TYPE_CHECKING:
    from ssl_risk_rs.bank import FeatureBank
    from ssl_risk_rs.bank.store import FeatureStore
    from ssl_risk_rs.datasets import ImageDataset
    from ssl_risk_rs.encoders import Encoder

__all__ = ["Forecast", "forecast"]

#: seconds after which no further batch is timed: some batches of a slow encoder, thousands of images of a quick one
SECONDS = 8.0

#: images that are timed at most
MOST_IMAGES = 8192

#: bytes of a row's number in the row index
INDEX_BYTES = 8


@dataclass(frozen=True, slots=True)
class Forecast:
    """What filling one bank would take; of several features of one pass, each has the seconds of that pass.

    Attributes
    ----------
    encoder, feature, data, view : as in the bank's header
    rows, missing : of the bank (of the shard), and those not encoded yet
    n_features, dtype : of the bank
    bytes : of features and row index still to be written
    images_per_second : measured with decoding, without start-up; None if no row is missing
    bottleneck : what the others wait for
    seconds : for the missing rows, without start-up
    batch_size, device : as they would be used
    memory : peak bytes on the device; on a CPU, of the process; None where the system does not tell
    timed : images that were timed
    corrupt : of these, images that cannot be decoded
    """

    encoder: str
    feature: str
    data: str
    view: int | None
    rows: int
    missing: int
    n_features: int
    dtype: str
    bytes: int
    images_per_second: float | None = None
    bottleneck: Bottleneck | None = None
    seconds: float = 0.0
    batch_size: int | None = None
    device: str | None = None
    memory: int | None = None
    timed: int = 0
    corrupt: int = 0


def nothing_to_do(bank: "FeatureBank", shard: Shard | None) -> Forecast:
    """Of a bank that has all its rows (of the shard)."""
    return Forecast(
        encoder=bank.header.encoder or "",
        feature=bank.header.feature or "",
        data=bank.header.data or "",
        view=bank.header.view,
        rows=bank.n_rows if shard is None else len(shard.span(bank.n_rows)),
        missing=0,
        n_features=bank.n_features,
        dtype=bank.dtype,
        bytes=0,
    )


def forecast(
    encoder: "Encoder",
    dataset: "ImageDataset",
    *,
    store: "FeatureStore | Path | str | None" = None,
    features: Sequence[str] | None = None,
    settings: ExtractionSettings | None = None,
    shard: Shard | None = None,
    say: Callable[[str], None] | None = None,
) -> list[Forecast]:
    """What `extract` would take with these arguments; one entry for each feature.

    Encodes images spread over the missing rows for some seconds. Nothing is written; images that `skip_corrupt` would
    look for before are counted among those timed.
    """
    from ssl_risk_rs.bank.store import FeatureStore

    store = store if isinstance(store, FeatureStore) else FeatureStore(store)
    settings = replace(settings or ExtractionSettings(), skip_corrupt=False)  # its scan is written down
    job = Job(encoder, dataset, store, feature_names(encoder, features), settings, shard, None, say, None)
    dtypes = job.stored_dtypes()
    span = range(len(dataset)) if shard is None else shard.span(len(dataset))
    missing: dict[str, np.ndarray] = {}
    for name in job.names:
        bank = job.in_store(name)
        missing[name] = np.arange(span.start, span.stop, dtype=np.uint64) if bank is None else missing_in(bank, shard)
    plain = [
        Forecast(
            encoder=encoder.spec.name,
            feature=name,
            data=dataset.uri,
            view=settings.view,
            rows=len(span),
            missing=len(missing[name]),
            n_features=encoder.num_features[name],
            dtype=dtypes[name],
            bytes=len(missing[name]) * (encoder.num_features[name] * np.dtype(dtypes[name]).itemsize + INDEX_BYTES),
        )
        for name in job.names
    ]
    rows = np.unique(np.concatenate(list(missing.values())))
    if len(rows) == 0:
        return plain
    timed = _timed(job, rows)
    return [replace(entry, **asdict(timed)) if entry.missing else entry for entry in plain]


@dataclass(frozen=True, slots=True)
class _Timed:
    """The part of a forecast that is measured."""

    images_per_second: float
    bottleneck: Bottleneck
    seconds: float
    batch_size: int
    device: str
    memory: int | None
    timed: int
    corrupt: int


def _timed(job: Job, missing: np.ndarray) -> _Timed:
    """Run the loop on some of the missing rows, spread over all of them."""
    n = min(MOST_IMAGES, len(missing))
    rows = np.random.default_rng(0).permutation(missing[np.linspace(0, len(missing) - 1, n).astype(np.int64)])
    ends: list[tuple[float, int, bool]] = []  # when a batch was done, its images, whether its size was still searched
    corrupt = 0

    def sound(stream: Iterator[Decoded]) -> Iterator[Decoded]:
        nonlocal corrupt
        for decoded in stream:
            corrupt += len(decoded.corrupt)
            yield decoded._replace(corrupt=[])
            if time.perf_counter() - start > SECONDS and len(ends) > 1:
                return

    def put(rows: np.ndarray, features: dict[str, np.ndarray]) -> None:
        ends.append((time.perf_counter(), len(rows), batch_size.searching))

    batch_size = job.batch_size(len(missing))
    loop = Loop(job.forward, put, batch_size=batch_size, done=0, total=n, progress=job.progress)
    start = time.perf_counter()
    with closing(job.stream(rows)) as stream:
        loop.run(sound(stream), job.check_features)
    chosen = [end for end in ends if not end[2]]
    steady = chosen if len(chosen) > 2 else ends  # the first batch pays for what is done once
    if len(steady) > 1:
        rate = sum(images for _, images, _ in steady[1:]) / max(steady[-1][0] - steady[0][0], 1e-9)
    else:
        rate = sum(images for _, images, _ in steady) / max(time.perf_counter() - start, 1e-9)
    return _Timed(
        images_per_second=rate,
        bottleneck=max(loop.waited, key=loop.waited.__getitem__),
        seconds=len(missing) / rate if rate else float("inf"),
        batch_size=batch_size.size,
        device=str(job.device),
        memory=_peak_memory(job),
        timed=sum(images for _, images, _ in ends) + corrupt,
        corrupt=corrupt,
    )


def _peak_memory(job: Job) -> int | None:
    if job.device.type == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated(job.device))
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # Linux counts in kB
