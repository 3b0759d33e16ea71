"""Encoders: names, timm's weights, networks and their features, preprocessing, the user's code, bundled encoders."""

import json
import pickle
import subprocess
import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from ssl_risk_rs.encoders import create_encoder, describe_encoder, list_encoders
from ssl_risk_rs.encoders.encoder import behaviour
from ssl_risk_rs.encoders.names import Preparation, parse_name
from ssl_risk_rs.encoders.networks import build as networks
from ssl_risk_rs.encoders.networks.build import build_architecture
from ssl_risk_rs.encoders.spec import EncoderSpec, choose_features
from ssl_risk_rs.errors import EncoderError
from ssl_risk_rs.extraction.facts import transform_facts
from torch import nn


def randomize(module: nn.Module, seed: int = 0) -> nn.Module:
    """Weights and BatchNorm statistics away from their defaults, scaled to keep activations moderate."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in module.state_dict().items():
        if name.endswith("running_var"):
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
        elif name.endswith("num_batches_tracked"):
            tensor.fill_(7)
        elif tensor.ndim == 1:
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.2 + name.endswith("weight") * 0.5)
        else:
            fan_in = tensor[0].numel()
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * (1.5 / fan_in) ** 0.5)
    return module.eval()


def test_timm_without_weights_says_what_to_do(monkeypatch):
    create = timm.create_model

    def without_hub(name, *, pretrained, **options):
        if pretrained:
            raise OSError("no route to host")
        return create(name, pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", without_hub)
    monkeypatch.setattr(networks, "_reach_hub", lambda: None)
    with pytest.raises(
        EncoderError, match=r"no route to host.*HF_HUB_OFFLINE=1.*ckpt:FILE@resnet10t.*random:resnet10t"
    ):
        create_encoder("timm:resnet10t")


def test_timm_is_asked_for_its_cache_first_and_the_hub_once(monkeypatch):
    import urllib.error
    import urllib.request

    from huggingface_hub import constants

    offline, asked, create = [], [], timm.create_model

    def without_hub(name, *, pretrained, **options):
        if not pretrained:
            return create(name, pretrained=False, **options)
        offline.append(constants.HF_HUB_OFFLINE)
        raise OSError("not in the cache")

    def refuse(request, timeout):
        asked.append(request.full_url)
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(timm, "create_model", without_hub)
    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    with pytest.raises(EncoderError, match=r"no route to host.*copy its cache"):
        create_encoder("timm:resnet10t")
    assert offline == [True] and asked == [constants.ENDPOINT] and constants.HF_HUB_OFFLINE is False


def test_timm_weights_in_the_cache_need_no_hub(monkeypatch):
    create = timm.create_model

    def cached(name, *, pretrained, **options):
        return create(name, pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", cached)
    monkeypatch.setattr(networks, "_reach_hub", lambda: pytest.fail("the hub was asked"))
    assert create_encoder("timm:resnet10t").num_features == {"avgpool": 512}


@pytest.mark.parametrize("name", ["resnet50", "resnet50.a1_in1k", "resnet101", "resnet18"])
def test_timm_prepares_images_of_its_own_networks(monkeypatch, name):
    """`timm:resnet50` had our preprocessing, `timm:resnet50.a1_in1k` timm's, of the same weights."""
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, *, pretrained, **options: create(name, **options))
    encoder = create_encoder(f"timm:{name}")
    config = timm.data.resolve_model_data_config(create(name))
    wide = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 500, 3), np.uint8))
    own = timm.data.create_transform(**config)(wide)
    assert torch.equal(encoder.transform(wide), own)
    control = create_encoder(encoder.spec.random_twin)
    assert torch.equal(control.transform(wide), own) and control.num_features == encoder.num_features


@pytest.mark.parametrize("architecture", ["convnext_tiny.fb_in22k_ft_in1k_384", "resnet18"])
def test_one_value_of_the_preprocessing_leaves_the_others_as_they_are(tmp_path, architecture):
    """Naming the mean made a crop of the centre out of timm's squashed image."""
    config = timm.data.resolve_model_data_config(timm.create_model(architecture))
    path = tmp_path / "w.pth"
    torch.save(timm.create_model(architecture, num_classes=0).state_dict(), path)
    wide = Image.fromarray(np.random.default_rng(0).integers(0, 256, (240, 480, 3), np.uint8))
    plain = create_encoder(f"ckpt:{path}@{architecture}").transform(wide)
    assert torch.equal(plain, timm.data.create_transform(**config)(wide))
    same = ",".join(map(str, config["mean"]))
    assert torch.equal(create_encoder(f"ckpt:{path}@{architecture}?mean={same}").transform(wide), plain)
    other = create_encoder(f"ckpt:{path}@{architecture}?mean=half&interpolation=bilinear").transform(wide)
    config |= {"mean": (0.5, 0.5, 0.5), "interpolation": "bilinear"}
    assert torch.equal(other, timm.data.create_transform(**config)(wide))


@pytest.mark.skipif(not timm.list_models("vit_base_patch16_sapiens2"), reason="an older timm")
def test_a_network_for_images_that_are_no_squares_asks_for_a_side():
    with pytest.raises(EncoderError, match=r"1024 × 768 pixels.*img_size=768"):
        describe_encoder("random:vit_base_patch16_sapiens2")
    assert describe_encoder("random:vit_base_patch16_sapiens2?img_size=768").img_size == 768


def test_torch_that_is_not_installed_is_a_sentence():
    source = (
        # a finder, not None in sys.modules: scipy looks into what is there
        "import sys, importlib.abc\n"
        "class NoTorch(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] == 'torch':\n"
        "            raise ModuleNotFoundError('No module named torch', name='torch')\n"
        "sys.meta_path.insert(0, NoTorch())\n"
        "from ssl_risk_rs.cli import main\n"
        "main(['run', '-m', 'demo_ssl', '-d', 'digits', '--store', sys.argv[1]])"
    )
    done = subprocess.run([sys.executable, "-c", source, "/nonexistent"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "needs torch" in done.stderr and "pip install torch torchvision timm" in done.stderr


# --- names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("swav_rn5", "nearest: swav_rn50"),
        ("Demo_SLL", "nearest: demo_ssl"),
        ("timm:vit_tiny_patch61_224", "nearest: vit_tiny_patch16_224"),
        ("timm:resnet10t.nope", r"it has resnet10t\.c3_in1k"),
        ("random:resnot18", "nearest: resnet18"),
        ("weights.pth", r"ckpt:weights\.pth@resnet50"),
        ("ckpt:weights.pth", "name the architecture"),
        ("ckpt:", "no file named"),
        ("random:", "no architecture named"),
        ("random:resnet50?seed=x", "seed is a whole number"),
        ("random:resnet18?colour", "options are key=value"),
        ("random:resnet18?colour=red", "does not take the options"),
        ("pixels:0", "positive number"),
        ("pixels:8?channels=2", "1 or 3"),
        ("models.py", r"models\.py:function"),
        ("models.py:no way", "no function name"),
        ("/absent/models.py:f", "no file /absent/models.py"),
        ("random:resnet50?padding=end", "padding is both or same"),
        ("random:resnet50?expand=3000", "expand is a multiple of 2048"),
        ("ckpt:w.pth@mocov3_vitS_ep300?num_heads=6", "has its own options of the architecture; leave out num_heads"),
    ],
)
def test_wrong_names_get_the_next_step(name, message):
    with pytest.raises(EncoderError, match=message):
        create_encoder(name)


def test_list_encoders():
    assert list_encoders("demo_*") == ["demo_ssl", "demo_supervised", "demo_random"]
    assert len(list_encoders("BYOL*")) == 12
    assert "beitv2_vitL16_pt1k" not in list_encoders()
    assert "beitv2_vitL16_pt1k" in list_encoders("BEIT*", recognised=True)
    assert list_encoders("timm:resnet10t*") == ["timm:resnet10t.c3_in1k"]
    assert list_encoders("nothing*") == []


def test_name_grammar():
    name = parse_name("ckpt:a?b@c/w.pth@vit_base_patch16_224?patch_size=4&qkv_bias=False&global_pool=token")
    assert (name.kind, name.target, name.part) == ("checkpoint", "a?b@c/w.pth", "vit_base_patch16_224")
    assert name.options == {"patch_size": 4, "qkv_bias": False, "global_pool": "token"}
    assert parse_name("timm:resnet18?pretrained=false").kind == "random"


def test_preprocessing_joins_the_name_of_a_file():
    assert Preparation().named("swav") == "swav"
    assert Preparation(mean="imagenet", resize=248).named("ckpt:w.pth@resnet50") == (
        "ckpt:w.pth@resnet50?mean=imagenet&resize=248"
    )
    assert Preparation(std="0.5").named("ckpt:w@vit_base_patch16_224?ema=true").endswith("?ema=true&std=0.5")
    with pytest.raises(EncoderError, match="swav: std say how images are prepared for a file"):
        Preparation(std="half").named("swav")
    with pytest.raises(EncoderError, match="mean is in the name and given apart"):
        Preparation(mean="half").named("ckpt:w.pth@resnet50?mean=half")


def test_choose_features():
    offered = ("cls", "avg", "cls+avg", "blocks.0:cls", "blocks.0:avg", "blocks.1:cls", "blocks.1:avg")
    assert choose_features(offered, None, None) == ("cls",)
    assert choose_features(offered, None, "cls+avg") == ("cls+avg",)
    assert choose_features(offered, ["blocks.1", "last"], "avg") == ("blocks.1:avg", "avg")
    assert choose_features(offered, "blocks.0:cls", "avg") == ("blocks.0:cls",)
    with pytest.raises(EncoderError, match=r"blocks\.7; it offers for the last layer cls, avg, cls\+avg; for the"):
        choose_features(offered, ["blocks.7"], None)


def test_specs_and_lists_need_no_torch(tmp_path):
    code = """if True:
        import sys
        import ssl_risk_rs as sr
        from click.testing import CliRunner
        from ssl_risk_rs.cli import main
        names = ["swav", "dino_vitS16", "clip_rn50", "lossyless_vitb32_b001", "vicregl_convnextb_alpha09", "demo_ssl"]
        for name in (*names, "pixels:8", "random:resnet101", "ckpt:w@swav_rn50"):
            sr.describe_encoder(name)
        assert len(sr.list_encoders()) > 180
        for arguments in (["models", "list", "swav*"], ["models", "show", "swav", "--format", "json"]):
            result = CliRunner().invoke(main, arguments)
            assert result.exit_code == 0 and "swav_rn50" in result.output, result.output
        heavy = {"torch", "timm", "torchvision", "sklearn", "polars", "PIL"} & sys.modules.keys()
        assert not heavy, heavy
    """
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


# --- networks and features -------------------------------------------------------------------------


def test_wide_resnets():
    net = build_architecture("resnet50w2")
    assert net.conv1.weight.shape == (128, 3, 7, 7)
    assert net.layer4[0].downsample[0].weight.shape == (4096, 2048, 1, 1)
    # SwAV's README: 94 and 375 million with the classifier of 1,000 classes left out of ours
    assert sum(p.numel() for p in net.parameters()) == pytest.approx(94e6, rel=0.02)
    with torch.device("meta"):
        wide = build_architecture("resnet50w4")
    assert sum(p.numel() for p in wide.parameters()) == pytest.approx(375e6, rel=0.02)
    assert create_encoder("random:resnet50w2", img_size=32).num_features == {"avgpool": 4096}


def test_resnet101_has_timm_names_and_values():
    model = randomize(timm.create_model("resnet101", num_classes=0), seed=2)
    ours = build_architecture("resnet101")
    ours.load_state_dict(model.state_dict())
    images = torch.randn(2, 3, 40, 40)
    with torch.inference_mode():
        torch.testing.assert_close(ours.eval()(images), model(images), rtol=1e-4, atol=1e-4)


def test_resnet_inner_stages():
    encoder = create_encoder("random:resnet50", layers=["layer2", "last"], img_size=64)
    assert encoder.num_features == {"layer2:avgpool": 512, "avgpool": 2048}
    model = timm.create_model("resnet50", num_classes=0)
    model.load_state_dict(encoder.module.backbone.state_dict())
    model.eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        out = encoder.module(images)
        final, (stage,) = model.forward_intermediates(images, indices=[2])
        torch.testing.assert_close(out["layer2:avgpool"], stage.mean((2, 3)), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(out["avgpool"], model.forward_head(final, pre_logits=True), rtol=1e-4, atol=1e-4)


def test_inner_stages_keep_their_names_in_any_order():
    encoder = create_encoder("random:resnet18", layers=["layer3", "last", "layer1"], img_size=32)
    assert encoder.num_features == {"layer3:avgpool": 256, "avgpool": 512, "layer1:avgpool": 64}


def test_vit_features_against_timm():
    features = ["cls", "avg", "cls+avg", "4xcls", "blocks.3:cls+avg"]
    encoder = create_encoder("random:vit_tiny_patch16_224?seed=4", layers=features)
    assert encoder.num_features == dict(zip(features, [192, 192, 384, 768, 384], strict=True))
    model, images = encoder.module.backbone, torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        out = encoder.module(images)
        tokens = model.forward_features(images)
        inner = model.forward_intermediates(
            images, indices=4, norm=True, return_prefix_tokens=True, intermediates_only=True
        )
        hidden = model.norm(torch.cat([model.blocks[:4](embed(model, images))]))
    close = {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(out["cls"], tokens[:, 0], **close)
    torch.testing.assert_close(out["avg"], tokens[:, 1:].mean(1), **close)
    torch.testing.assert_close(out["cls+avg"], torch.cat([tokens[:, 0], tokens[:, 1:].mean(1)], 1), **close)
    torch.testing.assert_close(out["4xcls"], torch.cat([prefix[:, 0] for _, prefix in inner], 1), **close)
    torch.testing.assert_close(out["blocks.3:cls+avg"], torch.cat([hidden[:, 0], hidden[:, 1:].mean(1)], 1), **close)


def embed(model, images):
    return model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed(images))))


def test_vit_with_registers_averages_patches_only():
    encoder = create_encoder(
        "random:vit_small_patch14_reg4_dinov2?depth=4", layers=["cls", "avg", "blocks.1:cls+avg"], img_size=56
    )
    assert encoder.spec.img_size == 56
    model, images = encoder.module.backbone, torch.randn(1, 3, 56, 56)
    assert model.num_prefix_tokens == 5
    with torch.inference_mode():
        out, tokens = encoder.module(images), model.forward_features(images)
        ((patches, prefix),) = model.forward_intermediates(
            images, indices=[1], norm=True, return_prefix_tokens=True, intermediates_only=True, output_fmt="NLC"
        )
    assert tokens.shape[1] == 5 + 16
    inner = torch.cat([prefix[:, 0], patches.mean(1)], 1)  # the class token, of five
    torch.testing.assert_close(out["blocks.1:cls+avg"], inner, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(out["avg"], tokens[:, 5:].mean(1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "name", ["resnet18", "convnext_atto", "tf_efficientnet_lite0", "beit_base_patch16_224?depth=1"]
)
def test_default_feature_is_timms_own_pooling(name):
    encoder = create_encoder(f"random:{name}")
    model = encoder.module.backbone
    images = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        torch.testing.assert_close(encoder.module(images)["avgpool"], model(images), rtol=1e-5, atol=1e-5)


def test_the_own_pooling_of_a_distilled_network_is_not_called_its_class_token():
    """timm takes the mean of the class and the distillation token; both were called `cls`."""
    encoder = create_encoder("random:deit_tiny_distilled_patch16_224?depth=4", layers=["last", "cls", "avg"])
    assert encoder.spec.features[:3] == ("output", "cls", "avg")
    model, images = encoder.module.backbone, torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        out, tokens = encoder.module(images), model.forward_features(images)
        assert torch.equal(out["output"], model(images))
    assert torch.equal(out["output"], (tokens[:, 0] + tokens[:, 1]) / 2)
    assert torch.equal(out["cls"], tokens[:, 0])
    assert torch.equal(out["avg"], tokens[:, 2:].mean(1))


@pytest.mark.parametrize(("name", "feature"), [("xcit_nano_12_p16_224", "cls"), ("resnet50_clip", "attnpool")])
def test_only_attention_pools_are_called_so(name, feature):
    assert create_encoder(f"random:{name}").spec.features == (feature,)


def test_a_layer_whose_name_others_have_is_not_offered():
    """Stages of timm's CoaT share a name: which of their maps a feature was of could not be told."""
    encoder = create_encoder("random:coat_tiny", layers="all")
    assert encoder.spec.features == ("cls", "serial_blocks1:avgpool")


@pytest.mark.parametrize("name", ["eva02_tiny_patch14_224?depth=3", "vit_medium_patch16_reg4_gap_256?depth=3"])
def test_inner_layers_of_networks_that_normalize_after_pooling(name):
    """The mean patch token through the LayerNorm that follows the pool, as the network has it for its last block."""
    encoder = create_encoder(f"random:{name}", layers="all")
    assert encoder.spec.features == ("avgpool", "blocks.0:avgpool", "blocks.1:avgpool")
    model, seen = randomize(encoder.module.backbone), []
    model.blocks[1].register_forward_hook(lambda *call: seen.append(call[2]))
    images = torch.randn(2, 3, encoder.spec.img_size, encoder.spec.img_size)
    with torch.inference_mode():
        out, own = encoder.module(images), model(images)
    inner = model.fc_norm(seen[0][:, model.num_prefix_tokens :].mean(1))
    torch.testing.assert_close(out["blocks.1:avgpool"], inner, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(out["avgpool"], own, rtol=1e-5, atol=1e-6)


def test_random_weights_are_the_seeds():
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    a, b, c = (create_encoder(f"random:resnet18{q}").weights_hash for q in ("", "?seed=0", "?seed=1"))
    assert a == b != c
    assert torch.equal(torch.random.get_rng_state(), before)
    last_norms = [m.bn2.weight for m in create_encoder("random:resnet18").module.modules() if hasattr(m, "bn2")]
    assert last_norms and all(w.min() > 0 for w in last_norms)  # no residual branch is switched off


def test_hash_sees_every_value():
    from ssl_risk_rs.encoders.encoder import hash_weights

    module = nn.BatchNorm1d(3)
    first = hash_weights(module)
    assert hash_weights(nn.BatchNorm1d(3)) == first
    module.running_mean[1] += 1e-7
    assert hash_weights(module) != first
    kinds = (((2, 3), torch.half), ((3, 2), torch.half), ((2, 3), torch.bfloat16))
    zeros = [torch.zeros(shape, dtype=dtype) for shape, dtype in kinds]
    holders = [nn.Module() for _ in zeros]
    for holder, tensor in zip(holders, zeros, strict=True):
        holder.register_buffer("weight", tensor)
    assert len({hash_weights(holder) for holder in holders}) == 3  # shapes and types of equal bytes


def test_image_sizes():
    encoder = create_encoder("random:vit_tiny_patch16_224?depth=1", img_size=64)
    assert encoder.transform(Image.new("RGB", (200, 100))).shape == (3, 64, 64)
    assert (encoder.spec.img_size, encoder.spec.resize) == (64, 71)  # timm's crop of 0.9 is kept
    with pytest.raises(EncoderError, match="cannot take images of 63 pixels: no multiple of its patches of 16"):
        create_encoder("random:vit_tiny_patch16_224?depth=1", img_size=63)


# --- preprocessing ---------------------------------------------------------------------------------


def picture(mode: str, size=(301, 407)) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize(size).convert(mode)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "CMYK", "1"])
def test_preprocessing_is_torchvisions(mode):
    from ssl_risk_rs.encoders.transforms import Preprocess
    from torchvision import transforms as T

    theirs = T.Compose(
        [
            T.Resize(256),
            T.CenterCrop(224),
            T.ToTensor(),
            T.Normalize([0.485, 0.456, 0.406], [0.228, 0.224, 0.225]),
        ]
    )
    image = picture(mode)
    ours = Preprocess(describe_encoder("swav"))
    assert torch.equal(ours(image), theirs(image.convert("RGB")))
    assert torch.equal(pickle.loads(pickle.dumps(ours))(image), ours(image))  # a loader's workers need it


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(90, 60), (64, 40), (40, 64), (30, 20)])
def test_the_short_side_of_any_picture_is_brought_to_size(size, interpolation):
    """Also of one that is smaller, or whose long side has that size: a crop would fill up with black."""
    from ssl_risk_rs.encoders.transforms import Preprocess
    from torchvision import transforms as T

    spec = replace(describe_encoder("swav"), resize=64, img_size=56, interpolation=interpolation)
    resized = T.Resize(64, T.InterpolationMode(interpolation))(picture("RGB", size))
    assert torch.equal(Preprocess(spec)(picture("RGB", size)), normalized(T.CenterCrop(56)(resized), spec))


def normalized(image, spec):
    from torchvision.transforms import functional as F

    return F.normalize(F.to_tensor(image), spec.mean, spec.std)


def test_timm_preprocessing_is_timms():
    name = "vit_small_patch14_dinov2.lvd142m"
    encoder = create_encoder(f"random:{name}?depth=1")
    config = timm.data.resolve_model_data_config(timm.create_model(name, depth=1))
    assert torch.equal(encoder.transform(picture("RGB")), timm.data.create_transform(**config)(picture("RGB")))
    bytes_, floats = encoder.transform.pixels(picture("RGB")), encoder.transform(picture("RGB"))
    assert bytes_.dtype == torch.uint8 and torch.equal(encoder.transform.normalize(bytes_[None])[0], floats)
    assert encoder.spec.img_size == 518


def test_a_transform_that_does_not_end_in_bytes_is_left_whole():
    from ssl_risk_rs.encoders.byte_transform import ByteTransform
    from ssl_risk_rs.encoders.transforms import in_colour
    from torchvision import transforms as T

    ends = [T.ToTensor(), T.Normalize([0.5], [0.5])]
    assert isinstance(in_colour(T.Compose([T.Resize(8), *ends])), ByteTransform)
    for whole in (
        T.Compose([T.PILToTensor(), T.ConvertImageDtype(torch.float32), ends[1]]),
        T.Compose([T.Resize(8), ends[0]]),
        T.Compose([lambda image: image.convert("F"), *ends]),
        T.ToTensor(),
    ):
        assert not isinstance(in_colour(whole), ByteTransform)


def test_pixels():
    encoder = create_encoder("pixels:4?channels=1")
    assert encoder.num_features == {"output": 16}
    image = picture("L", (32, 16))
    with torch.inference_mode():
        out = encoder.module(encoder.transform(image)[None])["output"][0].reshape(4, 4)
    cells = np.asarray(image, np.float64).reshape(4, 4, 4, 8).mean((1, 3)) / 255
    np.testing.assert_allclose(out, cells, atol=1e-6)
    with pytest.raises(EncoderError, match="any size"):
        create_encoder("pixels:4", img_size=8)


# --- the user's own code ---------------------------------------------------------------------------


CODE = """
import torch
from torch import nn
from neighbour import WIDTH

def plain():
    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, WIDTH), nn.Dropout(0.5))

def pair():
    def transform(image):
        return torch.full((3, 9, 7), image.size[0] / 100)
    return plain(), transform

class Two(nn.Module):
    def forward(self, x):
        return {"mean": x.mean((2, 3)), "max": x.amax((2, 3))}

def named():
    return Two()

def maps():
    return nn.Conv2d(3, 4, 1)

def nothing():
    return 3
"""


@pytest.fixture
def code(tmp_path) -> str:
    (tmp_path / "neighbour.py").write_text("WIDTH = 5\n")
    (tmp_path / "mine.py").write_text(CODE)
    return f"{tmp_path}/mine.py"


def test_code(code):
    lines: list[str] = []
    encoder = create_encoder(f"{code}:plain", progress=lines.append)
    assert encoder.num_features == {"output": 5} and "no transform given" in lines[0]
    assert encoder.transform(picture("RGB")).shape == (3, 224, 224)
    assert not encoder.module.training and not any(p.requires_grad for p in encoder.module.parameters())
    images = torch.randn(2, 3, 224, 224)
    assert torch.equal(encoder.module(images)["output"], encoder.module(images)["output"])  # dropout is off
    pair = create_encoder(f"{code}:pair")
    assert pair.transform(Image.new("RGB", (100, 50))).shape == (3, 9, 7)
    assert create_encoder(f"{code}:named").num_features == {"mean": 3, "max": 3}


OWN = """
import torch
from torchvision import transforms as t

def plain():  # images of any size, of one or three channels
    net = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten())
    return net, t.Compose([t.ToTensor(), t.Normalize([0.5] * 3, [0.5] * 3)])

def sized():
    net, own = plain()
    return net, t.Compose([t.Resize((40, 40)), *own.transforms])

def flat():
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 28 * 28, 5)), t.ToTensor()
"""


def test_the_size_of_images_is_that_of_the_users_own_transform(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    made = {name: create_encoder(f"{tmp_path}/own.py:{name}") for name in ("plain", "sized")}
    assert {name: encoder.spec.img_size for name, encoder in made.items()} == {"plain": None, "sized": 40}
    assert transform_facts(made["sized"]).keys() == {"img_size", "other"}  # mean and deviation are its own
    with pytest.raises(
        EncoderError, match=r"fails on an image of 224×224 pixels: .*--img-size \(img_size=\) says which"
    ):
        create_encoder(f"{tmp_path}/own.py:flat")
    assert create_encoder(f"{tmp_path}/own.py:flat", img_size=28).spec.img_size == 28
    module, own = made["sized"].module, made["sized"].transform
    assert create_encoder(module, transform=own).spec.img_size == 40


def test_the_size_that_a_transform_gives_goes_before_the_one_that_was_asked_for():
    from ssl_risk_rs.encoders.encoder import OutputModule, finish_own

    spec = EncoderSpec("mine", "mine", "code", ("output",))
    for transform, side in ((lambda image: torch.ones(3, 40, 40), 40), (lambda i: torch.ones(3, *i.size), 64)):
        assert finish_own(spec, OutputModule(nn.Flatten()), transform, img_size=64).spec.img_size == side


def test_grey_images_reach_a_transform_of_the_users_own_in_colour(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    encoder = create_encoder(f"{tmp_path}/own.py:plain")
    live = create_encoder(encoder.module, transform=encoder.transform.transform)
    grey = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    for each in (encoder, live):
        assert torch.equal(each.transform(grey), each.transform(grey.convert("RGB")))
    assert torch.equal(encoder.transform(grey.convert("RGB")), encoder.transform.transform(grey.convert("RGB")))


def test_behaviour_is_tried_at_the_size_at_which_the_network_was():
    """A transform that leaves images as they are tells no size, and a network may take large ones only."""
    from torchvision import transforms

    net = nn.Sequential(nn.Conv2d(3, 4, 60), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    encoder = create_encoder(net, transform=transforms.ToTensor())
    assert encoder.spec.img_size is None and behaviour(encoder) == behaviour(encoder)
    other = nn.Sequential(net[0], nn.AdaptiveMaxPool2d(2), nn.Flatten())
    assert behaviour(create_encoder(other, transform=transforms.ToTensor())) != behaviour(encoder)


def test_a_transform_of_the_users_own_is_called_as_it_is(tmp_path):
    """Whatever its parts make of being called: nothing of it is done anew, or tried beforehand."""
    from torchvision import transforms

    class Clamped(transforms.Normalize):
        def forward(self, tensor):
            return super().forward(tensor).clamp(-0.5, 0.5)

    def picky(image):
        assert image.size == (8, 8)
        return image

    net = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten())
    own = transforms.Compose([picky, transforms.ToTensor(), Clamped([0.5] * 3, [0.2] * 3)])
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8))
    encoder = create_encoder(net, transform=own, img_size=8)
    assert torch.equal(encoder.transform(image), own(image)) and encoder.transform(image).max() == 0.5
    scalars = transforms.Compose([transforms.ToTensor(), transforms.Normalize(0.5, 0.5)])
    assert torch.equal(create_encoder(net, transform=scalars).transform(image), scalars(image))
    drawn = transforms.Compose([transforms.RandomHorizontalFlip(), transforms.ToTensor()])
    state = torch.get_rng_state()
    create_encoder(net, transform=drawn)
    assert torch.equal(state, torch.get_rng_state())


def test_code_changes_change_the_hash(code):
    first = create_encoder(f"{code}:named")
    assert first.code_files == ("mine.py", "neighbour.py")
    Path(code).write_text(CODE.replace("amax", "amin"))
    second = create_encoder(f"{code}:named")
    assert second.code_hash != first.code_hash and second.weights_hash == first.weights_hash
    assert create_encoder(f"{code}:plain").code_hash != second.code_hash  # another function of the same file


def test_a_changed_neighbour_is_seen_in_the_same_process(code):
    neighbour = Path(code).with_name("neighbour.py")
    first = create_encoder(f"{code}:plain")
    neighbour.write_text("WIDTH = 7\n")  # the same size, within the same second
    second = create_encoder(f"{code}:plain")
    assert (first.num_features["output"], second.num_features["output"]) == (5, 7)
    assert first.code_hash != second.code_hash


def test_a_neighbour_of_another_folder_is_not_taken(code, tmp_path, monkeypatch):
    create_encoder(f"{code}:plain")
    other = tmp_path / "other"
    other.mkdir()
    (other / "neighbour.py").write_text("WIDTH = 9\n")
    (other / "mine.py").write_text(CODE)
    assert create_encoder(f"{other}/mine.py:plain").num_features == {"output": 9}
    user = types.ModuleType("neighbour")  # the user's own program has a module of that name
    user.__file__, user.WIDTH = str(tmp_path / "elsewhere.py"), 3
    monkeypatch.setitem(sys.modules, "neighbour", user)
    assert create_encoder(f"{other}/mine.py:plain").num_features == {"output": 9}
    assert sys.modules["neighbour"] is user


def test_packages_below_the_folder_count_and_libraries_do_not(tmp_path):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "__init__.py").write_text("")
    (tmp_path / "parts" / "net.py").write_text("from torch import nn\nimport sklearn\nNET = nn.Flatten\n")
    (tmp_path / "e.py").write_text("from parts.net import NET\ndef f():\n    return NET()\n")
    encoder = create_encoder(f"{tmp_path}/e.py:f")
    assert encoder.code_files == ("e.py", "parts/__init__.py", "parts/net.py")
    assert not list(tmp_path.rglob("*.pyc"))  # a stale one would be taken for a change within the same second


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("maps", r"returns \(2, 4, 224, 224\) as output for 2 images; pool it"),
        ("nothing", "returned int"),
        ("absent", "no function absent; it has plain, pair, Two, named, maps, nothing"),
    ],
)
def test_code_errors(code, function, message):
    with pytest.raises(EncoderError, match=message):
        create_encoder(f"{code}:{function}")


BROKEN = """
import sys
from torch import nn

def fails():
    return {}["x"]

def ends():
    sys.exit(3)

def needs(width, *, depth, other=1):
    return nn.Conv2d(3, width, depth)

class Bad(nn.Module):
    def forward(self, x):
        raise RuntimeError("of a\\nforward pass")

def deep():
    return Bad()

def pair():
    return nn.Flatten(), lambda image: 3

def shapes():
    return nn.Linear(5, 2)
"""


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("fails", r"/broken\.py:6 in fails: KeyError: 'x'$"),
        ("ends", r"/broken\.py:9 in ends: SystemExit: 3$"),
        ("needs", r"broken\.py:needs is called without arguments, and needs width, depth: give them defaults"),
        (
            "deep",
            r"fails on an image of 224×224 pixels: .*/broken\.py:16 in forward: RuntimeError: of a forward pass; if",
        ),
        ("pair", r"fails on an image of 224×224 pixels: its transform returns int, no Tensor \(c, h, w\); if it"),
        ("shapes", r"fails on an image of 224×224 pixels: .*mat1 and mat2"),  # no line of the file ran
    ],
)
def test_what_the_users_code_raises_is_one_line_that_names_its_own(tmp_path, function, message):
    (tmp_path / "broken.py").write_text(BROKEN)
    with pytest.raises(EncoderError, match=message) as raised:
        create_encoder(f"{tmp_path}/broken.py:{function}")
    assert "\n" not in str(raised.value)
    assert (raised.value.__cause__ is None) == (function == "needs")


def test_a_file_that_cannot_be_run_is_named_with_its_line(tmp_path):
    for text, message in (
        ("x = 1\ndef (\n", r"bad\.py:2: SyntaxError: "),
        ("\n1 / 0", r"bad\.py:2 in <module>: ZeroDiv"),
    ):
        (tmp_path / "bad.py").write_text(text)
        with pytest.raises(EncoderError, match=message):
            create_encoder(f"{tmp_path}/bad.py:f")


# --- bundled encoders ------------------------------------------------------------------------------


def digits() -> tuple[list[Image.Image], np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    images = [Image.fromarray(p.astype(np.uint8)) for p in np.rint(pixels.reshape(-1, 8, 8) * 255 / 16)]
    rank = np.array([np.sum(labels[:i] == label) for i, label in enumerate(labels)])
    return images, labels, rank % 5 == 4


def test_bundled_encoders_are_what_their_readme_says():
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    images, labels, test = digits()
    assert (np.sum(~test), np.sum(test)) == (1442, 355)
    errors = {}
    for name in ("demo_ssl", "demo_supervised", "demo_random"):
        encoder = create_encoder(name)
        with torch.inference_mode():
            z = encoder.module(torch.stack([encoder.transform(i) for i in images]))["output"].numpy()
        assert z.shape[1] == 16
        z = StandardScaler().fit(z[~test]).transform(z)
        probe = LogisticRegression(max_iter=500).fit(z[~test], labels[~test])
        errors[name] = [1 - probe.score(z[part], labels[part]) for part in (~test, test)]
    # the README's values; half a point for other versions of the optimizer
    np.testing.assert_allclose(errors["demo_ssl"], [0.036, 0.037], atol=0.005)
    np.testing.assert_allclose(errors["demo_supervised"], [0.001, 0.006], atol=0.005)
    np.testing.assert_allclose(errors["demo_random"], [0.185, 0.217], atol=0.01)


def test_bundled_twins():
    spec = describe_encoder("demo_ssl")
    assert (spec.supervised_twin, spec.twin_labels, spec.random_twin) == (
        "demo_supervised",
        "digits",
        "demo_random",
    )
    assert spec.objective == "vicreg" and spec.pretraining_data == "digits" and spec.channels == 1
    assert describe_encoder("demo_random").pretraining_data is None
    assert isinstance(spec, EncoderSpec) and json.loads(json.dumps(spec.to_dict()))["img_size"] == 8


def test_own_checkpoint_carries_its_facts(tmp_path):
    from safetensors.torch import save_file

    net = build_architecture("small_convnet", seed=3)
    facts = {"architecture": "small_convnet", "img_size": "28", "mean": "0.25", "std": "0.5", "channels": "1"}
    facts |= {"objective": "vicreg", "pretraining_data": "clothes", "epochs": "3", "batch_size": "64"}
    save_file(net.state_dict(), tmp_path / "a.safetensors", facts | {"supervised_twin": "b.safetensors"})
    encoder = create_encoder(f"ckpt:{tmp_path}/a.safetensors")
    assert encoder.spec.supervised_twin == f"ckpt:{tmp_path}/b.safetensors"
    assert encoder.transform(Image.new("RGB", (28, 28), (255, 255, 255))).unique().item() == pytest.approx(1.5)
    assert encoder.num_features == {"output": 128}
    with pytest.raises(EncoderError, match="says that it holds a small_convnet, not a resnet18"):
        create_encoder(f"ckpt:{tmp_path}/a.safetensors@resnet18")
