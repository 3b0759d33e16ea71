"""The simulation of coverage: its verdict on draws whose coverage is known, its worlds, and real replicates."""

import csv
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

PATH = Path(__file__).parents[2] / "bench" / "coverage_risks.py"


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("coverage_risks", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def normal_draws(bench, n, se, bias):
    """Independent normal risks around 0.2 with sd 0.01, intervals of ±1.96 `se`, R_AS moved by `bias`."""
    rng = np.random.default_rng(0)
    risks = 0.2 + 0.01 * rng.standard_normal((n, 5))
    risks[:, bench.RISKS.index("risk_as")] += bias
    draws = np.zeros((n, len(bench.QUANTITIES), 5))
    for i, quantity in enumerate(bench.QUANTITIES):
        signs = np.array(bench.COMPONENTS.get(quantity, [float(name == quantity) for name in bench.RISKS]))
        value, wide = risks @ signs, se * np.sqrt(np.abs(signs).sum())
        draws[:, i, :4] = np.stack([value, np.full(n, wide), value - 1.96 * wide, value + 1.96 * wide], 1)
    truths = 0.2 + 1e-6 * rng.standard_normal((50, 5))
    return draws, truths


LABELS = {"world": "normal", "probe": "ridge", "estimator": "none", "intervals": "own"}


def table(bench, draws, truths):
    return {row["quantity"]: row for row in bench.summarize(LABELS, draws, truths)}


def test_right_intervals_cover_95_percent_and_narrow_ones_do_not(bench):
    for quantity, row in table(bench, *normal_draws(bench, 2000, 0.01, 0.0)).items():
        # four standard errors of a share from 2,000 draws
        assert abs(row["coverage"] - 0.95) < 4 * row["coverage_se"], quantity
        assert row["se_ratio"] == pytest.approx(1, abs=0.06)
        assert abs(row["bias"]) < 4 * row["bias_se"]
    narrow = table(bench, *normal_draws(bench, 2000, 0.005, 0.0))
    assert narrow["enc_gen"]["coverage"] == pytest.approx(0.673, abs=0.04)


def test_bias_of_risk_as_shows_in_every_quantity_made_of_it(bench):
    rows = table(bench, *normal_draws(bench, 2000, 0.01, 0.01))
    # the mean of 2,000 draws with sd 0.01: 0.0002
    assert rows["risk_as"]["bias"] == pytest.approx(0.01, abs=0.001)
    assert rows["probe_gen"]["bias"] == pytest.approx(0.01, abs=0.0015)
    assert rows["enc_gen"]["bias"] == pytest.approx(-0.01, abs=0.0015)
    assert rows["risk_us"]["bias"] == pytest.approx(0, abs=0.001)
    assert rows["risk_as"]["coverage"] == pytest.approx(0.83, abs=0.03)
    assert rows["risk_as"]["above"] > 10 * rows["risk_as"]["below"]


def test_missing_intervals_are_counted_apart(bench):
    draws, truths = normal_draws(bench, 2000, 0.01, 0.0)
    draws[:500, 0, 2:4] = np.nan
    draws[500:, 0, 4] = 1
    row = table(bench, draws, truths)["risk_sup"]
    assert row["no_interval"] == 0.25
    assert row["marked"] == 0.75
    assert abs(row["coverage"] - 0.95) < 4 * row["coverage_se"]
    draws[:, 0, 2:4] = np.nan
    assert np.isnan(table(bench, draws, truths)["risk_sup"]["coverage"])


@pytest.mark.parametrize("estimator", ["reference", "package"])
@pytest.mark.parametrize("probe", ["logistic", "ridge"])
def test_a_replicate_is_reproducible_and_its_components_sum_to_the_risk(bench, probe, estimator):
    first = bench.replicate(("crowded", probe, estimator, 0, 3))
    np.testing.assert_array_equal(first, bench.replicate(("crowded", probe, estimator, 0, 3)))
    assert not np.array_equal(first, bench.replicate(("crowded", probe, estimator, 0, 4)))
    value = dict(zip(bench.QUANTITIES, first[0, :, 0], strict=True))
    parts = value["risk_sup"] + value["usability"] + value["probe_gen"] + value["enc_gen"]
    assert parts == pytest.approx(value["risk_us"], abs=1e-12)
    # rows that the floor fit separates have no interval of R_AF
    has = np.isfinite(first[0, :, 2])
    assert has[bench.QUANTITIES.index("risk_us")]
    assert (first[0, has, 2] <= first[0, has, 0]).all()
    assert (first[0, has, 0] <= first[0, has, 3]).all()


def test_both_estimators_agree_on_what_has_no_choice_of_rows(bench):
    # R_AF and R_ΦF do not depend on how cells are drawn
    ours, theirs = (bench.replicate(("gauss", "ridge", e, 0, 1))[0] for e in ("package", "reference"))
    np.testing.assert_allclose(ours[:2, 0], theirs[:2, 0], atol=1e-9)


def test_truth_is_that_of_the_probe_on_fresh_rows(bench):
    # `shift`: test rows lie farther apart; R_AS is judged on rows of the training distribution
    truths = np.stack([bench.true_risks(("shift", "ridge", "reference", 0, i)) for i in range(5)])
    risk = dict(zip(bench.RISKS, truths.mean(0), strict=True))
    assert risk["risk_us"] - risk["risk_as"] == pytest.approx(0.07, abs=0.01)
    assert abs(risk["risk_us"] - risk["risk_cs"]) < 0.005
    assert risk["risk_sup"] < risk["risk_af"]
    # 20,000 fresh rows in every draw: the spread is that of the probe, far below that of 300 test rows
    assert truths[:, 4].std() < 0.01


@pytest.mark.parametrize("kind", ["pure", "mixed"])
def test_worlds_of_groups(bench, kind):
    world = bench.WORLDS[f"groups_40_{kind}"]
    rng = np.random.default_rng(0)
    train, test = world.draw(rng, False), world.draw(rng, True)
    assert np.bincount(train.groups).tolist() == [20] * 40
    assert len(np.unique(test.groups)) == 20
    spans = [len(np.unique(train.y[train.groups == g])) for g in range(40)]
    assert (max(spans) == 1) == (kind == "pure")
    # rows of a group are alike: their means spread more than those of 20 independent rows
    within = train.x[train.y == 0, 0]
    groups = train.groups[train.y == 0]
    means = np.array([within[groups == g].mean() for g in np.unique(groups)])
    assert means.std() > 1.5 * within.std() / np.sqrt(20)
    # by rows, intervals of R_US are too short
    own, rows = sum(bench.replicate((f"groups_40_{kind}", "ridge", "reference", 0, i)) for i in range(5))
    us = bench.QUANTITIES.index("risk_us")
    assert own[us, 3] - own[us, 2] > 1.3 * (rows[us, 3] - rows[us, 2])


def test_stratified_cells(bench):
    y = np.repeat(np.arange(5), (40, 41, 7, 60, 52))
    cells = bench.stratified_cells(y, 13, np.random.default_rng(0))
    assert np.bincount(cells, minlength=8)[5:].tolist() == [14, 13, 13]  # one row of the class of 7
    assert sorted(np.bincount(y[cells >= 5]).tolist())[0] == 1
    for j in range(5, 8):
        counts = np.bincount(y[cells == j], minlength=5)
        assert (np.abs(counts - np.bincount(y) * 13 / 200) < 1).all()
    for c in range(5):
        assert np.ptp(np.bincount(cells[(y == c) & (cells < 5)], minlength=5)) <= 1


def test_a_table_keeps_the_rows_of_other_runs(bench, tmp_path):
    draws, truths = normal_draws(bench, 20, 0.01, 0.0)
    path = tmp_path / "table.csv"
    bench.write_table(path, list(bench.summarize(LABELS, draws, truths)))
    bench.write_table(path, list(bench.summarize(LABELS | {"world": "other"}, draws, truths)))
    bench.write_table(path, list(bench.summarize(LABELS, draws[:10], truths)))
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["world"], r["replicates"]) for r in rows] == [("other", "20")] * 10 + [("normal", "10")] * 10
    text = bench.markdown(path)
    assert "| `other` |" in text
    assert "| `normal` |" in text


def test_coverage_outside_its_range_is_marked_in_the_table(bench, tmp_path):
    path = tmp_path / "table.csv"
    bench.write_table(path, list(bench.summarize(LABELS, *normal_draws(bench, 2000, 0.005, 0.0))))
    assert bench.markdown(path).count("†") == 10
    bench.write_table(path, list(bench.summarize(LABELS, *normal_draws(bench, 2000, 0.01, 0.0))))
    assert bench.markdown(path).count("†") == bench.markdown(path).count("°") == 0
    # 90.0 % of 20 draws is what chance does
    draws, truths = normal_draws(bench, 20, 0.01, 0.0)
    draws[:, :, 2], draws[:, :, 3] = -9, 9
    draws[:2, 4, 3] = -8
    bench.write_table(path, list(bench.summarize(LABELS, draws, truths)))
    assert bench.markdown(path).count("90.0°") == 1
    draws[:, 4, 2] = np.nan
    bench.write_table(path, list(bench.summarize(LABELS, draws, truths)))
    assert "| – |" in bench.markdown(path)


def test_a_component_that_no_row_decides_has_an_interval(bench):
    # in this draw complements, floor and full fit err on the same rows: probe generalization is 0, its variance by rows
    # -3e-21 before it was bounded, and its interval the guard for few rows and how the probe varies
    drawn = bench.replicate(("gauss", "ridge", "package", 0, 62))[0, bench.QUANTITIES.index("probe_gen")]
    assert drawn[0] == pytest.approx(0, abs=1e-12)
    assert 0.99 * 1.96 / 300 <= drawn[3] < 0.02 and drawn[3] == pytest.approx(-drawn[2])


def test_degrees_of_freedom_of_a_component_that_no_row_decides(bench):
    # as above, but with variance of the probe's own: parts of ±1e-21 summed to 0 degrees of freedom
    rows = bench.replicate(("groups_20_mixed", "ridge", "package", 0, 175))[1]
    assert np.isfinite(rows).all()
