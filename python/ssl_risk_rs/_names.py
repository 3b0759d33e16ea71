"""What things are called: where several have the same name, and by their number."""

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from ssl_risk_rs.errors import ParameterError

__all__ = ["counted", "distinct", "in_agreement", "refuse_twice"]


def counted(n: int, noun: str, nouns: str | None = None) -> str:
    """`1 image`, `1,200 images`."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {nouns or noun + 's'}"


#: verbs after a noun in the plural, and what they are after one thing
_VERBS = {"have": "has", "are": "is", "were": "was", "lack": "lacks", "do": "does", "lie": "lies"}
_ONE = re.compile(
    r"(?P<there>There are )?(?<![\d.,/-])1 (?P<kind>(?:[a-z-]+ ){0,2}?)"
    r"(?P<noun>(?:class|group|row|feature|image|label|subset|fold|draw|file|encoder|identifier|step|fit)(?:e?s))\b"
    rf"(?: (?P<verb>{'|'.join(_VERBS)})\b)?"
)


def in_agreement(text: str) -> str:
    """A sentence in which one thing is not told in the plural.

    >>> in_agreement("There are 1 held-out subsets instead of 3; 1 classes have too few rows, 21 classes have enough.")
    'There is 1 held-out subset instead of 3; 1 class has too few rows, 21 classes have enough.'
    """

    def singular(found: re.Match[str]) -> str:
        noun = found["noun"].removesuffix("es" if found["noun"] == "classes" else "s")
        verb = f" {_VERBS[found['verb']]}" if found["verb"] else ""
        return f"{'There is ' if found['there'] else ''}1 {found['kind']}{noun}{verb}"

    return _ONE.sub(singular, text)


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
