"""Statistics as formulas of eigenvalues, class means and sums; float64. Definitions and sources: docs/geometry.md."""

import math
from collections.abc import Callable

import numpy as np

__all__ = [
    "coherence", "count_above", "entropy_rank", "fit_range", "h_score", "log_evidence", "power_law", "pseudo_trace",
]  # fmt: skip

#: added to shares of singular values by RankMe and of discriminant eigenvalues by LiDAR
SHARE_EPSILON = 1e-7
#: cosines that are at hand at a time
COSINES = 1 << 22
#: of the largest: directions below it count as noise for ranks and pseudo-inverses, as the authors of the paper have it
RELATIVE_CUTOFF = 0.01
#: fewest eigenvalues that a power law is fitted to
LEAST_POINTS = 5
#: relative change of the ratio of precisions at which the evidence is at its maximum
EVIDENCE_TOL = 1e-10
EVIDENCE_STEPS = 2000
#: share of ‖y‖² below which a residual is rounding
EXACT = 1e-10
#: least t in units of the smallest eigenvalue, largest in units of the largest; points of the grid in a decade; golden
#: sections, which leave 0.618^24 of two of its steps: 1.5e-5 in log t, of which the evidence next to a maximum has the
#: square
LEAST, MOST, IN_DECADE, SECTIONS = 1e-10, 1e10, 3, 24


def entropy_rank(values: np.ndarray, epsilon: float = 0.0) -> float:
    """exp(−Σ p log p) with p = values / Σ values + ε; NaN if all are 0."""
    total = values.sum()
    if not total > 0:
        return math.nan
    shares = values / total + epsilon
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def count_above(values: np.ndarray, least: float = 0.0) -> int:
    """Values above max(least, 1 % of the largest)."""
    if not len(values) or not values.max() > 0:
        return 0
    return int((values > max(least, RELATIVE_CUTOFF * values.max())).sum())


def fit_range(rank: int) -> tuple[int, int]:
    """First and last eigenvalue, from 1, that the power law is fitted to: 11 to 500, or from an eighth of them where
    there are few: the first ones are classes, not the law."""
    last = min(rank, 500)
    return min(11, last // 8 + 1), last


def power_law(eigenvalues: np.ndarray, first: int, last: int) -> tuple[float, float]:
    """Exponent a of λ_j ∝ j^−a by least squares of log λ_j on log j, first ≤ j ≤ last, and the R² of that fit."""
    if last - first + 1 < LEAST_POINTS:
        return math.nan, math.nan
    y = np.log(eigenvalues[first - 1 : last])
    x = np.log(np.arange(first, last + 1))
    x, y = x - x.mean(), y - y.mean()
    slope = float(x @ y / (x @ x))
    spread = float(y @ y)
    return -slope, 1.0 if spread == 0 else float(1 - ((y - slope * x) ** 2).sum() / spread)


def pseudo_trace(roots: np.ndarray, within: np.ndarray) -> float:
    """tr(pinv(rootsᵀ roots) · within) with roots (k, d), within (d, d); directions below 1 % of the largest variance
    are left out. NaN if roots are 0."""
    _, singular, directions = np.linalg.svd(roots, full_matrices=False)
    variances = singular**2
    if not len(variances) or not variances[0] > 0:
        return math.nan
    kept = variances > RELATIVE_CUTOFF * variances[0]
    spread = np.einsum("jd,de,je->j", directions[kept], within, directions[kept], optimize=True)
    return float((spread / variances[kept]).sum())


def coherence(class_means: np.ndarray) -> float:
    """Largest |cosine| between two of the rows (k, d); rows of zeros have none. NaN for fewer than two."""
    lengths = np.linalg.norm(class_means, axis=1)
    units = class_means[lengths > 0] / lengths[lengths > 0, None]
    if len(units) < 2:
        return math.nan
    largest, block = 0.0, max(1, COSINES // len(units))
    for start in range(0, len(units), block):
        # each pair once: those of a block among themselves, then with all that follow
        cosines = np.abs(units[start : start + block] @ units[start:].T)
        np.fill_diagonal(cosines, 0.0)
        largest = max(largest, float(cosines.max()))
    return min(1.0, largest)


def h_score(eigenvalues: np.ndarray, vectors: np.ndarray, class_means: np.ndarray, shares: np.ndarray) -> float:
    """Σ_c π_c μ_cᵀ pinv(C) μ_c with C = V diag(λ) Vᵀ, of features in the coordinates of C.

    eigenvalues (d,), 0 for directions to leave out; vectors (d, d) columns; class_means (k, d); shares (k,)
    """
    kept = eigenvalues > 0
    along = class_means @ vectors[:, kept]
    return float(shares @ (along**2 / eigenvalues[kept]).sum(1))


def log_evidence(
    eigenvalues: np.ndarray, along: np.ndarray, counts: np.ndarray, n: int
) -> tuple[np.ndarray, np.ndarray]:
    """log evidence by row of y = F w + noise for each class's 0-1 targets y, at the best precisions: (k,), NaN where
    F fits y exactly, so that there is no best; and which classes have settled, (k,).

    With prior precision a, noise precision b and t = a/b, in the eigenbasis of FᵀF (λ, and z = Vᵀ Fᵀ y):

        w = z/(t + λ)      γ = Σ λ/(t + λ)      r² = ‖y‖² − Σ z²/λ + Σ (z²/λ)(t/(t + λ))²      b = n/(r² + t ‖w‖²)
        L = ½ (Σ log a − Σ log(a + b λ) + n log b − b r² − a ‖w‖² − n log 2π)

    L may have several maxima over t, one of them at infinity, where w = 0: t is the best of a grid, made precise
    between its neighbours. Where F fits y exactly L has no bound towards t = 0; the maximum that there may be elsewhere
    is the point where t = γ/‖w‖² · r²/(n − γ), looked for from t = 1.

    Parameters
    ----------
    eigenvalues : (d,), those that are not 0; along : (k, d), z of each class; counts : (k,), ‖y‖²; n : rows
    """
    z2 = along**2
    explained = z2 / eigenvalues
    unexplained = np.maximum(counts - explained.sum(1), 0.0)
    bounded = unexplained > EXACT * counts

    def at(t: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return _precision_terms(eigenvalues, z2, explained, unexplained, t)

    def evidence(t: np.ndarray) -> np.ndarray:
        _, square, residual = at(t)
        shrunk = np.log(t[:, None] / (t[:, None] + eigenvalues)).sum(1)  # Σ log a − log(a + b λ)
        return np.asarray(shrunk + n * np.log(n / (2 * math.pi * (residual + t * square))) - n)

    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        least, most = LEAST * eigenvalues.min(), MOST * eigenvalues.max()
        grid = np.geomspace(least, most, 1 + math.ceil(IN_DECADE * math.log10(most / least)))
        best = np.argmax([_at_one(t, eigenvalues, z2, explained, unexplained, n) for t in grid], axis=0)
        t = np.exp(_highest(lambda log_t: evidence(np.exp(log_t)), np.log(grid), best))
        stationary, done = _stationary(at, n, most, ~bounded)
        t = np.where(bounded, t, stationary)
        found, residual = evidence(t), at(t)[2]
    # residuals that are rounding of ‖y‖²: the labels are fitted exactly, and the evidence has no bound
    exact = ~np.isfinite(found) | (residual <= EXACT * counts)
    return np.where(exact, math.nan, found / (2 * n)), done | exact


def _at_one(
    t: float, eigenvalues: np.ndarray, z2: np.ndarray, explained: np.ndarray, unexplained: np.ndarray, n: int
) -> np.ndarray:
    """The evidence of every class at one t, (k,), but for what does not depend on t."""
    below = t + eigenvalues
    left = unexplained + explained @ (t / below) ** 2 + t * (z2 @ below**-2.0)
    return np.asarray(np.log(t / below).sum() - n * np.log(left))


def _highest(value: Callable[[np.ndarray], np.ndarray], grid: np.ndarray, best: np.ndarray) -> np.ndarray:
    """Where each of k functions is highest, by golden sections between the neighbours of the best point of a grid."""
    left, right = grid[np.maximum(best - 1, 0)], grid[np.minimum(best + 1, len(grid) - 1)]
    golden = (math.sqrt(5) - 1) / 2
    for _ in range(SECTIONS):
        one, other = right - golden * (right - left), left + golden * (right - left)
        rises = value(one) < value(other)
        left, right = np.where(rises, one, left), np.where(rises, right, other)
    middle = (left + right) / 2
    return np.asarray(np.where(value(grid[best]) > value(middle), grid[best], middle))


def _stationary(
    at: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]], n: int, most: float, wanted: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """t from 1 on, repeated until it stays, of the classes wanted; and which have settled or are not wanted."""
    t, done = np.full(len(wanted), 1.0), ~wanted
    for _ in range(EVIDENCE_STEPS):
        if done.all():
            break
        gamma, square, residual = at(t)
        after = np.where(done, t, np.minimum(gamma / square * residual / (n - gamma), most))
        done = done | (np.abs(after - t) <= EVIDENCE_TOL * t)
        t = after
    return t, done


def _precision_terms(
    eigenvalues: np.ndarray, z2: np.ndarray, explained: np.ndarray, unexplained: np.ndarray, t: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    below = t[:, None] + eigenvalues
    gamma = (eigenvalues / below).sum(1)
    square = (z2 / below**2).sum(1)
    residual = unexplained + (explained * (t[:, None] / below) ** 2).sum(1)
    return gamma, square, residual
