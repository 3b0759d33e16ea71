"""Packages that only the study needs, imported where they are used."""

from types import ModuleType

from ssl_risk_rs import _extras

__all__ = ["require"]


def require(module: str) -> ModuleType:
    """Import a package of the extra `study`; ParameterError with the line that installs it, if it is absent."""
    return _extras.require(module, "study", "the study needs")
