"""Encoders at equal dimension: constructions whose answer is known, where directions come from, what is refused."""

import numpy as np
import pytest
from ssl_risk_rs import FeatureBank, ParameterError, import_bank
from ssl_risk_rs.decomposition import Settings, decompose_task, make_task
from ssl_risk_rs.decomposition.matched import _leading, _random, _unjudged_rows, match_dimensions
from ssl_risk_rs.probes.features import Features

N, M, D = 900, 300, 12
SETTINGS = Settings(probe="ridge", n_threads=1)
COMPONENTS = ("approx_usability", "probe_gen", "enc_gen", "agg_risk")


def draw(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """n points around five centres that overlap, in 12 features of falling variance."""
    y = np.arange(n) % 5
    centres = np.random.default_rng(9).standard_normal((5, D))
    x = 0.9 * centres[y] + np.random.default_rng(seed).standard_normal((n, D))
    return (x * np.linspace(2, 0.7, D)).astype(np.float32), y


@pytest.fixture(scope="module")
def data():
    return (*draw(N, 0), *draw(M, 1))


def task(data, change=lambda x, part: x):
    x, y, x_test, y_test = data
    return make_task(np.ascontiguousarray(change(x, 0)), y, np.ascontiguousarray(change(x_test, 1)), y_test)


def match(one, other, dimensions, **options):
    return match_dimensions([one, other], ["A", "B"], dimensions, settings=Settings(
        **{"probe": "ridge", "n_threads": 1, **options}))  # fmt: skip


def no_gap(comparison, rows: int = 3) -> None:
    """No difference but that of a few rows whose two best scores are nearly equal."""
    for name in COMPONENTS:
        d = comparison.difference("B", name)
        assert d.low <= 0 <= d.high, d
        assert d.discordant <= rows, d


# --- constructions whose answer is known


@pytest.mark.parametrize("probe", ["ridge", "logistic"])
def test_a_rotation_leaves_no_gap_at_any_dimension(data, probe):
    turn = np.linalg.qr(np.random.default_rng(3).standard_normal((D, D)))[0].astype(np.float32)
    found = match(task(data), task(data, lambda x, _: x @ turn), [3, 6, D], probe=probe)
    for comparison in (found.full, *found.leading):
        no_gap(comparison)
    for part in found.parts:
        assert part.low <= 0 <= part.high


def test_noise_features_are_dropped_by_the_leading_directions(data):
    """Weak noise features: with all features B pays for them, at A's dimension it is A."""
    noise = [np.random.default_rng(s).standard_normal((n, 120)).astype(np.float32) for s, n in ((4, N), (5, M))]
    found = match(task(data), task(data, lambda x, part: np.c_[x, 0.2 * noise[part]]), [4, D])
    for comparison in found.leading:
        no_gap(comparison, rows=6)  # directions are those of A up to the noise's share in them
    part = next(p for p in found.parts if p.quantity == "approx_usability")
    assert part.full < -0.02 and part.high < 0  # a probe fits training rows better with noise: R_AF is lower
    assert part.part == pytest.approx(part.full - part.matched, abs=1e-12)
    # random directions mix the noise in: no counterfactual of the signal
    assert found.random[-1].difference("B", "agg_risk").low > 0


def test_a_truncation_leaves_no_gap_at_its_dimension(data):
    one = task(data)
    rows = _unjudged_rows(one, decompose_task(one, settings=SETTINGS))
    axes = _leading(one.features, rows)
    six = axes.directions[:, :6]
    found = match(one, task(data, lambda x, _: ((x - axes.mean) @ six).astype(np.float32)), [6])
    no_gap(found.leading[0])
    part = next(p for p in found.parts if p.quantity == "agg_risk")
    assert part.part == pytest.approx(part.full, abs=0.01)  # the whole gap goes with the dimension
    assert part.full > 0.01 and abs(part.matched) < 0.01


def test_a_gap_of_the_representation_stays(data):
    """B has as many features, with more noise in each: nothing of the gap goes with the dimension."""
    noise = [np.random.default_rng(s).standard_normal((n, D)).astype(np.float32) for s, n in ((6, N), (7, M))]
    found = match(task(data), task(data, lambda x, part: x + 1.5 * noise[part]), [D])
    part = next(p for p in found.parts if p.quantity == "agg_risk")
    assert part.full > 0.05 and part.matched == pytest.approx(part.full, abs=0.015)
    assert part.low <= 0 <= part.high
    assert found.leading[0].difference("B", "agg_risk").low > 0


def test_all_directions_change_nothing(data):
    found = match(task(data), task(data, lambda x, _: x[:, :8]), [8])
    # of B all eight directions are kept, leading or random
    for comparison in (found.leading[0], found.random[0]):
        assert comparison.difference("B", "agg_risk").estimate == pytest.approx(
            found.full.difference("B", "agg_risk").estimate, abs=2.5 / M
        )  # rows on a boundary in float32


# --- directions


def test_directions_are_orthonormal_and_ordered_by_variance(data):
    one = task(data)
    rows = np.arange(N, dtype=np.uint32)
    for axes in (_leading(one.features, rows), _random(one.features, rows, 0)):
        # float64 factorizations of 12 columns
        np.testing.assert_allclose(axes.directions.T @ axes.directions, np.eye(D), atol=1e-12)
        np.testing.assert_allclose(axes.mean, data[0].astype(np.float64).mean(0), atol=1e-12)
    leading = (data[0] - data[0].mean(0)).astype(np.float64) @ _leading(one.features, rows).directions
    expected = np.linalg.eigvalsh(np.cov(data[0].astype(np.float64).T, bias=True))[::-1]
    np.testing.assert_allclose(leading.var(0), expected, rtol=1e-6)  # features and their mean are float32
    assert not np.array_equal(_random(one.features, rows, 0).directions, _random(one.features, rows, 1).directions)


def test_no_judged_row_has_a_say_in_the_directions(data):
    one = task(data)
    result = decompose_task(one, settings=SETTINGS)
    rows = _unjudged_rows(one, result)
    held = one.train_rows[result.judgements.subset >= 0]
    assert len(rows) + len(held) == N and not np.isin(rows, held).any() and rows.max() < N
    x, y, x_test, y_test = data
    moved = x.copy()
    moved[held] += 100  # held-out rows far away
    other = make_task(moved, y, x_test + 100, y_test)
    again = _leading(other.features, rows)
    assert np.array_equal(again.directions, _leading(one.features, rows).directions)


def test_a_bank_is_read_like_arrays(data, tmp_path):
    x, y, x_test, y_test = data
    np.savez(tmp_path / "f.npz", X_train=x, y_train=y, X_test=x_test, y_test=y_test)
    import_bank(str(tmp_path / "f.npz"), tmp_path / "bank", dtype="float32")
    of_bank = make_task(FeatureBank.open(tmp_path / "bank"))
    rows = np.arange(0, N, 2, dtype=np.uint32)
    for one, other in zip((_leading(of_bank.features, rows),), (_leading(task(data).features, rows),), strict=True):
        assert np.array_equal(one.directions, other.directions)
        assert np.array_equal(one.project(of_bank.features), other.project(task(data).features))
    blocks = Features.of_arrays(x[:100], x[100:], x_test)  # blocks that end anywhere
    assert np.array_equal(_leading(blocks, rows).directions, _leading(task(data).features, rows).directions)


# --- shape, refusals


def test_frames_hold_every_dimension(data):
    found = match(task(data), task(data, lambda x, _: x[:, :8]), [2, 8])
    frame = found.frame()
    assert frame.columns[:2] == ["dimension", "directions"] and frame.height == 5 * found.full.frame().height
    assert set(frame.select("dimension", "directions").unique().rows()) == {
        (None, "all"), (2, "leading"), (8, "leading"), (2, "random"), (8, "random")}  # fmt: skip
    assert found.part_frame()["quantity"].to_list() == list(COMPONENTS) and found.features == (D, 8)
    assert "A 12, B 8" in str(found) and "at 8  by dimension" in str(found)


def test_what_cannot_be_matched_is_said(data):
    one = task(data)
    with pytest.raises(ParameterError, match="under --protocol strict only"):
        match(one, one, [2], protocol="paper")
    with pytest.raises(ParameterError, match="13 is more than the 12 features"):
        match(one, one, [13])
    for dimensions in ([], [0, 2], [4, 2], [2, 2]):
        with pytest.raises(ParameterError, match="positive and ascending"):
            match(one, one, dimensions)


def test_the_table_tells_gaps_and_totals_apart(data):
    """With all features, at an equal number, and what goes with the dimension; leading before random directions."""
    found = match(task(data), task(data, lambda x, _: x[:, :8]), [2, 8])
    part = next(p for p in found.parts if p.quantity == "agg_risk")
    lines = str(found).splitlines()
    (row,) = (x for x in lines if x.strip().startswith("aggregated risk  "))
    assert row.split()[2:5] == [f"{100 * value:+.2f}" for value in (part.full, part.matched, part.part)]
    totals = [(leading.difference("B", "agg_risk"), random.difference("B", "agg_risk"))
              for leading, random in zip(found.leading, found.random, strict=True)]  # fmt: skip
    for m, (leading, random) in zip(found.dimensions, totals, strict=True):
        (row,) = (x for x in lines if x.startswith(f"  {m:>9,} "))
        told = [float(word.strip("()")) for word in row.replace("(", " ").split()[1:]]
        errors = (leading.estimate_baseline, random.estimate_baseline, leading.estimate, random.estimate)
        assert told == pytest.approx([100 * error for error in errors], abs=0.00501)  # two digits are printed
    assert totals[0][0].estimate < totals[0][1].estimate  # the first two directions have more than two drawn ones


def test_rows_of_the_frame_are_of_their_dimension_and_directions(data):
    found = match(task(data), task(data, lambda x, _: x[:, :8]), [2, 8])
    rows = found.frame().filter(quantity="agg_risk").select("dimension", "directions", "difference").rows()
    of = {(m, kind): difference for m, kind, difference in rows}
    for m, leading, random in zip(found.dimensions, found.leading, found.random, strict=True):
        assert of[m, "leading"] == leading.difference("B", "agg_risk").difference
        assert of[m, "random"] == random.difference("B", "agg_risk").difference
    assert of[2, "leading"] != of[2, "random"] and set(found.part_frame()["dimension"]) == {8}
