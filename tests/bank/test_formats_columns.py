"""Files of columns: which are features, which are not, and what is said of them."""

import datetime
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from ssl_risk_rs import BankError, DataError, ParameterError, Run, ShapeError, import_bank, load_features
from ssl_risk_rs.errors import ResultError

N, D = 24, 12


@pytest.fixture
def frame() -> pl.DataFrame:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((N, D)).astype(np.float32)
    table = pl.DataFrame(x, schema=[f"f{i}" for i in range(D)])
    split = ["train"] * 16 + ["test"] * 8
    return table.with_columns(label=pl.Series(np.arange(N) % 4), split=pl.Series(split))


def features(frame) -> np.ndarray:
    return frame.select(f"f{i}" for i in range(D)).to_numpy()


@pytest.fixture(params=["parquet", "csv", "tsv"])
def save(request, tmp_path):
    def write(frame: pl.DataFrame, name: str = "f"):
        path = tmp_path / f"{name}.{request.param}"
        if request.param == "parquet":
            frame.write_parquet(path)
        else:
            frame.write_csv(path, separator="," if request.param == "csv" else "\t")
        return path

    return write


def x_of(found) -> np.ndarray:
    return np.concatenate([found.X_train, found.X_test])


def test_a_numbered_family(save, frame):
    found = load_features(save(frame.select(sorted(frame.columns))))  # f10 before f2 in the file
    assert np.array_equal(x_of(found), features(frame)) and found.notes == ()
    assert found.train_columns == {} and found.X_train.dtype == np.float32


@pytest.mark.parametrize(
    "name",
    ["feature_{}", "emb_{}", "{}", "f{:03d}", "Dim {}", "0.{}"],
    ids=["underscore", "emb", "digits", "padded", "blank", "dot"],
)
@pytest.mark.parametrize("first", [0, 1])
def test_names_of_families(save, frame, name, first):
    wide = frame.rename({f"f{i}": name.format(i + first) for i in range(D)})
    assert np.array_equal(x_of(load_features(save(wide))), features(frame))


@pytest.mark.parametrize("stranger", ["__index_level_0__", "label_id", "patient_id", "age", "Unnamed: 0", "f12b"])
def test_other_numbers_beside_a_family_are_no_features(save, frame, tmp_path, stranger):
    path = save(frame.with_columns(pl.Series(stranger, np.arange(N) + 100)))
    found = load_features(path)
    assert np.array_equal(x_of(found), features(frame))
    assert found.train_columns[stranger].tolist() == list(range(100, 116))
    assert found.test_columns[stranger].tolist() == list(range(116, 124))
    (note,) = found.notes
    assert note.code == "columns_not_features" and note.values["n_features"] == D
    assert stranger in note.sentence() and "f0 to f11" in note.sentence()
    bank = import_bank(path, tmp_path / "bank")
    assert bank.n_features == D and bank.samples[stranger].to_list() == list(range(100, 124))
    assert bank.header.notes[0]["code"] == "columns_not_features"


def test_numbers_without_a_family_are_refused_with_the_line_that_selects_them(save, frame):
    plain = frame.select("label", "split", a="f0", b="f1", age="f2")
    path = save(plain)
    with pytest.raises(DataError, match=re.escape("--features-columns 'a,b,age'")):
        load_features(path)
    found = load_features(path, features_columns="a,b")
    assert np.array_equal(x_of(found), features(frame)[:, :2]) and found.notes[0].values["columns"] == "age"
    assert x_of(load_features(path, features_columns=["b", "a"]))[:, 1] == pytest.approx(features(frame)[:, 0], abs=0)
    many = save(frame.rename({f"f{i}": "abcdefghijklm"[i] for i in range(D)}).with_columns(z=pl.col("label")))
    with pytest.raises(DataError, match=re.escape("--features-columns '*'")):
        load_features(many)
    assert load_features(many, features_columns="*").X_train.shape == (16, D + 1)


def test_patterns_are_in_the_order_of_their_numbers(save, frame):
    path = save(frame.select(sorted(frame.columns)).with_columns(g0=pl.lit(1.0), g1=pl.lit(2.0)))
    with pytest.raises(DataError, match=r"2 numbered families of columns \(f0 to f11 and g0 to g1\).*'f\*'"):
        load_features(path)
    assert np.array_equal(x_of(load_features(path, features_columns="f*")), features(frame))
    assert x_of(load_features(path, features_columns="g*,f1")).shape == (N, 3)
    with pytest.raises(DataError, match=r"no column of numbers 'h\*'"):
        load_features(path, features_columns="h*")
    with pytest.raises(ParameterError, match="'label' tells label, split or identifier"):
        load_features(path, features_columns="f0,label")
    with pytest.raises(DataError, match="no column of numbers 'nothing'"):
        load_features(path, features_columns="f0,nothing")
    with pytest.raises(ParameterError, match="names no column"):
        load_features(path, features_columns=" , ")


def test_families_that_are_not_whole_or_name_labels(save, frame):
    with pytest.raises(DataError, match=r"f0 to f11, but no f3; .*--features-columns 'f\*'"):
        load_features(save(frame.drop("f3")))
    found = load_features(save(frame.with_columns(label_0=pl.lit(1), label_1=pl.lit(0)), "g"))
    assert found.X_train.shape[1] == D and found.notes[0].values["columns"] == "label_0, label_1"
    one = frame.select("f0", "label", "split")
    with pytest.raises(DataError, match="--features-columns 'f0'"):
        load_features(save(one, "h"))
    assert load_features(save(one, "h"), features_columns="f0").X_train.shape == (16, 1)
    from_two = frame.select("label", "split", "f2", "f3")
    with pytest.raises(DataError, match="--features-columns 'f2,f3'"):
        load_features(save(from_two, "i"))


@pytest.mark.parametrize("value", ["n/a", "1_000", "nan"])
def test_text_among_the_features_is_named_by_its_row(save, frame, value):
    text = frame["f3"].cast(pl.String).to_list()
    text[5] = value
    with pytest.raises(DataError, match=rf"column 'f3' is String, expected numbers: row 5 has '{value}'"):
        load_features(save(frame.with_columns(f3=pl.Series(text))))


def test_gaps_and_nan_are_named_by_their_row(save, frame):
    gap = frame.with_columns(f3=pl.when(pl.arange(0, N) == 7).then(None).otherwise(pl.col("f3")))
    with pytest.raises(DataError, match="row 7, column 'f3' is empty"):
        load_features(save(gap))
    # row 20 of the file is row 4 of the test rows
    for value, said in ((np.nan, "NaN"), (np.inf, "inf"), (1e300, r"1e\+300: beyond")):
        wrong = frame.with_columns(
            f3=pl.when(pl.arange(0, N) == 20).then(value).otherwise(pl.col("f3").cast(pl.Float64))
        )
        with pytest.raises(ParameterError, match=f"row 20, column 'f3' is {said}"):
            load_features(save(wrong))


def test_ids_groups_and_others_travel(save, frame, tmp_path):
    more = frame.with_columns(
        sample_id=pl.Series([f"{i:03d}" for i in range(N)]),
        patient=pl.Series([f"p{i // 3}" for i in range(N)]),
        age=pl.Series(np.arange(N) / 2),
    )
    path = save(more)
    found = load_features(path)
    assert found.train_ids == [f"{i:03d}" for i in range(16)] and found.test_ids[0] == "016"
    assert found.test_columns["patient"].tolist()[:3] == ["p5", "p5", "p6"]
    bank = import_bank(path, tmp_path / "bank")
    assert bank.samples["patient"].to_list() == more["patient"].to_list()
    assert bank.samples["age"].to_list() == more["age"].to_list()


def test_a_cut_by_group(save, frame):
    path = save(frame.drop("split").with_columns(patient=pl.Series([f"p{i // 4}" for i in range(N)])))
    found = load_features(path, group="patient", test_fraction=0.3)
    assert not set(found.train_columns["patient"]) & set(found.test_columns["patient"])
    assert found.notes[-1].code == "cut_made_by_group" and "whole groups of 'patient'" in found.notes[-1].sentence()
    with pytest.raises(DataError, match="no column 'slide' of text or numbers to group by; it has patient"):
        load_features(path, group="slide")


def test_a_cut_by_group_that_loses_a_class(save, frame):
    path = save(frame.drop("split").with_columns(patient=pl.Series([f"p{i % 4}" for i in range(N)])))  # one class each
    with pytest.raises(DataError, match=r"every group of 'patient' with rows of class \d was drawn .*another seed"):
        load_features(path, group="patient", test_fraction=0.25)


def test_unlabelled_rows(save, frame):
    missing = frame.with_columns(label=pl.when(pl.arange(0, N) % 10 == 9).then(None).otherwise(pl.col("label")))
    path = save(missing)
    with pytest.raises(DataError, match=r"label', train rows: 1 of 16 rows, .*row 9\);.*--drop-unlabelled"):
        load_features(path)
    found = load_features(path, drop_unlabelled=True)
    keep = np.arange(N) % 10 != 9
    assert np.array_equal(x_of(found), features(frame)[keep])
    assert [note.values["count"] for note in found.notes if note.code == "unlabelled_dropped"] == [1, 1]
    # rows keep their numbers, so that another file with other gaps is paired with none but its own
    assert [*found.train_ids, *found.test_ids] == [str(i) for i in range(N) if keep[i]]


def test_rows_keep_their_numbers_where_a_cut_leaves_others_out(save, frame):
    missing = frame.drop("split").with_columns(
        label=pl.when(pl.arange(0, N) % 10 == 9).then(None).otherwise(pl.col("label"))
    )
    found = load_features(save(missing), drop_unlabelled=True, test_fraction=0.25)
    for ids, x in ((found.train_ids, found.X_train), (found.test_ids, found.X_test)):
        assert np.array_equal(x, features(frame)[[int(i) for i in ids]])


def test_two_files_must_name_their_columns_alike(save, frame):
    train, test = save(frame[:16].drop("split"), "a"), save(frame[16:].drop("split"), "b")
    assert np.array_equal(x_of(load_features(train, test)), features(frame))
    other = save(frame[16:].drop("split").rename({f"f{i}": f"g{i}" for i in range(D)}), "c")
    with pytest.raises(DataError, match=r"feature column 'f0' where .* has 'g0'"):
        load_features(train, other)
    more = save(frame[16:].drop("split").with_columns(age=pl.lit(3)), "d")
    assert "columns_left_out" in {note.code for note in load_features(train, more).notes}


def test_without_ids_the_number_is_counted_in_train_then_test_order(save, frame, tmp_path):
    mixed = frame.with_columns(split=pl.Series(["test" if i % 3 == 0 else "train" for i in range(N)]))
    path = save(mixed)
    found = load_features(path)
    assert found.train_ids == [str(i) for i in range(16)] and found.test_ids == [str(i) for i in range(16, 24)]
    samples = import_bank(path, tmp_path / "bank").samples
    assert samples.filter(pl.col("split") == "train")["sample_id"].to_list() == found.train_ids
    assert samples.filter(pl.col("split") == "test")["sample_id"].to_list() == found.test_ids


def test_split_column(save, frame):
    with pytest.raises(DataError, match="split 'val' is neither train nor test"):
        load_features(save(frame.with_columns(split=pl.Series(["train"] * 23 + ["val"]))))
    with pytest.raises(DataError, match="split is empty in row 3"):
        load_features(
            save(frame.with_columns(split=pl.when(pl.arange(0, N) == 3).then(None).otherwise(pl.col("split"))))
        )


def test_empty_tables(save, frame):
    with pytest.raises(DataError, match="has no rows"):
        load_features(save(frame[:0]))
    with pytest.raises(DataError, match="no feature columns"):
        load_features(save(frame.select("label", "split")))
    with pytest.raises(DataError, match="has no column 'label'"):
        load_features(save(frame.drop("label")))


def test_one_row(save, frame):
    with pytest.raises(DataError, match="has no test rows"):
        load_features(save(frame[:1]))


# columns of lists: parquet only


def lists(frame, name="features", **more) -> pl.DataFrame:
    return frame.select("label", "split").with_columns(pl.Series(name, features(frame).tolist()), **more)


def test_a_column_of_lists_is_the_features(tmp_path, frame):
    path = tmp_path / "f.parquet"
    for dtype in (pl.List(pl.Float32), pl.Array(pl.Float32, D), pl.List(pl.Float64), pl.Array(pl.Float64, D)):
        for name in ("features", "x", "anything"):
            lists(frame, name, age=pl.lit(3)).with_columns(pl.col(name).cast(dtype)).write_parquet(path)
            found = load_features(path)
            assert np.array_equal(x_of(found), features(frame)) and found.train_columns["age"].tolist() == [3] * 16
            assert found.notes[0].values["columns"] == "age" and repr(name) in found.notes[0].sentence()


@pytest.mark.parametrize("name", ["bbox", "soft_labels"])
def test_a_column_of_lists_beside_a_family_needs_a_choice(tmp_path, frame, name):
    path = tmp_path / "f.parquet"
    frame.with_columns(pl.Series(name, [[i % 2, 1 - i % 2] for i in range(N)])).write_parquet(path)
    with pytest.raises(DataError, match=rf"lists \({name}\) and columns f0 to f11; name .*--features-columns 'f\*'"):
        load_features(path)
    found = load_features(path, features_columns="f*")
    assert np.array_equal(x_of(found), features(frame)) and found.notes[0].values["columns"] == name


def test_lists_that_tell_what_a_row_is_are_no_features(tmp_path, frame):
    path = tmp_path / "f.parquet"
    frame.with_columns(patient=pl.Series([[i] for i in range(N)])).write_parquet(path)
    found = load_features(path)
    assert np.array_equal(x_of(found), features(frame)) and found.notes[0].values["columns"] == "patient"
    lists(frame, "features").with_columns(frame["f0"], frame["f1"]).write_parquet(path)  # the name decides
    assert np.array_equal(x_of(load_features(path)), features(frame))


def test_two_columns_of_lists_need_a_choice(tmp_path, frame):
    path = tmp_path / "f.parquet"
    lists(frame, "one").hstack(lists(frame, "two").select("two")).write_parquet(path)
    with pytest.raises(DataError, match=r"2 columns of lists .one, two.; .*--features-columns 'one'"):
        load_features(path)
    found = load_features(path, features_columns="two")
    assert np.array_equal(x_of(found), features(frame))
    assert found.notes[0].code == "columns_left_out" and found.notes[0].values["columns"] == "one"
    with pytest.raises(ParameterError, match="name it alone"):
        load_features(path, features_columns="one,two")


@pytest.mark.parametrize(
    ("values", "error", "match"),
    [
        ([[1.0, 2.0], [3.0]], ShapeError, r"lists of lengths 1, 2 \(row 0 has 2, row 1 has 1\)"),
        ([[1.0, 2.0], None], DataError, "is empty in row 1"),
        ([[1.0, 2.0], [1.0, None]], DataError, "row 1, feature 1 is empty"),
        ([["a"], ["b"]], DataError, "lists of String, expected lists of numbers"),
        ([[[1.0]], [[2.0]]], DataError, r"lists of List\(Float64\), expected lists of numbers"),
        ([[], []], (ShapeError, DataError), "empty lists|lists of Null"),
        ([[1.0, 2.0], [1.0, float("nan")]], ParameterError, "column 'features': row 1, feature 1 is NaN"),
    ],
)
def test_lists_that_are_no_features(tmp_path, values, error, match):
    pl.DataFrame({"features": values, "label": [0, 0], "split": ["train", "test"]}).write_parquet(
        tmp_path / "f.parquet"
    )
    with pytest.raises(error, match=match):
        load_features(tmp_path / "f.parquet")


def test_arrays_of_matrices(tmp_path):
    matrices = pl.Series("features", [[[1.0, 2.0]], [[3.0, 4.0]]], dtype=pl.Array(pl.Float32, (1, 2)))
    pl.DataFrame([matrices, pl.Series("label", [0, 1])]).write_parquet(tmp_path / "f.parquet")
    with pytest.raises(ShapeError, match=r"arrays of shape \(1, 2\)"):
        load_features(tmp_path / "f.parquet")


def test_types_of_parquet_columns(tmp_path, frame):
    path = tmp_path / "f.parquet"
    typed = frame.with_columns(
        label=pl.Series(["ant", "bee", "cat", "dog"] * 6).cast(pl.Categorical),
        split=pl.col("split").cast(pl.Categorical),
        sample_id=pl.Series(range(N)),
        f0=pl.Series(range(N)),
        f1=pl.Series([True, False] * 12).cast(pl.UInt8),
        f2=pl.Series(np.arange(N) / 4).cast(pl.Decimal(10, 2)),
        day=pl.lit("2020-01-02").str.to_date(),
        site=pl.Series([None, "a"] * 12),
        dose=pl.Series([None, 7] * 12),
        gone=pl.lit(None),
        nested=pl.struct("f1"),
        ok=pl.Series([True, False] * 12),
    )
    typed.write_parquet(path)
    found = load_features(path)
    assert found.X_train.shape == (16, D) and found.X_train[5, [0, 1, 2]].tolist() == [5, 0, 1.25]
    assert found.class_names == ["ant", "bee", "cat", "dog"] and found.train_ids[:2] == ["0", "1"]
    assert found.train_columns["day"][0] == "2020-01-02" and found.train_columns["site"].tolist()[:2] == [None, "a"]
    assert found.train_columns["dose"].tolist()[:2] == [None, 7] and found.train_columns["ok"].tolist()[:2] == [
        True,
        False,
    ]
    assert {note.code: note.values["columns"] for note in found.notes} == {
        "columns_not_features": "dose",
        "columns_left_out": "gone, nested",
    }
    bank = import_bank(path, tmp_path / "bank")
    assert bank.samples["dose"].to_list()[:2] == [None, 7] and bank.samples["site"].to_list()[:2] == [None, "a"]


@pytest.mark.parametrize("role", ["label", "sample_id", "split"])
def test_columns_without_text_have_no_role(tmp_path, frame, role):
    path = tmp_path / "f.parquet"
    frame.with_columns(pl.Series(role, [datetime.timedelta(i) for i in range(N)])).write_parquet(path)
    with pytest.raises(DataError, match=rf"f\.parquet: column '{role}' is Duration.*write text"):
        load_features(path)


def test_durations_are_left_out(tmp_path, frame):
    path = tmp_path / "f.parquet"
    frame.with_columns(patient=pl.Series([datetime.timedelta(i) for i in range(N)])).write_parquet(path)
    found = load_features(path)
    assert found.notes[0].code == "columns_left_out" and found.notes[0].values["columns"] == "patient"
    frame.drop("split").with_columns(patient=pl.Series([datetime.timedelta(i) for i in range(N)])).write_parquet(path)
    with pytest.raises(DataError, match="no column 'patient' of text or numbers to group by"):
        load_features(path, group="patient")


def test_whole_numbers_far_from_0_lose_their_spread(tmp_path, frame):
    path = tmp_path / "f.parquet"
    frame.with_columns(f3=pl.Series(range(N)) + 2**60).write_parquet(path)
    with pytest.raises(ParameterError, match=r"f\.parquet: column 'f3' has mean 1\.15\d+e\+18"):
        load_features(path)


@pytest.mark.parametrize("other", ["Label", "LABEL"])
def test_names_that_differ_in_case_are_refused(save, frame, other):
    with pytest.raises(DataError, match=f"has columns 'label' and '{other}'; keep one"):
        load_features(save(frame.with_columns(pl.col("label").reverse().alias(other))))


def test_rows_without_group_are_named(save, frame):
    for empty in (None, float("nan")):
        values = [empty if i == 5 else i // 3 + 0.5 for i in range(N)]
        path = save(frame.with_columns(visit=pl.Series(values, strict=False)))
        with pytest.raises(DataError, match=rf"{path.name}: column 'visit' is empty, or NaN, in 1 rows .*row 5\)"):
            load_features(path, group="visit")


# csv only


def csv_of(frame, path, **columns):
    """A csv file with these texts."""
    table = frame.with_columns(
        pl.Series(name, [texts[i % len(texts)] for i in range(N)]) for name, texts in columns.items()
    )
    table.write_csv(path)
    return path


@pytest.mark.parametrize(
    ("texts", "names"),
    [
        (["01", "1", "2"], ["01", "1", "2"]),
        (["1e3", "1000", "7"], ["1000", "1e3", "7"]),
        (["9223372036854775808", "9223372036854775809"], ["9223372036854775808", "9223372036854775809"]),
        (["9007199254740993", "9007199254740992", "7.0"], ["7.0", "9007199254740992", "9007199254740993"]),
        (["9007199254740993", "9007199254740992"], ["9007199254740992", "9007199254740993"]),
        (["1", "1.0", "2"], ["1", "2"]),
        (["10", "9", "2"], ["2", "9", "10"]),
        (["true", "false"], ["false", "true"]),
        (["True", "False"], ["False", "True"]),
        (["TRUE", "True", "FALSE"], ["FALSE", "TRUE", "True"]),
        (["True", "1"], ["1", "True"]),
        (["NaN", "NA"], ["NA", "NaN"]),
    ],
)
def test_labels_of_a_csv_file_are_names_unless_all_are_numbers_plainly_written(tmp_path, frame, texts, names):
    assert load_features(csv_of(frame, tmp_path / "f.csv", label=texts)).class_names == names


@pytest.mark.parametrize("empty", ["nan", "NaN", "", None, "-1"])
def test_numbers_of_a_csv_file_that_are_none_are_no_label(tmp_path, frame, empty):
    path = csv_of(frame, tmp_path / "f.csv", label=["0", "1", empty])
    with pytest.raises(DataError, match=r"train rows: 5 of 16 rows, .* have no label .*row 2"):
        load_features(path)
    assert set(load_features(path, drop_unlabelled=True).y_train) == {0, 1}


def test_groups_of_a_csv_file_are_told_apart_by_their_text(tmp_path, frame):
    path = csv_of(frame, tmp_path / "f.csv", patient=["01", "1", "2"], slide=["1", "2"], scene=["0.5", "7"])
    found = load_features(path)
    assert found.train_columns["patient"].tolist()[:3] == ["01", "1", "2"]
    assert found.train_columns["slide"].tolist()[:2] == [1, 2] and found.train_columns["scene"].tolist()[:2] == [0.5, 7]


@pytest.mark.parametrize(
    ("texts", "values"),
    [
        (["01", "1", "2"], ["01", "1", "2"]),
        (["1e3", "1000", "2"], ["1e3", "1000", "2"]),
        (["9223372036854775809", "9223372036854775808"], ["9223372036854775809", "9223372036854775808"]),
        (["007", "008"], ["007", "008"]),
        (["1e-05", "0.5", "1"], [1e-5, 0.5, 1.0]),
        (["1", "1.0", "2"], [1.0, 1.0, 2.0]),
        (["-3", "4"], [-3, 4]),
        (["true", "false"], [True, False]),
        (["True", "False"], ["True", "False"]),
        (["a", "1"], ["a", "1"]),
    ],
)
def test_further_columns_of_a_csv_file_are_numbers_unless_two_texts_are_one(tmp_path, frame, texts, values):
    path = csv_of(frame, tmp_path / "f.csv", site=texts)
    assert load_features(path).train_columns["site"].tolist()[: len(values)] == values
    named = load_features(path, features_columns="f*").train_columns["site"]
    assert named.tolist()[: len(values)] == values


@pytest.mark.parametrize("name", ["hospital1", "site", "patient_2"])
@pytest.mark.parametrize("texts", [["01", "1", "2", "3"], ["1e3", "1000", "2", "3"], ["true", "True", "x", "y"]])
def test_any_column_that_groups_keeps_its_texts_apart(tmp_path, frame, name, texts):
    """A name that ends in a digit makes no feature of a column, and nothing reads it as numbers."""
    found = load_features(csv_of(frame, tmp_path / "f.csv", **{name: texts}), group=name)
    assert set(found.train_columns[name].tolist()) == set(texts)


def test_columns_that_the_caller_does_not_select_keep_their_texts_apart(tmp_path, frame):
    """A second family beside the features has to be left out by name."""
    path = csv_of(frame, tmp_path / "f.csv", site1=["01", "1"], site2=["7", "8"])
    found = load_features(path, features_columns="f*", group="site1")
    assert set(found.train_columns["site1"].tolist()) == {"01", "1"}
    assert set(found.train_columns["site2"].tolist()) == {7, 8}


def test_groups_of_two_files_are_told_apart_by_their_text(tmp_path, frame):
    train = csv_of(frame.drop("split"), tmp_path / "train.csv", site=["01", "02"])
    test = csv_of(frame.drop("split"), tmp_path / "test.csv", site=["1", "2"])
    found = load_features(train, test, group="site")
    assert set(found.train_columns["site"].tolist()) == {"01", "02"}
    assert set(found.test_columns["site"].tolist()) == {"1", "2"}


def test_a_csv_file_is_opened_twice(tmp_path, frame, monkeypatch):
    """Once for its line of names, once for its rows."""
    path = csv_of(frame, tmp_path / "f.csv")
    opened = []
    read, open_ = pl.read_csv, Path.open
    monkeypatch.setattr(pl, "read_csv", lambda source, **o: [opened.append(source), read(source, **o)][1])
    monkeypatch.setattr(Path, "open", lambda self, *a, **o: [opened.append(self), open_(self, *a, **o)][1])
    load_features(path)
    assert opened.count(path) == 2


OLDER = pytest.mark.xfail(int(pl.__version__.partition(".")[0]) < 2, reason="polars 1 reads no half of a quoted text")


@pytest.mark.parametrize("how", ["a line of names beyond 1 MiB", pytest.param("a text across 1 MiB", marks=OLDER)])
def test_the_line_of_names_of_a_large_csv_file(tmp_path, frame, how):
    path = tmp_path / "f.csv"
    if "names" in how:
        wide = "n" * 600_000
        frame.rename({"f0": f"{wide}0", "f1": f"{wide}1"}).with_columns(patient=pl.lit("01")).write_csv(path)
        chosen = "n*"
    else:
        lines = "\n" * 700_000
        frame.with_columns(note=pl.lit(lines), patient=pl.lit("01")).write_csv(path)
        chosen = "f*"
    found = load_features(path, features_columns=chosen)
    assert found.train_columns["patient"].tolist() == ["01"] * len(found.y_train)


def test_numbers_of_thousands_of_digits_in_names(tmp_path, frame):
    """int() reads 4300 digits and no more."""
    digits = "9" * 5000
    path = csv_of(frame, tmp_path / "f.csv", label=[digits, f"8{digits}"])
    assert load_features(path).class_names == [f"8{digits}", digits]
    path = csv_of(frame.rename({"f0": f"f0{digits}"}), tmp_path / "g.csv")
    assert load_features(path).notes[0].code == "columns_not_features"  # f1 to f11 are the family
    assert load_features(path, features_columns="f*").X_train.shape == (16, D)


@pytest.mark.parametrize("name", ["label", "split", "f2"])
def test_a_name_that_occurs_twice_in_a_csv_file(tmp_path, frame, name):
    path = tmp_path / "f.csv"
    frame.with_columns(twice=pl.col(name)).write_csv(path)
    path.write_text(path.read_text().replace("twice", name, 1))
    with pytest.raises(DataError, match=f"has 2 columns called '{name}'; keep one"):
        load_features(path)


def test_the_line_of_names_among_the_rows(tmp_path, frame):
    path = tmp_path / "f.csv"
    text = frame.write_csv()
    path.write_text(text + text)
    with pytest.raises(DataError, match=rf"f\.csv: row {N} is the line of names once more"):
        load_features(path)
    names = ["label", "split"]  # are classes here
    assert load_features(csv_of(frame, path, label=names)).class_names == names


def test_csv_says_what_is_wrong(tmp_path, frame):
    path = tmp_path / "f.csv"
    path.write_text("")
    with pytest.raises(DataError, match=r"damaged or no \.csv file"):
        load_features(path)
    path.write_text("label f0 f1\n0 1 2\n")
    with pytest.raises(DataError, match=r"has one column .*separate columns by commas"):
        load_features(path)
    path.write_text("0.5,0.25,1\n0.1,0.2,0\n")
    with pytest.raises(DataError, match="no column 'label'"):
        load_features(path)
    path.write_bytes("label,f0,f1\nk\u00e4se,1,2\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"line 2 is no UTF-8 text .*iconv -f LATIN1"):
        load_features(path)
    path.write_text("label,f0,f1\nk\u00e4se,1,2\n", encoding="utf-16")
    with pytest.raises(DataError, match=r"is UTF-16 text; .*iconv -f UTF-16"):
        load_features(path)
    path.write_text(",".join(["label", "f0", "f1"]) + "\n" + "k\u00e4se,1,2\n" * 400, encoding="utf-16")
    with pytest.raises(DataError, match=r"is UTF-16 text; .*iconv -f UTF-16"):
        load_features(path)
    path.write_bytes(b"label,f0,f1\r0,1,2\r1,2,3\r")
    with pytest.raises(DataError, match=r"ends its lines by carriage returns alone; .*tr"):
        load_features(path)
    path.write_text("label,f0,f1\n" + "0,1,2\n1,2,3\n" * 5 + "0,1\n")
    with pytest.raises(DataError, match="row 10, column 'f1' is empty"):
        load_features(path)


def test_csv_with_a_byte_order_mark_and_late_floats(tmp_path):
    rows = ["\ufefflabel,f0,f1", *(f"{i % 2},{i},1" for i in range(300)), "0,1.5,2.5"]
    (tmp_path / "f.csv").write_text("\n".join(rows), encoding="utf-8")
    found = load_features(tmp_path / "f.csv")
    assert 1.5 in x_of(found)[:, 0] and len(x_of(found)) == 301


def test_csv_of_a_spreadsheet_that_divides_by_semicolons(tmp_path):
    rows = ['\ufefflabel;f0;f1;"a, b, c"', *(f"{i % 2};{i}.5;1;x" for i in range(30))]
    (tmp_path / "f.csv").write_text("\n".join(rows), encoding="utf-8")
    found = load_features(tmp_path / "f.csv")
    assert x_of(found).shape == (30, 2) and 7.5 in x_of(found)[:, 0]


def test_arrays_have_no_columns_to_name(tmp_path):
    np.savez(tmp_path / "f.npz", X=np.ones((4, 2)), y=[0, 1, 0, 1])
    with pytest.raises(ParameterError, match="holds arrays: leave out --features-columns"):
        load_features(tmp_path / "f.npz", features_columns="f*")


def test_a_target_that_is_no_bank_is_told_first(tmp_path):
    with pytest.raises(BankError, match="is no bank"):
        import_bank(tmp_path / "none.csv", tmp_path, force=True)


def test_labels_that_savetxt_writes_are_numbers(tmp_path):
    """With exponents in all of them: −1 is no label there either. A blank line may come before the names."""
    rng = np.random.default_rng(0)
    y, x = np.arange(60) % 3, rng.standard_normal((60, 3))
    given = {"delimiter": ",", "header": "label,f0,f1,f2", "comments": ""}
    np.savetxt(tmp_path / "a.csv", np.c_[y, x], **given)
    (tmp_path / "b.csv").write_text("\n" + (tmp_path / "a.csv").read_text())
    for name in ("a.csv", "b.csv"):
        assert load_features(tmp_path / name).class_names is None
    np.savetxt(tmp_path / "c.csv", np.c_[np.where(y == 0, -1, y), x], **given)
    with pytest.raises(DataError, match="20 of 60 rows have no label"):
        load_features(tmp_path / "c.csv")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("label,f0,f1\na,1,2\nb,1,2,9\n", r"row 1 \(line 3\) has 4 fields, and the line of names has 3"),
        ('label,f0,f1\na,1,2\n"b,1,2\nb,2,3\n', r"row that begins in line 3 cannot be read, as if a quote did not end"),
        ("label,f0,f1\na,1,2\na\0,1,2\n", r"row 1, column 'label' holds a NUL character \(in 1 rows\)"),
        ('label,x,f1\na,1,"2,5"\nb,2,3\n', r"Column 'f1' holds decimal commas, such as '2,5', .* write '2.5'"),
        ("label;f0;f1\na;1,5;2\nb;2;3,5\n", r"Column 'f0' holds decimal commas, such as '1,5'"),
    ],
)
def test_faults_of_a_csv_file_are_named_by_row_or_column(tmp_path, text, said):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError, match=said):
        load_features(tmp_path / "a.csv")


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_names_are_no_patterns(tmp_path, frame, ending):
    """f[1] is a pattern that f1 matches, and f* one that both do."""
    for name, number in (("f[1]", 1.0), ("f1", 2.0), ("f*", 3.0)):
        table = frame.with_columns(pl.lit(number).alias("f0"))
        (table.write_csv if ending == "csv" else table.write_parquet)(tmp_path / f"{name}.{ending}")
    for name, number in (("f[1]", 1.0), ("f1", 2.0), ("f*", 3.0)):
        loaded = load_features(tmp_path / f"{name}.{ending}")
        assert set(loaded.X_train[:, 0].tolist()) == {number}
        assert len(loaded.X_train) + len(loaded.X_test) == frame.height


def test_folders_without_arrays_are_told_by_what_they_are(tmp_path):
    for name in ("runs/a/run.json", "banks/k/bank.json", "other/x.txt"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("{}")
    for name, said in (
        ("runs/a", "is a run folder, which holds results and no features"),
        ("runs", "is a folder of 1 run folders: name one, such as .*runs/a"),
        ("banks", "is a folder of 1 feature banks: name one, such as .*banks/k"),
        ("other", "holds no .npy file; a folder of features has X_train.npy"),
    ):
        with pytest.raises(DataError, match=said):
            load_features(tmp_path / name)
    with pytest.raises(ResultError, match=r"and 1 run folders lie in it, such as .*runs/a"):
        Run.load(tmp_path / "runs")
