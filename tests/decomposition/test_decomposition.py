"""The decomposition against scikit-learn, its identities, and its two kinds of input."""

import warnings
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler
from ssl_risk_rs import DataError, FeatureBank, ParameterError, ShapeError, _core, load_features, stats
from ssl_risk_rs.decomposition import Settings, cells, decompose, decompose_task, decomposing, make_task, tuning
from ssl_risk_rs.decomposition.again import settings_like
from ssl_risk_rs.decomposition.settings import products_of_pass
from ssl_risk_rs.report.sentences import notes
from ssl_risk_rs.results import Grade, Provenance
from ssl_risk_rs.results.quantities import components

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
    e = result.estimates[quantity]
    return e.low <= value <= e.high


def test_logistic_risks_are_those_of_scikit_learn(digits, logistic):
    x, y, xt, yt = standardized(digits)
    alpha = logistic.penalties["tuned"].value
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


def test_large_fits_at_the_floor_end_by_the_training_error():
    """From 1e8 products on, unless a tolerance is asked for; and R_AF is that of the minimum to 0.05 points."""
    rng = np.random.default_rng(3)
    n, d, k = 18_000, 128, 64
    y = rng.integers(0, k, n)
    modes = rng.normal(0, 0.4, (k, 3, d)) + rng.normal(0, 0.15, (k, 1, d))
    spread = np.exp(0.5 * rng.normal(size=(k, d)))[y] * np.exp(0.4 * rng.normal(size=(n, 1)))
    x = np.maximum(modes[y, rng.integers(0, 3, n)] + rng.normal(size=(n, d)) * spread, 0).astype(np.float32)
    arrays, how = (x[:16_500], y[:16_500], x[16_500:], y[16_500:]), {"tuning_folds": 1, "n_subsets": 1, "n_threads": 2}
    by_error, by_tol = decompose(*arrays, **how), decompose(*arrays, tol=1e-4, **how)
    assert by_error.method.error_tol == 2.5e-4 and by_tol.method.error_tol is None
    ended = {f.role: f.stop for f in by_error.fits}
    assert ended["floor"] == "error_estimated"
    assert {role for role, stop in ended.items() if stop == "error_estimated"} <= {"floor_above", "floor"}
    for other in ({"metrics": "log_loss"}, {"order": "both"}, {"probe": "ridge"}, {"protocol": "paper"}):
        settings = Settings(**other)  # they want more than the training error of the floor, or have none
        assert decomposing._method(make_task(*arrays), settings).error_tol is None, other
    assert "error_estimated" not in {f.stop for f in by_tol.fits}
    assert abs(by_error.estimate("risk_af") - by_tol.estimate("risk_af")) <= 5e-4
    assert sum(f.passes for f in by_error.fits) < sum(f.passes for f in by_tol.fits) and by_error.converged
    assert "stopped where the training error stands still" in str(by_error)


def test_ridge_risks_are_those_of_scikit_learn(small, ridge):
    x, y, xt, yt = standardized(small)
    alpha = ridge.penalties["tuned"].value
    targets = np.eye(10)[y]

    def wrong(alpha, x_judged, y_judged):
        fit = Ridge(alpha=alpha * len(x), solver="svd").fit(x, targets)
        return (fit.predict(x_judged).argmax(1) != y_judged).mean()

    # closed form: only rows with two equal scores in float32 may differ
    assert abs(ridge.estimate("risk_us") - wrong(alpha, xt, yt)) <= 1 / len(xt)
    assert abs(ridge.estimate("risk_af") - wrong(1e-5, x, y)) <= 1 / len(x)
    assert inside(ridge, "risk_us", wrong(alpha, xt, yt))


def test_ridge_judges_a_sample_of_large_folds_and_training_sets(small, ridge, monkeypatch):
    from ssl_risk_rs.decomposition import fitting

    monkeypatch.setattr(tuning, "MAX_TUNING_ROWS", 50)
    monkeypatch.setattr(fitting, "MAX_PRINTED_ROWS", 100)
    sampled = decompose(*small, probe="ridge", **FAST)
    assert 0 < max(sampled.penalties["tuned"].errors) <= 5 * 50 < ridge.sizes.train
    assert sampled.estimate("risk_af") == ridge.estimate("risk_af")  # the risks themselves rest on all rows
    assert abs(sampled.floor.risk_above - ridge.floor.risk_above) < 0.2


def test_one_fold_is_judged_and_one_subset_held_out_where_a_fit_is_long(small, monkeypatch):
    monkeypatch.setattr(cells, "MIDPOINT_PRODUCTS", 1)
    monkeypatch.setattr(cells, "ONE_FOLD_PRODUCTS", 1)
    monkeypatch.setattr(cells, "ONE_SUBSET_PRODUCTS", 1)
    result = decompose(*small, **FAST)
    assert result.sizes.folds_judged == 1 and result.sizes.subsets == 1
    (note,) = (note for note in result.notes if note.code == "few_folds_judged")
    assert note.values == {"judged": 1, "folds": 5} and "1 of 5 folds" in note.sentence()
    assert any(note.code == "no_probe_variation" for note in result.notes)
    assert "risk_af_midpoint" not in result.estimates  # it would cost one more path to the floor
    assert {f.role for f in result.fits} >= {"fold_0", "complement_0", "full", "floor_above", "floor"}
    assert "fold_1" not in {f.role for f in result.fits}
    asked = decompose(*small, tuning_folds=2, n_subsets=2, **FAST)
    assert asked.sizes.folds_judged == 2 and asked.sizes.subsets == 2


@pytest.mark.parametrize("which", ["logistic", "ridge"])
def test_components_sum_to_the_aggregated_risk(which, request):
    result = request.getfixturevalue(which)
    total = sum(result.estimate(name) for name in components(supervised=False))
    assert abs(total - result.estimate("agg_risk")) <= 1e-12
    assert result.estimate("agg_risk") == result.estimate("risk_us")
    split = result.estimate("enc_gen_equal_labels") + result.estimate("label_count")
    assert abs(split - result.estimate("enc_gen")) <= 1e-12
    # the point estimates are counts of the recorded rows
    assert result.estimate("risk_us") == pytest.approx(result.judgements.us.wrong.mean(), abs=1e-12)
    assert result.estimate("risk_af") == pytest.approx(result.judgements.af.wrong.mean(), abs=1e-12)
    frame = result.components
    shown = [*components(supervised=False), "enc_gen_equal_labels", "label_count", "agg_risk"]
    assert frame["component"].to_list() == shown
    assert (frame["low"] <= frame["estimate"]).all() and (frame["estimate"] <= frame["high"]).all()
    assert result.risks["risk"].to_list() == [
        "risk_af", "risk_as", "risk_cs", "risk_us", "risk_ah", "risk_af_midpoint",
    ]  # fmt: skip


def test_splits_follow_sample_ids_not_row_order(small):
    x, y, xt, yt = small
    rng = np.random.default_rng(0)
    order, order_test = rng.permutation(len(x)), rng.permutation(len(xt))
    ids = [f"image-{i}" for i in range(len(x) + len(xt))]
    shuffled = [ids[i] for i in order] + [ids[len(x) + i] for i in order_test]
    a = decompose(x, y, xt, yt, probe="ridge", sample_ids=ids, n_threads=1)
    b = decompose(x[order], y[order], xt[order_test], yt[order_test], probe="ridge", sample_ids=shuffled, n_threads=1)
    assert a.penalties["tuned"].value == b.penalties["tuned"].value

    def held_out(result, j):
        return set(result.judgements.train_ids[result.judgements.subset == j].tolist())

    for j in range(3):  # the same images are held out
        assert held_out(a, j) == held_out(b, j)
    for name in ("risk_af", "risk_as", "risk_cs", "risk_us"):  # ridge: rows tied within float32 may flip
        assert abs(a.estimate(name) - b.estimate(name)) <= 1 / len(xt)
    other = decompose(x, y, xt, yt, probe="ridge", sample_ids=ids, seed=1, n_threads=1)
    assert held_out(other, 0) != held_out(a, 0)


def test_splits_do_not_depend_on_the_numbers_of_the_classes(small):
    x, y, xt, yt = small
    a = decompose(x, y, xt, yt, probe="ridge", n_threads=1)
    b = decompose(x, 9 - y, xt, 9 - yt, probe="ridge", n_threads=1)
    assert np.array_equal(a.judgements.subset, b.judgements.subset)
    assert np.array_equal(a.judgements.fold, b.judgements.fold)
    for name, e in a.estimates.items():
        assert e.estimate == pytest.approx(b.estimates[name].estimate, abs=1 / len(xt)), name
        assert e.se == pytest.approx(b.estimates[name].se, rel=0.05), name


def test_tuning_never_sees_the_rows_that_are_judged(small, monkeypatch):
    task = make_task(*small)
    judged_while_tuning, real = [], _core.judge
    fits = []

    def judge(features, rows, labels, probes, **options):
        if not any(event.detail.startswith("complement") for event in fits):
            judged_while_tuning.append(np.array(rows))
        return real(features, rows, labels, probes, **options)

    monkeypatch.setattr(_core, "judge", judge)
    result = decompose_task(task, settings=Settings(probe="ridge", n_threads=1), report=fits.append)
    held = result.judgements.in_subset
    held_out = set(task.train_rows[held].tolist())
    # once the penalty is chosen the fold probes are judged on test rows and held-out rows, for intervals, and the first
    # one's at other penalties that may have been
    afterwards = [task.test_rows] * 5 + [task.train_rows[held]] * 5 + [task.test_rows, task.train_rows[held]]
    assert result.judgements.other_penalties
    chosen = judged_while_tuning[:-12]
    for rows, expected in zip(judged_while_tuning[-12:], afterwards, strict=True):
        assert np.array_equal(rows, expected)
    seen = set(np.concatenate(chosen).tolist())
    assert seen and held_out and seen.isdisjoint(held_out) and seen.isdisjoint(task.test_rows.tolist())
    assert seen | held_out == set(task.train_rows.tolist())
    fold_sizes = {f.n for f in result.fits if f.role.startswith("fold_")}
    assert max(fold_sizes) < len(task.train_rows) - len(held_out)
    assert sum(result.sizes.subset_rows) == len(held_out) <= 0.2 * len(task.train_rows)  # disjoint


def test_a_supervised_twin_splits_the_first_row(small):
    x, y, xt, yt = small
    twin = np.hstack([x, np.eye(10, dtype=np.float32)[y] * 3])  # knows the labels: separates
    result = decompose(x, y, xt, yt, supervised=twin, probe="ridge", n_threads=1)
    assert result.supervised and result.estimate("approx") == result.estimate("risk_sup") == 0
    names = components(supervised=True)
    assert names == ("approx", "usability", "probe_gen", "enc_gen")
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
    assert np.array_equal(blind.judgements.subset, result.judgements.subset)
    same = decompose(x, y, xt, yt, control=(x, xt), probe="ridge", n_threads=1)
    assert same.control.estimate("enc_gen") == same.estimate("enc_gen")


def test_float16_and_float32_agree(small):
    x, y, xt, yt = small  # grey values 0 to 16: float16 holds them exactly
    a = decompose(x, y, xt, yt, **FAST)
    b = decompose(x.astype(np.float16), y, xt.astype(np.float16), yt, **FAST)
    for name in ("risk_af", "risk_as", "risk_cs", "risk_us"):
        assert a.estimate(name) == b.estimate(name)
    assert a.penalties["tuned"].value == b.penalties["tuned"].value
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
    header = {"data_fingerprint": "anything", "class_names": [str(c) for c in range(10)]}
    bank = FeatureBank.create(tmp_path / "bank", header, samples, n_features=x.shape[1], dtype="float32")
    with bank.writer() as writer:  # out of order, in two blocks
        rows = np.random.default_rng(0).permutation(n).astype(np.uint64)
        features = np.vstack([x, xt])
        for part in (rows[:333], rows[333:]):
            writer.append(part, features[part])
    return FeatureBank.open(tmp_path / "bank")


def test_the_one_bank_of_an_extraction_is_taken_and_paths_are_answered(bank):
    given = {"n_threads": 1, "probe": "ridge", "midpoint": False}
    assert decompose({"avg": bank}, **given).estimate("risk_us") == decompose(bank, **given).estimate("risk_us")
    with pytest.raises(ParameterError, match=r"features holds 2 features \(avg, cls\): hand over one"):
        decompose({"avg": bank, "cls": bank})
    for call in (decompose, stats):
        with pytest.raises(ParameterError, match=r"features is a path: open a bank with FeatureBank.open\('x/y'\)"):
            call("x/y")


@pytest.mark.parametrize("probe", ["ridge", "logistic"])
def test_a_bank_gives_the_numbers_of_arrays(small, bank, probe):
    a = decompose(*small, probe=probe, **FAST)
    b = decompose(bank, probe=probe, **FAST)
    assert a.risks.equals(b.risks) and a.components.equals(b.components)
    assert a.penalties["tuned"].value == b.penalties["tuned"].value
    assert np.array_equal(a.judgements.us.predicted, b.judgements.us.predicted)


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
        decompose(x, np.zeros(600), xt, np.zeros(300))
    with pytest.raises(ParameterError, match="dtype"):
        decompose(x.astype(str), y, xt, yt)
    with pytest.raises(ParameterError, match="fewer than the 10 classes"):
        decompose(x[:40], y[:40], xt, yt)
    with pytest.raises(ParameterError, match="both are needed"):
        decompose(x, y, xt[:0], yt[:0])
    with pytest.raises(TypeError, match="flavour"):
        decompose(x, y, xt, yt, flavour="mild")


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"probe": "tree"}, "'logistic' or 'ridge', got 'tree'"),
        ({"protocol": "lax"}, "'strict' or 'paper', got 'lax'"),
        ({"n_subsets": 4}, "n_subsets must be a whole number from 1 to 3, got 4"),
        ({"n_subsets": True}, "n_subsets must be a whole number"),
        ({"subset_size": 0}, "subset_size must be a whole number from 1"),
        ({"n_folds": 1}, "n_folds must be a whole number from 2 to 127"),
        ({"n_folds": 128}, "n_folds must be a whole number from 2 to 127"),
        ({"n_folds": 2.5}, "n_folds must be a whole number"),
        ({"tuning_folds": 1.5}, "tuning_folds must be a whole number"),
        ({"tuning_folds": 6}, "6 folds cannot be judged"),
        ({"confidence": 1.0}, "confidence must lie between 0 and 1, at most 0.999999"),
        ({"confidence": "high"}, "confidence must lie between 0 and 1, .* got 'high'"),
        ({"floor": 0.0}, "floor must be positive and finite"),
        ({"floor": True}, "floor must be positive and finite, got True"),
        ({"tol": 1.0}, "tol must be at least 1e-07"),
        ({"tol": 1e-8}, "what float32 can tell"),
        ({"tol": 0.0}, "tol must be at least 1e-07"),
        ({"tol": float("inf")}, "tol must be at least 1e-07"),
        ({"seed": True}, "seed must be a whole number from 0 to 18446744073709551615, got True"),
        ({"seed": -1}, "seed must be a whole number from 0"),
        ({"seed": 1.5}, "seed must be a whole number"),
        ({"seed": 2**64}, "seed must be a whole number"),
        ({"max_passes": 0}, "max_passes must be a whole number from 1"),
        ({"scaling": "whiten"}, "got 'whiten'"),
        ({"n_threads": 0}, "n_threads must be a whole number from 1"),
        ({"n_threads": True}, "n_threads must be a whole number from 1 to 1024, got True"),
        ({"draws": 2.5, "shots": "5"}, "draws must be a whole number"),
        ({"n_threads": -1}, "n_threads must be a whole number from 1"),
        ({"protocol": "paper", "scaling": "standardize"}, "the authors scale nothing"),
        ({"protocol": "paper", "seed": 7}, "their seed is 123"),
        ({"protocol": "paper", "n_subsets": 3}, "hold out one subset"),
        ({"protocol": "paper", "midpoint": True}, "they have no floor"),
    ],
)
def test_settings_out_of_range_or_without_effect_are_refused(small, option, said):
    with pytest.raises(ParameterError, match=said):
        decompose(*small, **option)


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize("kind", ["masked", "text and NaN", "text and None"])
def test_rows_without_label_are_refused_or_left_out(small, part, kind):
    x, y, xt, yt = small
    labels = {"train": y, "test": yt}
    if kind == "masked":
        labels[part] = np.ma.MaskedArray(labels[part], mask=labels[part] == 0)
    else:
        gap = float("nan") if kind == "text and NaN" else None
        text = [f"digit {label}" for label in range(10)]
        labels = {name: [text[label] for label in own] for name, own in labels.items()}
        labels[part] = [gap if label == text[0] else label for label in labels[part]]
    without = int(((y if part == "train" else yt) == 0).sum())
    with pytest.raises(DataError, match=f"y_{part}: {without} of .* rows have no label"):
        decompose(x, labels["train"], xt, labels["test"], probe="ridge", n_threads=1)
    if part == "test":
        run = decompose(x, labels["train"], xt, labels["test"], probe="ridge", n_threads=1, drop_unlabelled=True)
        assert run.sizes.test == 300 - without


def test_small_fits_may_take_more_passes_than_large_ones(small):
    task = make_task(*small)
    assert decomposing._method(task, Settings()).max_passes == 3000
    assert decomposing._method(task, Settings(max_passes=200)).max_passes == 200
    large = replace(task, class_names=tuple(str(i) for i in range(100_000)))
    assert decomposing._method(large, Settings()).max_passes == 300


def test_a_twin_of_arrays_comes_as_a_pair_too(small):
    x, _, x_test, _ = small
    twin, twin_test = 2 * x[:, :30], 2 * x_test[:, :30]
    pair = decompose(*small, supervised=(twin, twin_test), probe="ridge", n_threads=1)
    apart = decompose(*small, supervised=twin, supervised_test=twin_test, probe="ridge", n_threads=1)
    assert pair.estimates == apart.estimates and pair.judgements.sup_on_test is not None


def test_loaded_features_are_decomposed_as_they_are(small, tmp_path):
    """With their ids, groups, targets, twin and control: as the command line has it of the same files."""
    x, y, x_test, y_test = small
    rng = np.random.default_rng(0)
    order = [f"r{i}" for i in rng.permutation(900)]
    ids = {"ids_train": order[:600], "ids_test": order[600:]}
    site = {"site_train": rng.integers(0, 40, 600), "site_test": 100 + rng.integers(0, 20, 300)}
    np.savez(tmp_path / "f.npz", X_train=x, y_train=y, X_test=x_test, y_test=y_test, **ids, **site)
    np.savez(tmp_path / "g.npz", X_train=x[:, :20], y_train=y, X_test=x_test[:, :20], y_test=y_test, **ids)
    loaded, other = load_features(tmp_path / "f.npz"), load_features(tmp_path / "g.npz")
    options = {"probe": "ridge", "n_threads": 1}
    found = decompose(loaded, supervised=other, control=other, groups="site", **options)
    groups = (site["site_train"], site["site_test"])
    twin = (x[:, :20], x_test[:, :20])
    arrays = decompose(*small, supervised=twin, control=twin, groups=groups, sample_ids=order, **options)
    assert found.estimates == arrays.estimates and found.control.estimates == arrays.control.estimates
    of_site = decompose(replace(loaded, test_columns={"site": site["site_test"] - 100}), target="site", **options)
    assert of_site.sizes.classes == 40
    with pytest.raises(ParameterError, match="loaded features hold their labels and splits: give no y"):
        decompose(loaded, y)
    with pytest.raises(ParameterError, match="there is no column 'patient'"):
        decompose(loaded, groups="patient", **options)
    with pytest.raises(ShapeError, match="control has other rows than the features, or another order"):
        decompose(loaded, control=replace(other, train_ids=other.train_ids[::-1]), **options)


def test_masked_groups_are_no_groups(small):
    x, y, xt, yt = small
    masked = np.ma.MaskedArray(np.arange(600) // 3, mask=np.arange(600) < 2)
    with pytest.raises(ParameterError, match="2 of 900 rows have no group"):
        decompose(x, y, xt, yt, groups=(masked, 1000 + np.arange(300)), probe="ridge", n_threads=1)


@pytest.mark.parametrize("where", ["X_train", "X_test"])
def test_masked_features_are_refused(small, where):
    x, y, xt, yt = small
    masked = np.ma.MaskedArray(x if where == "X_train" else xt, mask=False)
    masked[3, 2] = np.ma.masked
    with pytest.raises(ParameterError, match=f"{where}: row 3, feature 2 is masked"):
        decompose(*((masked, y, xt) if where == "X_train" else (x, y, masked)), yt)


@pytest.mark.parametrize("kind", [np.float64, np.int64])
def test_features_that_float32_cannot_tell_apart_are_refused(small, kind):
    x, y, xt, yt = ((part * 4).astype(kind) if part.ndim == 2 else part for part in small)
    far = np.zeros(x.shape[1], kind)
    far[9] = 10**9
    with pytest.raises(ParameterError, match=r"X_train: feature 9 has mean 1e\+09 .*\(1 of 22 .*subtract"):
        decompose(x + far, y, xt + far, yt, probe="ridge", n_threads=1)
    near = decompose(x + far - far, y, xt + far - far, yt, probe="ridge", n_threads=1)
    assert near.estimate("agg_risk") == decompose(x, y, xt, yt, probe="ridge", n_threads=1).estimate("agg_risk")


def test_features_that_only_rounding_moves_are_constant_and_no_fault(small):
    x, y, xt, yt = (part.astype(np.float64) if part.ndim == 2 else part for part in small)
    rng = np.random.default_rng(0)
    x[:, 3] = 0.1 + 1e-16 * rng.integers(0, 3, len(x))  # of float64
    x[:, 4] = np.float32(0.1) + np.spacing(np.float32(0.1)) * rng.integers(0, 3, len(x))  # of float32
    assert decompose(x, y, xt, yt, probe="ridge", n_threads=1).estimate("agg_risk") < 1


@pytest.mark.parametrize("where", ["X_train", "X_test"])
def test_features_beyond_float32_are_named(small, where):
    x, y, xt, yt = (part.astype(np.float64) if part.ndim == 2 else part for part in small)
    (x if where == "X_train" else xt)[5, 1] = 1e300
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ParameterError, match=rf"{where}: row 5, feature 1 is 1e\+300: beyond .* float32"):
            decompose(x, y, xt, yt)


@pytest.mark.parametrize("where", ["train", "test"])
def test_rows_with_nan_are_named_and_never_judged_correct(small, where):
    x, y, xt, yt = (np.copy(part) for part in small)
    (x if where == "train" else xt)[7, 2] = np.nan
    named = "^row 7" if where == "train" else "^X_test: row 7"
    with pytest.raises(ParameterError, match=f"{named}, feature 2"):
        decompose(x, y, xt, yt, probe="ridge", n_threads=1)


@pytest.mark.parametrize("probe", ["ridge", "logistic"])
def test_the_protocol_of_the_paper_is_stamped_and_uncorrected(small, probe):
    x, y, xt, yt = small
    twin = x[:, :15].copy()
    result = decompose(
        x / 16, y, xt[:200] / 16, yt[:200], supervised=twin, protocol="paper", probe=probe, n_threads=1, tol=1e-2
    )
    assert any(note.code == "paper_protocol" for note in result.notes)
    assert result.beta == 0 and result.method.scaling == "none" and result.method.seed == 123  # what ran
    assert set(result.penalties) == {"tuned_af", "tuned_as", "tuned_us", "tuned_sup"}
    assert result.sizes.subset_rows == (200,)
    assert {f.role for f in result.fits} >= {"tuning", "complement_0", "full_af", "full_us", "supervised"}
    edges = [p for p in result.penalties.values() if not p.inside]
    assert sum(note.code == "penalty_at_edge" for note in result.notes) == len(edges)
    assert np.isnan(result.floor.risk_above)  # there is no floor
    total = sum(result.estimate(name) for name in components(supervised=True))
    assert abs(total - result.estimate("agg_risk")) <= 1e-12
    # without a correction the risk is the error of the subset rows
    assert result.estimate("risk_as") == pytest.approx(result.judgements.held_out.error, abs=1e-12)
    with pytest.raises(ParameterError, match="use --protocol strict"):
        decompose(x[:300], y[:300], xt, yt, protocol="paper")


def with_groups(small, size=6):
    """Groups of some rows each; those of the test rows are others."""
    train, test = len(small[0]), len(small[2])
    return [f"p{i // size}" for i in range(train)], [f"q{i // size}" for i in range(test)]


@pytest.mark.parametrize("probe", ["ridge", "logistic"])
def test_groups_stay_whole(small, probe):
    groups, groups_test = with_groups(small)
    result = decompose(*small, groups=(groups, groups_test), probe=probe, n_threads=1)
    judged = result.judgements
    cell = np.where(judged.subset >= 0, 10 + judged.subset.astype(int), judged.fold)
    for name in set(groups):
        assert len(np.unique(cell[[g == name for g in groups]])) == 1, name
    assert result.sizes.groups_train == 100 and result.sizes.groups_test == 50
    assert result.estimates["risk_us"].n_groups == 50 and result.estimates["risk_us"].n == 300
    assert "class_mix" in result.estimates  # groups hold several classes: their shares are a draw too
    total = sum(result.estimate(name) for name in result.component_names)
    assert abs(total - result.estimate("agg_risk")) <= 1e-12


@pytest.mark.parametrize("probe", ["ridge", "logistic"])
def test_a_probe_that_says_one_class_has_an_interval(probe):
    """Its variance within classes is none but for rounding: the interval is that of its rows, and not a point."""
    y = (np.arange(1000) < 50).astype(int)
    for seed in range(3):
        x, x_test = np.random.default_rng(seed).standard_normal((2, 1000, 5)).astype(np.float32)
        result = decompose(x, y, x_test, y, probe=probe, n_threads=1)
        for name in ("risk_us", "risk_af", "risk_as"):
            e = result.estimates[name]
            assert e.estimate == pytest.approx(0.05) and e.low < 0.04 and e.high > 0.06, (seed, name)
        assert "negative" not in {note.code for note in notes(result, Provenance())}  # −7e-18


def test_the_protocol_of_the_paper_says_that_it_cuts_groups(small):
    x, y, x_test, y_test = small[0], small[1], small[2][:200], small[3][:200]
    groups, groups_test = with_groups(small)
    result = decompose(x, y, x_test, y_test, groups=(groups, groups_test[:200]), protocol="paper", probe="ridge")
    judged, of_rows = result.judgements, np.array(groups)
    cut = [name for name in set(groups) if 0 < judged.in_subset[of_rows == name].mean() < 1]
    (note,) = (note for note in result.notes if note.code == "paper_cuts_groups")
    assert note.values == {"cut": len(cut), "total": 100} and len(cut) > 50
    assert "whole groups" not in str(result) and "rows of new groups" in str(result)


@pytest.mark.parametrize(
    ("y", "y_test", "said"),
    [
        (np.r_[np.repeat(np.arange(11), 20), 11], np.repeat(np.arange(10), 5), "class 11 has one training row"),
        (np.repeat(np.arange(20), 10), np.arange(15), "rows of each of 20 classes, and there are 15"),
    ],
)
def test_what_the_protocol_of_the_paper_cannot_cut_is_said(y, y_test, said, rng):
    x, x_test = (rng.standard_normal((len(v), 6)).astype(np.float32) for v in (y, y_test))
    with pytest.raises(ParameterError, match=f"{said}.*use --protocol strict"):
        decompose(x, y, x_test, y_test, protocol="paper", probe="ridge")


def test_classes_too_small_for_every_subset_have_a_row_in_one(rng):
    """Largest remainders gave a class of three rows one in each of three subsets, which was refused."""
    y = np.r_[np.full(252, 500), np.repeat([3, 4, *range(6, 18)], 3), np.full(45, 5), 18]
    x, x_test = rng.standard_normal((len(y), 5)), rng.standard_normal((100, 5))
    result = decompose(x, y, x_test, np.repeat([500, 5], [80, 20]), probe="ridge", n_threads=1)
    judged = result.judgements
    assert [int((judged.subset == j).sum()) for j in range(3)] == list(result.sizes.subset_rows)
    held = np.bincount(judged.train_labels[judged.in_subset], minlength=17)
    kept = np.bincount(judged.train_labels[~judged.in_subset], minlength=17)
    of_three, of_one = np.bincount(judged.train_labels) == 3, np.bincount(judged.train_labels) == 1
    assert (held[of_three] == 1).all() and held[of_one] == 0 and (kept > 0).all()
    (note,) = (note for note in result.notes if note.code == "uncovered_classes")
    assert note.values["classes"] == 1


def test_tensors_are_taken_as_their_values(small):
    """With a gradient and in bfloat16: torch's own conversion to arrays refuses both."""
    x, y, xt, yt = small
    tensors = [torch.from_numpy(np.ascontiguousarray(v)) for v in small]
    given = [tensors[0].requires_grad_(), tensors[1].double().requires_grad_(), tensors[2].bfloat16(), tensors[3]]
    found = decompose(*given, probe="ridge", n_threads=1)
    assert found.estimates == decompose(x, y, given[2].float().numpy(), yt, probe="ridge", n_threads=1).estimates
    with pytest.raises(DataError, match="y_train are bfloat16, in which whole numbers beyond 256 are rounded"):
        decompose(x, tensors[1].bfloat16(), xt, yt, probe="ridge")
    ages = [torch.from_numpy(np.stack([v / 7, v * 0.3], 1)).requires_grad_() for v in (y, yt)]
    numbers = decompose(x, ages[0], xt, ages[1], probe="ridge", n_threads=1)
    arrays = [age.detach().numpy() for age in ages]
    assert numbers.estimates == decompose(x, arrays[0], xt, arrays[1], probe="ridge", n_threads=1).estimates
    assert stats(given[0], given[1]).frame().equals(stats(x, y).frame())


def test_options_replace_fields_of_settings(small):
    """Beside `settings`, options were ignored."""
    result = decompose(*small, settings=Settings(n_threads=1, seed=3), probe="ridge", scaling="minmax")
    assert (result.method.probe, result.method.scaling, result.method.seed) == ("ridge", "minmax", 3)
    with pytest.raises(TypeError, match="sead"):
        decompose(*small, settings=Settings(), sead=3)


@pytest.mark.parametrize("protocol", ["strict", "paper"])
@pytest.mark.parametrize(
    ("groups", "asked"),
    [
        (0, {"subset_size": 30, "n_folds": 4, "tuning_folds": 3, "seed": 5, "floor": 1e-4, "order": "both"}),
        (0, {"probe": "logistic", "tol": 1e-3, "max_passes": 200, "midpoint": False, "scaling": "minmax"}),
        (0, {}),
        (60, {"n_subsets": 1}),
        (60, {"subset_size": 30}),
        (9, {}),  # too few groups for three subsets
    ],
)
def test_settings_like_a_result_make_it_again(small, protocol, groups, asked):
    x, y, xt, yt = small
    if protocol == "paper":
        asked = {name: value for name, value in asked.items() if name in ("probe", "tol", "max_passes", "order")}
    of = ([i % groups for i in range(len(y))], [1000 + i % 20 for i in range(len(yt))]) if groups else None
    made = decompose(*small, groups=of, **{"probe": "ridge", "protocol": protocol, "n_threads": 1, **asked})
    if groups == 9 and protocol == "strict":
        assert made.sizes.planned_subsets == 3 and made.sizes.subsets < 3
    again = decompose_task(make_task(x, y, xt, yt, groups=of), settings=settings_like(made))
    assert again.estimates == made.estimates and again.sizes == made.sizes


def test_passes_by_size_are_not_taken_over_to_features_of_another_size():
    """A large run has 300; a small encoder beside it, which has 3,000 by itself, had 300 too."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((300, 8)).astype(np.float32), np.arange(300) % 3
    small = decompose(x[:200], y[:200], x[200:], y[200:], probe="logistic", n_threads=1)
    assert small.method.max_passes == 3000 and settings_like(small).max_passes is None
    asked = decompose(x[:200], y[:200], x[200:], y[200:], probe="logistic", n_threads=1, max_passes=77)
    assert settings_like(asked).max_passes == 77
    large = replace(small, method=replace(small.method, max_passes=300), sizes=replace(small.sizes, train=10**8))
    assert settings_like(large).max_passes is None


def test_fewer_rows_than_features_are_planned_as_their_span():
    """Both sorts of products decide tolerances, folds and device; wide rows counted with all of their features."""
    assert products_of_pass(2000, 20_000, 200) == products_of_pass(2000, 2000, 200) == 800_000_000
    assert products_of_pass(20_000, 2000, 200) == 8_000_000_000
    x, y = np.random.default_rng(0).standard_normal((240, 30_000)).astype(np.float32), np.arange(240) % 20
    found = decompose(x[:200], y[:200], x[200:], y[200:], probe="logistic", n_threads=2, n_subsets=1)
    assert found.method.max_passes == 3000  # 200 × 30,000 × 20 products would be 300


def test_few_degrees_of_freedom_are_marked_without_groups():
    rng = np.random.default_rng(5)
    y, y_test = np.arange(60) % 3, np.arange(6000) % 3
    means = 0.5 * rng.standard_normal((3, 40))
    x, x_test = ((means[v] + rng.standard_normal((len(v), 40))).astype(np.float32) for v in (y, y_test))
    e = decompose(x, y, x_test, y_test, probe="ridge", n_threads=1).estimates["risk_us"]
    assert e.df < 5 and e.grade is Grade.INDICATIVE


@pytest.mark.parametrize("other", [float, "S", "float32"])
def test_groups_of_two_types_are_the_same_groups(small, other, rng):
    groups, groups_test = rng.integers(0, 40, len(small[0])), rng.integers(30, 60, len(small[2]))
    with pytest.raises(ParameterError, match="10 groups have training and test rows"):
        decompose(*small, groups=(groups, groups_test.astype(other)), probe="ridge")


def test_rows_that_are_dropped_need_no_group(small):
    x, y, x_test, y_test = small
    groups, groups_test = with_groups(small)
    unlabelled = y.astype(float)
    unlabelled[:7] = np.nan
    found = decompose(x, unlabelled, x_test, y_test, groups=([None] * 7 + groups[7:], groups_test), probe="ridge",
                      drop_unlabelled=True, n_threads=1)  # fmt: skip
    assert found.sizes.train == len(x) - 7


def test_a_group_on_both_sides_is_refused_or_counted(small):
    groups, groups_test = with_groups(small)
    groups_test[:12] = groups[:12]
    with pytest.raises(ParameterError, match=r"2 groups have training and test rows \(for example p0\)"):
        decompose(*small, groups=(groups, groups_test), probe="ridge")
    result = decompose(*small, groups=(groups, groups_test), probe="ridge", shared_groups="warn", n_threads=1)
    (note,) = (note for note in result.notes if note.code == "shared_groups")
    assert note.values["count"] == 2
    with pytest.raises(ShapeError, match="groups of the test rows have 3 entries, expected 300"):
        decompose(*small, groups=(groups, groups_test[:3]))


def test_columns_named_like_groups_are_pointed_at(small, tmp_path):
    x, y, xt, yt = small
    n = len(x) + len(xt)
    samples = pl.DataFrame(
        {
            "row": np.arange(n, dtype=np.uint64),
            "split": ["train"] * len(x) + ["test"] * len(xt),
            "sample_id": [str(i) for i in range(n)],
            "label": np.concatenate([y, yt]).astype(np.int64),
            "patient_id": [i // 6 for i in range(n)],
        }
    )
    bank = FeatureBank.create(tmp_path / "bank", {}, samples, n_features=x.shape[1], dtype="float32")
    with bank.writer() as writer:
        writer.append(np.arange(n, dtype=np.uint64), np.vstack([x, xt]))
    plain = decompose(bank, probe="ridge", n_threads=1)
    assert any(note.code == "groups_unused" and note.values["column"] == "patient_id" for note in plain.notes)
    grouped = decompose(bank, groups="patient_id", probe="ridge", n_threads=1)
    assert grouped.sizes.groups_train == 100 and not any(note.code == "groups_unused" for note in grouped.notes)
    by_arrays = decompose(
        *small, groups=([i // 6 for i in range(600)], [i // 6 for i in range(600, n)]), probe="ridge", n_threads=1
    )
    assert by_arrays.risks.equals(grouped.risks)  # the same groups, by text or by number
    with pytest.raises(ParameterError, match="slide"):
        decompose(bank, groups="slide")


@pytest.mark.parametrize("probe", ["ridge", "logistic"])
@pytest.mark.parametrize("scaling", ["none", "minmax"])
def test_a_representation_and_its_multiples_have_the_same_risks(small, scaling, probe):
    x, y, xt, yt = small
    options = {"scaling": scaling, "probe": probe, "n_threads": 1, "midpoint": False}
    found = [decompose(x * f, y, xt * f, yt, **options) for f in map(np.float32, (0.01, 1, 100))]
    for name in ("risk_af", "risk_as", "risk_us"):
        values = [result.estimate(name) for result in found]
        # rows on the boundary: float32 rounds the three representations differently
        assert max(values) - min(values) <= 2 / len(xt), (name, values)
    assert len({result.penalties["tuned"].value for result in found}) == 1
    assert found[0].penalties["tuned"].inside


def test_classes_that_were_never_trained_are_refused(small):
    x, y, xt, yt = small
    with pytest.raises(DataError, match="shifted"):
        decompose(x, y, xt, yt + 1)


def test_what_is_constant_is_counted(small):
    x, y, xt, yt = (np.copy(part) for part in small)
    x[:, 4] = xt[:, 4] = 3.0
    result = decompose(x, y, xt, yt, probe="ridge", n_threads=1)
    (note,) = (note for note in result.notes if note.code == "constant_features")
    assert note.values == {"count": result.sizes.constant_features, "total": x.shape[1]}
    assert result.sizes.constant_features >= 1


def test_a_ridge_probe_with_more_classes_than_features_is_marked(small):
    x, y, xt, yt = small
    x, xt = x[:, 5:13].copy(), xt[:, 5:13].copy()  # 8 features, 10 classes
    result = decompose(x, y, xt, yt, probe="ridge", n_threads=1)
    assert any(note.code == "crowded" for note in result.notes)
    marked = {name for name, e in result.estimates.items() if e.grade.value == "indicative"}
    assert marked == {"risk_af", "approx_usability"}
    logistic = decompose(x, y, xt, yt, **FAST)
    assert not any(note.code == "crowded" for note in logistic.notes)


def test_a_probe_that_separates_has_no_bottleneck(digits):
    result = decompose(*digits, n_threads=1)
    assert result.floor.separable and result.bottleneck.probability is None
    assert any(note.code == "separable" for note in result.notes)


def test_harder_test_rows_are_not_called_optimism():
    """The floor probe errs far more often on test rows, which lie farther out, and hardly more on held-out ones."""
    rng = np.random.default_rng(0)
    centres = 1.2 * rng.standard_normal((3, 5))

    def rows(n: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
        y = np.arange(n) % 3
        return (centres[y] + noise * rng.standard_normal((n, 5))).astype(np.float32), y

    train, test = rows(3000, 0.8), rows(1000, 1.9)
    result = decompose(*train, *test, n_threads=1)
    assert result.floor.on_test > 1.5 * result.estimate("risk_af")
    assert not {"optimistic_af", "optimistic_af_held_out"} & {note.code for note in result.notes}
    without = decompose(*train, *test, n_threads=1, midpoint=False)
    (note,) = (note for note in without.notes if note.code == "optimistic_af")
    assert note.sentence().endswith("is optimistic, unless test rows are harder.")


def test_every_step_is_reported(small):
    events = []
    decompose(*small, report=events.append, n_threads=1)
    stages = {event.stage for event in events}
    assert stages >= {"moments", "fit", "judge"}
    assert any(event.stage == "fit" and event.detail.startswith("full") for event in events)


@pytest.mark.parametrize(
    ("more", "steps"), [({}, 6), ({"n_subsets": 1}, 4), ({"order": "both"}, 7), ({"supervised": True}, 7)]
)
def test_events_say_which_step_of_how_many_it_is(small, more, steps):
    events = []
    twin = {"supervised": small[0]} if more.pop("supervised", False) else {}
    decompose(*small[:4], probe="ridge", report=events.append, n_threads=1, **more, **twin)
    told = [(event.step, event.steps) for event in events]
    assert told == sorted(told)
    assert {step for step, _ in told} == set(range(1, steps + 1))
    assert {of for _, of in told} == {steps}
