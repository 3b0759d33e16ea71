"""Packages that only the study needs, imported where they are used."""

from importlib import import_module
from types import ModuleType

from ssl_risk_rs.errors import ParameterError

__all__ = ["require"]


def require(module: str) -> ModuleType:
    """Import a package of the extra `study`.

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
            f"the study needs {package}, which is not installed: pip install 'ssl-risk-rs[study]'"
        ) from error
