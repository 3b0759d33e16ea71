"""`ckpt:FILE@file.py:function`: saved weights in a network of the user's own code."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from ssl_risk_rs import create_encoder, describe_encoder
from ssl_risk_rs.encoders.names import parse_name
from ssl_risk_rs.encoders.sources.files import own_files
from ssl_risk_rs.encoders.transforms import Preprocess
from ssl_risk_rs.errors import EncoderError

OWN = """
import torch
from torch import nn
from torchvision import transforms as t

class Net(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, images):
        return self.norm(self.conv(images)).mean((2, 3))

class Method(nn.Module):  # what is trained
    def __init__(self):
        super().__init__()
        self.net, self.mine = Net(), nn.Linear(4, 2)

def net():
    return Net()

def sized():
    return Net(), t.Compose([t.Resize((16, 16)), t.ToTensor()])

def wide():
    return Net(9)

def number():
    return 3

def none():
    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten())

class Ends(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

    def forward(self, images):
        return self.fc(self.first(images).mean((2, 3)))

def ends():
    return Ends()
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder with own.py, and the trained network whose checkpoint is w.pth."""
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(OWN)
    code: dict = {}
    exec(OWN, code)
    torch.manual_seed(3)
    method = code["Method"]()
    method.net.norm.running_mean += 0.5
    torch.save({"state_dict": method.state_dict(), "epoch": 7}, "w.pth")
    return method.net.eval()


def test_the_file_fills_the_network_that_the_function_makes(own):
    said: list[str] = []
    encoder = create_encoder("ckpt:w.pth@own.py:net", img_size=32, progress=said.append)
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(encoder.module(images)["output"], own(images))
    assert "matched 7 tensors of the encoder under state_dict → net." in said[0] and "left over 2: mine.*" in said[0]
    assert "no transform given" in said[1]
    assert encoder.code_hash == create_encoder("own.py:net").code_hash and encoder.code_files == ("own.py",)
    assert encoder.weights_hash != create_encoder("own.py:net").weights_hash


def test_images_are_prepared_as_the_function_or_the_name_says(own):
    assert create_encoder("ckpt:w.pth@own.py:sized").spec.img_size == 16
    named = create_encoder("ckpt:w.pth@own.py:net?mean=0.5&std=0.25&resize=40", img_size=32)
    assert (named.spec.mean, named.spec.std, named.spec.resize) == ((0.5,) * 3, (0.25,) * 3, 40)
    white = named.transform(Image.new("RGB", (50, 50), (255, 255, 255)))
    assert isinstance(named.transform, Preprocess) and torch.allclose(white, torch.full((3, 32, 32), 2.0))
    with pytest.raises(EncoderError, match=r"sized returns a transform of its own: leave out resize"):
        create_encoder("ckpt:w.pth@own.py:sized?resize=20")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ckpt:w.pth@own.py", r"name the function that returns the encoder: own\.py:function"),
        ("ckpt:w.pth@own.py:no way", "'no way' is no function name"),
        ("ckpt:w.pth@absent.py:net", r"no file absent\.py"),
        ("ckpt:w.pth@own.py:net?patch_size=4", "net makes the network, without arguments: leave out patch_size"),
        ("ckpt:w.pth@own.py:absent", r"own\.py has no function absent; it has Net, Method, net"),
        ("ckpt:w.pth@own.py:number", r"returned int; return a torch\.nn\.Module or \(module, transform\)$"),
        ("ckpt:w.pth@own.py:wide", r"w\.pth does not fit own\.py:wide: tensor state_dict\.net\.conv\.weight has"),
        ("ckpt:own.py@own.py:net", r"own\.py"),
        ("ckpt:w.pth@own.py:none", r"own\.py:none has no tensors that w\.pth could fill"),
    ],
)
def test_what_does_not_fit_is_an_error_that_says_so(own, name, message):
    with pytest.raises(EncoderError, match=message):
        create_encoder(name, img_size=32)


def test_a_network_that_ends_in_what_is_called_a_head_is_filled_by_order(own):
    """`fc` is a head in files of others, and a part of this network."""
    code: dict = {}
    exec(OWN, code)
    trained = code["Ends"]().eval()
    torch.save({f"x.{name}": tensor for name, tensor in trained.state_dict().items()}, "ends.pth")
    encoder = create_encoder("ckpt:ends.pth@own.py:ends?match=order", img_size=32)
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(encoder.module(images)["output"], trained(images))


def test_a_deeper_network_than_the_function_makes_is_refused(own):
    """Parts beside the network's may be left out; more of a part that it has is another network."""
    held = torch.load("w.pth")["state_dict"]
    bare = {name.removeprefix("net."): tensor for name, tensor in held.items()}
    torch.save(bare | {"mixer.weight": torch.ones(3)}, "beside.pth")
    assert create_encoder("ckpt:beside.pth@own.py:net", img_size=32).num_features == {"output": 4}
    torch.save(bare | {"norm.extra": torch.ones(4)}, "deeper.pth")
    with pytest.raises(EncoderError, match=r"so are 1 more that are no head: norm\.extra"):
        create_encoder("ckpt:deeper.pth@own.py:net", img_size=32)


def test_both_files_make_the_encoder(own):
    name = parse_name("ckpt:w.pth@own.py:net?ema=false")
    assert (name.kind, name.target, name.part) == ("checkpoint", "w.pth", "own.py:net")
    assert name.code == (Path("own.py"), "net") and [path.name for path in own_files(name)] == ["w.pth", "own.py"]
    assert parse_name("ckpt:w.pth@resnet50").code is None and parse_name("own.py:net").code == (Path("own.py"), "net")
    spec = describe_encoder("ckpt:w.pth@own.py:net")
    assert (spec.source, spec.architecture, spec.img_size) == ("code", "net", None)
