"""Which rows are drawn: one stratified cut for the whole package.

Every draw is a function of (sample id, seed) only, or of (group id, seed) where rows have groups: never of row
order, class numbering, file times, the data's folder or the encoder. Groups (patients, slides, scenes) are
drawn whole.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64, Integer, UInt64

from ssl_risk_rs import _core
from ssl_risk_rs._tensors import of_tensor
from ssl_risk_rs.errors import ParameterError, ShapeError

__all__ = [
    "encode_groups", "entries", "group_name", "id_text", "is_no_group", "sample_keys", "stratified_cut", "take_at_most",
]  # fmt: skip


def sample_keys(sample_ids: Sequence[str], seed: int = 0) -> UInt64[np.ndarray, " n"]:
    """Pseudo-random keys uint64 (n,): xxh3 of each id, of samples or of groups, seeded."""
    return _core.sample_keys(list(sample_ids), seed)


def encode_groups(groups: Sequence[object]) -> tuple[list[str], Int64[np.ndarray, " n"]]:
    """Distinct group ids as text, ascending, and the position of each row's group: int64 (n,).

    Raises
    ------
    ParameterError if a row has no group (None, NaN, masked or empty text).
    """
    missing = sum(map(is_no_group, groups))
    if missing:
        raise ParameterError(
            f"{missing:,} of {len(groups):,} rows have no group; give each row one, or drop those rows"
        )
    names, codes = np.unique(np.array([group_name(group) for group in groups], dtype=str), return_inverse=True)
    return names.tolist(), codes.astype(np.int64).ravel()


def group_name(value: object) -> str:
    """A group's id as text, as a file of another type has it: 30, 30.0, "30" and b"30" are one group."""
    value = _plain(value)
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def id_text(value: object) -> str:
    """A sample's id as text."""
    return str(_plain(value))


def _plain(value: object) -> object:
    """A number of numpy, torch or pyarrow as Python's, bytes as text."""
    if value is np.ma.masked or isinstance(value, str):  # text first: there are a million of them
        return value
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()
    elif hasattr(value, "as_py"):
        value = value.as_py()
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else value


def entries(values: object, name: str) -> list[object]:
    """The entries of a column, one for each row: of a list, an array, a tensor, a series, or a frame of one column.

    Raises
    ------
    ShapeError for what has more than one column; ParameterError for what is no column.
    """
    values = of_tensor(values)
    if isinstance(values, (str, bytes, Mapping)) or not hasattr(values, "__len__"):
        raise ParameterError(f"{name} are a {type(values).__name__}, expected a list or an array with an entry a row")
    shape: tuple[int, ...] = tuple(getattr(values, "shape", (len(values),)))
    if len(shape) == 2 and shape[1] == 1:
        values = np.asanyarray(values).ravel()
    elif len(shape) != 1:
        raise ShapeError(f"{name} have shape {shape}, expected one entry a row")
    column: Any = values
    return [*column]


def is_no_group(value: object) -> bool:
    """Whether a value of a column of groups names none: None, NaN, NA, masked or empty text."""
    value = _plain(value)
    if value is None or value is np.ma.masked or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return bool(value != value or value == "")


def stratified_cut(
    labels: Integer[np.ndarray, " n"],
    sample_ids: Sequence[str],
    *,
    share: float,
    seed: int = 0,
    groups: Sequence[object] | None = None,
) -> Bool[np.ndarray, " n"]:
    """Mask bool (n,) of the rows put aside: this share of each class.

    Of a class with two rows or more at least one is put aside and one is kept: those with the smallest keys are
    put aside. With `groups`, whole groups are put aside so that the shares of the classes come as close as they can.

    Parameters
    ----------
    labels : integer array (n,)
    sample_ids : str of each row
    share : between 0 and 1
    groups : group of each row, optional

    Raises
    ------
    ParameterError for a share out of range, or a single group.
    """
    if not 0 < share < 1:
        raise ParameterError(f"a share of {share} was asked for; it must lie between 0 and 1")
    labels = np.unique(labels, return_inverse=True)[1].ravel()
    if groups is not None:
        names, codes = encode_groups(groups)
        if len(names) < 2:
            raise ParameterError(f"all rows are of one group ({names[0]}): nothing can be put aside whole")
        cells = _core.assign_group_cells(
            sample_keys(names, seed), codes.astype(np.uint32), labels.astype(np.uint32), [share, 1 - share]
        )
        return np.asarray(cells == 0)
    keys = sample_keys(sample_ids, seed)
    counts = np.bincount(labels)
    wanted = np.where(counts > 1, np.clip(np.rint(share * counts), 1, counts - 1), 0).astype(np.int64)
    return _rank_within(labels, keys) < wanted[labels]


def take_at_most(
    labels: Integer[np.ndarray, " n"],
    sample_ids: Sequence[str],
    count: int,
    *,
    per_class: bool,
    groups: Sequence[object] | None = None,
) -> Bool[np.ndarray, " n"]:
    """Mask bool (n,) of at most `count` rows, or of `count` rows of each class: those with the smallest keys.

    With `groups`, groups are visited by their keys and taken whole where they still fit; at least one is taken. A
    smaller count keeps a subset of what a larger one keeps (without groups).
    """
    labels = np.unique(labels, return_inverse=True)[1].ravel()
    if groups is None:
        strata = labels if per_class else np.zeros_like(labels)
        return _rank_within(strata, sample_keys(sample_ids)) < count
    names, codes = encode_groups(groups)
    strata = labels if per_class else np.zeros_like(labels)
    members = np.zeros((len(names), int(strata.max(initial=0)) + 1), np.int64)
    np.add.at(members, (codes, strata), 1)
    left = np.full(members.shape[1], count)
    taken = np.zeros(len(names), bool)
    for group in np.argsort(sample_keys(names), kind="stable"):
        if (members[group] <= left).all():
            left -= members[group]
            taken[group] = True
    if not taken.any():
        taken[np.argmin(members.sum(1))] = True
    return np.asarray(taken[codes])


def _rank_within(strata: Integer[np.ndarray, " n"], keys: UInt64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """Place of each row among the keys of its stratum, from 0."""
    order = np.lexsort((keys, strata))
    starts = np.flatnonzero(np.diff(strata[order], prepend=-1))
    rank = np.empty(len(keys), np.int64)
    rank[order] = np.arange(len(keys)) - np.repeat(starts, np.diff(starts, append=len(keys)))
    return rank
