"""Signed sums of decompositions whose training rows differ: rows that several have in common still cancel.

As in `paired`, a risk is a sum of row scores. Here the centred scores of each decomposition are summed by sample id,
with signs, before they are squared: a row that two decompositions judged alike cancels, one that only a single one has
counts in full. The probes' own variation is paired between decompositions of the same rows, and summed, which is too
much if anything, between others. Rows are independent; there are no groups.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ssl_risk_rs._inference import quantile, two_sided
from ssl_risk_rs.decomposition.intervals import FEW_ROWS, MUCH_TOO_OPTIMISTIC
from ssl_risk_rs.decomposition.scores import RowScores
from ssl_risk_rs.decomposition.variation import ProbeScores, contrast_probe_variance, optimism
from ssl_risk_rs.results.estimate import Grade
from ssl_risk_rs.results.judgements import Judgements
from ssl_risk_rs.results.matched_labels import Gap
from ssl_risk_rs.results.quantities import IN_SAMPLE, PROBE_RISKS, QUANTITIES
from ssl_risk_rs.results.run import Decomposition

__all__ = ["Judge", "gap"]


@dataclass(frozen=True)
class Judge:
    """A decomposition with its row scores, made once for all quantities."""

    result: Decomposition
    judged: Judgements
    rows: RowScores
    factors: dict[str, float]

    @classmethod
    def of(cls, result: Decomposition) -> "Judge":
        """Row scores as `quantify` makes them."""
        judged = result.judgements
        assert judged is not None  # it was made here
        rows = RowScores(judged, corrected=True, random_counts=False)
        logistic = result.method.probe == "logistic"
        return cls(result, judged, rows, {n: optimism(judged, n) if logistic else 1.0 for n in rows.names})

    def weights(self, quantity: str, *, scaled: bool) -> np.ndarray:
        """Coefficients on the risks; `scaled`: times the roots of the factors of optimistic training errors."""
        found = np.array([QUANTITIES[quantity].weights.get(name, 0.0) for name in self.rows.names])
        if scaled:
            found = found * [math.sqrt(f) if math.isfinite(f := self.factors[n]) else 1.0 for n in self.rows.names]
        return found

    def scores(self, quantity: str, *, scaled: bool) -> tuple[np.ndarray, np.ndarray]:
        """Ids and centred scores of all judged rows; ids of test rows are marked, as training rows may share them."""
        weights, held = self.weights(quantity, scaled=scaled), self.judged.in_subset
        ids = (self.judged.train_ids[held], self.judged.train_ids[~held], self.judged.test_ids)
        marked = [np.char.add(mark, part) for mark, part in zip((b"r", b"r", b"t"), ids, strict=True)]
        values = [self.rows.unit_scores[name] @ weights for name in ("subset", "rest", "test")]
        return np.concatenate(marked), np.concatenate(values)


def gap(pairs: Sequence[tuple[float, Judge, Judge]], quantity: str, confidence: float) -> Gap:
    """Σ sign · (second − first) over pairs of decompositions, with its interval."""
    in_sample = set(QUANTITIES[quantity].weights) <= set(IN_SAMPLE)
    terms = [(s, j) for sign, first, second in pairs for s, j in ((-sign, first), (sign, second))]
    ids, values = [], []
    for sign, judge in terms:
        its_ids, scores = judge.scores(quantity, scaled=in_sample)
        ids.append(its_ids)
        values.append(sign * scores)
    _, unit = np.unique(np.concatenate(ids), return_inverse=True)
    summed = np.bincount(unit.ravel(), weights=np.concatenate(values))
    rows = float(np.square(summed).sum())
    moved = sum(w for risk, w in QUANTITIES[quantity].weights.items() if risk in PROBE_RISKS)
    own, parts = 0.0, 0.0
    for _, first, second in pairs if moved else ():
        for variance, df in _of_probes(first, second):
            own += variance * moved**2
            parts += (variance * moved**2) ** 2 / df
    variance = rows + own
    df = max(1.0, variance**2 / parts) if parts > 0 else math.inf
    value = sum(sign * float(j.weights(quantity, scaled=False) @ j.rows.risks) for sign, j in terms)
    # rounding of scores that cancel leaves 1e-17
    told_apart = int(np.count_nonzero(np.abs(summed) > 1e-12))
    guard = _guard([j for _, j in terms], quantity) if told_apart else 0.0
    total = math.sqrt(variance + guard)
    half = quantile(0.5 + confidence / 2, df) * total
    grade = Grade.FEW_ROWS if told_apart < FEW_ROWS else Grade.SOUND
    if in_sample and max(j.factors[risk] for _, j in terms for risk in QUANTITIES[quantity].weights) > (
        MUCH_TOO_OPTIMISTIC
    ):
        grade = Grade.INDICATIVE
    p = two_sided(value, total, df) if total > 0 else 1.0  # no row tells them apart
    return Gap(quantity, value, math.sqrt(variance), value - half, value + half, p, grade)


def _guard(judges: Sequence[Judge], quantity: str) -> float:
    """Σ 1/n², as in a comparison of the same rows, of the decomposition with the fewest."""
    each = QUANTITIES[quantity]
    found = 0.0
    for which in each.guards or (each.rows,):
        sizes = [{"train": j.rows.n, "subset": j.rows.n_subset, "test": j.rows.n_test,
                  "draws": j.judged.n_subsets * j.rows.n_test}[which] for j in judges]  # fmt: skip
        found += 1 / min(sizes) ** 2
    return found


def _of_probes(first: Judge, second: Judge) -> list[tuple[float, float]]:
    """Variance, and its degrees of freedom, that the probes' own variation adds to second − first: paired where both
    have the same rows in one order, else of each by itself."""
    one, two = first.judged, second.judged
    probes = [ProbeScores(one), ProbeScores(two)]
    if np.array_equal(one.train_ids, two.train_ids) and np.array_equal(one.test_ids, two.test_ids):
        found = [contrast_probe_variance(probes, (-1, 1), first.rows.test_units)]
    else:
        found = [
            contrast_probe_variance([p], (1,), j.rows.test_units) for p, j in zip(probes, (first, second), strict=True)
        ]
    return [(variance, df) for variance, df in found if variance > 0]  # NaN: it could not be estimated
