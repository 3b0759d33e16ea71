"""Risks, components and their intervals from the judged rows.

Estimand: each risk's expectation over fresh samples of these class counts (of these groups, where rows have
groups), encoder fixed. A risk is a sum of row scores z; its variance has these parts:

    V_row   Σ over independent units (rows, or whole groups) of the squared sum of centred scores, by set of rows
            {subsets, rest of S_tr, S_te}; scores are centred by class within the set and scaled by √(G*/(G*−1)) with
            G* effective units; where groups span classes, the draw of class shares is added
    V_P     the probe's own variation over draws of S_tr: a jackknife of the fold probes on the test rows and on the
            held-out subsets, with its covariance, smoothed, less the noise of these rows; and what the choice of the
            penalty adds, see `choice`
    factor  max(1, H/R_AF) on a logistic probe's training error, H the floor probe's error on the test rows; a training
            error of 0 has H/n, which R(1 − R)/n · H/R goes to, unless there are so many features that no sample of so
            many rows could have another

Intervals are t with Satterthwaite's degrees of freedom (normal for independent rows where V_P is 0): Wilson's for
risks, where there is a factor no shorter than estimate ± t·√V; estimate ± t·√(V + Σ 1/n²) for components. How well they
cover: docs/coverage.md.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np

from ssl_risk_rs._inference import critical_value, satterthwaite
from ssl_risk_rs._notes import Note, Values
from ssl_risk_rs.decomposition.choice import NO_CHOICE, choice_of
from ssl_risk_rs.decomposition.grading import MUCH_TOO_OPTIMISTIC, grade
from ssl_risk_rs.decomposition.scores import RowScores, as_many, guard
from ssl_risk_rs.decomposition.variation import of_probe, optimism, probe_variation, unseen_error
from ssl_risk_rs.results.estimate import Estimate, Grade, wilson
from ssl_risk_rs.results.judgements import Judgements
from ssl_risk_rs.results.metrics import ERROR, HEADLINES, Metric
from ssl_risk_rs.results.quantities import (
    IN_SAMPLE,
    QUANTITIES,
    Order,
    components,
    estimated,
)
from ssl_risk_rs.results.record import Bottleneck, Floor, Method, ProbeVariation, Sizes

__all__ = [
    "Uncertainty",
    "crowded_risks",
    "faultless_variance",
    "find_bottleneck",
    "quantify",
    "quantify_by",
    "separated_risks",
    "unshown_variance",
]

#: draws for the probability of the bottleneck
DRAWS = 4000
#: probability from which encoder generalization is the largest part beside others that are not told apart
SURELY = 0.95
#: share by which an interval would be wider that is told
CLEARLY_WIDER = 0.15


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """Estimates of every quantity, and what they rest on."""

    estimates: dict[str, Estimate]
    covariance: np.ndarray
    covariance_of: tuple[str, ...]
    beta: float
    variation: ProbeVariation
    notes: tuple[Note, ...]
    #: part of `variation`: what the choice of the penalty adds
    choice: ProbeVariation = NO_CHOICE


@dataclass(frozen=True, slots=True)
class FittedNumbers:
    """Probes of numbers: how many targets they have, the rows that they are fitted on, and weights for each target, no
    more than rows tell apart, by the risk that is their training error."""

    targets: int
    rows: int
    weights: Mapping[str, int]


def quantify(
    judged: Judgements,
    *,
    probe: str,
    corrected: bool,
    confidence: float = 0.95,
    random_counts: bool = False,
    crowded: Collection[str] = (),
    separated: Collection[str] = (),
    metric: Metric = ERROR,
    fitted: Judgements | None = None,
    of_class: bool = False,
    numbers: FittedNumbers | None = None,
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
    crowded : risks of a ridge probe with more classes than features, whose intervals are too short
    separated : training errors that are 0 in every sample, since features span any labels of so many rows
    metric : what a judged row scores
    fitted : all rows, where `judged` are some of those that the probes were fitted on and judged on
    of_class : `judged` are the rows of one class, whose training errors vary with the probe as its other errors do: a
        probe that is fitted anew trades them for errors of other classes, at next to no change of their sum
    numbers : of numbers, how many weights a probe has: its own variation is at least that of least squares, and its
        residuals are smaller than what they are residuals of
    """
    longer = {} if numbers is None else {risk: residual_factor(judged, risk, numbers) for risk in numbers.weights}
    rows = RowScores(
        judged, corrected=corrected, random_counts=random_counts, metric=metric, fitted=fitted, longer=longer
    )
    variation, probe_df = probe_variation(judged, rows.test_units, rows.sets["subset"], metric, fitted=fitted)
    if numbers is not None and variation.known:
        least = least_variation(rows, numbers.targets * numbers.weights["risk_af"])
        probe_df = probe_df if variation.held >= least else math.inf  # it is no difference of few variances
        variation = variation.at_least(least)
    tried = choice_of(judged, metric, fitted=fitted) if variation.known else None
    choice = NO_CHOICE if tried is None else tried.variation(rows.test_units, rows.sets["subset"])
    names = rows.names
    optimistic = probe == "logistic" and metric.mean != "bins"  # simulation shows no need of the factor there
    factors = np.array([optimism(judged, name, metric) if optimistic else 1.0 for name in names])
    by_chance = faultless_variance(rows, separated if optimistic else names)
    beside = unshown_variance(rows, factors, by_chance)
    notes = list(rows.notes)
    if not variation.known:
        notes.append(Note("no_probe_variation"))
    estimates = {}
    for name in estimated(set(names)):
        weights = np.array([QUANTITIES[name].weights.get(risk, 0.0) for risk in names])
        value = float(weights @ rows.risks)
        factor, unshown, in_sample = 1.0, 0.0, set(QUANTITIES[name].weights) <= set(IN_SAMPLE)
        if in_sample:
            factor = float(factors[weights != 0].max())
            unshown = float(weights**2 @ by_chance)
            weights = weights * np.sqrt(np.where(np.isfinite(factors), factors, 1.0))
        elif math.isfinite(metric.high):
            unshown = float(weights**2 @ beside)
        # scores that are all equal give a variance of -1e-21
        by_set = {s: max(0.0, float(weights @ c @ weights)) for s, c in rows.covariance.items()}
        own = of_probe(QUANTITIES[name], variation, fitted or judged, of_class=of_class)
        own += choice.of(*QUANTITIES[name].tuned_weights)
        variance = sum(by_set.values()) + own + unshown
        df = math.inf  # independent rows are many
        if rows.grouped or own > 0:
            df = satterthwaite([*((v, rows.degrees(s, weights)) for s, v in by_set.items()), (own, probe_df)])
        marked = grade(
            groups=rows.fewest_groups(QUANTITIES[name]),
            df=df,
            deciding=min(_deciding(rows, name), rows.heavy(QUANTITIES[name])),
            factor=factor,
            crowded=in_sample and not set(crowded).isdisjoint(QUANTITIES[name].weights),
        )
        estimates[name] = _interval(rows, name, value, variance, df, confidence, marked, factor)
    of_uncovered = rows.of_uncovered()
    for name, e in estimates.items():
        weights_of = QUANTITIES[name].weights
        of_this = abs(of_uncovered * weights_of.get("risk_as", 0.0)) if len(weights_of) > 1 else 0.0
        if of_this > (e.high - e.low) / 2:  # not of an interval that is NaN
            estimates[name] = replace(e, grade=Grade.INDICATIVE)
    if metric == ERROR:
        notes += _shares_notes(rows, estimates["enc_gen"], of_uncovered)
        notes += _counts_notes(rows, estimates["risk_us"].se)
    if tried is not None and metric.name in HEADLINES and choice.test > estimates["risk_us"].se ** 2 / 2:
        notes.append(tried.note())
    total = sum(rows.covariance.values()) + variation.covariance(names) + choice.covariance(names, of_choice=True)
    variation = variation.plus(choice)
    return Uncertainty(estimates, np.asarray(total), names, rows.beta, variation, tuple(notes), choice)


def _shares_notes(rows: RowScores, enc_gen: Estimate, of_uncovered: float) -> list[Note]:
    """What classes do to encoder generalization, where its interval takes their shares as they are: a probe that
    predicts one class errs by the share of the others, and where S_te has another share of it, that is all there is."""
    judged = rows.judged
    found = []
    width = enc_gen.high - enc_gen.low
    if abs(of_uncovered) > width / 4:
        there = ~rows.covered[judged.test_labels]
        values: Values = {
            "percent": 100 * float(there.mean()), "error": 100 * float(judged.us.wrong[there].mean()),
            "points": 100 * of_uncovered,
        }  # fmt: skip
        found.append(Note("uncovered_on_test", values))
    several = len(np.unique(judged.test_labels)) > 1
    if several and (judged.us.predicted == judged.us.predicted[0]).all():
        found.append(Note("one_class_predicted", {"class_name": judged.class_names[int(judged.us.predicted[0])]}))
    of_shares = rows.of_class_shares()
    if not rows.mixed and abs(of_shares) > width / 2:
        found.append(Note("other_class_shares", {"points": 100 * of_shares}))
    return found


def _counts_notes(rows: RowScores, se: float) -> list[Note]:
    """Whether class counts of the test rows look drawn, and R_US would vary by clearly more if they are."""
    judged, k = rows.judged, len(rows.judged.class_names)
    train, test = (np.bincount(labels, minlength=k) for labels in (judged.train_labels, judged.test_labels))
    expected = len(judged.test_labels) * train / len(judged.train_labels)
    designed = np.ptp(test[train > 0]) == 0 or np.abs(test - expected).max() <= 1
    if rows.mixed or rows.grouped or designed or not se > 0:
        return []
    share = test / test.sum()
    errors = np.bincount(judged.test_labels, judged.us.wrong, k) / np.maximum(test, 1)
    between = float(share @ (errors - share @ errors) ** 2) / test.sum()
    wider = math.sqrt(1 + between / se**2) - 1
    return [Note("drawn_counts", {"percent": 100 * wider})] if wider >= CLEARLY_WIDER else []


def quantify_by(
    judged: Judgements,
    method: Method,
    sizes: Sizes,
    metric: Metric | None = None,
    *,
    fitted: Judgements | None = None,
    of_class: bool = False,
) -> Uncertainty:
    """:func:`quantify` as a decomposition by `method` of rows and features of `sizes` asks for it, in its own metric or
    another."""
    return quantify(
        judged,
        probe=method.probe,
        corrected=method.protocol == "strict",
        confidence=method.confidence,
        random_counts=method.random_counts,
        crowded=crowded_risks(method, sizes),
        separated=separated_risks(sizes),
        metric=metric or HEADLINES[method.metric],
        fitted=fitted,
        of_class=of_class,
        numbers=_fitted_numbers(method, sizes),
    )


def _fitted_numbers(method: Method, sizes: Sizes) -> FittedNumbers | None:
    if method.metric != "r2":
        return None
    widths = {
        "risk_af": sizes.features - sizes.constant_features,
        "risk_sup": (sizes.twin_features or 0) - sizes.constant_twin_features,
    }
    weights = {risk: max(1, min(width, sizes.train)) for risk, width in widths.items()}
    return FittedNumbers(sizes.classes, sizes.train, weights)


def residual_factor(judged: Judgements, risk: str, numbers: FittedNumbers) -> float:
    """By how much the variance of a training error of numbers exceeds that of its squared residuals.

    Of residuals (1 − h) ε the mean square varies by 2σ⁴(1 − h)/n, and the rows show 2σ⁴(1 − h)²/n. With the error H of
    the same probe on rows that it has not seen, 1/(1 − h) is √(H/R), and no more than that of least squares,
    n/(n − weights).
    """
    most = numbers.rows / max(1, numbers.rows - numbers.weights[risk])
    return min(most, math.sqrt(optimism(judged, risk, HEADLINES["r2"])))


def least_variation(rows: RowScores, weights: int) -> float:
    """Variance over samples of the squared error of least squares with so many weights, by what it loses.

    The error on new rows exceeds the best by a sum of squares of the weights' errors, whose variance is two over their
    number of its square where they are alike, and more where they are not; and it is half of what new rows err more
    than the rows it was fitted on.
    """
    at = dict(zip(rows.names, rows.risks.tolist(), strict=True))
    excess: float = max(0.0, at["risk_as"] - at["risk_af"]) / 2
    return 2 * excess**2 / weights


def crowded_risks(method: Method, sizes: Sizes) -> tuple[str, ...]:
    """Training errors of a ridge probe with more classes than features, whose intervals are too short."""
    if method.probe != "ridge" or method.metric != ERROR.name:
        return ()
    widths = {"risk_af": sizes.features, "risk_uf": sizes.features, "risk_sup": sizes.twin_features or sizes.classes}
    return tuple(risk for risk, width in widths.items() if sizes.classes > width)


def separated_risks(sizes: Sizes) -> tuple[str, ...]:
    """Training errors that are 0 in every sample: their probe has a weight for each row, or more."""
    width = sizes.features - sizes.constant_features
    twin_width = (sizes.twin_features or 0) - sizes.constant_twin_features
    fitted = {
        "risk_af": (sizes.train, width),
        "risk_uf": (sizes.train + sizes.test, width),
        "risk_sup": (sizes.train, twin_width),
    }
    return tuple(risk for risk, (n, d) in fitted.items() if n <= d + 1)


def faultless_variance(rows: RowScores, separated: Collection[str]) -> np.ndarray:
    """Variance of each training error of a logistic probe that is 0, though not one of those that always are: H/n."""
    equal = rows.equal_rows()
    n = {of: rows.n_groups(of) or equal[of] for of in ("train", "test")}
    return np.array([
        0.0 if name in separated or name not in IN_SAMPLE
        else unseen_error(rows.judged, name, rows.metric) / n[QUANTITIES[name].rows]
        for name in rows.names
    ])  # fmt: skip


def unshown_variance(rows: RowScores, factors: np.ndarray, by_chance: np.ndarray) -> np.ndarray:
    """What training errors vary by beyond their rows, where they stand beside errors on other rows: the factor shows
    where it is large."""
    own_rows = np.diag(np.sum(list(rows.covariance.values()), axis=0))
    large = np.isfinite(factors) & (factors > MUCH_TOO_OPTIMISTIC)
    return np.asarray(by_chance + np.where(large, factors - 1, 0.0) * own_rows)


def find_bottleneck(found: Uncertainty, floor: Floor, *, seed: int, order: Order = "paper") -> Bottleneck:
    """The largest component, with the probability that it is: over samples, and over penalties of R_AF and R_ΦF
    between their floor and one decade above it (R_UF moves as R_AF does). Samples spread as t with the fewest degrees
    of freedom of a component. No probability where a component has no interval, or a probe separates its training rows:
    unless encoder generalization is surely larger than all the others together, however they divide what they make.
    """
    names = components(supervised="approx" in found.estimates, order=order)
    largest = max(names, key=lambda name: found.estimates[name].estimate)
    if any(found.estimates[name].grade is Grade.NONE for name in names):
        return Bottleneck(largest, None)
    of = found.covariance_of
    centre = np.array([found.estimates[risk].estimate if risk in found.estimates else 0.0 for risk in of])
    rng = np.random.default_rng(seed)
    values, vectors = np.linalg.eigh(found.covariance)
    root = vectors * np.sqrt(np.maximum(values, 0))
    spread = rng.standard_normal((DRAWS, len(of))) @ root.T
    between = rng.random(DRAWS)
    if math.isfinite(df := min(found.estimates[name].df for name in names)):
        spread *= np.sqrt(df / rng.chisquare(df, DRAWS))[:, None]
    draws = centre + spread
    for risk, rise in floor.rises(found.estimates).items():
        if risk in of:
            draws[:, of.index(risk)] += between * rise
    weights = np.array([[QUANTITIES[name].weights.get(risk, 0.0) for risk in of] for name in names])
    sizes = draws @ weights.T
    if floor.separable:
        own = sizes[:, names.index("enc_gen")] if "enc_gen" in names else np.full(len(sizes), -np.inf)
        surely = float((own > sizes.sum(1) - own).mean())
        return Bottleneck("enc_gen", surely) if surely >= SURELY else Bottleneck(largest, None)
    return Bottleneck(largest, float((sizes.argmax(1) == names.index(largest)).mean()))


def _interval(
    rows: RowScores,
    name: str,
    value: float,
    variance: float,
    df: float,
    confidence: float,
    marked: Grade,
    factor: float,
) -> Estimate:
    quantity, unbounded = QUANTITIES[name], math.isinf(rows.metric.high)
    sizes = rows.sizes()
    n, n_groups = sizes[quantity.rows], rows.n_groups(quantity.rows)
    weighed = rows.equal_rows()
    critical = critical_value(confidence, df)
    half = critical * math.sqrt(variance)
    if quantity.guards and not unbounded:
        half = critical * math.sqrt(variance + guard(quantity.guards, weighed))
    if quantity.guards:
        low, high = value - half, value + half
    elif unbounded:
        # on a log scale: above 0, and longer on the side of its tail; straight on where that would run away
        relative = half / value if value > 0 else 0.0
        low = value * math.exp(-relative)
        high = value * math.exp(relative) if relative < 1 else value + (math.e - 1) * half
    else:
        units = n if n_groups is None else rows.sets["test"].whole if quantity.rows == "test" else n_groups
        units *= weighed[quantity.rows] / n
        # n_eff is that of rows: where the probe adds to them, p(1 − p)/V of a small p would be a handful
        of_rows = variance / factor if math.isfinite(factor) else 0.0
        low, high = wilson(value, of_rows, units, critical)
        if factor > 1:
            low, high = min(low, max(0.0, value - half)), max(high, min(1.0, value + half))
    if marked is Grade.NONE:
        low = high = math.nan
    return Estimate(name, value, math.sqrt(variance), low, high, n, n_groups, df, marked)


def _deciding(rows: RowScores, name: str) -> float:
    """Rows that decide a quantity: the rarer of right and wrong, those that two probes judge differently, or, of
    probes on different rows, the fewest errors among those that are out of sample. Of scores that are not 0 or 1, the
    number of rows (groups) that would make the variance if their parts were equal."""
    judged, metric = rows.judged, rows.metric
    if "loss" in metric.reads:
        weights = np.array([QUANTITIES[name].weights.get(risk, 0.0) for risk in rows.names])
        parts = np.concatenate([(scores @ weights) ** 2 for scores in rows.own_scores.values()])
        return as_many(parts) if parts.any() else math.inf
    used = {risk: metric.score(o) for risk in QUANTITIES[name].weights if (o := judged.outcome(risk)) is not None}
    if len({id(judged.outcome(risk)) for risk in used}) == 1:
        wrong = next(iter(used.values()))
        return float(min(wrong.sum(), len(wrong) - wrong.sum()))
    if len({QUANTITIES[risk].rows for risk in used}) == 1:
        first, second = used.values()
        return float((first != second).sum())
    errors = {risk: float(wrong.sum()) for risk, wrong in used.items()}
    return min([count for risk, count in errors.items() if risk not in IN_SAMPLE] or errors.values())
