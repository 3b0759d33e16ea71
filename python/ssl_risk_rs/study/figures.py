"""Figures of a study: the drawings of its page, and files of them, readable in grey."""

from functools import partial
from pathlib import Path

import numpy as np

from ssl_risk_rs.report import charts, files
from ssl_risk_rs.report.numbers import points
from ssl_risk_rs.report.page import Figure
from ssl_risk_rs.study.effects import Effect, Status
from ssl_risk_rs.study.linear import METHODS, Model, confounders_of, model_of
from ssl_risk_rs.study.study import Study

__all__ = ["effect_figure", "figures_of", "front_figures", "label_figure", "partial_figures", "safe", "write_figures"]

#: effects that one figure holds at most
_SHOWN = 20
#: p-value after Holm's correction below which an effect is drawn filled
_STAYS = 0.05


def write_figures(study: Study, folder: str | Path) -> list[Path]:
    """Write the figures that the study has data for, as SVG and PNG, and return the paths of both.

    `effects_COMPONENT` (strongest effects with intervals), `partial_CHOICE_COMPONENT` (partial residuals of numeric
    choices that stay after Holm's correction), `front_A_B` (fronts), `labels` (measured errors against the law).

    Raises
    ------
    ParameterError if a package of the extra `report` is not installed.
    """
    drawn = files.write_figures(figures_of(study), Path(folder))
    return [path.with_suffix(kind) for path in drawn.values() for kind in (".png", ".svg")]


def figures_of(study: Study) -> list[Figure]:
    """Every figure that the study has data for."""
    found = [effect_figure(study, component) for component in study.table.components]
    return [*(f for f in found if f is not None), *partial_figures(study), *front_figures(study), *label_figure(study)]


def effect_figure(study: Study, component: str) -> Figure | None:
    """The strongest effects on a component by the linear model; None where there is none."""
    effects = _strongest(study, component)
    if not effects:
        return None
    rows = [charts.Dot(_name(e), e.effect, e.low, e.high, hollow=not e.p_adjusted < _STAYS) for e in effects]
    n = study.table.frame[component].drop_nulls().len()
    said = "; ".join(f"{_name(e)} {points(e.effect)}" for e in effects[:5])
    return Figure(
        f"effects_{safe(component)}",
        f"Effects on {component} by the linear model, {n} encoders",
        f"Effects in points with intervals, the smallest p first; filled where p is below {_STAYS:g} after Holm's "
        f"correction. The first are {said}.",
        lambda width: charts.dots(rows, width, title=f"effect on {component}, points", at=0.0),
        tuple(row.label for row in rows),
    )


def partial_figures(study: Study) -> list[Figure]:
    """Partial residual plots of the numeric choices that stay after Holm's correction."""
    found = []
    for e in study.effects:
        if e.method != _method(study) or e.reference or not e.p_adjusted < _STAYS:
            continue
        choice = next(c for c in study.table.choices if c.name == e.choice)
        held = confounders_of(choice, study.table, study.settings.confounders)
        model = model_of(study.table, choice, held, e.component)
        if isinstance(model, Model):
            found.append(_partial(study, model, e))
    return found


#: points of a front that are named where they stand; more are numbered
_NAMED = 4


def front_figures(study: Study) -> list[Figure]:
    """Both risks of every encoder, those named that no other beats in both."""
    found = []
    for front in study.fronts:
        rows = study.table.frame.drop_nulls([front.first, front.second])
        encoders = [str(name) for name in rows["encoder"].to_list()]
        first, second = rows[front.first].to_list(), rows[front.second].to_list()
        there = {m.encoder for m in front.members if m.on_front}
        named = sorted((i for i, name in enumerate(encoders) if name in there), key=lambda i: (first[i], second[i]))
        on_front = [encoders[i] for i in named]
        shown = list(encoders)
        if len(named) > _NAMED:  # names would lie on each other
            on_front = [f"{place} {name}" for place, name in enumerate(on_front, 1)]
            for place, i in enumerate(named, 1):
                shown[i] = str(place)
        values = [(100 * a, 100 * b, name) for a, b, name in zip(first, second, shown, strict=True)]
        draw = partial(
            charts.scatter, values, x_title=f"{front.first}, %", y_title=f"{front.second}, %", named=named
        )  # fmt: skip
        found.append(
            Figure(
                f"front_{safe(front.first)}_{safe(front.second)}",
                f"{front.first} and {front.second} of {rows.height} encoders",
                "Each point is an encoder; those that no other beats in both are filled and "
                f"{'numbered' if len(named) > _NAMED else 'named'}: {', '.join(on_front)}.",
                draw,
                (f"{front.first}, %", f"{front.second}, %"),
            )
        )
    return found


def label_figure(study: Study) -> list[Figure]:
    """Measured errors against those of the law of label counts."""
    if study.laws is None:
        return []
    from ssl_risk_rs.study.labels import label_points

    settings = study.settings
    shots = {c: n for c, n in settings.shots if c in study.table.frame.columns}
    found = label_points(study.table.frame, shots=shots, n_full=settings.n_full)
    predicted = 100 * study.laws.logit[0].predict(found)
    measured = 100 * found.error
    rows = [(float(x), float(y), name) for x, y, name in zip(predicted, measured, found.encoder, strict=True)]
    marks = [f"{n:,.0f} labels" for n in found.n_labels]
    ends = float(measured.min()), float(measured.max())
    draw = partial(
        charts.scatter, rows, x_title="error by the law, %", y_title="measured error, %", marks=marks,
        line=[(ends[0], ends[0]), (ends[1], ends[1])],
    )  # fmt: skip
    return [
        Figure(
            "labels",
            f"Law of label counts, {len(set(found.encoder))} encoders",
            "Measured errors over those of the law, a mark for each number of labels; on the line both are equal.",
            draw,
            ("error by the law, %", "measured error, %", *dict.fromkeys(marks)),
        )
    ]


def _method(study: Study) -> str:
    return METHODS["cluster"] if study.table.cluster else METHODS["HC3"]


def _strongest(study: Study, component: str) -> list[Effect]:
    found = [
        e for e in study.effects
        if e.component == component and e.method == _method(study) and e.status is Status.ESTIMATED and e.p == e.p
    ]  # fmt: skip
    return sorted(found, key=lambda e: e.p)[:_SHOWN]


def _name(e: Effect) -> str:
    return f"{e.choice}: {e.level} vs {e.reference}" if e.reference else f"{e.choice} {e.level}"


def _partial(study: Study, model: Model, e: Effect) -> Figure:
    y = study.table.frame[e.component].to_numpy().astype(np.float64)[model.rows]
    fit = model.factor.fit(y)
    x = model.examined[0].values
    left = 100 * model.partial_residuals(fit)
    rows = [(float(a), float(b), name) for a, b, name in zip(x, left, model.encoders, strict=True)]
    slope = 100 * float(fit.coefficients[1])
    line = [(float(end), slope * float(end)) for end in (x.min(), x.max())]
    scale = "log " if model.choice.kind == "log" else ""
    x_title = f"{scale}{model.choice.name}, less its mean"
    named = [model.encoders.index(e.influential)] if e.influential in model.encoders else []
    y_title = f"{e.component} given the confounders, points"
    draw = partial(charts.scatter, rows, x_title=x_title, y_title=y_title, named=named, line=line)
    moved = f" The encoder that moves it most, {e.influential}, is named." if named else ""
    return Figure(
        f"partial_{safe(e.choice)}_{safe(e.component)}",
        f"Partial residuals of {e.choice} and {e.component}, {len(x)} encoders",
        f"What the confounders leave of {e.component} over {x_title}, with a slope of {points(slope / 100)} points."
        + moved,
        draw,
        (x_title, y_title),
    )


def safe(name: str) -> str:
    """A risk's name as part of a file name or address."""
    return name.replace("%", "pct").replace("@", "_")
