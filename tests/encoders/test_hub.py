"""Entries of repositories through torch.hub, from its cache: no network."""

import pytest
import torch
from ssl_risk_rs.encoders import create_encoder, describe_encoder
from ssl_risk_rs.encoders.names import parse_name
from ssl_risk_rs.errors import EncoderError

HUBCONF = """
from torch import nn
dependencies = ["torch"]

class Net(nn.Module):
    def __init__(self, width, n_classes):
        super().__init__()
        self.body = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, width))
        self.fc = nn.Linear(width, n_classes)
    def forward(self, x):
        return self.fc(self.body(x))

def net(width=5, n_classes=9):
    return Net(width, n_classes)

def nothing():
    return 3
"""


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    folder = tmp_path / "torch" / "hub" / "someone_models_v1.0"
    folder.mkdir(parents=True)
    (folder / "hubconf.py").write_text(HUBCONF)
    (tmp_path / "torch" / "hub" / "trusted_list").write_text("someone_models\n")
    return folder


def test_an_entry_is_run_and_its_classifier_taken_off(hub):
    lines: list[str] = []
    encoder = create_encoder("hub:someone/models:v1.0:net?width=7", progress=lines.append)
    assert encoder.num_features == {"output": 7} and encoder.code_files == ("hubconf.py",)
    assert any("its last layer fc (7 to 9) was taken off" in line for line in lines)
    assert any("code of someone/models:v1.0 is run" in line for line in lines)
    assert any("does not say how images are prepared" in line for line in lines)
    images = torch.randn(2, 3, 64, 64)
    body = encoder.module.backbone.body
    assert torch.equal(encoder.module(images)["output"], body(images))
    kept = create_encoder("hub:someone/models:v1.0:net?head=keep&mean=half&std=half&resize=224")
    assert kept.num_features == {"output": 9} and kept.spec.mean == (0.5, 0.5, 0.5)
    assert (kept.spec.resize, kept.spec.img_size) == (224, 224)


def test_a_changed_repository_is_another_encoder(hub):
    first = create_encoder("hub:someone/models:v1.0:net")
    (hub / "hubconf.py").write_text(HUBCONF + "\n# changed\n")
    assert create_encoder("hub:someone/models:v1.0:net").code_hash != first.code_hash


def test_what_cannot_be_had_says_what_to_do(hub, monkeypatch):
    with pytest.raises(EncoderError, match=r"returned int, no torch\.nn\.Module"):
        create_encoder("hub:someone/models:v1.0:nothing")
    with pytest.raises(EncoderError, match=r"cannot be had .*absent.*name a tag or commit"):
        create_encoder("hub:someone/models:v1.0:absent")
    with pytest.raises(EncoderError, match="the one value of head is keep"):
        create_encoder("hub:someone/models:v1.0:net?head=drop")
    for wrong in ("hub:models:net", "hub:someone/models", "hub:someone/models:no way"):
        with pytest.raises(EncoderError, match="write hub:OWNER/REPO:ENTRY"):
            parse_name(wrong)


def test_describing_runs_nothing(hub):
    spec = describe_encoder("hub:someone/models:v1.0:net?mean=clip")
    assert spec.architecture == "net" and spec.mean[0] == pytest.approx(0.48145466)
    assert parse_name("hub:facebookresearch/dino:main:dino_vits16").target == "facebookresearch/dino:main"
    assert parse_name("hub:facebookresearch/dino:dino_vits16").target == "facebookresearch/dino"
