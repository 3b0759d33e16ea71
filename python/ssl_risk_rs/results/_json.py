"""Frozen dataclasses ↔ JSON: null for what is not finite, lists for tuples, values for enums."""

import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

__all__ = ["from_json", "to_json"]

T = TypeVar("T")


def to_json(value: Any, *, without: tuple[str, ...] = ()) -> Any:
    """A dataclass, or anything in one, JSON-ready; fields named in `without` are left out at the top."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_json(getattr(value, f.name)) for f in fields(value) if f.name not in without}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [to_json(item) for item in value]
    return value


def from_json(cls: type[T], found: Mapping[str, Any], **given: Any) -> T:
    """The dataclass that `to_json` wrote; unknown fields are left out, missing ones take their default.

    Raises
    ------
    KeyError, TypeError, ValueError where a field is missing or of another kind.
    """
    hints = get_type_hints(cls)
    values = dict(given)
    for f in fields(cast(Any, cls)):
        if f.name in values:
            continue
        if f.name in found:
            values[f.name] = _read(hints[f.name], found[f.name])
        elif f.default is MISSING and f.default_factory is MISSING:
            raise KeyError(f.name)
    return cls(**values)


def _read(kind: Any, value: Any) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        others = [a for a in arguments if a is not type(None)]
        return _read(others[0], value) if len(others) == 1 else value
    if kind is float:
        return math.nan if value is None else float(value)
    if kind in (int, str, bool):
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise TypeError(f"{value!r} is no {kind.__name__}")
        return value
    if origin is Literal:
        if value not in arguments:
            raise ValueError(f"{value!r} is none of {', '.join(map(repr, arguments))}")
        return value
    if origin is tuple:
        return tuple(_read(arguments[0], item) for item in value)
    if origin in (dict, Mapping) or (isinstance(origin, type) and issubclass(origin, Mapping)):
        return {key: _read(arguments[1], item) for key, item in value.items()}
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(value)
    if is_dataclass(kind):
        return from_json(cast(type, kind), value)
    return value
