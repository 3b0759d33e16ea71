"""The device loop: decoded chunks in, features out, one batch ahead on the device."""

import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from ssl_risk_rs.events import Event
from ssl_risk_rs.extraction.batches import BatchSize
from ssl_risk_rs.extraction.decoding import CorruptImage, Decoded
from ssl_risk_rs.extraction.forward import Features, Forward
from ssl_risk_rs.extraction.rates import Bottleneck, ExtractionRates
from ssl_risk_rs.extraction.writing import BlockWriter

__all__ = ["Loop"]

#: seconds between two reports of progress
REPORT_EVERY = 0.1

#: receives rows and their features by name
Put = Callable[[np.ndarray, dict[str, np.ndarray]], None]


class Loop:
    """Batches from decoded chunks, one of them ahead on the device; keeps the clocks."""

    def __init__(
        self,
        forward: Forward,
        put: Put,
        *,
        batch_size: BatchSize,
        done: int,
        total: int,
        progress: Callable[[Event], None],
    ) -> None:
        self.forward, self.put, self.batch_size, self.progress = forward, put, batch_size, progress
        self.oriented = 0
        self.before, self.done, self.total = done, done, total
        self.waited: dict[Bottleneck, float] = {"decode": 0.0, "encode": 0.0, "write": 0.0}
        self.busy = {"decode": 0.0, "transform": 0.0, "collate": 0.0, "encode": 0.0}
        self.start = self.reported = self.end = time.perf_counter()

    def run(
        self,
        stream: Iterable[Decoded],
        check: Callable[[str, np.ndarray, np.ndarray], None],
    ) -> list[CorruptImage]:
        """Encode the stream to its end, or to the first chunk with a corrupt image: these are returned."""
        try:
            return self._run(stream, check)
        finally:
            self.end = time.perf_counter()

    def _run(
        self,
        stream: Iterable[Decoded],
        check: Callable[[str, np.ndarray, np.ndarray], None],
    ) -> list[CorruptImage]:
        self._report(force=True)
        pending: tuple[np.ndarray, Features] | None = None
        for batch, corrupt in _batches(self._timed(stream), self.batch_size):
            ahead = self._launch(batch) if batch else None
            self._finish(pending, check)
            pending = ahead
            if self.batch_size.searching:  # each batch is timed alone
                self._finish(pending, check)
                pending = None
            if corrupt:
                break
        else:
            corrupt = []
        self._finish(pending, check)
        self._report(force=True)
        return corrupt

    def rates(self, writer: BlockWriter, workers: int) -> ExtractionRates:
        """What the run took, once the writer is closed."""
        return ExtractionRates(
            images=self.done - self.before,
            seconds=self.end - self.start,
            workers=workers,
            batch_size=self.forward.batch_size,
            **self.busy,
            write=writer.seconds,
            bytes=writer.bytes,
            first_block=None if writer.first_block is None else writer.first_block - self.start,
            waited=self.waited,
        )

    def _timed(self, stream: Iterable[Decoded]) -> Iterator[Decoded]:
        clock = time.perf_counter()
        for decoded in stream:
            self.waited["decode"] += time.perf_counter() - clock
            self.oriented += decoded.oriented
            self.busy["decode"] += decoded.decode_seconds
            self.busy["transform"] += decoded.transform_seconds
            self.busy["collate"] += decoded.collate_seconds
            yield decoded
            clock = time.perf_counter()

    def _launch(self, batch: list[Decoded]) -> tuple[np.ndarray, Features]:
        clock = time.perf_counter()
        back_offs = self.forward.back_offs
        self.forward.batch_size = self.batch_size.size
        features = self.forward([d.images for d in batch if d.images is not None])
        if self.forward.back_offs > back_offs:  # the memory has the last word
            self.batch_size.settle(self.forward.batch_size)
        self.waited["encode"] += time.perf_counter() - clock
        return np.concatenate([d.rows for d in batch]), features

    def _finish(
        self,
        pending: "tuple[np.ndarray, Features] | None",
        check: Callable[[str, np.ndarray, np.ndarray], None],
    ) -> None:
        if pending is None:
            return
        rows, features = pending
        clock = time.perf_counter()
        arrays = features.arrays()
        self.waited["encode"] += time.perf_counter() - clock
        self.busy["encode"] += features.seconds
        self.batch_size.observe(len(rows), features.seconds)
        for name, values in arrays.items():
            check(name, rows, values)
        clock = time.perf_counter()
        self.put(rows, arrays)
        self.waited["write"] += time.perf_counter() - clock
        self.done += len(rows)
        self._report()

    def _report(self, force: bool = False) -> None:
        now = time.perf_counter()
        if not force and now - self.reported < REPORT_EVERY:
            return
        self.reported = now
        fresh = self.done - self.before
        rate = fresh / max(now - self.start, 1e-9)
        left = (self.total - self.done) / rate if fresh else None
        slowest = max(self.waited, key=self.waited.__getitem__)
        self.progress(Event("encode", self.done, self.total, rate, left, slowest if fresh else None))


def _batches(stream: Iterable[Decoded], batch_size: BatchSize) -> Iterator[tuple[list[Decoded], list[CorruptImage]]]:
    """Chunks gathered to about `batch_size` images; ends with the first chunk that has a corrupt image."""
    batch: list[Decoded] = []
    count = 0
    for decoded in stream:
        if decoded.images is not None:
            batch.append(decoded)
            count += len(decoded.rows)
        if decoded.corrupt:
            yield batch, decoded.corrupt
            return
        if count >= batch_size.size:
            yield batch, []
            batch, count = [], 0
    if batch:
        yield batch, []
