"""Near-duplicates between the training and test rows of a bank, and the decomposition with and without them."""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ssl_risk_rs._inference import critical_value, satterthwaite
from ssl_risk_rs._notes import Note, each_once
from ssl_risk_rs.decomposition.decomposing import decompose_task
from ssl_risk_rs.decomposition.restricted import restricted
from ssl_risk_rs.decomposition.scores import common_groups
from ssl_risk_rs.decomposition.settings import Settings
from ssl_risk_rs.decomposition.task import Task
from ssl_risk_rs.errors import DataError, ParameterError, ShapeError
from ssl_risk_rs.events import Event, Report
from ssl_risk_rs.geometry import Matches, find_matches
from ssl_risk_rs.geometry.nearest import FALSE_SHARE
from ssl_risk_rs.results.estimate import Estimate
from ssl_risk_rs.results.judgements import Judgements
from ssl_risk_rs.results.quantities import QUANTITIES
from ssl_risk_rs.results.run import Decomposition
from ssl_risk_rs.workflow.features import Reading, open_features
from ssl_risk_rs.workflow.stats import split_rows

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Audit", "Change", "Pair", "audit_target", "audit_task"]

#: quantities that test rows play a part in, as the table prints them
_MOVED = ("enc_gen", "enc_gen_equal_labels", "label_count", "agg_risk")


@dataclass(frozen=True, slots=True)
class Pair:
    """A test row and the training row that it is most similar to.

    Attributes
    ----------
    similarity : cosine; p_value : share of training rows that are as similar to another training row
    test_class, train_class : names of their classes
    """

    test_id: str
    train_id: str
    similarity: float
    p_value: float
    test_class: str
    train_class: str


@dataclass(frozen=True, slots=True)
class Change:
    """A quantity without the listed test rows less the same with all; fractions.

    Attributes
    ----------
    quantity : name in `QUANTITIES`
    all_rows, without : its estimates; change, low, high : of `without` less `all_rows`, paired by row
    beside : the change if as many of the next most similar test rows are left out instead; NaN where there are not as
        many
    """

    quantity: str
    all_rows: Estimate
    without: Estimate
    change: float
    low: float
    high: float
    beside: float


@dataclass(frozen=True, eq=False)
class Audit:
    """What an audit found.

    Attributes
    ----------
    pairs : the most similar first
    changes : of quantities that test rows play a part in; empty where nothing was decomposed
    wrong : listed test rows that the probe judges wrongly: with fewer than ten the intervals are indicative
    """

    name: str
    data: str
    matches: Matches
    pairs: tuple[Pair, ...]
    n_features: int
    confidence: float
    decomposition: Decomposition | None = None
    changes: tuple[Change, ...] = ()
    wrong: int = 0
    notes: tuple[Note, ...] = ()

    @property
    def other_class(self) -> int:
        """Pairs whose rows are of different classes."""
        return sum(pair.test_class != pair.train_class for pair in self.pairs)

    def frame(self) -> "pl.DataFrame":
        """One row for each pair: test_id, train_id, similarity, p_value, test_class, train_class."""
        import polars as pl

        schema = {
            "test_id": pl.String, "train_id": pl.String, "similarity": pl.Float64, "p_value": pl.Float64,
            "test_class": pl.String, "train_class": pl.String,
        }  # fmt: skip
        columns = {name: [getattr(pair, name) for pair in self.pairs] for name in schema}
        return pl.DataFrame(columns, schema=schema)


def audit_target(
    target: str,
    *,
    test: str | None = None,
    group: str | None = None,
    reading: Reading | None = None,
    **options: Any,
) -> Audit:
    """:func:`audit_task` on a bank, its key in a store, or feature files; arguments as in `open_features`."""
    opened = open_features(target, reading or Reading(), test=test, group=group)
    return audit_task(opened.task, name=opened.encoder, data=opened.data, **options)


def audit_task(
    task: Task,
    *,
    name: str = "features",
    data: str = "the rows given",
    false_share: float = FALSE_SHARE,
    threshold: float | None = None,
    probe: Literal["logistic", "ridge"] | None = "logistic",
    settings: Settings | None = None,
    seed: int = 0,
    n_threads: int | None = None,
    report: Report | None = None,
) -> Audit:
    """Find test rows that are near-duplicates of training rows, and what they do to the decomposition.

    Parameters
    ----------
    false_share, threshold, seed : as in `find_matches`
    probe : that is decomposed, under `strict`; None leaves the decomposition out
    settings : but for probe, threads, overlap and shared groups, which are only said
    n_threads : default all cores

    Raises
    ------
    ParameterError for a part without rows; those of `find_matches`.
    """
    if len(task.test_rows) == 0 or len(task.train_rows) == 0:
        raise ParameterError(f"{len(task.train_rows)} training and {len(task.test_rows)} test rows: both are needed")
    rows = split_rows(task, "train"), split_rows(task, "test")
    n_test = len(task.test_rows)

    def told(done: int, total: int) -> None:  # of all that is looked at, as a share of the test images
        assert report is not None
        report(Event("compare", n_test * done // max(1, total), n_test))

    matches = find_matches(
        rows[1],
        rows[0],
        false_share=false_share,
        threshold=threshold,
        seed=seed,
        n_threads=n_threads,
        progress=None if report is None else told,
    )
    pairs = tuple(
        Pair(
            task.sample_ids[test], task.sample_ids[train], similarity, p,
            task.class_names[task.labels[test]], task.class_names[task.labels[train]],
        )
        for test, train, similarity, p in zip(
            matches.queries.tolist(), matches.base.tolist(), matches.similarity.tolist(), matches.p_value.tolist(),
            strict=True,
        )
    )  # fmt: skip
    wanted = replace(
        settings or Settings(), probe=probe or "logistic", n_threads=n_threads, overlap="warn", shared_groups="warn"
    )
    notes = list(task.notes)
    result: Decomposition | None = None
    changes: tuple[Change, ...] = ()
    wrong = 0
    if probe is not None and len(pairs) == len(task.test_rows):
        reason = f"all {len(pairs):,} test rows are listed, and nothing is left of them; raise the threshold"
        notes.append(Note("not_decomposed", {"reason": reason}))
    elif probe is not None and pairs:
        try:
            result = decompose_task(task, name=name, settings=wanted, report=report)
        except (DataError, ParameterError, ShapeError) as error:  # too few rows, say: the pairs are worth showing
            notes.append(Note("not_decomposed", {"reason": str(error)}))
        else:
            notes += result.notes
            listed = np.isin(task.test_rows, matches.queries)
            changes = _changes(result, matches, listed)
            wrong = 0 if result.judgements is None else int(result.judgements.us.wrong[listed].sum())
    return Audit(
        name=name,
        data=data,
        matches=matches,
        pairs=pairs,
        n_features=task.features.n_features,
        confidence=wanted.confidence,
        decomposition=result,
        changes=changes,
        wrong=wrong,
        notes=tuple(each_once(notes)),
    )


def _changes(result: Decomposition, matches: Matches, listed: np.ndarray) -> tuple[Change, ...]:
    judged, method = result.judgements, result.method
    assert judged is not None  # it was made here
    others = np.flatnonzero(~listed & ~np.isnan(matches.nearest))
    near = others[np.argsort(-matches.nearest[others], kind="stable")][: int(listed.sum())]
    beside = np.isin(np.arange(len(listed)), near) if len(near) == listed.sum() < (~listed).sum() else None
    without = restricted(result, np.arange(len(judged.train_labels)), np.flatnonzero(~listed)).estimates
    _, groups = common_groups(judged)
    found = []
    for name in _MOVED:
        errors = _errors(judged, name)
        change, half = _change(errors, listed, groups, method.confidence)
        found.append(
            Change(
                name, result.estimates[name], without[name], change, change - half, change + half,
                math.nan if beside is None else _change(errors, beside, groups, method.confidence)[0],
            )
        )  # fmt: skip
    return tuple(found)


def _errors(judged: Judgements, quantity: str) -> np.ndarray:
    """What each test row adds to a quantity, times their number."""
    weights = QUANTITIES[quantity].weights
    cs = np.mean([outcome.wrong for outcome in judged.cs], axis=0)
    return np.asarray(weights.get("risk_us", 0.0) * judged.us.wrong + weights.get("risk_cs", 0.0) * cs)


def _change(
    errors: np.ndarray, listed: np.ndarray, groups: np.ndarray | None, confidence: float
) -> tuple[float, float]:
    """Mean of the rows that are not listed less the mean of all, and half of its interval.

        change = Σ a_i e_i        a_i = [not listed]/m_kept − 1/m
        V = Σ over units (Σ a_i r_i)²        r_i = (e_i − mean of its kind)·√(G/(G−1)),   G units of the kind

    The kinds are listed and not, units are rows or whole groups. t quantiles with Satterthwaite's degrees of freedom;
    1/m² is added, so that the interval of few rows is not too short.
    """
    m = len(errors)
    weights = (~listed) / (~listed).sum() - 1 / m
    units = np.arange(m) if groups is None else np.unique(groups, return_inverse=True)[1].ravel()
    summed = np.zeros(int(units.max()) + 1)
    parts, degrees = [], []
    for kind in (listed, ~listed):
        count = len(np.unique(units[kind]))
        centred = weights[kind] * (errors[kind] - errors[kind].mean()) * math.sqrt(count / max(count - 1, 1))
        own = np.bincount(units[kind], weights=centred, minlength=len(summed))
        summed += own
        parts.append(float((own**2).sum()))
        degrees.append(max(count - 1, 1))
    df = satterthwaite(zip(parts, degrees, strict=True))
    return float(weights @ errors), critical_value(confidence, df) * math.sqrt((summed**2).sum() + 1 / m**2)
