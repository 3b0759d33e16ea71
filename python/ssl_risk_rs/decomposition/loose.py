"""Signed sums of decompositions whose training rows differ: rows that several have in common still cancel.

As in `contrasts`, a risk is a sum of row scores. Here the centred scores of each decomposition are summed by sample id,
with signs, before they are squared: a row that two decompositions judged alike cancels, one that only a single one has
counts in full. The probes' own variation is that of the signed sum among decompositions of the same rows, and added,
which is too much if anything, between others. Rows are independent; there are no groups.
"""

import math
from collections.abc import Sequence

import numpy as np

from ssl_risk_rs._inference import critical_value, satterthwaite, two_sided
from ssl_risk_rs.decomposition.contrasts import Contrast, ScoredResult
from ssl_risk_rs.decomposition.grading import grade
from ssl_risk_rs.decomposition.scores import guard
from ssl_risk_rs.results.matched_labels import Gap
from ssl_risk_rs.results.quantities import IN_SAMPLE, QUANTITIES, Quantity

__all__ = ["gap"]

#: scores and standard errors of at most 1 that cancel leave 1e-17
ROUNDING = 1e-12


def gap(terms: Sequence[tuple[float, ScoredResult]], name: str, confidence: float) -> Gap:
    """The quantity `name` of Σ sign · decomposition, with its interval."""
    quantity = QUANTITIES[name]
    in_sample = set(quantity.weights) <= set(IN_SAMPLE)
    ids, values = [], []
    for sign, judged in terms:
        its_ids, scores = _scores(judged, quantity, scaled=in_sample)
        ids.append(its_ids)
        values.append(sign * scores)
    _, unit = np.unique(np.concatenate(ids), return_inverse=True)
    summed = np.bincount(unit.ravel(), weights=np.concatenate(values))
    summed[np.abs(summed) <= ROUNDING] = 0.0
    rows = float(np.square(summed).sum())
    every = [(c.of_probes(quantity), c.own_df) for c in _by_rows(terms)]
    own = [(variance, df) for variance, df in every if variance > ROUNDING**2]
    variance = rows + sum(v for v, _ in own)
    df = satterthwaite([(rows, math.inf), *own])  # independent rows are many
    told_apart = int(np.count_nonzero(summed))
    value = sum(sign * judged.value(quantity) for sign, judged in terms)
    value = 0.0 if abs(value) <= ROUNDING else value
    total = math.sqrt(variance + (_guard([j for _, j in terms], quantity) if told_apart else 0.0))
    half = critical_value(confidence, df) * total
    marked = grade(
        groups=None,
        df=df,
        deciding=told_apart,
        factor=max(j.factors[risk] for _, j in terms for risk in quantity.weights) if in_sample else 1.0,
        crowded=in_sample and any(not j.crowded.isdisjoint(quantity.weights) for _, j in terms),
    )
    p = two_sided(value, total, df) if total > 0 else 1.0  # no row tells them apart
    return Gap(name, value, math.sqrt(variance), value - half, value + half, p, marked)


def _guard(every: Sequence[ScoredResult], quantity: Quantity) -> float:
    """As in a comparison of the same rows, of the decomposition with the fewest."""
    sizes = [judged.rows.sizes() for judged in every]
    return guard(quantity.guards or (quantity.rows,), {which: min(own[which] for own in sizes) for which in sizes[0]})


def _by_rows(terms: Sequence[tuple[float, ScoredResult]]) -> list[Contrast]:
    """A contrast of the decompositions of each set of rows, whose probes vary together."""
    same: list[list[tuple[float, ScoredResult]]] = []
    for term in terms:
        for others in same:
            if _same_rows(term[1], others[0][1]):
                others.append(term)
                break
        else:
            same.append([term])
    return [Contrast.of([judged for _, judged in those], [sign for sign, _ in those]) for those in same]


def _same_rows(one: ScoredResult, other: ScoredResult) -> bool:
    """Whether both have the same rows in one order."""
    return np.array_equal(one.judged.train_ids, other.judged.train_ids) and np.array_equal(
        one.judged.test_ids, other.judged.test_ids
    )


def _scores(of: ScoredResult, quantity: Quantity, *, scaled: bool) -> tuple[np.ndarray, np.ndarray]:
    """Ids and centred scores of all judged rows; ids of test rows are marked, as training rows may share them."""
    weights, held = of.weights(quantity, scaled=scaled), of.judged.in_subset
    ids = (of.judged.train_ids[held], of.judged.train_ids[~held], of.judged.test_ids)
    marked = [np.char.add(mark, part) for mark, part in zip((b"r", b"r", b"t"), ids, strict=True)]
    values = [of.rows.unit_scores[name] @ weights for name in ("subset", "rest", "test")]
    return np.concatenate(marked), np.concatenate(values)
