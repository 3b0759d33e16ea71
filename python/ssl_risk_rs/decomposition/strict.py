"""The strict protocol: one penalty tuned on folds that nothing is judged on, a stated floor for R_AF and R_ΦF."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from ssl_risk_rs import _core
from ssl_risk_rs._notes import Note, Values
from ssl_risk_rs._splits import sample_keys
from ssl_risk_rs.decomposition.fitting import Fitter, Start, floor_fits
from ssl_risk_rs.decomposition.settings import Settings
from ssl_risk_rs.decomposition.task import Task
from ssl_risk_rs.decomposition.tuning import FROM_THE_MIDDLE, FoldPath, as_penalty, best_of, tune
from ssl_risk_rs.errors import ParameterError
from ssl_risk_rs.events import Report
from ssl_risk_rs.probes.features import Features
from ssl_risk_rs.probes.opened import Solvers
from ssl_risk_rs.results.judgements import Judgements, Outcome
from ssl_risk_rs.results.record import FitRecord, Floor, Method, Penalty, Sizes

__all__ = ["Judged", "Plan", "draw_cells", "planned_cells", "strict"]

#: products of a logistic pass (n·d·k) from which the midpoint of R_AF, one more path to the floor for each subset, is
#: left out; from which one fold is judged instead of all; from which one subset is held out: seconds on two cores,
#: ten minutes of tuning, and an hour
MIDPOINT_PRODUCTS = 5e8
ONE_FOLD_PRODUCTS = 5e10
ONE_SUBSET_PRODUCTS = 5e11
#: share of the training rows that all subsets together take at most
MAX_SHARE = 0.2
#: a class share that holding out a subset moves by more is said
MOVED_SHARE = 0.02


@dataclass(frozen=True, slots=True)
class Judged:
    """What a protocol hands over."""

    judgements: Judgements
    sizes: Sizes
    penalties: dict[str, Penalty]
    floor: Floor
    fits: tuple[FitRecord, ...]
    notes: tuple[Note, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """How many folds there are and are judged, how many subsets are held out, and rows of each."""

    folds: int
    folds_judged: int
    subsets: int
    subset_size: int
    midpoint: bool


def strict(
    task: Task, twin: Features | None, settings: Settings, method: Method, report: Report, solvers: Solvers
) -> Judged:
    """Fit and judge every probe of the strict protocol.

    A fit starts only from a fit on a subset of its own rows: folds → complement → all rows at α* → all rows at the
    floor. A start that has seen the rows a probe is judged on would leak them until the fit has converged.
    """
    train, test, folds = task.train_rows, task.test_rows, settings.n_folds
    plan = planned_cells(task, settings, method)
    cells, subsets = draw_cells(task, settings, method, plan)
    notes = list(_notes_on_cells(task, cells, subsets, plan))
    fitter = Fitter(task.features, task.labels, task.n_classes, method, report, solvers)
    moments = fitter.moments(train, cells)
    paths = [
        FoldPath(fitter, moments, train, cells, fold, folds, task.groups, hands_on=fold == 0)
        for fold in range(plan.folds_judged)
    ]
    curve = tune(paths, FROM_THE_MIDDLE, early=True) if len(paths) == 1 else tune(paths)
    alpha = best_of(curve)
    of_folds = [fitter.outcome(path.probe(alpha), test) for path in paths]
    start = paths[0].start(alpha)
    like = paths[0].design  # of rows that every further fit has
    del paths

    every = list(range(folds + subsets))
    held, cs, held_floor = [], [], []
    for j in range(subsets):
        kept = [c for c in every if c != folds + j]
        rows, own = train[cells[train] != folds + j], train[cells[train] == folds + j]
        design = fitter.design(moments, kept, like=like)
        complement = fitter.fit(f"complement_{j}", design, rows, alpha, start)
        held.append(fitter.outcome(complement.probe, own))
        cs.append(fitter.outcome(complement.probe, test))
        if plan.midpoint:
            role = f"complement_{j}_floor"
            _, weak = floor_fits(fitter, role, design, rows, settings.floor, complement.start, alpha, by_error=False)
            held_floor.append(fitter.outcome(weak.probe, own))
        last = complement.start
        del complement  # and the steps that it remembers, which the next fit drops one by one
    del start
    design = fitter.design(moments, every, like=like)
    full = fitter.fit("full", design, train, alpha, last)
    del last
    us = fitter.outcome(full.probe, test)
    above, floor = floor_fits(fitter, "floor", design, train, settings.floor, full.start, alpha)
    at_alpha, at_floor = fitter.judge([full.probe, floor.probe], train)
    floor_on_test = fitter.outcome(floor.probe, test)
    uf = union_outcome(fitter, task, settings.floor, floor.start, design) if settings.order != "paper" else None
    of_twin = _judge_twin(twin, task, settings.floor, method, report, solvers) if twin is not None else None

    cell_of = cells[train].astype(np.int16)
    fold_of = np.where(cell_of < folds, cell_of, -1).astype(np.int8)
    subset_of = np.where(cell_of >= folds, cell_of - folds, -1).astype(np.int8)
    judgements = Judgements(
        **rows_of(task),
        subset=subset_of,
        fold=fold_of,
        af=at_floor,
        at_alpha=at_alpha,
        us=us,
        held_out=in_row_order(held, subset_of),
        held_out_floor=in_row_order(held_floor, subset_of) if held_floor else None,
        cs=tuple(cs),
        floor_on_test=floor_on_test,
        fold_margins=np.stack([outcome.margin for outcome in of_folds]),
        fold_losses=np.stack([outcome.loss for outcome in of_folds]),
        fold_ranks=np.stack([np.minimum(outcome.rank, 65535).astype(np.uint16) for outcome in of_folds]),
        uf=uf,
        sup=None if of_twin is None else of_twin.train,
        sup_on_test=None if of_twin is None else of_twin.test,
    )
    penalties = {
        "tuned": as_penalty(curve, full.absolute),
        "floor": Penalty(settings.floor, floor.absolute),
    }
    if not penalties["tuned"].inside:
        notes.append(penalty_note("The tuned penalty", penalties["tuned"]))
    separable = not at_floor.wrong.any()
    return Judged(
        judgements,
        sizes_of(task, judgements, design, of_twin, plan),
        penalties,
        Floor(
            risk_above=fitter.train_error(above, train),
            sup_above=np.nan if of_twin is None else of_twin.above,
            on_test=floor_on_test.error,
            separable=separable,
        ),
        (*fitter.fits, *(() if of_twin is None else of_twin.fits)),
        tuple(notes),
    )


def union_outcome(
    fitter: Fitter, task: Task, alpha: float, start: Start | None, like: "_core.Design", *, absolute: bool = False
) -> Outcome:
    """R_UF: a probe fitted on training and test rows together, on the test rows.

    `start` has seen no others, and `like` is the design of the training rows.
    """
    rows = np.sort(np.concatenate([task.train_rows, task.test_rows]))
    design = fitter.design(fitter.moments(rows), like=like)
    fitted = fitter.fit("union", design, rows, alpha, start, absolute=absolute)
    return fitter.outcome(fitted.probe, task.test_rows)


class _Rows(TypedDict):
    class_names: tuple[str, ...]
    train_ids: np.ndarray
    test_ids: np.ndarray
    train_labels: np.ndarray
    test_labels: np.ndarray
    train_groups: np.ndarray | None
    test_groups: np.ndarray | None


def rows_of(task: Task) -> _Rows:
    """The rows of a task as `Judgements` keeps them."""
    ids = np.array([s.encode() for s in task.sample_ids], dtype=np.bytes_)
    groups = None
    if task.groups is not None:
        groups = np.array([name.encode() for name in task.group_names], dtype=np.bytes_)[task.groups]
    return _Rows(
        class_names=task.class_names,
        train_ids=ids[task.train_rows],
        test_ids=ids[task.test_rows],
        train_labels=task.labels[task.train_rows],
        test_labels=task.labels[task.test_rows],
        train_groups=None if groups is None else groups[task.train_rows],
        test_groups=None if groups is None else groups[task.test_rows],
    )


def in_row_order(outcomes: Sequence[Outcome], subset_of: np.ndarray) -> Outcome:
    """Outcomes of subset 0, 1, … as one, in the order of the training rows."""
    place = np.argsort(subset_of[subset_of >= 0], kind="stable")
    order = np.empty(len(place), np.int64)
    order[place] = np.arange(len(place))
    joined = (np.concatenate([getattr(o, name) for o in outcomes]) for name in ("predicted", "rank", "loss", "margin"))
    return Outcome(*(values[order] for values in joined))


def sizes_of(
    task: Task,
    judged: Judgements,
    design: "_core.Design",
    twin: "Twin | None",
    plan: Plan | None,
) -> Sizes:
    """Counts of everything; without a plan, as under the paper's protocol, there are no folds."""
    groups: dict[str, int] = {}
    if judged.train_groups is not None and judged.test_groups is not None:
        groups = {
            "groups_train": len(np.unique(judged.train_groups)),
            "groups_subset": len(np.unique(judged.train_groups[judged.in_subset])),
            "groups_test": len(np.unique(judged.test_groups)),
        }
    frequent = int(np.bincount(judged.train_labels).argmax())
    return Sizes(
        train=len(judged.train_labels),
        test=len(judged.test_labels),
        classes=len(np.unique(judged.train_labels)),
        features=task.features.n_features,
        subsets=judged.n_subsets,
        subset_rows=tuple(int((judged.subset == j).sum()) for j in range(judged.n_subsets)),
        folds=0 if plan is None else plan.folds,
        folds_judged=0 if plan is None else plan.folds_judged,
        twin_features=None if twin is None else twin.n_features,
        constant_features=len(design.constant),
        constant_twin_features=0 if twin is None else twin.constant,
        chance=float((judged.test_labels != frequent).mean()),
        planned_subsets=None if plan is None else plan.subsets,
        planned_rows=None if plan is None else plan.subset_size,
        **groups,
    )


def penalty_note(name: str, penalty: Penalty) -> Note:
    """A tuned penalty at the end of its grid."""
    values: Values = {"penalty": name, "alpha": penalty.value, "low": penalty.grid[0], "high": penalty.grid[-1]}
    return Note("penalty_at_edge", values)


@dataclass(frozen=True, slots=True)
class Twin:
    """The supervised twin at the floor: on the training rows, on the test rows if its features have them."""

    train: Outcome
    test: Outcome | None
    above: float
    fits: tuple[FitRecord, ...]
    n_features: int
    constant: int


def _judge_twin(features: Features, task: Task, floor: float, method: Method, report: Report, solvers: Solvers) -> Twin:
    fitter = Fitter(features, task.labels, task.n_classes, method, report, solvers)
    design = fitter.design(fitter.moments(task.train_rows))
    above, weak = floor_fits(fitter, "supervised_floor", design, task.train_rows, floor, None, None)
    return twin_of(fitter, design, weak.probe, fitter.train_error(above, task.train_rows), task)


def twin_of(fitter: Fitter, design: "_core.Design", probe: "_core.LinearProbe", above: float, task: Task) -> Twin:
    """Judge a twin's probe."""
    whole = fitter.features.n_rows == task.features.n_rows
    return Twin(
        train=fitter.outcome(probe, task.train_rows),
        test=fitter.outcome(probe, task.test_rows) if whole else None,
        above=above,
        fits=tuple(fitter.fits),
        n_features=fitter.features.n_features,
        constant=len(design.constant),
    )


# --- cells


def planned_cells(task: Task, settings: Settings, method: Method) -> Plan:
    n, m = len(task.train_rows), len(task.test_rows)
    products = n * task.features.n_features * task.n_classes
    costly = method.probe == "logistic"
    subsets = settings.n_subsets or (1 if costly and products > ONE_SUBSET_PRODUCTS else 3)
    judged = settings.tuning_folds or (1 if costly and products > ONE_FOLD_PRODUCTS else settings.n_folds)
    size = settings.subset_size or min(m, int(MAX_SHARE * n) // subsets)
    midpoint = not (costly and products > MIDPOINT_PRODUCTS) if settings.midpoint is None else settings.midpoint
    return Plan(settings.n_folds, judged, subsets, size, midpoint)


def draw_cells(task: Task, settings: Settings, method: Method, plan: Plan) -> tuple[np.ndarray, int]:
    """Cell of each row (folds, then subsets), and the number of subsets."""
    train = task.train_rows
    if task.groups is not None:
        return _core.assign_cells_by_group(
            sample_keys(task.group_names, method.seed),
            task.groups.astype(np.uint32),
            train,
            task.labels,
            n_folds=settings.n_folds,
            n_subsets=plan.subsets,
            subset_size=plan.subset_size,
        )
    n_present = len(np.unique(task.labels[train]))
    if plan.subset_size < n_present:
        raise ParameterError(
            f"{len(train)} training rows give held-out subsets of {plan.subset_size} rows, fewer than the "
            f"{n_present} classes; give more rows or fewer splits"
        )
    keys = sample_keys(task.sample_ids, method.seed)
    cells = _core.assign_cells(
        keys, train, task.labels, n_folds=settings.n_folds, n_subsets=plan.subsets, subset_size=plan.subset_size
    )
    return cells, plan.subsets


def notes_on_plan(plan: Plan, subsets: int) -> list[Note]:
    """What came of the plan of folds and held-out subsets."""
    notes = []
    if plan.folds_judged < plan.folds:
        notes.append(Note("few_folds_judged", {"judged": plan.folds_judged, "folds": plan.folds}))
    if subsets < plan.subsets:
        notes.append(Note("fewer_subsets", {"subsets": subsets, "wanted": plan.subsets}))
    return notes


def _notes_on_cells(task: Task, cells: np.ndarray, subsets: int, plan: Plan) -> list[Note]:
    notes, folds = notes_on_plan(plan, subsets), plan.folds
    if task.groups is None:
        return notes
    own, labels = cells[task.train_rows], task.labels[task.train_rows]
    counts = np.bincount(labels, minlength=task.n_classes).astype(float)
    for j in range(subsets):
        rest = np.bincount(labels[own != folds + j], minlength=task.n_classes)
        with np.errstate(divide="ignore", invalid="ignore"):
            moved = np.where(counts > 0, np.abs(rest / rest.sum() / (counts / counts.sum()) - 1), 0)
        if moved.max() > MOVED_SHARE:
            c = int(moved.argmax())
            values: Values = {"subset": j + 1, "class_name": task.class_names[c], "percent": 100 * float(moved.max())}
            notes.append(Note("shares_moved", values))
    lacking: set[int] = set()
    for fold in range(folds):
        others = np.unique(labels[(own < folds) & (own != fold)])
        lacking |= set(np.unique(labels[own == fold]).tolist()) - set(others.tolist())
    if lacking:
        notes.append(Note("folds_lack_classes", {"classes": len(lacking)}))
    return notes
