"""`extract --shards`: the lines of all shards, and what they leave."""

import shlex

import numpy as np
import pytest
from click.testing import CliRunner
from ssl_risk_rs.bank import FeatureBank
from ssl_risk_rs.bank.store import FeatureStore
from ssl_risk_rs.cli import main
from sweep_helpers import seen, slow

pytest.importorskip("torch")


def extract(*words: str) -> "tuple[int, str, str]":
    """Exit code, stdout, stderr."""
    result = CliRunner().invoke(main, ["extract", *words])
    return result.exit_code, result.stdout, result.stderr


def test_shards_fill_a_bank_and_a_failed_one_is_named(tmp_path):
    name = slow(tmp_path, "mine", 0)
    text = (tmp_path / "mine.py").read_text()
    dies = (
        "import os, sys\n        if os.path.exists('dies') and '1/2' in sys.argv:\n            os.kill(os.getpid(), 9)"
    )
    (tmp_path / "mine.py").write_text(text.replace("time.sleep(0)", dies))
    (tmp_path / "dies").touch()
    words = ("-m", name, "-d", "digits", "--limit", "20/class", "--device", "cpu", "--shards", "2")
    code, _, stderr = extract(*words)
    assert code == 1 and "1 of 2 shards failed" in stderr and "status -9" in stderr
    line = next(line for line in stderr.splitlines() if line.startswith("ssl-risk-rs extract"))
    assert shlex.split(line)[-2:] == ["--shard", "1/2"]
    (bank,) = FeatureStore().banks()
    assert 0 < bank.missing < bank.n_rows
    (tmp_path / "dies").unlink()
    before = seen(tmp_path, "mine")
    code, stdout, stderr = extract(*words)
    assert code == 0, stderr
    opened = FeatureBank.open(bank.path)
    assert opened.complete and str(bank.path) in stdout
    encoded_again = seen(tmp_path, "mine") - before
    assert encoded_again < 2 * bank.n_rows  # a half, and images by which each line compares features
    alone = CliRunner().invoke(main, ["extract", *words[:-2], "--store", "other"])
    assert alone.exit_code == 0
    (single,) = FeatureStore("other").banks()
    rows = np.arange(bank.n_rows, dtype=np.uint64)
    np.testing.assert_array_equal(opened.read(rows), FeatureBank.open(single.path).read(rows))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--engine", "slurm", "--engine-option", "cluster=local"), "--engine slurm needs --shards N"),
        (("--shards", "2", "--shard", "0/2"), "--shard is one range"),
        (("--shard", "2/2"), "out of range"),
        (("--shards", "0"), "--shards"),
    ],
)
def test_what_cannot_be_run_is_said(words, said):
    if "slurm" in words:
        pytest.importorskip("submitit")
    code, _, stderr = extract("-m", "demo_ssl", "-d", "digits", *words)
    assert code in (1, 2) and said in stderr
