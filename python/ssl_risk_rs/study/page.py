"""A study as a page: effects, errors on what was left out, trade-offs, advice."""

import math
from collections.abc import Sequence

from ssl_risk_rs.report.numbers import MINUS, count, interval, p_value, percent, points, probability, rounded
from ssl_risk_rs.report.page import Block, Chapter, Column, Figure, Missing, Page, Section, Sentences, Table
from ssl_risk_rs.results.quantities import QUANTITIES
from ssl_risk_rs.study.advice import Support
from ssl_risk_rs.study.controlled import YARDSTICK
from ssl_risk_rs.study.effects import Effect, Status
from ssl_risk_rs.study.figures import effect_figure, front_figures, label_figure, partial_figures, safe
from ssl_risk_rs.study.linear import METHODS
from ssl_risk_rs.study.study import Study
from ssl_risk_rs.study.trees import METHOD as TREES

__all__ = ["study_page"]

#: p-value after Holm's correction from which an effect is not listed
_LISTED = 0.05
_TITLES = {
    "controlled": "Controlled pairs: all else equal",
    METHODS["cluster"]: "Linear model with confounders, variance between groups",
    METHODS["HC3"]: "Linear model with confounders, independent rows of unequal variance",
}


def study_page(study: Study, *, made_by: str = "") -> Page:
    """Everything that a study found and a reader can use; effects below 0.05 after Holm's correction are listed."""
    frame = study.table.frame
    sources = frame.group_by("source").len().sort("source").iter_rows()
    facts = (f"{frame.height:,} encoders", *(f"{n:,} from {source}" for source, n in sources),
             f"{len(study.table.choices)} design choices")  # fmt: skip
    held_out, correlations = (_laws(study), _trees(study)), _correlations(study)
    missing = [each for each in (*held_out, correlations) if isinstance(each, Missing)]
    whole = [each for each in (correlations, *_fronts(study), *_advice(study)) if isinstance(each, Section)]
    chapters = [
        Chapter("effects", "Effects of design choices", tuple(_effects(study))),
        Chapter("held-out", "Errors on what was left out", tuple(s for s in held_out if isinstance(s, Section))),
        Chapter("tradeoffs", "Trade-offs and what to choose", tuple(whole)),
    ]
    return Page(
        f"What design choices do, over {frame.height:,} encoders", facts, tuple(c for c in chapters if c.sections),
        tuple(missing), made_by,
    )  # fmt: skip


def _effects(study: Study) -> list[Section]:
    found = [_yardstick(study)]
    for component in study.table.components:
        blocks: list[Block] = []
        figure = effect_figure(study, component)
        if figure is not None:
            blocks.append(figure)
        for method, title in _TITLES.items():
            own = [e for e in study.effects if e.method == method and e.component == component]
            estimated = [e for e in own if e.status is Status.ESTIMATED]
            tested = sum(math.isfinite(e.p) for e in estimated)
            stay = sorted((e for e in estimated if e.p_adjusted < _LISTED), key=lambda e: (e.p_adjusted, e.choice))
            if not own:
                continue
            said = f"{title}: of {tested:,} effects that are tested, {len(stay):,} stay below {_LISTED:g} after Holm's "
            blocks.append(Sentences((said + "correction.",)))
            if stay and not (method == METHODS["HC3"] and study.table.cluster):
                blocks.append(_effect_table(f"{title}; effects on {component} in points", stay))
        if blocks:
            found.append(Section(f"effects-{safe(component)}", f"Effects on {_label(component)}", tuple(blocks)))
    residuals = partial_figures(study)
    if residuals:
        found.append(Section("partial", "Partial residuals of numeric choices", tuple(residuals)))
    return found


def _yardstick(study: Study) -> Section:
    rows = [e for e in study.effects if e.method == YARDSTICK]
    known = [e for e in rows if e.status is Status.ESTIMATED]
    why = rows[0].reason if rows else "there are no two runs of one design"
    blocks: list[Block] = [
        Sentences(("How far two runs of one design lie apart is the yardstick for every effect below.",))
    ]
    if known:
        cells = [(e.component, points(e.effect).lstrip("+"), _ends(e), count(e.n), count(e.groups)) for e in known]
        heads = (Column("component", False), Column("points"), Column("interval"), Column("n"), Column("designs"))
        blocks.append(Table("Two runs of one design, in points; n is the number of encoders", heads, tuple(cells)))
    else:
        blocks.append(Sentences((f"There is none here: {why}.",)))
    return Section("yardstick", "Yardstick", tuple(blocks))


def _effect_table(caption: str, effects: Sequence[Effect]) -> Table:
    rows = [
        (e.choice, f"{e.level} vs {e.reference}" if e.reference else e.level, points(e.effect), _ends(e), _p(e.p),
         p_value(e.p_adjusted), count(e.n), count(e.groups))
        for e in effects
    ]  # fmt: skip
    heads = (
        Column("choice", False), Column("level", False), Column("effect"), Column("interval"), Column("p"),
        Column("Holm"), Column("n, rows"), Column("groups"),
    )  # fmt: skip
    return Table(caption, heads, tuple(rows))


def _laws(study: Study) -> Section | Missing:
    if study.laws is None:
        why = study.no_laws[:1].upper() + study.no_laws[1:]
        command = "ssl-risk-rs study TABLE --shots COLUMN=N --labels N"
        return Missing("laws", "Law of label counts", f"{why}.", command)
    rows = [
        (h.left_out, h.law, percent(h.rmse), "–" if math.isnan(h.r2) else f"{rounded(h.r2, 3):.3f}".replace("-", MINUS),
         "–" if math.isnan(h.coverage) or h.holds_every_error else f"{percent(h.coverage, 1)} %",
         count(h.n), count(h.groups))
        for h in study.laws.held_out
    ]  # fmt: skip
    heads = (
        Column("left out together", False), Column("law", False), Column("root mean square, points"), Column("R²"),
        Column("in the interval"), Column("n, points"), Column("groups"),
    )  # fmt: skip
    table = Table("Errors of the law of label counts on points that it was not fitted on", heads, tuple(rows))
    return Section("laws", "Law of label counts", (*label_figure(study), table))


def _trees(study: Study) -> Section | Missing:
    title = "Trees, linear model and mean"
    if not study.trees:
        command = f"ssl-risk-rs study TABLE --method controlled,linear,{TREES}"
        return Missing("trees", title, "Trees were not asked for; they take minutes.", command)
    rows = [
        (r.component, r.folds, percent(r.trees, 3), percent(r.linear, 3), percent(r.mean, 3), count(r.n))
        for r in study.trees
    ]
    heads = (
        Column("component", False), Column("left out", False), Column("trees"), Column("linear"), Column("mean"),
        Column("n, encoders"),
    )  # fmt: skip
    return Section(
        "trees", title, (Table("Root mean square error on left-out encoders, in points", heads, tuple(rows)),)
    )


def _correlations(study: Study) -> Section | Missing:
    title = "Trade-offs"
    if not study.tradeoffs:
        why = "The table lacks a pair of risks that are set against each other."
        return Missing("correlations", title, why, "ssl-risk-rs study TABLE --component usability,probe_gen")
    rows = [
        (f"{t.first}, {t.second}", f"{t.by} {t.stratum}" if t.by else "all", _rho(t.rho),
         "none" if math.isnan(t.low) else f"{_rho(t.low)} to {_rho(t.high)}", count(t.n), count(t.groups))
        for t in study.tradeoffs
    ]  # fmt: skip
    heads = (
        Column("between", False), Column("among", False), Column("ρ"), Column("interval"), Column("n, encoders"),
        Column("groups"),
    )  # fmt: skip
    note = "Spearman's ρ over encoders; below 0 one risk is bought with the other."
    return Section("correlations", title, (Table("Rank correlations of risks", heads, tuple(rows), notes=(note,)),))


def _fronts(study: Study) -> list[Section]:
    blocks: list[Figure | Table] = []
    for front, figure in zip(study.fronts, front_figures(study), strict=True):
        rows = [
            (m.encoder, percent(m.first), percent(m.second), probability(m.chance))
            for m in front.members if m.on_front
        ]  # fmt: skip
        heads = (
            Column("encoder", False), Column(f"{front.first}, %"), Column(f"{front.second}, %"), Column("on the front"),
        )  # fmt: skip
        caption = (
            f"Encoders that none of {front.n} rows beats in both risks, with the share of draws in which that is so"
        )
        blocks += [figure, Table(caption, heads, tuple(rows))]
    return [Section("fronts", "Fronts", tuple(blocks))] if blocks else []


def _advice(study: Study) -> list[Section]:
    if not study.advice:
        return []
    n = study.table.frame.height
    rows = [
        (a.goal, a.choice, a.told, percent(a.effect) if a.support is Support.BEST else points(a.effect),
         probability(a.chance), a.support.value, ", ".join(a.encoders[:3]))
        for a in study.advice
    ]  # fmt: skip
    heads = (
        Column("goal", False), Column("choice", False), Column("level", False), Column("risk or effect"),
        Column("chance"), Column("support", False), Column("realized by", False),
    )  # fmt: skip
    note = "What goes with a low risk among these encoders is an observation, not an intervention."
    table = Table(f"Advice, in percent and points, from {n:,} rows", heads, tuple(rows), notes=(note,))
    return [Section("advice", "What to choose", (table,))]


def _label(component: str) -> str:
    """`agg_risk@30` → aggregated risk, 30 shots"""
    name, _, shots = component.partition("@")
    label = QUANTITIES[name].label if name in QUANTITIES else name
    if not shots:
        return label
    return f"{label}, {shots[:-1]} % of the labels" if shots.endswith("%") else f"{label}, {shots} shots"


def _ends(e: Effect) -> str:
    return interval(e.low, e.high)


def _p(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.1e}".replace("-", MINUS) if value < 1e-3 else f"{value:.3f}"


def _rho(value: float) -> str:
    return "–" if math.isnan(value) else f"{rounded(value):.2f}".replace("-", MINUS)
