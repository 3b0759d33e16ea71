"""Keyword options of functions that hand them on to their settings."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["with_options"]

S = TypeVar("S", bound="DataclassInstance")


def with_options(settings: S, options: Mapping[str, object], function: str) -> S:
    """The settings with these options in their place; `function` is who was given them.

    Raises
    ------
    TypeError for settings that are none, and for an option that they do not have; what they raise for its value.
    """
    if not is_dataclass(settings) or isinstance(settings, type):
        told = "**settings" if isinstance(settings, Mapping) else "keyword options"
        raise TypeError(f"{function}() got a {type(settings).__name__} as settings; hand over {told}")
    names = [field.name for field in fields(settings)]
    for name in options:
        if name not in names:
            near = get_close_matches(name, names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"its options are {', '.join(names)}"
            raise TypeError(f"{function}() has no option {name!r}; {hint}")
    return replace(settings, **options)
