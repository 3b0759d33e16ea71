"""The reader of the authors' table, on a table of three rows and on the table itself."""

import numpy as np
import polars as pl
import pytest
from ssl_risk_rs.errors import DataError
from ssl_risk_rs.study import corrections, load_published

COLUMNS = (
    "approx", "usability", "probe_gen", "enc_gen", "train_test", "train-nperclass-30_test",
    "train-balsbst-ntrain0.01_test", "train-nperclass-5_test", "train-nperclass-3_test", "objective", "family",
    "patch_size", "z_dim", "n_parameters", "epochs", "is_ema",
)  # fmt: skip
ROWS = (
    ("a_rn50", 1.0, 2.0, 20.0, 3.0, 26.0, 40.0, 45.0, 50.0, 55.0, "simclr", "resnet", 7, 2048, 23508032, 100, True),
    ("b_rn50", 1.0, 0.0, 20.0, 3.0, 23.75, 40.0, 45.0, 50.0, 55.0, "byol", "resnet", 7, 2048, 23508032, 100, False),
    ("clip_rn50x4", None, None, 20.0, 3.0, 26.0, None, 45.0, 50.0, 55.0, "clip", "vit", 16, 640, 92054200, 32, False),
)


@pytest.fixture
def small(tmp_path):
    """A table in the authors' layout."""
    groups = ",".join(["", "risk_decomposition", *["metrics"] * 15])
    lines = [groups, "," + ",".join(COLUMNS), "enc" + "," * len(COLUMNS)]
    lines += [",".join("" if cell is None else str(cell) for cell in row) for row in ROWS]
    path = tmp_path / "all_results.csv"
    path.write_text("\n".join(lines) + "\n")
    (tmp_path / "metadata.yaml").write_text("# names\nA_rn50: {}\nb_RN50: {}\nclip_rn50x4: {}\nother: {}\n")
    return path


def test_risks_are_fractions_and_names_spelled(small):
    frame = load_published(small, small.with_name("metadata.yaml"))
    assert frame["encoder"].to_list() == ["A_rn50", "b_RN50", "clip_rn50x4"]
    assert load_published(small)["encoder"].to_list() == ["a_rn50", "b_rn50", "clip_rn50x4"]
    assert frame["agg_risk"].to_list() == pytest.approx([0.26, 0.2375, 0.26], abs=1e-16)
    assert frame["agg_risk@30"].to_list() == [0.4, 0.4, None]
    assert frame["is_ema"].to_list() == [True, False, False]
    assert frame["source"].unique().to_list() == ["published"]


def test_a_clipped_component_is_restored_and_a_missing_twin_stays_missing(small):
    frame = load_published(small)
    assert frame["usability"].to_list() == [0.02, pytest.approx(-0.0025, abs=1e-15), None]  # 1 + u + 20 + 3 = 23.75
    assert frame["approx"].to_list() == [0.01, 0.01, None]
    raw = load_published(small, corrected=False)
    assert raw["usability"].to_list() == [0.02, 0.0, None]
    assert raw["z_dim"].to_list() == [2048, 2048, 640]
    assert raw["patch_size"].to_list() == [7, 7, 16]
    assert frame["patch_size"].to_list() == [None, None, 16]  # no ViT, no patches


def test_every_change_is_listed(small):
    found = {(c.encoder, c.column): (c.published, c.corrected, c.kind) for c in corrections(small)}
    assert found["clip_rn50x4", "z_dim"] == ("640", "2560", "value")
    assert found["clip_rn50x4", "n_parameters"] == ("92054200", "85498040", "value")
    assert found["b_rn50", "usability"][2] == "clipped"
    assert len(found) == 3
    frame = load_published(small)
    for (encoder, column), (_, corrected, _) in found.items():
        cell = frame.filter(pl.col("encoder") == encoder)[column][0]
        assert float(cell) == float(corrected)


def test_files_that_are_not_the_table(small, tmp_path):
    other = tmp_path / "other.csv"
    other.write_text("encoder,agg_risk\na,0.2\n")
    with pytest.raises(DataError, match=r"other.csv lacks the two header rows"):
        load_published(other)
    with pytest.raises(DataError, match=r"none.csv is no file"):
        load_published(tmp_path / "none.csv")
    with pytest.raises(DataError, match=r"cannot be read \(No such file or directory\)"):
        load_published(small, tmp_path / "none.yaml")
    yaml = tmp_path / "m.yaml"
    yaml.write_text("a: [")
    with pytest.raises(DataError, match="is no YAML file"):
        load_published(small, yaml)
    yaml.write_text("a_rn50: {}\n")
    with pytest.raises(DataError, match=r"lacks 2 of the 3 encoders of the table \(for example b_rn50\)"):
        load_published(small, yaml)
    yaml.write_text("- a\n")
    with pytest.raises(DataError, match="holds no table of encoders"):
        load_published(small, yaml)
    cut = small.read_text().replace("objective", "obj")
    small.write_text(cut)
    with pytest.raises(DataError, match="lacks the columns objective"):
        load_published(small)


# --- the table itself


def test_the_published_table(paper):
    frame = load_published(paper / "all_results.csv", paper / "metadata.yaml")
    assert frame.height == 169
    assert frame["objective"].n_unique() == 28
    assert frame["approx"].null_count() == frame["usability"].null_count() == 23
    assert frame["agg_risk@30"].null_count() == 2
    assert frame.filter(pl.col("excluded").is_not_null())["encoder"].to_list() == [
        "deepcluster_rn50_bs512_ep200_mmselfsup"
    ]
    assert frame["z_dim"].filter(frame["encoder"] == "clip_rn50x4").to_list() == [2560]
    whole = frame.drop_nulls("approx")
    total = whole.select(pl.sum_horizontal("approx", "usability", "probe_gen", "enc_gen")).to_series()
    # sums of four doubles below 1; one row's two clipped components are known to 1e-8
    assert float((total - whole["agg_risk"]).abs().max()) < 1e-8


def test_corrections_of_the_published_table(paper):
    found = corrections(paper / "all_results.csv")
    kinds = [c.kind for c in found]
    # 12 clipped rows, one of them in two components
    assert (kinds.count("value"), kinds.count("clipped"), kinds.count("excluded")) == (26, 13, 1)
    assert len({c.encoder for c in found if c.kind == "clipped"}) == 12
    assert all(c.reason for c in found)


def test_restored_components_are_the_unclipped_risks(paper):
    raw = pl.read_csv(paper / "raw_risks.csv", skip_rows_after_header=0)
    raw = raw.rename({raw.columns[0]: "key"}).with_columns(pl.col("key").str.to_lowercase())
    both = load_published(paper / "all_results.csv").join(raw, left_on="encoder", right_on="key", suffix="_raw")
    assert both.height == 166  # three rows were added to the table later
    af = both["train_train"].to_numpy() / 100
    np.testing.assert_allclose(both["risk_af"].to_numpy(), af, atol=1e-8)
    known = both.drop_nulls("approx")
    usability = (known["train_train"] - known["approx"] * 100).to_numpy() / 100
    np.testing.assert_allclose(known["usability"].to_numpy(), usability, atol=1e-8)


def test_without_corrections_cells_are_the_files(paper):
    frame = load_published(paper / "all_results.csv", corrected=False)
    assert float(frame["usability"].min()) == 0.0
    assert frame["excluded"].null_count() == 169
    means = {c: f"{100 * float(frame[c].mean()):.4g}" for c in ("approx", "usability", "probe_gen", "enc_gen")}
    assert means == {"approx": "0.7873", "usability": "7.244", "probe_gen": "17.79", "enc_gen": "3.191"}


def test_numbers_of_parameters_are_those_of_the_catalogue(paper):
    from ssl_risk_rs.encoders.catalogue import catalogue

    right = {name.lower(): v for (name, column), (v, _) in catalogue().corrections.items() if column == "n_parameters"}
    found = {c.encoder: c.corrected for c in corrections(paper / "all_results.csv") if c.column == "n_parameters"}
    for encoder, value in found.items():
        assert float(value) == pytest.approx(float(right[encoder]), rel=1e-3)  # the paper's fixes are rounded


def test_networks_without_patches_have_no_patch_size(paper):
    frame = load_published(paper / "all_results.csv")
    others = frame.filter(pl.col("family") != "vit")
    assert others["family"].n_unique() > 1 and others["patch_size"].null_count() == others.height
    assert frame.filter(pl.col("family") == "vit")["patch_size"].null_count() == 0
