"""What a decomposition records, as plain, typed values: what ran, on how much, at which penalties, by which fits."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ssl_risk_rs._limits import Scaling
from ssl_risk_rs.results.estimate import Estimate
from ssl_risk_rs.results.quantities import QUANTITIES, Order

__all__ = [
    "Bottleneck", "FitRecord", "Floor", "Headline", "Method", "Penalty", "Probe", "ProbeVariation", "Protocol", "Sizes",
    "Stop", "TuneOn",
]  # fmt: skip

Probe = Literal["logistic", "ridge"]
Protocol = Literal["strict", "paper"]
#: what a penalty is tuned on: the 0-1 error, or its mean over classes
TuneOn = Literal["error", "balanced"]
#: rule that ended a fit; "left": it only tuned, and was clearly worse than another before its end
Stop = Literal["certified", "estimated", "error_estimated", "stalled", "max_passes", "left", "closed_form"]
#: what errors are: the 0-1 error of classes, 1 − R² of numbers, 1 − AUROC of labels
Headline = Literal["error", "r2", "auroc"]


@dataclass(frozen=True, slots=True)
class ProbeVariation:
    """How much errors vary with the sample of training rows that their probe is fitted on.

    Attributes
    ----------
    test, held : variance of the error on test rows, and on held-out training rows
    both : their covariance; all are NaN where they could not be estimated

    The penalty that such a sample chooses is another in some of them, which is part of it.
    """

    test: float
    held: float
    both: float

    @classmethod
    def alike(cls, variance: float) -> "ProbeVariation":
        """Where only test rows were judged: a refitted probe moves both errors by the same."""
        return cls(variance, variance, variance)

    @classmethod
    def mean(cls, every: "Sequence[ProbeVariation]") -> "ProbeVariation":
        """The mean of those that could be estimated."""
        there = [(v.test, v.held, v.both) for v in every if v.known]
        return cls(*np.mean(there, axis=0).tolist()) if there else cls.alike(math.nan)

    @property
    def known(self) -> bool:
        """Whether it could be estimated."""
        return not math.isnan(self.test)

    def at_least(self, variance: float) -> "ProbeVariation":
        """With this variance of the error on held-out rows, where it was estimated as less: what is lacking moves both
        errors alike."""
        lacking = variance - self.held
        return ProbeVariation(*(v + lacking for v in (self.test, self.held, self.both))) if lacking > 0 else self

    def plus(self, other: "ProbeVariation") -> "ProbeVariation":
        """With variances that come from something else; NaN where either could not be estimated."""
        return ProbeVariation(self.test + other.test, self.held + other.held, self.both + other.both)

    def less(self, other: "ProbeVariation") -> "ProbeVariation":
        """Without variances that come from something else."""
        return ProbeVariation(self.test - other.test, self.held - other.held, self.both - other.both)

    def covariance(self, risks: Sequence[str], *, of_choice: bool = False) -> np.ndarray:
        """What it adds to the covariance of these risks, (r, r); 0 where it could not be estimated.

        of_choice : it is what the choice of the penalty adds
        """
        of = [QUANTITIES[risk].tuned_weights if of_choice else QUANTITIES[risk].probe_weights for risk in risks]
        t, h = np.array(of).T
        if not self.known:
            return np.zeros((len(risks), len(risks)))
        return np.asarray(
            self.test * np.outer(t, t) + self.held * np.outer(h, h) + self.both * (np.outer(t, h) + np.outer(h, t))
        )

    def of(self, on_test: float, on_held: float) -> float:
        """Variance of a sum of the two errors with these weights."""
        return max(0.0, on_test**2 * self.test + on_held**2 * self.held + 2 * on_test * on_held * self.both)


@dataclass(frozen=True, slots=True)
class Method:
    """What ran, whatever was asked for.

    Attributes
    ----------
    probe : "logistic" or "ridge"; protocol : "strict" or "paper"; scaling : "none", "standardize", "minmax"
    seed : of the splits; tol, tuning_tol : relative suboptimality of fits that are judged, of fits that only tune
    max_passes : of a logistic fit; confidence : of the intervals
    random_counts : class counts vary from sample to sample; n_threads : None for all cores
    device : what the rows lay on, "cpu" or names of GPUs
    metric : what errors are
    order : of the decomposition: "paper", "alternative" or "both"
    error_tol : training error by which logistic fits at the floor may miss that of the minimum, by estimate; None where
        they end by `tol` alone
    view : number of the augmented view of the images that the features are of; None: of images as they are
    tuned_on : the error that penalties are tuned on
    """

    probe: Probe
    protocol: Protocol
    scaling: Scaling
    seed: int
    tol: float
    tuning_tol: float
    max_passes: int
    confidence: float
    random_counts: bool = False
    n_threads: int | None = None
    device: str = "cpu"
    metric: Headline = "error"
    order: Order = "paper"
    error_tol: float | None = None
    view: int | None = None
    tuned_on: TuneOn = "error"


@dataclass(frozen=True, slots=True)
class Overlap:
    """How many test rows are training rows too, told by the bytes of their images or by every feature."""

    by: Literal["images", "features"]
    rows: int


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything there was. Groups are None where rows have none."""

    train: int
    test: int
    classes: int
    features: int
    subsets: int
    #: rows of the held-out subsets
    subset_rows: tuple[int, ...]
    folds: int
    folds_judged: int
    twin_features: int | None = None
    constant_features: int = 0
    constant_twin_features: int = 0
    groups_train: int | None = None
    groups_subset: int | None = None
    groups_test: int | None = None
    #: 0-1 error of always predicting the most frequent training class, on the test rows
    chance: float = math.nan
    #: held-out subsets that were planned, and rows of each: whole groups come only near; None in older records
    planned_subsets: int | None = None
    planned_rows: int | None = None
    #: None in older records
    overlap: Overlap | None = None


@dataclass(frozen=True, slots=True)
class Penalty:
    """A penalty and how it was found.

    Attributes
    ----------
    value : α in units of the mean variance of the scaled features
    absolute : α on weights in scaled coordinates, as the solver took it
    grid : values tried, ascending; errors : what each cost, in rows
    inside : whether weaker and stronger ones were tried; None where it was not tuned
    losses : instead of errors mean losses, where targets are numbers or labels, or class-balanced errors, where these
        tuned it
    rows : how many held-out rows each value was judged on, fewer for those that left as clearly worse; empty where it
        was not recorded
    """

    value: float
    absolute: float
    grid: tuple[float, ...] = ()
    errors: tuple[int, ...] = ()
    inside: bool | None = None
    losses: tuple[float, ...] = ()
    rows: tuple[int, ...] = ()

    @property
    def cost(self) -> float | None:
        """What the value cost on the held-out rows that chose it: their error, or mean loss. None where it was not
        tuned, or an older record does not say how many rows there were."""
        if self.value not in self.grid:
            return None
        place = self.grid.index(self.value)
        if self.losses:
            return self.losses[place]
        return self.errors[place] / self.rows[place] if self.errors and self.rows else None


@dataclass(frozen=True, slots=True)
class FitRecord:
    """What is known of one fit; `alpha` as the solver took it, `stop` the rule that ended it."""

    role: str
    probe: Probe
    alpha: float
    n: int
    converged: bool
    stop: Stop
    passes: float
    reduced_passes: float
    gap: float | None
    objective: float | None
    seconds: float

    @property
    def missed(self) -> bool:
        """Whether it ended before what was wanted of it."""
        return not self.converged and self.stop != "left"

    def unproven(self, tol: float) -> bool:
        """Whether an estimate ended it, and no bound shows that it is within a tolerance of its minimum."""
        return self.stop in ("estimated", "error_estimated") and (self.gap or 0.0) > tol


@dataclass(frozen=True, slots=True)
class Floor:
    """What R_AF rests on.

    Attributes
    ----------
    risk_above : R_AF one decade above the floor (NaN where there is no floor)
    on_test : error of the floor probe on the test rows, H; its ratio to R_AF says how optimistic R_AF is
    separable : the floor probe makes no error on its own rows; of numbers and labels, its loss there is next to nothing
        beside that on test rows
    """

    risk_above: float = math.nan
    sup_above: float = math.nan
    on_test: float = math.nan
    separable: bool = False

    def rises(self, estimates: Mapping[str, Estimate]) -> dict[str, float]:
        """By how much each risk of a floor probe is larger one decade above the floor: R_UF, of the same probe as R_AF,
        as much as that."""
        found: dict[str, float] = {}
        for risks, above in ((("risk_af", "risk_uf"), self.risk_above), (("risk_sup",), self.sup_above)):
            if risks[0] in estimates and math.isfinite(above):
                found |= dict.fromkeys(risks, above - estimates[risks[0]].estimate)
        return found


@dataclass(frozen=True, slots=True)
class Bottleneck:
    """The largest component.

    `probability` : that it is the largest, over samples and between the floor and one decade above it; None where
    usability and probe generalization are not told apart (`Floor.separable`) and no other part is surely larger than
    both together, or a part has no interval.
    """

    quantity: str
    probability: float | None
