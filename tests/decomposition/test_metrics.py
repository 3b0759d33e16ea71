"""Other metrics than the 0-1 error: against scikit-learn, their identities, their records, and what cannot be had."""

import json
import math
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import sklearn.metrics as sk
from click.testing import CliRunner
from ssl_risk_rs import LogisticProbe, ParameterError, Run, read_results, to_latex
from ssl_risk_rs.cli import main
from ssl_risk_rs.decomposition import decompose
from ssl_risk_rs.decomposition.intervals import quantify
from ssl_risk_rs.decomposition.metrics import with_metrics
from ssl_risk_rs.decomposition.paired import compare
from ssl_risk_rs.decomposition.scores import RowScores
from ssl_risk_rs.results import ResultError
from ssl_risk_rs.results.estimate import Grade
from ssl_risk_rs.results.judgements import Outcome
from ssl_risk_rs.results.metrics import BINS, METRICS, calibrated_by_chance, parse_metrics, risk_of, row_weights
from ssl_risk_rs.results.quantities import QUANTITIES

EVERY = "balanced,top5,log_loss,ece"
K, D = 7, 9


def rows_of(n, seed, shares=None):
    """Overlapping Gaussians, classes of unequal size."""
    rng = np.random.default_rng(seed)
    y = np.sort(rng.choice(K, n, p=shares or [0.3, 0.2, 0.15, 0.1, 0.1, 0.1, 0.05]))
    y[:K] = np.arange(K)
    means = 0.9 * np.random.default_rng(0).standard_normal((K, D))
    return (means[y] + rng.standard_normal((n, D))).astype(np.float32), y


@pytest.fixture(scope="module")
def data():
    return *rows_of(900, 1), *rows_of(300, 2)


@pytest.fixture(scope="module")
def result(data):
    return decompose(*data, metrics=EVERY, n_threads=1)


def softmax(scores):
    e = np.exp(scores - scores.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


@pytest.fixture(scope="module")
def probabilities(data, result):
    """Of the test rows, by the probe at α*, fitted apart."""
    x, y, x_test, _ = data
    alpha = result.penalties["tuned"].value
    probe = LogisticProbe(alpha, scaling="standardize", tol=1e-6, n_threads=1).fit(x, y)
    return softmax(probe.decision_function(x_test).astype(np.float64))


def loop_ece(p, y):
    """Calibration error by its definition: a loop over bins."""
    confidence, right = p.max(1), p.argmax(1) == y
    total = 0.0
    for b in range(BINS):
        own = (confidence >= b / BINS) & ((confidence < (b + 1) / BINS) | (b == BINS - 1))
        if own.any():
            total += own.mean() * abs(confidence[own].mean() - right[own].mean())
    return total


def test_risks_are_those_of_scikit_learn(data, result, probabilities):
    y, predicted = data[3], probabilities.argmax(1)
    theirs = {
        "balanced": 1 - sk.balanced_accuracy_score(y, predicted),
        "top5": 1 - sk.top_k_accuracy_score(y, probabilities, k=5),
        "log_loss": sk.log_loss(y, probabilities),
        "ece": loop_ece(probabilities, y),
    }
    for name, value in theirs.items():
        # the judged fit and this one end within 1e-6 of their optimum: scores differ by some 1e-3
        assert result.metric(name).estimates["risk_us"].estimate == pytest.approx(value, abs=2e-3), name


def test_confidence_follows_from_loss_and_margin(data, result, probabilities):
    outcome = result.judgements.us
    np.testing.assert_allclose(outcome.confidence, probabilities.max(1), atol=2e-3)  # as above
    assert (outcome.confidence > 1 / K).all() and (outcome.confidence <= 1).all()
    # a row as far off as float32 scores go
    far = Outcome(*(np.array([v], t) for v, t in ((1, "u4"), (1, "u4"), (80.0, "f4"), (-80.0, "f4"))))
    assert far.confidence[0] == 1.0


@pytest.mark.parametrize("metric", list(METRICS))
def test_components_sum_to_the_total_in_every_metric(result, metric):
    estimates = result.estimates if metric == "error" else result.metric(metric).estimates
    total = sum(estimates[name].estimate for name in result.component_names)
    assert total == pytest.approx(estimates["agg_risk"].estimate, abs=1e-12)
    assert set(estimates) == set(result.estimates)
    for e in estimates.values():
        assert e.low <= e.estimate <= e.high and e.se >= 0


def test_the_error_stays_the_headline(data, result):
    alone = decompose(*data, n_threads=1)
    assert alone.penalties["tuned"] == result.penalties["tuned"] and alone.metrics == ()
    assert alone.estimates == result.estimates


def test_standard_errors_are_those_of_stratified_means(result):
    """R_CS of equal probes is a mean over independent rows of fixed class counts: its variance by class, by hand."""
    j = replace(result.judgements, cs=result.judgements.cs[:1] * 3, fold_margins=None)  # no probe variation
    y = j.test_labels
    counts = np.bincount(y, minlength=K)
    values = {"balanced": j.cs[0].wrong.astype(float), "log_loss": j.cs[0].loss.astype(float)}
    for name, value in values.items():
        weight = 1 / K / counts if name == "balanced" else np.full(K, 1 / len(y))
        by_class = [counts[c] * weight[c] ** 2 * value[y == c].var(ddof=1) for c in range(K)]
        e = quantify(j, probe="logistic", corrected=True, metric=METRICS[name]).estimates["risk_cs"]
        assert e.se == pytest.approx(np.sqrt(sum(by_class) * 1.0), rel=1e-9), name
        assert row_weights(METRICS[name], y, K).sum() == pytest.approx(1, abs=1e-12)


def test_balanced_error_of_equal_classes_is_the_error():
    x, y = rows_of(K * 60, 1, [1 / K] * K)
    order = np.argsort(np.arange(len(y)) % K, kind="stable")
    y = np.repeat(np.arange(K), 60)
    x = (x[order] * 0.2 + np.eye(K, D)[y]).astype(np.float32)
    result = decompose(x[::2], y[::2], x[1::2], y[1::2], probe="ridge", metrics=("balanced",), n_threads=1)
    for name in ("risk_af", "risk_us", "risk_cs"):
        ours, other = result.estimates[name], result.metric("balanced").estimates[name]
        assert other.estimate == pytest.approx(ours.estimate, abs=1e-12)
        assert other.se == pytest.approx(ours.se, rel=1e-9)


def test_calibration_by_chance_is_what_calibrated_probes_show():
    rng = np.random.default_rng(0)
    n = 600
    shown, expected = [], []
    for _ in range(200):
        p = softmax(2 * rng.standard_normal((n, 4)))
        y = (rng.random((n, 1)) > p.cumsum(1)).sum(1)
        own = p[np.arange(n), y]
        others = np.where(np.arange(4) == y[:, None], 0, p)
        margin = np.log(own) - np.log(others.max(1))
        outcome = Outcome(
            p.argmax(1).astype(np.uint32), (p > own[:, None]).sum(1).astype(np.uint32),
            -np.log(own).astype(np.float32), margin.astype(np.float32),
        )  # fmt: skip
        shown.append(risk_of(METRICS["ece"], outcome, y, 4))
        expected.append(calibrated_by_chance(outcome))
    # the normal approximation within bins; the mean over 200 draws is known to about 1 %
    assert np.mean(shown) == pytest.approx(np.mean(expected), rel=0.05)


def test_groups_and_class_shares_are_held_in_every_metric(data):
    x, y, x_test, y_test = data
    order, order_test = np.argsort(np.arange(len(y)) % 60), np.argsort(np.arange(len(y_test)) % 40)
    groups = (np.arange(len(y)) // 15, 1000 + np.arange(len(y_test)) // 7)
    args = (x[order], y[order], x_test[order_test], y_test[order_test])
    result = decompose(*args, groups=groups, metrics=EVERY, n_threads=1)
    assert "risk_us_mix" in result.estimates and "risk_us_mix" in result.metric("log_loss").estimates
    assert "risk_us_mix" not in result.metric("balanced").estimates  # every class weighs the same in both
    assert result.metric("ece").estimates["risk_us"].n_groups == result.estimates["risk_us"].n_groups


def test_runs_hold_the_metrics(result, tmp_path):
    run = Run.of(result)
    loaded = Run.load(run.save(tmp_path / "run"))
    assert str(loaded) == str(run)
    assert "in other metrics" in str(run) and "log-loss" in str(run)
    assert max(map(len, str(run).split("in other metrics")[1].split("\n")[:6])) <= 80
    assert loaded.decompositions[0].metric("ece") == result.metric("ece")
    frame = read_results(tmp_path / "run")
    totals = frame.filter(quantity="agg_risk").select("metric", "unit").rows()
    assert totals == [("error", "fraction"), *((m, METRICS[m].unit) for m in EVERY.split(","))]
    assert to_latex(frame).count("features &") == 1  # 0-1 errors only
    with pytest.raises(ResultError, match=r"no metric 'f1' \(it has balanced, top5, log_loss, ece\)"):
        result.metric("f1")


def test_runs_made_before_there_were_metrics_are_read(result, tmp_path):
    folder = Run.of(replace(result, metrics=())).save(tmp_path / "run")
    file = folder / "results.parquet"
    pl.read_parquet(file).drop("metric").write_parquet(file)
    document = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    del document["decompositions"][0]["metrics"], document["sha256"]
    (folder / "run.json").write_text(json.dumps(document), encoding="utf-8")
    with np.load(folder / "outcomes.npz") as archive:
        kept = {name: archive[name] for name in archive.files if "fold_losses" not in name and "fold_ranks" not in name}
    np.savez_compressed(folder / "outcomes.npz", **kept)
    assert read_results(folder)["metric"].unique().to_list() == ["error"]
    old = with_metrics(Run.load(folder).decompositions[0], EVERY)
    for name in EVERY.split(","):
        ours, new = old.metric(name).estimates, result.metric(name).estimates
        for quantity, e in ours.items():
            assert e.estimate == new[quantity].estimate
        # losses and ranks of the fold probes are not there: the complements tell how the probe varies
        if name != "top5":  # whose probes do not vary here
            assert (ours["risk_us"].se == new["risk_us"].se) == (name == "balanced")


def test_a_run_without_rows_has_the_error_only(result):
    with pytest.raises(ParameterError, match="holds no judged rows"):
        with_metrics(replace(result, judgements=None), "balanced")


def test_metrics_of_a_loaded_run_are_those_of_the_live_one(data, result):
    plain = decompose(*data, n_threads=1)
    assert with_metrics(plain, EVERY).metrics == result.metrics
    assert with_metrics(result, "balanced") == result or with_metrics(result, "balanced").metrics == result.metrics


def test_what_cannot_be_asked_for(data):
    x, y, x_test, y_test = data
    with pytest.raises(ParameterError, match="'f1' is no metric; choose from error, balanced, top5, log_loss, ece"):
        decompose(*data, metrics="f1")
    for name in ("log_loss", "ece"):
        with pytest.raises(ParameterError, match=f"the metric {name} needs probabilities"):
            decompose(*data, probe="ridge", metrics=name)
    few = decompose(x, y % 3, x_test, y_test % 3, probe="ridge", metrics="top5,balanced", n_threads=1)
    assert [found.metric for found in few.metrics] == ["balanced"]
    (note,) = (n for n in few.notes if n.code == "metric_left_out")
    assert note.sentence() == "The top-5 error is left out: with 3 classes it is 0 for every probe; it needs 6 or more."
    assert [m.name for m in parse_metrics("ece, error,ece")] == ["error", "ece"]


def test_log_losses_next_to_0_have_intervals():
    """A probe that separates its rows: the factor H/R is in the millions, and a log scale alone would overflow."""
    rng = np.random.default_rng(0)
    y = np.arange(300) % 3
    x = (np.eye(3, 8)[y] * 40 + rng.standard_normal((300, 8))).astype(np.float32)
    x[250:252] = x[251:253]  # two test rows of the wrong class
    result = decompose(x[:200], y[:200], x[200:], y[200:], metrics="log_loss,ece", floor=1e-9, tol=1e-3, n_threads=1)
    e = result.metric("log_loss").estimates["risk_af"]
    assert 0 <= e.low <= e.estimate <= e.high < 100 and e.grade.value == "indicative"
    assert result.metric("log_loss").estimates["risk_us"].estimate > 1e3 * e.estimate


def test_a_fold_that_lacks_a_class_does_not_make_the_log_loss_vary(rng):
    """Its probe gives the class a probability of e^-10000, whose logarithm made half-intervals of 1,000 nats."""
    y, y_test = np.r_[np.arange(400) % 4, 4], np.r_[np.arange(150) % 4, [4] * 5]
    means = rng.standard_normal((5, 6))
    x, x_test = ((means[v] + rng.standard_normal((len(v), 6))).astype(np.float32) for v in (y, y_test))
    found = decompose(x, y, x_test, y_test, metrics="log_loss", n_threads=1).metric("log_loss")
    known = y_test < 4
    plain = decompose(x, y, x_test[known], y_test[known], metrics="log_loss", n_threads=1).metric("log_loss")
    for name in ("risk_us", "risk_as", "probe_gen"):
        assert found.estimates[name].se < 3 * plain.estimates[name].se, name
    (note,) = found.notes
    assert note.code == "variation_without_classes" and note.values["classes"] == 1 and not plain.notes


def test_intervals_of_the_balanced_error_do_not_know_the_order_of_rows(rng):
    """Groups of several classes: each counted as one of the class of its last row."""
    n, m, k = 300, 120, 3
    y, y_test = (rng.choice(k, size, p=[0.6, 0.3, 0.1]) for size in (n, m))
    groups, groups_test = np.arange(n) // 10, 1000 + np.arange(m) // 10
    means = rng.standard_normal((k, 6))
    x, x_test = ((means[v] + rng.standard_normal((len(v), 6))).astype(np.float32) for v in (y, y_test))

    def made(train, test):
        ids = [f"r{i}" for i in train] + [f"r{n + i}" for i in test]
        return decompose(x[train], y[train], x_test[test], y_test[test], groups=(groups[train], groups_test[test]),
                         probe="ridge", sample_ids=ids, metrics="balanced", n_threads=1).metric("balanced")  # fmt: skip

    one, other = made(np.arange(n), np.arange(m)), made(rng.permutation(n), rng.permutation(m))
    for name, e in one.estimates.items():
        there = other.estimates[name]
        # sums of float32 in another order
        assert (e.df, e.low, e.high) == pytest.approx((there.df, there.low, there.high), rel=1e-6), name


def test_groups_of_one_effective_unit_a_class_have_an_interval_of_the_balanced_error():
    rng = np.random.default_rng(396)  # a class of one test group, shared with others: its degrees were 0
    n, m, k = 60, 30, 3
    y, y_test = rng.choice(k, n), rng.choice(k, m)
    groups = rng.integers(0, 12, n), 1000 + rng.integers(0, 4, m)
    x, x_test = rng.normal(size=(n, 3)).astype(np.float32), rng.normal(size=(m, 3)).astype(np.float32)
    found = decompose(x, y, x_test, y_test, probe="ridge", groups=groups, metrics="balanced", n_threads=1)
    assert found.metric("balanced").estimates["risk_us"].df >= 1


def test_a_class_of_few_test_rows_may_be_right_by_chance():
    """Two rows of a class weigh as much as 200 of the other; where both are right they show no variance. Of 300 draws,
    intervals held the truth in 33 % before; with four and eight such rows in 61 and 84 %."""
    held, marked, apart_se = 0, 0, list[float]()
    for seed in range(60):
        rng = np.random.default_rng(seed)
        y, y_test = np.repeat([0, 1], 300), np.repeat([0, 1], [200, 2])
        x, x_test = ((0.75 * of[:, None] + rng.standard_normal((len(of), 4))).astype(np.float32) for of in (y, y_test))
        found = decompose(x, y, x_test, y_test, probe="ridge", metrics="balanced", n_threads=1, midpoint=False)
        total, apart = (found.metric("balanced").estimates[name] for name in ("risk_us", "label_count"))
        held += total.low <= 0.2275 <= total.high  # Φ(−0.75), what the best rule errs on in each class
        marked += total.grade is not Grade.SOUND and apart.grade is not Grade.SOUND
        apart_se.append(apart.se)
    assert held >= 53 and marked == 60
    assert np.median(apart_se) < 0.06  # two probes on the same rows: not each as if the other were not there


def test_classes_without_test_rows_are_said(data):
    x, y, x_test, y_test = data
    some = y_test > 0
    result = decompose(x, y, x_test[some], y_test[some], probe="ridge", metrics="balanced", n_threads=1)
    (note,) = result.metric("balanced").notes
    assert note.sentence().startswith("1 of 7 classes have no test row")
    outcome = result.judgements.us
    by_hand = np.mean([outcome.wrong[y_test[some] == c].mean() for c in range(1, K)])
    assert result.metric("balanced").estimates["risk_us"].estimate == pytest.approx(by_hand, abs=1e-12)


def test_on_the_command_line(data, tmp_path):
    x, y, x_test, y_test = data
    file = tmp_path / "f.npz"
    np.savez(file, X_train=x, y_train=y, X_test=x_test, y_test=y_test)

    def call(*more):
        return CliRunner().invoke(main, ["decompose", str(file), "--out", str(tmp_path / "run"), *more])

    done = call("--probe", "both", "--metric", "balanced,log_loss", "--threads", "1")
    assert done.exit_code == 0, done.output
    assert "these metrics are left out: log_loss." in done.output
    first, second = Run.load(tmp_path / "run").decompositions
    assert [m.metric for m in first.metrics] == ["balanced", "log_loss"]
    assert [m.metric for m in second.metrics] == ["balanced"]
    refused = call("--probe", "ridge", "--metric", "ece", "--force")
    assert refused.exit_code == 2 and "needs probabilities" in refused.output
    unknown = call("--metric", "f1", "--force")
    assert unknown.exit_code == 2 and "'f1' is no metric" in unknown.output


# --- comparisons


def two(counts, test_counts, seed=0):
    """Decompositions of all features, and of two thirds of them, of the same rows."""
    rng = np.random.default_rng(seed)
    centres = 0.5 * np.random.default_rng(9).normal(size=(len(counts), 12))

    def rows(numbers):
        y = np.repeat(np.arange(len(numbers)), numbers)
        return (centres[y] + rng.normal(size=(len(y), 12))).astype(np.float32), y

    (x, y), (xt, yt) = rows(counts), rows(test_counts)
    options = {"probe": "ridge", "n_threads": 1, "midpoint": False, "metrics": "balanced,top5"}
    return [decompose(x[:, :d].copy(), y, xt[:, :d].copy(), yt, name=str(d), **options) for d in (12, 8)]


@pytest.mark.parametrize("metric", ["balanced", "top5"])
def test_differences_in_a_metric_are_those_of_the_decompositions(metric):
    results = two([90, 60, 40, 30, 25, 20, 20], [60, 40, 30, 30, 20, 20, 20])
    found = compare(results, metric=metric)
    one, other = (r.metric(metric).estimates for r in results)
    for d in found.differences:
        expected = other[d.quantity].estimate - one[d.quantity].estimate
        assert d.difference == pytest.approx(expected, abs=1e-12)
        assert d.se < 1.2 * math.hypot(one[d.quantity].se, other[d.quantity].se)  # paired
    assert found.metric == metric and set(found.frame()["metric"]) == set(found.rank_frame()["metric"]) == {metric}
    assert METRICS[metric].label in str(found) and METRICS[metric].label not in str(compare(results))
    expected = [r.metric(metric).estimates["agg_risk"].estimate for r in results]
    assert [r.estimate for r in found.ranks if r.quantity == "agg_risk"] == pytest.approx(expected)


def test_balanced_differences_of_equal_classes_are_those_of_the_error():
    results = two([60] * 4, [40] * 4)
    plain, balanced = compare(results), compare(results, metric="balanced")
    for a, b in zip(plain.differences, balanced.differences, strict=True):
        assert (b.difference, b.se, b.low, b.high) == pytest.approx((a.difference, a.se, a.low, a.high), abs=1e-9)


def test_a_class_of_few_rows_does_not_decide_a_comparison_unseen():
    """Its four rows are right for both, and weigh as much as two hundred others."""
    results = two([200, 200, 100], [200, 200, 4])
    rare = [replace(r, judgements=replace(r.judgements, us=right(r.judgements))) for r in results]
    d = compare(rare, metric="balanced").difference("8", "agg_risk")
    j = [r.judgements for r in rare]
    weights = 1 / (3 * np.bincount(j[0].test_labels)[j[0].test_labels])
    differ = (j[1].us.wrong.astype(float) - j[0].us.wrong) ** 2
    least = (weights @ differ - d.difference**2) * (weights @ weights)
    assert d.se**2 >= least * (1 - 1e-9) and d.grade is not Grade.SOUND
    assert d.se > 1.5 * compare(rare).difference("8", "agg_risk").se


def right(judged):
    """The outcome of the full probe, with the rows of the last class predicted rightly."""
    rare = judged.test_labels == judged.test_labels.max()
    rank, margin = np.where(rare, 0, judged.us.rank), np.where(rare, 1, judged.us.margin)
    return replace(judged.us, rank=rank.astype(np.uint32), margin=margin.astype(np.float32))


def test_metrics_that_are_not_paired_are_refused():
    results = two([60] * 4, [40] * 4)
    with pytest.raises(ParameterError, match="metric must be 'error', 'balanced' or 'top5', got 'log_loss'"):
        compare(results, metric="log_loss")
    with pytest.raises(ParameterError, match="top-5 error of 4 classes is 0 for every probe: it needs 6 or more"):
        compare(results, metric="top5")


def _in_groups(shift: float = 0.7, test_counts=(200, 195, 5)):
    """Three classes, one of few test rows, in groups of several classes whose rows share a shift."""
    rng = np.random.default_rng(1)

    def draw(counts, first):
        y = rng.permutation(np.repeat(np.arange(3), counts))
        groups = np.arange(len(y)) // 5
        moved = shift * rng.normal(size=(groups.max() + 1, 6))[groups]
        return (1.2 * np.eye(3, 6)[y] + moved + rng.normal(size=(len(y), 6))).astype(np.float32), y, first + groups

    (x, y, g), (xt, yt, gt) = draw([400, 400, 200], 0), draw(test_counts, 1000)
    return decompose(x, y, xt, yt, groups=(g, gt), probe="ridge", metrics="balanced", n_threads=1)


@pytest.mark.parametrize("metric", ["error", "balanced"])
def test_what_rows_score_makes_the_risks(metric):
    """Weights times values, in one order of rows, of every risk that has no control variate."""
    found = _in_groups()
    rows = RowScores(found.judgements, corrected=True, random_counts=False, metric=METRICS[metric])
    assert metric == "balanced" or "risk_us_mix" in rows.names
    for name, risk in zip(rows.names, rows.risks, strict=True):
        if name == "risk_as":
            continue
        weights = np.concatenate([w for _, w in rows._weights()[QUANTITIES[name].rows]])
        assert weights @ rows.values(name) == pytest.approx(risk, abs=1e-12), name


def test_class_shares_that_are_drawn_change_no_balanced_error(data):
    """Where every class weighs the same, other class shares move nothing."""
    fixed, drawn = (
        with_metrics(decompose(*data, probe="ridge", n_threads=1, random_counts=random), "balanced")
        for random in (False, True)
    )
    assert drawn.estimates["risk_us"].se > fixed.estimates["risk_us"].se
    for name, e in fixed.metric("balanced").estimates.items():
        assert drawn.metric("balanced").estimates[name].se == pytest.approx(e.se, rel=1e-12), name


def test_what_few_units_decide_is_raised_by_what_groups_make_of_the_error():
    found = _in_groups(shift=2.5)
    plain, rows = (
        RowScores(found.judgements, corrected=True, random_counts=False, metric=METRICS[name])
        for name in ("error", "balanced")
    )
    assert "test" in rows.few_decide
    i, j = plain.names.index("risk_us"), rows.names.index("risk_us")
    p, risk = plain.risks[i], rows.risks[j]
    factor = sum(c[i, i] for c in plain.covariance.values()) / (p * (1 - p) / plain.n_test)
    assert factor > 1.2  # rows of a group err together
    least = risk * (1 - risk) * float(rows.test_weight @ rows.test_weight) * factor
    assert sum(c[j, j] for c in rows.covariance.values()) >= least * (1 - 1e-9)


def test_the_table_has_half_of_each_interval(result):
    lines = str(Run.of(result)).splitlines()
    start = next(i for i, line in enumerate(lines) if line.strip().startswith("in other metrics"))
    (row,) = (line for line in lines[start:] if line.strip().startswith("aggregated risk"))
    for name, scale, digits in (("balanced", 100, 2), ("log_loss", 1, 3)):
        e = result.metric(name).estimates["agg_risk"]
        assert f"{scale * e.estimate:.{digits}f}±{scale * (e.high - e.low) / 2:.{digits}f}" in row
