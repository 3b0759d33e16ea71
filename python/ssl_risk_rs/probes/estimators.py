"""Linear probes as scikit-learn estimators, over the package's solvers.

For pipelines, model selection and comparison with other classifiers. The decomposition calls the solvers
itself: it shares statistics between fits, an estimator makes them anew.
"""

import math
import warnings
from collections.abc import Iterable, Sequence
from typing import TypeAlias, cast, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from ssl_risk_rs import _core
from ssl_risk_rs._float32 import refuse_masked
from ssl_risk_rs._labels import refuse_unlabelled
from ssl_risk_rs._limits import (
    MOST_PASSES,
    MOST_ROWS,
    MOST_SEED,
    Scaling,
    check_choice,
    check_positive,
    check_threads,
    check_tolerance,
    check_whole,
)
from ssl_risk_rs._tensors import of_tensor
from ssl_risk_rs.errors import ParameterError
from ssl_risk_rs.probes.devices import Device, choose_device, open_solver
from ssl_risk_rs.probes.features import Features as Rows
from ssl_risk_rs.probes.features import as_float_rows
from ssl_risk_rs.probes.solver import Goal, Precision, Solver
from ssl_risk_rs.probes.span_solver import SpanSolver

__all__ = ["LogisticProbe", "RidgeProbe", "RidgeProbeCV", "alpha_from_c", "alpha_from_ridge"]

#: (n, d)
Features: TypeAlias = NDArray[np.float32] | NDArray[np.float16]
#: row numbers, or the class of each row
Indices: TypeAlias = NDArray[np.uint32]

#: penalties that `RidgeProbeCV` tries, in units of the mean feature variance: half decades from the floor on
ALPHA_GRID = tuple(10.0 ** (i / 2) for i in range(-10, 3))
#: products n · d² that ridge sums in float64 for a penalty below what float32 sums bear: a quarter of a minute
FLOAT64_PRODUCTS = 2**40
#: rows scored at once by `predict`: never all (n, k) scores in memory
PREDICT_ROWS = 16_384


def alpha_from_c(C: float, n_samples: int, *, n_classes: int | None = None) -> float:
    """Penalty on the mean loss for scikit-learn's `LogisticRegression(C=C)` on `n_samples` rows.

    It is 1/(n C), and 2/(n C) of two classes: scikit-learn fits one weight vector to these, whose penalty is twice that
    of the two of opposite sign that are fitted here.

    Parameters
    ----------
    n_classes : 2 where there are two; default: more than two

    Raises
    ------
    ParameterError unless both are positive and finite, or for fewer than two classes.
    """
    if n_classes is not None and n_classes < 2:
        raise ParameterError(f"n_classes must be 2 or more, not {n_classes}")
    return (2.0 if n_classes == 2 else 1.0) / _positive(C, "C") / _positive(n_samples, "n_samples")


def alpha_from_ridge(ridge_alpha: float, n_samples: int) -> float:
    """Penalty on the mean loss for scikit-learn's `Ridge(alpha=ridge_alpha)` on `n_samples` rows: alpha/n.

    Raises
    ------
    ParameterError unless both are positive and finite.
    """
    return _positive(ridge_alpha, "ridge_alpha") / _positive(n_samples, "n_samples")


def _positive(value: float, name: str) -> float:
    check_positive(name, value, math.inf)
    return float(value)


class _Probe(ClassifierMixin, BaseEstimator):
    """What the probes share: labels, statistics of the rows, scores."""

    scaling: Scaling
    device: str
    n_threads: int | None

    def _open(self, X: Features) -> Solver:
        """The solver of these rows."""
        return open_solver(Rows.of_arrays(X), self._place(X), n_threads=self.n_threads)

    def _place(self, X: Features) -> Device:
        """The device of fits to these rows, in their span where they are fewer than features."""
        products = float(X.shape[0]) * min(X.shape) * len(self.classes_)
        return choose_device(self.device, products)

    def _prepare(self, X: ArrayLike, y: ArrayLike) -> tuple[Features, Indices, Indices]:
        """Checked rows, their numbers, and encoded labels."""
        if hasattr(self, "_probe"):
            del self._probe  # what was fitted before: a fit that fails leaves none
        # values are checked where the rows are read anyway, by a message that names the row
        check_threads(self.n_threads)
        check_choice("scaling", self.scaling, get_args(Scaling))
        refuse_masked(X, "X")
        refuse_unlabelled(y, "y")
        checked, y = validate_data(
            self,
            of_tensor(X),
            of_tensor(y),
            dtype="numeric",
            order="C",
            ensure_all_finite=False,
            ensure_min_samples=2,
        )
        check_classification_targets(y)
        self.classes_, encoded = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ParameterError(f"y has {len(self.classes_)} class: a probe needs at least two")
        labels = np.ascontiguousarray(encoded.ravel(), np.uint32)
        features = cast(Features, as_float_rows(checked, "X"))
        return features, np.arange(len(features), dtype=np.uint32), labels

    def _ridge_moments(
        self,
        solver: Solver,
        X: Features,
        rows: Indices,
        labels: Indices,
        alpha: float,
        *,
        cells: NDArray[np.uint8] | None = None,
        n_cells: int = 1,
    ) -> "_core.Moments":
        """Those that determine a ridge probe at this penalty, as far as that can be had."""
        k = len(self.classes_)
        moments = solver.moments(rows, labels, k, cells=cells, n_cells=n_cells)
        too_weak = alpha < moments.design(scaling=self.scaling, n_threads=self.n_threads).alpha_floor
        if too_weak and X.shape[0] * X.shape[1] ** 2 <= FLOAT64_PRODUCTS:
            moments = solver.moments(rows, labels, k, cells=cells, n_cells=n_cells, precision="float64")
        return moments

    def _dual(self, X: Features, rows: Indices, labels: Indices, alphas: list[float]) -> list["_core.LinearProbe"]:
        """Ridge probes of fewer rows than features."""
        return _core.solve_ridge_dual(
            X, rows, labels, len(self.classes_), alphas, scaling=self.scaling, n_threads=self.n_threads
        )

    def _keep(self, probe: "_core.LinearProbe") -> None:
        self._probe = probe
        self.n_constant_features_ = len(probe.constant)
        coef, intercept = probe.raw()
        if len(self.classes_) == 2:  # scikit-learn's form: one score, positive for the second class
            coef, intercept = coef[1:] - coef[:1], intercept[1:] - intercept[:1]
        self.coef_, self.intercept_ = coef, intercept

    def _scores(self, X: Features) -> NDArray[np.float32]:
        """float32 (n, k) scores of checked rows."""
        rows = np.arange(len(X), dtype=np.uint32)
        return self._probe.scores(X, rows, n_threads=self.n_threads)

    def _checked(self, X: ArrayLike) -> Features:
        check_is_fitted(self, "_probe")
        refuse_masked(X, "X")
        checked = validate_data(self, of_tensor(X), reset=False, dtype="numeric", order="C")
        return cast(Features, as_float_rows(checked, "X", spread=False))

    def decision_function(self, X: ArrayLike) -> NDArray[np.float32]:
        """Scores of the classes.

        Parameters
        ----------
        X : array of shape (n_samples, n_features); float16 and float32 are used as they lie

        Returns
        -------
        float32 array of shape (n_samples, n_classes); for two classes (n_samples,), the second class's score
        minus the first's

        Raises
        ------
        NotFittedError; ValueError for another number of features, NaN or infinity.
        """
        scores = self._scores(self._checked(X))
        if len(self.classes_) == 2:
            scores = scores[:, 1] - scores[:, 0]
        return scores

    def predict(self, X: ArrayLike) -> NDArray[np.generic]:
        """Class with the largest score, the lowest of equals; array of shape (n_samples,).

        Raises
        ------
        As `decision_function`.
        """
        rows = self._checked(X)
        best = [self._scores(rows[i : i + PREDICT_ROWS]).argmax(1) for i in range(0, len(rows), PREDICT_ROWS)]
        predicted: NDArray[np.generic] = self.classes_[np.concatenate(best)]
        return predicted

    def score(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Share of rows that are predicted rightly, each by its weight.

        Raises
        ------
        DataError for rows without label; as `decision_function`.
        """
        refuse_unlabelled(y, "y")
        return float(super().score(X, of_tensor(y), of_tensor(sample_weight)))


class RidgeProbe(_Probe):
    """Linear probe by ridge regression on one-hot labels, in closed form.

        min_W,b  (1/2n) ‖X W + 1bᵀ − Y‖² + (α/2) ‖W‖²          b is not penalized

    X (n, d) in scaled coordinates, Y (n, k) one-hot: scikit-learn's `Ridge(alpha=n α)` on one-hot targets.

    Parameters
    ----------
    alpha : float, default 1e-3
        Penalty α > 0. `RidgeProbeCV` tunes it. With as many rows as features or more it is at least 1e-10 of the mean
        variance of the scaled features, with more than 2⁴⁰ products n · d² at least 1e-5 of it; with fewer rows any
        will do.
    scaling : {"none", "standardize", "minmax"}, default "none"
        Scaling of each feature from the training rows, folded into the weights. α acts on scaled weights.
    device : str, default "cpu"
        "cpu", "cuda", "cuda:1", several joined by commas, or "auto": a GPU where there is one and it pays. Fits run
        there; scores are computed on the CPU.
    n_threads : int, optional
        Default: all cores. The same number gives the same bits, another number the same to 1e-6.

    Attributes
    ----------
    classes_ : (k,) labels, ascending
    coef_ : float64 (k, d), intercept_ : float64 (k,)
        On raw features; for two classes (1, d) and (1,), scores of the second minus the first.
    n_features_in_ : int
    n_constant_features_ : int
        Features that do not vary on the training rows beyond float32 rounding; their weights are 0.

    Notes
    -----
    Products of features are summed in float64 up to 2³² of them, n · d², and wherever α asks for it; else blocks of
    rows in float32. Scores agree with a float64 solution to 1e-5 on features whose correlations are moderate. With
    float32 sums and α of 1e-5 of the mean variance they are 5e-5 apart where one factor explains 99 % of the variance,
    and 6e-3 where it explains 99.99 %, or the spectrum falls as 1/j⁴. Probes in raw coordinates lose digits where a
    feature's mean is far above its standard deviation; `predict` therefore uses the scaled probe, not `coef_`.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> probe = RidgeProbe(alpha=1e-2, scaling="standardize").fit(X[::2], y[::2])
    >>> round(probe.score(X[1::2], y[1::2]), 2)
    0.85
    """

    def __init__(
        self, alpha: float = 1e-3, *, scaling: Scaling = "none", device: str = "cpu", n_threads: int | None = None
    ) -> None:
        self.alpha = alpha
        self.scaling = scaling
        self.device = device
        self.n_threads = n_threads

    def fit(self, X: ArrayLike, y: ArrayLike) -> "RidgeProbe":
        """Fit the probe.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
            float16 and C-contiguous float32 are used as they lie, others converted to float32; a PyTorch tensor of
            any device will do. Do not write to it during the call.
        y : array of shape (n_samples,); any labels numpy can sort

        Raises
        ------
        ParameterError for one class, NaN, infinity, masked values, features that float32 cannot tell apart, or a
        penalty out of range; DataError for rows without label; ValueError for shapes.
        """
        alphas = [_positive(self.alpha, "alpha")]
        features, rows, labels = self._prepare(X, y)
        if len(features) < features.shape[1]:
            self._keep(self._dual(features, rows, labels, alphas)[0])
        else:
            solver = self._open(features)
            design = self._ridge_moments(solver, features, rows, labels, alphas[0]).design(
                scaling=self.scaling, n_threads=self.n_threads
            )
            self._keep(solver.solve_ridge(design, alphas)[0])
        return self


class RidgeProbeCV(_Probe):
    """Ridge probe whose penalty is chosen by its errors on held-out folds, from one pass over the rows.

    Statistics of all folds come from one pass; each fold costs one eigendecomposition for all penalties, and no
    probe is formed but the last. Memory grows with n_folds · n_features². With fewer rows than features, each fold
    and penalty is a fit in the dual. The objective is that of `RidgeProbe`.

    Parameters
    ----------
    alphas : sequence of float, optional
        Penalties to choose from, bounded as in `RidgeProbe`. Default: half decades from 1e-5 to 10 times the mean
        variance of the scaled features.
    n_folds : int, default 5
        Folds, each with its share of every class. One that leaves rows of a single class is passed over.
    max_judged : int, default 20_000
        Held-out rows that are scored, over all folds, give or take one for each; a larger set is thinned evenly. The
        choice hardly gains by more, and costs n_judged · d · k products for each penalty.
    scaling : {"none", "standardize", "minmax"}, default "none"
        As in `RidgeProbe`.
    random_state : int, default 0
        Draws the folds.
    device : str, default "cpu"
        "cpu", "cuda", "cuda:1", several joined by commas, or "auto": a GPU where there is one and it pays. Fits run
        there; scores are computed on the CPU.
    n_threads : int, optional
        Default: all cores.

    Attributes
    ----------
    alpha_ : float
        The penalty with the fewest errors, the strongest of equals.
    alphas_ : float64 (n_alphas,)
    errors_ : int64 (n_alphas,)
        Held-out rows predicted wrongly.
    judged_ : int64 (n_alphas,)
        Rows that `errors_` counts among: `n_judged_`, or fewer for a penalty that was left out once it erred more than
        the best by more than three standard errors of the difference. No penalty is left out before 500 rows, so none
        where fewer are judged.
    n_judged_ : int
        Held-out rows that the choice rests on.
    classes_, coef_, intercept_, n_features_in_, n_constant_features_
        As in `RidgeProbe`, of the probe fitted on all rows at `alpha_`.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> probe = RidgeProbeCV(scaling="standardize").fit(X, y)
    >>> f"{probe.alpha_:.1e}", probe.n_judged_
    ('3.2e-03', 150)
    """

    def __init__(
        self,
        alphas: Sequence[float] | None = None,
        *,
        n_folds: int = 5,
        max_judged: int = 20_000,
        scaling: Scaling = "none",
        random_state: int = 0,
        device: str = "cpu",
        n_threads: int | None = None,
    ) -> None:
        self.alphas = alphas
        self.n_folds = n_folds
        self.max_judged = max_judged
        self.scaling = scaling
        self.random_state = random_state
        self.device = device
        self.n_threads = n_threads

    def fit(self, X: ArrayLike, y: ArrayLike) -> "RidgeProbeCV":
        """Choose the penalty, then fit the probe on all rows.

        Parameters
        ----------
        X : array of shape (n_samples, n_features); y : array of shape (n_samples,). As in `RidgeProbe`.

        Raises
        ------
        As `RidgeProbe.fit`, and ParameterError for a setting out of range.
        """
        alphas = self._checked_settings()
        features, rows, labels = self._prepare(X, y)
        keys = _core.sample_keys([str(i) for i in rows], self.random_state)
        folds = _core.assign_cells(keys, rows, labels, n_folds=self.n_folds, n_subsets=0, subset_size=0)
        wide = len(features) < features.shape[1]
        solver = self._open(features)
        if wide:
            unit = _core.feature_scaling(features, rows, scaling=self.scaling).mean_variance
        else:
            weakest = min(alphas, default=np.inf)  # those of the default are not below the floor
            moments = self._ridge_moments(solver, features, rows, labels, weakest, cells=folds, n_cells=self.n_folds)
            whole = moments.design(scaling=self.scaling, n_threads=self.n_threads)
            unit = whole.mean_variance
        if not alphas:
            unit = unit if unit > 0 else 1.0  # constant features: any penalty will do
            alphas = [a * unit for a in ALPHA_GRID]
        step = -(-len(rows) // self.max_judged)
        judged, wrong, race = 0, np.zeros(len(alphas), np.int64), solver.ridge_race(len(alphas))
        for fold in range(self.n_folds):
            others, held = rows[folds != fold], np.ascontiguousarray(rows[folds == fold][::step])
            there = np.unique(labels[others])
            if len(there) < 2 or not np.isin(labels[held], there).any():
                continue  # nothing to fit, or every probe errs on all of them
            if wide:
                probes = self._dual(features, others, labels, alphas)
                outcomes = _core.judge(features, held, labels, probes, n_threads=self.n_threads)
                wrong += [int((predicted != labels[held]).sum()) for predicted, *_ in outcomes]
            else:
                design = moments.design(
                    [f for f in range(self.n_folds) if f != fold], scaling=self.scaling, n_threads=self.n_threads
                )
                # this fold's floor may be a little higher than that of all rows
                used = [max(a, design.alpha_floor) if a >= whole.alpha_floor * (1 - 1e-6) else a for a in alphas]
                race.add(design, held, labels, used)
            judged += len(held)
        if not judged:
            raise ParameterError(
                "no fold leaves rows of two classes to fit on and one of them to judge: give two classes at least two "
                "rows each"
            )
        errors = wrong if wide else race.errors
        best = min(race.running, key=lambda i: (errors[i], -alphas[i]))
        self.alphas_, self.errors_, self.n_judged_ = np.array(alphas), errors, judged
        self.judged_ = np.full(len(alphas), judged) if wide else race.judged
        self.alpha_ = alphas[best]
        if wide:
            self._keep(self._dual(features, rows, labels, [self.alpha_])[0])
        else:
            self._keep(solver.solve_ridge(whole, [self.alpha_])[0])
        return self

    def _checked_settings(self) -> list[float]:
        """The penalties, none for the default."""
        check_whole("n_folds", self.n_folds, 2, 254)  # cells that the core numbers in a byte
        check_whole("max_judged", self.max_judged, self.n_folds, MOST_ROWS)
        check_whole("random_state", self.random_state, 0, MOST_SEED)
        if self.alphas is None:
            return []
        given = self.alphas if isinstance(self.alphas, Iterable) else [self.alphas]
        if not (alphas := list(given)):
            raise ParameterError("alphas is empty: give at least one penalty")
        return [_positive(a, "alpha") for a in alphas]


class LogisticProbe(_Probe):
    """Linear probe by multinomial logistic regression, with a certificate of its optimality.

        min_W,b  (1/n) Σ −log softmax(xᵢW + b)[yᵢ] + (α/2) ‖W‖²          b is not penalized

    X (n, d) in scaled coordinates: scikit-learn's `LogisticRegression(C=1/(n α))`, for two classes with
    twice that C, since it parametrizes them by one weight vector; `alpha_from_c` converts.

    Parameters
    ----------
    alpha : float, default 1e-3
        Penalty α > 0; tune it. `decompose` tries 1e-2 to 1e-5 on standardized features.
    scaling : {"none", "standardize", "minmax"}, default "none"
        Scaling of each feature from the training rows, folded into the weights. α acts on scaled weights.
    tol : float, default 1e-4
        Relative suboptimality to reach, 1e-7 or more: F − min F as a share of F, or of what F is below its value
        without weights where that is less, down to 2.4e-7 of F, near what float32 can tell. Predictions of a 1e-3 fit
        differ visibly from the optimum's on a few thousand rows, those of a 1e-4 fit hardly.
    max_passes : int, default 300
        Passes over the rows at most, several times what tuned penalties take.
    device : str, default "cpu"
        "cpu", "cuda", "cuda:1", several joined by commas, or "auto": a GPU where there is one and it pays. Fits run
        there; scores are computed on the CPU.
    n_threads : int, optional
        Default: all cores. The same number gives the same bits, another number the same to 1e-6.

    Attributes
    ----------
    classes_ : (k,) labels, ascending
    coef_ : float64 (k, d), intercept_ : float64 (k,)
        On raw features; for two classes (1, d) and (1,), scores of the second minus the first.
    n_features_in_ : int
    n_constant_features_ : int
        Features that do not vary on the training rows beyond float32 rounding; their weights are 0.
    objective_ : float
        F at the solution.
    gap_ : float
        Upper bound on (F − min F)/F.
    stop_ : {"certified", "estimated", "stalled", "max_passes"}
        Which rule ended the fit: the bound reached `tol`; objective and training error stand still, where a
        weak penalty makes the bound loose; no step gains any more in float32, though no rule holds; or the limit.
    converged_ : bool
        `stop_` is "certified" or "estimated", which is no proof: `gap_` may then be far above `tol`. Otherwise `fit`
        warns with scikit-learn's ConvergenceWarning.
    n_passes_ : float
        Passes over the rows.

    Notes
    -----
    Fewer rows than features are fitted in the space that they span, to which the probe belongs in any case.

    Under a penalty so strong that F stays near its value without weights, most of what the weights gain is within a
    small share of F; that is why `tol` is a share of the gain there.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> probe = LogisticProbe(alpha=1e-2, scaling="standardize").fit(X[::2], y[::2])
    >>> round(probe.score(X[1::2], y[1::2]), 2), probe.converged_
    (0.96, True)
    >>> probe.predict_proba(X[1::2]).shape
    (75, 3)
    """

    def __init__(
        self,
        alpha: float = 1e-3,
        *,
        scaling: Scaling = "none",
        tol: float = 1e-4,
        max_passes: int = 300,
        device: str = "cpu",
        n_threads: int | None = None,
    ) -> None:
        self.alpha = alpha
        self.scaling = scaling
        self.tol = tol
        self.max_passes = max_passes
        self.device = device
        self.n_threads = n_threads

    def fit(self, X: ArrayLike, y: ArrayLike) -> "LogisticProbe":
        """Fit the probe; ^C ends the fit with KeyboardInterrupt.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
            float16 and C-contiguous float32 are used as they lie, others converted to float32; a PyTorch tensor of
            any device will do. Do not write to it during the call.
        y : array of shape (n_samples,); any labels numpy can sort

        Raises
        ------
        As `RidgeProbe.fit`; ParameterError for a setting out of range; NumericalError where F is not finite at the
        start.
        """
        alpha = _positive(self.alpha, "alpha")
        check_tolerance(self.tol)
        check_whole("max_passes", self.max_passes, 1, MOST_PASSES)
        features, rows, labels = self._prepare(X, y)
        solver = SpanSolver(Rows.of_arrays(features), self._place(features), n_threads=self.n_threads)
        # but for the variances to standardize with, products of features only shape the solver's steps
        precision: Precision = "auto" if self.scaling == "standardize" else "bfloat16"
        moments = solver.moments(rows, labels, len(self.classes_), precision=precision)
        design = solver.design(moments, None, self.scaling)
        found = solver.fit_logistic(rows, labels, design, alpha, Goal(float(self.tol), int(self.max_passes)))
        self._keep(found.probe)
        fit = found.fit
        self.objective_, self.gap_, self.stop_ = fit.objective, fit.gap, fit.stop
        self.converged_, self.n_passes_ = fit.converged, fit.passes
        if not fit.converged:
            warnings.warn(
                f"the probe stopped after {fit.passes:.0f} passes at a gap of at most {fit.gap:.1e}, above "
                f"tol = {self.tol:g} ({fit.stop}); raise max_passes, tol or alpha, or scale the features",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Probabilities of the classes, softmax of their scores.

        Returns
        -------
        float64 array of shape (n_samples, n_classes)

        Raises
        ------
        As `decision_function`.
        """
        probabilities: NDArray[np.float64] = np.exp(self.predict_log_proba(X))
        return probabilities

    def predict_log_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Logarithms of `predict_proba`, finite where it underflows."""
        scores = self._scores(self._checked(X)).astype(np.float64)
        scores -= scores.max(1, keepdims=True)
        log_probabilities: NDArray[np.float64] = scores - np.log(np.exp(scores).sum(1, keepdims=True))
        return log_probabilities
