"""The error along training: a curve over epochs, and what each step between checkpoints changed."""

from ssl_risk_rs.report import charts
from ssl_risk_rs.report.numbers import count, interval, p_value, percent, points
from ssl_risk_rs.report.overview import mark_notes
from ssl_risk_rs.report.page import Column, Figure, Missing, Section, Sentences, Table
from ssl_risk_rs.report.sentences import mark
from ssl_risk_rs.results.compare import Comparison
from ssl_risk_rs.results.estimate import Estimate, Grade
from ssl_risk_rs.results.many import Curve, epoch_text
from ssl_risk_rs.results.run import Decomposition, common_components

__all__ = ["training"]


def training(curve: Curve | None, probe: str) -> Section | Missing:
    """Parts of the error over epochs."""
    title = "Along training"
    if curve is None:
        return Missing(
            "training", title, "The runs are not those of one curve whose epochs are known.",
            "ssl-risk-rs run -m 'ckpt:FOLDER/*.pth@ARCHITECTURE' -d DATA --out CURVE",
        )  # fmt: skip
    own = [entry.run.of_probe(probe) for entry in curve.entries]
    epochs = [entry.epoch or 0.0 for entry in curve.entries]
    parts = common_components(own)
    ends = f"{100 * own[0].method.confidence:g} % interval"
    lines = [_line(name, epochs, own) for name in (*parts, "agg_risk")]
    said = "; ".join(
        f"epoch {epoch_text(e)} {percent(d.estimate('agg_risk'))}" for e, d in zip(epochs, own, strict=True)
    )
    figure = Figure(
        f"training-{probe}",
        f"The error over {len(own)} checkpoints, {probe} probe",
        f"A line for the aggregated risk, with intervals, and one for each part, over epochs. Aggregated risk in "
        f"percent: {said}.",
        lambda width: charts.lines(lines, width, x_title="epoch", y_title="error, %", log_x=False),
        tuple(line.label for line in lines),
    )
    totals = [d.estimates["agg_risk"] for d in own]
    table = Table(
        f"Parts of the error in percent, by epoch, {probe} probe",
        (
            Column("epoch"), *(Column(charts.part_label(p)) for p in parts), Column("aggregated risk"), Column(ends),
            Column("n, test rows"),
        ),
        tuple(
            (epoch_text(epoch), *(percent(_of(d, p).estimate) for p in parts), percent(total.estimate),
             f"{interval(total.low, total.high)} {mark(total.grade)}".rstrip(), count(d.sizes.test))
            for epoch, d, total in zip(epochs, own, totals, strict=True)
        ),
        notes=tuple(mark_notes([total.grade for total in totals])),
    )  # fmt: skip
    steps = [step for step in curve.steps if step.probe == probe]
    return Section("training", title, (figure, table, *(_steps(steps, curve, parts) if steps else ())))


def _steps(steps: list[Comparison], curve: Curve, parts: tuple[str, ...]) -> tuple[Sentences, Table]:
    """What each checkpoint changed, paired by row."""
    epoch_of = {entry.name: entry.epoch or 0.0 for entry in curve.entries}
    rows, used, clear = [], list[Grade](), 0
    alpha = 1 - steps[0].confidence
    for step in steps:
        d = step.difference(step.encoders[1], "agg_risk")
        used += [] if d.identical else [d.grade]
        clear += d.p_holm is not None and d.p_holm < alpha
        there = {each.quantity for each in step.differences}
        rows.append(
            (
                " to ".join(epoch_text(epoch_of[name]) for name in step.encoders),
                points(d.difference),
                "equal on every row" if d.identical else f"{interval(d.low, d.high)} {mark(d.grade)}".rstrip(),
                "" if d.identical else p_value(d.p_holm),
                *(points(step.difference(step.encoders[1], p).difference if p in there else None) for p in parts),
                count(d.n),
            )
        )
    said = (
        f"{clear} of {len(steps)} steps from one checkpoint to the next change the aggregated risk by more than chance "
        f"(p below {alpha:.3g} after Holm's correction over all steps and components)."
    )
    table = Table(
        "What each step changed, in points, paired by row",
        (
            Column("epochs", False), Column("aggregated risk"), Column(f"{100 * steps[0].confidence:g} % interval"),
            Column("p"), *(Column(charts.part_label(p)) for p in parts), Column("n, rows"),
        ),
        tuple(rows),
        notes=tuple(mark_notes(used)),
    )  # fmt: skip
    return Sentences((said,)), table


def _of(d: Decomposition, name: str) -> Estimate:
    return d.estimates["risk_af" if name == "approx_usability" else name]


def _line(name: str, epochs: list[float], own: list[Decomposition]) -> charts.Line:
    """A part over epochs; the intervals of all would hide each other, so that the total has them alone."""
    found = [_of(d, name) for d in own]
    with_ends = found if name == "agg_risk" else []
    return charts.Line(
        charts.part_label(name),
        tuple(epochs),
        tuple(e.estimate for e in found),
        tuple(e.low for e in with_ends),
        tuple(e.high for e in with_ends),
        colour=charts.COLOURS[name],
    )
