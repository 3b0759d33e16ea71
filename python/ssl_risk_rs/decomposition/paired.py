"""Differences between encoders whose probes were judged on the same rows.

A risk is a sum of row scores (`scores`), so a difference of two encoders' risks is a sum of differences of scores on
the same rows: what makes a row hard for both cancels before anything is squared.

    V_row   Σ over independent units (rows, or whole groups) of the squared difference of the two encoders' centred
            scores, by set of rows; strata are common to all encoders
    V_P     the jackknife of `variation` on differences of the fold probes' smoothed errors, fold by fold; and what
            the choice of each encoder's penalty adds, see `choice`
    factor  each encoder's scores of a logistic training error are scaled by the root of its own max(1, H/R)

Intervals are estimate ± t·√(V + Σ 1/n²) with Satterthwaite's degrees of freedom; p-values come from the same t. Nothing
is resampled. How well they cover: docs/coverage.md, "Differences between encoders".
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from ssl_risk_rs._inference import holm
from ssl_risk_rs._limits import check_choice, check_confidence
from ssl_risk_rs._names import distinct
from ssl_risk_rs._notes import Note
from ssl_risk_rs.decomposition.contrasts import Contrast, ScoredResult
from ssl_risk_rs.decomposition.scores import ONE_GROUP_SHARE, RowScores, training_error
from ssl_risk_rs.errors import NotComparableError, ParameterError
from ssl_risk_rs.results.compare import (
    Comparison,
    Difference,
    DimensionPart,
    Rank,
    check_methods,
    common_rows,
    no_classes,
    rank_intervals,
)
from ssl_risk_rs.results.metrics import ERROR, METRICS, Metric
from ssl_risk_rs.results.quantities import DETAILS, QUANTITIES, Quantity, components
from ssl_risk_rs.results.run import Decomposition, Run

__all__ = ["PAIRED", "check_comparable", "common_probes", "compare", "dimension_parts", "paired_differences"]

_TOTAL = "agg_risk"
#: metrics whose rows score 0 or 1
PAIRED = ("error", "balanced", "top5")


def common_probes(results: Sequence[Run | Decomposition]) -> tuple[str, ...]:
    """Probes that all results have, in the order of the first."""
    every = [_probes(result) for result in results]
    return tuple(probe for probe in every[0] if all(probe in of_one for of_one in every))


def compare(
    results: Sequence[Run | Decomposition],
    *,
    names: Sequence[str] | None = None,
    probe: str | None = None,
    confidence: float | None = None,
    metric: str = ERROR.name,
) -> Comparison:
    """Compare encoders with the first of them, on the rows that all were judged on.

    Parameters
    ----------
    results : two or more runs or decompositions of the same rows, cut alike
    names : what the encoders are called; default: as the runs name them
    probe : "logistic" or "ridge"; default: logistic if all have it
    confidence : of intervals and ranks; default: that of the first result
    metric : "error", "balanced" (the mean over classes) or "top5", from the same judged rows

    Returns
    -------
    Comparison; `print` shows its table and waterfall, `frame()` its numbers.

    Raises
    ------
    NotComparableError naming the field that differs: probe, protocol, scaling, seed, subsets, floor, rows, labels,
    groups; ParameterError for fewer than two results, a probe that one lacks, or a metric that is none of these.

    Examples
    --------
    >>> one = decompose(X, y, X_test, y_test, probe="ridge", name="all")
    >>> other = decompose(X[:, :3], y, X_test[:, :3], y_test, probe="ridge", name="three")
    >>> comparison = compare([one, other])
    >>> d = comparison.difference("three", "agg_risk")
    >>> round(d.difference - (other.estimate("agg_risk") - one.estimate("agg_risk")), 12)
    0.0
    """
    results = [results] if isinstance(results, (Run, Decomposition)) else list(results)
    for result in results:
        if not isinstance(result, (Run, Decomposition)):
            raise ParameterError(f"{result!r} is neither a run nor a decomposition; Run.load(path) reads a run folder")
    if len(results) < 2:
        raise ParameterError(f"a comparison needs at least two results, got {len(results)}")
    labels = _labels(results, names)
    chosen = [_of_probe(r, _choose(results, labels, probe), label) for r, label in zip(results, labels, strict=True)]
    check_methods(chosen, labels)
    method = chosen[0].method
    confidence = method.confidence if confidence is None else confidence
    check_confidence(confidence)
    scored = _paired_metric(metric, chosen)
    encoders = _judged_alike(chosen, labels, scored)
    supervised = all(d.supervised for d in chosen)
    family = (*components(supervised=supervised), _TOTAL)
    known = set.intersection(*(set(e.rows.names) for e in encoders))
    details = [name for name in DETAILS if known.issuperset(QUANTITIES[name].weights)]
    order = [*components(supervised=supervised), *details, _TOTAL]
    pairs = {(i, j): Contrast.of((encoders[i], encoders[j]), (-1, 1)) for i, j in combinations(range(len(encoders)), 2)}
    found = [
        _difference(pairs[0, i], (labels[0], labels[i]), QUANTITIES[name], confidence)
        for i in range(1, len(encoders))
        for name in order
    ]
    rows = encoders[0].rows
    return Comparison(
        encoders=tuple(labels),
        probe=method.probe,
        protocol=method.protocol,
        metric=scored.name,
        target=_target(chosen),
        confidence=confidence,
        n_train=rows.n,
        n_test=rows.n_test,
        n_groups=rows.sets["test"].n_units if rows.grouped else None,
        differences=_corrected(found, family),
        ranks=tuple(
            rank
            for name in (_TOTAL, *family[:-1])
            for rank in _ranks(encoders, labels, pairs, QUANTITIES[name], confidence)
        ),
        notes=tuple(_notes(results, chosen, labels, rows, pairs)),
    )


def check_comparable(results: Sequence[Run | Decomposition], names: Sequence[str], probe: str | None = None) -> None:
    """What `compare` refuses, before anything is computed.

    Raises
    ------
    NotComparableError naming the field that differs; ParameterError for a probe that one lacks.
    """
    chosen = [_of_probe(r, _choose(results, names, probe), name) for r, name in zip(results, names, strict=True)]
    check_methods(chosen, names)
    common_rows([d.judgements for d in chosen if d.judgements is not None], names)


def dimension_parts(
    whole: Sequence[Decomposition], matched: Sequence[Decomposition], names: Sequence[str], *, confidence: float | None
) -> tuple[DimensionPart, ...]:
    """Of each encoder's gap to the first: with all features, at an equal number, and their difference, paired by row.

    Parameters
    ----------
    whole, matched : of the same encoders, with all features and with as many each
    """
    every, count = [*whole, *matched], len(whole)
    check_methods(every, [*names, *names])
    encoders = _judged_alike(every, [*names, *names])
    level = whole[0].method.confidence if confidence is None else confidence
    parts = []
    for i in range(1, count):
        four = [encoders[i], encoders[0], encoders[count + i], encoders[count]]
        contrast = Contrast.of(four, (1, -1, -1, 1))
        for name in (*components(supervised=False), _TOTAL):
            quantity = QUANTITIES[name]
            found = contrast.measure(quantity, level)
            of_whole, of_matched = (a.value(quantity) - b.value(quantity) for a, b in (four[:2], four[2:]))
            parts.append(
                DimensionPart(
                    name, names[0], names[i], of_whole, of_matched, found.value, found.se, found.low, found.high,
                    found.df, found.p, found.grade,
                )
            )  # fmt: skip
    return tuple(parts)


def _target(chosen: Sequence[Decomposition]) -> str | None:
    """The column that stood in for the labels of all, as far as they know it."""
    targets = {None if d.provenance is None else d.provenance.target for d in chosen}
    return targets.pop() if len(targets) == 1 else None


def paired_differences(
    one: Decomposition,
    other: Decomposition,
    names: tuple[str, str],
    quantities: Sequence[str],
    *,
    confidence: float | None = None,
) -> tuple[Difference, ...]:
    """Differences of two decompositions of the same rows, cut alike, whatever their probes and features: the other less
    the first, with Holm's p-values over all of them. Quantities that one of the two lacks are left out.

    Raises
    ------
    NotComparableError if a judged row differs.
    """
    encoders = _judged_alike((one, other), names)
    pair = Contrast.of(encoders, (-1, 1))
    known = set(encoders[0].rows.names) & set(encoders[1].rows.names)
    shown = [name for name in quantities if known.issuperset(QUANTITIES[name].weights)]
    level = one.method.confidence if confidence is None else confidence
    return _corrected([_difference(pair, names, QUANTITIES[name], level) for name in shown], shown)


# --- who is compared


def _probes(result: Run | Decomposition) -> tuple[str, ...]:
    return (result.method.probe,) if isinstance(result, Decomposition) else result.probes


def _choose(results: Sequence[Run | Decomposition], labels: Sequence[str], probe: str | None) -> str:
    common = common_probes(results)
    if probe is not None:
        if probe not in common:
            lacking = next(label for r, label in zip(results, labels, strict=True) if probe not in _probes(r))
            raise NotComparableError("probe", f"{lacking} has no {probe} probe: decompose it with --probe {probe}")
        return probe
    if not common:
        has = "; ".join(f"{label}: {', '.join(_probes(r))}" for r, label in zip(results, labels, strict=True))
        raise NotComparableError("probe", f"the results have no probe in common ({has}): decompose all with the same")
    return "logistic" if "logistic" in common else common[0]


def _of_probe(result: Run | Decomposition, probe: str, label: str) -> Decomposition:
    if probe not in _probes(result):
        raise NotComparableError("probe", f"{label} has no {probe} probe")
    found = result if isinstance(result, Decomposition) else result.of_probe(probe)
    if not found.predicts_classes:
        raise no_classes(label)
    return found


def _labels(results: Sequence[Run | Decomposition], names: Sequence[str] | None) -> list[str]:
    if names is not None:
        if len(names) != len(results) or len(set(names)) < len(names):
            raise ParameterError(f"{len(results)} results need as many different names, got {list(names)}")
        return list(names)
    plain = [r.name if isinstance(r, Decomposition) else r.provenance.encoder for r in results]
    return distinct(plain, [r.path.name if isinstance(r, Run) and r.path is not None else "" for r in results])


def _paired_metric(name: str, results: Sequence[Decomposition]) -> Metric:
    check_choice("metric", name, PAIRED)
    metric = METRICS[name]
    if (classes := min(d.sizes.classes for d in results)) < metric.least_classes:
        raise ParameterError(
            f"the {metric.label} of {classes} classes is 0 for every probe: it needs {metric.least_classes} or more"
        )
    return metric


def _judged_alike(results: Sequence[Decomposition], names: Sequence[str], metric: Metric = ERROR) -> list[ScoredResult]:
    """Row scores in one order of rows and with one order of difficulty of the classes.

    Raises
    ------
    NotComparableError if a judged row differs, or is not there.
    """
    every = [j for d in results if (j := d.judgements) is not None]
    if len(every) < len(results):
        raise NotComparableError("judgements", "a decomposition holds no judged rows: make it again")
    judged = common_rows(every, names)
    difficulty = np.mean([training_error(j) for j in judged], axis=0)
    scored: list[ScoredResult] = []
    for d, j in zip(results, judged, strict=True):
        scored.append(ScoredResult.of(d, j, difficulty, metric, like=scored[0] if scored else None))
    return scored


def _notes(
    results: Sequence[Run | Decomposition],
    chosen: Sequence[Decomposition],
    labels: Sequence[str],
    rows: RowScores,
    pairs: Mapping[tuple[int, int], Contrast],
) -> list[Note]:
    notes = [] if all(pair.varied for pair in pairs.values()) else [Note("no_probe_variation")]
    older = [n for n, d in zip(labels, chosen, strict=True) if d.judgements and d.judgements.penalty_chances is None]
    if 0 < len(older) < len(labels):
        notes.append(Note("choice_unknown", {"encoders": ", ".join(older)}))
    without = [label for label, d in zip(labels, chosen, strict=True) if not d.supervised]
    if 0 < len(without) < len(labels):
        notes.append(Note("compared_without_twin", {"encoders": ", ".join(without)}))
    if _counted(rows.judged.train_ids):
        notes.append(Note("compared_by_number"))
    seen = {
        label: r.provenance.saw_training_images
        for r, label in zip(results, labels, strict=True)
        if r.provenance is not None and r.provenance.saw_training_images is not None
    }
    unseen = [label for label, saw in seen.items() if not saw]
    if unseen and len(set(seen.values())) > 1:
        notes.append(Note("compared_pretraining", {"encoders": ", ".join(unseen)}))
    missed = [label for label, d in zip(labels, chosen, strict=True) if not d.converged]
    if missed:
        notes.append(Note("compared_unconverged", {"encoders": ", ".join(missed)}))
    if any(d.floor.separable for d in chosen):
        separable = ", ".join(label for label, d in zip(labels, chosen, strict=True) if d.floor.separable)
        notes.append(Note("compared_separable", {"encoders": separable}))
    notes += [note for note in rows.notes if note.code != "one_group_decides"]  # of one encoder's own risk
    for i, label in enumerate(labels[1:], 1):
        share = pairs[0, i].largest_share(QUANTITIES[_TOTAL], "test")
        if rows.grouped and share > ONE_GROUP_SHARE:
            notes.append(Note("one_group_decides_difference", {"encoder": label, "percent": 100 * share}))
    return notes


def _counted(ids: np.ndarray) -> bool:
    """Whether ids are the numbers of the rows: what rows have that came without."""
    if not (ids == b"0").any():  # a million names are sorted only where there is reason to
        return False
    return bool(np.array_equal(np.sort(ids), np.sort(np.arange(len(ids)).astype(str).astype(np.bytes_))))


# --- one difference


def _difference(pair: Contrast, names: tuple[str, str], quantity: Quantity, confidence: float) -> Difference:
    one, other = pair.encoders
    found = pair.measure(quantity, confidence)
    n, n_groups = one.rows.sizes()[quantity.rows], one.rows.n_groups(quantity.rows)
    return Difference(
        quantity.name, *names, one.value(quantity), other.value(quantity), found.value, found.se,
        found.low, found.high, n, n_groups, found.discordant, found.df, found.p, None, found.below, found.grade,
    )  # fmt: skip


# --- all of them


def _corrected(found: Sequence[Difference], family: Sequence[str]) -> tuple[Difference, ...]:
    """With Holm's p-values over the components and totals of all encoders; those without an interval, and those that
    no row tells apart, take no part."""
    members = [i for i, d in enumerate(found) if d.quantity in family and not (d.identical or math.isnan(d.p))]
    adjusted = dict(zip(members, holm([found[i].p for i in members]), strict=True))
    return tuple(replace(d, p_holm=adjusted.get(i)) for i, d in enumerate(found))


def _ranks(
    encoders: Sequence[ScoredResult], labels: Sequence[str], pairs: Mapping[tuple[int, int], Contrast],
    quantity: Quantity, confidence: float,
) -> list[Rank]:  # fmt: skip
    """Ranks by a quantity, with those that the differences of all pairs (Holm) do not exclude."""
    n = len(encoders)
    every = [pair.measure(quantity, confidence) for pair in pairs.values()]
    p = holm([1.0 if math.isnan(d.p) else d.p for d in every])
    apart = np.zeros((n, n), bool)
    for (i, j), d, adjusted in zip(pairs, every, p, strict=True):
        if adjusted <= 1 - confidence:
            apart[(i, j) if d.value > 0 else (j, i)] = True
    values = [e.value(quantity) for e in encoders]
    return [
        Rank(label, quantity.name, value, *rank)
        for label, value, rank in zip(labels, values, rank_intervals(values, apart), strict=True)
    ]
