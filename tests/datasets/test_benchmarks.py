"""CIFAR, STL-10, SVHN and Tiny ImageNet in the layouts of their authors, beside torchvision's readers."""

import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image
from ssl_risk_rs import create_dataset
from ssl_risk_rs.datasets.guessing import suggestion
from ssl_risk_rs.errors import DataError

#: images of each part
SIZES = {"train": 30, "test": 20}


def pixels(seed: int, n: int, side: int = 32) -> np.ndarray:
    """(n, 3, side, side), channel by channel."""
    return np.random.default_rng(seed).integers(0, 256, (n, 3, side, side), dtype=np.uint8)


def python2_pickle(values: dict) -> bytes:
    """A dictionary as Python 2 pickled it (protocol 2): text and arrays' bytes are its byte strings."""

    def string(text: bytes) -> bytes:
        return b"T" + struct.pack("<i", len(text)) + text

    def whole(number: int) -> bytes:
        return b"J" + struct.pack("<i", number)

    def dump(value: object) -> bytes:
        if isinstance(value, str):
            return string(value.encode())
        if isinstance(value, int):
            return whole(value)
        if isinstance(value, list):
            return b"](" + b"".join(map(dump, value)) + b"e"
        assert isinstance(value, np.ndarray)
        start = (
            b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n" + whole(0) + b"\x85" + string(b"b") + b"\x87R"
        )
        dtype = b"cnumpy\ndtype\n" + string(b"u1") + whole(0) + whole(1) + b"\x87R"
        dtype += b"(" + whole(3) + string(b"|") + b"NNN" + whole(-1) + whole(-1) + whole(0) + b"tb"
        shape = whole(value.shape[0]) + whole(value.shape[1]) + b"\x86"
        return start + b"(" + whole(1) + shape + dtype + b"\x89" + string(value.tobytes()) + b"tb"

    items = b"".join(dump(key) + dump(value) for key, value in values.items())
    return b"\x80\x02}(" + items + b"u."


def python3_pickle(values: dict) -> bytes:
    return pickle.dumps(values, protocol=2)


def cifar10(root: Path, dump: Callable[[dict], bytes]) -> Path:
    """Five batches of six images, and twenty test images."""
    root.mkdir()
    for i in range(1, 6):
        batch = {"batch_label": f"{i}", "labels": [(i + j) % 10 for j in range(6)], "data": pixels(i, 6).reshape(6, -1)}
        (root / f"data_batch_{i}").write_bytes(dump(batch))
    test = {"labels": [j % 10 for j in range(20)], "data": pixels(9, 20).reshape(20, -1)}
    (root / "test_batch").write_bytes(dump(test))
    (root / "batches.meta").write_bytes(dump({"label_names": [f"name{i}" for i in range(10)], "num_vis": 3072}))
    return root


def cifar10_bytes(root: Path) -> Path:
    root.mkdir()
    parts = {f"data_batch_{i}": ([(i + j) % 10 for j in range(6)], pixels(i, 6)) for i in range(1, 6)}
    parts["test_batch"] = ([j % 10 for j in range(20)], pixels(9, 20))
    for name, (labels, x) in parts.items():
        rows = np.concatenate([np.array(labels, np.uint8)[:, None], x.reshape(len(x), -1)], axis=1)
        (root / f"{name}.bin").write_bytes(rows.tobytes())
    (root / "batches.meta.txt").write_text("".join(f"name{i}\n" for i in range(10)) + "\n")
    return root


def cifar100(root: Path, dump: Callable[[dict], bytes]) -> Path:
    root.mkdir()
    for seed, (part, n) in enumerate(SIZES.items()):
        fine = [j % 10 for j in range(n)]
        labels = {"fine_labels": fine, "coarse_labels": [label // 5 for label in fine]}
        (root / part).write_bytes(dump({**labels, "data": pixels(seed, n).reshape(n, -1)}))
    names = {"fine_label_names": [f"f{i}" for i in range(10)], "coarse_label_names": ["low", "high"]}
    (root / "meta").write_bytes(dump(names))
    return root


def stl10(root: Path) -> Path:
    root.mkdir()
    for seed, (part, n) in enumerate(SIZES.items()):
        (root / f"{part}_X.bin").write_bytes(pixels(seed, n, 96).tobytes())
        (root / f"{part}_y.bin").write_bytes(bytes(1 + j % 10 for j in range(n)))
    (root / "class_names.txt").write_text("\n".join(f"name{i}" for i in range(10)))
    (root / "unlabeled_X.bin").write_bytes(b"")
    return root


def svhn(root: Path) -> Path:
    root.mkdir()
    for seed, (part, n) in enumerate(SIZES.items()):
        x = pixels(seed, n).transpose(2, 3, 1, 0)
        scipy.io.savemat(
            root / f"{part}_32x32.mat", {"X": x, "y": np.array([[1 + j % 10] for j in range(n)], np.uint8)}
        )
    (root / "extra_32x32.mat").write_bytes(b"")
    return root


@pytest.fixture
def torchvision_reads(monkeypatch):
    """torchvision's readers, without their checks of the published files' hashes."""
    pytest.importorskip("torchvision")
    from torchvision.datasets import cifar, stl10, svhn

    for module in (cifar, svhn):
        monkeypatch.setattr(module, "check_integrity", lambda *_: True)
    for kind in (cifar.CIFAR10, cifar.CIFAR100, stl10.STL10):
        monkeypatch.setattr(kind, "_check_integrity", lambda _: True)
    return {
        "cifar10": lambda root, part: cifar.CIFAR10(root.parent, train=part == "train"),
        "cifar100": lambda root, part: cifar.CIFAR100(root.parent, train=part == "train"),
        "stl10": lambda root, part: stl10.STL10(root.parent, split=part),
        "svhn": lambda root, part: svhn.SVHN(root, split=part),
    }


MADE: dict[str, Callable[[Path], Path]] = {
    "cifar10": lambda path: cifar10(path / "cifar-10-batches-py", python2_pickle),
    "cifar100": lambda path: cifar100(path / "cifar-100-python", python2_pickle),
    "stl10": lambda path: stl10(path / "stl10_binary"),
    "svhn": lambda path: svhn(path / "svhn"),
}


@pytest.mark.parametrize("scheme", MADE)
def test_pixels_and_labels_are_those_that_torchvision_reads(tmp_path, torchvision_reads, scheme):
    root = MADE[scheme](tmp_path)
    dataset = create_dataset(f"{scheme}:{root}")
    theirs = [pair for part in SIZES for pair in torchvision_reads[scheme](root, part)]
    assert len(dataset) == len(theirs) == 50
    labels = dataset.samples["label"].to_list()
    for row, (image, label) in enumerate(theirs):
        assert np.array_equal(np.asarray(dataset.load(row)), np.asarray(image)) and labels[row] == label
    assert dataset.samples["split"].to_list() == ["train"] * 30 + ["test"] * 20
    assert dataset.samples["sample_id"][0] == "train/0" and dataset.samples["sample_id"][-1] == "test/19"
    assert "30 + 20 images; the full" in dataset.notes[0] and dataset.identity.kind is not None
    assert not dataset.source.files().__next__().name.startswith("/")


@pytest.mark.parametrize("scheme", ["cifar10", "cifar100", "stl10"])
def test_the_folder_may_be_the_one_above(tmp_path, scheme):
    root = MADE[scheme](tmp_path)
    above = create_dataset(f"{scheme}:{root.parent}")
    assert above.samples.equals(create_dataset(f"{scheme}:{root}").samples)


def test_batches_of_all_three_kinds_are_the_same_data(tmp_path):
    kinds = [
        cifar10(tmp_path / "two", python2_pickle), cifar10(tmp_path / "three", python3_pickle),
        cifar10_bytes(tmp_path / "bytes"),
    ]  # fmt: skip
    first, *others = [create_dataset(f"cifar10:{kind}") for kind in kinds]
    assert first.class_names[3] == "name3" and first.identity.name == "CIFAR-10"
    for other in others:
        assert other.samples.equals(first.samples) and other.class_names == first.class_names
        assert all(other.content(row) == first.content(row) for row in range(50))


def test_superclasses_are_a_column(tmp_path):
    dataset = create_dataset(f"cifar100:{cifar100(tmp_path / 'py', python3_pickle)}")
    names = np.array(dataset.class_names)[dataset.samples["label"].to_numpy()]
    assert dataset.samples["superclass"].to_list() == ["low" if name < "f5" else "high" for name in names]
    binary = tmp_path / "binary"
    binary.mkdir()
    for seed, (part, n) in enumerate(SIZES.items()):
        labels = np.array([[j % 10 // 5, j % 10] for j in range(n)], np.uint8)
        rows = np.concatenate([labels, pixels(seed, n).reshape(n, -1)], axis=1)
        (binary / f"{part}.bin").write_bytes(rows.tobytes())
    (binary / "fine_label_names.txt").write_text("\n".join(f"f{i}" for i in range(10)))
    (binary / "coarse_label_names.txt").write_text("low\nhigh\n")
    assert create_dataset(f"cifar100:{binary}").samples.equals(dataset.samples)


def test_stl10_and_svhn_count_labels_as_their_authors_do(tmp_path):
    stl = create_dataset(f"stl10:{MADE['stl10'](tmp_path)}")
    assert stl.class_names[stl.samples["label"][0]] == "name0"
    assert "unlabeled_X.bin is not used" in stl.notes[1]
    house = create_dataset(f"svhn:{MADE['svhn'](tmp_path)}")
    digits = [house.class_names[label] for label in house.samples["label"][:10].to_list()]
    assert digits == ["1", "2", "3", "4", "5", "6", "7", "8", "9", "0"]
    assert "extra_32x32.mat is not used" in house.notes[1]


class Evil:
    def __reduce__(self):
        return (Path("ran").touch, ())


def test_nothing_of_a_pickle_is_run(tmp_path):
    root = cifar10(tmp_path / "x", python3_pickle)
    (root / "data_batch_3").write_bytes(pickle.dumps({"labels": [1], "data": Evil()}, protocol=2))
    with pytest.raises(DataError, match=r"data_batch_3 is no batch of CIFAR \(it asks for "):
        len(create_dataset(f"cifar10:{root}"))
    assert not Path("ran").exists()


def _asks(*lines: bytes) -> bytes:
    """A dictionary whose data are what these opcodes make."""
    return b"\x80\x02}(U\x06labels](K\x01eU\x04data" + b"".join(lines) + b"u."


_SHAPE = b"(K\x01M\x00\x0ct"  # (1, 3072)
_BYTES = b"cnumpy\ndtype\nU\x02u1\x85R"


@pytest.mark.parametrize(
    "data",
    [
        b"cnumpy\nndarray\n" + _SHAPE + _BYTES + b"\x86R",  # memory as it was found
        b"cnumpy\nndarray\n" + _SHAPE + _BYTES + b"\x86\x81",
        b"cnumpy\ndtype\nU\x01O\x85R",  # references to objects
        b"cnumpy.core.multiarray\n_reconstruct\n" + _BYTES + b"K\x00\x85U\x01b\x87R",
        # fewer bytes than the shape asks for
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01" + _SHAPE + _BYTES
        + b"\x89U\x02abtb",
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R}b",
        b"cbuiltins\nbytearray\nK\x09\x85R",
    ],
)  # fmt: skip
def test_no_array_is_made_but_of_the_bytes_in_the_file(tmp_path, data):
    """numpy's own array can be given a buffer that another one owns, or none, and its buffer be taken away again."""
    root = cifar10(tmp_path / "x", python3_pickle)
    (root / "data_batch_3").write_bytes(_asks(data))
    with pytest.raises(DataError, match=r"data_batch_3( is no batch of CIFAR|: its data are not)"):
        len(create_dataset(f"cifar10:{root}"))


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("data_batch_2", None, "has no data_batch_2; give the folder"),
        ("data_batch_2", b"", r"data_batch_2 is no batch of CIFAR"),
        ("data_batch_2", pickle.dumps([1]), "it holds list"),
        ("data_batch_2", pickle.dumps({"labels": [1]}), "its data are not n × 3072 bytes"),
        (
            "data_batch_2",
            pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "labels": ["a"]}),
            "has no labels, a list",
        ),
        ("data_batch_2", pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "labels": []}), "30|25 images|labels"),
        ("data_batch_2", pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "labels": [10]}), "there are 10 classes"),
        ("data_batch_2", pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "labels": [2**70]}), "below 1,000"),
        ("batches.meta", pickle.dumps({}), "has no label_names, a list of names"),
        ("batches.meta", pickle.dumps({"label_names": ["a"] * 10}), "'a' is the name of several classes"),
    ],
)
def test_a_damaged_file_of_cifar_is_named(tmp_path, file, content, message):
    root = cifar10(tmp_path / "x", python3_pickle)
    (root / file).unlink() if content is None else (root / file).write_bytes(content)
    with pytest.raises(DataError, match=message):
        len(create_dataset(f"cifar10:{root}"))


def test_other_damaged_files_are_named(tmp_path):
    records = cifar10_bytes(tmp_path / "bytes")
    (records / "test_batch.bin").write_bytes(b"\0" * 100)
    with pytest.raises(DataError, match=r"test_batch\.bin has 100 bytes, which are no whole records of 3,073"):
        len(create_dataset(f"cifar10:{records}"))
    images = MADE["stl10"](tmp_path)
    (images / "test_X.bin").write_bytes(b"\0" * 100)
    with pytest.raises(DataError, match=r"test_X\.bin has 100 bytes, which are no whole images"):
        len(create_dataset(f"stl10:{images}"))
    (images / "class_names.txt").write_bytes(b"caf\xe9")
    with pytest.raises(DataError, match=r"class_names\.txt cannot be read .*: it names the classes"):
        (images / "test_X.bin").write_bytes(b"")
        len(create_dataset(f"stl10:{images}"))
    digits = MADE["svhn"](tmp_path)
    for y in (np.array(["a", "b"]), np.array([{"a": 1}, 2], dtype=object)):
        scipy.io.savemat(digits / "test_32x32.mat", {"X": np.zeros((32, 32, 3, 2), np.uint8), "y": y})
        with pytest.raises(DataError, match=r"test_32x32\.mat: y holds .*, and not the digits"):
            len(create_dataset(f"svhn:{digits}"))
    scipy.io.savemat(digits / "test_32x32.mat", {"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.array([[11], [1]])})
    with pytest.raises(DataError, match="y holds 1 to 11, and not the digits, 10 for 0"):
        len(create_dataset(f"svhn:{digits}"))
    (digits / "test_32x32.mat").write_bytes(b"no")
    with pytest.raises(DataError, match=r"test_32x32\.mat is no file of SVHN"):
        len(create_dataset(f"svhn:{digits}"))


def test_one_copy_of_cifar_is_read_whole(tmp_path):
    """A batch that is missing was taken from another copy beside it."""
    root = cifar10(tmp_path / "x", python3_pickle)
    cifar10_bytes(root / "cifar-10-batches-bin")
    (root / "data_batch_3").unlink()
    with pytest.raises(DataError, match="has no data_batch_3"):
        create_dataset(f"cifar10:{root}")


def test_folders_of_images_are_not_taken_for_benchmarks(tmp_path):
    (tmp_path / "train-images" / "a").mkdir(parents=True)
    assert "idx:" not in suggestion(str(tmp_path), [])
    for part in ("train", "val"):
        (tmp_path / "in" / part / "n01443537").mkdir(parents=True)
    (tmp_path / "in" / "wnids.txt").write_text("n01443537")
    assert suggestion(str(tmp_path / "in"), []) == f"Did you mean:  imagenet:{tmp_path / 'in'}"


def test_an_archive_is_to_be_extracted_and_a_path_alone_is_told_its_scheme(tmp_path):
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"")
    with pytest.raises(DataError, match=r"give the folder .*; extract it: tar -xf .*cifar-10-python\.tar\.gz -C "):
        create_dataset(f"cifar10:{tmp_path}")
    for scheme, make in MADE.items():
        root = make(tmp_path)
        assert suggestion(str(root), []) == f"Did you mean:  {scheme}:{root}"
        with pytest.raises(DataError, match=f"Its files are those of a benchmark: {scheme}:"):
            create_dataset(f"folder:{root}")


# --- Tiny ImageNet


def tiny(root: Path) -> Path:
    rng = np.random.default_rng(0)
    classes = ("n01443537", "n01629819")
    for name in classes:
        (root / "train" / name / "images").mkdir(parents=True)
        for i in range(3):
            image = Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
            image.save(root / "train" / name / "images" / f"{name}_{i}.JPEG")
        (root / "train" / name / f"{name}_boxes.txt").write_text("n01443537_0.JPEG\t0\t10\t63\t58\n")
    (root / "val" / "images").mkdir(parents=True)
    (root / "test" / "images").mkdir(parents=True)
    lines = []
    for i in range(6):
        Image.fromarray(np.full((64, 64, 3), 40 * i, np.uint8)).save(root / "val" / "images" / f"val_{i}.JPEG")
        lines.append(f"val_{i}.JPEG\t{classes[1 - i % 2]}\t0\t32\t44\t62")
    (root / "val" / "val_annotations.txt").write_text("\n".join(lines))
    (root / "wnids.txt").write_text("\n".join(classes))
    return root


def test_classes_of_validation_images_are_those_of_the_table(tmp_path):
    dataset = create_dataset(f"tinyimagenet:{tiny(tmp_path)}")
    assert dataset.class_names == ["n01443537", "n01629819"] and not dataset.notes
    test = dataset.samples.filter(split="test")
    assert {path[-10:]: label for path, label in zip(test["path"], test["label"], strict=True)} == {
        f"val_{i}.JPEG": 1 - i % 2 for i in range(6)
    }
    assert dataset.samples.filter(split="train")["label"].to_list() == [0, 0, 0, 1, 1, 1]
    assert dataset.identity.kind == "tiny-imagenet" and dataset.name == "tinyimagenet"
    assert suggestion(str(tmp_path), []) == f"Did you mean:  tinyimagenet:{tmp_path}"
    (tmp_path / "val" / "images" / "val_9.JPEG").write_bytes(b"")
    with pytest.raises(DataError, match=r"tells no class of 1 images: val_9\.JPEG"):
        len(create_dataset(f"tinyimagenet:{tmp_path}"))
    (tmp_path / "val" / "images" / "val_9.JPEG").unlink()
    (tmp_path / "val" / "images" / "val_2.JPEG").unlink()
    with pytest.raises(DataError, match=r"names 1 images that are not there: val_2\.JPEG"):
        len(create_dataset(f"tinyimagenet:{tmp_path}"))
    table = tmp_path / "val" / "val_annotations.txt"
    whole = table.read_text()
    table.write_text(f"{whole}\nval_0.JPEG\tn01443537\t0\t1\t2\t3\n")
    with pytest.raises(DataError, match=r"names val_0\.JPEG more than once"):
        len(create_dataset(f"tinyimagenet:{tmp_path}"))
    table.write_text(whole)
    (tmp_path / "val" / "images" / "more").mkdir()
    (tmp_path / "val" / "images" / "more" / "val_0.JPEG").write_bytes(b"")
    with pytest.raises(DataError, match="has 1 images whose names others have"):
        len(create_dataset(f"tinyimagenet:{tmp_path}"))
    (tmp_path / "val" / "images" / "more" / "val_0.JPEG").unlink()
    with pytest.raises(DataError, match="the layout is known, leave out classes=nested"):
        create_dataset(f"tinyimagenet:{tmp_path}?classes=nested")
    table.unlink()
    with pytest.raises(DataError, match="it tells the classes of val/images"):
        len(create_dataset(f"tinyimagenet:{tmp_path}"))


def test_validation_images_in_class_folders_are_taken_as_they_lie(tmp_path):
    root = tiny(tmp_path)
    for i in range(6):
        folder = root / "val" / ("n01629819", "n01443537")[i % 2] / "images"
        folder.mkdir(parents=True, exist_ok=True)
        (root / "val" / "images" / f"val_{i}.JPEG").rename(folder / f"val_{i}.JPEG")
    (root / "val" / "images").rmdir()
    assert create_dataset(f"tinyimagenet:{root}").samples.filter(split="test")["label"].to_list() == [0, 0, 0, 1, 1, 1]


def test_classes_without_images_are_left_out_of_the_names(tmp_path):
    root = cifar10(tmp_path / "x", python3_pickle)
    for file in root.glob("*_batch*"):
        images = pixels(0, 4).reshape(4, -1)
        file.write_bytes(python3_pickle({"labels": [2, 7, 2, 5], "data": images}))
    dataset = create_dataset(f"cifar10:{root}")
    assert [dataset.class_names[label] for label in dataset.samples["label"][:4].to_list()] == [
        "name2", "name7", "name2", "name5",
    ]  # fmt: skip


def test_a_name_of_two_classes_is_refused(tmp_path):
    root = cifar10(tmp_path / "x", python3_pickle)
    (root / "batches.meta").write_bytes(python3_pickle({"label_names": [f"name{max(i, 1)}" for i in range(10)]}))
    with pytest.raises(DataError, match="'name1' is the name of several classes"):
        len(create_dataset(f"cifar10:{root}"))


def test_pixels_that_lie_column_by_column_are_refused(tmp_path):
    root = cifar10(tmp_path / "x", python3_pickle)
    images = np.asfortranarray(pixels(0, 6).reshape(6, -1))
    (root / "data_batch_2").write_bytes(python3_pickle({"labels": [0] * 6, "data": images}))
    with pytest.raises(DataError, match="no array of bytes, row by row"):
        len(create_dataset(f"cifar10:{root}"))


def test_a_label_below_the_first_is_refused(tmp_path):
    root = stl10(tmp_path / "stl")
    (root / "test_y.bin").write_bytes(bytes(j % 10 for j in range(20)))
    with pytest.raises(DataError, match="labels are from -1 to 9, and there are 10 classes"):
        len(create_dataset(f"stl10:{root}"))
    (root / "test_X.bin").write_bytes(bytes(96 * 96))
    with pytest.raises(DataError, match="9,216 bytes, which are no whole images"):
        len(create_dataset(f"stl10:{root}"))


@pytest.mark.parametrize("wrong", [-1, 2.5])
def test_what_is_no_digit_is_refused(tmp_path, wrong):
    root = svhn(tmp_path / "svhn")
    scipy.io.savemat(root / "test_32x32.mat", {"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.array([[wrong], [1]])})
    with pytest.raises(DataError, match="and not the digits, 10 for 0"):
        len(create_dataset(f"svhn:{root}"))
