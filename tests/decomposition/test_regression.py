"""Numbers and several labels as targets: against scikit-learn's Ridge in float64, their losses, and what is refused."""

import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score, roc_auc_score
from ssl_risk_rs import (
    DataError,
    FeatureBank,
    ParameterError,
    Run,
    ShapeError,
    compare,
    decompose,
    import_bank,
    to_latex,
)
from ssl_risk_rs.cli import main
from ssl_risk_rs.decomposition import with_metrics
from ssl_risk_rs.decomposition.intervals import quantify
from ssl_risk_rs.decomposition.losses import Auroc, Squared
from ssl_risk_rs.decomposition.regression import _tuned
from ssl_risk_rs.decomposition.restricted import restricted
from ssl_risk_rs.results import NotComparableError
from ssl_risk_rs.results.metrics import HEADLINES

N, M, D = 500, 200, 12


def draw(seed, n, k=3, noise=1.0):
    """X (n, D) with far and differently scaled features, one of them constant, and Y (n, k)."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((n, D))
    scale = 10.0 ** np.random.default_rng(0).uniform(-2, 2, D)
    x = 30 * scale + z * scale
    x[:, 4] = 7
    weights = np.random.default_rng(1).standard_normal((D, k))
    y = z @ weights * [1, 10, 0.1][:k] + noise * rng.standard_normal((n, k)) * [2, 20, 0.2][:k] + [5, -100, 0][:k]
    return x.astype(np.float32), y


@pytest.fixture(scope="module")
def numbers():
    (x, y), (x_test, y_test) = draw(1, N), draw(2, M)
    return x, y, x_test, y_test


@pytest.fixture(scope="module")
def labels(numbers):
    x, y, x_test, y_test = numbers
    cut = [6, -110, 0.3]
    return x, (y > cut).astype(int), x_test, (y_test > cut).astype(int)


@pytest.mark.parametrize("kind", ["numbers", "labels"])
def test_the_midpoint_is_left_out_where_it_is_not_asked_for(request, kind):
    """`midpoint=False` was passed over for targets that are no classes."""
    rows, given = request.getfixturevalue(kind), {"probe": "ridge", "n_threads": 1}
    both, without = decompose(*rows, **given), decompose(*rows, midpoint=False, **given)
    assert "risk_af_midpoint" in both.estimates and "risk_af_midpoint" not in without.estimates
    assert without.judgements.held_out_floor is None
    for quantity, estimate in without.estimates.items():
        assert both.estimate(quantity) == estimate.estimate


def test_a_fold_that_judges_no_label_is_left_out_of_the_tuning_loss():
    """It counted with a loss of 0: of two folds with one judged, the loss was half of what it is."""
    train, own = np.arange(20), np.repeat([0, 1], 10)
    ridge = SimpleNamespace(
        fit=lambda role, sums, kept, alphas: list(alphas),
        predict=lambda probes, rows: [np.full(len(rows), abs(np.log10(alpha) + 1)) for alpha in probes],
    )
    scorer = SimpleNamespace(losses=lambda y, rows: np.where(rows < 10, np.nan, y) + 0.25)
    curve = _tuned(ridge, None, scorer, train, own, [np.arange(20, 25)], 2, 2).curve
    assert curve[0.1] == 0.25 and curve[1.0] == 1.25


@pytest.fixture(scope="module")
def result(numbers):
    return decompose(*numbers, probe="ridge", n_threads=1)


@pytest.fixture(scope="module")
def of_labels(labels):
    return decompose(*labels, probe="ridge", n_threads=1)


def fitted(x, y, alpha):
    """scikit-learn's ridge on standardized features, in float64; alpha of the mean loss."""
    x = x.astype(np.float64)
    mean, sd = x.mean(0), x.std(0)
    sd[x.std(0) < 1e-12 * np.abs(mean)] = np.inf  # a constant feature
    model = Ridge(alpha=alpha * len(x), solver="svd").fit((x - mean) / sd, y)
    return lambda new: model.predict((new.astype(np.float64) - mean) / sd)


def risk_of_numbers(y, predicted, variance):
    return float(((y - predicted) ** 2 / variance).mean())


def test_risks_of_numbers_are_those_of_scikit_learn(numbers, result):
    x, y, x_test, y_test = numbers
    variance, alpha = y.var(0), result.penalties["tuned"].value
    subset = result.judgements.subset
    full, floor = fitted(x, y, alpha), fitted(x, y, 1e-5)
    expected = {
        "risk_us": risk_of_numbers(y_test, full(x_test), variance),
        "risk_af": risk_of_numbers(y, floor(x), variance),
        "risk_cs": np.mean(
            [risk_of_numbers(y_test, fitted(x[subset != j], y[subset != j], alpha)(x_test), variance) for j in range(3)]
        ),
    }
    for name, value in expected.items():
        # losses are kept in float32; standardizing rounds its scale to float32
        assert result.estimate(name) == pytest.approx(value, rel=2e-6), name
    # R² on the training rows is scikit-learn's
    assert 1 - result.estimate("risk_af") == pytest.approx(r2_score(y, floor(x)), abs=1e-6)
    held = [
        risk_of_numbers(y[subset == j], fitted(x[subset != j], y[subset != j], alpha)(x[subset == j]), variance)
        for j in range(3)
    ]
    kept = result.judgements.held_out.loss[np.argsort(subset[subset >= 0], kind="stable")]
    assert kept.mean() == pytest.approx(np.mean(held), rel=2e-6)
    assert result.sizes.chance == pytest.approx(risk_of_numbers(y_test, y.mean(0), variance), rel=1e-12)


def test_the_penalty_has_the_least_loss_on_the_folds(numbers, result):
    x, y, _, _ = numbers
    fold, tuned = result.judgements.fold, result.penalties["tuned"]

    def loss(alpha):
        parts = []
        for f in range(5):
            rows = (fold >= 0) & (fold != f)
            parts.append(risk_of_numbers(y[fold == f], fitted(x[rows], y[rows], alpha)(x[fold == f]), y.var(0)))
        return np.mean(parts)

    for alpha, value in zip(tuned.grid, tuned.losses, strict=True):
        assert value == pytest.approx(loss(alpha), rel=1e-5)  # losses of folds in float64, scale in float32
    assert tuned.value == tuned.grid[int(np.argmin(tuned.losses))] and tuned.errors == ()


def test_risks_of_labels_are_areas_of_scikit_learn(labels, of_labels):
    x, y, x_test, y_test = labels
    alpha = of_labels.penalties["tuned"].value
    full, floor = fitted(x, y, alpha), fitted(x, y, 1e-5)
    # scores that float32 has equal or swapped move an area by one pair of some thousand
    assert of_labels.estimate("risk_us") == pytest.approx(1 - roc_auc_score(y_test, full(x_test)), abs=2e-4)
    assert of_labels.estimate("risk_af") == pytest.approx(1 - roc_auc_score(y, floor(x)), abs=2e-4)
    assert of_labels.method.metric == "auroc" and of_labels.sizes.chance == 0.5


def test_losses_of_labels_have_the_variance_of_an_area():
    """The standard error from losses is DeLong's, up to the degrees of freedom; ties count half."""
    rng = np.random.default_rng(0)
    y = np.repeat([1, 0], [40, 60])
    s = np.round(rng.standard_normal(100) + y, 1)
    losses = Auroc(y[:, None].astype(float)).losses(s[:, None], np.arange(100))
    assert losses.mean() == pytest.approx(1 - roc_auc_score(y, s), abs=1e-12)
    kernel = (s[y == 1][:, None] > s[y == 0]) + 0.5 * (s[y == 1][:, None] == s[y == 0])
    delong = kernel.mean(1).var(ddof=1) / 40 + kernel.mean(0).var(ddof=1) / 60
    assert ((losses - losses.mean()) ** 2).sum() / 100**2 == pytest.approx(delong, rel=1e-9)
    never = Auroc(np.stack([y, np.ones(100)], axis=1).astype(float))
    np.testing.assert_allclose(never.losses(np.stack([s, s], axis=1), np.arange(100)), losses)


def test_a_label_that_one_subset_lacks_is_judged_by_the_others():
    """The risk is the mean over labels of their areas over the sets that have them, and so is that of equal sets."""
    rng = np.random.default_rng(0)
    y = (rng.random((90, 2)) < [0.5, 0.3]).astype(float)
    y[60:, 1] = 0
    scores = rng.standard_normal((90, 2)) + y
    sets = [np.arange(30 * j, 30 * (j + 1)) for j in range(3)]
    losses = Auroc(y).over_sets([scores[rows] for rows in sets], sets)

    def area(rows, c):
        return roc_auc_score(y[rows, c], scores[rows, c])

    first = np.mean([area(rows, 0) for rows in sets])
    second = np.mean([area(rows, 1) for rows in sets[:2]])
    assert np.mean([part.mean() for part in losses]) == pytest.approx(1 - (first + second) / 2, abs=1e-12)


@pytest.mark.parametrize("which", ["result", "of_labels"])
def test_components_sum_and_have_intervals(which, request):
    found = request.getfixturevalue(which)
    total = sum(found.estimate(name) for name in found.component_names)
    assert total == pytest.approx(found.estimate("agg_risk"), abs=1e-12)
    for e in found.estimates.values():
        assert e.low <= e.estimate <= e.high and e.se > 0
    assert found.probe_variance >= 0  # the fold probes are judged on the test rows


def test_intervals_hold_the_expected_risk(numbers):
    """60 fresh draws: at 95 % coverage, 50 or more of 60 hold the truth but once in 2,000."""
    x_fresh, y_fresh = draw(999, 20_000)
    truth, intervals = [], []
    for seed in range(60):
        (x, y), (x_test, y_test) = draw(100 + seed, 300), draw(5000 + seed, 150)
        found = decompose(x, y, x_test, y_test, probe="ridge", n_threads=1, midpoint=False)
        e = found.estimates["risk_us"]
        intervals.append((e.low, e.high))
        predict = fitted(x, y, found.penalties["tuned"].value)
        truth.append(risk_of_numbers(y_fresh, predict(x_fresh), y.var(0)))
    expected = np.mean(truth)
    assert sum(low <= expected <= high for low, high in intervals) >= 50


def test_the_unit_of_squared_losses_varies_with_the_training_rows():
    """Many test rows: R_US varies with the variance of 200 training rows, by more than test rows and probe do.
    Intervals that took it as known held the truth in 6 of 10 draws."""
    (x, y), (x_test, y_test) = draw(0, 200), draw(1, 3_000)
    y, y_test = y[:, :1], y_test[:, :1]
    found = decompose(x, y, x_test, y_test, probe="ridge", n_threads=1, target_kind="numbers", midpoint=False)
    e, judged = found.estimates["risk_us"], found.judgements
    unit = (y[:, 0] - y.mean()) ** 2 / y.var() - 1
    np.testing.assert_allclose(judged.unit, unit, atol=1e-5)
    of_unit = e.estimate**2 * unit.var() / len(unit)
    of_rows = judged.us.loss.astype(float).var() / len(y_test)
    assert of_unit > of_rows
    # rows are centred in each set of rows, whose degrees of freedom are one less
    assert e.se**2 == pytest.approx(of_unit + of_rows + found.probe_variance, rel=0.02)
    # the unit is that of all rows, where few of them judge, and no few rows decide a number because of it
    kept = np.flatnonzero(judged.in_subset)
    some = restricted(found, kept, np.arange(len(y_test))).estimates["risk_as"]
    own = judged.held_out.loss.astype(float) - found.estimates["risk_as"].estimate
    alone = np.sqrt(own.var() / len(kept))
    assert some.se < 1.2 * np.hypot(alone, e.se)
    truth, intervals = [], []
    for seed in range(40):
        (x, y), (x_test, y_test) = draw(100 + seed, 200), draw(5000 + seed, 3_000)
        found = decompose(x, y[:, :1], x_test, y_test[:, :1], probe="ridge", n_threads=1, target_kind="numbers",
                          midpoint=False)  # fmt: skip
        e, few = found.estimates["risk_us"], found.estimates["label_count"]
        truth.append((e.estimate, few.estimate))
        intervals.append(((e.low, e.high), (few.low, few.high)))
    for i in range(2):  # the second: the effect of the rows set aside, which test rows of both probes do not show
        expected = np.mean([one[i] for one in truth])
        assert sum(one[i][0] <= expected <= one[i][1] for one in intervals) >= 33


def test_a_run_of_numbers_is_saved_printed_and_read(result, of_labels, tmp_path):
    for found, head, unit in ((result, "1 - R² %", "3 numbers to predict"), (of_labels, "1 - AUROC %", "3 labels")):
        run = Run.of(found)
        assert head in str(run) and unit in str(run)
        loaded = Run.load(run.save(tmp_path / found.method.metric))
        assert str(loaded) == str(run)
        assert set(run.frame()["metric"]) == {found.method.metric}
        assert {"r2": "$1 - R^2$", "auroc": "$1 -$ AUROC"}[found.method.metric] in to_latex(run)
    with pytest.raises(NotComparableError, match="predicts numbers or labels"):
        compare([Run.of(result), Run.of(replace(result, name="other"))])
    with pytest.raises(ParameterError, match="is no class: it has no other metrics"):
        with_metrics(result, "balanced")


def test_a_twin_and_a_control_have_the_same_targets(numbers):
    x, y, x_test, y_test = numbers
    twin, control = x[:, :6].copy(), (x[:, 6:].copy(), x_test[:, 6:].copy())
    found = decompose(x, y, x_test, y_test, supervised=twin, control=control, probe="ridge", n_threads=1)
    expected = risk_of_numbers(y, fitted(twin, y, 1e-5)(twin), y.var(0))
    assert found.estimate("approx") == pytest.approx(expected, rel=2e-6)  # as above
    assert found.control.method.metric == "r2" and found.control.estimate("agg_risk") > found.estimate("agg_risk")


def test_groups_stay_whole(numbers):
    x, y, x_test, y_test = numbers
    groups = (np.arange(N) // 10, 1000 + np.arange(M) // 10)
    found = decompose(x, y, x_test, y_test, groups=groups, probe="ridge", n_threads=1)
    cells = found.judgements.subset.astype(int) * 10 + found.judgements.fold
    assert all(len(np.unique(cells[groups[0] == g])) == 1 for g in range(N // 10))
    assert found.estimates["risk_us"].n_groups == 20


def test_labels_are_drawn_by_their_combinations(labels, of_labels):
    _, y, _, _ = labels
    judged = of_labels.judgements
    codes = y @ [4, 2, 1]
    counts = np.bincount(codes, minlength=8)
    for code in np.flatnonzero(counts >= 16):
        per_fold = np.bincount(judged.fold[(codes == code) & (judged.fold >= 0)], minlength=5)
        assert per_fold.max() - per_fold.min() <= 1


def test_columns_of_a_file_and_of_a_bank(numbers, tmp_path):
    x, y, x_test, y_test = numbers
    both = np.concatenate([y, y_test])
    frame = {
        "features": np.concatenate([x, x_test]).tolist(),
        "label": np.arange(N + M) % 3,
        "split": ["train"] * N + ["test"] * M,
        "t_a": both[:, 0],
        "t_b": both[:, 1],
        "has_a": (both[:, 0] > 5).astype(int),
        "has_b": (both[:, 1] > -100).astype(int),
        "text": ["a", "b"] * ((N + M) // 2),
    }
    file = tmp_path / "f.parquet"
    pl.DataFrame(frame).write_parquet(file)

    def call(path, *more):
        line = ["decompose", str(path), "--threads", "1", "--out", str(tmp_path / "run"), "--force", *more]
        return CliRunner().invoke(main, line)

    done = call(file, "--target", "t_*", "--probe", "ridge")
    assert done.exit_code == 0, done.output
    assert "Numbers are predicted (2 a row)." in done.output and "target t_*" in done.output
    direct = decompose(x, y[:, :2], x_test, y_test[:, :2], probe="ridge", n_threads=1)
    assert Run.load(tmp_path / "run").decompositions[0].estimates == direct.estimates
    done = call(file, "--target", "has_a,has_b", "--probe", "ridge")
    assert done.exit_code == 0 and "1 - AUROC %" in done.output, done.output
    one = call(file, "--target", "has_a", "--probe", "ridge")
    assert one.exit_code == 0 and "predicted as 2 classes" in one.output
    bank = FeatureBank.open(import_bank(file, tmp_path / "bank").path)
    found = decompose(bank, target="t_a", probe="ridge", n_threads=1)
    assert found.method.metric == "r2" and found.sizes.classes == 1
    for more, words in {
        ("--target", "t_a"): r"the target t_a holds numbers, which a ridge probe predicts .* add --probe ridge",
        ("--target", "t_a", "--probe", "both"): "add --probe ridge",
        ("--target", "text,t_a", "--probe", "ridge"): "the column text holds 'a', which is no number",
        ("--target", "t_a,has_a", "--target-kind", "labels", "--probe", "ridge"): "is neither 0 nor 1",
        ("--target", "t_a", "--probe", "ridge", "--shots", "3"): "--shots is about classes",
        ("--target", "t_a", "--probe", "ridge", "--metric", "balanced"): "--metric is about classes",
        ("--target", "t_a", "--probe", "ridge", "--order", "both"): "--order is about classes",
        ("--target", "t_a,x_*", "--probe", "ridge"): r"no further column 'x_\*' to predict",
    }.items():
        failed = call(file, *more)
        assert failed.exit_code == 1 and re.search(words, failed.output), failed.output


def test_what_is_refused(numbers, labels):
    x, y, x_test, y_test = numbers
    ridge = {"probe": "ridge", "n_threads": 1}
    with pytest.raises(ParameterError, match="a logistic one does not: add --probe ridge"):
        decompose(x, y, x_test, y_test)
    with pytest.raises(ParameterError, match="--protocol paper is about classes"):
        decompose(x, y, x_test, y_test, protocol="paper", **ridge)
    gap = y.copy()
    gap[3, 1] = np.nan
    with pytest.raises(DataError, match="the target '1' has no value in row 3"):
        decompose(x, gap, x_test, y_test, **ridge)
    assert decompose(x, gap, x_test, y_test, drop_unlabelled=True, **ridge).sizes.train == N - 1
    masked = np.ma.MaskedArray(y, mask=np.isnan(gap))
    with pytest.raises(DataError, match="the target '1' has no value in row 3"):
        decompose(x, masked, x_test, y_test, **ridge)
    gap[3, 1] = np.inf
    with pytest.raises(DataError, match="is inf in row 3, which is not finite"):
        decompose(x, gap, x_test, y_test, **ridge)
    still = y.copy()
    still[:, 2] = 0.1
    with pytest.raises(ParameterError, match=r"the target '2' is 0\.1 in every training row"):
        decompose(x, still, x_test, y_test, **ridge)
    with pytest.raises(ShapeError, match="y has 3 targets, y_test has 2"):
        decompose(x, y, x_test, y_test[:, :2], **ridge)
    with pytest.raises(ShapeError, match="one-hot rows"):
        decompose(x, np.eye(3)[np.arange(N) % 3], x_test, np.eye(3)[np.arange(M) % 3], **ridge)
    row = np.arange(N)[None] % 3
    for kind in ("auto", "numbers", "classes"):
        with pytest.raises(ShapeError, match=rf"y_train have shape \(1, {N}\), one row of .*labels\.ravel\(\)"):
            decompose(x, row, x_test, row[:, :M], target_kind=kind, **ridge)
        with pytest.raises(ShapeError, match=rf"y_test have shape \(1, {M}\), one row of .*labels\.ravel\(\)"):
            decompose(x, row[0], x_test, row[:, :M], target_kind=kind, **ridge)
    _, has, _, has_test = labels
    none = has.copy()
    none[:, 1] = 0
    with pytest.raises(ParameterError, match="no training row has the label '1'"):
        decompose(x, none, x_test, has_test, **ridge)
    without = has_test.copy()
    without[:, 0] = 0
    found = decompose(x, has, x_test, without, **ridge)
    (note,) = (n for n in found.notes if n.code == "labels_left_out")
    assert note.sentence().startswith("1 of 3 labels are left out (0): too few test rows")
    # every risk is of the labels that are left
    only = decompose(x, has[:, 1:], x_test, has_test[:, 1:], **ridge)
    assert found.sizes.classes == 2 and found.estimate("risk_af") == pytest.approx(only.estimate("risk_af"), abs=1e-9)
    with pytest.raises(ParameterError, match=r"none of the 3 labels can be judged.*; give more rows$"):
        decompose(x, has, x_test, 0 * has_test, **ridge)  # fewer splits would not help
    bad = x.copy()
    bad[5, 2] = np.nan
    with pytest.raises(ParameterError, match=r"NaN|finite"):
        decompose(bad, y, x_test, y_test, **ridge)
    bad = x_test.copy()
    bad[7, 2] = np.nan
    with pytest.raises(ParameterError, match="X_test: row 7, feature 2 is NaN"):
        decompose(x, y, bad, y_test, **ridge)


def test_one_column_of_numbers_is_asked_for(numbers):
    x, y, x_test, y_test = numbers
    with pytest.raises(DataError, match="whole numbers"):
        decompose(x, y[:, 0], x_test, y_test[:, 0], probe="ridge")
    found = decompose(x, y[:, 0], x_test, y_test[:, 0], probe="ridge", target_kind="numbers", n_threads=1)
    assert found.method.metric == "r2" and found.sizes.classes == 1


def test_more_features_than_rows():
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((90, 150)).astype(np.float32), rng.standard_normal((150, 2))
    y = x @ w + rng.standard_normal((90, 2))
    found = decompose(x[:60], y[:60], x[60:], y[60:], probe="ridge", n_threads=1)
    predict = fitted(x[:60], y[:60], found.penalties["tuned"].value)
    expected = risk_of_numbers(y[60:], predict(x[60:]), y[:60].var(0))
    assert found.estimate("risk_us") == pytest.approx(expected, rel=1e-5)  # float32 scale, a wide condition
    assert found.estimate("risk_af") < 1e-3  # as many weights as rows


def test_squared_losses_are_in_units_of_the_training_variance():
    y = np.array([[1.0], [3.0]])
    scorer = Squared(y, y.mean(0), y.var(0))
    np.testing.assert_allclose(scorer.losses(np.array([[2.0], [3.0]]), np.arange(2)), [1.0, 0.0])
    assert scorer.chance(np.arange(2)) == 1.0


@pytest.mark.parametrize("kind", ["numbers", "labels"])
def test_a_probe_that_knows_its_rows_by_heart_has_no_largest_component(kind):
    rng = np.random.default_rng(0)
    x, noise = rng.standard_normal((100, 80)).astype(np.float32), rng.standard_normal((100, 2))
    y = x[:, :2] + noise if kind == "numbers" else (x[:, :2] + noise > 0).astype(int)
    wide = decompose(x[:60], y[:60], x[60:], y[60:], probe="ridge", target_kind=kind, n_threads=1)
    assert wide.floor.separable and wide.bottleneck.probability is None
    assert "interpolated" in {note.code for note in wide.notes} and "next to exactly" in str(wide)
    narrow = decompose(x[:60, :5], y[:60], x[60:, :5], y[60:], probe="ridge", target_kind=kind, n_threads=1)
    assert not narrow.floor.separable and narrow.bottleneck.probability is not None
    assert "interpolated" not in {note.code for note in narrow.notes}


def test_an_exact_linear_relation_is_no_interpolation():
    """It errs as little on test rows."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 5)).astype(np.float32)
    y = (x @ np.arange(5.0))[:, None] + 1e-3 * rng.standard_normal((300, 1))
    found = decompose(x[:200], y[:200], x[200:], y[200:], probe="ridge", target_kind="numbers", n_threads=1)
    assert found.estimate("risk_af") < 1e-3 and not found.floor.separable


def test_fewer_subsets_than_planned_are_said():
    """Twelve groups fill two of the three held-out subsets."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((90, 4)).astype(np.float32)
    y = x[:, :1] + rng.standard_normal((90, 1))
    groups = (np.repeat(np.arange(6), 10), 100 + np.repeat(np.arange(6), 5))
    found = decompose(
        x[:60], y[:60], x[60:], y[60:], groups=groups, probe="ridge", target_kind="numbers", n_subsets=3, n_threads=1
    )
    said = [note.code for note in found.notes]
    assert found.sizes.subsets < 3 and said.count("fewer_subsets") == 1


def test_labels_that_are_right_everywhere_were_not_learnt_by_heart():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 2)).astype(np.float32)
    y = (x > 0).astype(int)
    x = x + np.sign(x)  # a gap between those with a label and those without
    found = decompose(x[:400], y[:400], x[400:], y[400:], probe="ridge", target_kind="labels", n_threads=1)
    assert found.estimate("risk_af") == found.floor.on_test == 0
    assert not found.floor.separable and "interpolated" not in {note.code for note in found.notes}


@pytest.mark.parametrize("k", [1, 3])
def test_a_probe_of_numbers_varies_at_least_as_least_squares_does(k):
    """In half of the draws the variation was cut at 0, and intervals of probe generalization covered 79 %."""
    cut = 0
    for seed in range(6):
        (x, y), (x_test, y_test) = draw(10 + seed, 300, k), draw(50 + seed, 150, k)
        found = decompose(x, y, x_test, y_test, target_kind="numbers", probe="ridge", n_threads=1)
        e, v = found.estimates, found.variation
        least = (e["risk_as"].estimate - e["risk_af"].estimate) ** 2 / (2 * k * (D - 1))  # one feature is constant
        assert v.held >= least * (1 - 1e-9) and found.estimates["probe_gen"].se ** 2 > least
        alone = quantify(found.judgements, probe="ridge", corrected=True, metric=HEADLINES["r2"])
        if alone.variation.less(alone.choice).held < least:
            cut += 1
            assert v.test - alone.variation.test == pytest.approx(v.held - alone.variation.held)
            assert e["enc_gen"].se == pytest.approx(alone.estimates["enc_gen"].se, rel=1e-6)
            assert e["probe_gen"].se > alone.estimates["probe_gen"].se and (
                e["probe_gen"].df > 100 or alone.choice.held > 0
            )
        else:
            # R_AF varies by somewhat more than its residuals say
            assert e["probe_gen"].se == pytest.approx(alone.estimates["probe_gen"].se, rel=0.02)
    assert cut > 0


def test_the_square_of_residuals_varies_by_more_than_they_show():
    """With 60 features of 100 rows, standard errors of R_AF were 0.63 of what it varies by."""
    found = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        x, x_test = rng.standard_normal((100, 60)), rng.standard_normal((60, 60))
        y, y_test = (x[:, :1] + rng.standard_normal((len(x), 1)) for x in (x, x_test))
        e = decompose(x, y, x_test, y_test, target_kind="numbers", probe="ridge", n_threads=1).estimates["risk_af"]
        found.append((e.estimate, e.se))
    value, se = np.array(found).T
    assert value.std(ddof=1) * 0.85 < np.sqrt(np.mean(se**2)) < value.std(ddof=1) * 1.2  # 60 draws: 9 % of it


def test_penalties_of_numbers_are_half_a_decade_apart_next_to_the_best():
    (x, y), (x_test, y_test) = draw(10, 300, 1), draw(50, 150, 1)
    tuned = decompose(x, y, x_test, y_test, target_kind="numbers", probe="ridge", n_threads=1).penalties["tuned"]
    decades = [a for a in tuned.grid if f"{a:e}".startswith("1.0000")]
    assert decades == pytest.approx([10.0**p for p in range(-5, 4)])
    steps = [a for a in tuned.grid if a not in decades]
    best = min(decades, key=lambda a: tuned.losses[tuned.grid.index(a)])
    assert steps and all(abs(np.log10(a / best)) == pytest.approx(0.5, abs=1e-5) for a in steps)
