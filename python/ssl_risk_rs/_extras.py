"""Packages of extras, imported where they are used, and releases of those that are installed."""

from collections.abc import Iterable
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

from ssl_risk_rs.errors import ParameterError, SslRiskError

__all__ = ["refuse_without_torch", "releases", "require"]


def releases(packages: Iterable[str]) -> dict[str, str]:
    """Installed release of each package that is installed; none is imported."""
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def refuse_without_torch(needed_by: str) -> None:
    """Raise ParameterError with the line that installs PyTorch, which some files of features need, if it is absent."""
    try:
        import_module("torch")
    except ImportError as error:
        raise ParameterError(
            f"{needed_by} torch, which cannot be imported ({error}):  python -m pip install torch"
        ) from error


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
