"""An encoder small enough for tests, alone and in processes that are killed."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from ssl_risk_rs.bank import FeatureBank
from ssl_risk_rs.datasets import create_dataset
from torch import nn

RNG = np.random.default_rng(0)
#: seconds before a process counts as hung: importing torch alone takes a minute on a loaded machine
WAIT = 240


class TwoFeatures(nn.Module):
    """8 × 8 grey images → `deep` (b, 5) and `shallow` (b, 3); remembers the batch sizes it saw."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(64, 3), nn.Linear(3, 5)
        self.norm = nn.BatchNorm1d(3)  # in training mode it would mix the images of a batch
        self.scale, self.seen = scale, []

    def forward(self, images):
        self.seen.append(len(images))
        shallow = self.norm(self.first(images.flatten(1)))
        return {"deep": self.second(shallow) * self.scale, "shallow": shallow}


def to_tensor(image):
    return torch.from_numpy(np.asarray(image.convert("L").resize((8, 8)), dtype=np.float32)[None] / 255)


@dataclass(frozen=True)
class Spec:
    name: str = "two-features"
    source: str = "memory"
    features: tuple[str, ...] = ("deep", "shallow")
    img_size: int | None = 8
    resize: int | None = None
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    channels: int = 1
    pretraining_data: str | None = None
    pretraining_id: str | None = None
    licence: str | None = "MIT"
    architecture: str = "two linear layers"
    options: str = ""

    def to_dict(self):
        return {"name": self.name}


@dataclass
class LocalEncoder:
    """What `extract` needs of an encoder."""

    module: nn.Module = field(default_factory=TwoFeatures)
    spec: Spec = Spec()
    transform: object = to_tensor
    num_features: dict = field(default_factory=lambda: {"deep": 5, "shallow": 3})
    weights_hash: str = "sha256:local"
    code_hash: str | None = None
    code_files: tuple[str, ...] = ()


def direct(encoder, dataset, rows=None):
    """Features by a plain forward pass in evaluation mode, one image at a time."""
    rows = range(len(dataset)) if rows is None else rows
    module = encoder.module.cpu().eval()
    with torch.inference_mode():
        outs = [module(encoder.transform(dataset.load(row))[None]) for row in rows]
    return {name: torch.cat([out[name] for out in outs]).numpy() for name in outs[0]}


SLOW = '''
"""An encoder that takes its time and writes down which image it was given."""
import os, sys, time
sys.path.insert(0, {tests!r})
from local_encoder import LocalEncoder, to_tensor
from ssl_risk_rs.extraction import writing
writing.BLOCK_SECONDS = 0.2

def slow(image):
    with open({log!r}, "a") as log:
        log.write(str(image.getpixel((0, 0)) * 256 + image.getpixel((1, 0))) + "\\n")
    time.sleep(0.005)
    return to_tensor(image)

def encoder():
    return LocalEncoder(transform=slow)
'''


def numbered_data(tmp_path, n=400):
    """Images whose first two pixels tell their number."""
    images = RNG.integers(0, 256, (n, 8, 8), dtype=np.uint8)
    images[:, 0, 0], images[:, 0, 1] = np.arange(n) // 256, np.arange(n) % 256
    cut = n // 4 * 3
    labels = np.arange(n) % 3
    arrays = dict(x_train=images[:cut], y_train=labels[:cut], x_test=images[cut:], y_test=labels[cut:])
    np.savez(tmp_path / "a.npz", **arrays)
    return f"npz:{tmp_path / 'a.npz'}"


def start(tmp_path, source):
    (tmp_path / "slow.py").write_text(SLOW.format(tests=str(Path(__file__).parent), log=str(tmp_path / "log")))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    return subprocess.Popen(
        [sys.executable, "-c", source],
        env=environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def wait_for_rows(process, store, at_least):
    """The bank in the store, once it has so many rows committed."""
    deadline = time.monotonic() + WAIT
    while time.monotonic() < deadline and process.poll() is None:
        for path in store.glob("*/bank.json"):
            bank = FeatureBank.open(path.parent)
            if bank.n_rows - len(bank.missing_rows()) >= at_least:
                return bank
        time.sleep(0.05)
    raise AssertionError(process.communicate())


class Spike(TwoFeatures):
    """`deep` is beyond float16 for the images whose first pixel is bright."""

    def forward(self, images):
        out = super().forward(images)
        out["deep"] = torch.where(images[:, 0, :1, 0] > 0.9, 1e6, out["deep"])
        return out


def spiky_data(tmp_path, at):
    images = RNG.integers(0, 200, (300, 8, 8), dtype=np.uint8)
    images[:, 0, 0] = 0
    images[at, 0, 0] = 255
    labels = np.arange(300) % 3
    np.savez(tmp_path / "a.npz", x_train=images, y_train=labels, x_test=images[:50], y_test=labels[:50])
    return create_dataset(f"npz:{tmp_path / 'a.npz'}")
