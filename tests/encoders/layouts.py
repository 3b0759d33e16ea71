"""Weights of `reference_networks` in the names, shapes and containers of other libraries' files."""

import re

import torch
from reference_networks import BLOCKS, Weights
from torch import Tensor


def qkv(w: Weights, block: int, kind: str) -> Tensor:
    return torch.cat([w[f"{block}.{part}.{kind}"] for part in "qkv"])


# --- ViTs: name by name ------------------------------------------------------------------------------


def vit_as_timm(w: Weights) -> Weights:
    """The names of timm, DINO, MAE, MoCo-v3, MSN, iBOT, Mugs."""
    out = {"cls_token": w["cls"].reshape(1, 1, -1), "patch_embed.proj.weight": w["patch.weight"]}
    if "patch.bias" in w:
        out["patch_embed.proj.bias"] = w["patch.bias"]
    if "pos" in w:
        out["pos_embed"] = w["pos"][None]
    for kind in ("weight", "bias"):
        out[f"norm.{kind}"] = w[f"norm.{kind}"]
        if "pre.weight" in w:
            out[f"norm_pre.{kind}"] = w[f"pre.{kind}"]
        for i in range(BLOCKS):
            if f"{i}.k.{kind}" in w:
                out[f"blocks.{i}.attn.qkv.{kind}"] = qkv(w, i, kind)
            out[f"blocks.{i}.attn.proj.{kind}"] = w[f"{i}.out.{kind}"]
            for ours, theirs in (("norm1", "norm1"), ("norm2", "norm2"), ("fc1", "mlp.fc1"), ("fc2", "mlp.fc2")):
                out[f"blocks.{i}.{theirs}.{kind}"] = w[f"{i}.{ours}.{kind}"]
    if "projection.weight" in w:
        out["head.weight"], out["head.bias"] = w["projection.weight"], torch.zeros(len(w["projection.weight"]))
    return out


def vit_as_dinov2(w: Weights, *, chunks: bool) -> Weights:
    """Meta's DINOv2: layer scale, registers, blocks in chunks for FSDP."""
    out = {k: v for k, v in vit_as_timm(w).items()}
    for i in range(BLOCKS):
        out[f"blocks.{i}.ls1.gamma"], out[f"blocks.{i}.ls2.gamma"] = w[f"{i}.scale1"], w[f"{i}.scale2"]
    if "registers" in w:
        out["register_tokens"] = w["registers"][None]
    out["mask_token"] = torch.zeros(1, len(w["cls"]))
    if chunks:
        out = {re.sub(r"^blocks\.(\d+)\.", lambda m: f"blocks.{int(m[1]) // 2}.{m[1]}.", k): v for k, v in out.items()}
    return out


def vit_as_beit(w: Weights) -> Weights:
    """Microsoft's BEiT: one table of relative positions, no bias of the keys."""
    out = vit_as_timm(w)
    for i in range(BLOCKS):
        out[f"blocks.{i}.attn.q_bias"], out[f"blocks.{i}.attn.v_bias"] = w[f"{i}.q.bias"], w[f"{i}.v.bias"]
        out[f"blocks.{i}.gamma_1"], out[f"blocks.{i}.gamma_2"] = w[f"{i}.scale1"], w[f"{i}.scale2"]
    out["rel_pos_bias.relative_position_bias_table"] = w["relative"]
    n = 1 + ((round((len(w["relative"]) - 3) ** 0.5) + 1) // 2) ** 2
    out["rel_pos_bias.relative_position_index"] = torch.zeros(n, n, dtype=torch.long)
    out |= {"mask_token": torch.zeros(1, 1, 24), "lm_head.weight": torch.zeros(9, 24), "lm_head.bias": torch.zeros(9)}
    out["cls_pt_layers.0.norm1.weight"] = torch.zeros(24)
    return out


def vit_as_openai_clip(w: Weights) -> Weights:
    """OpenAI's CLIP and OpenCLIP: the image tower, beside it the text's."""
    out = {"class_embedding": w["cls"], "positional_embedding": w["pos"], "conv1.weight": w["patch.weight"]}
    for kind in ("weight", "bias"):
        out[f"ln_pre.{kind}"], out[f"ln_post.{kind}"] = w[f"pre.{kind}"], w[f"norm.{kind}"]
        for i in range(BLOCKS):
            name = f"transformer.resblocks.{i}"
            out[f"{name}.attn.in_proj_{kind}"] = qkv(w, i, kind)
            out[f"{name}.attn.out_proj.{kind}"] = w[f"{i}.out.{kind}"]
            out[f"{name}.ln_1.{kind}"], out[f"{name}.ln_2.{kind}"] = w[f"{i}.norm1.{kind}"], w[f"{i}.norm2.{kind}"]
            out[f"{name}.mlp.c_fc.{kind}"], out[f"{name}.mlp.c_proj.{kind}"] = (
                w[f"{i}.fc1.{kind}"],
                w[f"{i}.fc2.{kind}"],
            )
    if "projection.weight" in w:
        out["proj"] = w["projection.weight"].t().contiguous()
    out = {f"visual.{name}": tensor for name, tensor in out.items()}
    text = {
        "transformer.resblocks.0.attn.in_proj_weight": torch.zeros(6, 2),
        "token_embedding.weight": torch.zeros(9, 2),
    }
    text |= {"ln_final.weight": torch.zeros(2), "text_projection": torch.zeros(2, 2), "logit_scale": torch.zeros(())}
    return out | text | {"positional_embedding": torch.zeros(7, 2)}


def _transformers_blocks(w: Weights, layer: str, names: dict[str, str]) -> Weights:
    out = {}
    for i in range(BLOCKS):
        for ours, theirs in names.items():
            for kind in ("weight", "bias"):
                if f"{i}.{ours}.{kind}" in w:
                    out[f"{layer}.{i}.{theirs}.{kind}"] = w[f"{i}.{ours}.{kind}"]
    return out


_ATTENTION = {
    "q": "attention.attention.query",
    "k": "attention.attention.key",
    "v": "attention.attention.value",
    "out": "attention.output.dense",
}


def vit_as_transformers(w: Weights) -> Weights:
    """transformers' ViTModel, ViTMAE, ViTMSN, DINO."""
    out = _transformers_embeddings(w)
    names = {
        "norm1": "layernorm_before",
        "norm2": "layernorm_after",
        "fc1": "intermediate.dense",
        "fc2": "output.dense",
    }
    out |= _transformers_blocks(w, "encoder.layer", _ATTENTION | names)
    return out | {f"layernorm.{kind}": w[f"norm.{kind}"] for kind in ("weight", "bias")}


def _transformers_embeddings(w: Weights) -> Weights:
    out = {"embeddings.cls_token": w["cls"].reshape(1, 1, -1)}
    if "pos" in w:
        out["embeddings.position_embeddings"] = w["pos"][None]
    out["embeddings.patch_embeddings.projection.weight"] = w["patch.weight"]
    out["embeddings.patch_embeddings.projection.bias"] = w["patch.bias"]
    return out


def dinov2_as_transformers(w: Weights) -> Weights:
    out = _transformers_embeddings(w)
    out |= _transformers_blocks(
        w, "encoder.layer", _ATTENTION | {"norm1": "norm1", "norm2": "norm2", "fc1": "mlp.fc1", "fc2": "mlp.fc2"}
    )
    for i in range(BLOCKS):
        for k in (1, 2):
            out[f"encoder.layer.{i}.layer_scale{k}.lambda1"] = w[f"{i}.scale{k}"]
    if "registers" in w:
        out["embeddings.register_tokens"] = w["registers"][None]
    out["embeddings.mask_token"] = torch.zeros(1, 24)
    return out | {f"layernorm.{kind}": w[f"norm.{kind}"] for kind in ("weight", "bias")}


def beit_as_transformers(w: Weights) -> Weights:
    """BeitForMaskedImageModeling: the last LayerNorm lies outside `beit.`."""
    out = _transformers_embeddings(w)
    names = {
        "norm1": "layernorm_before",
        "norm2": "layernorm_after",
        "fc1": "intermediate.dense",
        "fc2": "output.dense",
    }
    out |= _transformers_blocks(w, "encoder.layer", _ATTENTION | names)
    for i in range(BLOCKS):
        for k in (1, 2):
            out[f"encoder.layer.{i}.lambda_{k}"] = w[f"{i}.scale{k}"]
    out["encoder.relative_position_bias.relative_position_bias_table"] = w["relative"]
    out["embeddings.mask_token"] = torch.zeros(1, 1, 24)
    out = {f"beit.{name}": tensor for name, tensor in out.items()}
    out |= {f"layernorm.{kind}": w[f"norm.{kind}"] for kind in ("weight", "bias")}
    return out | {"lm_head.weight": torch.zeros(9, 24), "lm_head.bias": torch.zeros(9)}


def clip_as_transformers(w: Weights) -> Weights:
    """transformers' CLIPModel."""
    out = {"embeddings.class_embedding": w["cls"], "embeddings.position_embedding.weight": w["pos"]}
    out["embeddings.patch_embedding.weight"] = w["patch.weight"]
    out["embeddings.position_ids"] = torch.arange(len(w["pos"]))[None]
    names = {"q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj", "out": "self_attn.out_proj"}
    names |= {"norm1": "layer_norm1", "norm2": "layer_norm2", "fc1": "mlp.fc1", "fc2": "mlp.fc2"}
    out |= _transformers_blocks(w, "encoder.layers", names)
    for kind in ("weight", "bias"):
        out[f"pre_layrnorm.{kind}"], out[f"post_layernorm.{kind}"] = w[f"pre.{kind}"], w[f"norm.{kind}"]
    out = {f"vision_model.{name}": tensor for name, tensor in out.items()}
    if "projection.weight" in w:
        out["visual_projection.weight"] = w["projection.weight"]
    return out | {"text_model.final_layer_norm.weight": torch.zeros(2), "text_projection.weight": torch.zeros(2, 2)}


def vit_as_jax(w: Weights, heads: int = 3) -> Weights:
    """Google's ViT: kernels as (in, …, out), heads as an axis."""
    d = len(w["cls"])
    out = {"cls": w["cls"].reshape(1, 1, -1), "Transformer/posembed_input/pos_embedding": w["pos"][None]}
    out |= {"embedding/kernel": w["patch.weight"].permute(2, 3, 1, 0), "embedding/bias": w["patch.bias"]}
    out |= {"Transformer/encoder_norm/scale": w["norm.weight"], "Transformer/encoder_norm/bias": w["norm.bias"]}
    for i in range(BLOCKS):
        name = f"Transformer/encoderblock_{i}"
        for ours, theirs in (("q", "query"), ("k", "key"), ("v", "value")):
            attention = f"{name}/MultiHeadDotProductAttention_1/{theirs}"
            out[f"{attention}/kernel"] = w[f"{i}.{ours}.weight"].t().reshape(d, heads, d // heads)
            out[f"{attention}/bias"] = w[f"{i}.{ours}.bias"].reshape(heads, d // heads)
        attention = f"{name}/MultiHeadDotProductAttention_1/out"
        out[f"{attention}/kernel"] = w[f"{i}.out.weight"].t().reshape(heads, d // heads, d)
        out[f"{attention}/bias"] = w[f"{i}.out.bias"]
        for ours, theirs in (("norm1", "LayerNorm_0"), ("norm2", "LayerNorm_2")):
            out[f"{name}/{theirs}/scale"], out[f"{name}/{theirs}/bias"] = (
                w[f"{i}.{ours}.weight"],
                w[f"{i}.{ours}.bias"],
            )
        for ours, theirs in (("fc1", "Dense_0"), ("fc2", "Dense_1")):
            out[f"{name}/MlpBlock_3/{theirs}/kernel"] = w[f"{i}.{ours}.weight"].t()
            out[f"{name}/MlpBlock_3/{theirs}/bias"] = w[f"{i}.{ours}.bias"]
    return out


# --- ResNets -----------------------------------------------------------------------------------------


def resnet_as_transformers(w: Weights) -> Weights:
    out = {}
    for name, tensor in w.items():
        name = re.sub(r"^conv1\.", "embedder.embedder.convolution.", name)
        name = re.sub(r"^bn1\.", "embedder.embedder.normalization.", name)
        name = re.sub(r"^layer(\d)\.", lambda m: f"encoder.stages.{int(m[1]) - 1}.layers.", name)
        name = re.sub(r"\.downsample\.0\.", ".shortcut.convolution.", name)
        name = re.sub(r"\.downsample\.1\.", ".shortcut.normalization.", name)
        name = re.sub(r"\.conv(\d)\.", lambda m: f".layer.{int(m[1]) - 1}.convolution.", name)
        name = re.sub(r"\.bn(\d)\.", lambda m: f".layer.{int(m[1]) - 1}.normalization.", name)
        out[f"resnet.{name}"] = tensor
    return out


def resnet_as_sequential(w: Weights) -> Weights:
    """`nn.Sequential(*resnet.children())`: layers by their place."""
    places = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}
    return {re.sub(r"^\w+", lambda m: places[m[0]], name): tensor for name, tensor in w.items()}


def resnet_as_haiku(w: Weights) -> tuple[dict[str, dict[str, Tensor]], dict[str, dict[str, Tensor]]]:
    """DeepMind's BYOL: parameters and state of a Haiku network, convolutions as (h, w, in, out)."""
    params: dict[str, dict[str, Tensor]] = {}
    state: dict[str, dict[str, Tensor]] = {}
    for name, tensor in w.items():
        module, _, kind = name.rpartition(".")
        module = re.sub(r"^conv1$", "initial_conv", module)
        module = re.sub(r"^bn1$", "initial_batchnorm", module)
        block = re.fullmatch(r"layer(\d)\.(\d+)\.(.+)", module)
        if block:
            inner = {"downsample.0": "shortcut_conv", "downsample.1": "shortcut_batchnorm"}.get(block[3])
            if inner is None:
                inner = re.sub(r"conv(\d)", lambda m: f"conv_{int(m[1]) - 1}", block[3])
                inner = re.sub(r"bn(\d)", lambda m: f"batchnorm_{int(m[1]) - 1}", inner)
            module = f"block_group_{int(block[1]) - 1}/~/block_{block[2]}/~/{inner}"
        module = f"res_net50/~/{module}"
        if tensor.ndim == 4:
            params.setdefault(module, {})["w"] = tensor.permute(2, 3, 1, 0).contiguous()
        elif kind in ("weight", "bias"):
            params.setdefault(module, {})["scale" if kind == "weight" else "offset"] = tensor.reshape(1, 1, 1, -1)
        elif kind.startswith("running"):
            which = kind.removeprefix("running_")
            average = tensor.reshape(1, 1, 1, -1)
            state[f"{module}/~/{which}_ema"] = {
                "average": average,
                "hidden": average * 0.9,
                "counter": torch.tensor(3, dtype=torch.int32),
            }
    params["projector/linear"] = {"w": torch.zeros(4, 2)}
    params["classifier"] = {"w": torch.zeros(4, 2), "b": torch.zeros(2)}
    return params, state
