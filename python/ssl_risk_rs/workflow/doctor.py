"""What a check has found: one value for `doctor` and `data check`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Finding", "Status"]

#: "ok"; "note": something to know; "fault": a run would refuse, or its numbers would mislead
Status = Literal["ok", "note", "fault"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    check : what was looked at, in a word or two
    status : see `Status`
    found : what was found, as a user reads it
    do : the next step where something is wrong, else ""
    values : the same as numbers or text, by name
    examples : lines about single images, files …, all of them
    """

    check: str
    status: Status
    found: str
    do: str = ""
    values: Mapping[str, int | float | str] = field(default_factory=dict)
    examples: Sequence[str] = ()
