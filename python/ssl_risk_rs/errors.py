"""Exceptions of ssl-risk-rs.

Each has two bases, so that code written for the built-in class catches it too. The command line prints
their message without a traceback: a message names the thing that is wrong and the next step.
"""

__all__ = [
    "BankError",
    "DataError",
    "DeviceError",
    "EncoderError",
    "NotComparableError",
    "NumericalError",
    "PackError",
    "ParameterError",
    "ResultError",
    "ShapeError",
    "SslRiskError",
    "first_line",
]


def first_line(error: BaseException) -> str:
    r"""What an error of another library says, as a part of a sentence: its first line, or its class if it has none.

    >>> first_line(OSError("\nno such thing\nTraceback")), first_line(RuntimeError())
    ('no such thing', 'RuntimeError')
    """
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


class SslRiskError(Exception):
    """Base of every expected failure."""


class ShapeError(SslRiskError, ValueError):
    """Arrays disagree in a dimension."""


class ParameterError(SslRiskError, ValueError):
    """An argument is outside its range, or a value is NaN or infinite."""


class BankError(SslRiskError, ValueError):
    """A feature bank is damaged, incomplete, or not what was asked for."""


class DataError(SslRiskError, ValueError):
    """Images or labels cannot be found or read."""


class EncoderError(SslRiskError, ValueError):
    """An encoder is unknown, or its checkpoint cannot be had or does not fit."""


class ResultError(SslRiskError, ValueError):
    """A run cannot be written or read."""


class DeviceError(SslRiskError, RuntimeError):
    """A GPU has too little memory, or stopped answering."""


class NumericalError(SslRiskError, ArithmeticError):
    """A factorization or an iteration broke down."""


class PackError(SslRiskError, ValueError):
    """A pack cannot be written, is damaged, or was changed."""


class NotComparableError(SslRiskError, ValueError):
    """Results cannot be compared; `field` names what differs."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field

    def __reduce__(self) -> tuple[type["NotComparableError"], tuple[str, str]]:
        return NotComparableError, (self.field, str(self))
