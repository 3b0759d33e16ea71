"""Banks and feature files → statistics of each representation, and how alike any two are."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from ssl_risk_rs._names import distinct, refuse_twice
from ssl_risk_rs._notes import Note, each_once
from ssl_risk_rs._same_rows import refuse_other_rows
from ssl_risk_rs.decomposition.task import Task, row_names
from ssl_risk_rs.errors import ParameterError, ShapeError
from ssl_risk_rs.geometry import Agreement, Geometry, SampleRows, geometry_frame, linear_cka, measure
from ssl_risk_rs.geometry.measuring import UNIFORMITY_ROWS, Split
from ssl_risk_rs.workflow.features import Reading, open_features

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Measured", "measure_targets", "split_rows"]


@dataclass(frozen=True, slots=True)
class Measured:
    """Statistics of each target, the agreement of each pair if it was asked for, and what was said while reading."""

    geometries: tuple[Geometry, ...]
    agreements: tuple[Agreement, ...] = ()
    notes: tuple[Note, ...] = ()

    def frame(self) -> "pl.DataFrame":
        """All of it as one tidy frame; see `geometry_frame`."""
        return geometry_frame(self.geometries, self.agreements)


@dataclass(frozen=True, slots=True)
class _Target:
    """What was named, its encoder, and its rows."""

    name: str
    data: str
    task: Task
    rows: SampleRows


def measure_targets(
    targets: Sequence[str],
    *,
    views: Sequence[str] = (),
    split: Split = "train",
    cka: bool = False,
    reading: Reading | None = None,
    seed: int = 0,
    uniformity_rows: int = UNIFORMITY_ROWS,
    n_threads: int | None = None,
) -> Measured:
    """Measure the geometry of banks or feature files.

    Parameters
    ----------
    targets : banks (a folder or a key in the store) or feature files, as `load_features` takes them
    views : of a single target: banks or files with further views of the same samples, in the same rows
    split : "train", "test" or "all" rows
    cka : also how alike each pair of targets is; they need the same rows
    reading : how feature files are read
    seed, uniformity_rows : of the rows that uniformity is taken over

    Raises
    ------
    ParameterError for no target, a target named twice, views of several targets; ShapeError for rows that are not the
    same; those of `open_features`.
    """
    if not targets:
        raise ParameterError("name a feature bank or feature files")
    refuse_twice((*targets, *views), "a representation does not differ from itself")
    if views and len(targets) > 1:
        raise ParameterError(f"views are of one target, and {len(targets)} are named: measure them one by one")
    if cka and len(targets) < 2:
        raise ParameterError("CKA compares representations: name at least two")
    reading = reading or Reading()
    opened = [_open(target, split, reading) for target in targets]
    others = [_open(view, split, reading) for view in views]
    for other in others:
        _same_samples(opened[0], other)
    names = distinct([one.name for one in opened], targets)
    geometries = tuple(
        measure(
            target.rows,
            target.task.labels,
            target.task.n_classes,
            views=[other.rows for other in others],
            name=name,
            data=target.data,
            split=split,
            seed=seed,
            uniformity_rows=uniformity_rows,
            n_threads=n_threads,
        )
        for name, target in zip(names, opened, strict=True)
    )
    agreements = []
    for (one_name, one), (other_name, other) in combinations(zip(names, opened, strict=True), 2) if cka else ():
        _same_samples(one, other)
        value = linear_cka(one.rows, other.rows, n_threads=n_threads)
        agreements.append(Agreement(one_name, other_name, one.data, split, value, len(one.rows.rows)))
    beside = ("groups_unused", "augmented_view")  # no probe is fitted, and views are what was asked for
    notes = [note for target in (*opened, *others) for note in target.task.notes if note.code not in beside]
    return Measured(geometries, tuple(agreements), tuple(each_once(notes)))


def split_rows(task: Task, split: Split) -> SampleRows:
    """Rows of a split of a task."""
    rows = {"train": task.train_rows, "test": task.test_rows}.get(split)
    return SampleRows(task.features, np.concatenate([task.train_rows, task.test_rows]) if rows is None else rows)


def _open(target: str, split: Split, reading: Reading) -> _Target:
    opened = open_features(target, reading)
    return _Target(opened.encoder, opened.data, opened.task, split_rows(opened.task, split))


def _same_samples(one: _Target, other: _Target) -> None:
    """Complain unless the rows of two targets are of the same samples, as far as ids and labels tell."""
    a, b = one.rows.rows, other.rows.rows
    if len(a) != len(b):
        raise ShapeError(f"{other.name} has {len(b)} rows, {one.name} has {len(a)}: both need the same samples")
    refuse_other_rows(other.name, row_names(other.task, b), one.name, row_names(one.task, a))
