"""Which rows a few-shot probe gets: draws from half of each class, by split keys.

The pool P is half of each class (half of the groups, where rows have groups). Draws are disjoint where P has enough
rows for it, so that they are independent; otherwise each is drawn from P anew, and they overlap. Like every split, a
draw is a function of (sample id, seed) only, or of (group id, sample id, seed).

With groups, a group belongs to one draw whole: a draw visits groups by their keys until each class has its rows, and
of the last group takes only as many rows as are missing; no other draw and no judged row comes from these groups.
"""

from dataclasses import dataclass

import numpy as np

from ssl_risk_rs import _core
from ssl_risk_rs._splits import sample_keys
from ssl_risk_rs.decomposition.task import Task
from ssl_risk_rs.errors import ParameterError
from ssl_risk_rs.results.fewshot import DISJOINT, Overlap, ShotSize

__all__ = ["DRAWS", "LEAST_DISJOINT", "MOST_DRAWS", "DrawPlan", "plan_draws"]

#: draws to begin with, and at most where their spread decides the interval
DRAWS, MOST_DRAWS = 10, 20
#: with fewer disjoint draws than this, overlapping ones tell more
LEAST_DISJOINT = 5
#: coefficient of variation up to which classes are nearly of the same size (ImageNet: 0.06). Rounded one by one,
#: classes of 760 and 740 rows gave 8 and 7 rows at 1 %, and an error of 48.9 instead of 43.4 %: under the strong
#: penalty that few rows want, the more frequent class wins
NEARLY_EQUAL = 0.1
#: distance between the seeds of overlapping draws (64 bits of the golden ratio, as in splitmix64)
_STEP = 0x9E3779B97F4A7C15


@dataclass(frozen=True, slots=True)
class _Rows:
    """The training rows as draws see them: keys, classes and, with groups, group keys; by position."""

    ids: list[str]
    labels: np.ndarray
    groups: np.ndarray | None
    group_names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DrawPlan:
    """Draws of one size; positions count the training rows.

    Attributes
    ----------
    size : what was asked for; counts : rows of each class in a draw, (k,)
    pool : positions that draws come from, ascending
    disjoint : whether no two draws share a row (or a group)
    first : draws to begin with; most : how many can be made
    overlap : what draws have in common; of disjoint draws nothing
    fixed : the number of draws was asked for, and is not raised
    """

    size: ShotSize
    counts: np.ndarray
    pool: np.ndarray
    disjoint: bool
    first: int
    most: int
    overlap: Overlap
    fixed: bool
    _draws: tuple[np.ndarray, ...]
    _groups: np.ndarray | None

    @property
    def labels(self) -> int:
        """Rows of a draw."""
        return int(self.counts.sum())

    @property
    def shots(self) -> tuple[int, ...]:
        """Rows of a class in a draw: one number, or the fewest and the most."""
        present = self.counts[self.counts > 0]
        return tuple(sorted({int(present.min()), int(present.max())}))

    def rows(self, count: int) -> list[np.ndarray]:
        """The first `count` draws: positions, ascending."""
        return list(self._draws[:count])

    def judged(self, count: int, n: int) -> np.ndarray:
        """Positions of the n training rows that none of the first `count` draws may have seen, ascending: J."""
        left_out = np.concatenate(self._draws[:count]) if self.disjoint else self.pool
        if self._groups is None:
            free = np.ones(n, bool)
            free[left_out] = False
        else:
            free = ~np.isin(self._groups, np.unique(self._groups[left_out]))
        return np.flatnonzero(free).astype(np.int32)


def plan_draws(task: Task, size: ShotSize, seed: int, draws: int | None = None) -> DrawPlan:
    """The draws of one size.

    Parameters
    ----------
    size : rows of each class, or a share of them
    draws : how many; None: 10, raised to 20 later where their spread decides the interval

    Raises
    ------
    ParameterError if a class has too few rows (or groups) for a draw, naming it.
    """
    rows = _rows(task)
    counts = np.bincount(rows.labels, minlength=task.n_classes)
    wanted = _counts(counts, size)
    pool = _pool(task, rows, seed)
    in_pool = np.bincount(rows.labels[pool], minlength=task.n_classes)
    short = np.flatnonzero(wanted > in_pool)
    if len(short):
        c = int(short[np.argmin(in_pool[short])])
        unit = "rows" if rows.groups is None else "rows, in whole groups"
        least = int(in_pool[counts > 0].min())
        advice = f"ask for at most {least} shots, or give more rows of that class" if least else "give more rows of it"
        raise ParameterError(
            f"{size.title}: class {task.class_names[c]} has {counts[c]:,} training rows, and draws come from half of "
            f"them ({in_pool[c]:,} {unit}), fewer than {wanted[c]:,}; {advice}"
        )
    most = MOST_DRAWS if draws is None else draws
    disjoint = _disjoint(rows, pool, wanted, seed, most)
    enough = min(LEAST_DISJOINT, most)
    if len(disjoint) >= enough:
        first = min(len(disjoint), DRAWS if draws is None else draws)
        return DrawPlan(
            size, wanted, pool, True, first, len(disjoint), DISJOINT, draws is not None, tuple(disjoint), rows.groups
        )
    overlapping = [_from_pool(rows, pool, wanted, seed, j) for j in range(most)]
    overlap = _overlap(rows, pool, overlapping)
    if overlap.share >= 1:
        raise ParameterError(
            f"{size.title}: half of the training rows is just one draw, so that all draws would be the same "
            f"{len(pool):,} rows. Ask for fewer shots"
        )
    first = DRAWS if draws is None else draws
    return DrawPlan(size, wanted, pool, False, first, most, overlap, draws is not None, tuple(overlapping), rows.groups)


def _rows(task: Task) -> _Rows:
    ids = [task.sample_ids[row] for row in task.train_rows.tolist()]
    groups = None if task.groups is None else task.groups[task.train_rows]
    return _Rows(ids, task.labels[task.train_rows].astype(np.int64), groups, task.group_names)


def _counts(counts: np.ndarray, size: ShotSize) -> np.ndarray:
    """Rows of each class in a draw; of a share at least one, and of classes of nearly the same size the same number."""
    if size.shots is not None:
        return np.where(counts > 0, size.shots, 0)
    assert size.share is not None
    present = counts[counts > 0]
    of = np.full(len(counts), present.mean()) if present.std() <= NEARLY_EQUAL * present.mean() else counts
    return np.where(counts > 0, np.maximum(1, np.rint(size.share * of)), 0).astype(np.int64)


def _pool(task: Task, rows: _Rows, seed: int) -> np.ndarray:
    """Half of each class, those with the smallest keys; or about half, in whole groups."""
    if rows.groups is None:
        order = np.lexsort((sample_keys(rows.ids, seed), rows.labels))
        rank = _rank(rows.labels[order])
        half = np.bincount(rows.labels, minlength=task.n_classes) // 2
        return np.sort(order[rank < half[rows.labels[order]]])
    present = np.unique(rows.groups)
    if len(present) < 2:
        raise ParameterError(
            f"few-shot draws need training rows of at least two groups, one to draw from and one to judge on; there is "
            f"{len(present)}"
        )
    cells = _core.assign_group_cells(
        sample_keys(rows.group_names, seed), rows.groups.astype(np.uint32), rows.labels.astype(np.uint32), [0.5, 0.5]
    )
    return np.flatnonzero(cells == 0)


def _rank(ordered: np.ndarray) -> np.ndarray:
    """Place of each entry in its run of equals, from 0."""
    starts = np.flatnonzero(np.diff(ordered, prepend=-1))
    return np.arange(len(ordered)) - np.repeat(starts, np.diff(starts, append=len(ordered)))


def _disjoint(rows: _Rows, pool: np.ndarray, wanted: np.ndarray, seed: int, most: int) -> list[np.ndarray]:
    """As many disjoint draws as there are, at most `most`."""
    if rows.groups is not None:
        used: set[int] = set()
        found: list[np.ndarray] = []
        order = _group_order(rows, pool, seed)
        while len(found) < most:
            drawn = _of_groups(rows, pool, wanted, seed, order, used)
            if drawn is None:
                break
            found.append(drawn)
        return found
    labels = rows.labels[pool]
    order = np.lexsort((sample_keys([rows.ids[i] for i in pool.tolist()], seed), labels))
    need = wanted[labels[order]]
    turn = _rank(labels[order]) // np.maximum(need, 1)
    held = np.bincount(labels, minlength=len(wanted))[wanted > 0]
    count = min(most, int((held // wanted[wanted > 0]).min()))
    return [np.sort(pool[order[turn == j]]).astype(np.int32) for j in range(count)]


def _from_pool(rows: _Rows, pool: np.ndarray, wanted: np.ndarray, seed: int, draw: int) -> np.ndarray:
    """One of the draws that overlap: by keys of its own."""
    own = (seed + _STEP * (draw + 1)) % 2**64
    if rows.groups is not None:
        drawn = _of_groups(rows, pool, wanted, own, _group_order(rows, pool, own), set())
        assert drawn is not None  # the pool has the rows
        return drawn
    labels = rows.labels[pool]
    order = np.lexsort((sample_keys([rows.ids[i] for i in pool.tolist()], own), labels))
    return np.sort(pool[order[_rank(labels[order]) < wanted[labels[order]]]]).astype(np.int32)


def _group_order(rows: _Rows, pool: np.ndarray, seed: int) -> np.ndarray:
    """Groups of the pool by their keys."""
    assert rows.groups is not None
    present = np.unique(rows.groups[pool])
    keys = sample_keys([rows.group_names[g] for g in present.tolist()], seed)
    return np.asarray(present[np.argsort(keys, kind="stable")])


def _of_groups(
    rows: _Rows, pool: np.ndarray, wanted: np.ndarray, seed: int, order: np.ndarray, used: set[int]
) -> np.ndarray | None:
    """A draw of groups that are not in `used`, where they are entered; None if they do not suffice."""
    assert rows.groups is not None
    keys = sample_keys([rows.ids[i] for i in pool.tolist()], seed)
    by_group = np.lexsort((keys, rows.groups[pool]))
    starts = np.searchsorted(rows.groups[pool][by_group], order)
    ends = np.searchsorted(rows.groups[pool][by_group], order, side="right")
    missing, taken, mine = wanted.copy(), [], []
    for g, start, end in zip(order.tolist(), starts.tolist(), ends.tolist(), strict=True):
        if g in used or not missing.any():
            continue
        own = pool[by_group[start:end]]
        labels = rows.labels[own]
        order_in = np.argsort(labels, kind="stable")
        kept = own[order_in[_rank(labels[order_in]) < missing[labels[order_in]]]]
        if len(kept):
            missing = missing - np.bincount(rows.labels[kept], minlength=len(missing))
            taken.append(kept)
            mine.append(g)
    if missing.any():
        return None
    used.update(mine)
    return np.sort(np.concatenate(taken)).astype(np.int32)


def _overlap(rows: _Rows, pool: np.ndarray, draws: list[np.ndarray]) -> Overlap:
    """From the rows of each class, or the groups that have some, in the pool and, on average, in a draw."""
    units = np.arange(len(rows.labels)) if rows.groups is None else rows.groups

    def of(positions: np.ndarray) -> np.ndarray:
        pairs = np.unique(np.stack([rows.labels[positions], units[positions]]), axis=1)
        return np.bincount(pairs[0], minlength=int(rows.labels.max()) + 1)

    in_pool, in_draw = of(pool), np.mean([of(draw) for draw in draws], axis=0)
    there = in_draw > 0
    return Overlap.of(in_draw[there], in_pool[there])
