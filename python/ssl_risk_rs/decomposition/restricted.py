"""A finished decomposition on some of its judged rows: every number is made again, and nothing is fitted."""

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ssl_risk_rs.decomposition.intervals import find_bottleneck, quantify_by
from ssl_risk_rs.decomposition.metrics import measure_metrics
from ssl_risk_rs.errors import ParameterError
from ssl_risk_rs.results.estimate import Estimate
from ssl_risk_rs.results.metrics import METRICS, MetricEstimates
from ssl_risk_rs.results.quantities import QUANTITIES
from ssl_risk_rs.results.record import Floor
from ssl_risk_rs.results.run import Decomposition

__all__ = ["restricted"]


def restricted(d: Decomposition, train: np.ndarray, test: np.ndarray) -> Decomposition:
    """The decomposition judged on training rows `train` and test rows `test` alone (positions, ascending), as its
    control is; few-shot risks are left out. Where all test rows stay, what they alone judge stays as it is. How much
    probes vary is told by the rows that they were fitted on. R_AF a decade above the floor was counted on all training
    rows only: on some of them it is not known, and the largest part is found with the same rise.

    Raises
    ------
    ParameterError for a run that holds no judged rows.
    """
    if d.judgements is None:
        raise ParameterError(f"{d.name} holds no judged rows: make it again")
    judged = d.judgements.take(train, test)
    found = quantify_by(judged, d.method, d.sizes, fitted=d.judgements)
    asked = [METRICS[m.metric] for m in d.metrics]
    measured, _ = measure_metrics(judged, asked, d.method, d.sizes, fitted=d.judgements)
    floor, risen = d.floor, d.floor
    if len(train) < len(d.judgements.train_labels):
        floor = replace(d.floor, risk_above=math.nan, sup_above=math.nan)
        risen = _risen(d, found.estimates)
    whole_test = len(test) == len(d.judgements.test_labels)
    before = {m.metric: m.estimates for m in d.metrics}
    return replace(
        d,
        judgements=judged,
        estimates=_kept(found.estimates, d.estimates if whole_test else {}),
        covariance=found.covariance,
        covariance_of=found.covariance_of,
        beta=found.beta,
        probe_variance=found.variation.test,
        probe_variation=found.variation,
        floor=floor,
        bottleneck=find_bottleneck(found, risen, seed=d.method.seed, order=d.method.order),
        metrics=tuple(
            MetricEstimates(m.metric, _kept(m.estimates, before[m.metric] if whole_test else {}), m.notes)
            for m in measured
        ),
        control=None if d.control is None else restricted(d.control, train, test),
        shots=(),
        label_curve=None,
    )


def _risen(d: Decomposition, found: Mapping[str, Estimate]) -> Floor:
    """The floor with training errors as far above those on these rows, one decade up, as they are on all rows."""

    def above(risk: str, of_all: float) -> float:
        return of_all + found[risk].estimate - d.estimates[risk].estimate if risk in found else math.nan

    floor = d.floor
    return replace(floor, risk_above=above("risk_af", floor.risk_above), sup_above=above("risk_sup", floor.sup_above))


def _kept(found: Mapping[str, Estimate], before: Mapping[str, Estimate]) -> dict[str, Estimate]:
    """What was found, but for what test rows alone judge where it was known before: its interval stays as it is."""
    return {name: before.get(name, e) if _of_test_rows(name) else e for name, e in found.items()}


def _of_test_rows(quantity: str) -> bool:
    return all(QUANTITIES[risk].rows == "test" for risk in QUANTITIES[quantity].weights)
