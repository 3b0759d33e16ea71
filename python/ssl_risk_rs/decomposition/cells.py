"""Which training rows tune and which are held out: folds and subsets, planned by the data's size and drawn by id."""

from dataclasses import dataclass
from math import ceil

import numpy as np
from jaxtyping import UInt8

from ssl_risk_rs import _core
from ssl_risk_rs._names import counted
from ssl_risk_rs._notes import Note, Values
from ssl_risk_rs._splits import sample_keys
from ssl_risk_rs.decomposition.settings import Settings, products_of_pass
from ssl_risk_rs.decomposition.task import Task
from ssl_risk_rs.errors import ParameterError
from ssl_risk_rs.results.judgements import Judgements
from ssl_risk_rs.results.record import Method

__all__ = ["CellPlan", "Cells", "draw_cells", "notes_on_cells", "notes_on_plan", "plan_cells"]

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
class CellPlan:
    """How many folds there are and are judged, how many subsets are held out, and rows of each.

    too_small : subsets that were left out, since with them each would have fewer rows than there are classes
    """

    folds: int
    folds_judged: int
    subsets: int
    subset_size: int
    midpoint: bool
    too_small: int = 0


@dataclass(frozen=True, slots=True)
class Cells:
    """The cell of each row: folds are numbered first, then held-out subsets.

    of_row : uint8 (n,); folds, subsets : how many there are
    """

    of_row: UInt8[np.ndarray, " n"]
    folds: int
    subsets: int

    @classmethod
    def of(cls, judged: Judgements, folds: int) -> "Cells":
        """Those of the training rows of a decomposition."""
        cells = np.where(judged.in_subset, folds + judged.subset.astype(np.int16), judged.fold)
        return cls(cells.astype(np.uint8), folds, judged.n_subsets)

    @property
    def every(self) -> list[int]:
        return list(range(self.folds + self.subsets))

    def complement(self, j: int) -> list[int]:
        """All cells but that of held-out subset j."""
        return [cell for cell in self.every if cell != self.folds + j]

    def held_out(self, rows: np.ndarray, j: int | None = None) -> np.ndarray:
        """Those of these rows that are in held-out subset j, or in any."""
        subset = self.fold_and_subset(rows)[1]
        return np.asarray(rows[subset >= 0 if j is None else subset == j])

    def others(self, rows: np.ndarray, j: int) -> np.ndarray:
        """Those of these rows that are not in held-out subset j."""
        return np.asarray(rows[self.of_row[rows] != self.folds + j])

    def fold_and_subset(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Number of the fold and of the subset of each of these rows, int8, −1 where it is in none."""
        cells = self.of_row[rows].astype(np.int16)
        fold = np.where(cells < self.folds, cells, -1).astype(np.int8)
        return fold, np.where(cells >= self.folds, cells - self.folds, -1).astype(np.int8)


def plan_cells(task: Task, settings: Settings, method: Method) -> CellPlan:
    """What is asked for, or suits the size of the data."""
    n, m = len(task.train_rows), len(task.test_rows)
    products = products_of_pass(n, task.features.n_features, task.n_classes)
    costly = method.probe == "logistic"
    subsets = settings.n_subsets or (1 if costly and products > ONE_SUBSET_PRODUCTS else 3)
    judged = settings.tuning_folds or (1 if costly and products > ONE_FOLD_PRODUCTS else settings.n_folds)
    planned, classes = subsets, len(np.unique(task.labels[task.train_rows]))
    # groups hold more rows than are planned, and have a rule of their own
    if settings.n_subsets is None and settings.subset_size is None and task.groups is None:
        while subsets > 1 and _size(n, m, subsets) < classes <= _size(n, m, 1):
            subsets -= 1
    size = settings.subset_size or _size(n, m, subsets)
    midpoint = not (costly and products > MIDPOINT_PRODUCTS) if settings.midpoint is None else settings.midpoint
    return CellPlan(settings.n_folds, judged, subsets, size, midpoint, planned - subsets)


def _size(n: int, m: int, subsets: int) -> int:
    """Rows of each held-out subset."""
    return min(m, int(MAX_SHARE * n) // subsets)


def draw_cells(task: Task, settings: Settings, method: Method, plan: CellPlan) -> Cells:
    """The cells of a task; of groups there may be fewer subsets than are planned."""
    train = task.train_rows
    if task.groups is not None:
        cells, subsets = _core.assign_cells_by_group(
            sample_keys(task.group_names, method.seed),
            task.groups.astype(np.uint32),
            train,
            task.labels,
            n_folds=settings.n_folds,
            n_subsets=plan.subsets,
            subset_size=plan.subset_size,
        )
        own = cells[train]
        if len(np.unique(own[own < plan.folds])) < 2:
            n_groups = len(np.unique(task.groups[train]))
            raise ParameterError(
                f"{counted(n_groups, 'group')} of training rows {'is' if n_groups == 1 else 'are'} too few: one is "
                "held out, and those that the penalty is tuned on are two or more. Give more groups, or leave them out"
            )
        return Cells(cells, plan.folds, subsets)
    n_present = len(np.unique(task.labels[train]))
    if plan.subset_size < n_present:
        raise ParameterError(
            f"{len(train):,} training and {len(task.test_rows):,} test rows give held-out subsets of "
            f"{counted(plan.subset_size, 'row')}, fewer than the {n_present:,} classes; "
            f"{_wider_subsets(task, settings, n_present)}"
        )
    keys = sample_keys(task.sample_ids, method.seed)
    cells = _core.assign_cells(
        keys, train, task.labels, n_folds=settings.n_folds, n_subsets=plan.subsets, subset_size=plan.subset_size
    )
    return Cells(cells, plan.folds, plan.subsets)


def _wider_subsets(task: Task, settings: Settings, classes: int) -> str:
    """What would give each held-out subset, which has no more rows than the test part, as many rows as there are
    classes; unless asked for, one subset will do."""
    if settings.subset_size is not None:
        return f"give a subset_size of {classes:,} or more"
    n, m = len(task.train_rows), len(task.test_rows)
    needed = ceil(classes * (settings.n_subsets or 1) / MAX_SHARE)
    wanted = ([f"{needed:,} training rows"] if n < needed else []) + ([f"{classes:,} test rows"] if m < classes else [])
    advice = f"give {' and '.join(wanted)} or more"
    fit = int(MAX_SHARE * n) // classes
    return advice if m < classes or fit == 0 else f"{advice}, or fewer splits (at most {fit})"


def notes_on_plan(plan: CellPlan, subsets: int) -> list[Note]:
    """What came of the plan of folds and held-out subsets."""
    notes = []
    if plan.folds_judged < plan.folds:
        notes.append(Note("few_folds_judged", {"judged": plan.folds_judged, "folds": plan.folds}))
    if plan.too_small:
        notes.append(Note("small_subsets", {"subsets": plan.subsets, "wanted": plan.subsets + plan.too_small}))
    if subsets < plan.subsets:
        notes.append(Note("fewer_subsets", {"subsets": subsets, "wanted": plan.subsets}))
    return notes


def notes_on_cells(task: Task, cells: Cells, plan: CellPlan) -> list[Note]:
    """`notes_on_plan`, and of groups what they did to the shares of classes."""
    notes = notes_on_plan(plan, cells.subsets)
    if task.groups is None:
        return notes
    counts = np.bincount(task.labels[task.train_rows], minlength=task.n_classes).astype(float)
    for j in range(cells.subsets):
        rest = np.bincount(task.labels[cells.others(task.train_rows, j)], minlength=task.n_classes)
        with np.errstate(divide="ignore", invalid="ignore"):
            lost = np.where(counts > 0, 1 - rest / rest.sum() / (counts / counts.sum()), 0)
        if lost.max() > MOVED_SHARE:
            c = int(lost.argmax())
            values: Values = {"subset": j + 1, "class_name": task.class_names[c], "percent": 100 * float(lost.max())}
            notes.append(Note("shares_moved", values))
    lacking: set[int] = set()
    own, labels, folds = cells.of_row[task.train_rows], task.labels[task.train_rows], cells.folds
    for fold in range(folds):
        others = np.unique(labels[(own < folds) & (own != fold)])
        lacking |= set(np.unique(labels[own == fold]).tolist()) - set(others.tolist())
    if lacking:
        notes.append(Note("folds_lack_classes", {"classes": len(lacking)}))
    return notes
