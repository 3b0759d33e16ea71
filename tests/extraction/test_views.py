"""Augmented views: squares drawn by sample id, a bank for each, and the statistics that read them."""

import csv
import io
import json
import pickle

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from ssl_risk_rs import Run, compare, decompose, stats
from ssl_risk_rs.bank import FeatureBank
from ssl_risk_rs.cli import main
from ssl_risk_rs.datasets import create_dataset
from ssl_risk_rs.datasets.sources import Picture
from ssl_risk_rs.datasets.views import VIEWS_VERSION, view_of
from ssl_risk_rs.encoders import create_encoder
from ssl_risk_rs.errors import NotComparableError, ParameterError
from ssl_risk_rs.extraction import Encoding, ExtractionSettings, cached, ensure_bank, extract
from ssl_risk_rs.extraction.facts import facts

LIMIT = "3/class"
PARTS = ["shard-0-of-2.npy", "shard-1-of-2.npy"]


def numbered(width, height):
    """A picture whose pixels are their own places: red is the column, green the row."""
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    return Picture(Image.fromarray(np.stack([columns, rows, 0 * rows], -1).astype(np.uint8)), 6)


@pytest.mark.parametrize(("width", "height"), [(100, 60), (31, 200), (8, 8), (1, 1)])
def test_views_are_squares_of_the_image_some_of_them_flipped(width, height):
    picture = numbered(width, height)
    areas, flips = [], []
    for i in range(400):
        view = view_of(picture, f"sample {i}", 1)
        pixels = np.asarray(view.image).astype(int)
        side = len(pixels)
        assert view.image.size == (side, side) and 1 <= side <= min(width, height) and view.orientation == 6
        columns, rows = pixels[0, :, 0], pixels[:, 0, 1]
        flips.append(columns[0] > columns[-1])
        np.testing.assert_array_equal(columns[:: -1 if flips[-1] else 1], columns.min() + np.arange(side))
        np.testing.assert_array_equal(rows, rows[0] + np.arange(side))
        areas.append((side / min(width, height)) ** 2)
    if min(width, height) > 8:
        # uniform on 8 to 100 %: mean 0.54, deviation 0.266, of 400 draws; five standard errors, and a pixel
        assert abs(np.mean(areas) - 0.54) < 5 * 0.266 / 20 + 0.02 and min(areas) < 0.12 and max(areas) > 0.95
        assert abs(np.mean(flips) - 0.5) < 5 * 0.5 / 20


def test_a_view_depends_on_its_number_and_the_sample_alone():
    dataset = create_dataset("digits", limit=LIMIT)
    first, second = dataset.viewed(1), dataset.viewed(2)
    shown = [np.asarray(first.load(i)) for i in range(len(first))]
    # left out, pickled, in another order: rows move, views do not
    moved = pickle.loads(pickle.dumps(first.without([first.sample_id(0)])))
    for i in (len(moved) - 1, 0, 7):
        np.testing.assert_array_equal(np.asarray(moved.load(i)), shown[i + 1])
    others = [np.asarray(second.load(i)) for i in range(len(second))]
    assert sum(a.shape != b.shape or (a != b).any() for a, b in zip(shown, others, strict=True)) > 25
    assert (first.name, first.uri) == (dataset.name, dataset.uri) and "view 1" in repr(first)
    assert first.oriented(True).view == 1 and dataset.view is None


def test_views_are_those_of_this_version():
    """Another cut of the same sample and number needs another VIEWS_VERSION."""
    found = []
    for sample_id, number in (("sample 0", 1), ("sample 3", 1), ("sample 0", 2), ("train/ant/0.png", 12)):
        pixels = np.asarray(view_of(numbered(100, 60), sample_id, number).image).astype(int)
        found.append((len(pixels), pixels[0, :, 0].min(), pixels[0, 0, 1], pixels[0, 0, 0] > pixels[0, -1, 0]))
    assert VIEWS_VERSION == 1
    assert found == [(27, 30, 15, True), (43, 27, 17, False), (32, 30, 16, True), (36, 4, 10, False)]


def test_an_image_is_turned_before_its_view_is_cut(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    for part, name in (("train", "ant"), ("train", "bee"), ("test", "ant"), ("test", "bee")):
        (tmp_path / part / name).mkdir(parents=True)
        numbered(40, 24).image.save(tmp_path / part / name / "0.png", exif=exif)
    dataset = create_dataset(f"folder:{tmp_path}", exif_orientation=True)
    for row in range(4):
        whole = dataset.picture(row)
        assert whole.image.size == (24, 40)
        seen, cut = dataset.viewed(1).load(row), view_of(whole, dataset.sample_id(row), 1).image
        np.testing.assert_array_equal(np.asarray(seen), np.asarray(cut))


def test_a_bank_holds_the_features_of_its_views(tmp_path):
    encoder, dataset = create_encoder("demo_ssl"), create_dataset("digits", limit=LIMIT)
    (bank,) = extract(encoder, dataset, store=tmp_path, view=2, batch_size=7).values()
    (plain,) = extract(encoder, dataset, store=tmp_path).values()
    assert bank.path != plain.path and (bank.header.view, plain.header.view) == (2, None)
    images = [encoder.transform(dataset.viewed(2).load(i)) for i in range(len(dataset))]
    import torch

    with torch.inference_mode():
        expected = encoder.module(torch.stack(images))[bank.header.feature].numpy()
    np.testing.assert_allclose(bank.read(np.arange(len(dataset))), expected, rtol=2e-3, atol=2e-3)
    # what is there already is found again, by what was typed as well
    again = ensure_bank("demo_ssl", "digits", store=tmp_path, limit=LIMIT, settings=ExtractionSettings(view=2))
    assert again.path == bank.path


def test_settings_without_a_view_are_what_they_were():
    """Banks and sweeps that were made before views existed are found again."""
    kept = {"amp", "dtype", "compile", "skip_corrupt", "hash_content", "exif_orientation"}
    assert set(ExtractionSettings().content()) == kept and set(ExtractionSettings(view=3).content()) == {*kept, "view"}
    encoder, dataset = create_encoder("demo_ssl"), create_dataset("digits", limit=LIMIT)
    of_bank = {
        "version", "weights", "architecture", "options", "code", "pretraining_data", "transform", "precision", "data",
        "samples", "pixels", "exif_orientation",
    }  # fmt: skip
    assert set(facts(encoder, dataset, weights_hash="w", precision="float32", fingerprint="f")) == of_bank
    viewed = facts(encoder, dataset.viewed(1), weights_hash="w", precision="float32", fingerprint="f")
    assert set(viewed) == {*of_bank, "view"}


@pytest.mark.parametrize("wrong", [0, -1, True, 1.5, "2"])
def test_a_view_has_a_number_from_one_at_every_door(wrong):
    for door in (lambda: ExtractionSettings(view=wrong), lambda: create_dataset("digits").viewed(wrong)):
        with pytest.raises(ParameterError, match=r"view is .* whole number from 1"):
            door()


def test_views_and_images_as_they_are_do_not_mix(tmp_path):
    """They have the same sample ids and labels: only the header tells them apart."""
    plain, view = (
        ensure_bank("demo_ssl", "digits", store=tmp_path, settings=ExtractionSettings(view=number))
        for number in (None, 1)
    )
    result = decompose(view, probe="ridge")
    assert "augmented view 1 of every image" in str(result)
    with pytest.raises(NotComparableError, match=r"differ in augmented view \(none and 1\)"):
        compare([decompose(plain, probe="ridge"), result])
    # earlier releases told the view in a note alone
    folder = result.save(tmp_path / "run")
    document = json.loads((folder / "run.json").read_text())
    del document["decompositions"][0]["method"]["view"], document["sha256"]
    (folder / "run.json").write_text(json.dumps(document))
    assert Run.load(folder).main.method == result.method and result.method.view == 1
    with pytest.raises(ParameterError, match="is of images as they are, the features are of augmented view 1"):
        decompose(view, supervised=plain, probe="ridge")
    listed = list(csv.DictReader(io.StringIO(run("store", "ls", "--store", tmp_path, "--format", "csv").stdout)))
    assert sorted(row["view"] for row in listed) == ["", "1"]
    assert "digits, view 1" in run("store", "ls", "--store", tmp_path).stdout


def run(*arguments):
    done = CliRunner().invoke(main, [str(a) for a in arguments])
    assert done.exit_code == 0, done.output
    return done


def test_extract_makes_a_bank_of_each_view_and_prints_the_line_that_measures_them(tmp_path):
    line = ("extract", "-m", "demo_ssl", "-d", "digits", "--limit", LIMIT, "--store", tmp_path, "--views", 3)
    planned = list(csv.DictReader(io.StringIO(run(*line, "--dry-run", "--format", "csv").stdout)))
    assert [row["view"] for row in planned] == ["1", "2", "3"] and not list(tmp_path.glob("*/bank.json"))
    done = run(*line, "--format", "csv")
    assert done.stderr.count("limited to") == done.stderr.count("matched 14 tensors") == 1  # not once a view
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [row["view"] for row in rows] == ["1", "2", "3"] and len({row["path"] for row in rows}) == 3
    printed = done.stderr.strip().splitlines()[-1]
    assert printed.startswith(f"ssl-risk-rs stats {rows[0]['path']} --views") and printed.count("--views") == 2
    measured = run(*printed.split()[1:], "--format", "csv")
    values = {row["statistic"]: float(row["value"]) for row in csv.DictReader(io.StringIO(measured.stdout))}
    # the mean squared distance of two views on the sphere, by hand
    banks = [FeatureBank.open(row["path"]) for row in rows]
    train = banks[0].rows("train")
    z = np.stack([bank.read(train).astype(np.float64) for bank in banks])
    z /= np.linalg.norm(z, axis=2, keepdims=True)
    pairs = [((z[i] - z[j]) ** 2).sum(1).mean() for i, j in ((0, 1), (0, 2), (1, 2))]
    assert values["alignment"] == pytest.approx(np.mean(pairs), rel=1e-5) and values["lidar"] > 1
    # the same image in every view would lie at the same place
    same = stats(banks[0], views=[banks[0]])
    assert same.value("alignment") == pytest.approx(0, abs=1e-9)


def test_the_encoder_of_all_views_is_built_once(tmp_path, monkeypatch):
    built, create = [], cached.create_encoder
    monkeypatch.setattr(cached, "create_encoder", lambda model, **asked: built.append(model) or create(model, **asked))
    line = ["extract", "-m", "pixels:8", "-d", "digits", "--limit", LIMIT, "--views", "3", "--store", str(tmp_path)]
    for rest in (["--dry-run"], [], ["--format", "csv"]):  # the last one finds the banks
        result = CliRunner().invoke(main, [*line, *rest])
        assert result.exit_code == 0, result.output
    assert built == ["pixels:8"] * 2
    kept = cached.KeptEncoder()
    first = kept.create("pixels:8", Encoding(), print)
    assert kept.create("pixels:8", Encoding(layers=(), limit="3/class"), print) is first
    assert kept.create("pixels:4", Encoding(), print) is not first


def test_shards_of_views_fill_the_same_banks(tmp_path):
    line = ("extract", "-m", "demo_ssl", "-d", "digits", "--limit", LIMIT, "--views", 2)
    said = [run(*line, "--store", tmp_path / "parts", "--shard", f"{i}/2").stderr for i in (1, 0)]
    assert ["ssl-risk-rs stats" in text for text in said] == [False, True]  # once all rows are there
    run(*line, "--store", tmp_path / "whole")
    keys = {path.parent.name for path in (tmp_path / "whole").glob("*/bank.json")}
    assert len(keys) == 2 and keys == {path.parent.name for path in (tmp_path / "parts").glob("*/bank.json")}
    for key in keys:
        parts, whole = (FeatureBank.open(tmp_path / name / key) for name in ("parts", "whole"))
        assert parts.complete
        rows = np.arange(whole.n_rows)
        np.testing.assert_allclose(parts.read(rows), whole.read(rows), rtol=2e-3, atol=2e-3)


def test_shards_of_an_engine_take_views_too(tmp_path):
    line = ("extract", "-m", "demo_ssl", "-d", "digits", "--limit", LIMIT, "--views", 2, "--shards", 2)
    done = run(*line, "--store", tmp_path, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [row["view"] for row in rows] == ["1", "2"]
    banks = [FeatureBank.open(row["path"]) for row in rows]
    assert all(bank.complete for bank in banks) and [bank.header.view for bank in banks] == [1, 2]
    # the shards made them, not this process
    assert all(sorted(p.name for p in bank.path.glob("shard-*.npy") if "rows" not in p.name) == PARTS for bank in banks)
