"""Representations and labels → five risks → four signed components with intervals.

Arrays or a feature bank come in; which encoder made them is never asked. Protocols: `strict` (default)
never lets a choice see the rows it is judged on; `paper` copies the choices of Dubois et al. 2023, tuning
on the evaluation rows included. Definitions and names: docs/decomposition.md.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ssl_risk_rs import _core
from ssl_risk_rs.errors import ParameterError, ShapeError
from ssl_risk_rs.uncertainty import Uncertainty, components, quantify

if TYPE_CHECKING:
    import polars as pl

Probe = Literal["logistic", "ridge"]
Protocol = Literal["strict", "paper"]
Progress = Callable[[str], None]

#: penalties tried first, strong to weak; extended while the strong end wins
ALPHAS = (1e-2, 1e-3, 1e-4, 1e-5)
#: ends of the extended grid: weaker is the floor of R_AF, stronger leaves only the intercept
ALPHA_RANGE = (1e-5, 1e3)
#: ridge tunes on at most this many held-out rows of a fold: judging costs n·d·k for each penalty
MAX_TUNING_ROWS = 20_000
#: the risk one decade above the floor, which is only printed, is judged on at most this many rows (ridge)
MAX_SENSITIVITY_ROWS = 100_000
#: relative suboptimality of fits that only choose a penalty or lead to the floor
TUNING_TOL = 1e-3
#: products of a logistic pass (n·d·k) from which one fold is judged instead of all, and one subset is held out:
#: about ten minutes and about an hour of tuning on two cores
ONE_FOLD_PRODUCTS = 5e10
ONE_SUBSET_PRODUCTS = 5e11


@dataclass(frozen=True, slots=True)
class Settings:
    """How a decomposition is computed; every field is in the record of a run."""

    probe: Probe = "logistic"
    protocol: Protocol = "strict"
    scaling: Literal["none", "standardize", "minmax"] = "standardize"
    n_folds: int = 5
    #: folds judged while tuning; None: all, or one where five logistic paths would take too long
    tuning_folds: int | None = None
    #: held-out subsets, 1 to 3; None: 3, or one where a logistic fit takes minutes
    n_subsets: int | None = None
    #: rows of one held-out subset; None: as many as test rows, together at most 20 % of the training rows
    subset_size: int | None = None
    #: penalty of R_AF and R_ΦF, in scaled coordinates: an infimum over all probes has no minimizer to tune
    floor: float = 1e-5
    #: of the fits that are judged, those that only tune take TUNING_TOL: errors are then within half a standard
    #: error of the optimum's, R_AF within 0.05 point (docs/decisions/0003-logistic-solver.md)
    tol: float = 3e-4
    max_passes: int = 300
    confidence: float = 0.95
    random_counts: bool = False
    seed: int = 0
    n_threads: int | None = None

    def validate(self) -> None:
        """Raise ParameterError for a field out of its range."""
        if self.probe not in ("logistic", "ridge"):
            raise ParameterError(f"probe must be 'logistic' or 'ridge', got {self.probe!r}")
        if self.protocol not in ("strict", "paper"):
            raise ParameterError(f"protocol must be 'strict' or 'paper', got {self.protocol!r}")
        if self.n_subsets is not None and not 1 <= self.n_subsets <= 3:
            raise ParameterError(f"splits must be 1, 2 or 3, got {self.n_subsets}")
        if self.n_folds < 2:
            raise ParameterError(f"at least 2 folds are needed to tune a penalty, got {self.n_folds}")
        if self.tuning_folds is not None and not 1 <= self.tuning_folds <= self.n_folds:
            raise ParameterError(f"{self.tuning_folds} folds cannot be judged: there are {self.n_folds}")
        if not 0 < self.confidence < 1:
            raise ParameterError(f"confidence must lie between 0 and 1, got {self.confidence}")
        if not self.floor > 0:
            raise ParameterError(f"the floor must be positive, got {self.floor}")


@dataclass(frozen=True, slots=True)
class FitRecord:
    """What is known about one fit; penalties in scaled coordinates."""

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
class Task:
    """Features of one encoder with labels and the roles of the rows.

    features : float16/float32 array (n, d), list of such (rows follow each other), or `_core.Bank`
    labels : uint32 (n,), train_rows and test_rows : uint32, keys : uint64 (n,) pseudo-random by sample
    """

    features: Any
    labels: np.ndarray
    train_rows: np.ndarray
    test_rows: np.ndarray
    keys: np.ndarray
    class_names: tuple[str, ...]

    @property
    def n_classes(self) -> int:
        """k"""
        return len(self.class_names)


@dataclass(frozen=True)
class Decomposition:
    """Result of :func:`decompose`; `components` and `risks` are polars frames."""

    name: str
    settings: Settings
    uncertainty: Uncertainty
    sizes: dict[str, int]
    alphas: dict[str, float]
    fits: tuple[FitRecord, ...]
    notes: tuple[str, ...]
    sensitivity: float
    supervised: bool
    outcomes: dict[str, np.ndarray] = field(repr=False)
    class_names: tuple[str, ...] = field(repr=False)
    seconds: float = 0.0
    control: "Decomposition | None" = None

    def estimate(self, quantity: str) -> float:
        """Point estimate of a risk or component."""
        return self.uncertainty.estimates[quantity].estimate

    @property
    def converged(self) -> bool:
        """Whether every fit reached its tolerance."""
        return all(fit.converged for fit in self.fits)

    @property
    def components(self) -> "pl.DataFrame":
        """component, estimate, se, low, high, n, conservative"""
        names = components(supervised=self.supervised, detail=True)
        return _frame("component", [self.uncertainty.estimates[n] for n in names])

    @property
    def risks(self) -> "pl.DataFrame":
        """risk, estimate, se, low, high, n, conservative"""
        return _frame("risk", [e for n, e in self.uncertainty.estimates.items() if n.startswith("risk_")])

    def save(self, path: Any, **kwargs: Any) -> Any:
        """Write the run folder; see :func:`ssl_risk_rs.results.save_run`."""
        from ssl_risk_rs.results import save_run

        return save_run(path, [self], **kwargs)


def _frame(key: str, estimates: list[Any]) -> "pl.DataFrame":
    import polars as pl

    return pl.DataFrame([asdict(e) for e in estimates]).rename({"quantity": key})


def decompose(
    features: Any,
    y: Any = None,
    X_test: Any = None,
    y_test: Any = None,
    *,
    supervised: Any = None,
    supervised_test: Any = None,
    control: Any = None,
    sample_ids: Sequence[str] | None = None,
    name: str = "features",
    settings: Settings | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Decomposition:
    """Split the error of a linear probe into approximation, usability, probe and encoder generalization.

    Parameters
    ----------
    features : FeatureBank, or array of shape (n_train, n_features)
        Representations; float16 or float32 are used as they lie, float64 is converted.
    y : array of shape (n_train,); X_test : (n_test, n_features); y_test : (n_test,)
        With arrays only. Labels may be any values numpy can sort.
    supervised : FeatureBank or array (n_train, d_s), with `supervised_test` unused
        The supervised twin's representations of the same training rows; gives the approximation error.
    control : FeatureBank or pair of arrays (train, test)
        Representations that cannot have memorized an image; measures the data's own train-test shift.
    sample_ids : sequence of str, optional
        Identity of each row, training rows first: splits depend on them, not on row order. Default: the
        row number, so that splits follow the order of the rows given.
    settings : Settings, or its fields as keyword options (probe, protocol, seed, …)

    Returns
    -------
    Decomposition

    Raises
    ------
    ShapeError, ParameterError, BankError; KeyboardInterrupt on ^C.

    Notes
    -----
    Dubois et al. 2023 (arXiv 2302.03068), section 3; docs/decomposition.md.
    """
    settings = settings or Settings(**options)
    settings.validate()
    task = make_task(features, y, X_test, y_test, sample_ids)
    twin = None if supervised is None else _matching(task, supervised, supervised_test, "supervised")
    blind = None
    if control is not None:
        control_train, control_test = control if isinstance(control, tuple) else (control, None)
        blind = _matching(task, control_train, control_test, "control")
    return decompose_task(task, supervised=twin, control=blind, name=name, settings=settings, progress=progress)


def make_task(features: Any, y: Any, X_test: Any, y_test: Any, sample_ids: Sequence[str] | None) -> Task:
    """Check what the caller gave and bring it into one form."""
    if hasattr(features, "core"):  # a FeatureBank
        if y is not None or X_test is not None:
            raise ParameterError("a feature bank holds its labels and splits: give no y and no X_test")
        labels = features.labels().astype(np.uint32)
        samples = features.samples
        keys = _core.sample_keys(samples["sample_id"].to_list(), 0)
        names = features.class_names or [str(c) for c in range(int(labels.max(initial=0)) + 1)]
        train, test = features.rows("train"), features.rows("test")
        return _checked(Task(features.core, labels, train, test, keys, tuple(names)))
    if y is None or X_test is None or y_test is None:
        raise ParameterError("arrays come as X_train, y_train, X_test, y_test: all four are needed")
    train_x, test_x = as_features(features, "X_train"), as_features(X_test, "X_test")
    y, y_test = np.asarray(y).ravel(), np.asarray(y_test).ravel()
    for x, labels, which in ((train_x, y, "train"), (test_x, y_test, "test")):
        if len(x) != len(labels):
            raise ShapeError(f"y_{which} has {len(labels)} labels, X_{which} has {len(x)} rows")
    if train_x.shape[1] != test_x.shape[1]:
        raise ShapeError(f"X_train has {train_x.shape[1]} features, X_test has {test_x.shape[1]}")
    classes, encoded = np.unique(np.concatenate([y, y_test]), return_inverse=True)
    n = len(y)
    ids = [str(i) for i in range(n + len(y_test))] if sample_ids is None else list(sample_ids)
    if len(ids) != n + len(y_test):
        raise ShapeError(f"sample_ids has {len(ids)} entries, expected {n + len(y_test)} (train, then test)")
    return _checked(
        Task(
            features=[train_x, test_x],
            labels=encoded.astype(np.uint32),
            train_rows=np.arange(n, dtype=np.uint32),
            test_rows=np.arange(n, n + len(y_test), dtype=np.uint32),
            keys=_core.sample_keys(ids, 0),
            class_names=tuple(str(c) for c in classes),
        )
    )


def as_features(x: Any, name: str) -> np.ndarray:
    """A C-contiguous float16 or float32 array (n, d)."""
    x = np.asanyarray(x)
    if x.ndim != 2:
        raise ShapeError(f"{name} has shape {x.shape}, expected (n_samples, n_features)")
    if x.dtype not in (np.float16, np.float32):
        if x.dtype.kind not in "fiub":
            raise ParameterError(f"{name} has dtype {x.dtype}, expected numbers")
        x = x.astype(np.float32)
    return np.ascontiguousarray(x)


def _checked(task: Task) -> Task:
    if len(task.train_rows) == 0 or len(task.test_rows) == 0:
        raise ParameterError(f"{len(task.train_rows)} training and {len(task.test_rows)} test rows: both are needed")
    n_present = len(np.unique(task.labels[task.train_rows]))
    if n_present < 2:
        raise ParameterError(f"the training rows have {n_present} class: a probe needs at least two")
    return task


def _matching(task: Task, features: Any, test: Any, role: str) -> Any:
    """Other features in the rows of `task`."""
    if hasattr(features, "core"):
        other = features.labels()
        if not np.array_equal(other, task.labels):
            raise ShapeError(f"the {role} bank has other rows than the features: extract both from one data set")
        return features.core
    x = as_features(features, role)
    if len(x) != len(task.train_rows):
        raise ShapeError(f"{role} has {len(x)} rows, expected {len(task.train_rows)} (training rows)")
    if test is None:
        return [x]
    t = as_features(test, f"{role}_test")
    if len(t) != len(task.test_rows):
        raise ShapeError(f"{role}_test has {len(t)} rows, expected {len(task.test_rows)} (test rows)")
    return [x, t]


def decompose_task(
    task: Task,
    *,
    supervised: Any,
    control: Any,
    name: str,
    settings: Settings,
    progress: Progress | None = None,
) -> Decomposition:
    """:func:`decompose` on checked input; `supervised` and `control` are features in the task's rows."""
    from ssl_risk_rs import protocols

    say = progress or (lambda message: None)
    began = time.perf_counter()
    run = protocols.strict if settings.protocol == "strict" else protocols.paper
    judged = run(task, supervised, settings, say)
    strict = settings.protocol == "strict"
    uncertainty = quantify(
        judged.outcomes,
        n_subsets=judged.n_subsets,
        supervised=supervised is not None,
        control_variate=strict,
        confidence=settings.confidence,
        random_counts=settings.random_counts,
        seed=settings.seed,
    )
    blind = None
    if control is not None:
        say("control encoder")
        blind = decompose_task(
            Task(control, task.labels, task.train_rows, task.test_rows, task.keys, task.class_names),
            supervised=None,
            control=None,
            name="control",
            settings=settings,
            progress=None,
        )
    return Decomposition(
        name=name,
        settings=settings,
        uncertainty=uncertainty,
        sizes=judged.sizes,
        alphas=judged.alphas,
        fits=tuple(judged.fits),
        notes=tuple(judged.notes),
        sensitivity=judged.sensitivity,
        supervised=supervised is not None,
        outcomes=judged.records,
        class_names=task.class_names,
        seconds=time.perf_counter() - began,
        control=blind,
    )
