"""Solvers of one piece of work: rows go to a device once, and sums over the same rows are made once.

A decomposition opens the features it judges several times, and both probes of a run take the same folds: what lies on
a GPU stays there meanwhile, and the second probe finds the first one's moments.
"""

import hashlib
from dataclasses import dataclass

import numpy as np

from ssl_risk_rs.probes.devices import Device
from ssl_risk_rs.probes.features import Features
from ssl_risk_rs.probes.span import SpanMoments
from ssl_risk_rs.probes.span_solver import AnyMoments, SpanSolver

__all__ = ["Solvers"]

#: bytes of sums that are kept for another probe: five folds, three subsets of 2048 features take 0.3 GB
KEPT_BYTES = 1 << 29


@dataclass(frozen=True, slots=True)
class _Sums:
    """Moments, and what they are of: the features are held, so that no others can have their identity."""

    features: Features
    moments: AnyMoments
    n_bytes: int


class Solvers:
    """Opens solvers and sums rows; remembers them for as long as it lives.

    Parameters
    ----------
    keeps_sums : whether another probe may ask for the same sums
    """

    def __init__(self, *, keeps_sums: bool = False) -> None:
        self.keeps_sums = keeps_sums
        self._open: dict[tuple[int, Device, int | None], tuple[Features, SpanSolver]] = {}
        self._sums: dict[tuple[int, bytes], _Sums] = {}

    def open(self, features: Features, device: Device, *, n_threads: int | None = None) -> SpanSolver:
        """The solver of these features on this device.

        Features of another encoder give up their place on a GPU where its memory does not hold both.
        """
        key = (id(features.source), device, n_threads)
        if key not in self._open:
            solver = SpanSolver(features, device, n_threads=n_threads)
            if self._open and not solver.resident:
                for _, other in self._open.values():
                    other.release()
                self._open.clear()
                del solver
                solver = SpanSolver(features, device, n_threads=n_threads)
            self._open[key] = (features, solver)
        return self._open[key][1]

    def moments(
        self, solver: SpanSolver, features: Features, rows: np.ndarray, labels: np.ndarray, n_classes: int,
        cells: np.ndarray | None,
    ) -> AnyMoments:  # fmt: skip
        """`Solver.moments` of the solver of these features; not to be changed by who gets them."""
        if not self.keeps_sums:
            return solver.moments(rows, labels, n_classes, cells=cells)
        own_cells = np.zeros(0) if cells is None else cells[rows]
        key = (id(features.source), _digest(rows, labels[rows], own_cells, n_classes))
        found = self._sums.pop(key, None)
        if found is None:
            moments = solver.moments(rows, labels, n_classes, cells=cells)
            n_cells = 1 if cells is None else int(own_cells.max(initial=0)) + 1
            n_bytes = 0 if isinstance(moments, SpanMoments) else 8 * n_cells * features.n_features**2
            found = _Sums(features, moments, n_bytes)
        self._sums[key] = found
        while sum(sums.n_bytes for sums in self._sums.values()) > KEPT_BYTES:
            del self._sums[next(iter(self._sums))]  # the one that was asked for longest ago
        return found.moments


def _digest(rows: np.ndarray, labels: np.ndarray, cells: np.ndarray, n_classes: int) -> bytes:
    hashed = hashlib.blake2b(f"{n_classes},{len(rows)},{len(cells)}".encode(), digest_size=16)
    for values in (rows, labels, cells):
        hashed.update(values.tobytes())
    return hashed.digest()
