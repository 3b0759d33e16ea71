"""Losses of judged rows whose targets are numbers or labels: their mean over rows is 1 − R², or 1 − AUROC."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ssl_risk_rs._class_names import shown
from ssl_risk_rs._notes import Note, Values
from ssl_risk_rs.decomposition.task import Task
from ssl_risk_rs.errors import ParameterError
from ssl_risk_rs.results.judgements import Outcome

__all__ = ["Auroc", "Squared", "check_targets", "judgeable", "outcome_of", "scorer_of"]

#: rows with and without a label from which its area can be judged, and has a variance
LEAST = 2


@dataclass(frozen=True, slots=True)
class Squared:
    """Mean over targets of (y − ŷ)² in units of the target's variance over the training rows: 1 is predicting their
    mean, and the mean over training rows is 1 − R².

    targets : (n, k); mean, variance : of the training rows, (k,)
    """

    targets: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    metric = "r2"

    def losses(self, predicted: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """float64 (m,)"""
        return np.asarray(((self.targets[rows] - predicted) ** 2 / self.variance).mean(1))

    def unit(self, rows: np.ndarray, predicted: np.ndarray, judged: np.ndarray) -> np.ndarray:
        """`Judgements.unit` of the training rows, float32 (m,): each target weighs as its part of the risk of
        `predicted`, (m', k), on the rows `judged`."""
        risks = ((self.targets[judged] - predicted) ** 2 / self.variance).mean(0)
        weights = risks / risks.sum() if risks.any() else np.full(len(risks), 1 / len(risks))
        excess = (self.targets[rows] - self.mean) ** 2 / self.variance - 1
        return np.asarray((excess @ weights).astype(np.float32))

    def over_sets(self, predicted: Sequence[np.ndarray], sets: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Losses of sets of rows, each judged by a probe of its own."""
        return [self.losses(scores, rows) for scores, rows in zip(predicted, sets, strict=True)]

    def chance(self, rows: np.ndarray) -> float:
        """The risk of predicting the mean of the training rows."""
        return float(self.losses(np.broadcast_to(self.mean, self.targets[rows].shape), rows).mean())


@dataclass(frozen=True, slots=True)
class Auroc:
    """1 − area under the ROC curve, the mean over the labels that at least two of the rows have and two lack.

    A label's area is a mean over pairs of a row with it and one without it (a U-statistic). The loss of a row is the
    mean area less, for each label, how far the row's own part of the area is off its mean, so that losses have
    the area's mean and DeLong's variance (DeLong et al. 1988).

    targets : 0 or 1, (n, k)
    """

    targets: np.ndarray
    metric = "auroc"

    def losses(self, predicted: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """float64 (m,); NaN where no label can be judged."""
        return self.over_sets([predicted], [rows])[0]

    def over_sets(self, predicted: Sequence[np.ndarray], sets: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Losses of sets of rows, each judged by a probe of its own; the mean of the sets' means is the risk.

        Each label is averaged over the sets that can judge it, then labels are: a rare label that one set lacks
        would otherwise change what the risk is of.
        """
        judged = np.stack([self._judged(rows) for rows in sets])  # (sets, k)
        times = judged.sum(0)
        k = int((times > 0).sum())
        risk, parts = 0.0, [np.zeros(len(rows)) for rows in sets]
        for j, (scores, rows) in enumerate(zip(predicted, sets, strict=True)):
            y = self.targets[rows] > 0
            for c in np.flatnonzero(judged[j]).tolist():
                area, off = _area(scores[:, c], y[:, c])
                risk += (1 - area) / (times[c] * k)
                parts[j] -= off * len(sets) / (times[c] * k)
        return [part + (risk if k else np.nan) for part in parts]

    def _judged(self, rows: np.ndarray) -> np.ndarray:
        """bool (k,): labels that the rows can judge."""
        return judged_labels(self.targets, rows)

    def unit(self, rows: np.ndarray, predicted: np.ndarray, judged: np.ndarray) -> None:
        """Areas have no unit that varies with the rows."""

    def chance(self, rows: np.ndarray) -> float:
        """The risk of a constant score."""
        return 0.5


def _area(scores: np.ndarray, has: np.ndarray) -> tuple[float, np.ndarray]:
    """Area under the ROC curve, and by how much each row's part of it is off the mean, (m,), scaled so that the
    sum of squares over m² is the area's variance."""
    n, count = len(has), int(has.sum())
    above = np.empty(n)
    above[has] = 1 - _wrong_side(scores[has], np.sort(scores[~has]))
    above[~has] = _wrong_side(scores[~has], np.sort(scores[has]))
    area = float(above[has].mean())
    own = np.where(has, count, n - count)
    return area, (above - area) * (n / own) * np.sqrt(own / (own - 1))


def _wrong_side(scores: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Share of `others`, ascending, that score above each of `scores`; equal scores count half."""
    below = np.searchsorted(others, scores, "left") + np.searchsorted(others, scores, "right")
    return np.asarray(1 - below / (2 * len(others)))


def outcome_of(losses: np.ndarray) -> Outcome:
    """Losses as a judged set keeps them; rows of numbers have no class, rank or margin."""
    none = np.zeros(len(losses), np.uint32)
    return Outcome(none, none, losses.astype(np.float32), np.zeros(len(losses), np.float32))


def judged_labels(targets: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """bool (k,): labels that at least two of the rows have, and two lack."""
    count = (targets[rows] > 0).sum(0)
    return np.asarray((count >= LEAST) & (len(rows) - count >= LEAST))


def check_targets(task: Task) -> None:
    """Raise ParameterError for a target that is constant on the training rows, as a label is that none or all have."""
    assert task.targets is not None  # a task of classes has none
    train = task.targets[task.train_rows]
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        spread = train.var(0)
    if (extreme := np.flatnonzero(~np.isfinite(spread) | ((spread == 0) & (train.min(0) < train.max(0))))).size:
        name, size = task.target_names[extreme[0]], np.abs(train[:, extreme[0]]).max()
        raise ParameterError(
            f"the target {name!r} has values of up to {size:g}, whose squares are no double precision numbers: give "
            "it in another unit"
        )
    still = np.flatnonzero(train.min(0) == train.max(0))  # the mean of equal numbers rounds: their variance is not 0
    if not len(still):
        return
    name, value = task.target_names[still[0]], train[0, still[0]]
    if task.target_kind == "labels":
        which = "every" if value > 0 else "no"
        raise ParameterError(f"{which} training row has the label {name!r}: leave it out, it cannot be learned")
    raise ParameterError(
        f"the target {name!r} is {value:g} in every training row: there is nothing to predict; leave it out"
    )


def scorer_of(task: Task) -> Squared | Auroc:
    """What judges the task's targets."""
    assert task.targets is not None  # a task of classes has none
    if task.target_kind == "labels":
        return Auroc(task.targets)
    train = task.targets[task.train_rows]
    return Squared(task.targets, train.mean(0), train.var(0))


def judgeable(task: Task, held: Sequence[np.ndarray]) -> tuple[Task, tuple[Note, ...]]:
    """The task without labels that the test rows or all of the held-out subsets cannot judge, and a note on them: every
    risk is of the same labels.

    Raises
    ------
    ParameterError if no label is left.
    """
    assert task.targets is not None  # a task of classes has none
    if task.target_kind != "labels":
        return task, ()
    kept = judged_labels(task.targets, task.test_rows)
    kept &= np.any([judged_labels(task.targets, rows) for rows in held], axis=0)
    if kept.all():
        return task, ()
    names = tuple(name for name, keep in zip(task.target_names, kept.tolist(), strict=True) if keep)
    if not names:
        by_test_rows = bool(judged_labels(task.targets, task.test_rows).any())
        fewer = ", or fewer splits" if len(held) > 1 and by_test_rows else ""
        raise ParameterError(
            f"none of the {len(kept)} labels can be judged: each is on fewer than {LEAST} test rows, or rows of a "
            f"held-out subset (they have {len(held[0])}), or on all but so few; give more rows{fewer}"
        )
    left_out = [name for name in task.target_names if name not in names]
    values: Values = {"count": len(left_out), "total": len(kept), "examples": shown(left_out)}
    return replace(task, targets=task.targets[:, kept], target_names=names), (Note("labels_left_out", values),)
