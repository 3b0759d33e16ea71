"""Bounds of what may be asked for, which the library and the command line share; whole numbers that texts write."""

from collections.abc import Sequence
from math import inf, nan
from numbers import Integral, Real
from typing import Final, Literal, TypeAlias

from ssl_risk_rs import _core
from ssl_risk_rs.errors import ParameterError

__all__ = [
    "MOST_CONFIDENCE", "MOST_PARTS", "MOST_PASSES", "MOST_ROWS", "MOST_SEED", "MOST_SUBSETS", "MOST_THREADS",
    "TIGHTEST_TOLERANCE", "TOLERANCE_BELOW", "Scaling", "check_choice", "check_confidence", "check_flag",
    "check_positive", "check_text", "check_threads", "check_tolerance", "check_whole", "whole_number",
]  # fmt: skip

#: of each feature, from the training rows
Scaling: TypeAlias = Literal["none", "standardize", "minmax"]

#: more threads than any machine has would only wait for each other
MOST_THREADS: Final = _core.MOST_THREADS
#: what the keys of splits hold
MOST_SEED: Final = 2**64 - 1
#: nearer to 1, quantiles are beyond what float64 tells apart
MOST_CONFIDENCE: Final = 0.999999
#: of a fit over its rows, which takes a few hundred where it takes many
MOST_PASSES: Final = 2**31 - 1
#: held-out subsets: together at most a fifth of the training rows
MOST_SUBSETS: Final = 3
#: folds, and subsets: records number them in int8
MOST_PARTS: Final = 127
#: floats count exactly up to here, and no table has more rows
MOST_ROWS: Final = 2**53
#: digits of a number that int64 holds whatever they are
_DIGITS: Final = 18
#: a relative tolerance of 1 asks for nothing; of an objective float32 resolves 6e-8
TOLERANCE_BELOW: Final = 1
TIGHTEST_TOLERANCE: Final = 1e-7


def check_whole(name: str, value: object, least: int, most: int) -> None:
    """Raise ParameterError unless a value is a whole number in this range; True is none."""
    if isinstance(value, bool) or not (isinstance(value, Integral) and least <= int(value) <= most):
        raise ParameterError(f"{name} must be a whole number from {least} to {most}, got {value!r}")


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Raise ParameterError unless a value is one of several choices."""
    if value not in choices:
        *before, last = map(repr, choices)
        raise ParameterError(f"{name} must be {', '.join(before)} or {last}, got {value!r}")


def check_flag(name: str, value: object) -> None:
    """Raise ParameterError unless a value is True or False."""
    if not isinstance(value, bool):
        raise ParameterError(f"{name} must be True or False, got {value!r}")


def check_text(name: str, value: object) -> None:
    """Raise ParameterError unless a value is text that a record can hold: half a surrogate pair is none."""
    if not isinstance(value, str):
        raise ParameterError(f"{name} must be text, got {value!r}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ParameterError(f"{name} is {value!r}, which no UTF-8 text can hold") from None


def check_threads(n_threads: object) -> None:
    """Raise ParameterError unless a number of threads is None, for all cores, or one that a machine may have."""
    if n_threads is not None:
        check_whole("n_threads", n_threads, 1, MOST_THREADS)


def whole_number(text: str) -> int | None:
    """The number that decimal digits write; None for other texts, and for more digits than any count has."""
    return int(text) if text.isdecimal() and len(text) <= _DIGITS else None


def _as_float(value: object) -> float:
    """A real number as a float, infinity where it has none; NaN for what is no real number, and for True and False."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return nan
    try:
        return float(value)
    except OverflowError:  # a whole number of hundreds of digits
        return inf


def check_positive(name: str, value: object, below: float) -> None:
    """Raise ParameterError unless a value is a number between 0 and `below`, perhaps infinity; True is none."""
    if not 0 < _as_float(value) < below:
        wanted = "be positive and finite" if below == inf else f"lie between 0 and {below:g}"
        raise ParameterError(f"{name} must {wanted}, got {value!r}")


def check_tolerance(value: object) -> None:
    """Raise ParameterError unless a value is a relative suboptimality that a logistic fit can reach."""
    if not TIGHTEST_TOLERANCE <= _as_float(value) < TOLERANCE_BELOW:
        raise ParameterError(
            f"tol must be at least {TIGHTEST_TOLERANCE:g}, which is what float32 can tell, and below "
            f"{TOLERANCE_BELOW}, got {value!r}"
        )


def check_confidence(value: object) -> None:
    """Raise ParameterError unless a value is a level of confidence that intervals can have."""
    if not 0 < _as_float(value) <= MOST_CONFIDENCE:
        raise ParameterError(f"confidence must lie between 0 and 1, at most {MOST_CONFIDENCE}, got {value!r}")
