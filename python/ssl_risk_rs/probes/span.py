"""Few rows of many features in coordinates of the space that they span, where a fit costs n³ instead of d³.

A probe with a penalty on its weights lies in the span of the rows it is fitted to, so that nothing is lost: the
objective, and with it certificate and predictions, is that of the features. Where rows are at least as many as
features there is nothing to gain.
"""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64, Integer

from ssl_risk_rs import _core

if TYPE_CHECKING:
    from scipy.sparse import csr_array

__all__ = ["RowSpan", "axes_of"]

#: squared lengths along an axis, summed over the rows, below this share of the longest row's square are rounding
_RANK = 1e-10


class RowSpan:
    """Z Zᵀ A, where the rows of Z (n, d) are scaled features less their mean, and Zᵀ A is an orthonormal basis of their
    span, r ≤ n.

    Attributes
    ----------
    coordinates : float64 (n, r), of the rows themselves
    """

    def __init__(
        self, scaled: "_core.FeatureScaling", rows: Float64[np.ndarray, "n d"], labels: Integer[np.ndarray, " n"]
    ) -> None:
        """`rows` are scaled in place and kept; their covariance within classes of `labels` is diagonal in the basis, as
        the logistic solver's metric wants it."""
        self._scaled = scaled
        self._z = self._centred(rows)
        gram = self._z @ self._z.T
        self._axes = axes_of(gram, labels)  # (n, r)
        self.coordinates = gram @ self._axes

    def project(self, rows: Float64[np.ndarray, "m d"]) -> Float64[np.ndarray, "m r"]:
        """Coordinates of other rows, which are scaled in place, projected on the span."""
        return np.asarray(self._centred(rows) @ self._z.T @ self._axes)  # (m, d) @ (d, n) @ (n, r)

    def on_features(self, probe: "_core.LinearProbe") -> "_core.LinearProbe":
        """A probe on coordinates as the same probe on features."""
        coef, intercept = probe.raw()
        weights = coef @ self._axes.T @ self._z  # (k, r) @ (r, n) @ (n, d), scaled coordinates
        return _core.LinearProbe(
            weights, intercept - weights @ self._scaled.offset, self._scaled.shift, self._scaled.scale
        )

    def _centred(self, rows: np.ndarray) -> np.ndarray:
        rows -= self._scaled.mean
        rows *= self._scaled.scale
        return rows


def axes_of(gram: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """A (n, r), float64, from the Gram matrix Z Zᵀ (n, n) of centred rows: Zᵀ A is an orthonormal basis of their span,
    along which the covariance within classes is diagonal, as the logistic solver's metric wants it.

    First the directions within classes, from the Gram matrix of n − k contrasts of rows of one class; then those of the
    class means that lie beyond, where nothing varies within classes. Two small eigendecompositions: n − k and k rows.
    """
    within, between = _contrasts(labels)
    least = _RANK * max(float(np.einsum("ii->i", gram).max()), np.finfo(float).tiny)
    a = within.T @ _roots(within @ gram @ within.T, least)
    beyond = between.T - a @ (a.T @ (gram @ between.T))
    a = np.concatenate([a, beyond @ _roots(beyond.T @ gram @ beyond, least)], 1)
    if not a.shape[1]:  # all features are constant
        a = np.full((len(gram), 1), 1.0)
    return np.asarray(a)


def _contrasts(labels: np.ndarray) -> "tuple[csr_array, np.ndarray]":
    """Orthonormal rows: sums over rows of one class that are 0 for equal rows (n − k, n), and class means (k, n)."""
    from scipy.sparse import csr_array

    classes, class_of, counts = np.unique(labels, return_inverse=True, return_counts=True)
    between = (class_of.ravel() == np.arange(len(classes))[:, None]) / np.sqrt(counts)[:, None]
    order = np.argsort(class_of.ravel(), kind="stable")
    # a row less the mean of those before it, for each but the first of a class
    before = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    at = np.flatnonzero(before)
    i = before[at]
    columns = np.concatenate([order[j - n : j + 1] for j, n in zip(at.tolist(), i.tolist(), strict=True)] or [at])
    size = 1 / np.sqrt(i * (i + 1.0))
    ends = np.cumsum(i + 1)
    values = np.repeat(-size, i + 1)
    values[ends - 1] = i * size
    return csr_array((values, columns, np.concatenate([[0], ends])), (len(at), len(labels))), between


def _roots(gram: np.ndarray, least: float) -> np.ndarray:
    """V Λ^(−1/2) (m, r) of a Gram matrix V Λ Vᵀ, without eigenvalues of `least` or below."""
    if not len(gram):
        return np.zeros((0, 0))
    values, vectors = np.linalg.eigh(gram)
    kept = values > least
    return np.asarray(vectors[:, kept] / np.sqrt(values[kept]))
