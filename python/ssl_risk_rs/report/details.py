"""What belongs to one decomposition below its verdict: labels, classes, groups, penalties, uncertainty, neighbours.

Each function gives its section, or says why there is none and which command adds it.
"""

import math
from collections.abc import Mapping, Sequence

from ssl_risk_rs.report import charts
from ssl_risk_rs.report.breakdown import Budget, Part, budget, by_class, by_group
from ssl_risk_rs.report.numbers import count, interval, percent, points, share
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

__all__ = ["classes", "groups", "labels", "published", "tuning", "uncertainty"]

#: classes or groups that a drawing shows, and a table lists
_DRAWN, _LISTED = 25, 50
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


def classes(run: Run, result: Decomposition, key: str) -> Section | Missing:
    """Errors and components of each class."""
    title = "By class"
    if not result.predicts_classes:
        return Missing(f"{key}-classes", title, _NO_CLASSES, None)
    if result.judgements is None:
        return Missing(f"{key}-classes", title, _NO_ROWS, _again(run))
    parts = by_class(result.judgements, result.method.confidence, result.method.order)
    total = result.estimate("agg_risk")
    names = list(parts[0].components)
    rows = [
        (p.name, percent(p.error), interval(p.low, p.high), *(percent(p.components[n]) for n in names), count(p.n_test),
         count(p.n_train), count(p.n_held))
        for p in parts[:_LISTED]
    ]  # fmt: skip
    table = Table(
        f"Error and its parts in percent, by class; the shortest intervals first{_of(len(parts), _LISTED, 'classes')}",
        (
            Column("class", False), Column("error"), Column(f"{100 * result.method.confidence:g} % interval"),
            *(Column(charts.part_label(n)) for n in names), Column("n, test"), Column("n, train"),
            Column("n, held out"),
        ),
        tuple(rows),
        notes=(
            f"The interval is Wilson's, for {'groups' if result.sizes.groups_test else 'independent rows'}. Parts of a "
            "class are means over its own rows, without the "
            "correction that the whole has (the errors of the full fit on held-out rows), so that their mean is not "
            "the whole, and they differ from those of `explain`, which have it: by points where few rows are held out.",
        ),
    )  # fmt: skip
    figure = _parts_figure(f"{key}-classes", f"Error of {name_of(run, result)} by class", parts, total, "classes")
    return Section(f"{key}-classes", title, (Sentences(_spread(parts, total, "class")), figure, table))


def groups(run: Run, result: Decomposition, key: str) -> Section | Missing:
    """The error on each test group."""
    title = "By group"
    judged = result.judgements
    if not result.predicts_classes:
        return Missing(f"{key}-groups", title, _NO_CLASSES, None)
    if judged is None:
        return Missing(f"{key}-groups", title, _NO_ROWS, _again(run))
    parts = by_group(judged, result.method.confidence)
    if not parts:
        return Missing(
            f"{key}-groups", title, "Rows have no groups (patients, slides, scenes) in this run.",
            f"{decomposed_again(run)} --group COLUMN",
        )  # fmt: skip
    total = result.estimate("agg_risk")
    rows = [(p.name, percent(p.error), interval(p.low, p.high), count(p.n_test)) for p in parts[:_LISTED]]
    called = run.provenance.group or "group"
    table = Table(
        f"Error on each test group in percent; the shortest intervals first{_of(len(parts), _LISTED, 'groups')}",
        (Column(called, False), Column("error"), Column(f"{100 * result.method.confidence:g} % interval"),
         Column("n, test rows")),
        tuple(rows),
        notes=("The interval is Wilson's, for independent rows: rows of one group may depend on each other.",),
    )  # fmt: skip
    figure = _parts_figure(f"{key}-groups", f"Error of {name_of(run, result)} by group", parts, total, "groups")
    return Section(f"{key}-groups", title, (Sentences(_spread(parts, total, "group")), figure, table))


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
    found = [b for b in every if b.total > 0]
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

_NO_CLASSES = "The target is numbers or labels, whose rows have a loss and are neither right nor wrong."
_NO_ROWS = "The record holds no judged rows, because an early version wrote it."


def _again(run: Run) -> str:
    return run.provenance.command or decomposed_again(run)


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


def _of(n: int, shown: int, what: str) -> str:
    """What is left out of a long table."""
    return f" ({shown} of {n:,} {what}; the others have longer intervals)" if n > shown else ""


def _spread(parts: Sequence[Part], total: float, what: str) -> tuple[str, ...]:
    """Which parts stand out from the whole."""
    above = [p.name for p in sorted(parts, key=lambda p: -p.error) if p.low > total]
    below = [p.name for p in sorted(parts, key=lambda p: p.error) if p.high < total]
    many = "groups" if what == "group" else "classes"
    said = [
        f"{len(above)} of {len(parts)} {many} lie above the whole's {percent(total)} % with their whole interval, and "
        f"{len(below)} below it."
    ]
    if above:
        more = f" and {len(above) - 5} more" if len(above) > 5 else ""
        said.append(f"The highest are {', '.join(above[:5])}{more}.")
    return tuple(said)


def _parts_figure(key: str, title: str, parts: Sequence[Part], total: float, what: str) -> Figure:
    ordered = sorted(parts, key=lambda p: (-p.error, p.name))
    shown = sorted(parts[:_DRAWN], key=lambda p: (-p.error, p.name)) if len(parts) > _DRAWN else ordered
    rows = [
        charts.Dot(p.name, p.error, p.low, p.high, charts.INK, hollow=not (p.low > total or p.high < total))
        for p in shown
    ]
    some = f", the {_DRAWN} of {len(parts)} with the shortest intervals" if len(parts) > _DRAWN else ""
    ends = f"{shown[0].name} {percent(shown[0].error)} and {shown[-1].name} {percent(shown[-1].error)}"
    return Figure(
        key,
        title,
        f"The error of each of the {what}{some}, the highest first, with its interval; the dashed line is the whole's "
        f"{percent(total)} %, and points whose interval does not hold it are filled. First and last: {ends} percent.",
        lambda width: charts.dots(rows, width, title="error, %", at=total),
        tuple(row.label for row in rows),
    )


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
