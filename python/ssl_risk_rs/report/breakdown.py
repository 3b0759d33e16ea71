"""A decomposition by class and by group, from its judged rows, and what the variance of its intervals is made of."""

import math
from dataclasses import dataclass

import numpy as np

from ssl_risk_rs._inference import critical_value
from ssl_risk_rs.results import estimate
from ssl_risk_rs.results.judgements import Judgements
from ssl_risk_rs.results.quantities import IN_SAMPLE, PROBE_RISKS, QUANTITIES, Order
from ssl_risk_rs.results.run import Decomposition

__all__ = ["Budget", "Part", "budget", "by_class", "by_group", "wilson"]


@dataclass(frozen=True, slots=True)
class Part:
    """One class or group.

    Attributes
    ----------
    error, low, high : of the full probe on its test rows, with Wilson's interval: for independent rows, but of a class
        whose rows come in groups for groups (NaN of a single one)
    components : of a class; empty for groups, which have no training rows of their own
    n_test, n_train, n_held : test rows, training rows, and those of them that are held out
    """

    name: str
    error: float
    low: float
    high: float
    components: dict[str, float]
    n_test: int
    n_train: int = 0
    n_held: int = 0


@dataclass(frozen=True, slots=True)
class Budget:
    """Of what the variance of a quantity is made, as fractions squared.

    Attributes
    ----------
    test, train : sampling of test rows, and of training rows (held out or not; they make the split)
    probe : refitting the probe on other training rows
    floor : moving the floor of the penalty by up to one decade; it is not in the interval
    """

    quantity: str
    test: float
    train: float
    probe: float
    floor: float

    @property
    def interval(self) -> float:
        """What the interval holds."""
        return self.test + self.train + self.probe

    @property
    def total(self) -> float:
        """The interval's variance and that of the floor."""
        return self.interval + self.floor


def wilson(wrong: int, n: int, confidence: float) -> tuple[float, float]:
    """Wilson's interval of an error of independent rows.

    >>> [round(end, 3) for end in wilson(0, 20, 0.95)]
    [0.0, 0.161]
    """
    if n == 0:
        return math.nan, math.nan
    return estimate.wilson(wrong / n, 0.0, n, critical_value(confidence))


def _wilson_of_groups(wrong: np.ndarray, groups: np.ndarray, confidence: float) -> tuple[float, float]:
    """Wilson's interval of an error whose rows come in groups, by the variance between these, and t; none of fewer
    groups than any interval is given for."""
    of_row = np.unique(groups, return_inverse=True)[1]
    g = int(of_row.max()) + 1
    if g < estimate.LEAST_GROUPS:
        return math.nan, math.nan
    error = float(wrong.mean())
    sums = np.bincount(of_row, wrong - error)
    variance = g / (g - 1) * float(sums @ sums) / len(wrong) ** 2
    # groups stand for rows where there are no errors
    return estimate.wilson(error, variance, g, critical_value(confidence, g - 1))


def by_class(judged: Judgements, confidence: float, order: Order = "paper") -> list[Part]:
    """Errors and components of each class that has test rows, the shortest intervals first; of rows that come in groups
    intervals are those of further groups.

    Means over the rows of a class, without the correction that the whole's R_AS has: parts weighted by their rows need
    not give the whole to the last digit.
    """
    k, held = len(judged.class_names), judged.in_subset
    n_test = np.bincount(judged.test_labels, minlength=k)
    n_train = np.bincount(judged.train_labels, minlength=k)
    n_held = np.bincount(judged.train_labels[held], minlength=k)
    wrong = np.bincount(judged.test_labels, judged.us.wrong, minlength=k)
    risk_us = _rate(wrong, n_test)
    risk_af = _rate(np.bincount(judged.train_labels, judged.af.wrong, minlength=k), n_train)
    risk_as = _rate(np.bincount(judged.train_labels[held], judged.held_out.wrong, minlength=k), n_held)
    components = {"probe_gen": risk_as - risk_af, "enc_gen": risk_us - risk_as}
    if order == "alternative" and judged.uf is not None:
        risk_uf = _rate(np.bincount(judged.test_labels, judged.uf.wrong, minlength=k), n_test)
        components = {"enc_gen_alt": risk_uf - risk_af, "probe_gen_alt": risk_us - risk_uf}
    if judged.sup is None:
        components = {"approx_usability": risk_af, **components}
    else:
        risk_sup = _rate(np.bincount(judged.train_labels, judged.sup.wrong, minlength=k), n_train)
        components = {"approx": risk_sup, "usability": risk_af - risk_sup, **components}
    found = []
    for c in np.flatnonzero(n_test):
        low, high = wilson(int(wrong[c]), int(n_test[c]), confidence)
        if judged.test_groups is not None:
            own = judged.test_labels == c
            low, high = _wilson_of_groups(judged.us.wrong[own], judged.test_groups[own], confidence)
        parts = {name: float(values[c]) for name, values in components.items()}
        counts = int(n_test[c]), int(n_train[c]), int(n_held[c])
        found.append(Part(judged.class_names[c], float(risk_us[c]), low, high, parts, *counts))
    return sorted(found, key=_surest)


def by_group(judged: Judgements, confidence: float) -> list[Part]:
    """The error on each test group, the shortest intervals first; empty where rows have no groups.

    Intervals are those of independent rows: rows of a group may depend on each other.
    """
    if judged.test_groups is None:
        return []
    names, of_row = np.unique(judged.test_groups, return_inverse=True)
    n_test = np.bincount(of_row, minlength=len(names))
    wrong = np.bincount(of_row, judged.us.wrong, minlength=len(names))
    found = []
    for g, name in enumerate(names.tolist()):
        n = int(n_test[g])
        ends = wilson(int(wrong[g]), n, confidence)
        text = name.decode(errors="replace") if isinstance(name, bytes) else str(name)
        found.append(Part(text, float(wrong[g] / n), *ends, {}, n))
    return sorted(found, key=_surest)


def _surest(part: Part) -> tuple[float, float]:
    """The shortest intervals first, those without one last."""
    width = part.high - part.low
    return math.inf if math.isnan(width) else width, -part.error


def budget(result: Decomposition) -> list[Budget]:
    """What the variance of each component and of the total is made of; nothing for numbers, whose errors on test rows
    are in units of the training rows' variance, and so vary with both.

    Scores of test rows and of training rows are independent, so that the covariance of the risks, less what the
    probe's own variation adds to it, falls into a block of each. A training error that is scaled because it is
    optimistic counts as training rows. The floor is taken as uniform between its value and one decade above.
    """
    if result.method.metric == "r2":
        return []
    of = result.covariance_of
    own = 0.0 if math.isnan(result.probe_variance) else result.probe_variance
    moved = np.array([name in PROBE_RISKS for name in of], float)
    on_test = np.array([QUANTITIES[name].rows == "test" for name in of], float)
    rows = np.asarray(result.covariance, float) - own * np.outer(moved, moved)
    found = []
    for name in (*result.component_names, "agg_risk"):
        weights = np.array([QUANTITIES[name].weights.get(risk, 0.0) for risk in of])
        test, probe = float((weights * on_test) @ rows @ (weights * on_test)), own * float(weights @ moved) ** 2
        rest = weights * (1 - on_test)
        train = float(rest @ rows @ rest)
        se = result.estimates[name].se
        if set(QUANTITIES[name].weights) & set(IN_SAMPLE):  # it may be scaled: the standard error says by how much
            train = max(train, se * se - probe - max(0.0, test))
        shift = _moves(result, name)
        found.append(Budget(name, max(0.0, test), max(0.0, train), max(0.0, probe), shift * shift / 12))
    return found


def _moves(result: Decomposition, quantity: str) -> float:
    """How far a quantity moves when the floor is one decade higher."""
    weights, floor = QUANTITIES[quantity].weights, result.floor
    moved = 0.0
    # R_UF is of the same floor, and moves as R_AF does
    for risks, above in ((("risk_af", "risk_uf"), floor.risk_above), (("risk_sup",), floor.sup_above)):
        if risks[0] in result.estimates and math.isfinite(above):
            rise = above - result.estimates[risks[0]].estimate
            moved += sum(weights.get(risk, 0.0) for risk in risks) * rise
    return moved


def _rate(wrong: np.ndarray, n: np.ndarray) -> np.ndarray:
    return np.asarray(np.divide(wrong, n, out=np.full(len(n), np.nan), where=n > 0))
