"""Files that transformers itself writes give the features of its models; skipped where it is not installed."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from ssl_risk_rs.encoders.networks.build import build_network
from ssl_risk_rs.encoders.networks.features import name_features
from ssl_risk_rs.encoders.weights.match import Choice
from ssl_risk_rs.encoders.weights.matching import load_encoder

transformers = pytest.importorskip("transformers")

SIZES = {
    "hidden_size": 24, "num_hidden_layers": 5, "num_attention_heads": 3, "image_size": 64, "patch_size": 16,
}  # fmt: skip
VIT = {**SIZES, "intermediate_size": 96, "layer_norm_eps": 1e-6}
SMALL = {"depth": 5, "embed_dim": 24, "num_heads": 3, "img_size": 64}


class Case(NamedTuple):
    make: Callable[[], torch.nn.Module]
    architecture: str
    options: dict[str, object]
    feature: str
    features: Callable[[torch.nn.Module, torch.Tensor], torch.Tensor]


def first_token(model, images):
    return model(images).last_hidden_state[:, 0]


def mae():
    decoder = {"decoder_hidden_size": 24, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 3}
    return transformers.ViTMAEForPreTraining(transformers.ViTMAEConfig(**VIT, mask_ratio=0.0, **decoder))


def beit():
    shared = {"use_mask_token": True, "use_shared_relative_position_bias": True, "vocab_size": 9}
    return transformers.BeitForMaskedImageModeling(transformers.BeitConfig(**VIT, **shared))


def clip():
    text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    vision = {**SIZES, "intermediate_size": 96}
    text |= {"vocab_size": 99, "bos_token_id": 1, "eos_token_id": 2}
    return transformers.CLIPModel(transformers.CLIPConfig(vision_config=vision, text_config=text, projection_dim=12))


def registers():
    return transformers.Dinov2WithRegistersModel(
        transformers.Dinov2WithRegistersConfig(**SIZES, mlp_ratio=4, num_register_tokens=4)
    )


TOKEN = {"global_pool": "token", "use_shared_rel_pos_bias": True, "use_rel_pos_bias": False}
CASES = {
    "vit": Case(
        lambda: transformers.ViTForImageClassification(transformers.ViTConfig(**VIT)),
        "vit_tiny_patch16_224", SMALL, "cls", lambda model, x: first_token(model.vit, x),
    ),
    "mae": Case(mae, "vit_tiny_patch16_224", SMALL, "cls", lambda model, x: first_token(model.vit, x)),
    "msn": Case(
        lambda: transformers.ViTMSNModel(transformers.ViTMSNConfig(**VIT)),
        "vit_tiny_patch16_224", SMALL, "cls", first_token,
    ),
    "dinov2": Case(
        lambda: transformers.Dinov2Model(transformers.Dinov2Config(**SIZES, mlp_ratio=4)),
        "vit_small_patch14_dinov2", SMALL | {"patch_size": 16}, "cls", first_token,
    ),
    "dinov2_with_registers": Case(
        registers, "vit_small_patch14_reg4_dinov2", SMALL | {"patch_size": 16}, "cls", first_token
    ),
    "beit": Case(
        beit, "beit_base_patch16_224", SMALL | TOKEN, "cls",
        lambda model, x: model.layernorm(model.beit(x).last_hidden_state)[:, 0],
    ),
    "clip": Case(
        clip, "vit_base_patch16_clip_quickgelu_224", SMALL, "cls",
        lambda model, x: model.vision_model(x).pooler_output,
    ),
    "resnet": Case(
        lambda: transformers.ResNetForImageClassification(transformers.ResNetConfig(depths=[3, 4, 6, 3])),
        "resnet50", {}, "avgpool", lambda model, x: model.resnet(x).pooler_output.flatten(1),
    ),
}  # fmt: skip


def randomize(model: torch.nn.Module) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            plain = tensor.ndim == 1 and name.endswith(("weight", "lambda1", "lambda_1", "lambda_2"))
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.2 + 0.5 * plain)
    return model.eval()


@pytest.mark.parametrize("name", CASES)
def test_a_saved_model_gives_the_features_of_transformers(name, tmp_path):
    case = CASES[name]
    model = randomize(case.make())
    model.save_pretrained(tmp_path)
    network = build_network(case.architecture, case.options)
    found = load_encoder(network, Path(tmp_path), Choice(architecture=case.architecture, options=tuple(case.options)))
    assert found.dialect.startswith("transformers_")
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours = name_features(network, [case.feature]).eval()(images)[case.feature]
        theirs = case.features(model, images)
    # float32 rounding through the blocks in another order of operations
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * theirs.abs().max().item())
