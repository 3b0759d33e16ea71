"""What data are: exact ids, never the beginning of a name."""

import pytest
from PIL import Image
from ssl_risk_rs._identity import DataIdentity, data_id, saw
from ssl_risk_rs.datasets import create_dataset
from ssl_risk_rs.encoders import describe_encoder


def write(root, names):
    image = Image.new("L", (2, 2))
    for part in ("train", "val"):
        for name in names:
            (root / part / name).mkdir(parents=True)
            image.save(root / part / name / "0.png")
    return root


def wordnet_ids(n):
    return [f"n{i:08}" for i in range(n)]


def test_imagenet_is_known_by_its_thousand_class_folders(tmp_path):
    whole = write(tmp_path / "image", wordnet_ids(1000))
    assert create_dataset(f"folder:{whole}").identity == DataIdentity("ImageNet-1K", "imagenet-1k")
    some = write(tmp_path / "imagenet", wordnet_ids(100))
    assert create_dataset(f"folder:{some}").identity == DataIdentity("imagenet")  # ImageNet-100, Tiny ImageNet, …
    assert create_dataset(f"imagenet:{some}").identity == DataIdentity("ImageNet-1K", "imagenet-1k")  # named so


def test_other_data_have_a_name_and_no_kind(tmp_path):
    folder = write(tmp_path / "image", ("ant", "bee"))
    assert create_dataset(f"folder:{folder}").identity == DataIdentity("image")
    assert create_dataset("digits").identity == DataIdentity("digits", "digits")


@pytest.mark.parametrize(
    ("pretraining", "data", "answer"),
    [
        ("ImageNet-1K", DataIdentity("image"), None),
        ("ImageNet-1K", DataIdentity("ImageNet-1K", "imagenet-1k"), True),
        ("ImageNet-22K", DataIdentity("ImageNet-1K", "imagenet-1k"), True),
        ("10% ImageNet-1K", DataIdentity("ImageNet-1K", "imagenet-1k"), None),
        ("WIT-400M (CLIP)", DataIdentity("ImageNet-1K", "imagenet-1k"), None),
        ("ImageNet-1K", DataIdentity("digits", "digits"), False),
        ("digits", DataIdentity("digits", "digits"), True),
        ("my own photographs", DataIdentity("digits", "digits"), None),
        (None, DataIdentity("digits", "digits"), None),
    ],
)
def test_saw(pretraining, data, answer):
    assert saw(data_id(pretraining), data) is answer
    assert saw(data_id(pretraining), data.kind) is answer


def test_encoders_carry_the_same_ids():
    swav = describe_encoder("swav")
    assert (swav.pretraining_id, swav.twin_labels_id) == ("imagenet-1k", "imagenet-1k")
    demo = describe_encoder("demo_ssl")
    assert (demo.pretraining_id, demo.twin_labels_id) == ("digits", "digits")
    assert demo.to_dict()["pretraining_id"] == "digits"
    assert describe_encoder("random:tiny_convnet").pretraining_id is None


def test_every_published_encoder_has_known_data():
    from ssl_risk_rs.encoders.catalogue import published_entry, published_names

    entries = [published_entry(name) for name in published_names()]
    assert all(entry is not None and data_id(entry.pretraining_data) for entry in entries)
