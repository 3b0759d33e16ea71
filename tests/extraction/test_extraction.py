"""Extraction: what is in a bank is what the encoder gives, each row once, whatever happens on the way."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from local_encoder import (
    WAIT,
    LocalEncoder,
    Spec,
    Spike,
    TwoFeatures,
    direct,
    numbered_data,
    spiky_data,
    start,
    to_tensor,
    wait_for_rows,
)
from PIL import Image
from ssl_risk_rs.bank import FeatureBank
from ssl_risk_rs.datasets import create_dataset
from ssl_risk_rs.encoders import create_encoder, describe_encoder
from ssl_risk_rs.encoders.transforms import Preprocess
from ssl_risk_rs.errors import BankError, DataError, EncoderError, ParameterError
from ssl_risk_rs.extraction import Shard, decoding, extract
from ssl_risk_rs.extraction.forward import Forward, choose_device, choose_precision
from ssl_risk_rs.extraction.job import N_PROBE
from ssl_risk_rs.extraction.reuse import N_IMAGES
from ssl_risk_rs.extraction.settings import ExtractionSettings
from torch import nn
from torchvision.transforms import functional as F

RNG = np.random.default_rng(0)
CPU = torch.device("cpu")


def write_images(root: Path, n: int = 10, corrupt: tuple[str, ...] = ()) -> list[str]:
    """Class folders ant and bee with n train and n // 2 test images each; returns the paths spoilt."""
    for part, count in (("train", n), ("test", n // 2)):
        for name in ("ant", "bee"):
            (root / part / name).mkdir(parents=True, exist_ok=True)
            for i in range(count):
                pixels = RNG.integers(0, 256, (9, 12, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{i:03}.png")
    for name in corrupt:
        data = (root / name).read_bytes()
        (root / name).write_bytes(data[: len(data) // 2])
    return [str(root / name) for name in corrupt]


# --- decoding


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("chunk", [1, 7, 40, 100])
def test_decode_gives_each_row_once_in_order(workers, chunk):
    dataset = create_dataset("digits", limit="2/class")
    rows = np.array([3, 1, 4, 15, 9, 26, 5, 35, 8, 39], dtype=np.uint64)
    decoder = decoding.Decoder(dataset, to_tensor, rows, chunk)
    chunks = list(decoding.decode(decoder, workers))
    assert np.concatenate([c.rows for c in chunks]).tolist() == rows.tolist()
    images = torch.cat([c.images for c in chunks])
    assert torch.equal(images, torch.stack([to_tensor(dataset.load(int(row))) for row in rows]))


def test_decode_of_nothing():
    decoder = decoding.Decoder(create_dataset("digits"), to_tensor, np.array([], dtype=np.uint64))
    assert [list(decoding.decode(decoder, workers)) for workers in (0, 2)] == [[], []]


def test_decode_in_processes_agrees_with_threads(monkeypatch, tmp_path):
    write_images(tmp_path, corrupt=("train/ant/003.png",))
    dataset = create_dataset(f"folder:{tmp_path}")
    decoder = decoding.Decoder(dataset, to_tensor, np.arange(30, dtype=np.uint64), 4)
    threads = list(decoding.decode(decoder, 2))
    monkeypatch.setattr(decoding, "MIN_PROCESSES", 2)
    monkeypatch.setattr(decoding, "MIN_IMAGES_EACH", 1)
    stream = decoding.decode(decoder, 2, chunk_bytes=1000)
    assert stream.__name__ == "_in_processes"
    for a, b in zip(threads, stream, strict=True):
        assert a.rows.tolist() == b.rows.tolist() and torch.equal(a.images, b.images)
        assert a.corrupt == b.corrupt
    tiny = SimpleNamespace(free=10)
    monkeypatch.setattr(decoding.shutil, "disk_usage", lambda path: tiny)
    assert decoding.decode(decoder, 2, chunk_bytes=1000).__name__ == "_in_threads"  # no shared memory


def test_closing_a_stream_early_ends_its_processes():
    import multiprocessing

    decoder = decoding.Decoder(create_dataset("digits"), to_tensor, np.arange(1797, dtype=np.uint64), 8)
    stream = decoding._in_processes(decoder, 2)
    next(stream)
    assert len(multiprocessing.active_children()) == 2
    stream.close()
    assert not multiprocessing.active_children()


def test_closing_a_stream_early_ends_its_threads():
    decoder = decoding.Decoder(create_dataset("digits"), to_tensor, np.arange(1797, dtype=np.uint64), 8)
    stream = decoding.decode(decoder, 3)
    next(stream)
    stream.close()
    import threading

    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_failing_transform_names_the_image(tmp_path):
    write_images(tmp_path)
    dataset = create_dataset(f"folder:{tmp_path}")
    decoder = decoding.Decoder(dataset, lambda image: 1 / 0, np.arange(3, dtype=np.uint64))
    with pytest.raises(EncoderError, match=r"transform fails on .*train/ant/000.png: division"):
        list(decoding.decode(decoder, 2))


def test_find_corrupt(tmp_path):
    spoilt = write_images(tmp_path, corrupt=("test/bee/001.png", "train/ant/004.png"))
    (tmp_path / "train/bee/000.png").write_bytes(b"")
    rows = []
    corrupt = decoding.find_corrupt(create_dataset(f"folder:{tmp_path}"), workers=2, progress=rows.append)
    assert {image.where for image in corrupt} == {*spoilt, str(tmp_path / "train/bee/000.png")}
    assert all(image.reason for image in corrupt) and rows[-1] == 30


# --- forward


def test_out_of_memory_halves_the_batch_and_loses_no_image():
    class Hungry(TwoFeatures):
        def forward(self, images):
            if len(images) > 5:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return super().forward(images)

    encoder = LocalEncoder(Hungry())
    forward = Forward(encoder.module, ("deep", "shallow"), device=CPU, precision="float32", batch_size=37)
    images = torch.rand(37, 1, 8, 8)
    out = forward([images[:30], images[30:]]).arrays()
    assert forward.batch_size == 4 and forward.back_offs == 3  # 37 → 18 → 9 → 4
    assert encoder.module.seen == [4] * 9 + [1]
    with torch.inference_mode():
        expected = TwoFeatures().eval()(images)
    for name in ("deep", "shallow"):
        np.testing.assert_allclose(out[name], expected[name].numpy(), rtol=1e-5, atol=1e-6)
    forward([images])
    assert forward.back_offs == 3  # the size found is kept


def test_out_of_memory_with_one_image_says_what_to_do():
    class Huge(nn.Module):
        def forward(self, images):
            return {"deep": torch.empty(10**15)}  # the CPU allocator's own error

    forward = Forward(Huge(), ("deep",), device=CPU, precision="float32", batch_size=4)
    with pytest.raises(EncoderError, match=r"one image of \(1, 8, 8\) does not fit.*--img-size"):
        forward([torch.rand(4, 1, 8, 8)])


def test_other_runtime_errors_are_not_taken_for_memory():
    forward = Forward(TwoFeatures(), ("deep",), device=CPU, precision="float32")
    with pytest.raises(EncoderError, match=r"fails on a batch of 4 images: .*shapes cannot be multiplied"):
        forward([torch.rand(4, 1, 7, 7)])


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (lambda x: {"other": x.flatten(1)}, "gives other, not the feature 'deep'"),
        (lambda x: {"deep": x}, r"shape \(3, 1, 8, 8\)"),
        (lambda x: {"deep": x.flatten(1)[:2]}, r"feature 'deep' of 3 images"),
    ],
)
def test_outputs_that_are_no_features(out, message):
    module = nn.Module()
    module.forward = out
    with pytest.raises(EncoderError, match=message):
        Forward(module, ("deep",), device=CPU, precision="float32")([torch.rand(3, 1, 8, 8)])


def test_device_and_precision_choices():
    assert choose_device("cpu") == CPU and choose_precision("auto", CPU) == "float32"
    assert choose_precision("bf16", CPU) == "bfloat16" and choose_precision("off", CPU) == "float32"
    with pytest.raises(ParameterError, match="needs a GPU"):
        choose_precision("fp16", CPU)
    with pytest.raises(ParameterError, match="unknown to torch"):
        choose_device("gpu please")
    if not torch.cuda.is_available():
        assert choose_device("auto") == CPU
        with pytest.raises(ParameterError, match=r"sees no CUDA device.*--device cpu"):
            choose_device("cuda")


@pytest.mark.parametrize(
    "bad", [{"amp": "half"}, {"dtype": "bfloat16"}, {"batch_size": 0}, {"workers": -1}, {"workers": "many"}]
)
def test_settings_out_of_range(bad):
    with pytest.raises(ParameterError, match=next(iter(bad))):
        ExtractionSettings(**bad)


@pytest.mark.gpu
def test_forward_on_cuda_agrees_with_cpu():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    images = torch.rand(33, 1, 8, 8)
    cpu = Forward(TwoFeatures(), ("deep",), device=CPU, precision="float32")([images]).arrays()["deep"]
    cuda = torch.device("cuda")
    for precision, tolerance in (("float32", 1e-4), ("bfloat16", 0.05)):  # bf16: 8 bits of mantissa
        forward = Forward(TwoFeatures(), ("deep",), device=cuda, precision=precision, batch_size=10)
        got = forward([images[:20], images[20:]]).arrays()["deep"]
        np.testing.assert_allclose(got, cpu, rtol=tolerance, atol=tolerance)


def test_pixels_stay_bytes_until_they_are_on_the_device(tmp_path):
    dataset, encoder = create_dataset("digits"), create_encoder("random:vit_tiny_patch16_224?depth=1")
    rows = np.arange(40, dtype=np.uint64)
    (chunk,) = decoding.decode(decoding.Decoder(dataset, encoder.transform, rows, 40), 0)
    assert chunk.images.dtype == torch.uint8 and chunk.images.shape == (40, 224, 224, 3)
    floats = torch.stack([encoder.transform(dataset.picture(row).image) for row in range(40)])
    assert torch.equal(encoder.transform.normalize(chunk.images), floats)
    options = {"device": CPU, "precision": "float32", "normalize": encoder.transform.normalize}
    forward = Forward(encoder.module, encoder.spec.features[:1], **options)
    (ours,), (theirs,) = (forward([images]).arrays().values() for images in (chunk.images, floats))
    np.testing.assert_array_equal(ours, theirs)


def test_a_transform_of_the_users_own_is_not_taken_apart():
    from ssl_risk_rs.encoders.byte_transform import in_two_steps

    class LooksLikeIt:
        pixels, normalize = 224, staticmethod(lambda x: x)

        def __call__(self, image):
            return to_tensor(image)

    class Changed(Preprocess):
        def __call__(self, image):
            return super().__call__(image) * 2

    spec = describe_encoder("random:resnet18")
    assert in_two_steps(Preprocess(spec)) is not None
    for transform in (LooksLikeIt(), Changed(spec), to_tensor):
        assert in_two_steps(transform) is None
        decoder = decoding.Decoder(create_dataset("digits"), transform, np.arange(2, dtype=np.uint64), 2)
        (chunk,) = decoding.decode(decoder, 0)
        assert chunk.images.dtype == torch.float32


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "RGBA"])
def test_pixels_of_one_channel_are_normalized_like_others(mode):
    spec = replace(
        describe_encoder("random:resnet18"),
        channels=1,
        mean=(0.3,),
        std=(0.2,),
        img_size=24,
        resize=30,
        interpolation="bilinear",
    )
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)).convert(mode)
    ours = Preprocess(spec)
    assert ours.pixels(image).shape == (24, 24, 1)
    grey = F.center_crop(F.resize(image.convert("L"), [30]), [24, 24])
    assert torch.equal(ours(image), F.normalize(F.to_tensor(grey), [0.3], [0.2]))


def every_byte() -> torch.Tensor:
    """Every value in every channel."""
    return torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1).repeat(1, 1, 1, 3)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize(
    ("mean", "std"),
    [
        ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
        ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    ],
)
def test_bytes_are_normalized_as_torchvision_does_on_every_device(device, mean, std):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    spec = replace(describe_encoder("random:resnet18"), mean=mean, std=std)
    pixels = every_byte()
    ours = Preprocess(spec).normalize(pixels.to(device)).cpu()
    image = Image.fromarray(pixels[0].numpy())
    assert torch.equal(ours[0], F.normalize(F.to_tensor(image), list(mean), list(std)))


# --- extract


def test_features_agree_with_a_direct_forward_pass(tmp_path):
    dataset, seen = create_dataset("digits"), []
    encoder = LocalEncoder()
    encoder.module.train()  # must not matter
    banks = extract(encoder, dataset, store=tmp_path, features=["deep", "shallow"], progress=seen.append)
    expected = direct(LocalEncoder(), dataset)
    for name, bank in banks.items():
        assert bank.complete and bank.dtype == "float16"
        # float16 keeps 11 bits
        np.testing.assert_allclose(bank.read(np.arange(1797)), expected[name], rtol=2**-11, atol=1e-6)
        assert bank.labels().tolist() == dataset.samples["label"].to_list()
        assert bank.samples.equals(dataset.samples)
        assert list(bank.header.class_names) == dataset.class_names
        assert (bank.header.encoder, bank.header.feature) == ("two-features", name)
        assert bank.header.precision == "float32" and bank.header.licence == "MIT"
        assert bank.header.versions["torch"] and bank.header.key == bank.path.name
    assert list(dict.fromkeys(p.stage for p in seen)) == ["compare", "encode"]
    seen = [p for p in seen if p.stage == "encode"]
    assert [p.done for p in seen] == sorted(p.done for p in seen)
    assert seen[-1].done == seen[-1].total == 1797 and seen[-1].rate > 0


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("batch_size", [1, 7, 33, 10_000])
def test_awkward_batches_give_the_same_bank(tmp_path, workers, batch_size):
    dataset = create_dataset("digits", limit="2/class")
    bank = extract(LocalEncoder(), dataset, store=tmp_path, workers=workers, batch_size=batch_size, dtype="float32")[
        "deep"
    ]
    expected = direct(LocalEncoder(), dataset)["deep"]
    np.testing.assert_allclose(bank.read(np.arange(40)), expected, rtol=1e-5, atol=1e-6)


def test_second_extract_encodes_nothing(tmp_path):
    dataset, encoder = create_dataset("digits", limit="1/class"), LocalEncoder()
    first = extract(encoder, dataset, store=tmp_path)["deep"]
    encoder.module.seen.clear()
    assert extract(encoder, dataset, store=tmp_path)["deep"].path == first.path
    assert sum(encoder.module.seen) <= N_IMAGES  # the comparison


def test_a_second_feature_is_added_without_touching_the_first(tmp_path):
    dataset = create_dataset("digits", limit="1/class")
    deep = extract(LocalEncoder(), dataset, store=tmp_path)["deep"]
    before = {p.name: p.stat().st_mtime_ns for p in deep.path.iterdir()}
    both = extract(LocalEncoder(), dataset, store=tmp_path, features=["shallow", "deep"])
    assert list(both) == ["shallow", "deep"] and both["deep"].path == deep.path
    assert {p.name: p.stat().st_mtime_ns for p in deep.path.iterdir()} == before


class OtherWeights(TwoFeatures):
    def __init__(self):
        super().__init__()
        self.first.weight.data[0, 0] += 1e-4  # too little for eight images to tell


def test_what_changes_the_numbers_changes_the_bank(tmp_path):
    dataset = create_dataset("digits", limit="1/class")
    variants = [
        (LocalEncoder(), dataset, {}),
        (LocalEncoder(OtherWeights()), dataset, {}),
        (LocalEncoder(spec=replace(Spec(), mean=(0.5,))), dataset, {}),
        (LocalEncoder(), create_dataset("digits", limit="2/class"), {}),
        (LocalEncoder(), dataset, {"amp": "bf16"}),
        (LocalEncoder(), dataset, {"dtype": "float32"}),
    ]
    paths = [extract(e, d, store=tmp_path, **options)["deep"].path for e, d, options in variants]
    assert len(set(paths)) == len(variants)
    same = extract(LocalEncoder(), dataset, store=tmp_path, batch_size=3, workers=0, device="cpu")["deep"]
    assert same.path == paths[0]  # how fast is no matter; a complete bank in float16 stands for auto


def test_bf16_is_close_to_float32(tmp_path):
    dataset = create_dataset("digits", limit="2/class")
    bank = extract(LocalEncoder(), dataset, store=tmp_path, amp="bf16")["deep"]
    expected = direct(LocalEncoder(), dataset)["deep"]
    error = np.abs(bank.read(np.arange(40)) - expected).max()
    assert 0 < error < 0.05 and bank.header.precision == "bfloat16"  # 8 bits of mantissa


def test_unknown_feature_is_named(tmp_path):
    with pytest.raises(EncoderError, match="no feature 'wide'; it offers deep, shallow"):
        extract(LocalEncoder(), create_dataset("digits"), store=tmp_path, features=["wide"])
    with pytest.raises(ParameterError, match="no features"):
        extract(LocalEncoder(), create_dataset("digits"), store=tmp_path, features=[])


# --- the stored dtype


#: a row of `spiky_data` that the probe does not see
LATE = 298


def test_features_beyond_float16_found_by_the_probe(tmp_path):
    dataset, encoder = spiky_data(tmp_path, at=slice(None)), LocalEncoder(Spike())
    banks = extract(encoder, dataset, store=tmp_path / "s", features=["deep", "shallow"])
    assert {name: bank.dtype for name, bank in banks.items()} == {"deep": "float32", "shallow": "float16"}
    assert (banks["deep"].read(np.arange(300)) == 1e6).all()
    assert len(list((tmp_path / "s").glob("*/bank.json"))) == 2  # no float16 bank was begun


def test_features_beyond_float16_found_late_start_again_in_float32(tmp_path):
    dataset, encoder = spiky_data(tmp_path, at=LATE), LocalEncoder(Spike())
    assert LATE not in np.linspace(0, len(dataset) - 1, N_PROBE).astype(int)  # the probe would find it at once
    banks = extract(encoder, dataset, store=tmp_path / "s", features=["deep", "shallow"], batch_size=50)
    assert {name: bank.dtype for name, bank in banks.items()} == {"deep": "float32", "shallow": "float16"}
    expected = direct(LocalEncoder(Spike()), dataset)
    for name, bank in banks.items():
        np.testing.assert_allclose(bank.read(np.arange(350)), expected[name], rtol=2**-11, atol=1e-6)
    assert len(list((tmp_path / "s").glob("*/bank.json"))) == 3  # deep was begun in float16
    encoder.module.seen.clear()  # a later run remembers: float32 is there
    again = extract(encoder, dataset, store=tmp_path / "s", features=["deep"])["deep"]
    assert again.path == banks["deep"].path and sum(encoder.module.seen) <= N_IMAGES


def test_features_far_below_zero_start_again_in_float32_too(tmp_path):
    class Below(Spike):
        def forward(self, images):
            return {name: -values for name, values in super().forward(images).items()}

    dataset = spiky_data(tmp_path, at=LATE)
    bank = extract(LocalEncoder(Below()), dataset, store=tmp_path / "s", batch_size=50)["deep"]
    assert bank.dtype == "float32" and (bank.read([LATE]) == -1e6).all()


def test_float16_that_is_asked_for_and_does_not_fit(tmp_path):
    dataset = spiky_data(tmp_path, at=299)
    with pytest.raises(ParameterError, match=r"'deep'.*does not fit float16.*--dtype float32"):
        extract(LocalEncoder(Spike()), dataset, store=tmp_path / "s", dtype="float16")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("at", [slice(None), 299])  # for the probe to see, and for the loop
def test_features_that_are_no_numbers_name_the_image(tmp_path, value, at):
    class Broken(TwoFeatures):
        def forward(self, images):
            out = super().forward(images)
            return {**out, "deep": torch.where(images[:, 0, :1, 0] > 0.9, value, out["deep"])}

    image = r"image train/\d+ in float32; try --amp off"
    with pytest.raises(EncoderError, match=rf"'deep' of two-features is NaN or infinite for npz:.* {image}"):
        extract(LocalEncoder(Broken()), spiky_data(tmp_path, at), store=tmp_path / "s")


# --- corrupt images


def test_the_images_that_choose_the_dtype_are_encoded_once(tmp_path):
    dataset = create_dataset("digits", limit="10/class")  # 200 images
    encoder = LocalEncoder()
    bank = extract(encoder, dataset, store=tmp_path, workers=1, batch_size=8)["deep"]
    assert sum(encoder.module.seen) == len(dataset) == 200
    assert bank.dtype == "float16"
    expected = direct(LocalEncoder(), dataset)["deep"]
    np.testing.assert_allclose(bank.read(np.arange(200)), expected, rtol=2e-3, atol=1e-3)
    # a shard has some of them only, and encodes all of its rows
    encoder = LocalEncoder()
    extract(encoder, dataset, store=tmp_path / "shards", shard=Shard(0, 2))
    assert sum(encoder.module.seen) == N_PROBE + 100


def test_a_corrupt_image_ends_the_run_and_keeps_what_was_encoded(tmp_path):
    spoilt = write_images(tmp_path / "d", n=60, corrupt=("train/bee/040.png",))
    dataset, encoder = create_dataset(f"folder:{tmp_path / 'd'}"), LocalEncoder()
    fingerprint = dataset.fingerprint()
    with pytest.raises(DataError, match="1 image cannot be decoded") as caught:
        extract(encoder, dataset, store=tmp_path / "s", workers=1, batch_size=16)
    for part in (spoilt[0], "OSError", "--skip-corrupt", f"data check folder:{tmp_path / 'd'}"):
        assert part in str(caught.value)
    Image.new("RGB", (9, 12)).save(tmp_path / "x.png")
    (path,) = [p.parent for p in (tmp_path / "s").glob("*/bank.json")]
    itself, *rest = FeatureBank.open(path).missing_rows().tolist()
    assert itself == 100 and rest[0] < 130  # its chunk, and not the rest
    beyond = set(range(rest[0], 180)) - set(rest)  # images that chose the type of storage
    assert beyond <= set(np.linspace(0, 179, N_PROBE).astype(int).tolist())
    os.replace(tmp_path / "x.png", spoilt[0])  # mended: another file, so other data
    mended = create_dataset(f"folder:{tmp_path / 'd'}")
    assert mended.fingerprint() != fingerprint
    assert extract(encoder, mended, store=tmp_path / "s")["deep"].n_rows == 180


def test_skip_corrupt_leaves_them_out_of_the_samples(tmp_path, monkeypatch):
    names = ("train/ant/000.png", "test/bee/004.png")
    spoilt = write_images(tmp_path / "d", corrupt=names)
    dataset, stages = create_dataset(f"folder:{tmp_path / 'd'}"), []
    options = {"store": tmp_path / "s", "skip_corrupt": True, "progress": lambda p: stages.append(p.stage)}
    bank = extract(LocalEncoder(), dataset, **options)["deep"]
    assert bank.complete and bank.n_rows == 28
    assert not set(bank.samples["path"]) & set(spoilt)
    assert {entry.where for entry in bank.header.excluded} == set(spoilt)
    expected = direct(LocalEncoder(), dataset.without(names))["deep"]
    np.testing.assert_allclose(bank.read(np.arange(28)), expected, rtol=2**-11, atol=1e-6)
    assert "scan" in stages
    stages.clear()  # the scan is remembered, for any encoder
    other = extract(LocalEncoder(weights_hash="sha256:other"), dataset, **options)["deep"]
    assert other.n_rows == 28 and "scan" not in stages


def test_an_interrupted_scan_goes_on_and_shards_share_it(tmp_path, monkeypatch):
    from ssl_risk_rs.extraction import scan

    spoilt = write_images(tmp_path / "d", corrupt=("train/ant/000.png", "test/bee/004.png"))
    dataset, looked = create_dataset(f"folder:{tmp_path / 'd'}"), []
    monkeypatch.setattr(scan, "BLOCK_ROWS", 7)  # 30 images: blocks of 7, 7, 7, 7 and 2
    plain, ends_after = scan.find_corrupt, [2]

    def find_corrupt(dataset, *, rows, **more):
        if len(looked) == ends_after[0]:
            raise OSError("the disk is gone")
        looked.append(int(rows[0]))
        return plain(dataset, rows=rows, **more)

    monkeypatch.setattr(scan, "find_corrupt", find_corrupt)
    options = {"workers": 1, "fingerprint": "f", "progress": lambda rows: None}
    with pytest.raises(OSError, match="the disk is gone"):
        scan.known_corrupt(dataset, tmp_path / "s", **options, shard=Shard(1, 2))
    assert looked == [14, 21]  # the second shard begins in the middle
    ends_after[0] = None
    found = scan.known_corrupt(dataset, tmp_path / "s", **options)
    assert looked == [14, 21, 0, 7, 28]  # no block twice
    assert {image.where for image in found} == set(spoilt) and [image.row for image in found] == sorted(
        image.row for image in found
    )
    assert scan.known_corrupt(dataset, tmp_path / "s", **options) == found and len(looked) == 5
    assert len(list((tmp_path / "s").iterdir())) == 1  # the blocks are put together


@pytest.mark.parametrize("damage", [b"", b"[]", b"{}", b"\xff\xfe", b'{"corrupt": [], "overlap": {}}', "a digit"])
def test_a_damaged_scan_is_made_again(tmp_path, damage):
    """It was a traceback at every later run of these data."""
    from ssl_risk_rs.extraction import scan

    write_images(tmp_path / "d", corrupt=("train/ant/000.png",))
    dataset = create_dataset(f"folder:{tmp_path / 'd'}")

    def both() -> tuple[object, object]:
        corrupt = scan.known_corrupt(dataset, tmp_path / "s", workers=1, fingerprint="f")
        return corrupt, scan.known_overlap(dataset, tmp_path / "s", fingerprint="f")

    found = both()
    files = {file: file.read_bytes() for file in (tmp_path / "s").glob("*.json")}
    assert len(files) == 2
    for file, content in files.items():
        file.write_bytes(content.replace(b'"rows": 30', b'"rows": 31') if damage == "a digit" else damage)
    assert both() == found
    assert {file: file.read_bytes() for file in files} == files


def test_skip_corrupt_with_sound_images_is_the_same_bank(tmp_path):
    write_images(tmp_path / "d")
    dataset = create_dataset(f"folder:{tmp_path / 'd'}")
    plain = extract(LocalEncoder(), dataset, store=tmp_path / "s")["deep"]
    assert extract(LocalEncoder(), dataset, store=tmp_path / "s", skip_corrupt=True)["deep"].path == plain.path


def test_all_corrupt(tmp_path):
    write_images(tmp_path / "d", n=2)
    for path in (tmp_path / "d").glob("*/*/*.png"):
        path.write_bytes(b"nonsense")
    dataset = create_dataset(f"folder:{tmp_path / 'd'}")
    with pytest.raises(DataError, match="6 images cannot be decoded"):
        extract(LocalEncoder(), dataset, store=tmp_path / "s")
    with pytest.raises(DataError, match="no images that can be used"):
        extract(LocalEncoder(), dataset, store=tmp_path / "s", skip_corrupt=True)


# --- interruption


def test_kill_9_loses_no_committed_row_and_none_is_decoded_again(tmp_path):
    uri, log = numbered_data(tmp_path), tmp_path / "log"
    source = (
        "from slow import *; from ssl_risk_rs.datasets import create_dataset; "
        "from ssl_risk_rs.extraction import extract; "
        f"extract(encoder(), create_dataset({uri!r}), store={str(tmp_path / 's')!r}, batch_size=8, workers=1)"
    )
    process = start(tmp_path, source)
    bank = wait_for_rows(process, tmp_path / "s", 50)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.communicate()
    committed = set(range(400)) - set(bank.missing_rows().tolist())
    assert 50 <= len(committed) < 400
    log.unlink()
    process = start(tmp_path, source)
    _, err = process.communicate(timeout=WAIT)
    assert process.returncode == 0, err
    decoded = [int(line) for line in log.read_text().split()]
    # those that are compared, before and after
    assert len(committed & set(decoded)) <= 2 * N_IMAGES and len(decoded) <= len(set(decoded)) + N_IMAGES
    assert committed | set(decoded) == set(range(400))
    expected = direct(LocalEncoder(), create_dataset(uri))["deep"]
    np.testing.assert_allclose(bank.read(np.arange(400)), expected, rtol=2**-11, atol=1e-6)
    bank.verify()


def test_two_processes_do_not_fill_one_bank(tmp_path):
    dataset = create_dataset("digits", limit="1/class")
    bank = extract(LocalEncoder(), dataset, store=tmp_path)["deep"]
    for path in bank.path.glob("extract*"):
        path.unlink()  # begun, and written by nobody yet
    with (
        bank.writer("extract"),
        pytest.raises(BankError, match="another process is encoding into this bank; wait"),
    ):
        extract(LocalEncoder(), dataset, store=tmp_path)
    assert extract(LocalEncoder(), dataset, store=tmp_path)["deep"].complete


def test_interrupt_prints_the_line_that_resumes(tmp_path):
    uri, log = numbered_data(tmp_path), tmp_path / "log"
    (tmp_path / "own.py").write_text(
        "from ssl_risk_rs.encoders import EncoderSpec, Encoder\nfrom slow import *\n"
        "def make():\n"
        "    spec = EncoderSpec('own', 'linear', 'code', ('deep', 'shallow'), img_size=8, channels=1)\n"
        "    local = encoder()\n"
        "    return Encoder(spec, local.module, local.transform, local.num_features, 'sha256:own')\n"
    )
    args = ["extract", "-m", f"{tmp_path / 'own.py'}:make", "-d", uri, "--store", str(tmp_path / "s")]
    args += ["--batch-size", "8", "--workers", "1", "--format", "json", "--layers", "deep"]
    args = args[:-2]
    source = f"import sys; from ssl_risk_rs.cli import main; sys.argv[1:] = {args!r}; main()"
    process = start(tmp_path, source)
    bank = wait_for_rows(process, tmp_path / "s", 50)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=WAIT)
    assert process.returncode == 130, err
    assert f"ssl-risk-rs extract -m {tmp_path / 'own.py'}:make -d {uri}" in err and not out
    assert "Traceback" not in err
    committed = set(range(400)) - set(bank.missing_rows().tolist())
    assert len(committed) >= 50
    log.unlink()
    process = start(tmp_path, source)
    out, err = process.communicate(timeout=WAIT)
    assert process.returncode == 0, err
    decoded = [int(line) for line in log.read_text().split()]
    assert len(committed & set(decoded)) <= 2 * N_IMAGES  # those that are compared, before and after
    found = {entry["feature"]: entry for entry in json.loads(out)}
    assert found["deep"]["rows"] == 400 and Path(found["deep"]["path"], "bank.json").exists()


# --- by name


def run_cli(*args, then="") -> tuple[int, str, str]:
    """Run the program in a process of its own; `then` is Python run afterwards."""
    source = (
        "import sys; from ssl_risk_rs.cli import main\n"
        f"try: main({list(args)!r})\nexcept SystemExit as end: status = end.code\n{then}\nsys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=WAIT)
    return done.returncode, done.stdout, done.stderr


def unhurried(err: str) -> list[str]:
    """Lines of stderr, but the one that a slow machine adds."""
    return [line for line in err.splitlines() if not line.startswith("Looking through the images of ")]


def test_second_run_imports_neither_torch_nor_an_image_library(tmp_path):
    write_images(tmp_path / "d")
    args = [
        "extract",
        "-m",
        "random:tiny_convnet",
        "-d",
        f"folder:{tmp_path / 'd'}",
        "--store",
        str(tmp_path / "s"),
    ]
    names = {"torch", "torchvision", "timm", "PIL", "sklearn"}
    heavy = f"print(sorted({names} & set(sys.modules)), file=sys.stderr)"
    status, first, err = run_cli(*args, "--format", "json")
    assert status == 0, err
    status, second, err = run_cli(*args, "--format", "json", then=heavy)
    assert (status, second) == (0, first) and unhurried(err) == ["[]"]
    (entry,) = json.loads(first)
    assert entry["rows"] == 30 and entry["encoder"] == "random:tiny_convnet"
    Image.new("RGB", (3, 3)).save(tmp_path / "d" / "train" / "ant" / "000.png")  # other data: another bank
    status, third, err = run_cli(*args, "--format", "json")
    assert status == 0 and json.loads(third)[0]["path"] != entry["path"]


def test_bank_by_name_has_the_encoders_features(tmp_path):
    from ssl_risk_rs.encoders import create_encoder
    from ssl_risk_rs.extraction import ensure_bank

    bank = ensure_bank("random:tiny_convnet", "digits", store=tmp_path, limit="3/class")
    encoder, dataset = create_encoder("random:tiny_convnet"), create_dataset("digits", limit="3/class")
    expected = direct(encoder, dataset)[encoder.spec.features[0]]
    np.testing.assert_allclose(bank.read(np.arange(60)), expected, rtol=2**-11, atol=1e-4 * np.abs(expected).max())
    assert bank.header.weights_hash == encoder.weights_hash
    assert ensure_bank("random:tiny_convnet", "digits", store=tmp_path, limit="3/class").path == bank.path


def test_several_layers_from_one_pass(tmp_path):
    from ssl_risk_rs.extraction import Encoding, ensure_banks

    few = Encoding(limit="2", img_size=32)
    several = replace(few, layers=("last", "layer1"))
    banks = ensure_banks("random:resnet50", "digits", several, store=tmp_path)
    assert {name: bank.n_features for name, bank in banks.items()} == {"avgpool": 2048, "layer1:avgpool": 256}
    alone = ensure_banks("random:resnet50", "digits", few, store=tmp_path)
    assert alone["avgpool"].path == banks["avgpool"].path


# --- the command line


@pytest.mark.parametrize(
    ("args", "status", "message"),
    [
        (["extract", "-d", "digits"], 2, "Missing option '-m'"),
        (
            ["extract", "-m", "x", "-d", "digits", "--workers", "few"],
            2,
            "neither auto nor a whole number from 0",
        ),
        (["extract", "-m", "random:tiny_convnet", "-d", "folder:/no/such"], 1, "/no/such does not exist"),
        (
            ["extract", "-m", "random:tiny_convnet", "-d", "digits", "--device", "cuda:99"],
            1,
            "device 'cuda:99'",
        ),
        (
            ["extract", "-m", "random:tiny_convnet", "-d", "digits", "--limit", "x"],
            2,
            "neither N nor N/class",
        ),
    ],
)
def test_exit_codes(args, status, message, tmp_path):
    from click.testing import CliRunner
    from ssl_risk_rs.cli import main

    result = CliRunner().invoke(main, [*args, "--store", str(tmp_path)])
    assert result.exit_code == status and message in result.stderr and not result.stdout


def test_no_data_named_is_said(tmp_path, monkeypatch):
    from click.testing import CliRunner
    from ssl_risk_rs.cli import main

    monkeypatch.delenv("SSL_RISK_DATA", raising=False)
    args = ["extract", "-m", "random:tiny_convnet", "--limit", "1/class", "--store", str(tmp_path)]
    result = CliRunner().invoke(main, args)
    assert result.exit_code == 0 and "bundled digits" in result.stderr and "imagenet:/path" in result.stderr
    assert "limited to 1 images of each class" in result.stderr
    assert "random:tiny_convnet" in result.stdout.splitlines()[1]
    monkeypatch.setenv("SSL_RISK_DATA", "digits")
    result = CliRunner().invoke(main, [*args, "--format", "csv"])
    assert result.exit_code == 0 and not unhurried(result.stderr)
    assert result.stdout.startswith("encoder,feature,data,rows,n_features,dtype,path\nrandom:tiny_convnet,")


def test_data_commands(tmp_path):
    from click.testing import CliRunner
    from ssl_risk_rs.cli import main

    listed = CliRunner().invoke(main, ["data", "list", "--format", "json"])
    assert {"digits", "folder:/data/flowers"} <= {entry["example"] for entry in json.loads(listed.stdout)}
    shown = json.loads(CliRunner().invoke(main, ["data", "show", "digits", "--format", "json"]).stdout)
    assert (shown[0]["train"], shown[0]["test"], shown[0]["classes"]) == (1442, 355, 10)
    spoilt = write_images(tmp_path, corrupt=("test/ant/000.png",))
    checked = CliRunner().invoke(main, ["data", "check", f"folder:{tmp_path}", "--format", "json"])
    (decoded,) = [entry for entry in json.loads(checked.stdout) if entry["check"] == "decoding"]
    assert checked.exit_code == 1 and decoded["examples"][0].startswith(f"{spoilt[0]}: ")
    Image.new("RGB", (3, 3)).save(spoilt[0])
    checked = CliRunner().invoke(main, ["data", "check", f"folder:{tmp_path}"])
    assert checked.exit_code == 0 and "30 images decoded" in checked.stdout


# --- batch size and record


def test_batch_size_is_searched_on_the_images_themselves(tmp_path, monkeypatch):
    from ssl_risk_rs.extraction import job, loop

    monkeypatch.setattr(job, "WORTH_SEARCHING", 2)
    seen, plain = [], loop.BatchSize.observe

    def observe(batch, images, seconds):  # a clock by which larger batches pay up to 128
        seen.append(batch.size)
        plain(batch, images, images / min(batch.size, 128))

    monkeypatch.setattr(loop.BatchSize, "observe", observe)
    dataset, encoder = create_dataset("digits"), LocalEncoder()
    bank = extract(encoder, dataset, store=tmp_path, dtype="float32")["deep"]
    assert list(dict.fromkeys(seen)) == [64, 128, 256]
    assert sum(encoder.module.seen) == 1797  # each image once: the search costs none
    expected = direct(LocalEncoder(), dataset)["deep"]
    np.testing.assert_allclose(bank.read(np.arange(1797)), expected, rtol=1e-5, atol=1e-6)


def test_batch_size_search_ends_where_the_memory_does(tmp_path, monkeypatch):
    from ssl_risk_rs.extraction import job, loop

    class Hungry(TwoFeatures):
        def forward(self, images):
            if len(images) > 100:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return super().forward(images)

    monkeypatch.setattr(job, "WORTH_SEARCHING", 2)
    monkeypatch.setattr(
        loop.BatchSize, "observe",
        lambda self, n, s, plain=loop.BatchSize.observe: plain(self, n, 1.0),  # larger always pays
    )  # fmt: skip
    dataset, encoder = create_dataset("digits"), LocalEncoder(Hungry())
    bank = extract(encoder, dataset, store=tmp_path, dtype="float32")["deep"]
    assert sum(encoder.module.seen) == 1797 and max(encoder.module.seen) == 64
    expected = direct(LocalEncoder(), dataset)["deep"]
    np.testing.assert_allclose(bank.read(np.arange(1797)), expected, rtol=1e-5, atol=1e-6)


def test_a_run_that_is_interrupted_keeps_its_rates(tmp_path):
    from ssl_risk_rs.extraction.rates import read_rates

    class Impatient(TwoFeatures):
        def forward(self, x):
            if sum(self.seen) >= N_PROBE + 24:  # beyond the images that are encoded before a bank is made
                raise KeyboardInterrupt("enough")
            return super().forward(x)

    dataset = create_dataset("digits", limit="10/class")
    with pytest.raises(KeyboardInterrupt, match="enough"):
        extract(LocalEncoder(Impatient()), dataset, store=tmp_path, workers=1, batch_size=8)
    (bank,) = (path.parent for path in tmp_path.glob("*/bank.json"))
    ((run,),) = read_rates(bank).values()
    assert 0 < run["images"] <= 24 and run["seconds"] > 0


def test_the_record_keeps_the_rate_of_each_stage(tmp_path):
    from ssl_risk_rs.extraction.rates import read_rates

    dataset = create_dataset("digits", limit="2/class")
    for i in range(2):
        bank = extract(LocalEncoder(), dataset, store=tmp_path, workers=1, batch_size=8, shard=Shard(i, 2))["deep"]
    rates = read_rates(bank.path)
    assert set(rates) == {"shard-0-of-2", "shard-1-of-2"}
    for (run,) in rates.values():
        assert run["images"] == 20 and run["workers"] == 1 and run["batch_size"] == 8
        assert run["bytes"] == 20 * 5 * 2  # features in float16
        assert set(run["images_per_second"]) == {"whole", "decode", "encode", "write"}
        assert run["bottleneck"] in ("decode", "encode", "write") and run["first_block"] > 0
        # a stage is never busy for longer than the whole took, but the writer, which ends after it
        assert run["encode"] <= run["seconds"] and run["decode"] + run["transform"] <= run["seconds"]
    from click.testing import CliRunner
    from ssl_risk_rs.cli import main

    shown = CliRunner().invoke(main, ["store", "info", str(bank.path)]).stdout
    assert shown.count("rates.shard-") == 2 and "20 images, " in shown and "waiting for: " in shown
    listed = json.loads(CliRunner().invoke(main, ["store", "info", str(bank.path), "--format", "json"]).stdout)
    assert listed["rates"] == rates
    for damaged in ("nonsense", "[{}]", '[{"images": 1, "images_per_second": [], "bottleneck": "decode"}]'):
        (bank.path / "shard-0-of-2.rates.json").write_text(damaged)
        assert read_rates(bank.path)["shard-0-of-2"] == []
        assert CliRunner().invoke(main, ["store", "info", str(bank.path)]).exit_code == 0
    bank.verify()
