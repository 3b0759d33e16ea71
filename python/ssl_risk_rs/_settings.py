"""Keyword options of functions that hand them on to their settings."""

from collections.abc import Mapping
from dataclasses import fields, replace
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
    TypeError for an option that the settings do not have; what they raise for its value.
    """
    names = [field.name for field in fields(settings)]
    for name in options:
        if name not in names:
            near = get_close_matches(name, names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"its options are {', '.join(names)}"
            raise TypeError(f"{function}() has no option {name!r}; {hint}")
    return replace(settings, **options)
