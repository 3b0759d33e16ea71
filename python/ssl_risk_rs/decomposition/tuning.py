"""Which penalty errs least on held-out folds.

A penalty that is clearly worse than the best is not fitted on the remaining folds: it leaves when, on the rows that
both were judged on, it errs more by more than three standard errors of the difference,

    b − c > 3 √(b + c)        b rows that it alone predicts wrongly, c rows that the best alone predicts wrongly

as in the race of ridge penalties. Where rows come in groups, b + c is Σ (b_g − c_g)² over the groups. Errors of those
that stay are counted on all folds. Where classes weigh alike, each row counts by what its class has of rows.

Where one fold alone is judged, a penalty may leave before its fit has ended: once that seems to be within a hundredth
of its minimum, if the difference is clearly more than half a point, which the error may yet move by (measured: 0.4).
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np

from ssl_risk_rs import _core
from ssl_risk_rs.decomposition.chances import chances
from ssl_risk_rs.decomposition.fitting import Fitter, Start
from ssl_risk_rs.probes.span_solver import AnyMoments
from ssl_risk_rs.results.record import Penalty, TuneOn

__all__ = [
    "ALPHAS",
    "FROM_THE_MIDDLE",
    "STRONGEST",
    "FoldPath",
    "Race",
    "Tried",
    "as_penalty",
    "best_of",
    "race",
]

#: penalties tried first, strong to weak, in units of the mean variance; weaker ones are left out where the weakest so
#: far is out, stronger ones added until the strongest is
ALPHAS = (1e-2, 1e-3, 1e-4, 1e-5)
#: the same for one fold: both neighbours of the first may leave early
FROM_THE_MIDDLE = (1e-3, 1e-2, 1e-4, 1e-5)
#: where the extended grid ends: stronger leaves only the intercept
STRONGEST = 1e3
#: ridge tunes on at most this many held-out rows of a fold: judging costs n·d·k for each penalty
MAX_TUNING_ROWS = 20_000
#: rows, and groups of rows, before a penalty may leave; standard errors of a difference that are taken for clear
FIRST_LOOK, FEWEST_GROUPS, CLEAR = 500, 20, 3.0
#: how far the held-out error may fall in the rest of a fit that was looked at
UNFINISHED = 0.005


@dataclass(frozen=True, slots=True)
class Tried:
    """What a penalty cost: held-out rows predicted wrongly, of so many that it was judged on; the error by which it is
    compared, None for their share."""

    errors: int
    rows: int
    weighed: float | None = None

    @property
    def cost(self) -> float:
        """The error by which it is compared."""
        return self.errors / self.rows if self.weighed is None else self.weighed


#: whether a penalty is out by the held-out rows that an unfinished fit predicts wrongly, bool (m,)
Leaves: TypeAlias = Callable[[np.ndarray], bool]


class FoldPath:
    """Probes on all folds but one, along the penalties, each started from the nearest before it.

    groups : group of each held-out row, int (m,); None where rows are independent
    labels : their classes, uint32 (m,)
    hands_on : whether fits on these rows and others start from this path: it keeps the steps that its best fit
        remembers, gigabytes if all paths did
    """

    def __init__(
        self,
        fitter: Fitter,
        moments: AnyMoments,
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
        self.labels = fitter.labels[self.held]
        self.design = fitter.design(moments, [f for f in range(n_folds) if f != fold])
        self.probes: dict[float, _core.LinearProbe] = {}
        # fits with the steps that they remember: at the weakest penalty so far, and where fewest rows are wrong
        self._weakest: tuple[float, Start] | None = None
        self._fewest: tuple[int, float, Start] | None = None

    def wrong(self, alpha: float, leaves: Leaves | None = None) -> np.ndarray:
        """Whether each held-out row is predicted wrongly at a penalty, bool (m,); where `leaves` says of an unfinished
        fit that it is out, by that one."""
        if self.fitter.method.probe == "ridge":  # solved in closed form: nothing starts from it
            wrong, probe = self.fitter.try_ridge(self.role, self.design, self.rows, alpha, self.held)
            if probe is not None:
                self.probes[alpha] = probe
            return wrong
        looked: list[tuple[_core.LinearProbe, np.ndarray]] = []

        def look(probe: "_core.LinearProbe") -> bool:
            looked.append((probe, self._judged(probe)))
            return leaves is not None and leaves(looked[0][1])

        fitted = self.fitter.fit(
            self.role,
            self.design,
            self.rows,
            alpha,
            self.start(nearest(alpha, self.probes)) if self.probes else None,
            judged=False,
            leaves=None if leaves is None else look,
        )
        self.probes[alpha] = fitted.probe
        if self._weakest is None or alpha < self._weakest[0]:
            self._weakest = alpha, fitted.start
        is_judged = bool(looked) and looked[0][0] is fitted.probe  # it left
        wrong = looked[0][1] if is_judged else self._judged(fitted.probe)
        errors = int(wrong.sum())
        if self.hands_on and (self._fewest is None or (errors, -alpha) < (self._fewest[0], -self._fewest[1])):
            self._fewest = errors, alpha, fitted.start
        return wrong

    def _judged(self, probe: "_core.LinearProbe") -> np.ndarray:
        return self.fitter.outcome(probe, self.held).wrong

    def start(self, alpha: float) -> Start:
        """What further fits start from at a penalty that was tried: the fit with the steps that it remembers, if they
        were kept, else its probe."""
        if self._fewest is not None and self._fewest[1] == alpha:
            return self._fewest[2]
        if self._weakest is not None and self._weakest[0] == alpha:
            return self._weakest[1]
        return self.probe(alpha)

    def probe(self, alpha: float) -> "_core.LinearProbe":
        """The probe of a penalty that was tried."""
        if alpha not in self.probes:  # on a device, where only its errors were asked for
            self.probes[alpha] = self.fitter.ridge_probe(self.design, alpha)
        return self.probes[alpha]


def nearest(alpha: float, tried: Iterable[float]) -> float:
    """The penalty that was tried whose ratio to this one is nearest to 1."""
    return min(tried, key=lambda other: abs(math.log(other / alpha)))


def race(
    paths: Sequence[FoldPath],
    alphas: Sequence[float] = ALPHAS,
    strongest: float = STRONGEST,
    *,
    early: bool = False,
    on: TuneOn = "error",
) -> "Race":
    """Judge penalties on held-out rows: `alphas` in turn, but for those weaker than one that is out, then stronger ones
    until one is out, up to `strongest`: probes that next to interpolate err alike over many penalties, and the best one
    may lie beyond them.

    early : `alphas` but the first may leave before their fits have ended; for fits on one fold, of 1e-2 and weaker:
        those of stronger ones take few passes, and their errors move far in the last
    on : "error", or "balanced": the mean over classes
    """
    found = Race(paths, on)
    for alpha in alphas:
        if not found.leaves_out(alpha):
            found.judge(alpha, early=early)
    while max(found.judged) < strongest and not found.is_out(max(found.judged)):
        found.judge(max(found.judged) * 10)
    return found


class Race:
    """Penalties judged fold by fold, for as long as they are not clearly worse than the best that stayed."""

    def __init__(self, paths: Sequence[FoldPath], on: TuneOn) -> None:
        self.paths = paths
        self.judged: dict[float, np.ndarray] = {}
        self.weights: np.ndarray | None = None  # of all held-out rows, 1 on average
        if on == "balanced":
            labels = np.concatenate([path.labels for path in paths])
            counts = np.bincount(labels)
            self.weights = len(labels) / (np.count_nonzero(counts) * counts[labels])

    def judge(self, alpha: float, *, early: bool = False) -> None:
        """Fit and judge a penalty.

        early : whether it may leave before a fit has ended
        """
        finished = self.curve()
        best = self.judged[best_of(finished)] if finished else None
        wrong = np.zeros(0, bool)
        for path in self.paths:
            look = None
            if early and best is not None:
                look = partial(self._is_out, best=best, by=UNFINISHED)
            wrong = np.concatenate([wrong, path.wrong(alpha, look)])
            if best is not None and self._is_out(wrong, best):
                break
        self.judged[alpha] = wrong

    def leaves_out(self, alpha: float) -> bool:
        """Whether a penalty need not be tried: all before it are stronger, and the weakest of them is clearly worse
        than the best, or errors rose twice on the way to it. Weak ones cost most passes."""
        if not self.judged or alpha > min(self.judged):
            return False
        curve = self.curve()
        rates = [curve[a].cost for a in sorted(curve, reverse=True)]
        return self.is_out(min(curve)) or _rose_twice(rates)

    def is_out(self, alpha: float) -> bool:
        """Whether a penalty that was judged is clearly worse than the best."""
        return self._is_out(self.judged[alpha], self.judged[best_of(self.curve())])

    def stayed(self) -> list[float]:
        """Penalties that were judged on all rows."""
        most = max(map(len, self.judged.values()))
        return [alpha for alpha, wrong in self.judged.items() if len(wrong) == most]

    def leave_out(self, alpha: float) -> None:
        """Forget a penalty that was judged."""
        del self.judged[alpha]

    def _is_out(self, wrong: np.ndarray, best: np.ndarray, by: float = 0.0) -> bool:
        n = min(len(wrong), len(best))
        weights = None if self.weights is None else self.weights[:n]
        return _is_clearly_worse(wrong[:n], best[:n], self._groups(n), by, weights)

    def _groups(self, n: int) -> np.ndarray | None:
        """Groups of the first `n` held-out rows."""
        found = [path.groups for path in self.paths if path.groups is not None]
        return np.concatenate(found)[:n] if found else None

    def curve(self) -> dict[float, Tried]:
        """What each penalty cost so far."""
        return {alpha: Tried(int(w.sum()), len(w), self._weighed(w)) for alpha, w in self.judged.items()}

    def chances(self) -> dict[float, float]:
        """How probably another sample would have chosen each of the penalties that were judged on all rows; see
        :func:`chances`."""
        best = best_of(self.curve())
        m = len(self.judged[best])
        weights = 1.0 if self.weights is None else self.weights[:m]
        return chances({a: weights * self.judged[a] for a in self.stayed()}, best, self._groups(m))

    def _weighed(self, wrong: np.ndarray) -> float | None:
        return None if self.weights is None else float(self.weights[: len(wrong)] @ wrong) / len(wrong)


def _is_clearly_worse(
    wrong: np.ndarray, best: np.ndarray, groups: np.ndarray | None, by: float, weights: np.ndarray | None = None
) -> bool:
    """Whether the error is higher than the best one, by `by` and three standard errors of the difference."""
    more = wrong.astype(np.int64) - best
    if weights is not None:
        more = weights * more
    if groups is not None:
        more = np.bincount(np.unique(groups, return_inverse=True)[1].ravel(), more)
    if len(wrong) < FIRST_LOOK or len(more) < FEWEST_GROUPS:
        return False
    return bool(more.sum() - by * len(wrong) > CLEAR * np.sqrt((more**2).sum()))


def as_penalty(curve: Mapping[float, Tried], absolute: float, *, chosen: float | None = None) -> Penalty:
    """The record of a tuned penalty: the best, or the one that was chosen."""
    grid, best = sorted(curve), best_of(curve) if chosen is None else chosen
    inside, rows = grid[0] < best < grid[-1], tuple(curve[alpha].rows for alpha in grid)
    if curve[best].weighed is not None:
        return Penalty(best, absolute, tuple(grid), inside=inside, losses=tuple(curve[a].cost for a in grid), rows=rows)
    return Penalty(best, absolute, tuple(grid), tuple(curve[a].errors for a in grid), inside, rows=rows)


def best_of(curve: Mapping[float, Tried]) -> float:
    """Penalty with the fewest errors of those that were judged on all rows, ties to the stronger."""
    all_rows = max(tried.rows for tried in curve.values())
    stayed = [alpha for alpha, tried in curve.items() if tried.rows == all_rows]
    # sums of weights of the same rows in another order differ by rounding
    return min(stayed, key=lambda alpha: (round(curve[alpha].cost, 12), -alpha))


def _rose_twice(errors: list[float]) -> bool:
    """Whether `errors`, strong to weak, rose twice in the end."""
    return len(errors) > 2 and errors[-1] > errors[-2] > errors[-3]
