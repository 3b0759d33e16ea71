"""docs/tutorial.md: every command runs, and prints what stands below it, its numbers but for a row or two."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/tutorial.md").read_text(encoding="utf-8")
WALKS = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
NUMBER = re.compile(r"[+-]?\d[\d,]*(?:\.\d+)?")
#: how far a number may be from the page's, by its decimals: points, of some hundred rows, and p-values; counts agree
APART = {0: 0.0, 1: 0.6, 2: 0.6, 3: 0.05}
BLOCK = re.compile(r"```(python|console) ?(\S*)\n(.*?)```", re.DOTALL)


def masked(line: str) -> str:
    """A line without digits, signs, bars and the width of columns: those differ between CPUs."""
    line = re.sub(r"[█▉▊▋▌▍▎▏▓▒‡*]+", "", line)
    line = re.sub(r"← largest, P.*", "", line)
    return re.sub(r"\s+", " ", re.sub(r"[+-]?\d[\d.,]*", "N", line)).strip()


def near(wanted: str, printed: str) -> bool:
    """Whether the numbers of two lines that read alike are those of one result, but for another CPU's rounding."""
    wanted, printed = (re.sub(r"← largest, P.*", "", line) for line in (wanted, printed))
    pairs = zip(NUMBER.findall(wanted), NUMBER.findall(printed), strict=False)  # the page may break off
    return all(
        abs(float(a.replace(",", "")) - float(b.replace(",", ""))) <= APART[len(a.partition(".")[2])] for a, b in pairs
    )


def test_numbers_of_another_result_are_told_apart():
    line = "feats.npz  logistic  probe_gen  3.96 1.60 6.33  holds"
    assert near(line, line.replace("1.60", "1.87")) and not near(line, line.replace("6.33", "6.99"))
    assert not near("p = 0.043", "p = 0.103") and not near("1,400 training rows", "1,401 training rows")


def commands(block: str) -> list[tuple[str, list[str]]]:
    """Command and the lines below it, of a console block."""
    found: list[tuple[str, list[str]]] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif line.strip() and line.strip() != "…":
            found[-1][1].append(line)
    return found


@pytest.mark.parametrize("walk", WALKS)
def test_a_walk(walk: str, tmp_path: Path):
    if "report" in WALKS[walk]:
        pytest.importorskip("altair")
        pytest.importorskip("vl_convert")
    if "checkpoint" in walk:
        pytest.importorskip("torchvision")
    paper = Path(os.environ.get("SSL_RISK_PAPER_DATA", ROOT.parent / "shared/paper"))
    if "paper" in walk:
        if not (paper / "all_results.csv").exists():
            pytest.skip("the published table is not here (SSL_RISK_PAPER_DATA names its folder)")
        (tmp_path / "all_results.csv").write_bytes((paper / "all_results.csv").read_bytes())
    environment = {
        **os.environ,
        "SSL_RISK_STORE": str(tmp_path / "banks"),
        "SSL_RISK_CACHE": str(tmp_path / "cache"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    program = shlex.join([sys.executable, "-c", "from ssl_risk_rs.cli import main; main()"])
    n_commands = 0
    for kind, name, block in BLOCK.findall(WALKS[walk]):
        if kind == "python":
            (tmp_path / name).write_text(block, encoding="utf-8")
            continue
        for command, expected in commands(block):
            line = re.sub(
                "^ssl-risk-rs", lambda _: program, re.sub("^python ", f"{shlex.quote(sys.executable)} ", command)
            )
            done = subprocess.run(
                line, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{command}\n{done.stderr[-2000:]}"
            printed = [(masked(text), text) for text in (done.stdout + done.stderr).splitlines()]
            for text in expected:
                wanted = masked(text)
                whole = not wanted.endswith("…")
                alike = [p for m, p in printed if (m == wanted if whole else m.startswith(wanted[:-1].strip()))]
                assert any(near(text, p) for p in alike), (command, text, alike)
            n_commands += 1
    assert n_commands >= 3
