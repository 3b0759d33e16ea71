"""The reference intervals against brute-force resampling, scipy and examples worked by hand."""

import dataclasses
import math

import numpy as np
import pytest
import scipy.stats

from reference import intervals, strict


def outcomes(rng, train_counts, test_counts, *, n_sub=2, probe="ridge", risk=0.3):
    """Made-up errors, correlated between probes, with `n_sub` rows of each class in each of three subsets."""
    train_y = np.repeat(np.arange(len(train_counts)), train_counts)
    test_y = np.repeat(np.arange(len(test_counts)), test_counts)
    cells = np.concatenate([np.r_[np.repeat([5, 6, 7], n_sub), np.arange(n - 3 * n_sub) % 5] for n in train_counts])
    n, m = len(train_y), len(test_y)
    hard, hard_test = rng.random(n), rng.random(m)

    def errors(base, p):
        return (0.7 * base + 0.3 * rng.random(base.shape) < p).astype(float)

    margins = 0.4 - rng.random(m)
    return strict.Outcomes(
        train_y=train_y,
        test_y=test_y,
        cells=cells,
        n_folds=5,
        n_classes=len(train_counts),
        probe=probe,
        af=errors(hard, risk),
        full=errors(hard, risk + 0.05),
        as_=np.where(cells >= 5, errors(hard, risk + 0.1), np.nan),
        us=errors(hard_test, risk + 0.1),
        cs=np.stack([errors(hard_test, risk + 0.12) for _ in range(3)]),
        sup=errors(hard, risk - 0.1),
        af_test=0.45,
        sup_test=0.25,
        fold_margins=margins + 0.2 * rng.standard_normal((5, m)),
        full_margins=margins,
        held_fold_margins=None,
        held_margins=np.zeros(0),
    )


def reference_of(o):
    w, b = o.weights(), o.coefficient()
    in_subset = o.cells >= 5
    risks = {
        "risk_sup": o.sup.mean(),
        "risk_af": o.af.mean(),
        "risk_as": (w * (o.as_ - b * o.full))[in_subset].sum() + b * o.full.mean(),
        "risk_cs": o.cs.mean(),
        "risk_us": o.us.mean(),
    }
    return strict.StrictReference(risks, strict.components(risks), 1e-2, {}, b, 0.0, o)


def resampled(o, b, train_rows, test_rows):
    """Every quantity from resampled row numbers with stated multiplicity: class means weighted by fixed shares."""
    w = o.weights()
    n = len(o.train_y)
    sub = [r for r in train_rows if o.cells[r[0]] >= 5]
    values = dict.fromkeys(("risk_af", "risk_sup", "risk_as"), 0.0)
    for rows in train_rows:  # one array for each set and class, rescaled to the class's rows in that set
        size = np.sum((o.train_y == o.train_y[rows[0]]) & ((o.cells >= 5) == (o.cells[rows[0]] >= 5)))
        values["risk_af"] += o.af[rows].mean() * size / n
        values["risk_sup"] += o.sup[rows].mean() * size / n
        values["risk_as"] += b * o.full[rows].mean() * size / n
    for rows in sub:
        values["risk_as"] += ((o.as_ - b * o.full)[rows]).mean() * w[(o.train_y == o.train_y[rows[0]])].sum()
    test = {"risk_us": 0.0, "risk_cs": 0.0}
    for rows in test_rows:
        share = np.mean(o.test_y == o.test_y[rows[0]])
        test["risk_us"] += o.us[rows].mean() * share
        test["risk_cs"] += o.cs.mean(0)[rows].mean() * share
    values |= test
    return {q: sum(sign * values[r] for r, sign in parts.items()) for q, parts in intervals.COMBINATIONS.items()}


def strata_rows(o):
    train = [
        np.flatnonzero((o.train_y == c) & ((o.cells >= 5) == inside))
        for inside in (True, False)
        for c in range(o.n_classes)
    ]
    return train, [np.flatnonzero(o.test_y == c) for c in range(o.n_classes)]


def test_row_variance_is_that_of_the_bootstrap_with_n_minus_one_draws():
    rng = np.random.default_rng(0)
    o = outcomes(rng, (30, 24, 36), (18, 20, 14), n_sub=3)
    o = dataclasses.replace(o, fold_margins=None)  # rows only
    reference = reference_of(o)
    b = reference.control_coefficient
    train, test = strata_rows(o)
    got = intervals.estimates(reference)
    exact = resampled(o, b, train, test)
    draws = [
        resampled(
            o,
            b,
            [rng.choice(rows, len(rows) - 1) for rows in train],
            [rng.choice(rows, len(rows) - 1) for rows in test],
        )
        for _ in range(3000)
    ]
    for quantity in intervals.COMBINATIONS:
        assert got[quantity].estimate == pytest.approx(exact[quantity])
        spread = np.std([d[quantity] for d in draws], ddof=1)
        # a standard deviation from 3,000 draws is known to 1.3 %: four of them
        assert got[quantity].se == pytest.approx(spread, rel=0.052), quantity
        assert got[quantity].df == math.inf


def test_variance_of_one_class_groups_is_that_of_resampled_groups():
    rng = np.random.default_rng(1)
    o = outcomes(rng, (60, 80), (50, 40), n_sub=5)
    o = dataclasses.replace(o, fold_margins=None)
    # groups of five rows that lie in one cell and class: subset rows come in fives already
    order = np.lexsort((np.where(o.cells >= 5, o.cells, 0), o.train_y))
    train_groups = np.empty(len(o.train_y), int)
    train_groups[order] = np.arange(len(order)) // 5
    for g in np.unique(train_groups):
        assert (
            len({(c >= 5, y) for c, y in zip(o.cells[train_groups == g], o.train_y[train_groups == g], strict=True)})
            == 1
        )
    test_groups = np.arange(len(o.test_y)) // 5
    reference = reference_of(o)
    got = intervals.estimates(reference, (train_groups, test_groups))
    train, test = strata_rows(o)

    def draw(rows, groups):
        names = np.unique(groups[rows])
        return np.concatenate([np.flatnonzero(groups == g) for g in rng.choice(names, len(names) - 1)])

    draws = [
        resampled(
            o,
            reference.control_coefficient,
            [draw(rows, train_groups) for rows in train],
            [draw(rows, test_groups) for rows in test],
        )
        for _ in range(3000)
    ]
    for quantity in intervals.COMBINATIONS:
        spread = np.std([d[quantity] for d in draws], ddof=1)
        assert got[quantity].se == pytest.approx(spread, rel=0.052), quantity
    # ten test groups of class 0, eight of class 1: Welch and Satterthwaite, as scipy has it for two means
    sums = [np.array([o.us[test_groups == g].sum() for g in np.unique(test_groups[o.test_y == c])]) for c in (0, 1)]
    welch = scipy.stats.ttest_ind(sums[0] * len(sums[0]), sums[1] * len(sums[1]), equal_var=False)
    assert got["risk_us"].df == pytest.approx(welch.df)
    assert got["risk_us"].se == pytest.approx(np.sqrt(sum(len(s) * s.var(ddof=1) for s in sums)) / len(o.test_y))


def test_mixed_groups_add_up_to_the_cluster_variance_of_a_mean():
    # many groups of equal size: kappa → 1, and centring by class plus a_i is centring on the overall mean
    rng = np.random.default_rng(2)
    o = outcomes(rng, (300, 300), (2000, 2000))
    o = dataclasses.replace(o, fold_margins=None)
    test_groups = rng.permutation(4000) % 1000
    got = intervals.estimates(reference_of(o), (np.arange(600), test_groups))
    totals = np.array([(o.us[test_groups == g] - o.us.mean()).sum() for g in range(1000)]) / 4000
    # kappa² differs from 1 by 1 / 1000
    assert got["risk_us"].se == pytest.approx(np.sqrt((totals**2).sum()), rel=2e-3)
    assert got["risk_us"].df == pytest.approx(999)
    mix = intervals.class_mix_scores(o.us / 4000, o.test_y)
    class_means = np.array([o.us[o.test_y == c].mean() for c in (0, 1)])
    np.testing.assert_allclose(mix, (class_means[o.test_y] - o.us.mean()) / 4000, atol=1e-12)


def test_strata_of_one_row_are_paired_by_training_error():
    rng = np.random.default_rng(3)
    o = outcomes(rng, (20,) * 5, (1,) * 5, n_sub=2)
    full = np.zeros(100)
    for c, errors in enumerate((4, 1, 3, 0, 9)):
        full[np.flatnonzero(o.train_y == c)[:errors]] = 1
    o = dataclasses.replace(o, full=full, us=np.array([1.0, 0, 0, 0, 1]), fold_margins=None)
    plan = intervals.layout(o, None)
    assert [s.classes for s in plan.strata["te"]] == [(3, 1), (2, 0, 4)]
    assert [s.classes for s in plan.strata["sub"]] == [(3,), (1,), (2,), (0,), (4,)]
    # pair (3, 1): errors 0, 0; three classes (2, 0, 4): errors 0, 1, 1, so 3/2 · 2/3 / 5² = 1 / 25
    assert intervals.estimates(reference_of(o))["risk_us"].rows_variance == pytest.approx(1 / 25)
    # one such class alone joins the one nearest in training error: 2 (3 errors), 0 (4) is its neighbour
    o = dataclasses.replace(o, test_y=np.array([0, 0, 1, 1, 2, 3, 3, 4, 4]), us=np.zeros(9), cs=np.zeros((3, 9)),
                            full_margins=np.zeros(9))  # fmt: skip
    assert (2, 0) in [s.classes for s in intervals.layout(o, None).strata["te"]]


def test_two_classes_in_one_single_group_fall_back_on_the_set():
    rng = np.random.default_rng(4)
    o = outcomes(rng, (20,) * 4, (6,) * 4)
    # classes 0 and 1 lie in test group 0 alone, the others in six groups
    groups = np.r_[np.zeros(12, int), 1 + np.arange(12) % 6]
    plan = intervals.layout(o, (np.arange(80), groups))
    pair = next(s for s in plan.strata["te"] if set(s.classes) == {0, 1})
    assert len(pair.centre_rows) == 24
    assert pair.effective_groups == pytest.approx(24**2 / (12**2 + 6 * 2**2))


def test_probe_variance_by_hand():
    # four probes that differ by a constant risk: no noise of test rows, V_P = S² (K − 1)² / K · n_B / N
    rng = np.random.default_rng(5)
    o = outcomes(rng, (20, 20), (10, 10), n_sub=1)
    margins = np.full((4, 20), 1.0)
    z = np.array([-1.0, 0.0, 0.5, 2.0])
    o = dataclasses.replace(o, fold_margins=margins * z[:, None])
    h = o.full_margins.std() * 20 ** (-0.2)
    risk = [scipy.stats.norm.sf(v / h) for v in z]
    expected = np.var(risk, ddof=1) * 9 / 4 * 34 / 40
    assert intervals.probe_variance(o, None) == pytest.approx(expected)
    # all differences are in one test row of one probe: noise of the rows, nothing left of it by rows or by groups
    margins = np.ones((4, 20))
    margins[0, 3] = -1
    o = dataclasses.replace(o, fold_margins=margins)
    # S² and N² are equal up to rounding
    assert intervals.probe_variance(o, None) < 1e-15
    assert intervals.probe_variance(o, np.arange(20) // 2) < 1e-15


def test_both_errors_of_a_probe_by_hand():
    """Four probes whose errors on the two sets of rows are constant: all of it is between the probes."""
    rng = np.random.default_rng(5)
    o = outcomes(rng, (20, 20), (10, 10), n_sub=1)
    z, w = np.array([-1.0, 0.0, 0.5, 2.0]), np.array([0.2, 0.0, -0.3, 0.1])
    n_held = int((o.cells >= 5).sum())
    of_one = rng.standard_normal(n_held)
    o = dataclasses.replace(
        o, fold_margins=np.tile(z[:, None], 20), held_fold_margins=np.tile(w[:, None], n_held), held_margins=of_one
    )
    risks = [
        scipy.stats.norm.sf(z / (o.full_margins.std() * 20 ** (-0.2))),
        scipy.stats.norm.sf(w / (of_one.std() * n_held ** (-0.2))),
    ]
    expected = np.cov(risks) * 9 / 4 * (40 - n_held) / 40
    got = intervals.probe_covariance(o, None)
    assert got == pytest.approx((expected[0, 0], expected[1, 1], expected[0, 1]))
    estimates = intervals.estimates(reference_of(o))
    assert estimates["risk_as"].probe_variance == pytest.approx(expected[1, 1])
    assert estimates["enc_gen"].probe_variance == pytest.approx(np.array([1, -1]) @ expected @ [1, -1])


def test_probe_variance_is_unbiased_for_0_1_errors():
    # probes of known spread, judged with noise of its own on each row: the mean over draws before truncation
    rng = np.random.default_rng(6)
    o = outcomes(rng, (50, 50), (100, 100))
    sd = 0.06
    drawn = []
    for _ in range(400):
        p = 0.5 + sd * rng.standard_normal((5, 1))
        s = np.where(rng.random((5, 200)) < p, -1e9, 1e9)  # so far from 0 that smoothing does nothing
        drawn.append(intervals.probe_variance(dataclasses.replace(o, fold_margins=s), None))
    expected = sd**2 * 16 / 5 * np.mean(o.cells < 5)
    # truncation at 0 lifts the mean a little; the Monte-Carlo error is 4 %
    assert np.mean(drawn) == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize(("errors", "n", "confidence"), [(3, 40, 0.95), (0, 25, 0.9), (25, 25, 0.95)])
def test_wilson_is_scipys(errors, n, confidence):
    z = scipy.stats.norm.ppf((1 + confidence) / 2)
    theirs = scipy.stats.binomtest(errors, n).proportion_ci(confidence, method="wilson")
    assert intervals.wilson(errors / n, n, z) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_interval_of_a_risk_is_wilsons_with_the_effective_number_of_rows():
    o = outcomes(np.random.default_rng(7), (40, 40), (400, 400))
    got = intervals.estimates(reference_of(o), confidence=0.9)["risk_us"]
    v = got.rows_variance + got.probe_variance
    assert got.se == pytest.approx(np.sqrt(v))
    assert got.probe_variance > 0
    t = scipy.stats.t.ppf(0.95, got.df)
    p = got.estimate
    # Wilson's interval is where |p − q| = t · sqrt(q (1 − q) / n)
    for q in (got.low, got.high):
        assert abs(p - q) == pytest.approx(t * np.sqrt(q * (1 - q) / (p * (1 - p) / v)))
    rows_df = v**2 / (got.probe_variance**2 / 4)
    assert got.df < rows_df
    assert got.df == pytest.approx(rows_df, rel=0.2)


def test_pseudo_rows_and_probe_variance_of_components():
    o = outcomes(np.random.default_rng(8), (40, 40), (30, 30))
    o = dataclasses.replace(o, fold_margins=o.fold_margins + np.linspace(-0.3, 0.3, 5)[:, None])
    got = intervals.estimates(reference_of(o))
    n_sub, m = 12, 60
    for quantity, extra in {
        "usability": 1 / 80**2,
        "probe_gen": 1 / n_sub**2,
        "enc_gen": 1 / n_sub**2 + 1 / m**2,
        "enc_gen_equal_labels": 1 / n_sub**2 + 1 / m**2,
        "label_count": 1 / (3 * m) ** 2,
    }.items():
        e = got[quantity]
        t = scipy.stats.t.ppf(0.975, e.df)
        assert e.high - e.estimate == pytest.approx(t * np.sqrt(e.se**2 + extra)), quantity
        assert e.estimate - e.low == pytest.approx(e.high - e.estimate)
        assert (e.probe_variance > 0) == (quantity in ("probe_gen", "label_count"))
        if not e.probe_variance:
            assert e.df == math.inf
    # three subsets of 4 of 80 rows: 68 rows are in every complement, 12 in two of three
    share = 80 * (68 * (1 / 80 - 1 / 76) ** 2 + 12 * (1 / 80 - 2 / (3 * 76)) ** 2)
    assert got["label_count"].probe_variance == pytest.approx(share * got["risk_us"].probe_variance)


def test_factor_of_logistic_training_error():
    o = outcomes(np.random.default_rng(9), (200, 200), (60, 60), probe="logistic")
    ridge = dataclasses.replace(o, probe="ridge")
    got, plain = (intervals.estimates(reference_of(v)) for v in (o, ridge))
    ratio = 0.45 / o.af.mean()
    assert got["risk_af"].factor == pytest.approx(ratio)
    assert got["risk_af"].rows_variance == pytest.approx(ratio * plain["risk_af"].rows_variance)
    assert plain["risk_af"].factor == 1
    assert got["probe_gen"].se == plain["probe_gen"].se
    sup = 0.25 / o.sup.mean()
    assert got["risk_sup"].se == pytest.approx(math.sqrt(sup) * plain["risk_sup"].se)
    same = dataclasses.replace(o, sup=o.af * 1.0, sup_test=o.af_test)
    assert intervals.estimates(reference_of(same))["usability"].se == pytest.approx(0, abs=1e-12)
    # nearly separated rows: no interval
    few = dataclasses.replace(o, af=np.r_[np.ones(9), np.zeros(391)])
    got = intervals.estimates(reference_of(few))
    assert got["risk_af"].mark == "none"
    assert math.isnan(got["risk_af"].low)
    assert math.isnan(got["approx_usability"].low) if "approx_usability" in got else math.isnan(got["usability"].low)
    assert not math.isnan(got["probe_gen"].low)


@pytest.mark.parametrize(("n_groups", "mark"), [(3, "none"), (9, "indicative"), (12, "few groups"), (20, "")])
def test_marks_by_test_groups(n_groups, mark):
    o = outcomes(np.random.default_rng(10), (60, 60), (60, 60), n_sub=10)
    groups = (np.arange(120), np.arange(120) % n_groups)
    got = intervals.estimates(reference_of(o), groups)
    assert got["risk_us"].mark == mark
    assert got["risk_af"].mark == ""
    assert math.isnan(got["risk_us"].low) == (mark == "none")


def test_one_subset_group_of_a_class_has_no_interval_of_risk_as():
    o = outcomes(np.random.default_rng(11), (60, 60), (60, 60), n_sub=2)
    train_groups = np.where(o.cells >= 5, o.train_y, 2 + np.arange(120))
    got = intervals.estimates(reference_of(o), (train_groups, np.arange(120)))
    assert {q for q, e in got.items() if e.mark == "none"} == {
        "risk_as",
        "probe_gen",
        "enc_gen",
        "enc_gen_equal_labels",
    }
    assert got["risk_us"].mark == ""


def test_a_risk_of_zero_has_an_interval():
    o = outcomes(np.random.default_rng(12), (40, 40), (30, 30))
    o = dataclasses.replace(o, us=np.zeros(60), fold_margins=None)
    got = intervals.estimates(reference_of(o))["risk_us"]
    assert got.low == 0
    assert got.high == pytest.approx(scipy.stats.binomtest(0, 60).proportion_ci(method="wilson").high)
    assert got.few_decide
