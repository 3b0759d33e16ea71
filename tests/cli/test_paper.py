"""`ssl-risk-rs paper`: fetching from a server and from files, showing, ranking; a run beside its published numbers."""

import csv
import functools
import hashlib
import http.server
import io
import json
import threading
import urllib.request
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cli_helpers import run
from ssl_risk_rs import DataError
from ssl_risk_rs.cli.paper import BY
from ssl_risk_rs.decomposition import decompose
from ssl_risk_rs.results import Provenance, Run
from ssl_risk_rs.results.published import RISKS
from ssl_risk_rs.workflow import published

COLUMNS = ("approx", "usability", "probe_gen", "enc_gen", "train_test", "train-nperclass-30_test",
           "train-balsbst-ntrain0.01_test", "train-nperclass-5_test", "train-nperclass-3_test", "objective",
           "architecture", "patch_size", "z_dim", "z_layer", "pretraining_data")  # fmt: skip


def small_table() -> bytes:
    """Four encoders, one of them without a twin."""
    rows = [
        ["swav_rn50", 1, 2, 20, 3, 26], ["simclr_rn50", 1, 6, 20, 3, 30], ["dino_rn50", 1, 1, 21, 3, 26],
        ["mocov3_vits_ep300", "", "", 5, 3, 27],
    ]  # fmt: skip
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["", *["group"] * len(COLUMNS)])
    writer.writerow(["", *COLUMNS])
    writer.writerow(["enc", *[""] * len(COLUMNS)])
    for row in rows:
        writer.writerow([*row, 40, 45, 50, 60, "ssl", "resnet50", 7, 2048, "avgpool", "ImageNet-1K"])
    return text.getvalue().encode()


FILES = {"all_results.csv": small_table(), "metadata.yaml": b"swav_rn50: {}\n"}


@pytest.fixture(autouse=True)
def pins(monkeypatch, tmp_path) -> None:
    """Pins of the small table instead of the published one, and a cache of the test's own."""
    monkeypatch.setattr(published, "FILES", {n: hashlib.sha256(c).hexdigest() for n, c in FILES.items()})
    monkeypatch.setenv("SSL_RISK_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def files(tmp_path) -> Path:
    folder = tmp_path / "authors"
    folder.mkdir()
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    return folder


@contextmanager
def served(folder: Path, monkeypatch):
    """An address that serves a folder, and the paths that were asked for."""
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            asked.append(self.path)
            super().do_GET()

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(urllib.request, "_opener", None)  # it keeps the proxies of its first use
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


# --- fetch


def test_the_pins_are_of_the_published_files(paper_data, monkeypatch):
    monkeypatch.undo()
    for name, digest in published.FILES.items():
        assert hashlib.sha256((paper_data / name).read_bytes()).hexdigest() == digest
    assert published.ADDRESS.startswith("https://github.com/YannDubs/SSL-Risk-Decomposition/")
    assert published.ADDRESS.endswith(published.COMMIT)


def test_files_are_downloaded_once_and_checked(files, tmp_path, monkeypatch):
    said: list[str] = []
    with served(files, monkeypatch) as (address, asked):
        found = published.fetch(address=address, say=said.append)
        assert asked == ["/all_results.csv", "/metadata.yaml"] and len(said) == 2 and address in said[0]
        assert [f.origin for f in found] == [f"{address}/{name}" for name in FILES]
        assert [f.path.read_bytes() for f in found] == list(FILES.values())
        assert found[0].path.is_relative_to(tmp_path / "cache")
        again = published.fetch(address=address, say=said.append)
        assert len(asked) == len(said) == 2 and [f.origin for f in again] == ["cache", "cache"]
        found[0].path.write_bytes(b"changed")  # is noticed, when read and when fetched
        with pytest.raises(DataError, match=r"is not the published table: its SHA-256 is .*paper fetch replaces it"):
            published.load_published()
        published.fetch(address=address)
        assert asked[2:] == ["/all_results.csv"] and published.load_published().row("swav_rn50") is not None


def test_what_the_server_changed_is_refused_and_not_kept(files, tmp_path, monkeypatch):
    (files / "all_results.csv").write_bytes(FILES["all_results.csv"].replace(b"\n", b"\r\n"))
    with (
        served(files, monkeypatch) as (address, _),
        pytest.raises(DataError, match=r"none of the files of commit e09046d.*changed its line ends"),
    ):
        published.fetch(address=address)
    (files / "all_results.csv").write_bytes(FILES["metadata.yaml"])
    with served(files, monkeypatch) as (address, _), pytest.raises(DataError, match="another file of the pinned"):
        published.fetch(address=address)
    (files / "all_results.csv").unlink()
    with served(files, monkeypatch) as (address, _), pytest.raises(DataError, match=r"cannot be downloaded .*404"):
        published.fetch(address=address)
    assert not published.is_fetched() and not list((tmp_path / "cache").rglob("*.*"))


def test_without_a_network_the_next_step_is_named(monkeypatch):
    monkeypatch.setattr(published, "ADDRESS", "http://127.0.0.1:9")
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # the discard port: refused at once
    monkeypatch.setattr(urllib.request, "_opener", None)
    result = run("paper", "fetch", code=1)
    assert "cannot be downloaded" in result.stderr and "ssl-risk-rs paper fetch --file FILE" in result.stderr
    assert result.stdout == ""
    assert "ssl-risk-rs paper fetch downloads it" in run("paper", "show", "swav", code=1).stderr


def test_files_are_taken_from_disk_whatever_their_names(files, tmp_path):
    odd = tmp_path / "saved as.txt"
    odd.write_bytes(FILES["metadata.yaml"])
    result = run("paper", "fetch", "--file", odd)
    assert "all_results.csv is still missing" in result.stderr
    rows = json.loads(run("paper", "fetch", "--file", files, "--format", "json").stdout)
    assert [Path(row["file"]).name for row in rows] == list(FILES)
    assert Path(rows[0]["from"]) == files / "all_results.csv" and published.is_fetched()
    odd.write_bytes(b"other")
    assert "saved as.txt is none of the files of commit" in run("paper", "fetch", "--file", odd, code=1).stderr
    assert "cannot be read: No such file" in run("paper", "fetch", "--file", "nowhere", code=1).stderr
    (tmp_path / "empty").mkdir()
    assert "empty has none of all_results.csv" in run("paper", "fetch", "--file", tmp_path / "empty", code=1).stderr


# --- show, rank


@pytest.fixture
def fetched(files) -> None:
    published.fetch([files])


def test_an_alias_finds_the_encoder_and_formats_hold_the_same(fetched):
    text = run("paper", "show", "SWAV_rn50").stdout
    assert text == run("paper", "show", "swav").stdout and "26.00" in text
    found = json.loads(run("paper", "show", "swav", "--format", "json").stdout)
    assert found["encoder"] == "swav_rn50" and found["row"]["agg_risk"] == 0.26 and found["faults"] == []
    rows = list(csv.DictReader(io.StringIO(run("paper", "show", "swav", "--format", "csv").stdout)))
    assert [row["quantity"] for row in rows] == [row["quantity"] for row in found["standings"]]
    assert {name for name in (row["quantity"] for row in rows)} <= set(RISKS)


def test_what_is_neither_encoder_nor_run_is_said(fetched):
    assert "near are swav_rn50" in run("paper", "show", "swav_rn5", code=1).stderr
    assert "ssl-risk-rs paper rank lists the encoders" in run("paper", "show", "xxxxxxxx", code=1).stderr
    assert "--as and --architecture go with a run folder" in run("paper", "show", "swav", "--as", "x", code=2).stderr


def test_ranks_share_ties_and_count_what_is_left_out(fetched):
    rows = json.loads(run("paper", "rank", "--format", "json").stdout)
    assert [(r["rank"], r["encoder"]) for r in rows[:3]] == [
        (1, "dino_rn50"), (1, "swav_rn50"), (3, "mocov3_vits_ep300")]  # fmt: skip
    result = run("paper", "rank", "--by", "usability", "--top", "1")
    assert "3 of 4 encoders are ranked" in result.stderr and "no supervised twin" in result.stderr
    assert result.stdout.splitlines()[1].split()[:3] == ["1", "dino_rn50", "1.00"]
    assert len(result.stdout.splitlines()) == 2
    assert set(BY) == set(RISKS)


# --- a run beside the table


def make_run(path: Path, **provenance: object) -> Path:
    rng = np.random.default_rng(0)
    y = np.arange(210) % 3
    x = (rng.standard_normal((3, 4))[y] + rng.standard_normal((210, 4))).astype(np.float32)
    result = decompose(x[:150], y[:150], x[150:], y[150:], probe="ridge")
    return Run.of(result, provenance=replace(Provenance(), **provenance)).save(path)


def test_a_run_of_a_published_encoder_is_shown_beside_it(fetched, tmp_path):
    folder = make_run(tmp_path / "r", encoder="swav_rn50", data="ImageNet-1K")
    text = run("paper", "show", folder).stdout
    assert "swav_rn50 in the published table (4 encoders, ImageNet-1K) · ridge probe here" in text
    assert "this run has 150, 60 and 3" in text
    rows = list(csv.DictReader(io.StringIO(run("paper", "show", folder, "--format", "csv").stdout)))
    assert [row["quantity"] for row in rows] == ["approx_usability", "probe_gen", "enc_gen", "agg_risk"]
    (found,) = json.loads(run("paper", "show", folder, "--format", "json").stdout)
    assert [row["published"] for row in found["rows"]] == pytest.approx([0.03, 0.2, 0.03, 0.26], abs=1e-12)
    assert found["place_is_measured"] is True and len(found["nearest"]) == 3


def test_another_name_can_be_given(fetched, tmp_path):
    folder = make_run(tmp_path / "r", encoder="feats.npz", data="arrays")
    assert "give it by --as NAME" in run("paper", "show", folder, code=1).stderr
    assert "simclr_rn50 in the published table" in run("paper", "show", folder, "--as", "simclr_rn50").stdout
    assert "'nobody' is not among the 4 published" in run("paper", "show", folder, "--as", "nobody", code=1).stderr


def test_a_place_among_the_published_for_an_encoder_that_is_not(fetched, tmp_path):
    folder = make_run(tmp_path / "r", encoder="mine", data="ImageNet-1K")
    text = run("paper", "show", folder).stdout
    assert "This encoder is not among the 4 published ones" in text and "architecture and dimension" not in text
    assert "architecture and dimension" in run("paper", "show", folder, "--architecture", "resnet50").stdout
    assert "no published encoder has" in run("paper", "show", folder, "--architecture", "vit", code=1).stderr


def save_features(name: str) -> str:
    rng = np.random.default_rng(1)
    y = np.arange(210) % 3
    x = (rng.standard_normal((3, 4))[y] + rng.standard_normal((210, 4))).astype(np.float32)
    np.savez(name, X_train=x[:150], y_train=y[:150], X_test=x[150:], y_test=y[150:])
    return name


def bank_of_swav() -> str:
    """A bank whose header says that it is of swav_rn50."""
    run("store", "import", save_features("f.npz"), "bank", "--encoder", "swav_rn50", "--data", "ImageNet-1K")
    return "bank"


def test_every_run_prints_its_published_counterpart(files):
    bank = bank_of_swav()
    before = run("decompose", bank, "--probe", "ridge", "--out", "a")
    assert "ssl-risk-rs paper fetch downloads the published numbers" in before.stderr
    assert "published" not in before.stdout
    published.fetch([files])
    after = run("decompose", bank, "--probe", "both", "--out", "b")
    assert "paper fetch" not in after.stderr
    for probe in ("ridge", "logistic"):
        assert f"swav_rn50 in the published table (4 encoders, ImageNet-1K) · {probe} probe here" in after.stdout
    table = run("decompose", save_features("g.npz"), "--probe", "ridge", "--out", "c")  # of no published encoder
    assert "published" not in table.stdout + table.stderr
    # a table that was changed on the disk does not cost the result
    (published.paper_folder() / "all_results.csv").write_bytes(b"")
    broken = run("decompose", bank, "--probe", "ridge", "--out", "d")
    assert "The published numbers are not shown" in broken.stderr and Path("d/run.json").is_file()
    explained = run("explain", "d", "--no-gap")
    assert "The published numbers are not shown" in explained.stderr and "published encoders" not in explained.stdout
