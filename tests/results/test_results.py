"""Records of a run: the run folder, the tidy frame, the table."""

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from ssl_risk_rs import results
from ssl_risk_rs.decomposition import Decomposition, decompose
from ssl_risk_rs.report import render
from ssl_risk_rs.results import COLUMNS, Provenance, ResultError, check_target, save_run, tidy
from ssl_risk_rs.uncertainty import Estimate, components

FILES = ["outcomes.npz", "results.parquet", "run.json"]
PROVENANCE = Provenance(encoder="mine", data="toy", supervised="mine_supervised", control="noise")
#: a terminal in which nothing is folded
WIDE = 200


def rows(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """n points around three centres that overlap."""
    y = np.arange(n) % 3
    noise = np.random.default_rng(seed).standard_normal((n, 4))
    return (np.random.default_rng(9).standard_normal((3, 4))[y] + noise).astype(np.float32), y


def make(**options) -> Decomposition:
    (x, y), (x_test, y_test) = rows(120, 0), rows(45, 1)
    noise = np.random.default_rng(2).standard_normal((165, 3)).astype(np.float32)
    options = {"probe": "ridge", "supervised": x[:, :3], "control": (noise[:120], noise[120:]), **options}
    return decompose(x, y, x_test, y_test, name="mine", **options)


@pytest.fixture(scope="module")
def result() -> Decomposition:
    return make()


@pytest.fixture(scope="module")
def alone() -> Decomposition:
    """Without twin and control."""
    return make(supervised=None, control=None, probe="logistic")


def with_estimates(result: Decomposition, bottleneck: str = "usability", p: float = 0.5, **percent) -> Decomposition:
    """The result with made-up estimates: name = (estimate, low, high) in percent."""
    estimates = dict(result.uncertainty.estimates)
    for name, (value, low, high) in percent.items():
        estimates[name] = Estimate(name, value / 100, 0.01, low / 100, high / 100, 45)
    uncertainty = replace(result.uncertainty, estimates=estimates, bottleneck=bottleneck, bottleneck_probability=p)
    return replace(result, uncertainty=uncertainty)


def row(table: str, label: str) -> str:
    (found,) = [line for line in table.splitlines() if line.strip().startswith(label)]
    return found


def number(table: str, label: str) -> float:
    return float(row(table, label).strip().removeprefix(label).split()[0])


# --- the run folder


def test_a_run_comes_back_as_it_was(tmp_path, result, alone):
    folder = save_run(tmp_path / "deep" / "r", [result, alone], provenance=PROVENANCE)
    assert folder == tmp_path / "deep" / "r" and sorted(os.listdir(folder)) == FILES
    assert os.listdir(folder.parent) == ["r"]  # no temporary folder stays
    assert pl.read_parquet(folder / "results.parquet").equals(tidy([result, alone], PROVENANCE, "r"))

    document = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert document["schema_version"] == results.SCHEMA_VERSION
    for name, value in asdict(PROVENANCE).items():
        assert document[name] == (list(value) if isinstance(value, tuple) else value)
    for described, whole in zip(document["decompositions"], (result, alone), strict=True):
        assert described["estimates"] == {n: asdict(e) for n, e in whole.uncertainty.estimates.items()}
        assert np.array_equal(described["risk_covariance"], whole.uncertainty.covariance)
        assert described["settings"] == asdict(whole.settings) and described["alphas"] == whole.alphas
        assert described["fits"] == [asdict(fit) for fit in whole.fits]
        assert described["bottleneck"] == whole.uncertainty.bottleneck
        assert (described["control"] is None) == (whole.control is None)

    with np.load(folder / "outcomes.npz", allow_pickle=False) as outcomes:
        expected = {f"ridge_{name}": array for name, array in result.outcomes.items()}
        expected |= {f"ridge_control_{name}": array for name, array in result.control.outcomes.items()}
        expected |= {f"logistic_{name}": array for name, array in alone.outcomes.items()}
        assert set(outcomes.files) == set(expected)
        for name, array in expected.items():
            assert np.array_equal(outcomes[name], array) and outcomes[name].dtype == array.dtype


def test_save_of_a_decomposition(tmp_path, result):
    assert result.save(tmp_path / "r") == tmp_path / "r"
    assert json.loads((tmp_path / "r" / "run.json").read_text())["encoder"] == "mine"


def test_another_run_is_replaced_only_by_force(tmp_path, result, alone):
    save_run(tmp_path / "r", [result])
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ResultError, match="r exists; choose another --out, or give --force"):
        save_run(tmp_path / "r", [alone])
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    save_run(tmp_path / "r", [alone], force=True)
    assert os.listdir(tmp_path) == ["r"] and sorted(os.listdir(tmp_path / "r")) == FILES
    assert set(pl.read_parquet(tmp_path / "r" / "results.parquet")["probe"]) == {"logistic"}


def test_force_replaces_nothing_but_runs(tmp_path, result):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("notes", "file"):
        with pytest.raises(ResultError, match=f"{name} is no run folder"):
            save_run(tmp_path / name, [result], force=True)
    with pytest.raises(ResultError, match="file is no folder one can write to"):
        save_run(tmp_path / "file" / "r", [result])
    assert (tmp_path / "notes" / "a.txt").read_text() == (tmp_path / "file").read_text() == "mine"
    assert check_target(tmp_path / "a" / "b") == tmp_path / "a" / "b" and not (tmp_path / "a").exists()


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("last", ["document", "tidy", "_outcomes", "replace_folder"])
def test_a_failure_leaves_what_was_there(tmp_path, monkeypatch, result, alone, last, force):
    if force:
        save_run(tmp_path / "r", [alone])
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(results, last, fail)
    with pytest.raises(OSError, match="No space left"):
        save_run(tmp_path / "r", [result], force=force)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert os.listdir(tmp_path) == (["r"] if force else [])


def test_a_failed_replacement_puts_the_old_run_back(tmp_path, monkeypatch, result, alone):
    save_run(tmp_path / "r", [alone])
    before = (tmp_path / "r" / "run.json").read_bytes()
    rename, calls = Path.rename, []

    def second_fails(self, target):
        calls.append(target)
        if len(calls) == 2:
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", second_fails)
    with pytest.raises(OSError, match="Input/output"):
        save_run(tmp_path / "r", [result], force=True)
    assert len(calls) == 3 and (tmp_path / "r" / "run.json").read_bytes() == before
    assert os.listdir(tmp_path) == ["r"]


def test_a_killed_process_leaves_no_folder_that_looks_finished(tmp_path):
    program = f"""
import os
import numpy as np
from ssl_risk_rs import results
from ssl_risk_rs.decomposition import decompose
results._outcomes = lambda _: os._exit(9)  # run.json and results.parquet are written
x = np.random.default_rng(0).standard_normal((60, 3)).astype(np.float32)
y = np.arange(60) % 2
results.save_run({str(tmp_path / "r")!r}, [decompose(x, y, x, y, probe="ridge")])
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 9
    assert not (tmp_path / "r").exists()
    (left,) = os.listdir(tmp_path)  # hidden, and not taken for a run by anybody who looks for r
    assert left.startswith(".r.") and sorted(os.listdir(tmp_path / left)) == ["results.parquet", "run.json"]


# --- frames


def test_tidy_frame(result, alone):
    frame = tidy([result, alone], PROVENANCE, "r")
    assert tuple(frame.columns) == COLUMNS and frame["shots"].dtype == pl.String
    assert frame.select("run", "data", "protocol", "unit").unique().rows() == [("r", "toy", "strict", "fraction")]
    assert not frame.select("probe", "group", "quantity").is_duplicated().any()
    assert set(frame.select("encoder", "probe", "group").unique().rows()) == {
        ("mine", "ridge", "all"),
        ("noise", "ridge", "control"),
        ("mine", "logistic", "all"),
    }
    judged = dict(frame.filter(pl.col("probe") == "ridge", group="all").select("quantity", "split").rows())
    assert judged["risk_af"] == judged["usability"] == judged["approx"] == "train"
    assert judged["risk_as"] == judged["probe_gen"] == "subset"
    assert judged["risk_us"] == judged["enc_gen"] == judged["agg_risk"] == judged["label_count"] == "test"
    n = dict(frame.filter(pl.col("probe") == "ridge", group="all").select("quantity", "n").rows())
    assert (n["risk_af"], n["risk_us"], n["risk_as"]) == (120, 45, 3 * result.sizes["subset"])


def test_frames_of_a_decomposition(result, alone):
    for whole in (result, alone):
        names = components(supervised=whole.supervised)
        frame = whole.components
        assert frame.columns == ["component", "estimate", "se", "low", "high", "n", "conservative"]
        assert frame["component"].to_list() == components(supervised=whole.supervised, detail=True)
        estimates = dict(frame.select("component", "estimate").rows())
        # four terms below 1, each rounded once, and their sum
        assert abs(sum(estimates[name] for name in names) - estimates["agg_risk"]) <= 8 * np.finfo(float).eps
        parts = estimates["enc_gen_equal_labels"] + estimates["label_count"]
        assert abs(parts - estimates["enc_gen"]) <= 8 * np.finfo(float).eps
        risks = dict(whole.risks.select("risk", "estimate").rows())
        assert whole.risks.columns[0] == "risk" and ("risk_sup" in risks) == whole.supervised
        assert risks["risk_us"] == estimates["agg_risk"]


# --- the table


def test_a_checkpoint_is_named_without_its_folders(result):
    assert render(result, Provenance(encoder="ckpt:/a/b c/w.pth@resnet50")).startswith("ckpt:w.pth@resnet50 · ")
    assert render(result, Provenance(encoder="timm:a/b")).startswith("timm:a/b · ")


def test_table(result):
    table = render(result, PROVENANCE)
    heading, columns, *_ = table.splitlines()
    assert heading == "mine · toy 120 + 45 · 3 classes · probe: ridge (strict)"
    assert columns.split() == ["error", "95", "%", "interval", "share"]
    labels = ("approximation", "representation usability", "probe generalization", "encoder generalization")
    shown = [number(table, label) for label in labels]
    for value, name in zip(shown, components(supervised=True), strict=True):
        assert value == pytest.approx(100 * result.estimate(name), abs=0.005)  # two decimals
    total = number(table, "aggregated risk")
    assert sum(shown) == pytest.approx(total, abs=0.005 * 5) and "rows add up" in row(table, "aggregated risk")
    parts = number(table, "at equal label count") + number(table, "fewer labels set aside")
    assert parts == pytest.approx(number(table, "encoder generalization"), abs=0.005 * 3)
    assert row(table, "approximation").endswith("twin: mine_supervised")
    assert row(table, "control: enc. gen.").endswith("noise")
    assert "✓ closed form" in row(table, "checks") and "✓ components add up" in row(table, "checks")
    assert not any(line.endswith(" ") for line in table.splitlines())


def test_without_a_twin_the_first_two_rows_are_one(alone):
    table = render(alone, Provenance(encoder="mine"))
    assert number(table, "approximation + usability") == pytest.approx(100 * alone.estimate("risk_af"), abs=0.005)
    assert "representation usability" not in table and "  twin: " not in table and "control:" not in table
    assert "no supervised twin: approximation and usability are one row (--supervised names one)" in table
    assert "certified" in row(table, "checks") and "NOT converged" not in table


def test_negative_components_are_signed_and_explained(result):
    changed = with_estimates(
        result, usability=(-3.25, -4.5, -2), probe_gen=(-0.5, -1.5, 0.5), enc_gen=(2, 1, 3), agg_risk=(20, 15, 25)
    )
    table = render(changed, PROVENANCE)
    assert row(table, "representation usability").split()[2:5] == ["-3.25", "[-4.50,", "-2.00]"]
    assert "█" not in row(table, "representation usability")
    said = [line.strip() for line in table.splitlines() if line.strip().startswith("note")]
    assert any("representation usability is negative (more than chance explains): a probe on this" in s for s in said)
    assert any("probe generalization is negative (the interval covers 0): held-out" in s for s in said)
    assert not any("encoder generalization is negative" in s for s in said)


@pytest.mark.parametrize("name", ["approx", "usability", "probe_gen", "enc_gen"])
def test_the_bottleneck_is_marked_with_its_probability(result, name):
    label = {
        "approx": "approximation",
        "usability": "representation usability",
        "probe_gen": "probe generalization",
        "enc_gen": "encoder generalization",
    }[name]
    for p, shown in ((0.994, "P > 0.99"), (0.99, "P = 0.99"), (0.62, "P = 0.62")):
        table = render(with_estimates(result, name, p), PROVENANCE)
        assert table.count("bottleneck") == 1 and f"← bottleneck, {shown}" in row(table, label)
        assert "twin: mine_supervised" in row(table, "approximation")


def test_bars_show_shares(result):
    shares = {"approx": (0, 0, 1), "usability": (10, 9, 11), "probe_gen": (5, 4, 6), "enc_gen": (25, 24, 26)}
    table = render(with_estimates(result, agg_risk=(20, 15, 25), **shares), PROVENANCE)
    labels = ("approximation", "representation usability", "probe generalization", "encoder generalization")
    assert [row(table, label).count("█") for label in labels] == [0, 10, 5, 20]
    nothing = with_estimates(result, agg_risk=(0, 0, 5), **shares)
    assert "█" not in render(nothing, PROVENANCE)  # no risk, no shares


def test_rough_intervals_are_starred(result):
    few = {name: replace(e, conservative=True) for name, e in result.uncertainty.estimates.items()}
    many = {name: replace(e, conservative=False) for name, e in few.items()}
    for estimates, stars in ((few, True), (many, False)):
        table = render(replace(result, uncertainty=replace(result.uncertainty, estimates=estimates)), PROVENANCE)
        assert ("] *" in row(table, "aggregated risk") or "]  *" in row(table, "aggregated risk")) == stars
        assert ("fewer than 10 rows decide this number" in table) == stars


def test_what_was_seen_in_pretraining_is_said(result):
    seen = replace(PROVENANCE, saw_training_images=True, pretraining_data="toy")
    assert "not on these images" not in render(result, seen)
    other = replace(PROVENANCE, saw_training_images=False, pretraining_data="ImageNet-1K")
    assert "pretrained on ImageNet-1K, not on these images" in render(result, other)
    assert "a stated cut" in render(result, replace(PROVENANCE, notes=("a stated cut",)))


@pytest.mark.parametrize("width", [60, 80, 90, 100, 120])
def test_a_terminal_is_not_overrun(result, width):
    changed = with_estimates(
        result, "probe_gen", 0.999, usability=(-3, -4, -2), probe_gen=(30, 28, 32), agg_risk=(30, 26, 34)
    )
    whole, table = render(changed, PROVENANCE), render(changed, PROVENANCE, width)
    assert max(map(len, table.splitlines())) <= width < max(map(len, whole.splitlines()))
    words = [word for word in whole.split() if not set(word) <= set("█▏▎▍▌▋▊▉")]
    found = [word for word in table.split() if not set(word) <= set("█▏▎▍▌▋▊▉")]
    assert [w for w in found if w != "share"] == [w for w in words if w != "share"]  # nothing is lost
    bars = row(table, "probe generalization").count("█")
    assert bars == {60: 0, 80: 1, 90: 11, 100: 20, 120: 20}[width]
    if width >= 80:  # rows stay rows
        assert "← bottleneck, P > 0.99" in row(table, "probe generalization")
    assert render(changed, PROVENANCE, 1000) == whole
