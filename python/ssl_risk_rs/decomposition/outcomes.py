"""What a protocol hands over, and the parts that every protocol makes of fits and judged rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np

from ssl_risk_rs import _core
from ssl_risk_rs._notes import Note, Values
from ssl_risk_rs.decomposition.cells import CellPlan
from ssl_risk_rs.decomposition.fitting import Fitter, Start
from ssl_risk_rs.decomposition.scores import guessing_error
from ssl_risk_rs.decomposition.task import Task
from ssl_risk_rs.probes.span_solver import AnyDesign
from ssl_risk_rs.results.judgements import Judgements, Outcome
from ssl_risk_rs.results.record import FitRecord, Floor, Penalty, Sizes

__all__ = [
    "ProtocolResult", "Twin", "in_row_order", "penalty_note", "rows_of", "sizes_of", "twin_of", "union_outcome",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class ProtocolResult:
    """What a protocol hands over."""

    judgements: Judgements
    sizes: Sizes
    penalties: dict[str, Penalty]
    floor: Floor
    fits: tuple[FitRecord, ...]
    notes: tuple[Note, ...]


@dataclass(frozen=True, slots=True)
class Twin:
    """The supervised twin at the floor: on the training rows, on the test rows if its features have them."""

    train: Outcome
    test: Outcome | None
    above: float
    fits: tuple[FitRecord, ...]
    n_features: int
    constant: int


def twin_of(fitter: Fitter, design: AnyDesign, probe: "_core.LinearProbe", above: float, task: Task) -> Twin:
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


def union_outcome(
    fitter: Fitter, task: Task, alpha: float, start: Start | None, like: AnyDesign, *, absolute: bool = False
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
    design: AnyDesign,
    twin: "Twin | None",
    plan: CellPlan | None,
) -> Sizes:
    """Counts of everything; without a plan, as under the paper's protocol, there are no folds."""
    groups: dict[str, Any] = {}
    if judged.train_groups is not None and judged.test_groups is not None:
        groups = {
            "groups_train": len(np.unique(judged.train_groups)),
            "groups_subset": len(np.unique(judged.train_groups[judged.in_subset])),
            "groups_test": len(np.unique(judged.test_groups)),
        }
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
        chance=guessing_error(judged.train_labels, judged.test_labels),
        planned_subsets=None if plan is None else plan.subsets,
        planned_rows=None if plan is None else plan.subset_size,
        **groups,
    )


def penalty_note(name: str, penalty: Penalty) -> Note:
    """A tuned penalty at the end of its grid."""
    values: Values = {"penalty": name, "alpha": penalty.value, "low": penalty.grid[0], "high": penalty.grid[-1]}
    return Note("penalty_at_edge", values)
