"""Tensors are matched strictly: what is missing, mis-shaped, left over, quantized or not finite is refused by name."""

import collections
import re

import pytest
import timm
import torch
from reference_networks import resnet_weights
from ssl_risk_rs.encoders import create_encoder
from ssl_risk_rs.encoders.weights.match import Choice
from ssl_risk_rs.encoders.weights.matching import find_encoder
from ssl_risk_rs.errors import EncoderError, ParameterError
from test_families import close, heads, images, other, prefixed, swav


@pytest.fixture
def weights(tiny_resnets) -> dict[str, torch.Tensor]:
    return resnet_weights()


def test_the_network_that_authors_evaluate_is_chosen_and_the_other_reported(weights):
    student = prefixed(other(weights), "module.backbone.") | heads(9, "module.head.mlp.0")
    file = {"student": student, "teacher": prefixed(weights, "backbone.") | heads(9, "head.mlp.0")}
    found = find_encoder(file, weights)
    assert found.where == "teacher → backbone."
    assert found.others == ("student → module.backbone.",)
    assert "another copy under student" in found.summary()
    assert find_encoder(file, weights, Choice(average=False)).where == "student → module.backbone."


def test_an_average_of_no_known_method_comes_after_what_was_trained(weights):
    file = {"ema": other(weights), "model": dict(weights)}
    found = find_encoder(file, weights)
    assert (found.where, found.others) == ("model", ("ema",))
    assert find_encoder(file, weights, Choice(average=True)).where == "ema"


# --- strictness ------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["conv1.weight", "layer3.1.bn2.running_var", "layer4.0.bn3.bias"])
def test_one_missing_tensor_fails_by_name(tmp_path, weights, missing):
    state = swav(weights)
    del state[f"module.{missing}"]
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(EncoderError, match=rf"1 of 100 tensors are missing.*{re.escape(missing)}"):
        create_encoder(f"ckpt:{tmp_path}/w.pth@resnet50")


def test_a_misshaped_tensor_fails_by_name(weights):
    state = dict(weights) | {"layer2.0.conv1.weight": torch.zeros(16, 31, 1, 1)}
    with pytest.raises(EncoderError, match=r"layer2\.0\.conv1\.weight has shape \(16, 31, 1, 1\)"):
        find_encoder(state, weights)


def test_a_larger_architecture_is_not_truncated(weights):
    state = dict(weights) | {f"layer3.2.{n[9:]}": t for n, t in weights.items() if n.startswith("layer3.1.")}
    with pytest.raises(EncoderError, match=r"no head: layer3\.2\.conv1\.weight.*larger architecture"):
        find_encoder(state, weights)


def test_a_smaller_or_other_architecture_fails(tmp_path, weights):
    torch.save(weights, tmp_path / "w.pth")
    with pytest.raises(
        EncoderError, match=r"does not fit resnet50w2: tensor conv1\.weight has shape \(8, 3, 7, 7\).*; 99 more have"
    ):
        create_encoder(f"ckpt:{tmp_path}/w.pth@resnet50w2")
    with pytest.raises(EncoderError, match="none of its 120 tensors has a name of the architecture"):
        create_encoder(f"ckpt:{tmp_path}/w.pth@vit_tiny_patch16_224")


def test_a_deeper_vit_is_not_mistaken_for_heads():
    """Inner names such as `mlp.fc1` are a head's only at the top."""
    shallow = timm.create_model("vit_tiny_patch16_224", num_classes=0, depth=2, img_size=32).state_dict()
    deep = timm.create_model("vit_tiny_patch16_224", num_classes=0, depth=3, img_size=32).state_dict()
    with pytest.raises(EncoderError, match=r"no head: blocks\.2\."):
        find_encoder(deep, shallow)


def test_weights_must_be_finite(tmp_path, weights):
    torch.save(dict(weights) | {"bn1.bias": torch.full((8,), float("nan"))}, tmp_path / "w.pth")
    with pytest.raises(EncoderError, match=r"bn1\.bias holds NaN"):
        create_encoder(f"ckpt:{tmp_path}/w.pth@resnet50")


@pytest.mark.parametrize("kind", [torch.int8, torch.uint8, torch.float8_e4m3fn, torch.complex64])
def test_quantized_weights_are_refused(tmp_path, weights, kind):
    state = dict(weights)
    state["layer1.0.conv1.weight"] = torch.ones_like(state["layer1.0.conv1.weight"]).to(kind)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(EncoderError, match=rf"layer1\.0\.conv1\.weight is {str(kind)[6:]}.*quantized.*dequantize it"):
        create_encoder(f"ckpt:{tmp_path}/w.pth@resnet50")


def renamed(state):
    return collections.OrderedDict((f"net.part{i}.{n.rpartition('.')[2]}", t) for i, (n, t) in enumerate(state.items()))


def test_order_matching(tmp_path):
    """The naming differs, order and shapes do not: EfficientNet-Lite0 of another package against timm's."""
    torch.manual_seed(3)
    model = timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()
    state = renamed(model.state_dict())
    state |= {"net.fc.weight": torch.zeros(9, 1280), "net.fc.bias": torch.zeros(9)}
    torch.save(state, tmp_path / "w.pth")
    name = f"ckpt:{tmp_path}/w.pth@tf_efficientnet_lite0"
    with pytest.raises(EncoderError, match=r"ckpt:FILE@ARCH\?match=order"):
        create_encoder(name)
    lines: list[str] = []
    encoder = create_encoder(name, match="order", progress=lines.append)
    with torch.inference_mode():
        close(encoder.module(images(64))["avgpool"], model(images(64)))
    assert any(
        "left over 2" in line and "The first pairs are net.part0.weight → conv_stem.weight" in line for line in lines
    )

    # names like a head's inside the encoder: `conv_head`, as efficientnet_pytorch has it
    inside = [n.replace("part288.", "_conv_head.") for n in state]
    torch.save(dict(zip(inside, state.values(), strict=True)), tmp_path / "w.pth")
    assert "net._conv_head.weight" in inside
    with torch.inference_mode():
        close(create_encoder(name, match="order").module(images(64))["avgpool"], model(images(64)))

    keys = list(state)
    state[keys[10]] = torch.zeros(3)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(EncoderError, match=rf"tensor 11 in order is {re.escape(keys[10])} \(3,\)"):
        create_encoder(name, match="order")
    state = renamed(dict(list(model.state_dict().items())[:-1]))
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(EncoderError, match="tensors besides heads, the architecture has"):
        create_encoder(name, match="order")
    with pytest.raises(ParameterError, match="match is"):
        create_encoder(name, match="shape")
