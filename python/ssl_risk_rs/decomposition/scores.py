"""Risks as sums of row scores, and the covariance of the risks by set of rows; the formulas: `intervals`."""

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from ssl_risk_rs._notes import Note, Values
from ssl_risk_rs._splits import encode_groups
from ssl_risk_rs.decomposition.grading import FEW_GROUPS
from ssl_risk_rs.decomposition.units import Units
from ssl_risk_rs.results.judgements import Judgements, Outcome
from ssl_risk_rs.results.metrics import ERROR, Metric, class_shares_of, row_values, row_weights
from ssl_risk_rs.results.quantities import BASE, QUANTITIES, Quantity, Rows

__all__ = [
    "RowScores", "as_many", "at_training_shares", "class_shares", "common_groups", "guard", "guessing_error",
    "spans_classes", "training_error",
]  # fmt: skip

#: share of a set's variance that one group may have before it is said
ONE_GROUP_SHARE = 0.25
#: units that could decide a class-balanced risk, below which those that do not differ prove nothing; and as a share of
#: those of the 0-1 error, from which its weights are not what makes them few
FEW_HEAVY, NEARLY_ALL = 30, 0.75


class _Scores(NamedTuple):
    """What rows score in each risk, and the control variate of R_AS; needed until their covariance is known."""

    train: np.ndarray  # (n, risks)
    test: np.ndarray  # (n_te, risks)
    f: np.ndarray  # (n,) errors of the probe at α*
    f_weight: np.ndarray  # (n,)


class _Strata(NamedTuple):
    """The rows as variances see them: the same for all encoders that are judged on them."""

    grouped: bool
    spans: bool  # whether groups span classes
    sets: dict[str, Units]
    groups_train: int | None


def _strata(judged: Judgements, difficulty: np.ndarray) -> _Strata:
    y, y_test, held, names = judged.train_labels, judged.test_labels, judged.in_subset, list(judged.class_names)
    groups, groups_test = common_groups(judged)
    sets = {
        "subset": Units(y[held], None if groups is None else groups[held], difficulty, names),
        "rest": Units(y[~held], None if groups is None else groups[~held], difficulty, names),
        "test": Units(y_test, groups_test, difficulty, names),
    }
    if groups is None or groups_test is None:
        return _Strata(False, False, sets, None)
    return _Strata(True, spans_classes(groups, y, groups_test, y_test), sets, len(np.unique(groups)))


class RowScores:
    """Risks as sums of row scores, and the covariance of the risks by set of rows.

    `difficulty` : of each class, by which classes of one unit are paired; the training error of the probe at α* where
    it is not given. Encoders that are compared need the same.
    `metric` : what a row scores, and what it weighs.
    `fitted` : all rows, where `judged` are some of them.
    `like` : of another encoder on the same rows, with the same difficulty: what they have in common is kept once.
    `longer` : by how much the variance of a risk's scores exceeds what they show, where it does.
    """

    def __init__(
        self,
        judged: Judgements,
        *,
        corrected: bool,
        random_counts: bool,
        difficulty: np.ndarray | None = None,
        metric: Metric = ERROR,
        fitted: Judgements | None = None,
        like: "RowScores | None" = None,
        longer: Mapping[str, float] | None = None,
    ) -> None:
        self.judged, self.metric = judged, metric
        k, y = len(judged.class_names), judged.train_labels
        self.n, self.n_test, self.n_subset = len(y), len(judged.test_labels), int(judged.in_subset.sum())
        self.n_fitted = len((fitted or judged).train_labels)
        counts = np.bincount(y, minlength=k).astype(float)
        if difficulty is None:
            difficulty = training_error(judged)
        strata = _strata(judged, difficulty) if like is None else like.strata
        self.strata: _Strata = strata
        self.grouped, self.spans, self.sets = strata.grouped, strata.spans, strata.sets
        self.groups_train = strata.groups_train
        # where every class weighs the same, drawing other class shares changes nothing
        self.mixed = (self.spans or (random_counts and not self.grouped)) and metric.mean != "classes"
        self.test_units = self.sets["test"]
        self.mix_weight: np.ndarray | None = None
        scores = self._scores(self.spans, corrected, counts)
        # a risk lies in [0, high]; the control variate may leave it by a little, rounding by an ulp
        self.risks = np.clip(scores.train.sum(0) + scores.test.sum(0), 0.0, metric.high)
        self._covariance(k, scores, np.sqrt([(longer or {}).get(name, 1.0) for name in self.names]))
        #: by the rows that a risk is judged on: units that could decide it by what they weigh, and where they are few
        self.heavy_units: dict[str, float] = {}
        self.few_decide: set[str] = set()
        if metric.mean == "classes":
            self._raise_where_few_decide(corrected)
        self.notes = self._notes(counts)

    def _scores(self, spans: bool, corrected: bool, counts: np.ndarray) -> _Scores:
        """Scores (rows, risks) of training and test rows."""
        j, held = self.judged, self.judged.in_subset
        y_held, subset = j.train_labels[held], j.subset[held].astype(np.int64)
        k = len(counts)
        by_cell = np.zeros((j.n_subsets, k))
        np.add.at(by_cell, (subset, y_held), 1)
        self.covered = (by_cell > 0).any(0) & (counts > 0)
        shares = class_shares_of(self.metric, np.where(self.covered, counts, 0))
        # every (subset, class) cell counts alike within its class, however rounding filled it
        cells = (by_cell > 0).sum(0)
        self.weight = shares[y_held] / (cells[y_held] * by_cell[subset, y_held])
        if not corrected:
            self.weight = row_weights(self.metric, y_held, k)
        self.e = row_values(self.metric, j.held_out, self.weight)
        # a sum over bins is no mean of rows: no control variate
        control = j.at_alpha if self.metric.mean != "bins" else None
        f = np.zeros(self.n) if control is None else self.metric.score(control)
        f_weight = shares[j.train_labels] / counts[j.train_labels]
        with_control = corrected and control is not None
        self.beta = _regression(self.weight * self.e, self.weight * f[held], y_held, k) if with_control else 0.0
        train: dict[str, np.ndarray] = {}
        test: dict[str, np.ndarray] = {}
        self.train_weight = row_weights(self.metric, j.train_labels, k)
        self.test_weight = row_weights(self.metric, j.test_labels, k)

        def scored(outcome: Outcome, weights: np.ndarray) -> np.ndarray:
            return np.asarray(weights * row_values(self.metric, outcome, weights))

        if j.sup is not None:
            train["risk_sup"] = scored(j.sup, self.train_weight)
        train["risk_af"] = scored(j.af, self.train_weight)
        train["risk_as"] = self.beta * f * f_weight
        train["risk_as"][held] += self.weight * (self.e - self.beta * f[held])
        test["risk_cs"] = np.mean([scored(outcome, self.test_weight) for outcome in j.cs], axis=0)
        test["risk_us"] = scored(j.us, self.test_weight)
        if j.uf is not None:
            test["risk_uf"] = scored(j.uf, self.test_weight)
        if j.held_out_floor is not None:
            train["risk_ah"] = np.zeros(self.n)
            self.e_floor = row_values(self.metric, j.held_out_floor, self.weight)
            train["risk_ah"][held] = self.weight * self.e_floor
        if spans and self.metric.mean == "rows":  # class shares of train and test differ by chance
            self.mix_weight = at_training_shares(counts, j.test_labels)
            test["risk_us_mix"] = scored(j.us, self.mix_weight)
        self.names = tuple(name for name in BASE if name in train or name in test)
        return _Scores(
            np.stack([train.get(name, np.zeros(self.n)) for name in self.names], axis=1),
            np.stack([test.get(name, np.zeros(self.n_test)) for name in self.names], axis=1),
            f,
            f_weight,
        )

    def _covariance(self, k: int, of_rows: _Scores, longer: np.ndarray) -> None:
        held = self.judged.in_subset
        labels = {
            "subset": self.judged.train_labels[held],
            "rest": self.judged.train_labels[~held],
            "test": self.judged.test_labels,
        }
        scores = {"subset": of_rows.train[held], "rest": of_rows.train[~held], "test": of_rows.test}
        self.covariance: dict[str, np.ndarray] = {}
        self.by_stratum: dict[str, np.ndarray] = {}
        self.unit_scores: dict[str, np.ndarray] = {}
        #: without what the unit of numbers adds, which no few rows decide
        self.own_scores: dict[str, np.ndarray] = {}
        mix = {}
        if self.mixed:
            mix["subset"] = mix["rest"] = class_shares(of_rows.train, self.judged.train_labels, k)
            mix["test"] = class_shares(of_rows.test, self.judged.test_labels, k)
        for name, units in self.sets.items():
            phi = np.stack([units.centred(scores[name][:, i]) for i in range(len(self.names))], axis=1)
            if name == "subset":
                self._recentre(phi, units, of_rows.f[held], of_rows.f_weight[held])
            phi *= units.scale[:, None] * longer
            if self.mixed and units.whole > 1:
                phi += np.sqrt(units.whole / (units.whole - 1)) * mix[name][labels[name]]
            summed = units.summed(phi)
            self.own_scores[name] = summed
            if (unit := self.judged.unit) is not None and name != "test":
                # R = M/s²: a row far from the mean makes the unit s² of all rows larger, and every risk smaller
                far = units.centred(unit[held if name == "subset" else ~held].astype(float)) * units.scale
                of_unit = np.outer(far, self.risks) / np.sqrt(self.n * self.n_fitted)
                summed = summed - units.summed(of_unit)
            self.covariance[name] = summed.T @ summed
            self.by_stratum[name] = units.by_stratum(summed)
            self.unit_scores[name] = summed

    def _recentre(self, phi: np.ndarray, units: Units, f: np.ndarray, f_weight: np.ndarray) -> None:
        """Subset rows of one class differ in weight: their errors are centred on the weighted mean."""
        j = self.judged
        u = self.e - self.beta * f
        phi[:, self.names.index("risk_as")] = (
            self.weight * units.centred(u, self.weight) + self.beta * units.centred(f) * f_weight
        )
        if j.held_out_floor is not None:
            phi[:, self.names.index("risk_ah")] = self.weight * units.centred(self.e_floor, self.weight)

    def _weights(self) -> dict[str, tuple[tuple[str, np.ndarray], ...]]:
        """Weights of rows by set, by the rows that a risk is judged on."""
        held = self.judged.in_subset
        return {
            "train": (("subset", self.train_weight[held]), ("rest", self.train_weight[~held])),
            "subset": (("subset", self.weight),),
            "test": (("test", self.test_weight),),
        }

    def _raise_where_few_decide(self, corrected: bool) -> None:
        """Raise a variance to p (1 − p) Σ w² over rows, times what groups make of the variance of the 0-1 error beyond
        that of independent rows, where few units decide a risk by what they weigh, (Σ w²)²/Σ w⁴ over units, as where a
        class of few rows weighs as much as the others: they may all be right, or all wrong, by chance, and then they
        show no variance. Risks on the same rows are raised together, so that their difference is not."""
        there = np.sum(list(self.covariance.values()), axis=0)
        plain: RowScores | None = None
        for of, parts in self._weights().items():
            units = [self.sets[name].summed(w[:, None])[:, 0] for name, w in parts]
            rows = [self.sets[name].summed(np.ones((len(w), 1)))[:, 0] for name, w in parts]
            self.heavy_units[of] = as_many(np.concatenate(units) ** 2)
            if self.heavy_units[of] >= min(FEW_HEAVY, NEARLY_ALL * as_many(np.concatenate(rows) ** 2)):
                continue
            self.few_decide.add(of)
            squares = sum(float(w @ w) for _, w in parts)
            factors = np.ones(len(self.names))
            if self.grouped:
                plain = plain or RowScores(self.judged, corrected=corrected, random_counts=False)
                n = sum(len(w) for _, w in parts)
                factors = np.array([plain._of_independent_rows(name, n) for name in self.names])
            on_these = np.array([QUANTITIES[name].rows == of for name in self.names])
            least = self.risks * (1 - self.risks) * squares * factors
            roots = np.where(on_these, np.sqrt(np.maximum(0.0, least - np.diag(there))), 0.0)
            self.covariance["rest" if of == "train" else of] += np.outer(roots, roots)

    def spread_of(self, of: str, values: np.ndarray) -> float:
        """Variance of a weighted mean of `values`, of the rows that a risk is judged on, if they were independent and
        of one distribution, whatever their classes are: what few rows of a class show too little of."""
        weights = np.concatenate([w for _, w in self._weights()[of]])
        return max(0.0, float(weights @ values**2) - float(weights @ values) ** 2) * float(weights @ weights)

    def of_uncovered(self) -> float:
        """What classes that no held-out row is of make of R_US − R_AS: R_US is of all test rows, R_AS of the other
        classes. It is probe or encoder generalization, which cannot be told without held-out rows."""
        there = ~self.covered[self.judged.test_labels]
        if self.metric.mean == "bins" or not there.any():
            return 0.0
        share = float(self.test_weight[there].sum())
        return float(self.test_weight[there] @ self.values("risk_us")[there]) - share * self._risk("risk_as")

    def of_class_shares(self) -> float:
        """What other shares of classes among test rows than among training rows make of R_US − R_AS. The error of each
        class is that on held-out rows: test rows of a class that few rows are of are there by chance."""
        held, k = self.judged.in_subset, len(self.judged.class_names)
        labels = self.judged.train_labels[held]
        counts = [
            np.bincount(y, minlength=k) * self.covered for y in (self.judged.train_labels, self.judged.test_labels)
        ]
        if not counts[1].any():
            return 0.0
        weights, e = np.bincount(labels, self.weight, k), np.bincount(labels, self.weight * self.e, k)
        error = np.divide(e, weights, out=np.zeros(k), where=weights > 0)
        train, test = (n / n.sum() for n in counts)
        return float(counts[1].sum() / self.n_test * ((test - train) @ error))

    def _risk(self, name: str) -> float:
        return float(self.risks[self.names.index(name)])

    def values(self, risk: str) -> np.ndarray:
        """What each row that a risk is judged on scores, those of the subsets first among training rows."""
        j, held = self.judged, self.judged.in_subset
        if QUANTITIES[risk].rows == "subset":
            return self.e if risk == "risk_as" else self.e_floor
        if risk == "risk_cs":
            return np.asarray(np.mean([row_values(self.metric, o, self.test_weight) for o in j.cs], axis=0))
        outcome = j.outcome(risk)
        assert outcome is not None  # of a risk that is among `names`
        if QUANTITIES[risk].rows == "test":
            values = row_values(self.metric, outcome, self.test_weight)
            return values if risk != "risk_us_mix" else np.asarray(values * self.mix_weight / self.test_weight)
        values = row_values(self.metric, outcome, self.train_weight)
        return np.concatenate([values[held], values[~held]])

    def equal_rows(self) -> dict[str, float]:
        """Rows of each set, as `sizes`; where classes weigh alike, as many as would make a mean as uncertain."""
        if self.metric.mean != "classes":
            return dict(self.sizes())
        found = {"train": as_many(self.train_weight), "subset": as_many(self.weight), "test": as_many(self.test_weight)}
        return {**found, "draws": self.judged.n_subsets * found["test"]}

    def heavy(self, quantity: Quantity) -> float:
        """Units that could decide a class-balanced quantity by what they weigh; infinitely many of another metric."""
        used = {QUANTITIES[risk].rows for risk in quantity.weights}
        return min((units for of, units in self.heavy_units.items() if of in used), default=math.inf)

    def _of_independent_rows(self, risk: str, n: int) -> float:
        """Variance of a risk of `n` rows as a multiple of that of independent rows, 1 at least."""
        i = self.names.index(risk)
        spread = self.risks[i] * (1 - self.risks[i]) / n
        return max(1.0, sum(c[i, i] for c in self.covariance.values()) / spread) if spread > 0 else 1.0

    def degrees(self, name: str, weights: np.ndarray) -> float:
        """Degrees of freedom of a set's part of the variance of Σ weights · risks."""
        units = self.sets[name]
        if self.mixed or self.spans:  # a group of several classes is of no stratum
            return units.degrees_of_shares
        # equal scores give parts of ±1e-21; those below zero would make the degrees 0
        return units.degrees(np.maximum(np.einsum("i,sij,j->s", weights, self.by_stratum[name], weights), 0.0))

    def sizes(self) -> dict[str, int]:
        """Rows of each set; `draws` are the test rows of all complement probes."""
        draws = self.judged.n_subsets * self.n_test
        return {"train": self.n, "subset": self.n_subset, "test": self.n_test, "draws": draws}

    def n_groups(self, which: Rows) -> int | None:
        """Groups of a set of rows; None for independent rows."""
        if not self.grouped:
            return None
        return self.groups_train if which == "train" else self.sets[which].n_units

    def fewest_groups(self, quantity: Quantity) -> int | None:
        """Groups of the smallest set of rows that a quantity rests on; None for independent rows."""
        if not self.grouped:
            return None
        return min(self.n_groups(QUANTITIES[risk].rows) or 0 for risk in quantity.weights)

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


def at_training_shares(counts: np.ndarray, test_labels: np.ndarray) -> np.ndarray:
    """Weights of test rows, (m,), that give each class of theirs its share of the training rows, of which it has so
    many: counts (k,)."""
    there = np.bincount(test_labels, minlength=len(counts))
    shares = np.where(there > 0, counts, 0.0)
    return np.asarray((shares / shares.sum() / np.maximum(there, 1))[test_labels])


def as_many(weights: np.ndarray) -> float:
    """(Σ w)²/Σ w² (Kish): how many equal weights vary a sum as these do."""
    return float(weights.sum() ** 2 / (weights**2).sum())


def guard(which: Iterable[str], sizes: Mapping[str, float]) -> float:
    """Σ 1/n² over sets of rows: one row more on either side, so that an interval of few rows is not too short."""
    return sum(1 / sizes[name] ** 2 for name in which)


def training_error(judged: Judgements) -> np.ndarray:
    """Error of each class on the training rows, of the probe at α*, or of the floor probe without one: (k,)."""
    k = len(judged.class_names)
    counts = np.bincount(judged.train_labels, minlength=k).astype(float)
    wrong = np.bincount(judged.train_labels, weights=(judged.at_alpha or judged.af).wrong, minlength=k)
    return np.asarray(np.divide(wrong, counts, out=np.zeros(k), where=counts > 0))


def guessing_error(train_labels: np.ndarray, test_labels: np.ndarray) -> float:
    """Error on test rows of whoever names the class that most training rows are of."""
    return float((test_labels != np.bincount(train_labels).argmax()).mean())


def common_groups(judged: Judgements) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Numbers of the groups of training and test rows; the same group has the same number."""
    if judged.train_groups is None or judged.test_groups is None:
        return None, None
    _, codes = encode_groups([*judged.train_groups.tolist(), *judged.test_groups.tolist()])
    return codes[: len(judged.train_labels)], codes[len(judged.train_labels) :]


def spans_classes(groups: np.ndarray, y: np.ndarray, groups_test: np.ndarray, y_test: np.ndarray) -> bool:
    pairs = np.unique(np.stack([np.r_[groups, groups_test], np.r_[y, y_test].astype(np.int64)]), axis=1)
    return bool(pairs.shape[1] > len(np.unique(pairs[0])))


def class_shares(scores: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
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
