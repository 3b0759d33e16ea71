"""The simulation of few-shot coverage: its verdict on draws whose coverage is known, and real replicates."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "bench"


def load(name):
    spec = importlib.util.spec_from_file_location(f"{name}_under_test", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def bench():
    return load("fewshot_coverage")


def test_right_intervals_cover_and_narrow_ones_do_not(bench):
    rng = np.random.default_rng(0)
    estimate = 0.3 + 0.02 * rng.standard_normal(2000)
    se = np.full(2000, 0.02)
    values = np.stack(
        [estimate, se, estimate - 1.96 * se, estimate + 1.96 * se, 0.98 * se, 0 * se, 10 + 0 * se, 0 * se], 1
    )
    row = bench._row({}, values, 0.3, 0.0)
    # four standard errors of a share from 2,000 draws
    assert abs(row["coverage"] - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 2000)
    assert row["rows_only"] == pytest.approx(0.673, abs=0.04)
    assert row["draws_only"] == 0 and row["se_ratio"] == pytest.approx(1, abs=0.06)
    moved = bench._row({}, values, 0.34, 0.0)
    assert moved["bias"] == pytest.approx(-0.04, abs=0.002) and moved["coverage"] < 0.6 and moved["above"] == 0


def test_an_open_interval_covers_on_its_open_side(bench):
    rows = [(1.0, 0.5, np.nan), (1.0, np.nan, 0.9), (np.nan, 2.0, np.nan), (1.0, 0.9, 1.1)]
    row = bench._curve_row({}, rows, 1.0, 0.0)
    assert row["coverage"] == 0.5 and row["below"] == row["above"] == 0.25


@pytest.mark.parametrize("world", ["gauss", "groups_40_mixed"])
def test_replicates_and_truth_make_a_table(bench, world, tmp_path):
    truth = bench.truth_of([bench.truth_draw((world, "ridge", 0, i)) for i in range(2)])
    # more labels, fewer errors, by far more than the noise of 20 draws
    assert truth.twice["30"][1] < truth.once["3"][1] - 0.05
    targets = (float(truth.twice["5"][1]), float(truth.twice["30"][1]), truth.doubled_us)
    jobs = [(world, "ridge", 0, i, targets) for i in range(2)]
    found = [bench.replicate(job) | {"n_train": 1500} for job in jobs]
    again = bench.replicate(jobs[1])
    assert again["30", "risk_us"] == found[1]["30", "risk_us"] and again["30", "risk_us"] != found[0]["30", "risk_us"]
    table = tmp_path / "table.csv"
    bench.write_table(table, list(bench.summarize(world, "ridge", found, truth)))
    text = bench.markdown(table)
    assert text.count(f"| `{world}` |") == 5 and "| world | twice the labels" in text
    bench.write_table(table, list(bench.summarize(world, "logistic", found, truth)))
    assert bench.markdown(table).count(f"| `{world}` |") == 10


def test_the_published_sizes_are_read(tmp_path):
    curve = load("label_curve")
    header = ["", *curve.SIZES, "other"]
    rows = [["", *["metrics"] * 6], header, ["enc", *[""] * 6], ["a", "70", "60", "50", "40", "30", "x"],
            ["b", "70", "60", "", "40", "30", "x"]]  # fmt: skip
    table = tmp_path / "all_results.csv"
    table.write_text("\n".join(",".join(row) for row in rows))
    assert curve.errors_of(table).tolist() == [[0.7, 0.6, 0.5, 0.4, 0.3]]
