"""The result of a decomposition as plain, typed values: what ran, on what, what came out."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ssl_risk_rs._notes import Note
from ssl_risk_rs.results.estimate import Estimate
from ssl_risk_rs.results.judgements import Judgements
from ssl_risk_rs.results.quantities import QUANTITIES, components

if TYPE_CHECKING:
    import os
    from pathlib import Path

    import polars as pl

__all__ = ["Bottleneck", "Decomposition", "FitRecord", "Floor", "Method", "Penalty", "Sizes"]


@dataclass(frozen=True, slots=True)
class Method:
    """What ran, whatever was asked for.

    Attributes
    ----------
    probe : "logistic" or "ridge"; protocol : "strict" or "paper"; scaling : "none", "standardize", "minmax"
    seed : of the splits; tol, tuning_tol : relative suboptimality of fits that are judged, of fits that only tune
    max_passes : of a logistic fit; confidence : of the intervals
    random_counts : class counts vary from sample to sample; n_threads : None for all cores
    """

    probe: str
    protocol: str
    scaling: str
    seed: int
    tol: float
    tuning_tol: float
    max_passes: int
    confidence: float
    random_counts: bool = False
    n_threads: int | None = None


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


@dataclass(frozen=True, slots=True)
class Penalty:
    """A penalty and how it was found.

    Attributes
    ----------
    value : α in units of the mean variance of the scaled features
    absolute : α on weights in scaled coordinates, as the solver took it
    grid : values tried, ascending; errors : what each cost, in rows
    inside : whether weaker and stronger ones were tried; None where it was not tuned
    """

    value: float
    absolute: float
    grid: tuple[float, ...] = ()
    errors: tuple[int, ...] = ()
    inside: bool | None = None


@dataclass(frozen=True, slots=True)
class FitRecord:
    """What is known of one fit; `alpha` as the solver took it, `stop` the rule that ended it."""

    role: str
    probe: str
    alpha: float
    n: int
    converged: bool
    stop: str
    passes: float
    reduced_passes: float
    gap: float | None
    objective: float | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Floor:
    """What R_AF rests on.

    Attributes
    ----------
    risk_above : R_AF one decade above the floor (NaN where there is no floor)
    on_test : error of the floor probe on the test rows, H; its ratio to R_AF says how optimistic R_AF is
    separable : the floor probe makes no error on its own rows
    """

    risk_above: float = math.nan
    sup_above: float = math.nan
    on_test: float = math.nan
    separable: bool = False


@dataclass(frozen=True, slots=True)
class Bottleneck:
    """The largest component.

    `probability` : that it is the largest, over samples and between the floor and one decade above it; None where
    the components are not identified.
    """

    quantity: str
    probability: float | None


@dataclass(frozen=True, eq=False)
class Decomposition:
    """The decomposition of one probe's error; `components` and `risks` are polars frames."""

    name: str
    method: Method
    sizes: Sizes
    penalties: Mapping[str, Penalty]
    estimates: Mapping[str, Estimate]
    #: covariance of the risks named in `covariance_of`
    covariance: np.ndarray = field(repr=False)
    covariance_of: tuple[str, ...]
    beta: float
    #: variance that the probe's own variation adds to R_US, R_CS and R_AS; NaN where it could not be estimated
    probe_variance: float
    bottleneck: Bottleneck
    floor: Floor
    fits: tuple[FitRecord, ...] = field(repr=False)
    notes: tuple[Note, ...]
    seconds: float
    judgements: Judgements | None = field(repr=False, default=None)
    control: "Decomposition | None" = None

    @property
    def supervised(self) -> bool:
        """Whether a twin gave the approximation error."""
        return "approx" in self.estimates

    @property
    def component_names(self) -> tuple[str, ...]:
        """Components that sum to the aggregated risk."""
        return components(supervised=self.supervised)

    @property
    def converged(self) -> bool:
        """Whether every fit reached its tolerance."""
        return all(fit.converged for fit in self.fits)

    def estimate(self, quantity: str) -> float:
        """Point estimate of a quantity."""
        return self.estimates[quantity].estimate

    @property
    def components(self) -> "pl.DataFrame":
        """component, estimate, se, low, high, n, n_groups, df, grade"""
        kinds = ("component", "detail", "total")
        return _frame("component", [e for n, e in self.estimates.items() if QUANTITIES[n].kind in kinds])

    @property
    def risks(self) -> "pl.DataFrame":
        """risk, estimate, se, low, high, n, n_groups, df, grade"""
        return _frame("risk", [e for n, e in self.estimates.items() if QUANTITIES[n].kind == "risk"])

    def with_control(self, control: "Decomposition | None") -> "Decomposition":
        """The same with a control encoder's decomposition beside it."""
        return replace(self, control=control)

    def save(self, path: "os.PathLike[str] | str", *, force: bool = False) -> "Path":
        """Write a run folder; see `Run.save`."""
        from ssl_risk_rs.results.run import Run

        return Run.of(self).save(path, force=force)

    def __str__(self) -> str:
        from ssl_risk_rs.results.run import Run

        return str(Run.of(self))

    def _repr_html_(self) -> str:
        from ssl_risk_rs.results.run import Run

        return Run.of(self)._repr_html_()


def _frame(key: str, estimates: list[Estimate]) -> "pl.DataFrame":
    import polars as pl

    columns: dict[str, list[Any]] = {
        key: [e.quantity for e in estimates],
        **{name: [getattr(e, name) for e in estimates] for name in ("estimate", "se", "low", "high", "n", "n_groups")},
        "df": [e.df for e in estimates],
        "grade": [e.grade.value for e in estimates],
    }
    return pl.DataFrame(columns, schema_overrides={"n_groups": pl.Int64, "n": pl.Int64})
