"""A thread that appends features to banks in blocks, while the encoder goes on."""

import queue
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np

__all__ = ["BlockWriter", "Float16Overflow"]

#: a block is committed when it has this many bytes or this many seconds have gone: what `kill -9` may cost
BLOCK_BYTES, BLOCK_SECONDS = 8 << 20, 5.0

#: batches that may wait for the disk before the encoder has to
WAITING = 4


class Float16Overflow(Exception):
    """Features do not fit float16."""

    def __init__(self, feature: str) -> None:
        super().__init__(feature)
        self.feature = feature


class BlockWriter:
    """Appends batches to one bank for each feature; leave the `with` block to have everything committed.

    Only rows that a bank lacks are written to it. An error of the thread is raised by the next `put`, or on
    leaving; what was committed before it stays.
    """

    def __init__(self, banks: Mapping[str, Any]) -> None:
        self.banks = banks
        self.missing = {}  # bool (n,) for each bank
        for name, bank in banks.items():
            self.missing[name] = np.zeros(bank.samples.height, dtype=bool)
            self.missing[name][bank.missing_rows()] = True
        self.waited = 0.0  # seconds that `put` waited for the disk
        self._queue: queue.Queue[tuple[np.ndarray, dict[str, np.ndarray]] | None] = queue.Queue(WAITING)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="bank-writer")

    def rows(self) -> np.ndarray:
        """Rows that at least one bank lacks, ascending (uint64)."""
        anywhere = np.logical_or.reduce(list(self.missing.values()))
        return np.flatnonzero(anywhere).astype(np.uint64)

    def put(self, rows: np.ndarray, features: dict[str, np.ndarray]) -> None:
        """Hand over float32 features (b, d) by name for these rows."""
        start = time.perf_counter()
        while self._error is None:
            try:
                self._queue.put((rows, features), timeout=0.1)
                break
            except queue.Full:
                continue
        self.waited += time.perf_counter() - start
        if self._error is not None:
            raise self._error

    def __enter__(self) -> "BlockWriter":
        self._thread.start()
        return self

    def __exit__(self, kind: Any, value: Any, trace: Any) -> None:
        while self._thread.is_alive():  # not a plain `put`: the thread may have died on a full queue
            try:
                self._queue.put(None, timeout=0.1)
                break
            except queue.Full:
                continue
        self._thread.join()
        if self._error is not None and kind is None:
            raise self._error

    def _run(self) -> None:
        try:
            with ExitStack() as stack:
                writers = {name: stack.enter_context(bank.writer()) for name, bank in self.banks.items()}
                self._write(writers)
        except BaseException as error:  # raised where the main thread meets it
            self._error = error

    def _write(self, writers: dict[str, Any]) -> None:
        """Collect batches into a block for each bank; commit when a block is large or old enough."""
        blocks: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {name: [] for name in writers}
        last = False
        while not last:
            size, deadline = 0, time.perf_counter() + BLOCK_SECONDS
            while size < BLOCK_BYTES and (left := deadline - time.perf_counter()) > 0:
                try:
                    batch = self._queue.get(timeout=left)
                except queue.Empty:
                    break
                if batch is None:
                    last = True
                    break
                rows, features = batch
                for name, values in features.items():
                    keep = self.missing[name][rows]
                    blocks[name].append((rows[keep], self._convert(name, values[keep])))
                    size += blocks[name][-1][1].nbytes
            for name, block in blocks.items():
                if any(len(rows) for rows, _ in block):
                    rows = np.concatenate([rows for rows, _ in block])
                    writers[name].append(rows, np.concatenate([values for _, values in block]))
                block.clear()

    def _convert(self, name: str, values: np.ndarray) -> np.ndarray:
        """To the bank's dtype; Float16Overflow where that has no room."""
        from ssl_risk_rs.store import fits_float16

        if self.banks[name].dtype == "float16":
            if not fits_float16(values):
                raise Float16Overflow(name)
            return values.astype(np.float16)
        return np.ascontiguousarray(values, dtype=np.float32)
