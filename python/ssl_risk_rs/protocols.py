"""The two protocols: which probe is fitted on which rows, at which penalty, and judged where."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np

from ssl_risk_rs import _core
from ssl_risk_rs.decomposition import (
    ALPHA_RANGE,
    ALPHAS,
    MAX_SENSITIVITY_ROWS,
    MAX_TUNING_ROWS,
    ONE_FOLD_PRODUCTS,
    ONE_SUBSET_PRODUCTS,
    TUNING_TOL,
    FitRecord,
    Settings,
    Task,
)
from ssl_risk_rs.errors import ParameterError

Start: TypeAlias = "_core.LinearProbe | _core.LogisticFit"

#: the authors' seed, share of classes and weight decays (paper: seed 123, 20 %, 1e-8 … 2e-4)
PAPER_SEED = 123
PAPER_CLASSES = 0.2
PAPER_ALPHAS = (2e-4, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)


@dataclass
class Judged:
    """What a protocol hands over: coded outcomes for the intervals, full ones for the record."""

    outcomes: dict[str, np.ndarray]
    records: dict[str, np.ndarray]
    sizes: dict[str, int]
    alphas: dict[str, float]
    n_subsets: int
    sensitivity: float
    fits: list[FitRecord] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Fitted:
    """A probe, what the next fit on the same rows starts from, and its error on its own rows where known."""

    probe: "_core.LinearProbe"
    start: "Start"
    train_error: float | None = None


class Fitter:
    """Fits and judges probes on the rows of one set of features, and keeps the records."""

    def __init__(self, features: Any, labels: np.ndarray, n_classes: int, settings: Settings) -> None:
        self.features = features
        self.labels = labels
        self.n_classes = n_classes
        self.settings = settings
        self.fits: list[FitRecord] = []

    def moments(self, rows: np.ndarray, cells: np.ndarray | None = None) -> "_core.Moments":
        """Statistics of `rows` by cell; one pass."""
        threads = self.settings.n_threads
        if cells is None:
            cells = np.zeros(len(self.labels), np.uint8)
        shift = _core.choose_shift(self.features, rows)
        n_cells = int(cells[rows].max()) + 1
        moments = _core.Moments(len(shift), self.n_classes, n_cells=n_cells, shift=shift)
        moments.update(self.features, rows, self.labels, cells, n_threads=threads)
        return moments

    def fit(
        self,
        role: str,
        design: "_core.Design",
        rows: np.ndarray,
        alpha: float,
        start: "Start | None" = None,
        *,
        judged: bool = True,
    ) -> "Fitted":
        """One probe; `start` must have been fitted on a subset of `rows`. Where it is not `judged`, a looser
        tolerance is enough."""
        if self.settings.probe == "ridge":
            began = time.perf_counter()
            probe = design.solve_ridge([alpha], n_threads=self.settings.n_threads)[0]
            seconds = time.perf_counter() - began
            record = FitRecord(role, "ridge", alpha, len(rows), True, "closed_form", 0.0, 0.0, 0.0, None, seconds)
            self.fits.append(record)
            return Fitted(probe, probe)
        fit = _core.fit_logistic(
            self.features,
            rows,
            self.labels,
            design,
            alpha,
            tol=self.settings.tol if judged else max(self.settings.tol, TUNING_TOL),
            max_passes=self.settings.max_passes,
            start=start,
            n_threads=self.settings.n_threads,
        )
        record = FitRecord(
            role=role,
            probe="logistic",
            alpha=alpha,
            n=len(rows),
            converged=fit.converged,
            stop=fit.stop,
            passes=fit.passes,
            reduced_passes=fit.reduced_passes,
            gap=fit.gap,
            objective=fit.objective,
            seconds=fit.seconds,
        )
        self.fits.append(record)
        return Fitted(fit.probe, fit, fit.train_error)

    def judge(
        self, probes: list["_core.LinearProbe"], rows: np.ndarray
    ) -> list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
        """(predicted, rank of the true class, loss, margin) of each probe on `rows`."""
        return _core.judge(self.features, rows, self.labels, probes, n_threads=self.settings.n_threads)

    def errors(self, probe: "_core.LinearProbe", rows: np.ndarray) -> int:
        """Rows that a probe predicts wrongly."""
        return int((self.judge([probe], rows)[0][1] > 0).sum())

    def train_error(self, fitted: Fitted, rows: np.ndarray) -> float:
        """0-1 error on the rows of the fit, or on a strided sample of them where the fit did not count it."""
        if fitted.train_error is not None:
            return fitted.train_error
        sample = np.ascontiguousarray(rows[:: -(-len(rows) // MAX_SENSITIVITY_ROWS)])
        return self.errors(fitted.probe, sample) / len(sample)


def strict(task: Task, supervised: Any, settings: Settings, say: Callable[[str], None]) -> Judged:
    """One penalty tuned on folds that nothing is judged on; a stated floor for R_AF and R_ΦF."""
    train, test = task.train_rows, task.test_rows
    subsets, judged_folds = _sized(task, settings)
    size = settings.subset_size or min(len(test), len(train) // (5 * subsets))
    if size < task.n_classes:
        raise ParameterError(
            f"{len(train)} training rows give held-out subsets of {size} rows, fewer than the "
            f"{task.n_classes} classes; give more rows or fewer splits"
        )
    folds = settings.n_folds
    keys = task.keys if settings.seed == 0 else _rekeyed(task.keys, settings.seed)
    cells = _core.assign_cells(keys, train, task.labels, n_folds=folds, n_subsets=subsets, subset_size=size)
    fitter = Fitter(task.features, task.labels, task.n_classes, settings)
    say("moments")
    moments = fitter.moments(train, cells)
    paths = [_FoldPath(fitter, moments, train, cells, fold, folds) for fold in range(judged_folds)]
    alpha, inside, curve = _tune(paths, say)
    every = list(range(folds + subsets))
    in_subset = cells[train] >= folds

    judged = _empty(task, in_subset, subsets)
    start: Start = paths[0].at(alpha)
    del paths
    train_as = np.zeros(len(train), np.uint8)
    for j in range(subsets):
        say(f"complement {j + 1} of {subsets}")
        kept = [c for c in every if c != folds + j]
        rows = train[cells[train] != folds + j]
        design = moments.design(kept, scaling=settings.scaling)
        probe = fitter.fit(f"complement_{j}", design, rows, alpha, start).probe
        held = cells[train] == folds + j
        outcome = fitter.judge([probe], train[held])[0]
        train_as[held] = outcome[1] > 0
        _record(judged, f"as_{j}", train[held], outcome)
        outcome = fitter.judge([probe], test)[0]
        judged.outcomes["test"] |= (outcome[1] > 0).astype(np.uint8) << (j + 1)
        _record(judged, f"cs_{j}", test, outcome)
        full_start = probe
    say("all training rows")
    design = moments.design(every, scaling=settings.scaling)
    full = fitter.fit("full", design, train, alpha, full_start)
    outcome = fitter.judge([full.probe], test)[0]
    judged.outcomes["test"] |= (outcome[1] > 0).astype(np.uint8)
    _record(judged, "us", test, outcome)
    above, floor = _floor_fits(fitter, design, train, settings, full.start, alpha)
    at_alpha, at_floor = fitter.judge([full.probe, floor.probe], train)
    _record(judged, "af", train, at_floor)
    judged.sensitivity = fitter.train_error(above, train)
    judged.outcomes["train"] |= (
        ((at_floor[1] > 0).astype(np.uint8) << 1) | ((at_alpha[1] > 0).astype(np.uint8) << 2) | train_as << 3
    )
    if supervised is not None:
        say("supervised twin")
        _judge_supervised(judged, supervised, task, settings, fitter)
    judged.fits = fitter.fits
    judged.alphas = {"tuned": alpha, "floor": settings.floor, "mean_variance": design.mean_variance}
    judged.sizes = _sizes(task, size, subsets) | {"folds": folds, "folds_judged": judged_folds}
    if judged_folds < folds:
        judged.notes.append(
            f"the penalty was tuned on {judged_folds} of {folds} folds: in simulations of a few thousand rows the "
            "intervals of probe generalization were then 7 to 12 % too short"
        )
    if not inside:
        judged.notes.append(f"the tuned penalty {alpha:g} is at the end of its grid")
    if not (at_floor[1] > 0).any():
        judged.notes.append("separable: usability is not identified with this many features")
    judged.records["tuning_alpha"] = np.array(sorted(curve), float)
    judged.records["tuning_errors"] = np.array([curve[a] for a in sorted(curve)], np.int64)
    return judged


def _sized(task: Task, settings: Settings) -> tuple[int, int]:
    """Held-out subsets, and folds judged while tuning."""
    products = len(task.train_rows) * n_features(task.features) * task.n_classes
    costly = settings.probe == "logistic"
    subsets = settings.n_subsets or (1 if costly and products > ONE_SUBSET_PRODUCTS else 3)
    judged = settings.tuning_folds or (1 if costly and products > ONE_FOLD_PRODUCTS else settings.n_folds)
    return subsets, judged


def n_features(features: Any) -> int:
    """d of a bank, an array or a list of arrays."""
    if isinstance(features, list):
        return int(features[0].shape[1])
    return int(features.shape[1]) if hasattr(features, "shape") else int(features.n_features)


def _rekeyed(keys: np.ndarray, seed: int) -> np.ndarray:
    return _core.sample_keys([str(k) for k in keys], seed)


class _FoldPath:
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
        if fitter.settings.probe == "ridge":  # strided: rows may be sorted by class
            self.held = np.ascontiguousarray(self.held[:: -(-len(self.held) // MAX_TUNING_ROWS)])
        self.design = moments.design([f for f in range(n_folds) if f != fold], scaling=fitter.settings.scaling)
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

    def at(self, alpha: float) -> "_core.LinearProbe":
        """The probe at a penalty already tried."""
        return self.probes[alpha]


def _tune(paths: list[_FoldPath], say: Callable[[str], None]) -> tuple[float, bool, dict[float, int]]:
    """Penalty with the fewest held-out errors, ties to the stronger; whether it lies inside the grid."""
    curve: dict[float, int] = {}

    def total(alpha: float) -> int:
        say(f"penalty {alpha:g}")
        curve[alpha] = sum(path.errors(alpha) for path in paths)
        return curve[alpha]

    for alpha in ALPHAS:
        total(alpha)
        if _past_the_valley(list(curve.values())):
            break
    for path in paths:
        path.restart(max(curve))
    while _best(curve) == max(curve) < ALPHA_RANGE[1]:
        total(max(curve) * 10)
    return _best(curve), min(curve) < _best(curve) < max(curve), curve


def _past_the_valley(errors: list[int]) -> bool:
    """Whether still weaker penalties can be left out, which cost most passes: `errors`, strong to weak, rose
    twice in a row, or by more than three standard errors of two independent counts."""
    twice = len(errors) > 2 and errors[-1] > errors[-2] > errors[-3]
    return twice or (len(errors) > 1 and errors[-1] - errors[-2] > 3 * (errors[-1] + errors[-2]) ** 0.5)


def _best(curve: dict[float, int]) -> float:
    """Penalty with the fewest errors, ties to the stronger."""
    return min(curve, key=lambda alpha: (curve[alpha], -alpha))


def _floor_fits(
    fitter: Fitter,
    design: "_core.Design",
    rows: np.ndarray,
    settings: Settings,
    start: "Start | None",
    alpha: float | None,
) -> tuple[Fitted, Fitted]:
    """Probes one decade above the floor and at it; a path of decades where there is no start near."""
    above = settings.floor * 10
    path = [a for a in (1e-2, 1e-3) if above < a and (alpha is None or a < alpha)]
    for a in path if settings.probe == "logistic" else ():
        start = fitter.fit("floor_path", design, rows, a, start, judged=False).start
    upper = fitter.fit("floor_above", design, rows, above, start)
    return upper, fitter.fit("floor", design, rows, settings.floor, upper.start)


def _judge_supervised(judged: Judged, features: Any, task: Task, settings: Settings, fitter: Fitter) -> None:
    twin = Fitter(features, task.labels, task.n_classes, settings)
    if isinstance(features, list):  # arrays: training rows come first, test rows may be absent
        twin.labels = task.labels[: sum(len(x) for x in features)]
    design = twin.moments(task.train_rows).design(scaling=settings.scaling)
    _, floor = _floor_fits(twin, design, task.train_rows, settings, None, None)
    outcome = twin.judge([floor.probe], task.train_rows)[0]
    judged.outcomes["train"] |= (outcome[1] > 0).astype(np.uint8)
    _record(judged, "sup", task.train_rows, outcome)
    fitter.fits += [_renamed(fit, f"supervised_{fit.role}") for fit in twin.fits]


def _renamed(fit: FitRecord, role: str) -> FitRecord:
    return replace(fit, role=role)


def _empty(task: Task, in_subset: np.ndarray, n_subsets: int) -> Judged:
    outcomes = {
        "train": np.zeros(len(task.train_rows), np.uint8),
        "train_labels": task.labels[task.train_rows],
        "in_subset": np.ascontiguousarray(in_subset),
        "test": np.zeros(len(task.test_rows), np.uint8),
        "test_labels": task.labels[task.test_rows],
    }
    return Judged(outcomes, {}, {}, {}, n_subsets, float("nan"))


def _record(judged: Judged, name: str, rows: np.ndarray, outcome: tuple[np.ndarray, ...]) -> None:
    predicted, rank, loss, _ = outcome
    judged.records |= {
        f"{name}_row": rows,
        f"{name}_predicted": predicted,
        f"{name}_rank": rank,
        f"{name}_loss": loss,
    }


def _sizes(task: Task, size: int, n_subsets: int) -> dict[str, int]:
    return {
        "train": len(task.train_rows),
        "test": len(task.test_rows),
        "subset": size,
        "subsets": n_subsets,
        "classes": task.n_classes,
    }


def paper(task: Task, supervised: Any, settings: Settings, say: Callable[[str], None]) -> Judged:
    """The authors' choices: one subset as large as the test set, no scaling, a penalty for each risk tuned on
    half of the training rows of a fifth of the classes, for R_US on the test rows themselves. Their SGD is
    replaced by the certified optimum at the same weight decays."""
    from sklearn.model_selection import train_test_split

    settings = replace(settings, scaling="none", n_subsets=1)
    train, test, labels = task.train_rows, task.test_rows, task.labels
    if len(test) * 2 > len(train):
        raise ParameterError(
            f"the paper's protocol sets aside as many training rows as there are test rows: {len(test)} of "
            f"{len(train)} are too many; use --protocol strict"
        )

    def split(rows: np.ndarray, size: int | float) -> tuple[np.ndarray, np.ndarray]:
        rest, part = train_test_split(rows, stratify=labels[rows], test_size=size, random_state=PAPER_SEED)
        return np.sort(rest), np.sort(part)

    complement, subset = split(train, len(test))
    other_half, half = split(train, 0.5)
    n_chosen = max(2, int(PAPER_CLASSES * task.n_classes))
    chosen = np.random.RandomState(PAPER_SEED).permutation(np.unique(labels))[:n_chosen]

    def of_chosen(rows: np.ndarray) -> np.ndarray:
        return rows[np.isin(labels[rows], chosen)]

    fitter = Fitter(task.features, labels, task.n_classes, settings)
    tuning = of_chosen(half)
    design = fitter.moments(tuning).design(scaling="none")
    alphas = _paper_alphas(settings, [design])
    judged_on = {"af": tuning, "as": of_chosen(other_half), "us": of_chosen(test)}
    wrong: dict[str, dict[float, int]] = {name: {} for name in judged_on}
    start: Start | None = None
    for alpha in alphas:
        say(f"penalty {alpha:g}")
        fitted = fitter.fit("tuning", design, tuning, alpha, start, judged=False)
        start = fitted.start
        for name, rows in judged_on.items():
            wrong[name][alpha] = fitter.errors(fitted.probe, rows)
    best = {name: _best(curve) for name, curve in wrong.items()}

    in_subset = np.isin(train, subset)
    judged = _empty(task, in_subset, 1)
    say("complement")
    design = fitter.moments(complement).design(scaling="none")
    probe = fitter.fit("complement_0", design, complement, max(best["as"], _ridge_floor(settings, design))).probe
    outcome, on_test = fitter.judge([probe], subset)[0], fitter.judge([probe], test)[0]
    _record(judged, "as_0", subset, outcome)
    _record(judged, "cs_0", test, on_test)
    held = np.zeros(len(train), np.uint8)
    held[in_subset] = outcome[1] > 0
    say("all training rows")
    design = fitter.moments(train).design(scaling="none")
    lowest = _ridge_floor(settings, design)
    order: Iterable[str] = sorted(("af", "us"), key=lambda name: -best[name])
    probes, start = {}, None
    for name in order:
        fitted = fitter.fit(f"full_{name}", design, train, max(best[name], lowest), start)
        probes[name], start = fitted.probe, fitted.start
    on_train = fitter.judge([probes["af"]], train)[0]
    us = fitter.judge([probes["us"]], test)[0]
    _record(judged, "af", train, on_train)
    _record(judged, "us", test, us)
    judged.outcomes["train"] |= ((on_train[1] > 0).astype(np.uint8) << 1) | held << 3
    judged.outcomes["test"] |= (us[1] > 0).astype(np.uint8) | ((on_test[1] > 0).astype(np.uint8) << 1)
    judged.sensitivity = float((on_train[1] > 0).mean())
    if supervised is not None:
        say("supervised twin")
        _judge_supervised(judged, supervised, task, replace(settings, floor=best["af"]), fitter)
    judged.fits = fitter.fits
    judged.alphas = {f"tuned_{name}": alpha for name, alpha in best.items()}
    judged.sizes = _sizes(task, len(subset), 1)
    judged.notes.append("protocol of the paper: penalties tuned on the evaluation rows; errors are optimistic")
    return judged


def _ridge_floor(settings: Settings, design: "_core.Design") -> float:
    return design.alpha_floor if settings.probe == "ridge" else 0.0


def _paper_alphas(settings: Settings, designs: list["_core.Design"]) -> list[float]:
    lowest = max(_ridge_floor(settings, design) for design in designs)
    return [a for a in PAPER_ALPHAS if a >= lowest] or [lowest * (1 + 1e-6)]
