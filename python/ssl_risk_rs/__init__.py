"""Evaluate self-supervised encoders by where their error comes from.

The public names, imported on first use: importing this package loads neither torch nor timm, polars or
scikit-learn. Arrays given to a solver are borrowed while it runs without the GIL: do not write to them
from another thread meanwhile.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ssl_risk_rs.errors import (
    BankError,
    DataError,
    EncoderError,
    NumericalError,
    ParameterError,
    ShapeError,
    SslRiskError,
)

_LAZY: dict[str, str] = {
    "Encoder": "ssl_risk_rs.encoders",
    "EncoderSpec": "ssl_risk_rs.encoders",
    "create_encoder": "ssl_risk_rs.encoders",
    "describe_encoder": "ssl_risk_rs.encoders",
    "list_encoders": "ssl_risk_rs.encoders",
}

__all__ = [
    "BankError",
    "DataError",
    "EncoderError",
    "NumericalError",
    "ParameterError",
    "ShapeError",
    "SslRiskError",
    *_LAZY,
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


if TYPE_CHECKING:
    from ssl_risk_rs.encoders import Encoder as Encoder
    from ssl_risk_rs.encoders import EncoderSpec as EncoderSpec
    from ssl_risk_rs.encoders import create_encoder as create_encoder
    from ssl_risk_rs.encoders import describe_encoder as describe_encoder
    from ssl_risk_rs.encoders import list_encoders as list_encoders
