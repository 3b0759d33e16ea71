"""Which banks are used again: the same numbers under any spelling, and never those of an encoder that changed."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import polars as pl
import pytest
import timm
import torch
from PIL import Image
from ssl_risk_rs.bank import FeatureBank
from ssl_risk_rs.bank.store import FeatureStore, bank_key
from ssl_risk_rs.datasets import create_dataset
from ssl_risk_rs.decomposition.settings import Settings
from ssl_risk_rs.encoders import create_encoder
from ssl_risk_rs.encoders.catalogue import catalogue
from ssl_risk_rs.encoders.sources.published import published_files
from ssl_risk_rs.errors import DataError, ParameterError
from ssl_risk_rs.extraction import ExtractionSettings, ensure_bank, extract
from ssl_risk_rs.extraction.cached import request_of
from ssl_risk_rs.extraction.facts import samples_hash, transform_facts
from ssl_risk_rs.extraction.reuse import N_IMAGES, SameFeatures
from ssl_risk_rs.extraction.settings import Encoding
from ssl_risk_rs.extraction.shard import Shard
from ssl_risk_rs.results import Run
from ssl_risk_rs.workflow.evaluate import evaluate
from torch import nn

LIMIT = "2/class"
RNG = np.random.default_rng(0)

CODE = """
import numpy as np
import torch
from torch import nn
from pathlib import Path
from scale import SCALE

class Net(nn.Module):
    def forward(self, x):
        return x.flatten(1)[:, ::9] * SCALE * float(Path(__file__).with_name("factor.txt").read_text())

def transform(image):
    return torch.from_numpy(np.asarray(image.convert("L").resize((8, 8))).astype("float32"))[None] / 255

def make():
    return Net(), transform
"""


@pytest.fixture
def code(tmp_path):
    (tmp_path / "scale.py").write_text("SCALE = 2.0\n")
    (tmp_path / "factor.txt").write_text("1.0")
    (tmp_path / "mine.py").write_text(CODE)
    return tmp_path / "mine.py"


def bank_of(code, store, **options):
    return ensure_bank(f"{code}:make", "digits", store=store, limit=LIMIT, **options)


def test_a_changed_neighbour_of_the_users_file_gives_another_bank(code, tmp_path):
    first = bank_of(code, tmp_path / "s")
    assert first.header.code_files == ("mine.py", "scale.py")
    assert bank_of(code, tmp_path / "s").path == first.path
    code.with_name("scale.py").write_text("SCALE = 4.0\n")
    second = bank_of(code, tmp_path / "s")
    assert second.path != first.path
    np.testing.assert_allclose(second.read(np.arange(40)), 2 * first.read(np.arange(40)))
    code.with_name("scale.py").write_text("SCALE = 2.0\n")
    assert bank_of(code, tmp_path / "s").path == first.path  # and back


def test_what_no_key_can_know_is_found_by_comparing_features(code, tmp_path):
    first, said = bank_of(code, tmp_path / "s"), []
    code.with_name("factor.txt").write_text("3.0")  # a file that the forward pass reads
    second = bank_of(code, tmp_path / "s", say=said.append)
    assert second.path != first.path and second.complete
    np.testing.assert_allclose(second.read(np.arange(40)), 3 * first.read(np.arange(40)), rtol=2**-10)  # float16
    (sentence,) = (sentence for sentence in said if "gives other features now" in sentence)
    assert "Likely causes are dropout or random augmentation, features that depend on the batch" in sentence
    assert sentence.endswith(f"  ssl-risk-rs doctor model {code}:make")
    assert bank_of(code, tmp_path / "s").path == second.path
    code.with_name("factor.txt").write_text("1.0")
    assert bank_of(code, tmp_path / "s").path == first.path


def test_an_interrupted_bank_is_not_continued_with_other_features(code, tmp_path):
    encoder, dataset = create_encoder(f"{code}:make"), create_dataset("digits", limit=LIMIT)
    whole = extract(encoder, dataset, store=tmp_path / "s")["output"]
    rows, values = np.arange(10, dtype=np.uint64), whole.read(np.arange(10)).astype(np.float16)
    for path in whole.path.glob("extract*"):
        path.unlink()
    with FeatureBank.open(whole.path).writer("extract") as writer:
        writer.append(rows, values)
    code.with_name("factor.txt").write_text("3.0")
    other = extract(encoder, dataset, store=tmp_path / "s")["output"]
    assert other.path != whole.path and other.complete
    assert len(FeatureBank.open(whole.path).missing_rows()) == 30
    code.with_name("factor.txt").write_text("1.0")
    same = extract(encoder, dataset, store=tmp_path / "s")["output"]
    assert same.path == whole.path and same.complete


def test_a_slow_encoder_is_compared_on_two_images(tmp_path, monkeypatch):
    bank = ensure_bank("pixels:4?channels=1", "digits", store=tmp_path, limit=LIMIT)
    asked = []

    def encode(rows):
        asked.append(len(rows))
        return rows, {"output": bank.read(rows)}

    monkeypatch.setattr("ssl_risk_rs.extraction.reuse.SLOW", -1.0)
    assert SameFeatures(encode, "float32").difference("output", bank) is None and asked == [2]


def swap_weights(file: Path, name: str) -> None:
    """Replace a file of weights in place; the folder around it keeps its time."""
    from ssl_risk_rs.encoders.facts import bundled_path

    before = file.stat().st_mtime_ns if file.exists() else 0
    file.write_bytes(bundled_path(name).read_bytes())
    os.utime(file, ns=(before + 10**9, before + 10**9))


def test_new_weights_in_a_folder_give_another_bank(tmp_path):
    """A folder, and an index, were known by their own size and time."""
    folder = tmp_path / "saved"
    folder.mkdir()
    swap_weights(folder / "model.safetensors", "demo_ssl")
    index = folder / "m.index.json"
    index.write_text(json.dumps({"weight_map": {"any": "model.safetensors"}}))
    banks = {}
    for weights in ("demo_ssl", "demo_random"):
        swap_weights(folder / "model.safetensors", weights)
        for place in (folder, index):
            name = f"ckpt:{place}@tiny_convnet?mean=0.306&std=0.376&resize=8&interpolation=bilinear"
            banks[weights, place.name] = ensure_bank(name, "digits", store=tmp_path / "s", limit=LIMIT)
    hashes = {weights: bank.header.weights_hash for (weights, _), bank in banks.items()}
    assert len(set(hashes.values())) == 2
    for (weights, _), bank in banks.items():
        assert bank.header.weights_hash == hashes[weights]


def test_all_files_of_an_encoder_are_part_of_its_request(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images = create_dataset("digits", limit=LIMIT)
    (row,) = [row for row in catalogue().encoders.values() if len(row.files) == 2][:1]
    for kind, names in (("ckpt", ("a.pth", "b.pth")), ("registry", tuple(map(str, published_files(row.name))))):
        asked = f"ckpt:{','.join(names)}@{row.name}" if kind == "ckpt" else row.name
        seen = []
        for file in names:
            Path(file).parent.mkdir(parents=True, exist_ok=True)
            Path(file).write_bytes(b"1")
            seen.append(bank_key(request_of(asked, images, None, Encoding())))
        Path(names[0]).write_bytes(b"22")  # the first of two files changes
        seen.append(bank_key(request_of(asked, images, None, Encoding())))
        assert len(set(seen)) == 3, kind


@pytest.mark.parametrize(
    ("settings", "allowed"),
    [
        ({}, {"float32", "bfloat16", "float16"}),
        ({"device": "cpu"}, {"float32"}),
        ({"device": "cuda:1"}, {"bfloat16", "float16"}),
        ({"amp": "off"}, {"float32"}),
        ({"amp": "bf16", "device": "cpu"}, {"bfloat16"}),
        ({"amp": "fp16"}, {"float16"}),
    ],
)
def test_precisions_that_are_asked_for(settings, allowed):
    asked = ExtractionSettings(**settings)
    assert {p for p in ("float32", "bfloat16", "float16") if asked.allows(p)} == allowed
    assert asked.allows(None)  # a bank of another program


def test_a_bank_of_half_precision_does_not_answer_for_a_cpu(tmp_path, monkeypatch):
    """The device chooses the precision where none is named, and is no part of the request."""
    with monkeypatch.context() as patch:
        patch.setattr("ssl_risk_rs.extraction.job.choose_precision", lambda amp, device: "bfloat16")
        half = ensure_bank("demo_ssl", "digits", store=tmp_path, limit=LIMIT)
    assert half.header.precision == "bfloat16"
    assert ensure_bank("demo_ssl", "digits", store=tmp_path, limit=LIMIT).path == half.path  # any device will do
    settings = ExtractionSettings(device="cpu")
    full = ensure_bank("demo_ssl", "digits", store=tmp_path, limit=LIMIT, settings=settings)
    assert full.header.precision == "float32" and full.path != half.path
    assert ensure_bank("demo_ssl", "digits", store=tmp_path, limit=LIMIT, settings=settings).path == full.path


def test_another_spelling_of_a_path_finds_the_bank(tmp_path, monkeypatch):
    from ssl_risk_rs.encoders.facts import bundled_path

    real = tmp_path / "real"
    real.mkdir()
    file = real / "w.safetensors"
    file.write_bytes(bundled_path("demo_ssl").read_bytes())
    os.symlink(real, tmp_path / "link")
    (tmp_path / "copy.safetensors").write_bytes(file.read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    names = [file, "real/w.safetensors", tmp_path / "link/w.safetensors", "~/real/w.safetensors", "copy.safetensors"]
    banks = [ensure_bank(f"ckpt:{name}", "digits", store=tmp_path / "s", limit=LIMIT) for name in names]
    assert len({bank.path for bank in banks}) == 1
    assert Path(banks[0].header.encoder_spec["random_twin"].removeprefix("ckpt:")).is_absolute()


def test_a_run_is_named_as_it_was_asked_for_though_a_bank_of_copies_serves(tmp_path, monkeypatch):
    from ssl_risk_rs.encoders.facts import bundled_path
    from ssl_risk_rs.workflow.evaluate import evaluate

    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for data in ("one", "two"):
        Path(f"{data}.safetensors").write_bytes(bundled_path("demo_ssl").read_bytes())
    for part, count in (("train", 20), ("test", 5)):
        for label in "ab":
            folder = Path("one", part, label)
            folder.mkdir(parents=True)
            for i in range(count):
                Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    shutil.copytree("one", "two")  # sizes and times too
    runs, said = [], []
    for name in ("one", "two"):
        model, data = f"ckpt:{name}.safetensors", f"folder:{tmp_path / name}"
        run, _ = evaluate(model, data, probes=("ridge",), control="none", store=tmp_path / "s", say=said.append)
        runs.append(run.provenance)
    assert [(r.encoder, r.data) for r in runs] == [(f"ckpt:{n}.safetensors", n) for n in ("one", "two")]
    assert runs[0].banks["encoder"].path == runs[1].banks["encoder"].path
    assert sum("it is used" in sentence for sentence in said) == 1 and f"folder:{tmp_path / 'one'}" in said[-1]


def test_a_run_tells_which_copy_of_an_encoder_it_judged_and_what_was_guessed(tmp_path, monkeypatch):
    """So does one that finds the features in the store."""
    from ssl_risk_rs.workflow.evaluate import evaluate

    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    weights = timm.create_model("test_resnet", num_classes=0).state_dict()
    torch.save({"model": weights, "model_ema": {name: w + 0 for name, w in weights.items()}}, "w.pth")
    encoding = Encoding(img_size=32, limit="6/class")
    for out in ("first", "again"):
        asked = {"probes": ("ridge",), "control": "none", "encoding": encoding, "store": tmp_path / "s"}
        folder = evaluate("ckpt:w.pth@test_resnet", "digits", **asked)[0].save(out)
        matched, guessed = Run.load(folder).provenance.banks["encoder"].encoder_notes
        assert "under model" in matched and "another copy under model_ema" in matched
        assert "does not say how its images were prepared" in guessed


def test_options_of_an_architecture_are_told_apart(tmp_path):
    kwargs = dict(store=tmp_path, limit="1/class", img_size=32)
    plain = ensure_bank("random:resnet10t", "digits", **kwargs)
    other = ensure_bank("random:resnet10t?output_stride=8", "digits", **kwargs)
    assert plain.path != other.path and plain.header.weights_hash == other.header.weights_hash


def test_what_is_asked_for_is_told_apart(tmp_path):
    """A request that is found again leads to its bank without a look at encoder or images."""
    uri, weights = write(tmp_path / "d", n=1) + "?group=parent", tmp_path / "w.pth"
    weights.write_bytes(b"weights")
    os.utime(weights, ns=(0, 0))

    def asked(layer=None, limit=None, group=None, model=f"ckpt:{weights}@resnet18", **encoding):
        dataset = create_dataset(uri, limit=limit, group=group)
        return bank_key(request_of(model, dataset, layer, Encoding(**encoding)))

    settings = ExtractionSettings(amp="bf16")
    keys = [
        asked(), asked("layer3"), asked(pool="avgpool"), asked(img_size=96), asked(settings=settings),
        asked(limit="1/class"), asked(limit="1/class", group="group"), asked(model=f"ckpt:{weights}@resnet34"),
    ]  # fmt: skip
    os.utime(weights, ns=(0, 500_000_000))
    keys.append(asked())
    weights.write_bytes(b"more weights")
    os.utime(weights, ns=(0, 0))
    assert len({*keys, asked()}) == len(keys) + 1


def test_what_prepares_images_and_names_rows_is_among_the_facts():
    encoder, dataset = create_encoder("demo_ssl"), create_dataset("digits", limit="1/class")
    changes = {"img_size": 9, "resize": 9, "interpolation": "bicubic", "mean": (0.1,), "std": (0.9,), "channels": 3}
    others = [replace(encoder, spec=replace(encoder.spec, **{name: value})) for name, value in changes.items()]
    assert len({bank_key(transform_facts(one)) for one in (encoder, *others)}) == 7

    def rows(names=dataset.class_names, **columns):
        return samples_hash(SimpleNamespace(class_names=names, samples=dataset.samples.with_columns(**columns)))

    patients = [pl.Series([f"p{i % n}" for i in range(20)]) for n in (2, 3)]
    found = [rows(), rows([*"abcdefghij"]), *(rows(patient=p) for p in patients), rows(site=patients[0])]
    found += [rows(label=pl.col("label").reverse()), rows(split=pl.col("split").reverse())]
    assert len(set(found)) == 7


# --- what a bank records


def write(root, n=4, repeat=False):
    rng = np.random.default_rng(0)
    for part in ("train", "test"):
        for name in ("ant", "bee"):
            for patient in ("p1", "p2"):
                folder = root / part / name / patient
                folder.mkdir(parents=True)
                for i in range(n):
                    Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    if repeat:
        (root / "test/bee/p2/0.png").write_bytes((root / "train/ant/p1/1.png").read_bytes())
    return f"folder:{root}"


def test_the_header_and_the_samples_hold_identity_groups_and_overlap(tmp_path):
    said = []
    uri = write(tmp_path / "d", repeat=True)
    bank = ensure_bank("pixels:2", f"{uri}?group=parent", store=tmp_path / "s", say=said.append)
    where = [str(tmp_path / "d/test/bee/p2/0.png"), str(tmp_path / "d/train/ant/p1/1.png")]
    assert bank.header.overlap == {"test_images_in_train": 1, "training_images_repeated": 0, "examples": [where]}
    assert any("1 image of the test part" in s and where[0] in s for s in said)
    assert (bank.header.data_id, bank.header.data_identity) == (None, {"name": "d", "kind": None})
    assert set(bank.samples["group"]) == {"p1", "p2"} and bank.samples.columns[-1] == "group"
    assert bank.header.exif_orientation is False and bank.header.pixels_version >= 2
    plain = ensure_bank("pixels:2", uri, store=tmp_path / "s")
    assert plain.path != bank.path and "group" not in plain.samples.columns
    digits = ensure_bank("demo_ssl", "digits", store=tmp_path / "s", limit=LIMIT)
    assert (digits.header.data_id, digits.header.pretraining_id) == ("digits", "digits")
    assert digits.header.overlap["test_images_in_train"] == 0


def test_names_that_older_releases_prepared_otherwise_are_asked_for_anew(tmp_path):
    """`timm:resnet50` was: its bank is found by its key, if at all, not by what was typed."""
    images = create_dataset(write(tmp_path / "d"))
    for name, marked in (("timm:resnet10t", True), ("ckpt:w.pth@resnet10t", True), ("random:resnet10t", False)):
        assert ("prepared" in request_of(name, images, None, Encoding())) is marked
    distilled = request_of("timm:deit_tiny_distilled_patch16_224", images, None, Encoding())
    assert distilled["prepared"] != request_of("timm:resnet10t", images, None, Encoding())["prepared"]


def test_copies_that_a_run_refuses_are_refused_before_an_image_is_encoded(tmp_path):
    """All images were encoded first, and again once the copy was removed."""
    uri, store = write(tmp_path / "d", repeat=True), tmp_path / "s"
    options = {"probes": "ridge", "control": "none", "store": store}
    with pytest.raises(ParameterError, match=r"1 test image is also a training image.*Remove it.*--overlap warn"):
        evaluate("pixels:2", uri, **options)
    assert not [bank for bank in FeatureStore(store).banks() if bank.n_rows]
    run, failed = evaluate("pixels:2", uri, **options, settings=Settings(overlap="warn"))
    assert failed is None and [n.values["count"] for n in run.main.notes if n.code == "overlap"] == [1]


def test_limits_by_group_are_another_bank(tmp_path):
    uri = write(tmp_path / "d", n=4) + "?group=parent"
    rows = ensure_bank("pixels:2", uri, store=tmp_path / "s", limit="6/class")
    groups = ensure_bank("pixels:2", uri, store=tmp_path / "s", limit="6/class", group="group")
    assert (rows.n_rows, groups.n_rows) == (24, 16) and groups.header.limit_group == "group"


def test_exif_orientation_is_counted_and_can_be_applied(tmp_path):
    uri = write(tmp_path / "d", n=1)
    exif = Image.Exif()
    exif[0x0112] = 6
    half = np.zeros((16, 16), np.uint8)
    half[:, 8:] = 255
    for path in (tmp_path / "d" / "train").rglob("*.png"):
        Image.fromarray(half).save(path.with_suffix(".jpg"), exif=exif)
        path.unlink()
    said: list[str] = []
    plain = ensure_bank("pixels:2?channels=1", uri, store=tmp_path / "s", say=said.append)
    assert any("4 images ask for another orientation" in s and "--exif-orientation" in s for s in said)
    settings = ExtractionSettings(exif_orientation=True)
    turned = ensure_bank("pixels:2?channels=1", uri, store=tmp_path / "s", settings=settings)
    assert turned.path != plain.path and turned.header.exif_orientation is True
    np.testing.assert_allclose(plain.read([0])[0], [0, 1, 0, 1], atol=0.02)  # JPEG at Pillow's usual quality
    np.testing.assert_allclose(turned.read([0])[0], [0, 0, 1, 1], atol=0.02)


def test_a_dangling_link_and_a_bad_range_are_left_out_and_counted(tmp_path):
    uri = write(tmp_path / "d", n=2)
    os.symlink(tmp_path / "gone", tmp_path / "d/train/ant/p1/z.png")
    Image.fromarray(np.full((4, 4), 700, np.float32)).save(tmp_path / "d/train/bee/p1/z.tif")
    said: list[str] = []
    settings = ExtractionSettings(skip_corrupt=True)
    bank = ensure_bank("pixels:2", uri, store=tmp_path / "s", settings=settings, say=said.append)
    assert bank.n_rows == 16 and "left out, since they cannot be decoded: 2 images" in said
    reasons = {Path(entry.where).name: entry.reason for entry in bank.header.excluded}
    assert "FileNotFoundError" in reasons["z.png"]
    assert reasons["z.tif"].startswith("it has floating-point pixels from 700 to 700")


def test_data_commands_list_repeats_and_groups(tmp_path):
    from click.testing import CliRunner
    from ssl_risk_rs.cli import main

    uri = write(tmp_path / "d", repeat=True)
    checked = CliRunner().invoke(main, ["data", "check", uri, "--format", "json"])
    (found,) = [entry for entry in json.loads(checked.stdout) if entry["check"] == "duplicates"]
    assert checked.exit_code == 1 and found["examples"][0].endswith("test/bee/p2/0.png")
    assert "train/ant/p1/1.png = " in found["examples"][0]
    args = ["data", "show", f"{uri}?group=parent", "--group", "group", "--format", "json"]
    (row,) = json.loads(CliRunner().invoke(main, args).stdout)
    assert (row["groups"], row["groups_on_both_sides"], row["identity"]) == (2, 2, "unknown")
    wrong = CliRunner().invoke(main, ["data", "show", uri, "--group", "patient"])
    assert wrong.exit_code == 1 and "no column 'patient'" in wrong.stderr


def test_a_changed_encoder_chooses_its_dtype_anew(code, tmp_path):
    first = bank_of(code, tmp_path / "s")
    code.with_name("factor.txt").write_text("1e6")  # beyond float16
    second = bank_of(code, tmp_path / "s")
    assert (first.dtype, second.dtype) == ("float16", "float32")
    assert bank_of(code, tmp_path / "s").path == second.path
    code.with_name("factor.txt").write_text("1.0")
    assert bank_of(code, tmp_path / "s").path == first.path


def stored(values):
    """A complete bank of these features, as far as the comparison asks."""
    values = np.asarray(values, np.float32)
    return SimpleNamespace(
        n_rows=len(values),
        dtype="float32",
        complete=True,
        missing_rows=lambda: np.array([], np.uint64),
        read=lambda rows: values[rows.astype(int)],
    )


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (lambda x: x, True),
        (lambda x: x * 1.001, True),  # what another device may do
        (lambda x: x * 1.1, False),
        (lambda x: x[:, ::-1], False),
        (lambda x: x + 1, False),
        (lambda x: np.zeros_like(x), False),
        (lambda x: x[:, :2], False),
    ],
)
def test_differences_are_judged_by_the_spread_of_the_features(change, same):
    values = RNG.normal(size=(20, 3)).astype(np.float32)
    assert (difference(values, change(values)) is None) == same


def test_an_offset_does_not_hide_a_difference():
    values = (100 + 0.1 * RNG.normal(size=(20, 3))).astype(np.float32)
    assert difference(values, values + 0.05) > 0.1  # half a standard deviation, and 5e-4 of the values
    ones = np.ones((20, 3), np.float32)  # no spread: the values' own size
    assert difference(ones, ones * 1.001) is None and difference(ones, ones * 1.1) == pytest.approx(0.1, rel=1e-5)


def difference(before, now):
    compare = SameFeatures(lambda rows: (rows, {"f": now[rows.astype(int)]}), "float32")
    return compare.difference("f", stored(before))


def test_features_that_are_all_zero_are_compared_too():
    zero = np.zeros((4, 2), np.float32)
    assert difference(zero, zero) is None and difference(zero, zero + 1e-3) == np.inf


def test_the_files_are_read_once_for_their_hash(tmp_path, monkeypatch):
    from ssl_risk_rs.datasets import ImageDataset

    asked, real = [], ImageDataset.fingerprint
    monkeypatch.setattr(ImageDataset, "fingerprint", lambda self, *args: asked.append(args) or real(self, *args))
    dataset = create_dataset(write(tmp_path / "d"))
    extract(create_encoder("pixels:2"), dataset, store=tmp_path / "s", hash_content=True, skip_corrupt=True)
    assert asked.count((True,)) == 1  # others ask for sizes and times


def test_a_store_that_cannot_be_written_to_gives_its_banks(tmp_path, monkeypatch):
    first = ensure_bank("pixels:2", "digits", store=tmp_path, limit="2/class")
    shutil.rmtree(tmp_path / "requests")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", str(tmp_path / "requests"))

    monkeypatch.setattr(FeatureStore, "remember", refuse)
    said: list[str] = []
    again = ensure_bank("pixels:2", "digits", store=tmp_path, limit="2/class", say=said.append)
    assert again.path == first.path
    assert f"{tmp_path} cannot be written to (Permission denied): the next run has to build pixels:2" in said[-1]


class Noisy(nn.Module):
    """As with dropout that evaluation mode does not turn off."""

    def forward(self, x):
        return x.flatten(1)[:, ::9] + 0.3 * torch.rand(len(x), 22)


class Centred(nn.Module):
    """Features that depend on the other images of a batch."""

    def forward(self, x):
        flat = x.flatten(1)[:, ::9]
        return (flat - flat.mean(0)) / (flat.std(0) + 0.01)


@pytest.mark.parametrize(("module", "differs"), [(Noisy(), True), (Centred(), True), (nn.Flatten(), False)])
@pytest.mark.parametrize("shard", [None, Shard(0, 2)])
def test_features_of_one_draw_are_told_at_once(tmp_path, module, differs, shard):
    said = []
    encoder = create_encoder(module, img_size=8, name="mine")
    extract(encoder, create_dataset("digits", limit=LIMIT), store=tmp_path, shard=shard, say=said.append)
    found = [sentence for sentence in said if "when the same images are encoded again" in sentence]
    assert len(found) == differs
    if differs:
        assert found[0].startswith("Feature 'output' of mine differs when")
        assert "Likely causes are dropout or random augmentation" in found[0]


class Collapsed(nn.Module):
    """Features that vary by a hundred-thousandth of their size; batches of other sizes are rounded otherwise."""

    def forward(self, x):
        flat = x.flatten(1)[:, ::9]
        noise = 2e-7 * (len(x) % 7)
        return 1 + 1e-5 * flat + noise


def test_rounding_of_features_that_hardly_vary_is_no_difference(tmp_path):
    said = []
    encoder = create_encoder(Collapsed(), img_size=8, name="mine")
    extract(encoder, create_dataset("digits", limit=LIMIT), store=tmp_path, dtype="float32", say=said.append)
    assert not any("encoded again" in sentence for sentence in said)


def test_all_features_are_encoded_again_together(tmp_path):
    class Two(nn.Module):
        seen: ClassVar[list[int]] = []  # of every copy

        def forward(self, x):
            self.seen.append(len(x))
            return {"a": x.flatten(1), "b": x.flatten(1)[:, :9]}

    dataset = create_dataset("digits", limit=LIMIT)
    for say, more in ((print, N_IMAGES), (None, 0)):  # nobody would hear of it
        encoder = create_encoder(Two(), img_size=8, name="mine")
        Two.seen.clear()
        extract(encoder, dataset, store=tmp_path / str(more), features=["a", "b"], dtype="float32", say=say)
        assert sum(Two.seen) == len(dataset) + more


@pytest.mark.parametrize("hashes", [False, True])
def test_images_that_change_while_they_are_encoded_are_no_bank(tmp_path, hashes):
    """Put back as they were, with their times, they would be taken for those of the bank."""
    for part in ("train", "val"):
        for i in range(8):
            (tmp_path / "imgs" / part / f"c{i % 2}").mkdir(parents=True, exist_ok=True)
            pixels = np.full((8, 8, 3), 20 * i, np.uint8)
            Image.fromarray(pixels).save(tmp_path / "imgs" / part / f"c{i % 2}" / f"{i}.png")
    last = tmp_path / "imgs" / "val" / "c1" / "7.png"
    content, times = last.read_bytes(), (last.stat().st_atime_ns, last.stat().st_mtime_ns)

    state = {"changes": False}

    class Changing(nn.Module):
        def forward(self, x):
            if state.pop("changes", False):  # not while the encoder is looked at
                black = tmp_path / "black.png"
                Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(black)
                black.replace(last)
            return x.flatten(1)[:, :6]

    encoder = create_encoder(Changing(), img_size=8, name="changing")
    settings = ExtractionSettings(batch_size=4, workers=1, hash_content=hashes)

    def banks():
        return extract(encoder, create_dataset(f"folder:{tmp_path / 'imgs'}"), store=tmp_path / "s", settings=settings)

    state["changes"] = True
    with pytest.raises(DataError, match=r"changed while they were encoded.*are not kept. Run again once nobody writes"):
        banks()
    assert not list((tmp_path / "s").glob("*/bank.json"))
    last.write_bytes(content)
    os.utime(last, ns=times)
    (bank,) = banks().values()
    x = bank.read(np.arange(16))
    np.testing.assert_array_equal(x[:8], x[8:])  # the last of them is no black image
