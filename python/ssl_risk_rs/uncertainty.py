"""Intervals of risks and components from the outcomes of the judged rows.

The covariance of the risks is closed-form and stratified (`_core.risk_covariance`); components are linear
in the risks. Normal intervals with a guard for few rows, Wilson intervals for risks: percentile intervals
of the bootstrap cover 85 % in the worst case. DESIGN: docs/decomposition.md, "intervals".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from ssl_risk_rs import _core

#: order of risk vectors
RISKS = ("risk_sup", "risk_af", "risk_as", "risk_cs", "risk_us")

#: component → coefficients on RISKS; `enc_gen` = `enc_gen_equal_labels` + `label_count`
COMPONENTS: dict[str, tuple[int, int, int, int, int]] = {
    "approx": (1, 0, 0, 0, 0),
    "usability": (-1, 1, 0, 0, 0),
    "approx_usability": (0, 1, 0, 0, 0),
    "probe_gen": (0, -1, 1, 0, 0),
    "enc_gen": (0, 0, -1, 0, 1),
    "enc_gen_equal_labels": (0, 0, -1, 1, 0),
    "label_count": (0, 0, 0, -1, 1),
    "agg_risk": (0, 0, 0, 0, 1),
}

#: with fewer rows that two probes judge differently, the normal approximation is rough
FEW_ROWS = 10


@dataclass(frozen=True, slots=True)
class Estimate:
    """A quantity with its interval; risks and components in [−1, 1], never percent.

    `n` is the number of rows it is judged on; `conservative` says that few rows carry it.
    """

    quantity: str
    estimate: float
    se: float
    low: float
    high: float
    n: int
    conservative: bool = False


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """Estimates of every risk and component, and what they rest on."""

    estimates: dict[str, Estimate]
    covariance: np.ndarray
    beta: float
    bottleneck: str
    bottleneck_probability: float


def wilson(p: float, se: float, n: int, z: float) -> tuple[float, float]:
    """Wilson interval with n_eff = p(1 − p)/se² rows (n where se is 0)."""
    n_eff = p * (1 - p) / se**2 if se > 0 else float(n)
    centre = (p + z * z / (2 * n_eff)) / (1 + z * z / n_eff)
    half = z / (1 + z * z / n_eff) * np.sqrt(max(p * (1 - p), 0) / n_eff + z * z / (4 * n_eff**2))
    # the interval contains p; at p = 0 or 1 rounding would leave it out by an ulp
    return min(p, max(0.0, float(centre - half))), max(p, min(1.0, float(centre + half)))


def quantify(
    outcomes: Mapping[str, np.ndarray],
    *,
    n_subsets: int,
    supervised: bool,
    control_variate: bool,
    confidence: float = 0.95,
    random_counts: bool = False,
    n_resamples: int = 2000,
    seed: int = 0,
) -> Uncertainty:
    """Estimate every risk and component with its interval.

    Parameters
    ----------
    outcomes : mapping of arrays
        `train` (n,) uint8: bit 0 R_ΦF, bit 1 R_AF, bit 2 full fit at the tuned penalty, bit 3 R_AS;
        `train_labels` (n,) uint32; `in_subset` (n,) bool; `test` (n_te,) uint8: bit 0 R_US, bits 1 … m
        the complement probes; `test_labels` (n_te,) uint32.
    n_subsets : int
        m, between 1 and 3.
    supervised : bool
        Whether bit 0 of `train` means something; without it, `approx_usability` stands for two rows.
    control_variate : bool
        Correct R_AS by the full fit's errors on the subset rows.
    confidence : float in (0, 1)
    random_counts : bool
        Class counts are random, not fixed: adds the between-class variance.
    n_resamples, seed : int
        Bootstrap for the probability that the largest component is the largest.

    Raises
    ------
    ShapeError, ParameterError
    """
    closed: dict[str, Any] = _core.risk_covariance(dict(outcomes), n_subsets=n_subsets, control_variate=control_variate)
    covariance = closed["covariance"] + (closed["between"] if random_counts else 0)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    train, test, in_subset = outcomes["train"], outcomes["test"], outcomes["in_subset"]
    n_train, n_test, n_sub = len(train), len(test), int(in_subset.sum())
    rows = {"risk_sup": n_train, "risk_af": n_train, "risk_as": n_sub, "risk_cs": n_test, "risk_us": n_test}
    errors = {
        "risk_sup": int((train & 1).sum()),
        "risk_af": int((train >> 1 & 1).sum()),
        "risk_as": int((train[in_subset] >> 3 & 1).sum()),
        "risk_cs": int((test >> 1 & 1).sum()),
        "risk_us": int((test & 1).sum()),
    }
    estimates: dict[str, Estimate] = {}
    for i, name in enumerate(RISKS):
        if name == "risk_sup" and not supervised:
            continue
        p = float(closed["risks"][i])
        se = float(np.sqrt(max(covariance[i, i], 0.0)))
        n = rows[name]
        low, high = wilson(min(max(p, 0.0), 1.0), se, n, z)
        estimates[name] = Estimate(name, p, se, low, high, n, min(errors[name], n - errors[name]) < FEW_ROWS)
    guards = {
        "usability": 1 / n_train**2,
        "probe_gen": 1 / n_sub**2,
        "enc_gen": 1 / n_sub**2 + 1 / n_test**2,
        "enc_gen_equal_labels": 1 / n_sub**2 + 1 / n_test**2,
        "label_count": 1 / (n_subsets * n_test) ** 2,
    }
    same_as = {"approx": "risk_sup", "approx_usability": "risk_af", "agg_risk": "risk_us"}
    discordant = {
        "usability": int(((train ^ train >> 1) & 1).sum()),
        "probe_gen": errors["risk_as"],
        "enc_gen": min(errors["risk_as"], errors["risk_us"]),
        "enc_gen_equal_labels": min(errors["risk_as"], errors["risk_cs"]),
        "label_count": int(((test ^ test >> 1) & 1).sum()),
    }
    for name in components(supervised=supervised, detail=True):
        if name in same_as:
            e = estimates[same_as[name]]
            estimates[name] = Estimate(name, e.estimate, e.se, e.low, e.high, e.n, e.conservative)
            continue
        c = np.array(COMPONENTS[name], float)
        value = float(c @ closed["risks"])
        se = float(np.sqrt(max(c @ covariance @ c, 0.0)))
        half = z * float(np.sqrt(se**2 + guards[name]))
        n = n_train if name == "usability" else n_sub if name == "probe_gen" else n_test
        few = discordant[name] < FEW_ROWS
        estimates[name] = Estimate(name, value, se, value - half, value + half, n, few)
    draws = _core.bootstrap_risks(
        dict(outcomes),
        n_subsets=n_subsets,
        control_variate=control_variate,
        n_resamples=n_resamples,
        seed=seed,
    )
    names = components(supervised=supervised)
    values = draws @ np.array([COMPONENTS[name] for name in names], float).T
    bottleneck = max(names, key=lambda name: estimates[name].estimate)
    wins = float((values.argmax(1) == names.index(bottleneck)).mean())
    return Uncertainty(estimates, covariance, float(closed["beta"]), bottleneck, wins)


def components(*, supervised: bool, detail: bool = False) -> list[str]:
    """Names of the components that sum to the aggregated risk; with `detail`, those reported under them."""
    names = [*(("approx", "usability") if supervised else ("approx_usability",)), "probe_gen", "enc_gen"]
    return [*names, "enc_gen_equal_labels", "label_count", "agg_risk"] if detail else names
