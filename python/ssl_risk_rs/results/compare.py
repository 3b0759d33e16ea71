"""Comparisons of encoders on the same rows: what may be compared, the differences, the ranks.

Two decompositions are comparable if the same probe ran under the same protocol on the same rows, cut alike. Whatever
differs is named and refused: `common_rows` brings every encoder's outcomes into one order of rows and classes first.
How differences are estimated: `decomposition.paired`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np

from ssl_risk_rs._display import display
from ssl_risk_rs._notes import Note
from ssl_risk_rs.errors import NotComparableError, ParameterError
from ssl_risk_rs.results.estimate import Grade
from ssl_risk_rs.results.judgements import Judgements, Outcome
from ssl_risk_rs.results.run import Decomposition

if TYPE_CHECKING:
    import polars as pl

__all__ = [
    "Comparison", "Difference", "DimensionPart", "Matched", "Rank", "check_methods",
    "common_rows", "rank_intervals",
]  # fmt: skip

#: fields of `Method` that must be equal, and what each is called
_METHOD = {
    "probe": "probe", "protocol": "protocol", "scaling": "scaling", "seed": "seed of the splits",
    "random_counts": "random_counts", "tuned_on": "error that penalties are tuned on",
}  # fmt: skip


def no_classes(name: str) -> NotComparableError:
    """The error for a result whose target is numbers or labels."""
    return NotComparableError("metric", f"{name} predicts numbers or labels, and only classes are compared")


@dataclass(frozen=True, slots=True)
class Difference:
    """One quantity of `encoder` less that of `baseline`, on the same rows; fractions.

    Attributes
    ----------
    quantity : name in `QUANTITIES`
    estimate_baseline, estimate, difference, se, low, high : se and interval are of the difference
    n, n_groups : rows and groups that the quantity is judged on
    discordant : rows on which the two encoders' probes are not both right or both wrong, of those that decide it
    df : degrees of freedom of the t quantile; infinity for a normal one
    p : two-sided, of no difference; p_holm : the same after Holm's correction over all components and totals of the
        comparison (None for details, which are parts of components, and where no row tells the two apart)
    better : probability that `encoder` has less of the error; it and p are by the distribution of the interval, in
        which few deciding rows widen the standard error
    grade : how far the interval can be trusted
    """

    quantity: str
    baseline: str
    encoder: str
    estimate_baseline: float
    estimate: float
    difference: float
    se: float
    low: float
    high: float
    n: int
    n_groups: int | None
    discordant: int
    df: float
    p: float
    p_holm: float | None
    better: float
    grade: Grade

    @property
    def identical(self) -> bool:
        """Whether no row tells the two encoders apart, as in the approximation error of a twin that both have."""
        return self.discordant == 0 and self.se == 0 and self.difference == 0


@dataclass(frozen=True, slots=True)
class Rank:
    """Where an encoder stands by a quantity, the least error first.

    `rank` : equal errors share the smallest; `low`, `high` : ranks that the data do not exclude, for all encoders at
    once at the comparison's confidence
    """

    encoder: str
    quantity: str
    estimate: float
    rank: int
    low: int
    high: int


@dataclass(frozen=True, eq=False)
class Comparison:
    """Encoders compared with the first of them.

    Attributes
    ----------
    encoders : labels, the baseline first; probe, protocol : common to all; confidence : of intervals and ranks
    metric : that errors are in; target : column that stood in for the labels, None for the labels themselves
    n_train, n_test, n_groups : rows and test groups that pairs are made of
    differences : components, details and total of each encoder against the baseline
    ranks : of all encoders, by aggregated risk and by each component
    """

    encoders: tuple[str, ...]
    probe: str
    protocol: str
    confidence: float
    n_train: int
    n_test: int
    n_groups: int | None
    differences: tuple[Difference, ...]
    ranks: tuple[Rank, ...]
    notes: tuple[Note, ...] = ()
    metric: str = "error"
    target: str | None = None

    @property
    def baseline(self) -> str:
        """The encoder that the others are compared with."""
        return self.encoders[0]

    def against(self, encoder: str) -> tuple[Difference, ...]:
        """The differences of one encoder."""
        return tuple(d for d in self.differences if d.encoder == encoder)

    def difference(self, encoder: str, quantity: str) -> Difference:
        """One difference; KeyError with the names that there are if there is none."""
        for d in self.differences:
            if (d.encoder, d.quantity) == (encoder, quantity):
                return d
        others, names = self.encoders[1:], dict.fromkeys(d.quantity for d in self.differences)
        raise KeyError(
            f"there is no {quantity} of {encoder}; encoders: {', '.join(others)}; quantities: {', '.join(names)}"
        )

    def frame(self) -> "pl.DataFrame":
        """A row for each difference: `probe`, `protocol`, `metric`, `target`, `confidence`, then the fields of
        `Difference`."""
        import polars as pl

        rows = [
            {
                "probe": self.probe,
                "protocol": self.protocol,
                "metric": self.metric,
                "target": self.target,
                "confidence": self.confidence,
                **{f.name: getattr(d, f.name) for f in fields(Difference)},
                "grade": d.grade.value,
            }
            for d in self.differences
        ]
        types = {"target": pl.String, "n_groups": pl.Int64, "p_holm": pl.Float64}
        return pl.DataFrame(rows, schema_overrides=types)

    def rank_frame(self) -> "pl.DataFrame":
        """A row for each rank: `probe`, `metric`, then the fields of `Rank`."""
        import polars as pl

        return pl.DataFrame(
            [
                {"probe": self.probe, "metric": self.metric, **{f.name: getattr(r, f.name) for f in fields(Rank)}}
                for r in self.ranks
            ]
        )

    def __str__(self) -> str:
        return display().text(self)


@dataclass(frozen=True, slots=True)
class DimensionPart:
    """Which part of a gap goes with the number of features: the gap with all features, the gap at an equal number,
    and `part`, their difference, with its interval; fractions."""

    quantity: str
    baseline: str
    encoder: str
    full: float
    matched: float
    part: float
    se: float
    low: float
    high: float
    df: float
    p: float
    grade: Grade


@dataclass(frozen=True, eq=False)
class Matched:
    """Encoders compared at equal dimension.

    Attributes
    ----------
    dimensions : ascending; features : of each encoder
    full : with all features, not scaled; leading, random : at each dimension, by leading principal and by random
        directions
    parts : of every component and of the total, at the last of the dimensions
    """

    dimensions: tuple[int, ...]
    features: tuple[int, ...]
    full: Comparison
    leading: tuple[Comparison, ...]
    random: tuple[Comparison, ...]
    parts: tuple[DimensionPart, ...]

    def frame(self) -> "pl.DataFrame":
        """A row for each difference: `dimension` (null with all features), `directions` ("all", "leading", "random"),
        then the columns of `Comparison.frame`."""
        import polars as pl

        sets: list[tuple[int | None, str, Comparison]] = [(None, "all", self.full)]
        sets += [(m, "leading", c) for m, c in zip(self.dimensions, self.leading, strict=True)]
        sets += [(m, "random", c) for m, c in zip(self.dimensions, self.random, strict=True)]
        return pl.concat(
            c.frame().select(
                pl.lit(m, pl.Int64).alias("dimension"), pl.lit(kind, pl.String).alias("directions"), pl.all()
            )
            for m, kind, c in sets
        )

    def part_frame(self) -> "pl.DataFrame":
        """A row for each part: `dimension`, then the fields of `DimensionPart`."""
        import polars as pl

        rows = [
            {
                "dimension": self.dimensions[-1],
                **{f.name: getattr(part, f.name) for f in fields(DimensionPart)},
                "grade": part.grade.value,
            }
            for part in self.parts
        ]
        return pl.DataFrame(rows)

    def __str__(self) -> str:
        return display().text(self)


# --- what may be compared


def check_methods(results: Sequence[Decomposition], names: Sequence[str]) -> None:
    """Complain unless all ran the same way.

    Raises
    ------
    NotComparableError that names the field which differs.
    """
    first = results[0]
    for result, name in zip(results[1:], names[1:], strict=True):
        for field, called in _METHOD.items():
            _same(field, called, (names[0], getattr(first.method, field)), (name, getattr(result.method, field)))
        views = [r.method.view or "none" for r in (first, result)]
        _same("view", "augmented view", (names[0], views[0]), (name, views[1]))
        if (first.sizes.train, first.sizes.test) == (result.sizes.train, result.sizes.test):  # else rows are told
            _same(
                "subsets", "number of held-out subsets", (names[0], first.sizes.subsets), (name, result.sizes.subsets)
            )
        floors = [r.penalties["floor"].value if "floor" in r.penalties else None for r in (first, result)]
        _same("floor", "penalty's floor", (names[0], floors[0]), (name, floors[1]))
    for result, name in zip(results, names, strict=True):
        if result.judgements is None:
            raise NotComparableError(
                "judgements",
                f"{name} holds no judged rows (an old version wrote it), so its rows cannot be paired: make it again",
            )


def common_rows(judged: Sequence[Judgements], names: Sequence[str]) -> list[Judgements]:
    """The judged rows of every encoder in the order of the first one's, classes numbered alike.

    Raises
    ------
    NotComparableError that names what differs: sample ids, labels, groups, or the held-out subsets.
    """
    classes = list(dict.fromkeys(name for j in judged for name in j.class_names))
    first, found = judged[0], []
    for j, name in zip(judged, names, strict=True):
        train = _matching("train", first, j, (names[0], name))
        test = _matching("test", first, j, (names[0], name))
        found.append(_renumbered(j.take(train, test), classes))
    for j, name in zip(found[1:], names[1:], strict=True):
        _check_rows(found[0], j, (names[0], name))
    return found


def _same(field: str, called: str, one: tuple[str, object], other: tuple[str, object]) -> None:
    if one[1] != other[1]:
        raise NotComparableError(
            field,
            f"{one[0]} and {other[0]} differ in {called} ({one[1]} and {other[1]}): decompose both alike, then compare",
        )


def _matching(part: str, first: Judgements, other: Judgements, names: tuple[str, str]) -> np.ndarray:
    """For each row of the first, the row of the other with the same sample id."""
    one, two = getattr(first, f"{part}_ids"), getattr(other, f"{part}_ids")
    field = f"{part}_ids"
    called = "training rows" if part == "train" else "test rows"
    if len(one) != len(two):
        raise NotComparableError(
            field, f"{names[0]} has {len(one):,} {called}, {names[1]} has {len(two):,}: both need the same rows"
        )
    if np.array_equal(one, two):
        return np.arange(len(one))
    order_one, order_two = np.argsort(one, kind="stable"), np.argsort(two, kind="stable")
    differ = np.flatnonzero(one[order_one] != two[order_two])
    if len(differ):
        missing = one[order_one][differ[0]].decode(errors="replace")
        raise NotComparableError(
            field,
            f"{names[0]} and {names[1]} have other {called}: for example {missing!r} is not in both; extract "
            "both from the same data",
        )
    found = np.empty(len(one), np.int64)
    found[order_one] = order_two
    return found


def _renumbered(judged: Judgements, classes: list[str]) -> Judgements:
    """Labels and predictions as positions in `classes`."""
    if list(judged.class_names) == classes:
        return judged
    places = {name: i for i, name in enumerate(classes)}
    place = np.array([places[name] for name in judged.class_names], np.uint32)
    changed: dict[str, object] = {}
    for f in fields(Judgements):
        value = getattr(judged, f.name)
        if isinstance(value, Outcome):
            changed[f.name] = replace(value, predicted=place[value.predicted])
        elif f.name != "class_names" and isinstance(value, tuple):
            changed[f.name] = tuple(replace(outcome, predicted=place[outcome.predicted]) for outcome in value)
    changed["train_labels"], changed["test_labels"] = place[judged.train_labels], place[judged.test_labels]
    return replace(judged, class_names=tuple(classes), **changed)  # type: ignore[arg-type]  # by field


def _is_one_to_one(labels: np.ndarray, other: np.ndarray) -> bool:
    """Whether each label of one, of which there are several, is always the same label of the other, and vice versa."""
    pairs = np.unique(np.stack([labels, other]), axis=1)
    return pairs.shape[1] > 1 and all(len(np.unique(row)) == pairs.shape[1] for row in pairs)


def _check_rows(one: Judgements, other: Judgements, names: tuple[str, str]) -> None:
    """Labels, groups and subsets of rows in one order."""
    classes = one.class_names
    for part in ("train", "test"):
        labels, other_labels = getattr(one, f"{part}_labels"), getattr(other, f"{part}_labels")
        differ = np.flatnonzero(labels != other_labels)
        if len(differ):
            row = int(differ[0])
            sample = getattr(one, f"{part}_ids")[row].decode(errors="replace")
            if _is_one_to_one(labels, other_labels):
                raise NotComparableError(
                    "class_names",
                    f"{names[0]} and {names[1]} have the same classes of {part} rows under other names: "
                    f"{classes[labels[row]]!r} in one is {classes[other_labels[row]]!r} in the other, always; give "
                    "both the same names of classes and decompose again",
                )
            raise NotComparableError(
                f"{part}_labels",
                f"{names[0]} and {names[1]} differ in the label of {len(differ):,} {part} rows: {sample!r} is "
                f"{classes[labels[row]]!r} in one and {classes[other_labels[row]]!r} in the other",
            )
        groups, other_groups = getattr(one, f"{part}_groups"), getattr(other, f"{part}_groups")
        if (groups is None) != (other_groups is None):
            without = names[0] if groups is None else names[1]
            raise NotComparableError(
                "group", f"{without} was cut without groups, the other by groups: give both the same --group"
            )
        if groups is not None and not np.array_equal(groups, other_groups):
            raise NotComparableError("group", f"{names[0]} and {names[1]} have other groups of the same {part} rows")
    if not np.array_equal(one.subset, other.subset):
        raise NotComparableError(
            "subset",
            f"{names[0]} and {names[1]} were cut otherwise: {int((one.subset != other.subset).sum()):,} training rows "
            "are held out in one and not in the other; decompose both with the same version",
        )


# --- several differences at once


#: decimals of a fraction from which on estimates are equal: differences of the same counts differ by rounding
RANK_DIGITS = 12


def rank_intervals(estimates: Sequence[float], apart: np.ndarray) -> list[tuple[int, int, int]]:
    """Rank of each estimate, the least first, and the ranks that differences found do not exclude.

    Parameters
    ----------
    apart : bool array (n, n); `apart[i, j]`: i is found to be less than j, with an error rate over all pairs at once

    Returns
    -------
    rank (equal estimates share the smallest), one more than the encoders found to be less, and n less those found to
    be more
    """
    n = len(estimates)
    if apart.shape != (n, n):
        raise ParameterError(f"differences of {n} estimates need an array ({n}, {n}), got {apart.shape}")
    values = np.round(np.asarray(estimates), RANK_DIGITS)
    return [
        (1 + int((values < values[i]).sum()), 1 + int(apart[:, i].sum()), n - int(apart[i].sum())) for i in range(n)
    ]
