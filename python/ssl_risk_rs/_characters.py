"""Characters that no page, drawing or terminal can take, wherever names bring them in: classes, groups, files."""

import re
from typing import TypeVar

__all__ = ["clipped", "shown", "shown_in"]

#: controls but tab and line end, halves of surrogate pairs, and what XML forbids
_FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")

Value = TypeVar("Value")


def shown(text: str) -> str:
    r"""Text with a replacement character for each that cannot be shown.

    >>> shown("a\x1b[31m") == "a\N{REPLACEMENT CHARACTER}[31m"
    True
    """
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)


def clipped(text: str, width: int) -> str:
    """Text in at most so many characters, the end of it kept: names of one hierarchy differ there.

    >>> clipped("animalia.chordata.mammalia.felis_catus", 23)
    'animalia.ch…felis_catus'
    """
    if len(text) <= width:
        return text
    head = (width - 1) // 2
    return f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"


def shown_in(value: Value) -> Value:
    """The same of every text in a document of dicts and lists, keys included."""
    if isinstance(value, str):
        return shown(value)  # type: ignore[return-value]  # a str is what it was
    if isinstance(value, dict):
        return {shown_in(key): shown_in(item) for key, item in value.items()}  # type: ignore[return-value]
    if isinstance(value, (list, tuple)):
        return [shown_in(item) for item in value]  # type: ignore[return-value]  # JSON has no tuples
    return value
