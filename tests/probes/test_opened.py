"""Solvers that are opened once, and sums over rows that are made once."""

import numpy as np
import pytest
from ssl_risk_rs.decomposition.settings import Settings
from ssl_risk_rs.decomposition.task import make_task
from ssl_risk_rs.probes import opened, span_solver
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
    labels, solvers, features = y.astype(np.uint32), Solvers(keeps_sums=True), Features.of_arrays(x)
    solver = solvers.open(features, "cpu")
    rows, cells = np.arange(400, dtype=np.uint32), (np.arange(400) % 5).astype(np.uint8)
    one = solvers.moments(solver, features, rows, labels, K, cells)
    assert solvers.moments(solver, features, rows.copy(), labels.copy(), K, cells.copy()) is one
    others = [(rows[:399], labels, cells), (rows, labels[::-1].copy(), cells), (rows, labels, cells[::-1].copy()),
              (rows, labels, None)]  # fmt: skip
    for asked in others:
        found = solvers.moments(solver, features, asked[0], asked[1], K, asked[2])
        assert found is not one
        own = solver.moments(asked[0], asked[1], K, cells=asked[2])
        np.testing.assert_array_equal(found.design().covariance, own.design().covariance)
    assert len(summed) == 1 + 2 * len(others)
    assert solvers.moments(solver, features, rows, labels, K, cells) is one
    assert solvers.moments(solver, Features.of_arrays(x), rows, labels, K, cells) is not one  # other features


def test_sums_that_nobody_asks_for_again_are_not_kept(summed, monkeypatch):
    x, y, *_ = arrays()
    labels, rows, features = y.astype(np.uint32), np.arange(400, dtype=np.uint32), Features.of_arrays(x)
    alone = Solvers()
    solver = alone.open(features, "cpu")
    assert alone.moments(solver, features, rows, labels, K, None) is not alone.moments(
        solver, features, rows, labels, K, None
    )
    monkeypatch.setattr(opened, "KEPT_BYTES", 8 * D * D)  # one cell
    few = Solvers(keeps_sums=True)
    first = few.moments(solver, features, rows, labels, K, None)
    few.moments(solver, features, rows[:300], labels, K, None)
    assert few.moments(solver, features, rows, labels, K, None) is not first


@pytest.mark.parametrize(("protocol", "sums"), [("strict", [400, 400]), ("paper", None)])
def test_both_probes_share_the_sums_and_give_what_each_gives_alone(summed, protocol, sums):
    task = make_task(*arrays())
    twin = Features.of_arrays(*(part + 1 for part in (arrays()[0], arrays()[2])))
    fields = {"protocol": protocol, **(FIELDS if protocol == "strict" else {})}
    options = {"settings": Settings(**fields), "twin": twin, "control": None, "name": "x", "report": None}
    both = decompose_each(task, probes=("logistic", "ridge"), **options).decompositions
    together, summed[:] = list(summed), []
    assert sums is None or together == sums  # the encoder's and the twin's, once each
    for found in both:
        (alone,) = decompose_each(task, probes=(found.method.probe,), **options).decompositions
        assert found.estimates == alone.estimates
    assert len(summed) == 2 * len(together)


def test_features_give_up_a_device_that_does_not_hold_both(monkeypatch):
    """A device with room for the rows of one; whoever worked on the others goes on, and reads them anew."""
    there: list[int] = []

    class Small(KernelSolver):
        def __init__(self, features, **options):
            super().__init__(features, **options)
            self.resident = not there
            if self.resident:
                there.append(id(self))

        def release(self):
            self.resident = False
            there.remove(id(self))

    monkeypatch.setattr(span_solver, "open_solver", lambda features, device, *, n_threads: Small(features))
    x, *_ = arrays()
    one, other, solvers = Features.of_arrays(x), Features.of_arrays(x), Solvers()
    first = solvers.open(one, "small")
    second = solvers.open(other, "small")
    assert (first.resident, second.resident) == (False, True)
    assert solvers.open(other, "small") is second
