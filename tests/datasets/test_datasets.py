"""Datasets: layouts written by the test are read back exactly; what is missing is named."""

import gzip
import os
import pickle
import struct
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from ssl_risk_rs.datasets import Limit, create_dataset, find_overlap, list_datasets
from ssl_risk_rs.errors import DataError, ParameterError
from ssl_risk_rs.extraction.decoding import find_corrupt

RNG = np.random.default_rng(0)


def write_folder(root: Path, parts=("train", "test"), classes=("ant", "bee"), n=3, suffix=".png") -> dict:
    """Class folders of small random images; returns relative path → pixels."""
    pixels = {}
    for part in parts:
        for name in classes:
            for i in range(n):
                path = root / part / name / f"{i}{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels[path.relative_to(root).as_posix()] = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)
                Image.fromarray(pixels[path.relative_to(root).as_posix()]).save(path)
    return pixels


def write_idx(path: Path, array: np.ndarray) -> None:
    data = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


# --- digits


def test_digits_has_the_stated_split_and_scale():
    from sklearn.datasets import load_digits

    digits, dataset = load_digits(), create_dataset("digits")
    samples = dataset.samples
    assert len(dataset) == samples.height == 1797
    assert samples["row"].to_list() == list(range(1797))
    test = set(samples.filter(samples["split"] == "test")["sample_id"].cast(int))
    for digit in range(10):  # the rule, written out: positions 4, 9, 14, … within the class
        rows = np.flatnonzero(digits.target == digit).tolist()
        assert test & set(rows) == set(rows[4::5])
    for row in (0, 1441, 1442, 1796):
        at = int(samples["sample_id"][row])
        image = dataset.load(row)
        assert image.mode == "L" and image.size == (8, 8)
        assert np.abs(np.asarray(image) - digits.images[at] * 255 / 16).max() <= 0.5
        assert samples["label"][row] == digits.target[at]
    assert samples["path"].null_count() == 1797
    assert dataset.class_names == [str(d) for d in range(10)]


def test_digits_takes_no_path():
    with pytest.raises(DataError, match="takes no path"):
        create_dataset("digits:/tmp")


# --- folders


@pytest.mark.parametrize("test_name", ["test", "val"])
def test_folder_reads_back_every_image(tmp_path, test_name):
    pixels = write_folder(tmp_path, parts=("train", test_name), classes=("bee", "ant", "Zebra"))
    (tmp_path / "train" / "ant" / "deep").mkdir()
    pixels["train/ant/deep/x.PNG"] = RNG.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(pixels["train/ant/deep/x.PNG"]).save(tmp_path / "train/ant/deep/x.PNG")
    (tmp_path / "train" / "ant" / "readme.txt").write_text("no image")
    (tmp_path / "train" / ".ipynb_checkpoints").mkdir()
    dataset = create_dataset(f"folder:{tmp_path}")
    assert dataset.class_names == ["Zebra", "ant", "bee"]
    samples = dataset.samples
    assert samples["sample_id"].n_unique() == len(dataset) == 19
    for row, split, sample_id, label, path in samples.iter_rows():
        assert np.array_equal(np.asarray(dataset.load(row)), pixels[sample_id])
        assert split == ("test" if sample_id.startswith(test_name) else "train")
        assert dataset.class_names[label] == sample_id.split("/")[1]
        assert path == str(tmp_path / sample_id) == dataset.where(row)
    assert samples["split"].to_list() == ["train"] * 10 + ["test"] * 9
    assert any(
        "1 file is not used, since the ending is no image" in note and "readme.txt" in note for note in dataset.notes
    )


def test_folder_prefers_test_over_val_and_says_so(tmp_path):
    write_folder(tmp_path, parts=("train", "val", "test"))
    dataset = create_dataset(f"folder:{tmp_path}")
    assert all(not s.startswith("val/") for s in dataset.samples["sample_id"])
    assert any("val is not used" in note for note in dataset.notes)


def test_folder_name_that_is_no_utf8(tmp_path):
    write_folder(tmp_path)
    strange = os.fsencode(tmp_path / "train" / "ant") + b"/\xff.png"
    os.rename(tmp_path / "train" / "ant" / "0.png", strange)
    dataset = create_dataset(f"folder:{tmp_path}")
    ids = dataset.samples["sample_id"].to_list()
    assert "train/ant/\\xff.png" in ids
    assert dataset.load(ids.index("train/ant/\\xff.png")).size == (7, 5)
    assert dataset.fingerprint() and dataset.fingerprint(hash_content=True)


def test_class_folders_and_groups_whose_names_are_no_utf8_are_spelled_out(tmp_path):
    write_folder(tmp_path)
    for part in ("train", "test"):
        strange = os.fsencode(tmp_path / part) + b"/ant\xff"
        os.rename(tmp_path / part / "ant", strange)
        for image in os.listdir(strange):
            os.makedirs(strange + b"/p\xfe", exist_ok=True)
            os.rename(strange + b"/" + image, strange + b"/p\xfe/" + image)
        os.mkdir(tmp_path / part / "bee" / "q")
        for image in (tmp_path / part / "bee").glob("*.*"):
            image.rename(image.parent / "q" / image.name)
    with open(os.fsencode(tmp_path / "train") + b"/\xfd.txt", "w"):
        pass
    dataset = create_dataset(f"folder:{tmp_path}?group=parent")
    assert dataset.class_names[0] == "ant\\xff" and set(dataset.samples["group"]) == {"p\\xfe", "q"}
    assert all(note.encode() for note in dataset.notes) and any("\\xfd.txt" in note for note in dataset.notes)


def test_named_pipes_and_links_to_themselves_are_images_that_cannot_be_decoded(tmp_path):
    write_folder(tmp_path)
    os.mkfifo(tmp_path / "train" / "ant" / "pipe.png")
    os.mkfifo(tmp_path / "test" / "ant" / "pipe.png")
    (tmp_path / "train" / "ant" / "round.png").symlink_to("round.png")
    (tmp_path / "train" / "ant" / "round").symlink_to("round")
    (tmp_path / "train" / "round").symlink_to("round")
    dataset = create_dataset(f"folder:{tmp_path}")
    corrupt = find_corrupt(dataset, workers=0)
    assert [(os.path.basename(image.where), image.reason.partition(":")[0]) for image in corrupt] == [
        ("pipe.png", "it is a named pipe, a socket or a device, and no file; remove it"),
        ("round.png", "OSError"),
        ("pipe.png", "it is a named pipe, a socket or a device, and no file; remove it"),
    ]
    assert any("2 files are not used" in note for note in dataset.notes)
    assert find_overlap(dataset).n_test == 0
    assert dataset.fingerprint() and dataset.fingerprint(hash_content=True)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: (root / "test").rename(root / "tset"), r"needs train/ and test/ or val/.*train, tset"),
        (
            lambda root: (root / "test" / "bee").rename(root / "test" / "wasp"),
            r"in test/ \(bee\), and 1 class folders of test/ are missing in train/ \(wasp\)",
        ),
        (lambda root: (root / "test" / "cat").mkdir(), r"missing in train/ \(cat\)"),
        (lambda root: [p.unlink() for p in (root / "train" / "bee").iterdir()], r"train/bee has no images"),
    ],
)
def test_folder_says_what_is_wrong(tmp_path, spoil, message):
    write_folder(tmp_path)
    spoil(tmp_path)
    with pytest.raises(DataError, match=message):
        len(create_dataset(f"folder:{tmp_path}"))


@pytest.mark.parametrize("scheme", ["folder", "imagenet", "idx"])
def test_missing_empty_and_file_paths(tmp_path, scheme):
    for path, message in [
        ("", "names no folder"),
        (tmp_path / "no", "does not exist"),
        (__file__, "is a file"),
    ]:
        with pytest.raises(DataError, match=message):
            create_dataset(f"{scheme}:{path}")
    with pytest.raises(DataError, match=str(tmp_path)):
        create_dataset(f"{scheme}:{tmp_path}")


def test_unknown_scheme_lists_the_known_ones():
    with pytest.raises(DataError, match="digits, folder:"):
        create_dataset("/data/imagenet")
    assert list_datasets()[0].scheme == "digits"


# --- ImageNet


def test_imagenet_layout(tmp_path):
    write_folder(tmp_path, ("train", "val"), classes=("n02000000", "n01440764"), suffix=".JPEG")
    dataset = create_dataset(f"imagenet:{tmp_path}")
    assert dataset.class_names == ["n01440764", "n02000000"]
    assert dataset.name == "imagenet" and len(dataset) == 12
    assert any("6 + 6 images; the full ImageNet has 1,281,167 + 50,000" in note for note in dataset.notes)


def test_imagenet_unextracted_or_unsorted(tmp_path):
    (tmp_path / "ILSVRC2012_img_train.tar").touch()
    with pytest.raises(DataError, match=r"ILSVRC2012_img_train.tar, not yet extracted.*torchvision"):
        create_dataset(f"imagenet:{tmp_path}")
    (tmp_path / "train").mkdir()
    (tmp_path / "val").mkdir()
    (tmp_path / "train" / "n01440764.tar").touch()
    with pytest.raises(DataError, match=r"one tar for each class"):
        len(create_dataset(f"imagenet:{tmp_path}"))
    (tmp_path / "train" / "n01440764").mkdir()
    (tmp_path / "val" / "ILSVRC2012_val_00000001.JPEG").touch()
    with pytest.raises(DataError, match=r"without class folders"):
        len(create_dataset(f"imagenet:{tmp_path}"))


def test_imagenet_class_folder_that_is_no_wordnet_id(tmp_path):
    write_folder(tmp_path, ("train", "val"))
    with pytest.raises(DataError, match=r"ant is no WordNet id.*folder:"):
        len(create_dataset(f"imagenet:{tmp_path}"))


# --- idx


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("dash", ["-idx", ".idx"])
def test_idx_files(tmp_path, suffix, dash):
    sizes = {"train": 7, "t10k": 4}
    images = {part: RNG.integers(0, 256, (n, 3, 5), dtype=np.uint8) for part, n in sizes.items()}
    labels = {part: (np.arange(n) % 3 + 1).astype(np.uint8) for part, n in sizes.items()}  # no class 0
    for part in sizes:
        write_idx(tmp_path / f"{part}-images{dash}3-ubyte{suffix}", images[part])
        write_idx(tmp_path / f"{part}-labels{dash}1-ubyte{suffix}", labels[part])
    dataset = create_dataset(f"idx:{tmp_path}")
    assert dataset.class_names == ["1", "2", "3"]
    assert dataset.samples["split"].to_list() == ["train"] * 7 + ["test"] * 4
    assert dataset.samples["label"].to_list() == [0, 1, 2, 0, 1, 2, 0, 0, 1, 2, 0]
    loaded = np.stack([np.asarray(dataset.load(row)) for row in range(11)])
    assert np.array_equal(loaded, np.concatenate([images["train"], images["t10k"]]))
    assert dataset.load(0).mode == "L"


def test_idx_damaged_files(tmp_path):
    for part in ("train", "t10k"):
        write_idx(tmp_path / f"{part}-images-idx3-ubyte", np.zeros((4, 2, 2), dtype=np.uint8))
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte", np.zeros(4, dtype=np.uint8))
    good = (tmp_path / "train-images-idx3-ubyte").read_bytes()
    for data, message in [
        (good[:-1], r"15 bytes of data, its header says \(4, 2, 2\)"),
        (good[:9], "no idx file"),
        (b"\0\0\x0d\3" + good[4:], "no idx file"),
        (bytes([0, 0, 8, 3]) + b"\xff" * 12, "0 bytes of data"),
    ]:
        (tmp_path / "train-images-idx3-ubyte").write_bytes(data)
        with pytest.raises(DataError, match=message):
            len(create_dataset(f"idx:{tmp_path}"))
    (tmp_path / "train-images-idx3-ubyte").write_bytes(good)
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.zeros(3, dtype=np.uint8))
    with pytest.raises(DataError, match="4 images, 3 labels"):
        len(create_dataset(f"idx:{tmp_path}"))
    packed = gzip.compress(good)
    (tmp_path / "train-images-idx3-ubyte").unlink()
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(DataError, match="cannot be read"):
        len(create_dataset(f"idx:{tmp_path}"))


def test_idx_says_where_debian_puts_it(tmp_path):
    with pytest.raises(DataError, match="idx:/usr/share/datasets/fashion-mnist"):
        create_dataset(f"idx:{tmp_path}")


# --- npz


@pytest.mark.parametrize(
    ("x", "y"),
    [("x_{}", "y_{}"), ("X_{}", "y_{}"), ("images_{}", "labels_{}"), ("{}_images", "{}_labels")],
)
@pytest.mark.parametrize("shape", [(3, 5), (3, 5, 1), (3, 5, 3), (3, 5, 4)])
def test_npz_spellings_and_shapes(tmp_path, x, y, shape):
    train = RNG.integers(0, 256, (6, *shape), dtype=np.uint8)
    test = RNG.integers(0, 256, (3, *shape), dtype=np.uint8)
    arrays = {x.format("train"): train, y.format("train"): np.array([7, -2, 7, 3, 3, 7])}
    arrays[x.format("test")] = test
    arrays[y.format("test")] = np.array([[3], [7], [-2]])  # MedMNIST has a column
    np.savez(tmp_path / "a.npz", **arrays)
    dataset = create_dataset(f"npz:{tmp_path / 'a.npz'}")
    assert dataset.class_names == ["-2", "3", "7"]
    assert dataset.samples["label"].to_list() == [2, 0, 2, 1, 1, 2, 1, 2, 0]
    loaded = np.stack([np.asarray(dataset.load(row)) for row in range(9)])
    assert np.array_equal(loaded, np.concatenate([train, test]).reshape(loaded.shape))
    assert not dataset.notes


@pytest.mark.parametrize("keys", [("x", "y"), ("X_train", "y_train"), ("images", "labels")])
def test_npz_without_test_part_is_cut_in_a_stated_way(tmp_path, keys):
    labels = np.array([0] * 50 + [1] * 11 + [2] * 2 + [3])
    images = RNG.integers(0, 256, (64, 2, 2), dtype=np.uint8)
    np.savez_compressed(tmp_path / "a.npz", **dict(zip(keys, (images, labels), strict=True)))
    dataset = create_dataset(f"npz:{tmp_path / 'a.npz'}")
    samples = dataset.samples
    test = Counter(samples.filter(samples["split"] == "test")["label"].to_list())
    assert test == {0: 10, 1: 2, 2: 1}  # 20 % of each class, rounded; a class of one stays in train
    assert any("20% of each class" in note and "seed 0" in note for note in dataset.notes)
    for row, sample_id in enumerate(samples["sample_id"]):
        at = int(sample_id.removeprefix("all/"))
        assert np.array_equal(np.asarray(dataset.load(row)), images[at]) and samples["label"][row] == labels[at]
    assert create_dataset(f"npz:{tmp_path / 'a.npz'}").samples.equals(samples)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x_train": np.zeros((4, 9), np.uint8), "y_train": np.zeros(4, int)}, r"decompose --features"),
        ({"x_train": np.zeros((4, 9, 9), np.float32), "y_train": np.zeros(4, int)}, r"float32.*uint8"),
        ({"x_train": np.zeros((4, 9, 9, 2), np.uint8), "y_train": np.zeros(4, int)}, r"c of 1, 3 or 4"),
        ({"x_train": np.zeros((4, 9, 9), np.uint8), "y_train": np.zeros(5, int)}, r"expected 4 integers"),
        ({"x_train": np.zeros((4, 9, 9), np.uint8), "y_train": np.zeros(4)}, r"expected 4 integers"),
        ({"x_train": np.zeros((0, 9, 9), np.uint8), "y_train": np.zeros(0, int)}, r"no images"),
        (
            {"x_train": np.zeros((4, 9, 9), np.uint8), "y_train": np.array([0, -1, 1, -1])},
            r"2 images of 4: all/1, all/3",
        ),
        ({"x_train": np.zeros((4, 9, 9), np.uint8)}, r"holds x_train"),
        ({"x_train": np.zeros((1, 9, 9), np.uint8), "y_train": np.array([{}], object)}, r"cannot be read"),
    ],
)
def test_npz_that_is_no_image_file(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=message):
        len(create_dataset(f"npz:{tmp_path / 'a.npz'}"))


def test_minus_one_and_one_are_two_classes_of_an_npz(tmp_path):
    labels = np.repeat([-1, 1], 10)
    np.savez(tmp_path / "a.npz", x_train=np.arange(20 * 81, dtype=np.uint8).reshape(20, 9, 9), y_train=labels)
    assert create_dataset(f"npz:{tmp_path / 'a.npz'}").class_names == ["-1", "1"]


def test_npz_that_is_no_archive(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"not a zip")
    with pytest.raises(DataError, match=r"is no \.npz file"):
        create_dataset(f"npz:{tmp_path / 'a.npz'}")
    with pytest.raises(DataError, match="is no file"):
        create_dataset(f"npz:{tmp_path / 'b.npz'}")


# --- limits


def test_limit_per_class_is_nested_and_independent_of_order(tmp_path):
    small, large = create_dataset("digits", limit="3/class"), create_dataset("digits", limit="10/class")
    counts = Counter(zip(small.samples["split"], small.samples["label"], strict=True))
    assert len(counts) == 20 and set(counts.values()) == {3}
    assert set(small.samples["sample_id"]) < set(large.samples["sample_id"])
    images, labels = RNG.integers(0, 256, (40, 2, 2), dtype=np.uint8), np.arange(40) % 4
    np.savez(tmp_path / "a.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    kept = create_dataset(f"npz:{tmp_path / 'a.npz'}", limit=7).samples
    assert Counter(kept["split"]) == {"train": 7, "test": 7}
    assert kept["row"].to_list() == list(range(14))


def test_limit_rows_load_their_own_image():
    whole, some = create_dataset("digits"), create_dataset("digits", limit="2/class")
    row_of = {s: row for row, s in enumerate(whole.samples["sample_id"])}
    for row, sample_id in enumerate(some.samples["sample_id"]):
        assert np.array_equal(np.asarray(some.load(row)), np.asarray(whole.load(row_of[sample_id])))
    assert any("2 images of each class of each split, drawn by sample id: 40 of 1,797" in note for note in some.notes)
    assert len(create_dataset("digits", limit=10**6)) == 1797


@pytest.mark.parametrize("bad", ["0", "-1", "ten", "5/split", "", "5/", "1.5"])
def test_limit_that_cannot_be_read(bad):
    with pytest.raises(ParameterError, match="100/class"):
        Limit.parse(bad)


def test_limit_spellings():
    assert Limit.parse(5) == Limit(5) and Limit.parse("1,000/class") == Limit(1000, per_class=True)
    assert str(Limit.parse("7/class")) == "7/class"


# --- identity


def test_fingerprint_follows_name_size_time_or_content(tmp_path):
    write_folder(tmp_path / "a")
    uri = f"folder:{tmp_path / 'a'}"
    first, content = create_dataset(uri).fingerprint(), create_dataset(uri).fingerprint(hash_content=True)
    assert create_dataset(uri).fingerprint() == first != content
    assert create_dataset(uri, limit=1).fingerprint() == first  # the limit is told apart elsewhere
    path = tmp_path / "a" / "train" / "ant" / "0.png"
    os.utime(path, ns=(0, 0))
    assert create_dataset(uri).fingerprint() != first
    assert create_dataset(uri).fingerprint(hash_content=True) == content
    (tmp_path / "a").rename(tmp_path / "b")  # a moved folder holds the same data
    assert create_dataset(f"folder:{tmp_path / 'b'}").fingerprint(hash_content=True) == content
    Image.new("RGB", (5, 7)).save(tmp_path / "b" / "train" / "ant" / "0.png")
    assert create_dataset(f"folder:{tmp_path / 'b'}").fingerprint(hash_content=True) != content


def test_a_fingerprint_tells_sizes_and_times_within_a_second_apart(tmp_path):
    write_folder(tmp_path)
    uri, path = f"folder:{tmp_path}", tmp_path / "train" / "ant" / "0.png"
    os.utime(path, ns=(0, 0))
    first = create_dataset(uri).fingerprint()
    os.utime(path, ns=(0, 500_000_000))
    assert create_dataset(uri).fingerprint() != first
    path.write_bytes(path.read_bytes() + b"\0")
    os.utime(path, ns=(0, 0))  # as a copy that keeps times leaves it
    assert create_dataset(uri).fingerprint() != first


def test_pickle_is_small_and_loads(tmp_path):
    images = RNG.integers(0, 256, (50, 64, 64), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", x_train=images, y_train=np.arange(50) % 2, x_test=images, y_test=np.arange(50) % 2)
    dataset = create_dataset(f"npz:{tmp_path / 'a.npz'}", limit=20)
    assert len(dataset.samples) == 40
    data = pickle.dumps(dataset)
    assert len(data) < 5000  # no pixels, no frame
    assert np.array_equal(np.asarray(pickle.loads(data).load(3)), np.asarray(dataset.load(3)))


def test_without_numbers_the_rows_anew():
    dataset = create_dataset("digits", limit="2/class")
    gone = [dataset.sample_id(0), dataset.sample_id(25)]
    fewer = dataset.without(gone)
    assert len(fewer) == 38 and fewer.samples["row"].to_list() == list(range(38))
    assert not set(gone) & set(fewer.samples["sample_id"])
    assert np.array_equal(np.asarray(fewer.load(0)), np.asarray(dataset.load(1)))
    assert any("2 images that cannot be decoded" in note for note in fewer.notes)
