"""What to choose for many labels and for few: the encoders of least risk, and choices that several methods agree on."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

import polars as pl

from ssl_risk_rs.study.controlled import METHOD as CONTROLLED
from ssl_risk_rs.study.controlled import YARDSTICK
from ssl_risk_rs.study.design import values
from ssl_risk_rs.study.effects import Effect, Status
from ssl_risk_rs.study.linear import METHODS
from ssl_risk_rs.study.table import StudyTable
from ssl_risk_rs.study.tradeoffs import best_chances

__all__ = ["Advice", "Support", "advise"]

#: p-value below which a method says that there is an effect
_SAYS = 0.05


class Support(Enum):
    """How far the evidence for a choice goes."""

    STRONG = "strong"  # one method after Holm's correction, no other against it
    FAIR = "fair"  # two methods without the correction, with the same sign
    BEST = "best"  # an encoder of least risk, not a choice


@dataclass(frozen=True, slots=True)
class Advice:
    """One thing to choose for one goal.

    Attributes
    ----------
    goal : the risk to lower
    choice, level : "encoder" and its name; or a design choice and its better level (or "more", "less")
    than : the level that it is better than; empty for encoders and numbers
    effect : difference in risk that the methods see, the one nearest to 0; the risk itself for an encoder
    chance : of an encoder to be the best of all, given the sampling error of the judged rows; NaN if not known
    methods : that support a choice
    encoders : the best encoders that have this level, or are in the better third of a number
    """

    goal: str
    choice: str
    level: str
    effect: float
    chance: float
    support: Support
    methods: tuple[str, ...]
    encoders: tuple[str, ...]
    than: str = ""

    @property
    def told(self) -> str:
        """The better level and the one that it is compared with."""
        return f"{self.level} rather than {self.than}" if self.than else self.level


def advise(
    table: StudyTable, effects: Sequence[Effect], goals: Sequence[str], *, judged_rows: int | None = None
) -> list[Advice]:
    """Encoders and choices for each goal, by the strength of their support.

    A choice is advised if its effect on the goal is seen after Holm's correction by controlled pairs or by the linear
    model with clustered variance, or by both without the correction, with one sign. Effects that are smaller than what
    two runs of one design differ by (the yardstick) are left out.
    """
    found = []
    for goal in goals:
        best = best_chances(table.frame, goal, judged_rows=judged_rows)
        found += [Advice(goal, "encoder", n, risk, chance, Support.BEST, (), (n,)) for n, risk, chance in best]
        size = next((e.effect for e in effects if e.method == YARDSTICK and e.component == goal), 0.0)
        found += sorted(
            _choices(table, [e for e in effects if e.component == goal], goal, size if math.isfinite(size) else 0.0),
            key=lambda each: (each.support is not Support.STRONG, -abs(each.effect)),
        )
    return found


def _choices(table: StudyTable, effects: Sequence[Effect], goal: str, yardstick: float) -> list[Advice]:
    judges = (CONTROLLED, METHODS["cluster"], METHODS["HC3"])
    by_level: dict[tuple[str, str, str], dict[str, Effect]] = {}
    for e in effects:
        if e.status is Status.ESTIMATED and e.method in judges and math.isfinite(e.p):
            # methods may take either of two levels as the reference: the same comparison, of the other sign
            turned = bool(e.reference) and e.level < e.reference
            one, other = (e.reference, e.level) if turned else (e.level, e.reference)
            by_level.setdefault((e.choice, one, other), {})[e.method] = replace(e, effect=-e.effect) if turned else e
    found = []
    for (choice, level, reference), said in by_level.items():
        if table.cluster:  # HC3 supposes independent rows: it counts only where there are no groups
            said.pop(METHODS["HC3"], None)
        signs = {e.effect > 0 for e in said.values() if e.p < _SAYS}
        seen = [e for e in said.values() if e.p < _SAYS]
        sure = [e for e in seen if e.p_adjusted < _SAYS and not (e.varying or e.decided_by or e.not_held)]
        if len(signs) != 1 or not (sure or len(seen) > 1):
            continue
        if any((e.effect > 0) not in signs for e in said.values() if abs(e.effect) > yardstick):
            continue
        least = min(seen, key=lambda e: abs(e.effect))
        if abs(least.effect) <= yardstick:
            continue
        lower = least.effect < 0
        better = (level if lower else reference) if reference else ("more" if lower else "less")
        than = (reference if lower else level) if reference else ""
        support = Support.STRONG if sure else Support.FAIR
        names = _having(table, choice, better, goal, numeric=not reference)
        found.append(
            Advice(
                goal, choice, better, -abs(least.effect), math.nan, support, tuple(e.method for e in seen), names, than
            )
        )
    return found


def _having(table: StudyTable, name: str, better: str, goal: str, *, numeric: bool) -> tuple[str, ...]:
    """The three encoders of least risk that have the level, or are in the better third of a number."""
    choice = next(c for c in table.choices if c.name == name)
    series = values(table.frame, choice)  # an empty cell may stand for a level
    if numeric:
        edge = series.quantile(2 / 3 if better == "more" else 1 / 3)
        has = series >= edge if better == "more" else series <= edge
    elif choice.kind == "flag":
        has = series.cast(pl.Boolean) == (better == "yes")
    else:
        has = series == better
    rows = table.frame.filter(has.fill_null(False)).drop_nulls([goal]).sort(goal, "encoder").head(3)
    return tuple(rows["encoder"].cast(pl.String).to_list())
