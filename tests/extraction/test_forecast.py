"""--dry-run: what an extraction would take, and nothing of it on disk."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from local_encoder import LocalEncoder, Spike, TwoFeatures, spiky_data
from ssl_risk_rs.cli import main
from ssl_risk_rs.datasets import create_dataset
from ssl_risk_rs.decomposition.targets import Target
from ssl_risk_rs.errors import ParameterError
from ssl_risk_rs.extraction import Encoding, ExtractionSettings, Shard, extract
from ssl_risk_rs.extraction import forecast as module
from ssl_risk_rs.extraction.forecast import forecast
from ssl_risk_rs.workflow.forecast import forecast_run
from ssl_risk_rs.workflow.others import choose_others
from ssl_risk_rs.workflow.question import Question


def test_rows_and_bytes_are_those_of_the_bank_that_is_made_then(tmp_path):
    dataset = create_dataset("digits", limit="5/class")
    names = ["deep", "shallow"]
    told = forecast(LocalEncoder(), dataset, store=tmp_path / "s", features=names)
    assert not (tmp_path / "s").exists()
    banks = extract(LocalEncoder(), dataset, store=tmp_path / "s", features=names)
    for entry, bank in zip(told, banks.values(), strict=True):
        assert (entry.rows, entry.missing, entry.n_features) == (100, 100, bank.n_features)
        assert entry.dtype == bank.dtype and entry.device == "cpu" and entry.timed == 100
        payload = sum(array.features.nbytes + array.rows.nbytes for array in bank.arrays())
        assert entry.bytes == payload
        assert entry.seconds == pytest.approx(100 / entry.images_per_second, rel=1e-12)  # one division
        assert entry.bottleneck in ("decode", "encode", "write") and entry.memory > 0


def test_a_control_that_is_the_encoder_itself_is_one_bank(tmp_path):
    encoding = Encoding(limit="5/class")
    told = forecast_run("pixels:8", "digits", question=Question(encoding=encoding, control="pixels:8"), store=tmp_path)
    assert [entry.encoder for entry in told] == ["pixels:8"]
    both = forecast_run("pixels:4", "digits", question=Question(encoding=encoding, control="pixels:8"), store=tmp_path)
    assert [entry.encoder for entry in both] == ["pixels:4", "pixels:8"]


def test_rows_that_are_there_are_not_counted_and_a_shard_counts_its_own(tmp_path):
    dataset = create_dataset("digits", limit="5/class")
    extract(LocalEncoder(), dataset, store=tmp_path, shard=Shard(0, 4))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    (whole,) = forecast(LocalEncoder(), dataset, store=tmp_path)
    (done,) = forecast(LocalEncoder(), dataset, store=tmp_path, shard=Shard(0, 4))
    (half,) = forecast(LocalEncoder(), dataset, store=tmp_path, shard=Shard(0, 2))
    assert [(e.rows, e.missing) for e in (whole, done, half)] == [(100, 75), (25, 0), (50, 25)]
    assert done.images_per_second is None and done.seconds == 0 and done.timed == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_the_dtype_is_the_one_that_fits(tmp_path):
    (entry,) = forecast(LocalEncoder(Spike()), spiky_data(tmp_path, at=slice(None)), store=tmp_path / "s")
    assert entry.dtype == "float32" and entry.bytes == 350 * (5 * 4 + 8)


def test_few_batches_are_enough(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SECONDS", 0.0)
    encoder, dataset = LocalEncoder(), create_dataset("digits")
    (entry,) = forecast(encoder, dataset, store=tmp_path, settings=ExtractionSettings(batch_size=8, workers=1))
    assert entry.missing == 1797 and entry.batch_size == 8 and entry.timed < 100
    assert entry.seconds == pytest.approx(1797 / entry.images_per_second, rel=1e-12)
    assert sum(encoder.module.seen) < 200  # with those that the dtype is decided on


def test_corrupt_images_are_counted_and_end_nothing(tmp_path):
    from PIL import Image

    for part in ("train", "test"):
        for i, name in enumerate("ab" * 5):
            path = tmp_path / "d" / part / name / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((8, 8), i, np.uint8)).save(path)
    path.write_bytes(b"nonsense")
    (entry,) = forecast(LocalEncoder(), create_dataset(f"folder:{tmp_path / 'd'}"), store=tmp_path / "s")
    assert entry.missing == 20 and entry.corrupt == 1 and entry.timed == 20


def test_memory_that_ends_halves_the_batch_that_is_told(tmp_path):
    class Hungry(TwoFeatures):
        def forward(self, images):
            if len(images) > 10:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return super().forward(images)

    (entry,) = forecast(LocalEncoder(Hungry()), create_dataset("digits", limit="5/class"), store=tmp_path)
    assert entry.batch_size == 8  # 64 → 32 → 16 → 8


@pytest.mark.parametrize("command", ["extract", "run"])
def test_the_commands_write_nothing(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    args = [command, "-m", "pixels:4", "-d", "digits", "--limit", "20/class", "--store", "s", "--dry-run"]
    result = CliRunner().invoke(main, [*args, "--format", "json"], catch_exceptions=False)
    assert result.exit_code == 0 and "Nothing was written." in result.stderr
    entries = json.loads(result.stdout)
    roles = {"extract": ["pixels:4"], "run": ["pixels:4", "pixels:8"]}[command]
    assert [entry["encoder"] for entry in entries] == roles
    assert all(entry["missing"] == 400 for entry in entries)
    assert not list(tmp_path.iterdir())
    table = CliRunner().invoke(main, args, catch_exceptions=False)
    assert max(map(len, table.stdout.splitlines())) <= 80


def _pictures(folder, n):
    from PIL import Image

    for i in range(n):
        path = folder / "ab"[i % 2] / f"{i:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), 2 * i, np.uint8)).save(path)
    return f"folder:{folder}"


def test_a_run_is_forecast_on_the_images_that_a_split_names(tmp_path):
    """Those of a file, which leaves some out."""
    uri = _pictures(tmp_path / "d", 40)
    split = tmp_path / "split.csv"
    split.write_text("sample_id,split\n" + "".join(
        f"{'ab'[i % 2]}/{i:03}.png,{'train' if i < 30 else 'test'}\n" for i in range(36)
    ))  # fmt: skip
    args = ["run", "-m", "pixels:4", "-d", uri, "--split", str(split), "--store", str(tmp_path / "s"), "--dry-run"]
    result = CliRunner().invoke(main, [*args, "--format", "json"], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    assert [(e["encoder"], e["rows"]) for e in json.loads(result.stdout)] == [("pixels:4", 36), ("pixels:8", 36)]


def test_a_target_needs_no_twin_and_must_be_a_column(tmp_path):
    spec = {"supervised_twin": "demo_supervised", "twin_labels_id": "digits", "random_twin": "demo_random"}
    asked = {"data_id": "digits", "n_images": 100, "say": print}

    def twin_of(**question):
        return choose_others(spec, "digits", Question(control="none", **question), **asked).twin

    assert twin_of() == "demo_supervised"
    assert twin_of(target=Target("pen")) is None
    assert twin_of(target=Target("pen"), supervised="x") == "x"
    question = Question(target=Target("pen"), encoding=Encoding(limit="3/class"))
    with pytest.raises(ParameterError, match="no further column 'pen'"):
        forecast_run("pixels:4", "digits", question=question, store=tmp_path)


def test_features_need_no_dry_run():
    result = CliRunner().invoke(main, ["run", "--features", "x.npz", "--dry-run"])
    assert result.exit_code == 2 and "--features are encoded already" in result.stderr
