"""How a decomposition is asked for."""

import math
from dataclasses import dataclass, fields
from numbers import Real
from typing import Any, Literal, get_args

import numpy as np

from ssl_risk_rs._limits import (
    MOST_PARTS,
    MOST_PASSES,
    MOST_ROWS,
    MOST_SEED,
    MOST_SUBSETS,
    MOST_THREADS,
    Scaling,
    check_choice,
    check_confidence,
    check_flag,
    check_positive,
    check_tolerance,
    check_whole,
)
from ssl_risk_rs.errors import ParameterError
from ssl_risk_rs.results.fewshot import Shots, names_of
from ssl_risk_rs.results.metrics import parse_metrics, refuse_probabilities
from ssl_risk_rs.results.quantities import Order
from ssl_risk_rs.results.record import Probe, Protocol, TuneOn

__all__ = ["Probe", "Protocol", "Settings", "passes_for", "products_of_pass"]

#: products n·d·k below which a tight tolerance costs nothing that is noticed. There 3e-4 moved a quantity by half a
#: standard error in 7 of 21 runs, and 1e-5 still chose another penalty in 2 of 24, by one row; 1e-6 takes as long
SMALL_PRODUCTS = 1e8
TIGHT_TOL = 1e-6
#: of larger fits that are judged; errors are then within half a standard error of the optimum's
TOL = 3e-4
#: of larger fits that only choose a penalty or lead to the floor
TUNING_TOL = 1e-3
#: training error by which larger fits at the floor and a decade above may miss that of the minimum, by estimate:
#: nothing else is wanted of them, and there the objective goes on falling long after it (decision 19)
ERROR_TOL = 2.5e-4
FLOOR = 1e-5
#: of the authors of the paper
PAPER_SEED = 123
N_FOLDS = 5
#: whole numbers that may be None → least and most
_OPTIONAL = {
    "tuning_folds": (1, MOST_PARTS), "n_subsets": (1, MOST_SUBSETS), "subset_size": (1, MOST_ROWS),
    "seed": (0, MOST_SEED), "max_passes": (1, MOST_PASSES), "n_threads": (1, MOST_THREADS),
}  # fmt: skip


def products_of_pass(n: int, d: int, k: int) -> int:
    """Products of a pass of a logistic fit of n rows, d features and k classes: fewer rows are fitted in their span."""
    return n * min(n, d) * k


def passes_for(products: int) -> int:
    """Passes of a fit at most, where a caller does not say."""
    return 3000 if products < SMALL_PRODUCTS else 300


@dataclass(frozen=True, slots=True)
class Settings:
    """What is asked for. `None` leaves a choice to the size of the data; the record says what ran.

    Raises
    ------
    ParameterError for a field out of its range, or one that the protocol would ignore.

    Attributes
    ----------
    probe : "logistic", the paper's, or "ridge"
    protocol : "strict" or "paper"
    scaling : of the features, from the probe's own training rows; None: "standardize", under `paper` "none"
    n_folds : that the penalty is tuned on; tuning_folds : how many of them are judged
    n_subsets : held-out subsets of training rows, 1 to 3; subset_size : rows of each
    floor : penalty of R_AF and R_ΦF, in units of the mean variance of the scaled features: an infimum over all
        probes has no minimizer to tune for
    midpoint : also fit the complements at the floor, for the midpoint of R_AF and of the error on held-out rows
    tol : relative suboptimality of logistic fits, as `LogisticProbe`'s, of those at the floor too
    max_passes : of each over the rows, None for 300, or 3,000 where a pass takes milliseconds at most
    confidence : of the intervals
    metrics : the quantities are given in these as well as in the 0-1 error: "balanced", "top5", "log_loss", "ece", as a
        sequence or joined by commas
    tune_on : the error that penalties are tuned on: "error", or "balanced", the mean over classes
    random_counts : class counts vary from sample to sample, which widens the intervals
    shared_groups : "refuse" or "warn" where a group has rows in train and test
    overlap : "refuse" or "warn" where test images are training images; None: refuse under `strict`
    shots : few-shot sizes to decompose as well: "1%,30,5,3", a sequence of such sizes, "auto" for those of these four
        that the data allow, or None; draws : of each size, None for 10 to 20 by their spread
    labels_for : errors (fractions) that the number of labels is wanted for
    order : of the decomposition: "paper" (through R_AS), "alternative" (through R_UF), or "both" with their mean;
        the last two cost one more fit
    seed : of the splits
    device : "auto" (a GPU where there is one and the rows are many enough to pay for it), "cpu", "cuda", "cuda:1", or
        several joined by commas, which share the rows
    n_threads : None for all cores
    """

    probe: Probe = "logistic"
    protocol: Protocol = "strict"
    scaling: Scaling | None = None
    n_folds: int = N_FOLDS
    tuning_folds: int | None = None
    n_subsets: int | None = None
    subset_size: int | None = None
    floor: float = FLOOR
    midpoint: bool | None = None
    tol: float | None = None
    max_passes: int | None = None
    confidence: float = 0.95
    metrics: str | tuple[str, ...] = ("error",)
    tune_on: TuneOn = "error"
    random_counts: bool = False
    shared_groups: Literal["refuse", "warn"] | None = None
    overlap: Literal["refuse", "warn"] | None = None
    shots: Shots | None = None
    draws: int | None = None
    labels_for: tuple[float, ...] | None = None
    order: Order = "paper"
    seed: int | None = None
    device: str = "auto"
    n_threads: int | None = None

    def __post_init__(self) -> None:
        """numpy's numbers become Python's, which records hold, and arrays tuples; metrics and few-shot sizes become
        names in a tuple, however they were given; then all is checked."""
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, np.generic):
                object.__setattr__(self, f.name, value.item())
            elif isinstance(value, np.ndarray):
                object.__setattr__(self, f.name, tuple(value.tolist()))
        object.__setattr__(self, "metrics", tuple(metric.name for metric in parse_metrics(self.metrics)))
        if self.shots not in (None, "auto"):
            object.__setattr__(self, "shots", names_of(self.shots))
        self._validate()

    def asked(self) -> dict[str, Any]:
        """What differs from the defaults and changes numbers, but the probe: a new field changes no old question. Lists
        are sorted, since their order changes no number."""
        how = ("probe", "device", "n_threads")
        given = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in how}
        return {
            name: sorted(set(value)) if isinstance(value, (tuple, list)) else value
            for name, value in given.items()
            if value != getattr(_DEFAULTS, name)
        }

    def _validate(self) -> None:
        check_choice("probe", self.probe, get_args(Probe))
        check_choice("protocol", self.protocol, get_args(Protocol))
        if self.scaling is not None:
            check_choice("scaling", self.scaling, get_args(Scaling))
        check_choice("order", self.order, get_args(Order))
        check_choice("tune_on", self.tune_on, get_args(TuneOn))
        for name in ("shared_groups", "overlap"):
            if getattr(self, name) is not None:
                check_choice(name, getattr(self, name), ("refuse", "warn"))
        check_flag("random_counts", self.random_counts)
        if self.midpoint is not None:
            check_flag("midpoint", self.midpoint)
        check_whole("n_folds", self.n_folds, 2, MOST_PARTS)
        for name, (least, most) in _OPTIONAL.items():
            if (value := getattr(self, name)) is not None:
                check_whole(name, value, least, most)
        if self.tuning_folds is not None and self.tuning_folds > self.n_folds:
            raise ParameterError(f"{self.tuning_folds} folds cannot be judged: there are {self.n_folds}")
        check_confidence(self.confidence)
        check_positive("floor", self.floor, math.inf)
        if self.tol is not None:
            check_tolerance(self.tol)
        refuse_probabilities(self.probe, parse_metrics(self.metrics))
        self._validate_shots()
        if self.protocol == "paper":
            self._refuse_what_the_paper_fixes()

    def _validate_shots(self) -> None:
        if self.shots is None:
            if self.draws is not None or self.labels_for is not None:
                raise ParameterError("draws and labels for an error belong to few-shot sizes: give --shots as well")
            return
        if self.draws is not None:
            check_whole("draws", self.draws, 0, MOST_ROWS)
        if self.draws is not None and self.draws < 2:
            count = f"{self.draws} draw{'' if self.draws == 1 else 's'}"
            raise ParameterError(
                f"{count} of few-shot rows cannot show how much draws differ: at least 2 are needed, and 10 are better"
            )
        if not isinstance(self.labels_for, (tuple, list, type(None))):
            raise ParameterError(f"labels_for must be errors, such as (0.2, 0.1), got {self.labels_for!r}")
        for error in self.labels_for or ():
            if not (isinstance(error, Real) and 0 < error < 1):
                shown = f"{100 * error:g} %" if isinstance(error, Real) else repr(error)
                raise ParameterError(f"labels are wanted for an error of {shown}: it must lie between 0 and 100 %")

    def _refuse_what_the_paper_fixes(self) -> None:
        fixed = {
            "scaling": (self.scaling not in (None, "none"), "the authors scale nothing"),
            "splits": (self.n_subsets not in (None, 1), "the authors hold out one subset"),
            "subset_size": (self.subset_size is not None, "their subset has as many rows as the test set"),
            "seed": (self.seed not in (None, PAPER_SEED), f"their seed is {PAPER_SEED}"),
            "floor": (self.floor != FLOOR, "they tune the penalty of R_AF"),
            "folds": (self.n_folds != N_FOLDS or self.tuning_folds is not None, "they tune on halves"),
            "midpoint": (bool(self.midpoint), "they have no floor"),
            "tune-on": (self.tune_on != "error", "the authors tune on the 0-1 error"),
            "shots": (self.shots is not None, "their few-shot rows are among those that R_AS is judged on"),
        }
        for name, (given, reason) in fixed.items():
            if given:
                raise ParameterError(
                    f"--protocol paper fixes {name} ({reason}): leave it out, or use --protocol strict"
                )


_DEFAULTS = Settings()
