"""What is said before anything slow begins."""

import os
import subprocess
import sys
import threading

import pytest
from local_encoder import WAIT
from ssl_risk_rs.extraction import cached

#: says when what takes seconds is imported, where a silent start would show
WATCH = """
import sys
class Watch:
    def __init__(self, slow):
        self.slow = slow
    def find_spec(self, name, path=None, target=None):
        if name == self.slow and sys.stderr.write(f"{name} IS IMPORTED\\n"):
            sys.meta_path.remove(self)
sys.meta_path[:0] = [Watch("torch"), Watch("sklearn.datasets")]
from ssl_risk_rs.cli import main
main(sys.argv[1:])
"""


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["extract", "-m", "pixels:4", "--limit", "2/class"], "pixels:4 encodes 40 images of digits"),
        (
            ["extract", "-m", "pixels:4", "--limit", "2/class", "--shard", "1/3"],
            "Shard 1/3: pixels:4 encodes 13 of 40 images of digits",
        ),
        (
            ["run", "-m", "pixels:4", "--supervised", "none", "--control", "none", "--probe", "ridge"],
            "pixels:4 encodes 1,797 images of digits",
        ),
        (
            [
                "run",
                "-m",
                "random:resnet18",
                "--img-size",
                "32",
                "--layers",
                "layer1,layer4",
                "--limit",
                "20/class",
                "--supervised",
                "none",
                "--control",
                "none",
                "--probe",
                "ridge",
            ],
            "random:resnet18: looking up its layers; torch is loading",
        ),
        (["doctor", "model", "pixels:4", "--limit", "20/class"], "pixels:4 is built and examined; torch is loading"),
    ],
)
def test_the_first_line_comes_before_what_takes_seconds_is_imported(tmp_path, args, line):
    command = [sys.executable, "-c", WATCH, *args, "-d", "digits", "--store", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT, cwd=tmp_path, env=os.environ)
    lines = done.stderr.splitlines()
    assert done.returncode == 0, done.stderr
    assert lines[0].startswith(line) and lines.index("torch IS IMPORTED") > 0


@pytest.mark.parametrize("words", [["run", "-m"], ["extract", "-d", "digits", "-m"], ["doctor", "model"]])
def test_a_name_that_no_table_has_is_refused_before_torch_is_imported(tmp_path, words):
    command = [sys.executable, "-c", WATCH, *words, "swvav"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT, cwd=tmp_path, env=os.environ)
    assert done.returncode == 1 and "nearest: swav" in done.stderr
    assert "IMPORTED" not in done.stderr and "loading" not in done.stderr


def test_a_slow_look_at_the_data_is_said(monkeypatch):
    said = threading.Event()
    monkeypatch.setattr(cached, "PATIENCE", 0.0)
    with cached._said_if_slow(lambda sentence: said.set(), "Looking …"):
        assert said.wait(WAIT)  # said while the block is at work
    said.clear()
    monkeypatch.setattr(cached, "PATIENCE", WAIT)
    with cached._said_if_slow(lambda sentence: said.set(), "Looking …"):
        pass
    assert not said.is_set()
