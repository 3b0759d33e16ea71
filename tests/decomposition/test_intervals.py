"""Intervals where the rows say little: training errors next to 0, class-balanced errors of rows in groups."""

import math

import numpy as np
import pytest
from ssl_risk_rs import decompose
from ssl_risk_rs._inference import satterthwaite
from ssl_risk_rs.decomposition.paired import compare
from ssl_risk_rs.results.estimate import Grade, wilson

K = 5


def world(n: int, d: int, spread: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = np.arange(n) % K
    means = spread * np.random.default_rng(99).normal(size=(K, d))
    return (means[y] + rng.normal(size=(n, d))).astype(np.float32), y


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_an_interval_contains_its_risk(p):
    """At 0 and 1 the limit is the risk, which rounding misses by an ulp for some numbers of rows."""
    for n in range(1, 100):
        low, high = wilson(p, 0.0, n, 2.576)
        assert low <= p <= high, n


def test_a_variance_of_rounding_is_none():
    """Its effective number of rows would be endless, and the interval a point."""
    p = 0.3
    assert wilson(p, 1e-12 * p * (1 - p) / 100, 100, 1.96) == wilson(p, 0.0, 100, 1.96)
    assert wilson(p, p * (1 - p) / 400, 100, 1.96) == pytest.approx(wilson(p, 0.0, 400, 1.96))


def test_a_training_error_of_few_rows_has_no_interval_up_to_the_error_of_others():
    """n_eff = p(1 − p)/V of a variance that the factor H/R has raised would be a handful of rows."""
    (x, y), (xt, yt) = world(300, 36, 0.35), world(300, 36, 0.35, 1)
    found = decompose(x, y, xt, yt, n_threads=2)
    af = found.estimates["risk_af"]
    ratio = found.floor.on_test / af.estimate
    assert 0 < af.estimate < 0.02 and ratio > 10
    assert af.grade is Grade.INDICATIVE
    assert af.high == pytest.approx(af.estimate + 1.96 * af.se, abs=1e-3) and af.low == 0
    assert af.high < 0.5 * found.floor.on_test
    # the variance is that of rows times the factor, up to what strata take away
    of_rows = af.estimate * (1 - af.estimate) / 300
    assert 0.9 < af.se**2 / (of_rows * ratio) < 1.1
    low, high = wilson(af.estimate, of_rows, 300, 1.96)
    assert af.high > high and af.low < low


def test_a_training_error_of_0_says_little_of_other_samples():
    (x, y), (xt, yt) = world(300, 60, 0.3), world(300, 60, 0.3, 1)
    found = decompose(x, y, xt, yt, n_threads=2)
    af, h = found.estimates["risk_af"], found.floor.on_test
    assert af.estimate == 0 and h > 0.1
    assert af.se == pytest.approx(np.sqrt(h / 300)) and af.high == pytest.approx(1.96 * af.se, rel=1e-4)
    ridge = decompose(x, y, xt, yt, n_threads=2, probe="ridge").estimates["risk_af"]  # which needs no factor
    assert ridge.se == pytest.approx(np.sqrt(ridge.estimate * (1 - ridge.estimate) / 300), rel=0.1)
    # beside one that has errors, the difference is no surer
    other = decompose(x[:, :20].copy(), y, xt[:, :20].copy(), yt, n_threads=2)
    differences = {d.quantity: d for d in compare([other, found], names=["a", "b"]).differences}
    difference = differences["approx_usability"]
    assert difference.se >= af.se


def test_features_that_span_any_labels_leave_no_doubt_of_a_training_error_of_0():
    (x, y), (xt, yt) = world(100, 120, 0.5), world(300, 120, 0.5, 1)
    af = decompose(x, y, xt, yt, n_threads=2).estimates["risk_af"]
    assert af.estimate == 0 and af.se == 0 and af.high == pytest.approx(wilson(0, 0, 100, 1.96)[1], rel=1e-4)


@pytest.mark.parametrize("mixed", [False, True])
def test_groups_of_classes_of_equal_size_have_balanced_errors_like_the_others(mixed):
    """A group is no row: what its rows share shows in the 0-1 error."""
    rng = np.random.default_rng(0)

    def draw(n_groups: int, first: int):
        groups = np.repeat(np.arange(first, first + n_groups), 20)
        y = np.arange(len(groups)) % 4 if mixed else groups % 4
        moved = 0.7 * rng.normal(size=(n_groups, 8))[groups - first]
        return 1.3 * np.eye(4, 8)[y] + moved + rng.normal(size=(len(y), 8)), y, groups

    (x, y, g), (xt, yt, gt) = draw(40, 0), draw(20, 1000)
    found = decompose(x, y, xt, yt, groups=(g, gt), probe="ridge", metrics="balanced", n_threads=1)
    for name, balanced in found.metric("balanced").estimates.items():
        plain = found.estimates[name]
        if name.startswith("class_mix"):
            continue
        assert balanced.estimate == pytest.approx(plain.estimate, abs=1e-12)
        assert 0.7 < balanced.se / plain.se < 1.3, name


def test_a_class_of_few_rows_in_groups_still_widens_a_balanced_error():
    rng = np.random.default_rng(1)

    def draw(counts, first):
        y = np.repeat(np.arange(3), counts)
        groups = first + np.arange(len(y)) // 5
        return 3 * np.eye(3, 6)[y] + rng.normal(size=(len(y), 6)), y, groups

    (x, y, g), (xt, yt, gt) = draw([400, 400, 200], 0), draw([200, 195, 5], 1000)
    found = decompose(x, y, xt, yt, groups=(g, gt), probe="ridge", metrics="balanced", n_threads=1)
    plain, balanced = found.estimates["risk_us"], found.metric("balanced").estimates["risk_us"]
    p = balanced.estimate
    # five rows weigh as much as two hundred: p (1 − p) Σ w² at least
    assert balanced.se**2 >= p * (1 - p) * (1 / 200 + 1 / 195 + 1 / 5) / 9 * (1 - 1e-9)
    assert balanced.se > 3 * plain.se


def test_a_training_error_of_0_on_the_test_rows_takes_their_number():
    """R_UF is judged on the test rows: H of so many."""
    (x, y), (xt, yt) = world(300, 70, 0.3), world(100, 70, 0.3, 1)
    found = decompose(x, y, xt, yt, n_threads=2, order="both")
    uf = found.estimates["risk_uf"]
    assert uf.estimate == 0 and uf.se == pytest.approx(np.sqrt(found.floor.on_test / 100))


def test_probe_generalization_beside_a_separating_probe_is_no_surer_in_a_comparison():
    (x, y), (xt, yt) = world(300, 60, 0.3), world(300, 60, 0.3, 1)
    found = decompose(x, y, xt, yt, n_threads=2, name="a")
    other = decompose(x[:, :20].copy(), y, xt[:, :20].copy(), yt, n_threads=2, name="b")
    d = compare([other, found]).difference("a", "probe_gen")
    assert d.se >= found.estimates["risk_af"].se


def test_a_variance_of_fewer_than_one_degree_of_freedom_has_one():
    assert satterthwaite([(1.0, 0.25)]) == 1.0 and satterthwaite([(4.0, 3.0), (0.0, 0.5)]) == 3.0
    assert math.isinf(satterthwaite([(0.0, 2.0)]))
