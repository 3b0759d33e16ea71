"""Run folders of schema version 1 as those of version 2.

Their outcomes had no labels: numbers are read, judged rows are not.
"""

from collections.abc import Mapping
from typing import Any

from ssl_risk_rs._limits import MOST_PARTS
from ssl_risk_rs.results.quantities import QUANTITIES

__all__ = ["upgraded"]

_RISKS = ("risk_sup", "risk_af", "risk_as", "risk_cs", "risk_us")


def upgraded(found: Mapping[str, Any]) -> dict[str, Any]:
    """A document of version 2 with what a document of version 1 tells."""
    notes = [_text(note) for note in found["notes"]]
    return {**found, "notes": notes, "decompositions": [_decomposition(d) for d in found["decompositions"]]}


def _decomposition(found: Mapping[str, Any]) -> dict[str, Any]:
    settings, sizes, control = found["settings"], found["sizes"], found.get("control")
    paper = settings["protocol"] == "paper"
    if not 0 <= sizes["subsets"] <= MOST_PARTS:
        raise ValueError(f"{sizes['subsets']} held-out subsets are recorded")
    return {
        **found,
        "method": {
            **settings,
            "scaling": "none" if paper else settings["scaling"],
            "seed": 123 if paper else settings["seed"],
            "tuning_tol": max(settings["tol"], 1e-3),
        },
        "sizes": {
            "folds": 0,
            "folds_judged": 0,
            **sizes,
            "features": 0,
            "subset_rows": [sizes["subset"]] * sizes["subsets"],
        },
        "penalties": {
            name: {"value": float(a), "absolute": float(a)}
            for name, a in found["alphas"].items()
            if name != "mean_variance"
        },
        "estimates": {
            name: {**e, "df": None, "grade": "few_rows" if e["conservative"] else "sound"}
            for name, e in found["estimates"].items()
            if name in QUANTITIES
        },
        "covariance": found["risk_covariance"],
        "covariance_of": list(_RISKS),
        "beta": found["control_variate_beta"],
        "probe_variance": None,
        "bottleneck": {"quantity": found["bottleneck"], "probability": found["bottleneck_probability"]},
        "floor": {"risk_above": found["risk_af_one_decade_above_the_floor"]},
        "notes": [_text(note) for note in found["notes"]],
        "control": None if control is None else _decomposition(control),
    }


def _text(sentence: str) -> dict[str, Any]:
    return {"code": "text", "values": {"text": sentence}}
