"""One thread means one: what a solver may start."""

import subprocess
import sys

import pytest

CODE = """
import os, threading
import numpy as np
from ssl_risk_rs import _core

rng = np.random.default_rng(0)
x = rng.normal(size=(3000, 300)).astype(np.float32)
y = (np.arange(3000) % 40).astype(np.uint32)
rows, cells = np.arange(3000, dtype=np.uint32), np.zeros(3000, np.uint8)
before = len(os.listdir("/proc/self/task"))
moments = _core.Moments(300, 40, shift=_core.choose_shift(x, rows))
moments.update(x, y, rows, cells, n_threads=1)
shift, counts, sums, gram, _ = moments.totals(n_threads=1)
about = np.abs(x - shift).max(0)
moments.add_sums(0, counts, sums, -about, about, gram, precision="float64", n_threads=1)
moments.merge(moments, n_threads=1)
design = moments.design(n_threads=1)
probe = design.solve_ridge([1e-2], reuse=False, n_threads=1)[0]
design.solve_ridge([1e-2], n_threads=1)
moments.solve([1e-2], n_threads=1)
design.ridge_errors(x, rows, y, [1e-2], n_threads=1)
_core.solve_ridge_dual(x, rows[:200].copy(), y, 40, [1e-2], n_threads=1)
_core.judge(x, rows, y, [probe], n_threads=1)
probe.scores(x, rows, n_threads=1)
_core.feature_means(x, rows, n_threads=1)
print(len(os.listdir("/proc/self/task")) - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
def test_one_thread_starts_no_others():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert int(done.stdout) <= 1  # a pool of one, if any
