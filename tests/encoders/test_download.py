"""Files of the catalogue: downloaded once, tried in order, recorded, checked against what was published."""

import functools
import hashlib
import http.server
import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from reference_networks import resnet_features, resnet_weights
from ssl_risk_rs.encoders import create_encoder, describe_encoder
from ssl_risk_rs.encoders.catalogue import Address, catalogue
from ssl_risk_rs.encoders.sources.published import published_files
from ssl_risk_rs.encoders.weights.download import cached_path, fetch, url_of
from ssl_risk_rs.errors import EncoderError
from test_families import close, images, swav

CONTENT = bytes(range(256)) * 9000


def place_at(url: str, **changes) -> Address:
    known = Address("some_file", url, "native", "torch", "alive", None, "", "CC BY-NC 4.0", "LICENSE")
    return replace(known, **changes)


def fetch_from(*places: Address, lines: list[str] | None = None) -> Path:
    say = (lines if lines is not None else []).append
    return fetch(places, usable=places, name="some_encoder", progress=say)[0]


@pytest.fixture
def host(tmp_path) -> Iterator[str]:
    """A web server with w.pth on it."""
    (tmp_path / "host").mkdir()
    (tmp_path / "host" / "w.pth").write_bytes(CONTENT)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=str(tmp_path / "host"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_download_records_a_hash_and_notices_a_change(host):
    lines: list[str] = []
    path = fetch_from(place_at(f"{host}/w.pth"), lines=lines)
    assert path.read_bytes() == CONTENT
    assert "licence" in lines[0] and "CC BY-NC 4.0 (LICENSE)" in lines[0]
    record = json.loads((path.parent / f"{path.name}.json").read_text())
    assert record["bytes"] == path.stat().st_size and record["origin"] == "downloaded"
    assert fetch_from(place_at("http://127.0.0.1:9/w.pth")) == path  # no host is asked: from the cache
    path.write_bytes(b"tampered")
    with pytest.raises(EncoderError, match="not the file first downloaded"):
        fetch_from(place_at(f"{host}/w.pth"))
    assert sorted(p.name for p in path.parent.iterdir()) == [path.name, f"{path.name}.json"]  # no temporary left


def test_mirrors_are_tried_in_order_and_all_failures_are_named(host):
    gone, mirror = place_at(f"{host}/absent.pth"), place_at(f"{host}/w.pth", dialect="transformers_vit")
    path, used = fetch([gone, mirror], usable=[gone, mirror], name="some_encoder", progress=[].append)
    assert path.read_bytes() == CONTENT and used.dialect == "transformers_vit"
    path.unlink()
    with pytest.raises(EncoderError, match=r"404.*; nor from .*other\.pth.*ckpt:FILE@some_encoder"):
        fetch_from(gone, place_at(f"{host}/other.pth"))


def test_what_was_published_of_a_file_is_checked(host):
    digest = hashlib.sha256(CONTENT).hexdigest()
    path = fetch_from(place_at(f"{host}/w.pth", sha256=digest[:8], n_bytes=len(CONTENT)))
    path.unlink()
    path.with_name(path.name + ".json").unlink()
    wrong = rf"is not the published file: {len(CONTENT)} bytes with SHA-256 {digest[:16]}.*"
    with pytest.raises(EncoderError, match=wrong + r"where SHA-256 00ff… was published"):
        fetch_from(place_at(f"{host}/w.pth", sha256="00ff"))
    with pytest.raises(EncoderError, match=wrong + "where 3 bytes was published"):
        fetch_from(place_at(f"{host}/w.pth", n_bytes=3))
    assert list(path.parent.iterdir()) == []  # what is not the file is not kept


def test_an_interrupted_download_leaves_nothing(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 100)

        server.settimeout(30)  # a client that never comes fails the test instead of hanging it
        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(EncoderError, match="ended after 100 of 1000 bytes"):
            fetch_from(place_at(f"http://127.0.0.1:{server.getsockname()[1]}/w.pth"))
        thread.join()
    assert list((tmp_path / "cache" / "encoders").iterdir()) == []


def test_without_a_network_the_message_says_what_to_do(monkeypatch):
    def refuse(*_, **__):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    with pytest.raises(EncoderError, match="cannot be downloaded") as caught:
        create_encoder("swav_rn50_ep100")
    message = str(caught.value)
    assert "https://dl.fbaipublicfiles.com/deepcluster/swav_100ep_pretrain.pth.tar" in message
    assert str(published_files("swav_rn50_ep100")[0]) in message
    assert "ckpt:FILE@swav_rn50_ep100" in message


def test_a_dead_address_is_not_tried_and_its_file_loads_when_it_is_at_hand(monkeypatch):
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: pytest.fail("a dead address was asked"))
    with pytest.raises(EncoderError, match=r"no address of the weights of beitv2_vitL16_pt1k lives.*ckpt:FILE@beitv2"):
        create_encoder("beitv2_vitL16_pt1k")
    assert "Its published address is dead" in (describe_encoder("beitv2_vitL16_pt1k").notes or "")


def test_a_file_placed_by_hand_loads_and_its_hash_is_recorded(tiny_resnets):
    weights = resnet_weights()
    spec = describe_encoder("swav")
    assert spec.name == "swav_rn50"
    (path,) = published_files("swav")
    assert path == cached_path(catalogue().files["swav_rn50"][0])
    path.parent.mkdir(parents=True)
    torch.save(swav(weights), path)
    lines: list[str] = []
    encoder = create_encoder("swav", img_size=40, progress=lines.append)
    with torch.inference_mode():
        close(encoder.module(images(40))["avgpool"], resnet_features(weights, images(40)))
    record = json.loads(path.with_name(path.name + ".json").read_text())
    assert record["url"] == spec.source and len(record["sha256"]) == 64 and record["origin"] == "placed by hand"
    assert sum("CC BY-NC 4.0" in line for line in lines) == 1
    lines.clear()
    assert create_encoder("swav", img_size=40, progress=lines.append).weights_hash == encoder.weights_hash
    assert not any("licence" in line for line in lines)  # shown once


def test_a_file_is_there_once_for_all_encoders_made_of_it(tiny_resnets):
    assert published_files("dino_vitS16") == published_files("dino_vitS16_last") != ()
    assert published_files("dino_vitS16") == published_files("dino_vitS16_extractB")
    assert published_files("no_such_encoder") == ()


def test_addresses_of_the_hub(monkeypatch):
    hub = "hf:timm/resnet50_clip.openai/model.safetensors"
    assert url_of(hub) == "https://huggingface.co/timm/resnet50_clip.openai/resolve/main/model.safetensors"
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example/")
    assert url_of(hub).startswith("https://mirror.example/timm/resnet50_clip.openai/resolve/main/")
    assert url_of("https://host/w.pth") == "https://host/w.pth"
