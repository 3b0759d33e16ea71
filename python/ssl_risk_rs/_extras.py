"""Packages of extras, imported where they are used."""

from importlib import import_module
from types import ModuleType

from ssl_risk_rs.errors import ParameterError, SslRiskError

__all__ = ["require"]


def require(
    module: str, extra: str, needed_by: str, *, error_type: type[SslRiskError] = ParameterError, instead: str = ""
) -> ModuleType:
    """Import a package that an extra of this one brings.

    Parameters
    ----------
    needed_by : subject and verb of the sentence that says so, "the study needs"
    error_type : class of the error of whoever asks
    instead : what works without the package, " (or --engine local)"

    Raises
    ------
    `error_type`, naming the line that installs it, if the package is absent, or lacks a package that it needs itself.
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        absent = isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == package
        state = "is not installed" if absent else f"cannot be imported ({error})"
        raise error_type(
            f"{needed_by} {package}, which {state}:  python -m pip install 'ssl-risk-rs[{extra}]'{instead}"
        ) from error
