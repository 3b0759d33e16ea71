"""The benchmark harness at its smallest size: rows of ours are right, a wrong answer fails its row. No times."""

import csv
import importlib
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

BENCH = Path(__file__).parents[2] / "bench"

#: adapters in the place of ours: right but for one thing
WRONG = """
from dataclasses import replace
import ours
from contract import Method

REQUIRES, PACKAGES = (), ()

def spoiled(method):
    def run(loaded, request):
        answer = method.run(loaded, request)
        for name in answer.arrays:
            if name.endswith("coef"):
                answer.arrays[name] = answer.arrays[name] * 1.01
        answer.numbers |= {k: v + 0.01 for k, v in answer.numbers.items() if k == "risk_us"}
        return answer
    return replace(method, run=run)

JOBS = {job: [spoiled(m) for m in methods] for job, methods in ours.JOBS.items()}
"""


def run(tmp_path, *arguments, environment=None):
    """Exit code and rows of the command line."""
    out = tmp_path / "table.csv"
    command = [sys.executable, str(BENCH / "run.py"), "--no-kernels", "--out", str(out), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode in (0, 1), done.stderr
    with out.open() as file:
        return done.returncode, list(csv.DictReader(file))


def test_every_row_of_ours_is_right(tmp_path):
    code, rows = run(tmp_path, "--no-rivals")
    ten_classes = [r for r in rows if "bfloat16" in r["who"] + r["goal"]]
    assert all("fewer than 32 classes" in r["note"] for r in ten_classes)  # never under a name that it is not
    rows = [r for r in rows if r not in ten_classes]
    assert [r for r in rows if r["status"] != "ok"] == []
    assert code == 0
    assert {r["job"] for r in rows} == {
        *("gram", "pass", "ridge", "logistic", "ridge-risks", "logistic-risks", "few", "threads", "scaling")
    }
    for row in rows:
        if row["measure"] != "exponent":
            assert float(row["value"]) <= float(row["tolerance"])
    facts = (tmp_path / "table.txt").read_text()
    assert all(f"\n{name}: " in facts for name in ("cpu", "isa", "cores", "memory_gb", "commit", "numpy"))


def test_rivals_stand_beside_ours_or_are_said_to_be_missing(tmp_path):
    code, rows = run(tmp_path, "ridge")
    assert code == 0
    assert {r["status"] for r in rows} <= {"ok", "not installed"}
    by_name = {r["who"]: r for r in rows if r["goal"] == "one penalty"}
    assert float(by_name["scikit-learn Ridge cholesky float32"]["ratio"]) > 0
    assert any(name.startswith("scikit-learn-intelex") for name in by_name)


def test_a_rival_is_timed_and_its_passes_counted_where_it_arrives(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    jobs, contract, rows = (importlib.import_module(name) for name in ("jobs", "contract", "rows"))
    answer = contract.Answer([8.0], {}, {"passes": 40}, [(2.0, 3.0), (4.0, 1.5), (6.0, 1.009), (8.0, 1.0005)])
    row = rows.Row("logistic", "alpha", "smoke", "SGD", 2)
    steps = jobs._rival_steps(SimpleNamespace(errors=lambda *_: None), row, answer, 1.0, 1.0005)
    steps = {step.goal: step for step in steps}
    assert (steps["alpha to 0.01"].seconds_min, steps["alpha to 0.01"].passes) == (6.0, 30)
    assert (steps["alpha to 0.001"].seconds_min, steps["alpha to 0.001"].passes) == (8.0, 40)
    assert steps["alpha to 0.0001"].status == "not reached"


def test_processes_of_their_own_have_their_memory_measured(tmp_path):
    code, rows = run(tmp_path, "few", "--apart", "--no-rivals")
    assert code == 0
    assert 1 < float(rows[0]["anonymous_mb"]) < float(rows[0]["peak_mb"])


@pytest.mark.parametrize("job", ["gram", "pass", "ridge", "logistic", "ridge-risks", "logistic-risks", "few"])
def test_a_wrong_answer_fails_its_row(tmp_path, monkeypatch, job):
    (tmp_path / "wrong.py").write_text(WRONG)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    code, rows = run(tmp_path, job, "--no-rivals", "--ours", "wrong")
    assert code == 1
    assert "FAIL" in {r["status"] for r in rows}
    for row in rows:
        if row["status"] == "ok":  # loose targets and rounded products may forgive one per cent of the weights
            assert float(row["tolerance"]) > 1e-4


def test_float64_optimum_has_no_gradient(monkeypatch):
    """The reference itself: gradient by finite differences around its solution."""
    monkeypatch.syspath_prepend(str(BENCH))
    import float64
    import problems

    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((300, 6)).astype(np.float16), rng.integers(0, 3, 300)
    x[:, 0] += y
    problem = problems.Problem("made-here", 300, 6, 3, 300)
    loaded = problems.Loaded(problem, x, y, x, y)
    found = float64._newton(loaded, float64.moments_of(x, y, 3), 1e-2, False)
    for _ in range(20):
        direction = 1e-4 * rng.standard_normal((3, 6)), 1e-4 * rng.standard_normal(3)
        moved = float64.logistic_objective(loaded, found.coef + direction[0], found.intercept + direction[1], 1e-2)
        # curvature at most |x|²: the rise is second order in the step
        assert 0 <= moved - found.objective < 1e-6


def test_a_prefix_generated_alone_has_the_bits_of_the_larger_problem(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    import problems

    monkeypatch.setattr(problems, "DATA", tmp_path)
    whole = problems.Problem("whole", 25_000, 16, 10, 100)
    part = problems.Problem("part", 9_000, 16, 10, 100, prefix_of="whole")
    monkeypatch.setattr(problems, "PROBLEMS", {"whole": whole, "part": part})
    alone = problems.load("part")
    assert alone.x.filename.parent.name == "part"
    kept = np.array(alone.x), np.array(alone.y)
    problems.generate(whole)
    prefix = problems.load("part")
    assert prefix.x.filename.parent.name == "whole"
    np.testing.assert_array_equal(prefix.x, kept[0])
    np.testing.assert_array_equal(prefix.y, kept[1])
    zeros = (prefix.x == 0).mean()
    assert 0.4 < zeros < 0.7
