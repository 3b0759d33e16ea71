"""A study as plain text, in points (percent of the error)."""

import math
from collections.abc import Iterator, Sequence
from typing import get_args

from ssl_risk_rs._names import counted
from ssl_risk_rs.report.numbers import hundred, rounded
from ssl_risk_rs.study.advice import Support
from ssl_risk_rs.study.controlled import YARDSTICK
from ssl_risk_rs.study.effects import Effect, Status
from ssl_risk_rs.study.held_out import By
from ssl_risk_rs.study.law import LogitLaw
from ssl_risk_rs.study.linear import METHODS, cluster_of
from ssl_risk_rs.study.study import Difference, Study
from ssl_risk_rs.study.trees import METHOD as TREES

__all__ = ["render", "render_differences"]

#: adjusted p-value from which an effect is not listed unless all are asked for
_LISTED = 0.05


def render(study: Study, *, every: bool = False) -> str:
    """All sections; with `every`, all effects and not only those that stay after Holm's correction."""
    parts = [
        _heading(study), _yardsticks(study), _effects(study, every), _trees(study), _laws(study),
        _tradeoffs(study, every), _fronts(study), _advice(study),
    ]  # fmt: skip
    return "\n\n".join("\n".join(lines) for part in parts if (lines := list(part)))


def _heading(study: Study) -> Iterator[str]:
    table = study.table
    frame = table.frame
    sources = ", ".join(f"{n} from {s}" for s, n in sorted(frame.group_by("source").len().iter_rows()))
    yield f"Study of {frame.height:,} encoders ({sources}) and {len(table.choices)} design choices"
    known = ", ".join(f"{c} {frame[c].drop_nulls().len()}" for c in table.components)
    yield f"  encoders that have each risk: {known}"
    if table.cluster:
        column = frame[table.cluster]
        alone = f", and {n} encoders without one," if (n := column.null_count()) else ""
        yield (
            f"  {column.drop_nulls().n_unique()} values of {table.cluster}{alone} are the groups of the clustered "
            "variance"
        )
        if "approx" in table.components and cluster_of(table, "approx") != table.cluster:
            distinct = frame["approx"].drop_nulls().n_unique()
            yield f"  (for approx, which has {distinct} distinct values, they are the values of architecture)"
    if table.corrections:
        kinds = {k: sum(c.kind == k for c in table.corrections) for k in ("value", "clipped", "excluded")}
        yield (
            f"  {kinds['value']} cells of the published table are corrected, {kinds['clipped']} components that had "
            f"been set to 0 are restored, {kinds['excluded']} row is left out (--show corrections lists them)"
        )
    for encoder, reason in table.left_out:
        yield f"  {encoder} is left out: {reason}"
    if table.unequal_sums:
        encoder, off = max(table.unequal_sums, key=lambda one: abs(one[1]))
        yield (
            f"  agg_risk is not the sum of the four components in {len(table.unequal_sums):,} rows; in {encoder} it is "
            f"{100 * abs(off):.2f} points {'more' if off > 0 else 'less'}: are they of one decomposition?"
        )


def _yardsticks(study: Study) -> Iterator[str]:
    rows = [e for e in study.effects if e.method == YARDSTICK]
    known = [e for e in rows if e.status is Status.ESTIMATED]
    yield "Yardstick: how far two runs of one design lie apart (recipe or seed differ)"
    if not known:
        yield f"  {rows[0].reason}" if rows else "  there is none"
    for e in known:
        yield (
            f"  {e.component:<12}{_points(e.effect):>8}  {_interval(e)}   {e.n} encoders of {e.groups} "
            f"design{'s' if e.groups > 1 else ''}"
        )


def _effects(study: Study, every: bool) -> Iterator[str]:
    for method in dict.fromkeys(e.method for e in study.effects):
        if method in (YARDSTICK, TREES):
            continue
        rows = [e for e in study.effects if e.method == method]
        estimated = [e for e in rows if e.status is Status.ESTIMATED]
        tested = sum(math.isfinite(e.p) for e in estimated)
        if method == METHODS["HC3"] and study.table.cluster and not every:
            yield f"{_title(method)}: {_tested(tested)}; --all lists {'it' if tested == 1 else 'them'}"
            yield ""
            continue
        shown = estimated if every else [e for e in estimated if e.p_adjusted < _LISTED]
        yield f"{_title(method)}: {_tested(tested)}, {_count(shown, every)}"
        if shown:
            yield (
                f"  {'choice':<24}{'level':<22}{'component':<12}{'points':>8}  {'interval':^18}{'p':>9}{'Holm':>9}"
                f"{'n':>5}{'groups':>7}"
            )
        for e in sorted(shown, key=lambda e: (e.component, e.p_adjusted)):
            level = f"{e.level} vs {e.reference}" if e.reference else e.level
            yield (
                f"  {e.choice:<24}{_cut(level, 21):<22}{e.component:<12}{_points(e.effect):>8}  {_interval(e):<18}"
                f"{_p(e.p):>9}{_p(e.p_adjusted):>9}{e.n:>5}{e.groups:>7}"
                + (f"  {e.reason}" if e.reason else "")
            )  # fmt: skip
        yield from _refused(rows)
        yield ""


def _tested(n: int) -> str:
    return f"{counted(n, 'effect')} {'is' if n == 1 else 'are'} tested"


def _count(shown: Sequence[Effect], every: bool) -> str:
    if every:
        return "all are listed"
    stay = "stays" if len(shown) == 1 else "stay"
    return f"{len(shown):,} {stay} below {_LISTED:g} after Holm's correction (--all lists the others)"


def _refused(rows: Sequence[Effect]) -> Iterator[str]:
    """What could not be estimated, by reason and name; of some components where others could."""
    every = {e.component for e in rows}
    others: dict[Status, dict[str, set[str]]] = {}
    for e in rows:
        if e.status is not Status.ESTIMATED:
            name = f"{e.choice} = {e.level}" if e.level and e.reference else e.choice
            others.setdefault(e.status, {}).setdefault(name, set()).add(e.component)
    meaning = {
        Status.ALIASED: "not identified by these encoders",
        Status.ONE_LEVEL: "the same in all rows",
        Status.ONE_ROW: "decided by single rows",
        Status.ONE_GROUP: "decided by a single group, so that no clustered variance can be seen",
        Status.TOO_FEW: "too few rows",
        Status.NO_PAIRS: "no two encoders differ in this choice alone",
    }
    for status, names in others.items():
        said = [n if of == every else f"{n} (of {', '.join(sorted(of))})" for n, of in sorted(names.items())]
        yield f"  no effect, {meaning[status]}: {', '.join(said)}"


def _title(method: str) -> str:
    return {
        "controlled": "Controlled pairs (all else equal)",
        "linear/cluster": "Linear model with confounders, variance between groups",
        "linear/HC3": "Linear model with confounders, independent rows of unequal variance",
        "linear/classical": "Linear model with confounders, independent rows of equal variance",
    }.get(method, method)


def _trees(study: Study) -> Iterator[str]:
    if not study.trees:
        return
    yield "Boosted trees: root mean square error on left-out encoders, in points"
    yield f"  {'component':<12}{'left out':<12}{'trees':>8}{'linear':>8}{'mean':>8}{'n':>6}{'folds':>7}"
    for r in study.trees:
        yield (
            f"  {r.component:<12}{r.folds:<12}{100 * r.trees:>8.3f}{100 * r.linear:>8.3f}{100 * r.mean:>8.3f}"
            f"{r.n:>6}{r.n_folds:>7}"
        )
    for part in study.contributions:
        top = sorted((e for e in part.effects if e.level == "importance"), key=lambda e: -e.effect)[:5]
        said = ", ".join(f"{e.choice} {hundred(e.effect):.2f} {_interval(e)}" for e in top)
        yield f"  {part.component}: largest mean contributions {said}"
        strong = [i for i in part.interactions if i.h2 >= 0.01][:3]
        if strong:
            pairs = ", ".join(f"{i.first} × {i.second} ({i.h2:.2f})" for i in strong)
            yield f"  {part.component}: interactions (share of the joint effect) {pairs}"


def _laws(study: Study) -> Iterator[str]:
    if study.laws is None:
        yield f"Law of label counts: there is none, because {study.no_laws}"
        return
    laws = study.laws
    yield "Law of label counts"
    yield (
        f"  the authors' law: α = {laws.paper.alpha:.4f}, B = {laws.paper.b:.3f}, R² {laws.paper_fit.r2:.3f}, root "
        f"mean square error {100 * laws.paper_fit.rmse:.2f} points on the {laws.paper_fit.n} points it was fitted on "
        f"(B = 0: R² {laws.paper_one_fit.r2:.3f})"
    )
    for law in laws.logit:
        yield f"  {_law(law)}"
    yield f"  {'held out':<28}{'law':<22}{'points':>7}{'R²':>7}{'n':>6}{'groups':>8}   intervals"
    for h in laws.held_out:
        covered = ""
        if h.holds_every_error:
            covered = f"none: {h.confidence:.0%} intervals need more objectives than these"
        elif math.isfinite(h.coverage):
            covered = (
                f"{h.confidence:.0%} intervals hold {h.coverage:.1%} of points ({h.coverage_groups:.1%} with equal "
                f"weight for each {h.left_out}), mean width {100 * h.width:.1f} points"
            )
        left = f"each {h.left_out}" if h.left_out in get_args(By) else h.left_out
        r2 = rounded(h.r2, 3)
        yield f"  {left:<28}{h.law:<22}{100 * h.rmse:>7.2f}{r2:>7.3f}{h.n:>6}{h.groups:>8}   {covered}".rstrip()
    given = [h.rmse for h in laws.held_out if " given " in h.law]
    without = [h.rmse for h in laws.held_out if h.left_out == "objective" and " given " not in h.law]
    if given and without and max(given) < min(without):
        yield "  One measured point at few labels is worth more than any law: see the lines that are given one."


def _law(law: LogitLaw) -> str:
    known = "without a measured point" if law.measured is None else f"given the error at {law.measured:,.0f} labels"
    slope, bend = (", ".join(f"{v:.4g}" for v in part) for part in (law.slope, law.curvature))
    return f"logit law {known}: w = ({slope}), v = ({bend}); {law.encoders} encoders, {law.objectives} objectives"


def _tradeoffs(study: Study, every: bool) -> Iterator[str]:
    if not study.tradeoffs:
        return
    yield "Trade-offs: Spearman's ρ over encoders; below 0 one is bought with the other"
    yield f"  {'between':<28}{'among':<24}{'ρ':>6}  {'interval':^16}{'n':>6}{'groups':>8}"
    few = next((t.second for t in study.tradeoffs if "@" in t.second), "")
    shown = [t for t in study.tradeoffs if every or t.second in ("probe_gen", few)]
    for t in shown:
        among = f"{t.by} {t.stratum}" if t.by else "all"
        rho, low, high = map(rounded, (t.rho, t.low, t.high))
        interval = f"[{low:5.2f}, {high:5.2f}]" if math.isfinite(t.low) else "no interval"
        yield (
            f"  {t.first + ', ' + t.second:<28}{_cut(among, 23):<24}{rho:>6.2f}  {interval:<16}{t.n:>6}{t.groups:>8}"
        )


def _fronts(study: Study) -> Iterator[str]:
    for front in study.fronts:
        yield f"No encoder of {front.n} is better in both {front.first} and {front.second}:"
        for m in front.members:
            chance = f"   on the front in {m.chance:.0%} of draws" if math.isfinite(m.chance) else ""
            if m.on_front:
                yield f"  {_cut(m.encoder, 40):<42}{hundred(m.first):>7.2f}{hundred(m.second):>7.2f}{chance}"
        near = [m for m in front.members if not m.on_front]
        if near:
            yield f"  {len(near)} more are there in 5 % or more of draws from the sampling error"


def _advice(study: Study) -> Iterator[str]:
    yield "Advice: what goes with a low risk among these encoders (an observation, not an intervention)"
    goals = dict.fromkeys(a.goal for a in study.advice)
    for goal in goals:
        yield f"  {goal}"
        for a in (a for a in study.advice if a.goal == goal):
            if a.support is Support.BEST:
                sure = f", the best of all in {a.chance:.0%} of draws" if math.isfinite(a.chance) else ""
                yield f"    {a.level}: {hundred(a.effect):.2f} %{sure}"
            else:
                shown = ", ".join(a.encoders) or "no encoder"
                yield (
                    f"    {a.choice}: {a.told}, {hundred(a.effect):+.2f} points, {a.support.value} support "
                    f"({', '.join(a.methods)}); realized by {shown}"
                )
        if not any(a.goal == goal and a.support is not Support.BEST for a in study.advice):
            yield "    No design choice has support that lasts."


def render_differences(found: Sequence[Difference], *, every: bool = False) -> str:
    """The authors' way beside ours; without `every`, where p < 0.05 their way and not ours."""
    listed = [d for d in found if every or (d.published_p < 0.05 and not d.p < 0.05)]
    count = len(listed)
    listed.sort(key=lambda d: d.published_p)
    if not every:
        first = {(d.choice, d.method): d for d in reversed(listed)}
        listed = [d for d in listed if first[d.choice, d.method] is d]
    lines = [
        f"The authors' way beside ours: {len(found):,} effects, {count:,} listed"
        if every
        else f"The authors' way beside ours: {count:,} of {len(found):,} effects are below 0.05 their way and not "
        "ours; for each choice and method the strongest is listed (--all lists every effect)",
        f"  {'choice':<24}{'level':<24}{'component':<12}{'method':<16}{'theirs':>8}{'p':>9}{'n':>5}{'ours':>9}{'p':>9}"
        f"{'n':>5}",
    ]
    for d in listed:
        level = f"{d.level} vs {d.reference}" if d.reference else d.level
        lines.append(
            f"  {d.choice:<24}{_cut(level, 23):<24}{d.component:<12}{d.method:<16}{_points(d.published_effect):>8}"
            f"{_p(d.published_p):>9}{d.published_n:>5}{_points(d.effect):>9}{_p(d.p):>9}{d.n:>5}"
            f"  {'; '.join(d.reasons)}"
        )
    return "\n".join(lines)


def _points(value: float) -> str:
    return "–" if math.isnan(value) else f"{hundred(value):+.2f}"


def _interval(e: Effect) -> str:
    return "no interval" if math.isnan(e.low) else f"[{hundred(e.low):.2f}, {hundred(e.high):.2f}]"


def _p(value: float) -> str:
    if math.isnan(value):
        return "–"
    return f"{value:.1e}" if value < 1e-3 else f"{value:.3f}"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
