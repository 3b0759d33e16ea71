"""`ssl-risk-rs compare`: run folders, banks and files; what is made, what is kept, what is refused."""

import csv
import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from cli_helpers import run
from ssl_risk_rs import FeatureBank, ParameterError, compare, explain
from ssl_risk_rs.results import NotComparableError, Run
from ssl_risk_rs.results.explain import NoGap
from ssl_risk_rs.workflow import compare as workflow
from ssl_risk_rs.workflow.compare import compare_targets


def rows(n: int, seed: int, columns: int = 8) -> tuple[np.ndarray, np.ndarray]:
    y = np.arange(n) % 3
    centres = np.random.default_rng(9).standard_normal((3, 8))
    x = (centres[y] + np.random.default_rng(seed).standard_normal((n, 8))).astype(np.float32)
    return np.ascontiguousarray(x[:, :columns]), y


def save(name: str, columns: int = 8, n: int = 150, **more: np.ndarray) -> str:
    (x, y), (x_test, y_test) = rows(n, 0, columns), rows(60, 1, columns)
    np.savez(name, X_train=x, y_train=y, X_test=x_test, y_test=y_test, **more)
    return name


def made() -> list[str]:
    return sorted(os.listdir("runs")) if Path("runs").exists() else []


def test_files_are_decomposed_kept_and_compared():
    files = [save("a.npz"), save("b.npz", 6), save("c.npz", 3)]
    result = run("compare", *files, "--probe", "ridge")
    assert "3 encoders on the same 150 training and 60 test rows · ridge probe" in result.stdout
    assert "b.npz against a.npz" in result.stdout and "ranks, the least error first" in result.stdout
    folders = [Path("runs") / name for name in made()]
    assert [f.name.partition("_")[2] for f in folders] == ["a", "b", "c"]
    assert all(f"The record of {f} is in runs" in result.stderr for f in files)
    runs = [Run.load(f) for f in folders]
    assert str(compare(runs)) == result.stdout.removesuffix("\n")
    assert run("compare", *folders).stdout == result.stdout and len(made()) == 3  # nothing is made again
    found = json.loads(run("compare", *folders, "--format", "json").stdout)
    assert found["differences"] == json.loads(json.dumps(compare(runs).frame().to_dicts()).replace("Infinity", "null"))
    assert {r["encoder"] for r in found["ranks"]} == set(files) and len(found["notes"]) == 1
    lines = list(csv.DictReader(io.StringIO(run("compare", *folders, "--format", "csv").stdout)))
    assert [float(x["difference"]) for x in lines] == [x["difference"] for x in found["differences"]]


def test_what_is_missing_is_made_like_the_run_that_is_there():
    save("a.npz")
    run("decompose", "a.npz", "--probe", "ridge", "--scaling", "none", "--seed", "7", "--splits", "2", "--out", "a")
    run("compare", "a", save("b.npz", 4), "--out", "new")
    (name,) = os.listdir("new")
    other = Run.load(Path("new") / name)
    (d,) = other.decompositions
    assert (d.method.probe, d.method.scaling, d.method.seed, d.sizes.subsets) == ("ridge", "none", 7, 2)
    assert other.provenance.command.split()[0] == "ssl-risk-rs"
    run("decompose", "a.npz", "--probe", "ridge", "--protocol", "paper", "--out", "p")
    assert "(paper protocol)" in run("compare", "p", "b.npz").stdout


def test_groups_are_taken_from_the_run_that_is_there():
    groups = {"group_train": np.arange(150) // 5, "group_test": 1000 + np.arange(60) // 5}
    save("a.npz", **groups)
    run("decompose", "a.npz", "--group", "group", "--probe", "ridge", "--out", "a")
    assert "paired by group (12 in the test rows)" in run("compare", "a", save("b.npz", 5, **groups)).stdout


def test_banks_and_keys_in_the_store_are_compared(tmp_path, monkeypatch):
    monkeypatch.setenv("SSL_RISK_STORE", str(tmp_path / "store"))
    for name, columns in (("a", 8), ("b", 4)):
        run("store", "import", save(f"{name}.npz", columns), name, "--encoder", f"enc_{name}")
        run("store", "import", f"{name}.npz", "--encoder", f"enc_{name}")
    text = run("compare", "a", "b", "--probe", "ridge").stdout
    assert "enc_b against enc_a" in text
    keys = {bank["encoder"]: bank["key"] for bank in json.loads(run("store", "ls", "--format", "json").stdout)}
    assert run("compare", keys["enc_a"][:10], keys["enc_b"][:10], "--probe", "ridge").stdout == text


def test_two_encoders_of_one_name_are_told_apart_by_their_target():
    save("a.npz")
    for seed in (0, 1):
        np.savez("x.npz", **{**np.load("a.npz"), "X_train": np.load("a.npz")["X_train"] + np.float32(seed)})
        run("decompose", "x.npz", "--probe", "ridge", "--out", f"r{seed}")
    assert "x.npz (r1) against x.npz (r0)" in run("compare", "r0", "r1").stdout


def test_every_common_probe_is_compared():
    for name, columns in (("a", 8), ("b", 5)):
        run("decompose", save(f"{name}.npz", columns), "--probe", "both", "--out", name)
    text = run("compare", "a", "b").stdout
    assert "logistic probe (strict" in text and "ridge probe (strict" in text
    assert "ridge" not in run("compare", "a", "b", "--probe", "logistic").stdout
    assert "90 % interval" in run("compare", "a", "b", "--probe", "ridge", "--ci", "0.9").stdout


def test_encoders_of_unequal_dimension_are_compared_at_an_equal_one():
    files = [save("a.npz"), save("b.npz", 4)]
    text = run("compare", *files, "--probe", "ridge", "--match-dim", "2..64").stdout
    assert "features: a.npz 8, b.npz 4" in text and "at 4  by dimension" in text and not made()
    found = json.loads(run("compare", *files, "--probe", "ridge", "--match-dim", "2..64", "--format", "json").stdout)
    assert {(d["dimension"], d["directions"]) for d in found["differences"]} == {
        (None, "all"), (2, "leading"), (4, "leading"), (2, "random"), (4, "random")}  # fmt: skip
    for part in found["parts"]:
        assert part["part"] == pytest.approx(part["full"] - part["matched"], abs=1e-12)
    lines = csv.DictReader(
        io.StringIO(run("compare", *files, "--probe", "ridge", "--match-dim", "3", "--format", "csv").stdout)
    )
    assert {x["dimension"] for x in lines} == {"", "3", "4"}
    # a run folder is as good as the bank it came from
    run("store", "import", "a.npz", "bank", "--encoder", "from_bank")
    run("decompose", "bank", "--probe", "ridge", "--out", "r")
    assert "from_bank 8" in run("compare", "r", "b.npz", "--probe", "ridge", "--match-dim", "2").stdout


def test_dimensions_and_what_they_need_are_said():
    save("a.npz")
    run("decompose", "a.npz", "--probe", "ridge", "--out", "r")
    assert "features are not in a bank" in complaint("r", save("b.npz", 4), "--match-dim", "2")
    assert "names no dimensions: write 64..2048" in complaint("a.npz", "b.npz", "--match-dim", "2-4")
    assert "goes down: write 2..8" in complaint("a.npz", "b.npz", "--match-dim", "8..2")
    assert "under --protocol strict only" in complaint("a.npz", "b.npz", "--match-dim", "2", "--protocol", "paper")
    assert "no --scaling but none" in run(
        "compare", "a.npz", "b.npz", "--match-dim", "2", "--scaling", "minmax", code=2).stderr  # fmt: skip
    assert workflow.parse_numbers("60..300", "dimensions") == [60, 64, 128, 256, 300]
    assert workflow.parse_numbers("64, 5,64", "rows") == [5, 64]
    assert workflow.parse_numbers("8..8", "rows") == [8]


def complaint(*arguments: object) -> str:
    before = made()
    result = run("compare", *arguments, code=1)
    assert result.stdout == "" and made() == before, "something was decomposed before it was refused"
    return result.stderr.splitlines()[-1].removeprefix("Error: ")


def test_what_cannot_be_compared_is_refused_before_anything_is_decomposed():
    save("a.npz")
    run("decompose", "a.npz", "--probe", "ridge", "--out", "a")
    save("b.npz", 4)
    assert complaint("a") == "a comparison needs at least two targets, got 1"
    assert "named twice" in complaint("a", "./a")
    assert complaint("a.npz", "nope.npz").startswith("nope.npz does not exist")
    assert complaint("a", "b.npz", "--probe", "logistic") == "a has no logistic probe, only ridge"
    assert "made with protocol strict, and paper is asked for" in complaint("a", "b.npz", "--protocol", "paper")
    assert "made with seed 0, and 3 is asked for" in complaint("a", "b.npz", "--seed", "3")
    assert complaint("a", "feed").startswith("there is no file or folder 'feed', and no bank of the store has a key")


def test_runs_that_differ_are_refused_by_the_field():
    save("a.npz")
    run("decompose", "a.npz", "--probe", "ridge", "--out", "a")
    for field, options in {"seed": ("--seed", "1"), "scaling": ("--scaling", "minmax")}.items():
        run("decompose", "a.npz", "--probe", "ridge", *options, "--out", field)
        with pytest.raises(NotComparableError, match="differ in") as error:
            compare_targets(["a", field])
        assert error.value.field == field
    save("short.npz", n=120)
    result = run("compare", "a", "short.npz", code=1)
    assert "a.npz has 150 training rows, short.npz has 120" in result.stderr
    assert "The record of short.npz is in runs" in result.stderr  # what was worked for is kept
    with pytest.raises(ParameterError, match="at least two targets"):
        compare_targets(["a"])


def test_finished_runs_are_kept_when_a_later_one_fails(monkeypatch):
    files = [save("a.npz"), save("b.npz", 4)]
    real, calls = workflow.decompose_features, []

    def second_fails(path, **options):
        calls.append(path)
        if len(calls) == 2:
            raise ParameterError("b.npz: out of luck")
        return real(path, **options)

    monkeypatch.setattr(workflow, "decompose_features", second_fails)
    assert "out of luck" in run("compare", *files, "--probe", "ridge", code=1).stderr
    assert [name.partition("_")[2] for name in made()] == ["a"]


def test_equal_numbers_of_rows_on_the_command_line():
    (x, y), (x_test, y_test) = rows(300, 0), rows(90, 1)
    ids, test_ids = np.array([f"r{i}" for i in range(300)]), np.array([f"t{i}" for i in range(90)])
    for name, step in (("all.npz", 1), ("third.npz", 2)):
        np.savez(name, X_train=x[::step], y_train=y[::step], X_test=x_test, y_test=y_test, ids_train=ids[::step],
                 ids_test=test_ids)  # fmt: skip
    given = ("compare", "all.npz", "third.npz", "--match-labels", "60..500", "--probe", "ridge")
    text = " ".join(run(*given).stdout.split())
    assert "training rows: all.npz 300, third.npz 150" in text and "150 of them are the same rows in all" in text
    assert "with 150 rows each the two are equal on every row" in text
    assert made() == []
    found = json.loads(run(*given, "--format", "json").stdout)
    assert {r["n_train"] for r in found["curves"]} == {60, 64, 128, 150, 300}
    assert all(p["matched"] == 0 and p["part"] == pytest.approx(p["full"], abs=1e-12) for p in found["parts"])
    lines = list(csv.DictReader(io.StringIO(run(*given, "--format", "csv").stdout)))
    assert len(lines) == len(found["curves"])


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (("--match-labels", "few"), 1, "'few' names no numbers of training rows"),
        (("--match-labels", "60", "--match-dim", "3"), 2, "no --match-dim beside it"),
        (("--match-labels", "60", "--probe", "both"), 2, "takes one probe"),
        (("--match-labels", "60", "--protocol", "paper"), 1, "--protocol strict only"),
        (("--match-labels", "4"), 1, "4 training and 60 test rows give"),
    ],
)
def test_equal_numbers_of_rows_that_make_no_sense(more, code, said):
    assert said in run("compare", save("a.npz"), save("b.npz", 3), *more, code=code).stderr


def test_options_of_run_folders_that_would_change_nothing_are_refused():
    for name, seed in (("a", 5), ("b", 4)):
        save(f"{name}.npz", seed)
        run("decompose", f"{name}.npz", "--probe", "ridge", "--out", name)
    for options in (("--tol", "1e-3"), ("--drop-unlabelled",), ("--out", "x"), ("--overlap", "warn"),
                    ("--shared-groups", "warn"), ("--features-columns", "f*")):  # fmt: skip
        said = " ".join(run("compare", "a", "b", *options, code=2).stderr.split())
        assert f"{options[0]} is of what is decomposed here, and every target is a run folder" in said
        if options[0] != "--tol":
            assert f"{options[0]} is of what is" in " ".join(run("explain", "a", *options, code=2).stderr.split())
    assert (
        complaint("a", "b", "--group", "site")
        == "a was made without group, and site is asked for: leave it out, or name the features"
    )
    assert (
        complaint("a", "b", "--splits", "2")
        == "a was made with splits 3, and 2 is asked for: leave it out, or name the features"
    )
    run("compare", "a", "b", "--splits", "3", "--threads", "1")
    assert "a was made without group, and site is asked for" in run("explain", "a", "--group", "site", code=1).stderr
    assert "--match-dim and --match-labels make none" in run(
        "compare", "a.npz", "b.npz", "--match-dim", "2", "--out", "x", code=2).stderr  # fmt: skip


def test_run_folders_that_differ_are_refused_before_a_third_is_decomposed():
    save("a.npz")
    run("decompose", "a.npz", "--probe", "ridge", "--out", "a")
    run("decompose", "a.npz", "--probe", "ridge", "--seed", "1", "--out", "other")
    save("b.npz", 4)
    assert complaint("a", "other", "b.npz").startswith("a and other differ in seed of the splits (0 and 1)")


@pytest.fixture
def runs_of_banks() -> None:
    """Banks of two encoders on the same rows: patients of five rows, and a site that the fifth feature tells."""
    y, y_test = np.arange(150) % 3, np.arange(60) % 3
    patient, patient_test = np.arange(150) // 5, 1000 + np.arange(60) // 5
    names = np.array(["u", "v"])
    for name, width in (("a", 8), ("b", 5)):
        rng = np.random.default_rng(width)
        x, x_test = (
            (rng.standard_normal((len(of), width)) + np.eye(3, width)[of]).astype(np.float32) for of in (y, y_test)
        )
        x[:, 4] += 4 * (patient % 2)
        x_test[:, 4] += 4 * (patient_test % 2)
        np.savez(
            f"{name}.npz", X_train=x, y_train=y, X_test=x_test, y_test=y_test, patient_train=patient,
            patient_test=patient_test, site_train=names[patient % 2], site_test=names[patient_test % 2],
        )  # fmt: skip
        run("store", "import", f"{name}.npz", f"bank_{name}")


def ridge_runs(*options: str) -> None:
    for name in ("a", "b"):
        run("decompose", f"bank_{name}", "--probe", "ridge", "--scaling", "none", *options, "--out", name)


def at_full_dimension() -> tuple[dict[str, dict], dict[str, dict]]:
    """Differences of runs a and b by quantity: as `--match-dim` makes them anew, and as they are."""
    anew = json.loads(run("compare", "a", "b", "--match-dim", "3", "--probe", "ridge", "--format", "json").stdout)
    there = json.loads(run("compare", "a", "b", "--format", "json").stdout)
    whole = [d for d in anew["differences"] if d["directions"] == "all"]
    return {d["quantity"]: d for d in whole}, {d["quantity"]: d for d in there["differences"]}


@pytest.mark.usefixtures("runs_of_banks")
def test_runs_are_compared_at_equal_dimension_with_their_groups_and_settings():
    ridge_runs("--group", "patient", "--seed", "7")
    anew, there = at_full_dimension()
    assert anew.keys() == there.keys()
    for quantity, d in there.items():
        assert anew[quantity]["n_groups"] == d["n_groups"] is not None
        assert anew[quantity]["difference"] == pytest.approx(d["difference"], abs=1e-9)  # the same cells, by the seed
        assert anew[quantity]["se"] == pytest.approx(d["se"], abs=1e-9)
    said = complaint("a", "b", "--match-labels", "60", "--probe", "ridge")
    assert "these rows come in groups: leave out --group, and name the features of runs that have one" in said
    assert "was made with group patient, and site" in complaint("a", "b", "--match-dim", "3", "--group", "site")


@pytest.mark.usefixtures("runs_of_banks")
def test_at_equal_dimension_features_are_unscaled_however_the_runs_were():
    for name in ("a", "b"):
        run("decompose", f"bank_{name}", "--probe", "ridge", "--out", name)  # standardized
    line = ("compare", "a", "b", "--match-dim", "3", "--probe", "ridge", "--format", "json")
    assert run(*line, "--scaling", "none").stdout == run(*line).stdout


@pytest.mark.usefixtures("runs_of_banks")
def test_runs_of_a_target_are_compared_on_it_and_explained_with_their_features():
    ridge_runs("--target", "site")
    anew, there = at_full_dimension()
    assert anew["agg_risk"]["difference"] == pytest.approx(there["agg_risk"]["difference"], abs=1e-9)
    assert explain("a", gap=True).gap is not None  # not: "the features have other rows, or are cut otherwise"
    run("decompose", "bank_b", "--probe", "ridge", "--scaling", "none", "--out", "labels")
    said = complaint("a", "labels", "--match-dim", "3", "--probe", "ridge")
    assert "a predicts site and labels predicts the labels: compare runs of one target" in said


@pytest.mark.usefixtures("runs_of_banks")
def test_a_bank_that_took_the_place_of_a_run_s_features_is_not_taken_for_them(tmp_path, monkeypatch):
    ridge_runs()
    # features of the same shape under the same name
    with np.load("a.npz") as given:
        arrays = {name: given[name] for name in given.files}
    np.savez("other.npz", **{**arrays, "X_train": arrays["X_train"] + 1})
    run("store", "import", "other.npz", "bank_a", "--encoder", "a", "--force")
    said = complaint("a", "b", "--match-dim", "3", "--probe", "ridge")
    assert "a is a run folder whose features were in" in said and "other features are there now (content_hash" in said
    assert explain("a", gap=True).no_gap is NoGap.BANK_GONE
    # of another machine's name, or with other labels
    run("store", "import", "a.npz", "bank_a", "--force")
    before = FeatureBank.open("bank_a").content_hash
    stem = next(Path("bank_a").glob("*.journal")).stem
    for file in list(Path("bank_a").glob(f"{stem}.*")):
        file.rename(file.with_name("zz9" + file.name[len(stem) :]))
    assert FeatureBank.open("bank_a").content_hash == before
    np.savez("other.npz", **{**arrays, "y_train": arrays["y_train"][::-1]})
    run("store", "import", "other.npz", "bank_a", "--encoder", "a", "--force")
    assert FeatureBank.open("bank_a").content_hash != before
    shutil.rmtree("bank_b")
    assert "bank_b, where there is no feature bank" in complaint("b", "bank_a", "--match-dim", "3", "--probe", "ridge")


@pytest.mark.usefixtures("runs_of_banks")
def test_runs_of_banks_know_them_from_other_folders(tmp_path, monkeypatch):
    ridge_runs()
    here = Path.cwd()
    monkeypatch.chdir(tmp_path / "..")
    line = ("compare", here / "a", here / "b", "--match-dim", "3", "--probe", "ridge")
    assert "by dimension" in run(*line).stdout


@pytest.mark.usefixtures("runs_of_banks")
def test_a_run_of_numbers_is_refused_before_anything_is_decomposed():
    y = np.arange(200) % 5
    x = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    np.savez("n.npz", X_train=x[:150], y_train=y[:150], X_test=x[150:], y_test=y[150:],
             age_train=x[:150, 0], age_test=x[150:, 0])  # fmt: skip
    run("decompose", "n.npz", "--probe", "ridge", "--target", "age", "--out", "n")
    assert "n predicts numbers or labels, and only classes are compared" in complaint("n", "bank_a")


@pytest.mark.usefixtures("runs_of_banks")
def test_a_bank_in_the_home_folder_is_found_without_a_shell(monkeypatch):
    monkeypatch.setenv("HOME", str(Path.cwd()))
    run("decompose", "~/bank_a", "--probe", "ridge", "--out", "r")
    assert Run.load("r").provenance.banks["encoder"].path == str(Path("bank_a").absolute())


def test_files_beside_a_run_that_left_rows_out_lack_them_as_well():
    (x, y), (x_test, y_test) = rows(150, 0), rows(60, 1)
    y = y.astype(float)
    y[7] = np.nan
    for name, width in (("a", 8), ("b", 5)):
        np.savez(f"{name}.npz", X_train=x[:, :width], y_train=y, X_test=x_test[:, :width], y_test=y_test)
    run("decompose", "a.npz", "--probe", "ridge", "--drop-unlabelled", "--out", "r")
    assert "on the same 149 training and 60 test rows" in run("compare", "r", "b.npz").stdout


def test_encoders_are_compared_by_their_balanced_error():
    files = [save("a.npz"), save("b.npz", 4)]
    found = json.loads(run("compare", *files, "--probe", "ridge", "--metric", "balanced", "--format", "json").stdout)
    assert {d["metric"] for d in found["differences"]} == {"balanced"}
    said = run("compare", *files, "--metric", "balanced", "--match-dim", "2", code=2).stderr
    assert "--match-dim and --match-labels compare 0-1 errors: leave out --metric" in said
