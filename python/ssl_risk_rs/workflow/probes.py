"""One decomposition for each probe that is asked for; what is finished is kept when a later one fails."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

from ssl_risk_rs._notes import Note
from ssl_risk_rs.decomposition.decomposing import decompose_task
from ssl_risk_rs.decomposition.settings import Probe, Settings
from ssl_risk_rs.decomposition.task import Task
from ssl_risk_rs.errors import ParameterError, SslRiskError
from ssl_risk_rs.events import Report, within
from ssl_risk_rs.probes.features import Features
from ssl_risk_rs.probes.opened import Solvers
from ssl_risk_rs.results.metrics import parse_metrics
from ssl_risk_rs.results.run import Decomposition

__all__ = ["Finished", "decompose_each", "settings_of"]


@dataclass(frozen=True, slots=True)
class Finished:
    """Decompositions in the order of the probes, and why one is missing."""

    decompositions: tuple[Decomposition, ...]
    failure: SslRiskError | None = None


def settings_of(probes: Sequence[str], asked: Settings) -> list[tuple[Settings, tuple[Note, ...]]]:
    """The settings of each probe, as asked but for it, checked; with a note on metrics that it lacks and another has.

    Raises
    ------
    ParameterError for what cannot be asked for.
    """
    if not probes:
        raise ParameterError("no probe is named: logistic, ridge, or both")
    found: list[tuple[Settings, tuple[Note, ...]]] = []
    for probe in probes:
        metrics, notes = asked.metrics, tuple[Note, ...]()
        if probe == "ridge" and len(probes) > 1:
            every = parse_metrics(metrics)
            lacking = [metric.name for metric in every if metric.probabilities]
            if lacking:
                metrics = tuple(m.name for m in every if not m.probabilities)
                notes = (Note("metric_needs_probabilities", {"metrics": ", ".join(lacking)}),)
        found.append((replace(asked, probe=cast(Probe, probe), metrics=metrics), notes))
    return found


def decompose_each(
    task: Task,
    *,
    probes: Sequence[str],
    settings: Settings,
    twin: Features | None,
    control: Features | None,
    name: str,
    report: Report | None,
) -> Finished:
    """Decompose with each probe, as `settings` ask but for it.

    Raises
    ------
    What the first probe raises; a failure of a later one is handed over with what was finished.
    """
    every = settings_of(probes, settings)
    solvers = Solvers(keeps_sums=len(every) > 1)
    found: list[Decomposition] = []
    for of_probe, left_out in every:
        told = within(report, f"{of_probe.probe} probe") if len(every) > 1 else report
        try:
            done = decompose_task(
                task, twin=twin, control=control, name=name, settings=of_probe, report=told, solvers=solvers,
                overlap=found[0].sizes.overlap if found else None,  # rows are compared once for all probes
            )  # fmt: skip
            found.append(replace(done, notes=(*done.notes, *left_out)))
        except SslRiskError as error:
            if not found:
                raise
            return Finished(tuple(found), error)
    return Finished(tuple(found))
