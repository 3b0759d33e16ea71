"""One decomposition for each probe that is asked for; what is finished is kept when a later one fails."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ssl_risk_rs.decomposition.decomposing import decompose_task
from ssl_risk_rs.decomposition.settings import Settings
from ssl_risk_rs.decomposition.task import Task
from ssl_risk_rs.errors import SslRiskError
from ssl_risk_rs.events import Report
from ssl_risk_rs.probes.features import Features
from ssl_risk_rs.results.run import Decomposition

__all__ = ["Finished", "decompose_each"]


@dataclass(frozen=True, slots=True)
class Finished:
    """Decompositions in the order of the probes, and why one is missing."""

    decompositions: tuple[Decomposition, ...]
    failure: SslRiskError | None = None


def decompose_each(
    task: Task,
    *,
    probes: Sequence[str],
    fields: Mapping[str, Any],
    twin: Features | None,
    control: Features | None,
    name: str,
    report: Report | None,
) -> Finished:
    """Decompose with each probe; `fields` are those of `Settings` but the probe.

    Raises
    ------
    What the first probe raises; a failure of a later one is handed over with what was finished.
    """
    every = [Settings(**{**fields, "probe": probe}) for probe in probes]
    for settings in every:
        settings.validate()
    found: list[Decomposition] = []
    for settings in every:
        try:
            found.append(decompose_task(task, twin=twin, control=control, name=name, settings=settings, report=report))
        except SslRiskError as error:
            if not found:
                raise
            return Finished(tuple(found), error)
    return Finished(tuple(found))
