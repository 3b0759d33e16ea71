"""Solvers of one piece of work: rows go to a device once, and sums over the same rows are made once.

A decomposition opens the features it judges several times, and both probes of a run take the same folds: what lies on
a GPU stays there meanwhile, and the second probe finds the first one's moments.
"""

import hashlib

import numpy as np

from ssl_risk_rs import _core
from ssl_risk_rs.probes.devices import Device, open_solver
from ssl_risk_rs.probes.features import Features
from ssl_risk_rs.probes.solver import Solver

__all__ = ["Solvers"]

#: sums that are kept of each solver: those of the folds, and those of other rows that were asked for last
KEPT_MOMENTS = 2


class Solvers:
    """Opens solvers and sums rows; remembers both for as long as it lives."""

    def __init__(self) -> None:
        self._open: dict[tuple[int, Device, int | None], tuple[Features, Solver]] = {}
        self._moments: dict[tuple[int, bytes], _core.Moments] = {}

    def open(self, features: Features, device: Device, *, n_threads: int | None = None) -> Solver:
        """The solver of these features on this device.

        Features of another encoder give up their place on a GPU where its memory does not hold both.
        """
        key = (id(features.source), device, n_threads)
        if key not in self._open:
            solver = open_solver(features, device, n_threads=n_threads)
            if self._open and not solver.resident:
                del solver
                self._open.clear()
                self._moments.clear()
                solver = open_solver(features, device, n_threads=n_threads)
            self._open[key] = (features, solver)
        return self._open[key][1]

    def moments(
        self, solver: Solver, rows: np.ndarray, labels: np.ndarray, n_classes: int, cells: np.ndarray | None
    ) -> "_core.Moments":
        """`Solver.moments` of a solver that was opened here; not to be changed by who gets them."""
        key = (id(solver), _digest(rows, labels[rows], np.zeros(0) if cells is None else cells[rows], n_classes))
        found = self._moments.pop(key, None)
        if found is None:
            found = solver.moments(rows, labels, n_classes, cells=cells)
        self._moments[key] = found
        own = [k for k in self._moments if k[0] == id(solver)]
        for old in own[:-KEPT_MOMENTS]:
            del self._moments[old]
        return found


def _digest(rows: np.ndarray, labels: np.ndarray, cells: np.ndarray, n_classes: int) -> bytes:
    hashed = hashlib.blake2b(f"{n_classes},{len(rows)},{len(cells)}".encode(), digest_size=16)
    for values in (rows, labels, cells):
        hashed.update(values.tobytes())
    return hashed.digest()
