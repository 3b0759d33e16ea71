"""Folders that are not quite what one thinks: whatever is merged, left out or clamped is counted in a note."""

import os
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image
from ssl_risk_rs.datasets import create_dataset
from ssl_risk_rs.errors import DataError

RNG = np.random.default_rng(0)


def write(root, folders, n=3, parts=("train", "test")):
    for part in parts:
        for folder in folders:
            (root / part / folder).mkdir(parents=True, exist_ok=True)
            for i in range(n):
                pixels = RNG.integers(0, 256, (4, 4, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / folder / f"{i}.png")
    return f"folder:{root}"


PLACES = ("a/abbey", "a/airfield", "b/bakery", "b/bar")


def test_nested_class_folders_are_merged_with_a_note(tmp_path):
    dataset = create_dataset(write(tmp_path, PLACES))
    assert dataset.class_names == ["a", "b"]
    (note,) = dataset.notes
    assert "2 of 2 class folders have 4 further folders" in note and "classes=nested" in note and "a/abbey/" in note


def test_nested_class_folders_that_are_asked_for(tmp_path):
    uri = write(tmp_path, (*PLACES, "plain"))
    dataset = create_dataset(f"{uri}?classes=nested")
    assert dataset.class_names == [*PLACES, "plain"] and not dataset.notes
    assert dataset.uri == f"{uri}?classes=nested"
    for _, _, sample_id, label, _ in dataset.samples.iter_rows():
        assert dataset.class_names[label] == sample_id.partition("/")[2].rpartition("/")[0]
    write(tmp_path, ("b/cave",), parts=("train",))
    with pytest.raises(DataError, match=r"missing in test/ \(b/cave\)"):
        len(create_dataset(f"{uri}?classes=nested"))


def test_nested_classes_are_sorted_by_their_whole_names(tmp_path):
    uri = write(tmp_path, ("a/abbey", "a-b/bar"))
    assert create_dataset(f"{uri}?classes=nested").class_names == ["a-b/bar", "a/abbey"]


def test_images_outside_the_class_folders_are_counted(tmp_path):
    uri = write(tmp_path, ("ant", "bee"))
    for i in range(8):
        Image.new("RGB", (4, 4)).save(tmp_path / "train" / f"{i}.png")
    (tmp_path / "train" / "labels.csv").write_text("a,b")
    notes = create_dataset(uri).notes
    assert any(
        "8 images in train/ itself, outside its class folders" in note and "train/0.png" in note for note in notes
    )
    assert any("1 file is not used" in note and "labels.csv" in note for note in notes)


@pytest.mark.parametrize(
    ("others", "said"),
    [
        (
            ("val", "validation"),
            ["val is not used: test/ is the test part", "validation is not used: test/ is the test"],
        ),
        (
            ("training", "testing"),
            ["testing is not used: test/ is the", "training is not used: train/ is the training"],
        ),
        (("Train", "VAL"), ["Train is not used: train/ is the training", "VAL is not used: test/ is the test part"]),
    ],
)
def test_folders_called_like_parts_that_are_not_used_are_told(tmp_path, others, said):
    dataset = create_dataset(write(tmp_path, ("a", "b"), parts=("train", "test", *others)))
    assert len(dataset) == 12 and len(dataset.notes) == 2
    assert all(part in note for part, note in zip(said, dataset.notes, strict=True))


def test_a_limit_that_classes_cannot_fill_is_told(tmp_path):
    uri = write(tmp_path, ("ant", "bee"), n=3)
    write(tmp_path, ("cat",), n=9)
    notes = create_dataset(uri, limit="5/class").notes
    assert any("2 of 3 classes have fewer than 5 train images (the smallest, ant, has 3)" in note for note in notes)
    assert create_dataset(uri, limit="3/class").notes == [
        "limited to 3 images of each class of each split, drawn by sample id: 18 of 30"
    ]
    assert create_dataset(uri, limit="9/class").notes == ["the limit of 9/class leaves no image out"]


def test_a_folder_whose_name_holds_a_question_mark(tmp_path):
    uri = write(tmp_path / "what?group=1", ("ant", "bee"))
    assert len(create_dataset(uri)) == 12 and "group" not in create_dataset(uri).samples.columns


@pytest.mark.parametrize("option", ["classes=deep", "group=0", "group=-1", "groups=1", "classes", "group=x"])
def test_options_that_are_none(tmp_path, option):
    uri = write(tmp_path, ("ant", "bee"))
    with pytest.raises(DataError, match="is no option; write classes=nested, group=parent or group=1"):
        create_dataset(f"{uri}?{option}")


def test_a_link_that_leads_nowhere_is_an_image_that_cannot_be_decoded(tmp_path):
    uri = write(tmp_path, ("ant", "bee"))
    os.symlink(tmp_path / "gone.png", tmp_path / "train" / "ant" / "z.png")
    dataset = create_dataset(uri)
    assert len(dataset) == 13 and dataset.fingerprint() != dataset.fingerprint(hash_content=True)
    with pytest.raises(FileNotFoundError, match=r"z\.png"):
        dataset.load(3)
    before = dataset.fingerprint()
    Image.new("RGB", (4, 4)).save(tmp_path / "gone.png")
    assert create_dataset(uri).fingerprint() != before


def test_a_link_to_the_folder_it_lies_in_ends(tmp_path):
    uri = write(tmp_path, ("ant", "bee"))
    os.symlink(tmp_path / "train", tmp_path / "train" / "ant" / "loop")
    os.symlink(tmp_path, tmp_path / "test" / "up")  # beside class folders it is none
    dataset = create_dataset(uri)
    assert len(dataset) == 12
    assert dataset.notes == [
        "2 links to a folder that they lie in are not followed, which would not end, for example "
        f"{tmp_path / 'train' / 'ant' / 'loop'}"
    ]


def test_links_that_lead_to_each_other_end(tmp_path):
    """Each class links to the other: its images are read once more there, and no third time."""
    uri = write(tmp_path, ("ant", "bee"))
    os.symlink("../bee", tmp_path / "train" / "ant" / "p")
    os.symlink("../ant", tmp_path / "train" / "bee" / "q")
    dataset = create_dataset(uri)
    assert len(dataset) == 12 + 6
    assert dataset.notes[0].startswith("2 links to a folder that they lie in are not followed")


def test_a_link_is_followed_whatever_the_path_of_the_data_set(tmp_path, monkeypatch):
    """The folder that the command runs in lies beside the data set, and is linked from it."""
    write(tmp_path / "set", ("ant", "bee"))
    (tmp_path / "more").mkdir()
    shutil.copy(tmp_path / "set/train/ant/0.png", tmp_path / "more/9.png")
    os.symlink(tmp_path / "more", tmp_path / "set" / "train" / "ant" / "more")
    monkeypatch.chdir(tmp_path / "more")
    for uri in ("folder:../set", f"folder:{tmp_path}/more/../set"):
        dataset = create_dataset(uri)
        assert len(dataset) == 13
        assert not any("not followed" in note for note in dataset.notes)


def test_images_whose_names_begin_with_a_dot_are_counted(tmp_path):
    uri = write(tmp_path, ("ant", "bee"))
    (tmp_path / "train" / "ant" / "._0.png").write_bytes(b"macOS notes on 0.png")
    (tmp_path / "train" / "bee" / ".DS_Store").write_bytes(b"")
    (tmp_path / "train" / ".empty").mkdir()
    assert not create_dataset(uri).notes
    (tmp_path / "test" / "bee" / "1.png").rename(tmp_path / "test" / "bee" / ".1.png")
    (note,) = create_dataset(uri).notes
    shown = f"for example {tmp_path / 'test' / 'bee' / '.1.png'}; rename what belongs to the data"
    assert note == f"1 image is not used, since its name begins with a dot, {shown}"
    (tmp_path / "train" / ".fly" / "left").mkdir(parents=True)
    (tmp_path / "train" / "ant" / "0.png").rename(tmp_path / "train" / ".fly" / "left" / "0.png")
    dataset = create_dataset(uri)
    (note,) = dataset.notes
    assert len(dataset) == 10 and dataset.class_names == ["ant", "bee"]
    assert note == f"1 image and 1 folder with images are not used, since their names begin with a dot, {shown}"


# --- groups


def test_groups_from_the_folders_below_the_class(tmp_path):
    uri = write(tmp_path, ("ill/p1/left", "ill/p2/left", "well/p1/right", "well/p3"), n=2)
    level = create_dataset(f"{uri}?group=1").samples
    assert set(level.filter(level["sample_id"].str.contains("p1"))["group"]) == {"p1"}  # one patient in two classes
    assert level["group"].n_unique() == 3 and level.columns[-1] == "group"
    parent = create_dataset(f"{uri}?group=parent").samples
    assert set(parent["group"]) == {"p1/left", "p2/left", "p1/right", "p3"}
    assert create_dataset(f"{uri}?group=1").notes == []
    with pytest.raises(DataError, match=r"4 of 16 images lie in no folder below their class folder that group=2"):
        len(create_dataset(f"{uri}?group=2"))
    with pytest.raises(DataError, match="leaves no groups"):
        create_dataset(f"{uri}?group=1&classes=nested")


def test_a_limit_takes_whole_groups_where_they_are_chosen(tmp_path):
    folders = [f"{name}/p{i}" for name in ("ill", "well") for i in range(6)]
    uri = write(tmp_path, folders, n=4) + "?group=parent"
    whole, some = create_dataset(uri).samples, create_dataset(uri, limit="8/class", group="group")
    for key, rows in some.samples.group_by("split", "label", "group"):
        split, label, group = key
        same = whole.filter((whole["split"] == split) & (whole["label"] == label) & (whole["group"] == group))
        assert len(rows) == len(same)
    assert len(some) < len(whole) and any("in whole groups of 'group'" in note for note in some.notes)
    rows = create_dataset(uri, limit="6/class")  # without a choice, rows are drawn
    assert len(rows) == 24 and rows.group is None


def test_a_group_of_two_levels_is_named_by_both(tmp_path):
    uri = write(tmp_path, ("ill/p1/left", "ill/p2/left", "well/p3/left", "well/p3/right"), n=1)
    samples = create_dataset(f"{uri}?group=2").samples
    assert set(samples["group"]) == {"p1/left", "p2/left", "p3/left", "p3/right"}


def test_a_changed_data_set_keeps_what_was_chosen_before(tmp_path):
    uri = write(tmp_path, [f"{name}/p{i}" for name in ("ill", "well") for i in range(4)], n=2) + "?group=parent"
    dataset = create_dataset(uri, limit="3/class", group="group", exif_orientation=True)
    ids = dataset.samples["sample_id"].to_list()
    assert len(ids) == 8  # of each class of each split one group of two: a second does not fit
    fewer = dataset.without(ids[:1]).without(ids[1:2])
    for changed in (fewer, fewer.viewed(2), fewer.oriented(False), fewer.viewed(2).oriented(False)):
        assert changed.samples["sample_id"].to_list() == ids[2:] and changed.group == "group"
    assert fewer.exif_orientation and dataset.viewed(2).exif_orientation


def test_a_group_column_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"no column 'patient' of groups; it has none\. Class folders give one"):
        create_dataset("digits", group="patient")


def npz(tmp_path, **extra):
    arrays = dict(x_train=RNG.integers(0, 256, (12, 2, 2), dtype=np.uint8), y_train=np.arange(12) % 2,
                  x_test=RNG.integers(0, 256, (6, 2, 2), dtype=np.uint8), y_test=np.arange(6) % 2)  # fmt: skip
    np.savez(tmp_path / "a.npz", **arrays, **extra)
    return f"npz:{tmp_path / 'a.npz'}"


def test_npz_columns(tmp_path):
    train = [f"p{i // 3}" for i in range(12)]
    dataset = create_dataset(
        npz(tmp_path, groups_train=np.array(train), groups_test=np.array([b"p9"] * 6), age_train=np.arange(12),
            age_test=np.arange(6), weights_train=np.full(12, 0.5), weights_test=np.ones(6),
            z_train=np.ones(12, complex), z_test=np.ones(6, complex), note=np.array("text")),
        limit=6, group="group",
    )  # fmt: skip
    whole = create_dataset(dataset.uri).samples
    assert whole["group"].to_list() == train + ["p9"] * 6 and whole["age"].to_list() == [*range(12), *range(6)]
    assert whole["weights"].to_list() == [0.5] * 12 + [1.0] * 6
    assert dataset.samples.filter(dataset.samples["split"] == "train")["group"].value_counts()["count"].to_list() == [
        3,
        3,
    ]
    assert any("3 arrays are neither" in note and "note, z_test, z_train" in note for note in dataset.notes)


def test_npz_columns_are_of_one_type_whatever_their_parts_are(tmp_path):
    samples = create_dataset(
        npz(tmp_path, dose_train=np.arange(12), dose_test=np.full(6, 0.5), left_train=np.arange(12) < 5,
            left_test=np.zeros(6, bool)),
    ).samples  # fmt: skip
    assert samples["dose"].to_list() == [float(i) for i in range(12)] + [0.5] * 6
    assert samples["left"].to_list() == ["true"] * 5 + ["false"] * 13  # as a csv file's booleans


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"groups_train": np.arange(12)}, "groups are one integer or string for each image"),
        ({"groups_train": np.ones(12), "groups_test": np.ones(6)}, r"groups_train float64 \(12,\)"),
        (
            {"groups_train": np.arange(12), "train_group": np.arange(12), "groups_test": np.arange(6)},
            "both are the column",
        ),
        ({"path_train": np.arange(12), "path_test": np.arange(6)}, "'path' is a column that samples have"),
    ],
)
def test_npz_groups_that_cannot_be_used(tmp_path, extra, message):
    with pytest.raises(DataError, match=message):
        len(create_dataset(npz(tmp_path, **extra)))


def test_an_npz_array_that_occurs_twice(tmp_path):
    images = RNG.integers(0, 256, (6, 4, 4), dtype=np.uint8)
    np.savez(tmp_path / "f.npz", x_train=images, y_train=[0, 1] * 3, x_test=images, y_test=[0, 1] * 3)
    with zipfile.ZipFile(tmp_path / "f.npz", "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("y_test.npy", archive.read("y_train.npy"))
    with pytest.raises(DataError, match=r"f\.npz has 2 arrays called 'y_test'; keep one"):
        create_dataset(f"npz:{tmp_path / 'f.npz'}")


def test_npz_without_test_part_cuts_whole_groups(tmp_path):
    groups, labels = np.arange(100) // 5, np.arange(100) // 5 % 2
    np.savez(tmp_path / "b.npz", x=RNG.integers(0, 256, (100, 2, 2), dtype=np.uint8), y=labels, groups=groups)
    dataset = create_dataset(f"npz:{tmp_path / 'b.npz'}")
    samples = dataset.samples
    train, test = (set(samples.filter(samples["split"] == part)["group"]) for part in ("train", "test"))
    assert not train & test and len(test) == 4  # a fifth of 20 groups of equal size
    assert any("20% of each class in whole groups" in note for note in dataset.notes)
