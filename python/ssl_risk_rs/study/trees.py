"""Boosted trees on design choices: how well they predict, and what each choice contributes.

Models are LightGBM's, on one thread, with real categories; contributions are its exact Shapley values on the trees.
Hyper-parameters are chosen inside each training part, never on the folds that are reported. Held-out errors stand
beside those of a linear model and of the mean; whole groups (objectives) left out stand beside random folds.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Float64, Int64

from ssl_risk_rs._inference import critical_value
from ssl_risk_rs.errors import ParameterError
from ssl_risk_rs.study._extra import require
from ssl_risk_rs.study.choices import CONFOUNDERS, Choice, choice_of
from ssl_risk_rs.study.design import clusters, columns, values
from ssl_risk_rs.study.effects import Effect
from ssl_risk_rs.study.table import StudyTable

__all__ = [
    "METHOD", "Contributions", "Inputs", "Interaction", "Parameters", "TreeReport", "contributions",
    "fit_trees", "inputs_of", "tree_report",
]  # fmt: skip

METHOD = "trees"
_ROUNDS = (50, 100, 200)
_PAIRS_OF = 5  # choices whose interactions are told
_LEAST = 20  # rows below which folds of folds are empty


@dataclass(frozen=True, slots=True)
class Parameters:
    """Hyper-parameters that are tuned.

    Attributes
    ----------
    num_leaves : of each tree
    random_cuts : numbers are cut at random places and each level of a category stands for itself (extremely randomized
        trees, smooth in small tables); else the best cut is taken and levels are sorted by their mean
    rounds : trees
    """

    num_leaves: int
    random_cuts: bool
    rounds: int


#: what is tried: few, because a choice among many is itself overfitting with 169 rows
_GRID = ((16, True), (6, True), (8, False))


@dataclass(frozen=True, slots=True)
class Inputs:
    """The features of a table: codes of categories and numbers, NaN where there is none.

    Attributes
    ----------
    choices : of the columns of x
    levels : names of the codes of each category; empty for numbers
    """

    choices: tuple[Choice, ...]
    levels: tuple[tuple[str, ...], ...]
    x: Float64[np.ndarray, "n k"]

    @property
    def categories(self) -> list[int]:
        """Places of the categories."""
        return [i for i, names in enumerate(self.levels) if names]


@dataclass(frozen=True, slots=True)
class Interaction:
    """How much of the joint effect of two choices is not the sum of their own: Friedman's H², from 0 to 1."""

    component: str
    first: str
    second: str
    h2: float


@dataclass(frozen=True, slots=True)
class TreeReport:
    """Held-out errors (root mean square, fractions) of trees, a linear model and the mean.

    Attributes
    ----------
    folds : "random" or the column whose values were left out whole
    chosen : hyper-parameters of the fit on all rows
    """

    component: str
    folds: str
    n_folds: int
    trees: float
    linear: float
    mean: float
    n: int
    groups: int
    chosen: Parameters


@dataclass(frozen=True, slots=True)
class Contributions:
    """Exact contributions of the features in the fit on all rows: they sum to prediction less base.

    Attributes
    ----------
    values : (n, k)
    base : the mean prediction
    """

    component: str
    inputs: Inputs
    rows: Int64[np.ndarray, " n"]
    values: Float64[np.ndarray, "n k"]
    base: float
    effects: tuple[Effect, ...]
    interactions: tuple[Interaction, ...]


def inputs_of(table: StudyTable) -> Inputs:
    """The features of a table: all examined choices that vary."""
    found, levels, cells = [], [], []
    for choice in table.choices:
        series = values(table.frame, choice)
        if choice.kind == "category":
            known = sorted(series.drop_nulls().unique().to_list())
            codes = {name: float(i) for i, name in enumerate(known)}
            column = np.array([math.nan if cell is None else codes[cell] for cell in series.to_list()])
        else:
            known = []
            column = series.cast(pl.Float64).to_numpy().astype(np.float64)
        present = column[np.isfinite(column)]
        if len(np.unique(present)) + bool(len(present) < len(column)) > 1:
            found.append(choice)
            levels.append(tuple(known))
            cells.append(column)
    if not found:
        raise ParameterError("no examined choice varies, so trees have nothing to split on")
    return Inputs(tuple(found), tuple(levels), np.column_stack(cells))


def fit_trees(
    x: Float64[np.ndarray, "n k"], y: Float64[np.ndarray, " n"], categories: Sequence[int], chosen: Parameters
) -> object:
    """A fitted LightGBM booster, on one thread and with fixed seeds."""
    lightgbm = require("lightgbm")
    settings = {
        "objective": "regression", "num_threads": 1, "verbosity": -1, "seed": 0, "deterministic": True,
        "force_row_wise": True, "learning_rate": 0.1, "num_leaves": chosen.num_leaves,
        "extra_trees": chosen.random_cuts, "extra_seed": 0, "min_data_in_leaf": 1 if chosen.random_cuts else 2,
        "min_sum_hessian_in_leaf": 0.0, "feature_fraction": 0.5, "cat_smooth": 1.0, "cat_l2": 1.0,
        "min_data_per_group": 1, "max_cat_to_onehot": 256 if chosen.random_cuts else 4, "feature_pre_filter": False,
    }  # fmt: skip
    data = lightgbm.Dataset(
        x, y, categorical_feature=list(categories), free_raw_data=False, params={"verbosity": -1, "min_data_in_bin": 1}
    )
    return lightgbm.train(settings, data, num_boost_round=chosen.rounds)


def _predict(booster: object, x: Float64[np.ndarray, "n k"], rounds: int | None = None) -> Float64[np.ndarray, " n"]:
    call: Callable[..., object] = booster.predict  # type: ignore[attr-defined]  # LightGBM has no annotations
    return np.asarray(call(x, num_iteration=rounds, num_threads=1), dtype=np.float64)


def _tune(
    x: Float64[np.ndarray, "n k"],
    y: Float64[np.ndarray, " n"],
    categories: Sequence[int],
    fold: Int64[np.ndarray, " n"],
) -> Parameters:
    """The hyper-parameters of least squared error over inner folds."""
    errors: dict[Parameters, float] = {}
    for leaves, random_cuts in _GRID:
        for f in np.unique(fold):
            out = fold == f
            booster = fit_trees(x[~out], y[~out], categories, Parameters(leaves, random_cuts, _ROUNDS[-1]))
            for rounds in _ROUNDS:
                tried = Parameters(leaves, random_cuts, rounds)
                off = _predict(booster, x[out], rounds) - y[out]
                errors[tried] = errors.get(tried, 0.0) + float(off @ off)
    return min(errors, key=lambda tried: errors[tried])


def _random_folds(n: int, count: int, seed: int) -> Int64[np.ndarray, " n"]:
    folds = np.arange(n, dtype=np.int64) % count
    return np.random.default_rng(seed).permutation(folds)


def _group_folds(groups: Int64[np.ndarray, " n"], count: int, seed: int) -> Int64[np.ndarray, " n"]:
    """Whole groups in folds of about equal size: the largest group first, each into the smallest fold."""
    names, place, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(names))
    order = order[np.argsort(-sizes[order], kind="stable")]
    filled = np.zeros(min(count, len(names)), dtype=np.int64)
    fold_of = np.empty(len(names), dtype=np.int64)
    for group in order:
        fold_of[group] = int(np.argmin(filled))
        filled[fold_of[group]] += sizes[group]
    return fold_of[place]


def tree_report(
    table: StudyTable,
    component: str,
    *,
    n_folds: int = 10,
    inner_folds: int = 4,
    by_group: bool = False,
    seed: int = 0,
) -> TreeReport:
    """Nested cross-validation of trees, beside a linear model and the mean on the same folds.

    Parameters
    ----------
    by_group : folds are whole values of the table's column of groups (objectives), as inner folds are

    Raises
    ------
    ParameterError if there are fewer than twenty encoders with this component, or fewer than three groups.
    """
    inputs = inputs_of(table)
    rows, x, y, groups = _data(table, component, inputs)
    count = len(np.unique(groups))
    if len(y) < _LEAST:
        raise ParameterError(f"{len(y)} encoders have {component}; nested folds of trees need {_LEAST}")
    if by_group and count < 3:
        raise ParameterError(f"the column {table.cluster or 'of groups'} has {count} groups; leaving some out needs 3")
    # the groups may be what is split on: a left-out objective is then an unknown level
    fold = _group_folds(groups, n_folds, seed) if by_group else _random_folds(len(y), min(n_folds, len(y)), seed)
    linear = _linear_design(table, rows, inputs)
    off = np.empty((3, len(y)))
    for f in np.unique(fold):
        out = fold == f
        inner = _inner(groups[~out], inner_folds, by_group, seed)
        chosen = _tune(x[~out], y[~out], inputs.categories, inner)
        booster = fit_trees(x[~out], y[~out], inputs.categories, chosen)
        off[0, out] = _predict(booster, x[out]) - y[out]
        off[1, out] = linear[out] @ np.linalg.lstsq(linear[~out], y[~out], rcond=1e-9)[0] - y[out]
        off[2, out] = y[~out].mean() - y[out]
    chosen = _tune(x, y, inputs.categories, _inner(groups, inner_folds, by_group, seed))
    rmse = np.sqrt(np.mean(off**2, axis=1))
    name = table.cluster if by_group else "random"
    return TreeReport(
        component, name, len(np.unique(fold)), float(rmse[0]), float(rmse[1]), float(rmse[2]), len(y), count, chosen
    )


def _inner(groups: Int64[np.ndarray, " n"], count: int, by_group: bool, seed: int) -> Int64[np.ndarray, " n"]:
    if by_group and len(np.unique(groups)) >= 2:
        return _group_folds(groups, count, seed + 1)
    return _random_folds(len(groups), count, seed + 1)


def _data(
    table: StudyTable, component: str, inputs: Inputs
) -> tuple[Int64[np.ndarray, " n"], Float64[np.ndarray, "n k"], Float64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    rows = np.flatnonzero(table.frame[component].is_not_null().to_numpy())
    y = table.frame[component].to_numpy().astype(np.float64)[rows]
    return rows, inputs.x[rows], y, clusters(table.frame, table.cluster)[rows]


def _linear_design(table: StudyTable, rows: Int64[np.ndarray, " n"], inputs: Inputs) -> Float64[np.ndarray, "n k"]:
    """Columns of the linear model that trees are compared with: the paper's confounders, or else all inputs."""
    names = [c.name for c in inputs.choices]
    held = [choice_of(n) for n in CONFOUNDERS if n in table.frame.columns]
    chosen = [c for c in held if c is not None] or [c for c in inputs.choices if c.name in names]
    frame = table.frame[rows]
    return np.column_stack([np.ones(len(rows)), *(col.values for c in chosen for col in columns(frame, c))])


# --- contributions


def contributions(
    table: StudyTable,
    component: str,
    chosen: Parameters,
    *,
    confidence: float = 0.95,
) -> Contributions:
    """Contributions of each choice to one component, from a fit on all rows.

    Returns
    -------
    `effects` has for each choice its mean absolute contribution (level "importance"), for each level of a category the
    mean contribution of its encoders less that of the reference, and for a number the slope of the contributions.
    Intervals leave out each group (objective) in turn and fit again; contributions describe the model, and no p-value
    belongs to them. `interactions` are Friedman's H² between the five choices that matter most.
    """
    inputs = inputs_of(table)
    rows, x, y, groups = _data(table, component, inputs)
    booster = fit_trees(x, y, inputs.categories, chosen)
    found = _contribution(booster, x)
    references = _references(inputs, x)
    whole = _readings(inputs, references, x, found[:, :-1])
    jackknife = []
    for g in np.unique(groups):
        keep = groups != g
        if keep.sum() >= _LEAST // 2 and keep.sum() < len(y):
            without = fit_trees(x[keep], y[keep], inputs.categories, chosen)
            jackknife.append(_readings(inputs, references, x[keep], _contribution(without, x[keep])[:, :-1]))
    count = len(np.unique(groups))
    effects = tuple(
        _effect(key, value, [j.get(key, math.nan) for j in jackknife], component, len(y), count, confidence)
        for key, value in whole.items()
    )
    order = np.argsort(-np.abs(found[:, :-1]).mean(axis=0))[:_PAIRS_OF]
    return Contributions(
        component, inputs, rows, found[:, :-1], float(found[0, -1]), effects,
        tuple(_interactions(booster, x, inputs, [int(i) for i in order], component)),
    )  # fmt: skip


def _contribution(booster: object, x: Float64[np.ndarray, "n k"]) -> Float64[np.ndarray, "n m"]:
    call: Callable[..., object] = booster.predict  # type: ignore[attr-defined]  # LightGBM has no annotations
    return np.asarray(call(x, pred_contrib=True, num_threads=1), dtype=np.float64)


def _references(inputs: Inputs, x: Float64[np.ndarray, "n k"]) -> tuple[int, ...]:
    """The code that the levels of each category are compared with: the named one, or the most frequent; -1 else."""
    found = []
    for i, choice in enumerate(inputs.choices):
        names, column = inputs.levels[i], x[:, i]
        if not names:
            found.append(-1)
            continue
        counts = np.bincount(column[np.isfinite(column)].astype(np.int64), minlength=len(names))
        named = choice.reference in names and counts[names.index(choice.reference)] > 0
        found.append(names.index(choice.reference) if named else int(np.argmax(counts)))
    return tuple(found)


def _readings(
    inputs: Inputs, references: Sequence[int], x: Float64[np.ndarray, "n k"], found: Float64[np.ndarray, "n k"]
) -> dict[tuple[str, str, str], float]:
    """(choice, level, reference) → importance, difference of levels, or slope."""
    readings: dict[tuple[str, str, str], float] = {}
    for i, choice in enumerate(inputs.choices):
        column, part = x[:, i], found[:, i]
        readings[choice.name, "importance", ""] = float(np.abs(part).mean())
        known = np.isfinite(column)
        if inputs.levels[i]:
            names = inputs.levels[i]
            counts = np.bincount(column[known].astype(np.int64), minlength=len(names))
            reference = references[i]
            if counts[reference] == 0:
                continue
            base = float(part[known & (column == reference)].mean())
            for code, name in enumerate(names):
                if code != reference and counts[code]:
                    here = float(part[known & (column == code)].mean())
                    readings[choice.name, name, names[reference]] = here - base
        elif known.sum() > 2 and np.ptp(column[known]) > 0:
            centred = column[known] - column[known].mean()
            step = {"log": "× e", "flag": "yes"}.get(choice.kind, "+1")
            reference_name = "no" if choice.kind == "flag" else ""
            readings[choice.name, step, reference_name] = float(centred @ part[known] / (centred @ centred))
    return readings


def _effect(
    key: tuple[str, str, str],
    value: float,
    without: list[float],
    component: str,
    n: int,
    groups: int,
    confidence: float,
) -> Effect:
    require("scipy.special")
    choice, level, reference = key
    known = np.array([v for v in without if math.isfinite(v)])
    low = high = se = math.nan
    if len(known) == len(without) and len(known) >= 3:
        se = math.sqrt((len(known) - 1) / len(known) * float(np.sum((known - known.mean()) ** 2)))
        reach = critical_value(confidence, len(known) - 1) * se
        low, high = value - reach, value + reach
        if level == "importance":
            low = max(low, 0.0)
    reason = "" if math.isfinite(se) else "there is no interval: a level is gone without one of the groups"
    return Effect(
        choice, level, reference, component, METHOD, n, groups, effect=value, se=se, low=low, high=high,
        confidence=confidence, reason=reason,
    )  # fmt: skip


def _interactions(
    booster: object, x: Float64[np.ndarray, "n k"], inputs: Inputs, order: Sequence[int], component: str
) -> list[Interaction]:
    """Friedman's H² of each pair: the variance of the joint partial dependence that is not additive."""
    single = {i: _dependence(booster, x, [i]) for i in order}
    found = []
    for a, first in enumerate(order):
        for second in order[a + 1 :]:
            joint = _dependence(booster, x, [first, second])
            left = joint - single[first] - single[second]
            size = float(joint @ joint)
            h2 = min(1.0, float(left @ left) / size) if size > 0 else 0.0
            found.append(Interaction(component, inputs.choices[first].name, inputs.choices[second].name, h2))
    return sorted(found, key=lambda each: -each.h2)


def _dependence(booster: object, x: Float64[np.ndarray, "n k"], places: Sequence[int]) -> Float64[np.ndarray, " n"]:
    """Partial dependence at each row's own values, centred: one prediction for each distinct value and row."""
    distinct, back = np.unique(np.nan_to_num(x[:, places], nan=-1e30), axis=0, return_inverse=True)
    grid = np.repeat(x[None], len(distinct), axis=0)
    grid[:, :, places] = np.where(distinct == -1e30, np.nan, distinct)[:, None, :]
    means = _predict(booster, grid.reshape(-1, x.shape[1])).reshape(len(distinct), -1).mean(axis=1)
    at_rows = means[back.ravel()]
    return np.asarray(at_rows - at_rows.mean())
