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
    "FeatureBank": "ssl_risk_rs.bank",
    "FeatureStore": "ssl_risk_rs.store",
    "LogisticProbe": "ssl_risk_rs.probes",
    "RidgeProbe": "ssl_risk_rs.probes",
    "alpha_from_c": "ssl_risk_rs.probes",
    "alpha_from_ridge": "ssl_risk_rs.probes",
    "bank_key": "ssl_risk_rs.store",
    "decompose": "ssl_risk_rs.decomposition",
    "export_bank": "ssl_risk_rs.convert",
    "fits_float16": "ssl_risk_rs.bank",
    "import_bank": "ssl_risk_rs.convert",
    "load_features": "ssl_risk_rs.feature_arrays",
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
    from ssl_risk_rs.bank import FeatureBank as FeatureBank
    from ssl_risk_rs.bank import fits_float16 as fits_float16
    from ssl_risk_rs.convert import export_bank as export_bank
    from ssl_risk_rs.convert import import_bank as import_bank
    from ssl_risk_rs.decomposition import decompose as decompose
    from ssl_risk_rs.feature_arrays import load_features as load_features
    from ssl_risk_rs.probes import LogisticProbe as LogisticProbe
    from ssl_risk_rs.probes import RidgeProbe as RidgeProbe
    from ssl_risk_rs.probes import alpha_from_c as alpha_from_c
    from ssl_risk_rs.probes import alpha_from_ridge as alpha_from_ridge
    from ssl_risk_rs.store import FeatureStore as FeatureStore
    from ssl_risk_rs.store import bank_key as bank_key
