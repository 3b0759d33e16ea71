"""Encoders that take their time, and the program as a process."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from click.testing import CliRunner, Result
from ssl_risk_rs.cli import main

#: ridge on a few images: a pair takes a second or two beside the start of its process
SMALL = ("-d", "digits", "--limit", "40/class", "--probe", "ridge", "--supervised", "none", "--control", "none",
         "--splits", "1", "--device", "cpu")  # fmt: skip

#: an encoder that counts the images it is shown in a file, and takes its time
_SLOW = """
import pathlib, time
import numpy, torch

class Slow(torch.nn.Module):
    def forward(self, x):
        time.sleep({delay})
        with open(pathlib.Path(__file__).with_name("{name}.seen"), "a") as file:
            file.write(f"{{len(x)}}\\n")
        return x.flatten(1)[:, ::{step}]

def encoder():
    def prepare(image):
        return torch.from_numpy(numpy.array(image.convert("L").resize((8, 8)), dtype="float32") / 16)[None]

    return Slow(), prepare
"""


def slow(folder: Path, name: str, delay: float, step: int = 1) -> str:
    """Write such an encoder and give its name."""
    (folder / f"{name}.py").write_text(_SLOW.format(delay=delay, name=name, step=step))
    return f"{folder / name}.py:encoder"


def seen(folder: Path, name: str) -> int:
    """Images that an encoder was shown."""
    file = folder / f"{name}.seen"
    return sum(map(int, file.read_text().split())) if file.exists() else 0


def command(*words: str) -> list[str]:
    """A command as a process of its own."""
    return [sys.executable, "-c", "from ssl_risk_rs.cli import main; main(prog_name='ssl-risk-rs')", *words]


def sweep(*words: str, code: int = 0) -> Result:
    """Run a sweep to its end, its driver in this process; pairs are processes where there are several."""
    done = CliRunner().invoke(main, ["sweep", *words])
    assert done.exit_code == code, (done.stderr, done.exception)
    return done


def records(out: Path) -> dict[str, dict]:
    """Pairs of sweep.json by encoder."""
    document = json.loads((out / "sweep.json").read_text())
    assert document["schema_version"] == 1
    return {pair["encoder"]: pair for pair in document["pairs"]}


def wait_for(condition: Callable[[], bool], seconds: float = 200.0) -> None:
    """Until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came about"
        time.sleep(0.02)
