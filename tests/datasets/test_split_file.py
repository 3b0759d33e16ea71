"""Which images are test images: a part set aside from flat class folders, and files that say it (`--split`)."""

import json
import pickle

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from PIL import Image
from ssl_risk_rs._splits import stratified_cut
from ssl_risk_rs.cli import main
from ssl_risk_rs.datasets import create_dataset
from ssl_risk_rs.errors import DataError

RNG = np.random.default_rng(0)


def write(root, folders=("ant", "bee"), n=10, parts=("",)):
    for part in parts:
        for folder in folders:
            (root / part / folder).mkdir(parents=True, exist_ok=True)
            for i in range(n):
                Image.fromarray(RNG.integers(0, 256, (4, 4, 3), dtype=np.uint8)).save(
                    root / part / folder / f"{i:02}.png"
                )
    return f"folder:{root}"


def sides(dataset) -> dict[str, set[str]]:
    samples = dataset.samples
    return {part: set(samples.filter(samples["split"] == part)["sample_id"]) for part in ("train", "test")}


# --- flat class folders


def test_flat_class_folders_are_cut_as_stated(tmp_path):
    uri = write(tmp_path, n=10)
    dataset = create_dataset(uri)
    ids = [f"{name}/{i:02}.png" for name in ("ant", "bee") for i in range(10)]
    test = stratified_cut(np.repeat([0, 1], 10), ids, share=0.2, seed=0)
    assert sides(dataset)["test"] == {name for name, held in zip(ids, test, strict=True) if held}
    assert dataset.samples["split"].to_list() == ["train"] * 16 + ["test"] * 4
    for row, sample_id in enumerate(dataset.samples["sample_id"]):  # rows, files and labels belong together
        assert dataset.where(row) == str(tmp_path / sample_id) == dataset.samples["path"][row]
        assert dataset.class_names[dataset.samples["label"][row]] == sample_id.split("/")[0]
        assert np.array_equal(np.asarray(dataset.load(row)), np.asarray(Image.open(tmp_path / sample_id)))
    (note,) = dataset.notes
    assert "20% of each class, drawn by sample id with seed 0, is the test part" in note and "--split FILE" in note
    again = pickle.loads(pickle.dumps(dataset))
    assert again.samples.equals(dataset.samples) and again.where(17) == dataset.where(17)
    assert again.fingerprint() == dataset.fingerprint()


def test_flat_class_folders_with_groups_are_cut_in_whole_groups(tmp_path):
    folders = [f"{name}/p{i}" for name in ("ill", "well") for i in range(10)]
    dataset = create_dataset(write(tmp_path, folders, n=3) + "?group=1", limit="9/class")
    samples = create_dataset(f"folder:{tmp_path}?group=1").samples
    train, test = (set(samples.filter(samples["split"] == part)["group"]) for part in ("train", "test"))
    assert not train & test and len(test) == 2
    assert any("in whole groups of 'group'" in note for note in dataset.notes)


def test_a_group_column_that_is_asked_for_decides_the_cut(tmp_path):
    x = RNG.integers(0, 256, (60, 2, 2), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(60) % 2, scene=np.arange(60) // 6)
    whole = create_dataset(f"npz:{tmp_path / 'a.npz'}", group="scene")
    samples = whole.samples
    scenes = [set(samples.filter(samples["split"] == part)["scene"]) for part in ("train", "test")]
    assert not scenes[0] & scenes[1] and whole.drawing_group == "scene"
    assert create_dataset(f"npz:{tmp_path / 'a.npz'}").drawing_group is None


def test_nested_flat_class_folders(tmp_path):
    dataset = create_dataset(write(tmp_path, ("a/abbey", "a/bar", "b/bar"), n=5) + "?classes=nested")
    assert dataset.class_names == ["a/abbey", "a/bar", "b/bar"] and len(sides(dataset)["test"]) == 3


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (("train",), r"needs train/ and test/ or val/.*folder:.*/train, of which a fifth is then set aside"),
        (("Train", "Test"), r"needs train/ and test/ or val/; it holds Test, Train"),
        (("training", "validation"), r"needs train/ and test/ or val/; it holds training, validation"),
    ],
)
def test_parts_are_not_taken_for_classes(tmp_path, parts, message):
    uri = write(tmp_path, parts=parts)
    with pytest.raises(DataError, match=message):
        create_dataset(uri)


# --- files


def table(path, ids, split):
    frame = pl.DataFrame({"sample_id": ids, "split": split})
    frame.write_parquet(path) if path.suffix == ".parquet" else frame.write_csv(path)
    return path


@pytest.mark.parametrize("kind", ["csv", "parquet", "semicolons", "pairs.txt", "paths", "test.txt", "test.csv"])
def test_every_kind_of_split_file(tmp_path, kind):
    uri = write(tmp_path / "imgs")
    ids = [f"{name}/{i:02}.png" for name in ("ant", "bee") for i in range(10)]
    split = ["test" if i % 10 < 3 else "train" for i in range(20)]
    wanted = {name for name, part in zip(ids, split, strict=True) if part == "test"}
    if kind == "test.txt":
        path = tmp_path / "test.txt"
        path.write_text("\ufeff" + "\n".join(sorted(wanted)) + "\n\n", encoding="utf-8")
    elif kind == "test.csv":
        path = tmp_path / "test.csv"
        path.write_text("path\n" + "\n".join(f"imgs/{name}" for name in sorted(wanted)))
    elif kind == "pairs.txt":
        path = tmp_path / "pairs.txt"
        path.write_text("\n".join(f"{name} {part}" for name, part in zip(ids, split, strict=True)))
    elif kind == "semicolons":
        path = tmp_path / "s.csv"
        path.write_text("\ufeffPath;Split\n" + "\n".join(map(";".join, zip(ids, split, strict=True))), encoding="utf-8")
    elif kind == "paths":
        path = table(tmp_path / "s.csv", [str(tmp_path / "imgs" / name) for name in ids], split)
    else:
        path = table(tmp_path / f"s.{kind}", ids, split)
    dataset = create_dataset(uri, split=path)
    assert sides(dataset) == {"train": set(ids) - wanted, "test": wanted}
    (note,) = dataset.notes
    assert f"the parts are those of {path}: 14 training and 6 test images" in note
    assert ("those it does not name are training" in note) == kind.startswith("test.")


@pytest.mark.parametrize("scheme", ["digits", "npz", "folder"])
def test_a_file_takes_the_place_of_the_datas_own_parts(tmp_path, scheme):
    uri = scheme
    if scheme == "npz":
        x = RNG.integers(0, 256, (40, 2, 2), dtype=np.uint8)
        np.savez(tmp_path / "a.npz", x_train=x, y_train=np.arange(40) % 2, x_test=x, y_test=np.arange(40) % 2)
        uri = f"npz:{tmp_path / 'a.npz'}"
    if scheme == "folder":
        uri = write(tmp_path, parts=("train", "test"))
    own = create_dataset(uri)
    swapped = ["test" if part == "train" else "train" for part in own.samples["split"]]
    path = table(tmp_path / "s.csv", own.samples["sample_id"].to_list(), swapped)
    other = create_dataset(uri, split=path)
    assert sides(other) == {"train": sides(own)["test"], "test": sides(own)["train"]}
    place = {s: row for row, s in enumerate(own.samples["sample_id"])}
    for row in (0, len(own) - 1):
        assert np.array_equal(np.asarray(other.load(row)), np.asarray(own.load(place[other.samples["sample_id"][row]])))
    assert other.fingerprint() != own.fingerprint()


def test_rows_that_are_not_listed_are_left_out_and_counted(tmp_path):
    uri = write(tmp_path / "imgs")
    ids = [f"{name}/{i:02}.png" for name in ("ant", "bee") for i in range(8)]
    path = table(tmp_path / "s.csv", ids, ["test", "val", *["train"] * 6] * 2)
    dataset = create_dataset(uri, split=path)
    assert len(dataset) == 14 and len(sides(dataset)["test"]) == 2
    assert any("leaves 6 images out, which it does not name" in note and "ant/01.png" in note for note in dataset.notes)
    assert any("2 lines of" in note and "part val" in note for note in dataset.notes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sample_id,split\nant/00.png,test\nbee/00.png,train\nant/x.png,test\n", 
         r"names 1 image \(3 in all\) that these data do not have: ant/x\.png\. The data have, for example, ant"),
        ("sample_id,split\nant/00.png,test\nant/00.png,train\n", r"puts 1 image on both sides, train and test: ant/00"),
        ("sample_id,split\nant/00.png,test\nbee/00.png,\n", r"has 1 row without split, the first is row 1"),
        ("sample_id,split\nant/00.png,test\nbee/00.png,fold3\n", r"neither train, test nor val, for example 'fold3'"),
        ("sample_id,split\nant/00.png,train\nbee/00.png,train\n", r"both parts need rows.*train \(2 rows\)"),
        ("name,split\nant/00.png,train\n", r"has no column sample_id, id, path.*it has name, split"),
        ("sample_id,part\nant/00.png,train\n", r"has no column split; it has sample_id, part"),
        ("sample_id,split\n,train\nant/00.png,test\n", r"1 row without sample_id, the first is row 0"),
        ("sample_id,split\nant/00.png,test\nbee/00.png,train\n", r"1 class has test rows and no training row: 'ant'"),
    ],
)  # fmt: skip
def test_split_files_that_cannot_be_used(tmp_path, text, message):
    uri = write(tmp_path / "imgs")
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        create_dataset(uri, split=tmp_path / "s.csv")


def test_split_files_that_are_none(tmp_path):
    uri = write(tmp_path / "imgs")
    for name, data, message in [
        ("gone.csv", None, r"--split:.*gone\.csv is no file; give a csv"),
        ("s.json", b"{}", r"ends in \.json; give a csv"),
        ("s.txt", b"\n\n", "names no image"),
        ("s.txt", b"\xff.png\n", "is no UTF-8 text"),
        ("s.csv", "sample_id,split\nk\u00e4se.png,train\n".encode("latin-1"), r"line 2 is no UTF-8 text.*iconv"),
    ]:
        if data is not None:
            (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=message):
            create_dataset(uri, split=tmp_path / name)


def test_an_image_that_is_named_by_id_and_by_path(tmp_path):
    uri = write(tmp_path / "imgs")
    (tmp_path / "test.txt").write_text(f"ant/00.png\n{tmp_path / 'imgs/ant/00.png'}\n")
    with pytest.raises(DataError, match=r"names 1 image twice, by id and by path, for example ant/00\.png"):
        create_dataset(uri, split=tmp_path / "test.txt")


def test_extract_takes_a_split_file(tmp_path):
    uri = write(tmp_path / "imgs")
    paths = {}
    for k in (2, 3):
        (tmp_path / f"{k}.txt").write_text("\n".join(f"{name}/{i:02}.png" for name in ("ant", "bee") for i in range(k)))
        line = ["extract", "-m", "pixels:4", "-d", uri, "--split", str(tmp_path / f"{k}.txt"), "--store",
                str(tmp_path / "banks"), "--format", "json"]  # fmt: skip
        for _ in range(2):  # made, then found
            result = CliRunner().invoke(main, line, catch_exceptions=False)
            assert result.exit_code == 0, result.stderr
        paths[k] = json.loads(result.stdout)[0]["path"]
        samples = pl.read_parquet(f"{paths[k]}/samples.parquet")
        assert samples.filter(samples["split"] == "test").height == 2 * k
    assert paths[2] != paths[3]
