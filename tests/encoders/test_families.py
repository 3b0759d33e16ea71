"""Every family of the catalogue: a file in its authors' own layout gives the features of an independent network.

The rows of the catalogue are used as they are, with architectures of a few channels. Files hold random weights in the
authors' containers, prefixes, heads and types.
"""

import argparse
import collections
import pickle
import sys
import types
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from layouts import (
    beit_as_transformers,
    clip_as_transformers,
    resnet_as_haiku,
    vit_as_beit,
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
    STEM,
    clip_resnet_features,
    convnext_features,
    convnext_weights,
    resnet_features,
    resnet_weights,
    vit_tokens,
    vit_weights,
)
from ssl_risk_rs.encoders import create_encoder
from ssl_risk_rs.encoders.catalogue import EncoderRow, catalogue
from ssl_risk_rs.encoders.names import parse_options
from ssl_risk_rs.encoders.networks.build import build_network
from ssl_risk_rs.encoders.networks.codec import ClipCompressor
from ssl_risk_rs.encoders.sources.published import row_options
from ssl_risk_rs.encoders.weights.dialects import translate
from ssl_risk_rs.encoders.weights.download import cached_path
from ssl_risk_rs.errors import EncoderError

ROWS = list(catalogue().encoders.values())


def images(side: int, n: int = 2) -> torch.Tensor:
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(5))


def close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert ours.shape == theirs.shape
    assert (theirs[0] - theirs[1]).abs().max() > 1e-3 * theirs.abs().max()  # images are told apart
    # float32 rounding through the blocks in another order of operations
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * theirs.abs().max().item())


# --- containers of the authors' files ----------------------------------------------------------------


def heads(width: int, *names: str) -> dict[str, torch.Tensor]:
    return {f"{name}.weight": torch.randn(3, width) for name in names}


def prefixed(weights, prefix):
    return {f"{prefix}{name}": tensor for name, tensor in weights.items()}


def other(weights):
    """Another network of the same names, whose features are wrong."""
    return {n: torch.randn_like(t) if t.is_floating_point() else t for n, t in weights.items()}


def vissl(w):
    trunk = prefixed(w, "_feature_blocks.")
    model = {"trunk": trunk, "heads": {"0.clf.0.weight": torch.zeros(4, 9)}}
    return {
        "phase_idx": 99,
        "loss": {"name": "x"},
        "classy_state_dict": {"train": True, "base_model": {"model": model}},
    }


def moco(w):
    state = prefixed(w, "module.encoder_q.") | heads(9, "module.encoder_q.fc.0", "module.encoder_q.fc.2")
    state |= prefixed(other(w), "module.encoder_k.") | {"module.queue": torch.zeros(9, 5)}
    return {"epoch": 200, "arch": "resnet50", "state_dict": state, "optimizer": {"state": {0: w["conv1.weight"]}}}


def mocov3(w):
    state = prefixed(w, "module.base_encoder.") | heads(9, "module.predictor.0", "module.base_encoder.head.0")
    state = {
        k.replace("base_encoder.head", "base_encoder.fc" if "conv1.weight" in w else "base_encoder.head"): v
        for k, v in state.items()
    }
    state |= prefixed(other(w), "module.momentum_encoder.") | heads(9, "module.momentum_encoder.fc.0")
    return {"epoch": 300, "arch": "vit_small", "state_dict": state}


def dino_vit(w):
    return dict(w)


def ibot(w):
    return {"state_dict": w | heads(9, "head.mlp.0", "head.last_layer") | {"masked_embed": torch.zeros(1, DIM)}}


def mugs(w):
    return {"state_dict": w | heads(9, "relation_blocks.0.attn.proj", "relation_blocks.0.norm1")}


def mae(w):
    return {"model": w | heads(9, "decoder_embed", "decoder_blocks.0.attn.qkv") | {"mask_token": torch.zeros(1, 1, 4)}}


def msn(w):
    target = prefixed(w, "module.") | heads(9, "module.fc.fc1", "module.fc.fc3")
    return {"encoder": prefixed(other(w), "module."), "target_encoder": target, "prototypes": torch.zeros(3, 2)}


def swav(w):
    flat = prefixed(w, "module.") | heads(9, "module.projection_head.0", "module.prototypes")
    return collections.OrderedDict(flat)


def mmselfsup(w):
    return {"meta": {"env": "x"}, "state_dict": prefixed(w, "backbone.") | heads(9, "neck.fc0", "head.fc")}


def speccl(w):
    return {"state_dict": prefixed(w, "backbone.") | heads(9, "backbone.proj_resnet.0", "backbone.fc.0")}


def simsiam(w):
    return {"state_dict": prefixed(w, "module.encoder.") | heads(9, "module.encoder.fc.0", "module.predictor.0")}


def infomin(w):
    return {"opt": argparse.Namespace(lr=0.1), "model": prefixed(w, "module.encoder.") | heads(9, "module.head.0")}


#: beginnings of names → the container of their authors' files; the first that fits
CONTAINERS = {
    "mocov2_rn50_vissl": vissl,
    "mocov3": mocov3,
    "moco": moco,
    "dino": dino_vit,
    "ibot": ibot,
    "mugs": mugs,
    "mae": mae,
    "msn": msn,
    "swav": swav,
    "dc2": swav,
    "selav2": swav,
    "simsiam_rn50_bs256_ep100": simsiam,
    "simsiam_rn50_bs512": simsiam,
    "speccl": speccl,
    "infomin": infomin,
    "dissl": dict,
    "simclr_resnet50": dict,
    "vicreg": dict,
    "sup": dict,
    "lossyless": dict,
    "byol": dict,
    **dict.fromkeys(("barlow", "simclr_rn", "pirl", "npid", "jigsaw", "rotnet", "clusterfit"), vissl),
}


def container(name):
    if name.endswith("mmselfsup"):
        return mmselfsup
    return next((made for start, made in CONTAINERS.items() if name.startswith(start)), dict)


# --- a small network of each row, and its weights -----------------------------------------------------


class Small(NamedTuple):
    """A row with a small architecture, the weights, the features they give."""

    row: EncoderRow
    weights: dict[str, torch.Tensor]
    features: torch.Tensor
    side: int


def small(row: EncoderRow) -> Small:
    options = parse_options(row.options, row.name)
    if row.architecture.startswith("resnet") and "clip" not in row.architecture:
        width = int(row.architecture.partition("w")[2] or 1)
        weights = resnet_weights(3, stem=STEM * width, expand=options.get("expand"))
        return Small(row, weights, resnet_features(weights, images(40), options.get("padding", "both")), 40)
    if row.architecture.startswith("convnext"):
        vicregl = "head_norm_first" in options
        weights = convnext_weights(3, gamma=not vicregl)
        extra = f"depths=[{','.join(map(str, CONV_DEPTHS))}]&dims=[{','.join(map(str, CONV_DIMS))}]"
        features = convnext_features(weights, images(64), norm_first=vicregl)
        return Small(with_options(row, extra), weights, features, 64)
    clip, beit = "clip" in row.architecture, row.architecture.startswith("beit")
    patch = int(options.get("patch_size", row.architecture.split("patch")[1].split("_")[0]))
    side = 4 * patch if patch >= 14 else 8 * patch
    width = options.get("num_classes") or (512 if row.architecture.endswith("compressor") else None)
    n_heads = options.get("num_heads", HEADS)
    weights = vit_weights(3, side=side, patch=patch, clip=clip, beit=beit, projection=width)
    extra = f"depth={BLOCKS}&embed_dim={DIM}&img_size={side}" + (
        "" if "num_heads" in options else f"&num_heads={HEADS}"
    )
    if "giant" in row.architecture:
        extra += "&mlp_ratio=4"
    quick = "quickgelu" in row.architecture or row.architecture.endswith("compressor")
    tokens = vit_tokens(weights, images(side), heads=n_heads, quick=quick, eps=1e-5 if clip else 1e-6)
    last = tokens[-1]
    parts = {"cls": last[:, 0], "avg": last[:, 1:].mean(1), "4xcls": torch.cat([t[:, 0] for t in tokens[-4:]], 1)}
    if width:
        parts["proj"] = last[:, 0] @ weights["projection.weight"].t()
        parts["pred"] = parts["proj"]
    features = torch.cat([parts[part] for part in row.feature.split("+")], 1)
    return Small(with_options(row, extra), weights, features, side)


def with_options(row: EncoderRow, extra: str) -> EncoderRow:
    return replace(row, options=f"{row.options}&{extra}" if row.options else extra)


WRITERS = {
    "native": vit_as_timm,
    "beit": vit_as_beit,
    "openai_clip_vit": vit_as_openai_clip,
    "transformers_vit": vit_as_transformers,
    "transformers_beit": beit_as_transformers,
    "transformers_clip": clip_as_transformers,
}


def write(path, content, reader: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if reader == "safetensors":
        from safetensors.torch import save_file

        save_file({name: tensor.contiguous() for name, tensor in content.items()}, path)
    else:
        torch.save(content, path)


def groups() -> list[tuple[str, int]]:
    """One row of each kind (container, architecture, options, feature), and each address of its file."""
    seen, chosen = set(), []
    for row in ROWS:
        if ("resnet" in row.architecture and "clip" in row.architecture) or len(row.files) > 1 or "byol" in row.name:
            continue  # tested below
        if row.architecture.startswith("wide_"):
            continue  # tested below
        for number, place in enumerate(catalogue().files[row.files[0]]):
            if row.architecture.startswith("convnext") and place.dialect == "native":
                continue  # timm wrote it in the names of the architecture itself
            made = container(row.name) if number == 0 else dict
            kind = (made, row.architecture, row.options, row.feature, place.dialect, place.reader)
            if kind not in seen:
                seen.add(kind)
                chosen.append((row.name, number))
    return chosen


@pytest.mark.parametrize(("name", "number"), groups())
def test_a_file_in_the_layout_of_its_authors(name, number, monkeypatch, tiny_resnets):
    tables = catalogue()
    made = small(tables.encoders[name.lower()])
    monkeypatch.setitem(tables.encoders, name.lower(), made.row)
    place = tables.files[made.row.files[0]][number]
    translated = made.weights
    if made.row.architecture.startswith(("vit", "beit")):
        translated = WRITERS["beit" if place.dialect == "native" and "beit" in name else place.dialect](made.weights)
    wrapped = (container(name) if number == 0 else dict)(translated)
    monkeypatch.setitem(tables.files, place.file, (replace(place, sha256=""),))
    write(cached_path(place), wrapped, place.reader)
    lines: list[str] = []
    encoder = create_encoder(name, img_size=made.side, progress=lines.append)
    with torch.inference_mode():
        close(encoder.module(images(made.side))[made.row.feature], made.features)
    doubts = [line for line in lines if "may be" in line or "may have been" in line or "does not say" in line]
    assert not doubts  # the catalogue knows its files
    record = cached_path(place).with_name(cached_path(place).name + ".json")
    record.unlink()

    # one tensor less is refused by its name
    lost = [n for n in translated if "norm2.bias" in n or "layernorm_after.bias" in n or n.endswith("bn2.running_var")]
    lost += [n for n in translated if "ln_2.bias" in n or "layer_norm2.bias" in n or n.endswith("dwconv.bias")]
    missing = {n: t for n, t in translated.items() if n != lost[1]}
    write(cached_path(place), (container(name) if number == 0 else dict)(missing), place.reader)
    with pytest.raises(EncoderError, match=r"1 of \d+ tensors are missing .*(norm2|bn2|conv_dw)\.(bias|running_var)"):
        create_encoder(name, img_size=made.side)


def test_the_wide_resnet_has_torchvisions_names():
    from torchvision.models import wide_resnet50_2

    with torch.device("meta"):
        ours, theirs = build_network("wide_resnet50_2", {}).state_dict(), wide_resnet50_2().state_dict()
    assert {n: t.shape for n, t in ours.items()} == {n: t.shape for n, t in theirs.items() if not n.startswith("fc.")}


# --- BYOL: pickles of Haiku ---------------------------------------------------------------------------


def haiku_pickle(weights, monkeypatch) -> bytes:
    """A pickle as DeepMind's training wrote it: classes of packages that are not here when it is read."""
    experiment, data = types.ModuleType("byol.byol_experiment"), types.ModuleType("haiku._src.data_structures")

    class State(NamedTuple):
        online_params: object
        target_params: object
        online_state: object
        target_state: object
        opt_state: object

    class FlatMapping:
        def __init__(self, mapping):
            self._mapping = mapping

    State.__module__, State.__qualname__, State.__name__ = "byol.byol_experiment", "State", "State"
    FlatMapping.__module__, FlatMapping.__qualname__ = "haiku._src.data_structures", "FlatMapping"
    experiment.State, data.FlatMapping = State, FlatMapping

    def mapping(content):
        return FlatMapping({m: {k: t.numpy() for k, t in part.items()} for m, part in content.items()})

    with monkeypatch.context() as patch:
        for module in (
            types.ModuleType("byol"),
            experiment,
            types.ModuleType("haiku"),
            types.ModuleType("haiku._src"),
            data,
        ):
            patch.setitem(sys.modules, module.__name__, module)
        online, averages = resnet_as_haiku(weights)
        target, others = resnet_as_haiku(other(weights))
        state = State(
            mapping(online), mapping(target), mapping(averages), mapping(others), {"momentum": mapping(target)}
        )
        return pickle.dumps({"step": np.int64(3), "rng": np.zeros(2, np.uint32), "experiment_state": state}, protocol=4)


def test_byol_pickles_give_the_features_of_a_network_that_pads_at_the_end(monkeypatch, tiny_resnets):
    weights = resnet_weights(4)
    place = catalogue().files["byol_rn50_bs64"][0]
    path = cached_path(place)
    path.parent.mkdir(parents=True)
    path.write_bytes(haiku_pickle(weights, monkeypatch))
    for side in (40, 33):
        encoder = create_encoder("byol_rn50_bs64", img_size=side)
        with torch.inference_mode():
            ours = encoder.module(images(side))["avgpool"]
        close(ours, resnet_features(weights, images(side), "same"))
        if side % 2 == 0:  # plain padding is another network; at odd sizes both pad alike
            assert (ours - resnet_features(weights, images(side))).abs().max() > 1e-3
    assert "byol" not in sys.modules and "haiku" not in sys.modules

    less = {n: t for n, t in weights.items() if n != "layer3.1.bn2.running_var"}
    path.with_name(path.name + ".json").unlink()
    path.write_bytes(haiku_pickle(less, monkeypatch))
    with pytest.raises(
        EncoderError, match=r"1 of \d+ tensors are .*names of haiku_resnet.*layer3\.1\.bn2\.running_var"
    ):
        create_encoder("byol_rn50_bs64")


def test_byol_converted_to_torch_loads_too_and_as_a_plain_resnet_it_is_asked_about(tmp_path, tiny_resnets):
    weights = {n: t for n, t in resnet_weights(4).items() if not n.endswith("num_batches_tracked")}
    converted = {
        n: t.permute(2, 3, 1, 0).contiguous().permute(3, 2, 0, 1) if t.ndim == 4 else t for n, t in weights.items()
    }
    torch.save(converted | {"fc.weight": torch.zeros(3, 256)}, tmp_path / "pretrain_res50x1.pth.tar")
    encoder = create_encoder(f"ckpt:{tmp_path}/pretrain_res50x1.pth.tar@byol_rn50_bs4096", img_size=40)
    with torch.inference_mode():
        close(encoder.module(images(40))["avgpool"], resnet_features(weights, images(40), "same"))
    with pytest.raises(EncoderError, match=r"TensorFlow and JAX store them.*padding=same"):
        create_encoder(f"ckpt:{tmp_path}/pretrain_res50x1.pth.tar@resnet50")
    encoder = create_encoder(f"ckpt:{tmp_path}/pretrain_res50x1.pth.tar@resnet50?padding=both", img_size=40)
    with torch.inference_mode():
        close(encoder.module(images(40))["avgpool"], resnet_features(weights, images(40)))


# --- CLIP's ResNets and the compressor ----------------------------------------------------------------


def openai_resnet(network) -> dict[str, torch.Tensor]:
    """The weights of a CLIP ResNet in OpenAI's names, written from timm's."""
    import re

    out = {}
    for name, tensor in network.state_dict().items():
        name = re.sub(r"^stem\.conv(\d)\.conv", r"conv\1", name)
        name = re.sub(r"^stem\.conv(\d)\.bn", r"bn\1", name)
        name = re.sub(r"^stages\.(\d)\.", lambda m: f"layer{int(m[1]) + 1}.", name)
        name = re.sub(r"\.conv(\d)_\w+\.conv", r".conv\1", name)
        name = re.sub(r"\.conv(\d)_\w+\.bn", r".bn\1", name)
        name = name.replace(".shortcut.conv.conv", ".downsample.0").replace(".shortcut.conv.bn", ".downsample.1")
        name = re.sub(r"^head\.([qkv])\.", r"attnpool.\1_proj.", name)
        out[name.replace("head.pos_embed", "attnpool.positional_embedding")] = tensor
    return out


@pytest.mark.parametrize("row", [row for row in ROWS if row.feature == "attnpool"], ids=lambda row: row.name)
def test_clip_resnets_have_a_place_for_every_tensor(row):
    with torch.device("meta"):
        network = build_network(row.architecture, row_options(row))
    wanted = network.state_dict()
    file = {f"visual.{n}": t for n, t in openai_resnet(network).items()}
    file |= {"visual.attnpool.c_proj.weight": torch.zeros(1), "transformer.resblocks.0.ln_1.weight": torch.zeros(1)}
    made = {t.prefix: t for t in translate(catalogue().dialects["openai_clip_resnet"], file, wanted)}["visual."]
    assert {n: t.shape for n, t in made.tensors.items() if n in wanted} == {n: t.shape for n, t in wanted.items()}
    assert network.num_features == int(catalogue().corrected(row.name)["z_dim"])


def test_a_clip_resnet_gives_the_features_of_an_independent_one(tmp_path):
    network = build_network("resnet50_clip", {}, seed=2)
    generator = torch.Generator().manual_seed(1)
    for name, tensor in network.state_dict().items():
        if name.endswith(("running_mean", "running_var", "bn.weight")):
            tensor.copy_(
                torch.rand(tensor.shape, generator=generator) * 0.5 + (-0.25 if name.endswith("mean") else 0.5)
            )
        elif tensor.ndim > 1:
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * (4 / tensor[0].numel()) ** 0.5)
    weights = {n: t.half().float() for n, t in openai_resnet(network).items() if t.is_floating_point()}
    file = {f"visual.{n}": t.half() for n, t in weights.items()}  # OpenAI's files are in half precision
    file |= {"visual.attnpool.c_proj.weight": torch.zeros(1024, 2048), "visual.attnpool.c_proj.bias": torch.zeros(1024)}
    torch.save(file | {"logit_scale": torch.zeros(())}, tmp_path / "RN50.pt")
    encoder = create_encoder(f"ckpt:{tmp_path}/RN50.pt@clip_rn50")
    with torch.inference_mode():
        theirs = clip_resnet_features(weights, images(224), (3, 4, 6, 3), heads=32)
        close(encoder.module(images(224))["attnpool"], theirs)


def test_the_compressor_is_clips_projection_on_its_grid(tmp_path, monkeypatch):
    tables = catalogue()
    row = tables.encoders["lossyless_vitb32_b005"]
    made = small(replace(row, feature="pred"))
    z = made.features
    generator = torch.Generator().manual_seed(8)
    codec = {
        "scaling": torch.randn(512, generator=generator) * 0.3 + 1,
        "biasing": torch.randn(512, generator=generator),
        "entropy_bottleneck.quantiles": torch.randn(512, 1, 3, generator=generator),
        "entropy_bottleneck._matrix0": torch.randn(512, 3, 1),
        "entropy_bottleneck._quantized_cdf": torch.zeros(512, 9, dtype=torch.int32),
    }
    torch.save(codec, tmp_path / "rate.pt")
    torch.save(vit_as_openai_clip(made.weights), tmp_path / "tower.pt")
    scale, shift = codec["scaling"].exp(), codec["biasing"]
    middle = codec["entropy_bottleneck.quantiles"][:, 0, 1]
    codes = torch.round((z + shift) * scale - middle)
    theirs = (codes + middle) / scale - shift

    def tiny(architecture, options, **_):
        assert architecture == "clip_vit_base_patch32_compressor"
        small_tower = {"depth": BLOCKS, "embed_dim": DIM, "num_heads": HEADS, "img_size": made.side, "num_classes": 512}
        return ClipCompressor(build_network("vit_base_patch32_clip_quickgelu_224", small_tower), 512)

    monkeypatch.setattr("ssl_risk_rs.encoders.networks.build.build_network", tiny)
    monkeypatch.setitem(tables.encoders, row.name, replace(row, img_size=made.side, resize=made.side))
    encoder = create_encoder(f"ckpt:{tmp_path}/tower.pt,{tmp_path}/rate.pt@lossyless_vitb32_b005")
    with torch.inference_mode():
        ours = encoder.module(images(made.side))["pred"]
    same = (torch.round((ours + shift) * scale - middle) == codes).float().mean()
    assert same > 0.995  # a last-bit difference next to the middle of two codes may flip one
    agree = (ours - theirs).abs() < 1e-4
    assert agree.float().mean() > 0.995
    del codec["scaling"]
    torch.save(codec, tmp_path / "rate.pt")
    with pytest.raises(EncoderError, match=r"1 of 3 tensors are missing .*scaling"):
        create_encoder(f"ckpt:{tmp_path}/tower.pt,{tmp_path}/rate.pt@lossyless_vitb32_b005")
    with pytest.raises(EncoderError, match="is made of 2 files, not 1"):
        create_encoder(f"ckpt:{tmp_path}/tower.pt@lossyless_vitb32_b005")
