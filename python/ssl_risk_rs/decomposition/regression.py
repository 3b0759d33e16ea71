"""The strict protocol for targets that are numbers, or several labels a row: ridge probes in closed form.

The same cells, floor, twin and judged rows as `strict`; the penalty with the least loss on the folds, ties to the
stronger.
Each judged row gets a loss, and a risk is the mean of losses over rows, so that intervals are those of `intervals`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ssl_risk_rs.decomposition.cells import draw_cells, notes_on_plan, plan_cells
from ssl_risk_rs.decomposition.chances import chances
from ssl_risk_rs.decomposition.losses import Auroc, Squared, check_targets, judgeable, outcome_of, scorer_of
from ssl_risk_rs.decomposition.outcomes import ProtocolResult, in_row_order, penalty_note, rows_of, sizes_of
from ssl_risk_rs.decomposition.settings import Settings
from ssl_risk_rs.decomposition.target_ridge import TargetProbe, TargetSums, row_blocks, sum_targets
from ssl_risk_rs.decomposition.task import Task
from ssl_risk_rs.errors import ParameterError
from ssl_risk_rs.events import Event, Report
from ssl_risk_rs.probes.features import Features
from ssl_risk_rs.results.judgements import Judgements, Outcome
from ssl_risk_rs.results.record import FitRecord, Floor, Method, Penalty

__all__ = ["predict_targets"]

#: penalties that are all tried, and what the best is multiplied by for two more
GRID = (1e3, 1e2, 10.0, 1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
HALF_DECADES = (10**0.5, 10**-0.5)
#: loss of the floor probe on its own rows, as a share of that on test rows, at which it has only learnt them by heart
INTERPOLATED = 0.01


class _Ridge:
    """Ridge probes of one encoder's features."""

    def __init__(self, features: Features, targets: np.ndarray, method: Method, report: Report) -> None:
        self.features, self.targets = features, targets[: features.n_rows]
        self.method, self.report = method, report
        self.fits: list[FitRecord] = []

    def sums(self, rows: np.ndarray, cells: np.ndarray) -> TargetSums:
        """Sums over `rows` by cell."""
        self.report(Event("moments", detail=f"{len(rows):,} rows"))
        return sum_targets(self.features, self.targets, rows, cells, self.method)

    def fit(self, role: str, sums: TargetSums, cells: Sequence[int], alphas: Sequence[float]) -> list[TargetProbe]:
        """The probe on some cells at each penalty, in units of the mean variance of the scaled features."""
        self.report(Event("fit", detail=role))
        found = sums.fit(cells, alphas)
        for probe in found:
            self.fits.append(
                FitRecord(role, "ridge", probe.absolute, probe.n, True, "closed_form", 0.0, 0.0, 0.0, None, 0.0)
            )
        return found

    def predict(self, probes: Sequence[TargetProbe], rows: np.ndarray) -> list[np.ndarray]:
        """ŷ of each probe on `rows`, (m, k), in one pass."""
        self.report(Event("judge", detail=f"{len(rows):,} rows"))
        k = self.targets.shape[1]
        together = np.concatenate([probe.weights for probe in probes], axis=1)
        offset = np.concatenate([probe.intercept - probe.centre @ probe.weights for probe in probes])
        found = np.empty((len(rows), together.shape[1]))
        begin = 0
        for block, x in row_blocks(self.features, rows):
            # about the first centre: far features would cancel
            own = (x - probes[0].centre) @ together + (offset + probes[0].centre @ together)
            if not np.isfinite(own).all():
                row = int(block[int(np.isfinite(own).all(1).argmin())])
                raise ParameterError(f"row {row} of the features gives predictions that are not finite (NaN, infinity)")
            found[begin : begin + len(block)] = own
            begin += len(block)
        return [found[:, i * k : (i + 1) * k] for i in range(len(probes))]


def predict_targets(
    task: Task, twin: Features | None, settings: Settings, method: Method, report: Report
) -> ProtocolResult:
    """Fit and judge every probe of the strict protocol on numbers or labels; see the module."""
    check_targets(task)
    train, test, folds = task.train_rows, task.test_rows, settings.n_folds
    planned = plan_cells(task, settings, method)
    cells = draw_cells(task, settings, method, planned)
    subsets, own = cells.subsets, cells.of_row[train]
    held_rows = [cells.held_out(train, j) for j in range(subsets)]
    task, left_out = judgeable(task, held_rows)
    notes = [*left_out, *notes_on_plan(planned, subsets)]
    scorer = scorer_of(task)
    assert task.targets is not None  # the caller's choice of this road
    ridge = _Ridge(task.features, task.targets, method, report)
    sums = ridge.sums(train, cells.of_row)
    judged_on = (test, cells.held_out(train))
    groups = None if task.groups is None else task.groups[train]
    found = _tuned(ridge, sums, scorer, train, own, judged_on, folds, planned.folds_judged, groups)
    curve, (fold_losses, fold_losses_held), (others, others_held) = found.curve, found.losses, found.others
    alpha = _best(curve)

    held: list[np.ndarray] = []
    held_floor: list[np.ndarray] = []
    cs: list[Outcome] = []
    for j in range(subsets):
        penalties = (alpha, settings.floor) if planned.midpoint else (alpha,)
        at_alpha, *at_floor = ridge.fit(f"complement_{j}", sums, cells.complement(j), penalties)
        on_held, *floor_on_held = ridge.predict([at_alpha, *at_floor], held_rows[j])
        held.append(on_held)
        held_floor += floor_on_held
        cs.append(outcome_of(scorer.losses(ridge.predict([at_alpha], test)[0], test)))
    full, above, floor = ridge.fit("full", sums, cells.every, (alpha, 10 * settings.floor, settings.floor))
    of_train = [outcome_of(scorer.losses(y, train)) for y in ridge.predict([full, above, floor], train)]
    on_test = ridge.predict([full, floor], test)
    us, floor_on_test = (outcome_of(scorer.losses(y, test)) for y in on_test)
    design = sums.design(cells.every)
    of_twin: list[Outcome] | None = None
    of_twin_fits: tuple[FitRecord, ...] = ()
    twin_constant = 0
    if twin is not None:
        beside = _Ridge(twin, task.targets, method, report)
        twin_sums = beside.sums(train, np.zeros(len(task.labels), np.uint8))
        probes = beside.fit("supervised", twin_sums, [0], (10 * settings.floor, settings.floor))
        of_twin = [outcome_of(scorer.losses(y, train)) for y in beside.predict(probes, train)]
        of_twin_fits = tuple(beside.fits)
        twin_constant = len(twin_sums.design([0]).constant)

    fold_of, subset_of = cells.fold_and_subset(train)
    judgements = Judgements(
        # rows of numbers have no classes: one stratum
        **rows_of(replace(task, labels=np.zeros_like(task.labels), class_names=(scorer.metric,))),
        subset=subset_of,
        fold=fold_of,
        af=of_train[2],
        at_alpha=of_train[0],
        us=us,
        held_out=in_row_order([outcome_of(v) for v in scorer.over_sets(held, held_rows)], subset_of),
        held_out_floor=in_row_order([outcome_of(v) for v in scorer.over_sets(held_floor, held_rows)], subset_of)
        if planned.midpoint
        else None,
        cs=tuple(cs),
        floor_on_test=floor_on_test,
        fold_margins=np.zeros_like(fold_losses),
        fold_losses=fold_losses,
        fold_margins_held=np.zeros_like(fold_losses_held),
        fold_losses_held=fold_losses_held,
        other_penalties=others,
        other_penalties_held=others_held,
        penalty_chances=np.array(list(found.chances.values())),
        sup=None if of_twin is None else of_twin[1],
        unit=scorer.unit(train, on_test[0], test),
    )
    grid = sorted(curve)
    inside = grid[0] < alpha < grid[-1]
    tuned = Penalty(alpha, full.absolute, tuple(grid), inside=inside, losses=tuple(curve[a] for a in grid))
    if not tuned.inside:
        notes.append(penalty_note("The tuned penalty", tuned))
    return ProtocolResult(
        judgements,
        replace(
            sizes_of(task, judgements, design, None, planned),
            classes=len(task.target_names),
            twin_features=None if twin is None else twin.n_features,
            constant_twin_features=twin_constant,
            chance=scorer.chance(test),
        ),
        {"tuned": tuned, "floor": Penalty(settings.floor, floor.absolute)},
        Floor(
            risk_above=float(of_train[1].loss.mean()),
            sup_above=np.nan if of_twin is None else float(of_twin[0].loss.mean()),
            on_test=float(floor_on_test.loss.mean()),
            # rows that are right in the test set too were not learnt by heart
            separable=float(of_train[2].loss.mean()) < INTERPOLATED * float(floor_on_test.loss.mean()),
        ),
        (*ridge.fits, *of_twin_fits),
        tuple(notes),
    )


@dataclass(frozen=True, slots=True)
class _Tuned:
    """What was found on held-out folds.

    curve : mean loss by penalty; chances : as :func:`chances` says; on each of several sets of rows, losses : of the
    best penalty's probes, (folds, rows), and others : the first fold's probes at the other penalties that have a chance
    """

    curve: dict[float, float]
    chances: dict[float, float]
    losses: list[np.ndarray]
    others: list[tuple[Outcome, ...]]


def _tuned(
    ridge: _Ridge,
    sums: TargetSums,
    scorer: Squared | Auroc,
    train: np.ndarray,
    own: np.ndarray,
    judged_on: Sequence[np.ndarray],
    folds: int,
    judged: int,
    groups: np.ndarray | None = None,
) -> _Tuned:
    """Judge penalties on the held-out folds, and the probes of those that another sample may choose on sets of rows.

    A closed form is cheap, so the whole grid is tried, and half a decade on either side of the best: losses differ more
    from decade to decade than they vary, so that samples which choose another would be of two kinds.
    """

    held = [np.flatnonzero(own == fold) for fold in range(judged)]
    kept = [[f for f in range(folds) if f != fold] for fold in range(judged)]
    costs: dict[float, list[np.ndarray]] = {}  # of a row, what it adds to the mean of its fold

    def on_folds(alphas: Sequence[float]) -> None:
        costs.update({alpha: [] for alpha in alphas})
        for fold in range(judged):
            rows = train[held[fold]]
            probes = ridge.fit(f"fold_{fold}", sums, kept[fold], alphas)
            for alpha, predicted in zip(alphas, ridge.predict(probes, rows), strict=True):
                costs[alpha].append(scorer.losses(predicted, rows) / len(rows))

    def curve() -> dict[float, float]:
        # a fold whose rows have every label or none says nothing of any penalty
        by_fold = np.array([[cost.sum() for cost in every] for every in costs.values()])  # (penalties, folds)
        says = np.isfinite(by_fold).all(0)
        return dict(zip(costs, by_fold[:, says].mean(1).tolist() if says.any() else [0.0] * len(costs), strict=True))

    on_folds(GRID)
    beside = (float(f"{_best(curve()) * step:.6g}") for step in HALF_DECADES)
    on_folds([alpha for alpha in beside if min(GRID) < alpha < max(GRID)])
    best, each = _best(curve()), {alpha: np.concatenate(every) for alpha, every in costs.items()}
    says = np.isfinite(np.stack(list(each.values()))).all(0)
    of_group = None if groups is None else groups[np.concatenate(held)][says]
    likely = chances({alpha: cost[says] for alpha, cost in each.items()}, best, of_group)
    found: list[list[np.ndarray]] = [[] for _ in judged_on]
    others: list[tuple[Outcome, ...]] = []
    for fold in range(judged):
        probes = ridge.fit(f"fold_{fold}", sums, kept[fold], tuple(likely) if fold == 0 else (best,))
        for of_set, rows in zip(found, judged_on, strict=True):
            at_best, *at_others = (scorer.losses(y, rows) for y in ridge.predict(probes, rows))
            of_set.append(at_best.astype(np.float32))
            if fold == 0:
                others.append(tuple(map(outcome_of, at_others)))
    return _Tuned(curve(), likely, [np.stack(of_set) for of_set in found], others)


def _best(curve: Mapping[float, float]) -> float:
    """Penalty with the least loss, ties to the stronger."""
    return min(curve, key=lambda alpha: (curve[alpha], -alpha))
