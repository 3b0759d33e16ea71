"""Images of another side than the architecture's own: the network that is built, and what is said of preprocessing."""

import json
from pathlib import Path

import pytest
import timm
import torch
from ssl_risk_rs.encoders import create_encoder
from ssl_risk_rs.encoders.encoder import Encoder
from ssl_risk_rs.errors import EncoderError

VIT = "vit_tiny_patch16_224?patch_size=4&depth=2&embed_dim=24&num_heads=3"
SWIN = "swin_tiny_patch4_window7_224?depths=[1,1]&embed_dim=24&num_heads=[2,2]&window_size=7"
CAIT = "cait_xxs24_224?depth=2&embed_dim=24&num_heads=2&patch_size=8"


def trained(architecture: str, path: Path, **options: object) -> Path:
    """A file of an architecture whose weights, position embeddings too, are as large as trained ones."""
    torch.manual_seed(0)
    base, _, query = architecture.partition("?")
    given = {key: json.loads(value) for key, value in (item.split("=") for item in query.split("&"))}
    network = timm.create_model(base, num_classes=0, **given, **options)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    torch.save(network.state_dict(), path)
    return path


def features(encoder: Encoder, side: int) -> torch.Tensor:
    pixels = torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        (out,) = encoder.module(pixels).values()
    return out


@pytest.mark.parametrize(
    ("architecture", "trained_at", "side"),
    [(VIT, 32, 32), (VIT, 224, 48), (SWIN, 448, 448), (CAIT, 32, 32), (CAIT, 224, 48)],
)
def test_a_size_given_apart_builds_what_the_name_would(tmp_path, architecture, trained_at, side):
    file = trained(architecture, tmp_path / "w.pth", img_size=trained_at)
    apart = create_encoder(f"ckpt:{file}@{architecture}", img_size=side)
    named = create_encoder(f"ckpt:{file}@{architecture}&img_size={side}")
    assert apart.spec.img_size == named.spec.img_size == side
    assert torch.equal(features(apart, side), features(named, side)) and apart.weights_hash == named.weights_hash
    control, by_name = create_encoder(f"random:{architecture}", img_size=side), f"random:{architecture}&img_size={side}"
    assert control.weights_hash == create_encoder(by_name).weights_hash


def test_position_embeddings_at_the_files_size_are_the_files(tmp_path):
    file = trained(VIT, tmp_path / "w.pth", img_size=32)
    encoder = create_encoder(f"ckpt:{file}@{VIT}", img_size=32)
    theirs = timm.create_model(
        "vit_tiny_patch16_224", num_classes=0, img_size=32, patch_size=4, depth=2, embed_dim=24, num_heads=3
    )
    theirs.load_state_dict(torch.load(file))
    pixels = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(features(encoder, 32), theirs.eval()(pixels))


@pytest.mark.skipif(not hasattr(timm.models.Beit, "set_input_size"), reason="an older timm")
def test_a_file_of_relative_positions_at_the_architectures_size_is_resized(tmp_path):
    beit = "beit_base_patch16_224?depth=2&embed_dim=24&num_heads=3"
    file = trained(beit, tmp_path / "w.pth")
    resized = timm.create_model("beit_base_patch16_224", num_classes=0, depth=2, embed_dim=24, num_heads=3)
    resized.load_state_dict(torch.load(file))
    resized.set_input_size(img_size=(64, 64))
    pixels = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(features(create_encoder(f"ckpt:{file}@{beit}", img_size=64), 64), resized.eval()(pixels))


@pytest.mark.parametrize("architecture", ["resnet10t", "vit_tiny_patch16_224?depth=1", "convnext_atto", "dm_nfnet_f0"])
@pytest.mark.parametrize("side", [32, 64, 96, 112])
def test_the_short_side_that_is_stated_is_applied(architecture, side):
    encoder = create_encoder(f"random:{architecture}", img_size=side)
    steps = [step for step in encoder.transform.transform.transforms if type(step).__name__ == "Resize"]
    applied = [size if isinstance(size, int) else min(size) for size in (step.size for step in steps)]
    assert applied == [encoder.spec.resize]


@pytest.mark.parametrize("side", [32, 50, 64, 101])
def test_a_file_is_prepared_as_its_note_says(tmp_path, side):
    file = tmp_path / "w.pth"
    torch.save(timm.create_model("resnet10t", num_classes=0).state_dict(), file)
    lines: list[str] = []
    encoder = create_encoder(f"ckpt:{file}@resnet10t", img_size=side, progress=lines.append)
    steps = encoder.transform.transform.transforms
    assert any(f"resize {steps[0].size} for crops of {side}" in line for line in lines), (steps[0], lines)
    assert encoder.spec.resize == steps[0].size
    stated = create_encoder(f"ckpt:{file}@resnet10t?mean=imagenet", img_size=side)
    assert stated.spec.resize == stated.transform.transform.transforms[0].size == encoder.spec.resize
    resized = create_encoder(f"ckpt:{file}@resnet10t?resize={2 * side}", img_size=side)  # by our own transform
    assert resized.spec.resize == resized.transform.spec.resize == 2 * side


@pytest.mark.parametrize(("side", "short"), [(32, 37), (96, 110)])
def test_the_preprocessing_that_a_note_advises_suits_the_size(tmp_path, side, short):
    file = tmp_path / "w.pth"
    torch.save(timm.create_model("resnet10t", num_classes=0).state_dict(), file)
    lines: list[str] = []
    create_encoder(f"ckpt:{file}@resnet10t", img_size=side, progress=lines.append)
    assert any(f"(mean=imagenet&std=imagenet&resize={short} suits most self-supervised ones)" in line for line in lines)


def test_a_size_in_the_name_is_advised_only_where_it_helps(monkeypatch):
    from ssl_risk_rs.encoders.networks import build as networks

    monkeypatch.setattr(
        networks, "_with_weights", lambda name, options: timm.create_model(name, num_classes=0, **options)
    )
    cait = f"timm:{CAIT}"
    with pytest.raises(EncoderError, match=r"its size is fixed when it is built, so name it there: .*&img_size=32$"):
        create_encoder(cait, img_size=32)
    assert create_encoder(f"{cait}&img_size=32").spec.img_size == 32
    for kind in ("timm", "random"):  # 16 pixels are too few, which no option changes
        with pytest.raises(EncoderError, match="fails on an image of 16×16 pixels") as raised:
            create_encoder(f"{kind}:inception_v3", img_size=16)
        assert "name it there" not in str(raised.value)
