"""Few-shot risks and their intervals from given draws, in loops over draws, rows and groups: DESIGN §2 decision 15.

Draws and the folds inside them are inputs. Every probe is judged on S_te and on J; e_j is a quantity of draw j, w_x the
weight of a row in it. Where the page leaves a choice:

- a unit is a row, or a whole group where there are groups; s_x² is then that of the group's part of the quantity;
- sets of units are J, the rest of S_tr (which has a part in R_AF, and in the class shares), and S_te; row scores are
  centred by class within the set and scaled as in INTERVALS.md §1b, the draw of class shares included where groups span
  classes;
- intervals are estimate ± t √(V + Σ 1/n²) over the row sets that a quantity is judged on (decision 7), risks in [0, 1].
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.stats

from .intervals import class_mix_scores, effective_groups
from .probes import Kind, Scaling, fit
from .strict import tune

#: and one decade above, where the strongest wins: beyond, predictions are those of class means
ALPHAS, DECADES = (10.0, 1.0, 1e-1, 1e-2, 1e-3, 1e-4), 1


@dataclass(frozen=True)
class Drawn:
    """What the probes of all draws got wrong: on J (m, |J|) and on S_te (m, M); the penalty of each draw."""

    wrong_j: np.ndarray
    wrong_te: np.ndarray
    alphas: list[float]


@dataclass(frozen=True)
class ReferenceShot:
    """A quantity: estimate, V and its parts, degrees of freedom, interval."""

    estimate: float
    between: float
    interaction: float
    rows: float
    variance: float
    df: float
    low: float
    high: float


def probes_of_draws(
    train_x: np.ndarray,
    train_y: np.ndarray,
    test_x: np.ndarray,
    test_y: np.ndarray,
    draws: list[np.ndarray],
    folds: list[np.ndarray],
    n_folds: int,
    judged: np.ndarray,
    *,
    probe: Kind,
    scaling: Scaling = "standardize",
) -> Drawn:
    """Tune inside each draw, fit all of its rows, judge.

    draws : positions of the training rows of each draw; folds : fold of each of these rows, n_folds for a row that
    tuning leaves out; judged : J.
    """
    k = int(train_y.max()) + 1
    wrong_j, wrong_te, alphas = [], [], []
    for rows, fold in zip(draws, folds, strict=True):
        x, y = np.asarray(train_x, np.float64)[rows], train_y[rows]
        alpha, *_ = tune(x, y, k, fold, n_folds, ALPHAS, probe=probe, scaling=scaling, decades=DECADES)
        fitted = fit(x, y, k, alpha, probe=probe, scaling=scaling)
        wrong_j.append(fitted.errors(train_x[judged], train_y[judged]) > 0)
        wrong_te.append(fitted.errors(test_x, test_y) > 0)
        alphas.append(alpha)
    return Drawn(np.stack(wrong_j), np.stack(wrong_te), alphas)


def shot_estimates(
    drawn: Drawn,
    train_y: np.ndarray,
    test_y: np.ndarray,
    judged: np.ndarray,
    af: np.ndarray,
    *,
    overlap: tuple[float, float | None] = (0.0, None),
    groups: tuple[np.ndarray, np.ndarray] | None = None,
    confidence: float = 0.95,
) -> dict[str, ReferenceShot]:
    """R_AS, R_US, probe and encoder generalization at one size.

    af : (N,) errors of the full run's floor fit on S_tr; overlap : ρ and the degrees of freedom of what pools add.
    """
    n, m_te = len(train_y), len(test_y)
    shares = {c: float(np.mean(train_y == c)) for c in np.unique(train_y)}
    of_judged = train_y[judged]
    w_j = np.array([shares[c] / np.sum(of_judged == c) for c in of_judged])
    w_te = np.full(m_te, 1 / m_te)
    rest = np.setdiff1d(np.arange(n), judged)
    train_units = np.arange(n) if groups is None else np.unique(groups[0], return_inverse=True)[1]
    test_units = np.arange(m_te) if groups is None else np.unique(groups[1], return_inverse=True)[1]
    mixed = groups is not None and any(
        len(np.unique(of[which == g])) > 1
        for which, of in ((train_units, train_y), (test_units, test_y))
        for g in np.unique(which)
    )
    #        (sign of R_AS, sign of R_US, sign of R_AF)
    signs = {"risk_as": (1, 0, 0), "risk_us": (0, 1, 0), "probe_gen": (1, 0, -1), "enc_gen": (-1, 1, 0)}
    result = {}
    for name, (on_j, on_te, on_af) in signs.items():
        m = len(drawn.wrong_j)
        e = [
            on_j * float((w_j * drawn.wrong_j[j]).sum())
            + on_te * float((w_te * drawn.wrong_te[j]).sum())
            + on_af * float(af.mean())
            for j in range(m)
        ]
        between = float(np.var(e, ddof=1))
        interaction = 0.0
        for units, weight, wrong in (
            (train_units[judged], on_j * w_j, drawn.wrong_j),
            (test_units, on_te * w_te, drawn.wrong_te),
        ):
            for u in np.unique(units):
                part = [float((weight * wrong[j])[units == u].sum()) for j in range(m)]
                interaction += float(np.var(part, ddof=1)) / m

        z_train = on_af * af / n
        z_train = z_train.astype(float)
        z_train[judged] += on_j * w_j * drawn.wrong_j.mean(0)
        z_test = on_te * w_te * drawn.wrong_te.mean(0)
        rows, below = 0.0, 0.0
        sets = ((judged, z_train, train_y, train_units), (rest, z_train, train_y, train_units),
                (np.arange(m_te), z_test, test_y, test_units))  # fmt: skip
        for of_set, z, labels, units in sets:
            if len(of_set) == 0:
                continue
            variance, df = _set_variance(of_set, z, labels, units, mixed)
            rows += variance
            if variance > 0:
                below += variance**2 / df
        rho, pool_df = overlap
        shown, of_pools = 1 / m, rho / (1 - rho)
        of_draws = max(0.0, between - m * interaction) * (shown + of_pools)
        total = of_draws + rows
        spread = 2 / (m - 1)  # relative variance of S², and of how far pools differ
        if pool_df is not None:
            spread += 2 / pool_df * (of_pools / (shown + of_pools)) ** 2
        least = 2 / spread
        df = least
        if total < between / m:
            total = between / m
        else:
            below += of_draws**2 / least
            if below > 0:
                df = max(df, total**2 / below)
        value = float(np.mean(e))
        guard = (on_j != 0) / len(judged) ** 2 + (on_te != 0) / m_te**2
        half = float(scipy.stats.t.ppf((1 + confidence) / 2, df)) * math.sqrt(total + guard)
        low, high = value - half, value + half
        if name.startswith("risk"):
            low, high = max(0.0, low), min(1.0, high)
        result[name] = ReferenceShot(value, between, interaction, rows, total, df, low, high)
    return result


def _set_variance(
    of_set: np.ndarray, z: np.ndarray, labels: np.ndarray, units: np.ndarray, mixed: bool
) -> tuple[float, float]:
    """V_s of one set and its degrees of freedom."""
    whole = effective_groups(units[of_set])
    mix = class_mix_scores(z, labels) if mixed else np.zeros(len(z))
    of_unit: dict[int, float] = {}
    by_class: list[tuple[float, float]] = []  # part of V_s, G* − 1
    for c in np.unique(labels[of_set]):
        rows = of_set[labels[of_set] == c]
        g = effective_groups(units[rows])
        part: dict[int, float] = {}
        for i in rows.tolist():
            score = math.sqrt(g / (g - 1)) * (z[i] - z[rows].mean())
            if mixed:
                score += math.sqrt(whole / (whole - 1)) * mix[i]
            part[int(units[i])] = part.get(int(units[i]), 0.0) + float(score)
        for u, value in part.items():
            of_unit[u] = of_unit.get(u, 0.0) + value
        by_class.append((sum(v**2 for v in part.values()), g - 1))
    variance = sum(v**2 for v in of_unit.values())
    if mixed:
        return variance, whole - 1
    below = sum(v**2 / df for v, df in by_class)
    return variance, variance**2 / below if below > 0 else math.inf
