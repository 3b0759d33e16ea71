"""Signed sums of decompositions that were judged on the same rows: their values, variances and marks."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ssl_risk_rs._inference import below as probability_below
from ssl_risk_rs._inference import critical_value, satterthwaite
from ssl_risk_rs.decomposition.choice import NO_CHOICE, Choice, choice_of, contrast_choice
from ssl_risk_rs.decomposition.grading import grade
from ssl_risk_rs.decomposition.intervals import crowded_risks, faultless_variance, separated_risks, unshown_variance
from ssl_risk_rs.decomposition.scores import RowScores, guard
from ssl_risk_rs.decomposition.variation import ProbeScores, contrast_variation, of_probe, optimism
from ssl_risk_rs.results.estimate import Grade
from ssl_risk_rs.results.judgements import Judgements
from ssl_risk_rs.results.metrics import ERROR, Metric
from ssl_risk_rs.results.quantities import IN_SAMPLE, QUANTITIES, Quantity
from ssl_risk_rs.results.record import ProbeVariation
from ssl_risk_rs.results.run import Decomposition

__all__ = ["Contrast", "Measured", "ScoredResult"]


@dataclass(frozen=True)
class ScoredResult:
    """A decomposition with its row scores, made once for all quantities.

    Attributes
    ----------
    result : of which; judged, rows : its outcomes and row scores
    factors : of each training error, how far it may be too optimistic; crowded : those whose intervals are too short
    by_chance : variance of each risk that is 0 in this sample, though not in every one; beside : what a training error
        varies by beyond its rows, where it stands beside an error on other rows
    probes : scores of its fold probes; choice : the penalties that other samples would choose
    """

    result: Decomposition
    judged: Judgements
    rows: RowScores
    factors: dict[str, float]
    by_chance: np.ndarray
    beside: np.ndarray
    crowded: frozenset[str]
    probes: ProbeScores
    choice: Choice | None
    _terms: dict[tuple[str, bool], dict[str, np.ndarray]] = field(default_factory=dict, repr=False, compare=False)
    _wrong: dict[str, np.ndarray] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(
        cls,
        result: Decomposition,
        judged: Judgements | None = None,
        difficulty: np.ndarray | None = None,
        metric: Metric = ERROR,
        like: "ScoredResult | None" = None,
    ) -> "ScoredResult":
        """Row scores as the decomposition's own estimates rest on.

        Parameters
        ----------
        judged : its outcomes in another order of rows
        difficulty : of each class, see `RowScores`; metric : whose row scores are 0 or 1; like : another of the same
            rows and difficulty
        """
        method, judged = result.method, result.judgements if judged is None else judged
        assert judged is not None  # who compares has looked
        rows = RowScores(
            judged,
            corrected=method.protocol == "strict",
            random_counts=method.random_counts,
            difficulty=difficulty,
            metric=metric,
            like=None if like is None else like.rows,
        )
        optimistic = method.probe == "logistic"
        factors = {name: optimism(judged, name, metric) if optimistic else 1.0 for name in rows.names}
        by_chance = faultless_variance(rows, separated_risks(result.sizes) if optimistic else rows.names)
        return cls(
            result,
            judged,
            rows,
            factors,
            by_chance,
            unshown_variance(rows, np.array([factors[name] for name in rows.names]), by_chance),
            frozenset(crowded_risks(method, result.sizes)),
            ProbeScores(judged, metric),
            choice_of(judged, metric),
        )

    def terms(self, quantity: Quantity, *, scaled: bool) -> dict[str, np.ndarray]:
        """Scores of a quantity by set of rows, for each unit; those of the last quantity are kept, since an encoder
        meets every other."""
        key = (quantity.name, scaled)
        if key not in self._terms:
            weights = self.weights(quantity, scaled=scaled)
            self._terms.clear()
            self._terms[key] = {name: self.rows.unit_scores[name] @ weights for name in self.rows.sets}
        return self._terms[key]

    def wrong(self, risk: str) -> np.ndarray:
        """Whether the probe of a risk misses each of its rows, int8."""
        if risk not in self._wrong:
            outcome = self.judged.outcome(risk)
            assert outcome is not None  # of a risk that the row scores have
            self._wrong[risk] = self.rows.metric.score(outcome).astype(np.int8)
        return self._wrong[risk]

    def weights(self, quantity: Quantity, *, scaled: bool) -> np.ndarray:
        """Coefficients of a quantity on this encoder's risks; `scaled`: times the roots of the factors."""
        found = np.array([quantity.weights.get(name, 0.0) for name in self.rows.names])
        if scaled:
            roots = [math.sqrt(f) if math.isfinite(f := self.factors[name]) else 1.0 for name in self.rows.names]
            found = found * np.array(roots)
        return found

    def value(self, quantity: Quantity) -> float:
        """Point estimate."""
        return float(self.weights(quantity, scaled=False) @ self.rows.risks)


@dataclass(frozen=True)
class Measured:
    """A contrast of one quantity.

    Attributes
    ----------
    value, se, low, high, df, p, grade : as of a `Difference`; below : probability that the true value is below 0
    discordant : rows that decide it
    """

    value: float
    se: float
    low: float
    high: float
    df: float
    p: float
    below: float
    grade: Grade
    discordant: int


@dataclass(frozen=True)
class Contrast:
    """A signed sum of decompositions, such as one less another, and how much it varies with their probes."""

    encoders: tuple[ScoredResult, ...]
    signs: tuple[float, ...]
    own: ProbeVariation
    own_df: float
    choice: ProbeVariation

    @classmethod
    def of(cls, encoders: Sequence[ScoredResult], signs: Sequence[float]) -> "Contrast":
        sets = encoders[0].rows.sets
        units = sets["test"], sets["subset"]
        own, own_df = contrast_variation([e.probes for e in encoders], signs, *units)
        # what one of several has not kept would count as if it did not vary
        kept = own.known and all(e.judged.penalty_chances is not None for e in encoders)
        choice = contrast_choice([e.choice for e in encoders], signs, *units) if kept else NO_CHOICE
        return cls(tuple(encoders), tuple(signs), own, own_df, choice)

    @property
    def varied(self) -> bool:
        """Whether the probes' own variation could be estimated."""
        return self.own.known

    def of_probes(self, quantity: Quantity) -> float:
        """Variance that the probes' own variation, and the choice of their penalties, add to a quantity."""
        judged = self.encoders[0].rows.judged
        return of_probe(quantity, self.own, judged) + self.choice.of(*quantity.tuned_weights)

    def sum(self, terms: Iterable[np.ndarray]) -> np.ndarray:
        """The signed sum of a term of each encoder."""
        return np.asarray(sum(sign * term for sign, term in zip(self.signs, terms, strict=True)))

    def measure(self, quantity: Quantity, confidence: float) -> Measured:
        """The contrast of one quantity with its interval."""
        rows = self.encoders[0].rows
        in_sample = set(quantity.weights) <= set(IN_SAMPLE)
        by_set, degrees = self._variance(quantity, scaled=in_sample)
        own = self.of_probes(quantity)
        discordant = self.discordant(quantity)
        variance = sum(by_set.values()) + own + self._unshown(quantity, by_set)
        if discordant:
            beyond = [e.by_chance if in_sample else e.beside for e in self.encoders]
            variance += sum(
                float(e.weights(quantity, scaled=False) ** 2 @ v) for e, v in zip(self.encoders, beyond, strict=True)
            )
        df = math.inf
        if rows.grouped or own > 0:
            df = satterthwaite([*((v, degrees[s]) for s, v in by_set.items()), (own, self.own_df)])
        total = variance + guard(quantity.guards or (quantity.rows,), rows.equal_rows())
        value = float(self.sum(np.array(e.value(quantity)) for e in self.encoders))
        half = critical_value(confidence, df) * math.sqrt(total)
        low, high = value - half, value + half
        below = probability_below(-value / math.sqrt(total), df)
        p = min(1.0, 2 * min(below, 1 - below))
        crowded = frozenset[str]().union(*(e.crowded for e in self.encoders))
        marked = grade(
            groups=rows.fewest_groups(quantity),
            df=df,
            deciding=min(discordant, rows.heavy(quantity)),
            factor=max(e.factors[risk] for e in self.encoders for risk in quantity.weights) if in_sample else 1.0,
            crowded=in_sample and not crowded.isdisjoint(quantity.weights),
        )
        if marked is Grade.NONE:
            low = high = p = below = math.nan
        return Measured(value, math.sqrt(variance), low, high, df, p, below, marked, discordant)

    def _unshown(self, quantity: Quantity, by_set: dict[str, float]) -> float:
        """What rows of small classes, which weigh as much as the others in a class-balanced error, may vary by beyond
        what they show."""
        rows, missing = self.encoders[0].rows, 0.0
        for of in rows.few_decide:
            weights = {risk: w for risk, w in quantity.weights.items() if QUANTITIES[risk].rows == of}
            if weights:
                values = self.sum(
                    np.sum([w * e.rows.values(risk) for risk, w in weights.items()], axis=0) for e in self.encoders
                )
                shown = by_set["subset"] + by_set["rest"] if of == "train" else by_set[of]
                missing += max(0.0, rows.spread_of(of, values) - shown)
        return missing

    def _variance(self, quantity: Quantity, *, scaled: bool) -> tuple[dict[str, float], dict[str, float]]:
        """V_row of the contrast by set of rows, and the degrees of freedom of each part."""
        by_set, degrees = {}, {}
        rows = self.encoders[0].rows
        for name, units in rows.sets.items():
            squares = self.sum(e.terms(quantity, scaled=scaled)[name] for e in self.encoders) ** 2
            by_set[name] = float(squares.sum())
            if rows.mixed or rows.spans:  # a group of several classes is of no stratum
                degrees[name] = units.degrees_of_shares
            else:
                parts = np.bincount(units.stratum_of_unit, weights=squares, minlength=units.n_strata)
                degrees[name] = units.degrees(parts)
        return by_set, degrees

    def largest_share(self, quantity: Quantity, of: str) -> float:
        """Share of what a set of rows adds to the variance of the contrast that its largest unit has."""
        squares = self.sum(e.terms(quantity, scaled=False)[of] for e in self.encoders) ** 2
        return float(squares.max() / squares.sum()) if squares.sum() > 0 else 0.0

    def discordant(self, quantity: Quantity) -> int:
        """Rows that decide a contrast: on one set of rows those whose scores do not cancel, else the fewest of those
        among the risks that are out of sample."""

        def changed(risk: str) -> np.ndarray:
            return self.sum(e.wrong(risk) for e in self.encoders)

        if len({QUANTITIES[risk].rows for risk in quantity.weights}) == 1:
            return int(np.count_nonzero(sum(weight * changed(risk) for risk, weight in quantity.weights.items())))
        out_of_sample = [risk for risk in quantity.weights if risk not in IN_SAMPLE]
        return min(int(np.count_nonzero(changed(risk))) for risk in out_of_sample or quantity.weights)
