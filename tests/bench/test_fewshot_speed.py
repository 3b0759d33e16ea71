"""The benchmark of tuned few-shot probes at its smallest size: same draws for both, errors side by side. No times."""

import csv
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "bench" / "fewshot.py"


def rows_of(tmp_path, monkeypatch, *arguments):
    monkeypatch.setenv("SSL_RISK_BENCH_DATA", str(tmp_path / "data"))
    out = tmp_path / "fewshot.csv"
    command = [sys.executable, str(SCRIPT), "--problem", "few-smoke", "--out", str(out), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "scikit-learn" in out.with_suffix(".txt").read_text()
    return list(csv.DictReader(out.open()))


def test_ours_errs_as_scikit_learn_does_on_the_same_draws(tmp_path, monkeypatch):
    ours, other = rows_of(tmp_path, monkeypatch, "--draws", "4", "--rival-draws", "2")
    assert (int(ours["draws"]), int(other["draws"]), other["fits"]) == (4, 2, "42")
    assert int(ours["fits"]) >= 4 * (5 * 3 + 1)  # three penalties or more on five folds, and the fit
    assert len(ours["penalties"].split()) == 4
    assert 0 < float(ours["error"]) < 0.9 and 0 < float(other["error"]) < 0.9  # chance is 0.9
    assert {ours["status"], other["status"]} == {"ok"}


def test_ridge_has_no_rival_there(tmp_path, monkeypatch):
    (ours,) = rows_of(tmp_path, monkeypatch, "--draws", "3", "--probe", "ridge")
    assert ours["who"] == "ours, ridge" and 0 < float(ours["error"]) < 0.9
