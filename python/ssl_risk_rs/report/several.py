"""What several runs show together: their bars, differences from the first, ranks, layers, shapes."""

import math
from collections.abc import Iterator, Sequence
from functools import partial

from ssl_risk_rs._characters import clipped
from ssl_risk_rs._names import distinct
from ssl_risk_rs.report import charts
from ssl_risk_rs.report.numbers import ROUNDING, count, interval, p_value, percent, points, probability
from ssl_risk_rs.report.overview import bar_of, mark_notes
from ssl_risk_rs.report.page import Block, Column, Figure, Missing, Section, Sentences, Table
from ssl_risk_rs.report.sentences import mark, place, short
from ssl_risk_rs.results.compare import Comparison, Rank
from ssl_risk_rs.results.estimate import Grade
from ssl_risk_rs.results.metrics import HEADLINES
from ssl_risk_rs.results.quantities import QUANTITIES
from ssl_risk_rs.results.run import Decomposition, Run, common_components

__all__ = ["beside", "comparison", "layers", "names", "ranks", "shapes"]

#: encoders of a radar chart: more cannot be told apart
_SHAPES = 6
#: what a chart over encoders is read in
_LEAST = 3
#: encoders that are compared with the first one by one: more make a page that nobody reads to its end
_DETAILED = 12


def names(runs: Sequence[Run]) -> list[str]:
    """What the runs are called: by encoder, and where two have the same by layer or folder as well."""
    plain = [short(run.provenance.encoder) for run in runs]
    folders = ["" if run.path is None else run.path.name for run in runs]
    return distinct(plain, [_layer(run) for run in runs], folders)


def beside(runs: Sequence[Run], called: Sequence[str], probe: str, found: Comparison | None) -> Section:
    """All runs as bars and as a table, in the order they were given; of one target."""
    own = [run.of_probe(probe) for run in runs]
    parts = common_components(own)
    bars = [bar_of(name, d, parts) for name, d in zip(called, own, strict=True)]
    one = len({run.provenance.data for run in runs}) == 1
    rows, used = [], []
    levels = {d.method.confidence for d in own}
    for name, run, d in zip(called, runs, own, strict=True):
        total = d.estimates["agg_risk"]
        used.append(total.grade)
        cells = [percent(value) for _, value in bar_of(name, d, parts).parts]
        where = () if one else (run.provenance.data,)
        level = "" if len(levels) == 1 else f" ({100 * d.method.confidence:g} %)"
        ends = f"{interval(total.low, total.high)}{level} {mark(total.grade)}".rstrip()
        rows.append((name, *cells, percent(total.estimate), ends, *where, count(d.sizes.test)))
    table = Table(
        f"Parts of the error in percent, {probe} probe" + (f", {runs[0].provenance.data}" if one else ""),
        (
            Column("encoder", False), *(Column(charts.part_label(p)) for p in parts), Column("aggregated risk"),
            Column(f"{100 * own[0].method.confidence:g} % interval" if len(levels) == 1 else "interval"),
            *(() if one else (Column("data", False),)),
            Column("n, test rows"),
        ),
        tuple(rows),
        notes=(*_why_other_parts(own), *mark_notes(used)),
    )  # fmt: skip
    said = "; ".join(f"{row[0]} {row[len(parts) + 1]}" for row in rows)
    figure = Figure(
        f"all-{probe}",
        f"The error of {len(runs)} encoders and its parts, {probe} probe",
        f"A stacked bar for each encoder with the interval of its aggregated risk. In percent: {said}.",
        lambda width: charts.stacked(bars, width),
        (*called, *(charts.part_label(p) for p in parts)),
    )
    return Section(
        f"all-{probe}", f"{len(runs)} encoders, {probe} probe", (*_least(runs, called, own, found), figure, table)
    )


def comparison(found: Comparison) -> Section:
    """Differences from the first encoder, as waterfalls and tables."""
    blocks: list[Block] = []
    paired = "row" if found.n_groups is None else "group"
    blocks.append(
        Sentences((
            f"Differences are paired by {paired} ({count(found.n_train)} training rows, {count(found.n_test)} test "
            "rows), so that what makes a row hard for every encoder cancels.",
            "P(better) is the probability that the error is really less; p is that of no difference, after Holm's "
            "correction over all components and encoders.",
        ))
    )  # fmt: skip
    least = {r.encoder: r.rank for r in found.ranks if r.quantity == "agg_risk"}
    shown = sorted(found.encoders[1:], key=lambda encoder: least[encoder])[:_DETAILED]
    if len(shown) < len(found.encoders) - 1:
        blocks.append(
            Sentences((
                f"Compared with {short(found.baseline)} are the {len(shown)} of {len(found.encoders) - 1} other "
                "encoders that err least; ssl-risk-rs compare A B compares any two.",
            ), "note")
        )  # fmt: skip
    for encoder in (e for e in found.encoders[1:] if e in shown):
        blocks += [_waterfall(found, encoder), _differences(found, encoder)]
    if found.notes:
        blocks.append(Sentences(tuple(note.sentence() for note in found.notes), "note", listed=True))
    return Section(f"compare-{found.probe}", f"Against {short(found.baseline)}, {found.probe} probe", tuple(blocks))


def ranks(found: Comparison) -> Section:
    """Ranks of all encoders, with those that the data do not exclude."""
    by = list(dict.fromkeys(rank.quantity for rank in found.ranks))
    of = {(r.encoder, r.quantity): r for r in found.ranks}
    ordered = sorted(found.encoders, key=lambda e: (of[e, "agg_risk"].rank, e))
    rows = [
        (short(encoder), *(_rank(of[encoder, quantity]) for quantity in by), count(found.n_test)) for encoder in ordered
    ]
    table = Table(
        "Ranks by each part, the least error first",
        (Column("encoder", False), *(Column(charts.part_label(q)) for q in by), Column("n, test rows")),
        tuple(rows),
        notes=(
            f"Behind a rank stand the ranks that the data do not exclude, for all encoders at once at "
            f"{100 * found.confidence:g} %. Equal errors share a rank.",
        ),
    )
    return Section(f"ranks-{found.probe}", f"Ranks, {found.probe} probe", (table,))


def layers(runs: Sequence[Run], called: Sequence[str], probe: str) -> Section | Missing:
    """Runs of one encoder on one data set that differ in the layer only."""
    title = "Layer by layer"
    families: dict[tuple[str, str], list[int]] = {}
    for i, run in enumerate(runs):
        if _layer(run):
            families.setdefault((run.provenance.encoder, run.provenance.data), []).append(i)
    several = {key: at for key, at in families.items() if len({_layer(runs[i]) for i in at}) > 1}
    if not several:
        return Missing(
            "layers", title, "No two of these runs differ in the layer only.",
            "ssl-risk-rs run -m MODEL -d DATA --layers A,B",
        )  # fmt: skip
    blocks: list[Block] = []
    for n, ((encoder, data), at) in enumerate(several.items()):
        own = [runs[i].of_probe(probe) for i in at]
        parts = common_components(own)
        bars = [bar_of(_layer(runs[i]), d, parts) for i, d in zip(at, own, strict=True)]
        rows = [
            (_layer(runs[i]), percent(d.estimate("agg_risk")), *(percent(d.part(p).estimate) for p in parts),
             count(d.sizes.features), count(d.sizes.test))
            for i, d in zip(at, own, strict=True)
        ]  # fmt: skip
        best = min(zip(at, own, strict=True), key=lambda pair: pair[1].estimate("agg_risk"))[0]
        said = f"Of {len(at)} layers of {short(encoder)} on {data}, {_layer(runs[best])} errs least on the test rows. "
        said += "As a reason to choose it, that is a little optimistic: run --layers chooses on held-out folds instead."
        blocks += [
            Sentences((said,)),
            Figure(
                f"layers-{n}", f"The error of {short(encoder)} at each layer",
                "A stacked bar for each layer. Aggregated risk in percent: "
                + "; ".join(f"{row[0]} {row[1]}" for row in rows) + ".",
                partial(charts.stacked, bars), tuple(bar.label for bar in bars),
            ),
            Table(
                "Parts of the error in percent, by layer",
                (Column("layer", False), Column("aggregated risk"),
                 *(Column(charts.part_label(p)) for p in parts), Column("features"), Column("n, test rows")),
                tuple(rows),
                notes=_why_other_parts(own),
            ),
        ]  # fmt: skip
    return Section("layers", title, tuple(blocks))


def shapes(runs: Sequence[Run], called: Sequence[str], probe: str) -> Section | Missing:
    """The paper's radar chart, and its stacked areas over encoders."""
    title = "Shapes of the errors"
    if len(runs) < _LEAST:
        return Missing(
            "shapes", title, f"A radar chart and stacked areas are read over {_LEAST} encoders or more.",
            f"ssl-risk-rs report {' '.join(map(place, runs))}" + " OTHER" * (_LEAST - len(runs)),
        )  # fmt: skip
    own = {name: run.of_probe(probe) for name, run in zip(called, runs, strict=True)}
    parts = common_components(list(own.values()))
    ordered = sorted(own, key=lambda name: own[name].estimate("agg_risk"))
    bars = [bar_of(name, own[name], parts) for name in ordered]
    polygons = {bar.label: dict(bar.parts) for bar in bars[:_SHAPES]}
    left = f", of the {_SHAPES} that err least" if len(ordered) > _SHAPES else ""
    said = "; ".join(f"{name} {percent(own[name].estimate('agg_risk'))}" for name in ordered)
    return Section(
        "shapes",
        title,
        (
            Sentences((
                "On each axis of the radar chart the rim is the largest error of that part among these encoders "
                "(printed at the axis), and the centre is 0: nearer to the centre is better.",
            )),
            Figure(
                "radar", f"Parts of the error of {len(polygons)} encoders{left}",
                "A polygon for each encoder over its parts, each scaled to the largest among them. Negative parts "
                "are drawn at 0.",
                lambda width: charts.radar(polygons, width), tuple(charts.part_label(p) for p in parts),
            ),
            Figure(
                "area", f"Parts of the error over {len(bars)} encoders",
                "Stacked areas over encoders, the least aggregated risk first; dots are the aggregated risk. "
                f"Negative parts lie below 0, and take as much off the top. {said}.",
                lambda width: charts.area(bars, width), tuple(charts.part_label(p) for p in parts),
            ),
        ),
    )  # fmt: skip


def _why_other_parts(own: Sequence[Decomposition]) -> tuple[str, ...]:
    """Why parts are not those of each run by itself."""
    said = []
    if len({d.supervised for d in own}) > 1:
        said.append("Approximation and usability are one part, because not every encoder here has a supervised twin.")
    if len({d.method.order for d in own}) > 1:
        said.append("Parts are in the paper's order, because not every run here is in the alternative one.")
    return tuple(said)


def _least(
    runs: Sequence[Run], called: Sequence[str], own: Sequence[Decomposition], found: Comparison | None
) -> Iterator[Sentences]:
    """Which encoder errs least, and whether the data tell."""
    if found is None and len(data := dict.fromkeys(run.provenance.data for run in runs)) > 1:
        apart = f"The runs are of {len(data)} data sets ({', '.join(data)}): errors on one are no yardstick for others."
        yield Sentences((apart,), "verdict")
        return
    totals = [d.estimates["agg_risk"] for d in own]
    least = min(e.estimate for e in totals)
    best = [i for i, e in enumerate(totals) if e.estimate - least <= ROUNDING]
    e = totals[best[0]]
    if len(best) > 1:
        named = f"{', '.join(called[i] for i in best[:-1])} and {called[best[-1]]}"
        said = f"{named} err least, each {_erring(own[best[0]], least)}."
    else:
        said = f"{called[best[0]]} errs least, {_erring(own[best[0]], least)} ({interval(e.low, e.high)})."
    if found is not None:
        said += _excluded(found, [found.encoders[i] for i in best])
    elif len(best) < len(own):
        said += " Nothing here tests whether that is chance."
    yield Sentences((said,), "verdict")


def _erring(d: Decomposition, total: float) -> str:
    if d.predicts_classes:
        return f"on {percent(total)} % of its test rows"
    return f"with {HEADLINES[d.method.metric].label} of {percent(total)} % on its test rows"


def _equals(p: float) -> str:
    text = p_value(p)
    return text if text.startswith("<") else f"= {text}"


def _excluded(found: Comparison, best: Sequence[str]) -> str:
    """How sure it is that these err least."""
    at = f" At {100 * found.confidence:g} %, the data"
    if len(best) == len(found.encoders):
        return ""
    if len(found.encoders) == 2:
        d = found.difference(found.encoders[1], "agg_risk")
        sure = d.low > 0 if best[0] == found.baseline else d.high < 0
        text = f"{at} {'exclude' if sure else 'do not exclude'} that the other errs as little"
        if sure and d.p_holm is not None and d.p_holm > 1 - found.confidence:
            text += f", by the totals alone (p {_equals(d.p)})"
            text += f"; corrected for the parts too, as in tables, p {_equals(d.p_holm)}"
        return f"{text}."
    high = next(r.high for r in found.ranks if (r.encoder, r.quantity) == (best[0], "agg_risk"))
    others = high - len(best)
    if others <= 0:
        return f"{at} exclude that any other errs as little."
    return f"{at} do not exclude that {'one other errs' if others == 1 else f'{others} others err'} as little."


def _layer(run: Run) -> str:
    bank = run.provenance.banks.get("encoder")
    return "" if bank is None or bank.feature is None else bank.feature


def _rank(rank: Rank) -> str:
    return f"{rank.rank}" if rank.low == rank.high else f"{rank.rank} ({rank.low} to {rank.high})"


def _waterfall(found: Comparison, encoder: str) -> Figure:
    rows = found.against(encoder)
    steps = [d for d in rows if QUANTITIES[d.quantity].kind == "component"]
    total = next(d for d in rows if d.quantity == "agg_risk")
    first, last = _cut(found.baseline, encoder)
    start, end = (first, total.estimate_baseline), (last, total.estimate)
    drawn = [
        (charts.part_label(d.quantity), d.difference, *((math.nan, math.nan) if d.identical else (d.low, d.high)))
        for d in steps
    ]
    said = ", ".join(f"{QUANTITIES[d.quantity].label} {points(d.difference)}" for d in steps)
    return Figure(
        f"waterfall-{found.probe}-{found.encoders.index(encoder)}",
        f"From {short(found.baseline)} to {short(encoder)}",
        f"A waterfall from {percent(start[1])} % to {percent(end[1])} %, a step for each part with the interval of its "
        f"difference. In points: {said}.",
        lambda width: charts.waterfall(start, drawn, end, width),
        (start[0], *(label for label, *_ in drawn), end[0]),
    )


def _differences(found: Comparison, encoder: str) -> Table:
    rows: list[tuple[str, ...]] = []
    minor: set[int] = set()
    sums: set[int] = set()
    used: list[Grade] = []
    for d in found.against(encoder):
        quantity = QUANTITIES[d.quantity]
        if quantity.kind == "detail":
            minor.add(len(rows))
        if quantity.kind == "total":
            sums.add(len(rows))
        ends = "equal on every row" if d.identical else f"{interval(d.low, d.high)} {mark(d.grade)}".rstrip()
        if not d.identical:
            used.append(d.grade)
        label = f"of it, {quantity.label}" if quantity.kind == "detail" else charts.part_label(d.quantity)
        rows.append((label, percent(d.estimate_baseline), percent(d.estimate), points(d.difference), ends,
                     "" if d.identical else probability(d.better), "" if d.identical else p_value(d.p_holm),
                     count(d.n)))  # fmt: skip
    return Table(
        f"{short(encoder)} against {short(found.baseline)}, in percent and points",
        (
            Column("part", False), *map(Column, _cut(found.baseline, encoder)), Column("difference"),
            Column(f"{100 * found.confidence:g} % interval"), Column("P(better)"), Column("p"), Column("n, rows"),
        ),
        tuple(rows),
        frozenset(sums),
        frozenset(minor),
        mark_notes(used),
    )  # fmt: skip


def _cut(*names: str, most: int = 26) -> list[str]:
    """Names that still differ, in columns and drawings with little room."""
    return distinct([clipped(short(name), most) for name in names])
