"""`hf:` and `openclip:`: features and pixels equal to those of the libraries themselves, on files that they wrote."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from ssl_risk_rs.encoders import create_encoder, describe_encoder
from ssl_risk_rs.errors import EncoderError

#: of float32 sums in another order, relative to the largest feature
TOLERANCE = 1e-5
SIZES = {
    "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 3, "image_size": 48, "patch_size": 16,
    "intermediate_size": 48,
}  # fmt: skip


@pytest.fixture
def picture(rng) -> Image.Image:
    """Neither square nor of the network's size; smooth and noisy parts."""
    ramp = np.linspace(0, 255, 90 * 70 * 3).reshape(70, 90, 3)
    noise = rng.integers(0, 256, (70, 90, 3))
    return Image.fromarray(np.where(np.arange(90)[None, :, None] < 45, ramp, noise).astype(np.uint8))


def close(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and bool((one - other).abs().max() <= TOLERANCE * other.abs().max())


# --- transformers


def hf_models():
    t = pytest.importorskip("transformers")
    resnet = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
    text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    text |= {"vocab_size": 99, "bos_token_id": 1, "eos_token_id": 2}
    registers = {key: value for key, value in SIZES.items() if key != "intermediate_size"}
    return {
        "vit": (t.ViTModel(t.ViTConfig(**SIZES)), t.ViTImageProcessorPil(size={"height": 48, "width": 48})),
        "dinov2": (
            t.Dinov2WithRegistersModel(t.Dinov2WithRegistersConfig(**registers, mlp_ratio=2, num_register_tokens=4)),
            t.BitImageProcessorPil(size={"shortest_edge": 56}, crop_size={"height": 48, "width": 48}),
        ),
        "mae": (
            t.ViTMAEModel(t.ViTMAEConfig(**SIZES, decoder_hidden_size=24, decoder_num_attention_heads=3)),
            t.ViTImageProcessorPil(size={"height": 48, "width": 48}),
        ),
        "clip": (
            t.CLIPModel(t.CLIPConfig(vision_config=SIZES, text_config=text, projection_dim=12)),
            t.CLIPImageProcessorPil(size={"shortest_edge": 48}, crop_size={"height": 48, "width": 48}),
        ),
        "resnet": (
            t.ResNetModel(t.ResNetConfig(**resnet)),
            t.ConvNextImageProcessorPil(size={"shortest_edge": 48}, crop_pct=0.875),
        ),
    }


def theirs(kind: str, model, images: torch.Tensor) -> torch.Tensor:
    """The usual representation, by the library's own forward pass."""
    if kind == "clip":
        out = model.get_image_features(pixel_values=images)
        return out if isinstance(out, torch.Tensor) else out.pooler_output
    if kind == "resnet":
        return model(images).pooler_output.flatten(1)
    return model(images).last_hidden_state[:, 0]


@pytest.mark.parametrize("kind", ["vit", "dinov2", "mae", "clip", "resnet"])
def test_a_saved_model_of_transformers_gives_its_features_and_pixels(kind, tmp_path, picture):
    transformers = pytest.importorskip("transformers")
    model, processor = hf_models()[kind]
    model.save_pretrained(tmp_path / "m")
    processor.save_pretrained(tmp_path / "m")
    pool = "proj" if kind == "clip" else None
    encoder = create_encoder(f"hf:{tmp_path / 'm'}", pool=pool)
    again = transformers.AutoModel.from_pretrained(tmp_path / "m").eval()
    if kind == "mae":
        again = transformers.ViTMAEModel.from_pretrained(tmp_path / "m", mask_ratio=0.0).eval()
    own = transformers.AutoImageProcessor.from_pretrained(tmp_path / "m", backend="pil")
    pixels = own(picture, return_tensors="pt")["pixel_values"]
    assert torch.equal(encoder.transform(picture)[None], pixels)
    assert torch.equal(encoder.transform(picture.convert("L")), encoder.transform(picture.convert("L").convert("RGB")))
    batch = torch.cat([pixels, pixels.flip(3), pixels * 0.5])
    with torch.inference_mode():
        (feature,) = encoder.module(batch).values()
        assert close(feature, theirs(kind, again, batch))
        assert torch.equal(feature, next(iter(encoder.module(batch).values())))  # masks and noise are not drawn
    assert encoder.spec.features == ((pool,) if pool else ("avgpool",) if kind == "resnet" else ("cls",))
    assert encoder.code_hash is not None and describe_encoder(f"hf:{tmp_path / 'm'}").mean == encoder.spec.mean


def test_inner_blocks_poolings_and_registers_of_transformers(tmp_path, picture):
    pytest.importorskip("transformers")
    model, processor = hf_models()["dinov2"]
    model.eval()
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    encoder = create_encoder(f"hf:{tmp_path}", layers=["blocks.1", "last"], pool="cls,mean")
    assert encoder.spec.features == ("blocks.1:cls", "blocks.1:avg", "cls", "avg")
    pixels = encoder.transform(picture)[None]
    with torch.inference_mode():
        found, out = encoder.module(pixels), model(pixels, output_hidden_states=True)
        inner = model.layernorm(out.hidden_states[2])
        assert close(found["blocks.1:cls"], inner[:, 0]) and close(found["blocks.1:avg"], inner[:, 5:].mean(1))
        assert close(
            found["avg"], out.last_hidden_state[:, 5:].mean(1)
        )  # class token and four registers are no patches
    with pytest.raises(EncoderError, match=r"no feature blocks\.9"):
        create_encoder(f"hf:{tmp_path}", layers=["blocks.9"])


def without(folder: Path, part: str) -> int:
    """Take the tensors whose names have this part out of a saved model, and say how many."""
    from safetensors.torch import load_file, save_file

    held = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in held.items() if part not in name}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    return len(held) - len(kept)


def test_a_file_without_some_weights_of_the_encoder_is_refused(tmp_path):
    pytest.importorskip("transformers")
    model, processor = hf_models()["vit"]
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    create_encoder(f"hf:{tmp_path}")
    assert without(tmp_path, ".1.") > 5
    with pytest.raises(
        EncoderError, match=r"lacks weights of ViTModel \(.* and \d+ more\), for which transformers takes"
    ):
        create_encoder(f"hf:{tmp_path}")


def test_features_whose_weights_a_file_lacks_are_not_offered_and_each_load_is_the_same(tmp_path):
    transformers = pytest.importorskip("transformers")
    _, processor = hf_models()["vit"]
    transformers.ViTForImageClassification(transformers.ViTConfig(**SIZES, num_labels=3)).save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    said: list[str] = []
    first = create_encoder(f"hf:{tmp_path}", progress=said.append)
    assert first.spec.features == ("cls",)
    assert any("features that need them are not offered: pooler" in sentence for sentence in said)
    assert create_encoder(f"hf:{tmp_path}").weights_hash == first.weights_hash
    with pytest.raises(EncoderError, match="no feature last with pooling pooler"):
        create_encoder(f"hf:{tmp_path}", pool="pooler")
    whole = tmp_path / "whole"
    model, _ = hf_models()["vit"]
    model.save_pretrained(whole)
    processor.save_pretrained(whole)
    assert create_encoder(f"hf:{whole}", pool="pooler").spec.features == ("pooler",)


def test_a_processor_of_images_and_text_says_how_images_are_prepared(tmp_path, picture):
    pytest.importorskip("transformers")
    model, processor = hf_models()["clip"]
    for folder in (tmp_path / "own", tmp_path / "both"):
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
    prepared = json.loads((tmp_path / "both" / "preprocessor_config.json").read_text())
    (tmp_path / "both" / "preprocessor_config.json").unlink()
    whole = {"image_processor": prepared, "processor_class": "CLIPProcessor"}
    (tmp_path / "both" / "processor_config.json").write_text(json.dumps(whole))
    own, both = (create_encoder(f"hf:{tmp_path / name}", pool="proj") for name in ("own", "both"))
    assert torch.equal(own.transform(picture), both.transform(picture)) and own.spec.mean == both.spec.mean


def test_a_model_of_text_is_refused_in_a_sentence(tmp_path):
    transformers = pytest.importorskip("transformers")
    _, processor = hf_models()["vit"]
    small = {key: SIZES[key] for key in ("hidden_size", "num_hidden_layers", "num_attention_heads")}
    transformers.BertModel(transformers.BertConfig(**small, intermediate_size=16, vocab_size=99)).save_pretrained(
        tmp_path
    )
    processor.save_pretrained(tmp_path)
    with pytest.raises(EncoderError, match=r"BertModel of transformers cannot be run on images alone \("):
        create_encoder(f"hf:{tmp_path}")


def in_hub_cache(folder: Path, cache: Path, revision: str) -> None:
    """Lay a saved model out as the hub's cache has it: refs, snapshots, blobs."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    place = cache / "models--me--tiny"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / revision).write_text(commit)
    (place / "blobs").mkdir()
    snapshot = place / "snapshots" / commit
    snapshot.mkdir(parents=True)
    for file in folder.iterdir():
        shutil.copy(file, place / "blobs" / file.name)
        os.symlink(place / "blobs" / file.name, snapshot / file.name)


def test_a_revision_in_the_hubs_cache_is_used_without_a_network(tmp_path, monkeypatch, no_network):
    pytest.importorskip("transformers")
    from huggingface_hub import constants

    model, processor = hf_models()["vit"]
    model.save_pretrained(tmp_path / "m")
    processor.save_pretrained(tmp_path / "m")
    in_hub_cache(tmp_path / "m", tmp_path / "hub", "v1.0")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("SSL_RISK_OFFLINE", "1")
    encoder = create_encoder("hf:me/tiny@v1.0")
    assert encoder.weights_hash == create_encoder(f"hf:{tmp_path / 'm'}").weights_hash
    assert describe_encoder("hf:me/tiny@v1.0").architecture == "ViTModel"
    with pytest.raises(EncoderError, match=r"me/tiny@v2\.0 is not in the hub's cache, and nothing is downloaded"):
        create_encoder("hf:me/tiny@v2.0")
    assert describe_encoder("hf:me/tiny@v2.0").source == "me/tiny"  # nothing is known of it, which is no error
    assert no_network == []


def test_folders_that_are_no_model_are_refused(tmp_path):
    pytest.importorskip("transformers")
    with pytest.raises(EncoderError, match=r"no folder .*none"):
        create_encoder(f"hf:{tmp_path / 'none'}")
    with pytest.raises(EncoderError, match=r"has no config\.json"):
        create_encoder(f"hf:{tmp_path}")
    model, processor = hf_models()["vit"]
    model.save_pretrained(tmp_path)
    with pytest.raises(EncoderError, match=r"has no preprocessor_config\.json, so how its images were prepared"):
        create_encoder(f"hf:{tmp_path}")
    processor.save_pretrained(tmp_path)
    with pytest.raises(EncoderError, match="leave out --img-size"):
        create_encoder(f"hf:{tmp_path}", img_size=64)
    with pytest.raises(EncoderError, match="take no options"):
        create_encoder(f"hf:{tmp_path}?a=1")
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModel": "evil.Model"}}))
    with pytest.raises(EncoderError, match="code of its repository, which is not run"):
        create_encoder(f"hf:{tmp_path}")
    with pytest.raises(EncoderError, match="write hf:OWNER/REPO"):
        create_encoder("hf:me/tiny@")


# --- open_clip


TINY = {
    "embed_dim": 12,
    "vision_cfg": {"image_size": 48, "layers": 3, "width": 24, "head_width": 8, "patch_size": 16},
    "text_cfg": {"context_length": 8, "vocab_size": 99, "width": 16, "heads": 2, "layers": 1},
}


@pytest.fixture
def open_clip(tmp_path):
    """open_clip, which knows an architecture of few channels, as its add_model_config allows."""
    library = pytest.importorskip("open_clip")
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "ViT-Tiny-Test.json").write_text(json.dumps(TINY))
    library.add_model_config(tmp_path / "configs" / "ViT-Tiny-Test.json")
    return library


def test_a_checkpoint_of_open_clip_gives_its_features_and_pixels(open_clip, tmp_path, picture):
    torch.manual_seed(3)
    model = open_clip.create_model("ViT-Tiny-Test").eval()
    torch.save({"epoch": 1, "state_dict": {f"module.{k}": v for k, v in model.state_dict().items()}}, tmp_path / "e.pt")
    encoder = create_encoder(f"openclip:ViT-Tiny-Test/{tmp_path / 'e.pt'}")
    same, _, own = open_clip.create_model_and_transforms("ViT-Tiny-Test", pretrained=str(tmp_path / "e.pt"))
    pixels = own(picture)[None]
    assert torch.equal(encoder.transform(picture)[None], pixels)
    batch = torch.cat([pixels, pixels.flip(3)])
    with torch.inference_mode():
        assert close(encoder.module(batch)["proj"], same.eval().encode_image(batch))
    assert encoder.spec.features == ("proj",) and encoder.num_features == {"proj": 12}
    inner = create_encoder(f"openclip:ViT-Tiny-Test/{tmp_path / 'e.pt'}", layers=["last", "blocks.0"], pool="cls,avg")
    with torch.inference_mode():
        found = inner.module(batch)
        tokens = model.visual.transformer(model.visual._embeds(batch))
        assert close(found["cls"], model.visual.ln_post(tokens)[:, 0])
        assert close(found["avg"], model.visual.ln_post(tokens)[:, 1:].mean(1))
        assert close(found["cls"] @ model.visual.proj, model.encode_image(batch))


def test_a_tower_that_gives_its_tokens_too(open_clip, tmp_path, picture):
    """CoCa's."""
    config = {
        "embed_dim": 24, "custom_text": True,
        "multimodal_cfg": {"width": 24, "context_length": 8, "vocab_size": 99, "heads": 2, "layers": 1},
        "vision_cfg": TINY["vision_cfg"] | {"attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True},
        "text_cfg": TINY["text_cfg"] | {"embed_cls": True, "output_tokens": True},
    }  # fmt: skip
    (tmp_path / "configs" / "coca_Tiny-Test.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "configs" / "coca_Tiny-Test.json")
    model = open_clip.create_model("coca_Tiny-Test").eval()
    torch.save(model.state_dict(), tmp_path / "e.pt")
    encoder = create_encoder(f"openclip:coca_Tiny-Test/{tmp_path / 'e.pt'}")
    assert encoder.spec.features == ("proj",)
    batch = encoder.transform(picture)[None].repeat(2, 1, 1, 1)
    with torch.inference_mode():
        assert close(encoder.module(batch)["proj"], model.encode_image(batch, normalize=False))


def test_a_folder_of_open_clip_says_how_images_are_prepared(open_clip, tmp_path, picture):
    folder = tmp_path / "folder"
    folder.mkdir()
    model = open_clip.create_model("ViT-Tiny-Test")
    torch.save(model.state_dict(), folder / "open_clip_pytorch_model.bin")
    prepared = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "interpolation": "bilinear", "resize_mode": "squash"}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": TINY, "preprocess_cfg": prepared}))
    encoder = create_encoder(f"openclip:{folder}")
    _, _, own = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    assert torch.equal(encoder.transform(picture), own(picture))
    assert encoder.spec.mean == (0.5, 0.5, 0.5) and encoder.spec.resize is None


def test_mistakes_in_names_of_open_clip(open_clip, monkeypatch):
    for name, match in (
        ("openclip:ViT-B-33/openai", r"no architecture ViT-B-33; nearest: .*ViT-B-32"),
        ("openclip:ViT-B-32/opnai", r"no weights 'opnai' for ViT-B-32; it has openai, "),
        ("openclip:ViT-B-32", "write openclip:ARCH/TAG"),
        ("openclip:ViT-B-32//no/such.pt", r"no file /no/such\.pt"),
        ("openclip:ViT-B-32/openai?a=1", "take no options"),
    ):
        with pytest.raises(EncoderError, match=match):
            create_encoder(name)
    monkeypatch.setenv("SSL_RISK_OFFLINE", "1")
    with pytest.raises(EncoderError, match="nothing is downloaded"):
        create_encoder("openclip:ViT-B-32/openai")
    spec = describe_encoder("openclip:ViT-B-32/openai")
    assert spec.img_size == 224 and spec.interpolation == "bicubic" and spec.mean[0] == 0.48145466
