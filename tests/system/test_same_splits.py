"""One data set in many forms is cut alike: folder, copy, touched copy, bank, export, shuffled rows."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from ssl_risk_rs import FeatureBank, Run, decompose, export_bank, import_bank
from ssl_risk_rs.cli import main

CLASSES = ("ant", "bee", "cow")
RISKS = ("risk_af", "risk_as", "risk_cs", "risk_us", "probe_gen", "enc_gen")


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """150 training and 60 test images of three classes that overlap."""
    root, rng = tmp_path_factory.mktemp("data") / "imgs", np.random.default_rng(0)
    for part, n in (("train", 50), ("test", 20)):
        for k, name in enumerate(CLASSES):
            folder = root / part / name
            folder.mkdir(parents=True)
            for i in range(n):
                pixels = rng.normal(128, 60, (4, 4, 3)) + 25 * (np.arange(3) == k)
                Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / f"{i:03}.png")
    return root


def extracted(folder: Path, store: Path) -> FeatureBank:
    """The bank of mean pixels of a folder."""
    arguments = ["extract", "-m", "pixels:4", "-d", f"folder:{folder}", "--store", str(store), "--format", "json"]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    return FeatureBank.open(json.loads(result.stdout)[0]["path"])


def held_out(result) -> dict[str, int]:
    """Training sample id → cell."""
    judged = result.judgements
    cells = np.where(judged.subset >= 0, 10 + judged.subset.astype(int), judged.fold)
    return dict(zip(judged.train_ids.tolist(), cells.tolist(), strict=True))


@pytest.fixture(scope="module")
def original(images, tmp_path_factory):
    bank = extracted(images, tmp_path_factory.mktemp("store"))
    return bank, decompose(bank, probe="ridge", n_threads=1)


def same(result, original) -> None:
    _, whole = original
    assert held_out(result) == held_out(whole)
    for name in RISKS:
        # the same rows in the same cells; their order changes the last digits of sums
        assert result.estimate(name) == pytest.approx(whole.estimate(name), abs=1e-9), name
        assert result.estimates[name].se == pytest.approx(whole.estimates[name].se, abs=1e-6), name


@pytest.mark.parametrize("touched", [False, True])
def test_a_copy_of_the_folder(images, original, tmp_path, touched):
    copy = tmp_path / "elsewhere" / "copy"
    shutil.copytree(images, copy, copy_function=shutil.copyfile)
    if touched:
        for i, file in enumerate(sorted(copy.rglob("*.png"))):
            os.utime(file, (1_000_000 + i, 2_000_000 + 7 * i))
    same(decompose(extracted(copy, tmp_path / "store"), probe="ridge", n_threads=1), original)


@pytest.mark.parametrize("target", ["feats.safetensors", "feats"])
def test_an_export_and_its_import(original, tmp_path, target):
    bank, _ = original
    file = export_bank(bank, tmp_path / target)
    out = tmp_path / "run"
    arguments = ["decompose", str(file), "--probe", "ridge", "--threads", "1", "--out", str(out)]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    same(Run.load(out).decompositions[0], original)
    again = import_bank(file, tmp_path / "bank", dtype=bank.dtype)
    same(decompose(again, probe="ridge", n_threads=1), original)


def test_shuffled_rows_and_other_class_numbers(original):
    bank, _ = original
    rng = np.random.default_rng(1)
    train, test = rng.permutation(bank.rows("train")), rng.permutation(bank.rows("test"))
    ids = bank.samples["sample_id"].to_list()
    labels = 7 - 3 * bank.labels()
    result = decompose(
        bank.read(train), labels[train], bank.read(test), labels[test],
        sample_ids=[ids[row] for row in (*train.tolist(), *test.tolist())], probe="ridge", n_threads=1,
    )  # fmt: skip
    same(result, original)


def test_a_limit_takes_the_same_images_from_a_copy(images, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(images, copy, copy_function=shutil.copyfile)
    found = []
    for folder in (images, copy):
        arguments = ["extract", "-m", "pixels:4", "-d", f"folder:{folder}", "--limit", "9/class", "--format", "json"]
        result = CliRunner().invoke(main, [*arguments, "--store", str(tmp_path / "store")], catch_exceptions=False)
        assert result.exit_code == 0, result.stderr
        found.append(FeatureBank.open(json.loads(result.stdout)[0]["path"]).samples["sample_id"].to_list())
    assert found[0] == found[1] and len(found[0]) == 2 * 27
