"""Least squares that says which coefficients the design identifies, with variances that hold up in small tables.

A pivoted QR factorization of the scaled design gives its rank and a basis of its null space; a coefficient is
identified if and only if no null vector touches it. A pseudo-inverse would print a number for every other one too.
One factorization serves all outcomes of the same rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float64, Int64

from ssl_risk_rs.errors import NumericalError, ShapeError
from ssl_risk_rs.study._extra import require

__all__ = ["Contrast", "Covariance", "Factor", "Fit", "factor"]

Covariance = Literal["classical", "HC3", "cluster"]

#: entries of a null vector (largest entry 1) above which it touches a column; rounding leaves about 1e-12
_TOUCHES = 1e-7
#: diagonal of R, relative to the first, below which a column adds nothing: n · eps of a few hundred rows is 1e-13,
#: columns that matter have 1e-4 and more after scaling
_RANK = 1e-9
#: leverage, or an eigenvalue of a group's hat matrix, from which rows decide their own fitted values
_OWN = 1 - 1e-8
#: share of a coefficient's variance that an estimator must be able to see (1 for a sound design)
_SEEN = 0.9


@dataclass(frozen=True, slots=True)
class Contrast:
    """One identified coefficient with an estimator of its variance.

    Attributes
    ----------
    weights : the coefficient is weights @ y
    adjusted, groups : the variance is the sum over groups of (Σ adjusted · residuals)², for the robust kinds
    plain : weights @ weights, the variance under errors of variance 1
    df : degrees of freedom of the t distribution
    seen : the share of the variance under equal, independent errors that the estimator can see: below 0.9 it rests on
        residuals that the fit has set to zero (a level in a single row or group), and must not be used
    """

    kind: Covariance
    weights: Float64[np.ndarray, " n"]
    adjusted: Float64[np.ndarray, " n"]
    groups: Int64[np.ndarray, " n"]
    plain: float
    df: float
    seen: float

    @property
    def sound(self) -> bool:
        """Whether the variance may be used."""
        return self.seen >= _SEEN

    def variance(self, fit: "Fit") -> float:
        """The variance of the coefficient in a fit."""
        residuals = fit.residuals
        if self.kind == "classical":
            return self.plain * float(residuals @ residuals) / self.df
        scores = np.bincount(self.groups, weights=self.adjusted * residuals)
        return float(scores @ scores)


@dataclass(frozen=True, slots=True)
class Fit:
    """A fit y = X β + e.

    Attributes
    ----------
    coefficients : (k,), NaN where not identified
    residuals : (n,)
    """

    coefficients: Float64[np.ndarray, " k"]
    residuals: Float64[np.ndarray, " n"]


@dataclass(frozen=True, slots=True)
class Factor:
    """A factored design.

    Attributes
    ----------
    identified : (k,)
    null : (k, k - rank), null vectors of the columns scaled to unit length, largest entry 1
    kept : the columns that span the others
    leverage : (n,), diagonal of the hat matrix
    df : n - rank
    """

    identified: Bool[np.ndarray, " k"]
    null: Float64[np.ndarray, "k r"]
    kept: Int64[np.ndarray, " q"]
    leverage: Float64[np.ndarray, " n"]
    df: int
    basis: Float64[np.ndarray, "n q"]  # orthonormal basis of the column space
    mapping: Float64[np.ndarray, "q q"]  # β[kept] = mapping @ basisᵀ y
    scale: Float64[np.ndarray, " k"]  # lengths of the columns

    @property
    def rank(self) -> int:
        """The rank of the design."""
        return len(self.kept)

    def fit(self, y: Float64[np.ndarray, " n"]) -> Fit:
        """Solve for one outcome."""
        if len(y) != len(self.leverage):
            raise ShapeError(f"the design has {len(self.leverage)} rows, the outcome {len(y)}")
        if not np.isfinite(y).all():
            raise NumericalError("the outcome has values that are not finite; leave those rows out")
        inner = self.basis.T @ y
        coefficients = np.full(len(self.identified), np.nan)
        coefficients[self.kept] = self.mapping @ inner
        coefficients[~self.identified] = np.nan
        return Fit(coefficients, y - self.basis @ inner)

    def aliases(self, column: int) -> list[int]:
        """The other columns that say the same as this one: those of the null vectors that touch it."""
        touching = self.null[:, np.abs(self.null[column]) > _TOUCHES]
        others = np.flatnonzero((np.abs(touching) > _TOUCHES).any(axis=1))
        return [int(i) for i in others if i != column]

    def comparable(self, columns: Sequence[int]) -> list[list[int]]:
        """Sets of the given columns, indicators of levels, whose differences are identified; -1 is the reference level.

        Two levels can be compared if and only if every null vector has the same entry for both.
        """
        rows = self.null / self.scale[:, None]
        if rows.shape[1]:
            rows = rows / np.abs(rows).max(axis=0)
        sets: list[tuple[Float64[np.ndarray, " r"], list[int]]] = [(np.zeros(rows.shape[1]), [-1])]
        for column in columns:
            for entry, members in sets:
                if np.abs(rows[column] - entry).max(initial=0.0) <= _TOUCHES:
                    members.append(column)
                    break
            else:
                sets.append((rows[column], [column]))
        return [members for _, members in sets]

    def minimum_norm(self, column: int, fit: Fit, y: Float64[np.ndarray, " n"]) -> tuple[float, float]:
        """What a pseudo-inverse gives for a coefficient, identified or not, and its classical variance.

        The number for one that is not identified depends on how the other columns are coded: for comparison only.
        """
        full = np.zeros((len(self.identified), len(y)))
        full[self.kept] = self.mapping @ self.basis.T
        if self.null.shape[1]:
            null = self.null / self.scale[:, None]
            full -= null @ np.linalg.lstsq(null, full, rcond=None)[0]
        variance = float(fit.residuals @ fit.residuals) / self.df
        return float(full[column] @ y), float(full[column] @ full[column]) * variance

    def contrast(self, column: int, kind: Covariance, clusters: Int64[np.ndarray, " n"] | None = None) -> Contrast:
        """An identified coefficient with its variance.

        "classical" supposes equal, independent errors. "HC3" allows each row its own variance: squared residuals over
        (1 - leverage)². "cluster" allows any dependence within clusters: the bias-reduced estimator CR2 of Bell and
        McCaffrey (2002) with Satterthwaite degrees of freedom, of which 28 unequal clusters often leave fewer than 10.
        """
        weights = self.basis @ self.mapping[int(np.flatnonzero(self.kept == column)[0])]
        plain = float(weights @ weights)
        rows = np.arange(len(weights), dtype=np.int64)
        if kind == "classical":
            return Contrast(kind, weights, weights, rows, plain, self.df, 1.0)
        if kind == "HC3":
            own = self.leverage >= _OWN
            seen = 1.0 - float(weights[own] @ weights[own]) / plain
            adjusted = np.where(own, 0.0, weights / np.where(own, 1.0, 1.0 - self.leverage))
            return Contrast(kind, weights, adjusted, rows, plain, self.df, seen)
        if clusters is None or len(clusters) != len(weights):
            raise ShapeError(f"clusters must name the cluster of each of the {len(weights)} rows")
        adjusted = np.empty(len(weights))
        names, place = np.unique(clusters, return_inverse=True)
        directions = np.empty((len(names), len(weights)))
        for g in range(len(names)):
            here = np.flatnonzero(place == g)
            block = self.basis[here]
            left, stretch, _ = np.linalg.svd(block, full_matrices=False)
            lost = stretch**2  # eigenvalues of the hat matrix of the group; 1 where it decides its own fit
            more = np.where(lost < _OWN, 1.0 / np.sqrt(np.maximum(1.0 - lost, 1e-300)), 0.0) - 1.0
            within = weights[here]
            adjusted[here] = within + left @ (more * (left.T @ within))  # (I - H_gg)^-1/2 w_g
            directions[g] = -self.basis @ (block.T @ adjusted[here])
            directions[g, here] += adjusted[here]
        gram = directions @ directions.T  # (groups, groups)
        trace = float(np.trace(gram))
        df = trace**2 / float(np.sum(gram**2)) if trace > 0 else 0.0
        return Contrast(kind, weights, adjusted, place.astype(np.int64), plain, df, trace / plain)

    def without_row(self, weights: Float64[np.ndarray, " n"], fit: Fit, value: float) -> Float64[np.ndarray, " n"]:
        """A coefficient without each row in turn; NaN where that row decides its own fitted value."""
        room = np.where(self.leverage >= _OWN, np.nan, 1.0 - self.leverage)
        return np.asarray(value - weights * fit.residuals / room)


def factor(x: Float64[np.ndarray, "n k"]) -> Factor:
    """Factor a design for least squares,  min_β ‖X β − y‖²,  by a rank-revealing QR factorization.

    Parameters
    ----------
    x : (n, k). Give numeric columns centred where their mean is far from zero (a year): rank is judged to 1e-9.

    Raises
    ------
    NumericalError if a value is not finite.
    """
    k = x.shape[1]
    if not np.isfinite(x).all():
        raise NumericalError("the design has values that are not finite; leave those rows out")
    linalg = require("scipy.linalg")
    scale = np.sqrt(np.sum(x * x, axis=0))
    scale = np.where(scale > 0, scale, 1.0)
    q, r, pivot = linalg.qr(x / scale, mode="economic", pivoting=True)
    diagonal = np.abs(np.diag(r))
    rank = int(np.sum(diagonal > _RANK * diagonal[0])) if len(diagonal) and diagonal[0] > 0 else 0
    upper, rest = r[:rank, :rank], r[:rank, rank:]
    null = np.zeros((k, k - rank))
    if rank < k:
        null[pivot[:rank]] = -linalg.solve_triangular(upper, rest) if rank else 0.0
        null[pivot[rank:]] = np.eye(k - rank)
        null /= np.abs(null).max(axis=0)
    inverse = linalg.solve_triangular(upper, np.eye(rank)) if rank else np.zeros((0, 0))
    basis = np.ascontiguousarray(q[:, :rank])
    return Factor(
        identified=np.asarray((np.abs(null) <= _TOUCHES).all(axis=1)),
        null=null,
        kept=np.asarray(pivot[:rank], dtype=np.int64),
        leverage=np.sum(basis * basis, axis=1),
        df=len(x) - rank,
        basis=basis,
        mapping=inverse / scale[pivot[:rank]][:, None],
        scale=scale,
    )
