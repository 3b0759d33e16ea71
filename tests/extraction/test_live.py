"""Modules in memory: what an encoder of one gives is the module as it was, and the module is left as it was."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from local_encoder import LocalEncoder, TwoFeatures, to_tensor
from ssl_risk_rs import EncoderError, ParameterError, create_dataset, create_encoder, ensure_bank, evaluate, extract
from ssl_risk_rs.encoders.encoder import hash_weights
from torch import nn


class Net(nn.Module):
    """A network in training: BatchNorm, one of them frozen on purpose, and dropout."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.frozen = nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.BatchNorm2d(8)
        self.drop, self.last = nn.Dropout(0.5), nn.Linear(288, 6)
        self.train()
        self.frozen.eval()

    def forward(self, images):
        return self.last(self.drop(torch.relu(self.frozen(self.norm(self.conv(images))))).flatten(1))


def features_of(net, dataset):
    copy = Net()
    copy.load_state_dict(net.state_dict())
    with torch.no_grad():
        images = torch.stack([to_tensor(dataset.load(row)) for row in range(len(dataset))])
        return copy.eval()(images).numpy()


@pytest.fixture(scope="module")
def digits():
    return create_dataset("digits", limit=60)


def test_a_module_is_encoded_as_it_is_now_and_left_as_it_was(tmp_path, digits):
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    banks = []
    for epoch in range(2):
        before = hash_weights(net)
        encoder = create_encoder(net, transform=to_tensor, name=f"epoch {epoch}", img_size=8)
        bank = extract(encoder, digits, store=tmp_path)["output"]
        banks.append(bank)
        np.testing.assert_allclose(bank.read(np.arange(bank.n_rows)), features_of(net, digits), rtol=5e-3, atol=1e-3)
        assert (bank.header.encoder, bank.header.weights_hash) == (f"epoch {epoch}", encoder.weights_hash)
        assert net.training and net.drop.training and not net.frozen.training
        assert all(p.requires_grad for p in net.parameters()) and hash_weights(net) == before
        net(torch.rand(4, 1, 8, 8)).sum().backward()
        optimizer.step()
    assert banks[0].path != banks[1].path


def test_the_same_weights_have_the_same_bank(tmp_path, digits):
    one = extract(create_encoder(Net(), transform=to_tensor, name="a"), digits, store=tmp_path)["output"]
    two = extract(create_encoder(Net(), transform=to_tensor, name="b"), digits, store=tmp_path)["output"]
    assert one.path == two.path


def test_wrapped_modules_are_unwrapped(digits):
    plain = create_encoder(Net(), transform=to_tensor)
    for wrapped in (nn.DataParallel(Net()), torch.compile(Net())):
        encoder = create_encoder(wrapped, transform=to_tensor)
        assert (encoder.weights_hash, encoder.spec.name) == (plain.weights_hash, "Net")


def test_half_precision_is_widened(tmp_path, digits):
    encoder = create_encoder(Net().double(), transform=to_tensor)
    assert extract(encoder, digits, store=tmp_path)["output"].complete


def test_an_encoder_whose_module_was_trained_on_has_no_old_bank(tmp_path):
    """One wide feature beside others that changed: what is told of all features together would hide them."""
    dataset = create_dataset("digits", limit=40)

    class Wide(TwoFeatures):
        def forward(self, images):
            out = super().forward(images)
            return {
                "deep": out["deep"],
                "shallow": torch.cat([1e4 * images.mean((1, 2, 3))[:, None], out["shallow"]], 1),
            }

    encoder = LocalEncoder(Wide(), num_features={"deep": 5, "shallow": 4})
    options = {"store": tmp_path, "features": "shallow", "dtype": "float32"}
    first = extract(encoder, dataset, **options)["shallow"]
    assert extract(encoder, dataset, **options)["shallow"].path == first.path
    with torch.no_grad():
        encoder.module.first.weight.mul_(-1)
    second = extract(encoder, dataset, **options)["shallow"]
    assert second.path != first.path
    assert second.header.weights_hash == hash_weights(encoder.module) != first.header.weights_hash
    rows = np.arange(40)
    assert not np.allclose(first.read(rows)[:, 1:], second.read(rows)[:, 1:], rtol=0.1)


def test_a_function_that_changes_narrow_features_is_noticed(tmp_path):
    """The same, where no weight tells: a setting of the module outside its state."""
    dataset = create_dataset("digits", limit=40)

    class Scaled(TwoFeatures):
        def forward(self, images):
            out = super().forward(images)["shallow"]
            return {"shallow": torch.cat([1e4 * images.mean((1, 2, 3))[:, None], out.roll(self.scale, 0)], 1)}

    encoder = LocalEncoder(Scaled(0), num_features={"shallow": 4})
    options = {"store": tmp_path, "features": ["shallow"], "dtype": "float32"}
    encoder.spec = replace(encoder.spec, features=("shallow",))
    first = extract(encoder, dataset, **options)["shallow"]
    encoder.module.scale = 1
    assert extract(encoder, dataset, **options)["shallow"].path != first.path


def test_float32_is_float32_inside_autocast(tmp_path, digits):
    encoder = LocalEncoder()
    outside = extract(encoder, digits, store=tmp_path / "a", dtype="float32")["deep"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = extract(encoder, digits, store=tmp_path / "b", dtype="float32")["deep"]
    rows = np.arange(60)
    assert np.array_equal(outside.read(rows), inside.read(rows))


def test_a_wrong_number_of_features_leaves_nothing_in_the_way(tmp_path, digits):
    for dtype in ("auto", "float32"):
        encoder = LocalEncoder(num_features={"deep": 6, "shallow": 3})
        with pytest.raises(EncoderError, match="has 5 numbers an image, its num_features says 6"):
            extract(encoder, digits, store=tmp_path, dtype=dtype)
        encoder.num_features["deep"] = 5
        assert extract(encoder, digits, store=tmp_path, dtype=dtype)["deep"].complete


class Unnamed(TwoFeatures):
    def forward(self, images):
        return super().forward(images)["deep"]


class Held(nn.Module):
    """It holds a tensor that is no leaf, as modules with hooks may."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))
        self.made = self.weight * 2

    def forward(self, images):
        return images.flatten(1)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda d, s: extract(nn.Flatten(), d, store=s), ParameterError, r"create_encoder\(module"),
        (lambda d, s: extract(LocalEncoder(), [1, 2], store=s), ParameterError, "list is no data set"),
        (lambda d, s: extract(LocalEncoder(Unnamed()), d, store=s), EncoderError, "features by name, not Tensor"),
        (lambda d, s: create_dataset(np.zeros((9, 8, 8))), ParameterError, "not by ndarray"),
        (lambda d, s: ensure_bank(LocalEncoder(), "digits", store=s), ParameterError, "not by LocalEncoder"),
        (lambda d, s: evaluate("pixels:8", d, store=s), ParameterError, "not by ImageDataset"),
        (lambda d, s: create_encoder(3), ParameterError, "a name or a torch.nn.Module, not int"),
        (lambda d, s: create_encoder("pixels:8", name="x"), ParameterError, "name belongs to a module"),
        (lambda d, s: create_encoder(Net(), layers="blocks.1"), EncoderError, "decides itself"),
        (lambda d, s: create_encoder(Net(), transform=lambda image: 3), EncoderError, "Net fails on an image"),
        (lambda d, s: create_encoder(Held()), EncoderError, "cannot be copied .* save its state_dict"),
    ],
)
def test_other_kinds_of_things_are_told(tmp_path, digits, call, error, message):
    with pytest.raises(error, match=message):
        call(digits, tmp_path)


class Itself(nn.Module):
    """What its library copies shallowly, if at all."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(64, 3)

    def forward(self, images):
        return self.last(images.flatten(1))

    def __deepcopy__(self, memo):
        return self


class Shared(Itself):
    def __deepcopy__(self, memo):
        other = Itself()
        other.last = self.last
        return other


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Itself, "its copy is the module itself"),
        (Shared, "shares weights with it"),
        (lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(3)), "cannot be copied"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 3, device="meta")), "cannot be copied"),
    ],
)
def test_what_cannot_be_copied_is_told_and_left_alone(module, message):
    net = module().train()
    with pytest.raises(EncoderError, match=message):
        create_encoder(net, transform=to_tensor, img_size=8)
    assert net.training and all(p.requires_grad for p in net.parameters())


def test_scripted_modules_are_copied(tmp_path, digits):
    net = torch.jit.trace(Itself().eval(), torch.rand(1, 1, 8, 8))
    bank = extract(create_encoder(net, transform=to_tensor, name="traced"), digits, store=tmp_path)["output"]
    assert bank.complete and bank.header.encoder == "traced"


def brighter(image):
    return to_tensor(image) * 1.003


def test_another_transform_has_another_bank(tmp_path, digits):
    one, two = (
        extract(create_encoder(Net(), transform=t), digits, store=tmp_path)["output"] for t in (to_tensor, brighter)
    )
    assert one.path != two.path


class Double(nn.Module):
    def forward(self, images):
        return 2 * images.flatten(1)


class Triple(nn.Module):
    def forward(self, images):
        return 3 * images.flatten(1)


def test_the_code_of_every_part_and_of_the_transform_is_known():
    """Parts without weights look alike: their code tells them apart."""
    encoders = [
        create_encoder(nn.Sequential(inner), transform=transform, name="net", img_size=8)
        for inner, transform in ((Double(), to_tensor), (Triple(), to_tensor), (Double(), brighter))
    ]
    assert len({encoder.weights_hash for encoder in encoders}) == 1
    hashes = {encoder.code_hash for encoder in encoders}
    assert len(hashes) == 3 and None not in hashes


@pytest.mark.parametrize("option", [{"name": 5}, {"pretraining_data": 3}])
def test_names_of_modules_are_text(option):
    with pytest.raises(ParameterError, match=next(iter(option))):
        create_encoder(Net(), transform=to_tensor, **option)
