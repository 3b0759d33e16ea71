"""What the tests of encoders share: a cache of their own, and architectures of a few channels."""

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from ssl_risk_rs.encoders.networks import build, resnet

if (folder := str(Path(__file__).parent)) not in sys.path:
    sys.path.insert(0, folder)

from reference_networks import DEPTHS, STEM


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SSL_RISK_CACHE", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Small networks are faster on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def no_network(monkeypatch) -> list[object]:
    """No socket can be connected, nor a host be looked up; what tried is in the list."""
    tried: list[object] = []

    def refuse(*arguments: object, **_: object) -> None:
        tried.append(arguments[-1])
        raise OSError("a socket was used")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return tried


@pytest.fixture
def tiny_resnets(monkeypatch):
    """Our ResNets with the depths and channels of `reference_networks`; widths keep their ratios."""
    monkeypatch.setattr(resnet, "STEM_WIDTH", STEM)
    for name, (_, multiplier) in list(build._RESNETS.items()):
        monkeypatch.setitem(build._RESNETS, name, (DEPTHS, multiplier))
