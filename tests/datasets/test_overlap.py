"""Test images that are training images are found by content, whatever they are called."""

import itertools
import os
import shutil
import struct

import numpy as np
import pytest
from PIL import Image
from ssl_risk_rs.datasets import create_dataset, find_duplicates, find_overlap, overlap
from ssl_risk_rs.decomposition.task import make_task
from ssl_risk_rs.extraction import ensure_bank

RNG = np.random.default_rng(0)


def write(root, n=6):
    for part in ("train", "test"):
        for name in ("ant", "bee"):
            (root / part / name).mkdir(parents=True)
            for i in range(n):
                pixels = RNG.integers(0, 256, (40, 40, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{i}.bmp")  # all of one size
    return f"folder:{root}"


def test_digits_have_no_test_image_in_train():
    assert find_overlap(create_dataset("digits")).n_test == 0


def test_copies_are_found_under_other_names_and_classes(tmp_path):
    uri = write(tmp_path)
    assert find_overlap(create_dataset(uri)).n_test == 0
    shutil.copy(tmp_path / "train/ant/2.bmp", tmp_path / "test/bee/x.bmp")
    os.replace(tmp_path / "test/bee/x.bmp", tmp_path / "test/bee/0.bmp")
    (tmp_path / "test/ant/5.bmp").unlink()
    os.symlink(tmp_path / "train/bee/1.bmp", tmp_path / "test/ant/5.bmp")
    dataset, seen = create_dataset(uri), []
    found = find_overlap(dataset, progress=seen.append)
    assert found.n_test == 2 and seen[-1] == 24
    assert found.examples(dataset) == [
        (str(tmp_path / "test/ant/5.bmp"), str(tmp_path / "train/bee/1.bmp")),
        (str(tmp_path / "test/bee/0.bmp"), str(tmp_path / "train/ant/2.bmp")),
    ]
    assert found.examples(dataset, 1) == found.examples(dataset)[:1]


def test_training_images_that_repeat_others_are_counted(tmp_path):
    uri = write(tmp_path)
    assert find_overlap(create_dataset(uri)).n_repeated == 0
    for name in ("3", "4"):
        shutil.copy(tmp_path / "train/ant/2.bmp", tmp_path / f"train/bee/{name}.bmp")
    shutil.copy(tmp_path / "test/ant/2.bmp", tmp_path / "test/bee/3.bmp")  # repeats no training image
    found = find_overlap(create_dataset(uri))
    assert (found.n_test, found.n_repeated) == (0, 2)
    bank = ensure_bank("pixels:4", uri, store=tmp_path / "store")
    assert bank.header.overlap["training_images_repeated"] == 2
    assert make_task(bank).repeats == 2


def test_files_that_share_size_and_tail_only_are_told_apart(tmp_path):
    uri = write(tmp_path)
    data = bytearray((tmp_path / "train/ant/2.bmp").read_bytes())
    assert len(data) > overlap.TAIL
    data[100] ^= 1  # before the tail
    (tmp_path / "test/bee/0.bmp").write_bytes(data)
    assert find_overlap(create_dataset(uri)).n_test == 0


def test_short_files_that_differ_in_their_first_byte_are_told_apart(tmp_path):
    uri = write(tmp_path)
    for path, start in (("train/ant/0.bmp", b"a"), ("test/ant/0.bmp", b"b")):
        (tmp_path / path).write_bytes(start + bytes(99))
    assert find_overlap(create_dataset(uri)).n_test == 0


def test_only_files_whose_size_occurs_on_both_sides_are_opened(tmp_path, monkeypatch):
    uri = write(tmp_path)
    for i, path in enumerate(sorted((tmp_path / "test").rglob("*.bmp"))):
        Image.new("RGB", (8, 10 + i)).save(path)
    shutil.copy(tmp_path / "train/ant/0.bmp", tmp_path / "test/ant/0.bmp")
    opened = []
    monkeypatch.setattr(overlap, "_hash_tail", lambda path, real=overlap._hash_tail: opened.append(path) or real(path))
    assert find_overlap(create_dataset(uri)).n_test == 1
    assert len(opened) == 13  # twelve training files of one size, and the one test file that has it


def test_unreadable_files_are_not_compared(tmp_path):
    uri = write(tmp_path)
    for part in ("train", "test"):
        os.symlink(tmp_path / "gone", tmp_path / part / "ant" / "z.png")
    assert find_overlap(create_dataset(uri)).n_test == 0


@pytest.mark.parametrize("kind", ["npz", "idx"])
def test_arrays_are_compared_by_pixels(tmp_path, kind):
    train, test = (RNG.integers(0, 256, (n, 5, 5), dtype=np.uint8) for n in (20, 10))
    test[3], test[7] = train[11], train[11]
    labels = [np.arange(len(x)).astype(np.uint8) % 2 for x in (train, test)]
    if kind == "npz":
        np.savez(tmp_path / "a.npz", x_train=train, x_test=test, y_train=labels[0], y_test=labels[1])
        dataset = create_dataset(f"npz:{tmp_path / 'a.npz'}")
    else:
        for part, x, y in (("train", train, labels[0]), ("t10k", test, labels[1])):
            for name, array in ((f"{part}-images-idx3-ubyte", x), (f"{part}-labels-idx1-ubyte", y)):
                head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
                (tmp_path / name).write_bytes(head + array.tobytes())
        dataset = create_dataset(f"idx:{tmp_path}")
    found = find_overlap(dataset)
    assert found.n_test == 2 and found.pairs == ((23, 11), (27, 11))


def test_a_data_set_without_a_test_part_overlaps_nothing():
    whole = create_dataset("digits", limit=5)
    test = whole.samples.filter(whole.samples["split"] == "test")["sample_id"].to_list()
    assert find_overlap(whole.without(test)).n_test == 0


def test_duplicates_of_every_part(tmp_path):
    uri = write(tmp_path)
    assert find_duplicates(create_dataset(uri)) == []
    for source, copy in (("train/ant/2", "train/bee/3"), ("train/ant/2", "test/ant/0"), ("test/bee/1", "test/bee/2")):
        shutil.copy(tmp_path / f"{source}.bmp", tmp_path / f"{copy}.bmp")
    dataset = create_dataset(uri)
    assert find_duplicates(dataset) == [(2, 9, 12), (19, 20)]
    assert find_overlap(dataset).pairs == ((12, 2),)
    x = np.zeros((6, 3, 3), np.uint8)
    x[3:] = 1 + np.arange(3)[:, None, None]
    np.savez(tmp_path / "a.npz", x_train=x[:4], x_test=x[4:], y_train=np.arange(4) % 2, y_test=np.arange(2))
    assert find_duplicates(create_dataset(f"npz:{tmp_path / 'a.npz'}")) == [(0, 1, 2)]


def test_progress_ends_when_the_work_does(tmp_path, monkeypatch):
    """Files of one size: the last look, at all of their bytes, is the longest."""
    uri = write(tmp_path)
    monkeypatch.setattr(overlap, "REPORT_EVERY", 4)
    seen, at = [], {}
    monkeypatch.setattr(
        overlap, "_hash_file", lambda path, real=overlap._hash_file: at.setdefault("before", seen[-1]) and real(path)
    )
    shutil.copy(tmp_path / "train/ant/2.bmp", tmp_path / "test/bee/0.bmp")
    assert find_overlap(create_dataset(uri), progress=seen.append).n_test == 1
    assert seen == sorted(seen) and seen[-1] == 24 and seen.count(24) == 1
    assert 8 <= at["before"] <= 16


def test_short_files_are_read_once(tmp_path, monkeypatch):
    for i, (part, name) in enumerate(itertools.product(("train", "test"), ("ant", "bee"))):
        (tmp_path / part / name).mkdir(parents=True)
        Image.new("L", (2, 2), 0 if name == "ant" else 50 * i).save(tmp_path / part / name / "0.png")
    monkeypatch.setattr(overlap, "_hash_file", lambda path: pytest.fail("its tail is all of it"))
    assert find_overlap(create_dataset(f"folder:{tmp_path}")).n_test == 1
