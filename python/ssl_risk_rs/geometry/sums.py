"""Sums over rows in float64, and the matrices that follow from them."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, UInt32, UInt64

from ssl_risk_rs.probes.features import Features
from ssl_risk_rs.probes.kernel_solver import KernelSolver

__all__ = ["RowSums", "positive", "sum_rows"]


@dataclass(frozen=True, slots=True)
class RowSums:
    """Sums of n rows of d features in k classes, about a shift c near their mean.

    shift : c; counts : rows of each class; sums : Σ (x − c) by class; gram : Σ (x−c)(x−c)ᵀ
    varies : features whose variance is more than rounding
    """

    shift: Float64[np.ndarray, " d"]
    counts: UInt64[np.ndarray, " k"]
    sums: Float64[np.ndarray, "k d"]
    gram: Float64[np.ndarray, "d d"]
    varies: Bool[np.ndarray, " d"]

    @property
    def n(self) -> int:
        """Rows."""
        return int(self.counts.sum())

    @property
    def offset(self) -> np.ndarray:
        """Mean − shift, (d,)."""
        return np.asarray(self.sums.sum(0) / self.n)

    @property
    def mean(self) -> np.ndarray:
        """(d,)"""
        return np.asarray(self.shift + self.offset)

    @property
    def present(self) -> np.ndarray:
        """Classes that have rows."""
        return np.flatnonzero(self.counts)

    def covariance(self) -> np.ndarray:
        """Of the features that vary, divided by n: (d′, d′)."""
        kept = self.varies
        offset = self.offset[kept]
        return np.asarray(self.gram[np.ix_(kept, kept)] / self.n - np.outer(offset, offset))

    def correlation(self) -> np.ndarray:
        """Of the features that vary: (d′, d′)."""
        covariance = self.covariance()
        scale = 1 / np.sqrt(np.diag(covariance))
        return np.asarray(covariance * scale * scale[:, None])

    def squares(self) -> np.ndarray:
        """ZᵀZ of the features as they are: (d, d)."""
        total = self.sums.sum(0)
        crossed = np.outer(self.shift, total)
        return np.asarray(self.gram + crossed + crossed.T + self.n * np.outer(self.shift, self.shift))

    def class_means(self) -> np.ndarray:
        """(k, d); zeros of classes without rows."""
        counts = np.maximum(self.counts, 1).astype(float)
        return np.where(self.counts[:, None] > 0, self.sums / counts[:, None] + self.shift, 0.0)

    def class_offsets(self) -> np.ndarray:
        """Class means − mean of the classes that have rows, (k′, d)."""
        k = self.present
        return np.asarray(self.sums[k] / self.counts[k, None].astype(float) - self.offset)


def sum_rows(
    features: Features,
    rows: UInt32[np.ndarray, " m"],
    labels: UInt32[np.ndarray, " n"],
    n_classes: int,
    *,
    n_threads: int | None = None,
) -> RowSums:
    """Sum rows in one pass; float64, because a rank is decided by what is small beside the largest."""
    solver = KernelSolver(features, n_threads=n_threads)
    moments = solver.moments(rows, labels, n_classes, precision="float64")
    shift, counts, sums, gram, constant = moments.totals(n_threads=n_threads)
    varies = np.ones(features.n_features, bool)
    varies[constant] = False
    return RowSums(shift.astype(np.float64), counts, sums, gram, varies)


def positive(eigenvalues: np.ndarray, rank: int) -> np.ndarray:
    """Eigenvalues of a Gram matrix, descending; at most `rank` of them, and none that rounding may have made.

    Below 4·d·ε of the largest nothing is known: it becomes 0.
    """
    found: np.ndarray = np.sort(eigenvalues)[::-1].copy()
    if len(found):
        found[found <= 4 * len(found) * np.finfo(float).eps * max(found[0], 0.0)] = 0.0
    found[rank:] = 0.0
    return found
