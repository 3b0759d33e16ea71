"""The feature bank against the plain way of doing the same: sum, append, gather, open.

One row for each measurement: ours, its rival in the same run, their ratio, and whether the answers agree (a wrong
answer ends the run). Ours and rival take turns, so that other work on the machine meets both; the ratio is of
medians. "Cold" means that the file's pages were evicted before each repeat and that mincore found them gone; what
lies below the machine (a hypervisor's cache) is not known.

    python bench/store.py --sizes smoke 0.4GB 4GB --out bench/results/store.csv

Rivals: a sum over the mapped file as uint64 by numpy (with as many threads), `numpy.memmap` fancy indexing, and
write + fsync of the same blocks to one file. No rival opens a bank; that row has a limit instead.
"""

import argparse
import csv
import ctypes
import gc
import mmap
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
from machine import describe
from ssl_risk_rs import FeatureBank, _core

COLUMNS = (
    "size", "measurement", "unit", "better", "ours", "ours_min", "ours_max", "rival", "rival_median", "rival_min",
    "rival_max", "ratio", "target", "met", "repeats", "answer",
)  # fmt: skip
HEADER = 128
#: rows, features, rows of a block
SIZES = {"smoke": (6_000, 256, 1024), "0.4GB": (100_000, 2048, 2048), "4GB": (1_000_000, 2048, 2048)}
OPEN_ROWS = 1_280_000
Timed = Callable[[], object]


@dataclass
class Table:
    """Rows of the result, printed as they come."""

    size: str = ""
    rows: list[dict[str, object]] = field(default_factory=list)

    def add(self, name: str, ours: list[float], rival: str, others: list[float], target: float, work: float) -> None:
        """`work` in GB or rows turns seconds into a rate; ratio is ours over rival's rate."""
        unit = "rows/s" if "gather" in name else "GB/s"
        mine, theirs = ([work / s for s in seconds] for seconds in (ours, others))
        ratio = statistics.median(mine) / statistics.median(theirs)
        self._row(name, unit, "high", mine, rival, theirs, ratio, target, not target or ratio >= target)

    def add_limit(self, name: str, ours: list[float], limit_ms: float) -> None:
        ms = [s * 1e3 for s in ours]
        ratio = statistics.median(ms) / limit_ms
        self._row(name, "ms", "low", ms, "limit", [limit_ms], ratio, 1.0, ratio <= 1)

    def _row(
        self,
        name: str,
        unit: str,
        better: str,
        ours: list[float],
        rival: str,
        others: list[float],
        ratio: float,
        target: float,
        met: bool,
    ) -> None:
        values = [statistics.median(ours), min(ours), max(ours), rival]
        values += [statistics.median(others), min(others), max(others), ratio]
        values += [target or "", ("yes" if met else "NO") if target else "", len(ours), "checked"]
        row = dict(zip(COLUMNS, (self.size, name, unit, better, *values), strict=True))
        self.rows.append({key: f"{v:.4g}" if isinstance(v, float) else v for key, v in row.items()})
        shown = f"{values[0]:10.4g} {unit:7s} {rival} {values[4]:.4g}   ratio {ratio:.2f}"
        print(f"{self.size:6s} {name:34s} {shown}  {f'target {target:g} {values[-3]}' if target else ''}", flush=True)


def expect(condition: object, what: str) -> None:
    if not condition:
        sys.exit(f"wrong answer: {what}")


def alternate(ours: Timed, rival: Timed, repeats: int, prepare: Timed = gc.collect) -> tuple[list[float], list[float]]:
    """Seconds of each, in turn; `prepare` before each."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for turn in range(repeats):
        for which in (0, 1) if turn % 2 == 0 else (1, 0):
            prepare()
            begin = time.perf_counter()
            (ours, rival)[which]()
            seconds[which].append(time.perf_counter() - begin)
    return seconds


def block_of(base: np.ndarray, number: int) -> np.ndarray:
    """Rows of a block: those of the base, shifted differently in each block."""
    return np.roll(base, 17 * number + 1)


def labels(n: int) -> np.ndarray:
    """Of 1,000 classes, mixed."""
    return np.arange(n) * 7919 % 1000


def samples(n: int) -> pl.DataFrame:
    row = np.arange(n)
    split = np.where(row % 10 == 9, "test", "train")
    return pl.DataFrame({"row": row, "split": split, "sample_id": row.astype(str), "label": labels(n)})


def resident(path: Path) -> float:
    """Share of the file's pages that are in memory."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        view = np.frombuffer(mapped, np.uint8)
        pages = np.empty(-(-view.size // mmap.PAGESIZE), np.uint8)
        libc = ctypes.CDLL(None, use_errno=True)
        address, length = ctypes.c_void_p(view.ctypes.data), ctypes.c_size_t(view.size)
        if libc.mincore(address, length, ctypes.c_void_p(pages.ctypes.data)):
            raise OSError(ctypes.get_errno(), "mincore")
        share = float((pages & 1).mean())
        del view
    return share


def evict(path: Path) -> None:
    """Drop the file's pages; nobody may have it mapped."""
    gc.collect()
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)
    left = resident(path)
    if left > 0.01:
        sys.exit(f"{path}: {left:.1%} of the pages stayed in memory")


def warm(path: Path) -> None:
    with path.open("rb", buffering=0) as file:
        buffer = bytearray(1 << 22)
        while file.readinto(buffer):
            pass


def append(table: Table, folder: Path, n: int, d: int, step: int) -> tuple[FeatureBank, np.ndarray, int]:
    """Fill a bank; every block is also written and synced raw. Gives the mean of its features and their sum."""
    base = np.random.default_rng(0).standard_normal((step, d), np.float32).astype(np.float16)
    base = np.maximum(base, 0)
    bank = FeatureBank.create(folder / "bank", {}, samples(n), n_features=d, dtype="float16")
    mean, total = np.zeros(d), 0
    ours: list[float] = []
    raw: list[float] = []
    with (folder / "raw.bin").open("wb", buffering=0) as plain, bank.writer("a") as writer:
        for number, start in enumerate(range(0, n, step)):
            rows = np.arange(start, min(start + step, n), dtype=np.uint64)
            block = block_of(base, number)[: len(rows)]
            mean += block.sum(0, dtype=np.float64)
            total += int(block.view(np.uint64).sum())

            def plainly(block: np.ndarray = block) -> None:
                plain.write(block.data)
                os.fsync(plain.fileno())

            def durably(rows: np.ndarray = rows, block: np.ndarray = block) -> None:
                writer.append(rows, block)

            a, b = alternate(durably, plainly, 1) if number % 2 else alternate(plainly, durably, 1)[::-1]
            ours, raw = ours + a, raw + b
    (folder / "raw.bin").unlink()
    full = max(1, len(ours) - 1)  # the last block may be short
    size = step * d * 2
    name = f"durable append, {size / 2**20:g} MiB blocks"
    table.add(name, ours[:full], "write + fsync", raw[:full], 0.6, size / 1e9)
    return FeatureBank.open(folder / "bank"), mean / n, total % (1 << 64)


def plain_sum(path: Path, threads: int) -> Callable[[], int]:
    """Sum of the mapped file's uint64 words; mapped anew by each call, as a bank is that was just opened."""

    def run() -> int:
        words = np.memmap(path, np.uint64, "r", HEADER)
        with ThreadPoolExecutor(threads) as pool:
            return sum(int(s) for s in pool.map(np.sum, np.array_split(words, threads))) % (1 << 64)

    return run


def scan(table: Table, path: Path, mean: np.ndarray, total: int, repeats: int) -> None:
    file = path / "a.npy"
    gigabytes = file.stat().st_size / 1e9
    rows = np.arange(_core.Bank.open(path).n_rows, dtype=np.uint32)
    for threads in (1, 2):

        def means(threads: int = threads, bank: "_core.Bank | None" = None) -> np.ndarray:
            return _core.feature_means(bank or _core.Bank.open(path), rows, n_threads=threads)

        plain = plain_sum(file, threads)
        error = np.abs(means() - mean).max()
        expect(error < 1e-5, f"means differ by {error}")  # 16 float32 additions of values below 6
        expect(plain() == total, "plain sum")
        rival = f"numpy uint64 sum, {threads} threads"
        warm(file)
        table.add(f"warm scan, {threads} threads", *with_rival(alternate(means, plain, repeats), rival), 0.9, gigabytes)
        cold = alternate(means, plain, max(3, repeats // 3), lambda: evict(file))
        table.add(f"cold scan, {threads} threads", *with_rival(cold, rival), 0, gigabytes)
        cold = alternate(means, lambda: warm(file), repeats, lambda: evict(file))
        table.add(f"cold scan, {threads} threads", *with_rival(cold, "plain read() of the file"), 0.9, gigabytes)


def with_rival(seconds: tuple[list[float], list[float]], rival: str) -> tuple[list[float], str, list[float]]:
    return seconds[0], rival, seconds[1]


def overlap(table: Table, path: Path, repeats: int) -> None:
    """A pass that computes, cold and warm, beside a plain read of the cold file."""
    file = path / "a.npy"
    bank = _core.Bank.open(path)
    n, d = bank.n_rows, bank.n_features
    rows, zeros = np.arange(n, dtype=np.uint32), np.zeros(n, np.uint32)
    weights = np.random.default_rng(1).standard_normal((100, d)) / d
    probe = _core.LinearProbe(weights, np.zeros(100))
    seen: set[bytes] = set()

    def judge() -> None:
        (predicted, *_), *_ = _core.judge(_core.Bank.open(path), rows, zeros, [probe], n_threads=2)
        seen.add(predicted.tobytes())

    del bank
    warm(file)
    in_memory, _ = alternate(judge, gc.collect, repeats)
    cold, read = alternate(judge, lambda: warm(file), repeats, lambda: evict(file))
    expect(len(seen) == 1, "predictions of cold and warm rows differ")
    gigabytes = file.stat().st_size / 1e9
    table.add("cold pass (judge, 100 classes)", cold, "same, warm", in_memory, 0, gigabytes)
    compute, disk = statistics.median(in_memory), statistics.median(read)
    for rival, bound in (("cold read, then warm pass", compute + disk), ("the longer of them", max(compute, disk))):
        table.add("cold pass (judge, 100 classes)", cold, rival, [bound], 0, gigabytes)


def gather(table: Table, path: Path, repeats: int) -> None:
    n = _core.Bank.open(path).n_rows
    rng = np.random.default_rng(2)
    some = min(n, 20_000)
    cases = {
        "random rows": rng.permutation(n)[:some],
        "subset, 1 % of classes": np.flatnonzero(labels(n) % 100 == 3),
        "ascending sample": np.sort(rng.permutation(n)[:some]),
    }
    for name, rows in cases.items():
        gather_warm(table, path, name, rows, repeats)
        gather_cold(table, path, name, rows)


def gather_warm(table: Table, path: Path, name: str, rows: np.ndarray, repeats: int) -> None:
    """With everything in memory and mapped; float16 rows, compared byte by byte."""
    file, asked = path / "a.npy", rows.astype(np.uint64)
    rival = "numpy.memmap[rows]"
    bank = _core.Bank.open(path)
    shape = (bank.n_rows, bank.n_features)
    mapped = np.memmap(file, "<f2", "r", HEADER, shape)
    expect(bank.read(asked, dtype="float16").tobytes() == mapped[rows].tobytes(), f"gathered {name}")
    warm(file)
    times = alternate(lambda: bank.read(asked, dtype="float16"), lambda: mapped[rows], 4 * repeats)
    table.add(f"warm gather, {name}", *with_rival(times, rival), 1.0, len(rows))
    times = alternate(lambda: bank.read(asked, dtype="float16", n_threads=1), lambda: mapped[rows], 4 * repeats)
    table.add(f"warm gather, {name}, 1 thread", *with_rival(times, rival), 0, len(rows))


def gather_cold(table: Table, path: Path, name: str, rows: np.ndarray) -> None:
    """From opening on; nobody else may have the file mapped."""
    file, asked = path / "a.npy", rows.astype(np.uint64)
    bank = _core.Bank.open(path)
    shape = (bank.n_rows, bank.n_features)
    del bank
    found: list[np.ndarray] = []
    times = alternate(
        lambda: found.append(_core.Bank.open(path).read(asked, dtype="float16")),
        lambda: found.append(np.memmap(file, "<f2", "r", HEADER, shape)[rows]),
        3,
        lambda: evict(file),
    )
    expect(len({array.tobytes() for array in found}) == 1, f"gathered {name}, cold")
    table.add(
        f"cold gather, {name}", *with_rival(times, "numpy.memmap[rows]"), 5.0 if table.size == "4GB" else 0, len(rows)
    )


def open_bank(table: Table, folder: Path, repeats: int, n: int) -> None:
    d, step = 16, 1024
    rng = np.random.default_rng(3)
    for name, parts, shuffled in (("in order", 1, False), ("4 parts in turn", 4, False), ("shuffled", 1, True)):
        path = folder / f"open-{parts}-{shuffled}"
        bank = FeatureBank.create(path, {}, samples(n), n_features=d, dtype="float16")
        order = rng.permutation(n) if shuffled else np.arange(n)
        writers = [bank.writer(f"p{p}") for p in range(parts)]
        for number, start in enumerate(range(0, n, step)):
            rows = order[start : start + step].astype(np.uint64)
            writers[number % parts].append(rows, np.repeat(rows[:, None] % 2048, d, 1).astype(np.float16))
        for writer in writers:
            writer.close()
        seconds = []
        for _ in range(4 * repeats):
            begin = time.perf_counter()
            opened = _core.Bank.open(path)
            seconds.append(time.perf_counter() - begin)
        asked = rng.permutation(n)[:1000].astype(np.uint64)
        expect((opened.read(asked)[:, 0] == asked % 2048).all(), f"rows of a bank {name}")
        table.add_limit(f"open, {n} rows, {name}", seconds, 5.0)
        del opened
        shutil.rmtree(path)


def storage(folder: Path) -> str:
    """Lines about what the numbers depend on besides the machine."""
    found = subprocess.run(
        ["findmnt", "-no", "SOURCE,FSTYPE", "-T", folder], capture_output=True, text=True, check=False
    )
    ahead = [file.read_text().strip() for file in sorted(Path("/sys/block").glob("*/queue/read_ahead_kb"))]
    pages = Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text().strip()
    return f"file_system: {found.stdout.strip()}\nread_ahead_kb: {' '.join(ahead)}\nhuge_pages: {pages}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", nargs="+", default=["smoke"], choices=list(SIZES))
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--folder", type=Path, help="where the banks are made (and removed); default: a temporary one")
    parser.add_argument("--out", type=Path, help="CSV; a .txt about the machine is written beside it")
    options = parser.parse_args()
    table = Table()
    for size in options.sizes:
        table.size = size
        n, d, step = SIZES[size]
        folder = Path(tempfile.mkdtemp(prefix="store-bench-", dir=options.folder))
        try:
            _, mean, total = append(table, folder, n, d, step)
            path = folder / "bank"
            scan(table, path, mean, total, options.repeats)
            overlap(table, path, 3)
            gather(table, path, options.repeats)
            shutil.rmtree(path)
            if size != "4GB":
                open_bank(table, folder, options.repeats, 20_000 if size == "smoke" else OPEN_ROWS)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    if options.out:
        with options.out.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(table.rows)
        options.out.with_suffix(".txt").write_text(
            describe(["numpy", "ssl-risk-rs"]) + storage(options.folder or Path(tempfile.gettempdir()))
        )


if __name__ == "__main__":
    main()
