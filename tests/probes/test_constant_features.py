"""Which features count as constant: judged by their own rounding, never by other features."""

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from ssl_risk_rs import FeatureBank, ParameterError, _core
from ssl_risk_rs.probes.estimators import LogisticProbe, RidgeProbe, RidgeProbeCV

PRECISIONS = ["float64", "float32"]


def telling(n=600, seed=0, sd=1.0, mean=0.0, noise=0.3):
    """One feature that tells two classes apart, in float64, and labels."""
    rng = np.random.default_rng(seed)
    y = (np.arange(n) % 2).astype(np.uint32)
    return mean + sd * (y - 0.5 + noise * rng.normal(size=n)), y


def design_of(x, y, *, scaling="standardize", precision="auto", shift=True, n_classes=2):
    rows = np.arange(len(x), dtype=np.uint32)
    chosen = _core.choose_shift(x, rows) if shift else None
    moments = _core.Moments(x.shape[1], n_classes, shift=chosen, precision=precision)
    moments.update(x, y, rows, np.zeros(len(x), np.uint8))
    return moments.design(scaling=scaling)


# (sd, mean) of the telling feature, (sd, mean) of the noise beside it
SPREADS = {
    "sd 1 at mean 5e4": ((1.0, 5e4), (1.0, 0.0)),
    "sd 1e-3 beside sd 3e3": ((1e-3, 0.0), (3e3, 0.0)),
    "sd 0.18 at mean 8192": ((0.18, 8192.0), (1.0, 0.0)),
    "sd 1 beside sd 1e7": ((1.0, 0.0), (1e7, 0.0)),
    "sd 1e-3 at mean -1e3, beside mean 1e6": ((1e-3, -1e3), (1e2, 1e6)),
    "sd 1e-23": ((1e-23, 0.0), (1.0, 0.0)),
    "sd 1e-30 at mean 1e-29, beside sd 1e15": ((1e-30, 1e-29), (1e15, 0.0)),
    "sd 1e25": ((1e25, 0.0), (1.0, 0.0)),
}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("case", SPREADS)
def test_a_feature_that_varies_is_never_dropped(case, precision):
    (sd, mean), (other_sd, other_mean) = SPREADS[case]
    a, y = telling(sd=sd, mean=mean)
    b = other_mean + other_sd * np.random.default_rng(1).normal(size=len(a))
    x = np.c_[b, a].astype(np.float32)
    design = design_of(x, y, precision=precision)
    assert design.constant.tolist() == []
    probe = design.solve_ridge([1e-3])[0]
    rows = np.arange(len(x), dtype=np.uint32)
    wrong = int((_core.judge(x, rows, y, [probe])[0][0] != y).sum())
    z = StandardScaler().fit_transform(x.astype(np.float64) / np.abs(x).max(0))
    rival = int((LogisticRegression(C=1e3).fit(z, y).predict(z) != y).sum())
    assert abs(wrong - rival) <= 6  # a hundredth of the rows: least squares is another rule than logistic loss


@pytest.mark.parametrize("probe", [RidgeProbe, RidgeProbeCV, LogisticProbe])
def test_estimators_learn_from_it_and_count_what_is_constant(probe):
    a, y = telling(sd=1.0, mean=5e4)
    rng = np.random.default_rng(1)
    x = np.c_[np.full(len(a), 0.3), a, rng.normal(size=len(a)) * 1e6, np.zeros(len(a))].astype(np.float32)
    fit = probe(scaling="standardize").fit(x, y)
    assert fit.n_constant_features_ == 2
    assert fit.score(x, y) > 0.9  # classes are 1.7 standard deviations from the border: 95 %
    wide = probe(scaling="standardize").fit(np.tile(x[:11], 3), y[:11])
    assert wide.n_constant_features_ == 6


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("scaling", ["none", "standardize", "minmax"])
@pytest.mark.parametrize("shift", [True, False])
def test_constant_features_are_named(scaling, shift, precision):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(5000, 7)).astype(np.float32)
    y = (np.arange(5000) % 2).astype(np.uint32)
    x[:, 1], x[:, 3], x[:, 4] = 0.3, -7e6, 0
    # noise in the last bit of a float32 is what another order of sums gives
    x[:, 6] = np.nextafter(np.float32(40.1), np.where(np.arange(5000) % 3 == 0, 50, 0).astype(np.float32))
    design = design_of(x, y, scaling=scaling, precision=precision, shift=shift)
    assert design.constant.tolist() == [1, 3, 4, 6] and design.constant.dtype == np.uint32
    _, (coef, _, _, scale) = design.solve_ridge([1e-2 * design.mean_variance])[0].__reduce__()
    assert (scale[[1, 3, 4, 6]] == 0).all() and (coef[:, [1, 3, 4, 6]] == 0).all()
    few = np.arange(5, dtype=np.uint32)
    of_rows = _core.feature_scaling(x, few, scaling=scaling)
    assert of_rows.constant.tolist() == [1, 3, 4, 6] and of_rows.mean_variance > 0


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_float16_and_banks_are_judged_alike(tmp_path, dtype):
    rng = np.random.default_rng(4)
    x = rng.normal(size=(300, 9)).astype(dtype)
    y = (np.arange(300) % 2).astype(np.uint32)
    x[:, 2], x[:, 5] = 1000.5, 0
    x[:, 7] = 1024 + np.arange(300) % 2  # two neighbours in float16, each meant
    rows = np.arange(300, dtype=np.uint32)
    samples = pl.DataFrame({"row": rows, "split": "train", "sample_id": rows.astype(str), "label": y})
    header = {"encoder": "none", "data": "none", "class_names": ["a", "b"]}
    stored = FeatureBank.create(tmp_path / "bank", header, samples, n_features=9, dtype=np.dtype(dtype).name)
    with stored.writer("a") as writer:
        writer.append(rows.astype(np.uint64), x)
    bank = _core.Bank.open(tmp_path / "bank")
    for features in (x, bank):
        moments = _core.Moments(9, 2, shift=_core.choose_shift(features, rows))
        moments.update(features, y, rows, np.zeros(300, np.uint8))
        assert moments.design(scaling="standardize").constant.tolist() == [2, 5]
        assert _core.feature_scaling(features, rows[:8], scaling="standardize").constant.tolist() == [2, 5]


@pytest.mark.parametrize("scaling", ["none", "standardize", "minmax"])
def test_the_mean_variance_is_that_of_the_features_that_are_kept(scaling):
    rng = np.random.default_rng(5)
    x = (rng.normal(size=(400, 6)) * [1, 2, 3, 4, 5, 6] + 9).astype(np.float32)
    y = (np.arange(400) % 2).astype(np.uint32)
    width = {"none": 1.0, "standardize": x.std(0, dtype=np.float64), "minmax": np.ptp(x, 0)}[scaling]
    expected = (x.var(0, dtype=np.float64) / np.square(width)).mean()
    with_constants = np.c_[x, np.full((400, 4), 3.0, np.float32)]
    for features in (x, with_constants):
        design = design_of(features, y, scaling=scaling)
        # scales are float32
        assert design.mean_variance == pytest.approx(expected, rel=1e-6)
        few = np.arange(5, dtype=np.uint32)
        unit = _core.feature_scaling(features, few, scaling=scaling).mean_variance
        width = {"none": 1.0, "standardize": x[:5].std(0, dtype=np.float64), "minmax": np.ptp(x[:5], 0)}[scaling]
        assert unit == pytest.approx((x[:5].var(0, dtype=np.float64) / np.square(width)).mean(), rel=1e-6)
    nothing = design_of(np.full((400, 3), 2.5, np.float32), y, scaling=scaling)
    assert nothing.mean_variance == 0 and nothing.constant.tolist() == [0, 1, 2]
    with pytest.raises(ParameterError, match="scaling must be"):
        _core.feature_scaling(x, few, scaling="wide")
    with pytest.raises(ParameterError, match="no rows"):
        _core.feature_scaling(x, few[:0], scaling="none")
