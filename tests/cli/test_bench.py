"""`bench`: every stage is timed by itself, and what follows for ImageNet adds up."""

import csv
import io
import json

import pytest
from click.testing import CliRunner
from ssl_risk_rs.cli import main
from ssl_risk_rs.errors import ParameterError
from ssl_risk_rs.extraction import speed
from ssl_risk_rs.workflow import bench
from ssl_risk_rs.workflow.bench import Measured, bench_machine

SMALL = ("--rows", "600", "--classes", "20", "--device", "cpu", "-m", "demo_ssl", "-d", "digits")
STAGES = ["decode", "encode", "gram", "judge", "pass", "logistic"]


@pytest.fixture(autouse=True)
def brief(monkeypatch):
    monkeypatch.setattr(speed.decoding_speed, "__kwdefaults__", {"seconds": 0.05})
    monkeypatch.setattr(
        speed.encoding_speed, "__kwdefaults__", {**(speed.encoding_speed.__kwdefaults__ or {}), "seconds": 0.05}
    )


def run(*arguments: str, code: int = 0):
    result = CliRunner().invoke(main, ["bench", *arguments])
    assert result.exit_code == code, result.output + result.stderr
    return result


def test_every_stage_is_timed_and_imagenet_follows_from_the_rates():
    rows = json.loads(run(*SMALL, "--format", "json").stdout)
    assert [row["stage"] for row in rows[:6]] == STAGES
    assert [row["stage"] for row in rows[6:]] == ["ImageNet: images", "ImageNet: ridge", "ImageNet: logistic"]
    decode, encode, gram, judge, gone = (row["per_second"] for row in rows[:5])
    assert min(decode, encode, gram, judge, gone) > 0 and all(row["seconds"] > 0 for row in rows)
    images, ridge, probe = rows[6:]
    assert images["seconds"] == pytest.approx(1_331_167 * (1 / decode + 1 / encode))  # they share the cores
    assert "same cores" in images["how"] and images["per_second"] is None
    assert ridge["seconds"] == pytest.approx(1_281_167 * (1 / gram + bench.SCORED / judge))
    assert probe["seconds"] == pytest.approx(1_281_167 * bench.PASSES / gone)
    assert "600 × 16" in rows[2]["how"]  # the encoder's features
    assert "demo_ssl, float32 on cpu" in rows[1]["how"] and "images of digits" in rows[0]["how"]
    assert "passes" in rows[5]["how"] and rows[5]["per_second"] is None


def test_the_table_and_csv_hold_the_same_stages():
    shown = run(*SMALL, "--features", "32")
    lines = shown.stdout.splitlines()
    assert lines[0].split() == ["stage", "per", "second", "took", "what"] and len(lines) == 10
    assert "images" in lines[1] and "rows" in lines[3] and "600 × 32" in lines[3]
    table = list(csv.DictReader(io.StringIO(run(*SMALL, "--format", "csv").stdout)))
    assert [row["stage"] for row in table][:6] == STAGES


def test_beside_a_gpu_the_slower_of_both_counts():
    speeds = [speed.Speed(1000, 1.0, "decode"), speed.Speed(4000, 1.0, "encode", on_cpu=False)]
    rows = [Measured(stage, 1e5, 1.0, "") for stage in ("gram", "judge", "pass")]
    images, *_ = bench._on_imagenet(speeds, rows)
    assert images.seconds == pytest.approx(1331.167) and images.how.endswith("wait for: decode")


def test_few_rows_are_said_not_to_show_the_time_of_a_pass():
    rows = list(bench._rows(64, 16, 32, "cpu", 1))
    found = next(row for row in rows if row.stage == "pass")
    assert found.per_second < 1e9 and "besides" in found.how


def test_photographs_are_drawn_where_no_data_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(bench, "IMAGES", 16)
    found = list(bench_machine(model="demo_ssl", device="cpu", n_rows=100, n_classes=4))
    assert "16 drawn JPEGs of 500 × 375" in found[0].how and found[0].per_second > 0
    assert not list(tmp_path.glob("ssl-risk*"))  # nothing is kept


def test_drawn_photographs_are_as_large_as_real_ones(tmp_path):
    dataset = bench._drawn_images(tmp_path)
    assert len(dataset) == bench.IMAGES and dataset.picture(0).image.size == (500, 375)
    sizes = [path.stat().st_size for path in tmp_path.rglob("*.jpg")]
    assert 60e3 < sum(sizes) / len(sizes) < 200e3  # an image of ImageNet has 110 kB


def test_what_cannot_be_timed_is_named():
    assert "too few for 1,000 classes" in run(*SMALL, "--classes", "1000", code=1).stderr
    for option in ("--rows", "--features", "--classes"):
        assert option.strip("-") in run(*SMALL, option, "1", code=1).stderr
    assert run("--device", "cpu", "-m", "nothing", code=1).stderr.splitlines()[-1].startswith("Error: no encoder")
    assert "give fewer: 1,048,576 in all" in run(*SMALL, "--rows", "9000000", "--features", "512", code=1).stderr
    with pytest.raises(ParameterError, match="n_features"):
        list(bench_machine(n_features=0))
    with pytest.raises(ParameterError, match="n_rows"):
        list(bench_machine(n_rows=1))


@pytest.mark.parametrize(("seconds", "shown"), [(0.034, "0.034 s"), (75, "75 s"), (720, "12 min"), (36_000, "10 h")])
def test_times_are_shown_in_their_unit(seconds, shown):
    from ssl_risk_rs.cli.bench import _shown

    row = _shown(Measured("gram", 1e6, seconds, "x"))
    assert row["took"] == shown and row["per second"] == "1,000,000 rows"
