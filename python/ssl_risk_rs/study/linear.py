"""Effects of design choices from a linear model with named confounders.

For each choice and component:  component = choice + confounders + error, by least squares over all encoders for which
all of them are known. Effects that the design does not identify are named, with the columns that say the same.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from jaxtyping import Float64, Int64

from ssl_risk_rs._inference import critical_value, two_sided
from ssl_risk_rs.errors import ParameterError
from ssl_risk_rs.study._extra import require
from ssl_risk_rs.study.choices import CONFOUNDERS, DERIVED, Choice, choice_of
from ssl_risk_rs.study.design import Column, clusters, columns, determines, known_rows
from ssl_risk_rs.study.effects import Effect, Status
from ssl_risk_rs.study.ols import Contrast, Covariance, Factor, Fit, factor
from ssl_risk_rs.study.table import StudyTable

__all__ = [
    "METHODS",
    "Model",
    "NoModel",
    "cluster_of",
    "confounders_of",
    "few_degrees",
    "judged",
    "linear_effects",
    "model_of",
]

#: how the three covariances are called in the tidy table
METHODS: dict[Covariance, str] = {"classical": "linear/classical", "HC3": "linear/HC3", "cluster": "linear/cluster"}
#: degrees of freedom of a clustered variance below which its p-values are rough (Tipton 2015)
_FEW = 4


@dataclass(frozen=True, slots=True)
class Model:
    """The design of one choice with its confounders, in the rows that have them all.

    Attributes
    ----------
    examined : columns of the choice; they follow the constant
    names : all columns of the design
    factor : the factored design
    rows : places of its rows in the table
    encoders, groups : names and groups of its rows
    """

    choice: Choice
    examined: tuple[Column, ...]
    names: tuple[str, ...]
    factor: Factor
    rows: Int64[np.ndarray, " n"]
    encoders: tuple[str, ...]
    groups: Int64[np.ndarray, " n"]

    def partial_residuals(self, fit: Fit, column: int = 0) -> Float64[np.ndarray, " n"]:
        """Residuals plus the effect of one examined column: what is left for it to explain."""
        return np.asarray(fit.residuals + fit.coefficients[1 + column] * self.examined[column].values)


@dataclass(frozen=True, slots=True)
class NoModel:
    """Why there is no model."""

    status: Status
    reason: str
    n: int
    groups: int


#: share of the rows of a choice in which another is to be known to be held fixed
MOST_KNOWN = 0.8
#: kinds of choices that have levels
_LEVELS = ("category", "flag")
#: what tells the same, and more, where a table lacks a confounder
_STAND_INS = {"ssl_mode": "objective", "family": "architecture"}


def confounders_of(
    choice: Choice, table: StudyTable, named: Sequence[Choice] | None = None, *, as_published: bool = False
) -> tuple[Choice, ...]:
    """The confounders of a choice: those of the authors that the table has, or the named ones, less what it replaces.

    In a table of one's own the other choices that are examined are confounders too, as far as they are known wherever
    this one is: correlated with it, they would be counted as its effect.

    Where a table has no `ssl_mode`, `objective` takes its place, and `architecture` that of a missing `family`. A
    second source of rows is a confounder too. What follows from the choice in other tables and not in this one (the
    dimension from the architecture) stays, unless it is to be `as_published`.
    """
    frame, available = table.frame, table.frame.columns
    if named is None:
        names = [name if name in available else _STAND_INS.get(name, name) for name in CONFOUNDERS]
        found = [c for name in (*names, "source") if name in available and (c := choice_of(name)) is not None]
        found += [c for c in _others(table, choice) if c.name not in {held.name for held in found}]
    else:
        found = list(named)
    free = () if as_published else choice.follows
    said = {n for n in choice.replaces if not (n in free and n in available) or determines(frame, choice.name, n)}
    return tuple(c for c in found if c.name != choice.name and c.name not in said)


def _others(table: StudyTable, choice: Choice) -> Iterator[Choice]:
    """Choices of one's own table that are no part of this one, nor this one of them, and are known in most of its rows
    (the others are lost)."""
    frame = table.frame
    if "source" in frame.columns and "published" in frame["source"].to_list():  # which do not know one's own choices
        return
    for other in table.choices:
        if _is_apart(frame, choice, other) and _known_share(frame, choice, other) >= MOST_KNOWN:
            yield other


def _is_apart(frame: pl.DataFrame, choice: Choice, other: Choice) -> bool:
    """Whether another choice is no part of this one, nor this one of it."""
    if other.name in (choice.name, *choice.along, *DERIVED) or choice.name in other.along:
        return False
    tells = choice.kind in _LEVELS and determines(frame, choice.name, other.name)
    return not tells and not (other.kind in _LEVELS and determines(frame, other.name, choice.name))


def _known_share(frame: pl.DataFrame, choice: Choice, other: Choice) -> float:
    """Share of the rows with a choice in which another is known."""
    here = frame[choice.name].is_not_null().to_numpy()
    return float(known_rows(frame, (other,), choice.name)[here].mean()) if here.any() else 0.0


def not_held(choice: Choice, table: StudyTable, held: Sequence[Choice]) -> tuple[str, ...]:
    """Choices of the table that the linear model of one does not hold fixed, though it might be their effect."""
    names = {c.name for c in held}
    return tuple(o.name for o in table.choices if o.name not in names and _is_apart(table.frame, choice, o)
                 and choice_of(o.name) is None)  # fmt: skip


def cluster_of(table: StudyTable, component: str) -> str:
    """The column whose values are the groups of a component.

    Approximation is the error of a supervised twin, which encoders of one architecture share: there the groups are
    architectures, whatever else the groups of the table are.
    """
    return "architecture" if component == "approx" and "architecture" in table.frame.columns else table.cluster


def model_of(table: StudyTable, choice: Choice, confounders: Sequence[Choice], component: str) -> Model | NoModel:
    """The design of a choice in the rows that have the component, or why there is none."""
    having, cluster = table.frame[component].is_not_null(), cluster_of(table, component)
    places = np.arange(table.frame.height, dtype=np.int64)
    places = places[having.to_numpy()]
    frame = table.frame[places]
    known = known_rows(frame, (choice, *confounders), choice.name)
    used, places = frame.filter(pl.Series(known)), places[known]
    groups = clusters(used, cluster)
    count = len(np.unique(groups))
    if used.height < 3:
        why = f"{used.height} of {frame.height} rows have this choice, the component and all confounders"
        return NoModel(Status.TOO_FEW, why, used.height, count)
    examined = columns(used, choice)
    if all(np.ptp(c.values) == 0 for c in examined):
        return NoModel(Status.ONE_LEVEL, f"the {used.height} rows have a single value", used.height, count)
    held = [column for confounder in confounders for column in columns(used, confounder)]
    factored = _factor(examined, held)
    if choice.kind == "category" and not factored.identified[1 : 1 + len(examined)].all():
        # another level may be one that more levels can be compared with
        sets = factored.comparable(range(1, 1 + len(examined)))
        sizes = {i: float(column.values.sum()) for i, column in enumerate(examined, start=1)} | {-1: 0.0}
        largest = max(sets, key=lambda members: (len(members), -1 in members, max(sizes[i] for i in members)))
        if -1 not in largest:
            place = max(largest, key=sizes.__getitem__)
            examined = columns(used, choice, examined[place - 1].level)
            factored = _factor(examined, held)
    if factored.df < 1:
        why = f"{used.height} rows are too few for {factored.rank} columns of choice and confounders"
        why += _fewer([c.name for c in confounders])
        return NoModel(Status.TOO_FEW, why, used.height, count)
    names = ("(constant)", *(c.name for c in (*examined, *held)))
    encoders = tuple(used["encoder"].cast(pl.String).to_list())
    return Model(choice, tuple(examined), names, factored, places, encoders, groups)


def _factor(examined: Sequence[Column], held: Sequence[Column]) -> Factor:
    return factor(np.column_stack([np.ones(len(examined[0].values)), *(c.values for c in (*examined, *held))]))


def linear_effects(
    table: StudyTable,
    *,
    confounders: Sequence[Choice] | None = None,
    covariances: Sequence[Covariance] = ("cluster", "HC3"),
    confidence: float = 0.95,
    pseudo_inverse: bool = False,
) -> list[Effect]:
    """Effects of all choices of a table on all its components.

    Parameters
    ----------
    confounders : by default those of the paper that the table has, and in a table of one's own its other choices
    covariances : one row of the result for each; "cluster" needs a column of groups
    confidence : of the intervals
    pseudo_inverse : effects that are not identified get the number that a pseudo-inverse prints, as in the authors'
        code; it means nothing, and says so

    Raises
    ------
    ParameterError for a confounder that the table lacks.

    Returns
    -------
    Effects without Holm's correction: a level beside its reference, a step of a number, or a reason why there is none.
    """
    if lost := [c.name for c in confounders or () if c.name not in table.frame.columns]:
        raise ParameterError(
            f"the table has no column {lost[0]!r} to hold fixed; it has {', '.join(table.frame.columns)}"
        )
    found: list[Effect] = []
    by_rows: dict[tuple[str, bytes], list[str]] = {}  # components with the same rows and groups share their models
    for component in table.components:
        rows = table.frame[component].is_not_null().to_numpy().tobytes()
        by_rows.setdefault((cluster_of(table, component), rows), []).append(component)
    # a number of the table may have been named a category
    own = {c.name: c for c in table.choices if (usual := choice_of(c.name)) is not None and c.kind != usual.kind}

    def held_fixed(choice: Choice) -> tuple[Choice, ...]:
        return confounders_of(choice, table, confounders, as_published=pseudo_inverse)

    for choice in table.choices:
        held = tuple(own.get(c.name, c) for c in held_fixed(choice))
        names = tuple(c.name for c in held)
        loose = () if confounders is not None or pseudo_inverse else not_held(choice, table, held)
        for (cluster, _), components in by_rows.items():
            model = model_of(table, choice, held, components[0])
            if isinstance(model, Model) and (same := _same_as(table, choice, model.rows)):
                why = f"in these rows it varies as {', '.join(same)}: whose effect it is cannot be told"
                model = NoModel(Status.ALIASED, why, len(model.rows), len(np.unique(model.groups)))
            for kind in (kind for kind in covariances if kind != "cluster" or cluster):
                if isinstance(model, NoModel):
                    found += [
                        Effect(choice.name, "", "", c, METHODS[kind], model.n, model.groups, model.status,
                               reason=model.reason, held=names)
                        for c in components
                    ]  # fmt: skip
                else:
                    effects = _effects(table, model, components, kind, confidence, pseudo_inverse)
                    found += [_with_held(e, names, loose) for e in effects]
    return found


def _fewer(names: Sequence[str]) -> str:
    """What can be done where too much is held fixed."""
    return f"; held fixed are {', '.join(names)}: --confounder names fewer" if names else ""


def _with_held(e: Effect, names: tuple[str, ...], loose: tuple[str, ...]) -> Effect:
    """With what was held fixed, and what was not."""
    if e.status is Status.ONE_ROW:
        e = replace(e, reason=e.reason + _fewer(names))
    if not loose:
        return replace(e, held=names)
    one = len(loose) == 1
    said = f"{', '.join(loose)} {'is' if one else 'are'} not held fixed: too many rows lack {'it' if one else 'them'}"
    return replace(e, held=names, not_held=loose, reason="; ".join(filter(None, (e.reason, said))))


def _same_as(table: StudyTable, choice: Choice, rows: Int64[np.ndarray, " n"]) -> list[str]:
    """Choices that vary as this one does, as far as one of the two is of this table alone: those that are known are
    confounders where they can be confused."""
    frame = table.frame[rows]
    return [
        other.name
        for other in table.choices
        if other.name != choice.name
        and None in (choice_of(choice.name), choice_of(other.name))
        and other.name not in (*choice.replaces, *choice.follows)
        and choice.name not in (*other.replaces, *other.follows)
        and frame.select(choice.name, other.name).drop_nulls().height == len(rows)
        and _vary_alike(frame, choice, other)
    ]


def _vary_alike(frame: pl.DataFrame, one: Choice, other: Choice) -> bool:
    """Whether the columns of two choices span the same space: the levels of categories are each other's, numbers lie on
    a line."""
    of_levels = [choice.kind in ("category", "flag") for choice in (one, other)]
    if all(of_levels):
        return determines(frame, one.name, other.name) and determines(frame, other.name, one.name)
    if any(of_levels):
        return False
    pair = [columns(frame, choice)[0].values for choice in (one, other)]
    return all(np.ptp(v) > 0 for v in pair) and abs(float(np.corrcoef(pair)[0, 1])) > 1 - 1e-9


def _effects(
    table: StudyTable, model: Model, components: Sequence[str], kind: Covariance, confidence: float,
    pseudo_inverse: bool,
) -> Iterator[Effect]:  # fmt: skip
    factored = model.factor
    outcomes = {c: table.frame[c].to_numpy().astype(np.float64)[model.rows] for c in components}
    fits = {c: factored.fit(y) for c, y in outcomes.items()}
    for place, column in enumerate(model.examined, start=1):
        blank = Effect(
            column.choice, column.level, column.reference, "", METHODS[kind], len(model.rows),
            len(np.unique(model.groups)), confidence=confidence,
        )  # fmt: skip
        if not factored.identified[place]:
            why = _aliased([model.names[i] for i in factored.aliases(place)])
            for c in components:
                refused = replace(blank, component=c, status=Status.ALIASED, reason=why)
                yield _meaningless(refused, factored, fits[c], outcomes[c], place) if pseudo_inverse else refused
            continue
        contrast = factored.contrast(place, kind, model.groups)
        if not contrast.sound:
            if kind == "cluster":
                status = Status.ONE_GROUP
                cluster = cluster_of(table, components[0])
                why = f"a single {cluster} decides it, so that its variance between groups cannot be seen"
            else:
                status, why = Status.ONE_ROW, "single rows decide it, so that their variance cannot be seen"
            yield from (replace(blank, component=c, status=status, reason=why) for c in components)
            continue
        weak = _weak(column, contrast)
        for c in components:
            named = replace(blank, component=c, reason=weak)
            yield judged(named, factored, fits[c], contrast, place, model.encoders, float(np.abs(outcomes[c]).max()))


def _meaningless(refused: Effect, factored: Factor, fit: Fit, y: Float64[np.ndarray, " n"], place: int) -> Effect:
    """What a pseudo-inverse prints for an effect that is not identified."""
    require("scipy.special")
    value, variance = factored.minimum_norm(place, fit, y)
    se = math.sqrt(variance)
    p = two_sided(value, se, factored.df)
    return replace(
        refused, effect=value, se=se, df=float(factored.df), p=p,
        reason=f"{refused.reason}; a pseudo-inverse prints this number",
    )  # fmt: skip


def _weak(column: Column, contrast: Contrast) -> str:
    """What makes an estimate weak, in words."""
    said = []
    if column.reference and (having := int(np.sum(column.values != 0))) < 5:
        said.append(f"{having} rows have this level")
    return "; ".join([*said, *few_degrees(contrast)])


def few_degrees(contrast: Contrast) -> list[str]:
    """That a clustered variance has few degrees of freedom, in words; empty where it has enough."""
    few = contrast.kind == "cluster" and contrast.df < _FEW
    return [f"its variance has {contrast.df:.1f} degrees of freedom"] if few else []


#: share of the largest outcome below which an effect and its standard error are rounding
ROUNDING = 1e-12


def judged(
    blank: Effect, factored: Factor, fit: Fit, contrast: Contrast, place: int, encoders: Sequence[str], largest: float
) -> Effect:
    """The effect with interval and p-value of its t distribution, and the encoder that moves it most.

    An outcome of at most `largest` that nothing moves beyond rounding has the effect 0, and no test.
    """
    require("scipy.special")
    effect = float(fit.coefficients[place])
    se = math.sqrt(contrast.variance(fit))
    if max(abs(effect), se) <= ROUNDING * largest:
        why = "; ".join(text for text in (blank.reason, "the component is the same in these rows") if text)
        return replace(blank, effect=0.0, se=0.0, low=0.0, high=0.0, df=contrast.df, reason=why)
    reach = critical_value(blank.confidence, contrast.df) * se
    p = two_sided(effect, se, contrast.df)
    without = factored.without_row(contrast.weights, fit, effect)
    moved = np.abs(without - effect)
    most = int(np.nanargmax(moved)) if np.isfinite(moved).any() else None
    return replace(
        blank, effect=effect, se=se, low=effect - reach, high=effect + reach, df=float(contrast.df), p=p,
        influential=encoders[most] if most is not None else "",
        effect_without=float(without[most]) if most is not None else math.nan,
    )  # fmt: skip


def _aliased(same: list[str]) -> str:
    if not same:
        return "it is the same in all rows"
    shown = ", ".join(same[:4]) + (f" and {len(same) - 4} more columns" if len(same) > 4 else "")
    return f"in these rows it is a sum of {shown}" if len(same) > 1 else f"in these rows it says the same as {shown}"
