"""A process that has used the solvers may fork, and a fit uses no more threads than it was given."""

import multiprocessing
import os
import subprocess
import sys

import numpy as np
import pytest
from ssl_risk_rs import _core

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork"),
    # what is tested is a fork of a process with threads
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

WAIT = 60.0  # seconds; a child that works needs a few hundredths


def objective(n_threads: int) -> float:
    """F of a small fit, large enough that rows, metric and products are spread over the threads."""
    rng = np.random.default_rng(0)
    n, d, k = 1200, 80, 5
    y = (np.arange(n) % k).astype(np.uint32)
    x = (rng.normal(0, 1, (k, d))[y] + rng.normal(0, 1, (n, d))).astype(np.float32)
    rows = np.arange(n, dtype=np.uint32)
    moments = _core.Moments(d, k, shift=_core.choose_shift(x, rows))
    moments.update(x, y, rows, np.zeros(n, np.uint8), n_threads=n_threads)
    design = moments.design(scaling="standardize", n_threads=n_threads)
    design.solve_ridge([1e-2, 1e-1], n_threads=n_threads)
    fit = _core.fit_logistic(x, rows, y, design, 1e-2, n_threads=n_threads)
    fit.probe.scores(x, rows, n_threads=n_threads)
    return fit.objective


@pytest.mark.parametrize("n_threads", [1, 2])
def test_a_forked_child_fits_like_its_parent(n_threads: int) -> None:
    here = objective(n_threads)
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=lambda: sender.send(objective(n_threads)))
    child.start()
    try:
        assert receiver.poll(WAIT), "the child hangs in a solver"
        assert receiver.recv() == here
        child.join(WAIT)
        assert child.exitcode == 0
    finally:
        child.kill()
        child.join()
    assert objective(n_threads) == here  # the parent goes on


def test_the_child_of_a_child_fits_too() -> None:
    here = objective(2)
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def grandchild() -> None:
        objective(2)
        inner = context.Process(target=lambda: sender.send(objective(2)))
        inner.start()
        inner.join(WAIT)
        inner.kill()

    child = context.Process(target=grandchild)
    child.start()
    try:
        assert receiver.poll(WAIT), "the grandchild hangs in a solver"
        assert receiver.recv() == here
    finally:
        child.join(WAIT)
        child.kill()


def test_workers_of_a_torch_data_loader_may_use_probes() -> None:
    data = pytest.importorskip("torch.utils.data")

    class Objectives(data.Dataset):  # type: ignore[misc, name-defined]
        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> float:
            return objective(1 + index % 2)

    here = [objective(1), objective(2)]
    loader = data.DataLoader(Objectives(), batch_size=1, num_workers=2, multiprocessing_context="fork", timeout=WAIT)
    assert [float(batch[0]) for batch in loader] == here + here


def test_fits_on_one_thread_start_no_others() -> None:
    """Counted in a process of its own: others have used the pools of this one."""
    code = """
import os, sys, threading
sys.path.insert(0, os.environ["TEST_FOLDER"])
import numpy as np
from ssl_risk_rs import _core
before = len(os.listdir("/proc/self/task"))
import test_fork
most, done = 0, threading.Event()
def watch():
    global most
    while not done.wait(1e-3):
        most = max(most, len(os.listdir("/proc/self/task")))
watcher = threading.Thread(target=watch)
watcher.start()
for _ in range(3):
    test_fork.objective(1)
done.set()
watcher.join()
print(most - before)
"""
    if not os.path.isdir("/proc/self/task"):
        pytest.skip("threads are counted in /proc")
    folder = os.path.dirname(__file__)
    single = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "TEST_FOLDER": folder}
    environment = os.environ | single
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    # the watcher, the one that computes, and the one that waits for it so that the main thread sees ^C
    assert int(done.stdout) <= 3
