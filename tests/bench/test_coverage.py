"""The simulation of coverage: its verdict on draws whose coverage is known, and one real replicate."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

PATH = Path(__file__).parents[2] / "bench" / "coverage.py"


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("coverage_bench", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def normal_draws(bench, n, se, bias):
    """Independent normal risks of standard deviation 0.01; intervals of ±1.96 `se`, R_AS moved by `bias`."""
    rng = np.random.default_rng(0)
    risks = dict(zip(bench.RISKS, 0.2 + 0.01 * rng.standard_normal((5, n)), strict=True))
    plain = risks["risk_as"].copy()
    risks["risk_as"] = plain + bias
    draws = np.zeros((n, len(bench.QUANTITIES) + 1, 5))
    for i, quantity in enumerate(bench.QUANTITIES):
        signs = bench.COMPONENTS.get(quantity, [float(name == quantity) for name in bench.RISKS])
        value = sum(sign * risk for sign, risk in zip(signs, risks.values(), strict=True))
        wide = se * np.sqrt(np.abs(signs).sum())
        draws[:, i, :4] = np.stack([value, np.full(n, wide), value - 1.96 * wide, value + 1.96 * wide], 1)
    draws[:, -1, 0] = plain
    return draws


def table(bench, draws):
    return {row["quantity"]: row for row in bench.summarize("normal", "ridge", draws)}


def test_right_intervals_cover_95_percent_and_narrow_ones_do_not(bench):
    for quantity, row in table(bench, normal_draws(bench, 2000, 0.01, 0.0)).items():
        if quantity != "risk_as_plain":
            assert abs(row["coverage"] - 0.95) < 4 * row["coverage_se"], quantity
            assert row["se_ratio"] == pytest.approx(1, abs=0.06)
    narrow = table(bench, normal_draws(bench, 2000, 0.005, 0.0))
    assert narrow["enc_gen"]["coverage"] == pytest.approx(0.673, abs=0.04)


def test_bias_of_risk_as_shows_in_every_quantity_made_of_it(bench):
    rows = table(bench, normal_draws(bench, 2000, 0.01, 0.01))
    assert rows["risk_as"]["bias"] == pytest.approx(0.01)
    assert rows["probe_gen"]["bias"] == pytest.approx(0.01)
    assert rows["enc_gen"]["bias"] == pytest.approx(-0.01)
    assert rows["risk_us"]["bias"] == 0
    assert rows["risk_as"]["coverage"] == pytest.approx(0.83, abs=0.03)
    assert rows["risk_as"]["above"] > 10 * rows["risk_as"]["below"]


@pytest.mark.parametrize("probe", ["logistic", "ridge"])
def test_a_replicate_is_reproducible_and_its_components_sum_to_the_risk(bench, probe):
    first = bench.replicate(("crowded", probe, 0, 3))
    np.testing.assert_array_equal(first, bench.replicate(("crowded", probe, 0, 3)))
    assert not np.array_equal(first, bench.replicate(("crowded", probe, 0, 4)))
    value = dict(zip(bench.QUANTITIES, first[:, 0], strict=False))
    parts = value["risk_sup"] + value["usability"] + value["probe_gen"] + value["enc_gen"]
    assert parts == pytest.approx(value["risk_us"], abs=1e-12)
