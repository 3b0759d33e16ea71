"""What an engine is given, what it tells, and what it can do."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

__all__ = ["ATTEMPTS", "Change", "Engine", "Line"]

#: times that a line is started at most where machines die under it
ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Line:
    """A line: arguments of the program, the file that gets what it says, and the folder it is run in."""

    name: str
    arguments: tuple[str, ...]
    log: Path
    folder: Path = field(default_factory=Path.cwd)


@dataclass(frozen=True, slots=True)
class Change:
    """A line was started, lost with its machine and will be started again, or has ended.

    code : exit status, negative for a signal; None where its machine died too often
    place : where it runs
    """

    line: Line
    state: Literal["started", "lost", "ended"]
    place: str
    code: int | None = None


class Engine(Protocol):
    """Runs lines, as many at a time as there are places for them."""

    #: whether a single line may as well run in this process
    here: bool

    def describe(self) -> list[str]:
        """Sentences that say where lines would run, and with which parameters."""

    def run(self, lines: Sequence[Line], tell: Callable[[Change], None]) -> None:
        """Run all lines to their end; `tell` is called from this thread.

        A line that fails does not stop the others. KeyboardInterrupt ends those that run.
        """
