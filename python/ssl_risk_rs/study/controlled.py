"""Controlled comparisons: encoders that are equal in everything but one choice.

Rows are grouped by all other choices, a missing value counting as a value; groups in which the choice varies are kept,
each row once; the effect is that of least squares  component = group + choice. Where the rows of a comparison are of
several clusters (recipes that each have all widths, say), its variance allows any dependence within a cluster: rows of
the two clusters that two comparisons share are no independent pairs.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from jaxtyping import Float64, Int64

from ssl_risk_rs.study._extra import require
from ssl_risk_rs.study.choices import CORE, DERIVED, RECIPE, Choice
from ssl_risk_rs.study.design import clusters, columns, determines, values
from ssl_risk_rs.study.effects import Effect, Status
from ssl_risk_rs.study.linear import few_degrees, judged
from ssl_risk_rs.study.ols import factor
from ssl_risk_rs.study.table import StudyTable

__all__ = ["METHOD", "YARDSTICK", "Comparisons", "comparisons", "controlled_effects", "held_equal", "yardsticks"]

METHOD = "controlled"
YARDSTICK = "yardstick"


@dataclass(frozen=True, slots=True)
class Comparisons:
    """The rows that a controlled effect rests on.

    Attributes
    ----------
    rows : places in the table; each once, unless rows are duplicated as the authors did
    groups : the comparison of each row
    """

    rows: Int64[np.ndarray, " n"]
    groups: Int64[np.ndarray, " n"]


def held_equal(table: StudyTable, choice: Choice) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The columns that a comparison holds equal: the core choices but this one and those that vary along with it, and
    those that hold among rows of one's own as well.

    The latter are the other examined choices, less those that cannot but vary with this choice. A quantity that follows
    from others is held equal by holding those equal.
    """
    free = {choice.name, *choice.along}
    core = [name for name in (*CORE, "seed", "source") if name in table.frame.columns]
    own = [c.name for c in table.choices if c.name not in DERIVED]
    return tuple(n for n in core if n not in free), tuple(n for n in own if n not in free and n not in core)


def comparisons(table: StudyTable, choice: Choice, known: Sequence[bool], *, duplicated: bool = False) -> Comparisons:
    """Groups of `known` rows that differ in the choice alone.

    With `duplicated` a group enters once for each column that varies in it, as in the authors' code: rows then stand
    several times, and p-values are too small.
    """
    level = values(table.frame, replace(choice, else_from=(), missing=None)).to_list()
    keys = _keys(table.frame, *held_equal(table, choice))
    groups: dict[tuple[object, ...], list[int]] = {}
    for row, key in enumerate(keys):
        if known[row] and level[row] is not None:
            groups.setdefault(key, []).append(row)
    kept = [rows for rows in groups.values() if len({level[row] for row in rows}) > 1]
    varied = [name for name in dict.fromkeys((choice.name, *choice.along)) if name in table.frame.columns]
    cells = {name: table.frame[name].to_list() for name in varied} if duplicated else {}
    pairs: list[tuple[int, int]] = []
    for number, rows in enumerate(kept):
        times = sum(len({cells[name][row] for row in rows}) > 1 for name in varied) if duplicated else 1
        pairs += [(row, number) for row in rows for _ in range(times)]
    array = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return Comparisons(array[:, 0], array[:, 1])


def _keys(frame: pl.DataFrame, core: Sequence[str], own: Sequence[str]) -> list[tuple[object, ...]]:
    """What a row shares with those that it is compared with; published rows have no values of one's own choices."""
    published = frame["source"] == "published"
    rows = zip(_tuples(frame, core), _tuples(frame, own), published.to_list(), strict=True)
    return [(*shared, *(() if theirs else further)) for shared, further, theirs in rows]


def _tuples(frame: pl.DataFrame, names: Sequence[str]) -> list[tuple[object, ...]]:
    return list(frame.select(names).iter_rows()) if names else [()] * frame.height


def controlled_effects(table: StudyTable, *, confidence: float = 0.95, duplicated: bool = False) -> list[Effect]:
    """Effects of all choices from encoders that differ in one choice alone.

    Returns
    -------
    Effects without Holm's correction; `groups` counts comparisons, `n` the rows in them, each once unless `duplicated`.
    A choice for which the table has no such rows, or that a single cluster decides, says so.
    """
    found: list[Effect] = []
    by_rows: dict[tuple[bool, ...], list[str]] = {}  # components that are known in the same rows
    for component in table.components:
        by_rows.setdefault(tuple(table.frame[component].is_not_null()), []).append(component)
    for choice in table.choices:
        plain = replace(choice, else_from=(), missing=None)
        for known, components in by_rows.items():
            compared = comparisons(table, choice, known, duplicated=duplicated)
            crossed = None if duplicated else _crossed(table, compared, choice)
            found += _fit(table, compared, plain, components, confidence, crossed)
    return found


def _crossed(table: StudyTable, compared: Comparisons, choice: Choice) -> Int64[np.ndarray, " n"] | None:
    """The cluster of each compared row, where there are several and one has several rows; None else, and where the
    choice is the cluster itself.

    Comparisons within a cluster depend on each other too, where what the choice does differs between clusters.
    """
    if not table.cluster or table.cluster == choice.name:
        return None
    found = clusters(table.frame[compared.rows], table.cluster)
    return found if 1 < len(np.unique(found)) < len(found) else None


def _are_crossed(groups: Int64[np.ndarray, " n"], clustered: Int64[np.ndarray, " n"]) -> bool:
    """Whether a group has rows of several clusters, one of which has several rows."""
    pairs = list(zip(groups.tolist(), clustered.tolist(), strict=True))
    spans, sizes = Counter(group for group, _ in set(pairs)), Counter(cluster for _, cluster in pairs)
    return any(spans[group] > 1 and sizes[cluster] > 1 for group, cluster in pairs)


def _fit(
    table: StudyTable,
    compared: Comparisons,
    choice: Choice,
    components: Sequence[str],
    confidence: float,
    crossed: Int64[np.ndarray, " n"] | None,
) -> Iterator[Effect]:
    n, count = len(compared.rows), len(np.unique(compared.groups))
    blank = Effect(choice.name, "", "", "", METHOD, n, count, confidence=confidence)
    if not n:
        why = "no two encoders differ in this choice alone"
        yield from (replace(blank, component=c, status=Status.NO_PAIRS, reason=why) for c in components)
        return
    rows = table.frame[compared.rows]
    varying = _varying(table.frame, rows, compared, choice)
    blank = replace(blank, varying=varying)
    along = f"{', '.join(varying)} {'varies' if len(varying) == 1 else 'vary'} along in these comparisons"
    examined = columns(rows, choice)
    fixed = [(compared.groups == g).astype(np.float64) for g in range(count)]
    factored = factor(np.column_stack([*fixed, *(column.values for column in examined)]))
    encoders = rows["encoder"].cast(pl.String).to_list()
    outcomes = {c: rows[c].to_numpy().astype(np.float64) for c in components}
    fits = {c: factored.fit(y) for c, y in outcomes.items()}
    for place, column in enumerate(examined, start=count):
        here = replace(blank, level=column.level, reference=column.reference)
        contrast = None
        one = table.cluster and table.cluster != choice.name and rows[table.cluster].n_unique() == 1
        one = one and table.frame[table.cluster].n_unique() > 1  # of one group altogether, it is what is asked of
        here = replace(here, decided_by=table.cluster) if one else here
        if factored.identified[place] and factored.df:
            contrast = factored.contrast(place, "classical" if crossed is None else "cluster", crossed)
            if not contrast.sound and crossed is not None and not _are_crossed(compared.groups, crossed):
                contrast = factored.contrast(place, "classical")
                here = replace(here, decided_by=table.cluster)
        for c, fit in fits.items():
            if contrast is not None and not contrast.sound:
                why = f"a single {table.cluster} decides it, so that its variance between groups cannot be seen"
                yield replace(here, component=c, status=Status.ONE_GROUP, reason=why)
            elif contrast is not None:
                # the rows of a twin are one observation, which pairs cannot tell apart
                shared = c == "approx" and len(np.unique(outcomes[c])) < n
                weak = "; ".join(
                    [
                        *(["encoders of one architecture share a twin"] if shared else []),
                        *([along] if varying else []),
                        *([f"a single {here.decided_by} decides it, and others may differ"] if here.decided_by else []),
                        *few_degrees(contrast),
                    ]
                )
                largest = float(np.abs(outcomes[c]).max())
                yield judged(replace(here, component=c, reason=weak), factored, fit, contrast, place, encoders, largest)
            elif factored.identified[place]:
                why = f"{n} rows in {count} comparisons leave nothing to judge the error by"
                alone = float(fit.coefficients[place])
                yield replace(here, component=c, status=Status.TOO_FEW, effect=alone, reason=why)
            else:
                why = f"no chain of comparisons leads from {column.level} to {column.reference}"
                yield replace(here, component=c, status=Status.ALIASED, reason=why)


def _varying(frame: pl.DataFrame, rows: pl.DataFrame, compared: Comparisons, choice: Choice) -> tuple[str, ...]:
    """The columns that differ within comparisons though the choice does not decide them."""
    there = [n for n in choice.follows if n in frame.columns and not determines(frame, choice.name, n)]
    grouped = rows.with_columns(pl.Series("(comparison)", compared.groups))
    return tuple(n for n in there if not determines(grouped, "(comparison)", n))


def yardsticks(table: StudyTable, *, confidence: float = 0.95) -> list[Effect]:
    """How far two encoders of one design lie apart that differ in recipe or seed only, for each component.

    The effect is the root mean square of such differences, √2 times the pooled standard deviation, with the interval of
    a χ² distribution; where designs share the clusters of the table (recipes, say), with as many degrees of freedom as
    the variance shows when each cluster is left out in turn. An effect that is smaller than that is within what another
    run of the same design would show.
    """
    stats = require("scipy.special")
    core = [name for name in (*CORE, "source") if name in table.frame.columns and name not in RECIPE]
    own = [c.name for c in table.choices if c.name not in (*core, *DERIVED, *RECIPE)]
    keys = _keys(table.frame, core, own)
    found = []
    for component in table.components:
        values_of = table.frame[component].to_list()
        groups: dict[tuple[object, ...], list[int]] = {}
        for row, key in enumerate(keys):
            if values_of[row] is not None:
                groups.setdefault(key, []).append(row)
        several = [group for group in groups.values() if len(group) > 1]
        rows = np.array([row for group in several for row in group], np.int64)
        n = len(rows)
        blank = Effect("(recipe)", "another run", "the same design", component, YARDSTICK, n, len(several))
        if not several:
            why = "no two encoders differ in recipe or seed only"
            found.append(replace(blank, status=Status.NO_PAIRS, reason=why))
            continue
        y = np.array([values_of[row] for row in rows], np.float64)
        design = np.repeat(np.arange(len(several)), [len(group) for group in several])
        variance, df = _pooled(y, design)
        if table.cluster and _are_crossed(design, clustered := clusters(table.frame[rows], table.cluster)):
            df = _degrees_shown(y, design, clustered, variance, df)
        low, high = (
            math.sqrt(2 * variance * df / float(stats.chdtri(df, tail)))
            for tail in (0.5 - confidence / 2, 0.5 + confidence / 2)
        )
        found.append(
            replace(blank, effect=math.sqrt(2 * variance), low=low, high=high, df=float(df), confidence=confidence)
        )
    return found


def _pooled(y: Float64[np.ndarray, " n"], groups: Int64[np.ndarray, " n"]) -> tuple[float, float]:
    """Variance within groups, and its degrees of freedom."""
    place, counts = np.unique(groups, return_inverse=True, return_counts=True)[1:]
    left = y - (np.bincount(place, weights=y) / counts)[place]
    df = float(len(y) - len(counts))
    return (float(left @ left) / df if df else math.nan), df


def _degrees_shown(
    y: Float64[np.ndarray, " n"],
    groups: Int64[np.ndarray, " n"],
    clustered: Int64[np.ndarray, " n"],
    variance: float,
    most: float,
) -> float:
    """Degrees of freedom 2 s⁴ / Var(s²) of a pooled variance s², by the jackknife over clusters; at least 1, and fewer
    than there are clusters."""
    names = np.unique(clustered)
    without = np.array([_pooled(y[kept], groups[kept])[0] for kept in (clustered != name for name in names)])
    known = without[np.isfinite(without)]
    if len(known) < 3 or variance == 0:
        return max(1.0, min(most, float(len(names) - 1)))
    spread = (len(known) - 1) / len(known) * float(np.square(known - known.mean()).sum())
    most = min(most, float(len(names) - 1))  # of a few clusters the spread is itself uncertain
    return max(1.0, min(most, 2 * variance**2 / spread)) if spread > 0 else most
