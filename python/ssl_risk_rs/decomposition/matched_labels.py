"""Encoders at equal class counts: which part of a gap goes with the number of training rows.

Every class is cut to as many rows as the encoder with the fewest has of it. Rows that all encoders have, by sample id,
are taken first, and rows in the order of their split keys: smaller numbers of rows are nested in larger ones, and two
encoders with the same rows are left with the same rows. Each is then decomposed as the whole is.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ssl_risk_rs._splits import sample_keys
from ssl_risk_rs.decomposition.contrasts import ScoredResult
from ssl_risk_rs.decomposition.decomposing import decompose_task
from ssl_risk_rs.decomposition.loose import gap
from ssl_risk_rs.decomposition.settings import Settings
from ssl_risk_rs.decomposition.task import Task
from ssl_risk_rs.errors import NotComparableError, ParameterError
from ssl_risk_rs.events import Report, within
from ssl_risk_rs.results.compare import no_classes
from ssl_risk_rs.results.matched_labels import LabelLevel, LabelPart, MatchedLabels
from ssl_risk_rs.results.quantities import components

__all__ = ["match_labels"]

_QUANTITIES = (*components(supervised=False), "agg_risk")


def match_labels(
    tasks: Sequence[Task],
    names: Sequence[str],
    counts: Sequence[int],
    *,
    settings: Settings,
    confidence: float | None = None,
    report: Report | None = None,
) -> MatchedLabels:
    """Compare encoders at equal class counts.

    Parameters
    ----------
    tasks : two or more encoders' features; the same test rows, training rows of their own; the first is the baseline
    counts : numbers of training rows, ascending; those beyond the rows that all can have are replaced by that number,
        which is always among them

    Raises
    ------
    ParameterError for the paper's protocol, groups, or a class that one encoder lacks; NotComparableError if test rows
    differ, rows with one id have several labels, or a target is no class; those of `decompose_task`.
    """
    if settings.protocol != "strict":
        raise ParameterError("encoders are matched in labels under --protocol strict only")
    if any(task.groups is not None for task in tasks):
        raise ParameterError(
            "labels are matched by rows, and these rows come in groups: leave out --group, and name "
            "the features of runs that have one"
        )
    for task, name in zip(tasks, names, strict=True):
        if task.targets is not None:
            raise no_classes(name)
    if not counts or min(counts) < 1:
        raise ParameterError(f"numbers of training rows must be positive, got {list(counts)}")
    tasks = [_named(task) for task in tasks]
    _check_labels(tasks, names)
    ordered, common = _ordered(tasks, names, settings.seed or 0)
    most = np.min([[len(rows) for rows in of_task] for of_task in ordered], axis=0)
    grid = sorted({min(count, int(most.sum())) for count in counts} | {int(most.sum())})

    def judged(task: Task, name: str, what: str) -> ScoredResult:
        told = within(report, f"{name}, {what} rows")
        return ScoredResult.of(decompose_task(task, name=name, settings=settings, report=told))

    whole = [judged(task, name, "all") for task, name in zip(tasks, names, strict=True)]
    level = whole[0].result.method.confidence if confidence is None else confidence
    levels, judges = [], list(whole)
    for count in grid:
        per_class = _shared_out(most, count)
        judges = [
            judged(replace(task, train_rows=_first(of_task, per_class)), name, f"{count:,}")
            for task, name, of_task in zip(tasks, names, ordered, strict=True)
        ]
        estimates = tuple(tuple(j.result.estimates[q] for q in _QUANTITIES) for j in judges)
        gaps = tuple(tuple(gap(_less(judges[0], j), q, level) for q in _QUANTITIES) for j in judges[1:])
        levels.append(LabelLevel(count, estimates, gaps))
    parts = [
        LabelPart(
            names[i],
            gap(_less(whole[0], whole[i]), q, level),
            gap(_less(judges[0], judges[i]), q, level),
            gap([*_less(whole[0], whole[i]), *_less(judges[i], judges[0])], q, level),
        )
        for i in range(1, len(tasks))
        for q in _QUANTITIES
    ]
    return MatchedLabels(
        encoders=tuple(names),
        probe=settings.probe,
        confidence=level,
        n_test=len(tasks[0].test_rows),
        n_train=tuple(len(task.train_rows) for task in tasks),
        common=int(np.minimum(most, common).sum()),
        whole=tuple(tuple(j.result.estimates[q] for q in _QUANTITIES) for j in whole),
        levels=tuple(levels),
        parts=tuple(parts),
    )


def _less(first: ScoredResult, second: ScoredResult) -> list[tuple[float, ScoredResult]]:
    """Terms of the second less the first."""
    return [(-1, first), (1, second)]


def _named(task: Task) -> Task:
    """Where rows are named by their numbers, test rows are numbered from 0: other training rows do not move them. Rows
    that were left out, since they have no label, have numbers too."""
    ids = list(task.sample_ids)
    rows = [*task.train_rows.tolist(), *task.test_rows.tolist()]
    left_out = sum(int(note.values["count"]) for note in task.notes if note.code == "unlabelled_dropped")
    numbers = [int(ids[row]) if ids[row].isdecimal() else -1 for row in rows]
    named = [str(number) for number in numbers] == [ids[row] for row in rows]
    if not named or numbers != sorted(set(numbers)) or numbers[-1] >= len(rows) + left_out:
        return task
    first = min(numbers[len(task.train_rows) :])
    for number, row in zip(numbers[len(task.train_rows) :], task.test_rows.tolist(), strict=True):
        ids[row] = f"test {number - first}"
    return replace(task, sample_ids=ids)


def _labels_by_id(task: Task, rows: np.ndarray) -> dict[str, str]:
    return {task.sample_ids[row]: task.class_names[task.labels[row]] for row in rows.tolist()}


def _check_labels(tasks: Sequence[Task], names: Sequence[str]) -> None:
    """Complain unless test rows are the same, and every id has one label."""
    first_train, first_test = (_labels_by_id(tasks[0], rows) for rows in (tasks[0].train_rows, tasks[0].test_rows))
    for task, name in zip(tasks[1:], names[1:], strict=True):
        test = _labels_by_id(task, task.test_rows)
        if test.keys() != first_test.keys():
            other = len(test.keys() ^ first_test.keys())
            raise NotComparableError(
                "test_ids",
                f"{names[0]} and {name} differ in {other:,} test rows: only training rows may differ, so that both are "
                "judged on the same test rows",
            )
        for part, one, two in (("training", first_train, _labels_by_id(task, task.train_rows)),
                               ("test", first_test, test)):  # fmt: skip
            differ = [row for row in one.keys() & two.keys() if one[row] != two[row]]
            if differ:
                raise NotComparableError(
                    f"{'train' if part == 'training' else part}_labels",
                    f"{names[0]} and {name} differ in the label of {len(differ):,} {part} rows with one id, such as "
                    f"{min(differ)!r}. Rows of files without ids are matched by their number: give ids where one has "
                    "fewer rows than the other",
                )


def _ordered(tasks: Sequence[Task], names: Sequence[str], seed: int) -> tuple[list[list[np.ndarray]], np.ndarray]:
    """For each task and class, its training rows: those that all have first, then by key; and how many all have."""
    classes = sorted({task.class_names[c] for task in tasks for c in np.unique(task.labels[task.train_rows])})
    ids = [{task.sample_ids[row] for row in task.train_rows.tolist()} for task in tasks]
    shared = set.intersection(*ids)
    found, common = [], np.zeros(len(classes), np.int64)
    for task, name in zip(tasks, names, strict=True):
        rows = task.train_rows
        own = [task.sample_ids[row] for row in rows.tolist()]
        alone = np.array([i not in shared for i in own])
        order = np.lexsort((sample_keys(own, seed), alone))
        labels = np.array([task.class_names[c] for c in task.labels[rows].tolist()])[order]
        of_task = []
        for place, each in enumerate(classes):
            chosen = order[labels == each]
            if not len(chosen):
                raise ParameterError(f"{name} has no training row of class {each!r}, which another encoder has")
            of_task.append(rows[chosen])
            common[place] = int((~alone[chosen]).sum())
        found.append(of_task)
    return found, common


def _shared_out(most: np.ndarray, count: int) -> np.ndarray:
    """`count` rows in the proportions of `most`, by largest remainders."""
    exact = most * count / most.sum()
    found = np.floor(exact).astype(np.int64)
    for place in np.argsort(found - exact, kind="stable")[: count - int(found.sum())]:
        found[place] += 1
    return np.asarray(found)


def _first(of_task: Sequence[np.ndarray], per_class: np.ndarray) -> np.ndarray:
    """The first rows of each class, ascending."""
    return np.sort(np.concatenate([rows[:n] for rows, n in zip(of_task, per_class.tolist(), strict=True)]))
