"""Tar shards: every image is read in place by its offset, and a shard that is not whole is named."""

import bz2
import gzip
import io
import json
import os
import pickle
import shutil
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from ssl_risk_rs.datasets import create_dataset, find_duplicates, find_overlap, tar_index
from ssl_risk_rs.datasets.wds import WdsSource, expand
from ssl_risk_rs.errors import DataError

RNG = np.random.default_rng(0)


def png() -> tuple[bytes, np.ndarray]:
    pixels = RNG.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue(), pixels


def add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def shard(path: Path, samples: dict[str, dict[str, bytes]], **options) -> None:
    """A shard of samples: key → ending → bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **options) as archive:
        for key, members in samples.items():
            for ending, data in members.items():
                add(archive, f"{key}.{ending}", data)


def shards(root: Path, name="train", n_shards=3, n=6, start=0, label=lambda i: {"cls": b"%d\n" % (i % 2)}):
    """Shards `name-0.tar` …, and the pixels of each key."""
    pixels = {}
    for s in range(n_shards):
        samples = {}
        for i in range(start + s * n, start + (s + 1) * n):
            data, pixels[f"{i:06}"] = png()
            samples[f"{i:06}"] = {"png": data, **label(i)}
        shard(root / f"{name}-{s}.tar", samples)
    return pixels


def two_parts(root: Path) -> tuple[str, dict[str, np.ndarray]]:
    train, test = shards(root), shards(root, "val", n_shards=2, n=4)
    pixels = {**{f"train/{key}": x for key, x in train.items()}, **{f"test/{key}": x for key, x in test.items()}}
    return f"wds:{root}/train-{{0..2}}.tar,{root}/val-{{0..1}}.tar", pixels


def check(dataset, pixels):
    samples = dataset.samples
    assert sorted(samples["sample_id"]) == sorted(pixels)
    for row, split, sample_id, label, path in samples.iter_rows():
        assert np.array_equal(np.asarray(dataset.load(row)), pixels[sample_id])
        assert label == int(sample_id[-6:]) % 2 and path is None
        assert split == sample_id.split("/")[0] or sample_id.startswith("all/")


@pytest.mark.parametrize("style", ["comma", "option", "option beside", "star"])
def test_every_image_is_read_by_its_offset(tmp_path, style):
    uri, pixels = two_parts(tmp_path)
    train, test = uri.split(",")
    uri = {
        "comma": uri,
        "option": f"{train}?test={test}",
        "option beside": f"{train}?test=val-{{0..1}}.tar",
        "star": f"wds:{tmp_path}/train-*.tar,{tmp_path}/val-*.tar",
    }[style]
    dataset = create_dataset(uri)
    check(dataset, pixels)
    assert dataset.class_names == ["0", "1"] and not dataset.notes
    assert dataset.samples["split"].to_list() == ["train"] * 18 + ["test"] * 8
    check(pickle.loads(pickle.dumps(dataset)), pixels)
    assert "train-1.tar" not in dataset.where(7) and "train/000007" in dataset.where(7)


def test_without_a_test_pattern_a_part_is_set_aside(tmp_path):
    pixels = shards(tmp_path, n=10)
    dataset = create_dataset(f"wds:{tmp_path}/train-{{0..2}}.tar")
    check(dataset, {f"all/{key}": x for key, x in pixels.items()})
    assert dataset.samples["split"].to_list().count("test") == 6
    assert any("20% of each class" in note for note in dataset.notes)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a-{000..002}.tar", ["a-000.tar", "a-001.tar", "a-002.tar"]),
        ("a-{8..11}.tar", ["a-8.tar", "a-9.tar", "a-10.tar", "a-11.tar"]),
        ("a-{08..11}.tar", ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]),
        ("{x,y}/{0..1}.tar", ["x/0.tar", "x/1.tar", "y/0.tar", "y/1.tar"]),
        ("plain.tar", ["plain.tar"]),
        ("a{b.tar", ["a{b.tar"]),
    ],
)
def test_braces(pattern, names):
    assert expand(pattern) == names


@pytest.mark.parametrize("inside", ["00..100", "0..5", "0..05", "98..102", "007..010", "9..11"])
def test_ranges_are_those_of_a_shell(inside):
    shell = shutil.which("bash")
    if shell is None:
        pytest.skip("no shell that expands braces")
    said = subprocess.run([shell, "-c", f"echo a-{{{inside}}}.tar"], capture_output=True, text=True, check=True)
    assert expand(f"a-{{{inside}}}.tar") == said.stdout.split()


def test_patterns_of_too_many_shards_are_refused_before_they_are_written_out():
    for pattern in ("a-{0..99999999999}.tar", "{0..999}/{0..999}/{a,b}.tar"):
        with pytest.raises(DataError, match=r"names [0-9,]+ shards, more than 1,000,000; write the range"):
            expand(pattern)
    for digits in (19, 5000):  # int() reads 4300 and no more
        with pytest.raises(DataError, match="is a range whose ends have more than 18 digits"):
            expand(f"a-{{0..{'9' * digits}}}.tar")


def test_a_pattern_may_be_longer_than_the_name_of_a_file(tmp_path):
    shards(tmp_path, "a", n_shards=1)
    names = ",".join(["a-0", *(f"b{i:050}" for i in range(6))])
    with pytest.raises(DataError, match="6 shards of 7 cannot be found"):
        create_dataset(f"wds:{tmp_path}/{{{names}}}.tar")


@pytest.mark.parametrize(
    ("label", "names"),
    [
        (lambda i: {"cls": b"%d" % (i % 3 + 8)}, ["8", "9", "10"]),
        (lambda i: {"txt": b" cat \n" if i % 2 else "k\u00e4fer".encode()}, ["cat", "k\u00e4fer"]),
        (lambda i: {"json": json.dumps({"label": i % 2, "url": "x"}).encode()}, ["0", "1"]),
        (lambda i: {"JSON": json.dumps({"cls": "ab"[i % 2]}).encode()}, ["a", "b"]),
        (lambda i: {"json": b'{"caption": "x"}', "txt": b"ab"[i % 2 : i % 2 + 1]}, ["a", "b"]),
        (lambda i: {"txt": b"a long caption", "cls": b"%d" % (i % 2)}, ["0", "1"]),
        (lambda i: {"cls": b"%d" % (i % 2 * 2 - 1)}, ["-1", "1"]),
    ],
)
def test_labels(tmp_path, label, names):
    shards(tmp_path, label=label)
    assert create_dataset(f"wds:{tmp_path}/train-*.tar").class_names == names


def test_an_index_is_made_once_and_anew_where_a_shard_changed(tmp_path, monkeypatch):
    uri, pixels = two_parts(tmp_path)
    read = []
    monkeypatch.setattr(
        tar_index, "_read_index", lambda path, real=tar_index._read_index: read.append(path.name) or real(path)
    )
    check(create_dataset(uri), pixels)
    assert sorted(read) == ["train-0.tar", "train-1.tar", "train-2.tar", "val-0.tar", "val-1.tar"]
    check(create_dataset(uri), pixels)
    assert len(read) == 5
    kept = sorted((tar_index.cache_folder() / "shards").iterdir())
    assert len(kept) == 5 and all(path.suffix == ".npz" for path in kept)
    os.utime(tmp_path / "train-1.tar", (1, 1))
    check(create_dataset(uri), pixels)
    assert read[5:] == ["train-1.tar"]
    for path in kept:
        path.write_bytes(b"damaged")
    check(create_dataset(uri), pixels)
    assert len(read) == 11


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, monkeypatch):
    uri, pixels = two_parts(tmp_path)
    (tmp_path / "file").touch()
    monkeypatch.setenv("SSL_RISK_CACHE", str(tmp_path / "file" / "below"))
    check(create_dataset(uri), pixels)


def test_images_are_compared_whole_only_where_their_ends_are_alike(tmp_path, monkeypatch):
    data = [png()[0] for _ in range(8)]
    data[6] = data[1]
    longer = bytes([data[2][0] ^ 1]) + data[2][1:]  # the same size and end
    shard(tmp_path / "a.tar", {str(i): {"png": data[i], "cls": b"%d" % (i % 2)} for i in range(5)})
    shard(tmp_path / "b.tar", {"5": {"png": longer, "cls": b"1"}, "6": {"png": data[6], "cls": b"0"}})
    dataset = create_dataset(f"wds:{tmp_path}/a.tar,{tmp_path}/b.tar")
    read = []
    monkeypatch.setattr(WdsSource, "content", lambda self, i, real=WdsSource.content: read.append(i) or real(self, i))
    assert find_overlap(dataset).pairs == ((6, 1),)
    assert sorted(set(read)) == [0, 1, 2, 5, 6]  # 0 is asked what kind of source it is
    assert find_duplicates(dataset) == [(1, 6)]


def test_the_fingerprint_survives_a_copy(tmp_path):
    uri, _ = two_parts(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two", copy_function=shutil.copyfile)
    copy = create_dataset(uri.replace("/one/", "/two/"))
    assert copy.fingerprint(hash_content=True) == create_dataset(uri).fingerprint(hash_content=True)
    assert copy.samples.equals(create_dataset(uri).samples)


def test_parts_that_change_places_are_other_data(tmp_path):
    """Keys and labels of both parts are alike, so that the samples of the two are equal."""
    shards(tmp_path, "a", n_shards=1), shards(tmp_path, "b", n_shards=1)
    one, other = (create_dataset(f"wds:{tmp_path}/{x}-0.tar,{tmp_path}/{y}-0.tar") for x, y in ("ab", "ba"))
    assert one.samples.equals(other.samples) and one.fingerprint(True) != other.fingerprint(True)


def test_shards_of_a_star_are_in_the_order_of_their_names(tmp_path):
    uri, _ = two_parts(tmp_path)
    star = create_dataset(f"wds:{tmp_path}/train-*.tar,{tmp_path}/val-*.tar")
    assert star.samples.equals(create_dataset(uri).samples)


def test_an_image_of_a_longer_ending_is_no_sample(tmp_path):
    pixels = shards(tmp_path, n_shards=2, n=10, label=lambda i: {"mask.png": png()[0], "cls": b"%d" % (i % 2)})
    check(create_dataset(f"wds:{tmp_path}/train-{{0..1}}.tar"), {f"all/{key}": x for key, x in pixels.items()})


def test_a_sparse_file_is_no_sample(tmp_path):
    """Its bytes in the shard are not those of the file."""
    pixels = shards(tmp_path, n_shards=1)
    with tarfile.open(tmp_path / "train-0.tar", "a", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("sparse.png")
        member.size, member.pax_headers = 4, {"GNU.sparse.map": "0,4"}
        archive.addfile(member, io.BytesIO(b"\x89PNG"))
    dataset = create_dataset(f"wds:{tmp_path}/train-0.tar")
    check(dataset, {f"all/{key}": x for key, x in pixels.items()})
    assert any("1 link or special files in the shards are not used" in note for note in dataset.notes)


def test_keys_that_repeat_in_another_shard_are_told_apart_by_its_name(tmp_path):
    for s in range(2):
        shard(tmp_path / f"{s}.tar", {f"{i}": {"png": png()[0], "cls": b"%d" % (i % 2)} for i in range(5)})
    dataset = create_dataset(f"wds:{tmp_path}/{{0..1}}.tar")
    assert len(set(dataset.samples["sample_id"])) == 10 and "all/1/3" in dataset.samples["sample_id"].to_list()
    assert any("5 keys of 10 occur in several shards" in note for note in dataset.notes)


def test_names_in_a_shard_are_only_names(tmp_path):
    names = ["../../evil", "/etc/passwd", "a/../../b", "k\u00e4fer", "x" * 200, os.fsdecode(b"\xff\xfe")]
    samples = {name: {"png": png()[0], "cls": b"%d" % (i % 2)} for i, name in enumerate(names * 1)}
    before = sorted(tmp_path.parent.iterdir())
    shard(tmp_path / "s.tar", samples)
    shard(tmp_path / "gnu.tar", {f"{key}2": value for key, value in samples.items()}, format=tarfile.GNU_FORMAT)
    dataset = create_dataset(f"wds:{tmp_path}/s.tar,{tmp_path}/gnu.tar")
    assert sorted(tmp_path.parent.iterdir()) == before
    ids = dataset.samples["sample_id"].to_list()
    assert {"train/../../evil", "train//etc/passwd", "test/k\u00e4fer2", "train/\\xff\\xfe"} <= set(ids)
    assert all(dataset.load(row).size == (5, 4) for row in range(len(dataset)))


def test_links_folders_and_hidden_files_are_no_samples(tmp_path):
    with tarfile.open(tmp_path / "s.tar", "w") as archive:
        for kind, name in ((tarfile.SYMTYPE, "l.png"), (tarfile.LNKTYPE, "h.png"), (tarfile.DIRTYPE, "d.png")):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
        for i in range(4):
            add(archive, f"d/{i}.png", png()[0])
            add(archive, f"d/{i}.cls", b"%d" % (i % 2))
        add(archive, "d/.DS_Store", b"x")
        add(archive, "README", b"x")
        add(archive, "meta.json", b'{"label": 1}')
    dataset = create_dataset(f"wds:{tmp_path}/s.tar")
    assert sorted(dataset.samples["sample_id"]) == [f"all/d/{i}" for i in range(4)]
    assert any("2 links or special files in the shards are not used" in note for note in dataset.notes)


def test_images_of_no_byte_are_told_when_they_are_decoded(tmp_path):
    samples = {str(i): {"png": png()[0] if i else b"", "cls": b"%d" % (i % 2)} for i in range(10)}
    shard(tmp_path / "s.tar", samples)
    dataset = create_dataset(f"wds:{tmp_path}/s.tar")
    row = dataset.samples["sample_id"].to_list().index("all/0")
    with pytest.raises(OSError, match="cannot identify image file"):
        dataset.load(row)


def test_compressed_shards_are_refused_with_the_reason(tmp_path):
    shards(tmp_path, n_shards=1)
    data = (tmp_path / "train-0.tar").read_bytes()
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(data))
    (tmp_path / "b.tar").write_bytes(bz2.compress(data))
    for name, what in (("a.tar.gz", r"compressed \(gzip\).*without all before it.*gunzip"), ("b.tar", "bunzip2")):
        with pytest.raises(DataError, match=what):
            len(create_dataset(f"wds:{tmp_path / name}"))


def test_every_way_of_cutting_a_shard_short_is_told(tmp_path):
    shards(tmp_path, n_shards=1, n=3)
    data = (tmp_path / "train-0.tar").read_bytes()
    with tarfile.open(tmp_path / "train-0.tar") as archive:
        end = max(member.offset_data + -(-member.size // 512) * 512 for member in archive)
    path = tmp_path / "s.tar"
    for cut in [1, 100, *range(256, end + 1, 256), end]:  # after end, only the closing mark is shorter
        path.write_bytes(data[:cut])
        with pytest.raises(DataError, match=r"1 shard of 1 cannot be used:\n.*s\.tar is (cut short|damaged)"):
            len(create_dataset(f"wds:{path}"))
    path.write_bytes(data[: end + 512])
    assert len(create_dataset(f"wds:{path}")) == 3


def test_damaged_headers_are_told_and_all_bad_shards_are_named(tmp_path):
    shards(tmp_path, n_shards=3)
    for s in (0, 2):
        with (tmp_path / f"train-{s}.tar").open("r+b") as file:
            file.seek(2 * 512 if s else 0)
            file.write(b"\x55" * 512)
    with pytest.raises(
        DataError, match=r"2 shards of 3 cannot be used:\n.*train-0\.tar is.*\n.*train-2\.tar is damaged"
    ):
        len(create_dataset(f"wds:{tmp_path}/train-{{0..2}}.tar"))


def test_samples_that_are_none_are_counted_by_name(tmp_path):
    good = {str(i): {"png": png()[0], "cls": b"%d" % (i % 2)} for i in range(4)}
    for more, message in [
        ({"x": {"png": png()[0]}}, r"1 sample without label: x in s\.tar"),
        ({"x": {"cls": b"1"}, "y": {"cls": b"0"}}, r"2 samples with a label and no image: x in s\.tar, y in s\.tar"),
        ({"x": {"png": b"1", "jpg": b"2", "cls": b"1"}}, "1 sample with several images: x"),
        ({"x": {"png": png()[0], "txt": b"c" * 300}}, "1 sample without label"),
        ({"x": {"png": png()[0], "json": b"[" * 100_000}}, r"1 sample without label: x in s\.tar"),
        ({"x": {"png": png()[0], "cls": b"-1\n"}}, r"1 sample with label -1, which stands for none: x in s\.tar\. A"),
    ]:
        shard(tmp_path / "s.tar", {**good, **more})
        with pytest.raises(DataError, match=message):
            len(create_dataset(f"wds:{tmp_path}/s.tar"))
    shard(tmp_path / "s.tar", {"x": {"bin": b"1"}})
    with pytest.raises(DataError, match="the shards hold no image"):
        len(create_dataset(f"wds:{tmp_path}/s.tar"))


def test_patterns_that_name_nothing(tmp_path):
    uri, _ = two_parts(tmp_path)
    for bad, message in [
        ("wds:", "write one pattern, or two"),
        (uri + ",third.tar", "write one pattern, or two"),
        (f"wds:{tmp_path}/train-{{0..4}}.tar", r"2 shards of 5 cannot be found: .*train-3\.tar, .*train-4\.tar"),
        (f"wds:{tmp_path}/x*.tar", "cannot be found"),
        (f"wds:{tmp_path}/train-0.tar?val=x", "write one pattern, or two"),
        (f"wds:{tmp_path}/train-*.tar,{tmp_path}/train-0.tar", r"1 shard in both parts: .*train-0\.tar"),
    ]:
        with pytest.raises(DataError, match=message):
            create_dataset(bad)
