"""Sweeps as users run them: processes that are interrupted, killed, and run side by side."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import polars as pl
import pytest
from click.testing import CliRunner
from ssl_risk_rs.bank import FeatureBank
from ssl_risk_rs.cli import main
from ssl_risk_rs.datasets import create_dataset
from ssl_risk_rs.decomposition import Settings
from ssl_risk_rs.decomposition.targets import Target
from ssl_risk_rs.encoders.names import Kind
from ssl_risk_rs.extraction import Encoding
from ssl_risk_rs.results import Run, read_results
from ssl_risk_rs.workflow import sweep_plan
from ssl_risk_rs.workflow.banks import banks_of
from ssl_risk_rs.workflow.engines import Change, Line, process
from ssl_risk_rs.workflow.engines.local import LocalEngine
from ssl_risk_rs.workflow.evaluate import evaluate
from ssl_risk_rs.workflow.locks import hold, holder, is_held
from ssl_risk_rs.workflow.question import Question
from ssl_risk_rs.workflow.sweep import Sweep, _death, run_sweep
from ssl_risk_rs.workflow.sweep_plan import Pair, expand_models
from ssl_risk_rs.workflow.sweep_records import Record, State, SweepFolder
from sweep_helpers import SMALL, command, records, seen, slow, sweep, wait_for

pytest.importorskip("torch")


def test_a_run_for_each_pair_and_the_same_line_again_makes_none(tmp_path):
    out = tmp_path / "out"
    words = ("-m", "demo_ssl,demo_random", *SMALL, "--out", str(out), "--format", "json")
    first = sweep(*words)
    rows = json.loads(first.stdout)
    assert [row["encoder"] for row in rows] == ["demo_ssl", "demo_random"]
    frame = read_results(out)
    assert set(frame["encoder"]) == {"demo_ssl", "demo_random"}
    for row in rows:
        run = Run.load(row["run"])
        assert row["agg_risk"] == run.decompositions[0].estimate("agg_risk")
        assert row["agg_risk"] == pytest.approx(row["approx_usability"] + row["probe_gen"] + row["enc_gen"], abs=1e-12)
    before = records(out)
    # a run is known by its content, not by its folder's name
    Path(rows[0]["run"]).rename(out / "another name")
    again = json.loads(sweep(*words).stdout)
    assert again[0]["run"] == str(out / "another name") and again[1] == rows[1]
    assert {e: r["started"] for e, r in records(out).items()} == {e: r["started"] for e, r in before.items()}
    # and one of other settings is another run
    other = json.loads(sweep(*words, "--seed", "1").stdout)
    assert other[1]["run"] != rows[1]["run"] and len(list(out.glob("*/run.json"))) == 4


def test_design_choices_are_read_from_a_table_of_their_own_and_edits_are_kept(tmp_path):
    """Columns that somebody had written into sweep.csv were gone after the next run of the same line."""
    out = tmp_path / "out"
    words = ("-m", "demo_ssl,demo_random", *SMALL, "--out", str(out))
    sweep(*words)
    table = pl.read_csv(out / "sweep.csv")
    edited = table.with_columns(strong=pl.lit("yes"), architecture=pl.lit("tiny"))
    edited.write_csv(out / "sweep.csv")
    assert "sweep.csv was written by somebody else since: it is kept as sweep.csv.before" in sweep(*words).stderr
    assert pl.read_csv(out / "sweep.csv.before").equals(edited)
    assert pl.read_csv(out / "sweep.csv").equals(table)
    (out / "design.csv").write_text("encoder,strong,architecture\ndemo_ssl,yes,\ndemo_random,no,tiny\nmine,no,\n")
    said = sweep(*words).stderr
    assert "design.csv has 1 encoder that no run is of, for example mine." in said and "somebody else" not in said
    rows = {row["encoder"]: row for row in pl.read_csv(out / "sweep.csv").to_dicts()}
    assert {name: row["strong"] for name, row in rows.items()} == {"demo_ssl": "yes", "demo_random": "no"}
    assert rows["demo_random"]["architecture"] == "tiny"
    assert rows["demo_ssl"]["architecture"] == dict(table.select("encoder", "architecture").rows())["demo_ssl"]
    assert "somebody else" not in sweep(*words).stderr
    # a row that somebody added, and a second table beside the first
    mine = pl.read_csv(out / "sweep.csv")
    mine = pl.concat([mine, mine.head(1).with_columns(encoder=pl.lit("mine"))])
    mine.write_csv(out / "sweep.csv")
    assert "kept as sweep.csv.before.2" in sweep(*words).stderr
    assert pl.read_csv(out / "sweep.csv.before.2").equals(mine) and pl.read_csv(out / "sweep.csv.before").equals(edited)
    (out / "design.csv").unlink()
    assert "somebody else" not in sweep(*words).stderr and pl.read_csv(out / "sweep.csv").equals(table)
    for text, says in (
        ("encoder,probe\ndemo_ssl,mine\n", "probe is told by the runs themselves"),
        ("encoder,strong\n,yes\n", "1 row without an encoder"),
        ("name,strong\ndemo_ssl,yes\n", "needs a column `encoder`"),
    ):
        (out / "design.csv").write_text(text)
        done = CliRunner().invoke(main, ["sweep", *words, "--seed", "9"])  # before anything is run
        assert done.exit_code == 1 and says in done.stderr and len(list(out.glob("*/run.json"))) == 2


def test_each_layer_of_a_sweep_is_decomposed_whatever_names_it_has(tmp_path):
    """Two names of one feature made fewer banks than pairs, and all pairs the first one's run."""
    out = tmp_path / "out"
    layers = {"last": 512, "avgpool": 512, "layer2": 128}  # features
    sweep("-m", "random:resnet10t", *SMALL, "--img-size", "32", "--out", str(out), "--layers", ",".join(layers))
    frame = pl.read_csv(out / "sweep.csv")
    assert dict(frame.select("layer", "z_dim").rows()) == layers
    assert len(set(frame.filter(pl.col("z_dim") == 512)["agg_risk"])) == 1


def test_the_others_of_pixels_among_encoders_see_the_images_that_all_others_see(tmp_path):
    """A grid of pixels is of its own size; its twin and its control were made to be so too."""
    asked = []

    def ensure(name, encoding):
        asked.append((name, encoding.img_size))
        return {"output": SimpleNamespace(header=SimpleNamespace(encoder_spec={}, data_id=None), n_rows=9)}

    question = Question(supervised="demo_supervised", control="demo_random", encoding=Encoding(img_size=64))
    banks_of("pixels:4", "digits", question, ensure, encoding=question.encoding.for_encoder("pixels:4"))
    assert asked == [("pixels:4", None), ("demo_supervised", 64), ("demo_random", 64)]


def test_an_encoding_of_listed_layers_is_one_of_a_tuple(tmp_path):
    """Encodings are keys; that of a list was none."""
    run, _ = evaluate(
        "demo_ssl", "digits", probes="ridge", store=tmp_path, encoding=Encoding(["output"], limit="9/class")
    )
    assert run.main.sizes.features == 16


def test_a_pair_whose_twin_has_new_weights_is_run_again(tmp_path):
    """The key of a pair had the twin's name alone."""
    from ssl_risk_rs.encoders.facts import bundled_path

    twin, out = tmp_path / "twin.safetensors", tmp_path / "out"
    words = ["-m", "demo_ssl", *SMALL, "--out", str(out), "--store", str(tmp_path / "s"), "--format", "json"]
    words[words.index("--supervised") + 1] = f"ckpt:{twin}"

    def approximation(weights: str) -> tuple[str, float]:
        twin.write_bytes(bundled_path(weights).read_bytes())
        os.utime(twin, ns=(10**18 + len(weights), 10**18 + len(weights)))
        (row,) = json.loads(sweep(*words).stdout)
        return row["run"], row["approx"]

    first = approximation("demo_supervised")
    assert approximation("demo_supervised") == first
    other = approximation("demo_random")
    assert other[0] != first[0] and other[1] > first[1]
    assert approximation("demo_supervised") == first


def test_a_pair_whose_twin_imports_changed_code_is_run_again(tmp_path):
    """The key of a pair had the size and time of the twin's own file alone."""
    twin, part, out = tmp_path / "twin.py", tmp_path / "parts_of_twin.py", tmp_path / "out"
    twin.write_text(
        "from parts_of_twin import SEED\nfrom torch import manual_seed, nn\n\n\ndef make():\n    manual_seed(SEED)\n"
        "    return nn.Sequential(nn.AvgPool2d(32), nn.Flatten(), nn.Linear(147, 8))\n"
    )
    words = [*SMALL, "--out", str(out)]
    words[words.index("--supervised") + 1] = f"{twin}:make"
    made = []
    for seed in (1, 1, 2):
        part.write_text(f"SEED = {seed}\n")
        sweep("-m", "demo_ssl", *words)
        made.append(len(list(out.glob("*/run.json"))))
    assert made == [1, 1, 2]
    twins = {Run.load(file.parent).provenance.banks["supervised"].path for file in out.glob("*/run.json")}
    assert len(twins) == 2


def test_a_failed_encoder_stops_no_other_and_its_line_tries_it_again(tmp_path):
    out = tmp_path / "out"
    name = slow(tmp_path, "mine", 0)
    right = (tmp_path / "mine.py").read_text()
    (tmp_path / "mine.py").write_text(
        right.replace("    return Slow()", "    raise RuntimeError('no such weights')\n    return Slow()")
    )
    done = sweep("-m", f"{name},demo_ssl", *SMALL, "--out", str(out), "--format", "json", code=1)
    states = {row["encoder"]: row["state"] for row in json.loads(done.stdout)}
    assert states == {name: "failed", "demo_ssl": "done"}
    assert "no such weights" in done.stderr and "To try it again:" in done.stderr
    line = records(out)[name]["retry"]
    assert line in done.stderr and line.startswith("ssl-risk-rs sweep -m")
    (tmp_path / "mine.py").write_text(right)
    again = sweep(*shlex.split(line)[2:], "--format", "json")
    assert [row["state"] for row in json.loads(again.stdout)] == ["done"]
    assert {record["state"] for record in records(out).values()} == {"done"}
    table = pl.read_csv(out / "sweep.csv")
    assert set(table["encoder"]) == {name, "demo_ssl"}  # one line of two, and yet the table of both
    assert {"risk_af", "train_rows", "test_rows", "z_dim"} <= set(table.columns)
    assert table.select("target", "metric", "protocol", "split_seed").unique().rows() == [(None, "error", "strict", 0)]
    # the built encoder tells what it is: the same line makes nothing, changed code makes a new run
    shown = seen(tmp_path, "mine")
    kept = {e: r["run"] for e, r in records(out).items()}
    sweep(*shlex.split(line)[2:])
    assert seen(tmp_path, "mine") - shown <= 64 and {e: r["run"] for e, r in records(out).items()} == kept
    (tmp_path / "mine.py").write_text(right.replace("[:, ::1]", "[:, ::2]"))
    sweep(*shlex.split(line)[2:])
    assert records(out)[name]["run"] != kept[name]


def test_a_size_is_for_every_encoder_but_grids_of_pixels():
    asked = Encoding(img_size=32)
    assert asked.for_encoder("pixels:8?channels=1").img_size is None
    for name in ("pixels_net.py:make", "swav", "ckpt:pixels.pth@resnet18"):
        assert asked.for_encoder(name) is asked


def test_a_twin_that_is_a_grid_of_pixels_is_of_its_own_size(tmp_path):
    pytest.importorskip("timm")
    words = [*SMALL, "--img-size", "32", "--out", str(tmp_path / "run")]
    words[words.index("--supervised") + 1] = "pixels:4"
    done = CliRunner().invoke(main, ["run", "-m", "random:test_resnet?seed=1", *words])
    assert done.exit_code == 0, done.output
    headers = {role: FeatureBank.open(b.path).header for role, b in Run.load(tmp_path / "run").provenance.banks.items()}
    assert {role: header.img_size for role, header in headers.items()} == {"encoder": 32, "supervised": None}


def test_the_table_has_the_image_size_that_was_used_and_the_epoch_that_a_file_records(tmp_path):
    torch, timm = pytest.importorskip("torch"), pytest.importorskip("timm")
    torch.save({"epoch": 7, "state_dict": timm.create_model("test_vit").state_dict()}, tmp_path / "mine.pth")
    out = tmp_path / "out"
    for name in (f"ckpt:{tmp_path / 'mine.pth'}@test_vit", "random:test_resnet?seed=1"):
        sweep("-m", name, *SMALL, "--img-size", "160" if "vit" in name else "32", "--out", str(out))
    # a grid of pixels is of its own size
    done = sweep("-m", "random:test_resnet?seed=1,pixels:4", *SMALL, "--img-size", "32", "--out", str(out))
    assert "pixels:4 pools images of any size to its grid" in done.stderr
    rows = {row["encoder"]: row for row in pl.read_csv(out / "sweep.csv").iter_rows(named=True)}
    assert {name[:4]: row["img_size"] for name, row in rows.items()} == {"ckpt": 160, "pixe": None, "rand": 32}
    assert [row["epochs"] for name, row in rows.items() if name.startswith("ckpt")] == [7]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_sweep_goes_on_with_the_same_line(tmp_path, how):
    out = tmp_path / "out"
    names = [slow(tmp_path, "one", 0.05), slow(tmp_path, "two", 0)]
    words = ("-m", ",".join(names), *SMALL, "--batch-size", "4", "--out", str(out))
    driver = subprocess.Popen(command("sweep", *words), stderr=subprocess.PIPE, text=True, start_new_session=True)
    banks = Path(os.environ["SSL_RISK_STORE"])
    wait_for(lambda: seen(tmp_path, "one") > 200 or driver.poll() is not None)
    assert driver.poll() is None
    driver.send_signal(how)  # to the driver alone: its process must not go on without it
    stderr = driver.communicate(timeout=60)[1]
    if how is not signal.SIGKILL:
        assert driver.returncode == 128 + how and "To go on:" in stderr
    counted = seen(tmp_path, "one")
    time.sleep(0.5)  # ten batches
    assert seen(tmp_path, "one") <= counted + 4, "the process of a sweep that died went on"
    committed = sum(len(journal.read_text().splitlines()) for journal in banks.glob("*/*.journal"))
    assert not list(out.glob("*/run.json"))
    done = sweep(*words, "--format", "json")
    rows = json.loads(done.stdout)
    assert [row["state"] for row in rows] == ["done", "done"]
    n = records(out)[names[0]]["images"]
    encoded = records(out)[names[0]]["encoded"]
    if committed:  # what was committed is not encoded again
        assert encoded < n
    assert seen(tmp_path, "one") < 2 * n + 130  # the probe's images come twice


def test_two_sweeps_on_one_folder_share_the_work(tmp_path):
    out = tmp_path / "out"
    names = [slow(tmp_path, "one", 0.02), slow(tmp_path, "two", 0.02, step=2)]
    words = ("-m", ",".join(names), *SMALL, "--batch-size", "8", "--out", str(out), "--format", "json")
    both = [
        subprocess.Popen(command("sweep", *words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    ended = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], ended[0][1] + ended[1][1]
    rows = [json.loads(stdout) for stdout, _ in ended]
    keys = ("encoder", "state", "agg_risk", "run")
    assert [[row[key] for key in keys] for row in rows[0]] == [[row[key] for key in keys] for row in rows[1]]
    assert {row["state"] for row in rows[0]} == {"done"} and len(list(out.glob("*/run.json"))) == 2
    n = records(out)[names[0]]["images"]
    for name in ("one", "two"):  # encoded once, beside the 64 images whose features are compared before a bank is used
        assert n <= seen(tmp_path, name) <= n + 5 * 64
    logs = "".join(file.read_text() for file in (out / ".sweep").glob("*.log"))
    assert "at work on" in logs + ended[0][1] + ended[1][1]


def test_two_sweeps_both_say_why_an_encoder_failed(tmp_path):
    name = slow(tmp_path, "mine", 0)
    text = (tmp_path / "mine.py").read_text()
    begin = "    return Slow()"
    (tmp_path / "mine.py").write_text(
        text.replace(begin, f"    import time; time.sleep(1)\n    raise RuntimeError('no such weights')\n{begin}")
    )
    words = ("-m", f"{name},demo_ssl", *SMALL, "--out", str(tmp_path / "out"), "--format", "json")
    both = [
        subprocess.Popen(command("sweep", *words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for stdout, stderr in [one.communicate(timeout=300) for one in both]:
        assert {row["encoder"]: row["state"] for row in json.loads(stdout)} == {name: "failed", "demo_ssl": "done"}
        assert "no such weights" in stderr and "gave no reason" not in stderr


def test_layers_of_one_pass_are_runs_of_their_own(tmp_path):
    out = tmp_path / "out"
    words = ("-m", "random:resnet18?seed=1", "-d", "digits", "--limit", "10/class", "--img-size", "32", *SMALL[4:])
    done = sweep(*words, "--layers", "layer1,layer2", "--out", str(out), "--format", "json")
    rows = json.loads(done.stdout)
    assert [row["layer"] for row in rows] == ["layer1", "layer2"]
    assert {row["state"] for row in rows} == {"done"}, done.stderr
    assert rows[0]["run"] != rows[1]["run"]
    document = json.loads((out / "sweep.json").read_text())
    assert sorted(bool(pair["encoded"]) for pair in document["pairs"]) == [False, True]  # one pass for both


@pytest.mark.parametrize("layers", ["layer*", "layer1,all"])
def test_patterns_of_layers_are_refused(tmp_path, layers):
    found = CliRunner().invoke(main, ["sweep", "-m", "demo_ssl", "--layers", layers, "--out", str(tmp_path / "out")])
    assert found.exit_code == 2
    assert f"--layers of a sweep are names, not {layers.split(',')[-1]!r}" in found.stderr


def test_a_split_file_is_that_of_every_run(tmp_path):
    """It was taken by the command line and by nothing else."""
    ids = create_dataset("digits", limit="40/class").samples["sample_id"].to_list()
    (tmp_path / "test.txt").write_text("\n".join(ids[::4]))
    sweep("-m", "pixels:4", *SMALL, "--split", str(tmp_path / "test.txt"), "--out", str(tmp_path / "out"))
    (record,) = records(tmp_path / "out").values()
    assert Run.load(tmp_path / "out" / record["run"]).decompositions[0].sizes.test == len(ids[::4])


def test_a_question_has_the_same_key_as_long_as_its_answer_is_the_same():
    plain = Question(("ridge",), Settings(seed=1))
    same = (
        Question(("ridge",), Settings(probe="ridge", seed=1, n_threads=2, device="cuda")),
        Question(("ridge",), Settings(seed=1), encoding=Encoding(layers=("a",))),  # the bank's key says which
    )
    other = (
        Question(("logistic",), Settings(seed=1)), Question(("ridge",)), replace(plain, group="site"),
        replace(plain, target=Target("age")), replace(plain, target=Target("age", "numbers")),
        replace(plain, control="none"), replace(plain, supervised="none"), replace(plain, drop_unlabelled=True),
        replace(plain, settings=Settings(seed=1, metrics="balanced")),
    )  # fmt: skip
    assert {q.key() for q in same} == {plain.key()}
    assert len({q.key() for q in (plain, *other)}) == 1 + len(other)
    assert plain.key("a") != plain.key() != plain.key("b")
    assert Settings().asked() == {} and Settings(seed=1, n_threads=3).asked() == {"seed": 1}


def test_a_process_that_dies_is_named_with_its_log(tmp_path):
    out = tmp_path / "out"
    name = slow(tmp_path, "mine", 0)
    text = (tmp_path / "mine.py").read_text()
    (tmp_path / "mine.py").write_text(
        text.replace("time.sleep(0)", "__import__('os').kill(__import__('os').getpid(), 9)")
    )
    done = sweep("-m", f"{name},demo_ssl", *SMALL, "--out", str(out), code=1)
    record = records(out)[name]
    assert record["state"] == "failed" and record["error_type"] == "ProcessDied"
    assert "signal 9" in record["error"] and ".log" in record["error"] and "signal 9" in done.stderr


# --- without processes


@pytest.mark.parametrize("taken", ["waiting", "running"])
def test_a_failure_stays_known_when_another_sweep_takes_the_record_over(tmp_path, taken):
    folder, pair = SweepFolder(tmp_path), Pair("e", "d", None, "p1", "k1", None)
    job = SimpleNamespace(pairs=(pair,), encoder="e", data_name="d", n_images=1)
    record = Record("p1", "e", "d", None, State.FAILED, key="k1", error_type="EncoderError", error="no such weights")

    class Other:
        """An engine whose line fails, and another sweep, which begins anew before the engine has told."""

        here = False

        def run(self, lines, tell):
            tell(Change(lines[0], "started", "here"))
            folder.write(record)
            folder.write(replace(record, state=State(taken), error=None, error_type=None))
            tell(Change(lines[0], "ended", "here", 1))

    plan = SimpleNamespace(jobs=(job,))
    told = []
    for _ in range(2):  # the second time an old failure is there
        made = Sweep(plan, SimpleNamespace(), folder, lambda job: ("x",))
        (found,) = run_sweep(made, Other(), tell=told.append, say=print)
        assert found == record and told[-1].record == record
        record = replace(record, error="still no weights")

    class Dying(Other):
        def run(self, lines, tell):
            tell(Change(lines[0], "started", "here"))
            tell(Change(lines[0], "ended", "here", -9))

    (found,) = run_sweep(made, Dying(), tell=told.append, say=print)
    assert found.error_type == "ProcessDied" and "signal 9" in found.error  # not the failure of an earlier attempt


def invoke(*words: str) -> "tuple[int, str, str]":
    """The command in this process: exit code, stdout, stderr."""
    result = CliRunner().invoke(main, ["sweep", *words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def test_a_dry_run_lists_pairs_and_writes_nothing(tmp_path):
    code, stdout, stderr = invoke("-m", "demo_ssl,swav,beit_vitL16_pt22k", "-d", "digits", "--out", "out", "--dry-run",
                                  "--format", "json")  # fmt: skip
    assert code == 0
    rows = {row["encoder"]: row for row in json.loads(stdout)}
    assert rows["demo_ssl"]["weights"] == "bundled" and rows["demo_ssl"]["passes"] == 1
    assert rows["swav_rn50"]["weights"] == "to download"
    assert rows["swav_rn50"]["gb"] == pytest.approx(1797 * 2048 * 2 / 1e9, abs=1e-3)
    assert rows["beit_vitL16_pt22k"]["weights"] == "address dead"
    assert {row["minutes"] for row in rows.values()} == {None} and "No minutes are given" in stderr
    assert not (tmp_path / "out").exists()


def test_patterns_are_encoders_once_and_dead_addresses_are_left_out(tmp_path):
    (tmp_path / "zoo.txt").write_text("# mine\nswav_rn50\n\ndemo_*  # bundled\n")
    names, notes, dead = expand_models(["swav", "beit*,demo_ssl", f"@{tmp_path / 'zoo.txt'}"])
    assert names[0] == "swav_rn50" and names.count("swav_rn50") == 1
    assert {"demo_ssl", "demo_random", "demo_supervised"} <= set(names)
    assert notes == ["swav_rn50 is named twice; it is run once."]
    assert "beit_vitL16_pt22k" in dead and "beit_vitL16_pt22k" not in names
    (tmp_path / "a,b.pth").touch()  # a comma in a file's name divides nothing
    assert expand_models(["ckpt:a,b.pth@resnet50"])[0] == ["ckpt:a,b.pth@resnet50"]
    for epoch in (10, 9):
        (tmp_path / f"ep{epoch}.pth").touch()
    (tmp_path / "mine.txt").write_text("ckpt:ep*.pth@resnet18?ema=true\n")
    assert expand_models([f"@{tmp_path / 'mine.txt'}", "ckpt:ep9.pth@resnet18"])[0] == [
        *("ckpt:ep9.pth@resnet18?ema=true", "ckpt:ep10.pth@resnet18?ema=true", "ckpt:ep9.pth@resnet18")
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-m", "swawv*"), "nearest: swav*"),
        (("-m", "swavv_rn50"), "nearest: swav_rn50"),
        (("-m", "@none.txt"), "none.txt cannot be read"),
        (("-m", "ckpt:none.pth@resnet50"), "there is no file none.pth"),
        (("-m", "ckpt:ep*.pth@resnet50"), "no file matches ep*.pth"),
        (("-m", "none.py:encoder"), "there is no file none.py"),
        (("-m", ","), "no encoder is named"),
        (("-m", "demo_ssl", "-d", "folder:/nowhere"), "/nowhere does not exist"),
        (("-m", "demo_ssl", "--engine-option", "x=1"), "the local engine has no option 'x'"),
        (("-m", "demo_ssl", "--engine", "ray", "--engine-option", "x=1"), "the ray engine has no option 'x'"),
        (("-m", "demo_ssl", "--limit", "many"), "limit"),
        (("-m", "demo_ssl", "--out", "arun"), "is the folder of one run"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_before_anything_runs(tmp_path, words, said):
    (tmp_path / "arun").mkdir()
    (tmp_path / "arun" / "run.json").write_text("{}")
    code, _, stderr = invoke(*words, *(() if "-d" in words else ("-d", "digits")))
    assert code == (2 if "--limit" in words else 1) and said in stderr and "Traceback" not in stderr
    assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize(("engine", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_a_missing_package_names_the_line_that_installs_it(monkeypatch, engine, package):
    monkeypatch.setitem(sys.modules, package, None)
    code, _, stderr = invoke("-m", "demo_ssl", "-d", "digits", "--engine", engine)
    assert code == 1 and f"python -m pip install 'ssl-risk-rs[{engine}]'" in stderr


def test_data_and_encoders_named_twice_are_said(tmp_path):
    _, stdout, stderr = invoke("-m", "demo_ssl", "-m", "demo_ssl", "-d", "digits", "-d", "digits", "--dry-run")
    assert "demo_ssl is named twice" in stderr and "digits is named twice" in stderr
    assert len(stdout.strip().splitlines()) == 2


def test_a_lock_of_a_process_that_died_is_taken_over_and_said(tmp_path):
    lock = tmp_path / "x.lock"
    code = f"from ssl_risk_rs.workflow.locks import hold\nfrom pathlib import Path\nimport os\n" \
           f"with hold(Path({str(lock)!r})):\n    print('held', flush=True)\n    input()\n"  # fmt: skip
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "held\n"
    assert is_held(lock) and f"process {other.pid} on" in holder(lock)
    other.kill()
    other.wait()
    assert not is_held(lock)
    said = []
    with hold(lock, said.append):
        assert is_held(lock)
    assert len(said) == 1 and f"rocess {other.pid}" in said[0] and "ended without finishing" in said[0]
    with hold(lock, said.append):  # one that was given back is no news
        pass
    assert len(said) == 1


def test_each_gpu_has_a_process_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    code = (
        "import os, sys, time; assert {parent} > 0; "
        "print(os.environ['CUDA_VISIBLE_DEVICES'], file=sys.stderr); time.sleep(0.5)"
    )
    monkeypatch.setattr(process, "_CODE", code)
    engine = LocalEngine(jobs=None, device="auto")
    assert engine.jobs == 2 and not engine.here
    lines = [Line(str(i), (), tmp_path / f"{i}.log") for i in range(4)]
    changes: list[Change] = []
    engine.run(lines, changes.append)
    assert sorted(line.log.read_text().split()[0] for line in lines) == ["3", "3", "5", "5"]
    assert [c.code for c in changes if c.state == "ended"] == [0, 0, 0, 0]
    first = [c.place for c in changes[:2]]
    assert first == ["GPU 3", "GPU 5"]
    assert LocalEngine(jobs=None, device="cpu").gpus == []


def test_a_damaged_run_folder_stops_no_other(tmp_path):
    out = tmp_path / "out"
    words = ("-m", "demo_ssl,demo_random", *SMALL, "--out", str(out), "--format", "json")
    rows = json.loads(sweep(*words).stdout)
    (Path(rows[0]["run"]) / "outcomes.npz").unlink()
    done = sweep(*words, code=1)
    assert "Not in sweep.csv: " in done.stderr and f"rm -r {rows[0]['run']}" in done.stderr
    other = sweep("-m", "demo_random", *words[2:])  # a line that has no part in it
    assert "Not in sweep.csv: " in other.stderr
    assert pl.read_csv(out / "sweep.csv")["encoder"].to_list() == ["demo_random"]
    shutil.rmtree(rows[0]["run"])
    assert json.loads(sweep(*words).stdout)[0]["agg_risk"] == rows[0]["agg_risk"]
    assert pl.read_csv(out / "sweep.csv").height == 2


def test_a_run_says_that_digits_stood_in(tmp_path, monkeypatch):
    monkeypatch.delenv("SSL_RISK_DATA", raising=False)
    out = tmp_path / "out"
    small = [word for word in SMALL if word not in ("-d", "digits")]
    sweep("-m", "demo_random", *small, "--out", str(out))
    (record,) = records(out).values()
    run = Run.load(out / record["run"])
    assert not run.provenance.data_named and "No data were named" in str(run)


def test_where_the_weights_of_each_kind_of_name_are_is_said(tmp_path):
    said = {
        "hf:org/model": "the hub's cache or download", f"hf:{tmp_path}": "own folder",
        f"openclip:{tmp_path}": "own folder", "timm:resnet18": "timm's cache or download",
        "openclip:ViT-B-32/openai": "file, or open_clip's cache or download",
        "ckpt:/a.pth@resnet18": "own file", "random:resnet18": "none needed", "pixels:8": "none needed",
    }  # fmt: skip
    assert {name: sweep_plan._weights(name)[0] for name in said} == said
    assert sweep_plan._WEIGHTS.keys() | {"registry"} == set(get_args(Kind))


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (143, "was told to end (signal 15): the same line goes on."),
        (130, "was told to end (signal 2): the same line goes on."),
        (-9, "gave no reason: it was killed by signal 9, perhaps for want of memory."),
        (3, "gave no reason: it ended with status 3."),
    ],
)
def test_how_a_process_ended_is_said(code, said):
    line = Line("one", (), Path("log"), Path("."))
    assert _death(Change(line, "ended", "CPU", code)).startswith(f"The process on CPU {said}")
