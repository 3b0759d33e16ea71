"""Packages of extras, imported where they are used."""

from importlib import import_module
from types import ModuleType

from ssl_risk_rs.errors import ParameterError

__all__ = ["require"]


def require(module: str, extra: str, needed_by: str) -> ModuleType:
    """Import a package that an extra of this one brings.

    Parameters
    ----------
    needed_by : subject and verb of the sentence that says so, "the study needs"

    Raises
    ------
    ParameterError, naming the line that installs it, if the package is absent.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if (error.name or "").partition(".")[0] != package:
            raise
        raise ParameterError(
            f"{needed_by} {package}, which is not installed: pip install 'ssl-risk-rs[{extra}]'"
        ) from error
