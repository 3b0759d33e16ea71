"""Checkpoint files as they are found: 79 layouts, most of which load right; the others are refused with what to do.

Each layout is a file of a network of a few channels, made from the weights of `reference_networks`. A layout that
loads must give that network's features; none may load with other features and without a word.
"""

import argparse
import collections
import datetime
import functools
import io
import json
import pathlib
import pickle
import re
import sys
import types
import zipfile

import numpy as np
import pytest
import timm
import torch
from layouts import (
    beit_as_transformers,
    clip_as_transformers,
    dinov2_as_transformers,
    resnet_as_sequential,
    resnet_as_transformers,
    vit_as_beit,
    vit_as_dinov2,
    vit_as_jax,
    vit_as_openai_clip,
    vit_as_timm,
    vit_as_transformers,
)
from reference_networks import (
    BLOCKS,
    CONV_DEPTHS,
    CONV_DIMS,
    DIM,
    HEADS,
    convnext_features,
    convnext_weights,
    resnet_features,
    resnet_weights,
    vit_tokens,
    vit_weights,
)
from ssl_risk_rs.encoders import create_encoder
from ssl_risk_rs.errors import EncoderError
from test_families import (
    close,
    dino_vit,
    heads,
    ibot,
    images,
    infomin,
    mae,
    mmselfsup,
    moco,
    mocov3,
    msn,
    mugs,
    other,
    prefixed,
    simsiam,
    speccl,
    swav,
    vissl,
)  # fmt: skip

RESNET = resnet_weights(1)
VIT = vit_weights(1)
SMALL_VIT = f"depth={BLOCKS}&embed_dim={DIM}&num_heads={HEADS}"
AS_VIT = f"vit_tiny_patch16_224?{SMALL_VIT}&img_size=64"


FOREIGN: set[str] = set()


class Foreign:
    """Makes objects of classes that exist while the file is written, and not when it is read."""

    def __init__(self, module: str, name: str, base: type = object) -> None:
        parts = module.split(".")
        for n in range(1, len(parts) + 1):
            parent = ".".join(parts[:n])
            sys.modules.setdefault(parent, types.ModuleType(parent))
            FOREIGN.add(parent)
        self.kind = type(name, (base,), {"__module__": module, "__qualname__": name})
        setattr(sys.modules[module], name, self.kind)

    def __call__(self, *args):
        return self.kind(*args)


@pytest.fixture(autouse=True)
def _no_foreign_modules(tiny_resnets):
    yield
    for name in FOREIGN:
        sys.modules.pop(name, None)
    FOREIGN.clear()


def saved(content, path, **options):
    torch.save(content, path, **options)
    for name in FOREIGN:  # they are gone when the file is read
        sys.modules.pop(name, None)
    return path


# --- containers with foreign objects ------------------------------------------------------------------


def with_options(options):
    return lambda w: {"state_dict": prefixed(w, "backbone."), "options": options()}


def omegaconf():
    config = Foreign("omegaconf.dictconfig", "DictConfig")()
    config.__dict__.update({"_content": {"lr": 0.1}, "_parent": None})
    return config


def yacs():
    node = Foreign("yacs.config", "CfgNode", dict)({"LR": 0.1})
    node.__dict__["__immutable__"] = True
    return node


def mmengine():
    return Foreign("mmengine.config.config", "ConfigDict", dict)({"model": {"type": "MoCo"}})


def apex():
    return {"amp": {"loss_scaler0": Foreign("apex.amp.scaler", "LossScaler")()}, "master": collections.deque([1, 2])}


def attributes():
    made = Foreign("utils.misc", "AttrDict", dict)({"lr": 0.1})
    made.__dict__["self"] = made
    return made


PICKLES = {
    "numpy_scalar": lambda: {"best_acc1": np.float64(70.1)},
    "numpy_array": lambda: np.arange(6.0).reshape(2, 3),
    "deque_and_defaultdict": lambda: (collections.deque([1.0], 9), collections.defaultdict(list, {"a": [1]})),
    "argparse": lambda: argparse.Namespace(lr=0.1, arch="resnet50"),
    "attribute_dict": attributes,
    "omegaconf": omegaconf,
    "yacs": yacs,
    "posix_path": lambda: pathlib.PurePosixPath("/data/imagenet"),
    "datetime": lambda: datetime.datetime(2022, 1, 2, 3, 4),
    "partial": lambda: functools.partial(torch.nn.LayerNorm, eps=1e-6),
    "mmengine": mmengine,
    "apex": apex,
}


class Block(torch.nn.Module):
    """A module that holds named tensors, so that whole networks can be pickled."""


def as_module(weights, kind):
    root = kind()
    for name, tensor in weights.items():
        *parts, last = name.split(".")
        module = root
        for part in parts:
            if part not in module._modules:
                module.add_module(part, kind())
            module = module._modules[part]
        if tensor.is_floating_point() and not last.startswith("running"):
            module.register_parameter(last, torch.nn.Parameter(tensor.clone()))
        else:
            module.register_buffer(last, tensor.clone())
    return root


def whole_module(w):
    kind = Foreign("models.resnet", "ResNet", torch.nn.Module)
    made = as_module(w, kind)
    return {"epoch": 3, "model": made}


# --- names beside the encoder -------------------------------------------------------------------------

BESIDE = {
    "barlow": lambda w: {
        "epoch": 1,
        "model": prefixed(w, "module.backbone.")
        | heads(9, "module.projector.0")
        | {"module.bn.running_mean": torch.zeros(9), "module.bn.running_var": torch.ones(9)},
    },
    "maps_projector": lambda w: prefixed(w, "backbone.") | heads(9, "maps_projector.0"),
    "encoder_q_in_sequence": lambda w: {
        "state_dict": prefixed(w, "encoder_q.0.")
        | heads(9, "encoder_q.1.mlp.0")
        | prefixed(other(w), "encoder_k.0.")
        | heads(9, "encoder_k.1.mlp.0")
    },
    "solo_learn_momentum": lambda w: {
        "state_dict": prefixed(w, "backbone.")
        | prefixed(other(w), "momentum_backbone.")
        | heads(9, "momentum_projector.0", "momentum_classifier")
    },
    "assignments": lambda w: {"state_dict": prefixed(w, "module."), "assignments": torch.zeros(3, 9)},
    "local_memory": lambda w: (
        prefixed(w, "module.")
        | {"module.local_memory_embeddings": torch.zeros(9, 3), "local_memory_index": torch.zeros(9)}
    ),
    "student_and_instance_heads": lambda w: prefixed(w, "backbone.") | heads(9, "student_head.0", "instance_head.fc"),
    "text_tower": lambda w: prefixed(w, "visual.trunk.") | heads(9, "text.transformer.0", "visual.head.proj"),
    "detector": lambda w: {
        "state_dict": prefixed(w, "backbone.")
        | heads(9, "neck.lateral_convs.0.conv")
        | heads(9, "rpn_head.rpn_conv", "roi_head.bbox_head.fc_cls")
    },
    "dense_cl": lambda w: {
        "state_dict": prefixed(w, "backbone.")
        | heads(9, "neck.mlp.0", "neck.mlp2.0")
        | {"queue": torch.zeros(9, 4), "queue2": torch.zeros(9, 4)}
    },
    "online_probe": lambda w: {"state_dict": prefixed(w, "encoder.") | heads(9, "online_classifier", "probe.linear")},
    "multi_crop_wrapper": lambda w: {
        "student": prefixed(other(w), "module.backbone.") | heads(9, "module.head.mlp.0"),
        "teacher": prefixed(w, "backbone.") | heads(9, "head.last_layer"),
        "dino_loss": {"center": torch.zeros(1, 9)},
    },
    "fairseq_decoder": lambda w: {"model": prefixed(w, "encoder.") | heads(9, "decoder.layers.0", "final_proj")},
    "linear_probe_beside": lambda w: {"state_dict": w | heads(9, "fc"), "linear": {"state_dict": heads(9, "0")}},
}

WRAPPED = {
    "torch_compile": lambda w: prefixed(w, "_orig_mod."),
    "fsdp": lambda w: {f"_fsdp_wrapped_module.{n.replace('.', '._fsdp_wrapped_module.', 1)}": t for n, t in w.items()},
    "checkpointed": lambda w: {n.replace("layer3.0.", "layer3.0._checkpoint_wrapped_module."): t for n, t in w.items()},
    "several_wrappers": lambda w: {"state_dict": prefixed(w, "module._orig_mod.model.")},
}

#: layouts that loaded before this table was made: the authors' own and the usual ones of training libraries
USUAL = {
    "plain": dict,
    "vissl": vissl,
    "vissl_converted": lambda w: {"model_state_dict": prefixed(w, "_feature_blocks.")},
    "moco": moco,
    "simsiam": simsiam,
    "swav": swav,
    "mmselfsup": mmselfsup,
    "speccl": speccl,
    "infomin": infomin,
    "supervised": lambda w: {"state_dict": w | heads(9, "fc")},
    "lightning": lambda w: {
        "state_dict": prefixed(w, "backbone.") | heads(9, "classifier"),
        "hyper_parameters": {"a": 1},
    },
    "ordered_dict": lambda w: collections.OrderedDict(w),
    "no_counters": lambda w: {n: t for n, t in w.items() if not n.endswith("num_batches_tracked")},
    "byol_pytorch": lambda w: {
        "model": prefixed(w, "online_network.encoder.")
        | heads(9, "predictor.0")
        | prefixed(other(w), "target_network.encoder.")
    },
    "half": lambda w: {n: t.half() if t.is_floating_point() else t for n, t in w.items()},
    "bfloat16": lambda w: {n: t.bfloat16() if t.is_floating_point() else t for n, t in w.items()},
    "double": lambda w: {n: t.double() if t.is_floating_point() else t for n, t in w.items()},
    "ddp_in_model": lambda w: {"model": prefixed(w, "module."), "epoch": 3},
    "deepspeed": lambda w: {"module": prefixed(w, "backbone."), "ds_version": "0.9", "global_steps": 3},
    "timm_training": lambda w: {"arch": "resnet50", "state_dict": w | heads(9, "fc"), "version": 2},
    "ema_beside": lambda w: {"state_dict": dict(w), "state_dict_ema": other(w)},
    "ema_before": lambda w: {"ema": other(w), "net": dict(w)},
    "ema_within": lambda w: {"state_dict": prefixed(w, "net.") | prefixed(other(w), "ema.")},
}

VIT_USUAL = {
    "dino_vit": dino_vit,
    "mocov3_vit": lambda w: {"state_dict": mocov3(w)["state_dict"]},
    "msn": msn,
    "ibot": ibot,
    "mugs": mugs,
    "mae": mae,
    "vit_supervised": lambda w: w | heads(DIM, "head"),
}

# --- the table ------------------------------------------------------------------------------------------

Layout = tuple[str, object]


def resnet_layouts():
    yield from ((name, make) for table in (USUAL, BESIDE, WRAPPED) for name, make in table.items())
    yield from ((f"pickled_{name}", with_options(options)) for name, options in PICKLES.items())
    yield "pickled_whole_module", whole_module
    yield "list_at_the_top", lambda w: [prefixed(w, "module."), {"lr": 0.1}]


@pytest.mark.parametrize(("name", "make"), list(resnet_layouts()), ids=lambda x: x if isinstance(x, str) else "")
def test_resnet_layouts(tmp_path, name, make):
    file = saved(make(RESNET), tmp_path / "w.pth")
    encoder = create_encoder(f"ckpt:{file}@resnet50", img_size=40)
    reference = RESNET
    if name in ("half", "bfloat16"):
        kind = torch.float16 if name == "half" else torch.bfloat16
        reference = {n: t.to(kind).float() if t.is_floating_point() else t for n, t in RESNET.items()}
    with torch.inference_mode():
        close(encoder.module(images(40))["avgpool"], resnet_features(reference, images(40)))


@pytest.mark.parametrize("name", VIT_USUAL)
def test_vit_layouts(tmp_path, name):
    file = saved(VIT_USUAL[name](vit_as_timm(VIT)), tmp_path / "w.pth")
    encoder = create_encoder(f"ckpt:{file}@{AS_VIT}")
    with torch.inference_mode():
        close(encoder.module(images(64))["cls"], vit_tokens(VIT, images(64))[-1][:, 0])


# --- containers that are no torch archives -------------------------------------------------------------


def plain_pickle(w, path):
    path.write_bytes(pickle.dumps({n: t.numpy() for n, t in w.items()}))


def tensors_in_a_plain_pickle(w, path):
    path.write_bytes(pickle.dumps({"model": dict(w)}))


def safetensors(w, path):
    from safetensors.torch import save_file

    save_file({f"backbone.{n}": t.contiguous() for n, t in w.items()}, path)


def sharded(w, path):
    """transformers' shards: the index names the file of each tensor."""
    from safetensors.torch import save_file

    path.mkdir()
    names = sorted(w)
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, held in parts.items():
        save_file({n: w[n].contiguous() for n in held}, path / file)
    places = {n: file for file, held in parts.items() for n in held}
    (path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


class Leaf(torch.nn.Module):
    """A scriptable module with any tensors."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def as_scripted(w):
    return as_module(w, Leaf)


CONTAINERS = {
    "plain_pickle_of_arrays": ("w.pkl", plain_pickle),
    "tensors_in_a_plain_pickle": ("w.pkl", tensors_in_a_plain_pickle),
    "npz": ("w.npz", lambda w, path: np.savez(path, **{n: t.numpy() for n, t in w.items()})),
    "safetensors": ("w.safetensors", safetensors),
    "sharded_safetensors": ("folder", sharded),
    "before_torch_1_6": (
        "w.pth.tar",
        lambda w, path: torch.save({"state_dict": prefixed(w, "module.")}, path, _use_new_zipfile_serialization=False),
    ),
    "torch_script": ("w.pt", lambda w, path: torch.jit.save(torch.jit.script(as_scripted(w)), str(path))),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_containers(tmp_path, name):
    file, write = CONTAINERS[name]
    write(RESNET, tmp_path / file)
    encoder = create_encoder(f"ckpt:{tmp_path / file}@resnet50", img_size=40)
    with torch.inference_mode():
        close(encoder.module(images(40))["avgpool"], resnet_features(RESNET, images(40)))


# --- dialects --------------------------------------------------------------------------------------------


def vit(w, path, **options):
    return w, lambda: vit_tokens(w, images(64), **options)[-1][:, 0]


LAYER_SCALE = vit_weights(2, layer_scale=True)
REGISTERS = vit_weights(2, layer_scale=True, registers=4)
CLIP = vit_weights(2, clip=True, projection=12)
BEIT = vit_weights(2, beit=True)
DINOV2 = f"vit_small_patch14_dinov2?{SMALL_VIT}&img_size=64&patch_size=16"
REG = f"vit_small_patch14_reg4_dinov2?{SMALL_VIT}&img_size=64&patch_size=16"
AS_BEIT = f"beit_base_patch16_224?{SMALL_VIT}&img_size=64&global_pool=token"
SHARED = f"{AS_BEIT}&use_shared_rel_pos_bias=true&use_rel_pos_bias=false"
AS_CLIP = f"vit_base_patch16_clip_quickgelu_224?{SMALL_VIT}&img_size=64"
CONVNEXT = convnext_weights(2)
AS_CONVNEXT = f"convnext_tiny?depths={json.dumps(CONV_DEPTHS)}&dims={json.dumps(CONV_DIMS)}".replace(" ", "")


def cls_of(w, **options):
    return vit_tokens(w, images(64), **options)[-1][:, 0]


DIALECTS = {
    "sequential_children": (
        lambda: prefixed(resnet_as_sequential(RESNET), "backbone."),
        "resnet50",
        lambda: resnet_features(RESNET, images(64)),
    ),
    "transformers_resnet": (
        lambda: resnet_as_transformers(RESNET) | heads(9, "classifier.1"),
        "resnet50",
        lambda: resnet_features(RESNET, images(64)),
    ),
    "transformers_vit": (
        lambda: prefixed(vit_as_transformers(VIT), "vit.") | heads(DIM, "classifier"),
        AS_VIT,
        lambda: cls_of(VIT),
    ),
    "transformers_mae": (
        lambda: prefixed(vit_as_transformers(VIT), "vit.") | heads(9, "decoder.decoder_embed"),
        AS_VIT,
        lambda: cls_of(VIT),
    ),
    "transformers_msn": (
        lambda: vit_as_transformers(VIT) | {"embeddings.mask_token": torch.zeros(1, 1, DIM)},
        AS_VIT,
        lambda: cls_of(VIT),
    ),
    "transformers_dinov2": (lambda: dinov2_as_transformers(LAYER_SCALE), DINOV2, lambda: cls_of(LAYER_SCALE)),
    "transformers_beit": (lambda: beit_as_transformers(BEIT), SHARED, lambda: cls_of(BEIT)),
    "transformers_clip": (lambda: clip_as_transformers(CLIP), AS_CLIP, lambda: cls_of(CLIP, quick=True, eps=1e-5)),
    "dinov2_chunks": (
        lambda: {
            "teacher": prefixed(vit_as_dinov2(LAYER_SCALE, chunks=True), "backbone.") | heads(9, "dino_head.mlp.0")
        },
        DINOV2,
        lambda: cls_of(LAYER_SCALE),
    ),
    "dinov2_registers": (lambda: vit_as_dinov2(REGISTERS, chunks=False), REG, lambda: cls_of(REGISTERS)),
    "beit_shared_table": (lambda: {"model": vit_as_beit(BEIT)}, AS_BEIT, lambda: cls_of(BEIT)),
    "openai_clip": (lambda: vit_as_openai_clip(CLIP), AS_CLIP, lambda: cls_of(CLIP, quick=True, eps=1e-5)),
    "facebook_convnext": (
        lambda: {"model": CONVNEXT | heads(32, "head")},
        AS_CONVNEXT,
        lambda: convnext_features(CONVNEXT, images(64), norm_first=False),
    ),
    "jax_vit": (lambda: vit_as_jax(VIT), AS_VIT, lambda: cls_of(VIT)),
}


@pytest.mark.parametrize("name", DIALECTS)
def test_dialects(tmp_path, name):
    content, architecture, features = DIALECTS[name]
    file = saved(content(), tmp_path / "w.pth")
    lines: list[str] = []
    encoder = create_encoder(f"ckpt:{file}@{architecture}", img_size=64, progress=lines.append)
    with torch.inference_mode():
        out = encoder.module(images(64))
        close(next(iter(out.values())), features())
    assert any("names of" in line for line in lines)


def test_two_tensors_for_one_place_are_refused(tmp_path):
    twice = beit_as_transformers(BEIT) | {f"beit.layernorm.{kind}": torch.ones(DIM) for kind in ("weight", "bias")}
    with pytest.raises(
        EncoderError, match=r"layernorm\.weight and beit\.layernorm\.weight both stand for norm\.weight"
    ):
        create_encoder(f"ckpt:{saved(twice, tmp_path / 'w.pth')}@{SHARED}")


def test_registers_of_transformers_have_their_positions_folded(tmp_path):
    file = saved(dinov2_as_transformers(REGISTERS), tmp_path / "w.pth")
    encoder = create_encoder(f"ckpt:{file}@{REG}", layers=["cls", "avg"])
    tokens = vit_tokens(REGISTERS, images(64))[-1]
    with torch.inference_mode():
        out = encoder.module(images(64))
    close(out["cls"], tokens[:, 0])
    close(out["avg"], tokens[:, 5:].mean(1))


def test_position_embeddings_of_another_size_are_resampled_and_said(tmp_path):
    from timm.layers.pos_embed import resample_abs_pos_embed

    file = saved(vit_as_timm(VIT), tmp_path / "w.pth")
    lines: list[str] = []
    encoder = create_encoder(f"ckpt:{file}@vit_tiny_patch16_224?{SMALL_VIT}&img_size=96", progress=lines.append)
    assert any("64 pixels were resampled from 4×4 to 6×6" in line and "img_size=64" in line for line in lines)
    positions = resample_abs_pos_embed(VIT["pos"][None], [6, 6], old_size=[4, 4])[0]
    with torch.inference_mode():
        close(encoder.module(images(96))["cls"], vit_tokens(VIT | {"pos": positions}, images(96))[-1][:, 0])
    other_width = {n: t[..., :-1] if n == "pos_embed" else t for n, t in vit_as_timm(VIT).items()}
    with pytest.raises(EncoderError, match=r"pos_embed has shape \(1, 17, 23\)"):
        create_encoder(f"ckpt:{saved(other_width, file)}@{AS_VIT}")


# --- what must not load without a word ------------------------------------------------------------------


def test_a_widened_resnet_is_no_plain_one(tmp_path):
    weights = resnet_weights(1, expand=512)
    file = saved(weights, tmp_path / "w.pth")
    with pytest.raises(EncoderError, match=r"widens the representation before the pool: write .*@resnet50\?expand="):
        create_encoder(f"ckpt:{file}@resnet50")
    encoder = create_encoder(f"ckpt:{file}@resnet50?expand=512", img_size=40)
    with torch.inference_mode():
        close(encoder.module(images(40))["avgpool"], resnet_features(weights, images(40)))
    with pytest.raises(EncoderError, match=r"resizer\.conv3\.weight has shape \(512, 64, 1, 1\)"):
        create_encoder(f"ckpt:{file}@resnet50?expand=1024")


def test_moco_v3s_small_vit_has_twelve_heads(tmp_path):
    file = saved(mocov3(vit_as_timm(VIT)), tmp_path / "w.pth")
    name = f"ckpt:{file}@vit_small_patch16_224?depth={BLOCKS}&embed_dim={DIM}&img_size=64"
    with pytest.raises(EncoderError, match=r"mocov3_vit_small \(it notes arch = vit_small\), which needs num_heads=12"):
        create_encoder(name)
    encoder = create_encoder(f"{name}&num_heads=12")
    with torch.inference_mode():
        close(encoder.module(images(64))["cls"], vit_tokens(VIT, images(64), heads=12)[-1][:, 0])


def test_moco_v3s_small_vit_with_a_linear_head_has_twelve_heads_too(tmp_path):
    trunk = {f"module.{name}": tensor for name, tensor in vit_as_timm(VIT).items()}
    name = f"@vit_small_patch16_224?depth={BLOCKS}&embed_dim={DIM}&img_size=64"
    file = saved({"model": "mocov3", "arch": "vit_small", "state_dict": trunk}, tmp_path / "w.pth")
    with pytest.raises(EncoderError, match=r"\(it notes arch = vit_small\), which needs num_heads=12"):
        create_encoder(f"ckpt:{file}{name}")
    # DINO keeps its own in args, and has six; what has another name is not asked about
    for noted in ({"args": {"arch": "vit_small"}}, {"arch": "vit_small_patch16_224"}):
        file = saved(noted | {"state_dict": trunk}, tmp_path / "w.pth")
        create_encoder(f"ckpt:{file}{name}&num_heads=6")
        create_encoder(f"ckpt:{file}{name}")


@pytest.mark.parametrize(
    ("noted", "line"),
    [
        ({"arch": "resnet50_caffe"}, "The file notes arch = resnet50_caffe, and is read as resnet50"),
        ({"hyper_parameters": {"backbone": "seresnet50"}},
         "The file notes hyper_parameters.backbone = seresnet50, and is read as resnet50"),
        ({"arch": "resnet50_v1_same"}, "The file notes arch = resnet50_v1_same, and is read as resnet50"),
        ({"arch": "ResNet-50"}, None),
        ({"arch": "resnet"}, None),
        ({"arch": "resnet50.a1_in1k"}, None),
        ({"model": "simsiam"}, None),
        ({"model": "moco2"}, None),
        ({"args": {"model": "moco_v2_resnet50"}}, None),
        ({"backbone": "weights/resnet18.pth"}, None),
    ],
)  # fmt: skip
def test_an_architecture_that_the_file_notes_otherwise_is_said(tmp_path, noted, line):
    file = saved(noted | {"state_dict": RESNET}, tmp_path / "w.pth")
    lines: list[str] = []
    create_encoder(f"ckpt:{file}@resnet50", img_size=40, progress=lines.append)
    said = [one for one in lines if "The file notes" in one]
    assert len(said) == (line is not None) and all(line in one for one in said)


@pytest.mark.parametrize("part", ["neck.0", "proj.0", "ema.conv1", "pool.attention"])
def test_parts_beside_a_trunk_are_named(tmp_path, part):
    file = saved({"state_dict": RESNET | heads(9, part)}, tmp_path / "w.pth")
    lines: list[str] = []
    word = part.partition(".")[0]
    if word == "pool":
        with pytest.raises(EncoderError, match=r"that are no head: state_dict\.pool\.attention\.weight"):
            create_encoder(f"ckpt:{file}@resnet50")
        return
    create_encoder(f"ckpt:{file}@resnet50", img_size=40, progress=lines.append)
    assert any(
        f"The file has {word} beside the trunk" in line and "may be a part of the encoder" in line for line in lines
    )


def test_preprocessing_that_the_file_does_not_say_is_said(tmp_path):
    file = saved(vit_as_timm(VIT), tmp_path / "w.pth")
    lines: list[str] = []
    encoder = create_encoder(f"ckpt:{file}@{AS_VIT}", progress=lines.append)
    said = "so mean 0.5,0.5,0.5, std 0.5,0.5,0.5, resize 71 for crops of 64, interpolation bicubic are timm's"
    assert any(said in line for line in lines)
    lines.clear()
    file_of_convnet = saved(timm.create_model("resnet10t", num_classes=0).state_dict(), tmp_path / "convnet.pth")
    smaller = create_encoder(f"ckpt:{file_of_convnet}@resnet10t", img_size=32, progress=lines.append)
    assert any(f"resize {smaller.spec.resize} for crops of 32" in line for line in lines)  # not those of 176 pixels
    lines.clear()
    own = f"ckpt:{file}@{AS_VIT}&mean=imagenet&std=0.2,0.25,0.3&resize=73&interpolation=bilinear"
    encoder = create_encoder(own, progress=lines.append)
    spec = encoder.spec
    assert (spec.mean, spec.std, spec.resize) == ((0.485, 0.456, 0.406), (0.2, 0.25, 0.3), 73)
    assert spec.interpolation == "bilinear" and not any("does not say" in line for line in lines)
    from PIL import Image
    from torchvision import transforms as T

    pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    theirs = T.Compose([T.Resize(73), T.CenterCrop(64), T.ToTensor(), T.Normalize(spec.mean, spec.std)])
    assert torch.equal(encoder.transform(Image.fromarray(pixels)), theirs(Image.fromarray(pixels)))


def test_the_command_line_says_how_images_were_prepared(tmp_path):
    from click.testing import CliRunner
    from ssl_risk_rs.bank import FeatureBank
    from ssl_risk_rs.cli import main

    file = saved(RESNET, tmp_path / "w.pth")
    line = ["extract", "-m", f"ckpt:{file}@resnet50", "-d", "digits", "--limit", "1/class", "--store", "store"]
    line += ["--img-size", "32", "--mean", "half", "--std", "0.25", "--resize", "36", "--interpolation", "bicubic"]
    done = CliRunner().invoke(main, [*line, "--format", "json"])
    assert done.exit_code == 0, done.output
    spec = FeatureBank.open(json.loads(done.stdout)[0]["path"]).header.encoder_spec or {}
    assert (spec["mean"], spec["std"]) == ([0.5, 0.5, 0.5], [0.25, 0.25, 0.25])
    assert (spec["img_size"], spec["resize"], spec["interpolation"]) == (32, 36, "bicubic")


def test_a_twin_from_a_file_sees_the_same_images(tmp_path):
    from click.testing import CliRunner
    from ssl_risk_rs.bank import FeatureBank
    from ssl_risk_rs.cli import main
    from ssl_risk_rs.results import Run

    file = saved(RESNET, tmp_path / "w.pth")
    line = ["run", "-m", f"ckpt:{file}@resnet50", "-d", "digits", "--limit", "8/class", "--store", "store"]
    line += ["--img-size", "32", "--mean", "half", "--std", "half", "--probe", "ridge", "--out", str(tmp_path / "run")]
    line += ["--supervised", f"ckpt:{file}@resnet50?std=0.25", "--control", "pixels:8"]
    done = CliRunner().invoke(main, line)
    assert done.exit_code == 0, done.output
    provenance = Run.load(tmp_path / "run").provenance
    assert provenance.supervised == f"ckpt:{file}@resnet50?std=0.25&mean=half"
    headers = {role: FeatureBank.open(bank.path).header.encoder_spec for role, bank in provenance.banks.items()}
    assert (headers["encoder"]["mean"], headers["encoder"]["std"]) == ([0.5] * 3, [0.5] * 3)
    assert (headers["supervised"]["mean"], headers["supervised"]["std"]) == ([0.5] * 3, [0.25] * 3)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("mean=red", "mean is imagenet, clip, half, one number"),
        ("std=0", "std is imagenet"),
        ("resize=32", "a short side of 32 is less than the 64"),
        ("interpolation=nearest", "interpolation is bilinear or bicubic"),
        ("ema=maybe", r"ema is true \(the average over steps\) or false"),
        ("match=shape", "match is name or order"),
    ],
)
def test_wrong_options_of_a_file_are_named(tmp_path, query, message):
    file = saved(vit_as_timm(VIT), tmp_path / "w.pth")
    with pytest.raises(EncoderError, match=message):
        create_encoder(f"ckpt:{file}@{AS_VIT}&{query}")


def test_which_of_several_copies_is_taken(tmp_path):
    averaged = resnet_weights(9)
    file = saved({"state_dict": RESNET, "state_dict_ema": averaged}, tmp_path / "w.pth")
    for query, weights in (("", RESNET), ("?ema=false", RESNET), ("?ema=true", averaged)):
        lines: list[str] = []
        encoder = create_encoder(f"ckpt:{file}@resnet50{query}", img_size=40, progress=lines.append)
        with torch.inference_mode():
            close(encoder.module(images(40))["avgpool"], resnet_features(weights, images(40)))
        assert any("another copy under state_dict" in line for line in lines)
        assert encoder.notes == tuple(lines)
    with pytest.raises(EncoderError, match="no copy of the encoder that is an average over steps, only state_dict"):
        create_encoder(f"ckpt:{saved({'state_dict': RESNET}, file)}@resnet50?ema=true")


# --- refused, with what to do ----------------------------------------------------------------------------


def test_quantized_and_sparse_tensors_are_refused_by_name(tmp_path):
    state = dict(RESNET)
    state["layer2.0.conv2.weight"] = state["layer2.0.conv2.weight"].to_sparse()
    file = saved({"state_dict": state}, tmp_path / "w.pth")
    with pytest.raises(EncoderError, match=r"layer2\.0\.conv2\.weight as a sparse_tensor, which means nothing"):
        create_encoder(f"ckpt:{file}@resnet50")


FOREIGN_FILES = [
    ("page.pth", b"<html>Quota exceeded</html>", "it is a web page"),
    ("model.h5", b"\x89HDF\r\n\x1a\n" + b"0" * 80, "it is an HDF5 file"),
    ("w.pth.gz", b"\x1f\x8b\x08" + b"0" * 80, "unpack it first"),
    ("lfs.pth", b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "git lfs pull"),
    ("w.bin", b"nothing", "neither a torch checkpoint nor a safetensors file"),
]


@pytest.mark.parametrize(("name", "head", "message"), FOREIGN_FILES)
def test_files_of_other_kinds_say_what_to_do(tmp_path, name, head, message):
    (tmp_path / name).write_bytes(head)
    with pytest.raises(EncoderError, match=message):
        create_encoder(f"ckpt:{tmp_path / name}@resnet50")


def test_a_name_that_a_file_holds_twice_is_refused(tmp_path):
    """Readers keep the last of them, and say nothing."""
    entry = '"conv1.weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}'
    header = f"{{{entry}, {entry}}}".encode()
    (tmp_path / "w.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(EncoderError, match=r"w\.safetensors: its header has 'conv1\.weight' twice"):
        create_encoder(f"ckpt:{tmp_path}/w.safetensors@resnet50")
    array = io.BytesIO()
    np.save(array, np.zeros(3, np.float32))
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(tmp_path / "w.npz", "w") as archive:
        for _ in range(2):
            archive.writestr("conv1.weight.npy", array.getvalue())
    with pytest.raises(EncoderError, match=r"its archive holds conv1\.weight\.npy twice"):
        create_encoder(f"ckpt:{tmp_path}/w.npz@resnet50")


def test_shards_that_are_missing_are_named(tmp_path):
    sharded(RESNET, tmp_path / "folder")
    (tmp_path / "folder" / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(EncoderError, match=r"lacks 1 of the 2 files.*model-00002-of-00002"):
        create_encoder(f"ckpt:{tmp_path}/folder@resnet50")
    (tmp_path / "folder" / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../evil.safetensors"}}')
    with pytest.raises(EncoderError, match="names files outside its folder"):
        create_encoder(f"ckpt:{tmp_path}/folder@resnet50")
    (tmp_path / "empty").mkdir()
    with pytest.raises(EncoderError, match=r"is a folder without model\.safetensors or pytorch_model\.bin"):
        create_encoder(f"ckpt:{tmp_path}/empty@resnet50")


def test_at_least_68_of_79_layouts_load():
    names = [name for name, _ in resnet_layouts()]
    assert len(set(names)) == len(names)
    loading = len(names) + len(VIT_USUAL) + len(CONTAINERS) + len(DIALECTS)
    asked = 4  # a widened ResNet, MoCo-v3's small ViT, a converted network, a pool beside the trunk
    assert loading >= 68 and loading + asked + len(FOREIGN_FILES) >= 79


# --- nothing in a file is run ----------------------------------------------------------------------------


class Hostile:
    """Would make a file when it is unpickled."""

    def __init__(self, target, how):
        self.target, self.how = target, how

    def __reduce__(self):
        source = f"open({str(self.target)!r}, 'w').close()"
        calls = {"call": (pathlib.Path.touch, (self.target,)), "exec": (exec, (source,))}
        return calls.get(self.how, (eval, (source,)))


@pytest.mark.parametrize("how", ["call", "exec", "eval"])
@pytest.mark.parametrize("container", ["torch", "legacy", "pickle"])
def test_nothing_in_a_file_is_run(tmp_path, how, container):
    mark = tmp_path / "was-run"
    content = {"state_dict": RESNET, "args": Hostile(mark, how)}
    file = tmp_path / "evil.pth"
    if container == "pickle":
        file.write_bytes(
            pickle.dumps({"state_dict": {n: t.numpy() for n, t in RESNET.items()}, "args": content["args"]})
        )
    else:
        torch.save(content, file, _use_new_zipfile_serialization=container == "torch")
    encoder = create_encoder(f"ckpt:{file}@resnet50", img_size=40)  # the weights are read, the rest is not
    with torch.inference_mode():
        close(encoder.module(images(40))["avgpool"], resnet_features(RESNET, images(40)))
    assert not mark.exists()


def test_a_storage_that_ends_early_is_refused(tmp_path):
    torch.save({"state_dict": RESNET}, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    whole = (tmp_path / "w.pth").read_bytes()
    for length in (3, 200, len(whole) // 2, len(whole) - 4):
        (tmp_path / "cut.pth").write_bytes(whole[:length])
        with pytest.raises(EncoderError, match=r"damaged or cut short|neither a torch checkpoint"):
            create_encoder(f"ckpt:{tmp_path}/cut.pth@resnet50")


@pytest.mark.parametrize("legacy", [True, False])
def test_a_damaged_file_is_an_error_that_says_so_or_reads_as_something(tmp_path, legacy):
    import random

    from ssl_risk_rs.encoders.weights.archives import read_checkpoint
    from ssl_risk_rs.encoders.weights.naming import contents_of

    weights = {f"layer.{i}.weight": torch.randn(3, 4) for i in range(4)}
    content = {"state_dict": weights, "args": argparse.Namespace(a=[1, {"x": np.float64(3)}]), "n": np.arange(6.0)}
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=not legacy)
    whole, chance, refused = (tmp_path / "w.pth").read_bytes(), random.Random(0), 0
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            damaged[chance.randrange(len(whole))] = chance.randrange(256)
        (tmp_path / "w.pth").write_bytes(damaged)
        try:
            contents_of(read_checkpoint(tmp_path / "w.pth"))
        except EncoderError:
            refused += 1
    assert refused > 20


def test_a_clip_tower_is_asked_about_its_activation_and_other_vits_are_not():
    from ssl_risk_rs.encoders.weights.left_over import ask
    from ssl_risk_rs.encoders.weights.match import Choice
    from ssl_risk_rs.encoders.weights.naming import contents_of

    held = contents_of({"visual.transformer.resblocks.0.attn.in_proj_weight": torch.zeros(3, 1)})
    (note,) = ask(held, Choice(architecture="vit_base_patch32_clip_224"))
    assert note.startswith("The file does not say which activation it needs")
    assert not ask(held, Choice(architecture="vit_base_patch32_224"))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_tensor_that_is_a_part_of_a_storage_has_its_own_numbers(tmp_path, zipped):
    from ssl_risk_rs.encoders.weights.archives import read_checkpoint

    whole = torch.arange(24.0)
    tensors = {"rows": whole[6:12].view(2, 3), "transposed": whole.view(4, 6)[1:, 2:].t(), "step": whole[1::5]}
    torch.save(tensors, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    found = read_checkpoint(tmp_path / "w.pth")
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", ">f8", "<f2", ">i8"])
def test_pickled_arrays_have_their_numbers_whatever_their_order(tmp_path, dtype, order):
    from ssl_risk_rs.encoders.weights.archives import read_checkpoint
    from ssl_risk_rs.encoders.weights.naming import contents_of

    array = np.asarray(np.arange(6).reshape(2, 3), dtype=dtype, order=order)
    (tmp_path / "w.pkl").write_bytes(pickle.dumps({"w": array}))
    found = contents_of(read_checkpoint(tmp_path / "w.pkl")).tensors["w"]
    assert found.tolist() == [[0, 1, 2], [3, 4, 5]] and found.numpy().dtype == np.dtype(dtype).newbyteorder("=")


def test_a_tensor_that_reaches_beyond_its_storage_is_refused(tmp_path):
    from ssl_risk_rs.encoders.weights.inert import Storage, _tensor

    storage = Storage(lambda: torch.zeros(4), torch.float32)
    for offset, size, stride in ((0, (5,), (1,)), (2, (2, 2), (2, 1)), (0, (2,), (9,))):
        with pytest.raises(EOFError, match="reaches beyond its storage of 4 elements"):
            _tensor(storage, offset, size, stride)
    assert _tensor(storage, 0, (0, 7), (7, 1)).shape == (0, 7)


def test_wrappers_in_names_are_counted(tmp_path):
    lines: list[str] = []
    create_encoder(
        f"ckpt:{saved(WRAPPED['torch_compile'](RESNET), tmp_path / 'w.pth')}@resnet50", progress=lines.append
    )
    assert any(re.search(rf"training wrappers were taken out of {len(RESNET)} names", line) for line in lines)
