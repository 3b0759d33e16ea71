"""`ssl-risk-rs explain`: files, banks and run folders; what is made, what is tested, what is refused."""

import csv
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import ssl_risk_rs
from cli_helpers import run
from ssl_risk_rs import import_bank
from ssl_risk_rs.results.explain import NoGap
from ssl_risk_rs.results.quantities import QUANTITIES
from ssl_risk_rs.results.run import Run
from ssl_risk_rs.workflow import features
from ssl_risk_rs.workflow.explain import explain


def save(name: str, columns: int = 8, shift: float = 0.0) -> str:
    """A file of three classes, (240, columns) and (90, columns)."""
    parts = {}
    for part, n, seed in (("train", 240, 0), ("test", 90, 1)):
        y = np.arange(n) % 3
        x = np.random.default_rng(9).standard_normal((3, 8))[y] + np.random.default_rng(seed).standard_normal((n, 8))
        parts |= {f"X_{part}": (x[:, :columns] + shift).astype(np.float32), f"y_{part}": y}
    np.savez(name, **parts)
    return name


def folders() -> list[Path]:
    return sorted(Path("runs").iterdir()) if Path("runs").exists() else []


def test_a_file_is_decomposed_kept_and_explained():
    result = run("explain", save("a.npz"), "--probe", "both")
    text = " ".join(result.stdout.split())
    assert "240 training rows · 90 test rows" in text and "guessing errs on" in text
    assert "ridge less logistic" in text and "non-linear less linear" in text
    assert "3 classes were judged by themselves" in text and "no control encoder" in text
    assert len(folders()) == 1 and "The record of a.npz is in runs" in result.stderr
    again = run("explain", folders()[0]).stdout
    assert len(folders()) == 1
    # the record does not name the file: the same sentences but for the non-linear probe
    assert "explain the files themselves" in " ".join(again.split())
    assert result.stdout.split("non-linear")[0].split("\n\n")[1] == again.split("\n\n")[1]


def test_a_file_is_read_once(monkeypatch):
    read: list[str] = []
    original = features.load_features
    monkeypatch.setattr(features, "load_features", lambda path, *a, **k: read.append(path) or original(path, *a, **k))
    run("explain", save("a.npz"), "--probe", "ridge")
    assert read == ["a.npz"]


def test_a_bank_is_found_again_from_its_run(tmp_path):
    import_bank(save("a.npz"), tmp_path / "bank")
    run("decompose", tmp_path / "bank", "--probe", "ridge", "--out", "there")
    assert "points" in run("explain", "there").stdout
    declined = " ".join(run("explain", "there", "--no-gap").stdout.split())
    assert "it was declined (--no-gap)" in declined
    shutil.rmtree(tmp_path / "bank")
    assert explain(["there"]).no_gap is NoGap.BANK_GONE


def test_the_paper_s_protocol_has_no_gap(tmp_path):
    import_bank(save("a.npz"), tmp_path / "bank")
    run("decompose", tmp_path / "bank", "--protocol", "paper", "--probe", "ridge", "--out", "there")
    assert explain(["there"]).no_gap is NoGap.PAPER


def test_a_folder_of_runs_is_no_run():
    run("explain", save("a.npz"), "--probe", "ridge", "--no-gap")
    said = run("explain", "runs", code=1).stderr
    assert "runs is a folder of 1 run folders: name one, such as runs" in said


def test_layers_are_ranked_and_other_encoders_refused():
    files = [save("late.npz"), save("early.npz", 3)]
    text = run("explain", *files, "--probe", "ridge", "--no-gap").stdout
    assert "Of 2 layers, late.npz errs least" in " ".join(text.split())
    assert text.index("late.npz  ") < text.index("early.npz  ")
    said = run("explain", files[0], files[0], code=1).stderr
    assert "a target is named twice" in said


def test_layers_of_two_encoders_are_no_layers(tmp_path):
    from ssl_risk_rs.results.provenance import BankFacts

    run("explain", save("a.npz"), save("b.npz", 4), "--probe", "ridge", "--no-gap")
    for folder, encoder in zip(folders(), ("swav", "moco"), strict=True):
        whole = Run.load(folder)
        facts = BankFacts("nowhere", encoder=encoder, feature="avgpool")
        replace(whole, provenance=replace(whole.provenance, encoder=encoder, banks={"encoder": facts})).save(encoder)
    said = run("explain", "swav", "moco", "--no-gap", code=1).stderr
    assert "layers of one encoder, and these are of moco, swav" in said and "ssl-risk-rs compare" in said


def test_a_target_that_is_no_class_is_refused(rng):
    x = rng.standard_normal((200, 5)).astype(np.float32)
    ssl_risk_rs.decompose(
        x[:140], x[:140, 0] ** 2, x[140:], x[140:, 0] ** 2, probe="ridge", target_kind="numbers"
    ).save("numbers")
    said = run("explain", "numbers", code=1).stderr
    assert "predicts numbers or labels" in said and "ssl-risk-rs report" in said


def test_rows_of_csv_and_json_are_those_of_the_frame():
    run("explain", save("a.npz"), "--probe", "ridge")
    folder = folders()[0]
    explained = ssl_risk_rs.explain([str(folder)])
    assert isinstance(explained, ssl_risk_rs.Explanation)
    assert str(explained).split() == run("explain", folder).stdout.split()  # other folds of the lines
    wanted = explained.frame()
    found = json.loads(run("explain", folder, "--format", "json").stdout)
    assert found["verdict"] in {"representation", "labels", "unseen"} and found["no_gap"] == "files"
    assert len(found["rows"]) == wanted.height and found["sentences"][0].startswith("The probe errs on")
    result = run("explain", folder, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [r["section"] for r in rows] == wanted["section"].to_list()
    assert [float(r["estimate"]) for r in rows] == wanted["estimate"].to_list()
    assert "The probe errs on" in result.stderr
    parts = wanted.filter(pl.col("section") == "class")
    of = {part.name: part for part in explained.classes}
    for row in parts.iter_rows(named=True):
        part = of[row["name"]]
        rows_judged = {"train": part.n_train, "subset": part.n_subset, "test": part.n_test}
        assert row["n"] == rows_judged[QUANTITIES[row["quantity"]].rows]
    assert parts["less_all"].null_count() == parts["carried"].null_count() == 0


@pytest.mark.parametrize(("given", "said"), [("nothing.npz", "nothing.npz"), ("runs/none", "runs/none")])
def test_what_is_not_there_is_named(given, said):
    assert said in run("explain", given, code=1).stderr


def test_groups_on_both_sides_are_refused_and_warned_of_when_asked():
    with np.load(save("a.npz")) as arrays:
        given = dict(arrays)
    groups = {f"patient_{part}": np.arange(len(given[f"y_{part}"])) // 3 for part in ("train", "test")}
    np.savez("g.npz", **given, **groups)
    line = ("explain", "g.npz", "--probe", "ridge", "--group", "patient", "--no-gap")
    assert "groups have training and test rows" in run(*line, code=1).stderr
    assert "The probe errs on" in " ".join(run(*line, "--shared-groups", "warn").stdout.split())


def test_the_probe_that_is_asked_for_is_explained():
    run("decompose", save("a.npz"), "--probe", "both", "--out", "r")
    found = {
        probe: json.loads(run("explain", "r", "--no-gap", "--format", "json", *asked).stdout)
        for probe, asked in (("default", ()), ("logistic", ("--probe", "logistic")), ("ridge", ("--probe", "ridge")))
    }
    assert found["default"] == found["logistic"]
    kept = {d.method.probe: d.estimate("agg_risk") for d in Run.load("r").decompositions}
    texts = {probe: run("explain", "r", "--no-gap", "--probe", probe).stdout for probe in kept}
    for probe, risk in kept.items():
        assert f"{probe} probe" in texts[probe] and f"{100 * risk:.2f}" in texts[probe]
    run("decompose", "a.npz", "--probe", "ridge", "--out", "only")
    assert "only has no logistic probe, only ridge" in run("explain", "only", "--probe", "logistic", code=1).stderr
    assert "ridge probe" in run("explain", "only", "--no-gap").stdout


def test_a_non_linear_probe_that_is_asked_for_is_fitted_whatever_it_takes(tmp_path, monkeypatch):
    import_bank(save("a.npz"), tmp_path / "bank")
    run("decompose", tmp_path / "bank", "--probe", "ridge", "--out", "there")
    monkeypatch.setattr("ssl_risk_rs.workflow.explain.GAP_PRODUCTS", 0)
    assert explain(["there"]).no_gap is NoGap.TOO_LARGE
    asked = explain(["there"], gap=True)
    assert asked.gap is not None and asked.no_gap is None


@pytest.mark.parametrize(("encoder", "untrained"), [("pixels:8", True), ("demo_random", True), ("demo_ssl", False)])
def test_encoders_without_training_are_known_by_their_names(encoder, untrained):
    whole = Run.load(ssl_risk_rs.decompose(*_arrays(), probe="ridge").save("r"))
    replace(whole, provenance=replace(whole.provenance, encoder=encoder)).save("named")
    assert explain(["named"], gap=False).untrained is untrained


def _arrays() -> tuple[np.ndarray, ...]:
    with np.load(save("a.npz")) as arrays:
        return tuple(arrays[f"{name}_{part}"] for part in ("train", "test") for name in ("X", "y"))


def test_what_a_class_has_less_than_all_is_in_the_rows():
    explained = ssl_risk_rs.explain([str(ssl_risk_rs.decompose(*_arrays(), probe="ridge").save("r"))])
    of = {(part.name, part.quantity): part for part in explained.classes}
    rows = explained.frame().filter(section="class").select("name", "quantity", "less_all", "carried").rows()
    assert of and rows == [(*key, part.difference, part.carried) for key, part in of.items()]
