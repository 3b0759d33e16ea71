"""Ridge probes of numbers, or of several labels a row, fitted to rows of some cells in closed form.

X'X comes from the kernels and X'Y is summed here, in float64:

    W = (C + αI)⁻¹ D (Σ x yᵀ/n − x̄ ȳᵀ)        ŷ = ȳ + Wᵀ D (x − x̄)        C, D as in the design

Fewer rows than features are fitted in their span instead.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ssl_risk_rs import _core
from ssl_risk_rs.decomposition.fitting import penalty_unit
from ssl_risk_rs.errors import NumericalError
from ssl_risk_rs.probes.features import Features
from ssl_risk_rs.probes.span import SpanDesign, SpanMoments
from ssl_risk_rs.probes.span_solver import AnyDesign, SpanSolver
from ssl_risk_rs.results.record import Method

__all__ = ["TargetProbe", "TargetSums", "row_blocks", "sum_targets"]

#: bytes of a block of rows in float64
BLOCK_BYTES = 64_000_000


@dataclass(frozen=True, slots=True)
class TargetProbe:
    """ŷ = intercept + (x − centre) @ weights, for weights (d, k); `absolute` : its penalty as it was used; n : rows."""

    weights: np.ndarray
    intercept: np.ndarray
    centre: np.ndarray
    absolute: float
    n: int


class TargetSums(Protocol):
    """Rows by cell, with their targets."""

    def design(self, cells: Sequence[int]) -> AnyDesign:
        """Rows of these cells, scaled as the method says."""

    def fit(self, cells: Sequence[int], alphas: Sequence[float]) -> list[TargetProbe]:
        """The probe on these cells at each penalty, in units of the mean variance of the scaled features."""


def sum_targets(
    features: Features, targets: np.ndarray, rows: np.ndarray, cells: np.ndarray, method: Method
) -> TargetSums:
    """Sums over `rows` by cell; targets (n, k) and cells (n,) are by row number."""
    solver = SpanSolver(features, method.device, n_threads=method.n_threads)
    # moments want classes, of which nothing here depends: two, in turn within each cell
    labels = np.zeros(features.n_rows, np.uint32)
    order = rows[np.argsort(cells[rows], kind="stable")]
    labels[order] = np.arange(len(order)) % 2
    moments = solver.moments(rows, labels, 2, cells=cells)
    if isinstance(moments, SpanMoments):
        return _InSpan(moments, targets, method)
    return _ByCell(features, targets, rows, cells, moments, method)


class _InSpan:
    """See `TargetSums`; of fewer rows than features."""

    def __init__(self, moments: SpanMoments, targets: np.ndarray, method: Method) -> None:
        self._moments, self._targets, self._method = moments, targets, method
        self._designs: dict[tuple[int, ...], SpanDesign] = {}

    def design(self, cells: Sequence[int]) -> SpanDesign:
        """See `TargetSums`; with its eigenvalues, which further penalties take."""
        key = tuple(cells)
        if key not in self._designs:
            self._designs[key] = self._moments.design(cells, scaling=self._method.scaling)
        return self._designs[key]

    def fit(self, cells: Sequence[int], alphas: Sequence[float]) -> list[TargetProbe]:
        """See `TargetSums`."""
        design = self.design(cells)
        y, scaled = self._targets[design.rows], design.scaled
        taken = _taken(design, alphas)
        return [
            TargetProbe(scaled.scale[:, None] * weights, y.mean(0), scaled.mean, alpha, len(y))
            for alpha, weights in zip(taken, design.ridge_weights(y, taken), strict=True)
        ]


class _ByCell:
    """See `TargetSums`: Σ x (cells, d), Σ y (cells, k), Σ x yᵀ (cells, d, k) and rows (cells), all in float64."""

    def __init__(
        self,
        features: Features,
        targets: np.ndarray,
        rows: np.ndarray,
        cells: np.ndarray,
        moments: "_core.Moments",
        method: Method,
    ) -> None:
        self._moments, self._method = moments, method
        count, d, k = int(cells[rows].max()) + 1, features.n_features, targets.shape[1]
        self._x, self._y, self._xy = np.zeros((count, d)), np.zeros((count, k)), np.zeros((count, d, k))
        self._n = np.zeros(count, np.int64)
        for block, x in row_blocks(features, rows):
            y, own = targets[block], cells[block]
            for cell in np.unique(own).tolist():
                some = own == cell
                self._x[cell] += x[some].sum(0)
                self._y[cell] += y[some].sum(0)
                self._xy[cell] += x[some].T @ y[some]
                self._n[cell] += int(some.sum())

    def design(self, cells: Sequence[int]) -> "_core.Design":
        """See `TargetSums`."""
        return self._moments.design(list(cells), scaling=self._method.scaling, n_threads=self._method.n_threads)

    def fit(self, cells: Sequence[int], alphas: Sequence[float]) -> list[TargetProbe]:
        """See `TargetSums`."""
        design, own = self.design(cells), list(cells)
        scale = design.scale.astype(np.float64)[:, None]
        n = int(self._n[own].sum())
        centre, mean = self._x[own].sum(0) / n, self._y[own].sum(0) / n
        cross = scale * (self._xy[own].sum(0) / n - np.outer(centre, mean))
        return [
            TargetProbe(scale * _solve(design.covariance, alpha, cross), mean, centre, alpha, n)
            for alpha in _taken(design, alphas)
        ]


def row_blocks(features: Features, rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows in blocks, and their features in float64."""
    step = max(1, BLOCK_BYTES // (8 * features.n_features))
    for begin in range(0, len(rows), step):
        block = np.ascontiguousarray(rows[begin : begin + step])
        yield block, features.read(block).astype(np.float64)


def _taken(design: AnyDesign, alphas: Sequence[float]) -> list[float]:
    """Penalties as they are used, from units of the mean variance."""
    return [max(alpha * penalty_unit(design), design.alpha_floor) for alpha in alphas]


def _solve(covariance: np.ndarray, alpha: float, cross: np.ndarray) -> np.ndarray:
    """(C + αI)⁻¹ cross; by eigenvalues, those below 0 put back to it, where rounding left C no factor."""
    from scipy.linalg import LinAlgError, cho_factor, cho_solve, eigh

    ridged = covariance.copy()
    np.fill_diagonal(ridged, covariance.diagonal() + alpha)
    try:
        return np.asarray(cho_solve(cho_factor(ridged, lower=True, overwrite_a=True), cross))
    except LinAlgError:
        pass
    try:
        values, vectors = eigh(covariance)
    except LinAlgError as error:
        raise NumericalError(f"the covariance of the features has no eigendecomposition ({error})") from error
    return np.asarray(vectors @ ((vectors.T @ cross) / (np.maximum(values, 0)[:, None] + alpha)))
