"""The authors' protocol (Dubois et al. 2023), with their SGD replaced by the optimum at each penalty.

One subset as large as the test set, cut by scikit-learn with seed 123; no scaling; R_AS without a correction. Each
risk has its own tuning study on a fifth of the classes, chosen before the rows are halved: the study of R_AF (and
that of R_ΦF, on the twin's features) fits one half and counts errors on the same half, that of R_AS on the other
half, that of R_US on the test rows of the chosen classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import train_test_split

from .probes import Kind, Probe, Scaling, fit
from .strict import Outcomes, components

SEED = 123
#: the authors draw weight decays log-uniformly from this range; here both ends and four values between
ALPHAS = tuple(float(a) for a in np.geomspace(2e-4, 1e-8, 6))
CLASS_FRACTION = 0.2


@dataclass(frozen=True)
class PaperReference:
    """Risks, components, the penalty and the error counts of every study, and the rows of the cut."""

    risks: dict[str, float]  # risk_af, risk_as, risk_cs, risk_us, and risk_sup with a twin
    components: dict[str, float]
    alpha: dict[str, float]  # risk → penalty of its study (risk_cs has that of risk_as)
    tuning_errors: dict[str, dict[float, int]]
    subset: np.ndarray  # row numbers of S_sub, in scikit-learn's order
    tuning_classes: np.ndarray
    first_half: np.ndarray  # row numbers that every trial is fitted on
    second_half: np.ndarray
    outcomes: Outcomes  # fold 0 is the complement, cell 1 the subset


def halves(n: int, y: np.ndarray, size: int | float) -> tuple[np.ndarray, np.ndarray]:
    """(complement, subset) of rows 0 … n − 1, stratified by y: `train-cmplmnt-size` and `train-sbst-size`."""
    complement, subset = train_test_split(np.arange(n), stratify=y, test_size=size, random_state=SEED)
    return np.asarray(complement), np.asarray(subset)


def tuning_classes(n_classes: int, fraction: float = CLASS_FRACTION) -> np.ndarray:
    """The first int(fraction · k) of the permuted class numbers; at least two, since one class has no error."""
    chosen = max(2, int(fraction * n_classes))
    return np.random.RandomState(SEED).permutation(np.arange(n_classes))[:chosen]


def risks(
    train_x: np.ndarray,
    train_y: np.ndarray,
    test_x: np.ndarray,
    test_y: np.ndarray,
    *,
    probe: Kind = "logistic",
    twin: np.ndarray | None = None,
    alphas: tuple[float, ...] = ALPHAS,
    scaling: Scaling = "none",
    relative: bool = False,
) -> PaperReference:
    """All risks under the authors' choices.

    Parameters
    ----------
    train_x : (N, d), train_y : (N,) integers 0 … k − 1, in the data's original order (the cut follows it).
    test_x : (M, d), test_y : (M,).
    twin : (N, d') features of a supervised network on the training rows, or None.
    alphas : penalties that every study tries; ties go to the stronger.
    scaling, relative : `none` and absolute penalties, as the authors; others to compare only.
    """
    train_x, test_x = np.asarray(train_x, np.float64), np.asarray(test_x, np.float64)
    train_y, test_y = np.asarray(train_y), np.asarray(test_y)
    n, k = len(train_y), int(train_y.max()) + 1
    complement, subset = halves(n, train_y, len(test_y))
    chosen = tuning_classes(k)
    pool = np.flatnonzero(np.isin(train_y, chosen))
    second, first = (pool[part] for part in halves(len(pool), train_y[pool], 0.5))
    test_rows = np.isin(test_y, chosen)

    def study(x: np.ndarray, judged_x: np.ndarray, judged_y: np.ndarray) -> tuple[float, dict[float, int]]:
        counts = {}
        for alpha in alphas:
            trial = fit(x[first], train_y[first], k, alpha, probe=probe, scaling=scaling, relative=relative)
            counts[alpha] = int(trial.errors(judged_x, judged_y).sum())
        best = min(counts.values())
        return max(a for a, count in counts.items() if count == best), counts

    studies = {
        "risk_af": study(train_x, train_x[first], train_y[first]),
        "risk_as": study(train_x, train_x[second], train_y[second]),
        "risk_us": study(train_x, test_x[test_rows], test_y[test_rows]),
    }
    if twin is not None:
        twin = np.asarray(twin, np.float64)
        studies["risk_sup"] = study(twin, twin[first], train_y[first])
    alpha = {risk: result[0] for risk, result in studies.items()}
    alpha["risk_cs"] = alpha["risk_as"]

    def final(x: np.ndarray, rows: np.ndarray, penalty: float) -> Probe:
        return fit(x[rows], train_y[rows], k, penalty, probe=probe, scaling=scaling, relative=relative)

    everything = np.arange(n)
    at_af = final(train_x, everything, alpha["risk_af"])
    at_as = final(train_x, complement, alpha["risk_as"])
    at_us = final(train_x, everything, alpha["risk_us"])
    as_errors = np.full(n, np.nan)
    as_errors[subset] = at_as.errors(train_x[subset], train_y[subset])
    sup = None if twin is None else final(twin, everything, alpha["risk_sup"]).errors(twin, train_y)
    cells = np.zeros(n, int)
    cells[subset] = 1
    outcomes = Outcomes(
        train_y=train_y,
        test_y=test_y,
        cells=cells,
        n_folds=1,
        n_classes=k,
        probe=probe,
        af=at_af.errors(train_x, train_y),
        full=at_us.errors(train_x, train_y),
        as_=as_errors,
        us=at_us.errors(test_x, test_y),
        cs=at_as.errors(test_x, test_y)[None],
        sup=sup,
        af_test=float(at_af.errors(test_x, test_y).mean()),
        sup_test=None,
        fold_margins=None,
        held_fold_margins=None,
        held_margins=np.zeros(0),
        full_margins=at_us.margins(test_x, test_y),
        corrected=False,
    )
    values = {
        "risk_af": float(outcomes.af.mean()),
        "risk_as": float(as_errors[subset].mean()),
        "risk_cs": float(outcomes.cs.mean()),
        "risk_us": float(outcomes.us.mean()),
    }
    if sup is not None:
        values["risk_sup"] = float(sup.mean())
    return PaperReference(
        risks=values,
        components=components(values),
        alpha=alpha,
        tuning_errors={risk: result[1] for risk, result in studies.items()},
        subset=subset,
        tuning_classes=chosen,
        first_half=first,
        second_half=second,
        outcomes=outcomes,
    )
