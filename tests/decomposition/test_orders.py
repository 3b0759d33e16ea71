"""The alternative order: its risk against scikit-learn, its identities, what both protocols fit, what is said."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler
from ssl_risk_rs import ParameterError, Run
from ssl_risk_rs.decomposition import decompose
from ssl_risk_rs.report.orders import order_sentence
from ssl_risk_rs.results.quantities import QUANTITIES
from ssl_risk_rs.results.record import FitRecord


@pytest.fixture(scope="module")
def small():
    """Some of the digits with fewer features, so that errors are many: (600, 22) and (300, 22)."""
    x, y = load_digits(return_X_y=True)
    x = np.ascontiguousarray(x[:, ::3], np.float32)
    return x[:600], y[:600], x[600:900], y[600:900]


@pytest.fixture(scope="module", params=["ridge", "logistic"])
def both(small, request):
    return decompose(*small, probe=request.param, order="both", n_threads=1)


def union(fits: tuple[FitRecord, ...]) -> list[FitRecord]:
    return [fit for fit in fits if fit.role == "union"]


def test_r_uf_is_that_of_scikit_learn(small, both):
    x, y, xt, yt = small
    rows, labels = np.r_[x, xt].astype(np.float64), np.r_[y, yt]
    rows = StandardScaler().fit_transform(rows)
    if both.method.probe == "ridge":
        fit = Ridge(alpha=1e-5 * len(rows), solver="svd").fit(rows, np.eye(10)[labels])
        wrong = fit.predict(rows[len(x) :]).argmax(1) != yt
    else:
        fit = LogisticRegression(C=1 / (len(rows) * 1e-5), tol=1e-8, max_iter=20000).fit(rows, labels)
        wrong = fit.predict(rows[len(x) :]) != yt
    # a row whose two best scores are nearly equal may fall on either side
    assert abs(both.estimate("risk_uf") - wrong.mean()) <= 1.5 / len(yt)
    assert len(union(both.fits)) == 1 and union(both.fits)[0].n == len(rows)


def test_both_orders_and_their_mean_sum_to_the_total(both):
    for gen in ("", "_alt", "_mean"):
        parts = (both.estimate("approx_usability"), both.estimate(f"probe_gen{gen}"), both.estimate(f"enc_gen{gen}"))
        assert sum(parts) == pytest.approx(both.estimate("agg_risk"), abs=1e-12)  # float64 sums of four numbers
    for name in ("enc_gen", "probe_gen"):
        mean = (both.estimate(name) + both.estimate(f"{name}_alt")) / 2
        assert both.estimate(f"{name}_mean") == pytest.approx(mean, abs=1e-12)
    assert both.estimate("order_effect") == pytest.approx(both.estimate("enc_gen") - both.estimate("enc_gen_alt"))
    for e in both.estimates.values():
        assert e.low <= e.estimate <= e.high and e.se >= 0


def test_the_paper_s_order_is_untouched_and_costs_no_fit(small, both):
    alone = decompose(*small, probe=both.method.probe, n_threads=1)
    assert not union(alone.fits) and alone.judgements.uf is None and "risk_uf" not in alone.estimates
    assert len(both.fits) == len(alone.fits) + 1
    for name, e in alone.estimates.items():
        assert both.estimates[name] == e
    assert both.component_names == alone.component_names
    assert order_sentence(alone) == ""


def test_the_alternative_order_is_what_sums_and_what_is_largest(small, both):
    other = decompose(*small, probe=both.method.probe, order="alternative", n_threads=1)
    assert other.component_names == ("approx_usability", "enc_gen_alt", "probe_gen_alt")
    largest = max(other.component_names, key=other.estimate)
    assert other.bottleneck.quantity == largest and 0 < other.bottleneck.probability <= 1
    assert QUANTITIES["enc_gen_alt"].label in str(other) and "mean order" not in str(other)
    assert "probe generalization  " not in str(other)


def test_what_is_said_of_the_order_has_its_numbers(both, tmp_path):
    text = order_sentence(both)
    assert f"{100 * abs(both.estimate('order_effect')):.2f} points" in text and text in str(both)
    assert ("may be chance" in text) == (both.estimates["order_effect"].low <= 0 <= both.estimates["order_effect"].high)
    loaded = Run.load(both.save(tmp_path / "run"))
    assert str(loaded) == str(both)
    names = loaded.frame()["quantity"].to_list()
    assert {"risk_uf", "enc_gen_alt", "probe_gen_mean", "order_effect"} <= set(names)


def test_a_probe_that_separates_says_that_the_other_order_is_empty():
    rng = np.random.default_rng(0)
    y, yt = np.arange(120) % 3, np.arange(60) % 3
    x, xt = (rng.standard_normal((n, 200)).astype(np.float32) for n in (120, 60))
    found = decompose(x, y, xt, yt, order="both", n_threads=1)
    assert found.estimate("risk_uf") == 0 and found.estimate("enc_gen_alt") == 0
    assert "read the paper's order" in order_sentence(found)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # of the reference, unscaled
def test_the_paper_s_protocol_tunes_r_uf_with_r_af(small):
    found = decompose(*small, probe="logistic", protocol="paper", order="both", n_threads=1)
    fit = union(found.fits)[0]
    assert fit.alpha == found.penalties["tuned_af"].absolute and fit.n == 900
    x, y, xt, yt = small
    rows, labels = np.r_[x, xt].astype(np.float64), np.r_[y, yt]
    other = LogisticRegression(C=1 / (900 * fit.alpha), tol=1e-8, max_iter=50000).fit(rows, labels)
    # unscaled, at their weakest penalties: rows at the boundary within the tolerance of the fit
    assert abs(found.estimate("risk_uf") - (1 - other.score(rows[600:], yt))) <= 4 / 300


def test_the_optimism_of_a_logistic_r_uf_widens_its_interval(small):
    """H/R of R_AF is applied to R_UF: its interval is longer than Wilson's of independent rows."""
    found = decompose(*small, order="both", n_threads=1)
    p = found.estimate("risk_uf")
    assert 0 < p < found.floor.on_test
    ratio = found.estimates["risk_uf"].se ** 2 / (p * (1 - p) / 300)
    # strata take some of the variance away, H/R multiplies what is left
    assert ratio > 0.6 * found.floor.on_test / p > 0.6


def test_groups_are_kept_by_the_other_order(small):
    groups = ([f"a{i // 6}" for i in range(600)], [f"b{i // 6}" for i in range(300)])
    found = decompose(*small, probe="ridge", order="both", groups=groups, n_threads=1)
    assert found.estimates["enc_gen_alt"].n_groups == 50
    assert found.estimates["enc_gen_alt"].se > 0


def test_an_unknown_order_is_refused(small):
    with pytest.raises(ParameterError, match="order must be 'paper', 'alternative' or 'both'"):
        decompose(*small, order="reverse")


def test_an_effect_of_the_order_is_told_by_its_size_and_as_chance_only_where_it_may_be(both):
    if both.estimate("risk_uf") == 0:
        pytest.skip("the other order is empty here")
    e = both.estimates["order_effect"]
    for low, high, chance in ((-0.05, -0.01, False), (0.01, 0.05, False), (-0.01, 0.05, True)):
        effect = replace(e, estimate=(low + high) / 2, low=low, high=high)
        text = order_sentence(replace(both, estimates={**both.estimates, "order_effect": effect}))
        assert text.startswith(f"The order matters by {50 * abs(low + high):.2f} points (")
        assert ("this may be chance" in text) is chance


def test_the_other_order_is_empty_where_the_probe_of_all_rows_errs_on_no_test_row(both):
    for name, empty in (("risk_uf", True), ("risk_af", False)):
        known = {"risk_af": 0.02, "risk_uf": 0.02, name: 0.0}
        told = {**both.estimates, **{k: replace(both.estimates[k], estimate=v) for k, v in known.items()}}
        assert ("read the paper's order" in order_sentence(replace(both, estimates=told))) is empty
