"""What belongs to one decomposition below its verdict: labels, penalties, uncertainty, neighbours.

Each function gives its section, or says why there is none and which command adds it.
"""

import math
from collections.abc import Mapping, Sequence

from ssl_risk_rs.report import charts
from ssl_risk_rs.report.budget import Budget, budget
from ssl_risk_rs.report.numbers import ROUNDING, count, interval, percent, points, share
from ssl_risk_rs.report.overview import mark_notes, name_of
from ssl_risk_rs.report.page import Column, Figure, Missing, Section, Sentences, Table
from ssl_risk_rs.report.published import label as published_label
from ssl_risk_rs.report.sentences import decomposed_again, mark, place, same_rows, short
from ssl_risk_rs.report.shots import forecast_sentences
from ssl_risk_rs.results.counterpart import Counterpart, NotPublished
from ssl_risk_rs.results.estimate import Estimate
from ssl_risk_rs.results.quantities import QUANTITIES
from ssl_risk_rs.results.record import Penalty
from ssl_risk_rs.results.run import Decomposition, Run

__all__ = ["labels", "published", "tuning", "uncertainty"]

#: components whose curves over labels are drawn: the others do not depend on labels
_CURVES = ("agg_risk", "probe_gen", "enc_gen")


def labels(run: Run, result: Decomposition, key: str) -> Section | Missing:
    """The error at few labels, and what more labels would bring."""
    title = "Fewer labels"
    if not result.predicts_classes:
        return Missing(f"{key}-labels", title, "Few-shot sizes are of classes, and this run predicts none.", None)
    if not result.shots:
        return Missing(
            f"{key}-labels", title, "No few-shot sizes were asked for.",
            f"ssl-risk-rs fewshot {same_rows(run)}",
        )  # fmt: skip
    rows, used = [], []
    sizes = [(shot.size.title, shot.labels, shot.draws, shot.judged_test, shot.estimates) for shot in result.shots]
    sizes.append(("all rows", result.sizes.train, 1, result.sizes.test, result.estimates))
    for name, n, draws, judged, estimates in sizes:
        cells = []
        for quantity in _CURVES:
            e = estimates[quantity]
            used.append(e.grade)
            cells.append(_with_ends(e))
        rows.append((name, count(n), count(draws), *cells, count(judged)))
    heads = [Column(f"{charts.part_label(quantity)}, %") for quantity in _CURVES]
    same = [QUANTITIES[name].label for name in result.component_names if QUANTITIES[name].rows == "train"]
    table = Table(
        f"The error and its parts at each number of labelled rows, with {100 * result.method.confidence:g} % intervals",
        (Column("size", False), Column("labels"), Column("draws"), *heads, Column("n, test rows")),
        tuple(rows),
        notes=(
            f"At each size, {' and '.join(same)} {'is' if len(same) == 1 else 'are'} that of all rows. A size is the "
            "mean over its draws, judged on rows that no draw has seen.",
            *mark_notes(used),
        ),
    )
    curves = [_curve(sizes, quantity) for quantity in _CURVES]
    said = "; ".join(f"{name} {percent(estimates['agg_risk'].estimate)}" for name, _, _, _, estimates in sizes)
    ticks = [n for _, n, _, _, _ in sizes]
    figure = Figure(
        f"{key}-labels",
        f"The error of {name_of(run, result)} over the number of labels",
        f"Aggregated risk, probe generalization and encoder generalization with intervals over labelled rows, on a "
        f"logarithmic axis. Aggregated risk in percent: {said}.",
        lambda width: charts.lines(curves, width, x_title="labelled rows", y_title="error, %", ticks=ticks),
        tuple(curve.label for curve in curves),
    )
    sentences = [*forecast_sentences(result), *(n.sentence() for shot in result.shots for n in shot.notes)]
    return Section(f"{key}-labels", title, (figure, table, Sentences(tuple(sentences), "note", listed=True)))


_LEFT = (
    "A penalty that is clearly worse than the best (by more than three standard errors of the paired difference) is "
    "not judged on the folds that remain."
)


def tuning(run: Run, result: Decomposition, key: str) -> Section | Missing:
    """What each penalty that was tried cost."""
    title = "Penalties tried"
    tuned = {name: p for name, p in result.penalties.items() if p.errors or p.losses}
    if not tuned:
        return Missing(f"{key}-tuning", title, "No penalty of this run was tuned.", decomposed_again(run))
    what, as_shares = _cost_of(tuned, result)
    column = "wrong rows" if any(p.errors for p in tuned.values()) else what.removesuffix(", %")
    costs = {name: _costs(p, as_shares) for name, p in tuned.items()}
    curves = [
        charts.Line(_penalty_label(name, tuned), p.grid, costs[name], marked=p.grid.index(p.value), colour=colour)
        for (name, p), colour in zip(tuned.items(), _colours(len(tuned)), strict=True)
    ]
    rows = [
        (_penalty_label(name, tuned), f"{alpha:g}", shown, count(n) if n else "–", "chosen" if alpha == p.value else "")
        for name, p in tuned.items()
        for alpha, shown, n in zip(p.grid, _shown(p), p.rows or (0,) * len(p.grid), strict=True)
    ]
    folds = f"{result.sizes.folds_judged} of {result.sizes.folds} folds"
    where = f"held-out rows of {folds}" if result.sizes.folds else "the rows that the protocol tunes on"
    said = "; ".join(
        f"{_penalty_label(name, tuned)}: α = {p.value:g}, {column} {_shown(p)[p.grid.index(p.value)]}"
        for name, p in tuned.items()
    )
    figure = Figure(
        f"{key}-tuning",
        f"Errors of {name_of(run, result)} at each penalty",
        f"Errors over the penalty α on a logarithmic axis; the chosen one is filled: {said}.",
        lambda width: charts.lines(curves, width, x_title="penalty α", y_title=what, percent_y=as_shares, height=220),
        ("penalty α", what),
    )
    table = Table(
        f"{column.capitalize()} at each penalty, on {where}",
        (Column("penalty", False), Column("α"), Column(column), Column("of rows"), Column("", False)),
        tuple(rows),
        notes=(
            (
                "α is absolute, as the authors' is"
                if result.method.protocol == "paper"
                else "α is in units of the mean variance of the scaled features"
            )
            + "; ties go to the stronger penalty.",
            *((_LEFT,) if any(len(set(p.rows)) > 1 for p in tuned.values()) else ()),
        ),
    )
    return Section(f"{key}-tuning", title, (figure, table))


def _cost_of(tuned: dict[str, Penalty], result: Decomposition) -> tuple[str, bool]:
    """What penalties are compared by, and whether it is a share of rows; runs of before did not record the rows."""
    if any(p.losses for p in tuned.values()):
        return ("mean loss", False) if result.method.tuned_on == "error" else ("class-balanced error, %", True)
    as_shares = all(p.rows for p in tuned.values())
    return ("error, %" if as_shares else "wrong rows"), as_shares


def _costs(p: Penalty, as_shares: bool) -> tuple[float, ...]:
    if as_shares and p.errors:
        return tuple(wrong / n for wrong, n in zip(p.errors, p.rows, strict=True))
    return p.losses or tuple(map(float, p.errors))


def _shown(p: Penalty) -> list[str]:
    return [f"{loss:.4g}" for loss in p.losses] if p.losses else [count(wrong) for wrong in p.errors]


def uncertainty(run: Run, result: Decomposition, key: str) -> Section | Missing:
    """What the variance of each interval is made of."""
    every = budget(result)
    if not every:
        why = "Errors of numbers on test rows are in units of the training rows' variance, so that both sets move them."
        return Missing(f"{key}-uncertainty", "What the intervals are made of", why, None)
    found = [b for b in every if b.total > ROUNDING**2]
    if not found:
        why = "No part varies: each is the same in every row that it is judged on."
        return Missing(f"{key}-uncertainty", "What the intervals are made of", why, None)
    rows = [
        (charts.part_label(b.quantity), percent(math.sqrt(b.interval)), _part(b.test, b), _part(b.train, b),
         _part(b.probe, b), _part(b.floor, b), count(result.estimates[b.quantity].n))
        for b in found
    ]  # fmt: skip
    bars = [
        charts.Bar(charts.part_label(b.quantity), tuple((name, getattr(b, name) / b.total) for name in charts.SOURCES))
        for b in found
    ]
    table = Table(
        "Shares of the variance of each number",
        (
            Column("part", False), Column("standard error, points"), Column("test rows"), Column("training rows"),
            Column("probe refitted"), Column("penalty's floor"), Column("n, rows"),
        ),
        tuple(rows),
        notes=(
            "Training rows are those of the split: held-out subsets and the rest. The probe's own variation is what "
            "another draw of training rows would change in it"
            + (", and could not be estimated here." if math.isnan(result.probe_variance) else "."),
            "The floor's share is what one decade of the smallest penalty moves, taken as uniform; the interval does "
            "not hold it.",
        ),
    )  # fmt: skip
    blocks: list[Figure | Table] = []
    if bars:
        said = "; ".join(f"{row[0]}: test {row[2]}, training {row[3]}, probe {row[4]}, floor {row[5]}" for row in rows)
        blocks.append(
            Figure(
                f"{key}-uncertainty",
                f"What the uncertainty of {name_of(run, result)} is made of",
                f"Stacked bars of shares of the variance. {said}.",
                lambda width: charts.stacked(bars, width, title="share of the variance, %"),
                tuple(bar.label for bar in bars) + tuple(charts.part_label(name) for name in charts.SOURCES),
            )
        )
    blocks.append(table)
    if result.shots:
        blocks.append(_draws(result))
    return Section(f"{key}-uncertainty", "What the intervals are made of", tuple(blocks))


_NOT_PUBLISHED = {
    NotPublished.NOT_FETCHED: "The published table is not on this machine; paper fetch brings it.",
    NotPublished.UNREADABLE: "The published table on this machine cannot be read; paper fetch brings it again.",
    NotPublished.NOT_AMONG: "{encoder} is not among the published encoders, and {data} is not ImageNet-1K, of which "
    "their numbers are.",
}


def published(
    run: Run, result: Decomposition, found: Counterpart | None, why: NotPublished, key: str
) -> Section | Missing:
    """The decomposition beside the published table; `why` there is nothing, where `found` is None."""
    title = "Beside the published encoders"
    if found is None:
        among = why is NotPublished.NOT_AMONG
        command = f"ssl-risk-rs paper show {place(run)} --as NAME" if among else "ssl-risk-rs paper fetch"
        said = _NOT_PUBLISHED[why].format(encoder=run.provenance.encoder, data=run.provenance.data)
        return Missing(f"{key}-published", title, said, command)
    blocks: list[Sentences | Table | Figure] = []
    if found.encoder is not None:
        rows = [
            (published_label(row.quantity), percent(row.measured), interval(row.low, row.high), percent(row.published),
             points(row.difference))
            for row in found.rows
        ]  # fmt: skip
        n = f"{count(result.sizes.test)} test rows here, 50,000 published"
        blocks.append(
            Table(
                f"{found.encoder}: measured here and published, in percent ({n})",
                (
                    Column("part", False), Column("here"), Column(f"{100 * result.method.confidence:g} % interval"),
                    Column("published"), Column("difference"),
                ),
                tuple(rows),
                frozenset({len(rows) - 1}),
            )
        )  # fmt: skip
        blocks.append(Sentences(tuple(note.sentence() for note in found.reasons), "note", listed=True))
    else:
        blocks.append(Sentences((f"{short(run.provenance.encoder)} is not among the published encoders.",)))
    if found.place is not None:
        whose = "measured here" if found.place_is_measured else "published"
        places = [
            (published_label(r["quantity"]), percent(r["value"]), share(1 - r["below"]), count(r["n"]))
            for r in found.place.standings.iter_rows(named=True)
        ]
        blocks.append(
            Table(
                f"Place of the errors {whose}: the share of published encoders that err more",
                (Column("part", False), Column("error, %"), Column("err more"), Column("n, encoders")),
                tuple(places),
            )
        )
        errors = ("approx_usability", "probe_gen", "enc_gen", "agg_risk")
        near = [
            (r["encoder"], points(r["distance"]).lstrip("+"), *(percent(r[name]) for name in errors))
            for r in found.place.nearest.iter_rows(named=True)
        ]
        if near:
            blocks.append(
                Table(
                    f"The {len(near)} published encoders whose parts are nearest, in percent",
                    (
                        Column("encoder", False), Column("distance, points"),
                        *(Column(charts.part_label(name)) for name in errors),
                    ),
                    tuple(near),
                )
            )  # fmt: skip
    return Section(f"{key}-published", title, tuple(blocks))


# --- what they share


def _curve(sizes: Sequence[tuple[str, int, int, int, Mapping[str, Estimate]]], quantity: str) -> charts.Line:
    found = [estimates[quantity] for *_, estimates in sizes]
    return charts.Line(
        charts.part_label(quantity),
        tuple(float(n) for _, n, *_ in sizes),
        tuple(e.estimate for e in found),
        tuple(e.low for e in found),
        tuple(e.high for e in found),
        colour=charts.COLOURS[quantity],
    )


def _with_ends(e: Estimate) -> str:
    """An estimate with its interval, for a narrow column."""
    return f"{percent(e.estimate)} ({interval(e.low, e.high, 1)}) {mark(e.grade)}".rstrip()


def _penalty_label(name: str, tuned: dict[str, Penalty]) -> str:
    if len(tuned) == 1:
        return "of all held-out fits"
    risk = name.removeprefix("tuned_")
    return (
        QUANTITIES[risk].label if risk in QUANTITIES else QUANTITIES.get(f"risk_{risk}", QUANTITIES["agg_risk"]).label
    )


def _colours(n: int) -> list[str]:
    inks = [charts.INK, "#37848f", "#b9770e", "#7a8594"]
    return [inks[i % len(inks)] for i in range(n)]


def _part(value: float, whole: Budget) -> str:
    return share(value / whole.total) if value > 0 else "0 %"


def _draws(result: Decomposition) -> Table:
    """How much of few-shot variances comes from the draw of labels."""
    rows = []
    for shot in result.shots:
        for name in _CURVES:
            v = shot.variances.get(name)
            if v is not None and v.total > 0:
                rows.append((shot.size.title, charts.part_label(name), percent(math.sqrt(v.total)),
                             share(max(0.0, v.total - v.rows) / v.total), share(min(1.0, v.rows / v.total)),
                             count(shot.draws), count(shot.judged_test)))  # fmt: skip
    return Table(
        "Shares of the variance at few labels",
        (
            Column("size", False), Column("part", False), Column("standard error, points"), Column("draw of labels"),
            Column("judged rows"), Column("draws"), Column("n, test rows"),
        ),
        tuple(rows),
    )  # fmt: skip
