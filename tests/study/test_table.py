"""What a table may be, and what is said where it is not."""

import math

import polars as pl
import pytest
from ssl_risk_rs.errors import DataError, ParameterError
from ssl_risk_rs.study import read_table, study_table
from ssl_risk_rs.study.choices import parse_choice
from ssl_risk_rs.study.table import _unequal_sums


def test_columns_are_told_apart(planted):
    table = study_table(planted.with_columns(notes=pl.lit("x"), **{"agg_risk@1%": 0.5, "agg_risk@3": 0.6}))
    assert table.components == ("approx", "usability", "probe_gen", "enc_gen", "agg_risk", "agg_risk@3", "agg_risk@1%")
    assert [c.name for c in table.choices] == ["objective", "projection2_arch", "z_dim", "epochs", "optimizer"]
    assert table.unknown == ("notes",)
    assert study_table(planted, components=["usability"]).components == ("usability",)
    assert study_table(planted.drop("objective")).cluster == ""
    assert study_table(planted.drop("encoder")).frame["encoder"][0] == "row 1"


@pytest.mark.parametrize(("column", "names"), [("metric", "error, r2"), ("target", "the labels, age")])
def test_rows_of_several_units_are_refused(planted, tmp_path, column, names):
    first = None if column == "target" else "error"
    other = pl.lit(names.split(", ")[1])
    mixed = planted.with_columns(pl.when(pl.arange(pl.len()) < 40).then(pl.lit(first)).otherwise(other).alias(column))
    mixed.write_csv(tmp_path / "zoo.csv")
    with pytest.raises(DataError, match=f"rows are of 2 {column}s .{names}.; keep the rows of one"):
        read_table([tmp_path / "zoo.csv"])
    one = planted.with_columns(metric=pl.lit("error"), split_seed=0, protocol=pl.lit("strict"))
    assert study_table(one).unknown == ()


def test_totals_that_are_not_the_sum_of_their_components_are_counted(planted):
    rounded = planted.with_columns(pl.col("agg_risk").round(3))
    assert study_table(rounded).unequal_sums == ()
    row = pl.arange(pl.len()) == 3
    off = rounded.with_columns(agg_risk=pl.when(row).then(pl.col("agg_risk") - 0.1).otherwise("agg_risk"))
    ((encoder, by),) = study_table(off).unequal_sums
    assert encoder == planted["encoder"][3] and by == pytest.approx(-0.1, abs=1e-3)
    assert study_table(off.with_columns(approx=pl.when(row).then(None).otherwise("approx"))).unequal_sums == ()


def test_a_column_without_values_is_no_text(planted, tmp_path):
    """As a csv has it: sweeps of one's own encoders know no epochs and no batch size."""
    table = planted.with_columns(epochs=pl.lit(None, pl.String), batch_size=pl.lit(None, pl.String))
    found = study_table(table).frame
    assert found["epochs"].null_count() == found["batch_size"].null_count() == found.height


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        (lambda f: f.select("objective", "z_dim"), DataError, "the table has no column of risks"),
        (lambda f: f.select("encoder", "agg_risk"), DataError, "no column of a known design choice; name some"),
        (lambda f: f.with_columns(agg_risk=pl.col("agg_risk") * 100), DataError, r"values up to \S+; a risk is a"),
        (lambda f: f.with_columns(agg_risk=pl.lit("a")), DataError, "'agg_risk' holds String; a risk is a number"),
        (lambda f: f.with_columns(agg_risk=pl.lit("0,25")), DataError, "with a decimal point: '0,25' has a comma"),
        (lambda f: f.with_columns(agg_risk=math.inf), DataError, "a risk is a fraction in"),
        (lambda f: f.with_columns(z_dim=pl.lit("big")), DataError, "'z_dim' holds String, and is examined as a log"),
        (lambda f: f.with_columns(is_ema=pl.lit("yes")), DataError, "'is_ema' holds String, and is examined as a flag"),
    ],
)  # fmt: skip
def test_tables_that_cannot_be_studied(planted, change, error, match):
    with pytest.raises(error, match=match):
        study_table(change(planted))


def test_names_that_are_not_there(planted):
    with pytest.raises(ParameterError, match="the table has no column 'colour'; it has encoder, objective"):
        study_table(planted, cluster="colour")
    with pytest.raises(ParameterError, match="the table has no column 'nviews'"):
        study_table(planted, only=["nviews"])
    with pytest.raises(ParameterError, match="'enc_gen' is no known design choice; add it with --choice enc_gen:KIND"):
        study_table(planted, only=["enc_gen"])
    with pytest.raises(ParameterError, match="'agg_risk@7' is no risk of the table; it has approx, usability"):
        study_table(planted, components=["agg_risk@7"])
    with pytest.raises(ParameterError, match="'dropout' is no known design choice; say what it is: dropout:category"):
        parse_choice("dropout")
    with pytest.raises(ParameterError, match="'big' is no kind of a design choice"):
        parse_choice("z_dim:big")


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".json"])
def test_files_are_read_alike(planted, tmp_path, suffix):
    path = tmp_path / f"zoo{suffix}"
    {".csv": planted.write_csv, ".parquet": planted.write_parquet, ".json": planted.write_json}[suffix](path)
    frame, found = read_table([path])
    assert found == () and frame["source"].unique().to_list() == ["zoo"]
    assert frame.drop("source").equals(planted)


def test_a_tidy_table_of_results_becomes_wide(planted, tmp_path):
    tidy = pl.DataFrame(
        {
            "run": "r", "encoder": ["a", "a", "a", "b", "b"], "group": ["all", "all", "control", "all", "all"],
            "quantity": ["agg_risk", "agg_risk", "agg_risk", "agg_risk", "usability"],
            "shots": [None, "3", None, None, None], "estimate": [0.2, 0.5, 0.9, 0.3, 0.1],
            "z_dim": [64, 64, 64, 128, 128],
        }
    )  # fmt: skip
    tidy.write_parquet(tmp_path / "runs.parquet")
    frame, _ = read_table([tmp_path / "runs.parquet"])
    rows = {r["encoder"]: r for r in frame.iter_rows(named=True)}
    assert (rows["a"]["agg_risk"], rows["a"]["agg_risk@3"], rows["a"]["z_dim"]) == (0.2, 0.5, 64)
    assert rows["b"]["usability"] == 0.1 and rows["a"]["usability"] is None
    pl.concat([tidy, tidy]).write_parquet(tmp_path / "twice.parquet")
    with pytest.raises(DataError, match="names a quantity twice for the same run, encoder"):
        read_table([tmp_path / "twice.parquet"])
    tidy.drop("run", "encoder").write_parquet(tmp_path / "none.parquet")
    with pytest.raises(DataError, match="none that says which encoder a row is of"):
        read_table([tmp_path / "none.parquet"])


def test_other_metrics_and_other_data_sets_are_left_out(planted, tmp_path):
    tidy = pl.DataFrame(
        {
            "encoder": ["a", "a", "b"], "data": ["x", "x", "y"], "quantity": "agg_risk",
            "metric": ["error", "log_loss", "error"], "estimate": [0.2, 0.9, 0.3],
        }
    )  # fmt: skip
    tidy.write_parquet(tmp_path / "runs.parquet")
    with pytest.raises(DataError, match=r"rows are of 2 data sets \(x, y\); choose one \(--data\)"):
        read_table([tmp_path / "runs.parquet"])
    frame, _ = read_table([tmp_path / "runs.parquet"], data="x")
    assert frame["encoder"].to_list() == ["a"] and frame["agg_risk"].to_list() == [0.2]
    with pytest.raises(DataError, match="no row is of the data set 'z'; there are x, y"):
        read_table([tmp_path / "runs.parquet"], data="z")
    uris = pl.Series(["folder:/d/x/", "folder:/d/x/", "hf:org/y?v=1"])
    tidy.with_columns(data_uri=uris).write_parquet(tmp_path / "u.parquet")
    for name, encoder in (("x", "a"), ("y", "b"), ("hf:org/y?v=1", "b")):  # as tables print it, and as it was asked for
        assert read_table([tmp_path / "u.parquet"], data=name)[0]["encoder"].to_list() == [encoder]


def test_data_sets_of_one_name_are_told_apart_by_where_they_lie(tmp_path):
    def risks(encoders, **more):
        return pl.DataFrame({"encoder": encoders, "agg_risk": [0.2 + 0.01 * i for i in range(len(encoders))], **more})

    uris = ["folder:/a/flowers", "folder:/a/flowers", "folder:/b/flowers"]
    risks(["a", "b", "c"], data="flowers", data_uri=uris).write_csv(tmp_path / "sweep.csv")
    risks(["p"]).write_csv(tmp_path / "own.csv")
    for chosen in (None, "flowers"):
        with pytest.raises(DataError, match=r"2 data sets \(folder:/a/flowers, folder:/b/flowers\); choose one"):
            read_table([tmp_path / "sweep.csv"], data=chosen)
    frame, _ = read_table([tmp_path / "own.csv", tmp_path / "sweep.csv"], data="folder:/a/flowers")
    assert sorted(frame["encoder"]) == ["a", "b", "p"]  # rows that name no data stay


def test_risks_without_a_twin_are_studied_together(planted):
    whole = planted.with_columns(approx_usability=pl.col("agg_risk") / 2)
    assert "approx_usability" not in study_table(whole).components
    assert study_table(whole, components=["approx_usability"]).components == ("approx_usability",)
    alone = study_table(whole.drop("approx", "usability"))
    assert alone.components[0] == "approx_usability" and "approx_usability" not in alone.unknown


def test_probes_of_one_encoder_are_not_two_encoders(planted, tmp_path):
    both = pl.concat([planted.with_columns(probe=pl.lit(name)) for name in ("logistic", "ridge")])
    both = both.with_columns(agg_risk=pl.col("agg_risk") + 0.01 * (pl.col("probe") == "ridge"))
    both.write_csv(tmp_path / "sweep.csv")
    with pytest.raises(DataError, match=r"rows are of 2 probes \(logistic, ridge\); choose one \(--probe\)"):
        read_table([tmp_path / "sweep.csv"])
    with pytest.raises(DataError, match="no row is of the probe 'knn'; there are logistic, ridge"):
        read_table([tmp_path / "sweep.csv"], probe="knn")
    frame, _ = read_table([tmp_path / "sweep.csv"], probe="logistic")
    assert frame.drop("source", "probe").equals(planted)
    # a choice is made before files are joined, and rows that name no probe stay
    planted.write_csv(tmp_path / "other.csv")
    frame, _ = read_table([tmp_path / "sweep.csv", tmp_path / "other.csv"], probe="ridge")
    assert frame.height == 192 and frame["probe"].null_count() == 96


@pytest.mark.parametrize("column", ["layer", "protocol", "run"])
def test_an_encoder_counts_once(planted, tmp_path, column):
    twice = pl.concat([planted.with_columns(pl.lit(name).alias(column)) for name in ("a", "b")])
    twice.write_csv(tmp_path / "twice.csv")
    with pytest.raises(DataError, match=rf"192 rows name .*'e0', which differ in {column}\).* keep one row of each"):
        read_table([tmp_path / "twice.csv"])
    twice.with_columns(encoder=pl.col("encoder") + "/" + pl.col(column)).write_csv(tmp_path / "named.csv")
    assert read_table([tmp_path / "named.csv"])[0].height == 192


def test_several_files(planted, tmp_path):
    planted.write_csv(tmp_path / "a.csv")
    planted.with_columns(z_dim=pl.lit("big"), extra=1).write_csv(tmp_path / "b.csv")
    frame, _ = read_table([tmp_path / "a.csv", tmp_path / "b.csv"])
    assert frame.height == 192 and frame["extra"].null_count() == 96
    assert frame.schema["z_dim"] == pl.String  # a number here, a text there
    with pytest.raises(DataError, match=r"rows name an encoder that another row of the same source names too"):
        read_table([tmp_path / "a.csv", tmp_path / "a.csv"])


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match=r"none.csv cannot be read"):
        read_table([tmp_path / "none.csv"])
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(DataError, match=r"is no table that is read here; name a .csv, .tsv, .parquet or .json file"):
        read_table([tmp_path / "a.txt"])
    (tmp_path / "a.parquet").write_text("x")
    for name, text in (("a.parquet", "x"), ("a.csv", ""), ("a.json", "[{"), ("a.tsv", "encoder\ta\nx\t1\t2\n")):
        (tmp_path / name).write_text(text)
        with pytest.raises(DataError, match=rf"{name}( is damaged or no .{name[2:]} file|: row 0 .* has 3 fields)"):
            read_table([tmp_path / name])
    (tmp_path / "a.csv").write_bytes("encoder;agg_risk\nä;0.5\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"line 2 is no UTF-8 text"):
        read_table([tmp_path / "a.csv"])


def test_tables_of_any_spreadsheet(planted, tmp_path):
    planted.write_csv(tmp_path / "comma.csv")
    planted.write_csv(tmp_path / "semicolon.csv", separator=";", include_bom=True)
    planted.write_csv(tmp_path / "tab.TSV", separator="\t")
    comma, *others = (read_table([tmp_path / name])[0] for name in ("comma.csv", "semicolon.csv", "tab.TSV"))
    for other in others:
        assert other.drop("source").equals(comma.drop("source"))
    numbered = planted.with_columns(encoder=pl.format("00{}", pl.int_range(pl.len())))
    numbered.write_csv(tmp_path / "numbered.csv")
    assert read_table([tmp_path / "numbered.csv"])[0]["encoder"].to_list()[:2] == ["000", "001"]


def test_percent_is_converted_only_when_asked(planted, tmp_path):
    planted.with_columns(pl.col("approx", "usability", "probe_gen", "enc_gen", "agg_risk") * 100).write_csv(
        tmp_path / "p.csv"
    )
    frame, _ = read_table([tmp_path / "p.csv"], percent=True)
    assert float(frame["agg_risk"][0]) == pytest.approx(float(planted["agg_risk"][0]), rel=1e-12)


def test_percent_of_training_errors_are_converted_too(planted, tmp_path):
    """The law of label counts reads them beside the components."""
    planted.with_columns(risk_af=30.0, **{"agg_risk@30": 60.0}).write_csv(tmp_path / "p.csv")
    frame, _ = read_table([tmp_path / "p.csv"], percent=True)
    assert frame.select("risk_af", "agg_risk@30").unique().rows() == [(0.3, 0.6)]


def test_percent_below_0_are_no_fractions():
    rows = pl.DataFrame({"objective": ["a", "b"], "enc_gen": [0.1, -3.0], "agg_risk": [0.3, 0.4]})
    with pytest.raises(DataError, match=r"'enc_gen' has values up to 3; a risk is a fraction"):
        study_table(rows)


def test_a_sum_that_rounding_explains_is_equal():
    parts = {name: [0.1] * 3 for name in ("approx", "usability", "probe_gen", "enc_gen")}
    rows = pl.DataFrame({"encoder": list("abc"), **parts, "agg_risk": [0.4025, 0.404, 0.39]})
    assert [encoder for encoder, _ in _unequal_sums(rows)] == ["b", "c"]
