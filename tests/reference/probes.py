"""Ridge and logistic probes in float64: closed form, and Newton's method to a relative gradient of 1e-10.

    ridge     F(W, b) = (1/2n) ‖Z W + 1bᵀ − Y‖² + (α/2) ‖W‖²
    logistic  F(W, b) = (1/n) Σ −log softmax(zᵢW + b)[yᵢ] + (α/2) ‖W‖²

Z are the scaled features, Y one-hot targets, b is not penalized. A relative penalty is multiplied by the mean
variance of the scaled features that are kept (trace of their covariance / number of features).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.linalg
import scipy.optimize
import scipy.special

Scaling = Literal["none", "standardize", "minmax"]
Kind = Literal["ridge", "logistic"]

#: of the gradient's norm at W = 0, b = 0
GRADIENT_TOLERANCE = 1e-10


@dataclass(frozen=True)
class Scaler:
    """z = (x[:, keep] − offset) · factor, from the probe's own training rows; constant features are dropped."""

    keep: np.ndarray  # (d,) bool
    offset: np.ndarray  # (kept,)
    factor: np.ndarray  # (kept,)

    def apply(self, x: np.ndarray) -> np.ndarray:
        """Scaled features (n, kept), float64."""
        return (np.asarray(x, np.float64)[:, self.keep] - self.offset) * self.factor


def fit_scaler(x: np.ndarray, scaling: Scaling) -> Scaler:
    """Scaling from rows x (n, d); the standard deviation has n in its denominator."""
    x = np.asarray(x, np.float64)
    low, high = x.min(0), x.max(0)
    keep = high > low
    x, low, high = x[:, keep], low[keep], high[keep]
    if scaling == "none":
        return Scaler(keep, np.zeros(len(low)), np.ones(len(low)))
    if scaling == "minmax":
        return Scaler(keep, low, 1 / (high - low))
    if scaling == "standardize":
        mean = x.mean(0)
        return Scaler(keep, mean, 1 / np.sqrt(((x - mean) ** 2).mean(0)))
    raise ValueError(f"scaling must be none, standardize or minmax, not {scaling!r}")


def mean_variance(z: np.ndarray) -> float:
    """Trace of the covariance of z (n, d), n in the denominator, divided by d; 1 where there is no feature."""
    return float(z.var(0).mean()) if z.shape[1] else 1.0


def one_hot(y: np.ndarray, n_classes: int) -> np.ndarray:
    """Targets (n, k), float64."""
    targets = np.zeros((len(y), n_classes))
    targets[np.arange(len(y)), y] = 1
    return targets


def solve_ridge(z: np.ndarray, y: np.ndarray, n_classes: int, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """Minimizer of the ridge objective: weights (d, k) and intercept (k,).

    z : (n, d) float64; y : (n,) class numbers; alpha : penalty in the coordinates of z.
    """
    targets = one_hot(y, n_classes)
    z_mean, t_mean = z.mean(0), targets.mean(0)
    centred = z - z_mean
    gram = centred.T @ centred / len(z) + alpha * np.eye(z.shape[1])
    weights = scipy.linalg.solve(gram, centred.T @ (targets - t_mean) / len(z), assume_a="pos")
    return weights, t_mean - z_mean @ weights


def logistic_objective(z: np.ndarray, y: np.ndarray, weights: np.ndarray, intercept: np.ndarray, alpha: float) -> float:
    """F(W, b) of the logistic probe."""
    scores = z @ weights + intercept
    loss = scipy.special.logsumexp(scores, axis=1) - scores[np.arange(len(y)), y]
    return float(loss.mean() + alpha / 2 * (weights**2).sum())


def solve_logistic(
    z: np.ndarray, y: np.ndarray, n_classes: int, alpha: float, start: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Minimizer of the logistic objective: weights (d, k) and intercept (k,).

    A class without a training row has weights 0 and intercept −∞, the limit of the minimizers. L-BFGS first,
    then Newton steps with the full Hessian until ‖∇F‖ is 1e-10 of its value at zero or no step lowers F, which
    must be at a gradient below 1e-7 of that value.

    start : optional (d + 1, present classes) where to begin; it changes the path, not the answer.
    """
    present = np.unique(y)
    index = np.searchsorted(present, y)
    n, k = len(z), len(present)
    design = np.hstack([z, np.ones((n, 1))])  # (n, d + 1), the last column is the intercept
    size = design.shape[1]
    targets = one_hot(index, k)
    penalty = np.full((size, 1), alpha)
    penalty[-1] = 0

    def value_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
        theta = flat.reshape(size, k)
        scores = design @ theta
        total = scipy.special.logsumexp(scores, axis=1)
        value = (total - scores[np.arange(n), index]).mean() + (penalty * theta**2).sum() / 2
        residual = np.exp(scores - total[:, None]) - targets
        return float(value), (design.T @ residual / n + penalty * theta).ravel()

    def hessian(flat: np.ndarray) -> np.ndarray:
        p = scipy.special.softmax(design @ flat.reshape(size, k), axis=1)
        h = np.zeros((size, k, size, k))
        for a in range(k):
            for b in range(a, k):
                weight = p[:, a] * (float(a == b) - p[:, b])
                h[:, a, :, b] = design.T @ (weight[:, None] * design) / n
                h[:, b, :, a] = h[:, a, :, b]
        for a in range(k):
            h[np.arange(size), a, np.arange(size), a] += penalty[:, 0]
        # a shift common to all intercepts changes nothing: pin it, so that the Hessian is invertible
        h[-1, :, -1, :] += 1 / k
        return h.reshape(size * k, size * k)

    zero = np.zeros(size * k)
    scale = float(np.linalg.norm(value_and_gradient(zero)[1])) or 1.0
    theta = zero if start is None else start.ravel()
    theta = scipy.optimize.minimize(
        value_and_gradient, theta, jac=True, method="L-BFGS-B", options={"maxiter": 200, "gtol": 1e-8, "ftol": 1e-14}
    ).x
    value, gradient = value_and_gradient(theta)
    for _ in range(200):
        if np.linalg.norm(gradient) <= GRADIENT_TOLERANCE * scale:
            break
        step = -newton_direction(hessian(theta), gradient)
        length = 1.0
        while length > 1e-12:
            new_value, new_gradient = value_and_gradient(theta + length * step)
            # near the optimum F no longer tells steps apart in float64; the gradient still does
            flat = abs(new_value - value) <= 1e-13 * max(abs(value), 1e-300)
            if new_value < value or (flat and np.linalg.norm(new_gradient) < np.linalg.norm(gradient)):
                break
            length /= 2
        else:
            break
        theta, value, gradient = theta + length * step, new_value, new_gradient
    reached = float(np.linalg.norm(gradient)) / scale
    if reached > 1e-7:
        raise ArithmeticError(f"Newton's method stopped at a relative gradient of {reached:.1e}")
    theta = theta.reshape(size, k)
    weights, intercept = np.zeros((z.shape[1], n_classes)), np.full(n_classes, -np.inf)
    weights[:, present] = theta[:-1]
    intercept[present] = theta[-1] - theta[-1].mean()
    return weights, intercept


def newton_direction(hessian: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """H⁻¹ g, with just enough added to the diagonal where H is not positive definite in float64."""
    damping = 0.0
    while True:
        try:
            factor = scipy.linalg.cho_factor(hessian + damping * np.eye(len(hessian)))
            return scipy.linalg.cho_solve(factor, gradient)
        except scipy.linalg.LinAlgError:
            damping = max(10 * damping, 1e-16 * float(np.trace(hessian)))


@dataclass(frozen=True)
class Probe:
    """A fitted probe on unscaled features."""

    kind: Kind
    scaler: Scaler
    alpha: float  # absolute, in scaled coordinates
    weights: np.ndarray  # (kept, k), scaled coordinates
    intercept: np.ndarray  # (k,)

    def scores(self, x: np.ndarray) -> np.ndarray:
        """Scores (n, k) of rows x (n, d)."""
        return self.scaler.apply(x) @ self.weights + self.intercept

    def errors(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """0-1 errors (n,), float64; equal scores go to the lower class number."""
        return (self.scores(x).argmax(1) != y).astype(np.float64)

    def margins(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Score of the true class less the best other score, (n,)."""
        scores = self.scores(x)
        rows = np.arange(len(y))
        own = scores[rows, y]
        scores[rows, y] = -np.inf
        return own - scores.max(1)


def fit(
    x: np.ndarray,
    y: np.ndarray,
    n_classes: int,
    alpha: float,
    *,
    probe: Kind = "ridge",
    scaling: Scaling = "standardize",
    relative: bool = True,
) -> Probe:
    """Fit one probe.

    Parameters
    ----------
    x : (n, d) real; y : (n,) integers in 0 … n_classes − 1.
    alpha : penalty; multiplied by the mean variance of the scaled features of x where `relative` (this is
        1 for standardized features).
    """
    scaler = fit_scaler(x, scaling)
    z = scaler.apply(x)
    absolute = alpha * mean_variance(z) if relative else alpha
    solve = {"ridge": solve_ridge, "logistic": solve_logistic}[probe]
    weights, intercept = solve(z, np.asarray(y), n_classes, absolute)
    return Probe(probe, scaler, absolute, weights, intercept)
