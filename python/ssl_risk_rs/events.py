"""Progress of long work, one kind of value for all of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["Event", "Report", "Stage"]

Stage = Literal["scan", "encode", "import", "export", "verify", "moments", "fit", "judge"]


@dataclass(frozen=True, slots=True)
class Event:
    """How far a stage is.

    stage : what is done; detail : on what, for a person; done, total : in the stage's own unit (images, rows, passes)
    rate : units a second; bottleneck : what the stage waits for; seconds_left : estimate
    """

    stage: Stage
    done: float = 0.0
    total: float | None = None
    rate: float | None = None
    bottleneck: str | None = None
    detail: str = ""
    seconds_left: float | None = None


#: receives events
Report: TypeAlias = Callable[[Event], None]
