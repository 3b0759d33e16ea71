"""What the choice of the penalty adds to how much a risk varies: another sample of training rows chooses another one.

V_P is at the penalty that was tuned. Penalties that held-out rows hardly tell apart may differ by much on test rows
that are unlike training rows. With p_a the chance of each penalty and e_a the error of its probe,

    V_choice = Σ p_a (e_a − ē)²,   ē = Σ p_a e_a,

on test rows and on held-out rows, less the noise of these rows, and the covariance of the two; the probes are those of
one fold, so that they differ by the penalty alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ssl_risk_rs._notes import Note
from ssl_risk_rs.decomposition.units import Units
from ssl_risk_rs.decomposition.variation import fold_outcomes, lacked_by_folds
from ssl_risk_rs.results.judgements import Judgements, Outcome
from ssl_risk_rs.results.metrics import ERROR, Metric, row_values, row_weights
from ssl_risk_rs.results.record import ProbeVariation

__all__ = ["NO_CHOICE", "Choice", "choice_of", "contrast_choice"]

#: chance from which a penalty is counted among those that held-out rows hardly tell apart
LIKELY = 0.05
#: a variance no larger is that of equal errors
ROUNDING = 1e-15
NO_CHOICE = ProbeVariation.alike(0.0)


@dataclass(frozen=True, slots=True)
class Choice:
    """Penalties that samples of training rows would choose, by the probes of one fold.

    chances : of α* and the others, (penalties,); on_test, on_held : scores of the rows, (penalties, rows), whose means
    are the risks
    """

    chances: np.ndarray
    on_test: np.ndarray
    on_held: np.ndarray

    def variation(self, test: Units, held: Units) -> ProbeVariation:
        """How much errors vary with the choice, less the noise of the rows that tell the probes apart."""
        of_test, of_held = self._between(self.on_test, test), self._between(self.on_held, held)
        both = float(self.chances @ (self._apart(self.on_test).mean(1) * self._apart(self.on_held).mean(1)))
        most = math.sqrt(of_test * of_held)
        return ProbeVariation(of_test, of_held, min(max(both, -most), most))

    def less_all(self, test: np.ndarray, held: np.ndarray) -> "Choice":
        """Of some test rows and held-out rows (bool), less all of them: scores whose means are the differences."""
        own = (rows / max(rows.mean(), 1 / len(rows)) - 1 for rows in (test, held))
        return Choice(self.chances, *(scores * w for scores, w in zip((self.on_test, self.on_held), own, strict=True)))

    def note(self) -> Note:
        """How far the probes of penalties that held-out rows hardly tell apart differ on test rows."""
        errors = 100 * self.on_test.mean(1)[self.chances >= LIKELY]
        return Note("penalties_differ", {"count": len(errors), "low": float(errors.min()), "high": float(errors.max())})

    def equals(self, other: "Choice") -> bool:
        """Whether the same probes would be chosen as often."""
        mine, others = ((c.chances, c.on_test, c.on_held) for c in (self, other))
        return all(np.array_equal(a, b) for a, b in zip(mine, others, strict=True))

    def _apart(self, scores: np.ndarray) -> np.ndarray:
        return np.asarray(scores - self.chances @ scores)

    def _between(self, scores: np.ndarray, units: Units) -> float:
        apart = self._apart(scores)
        by_unit = units.summed(apart.T) / apart.shape[1]  # (units, penalties)
        g = len(by_unit)
        noise = g / (g - 1) * ((by_unit - by_unit.mean(0)) ** 2).sum(0) if g > 1 else 0.0
        found = float(self.chances @ (apart.mean(1) ** 2 - noise))
        return found if found > ROUNDING else 0.0


def choice_of(judged: Judgements, metric: Metric = ERROR, *, fitted: Judgements | None = None) -> Choice | None:
    """The penalties that other samples would choose; None where there is one, or what the metric reads was not kept.

    Errors are not smoothed: margins of two penalties differ in size. `fitted` as in `probe_variation`.
    """
    at_best = fold_outcomes(judged.fold_margins, judged.fold_losses, judged.fold_ranks, metric)
    on_held = fold_outcomes(judged.fold_margins_held, judged.fold_losses_held, judged.fold_ranks_held, metric)
    if judged.penalty_chances is None or not judged.other_penalties or at_best is None or on_held is None:
        return None
    if not judged.in_subset.any():
        return None
    lacked = lacked_by_folds(fitted or judged, 1)[0]

    def scored(outcomes: Sequence[Outcome], labels: np.ndarray) -> np.ndarray:
        weights = row_weights(metric, labels, len(judged.class_names))
        scores = np.stack([len(labels) * weights * row_values(metric, outcome, weights) for outcome in outcomes])
        # a loss without bound, of a class that the fold's probe does not know, says nothing of the penalty
        return scores if math.isfinite(metric.high) else np.where(lacked[labels], 0.0, scores)

    held_labels = judged.train_labels[judged.in_subset]
    return Choice(
        judged.penalty_chances,
        scored((at_best[0], *judged.other_penalties), judged.test_labels),
        scored((on_held[0], *judged.other_penalties_held), held_labels),
    )


def contrast_choice(
    choices: Sequence[Choice | None], signs: Sequence[float], test: Units, held: Units
) -> ProbeVariation:
    """What the choice of penalties adds to a signed sum of encoders' errors, each of which has a penalty of its own.

    Encoders whose probes do the same at each penalty choose the same. Of others nothing is kept that says how far they
    choose alike: their variances add up, which is too much where they do.
    """
    alike: list[tuple[Choice, float]] = []
    for choice, sign in zip(choices, signs, strict=True):
        if choice is None:
            continue
        at = next((i for i, (other, _) in enumerate(alike) if choice.equals(other)), None)
        if at is None:
            alike.append((choice, sign))
        else:
            alike[at] = alike[at][0], alike[at][1] + sign
    found = NO_CHOICE
    for choice, sign in alike:
        own = choice.variation(test, held)
        found = found.plus(ProbeVariation(*(sign**2 * v for v in (own.test, own.held, own.both))))
    return found
