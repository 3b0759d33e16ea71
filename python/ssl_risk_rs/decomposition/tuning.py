"""Which penalty errs least on held-out folds."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from ssl_risk_rs import _core
from ssl_risk_rs.decomposition.fitting import Fitter, Start
from ssl_risk_rs.results.record import Penalty

__all__ = ["FoldPath", "PenaltyPath", "as_penalty", "best_of", "tune"]

#: penalties tried first, strong to weak, in units of the mean variance; extended while the strong end wins
ALPHAS = (1e-2, 1e-3, 1e-4, 1e-5)
#: where the extended grid ends: stronger leaves only the intercept
STRONGEST = 1e3
#: ridge tunes on at most this many held-out rows of a fold: judging costs n·d·k for each penalty
MAX_TUNING_ROWS = 20_000


class PenaltyPath(Protocol):
    """Probes along the penalties, each started from the last."""

    def errors(self, alpha: float) -> int:
        """Errors on held-out rows at a penalty."""

    def restart(self, alpha: float) -> None:
        """The next penalty starts from this one."""


class FoldPath:
    """Probes on all folds but one, along the penalties, each started from the last."""

    def __init__(
        self,
        fitter: Fitter,
        moments: "_core.Moments",
        train: np.ndarray,
        cells: np.ndarray,
        fold: int,
        n_folds: int,
    ) -> None:
        self.fitter = fitter
        self.role = f"fold_{fold}"
        own = cells[train]
        self.rows = train[(own < n_folds) & (own != fold)]
        self.held = train[own == fold]
        if fitter.method.probe == "ridge":  # strided: rows may be sorted by class
            self.held = np.ascontiguousarray(self.held[:: max(1, -(-len(self.held) // MAX_TUNING_ROWS))])
        self.design = moments.design([f for f in range(n_folds) if f != fold], scaling=fitter.method.scaling)
        self.probes: dict[float, _core.LinearProbe] = {}
        self.last: Start | None = None

    def errors(self, alpha: float) -> int:
        """Errors on the held-out fold at a penalty."""
        fitted = self.fitter.fit(self.role, self.design, self.rows, alpha, self.last, judged=False)
        self.probes[alpha], self.last = fitted.probe, fitted.start
        return self.fitter.errors(fitted.probe, self.held)

    def restart(self, alpha: float) -> None:
        """The next penalty starts from this one."""
        self.last = self.probes[alpha]


def tune(
    paths: Sequence[PenaltyPath], alphas: Sequence[float] = ALPHAS, strongest: float = STRONGEST
) -> dict[float, int]:
    """Held-out errors by penalty: decades from strong to weak until weaker ones are clearly worse, then stronger
    ones as long as the strongest is the best, up to `strongest`."""
    curve: dict[float, int] = {}
    for alpha in alphas:
        curve[alpha] = sum(path.errors(alpha) for path in paths)
        if _past_the_valley(list(curve.values())):
            break
    for path in paths:
        path.restart(max(curve))
    while best_of(curve) == max(curve) < strongest:
        stronger = max(curve) * 10
        curve[stronger] = sum(path.errors(stronger) for path in paths)
    return curve


def as_penalty(curve: dict[float, int], absolute: float) -> Penalty:
    """The record of a tuned penalty."""
    grid, best = sorted(curve), best_of(curve)
    return Penalty(best, absolute, tuple(grid), tuple(curve[a] for a in grid), grid[0] < best < grid[-1])


def best_of(curve: dict[float, int]) -> float:
    """Penalty with the fewest errors, ties to the stronger."""
    return min(curve, key=lambda alpha: (curve[alpha], -alpha))


def _past_the_valley(errors: list[int]) -> bool:
    """Whether still weaker penalties can be left out, which cost most passes: `errors`, strong to weak, rose
    twice in a row, or by more than three standard errors of two independent counts."""
    twice = len(errors) > 2 and errors[-1] > errors[-2] > errors[-3]
    return twice or (len(errors) > 1 and errors[-1] - errors[-2] > 3 * (errors[-1] + errors[-2]) ** 0.5)
