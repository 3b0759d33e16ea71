"""Evaluate self-supervised encoders by where their error comes from.

The public names, imported on first use: importing this package loads neither torch nor timm, polars or
scikit-learn. Arrays given to a solver are borrowed while it runs without the GIL: do not write to them
from another thread meanwhile.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from ssl_risk_rs._display import Display, connect
from ssl_risk_rs.errors import (
    BankError,
    DataError,
    DeviceError,
    EncoderError,
    NotComparableError,
    NumericalError,
    PackError,
    ParameterError,
    ResultError,
    ShapeError,
    SslRiskError,
)

_LAZY: dict[str, str] = {
    "Decomposition": "ssl_risk_rs.results",
    "Encoder": "ssl_risk_rs.encoders",
    "EncoderSpec": "ssl_risk_rs.encoders",
    "Encoding": "ssl_risk_rs.extraction.settings",
    "FeatureBank": "ssl_risk_rs.bank",
    "FeatureStore": "ssl_risk_rs.bank.store",
    "Geometry": "ssl_risk_rs.geometry",
    "ImageDataset": "ssl_risk_rs.datasets",
    "LogisticProbe": "ssl_risk_rs.probes.estimators",
    "Moments": "ssl_risk_rs._core",
    "Neighbours": "ssl_risk_rs.results.knn",
    "Estimate": "ssl_risk_rs.results",
    "Explanation": "ssl_risk_rs.results.explain",
    "Note": "ssl_risk_rs._notes",
    "RidgeProbe": "ssl_risk_rs.probes.estimators",
    "RidgeProbeCV": "ssl_risk_rs.probes.estimators",
    "Run": "ssl_risk_rs.results",
    "Settings": "ssl_risk_rs.decomposition",
    "Comparison": "ssl_risk_rs.results",
    "TrainingMonitor": "ssl_risk_rs.workflow.training",
    "alpha_from_c": "ssl_risk_rs.probes.estimators",
    "alpha_from_ridge": "ssl_risk_rs.probes.estimators",
    "bank_key": "ssl_risk_rs.bank.store",
    "choose_shift": "ssl_risk_rs._core",
    "compare": "ssl_risk_rs.decomposition",
    "create_dataset": "ssl_risk_rs.datasets",
    "create_encoder": "ssl_risk_rs.encoders",
    "decompose": "ssl_risk_rs.decomposition",
    "describe_encoder": "ssl_risk_rs.encoders",
    "ensure_bank": "ssl_risk_rs.extraction",
    "evaluate": "ssl_risk_rs.workflow.evaluate",
    "explain": "ssl_risk_rs.workflow.explain",
    "export_bank": "ssl_risk_rs.bank.exchange",
    "extract": "ssl_risk_rs.extraction",
    "fits_float16": "ssl_risk_rs.bank",
    "import_bank": "ssl_risk_rs.bank.exchange",
    "knn": "ssl_risk_rs.decomposition.knn",
    "list_datasets": "ssl_risk_rs.datasets",
    "list_encoders": "ssl_risk_rs.encoders",
    "load_features": "ssl_risk_rs.bank.formats",
    "load_published": "ssl_risk_rs.workflow.published",
    "geometry_frame": "ssl_risk_rs.geometry",
    "read_results": "ssl_risk_rs.results",
    "stats": "ssl_risk_rs.geometry",
    "with_metrics": "ssl_risk_rs.decomposition",
    "to_latex": "ssl_risk_rs.report",
    "to_pandas": "ssl_risk_rs.results",
}

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
    *_LAZY,
]


connect(lambda: cast(Display, import_module("ssl_risk_rs.report.display")))


if not TYPE_CHECKING:  # a checker would take every name for one of these

    def __getattr__(name: str) -> Any:
        if name in _LAZY:
            return getattr(import_module(_LAZY[name]), name)
        if name == "__version__":
            return import_module("importlib.metadata").version("ssl-risk-rs")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


if TYPE_CHECKING:
    __version__: str
    from ssl_risk_rs._core import Moments as Moments
    from ssl_risk_rs._core import choose_shift as choose_shift
    from ssl_risk_rs._notes import Note as Note
    from ssl_risk_rs.bank import FeatureBank as FeatureBank
    from ssl_risk_rs.bank import fits_float16 as fits_float16
    from ssl_risk_rs.bank.exchange import export_bank as export_bank
    from ssl_risk_rs.bank.exchange import import_bank as import_bank
    from ssl_risk_rs.bank.formats import load_features as load_features
    from ssl_risk_rs.bank.store import FeatureStore as FeatureStore
    from ssl_risk_rs.bank.store import bank_key as bank_key
    from ssl_risk_rs.datasets import ImageDataset as ImageDataset
    from ssl_risk_rs.datasets import create_dataset as create_dataset
    from ssl_risk_rs.datasets import list_datasets as list_datasets
    from ssl_risk_rs.decomposition import Settings as Settings
    from ssl_risk_rs.decomposition import compare as compare
    from ssl_risk_rs.decomposition import decompose as decompose
    from ssl_risk_rs.decomposition import with_metrics as with_metrics
    from ssl_risk_rs.decomposition.knn import knn as knn
    from ssl_risk_rs.encoders import Encoder as Encoder
    from ssl_risk_rs.encoders import EncoderSpec as EncoderSpec
    from ssl_risk_rs.encoders import create_encoder as create_encoder
    from ssl_risk_rs.encoders import describe_encoder as describe_encoder
    from ssl_risk_rs.encoders import list_encoders as list_encoders
    from ssl_risk_rs.extraction import ensure_bank as ensure_bank
    from ssl_risk_rs.extraction import extract as extract
    from ssl_risk_rs.extraction.settings import Encoding as Encoding
    from ssl_risk_rs.geometry import Geometry as Geometry
    from ssl_risk_rs.geometry import geometry_frame as geometry_frame
    from ssl_risk_rs.geometry import stats as stats
    from ssl_risk_rs.probes.estimators import LogisticProbe as LogisticProbe
    from ssl_risk_rs.probes.estimators import RidgeProbe as RidgeProbe
    from ssl_risk_rs.probes.estimators import RidgeProbeCV as RidgeProbeCV
    from ssl_risk_rs.probes.estimators import alpha_from_c as alpha_from_c
    from ssl_risk_rs.probes.estimators import alpha_from_ridge as alpha_from_ridge
    from ssl_risk_rs.report import to_latex as to_latex
    from ssl_risk_rs.results import Comparison as Comparison
    from ssl_risk_rs.results import Decomposition as Decomposition
    from ssl_risk_rs.results import Estimate as Estimate
    from ssl_risk_rs.results import Run as Run
    from ssl_risk_rs.results import read_results as read_results
    from ssl_risk_rs.results import to_pandas as to_pandas
    from ssl_risk_rs.results.explain import Explanation as Explanation
    from ssl_risk_rs.results.knn import Neighbours as Neighbours
    from ssl_risk_rs.workflow.evaluate import evaluate as evaluate
    from ssl_risk_rs.workflow.explain import explain as explain
    from ssl_risk_rs.workflow.published import load_published as load_published
    from ssl_risk_rs.workflow.training import TrainingMonitor as TrainingMonitor
