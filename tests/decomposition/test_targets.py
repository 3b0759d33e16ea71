"""Another column as the target: the same rows and draws, other labels; and what cannot be one."""

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from ssl_risk_rs import DataError, FeatureBank, ParameterError, Run, decompose, import_bank
from ssl_risk_rs.cli import main
from ssl_risk_rs.datasets import create_dataset
from ssl_risk_rs.decomposition import Settings
from ssl_risk_rs.decomposition.targets import MAX_WHOLE, Target, kind_of, retargeted
from ssl_risk_rs.decomposition.task import make_task
from ssl_risk_rs.workflow.evaluate import evaluate
from ssl_risk_rs.workflow.layers import fold_error

N, M, D = 360, 150, 8
SITES = np.array(["north", "east", "south"])


@pytest.fixture(scope="module")
def arrays():
    """X, y, X_test, y_test and the site of every row; features know both the class and the site."""
    rng = np.random.default_rng(3)
    y, site = rng.integers(0, 4, N + M), rng.integers(0, 3, N + M)
    y[:4], y[N : N + 4] = np.arange(4), np.arange(4)
    means = rng.standard_normal((2, 4, D))
    x = (means[0][y] + means[1][site] + rng.standard_normal((N + M, D))).astype(np.float32)
    return x[:N], y[:N], x[N:], y[N:], SITES[site]


@pytest.fixture(scope="module")
def table(arrays, tmp_path_factory):
    """The same in a parquet file, with further columns."""
    x, y, x_test, y_test, site = arrays
    rng = np.random.default_rng(0)
    file = tmp_path_factory.mktemp("targets") / "f.parquet"
    whole = rng.integers(0, MAX_WHOLE + 30, N + M)
    whole[: MAX_WHOLE + 30] = np.arange(MAX_WHOLE + 30)
    frame = {
        "features": np.concatenate([x, x_test]).tolist(),
        "label": np.concatenate([y, y_test]),
        "split": ["train"] * N + ["test"] * M,
        "site": site,
        "age": rng.random(N + M).round(3),
        "year": whole,
        "constant": ["a"] * (N + M),
        "partly": [None if i % 10 == 0 else s for i, s in enumerate(site.tolist())],
        "late": np.where(np.arange(N + M) < N, np.arange(N + M) % 2, 2),
    }
    pl.DataFrame(frame).write_parquet(file)
    return file


def call(file, tmp_path, *more):
    return CliRunner().invoke(
        main, ["decompose", str(file), "--threads", "1", "--tol", "1e-2", "--out", str(tmp_path / "run"), *more]
    )


def test_a_column_is_decomposed_as_if_it_were_the_labels(arrays, table, tmp_path):
    x, _, x_test, _, site = arrays
    done = call(table, tmp_path, "--target", "site")
    assert done.exit_code == 0, done.output
    assert "on the rows of f.parquet, target site · logistic" in done.output
    assert "The column site stands in for the labels: it is predicted as 3 classes." in done.output
    run = Run.load(tmp_path / "run")
    direct = decompose(x, site[:N], x_test, site[N:], n_threads=1, tol=1e-2)
    assert run.decompositions[0].estimates == direct.estimates
    np.testing.assert_array_equal(run.decompositions[0].judgements.subset, direct.judgements.subset)
    assert run.provenance.target == "site"


def test_a_column_of_a_bank_is_decomposed_with_the_splits_of_its_ids(arrays, table, tmp_path):
    bank = FeatureBank.open(import_bank(table, tmp_path / "bank").path)
    site = arrays[-1]
    x, x_test = (bank.read(rows) for rows in (np.arange(N), np.arange(N, N + M)))  # a bank may hold float16
    done = call(tmp_path / "bank", tmp_path, "--target", "site")
    assert done.exit_code == 0, done.output
    direct = decompose(x, site[:N], x_test, site[N:], sample_ids=bank.sample_ids(), n_threads=1, tol=1e-2)
    assert Run.load(tmp_path / "run").decompositions[0].estimates == direct.estimates
    task = retargeted(make_task(bank), {"site": site}, Target("site"))
    assert task.sample_ids == make_task(bank).sample_ids and task.class_names == ("east", "north", "south")


def test_images_are_encoded_once_for_every_target(tmp_path):
    rng = np.random.default_rng(0)
    site = {"train": rng.integers(0, 2, 80), "test": rng.integers(0, 2, 40)}
    images = {part: rng.integers(0, 120, (len(s), 8, 8), np.uint8) + (100 * s[:, None, None]).astype(np.uint8)
              for part, s in site.items()}  # fmt: skip
    labels = {part: np.arange(len(s)) % 4 for part, s in site.items()}
    file = tmp_path / "images.npz"
    np.savez(file, **{f"{a}_{p}": v[p] for a, v in (("x", images), ("y", labels), ("site", site)) for p in v})
    settings = Settings(n_threads=1)
    options = {"store": tmp_path / "store", "probes": ("ridge",), "settings": settings, "control": "none"}
    run, _ = evaluate("pixels:4", f"npz:{file}", target=Target("site"), **options)
    assert run.decompositions[0].estimate("agg_risk") < 0.1  # the site is its brightness
    assert run.decompositions[0].sizes.classes == 2 and run.provenance.target == "site"
    banks = sorted(tmp_path.glob("store/**/bank.json"))
    other, _ = evaluate("pixels:4", f"npz:{file}", **options)
    assert other.decompositions[0].sizes.classes == 4
    assert sorted(tmp_path.glob("store/**/bank.json")) == banks
    with pytest.raises(ParameterError, match="no further column 'scanner' to predict; further columns are: site"):
        evaluate("pixels:5", f"npz:{file}", target=Target("scanner"), **options)
    assert sorted(tmp_path.glob("store/**/bank.json")) == banks  # nothing was encoded in vain


def test_decimals_of_npz_images_are_a_target_and_layers_are_chosen_by_it(tmp_path):
    rng = np.random.default_rng(0)
    age = {part: 50 * rng.random(n) for part, n in (("train", 80), ("test", 40))}
    images = {p: (rng.integers(0, 100, (len(a), 8, 8)) + 3 * a[:, None, None]).astype(np.uint8) for p, a in age.items()}
    labels = {p: np.arange(len(a)) % 4 for p, a in age.items()}
    old = {p: a > 25 for p, a in age.items()}
    file = tmp_path / "images.npz"
    names = (("x", images), ("y", labels), ("age", age), ("old", old))
    np.savez(file, **{f"{a}_{p}": v[p] for a, v in names for p in v})
    samples = create_dataset(f"npz:{file}").samples
    assert samples["age"].to_list() == [*age["train"], *age["test"]]
    assert samples["old"].to_list() == ["true" if o else "false" for p in old for o in old[p]]
    args = ["run", "-m", "random:resnet10t", "-d", f"npz:{file}", "--layers", "layer1,layer2", "--img-size", "32",
            "--target", "age", "--probe", "ridge", "--control", "none", "--store", str(tmp_path / "s"),
            "--out", str(tmp_path / "out"), "--threads", "1"]  # fmt: skip
    done = CliRunner().invoke(main, args, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    runs = [Run.load(tmp_path / "out" / name).decompositions[0] for name in ("layer1_avgpool", "layer2_avgpool")]
    for d in runs:
        tuned = d.penalties["tuned"]
        assert fold_error(d) == tuned.cost == min(tuned.losses) < 0.5
    chosen = min(range(2), key=lambda i: fold_error(runs[i]))
    assert f"→ layer{chosen + 1}:avgpool" in done.stdout


def test_images_without_a_value_of_the_target_are_left_out_where_asked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    parts = {"train": 60, "test": 30}
    site = {part: np.array([("", "a", "b")[i % 3] for i in range(n)]) for part, n in parts.items()}
    images = {
        part: (rng.integers(0, 90, (len(of), 8, 8)) + 100 * (of == "b")[:, None, None]).astype(np.uint8)
        for part, of in site.items()
    }
    names = {"x": images, "y": {part: np.arange(n) % 4 for part, n in parts.items()}, "site": site}
    np.savez("images.npz", **{f"{name}_{part}": of[part] for name, of in names.items() for part in parts})
    line = ["-m", "pixels:4", "-d", "npz:images.npz", "--control", "none", "--probe", "ridge", "--store", "store"]
    for command in ("run", "sweep"):
        refused = CliRunner().invoke(main, [command, *line, "--target", "site", "--out", "none"])
        assert refused.exit_code in (1, 2) and "leave them out (--drop-unlabelled" in refused.stderr, refused.stderr
        assert not list(Path("store").glob("**/bank.json"))  # nothing was encoded in vain
        aimless = CliRunner().invoke(main, [command, *line, "--drop-unlabelled", "--out", "none"])
        assert aimless.exit_code == 2 and "without a value of --target" in aimless.stderr
    for command in ("run", "sweep"):
        done = CliRunner().invoke(main, [command, *line, "--target", "site", "--drop-unlabelled", "--out", command])
        assert done.exit_code == 0, done.output
        (record,) = Path(command).glob("**/run.json")
        of = Run.load(record.parent).decompositions[0]
        assert (of.sizes.train, of.sizes.test, of.sizes.classes) == (40, 20, 2) and of.estimate("agg_risk") < 0.1
        assert "unlabelled_dropped" in {note.code for note in of.notes}


def test_how_columns_are_read():
    for column in (["a", None, "b"], [True, False], [1, 2, None], np.array([1.0, 2.0, np.nan]), np.arange(MAX_WHOLE)):
        assert kind_of({"a": column}) == "classes"
    for column in ([0.5, 1.0], np.arange(MAX_WHOLE + 1)):
        assert kind_of({"a": column}) == "numbers"
    assert kind_of({"a": [0, 1, 1], "b": [0.0, 1.0, None]}) == "labels"
    assert kind_of({"a": [0, 1, 2], "b": [0, 1, 1]}) == "numbers"


def test_what_cannot_be_a_target(table, tmp_path):
    for column, words in {
        "age": "the target age holds numbers, which a ridge probe predicts",
        "year": "the target year holds numbers, which .* --target-kind classes reads whole numbers as classes",
        "constant": "the column constant is 'a' in every training row: there is nothing to predict",
        "partly": r"the column partly, training rows: .*no label",
        "late": "the column late, test rows: 1 class has test rows and no training row: 2",
        "nowhere": "has no further column 'nowhere' to predict; further columns are: age, constant, late, partly, site",
    }.items():
        done = call(table, tmp_path, "--target", column)
        assert done.exit_code == 1, (column, done.output)
        assert re.search(words, done.output.replace("\n", " ")), done.output
    assert not (tmp_path / "run").exists()
    some = call(table, tmp_path, "--target", "partly", "--drop-unlabelled")
    assert some.exit_code == 0 and "have no label and are left out" in some.output
    lonely = call(table, tmp_path, "--target-kind", "classes", "--force")
    assert lonely.exit_code == 2 and "name it with --target" in lonely.output


def test_more_whole_numbers_are_classes_where_that_is_asked_for(arrays):
    x, y, x_test, y_test, _ = arrays
    task = make_task(x, y, x_test, y_test)
    many = {"scanner": np.r_[np.arange(N) % 60, np.arange(M) % 60]}
    assert retargeted(task, many, Target("scanner")).target_kind == "numbers"
    assert retargeted(task, many, Target("scanner", "classes")).n_classes == 60
    with pytest.raises(DataError, match="not whole numbers"):
        retargeted(task, {"scanner": many["scanner"] + 0.5}, Target("scanner", "classes"))
    with pytest.raises(ParameterError, match=r"2 columns .* cannot be one class"):
        retargeted(task, {"a": many["scanner"], "b": many["scanner"]}, Target("a,b", "classes"))


def test_a_run_of_another_target_is_not_compared_with_one_of_the_labels(table, tmp_path):
    assert call(table, tmp_path / "a").exit_code == 0
    assert call(table, tmp_path / "b", "--target", "site").exit_code == 0
    done = CliRunner().invoke(main, ["compare", str(tmp_path / "a" / "run"), str(tmp_path / "b" / "run")])
    assert done.exit_code == 1 and "differ in the label of 360 train rows" in done.output
    # what is missing is decomposed for the target of the run that is there
    done = CliRunner().invoke(
        main, ["compare", str(tmp_path / "b" / "run"), str(table), "--out", str(tmp_path / "made"), "--threads", "1"]
    )
    assert done.exit_code == 0, done.output


def test_one_row_that_makes_most_of_the_variance_of_numbers_is_told():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((450, 6)).astype(np.float32)
    y = x[:, 0] + 0.5 * rng.standard_normal(450)
    plain = decompose(x[:300], y[:300], x[300:], y[300:], probe="ridge", target_kind="numbers")
    assert not {"one_row_of_targets", "above_guessing"} & {note.code for note in plain.notes}
    y[7] = 300.0
    found = decompose(x[:300], y[:300], x[300:], y[300:], probe="ridge", target_kind="numbers")
    (note,) = (note for note in found.notes if note.code == "one_row_of_targets")
    assert note.values["rows"] == "training" and note.values["percent"] > 99 and note.values["example"].endswith("7")
    assert "above_guessing" in {note.code for note in found.notes}  # a mean that one row moves predicts better than it
