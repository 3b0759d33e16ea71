"""Signatures of the Rust extension."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeAlias, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "CHEAP_PRODUCTS",
    "FLUSH_ROWS",
    "MOST_THREADS",
    "SHIFT_ROWS",
    "Bank",
    "BankDamage",
    "BankPart",
    "BankVerification",
    "BankWriter",
    "Design",
    "FeatureScaling",
    "Kernel",
    "LinearProbe",
    "LogisticFit",
    "Moments",
    "PassControl",
    "RidgeRace",
    "__version__",
    "assign_cells",
    "assign_cells_by_group",
    "assign_group_cells",
    "choose_shift",
    "class_directions",
    "cross_products",
    "feature_means",
    "feature_scaling",
    "fit_logistic",
    "fit_logistic_in",
    "judge",
    "k_nearest_rows",
    "kernels",
    "log_potential",
    "nearest_rows",
    "read_rows",
    "sample_keys",
    "solve_ridge_dual",
    "symmetric_eigen",
    "symmetric_eigenvalues",
    "view_sums",
]

__version__: str
#: products n · d² that moments sum in float64 unless asked otherwise
CHEAP_PRODUCTS: int
#: rows whose products moments sum in float32 before they are added in float64; rounding rules of `add_sums` rest on it
FLUSH_ROWS: int
#: threads that a call may ask for
MOST_THREADS: int
#: rows that `choose_shift` looks at, strided
SHIFT_ROWS: int

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

    @property
    def n_missing(self) -> int:
        """Number of rows that are not there yet."""

    def missing_rows(self) -> NDArray[np.uint64]:
        """Rows that are not there yet, ascending: 8 bytes for each, however many the manifest promises."""

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

        Rows are read from the files, not from their maps: a file that is cut short meanwhile is an error.

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
        BankError if the manifest is damaged or has changed. All other damage is listed in the result.
        """

    @staticmethod
    def verify_path(path: str | os.PathLike[str], progress: Callable[[int], Any] | None = None) -> BankVerification:
        """As `verify`, for the bank in the folder `path`, also for one that `open` refuses.

        Hashes are compared before anything is interpreted: a damaged row index puts no blame on a sound part.

        Raises
        ------
        BankError if there is no bank, or its manifest is damaged.
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
    """A block, or a whole file, that is not what was committed."""

    @property
    def part(self) -> str:
        """Name of the part."""

    @property
    def block(self) -> int | None:
        """Number of the block in its journal, from 0; None if the file as a whole is at fault."""

    @property
    def start(self) -> int:
        """First row of the block in the part's files."""

    @property
    def stop(self) -> int:
        """One past its last row there."""

    @property
    def path(self) -> Path:
        """The damaged file."""

    @property
    def reason(self) -> str:
        """What is wrong with it."""

@final
class BankVerification:
    """What `Bank.verify` read, and what it found."""

    @property
    def n_rows(self) -> int:
        """Rows of the complete bank."""

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
    def behind(self) -> list[str]:
        """Parts whose `.npy` headers name fewer rows than the journal: a writer was stopped, or is at work."""

    @property
    def damage(self) -> list[BankDamage]:
        """What is damaged; empty for a sound bank."""

@final
class BankWriter:
    """The one writer of a part; a context manager. Safe to share between threads, not between processes.

    It belongs to the process that opened it. A fork can neither append nor close (BankError), and its end leaves
    the part and its lock as they are. The lock is released by `close`, or when that process and its forks have
    ended.
    """

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

    def append(self, rows: NDArray[np.uint64 | np.int64], features: NDArray[np.float16 | np.float32]) -> None:
        """Commit a block: on disk when it returns.

        Waits for the disk twice: give it a few MB at a time.

        Parameters
        ----------
        rows : uint64 or int64 array of shape (m,)
            Row of the bank for each line of `features`.
        features : float16 or float32 array of shape (m, n_features)
            Rounded to the bank's dtype.

        Raises
        ------
        ShapeError; ParameterError for NaN, infinity, more than float16 holds (naming the row), a row below 0 or beyond
        the bank, or one that is there already; OSError, after which the part must be opened again. Nothing of the
        block counts after these.
        BankError in another process, where nothing is written; and if the block's line is in the journal but the
        system could not bring it to disk: it is then unknown whether the block counts until the part is opened
        again, which brings it to disk or finds it missing. The message says so.
        """

    def close(self) -> None:
        """Bring the `.npy` headers to disk and release the part. A writer that dies loses no block.

        Raises
        ------
        OSError if the headers cannot be written: committed rows are safe, and the part's next writer tries again.
        BankError in another process than the one that opened the writer.
        """

    def __enter__(self) -> BankWriter: ...
    def __exit__(self, *_exception: object) -> None: ...

@final
class Moments:
    """Sufficient statistics of rows, by cell: one pass serves every complement, fold, scaling and penalty.

    A row belongs to one cell (a fold or a held-out subset). Each cell keeps class counts, sums by class,
    ranges and Σ (x−c)(x−c)ᵀ with the shift c.
    Memory: n_cells · n_features² · 8 bytes, half of it for many features.

    >>> shift = choose_shift(x, rows)
    >>> moments = Moments(x.shape[1], 10, n_cells=5, shift=shift)
    >>> moments.update(x, labels, rows, folds)  # again for more rows, or in another process and then `merge`
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
        precision: Literal["auto", "float64", "float32", "bfloat16"] | str = "auto",
    ) -> Moments:
        """No rows yet.

        Parameters
        ----------
        shift : float32 array of shape (n_features,), optional
            c, from `choose_shift`; default 0, which cancels digits where |mean| ≫ standard deviation, up to a feature
            that then counts as constant (in float32 from a mean of 90 standard deviations on).
        precision : {"auto", "float64", "float32", "bfloat16"}, default "auto"
            How updates sum the products Σ (x−c)(x−c)ᵀ; counts, sums and ranges are the same with all.
            "float64": two to three times the time of "float32". "float32": blocks of 2,048 rows at most in float32,
            across blocks in float64. "bfloat16": factors are rounded as well where this CPU is faster at it; enough
            for `fit_logistic` unless features are standardized, since the products then only shape its steps; not
            for `solve`. "auto": "float64" for updates of at most 2³² products (rows · n_features²), else "float32".
            The roughest update decides `Design.alpha_floor`.

        Raises
        ------
        ShapeError; ParameterError if there are no features, classes or cells, the shift is not finite, or the
        precision is unknown.
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
        labels: ArrayLike,
        rows: ArrayLike | None = None,
        cells: ArrayLike | None = None,
        *,
        n_threads: int | None = None,
    ) -> None:
        """Add rows, in one pass; unchanged when it fails.

        Parameters
        ----------
        features : n rows
        labels : whole numbers of shape (n,), class of each row of `features`, from 0; uint32 arrays are not copied
        rows : whole numbers of shape (m,), rows of `features` to add; uint32 arrays are not copied; default all
        cells : whole numbers of shape (n,), cell of each row of `features`; uint8 arrays are not copied; default 0
        n_threads : default all cores; the same number gives the same bits

        Raises
        ------
        ShapeError; ParameterError for a row, label or cell out of range, or a row with NaN or infinity, which
        it names; NumericalError for features whose squares cannot be summed;
        KeyboardInterrupt.
        """

    def add_sums(
        self,
        cell: int,
        counts: NDArray[np.uint64],
        sums: NDArray[np.float64],
        least: NDArray[np.float32],
        largest: NDArray[np.float32],
        gram: NDArray[np.float64],
        *,
        precision: Literal["float64", "float32", "bfloat16"] | str,
        n_threads: int | None = None,
    ) -> None:
        """Add sums over the rows of one cell that were taken elsewhere, on another device or by another program.

        Parameters
        ----------
        counts : uint64 array of shape (n_classes,), rows of each class
        sums : float64 array of shape (n_classes, n_features), Σ (x−c) by class
        least, largest : float32 arrays of shape (n_features,), of x − c
        gram : float64 array of shape (n_features, n_features), Σ (x−c)(x−c)ᵀ; the lower triangle is read
        precision : how the products behind `gram` were summed; "float32" promises at most 2,048 rows between two
            sums in float64
        n_threads : default all cores

        Raises
        ------
        ShapeError; ParameterError for a cell out of range, values that are not finite, or too many rows. The moments
        are unchanged then.
        """

    def merge(self, other: Moments, *, n_threads: int | None = None) -> None:
        """Add the rows that `other` saw, cell by cell, on all cores or `n_threads`.

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
        with rows, a penalty that is not positive and finite, or below `Design.alpha_floor`; NumericalError if the
        eigendecomposition fails.

        Notes
        -----
        Accuracy as in `Design.solve_ridge`.
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

    def __reduce__(self) -> tuple[Callable[[bytes], Moments], tuple[bytes]]: ...
    @staticmethod
    def _from_bytes(bytes: bytes) -> Moments: ...
    def design(
        self,
        cells: list[int] | None = None,
        *,
        scaling: Literal["none", "standardize", "minmax"] | str = "none",
        like: Design | None = None,
        n_threads: int | None = None,
    ) -> Design:
        """Statistics of the union of `cells` (default all), in coordinates scaled by those rows.

        Parameters
        ----------
        like : of nearly the same rows: logistic fits on this CPU take the directions of its metric where they suit
            these rows as well, and save an eigendecomposition. Only directions of the search come from it, no part
            of a probe; still, choose one that has seen no row on which a probe will be judged
        n_threads : default all cores; any number gives the same bits

        Raises
        ------
        ParameterError for a cell that does not exist or is named twice, an unknown scaling, fewer than two classes
        with rows.
        """

    def totals(
        self, cells: list[int] | None = None, *, n_threads: int | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.uint64], NDArray[np.float64], NDArray[np.float64], NDArray[np.uint32]]:
        """The sums over the union of `cells` (default all) themselves, added on all cores or `n_threads`.

        Returns
        -------
        shift c (d,); rows of each class (k,); Σ (x−c) by class (k, d); Σ (x−c)(x−c)ᵀ (d, d); features whose variance is
        no more than rounding

        Raises
        ------
        ParameterError for a cell that does not exist or is named twice.
        """

def choose_shift(features: _Features, rows: NDArray[np.uint32]) -> NDArray[np.float32]:
    """Shift for `Moments`: 0 where |mean| ≤ standard deviation, else a number near the mean that has few digits.

    Looks at 2048 rows, strided. There x − c is exact for float16 features (Sterbenz), and for float32 features far
    from the origin.

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

def class_directions(
    features: _Features,
    rows: NDArray[np.uint32],
    labels: NDArray[np.uint32],
    n_classes: int,
    centres: NDArray[np.float64],
    *,
    n_threads: int | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.uint64], NDArray[np.float64]]:
    """How far rows of a class scatter, and how far their directions agree, in one pass and float64.

    Parameters
    ----------
    labels : by row of `features`; centres : (n_classes, d), of each class a point near its mean

    Returns
    -------
    For each class: Σ ‖x − its centre‖² (k,); rows with ‖x‖ > 0 (k,); Σ x/‖x‖ over those (k, d).

    Raises
    ------
    ShapeError; ParameterError for a row or label out of range, NaN or infinity; KeyboardInterrupt.
    """

def cross_products(
    features: _Features,
    rows: NDArray[np.uint32],
    shift: NDArray[np.float64],
    other: _Features,
    other_rows: NDArray[np.uint32],
    other_shift: NDArray[np.float64],
    *,
    n_threads: int | None = None,
) -> NDArray[np.float64]:
    """Σ (x − shift)(y − other_shift)ᵀ over pairs of rows, (d, e), in float64 and memory O(d·e).

    Raises
    ------
    ShapeError; ParameterError for a row out of range, NaN or infinity; KeyboardInterrupt.
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
    def n_classes(self) -> int:
        """Classes of the task, those without rows included."""

    @property
    def shift(self) -> NDArray[np.float32]:
        """float32 array of shape (n_features,): scaled coordinates are (x − shift) · scale."""

    @property
    def scale(self) -> NDArray[np.float32]:
        """float32 array of shape (n_features,); 0 for a constant feature."""

    @property
    def priors(self) -> NDArray[np.float64]:
        """float64 array of shape (k′,): shares of `classes`."""

    @property
    def means(self) -> NDArray[np.float64]:
        """float64 array of shape (k′, n_features): means of `classes` in scaled coordinates."""

    @property
    def covariance(self) -> NDArray[np.float64]:
        """float64 array of shape (n_features, n_features) in scaled coordinates, divided by n."""

    @property
    def offset(self) -> NDArray[np.float64]:
        """float64 array of shape (n_features,): mean of the rows in scaled coordinates, next to 0; float32 rounds the
        shift. A solver that takes rows to be centred owes its intercept −Wᵀ offset."""

    @property
    def mean_variance(self) -> float:
        """Mean variance of the scaled features that are not `constant`: trace of their covariance / their number.

        The unit of penalties. 1 if standardized, positive with every scaling, 0 only if all features are constant.
        """

    @property
    def alpha_floor(self) -> float:
        """Least penalty of a ridge probe: the sums determine no weaker one's solution.

        In units of `mean_variance` 1e-10, 1e-5 and 1e-2 for sums in float64, float32 and bfloat16
        (`Moments(precision=…)`).
        """

    @property
    def constant(self) -> NDArray[np.uint32]:
        """Features that count as constant on these rows, ascending; every probe gives them weight 0.

        Their variance is no more than rounding gives: one float32 step at their magnitude, or the error of their own
        sums. Other features have no say in it.
        """

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
        n_alphas counts, of products of float32 factors: near-ties within 1e-6 may fall other than in `judge`.

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
        reuse : whether to make an eigendecomposition, which later calls find; otherwise each penalty takes a
            Cholesky factorization, a tenth of that, unless rounding of the covariance asks for an eigendecomposition

        Returns
        -------
        A probe for each penalty; a class without rows has weights and intercept 0.

        Raises
        ------
        ParameterError for a penalty that is not positive and finite, or below `alpha_floor`; NumericalError if the
        eigendecomposition fails.

        Notes
        -----
        Scores on targets of 0 and 1, against a float64 solution. Sums in float64: within 1e-5; 3e-5 at 1e-5 of
        `mean_variance` on features of which one factor explains 99.99 % (float32 weights and scores). Sums in float32:
        within 1e-5 where correlations are moderate, 5e-5 where one factor explains 99 % of the variance, 6e-3 at the
        floor where it explains 99.99 % or the spectrum falls as 1/j⁴ (measured on 4,000 rows; a third on 40,000).
        """

@final
class FeatureScaling:
    """How rows scale their features: z = (x − shift) · scale; made by `feature_scaling`."""

    @property
    def mean(self) -> NDArray[np.float64]:
        """Means of raw features, shape (d,)."""

    @property
    def shift(self) -> NDArray[np.float32]:
        """The means as float32 holds them, shape (d,)."""

    @property
    def scale(self) -> NDArray[np.float32]:
        """Factors, shape (d,); 0 for features that are constant on the rows."""

    @property
    def offset(self) -> NDArray[np.float64]:
        """Where the means lie in scaled coordinates, shape (d,): not quite at 0, since `shift` is rounded."""

    @property
    def constant(self) -> NDArray[np.uint32]:
        """Features that count as constant on the rows, as `Design.constant`."""

    @property
    def mean_variance(self) -> float:
        """Mean variance of the scaled features that vary, as `Design.mean_variance`."""

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

    @property
    def constant(self) -> NDArray[np.uint32]:
        """Features of scale 0, ascending: those that did not vary on the rows that gave the scaling."""

    def raw(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Weights on raw features: coef float64 (n_classes, n_features), intercept float64 (n_classes,)."""

    def scaled(
        self,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float32], NDArray[np.float32]]:
        """What the constructor takes: coef float64 (n_classes, n_features), intercept float64 (n_classes,), shift and
        scale float32 (n_features,)."""

    def scores(
        self, features: _Features, rows: NDArray[np.uint32], *, n_threads: int | None = None
    ) -> NDArray[np.float32]:
        """Scores of `rows`, float32 array of shape (m, n_classes).

        Raises
        ------
        ShapeError for another number of features; ParameterError for a row out of range, NaN or infinity.
        """

@final
class RidgeRace:
    """A choice among ridge penalties by held-out errors, where those that are clearly worse are not counted to the end.

    A penalty leaves the race when, on at least 500 rows, it errs more than the best of those in it by more than three
    standard errors of the difference: b − c > 3 √(b + c), where b rows are predicted wrongly by it alone and c by the
    best alone. Errors of those that stay are counted on every row. The penalty that would have had the fewest in the
    end may have left (a chance of 1 in 700 at each of up to four looks in a fold, if it is no worse than the best so
    far); the two then differ by few rows.

    Parameters
    ----------
    n_alphas : int
        Penalties, all in the race at first.
    """

    def __new__(cls, n_alphas: int) -> RidgeRace: ...
    def add(
        self,
        design: Design,
        features: _Features,
        rows: NDArray[np.uint32],
        labels: NDArray[np.uint32],
        alphas: list[float],
        *,
        n_threads: int | None = None,
    ) -> None:
        """Judge the penalties that are in the race on `rows`, a fold, by the design of other rows.

        Parameters
        ----------
        features, rows, labels : as in `judge`
        alphas : as in `Design.solve_ridge`, n_alphas of them: those of one place are one penalty, also where folds
            differ in what they bear

        Raises
        ------
        As `Design.ridge_errors`; the race is as before.
        """

    @property
    def running(self) -> list[int]:
        """Indices of the penalties in the race, ascending."""

    @property
    def errors(self) -> NDArray[np.int64]:
        """(n_alphas,) rows predicted wrongly, of `judged`."""

    @property
    def judged(self) -> NDArray[np.int64]:
        """(n_alphas,) rows that each was judged on: all rows added, if it is in the race."""

@final
class Kernel:
    """A family of products for one instruction set."""

    @property
    def name(self) -> str:
        """As in the environment variable SSL_RISK_KERNEL."""

    @property
    def precision(self) -> Literal["exact", "bfloat16", "fixed"]:
        """What it keeps of its factors; "fixed" has products of whole numbers, for scores that may be rounded."""

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
        """Upper bound on (F − min F)/F, up to float32 rounding of a pass; infinite for a draft that was
        near its end."""

    @property
    def converged(self) -> bool:
        """Whether a rule found what was asked for reached: `stop` is "certified", "estimated" or "error_estimated"."""

    @property
    def stop(self) -> Literal["certified", "estimated", "error_estimated", "stalled", "max_passes"]:
        """What ended the fit: the bound; objective and training error stand still; the training error alone, where
        `error_tol` asked for no more; float32 shows no decrease any more though more than the tolerance seems to be
        left; the limit."""

    @property
    def passes(self) -> float:
        """Passes over the rows; the search for a start counts as its fraction."""

    @property
    def reduced_passes(self) -> float:
        """Those of the passes that rounded: factors (to bfloat16, float16 or TF32) or, on a CPU, small residuals."""

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
    error_tol: float | None = None,
    draft: bool = False,
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
    tol : relative suboptimality to reach: a share of F, or of what F is below its value without weights where that is
        less, but, unless `tol` is, no less than 2⁻²² of F
    max_passes : passes over the rows at most; an exact one must follow rounded ones
    error_tol : where only the training error is wanted: how far it may be from that of the minimum, by an estimate from
        its last steps. The fit may then end before `tol` is reached
    draft : whether a look is all that is wanted: the fit may end on a pass that rounds, which proves nothing
    start : a probe of the same task to begin with; default, the linear discriminant at its best scale. A fit on the
        same rows, or on others like them, also hands over what it learned of the curvature; they share its memory.
        Others are like them if classes are the same, and their shares, the features' scales and means nearly are.
    reduced : whether passes may round, with 32 classes or more: factors to bfloat16 where the CPU is faster at it, and
        residuals below a size that follows from `tol`, by chance, to 0 or that size. The last ones, which decide, are
        exact.
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

@final
class PassControl:
    """What a pass asks before each block of rows."""

    def advance(self, rows: int) -> None:
        """Count rows as visited; KeyboardInterrupt where the fit is to end."""

def fit_logistic_in(
    space: Any,
    design: Design,
    alpha: float,
    *,
    tol: float = 1e-3,
    max_passes: int = 200,
    error_tol: float | None = None,
    draft: bool = False,
    start: LinearProbe | LogisticFit | None = None,
    reduced: bool = True,
    progress: Callable[[int], Any] | None = None,
) -> LogisticFit:
    """`fit_logistic` where vectors and rows lie on another device: the descent decides, the space computes.

    Parameters
    ----------
    space : object for the rows of `design`, with the attributes `n_rows`, `reduces` (whether passes may round their
        factors), `kernels` (names of exact and of rounded products) and the methods below. A vector is any value that
        stands for float64 (d + 1, k′): weights in the coordinates of `design`, then the intercept, for its classes.

        `vector(values)`, `values(v)` : from and to float64 arrays (d + 1, k′)
        `discriminant()` : linear discriminant with a ridge of a tenth of the mean variance, not yet scaled
        `centred(v)` : without the mean over the classes; `scaled(factor, v)`; `step(point, length, direction)`;
        `intercept_only(intercept)` : weights 0; `dot(a, b)`; `weights_square(point)` : ‖W‖²
        `losses_by_factor(point, factors, stride)` : mean loss on every `stride`-th row of scores times each factor
        `evaluate(point, alpha, with_curvature, with_sample, reduced, control)` : (F, mean entropy of p, training error,
            gradient, ‖∇_W F‖², ∇_b F float64 (k′,), curvature or None, p float32 (m, k′) of a sample of the rows or
            None); asks `control.advance(rows)` before each block
        `dual_square(point, gradient, excess, epsilon, alpha)` : ‖αV‖² of the certificate,
            αV = ε π μ + (1−ε) offset ∇_b Fᵀ − (1−ε) (∇_W F − αW)
        `metric(curvature, alpha)` : what `direction` takes
        `memory()`; `remember(memory, to, from, gradient_to, gradient_from)`; `add_penalty(memory, by)` : memories of
            steps, as new values; `direction(memory, gradient, metric)` : −H g by L-BFGS in the metric

    Raises
    ------
    ShapeError, ParameterError, NumericalError as `fit_logistic`; what the space raises.
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

def feature_scaling(
    features: _Features,
    rows: NDArray[np.uint32],
    *,
    scaling: Literal["none", "standardize", "minmax"] | str = "none",
) -> FeatureScaling:
    """How few rows scale their features: what `solve_ridge_dual` does with them.

    Parameters
    ----------
    rows : uint32 array of shape (m,)

    Returns
    -------
    FeatureScaling, computed in float64 from the rows themselves, in two scans.

    Raises
    ------
    ParameterError for no rows, one out of range, one with NaN or infinity, or an unknown scaling; KeyboardInterrupt.
    """

def log_potential(
    features: _Features, rows: NDArray[np.uint32], *, t: float = 2.0, n_threads: int | None = None
) -> tuple[float, int]:
    """log of the mean of exp(−t ‖x̂ − x̂′‖²) over all pairs of `rows`, x̂ = x/‖x‖, in float64.

    Returns
    -------
    the value, NaN for fewer than two rows; rows with ‖x‖ > 0: the others are left out. Time m²·d, memory m·d.

    Raises
    ------
    ParameterError for a row out of range, NaN or infinity; KeyboardInterrupt.
    """

def nearest_rows(
    features: _Features,
    rows: NDArray[np.uint32],
    base: _Features,
    base_rows: NDArray[np.uint32],
    *,
    same: bool = False,
    n_threads: int | None = None,
    progress: Callable[[int], Any] | None = None,
) -> tuple[NDArray[np.uint32], NDArray[np.float64]]:
    """For each of `rows` the most similar of `base_rows` by cosine: a blocked search, memory O(m).

    Parameters
    ----------
    same : `features` and `base` are the same: a row does not find itself
    progress : called now and then with the rows visited; each passes by once for 4,096 base rows

    Returns
    -------
    position in `base_rows` uint32 (m,), 2³² − 1 where there is none; cosine float64 (m,), NaN there. Candidates are
    compared in float32, to some 1e-5 on AMX; the cosine of the one found is float64, exactly 1 for equal rows.

    Raises
    ------
    ShapeError; ParameterError for a row out of range, NaN or infinity; KeyboardInterrupt.
    """

def k_nearest_rows(
    features: _Features,
    rows: NDArray[np.uint32],
    base: _Features,
    base_rows: NDArray[np.uint32],
    k: int,
    *,
    n_threads: int | None = None,
    progress: Callable[[int], Any] | None = None,
) -> tuple[NDArray[np.uint32], NDArray[np.float64]]:
    """For each of `rows` the k most similar of `base_rows` by cosine, most similar first: memory O(m·k).

    Parameters
    ----------
    progress : as of `nearest_rows`

    Returns
    -------
    positions in `base_rows` uint32 (m, k), 2³² − 1 where there are fewer; cosines float64 (m, k), NaN there. Candidates
    are compared in float32, as by `nearest_rows`.

    Raises
    ------
    ShapeError; ParameterError for a row out of range, k = 0, NaN or infinity; KeyboardInterrupt.
    """

def symmetric_eigen(
    matrix: NDArray[np.float64], *, n_threads: int | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Eigenvalues (d,), ascending, and eigenvectors as columns (d, d) of a symmetric matrix.

    Raises
    ------
    ShapeError unless it is square; NumericalError if it holds NaN or infinity.
    """

def symmetric_eigenvalues(matrix: NDArray[np.float64], *, n_threads: int | None = None) -> NDArray[np.float64]:
    """As `symmetric_eigen`, without the vectors."""

def view_sums(
    views: list[_Features],
    rows: list[NDArray[np.uint32]],
    shift: NDArray[np.float64],
    *,
    n_threads: int | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], float, int]:
    """Sums over samples of which each of `views` holds one view: row `rows[v][i]` of view v is of sample i.

    Returns
    -------
    with μ the mean of a sample's V views: Σ (μ − shift) (d,); Σ (μ−shift)(μ−shift)ᵀ (d, d); Σ over views too of
    (x−μ)(x−μ)ᵀ (d, d); Σ over samples of the mean of ‖x̂ − x̂′‖² over their pairs of views; samples in that sum, all
    of whose views have ‖x‖ > 0

    Raises
    ------
    ShapeError; ParameterError for fewer than two views, a row out of range, NaN or infinity; KeyboardInterrupt.
    """

def read_rows(
    features: _Features,
    rows: NDArray[np.uint32],
    out: NDArray[np.float16 | np.float32],
    *,
    n_threads: int | None = None,
) -> None:
    """Copy rows, in the order asked for.

    Parameters
    ----------
    rows : uint32 array of shape (m,)
    out : C-contiguous float16 or float32 array of shape (m, n_features); float16 only of float16 features
    n_threads : default all cores

    Raises
    ------
    BankError if a bank is incomplete or its file has shrunk; ShapeError for an array of another size; ParameterError
    for a row out of range, or float16 of float32 features; KeyboardInterrupt.
    """

def judge(
    features: _Features,
    rows: NDArray[np.uint32],
    labels: NDArray[np.uint32],
    probes: list[LinearProbe],
    *,
    n_threads: int | None = None,
) -> list[tuple[NDArray[np.uint32], NDArray[np.uint32], NDArray[np.float32], NDArray[np.float32]]]:
    """Judge probes on the same rows in one pass; without probes, check rows and labels only.

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

def sample_keys(ids: list[str], seed: int) -> NDArray[np.uint64]:
    """Pseudo-random keys of samples, uint64 (n,): a function of sample id and seed only."""

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

    A function of the keys alone: neither the order of rows nor the numbering of classes matters.

    Parameters
    ----------
    keys, labels : arrays of shape (n,), by row
    subset_size : rows of one subset

    Returns
    -------
    uint8 array of shape (n,), 255 outside `rows`

    Raises
    ------
    ShapeError; ParameterError if the subsets take more than half of the rows or all rows of a class.
    """

def assign_cells_by_group(
    keys: NDArray[np.uint64],
    groups: NDArray[np.uint32],
    rows: NDArray[np.uint32],
    labels: NDArray[np.uint32],
    *,
    n_folds: int,
    n_subsets: int,
    subset_size: int,
) -> tuple[NDArray[np.uint8], int]:
    """As `assign_cells` with whole groups, which keep the classes' shares as well as their sizes allow.

    Parameters
    ----------
    keys : uint64 array of shape (n_groups,); groups, labels : uint32 arrays of shape (n,), by row
    n_subsets : at most; each must be able to have a group of every class

    Returns
    -------
    uint8 array of shape (n,), 255 outside `rows`; the number of subsets

    Raises
    ------
    ShapeError; ParameterError if a class has rows of one group only.
    """

def assign_group_cells(
    keys: NDArray[np.uint64],
    groups: NDArray[np.uint32],
    labels: NDArray[np.uint32],
    shares: list[float],
) -> NDArray[np.uint8]:
    """Cells of about these shares of each class, groups whole: uint8 (n,).

    Raises
    ------
    ShapeError; ParameterError if there are fewer groups than cells.
    """
