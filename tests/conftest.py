"""What every test gets: an empty folder to work in, a home of its own, and a source tree that stays as it was.

Options
-------
--typecheck, --no-typecheck : whether array annotations of the package are checked at every call (default: they are)
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "python" / "ssl_risk_rs"

#: folders of the source tree that tools fill
TOOLS = {"target", "dist", "__pycache__", "node_modules"}

#: variables that decide where the package reads and writes
PLACES = ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "SSL_RISK_STORE", "SSL_RISK_CACHE")
#: variables that change what the package does; a test that wants one sets it
SWITCHES = ("SSL_RISK_DATA",)

#: node ids, or beginnings of them, of tests that take more than a second or two: `make test-fast` leaves them out
SLOW: frozenset[str] = frozenset()


# --- the source tree stays as it was


def snapshot(root: Path) -> dict[str, tuple[int, int]]:
    """Size and modification time of every file below `root` that is not a tool's own."""
    found = {}
    for folder, below, names in os.walk(root):
        below[:] = [name for name in below if name not in TOOLS and not name.startswith(".")]
        for name in names:
            if not name.startswith(".") and not name.endswith((".so", ".pyc")):
                path = Path(folder, name)
                facts = path.lstat()
                found[str(path.relative_to(root))] = (facts.st_size, facts.st_mtime_ns)
    return found


def written(before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]) -> list[str]:
    """Files that are new, changed or gone, each with the word that says which."""
    new = [f"new: {path}" for path in after.keys() - before.keys()]
    gone = [f"gone: {path}" for path in before.keys() - after.keys()]
    changed = [f"changed: {path}" for path in before.keys() & after.keys() if before[path] != after[path]]
    return sorted(new + gone + changed)


@pytest.fixture(scope="session", autouse=True)
def no_source_writes() -> Iterator[None]:
    """Fail the run if a file of the checkout is new, changed or gone at its end."""
    if not (ROOT / ".git").exists():  # an unpacked archive: there nobody has to tell files apart
        yield
        return
    before = snapshot(ROOT)
    yield
    if found := written(before, snapshot(ROOT)):
        listing = "\n  ".join(found[:20])
        pytest.fail(
            "the source tree changed while the tests ran (a file saved in an editor meanwhile counts too; "
            f"run again then):\n  {listing}",
            pytrace=False,
        )


# --- a place of its own


def _isolate(patch: pytest.MonkeyPatch, home: Path) -> None:
    """Point everything that is written by default below `home`."""
    home.mkdir(exist_ok=True)
    for name in PLACES:
        folder = {"HOME": "", "XDG_CACHE_HOME": ".cache", "XDG_CONFIG_HOME": ".config", "XDG_DATA_HOME": ".data"}
        patch.setenv(name, str(home / folder.get(name, name.lower().removeprefix("ssl_risk_"))))
    for name in SWITCHES:
        patch.delenv(name, raising=False)


@pytest.fixture(scope="session", autouse=True)
def _session_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The place of fixtures that are made once a module or session."""
    with pytest.MonkeyPatch.context() as patch:
        real = Path.home()
        for name, folder in (("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")):  # cargo still finds its tools
            if name not in os.environ and (real / folder).is_dir():
                patch.setenv(name, str(real / folder))
        _isolate(patch, tmp_path_factory.mktemp("home"))
        patch.chdir(tmp_path_factory.mktemp("work"))
        yield


@pytest.fixture(autouse=True)
def _place(_session_place: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working folder, `tmp_path`, and a home beside it, for every test."""
    _isolate(monkeypatch, tmp_path.with_name(f"{tmp_path.name}-home"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator with the same seed in every test."""
    return np.random.default_rng(0)


# --- slow tests


@pytest.hookimpl(tryfirst=True)  # before -m selects by the marker
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests of `SLOW`; an entry that names no test any more ends the run."""
    unused = set(SLOW)
    for item in items:
        for prefix in SLOW:
            if _has_prefix(item.nodeid, prefix):
                item.add_marker(pytest.mark.slow)
                unused.discard(prefix)
    whole = {item.nodeid.partition("::")[0] for item in items}
    if any("::" in argument for argument in config.args):
        return  # a part of a file was asked for
    if stale := sorted(prefix for prefix in unused if prefix.partition("::")[0] in whole):
        raise pytest.UsageError(f"SLOW in {Path(__file__).name} names tests that are not there: {', '.join(stale)}")


def _has_prefix(nodeid: str, prefix: str) -> bool:
    """Whether `prefix` is the node id, or ends where a class or a parameter begins."""
    return nodeid == prefix or nodeid.startswith((f"{prefix}[", f"{prefix}::"))
