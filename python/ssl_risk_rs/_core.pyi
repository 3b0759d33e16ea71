"""Signatures of the Rust extension."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Bank",
    "BankDamage",
    "BankPart",
    "BankVerification",
    "BankWriter",
    "Design",
    "LinearProbe",
    "Kernel",
    "LogisticFit",
    "Moments",
    "__version__",
    "assign_cells",
    "bootstrap_risks",
    "choose_shift",
    "feature_means",
    "fit_logistic",
    "judge",
    "kernels",
    "risk_covariance",
    "sample_keys",
    "solve_ridge_dual",
]

__version__: str

#: A feature bank, a C-contiguous float16 or float32 array (n, d), or a list of such arrays, whose rows
#: follow each other. Borrowed during a call, which runs without the GIL: do not write to it meanwhile.
_Features: TypeAlias = Bank | NDArray[np.float16] | NDArray[np.float32] | list[Any]

@final
class Bank:
    """Rows of a feature bank, mapped from disk; a snapshot of the moment it was opened.

    Solvers accept one in place of an array. `FeatureBank` adds samples and header.
    """

    @staticmethod
    def open(path: str | os.PathLike[str]) -> Bank:
        """Open the bank in the folder `path`: check manifest, journals, row indexes and sizes, map payloads.

        Raises
        ------
        BankError if there is no bank, a file is damaged, or a row is there twice.
        """

    @property
    def path(self) -> Path:
        """The folder."""

    @property
    def n_rows(self) -> int:
        """Rows of the complete bank."""

    @property
    def n_features(self) -> int:
        """Features of each row."""

    @property
    def dtype(self) -> Literal["float16", "float32"]:
        """Type of the stored features."""

    @property
    def complete(self) -> bool:
        """Whether every row is there."""

    def missing_rows(self) -> NDArray[np.uint64]:
        """Rows that are not there yet, ascending."""

    def parts(self) -> list[BankPart]:
        """The parts, in storage order."""

    def read(
        self,
        rows: NDArray[np.uint64],
        *,
        dtype: Literal["float16", "float32"] | str = "float32",
        n_threads: int | None = None,
    ) -> NDArray[Any]:
        """Copy rows, in the order asked for. Rows that are not in memory are read many at a time.

        Parameters
        ----------
        rows : uint64 array of shape (m,)
        dtype : "float16" only of a float16 bank, whose bytes it copies
        n_threads : default all cores

        Returns
        -------
        array of shape (m, n_features)

        Raises
        ------
        BankError if the bank is incomplete or a file has shrunk; ParameterError for a row beyond it, another
        dtype, or float16 of a float32 bank; KeyboardInterrupt.
        """

    def verify(self, progress: Callable[[int], Any] | None = None) -> BankVerification:
        """Read every committed block again and compare it with the hashes of its journal.

        Parameters
        ----------
        progress : called now and then with the number of rows visited, each row once for payload and once
            for index

        Raises
        ------
        BankError for a damaged manifest, header or journal. Damaged blocks are listed in the result.
        """

@final
class BankPart:
    """A part of a bank: `<name>.npy`, `<name>.rows.npy` and `<name>.journal`."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def rows(self) -> int:
        """Committed rows, those of the journal."""

    @property
    def blocks(self) -> int:
        """Committed blocks."""

    @property
    def header_behind(self) -> bool:
        """Whether an `.npy` header shows fewer rows than are committed; the part's next writer repairs it."""

    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...

@final
class BankDamage:
    """A block whose bytes are not those that were committed."""

    @property
    def part(self) -> str:
        """Name of the part."""

    @property
    def block(self) -> int:
        """Number of the block in its journal, from 0."""

    @property
    def start(self) -> int:
        """First row of the block in the part's files."""

    @property
    def stop(self) -> int:
        """One past its last row there."""

    @property
    def path(self) -> Path:
        """The damaged file."""

@final
class BankVerification:
    """What `Bank.verify` read, and what it found."""

    @property
    def parts(self) -> int:
        """Parts."""

    @property
    def blocks(self) -> int:
        """Committed blocks."""

    @property
    def rows(self) -> int:
        """Committed rows."""

    @property
    def bytes(self) -> int:
        """Bytes hashed."""

    @property
    def damage(self) -> list[BankDamage]:
        """Damaged blocks; empty for a sound bank."""

@final
class BankWriter:
    """The one writer of a part; a context manager. Safe to share between threads."""

    @staticmethod
    def open(path: str | os.PathLike[str], part: str) -> BankWriter:
        """Open the part `part` of the bank in `path`, or make it. What was committed is kept.

        Raises
        ------
        BankError if the part has a writer already; ParameterError unless the name is 1 to 100 letters,
        digits, `_` and `-`.
        """

    @staticmethod
    def open_free(path: str | os.PathLike[str], prefix: str) -> BankWriter:
        """Open the first of the parts `<prefix>-0`, `<prefix>-1`, … that has no writer."""

    @property
    def part(self) -> str:
        """Name of the part."""

    @property
    def committed(self) -> int:
        """Rows committed in this part."""

    def append(self, rows: NDArray[np.uint64], features: NDArray[np.float16 | np.float32]) -> None:
        """Commit a block: on disk when it returns; when it fails, nothing of it counts.

        Waits for the disk twice: give it a few MB at a time.

        Parameters
        ----------
        rows : uint64 array of shape (m,)
            Row of the bank for each line of `features`.
        features : float16 or float32 array of shape (m, n_features)
            Rounded to the bank's dtype.

        Raises
        ------
        ShapeError; ParameterError for NaN, infinity, more than float16 holds (naming the row), a row beyond
        the bank, or one that is there already; OSError, after which the part must be opened again.
        """

    def close(self) -> None:
        """Bring the `.npy` headers to disk and release the part. A writer that dies loses no block."""

    def __enter__(self) -> BankWriter: ...
    def __exit__(self, *_exception: object) -> None: ...

@final
class Moments:
    """Sufficient statistics of rows, by cell: one pass serves every complement, fold, scaling and penalty.

    A row belongs to one cell (a fold or a held-out subset). Each cell keeps class counts, sums by class,
    ranges and Σ (x−c)(x−c)ᵀ with the shift c. Blocks are summed in float32, across blocks in float64.
    Memory: n_cells · n_features² · 8 bytes, half of it for many features.

    >>> shift = choose_shift(x, rows)
    >>> moments = Moments(x.shape[1], 10, n_cells=5, shift=shift)
    >>> moments.update(x, rows, labels, folds)  # again for more rows, or on another machine and then `merge`
    >>> probes = moments.solve([1e-3, 1e-2], cells=[1, 2, 3, 4])  # fold 0 is left out
    >>> moments.save("train.moments"); moments = Moments.load("train.moments")
    """

    def __new__(
        cls,
        n_features: int,
        n_classes: int,
        *,
        n_cells: int = 1,
        shift: NDArray[np.float32] | None = None,
        rounded: bool = False,
    ) -> Moments:
        """No rows yet.

        Parameters
        ----------
        shift : float32 array of shape (n_features,), optional
            c, from `choose_shift`; default 0, which cancels digits where |mean| ≫ standard deviation.
        rounded : bool, default False
            Round x−c to bfloat16 in the products of `update` where this CPU is faster at them. Counts, sums and
            ranges stay exact. Enough for `fit_logistic` unless features are standardized, since the products
            then only shape its steps; not for `solve`. A loaded object is exact again.

        Raises
        ------
        ShapeError; ParameterError if there are no features, classes or cells, or the shift is not finite.
        """

    @property
    def n_features(self) -> int:
        """d"""

    @property
    def n_classes(self) -> int:
        """k, classes without rows included."""

    @property
    def n_cells(self) -> int:
        """Cells."""

    def update(
        self,
        features: _Features,
        rows: NDArray[np.uint32],
        labels: NDArray[np.uint32],
        cells: NDArray[np.uint8],
        *,
        n_threads: int | None = None,
    ) -> None:
        """Add rows, in one pass; unchanged when it fails.

        Parameters
        ----------
        features : n rows
        rows : uint32 array of shape (m,), rows of `features` to add
        labels : uint32 array of shape (n,), class of each row of `features`
        cells : uint8 array of shape (n,), cell of each row of `features`
        n_threads : default all cores; the same number gives the same bits

        Raises
        ------
        ShapeError; ParameterError for a row, label or cell out of range, or a row with NaN or infinity, which
        it names; NumericalError for features whose squares exceed float32; KeyboardInterrupt.
        """

    def merge(self, other: Moments) -> None:
        """Add the rows that `other` saw, cell by cell.

        Raises
        ------
        ParameterError if the two differ in features, shift, classes or cells.
        """

    def subtract(self, other: Moments) -> None:
        """Take away rows that were added before, cell by cell; ranges (min-max scaling) keep their width.

        Raises
        ------
        ParameterError if the two differ in shape or shift, or a class would have fewer than no rows.
        """

    def solve(
        self,
        alphas: list[float],
        cells: list[int] | None = None,
        *,
        scaling: Literal["none", "standardize", "minmax"] | str = "none",
        n_threads: int | None = None,
    ) -> list[LinearProbe]:
        """Solve ridge regression on the union of `cells` (default all), without another look at the rows.

        For each α:  min_W,b  (1/2n) ‖X W + 1bᵀ − Y‖² + (α/2) ‖W‖²      (X scaled by those rows, Y one-hot,
        b is not penalized)

        Parameters
        ----------
        alphas : penalties on the mean loss; scikit-learn's `Ridge(alpha=n_samples * α)`

        Returns
        -------
        A probe for each penalty, from one eigendecomposition; a class without rows has weights and intercept 0.

        Raises
        ------
        ParameterError for a cell that does not exist or is named twice, an unknown scaling, fewer than two classes
        with rows, a penalty that is not positive and finite, or below 1e-5 of the mean variance, where float32 sums no
        longer determine the solution; NumericalError if the eigendecomposition fails.

        Notes
        -----
        The objective agrees with float64 to 1e-6 relative at every penalty accepted (where d > n makes the
        optimum itself vanish, to 1e-9 of the objective without weights), scores to 1e-5 from ten times the
        least one on; at the least one, to 1e-4.
        """

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a safetensors file of the sums, beside `path`, then renamed over what is there.

        Raises
        ------
        OSError
        """

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Moments:
        """Read what `save` wrote: the same bits.

        Raises
        ------
        BankError for a file that is something else, truncated, changed, or holds what no rows give; OSError.
        """

    def design(
        self,
        cells: list[int] | None = None,
        *,
        scaling: Literal["none", "standardize", "minmax"] | str = "none",
    ) -> Design:
        """Statistics of the union of `cells` (default all), in coordinates scaled by those rows.

        Raises
        ------
        ParameterError for a cell that does not exist or is named twice, an unknown scaling, fewer than two classes
        with rows.
        """

def choose_shift(features: _Features, rows: NDArray[np.uint32]) -> NDArray[np.float32]:
    """Shift for `Moments`: 0, or a float16 value near the mean of a feature with |mean| ≫ standard deviation.

    Looks at 2048 rows, strided. There x − c is exact for float16 features (Sterbenz).

    Parameters
    ----------
    rows : uint32 array of shape (m,)

    Returns
    -------
    float32 array of shape (n_features,)

    Raises
    ------
    BankError; ParameterError for a row out of range or features of another kind.
    """

def feature_means(
    features: _Features, rows: NDArray[np.uint32], *, n_threads: int | None = None
) -> NDArray[np.float64]:
    """Mean of each feature over `rows`, in one scan.

    Parameters
    ----------
    features : n rows
    rows : uint32 array of shape (m,); a scan is fastest in ascending order
    n_threads : default all cores

    Returns
    -------
    float64 array of shape (n_features,); sums of 256 rows are float32

    Raises
    ------
    BankError; ParameterError for no rows, one out of range, or one with NaN or infinity, which it names;
    KeyboardInterrupt.
    """

@final
class Design:
    """Statistics of a training set in its scaled, centred coordinates; made by `Moments.design`."""

    @property
    def n_samples(self) -> int:
        """Rows."""

    @property
    def mean_variance(self) -> float:
        """trace of the scaled covariance / d: the unit of penalties on unscaled features."""

    @property
    def alpha_floor(self) -> float:
        """Least penalty of a ridge probe, 1e-5 · `mean_variance`: float32 sums determine no weaker one's solution."""

    @property
    def classes(self) -> list[int]:
        """Classes that have rows, ascending."""

    def ridge_errors(
        self,
        features: _Features,
        rows: NDArray[np.uint32],
        labels: NDArray[np.uint32],
        alphas: list[float],
        *,
        n_threads: int | None = None,
    ) -> list[int]:
        """Rows that the ridge probe of each penalty predicts wrongly, without forming the probes.

        scores(α) = z diag(1/(λ + α)) Uᵀ Xᵀ(Y − 1πᵀ)/n + π     with the eigendecomposition U diag(λ) Uᵀ of the
        covariance and z = x U in scaled coordinates: one product with U for all penalties.

        Parameters
        ----------
        features, rows, labels : as in `judge`
        alphas : as in `solve_ridge`

        Returns
        -------
        n_alphas counts. With 32 classes or more, where the CPU is faster at it, factors are rounded to bfloat16, so
        that near-ties may fall the other way: made for a choice among penalties, not for a result (that is
        `judge`).

        Raises
        ------
        ShapeError; ParameterError for a penalty below the floor, bad labels, NaN or infinity; NumericalError for scores
        that are not finite.
        """

    def solve_ridge(
        self, alphas: list[float], *, reuse: bool = True, n_threads: int | None = None
    ) -> list[LinearProbe]:
        """Solve ridge regression on one-hot labels for several penalties.

        For each α:  min_W,b  (1/2n) ‖X W + 1bᵀ − Y‖² + (α/2) ‖W‖²      (X scaled, b is not penalized)

        Parameters
        ----------
        alphas : penalties on the mean loss; scikit-learn's `Ridge(alpha=n_samples * α)`
        reuse : whether to make an eigendecomposition, which later calls find; for a penalty or two and no later
            call a Cholesky factorization for each is ten times as fast

        Returns
        -------
        A probe for each penalty; a class without rows has weights and intercept 0.

        Raises
        ------
        ParameterError for a penalty that is not positive and finite, or below 1e-5 · `mean_variance`, where
        float32 sums no longer determine the solution; NumericalError if the eigendecomposition fails.
        """

@final
class LinearProbe:
    """A linear probe: scores ((x − shift) · scale) W + b. Pickles to the same bits."""

    def __new__(
        cls,
        coef: NDArray[np.float64],
        intercept: NDArray[np.float64],
        shift: NDArray[np.float32] | None = None,
        scale: NDArray[np.float32] | None = None,
    ) -> LinearProbe:
        """A probe of given weights.

        Parameters
        ----------
        coef : float64 array of shape (n_classes, n_features), Wᵀ
        intercept : float64 array of shape (n_classes,)
        shift, scale : float32 arrays of shape (n_features,), default 0 and 1

        Raises
        ------
        ShapeError; ParameterError for values that are not finite.
        """

    def __reduce__(self) -> tuple[Any, tuple[NDArray[Any], ...]]: ...
    @property
    def n_classes(self) -> int:
        """k"""

    def raw(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Weights on raw features: coef float64 (n_classes, n_features), intercept float64 (n_classes,)."""

    def scores(
        self, features: _Features, rows: NDArray[np.uint32], *, n_threads: int | None = None
    ) -> NDArray[np.float32]:
        """Scores of `rows`, float32 array of shape (m, n_classes).

        Raises
        ------
        ShapeError for another number of features; ParameterError for a row out of range, NaN or infinity.
        """

@final
class Kernel:
    """A family of products for one instruction set."""

    @property
    def name(self) -> str:
        """As in the environment variable SSL_RISK_KERNEL."""

    @property
    def precision(self) -> Literal["exact", "bfloat16"]:
        """What it keeps of its factors."""

    @property
    def availability(self) -> Literal["usable", "off", "missing"]:
        """Whether this machine can run it; "off" unless the environment asks for it (SSL_RISK_AMX=1)."""

    @property
    def chosen(self) -> bool:
        """Whether products run on it: exact ones, or, with 32 classes or more, those that may be rounded."""

def kernels() -> list[Kernel]:
    """All kernels. The choice follows from the CPU and the environment; nothing is timed.

    Raises
    ------
    ParameterError if SSL_RISK_KERNEL names a kernel that does not exist or that this CPU cannot run.
    """

@final
class LogisticFit:
    """What `fit_logistic` found, and how good it is."""

    @property
    def probe(self) -> LinearProbe:
        """The probe."""

    @property
    def alpha(self) -> float:
        """Its penalty."""

    @property
    def objective(self) -> float:
        """F at the probe."""

    @property
    def gap(self) -> float:
        """Upper bound on (F − min F)/F, up to float32 rounding of a pass."""

    @property
    def converged(self) -> bool:
        """Whether a rule found the tolerance reached: `stop` is "certified" or "estimated"."""

    @property
    def stop(self) -> Literal["certified", "estimated", "stalled", "max_passes"]:
        """What ended the fit: the bound; objective and training error stand still; float32 shows no decrease any
        more though more than the tolerance seems to be left; the limit."""

    @property
    def passes(self) -> float:
        """Passes over the rows; the search for a start counts as its fraction."""

    @property
    def reduced_passes(self) -> float:
        """Those of the passes whose factors were rounded to bfloat16."""

    @property
    def kernel(self) -> str:
        """Kernel of the exact passes, as in `kernels`."""

    @property
    def reduced_kernel(self) -> str | None:
        """Kernel of the rounded passes; None if there were none."""

    @property
    def train_error(self) -> float:
        """0-1 error on the training rows."""

    @property
    def seconds(self) -> float:
        """Time it took."""

def fit_logistic(
    features: _Features,
    rows: NDArray[np.uint32],
    labels: NDArray[np.uint32],
    design: Design,
    alpha: float,
    *,
    tol: float = 1e-3,
    max_passes: int = 200,
    start: LinearProbe | LogisticFit | None = None,
    reduced: bool = True,
    n_threads: int | None = None,
    progress: Callable[[int], Any] | None = None,
) -> LogisticFit:
    """Fit a multinomial logistic probe and bound its distance from the optimum.

    min_W,b  (1/n) Σ −log softmax(xᵢW + b)[yᵢ] + (α/2) ‖W‖²      (X scaled, b is not penalized)

    Parameters
    ----------
    features : n rows
    rows : uint32 array of shape (m,), training rows
    labels : uint32 array of shape (n,), class of each row of `features`
    design : of the same `rows`; gives scaling, start, metric and bound. Other rows with as many of each class are
        not noticed.
    alpha : penalty on the mean loss; scikit-learn's C = 1/(m α)
    tol : relative suboptimality to reach
    max_passes : passes over the rows at most; an exact one must follow rounded ones
    start : a probe of the same task to begin with; default, the linear discriminant at its best scale. A fit
        on the same rows at another penalty also hands over what it learned of the curvature; they share its memory.
    reduced : whether passes may round their factors to bfloat16 where the CPU is faster at it (32 classes or
        more). The last ones, which decide, are exact.
    progress : called now and then with the number of rows visited so far

    Returns
    -------
    LogisticFit; reaching `max_passes` is no error. A class without rows gets the score −1e4.

    Raises
    ------
    ShapeError; ParameterError for a setting, row or label out of range, or a design of other rows;
    NumericalError if the objective is not finite; KeyboardInterrupt; what `progress` raises.

    Notes
    -----
    L-BFGS in a metric of class covariances; the bound comes from a feasible dual point (Fenchel).
    """

def solve_ridge_dual(
    features: _Features,
    rows: NDArray[np.uint32],
    labels: NDArray[np.uint32],
    n_classes: int,
    alphas: list[float],
    *,
    scaling: Literal["none", "standardize", "minmax"] = "none",
    n_threads: int | None = None,
) -> list[LinearProbe]:
    """Ridge probes from the Gram matrix of the rows, for fewer rows than features.

    min_W,b  (1/2m) ‖X W + 1bᵀ − Y‖² + (α/2) ‖W‖²      (X scaled, b is not penalized)

    Parameters
    ----------
    features : n rows
    rows : uint32 array of shape (m,), training rows
    labels : uint32 array of shape (n,), class of each row of `features`
    alphas : penalties > 0, each a Cholesky factorization (m, m) in float64

    Returns
    -------
    A probe for each penalty, as `Design.solve_ridge` gives up to float32 sums.

    Raises
    ------
    ShapeError; ParameterError for a row, label or penalty out of range, fewer than two classes, NaN or infinity;
    KeyboardInterrupt.
    """

def judge(
    features: _Features,
    rows: NDArray[np.uint32],
    labels: NDArray[np.uint32],
    probes: list[LinearProbe],
    *,
    n_threads: int | None = None,
) -> list[tuple[NDArray[np.uint32], NDArray[np.uint32], NDArray[np.float32], NDArray[np.float32]]]:
    """Judge probes on the same rows in one pass.

    Parameters
    ----------
    rows : uint32 array of shape (m,); labels : uint32 array of shape (n,), by row of `features`

    Returns
    -------
    For each probe: predicted class uint32 (m,), the lowest of equals; rank of the true class uint32 (m,),
    0 if predicted; log loss float32 (m,); margin float32 (m,), score of the true class less the best other one.

    Raises
    ------
    ShapeError; ParameterError for a row or label out of range, NaN or infinity; NumericalError for scores that are not
    finite; KeyboardInterrupt.
    """

def sample_keys(ids: list[str], fingerprint: str, seed: int) -> NDArray[np.uint64]:
    """Pseudo-random keys of samples, uint64 (n,): a function of fingerprint, sample id and seed only."""

def assign_cells(
    keys: NDArray[np.uint64],
    rows: NDArray[np.uint32],
    labels: NDArray[np.uint32],
    *,
    n_folds: int,
    n_subsets: int,
    subset_size: int,
) -> NDArray[np.uint8]:
    """Cut `rows` into folds (cells 0 …) and held-out subsets (the cells after them), stratified by class.

    Parameters
    ----------
    keys : uint64 array of shape (n,), from `sample_keys`; labels : uint32 array of shape (n,)
    rows : uint32 array of shape (m,), rows to cut
    subset_size : rows of each subset; classes keep their shares by largest remainder

    Returns
    -------
    uint8 array of shape (n,); 255 outside `rows`. Does not depend on row order while keys differ.

    Raises
    ------
    ShapeError; ParameterError if the subsets took more than half of the rows or all rows of a class, or for
    more than 254 cells.
    """

def risk_covariance(outcomes: dict[str, NDArray[Any]], *, n_subsets: int, control_variate: bool) -> dict[str, Any]:
    """Five risks (R_ΦF, R_AF, R_AS, R_CS, R_US) and their closed-form, stratified covariance.

    Parameters
    ----------
    outcomes : "train" uint8 (n,), "train_labels" uint32 (n,), "in_subset" bool (n,), "test" uint8 (n_te,),
        "test_labels" uint32 (n_te,); bits as in :func:`ssl_risk_rs.uncertainty.quantify`
    n_subsets : held-out subsets, 1 to 3
    control_variate : correct R_AS by the full fit's errors on subset rows

    Returns
    -------
    "risks" float64 (5,), "covariance" float64 (5, 5) at fixed class counts, "between" float64 (5, 5) to add
    for random ones, "beta" float, the coefficient of the control variate.

    Raises
    ------
    KeyError for a missing array; ShapeError; ParameterError for no test or subset rows.
    """

def bootstrap_risks(
    outcomes: dict[str, NDArray[Any]],
    *,
    n_subsets: int,
    control_variate: bool,
    n_resamples: int,
    seed: int,
) -> NDArray[np.float64]:
    """Risks of resampled rows, float64 (n_resamples, 5): n_c − 1 of n_c rows in each stratum.

    Arguments and errors as in `risk_covariance`.
    """
