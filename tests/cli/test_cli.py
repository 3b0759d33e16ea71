"""The command line, end to end: what a user types, what comes out on stdout and stderr, what is left on disk."""

import contextlib
import csv
import io
import json
import os
import pickle
import re
import shlex
import signal
import subprocess
import sys
import time
import urllib.request
import zipfile
from pathlib import Path

import click
import numpy as np
import polars as pl
import pytest
from cli_helpers import parsed, run
from click.testing import CliRunner
from PIL import Image
from ssl_risk_rs import decompose, knn
from ssl_risk_rs.bank import FeatureBank
from ssl_risk_rs.bank.store import FeatureStore
from ssl_risk_rs.cli import _sigterm_ends_like_ctrl_c, main
from ssl_risk_rs.cli._help import SECTIONS, LongCommand
from ssl_risk_rs.cli._printing import print_rows
from ssl_risk_rs.decomposition import Settings
from ssl_risk_rs.decomposition.decomposing import check_plan
from ssl_risk_rs.decomposition.task import task_of_rows
from ssl_risk_rs.errors import ParameterError
from ssl_risk_rs.probes.features import Features
from ssl_risk_rs.report.sentences import DIGITS_STAND_IN
from ssl_risk_rs.results import Run

COMPONENTS = ("approx", "usability", "probe_gen", "enc_gen")
#: four terms below 1, each rounded once, and their sum
ROUNDING = 8 * np.finfo(float).eps
#: enough images for three held-out subsets that have every class, few enough for seconds
SMALL = ("-d", "digits", "--limit", "20/class")

#: runs a command line and writes which of the heavy packages it imported
PROGRAM = """
import json, sys
from ssl_risk_rs.cli import main
try:
    main(prog_name="ssl-risk-rs")
finally:
    heavy = {"torch", "timm", "polars", "sklearn"} & set(sys.modules)
    open("imported.json", "w").write(json.dumps(sorted(heavy)))
"""


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch) -> Path:
    """An empty folder to work in, an empty store, no data set in the environment and no network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SSL_RISK_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("SSL_RISK_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SSL_RISK_DATA", raising=False)
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # the discard port: refused at once
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setattr(urllib.request, "_opener", None)  # it keeps the proxies of its first use, past the test
    return tmp_path


@pytest.fixture(scope="module")
def banks(tmp_path_factory) -> Path:
    """A store shared by the tests that may find images encoded already."""
    return tmp_path_factory.mktemp("banks")


def records(*arguments: object) -> list[dict]:
    return json.loads(run(*arguments, "--format", "json").stdout)


def complaint(*arguments: object, code: int = 1) -> str:
    """The message of a command that fails: one, on stderr alone, with nothing left at --out."""
    before = {*os.listdir(), "store", "cache"}
    result = run(*arguments, "--out", "out", code=code)
    assert result.stdout == "" and "Traceback" not in result.stderr
    assert set(os.listdir()) <= before
    *_, message = result.stderr.splitlines()
    assert message.startswith("Error: ") and result.stderr.count("Error: ") == 1
    return message.removeprefix("Error: ")


def process(*arguments: object, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", PROGRAM, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


def imported() -> list[str]:
    return json.loads(Path("imported.json").read_text())


def values(rows: list[dict], probe: str = "logistic", group: str = "all") -> dict[str, float]:
    return {r["quantity"]: r["estimate"] for r in rows if r["probe"] == probe and r["group"] == group}


def rows_of(n: int, k: int = 4, d: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """n points around k centres that overlap."""
    y = np.arange(n) % k
    centres = np.random.default_rng(1).standard_normal((k, d))
    return (centres[y] + np.random.default_rng(seed).standard_normal((n, d))).astype(np.float32), y


def four_arrays(**changed: np.ndarray) -> dict[str, np.ndarray]:
    (x, y), (x_test, y_test) = rows_of(160), rows_of(60, seed=1)
    return {"X_train": x, "y_train": y, "X_test": x_test, "y_test": y_test, **changed}


def save(name: str = "feats.npz", **changed: np.ndarray) -> str:
    np.savez(name, **four_arrays(**changed))
    return name


# --- run, demo


def test_run_writes_what_it_prints(banks):
    result = run("run", "-m", "demo_ssl", *SMALL, "--probe", "both", "--format", "json", "--store", banks, "--out", "r")
    rows = parsed(result.stdout)
    assert "The record is in r." in result.stderr
    for probe in ("logistic", "ridge"):
        found = values(rows, probe)
        assert abs(sum(found[name] for name in COMPONENTS) - found["agg_risk"]) <= ROUNDING
        assert found["approx"] == found["risk_sup"] and found["agg_risk"] == found["risk_us"]
        assert "enc_gen" in values(rows, probe, "control")
    assert {row["encoder"] for row in rows} == {"demo_ssl", "demo_random"} and {row["run"] for row in rows} == {"r"}
    assert all(row["low"] <= row["estimate"] <= row["high"] for row in rows)

    assert sorted(os.listdir("r")) == ["outcomes.npz", "results.parquet", "run.json"]
    assert pl.read_parquet("r/results.parquet").to_dicts() == rows
    document = json.loads(Path("r/run.json").read_text())
    assert (document["encoder"], document["data"]) == ("demo_ssl", "digits")
    assert (document["supervised"], document["control"]) == ("demo_supervised", "demo_random")
    assert document["saw_training_images"] is True and set(document["banks"]) == {"encoder", "supervised", "control"}
    for described, probe in zip(document["decompositions"], ("logistic", "ridge"), strict=True):
        assert described["method"]["probe"] == probe
        assert {name: e["estimate"] for name, e in described["estimates"].items()} == values(rows, probe)
        assert described["sizes"]["train"] == described["sizes"]["test"] == 200
    with np.load("r/outcomes.npz") as outcomes:
        for i, probe in enumerate(("logistic", "ridge")):
            for judged in ("us", "af", "sup"):
                risk = (outcomes[f"{i}.{judged}.rank"] > 0).mean()
                assert risk == pytest.approx(values(rows, probe)[f"risk_{judged}"], abs=ROUNDING)
            assert len(outcomes[f"{i}.control.us.rank"]) == 200


def test_formats_hold_the_same_numbers(banks):
    common = ("run", "-m", "demo_ssl", *SMALL, "--probe", "ridge", "--store", banks)
    rows = records(*common)
    as_csv = list(csv.DictReader(io.StringIO(run(*common, "--format", "csv").stdout)))
    assert [(r["quantity"], float(r["estimate"])) for r in as_csv] == [(r["quantity"], r["estimate"]) for r in rows]
    table = run(*common, "--out", "here/r").stdout
    assert "The record is in here/r (run.json" in table.splitlines()[-2]
    assert table.splitlines()[-1].strip() == "A page of it:  ssl-risk-rs report here/r --html report.html"
    assert (
        "demo_ssl on digits · ridge probe (strict protocol)" in table and "200 training rows · 200 test rows" in table
    )
    printed = float(re.search(r"aggregated risk +(-?[\d.]+)", table)[1])
    assert printed == pytest.approx(100 * values(rows, "ridge")["agg_risk"], abs=0.005)  # two decimals
    named = sorted(path.name for path in Path("runs").iterdir())
    assert len(named) == 2 and all(name.rstrip("_1").endswith("demo_ssl") for name in named)


def test_a_page_is_written_into_the_run_folder_where_it_is_asked_for(monkeypatch):
    words = ("decompose", save(), "--probe", "ridge", "--report", "--out", "r")
    done = run(*words)
    assert "The report is in r/report.html." in done.stderr and "A page of it" not in done.stdout
    page = Path("r/report.html").read_text(encoding="utf-8")
    assert "Where the error comes from" in page
    assert "The report is in r/report.html." in run(*words, "--force", "--format", "json").stderr
    run(*words[:4], "--out", "r", "--force")
    assert not Path("r/report.html").exists()  # it was of the run that was replaced
    monkeypatch.setitem(sys.modules, "altair", None)
    complaint = run("decompose", "not read", "--report", code=1).stderr
    assert "altair, which is not installed:  python -m pip install 'ssl-risk-rs[report]'" in complaint


def test_an_existing_run_is_kept_unless_forced(banks):
    common = ("run", "-m", "demo_ssl", *SMALL, "--probe", "ridge", "--store", banks, "--out", "r")
    run(*common)
    before = {path.name: path.read_bytes() for path in Path("r").iterdir()}
    result = run(*common, "--seed", 1, code=1)
    assert result.stdout == "" and "r exists; choose another --out, or give --force" in result.stderr
    assert len(result.stderr.splitlines()) == 1  # it is said before the work, not after
    assert {path.name: path.read_bytes() for path in Path("r").iterdir()} == before
    run(*common, "--seed", 1, "--force")
    assert json.loads(Path("r/run.json").read_text())["decompositions"][0]["method"]["seed"] == 1
    assert os.listdir() == ["r"]  # no temporary folder stays


def test_a_second_run_encodes_nothing_and_needs_no_torch(banks):
    common = ("run", "-m", "demo_ssl", *SMALL, "--probe", "ridge", "--format", "json", "--store", banks)
    first = json.loads(run(*common, "--out", "r").stdout)
    kept = {path: path.stat().st_mtime_ns for path in banks.rglob("*") if path.is_file()}
    done = process(*common, "--out", "again/r")
    assert done.returncode == 0 and json.loads(done.stdout) == first
    assert "matched" not in done.stderr and "torch" not in imported() and "timm" not in imported()
    assert {path: path.stat().st_mtime_ns for path in banks.rglob("*") if path.is_file()} == kept


def test_demo_is_run_without_arguments(banks):
    demo = run("demo", "--store", banks, "--out", "d")
    assert "demo_ssl on digits · logistic probe (strict protocol)" in demo.stdout
    assert "1,442 training rows · 355 test rows · 16 features · 10 classes" in demo.stdout
    assert "twin: demo_supervised" in demo.stdout and "demo_random" in demo.stdout
    plain = run("run", "--store", banks, "--out", "r")
    assert "no model named: the bundled example demo_ssl" in plain.stderr
    assert plain.stdout.splitlines()[:-2] == demo.stdout.splitlines()[:-2]  # the last two lines name the folder
    found = {name: pl.read_parquet(f"{name}/results.parquet").drop("run") for name in "dr"}
    assert found["d"].equals(found["r"])


def test_twin_and_control_can_be_left_out(banks):
    without = ("--supervised", "none", "--control", "none")
    rows = records("run", "-m", "demo_ssl", *SMALL, "--store", banks, "--probe", "ridge", *without)
    found = values(rows, "ridge")
    assert {row["group"] for row in rows} == {"all"} and "approx" not in found
    assert abs(sum(found[n] for n in ("approx_usability", "probe_gen", "enc_gen")) - found["agg_risk"]) <= ROUNDING


def test_the_table_says_that_no_data_were_named(banks, monkeypatch):
    words = ("run", "-m", "pixels:8", *SMALL[2:], "--probe", "ridge", "--control", "none", "--store", banks)
    done = run(*words, "--out", "r")
    heading = done.stdout.splitlines()
    assert heading[0].startswith("pixels:8 on digits") and heading[1] == f"  {DIGITS_STAND_IN}"
    assert DIGITS_STAND_IN in done.stderr and DIGITS_STAND_IN in str(Run.load("r"))
    assert DIGITS_STAND_IN not in run(*words, "-d", "digits", "--out", "named").stdout
    few = run("fewshot", *words[1:7], "--store", banks, "--shots", "3", "--draws", "3", "--out", "few")
    assert few.stdout.splitlines()[1] == f"  {DIGITS_STAND_IN}"
    monkeypatch.setenv("SSL_RISK_DATA", "digits")
    assert DIGITS_STAND_IN not in run(*words, "--out", "variable").stdout


def test_without_data_the_bundled_digits_are_used_and_said():
    result = run("run", "-m", "swav", "--limit", "20/class", code=1)
    assert DIGITS_STAND_IN in result.stderr
    assert result.stdout == "" and "Traceback" not in result.stderr
    message = result.stderr.splitlines()[-1]
    assert message.startswith("Error: the weights of swav_rn50 cannot be downloaded from https://")
    assert "ckpt:FILE@swav_rn50" in message and str(Path("cache").absolute()) in message
    assert not Path("runs").exists() and not list(Path("cache").rglob("*.tar"))


def test_data_from_the_environment(monkeypatch):
    monkeypatch.setenv("SSL_RISK_DATA", "folder:/no/such/folder")
    assert "folder:/no/such/folder" in complaint("run", "-m", "demo_ssl")


# --- decompose


def test_decompose_four_arrays_without_torch():
    done = process("decompose", save(), "--probe", "both", "--format", "json", "--out", "r")
    assert done.returncode == 0 and done.stderr.endswith("The record is in r.\n")
    rows = parsed(done.stdout)
    for probe in ("logistic", "ridge"):
        found = values(rows, probe)
        assert abs(found["approx_usability"] + found["probe_gen"] + found["enc_gen"] - found["agg_risk"]) <= ROUNDING
        assert found["agg_risk"] * 60 == pytest.approx(round(found["agg_risk"] * 60), abs=60 * ROUNDING)
    assert {"torch", "timm"}.isdisjoint(imported())
    assert pl.read_parquet("r/results.parquet").to_dicts() == rows


def test_decompose_cuts_two_arrays_and_says_so():
    x, y = rows_of(160)
    np.savez("xy.npz", X=x, y=y)
    result = run("decompose", "xy.npz", "--probe", "ridge", "--out", "r")
    sentence = "xy.npz does not tell train from test: 32 of 160 rows (20% of each class, seed 0) are set aside"
    assert result.stdout.count(sentence) == 1
    assert "128 training rows · 32 test rows · 6 features · 4 classes" in result.stdout
    (note, *_) = json.loads(Path("r/run.json").read_text())["decompositions"][0]["notes"]
    assert note["code"] == "cut_made" and note["values"]["n_test"] == 32
    assert sentence in run("decompose", "xy.npz", "--probe", "ridge", "--format", "csv").stderr


def test_every_way_to_give_the_same_rows_gives_the_same_numbers():
    arrays = four_arrays()
    for name, array in arrays.items():
        np.save(f"{name}.npy", array)
    save()
    as_npz = records("decompose", "--features", "feats.npz", "--probe", "ridge")
    pair = ("X_train.npy,y_train.npy", "--test-features", "X_test.npy,y_test.npy")
    for given in (pair, (".",)):
        other = records("decompose", *given, "--probe", "ridge")
        assert values(other, "ridge") == values(as_npz, "ridge")
    through_run = records("run", "--features", "feats.npz", "--probe", "ridge")
    assert values(through_run, "ridge") == values(as_npz, "ridge")


def test_a_bank_has_one_provenance_whatever_command_decomposes_it(banks):
    """Pretraining data, whether the encoder saw the images, notes on the data: `decompose` left them out."""
    common = ("--probe", "ridge", "--threads", "1")
    run(
        "run",
        "-m",
        "demo_ssl",
        *SMALL,
        *common,
        "--store",
        banks,
        "--supervised",
        "none",
        "--control",
        "none",
        "--out",
        "r",
    )
    made = Run.load("r").provenance
    run("decompose", made.banks["encoder"].path, *common, "--out", "d")
    again = Run.load("d").provenance
    assert again.banks == made.banks and again.notes == made.notes
    assert (again.saw_training_images, again.pretraining_data) == (made.saw_training_images, made.pretraining_data)
    assert made.saw_training_images is True and made.notes


def test_nothing_is_lost_where_stderr_is_closed(tmp_path, monkeypatch):
    """As in some cron jobs: asking a stream that is not there whether it is a terminal ended the run."""
    save()
    code = (
        "import sys; sys.stderr = None; from ssl_risk_rs.cli import _progress, main; _progress.LINE_EVERY = 0; main()"
    )
    args = ["decompose", "feats.npz", "--probe", "ridge", "--threads", "1", "--out", "d"]
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "aggregated risk" in done.stdout and Run.load("d").probes == ("ridge",)
    assert done.stdout.startswith("feats.npz on")  # no line of progress is among the results


def test_the_package_run_as_a_module_is_the_command_line():
    done = subprocess.run([sys.executable, "-m", "ssl_risk_rs", "knn", "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("Usage: ssl-risk-rs knn ")


def test_an_import_tells_every_reader_how_its_rows_were_cut():
    x, y = np.random.default_rng(0).standard_normal((60, 4)).astype(np.float32), np.arange(60) % 2
    np.savez("f.npz", X=x, y=y)
    run("store", "import", "f.npz", "bank")
    run("decompose", "bank", "--probe", "ridge", "--threads", "1", "--out", "d")
    (note,) = (n for n in Run.load("d").provenance.notes if n.code == "cut_made")
    assert "are set aside as test rows" in note.sentence()


def test_decompose_a_bank():
    run("store", "import", save(), "bank", "--encoder", "mine", "--dtype", "float32")
    result = run("decompose", "bank", "--supervised-features", "bank", "--probe", "ridge")
    assert result.stdout.startswith("mine on bank · ") and "twin: bank" in result.stdout
    assert re.search(r"representation usability +0.00 ", result.stdout)  # the twin is the encoder itself
    assert "leave out --test-features" in complaint("decompose", "bank", "--test-features", "feats.npz")


def test_what_a_function_alone_decides_is_not_shown_as_known():
    """ImageNet's mean and deviation stood there, whatever transform the function returned."""
    Path("mine.py").write_text("import torch\ndef make():\n    return torch.nn.Flatten()\n")
    facts = json.loads(run("models", "show", "mine.py:make", "--format", "json").stdout)
    assert set(facts) == {"name", "architecture", "source", "features", "note"}
    assert "ssl-risk-rs doctor model mine.py:make runs it" in facts["note"]


def test_a_bank_is_called_the_same_however_it_is_named(tmp_path):
    """By its key, its path and in Python it was called by three names of data, which a study takes for several sets."""
    (made,) = records("store", "import", save(), "--encoder", "mine", "--store", tmp_path / "s")
    place = Path(made["path"])
    found = []
    for named in (place.name, place):
        run("decompose", named, "--store", tmp_path / "s", "--probe", "ridge", "--out", "d", "--force")
        found.append(Run.load("d").provenance)
    found.append(Run.of(decompose(FeatureBank.open(place), probe="ridge")).provenance)
    assert {(p.encoder, p.data) for p in found} == {("mine", place.name)}
    assert knn(FeatureBank.open(place)).data == place.name
    run("store", "import", "feats.npz", "named", "--data", "my images")
    run("decompose", "named", "--probe", "ridge", "--out", "d", "--force")
    assert Run.load("d").provenance.data == "my images"


def test_a_folder_of_arrays_with_new_values_is_imported_anew():
    """It was known by the time of the folder, which new values in old files do not change."""
    folder = Path("arrays")
    folder.mkdir()
    kept = []
    for times in (1, 1, 2):
        for name, array in four_arrays().items():
            np.save(folder / f"{name}.npy", times * array if name == "X_train" else array)
            os.utime(folder / f"{name}.npy", ns=(times * 10**18, times * 10**18))
        os.utime(folder, ns=(10**18, 10**18))
        (made,) = records("store", "import", folder, "--store", "s")
        kept.append(FeatureBank.open(made["path"]).read(np.arange(1)))
    np.testing.assert_array_equal(kept[0], kept[1])
    np.testing.assert_allclose(kept[2], 2 * kept[0], rtol=2**-9)


def test_a_twin_gives_the_approximation_error():
    save("twin.npz", X_train=rows_of(160)[0][:, :2], X_test=rows_of(60, seed=1)[0][:, :2])
    rows = records("decompose", save(), "--supervised-features", "twin.npz", "--probe", "ridge")
    found = values(rows, "ridge")
    assert found["approx"] > found["risk_af"] and found["usability"] < 0  # two of six features
    assert abs(sum(found[name] for name in COMPONENTS) - found["agg_risk"]) <= ROUNDING
    # with test rows in a file of their own, the twin's file has the training rows
    arrays = four_arrays()
    for name in ("train", "test"):
        np.savez(f"{name}.npz", X=arrays[f"X_{name}"], y=arrays[f"y_{name}"])
    np.savez("t.npz", X=arrays["X_train"][:, :2], y=arrays["y_train"])
    common = ("--test-features", "test.npz", "--supervised-features", "t.npz", "--probe", "ridge")
    assert values(records("decompose", "train.npz", *common), "ridge") == found


# --- the other commands


def test_extract_verify_export_decompose(workplace):
    (made,) = records("extract", "-m", "demo_ssl", *SMALL)
    assert (made["rows"], made["n_features"]) == (400, 16)
    bank = FeatureBank.open(made["path"])
    assert bank.complete and bank.path.parent == workplace / "store" and bank.header.encoder == "demo_ssl"
    (listed,) = records("store", "ls")
    assert listed["feature"] == bank.header.feature
    assert (listed["key"], listed["state"], listed["n_rows"]) == (bank.key, "complete", 400)
    info = json.loads(run("store", "info", bank.key[:8], "--format", "json").stdout)
    assert (info["n_train"], info["n_test"], info["n_classes"]) == (200, 200, 10)
    assert records("store", "verify", bank.key[:8])[0]["rows"] == 400
    run("store", "export", bank.key, "feats.safetensors")
    run("store", "import", "feats.safetensors", "copy")
    assert np.array_equal(FeatureBank.open("copy").read(np.arange(400)), bank.read(np.arange(400)))
    rows = records("decompose", "feats.safetensors", "--probe", "ridge")
    assert 0 < values(rows, "ridge")["agg_risk"] < 0.5


def test_models():
    rows = records("models", "list", "swav*")
    assert {"swav_rn50", "swav_rn50_ep100"} <= {row["name"] for row in rows}
    assert list(csv.DictReader(io.StringIO(run("models", "list", "demo*", "--format", "csv").stdout)))
    assert "swav_rn50" in run("models", "list", "swav*").stdout
    facts = json.loads(run("models", "show", "swav", "--format", "json").stdout)
    assert (facts["name"], facts["architecture"]) == ("swav_rn50", "resnet50")
    assert "ImageNet-1K" in run("models", "show", "swav").stdout
    for command in ("list", "show"):
        result = run("models", command, "no_such_encoder", code=1)
        assert result.stdout == "" and "ssl-risk-rs models list" in result.stderr


def test_data():
    assert {"digits", "folder:/data/flowers"} <= {row["example"] for row in records("data", "list")}
    assert "imagenet:" in run("data", "list").stdout
    (shown,) = records("data", "show", "digits")
    assert (shown["train"], shown["test"], shown["classes"]) == (1442, 355, 10)
    checked = run("data", "check", "digits", "--limit", "2/class").stdout
    assert "20 train + 20 test images, 10 classes" in checked and "40 images decoded" in checked


def command_lines(group: click.Group = main, above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = [above]
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        found += command_lines(command, (*above, name)) if isinstance(command, click.Group) else [(*above, name)]
    return found


def test_every_option_of_a_long_help_has_one_section():
    long = [(words, _named(words)) for words in command_lines() if isinstance(_named(words), LongCommand)]
    assert {words for words, _ in long} >= {("run",), ("decompose",), ("sweep",), ("extract",)}
    every = [name for names in SECTIONS.values() for name in names]
    assert len(every) == len(set(every))
    used = {"help"}
    for words, command in long:
        shown = {p.name for p in command.params if isinstance(p, click.Option) and not p.hidden}
        assert not shown - set(every), words
        used |= shown
        assert "Options:" not in run(*words, "--help").stdout
    assert used == set(every)


def _named(words: tuple[str, ...]) -> click.Command:
    command: click.Command = main
    for word in words:
        command = command.get_command(click.Context(command), word)
    return command


@pytest.mark.parametrize("words", command_lines(), ids=" ".join)
def test_help_ends_with_a_line_to_paste(words):
    heads = "|".join(["Options", *SECTIONS])
    before, after = re.split(rf"(?m)^(?:{heads}):$", run(*words, "--help").stdout, maxsplit=1)
    sentence, *rest = [line.strip() for line in before.splitlines()[1:] if line.strip()]
    *options, blank, example = [line.strip() for line in after.splitlines()]
    assert re.search(r"[a-z]", sentence) and options and blank == ""
    assert not any(line.startswith("ssl-risk-rs") for line in rest)
    program, *pasted = shlex.split(example)
    assert program == "ssl-risk-rs" and tuple(pasted[: len(words)]) == words
    named = main
    context = click.Context(main)
    for word in [w for w in pasted if not w.startswith("-")]:
        if isinstance(named, click.Group):
            assert word in named.list_commands(context)
            named = named.get_command(context, word)
    known = {flag for parameter in named.params for flag in (*parameter.opts, *parameter.secondary_opts)}
    assert {word for word in pasted if word.startswith("-")} <= known


# --- what users get wrong


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("-m", "swaw"), "no encoder 'swaw'; nearest: swav"),
        (("-m", "demo_sl"), "nearest: demo_ssl"),
        (("-m", "ckpt:none.pth@resnet18"), "ckpt:none.pth@resnet18: there is no file none.pth"),
        (("-m", "none.py:make"), "none.py:make: there is no file none.py"),
        (("-m", "demo_ssl", "-d", "folder:none"), "none does not exist; give a folder with train/CLASS/*.jpg"),
        (("-m", "demo_ssl", "-d", "foldr:imgs"), "no known scheme; write one of digits, folder:"),
        (("-m", "demo_ssl", "-d", "npz:none.npz"), "none.npz is no file; give an .npz file with x_train"),
        (("-m", "demo_ssl", "--limit", "2/class"), "fewer than the 10 classes; give 50 training rows or more"),
        (("-m", "demo_ssl", *SMALL, "--layers", "none"), "offers no feature none; it offers"),
        (
            ("-m", "demo_ssl", *SMALL, "--device", "gpu"),
            "device 'gpu' is unknown to torch; probes run on auto, cpu",
        ),
        (("-m", "demo_ssl", *SMALL, "--supervised", "demo_superv"), "nearest: demo_supervised"),
    ],
)
def test_run_names_what_is_wrong_and_what_to_try(arguments, says):
    assert says in complaint("run", *arguments)


def test_cuda_without_cuda(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    message = complaint("run", "-m", "demo_ssl", *SMALL, "--device", "cuda")
    assert "sees no CUDA device" in message and "--device cpu" in message


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("run", "--features", "f.npz", "-m", "swav"), "--features stands instead of --model and --data"),
        (("run", "--features", "f.npz", "-d", "digits"), "--features stands instead of --model and --data"),
        (("run", "--supervised-features", "f.npz"), "go with --features"),
        (("run", "-d", "folder:imgs"), "name an encoder with -m"),
        (("run", "--probe", "svm"), "'svm' is not one of 'logistic', 'ridge', 'both'"),
        (("run", "--batch-size", "0"), "'0' is neither auto nor a whole number from 1"),
        (("run", "-m", "demo_ssl", "--limit", "few"), "neither N nor N/class, for example"),
        (("run", "-m", "demo_ssl", "--layers", " ,"), "--layers names no layer"),
        (("run", "--features", "f.npz", "--split", "none.csv"), "--split is of images that are encoded here"),
        (("run", "--features", "f.npz", "--limit", "10"), "--limit is of images that are encoded here"),
        (("run", "--features", "f.npz", "--mean", "clip"), "--mean is of images that are encoded here"),
        (("run", "--features", "f.npz", "--amp", "auto"), "--amp is of images that are encoded here"),
        (("run", "--features", "f.npz", "--control", "random:resnet18"), "--control is of images that are encoded"),
        (("run", "--features", "f.npz", "--supervised", "demo_supervised"), "--supervised-features names the twin's"),
        (("fewshot", "f.npz", "--img-size", "32"), "--img-size is of images that are encoded here"),
        (("fewshot", "--features", "f.npz", "--skip-corrupt"), "--skip-corrupt is of images that are encoded here"),
        (("decompose",), "name the features once"),
        (("decompose", "f.npz", "--features", "f.npz"), "name the features once"),
        (("decompose", "f.npz", "--ci", "95"), "95.0 is not in the range 0<x<=0.999999"),
        (("decompose", "f.npz", "--splits", "4"), "4 is not in the range 1<=x<=3"),
    ],
)
def test_misuse_exits_with_2(arguments, says):
    assert says in complaint(*arguments, code=2)


def test_commands_that_are_not_there_exit_with_2():
    assert "No such command 'decomposs'" in run("decomposs", code=2).stderr
    assert "No such option" in run("run", "--modle", "swav", code=2).stderr


def with_value(name: str, row: int, value: float) -> dict[str, np.ndarray]:
    x = four_arrays()[name].copy()
    x[row, 2] = value
    return {name: x}


X, Y = rows_of(160)
YT = four_arrays()["y_test"]


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (
            with_value("X_train", 17, np.nan),
            "feats.npz: X_train: row 17, feature 2 is NaN (the only such value); remove the row",
        ),
        (
            with_value("X_test", 5, np.inf),
            "feats.npz: X_test: row 5, feature 2 is inf (the only such value); remove the row",
        ),
        ({"y_train": 0 * Y, "y_test": 0 * YT}, "feats.npz: the training rows have 1 class: a probe needs at least two"),
        ({"y_train": 0 * Y}, "feats.npz: y_test: 3 classes have test rows and no training row: 1, 2, 3"),
        ({"X_train": X[:6], "y_train": np.arange(6)}, "feats.npz: 6 training and 60 test rows give held-out subsets"),
        ({"X_train": X[:0], "y_train": Y[:0]}, "feats.npz has no train rows"),
        ({"y_train": Y[:-1]}, "feats.npz: y_train: 160 representations, 159 labels; each row needs one"),
        ({"y_train": Y + 0.5}, "feats.npz: y_train: row 0 has label 0.5"),
        ({"X_train": X[:, :5]}, "feats.npz: X_test have 5 and 6 features"),
        ({"X_train": X.ravel()}, "feats.npz: X_train has shape (960,), expected (n_samples, n_features)"),
        ({"X_train": X.astype(str)}, "feats.npz: X_train is <U32, expected numbers"),
    ],
)
@pytest.mark.parametrize("probe", ["logistic", "ridge"])
def test_arrays_that_cannot_be_decomposed(changed, says, probe):
    assert says in complaint("decompose", save(**changed), "--probe", probe)


def test_a_missing_array_is_named_with_those_there_are():
    np.savez("feats.npz", X_train=X, y_train=Y)
    assert "no array 'X_test'; it has X_train, y_train. Needed: " in complaint("decompose", "feats.npz")
    np.save("x.npy", X)
    assert "x.npy holds no labels; give them behind a comma: x.npy,y.npy" in complaint("decompose", "x.npy")
    assert "none.npz: no such file" in complaint("decompose", "none.npz")


def test_a_value_that_is_not_finite_is_found_in_its_file():
    x = X.copy()
    x[123, 2] = np.nan
    np.savez("xy.npz", X=x, y=Y)  # the row of the file, not of the cut
    assert "xy.npz: X: row 123, feature 2 is NaN" in complaint("decompose", "xy.npz", "--probe", "ridge")
    save("twin.npz", **with_value("X_train", 3, -np.inf))
    message = complaint("decompose", save(), "--supervised-features", "twin.npz", "--probe", "ridge")
    assert "twin.npz: X_train: row 3, feature 2 is -inf" in message


def test_the_test_rows_and_class_names_of_a_twin_are_looked_at():
    """Only the codes of its training rows were."""
    x, y = rows_of(60, seed=1)
    says = "twin.npz has other rows than the features, or another order"
    save("twin.npz", X_test=x[::-1], y_test=y[::-1])
    assert says in complaint("decompose", save(), "--supervised-features", "twin.npz")
    save("twin.npz", X_test=x[:50], y_test=y[:50])
    assert "twin.npz has 210 rows, the features have 220" in complaint(
        "decompose", save(), "--supervised-features", "twin.npz"
    )
    named = {name: np.array([f"class {code}" for code in y]) for name, y in four_arrays().items() if "y_" in name}
    save("twin.npz", **named)
    assert says in complaint("decompose", save(), "--supervised-features", "twin.npz")
    # where the test rows are in a file of their own, those of training are
    arrays = four_arrays()
    for name in ("train", "test"):
        np.savez(f"{name}.npz", X=arrays[f"X_{name}"], y=arrays[f"y_{name}"])
    np.savez("t.npz", X=arrays["X_train"], y=named["y_train"])
    common = ("--test-features", "test.npz", "--supervised-features", "t.npz")
    assert "t.npz has other rows" in complaint("decompose", "train.npz", *common)
    np.savez("t.npz", X=arrays["X_train"][:150], y=arrays["y_train"][:150])
    assert "t.npz has 150 training rows, the features have 160" in complaint("decompose", "train.npz", *common)


@pytest.mark.parametrize(
    ("rows", "says", "says_of_banks"),
    [
        (slice(None, None, -1), "twin.npz has other rows than the features, or another order", "twin has other rows"),
        (
            slice(8, None),
            "twin.npz has 212 rows, the features have 220: load both from files of the same rows",
            "twin has 212 rows",
        ),
    ],
)
def test_a_twin_with_other_rows(rows, says, says_of_banks):
    save("twin.npz", X_train=X[rows], y_train=Y[rows])
    assert says in complaint("decompose", save(), "--supervised-features", "twin.npz")
    for name in ("feats", "twin"):
        run("store", "import", f"{name}.npz", name)
    assert says_of_banks in complaint("decompose", "feats", "--supervised-features", "twin")
    assert "make both the same" in complaint("decompose", "feats", "--supervised-features", "twin.npz")
    assert "make both the same" in complaint("decompose", "feats.npz", "--supervised-features", "twin")


def test_a_twin_of_other_images_with_the_same_labels():
    names = {part: {f"ids_{part}": np.array([f"{part}{i}" for i in range(n)])} for part, n in (("train", 160),)}
    ids = {**names["train"], "ids_test": np.array([f"test{i}" for i in range(60)])}
    others = {**ids, "ids_train": np.array([f"other{i}" for i in range(160)])}
    save("feats.npz", **ids), save("twin.npz", **others), save("no_ids.npz")
    for suffix in (".npz", ""):
        for name in ("feats", "twin", "no_ids"):
            suffix or run("store", "import", f"{name}.npz", name)
        twin = ("--supervised-features", f"twin{suffix}")
        assert "they differ first in row 0" in complaint("decompose", f"feats{suffix}", *twin)
        run("decompose", f"feats{suffix}", "--supervised-features", f"no_ids{suffix}", "--probe", "ridge")


class Payload:
    """Unpickled, it makes a file."""

    def __reduce__(self):
        return Path.touch, (Path("executed"),)


def truncated(name: str) -> str:
    content = Path(name).read_bytes()
    Path(name).write_bytes(content[: len(content) // 2])
    return name


def hostile(kind: str) -> str:
    """A file or bank that is not what it says."""
    if kind == "half an npz":
        return truncated(save())
    if kind == "damaged within":
        np.savez_compressed("feats.npz", **four_arrays())
        content = bytearray(Path("feats.npz").read_bytes())
        content[500:600] = b"\xff" * 100
        Path("feats.npz").write_bytes(content)
        return "feats.npz"
    if kind == "more rows than memory":
        save()
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (10**13, 8)})
        with zipfile.ZipFile("feats.npz", "w") as archive:
            archive.writestr("X_train.npy", header.getvalue())
        return "feats.npz"
    if kind == "pickled":
        save(X_train=np.array([Payload()] * 160, dtype=object))
        return "feats.npz"
    if kind == "pickled torch":
        Path("feats.pt").write_bytes(pickle.dumps({"X_train": Payload()}, protocol=2))
        return "feats.pt"
    if kind == "header beyond the file":
        Path("feats.safetensors").write_bytes((1 << 60).to_bytes(8, "little") + b"{}")
        return "feats.safetensors"
    if kind == "no parquet":
        Path("feats.parquet").write_bytes(b"PAR1" + bytes(40))
        return "feats.parquet"
    if kind == "half an npy":
        np.save("x.npy", X)
        np.save("y.npy", Y)
        return f"{truncated('x.npy')},y.npy"
    run("store", "import", save(), "bank")
    if kind == "bank without a manifest":
        truncated("bank/bank.json")
    elif kind == "bank without its rows":
        truncated(str(next(p for p in Path("bank").glob("*.npy") if "rows" not in p.name)))
    else:
        truncated(str(next(Path("bank").glob("*.journal"))))
    return "bank"


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("half an npz", "feats.npz is damaged or no .npz file"),
        ("damaged within", "feats.npz is damaged or no .npz file"),
        ("more rows than memory", "feats.npz is damaged or no .npz file: Unable to allocate"),
        ("pickled", "holds Python objects, which are never unpickled; save a plain array of numbers"),
        ("pickled torch", "holds Python objects, which are never unpickled; save plain tensors of numbers"),
        ("header beyond the file", "feats.safetensors is damaged"),
        ("no parquet", "feats.parquet is damaged"),
        ("half an npy", "x.npy is damaged"),
        ("bank without a manifest", "bank.json: is not the manifest of a feature bank"),
        ("bank without its rows", "bank/"),
        ("bank without its journal", "bank/"),
    ],
)
def test_damaged_and_hostile_files(kind, says):
    assert says in complaint("decompose", hostile(kind))
    assert not Path("executed").exists()


def test_damaged_images():
    images, labels = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8), np.arange(40) % 2
    np.savez_compressed("imgs.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    content = bytearray(Path("imgs.npz").read_bytes())
    content[300:400] = b"\xff" * 100
    Path("imgs.npz").write_bytes(content)
    assert "imgs.npz: x_train cannot be read" in complaint("run", "-m", "demo_ssl", "-d", "npz:imgs.npz")


def test_out_is_checked_before_the_work_and_only_runs_are_replaced():
    Path("file").write_text("mine")
    Path("folder").mkdir()
    Path("folder/notes.txt").write_text("mine")
    for out, force, says in (
        ("file", (), "file exists; choose another --out, or give --force"),
        ("file", ("--force",), "file is no run folder and is not replaced; remove it"),
        ("folder", ("--force",), "folder is no run folder and is not replaced; remove it"),
        (".", ("--force",), "no run folder"),
        ("file/run", (), "file is no folder one can write to; choose another --out"),
    ):
        for command in (("run", "-m", "demo_ssl"), ("decompose", "none.npz")):  # neither reads a byte
            result = run(*command, "--out", out, *force, code=1)
            assert says in result.stderr and "matched" not in result.stderr and result.stdout == ""
    assert Path("file").read_text() == Path("folder/notes.txt").read_text() == "mine"
    Path("empty").mkdir()
    run("decompose", save(), "--probe", "ridge", "--out", "empty", "--force")
    assert len(os.listdir("empty")) == 3


def test_a_place_one_cannot_write_to_gets_a_message():
    Path("file").write_text("")
    run("store", "import", save(), "bank")
    for arguments in (("store", "export", "bank", "file/x"), ("store", "import", "feats.npz", "file/bank")):
        result = run(*arguments, code=1)
        assert result.stdout == "" and re.search(r"^Error: .*file.*: .", result.stderr)


def test_an_import_that_fails_leaves_no_bank():
    save(**with_value("X_test", 5, np.nan))
    for target in (("bank",), ()):
        result = run("store", "import", "feats.npz", *target, code=1)
        assert "X_test: row 5, feature 2 is NaN" in result.stderr and result.stdout == ""
    assert not Path("bank").exists() and not FeatureStore().banks()
    run("store", "import", save(), "bank")


def test_fits_without_a_certificate_fail_only_if_asked():
    common = ("decompose", save(), "--tol", "1e-7")
    result = run(*common, "--out", "a", "--strict-convergence", code=1)
    assert "have no proof of their tolerance (--strict-convergence)" in result.stderr and Path("a/run.json").exists()
    run(*common, "--out", "b")


# --- interruption, imports

ENCODER = """
from pathlib import Path
import numpy as np
import torch

class Slow(torch.nn.Module):
    calls = 0

    def forward(self, images):
        Slow.calls += 1
        if Slow.calls > 3 and not Path("go_on").exists():
            raise KeyboardInterrupt
        return images.flatten(1)[:, 16:48] * 1.0

def make():
    return Slow(), lambda image: torch.from_numpy(np.asarray(image.convert("L").resize((8, 8)), np.float32)[None])
"""


def test_an_interrupted_run_names_the_line_that_goes_on(monkeypatch):
    Path("slow.py").write_text(ENCODER)
    line = ["run", "-m", "slow.py:make", *SMALL, "--probe", "ridge", "--batch-size", "32", "--out", "r"]
    monkeypatch.setattr(sys, "argv", ["/somewhere/ssl-risk-rs", *line])
    stopped = run(*line, code=130)
    assert stopped.stdout == "" and stopped.stderr.splitlines()[-1] == shlex.join(["ssl-risk-rs", *line])
    assert not Path("r").exists()
    Path("go_on").touch()
    assert "slow.py:make on digits" in run(*line).stdout
    assert json.loads(Path("r/run.json").read_text())["command"] == shlex.join(["ssl-risk-rs", *line])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a named pipe, to know when the command is reading")
@pytest.mark.parametrize(("how", "said"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated (SIGTERM)")])
def test_ctrl_c_exits_with_130_and_sigterm_with_143(how, said):
    np.save("y.npy", Y)
    os.mkfifo("x.npy")
    line = ["decompose", "x.npy,y.npy", "--out", "a b"]
    command = [sys.executable, "-c", PROGRAM, *line]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        pipe = None
        while pipe is None and child.poll() is None:
            with contextlib.suppress(OSError):  # until the command opens it too; it then waits for bytes
                pipe = os.open("x.npy", os.O_WRONLY | os.O_NONBLOCK)
            time.sleep(0.01)
        child.send_signal(how)
        out, err = child.communicate(timeout=60)
    assert pipe is not None, err
    os.close(pipe)
    assert child.returncode == 128 + how and out == "" and "Traceback" not in err
    assert f"{said}; this line begins anew:" in err
    assert err.splitlines()[-1] == "ssl-risk-rs decompose x.npy,y.npy --out 'a b'"
    assert not Path("a b").exists()


def test_a_handler_of_sigterm_that_somebody_else_set_stays_theirs():
    seen: list[int] = []
    own = signal.signal(signal.SIGTERM, lambda number, _: seen.append(number))
    try:
        with _sigterm_ends_like_ctrl_c([]):
            os.kill(os.getpid(), signal.SIGTERM)
        assert seen == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, own)


@pytest.mark.parametrize("program", ["import ssl_risk_rs", "from ssl_risk_rs.cli import main; main(['--help'])"])
def test_the_package_and_its_help_are_light(program):
    checked = f"""
import sys
try:
    {program}
except SystemExit:
    pass
print(sorted({{"torch", "timm", "polars", "sklearn", "numpy", "PIL", "rich"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", checked], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


# --- terminals


def test_models_are_listed_on_a_terminal_without_unicode():
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    program = "from ssl_risk_rs.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "models", "list", "swav*"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0 and "swav_rn50" in done.stdout, done.stderr


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp1252"])
def test_the_table_is_shown_on_a_terminal_without_unicode(encoding):
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    program = "from ssl_risk_rs.cli import main; main()"
    line = [sys.executable, "-c", program, "decompose", str(save()), "--probe", "ridge", "--out", "r"]
    done = subprocess.run(line, env=environment, capture_output=True)
    text = done.stdout.decode(encoding)
    assert done.returncode == 0 and "aggregated risk" in text and "ok: " in text, done.stderr.decode(encoding)


def test_without_a_stdout_the_record_is_there():
    program = "from ssl_risk_rs.cli import main; main()"
    shell = f"{shlex.quote(sys.executable)} -c '{program}' decompose {save()} --probe ridge --out r >&-"
    done = subprocess.run(["sh", "-c", shell], capture_output=True, text=True)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert Path("r/run.json").exists()


@pytest.mark.parametrize(
    ("device", "probes"),
    [("auto", "auto"), ("cpu", "cpu"), ("cuda", "auto:cuda"), ("cuda:0,cuda:1", "auto:cuda:0,cuda:1"),
     ("auto:cuda:1", "auto:cuda:1"),
     ("auto:cuda:1", "auto:cuda:1"),
     ("torch:cpu", "torch:cpu")],
)  # fmt: skip
def test_beside_an_encoder_a_gpu_gets_probes_where_it_pays(device, probes):
    from ssl_risk_rs.cli._results import beside_an_encoder
    from ssl_risk_rs.decomposition import Settings
    from ssl_risk_rs.workflow.question import Question

    question = Question(("ridge",), Settings(device=device, seed=3))
    assert beside_an_encoder(question).settings == Settings(device=probes, seed=3)


def test_a_result_that_cannot_be_recorded_is_printed(monkeypatch):
    """A full disk after hours of fits, and a folder that another run has made meanwhile."""
    for error, reason in (
        (OSError(28, "No space left on device"), "r: No space left on device"),
        (None, "another run"),
    ):

        def fail(*_, error=error, **__):
            if error is not None:
                raise error
            raise FileExistsError(17, "File exists", "r")

        monkeypatch.setattr("ssl_risk_rs.results.run.replace_folder", fail)
        result = run("decompose", save(), "--probe", "ridge", "--out", "r", code=1)
        assert "aggregated risk" in result.stdout and "The record is in" not in result.stdout
        assert "the result above has no record" in result.stderr and reason in result.stderr
    assert not Path("r").exists()


@pytest.mark.parametrize("words", [("--ci", "nan"), ("--tol", "inf"), ("--tol", 1), ("--seed", 2**64),
                                   ("--threads", 10**6), ("--metric", "bogus"), ("--shots", "abc")])  # fmt: skip
def test_values_that_no_run_can_have_are_misuse(words):
    assert complaint("decompose", "f.npz", *words, code=2)


DIGITS = "9" * 5000  # int() reads 4300 and no more


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("run", "-m", "pixels:8", "-d", "digits", "--limit", DIGITS), 2, "neither N nor N/class"),
        (("run", "-m", f"pixels:{DIGITS}", "-d", "digits"), 1, "the grid is a positive number"),
        (("run", "-m", "pixels:²", "-d", "digits"), 1, "the grid is a positive number"),
        (("run", "-m", f"random:resnet18?size={DIGITS}", "-d", "digits"), 1, "does not take the options"),
        (("extract", "-m", "pixels:8", "-d", "digits", "--shard", f"0/{DIGITS}"), 2, "is not i/n"),
        (("decompose", "feats.npz", "--shots", DIGITS), 2, "is neither a number of rows of each class"),
        (("compare", "feats.npz", "f.npz", "--match-dim", DIGITS), 1, "names no dimensions"),
        (("compare", "feats.npz", "f.npz", "--match-dim", f"2..{DIGITS}"), 1, "names no dimensions"),
        (("compare", "feats.npz", "f.npz", "--match-labels", DIGITS), 1, "names no numbers of training rows"),
        (("models", "list", "--dim", f"2..{DIGITS}"), 2, "is no number of features"),
        (("study", "t.csv", "--shots", f"agg_risk@5={DIGITS}"), 2, "is not COLUMN=N"),
        (("study", "t.csv", "--shots", "agg_risk@5=²"), 2, "is not COLUMN=N"),
        (("sweep", "-m", "pixels:8", "-d", "digits", "--engine", "ray", "--engine-option", f"cpus={DIGITS}"), 1,
         "a whole number of CPUs"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else "",
)  # fmt: skip
def test_numbers_of_thousands_of_digits_end_in_a_sentence(words, code, said):
    save()
    Path("t.csv").write_text("encoder,agg_risk,agg_risk@5,z_dim\na,0.1,0.2,8\nb,0.2,0.3,9\n")
    result = run(*words, code=code)
    assert said in result.stderr and "Traceback" not in result.stderr


def test_equal_rows_in_train_and_test_are_said_and_refused_when_asked():
    with np.load(save()) as arrays:
        given = dict(arrays)
    given["X_test"] = np.concatenate([given["X_test"][:-7], given["X_train"][:7]])
    np.savez("same.npz", **given)
    said = f"7 of {len(given['X_test'])} test rows are equal to a training row in every feature"
    table = run("decompose", "same.npz", "--probe", "ridge", "--out", "r").stdout
    assert said in " ".join(table.split())
    assert said in complaint("decompose", "same.npz", "--probe", "ridge", "--overlap", "refuse")
    run("store", "import", "same.npz", "bank")  # whose images nobody has compared
    assert said in " ".join(run("decompose", "bank", "--probe", "ridge", "--out", "b").stdout.split())
    assert said in complaint("decompose", "bank", "--probe", "ridge", "--overlap", "refuse")
    given["X_train"][:], given["X_test"][:] = 1, 2
    np.savez("same.npz", **given)
    guessed = run("decompose", "same.npz", "--probe", "ridge", "--out", "s").stdout
    assert "features are constant on the training rows: every probe guesses" in " ".join(guessed.split())
    assert "  ✓ no test row equals a training row in every feature\n" in guessed


def test_names_that_are_no_utf8_are_refused_before_any_work(tmp_path, monkeypatch):
    strange = os.fsdecode(os.fsencode(tmp_path) + b"/x\xff")
    for arguments in (("run", "-m", "pixels:2", "-d", f"folder:{strange}"), ("decompose", "a.npz", "--out", strange)):
        assert "is not UTF-8, so that no record could hold it. Rename" in run(*arguments, code=2).stderr
    monkeypatch.setenv("SSL_RISK_STORE", strange)
    assert "Give the variable SSL_RISK_STORE another value" in run("store", "ls", code=2).stderr
    monkeypatch.delenv("SSL_RISK_STORE")
    os.mkdir(strange)
    monkeypatch.chdir(strange)
    assert "work in another" in run("store", "ls", code=2).stderr
    run("--help")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("extract", "-m", "demo_ssl", "-m", "demo_random"),
            "-m is given 2 times (demo_ssl, demo_random), and extract",
        ),
        (("extract", "-m", "demo_ssl", "-d", "digits", "-d", "idx:x"), "-d is given 2 times (digits, idx:x)"),
        (("fewshot", "-m", "demo_ssl", "--model", "demo_random"), "ssl-risk-rs sweep takes several"),
        (
            ("run", "-m", "demo_ssl", "-d", "digits", "-d", "digits"),
            "and run takes one; ssl-risk-rs sweep takes several",
        ),
        (("doctor", "data", "digits", "-m", "demo_ssl", "-m", "swav"), "and doctor data takes one"),
        (("doctor", "model", "demo_ssl", "-d", "digits", "-d", "idx:x"), "and doctor model takes one"),
        (("doctor", "model", "demo_ssl", "--limit", "3/class"), "--limit is of images that half precision is measured"),
        (("bench", "-m", "demo_ssl", "-m", "swav"), "and bench takes one"),
        (("extract", "-m", "demo_ssl", "--engine-option", "a=b"), "--engine-option is of Ray or Slurm"),
        (("store", "import", "a.npz", "--seed", "-1"), "-1 is not in the range"),
    ],
)
def test_options_that_would_be_dropped_in_silence_are_refused(arguments, said):
    assert said in " ".join(run(*arguments, code=2).stderr.split())


def test_import_reads_a_table_as_decompose_does(tmp_path):
    rng = np.random.default_rng(0)
    frame = pl.DataFrame(
        {
            "label": [["a", "b", ""][i % 3] for i in range(90)],
            "first": rng.normal(size=90),
            "age": rng.normal(size=90),
            "second": rng.normal(size=90),
            "patient": [f"p{i // 3 % 10}" for i in range(90)],
        }
    )
    frame.write_csv(tmp_path / "a.csv")
    line = ("store", "import", tmp_path / "a.csv", tmp_path / "bank", "--features-columns", "first,second")
    assert "--drop-unlabelled" in run(*line, code=1).stderr
    (found,) = json.loads(run(*line, "--drop-unlabelled", "--group", "patient", "--format", "json").stdout)
    assert (found["n_rows"], found["n_features"]) == (60, 2)
    bank = FeatureBank.open(tmp_path / "bank")
    groups = np.array(bank.groups("patient"))
    assert not set(groups[bank.rows("train")]) & set(groups[bank.rows("test")])


@pytest.fixture
def images(tmp_path):
    """32 training and 16 test images of two classes, with a site, an age, and a patient that one image lacks."""
    rng = np.random.default_rng(0)
    arrays = {}
    for part, n in (("train", 32), ("test", 16)):
        arrays |= {
            f"x_{part}": rng.integers(0, 256, (n, 8, 8), np.uint8),
            f"y_{part}": np.arange(n) % 2,
            f"age_{part}": rng.normal(size=n),
            f"site_{part}": np.arange(n) % 4,
        }
        for i in range(n):
            Image.fromarray(arrays[f"x_{part}"][i]).save(tmp_path / f"{part}{i}.png")
    rows = [
        {
            "path": f"{part}{i}.png",
            "label": "ab"[i % 2],
            "split": part,
            "patient": None if i == 3 else f"{part}{i // 2}",
        }
        for part, n in (("train", 32), ("test", 16))
        for i in range(n)
    ]
    pl.DataFrame(rows).write_csv(tmp_path / "rows.csv")
    np.savez(tmp_path / "images.npz", **arrays)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--supervised", "demo_sl"), "no encoder 'demo_sl'; nearest: demo_ssl"),
        (("--control", "ckpt:gone.pth@resnet18"), "there is no file gone.pth"),
        (("--control", "gone.py:encoder"), "there is no file gone.py"),
        (("--supervised", "random:resnet18x"), "resnet18x"),
        (("--target", "age"), "which a ridge probe predicts and a logistic one does not"),
        (("--target", "age", "--probe", "ridge", "--metric", "log_loss"), "log_loss"),
        (("--target", "age", "--probe", "ridge", "--shots", "2"), "--shots is about classes"),
        (("--target", "scanner"), "further columns are: age, site"),
        (("--shots", "30"), "30 shots: class 0 has 16 training rows"),
        (("--limit", "2/class"), "give 10 training rows or more"),
        (("--protocol", "paper", "--limit", "1/class"), "the paper's protocol"),
        (("--layers", "all"), "has one feature, output: there is nothing to choose"),
    ],
)
def test_what_labels_and_names_tell_is_refused_before_images_are_encoded(images, monkeypatch, arguments, said):
    monkeypatch.chdir(images)
    for command in ("run", "sweep"):
        if command == "sweep" and ("--layers" in arguments or "--shots" in arguments):
            continue
        line = (command, "-m", "demo_random", "-d", "npz:images.npz", "--store", "store", *arguments)
        result = CliRunner().invoke(main, list(line))
        assert result.exit_code in (1, 2) and said in " ".join(result.stderr.split()), result.stderr
        assert not list(Path("store").rglob("bank.json"))


def test_a_row_without_group_is_refused_before_images_are_encoded(images):
    line = ("run", "-m", "demo_random", "-d", f"manifest:{images / 'rows.csv'}", "--store", images / "store")
    assert "'patient' has no value in 2 of 48 rows" in run(*line, "--group", "patient", code=1).stderr
    assert not list((images / "store").rglob("bank.json"))


def test_csv_keeps_what_divides_rows_within_a_cell_and_has_a_head_without_rows(capsys):
    print_rows([{"name": "a\rb", "other": None}, {"name": 'c"\n,', "other": "\x1b"}], "csv")
    text = capsys.readouterr().out
    assert list(csv.reader(io.StringIO(text, newline=""))) == [["name", "other"], ["a\rb", ""], ['c"\n,', "\x1b"]]
    print_rows([{"name": "a\x85\x1b"}], "json")
    assert json.loads(capsys.readouterr().out) == [{"name": "a\x85\x1b"}]
    assert run("store", "ls", "--store", "nothing", "--format", "csv").stdout.startswith("key,state,encoder,data,view,")
    assert run("store", "gc", "--store", "nothing", "--format", "csv").stdout.startswith("kind,")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 5)).astype(np.float32)
    np.savez("plain.npz", X_train=x[:40], y_train=np.arange(40) % 2, X_test=x[40:], y_test=np.arange(20) % 2)
    (head,) = run("data", "audit", "plain.npz", "--probe", "none", "--format", "csv").stdout.splitlines()
    assert head.startswith("test_id,train_id,similarity")


def test_rows_that_corrupt_images_leave_are_not_judged_before_the_scan(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for part, n in (("train", 40), ("test", 21)):
        for i in range(n):
            file = tmp_path / "d" / part / "ab"[i % 2] / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(file)
    (tmp_path / "d/test/a/0.png").write_bytes(b"no image")
    line = ("run", "-m", "pixels:2", "-d", "folder:d", "--protocol", "paper", "--probe", "ridge", "--out", "r")
    assert "21 of 40 are too many" in run(*line, code=1).stderr
    run(*line, "--skip-corrupt")
    assert Run.load("r").main.sizes.test == 20


def test_a_plan_that_depends_on_the_number_of_features_is_judged_by_its_least():
    task = task_of_rows(
        Features.of_arrays(np.zeros((8142 * 13, 1), np.float32)),
        np.arange(8142 * 13) % 8142,
        [str(i) for i in range(8142)],
        (np.arange(81420, dtype=np.uint32), np.arange(81420, 8142 * 13, dtype=np.uint32)),
        [str(i) for i in range(8142 * 13)],
        groups=None,
        where="rows",
    )
    check_plan(task, Settings())
    with pytest.raises(ParameterError, match=r"subsets of 5,428 rows, .* or fewer splits \(at most 2\)$"):
        check_plan(task, Settings(n_subsets=3))
