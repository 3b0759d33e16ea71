"""Data sets that the `datasets` library has saved, in folders and in the layout of its cache."""

import io
import pickle
import shutil

import numpy as np
import pytest
from PIL import Image
from ssl_risk_rs.datasets import create_dataset
from ssl_risk_rs.errors import DataError

hf = pytest.importorskip("datasets")

RNG = np.random.default_rng(0)
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def features(**more):
    return hf.Features({"picture": hf.Image(), "species": hf.ClassLabel(names=["ant", "bee"]), **more})


def columns(n, start=0, labels=None):
    pixels = RNG.integers(0, 256, (n, 4, 5, 3), dtype=np.uint8)
    return pixels, {
        "picture": [{"bytes": png(x), "path": None} for x in pixels],
        "species": [i % 2 for i in range(n)] if labels is None else labels,
        "patient": [f"p{(start + i) // 2}" for i in range(n)],
        "age": list(range(n)),
        "box": [[1, 2]] * n,
    }


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


MORE = {"patient": hf.Value("string"), "age": hf.Value("int32"), "box": hf.Sequence(hf.Value("int64"))}


def saved(folder, sizes, labels=None):
    """A folder of `save_to_disk`, and the pixels of each split."""
    pixels, splits = {}, {}
    for start, (name, n) in enumerate(sizes.items()):
        pixels[name], data = columns(n, 1000 * start, (labels or {}).get(name))
        splits[name] = hf.Dataset.from_dict(data, features=features(**MORE))
    (hf.DatasetDict(splits) if "all" not in splits else splits["all"]).save_to_disk(str(folder))
    return f"hf:{folder}", pixels


def check(dataset, parts):
    """`parts`: pixels by the beginning of sample ids."""
    samples = dataset.samples
    assert sorted(samples["sample_id"]) == sorted(f"{part}/{i}" for part, x in parts.items() for i in range(len(x)))
    for row, sample_id in enumerate(samples["sample_id"]):
        part, _, i = sample_id.partition("/")
        assert np.array_equal(np.asarray(dataset.load(row)), parts[part][int(i)])
        assert samples["label"][row] == int(i) % 2 and samples["age"][row] == int(i)
    assert dataset.class_names == ["ant", "bee"] and samples.columns[5:] == ["patient", "age"]


def test_a_folder_with_parts(tmp_path):
    uri, pixels = saved(tmp_path / "pets", {"train": 10, "test": 6})
    dataset = create_dataset(uri, group="patient")
    check(dataset, pixels)
    assert dataset.name == "pets" and not dataset.notes
    check(pickle.loads(pickle.dumps(dataset)), pixels)


def test_a_folder_without_parts_is_cut(tmp_path):
    uri, pixels = saved(tmp_path / "pets", {"all": 20})
    dataset = create_dataset(uri)
    check(dataset, pixels)
    assert dataset.samples["split"].to_list().count("test") == 4
    assert any("20% of each class" in note for note in dataset.notes)


def test_rows_that_were_chosen_before_saving(tmp_path):
    pixels, data = columns(12)
    whole = hf.Dataset.from_dict(data, features=features(**MORE))
    whole.select(range(11, -1, -1)).save_to_disk(str(tmp_path / "pets"))
    dataset = create_dataset(f"hf:{tmp_path / 'pets'}")
    for row, sample_id in enumerate(dataset.samples["sample_id"]):
        assert np.array_equal(np.asarray(dataset.load(row)), pixels[11 - int(sample_id.removeprefix("all/"))])


def test_the_fingerprint_is_that_of_the_data(tmp_path):
    uri, _ = saved(tmp_path / "pets", {"train": 10, "test": 6})
    shutil.copytree(tmp_path / "pets", tmp_path / "copy", copy_function=shutil.copyfile)
    assert create_dataset(f"hf:{tmp_path / 'copy'}").fingerprint() == create_dataset(uri).fingerprint()
    other, _ = saved(tmp_path / "other", {"train": 10, "test": 6})
    assert create_dataset(other).fingerprint() != create_dataset(uri).fingerprint()
    assert create_dataset(f"{uri}?train=test&test=train").fingerprint() != create_dataset(uri).fingerprint()


def test_a_test_split_without_labels_is_refused_with_those_that_have_them(tmp_path):
    uri, pixels = saved(
        tmp_path / "pets", {"train": 10, "test": 6, "validation": 4, "extra": 4},
        labels={"test": [-1] * 6, "extra": [-1, 0, 1, 0]},
    )  # fmt: skip
    with pytest.raises(DataError, match=r"6 of 6 rows of test have no label \(-1\); splits with labels: validation; "
                                        r"write \?test=validation"):  # fmt: skip
        len(create_dataset(uri))
    check(create_dataset(f"{uri}?test=validation"), {"train": pixels["train"], "test": pixels["validation"]})
    with pytest.raises(DataError, match=r"1 of 4 rows of extra have no label"):
        len(create_dataset(f"{uri}?test=extra"))


def test_a_validation_split_beside_test_is_named(tmp_path):
    uri, pixels = saved(tmp_path / "pets", {"train": 10, "validation": 4, "test": 6})
    dataset = create_dataset(uri)
    check(dataset, {"train": pixels["train"], "test": pixels["test"]})
    assert any("the split validation is not used, test is the test part" in note for note in dataset.notes)


def test_a_training_split_that_is_not_used_is_named(tmp_path):
    uri, _ = saved(tmp_path / "d", {"train": 6, "validation": 6, "test": 6})
    notes = create_dataset(f"{uri}?train=validation").notes
    assert any("the split train is not used, validation is the training part" in note for note in notes)


def test_classes_that_the_splits_number_differently_are_matched_by_name(tmp_path):
    splits = {}
    for part, names in (("train", ["ant", "bee", "cat"]), ("test", ["ant", "cat"])):
        _, data = columns(6, labels=[i % len(names) for i in range(6)])
        of_own = features(**MORE)
        of_own["species"] = hf.ClassLabel(names=names)
        splits[part] = hf.Dataset.from_dict(data, features=of_own)
    hf.DatasetDict(splits).save_to_disk(str(tmp_path / "d"))
    dataset = create_dataset(f"hf:{tmp_path / 'd'}")
    assert dataset.class_names == ["ant", "bee", "cat"]
    test = dataset.samples.filter(dataset.samples["split"] == "test").sort("sample_id")
    assert test["label"].to_list() == [0, 2, 0, 2, 0, 2]
    assert any("they are matched by name" in note for note in dataset.notes)


def test_data_that_were_saved_as_arrays_are_read_as_others(tmp_path):
    uri, _ = saved(tmp_path / "d", {"train": 6, "test": 4})
    hf.load_from_disk(str(tmp_path / "d")).with_format("numpy").save_to_disk(str(tmp_path / "n"))
    plain, arrays = create_dataset(uri), create_dataset(f"hf:{tmp_path / 'n'}")
    assert arrays.samples.equals(plain.samples)
    assert np.array_equal(np.asarray(arrays.load(0)), np.asarray(plain.load(0)))


def test_columns_and_splits_that_must_be_named(tmp_path):
    _, data = columns(8)
    for more, message in [
        ({"mask": hf.Image()}, r"has 2 columns of type Image; name one with \?image=NAME\. .*picture \(Image\)"),
        ({"mood": hf.ClassLabel(names=["x", "y"])}, r"has 2 columns of type ClassLabel; name one with \?label=NAME"),
    ]:
        given = {**data, "mask": data["picture"], "mood": [1, 0] * 4}
        kept = features(**MORE, **more)
        folder = tmp_path / next(iter(more))
        hf.Dataset.from_dict({name: given[name] for name in kept}, features=kept).save_to_disk(str(folder))
        with pytest.raises(DataError, match=message):
            create_dataset(f"hf:{folder}")
    dataset = create_dataset(f"hf:{tmp_path / 'mood'}?label=mood")
    assert dataset.class_names == ["x", "y"] and dataset.uri.endswith("?label=mood")
    assert len(create_dataset(f"hf:{tmp_path / 'mask'}?image=mask")) == 8
    assert create_dataset(f"hf:{tmp_path / 'mood'}?label=patient").class_names == ["p0", "p1", "p2", "p3"]
    uri, _ = saved(tmp_path / "pets", {"one": 8, "two": 8})
    for bad, message in [
        (uri, r"has no split train; it has one \(8 rows\), two \(8 rows\)\. Write \?train=NAME&test=NAME"),
        (f"{uri}?train=three&test=two", "has no split 'three'"),
        (f"{uri}?train=one&test=one", "one is both parts"),
        (f"{uri}?column=x", "'column' is no option; write image="),
        (f"{uri}?train=one&test=two&label=x", r"has no column 'x'; its columns: picture \(Image\)"),
        (f"{uri}?train=one&test=two&image=age", "column 'age' of one is of no type Image"),
    ]:
        with pytest.raises(DataError, match=message):
            create_dataset(bad)
    assert len(create_dataset(f"{uri}?train=one&test=two")) == 16


def test_what_is_no_data_set(tmp_path):
    for bad, message in [
        ("hf:", "names no data set"),
        ("hf:a/b/c", "names no data set"),
        (f"hf:{tmp_path}", r"holds no data set that save_to_disk wrote .*write folder:"),
        (f"hf:{tmp_path / 'gone'}", "does not exist"),
    ]:
        with pytest.raises(DataError, match=message):
            create_dataset(bad)
    saved(tmp_path / "pets", {"train": 10, "test": 6})
    (tmp_path / "pets" / "train" / "state.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read"):
        create_dataset(f"hf:{tmp_path / 'pets'}")


# --- the cache of the hub, without a network


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The library's cache with two commits of org/PetFaces, as its own builder leaves them."""
    for name in ("SSL_RISK_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(hf.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hf.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    pixels = {}

    class Builder(hf.GeneratorBasedBuilder):
        def _info(self):
            return hf.DatasetInfo(features=features(**MORE))

        def _split_generators(self, _):
            return [hf.SplitGenerator(name, gen_kwargs={"name": name}) for name in ("train", "test")]

        def _generate_examples(self, name):
            x, data = columns(10 if name == "train" else 6)
            pixels[self.config.name, self.hash, name] = x
            for i in range(len(x)):
                yield i, {key: values[i] for key, values in data.items()}

    for config, commit in (("default", "f" * 40), ("default", COMMIT), ("small", COMMIT)):
        builder = Builder(
            cache_dir=str(tmp_path / "cache"), dataset_name="PetFaces", repo_id="org/PetFaces", config_name=config,
            hash=commit,
        )  # fmt: skip
        builder.download_and_prepare()
    return pixels


def test_without_a_network_the_cached_commit_is_used_and_said(cache):
    for commit in (COMMIT, "f" * 40):
        dataset = create_dataset(f"hf:org/PetFaces:default@{commit}")
        check(dataset, {part: cache["default", commit, part] for part in ("train", "test")})
        assert dataset.notes == [
            f"the hub was not asked: org/PetFaces:default@{commit} is read from the cache, commit {commit}"
        ]
    whole = create_dataset("hf:org/PetFaces:default")
    assert any("whether that is the latest one cannot be told" in note for note in whole.notes)
    short = create_dataset(f"hf:org/PetFaces:default@{COMMIT[:10]}")
    assert short.fingerprint() == create_dataset(f"hf:org/PetFaces:default@{COMMIT}").fingerprint()
    assert short.fingerprint() != create_dataset(f"hf:org/PetFaces:default@{'f' * 40}").fingerprint()


def test_what_the_cache_does_not_hold(cache):
    for bad, message in [
        (
            "hf:org/PetFaces",
            r"the cache has several configurations \(default@0123456789ab, default@ffffffffffff, small@",
        ),
        (
            "hf:org/PetFaces:default@abcdef0",
            "the cache .* has default@0123456789ab, default@ffffffffffff; load it once",
        ),
        ("hf:org/other", "the hub cannot be reached, and the cache .* has nothing of it; load it once with a network"),
    ]:
        with pytest.raises(DataError, match=message):
            create_dataset(bad)


def test_a_hub_that_cannot_be_reached_is_one_without_a_network(cache, monkeypatch):
    import huggingface_hub

    def fail(*_, **__):
        raise ConnectionError("no route")

    monkeypatch.setattr(hf.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", fail)
    assert len(create_dataset(f"hf:org/PetFaces:small@{COMMIT}")) == 16


def test_a_closed_door_is_a_hub_that_cannot_be_reached(cache, monkeypatch):
    """Whatever the hub's client raises: nothing is patched but the address."""
    from huggingface_hub import constants

    monkeypatch.setattr(hf.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert len(create_dataset(f"hf:org/PetFaces:small@{COMMIT}")) == 16
    with pytest.raises(DataError, match=r"the hub cannot be reached, and the cache .* has nothing of it"):
        create_dataset("hf:org/other")


def test_offline_the_hub_is_not_asked(cache, monkeypatch):
    import huggingface_hub

    asked = []
    monkeypatch.setattr(hf.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("SSL_RISK_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda *_, **__: asked.append(1))
    assert len(create_dataset(f"hf:org/PetFaces:small@{COMMIT}")) == 16 and asked == []
    with pytest.raises(DataError, match=r"nothing may be downloaded \(--offline\), and the cache .* has nothing of it"):
        create_dataset("hf:org/other")
    monkeypatch.delenv("SSL_RISK_OFFLINE")
    with pytest.raises(AttributeError, match="sha"):  # the guard can see that it is asked
        create_dataset(f"hf:org/PetFaces:small@{COMMIT}")
    assert asked


def test_a_missing_package_names_the_extra(tmp_path, monkeypatch):
    import sys

    uri, _ = saved(tmp_path / "pets", {"train": 10, "test": 6})
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"needs the package datasets, which .*: .*'ssl-risk-rs\[hf\]'"):
        create_dataset(uri)
