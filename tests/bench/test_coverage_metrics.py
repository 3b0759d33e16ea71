"""The simulations of other metrics and targets: truths by penalty, and real replicates."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "bench"


def load(name, monkeypatch):
    """A simulation, which imports its neighbours by name."""
    monkeypatch.syspath_prepend(str(FOLDER))
    spec = importlib.util.spec_from_file_location(f"{name}_bench", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_a_replicate_is_held_against_the_truth_at_its_own_penalty(monkeypatch):
    bench = load("coverage_metrics", monkeypatch)
    rng = np.random.default_rng(0)
    n, at = 2000, np.array([0.3, 0.9])  # R_US at two penalties
    chosen = rng.integers(0, 2, n)
    draws = np.zeros((n, len(bench.QUANTITIES), 5))
    i = bench.QUANTITIES.index("risk_us")
    value = at[chosen] + 0.01 * rng.standard_normal(n)
    draws[:, i] = np.stack([value, np.full(n, 0.01), value - 0.0196, value + 0.0196, np.zeros(n)], axis=1)
    true = np.zeros((50, 2, 5))
    true[:, :, 4] = at
    moved, of_truth = bench.against_own(draws, chosen, true)
    rows = {row["quantity"]: row for row in bench.coverage.summarize({}, moved, of_truth)}
    # three binomial standard errors; the spread is that at a penalty, not between penalties
    assert rows["risk_us"]["coverage"] == pytest.approx(0.95, abs=0.015)
    assert rows["risk_us"]["sd"] == pytest.approx(0.01, rel=0.1) and rows["risk_us"]["truth"] == pytest.approx(
        0.6, abs=0.02
    )


def test_replicates_and_truths_of_metrics(monkeypatch):
    bench = load("coverage_metrics", monkeypatch)
    assert bench.metrics_of(bench.OWN_WORLDS["fifty"], "ridge") == ("balanced", "top5")
    alpha, table = bench.replicate(("gauss_unequal", "ridge", 0, 0, ()))
    assert alpha > 0 and table.shape == (1, len(bench.QUANTITIES), 5) and (table[0, :, 2] <= table[0, :, 3]).all()
    true = bench.truths(("gauss_unequal", "ridge", 0, 0, ()))
    assert true.shape == (1, 1, 5)
    # one draw against the other: both are within six standard errors of the same expectations
    estimates = dict(zip(bench.QUANTITIES, table[0, :, :2], strict=True))
    for name, value in zip(bench.RISKS, true[0, 0], strict=True):
        assert abs(estimates[name][0] - value) < 6 * estimates[name][1], name


@pytest.mark.parametrize("world", ["numbers", "heavy", "groups", "labels"])
def test_replicates_and_truths_of_targets(world, monkeypatch):
    bench = load("coverage_targets", monkeypatch)
    _, y, groups = bench.draw(world, np.random.default_rng(0), 20_000)
    assert (groups is not None) == (world == "groups")
    if world != "labels":  # heavy tails: within 5 % at 20,000 rows
        assert y.var() == pytest.approx(bench.VARIANCE, rel=0.05)
    table, true = bench.replicate(world, 0), bench.truth(world, 0)
    estimates = dict(zip(bench.coverage.QUANTITIES, table, strict=True))
    assert np.isnan(estimates["risk_sup"]).all()
    for name in ("risk_as", "risk_us"):
        value = true[bench.coverage.RISKS.index(name)]
        assert abs(estimates[name][0] - value) < 6 * estimates[name][1], name  # as above
