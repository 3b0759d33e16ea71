"""Array annotations as checks: `Float32[np.ndarray, "n d"]` is held at every call while the tests run.

jaxtyping's import hook decorates the functions and dataclasses of the modules that import jaxtyping. Of their
annotations only those of arrays are checked: other arguments reach the package as a user gave them, so that its
own error messages are what a test sees.
"""

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, get_args

import beartype
import jaxtyping

Function = TypeVar("Function", bound=Callable[..., Any])

#: how jaxtyping's hook is told of `check`: it evaluates this text in every module
CHECKER = f"{__name__}.check"


def check(function: Function) -> Function:
    """`function` with its array annotations checked at every call, and no others."""
    annotations = function.__annotations__
    function.__annotations__ = {name: hint for name, hint in annotations.items() if mentions_array(hint)}
    return beartype.beartype(function)


def mentions_array(hint: object) -> bool:
    """Whether an annotation is an array of jaxtyping's, or holds one: `Float[...] | None`, `list[Float[...]]`."""
    if isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray):
        return True
    return any(mentions_array(inner) for inner in get_args(hint))


def annotated_modules(package: Path) -> list[str]:
    """Modules below `package` (its folder) that import jaxtyping when they run, by full name."""
    found = []
    for path in sorted(package.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if "jaxtyping" in text and _imports_jaxtyping(ast.parse(text)):
            parts = path.relative_to(package.parent).with_suffix("").parts
            found.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return found


def _imports_jaxtyping(tree: ast.Module) -> bool:
    return any(
        (isinstance(node, ast.ImportFrom) and node.module == "jaxtyping")
        or (isinstance(node, ast.Import) and any(alias.name == "jaxtyping" for alias in node.names))
        for node in tree.body
    )


def install(package: Path) -> list[str]:
    """Turn the checks on for what is imported from now on: the modules they apply to."""
    modules = annotated_modules(package)
    jaxtyping.install_import_hook(modules, CHECKER)
    return modules
