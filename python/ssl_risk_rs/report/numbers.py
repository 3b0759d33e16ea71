"""How numbers are written for people, in one place: percent and points with two digits and a true minus sign."""

import math

__all__ = [
    "MINUS", "ROUNDING", "count", "hundred", "interval", "p_value", "percent", "points", "probability", "rounded",
    "share",
]  # fmt: skip

MINUS = "−"
#: numbers that differ by less are the same
ROUNDING = 1e-12
#: what stands where there is no number
NONE = "–"


def rounded(value: float, digits: int = 2) -> float:
    """A number with so many decimals, for tables of plain characters: what rounds to zero has no sign.

    >>> f"{-0.004:.2f}", f"{rounded(-0.004):.2f}"
    ('-0.00', '0.00')
    """
    return round(value, digits) + 0.0  # −0 + 0 = 0


def hundred(value: float, digits: int = 2) -> float:
    """A fraction in percent, or a difference in points, as `rounded`."""
    return rounded(100 * value, digits)


def percent(value: float | None, digits: int = 2) -> str:
    """A fraction in percent, without the sign.

    >>> percent(0.0958), percent(-0.0041), percent(float("nan"))
    ('9.58', '−0.41', '–')
    """
    return NONE if value is None or math.isnan(value) else _signed(f"{100 * value:.{digits}f}")


def points(value: float | None, digits: int = 2) -> str:
    """A difference of two fractions in points, always with its sign."""
    return NONE if value is None or math.isnan(value) else _signed(f"{100 * value:+.{digits}f}")


def interval(low: float, high: float, digits: int = 2) -> str:
    """The interval of a fraction, in percent.

    >>> interval(0.0703, 0.1292), interval(-0.01, 0.0)
    ('7.03 to 12.92', '−1.00 to 0.00')
    """
    return "none" if math.isnan(low) or math.isnan(high) else f"{percent(low, digits)} to {percent(high, digits)}"


def share(value: float) -> str:
    """A part of a whole, in whole percent; below 0.5 % that is said."""
    if math.isnan(value):
        return NONE
    return "< 1 %" if 0 < value < 0.005 else f"{_signed(f'{100 * value:.0f}')} %"


def count(value: int | None) -> str:
    """A whole number with thousands apart."""
    return NONE if value is None else f"{value:,}"


def probability(value: float) -> str:
    """A probability; its ends are not written as 0 and 1."""
    if math.isnan(value):
        return ""
    return "> 0.99" if value > 0.99 else "< 0.01" if value < 0.01 else f"{value:.2f}"


def p_value(value: float | None) -> str:
    """A p-value; nothing where there is none."""
    if value is None or math.isnan(value):
        return ""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _signed(text: str) -> str:
    zero = not any(c in "123456789" for c in text)
    return text.lstrip("-+") if zero else text.replace("-", MINUS)
