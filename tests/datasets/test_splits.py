"""Every draw is a function of sample ids and the seed: a copy, a touched copy, a renumbering change nothing."""

import os
import shutil

import numpy as np
from PIL import Image
from ssl_risk_rs._splits import group_name, stratified_cut, take_at_most
from ssl_risk_rs.datasets import create_dataset


def write_images(root, n=12):
    rng = np.random.default_rng(0)
    for part, count in (("train", n), ("test", n // 2)):
        for name in ("ant", "bee", "cat"):
            (root / part / name).mkdir(parents=True)
            for i in range(count):
                Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)).save(root / part / name / f"{i}.png")


def test_copy_and_touched_copy_give_the_same_rows_and_limits(tmp_path):
    write_images(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    for path in (tmp_path / "b").rglob("*.png"):
        os.utime(path, ns=(0, 0))
    for limit in (None, 5, "4/class"):
        one, two = (create_dataset(f"folder:{tmp_path / name}", limit=limit).samples for name in "ab")
        assert one.drop("path").equals(two.drop("path"))


def test_the_cut_of_an_npz_file_is_the_one_of_the_package(tmp_path):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (60, 2, 2), dtype=np.uint8), rng.integers(0, 4, 60)
    np.savez(tmp_path / "a.npz", x=images, y=labels)
    samples = create_dataset(f"npz:{tmp_path / 'a.npz'}").samples
    ids = [f"all/{i}" for i in range(60)]
    test = stratified_cut(labels, ids, share=0.2, seed=0)
    assert set(samples.filter(samples["split"] == "test")["sample_id"]) == {ids[i] for i in np.flatnonzero(test)}


def test_the_limit_is_the_draw_of_the_package_in_each_split():
    samples = create_dataset("digits").samples
    for limit, per_class in ((50, False), ("7/class", True)):
        kept = create_dataset("digits", limit=limit).samples
        for split in ("train", "test"):
            rows = samples.filter(samples["split"] == split)
            count = int(str(limit).partition("/")[0])
            mask = take_at_most(rows["label"].to_numpy(), rows["sample_id"].to_list(), count, per_class=per_class)
            wanted = rows["sample_id"].to_numpy()[mask]
            assert kept.filter(kept["split"] == split)["sample_id"].to_list() == wanted.tolist()


def test_groups_that_fit_exactly_are_taken_and_of_those_that_do_not_the_smallest():
    ids, labels = [str(i) for i in range(8)], np.array([0, 0, 1, 1, 0, 0, 1, 1])
    pairs = ["a", "a", "b", "b", "c", "c", "d", "d"]
    for count, per_class, kept in ((4, False, 4), (2, True, 4), (4, True, 8), (3, False, 2)):
        assert take_at_most(labels, ids, count, per_class=per_class, groups=pairs).sum() == kept
    for sizes in ((5, 3), (3, 5)):  # neither fits
        mask = take_at_most(labels, ids, 2, per_class=False, groups=np.repeat(["a", "b"], sizes))
        assert mask.sum() == 3


def test_another_seed_puts_other_groups_aside():
    groups = np.repeat([f"p{i}" for i in range(20)], 3)
    ids, labels = [str(i) for i in range(60)], np.arange(60) % 3
    masks = {stratified_cut(labels, ids, share=0.2, seed=seed, groups=groups).tobytes() for seed in range(4)}
    assert len(masks) > 1


def test_a_group_is_called_the_same_whatever_its_type():
    for value in (30, 30.0, np.float32(30), np.int8(30), "30", b"30", np.bytes_(b"30")):
        assert group_name(value) == "30"
    assert group_name(0.5) == "0.5" and group_name(b"\xff") == "\\xff"
