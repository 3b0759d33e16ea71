"""Records of a run: the run folder, the tidy frame, the table."""

import json
import math
import os
import re
import subprocess
import sys
import zlib
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import jaxtyping
import numpy as np
import polars as pl
import pytest
from ssl_risk_rs import Note, compare, read_results, to_latex
from ssl_risk_rs._files import publish
from ssl_risk_rs.decomposition import decompose
from ssl_risk_rs.decomposition.intervals import quantify
from ssl_risk_rs.report.sentences import _fits, notes
from ssl_risk_rs.report.text import PLAIN, render_one
from ssl_risk_rs.results import Decomposition, Estimate, Grade, Provenance, ResultError, Run, check_target
from ssl_risk_rs.results.explain import ProbeContrast
from ssl_risk_rs.results.frames import COLUMNS, tidy
from ssl_risk_rs.results.many import epoch_text
from ssl_risk_rs.results.quantities import QUANTITIES, components
from ssl_risk_rs.results.record import Bottleneck, Penalty
from ssl_risk_rs.results.run import common_components

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


@pytest.fixture(scope="module")
def few_shot() -> Decomposition:
    """With a few-shot size and another metric."""
    return make(shots="5", draws=3, metrics="balanced")


def with_estimates(result: Decomposition, bottleneck: str = "usability", p: float = 0.5, **percent) -> Decomposition:
    """The result with made-up estimates: name = (estimate, low, high) in percent."""
    estimates = dict(result.estimates)
    for name, (value, low, high) in percent.items():
        estimates[name] = Estimate(name, value / 100, 0.01, low / 100, high / 100, 45)
    return replace(result, estimates=estimates, bottleneck=Bottleneck(bottleneck, p))


def save_run(path, decompositions, *, provenance=None, force=False) -> Path:
    return Run.of(*decompositions, provenance=provenance).save(path, force=force)


def row(table: str, label: str) -> str:
    """The first line that begins with the label."""
    return next(line for line in table.splitlines() if line.strip().startswith(label))


def number(table: str, label: str) -> float:
    return float(row(table, label).strip().removeprefix(label).split()[0])


# --- the run folder


def test_a_run_comes_back_as_it_was(tmp_path, result, alone):
    live = Run.of(result, alone, provenance=replace(PROVENANCE, notes=(Note("text", {"text": "A {stated} cut."}),)))
    folder = live.save(tmp_path / "deep" / "r")
    assert folder == tmp_path / "deep" / "r" and sorted(os.listdir(folder)) == FILES
    assert os.listdir(folder.parent) == ["r"]  # no temporary folder stays
    loaded = Run.load(folder)
    assert str(loaded) == str(live) and "A {stated} cut." in str(loaded)
    assert loaded._repr_html_() == live._repr_html_()
    assert pl.read_parquet(folder / "results.parquet").equals(loaded.frame())
    assert loaded.provenance == live.provenance and loaded.versions == live.versions and loaded.host == live.host
    for back, whole in zip(loaded.decompositions, live.decompositions, strict=True):
        same_decomposition(back, whole)
        assert (back.control is None) == (whole.control is None)
    same_decomposition(loaded.decompositions[0].control, result.control)


def same_decomposition(back: Decomposition, whole: Decomposition) -> None:
    for name in ("method", "sizes", "penalties", "fits", "notes", "bottleneck", "beta", "seconds", "covariance_of"):
        assert getattr(back, name) == getattr(whole, name), name
    assert repr(dict(back.estimates)) == repr(dict(whole.estimates))  # NaN equals itself in text
    assert repr(back.floor) == repr(whole.floor)
    assert np.array_equal(back.covariance, whole.covariance)
    ours, theirs = back.judgements.to_arrays(), whole.judgements.to_arrays()
    assert ours.keys() == theirs.keys()
    for name, array in theirs.items():
        assert np.array_equal(ours[name], array) and ours[name].dtype == array.dtype, name


@pytest.mark.parametrize("which", ["result", "alone"])
def test_every_number_can_be_computed_again_from_the_folder(tmp_path, which, request):
    whole = request.getfixturevalue(which)
    (back,) = Run.load(whole.save(tmp_path / "r")).decompositions
    again = quantify(back.judgements, probe=back.method.probe, corrected=True, confidence=back.method.confidence)
    assert repr(again.estimates) == repr(dict(whole.estimates))
    assert np.array_equal(again.covariance, whole.covariance)


def test_some_of_the_judged_rows_are_those_of_every_field(rng):
    """Against each field by itself; the rows that a field has are told by its length."""
    groups = np.arange(120) // 4, 1000 + np.arange(45) // 3
    judged = make(order="both", groups=groups, probe="logistic").judgements
    train, test = rng.permutation(120)[:70], rng.permutation(45)[:30]
    some = judged.take(train, test)
    held = np.flatnonzero(judged.in_subset)  # the row of each held-out outcome
    taken = [held.tolist().index(row) for row in train[judged.in_subset[train]]]
    rows = {120: train, 45: test, len(held): taken}
    assert len(rows) == 3 and all(
        v is not None
        for v in (
            some.other_penalties,
            some.other_penalties_held,
            some.uf,
            some.sup,
            some.fold_margins,
            some.train_groups,
        )
    )
    for f in fields(judged):
        before, now = getattr(judged, f.name), getattr(some, f.name)
        if f.name == "class_names" or before is None:
            assert now == before
        elif f.name == "penalty_chances":
            np.testing.assert_array_equal(now, before)
        elif f.name.startswith("fold_"):
            np.testing.assert_array_equal(now, before[:, taken if f.name.endswith("_held") else test], err_msg=f.name)
        else:
            pairs = zip(before, now, strict=True) if isinstance(before, tuple) else [(before, now)]
            for one, other in pairs:
                parts = fields(one) if is_dataclass(one) else ()
                arrays = [(getattr(one, p.name), getattr(other, p.name)) for p in parts] or [(one, other)]
                for was, there in arrays:
                    np.testing.assert_array_equal(there, was[rows[len(was)]], err_msg=f.name)
    assert judged.take(np.arange(120), np.arange(45)) is judged


def test_a_run_with_groups_comes_back(tmp_path):
    (x, y), (x_test, y_test) = rows(240, 0), rows(120, 1)
    groups = [f"slide-{i // 5}" for i in range(240)], [f"other-{i // 5}" for i in range(120)]
    whole = decompose(x, y, x_test, y_test, groups=groups, probe="ridge")
    loaded = Run.load(whole.save(tmp_path / "r"))
    assert str(loaded) == str(whole) and "whole groups" in str(loaded)
    assert loaded.decompositions[0].judgements.train_groups.tolist() == [g.encode() for g in groups[0]]
    same_decomposition(loaded.decompositions[0], whole)


def test_runs_of_version_1_are_read(tmp_path):
    folder = tmp_path / "old"
    folder.mkdir()
    risks = {"risk_af": 0.05, "risk_as": 0.12, "risk_cs": 0.16, "risk_us": 0.15}
    values = risks | {"approx_usability": 0.05, "probe_gen": 0.07, "enc_gen": 0.03, "enc_gen_equal_labels": 0.04,
                      "label_count": -0.01, "agg_risk": 0.15}  # fmt: skip
    old = {
        "schema_version": 1, "created": "2026-11-20T10:00:00+00:00", "versions": {"ssl-risk-rs": "0.1.0"},
        "host": {"machine": "x86_64", "system": "Linux", "cpus": 2}, "arguments": ["decompose", "f.npz"],
        "encoder": "f.npz", "data": "features", "command": "ssl-risk-rs decompose f.npz", "supervised": None,
        "control": None, "pretraining_data": None, "saw_training_images": None, "banks": {}, "notes": ["a cut"],
        "decompositions": [
            {
                "name": "f.npz",
                "settings": {"probe": "logistic", "protocol": "strict", "scaling": "standardize", "n_folds": 5,
                             "tuning_folds": None, "n_subsets": None, "subset_size": None, "floor": 1e-5, "tol": 3e-4,
                             "max_passes": 300, "confidence": 0.95, "random_counts": False, "seed": 0,
                             "n_threads": None},
                "sizes": {"train": 300, "test": 100, "subset": 20, "subsets": 3, "classes": 3, "folds": 5,
                          "folds_judged": 5},
                "alphas": {"tuned": 1e-2, "floor": 1e-5, "mean_variance": 1.0},
                "estimates": {
                    name: {"quantity": name, "estimate": v, "se": 0.01, "low": v - 0.02, "high": v + 0.02, "n": 100,
                           "conservative": name == "label_count"}
                    for name, v in values.items()
                },
                "risk_covariance": np.eye(5).tolist(), "control_variate_beta": 0.4, "bottleneck": "probe_gen",
                "bottleneck_probability": 0.9, "risk_af_one_decade_above_the_floor": 0.06, "converged": True,
                "passes": 3.0,
                "fits": [{"role": "full", "probe": "logistic", "alpha": 1e-2, "n": 300, "converged": True,
                          "stop": "certified", "passes": 3.0, "reduced_passes": 0.0, "gap": 1e-4, "objective": 0.3,
                          "seconds": 0.1}],
                "notes": ["separable: something"], "seconds": 1.0, "control": None,
            }
        ],
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(old), encoding="utf-8")
    loaded = Run.load(folder)
    (d,) = loaded.decompositions
    assert {name: d.estimate(name) for name in values} == values
    assert d.estimates["label_count"].grade is Grade.FEW_ROWS and d.estimates["agg_risk"].grade is Grade.SOUND
    assert d.judgements is None and d.floor.risk_above == 0.06 and d.bottleneck.probability == 0.9
    table = str(loaded)
    assert number(table, "probe generalization") == 7.0 and "separable: something" in table and "a cut" in table
    assert loaded.frame().height == len(values)
    loaded.save(tmp_path / "new")  # and is written as the present version
    assert number(str(Run.load(tmp_path / "new")), "probe generalization") == 7.0
    old["decompositions"][0]["sizes"]["subsets"] = 10**12
    (folder / "run.json").write_text(json.dumps(old), encoding="utf-8")
    with pytest.raises(ResultError, match=r"old is damaged.*1000000000000 held-out subsets are recorded"):
        Run.load(folder)


def test_what_is_no_run_is_said(tmp_path, result):
    with pytest.raises(ResultError, match="nothing is no run folder"):
        Run.load(tmp_path / "nothing")
    folder = result.save(tmp_path / "r")
    document = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    (folder / "run.json").write_text(json.dumps(document | {"schema_version": 99}), encoding="utf-8")
    with pytest.raises(ResultError, match="schema version 99; this release reads 1 to 2"):
        Run.load(folder)
    del document["decompositions"][0]["sizes"]
    (folder / "run.json").write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(ResultError, match="damaged, or no run folder: KeyError 'sizes'"):
        Run.load(folder)
    (folder / "run.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ResultError, match="damaged"):
        Run.load(folder)
    folder = result.save(tmp_path / "r", force=True)
    archive = (folder / "outcomes.npz").read_bytes()
    (folder / "outcomes.npz").write_bytes(archive[: len(archive) // 2])
    with pytest.raises(ResultError, match="damaged"):
        Run.load(folder)


@pytest.fixture
def unchecked_arrays(monkeypatch):
    """Arrays of any shape reach the package, as they do outside of the tests."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def change_estimate(document: dict) -> None:
    document["decompositions"][0]["estimates"]["agg_risk"]["estimate"] += 1e-3


def lose_estimate(document: dict) -> None:
    document["decompositions"][0]["estimates"]["risk_as"]["estimate"] = None


def at(*place):
    """Puts the last of `place` where the others lead in the record of a decomposition."""
    *there, name, value = place

    def change(document: dict) -> None:
        found = document["decompositions"][0]
        for step in there:
            found = found[step]
        found[name] = value

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"0.us.predicted": lambda a: a + 1000}, "predictions of R_US lie between 1000"),
        ({"0.us.predicted": lambda a: a[:-1]}, "predictions of R_US are"),
        ({"0.us.rank": lambda a: a.astype(float) * -1}, "ranks of R_US are float64"),
        ({"0.us.rank": lambda a: a[:, None]}, r"ranks of R_US are uint32\(45, 1\)"),
        ({"0.us.loss": lambda a: a * np.nan}, "losses of R_US are not all finite"),
        ({"0.af.rank": lambda a: 1 - np.minimum(a, 1)}, "risk_af .* by the outcomes"),
        ({"0.cs_0.rank": lambda a: 1 - np.minimum(a, 1)}, "risk_cs .* by the outcomes"),
        ({"0.control.us.rank": lambda a: 1 - np.minimum(a, 1)}, "of the control encoder, risk_us"),
        ({"0.test_ids": lambda a: a[:-1]}, "ids of test rows are"),
        ({"0.test_labels": lambda a: a + 77}, "labels of test rows lie between 77 and 79"),
        ({"0.class_names": lambda a: a[:1]}, "labels of training rows lie between 0 and 2"),
        ({"0.fold": lambda a: a + 1}, "folds lie between 0"),
        ({"0.subset": lambda a: np.where(a == -1, -1, 0).astype(a.dtype)}, "held-out subsets have"),
        ({"0.fold_losses": lambda a: a[:, :3]}, "losses of the folds are"),
        ({"0.penalty_chances": lambda a: a / 2}, r"chances of the penalties are \[.*\], whose sum is to be 1"),
        ({"0.penalty_chances": lambda a: np.append(a, 0.1)}, "chances of the penalties are float64"),
        ({"0.covariance": lambda a: a[:2, :2]}, "the covariance has the shape"),
        ({"0.shots.5.draws": lambda a: a + 120}, "draws of 5 shots lie between"),
        ({"0.shots.5.wrong_test": lambda a: ~a}, r"risk_us \(5 shots\) .* by the outcomes"),
        (change_estimate, "agg_risk .* is recorded as"),
        (at("bottleneck", "probability", 1.5), r"with a probability of 1\.5"),
        (at("sizes", "chance", 0.2), r"the error of guessing is recorded as 0\.2, and 0\.\d+ by the labels"),
        (at("sizes", "classes", 7), "7 classes are recorded, and training rows have 3"),
        (at("sizes", "features", -3), "-3 features are recorded"),
        (at("probe_variance", -1.0), "the probe's own variance is recorded as -1"),
        (at("sizes", "subsets", 10**12), "1000000000000 held-out subsets are recorded, and a run has at most 127"),
        (at("sizes", "subsets", -1), "-1 held-out subsets"),
        (at("sizes", "folds", 10**25), "10000000000000000000000000 folds are recorded"),
        (at("estimates", "risk_af", "n", 10**25), "risk_af is recorded as judged on 10000000000000000000000000 rows"),
        (at("estimates", "risk_af", "n", -1), "risk_af is recorded as judged on -1 rows"),
        (at("estimates", "risk_af", "n_groups", 10**20), "risk_af is recorded as judged on 100000000000000000000 gr"),
        (at("metrics", 0, "estimates", "risk_us", "n_groups", 2**63), "risk_us is recorded as judged on"),
        (at("shots", 0, "estimates", "risk_us", "n", 2**63), "risk_us is recorded as judged on"),
        (at("control", "sizes", "subsets", 10**12), "of the control encoder, 1000000000000 held-out subsets"),
        (at("estimates", "probe_gen", "se", 1e308), "probe_gen is .* with a standard error of 1e.308, which no error"),
        (at("penalties", "tuned", "value", 7.0), "the penalty tuned is 7, which is none of the values tried"),
        (at("penalties", "tuned", "rows", [0]), "the penalty tuned has 1 numbers of rows for"),
        (at("penalties", "tuned", "rows", 0, 0), "values of the penalty tuned are recorded as judged on 0 to"),
        (at("notes", [{"code": "zz", "values": {}}]), "the note 'zz' cannot be read"),
        (at("notes", [{"code": "cut_made", "values": {"file": "f"}}]), "the note 'cut_made' cannot be read"),
        (lose_estimate, "risk_as has no finite estimate"),
        (lambda document: document["decompositions"][0]["method"].update(confidence=2.0), "confidence 2.0"),
        (lambda document: document["decompositions"][0]["metrics"][0].update(metric="zz"), "metric 'zz'"),
        (lambda document: document["decompositions"][0]["estimates"].pop("enc_gen"), "no enc_gen is recorded"),
    ],
)
def test_files_of_different_runs_are_no_run(few_shot, tmp_path, unchecked_arrays, change, said):
    folder = few_shot.save(tmp_path / "r")
    if callable(change):
        document = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        change(document)
        (folder / "run.json").write_text(json.dumps(document), encoding="utf-8")
    else:
        with np.load(folder / "outcomes.npz") as archive:
            arrays = dict(archive)
        np.savez(folder / "outcomes.npz", **arrays | {name: f(arrays[name]) for name, f in change.items()})
    with pytest.raises(
        ResultError, match=f"r: run.json and outcomes.npz are not of the same run.*{said}.*run it again"
    ):
        Run.load(folder)


def numbers_of(value, path=()):
    """Paths to every number in a record."""
    if isinstance(value, dict):
        return [p for key, item in value.items() for p in numbers_of(item, (*path, key))]
    if isinstance(value, list):
        return [p for i, item in enumerate(value) for p in numbers_of(item, (*path, i))]
    return [path] if isinstance(value, float) else []


def test_no_number_of_a_record_can_be_changed_unnoticed(few_shot, tmp_path):
    folder = few_shot.save(tmp_path / "r")
    text = (folder / "run.json").read_text(encoding="utf-8")
    paths = numbers_of(json.loads(text))
    assert len(paths) > 200
    for path in paths[:: len(paths) // 40]:
        document = json.loads(text)
        inner = document
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] *= 1.1
        inner[path[-1]] += 1e-3
        (folder / "run.json").write_text(json.dumps(document), encoding="utf-8")
        for read in (Run.load, read_results):
            with pytest.raises(ResultError, match=r"record|changed"):
                read(folder)


def test_a_record_that_is_laid_out_anew_is_the_same(few_shot, tmp_path):
    folder = few_shot.save(tmp_path / "r")
    document = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    turned = dict(sorted(document.items(), reverse=True))
    (folder / "run.json").write_text(json.dumps(turned, indent=7), encoding="utf-8")
    assert str(Run.load(folder)) == str(few_shot)


def test_outcomes_that_nothing_else_holds_are_hashed(few_shot, tmp_path):
    folder = few_shot.save(tmp_path / "r")
    with np.load(folder / "outcomes.npz") as archive:
        arrays = dict(archive)
    np.savez(folder / "outcomes.npz", **arrays | {"0.covariance": arrays["0.covariance"] * 2})
    with pytest.raises(ResultError, match=r"r: outcomes\.npz was changed after it was written.*run it again"):
        Run.load(folder)


@pytest.mark.parametrize("named", [None, {}, {"run.json": 1}, "f" * 64])
def test_digests_that_are_none_are_told(few_shot, tmp_path, named):
    folder = few_shot.save(tmp_path / "r")
    document = json.loads((folder / "run.json").read_text(encoding="utf-8")) | {"sha256": named}
    (folder / "run.json").write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(ResultError, match=r"run\.json was changed after it was written"):
        Run.load(folder)


def test_records_of_earlier_builds_have_no_digests(few_shot, tmp_path):
    folder = few_shot.save(tmp_path / "r")
    document = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    del document["sha256"]
    (folder / "run.json").write_text(json.dumps(document), encoding="utf-8")
    assert str(Run.load(folder)) == str(few_shot)


def test_outcomes_of_more_rows_than_there_are_bits_are_damaged(few_shot, tmp_path, unchecked_arrays):
    folder = few_shot.save(tmp_path / "r")
    with np.load(folder / "outcomes.npz") as archive:
        arrays = dict(archive)
    np.savez(folder / "outcomes.npz", **arrays | {"0.shots.5.n_test": np.array(10**12)})
    with pytest.raises(ResultError, match=r"r is damaged.* wrong_test are \(3, 6\), too few for 1000000000000 rows"):
        Run.load(folder)


@pytest.mark.parametrize(
    "options",
    [
        {"protocol": "paper", "probe": "logistic"},
        {"order": "both", "random_counts": True},
        {"order": "alternative", "shots": "5", "draws": 3},
        {"groups": True, "midpoint": True},
        {"probe": "logistic", "metrics": "balanced,log_loss,ece"},
    ],
)
def test_runs_of_every_kind_agree_with_their_outcomes(tmp_path, options):
    if options.get("groups"):
        options = {**options, "groups": (np.arange(120) // 2, 1000 + np.arange(45))}
    made = make(**options)
    assert str(Run.load(made.save(tmp_path / "r"))) == str(made)


@pytest.mark.parametrize("kind", ["numbers", "labels"])
def test_runs_of_numbers_and_labels_agree_with_their_outcomes(tmp_path, kind):
    (x, _), (x_test, _) = rows(120, 0), rows(45, 1)
    y, y_test = (np.ascontiguousarray(part[:, :2] + part[:, 1:3]) for part in (x, x_test))
    if kind == "labels":
        y, y_test = (y > 0).astype(np.uint8), (y_test > 0).astype(np.uint8)
    made = decompose(x, y, x_test, y_test, probe="ridge", target_kind=kind)
    assert str(Run.load(made.save(tmp_path / "r"))) == str(made)


@pytest.mark.parametrize(("field", "value"), [("probe", "svm"), ("protocol", "lax"), ("scaling", "none of these")])
def test_a_choice_that_nobody_has_is_damage(tmp_path, alone, field, value):
    alone.save(tmp_path / "r")
    record = json.loads((tmp_path / "r/run.json").read_text())
    record["decompositions"][0]["method"][field] = value
    (tmp_path / "r/run.json").write_text(json.dumps(record))
    with pytest.raises(ResultError, match=value):
        Run.load(tmp_path / "r")


def test_a_run_without_decompositions_is_no_run(tmp_path, result):
    folder = result.save(tmp_path / "r")
    document = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    (folder / "run.json").write_text(json.dumps(document | {"decompositions": []}), encoding="utf-8")
    with pytest.raises(ResultError, match="holds no decomposition"):
        Run.load(folder)
    (folder / "run.json").write_text("[" * 100_000, encoding="utf-8")
    with pytest.raises(ResultError, match="RecursionError"):
        Run.load(folder)


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


def test_a_run_that_appears_meanwhile_is_not_replaced(tmp_path, monkeypatch, result, alone):
    """Two programs that write the same folder at once: the second to finish is told."""

    def made_meanwhile(self):
        if not (tmp_path / "r").exists():
            monkeypatch.undo()
            save_run(tmp_path / "r", [alone])
        return {}

    monkeypatch.setattr("ssl_risk_rs.results.run.Run._arrays", made_meanwhile)
    with pytest.raises(ResultError, match="r was made by another run meanwhile"):
        save_run(tmp_path / "r", [result])
    assert os.listdir(tmp_path) == ["r"]
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


def test_force_keeps_what_is_none_of_a_run(tmp_path, monkeypatch, result, alone):
    place = save_run(tmp_path / "r", [alone])
    for name in ("report.html", "geometry.parquet", "draws_0_ridge.parquet", ".results.parquet.7-01234567.tmp"):
        (place / name).write_bytes(b"")
    (place / "mynotes.txt").write_text("mine")
    (place / "figs").mkdir()
    (place / "figs" / "a.svg").write_text("drawn")
    (place / "link").symlink_to("nowhere")
    save_run(tmp_path / "r", [result], force=True)
    assert sorted(os.listdir(place)) == sorted([*FILES, "figs", "link", "mynotes.txt"])
    assert (place / "mynotes.txt").read_text() == "mine" and (place / "figs" / "a.svg").read_text() == "drawn"
    assert str(Run.load(place).main) == str(result) and os.readlink(place / "link") == "nowhere"
    monkeypatch.chdir(place / "figs")
    for where in (place, ".."):
        with pytest.raises(ResultError, match="is the folder this command works in"):
            check_target(where, force=True)


def test_a_run_that_is_a_link_is_replaced_where_it_lies(tmp_path, result, alone):
    save_run(tmp_path / "real", [alone])
    (tmp_path / "link").symlink_to("real")
    save_run(tmp_path / "link", [result], force=True)
    assert (tmp_path / "link").is_symlink() and str(Run.load(tmp_path / "real").main) == str(result)
    assert sorted(os.listdir(tmp_path)) == ["link", "real"]
    (tmp_path / "lost").symlink_to("nowhere")
    for force in (False, True):
        with pytest.raises(ResultError, match=r"lost is a link to .*nowhere, which is not there"):
            check_target(tmp_path / "lost", force=force)


def test_what_writers_that_died_have_left_goes_after_a_day(tmp_path, monkeypatch, result):
    theirs = [".r.77-01234567.tmp", ".r.78-01234567.tmp"]
    others = [f".r.{os.getpid()}-01234567.tmp", ".r.2.77-01234567.tmp", ".rr.77-01234567.tmp", ".r.notes.tmp"]
    for name in (*theirs, *others):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text("{}")
        os.utime(tmp_path / name, (0, 0))  # a run that was put aside keeps its own time; when it was renamed is ctime
    save_run(tmp_path / "r", [result])
    assert sorted(os.listdir(tmp_path)) == sorted([*theirs, *others, "r"])
    monkeypatch.setattr("ssl_risk_rs._files.FORGOTTEN", -1)
    save_run(tmp_path / "r", [result], force=True)
    assert sorted(os.listdir(tmp_path)) == sorted([*others, "r"])
    with pytest.raises(ResultError, match=r"is not there, and 2 run folders lie in it, such as .*/r$"):
        Run.load(tmp_path)  # what is on its way is none of them; .r.notes.tmp is somebody's


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("last", ["Run._document", "tidy", "Run._arrays", "replace_folder"])
def test_a_failure_leaves_what_was_there(tmp_path, monkeypatch, result, alone, last, force):
    if force:
        save_run(tmp_path / "r", [alone])
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(f"ssl_risk_rs.results.run.{last}", fail)
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
import re
import numpy as np
from ssl_risk_rs.results import Run
from ssl_risk_rs.decomposition import decompose
Run._arrays = lambda _: os._exit(9)  # results.parquet is written
x = np.random.default_rng(0).standard_normal((60, 3)).astype(np.float32)
y = np.arange(60) % 2
decompose(x, y, x, y, probe="ridge").save({str(tmp_path / "r")!r})
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 9
    assert not (tmp_path / "r").exists()
    (left,) = os.listdir(tmp_path)  # hidden, and not taken for a run by anybody who looks for r
    assert left.startswith(".r.") and sorted(os.listdir(tmp_path / left)) == ["results.parquet"]


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
    assert (n["risk_af"], n["risk_us"], n["risk_as"]) == (120, 45, sum(result.sizes.subset_rows))


def test_frames_of_a_decomposition(result, alone):
    for whole in (result, alone):
        names = components(supervised=whole.supervised)
        frame = whole.components
        assert frame.columns == ["component", "estimate", "se", "low", "high", "n", "n_groups", "df", "grade"]
        detail = ["enc_gen_equal_labels", "label_count"]
        assert frame["component"].to_list() == [*names, *detail, "agg_risk"]
        estimates = dict(frame.select("component", "estimate").rows())
        # four terms below 1, each rounded once, and their sum
        assert abs(sum(estimates[name] for name in names) - estimates["agg_risk"]) <= 8 * np.finfo(float).eps
        parts = estimates["enc_gen_equal_labels"] + estimates["label_count"]
        assert abs(parts - estimates["enc_gen"]) <= 8 * np.finfo(float).eps
        risks = dict(whole.risks.select("risk", "estimate").rows())
        assert whole.risks.columns[0] == "risk" and ("risk_sup" in risks) == whole.supervised
        assert risks["risk_us"] == estimates["agg_risk"]


# --- the table


def render(result: Decomposition, provenance: Provenance, width: int | None = None) -> str:
    return render_one(result, provenance, width)


def test_a_checkpoint_is_named_without_its_folders(result):
    assert render(result, Provenance(encoder="ckpt:/a/b c/w.pth@resnet50")).startswith("ckpt:w.pth@resnet50 on ")
    assert render(result, Provenance(encoder="timm:a/b")).startswith("timm:a/b on ")


def test_table(result):
    table = render(result, PROVENANCE)
    heading, facts, columns, *_ = table.splitlines()
    assert heading == "mine on toy · ridge probe (strict protocol)"
    chance = 100 * (1 - 45 // 3 / 45)
    assert facts.split(" · ") == [
        "  120 training rows", "45 test rows", "4 features", "3 classes", f"chance level {chance:.2f} %",
    ]  # fmt: skip
    assert columns.split() == ["error", "%", "95", "%", "interval"]
    labels = [QUANTITIES[name].label for name in components(supervised=True)]
    shown = [number(table, label) for label in labels]
    for value, name in zip(shown, components(supervised=True), strict=True):
        assert value == pytest.approx(100 * result.estimate(name), abs=0.005)  # two decimals
    total = number(table, "aggregated risk")
    assert sum(shown) == pytest.approx(total, abs=0.005 * 5)
    parts = number(table, "at equal label count") + number(table, "labels set aside")
    assert parts == pytest.approx(number(table, "encoder generalization"), abs=0.005 * 3)
    assert row(table, "approximation").endswith("twin: mine_supervised")
    assert row(table, "control: encoder gen.").endswith("noise")
    assert f"✓ {len(result.fits)} fits are solved in closed form" in table
    assert not any(line.endswith(" ") for line in table.splitlines())
    said = [line for line in table.splitlines() if line.strip().startswith("note")]
    assert len(said) == len(set(said))  # each once


def test_without_a_twin_the_first_two_rows_are_one(alone):
    table = render(alone, Provenance(encoder="mine", no_control="none was asked for"))
    assert number(table, "approximation + usability") == pytest.approx(100 * alone.estimate("risk_af"), abs=0.005)
    assert "representation usability" not in table and "  twin: " not in table and "control: encoder" not in table
    assert "There is no supervised twin, so approximation and usability are one row" in table
    assert "There is no control encoder: none was asked for." in table
    assert "fits are proven to be within" in table and "missed their tolerance" not in table


def test_what_rounds_to_zero_has_no_sign(few_shot):
    tiny = -1e-7

    def small(estimates):
        """Components; a risk is at least 0."""
        changed = {
            name: replace(e, estimate=tiny, low=tiny, high=tiny)
            for name, e in estimates.items()
            if QUANTITIES[name].kind != "risk"
        }
        return {**estimates, **changed}

    d = replace(
        few_shot,
        estimates=small(few_shot.estimates),
        metrics=tuple(replace(m, estimates=small(m.estimates)) for m in few_shot.metrics),
        shots=tuple(replace(s, estimates=small(s.estimates)) for s in few_shot.shots),
    )
    d = d.with_control(replace(d.control, estimates=small(d.control.estimates)))
    run = Run.of(d, provenance=PROVENANCE)
    pairs = compare([few_shot, replace(few_shot, name="same")])
    same = replace(pairs, differences=tuple(replace(p, difference=tiny, low=tiny) for p in pairs.differences))
    for shown in (str(run), run._repr_html_(), to_latex(run), str(same), to_latex(same)):
        assert "0.00" in shown and not re.search(r"[-−]0\.0+(?![0-9])", shown)


def test_checks_can_fail(alone):
    fits = (*alone.fits[1:], replace(alone.fits[0], converged=False, stop="max_passes"))
    penalties = {**alone.penalties, "tuned": replace(alone.penalties["tuned"], inside=False)}
    table = render(replace(alone, fits=fits, penalties=penalties), PROVENANCE)
    assert "1 missed their tolerance" in row(table, "✗ ")
    missed = [line for line in table.splitlines() if line.startswith("  ✗")]
    assert len(missed) == 2  # the fits, and the penalty
    table = render(replace(alone, penalties=penalties), PROVENANCE)
    assert "the tuned penalty is at the end of its grid" in table


def test_negative_components_are_signed_and_explained(result):
    changed = with_estimates(
        result, usability=(-3.25, -4.5, -2), probe_gen=(-0.5, -1.5, 0.5), enc_gen=(2, 1, 3), agg_risk=(20, 15, 25)
    )
    table = render(changed, PROVENANCE)
    assert row(table, "representation usability").split()[2:6] == ["-3.25", "[", "-4.50,", "-2.00]"]
    assert "█" not in row(table, "representation usability")
    said = [line.strip() for line in table.splitlines() if line.strip().startswith("note")]
    assert any("representation usability is negative (more than chance explains): a probe on this" in s for s in said)
    assert any("probe generalization is negative (its interval holds 0): held-out" in s for s in said)
    assert not any("encoder generalization is negative" in s for s in said)


@pytest.mark.parametrize("name", ["approx", "usability", "probe_gen", "enc_gen"])
def test_the_largest_component_is_marked_with_its_probability(result, name):
    label = QUANTITIES[name].label
    for p, shown in ((0.994, "P > 0.99"), (0.99, "P = 0.99"), (0.62, "P = 0.62")):
        table = render(with_estimates(result, name, p), PROVENANCE)
        assert table.count("← largest") == 1 and f"← largest, {shown}" in row(table, label)
        assert "twin: mine_supervised" in row(table, "approximation")
    assert "← largest" not in render(with_estimates(result, name, None), PROVENANCE)  # not identified


def test_bars_show_shares(result):
    shares = {"approx": (0, 0, 1), "usability": (10, 9, 11), "probe_gen": (5, 4, 6), "enc_gen": (25, 24, 26)}
    table = render(with_estimates(result, agg_risk=(20, 15, 25), **shares), PROVENANCE)
    labels = [QUANTITIES[name].label for name in components(supervised=True)]
    assert [row(table, label).count("█") for label in labels] == [0, 10, 5, 20]
    nothing = with_estimates(result, agg_risk=(0, 0, 5), **shares)
    assert "█" not in render(nothing, PROVENANCE)  # no risk, no shares


@pytest.mark.parametrize(
    ("grade", "mark", "said"),
    [
        (Grade.FEW_ROWS, "*", "fewer than 10 rows decide"),
        (Grade.FEW_GROUPS, "†", "fewer than 20 groups"),
        (Grade.INDICATIVE, "‡", "indicative only"),
        (Grade.NONE, "–", "too few groups for an interval"),
        (Grade.SOUND, "", ""),
    ],
)
def test_rough_intervals_are_marked(result, grade, mark, said):
    low = math.nan if grade is Grade.NONE else 0.1
    marked = {name: replace(e, grade=grade, low=low) for name, e in result.estimates.items()}
    table = render(replace(result, estimates=marked), PROVENANCE)
    line = row(table, "aggregated risk")
    assert ("no interval" in line) == (grade is Grade.NONE)
    assert line.endswith(mark) if mark else line.endswith("]")
    for text in ("fewer than 10 rows decide", "fewer than 20 groups", "indicative only", "too few groups"):
        assert (text in table) == (text in said), text


def test_what_was_seen_in_pretraining_is_said(result):
    seen = replace(PROVENANCE, saw_training_images=True, pretraining_data="toy")
    assert "not on these images" not in render(result, seen)
    other = replace(PROVENANCE, saw_training_images=False, pretraining_data="ImageNet-1K")
    assert "pretrained on ImageNet-1K, not on these images" in render(result, other)
    cut = replace(PROVENANCE, notes=(Note("text", {"text": "A stated cut."}),))
    assert "A stated cut." in render(result, cut)


@pytest.mark.parametrize("width", [60, 80, 90, 100, 120])
def test_a_terminal_is_not_overrun(result, width):
    changed = with_estimates(
        result, "probe_gen", 0.999, usability=(-3, -4, -2), probe_gen=(30, 28, 32), agg_risk=(30, 26, 34)
    )
    whole, table = render(changed, PROVENANCE), render(changed, PROVENANCE, width)
    assert max(map(len, table.splitlines())) <= width < max(map(len, whole.splitlines()))
    words = [word for word in whole.split() if not set(word) <= set("█▏▎▍▌▋▊▉")]
    found = [word for word in table.split() if not set(word) <= set("█▏▎▍▌▋▊▉")]
    assert found == words  # nothing is lost
    if width >= 90:  # rows stay rows
        assert "← largest, P > 0.99" in row(table, "probe generalization")
    assert render(changed, PROVENANCE, 1000) == whole


def test_the_table_can_be_shown_in_plain_characters(result, alone):
    text = str(Run.of(result, alone, provenance=PROVENANCE)).translate(PLAIN)
    assert text.encode("ascii")


def test_a_result_draws_its_components(result):
    pytest.importorskip("altair")
    drawn = json.dumps(result.plot(500).to_dict())
    assert result.name in drawn and '"probe gen."' in drawn


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left"), pl.exceptions.ComputeError("write failed: No space left (os error 28)")]
)
def test_a_full_disk_names_the_file_that_could_not_be_written(tmp_path, error):
    def write(_):
        raise error

    with pytest.raises(OSError, match=r"No space left on device.*x\.parquet"):
        publish(tmp_path / "x.parquet", write)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [  # further cases of test_files_of_different_runs_are_no_run
        ({"0.us.margin": lambda a: a * np.nan}, "margins of R_US are not all finite"),
        ({"0.fold_ranks": lambda a: a + np.uint16(3)}, "ranks of the folds lie between 3"),
        (
            {"0.test_labels": lambda a: np.where(np.arange(len(a)) == 0, 3, a).astype(a.dtype)},
            "labels of test rows lie",
        ),
        ({"0.test_ids": lambda a: a.astype(str)}, "ids of test rows are <U"),
        ({"0.shots.5.judged": lambda a: a + 120}, "judged rows of 5 shots lie between"),
        ({"0.shots.5.n_test": lambda a: a - 1}, r"test rows of 5 shots have the shape \(3, 44\)"),
        (at("metrics", 0, "estimates", "risk_us", "estimate", 0.9), r"risk_us \(class-balanced error\) is recorded as"),
        (at("method", "confidence", 0.0), "confidence 0.0 is not between"),
    ],
)
def test_files_of_different_runs_are_no_run_2(few_shot, tmp_path, unchecked_arrays, change, said):
    test_files_of_different_runs_are_no_run(few_shot, tmp_path, unchecked_arrays, change, said)


def test_a_negative_part_of_rounding_is_not_called_negative(result):
    said = [note.sentence() for note in notes(with_estimates(result, enc_gen=(-1e-13, -1, 1)), PROVENANCE)]
    assert not any("encoder generalization is negative" in each for each in said)


def test_class_shares_explain_no_more_than_they_make(result):
    changed = with_estimates(result, enc_gen=(-8, -12, -4))
    for points, weight in ((-5.0, "no more than the class shares"), (-1.0, "more than chance explains")):
        shares = replace(changed, notes=(*changed.notes, Note("other_class_shares", {"points": points})))
        (said,) = (
            n.sentence() for n in notes(shares, PROVENANCE) if n.code == "negative" and "encoder" in n.sentence()
        )
        assert weight in said
    (plain,) = (n.sentence() for n in notes(changed, PROVENANCE) if n.code == "negative" and "encoder" in n.sentence())
    assert "more than chance explains" in plain


def test_what_rests_on_the_floor_is_said_with_both_errors(result):
    above = result.estimate("risk_af") + 0.05
    moved = replace(result, floor=replace(result.floor, risk_above=above, separable=False))
    (said,) = (n for n in notes(moved, PROVENANCE) if n.code == "floor_sensitivity")
    assert f"R_AF is {100 * result.estimate('risk_af'):.2f} % at" in said.sentence()
    assert f"{100 * above:.2f} % one decade above" in said.sentence()
    for floor in (replace(moved.floor, separable=True), replace(moved.floor, risk_above=math.nan)):
        assert "floor_sensitivity" not in {n.code for n in notes(replace(moved, floor=floor), PROVENANCE)}


def test_the_midpoint_is_said():
    found = make(midpoint=True)
    (said,) = (n.sentence() for n in notes(found, PROVENANCE) if n.code == "midpoint")
    assert f"is {100 * found.estimate('risk_af_midpoint'):.2f} %" in said


def test_the_worst_gap_is_the_one_that_is_told(alone):
    fits = [
        replace(fit, converged=True, stop="certified", gap=gap)
        for fit, gap in zip(alone.fits, (1e-3, 1e-6), strict=False)
    ]
    assert "2 fits are proven to be within 1e-03 of their optimum" in _fits(replace(alone, fits=tuple(fits))).text


def test_units_of_another_run_of_numbers_are_no_run(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((120, 3)).astype(np.float32)
    y = x[:, 0] + rng.standard_normal(120)
    found = decompose(x[:80], y[:80], x[80:], y[80:], probe="ridge", target_kind="numbers", n_threads=1)
    file = found.save(tmp_path / "run") / "outcomes.npz"
    with np.load(file) as archive:
        arrays = dict(archive)
    np.savez(file, **{**arrays, "0.unit": np.full_like(arrays["0.unit"], np.nan)})
    with pytest.raises(ResultError, match="units of training rows are not all finite"):
        Run.load(tmp_path / "run")


def test_the_logistic_probe_is_told_first(result, alone):
    assert Run.of(result, alone).main.method.probe == "logistic" and Run.of(result).main.method.probe == "ridge"


def test_parts_are_in_the_alternative_order_only_where_all_are(alone):
    other = replace(alone, method=replace(alone.method, order="alternative"))
    assert common_components([other, other]) == components(supervised=False, order="alternative")
    assert common_components([other, alone]) == common_components([alone, other]) == components(supervised=False)


def test_the_cost_of_a_penalty_is_that_on_its_own_rows():
    assert Penalty(1.0, 1.0, (0.1, 1.0), (5, 4), True, rows=(10, 20)).cost == 0.2
    assert Penalty(1.0, 1.0, (0.1, 1.0), (5, 4), True).cost is None


def test_fits_that_an_estimate_ended_are_unproven_where_their_bound_is_too_large(alone):
    fit = replace(alone.fits[0], stop="estimated", gap=1e-3)
    assert fit.unproven(1e-4) and not fit.unproven(1e-2) and not replace(fit, stop="certified").unproven(1e-4)


def test_epochs_are_written_with_all_their_digits():
    assert [epoch_text(epoch) for epoch in (3.0, 0.25, 1234567.0, 1234567.5)] == ["3", "0.25", "1234567", "1234567.5"]


def test_two_probes_are_set_side_by_side_only_where_both_have_a_largest_part():
    sure, unsure = Bottleneck("probe_gen", 0.9), Bottleneck("probe_gen", None)
    assert ProbeContrast((), (sure, sure)).identified and not ProbeContrast((), (sure, unsure)).identified


def test_what_a_library_says_of_a_full_disk_or_of_damaged_bytes_is_told_of_the_run(tmp_path, monkeypatch, result):
    def full(*_):
        raise pl.exceptions.ComputeError("parquet: underlying IO error: No space left on device (os error 28)")

    with monkeypatch.context() as patched:
        patched.setattr("ssl_risk_rs.results.run.tidy", full)
        with pytest.raises(OSError, match="No space left on device") as told:
            save_run(tmp_path / "r", [result])
    assert told.value.filename == str(tmp_path / "r") and not os.listdir(tmp_path)
    save_run(tmp_path / "r", [result])

    def damaged(*_, **__):
        raise zlib.error("Error -3 while decompressing data")

    monkeypatch.setattr(np, "load", damaged)
    with pytest.raises(ResultError, match="r is damaged, or no run folder: error Error -3"):
        Run.load(tmp_path / "r")
