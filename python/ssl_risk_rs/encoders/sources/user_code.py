"""The user's own code: a function of a file is run, and the source files it was made from are known.

Modules that lie below the file's folder are imported anew for each build, so that a changed neighbour is seen in a
running process too, and a module of the same name that was imported from elsewhere is not taken for the neighbour.
"""

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import ModuleType

from ssl_risk_rs.encoders.code_places import is_library, placed
from ssl_risk_rs.errors import EncoderError

__all__ = ["UserCode", "run_function"]

#: set on modules that were imported for an encoder: the next build replaces them
_MARK = "__ssl_risk_rs_encoder__"


@dataclass(frozen=True, slots=True)
class UserCode:
    """What a function returned, and what it was made from.

    Attributes
    ----------
    made : the function's result
    files : the file and every module below its folder that was imported meanwhile, relative to the folder
    digest : hash of the function's name and of these files' names and bytes
    """

    made: object
    files: tuple[str, ...]
    digest: str


def run_function(path: Path, function: str) -> UserCode:
    """Run the file at `path`, then its `function` without arguments.

    Raises
    ------
    EncoderError if the file has no such function, or one that needs arguments, and for what the code raises, with the
    line that did.
    """
    folder = path.parent
    with _neighbours_first(folder):
        loader = importlib.util.spec_from_file_location(path.stem, path)
        assert loader is not None and loader.loader is not None  # a .py file always has one
        code = importlib.util.module_from_spec(loader)
        with _placed_errors(path):
            loader.loader.exec_module(code)
        chosen = getattr(code, function, None)
        if not callable(chosen):
            defined = [n for n, v in vars(code).items() if callable(v) and getattr(v, "__module__", "") == path.stem]
            raise EncoderError(f"{path} has no function {function}; it has {', '.join(defined) or 'none'}")
        if needed := _needed(chosen):
            raise EncoderError(
                f"{path}:{function} is called without arguments, and needs {', '.join(needed)}: give them defaults, or "
                "write a function that calls it"
            )
        with _placed_errors(path):
            made = chosen()
        files = sorted({path, *(file for _, file in _modules_below(folder))})
    names = tuple(file.relative_to(folder).as_posix() for file in files)
    digest = sha256(function.encode())
    for name, file in zip(names, files, strict=True):
        content = file.read_bytes()
        digest.update(f"\0{name}\0{len(content)}\0".encode() + content)
    return UserCode(made, names, f"sha256:{digest.hexdigest()}")


def _needed(function: Callable[..., object]) -> list[str]:
    """Arguments that a function must be given."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # one that is no Python says nothing of its arguments
        return []
    return [p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]


@contextmanager
def _placed_errors(path: Path) -> Iterator[None]:
    """Whatever the user's code raises, an end of the program too, as an error that names the line."""
    try:
        yield
    except EncoderError:
        raise
    except (Exception, SystemExit) as error:
        raise EncoderError(placed(error) or f"{path}: {type(error).__name__}: {error}") from error


@contextmanager
def _neighbours_first(folder: Path) -> Iterator[None]:
    """Imports find the folder's modules before all others, as they are on disk now."""
    before = {
        name: module
        for name, module in list(sys.modules.items())
        if hasattr(module, _MARK) or _is_neighbour(module, folder) or _hides_one(name, module, folder)
    }
    for name in before:
        del sys.modules[name]
    writes_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # a change within a second would be missed
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        sys.dont_write_bytecode = writes_bytecode
        for module, _ in _modules_below(folder):
            setattr(module, _MARK, True)
        # what the user's own program had imported stays as it was
        sys.modules.update({name: module for name, module in before.items() if not hasattr(module, _MARK)})


def _modules_below(folder: Path) -> list[tuple[ModuleType, Path]]:
    return [(module, _file(module)) for module in list(sys.modules.values()) if _is_neighbour(module, folder)]


def _is_neighbour(module: ModuleType, folder: Path) -> bool:
    """Whether a module's source lies below the folder, and is no library that happens to be installed there."""
    file = getattr(module, "__file__", None)
    if not isinstance(file, str) or getattr(module, "__name__", "") == "__main__":
        return False
    path = _file(module)
    return path.is_relative_to(folder) and not is_library(path)


def _hides_one(name: str, module: ModuleType, folder: Path) -> bool:
    """Whether an imported module would be taken for a neighbour of the same name."""
    top = name.partition(".")[0]
    if not ((folder / f"{top}.py").is_file() or (folder / top / "__init__.py").is_file()):
        return False
    return isinstance(getattr(module, "__file__", None), str) and not is_library(_file(module)) and name != "__main__"


def _file(module: ModuleType) -> Path:
    return Path(str(module.__file__)).resolve()
