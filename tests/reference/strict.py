"""The `strict` protocol, risk by risk, from given cells: DESIGN §2 decisions 2, 3, 5, 12, 13; INTERVALS §1a, §5a.

Cells are an input: 0 … n_folds − 1 are folds, n_folds + j is subset j. A fold probe is fitted on the other
folds (no subset), complement j on all training rows but subset j, the full fit on all training rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .probes import Kind, Probe, Scaling, fit

ALPHAS = (1e-2, 1e-3, 1e-4, 1e-5)
FLOOR = 1e-5
#: decades that may be added above the grid
MAX_DECADES = 5


@dataclass(frozen=True)
class PenaltyChoice:
    """Penalties that other samples would choose, and the errors of the first fold's probes at each."""

    chances: np.ndarray  # (P,), sum 1
    test: np.ndarray  # (P, M)
    held: np.ndarray  # (P, N_sub), in the order of the subset rows


@dataclass(frozen=True)
class Outcomes:
    """What the intervals need of every judged row. N training rows, M test rows, m subsets, K folds."""

    train_y: np.ndarray  # (N,)
    test_y: np.ndarray  # (M,)
    cells: np.ndarray  # (N,): fold or n_folds + subset
    n_folds: int
    n_classes: int
    probe: Kind
    af: np.ndarray  # (N,) errors of the floor fit on S_tr
    full: np.ndarray  # (N,) errors of the full fit at α* on S_tr: the control variate f
    as_: np.ndarray  # (N,) error of complement j on the rows of subset j; nan on fold rows
    us: np.ndarray  # (M,)
    cs: np.ndarray  # (m, M)
    sup: np.ndarray | None  # (N,) errors of the twin's floor fit on S_tr
    af_test: float  # H: error of the floor fit on S_te
    sup_test: float | None  # the same of the twin, or its held-out error at the floor without test features
    fold_margins: np.ndarray | None  # (K, M) fold probes at α* on S_te; None where no folds were fitted
    full_margins: np.ndarray  # (M,) full fit at α* on S_te
    held_fold_margins: np.ndarray | None  # (K, N_sub) fold probes at α* on the subset rows, in their order
    held_margins: np.ndarray  # (N_sub,) complement j on the rows of subset j, in the order of the subset rows
    penalties: PenaltyChoice | None = None  # None: one penalty has a chance
    corrected: bool = True  # False (paper): every subset row counts alike, and R_AS has no control variate

    @property
    def n_subsets(self) -> int:
        """m."""
        return len(self.cs)

    def weights(self) -> np.ndarray:
        """w (N,) of R_AS, zero on fold rows."""
        if self.corrected:
            return subset_weights(self.train_y, self.cells, self.n_folds)
        in_subset = self.cells >= self.n_folds
        return in_subset / in_subset.sum()

    def coefficient(self) -> float:
        """b of the control variate."""
        if not self.corrected:
            return 0.0
        return control_coefficient(self.as_, self.full, self.weights(), self.train_y, self.cells >= self.n_folds)


@dataclass(frozen=True)
class StrictReference:
    """Risks and components (fractions), the tuned penalty, what tuning saw, and the outcomes of every row."""

    risks: dict[str, float]  # risk_sup (with a twin), risk_af, risk_as, risk_cs, risk_us and three further readings
    components: dict[str, float]
    alpha: float  # α*, relative
    tuning_errors: dict[float, int]  # relative α → errors on the rows of the folds
    control_coefficient: float  # b
    class_mix: float  # R_US at the class shares of S_tr less R_US
    outcomes: Outcomes


def tune(
    x: np.ndarray,
    y: np.ndarray,
    n_classes: int,
    cells: np.ndarray,
    n_folds: int,
    alphas: tuple[float, ...],
    *,
    probe: Kind,
    scaling: Scaling,
    relative: bool = True,
    groups: np.ndarray | None = None,
    decades: int = MAX_DECADES,
    fits: list[np.ndarray] | None = None,
) -> tuple[float, dict[float, int], list[Probe], dict[float, float], dict[float, Probe]]:
    """The penalty with the fewest errors on the folds, all counts, the fold probes at that penalty, the chance of each
    penalty, and the first fold's probe at each.

    Ties go to the stronger penalty; one decade is added above the grid until its strongest is clearly worse. Penalties
    that win, and whose margins spread within classes by no more than five times what intercepts of `fits` (bool (N,)
    each) and of folds differ by, are taken out. Penalties after two that each err more than the one before have no
    chance, nor one that errs on the same rows as a stronger.
    """
    in_folds = cells < n_folds
    counts: dict[float, int] = {}
    probes: dict[float, list[Probe]] = {}
    wrong: dict[float, np.ndarray] = {}

    def judge(alpha: float) -> None:
        probes[alpha] = [
            fit(x[in_folds & (cells != k)], y[in_folds & (cells != k)], n_classes, alpha,
                probe=probe, scaling=scaling, relative=relative)
            for k in range(n_folds)
        ]  # fmt: skip
        wrong[alpha] = np.concatenate([p.errors(x[cells == k], y[cells == k]) for k, p in enumerate(probes[alpha])])
        counts[alpha] = int(wrong[alpha].sum())

    def winner() -> float:
        best = min(counts.values())
        return max(alpha for alpha, count in counts.items() if count == best)

    for alpha in alphas:
        judge(alpha)
    ends = np.cumsum([int((cells == k).sum()) for k in range(n_folds)])

    def is_out(alpha: float) -> bool:
        more = wrong[alpha] - wrong[winner()]
        return any(e >= 500 and more[:e].sum() > 3 * math.sqrt((more[:e] ** 2).sum()) for e in ends)

    for _ in range(decades):
        if groups is None and is_out(max(counts)):
            break
        judge(10 * max(counts))
    apart = max(
        intercepts_apart(y[rows], y[in_folds & (cells != k)], n_classes, probe)
        for rows in fits or [np.ones(len(y), bool)]
        for k in range(n_folds)
    )
    first = cells == 0
    tried = dict(counts)
    while winner() > 1 and len(counts) > 1:
        margins = probes[winner()][0].margins(x[first], y[first])
        within = [m - margins[y[first] == c].mean() for m, c in zip(margins, y[first], strict=True)]
        if np.sqrt(np.mean(np.square(within))) > 5 * apart:
            break
        wrong.pop(winner())
        counts.pop(winner())
    best = winner()
    late = {
        alpha
        for i, alpha in enumerate(alphas)
        if any(tried[alphas[j]] > tried[alphas[j - 1]] > tried[alphas[j - 2]] for j in range(2, i))
    }
    late |= {a for a in counts for b in counts if a < b and a != best and np.array_equal(wrong[a], wrong[b])}
    grouped = None if groups is None else np.concatenate([groups[cells == k] for k in range(n_folds)])
    weights = {a: choice_weight(w - wrong[best], grouped) for a, w in wrong.items() if a not in late} | {best: 0.5}
    weights = {a: w for a, w in weights.items() if w >= 0.005 * sum(weights.values())}
    chances = {a: w / sum(weights.values()) for a, w in weights.items()}
    return best, tried, probes[best], chances, {alpha: probes[alpha][0] for alpha in chances}


def intercepts_apart(one: np.ndarray, other: np.ndarray, n_classes: int, probe: Kind) -> float:
    """Root of the mean square by which intercepts of fits on two sets of labels differ where features say nothing."""
    total = 0.0
    for c in range(n_classes):
        p, q = float(np.mean(one == c)), float(np.mean(other == c))
        if p > 0 and q > 0:
            total += p * (math.log(p / q) if probe == "logistic" else p - q) ** 2
    return math.sqrt(total)


def choice_weight(more: np.ndarray, groups: np.ndarray | None) -> float:
    """How probably a sum of these differences of costs is below 0 in another sample of rows, or of groups of them."""
    if groups is not None:
        more = np.array([more[groups == g].sum() for g in np.unique(groups)])
    g, total = len(more), float(more.sum())
    variance = g / (g - 1) * float(((more - total / g) ** 2).sum())
    return 0.5 * math.erfc(total / math.sqrt(2 * variance)) if variance > 0 else 0.0


def subset_weights(train_y: np.ndarray, cells: np.ndarray, n_folds: int) -> np.ndarray:
    """w_i = π_c / (m_c n_cj) for a row of class c in subset j, 0 for fold rows: (N,), sum 1.

    m_c counts the subsets that hold class c. Classes that no subset holds cannot be judged: the shares of the
    others are divided by their sum.
    """
    weights = np.zeros(len(train_y))
    subsets = [j for j in np.unique(cells) if j >= n_folds]
    for c in np.unique(train_y):
        share = np.mean(train_y == c)
        members = [(train_y == c) & (cells == j) for j in subsets]
        holding = [rows for rows in members if rows.any()]
        for rows in holding:
            weights[rows] = share / (len(holding) * rows.sum())
    return weights / weights.sum()


def control_coefficient(
    as_errors: np.ndarray, full_errors: np.ndarray, weights: np.ndarray, train_y: np.ndarray, in_subset: np.ndarray
) -> float:
    """b = Σ a h / Σ h², a = w e_AS and h = w f, each less its mean over the rows of a class in the subsets."""
    above = below = 0.0
    for c in np.unique(train_y[in_subset]):
        rows = in_subset & (train_y == c)
        a = weights[rows] * as_errors[rows]
        h = weights[rows] * full_errors[rows]
        above += float(((a - a.mean()) * (h - h.mean())).sum())
        below += float(((h - h.mean()) ** 2).sum())
    return above / below if below > 0 else 0.0


def risks(
    train_x: np.ndarray,
    train_y: np.ndarray,
    test_x: np.ndarray,
    test_y: np.ndarray,
    cells: np.ndarray,
    *,
    n_folds: int = 5,
    probe: Kind = "ridge",
    scaling: Scaling = "standardize",
    twin: np.ndarray | None = None,
    twin_test: np.ndarray | None = None,
    alphas: tuple[float, ...] = ALPHAS,
    floor: float = FLOOR,
    relative: bool = True,
    groups: np.ndarray | None = None,
) -> StrictReference:
    """All risks and components of the `strict` protocol.

    Parameters
    ----------
    train_x : (N, d) real, train_y : (N,) integers 0 … k − 1, every class present.
    test_x : (M, d) real, test_y : (M,) integers 0 … k − 1.
    cells : (N,) integers: 0 … n_folds − 1 for folds, n_folds + j for subset j.
    twin : (N, d') features of the supervised twin on the training rows; twin_test : (M, d') on the test rows.
    groups : of each training row, what is drawn together (None: rows); only the chances of penalties need it.
    alphas, floor : penalties; relative to the mean variance of the scaled features where `relative`.
    """
    train_x, test_x = np.asarray(train_x, np.float64), np.asarray(test_x, np.float64)
    train_y, test_y, cells = np.asarray(train_y), np.asarray(test_y), np.asarray(cells)
    k = int(train_y.max()) + 1
    m = int(cells.max()) - n_folds + 1
    in_subset = cells >= n_folds

    def fitted(x: np.ndarray, rows: np.ndarray, alpha: float) -> Probe:
        return fit(x[rows], train_y[rows], k, alpha, probe=probe, scaling=scaling, relative=relative)

    def held_out(x: np.ndarray, alpha: float) -> tuple[np.ndarray, list[Probe]]:
        """Errors of complement j on subset j (nan on fold rows), and the complements' probes."""
        errors = np.full(len(train_y), np.nan)
        complements = []
        for j in range(m):
            rows = cells == n_folds + j
            complement = fitted(x, ~rows, alpha)
            errors[rows] = complement.errors(x[rows], train_y[rows])
            complements.append(complement)
        return errors, complements

    alpha, tuning_errors, fold_probes, chances, first_fold = tune(
        train_x, train_y, k, cells, n_folds, alphas, probe=probe, scaling=scaling, relative=relative, groups=groups,
        fits=[cells >= 0, *(cells != n_folds + j for j in range(m))],
    )  # fmt: skip
    everything = np.ones(len(train_y), bool)
    full = fitted(train_x, everything, alpha)
    at_floor = fitted(train_x, everything, floor)
    above_floor = fitted(train_x, everything, 10 * floor)
    as_errors, complements = held_out(train_x, alpha)
    floor_errors, _ = held_out(train_x, floor)
    sup = sup_test = None
    weights = subset_weights(train_y, cells, n_folds)
    if twin is not None:
        twin = np.asarray(twin, np.float64)
        twin_probe = fitted(twin, everything, floor)
        sup = twin_probe.errors(twin, train_y)
        if twin_test is not None:
            sup_test = float(twin_probe.errors(np.asarray(twin_test, np.float64), test_y).mean())
        else:
            sup_test = float(weights[in_subset] @ held_out(twin, floor)[0][in_subset])

    outcomes = Outcomes(
        train_y=train_y,
        test_y=test_y,
        cells=cells,
        n_folds=n_folds,
        n_classes=k,
        probe=probe,
        af=at_floor.errors(train_x, train_y),
        full=full.errors(train_x, train_y),
        as_=as_errors,
        us=full.errors(test_x, test_y),
        cs=np.stack([p.errors(test_x, test_y) for p in complements]),
        sup=sup,
        af_test=float(at_floor.errors(test_x, test_y).mean()),
        sup_test=sup_test,
        fold_margins=np.stack([p.margins(test_x, test_y) for p in fold_probes]),
        full_margins=full.margins(test_x, test_y),
        held_fold_margins=np.stack([p.margins(train_x[in_subset], train_y[in_subset]) for p in fold_probes]),
        held_margins=np.choose(
            cells[in_subset] - n_folds, [p.margins(train_x[in_subset], train_y[in_subset]) for p in complements]
        ),
        penalties=PenaltyChoice(
            np.array(list(chances.values())),
            np.stack([first_fold[a].errors(test_x, test_y) for a in chances]),
            np.stack([first_fold[a].errors(train_x[in_subset], train_y[in_subset]) for a in chances]),
        ),
    )
    f = outcomes.full
    b = control_coefficient(as_errors, f, weights, train_y, in_subset)
    values = {
        "risk_af": float(outcomes.af.mean()),
        "risk_as": float((weights * (as_errors - b * f))[in_subset].sum() + b * f.mean()),
        "risk_cs": float(outcomes.cs.mean()),
        "risk_us": float(outcomes.us.mean()),
        "risk_as_plain": float((weights * as_errors)[in_subset].sum()),
        "risk_af_decade_above": float(above_floor.errors(train_x, train_y).mean()),
    }
    values["risk_af_midpoint"] = (values["risk_af"] + float((weights * floor_errors)[in_subset].sum())) / 2
    if sup is not None:
        values["risk_sup"] = float(sup.mean())
    shares = [np.mean(train_y == c) for c in np.unique(test_y)]
    class_errors = [outcomes.us[test_y == c].mean() for c in np.unique(test_y)]
    return StrictReference(
        risks=values,
        components=components(values),
        alpha=alpha,
        tuning_errors=tuning_errors,
        control_coefficient=b,
        class_mix=float(np.dot(shares, class_errors) / np.sum(shares)) - values["risk_us"],
        outcomes=outcomes,
    )


def components(risk: dict[str, float]) -> dict[str, float]:
    """Differences of risks; with `risk_sup` the first component is split in two."""
    parts = {
        "probe_gen": risk["risk_as"] - risk["risk_af"],
        "enc_gen": risk["risk_us"] - risk["risk_as"],
        "enc_gen_equal_labels": risk["risk_cs"] - risk["risk_as"],
        "label_count": risk["risk_us"] - risk["risk_cs"],
        "agg_risk": risk["risk_us"],
    }
    if "risk_sup" in risk:
        return {"approx": risk["risk_sup"], "usability": risk["risk_af"] - risk["risk_sup"], **parts}
    return {"approx_usability": risk["risk_af"], **parts}
