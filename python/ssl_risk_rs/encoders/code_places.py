"""Which source files are the user's own, and where in them an error arose."""

import site
import sysconfig
import traceback
from functools import cache
from pathlib import Path

__all__ = ["is_library", "placed"]

#: characters of an error's text that are shown
_SHOWN = 400


def is_library(path: Path) -> bool:
    """Whether a file belongs to an installed package, or to this one."""
    return any(path.is_relative_to(place) for place in _library_places())


@cache
def _library_places() -> list[Path]:
    """Where installed packages and this one lie."""
    own = Path(__file__).resolve().parents[1]
    places = [*sysconfig.get_paths().values(), *site.getsitepackages(), site.getusersitepackages()]
    return [own, *{Path(place).resolve() for place in places}]


def placed(error: BaseException) -> str | None:
    """`FILE:LINE in FUNCTION: TypeError: …`, of the last line of the user's that ran; None for an error without one."""
    place = None
    for frame in traceback.extract_tb(error.__traceback__):
        path = Path(frame.filename)
        if path.is_file() and not is_library(path.resolve()):
            place = f"{frame.filename}:{frame.lineno} in {frame.name}"
    if isinstance(error, SyntaxError) and error.filename and not is_library(Path(error.filename).resolve()):
        place = f"{error.filename}:{error.lineno}"  # nothing of it ran
    if place is None:
        return None
    text = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())
    said = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
    return f"{place}: {type(error).__name__}" + (f": {said}" if said else "")
