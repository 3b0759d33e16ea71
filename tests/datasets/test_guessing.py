"""A path without a scheme: what lies there decides what is proposed, and the proposal works."""

import io
import shlex
import shutil
import tarfile

import numpy as np
import polars as pl
import pytest
from PIL import Image
from ssl_risk_rs.datasets import create_dataset
from ssl_risk_rs.errors import DataError

RNG = np.random.default_rng(0)


def images(root, folders, n=5):
    for folder in folders:
        (root / folder).mkdir(parents=True)
        for i in range(n):
            Image.fromarray(RNG.integers(0, 256, (4, 4, 3), dtype=np.uint8)).save(root / folder / f"{i}.png")
    return root


def proposed(path) -> str:
    with pytest.raises(DataError, match="has no known scheme; write one of digits") as error:
        create_dataset(str(path))
    return " ".join(shlex.split(str(error.value).partition("Did you mean:  ")[2]))  # as a shell takes it


@pytest.mark.parametrize(
    ("folders", "scheme"),
    [
        (("ant", "bee"), "folder"),
        (("train/ant", "train/bee", "test/ant", "test/bee"), "folder"),
        (("train/n01440764", "train/n02000000", "val/n01440764", "val/n02000000"), "imagenet"),
    ],
)
def test_folders(tmp_path, folders, scheme):
    uri = proposed(images(tmp_path / "x", folders))
    assert uri == f"{scheme}:{tmp_path / 'x'}" and len(create_dataset(uri)) == 5 * len(folders)


def test_a_proposal_can_be_pasted_into_a_shell(tmp_path):
    """Spaces, leading dashes and braces are a shell's."""
    for name in ("two words", "-Größe", "{a,b}"):
        uri = proposed(images(tmp_path / name, ("ant", "bee")))
        assert uri == f"folder:{tmp_path / name}"


def test_arrays_and_features(tmp_path):
    x = RNG.integers(0, 256, (20, 4, 4), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(20) % 2)
    assert len(create_dataset(proposed(tmp_path / "a.npz"))) == 20
    np.savez(tmp_path / "f.npz", X=np.ones((4, 2)), y=np.arange(4))
    assert proposed(tmp_path / "f.npz") == f"ssl-risk-rs decompose --features {tmp_path / 'f.npz'}"


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_tables(tmp_path, suffix):
    images(tmp_path / "d", ("ant", "bee"))
    paths = [f"{name}/{i}.png" for name in ("ant", "bee") for i in range(5)]
    frame = pl.DataFrame({"File": paths, "label": ["a", "b"] * 5})
    (frame.write_parquet if suffix == "parquet" else frame.write_csv)(tmp_path / "d" / f"rows.{suffix}")
    for place in (tmp_path / "d" / f"rows.{suffix}", tmp_path / "d"):
        assert len(create_dataset(proposed(place))) == 10
    features = pl.DataFrame({"f0": [0.5] * 4, "f1": [1.0] * 4, "label": [0, 1] * 2})
    (features.write_parquet if suffix == "parquet" else features.write_csv)(tmp_path / f"f.{suffix}")
    assert proposed(tmp_path / f"f.{suffix}").startswith("ssl-risk-rs decompose --features ")


def test_shards(tmp_path):
    for name, n in (("val-0", 4), ("train-000", 6), ("train-001", 6)):
        with tarfile.open(tmp_path / f"{name}.tar", "w") as archive:
            for i in range(n):
                file = io.BytesIO()
                Image.fromarray(RNG.integers(0, 256, (4, 4, 3), dtype=np.uint8)).save(file, "png")
                for ending, data in (("png", file.getvalue()), ("cls", b"%d" % (i % 2))):
                    member = tarfile.TarInfo(f"{name}{i}.{ending}")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
    uri = proposed(tmp_path)
    assert (
        uri == f"wds:{tmp_path}/train-{{000..001}}.tar,{tmp_path}/val-{{0..0}}.tar" and len(create_dataset(uri)) == 16
    )
    assert proposed(tmp_path / "val-0.tar") == f"wds:{tmp_path / 'val-0.tar'}"


def test_idx_and_saved_data_sets(tmp_path):
    (tmp_path / "train-images-idx3-ubyte.gz").touch()
    assert proposed(tmp_path) == f"idx:{tmp_path}"
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    (tmp_path / "dataset_dict.json").touch()
    assert proposed(tmp_path) == f"hf:{tmp_path}"


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("folders:/data/x", r"Did you mean:  folder:/data/x"),
        ("Manifest:/data/x.csv", r"Did you mean:  manifest:/data/x\.csv"),
        ("digit", "Did you mean:  digits"),
        ("org/name", "for a data set of the Hugging Face hub write hf:org/name"),
        ("/no/such/place", "There is no file or folder /no/such/place"),
        ("", "has no known scheme"),
    ],
)
def test_what_is_not_there(typed, message):
    with pytest.raises(DataError, match=message):
        create_dataset(typed)


def test_training_shards_come_first(tmp_path):
    for name in ("test-00.tar", "test-01.tar", "train-00.tar", "train-01.tar"):
        (tmp_path / name).write_bytes(b"")
    assert proposed(tmp_path) == f"wds:{tmp_path}/train-{{00..01}}.tar,{tmp_path}/test-{{00..01}}.tar"


def test_a_training_part_alone_is_no_imagenet(tmp_path):
    assert proposed(images(tmp_path / "x", ("train/n01440764", "train/n02000000"))) == f"folder:{tmp_path / 'x'}"


def test_a_table_beside_a_training_folder_is_not_what_is_meant(tmp_path):
    images(tmp_path / "x", ("train/ant", "test/ant"))
    pl.DataFrame({"path": ["train/ant/0.png"], "label": ["a"]}).write_csv(tmp_path / "x" / "notes.csv")
    assert proposed(tmp_path / "x") == f"folder:{tmp_path / 'x'}"
