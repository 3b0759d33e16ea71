"""The published table: what is mended and marked on reading, ranks, the place of an encoder, a run beside it."""

import csv
import io
import re
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from ssl_risk_rs import DataError, ParameterError
from ssl_risk_rs.decomposition import decompose
from ssl_risk_rs.encoders.catalogue import catalogue
from ssl_risk_rs.report.published import render_beside, render_encoder
from ssl_risk_rs.results import Provenance
from ssl_risk_rs.results.counterpart import counterpart, fault_notes
from ssl_risk_rs.results.place import nearest, place, residuals, standings
from ssl_risk_rs.results.published import RISKS, Fault, ranked, read_published
from ssl_risk_rs.results.quantities import QUANTITIES
from ssl_risk_rs.study.published import load_published

#: percentages of the file are summed in float64: four terms below 100, each rounded once
SUM = 8 * 100 * np.finfo(float).eps
ERRORS = ("approx", "usability", "probe_gen", "enc_gen", "train_test", "train-nperclass-30_test",
          "train-balsbst-ntrain0.01_test", "train-nperclass-5_test", "train-nperclass-3_test")  # fmt: skip
FACTS = ("objective", "architecture", "architecture_exact", "patch_size", "z_dim", "z_layer", "epochs", "n_parameters",
         "license", "pretraining_data", "is_ema")  # fmt: skip


def line(name, approx, usability, probe_gen, enc_gen, total=None, z_dim=2048, architecture="resnet50", **facts):
    """A row of the file; the total is the sum unless given; None is an empty cell."""
    if total is None:
        total = approx + usability + probe_gen + enc_gen
    values = dict(zip(ERRORS, (approx, usability, probe_gen, enc_gen, total, 40, 45, 50, 60), strict=True))
    values |= {"objective": "simclr", "architecture": architecture, "architecture_exact": architecture,
               "patch_size": 16 if architecture.startswith("vit") else 7, "z_dim": z_dim, "z_layer": "avgpool",
               "epochs": 100, "n_parameters": 23508032, "license": "MIT", "pretraining_data": "ImageNet-1K",
               "is_ema": True}  # fmt: skip
    return [name, *("" if v is None else v for v in (values | facts).values())]


def table(*lines, columns=(*ERRORS, *FACTS)) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["", *["group"] * len(columns)])
    writer.writerow(["", *columns])
    writer.writerow(["enc", *[""] * len(columns)])
    writer.writerows(lines)
    return text.getvalue()


def small():
    """Two architectures; probe generalization rises by a point with each doubling of the dimension."""
    rows = []
    for i in range(12):
        vit, dim = i % 2 == 1, 256 * 2 ** (i % 3)
        probe_gen = (8.0 if vit else 16.0) + np.log2(dim) + 0.01 * i
        architecture = "vitb" if vit else "resnet50"
        rows.append(line(f"e{i}", 1, 2 + 0.1 * i, probe_gen, 3, z_dim=dim, architecture=architecture))
    return read_published(table(*rows))


# --- reading


def test_percent_becomes_fractions_and_columns_keep_their_types():
    published = read_published(table(line("a", 1, 2, 20, 3), line("b", 1, 2, 30, 3, is_ema=False, z_dim=512)))
    row = published.row("A")
    assert [row[name] for name in ("approx", "usability", "probe_gen", "enc_gen")] == [0.01, 0.02, 0.2, 0.03]
    assert row["approx_usability"] == pytest.approx(0.03, abs=SUM) and row["agg_risk"] == 0.26
    assert row["risk_30_shots"] == 0.4 and row["risk_3_shots"] == 0.6
    assert (row["z_dim"], row["is_ema"], row["objective"], row["trusted"]) == (2048, True, "simclr", True)
    assert published.faults.height == 0 and published.names() == ("a", "b") and published.row("c") is None


@pytest.mark.parametrize("clipped", ["usability", "probe_gen", "enc_gen"])
def test_a_clipped_component_gets_its_sign_back(clipped):
    parts = {"approx": 1.0, "usability": 2.0, "probe_gen": 20.0, "enc_gen": 3.0, clipped: -0.4}
    total = sum(parts.values())
    published = read_published(table(line("a", **{**parts, clipped: 0.0}, total=total)))
    row = published.row("a")
    assert row[clipped] == pytest.approx(-0.004, abs=SUM)
    assert sum(row[name] for name in parts) == pytest.approx(row["agg_risk"], abs=SUM)
    assert row["approx_usability"] == pytest.approx(row["approx"] + row["usability"], abs=SUM)
    fault = published.faults.row(0, named=True)
    assert (fault["column"], fault["fault"]) == (clipped, "clipped") and float(fault["used"]) == pytest.approx(-0.004)


def test_a_zero_of_approximation_is_an_assumption_not_a_clip():
    published = read_published(table(line("a", 0, 2, 20, 3)))
    assert published.faults["fault"].to_list() == ["assumed"] and published.row("a")["approx"] == 0
    with pytest.raises(DataError, match="components of a do not sum"):  # an error rate is never negative
        read_published(table(line("a", 0, 2, 20, 3, total=24.5)))
    with pytest.raises(DataError, match="components of a do not sum"):  # which of two is not known
        read_published(table(line("a", 1, 0, 20, 0, total=20.5)))
    with pytest.raises(DataError, match="components of a do not sum"):  # clipping never makes the sum too small
        read_published(table(line("a", 1, 0, 20, 3, total=25)))


def test_a_row_without_a_twin_is_null_never_zero():
    published = read_published(table(line("a", None, None, 20, 3, total=25), line("b", 1, 2, 20, 3)))
    row = published.row("a")
    assert row["approx"] is None and row["usability"] is None and row["approx_usability"] == pytest.approx(0.02)
    assert published.faults.select("column", "fault").rows() == [("approx", "no_twin"), ("usability", "no_twin")]
    assert ranked(published, "usability")["encoder"].to_list() == ["b"]
    assert ranked(published, "approx_usability")["encoder"].to_list() == ["a", "b"]


def test_wrong_cells_are_corrected_beside_what_was_published():
    lines = (
        line("clip_rn50x4", 1, 2, 20, 3, z_dim=640), line("msn_vitl16_ep600", 1, 2, 20, 3, epochs=300),
        line("dc2_rn50_ep400_2x224", 1, 2, 20, 3), line("deepcluster_rn50_bs512_ep200_mmselfsup", 1, 2, 20, 3),
    )  # fmt: skip
    published = read_published(table(*lines))
    assert published.row("clip_rn50x4")["z_dim"] == 2560 and published.row("msn_vitl16_ep600")["epochs"] == 600
    assert published.row("dc2_rn50_ep400_2x224")["license"] == "CC BY-NC 4.0"
    assert published.row("deepcluster_rn50_bs512_ep200_mmselfsup")["trusted"] is False
    found = {(f["encoder"], f["column"]): f for f in published.faults.iter_rows(named=True)}
    wrong = found["clip_rn50x4", "z_dim"]
    assert (wrong["published"], wrong["used"], wrong["fault"]) == ("640", "2560", Fault.WRONG_CELL.value)
    assert published.row("clip_rn50x4")["n_parameters"] == 85_498_040
    assert all(f["reason"] for f in found.values())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no published table"),
        ("a,b\n1,2\n", "no published table"),
        (table(line("a", 1, 2, 20, 3)).replace("probe_gen", "probe"), "has no column 'probe_gen'"),
        (table(line("a", 1, 2, 20, 3), line("a", 1, 2, 20, 3)), "an encoder twice"),
        (table(line("a", 1, 2, 20, 3)[:-1]), "a row of another length: a"),
        (table(line("a", 1, 2, "x", 3, total=26)), "probe_gen 'x' for a"),
        (table(line("a", 1, 2, 200, 3)), "probe_gen 200 for a"),
        (table(line("a", 1, 2, None, 3, total=26)), "lacks probe_gen, enc_gen or train_test of a"),
    ],
)
def test_what_is_no_such_table_is_said(text, message):
    with pytest.raises(DataError, match=message):
        read_published(text)


# --- ranks and place


def test_equal_errors_share_a_rank():
    published = read_published(table(*(line(n, 1, 2, p, 3) for n, p in (("c", 20), ("a", 30), ("b", 20), ("d", 40)))))
    frame = ranked(published, "probe_gen")
    assert frame.select("rank", "encoder").rows() == [(1, "b"), (1, "c"), (3, "a"), (4, "d")]
    with pytest.raises(ParameterError, match="not ranked by 'size'"):
        ranked(published, "size")


def test_standings_count_lower_errors_of_the_others():
    published = read_published(table(*(line(f"e{i}", 1, 2, 10 + i, 3) for i in range(5))))
    (row,) = standings(published, {"probe_gen": 0.12}, low={"probe_gen": 0.09}, high={"probe_gen": 0.135}).to_dicts()
    # 10 and 11 are lower, 12 is equal; at the ends none, and 10 … 13
    assert (row["below"], row["below_low"], row["below_high"], row["n"]) == (0.5, 0.0, 0.8, 5)
    (row,) = standings(published, {"probe_gen": 0.12}, encoder="e2", low={"probe_gen": float("nan")}).to_dicts()
    assert (row["below"], row["below_low"], row["n"]) == (0.5, None, 4)


def test_nearest_is_euclidean_in_points_of_the_components():
    rows = [line("near", 1, 2, 20, 3), line("far", 1, 2, 24, 6), line("none", None, None, 20, 3.5, total=26.5)]
    published = read_published(table(*rows))
    errors = {"approx": 0.01, "usability": 0.02, "probe_gen": 0.20, "enc_gen": 0.03, "agg_risk": 0.26}
    found = nearest(published, errors)
    assert found["encoder"].to_list() == ["near", "none", "far"]  # the row without a twin takes part
    assert found["distance"].to_list() == pytest.approx([0, 0.005, 0.05], abs=1e-12)
    assert nearest(published, errors, encoder="near")["encoder"].to_list() == ["none", "far"]
    assert nearest(published, {"probe_gen": 0.2}).height == 0


def test_residuals_are_those_of_least_squares():
    published = small()
    row = published.row("e3")
    errors = {name: row[name] for name in RISKS}
    found = {r["quantity"]: r for r in residuals(published, errors, encoder="e3").iter_rows(named=True)}
    others = published.frame.filter(pl.col("encoder") != "e3")
    design = np.column_stack([
        others["architecture"].to_numpy() == "resnet50", others["architecture"].to_numpy() == "vitb",
        np.log2(others["z_dim"].to_numpy()),
    ]).astype(float)  # fmt: skip
    y = others["probe_gen"].to_numpy()
    solution, (rss,), *_ = np.linalg.lstsq(design, y, rcond=None)
    point = np.array([0, 1, np.log2(row["z_dim"])])
    one = found["probe_gen"]
    assert one["expected"] == pytest.approx(point @ solution, rel=1e-10)  # two solutions of well-posed equations
    assert one["residual"] == pytest.approx(row["probe_gen"] - point @ solution, abs=1e-12)
    # t quantile of 8 degrees of freedom: 2.306
    half = 2.306004 * np.sqrt(rss / 8 * (1 + point @ np.linalg.inv(design.T @ design) @ point))
    assert one["high"] - one["expected"] == pytest.approx(half, rel=1e-6)
    assert (one["n"], one["n_alike"]) == (11, 5)


def test_residuals_need_architecture_and_dimension():
    published = small()
    errors = {"approx_usability": 0.03, "probe_gen": 0.2, "enc_gen": 0.03, "agg_risk": 0.26}
    assert residuals(published, errors).height == 0
    assert residuals(published, errors, architecture="vitb/16", z_dim=512).height == 4
    with pytest.raises(ParameterError, match=r"architecture 'vitb'; choose of \['resnet50', 'vitb/16'\]"):
        residuals(published, errors, architecture="vitb", z_dim=512)
    alone = read_published(table(line("a", 1, 2, 20, 3), line("b", 1, 2, 20, 3, architecture="vitb")))
    assert residuals(alone, errors, encoder="b").height == 0  # no other encoder has its architecture


def test_a_row_of_another_checkpoint_takes_no_part_in_fits():
    rows = [line(f"e{i}", 1, 2, 20, 3) for i in range(3)]
    rows.append(line("deepcluster_rn50_bs512_ep200_mmselfsup", 1, 50, 20, 3))
    errors = {"approx_usability": 0.03, "probe_gen": 0.2, "enc_gen": 0.03, "agg_risk": 0.26}
    found = residuals(read_published(table(*rows)), errors, architecture="resnet50", z_dim=2048)
    assert found["n"].to_list() == [3] * 4 and found["expected"][0] == pytest.approx(0.03)


# --- a run beside the table


@pytest.fixture(scope="module")
def run_result():
    rng = np.random.default_rng(0)
    y, y_test = np.arange(150) % 3, np.arange(60) % 3
    centres = rng.standard_normal((3, 4))
    x, x_test = (centres[labels] + rng.standard_normal((len(labels), 4)) for labels in (y, y_test))
    return decompose(x.astype(np.float32), y, x_test.astype(np.float32), y_test, probe="ridge",
                     supervised=x.astype(np.float32)[:, :3])  # fmt: skip


def test_a_run_stands_beside_its_published_numbers(run_result):
    published = small()
    found = counterpart(published, run_result, Provenance(encoder="e3", data="ImageNet-1K"), encoder="e3")
    assert [row.quantity for row in found.rows] == ["approx", "usability", "probe_gen", "enc_gen", "agg_risk"]
    for row in found.rows:
        assert row.measured == run_result.estimate(row.quantity)
        assert row.published == published.row("e3")[row.quantity]
        assert row.difference == row.measured - row.published
    codes = [note.code for note in found.reasons]
    assert codes == ["published_other_rows", "published_features", "published_probe", "published_protocol",
                     "published_no_interval"]  # fmt: skip
    assert found.place_is_measured and found.place.residuals.height == 4
    at = {row["quantity"]: row for row in found.place.standings.iter_rows(named=True)}
    assert set(at) == {"approx", "usability", "approx_usability", "probe_gen", "enc_gen", "agg_risk"}
    assert at["approx_usability"]["value"] == run_result.estimate("risk_af")
    text = render_beside(found, 12)
    assert "e3 in the published table (12 encoders, ImageNet-1K)" in text and "nearest published encoders" in text
    difference = 100 * (run_result.estimate("agg_risk") - published.row("e3")["agg_risk"])
    assert f"{difference:+.2f}" in next(x for x in text.splitlines() if x.strip().startswith("aggregated risk"))
    assert max(map(len, render_beside(found, 12, 80).splitlines())) <= 80


def test_other_data_are_context_and_the_place_is_the_published_one(run_result):
    published = small()
    found = counterpart(published, run_result, Provenance(data="digits"), encoder="e3")
    assert found.reasons[0].sentence().startswith("The published numbers are of ImageNet-1K and this run is of digits")
    assert not found.place_is_measured
    assert (
        found.place.standings.row(by_predicate=pl.col("quantity") == "probe_gen", named=True)["value"]
        == (published.row("e3")["probe_gen"])
    )
    assert "errors published" in render_beside(found, 12)
    nothing = counterpart(published, run_result, Provenance(data="digits"), encoder=None)
    assert nothing.encoder is None and nothing.place is None


def test_without_a_twin_on_either_side_two_components_are_one(run_result):
    published = read_published(table(line("a", None, None, 20, 3, total=25), line("b", 1, 2, 20, 3)))
    found = counterpart(published, run_result, Provenance(), encoder="a")
    assert [row.quantity for row in found.rows] == ["approx_usability", "probe_gen", "enc_gen", "agg_risk"]
    assert found.rows[0].measured == run_result.estimate("risk_af")
    assert found.rows[0].published == pytest.approx(0.02, abs=SUM)
    assert any("the published row has no supervised twin" in note.sentence() for note in found.reasons)
    alone = replace(run_result, estimates={k: v for k, v in run_result.estimates.items() if k not in (
        "approx", "usability", "risk_sup")})  # fmt: skip
    alone.estimates["approx_usability"] = replace(run_result.estimates["risk_af"], quantity="approx_usability")
    found = counterpart(published, alone, Provenance(), encoder="b")
    assert found.rows[0].quantity == "approx_usability"
    assert any("this run has no supervised twin" in note.sentence() for note in found.reasons)


def test_an_encoder_is_shown_with_what_is_wrong_in_its_row():
    published = read_published(table(line("clip_rn50x4", 1, 0, 20, 3, total=23.6, z_dim=640), line("b", 1, 2, 20, 3)))
    text = render_encoder(published, "clip_rn50x4")
    usability = next(x for x in text.splitlines() if x.strip().startswith("representation usability"))
    assert usability.split()[2:] == ["-0.40", "100", "%", "of", "1", "others"]
    said = [note.sentence() for note in fault_notes(published, "clip_rn50x4")]
    assert any("amended in usability (0.00 % became -0.40 %)" in s for s in said)
    assert any("amended in z_dim (640 became 2560)" in s for s in said)
    assert any("amended in n_parameters" in s for s in said)
    assert all(s in text for s in said)


# --- the file itself


@pytest.fixture(scope="module")
def real(paper_data):
    return read_published((paper_data / "all_results.csv").read_text(encoding="utf-8"))


def test_every_reader_of_the_published_table_has_the_same_cells(real, paper_data):
    """The catalogue of encoders, the table that runs are put beside, and the study."""
    study = load_published(paper_data / "all_results.csv", paper_data / "metadata.yaml")
    names = {name.lower(): name for name in catalogue().published}
    beside = {row["encoder"]: row for row in real.frame.iter_rows(named=True)}
    compared = 0
    for row in study.iter_rows(named=True):
        known = catalogue().corrected(names[row["encoder"].lower()])
        for column in ("n_parameters", "z_dim", "epochs"):
            cells = (known[column], row[column], beside[row["encoder"].lower()][column])
            values = {None if cell in (None, "", "???") else float(cell) for cell in cells}
            assert len(values) == 1, (row["encoder"], column, cells)
            compared += 1
    assert compared == 3 * 169


def test_the_published_file_is_mended(real, paper_data):
    frame = real.frame
    assert frame.height == 169 and len(real.names()) == 169
    whole = frame.drop_nulls(["approx", "usability"])
    assert whole.height == 146
    parts = whole.select(pl.sum_horizontal("approx", "usability", "probe_gen", "enc_gen")).to_series()
    assert (parts - whole["agg_risk"]).abs().max() <= SUM
    assert (frame["approx_usability"] + frame["probe_gen"] + frame["enc_gen"] - frame["agg_risk"]).abs().max() <= SUM
    count = dict(real.faults.group_by("fault").agg(pl.col("encoder").n_unique()).rows())
    assert count == {"clipped": 12, "no_twin": 23, "assumed": 12, "other_checkpoint": 1, "wrong_cell": 24}
    # R_AF of the authors' earlier table, which clipped nothing, is approximation + usability
    raw = pl.read_csv(paper_data / "raw_risks.csv").select("enc", "train_train").drop_nulls()
    both = frame.join(raw, left_on="encoder", right_on="enc")
    assert both.height == 166
    assert (both["approx_usability"] - both["train_train"] / 100).abs().max() < 1e-8  # float32 in the raw table
    two = real.row("dissl_resnet50_d4096_e100_m2")
    assert two["usability"] == pytest.approx(-0.00354, abs=1e-5) and two["enc_gen"] == pytest.approx(-0.00148, abs=1e-5)


def test_numbers_of_the_paper_are_found_again(real):
    means = real.frame.select(pl.col("probe_gen", "agg_risk", "approx").mean() * 100).row(0)
    assert means == pytest.approx((17.79, 28.85, 0.787), abs=0.005)
    assert ranked(real, "agg_risk")["encoder"][0] == "clip_vitl14_px336_extracts"
    assert ranked(real, "risk_1_percent")["encoder"][0] == "openclip_vith14_extractpred"
    assert ranked(real, "risk_3_shots")["encoder"][0] == "msn_vitl7_ep200"
    assert ranked(real, "usability").height == 146
    for name in real.names():  # every row can be placed and shown
        row = real.row(name)
        found = place(real, {r: row[r] for r in RISKS if row[r] is not None}, encoder=name)
        assert found.nearest.height == 5 and name not in found.nearest["encoder"]
    assert "swav_rn50, as published" in render_encoder(real, "swav_rn50")


def test_the_place_of_an_error_has_the_ends_of_its_interval_in_order(run_result):
    found = counterpart(small(), run_result, Provenance(encoder="e3", data="ImageNet-1K"), encoder="e3")
    lines = render_beside(found, 12).splitlines()
    for row in found.place.standings.iter_rows(named=True):
        label = QUANTITIES[row["quantity"]].label
        (line,) = (x for x in lines if x.startswith(f"    {label:<26}") and "expected" not in x)
        ends = [round(100 * (1 - row[end])) for end in ("below_high", "below_low")]
        assert [int(word) for word in re.findall(r"-?\d+", line.split("[")[1].split("]")[0])] == ends
        assert ends[0] <= ends[1]


def test_the_place_of_what_was_measured_is_that_of_its_ends_too(run_result):
    published = small()
    e = replace(run_result.estimates["probe_gen"], estimate=0.2, low=0.17, high=0.25)
    result = replace(run_result, estimates={**run_result.estimates, "probe_gen": e})
    found = counterpart(published, result, Provenance(encoder="e3", data="ImageNet-1K"), encoder="e3")
    errors, low, high = ({"probe_gen": value} for value in (e.estimate, e.low, e.high))
    (row,) = found.place.standings.filter(quantity="probe_gen").to_dicts()
    assert [row] == standings(published, errors, low=low, high=high, encoder="e3").to_dicts()
    assert row["below_low"] < row["below"] < row["below_high"]


def test_half_of_the_interval_that_a_published_total_would_have_is_of_its_test_rows(run_result):
    published = small()
    found = counterpart(published, run_result, Provenance(encoder="e3"), encoder="e3")
    (note,) = (note for note in found.reasons if note.code == "published_no_interval")
    total = published.row("e3")["agg_risk"]
    assert note.values["half"] == pytest.approx(196 * np.sqrt(total * (1 - total) / 50_000), rel=1e-4)  # 1.95996


def test_other_test_rows_alone_are_other_rows(run_result):
    sizes = replace(run_result.sizes, train=1_281_167, test=50_000, classes=1_000)
    for test, said in ((50_000, False), (10_000, True)):
        result = replace(run_result, sizes=replace(sizes, test=test))
        found = counterpart(small(), result, Provenance(encoder="e3", data="ImageNet-1K"), encoder="e3")
        assert ("published_other_rows" in {note.code for note in found.reasons}) is said


def test_a_cell_that_is_only_doubted_is_not_said_to_be_amended():
    notes = fault_notes(read_published(table(line("a", 0, 2, 20, 3))), "a")
    assert [note.code for note in notes] == ["published_doubt"] and "became" not in notes[0].sentence()


def test_residuals_rest_on_rows_that_are_of_their_encoder():
    published = small()
    one = published.frame.with_columns(trusted=pl.col("encoder") != "e1")
    found = residuals(replace(published, frame=one), published.row("e3"), encoder="e3")
    assert found["n"].unique().to_list() == [10]


def test_degrees_of_freedom_are_those_of_the_rank():
    published = small()
    alike = replace(published, frame=published.frame.with_columns(z_dim=pl.lit(512)))
    row = alike.row("e3")
    one = residuals(alike, row, encoder="e3").row(1, named=True)
    of = alike.frame.filter(pl.col("encoder") != "e3")
    left = of.select(pl.col("probe_gen") - pl.col("probe_gen").mean().over("architecture")).to_series().to_numpy()
    # two architectures and one dimension: 11 encoders less 2, whose t quantile is 2.262157
    assert one["high"] - one["expected"] == pytest.approx(2.262157 * np.sqrt(left @ left / 9 * (1 + 1 / 5)), rel=1e-6)
