"""Folds and subsets of whole groups by the rule of INTERVALS.md §6, to be compared by properties.

Groups are placed in the order (rows descending, hash of group id and seed), each into the cell whose class counts
and size it brings closest to their targets: first subsets against the rest, then the subsets among themselves,
each with a group of every class before anything else, then the folds. Costs are compared as fractions, so that no
order of classes can flip a tie.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

#: of the training rows, at most this share is set aside in subsets
SUBSET_SHARE = Fraction(1, 5)


@dataclass(frozen=True)
class Draw:
    """Cell of every row (fold, or n_folds + subset), the number of subsets, and the balance of their classes."""

    cells: np.ndarray  # (N,)
    n_subsets: int
    class_shift: float  # max over subsets and classes of |share in complement / share in S_tr − 1|
    folds_lack_classes: bool  # four training folds of some fold miss a class that the folds hold


@dataclass
class _Cell:
    counts: dict[Hashable, int]
    size: int
    target: dict[Hashable, Fraction]
    target_size: Fraction


def group_key(group: Hashable, seed: int) -> str:
    """A pseudo-random key of a group, equal in every order of rows and groups."""
    return hashlib.blake2b(f"{seed}:{group}".encode(), digest_size=16).hexdigest()


def _increase(cell: _Cell, counts: dict[Hashable, int], size: int) -> Fraction:
    """Increase of Σ_c (count − target)² / target + (size − target)² / target when a group joins."""
    total = Fraction(0)
    for c, n in counts.items():
        off = cell.counts.get(c, 0) - cell.target[c]
        total += ((off + n) ** 2 - off**2) / cell.target[c]
    off = cell.size - cell.target_size
    return total + ((off + size) ** 2 - off**2) / cell.target_size


def _deal(
    ordered: Sequence[Hashable],
    counts: dict[Hashable, dict[Hashable, int]],
    shares: Sequence[Fraction],
    every_class: bool,
) -> dict[Hashable, int]:
    """Greedy: group → cell, for cells with the given shares of the groups' rows."""
    total: dict[Hashable, int] = {}
    for g in ordered:
        for c, n in counts[g].items():
            total[c] = total.get(c, 0) + n
    size = sum(total.values())
    cells = [_Cell({}, 0, {c: share * n for c, n in total.items()}, share * size) for share in shares]
    placed = {}
    for g in ordered:
        rows = sum(counts[g].values())

        def rank(i: int, g: Hashable = g, rows: int = rows) -> tuple[int, Fraction, int, int]:
            missing = sum(cells[i].counts.get(c, 0) == 0 for c in counts[g]) if every_class else 0
            return (-missing, _increase(cells[i], counts[g], rows), cells[i].size, i)

        best = min(range(len(cells)), key=rank)
        for c, n in counts[g].items():
            cells[best].counts[c] = cells[best].counts.get(c, 0) + n
        cells[best].size += rows
        placed[g] = best
    return placed


def draw(
    groups: np.ndarray, labels: np.ndarray, subset_rows: int, *, n_subsets: int = 3, n_folds: int = 5, seed: int = 0
) -> Draw:
    """Cells of whole groups.

    Parameters
    ----------
    groups : (N,) group of every row; labels : (N,) class of every row, any values.
    subset_rows : rows of one subset, were groups divisible; together at most a fifth of N.

    Raises
    ------
    ValueError where a class has fewer than two groups.
    """
    counts: dict[Hashable, dict[Hashable, int]] = {}
    for g, c in zip(groups.tolist(), labels.tolist(), strict=True):
        own = counts.setdefault(g, {})
        own[c] = own.get(c, 0) + 1
    of_class: dict[Hashable, set[Hashable]] = {}
    for g, own in counts.items():
        for c in own:
            of_class.setdefault(c, set()).add(g)
    for c, members in of_class.items():
        if len(members) < 2:
            raise ValueError(f"class {c!r} lies in one group only: it cannot be set aside and learned")
    ordered = sorted(counts, key=lambda g: (-sum(counts[g].values()), group_key(g, seed)))
    aside = min(SUBSET_SHARE, Fraction(n_subsets * subset_rows, len(groups)))
    first = _deal(ordered, counts, [aside, 1 - aside], False)
    pooled = [g for g in ordered if first[g] == 0]
    rest = [g for g in ordered if first[g] == 1]
    m = n_subsets
    while m > 1 and any(sum(g in members for g in pooled) < m for members in of_class.values()):
        m -= 1
    second = _deal(pooled, counts, [Fraction(1, m)] * m, True)
    third = _deal(rest, counts, [Fraction(1, n_folds)] * n_folds, True)
    cell_of = {g: n_folds + second[g] for g in pooled} | {g: third[g] for g in rest}
    cells = np.array([cell_of[g] for g in groups.tolist()])

    shift = 0.0
    for j in range(m):
        complement = labels[cells != n_folds + j]
        for c in of_class:
            shift = max(shift, abs(float(np.mean(complement == c) / np.mean(labels == c)) - 1))
    in_folds = cells < n_folds
    known = set(labels[in_folds].tolist())
    lacking = any(set(labels[in_folds & (cells != k)].tolist()) != known for k in range(n_folds))
    return Draw(cells, m, shift, lacking)
