"""`doctor model`: each check passes on a sound encoder, and fails on the fault that was planted for it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from reference_networks import resnet_weights
from ssl_risk_rs.cli import main
from ssl_risk_rs.encoders import Encoder, EncoderSpec, create_encoder
from ssl_risk_rs.encoders.encoder import OutputModule, finish
from ssl_risk_rs.encoders.examine import examine_transform
from ssl_risk_rs.encoders.golden import IMAGES_DIGEST, golden_images, golden_path, images_digest
from ssl_risk_rs.encoders.sources.published import published_files
from ssl_risk_rs.encoders.transforms import Preprocess
from ssl_risk_rs.errors import EncoderError
from ssl_risk_rs.extraction.settings import Encoding
from ssl_risk_rs.workflow.doctor_model import examine_encoder, examine_model
from test_families import swav
from torch import Tensor, nn

CHECKS = ("eval mode", "finite features", "determinism", "batch order", "batch size", "transform", "golden vectors")
SPEC = EncoderSpec("planted", "planted", "random", ("output",), img_size=32, resize=32)


def statuses(encoder: Encoder) -> dict[str, str]:
    return {finding.check: finding.status for finding in examine_encoder(encoder)}


def planted(module: nn.Module) -> Encoder:
    """A small network with a module at its end, as `file.py:function` would return it, but with a known transform."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 6, 5, 4), nn.ReLU(), nn.BatchNorm2d(6), nn.AdaptiveAvgPool2d(1), nn.Flatten(), module
    )
    for _ in range(20):  # statistics that are not those of the golden images
        network.train()(torch.randn(8, 3, 32, 32))
    return finish(SPEC, OutputModule(network), Preprocess(SPEC))


class Stubborn(nn.BatchNorm1d):
    """Stays in training mode whatever is asked."""

    def train(self, mode: bool = True) -> "Stubborn":
        return super().train(True)


class AlwaysDropout(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(x, 0.1, training=True)


class Centred(nn.Module):
    """Less the mean of the batch, which all orders of it share."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(0)


class FirstOfBatch(nn.Module):
    """Less the first image of the batch."""

    def forward(self, x: Tensor) -> Tensor:
        return x - 0.1 * x[:1]


class RootOfDifference(nn.Module):
    """NaN for images darker than others."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, (x.sum(1, keepdim=True) - 1).sqrt()], 1)


@pytest.mark.parametrize(
    ("module", "faults"),
    [
        (nn.Identity, set()),
        (lambda: Stubborn(6), {"eval mode", "batch size"}),
        (AlwaysDropout, {"determinism", "batch order", "batch size"}),
        (Centred, {"batch size"}),
        (FirstOfBatch, {"batch order", "batch size"}),
        (RootOfDifference, {"finite features"}),
    ],
)
def test_a_planted_fault_is_found_and_no_other(module: Callable[[], nn.Module], faults: set[str]):
    found = statuses(planted(module()))
    assert tuple(found) == CHECKS
    assert {check for check, status in found.items() if status == "fault"} == faults
    # what no later features could be compared with is not stored
    assert found["golden vectors"] == ("note" if faults else "ok")
    assert golden_path("planted").is_file() == (not faults)


def test_statistics_that_a_pass_changes_are_named_and_put_back():
    encoder = planted(Stubborn(6))
    before = {name: value.clone() for name, value in encoder.module.state_dict().items()}
    (first, *_) = examine_encoder(encoder)
    assert first.examples == (
        "backbone.5", "backbone.5.running_mean", "backbone.5.running_var", "backbone.5.num_batches_tracked",
    )  # fmt: skip
    assert "1 modules are in training mode and a pass changes 3 tensors" in first.found
    assert all(torch.equal(value, before[name]) for name, value in encoder.module.state_dict().items())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mean": (0.5, 0.5, 0.5)}, "mean is 0.5,0.5,0.5 and not 0.485,0.456,0.406"),
        ({"std": (0.5, 0.5, 0.5)}, "std is 0.5,0.5,0.5 and not 0.229,0.224,0.225"),
        ({"img_size": 24}, "images are 3 × 24 × 24 and not 32 pixels wide"),
    ],
)
def test_another_transform_than_described_is_found(change, words):
    encoder = replace(planted(nn.Identity()), transform=Preprocess(replace(SPEC, **change)))
    finding = {f.check: f for f in examine_encoder(encoder)}["transform"]
    assert finding.status == "fault" and words in finding.found


def test_a_published_encoder_is_held_against_the_catalogue(tiny_resnets):
    (weights,) = published_files("swav_rn50")
    weights.parent.mkdir(parents=True)
    torch.save(swav(resnet_weights(1)), weights)
    encoder = create_encoder("swav")
    assert examine_transform(encoder).levels == 0
    finding = {f.check: f for f in examine_encoder(encoder)}["transform"]
    assert finding.status == "ok" and "bit for bit that of the catalogue" in finding.found
    for change in ({"interpolation": "bicubic"}, {"resize": 224}):  # neither moves mean, std or size
        other = replace(encoder, transform=Preprocess(replace(encoder.spec, **change)))
        finding = {f.check: f for f in examine_encoder(other)}["transform"]
        assert finding.status == "fault" and "pixels differ from the catalogue's by up to" in finding.found


def test_an_image_size_that_was_asked_for_is_no_fault(tiny_resnets):
    """The catalogue's pixels are of its own size, and golden features of one size are not those of another."""
    (weights,) = published_files("swav_rn50")
    weights.parent.mkdir(parents=True)
    torch.save(swav(resnet_weights(1)), weights)
    for size in (None, 96):
        findings = {f.check: f for f in examine_model("swav", encoding=Encoding(img_size=size))}
        assert findings["transform"].status == "ok"
        assert "are stored, to be compared from now on" in findings["golden vectors"].found
        again = {f.check: f for f in examine_model("swav", encoding=Encoding(img_size=size))}["golden vectors"]
        assert again.status == "ok" and "(0.0e+00 apart)" in again.found
    assert "3 × 96 × 96" in findings["transform"].found


def test_the_command_takes_an_image_size():
    found = json.loads(doctor("random:test_resnet", "--img-size", "24", "--format", "json").stdout)
    assert any("3 × 24 × 24" in finding["found"] for finding in found)
    with pytest.raises(EncoderError, match=r"it takes images of any side: --img-size \(img_size=\) says which"):
        create_encoder("random:resnet18?img_size=64")


# --- golden vectors


def golden_of(encoder: Encoder):
    return {f.check: f for f in examine_encoder(encoder)}["golden vectors"]


def test_the_images_are_the_known_ones():
    assert images_digest() == IMAGES_DIGEST
    images = golden_images()
    assert len(images) == 8 and {(image.size, image.mode) for image in images} == {((352, 288), "RGB")}
    assert len({image.tobytes() for image in images}) == 8


def test_vectors_are_stored_once_and_compared_ever_after():
    encoder = planted(nn.Identity())
    assert "are stored" in golden_of(encoder).found
    path = golden_path("planted")
    stamp = path.stat().st_mtime_ns
    again = golden_of(encoder)
    assert again.status == "ok" and again.values["difference"] == 0.0 and path.stat().st_mtime_ns == stamp
    with torch.no_grad():
        encoder.module.backbone[0].bias += 1e-2  # the hash of the weights still says that they are the same
    moved = golden_of(encoder)
    assert moved.status == "fault" and moved.values["difference"] > 1e-4 and str(path) in moved.do
    other = planted(nn.Linear(6, 6))
    assert "The weights are not those of" in golden_of(other).found
    wider = replace(encoder, transform=Preprocess(replace(SPEC, interpolation="bicubic")))
    assert "The network sees other pixels." in golden_of(wider).found
    path.unlink()
    assert golden_of(other).status == "ok" and golden_of(other).status == "ok"
    path.write_bytes(b"none")
    with pytest.raises(EncoderError, match=r"is damaged .*delete it"):
        golden_of(other)


def test_a_release_that_changed_since_is_named(monkeypatch):
    encoder = planted(nn.Identity())
    monkeypatch.setattr("ssl_risk_rs.workflow.doctor_model.library_versions", lambda: {"torch": "1.0"})
    golden_of(encoder)
    monkeypatch.setattr("ssl_risk_rs.workflow.doctor_model.library_versions", lambda: {"torch": "2.0", "timm": "1.0"})
    assert golden_of(encoder).found.endswith("these libraries changed: torch 1.0 → 2.0, timm absent → 1.0.")


# --- the command


def doctor(*arguments: object, code: int = 0):
    result = CliRunner().invoke(main, ["doctor", "model", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def test_half_precision_is_measured_in_points_of_risk():
    found = json.loads(
        doctor("demo_ssl", "-d", "digits", "--limit", "40/class", "--store", "st", "--format", "json").stdout
    )
    half = {row["check"]: row for row in found}["half precision"]
    values = half["values"]
    assert half["status"] == "ok" and values["low_points"] <= values["drift_points"] <= values["high_points"]
    assert values["test_rows"] > 300 and values["discordant"] < 20  # eight bits move few rows over the boundary
    skipped = json.loads(doctor("demo_ssl", "--format", "json").stdout)[-1]
    assert (skipped["check"], skipped["status"], skipped["do"]) == ("half precision", "note", "Name data: -d URI.")


def test_drift_that_moves_risks_is_a_fault():
    """Features far from 0 lose in bfloat16 what tells the classes apart."""
    Path("far.py").write_text(
        "import torch\n"
        "class Far(torch.nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.last = torch.nn.Linear(64, 64)\n"
        "        torch.nn.init.eye_(self.last.weight)\n        torch.nn.init.constant_(self.last.bias, 300.0)\n"
        "    def forward(self, x):\n        return self.last(x.mean(1).flatten(1))\n"
        "def far():\n"
        "    from torchvision.transforms import CenterCrop, Compose, Resize, ToTensor\n"
        "    return Far(), Compose([Resize(8), CenterCrop(8), ToTensor()])\n"
    )
    found = json.loads(
        doctor("far.py:far", "-d", "digits", "--limit", "40/class", "--store", "st", "--format", "json", code=1).stdout
    )
    half = {row["check"]: row for row in found}["half precision"]
    assert half["status"] == "fault" and half["values"]["drift_points"] > 1 and half["do"].endswith("--amp off.")
    assert {row["check"]: row["status"] for row in found}["transform"] == "note"


def test_it_is_said_whose_transform_it_is():
    Path("mine.py").write_text(
        "import torch\nfrom torchvision.transforms.functional import to_tensor\n"
        "def bare():\n    return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())\n"
        "def pair():\n    return bare(), to_tensor\n"
    )
    for function, said in (
        ("bare", "Your code gives no transform, so ImageNet's usual one gives"),
        ("pair", "Your own"),
    ):
        found = json.loads(doctor(f"mine.py:{function}", "--format", "json").stdout)
        (transform,) = (row["found"] for row in found if row["check"] == "transform")
        assert transform.startswith(said)


def test_the_table_fits_80_columns_and_a_fault_ends_with_1():
    Path("mine.py").write_text(
        "import torch\nclass Noisy(torch.nn.Module):\n    def forward(self, x):\n"
        "        return torch.nn.functional.dropout(x.mean((2, 3)), 0.5, training=True)\n"
        "def noisy():\n    return Noisy()\n"
    )
    result = doctor("mine.py:noisy", code=1)
    assert "fault  determinism" in result.stdout and max(map(len, result.stdout.splitlines())) <= 80
    assert "no encoder 'demo_sl'" in doctor("demo_sl", code=1).output
