"""Whether the record of a decomposition and its outcomes are of the same run."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from ssl_risk_rs._limits import MOST_PARTS, MOST_ROWS
from ssl_risk_rs._notes import Note
from ssl_risk_rs.results.estimate import Estimate
from ssl_risk_rs.results.fewshot import FewShot, ShotOutcomes
from ssl_risk_rs.results.judgements import NO_SUBSET, Judgements, Outcome
from ssl_risk_rs.results.metrics import HEADLINES, METRICS, Metric, risk_of
from ssl_risk_rs.results.quantities import QUANTITIES, components
from ssl_risk_rs.results.record import Penalty, Sizes

if TYPE_CHECKING:
    from ssl_risk_rs.results.run import Decomposition

__all__ = ["disagreements", "unreadable_notes"]

#: of a recorded number: sums of a million float64 terms in another order stay below it, one row of a million does not
TOLERANCE = 1e-9
#: the square of a number up to here is finite
LARGEST = 1e100


def disagreements(d: "Decomposition") -> Iterator[str]:
    """What is wrong with a decomposition that was read; what comes later takes for granted what came before.

    Risks that are plain means are computed again; R_AS, which has a control variate, is taken as it is recorded.
    """
    yield from _record(d)
    if d.judgements is not None:
        yield from _rows(d.judgements, d.sizes)
        if d.predicts_classes:
            yield from _classes(d.judgements, d.sizes)
        if d.covariance.shape != (len(d.covariance_of),) * 2:
            yield f"the covariance has the shape {d.covariance.shape}, for {len(d.covariance_of)} risks"
        yield from _numbers(d.judgements, HEADLINES[d.method.metric], d.estimates)
        for other in d.metrics:
            yield from _numbers(d.judgements, METRICS[other.metric], other.estimates)
    for shot in d.shots:
        if shot.outcomes is not None:
            yield from _draws(shot, shot.outcomes, d.sizes)
    if d.control is not None:
        for problem in disagreements(d.control):
            yield f"of the control encoder, {problem}"


def _record(d: "Decomposition") -> Iterator[str]:
    if not 0 < d.method.confidence < 1:
        yield f"confidence {d.method.confidence} is not between 0 and 1"
    if d.method.metric not in HEADLINES:
        yield f"metric {d.method.metric!r} is none of this release"
    for other in d.metrics:
        if other.metric not in METRICS:
            yield f"metric {other.metric!r} is none of this release"
    yield from _sizes(d.sizes)
    for name, penalty in d.penalties.items():
        yield from _penalty(name, penalty)
    notes = (d.notes, *(other.notes for other in d.metrics), *(shot.notes for shot in d.shots))
    yield from unreadable_notes(chain(*notes))
    of_draws = components(supervised=d.supervised)  # whatever the order: draws have no R_UF
    for estimates, names in (
        (d.estimates, d.component_names),
        *((other.estimates, d.component_names) for other in d.metrics),
        *((shot.estimates, of_draws) for shot in d.shots),
    ):
        for name, e in estimates.items():
            if name not in QUANTITIES or e.quantity != name:
                yield f"{name!r}, recorded as {e.quantity!r}, is no quantity"
            if not math.isfinite(e.estimate):
                yield f"{name} has no finite estimate"
            if abs(e.estimate) > LARGEST or e.se > LARGEST:
                yield f"{name} is {e.estimate:g} with a standard error of {e.se:g}, which no error is"
            if e.low > e.high:  # never of NaN, which says that there is none
                yield f"the interval of {name} goes from {e.low:g} down to {e.high:g}"
            for number, what in ((e.n, "rows"), (e.n_groups, "groups")):
                if number is not None and not 0 <= number <= MOST_ROWS:
                    yield f"{name} is recorded as judged on {number} {what}"
        needed = [*names, "agg_risk", *(risk for name in names for risk in QUANTITIES[name].weights)]
        if missing := [name for name in needed if name not in estimates]:
            yield f"no {missing[0]} is recorded"
    yield from _named(d)


def _named(d: "Decomposition") -> Iterator[str]:
    """What names risks, components or sizes: these are there."""
    if unknown := [name for name in d.covariance_of if name not in QUANTITIES]:
        yield f"a covariance of {unknown[0]!r} is recorded, which is no risk"
    # sizes of one or two rows a class, and those whose draws equal another's, are no points of it
    if d.label_curve is not None and not 1 <= len(d.label_curve.points) <= len(d.shots) + 1:
        yield f"the curve of error against labels has {len(d.label_curve.points)} points, for {len(d.shots)} sizes"
    largest, p = d.bottleneck.quantity, d.bottleneck.probability
    if largest not in d.component_names:
        yield f"the largest part is recorded as {largest!r}, which is none of the components"
    elif not d.floor.separable and d.estimate(largest) < max(map(d.estimate, d.component_names)) - TOLERANCE:
        yield f"the largest part is recorded as {largest!r}, and another is larger"
    if p is not None and not 0 <= p <= 1:
        yield f"the largest part is recorded with a probability of {p:g}"
    if (least := min(d.probe_variance, d.variation.held)) < 0:
        yield f"the probe's own variance is recorded as {least:g}"
    if d.probe_variation is not None and abs(d.probe_variation.test - d.probe_variance) > TOLERANCE:  # never of NaN
        yield f"the probe's own variance is recorded as {d.probe_variance:g} and {d.probe_variation.test:g}"


def _sizes(sizes: Sizes) -> Iterator[str]:
    if sizes.features < 0:
        yield f"{sizes.features} features are recorded"
    for number, what in ((sizes.subsets, "held-out subsets"), (sizes.folds, "folds"), (sizes.folds_judged, "folds")):
        if not 0 <= number <= MOST_PARTS:
            yield f"{number} {what} are recorded, and a run has at most {MOST_PARTS}"


def _penalty(name: str, p: Penalty) -> Iterator[str]:
    """What was tried: each value has its cost, and the best is one of them."""
    for costs, what in ((p.errors, "errors"), (p.losses, "losses"), (p.rows, "numbers of rows")):
        if costs and len(costs) != len(p.grid):
            yield f"the penalty {name} has {len(costs)} {what} for {len(p.grid)} values"
    if p.grid and p.value not in p.grid:
        yield f"the penalty {name} is {p.value:g}, which is none of the values tried"
    if any(not 0 < rows <= MOST_ROWS for rows in p.rows):
        yield f"values of the penalty {name} are recorded as judged on {min(p.rows)} to {max(p.rows)} rows"


def unreadable_notes(notes: Iterable[Note]) -> Iterator[str]:
    """Notes that are none of this release, or lack what their sentence says."""
    for note in notes:
        try:
            note.sentence()
        except (KeyError, TypeError, ValueError, OverflowError):
            yield f"the note {note.code!r} cannot be read"


def _classes(j: Judgements, sizes: Sizes) -> Iterator[str]:
    """What is recorded of the classes, of labels that were read."""
    counts = np.bincount(j.train_labels)
    if (classes := int((counts > 0).sum())) != sizes.classes:
        yield f"{sizes.classes} classes are recorded, and training rows have {classes}"
    chance = float((j.test_labels != counts.argmax()).mean())
    if abs(sizes.chance - chance) > TOLERANCE:  # never of NaN, which older releases wrote
        yield f"the error of guessing is recorded as {sizes.chance:g}, and {chance:g} by the labels"


#: what messages call the outcomes of a probe
_CALLED = {
    "af": "R_AF", "at_alpha": "the probe at α* on training rows", "sup": "R_ΦF", "held_out": "R_AS",
    "held_out_floor": "held-out rows at the floor", "us": "R_US", "uf": "R_UF",
    "floor_on_test": "the floor probe on test rows", "sup_on_test": "the twin on test rows", "cs": "R_CS, subset",
    "other_penalties": "other penalties on test rows,", "other_penalties_held": "other penalties on held-out rows,",
}  # fmt: skip


def _rows(j: Judgements, sizes: Sizes) -> Iterator[str]:
    n, m, k = sizes.train, sizes.test, len(j.class_names)
    for array, name, length in (
        (j.train_ids, "ids of training rows", n), (j.test_ids, "ids of test rows", m),
        (j.train_groups, "groups of training rows", n), (j.test_groups, "groups of test rows", m),
    ):  # fmt: skip
        if array is not None and (array.shape != (length,) or array.dtype.kind != "S"):
            yield f"{name} are {array.dtype}{array.shape}, expected {length} names"
    yield from _integers(j.train_labels, "labels of training rows", (n,), 0, k)
    yield from _integers(j.test_labels, "labels of test rows", (m,), 0, k)
    yield from _integers(j.subset, "held-out subsets", (n,), NO_SUBSET, sizes.subsets)
    yield from _integers(j.fold, "folds", (n,), -1, sizes.folds)
    in_subset = tuple(np.bincount(j.subset[j.in_subset], minlength=sizes.subsets).tolist())
    if in_subset != sizes.subset_rows or len(j.cs) != sizes.subsets:
        yield f"held-out subsets have {in_subset} rows, {sizes.subset_rows} are recorded"
    lengths = {"train": n, "test": m, "held": sum(in_subset)}
    for field, part, outcome in j.outcomes():
        name, shape = _called(field), (lengths[part],)
        yield from _integers(outcome.predicted, f"predictions of {name}", shape, 0, k)
        yield from _integers(outcome.rank, f"ranks of {name}", shape, 0, k)
        yield from _floats(outcome.loss, f"losses of {name}", shape)
        yield from _floats(outcome.margin, f"margins of {name}", shape)
    judged = sizes.folds_judged
    for array, name, length in (
        (j.fold_margins, "margins of the folds", m), (j.fold_losses, "losses of the folds", m),
        (j.fold_margins_held, "margins of the folds on held-out rows", sum(in_subset)),
        (j.fold_losses_held, "losses of the folds on held-out rows", sum(in_subset)),
    ):  # fmt: skip
        if array is not None:
            yield from _floats(array, name, (judged, length))
    yield from _chances(j)
    if j.unit is not None:
        yield from _floats(j.unit, "units of training rows", (n,))
    if j.fold_ranks is not None:
        yield from _integers(j.fold_ranks, "ranks of the folds", (judged, m), 0, k)
    if j.fold_ranks_held is not None:
        yield from _integers(j.fold_ranks_held, "ranks of the folds on held-out rows", (judged, sum(in_subset)), 0, k)


def _called(outcome: str) -> str:
    """How an outcome is called: one of several probes has its number behind it."""
    field, _, number = outcome.rpartition("_")
    return _CALLED.get(outcome) or f"{_CALLED[field]} {number}"


def _chances(j: Judgements) -> Iterator[str]:
    """How probably each penalty is chosen: of as many as there are probes of."""
    if len(j.other_penalties) != len(j.other_penalties_held):
        counts = f"{len(j.other_penalties)} other penalties are judged on test rows, and {len(j.other_penalties_held)}"
        yield f"{counts} on held-out rows"
    if j.penalty_chances is None:
        if j.other_penalties:
            yield "chances of the penalties are not recorded"
        return
    name = "chances of the penalties"
    if unlike := list(_floats(j.penalty_chances, name, (1 + len(j.other_penalties),))):
        yield from unlike
    elif not (j.penalty_chances > 0).all() or abs(float(j.penalty_chances.sum()) - 1) > TOLERANCE:
        yield f"{name} are {j.penalty_chances.tolist()}, whose sum is to be 1"


def _integers(array: np.ndarray, name: str, shape: tuple[int, ...], low: int, end: int) -> Iterator[str]:
    if array.shape != shape or array.dtype.kind not in "iu":
        yield f"{name} are {array.dtype}{array.shape}, expected integers {shape}"
    elif array.size and not low <= int(array.min()) <= int(array.max()) < end:
        yield f"{name} lie between {array.min()} and {array.max()}, expected {low} to {end - 1}"


def _floats(array: np.ndarray, name: str, shape: tuple[int, ...]) -> Iterator[str]:
    if array.shape != shape or array.dtype.kind != "f":
        yield f"{name} are {array.dtype}{array.shape}, expected floats {shape}"
    elif not np.isfinite(array).all():
        yield f"{name} are not all finite"


def _numbers(j: Judgements, metric: Metric, estimates: Mapping[str, Estimate]) -> Iterator[str]:
    """Recorded numbers that are not the outcomes'."""
    if metric.mean == "bins":  # a row at the edge of a bin may fall to either side on another machine
        return
    k = len(j.class_names)
    outcomes: dict[str, tuple[Sequence[Outcome | None], np.ndarray]] = {
        "risk_af": ([j.af], j.train_labels), "risk_sup": ([j.sup], j.train_labels), "risk_us": ([j.us], j.test_labels),
        "risk_cs": (j.cs, j.test_labels), "risk_uf": ([j.uf], j.test_labels),
    }  # fmt: skip
    risks: dict[str, float] = {}
    for name, (found, labels) in outcomes.items():
        if judged := [risk_of(metric, outcome, labels, k) for outcome in found if outcome is not None]:
            risks[name] = min(max(float(np.mean(judged)), 0.0), metric.high)
    yield from _sums(risks, estimates, metric.label)


def _sums(risks: Mapping[str, float], estimates: Mapping[str, Estimate], title: str) -> Iterator[str]:
    """Numbers that are not what these risks, and those that are recorded alone, make."""
    recorded = {name: e.estimate for name, e in estimates.items() if QUANTITIES[name].kind == "risk"}
    known = {**recorded, **risks}
    for name, e in estimates.items():
        weights = QUANTITIES[name].weights
        if set(weights) <= set(known):
            value = sum(weight * known[risk] for risk, weight in weights.items())
            if abs(value - e.estimate) > TOLERANCE * max(1.0, abs(value)):
                yield f"{name} ({title}) is recorded as {e.estimate:.6g}, and {value:.6g} by the outcomes"


def _draws(shot: FewShot, outcomes: ShotOutcomes, sizes: Sizes) -> Iterator[str]:
    title = shot.size.title
    yield from _integers(outcomes.draws, f"draws of {title}", (shot.draws, shot.labels), 0, sizes.train)
    yield from _integers(outcomes.judged, f"judged rows of {title}", (shot.judged_train,), 0, sizes.train)
    if outcomes.wrong_test.shape != (shot.draws, sizes.test):
        yield f"test rows of {title} have the shape {outcomes.wrong_test.shape}, expected {(shot.draws, sizes.test)}"
    yield from _sums({"risk_us": float(outcomes.wrong_test.mean())}, shot.estimates, title)
