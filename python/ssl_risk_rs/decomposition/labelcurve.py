"""Error against labels: a curve through the measured sizes, what more labels change, how many an error needs.

The logarithm of the error is nearly straight in the logarithm of the labels: its second derivative is small. So the
curve has any level and slope, and a bend that is 0.02 ± 0.05 on average and wanders (an integrated Wiener process,
whose posterior mean is a cubic spline):

    log err(n) = a + b x + c x²/2 + √q ∫∫ dW,      x = log n,      c ~ N(0.02, 0.05²),      q = 0.005

On the published results of 167 encoders (3, 5, 30 shots, 1 %, all of ImageNet) the second derivative between three
neighbouring sizes is 0.02 to 0.04 on average, with a spread of 0.01 to 0.05; small data sets, whose error comes near
what no probe can lower, bend by 0.1. Where the measured sizes miss their predictions from each other by more than the
intervals say, the variance of the bend is raised until they do not. Beyond the measured sizes the interval widens with
the bend that cannot be seen there. How well the intervals cover: docs/coverage.md.

Draws of equal shots have other class shares than all rows where classes differ in size. Their curve is then the same up
to a factor, of which the data tell: 1 ± 0.3 v, with v the coefficient of variation of the class sizes. Sizes of which a
class has fewer than three rows are left out, since their penalty can hardly be tuned, unless too few others are left.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ssl_risk_rs._inference import critical_value
from ssl_risk_rs.decomposition.crossed import row_covariance
from ssl_risk_rs.decomposition.scores import class_shares, common_groups, spans_classes
from ssl_risk_rs.decomposition.units import Units
from ssl_risk_rs.results.estimate import Estimate
from ssl_risk_rs.results.fewshot import BackTest, CurvePoint, Doubling, FewShot, LabelCurve, LabelsNeeded, ShotOutcomes
from ssl_risk_rs.results.judgements import Judgements

__all__ = ["Measured", "label_curve", "measure", "predict"]

#: mean and spread of the bend, and what it wanders in a unit of log n
BEND, BEND_SD, WANDER = 0.02, 0.05, 0.005
#: spread of the log error between draws of equal shots and of the shares of all rows, for each unit of the classes'
#: coefficient of variation: 0.12 was seen with classes of 600, 360 and 240 rows
OTHER_SHARES = 0.3
#: rows of a class from which a size is part of the curve
LEAST_ROWS = 3
#: how often the variance of the bend is doubled at most
DOUBLINGS = 14
#: by how much it is raised where rows have groups: rows of one more group lower the error by more than rows of the
#: same group, so that it falls in steps
STEPS = 8.0
#: by how much where two sizes alone are measured: nothing tests the bend then, and errors of the kind a + b/n bend more
#: than 0.02 ± 0.05 (0.12 holds them)
UNTESTED = 6.0
#: labels are looked for up to this multiple of the largest measured size, at so many sizes
FARTHEST, SEARCHED = 100, 300
#: errors that labels are printed for where none are asked for, and how many of them
ROUND_ERRORS = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
MOST_ERRORS = 3


@dataclass(frozen=True, slots=True)
class Measured:
    """Sizes with their errors.

    Attributes
    ----------
    labels : (p,) ascending; errors : (p,) in (0, 1]; covariance : (p, p); names
    equal : bool (p,), whether all classes have the same number of rows at this size
    offset : spread of the log error between sizes of equal classes and others
    grouped : whether labels come in whole groups
    """

    labels: np.ndarray
    errors: np.ndarray
    covariance: np.ndarray
    names: tuple[str, ...]
    equal: np.ndarray
    offset: float = 0.0
    grouped: bool = False


def measure(
    judged: Judgements, full: Estimate, shots: Sequence[FewShot], *, random_counts: bool = False
) -> Measured | None:
    """R_US of each size and of the full run, with their covariance: they are judged on the same test rows.

    None if fewer than two sizes have an error above 0.
    """
    k, n_test = len(judged.class_names), len(judged.test_labels)
    wrong, labels, totals, names, equal = [], [], [], [], []
    tuned = [shot for shot in shots if min(shot.shots) >= LEAST_ROWS]
    for shot, outcomes in _unlike(tuned if len(tuned) > 1 else shots):
        wrong.append(outcomes.wrong_test.mean(0))
        labels.append(shot.labels)
        totals.append(shot.variances["risk_us"].total)
        names.append(shot.size.title)
        equal.append(len(shot.shots) == 1)
    wrong.append(judged.us.wrong.astype(float))
    labels.append(len(judged.train_labels))
    totals.append(full.se**2)
    names.append("all rows")
    equal.append(False)
    scores = np.stack(wrong, axis=1) / n_test
    errors = scores.sum(0)
    groups, groups_test = common_groups(judged)
    spans = groups is not None and groups_test is not None and spans_classes(
        groups, judged.train_labels, groups_test, judged.test_labels
    )  # fmt: skip
    counts = np.bincount(judged.train_labels, minlength=k).astype(float)
    at_alpha = judged.at_alpha or judged.af
    difficulty = np.bincount(judged.train_labels, weights=at_alpha.wrong, minlength=k) / np.maximum(counts, 1)
    units = Units(judged.test_labels, groups_test, difficulty, list(judged.class_names))
    mixed = spans or (random_counts and groups is None)
    mix = class_shares(scores, judged.test_labels, k)[judged.test_labels] if mixed else None
    covariance, _ = row_covariance(units, scores, mix)
    # what is not the test rows' (draws, the probe's own variation) is each size's own
    covariance[np.diag_indices_from(covariance)] = np.maximum(np.diag(covariance), totals)
    order = [i for i in np.argsort(labels, kind="stable").tolist() if errors[i] > 0]
    if len({labels[i] for i in order}) < 2:
        return None
    present = counts[counts > 0]
    return Measured(
        np.array(labels, float)[order],
        errors[order],
        covariance[np.ix_(order, order)],
        tuple(names[i] for i in order),
        np.array(equal)[order],
        OTHER_SHARES * float(present.std() / present.mean()),
        groups is not None,
    )


def _unlike(shots: Sequence[FewShot]) -> Iterator[tuple[FewShot, ShotOutcomes]]:
    """Sizes without those whose draws are those of another (3 shots and 1 % of 300 rows are the same)."""
    seen: list[np.ndarray] = []
    for shot in shots:
        if shot.outcomes is not None and not any(np.array_equal(shot.outcomes.draws, draws) for draws in seen):
            seen.append(shot.outcomes.draws)
            yield shot, shot.outcomes


def _bend(a: np.ndarray, b: np.ndarray, inflation: float) -> np.ndarray:
    """Covariance of the bend's part of the curve at x = a, b (from a common origin)."""
    a, b = a[:, None], b[None, :]
    near, far = np.minimum(np.abs(a), np.abs(b)), np.maximum(np.abs(a), np.abs(b))
    wander = np.where(np.sign(a) == np.sign(b), near**2 * (3 * far - near) / 6, 0.0)
    return np.asarray(inflation * (WANDER * wander + BEND_SD**2 * (a * b) ** 2 / 4))


def predict(
    measured: Measured, at: np.ndarray, inflation: float = 1.0, *, equal: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Mean (t,) and covariance (t, t) of log err at `at` labels (t,), of equal classes or of the shares of all rows."""
    known = np.arange(len(measured.labels))
    mean, covariance, _ = _predict(measured, known, at, np.full(len(at), equal), inflation)
    return mean, covariance


def _predict(
    measured: Measured, known: np.ndarray, at: np.ndarray, equal: np.ndarray, inflation: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, covariance, and weights (t, p) of the measured log errors of the sizes `known` in the mean."""
    origin = float(np.log(measured.labels).mean())
    x, t = np.log(measured.labels)[known] - origin, np.log(at) - origin
    own = measured.equal[known]
    square = measured.offset**2
    y = np.log(measured.errors)[known] - BEND * x**2 / 2
    line, line_t = np.stack([np.ones_like(x), x], 1), np.stack([np.ones_like(t), t], 1)
    inverse = np.linalg.inv(
        _bend(x, x, inflation) + square * np.outer(own, own) + _noise(measured)[np.ix_(known, known)]
    )
    slopes = np.linalg.inv(line.T @ inverse @ line)
    shared = _bend(t, x, inflation) + square * np.outer(equal, own)
    across = shared @ inverse
    left = line_t - across @ line
    weights = across + left @ slopes @ line.T @ inverse
    prior = _bend(t, t, inflation) + square * np.outer(equal, equal)
    covariance = prior - across @ shared.T + left @ slopes @ left.T
    return BEND * t**2 / 2 + weights @ y, covariance, weights


def _noise(measured: Measured) -> np.ndarray:
    """Covariance of the measured log errors; a relative 1e-4 keeps it regular."""
    relative = measured.covariance / np.outer(measured.errors, measured.errors)
    return np.asarray(relative + 1e-8 * np.eye(len(relative)))


def _back_test(measured: Measured, i: int, inflation: float) -> tuple[float, float]:
    """Log error of a measured size predicted from the others, and the variance of measured less predicted.

    The sizes share their test rows, so that a part of the noise is on both sides.
    """
    known = np.delete(np.arange(len(measured.labels)), i)
    mean, covariance, weights = _predict(measured, known, measured.labels[[i]], measured.equal[[i]], inflation)
    noise = _noise(measured)
    shared = float(weights[0] @ noise[known, i])
    return float(mean[0]), float(covariance[0, 0] + noise[i, i] - 2 * shared)


def label_curve(
    measured: Measured, *, confidence: float, n_classes: int, errors: Sequence[float] | None = None
) -> LabelCurve:
    """The curve and its predictions; `errors` that labels are wanted for, default up to three round ones."""
    p = len(measured.labels)
    z = critical_value(confidence)
    inflation = max(STEPS if measured.grouped else 1.0, UNTESTED if p <= 2 else 1.0)
    tested: list[tuple[float, float]] = []
    for _ in range(DOUBLINGS if p > 2 else 0):
        tested = [_back_test(measured, i, inflation) for i in range(p)]
        misses = [
            (math.log(e) - mean) ** 2 / variance for e, (mean, variance) in zip(measured.errors, tested, strict=True)
        ]
        if float(np.mean(misses)) <= 1:
            break
        inflation *= 2
    least, most = float(measured.labels[0]), float(measured.labels[-1])
    back_tests = tuple(
        BackTest(
            name, int(n), float(e), _error(mean), _error(mean - z * math.sqrt(v)), _error(mean + z * math.sqrt(v)),
            n in (least, most),
        )
        for name, n, e, (mean, v) in zip(measured.names, measured.labels, measured.errors, tested, strict=bool(tested))
    )  # fmt: skip
    doublings = tuple(_doubling(measured, i, inflation, z) for i in range(p))
    if errors is None:
        low, high = float(measured.errors.min()), float(measured.errors.max())
        errors = [e for e in ROUND_ERRORS if low < e < high][:MOST_ERRORS]
    needed = tuple(_needed(measured, e, n_classes, inflation, z) for e in errors)
    points = tuple(
        CurvePoint(name, int(n), float(e), float(se))
        for name, n, e, se in zip(
            measured.names, measured.labels, measured.errors, np.sqrt(np.diag(measured.covariance)), strict=True
        )
    )
    return LabelCurve(points, doublings, needed, back_tests, inflation)


def _error(log_error: float) -> float:
    return min(1.0, math.exp(log_error))


def _doubling(measured: Measured, i: int, inflation: float, z: float) -> Doubling:
    labels = float(measured.labels[i])
    mean, covariance = predict(measured, np.array([labels, 2 * labels]), inflation, equal=bool(measured.equal[i]))
    now, then = np.exp(mean)
    gradient = np.array([-now, then])
    half = z * math.sqrt(max(0.0, float(gradient @ covariance @ gradient)))
    change = float(then - now)
    beyond = bool(2 * labels > measured.labels[-1])
    return Doubling(measured.names[i], int(labels), change, change - half, change + half, beyond)


def _needed(measured: Measured, error: float, n_classes: int, inflation: float, z: float) -> LabelsNeeded:
    """First sizes at which the curve, and each end of its interval, are down at an error."""
    x = np.linspace(math.log(n_classes), math.log(FARTHEST * float(measured.labels[-1])), SEARCHED)
    mean, covariance = predict(measured, np.exp(x), inflation)
    half = z * np.sqrt(np.maximum(0.0, np.diag(covariance)))

    def reached(curve: np.ndarray) -> float:
        above = curve - math.log(error)
        down = np.flatnonzero(above <= 0)
        if not len(down):
            return math.nan
        i = int(down[0])
        if i == 0:
            return float(np.exp(x[0]))
        share = above[i - 1] / (above[i - 1] - above[i])  # straight between two sizes that were looked at
        return float(np.exp(x[i - 1] + share * (x[i] - x[i - 1])))

    labels = reached(mean)
    inside = measured.labels[0] <= labels <= measured.labels[-1]
    return LabelsNeeded(error, labels, reached(mean - half), reached(mean + half), not inside)
