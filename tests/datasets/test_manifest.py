"""Manifests: what a table lists is what the data set holds, and each fault of a table is counted by name."""

import datetime
import math
import os
import pickle
import shutil

import numpy as np
import polars as pl
import pytest
from PIL import Image
from ssl_risk_rs.datasets import create_dataset
from ssl_risk_rs.decomposition.targets import Target, bank_values, kind_of
from ssl_risk_rs.errors import DataError
from ssl_risk_rs.extraction.cached import ensure_bank

RNG = np.random.default_rng(0)


def images(root, n=12) -> list[str]:
    """Files `i.png` below two folders."""
    names = []
    for i in range(n):
        names.append(f"{'ab'[i % 2]}/{i:02}.png")
        (root / names[-1]).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RNG.integers(0, 256, (4, 4, 3), dtype=np.uint8)).save(root / names[-1])
    return names


def frame(root, **columns) -> pl.DataFrame:
    names = images(root)
    given = {"path": names, "label": ["ant", "bee", "cat"] * 4, "split": ["train"] * 8 + ["test"] * 4}
    return pl.DataFrame({name: values for name, values in {**given, **columns}.items() if values is not None})


def saved(table: pl.DataFrame, path) -> str:
    if path.suffix == ".parquet":
        table.write_parquet(path)
    else:
        table.write_csv(path, separator="\t" if path.suffix == ".tsv" else ",")
    return f"manifest:{path}"


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet"])
def test_rows_labels_parts_and_further_columns(tmp_path, suffix):
    table = frame(
        tmp_path, group=[f"p{i // 2}" for i in range(12)], age=list(range(12)), note=["x", None] * 6,
        code=["007", "12"] * 6, weight=[0.5 + i for i in range(12)], dose=[None, 2.5, 3.0] * 4, visits=[None, 3] * 6,
    ).sample(fraction=1, shuffle=True, seed=1)  # fmt: skip
    dataset = create_dataset(saved(table, tmp_path / f"rows.{suffix}"), group="group")
    samples = dataset.samples
    assert dataset.class_names == ["ant", "bee", "cat"] and dataset.name == "rows" and not dataset.notes
    assert samples["split"].to_list() == ["train"] * 8 + ["test"] * 4
    by_path = {row["path"]: row for row in table.iter_rows(named=True)}
    for row in samples.iter_rows(named=True):
        listed = by_path[row["sample_id"]]
        assert (dataset.class_names[row["label"]], row["split"]) == (listed["label"], listed["split"])
        assert row["path"] == str(tmp_path / row["sample_id"]) == dataset.where(row["row"])
        assert (row["group"], row["age"], row["note"], row["code"]) == tuple(
            listed[name] for name in ("group", "age", "note", "code")
        )
        assert np.array_equal(np.asarray(dataset.load(row["row"])), np.asarray(Image.open(row["path"])))
        assert row["weight"] == listed["weight"] and row["visits"] == listed["visits"]
        assert row["dose"] == listed["dose"] or (math.isnan(row["dose"]) and listed["dose"] is None)
    assert samples.schema["age"] == samples.schema["visits"] == pl.Int64 and samples.schema["code"] == pl.String
    assert samples.schema["weight"] == samples.schema["dose"] == pl.Float64
    again = pickle.loads(pickle.dumps(dataset))
    assert again.samples.equals(samples) and again.where(3) == dataset.where(3)


def test_without_a_split_a_part_is_set_aside(tmp_path):
    dataset = create_dataset(saved(frame(tmp_path, split=None, label=["a", "b"] * 6), tmp_path / "rows.csv"))
    assert dataset.samples["split"].to_list().count("test") == 2
    assert any("no test part in manifest:" in note for note in dataset.notes)


def test_a_validation_part_is_the_test_part_where_there_is_no_other(tmp_path):
    labels = ["a", "b"] * 6
    uri = saved(frame(tmp_path, label=labels, split=["Train"] * 8 + ["val"] * 4), tmp_path / "rows.csv")
    assert create_dataset(uri).samples["split"].to_list() == ["train"] * 8 + ["test"] * 4
    uri = saved(frame(tmp_path, label=labels, split=["train"] * 6 + ["val"] * 4 + ["test"] * 2), tmp_path / "rows.csv")
    dataset = create_dataset(uri)
    assert len(dataset) == 8 and any("has 4 rows of the part val" in note for note in dataset.notes)


def test_ids_are_the_column_of_that_name_else_the_path(tmp_path):
    table = frame(tmp_path)
    ids = [f"id{i}" for i in range(12)]
    dataset = create_dataset(saved(table.with_columns(sample_id=pl.Series(ids)), tmp_path / "rows.csv"))
    assert dataset.samples["sample_id"].to_list() == ids
    absolute = table.with_columns(path=pl.Series([str(tmp_path / "a" / ".." / name) for name in table["path"]]))
    dataset = create_dataset(saved(absolute, tmp_path / "rows.csv"))
    assert dataset.samples["sample_id"].to_list() == table["path"].to_list()  # a file below the folder has a short id
    elsewhere = tmp_path.with_name(f"{tmp_path.name}-manifest")
    elsewhere.mkdir()
    dataset = create_dataset(saved(absolute, elsewhere / "rows.csv"))
    assert dataset.samples["sample_id"][0] == str(tmp_path / table["path"][0])


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([10, 9, 2] * 4, ["2", "9", "10"]),
        (["10", "9", "2"] * 4, ["2", "9", "10"]),
        ([1.0, 2.0, 3.0] * 4, ["1", "2", "3"]),
        (["007", "7", "x"] * 4, ["007", "7", "x"]),
        (["1e3", "1000", "7.0"] * 4, ["1000", "1e3", "7.0"]),
        (["a", "a\0", "b"] * 4, ["a", "a\0", "b"]),
        ([True, False] * 6, None),
        ([-1, 1] * 6, ["-1", "1"]),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_labels_of_any_type(tmp_path, labels, names, suffix):
    if suffix == "csv" and "a\0" in labels:
        with pytest.raises(DataError, match="row 1, column 'label' holds a NUL character"):
            len(create_dataset(saved(frame(tmp_path, label=labels), tmp_path / "rows.csv")))
        return
    dataset = create_dataset(saved(frame(tmp_path, label=labels), tmp_path / f"rows.{suffix}"))
    if names is None:  # a csv file has the words, a parquet file the values
        names = ["false", "true"] if suffix == "csv" else ["0", "1"]
        labels = [names[int(value)] for value in labels]
    found = [dataset.class_names[code] for code in dataset.samples["label"]]
    assert dataset.class_names == names
    assert found == [str(int(v)) if isinstance(v, float) else str(v) for v in labels]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["ant", "", "bee", None] * 3, r"column 'label' is empty, or -1, in 6 rows of 12: row 1, 3, 5, 7, 9, …"),
        ([0, 1, -1] * 4, r"is empty, or -1, in 4 rows of 12: row 2, 5, 8, 11"),
        (["0", "1", "nan"] * 4, r"is empty, or -1, in 4 rows of 12: row 2, 5, 8, 11"),
        ([0.5, 1.0, 2.0] * 4, r"row 0 has label 0\.5 .*classes are whole numbers or text"),
        ([datetime.date(2020, 1, 1 + i % 3) for i in range(12)], r"holds dates, such as 2020-01-0\d, which are no"),
    ],
)
def test_labels_that_are_no_classes(tmp_path, labels, message, suffix):
    with pytest.raises(DataError, match=message):
        len(create_dataset(saved(frame(tmp_path, label=labels), tmp_path / f"rows.{suffix}")))


def test_faults_of_paths_are_counted_with_examples(tmp_path):
    table = frame(tmp_path)
    names = table["path"].to_list()
    for changed, message in [
        (["x.png", *names[1:9], "y.png", *names[10:]], r"2 of 12 rows have paths of files that do not exist.*"
         r"They are .*/x\.png \(row 0\), .*/y\.png \(row 9\)"),
        ([*names[:11], names[0]], r"1 of 12 rows have paths that occur more than once.*They are a/00\.png \(row 11\)"),
        ([*names[:11], f"a/../{names[0]}"], r"1 of 12 rows have paths that occur more than once"),
        ([*names[:11], "../x.png"], r"1 of 12 rows have paths that lead out of .*absolute.*\.\./x\.png \(row 11\)"),
        ([*names[:11], "a/../../etc/x.png"], r"1 of 12 rows have paths that lead out of"),
        (["https://h.org/x.png", "s3://b/x.png", *names[2:]], r"2 of 12 rows have URLs\. Images are read from local"),
        (["", *names[1:11], None], r"has 2 rows without path: row 0, 11"),
        ([names[0][:-7], *names[1:]], r"1 of 12 rows have paths of files that do not exist"),
    ]:  # fmt: skip
        with pytest.raises(DataError, match=message):
            len(create_dataset(saved(table.with_columns(path=pl.Series(changed)), tmp_path / "rows.csv")))


def test_tables_that_are_no_manifest(tmp_path):
    table = frame(tmp_path)
    for path, columns, message in [
        ("rows.csv", table.drop("path"), r"has no column path \(nor file or .*\); it has label, split"),
        ("rows.csv", table.drop("label"), r"has no column label \(nor class or target or y\)"),
        ("rows.csv", table.clear(), "has no rows"),
        ("rows.csv", table.with_columns(sample_id=pl.lit("x")), r"11 of 12 rows have values of 'sample_id' that occur"),
        ("rows.parquet", table.with_columns(split=pl.lit("fold1")), "neither train, test nor val, for example 'fold1'"),
        (
            "rows.csv",
            table.with_columns(label=pl.Series([*"aabbaabb", *"aabc"])),
            r"1 class has test rows and no train",
        ),
    ]:
        with pytest.raises(DataError, match=message):
            len(create_dataset(saved(columns, tmp_path / path)))
    (tmp_path / "rows.xlsx").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"ends in \.xlsx; a table is \.csv, \.tsv, \.parquet"):
        len(create_dataset(f"manifest:{tmp_path / 'rows.xlsx'}"))
    with pytest.raises(DataError, match="is a folder"):
        create_dataset(f"manifest:{tmp_path}")
    with pytest.raises(DataError, match="names no file"):
        create_dataset("manifest:")


@pytest.mark.parametrize("role", ["path", "label", "split", "sample_id"])
@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([datetime.timedelta(i) for i in range(12)], "Duration"),
        ([[i] for i in range(12)], "List"),
        ([b"\xff%d" % i for i in range(12)], "Binary that is no UTF-8 text"),
    ],
    ids=["durations", "lists", "bytes"],
)
def test_columns_without_text_have_no_role(tmp_path, role, values, kind):
    table = frame(tmp_path, **{role: values})
    with pytest.raises(DataError, match=rf"rows\.parquet: column '{role}' is {kind}"):
        len(create_dataset(saved(table, tmp_path / "rows.parquet")))


def test_further_columns_beyond_int64_and_durations(tmp_path):
    large = pl.Series("site", [2**63 + i for i in range(12)], pl.UInt64)
    table = frame(tmp_path).with_columns(large, stay=pl.Series([datetime.timedelta(i) for i in range(12)]))
    dataset = create_dataset(saved(table, tmp_path / "rows.parquet"))
    assert dataset.samples["site"][0] == str(2**63) and any("not kept (1): stay" in note for note in dataset.notes)


@pytest.mark.parametrize("name", ["label", "split"])
def test_names_that_occur_twice(tmp_path, name):
    twice = frame(tmp_path).with_columns(pl.col(name).reverse().alias(name.title()))
    for suffix in ("csv", "parquet"):
        with pytest.raises(DataError, match=f"has columns '{name}' and '{name.title()}'; keep one"):
            len(create_dataset(saved(twice, tmp_path / f"rows.{suffix}")))
    path = tmp_path / "rows.csv"
    path.write_text(twice.write_csv().replace(name.title(), name, 1))
    with pytest.raises(DataError, match=f"has 2 columns called '{name}'; keep one"):
        len(create_dataset(f"manifest:{path}"))


def test_a_manifest_in_utf16(tmp_path):
    (tmp_path / "rows.csv").write_text(frame(tmp_path).write_csv(), encoding="utf-16")
    with pytest.raises(DataError, match=r"is UTF-16 text; .*iconv -f UTF-16"):
        len(create_dataset(f"manifest:{tmp_path / 'rows.csv'}"))


def test_a_file_of_a_spreadsheet(tmp_path):
    names = images(tmp_path)
    os.rename(tmp_path / names[0], tmp_path / "a/k\u00e4se; 1.png")
    names[0] = '"a/k\u00e4se; 1.png"'
    lines = ["\ufeffFile;Class", *(f"{name};{'xy'[i % 2]}" for i, name in enumerate(names))]
    (tmp_path / "rows.csv").write_text("\r\n".join(lines), encoding="utf-8")
    assert "a/k\u00e4se; 1.png" in create_dataset(f"manifest:{tmp_path / 'rows.csv'}").samples["sample_id"].to_list()
    (tmp_path / "rows.csv").write_text("\n".join(lines).removeprefix("\ufeff"), encoding="latin-1")
    with pytest.raises(DataError, match=r"line 2 is no UTF-8 text .*iconv -f LATIN1"):
        len(create_dataset(f"manifest:{tmp_path / 'rows.csv'}"))


def test_a_target_and_a_bank_are_the_same_from_csv_and_parquet(tmp_path):
    """Decimals of a csv were text: three doses were three classes, and each file refused the other's bank."""
    table = frame(tmp_path, dose=[0.5, 1.0, 1.5] * 4, age=[20.25 + i for i in range(12)])
    banks, kinds = [], []
    for suffix in ("csv", "parquet"):
        uri = saved(table, tmp_path / f"rows.{suffix}")
        banks.append(ensure_bank("pixels:2", uri, store=tmp_path / "store"))
        kinds.append([kind_of(bank_values(banks[-1], Target(name))) for name in ("dose", "age")])
    assert banks[0].path == banks[1].path and kinds == [["numbers", "numbers"]] * 2


def test_columns_that_are_not_kept_are_named(tmp_path):
    table = frame(tmp_path).with_columns(row=pl.lit(1), boxes=pl.Series([[1, 2]] * 12), empty=pl.lit(None, pl.String))
    dataset = create_dataset(saved(table, tmp_path / "rows.parquet"))
    assert dataset.samples.columns == ["row", "split", "sample_id", "label", "path"]
    assert any("not kept (3): row, boxes, empty" in note for note in dataset.notes)


def test_the_fingerprint_follows_content_and_survives_copies(tmp_path):
    table = frame(tmp_path / "one")
    first = create_dataset(saved(table, tmp_path / "one" / "rows.csv"))
    before = first.fingerprint()
    os.utime(tmp_path / "one" / "rows.csv", (1, 1))  # what it says is the same
    assert create_dataset(first.uri).fingerprint() == before
    shutil.copytree(tmp_path / "one", tmp_path / "two", copy_function=shutil.copyfile)
    copy = create_dataset(f"manifest:{tmp_path / 'two' / 'rows.csv'}")
    assert copy.fingerprint() != before
    assert copy.fingerprint(hash_content=True) == first.fingerprint(hash_content=True)
    saved(table.with_columns(label=pl.col("label").reverse()), tmp_path / "one" / "rows.csv")
    assert create_dataset(first.uri).fingerprint() != before


@pytest.mark.parametrize(
    "change",
    [
        {"label": ["ant", "bee", "dog"] * 4},  # other names of the same codes
        {"split": ["train"] * 7 + ["test"] * 5},  # in the same order
        {"group": ["p", *"qrstuvwxyz", "b"]},
    ],
)
def test_the_fingerprint_follows_every_column(tmp_path, change):
    table = frame(tmp_path, group=["p", *"qrstuvwxyz", "a"])
    uri = saved(table, tmp_path / "rows.csv")
    before = create_dataset(uri).fingerprint()
    saved(table.with_columns(**{name: pl.Series(values) for name, values in change.items()}), tmp_path / "rows.csv")
    assert create_dataset(uri).fingerprint() != before
