"""The suite's own rules: where tests write, what they see of the user's settings, which are slow."""

import os
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def conftest(pytestconfig):
    """The suite's conftest as a module."""
    return pytestconfig.pluginmanager.get_plugin(str(Path(__file__).with_name("conftest.py")))


def test_files_that_are_written_are_told_apart(conftest, tmp_path):
    (tmp_path / "kept").write_text("1")
    (tmp_path / "changed").write_text("1")
    (tmp_path / "gone").write_text("1")
    before = conftest.snapshot(tmp_path)
    (tmp_path / "changed").write_text("12")
    (tmp_path / "gone").unlink()
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "run.json").write_text("{}")
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "build").write_text("a tool's own")
    assert conftest.written(before, conftest.snapshot(tmp_path)) == [
        "changed: changed",
        "gone: gone",
        "new: runs/run.json",
    ]


def test_every_test_has_a_place_of_its_own(conftest, tmp_path):
    assert Path.cwd() == tmp_path and not os.listdir()
    for name in conftest.PLACES:
        place = Path(os.environ[name])
        assert tmp_path.parent in place.parents and tmp_path not in place.parents, name
        assert conftest.ROOT not in place.parents, name
    assert not any(name in os.environ for name in conftest.SWITCHES)


def test_the_seed_is_fixed(rng):
    assert rng.integers(1 << 30) == np.random.default_rng(0).integers(1 << 30)


def test_slow_entries_name_tests(stale_slow_entries):
    assert not stale_slow_entries, f"take them out of SLOW in tests/conftest.py: {stale_slow_entries}"


@pytest.mark.parametrize(
    ("nodeid", "prefix", "found"),
    [
        ("tests/a.py::test_x", "tests/a.py::test_x", True),
        ("tests/a.py::test_x[1]", "tests/a.py::test_x", True),
        ("tests/a.py::test_x", "tests/a.py", True),
        ("tests/a.py::test_xy", "tests/a.py::test_x", False),
    ],
)
def test_entries_are_whole_names(conftest, nodeid, prefix, found):
    assert conftest._has_prefix(nodeid, prefix) == found
