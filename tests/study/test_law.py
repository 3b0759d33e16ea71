"""Laws of label counts: a planted law is recovered, intervals cover, and the authors' numbers come out."""

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from ssl_risk_rs.cli import main
from ssl_risk_rs.errors import DataError, ParameterError
from ssl_risk_rs.study.held_out import HeldOut, held_out_logit, held_out_paper, held_out_sets, summary
from ssl_risk_rs.study.labels import IMAGENET_LABELS, IMAGENET_SHOTS, label_points
from ssl_risk_rs.study.law import fit_logit_law, imagenet_laws, predict_errors, read_laws, write_laws
from ssl_risk_rs.study.law_paper import PaperLaw, fit_paper_law
from ssl_risk_rs.study.study import Laws
from ssl_risk_rs.study.text import _laws

SHOTS = {"agg_risk@30": 30_000, "agg_risk@5": 5_000, "agg_risk@3": 3_000}
W, V = (-0.05, 0.5, 0.6, -0.6, 0.01), (0.002, 0.02, 0.03, -0.05, 0.003)


def encoders(noise=0.0, objectives=20, each=5, seed=0, shared=0.0) -> pl.DataFrame:
    """Encoders whose errors at few labels follow the logit law with W and V, but for noise on the logit scale."""
    rng = np.random.default_rng(seed)
    n = objectives * each
    af, probe, enc = rng.uniform(0, 0.3, n), rng.uniform(0.05, 0.3, n), rng.uniform(0.01, 0.05, n)
    z_dim = rng.choice([384, 768, 1024, 2048, 4096], n)
    total = af + probe + enc
    x = np.column_stack([np.ones(n), af, probe, enc, np.log(z_dim)])
    columns = {
        "encoder": [f"e{i}" for i in range(n)],
        "objective": np.repeat([f"o{i}" for i in range(objectives)], each),
        "z_dim": z_dim, "risk_af": af, "probe_gen": probe, "enc_gen": enc, "agg_risk": total,
    }  # fmt: skip
    group = np.repeat(rng.normal(0, shared, objectives), each)
    for column, labels in SHOTS.items():
        along = math.log(IMAGENET_LABELS / labels)
        logit = np.log(total / (1 - total)) + along * (x @ W) + along**2 * (x @ V)
        logit = logit + along / 5 * (group + rng.normal(0, noise, n))
        columns[column] = 1 / (1 + np.exp(-logit))
    return pl.DataFrame(columns)


def test_a_planted_law_is_recovered():
    law = fit_logit_law(label_points(encoders(), shots=SHOTS))
    # no noise: what is left is rounding, times the condition number of a few thousand of L and L² side by side
    np.testing.assert_allclose(law.slope, W, atol=1e-9)
    np.testing.assert_allclose(law.curvature, V, atol=1e-9)
    assert (law.n, law.encoders, law.objectives) == (300, 100, 20)
    other = label_points(encoders(seed=1), shots=SHOTS)
    np.testing.assert_allclose(law.predict(other), other.error, atol=1e-10)


def test_the_error_at_all_labels_is_met():
    points = label_points(encoders(noise=0.3), shots=SHOTS, full=True)
    law = fit_logit_law(points)
    full = points.take(points.n_labels == IMAGENET_LABELS)
    np.testing.assert_allclose(law.predict(full), full.agg_risk, rtol=1e-12)
    low, high = law.intervals(full)
    np.testing.assert_allclose(high - low, 0, atol=1e-12)


@pytest.mark.parametrize(("confidence", "measured"), [(0.9, None), (0.8, 5000.0)])
def test_intervals_cover_objectives_that_were_left_out(confidence, measured):
    """Over 8 tables with errors shared within objectives; each is 180 points of 20 objectives."""
    held = [
        held_out_logit(
            label_points(encoders(noise=0.15, shared=0.25, each=3, seed=s), shots=SHOTS), "objective",
            measured=measured, confidence=confidence,
        )
        for s in range(8)
    ]  # fmt: skip
    # 160 objectives: the share's standard error is 3 points; the objective at infinity makes intervals too wide by 1/21
    assert np.mean([h.coverage_groups for h in held]) >= confidence - 0.03
    assert np.mean([h.coverage_groups for h in held]) <= confidence + 0.10
    assert all(h.groups == 20 for h in held)


def test_a_measured_point_is_worth_more_than_components():
    points = label_points(encoders(noise=0.3), shots=SHOTS)
    without = held_out_logit(points, "objective")
    given = held_out_logit(points, "objective", measured=5000.0)
    assert 3000 in given.by_labels and 5000 not in given.by_labels
    assert without.rmse > 0.02
    noiseless = label_points(encoders(shared=0.3), shots=SHOTS)
    assert (
        held_out_logit(noiseless, "objective", measured=5000.0).rmse < held_out_logit(noiseless, "objective").rmse / 2
    )


def test_predictions_say_what_lies_outside_of_the_fit():
    law = fit_logit_law(label_points(encoders(noise=0.1), shots=SHOTS))
    points = label_points(encoders(seed=4).head(1).with_columns(z_dim=100_000), shots={"agg_risk@3": 100})
    (said,) = law.predictions(points, confidence=0.8)
    assert set(said.outside) == {"n_labels", "z_dim"}
    assert said.low < said.estimate < said.high
    inside = law.predictions(label_points(encoders(noise=0.1).head(1), shots=SHOTS))
    assert all(p.outside == () for p in inside)


def test_intervals_grow_away_from_what_is_known():
    points = label_points(encoders(noise=0.1), shots=SHOTS)
    law = fit_logit_law(points, measured=5000.0)
    one = points.take(np.arange(len(points)) == 0)
    widths = []
    for n in (900_000.0, 30_000.0, 5_000.0, 3_000.0, 1_000.0):
        low, high = law.intervals(replace(one, n_labels=np.array([n])), np.array([0.5]))
        widths.append(float(np.log(high / (1 - high))[0] - np.log(low / (1 - low))[0]))
    assert widths[2] == pytest.approx(0, abs=1e-12)  # the measured point itself
    assert widths[0] < widths[1] and widths[4] > widths[3] > 0
    assert math.isinf(law.quantile(0.99))  # 20 objectives cannot tell
    with pytest.raises(ParameterError, match=r"confidence must lie between 0 and 1, .* got 1"):
        law.quantile(1.0)


def test_a_law_of_few_objectives_has_no_intervals(tmp_path):
    table = encoders(noise=0.2, objectives=8, each=8).with_columns(approx=0.02, usability=pl.col("risk_af") - 0.02)
    table.write_csv(tmp_path / "zoo.csv")
    shots = ",".join(f"{column}={labels}" for column, labels in SHOTS.items())
    line = ["study", str(tmp_path / "zoo.csv"), "--shots", shots, "--labels", str(IMAGENET_LABELS)]
    said = CliRunner().invoke(main, line, catch_exceptions=False).stdout
    lines = [line for line in said.splitlines() if line.split()[:3] == ["each", "objective", "logit"]]
    assert lines and all(line.endswith("none: 90% intervals need more objectives than these") for line in lines)
    assert "100.0 points" not in said


def test_laws_are_written_and_read_back(tmp_path):
    points = label_points(encoders(noise=0.1), shots=SHOTS)
    laws = (fit_logit_law(points), fit_logit_law(points, measured=3000.0))
    write_laws(tmp_path / "law.json", laws, "a test")
    assert read_laws(tmp_path / "law.json") == laws
    (tmp_path / "law.json").write_text('{"format": 2, "laws": []}')
    with pytest.raises(DataError, match="has format 2 of laws; this version reads format 1"):
        read_laws(tmp_path / "law.json")
    for text in ("{", '{"format": 1}', '{"format": 1, "laws": [{"slope": 3}]}', "[]"):
        (tmp_path / "law.json").write_text(text)
        with pytest.raises(DataError, match="holds no laws of label counts"):
            read_laws(tmp_path / "law.json")


def test_what_a_law_cannot_be_fitted_on():
    frame = encoders()
    with pytest.raises(DataError, match="needs the columns z_dim, which the table lacks"):
        label_points(frame.drop("z_dim"), shots=SHOTS)
    with pytest.raises(DataError, match="needs few-shot risks: one or more of a, b"):
        label_points(frame, shots={"a": 1, "b": 2})
    with pytest.raises(DataError, match="no encoder of the table has its components"):
        label_points(frame.with_columns(z_dim=pl.lit(None, dtype=pl.Int64)), shots=SHOTS)
    with pytest.raises(DataError, match=r"2 points at 1 numbers of labels do not determine the 10 coefficients"):
        fit_logit_law(label_points(frame.head(2), shots={"agg_risk@3": 3000}))
    with pytest.raises(DataError, match="2 objectives are too few to leave one out"):
        fit_logit_law(label_points(encoders(objectives=2, each=20, noise=0.1), shots=SHOTS))
    points = label_points(frame, shots=SHOTS)
    with pytest.raises(ParameterError, match=r"no encoder was measured at 7 labels; there are 3,000, 5,000, 30,000"):
        fit_logit_law(points, measured=7.0)
    with pytest.raises(ParameterError, match="has no place for an error that was measured"):
        fit_logit_law(points).predict(points, points.error)
    with pytest.raises(ParameterError, match="needs an error that was measured"):
        fit_logit_law(points, measured=3000.0).predict(points)


def test_the_authors_law_is_recovered_from_its_own_points():
    frame = encoders()
    truth = PaperLaw(0.2, 0.4)
    points = label_points(frame, shots=SHOTS)
    own = replace(points, error=truth.predict(points))
    law = fit_paper_law(own)
    assert (law.alpha, law.b) == (pytest.approx(0.2, abs=1e-6), pytest.approx(0.4, abs=1e-5))


# --- the published table


@pytest.fixture(scope="module")
def plain_points(as_published):
    return label_points(as_published.frame, full=True, complete=True)


def test_the_authors_fit(plain_points):
    law = fit_paper_law(plain_points)
    fitted = summary("paper", "nothing", plain_points, law.predict(plain_points), 0)
    assert len(plain_points) == 729
    assert (f"{law.alpha:.4f}", f"{law.b:.3f}") == ("0.1453", "0.510")
    assert (f"{fitted.r2:.3f}", f"{100 * fitted.rmse:.2f}") == ("0.947", "4.34")
    one = fit_paper_law(plain_points, b=0.0)
    assert f"{summary('paper', 'nothing', plain_points, one.predict(plain_points), 0).r2:.3f}" == "0.908"


def test_the_default_law_is_better_on_what_it_has_not_seen(plain_points):
    """146 encoders, 583 few-shot points, root mean square errors in points."""
    paper = {by: 100 * held_out_paper(plain_points, by).rmse for by in ("encoder", "objective")}
    logit = {by: 100 * held_out_logit(plain_points, by, intervals=False).rmse for by in ("encoder", "objective")}
    assert {by: f"{v:.2f}" for by, v in paper.items()} == {"encoder": "4.96", "objective": "5.00"}
    assert {by: f"{v:.2f}" for by, v in logit.items()} == {"encoder": "3.82", "objective": "4.05"}


def test_the_sets_that_the_authors_leave_out(as_published, plain_points):
    found = {(h.left_out, h.law): h for h in held_out_sets(as_published.frame, plain_points)}
    r2 = {name: f"{found[name, 'paper'].r2:.2f}" for name in ("year 2022", "contrastive", "ViT", "ResNet")}
    assert r2 == {"year 2022": "0.92", "contrastive": "0.96", "ViT": "0.85", "ResNet": "0.90"}
    assert found["random 60 %", "paper"].r2 > 0.94
    for name in ("random 60 %", "contrastive", "generative", "ViT", "ResNet"):  # 2022 is a tie
        assert found[name, "logit"].rmse < found[name, "paper"].rmse < found[name, "sizes"].rmse


@pytest.mark.parametrize(
    ("measured", "rmse"), [(None, "4.18"), (30_000.0, "1.76"), (12_811.0, "1.13"), (5_000.0, "0.74"), (3_000.0, "0.92")]
)
def test_intervals_cover_published_objectives_that_were_left_out(published, measured, rmse):
    held = held_out_logit(label_points(published.frame), "objective", measured=measured)
    assert f"{100 * held.rmse:.2f}" == rmse
    # asked for 90 %; 28 objectives: a share of 90 % has a standard error of 6 points
    assert held.coverage >= 0.9 and held.coverage_groups >= 0.9
    assert held.groups == 28


def test_the_laws_that_come_with_the_package_are_those_of_the_table(published):
    points = label_points(published.frame)
    laws = imagenet_laws()
    assert [law.measured for law in laws] == [None, 30_000.0, 12_811.0, 5_000.0, 3_000.0]
    for law in laws:
        again = fit_logit_law(points, measured=law.measured)
        # the same numbers on another machine: least squares of a condition number of some thousand
        np.testing.assert_allclose(law.slope + law.curvature, again.slope + again.curvature, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(law.quantiles, again.quantiles, rtol=1e-6)
    assert set(IMAGENET_SHOTS.values()) == {int(law.measured) for law in laws if law.measured}


def test_the_file_of_laws_holds_no_rows_of_the_table():
    from pathlib import Path

    import ssl_risk_rs.study as study

    loaded = json.loads(Path(study.__file__).with_name("law_imagenet.json").read_text(encoding="utf-8"))
    assert set(loaded) == {"format", "source", "laws"}
    assert all(len(law["quantiles"]) == 99 for law in loaded["laws"])


MINE = {"n_full": IMAGENET_LABELS, "agg_risk": 0.27, "risk_af": 0.05, "probe_gen": 0.19, "enc_gen": 0.03, "z_dim": 2048}


def test_predictions_for_one_encoder():
    plain = predict_errors([30_000, 5_000, 3_000], **MINE)
    assert [p.estimate for p in plain] == sorted(p.estimate for p in plain)  # fewer labels, more error
    (given,) = predict_errors([5_000], measured=(30_000, 0.40), **MINE)
    assert given.low < given.estimate < given.high
    assert given.high - given.low < (plain[1].high - plain[1].low) / 2
    (more,) = predict_errors([5_000], measured=(30_000, 0.45), **MINE)
    assert more.estimate > given.estimate
    (same,) = predict_errors([30_000], measured=(30_000, 0.40), **MINE)
    assert same.estimate == pytest.approx(0.40, abs=1e-12)  # what was measured is met
    assert same.high - same.low < 1e-12
    # another data set with the same share of labels
    (small,) = predict_errors([500], measured=(3_000, 0.40), **{**MINE, "n_full": 128_117})
    assert small.estimate == pytest.approx(given.estimate, abs=1e-3)


def test_errors_between_two_known_points_are_not_certain():
    """Between a measured point and all labels no encoder was measured; there the interval had no width."""
    some = predict_errors([1_281_167, 900_000, 200_000, 60_000, 31_000, 30_000], measured=(30_000, 0.40), **MINE)
    width = [p.high - p.low for p in some]
    assert width[0] < 1e-12 and width[-1] < 1e-12  # known
    assert all(w > 1e-4 for w in width[1:-1]) and width[4] < width[3] and width[1] < width[2]
    assert all("n_labels" in p.outside for p in some[1:-1])


def test_predictions_that_cannot_be_made():
    with pytest.raises(
        ParameterError, match=r"fewer labels than the 1,281,167 behind agg_risk: they do not say what 2,000,000"
    ):
        predict_errors([5_000, 2_000_000], **MINE)
    for name, value, said in (
        ("agg_risk", 27, "risks are fractions"),
        ("probe_gen", 19, "components are fractions"),
        ("z_dim", 0, "z_dim must be a whole number"),
    ):
        with pytest.raises(ParameterError, match=said):
            predict_errors([5_000], **{**MINE, name: value})
    with pytest.raises(
        ParameterError, match=r"no law is made for an error that was measured at 100 of 1,281,167 labels"
    ):
        predict_errors([5_000], measured=(100, 0.9), **MINE)
    with pytest.raises(ParameterError, match="a number of labels is positive and finite"):
        predict_errors([0], **MINE)
    with pytest.raises(ParameterError, match="none of the laws is without a measured point"):
        predict_errors([5_000], laws=imagenet_laws()[1:], **MINE)


def test_the_page_shows_what_its_example_prints(capsys):
    import re
    from pathlib import Path

    page = (Path(__file__).parents[2] / "docs" / "study.md").read_text(encoding="utf-8")
    code, output = re.search(r"```python\n(.*?)```\n\n```text\n(.*?)```", page, re.S).groups()
    exec(code, {})
    assert capsys.readouterr().out == output


def test_groups_count_alike_in_their_own_share():
    """Objectives of one to eight encoders: the mean of their shares is not the share of the points."""
    frame = encoders(noise=0.3, shared=0.3, objectives=8, each=8)
    frame = frame.filter(pl.int_range(64) % 8 <= pl.int_range(64) // 8)
    points = label_points(frame, shots=SHOTS)
    held = held_out_logit(points, "objective", confidence=0.5)
    every, shares = np.array(points.objective), []
    for name in np.unique(every):
        out = points.take(every == name)
        low, high = fit_logit_law(points.take(every != name)).intervals(out, None, 0.5)
        shares.append(np.mean((low <= out.error) & (out.error <= high)))
    assert held.coverage_groups == pytest.approx(np.mean(shares), abs=1e-12)  # rounding of a mean of eight
    assert abs(held.coverage_groups - held.coverage) > 0.01


def test_a_law_is_made_for_the_share_of_labels_that_was_measured():
    assert predict_errors([5_000], measured=(30_500, 0.40), **MINE)
    for measured in (25_000, 40_000):
        with pytest.raises(ParameterError, match=f"no law is made for an error that was measured at {measured:,} of"):
            predict_errors([5_000], measured=(measured, 0.40), **MINE)


def test_a_measured_point_is_said_to_be_worth_more_only_where_all_laws_given_one_err_less():
    def of(law, rmse):
        return HeldOut(law, "objective", rmse, {}, 9, 3)

    for given, said in ((0.03, True), (0.05, False)):
        held = (of("paper", 0.05), of("logit", 0.04), of("logit given 5,000", 0.01), of("logit given 3,000", given))
        laws = Laws(PaperLaw(0.1, 0.5), PaperLaw(0.1, 0.0), held[0], held[0], (), held)
        text = "\n".join(_laws(SimpleNamespace(laws=laws)))
        assert ("One measured point at few labels is worth more than any law" in text) is said


def test_a_confidence_between_two_of_the_grid_takes_the_larger():
    law = imagenet_laws()[0]
    assert law.quantile(0.905) == law.quantile(0.91) > law.quantile(0.9)


@pytest.mark.parametrize(
    ("measured", "says"),
    [
        ((30_000, 45.0), "the measured error is 45; risks are fractions"),
        ((30_000, -0.4), "the measured error is -0.4"),
        ((30_000, math.nan), "the measured error is nan"),
        ((0, 0.4), "measured has 0"),
        ((-5, 0.4), "measured has -5"),
        ((math.inf, 0.4), "measured has inf"),
    ],
)
def test_a_measured_point_is_checked_as_the_other_risks_are(measured, says):
    given = {"n_full": 1_281_167, "agg_risk": 0.25, "risk_af": 0.1, "probe_gen": 0.05, "enc_gen": 0.1, "z_dim": 2048}
    with pytest.raises(ParameterError, match=says):
        predict_errors([5000], measured=measured, **given)


def test_encoders_without_an_objective_are_each_their_own():
    frame = pl.DataFrame(
        {"encoder": list("abc"), "objective": ["x", None, None], "probe_gen": [0.1] * 3, "enc_gen": [0.1] * 3,
         "agg_risk": [0.4] * 3, "z_dim": [8] * 3, "agg_risk@5": [0.6] * 3}
    )  # fmt: skip
    assert label_points(frame, shots={"agg_risk@5": 50}, n_full=1000).objective == ("x", "b", "c")
