"""Losses of judged rows whose targets are numbers or labels: their mean over rows is 1 − R², or 1 − AUROC."""

from dataclasses import dataclass

import numpy as np

from ssl_risk_rs._notes import Note
from ssl_risk_rs.decomposition.task import Task
from ssl_risk_rs.errors import ParameterError
from ssl_risk_rs.results.judgements import Outcome

__all__ = ["Auroc", "Squared", "outcome_of", "scorer_of"]


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

    def chance(self, rows: np.ndarray) -> float:
        """The risk of predicting the mean of the training rows."""
        return float(self.losses(np.broadcast_to(self.mean, self.targets[rows].shape), rows).mean())


@dataclass(frozen=True, slots=True)
class Auroc:
    """1 − area under the ROC curve, the mean over the labels that some of the rows have and some lack.

    A label's area is a mean over pairs of a row with it and one without it (a U-statistic). The loss of a row holds its
    own part: how many of the other kind it is on the wrong side of, less the mean of that, weighed so that the
    losses have the area's mean and its first-order variance (DeLong et al. 1988).

    targets : 0 or 1, (n, k)
    """

    targets: np.ndarray
    metric = "auroc"

    def losses(self, predicted: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """float64 (m,)"""
        y = self.targets[rows] > 0
        n = len(y)
        found, judged = np.zeros(n), 0
        for has, score in zip(y.T, predicted.T, strict=True):
            count = int(has.sum())
            if not 0 < count < n:
                continue
            judged += 1
            own = np.empty(n)
            own[has] = _wrong_side(score[has], np.sort(score[~has]))
            own[~has] = 1 - _wrong_side(score[~has], np.sort(score[has]))
            risk = own[has].mean()
            share = np.where(has, n / count, n / (n - count))
            found += risk + share * (own - risk)
        return found / judged if judged else np.full(n, np.nan)

    def lacking(self, rows: np.ndarray) -> int:
        """Labels that all of the rows have, or none."""
        share = (self.targets[rows] > 0).mean(0)
        return int(((share == 0) | (share == 1)).sum())

    def chance(self, rows: np.ndarray) -> float:
        """The risk of a constant score."""
        return 0.5


def _wrong_side(scores: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Share of `others`, ascending, that score above each of `scores`; equal scores count half."""
    below = np.searchsorted(others, scores, "left") + np.searchsorted(others, scores, "right")
    return np.asarray(1 - below / (2 * len(others)))


def outcome_of(losses: np.ndarray) -> Outcome:
    """Losses as a judged set keeps them; rows of numbers have no class, rank or margin."""
    none = np.zeros(len(losses), np.uint32)
    return Outcome(none, none, losses.astype(np.float32), np.zeros(len(losses), np.float32))


def scorer_of(task: Task) -> tuple[Squared | Auroc, tuple[Note, ...]]:
    """What judges the task's targets, and what a reader should know of them.

    Raises
    ------
    ParameterError for a target that is constant on the training rows, a label that none or all of them have.
    """
    assert task.targets is not None  # a task of classes has none
    train, k = task.targets[task.train_rows], len(task.target_names)
    still = np.flatnonzero(train.min(0) == train.max(0))  # the mean of equal numbers rounds: their variance is not 0
    if len(still):
        name, value = task.target_names[still[0]], train[0, still[0]]
        if task.target_kind == "labels":
            which = "every" if value > 0 else "no"
            raise ParameterError(f"{which} training row has the label {name!r}: leave it out, it cannot be learned")
        raise ParameterError(
            f"the target {name!r} is {value:g} in every training row: there is nothing to predict; leave it out"
        )
    if task.target_kind == "numbers":
        return Squared(task.targets, train.mean(0), train.var(0)), ()
    scorer = Auroc(task.targets)
    lacking = scorer.lacking(task.test_rows)
    if lacking == k:
        raise ParameterError(f"each of the {k} labels has every test row or none: no ROC curve can be drawn")
    notes = (Note("labels_without_rows", {"labels": lacking, "total": k}),) if lacking else ()
    return scorer, notes
