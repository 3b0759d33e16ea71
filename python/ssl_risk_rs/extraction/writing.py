"""A thread that appends features to banks in blocks, while the encoder goes on."""

import queue
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np

from ssl_risk_rs._float32 import FLOAT16_MAX
from ssl_risk_rs.bank.at_work import has_writer
from ssl_risk_rs.errors import BankError
from ssl_risk_rs.extraction.shard import Shard, missing_in

if TYPE_CHECKING:
    from ssl_risk_rs._core import BankWriter
    from ssl_risk_rs.bank import FeatureBank

__all__ = ["BlockWriter", "Float16Overflow"]

#: a block is committed when it has this many bytes or this many seconds have gone: what `kill -9` may cost
BLOCK_BYTES, BLOCK_SECONDS = 8 << 20, 5.0

#: batches that may wait for the disk before the encoder has to
WAITING = 4

#: name of the part that an extraction without shard writes
PART = "extract"


class Float16Overflow(Exception):
    """Features do not fit float16."""

    def __init__(self, feature: str) -> None:
        super().__init__(feature)
        self.feature = feature


class BlockWriter:
    """Appends batches to one bank for each feature; leave the `with` block to have everything committed.

    Only rows that a bank lacks are written to it, and of these the shard's; `rows` says which these are, once the
    block is entered. An error of the thread is raised by the next `put`, or on leaving; what was committed before
    it stays.
    """

    def __init__(self, banks: "Mapping[str, FeatureBank]", shard: Shard | None = None) -> None:
        self.banks = {name: bank for name, bank in banks.items() if len(missing_in(bank, shard))}
        self.shard = shard
        self.missing: dict[str, np.ndarray] = {}  # bool (n,) for each bank
        self.seconds = 0.0  # that the thread took to convert and commit
        self.bytes = 0  # committed
        self.first_block: float | None = None  # time.perf_counter() when the first block was committed
        self._queue: queue.Queue[tuple[np.ndarray, dict[str, np.ndarray]] | None] = queue.Queue(WAITING)
        self._error: BaseException | None = None
        self._writers: dict[str, BankWriter] = {}
        self._open = ExitStack()
        self._thread = threading.Thread(target=self._run, name="bank-writer")

    def rows(self) -> np.ndarray:
        """Rows that at least one bank lacks, ascending (uint64)."""
        if not self.missing:
            return np.array([], dtype=np.uint64)
        anywhere = np.logical_or.reduce(list(self.missing.values()))
        return np.flatnonzero(anywhere).astype(np.uint64)

    def put(self, rows: np.ndarray, features: dict[str, np.ndarray]) -> None:
        """Hand over float32 features (b, d) by name for these rows."""
        while self._error is None:
            try:
                self._queue.put((rows, features), timeout=0.1)
                break
            except queue.Full:
                continue
        if self._error is not None:
            raise self._error

    def __enter__(self) -> "BlockWriter":
        with ExitStack() as stack:
            for name, bank in self.banks.items():
                self._writers[name] = stack.enter_context(_open_writer(bank, self.shard))
                # asked after the part is ours: a process that had it until now may have added rows
                self.missing[name] = np.zeros(bank.n_rows, dtype=bool)
                self.missing[name][missing_in(bank, self.shard)] = True
            self._open = stack.pop_all()
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
            with self._open:
                self._write(self._writers)
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
                clock = time.perf_counter()
                for name in writers:
                    values = features[name]
                    keep = self.missing[name][rows]
                    blocks[name].append((rows[keep], self._convert(name, values[keep])))
                    size += blocks[name][-1][1].nbytes
                self.seconds += time.perf_counter() - clock
            clock = time.perf_counter()
            for name, block in blocks.items():
                if any(len(rows) for rows, _ in block):
                    rows = np.concatenate([rows for rows, _ in block])
                    values = np.concatenate([values for _, values in block])
                    writers[name].append(rows, values)
                    self.bytes += values.nbytes
                    self.first_block = self.first_block or time.perf_counter()
                block.clear()
            self.seconds += time.perf_counter() - clock

    def _convert(self, name: str, values: np.ndarray) -> np.ndarray:
        """To the bank's dtype; Float16Overflow where that has no room."""
        if self.banks[name].dtype == "float32":
            return values
        # only the range is looked at: precision was judged on images from the whole data set, and the images
        # of one batch may all be of one class, with features that hardly vary
        if values.size and np.abs(values).max() > FLOAT16_MAX:
            raise Float16Overflow(name)
        return values.astype(np.float16)


def _open_writer(bank: "FeatureBank", shard: Shard | None) -> "BankWriter":
    """Writer of the part that this extraction writes, once it is sure that nobody encodes the same rows.

    Raises
    ------
    BankError if somebody does: rows that two parts hold would be a damaged bank.
    """
    part = PART if shard is None else shard.part
    try:
        writer = bank.writer(part)
    except BankError as error:
        held = has_writer(bank.path / f"{part}.journal")
        if held is None:  # nobody can tell; refusing would make an interruption final
            return bank.writer()
        if not held:
            raise
        raise _at_work(bank, shard) from error
    # looked for with the own part in hand: of two that begin at the same time at least one sees the other
    for journal in sorted(bank.path.glob("*.journal")):
        other = Shard.of_part(journal.stem)
        if journal.stem == part or (other is None and journal.stem != PART):
            continue
        if _overlap(shard, other, bank.n_rows) and has_writer(journal):
            writer.close()
            raise _at_work(bank, other)
    return writer


def _overlap(one: Shard | None, other: Shard | None, n_rows: int) -> bool:
    """Whether two extractions have rows in common; None has all."""
    a, b = (range(n_rows) if shard is None else shard.span(n_rows) for shard in (one, other))
    return max(a.start, b.start) < min(a.stop, b.stop)


def _at_work(bank: "FeatureBank", shard: Shard | None) -> BankError:
    what = "into this bank" if shard is None else f"shard {shard} into this bank, which has rows that are asked for"
    return BankError(
        f"{bank.path}: another process is encoding {what}; wait until it has finished, or stop it, then run the same "
        "line again"
    )
