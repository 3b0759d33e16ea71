"""Names of classes: their order, how a message shows them, why two sets of them differ."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence

__all__ = ["in_order", "is_whole", "likely_cause", "nearly_equal", "shown"]

#: with more digits than int() reads in one, a name is text
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,999}")
_SHOWN = 8
#: factors at which labels are scaled on purpose: percent, 8-bit images
_USUAL_FACTORS = (10, 100, 255, 1000)


def is_whole(name: str) -> bool:
    """Whether the name is a whole number as Python writes it."""
    return _WHOLE.fullmatch(name) is not None


def in_order(names: Iterable[str]) -> list[str]:
    """By value where all are whole numbers, else as text."""
    names = list(names)
    return sorted(names, key=int) if all(map(is_whole, names)) else sorted(names)


def shown(names: Sequence[str]) -> str:
    """Some of the names, as a reader can tell blanks from none."""
    some = [name if is_whole(name) else repr(name) for name in names[:_SHOWN]]
    if len(names) <= _SHOWN:
        return ", ".join(some)
    return f"{', '.join(some)}, … ({len(names):,} in all)"


def likely_cause(train: Sequence[str], test: Sequence[str]) -> str:
    """The likely reason why test labels are not among the training labels, and what to do."""
    numbers = [all(map(is_whole, names)) for names in (train, test)]
    if all(numbers):
        there, here = ({int(name) for name in names} for names in (train, test))
        shift = min(here) - min(there)
        for by in dict.fromkeys((shift, max(here) - max(there), 1, -1)):
            if abs(by) == 1 and {value - by for value in here} <= there:
                low, high = min(there), min(there) + by
                counts = f"one part counts from {low}, the other from {high}"
                return f"The test labels look shifted by one: {counts}. Count both alike"
        for factor in _factors(there, here):
            return f"The test labels look scaled: they are {factor} those of the training rows. Write both alike"
        return "Write both with the same numbers, or leave those test rows out"
    if any(numbers):
        one, other = ("training", "test") if numbers[0] else ("test", "training")
        return f"The {one} labels are codes and the {other} labels are names. Write both as names"
    changes: list[tuple[Callable[[str], str], str]] = [
        (str.strip, "blanks before or after the name. Strip them"),
        (str.casefold, "upper and lower case. Write both alike"),
        (lambda name: unicodedata.normalize("NFKC", name), "the way letters are encoded. Normalize both (NFC)"),
        (_folded, "blanks and case. Write both alike"),
    ]
    for change, what in changes:
        if {change(name) for name in test} <= {change(name) for name in train}:
            return f"The names look equal but for {what}"
    return "Write both with the same names, or leave those test rows out"


def _factors(train: set[int], test: set[int]) -> list[str]:
    """How test labels are multiples of training labels, if they are."""
    large, small = max(map(abs, test)), max(map(abs, train))
    if not large or not small:
        return []
    if large % small and small % large:
        return []
    factor = max(large, small) // min(large, small)
    if factor not in _USUAL_FACTORS and len(test - {0}) < 2:  # 0, 1 and 0, 7: no sign of a scale
        return []
    if {value * small for value in test} <= {value * large for value in train}:
        return [f"{factor} times" if large > small else f"1/{factor} of"]
    return []


def nearly_equal(names: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of names of different classes that look alike."""
    alike: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        alike.setdefault(_folded(name), []).append(name)
    return [(group[0], group[1]) for group in alike.values() if len(group) > 1]


def _folded(name: str) -> str:
    """The name without what the eye does not see: blanks, case, composition of letters."""
    return unicodedata.normalize("NFKC", " ".join(name.split())).casefold()
