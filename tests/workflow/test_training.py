"""The error of a module while it trains: what is recorded, found again, replaced, and what training does not notice."""

import os
import random
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from click.testing import CliRunner
from ssl_risk_rs import Settings, TrainingMonitor, create_encoder, decompose, extract
from ssl_risk_rs.bank.store import FeatureStore
from ssl_risk_rs.cli import main
from ssl_risk_rs.errors import DataError, EncoderError, ParameterError, ResultError
from ssl_risk_rs.extraction.settings import Encoding
from ssl_risk_rs.results import Run
from torch import nn
from torchvision.transforms import v2

LIMITED = Encoding(limit="40/class")


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5), nn.Flatten())


def train(module: nn.Module) -> None:
    """Other weights than before."""
    with torch.no_grad():
        module[0].weight.add_(0.1)


def monitor(folder: object = "out", **options: object) -> TrainingMonitor:
    said = options.pop("said", [])
    given = {"img_size": 8, "probes": "ridge", "store": "banks", "encoding": LIMITED, "say": said.append}
    return TrainingMonitor("digits", folder, **(given | options))


def test_epochs_are_recorded_as_the_same_module_decomposed_by_hand():
    made, module = monitor(), net()
    runs = {}
    for epoch in (0, 5, 10):
        runs[epoch] = made.record(module, epoch)
        train(module)
    encoder = create_encoder(net(), img_size=8)
    (bank,) = extract(encoder, LIMITED.images("digits"), store="other").values()
    by_hand = decompose(bank, probe="ridge")
    assert runs[0].main.risks.equals(by_hand.risks)
    assert runs[10].main.estimate("agg_risk") != by_hand.estimate("agg_risk")
    assert runs[5].provenance.encoder == "Sequential, epoch 5"


class Draws(nn.Module):
    """Draws from all three generators while it is evaluated."""

    def forward(self, x):
        drawn = float(torch.rand(())) + random.random() + np.random.rand()  # noqa: NPY002
        return x.flatten(1) + 0.01 * drawn


def _states() -> tuple:
    return torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002


def test_a_transform_and_a_module_that_draw_leave_the_training_its_random_numbers():
    """The generators moved on, and an epoch of the same weights was another one each time."""
    drawing = v2.Compose([v2.Resize(8), v2.RandomHorizontalFlip(), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    said: list[str] = []
    made, module = monitor(transform=drawing, said=said), Draws()
    before = _states()
    first = made.record(module, 1)
    assert _states() == before
    torch.rand(3), random.random()
    again = made.record(module, 1)
    assert "epoch 1 was recorded before" in said[-1] and again.main.risks.equals(first.main.risks)


class FailsOnMany(nn.Module):
    def __init__(self, error: Exception):
        super().__init__()
        self.error = error

    def forward(self, x):
        if len(x) > 2:
            raise self.error
        return x.flatten(1)


@pytest.mark.parametrize("error", [RuntimeError("no such shape"), ValueError("no such shape")])
def test_a_module_that_fails_on_a_batch_does_not_end_the_training(error):
    """It was a warning where it failed on the two images that try it, and raised what it raised on a batch."""
    made = monitor()
    with pytest.raises(EncoderError, match=r"fails on a batch of \d+ images: .*test_training\.py:\d+ in forward: "):
        made.record(FailsOnMany(error), 0)
    made.record(net(), 0)
    with pytest.warns(RuntimeWarning, match=r"epoch 1 is not recorded, the training goes on: .*no such shape"):
        assert made.record(FailsOnMany(error), 1) is None
    assert made.failed[-1][0] == "epoch 1"


def test_the_curve_is_in_the_order_of_epochs_with_paired_steps():
    made, module = monitor(name="mine"), net()
    for epoch in (10, 2):
        made.record(module, epoch)
        train(module)
    curve = made.curve()
    assert [entry.epoch for entry in curve.entries] == [2.0, 10.0]
    (step,) = curve.steps
    assert step.encoders == ("epoch 2", "epoch 10")
    frame = curve.frame()
    assert frame["epoch_from"].unique().to_list() == ["given"]
    assert "2 encoders on digits · ridge probe" in str(curve)


def test_an_epoch_is_recorded_again_where_its_twin_has_new_weights(tmp_path):
    from ssl_risk_rs.encoders.facts import bundled_path

    twin, found = tmp_path / "twin.safetensors", []
    for weights in ("demo_supervised", "demo_supervised", "demo_random"):
        twin.write_bytes(bundled_path(weights).read_bytes())
        os.utime(twin, ns=(10**18 + len(weights), 10**18 + len(weights)))
        made = monitor(supervised=f"ckpt:{twin}", encoding=replace(LIMITED, img_size=None))
        found.append(made.record(net(), 1).main)
    assert found[0].estimates == found[1].estimates
    assert found[2].estimate("approx") > found[0].estimate("approx")


def test_a_report_of_the_folder_shows_the_curve():
    made, module = monitor(), net()
    for epoch in (0, 1):
        made.record(module, epoch)
        train(module)
    result = CliRunner().invoke(main, ["report", "out", "--md", "page.md"])
    assert result.exit_code == 0, result.stderr
    assert "Parts of the error in percent, by epoch" in Path("page.md").read_text(encoding="utf-8")


def test_training_does_not_notice():
    """Weights, modes, gradients, devices and random numbers are those of a training without it."""
    module = net().train()
    module[3].eval()  # frozen by its owner
    made = monitor(control="pixels:4", probes=("ridge", "logistic"))
    module(torch.rand(2, 3, 8, 8)).sum().backward()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    gradients = [p.grad.clone() for p in module.parameters()]
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    threads, default = torch.get_num_threads(), torch.get_default_dtype()
    made.record(module, 0)
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == random.getstate()
    np.testing.assert_array_equal(states[2], np.random.get_state()[1])  # noqa: NPY002
    assert [part.training for part in module] == [True, True, True, False, True]
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(torch.equal(p.grad, g) for p, g in zip(module.parameters(), gradients, strict=True))
    assert all(p.requires_grad for p in module.parameters())
    assert torch.is_grad_enabled()
    assert (threads, default) == (torch.get_num_threads(), torch.get_default_dtype())


def test_a_module_that_draws_while_it_is_evaluated_leaves_the_generator_alone():
    class Drawing(torch.nn.Module):
        def forward(self, images):
            return images.mean(dim=(2, 3)) + 1e-3 * torch.randn(1)

    state = torch.get_rng_state()
    made = monitor()
    made.record(Drawing(), 0)
    made.record(Drawing(), 1)
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(1)
    said: list[str] = []
    again = monitor(said=said)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again.record(Drawing(), 0)
    assert any("epoch 0 was recorded before" in sentence for sentence in said)


def test_another_network_with_the_same_weights_is_recorded_again():
    """Neither pools nor activations have weights."""

    def pooled(pool: nn.Module) -> nn.Module:
        torch.manual_seed(3)
        return nn.Sequential(nn.Conv2d(3, 8, 3), pool, nn.Flatten())

    first, other = pooled(nn.AdaptiveAvgPool2d(2)), pooled(nn.AdaptiveMaxPool2d(2))
    old = monitor().record(first, 0)
    new = monitor().record(other, 0)
    assert new.scalars() == monitor("alone").record(other, 0).scalars() != old.scalars()
    said: list[str] = []
    assert monitor(said=said).record(other, 0).scalars() == new.scalars()
    assert any("was recorded before" in sentence for sentence in said)


def test_another_training_in_the_folder_of_one_is_warned_of():
    made = monitor()
    for epoch in (0, 5, 10):
        made.record(net(), epoch)
    again, module = monitor(), net()
    train(module)
    with pytest.warns(RuntimeWarning, match="epoch 5 to 10 of an earlier training stays in .*out") as caught:
        again.record(module, 0)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again.record(module, 10)


def test_a_training_that_starts_again_goes_on_where_it_was():
    module = net()
    first = monitor()
    first.record(module, 0)
    said: list[str] = []
    again = monitor(said=said)
    there = again.record(net(), 0)
    assert isinstance(there, Run)
    assert [text for text in said if "recorded before" in text] == [f"epoch 0 was recorded before: {there.path}."]
    train(module)
    other = again.record(module, 0)
    assert other.path == there.path
    assert "epoch 0 is recorded again." in said
    assert again.record(module, 1) is not None
    assert len(again.curve().entries) == 2


def test_features_leave_the_store_once_their_run_is_written():
    module = net()
    made = monitor(control="pixels:4")
    made.record(module, 0)
    assert [bank.encoder for bank in FeatureStore("banks").banks()] == ["pixels:4"]
    kept = monitor("kept", keep_features=True)
    kept.record(module, 0)
    assert {bank.encoder for bank in FeatureStore("banks").banks()} == {"pixels:4", "Sequential, epoch 0"}


def test_a_bank_that_was_there_stays():
    (bank,) = extract(create_encoder(net(), img_size=8), LIMITED.images("digits"), store="banks").values()
    monitor().record(net(), 0)
    assert bank.path.is_dir()


def test_the_first_failure_raises_and_later_ones_warn():
    class Broken(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("out of ideas")

    made = monitor()
    with pytest.raises(EncoderError, match="out of ideas"):
        made.record(Broken(), 0)
    assert made.record(net(), 1) is not None
    with pytest.warns(RuntimeWarning, match="epoch 2 is not recorded, the training goes on: .*out of ideas"):
        assert made.record(Broken(), 2) is None
    assert [name for name, _ in made.failed] == ["epoch 0", "epoch 2"]
    assert [entry.name for entry in made.curve().entries] == ["epoch 1"]


def test_a_training_that_starts_again_is_not_ended_by_its_first_failure(monkeypatch):
    monitor().record(net(), 0)
    made = monitor()
    monkeypatch.setattr(made.runs, "keep", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.warns(RuntimeWarning, match="No space left"):
        assert made.record(net(), 1) is None


def test_what_cannot_be_answered_is_refused_before_training():
    with pytest.raises(DataError, match="no column"):
        monitor(group="patient")
    with pytest.raises(EncoderError, match="nothing_like_it"):
        monitor(control="nothing_like_it")
    made = monitor()
    with pytest.raises(ResultError, match="no epoch has been recorded in out"):
        made.curve()
    made.record(net(), 0)
    with pytest.raises(ResultError, match=r"out holds runs that were made otherwise .*force=True"):
        monitor(probes="logistic")
    assert monitor(probes="logistic", force=True).record(net(), 0).probes == ("logistic",)


@pytest.mark.parametrize("epoch", [float("nan"), float("inf"), True, "3", None])
def test_an_epoch_is_a_number(epoch):
    with pytest.raises(ParameterError, match="epoch is "):
        monitor().record(net(), epoch)


def test_steps_are_epochs_too():
    made = monitor()
    for step in (np.int64(1_234_567), torch.tensor(1_234_568), 0.5):
        made.record(net(), step)
    assert [entry.name for entry in made.curve().entries] == ["epoch 0.5", "epoch 1234567", "epoch 1234568"]
    assert "1234568" in str(made.curve())
    assert made.curve().frame().schema["epoch"] == pl.Float64


def test_another_transform_is_another_encoder():
    def resize(side: int):
        return v2.Compose([v2.RGB(), v2.Resize((side, side)), v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True)])

    pool = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten())
    first = monitor(transform=resize(8)).record(pool, 0)
    assert monitor(transform=resize(8)).record(pool, 0).created == first.created  # read
    again = monitor(transform=resize(3)).record(pool, 0)
    assert again.main.estimate("agg_risk") != first.main.estimate("agg_risk")


def test_the_control_sees_images_of_the_same_size():
    monitor(img_size=16, control="random:resnet18").record(net(), 0)
    (control,) = FeatureStore("banks").banks()
    assert FeatureStore("banks").open(control.path).header.img_size == 16


def test_features_of_a_record_that_failed_leave_with_the_next_try(monkeypatch):
    made = monitor()
    made.record(net(), 0)
    module = net()
    train(module)
    keep = made.runs.keep
    monkeypatch.setattr(made.runs, "keep", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.warns(RuntimeWarning, match="No space left"):
        assert made.record(module, 1) is None
    monkeypatch.setattr(made.runs, "keep", keep)
    assert made.record(module, 1) is not None
    assert not FeatureStore("banks").banks()


@pytest.mark.parametrize("saved", [True, False])
def test_a_record_that_is_killed_is_made_again_in_its_place(monkeypatch, saved):
    """A kill once the run is written, before the index knows that it is whole, and one before the run is written."""
    save = Run.save

    def killed(run: Run, *args: object, **options: object) -> None:
        if saved:
            save(run, *args, **options)
        raise KeyboardInterrupt("now")

    made = monitor()
    made.record(net(), 0)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt, match="now"):
        patch.setattr(Run, "save", killed)
        made.record(net(), 1)
    again = monitor()
    assert [entry.name for entry in again.curve().entries] == ["epoch 0"]
    run = again.record(net(), 1)
    assert run.path.name == "epoch_1"
    assert sorted(path.name for path in Path("out").iterdir()) == ["epoch_0", "epoch_1", "index.json"]
    assert monitor().record(net(), 1).created == run.created  # read


def test_a_run_that_is_being_replaced_is_none_of_the_new_question(monkeypatch):
    made = monitor()
    made.record(net(), 0)
    again = monitor(settings=Settings(n_subsets=1), force=True)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt, match="now"):
        patch.setattr(Run, "save", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt("now")))
        again.record(net(), 0)
    with pytest.raises(ResultError, match="no epoch has been recorded"):
        monitor(settings=Settings(n_subsets=1)).curve()
    assert monitor().record(net(), 0).path.name == "epoch_0"  # of either question, in the same place


def test_memory_that_is_exhausted_does_not_end_a_training(monkeypatch):
    made, module = monitor(), net()
    made.record(module, 0)
    train(module)
    monkeypatch.setattr("ssl_risk_rs.workflow.training.extract", lambda *_, **__: (_ for _ in ()).throw(MemoryError))
    with pytest.warns(RuntimeWarning, match="epoch 1 is not recorded, the training goes on: memory is exhausted"):
        assert made.record(module, 1) is None


def test_a_kept_bank_of_the_same_weights_does_not_name_the_run():
    made = monitor(keep_features=True)
    names = [made.record(net(), epoch).provenance.encoder for epoch in (0, 1)]
    assert names == ["Sequential, epoch 0", "Sequential, epoch 1"]
    run = monitor("other", name="mine", keep_features=True).record(net(), 0)
    assert (run.provenance.encoder, run.main.name) == ("mine, epoch 0", "mine, epoch 0")


def test_a_report_offers_no_line_on_features_that_were_removed():
    monitor().record(net(), 0)
    monitor("kept", keep_features=True, store="others").record(net(), 0)
    pages = {}
    for folder in ("out", "kept"):
        result = CliRunner().invoke(main, ["report", f"{folder}/epoch_0", "--md", f"{folder}.md"])
        assert result.exit_code == 0, result.stderr
        pages[folder] = Path(f"{folder}.md").read_text(encoding="utf-8")
    (bank,) = FeatureStore("others").banks()
    assert "ssl-risk-rs fewshot FEATURES" in pages["out"]
    assert f"ssl-risk-rs fewshot {bank.path.absolute()}" in pages["kept"]
    gone, there = ("is not there, or cannot be read" in page for page in pages.values())
    assert gone and not there
