"""Where commands are run: folders that are gone, disks that are full, locales, stores that cannot be made."""

import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from cli_helpers import run
from ssl_risk_rs.bank.store import FeatureStore
from ssl_risk_rs.datasets import create_dataset
from ssl_risk_rs.errors import BankError, DataError
from ssl_risk_rs.extraction import decoding, ensure_bank

MAIN = "import sys; sys.argv[0] = 'ssl-risk-rs'; from ssl_risk_rs.cli import main; main()"


@pytest.fixture
def features(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    y = np.arange(200) % 2
    x = (y[:, None] + rng.standard_normal((200, 3))).astype(np.float32)
    np.savez(tmp_path / "f.npz", X_train=x[:150], y_train=y[:150], X_test=x[150:], y_test=y[150:])
    return tmp_path / "f.npz"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("form", ["table", "csv"])
def test_a_result_that_a_full_disk_cuts_short_is_a_failure(features, form):
    out = features.with_name(form)
    with open("/dev/full", "w") as full:
        line = [sys.executable, "-c", MAIN, "decompose", features, "--probe", "ridge", "--format", form, "--out", out]
        ended = subprocess.run(line, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == 1 and "No space left on device" in ended.stderr and str(out) in ended.stderr
    assert (out / "run.json").exists()  # what was computed is kept


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("line", [("--help",), ("--version",), ("models", "list")])
def test_what_cannot_be_printed_is_one_line(line):
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-c", MAIN, *line], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    assert ended.stderr.splitlines()[-1] == "Error: the result cannot be printed: No space left on device"


def test_a_working_folder_that_is_gone_is_told(features):
    code = "import os, tempfile; d = tempfile.mkdtemp(); os.chdir(d); os.rmdir(d); " + MAIN
    ended = subprocess.run(
        [sys.executable, "-c", code, "stats", features], capture_output=True, text=True, check=False
    )  # fmt: skip
    assert ended.returncode == 1 and "the folder that you are in is gone" in ended.stderr


def test_a_name_that_the_locale_does_not_read_is_not_called_damaged(features):
    of_ascii = "\udcc3\udca9.npz"  # é as Python reads it where the locale is ASCII
    assert "set PYTHONUTF8=1" in run("stats", of_ascii, code=2).stderr
    assert "is not UTF-8, so that no record could hold it" in run("stats", "\udcff.npz", code=2).stderr


def test_a_store_that_cannot_be_made_is_told_before_anything_is_encoded(tmp_path):
    (tmp_path / "file").write_text("")
    for make in (
        FeatureStore(tmp_path / "file/store").make_folder,
        lambda: ensure_bank("pixels:2", "digits", store=tmp_path / "file/store", limit="2/class"),
    ):
        with pytest.raises(BankError, match=r"feature store .*file/store cannot be made.*SSL_RISK_STORE"):
            make()


def test_a_folder_of_mnist_files_is_told_its_scheme(tmp_path):
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"")
    with pytest.raises(DataError, match=f"idx:{tmp_path}"):
        create_dataset(f"folder:{tmp_path}")


@pytest.mark.parametrize(("text", "imported"), [("extract()", False), ("if __name__ == '__main__':\n    x()", True)])
def test_a_script_without_a_guard_is_not_run_again_by_workers(tmp_path, monkeypatch, text, imported):
    """Workers that are not forked import the main module, which would start the job anew in each of them."""
    script = tmp_path / "s.py"
    script.write_text(text)
    main = types.ModuleType("__main__")
    main.__file__ = os.fspath(script)
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setattr("multiprocessing.get_start_method", lambda: "spawn")
    assert (
        decoding._processes_work(decoding.Decoder(create_dataset("digits"), decoding._nothing, np.arange(4)), 0)
        is imported
    )
    del main.__file__  # a prompt
    assert decoding._processes_work(decoding.Decoder(create_dataset("digits"), decoding._nothing, np.arange(4)), 0)
