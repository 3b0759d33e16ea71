"""One check of labels for all doors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ssl_risk_rs._labels import check_test_classes, encode_labels
from ssl_risk_rs._notes import _TEMPLATES, Note
from ssl_risk_rs.errors import DataError, ShapeError


def encode(train, test=None, **kwargs):
    return encode_labels({"train": train} if test is None else {"train": train, "test": test}, **kwargs)


def codes(found, part="train"):
    return found.codes[part].tolist()


def obj(*values):
    array = np.empty(len(values), object)
    array[:] = values
    return array


@pytest.mark.parametrize(
    "labels",
    [
        [10, 2, 0, 2],
        np.array([10, 2, 0, 2], np.uint8),
        np.array([10, 2, 0, 2], ">i8"),
        np.array([10.0, 2, -0.0, 2], np.float16),
        ["10", "2", "0", "2"],
        np.array([b"10", b"2", b"0", b"2"]),
        obj(10, "2", 0.0, b"2"),
        [[10], [2], [0], [2]],
        [10, "2", 0, 2],
    ],
)
def test_the_order_of_classes_does_not_depend_on_the_type(labels):
    found = encode(labels)
    assert codes(found) == [2, 1, 0, 1] and found.class_names == ["0", "2", "10"]
    assert found.codes["train"].dtype == np.int64 and found.n_dropped == 0 and found.notes == ()


@given(st.lists(st.integers(0, 30), min_size=1, max_size=40))
def test_number_text_and_bytes_give_equal_codes(values):
    found = [encode(np.array(values).astype(kind)) for kind in (np.int64, np.float32, "U4", "S4", object)]
    assert all(codes(one) == codes(found[0]) and one.class_names == found[0].class_names for one in found)
    names = found[0].class_names or [str(code) for code in range(31)]
    assert [int(names[code]) for code in codes(found[0])] == values


def test_codes_from_0_have_no_names():
    for labels in ([0, 1, 2], ["0", "1", "2"], [False, True]):
        assert encode(labels).class_names is None
    assert codes(encode([True, False])) == [1, 0]


def test_text_and_bytes():
    found = encode(["dog", "ant", "cat"], np.array([b"cat", b"ant", b"dog"]))
    assert found.class_names == ["ant", "cat", "dog"] and codes(found, "test") == [1, 0, 2]
    with pytest.raises(DataError, match=r"y_train: row 1 has the label b'\\xff', which is no UTF-8 text"):
        encode(np.array([b"a", b"\xff"]), where="y_train")
    with pytest.raises(DataError, match=r"row 1 has the label b'\\xff', which is no UTF-8 text"):
        encode(obj(b"a", b"\xff"))
    assert encode(np.array(["a", "b", "a"], dtype=object)).codes["train"].tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("labels", "match"),
    [
        ([0.0, 0.5], r"y: row 1 has label 0\.5"),
        ([0.0, np.inf], "y: row 1 has label inf .*no class"),
        ([0.0, 1e19], r"y: row 1 has label 1e\+19 .*integers"),
        (np.array([0, 4096], np.float16), "beyond 2048 cannot be told apart as float16"),
        (np.array([0, 1j]), "y are complex128"),
        (np.array(["2020-01-01"], "M8[D]"), "y are datetime64"),
        (obj(0, [1]), "y: row 1 has a label of type list"),
        (obj(0, 0.5), r"y: row 1 has label 0\.5"),
        (obj(0, 1e19), r"y: row 1 has label 1e\+19"),
        (obj(0, object), "y: row 1 has a label of type type"),
    ],
)
def test_what_is_no_class_is_named_by_its_row(labels, match):
    with pytest.raises(DataError, match=match):
        encode(labels, where="y")


def test_rows_are_those_of_the_file():
    with pytest.raises(DataError, match=r"labels: row 70 has label 0\.5"):
        encode([1.0, 0.5], rows={"train": np.array([4, 70])})
    with pytest.raises(DataError, match="the first is row 70"):
        encode([1, 2, -1], rows={"train": np.array([4, 9, 70])})


def test_large_integers_are_names():
    big = np.array([2**63 + 5, 2**32, 2**63 + 6], np.uint64)
    found = encode(big, big[:1])
    assert found.class_names == [str(2**32), str(2**63 + 5), str(2**63 + 6)] and codes(found) == [1, 0, 2]
    assert encode([10**30, 3, 10**30]).class_names == ["3", str(10**30)]


@pytest.mark.parametrize(
    ("shape", "match"),
    [
        ((4, 3), r"argmax\(axis=1\)"),
        ((1, 4), r"one row of 4 labels; expected \(n_samples,\): labels\.ravel\(\)"),
        ((4, 2, 2), r"expected \(n_samples,\)"),
        ((), r"expected \(n_samples,\)"),
    ],
)
def test_shapes(shape, match):
    with pytest.raises(ShapeError, match=match):
        encode(np.ones(shape))
    with pytest.raises(ShapeError, match=r"one-hot rows.*argmax"):
        encode(np.eye(3))
    with pytest.raises(ShapeError, match=r"one-hot rows.*argmax"):
        encode(np.eye(3)[:1])
    with pytest.raises(ShapeError, match=r"labels\.ravel\(\)"):
        encode(np.array([["a", "b", "a"]]))
    with pytest.raises(DataError, match="cannot be read as a vector of labels"):
        encode([[1], [1, 2]])


@pytest.mark.parametrize(
    ("train", "test", "match"),
    [
        ([0, 1, 2], [1, 2, 3], r"b: 1 class has test rows and no training row: 3 \(1 of 3 test rows\).*shifted by one"),
        ([1, 2, 3], [0, 1, 2], "training rows have 1, 2, 3; the test rows have 0, 1, 2.*shifted by one"),
        ([0, 1, 2], ["cat", "dog", "owl"], "training labels are codes and the test labels are names"),
        (["cat", "dog"], [0, 1], "test labels are codes and the training labels are names"),
        (["cat ", "dog "], ["cat", "dog"], "rows have 'cat ', 'dog '; the test rows have 'cat', 'dog'.*blanks"),
        (["cat", "dog"], ["Cat", "DOG"], "upper and lower case"),
        (["caf\u00e9"], ["cafe\u0301"], "the way letters are encoded"),
        ([0, 1, 2], [0.0, 100.0, 200.0], "scaled: they are 100 times"),
        ([0, 100, 200], [0, 1, 2], "scaled: they are 1/100 of"),
        ([0, 1], [0, 7], "same numbers, or leave those test rows out"),
        (["a", "b"], ["a", "z"], "same names, or leave those test rows out"),
    ],
)
def test_classes_that_only_test_rows_have(train, test, match):
    with pytest.raises(DataError, match=match):
        encode(train, test, where={"train": "a", "test": "b"})


def test_classes_that_only_training_rows_have_are_noted():
    found = encode(list("abc"), list("aa"), where={"train": "y_train", "test": "y_test"})
    (note,) = found.notes
    assert note.code == "train_only_classes" and (note.values["count"], note.values["n_classes"]) == (2, 3)
    assert note.sentence() == "y_test: 2 of 3 classes have no test row ('b', 'c')."
    assert found.class_names == ["a", "b", "c"] and codes(found, "test") == [0, 0]


@pytest.mark.parametrize(
    "labels",
    [
        [0, 1, -1, 0],
        [0, 1, np.nan, 0],
        obj(0, 1, None, 0),
        ["0", "1", "", "0"],
        obj("0", "1", float("nan"), "0"),
        np.ma.array([0, 1, 5, 0], mask=[0, 0, 1, 0]),
        ["0", "1", None, "0"],
        [["0"], ["1"], [float("nan")], ["0"]],
        obj("0", "1", np.ma.masked, "0"),
    ],
)
def test_rows_without_label(labels):
    with pytest.raises(DataError, match=r"y: 1 of 4 rows have no label .*row 2.*--drop-unlabelled"):
        encode(labels, where="y")
    found = encode(labels, drop_unlabelled=True, where="y")
    assert codes(found) == [0, 1, 0] and found.kept["train"].tolist() == [True, True, False, True]
    assert found.n_dropped == 1 and found.class_names is None
    assert [note.sentence() for note in found.notes] == ["y: 1 of 4 rows have no label and are left out."]


def test_unlabelled_rows_of_both_parts_are_counted():
    with pytest.raises(DataError, match="a: 1 of 3 rows, b: 2 of 3 rows have no label"):
        encode([0, 1, -1], [-1, 0, -1], where={"train": "a", "test": "b"})
    found = encode([0, 1, -1], [-1, 0, -1], drop_unlabelled=True)
    assert found.n_dropped == 3 and codes(found, "test") == [0]
    assert sum(note.code == "unlabelled_dropped" for note in found.notes) == 2


def test_labels_of_minus_one_and_one_are_two_classes():
    found = encode([-1, 1, 1], [-1.0, 1.0, -1.0])
    assert found.class_names == ["-1", "1"] and codes(found, "test") == [0, 1, 0]
    assert [note.code for note in found.notes] == ["minus_one_is_a_class"]
    assert encode([-1, 1, 1], drop_unlabelled=True).n_dropped == 1


def test_class_names():
    names = ["ant", "bee", "cat"]
    assert codes(encode([2, 0, 1], class_names=names)) == [2, 0, 1]
    assert codes(encode(["cat", "ant", "bee"], class_names=names)) == [2, 0, 1]
    assert codes(encode(["2", "0", "1"], class_names=names)) == [2, 0, 1]
    assert codes(encode([2, 0, 1], ["bee", "bee", "ant"], class_names=names), "test") == [1, 1, 0]
    assert codes(encode([2, 0], class_names=["5", "7", "2"])) == [2, 0]  # numbers are positions
    assert codes(encode(["2", "5"], class_names=["5", "7", "2"])) == [2, 0]  # texts are names
    with pytest.raises(DataError, match=r"labels go from 0 to 3, there are 3 class_names.*class 3 is that of row 1"):
        encode([0, 3], class_names=names)
    with pytest.raises(DataError, match=r"row 1: label 'Cat' is not among the 3 class_names.*case"):
        encode(["ant", "Cat"], class_names=names)
    with pytest.raises(DataError, match="'a' occurs twice in class_names"):
        encode(["a", "b"], class_names=["a", "b", "a"])
    assert codes(encode([0, 2], class_names=["a", "b", "a"])) == [0, 2]  # two cranes in ImageNet
    (note,) = encode([0, 2], class_names=names).notes
    assert note.sentence() == "labels: 1 of 3 class names have no row ('bee')."


def test_names_that_look_alike_are_noted():
    (note,) = encode(["cat", "cat ", "dog"], ["cat", "cat ", "dog"], where="y").notes
    assert note.code == "class_names_nearly_equal" and "'cat' and 'cat '" in note.sentence()


def test_an_empty_part_is_no_matter_of_classes():
    assert check_test_classes(np.array([], int), np.array([1]), None, "b") == []
    assert encode([0, 1], []).codes["test"].size == 0


def test_notes_of_labels_and_files_are_sentences():
    for code in (
        "cut_made",
        "columns_not_features",
        "unlabelled_dropped",
        "train_only_classes",
        "classes_without_rows",
    ):
        assert _TEMPLATES[code].endswith("."), code
    note = Note("unlabelled_dropped", {"where": "y", "count": 1234, "n": 5000})
    assert note.sentence() == "y: 1,234 of 5,000 rows have no label and are left out."


@pytest.mark.parametrize("values", [np.array([0.0, 1, 5, 0]), obj("0", "1", "5", "0"), obj(0, 1, 5, 0)])
def test_masked_labels_of_every_type_are_none(values):
    found = encode(np.ma.array(values, mask=[0, 0, 1, 0]), drop_unlabelled=True)
    assert codes(found) == [0, 1, 0] and found.n_dropped == 1 and found.class_names is None


def test_a_position_below_0_is_none_of_the_class_names():
    with pytest.raises(DataError, match=r"labels go from -2 to 1, there are 3 class_names.*class -2 is that of row 0"):
        encode([-2, 0, 1], class_names=["ant", "bee", "cat"])


def test_text_beside_numbers_are_names_in_any_order():
    for labels in (obj("0", 1), obj(0, "1")):
        assert codes(encode(labels, class_names=["1", "0"])) == [1, 0]


def test_minus_one_as_a_number_is_no_label_though_a_class_has_that_name():
    found = encode([0, -1, 1], class_names=["a", "-1"], drop_unlabelled=True)
    assert codes(found) == [0, 1] and found.n_dropped == 1
