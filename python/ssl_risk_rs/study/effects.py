"""The one tidy table of a study: an effect a row, and the correction for looking at many of them."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum

import polars as pl

from ssl_risk_rs._inference import holm

__all__ = ["COLUMNS", "Effect", "Status", "adjusted", "frame"]

#: columns of the tidy table
COLUMNS = (
    "choice", "level", "reference", "component", "method", "effect", "se", "low", "high", "confidence", "df", "p",
    "p_adjusted", "n", "groups", "status", "reason", "influential", "effect_without", "unit",
)  # fmt: skip


class Status(Enum):
    """Whether there is an effect to report, and if not, why."""

    ESTIMATED = "estimated"
    ALIASED = "not identified"  # other columns of the design say the same
    ONE_LEVEL = "one level"  # nothing varies
    ONE_ROW = "one row"  # a single encoder has the level
    ONE_GROUP = "one group"  # a single group has the level: its variance between groups cannot be seen
    TOO_FEW = "too few rows"  # no degrees of freedom are left
    NO_PAIRS = "no pairs"  # no two rows differ in this choice alone


@dataclass(frozen=True, slots=True)
class Effect:
    """What one choice does to one component by one method.

    Attributes
    ----------
    choice, level, reference : a category's level beside its reference; for numbers the level is the step, "+1" or
        "× e" (a logarithm plus one)
    component : `approx`, `usability`, `probe_gen`, `enc_gen`, `agg_risk`, `agg_risk@SHOTS`
    method : "controlled", "linear", "linear/cluster", "linear/classical", "trees", "yardstick"
    effect, se, low, high : in fractions of the error; NaN where `status` is not ESTIMATED
    df : degrees of freedom of the t distribution behind interval and p
    p, p_adjusted : two-sided, and after Holm over all tests of this component by this method; NaN without a test
    n, groups : rows and groups (objectives, or comparisons of a controlled effect) that it rests on
    reason : in words, what is in the way, or what weakens the estimate
    varying : columns that vary along with a controlled choice, though it does not decide them
    decided_by : the column of groups a single one of which decides a controlled effect, where comparisons lie in groups
    held, not_held : columns that a linear model holds fixed, and choices of one's own table that it does not
    influential, effect_without : the encoder that moves the effect most, and the effect without it
    """

    choice: str
    level: str
    reference: str
    component: str
    method: str
    n: int
    groups: int
    status: Status = Status.ESTIMATED
    effect: float = math.nan
    se: float = math.nan
    low: float = math.nan
    high: float = math.nan
    confidence: float = math.nan
    df: float = math.nan
    p: float = math.nan
    p_adjusted: float = math.nan
    reason: str = ""
    varying: tuple[str, ...] = ()
    decided_by: str = ""
    held: tuple[str, ...] = ()
    not_held: tuple[str, ...] = ()
    influential: str = ""
    effect_without: float = math.nan


def adjusted(effects: Sequence[Effect]) -> list[Effect]:
    """The effects with Holm's correction, in families of one method and one component each."""
    result = list(effects)
    for family in dict.fromkeys((each.method, each.component) for each in effects):
        places = [i for i, each in enumerate(effects) if (each.method, each.component) == family]
        for i, p in zip(places, holm([effects[i].p for i in places]), strict=True):
            result[i] = replace(result[i], p_adjusted=p)
    return result


def frame(effects: Iterable[Effect]) -> pl.DataFrame:
    """The tidy table; what is not there is null."""
    rows = [
        {name: None if isinstance(v := _cell(each, name), float) and math.isnan(v) else v for name in COLUMNS}
        for each in effects
    ]
    text = ("choice", "level", "reference", "component", "method", "status", "reason", "influential", "unit")
    whole = ("n", "groups")
    schema = {n: pl.String if n in text else pl.Int64 if n in whole else pl.Float64 for n in COLUMNS}
    return pl.DataFrame(rows, schema=schema)


def _cell(each: Effect, name: str) -> str | int | float:
    if name == "unit":
        return "fraction"
    if name == "status":
        return each.status.value
    value: str | int | float = getattr(each, name)
    return value
