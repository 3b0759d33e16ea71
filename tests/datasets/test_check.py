"""`data check`, `doctor data` and `doctor machine`: what is wrong is found, counted, and decides the exit status."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from ssl_risk_rs._core import kernels
from ssl_risk_rs.cli import _findings, main
from ssl_risk_rs.cli import doctor as doctor_command
from ssl_risk_rs.errors import ParameterError
from ssl_risk_rs.workflow import doctor_machine

RNG = np.random.default_rng(0)


def write(root, n=6, folders=("ant", "bee"), parts=("train", "test")):
    for part in parts:
        for name in folders:
            (root / part / name).mkdir(parents=True, exist_ok=True)
            for i in range(n):
                pixels = RNG.integers(0, 256, (10, 8 + i, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{i}.png")
    return f"folder:{root}"


def run(*line, code=0):
    result = CliRunner().invoke(main, [str(word) for word in line], catch_exceptions=False)
    assert result.exit_code == code, result.stdout + result.stderr
    return result


def findings(*line, code=0) -> dict[str, list[dict]]:
    """Findings by what was checked."""
    found: dict[str, list[dict]] = {}
    for entry in json.loads(run(*line, "--format", "json", code=code).stdout):
        found.setdefault(entry["check"], []).append(entry)
    return found


def test_data_without_a_fault(tmp_path):
    found = findings("data", "check", write(tmp_path))
    assert {entry["status"] for entries in found.values() for entry in entries} == {"ok"}
    assert found["rows"][0]["values"] == {"train": 12, "test": 12, "classes": 2}
    assert found["class sizes"][0]["values"] == {"smallest_class": 6, "largest_class": 6, "imbalance": 1.0}
    assert found["decoding"][0]["values"] == {"decoded": 24, "corrupt": 0}
    assert found["modes"][0]["values"] == {"RGB": 24}
    pixels = found["pixels"][0]["values"]
    assert [pixels[f"{which}_width"] for which in ("smallest", "median", "largest")] == [8, 11, 13]
    assert {pixels[f"{which}_height"] for which in ("smallest", "median", "largest")} == {10}


def test_modes_sizes_and_orientation(tmp_path):
    uri = write(tmp_path)
    Image.new("L", (300, 200)).save(tmp_path / "train/ant/0.png")
    Image.new("RGBA", (2, 2)).save(tmp_path / "train/ant/1.png")
    Image.fromarray(np.full((9, 9), 3000, np.uint16)).save(tmp_path / "train/ant/2.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (9, 9)).save(tmp_path / "train/bee/x.jpg", exif=exif)
    found = findings("data", "check", uri)
    assert found["modes"][0]["values"] == {"RGB": 22, "L": 1, "RGBA": 1, "I;16": 1}
    assert found["pixels"][0]["values"]["largest_width"] == 300 and found["pixels"][0]["values"]["smallest_width"] == 2
    (orientation,) = found["orientation"]
    assert orientation["status"] == "note" and orientation["values"] == {"oriented": 1}
    assert "--exif-orientation" in orientation["do"]


def test_corrupt_images_are_a_fault(tmp_path):
    uri = write(tmp_path)
    (tmp_path / "train/ant/1.png").write_bytes(b"")
    whole = (tmp_path / "test/bee/2.png").read_bytes()
    (tmp_path / "test/bee/2.png").write_bytes(whole[: len(whole) // 2])
    (entry,) = findings("data", "check", uri, code=1)["decoding"]
    assert entry["status"] == "fault" and entry["values"] == {"decoded": 22, "corrupt": 2}
    assert [example.partition(":")[0] for example in entry["examples"]] == [
        str(tmp_path / "train/ant/1.png"), str(tmp_path / "test/bee/2.png"),
    ]  # fmt: skip
    table = run("data", "check", uri, code=1).stdout
    assert "fault  decoding" in table and "--skip-corrupt" in table and str(tmp_path / "train/ant/1.png") in table


def test_duplicates_within_and_across_the_parts(tmp_path):
    uri = write(tmp_path)
    for source, copy in (("train/ant/2", "train/bee/3"), ("train/ant/2", "test/ant/0"), ("test/bee/1", "test/bee/2")):
        shutil.copy(tmp_path / f"{source}.png", tmp_path / f"{copy}.png")
    found = findings("data", "check", uri, code=1)
    across, within = found["duplicates"]
    assert (across["status"], within["status"]) == ("fault", "note")
    assert across["values"] == {
        "test_images_in_train": 1, "repeated_within_a_part": 1, "sets_with_several_labels": 1,
    }  # fmt: skip
    assert across["examples"] == [
        " = ".join(str(tmp_path / f"{name}.png") for name in ("train/ant/2", "train/bee/3", "test/ant/0"))
    ]
    assert within["found"] == "1 image repeats another of the same part" and len(within["examples"]) == 1
    assert found["labels"][0]["found"] == "1 set of equal images with different labels"


def test_groups_on_both_sides_are_a_fault(tmp_path):
    uri = write(tmp_path, folders=("ill/p1", "ill/p2", "well/p1", "well/p3"), n=2)
    (entry,) = findings("data", "check", f"{uri}?group=1", "--group", "group", code=1)["groups"]
    assert entry["values"] == {"groups": 3, "groups_on_both_sides": 3} and entry["examples"] == ["p1", "p2", "p3"]
    assert "refuses" in entry["do"] and "--shared-groups warn" in entry["do"]
    assert "groups" in findings("data", "check", f"{uri}?group=1", code=1)  # the column is there
    flat = write(tmp_path / "flat", folders=[f"{name}/p{i}" for name in ("a", "b") for i in range(6)], parts=("",))
    (entry,) = findings("data", "check", f"{flat}?group=1")["groups"]
    assert entry["values"] == {"groups": 6, "groups_on_both_sides": 0} and entry["status"] == "ok"


def test_uneven_and_empty_classes_are_notes(tmp_path):
    x = RNG.integers(0, 256, (60, 4, 4), dtype=np.uint8)
    y = np.array([0] * 50 + [1] * 6 + [2] * 4)
    np.savez(tmp_path / "a.npz", x_train=x, y_train=y, x_test=255 - x[:20], y_test=y[:20])
    found = findings("data", "check", f"npz:{tmp_path / 'a.npz'}")
    (sizes,) = found["class sizes"]
    assert sizes["status"] == "note" and sizes["values"]["imbalance"] == 12.5 and sizes["values"]["smallest_class"] == 4
    (empty,) = found["empty classes"]
    assert empty["found"] == "2 of 3 classes have no test image" and empty["examples"] == ["1", "2"]


@pytest.mark.parametrize(
    ("y", "said"),
    [
        (np.zeros(40, int), "the training rows have 1 class"),
        (np.arange(40) % 10, "fewer than the 10 classes; give 50 training rows or more"),
    ],
)
def test_rows_that_a_run_refuses_are_a_fault(tmp_path, y, said):
    x = RNG.integers(0, 256, (60, 4, 4), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", x_train=x[:40], y_train=y, x_test=x[40:], y_test=y[:20])
    for line in (("data", "check"), ("doctor", "data")):
        (found,) = findings(*line, f"npz:{tmp_path / 'a.npz'}", code=1)["run"]
        assert found["status"] == "fault" and said in found["found"]
    (found,) = findings("data", "check", f"npz:{tmp_path / 'a.npz'}", "--limit", "40", code=1)["run"]  # of all rows
    assert found["status"] == "fault" and said in found["found"]
    refused = run("run", "-m", "pixels:2", "-d", f"npz:{tmp_path / 'a.npz'}", "--out", tmp_path / "run", code=1)
    assert said in refused.stderr


def test_the_table_fits_a_terminal(tmp_path):
    uri = write(tmp_path, n=14)
    for path in (tmp_path / "train").rglob("*.png"):
        path.write_bytes(b"no image")
    lines = run("data", "check", uri, code=1).stdout.splitlines()
    width = len(str(tmp_path)) + 60  # a path is not broken
    assert all(len(line) <= max(80, width) for line in lines)
    assert any(f"and {28 - _findings.SHOWN} more (--format json lists all)" in line for line in lines)


def test_csv_has_a_line_for_each_finding(tmp_path):
    lines = run("data", "check", write(tmp_path), "--format", "csv").stdout.splitlines()
    assert lines[0] == "check,status,found,do,values,examples" and len(lines) == 8


def test_check_and_show_take_a_split_file_and_import_no_torch(tmp_path):
    uri = write(tmp_path / "imgs", parts=("",))
    (tmp_path / "test.txt").write_text("ant/0.png\nbee/0.png\n")
    assert findings("data", "check", uri, "--split", tmp_path / "test.txt")["rows"][0]["values"]["test"] == 2
    shown = json.loads(run("data", "show", uri, "--split", tmp_path / "test.txt", "--format", "json").stdout)[0]
    assert (shown["train"], shown["test"]) == (10, 2)
    code = f"from ssl_risk_rs.cli import main\nimport sys\ntry:\n    main(['data', 'check', {uri!r}])\nfinally:\n    " \
           "assert 'torch' not in sys.modules"  # fmt: skip
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout


# --- doctor


def test_doctor_data_decodes_a_sample_and_tries_a_transform(tmp_path):
    uri = write(tmp_path, n=5)
    found = findings("doctor", "data", uri, "-m", "pixels:4")
    assert found["sample"][0]["found"] == "a sample of 20 of 20 images decoded"
    assert found["decoding"][0]["values"]["n_decoded"] == 20
    assert found["decoding"][0]["values"]["images_per_second"] > 0
    assert found["transform"][0]["found"].startswith("pixels:4 makes inputs of 3 x 4 x 4, ")
    (tmp_path / "train/ant/0.png").write_bytes(b"")
    entry = findings("doctor", "data", uri, code=1)["sample"][0]
    assert entry["status"] == "fault" and "of which 1 cannot be" in entry["found"]


def test_doctor_data_names_inputs_of_different_sizes(tmp_path):
    (tmp_path / "enc.py").write_text(
        "import torch\nfrom torchvision.transforms.functional import to_tensor\n"
        "def f():\n    return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()), to_tensor\n"
    )
    entry = findings("doctor", "data", write(tmp_path / "imgs"), "-m", f"{tmp_path / 'enc.py'}:f", code=1)["transform"][
        0
    ]
    assert entry["status"] == "fault" and "inputs of different sizes: 3 x 10 x 8" in entry["found"]


def test_doctor_machine_tells_what_is_there(tmp_path):
    store = tmp_path / "deep" / "store"
    found = findings("doctor", "machine", "--store", store)
    chosen = [kernel.name for kernel in kernels() if kernel.chosen]
    assert all(name in found["cpu"][0]["values"]["kernels"] for name in chosen)
    assert found["store"][0]["values"]["write_mb_per_second"] > 0 and str(store) in found["store"][0]["found"]
    assert not store.exists() and not list(tmp_path.glob(".doctor*"))  # nothing is left behind
    assert {"threads", "memory", "torch", "devices", "extras", "caches"} <= found.keys()
    assert "torch" in found["torch"][0]["values"]


def no_kernel():
    raise ParameterError("SSL_RISK_KERNEL names no kernel of this CPU")


def test_doctor_machine_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor_machine, "_version", lambda name: None if name == "timm" else "1")
    monkeypatch.setattr(doctor_machine, "_quota", lambda: 0.5)
    monkeypatch.setattr(doctor_machine._core, "kernels", no_kernel)  # a process reads SSL_RISK_KERNEL once
    monkeypatch.setattr(doctor_machine.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 1000))
    found = findings("doctor", "machine", "--store", tmp_path, code=1)
    assert found["cpu"][0]["status"] == "fault" and found["cpu"][0]["do"] == "unset SSL_RISK_KERNEL"
    assert (
        found["torch"][0]["found"].startswith("timm not installed") and "pip install torch" in found["torch"][0]["do"]
    )
    assert found["threads"][0]["values"]["quota"] == 0.5 and "--threads 1" in found["threads"][0]["do"]
    assert found["store"][0]["status"] == "fault" and "SSL_RISK_STORE" in found["store"][0]["do"]


def test_a_store_that_cannot_be_written_is_a_fault(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(doctor_machine, "_disk_rates", refuse)
    entry = doctor_machine._disk(tmp_path)
    assert entry.status == "fault" and "cannot be written: Permission denied" in entry.found


def test_doctor_lists_the_commands_that_are_there(monkeypatch):
    assert {"machine", "data"} <= set(doctor_command.doctor.list_commands(None))
    monkeypatch.setitem(doctor_command.ELSEWHERE, "model", "ssl_risk_rs.cli.no_such_module")
    assert "model" not in doctor_command.doctor.list_commands(None)
    assert "No such command 'model'" in run("doctor", "model", "swav", code=2).stderr
    monkeypatch.setitem(doctor_command.ELSEWHERE, "demo", "ssl_risk_rs.cli.demo")
    assert "demo" in doctor_command.doctor.list_commands(None)
    assert "The bundled example" in run("doctor", "demo", "--help").stdout or run("doctor", "demo", "-h").stdout


@pytest.mark.parametrize("command", ["doctor", "doctor machine", "doctor data", "data check", "data show"])
def test_help_ends_with_a_line_to_paste(command):
    assert run(*command.split(), "--help").stdout.count(f"ssl-risk-rs {command}") >= 1
