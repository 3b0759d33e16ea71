"""What an error is made of, for whom, and beside what: from the judged rows of finished decompositions."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ssl_risk_rs._inference import critical_value, holm, two_sided
from ssl_risk_rs.decomposition.choice import NO_CHOICE, choice_of
from ssl_risk_rs.decomposition.grading import grade
from ssl_risk_rs.decomposition.intervals import Uncertainty, quantify_by
from ssl_risk_rs.decomposition.metrics import with_metrics
from ssl_risk_rs.decomposition.paired import compare, paired_differences
from ssl_risk_rs.decomposition.scores import RowScores
from ssl_risk_rs.decomposition.variation import of_probe
from ssl_risk_rs.probes.features import Features
from ssl_risk_rs.results.compare import Difference
from ssl_risk_rs.results.estimate import Grade, wilson
from ssl_risk_rs.results.explain import FAR_SHARE, Confusion, Layer, Part, Parts, ProbeContrast, Spread, Verdict
from ssl_risk_rs.results.judgements import Judgements
from ssl_risk_rs.results.provenance import Provenance
from ssl_risk_rs.results.quantities import QUANTITIES
from ssl_risk_rs.results.record import ProbeVariation
from ssl_risk_rs.results.run import Decomposition, Run, common_components

__all__ = [
    "beside_control", "class_parts", "compare_layers", "compare_probes", "confusions", "decide", "group_parts",
    "parts_of", "spread_of",
]  # fmt: skip

#: an encoder that errs less than the control by less than this share of the control's error is hardly better
HARDLY = 0.1
#: rows that a class needs in each set, to have a variance of its own
LEAST_ROWS = 2
#: how many times as far out as the usual row one lies that is far
FAR = 100.0
#: rows on which the spread of a representation is measured
SPREAD_ROWS = 10_000
#: sums of shares that should be equal differ by up to 1e-15
ROUNDING = 1e-12
_TOTAL = "agg_risk"


# --- the verdict


def decide(
    result: Decomposition,
    provenance: Provenance,
    *,
    untrained: bool,
    of_control: Sequence[Difference] = (),
    spread: Spread | None = None,
) -> Verdict:
    """What an error is mostly made of: the first of `Verdict` that holds.

    The size of a component alone does not tell an encoder with random weights from one that needs labels: both have
    much probe generalization. Hence the total is set against guessing and against the control before any component
    is read.
    """
    total, chance, sizes = result.estimates[_TOTAL], result.sizes.chance, result.sizes
    collapsed = spread.collapsed if spread is not None else sizes.constant_features == sizes.features > 0
    if collapsed and total.estimate > chance / 2:
        return Verdict.COLLAPSED
    if total.grade is Grade.NONE:
        return Verdict.NO_INTERVAL
    if total.high >= chance and not _tells_classes(result):
        held_out = result.estimates["risk_as"]
        copies = any(note.code.startswith("repeated_training") for note in result.notes)  # they make it small
        told = held_out.high < min(chance, _chance_in_training(result), total.low) and not copies
        return Verdict.TEST_ROWS if told else Verdict.AT_CHANCE
    by = {d.quantity: d for d in of_control}
    if not _errs_less_in_training(result, by):
        d = by.get(_TOTAL)
        if d is not None and -d.difference < HARDLY * d.estimate_baseline:
            return Verdict.NOTHING_BEYOND_CONTROL
        if d is not None and d.high >= 0:
            return Verdict.CONTROL_NOT_EXCLUDED
    if untrained:
        return Verdict.UNTRAINED
    if result.bottleneck.probability is None:
        return Verdict.NOT_IDENTIFIED
    largest = result.bottleneck.quantity
    if largest == "approx":
        return Verdict.WEAK_TWIN if result.estimates["usability"].high < 0 else Verdict.ARCHITECTURE
    if largest in ("usability", "approx_usability"):
        beside = (result.estimates[largest], result.estimates["risk_as"])
        sure = Grade.INDICATIVE not in [e.grade for e in beside]
        harder = sure and total.high < min(e.low for e in beside)
        return Verdict.TRAINING_ROWS if harder else Verdict.REPRESENTATION
    if largest.startswith("probe_gen"):
        return Verdict.LABELS
    return _unseen(result, provenance, by.get("enc_gen"))


def _errs_less_in_training(result: Decomposition, of_control: Mapping[str, Difference]) -> bool:
    """Whether one shift of the test rows hides that the encoder errs clearly less than its control: both lose between
    training and test rows, and on held-out training rows the encoder is ahead."""
    if not {_TOTAL, "enc_gen"} <= of_control.keys() or result.control is None:
        return False
    if min(d.estimates["enc_gen"].low for d in (result, result.control)) <= 0:
        return False
    ahead = of_control["enc_gen"].difference - of_control[_TOTAL].difference  # on held-out rows
    own, of = result.estimates["risk_as"], result.control.estimates["risk_as"]
    return ahead >= HARDLY * of.estimate and own.high < of.low


def _chance_in_training(result: Decomposition) -> float:
    """Error of naming the most frequent class on training rows: a probe that does so errs less on held-out rows than on
    test rows, where these have more of the other classes."""
    if result.judgements is None or not result.predicts_classes:
        return result.sizes.chance
    counts = np.bincount(result.judgements.train_labels)
    return float(1 - counts.max() / counts.sum())


def _tells_classes(result: Decomposition) -> bool:
    """Whether the class-balanced error is clearly below that of guessing, which the 0-1 error hides where one class has
    most rows."""
    if result.judgements is None or not result.predicts_classes:
        return False
    found = with_metrics(result.with_control(None), "balanced").metric("balanced").estimates[_TOTAL]
    return found.high < 1 - 1 / len(np.unique(result.judgements.test_labels))


def _unseen(result: Decomposition, provenance: Provenance, beside: Difference | None) -> Verdict:
    """Why test rows are predicted worse than held-out training rows."""
    if "enc_gen" in result.component_names and result.may_be_of_classes:
        return Verdict.OF_CLASSES
    if provenance.saw_training_images is False:
        return Verdict.SHIFT
    if beside is None or result.control is None:
        return Verdict.UNSEEN
    if beside.low > 0:  # a shift costs a better representation more points, too
        return Verdict.MEMORIZED if provenance.saw_training_images else Verdict.UNSEEN
    return Verdict.SHIFT if result.control.estimates["enc_gen"].low > 0 else Verdict.UNSEEN


def beside_control(result: Decomposition, names: tuple[str, str]) -> tuple[Difference, ...]:
    """The encoder less its control, paired by row; nothing without a control, or where it holds no judged rows."""
    control = result.control
    if control is None or control.judgements is None or result.judgements is None:
        return ()
    return paired_differences(control, result, names, (_TOTAL, "enc_gen"))


def spread_of(features: Features, rows: np.ndarray) -> Spread:
    """How `rows` of a representation fill its space, on a strided sample of them."""
    sample = np.ascontiguousarray(rows[:: max(1, -(-len(rows) // SPREAD_ROWS))])
    wide = features.read(sample).astype(np.float64)
    far, far_share = _far_rows(wide)
    wide = wide[~far]
    mean = wide.mean(0)
    wide -= mean
    variance = np.square(wide).mean(0)
    alive = variance > 0
    scaled = wide[:, alive] / np.sqrt(variance[alive])
    d = int(alive.sum())
    if d > len(scaled):  # the sum of squares of the Gram matrix is that of the correlations
        squares = float(np.square(scaled @ scaled.T / len(scaled)).sum())
    else:
        squares = float(np.square(scaled.T @ scaled / len(scaled)).sum())
    length = float(np.square(mean).mean())
    return Spread(
        directions=d * d / squares if squares > 0 else 0.0,
        variance=float(variance.mean()) / length if length > 0 else math.inf,
        n_features=features.n_features,
        constant=features.n_features - d,
        n=len(wide),
        far=int(far.sum()),
        far_share=far_share,
    )


def _far_rows(wide: np.ndarray) -> tuple[np.ndarray, float]:
    """Rows (n, d) that lie a hundred times as far out as the usual one, and the share that they make of the variance of
    scaled features; none where that is less than `FAR_SHARE`, or more than a hundredth of the rows lie so."""
    none = np.zeros(len(wide), dtype=bool)
    variance = wide.var(0)
    alive = variance > 0
    if not alive.any():
        return none, 0.0
    centre = np.median(wide[:, alive], axis=0)  # a mean would follow a row far out
    lengths = np.square((wide[:, alive] - centre) / np.sqrt(variance[alive])).sum(1)
    far = lengths > FAR**2 * np.median(lengths)
    share = float(lengths[far].sum() / lengths.sum())
    few = far.sum() <= max(1, len(wide) // 100)
    return (far, share) if few and share >= FAR_SHARE else (none, share)


# --- classes and groups


def parts_of(result: Decomposition) -> Parts:
    """A decomposition by class and by group; nothing where it holds no judged rows, or of no classes."""
    if not result.predicts_classes:
        return Parts((), 0, ())
    return Parts(*class_parts(result), group_parts(result))


def class_parts(result: Decomposition) -> tuple[tuple[Part, ...], int]:
    """Each component, and the total, on the rows of each class, the surest first: by Holm's p-value of a difference
    from all rows, then p itself, then the shortest interval; and how many classes are left out, because a set has fewer
    than two of their rows.

    Intervals are those of `quantify` on the rows of the class. Of 100 simulated worlds whose classes do not differ, up
    to 3 had any corrected p-value below 0.05, and up to 11 where there is next to nothing to learn
    (bench/class_calibration.py).
    """
    judged = result.judgements
    if judged is None:
        return (), 0
    left_out = 0
    shares, places = _shares(judged), judged.places()
    classes: list[tuple[int, tuple[int, int, int], Uncertainty]] = []
    for c, train, test in _rows_by_class(judged):
        held = int(judged.in_subset[train].sum())
        if min(held, len(train) - held, len(test)) < LEAST_ROWS:
            left_out += 1
            continue
        own = _restricted(judged, train, test, places)
        measured = quantify_by(own, result.method, result.sizes, of_class=True)
        classes.append((c, (len(train), held, len(test)), measured))
    # five probes say little of one class's variation with the probe: under no difference it is that of all classes
    usual = ProbeVariation.mean([m.variation.less(m.choice) for _, _, m in classes])
    choices = _choices_by_class(result, judged, [c for c, _, _ in classes])
    return _surest([
        _class_part(result, judged, judged.class_names[c], name, measured, n, shares[:, c], usual, of_choice)
        for (c, n, measured), of_choice in zip(classes, choices, strict=True)
        for name in (*result.component_names, _TOTAL)
    ]), left_out  # fmt: skip


def _choices_by_class(
    result: Decomposition, judged: Judgements, classes: Sequence[int]
) -> list[tuple[ProbeVariation, ProbeVariation]]:
    """What the choice of the penalty adds to the errors of all rows, and to the difference of each class from them:
    another penalty may give one class what it takes from another."""
    choice = choice_of(judged) if result.variation.known else None
    if choice is None:
        return [(NO_CHOICE, NO_CHOICE)] * len(classes)
    rows = RowScores(judged, corrected=True, random_counts=result.method.random_counts)
    units, held = (rows.test_units, rows.sets["subset"]), judged.train_labels[judged.in_subset]
    of_all = choice.variation(*units)
    return [(of_all, choice.less_all(judged.test_labels == c, held == c).variation(*units)) for c in classes]


def _class_part(
    result: Decomposition,
    judged: Judgements,
    class_name: str,
    name: str,
    measured: Uncertainty,
    n: tuple[int, int, int],
    shares: np.ndarray,
    usual: ProbeVariation,
    choices: tuple[ProbeVariation, ProbeVariation],
) -> Part:
    estimates, weights = measured.estimates, QUANTITIES[name].weights
    e, whole = estimates[name], result.estimates[name]
    share = {"train": shares[0], "subset": shares[0], "test": shares[1]}
    carried = sum(w * share[QUANTITIES[r].rows] * estimates[r].estimate for r, w in weights.items())
    # under no difference its rows vary as all rows do: a class without errors is not known without error
    quantity, (of_all, of_difference) = QUANTITIES[name], choices
    chosen = [v.of(*quantity.tuned_weights) for v in (of_all, measured.choice, of_difference)]
    whole_variance, class_variance = max(0.0, whole.se**2 - chosen[0]), max(0.0, e.se**2 - chosen[1])
    own = of_probe(quantity, result.variation.less(of_all), judged)
    least = float(shares.min())
    of_rows = max(0.0, whole_variance - own) / least
    at_penalty = measured.variation.less(measured.choice)
    shown, usually = (of_probe(quantity, v, judged, of_class=True) for v in (at_penalty, usual))
    # cov(class, all) = share · V(class)
    variance = max(0.0, 1 - 2 * least) * max(class_variance, of_rows) + whole_variance + max(0.0, usually - shown)
    variance += chosen[2]
    difference = e.estimate - whole.estimate
    # the rows of one class may be few, and many classes ask for far quantiles: normal ones are too near there
    rows = dict(zip(share, n, strict=True))
    df = min(e.df, whole.df, *(rows[QUANTITIES[risk].rows] - 1 for risk in weights))
    p = 1.0 if abs(difference) <= ROUNDING else two_sided(difference, math.sqrt(variance), df)
    return Part("class", class_name, name, e.estimate, e.low, e.high, *n, float(carried), difference,
                math.sqrt(variance), p, p, e.grade)  # fmt: skip


def group_parts(result: Decomposition) -> tuple[Part, ...]:
    """The total on each group of test rows, and on each group of training rows the training error, and of those held
    out probe generalization, the surest first; nothing where rows have no groups.

    A group lies on one side of train and test, so that no other component is one of a single group. Intervals are for
    further rows of that very group, not for further groups.
    """
    judged = result.judgements
    if judged is None or judged.train_groups is None or judged.test_groups is None:
        return ()
    held = judged.in_subset
    sets = (
        (_TOTAL, judged.test_groups, judged.us.wrong.astype(float)),
        ("risk_af", judged.train_groups, judged.af.wrong.astype(float)),
        ("probe_gen", judged.train_groups[held],
         judged.held_out.wrong.astype(float) - judged.af.wrong[held].astype(float)),
    )  # fmt: skip
    level = result.method.confidence
    z = critical_value(level)
    found = []
    for name, groups, errors in sets:
        whole = float(errors.mean())
        spread = float(errors.var(ddof=1)) if len(errors) > 1 else 0.0
        names, codes, counts = np.unique(groups, return_inverse=True, return_counts=True)
        means = np.bincount(codes, weights=errors) / counts
        changed = np.bincount(codes, weights=errors**2)  # errors, or rows that one of two probes judges wrongly
        for i, n in enumerate(counts.tolist()):
            if n < LEAST_ROWS:
                continue
            value = float(means[i])
            variance = max(0.0, float(changed[i]) / n - value**2) / (n - 1)
            half = z * math.sqrt(variance + 1 / n**2)
            is_risk = name != "probe_gen"
            low, high = wilson(value, variance, n, z) if is_risk else (value - half, value + half)
            se = math.sqrt(spread / n + 1 / n**2)  # under no difference, the rows vary as all do
            n_of: tuple[int, int, int] = (0, 0, n) if name == _TOTAL else (n, 0 if is_risk else n, 0)
            p = two_sided(value - whole, se, math.inf)
            deciding = min(float(changed[i]), n - float(changed[i])) if is_risk else float(changed[i])
            marked = grade(groups=None, df=math.inf, deciding=deciding)
            found.append(
                Part("group", names[i].decode(errors="replace"), name, value, low, high, *n_of, value * n / len(errors),
                     value - whole, se, p, p, marked)
            )  # fmt: skip
    return _surest(found)


def _surest(parts: Sequence[Part]) -> tuple[Part, ...]:
    adjusted = holm([1.0 if math.isnan(part.p) else part.p for part in parts])
    corrected = [replace(part, p_holm=p) for part, p in zip(parts, adjusted, strict=True)]

    def order(part: Part) -> tuple[float, float, float, str, str]:
        p, width = part.p, part.high - part.low
        return (part.p_holm, 1.0 if math.isnan(p) else p, math.inf if math.isnan(width) else width, part.name,
                part.quantity)  # fmt: skip

    return tuple(sorted(corrected, key=order))


def _shares(judged: Judgements) -> np.ndarray:
    """Share of each class in the training and in the test rows: (2, k)."""
    k = len(judged.class_names)
    sets = (judged.train_labels, judged.test_labels)
    return np.stack([np.bincount(y, minlength=k) / len(y) for y in sets])


def _rows_by_class(judged: Judgements) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Class, its training and its test rows; sorted once, so that many classes cost no more than few."""
    k = len(judged.class_names)
    parts = []
    for y in (judged.train_labels, judged.test_labels):
        parts.append(np.split(np.argsort(y, kind="stable"), np.cumsum(np.bincount(y, minlength=k))[:-1]))
    for c, (train, test) in enumerate(zip(*parts, strict=True)):
        if len(train) or len(test):
            yield c, train, test


def _restricted(judged: Judgements, train: np.ndarray, test: np.ndarray, places: np.ndarray) -> Judgements:
    """The judged rows of one class, which becomes the only one."""
    return replace(
        judged.take(train, test, places),
        class_names=(judged.class_names[int(judged.train_labels[train[0]])],),
        train_labels=np.zeros(len(train), np.uint32),
        test_labels=np.zeros(len(test), np.uint32),
    )


def confusions(judged: Judgements | None) -> tuple[Confusion, ...]:
    """Classes whose test rows are taken for another class, each with the one that most of them are taken for: the most
    rows first."""
    if judged is None:
        return ()
    k = len(judged.class_names)
    truth, named = judged.test_labels.astype(np.int64), judged.us.predicted
    wrong = judged.us.wrong
    pairs, counts = np.unique(truth[wrong] * k + named[wrong], return_counts=True)
    sizes = np.bincount(truth, minlength=k)
    order = np.lexsort((pairs, -counts))
    return tuple(
        Confusion(
            judged.class_names[pair // k], judged.class_names[pair % k], int(count), int(sizes[pair // k])
        )
        for pair, count in zip(pairs[order].tolist(), counts[order].tolist(), strict=True)
    )  # fmt: skip


# --- other probes, other layers


def compare_probes(run: Run) -> ProbeContrast | None:
    """Ridge less logistic, where a run has both and their judged rows."""
    by = {d.method.probe: d for d in run.decompositions}
    if not {"logistic", "ridge"} <= by.keys() or any(d.judgements is None for d in by.values()):
        return None
    logistic, ridge = by["logistic"], by["ridge"]
    names = (*logistic.component_names, _TOTAL)
    return ProbeContrast(
        paired_differences(logistic, ridge, ("logistic", "ridge"), names), (logistic.bottleneck, ridge.bottleneck)
    )


def compare_layers(results: Sequence[Decomposition], names: Sequence[str]) -> tuple[Layer, ...]:
    """Layers in the order given, with the ranks by total that the data do not exclude, all pairs considered at once.

    Raises
    ------
    NotComparableError that names what differs; ParameterError for names that occur twice.
    """
    ranks = {r.encoder: r for r in compare(results, names=names).ranks if r.quantity == _TOTAL}
    parts = common_components(results)
    return tuple(
        Layer(
            name,
            d.sizes.features,
            tuple(d.part(q) for q in (*parts, _TOTAL)),
            ranks[name].rank,
            ranks[name].low,
            ranks[name].high,
        )
        for d, name in zip(results, names, strict=True)
    )
