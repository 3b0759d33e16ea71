"""Rows that are there twice, in train and in test or among the training rows: the same image, or the same row."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ssl_risk_rs.probes.features import Features

__all__ = ["Repeats", "repeated_rows"]

#: features by which a row is looked for before it is compared whole
LOOKED_AT = 16
#: bytes of features that are read at a time
PIECE = 1 << 25
#: added to features, so that −0 has the bytes of 0, which it equals
_ZERO = np.float32(0)


@dataclass(frozen=True, slots=True)
class Repeats:
    """test : rows that are equal to a training row; train : training rows that are equal to an earlier one; apart : of
    these, those whose copies are of other groups, or all where rows have none."""

    test: int
    train: int
    apart: int


def repeated_rows(
    features: Features, train_rows: np.ndarray, test_rows: np.ndarray, groups: np.ndarray | None = None
) -> Repeats:
    """Count rows that are equal to a training row in every feature.

    Parameters
    ----------
    features : of all rows; train_rows, test_rows : uint32, numbers of rows among them; groups : of all rows
    """
    of_test, of_train = _keys(features, test_rows), _keys(features, train_rows)
    _, place, counts = np.unique(of_train, return_inverse=True, return_counts=True)
    alike = train_rows[(counts[place] > 1) | np.isin(of_train, of_test)]
    if not len(alike):
        return Repeats(0, 0, 0)
    whole = np.fromiter((hash(row) for row in _bytes(features, alike)), np.int64, len(alike))
    _, first, place = np.unique(whole, return_index=True, return_inverse=True)
    earlier = first[place]  # of each row the first that equals it
    again = earlier != np.arange(len(alike))
    apart = again if groups is None else again & _beside_another_group(groups[alike], earlier)
    known = set(whole.tolist())
    test = sum(hash(row) in known for row in _bytes(features, test_rows)) if np.isin(of_test, of_train).any() else 0
    return Repeats(test, int(again.sum()), int(apart.sum()))


def _beside_another_group(groups: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Whether an earlier equal row has another group, bool (m,); `first` is the first equal row of each."""
    differs, places = groups != groups[first], np.arange(len(groups))
    of_another = np.full(len(groups), len(groups))  # by first row, where the first of another group is
    np.minimum.at(of_another, first[differs], places[differs])
    return np.asarray(differs | (places > of_another[first]))


def _keys(features: Features, rows: np.ndarray) -> np.ndarray:
    """A number for each row that rows with the same features share, of some of its features, uint64 (n,): multilinear
    in their bits, so that few others share it."""
    step = max(1, -(-features.n_features // LOOKED_AT))
    factors = np.random.default_rng(0).integers(1 << 63, 1 << 64, LOOKED_AT, dtype=np.uint64) | np.uint64(1)
    found = []
    for _, values in _pieces(features, rows):
        few = np.ascontiguousarray(values[:, ::step], np.float32) + _ZERO
        sums = np.zeros(len(few), np.uint64)
        for bits, factor in zip(few.view(np.uint32).T, factors, strict=False):
            sums += bits * factor
        found.append(sums)
    return np.concatenate([np.zeros(0, np.uint64), *found])


def _bytes(features: Features, rows: np.ndarray) -> Iterator[bytes]:
    """All features of each row, as bytes."""
    for _, values in _pieces(features, rows):
        for row in values:
            yield (row.astype(np.float32) + _ZERO).tobytes()


def _pieces(features: Features, rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Numbers of rows and their features, some at a time."""
    many = PIECE // max(1, features.n_features * features.dtype.itemsize) or 1
    for first in range(0, len(rows), many):
        numbers = rows[first : first + many]
        yield numbers, features.read(numbers)
