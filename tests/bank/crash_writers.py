"""Kill real writer processes at random moments; tell what each death left behind.

Run by test_bank.py as a program of its own: forking is safe here, where no other thread runs.

    python crash_writers.py FOLDER MIN_KILLS SEED    → one JSON object on stdout
"""

import json
import mmap
import os
import random
import signal
import struct
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ssl_risk_rs import _core

N_ROWS, N_FEATURES = 4000, 192
LONGEST_BLOCK = 48
WINDOWS = ("payload", "journal", "between")
#: stop looking for a window that this file system never shows
PATIENCE_S = 40.0


def features(rows: np.ndarray) -> np.ndarray:
    """What row r holds; exact in float32."""
    return ((rows[:, None] * N_FEATURES + np.arange(N_FEATURES)) % 65521).astype(np.float32)


def make_bank(folder: Path) -> None:
    folder.mkdir()
    facts = {"format": "ssl-risk-bank", "schema_version": 1, "dtype": "float32"}
    (folder / "bank.json").write_text(json.dumps({**facts, "n_rows": N_ROWS, "n_features": N_FEATURES}))


def write(folder: Path, acknowledged: mmap.mmap, seed: int, ready: int) -> None:
    """The process that dies: append the missing rows in blocks; note each that was confirmed."""
    rng = np.random.default_rng(seed)
    missing = rng.permutation(_core.Bank.open(folder).missing_rows())
    with _core.BankWriter.open(folder, "a") as writer:
        acknowledged[:8] = struct.pack("<Q", writer.committed)
        os.write(ready, b"!")
        while missing.size:
            rows, missing = np.split(missing, [rng.integers(1, LONGEST_BLOCK + 1)])
            writer.append(rows, features(rows))
            acknowledged[:8] = struct.pack("<Q", writer.committed)


@dataclass(frozen=True)
class Look:
    """Rows by journal and by headers, and all bytes, read without the package."""

    journal: int
    header: int
    payload: bytes
    index: bytes

    @classmethod
    def at(cls, folder: Path) -> "Look":
        paths = [folder / name for name in ("a.journal", "a.npy", "a.rows.npy")]
        journal, payload, index = (path.read_bytes() if path.exists() else b"" for path in paths)
        rows = sum(int(line.split()[0]) for line in journal.split(b"\n")[:-1])
        headers = [int(f[10:128].split(b"(")[1].split(b",")[0]) if len(f) >= 128 else 0 for f in (payload, index)]
        return cls(rows, min(headers), payload, index)

    def tail(self, rows: int) -> tuple[bytes, bytes]:
        """What lies behind the first rows of payload and index."""
        return self.payload[128 + 4 * N_FEATURES * rows :], self.index[128 + 8 * rows :]


def window(before: Look, after: Look) -> str:
    """Between which steps of a commit the writer died; a torn tail that was there before proves nothing."""
    if after.journal > after.header:
        return "journal"  # line written, headers not
    if any(a != b for a, b in zip(after.tail(after.journal), before.tail(after.journal), strict=True)):
        return "payload"  # payload, at least in part, and perhaps index written, no journal line
    return "between"


def kill_one(folder: Path, acknowledged: mmap.mmap, wait: bool, delay: float, seed: int) -> bool:
    """Kill a writer `delay` after its start, or after it is ready to append; whether it was still at work."""
    receive, ready = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            write(folder, acknowledged, seed, ready)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    os.close(ready)
    if wait:
        os.read(receive, 1)
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    os.close(receive)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the writer failed; see stderr"
    return os.WIFSIGNALED(status)


def finish(folder: Path) -> None:
    """Resume once more, without dying; every row must be what it should be."""
    rows = _core.Bank.open(folder).missing_rows()
    with _core.BankWriter.open(folder, "a") as writer:
        writer.append(rows, features(rows))
    bank = _core.Bank.open(folder)
    assert bank.complete and not bank.parts()[0].header_behind
    assert not bank.verify().damage
    all_rows = np.arange(N_ROWS, dtype=np.uint64)
    assert np.array_equal(bank.read(all_rows), features(all_rows))
    index = np.load(folder / "a.rows.npy", mmap_mode="r")
    assert np.array_equal(np.load(folder / "a.npy", mmap_mode="r"), features(np.asarray(index)))


def main() -> None:
    root, min_kills, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    rng, acknowledged = random.Random(seed), mmap.mmap(-1, 8)
    make_bank(warm := root / "warm")
    with _core.BankWriter.open(warm, "a") as writer:
        start = time.perf_counter()
        for i in range(3):
            rows = np.arange(i * LONGEST_BLOCK, (i + 1) * LONGEST_BLOCK, dtype=np.uint64)
            writer.append(rows, features(rows))
    three_blocks = time.perf_counter() - start

    hits, kills, banks, lost, beyond = dict.fromkeys(WINDOWS, 0), 0, 0, 0, 0
    folder = None
    begun = time.monotonic()
    while kills < min_kills or (not all(hits.values()) and time.monotonic() - begun < PATIENCE_S):
        if folder is None or not _core.Bank.open(folder).missing_rows().size > LONGEST_BLOCK:
            if folder is not None:
                finish(folder)
            folder = root / f"bank{banks}"
            banks += 1
            make_bank(folder)
        before = Look.at(folder)
        acknowledged[:8] = struct.pack("<Q", before.journal)
        wait = rng.random() < 0.8  # the others die while they start and resume
        delay = rng.uniform(0, three_blocks if wait else 5e-3)
        if not kill_one(folder, acknowledged, wait, delay, rng.randrange(2**32)):
            continue
        kills += 1
        after = Look.at(folder)
        (confirmed,) = struct.unpack("<Q", acknowledged[:8])
        lost += after.journal < confirmed
        beyond += after.journal > confirmed + LONGEST_BLOCK
        hits[window(before, after)] += 1
        bank = _core.Bank.open(folder)  # never damaged
        assert bank.n_rows - len(bank.missing_rows()) == after.journal
        assert not bank.verify().damage
        assert after.header <= after.journal
    finish(folder)
    json.dump({"kills": kills, "banks": banks, "hits": hits, "lost": lost, "beyond": beyond}, sys.stdout)


if __name__ == "__main__":
    main()
