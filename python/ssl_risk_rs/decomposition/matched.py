"""Encoders of unequal dimension at equal dimension: which part of a gap goes with the number of features.

Every encoder's features are projected onto their leading principal directions, and onto random ones as control; each
projection is decomposed like the whole, and compared row by row. Directions come from rows in folds, on which nothing
is judged. Features are not scaled, here and in the comparison at full dimension: directions of the covariance, and
probes on them, are then the same for a rotated representation, and a projection onto all directions changes nothing.

This is a counterfactual about linear subspaces of these encoders. It does not say how a narrower encoder would do that
was trained as such.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

from ssl_risk_rs.decomposition.decomposing import decompose_task
from ssl_risk_rs.decomposition.paired import compare, dimension_parts
from ssl_risk_rs.decomposition.settings import Settings
from ssl_risk_rs.decomposition.task import Task
from ssl_risk_rs.errors import ParameterError
from ssl_risk_rs.events import Report, within
from ssl_risk_rs.probes.features import Features
from ssl_risk_rs.results.compare import Matched
from ssl_risk_rs.results.run import Decomposition

__all__ = ["Directions", "match_dimensions"]

Directions: TypeAlias = Literal["leading", "random"]

#: rows that are read at a time
BLOCK = 8192


@dataclass(frozen=True, slots=True)
class _Axes:
    """Orthonormal directions (d, m) and the mean (d,) that is subtracted first."""

    mean: np.ndarray
    directions: np.ndarray

    def project(self, features: Features) -> np.ndarray:
        """All rows on the directions, float32 (n, m)."""
        found = np.empty((features.n_rows, self.directions.shape[1]), np.float32)
        for start in range(0, features.n_rows, BLOCK):
            rows = np.arange(start, min(start + BLOCK, features.n_rows))
            found[rows] = (features.read(rows).astype(np.float64) - self.mean) @ self.directions
        return found


def match_dimensions(
    tasks: Sequence[Task],
    names: Sequence[str],
    dimensions: Sequence[int],
    *,
    settings: Settings,
    confidence: float | None = None,
    report: Report | None = None,
) -> Matched:
    """Compare encoders at equal dimensions.

    Parameters
    ----------
    tasks : two or more encoders' features of the same rows; the first is the baseline
    dimensions : ascending, each at most the smallest number of features; the last is the one that parts are told for
    settings : protocol "strict"; `scaling` is "none" whatever they say

    Returns
    -------
    Matched: comparisons at full dimension and at each dimension, by leading and by random directions

    Raises
    ------
    ParameterError for the paper's protocol (it has no rows on which nothing is judged), or dimensions out of range;
    those of `decompose_task` and `compare`.
    """
    if settings.protocol != "strict":
        raise ParameterError("encoders are matched in dimension under --protocol strict only")
    widths = [task.features.n_features for task in tasks]
    if not dimensions or sorted(set(dimensions)) != list(dimensions) or dimensions[0] < 1:
        raise ParameterError(f"dimensions must be positive and ascending, got {list(dimensions)}")
    if dimensions[-1] > min(widths):
        raise ParameterError(f"dimension {dimensions[-1]} is more than the {min(widths)} features of one encoder")
    settings = replace(settings, scaling="none")
    seed = settings.seed or 0

    def decomposed(task: Task, name: str, what: str) -> Decomposition:
        return decompose_task(task, name=name, settings=settings, report=within(report, f"{name}, {what}"))

    whole = [decomposed(task, name, "all features") for task, name in zip(tasks, names, strict=True)]
    kinds: tuple[Directions, ...] = ("leading", "random")
    found: dict[Directions, list[list[Decomposition]]] = {kind: [[] for _ in dimensions] for kind in kinds}
    for task, name, result in zip(tasks, names, whole, strict=True):
        rows = _unjudged_rows(task, result)
        for kind in kinds:
            axes = _leading(task.features, rows) if kind == "leading" else _random(task.features, rows, seed)
            axes = replace(axes, directions=axes.directions[:, : dimensions[-1]])
            projected = axes.project(task.features)
            for place, m in enumerate(dimensions):
                features = Features.of_arrays(np.ascontiguousarray(projected[:, :m]))
                one = replace(task, features=features)
                found[kind][place].append(decomposed(one, name, f"{kind} {m}"))
    leading = [compare(results, confidence=confidence) for results in found["leading"]]
    return Matched(
        dimensions=tuple(dimensions),
        features=tuple(widths),
        full=compare(whole, confidence=confidence),
        leading=tuple(leading),
        random=tuple(compare(results, confidence=confidence) for results in found["random"]),
        parts=dimension_parts(whole, found["leading"][-1], names, confidence=confidence),
    )


def _unjudged_rows(task: Task, result: Decomposition) -> np.ndarray:
    """Training rows in folds: R_AS is judged on the others, R_CS and R_US on test rows."""
    judged = result.judgements
    assert judged is not None  # it was made here
    return task.train_rows[judged.fold >= 0]


def _mean(features: Features, rows: np.ndarray) -> np.ndarray:
    total = np.zeros(features.n_features)
    for start in range(0, len(rows), BLOCK):
        total += features.read(rows[start : start + BLOCK]).astype(np.float64).sum(0)
    return total / len(rows)


def _leading(features: Features, rows: np.ndarray) -> _Axes:
    """Principal directions of the rows, by falling variance."""
    mean = _mean(features, rows)
    products = np.zeros((features.n_features, features.n_features))
    for start in range(0, len(rows), BLOCK):
        centred = features.read(rows[start : start + BLOCK]).astype(np.float64) - mean
        products += centred.T @ centred
    _, vectors = np.linalg.eigh(products / len(rows))
    return _Axes(mean, vectors[:, ::-1])


def _random(features: Features, rows: np.ndarray, seed: int) -> _Axes:
    """Orthonormal directions of which every rotation is as likely."""
    drawn = np.random.default_rng(seed).standard_normal((features.n_features, features.n_features))
    q, r = np.linalg.qr(drawn)
    return _Axes(_mean(features, rows), q * np.sign(np.diag(r)))
