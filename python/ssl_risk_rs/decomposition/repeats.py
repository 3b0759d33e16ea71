"""Rows that are in train and in test: the same image, or the same row of a table."""

from collections.abc import Iterator, Sequence

import numpy as np

__all__ = ["repeated_rows"]

#: features by which a row is looked for before it is compared whole
LOOKED_AT = 16


#: added to features, so that −0 has the bytes of 0, which it equals
_ZERO = np.float32(0)


def repeated_rows(blocks: Sequence[np.ndarray], train_rows: np.ndarray, test_rows: np.ndarray) -> int:
    """Test rows that are equal to a training row in every feature.

    Parameters
    ----------
    blocks : arrays (n_i, d) whose rows follow each other; train_rows, test_rows : numbers of rows among them
    """
    beginnings = {key for _, key in _keys(blocks, test_rows)}
    alike = [row for row, key in _keys(blocks, train_rows) if key in beginnings]
    whole = {hash(row) for row in _bytes(blocks, np.array(alike, np.int64))}
    return sum(hash(row) in whole for row in _bytes(blocks, test_rows)) if whole else 0


def _keys(blocks: Sequence[np.ndarray], rows: np.ndarray) -> Iterator[tuple[int, bytes]]:
    """Each row with some of its features, as bytes."""
    for first, block, own in _of_blocks(blocks, rows):
        step = max(1, -(-block.shape[1] // LOOKED_AT))
        few = np.ascontiguousarray(block[:, ::step], np.float32)[own] + _ZERO
        yield from zip((first + own).tolist(), map(bytes, few), strict=True)


def _bytes(blocks: Sequence[np.ndarray], rows: np.ndarray) -> Iterator[bytes]:
    for _, block, own in _of_blocks(blocks, rows):
        for row in own.tolist():
            yield (np.asarray(block[row], np.float32) + _ZERO).tobytes()


def _of_blocks(blocks: Sequence[np.ndarray], rows: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """The number of a block's first row, the block, and which of its rows are among these."""
    first = 0
    for block in blocks:
        yield first, block, rows[(rows >= first) & (rows < first + len(block))].astype(np.int64) - first
        first += len(block)
