"""`--limit`: fewer images, chosen by the hash of their id."""

from dataclasses import dataclass

import numpy as np

from ssl_risk_rs.datasets.sources import Listing, stable_hash
from ssl_risk_rs.errors import ParameterError

__all__ = ["Limit"]


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `count` images of each split, or of each class of each split.

    The images with the smallest hash of their id are kept: the same ones in every run, whatever the order of
    the files, and a smaller limit keeps a subset of what a larger one keeps.
    """

    count: int
    per_class: bool = False

    @classmethod
    def parse(cls, value: "str | int | Limit") -> "Limit":
        """`500` → 500 images of each split; `"100/class"` → 100 images of each class of each split."""
        if isinstance(value, Limit):
            return value
        number, slash, unit = str(value).replace(",", "").partition("/")
        if not number.strip().isdecimal() or int(number) < 1 or (slash and unit.strip() != "class"):
            raise ParameterError(f"limit {value!r} is neither N nor N/class, for example 5000 or 100/class")
        return cls(int(number), per_class=bool(slash))

    def __str__(self) -> str:
        return f"{self.count}/class" if self.per_class else str(self.count)

    def sentence(self) -> str:
        """What was left out, for the user."""
        where = "class of each split" if self.per_class else "split"
        return f"limited to {self.count:,} images of each {where}, chosen by the hash of their sample id"

    def select(self, listing: Listing) -> np.ndarray:
        """Positions in the listing that are kept, ascending (int64)."""
        order = np.array([stable_hash(s) for s in listing.sample_id.tolist()], dtype=np.uint64)
        split = np.arange(len(order)) >= listing.n_train
        group = split * (int(listing.label.max(initial=0)) + 1) + listing.label if self.per_class else split
        by_group = np.lexsort((order, group))
        starts = np.flatnonzero(np.diff(group[by_group], prepend=-1))
        rank = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
        return np.sort(by_group[rank < self.count])
