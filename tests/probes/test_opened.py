"""Solvers that are opened once, and sums over rows that are made once."""

import numpy as np
import pytest
from ssl_risk_rs.decomposition.task import make_task
from ssl_risk_rs.probes import opened
from ssl_risk_rs.probes.features import Features
from ssl_risk_rs.probes.kernel_solver import KernelSolver
from ssl_risk_rs.probes.opened import Solvers
from ssl_risk_rs.workflow.probes import decompose_each

N, D, K = 600, 12, 4
FIELDS = {"n_subsets": 2, "seed": 3}


def arrays() -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(0)
    y = np.arange(N) % K
    x = (rng.normal(size=(N, D)) + rng.normal(size=(K, D))[y]).astype(np.float32)
    return x[:400], y[:400], x[400:], y[400:]


@pytest.fixture
def summed(monkeypatch) -> list[int]:
    """Rows of every sum that is really made."""
    found: list[int] = []
    real = KernelSolver.moments

    def counted(self, rows, *arguments, **options):
        found.append(len(rows))
        return real(self, rows, *arguments, **options)

    monkeypatch.setattr(KernelSolver, "moments", counted)
    return found


def test_features_are_opened_once_on_a_device():
    x, *_ = arrays()
    one, other, solvers = Features.of_arrays(x), Features.of_arrays(x), Solvers()
    first = solvers.open(one, "cpu")
    assert solvers.open(one, "cpu") is first
    assert solvers.open(one, "cpu", n_threads=1) is not first
    assert solvers.open(other, "cpu") is not first  # other arrays, though their values are the same


def test_sums_are_made_once_for_the_same_rows_labels_and_cells(summed):
    x, y, *_ = arrays()
    labels, solvers = y.astype(np.uint32), Solvers()
    solver = solvers.open(Features.of_arrays(x), "cpu")
    rows, cells = np.arange(400, dtype=np.uint32), (np.arange(400) % 5).astype(np.uint8)
    one = solvers.moments(solver, rows, labels, K, cells)
    assert solvers.moments(solver, rows.copy(), labels.copy(), K, cells.copy()) is one
    others = [(rows[:399], labels, cells), (rows, labels[::-1].copy(), cells), (rows, labels, cells[::-1].copy()),
              (rows, labels, None)]  # fmt: skip
    for asked in others:
        found = solvers.moments(solver, asked[0], asked[1], K, asked[2])
        assert found is not one
        own = solver.moments(asked[0], asked[1], K, cells=asked[2])
        np.testing.assert_array_equal(found.design().covariance, own.design().covariance)
    assert len(summed) == 1 + 2 * len(others)
    assert solvers.moments(solver, rows, labels, K, cells) is not one  # the last two are kept
    assert solvers.moments(solver, *others[-1][:2], K, None) is solvers.moments(solver, *others[-1][:2], K, None)


def test_both_probes_share_the_sums_and_give_what_each_gives_alone(summed):
    task = make_task(*arrays())
    twin = Features.of_arrays(*(part + 1 for part in (arrays()[0], arrays()[2])))
    options = {"fields": FIELDS, "twin": twin, "control": None, "name": "x", "report": None}
    both = decompose_each(task, probes=("logistic", "ridge"), **options).decompositions
    assert summed == [400, 400]  # the encoder's and the twin's, once each
    for together in both:
        (alone,) = decompose_each(task, probes=(together.method.probe,), **options).decompositions
        assert together.estimates == alone.estimates
    assert summed == [400] * 6


def test_features_give_up_a_device_that_does_not_hold_both(monkeypatch):
    """A device with room for one of two."""
    there: list[int] = []

    class Small(KernelSolver):
        def __init__(self, features, **options):
            super().__init__(features, **options)
            self.resident = not there
            there.append(id(self))

        def __del__(self):
            there.remove(id(self))

    monkeypatch.setattr(opened, "open_solver", lambda features, device, *, n_threads: Small(features))
    x, *_ = arrays()
    one, other, solvers = Features.of_arrays(x), Features.of_arrays(x), Solvers()
    assert solvers.open(one, "small").resident
    assert solvers.open(other, "small").resident
    assert len(there) == 1
