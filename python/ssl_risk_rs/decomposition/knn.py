"""A k-nearest-neighbour classifier on a representation: nothing is fitted, and no penalty is chosen.

Neighbours are the training rows of largest cosine. Each votes for its class with the weight exp(cosine/temperature), as
Wu, Xiong, Yu and Lin (2018) have it and DINO's authors after them, or with one vote; of classes with as many votes the
one of the nearer row wins.

    knn_test  error on the test rows, classified by all training rows
    knn_held  error on training rows that are held out (whole groups, where rows have groups), classified by the others
    knn_gap   error on the test rows, classified by those others too (knn_test_rest), less knn_held: what test rows are
              harder by

The gap plays the part that encoder generalization at equal label count plays for a probe, with no fit between: an
encoder that has seen the training images, or test rows that differ from them, raise it.

Intervals are for fresh rows (groups) beside the same neighbours, of which judged rows are independent: Wilson's for the
errors, estimate ± t·√(V + Σ 1/n²) for the gap. How well they cover: docs/coverage.md.
"""

import math
from collections.abc import Callable, Sequence
from numbers import Real
from typing import TYPE_CHECKING

import numpy as np

from ssl_risk_rs import _core
from ssl_risk_rs._inference import critical_value, satterthwaite
from ssl_risk_rs._limits import MOST_SEED, check_confidence, check_threads, check_whole
from ssl_risk_rs._notes import Note
from ssl_risk_rs._splits import sample_keys
from ssl_risk_rs.decomposition.both_sides import shared_groups, shared_ids
from ssl_risk_rs.decomposition.grading import grade
from ssl_risk_rs.decomposition.repeats import repeated_rows
from ssl_risk_rs.decomposition.scores import guessing_error
from ssl_risk_rs.decomposition.task import Representations, Task, make_task
from ssl_risk_rs.decomposition.units import Units
from ssl_risk_rs.errors import ParameterError
from ssl_risk_rs.results.estimate import Estimate, Grade, wilson
from ssl_risk_rs.results.knn import Neighbours

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["HELD_ROWS", "NEIGHBOURS", "TEMPERATURE", "classify", "knn"]

#: neighbours that vote, and the temperature of their weights, by default: those of DINO's evaluation
NEIGHBOURS, TEMPERATURE = 20, 0.07
#: training rows that are held out: a fifth of them, and no more than these
HELD_ROWS, _SHARE = 10_000, 5
#: base rows that a search holds at a time
_BLOCK = 4096
#: numbers of a block of votes
_VOTES = 1 << 23


def knn(
    features: Representations,
    y: "ArrayLike | None" = None,
    X_test: "ArrayLike | None" = None,
    y_test: "ArrayLike | None" = None,
    *,
    k: int = NEIGHBOURS,
    temperature: float | None = TEMPERATURE,
    groups: "str | tuple[Sequence[object], Sequence[object]] | None" = None,
    name: str = "features",
    held_rows: int | None = None,
    confidence: float = 0.95,
    seed: int = 0,
    n_threads: int | None = None,
) -> Neighbours:
    """Classify test rows, and held-out training rows, by their nearest training rows.

    Parameters
    ----------
    features, y, X_test, y_test, groups : as in `decompose`
    k : neighbours that vote
    temperature : of the weights exp(cosine/temperature); None for one vote each
    name : of the encoder, where `features` is no bank
    held_rows : training rows that are held out, drawn with `seed`; default: a fifth, at most 10,000; 0 for none
    confidence : of the intervals, between 0 and 1
    n_threads : default all cores

    Returns
    -------
    Neighbours; `estimates["knn_test"]` has the error and its interval, `frame()` gives all as polars.

    Raises
    ------
    ParameterError, ShapeError: those of `decompose`, and for k, temperature or held_rows out of range.

    Examples
    --------
    >>> found = knn(X, y, X_test, y_test, k=5)
    >>> 0 <= found.estimate("knn_test") <= 1
    True

    Notes
    -----
    Time 2·m·n·d operations for m classified rows, n training rows and d features, memory O(m·k).
    """
    from ssl_risk_rs.bank import FeatureBank, only_one

    features = only_one(features, "features")
    task = make_task(features, y, X_test, y_test, groups=groups)
    data = "arrays"
    if isinstance(features, FeatureBank):
        name, data = features.shown_encoder, features.shown_data
    return classify(
        task, k=k, temperature=temperature, name=name, data=data, held_rows=held_rows, confidence=confidence,
        seed=seed, n_threads=n_threads,
    )  # fmt: skip


def classify(
    task: Task,
    *,
    k: int = NEIGHBOURS,
    temperature: float | None = TEMPERATURE,
    name: str = "features",
    data: str = "arrays",
    held_rows: int | None = None,
    confidence: float = 0.95,
    seed: int = 0,
    n_threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Neighbours:
    """As `knn`, of a task; `progress` is called with rows visited, and how many there are."""
    check_confidence(confidence)
    check_threads(n_threads)
    _check(task, k, temperature, held_rows, seed)
    base = task.train_rows
    held = _draw(task, min(HELD_ROWS, len(base) // _SHARE) if held_rows is None else held_rows, seed, held_rows is None)
    if held_rows is None and len(base) - len(held) < k:
        held = held[:0]
    rest = np.setdiff1d(base, held, assume_unique=True)
    if len(held) and len(rest) < k:
        raise ParameterError(
            f"{k} neighbours are asked for, and {len(rest):,} training rows are not held out: ask for fewer, or hold "
            "out fewer"
        )
    searches = [(task.test_rows, base), *([(held, rest), (task.test_rows, rest)] if len(held) else [])]
    visits = [len(rows) * math.ceil(len(among) / _BLOCK) for rows, among in searches]

    def errors(search: int) -> _Error:
        """The error of the rows of a search among its base rows."""
        rows, among = searches[search]
        before, total = sum(visits[:search]), sum(visits)
        places, cosines = _core.k_nearest_rows(
            task.features.source, rows, task.features.source, among, k, n_threads=n_threads,
            progress=None if progress is None else lambda visited: progress(before + visited, total),
        )  # fmt: skip
        named = _vote(places, cosines, task.labels[among], task.n_classes, temperature)
        groups = None if task.groups is None else task.groups[rows]
        return _Error(named != task.labels[rows], groups, int(np.isnan(cosines[:, 0]).sum()))

    test = errors(0)
    found, undirected = {"knn_test": test.estimate("knn_test", confidence)}, test.undirected
    notes = [*task.notes, *shared_groups(task), *shared_ids(task)]
    repeats = repeated_rows(task.features, base, task.test_rows, task.groups)
    if repeats.test:
        notes.append(Note("repeated_among_neighbours", {"count": repeats.test, "total": len(task.test_rows)}))
    if len(held):
        of_held, beside = errors(1), errors(2)
        found["knn_test_rest"] = beside.estimate("knn_test_rest", confidence)
        found["knn_held"] = of_held.estimate("knn_held", confidence)
        found["knn_gap"] = _difference(beside, of_held, confidence)
        undirected += of_held.undirected
        if repeats.apart:
            notes.append(Note("repeated_neighbours", {"count": repeats.apart, "total": len(base)}))
    elif held_rows is None:
        notes.append(Note("nothing_held_out"))
    if undirected:
        notes.append(Note("rows_without_direction", {"count": undirected}))
    return Neighbours(
        name, data, k, temperature, len(base), len(task.test_rows), len(held), task.features.n_features,
        task.n_classes, guessing_error(task.labels[base], task.labels[task.test_rows]), found, confidence, tuple(notes),
    )  # fmt: skip


def _draw(task: Task, n_held: int, seed: int, at_most: bool) -> np.ndarray:
    """Training rows that are held out, uint32, ascending: rows, or whole groups: as many as fit in with `at_most`, else
    until there are so many rows. Identifiers draw them: they are the same in any order of the rows."""
    base = task.train_rows
    if task.groups is None:
        keys = sample_keys([task.sample_ids[row] for row in base.tolist()], seed)
        return np.sort(base[np.argsort(keys, kind="stable")[:n_held]])
    codes, sizes = np.unique(task.groups[base], return_counts=True)
    order = np.argsort(sample_keys([task.group_names[code] for code in codes.tolist()], seed), kind="stable")
    if at_most:
        order = order[sizes[order] <= n_held]
    after = np.cumsum(sizes[order])
    chosen = order[after <= n_held] if at_most else order[after - sizes[order] < n_held]
    return base[np.isin(task.groups[base], codes[chosen])]


def _check(task: Task, k: int, temperature: float | None, held_rows: int | None, seed: int) -> None:
    if task.target_kind != "classes":
        raise ParameterError(f"the nearest rows vote for classes, and {task.target} is of another kind")
    for rows, name in ((task.train_rows, "training"), (task.test_rows, "test")):
        if not len(rows):
            raise ParameterError(f"there is no {name} row")
    check_whole("k", k, 1, len(task.train_rows))
    check_whole("seed", seed, 0, MOST_SEED)
    if held_rows is not None:
        check_whole("held_rows", held_rows, 0, len(task.train_rows) - 1)
    if temperature is not None and not (isinstance(temperature, Real) and 0.001 <= temperature < math.inf):
        raise ParameterError(f"temperature must be a number of at least 0.001, got {temperature!r}")


def _vote(
    places: np.ndarray, cosines: np.ndarray, labels: np.ndarray, n_classes: int, temperature: float | None
) -> np.ndarray:
    """Class that the neighbours name, int64 (m,); −1 where there are none.

    places, cosines : (m, k), nearest first; labels : uint32 (n,), of the base rows
    """
    named = np.full(len(places), -1, np.int64)
    block = max(1, _VOTES // max(n_classes, places.shape[1]))
    for start in range(0, len(places), block):
        cosine = cosines[start : start + block]
        there = ~np.isnan(cosine)
        classes = labels[np.where(there, places[start : start + block], 0)].astype(np.int64)
        weights = there.astype(float)
        if temperature is not None:  # less that of the nearest: a factor that all have
            weights[there] = np.exp((cosine - cosine[:, :1])[there] / temperature)
        cells = classes + n_classes * np.arange(len(cosine))[:, None]
        votes = np.bincount(cells.ravel(), weights=weights.ravel(), minlength=len(cosine) * n_classes)
        own = votes[cells]
        wins = there & (own >= own.max(1, keepdims=True))
        named[start : start + block] = np.where(there[:, 0], classes[np.arange(len(cosine)), wins.argmax(1)], -1)
    return named


class _Error:
    """The error on a set of rows, and its variance by independent units: rows, or whole groups."""

    def __init__(self, wrong: np.ndarray, groups: np.ndarray | None, undirected: int) -> None:
        self.n, self.errors, self.undirected = len(wrong), float(wrong.sum()), undirected
        self.value = float(wrong.mean())
        units = Units(np.zeros(self.n, np.int64), groups, np.zeros(1), ["all"])  # one stratum
        scores = units.centred(wrong.astype(float)) * units.scale / self.n
        self.variance = float(np.square(units.summed(scores[:, None])).sum())
        self.groups = None if groups is None else units.n_units
        self.units = units.whole
        self.df = math.inf if groups is None else units.degrees_of_shares

    def estimate(self, quantity: str, confidence: float) -> Estimate:
        """With Wilson's interval."""
        marked = grade(groups=self.groups, df=self.df, deciding=min(self.errors, self.n - self.errors))
        low, high = wilson(self.value, self.variance, self.units, critical_value(confidence, self.df))
        if marked is Grade.NONE:
            low = high = math.nan
        return Estimate(quantity, self.value, math.sqrt(self.variance), low, high, self.n, self.groups, self.df, marked)


def _difference(test: _Error, held: _Error, confidence: float) -> Estimate:
    """Test less held-out rows: two sets of independent rows beside the same neighbours."""
    variance = test.variance + held.variance
    df, groups = math.inf, None
    if test.groups is not None and held.groups is not None:
        df = satterthwaite([(part.variance, part.df) for part in (test, held)])
        groups = min(test.groups, held.groups)
    marked = grade(groups=groups, df=df, deciding=min(min(p.errors, p.n - p.errors) for p in (test, held)))
    value = test.value - held.value
    half = critical_value(confidence, df) * math.sqrt(variance + 1 / test.n**2 + 1 / held.n**2)
    low, high = (math.nan, math.nan) if marked is Grade.NONE else (value - half, value + half)
    return Estimate("knn_gap", value, math.sqrt(variance), low, high, test.n, groups, df, marked)
