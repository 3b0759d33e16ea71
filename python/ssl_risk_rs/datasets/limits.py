"""`--limit`: fewer images, drawn as every split of the package is."""

from dataclasses import dataclass

import numpy as np

from ssl_risk_rs._limits import whole_number
from ssl_risk_rs._splits import take_at_most
from ssl_risk_rs.datasets.sources import Listing, text
from ssl_risk_rs.errors import ParameterError

__all__ = ["Limit"]


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `count` images of each split, or of each class of each split.

    The images with the smallest keys of their sample id are kept: the same ones in every run, whatever the order of
    the files, and a smaller limit keeps a subset of what a larger one keeps. With a group column, groups are kept
    whole as far as they fit.
    """

    count: int
    per_class: bool = False

    @classmethod
    def parse(cls, value: "str | int | Limit") -> "Limit":
        """`500` → 500 images of each split; `"100/class"` → 100 images of each class of each split."""
        if isinstance(value, Limit):
            return value
        number, slash, unit = str(value).replace(",", "").partition("/")
        count = whole_number(number.strip())
        if not count or (slash and unit.strip() != "class"):
            raise ParameterError(f"limit {value!r} is neither N nor N/class, for example 5000 or 100/class")
        return cls(count, per_class=bool(slash))

    def __str__(self) -> str:
        return f"{self.count}/class" if self.per_class else str(self.count)

    def select(self, listing: Listing, group: str | None = None) -> np.ndarray:
        """Positions in the listing that are kept, ascending (int64). `group` names one of its columns."""
        kept = []
        for part in listing.parts():
            groups = None if group is None else listing.columns[group][part].tolist()
            ids = [text(s) for s in listing.sample_id[part].tolist()]
            mask = take_at_most(listing.label[part], ids, self.count, per_class=self.per_class, groups=groups)
            kept.append(np.flatnonzero(mask) + part.start)
        return np.concatenate(kept)

    def notes(self, listing: Listing, kept: np.ndarray, class_names: list[str], group: str | None) -> list[str]:
        """What was left out, for the user, and which classes have fewer images than were asked for."""
        if len(kept) == len(listing.label):
            return [f"the limit of {self} leaves no image out"]
        where = "class of each split" if self.per_class else "split"
        drawn = f"in whole groups of {group!r}" if group else "drawn by sample id"
        notes = [f"limited to {self.count:,} images of each {where}, {drawn}: {len(kept):,} of {len(listing.label):,}"]
        for name, part in zip(("train", "test"), listing.parts(), strict=True) if self.per_class else ():
            sizes = np.bincount(listing.label[part], minlength=len(class_names))
            short = np.flatnonzero((sizes > 0) & (sizes < self.count))
            if len(short) and len(np.unique(np.minimum(sizes[sizes > 0], self.count))) > 1:
                least = short[np.argmin(sizes[short])]
                notes.append(
                    f"{len(short)} of {np.count_nonzero(sizes)} classes have fewer than {self.count:,} {name} images "
                    f"(the smallest, {class_names[least]}, has {sizes[least]:,}): they keep all of theirs, so the "
                    "class shares are neither equal nor those of the whole data"
                )
        return notes
