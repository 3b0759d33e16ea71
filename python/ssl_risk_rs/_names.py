"""What things are called where several have the same name."""

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from ssl_risk_rs.errors import ParameterError

__all__ = ["distinct", "refuse_twice"]


def distinct(names: Sequence[str], *qualifiers: Sequence[str]) -> list[str]:
    """Names that differ: those that occur again get a qualifier in brackets ("" is none), of each kind as long as they
    still do, and in the end their number.

    Examples
    --------
    >>> distinct(["swav", "dino", "swav"], ["", "", "layer3"], ["x", "y", "z"])
    ['swav', 'dino', 'swav (layer3)']
    >>> distinct(["swav", "swav"], ["", ""])
    ['swav #1', 'swav #2']
    >>> distinct(["swav", "swav", "swav #2"])
    ['swav #1', 'swav #3', 'swav #2']
    """
    found = list(names)
    for qualifier in qualifiers:
        times = Counter(found)
        found = [f"{n} ({q})" if times[n] > 1 and q else n for n, q in zip(found, qualifier, strict=True)]
    times = Counter(found)
    taken = {name for name in found if times[name] == 1}
    for i, name in enumerate(found):
        if times[name] > 1:
            numbers = itertools.count(i + 1)
            found[i] = next(other for n in numbers if (other := f"{name} #{n}") not in taken)
            taken.add(found[i])
    return found


def refuse_twice(targets: Iterable[str], why: str) -> None:
    """Refuse paths of which two lead to the same file or folder; `why` that makes no sense.

    Raises
    ------
    ParameterError naming it.
    """
    times = Counter(Path(target).expanduser().resolve() for target in targets)
    if twice := [path for path, count in times.items() if count > 1]:
        raise ParameterError(f"a target is named twice ({twice[0].name}): {why}")
