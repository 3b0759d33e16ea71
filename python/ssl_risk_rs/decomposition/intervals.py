"""Risks, components and their intervals from the judged rows.

Estimand: each risk's expectation over fresh samples of these class counts (of these groups, where rows have
groups), encoder fixed. A risk is a sum of row scores z; its variance has three parts:

    V_row   Σ over independent units (rows, or whole groups) of the squared sum of centred scores, by set of rows
            {subsets, rest of S_tr, S_te}; scores are centred by class within the set and scaled by √(G*/(G*−1)) with
            G* effective units; where groups span classes, the draw of class shares is added
    V_P     the probe's own variation over draws of S_tr: a jackknife of the fold probes on the test rows, smoothed,
            less the noise of the test rows
    factor  max(1, H/R_AF) on a logistic probe's training error, H the floor probe's error on the test rows

Intervals are t with Satterthwaite's degrees of freedom (normal for independent rows where V_P is 0): Wilson's for
risks, estimate ± t·√(V + Σ 1/n²) for components. How well they cover: docs/coverage.md.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from ssl_risk_rs._notes import Note, Values
from ssl_risk_rs._splits import encode_groups
from ssl_risk_rs.results.estimate import Estimate, Grade
from ssl_risk_rs.results.judgements import Judgements
from ssl_risk_rs.results.quantities import BASE, QUANTITIES, components, estimated
from ssl_risk_rs.results.record import Bottleneck, Floor

__all__ = ["Uncertainty", "quantify", "wilson"]

#: with fewer rows that decide a number, the normal approximation is rough
FEW_ROWS = 10
#: groups in a set of rows below which its intervals are marked, are indicative, are not given
FEW_GROUPS, INDICATIVE_GROUPS, LEAST_GROUPS = 20, 10, 4
#: degrees of freedom below which an interval is indicative
FEW_DF = 5.0
#: H/R_AF above which the training error is too optimistic to bound, and from which it is said
OPTIMISTIC, MUCH_TOO_OPTIMISTIC = 1.3, 4.0
#: effective units of a class in a set below which it has no variance of its own
ONE_UNIT = 1.5
#: share of a set's variance that one group may have before it is said
ONE_GROUP_SHARE = 0.25
#: draws for the probability of the bottleneck
DRAWS = 4000
#: risks that a refitted probe moves together
_PROBE_RISKS = ("risk_us", "risk_cs", "risk_as", "risk_us_mix")
#: risks judged on the rows that their probe was fitted on
_IN_SAMPLE = ("risk_af", "risk_sup")


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """Estimates of every quantity, and what they rest on."""

    estimates: dict[str, Estimate]
    covariance: np.ndarray
    covariance_of: tuple[str, ...]
    beta: float
    probe_variance: float
    notes: tuple[Note, ...]


def wilson(p: float, variance: float, n: float, quantile: float) -> tuple[float, float]:
    """Wilson's interval of a risk with n_eff = p(1 − p)/variance rows, `n` where either is 0."""
    spread = p * (1 - p)
    n_eff = spread / variance if variance > 0 and spread > 0 else n
    shrink = 1 + quantile**2 / n_eff
    centre = (p + quantile**2 / (2 * n_eff)) / shrink
    half = quantile / shrink * math.sqrt(spread / n_eff + quantile**2 / (4 * n_eff**2))
    # the interval contains p; at p = 0 or 1 rounding would leave it out by an ulp
    return min(p, max(0.0, centre - half)), max(p, min(1.0, centre + half))


def quantify(
    judged: Judgements,
    *,
    probe: str,
    corrected: bool,
    confidence: float = 0.95,
    random_counts: bool = False,
) -> Uncertainty:
    """Estimate every risk and component with its interval.

    Parameters
    ----------
    judged : outcomes of all probes on all rows
    probe : "logistic" or "ridge"; the factor of an optimistic R_AF is a logistic probe's
    corrected : weigh the (class, subset) cells of R_AS alike, and correct it by the errors of the full fit at α* on the
        subset rows (control variate); otherwise R_AS is the mean over subset rows, as in the paper
    confidence : between 0 and 1
    random_counts : class counts of independent rows vary from sample to sample
    """
    rows = _RowScores(judged, corrected=corrected, random_counts=random_counts)
    probe_variance, probe_df = _probe_variance(judged, rows.test_units)
    names = rows.names
    factors = np.array([_optimism(judged, name) if probe == "logistic" else 1.0 for name in names])
    moved = np.array([name in _PROBE_RISKS for name in names], float)
    notes = list(rows.notes)
    if math.isnan(probe_variance):
        notes.append(Note("no_probe_variation"))
    added = 0.0 if math.isnan(probe_variance) else probe_variance
    estimates = {}
    for name in estimated(set(names)):
        weights = np.array([QUANTITIES[name].weights.get(risk, 0.0) for risk in names])
        value = float(weights @ rows.risks)
        optimism = 1.0
        if set(QUANTITIES[name].weights) <= set(_IN_SAMPLE):
            optimism = float(factors[weights != 0].max())
            weights = weights * np.sqrt(np.where(np.isfinite(factors), factors, 1.0))
        # scores that are all equal give a variance of -1e-21
        by_set = {s: max(0.0, float(weights @ c @ weights)) for s, c in rows.covariance.items()}
        own = added * float(weights @ moved) ** 2  # nothing where the probe is common to both sides
        variance = sum(by_set.values()) + own
        df = math.inf  # independent rows are many
        if rows.grouped or own > 0:
            df = _degrees(by_set, {s: rows.degrees(s, weights) for s in by_set}, own, probe_df)
        grade = _grade(judged, rows, name, df, optimism)
        estimates[name] = _interval(rows, name, value, variance, df, confidence, grade)
    total = sum(rows.covariance.values()) + added * np.outer(moved, moved)
    return Uncertainty(estimates, np.asarray(total), names, rows.beta, probe_variance, tuple(notes))


def find_bottleneck(found: Uncertainty, floor: Floor, *, seed: int) -> Bottleneck:
    """The largest component, with the probability that it is: over samples, and over penalties of R_AF and R_ΦF
    between their floor and one decade above it. No probability where a probe separates its training rows."""
    names = components(supervised="approx" in found.estimates)
    largest = max(names, key=lambda name: found.estimates[name].estimate)
    if floor.separable:
        return Bottleneck(largest, None)
    of = found.covariance_of
    centre = np.array([found.estimates[risk].estimate if risk in found.estimates else 0.0 for risk in of])
    rng = np.random.default_rng(seed)
    values, vectors = np.linalg.eigh(found.covariance)
    root = vectors * np.sqrt(np.maximum(values, 0))
    draws = centre + rng.standard_normal((DRAWS, len(of))) @ root.T
    between = rng.random(DRAWS)
    for risk, above in (("risk_af", floor.risk_above), ("risk_sup", floor.sup_above)):
        if risk in of and math.isfinite(above):
            draws[:, of.index(risk)] += between * (above - centre[of.index(risk)])
    weights = np.array([[QUANTITIES[name].weights.get(risk, 0.0) for risk in of] for name in names])
    wins = (draws @ weights.T).argmax(1) == names.index(largest)
    return Bottleneck(largest, float(wins.mean()))


# --- row scores


class _Units:
    """Rows of one set, cut into independent units (rows or groups) and strata (classes, or pairs of classes).

    Attributes
    ----------
    stratum : of each row; unit : of each row, from 0; sizes : rows of each unit
    effective : G* of each stratum; whole : G* of the set
    """

    def __init__(self, labels: np.ndarray, units: np.ndarray | None, difficulty: np.ndarray, names: list[str]) -> None:
        self.n = len(labels)
        self.grouped = units is not None
        self.unit = np.arange(self.n) if units is None else np.unique(units, return_inverse=True)[1].ravel()
        self.n_units = int(self.unit.max(initial=-1)) + 1
        own = self._effective(labels, len(difficulty))
        self.stratum_of_class, self.collapsed = _collapse(own, difficulty, names)
        self.stratum = self.stratum_of_class[labels]
        self.n_strata = int(self.stratum_of_class.max(initial=-1)) + 1
        self.effective = self._effective(self.stratum, self.n_strata)
        sizes = np.bincount(self.unit, minlength=self.n_units).astype(float)
        self.whole = float(self.n**2 / (sizes**2).sum()) if self.n else 0.0
        self.stratum_of_unit = np.zeros(self.n_units, np.int64)
        self.stratum_of_unit[self.unit] = self.stratum

    def _effective(self, strata: np.ndarray, n_strata: int) -> np.ndarray:
        counts = np.bincount(strata, minlength=n_strata).astype(float)
        if not self.grouped:
            return np.asarray(counts)
        pairs, sizes = np.unique(strata.astype(np.int64) * self.n_units + self.unit, return_counts=True)
        squares = np.bincount(pairs // self.n_units, weights=sizes.astype(float) ** 2, minlength=n_strata)
        return np.asarray(np.divide(counts**2, squares, out=np.zeros(n_strata), where=squares > 0))

    def centred(self, values: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        """Values less their (weighted) mean in the stratum."""
        weights = np.ones(self.n) if weights is None else weights
        total = np.bincount(self.stratum, weights=weights * values, minlength=self.n_strata)
        mass = np.bincount(self.stratum, weights=weights, minlength=self.n_strata)
        means = np.divide(total, mass, out=np.zeros(self.n_strata), where=mass > 0)
        return np.asarray(values - means[self.stratum])

    @property
    def scale(self) -> np.ndarray:
        """√(G*/(G*−1)) of each row's stratum; 0 where a stratum has a single unit."""
        g = self.effective
        with np.errstate(divide="ignore", invalid="ignore"):
            kappa = np.where(g > 1 + 1e-9, np.sqrt(g / (g - 1)), 0.0)
        return np.asarray(kappa[self.stratum])

    def summed(self, scores: np.ndarray) -> np.ndarray:
        """Scores (n, r) summed by unit: (n_units, r)."""
        if not self.grouped:
            return scores
        columns = [np.bincount(self.unit, weights=scores[:, i], minlength=self.n_units) for i in range(scores.shape[1])]
        return np.stack(columns, axis=1)

    def by_stratum(self, summed: np.ndarray) -> np.ndarray:
        """Products of unit scores summed by stratum: (n_strata, r, r)."""
        r = summed.shape[1]
        found = np.zeros((self.n_strata, r, r))
        for i in range(r):
            for j in range(i + 1):
                products = summed[:, i] * summed[:, j]
                found[:, i, j] = np.bincount(self.stratum_of_unit, weights=products, minlength=self.n_strata)
                found[:, j, i] = found[:, i, j]
        return found


def _collapse(effective: np.ndarray, difficulty: np.ndarray, names: list[str]) -> tuple[np.ndarray, int]:
    """Stratum of each class: its own, or, for classes of about one unit, one shared with the class of that kind that
    comes next in training error (the last three together if there is an odd one)."""
    present = effective > 0
    alone = np.flatnonzero(present & (effective < ONE_UNIT))
    strata = np.arange(len(effective))
    if len(alone) == 1 and present.sum() > 1:
        others = np.flatnonzero(present & (effective >= ONE_UNIT))
        near = min(others, key=lambda c: (abs(difficulty[c] - difficulty[alone[0]]), names[c]))
        strata[alone[0]] = near
    elif len(alone) > 1:
        order = sorted(alone.tolist(), key=lambda c: (difficulty[c], names[c]))
        for i, c in enumerate(order):
            strata[c] = order[min(i // 2, len(order) // 2 - 1) * 2]
    _, strata = np.unique(strata, return_inverse=True)
    return strata.ravel(), len(alone)


class _RowScores:
    """Risks as sums of row scores, and the covariance of the risks by set of rows."""

    def __init__(self, judged: Judgements, *, corrected: bool, random_counts: bool) -> None:
        self.judged = judged
        k, names = len(judged.class_names), list(judged.class_names)
        y, y_test, held = judged.train_labels, judged.test_labels, judged.in_subset
        self.n, self.n_test, self.n_subset = len(y), len(y_test), int(held.sum())
        counts = np.bincount(y, minlength=k).astype(float)
        reference = judged.at_alpha or judged.af
        wrong = np.bincount(y, weights=reference.wrong, minlength=k)
        difficulty = np.divide(wrong, counts, out=np.zeros(k), where=counts > 0)
        groups, groups_test = _common_groups(judged)
        spans = groups is not None and groups_test is not None and _spans_classes(groups, y, groups_test, y_test)
        self.grouped = groups is not None
        self.mixed = spans or (random_counts and not self.grouped)
        self.sets = {
            "subset": _Units(y[held], None if groups is None else groups[held], difficulty, names),
            "rest": _Units(y[~held], None if groups is None else groups[~held], difficulty, names),
            "test": _Units(y_test, groups_test, difficulty, names),
        }
        self.test_units = self.sets["test"]
        self.groups_train = None if groups is None else len(np.unique(groups))
        self._scores(spans, corrected, counts)
        self._covariance(k)
        self.notes = self._notes(counts)

    def _scores(self, spans: bool, corrected: bool, counts: np.ndarray) -> None:
        """`risks`, and scores (rows, risks) of training and test rows."""
        j, held = self.judged, self.judged.in_subset
        y_held, subset = j.train_labels[held], j.subset[held].astype(np.int64)
        k = len(counts)
        by_cell = np.zeros((j.n_subsets, k))
        np.add.at(by_cell, (subset, y_held), 1)
        self.covered = (by_cell > 0).any(0) & (counts > 0)
        n_covered = counts[self.covered].sum()
        # every (subset, class) cell counts alike within its class, however rounding filled it
        cells = (by_cell > 0).sum(0)
        self.weight = counts[y_held] / n_covered / (cells[y_held] * by_cell[subset, y_held])
        if not corrected:
            self.weight = np.full(self.n_subset, 1 / self.n_subset)
        self.f = np.zeros(self.n) if j.at_alpha is None else j.at_alpha.wrong.astype(float)
        self.f_weight = self.covered[j.train_labels] / n_covered
        e = j.held_out.wrong.astype(float)
        with_control = corrected and j.at_alpha is not None
        self.beta = _regression(self.weight * e, self.weight * self.f[held], y_held, k) if with_control else 0.0
        train: dict[str, np.ndarray] = {}
        test: dict[str, np.ndarray] = {}
        if j.sup is not None:
            train["risk_sup"] = j.sup.wrong / self.n
        train["risk_af"] = j.af.wrong / self.n
        train["risk_as"] = self.beta * self.f * self.f_weight
        train["risk_as"][held] += self.weight * (e - self.beta * self.f[held])
        test["risk_cs"] = np.mean([outcome.wrong for outcome in j.cs], axis=0) / self.n_test
        test["risk_us"] = j.us.wrong / self.n_test
        if j.held_out_floor is not None:
            train["risk_ah"] = np.zeros(self.n)
            train["risk_ah"][held] = self.weight * j.held_out_floor.wrong
        if spans:  # class shares of train and test differ by chance
            there = np.bincount(j.test_labels, minlength=k)
            shares = np.where(there > 0, counts, 0.0)
            weights = np.divide(shares / shares.sum(), there, out=np.zeros(k), where=there > 0)
            test["risk_us_mix"] = weights[j.test_labels] * j.us.wrong
        self.names = tuple(name for name in BASE if name in train or name in test)
        self.train = np.stack([train.get(name, np.zeros(self.n)) for name in self.names], axis=1)
        self.test = np.stack([test.get(name, np.zeros(self.n_test)) for name in self.names], axis=1)
        # a risk lies in [0, 1]; the control variate may leave it by a little, rounding by an ulp
        self.risks = np.clip(self.train.sum(0) + self.test.sum(0), 0.0, 1.0)

    def _covariance(self, k: int) -> None:
        held = self.judged.in_subset
        labels = {
            "subset": self.judged.train_labels[held],
            "rest": self.judged.train_labels[~held],
            "test": self.judged.test_labels,
        }
        scores = {"subset": self.train[held], "rest": self.train[~held], "test": self.test}
        self.covariance: dict[str, np.ndarray] = {}
        self.by_stratum: dict[str, np.ndarray] = {}
        self.unit_scores: dict[str, np.ndarray] = {}
        mix = {}
        if self.mixed:
            mix["subset"] = mix["rest"] = _class_shares(self.train, self.judged.train_labels, k)
            mix["test"] = _class_shares(self.test, self.judged.test_labels, k)
        for name, units in self.sets.items():
            phi = np.stack([units.centred(scores[name][:, i]) for i in range(len(self.names))], axis=1)
            if name == "subset":
                self._recentre(phi, units, held)
            phi *= units.scale[:, None]
            if self.mixed and units.whole > 1:
                phi += np.sqrt(units.whole / (units.whole - 1)) * mix[name][labels[name]]
            summed = units.summed(phi)
            self.covariance[name] = summed.T @ summed
            self.by_stratum[name] = units.by_stratum(summed)
            if units.grouped:
                self.unit_scores[name] = summed

    def _recentre(self, phi: np.ndarray, units: _Units, held: np.ndarray) -> None:
        """Subset rows of one class differ in weight: their errors are centred on the weighted mean."""
        j = self.judged
        f = self.f[held]
        u = j.held_out.wrong - self.beta * f
        phi[:, self.names.index("risk_as")] = (
            self.weight * units.centred(u, self.weight) + self.beta * units.centred(f) * self.f_weight[held]
        )
        if j.held_out_floor is not None:
            phi[:, self.names.index("risk_ah")] = self.weight * units.centred(
                j.held_out_floor.wrong.astype(float), self.weight
            )

    def degrees(self, name: str, weights: np.ndarray) -> float:
        """Degrees of freedom of a set's part of the variance of Σ weights · risks."""
        units = self.sets[name]
        if self.mixed:
            return max(units.whole - 1, 1e-9)
        # equal scores give parts of ±1e-21; those below zero would make the degrees 0
        part = np.maximum(np.einsum("i,sij,j->s", weights, self.by_stratum[name], weights), 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            shares = np.where(part > 0, part**2 / (units.effective - 1), 0.0)
        return float(part.sum() ** 2 / shares.sum()) if shares.sum() > 0 else math.inf

    def largest_share(self, name: str, risk: str) -> float:
        """Share of a set's variance of a risk that its largest group has."""
        squares = self.unit_scores[name][:, self.names.index(risk)] ** 2
        return float(squares.max() / squares.sum()) if squares.sum() > 0 else 0.0

    def _notes(self, counts: np.ndarray) -> list[Note]:
        notes = []
        unit = "group" if self.grouped else "row"
        said = {"subset": "held-out", "rest": "other training", "test": "test"}
        for name, units in self.sets.items():
            if units.collapsed:
                values: Values = {"classes": units.collapsed, "unit": unit, "rows": said[name]}
                notes.append(Note("collapsed_strata", values))
            if units.grouped:
                if units.n_units < FEW_GROUPS:
                    notes.append(Note("few_groups", {"rows": said[name], "groups": units.n_units}))
                share = self.largest_share(name, {"subset": "risk_as", "rest": "risk_af", "test": "risk_us"}[name])
                if share > ONE_GROUP_SHARE:
                    notes.append(Note("one_group_decides", {"rows": said[name], "percent": 100 * share}))
        present = counts > 0
        if (present & ~self.covered).any():
            values = {"classes": int((present & ~self.covered).sum()), "total": int(present.sum())}
            notes.append(Note("uncovered_classes", values))
        return notes


def _common_groups(judged: Judgements) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Numbers of the groups of training and test rows; the same group has the same number."""
    if judged.train_groups is None or judged.test_groups is None:
        return None, None
    _, codes = encode_groups([*judged.train_groups.tolist(), *judged.test_groups.tolist()])
    return codes[: len(judged.train_labels)], codes[len(judged.train_labels) :]


def _spans_classes(groups: np.ndarray, y: np.ndarray, groups_test: np.ndarray, y_test: np.ndarray) -> bool:
    pairs = np.unique(np.stack([np.r_[groups, groups_test], np.r_[y, y_test].astype(np.int64)]), axis=1)
    return bool(pairs.shape[1] > len(np.unique(pairs[0])))


def _class_shares(scores: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    """(T_c − mean of T over rows)/n with T_c = n/n_c Σ scores of class c: what drawing one more row of a class does
    to the shares of the classes; (k, r)."""
    n, counts = len(labels), np.bincount(labels, minlength=k).astype(float)
    sums = np.stack([np.bincount(labels, weights=scores[:, i], minlength=k) for i in range(scores.shape[1])], axis=1)
    levels = np.divide(n * sums, counts[:, None], out=np.zeros_like(sums), where=counts[:, None] > 0)
    return np.asarray((levels - (counts @ levels) / n) / n)


def _regression(a: np.ndarray, h: np.ndarray, labels: np.ndarray, k: int) -> float:
    """Slope of a on h, each less its mean in the class."""
    counts = np.bincount(labels, minlength=k).astype(float)

    def centred(values: np.ndarray) -> np.ndarray:
        means = np.divide(np.bincount(labels, weights=values, minlength=k), counts, out=np.zeros(k), where=counts > 0)
        return np.asarray(values - means[labels])

    a, h = centred(a), centred(h)
    square = float(h @ h)
    return float(a @ h) / square if square > 0 else 0.0


# --- the probe's own variation


def _probe_variance(judged: Judgements, units: _Units) -> tuple[float, float]:
    """Variance of a risk over refitted probes, and its degrees of freedom; NaN where there are too few probes.

    The fold probes at α* (or, where only one fold was fitted, the complements) are delete-a-part replicates. Errors
    on the test rows are smoothed by the margin's spread, and the noise of the test rows is taken away.
    """
    n, m = len(judged.train_labels), len(judged.test_labels)
    folded = int((judged.subset < 0).sum())
    margins = judged.fold_margins
    if margins is not None and len(margins) >= 3:
        count = len(margins)
        scale = (count - 1) ** 2 / count * folded / n
    elif judged.n_subsets >= 2:
        margins = np.stack([outcome.margin for outcome in judged.cs])
        size = float(np.mean(np.bincount(judged.subset[judged.in_subset])))
        count, scale = len(margins), (n - size) ** 2 / (size * n)
    else:
        return math.nan, math.inf
    spread = float(np.std(judged.us.margin)) * m ** (-1 / 5)
    if not spread > 0:
        return 0.0, count - 1
    from scipy.special import ndtr

    smooth = ndtr(-margins.astype(np.float64) / spread)  # (probes, n_te)
    between = float(np.var(smooth.mean(1), ddof=1))
    by_unit = units.summed(smooth.T) / m  # (units, probes)
    inner = by_unit - by_unit.mean(1, keepdims=True)
    inner -= inner.mean(0)
    g = len(by_unit)
    noise = g / (g - 1) * float((inner**2).sum()) / (count - 1) if g > 1 else 0.0
    return max(0.0, between - noise) * scale, count - 1


def _optimism(judged: Judgements, risk: str) -> float:
    """max(1, H/R) of a training error, H the same probe's error on the test rows; infinity where R is 0."""
    own, on_test = {
        "risk_af": (judged.af, judged.floor_on_test),
        "risk_sup": (judged.sup, judged.sup_on_test),
    }.get(risk, (None, None))
    if own is None or on_test is None or on_test.error <= own.error:
        return 1.0
    return on_test.error / own.error if own.error > 0 else math.inf


# --- intervals


def _degrees(by_set: Mapping[str, float], degrees: Mapping[str, float], own: float, probe_df: float) -> float:
    """Satterthwaite's degrees of freedom of a sum of variances, at least 1."""
    total = sum(by_set.values()) + own
    parts = sum(v * v / degrees[s] for s, v in by_set.items()) + own * own / probe_df
    return max(1.0, total * total / parts) if parts > 0 and total > 0 else math.inf


def _quantile(confidence: float, df: float) -> float:
    if math.isinf(df):
        return NormalDist().inv_cdf(0.5 + confidence / 2)
    from scipy.special import stdtrit

    return float(stdtrit(df, 0.5 + confidence / 2))


def _interval(
    rows: _RowScores, name: str, value: float, variance: float, df: float, confidence: float, grade: Grade
) -> Estimate:
    quantity = QUANTITIES[name]
    n = {"train": rows.n, "subset": rows.n_subset, "test": rows.n_test}[quantity.rows]
    n_groups = _groups(rows, quantity.rows)
    if quantity.guards:
        sizes = {"train": rows.n, "subset": rows.n_subset, "test": rows.n_test}
        sizes["draws"] = rows.judged.n_subsets * rows.n_test
        guard = sum(1 / sizes[which] ** 2 for which in quantity.guards)
        half = _quantile(confidence, df) * math.sqrt(variance + guard)
        low, high = value - half, value + half
    else:
        units = n if n_groups is None else rows.sets["test"].whole if quantity.rows == "test" else n_groups
        low, high = wilson(value, variance, units, _quantile(confidence, df))
    if grade is Grade.NONE:
        low = high = math.nan
    return Estimate(name, value, math.sqrt(variance), low, high, n, n_groups, df, grade)


def _groups(rows: _RowScores, which: str) -> int | None:
    if not rows.grouped:
        return None
    return rows.groups_train if which == "train" else rows.sets[which].n_units


def _grade(judged: Judgements, rows: _RowScores, name: str, df: float, optimism: float) -> Grade:
    used = {QUANTITIES[risk].rows for risk in QUANTITIES[name].weights}
    if rows.grouped:
        fewest = min(_groups(rows, which) or 0 for which in used)
        if fewest < LEAST_GROUPS:
            return Grade.NONE
        if fewest < INDICATIVE_GROUPS or df < FEW_DF:
            return Grade.INDICATIVE
        if fewest < FEW_GROUPS:
            return Grade.FEW_GROUPS
    if optimism > MUCH_TOO_OPTIMISTIC:
        return Grade.INDICATIVE
    return Grade.FEW_ROWS if _deciding(judged, name) < FEW_ROWS else Grade.SOUND


def _deciding(judged: Judgements, name: str) -> int:
    """Rows that decide a quantity: the rarer of right and wrong, those that two probes judge differently, or, of
    probes on different rows, the fewest errors among those that are out of sample."""
    outcomes = {
        "risk_sup": judged.sup,
        "risk_af": judged.af,
        "risk_as": judged.held_out,
        "risk_ah": judged.held_out_floor,
        "risk_cs": judged.cs[0],
        "risk_us": judged.us,
        "risk_us_mix": judged.us,
    }
    used = {risk: o for risk in QUANTITIES[name].weights if (o := outcomes[risk]) is not None}
    if len({id(outcome) for outcome in used.values()}) == 1:
        wrong = next(iter(used.values())).wrong
        return int(min(wrong.sum(), len(wrong) - wrong.sum()))
    if len({QUANTITIES[risk].rows for risk in used}) == 1:
        first, second = (outcome.wrong for outcome in used.values())
        return int((first != second).sum())
    return min(int(outcome.wrong.sum()) for risk, outcome in used.items() if risk not in _IN_SAMPLE)
