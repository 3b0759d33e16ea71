"""The decomposition against scikit-learn, its identities, and its two kinds of input."""

import numpy as np
import polars as pl
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler
from ssl_risk_rs import FeatureBank, ParameterError, ShapeError, _core
from ssl_risk_rs.decomposition import Settings, decompose, make_task
from ssl_risk_rs.protocols import strict
from ssl_risk_rs.uncertainty import COMPONENTS, components, quantify

FAST = {"n_threads": 1, "tol": 1e-2}


@pytest.fixture(scope="module")
def digits():
    """X_train (1200, 64), y_train, X_test (597, 64), y_test: every third image is a test image."""
    x, y = load_digits(return_X_y=True)
    x = x.astype(np.float32)
    test = np.arange(len(x)) % 3 == 2
    return x[~test], y[~test], x[test], y[test]


@pytest.fixture(scope="module")
def small(digits):
    """Some of the digits with fewer features, so that errors are many."""
    x, y, xt, yt = digits
    return x[:600, ::3].copy(), y[:600], xt[:300, ::3].copy(), yt[:300]


@pytest.fixture(scope="module")
def logistic(digits):
    return decompose(*digits, n_threads=1)


@pytest.fixture(scope="module")
def ridge(small):
    return decompose(*small, probe="ridge", n_threads=1)


def standardized(digits):
    x, y, xt, yt = digits
    scaler = StandardScaler().fit(x.astype(np.float64))
    return scaler.transform(x), y, scaler.transform(xt), yt


def inside(result, quantity, value):
    e = result.uncertainty.estimates[quantity]
    return e.low <= value <= e.high


def test_logistic_risks_are_those_of_scikit_learn(digits, logistic):
    x, y, xt, yt = standardized(digits)
    alpha = logistic.alphas["tuned"]
    other = LogisticRegression(C=1 / (len(x) * alpha), tol=1e-6, max_iter=5000).fit(x, y)
    risk = 1 - other.score(xt, yt)
    assert inside(logistic, "risk_us", risk)
    assert abs(logistic.estimate("risk_us") - risk) <= 2.5 / len(xt)  # rows on the boundary at tol = 1e-3
    other = LogisticRegression(C=1 / (len(x) * 1e-5), tol=1e-6, max_iter=5000).fit(x, y)
    risk = 1 - other.score(x, y)
    assert inside(logistic, "risk_af", risk)
    assert abs(logistic.estimate("risk_af") - risk) <= 2.5 / len(x)
    assert logistic.converged
    assert {f.stop for f in logistic.fits} <= {"certified", "estimated"}


def test_ridge_risks_are_those_of_scikit_learn(small, ridge):
    x, y, xt, yt = standardized(small)
    alpha = ridge.alphas["tuned"]
    targets = np.eye(10)[y]

    def wrong(alpha, x_judged, y_judged):
        fit = Ridge(alpha=alpha * len(x), solver="svd").fit(x, targets)
        return (fit.predict(x_judged).argmax(1) != y_judged).mean()

    # closed form: only rows with two equal scores in float32 may differ
    assert abs(ridge.estimate("risk_us") - wrong(alpha, xt, yt)) <= 1 / len(xt)
    assert abs(ridge.estimate("risk_af") - wrong(1e-5, x, y)) <= 1 / len(x)
    assert inside(ridge, "risk_us", wrong(alpha, xt, yt))


def test_ridge_judges_a_sample_of_large_folds_and_training_sets(small, ridge, monkeypatch):
    from ssl_risk_rs import protocols

    monkeypatch.setattr(protocols, "MAX_TUNING_ROWS", 50)
    monkeypatch.setattr(protocols, "MAX_SENSITIVITY_ROWS", 100)
    sampled = decompose(*small, probe="ridge", **FAST)
    assert 0 < sampled.outcomes["tuning_errors"].max() <= 5 * 50 < ridge.sizes["train"]
    assert sampled.estimate("risk_af") == ridge.estimate("risk_af")  # the risks themselves rest on all rows
    assert abs(sampled.sensitivity - ridge.sensitivity) < 0.2


def test_one_fold_is_judged_and_one_subset_held_out_where_a_fit_is_long(small, monkeypatch):
    from ssl_risk_rs import protocols

    monkeypatch.setattr(protocols, "ONE_FOLD_PRODUCTS", 1)
    monkeypatch.setattr(protocols, "ONE_SUBSET_PRODUCTS", 1)
    result = decompose(*small, **FAST)
    assert result.sizes["folds_judged"] == 1 and result.sizes["subsets"] == 1
    assert any("tuned on 1 of 5 folds" in note for note in result.notes)
    assert {f.role for f in result.fits} >= {"fold_0", "complement_0", "full", "floor_above", "floor"}
    assert "fold_1" not in {f.role for f in result.fits}
    asked = decompose(*small, tuning_folds=2, n_subsets=2, **FAST)
    assert asked.sizes["folds_judged"] == 2 and asked.sizes["subsets"] == 2


@pytest.mark.parametrize(
    ("errors", "past"),
    [([30], False), ([30, 20, 25], False), ([30, 20, 25, 26], True), ([300, 400], True), ([300, 340], False)],
)
def test_weaker_penalties_are_left_out_past_the_valley(errors, past):
    from ssl_risk_rs.protocols import _past_the_valley

    assert _past_the_valley(errors) is past


@pytest.mark.parametrize("which", ["logistic", "ridge"])
def test_components_sum_to_the_aggregated_risk(which, request):
    result = request.getfixturevalue(which)
    total = sum(result.estimate(name) for name in components(supervised=False))
    assert abs(total - result.estimate("agg_risk")) <= 1e-12
    assert result.estimate("agg_risk") == result.estimate("risk_us")
    split = result.estimate("enc_gen_equal_labels") + result.estimate("label_count")
    assert abs(split - result.estimate("enc_gen")) <= 1e-12
    # the point estimates are counts of the recorded rows
    assert result.estimate("risk_us") == pytest.approx((result.outcomes["us_rank"] > 0).mean(), abs=1e-12)
    assert result.estimate("risk_af") == pytest.approx((result.outcomes["af_rank"] > 0).mean(), abs=1e-12)
    frame = result.components
    assert frame["component"].to_list() == components(supervised=False, detail=True)
    assert (frame["low"] <= frame["estimate"]).all() and (frame["estimate"] <= frame["high"]).all()
    assert result.risks["risk"].to_list() == ["risk_af", "risk_as", "risk_cs", "risk_us"]


def test_splits_follow_sample_ids_not_row_order(small):
    x, y, xt, yt = small
    rng = np.random.default_rng(0)
    order, order_test = rng.permutation(len(x)), rng.permutation(len(xt))
    ids = [f"image-{i}" for i in range(len(x) + len(xt))]
    shuffled = [ids[i] for i in order] + [ids[len(x) + i] for i in order_test]
    a = decompose(x, y, xt, yt, probe="ridge", sample_ids=ids, n_threads=1)
    b = decompose(x[order], y[order], xt[order_test], yt[order_test], probe="ridge", sample_ids=shuffled, n_threads=1)
    assert a.alphas["tuned"] == b.alphas["tuned"]
    for j in range(3):  # the same images are held out
        assert {ids[r] for r in a.outcomes[f"as_{j}_row"]} == {shuffled[r] for r in b.outcomes[f"as_{j}_row"]}
    for name in ("risk_af", "risk_as", "risk_cs", "risk_us"):  # ridge: rows tied within float32 may flip
        assert abs(a.estimate(name) - b.estimate(name)) <= 1 / len(xt)
    other = decompose(x, y, xt, yt, probe="ridge", sample_ids=ids, seed=1, n_threads=1)
    assert set(other.outcomes["as_0_row"]) != set(a.outcomes["as_0_row"])


def test_tuning_never_sees_the_rows_that_are_judged(small, monkeypatch):
    task = make_task(*small, None)
    judged_while_tuning, real = [], _core.judge
    tuning = True

    def say(message):
        nonlocal tuning
        tuning = tuning and not message.startswith("complement")

    def judge(features, rows, labels, probes, **options):
        if tuning:
            judged_while_tuning.append(np.array(rows))
        return real(features, rows, labels, probes, **options)

    monkeypatch.setattr(_core, "judge", judge)
    result = strict(task, None, Settings(probe="ridge", n_threads=1), say)
    seen = set(np.concatenate(judged_while_tuning))
    held_out = {int(r) for j in range(3) for r in result.records[f"as_{j}_row"]}
    assert seen and held_out
    assert seen.isdisjoint(held_out) and seen.isdisjoint(task.test_rows)
    assert seen | held_out == set(task.train_rows)
    fold_sizes = {f.n for f in result.fits if f.role.startswith("fold_")}
    assert max(fold_sizes) < len(task.train_rows) - len(held_out)
    sizes = [len(result.records[f"as_{j}_row"]) for j in range(3)]
    assert sum(sizes) == len(held_out) <= 0.2 * len(task.train_rows)  # disjoint


def test_a_supervised_twin_splits_the_first_row(small):
    x, y, xt, yt = small
    twin = np.hstack([x, np.eye(10, dtype=np.float32)[y] * 3])  # knows the labels: separates
    result = decompose(x, y, xt, yt, supervised=twin, probe="ridge", n_threads=1)
    assert result.supervised and result.estimate("approx") == result.estimate("risk_sup") == 0
    names = components(supervised=True)
    assert names == ["approx", "usability", "probe_gen", "enc_gen"]
    total = sum(result.estimate(name) for name in names)
    assert abs(total - result.estimate("agg_risk")) <= 1e-12
    assert result.estimate("usability") == pytest.approx(result.estimate("risk_af"))
    assert any(f.role == "supervised_floor" for f in result.fits)
    own = decompose(x, y, xt, yt, supervised=x, probe="ridge", n_threads=1)
    assert own.estimate("usability") == 0  # the same features approximate equally well


def test_a_control_is_decomposed_on_the_same_splits(small):
    x, y, xt, yt = small
    result = decompose(x, y, xt, yt, control=(x[:, :9].copy(), xt[:, :9].copy()), probe="ridge", n_threads=1)
    blind = result.control
    assert blind is not None and blind.estimate("agg_risk") > result.estimate("agg_risk")
    assert np.array_equal(blind.outcomes["as_1_row"], result.outcomes["as_1_row"])
    same = decompose(x, y, xt, yt, control=(x, xt), probe="ridge", n_threads=1)
    assert same.control.estimate("enc_gen") == same.estimate("enc_gen")


def test_float16_and_float32_agree(small):
    x, y, xt, yt = small  # grey values 0 to 16: float16 holds them exactly
    a = decompose(x, y, xt, yt, **FAST)
    b = decompose(x.astype(np.float16), y, xt.astype(np.float16), yt, **FAST)
    for name in ("risk_af", "risk_as", "risk_cs", "risk_us"):
        assert a.estimate(name) == b.estimate(name)
    assert a.alphas == b.alphas
    wide = decompose(x.astype(np.float64), y, xt, yt, **FAST)
    assert wide.estimate("risk_us") == a.estimate("risk_us")


@pytest.fixture
def bank(small, tmp_path):
    """The digits as a bank whose keys are those of arrays."""
    x, y, xt, yt = small
    n = len(x) + len(xt)
    samples = pl.DataFrame(
        {
            "row": np.arange(n, dtype=np.uint64),
            "split": ["train"] * len(x) + ["test"] * len(xt),
            "sample_id": [str(i) for i in range(n)],
            "label": np.concatenate([y, yt]).astype(np.int64),
        }
    )
    header = {"data_fingerprint": "arrays", "class_names": [str(c) for c in range(10)]}
    bank = FeatureBank.create(tmp_path / "bank", header, samples, n_features=x.shape[1], dtype="float32")
    with bank.writer() as writer:  # out of order, in two blocks
        rows = np.random.default_rng(0).permutation(n).astype(np.uint64)
        features = np.vstack([x, xt])
        for part in (rows[:333], rows[333:]):
            writer.append(part, features[part])
    return FeatureBank.open(tmp_path / "bank")


@pytest.mark.parametrize("probe", ["ridge", "logistic"])
def test_a_bank_gives_the_numbers_of_arrays(small, bank, probe):
    a = decompose(*small, probe=probe, **FAST)
    b = decompose(bank, probe=probe, **FAST)
    assert a.risks.equals(b.risks) and a.components.equals(b.components)
    assert a.alphas == b.alphas
    assert np.array_equal(a.outcomes["us_predicted"], b.outcomes["us_predicted"])


def test_banks_serve_as_twin_and_control(bank):
    result = decompose(bank, supervised=bank, control=bank, probe="ridge", n_threads=1)
    assert result.estimate("usability") == 0
    assert result.control.estimate("enc_gen") == result.estimate("enc_gen")
    with pytest.raises(ParameterError, match="holds its labels"):
        decompose(bank, np.zeros(5))


def test_missing_pieces_are_named(small):
    x, y, xt, yt = small
    with pytest.raises(ParameterError, match="all four"):
        decompose(x, y)
    with pytest.raises(ShapeError, match="y_train has 599 labels, X_train has 600 rows"):
        decompose(x, y[:-1], xt, yt)
    with pytest.raises(ShapeError, match="features"):
        decompose(x, y, xt[:, 1:], yt)
    with pytest.raises(ShapeError, match="sample_ids has 3"):
        decompose(x, y, xt, yt, sample_ids=["a", "b", "c"])
    with pytest.raises(ShapeError, match="supervised has 5 rows, expected 600"):
        decompose(x, y, xt, yt, supervised=x[:5])
    with pytest.raises(ShapeError, match="control_test has 2 rows"):
        decompose(x, y, xt, yt, control=(x, xt[:2]))
    with pytest.raises(ShapeError, match=r"shape \(600,\)"):
        decompose(x[:, 0], y, xt, yt)
    with pytest.raises(ParameterError, match="1 class"):
        decompose(x, np.zeros(600), xt, yt)
    with pytest.raises(ParameterError, match="dtype"):
        decompose(x.astype(str), y, xt, yt)
    with pytest.raises(ParameterError, match="fewer than the 10 classes"):
        decompose(x[:60], y[:60], xt, yt)
    with pytest.raises(ParameterError, match="both are needed"):
        decompose(x, y, xt[:0], yt[:0])
    with pytest.raises(TypeError, match="flavour"):
        decompose(x, y, xt, yt, flavour="mild")


@pytest.mark.parametrize(
    "option",
    [
        {"probe": "tree"},
        {"protocol": "lax"},
        {"n_subsets": 4},
        {"n_folds": 1},
        {"confidence": 1.0},
        {"floor": 0.0},
        {"scaling": "whiten"},
        {"n_threads": 0},
    ],
)
def test_settings_out_of_range_are_refused(small, option):
    with pytest.raises(ParameterError):
        decompose(*small, **option)


@pytest.mark.parametrize("where", ["train", "test"])
def test_rows_with_nan_are_named_and_never_judged_correct(small, where):
    x, y, xt, yt = (np.copy(part) for part in small)
    (x if where == "train" else xt)[7, 2] = np.nan
    row = 7 if where == "train" else 607
    with pytest.raises(ParameterError, match=f"row {row}, feature 2"):
        decompose(x, y, xt, yt, probe="ridge", n_threads=1)


@pytest.mark.parametrize("probe", ["ridge", "logistic"])
def test_the_protocol_of_the_paper_is_stamped_and_uncorrected(small, probe):
    x, y, xt, yt = small
    result = decompose(x / 16, y, xt[:200] / 16, yt[:200], protocol="paper", probe=probe, **FAST)
    assert any("protocol of the paper" in note and "optimistic" in note for note in result.notes)
    assert result.uncertainty.beta == 0
    assert set(result.alphas) == {"tuned_af", "tuned_as", "tuned_us"}
    assert result.sizes["subset"] == 200 and result.sizes["subsets"] == 1
    total = sum(result.estimate(name) for name in components(supervised=False))
    assert abs(total - result.estimate("agg_risk")) <= 1e-12
    # without a correction the risk is the class-weighted error of the subset rows
    wrong, rows = result.outcomes["as_0_rank"] > 0, result.outcomes["as_0_row"]
    shares = np.bincount(y, minlength=10) / len(y)
    expected = sum(shares[c] * wrong[y[rows] == c].mean() for c in range(10))
    assert result.estimate("risk_as") == pytest.approx(expected, abs=1e-12)
    with pytest.raises(ParameterError, match="use --protocol strict"):
        decompose(x[:300], y[:300], xt, yt, protocol="paper")


def outcomes(seed=0, n=3000, n_test=900, k=6):
    """Coded errors with the dependence of real ones: rows have difficulties, probes share them."""
    rng = np.random.default_rng(seed)
    labels, test_labels = (rng.integers(0, k, m).astype(np.uint32) for m in (n, n_test))

    def bits(labels, rates):
        hard = rng.random(len(labels)) + 0.05 * labels
        noise = [rng.normal(0, 0.05, len(labels)) for _ in rates]
        return sum(((hard + e > 1 - r) << i) for i, (r, e) in enumerate(zip(rates, noise, strict=True))).astype(
            np.uint8
        )

    return {
        "train": bits(labels, (0.02, 0.05, 0.12, 0.18)),
        "train_labels": labels,
        "in_subset": rng.random(n) < 0.2,
        "test": bits(test_labels, (0.2, 0.21, 0.2, 0.22)),
        "test_labels": test_labels,
    }


@pytest.mark.parametrize("control_variate", [False, True])
def test_closed_form_and_bootstrap_agree(control_variate):
    coded = outcomes()
    closed = _core.risk_covariance(coded, n_subsets=3, control_variate=control_variate)
    draws = _core.bootstrap_risks(coded, n_subsets=3, control_variate=control_variate, n_resamples=4000, seed=1)
    assert draws.shape == (4000, 5)
    assert (closed["beta"] != 0) == control_variate
    for name, c in COMPONENTS.items():
        c = np.array(c, float)
        se = np.sqrt(c @ closed["covariance"] @ c)
        values = draws @ c
        # the error of a standard deviation from 4000 draws is 1.1 %, five of them; and β is fitted anew
        assert abs(values.std(ddof=1) / se - 1) < 0.06, name
        assert abs(values.mean() - c @ closed["risks"]) < 5 * se / np.sqrt(4000) + 1e-4, name
    again = _core.bootstrap_risks(coded, n_subsets=3, control_variate=control_variate, n_resamples=4000, seed=1)
    assert np.array_equal(draws, again)


def test_intervals_follow_their_settings():
    coded = outcomes()
    options = {"n_subsets": 3, "supervised": True}
    plain = quantify(coded, control_variate=False, **options).estimates
    corrected = quantify(coded, control_variate=True, **options).estimates
    wide = quantify(coded, control_variate=True, confidence=0.99, **options).estimates
    random = quantify(coded, control_variate=True, random_counts=True, **options).estimates
    assert corrected["risk_as"].se < plain["risk_as"].se  # what the correction is for
    for name, e in corrected.items():
        assert e.low <= e.estimate <= e.high, name
        assert wide[name].low <= e.low and e.high <= wide[name].high, name
    assert random["risk_us"].se > corrected["risk_us"].se  # classes differ in difficulty here
    with pytest.raises(ShapeError):
        quantify({**coded, "train_labels": coded["train_labels"][1:]}, control_variate=True, **options)
    with pytest.raises(ParameterError):
        quantify({**coded, "in_subset": np.zeros(3000, bool)}, control_variate=True, **options)
