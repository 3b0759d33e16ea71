"""Few rows of many features: fits that cost what the rows do, n³, instead of what the features do, d³.

A probe with a penalty on its weights lies in the span of the rows it is fitted to, so that nothing is lost by staying
there: objective, certificate and predictions are those of the features. With Z (n, d) the scaled features less their
mean, all that a fit asks for is Z Zᵀ. Where rows are at least as many as features there is nothing to gain.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64, UInt32

from ssl_risk_rs import _core
from ssl_risk_rs._limits import Scaling
from ssl_risk_rs.errors import ParameterError
from ssl_risk_rs.probes.devices import Device, open_solver
from ssl_risk_rs.probes.features import Features
from ssl_risk_rs.probes.solver import Solver

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

__all__ = ["Span", "SpanDesign", "SpanMoments", "span_of"]

#: squared lengths along an axis, summed over the rows, as a share of the longest row's square: below it, products of
#: the rows tell too little of the axis
_SEEN = 1e-8


@dataclass(frozen=True, slots=True)
class Span:
    """The span of rows.

    basis : orthonormal, float64 (d, r), of scaled features
    solver : of the rows in coordinates of that basis; design : of them all
    """

    basis: np.ndarray
    solver: Solver
    design: "_core.Design"


class SpanMoments:
    """Rows by cell, whose designs are made from the rows themselves; as `_core.Moments`.

    rows : uint32 (m,); labels : uint32, by row number, as are `cells`, uint8
    device : of logistic fits
    """

    def __init__(
        self,
        features: Features,
        rows: np.ndarray,
        labels: np.ndarray,
        n_classes: int,
        cells: np.ndarray | None = None,
        *,
        device: Device = "cpu",
        n_threads: int | None = None,
    ) -> None:
        self._features, self._rows, self._labels, self._n_classes = features, rows, labels, n_classes
        self._cells = None if cells is None else cells[rows]
        self._device, self._n_threads = device, n_threads

    def design(self, cells: Sequence[int] | None = None, *, scaling: Scaling = "none") -> "SpanDesign":
        """Rows of these cells (default all), scaled and centred.

        Raises
        ------
        ParameterError for rows of fewer than two classes, or one with NaN or infinity, which it names.
        """
        rows = self._rows
        if cells is not None and self._cells is not None:
            rows = rows[np.isin(self._cells, list(cells))]
        return SpanDesign(
            self._features,
            rows,
            self._labels[rows],
            self._n_classes,
            scaling,
            device=self._device,
            n_threads=self._n_threads,
        )


class SpanDesign:
    """A training set by the products of its rows, Z Zᵀ; as `_core.Design`.

    Attributes
    ----------
    rows : uint32 (n,), labels : uint32 (n,), their classes; n_classes : of the task, those without rows included
    scaled : how the rows scale their features
    alpha_floor : 0, since the products are float64 sums over the features: they determine every ridge probe
    """

    alpha_floor = 0.0

    def __init__(
        self,
        features: Features,
        rows: UInt32[np.ndarray, " n"],
        labels: UInt32[np.ndarray, " n"],
        n_classes: int,
        scaling: Scaling,
        *,
        device: Device = "cpu",
        n_threads: int | None = None,
    ) -> None:
        self.rows, self.labels, self.n_classes, self.n_threads = rows, labels, n_classes, n_threads
        self._features, self._device = features, device
        present = len(np.unique(labels))
        if present < 2:
            raise ParameterError(
                f"a probe needs rows of at least two classes, its training rows have {present} of {n_classes}"
            )
        self.scaled = _core.feature_scaling(features.source, rows, scaling=scaling)

    @property
    def mean_variance(self) -> float:
        """As `_core.Design.mean_variance`."""
        return self.scaled.mean_variance

    @property
    def constant(self) -> UInt32[np.ndarray, " c"]:
        """As `_core.Design.constant`."""
        return self.scaled.constant

    @cached_property
    def _spectrum(self) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues (n,) and eigenvectors (n, n) of Z Zᵀ."""
        with self._blas():
            z = self._z()
            values, vectors = np.linalg.eigh(z @ z.T)
        return np.maximum(values, 0), vectors

    @cached_property
    def span(self) -> Span:
        """The span of the rows, for logistic fits."""
        with self._blas():
            basis, coordinates = span_of(self._z(), self.labels)
        solver = open_solver(Features.of_arrays(coordinates.astype(np.float32)), self._device, n_threads=self.n_threads)
        moments = solver.moments(np.arange(len(coordinates), dtype=np.uint32), self.labels, self.n_classes)
        return Span(basis, solver, moments.design(scaling="none", n_threads=self.n_threads))

    def ridge_weights(
        self, targets: Float64[np.ndarray, "n k"], alphas: Sequence[float]
    ) -> list[Float64[np.ndarray, "d k"]]:
        """Zᵀ (Z Zᵀ + nα I)⁻¹ (Y − Ȳ) for each penalty, in scaled coordinates: min (1/2n) ‖Z W − Y‖² + (α/2) ‖W‖²."""
        values, vectors = self._spectrum
        with self._blas():
            turned = vectors.T @ (targets - targets.mean(0))
            duals = [vectors @ (turned / (values + len(self.rows) * alpha)[:, None]) for alpha in alphas]
            together = self._z().T @ np.concatenate(duals, 1)
        return np.split(together, len(alphas), 1)

    def on_features(self, weights: Float64[np.ndarray, "k r"], intercept: np.ndarray) -> "_core.LinearProbe":
        """A probe on coordinates as the same probe on features."""
        with self._blas():
            return self.probe(weights @ self.span.basis.T, intercept)

    def probe(self, weights: Float64[np.ndarray, "k d"], intercept: np.ndarray) -> "_core.LinearProbe":
        """The probe of scores W z + b, for weights of z, the centred rows in scaled coordinates."""
        scaled = self.scaled
        return _core.LinearProbe(
            np.ascontiguousarray(weights), intercept - weights @ scaled.offset, scaled.shift, scaled.scale
        )

    def projected(self, probe: "_core.LinearProbe") -> "_core.LinearProbe":
        """The part of a probe on features that lies in the span, on coordinates."""
        coef, intercept = probe.raw()
        scale = self.scaled.scale.astype(np.float64)
        scaled = np.divide(coef, scale, out=np.zeros_like(coef), where=scale > 0)  # (k, d), of z
        with self._blas():
            weights = scaled @ self.span.basis
        return _core.LinearProbe(weights, intercept + coef @ self.scaled.mean)

    def _blas(self) -> AbstractContextManager[object]:
        """Products in here take as many threads as were asked for."""
        return nullcontext() if self.n_threads is None else _LIMITS.held(self.n_threads)

    def _z(self) -> Float64[np.ndarray, "n d"]:
        """Scaled features of the rows less their mean."""
        z = self._features.read(self.rows, n_threads=self.n_threads).astype(np.float64)
        z -= self.scaled.mean
        z *= self.scaled.scale
        return z


class _Limits:
    """A limit on the threads of BLAS, which is one for the whole process: it holds from the first who asks for one
    until the last has left, so that what was before comes back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0

    @contextmanager
    def held(self, n_threads: int) -> Iterator[None]:
        """`n_threads`, unless somebody is inside with another number."""
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._before = _libraries().limit(limits=n_threads, user_api="blas")
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if self._inside == 0:
                    self._before.restore_original_limits()


_LIMITS = _Limits()


@cache
def _libraries() -> "ThreadpoolController":
    import scipy.linalg  # noqa: F401  # it has a BLAS of its own, which must be there to be limited
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def span_of(z: Float64[np.ndarray, "n d"], labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An orthonormal basis (d, r) of the span of centred rows, r ≤ n, and their coordinates (n, r): z = coordinates
    basisᵀ. The covariance within classes is diagonal in it, as the logistic solver's metric wants it.

    From the products of the rows; where these leave directions open, by a QR decomposition of them.
    """
    gram = z @ z.T
    axes = _axes(gram, labels)
    if axes is not None:
        return z.T @ axes, gram @ axes
    from scipy.linalg import qr

    directions, r = qr(z.T, mode="economic")
    coordinates = r.T
    contrasts = _Contrasts(labels).of(coordinates)
    turn = np.linalg.eigh(contrasts.T @ contrasts)[1]
    return directions @ turn, coordinates @ turn


def _axes(gram: np.ndarray, labels: np.ndarray) -> np.ndarray | None:
    """A (n, n − 1): Zᵀ A is an orthonormal basis, for the products Z Zᵀ (n, n) of centred rows; None where a direction
    is too small beside the rows to be seen in them.

    First the directions within classes, from the products of n − k contrasts of rows of one class; then those of the
    class means that lie beyond, where nothing varies within classes. Two small eigendecompositions: n − k and k rows.
    """
    contrasts = _Contrasts(labels)
    least = _SEEN * float(np.einsum("ii->i", gram).max())
    a = contrasts.combine(_roots(contrasts.of(contrasts.of(gram).T), least))
    means = contrasts.means
    beyond = means - a @ (a.T @ (gram @ means))
    a = np.concatenate([a, beyond @ _roots(beyond.T @ gram @ beyond, least)], 1)
    return a if a.shape[1] == len(gram) - 1 else None


class _Contrasts:
    """Orthonormal sums over rows of one class that are 0 for equal rows: of each but the first of a class, the
    difference to the mean of those before it. n − k of them for k classes.

    Attributes
    ----------
    means : float64 (n, k), sums over the rows of each class, of length 1
    """

    def __init__(self, labels: np.ndarray) -> None:
        classes, class_of, counts = np.unique(labels, return_inverse=True, return_counts=True)
        self.means = (class_of.ravel()[:, None] == np.arange(len(classes))) / np.sqrt(counts)
        self._order = np.argsort(class_of.ravel(), kind="stable")  # rows by class
        self._first = np.repeat(np.cumsum(counts) - counts, counts)
        before = np.arange(len(labels)) - self._first
        self._at = np.flatnonzero(before)
        self._before = before[self._at, None]  # rows of the class before each
        self._size = 1 / np.sqrt(self._before * (self._before + 1.0))

    def of(self, values: Float64[np.ndarray, "n m"]) -> Float64[np.ndarray, "c m"]:
        """The contrasts of rows of `values`."""
        ordered = values[self._order]
        sums = np.concatenate([np.zeros((1, ordered.shape[1])), np.cumsum(ordered, 0)])  # of the rows before each
        earlier = sums[self._at] - sums[self._first[self._at]]
        return np.asarray((self._before * ordered[self._at] - earlier) * self._size)

    def combine(self, weights: Float64[np.ndarray, "c m"]) -> Float64[np.ndarray, "n m"]:
        """Sums of contrasts: what weights each row gets."""
        n = len(self._order)
        scaled = np.zeros((n + 1, weights.shape[1]))
        scaled[self._at] = weights * self._size
        later = np.cumsum(scaled[::-1], 0)[::-1]  # from each row on
        ends = np.searchsorted(self._first, self._first, side="right")
        ordered = later[ends] - later[1:]
        ordered[self._at] += self._before * scaled[self._at]
        found = np.empty_like(ordered)
        found[self._order] = ordered
        return found


def _roots(gram: np.ndarray, least: float) -> np.ndarray:
    """V Λ^(−1/2) (m, r) of a Gram matrix V Λ Vᵀ, without eigenvalues of `least` or below."""
    if not len(gram):
        return np.zeros((0, 0))
    values, vectors = np.linalg.eigh(gram)
    kept = values > least
    return np.asarray(vectors[:, kept] / np.sqrt(values[kept]))
