"""Where results meet the room that shows them.

`print(result)`, a notebook's cell and `result.plot()` are made by `report`, which reads results and lies above them.
Results ask for them here, and the package, which knows both, says when it is imported where they are made: so results
need no room above theirs.
"""

from collections.abc import Callable
from typing import Any, Protocol

__all__ = ["Display", "connect", "display"]


class Display(Protocol):
    """What shows results."""

    def text(self, shown: object) -> str:
        """The table of a run, a comparison, a curve or an explanation."""
        ...

    def html(self, shown: object) -> str:
        """The table of a run, for notebooks."""
        ...

    def chart(self, shown: object, width: int) -> Any:
        """The components of a decomposition as an Altair chart, `width` pixels wide."""
        ...


class _Connection:
    """Where the package has said that results are shown."""

    load: Callable[[], Display] | None = None


def connect(load: Callable[[], Display]) -> None:
    """Say where results are shown; `load` is called when one is."""
    _Connection.load = load


def display() -> Display:
    """What shows results."""
    assert _Connection.load is not None, "the package connects it when it is imported"
    return _Connection.load()
