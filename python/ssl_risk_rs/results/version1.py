"""Run folders of schema version 1, whose outcomes had no labels: numbers are read, judged rows are not."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ssl_risk_rs._notes import Note
from ssl_risk_rs.results._json import from_json
from ssl_risk_rs.results.estimate import Estimate, Grade
from ssl_risk_rs.results.provenance import BankFacts, Host, Provenance
from ssl_risk_rs.results.quantities import QUANTITIES
from ssl_risk_rs.results.record import Bottleneck, Decomposition, FitRecord, Floor, Method, Penalty, Sizes

if TYPE_CHECKING:
    from ssl_risk_rs.results.run import Run

__all__ = ["read"]

_RISKS = ("risk_sup", "risk_af", "risk_as", "risk_cs", "risk_us")


def read(found: Mapping[str, Any], cls: "type[Run]") -> "Run":
    """The run in a document of version 1."""
    banks = {role: from_json(BankFacts, facts) for role, facts in found.get("banks", {}).items()}
    provenance = from_json(Provenance, found, banks=banks, notes=tuple(_text(note) for note in found["notes"]))
    return cls(
        tuple(_decomposition(d) for d in found["decompositions"]),
        provenance,
        created=found["created"],
        versions=found["versions"],
        host=from_json(Host, found["host"]),
        arguments=tuple(found["arguments"]),
    )


def _decomposition(found: Mapping[str, Any]) -> Decomposition:
    settings, sizes = found["settings"], found["sizes"]
    estimates = {name: _estimate(e) for name, e in found["estimates"].items() if name in QUANTITIES}
    control = found.get("control")
    covariance = np.array(found["risk_covariance"], float)
    return Decomposition(
        name=found["name"],
        method=Method(
            probe=settings["probe"],
            protocol=settings["protocol"],
            scaling="none" if settings["protocol"] == "paper" else settings["scaling"],
            seed=settings["seed"],
            tol=settings["tol"],
            tuning_tol=max(settings["tol"], 1e-3),
            max_passes=settings["max_passes"],
            confidence=settings["confidence"],
            random_counts=settings["random_counts"],
            n_threads=settings["n_threads"],
        ),
        sizes=Sizes(
            train=sizes["train"],
            test=sizes["test"],
            classes=sizes["classes"],
            features=0,
            subsets=sizes["subsets"],
            subset_rows=(sizes["subset"],) * sizes["subsets"],
            folds=sizes.get("folds", 0),
            folds_judged=sizes.get("folds_judged", 0),
        ),
        penalties={name: Penalty(float(a), float(a)) for name, a in found["alphas"].items() if name != "mean_variance"},
        estimates=estimates,
        covariance=covariance,
        covariance_of=_RISKS,
        beta=found["control_variate_beta"],
        probe_variance=math.nan,
        bottleneck=Bottleneck(found["bottleneck"], found["bottleneck_probability"]),
        floor=Floor(risk_above=found["risk_af_one_decade_above_the_floor"]),
        fits=tuple(from_json(FitRecord, fit) for fit in found["fits"]),
        notes=tuple(_text(note) for note in found["notes"]),
        seconds=found["seconds"],
        control=None if control is None else _decomposition(control),
    )


def _estimate(found: Mapping[str, Any]) -> Estimate:
    grade = Grade.FEW_ROWS if found["conservative"] else Grade.SOUND
    return from_json(Estimate, {**found, "df": math.inf, "grade": grade.value})


def _text(sentence: str) -> Note:
    return Note("text", {"text": sentence})
