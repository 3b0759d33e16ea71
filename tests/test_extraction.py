"""Extraction: what is in a bank is what the encoder gives, each row once, whatever happens on the way."""

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from ssl_risk_rs.datasets import create_dataset
from ssl_risk_rs.errors import EncoderError, ParameterError
from ssl_risk_rs.extraction import decoding
from ssl_risk_rs.extraction.forward import Forward, choose_device, choose_precision
from ssl_risk_rs.extraction.settings import ExtractionSettings
from torch import nn

RNG = np.random.default_rng(0)
CPU = torch.device("cpu")


class TwoFeatures(nn.Module):
    """8 × 8 grey images → `deep` (b, 5) and `shallow` (b, 3); remembers the batch sizes it saw."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(64, 3), nn.Linear(3, 5)
        self.norm = nn.BatchNorm1d(3)  # in training mode it would mix the images of a batch
        self.scale, self.seen = scale, []

    def forward(self, images):
        self.seen.append(len(images))
        shallow = self.norm(self.first(images.flatten(1)))
        return {"deep": self.second(shallow) * self.scale, "shallow": shallow}


def to_tensor(image):
    return torch.from_numpy(np.asarray(image.convert("L").resize((8, 8)), dtype=np.float32)[None] / 255)


@dataclass(frozen=True)
class Spec:
    name: str = "two-features"
    features: tuple[str, ...] = ("deep", "shallow")
    img_size: int | None = 8
    resize: int | None = None
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    channels: int = 1
    pretraining_data: str | None = None
    licence: str | None = "MIT"

    def to_dict(self):
        return {"name": self.name}


@dataclass
class LocalEncoder:
    """What `extract` needs of an encoder."""

    module: nn.Module = field(default_factory=TwoFeatures)
    spec: Spec = Spec()
    transform: object = to_tensor
    num_features: dict = field(default_factory=lambda: {"deep": 5, "shallow": 3})
    weights_hash: str = "sha256:local"


def direct(encoder, dataset, rows=None):
    """Features by a plain forward pass in evaluation mode, one image at a time."""
    rows = range(len(dataset)) if rows is None else rows
    module = encoder.module.cpu().eval()
    with torch.inference_mode():
        outs = [module(encoder.transform(dataset.load(row))[None]) for row in rows]
    return {name: torch.cat([out[name] for out in outs]).numpy() for name in outs[0]}


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
    assert type(stream).__name__ == "_MultiProcessingDataLoaderIter"
    for a, b in zip(threads, stream, strict=True):
        assert a.rows.tolist() == b.rows.tolist() and torch.equal(a.images, b.images)
        assert a.corrupt == b.corrupt
    tiny = SimpleNamespace(free=10)
    monkeypatch.setattr(decoding.shutil, "disk_usage", lambda path: tiny)
    assert type(decoding.decode(decoder, 2, chunk_bytes=1000)).__name__ == "generator"  # no shared memory


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
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
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
