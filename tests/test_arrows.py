"""Who may import whom: the rooms of the package, held by reading every import in its sources.

A room is a folder or a file directly below the package. Imports inside functions and those for annotations only
count like the others: they say what a room knows.
"""

import ast
import graphlib
from fnmatch import fnmatchcase as fnmatch
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).parents[1] / "python" / "ssl_risk_rs"
NAME = PACKAGE.name

#: files that every room may import
GROUND = {
    "errors", "_core", "_cpus", "_files", "_identity", "_limits", "_splits", "_labels", "_class_names", "_notes",
    "_tables", "_extras", "_corrections", "_inference", "_float32", "_same_rows", "_tensors", "_safetensors",
    "_characters", "_names", "_settings", "_display", "_memory", "events",
}  # fmt: skip

#: the arrows, room by room; whatever lies further down the arrows may be imported too
ARROWS: dict[str, set[str]] = {
    "datasets": set(),
    "encoders": set(),
    "bank": set(),
    "results": set(),
    "extraction": {"encoders", "datasets", "bank"},
    "probes": {"bank"},
    "geometry": {"probes"},
    "decomposition": {"probes", "results"},
    "report": {"results"},
    "study": {"results", "report"},
    "workflow": {"extraction", "decomposition", "geometry", "report", "study"},
    "cli": {"workflow"},
    "__main__": {"cli"},
}

#: where packages may be imported that are heavy or belong to one room: patterns of modules and all that is in them
ENCODING = ("datasets", "encoders", "extraction", "bank.formats", "probes.*torch*")
ELSEWHERE_REFUSED: dict[str, tuple[str, ...]] = {
    "torch": ENCODING,
    "torchvision": ENCODING,
    "timm": ENCODING,
    "click": ("cli",),
    "ray": ("workflow.engines",),
    "submitit": ("workflow.engines",),
}


class Import(NamedTuple):
    """One import statement."""

    module: str  # that imports, below the package; "" for the package's own __init__
    target: str  # what it imports, with the package's name
    line: int
    runs: bool  # not for annotations only


def sources() -> dict[str, Path]:
    """Every module of the package by its name below the package."""
    found = {}
    for path in sorted((*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.pyi"))):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(module: str, text: str, *, is_package: bool = False) -> list[Import]:
    """All imports of a module's text."""
    found: list[Import] = []

    def visit(node: ast.AST, runs: bool) -> None:
        if isinstance(node, ast.Import):
            found.extend(Import(module, alias.name, node.lineno, runs) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:  # relative: from the package that holds the module
                holder = [NAME, *module.split(".")] if module else [NAME]
                holder = holder[: len(holder) - node.level + is_package]
                base = ".".join([*holder, base] if base else holder)
            found.extend(Import(module, f"{base}.{alias.name}", node.lineno, runs) for alias in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.body:
                visit(child, False)
            for child in node.orelse:
                visit(child, runs)
            return
        for child in ast.iter_child_nodes(node):
            visit(child, runs)

    visit(ast.parse(text), True)
    return found


def inside(target: str, modules: set[str]) -> str | None:
    """The module of the package that an import reaches; None for other packages."""
    if target != NAME and not target.startswith(f"{NAME}."):
        return None
    below = target.removeprefix(NAME).removeprefix(".")
    while below and below not in modules:  # a name in a module
        below = below.rpartition(".")[0]
    return below


def room_of(module: str) -> str:
    """`bank.formats.npz` lies in `bank`."""
    return module.partition(".")[0]


def below(room: str) -> set[str]:
    """All rooms that the arrows lead to from `room`."""
    return set(ARROWS[room]).union(*map(below, ARROWS[room])) if ARROWS[room] else set()


def faults(texts: dict[str, tuple[str, bool]]) -> list[tuple[str, str]]:
    """What is against the rules, and where, in modules given by name: their text and whether they are a package."""
    found: list[tuple[str, str]] = []
    rooms = {room_of(module) for module in texts if module}
    found += [(f"{room}: belongs to no room", room) for room in sorted(rooms - GROUND - ARROWS.keys())]
    for module, (text, is_package) in texts.items():
        room = room_of(module)
        for each in imports_of(module, text, is_package=is_package):
            place = f"{module or '__init__'}, line {each.line}"
            if module:  # the package's own __init__ names everything that is public
                found += [(fault, place) for fault in _arrow(room, each, set(texts))]
            top = each.target.partition(".")[0]
            allowed = ELSEWHERE_REFUSED.get(top)
            if allowed is not None and not any(fnmatch(f"{module}.", f"{a}.*") for a in allowed):
                found.append((f"{module or '__init__'} -> {top}", place))
    found += [(f"circle: {', '.join(circle)}", circle[0]) for circle in circles(texts)]
    return found


def _arrow(room: str, each: Import, modules: set[str]) -> list[str]:
    target = inside(each.target, modules)
    if target is None:
        return []
    if target == "":
        return [f"{each.module} -> the package itself"]
    other = room_of(target)
    if other == room or other in GROUND:
        return []
    if room in GROUND or (room in ARROWS and other not in below(room)):
        return [f"{each.module} -> {target}"]
    return []


def circles(texts: dict[str, tuple[str, bool]]) -> list[list[str]]:
    """Groups of modules that need each other, by imports that run: while they load, or in their functions."""
    graph = {
        module: {
            target
            for each in imports_of(module, text, is_package=is_package)
            if each.runs and (target := inside(each.target, set(texts))) is not None and target != module
        }
        for module, (text, is_package) in texts.items()
    }

    def reached(module: str) -> set[str]:
        seen: set[str] = set()
        ahead = [module]
        while ahead:
            for target in graph[ahead.pop()] - seen:
                seen.add(target)
                ahead.append(target)
        return seen

    reach = {module: reached(module) for module in graph}
    groups = {tuple(sorted(m for m in reach[a] if a in reach[m])) for a in graph if a in reach[a]}
    return [[name or "__init__" for name in group] for group in sorted(groups)]


def test_imports_follow_the_arrows():
    texts = {module: (path.read_text(encoding="utf-8"), path.stem == "__init__") for module, path in sources().items()}
    assert len(texts) > 30  # the sources were found
    found = faults(texts)
    new = sorted({f"{fault}   ({place})" for fault, place in found})
    assert not new, "imports against the arrows of tests/test_arrows.py:\n  " + "\n  ".join(new)


def test_arrows_point_down_only():
    graphlib.TopologicalSorter(ARROWS).prepare()  # raises if there is a circle
    named = set().union(*ARROWS.values())
    assert named <= ARROWS.keys() and not (ARROWS.keys() & GROUND)


@pytest.mark.parametrize(
    ("module", "text", "fault"),
    [
        ("bank.store", "from ssl_risk_rs.cli import main", "bank.store -> cli"),
        ("bank.store", "def f():\n    import ssl_risk_rs.probes.estimators", "bank.store -> probes.estimators"),
        ("bank.store", "if TYPE_CHECKING:\n    from ssl_risk_rs import cli", "bank.store -> cli"),
        ("bank.store", "from ..cli import main", "bank.store -> cli"),
        ("bank.store", "from ssl_risk_rs import decompose", "bank.store -> the package itself"),
        ("errors", "from ssl_risk_rs import cli", "errors -> cli"),
        ("results.run", "import torch.nn", "results.run -> torch"),
        ("report.text", "def f():\n    import click", "report.text -> click"),
        ("attic.thing", "", "attic: belongs to no room"),
        ("cli", "import ssl_risk_rs.bank.store", None),
        ("bank.formats.pt", "def f():\n    import torch", None),
        ("probes.estimators", "from ssl_risk_rs import _core\nfrom ssl_risk_rs.errors import SslRiskError", None),
        ("bank.store", "from . import exchange", None),
    ],
)  # fmt: skip
def test_a_fault_is_found(module, text, fault):
    empty = dict.fromkeys(
        ("", "cli", "errors", "_core", "bank", "bank.store", "bank.exchange", "probes", "probes.estimators"),
        ("", False),
    )
    found = [what for what, _ in faults({**empty, module: (text, False)})]
    assert found == ([] if fault is None else [fault])


def test_a_circle_is_found():
    one, other = ("from ssl_risk_rs.bank import b", False), ("from ssl_risk_rs.bank import a", False)
    later = ("def f():\n    from ssl_risk_rs.bank import a", False)
    typed = ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ssl_risk_rs.bank import a", False)
    packages = {"": ("", True), "bank": ("", True), "bank.c": one}
    assert circles({**packages, "bank.a": one, "bank.b": other}) == [["bank.a", "bank.b"]]
    assert circles({**packages, "bank.a": one, "bank.b": later}) == [["bank.a", "bank.b"]]
    assert not circles({**packages, "bank.a": one, "bank.b": typed})
