"""The right answer, in float64 numpy: optima, objectives and errors that every row of a table is held against.

Nothing here calls the package. Optima are kept in bench/data/reference/, by problem and a hash of its rows.
Where an optimum would take too long (`logistic_is_feasible`), the best certified value stands in for it.
"""

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from contract import blocks
from problems import DATA, Loaded

#: products n·d·k up to which a search from zero is quick; above, it begins at weights that are given
QUICK_PRODUCTS = 1e8
#: products n·d·k up to which a Newton optimum is computed: minutes on two cores
NEWTON_PRODUCTS = 2e10
#: and values n·d, which are held in float64
NEWTON_VALUES = 1.3e8
#: from here on scores are float32 products (softmax and sums stay float64): good to 1e-6 relative
FLOAT64_PRODUCTS = 5e11
NEWTON_SECONDS = 120.0
#: of an optimum; a search that time ended has more, and is not kept
GOOD_DECREMENT = 1e-7


@dataclass(frozen=True, slots=True)
class Moments:
    """Centred statistics: mean (d,), covariance (d, d), cross = XᵀY/n (d, k) of centred X, shares (k,)."""

    n: int
    mean: np.ndarray
    covariance: np.ndarray
    cross: np.ndarray
    shares: np.ndarray

    @property
    def mean_variance(self) -> float:
        """trace / d."""
        return float(np.trace(self.covariance) / len(self.mean))

    def scale(self, standardize: bool) -> np.ndarray:
        """(d,) factors of the features: 1, or 1/sd with 0 for dead ones."""
        variance = np.diag(self.covariance)
        if not standardize:
            return np.ones(len(variance))
        alive = variance > 1e-9 * variance.max()
        return np.where(alive, 1 / np.sqrt(np.where(alive, variance, 1)), 0)


@dataclass(frozen=True, slots=True)
class Optimum:
    """Probe on raw features, its objective, and half of the squared Newton decrement relative to it."""

    coef: np.ndarray
    intercept: np.ndarray
    objective: float
    decrement: float


def moments(loaded: Loaded) -> Moments:
    """Statistics of the training rows."""
    path = _cache(loaded, "moments")
    if not path.exists():
        found = moments_of(loaded.x, loaded.y, loaded.k)
        _keep(path, **{k: getattr(found, k) for k in Moments.__slots__})
    with np.load(path) as file:
        return Moments(int(file["n"]), *(file[k] for k in Moments.__slots__[1:]))


def moments_of(x: np.ndarray, y: np.ndarray, k: int) -> Moments:
    """Statistics of rows."""
    n, d = x.shape
    gram, sums, cross = np.zeros((d, d)), np.zeros(d), np.zeros((d, k))
    for rows in blocks(x):
        block = x[rows].astype(np.float64)
        gram += block.T @ block
        sums += block.sum(0)
        cross += block.T @ np.eye(k)[y[rows]]
    mean, shares = sums / n, np.bincount(y, minlength=k) / n
    return Moments(n, mean, gram / n - np.outer(mean, mean), cross / n - np.outer(mean, shares), shares)


class Ridge:
    """Ridge optima for any penalty from one eigendecomposition."""

    def __init__(self, statistics: Moments, *, standardize: bool = False) -> None:
        self.statistics = statistics
        self.scale = statistics.scale(standardize)
        values, self.vectors = np.linalg.eigh(statistics.covariance * self.scale[:, None] * self.scale)
        self.values = np.maximum(values, 0)
        self.rotated = self.vectors.T @ (statistics.cross * self.scale[:, None])

    def optimum(self, alpha: float) -> Optimum:
        """Probe at a penalty."""
        w = self.vectors @ (self.rotated / (self.values + alpha)[:, None])
        coef = (w * self.scale[:, None]).T
        objective = ridge_objective(self.statistics, coef, alpha, self.scale)
        return Optimum(coef, self.statistics.shares - coef @ self.statistics.mean, objective, 0.0)


def ridge_objective(
    statistics: Moments,
    coef: np.ndarray,
    alpha: float,
    scale: np.ndarray | None = None,
    intercept: np.ndarray | None = None,
) -> float:
    """(1/2n) ‖XW + b − Y‖² + (α/2) ‖W/scale‖²; without `intercept`, at its optimum."""
    s, w = statistics, coef.T.astype(np.float64)
    variance = (s.shares * (1 - s.shares)).sum()
    loss = 0.5 * (variance - 2 * (w * s.cross).sum() + (w * (s.covariance @ w)).sum())
    if intercept is not None:
        loss += 0.5 * ((intercept + s.mean @ w - s.shares) ** 2).sum()
    unscaled = w if scale is None else w / np.where(scale > 0, scale, 1)[:, None]
    return float(loss + 0.5 * alpha * (unscaled**2).sum())


def logistic_objective(loaded: Loaded, coef: np.ndarray, intercept: np.ndarray, alpha: float) -> float:
    """Mean cross-entropy + (α/2) ‖W‖² on the training rows."""
    total = 0.0
    for rows, scores in _scores(loaded.x, coef, intercept):
        total += _losses(scores, loaded.y[rows]).sum()
    return float(total / len(loaded.x) + 0.5 * alpha * (coef.astype(np.float64) ** 2).sum())


def error(x: np.ndarray, y: np.ndarray, coef: np.ndarray, intercept: np.ndarray) -> float:
    """Share of rows whose largest score is not their class's; float32 scores."""
    wrong = 0
    for rows in blocks(x):
        scores = x[rows].astype(np.float32) @ coef.T.astype(np.float32) + intercept.astype(np.float32)
        wrong += int((scores.argmax(1) != y[rows]).sum())
    return wrong / len(x)


def _scores(x: np.ndarray, coef: np.ndarray, intercept: np.ndarray):
    kind = np.float64 if len(x) * coef.size < FLOAT64_PRODUCTS else np.float32
    w = np.ascontiguousarray(coef.T, kind)
    for rows in blocks(x):
        yield rows, (x[rows].astype(kind) @ w).astype(np.float64) + intercept


def _losses(scores: np.ndarray, y: np.ndarray) -> np.ndarray:
    top = scores.max(1, keepdims=True)
    return (top + np.log(np.exp(scores - top).sum(1, keepdims=True)))[:, 0] - scores[np.arange(len(y)), y]


def pass_at(loaded: Loaded, weights: np.ndarray, intercept: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean cross-entropy and its gradient (d, k) at weights (d, k)."""
    total, gradient = 0.0, np.zeros(weights.shape)
    for rows, scores in _scores(loaded.x, weights.T, intercept):
        total += _losses(scores, loaded.y[rows]).sum()
        scores -= scores.max(1, keepdims=True)
        p = np.exp(scores, out=scores)
        p /= p.sum(1, keepdims=True)
        p[np.arange(len(p)), loaded.y[rows]] -= 1
        kind = np.float64 if loaded.x.size * loaded.k < FLOAT64_PRODUCTS else np.float32
        gradient += loaded.x[rows].astype(kind).T @ p.astype(kind)
    return float(total / len(loaded.x)), gradient / len(loaded.x)


def logistic_is_feasible(loaded: Loaded) -> bool:
    """Whether `logistic` ends in minutes."""
    values = len(loaded.x) * loaded.d
    return values <= NEWTON_VALUES and values * loaded.k <= NEWTON_PRODUCTS


def logistic(
    loaded: Loaded,
    alpha: float,
    *,
    standardize: bool = False,
    start: tuple[np.ndarray, np.ndarray] | None = None,
) -> Optimum:
    """Multinomial logistic optimum: Newton steps by conjugate gradients.

    Preconditioner: for each class mean p(1−p) · covariance + α. It ends at a Newton decrement of 1e-9 of the
    objective, or after `NEWTON_SECONDS`; the decrement reached is in the result, and above `GOOD_DECREMENT` the
    result is no optimum.

    Parameters
    ----------
    start : coef (k, d) and intercept (k,) on raw features, default zero
        Saves time and nothing else: the problem is convex, and the verdict is the decrement.
    """
    path = _cache(loaded, f"logistic-{alpha:g}{'-standardized' if standardize else ''}")
    if not path.exists():
        found = _newton(loaded, moments(loaded), alpha, standardize, start)
        if found.decrement > GOOD_DECREMENT:
            return found
        _keep(path, **{k: getattr(found, k) for k in Optimum.__slots__})
    with np.load(path) as file:
        return Optimum(file["coef"], file["intercept"], float(file["objective"]), float(file["decrement"]))


def _newton(
    loaded: Loaded,
    statistics: Moments,
    alpha: float,
    standardize: bool,
    start: tuple[np.ndarray, np.ndarray] | None = None,
) -> Optimum:
    """W (d + 1, k) in centred, scaled coordinates; its last row is the intercept, without a penalty."""
    scale, n = statistics.scale(standardize), len(loaded.x)
    x = np.ones((n, loaded.d + 1))
    for rows in blocks(loaded.x):
        x[rows, :-1] = (loaded.x[rows] - statistics.mean) * scale
    values, vectors = np.linalg.eigh(statistics.covariance * scale[:, None] * scale)
    values = np.maximum(values, 0)
    penalty = np.full((loaded.d + 1, 1), alpha)
    penalty[-1] = 0

    def evaluate(w: np.ndarray) -> tuple[float, np.ndarray]:
        scores = x @ w
        value = _losses(scores, loaded.y).mean() + 0.5 * (penalty * w**2).sum()
        scores -= scores.max(1, keepdims=True)
        p = np.exp(scores, out=scores)
        p /= p.sum(1, keepdims=True)
        return float(value), p

    def curvature(p: np.ndarray, v: np.ndarray) -> np.ndarray:
        u = x @ v
        u -= (p * u).sum(1, keepdims=True)
        u *= p
        return x.T @ u / n + penalty * v

    w = np.zeros((loaded.d + 1, loaded.k))
    w[-1] = np.log(np.maximum(statistics.shares, 1e-300))
    if start is not None:
        w[:-1] = start[0].T / np.where(scale > 0, scale, 1)[:, None]
        w[-1] = start[1] + start[0] @ statistics.mean
    value, p = evaluate(w)
    began, decrement = time.perf_counter(), float("inf")
    while time.perf_counter() - began < NEWTON_SECONDS:
        residual = p.copy()
        residual[np.arange(n), loaded.y] -= 1
        gradient = x.T @ residual / n + penalty * w
        spread = (p * (1 - p)).mean(0)

        def precondition(r: np.ndarray, spread: np.ndarray = spread) -> np.ndarray:
            inner = vectors @ ((vectors.T @ r[:-1]) / (values[:, None] * spread + alpha))
            return np.vstack([inner, r[-1:] / np.maximum(spread, 1e-300)])

        # conjugate gradients, tighter as the decrement falls
        step, r = np.zeros_like(w), -gradient
        z = precondition(r)
        direction, rz = z, float((r * z).sum())
        first = rz
        tight = min(0.1, max(1e-3, first**0.5))
        for _ in range(300):
            curved = curvature(p, direction)
            t = rz / float((direction * curved).sum())
            step += t * direction
            r -= t * curved
            z = precondition(r)
            rz, last = float((r * z).sum()), rz
            if rz <= tight**2 * first or time.perf_counter() - began > NEWTON_SECONDS:
                break
            direction = z + rz / last * direction
        slope = float((gradient * step).sum())
        decrement = -slope / 2 / value if rz <= max(tight, 0.1) ** 2 * first else float("inf")  # else cut off
        if decrement < 1e-9:
            break
        length = 1.0
        while length > 1e-6:
            trial, trial_p = evaluate(w + length * step)
            if trial <= value + 1e-4 * length * slope:
                w, value, p = w + length * step, trial, trial_p
                break
            length /= 2
        else:
            break  # rounding: no decrease to be had
    coef = (w[:-1] * scale[:, None]).T
    return Optimum(coef, w[-1] - coef @ statistics.mean, value, decrement)


def _cache(loaded: Loaded, what: str) -> Path:
    digest = hashlib.sha256(loaded.y.tobytes())
    digest.update(np.ascontiguousarray(loaded.x[:: max(1, len(loaded.x) // 64)]).tobytes())
    return DATA / "reference" / f"{loaded.problem.name}-{digest.hexdigest()[:12]}-{what}.npz"


def _keep(path: Path, **arrays: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".new.npz")
    np.savez(scratch, **arrays)  # type: ignore[arg-type]
    scratch.replace(path)
