"""One of several disjoint ranges of rows, so that processes and machines fill a bank side by side.

Shard i of n has the rows from ⌊i·N/n⌋ to ⌊(i+1)·N/n⌋ of N and a part of its own, so that shards need neither locks nor
each other. Which rows a shard has depends on N alone: a shard that died is filled by the same call again, by shards of
another number, or by a call without shard, which takes whatever is missing.
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ssl_risk_rs.errors import ParameterError

if TYPE_CHECKING:
    from ssl_risk_rs.bank import FeatureBank

__all__ = ["Filled", "Shard", "shards_filled"]

_TEXT = re.compile(r"(\d{1,18})/(\d{1,18})", re.ASCII)
_PART = re.compile(r"shard-(\d{1,18})-of-(\d{1,18})", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Shard:
    """Shard `index` (from 0) of `count`.

    >>> [Shard(i, 3).span(10) for i in range(3)]
    [range(0, 3), range(3, 6), range(6, 10)]
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        for name in ("index", "count"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise ParameterError(f"{name} of a shard is {value!r}; give a whole number")
        if self.count < 1:
            raise ParameterError(f"shard {self}: there is at least one shard; give 0/1 for the whole, or no shard")
        if not 0 <= self.index < self.count:
            last = f" … {self.count - 1}/{self.count}" if self.count > 1 else ""
            raise ParameterError(
                f"shard {self} is out of range: shards count from 0, so these are 0/{self.count}{last}"
            )

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Shard of a text `i/n`."""
        found = _TEXT.fullmatch(text.strip())
        if found is None:
            raise ParameterError(f"shard {text!r} is not i/n with whole numbers, like 0/4 for the first of four")
        return cls(int(found[1]), int(found[2]))

    @classmethod
    def of_part(cls, name: str) -> "Shard | None":
        """The shard that writes the part of this name; None if none does."""
        found = _PART.fullmatch(name)
        if found is None or not int(found[1]) < int(found[2]):
            return None
        return cls(int(found[1]), int(found[2]))

    @property
    def part(self) -> str:
        """Name of the shard's part in a bank."""
        return f"shard-{self.index}-of-{self.count}"

    def span(self, n_rows: int) -> range:
        """Rows of the shard in a bank of `n_rows`; none where there are more shards than rows."""
        return range(self.index * n_rows // self.count, (self.index + 1) * n_rows // self.count)

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


class Filled(NamedTuple):
    """How far a bank is that shards fill."""

    n_filled: int  # shards whose rows are all there, whoever wrote them
    n_shards: int
    n_missing: int  # rows of the bank

    def __str__(self) -> str:
        rows = "1 row is" if self.n_missing == 1 else f"{self.n_missing:,} rows are"
        verb = "is" if self.n_filled == 1 else "are"
        return f"{self.n_filled} of {self.n_shards} shards {verb} filled and {rows} missing"


def shards_filled(bank: "FeatureBank", count: int) -> Filled:
    """How many of `count` shards are filled, and how many rows of the bank are missing."""
    missing = bank.missing_rows()
    spans = [Shard(index, count).span(bank.n_rows) for index in range(count)]
    edges = np.searchsorted(missing, np.array([span.start for span in spans] + [bank.n_rows], dtype=np.uint64))
    return Filled(int((np.diff(edges) == 0).sum()), count, len(missing))


def missing_in(bank: "FeatureBank", shard: Shard | None) -> np.ndarray:
    """Rows of the shard (None: of the bank) that are not there yet: uint64, ascending."""
    missing = bank.missing_rows()
    if shard is None:
        return missing
    span = shard.span(bank.n_rows)
    return missing[(missing >= span.start) & (missing < span.stop)]
