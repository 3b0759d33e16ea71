"""Which penalty errs least on held-out folds.

A penalty that is clearly worse than the best is not fitted on the remaining folds: it leaves when, on the rows that
both were judged on, it errs more by more than three standard errors of the difference,

    b − c > 3 √(b + c)        b rows that it alone predicts wrongly, c rows that the best alone predicts wrongly

as in the race of ridge penalties. Where rows come in groups, b + c is Σ (b_g − c_g)² over the groups. Errors of those
that stay are counted on all folds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ssl_risk_rs import _core
from ssl_risk_rs.decomposition.fitting import Fitter, Start
from ssl_risk_rs.results.record import Penalty

__all__ = ["FoldPath", "PenaltyPath", "Tried", "as_penalty", "best_of", "tune"]

#: penalties tried first, strong to weak, in units of the mean variance; extended while the strong end wins
ALPHAS = (1e-2, 1e-3, 1e-4, 1e-5)
#: where the extended grid ends: stronger leaves only the intercept
STRONGEST = 1e3
#: ridge tunes on at most this many held-out rows of a fold: judging costs n·d·k for each penalty
MAX_TUNING_ROWS = 20_000
#: rows, and groups of rows, before a penalty may leave; standard errors of a difference that are taken for clear
FIRST_LOOK, FEWEST_GROUPS, CLEAR = 500, 20, 3.0


@dataclass(frozen=True, slots=True)
class Tried:
    """What a penalty cost: held-out rows predicted wrongly, of so many that it was judged on."""

    errors: int
    rows: int


class PenaltyPath(Protocol):
    """Probes along the penalties, each started from the last.

    groups : group of each held-out row, int (m,); None where rows are independent
    """

    groups: np.ndarray | None

    def wrong(self, alpha: float) -> np.ndarray:
        """Whether each held-out row is predicted wrongly at a penalty, bool (m,)."""

    def restart(self, alpha: float) -> None:
        """The next penalty starts from this one."""


class FoldPath:
    """Probes on all folds but one, along the penalties, each started from the last.

    hands_on : whether fits on these rows and others start from this path: it keeps the steps that its best fit
        remembers, gigabytes if all paths did
    """

    def __init__(
        self,
        fitter: Fitter,
        moments: "_core.Moments",
        train: np.ndarray,
        cells: np.ndarray,
        fold: int,
        n_folds: int,
        groups: np.ndarray | None = None,
        *,
        hands_on: bool = False,
    ) -> None:
        self.fitter = fitter
        self.hands_on = hands_on
        self.role = f"fold_{fold}"
        own = cells[train]
        self.rows = train[(own < n_folds) & (own != fold)]
        self.held = train[own == fold]
        if fitter.method.probe == "ridge":  # strided: rows may be sorted by class
            self.held = np.ascontiguousarray(self.held[:: max(1, -(-len(self.held) // MAX_TUNING_ROWS))])
        self.groups = None if groups is None else groups[self.held]
        self.design = moments.design(
            [f for f in range(n_folds) if f != fold], scaling=fitter.method.scaling, n_threads=fitter.method.n_threads
        )
        self.probes: dict[float, _core.LinearProbe] = {}
        self.last: Start | None = None
        self._fewest: tuple[int, float, Start] | None = None

    def wrong(self, alpha: float) -> np.ndarray:
        """Whether each row of the held-out fold is predicted wrongly at a penalty."""
        if self.fitter.method.probe == "ridge":  # solved in closed form: nothing starts from it
            wrong, probe = self.fitter.try_ridge(self.role, self.design, self.rows, alpha, self.held)
            if probe is not None:
                self.probes[alpha] = probe
            return wrong
        fitted = self.fitter.fit(self.role, self.design, self.rows, alpha, self.last, judged=False)
        self.probes[alpha], self.last = fitted.probe, fitted.start
        wrong = self.fitter.outcome(fitted.probe, self.held).wrong
        if self.hands_on and (self._fewest is None or wrong.sum() < self._fewest[0]):
            self._fewest = int(wrong.sum()), alpha, fitted.start
        return wrong

    def restart(self, alpha: float) -> None:
        """The next penalty starts from this one."""
        self.last = self.start(alpha) if alpha in self.probes else None

    def start(self, alpha: float) -> Start:
        """What further fits start from at a penalty that was tried: the fit with the steps that it remembers, if they
        were kept, else its probe."""
        if self._fewest is not None and self._fewest[1] == alpha:
            return self._fewest[2]
        return self.probe(alpha)

    def probe(self, alpha: float) -> "_core.LinearProbe":
        """The probe of a penalty that was tried."""
        if alpha not in self.probes:  # on a device, where only its errors were asked for
            self.probes[alpha] = self.fitter.ridge_probe(self.design, alpha)
        return self.probes[alpha]


def tune(
    paths: Sequence[PenaltyPath], alphas: Sequence[float] = ALPHAS, strongest: float = STRONGEST
) -> dict[float, Tried]:
    """Held-out errors by penalty: decades from strong to weak until weaker ones are clearly worse, then stronger
    ones as long as the strongest is the best, up to `strongest`."""
    race = _Race(paths)
    for alpha in alphas:
        stays = race.judge(alpha)
        if not stays or _rose_twice([tried.errors for tried in race.curve().values()]):
            break
    for path in paths:
        path.restart(max(race.judged))
    while best_of(race.curve()) == max(race.judged) < strongest:
        race.judge(max(race.judged) * 10)
    return race.curve()


class _Race:
    """Penalties judged fold by fold, for as long as they are not clearly worse than the best that stayed."""

    def __init__(self, paths: Sequence[PenaltyPath]) -> None:
        self.paths = paths
        self.judged: dict[float, np.ndarray] = {}

    def judge(self, alpha: float) -> bool:
        """Fit and judge a penalty; whether it stayed until the last fold."""
        finished = self.curve()
        best = self.judged[best_of(finished)] if finished else None
        wrong = np.zeros(0, bool)
        stays = True
        for path in self.paths:
            wrong = np.concatenate([wrong, path.wrong(alpha)])
            stays = best is None or not _is_clearly_worse(wrong, best[: len(wrong)], self._groups(len(wrong)))
            if not stays:
                break
        self.judged[alpha] = wrong
        return stays

    def _groups(self, n: int) -> np.ndarray | None:
        """Groups of the first `n` held-out rows."""
        found = [path.groups for path in self.paths if path.groups is not None]
        return np.concatenate(found)[:n] if found else None

    def curve(self) -> dict[float, Tried]:
        """What each penalty cost so far."""
        return {alpha: Tried(int(wrong.sum()), len(wrong)) for alpha, wrong in self.judged.items()}


def _is_clearly_worse(wrong: np.ndarray, best: np.ndarray, groups: np.ndarray | None) -> bool:
    more = wrong.astype(np.int64) - best
    if groups is not None:
        more = np.bincount(np.unique(groups, return_inverse=True)[1].ravel(), more)
    if len(wrong) < FIRST_LOOK or len(more) < FEWEST_GROUPS:
        return False
    return bool(more.sum() > CLEAR * np.sqrt((more**2).sum()))


def as_penalty(curve: Mapping[float, Tried], absolute: float) -> Penalty:
    """The record of a tuned penalty."""
    grid, best = sorted(curve), best_of(curve)
    errors, rows = (tuple(getattr(curve[alpha], name) for alpha in grid) for name in ("errors", "rows"))
    return Penalty(best, absolute, tuple(grid), errors, grid[0] < best < grid[-1], rows=rows)


def best_of(curve: Mapping[float, Tried]) -> float:
    """Penalty with the fewest errors of those that were judged on all rows, ties to the stronger."""
    all_rows = max(tried.rows for tried in curve.values())
    stayed = [alpha for alpha, tried in curve.items() if tried.rows == all_rows]
    return min(stayed, key=lambda alpha: (curve[alpha].errors, -alpha))


def _rose_twice(errors: list[int]) -> bool:
    """Whether still weaker penalties can be left out, which cost most passes: `errors`, strong to weak, rose twice."""
    return len(errors) > 2 and errors[-1] > errors[-2] > errors[-3]
