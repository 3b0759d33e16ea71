"""The command `fewshot`, and the few-shot options of `decompose` and `run`, end to end."""

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from cli_helpers import parsed, run
from ssl_risk_rs.results import Run


@pytest.fixture(autouse=True)
def features(tmp_path, monkeypatch) -> str:
    """A file of features in an empty working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SSL_RISK_STORE", str(tmp_path / "store"))
    centres = np.random.default_rng(1).standard_normal((4, 6))

    def part(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        y = np.arange(n) % 4
        return (centres[y] + np.random.default_rng(seed).standard_normal((n, 6))).astype(np.float32), y

    (x, y), (x_test, y_test) = part(320, 0), part(120, 1)
    np.savez("feats.npz", X_train=x, y_train=y, X_test=x_test, y_test=y_test)
    return "feats.npz"


def test_fewshot_prints_and_records_every_size():
    result = run("fewshot", "feats.npz", "--probe", "both", "--out", "r", "--labels-for", "25,1")
    assert result.stdout.count("Each size is the mean over draws") == 2 and "draws_*.parquet" in result.stdout
    assert "Few-shot size 1 % is left out" in result.stdout  # 0.8 rows of each class
    assert result.stdout.count("An error of 25 % needs") == result.stdout.count("An error of 1 % ") == 2
    loaded = Run.load("r")
    assert [[shot.size.name for shot in d.shots] for d in loaded.decompositions] == [["3", "5", "30"]] * 2
    assert sorted(p for p in os.listdir("r") if p.startswith("draws")) == [
        "draws_0_logistic.parquet", "draws_1_ridge.parquet",
    ]  # fmt: skip
    assert str(loaded) in result.stdout


def test_rows_of_every_size_are_printed_and_predictions_said():
    result = run("decompose", "feats.npz", "--probe", "ridge", "--shots", "5,3", "--draws", "6", "--out", "r",
                 "--format", "json")  # fmt: skip
    rows = parsed(result.stdout)
    assert {r["shots"] for r in rows} == {None, "3", "5"}
    assert rows == pl.read_parquet("r/results.parquet").to_dicts()
    assert "ridge probe: Twice the labels, 12 → 24:" in result.stderr
    assert "ridge probe: Back-test: each size predicted from the others" in result.stderr


def test_fewshot_of_an_encoder():
    result = run("fewshot", "-m", "pixels:8", "-d", "digits", "--limit", "40/class", "--probe", "ridge", "--shots", "4",
                 "--draws", "5", "--out", "r")  # fmt: skip
    assert "4 shots" in result.stdout and "pixels:8 on digits" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "says", "code"),
    [
        (("fewshot",), "name features, or an encoder with -m", 2),
        (("fewshot", "feats.npz", "-m", "swav"), "name the features once", 2),
        (("fewshot", "feats.npz", "--features", "feats.npz"), "name the features once", 2),
        (("fewshot", "-m", "pixels:8", "--features-columns", "a,b"), "go with features in PATH", 2),
        (("fewshot", "-m", "pixels:8", "--drop-unlabelled"), "without a value of --target", 2),
        (("fewshot", "feats.npz", "--labels-for", "ten"), "'ten' is no list of errors in percent", 2),
        (("fewshot", "feats.npz", "--draws", "0"), "not in the range", 2),
        (("fewshot", "feats.npz", "--draws", "1"), "1 is not in the range x>=2", 2),
        (("fewshot", "feats.npz", "--shots", "0"), "a probe needs at least one row of each class", 2),
        (("fewshot", "feats.npz", "--shots", "41"), "class 0 has 80 training rows", 1),
        (("fewshot", "feats.npz", "--labels-for", "0"), "it must lie between 0 and 100", 2),
        (("decompose", "feats.npz", "--draws", "5"), "give --shots as well", 2),
        (("decompose", "feats.npz", "--shots", "3", "--protocol", "paper"), "--protocol paper fixes shots", 2),
        (("run", "--features", "feats.npz", "--shots", "3,x"), "few-shot size 'x' is neither", 2),
    ],
)
def test_what_cannot_be_done_is_said_and_leaves_nothing(arguments, says, code):
    result = run(*arguments, "--out", "r", code=code)
    assert says in " ".join(result.stderr.split()) and result.stdout == ""
    assert not Path("r").exists()
