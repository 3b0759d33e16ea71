"""The simulation of paired coverage: its verdict on draws whose coverage is known, and real replicates."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

PATH = Path(__file__).parents[2] / "bench" / "coverage_paired.py"
#: of real replicates
REPLICATES = 80


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("coverage_paired_bench", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def least(share: float, n: int) -> float:
    """Four binomial standard errors below a share: chance takes a right interval there once in 30,000."""
    return share - 4 * np.sqrt(share * (1 - share) / n)


def test_right_intervals_cover_95_percent_and_narrow_ones_do_not(bench):
    rng = np.random.default_rng(0)
    n, k = 2000, len(bench.COMPONENTS)
    truths = np.zeros((100, 2, 4))
    truths[:, 1] = 0.1
    for scale, expected in ((1.0, 0.95), (0.5, 0.673)):
        value = np.array([0.1 * sum(w.values()) for w in bench.COMPONENTS.values()]) + 0.01 * rng.standard_normal(
            (n, k)
        )
        half = np.full((n, k), 1.96 * 0.01 * scale)
        draws = np.stack([value, half / 1.96, value - half, value + half, 2 * half, np.zeros((n, k))], axis=2)
        for row in bench.summarize("gauss", "ridge", draws, truths, 0.0, 0.0):
            assert abs(row["coverage"] - expected) < 4 * np.sqrt(expected * (1 - expected) / n), row
            assert abs(row["bias"]) < 4 * row["bias_se"] and row["unpaired_median_width"] == pytest.approx(
                4 * half[0, 0]
            )


@pytest.fixture(scope="module")
def replicates(bench):
    """Real ones, of encoders whose true differences are all 0."""
    found = [bench.replicate((bench.ALIKE, "ridge", 5, i)) for i in range(REPLICATES)]
    return (
        np.stack([table for table, _, _ in found]),
        np.mean([h for _, h, _ in found]),
        np.mean([r for *_, r in found]),
    )


def test_paired_intervals_hold_a_known_truth(bench, replicates):
    draws, any_holm, ranks_wrong = replicates
    rows = {r["quantity"]: r for r in bench.summarize(bench.ALIKE, "ridge", draws, np.zeros((2, 2, 4)), 0.0, 0.0)}
    for name, row in rows.items():
        assert row["coverage"] >= least(0.95, REPLICATES), name
        assert abs(row["bias"]) < 4 * row["bias_se"], name
    # the spread itself is known to 8 % from 80 draws (four times that); label_count rests on a handful of rows
    for name in ("approx_usability", "enc_gen", "enc_gen_equal_labels", "agg_risk"):
        assert 0.7 < rows[name]["se_ratio"] < 1.4, name
    # of all components and encoders, and of ranks, at most 5 % of the replicates find a difference that is not there
    assert any_holm <= 1 - least(0.95, REPLICATES) and ranks_wrong <= 1 - least(0.95, REPLICATES)
    # pairing is what makes them short: noise is shared
    assert rows["agg_risk"]["median_width"] < 0.9 * rows["agg_risk"]["unpaired_median_width"]


def test_intervals_of_half_the_width_would_be_found_out(bench, replicates):
    draws, *_ = replicates
    narrow = draws.copy()
    narrow[:, :, 2] = (draws[:, :, 0] + draws[:, :, 2]) / 2
    narrow[:, :, 3] = (draws[:, :, 0] + draws[:, :, 3]) / 2
    rows = {r["quantity"]: r for r in bench.summarize(bench.ALIKE, "ridge", narrow, np.zeros((2, 2, 4)), 0.0, 0.0)}
    assert rows["agg_risk"]["coverage"] < least(0.95, REPLICATES)
    assert rows["enc_gen"]["coverage"] < least(0.95, REPLICATES)


def test_truth_is_that_of_both_encoders(bench):
    one = bench.true_risks(("gauss", "ridge", 0, 0))
    assert one.shape == (2, 4) and ((one > 0) & (one < 1)).all()
    assert (one[1] < one[0]).all()  # the twin's features are 1.3 times as far apart


def test_the_table_is_printed_with_widths_and_marks(bench, tmp_path):
    draws = np.zeros((50, len(bench.COMPONENTS), 6))
    draws[:, :, 0] = np.random.default_rng(0).standard_normal((50, len(bench.COMPONENTS)))
    draws[:, :, 2], draws[:, :, 3], draws[:, :, 4] = -0.1, 0.1, 0.2
    truths = np.zeros((2, 2, 4))
    bench.write_table(tmp_path / "t.csv", bench.summarize("gauss", "ridge", draws, truths, 0.0, 0.0))
    bench.write_table(tmp_path / "t.csv", bench.summarize("alike", "ridge", draws, truths, 0.1, 0.2))
    text = bench.markdown(tmp_path / "t.csv")
    assert "100.0° (0.50)" in text and text.count("\n") == 4
