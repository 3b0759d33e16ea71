"""Forks, open files, and files that shrink: each in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from bank_helpers import as_rows, create, features_of, filled
from ssl_risk_rs import BankError, FeatureBank

posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def run(program: str, *arguments: object) -> dict[str, object]:
    """Run a program of its own: what it prints last, as JSON."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    # the tests' helpers; one thread of BLAS, so that nothing but the test forks or opens files
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    path = os.pathsep.join([str(Path(__file__).parent), environment.get("PYTHONPATH", "")])
    done = subprocess.run(command, capture_output=True, text=True, env={**environment, "PYTHONPATH": path}, timeout=120)
    assert done.returncode == 0, (done.returncode, done.stderr)
    return dict(json.loads(done.stdout.splitlines()[-1]))


FORK = """
import gc, json, os, sys
from bank_helpers import *
from ssl_risk_rs import BankError
bank = create(Path(sys.argv[1]))
writer = bank.writer("a")
writer.append(as_rows(0, 1), features_of([0, 1]))
read, write = os.pipe()
if os.fork() == 0:
    said = {}
    for name, use in [
        ("append", lambda: writer.append(as_rows(2), features_of([2]))),
        ("close", writer.close),
        ("committed", lambda: writer.committed),
        ("with", lambda: writer.__exit__(None, None, None)),
    ]:
        try:
            use()
            said[name] = "done"
        except BankError as error:
            said[name] = str(error)
    with bank.writer() as other:  # a part of its own is fine
        other.append(as_rows(9), features_of([9]))
        said["own"] = other.part
    again = FeatureBank.open(bank.path)
    again._repair_headers()  # as `create` does; polars does not survive a fork, this does
    os.write(write, json.dumps(said).encode())
    del writer, other, again
    gc.collect()
    sys.exit(0)  # an ordinary end: destructors run
os.close(write)
said = json.loads(os.fdopen(read).read())
_, status = os.wait()
try:
    bank.writer("a")
    said["locked"] = False
except BankError:
    said["locked"] = True
writer.append(as_rows(4, 5), features_of([4, 5]))
if os.fork() == 0:  # lives on when the parent has closed
    os.read(os.open(sys.argv[2], os.O_RDONLY), 1)
    os._exit(0)
writer.close()
bank.writer("a").close()  # unlocked, although the child still has the file open
os.close(os.open(sys.argv[2], os.O_WRONLY))
os.wait()
said.update(status=status, missing=bank.missing_rows().tolist(), damage=len(bank.verify().damage))
print(json.dumps(said))
"""


@posix
def test_a_fork_leaves_the_parents_part_alone(tmp_path):
    os.mkfifo(tmp_path / "wait")
    said = run(FORK, tmp_path / "bank", tmp_path / "wait")
    for use in ("append", "close", "committed", "with"):
        assert 'part "a" was opened by process' in str(said[use]) and "a fork of it" in str(said[use]), said
    assert said["own"] != "a" and said["locked"] is True and said["status"] == 0
    assert said["missing"] == [2, 3, 6, 7, 8] and said["damage"] == 0


LIMITED = """
import json, resource, sys
import numpy as np
from ssl_risk_rs import FeatureBank
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
bank = FeatureBank.open(sys.argv[1])
rows = np.arange(bank.n_rows)
wide = bank.read(rows, n_threads=1)
narrow = bank.read(rows[::-1], dtype="float16", n_threads=2)
with bank.writer() as writer:
    pass
print(json.dumps({
    "parts": len(bank.core.parts()), "equal": bool((narrow[::-1] == wide).all()), "sum": float(wide.sum()),
    "damage": len(bank.verify().damage), "one": bank.read([7]).tolist(),
}))
"""


@posix
def test_more_parts_than_open_files(tmp_path):
    n, parts = 240, 60  # of the 40 files a process may open, Python needs some
    bank = create(tmp_path / "bank", n)
    for part in range(parts):
        rows = np.arange(part, n, parts, dtype=np.uint64)  # interleaved: every block of rows meets every part
        with bank.writer(f"p{part}") as writer:
            writer.append(rows, features_of(rows))
    said = run(LIMITED, bank.path)
    expected = features_of(range(n))
    assert said == {
        "parts": parts,
        "equal": True,
        "sum": float(expected.sum()),
        "damage": 0,
        "one": expected[[7]].tolist(),
    }


SHRINKING = """
import json, os, sys, threading, time
from bank_helpers import *
from ssl_risk_rs import BankError
path = Path(sys.argv[1])
bank = FeatureBank.open(path)
payload, rows = path / "a.npy", np.arange(bank.n_rows)
data, expected = payload.read_bytes(), bank.read(rows)
seen = {"errors": 0, "whole": 0}
def attempt():
    try:
        bank.read(rows, n_threads=1)
        seen["whole"] += 1
    except BankError as error:
        assert "is shorter than its journal says" in str(error), error
        seen["errors"] += 1
start = time.perf_counter()
attempt()
duration = time.perf_counter() - start
for i in range(40):  # cut at every stage of a read
    reader = threading.Thread(target=attempt)
    reader.start()
    time.sleep(duration * i / 40)
    os.truncate(payload, 128)
    reader.join()
    payload.write_bytes(data)
print(json.dumps({**seen, "equal": bool(np.array_equal(bank.read(rows), expected))}))
"""


@posix
def test_a_file_that_is_cut_while_it_is_read_is_no_signal(tmp_path):
    """Through a map, such a read ended in SIGBUS."""
    filled(tmp_path / "bank", n=6000, d=1500, step=6000)
    seen = run(SHRINKING, tmp_path / "bank")
    assert seen["errors"] > 0 and seen["errors"] + seen["whole"] == 41 and seen["equal"] is True


def test_a_replaced_bank_is_read_as_it_was(tmp_path):
    bank = FeatureBank.open(filled(tmp_path / "bank").path)
    other = create(tmp_path / "other")
    with other.writer("a") as writer:
        writer.append(other.missing_rows(), np.zeros((10, 5), np.float32))
    os.replace(other.path / "a.npy", bank.path / "a.npy")
    assert np.array_equal(bank.read(range(10)), features_of(range(10)))
    (bank.path / "a.npy").unlink()
    assert np.array_equal(bank.read([9, 0]), features_of([9, 0]))


def test_a_relative_path_holds_from_elsewhere(tmp_path, monkeypatch):
    filled(tmp_path / "bank")
    monkeypatch.chdir(tmp_path)
    bank = FeatureBank.open("bank")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert np.array_equal(bank.read([9, 0]), features_of([9, 0]))
    os.truncate(tmp_path / "bank" / "a.npy", 140)
    with pytest.raises(BankError, match="shorter"):
        bank.read([9, 0])


def test_interleaved_parts(tmp_path):
    n = 5000
    bank = create(tmp_path / "bank", n, 37)
    for part in range(40):
        rows = np.arange(part, n, 40, dtype=np.uint64)[::-1]
        with bank.writer(f"p{part}") as writer:
            writer.append(rows, features_of(rows, 37))
    rows = np.random.default_rng(0).integers(0, n, 3000)
    for threads in (1, 3):
        assert np.array_equal(bank.read(rows, n_threads=threads), features_of(rows, 37))
        assert np.array_equal(bank.read(rows, dtype="float16", n_threads=threads), features_of(rows, 37))
    assert np.array_equal(bank.read(as_rows(*range(n))), features_of(range(n), 37))
