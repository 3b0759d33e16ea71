"""The package against tests/reference: slow, obvious float64 code written from the documents alone.

Eight small data sets × three scalings × two probes: every risk, component, standard error and interval.
"""

import math

import numpy as np
import pytest
from reference import intervals, paper, strict
from ssl_risk_rs.decomposition import decompose
from ssl_risk_rs.results import Decomposition


def world(name):
    """(X, y, X_test, y_test, twin, twin_test), float32"""
    n, m, d, k, spread = {
        "plain": (400, 150, 12, 4, 0.7),
        "two classes": (300, 100, 8, 2, 0.5),
        "more test than train": (240, 400, 6, 3, 0.8),
        "unequal classes": (420, 160, 10, 4, 0.7),
        "offset": (360, 120, 9, 3, 0.7),
        "correlated": (400, 150, 14, 3, 0.5),
        "constant column": (360, 120, 9, 3, 0.7),
        "scales": (360, 140, 10, 3, 0.7),
    }[name]
    rng = np.random.default_rng(sum(map(ord, name)))
    means = spread * rng.normal(size=(k, d))
    y, y_test = np.arange(n) % k, np.arange(m) % k
    if name == "unequal classes":
        y, y_test = (np.minimum(rng.geometric(0.5, size) - 1, k - 1) for size in (n, m))
    x, x_test = means[y] + rng.normal(size=(n, d)), means[y_test] + rng.normal(size=(m, d))
    if name == "offset":
        x, x_test = x + 300.0, x_test + 300.0
    if name == "correlated":
        mix = np.eye(d) + 0.9 * rng.normal(size=(d, d))
        x, x_test = x @ mix, x_test @ mix
    if name == "constant column":
        x[:, 3] = x_test[:, 3] = 7.0
    if name == "scales":
        x, x_test = (a * 10.0 ** rng.uniform(-2, 2, d) for a in (x, x_test))
    turn = rng.normal(size=(d, d - 2))
    arrays = (x, x_test, x @ turn, x_test @ turn)
    x, x_test, twin, twin_test = (np.ascontiguousarray(a, np.float32) for a in arrays)
    return x, y, x_test, y_test, twin, twin_test


WORLDS = (
    "plain", "two classes", "more test than train", "unequal classes", "offset", "correlated", "constant column",
    "scales",
)  # fmt: skip


def compare(ours: Decomposition, reference, theirs, tolerance):
    """Every quantity that both have; `tolerance(reference estimate)` bounds the differences of the numbers."""
    names = [name for name in theirs if name in ours.estimates]
    assert {"risk_af", "risk_as", "risk_cs", "risk_us", "probe_gen", "enc_gen"} <= set(names)
    for name in names:
        e, r = ours.estimates[name], theirs[name]
        allowed = tolerance(r)
        assert e.estimate == pytest.approx(r.estimate, abs=allowed), name
        assert e.se == pytest.approx(r.se, abs=allowed, rel=0.25 if allowed > 1e-5 else 1e-6), name
        if not (math.isnan(r.low) or math.isnan(e.low)):
            assert e.low == pytest.approx(r.low, abs=3 * allowed), name
            assert e.high == pytest.approx(r.high, abs=3 * allowed), name


@pytest.mark.parametrize("scaling", ["none", "standardize", "minmax"])
@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("probe", ["ridge", "logistic"])
def test_strict(probe, name, scaling):
    x, y, x_test, y_test, twin, twin_test = world(name)
    ours = decompose(
        x, y, x_test, y_test, supervised=twin, supervised_test=twin_test, probe=probe, scaling=scaling, midpoint=True
    )
    judged = ours.judgements
    cells = np.where(judged.subset >= 0, judged.subset.astype(int) + 5, judged.fold)
    reference = strict.risks(x, y, x_test, y_test, cells, probe=probe, scaling=scaling, twin=twin, twin_test=twin_test)
    theirs = intervals.estimates(reference)
    if probe == "ridge":
        assert ours.penalties["tuned"].value == pytest.approx(reference.alpha)
        # float32 sums move no row of these sets across a boundary
        compare(ours, reference, theirs, lambda r: 1e-6)
        assert ours.floor.risk_above == pytest.approx(reference.risks["risk_af_decade_above"], abs=1e-6)
        assert ours.estimate("risk_af_midpoint") == pytest.approx(reference.risks["risk_af_midpoint"], abs=1e-6)
        return
    # within a quarter of a standard error, or two rows, at default settings
    compare(ours, reference, theirs, lambda r: max(0.25 * r.se, 2 / len(y_test)))


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("probe", ["ridge", "logistic"])
def test_groups(probe, mixed):
    rng = np.random.default_rng(5)
    k, d = 3, 8

    def rows(first, count):
        group = np.repeat(np.arange(first, first + count), rng.integers(4, 14, count))
        y = rng.integers(0, k, len(group)) if mixed else group % k
        shift = 0.6 * rng.normal(size=(count, d))[group - first]
        return (means[y] + shift + rng.normal(size=(len(group), d))).astype(np.float32), y, group

    means = 0.6 * rng.normal(size=(k, d))
    (x, y, group), (x_test, y_test, group_test) = rows(0, 60), rows(100, 30)
    ours = decompose(x, y, x_test, y_test, groups=(group, group_test), probe=probe)
    judged = ours.judgements
    for part in (judged.fold, judged.subset):
        for cell in np.unique(part[part >= 0]):
            assert not set(group[part == cell]) & set(group[part != cell])
    cells = np.where(judged.subset >= 0, judged.subset.astype(int) + 5, judged.fold)
    reference = strict.risks(x, y, x_test, y_test, cells, probe=probe, groups=group)
    theirs = intervals.estimates(reference, (group, group_test))
    allowed = (lambda r: 1e-6) if probe == "ridge" else lambda r: max(0.25 * r.se, 2 / len(y_test))
    compare(ours, reference, theirs, allowed)
    if mixed:
        assert ours.estimate("class_mix") == pytest.approx(-reference.class_mix, abs=1e-6 if probe == "ridge" else 0.02)


def test_one_row_classes_are_paired():
    rng = np.random.default_rng(2)
    k, d = 40, 30
    y, y_test = np.arange(k * 20) % k, np.arange(k)
    means = rng.normal(size=(k, d))
    x = (means[y] + rng.normal(size=(len(y), d))).astype(np.float32)
    x_test = (means[y_test] + rng.normal(size=(k, d))).astype(np.float32)
    ours = decompose(x, y, x_test, y_test, probe="ridge")
    judged = ours.judgements
    cells = np.where(judged.subset >= 0, judged.subset.astype(int) + 5, judged.fold)
    reference = strict.risks(x, y, x_test, y_test, cells, probe="ridge")
    compare(ours, reference, intervals.estimates(reference), lambda r: 1e-6)
    assert any(note.code == "collapsed_strata" and note.values["rows"] == "test" for note in ours.notes)


@pytest.mark.parametrize("name", ["plain", "unequal classes", "offset"])
@pytest.mark.parametrize("probe", ["ridge", "logistic"])
def test_paper(probe, name):
    x, y, x_test, y_test, twin, _ = world(name)
    ours = decompose(x, y, x_test, y_test, supervised=twin, probe=probe, protocol="paper")
    alphas = ours.penalties["tuned_af"].grid
    reference = paper.risks(x, y, x_test, y_test, probe=probe, twin=twin, alphas=alphas)
    assert np.array_equal(np.flatnonzero(ours.judgements.subset == 0), np.sort(reference.subset))
    if probe == "ridge":
        for risk, alpha in reference.alpha.items():
            if risk != "risk_cs":
                assert ours.penalties[f"tuned_{risk.removeprefix('risk_')}"].value == pytest.approx(alpha), risk
    allowed = (lambda r: 1e-6) if probe == "ridge" else lambda r: max(0.25 * r.se, 2 / len(y_test))
    compare(ours, reference, intervals.estimates(reference), allowed)
