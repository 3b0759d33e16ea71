"""Figures of a study, as PNG and SVG, readable in grey."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ssl_risk_rs._files import publish
from ssl_risk_rs.study._extra import require
from ssl_risk_rs.study.effects import Status
from ssl_risk_rs.study.linear import METHODS, Model, confounders_of, model_of
from ssl_risk_rs.study.study import Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["write_figures"]

#: effects that one figure holds at most
_SHOWN = 20


def write_figures(study: Study, folder: str | Path, formats: tuple[str, ...] = ("png", "svg")) -> list[Path]:
    """Write the figures that the study has data for, and return their paths.

    `effects_COMPONENT` (strongest effects with intervals), `partial_CHOICE_COMPONENT` (partial residuals of numeric
    choices that stay after Holm's correction), `front_A_B` (fronts), `labels` (measured errors against the law).

    Raises
    ------
    ParameterError if matplotlib is not installed.
    """
    require("matplotlib").use("Agg")
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    drawings: dict[str, Callable[[Figure], object]] = {}
    for component in study.table.components:
        if _strongest(study, component):
            drawings[f"effects_{_safe(component)}"] = partial(_effects, study, component)
    drawings |= _partials(study)
    for front in study.fronts:
        name = f"front_{_safe(front.first)}_{_safe(front.second)}"
        drawings[name] = partial(_front, study, (front.first, front.second))
    if study.laws is not None:
        drawings["labels"] = partial(_labels, study)
    paths = []
    with require("matplotlib").rc_context({"svg.hashsalt": "study", "svg.fonttype": "none"}):
        for name, draw in drawings.items():
            figure = require("matplotlib.figure").Figure(figsize=(7, 5), layout="constrained")
            draw(figure)
            for kind in formats:
                path = target / f"{name}.{kind}"
                publish(path, partial(figure.savefig, format=kind, dpi=120, metadata=_dateless(kind)))
                paths.append(path)
    return paths


def _dateless(kind: str) -> dict[str, str | None]:
    """No date in the file: equal studies give equal files."""
    return {"Date": None} if kind == "svg" else {}


def _strongest(study: Study, component: str) -> list[tuple[str, float, float, float, bool]]:
    method = METHODS["cluster"] if study.table.cluster else METHODS["HC3"]
    found = [
        e for e in study.effects
        if e.component == component and e.method == method and e.status is Status.ESTIMATED and e.p == e.p
    ]  # fmt: skip
    found.sort(key=lambda e: e.p)
    return [
        (
            f"{e.choice}: {e.level} vs {e.reference}" if e.reference else f"{e.choice} {e.level}",
            100 * e.effect, 100 * e.low, 100 * e.high, e.p_adjusted < 0.05,
        )
        for e in found[:_SHOWN]
    ]  # fmt: skip


def _effects(study: Study, component: str, figure: "Figure") -> None:
    rows = _strongest(study, component)[::-1]
    axes = figure.subplots()
    for place, (_, effect, low, high, stays) in enumerate(rows):
        axes.plot([low, high], [place, place], color="black", linewidth=1)
        axes.plot(effect, place, "o", color="black", markerfacecolor="black" if stays else "white")
    axes.axvline(0, color="grey", linewidth=0.8)
    axes.set_yticks(range(len(rows)), [name for name, *_ in rows], fontsize=7)
    axes.set_xlabel(f"effect on {component}, points (filled: below 0.05 after Holm)")
    figure.suptitle(f"Linear model, {study.table.frame[component].drop_nulls().len()} encoders", fontsize=9)


def _partials(study: Study) -> dict[str, Callable[["Figure"], object]]:
    """Partial residual plots of the numeric choices that stay after Holm's correction."""
    method = METHODS["cluster"] if study.table.cluster else METHODS["HC3"]
    drawings: dict[str, Callable[[Figure], object]] = {}
    for e in study.effects:
        if e.method != method or e.reference or not e.p_adjusted < 0.05:
            continue
        choice = next(c for c in study.table.choices if c.name == e.choice)
        held = confounders_of(choice, study.table.frame.columns, study.settings.confounders)
        model = model_of(study.table, choice, held, e.component)
        if isinstance(model, Model):
            drawings[f"partial_{_safe(e.choice)}_{_safe(e.component)}"] = partial(
                _partial, study, model, e.component, e.influential
            )
    return drawings


def _partial(study: Study, model: Model, component: str, influential: str, figure: "Figure") -> None:
    y = study.table.frame[component].to_numpy().astype(np.float64)[model.rows]
    fit = model.factor.fit(y)
    x = model.examined[0].values
    left = 100 * model.partial_residuals(fit)
    axes: Axes = figure.subplots()
    axes.plot(x, left, "o", color="black", markersize=3)
    line = np.array([x.min(), x.max()])
    axes.plot(line, 100 * fit.coefficients[1] * line, color="black", linewidth=1)
    if influential in model.encoders:
        i = model.encoders.index(influential)
        axes.annotate(influential, (x[i], left[i]), fontsize=7)
    scale = "log " if model.choice.kind == "log" else ""
    axes.set_xlabel(f"{scale}{model.choice.name}, less its mean")
    axes.set_ylabel(f"{component} given the confounders, points")
    figure.suptitle(f"Partial residuals, {len(x)} encoders", fontsize=9)


def _front(study: Study, pair: tuple[str, str], figure: "Figure") -> None:
    rows = study.table.frame.drop_nulls(list(pair))
    axes: Axes = figure.subplots()
    axes.plot(100 * rows[pair[0]].to_numpy(), 100 * rows[pair[1]].to_numpy(), ".", color="grey", markersize=4)
    members = next(f for f in study.fronts if (f.first, f.second) == pair).members
    for m in (m for m in members if m.on_front):
        axes.plot(100 * m.first, 100 * m.second, "o", color="black", markersize=4)
        axes.annotate(m.encoder, (100 * m.first, 100 * m.second), fontsize=6)
    axes.set_xlabel(f"{pair[0]}, %")
    axes.set_ylabel(f"{pair[1]}, %")
    figure.suptitle(f"{rows.height} encoders; black: no other is better in both", fontsize=9)


def _labels(study: Study, figure: "Figure") -> None:
    from ssl_risk_rs.study.labels import label_points

    assert study.laws is not None
    settings = study.settings
    shots = {c: n for c, n in settings.shots if c in study.table.frame.columns}
    points = label_points(study.table.frame, shots=shots, n_full=settings.n_full)
    predicted = study.laws.logit[0].predict(points)
    axes: Axes = figure.subplots()
    for n, mark in zip(np.unique(points.n_labels), "osv^Dx+*", strict=False):
        here = points.n_labels == n
        axes.plot(
            100 * predicted[here], 100 * points.error[here], mark, color="black", markerfacecolor="none", markersize=4,
            label=f"{n:,.0f} labels",
        )  # fmt: skip
    ends = [100 * float(points.error.min()), 100 * float(points.error.max())]
    axes.plot(ends, ends, color="grey", linewidth=0.8)
    axes.set_xlabel("error by the law, %")
    axes.set_ylabel("measured error, %")
    axes.legend(fontsize=7)
    figure.suptitle(f"Law of label counts, {len(set(points.encoder))} encoders", fontsize=9)


def _safe(name: str) -> str:
    return name.replace("%", "pct").replace("@", "_")
