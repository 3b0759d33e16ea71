"""Rows of features on a device of torch: all of them where they fit, else block by block through pinned buffers."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

from ssl_risk_rs import _core
from ssl_risk_rs.errors import DeviceError
from ssl_risk_rs.probes.features import Features, in_line
from ssl_risk_rs.probes.torch_softmax import HAS_TRITON

__all__ = ["Block", "DeviceRows", "Picked"]

T = TypeVar("T")

#: rows of a block at most and at least: enough for full use of a GPU, and few enough that memory is no question
MOST_ROWS = 65_536
#: rows that are streamed follow each other in smaller blocks: the device waits for the first
MOST_STREAMED = 32_768
LEAST_ROWS = 64
#: bytes of a block and what is made of it, by kind of device: on a CPU, those that caches hold
BLOCK_BYTES = {"cuda": 1 << 31, "cpu": 1 << 24}
#: share of a GPU's free memory that rows may take for good; solvers need little beside them
RESIDENT_SHARE = 0.75
#: rows copied to a device at a time, in bytes
COPY_BYTES = 1 << 26
#: pinned buffers that are filled in turn while rows are streamed
BUFFERS = 2


@dataclass(frozen=True, slots=True)
class Picked:
    """Some rows of one device, in the order they are gone over.

    rows : uint32 (m,), ascending or not; places : int64 (m,), where each stands among all rows that were asked for
    on_device : their numbers within the device's rows, int64 (m,) there; None where rows are not resident or follow
        each other from `first` on
    """

    rows: np.ndarray
    places: np.ndarray
    on_device: "torch.Tensor | None"
    first: int | None

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, slots=True)
class Block:
    """Rows of one step: x (b, d) as stored, on the device; `span` of the picked rows."""

    x: "torch.Tensor"
    span: slice


class DeviceRows:
    """The rows `begin` to `end` of some features, as one device sees them.

    Parameters
    ----------
    resident : whether all rows are copied to the device; None: where they fit. Otherwise each pass reads them anew,
        the next block while the device works on the last.
    block_rows : rows of a block; None: by memory
    n_threads : that copy rows
    """

    def __init__(
        self,
        features: Features,
        device: "torch.device",
        *,
        begin: int = 0,
        end: int | None = None,
        resident: bool | None = None,
        block_rows: int | None = None,
        n_threads: int | None = None,
    ) -> None:
        self.features = features
        self.n_threads = n_threads
        self.device = device
        self.begin, self.end = begin, features.n_rows if end is None else end
        self.dtype = np.dtype(features.dtype)
        self.block_rows = block_rows
        self._all: torch.Tensor | None = None
        if resident if resident is not None else self._fits():
            self._all = self._copied()

    @property
    def resident(self) -> bool:
        """Whether the rows lie on the device."""
        return self._all is not None

    def _fits(self) -> bool:
        if self.device.type != "cuda":
            return False
        needed = (self.end - self.begin) * self.features.n_features * self.dtype.itemsize
        free, _ = torch.cuda.mem_get_info(self.device)
        # what torch keeps for itself of earlier work is free too
        kept = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        return needed <= RESIDENT_SHARE * (free + kept)

    def _copied(self) -> "torch.Tensor | None":
        """All rows on the device; None where its memory turns out not to suffice."""
        shape = (self.end - self.begin, self.features.n_features)
        try:
            whole = torch.empty(shape, dtype=_torch_dtype(self.dtype), device=self.device)
            rows = np.arange(self.begin, self.end, dtype=np.uint32)
            step = max(1, COPY_BYTES // max(1, shape[1] * self.dtype.itemsize))
            for block in self._streamed(rows, step):
                whole[block.span] = block.x
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
            return None
        return whole

    def release(self) -> None:
        """Give the rows' place on the device up; passes read them anew from here on."""
        self._all = None

    def pick(self, rows: np.ndarray) -> Picked:
        """Those of `rows` that this device has; `rows` are numbers of the features."""
        rows = np.asarray(rows, np.uint32)
        if self.begin == 0 and self.end == self.features.n_rows:
            places = np.arange(len(rows))
        else:
            places = np.flatnonzero((rows >= self.begin) & (rows < self.end))
        own = rows[places]
        follow = len(own) > 0 and in_line(own)
        if self._all is None or follow:
            return Picked(own, places, None, int(own[0]) - self.begin if follow else None)
        numbers = torch.from_numpy(own.astype(np.int64) - self.begin)
        return Picked(own, places, numbers.to(self.device), None)

    def blocks(self, picked: Picked, step: int) -> Iterator[Block]:
        """The rows, `step` at a time."""
        if self._all is None:
            yield from self._streamed(picked.rows, step)
            return
        for x, numbers, span in self._resident(self._all, picked, step):
            yield Block(x if numbers is None else x.index_select(0, numbers), span)

    @staticmethod
    def _resident(
        whole: "torch.Tensor", picked: Picked, step: int
    ) -> "Iterator[tuple[torch.Tensor, torch.Tensor | None, slice]]":
        """Where the rows of each step lie: in a tensor, all of it or those of some numbers; and their span."""
        for span in _spans(len(picked), step):
            if picked.on_device is not None:
                yield whole, picked.on_device[span], span
            else:
                first = picked.first or 0
                yield whole[first + span.start : first + span.stop], None, span

    def scaled_blocks(self, picked: Picked, step: int, shift: "torch.Tensor", scale: "torch.Tensor") -> Iterator[Block]:
        """The rows as float32 in scaled coordinates, (x − shift) · scale, `step` at a time."""
        if self._all is not None and self.device.type == "cuda" and HAS_TRITON:
            from ssl_risk_rs.probes.torch_fused import scale_rows

            for x, numbers, span in self._resident(self._all, picked, step):
                yield Block(scale_rows(x, numbers, shift, scale), span)
            return
        for block in self.blocks(picked, step):
            yield Block(torch.sub(block.x, shift).mul_(scale), block.span)

    def _streamed(self, rows: np.ndarray, step: int) -> Iterator[Block]:
        """Blocks read by a thread into buffers in turn, and copied while the device works on the last one."""
        if len(rows) == 0:
            return
        spans = _spans(len(rows), step)
        on_gpu = self.device.type == "cuda"
        shape = (min(step, len(rows)), self.features.n_features)
        buffers = [torch.empty(shape, dtype=_torch_dtype(self.dtype), pin_memory=on_gpu) for _ in range(BUFFERS)]
        copied: list[torch.cuda.Event | None] = [None] * BUFFERS
        stream = torch.cuda.Stream(self.device) if on_gpu else None

        def read(i: int) -> "torch.Tensor":
            span, event = spans[i], copied[i % BUFFERS]
            if event is not None:
                event.synchronize()  # the last block of this buffer has left it
            out = buffers[i % BUFFERS][: span.stop - span.start]
            self.features.read_into(rows[span], out.numpy(), n_threads=self.n_threads)
            return out

        with ThreadPoolExecutor(1, thread_name_prefix="rows") as reader:
            ahead: Future[torch.Tensor] = reader.submit(read, 0)
            for i, span in enumerate(spans):
                host = ahead.result()
                if stream is None:
                    x = host.clone() if len(spans) > 1 else host  # the buffer is filled again meanwhile
                else:
                    with torch.cuda.stream(stream):
                        x = host.to(self.device, non_blocking=True)
                        event = torch.cuda.Event()
                        event.record(stream)
                    copied[i % BUFFERS] = event
                    current = torch.cuda.current_stream(self.device)
                    current.wait_event(event)
                    x.record_stream(current)
                if i + 1 < len(spans):
                    ahead = reader.submit(read, i + 1)
                yield Block(x, span)

    def step(self, row_bytes: int) -> int:
        """Rows of a block, each of which needs `row_bytes` for all that is made of it."""
        if self.block_rows is not None:
            return self.block_rows
        most = MOST_ROWS if self.resident else MOST_STREAMED
        return max(LEAST_ROWS, min(most, BLOCK_BYTES[self.device.type] // max(1, row_bytes)))

    def within_memory(self, row_bytes: int, work: Callable[[int], T]) -> T:
        """`work(rows of a block)`, with ever smaller blocks where the device's memory does not suffice."""
        step = self.step(row_bytes)
        while True:
            try:
                return work(step)
            except torch.cuda.OutOfMemoryError as error:
                if step <= LEAST_ROWS:
                    raise DeviceError(
                        f"{self.device} has no memory for {LEAST_ROWS} rows of {self.features.n_features} features; "
                        "end other programs on it, or use --device cpu (device='cpu')"
                    ) from error
                step = max(LEAST_ROWS, step // 2)
                self.block_rows = step
            torch.cuda.empty_cache()

    def name_bad_row(self, row: int, labels: np.ndarray) -> None:
        """Raise what the CPU's kernels say of a row whose features are not finite."""
        one = np.array([row], np.uint32)
        moments = _core.Moments(self.features.n_features, int(labels.max()) + 1)
        moments.update(self.features.source, labels, one, np.zeros(len(labels), np.uint8), n_threads=1)


def _spans(n: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]


def _torch_dtype(dtype: "np.dtype[np.generic]") -> "torch.dtype":
    return torch.float16 if dtype == np.float16 else torch.float32
