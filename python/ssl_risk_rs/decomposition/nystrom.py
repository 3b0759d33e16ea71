"""The usability gap: what a probe gains that is not linear in the representation.

The non-linear probe is linear in the features and, beside them, in Nyström features of a Gaussian kernel (Williams and
Seeger 2001): K(x, L)·K(L, L)^(−½) for landmarks L drawn from rows in folds, on which nothing is judged. It is tuned,
fitted at the floor, certified and judged as the linear probe is, on the same cells, so that the two are paired by row.
The symmetric root leaves all Nyström features about equally long: scaling them changes the kernel little.

Features lower a training error by their number alone (docs/decomposition.md). What answers "is a linear layer enough?"
is the total, and R_AF only through its midpoint with the error on held-out rows.
"""

import math
import time
from dataclasses import dataclass, replace

import numpy as np

from ssl_risk_rs._splits import sample_keys
from ssl_risk_rs.decomposition.again import settings_like
from ssl_risk_rs.decomposition.decomposing import decompose_task
from ssl_risk_rs.decomposition.paired import paired_differences
from ssl_risk_rs.decomposition.task import Task
from ssl_risk_rs.errors import ParameterError
from ssl_risk_rs.events import Report, within
from ssl_risk_rs.probes.features import Features
from ssl_risk_rs.results.explain import UsabilityGap
from ssl_risk_rs.results.run import Decomposition

__all__ = ["gap_bytes", "n_landmarks", "usability_gap"]

#: landmarks at most, and at most this share of the training rows: more features than that fit the rows by themselves
MOST_LANDMARKS, SHARE = 512, 0.25
#: rows that are mapped at a time
BLOCK = 8192
#: eigenvalues of K(L, L) below this share of the largest are rounding
RANK = 1e-6
_QUANTITIES = ("approx_usability", "risk_af_midpoint", "probe_gen", "enc_gen", "agg_risk")


def n_landmarks(n_train: int) -> int:
    """How many landmarks so many training rows have."""
    return max(2, min(MOST_LANDMARKS, int(SHARE * n_train)))


def gap_bytes(task: Task) -> int:
    """Memory of the features of the non-linear probe."""
    return 4 * len(task.labels) * (task.features.n_features + n_landmarks(len(task.train_rows)))


def usability_gap(task: Task, linear: Decomposition, *, report: Report | None = None) -> UsabilityGap:
    """Decompose with the non-linear probe, and subtract the linear one.

    Parameters
    ----------
    task : the features that `linear` was made of

    Raises
    ------
    ParameterError unless `linear` is of the strict protocol; NotComparableError if the task has other rows; those of
    `decompose_task`.
    """
    if linear.method.protocol != "strict" or linear.judgements is None:
        raise ParameterError("a usability gap needs a decomposition of the strict protocol that holds its judged rows")
    began = time.perf_counter()
    folds = _fold_rows(task, linear)
    kernel = _Kernel.of(task, folds, linear.method.seed)
    wide = replace(task, features=Features.of_arrays(kernel.features(task.features)))
    settings = replace(settings_like(linear), tol=None, order="paper")  # there are more features
    found = decompose_task(wide, name="non-linear", settings=settings, report=within(report, "non-linear probe"))
    differences = paired_differences(linear, found, ("linear", "non-linear"), _QUANTITIES)
    return UsabilityGap(len(kernel.landmarks), kernel.bandwidth, differences, time.perf_counter() - began)


def _fold_rows(task: Task, linear: Decomposition) -> np.ndarray:
    """Rows in folds, as the linear decomposition was cut: by sample id."""
    judged = linear.judgements
    assert judged is not None  # checked above
    held = set(judged.train_ids[judged.in_subset].tolist())
    return np.array([r for r in task.train_rows.tolist() if task.sample_ids[r].encode() not in held], np.uint32)


@dataclass(frozen=True, slots=True)
class _Kernel:
    """A Gaussian kernel on scaled features, its landmarks (m, d) and K(L, L)^(−½), (m, m)."""

    mean: np.ndarray
    scale: np.ndarray
    landmarks: np.ndarray
    bandwidth: float
    root: np.ndarray

    @classmethod
    def of(cls, task: Task, rows: np.ndarray, seed: int) -> "_Kernel":
        """Landmarks are the rows with the smallest keys; the bandwidth is the median distance between them."""
        if len(rows) < 2:
            raise ParameterError(f"{len(rows)} rows in folds are too few for landmarks of a kernel")
        keys = sample_keys([task.sample_ids[r] for r in rows.tolist()], seed)
        count = n_landmarks(len(task.train_rows))
        chosen = np.sort(rows[np.argsort(keys, kind="stable")[:count]])
        x = task.features.read(chosen).astype(np.float64)
        mean, scale = x.mean(0), x.std(0)
        scale = np.where(scale > 0, scale, 1.0)
        landmarks = (x - mean) / scale
        distances = _squared(landmarks, landmarks)
        apart = distances[np.triu_indices(len(landmarks), 1)]
        bandwidth = math.sqrt(float(np.median(apart))) or 1.0
        values, vectors = np.linalg.eigh(np.exp(-distances / (2 * bandwidth**2)))
        kept = values > RANK * values[-1]
        root = (vectors[:, kept] / np.sqrt(values[kept])) @ vectors[:, kept].T
        return cls(mean, scale, landmarks, bandwidth, root)

    def features(self, features: Features) -> np.ndarray:
        """The features and their Nyström features, float32 (n, d + m)."""
        d = features.n_features
        found = np.empty((features.n_rows, d + len(self.landmarks)), np.float32)
        for start in range(0, features.n_rows, BLOCK):
            rows = np.arange(start, min(start + BLOCK, features.n_rows), dtype=np.uint32)
            x = features.read(rows).astype(np.float64)
            found[rows, :d] = x
            kernel = np.exp(-_squared((x - self.mean) / self.scale, self.landmarks) / (2 * self.bandwidth**2))
            found[rows, d:] = kernel @ self.root
        return found


def _squared(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Squared distances (n, m)."""
    found = np.square(x).sum(1)[:, None] + np.square(y).sum(1)[None, :] - 2 * x @ y.T
    return np.asarray(np.maximum(found, 0.0))
