"""In what published encoders with one bottleneck differ: associations with the size of that component, no causes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from ssl_risk_rs._inference import holm
from ssl_risk_rs.results.published import Published

__all__ = ["PublishedTraits", "Trait", "published_traits"]

#: design choices that are numbers, and those that are words
_NUMBERS = (
    "z_dim", "n_parameters", "epochs", "batch_size", "projection_nparameters", "n_augmentations", "nviews", "year",
)  # fmt: skip
_WORDS = ("ssl_mode", "family", "pretraining_data")
#: encoders that a level of a word, or a rank correlation, needs
LEAST = 5
#: Holm's p-value from which an association is not shown
SHOWN = 0.05


@dataclass(frozen=True, slots=True)
class Trait:
    """A design choice that goes with the size of the component.

    Attributes
    ----------
    choice : column of the published table; n : encoders that have it; p_holm : after Holm's correction over all choices
    correlation : Spearman's, of a number; None for a word
    least, most : of a word, the levels with the least and the most of the component by its median
    """

    choice: str
    n: int
    p_holm: float
    correlation: float | None = None
    least: tuple[str, float, int] | None = None
    most: tuple[str, float, int] | None = None


@dataclass(frozen=True, slots=True)
class PublishedTraits:
    """Published encoders whose largest component is `quantity`.

    `n` : how many of `n_all`; `n_choices` : associations that were tested; `traits` : those that remain after Holm's
    correction, the surest first
    """

    quantity: str
    n: int
    n_all: int
    n_choices: int
    traits: tuple[Trait, ...]

    def to_dicts(self) -> list[dict[str, object]]:
        """A dict for each trait."""
        return [asdict(trait) for trait in self.traits]


def published_traits(published: Published, quantity: Literal["approx", "usability", "approx_usability", "probe_gen",
                                                             "enc_gen"]) -> PublishedTraits | None:  # fmt: skip
    """What goes with the size of a component among the published encoders that have it as their largest.

    Where approximation and usability are not told apart here, they are taken as one there. Rows of another checkpoint
    than their name says are left out. None where fewer than `2 * LEAST` encoders have this bottleneck.
    """
    split = quantity in ("approx", "usability")
    names = ("approx", "usability", "probe_gen", "enc_gen") if split else ("approx_usability", "probe_gen", "enc_gen")
    frame = published.frame.filter(published.frame["trusted"]).drop_nulls(list(names))
    values = np.column_stack([np.array(frame[name].to_list(), float) for name in names])
    has = values.argmax(1) == names.index(quantity)
    if int(has.sum()) < 2 * LEAST:
        return None
    chosen = frame.filter(has)
    size = np.array(chosen[quantity].to_list(), float)
    found = [t for c in _NUMBERS if c in chosen and (t := _number(c, chosen[c].to_list(), size))]
    found += [t for c in _WORDS if c in chosen and (t := _word(c, chosen[c].to_list(), size))]
    adjusted = holm([trait.p_holm for trait in found])
    sure = [
        Trait(t.choice, t.n, p, t.correlation, t.least, t.most)
        for t, p in zip(found, adjusted, strict=True)
        if p < SHOWN
    ]
    return PublishedTraits(
        quantity, int(has.sum()), frame.height, len(found), tuple(sorted(sure, key=lambda trait: trait.p_holm))
    )


def _number(choice: str, column: Sequence[float | None], size: np.ndarray) -> Trait | None:
    there = np.array([value is not None for value in column])
    x = np.array([float(value) for value in column if value is not None])
    if len(x) < 2 * LEAST or len(np.unique(x)) < 2:
        return None
    from scipy.stats import spearmanr

    found = spearmanr(x, size[there])
    return Trait(choice, len(x), float(found.pvalue), correlation=float(found.statistic))


def _word(choice: str, column: Sequence[str | None], size: np.ndarray) -> Trait | None:
    levels = {
        level: size[[value == level for value in column]]
        for level in sorted({value for value in column if value is not None})
    }
    levels = {level: values for level, values in levels.items() if len(values) >= LEAST}
    if len(levels) < 2:
        return None
    from scipy.stats import kruskal

    p = float(kruskal(*levels.values()).pvalue)
    medians = sorted(
        ((level, float(np.median(values)), len(values)) for level, values in levels.items()), key=lambda m: m[1]
    )
    return Trait(choice, sum(map(len, levels.values())), p, least=medians[0], most=medians[-1])
