"""Rows that are in train and in test: the same image, or the same row of a table."""

from collections.abc import Iterator

import numpy as np

from ssl_risk_rs.probes.features import Features

__all__ = ["repeated_rows"]

#: features by which a row is looked for before it is compared whole
LOOKED_AT = 16
#: bytes of features that are read at a time
PIECE = 1 << 25
#: added to features, so that −0 has the bytes of 0, which it equals
_ZERO = np.float32(0)


def repeated_rows(features: Features, train_rows: np.ndarray, test_rows: np.ndarray) -> int:
    """Test rows that are equal to a training row in every feature.

    Parameters
    ----------
    features : of all rows; train_rows, test_rows : uint32, numbers of rows among them
    """
    beginnings = {key for _, key in _keys(features, test_rows)}
    alike = [row for row, key in _keys(features, train_rows) if key in beginnings]
    if not alike:
        return 0
    whole = {hash(row) for row in _bytes(features, np.array(alike, np.uint32))}
    return sum(hash(row) in whole for row in _bytes(features, test_rows))


def _keys(features: Features, rows: np.ndarray) -> Iterator[tuple[int, bytes]]:
    """Each row with some of its features, as bytes."""
    step = max(1, -(-features.n_features // LOOKED_AT))
    for numbers, values in _pieces(features, rows):
        few = np.ascontiguousarray(values[:, ::step], np.float32) + _ZERO
        yield from zip(numbers.tolist(), map(bytes, few), strict=True)


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
