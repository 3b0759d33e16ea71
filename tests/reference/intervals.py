"""Variances, degrees of freedom and intervals of the `strict` quantities, in loops over rows, groups and classes.

INTERVALS.md §1 (row scores, cluster variance, the probe's own variation, intervals), §3 (pairs for strata of one
group), §4 (factor of logistic R_AF), §7 (thresholds). Where the page leaves a choice:

- the class mix counts as random as soon as one group, of training or test rows, has two classes;
- one class alone with one effective group has no partner: it joins the class nearest in training error;
- a pair that is one single group (of two classes) is centred on the mean of its set, with the set's G*;
- classes joined in a pair (or three) have their number − 1 degrees of freedom, each pair its own;
- the bandwidth uses the standard deviation with n in the denominator;
- R_ΦF has its own factor; usability scales the row scores of each side by the root of that side's factor;
- a risk without variance has n_eff = its rows, or its groups where there are any;
- marks for few groups count S_tr as one set for R_AF, R_ΦF and usability; "nu < 5" marks only where there are groups.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import scipy.stats

from .paper import PaperReference
from .strict import Outcomes, StrictReference

Mark = Literal["", "few groups", "indicative", "none"]

#: each quantity as signed risks
COMBINATIONS: dict[str, dict[str, float]] = {
    "risk_sup": {"risk_sup": 1},
    "risk_af": {"risk_af": 1},
    "risk_as": {"risk_as": 1},
    "risk_cs": {"risk_cs": 1},
    "risk_us": {"risk_us": 1},
    "usability": {"risk_af": 1, "risk_sup": -1},
    "probe_gen": {"risk_as": 1, "risk_af": -1},
    "enc_gen": {"risk_us": 1, "risk_as": -1},
    "enc_gen_equal_labels": {"risk_cs": 1, "risk_as": -1},
    "label_count": {"risk_us": 1, "risk_cs": -1},
}
ALIASES = {"approx": "risk_sup", "approx_usability": "risk_af", "agg_risk": "risk_us"}
#: c of §1d: weights of the probe's own variation on test rows and on held-out training rows
WITH_PROBE = {
    "risk_us": (1, 0), "risk_cs": (1, 0), "risk_as": (0, 1), "probe_gen": (0, 1), "enc_gen": (1, -1),
    "enc_gen_equal_labels": (1, -1),
}  # fmt: skip


@dataclass(frozen=True)
class ReferenceEstimate:
    """An estimate with its interval; low and high are nan where the mark is `none`."""

    quantity: str
    estimate: float
    se: float  # root of rows_variance + probe_variance
    low: float
    high: float
    df: float  # inf: the normal quantile
    rows_variance: float  # V_row, times the factor of §4
    probe_variance: float  # c · V_P, and what the choice of the penalty adds
    factor: float  # of §4 for R_AF (and R_ΦF), else 1
    mark: Mark
    few_decide: bool  # fewer than 10 rows decide the number: the interval is conservative
    largest_group_share: dict[str, float] = field(default_factory=dict)  # set → share of V_s


@dataclass(frozen=True)
class Stratum:
    """Rows of one set that are centred together; `collapsed` if it joins classes of one effective group."""

    rows: np.ndarray  # indices into the base sample
    centre_rows: np.ndarray  # whose mean is subtracted
    effective_groups: float  # G*
    classes: tuple[int, ...]
    collapsed: bool


@dataclass(frozen=True)
class Layout:
    """Sets and their strata, for training rows (`sub`, `rest`) and test rows (`te`)."""

    strata: dict[str, list[Stratum]]
    set_rows: dict[str, np.ndarray]
    set_groups: dict[str, float]  # G*_s
    group: dict[str, np.ndarray]  # set → group number of every row of the base sample
    labels: dict[str, np.ndarray]  # set → labels of the base sample
    mixed: bool
    grouped: bool


def effective_groups(groups: np.ndarray) -> float:
    """(Σ n_g)² / Σ n_g² of the group numbers of some rows."""
    sizes: dict[int, int] = {}
    for g in groups.tolist():
        sizes[g] = sizes.get(g, 0) + 1
    total = sum(sizes.values())
    return total**2 / sum(n**2 for n in sizes.values()) if total else 0.0


def layout(outcomes: Outcomes, groups: tuple[np.ndarray, np.ndarray] | None) -> Layout:
    """Strata of each set: classes, with classes of one effective group joined in pairs (§3)."""
    o = outcomes
    if groups is None:
        train_groups, test_groups = np.arange(len(o.train_y)), np.arange(len(o.test_y))
    else:
        train_groups = np.unique(np.asarray(groups[0]), return_inverse=True)[1]
        test_groups = np.unique(np.asarray(groups[1]), return_inverse=True)[1]
    in_subset = o.cells >= o.n_folds
    set_rows = {
        "sub": np.flatnonzero(in_subset),
        "rest": np.flatnonzero(~in_subset),
        "te": np.arange(len(o.test_y)),
    }
    group = {"sub": train_groups, "rest": train_groups, "te": test_groups}
    labels = {"sub": o.train_y, "rest": o.train_y, "te": o.test_y}
    mixed = groups is not None and any(
        len(np.unique(of_rows[which == g])) > 1
        for which, of_rows in ((train_groups, o.train_y), (test_groups, o.test_y))
        for g in np.unique(which)
    )
    # mean training error of each class: what orders classes that must be joined
    difficulty = {int(c): float(o.full[o.train_y == c].mean()) for c in np.unique(o.train_y)}

    strata: dict[str, list[Stratum]] = {}
    set_groups = {}
    for s, rows in set_rows.items():
        set_groups[s] = effective_groups(group[s][rows])
        by_class = {int(c): rows[labels[s][rows] == c] for c in np.unique(labels[s][rows])}
        count = {c: effective_groups(group[s][r]) for c, r in by_class.items()}
        ordered = sorted(by_class, key=lambda c: (difficulty.get(c, 1.0), c))
        single = [c for c in ordered if count[c] < 1.5]
        joined: list[tuple[int, ...]] = []
        if len(single) == 1 and len(ordered) > 1:
            c = single[0]
            others = [d for d in ordered if d != c]
            nearest = min(others, key=lambda d: (abs(difficulty.get(d, 1.0) - difficulty.get(c, 1.0)), d))
            joined = [(c, nearest)]
        else:
            pairs = [tuple(single[i : i + 2]) for i in range(0, len(single), 2)]
            if len(pairs) > 1 and len(pairs[-1]) == 1:
                pairs[-2:] = [pairs[-2] + pairs[-1]]
            joined = [p for p in pairs if len(p) > 1]
        taken = {c for pair in joined for c in pair}
        strata[s] = []
        for classes in joined + [(c,) for c in ordered if c not in taken]:
            members = np.concatenate([by_class[c] for c in classes])
            g = effective_groups(group[s][members])
            centre = members
            if g <= 1 + 1e-9 and len(classes) > 1:
                centre, g = rows, set_groups[s]
            strata[s].append(Stratum(members, centre, g, classes, len(classes) > 1 and len(single) > 1))
    return Layout(strata, set_rows, set_groups, group, labels, mixed, groups is not None)


def risk_scores(outcomes: Outcomes, risk: str, plan: Layout) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """For each set a risk uses: z and centred φ, zero outside the set; lengths N (sub, rest) or M (te).

    Σ z over the sets is the risk itself.
    """
    o = outcomes
    n, m = len(o.train_y), len(o.test_y)
    if risk in ("risk_us", "risk_cs"):
        error = o.us if risk == "risk_us" else o.cs.mean(0)
        z = error / m
        phi = np.zeros(m)
        for stratum in plan.strata["te"]:
            phi[stratum.rows] = z[stratum.rows] - z[stratum.centre_rows].mean()
        return {"te": (z, phi)}
    if risk in ("risk_af", "risk_sup"):
        errors = o.af if risk == "risk_af" else o.sup
        if errors is None:
            raise ValueError("risk_sup needs a twin")
        scores = {}
        for s in ("sub", "rest"):
            z, phi = np.zeros(n), np.zeros(n)
            z[plan.set_rows[s]] = errors[plan.set_rows[s]] / n
            for stratum in plan.strata[s]:
                phi[stratum.rows] = z[stratum.rows] - z[stratum.centre_rows].mean()
            scores[s] = (z, phi)
        return scores
    if risk != "risk_as":
        raise ValueError(f"unknown risk {risk!r}")
    in_subset = o.cells >= o.n_folds
    w, f, b = o.weights(), o.full, o.coefficient()
    u = np.where(in_subset, o.as_, 0.0) - b * f
    scores = {}
    for s in ("sub", "rest"):
        z, phi = np.zeros(n), np.zeros(n)
        rows = plan.set_rows[s]
        z[rows] = b * f[rows] / n
        if s == "sub":
            z[rows] += w[rows] * u[rows]
        for stratum in plan.strata[s]:
            r, c = stratum.rows, stratum.centre_rows
            phi[r] = b * (f[r] - f[c].mean()) / n
            if s == "sub":
                phi[r] += w[r] * (u[r] - (w[c] * u[c]).sum() / w[c].sum())
        scores[s] = (z, phi)
    return scores


def quantity_scores(
    outcomes: Outcomes, quantity: str, plan: Layout, factors: dict[str, float]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """z and φ of a difference of risks on the same rows; each risk's scores times the root of its factor."""
    total: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for risk, sign in COMBINATIONS[quantity].items():
        weight = sign * math.sqrt(factors.get(risk, 1.0))
        for s, (z, phi) in risk_scores(outcomes, risk, plan).items():
            old = total.get(s, (np.zeros(len(z)), np.zeros(len(z))))
            total[s] = (old[0] + weight * z, old[1] + weight * phi)
    return total


def class_mix_scores(z: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """a_i = (T_c(i) − mean of T over rows) / n, T_c = (n / n_c) Σ z over the rows of class c."""
    n = len(z)
    t = np.zeros(n)
    for c in np.unique(labels):
        rows = labels == c
        t[rows] = n / rows.sum() * z[rows].sum()
    return (t - t.mean()) / n


@dataclass(frozen=True)
class SetVariance:
    """V_s, its degrees of freedom, and the share of its largest group."""

    variance: float
    df: float
    largest_share: float


def rows_variance(scores: dict[str, tuple[np.ndarray, np.ndarray]], plan: Layout) -> dict[str, SetVariance]:
    """V_s of every set from the row scores of one quantity (§1b)."""
    train_sets = [s for s in ("sub", "rest") if s in scores]
    mix: dict[str, np.ndarray] = {}
    if plan.mixed:
        if train_sets:
            z = sum((scores[s][0] for s in train_sets), np.zeros(len(plan.labels["sub"])))
            shares = class_mix_scores(z, plan.labels["sub"])
            mix |= dict.fromkeys(train_sets, shares)
        if "te" in scores:
            mix["te"] = class_mix_scores(scores["te"][0], plan.labels["te"])
    result = {}
    for s, (_, phi) in scores.items():
        of_group: dict[int, float] = {}  # Φ_g
        by_stratum: dict[tuple[int, ...], dict[int, float]] = {}  # classes → group → its part of Φ_g
        set_kappa = math.sqrt(plan.set_groups[s] / (plan.set_groups[s] - 1)) if plan.set_groups[s] > 1 else 0.0
        for stratum in plan.strata[s]:
            g_star = stratum.effective_groups
            kappa = math.sqrt(g_star / (g_star - 1)) if g_star > 1 + 1e-9 else 0.0
            part = by_stratum.setdefault(stratum.classes, {})
            for i in stratum.rows.tolist():
                g = int(plan.group[s][i])
                value = kappa * float(phi[i])
                if plan.mixed:
                    value += set_kappa * float(mix[s][i])
                of_group[g] = of_group.get(g, 0.0) + value
                part[g] = part.get(g, 0.0) + value
        squares = [v**2 for v in of_group.values()]
        variance = sum(squares)
        if variance == 0:
            result[s] = SetVariance(0.0, math.inf, 0.0)
            continue
        if plan.mixed:
            df = plan.set_groups[s] - 1
        else:
            below = 0.0
            for stratum in plan.strata[s]:
                v = sum(x**2 for x in by_stratum[stratum.classes].values())
                df_part = len(stratum.classes) - 1 if stratum.collapsed else stratum.effective_groups - 1
                if v > 0:
                    below += v**2 / df_part
            df = variance**2 / below
        result[s] = SetVariance(variance, df, max(squares) / variance)
    return result


def set_aside(outcomes: Outcomes) -> float:
    """Variance of the mean of the complements' influences less that of all rows, as a share of V_P: row by row."""
    o = outcomes
    n, m = len(o.train_y), o.n_subsets
    total = 0.0
    for i in range(n):
        weight = 0.0
        for j in range(m):
            lacking = o.cells == o.n_folds + j
            if not lacking[i]:
                weight += 1 / (n - int(lacking.sum())) / m
        total += (1 / n - weight) ** 2
    return n * total


def probe_variance(outcomes: Outcomes, test_groups: np.ndarray | None) -> float:
    """V_P: the variance of the fold probes' smoothed errors on S_te, less the test rows' noise (§1c)."""
    o = outcomes
    if o.fold_margins is None:
        return 0.0
    s = smoothed(o.fold_margins, o.full_margins)
    return jackknife_scale(o) * max(0.0, between_probes(s) - noise_of_rows(s, test_groups))


def probe_covariance(outcomes: Outcomes, groups: tuple[np.ndarray, np.ndarray] | None) -> tuple[float, float, float]:
    """Variances of the errors on S_te and on the held-out subsets over refitted probes, and their covariance, which is
    no larger than the root of their product; without fold probes on the subsets all three are V_P."""
    o = outcomes
    v_test = probe_variance(o, None if groups is None else groups[1])
    if o.held_fold_margins is None or o.fold_margins is None:
        return v_test, v_test, v_test
    held = smoothed(o.held_fold_margins, o.held_margins)
    held_groups = None if groups is None else np.asarray(groups[0])[o.cells >= o.n_folds]
    test = smoothed(o.fold_margins, o.full_margins)
    v_held = jackknife_scale(o) * max(0.0, between_probes(held) - noise_of_rows(held, held_groups))
    r, q = test.mean(1), held.mean(1)
    both = jackknife_scale(o) * float(((r - r.mean()) * (q - q.mean())).sum()) / (len(r) - 1)
    most = math.sqrt(v_test * v_held)
    return v_test, v_held, max(-most, min(most, both))


def choice_covariance(o: Outcomes, groups: tuple[np.ndarray, np.ndarray] | None) -> tuple[float, float, float]:
    """What the choice of the penalty adds to the variances of the errors on S_te and on the held-out subsets, and to
    their covariance."""
    p = o.penalties
    if p is None or len(p.chances) < 2:
        return 0.0, 0.0, 0.0
    group_sets = (None, None) if groups is None else (groups[1], np.asarray(groups[0])[o.cells >= o.n_folds])
    variances, means = [], []
    for errors, row_groups in zip((p.test, p.held), group_sets, strict=True):
        apart = errors - np.average(errors, axis=0, weights=p.chances)
        variance = 0.0
        for chance, of_rows in zip(p.chances, apart, strict=True):
            unit = np.arange(len(of_rows)) if row_groups is None else np.asarray(row_groups)
            sums = np.array([of_rows[unit == u].sum() / len(of_rows) for u in np.unique(unit)])
            g = len(sums)
            variance += chance * (of_rows.mean() ** 2 - g / (g - 1) * ((sums - sums.mean()) ** 2).sum())
        variances.append(variance if variance > 1e-15 else 0.0)  # equal errors leave 1e-20
        means.append(apart.mean(1))
    most = math.sqrt(variances[0] * variances[1])
    return variances[0], variances[1], max(-most, min(most, float(p.chances @ (means[0] * means[1]))))


def jackknife_scale(o: Outcomes) -> float:
    """What makes the variance of K fold probes that of a probe of all training rows."""
    k_folds = len(o.fold_margins)
    return (k_folds - 1) ** 2 / k_folds * int((o.cells < o.n_folds).sum()) / len(o.cells)


def smoothed(margins: np.ndarray, of_one: np.ndarray) -> np.ndarray:
    """Errors (K, rows) of the probes, smoothed by the spread of one probe's margins on the rows."""
    h = float(np.std(of_one)) * len(of_one) ** (-1 / 5)
    return scipy.stats.norm.cdf(-margins / h) if h > 0 else (margins < 0).astype(float)


def between_probes(s: np.ndarray) -> float:
    """Variance of the probes' mean errors."""
    r = s.mean(1)
    return float(((r - r.mean()) ** 2).sum() / (len(s) - 1))


def noise_of_rows(s: np.ndarray, row_groups: np.ndarray | None) -> float:
    """What the rows, or groups of them, add to it."""
    k_folds, m = s.shape
    groups = np.arange(m) if row_groups is None else np.unique(np.asarray(row_groups), return_inverse=True)[1]
    n_groups = int(groups.max()) + 1
    p = np.zeros((k_folds, n_groups))
    for k in range(k_folds):
        for i in range(m):
            p[k, groups[i]] += s[k, i] / m
    d = p - p.mean(0)
    d = d - d.mean(1, keepdims=True)
    return n_groups / (n_groups - 1) * float((d**2).sum()) / (k_folds - 1) if n_groups > 1 else 0.0


def wilson(p: float, n: float, t: float) -> tuple[float, float]:
    """Wilson's interval of a share p of n rows at the quantile t."""
    p = min(max(p, 0.0), 1.0)
    centre = (p + t**2 / (2 * n)) / (1 + t**2 / n)
    half = t / (1 + t**2 / n) * math.sqrt(p * (1 - p) / n + t**2 / (4 * n**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def af_factor(train_errors: np.ndarray, heldout: float | None, probe: str) -> float:
    """max(1, H / R) for logistic probes; inf where R is 0 and H is not; 1 for ridge."""
    if probe != "logistic" or heldout is None:
        return 1.0
    risk = float(train_errors.mean())
    if risk == 0:
        return math.inf if heldout > 0 else 1.0
    return max(1.0, heldout / risk)


def _mark(quantity: str, outcomes: Outcomes, plan: Layout, df: float, identified: bool) -> Mark:
    if not identified:
        return "none"
    if not plan.grouped:
        return ""
    n_groups = {s: len(np.unique(plan.group[s][rows])) for s, rows in plan.set_rows.items()}
    counts = []
    risks = COMBINATIONS[quantity]
    if "risk_us" in risks or "risk_cs" in risks:
        counts.append(n_groups["te"])
        if n_groups["te"] < 4:
            return "none"
    if "risk_as" in risks:
        counts += [n_groups["sub"], n_groups["rest"]]
        for c in np.unique(outcomes.train_y):
            rows = (outcomes.cells >= outcomes.n_folds) & (outcomes.train_y == c)
            if len(np.unique(plan.group["sub"][rows])) < 2:
                return "none"
    elif "risk_af" in risks or "risk_sup" in risks:
        counts.append(len(np.unique(plan.group["sub"])))
    if min(counts) < 10 or df < 5:
        return "indicative"
    return "few groups" if min(counts) < 20 else ""


def _deciding_rows(quantity: str, o: Outcomes) -> int:
    """Rows that decide a number: discordant rows of a paired difference, else the rarer outcome of a judged set."""
    in_subset = o.cells >= o.n_folds

    def rarer(errors: np.ndarray) -> int:
        return int(min((errors > 0).sum(), (errors == 0).sum()))

    held = o.as_[in_subset]
    if quantity == "usability":
        assert o.sup is not None
        return int((o.af != o.sup).sum())
    if quantity == "label_count":
        return int((o.us != o.cs).any(0).sum())
    of_risk = {
        "risk_sup": o.sup,
        "risk_af": o.af,
        "risk_as": held,
        "risk_cs": o.cs.mean(0),
        "risk_us": o.us,
    }
    return min(rarer(errors) for risk in COMBINATIONS[quantity] if (errors := of_risk[risk]) is not None)


def estimates(
    reference: StrictReference | PaperReference,
    groups: tuple[np.ndarray, np.ndarray] | None = None,
    confidence: float = 0.95,
) -> dict[str, ReferenceEstimate]:
    """Intervals of every risk and component (aliases included).

    Parameters
    ----------
    reference : what `strict.risks` or `paper.risks` returns (`paper` fits no folds: V_P is 0 there).
    groups : group of every training row (N,) and test row (M,), any values that sort; None: rows are independent.
    confidence : of each interval.
    """
    o = reference.outcomes
    plan = layout(o, groups)
    v_test, v_held, v_both = probe_covariance(o, groups)
    c_test, c_held, c_both = choice_covariance(o, groups)
    m, n_te = o.n_subsets, len(o.test_y)
    n_sub = int((o.cells >= o.n_folds).sum())
    n = len(o.train_y)
    pseudo = {
        "usability": 1 / n**2,
        "probe_gen": 1 / n_sub**2,
        "enc_gen": 1 / n_sub**2 + 1 / n_te**2,
        "enc_gen_equal_labels": 1 / n_sub**2 + 1 / n_te**2,
        "label_count": 1 / (m * n_te) ** 2,
    }
    factors = {"risk_af": af_factor(o.af, o.af_test, o.probe)}
    if o.sup is not None:
        factors["risk_sup"] = af_factor(o.sup, o.sup_test, o.probe)
    errors_at_floor = {"risk_af": o.af.sum(), "risk_sup": 0 if o.sup is None else o.sup.sum()}
    values = {**reference.risks, **reference.components}
    result = {}
    for quantity, risks in COMBINATIONS.items():
        if o.sup is None and "risk_sup" in risks:
            continue
        used = {} if quantity in ("probe_gen",) else {r: factors[r] for r in risks if r in factors}
        # §4: logistic, no interval below 10 errors or above H/R_AF = 4
        identified = o.probe != "logistic" or all(errors_at_floor[r] >= 10 and factors[r] <= 4 for r in used)
        finite = {r: x for r, x in used.items() if math.isfinite(x)}
        by_set = rows_variance(quantity_scores(o, quantity, plan, finite), plan)
        v_row = sum(v.variance for v in by_set.values())
        on_test, on_held = WITH_PROBE.get(quantity, (0, 0))
        c_v_p = max(0.0, on_test**2 * v_test + on_held**2 * v_held + 2 * on_test * on_held * v_both)
        if o.fold_margins is not None:
            c_v_p += max(0.0, on_test**2 * c_test + on_held**2 * c_held + 2 * on_test * on_held * c_both)
        if quantity == "label_count":  # which rows are set aside
            c_v_p = v_test * set_aside(o)
        variance = v_row + c_v_p
        below = sum(v.variance**2 / v.df for v in by_set.values())
        if c_v_p > 0 and o.fold_margins is not None:
            below += c_v_p**2 / (len(o.fold_margins) - 1)
        normal = below == 0 or (not plan.grouped and c_v_p == 0)
        df = math.inf if normal else max(1.0, variance**2 / below)
        t = float(scipy.stats.t.ppf((1 + confidence) / 2, df))
        value = float(values[quantity])
        if quantity in reference.risks:
            p = min(max(value, 0.0), 1.0)
            judged = {"risk_us": "te", "risk_cs": "te", "risk_as": "sub"}.get(quantity)
            if p * (1 - p) > 0 and variance > 0:
                n_eff = p * (1 - p) / variance
            else:
                units = plan.group["sub"] if judged is None else plan.group[judged][plan.set_rows[judged]]
                n_eff = float(len(np.unique(units)))
            factor = used.get(quantity, 1.0)
            if 1 < factor < math.inf:  # n_eff of the rows, and no shorter than value ± t √V
                plain, half = wilson(value, factor * n_eff, t), t * math.sqrt(variance)
                low, high = min(plain[0], max(0.0, value - half)), max(plain[1], min(1.0, value + half))
            else:
                low, high = wilson(value, n_eff, t)
        else:
            half = t * math.sqrt(variance + pseudo[quantity])
            low, high = value - half, value + half
        mark = _mark(quantity, o, plan, df, identified)
        result[quantity] = ReferenceEstimate(
            quantity=quantity,
            estimate=value,
            se=math.sqrt(variance),
            low=low if mark != "none" else math.nan,
            high=high if mark != "none" else math.nan,
            df=df,
            rows_variance=v_row,
            probe_variance=c_v_p,
            factor=used.get(quantity, 1.0),
            mark=mark,
            few_decide=_deciding_rows(quantity, o) < 10,
            largest_group_share={s: v.largest_share for s, v in by_set.items()},
        )
    for alias, quantity in ALIASES.items():
        if alias in reference.components:
            result[alias] = result[quantity]
    return result
