"""Encoders: layouts of published checkpoints, strict matching, downloads, features, specs without torch."""

import argparse
import collections
import json
import pickle
import re
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from ssl_risk_rs.encoders import create_encoder, describe_encoder, list_encoders
from ssl_risk_rs.encoders.networks import build as networks
from ssl_risk_rs.encoders.networks.build import build_architecture
from ssl_risk_rs.encoders.weights.matching import find_encoder
from ssl_risk_rs.encoders.weights.download import cached_path
from ssl_risk_rs.encoders.names import parse_name
from ssl_risk_rs.encoders.catalogue import catalogue, published_names
from ssl_risk_rs.encoders.spec import EncoderSpec, choose_features
from ssl_risk_rs.errors import EncoderError, ParameterError
from torch import nn


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SSL_RISK_CACHE", str(tmp_path / "cache"))


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


@pytest.fixture(scope="module")
def reference() -> nn.Module:
    """torchvision's ResNet-50, its classifier an identity: built without our loader."""
    from torchvision.models import resnet50

    model = resnet50(weights=None)
    model.fc = nn.Identity()
    return randomize(model)


@pytest.fixture(scope="module")
def weights(reference) -> dict[str, torch.Tensor]:
    return dict(reference.state_dict())


def swav_layout(weights, width: int = 2048) -> dict[str, torch.Tensor]:
    """The layout of SwAV's own files: flat, `module.`, with projection head and prototypes."""
    flat = {f"module.{name}": tensor for name, tensor in weights.items()}
    flat["module.projection_head.0.weight"] = torch.randn(32, width)
    flat["module.projection_head.0.bias"] = torch.randn(32)
    flat["module.projection_head.1.running_mean"] = torch.randn(32)
    flat["module.projection_head.1.num_batches_tracked"] = torch.tensor(3)
    flat["module.projection_head.3.weight"] = torch.randn(8, 32)
    flat["module.projection_head.3.bias"] = torch.randn(8)
    flat["module.prototypes.weight"] = torch.randn(30, 8)
    return flat


def same_features(encoder, reference, feature: str = "avgpool", side: int = 64) -> None:
    images = torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(5))
    with torch.inference_mode():
        ours, theirs = encoder.module(images)[feature], reference(images)
    assert ours.shape == theirs.shape
    assert theirs.std() > 0.01  # not a vacuous comparison
    # float32 rounding through 50 layers in another order of operations
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * theirs.abs().max().item())


# --- published layouts -----------------------------------------------------------------------------


def test_swav_file_gives_the_features_of_an_independent_resnet50(tmp_path, reference, weights):
    file = tmp_path / "swav_800ep_pretrain.pth.tar"
    torch.save(swav_layout(weights), file)
    lines: list[str] = []
    encoder = create_encoder(f"ckpt:{file}@swav_rn50", progress=lines.append)
    same_features(encoder, reference)
    assert encoder.num_features == {"avgpool": 2048}
    assert encoder.spec.std == (0.228, 0.224, 0.225)
    assert "matched 318 tensors" in lines[-1]
    assert "left over 7: projection_head.*, prototypes.*" in lines[-1]
    assert not encoder.module.training
    assert not any(m.training for m in encoder.module.modules())
    assert not any(p.requires_grad for p in encoder.module.parameters())


def test_published_name_loads_a_file_placed_by_hand_and_records_its_hash(reference, weights):
    spec = describe_encoder("swav")
    assert spec.name == "swav_rn50"
    path = cached_path(spec.name, spec.source)
    path.parent.mkdir(parents=True)
    torch.save(swav_layout(weights), path)
    lines: list[str] = []
    encoder = create_encoder("swav", progress=lines.append)
    same_features(encoder, reference)
    record = json.loads(path.with_name(path.name + ".json").read_text())
    assert record["url"] == spec.source and len(record["sha256"]) == 64 and record["origin"] == "placed by hand"
    assert sum("CC BY-NC 4.0" in line for line in lines) == 1
    lines.clear()
    assert create_encoder("swav", progress=lines.append).weights_hash == encoder.weights_hash
    assert not any("licence" in line for line in lines)  # shown once
    with path.open("ab") as file:
        file.write(b"x")
    with pytest.raises(EncoderError, match="not the file first downloaded"):
        create_encoder("swav")


def vissl(weights):
    trunk = {f"_feature_blocks.{n}": t for n, t in weights.items()}
    model = {"trunk": trunk, "heads": {"0.clf.0.weight": torch.zeros(4, 2048)}}
    return {"phase_idx": 99, "classy_state_dict": {"train": True, "base_model": {"model": model, "meta": {}}}}


def moco(weights):
    other = {n: torch.randn_like(t) if t.is_floating_point() else t for n, t in weights.items()}
    state = {f"module.encoder_q.{n}": t for n, t in weights.items()}
    state |= {"module.encoder_q.fc.0.weight": torch.zeros(2, 2048)}
    state |= {f"module.encoder_k.{n}": t for n, t in other.items()}
    state |= {"module.encoder_k.fc.0.weight": torch.zeros(2, 2048)}
    state |= {"module.queue": torch.zeros(128, 9), "module.queue_ptr": torch.zeros(1)}
    return {"epoch": 200, "arch": "resnet50", "state_dict": state, "optimizer": {"state": {}}}


def dino(weights):
    wrong = {f"module.backbone.{n}": torch.zeros_like(t) for n, t in weights.items()}
    student = {**wrong, "module.head.mlp.0.weight": torch.zeros(2, 2048)}
    teacher = {f"backbone.{n}": t for n, t in weights.items()}
    teacher |= {"head.mlp.0.weight": torch.zeros(2, 2048), "head.last_layer.weight_g": torch.zeros(2, 1)}
    loss = {"center": torch.zeros(1, 2)}
    return {"student": student, "teacher": teacher, "dino_loss": loss, "args": argparse.Namespace(lr=0.1)}


def msn(weights):
    wrong = {f"module.{n}": torch.zeros_like(t) for n, t in weights.items()}
    right = {f"module.{n}": t for n, t in weights.items()} | {"module.fc.fc1.weight": torch.zeros(2, 2048)}
    return {"encoder": wrong, "target_encoder": right, "prototypes": torch.zeros(3, 2), "epoch": 3}


def byol(weights):
    state = {f"online_network.encoder.{n}": t for n, t in weights.items()}
    state |= {f"target_network.encoder.{n}": torch.zeros_like(t) for n, t in weights.items()}
    state |= {f"{net}_network.projector.0.weight": torch.zeros(2, 2048) for net in ("online", "target")}
    return {"model": state | {"predictor.0.weight": torch.zeros(2, 2)}}


def lightning(weights):
    state = {f"backbone.{n}": t for n, t in weights.items()} | {"classifier.weight": torch.zeros(9, 2048)}
    return {"state_dict": collections.OrderedDict(state), "hyper_parameters": {"lr": 0.1}}


LAYOUTS = {
    "plain": lambda w: w,
    "vissl": vissl,
    "vissl_converted": lambda w: {"model_state_dict": {f"_feature_blocks.{n}": t for n, t in w.items()}},
    "moco": moco,
    "mocov3": lambda w: {"state_dict": {f"module.base_encoder.{n}": t for n, t in w.items()}
                         | {"module.predictor.0.weight": torch.zeros(2, 2)}},
    "simsiam": lambda w: {"state_dict": {f"module.encoder.{n}": t for n, t in w.items()}
                          | {"module.encoder.fc.0.weight": torch.zeros(2, 2048)}},
    "dino": dino,
    "msn": msn,
    "byol": byol,
    "lightning": lightning,
    "supervised": lambda w: {"state_dict": {**w, "fc.weight": torch.zeros(7, 2048)}},
    "no_counters": lambda w: {n: t for n, t in w.items() if not n.endswith("num_batches_tracked")},
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_wrappers_and_prefixes(tmp_path, reference, weights, layout):
    file = tmp_path / "weights.pth"
    torch.save(LAYOUTS[layout](weights), file)
    same_features(create_encoder(f"ckpt:{file}@resnet50"), reference, side=33)


def test_the_network_that_authors_evaluate_is_chosen_and_the_other_reported(weights):
    found = find_encoder(dino(weights), weights)
    assert found.where == "teacher → backbone."
    assert found.others == ("student → module.backbone.",)
    assert "another copy under student" in found.summary()


def test_safetensors(tmp_path, reference, weights):
    from safetensors.torch import save_file

    save_file({f"backbone.{n}": t.contiguous() for n, t in weights.items()}, tmp_path / "w.safetensors")
    same_features(create_encoder(f"ckpt:{tmp_path}/w.safetensors@resnet50"), reference, side=40)
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "w.safetensors").read_bytes()[:5000])
    with pytest.raises(EncoderError, match="no intact safetensors"):
        create_encoder(f"ckpt:{tmp_path}/cut.safetensors@resnet50")


# --- strictness ------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["conv1.weight", "layer3.4.bn2.running_var", "layer4.2.bn3.bias"])
def test_one_missing_tensor_fails_by_name(tmp_path, weights, missing):
    state = swav_layout(weights)
    del state[f"module.{missing}"]
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(EncoderError, match=rf"1 of 265 tensors are missing.*{re.escape(missing)}"):
        create_encoder(f"ckpt:{tmp_path}/w.pth@resnet50")


def test_a_misshaped_tensor_fails_by_name(weights):
    state = dict(weights) | {"layer2.0.conv1.weight": torch.zeros(128, 255, 1, 1)}
    with pytest.raises(EncoderError, match=r"layer2\.0\.conv1\.weight has shape \(128, 255, 1, 1\)"):
        find_encoder(state, weights)


def test_a_larger_architecture_is_not_truncated(weights):
    state = dict(weights) | {f"layer3.6.{n[9:]}": t for n, t in weights.items() if n.startswith("layer3.5.")}
    with pytest.raises(EncoderError, match=r"no head: layer3\.6\.conv1\.weight.*larger architecture"):
        find_encoder(state, weights)


def test_a_smaller_or_other_architecture_fails(tmp_path, weights):
    torch.save(weights, tmp_path / "w.pth")
    with pytest.raises(EncoderError, match=r"does not fit resnet101: .* missing"):
        create_encoder(f"ckpt:{tmp_path}/w.pth@resnet101")
    with pytest.raises(EncoderError, match="none of its 318 tensors has a name of the architecture"):
        create_encoder(f"ckpt:{tmp_path}/w.pth@vit_tiny_patch16_224")


def test_a_deeper_vit_is_not_mistaken_for_heads():
    """Inner names such as `mlp.fc1` are a head's only at the top."""
    shallow = timm.create_model("vit_tiny_patch16_224", num_classes=0, depth=2, img_size=32).state_dict()
    deep = timm.create_model("vit_tiny_patch16_224", num_classes=0, depth=3, img_size=32).state_dict()
    with pytest.raises(EncoderError, match=r"no head: blocks\.2\."):
        find_encoder(deep, shallow)


def test_weights_must_be_finite(tmp_path, weights):
    torch.save(dict(weights) | {"bn1.bias": torch.full((64,), float("nan"))}, tmp_path / "w.pth")
    with pytest.raises(EncoderError, match=r"bn1\.bias holds NaN"):
        create_encoder(f"ckpt:{tmp_path}/w.pth@resnet50")


@pytest.mark.parametrize("kind", [torch.int8, torch.uint8, torch.float8_e4m3fn, torch.complex64])
def test_quantized_weights_are_refused(tmp_path, weights, kind):
    state = dict(weights)
    state["layer1.0.conv1.weight"] = torch.ones_like(state["layer1.0.conv1.weight"]).to(kind)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(EncoderError, match=rf"layer1\.0\.conv1\.weight is {str(kind)[6:]}.*quantized.*dequantize it"):
        create_encoder(f"ckpt:{tmp_path}/w.pth@resnet50")


def test_the_size_of_the_images_a_file_is_for_is_named(tmp_path):
    model = randomize(timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=96), seed=1)
    torch.save(model.state_dict(), tmp_path / "w.pth")
    with pytest.raises(EncoderError, match=r"images of 96 pixels: write ckpt:FILE@ARCH\?img_size=96"):
        create_encoder(f"ckpt:{tmp_path}/w.pth@vit_tiny_patch16_224")
    encoder = create_encoder(f"ckpt:{tmp_path}/w.pth@vit_tiny_patch16_224?img_size=96")
    assert encoder.spec.img_size == 96 and encoder.spec.options == "img_size=96"


def test_registry_entries_are_checked():
    good = {"name": "a", "objective": "o", "architecture": "resnet50", "feature": "avgpool", "url": "u"}
    good |= {"pretraining_data": "ImageNet-1K", "epochs": 1, "batch_size": 2}
    assert EncoderEntry.read(good).img_size == 224
    for change, message in [
        ({"epochs": "1"}, "a in the registry of encoders has epochs '1'; it is int"),
        ({"mean": [0.5]}, r"has mean \[0\.5\]"),
        ({"colour": "red"}, "unknown field 'colour'"),
    ]:
        with pytest.raises(EncoderError, match=message):
            EncoderEntry.read(good | change)
    with pytest.raises(EncoderError, match="lacks batch_size"):
        EncoderEntry.read({key: value for key, value in good.items() if key != "batch_size"})
    with pytest.raises(EncoderError, match="lacks url"):
        EncoderEntry.read({key: value for key, value in good.items() if key != "url"})
    for content, message in [
        ({"encoders": [good, good], "aliases": {}}, "has a twice"),
        ({"encoders": [good], "aliases": {"b": "c"}}, "alias of nothing: b → c"),
    ]:
        with pytest.raises(EncoderError, match=message):
            Registry.read(json.dumps(content))


def renamed(state):
    return collections.OrderedDict((f"net.part{i}.{n.rpartition('.')[2]}", t) for i, (n, t) in enumerate(state.items()))


def test_order_matching(tmp_path):
    """The naming differs, order and shapes do not: EfficientNet-Lite0 of another package against timm's."""
    model = randomize(timm.create_model("tf_efficientnet_lite0", num_classes=0), seed=3)
    state = renamed(model.state_dict())
    state |= {"net.fc.weight": torch.zeros(9, 1280), "net.fc.bias": torch.zeros(9)}
    torch.save(state, tmp_path / "w.pth")
    name = f"ckpt:{tmp_path}/w.pth@tf_efficientnet_lite0"
    with pytest.raises(EncoderError, match=r"ckpt:FILE@ARCH\?match=order"):
        create_encoder(name)
    lines: list[str] = []
    encoder = create_encoder(name, match="order", progress=lines.append)
    same_features(encoder, model)
    assert "left over 2" in lines[-1]

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


# --- files that are not what they seem -------------------------------------------------------------


class Malicious:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return (Path.touch, (self.target,))


@pytest.mark.parametrize("container", ["torch", "pickle"])
def test_a_pickle_that_would_run_code_is_refused(tmp_path, container):
    file, mark = tmp_path / "evil.pth", tmp_path / "was-run"
    content = {"state_dict": {"conv1.weight": torch.zeros(1)}, "args": Malicious(mark)}
    if container == "torch":
        torch.save(content, file)
    else:
        file.write_bytes(pickle.dumps(content["args"]))
    with pytest.raises(EncoderError, match=r"not opened.*If you trust its source"):
        create_encoder(f"ckpt:{file}@resnet50")
    assert not mark.exists()


def test_files_that_are_no_checkpoints(tmp_path, weights):
    (tmp_path / "page.pth").write_text("<html>Quota exceeded</html>")
    with pytest.raises(EncoderError, match="it is a web page"):
        create_encoder(f"ckpt:{tmp_path}/page.pth@resnet50")
    torch.save(weights, tmp_path / "w.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "w.pth").read_bytes()[:100_000])
    with pytest.raises(EncoderError, match="damaged or cut short"):
        create_encoder(f"ckpt:{tmp_path}/cut.pth@resnet50")
    torch.save({"epoch": 3}, tmp_path / "none.pth")
    with pytest.raises(EncoderError, match="no tensors; its keys are epoch"):
        create_encoder(f"ckpt:{tmp_path}/none.pth@resnet50")
    with pytest.raises(EncoderError, match=r"no checkpoint at .*absent\.pth"):
        create_encoder(f"ckpt:{tmp_path}/absent.pth@resnet50")


# --- download --------------------------------------------------------------------------------------


def fetch(url: str, lines: list[str]) -> Path:
    from ssl_risk_rs.encoders.weights.download import fetch

    return fetch("some_encoder", url, licence="CC BY-NC 4.0", progress=lines.append)


def test_download_records_a_hash_and_notices_a_change(tmp_path):
    import functools
    import http.server
    import threading

    (tmp_path / "host").mkdir()
    (tmp_path / "host" / "w.pth").write_bytes(bytes(range(256)) * 9000)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "host"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/w.pth"
        lines: list[str] = []
        path = fetch(url, lines)
        with pytest.raises(EncoderError, match=r"404.*ckpt:FILE@some_encoder"):
            fetch(url.replace("w.pth", "absent.pth"), lines)
        server.shutdown()
        thread.join()
    assert path.read_bytes() == (tmp_path / "host" / "w.pth").read_bytes()
    assert "licence" in lines[0] and "CC BY-NC 4.0" in lines[0]
    record = json.loads((path.parent / f"{path.name}.json").read_text())
    assert record["bytes"] == path.stat().st_size and record["origin"] == "downloaded"
    assert fetch(url, lines) == path  # the server is gone: from the cache
    path.write_bytes(b"tampered")
    with pytest.raises(EncoderError, match="not the file first downloaded"):
        fetch(url, lines)
    assert sorted(p.name for p in path.parent.iterdir()) == [
        path.name,
        f"{path.name}.json",
    ]  # no temporary left


def test_an_interrupted_download_leaves_nothing(tmp_path):
    import socket
    import threading

    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 100)

        server.settimeout(30)  # a client that never comes fails the test instead of hanging it
        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(EncoderError, match="cannot be downloaded"):
            fetch(f"http://127.0.0.1:{server.getsockname()[1]}/w.pth", [])
        thread.join()
    assert list((tmp_path / "cache" / "encoders").iterdir()) == []


def test_without_a_network_the_message_says_what_to_do(monkeypatch):
    import urllib.error
    import urllib.request

    def refuse(*_, **__):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    with pytest.raises(EncoderError) as caught:
        create_encoder("swav_rn50_ep100")
    message = str(caught.value)
    assert "https://dl.fbaipublicfiles.com/deepcluster/swav_100ep_pretrain.pth.tar" in message
    assert str(cached_path("swav_rn50_ep100", describe_encoder("swav_rn50_ep100").source)) in message
    assert "ckpt:FILE@swav_rn50_ep100" in message


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


def test_torch_that_is_not_installed_is_a_sentence():
    source = (
        "import sys; sys.modules['torch'] = None\n"
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
        ("byol_rn50_bs64", "cannot be loaded by name yet: a Haiku pickle.*res50x1_batchsize_64"),
        ("clip_vitB32", r"use timm:vit_base_patch32_clip_quickgelu_224\.openai"),
    ],
)
def test_wrong_names_get_the_next_step(name, message):
    with pytest.raises(EncoderError, match=message):
        create_encoder(name)


def test_registry_is_complete_and_coherent():
    names = published_names()
    assert len(names) == len({n.lower() for n in names}) == 170  # the paper's 169 and one more SeLa
    loadable = published_names(loadable_only=True)
    assert {n for n in names if n.startswith("swav")} <= set(loadable)
    for name in loadable:
        spec = describe_encoder(name)
        assert spec.source.startswith("https://") and spec.resize == 256 and spec.img_size == 224
        assert spec.random_twin == f"random:{spec.architecture}"
    assert describe_encoder("DINO_VITS16").features[0] == "4xcls"
    assert describe_encoder("swav_rn50w4").batch_size == 2560


def test_list_encoders():
    assert list_encoders("demo_*") == ["demo_ssl", "demo_supervised", "demo_random"]
    assert "byol_rn50_bs64" not in list_encoders()
    assert "byol_rn50_bs64" in list_encoders("BYOL*", recognised=True)
    assert list_encoders("timm:resnet10t*") == ["timm:resnet10t.c3_in1k"]
    assert list_encoders("nothing*") == []


def test_name_grammar():
    name = parse_name("ckpt:a?b@c/w.pth@vit_base_patch16_224?patch_size=4&qkv_bias=False&global_pool=token")
    assert (name.kind, name.target, name.part) == ("checkpoint", "a?b@c/w.pth", "vit_base_patch16_224")
    assert name.options == {"patch_size": 4, "qkv_bias": False, "global_pool": "token"}
    assert parse_name("timm:resnet18?pretrained=false").kind == "random"


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
        for name in ("swav", "dino_vitS16", "demo_ssl", "pixels:8", "random:resnet101", "ckpt:w@swav_rn50"):
            sr.describe_encoder(name)
        assert len(sr.list_encoders()) > 90
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
        "random:vit_small_patch14_reg4_dinov2?depth=4", layers=["cls", "avg", "blocks.1:avg"], img_size=56
    )
    assert encoder.spec.img_size == 56
    model, images = encoder.module.backbone, torch.randn(1, 3, 56, 56)
    assert model.num_prefix_tokens == 5
    with torch.inference_mode():
        out, tokens = encoder.module(images), model.forward_features(images)
    assert tokens.shape[1] == 5 + 16
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


def test_timm_preprocessing_is_timms():
    name = "vit_small_patch14_dinov2.lvd142m"
    encoder = create_encoder(f"random:{name}?depth=1")
    config = timm.data.resolve_model_data_config(timm.create_model(name, depth=1))
    assert torch.equal(encoder.transform(picture("RGB")), timm.data.create_transform(**config)(picture("RGB")))
    assert encoder.spec.img_size == 518


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


# --- command line ----------------------------------------------------------------------------------


def test_models_command():
    from click.testing import CliRunner
    from ssl_risk_rs.cli import main

    run = CliRunner().invoke
    listed = json.loads(run(main, ["models", "list", "byol*", "--format", "json"]).output)
    assert len(listed) == 12 and not any(row["loadable"] for row in listed)
    table = run(main, ["models", "list", "swav*", "--format", "csv"]).output.splitlines()
    assert table[0].startswith("name,loadable,objective") and len(table) == 10
    shown = run(main, ["models", "show", "swav"])
    assert "swav_800ep_pretrain.pth.tar" in shown.output and shown.exit_code == 0
    missing = run(main, ["models", "show", "swaf"])
    assert missing.exit_code == 1 and "Error: no encoder 'swaf'" in missing.output
    assert run(main, ["models", "list", "none*"]).exit_code == 1
