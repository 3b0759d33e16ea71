"""Every statistic against its definition, and what is undefined is said."""

import math

import numpy as np
import polars as pl
import pytest
import scipy.optimize
from reference import geometry as reference
from ssl_risk_rs import stats
from ssl_risk_rs.bank import FeatureBank
from ssl_risk_rs.errors import ParameterError, ShapeError
from ssl_risk_rs.geometry import STATISTICS, Direction, Needs, SampleRows, formulas, geometry_frame, linear_cka
from ssl_risk_rs.geometry.formulas import fit_range
from ssl_risk_rs.geometry.result import Agreement
from ssl_risk_rs.probes.features import Features

#: float64 in another order; a spectrum's square root keeps half of the digits
REL = 1e-6
BY_ROWS = ("effective_rank", "effective_dim", "rank_z", "rankme", "uniformity")
BY_CLASSES = ("intra_var", "inter_var", "class_alignment", "nc1", "class_mean_coherence", "h_score", "logme")


def world(n, d, k, *, mean=0.0, seed=0, dtype=np.float32):
    """Correlated features with classes that lie apart, unequal in size."""
    rng = np.random.default_rng(seed)
    y = rng.choice(k, n, p=np.arange(1, k + 1) / (k * (k + 1) / 2))
    y[:k] = np.arange(k)
    mix = rng.standard_normal((d, d)) * np.arange(1, d + 1) ** -0.7
    z = (rng.standard_normal((n, d)) + rng.standard_normal((k, d))[y]) @ mix + mean
    return z.astype(dtype), y


@pytest.mark.parametrize(
    ("n", "d", "k", "mean", "dtype"),
    [
        (120, 24, 4, 0.0, np.float32),
        (150, 40, 3, 3.0, np.float16),
        (30, 50, 3, 0.5, np.float32),  # fewer rows than features
        (90, 9, 6, 40.0, np.float32),  # far from the origin
    ],
)
def test_statistics_are_those_of_the_definitions(n, d, k, mean, dtype):
    z, y = world(n, d, k, mean=mean, dtype=dtype)
    found = stats(z, y)
    for name in BY_ROWS:
        assert found.value(name) == pytest.approx(getattr(reference, name)(z), rel=REL), name
    for name in BY_CLASSES:
        if name == "logme" and n < d:
            continue  # no maximum: see below
        assert found.value(name) == pytest.approx(getattr(reference, name)(z, y), rel=REL), name
    first, last = fit_range(min(d, n - 1))
    assert found.statistic("alpha").detail.startswith(f"eigenvalues {first} to {last}, R² ")
    assert found.value("alpha") == pytest.approx(reference.alpha(z, first, last), rel=REL)
    assert found.value("var_ratio") == pytest.approx(reference.intra_var(z, y) / reference.inter_var(z, y), rel=REL)
    assert found.value("nc1_norm") == pytest.approx(
        reference.nc1(z, y) / math.sqrt(reference.effective_dim(z)), rel=REL
    )
    assert (found.n_rows, found.n_features, found.n_classes, found.n_views) == (n, d, k, 1)
    assert {s.name for s in found.statistics} == {n for n, s in STATISTICS.items() if s.needs is not Needs.VIEWS}


@pytest.mark.parametrize("block", [1, 37, 160, 10_000])
def test_coherence_is_that_of_all_pairs_of_classes(monkeypatch, block):
    means = np.random.default_rng(0).standard_normal((40, 6))
    means[7] = 0
    means[33] = -2 * means[3] + 1e-3
    kept = np.delete(means, 7, 0) / np.linalg.norm(np.delete(means, 7, 0), axis=1, keepdims=True)
    cosines = np.abs(kept @ kept.T)[~np.eye(39, dtype=bool)]
    monkeypatch.setattr(formulas, "COSINES", block)
    assert formulas.coherence(means) == pytest.approx(cosines.max(), rel=1e-12)
    assert math.isnan(formulas.coherence(means[7:9]))


def test_views_against_the_definitions():
    rng = np.random.default_rng(1)
    z, _ = world(200, 12, 4)
    views = [(z + 0.3 * rng.standard_normal(z.shape)).astype(np.float32) for _ in range(3)]
    found = stats(views[0], views=views[1:])
    assert found.n_views == 3
    assert found.value("alignment") == pytest.approx(reference.alignment(views), rel=REL)
    assert found.value("lidar") == pytest.approx(reference.lidar(views), rel=REL)
    stacked, samples = np.concatenate(views), np.tile(np.arange(200), 3)
    assert found.value("view_intra_var") == pytest.approx(reference.intra_var(stacked, samples), rel=REL)
    assert found.value("view_inter_var") == pytest.approx(reference.inter_var(stacked, samples), rel=REL)
    assert found.value("view_nc1") == pytest.approx(reference.nc1(stacked, samples), rel=REL)


def test_nc1_of_balanced_classes_is_that_of_class_averages():
    """The paper averages covariances over classes; pooled over rows they are the same if classes are equal in size."""
    z, _ = world(120, 6, 3)
    y = np.arange(120) % 3
    means = np.array([z[y == c].astype(float).mean(0) for c in range(3)])
    average = np.mean([np.cov(z[y == c].astype(float).T, ddof=0) for c in range(3)], axis=0)
    between = np.cov(means.T, ddof=0)
    expected = np.trace(np.linalg.pinv(between, rcond=0.01, hermitian=True) @ average)
    assert stats(z, y).value("nc1") == pytest.approx(expected, rel=REL)


def test_cka_against_the_definition_and_its_invariances():
    x, _ = world(80, 7, 3)
    y, _ = world(80, 5, 3, seed=2, mean=30.0)
    mixed = (y + x[:, :5]).astype(np.float32)

    def cka(a, b):
        sample = [SampleRows(Features.of_arrays(v), np.arange(len(v), dtype=np.uint32)) for v in (a, b)]
        return linear_cka(*sample)

    assert cka(x, mixed) == pytest.approx(reference.linear_cka(x, mixed), rel=REL)
    rotation, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((7, 7)))
    assert cka(x, (3 * x @ rotation + 1).astype(np.float32)) == pytest.approx(1, abs=1e-6)  # float32 features
    assert math.isnan(cka(x, np.ones((80, 2), np.float32)))
    with pytest.raises(ShapeError, match="of 80 and 79 rows cannot be paired"):
        cka(x, y[1:])


def test_known_spectra_have_known_ranks():
    rng = np.random.default_rng(0)
    basis, _ = np.linalg.qr(rng.standard_normal((400, 8)))
    basis -= basis.mean(0)
    q, _ = np.linalg.qr(basis)
    assert stats(q.astype(np.float32)).value("effective_rank") == pytest.approx(8, rel=1e-6)  # float32 features
    repeated = np.repeat(q[:, :2], 4, axis=1).astype(np.float32)
    found = stats(repeated)
    assert found.value("effective_rank") == pytest.approx(2, rel=1e-5)  # copies: float32 features
    assert (found.value("effective_dim"), found.value("rank_z")) == (2, 2)
    scaled = (q @ np.diag(np.arange(1, 9) ** -0.75)).astype(np.float32)  # eigenvalues j^-1.5
    assert stats(scaled).value("alpha") == pytest.approx(1.5, abs=1e-4)  # float32 features


def test_statistics_do_not_depend_on_threads_and_rows_order():
    z, y = world(3000, 20, 5)
    order = np.random.default_rng(0).permutation(3000)
    one, two, other = stats(z, y, n_threads=1), stats(z, y, n_threads=2), stats(z[order], y[order])
    for s in one.statistics:
        assert two.value(s.name) == pytest.approx(s.value, rel=1e-9), s.name  # sums in another order
        if s.name != "uniformity" or s.n == 3000:
            assert other.value(s.name) == pytest.approx(s.value, rel=1e-6), s.name  # a shift of other rows


def test_uniformity_of_a_sample_says_so_and_is_near_that_of_all():
    z, y = world(3000, 10, 4)
    whole, sample = stats(z, y), stats(z, y, uniformity_rows=1000, seed=3)
    assert whole.statistic("uniformity").detail == "all pairs of 3,000 rows"
    assert sample.statistic("uniformity").detail == "all pairs of 1,000 rows drawn with seed 3"
    assert sample.statistic("uniformity").n == 1000
    assert sample.value("uniformity") == pytest.approx(whole.value("uniformity"), abs=0.1)  # five standard errors
    assert stats(z, y, uniformity_rows=1000, seed=4).value("uniformity") != sample.value("uniformity")


# --- what is not there ---------------------------------------------------------------------------------------


def test_constant_features_change_ranks_by_nothing():
    z, y = world(100, 6, 3)
    padded = np.concatenate([z, np.full((100, 2), 0.3, np.float32), np.zeros((100, 1), np.float32)], axis=1)
    one, other = stats(z, y), stats(padded, y)
    assert (one.constant_features, other.constant_features) == (0, 3)
    for name in ("effective_rank", "effective_dim", "alpha", "intra_var", "inter_var", "nc1", "h_score"):
        assert other.value(name) == pytest.approx(one.value(name), rel=REL), name


def test_constant_representations_have_reasons_not_numbers():
    found = stats(np.full((20, 4), 2.5, np.float32), np.arange(20) % 2)
    assert found.constant_features == 4
    for name in ("effective_rank", "alpha", "nc1", "h_score", "var_ratio", "class_mean_coherence"):
        assert math.isnan(found.value(name)) and found.statistic(name).reason, name
    assert found.value("effective_dim") == 0
    assert (found.value("rank_z"), found.value("uniformity")) == (1, pytest.approx(0, abs=1e-12))  # all alike
    zero = stats(np.zeros((20, 4), np.float32), np.arange(20) % 2)
    assert zero.zero_rows == 20
    for name in ("rankme", "uniformity", "class_alignment", "logme"):
        assert math.isnan(zero.value(name)) and zero.statistic(name).reason, name


def test_one_class_leaves_out_what_compares_classes():
    z, _ = world(50, 5, 2)
    found = stats(z, np.full(50, 7))
    assert found.n_classes == 1
    for name in ("inter_var", "var_ratio", "nc1", "nc1_norm", "class_mean_coherence", "h_score", "logme"):
        assert math.isnan(found.value(name)) and found.statistic(name).reason == "there is one class", name
    assert found.value("intra_var") == pytest.approx(reference.intra_var(z, np.zeros(50)), rel=REL)


def test_one_row_a_class():
    z, _ = world(20, 30, 2)
    found = stats(z, np.arange(20))
    assert found.value("intra_var") == pytest.approx(0, abs=1e-6)  # rows less their shift are float32
    assert found.value("nc1") == pytest.approx(0, abs=1e-6)  # as above
    assert found.value("h_score") == pytest.approx(19, rel=REL)  # its ceiling, k − 1
    assert found.statistic("h_score").detail == "rows are no more than features: the score is at its ceiling"


def test_labels_that_are_fitted_exactly_have_no_evidence():
    z = np.eye(6, dtype=np.float32)
    found = stats(np.repeat(z, 5, axis=0), np.repeat(np.arange(6), 5))
    assert math.isnan(found.value("logme"))
    assert found.statistic("logme").reason == "for 6 of 6 classes the features fit the labels exactly"


def test_rows_of_zeros_are_left_out_of_directions_and_counted():
    z, y = world(60, 5, 3)
    z[::10] = 0
    found = stats(z, y, views=[z])
    assert found.zero_rows == 6
    assert found.value("uniformity") == pytest.approx(reference.uniformity(z), rel=REL)
    assert found.statistic("uniformity").detail == "all pairs of 54 rows, 6 rows of zeros left out"
    assert found.value("class_alignment") == pytest.approx(reference.class_alignment(z, y), rel=REL)
    assert (found.statistic("class_alignment").n, found.statistic("alignment").n) == (54, 54)
    assert found.value("alignment") == pytest.approx(0, abs=1e-12)  # equal views


def test_what_cannot_be_measured_is_named():
    z, y = world(40, 5, 3)
    with pytest.raises(ParameterError, match="needs labels, which were not given"):
        stats(z).value("nc1")
    with pytest.raises(ParameterError, match="there is no statistic 'rang'"):
        stats(z).value("rang")
    with pytest.raises(ParameterError, match="need at least two"):
        stats(z[:1], y[:1])
    with pytest.raises(ShapeError, match="y has 39 labels, features have 40 rows"):
        stats(z, y[1:])
    with pytest.raises(ShapeError, match="a view has 39 rows, the first has 40"):
        stats(z, views=[z[1:]])
    with pytest.raises(ShapeError, match=r"views have \[4, 5\] features"):
        stats(z, views=[z[:, 1:]])
    with pytest.raises(ParameterError, match="arrays have no splits"):
        stats(z, y, split="test")
    with pytest.raises(ParameterError, match="uniformity_rows must be at least 2"):
        stats(z, uniformity_rows=1)
    z[17, 3] = np.nan
    with pytest.raises(ParameterError, match="row 17, feature 3 is NaN"):
        stats(z, y)


# --- banks and frames -----------------------------------------------------------------------------------------


def test_a_bank_is_measured_by_split(tmp_path):
    z, y = world(90, 6, 3)
    samples = pl.DataFrame(
        {
            "row": range(90),
            "split": ["train"] * 60 + ["test"] * 30,
            "sample_id": [str(i) for i in range(90)],
            "label": y,
        }
    )
    bank = FeatureBank.create(
        tmp_path / "bank", {"encoder": "e", "data_name": "d"}, samples, n_features=6, dtype="float32"
    )
    with bank.writer() as writer:
        writer.append(np.arange(90, dtype=np.uint64), z)
    bank = FeatureBank.open(bank.path)
    for split, rows in (("train", slice(0, 60)), ("test", slice(60, 90)), ("all", slice(0, 90))):
        found, plain = stats(bank, split=split), stats(z[rows], y[rows])
        assert (found.name, found.data, found.split) == ("e", "d", split)
        for s in plain.statistics:
            assert found.value(s.name) == pytest.approx(s.value, rel=REL), s.name
    with pytest.raises(ParameterError, match="holds its labels"):
        stats(bank, y)


def test_the_frame_has_a_row_for_each_statistic():
    z, y = world(60, 5, 1)
    found = stats(z, y, name="a")
    assert geometry_frame(found).equals(geometry_frame([found]))
    frame = geometry_frame([found], [Agreement("a", "b", "rows", "train", 0.5, 60)])
    assert frame.height == len(found.statistics) + 1
    assert frame.columns == [
        "encoder", "data", "split", "statistic", "value", "n", "n_features", "n_classes", "n_views", "better",
        "larger_means", "detail", "reason", "other",
    ]  # fmt: skip
    undefined = frame.filter(pl.col("statistic") == "nc1").row(0, named=True)
    assert (undefined["value"], undefined["reason"], undefined["better"]) == (None, "there is one class", "smaller")
    pair = frame.filter(pl.col("statistic") == "linear_cka").row(0, named=True)
    assert (pair["encoder"], pair["other"], pair["value"]) == ("a", "b", 0.5)
    assert found.frame().equals(frame.head(len(found.statistics)))
    assert np.all(np.diff(found.spectrum) <= 0)
    assert all(s.better in Direction for s in STATISTICS.values())


@pytest.mark.parametrize("offset", [100, 1000, 3000])
def test_the_evidence_is_that_of_the_best_of_several_maxima(offset):
    """Against a search over both precisions; a rare class and a mean make a maximum at w = 0 beside another."""
    rng = np.random.default_rng(3)
    y = rng.choice(4, 300, p=[0.6, 0.3, 0.09, 0.01])
    z = (rng.standard_normal((4, 20))[y] + rng.standard_normal((300, 20))).astype(np.float32) + np.float32(offset)
    wide = z.astype(np.float64)
    values, vectors = np.linalg.eigh(wide.T @ wide)

    def evidence(c: int) -> float:
        target = (y == c).astype(float)
        along = vectors.T @ (wide.T @ target)

        def best_at(log_t: float) -> float:
            t = math.exp(log_t)
            w = along / (t + values)
            left = target @ target - 2 * w @ along + w @ (values * w) + t * (w @ w)
            return 0.5 * (np.log(t / (t + values)).sum() - 300 * (np.log(2 * math.pi * left / 300) + 1)) / 300

        grid = np.linspace(math.log(1e-8), math.log(1e14), 2001)
        near = grid[int(np.argmax([best_at(t) for t in grid]))]
        return -scipy.optimize.minimize_scalar(lambda t: -best_at(t), bounds=(near - 0.1, near + 0.1), method="bounded",
                                               options={"xatol": 1e-9}).fun  # fmt: skip

    # from 1000 on the best ratio of precisions is below 1e-10 of the largest eigenvalue
    assert stats(z, y).value("logme") == pytest.approx(np.mean([evidence(c) for c in range(4)]), abs=1e-6)


@pytest.mark.parametrize("scatter", [1e-2, 1e-4, 1e-5])
def test_classes_may_be_tight(scatter):
    """As where they collapse: Σ ‖x − c‖² about one centre for all lost what lies within."""
    rng = np.random.default_rng(1)
    y = np.arange(400) % 4
    z = (rng.standard_normal((4, 32))[y] + scatter * rng.standard_normal((400, 32))).astype(np.float32)
    wide = z.astype(float)
    within = np.mean([((wide[y == c] - wide[y == c].mean(0)) ** 2).sum(1).mean() for c in range(4)])
    assert stats(z, y).value("intra_var") == pytest.approx(within, rel=1e-8)


def test_a_class_that_features_tell_nothing_of_has_the_evidence_of_no_weights():
    rng = np.random.default_rng(5)
    z = rng.standard_normal((400, 3)).astype(np.float32)
    z = np.concatenate([z, -z])  # class means are 0: w = 0 is best
    y = np.tile(np.repeat([0, 1], 200), 2)
    variance = 0.5  # of y about 0
    expected = -0.5 * (math.log(2 * math.pi * variance) + 1)
    assert stats(z, y).value("logme") == pytest.approx(expected, rel=REL)


def test_statistics_print_as_lines():
    """They printed as the fields of a dataclass."""
    rng = np.random.default_rng(0)
    found = stats(rng.standard_normal((60, 4)).astype(np.float32), np.zeros(60, int))
    head, *lines = str(found).splitlines()
    assert repr(found) == f"<Geometry of {head}>" and head.endswith(": 60 rows, 4 features")
    assert len(lines) == len(found.statistics)
    (effective,) = (line for line in lines if line.startswith("  effective rank "))
    assert float(effective.split()[-1]) == pytest.approx(found.value("effective_rank"), rel=1e-3)
    assert any(s.reason and line.endswith(s.reason) for s, line in zip(found.statistics, lines, strict=True))
