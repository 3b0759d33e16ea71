"""Intervals of few-shot quantities: draws crossed with judged rows.

Every probe is judged on the same rows, so an error has an effect of its draw, one of its row, and one of both:
e_jx = μ + a_j + b_x + c_jx. With e_j the quantity of draw j (differences from the same probe), S² its variance over
the m draws, V_row the variance of the row scores averaged over draws (stratified by class; by whole groups where there
are groups), and s_u² the variance over draws of a unit's part of the quantity,

    V_int = (1/m) Σ_u s_u²
    V     = max(0, S² − m V_int) (1/m + ρ/(1−ρ)) + V_row,   at least S²/m

ρ is 0 for disjoint draws, else the share of the pool that a draw takes (`Overlap`): draws from one pool are alike, and
do not show how much pools differ. Intervals are t with Satterthwaite's degrees of freedom, at least those of the first
term (m − 1 for disjoint draws); 1/n² is added for each set of rows that a quantity is judged on, so that an interval of
few rows is not too short.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ssl_risk_rs._inference import critical_value
from ssl_risk_rs.decomposition.grading import grade
from ssl_risk_rs.decomposition.scores import (
    at_training_shares,
    class_shares,
    common_groups,
    guard,
    spans_classes,
    training_error,
)
from ssl_risk_rs.decomposition.units import Units
from ssl_risk_rs.results.estimate import Estimate, Grade
from ssl_risk_rs.results.fewshot import DrawVariance, Overlap, ShotOutcomes
from ssl_risk_rs.results.judgements import Judgements
from ssl_risk_rs.results.quantities import QUANTITIES, estimated

__all__ = ["Crossed", "row_covariance"]

#: risks that depend on the draws, and those of the full run
_OF_DRAWS = ("risk_as", "risk_us", "risk_us_mix")
_IN_SAMPLE = ("risk_sup", "risk_af")


def row_covariance(units: Units, scores: np.ndarray, mix: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Covariance (r, r) of sums of row scores (n, r) over independent units of one set, and its parts by stratum.

    mix : (n, r) what the draw of class shares adds to each row; None where class counts are fixed
    """
    phi = np.stack([units.centred(scores[:, i]) for i in range(scores.shape[1])], axis=1) * units.scale[:, None]
    if mix is not None and units.whole > 1:
        phi += math.sqrt(units.whole / (units.whole - 1)) * mix
    summed = units.summed(phi)
    return summed.T @ summed, units.by_stratum(summed)


@dataclass(frozen=True, slots=True)
class _Measured:
    """A quantity: its value, the parts of its variance, degrees of freedom."""

    value: float
    variance: DrawVariance
    df: float


class Crossed:
    """Risks of one few-shot size from the outcomes of its draws; `judged` is of the full run."""

    def __init__(
        self, judged: Judgements, outcomes: ShotOutcomes, *, overlap: Overlap, random_counts: bool = False
    ) -> None:
        self.judged, self.outcomes, self.overlap = judged, outcomes, overlap
        self.k, self.n, self.n_test = len(judged.class_names), len(judged.train_labels), len(judged.test_labels)
        self.m = len(outcomes.draws)
        self.y, self.y_test = judged.train_labels, judged.test_labels
        self.in_j = np.zeros(self.n, bool)
        self.in_j[outcomes.judged] = True
        groups, groups_test = common_groups(judged)
        spans = groups is not None and groups_test is not None and spans_classes(
            groups, self.y, groups_test, self.y_test
        )  # fmt: skip
        self.grouped = groups is not None
        self.mixed = spans or (random_counts and not self.grouped)
        counts = np.bincount(self.y, minlength=self.k).astype(float)
        difficulty = training_error(judged)
        names = list(judged.class_names)

        def of(rows: np.ndarray) -> Units:
            return Units(self.y[rows], None if groups is None else groups[rows], difficulty, names)

        self.units = {
            "judged": of(self.in_j),
            "drawn": of(~self.in_j),
            "test": Units(self.y_test, groups_test, difficulty, names),
        }
        self._weights(counts, spans)
        self._scores()

    def _weights(self, counts: np.ndarray, spans: bool) -> None:
        """Weights of the judged rows in each risk: classes by their shares of S_tr in R_AS, rows alike in R_US."""
        y_judged = self.y[self.in_j]
        there = np.bincount(y_judged, minlength=self.k)
        self.covered = (there > 0) & (counts > 0)
        shares = np.where(self.covered, counts, 0.0)
        self.uncovered = int(((counts > 0) & ~self.covered).sum())
        self.on_judged = (shares / shares.sum() / np.maximum(there, 1))[y_judged]
        self.on_test = {"risk_us": np.full(self.n_test, 1 / self.n_test)}
        if spans:  # class shares of train and test differ by chance
            self.on_test["risk_us_mix"] = at_training_shares(counts, self.y_test)

    def _scores(self) -> None:
        o = self.outcomes
        train: dict[str, np.ndarray] = {}
        if self.judged.sup is not None:
            train["risk_sup"] = self.judged.sup.wrong / self.n
        train["risk_af"] = self.judged.af.wrong / self.n
        train["risk_as"] = np.zeros(self.n)
        train["risk_as"][self.in_j] = self.on_judged * o.wrong_train.mean(0)
        test = {name: weight * o.wrong_test.mean(0) for name, weight in self.on_test.items()}
        self.names = (*train, *test)
        zero, zero_test = np.zeros(self.n), np.zeros(self.n_test)
        self.train = np.stack([train.get(name, zero) for name in self.names], axis=1)
        self.test = np.stack([test.get(name, zero_test) for name in self.names], axis=1)
        self.risks = self.train.sum(0) + self.test.sum(0)
        mix_train = class_shares(self.train, self.y, self.k)[self.y] if self.mixed else None
        mix_test = class_shares(self.test, self.y_test, self.k)[self.y_test] if self.mixed else None
        rows = {"judged": self.in_j, "drawn": ~self.in_j}
        found = {
            name: row_covariance(self.units[name], self.train[of], None if mix_train is None else mix_train[of])
            for name, of in rows.items()
        }
        found["test"] = row_covariance(self.units["test"], self.test, mix_test)
        self.covariance = {name: covariance for name, (covariance, _) in found.items()}
        self.by_stratum = {name: parts for name, (_, parts) in found.items()}

    def _vector(self, weights: Mapping[str, float]) -> np.ndarray:
        return np.array([weights.get(name, 0.0) for name in self.names])

    def _row_weights(self, weights: Mapping[str, float]) -> tuple[np.ndarray, np.ndarray]:
        """What a row's error counts in a quantity: rows of J, test rows."""
        on_test = np.zeros(self.n_test)
        for name, own in self.on_test.items():
            on_test += weights.get(name, 0.0) * own
        return weights.get("risk_as", 0.0) * self.on_judged, on_test

    def by_draw(self, weights: Mapping[str, float]) -> np.ndarray:
        """The quantity of each draw, (m,)."""
        on_judged, on_test = self._row_weights(weights)
        fixed = sum(weights.get(name, 0.0) * self.risks[self.names.index(name)] for name in _IN_SAMPLE
                    if name in self.names)  # fmt: skip
        return np.asarray(fixed + self.outcomes.wrong_train @ on_judged + self.outcomes.wrong_test @ on_test)

    def interaction(self, weights: Mapping[str, float]) -> float:
        """V_int."""
        on_judged, on_test = self._row_weights(weights)
        total = 0.0
        for units, wrong, weight in (
            (self.units["judged"], self.outcomes.wrong_train, on_judged),
            (self.units["test"], self.outcomes.wrong_test, on_test),
        ):
            if not weight.any():
                continue
            if not units.grouped:
                p = wrong.mean(0)
                total += float((weight**2 * p * (1 - p)).sum()) * self.m / (self.m - 1)
            else:
                parts = np.stack(
                    [np.bincount(units.unit, weights=weight * own, minlength=units.n_units) for own in wrong]
                )
                total += float(parts.var(0, ddof=1).sum())
        return total / self.m

    def measure(self, weights: Mapping[str, float]) -> _Measured:
        """A quantity of these weights on risks."""
        vector = self._vector(weights)
        # scores that are all equal give a variance of -1e-21
        by_set = {s: max(0.0, float(vector @ c @ vector)) for s, c in self.covariance.items()}
        rows = sum(by_set.values())
        between, inner = float(self.by_draw(weights).var(ddof=1)), self.interaction(weights)
        of_draws = max(0.0, between - self.m * inner) * self.overlap.factor(self.m)
        least = self.overlap.degrees(self.m)
        total, df = of_draws + rows, least
        if total < between / self.m:
            total = between / self.m
        else:
            parts = of_draws**2 / least
            parts += sum(v * v / self._degrees(s, vector) for s, v in by_set.items() if v > 0)
            df = max(df, total * total / parts) if parts > 0 else df
        return _Measured(float(vector @ self.risks), DrawVariance(between, inner, rows, total), df)

    def _degrees(self, name: str, weights: np.ndarray) -> float:
        """Degrees of freedom of a set's part of the variance of Σ weights · risks."""
        units = self.units[name]
        if self.mixed:
            return units.degrees_of_shares
        return units.degrees(np.maximum(np.einsum("i,sij,j->s", weights, self.by_stratum[name], weights), 0.0))

    def wanted(self) -> int:
        """Draws with which S²/m would be a quarter of V_row, for R_AS and R_US."""
        needed = 0.0
        for name in ("risk_as", "risk_us"):
            found = self.measure({name: 1.0}).variance
            if found.between > 0:
                needed = max(needed, 4 * found.between / found.rows if found.rows > 0 else math.inf)
        return self.m if needed <= self.m else int(min(needed, 10**6)) + 1

    def estimates(
        self, full: Mapping[str, Estimate], confidence: float
    ) -> tuple[dict[str, Estimate], dict[str, DrawVariance]]:
        """Every quantity with its interval; those of R_AF and R_ΦF alone are the full run's."""
        found: dict[str, Estimate] = {}
        variances: dict[str, DrawVariance] = {}
        for name in estimated(set(self.names)):
            weights = QUANTITIES[name].weights
            if not set(weights) & set(_OF_DRAWS):
                if name in full:
                    found[name] = full[name]
                continue
            measured = self.measure(weights)
            variances[name] = measured.variance
            found[name] = self._interval(name, measured, confidence)
        return found, variances

    def _interval(self, name: str, measured: _Measured, confidence: float) -> Estimate:
        weights = QUANTITIES[name].weights
        sizes = {"judged": int(self.in_j.sum()), "test": self.n_test}
        used = [
            s for s, risks in (("judged", {"risk_as"}), ("test", {"risk_us", "risk_us_mix"})) if risks & set(weights)
        ]
        half = critical_value(confidence, measured.df) * math.sqrt(measured.variance.total + guard(used, sizes))
        low, high = measured.value - half, measured.value + half
        if len(weights) == 1:  # a risk
            low, high = max(0.0, low), min(1.0, high)
        wrong = {"judged": self.outcomes.wrong_train, "test": self.outcomes.wrong_test}
        groups = [self.units[s].n_units for s in used] if self.grouped else None
        marked = grade(
            groups=None if groups is None else min(groups),
            df=measured.df,
            deciding=min(int(min(wrong[s].any(0).sum(), (~wrong[s]).any(0).sum())) for s in used),
        )
        if marked is Grade.NONE:
            low = high = math.nan
        last, n_groups = used[-1], None if groups is None else groups[-1]
        se = math.sqrt(measured.variance.total)
        return Estimate(name, measured.value, se, low, high, sizes[last], n_groups, measured.df, marked)
