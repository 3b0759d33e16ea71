"""Many runs as one frame: which folders count, versions, what is damaged, types, pandas, LaTeX, locales."""

import json
import locale
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from ssl_risk_rs import ParameterError, compare, read_results, to_latex, to_pandas
from ssl_risk_rs.decomposition import decompose
from ssl_risk_rs.report.latex import escape
from ssl_risk_rs.results import Grade, Provenance, ResultError, Run
from ssl_risk_rs.results.frames import COLUMNS, RESULT_COLUMNS
from ssl_risk_rs.results.quantities import QUANTITIES

ROOT = Path(__file__).parents[2]
TYPES = {"text": pl.String, "integer": pl.Int64, "number": pl.Float64}


def make(columns: int = 4, probe: str = "ridge", name: str = "mine", **options):
    rng = np.random.default_rng(0)
    y = np.arange(180) % 3
    x = (rng.standard_normal((3, 4))[y] + rng.standard_normal((180, 4))).astype(np.float32)[:, :columns]
    x = np.ascontiguousarray(x)
    return decompose(x[:120], y[:120], x[120:], y[120:], probe=probe, name=name, **options)


@pytest.fixture(scope="module")
def results():
    return make(), make(2)


@pytest.fixture
def runs(tmp_path, results) -> Path:
    """Three runs, one of them deeper, beside what is none."""
    folder = tmp_path / "runs"
    for place, result, encoder in (
        ("b", results[0], "one"),
        ("a", results[1], "two"),
        ("deep/c", results[0], "drei_ß"),
    ):
        Run.of(result, provenance=Provenance(encoder=encoder, data="toy")).save(folder / place)
    (folder / "empty").mkdir()
    (folder / "notes.txt").write_text("mine")
    shutil.copytree(folder / "a", folder / ".a.123.tmp")  # what a killed process leaves
    return folder


# --- which folders


def test_a_pattern_a_folder_and_several_give_the_same_rows(runs):
    frame = read_results(f"{runs}/**")
    assert [Path(p).name for p in frame["path"].unique(maintain_order=True)] == ["a", "b", "c"]
    assert frame.equals(read_results(runs)) and frame.equals(read_results([f"{runs}/?", runs / "deep" / "c"]))
    one = read_results(runs / "b")
    assert one.height == frame.filter(run="b").height > 0
    assert read_results([runs / "b", runs / "b", str(runs / ".." / "runs" / "b")]).equals(one)  # once each
    for pattern in (runs / "empty", f"{runs}/x*", runs / "notes.txt"):
        with pytest.raises(ResultError, match="there is no run folder"):
            read_results(pattern)
    with pytest.raises(ResultError, match="in nothing"):
        read_results([])


def test_the_frame_holds_every_quantity_as_it_was_written(runs):
    frame = read_results(runs)
    assert dict(frame.schema) == {name: TYPES[kind] for name, (kind, _) in RESULT_COLUMNS.items()}
    for place, rows in frame.partition_by("path", as_dict=True).items():
        run = Run.load(place[0])
        assert rows.select(COLUMNS).equals(run.frame())
        assert rows["created"].unique().to_list() == [run.created] and rows["schema"].unique().to_list() == [2]
    assert set(RESULT_COLUMNS) == {"path", "created", "schema", *COLUMNS}


def test_the_documentation_lists_every_column():
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    found = dict(re.findall(r"^\| `(\w+)` \| (?:text|integer|number) \| (.+) \|$", page, re.M))
    assert found == {name: meaning for name, (_, meaning) in RESULT_COLUMNS.items()}


# --- versions and damage


def old_run(folder: Path) -> None:
    """A run folder as version 0.1.0 wrote it, without judged rows."""
    folder.mkdir()
    names = ("risk_af", "risk_as", "risk_cs", "risk_us", "approx_usability", "probe_gen", "enc_gen", "agg_risk")
    estimates = {
        n: {"quantity": n, "estimate": 0.1, "se": 0.01, "low": 0.08, "high": 0.12, "n": 50, "conservative": False}
        for n in names
    }
    d = {
        "name": "old", "settings": {"probe": "logistic", "protocol": "strict", "scaling": "standardize", "seed": 0,
            "tol": 3e-4, "max_passes": 300, "confidence": 0.95, "random_counts": False, "n_threads": None},
        "sizes": {"train": 300, "test": 50, "subset": 20, "subsets": 3, "classes": 3}, "alphas": {"tuned": 1e-2},
        "estimates": estimates, "risk_covariance": np.eye(5).tolist(), "control_variate_beta": 0.4,
        "bottleneck": "probe_gen", "bottleneck_probability": 0.9, "risk_af_one_decade_above_the_floor": 0.06,
        "converged": True, "fits": [], "notes": [], "seconds": 1.0, "control": None,
    }  # fmt: skip
    head = {"schema_version": 1, "created": "2026-11-20T10:00:00+00:00", "versions": {}, "arguments": [], "notes": [],
            "host": {"machine": "", "system": "", "cpus": 2}, "encoder": "old", "data": "d", "command": "", "banks": {},
            "supervised": None, "control": None, "pretraining_data": None, "saw_training_images": None}  # fmt: skip
    (folder / "run.json").write_text(json.dumps({**head, "decompositions": [d]}), encoding="utf-8")


def test_runs_of_older_versions_are_in_the_same_frame(runs):
    old_run(runs / "old")
    frame = read_results(runs)
    old = frame.filter(run="old")
    assert old.height == 8 and old["schema"].unique().to_list() == [1] and set(old["encoder"]) == {"old"}
    assert old.filter(quantity="agg_risk").row(0, named=True)["high"] == 0.12
    assert frame["run"].n_unique() == 4


def test_a_column_that_an_older_release_did_not_have_is_null(runs):
    file = runs / "b" / "results.parquet"
    pl.read_parquet(file).drop("grade", "shots").write_parquet(file)
    rows = read_results(runs / "b")
    assert rows["grade"].null_count() == rows["shots"].null_count() == rows.height


def test_what_is_done_with_damaged_runs_is_one_of_two_words(runs):
    with pytest.raises(ParameterError, match="damaged must be 'refuse' or 'warn', got 'x'"):
        read_results(runs, damaged="x")
    with pytest.raises(ParameterError, match="runs are run folders, or patterns of them, not int"):
        read_results(3)


def test_damaged_runs_are_named_and_left_out_only_when_asked(runs):
    (runs / "a" / "run.json").write_text("{", encoding="utf-8")
    (runs / "b" / "results.parquet").write_bytes(b"PAR1")
    with pytest.raises(
        ResultError, match=r"2 of 3 runs cannot be read: .*a is damaged.*b/results.parquet is damaged.*leaves them out"
    ):
        read_results(runs)
    with pytest.warns(UserWarning, match=r"2 of 3 runs cannot be read.*They are left out"):
        frame = read_results(runs, damaged="warn")
    assert set(frame["run"]) == {"c"}


def test_a_table_of_another_run_is_refused(runs):
    shutil.copy(runs / "a" / "results.parquet", runs / "b")
    with pytest.raises(ResultError, match=r"b: results.parquet and run.json are not of the same run"):
        read_results(runs)
    file = runs / "b" / "results.parquet"
    pl.read_parquet(file).drop("estimate").write_parquet(file)
    with pytest.raises(ResultError, match="not of the same run"):
        read_results(runs / "b")


@pytest.fixture(scope="module")
def full(tmp_path_factory) -> Path:
    """A run with everything that rows tell of: few-shot sizes, another metric, a control."""
    whole = make(shots="5", draws=3, metrics="balanced").with_control(make(2))
    folder = tmp_path_factory.mktemp("full") / "run"
    return Run.of(whole, provenance=Provenance(encoder="one", data="toy", control="pixels")).save(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"se": pl.col("se") * 2}, "se of one toy ridge strict all 5 error"),
        ({"low": pl.col("low") - 0.1}, "low of "),
        ({"high": pl.lit(None, pl.Float64)}, "high of .* is None, and 0"),
        ({"confidence": pl.lit(0.5)}, r"confidence of .* is 0\.5, and 0\.95 is recorded"),
        ({"n": pl.col("n") + 1}, "n of "),
        ({"n_groups": pl.lit(7)}, "n_groups of .* is 7, and None is recorded"),
        ({"df": pl.lit(9.0)}, "df of "),
        ({"grade": pl.lit("none")}, "grade of .* is none"),
        ({"metric": pl.lit("error")}, "numbers of its own"),
        ({"shots": pl.lit(None, pl.String)}, "numbers of its own"),
        ({"group": pl.lit("all")}, "numbers of its own"),
        ({"target": pl.lit("age")}, "numbers of its own"),
        ({"encoder": pl.lit("one")}, "numbers of its own"),
        ({"estimate": pl.when(pl.col("group") == "control").then(0.5).otherwise("estimate")}, "estimate of pixels"),
        ({"estimate": pl.when(pl.col("metric") == "balanced").then(0.5).otherwise("estimate")}, "of .*balanced"),
        ({"estimate": pl.when(pl.col("shots") == "5").then(0.5).otherwise("estimate")}, "estimate of one toy .* 5 "),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)  # fmt: skip
def test_whatever_a_row_says_is_that_of_the_record(full, tmp_path, change, said):
    folder = tmp_path / "run"
    shutil.copytree(full, folder)
    assert read_results(folder).height == pl.read_parquet(folder / "results.parquet").height
    pl.read_parquet(full / "results.parquet").with_columns(**change).write_parquet(folder / "results.parquet")
    with pytest.raises(ResultError, match=f"run: results.parquet and run.json are not of the same run.*: .*{said}"):
        read_results(folder)


def test_a_table_with_values_of_another_kind_is_damaged(full, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(full, folder)
    rows = pl.read_parquet(full / "results.parquet")
    rows.with_columns(estimate=pl.lit("much")).write_parquet(folder / "results.parquet")
    with pytest.raises(ResultError, match=r"is damaged: results.parquet has values of another kind \(.*much"):
        read_results(folder)


def test_a_later_version_is_refused(runs):
    file = runs / "a" / "run.json"
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | {"schema_version": 99}), encoding="utf-8")
    with pytest.raises(ResultError, match="schema version 99"):
        read_results(runs)
    file = runs / "b" / "results.parquet"
    pl.read_parquet(file).with_columns(new=pl.lit(1)).write_parquet(file)
    with pytest.raises(ResultError, match="a column that this release does not know: new"):
        read_results(runs / "b")


# --- pandas


def test_pandas_has_the_same_values(runs, results):
    pytest.importorskip("pandas")
    frame = read_results(runs)
    table = to_pandas(frame)
    assert list(table.columns) == frame.columns and len(table) == frame.height
    for name in frame.columns:
        there = [None if v is None or v != v else v for v in frame[name].to_list()]
        found = [
            None if v is None or v != v else v for v in table[name].astype(object).where(table[name].notna(), None)
        ]
        assert found == there, name
    assert str(table["n"].dtype) == "int64" and str(table["n_groups"].dtype) == "Int64"
    assert to_pandas(Run.of(results[0])).equals(to_pandas(Run.of(results[0]).frame()))
    both = [replace(results[0], name="x"), replace(results[1], name="y")]
    assert len(to_pandas(compare(both))) == 6 and len(to_pandas([Run.of(r) for r in both])) == 2 * len(
        Run.of(results[0]).frame()
    )


def test_without_pandas_the_line_that_installs_it_is_named(monkeypatch, results):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ParameterError, match=r"python -m pip install 'ssl-risk-rs\[pandas\]'"):
        to_pandas(Run.of(results[0]))


# --- LaTeX


def cells(table: str) -> list[list[str]]:
    inside = table[table.index(r"\midrule") : table.index(r"\bottomrule")]
    return [[c.strip() for c in line.removesuffix(r" \\").split(" & ")] for line in inside.splitlines()[1:]]


def test_latex_holds_the_numbers_with_their_intervals(results):
    run = Run.of(results[0], provenance=Provenance(encoder="my_encoder #1", data="50%"))
    table = to_latex(run)
    ((name, *found),) = cells(table)
    assert name == r"my\_encoder \#1"
    names = ("approx_usability", "probe_gen", "enc_gen", "agg_risk")
    for cell, quantity in zip(found, names, strict=True):
        e = results[0].estimates[quantity]
        value, low, high = (float(v) for v in re.findall(r"-?\d+\.\d+", cell))
        # two digits are printed
        assert (value, low, high) == pytest.approx((100 * e.estimate, 100 * e.low, 100 * e.high), abs=0.00501)
    assert table.startswith("% errors in percent; data 50%; probe ridge; protocol strict")
    assert table.count(" & ") == 8 and r"\begin{tabular}{lrrrr}" in table and r"needs \usepackage{booktabs}" in table
    assert QUANTITIES["probe_gen"].label in table
    bare = to_latex(run, intervals=False, digits=0, quantities=["agg_risk"])
    assert cells(bare)[0][1].startswith(f"${100 * results[0].estimate('agg_risk'):.0f}")


def test_latex_of_many_runs_shows_what_varies_and_dashes_what_is_missing(runs):
    twin = make(name="with twin", supervised=np.random.default_rng(0).standard_normal((120, 3)).astype(np.float32))
    Run.of(twin).save(runs / "t")
    rows = cells(to_latex(read_results(runs)))
    assert len(rows) == 4 and sum("--" in row for row in rows) == 4
    assert {row[0] for row in rows} == {"one", "two", "drei\\_ß", "with twin"} and {row[1] for row in rows} == {
        "toy", "arrays"}  # fmt: skip
    marked = replace(twin, estimates={n: replace(e, grade=Grade.FEW_ROWS) for n, e in twin.estimates.items()})
    table = to_latex(Run.of(marked))
    assert "^{*}" in table and "% *: fewer than 10 rows decide it" in table
    none = {n: replace(e, grade=Grade.NONE, low=float("nan"), high=float("nan")) for n, e in twin.estimates.items()}
    assert "nan" not in to_latex(Run.of(replace(twin, estimates=none)))


def test_latex_of_a_comparison_is_signed(results):
    found = compare([replace(results[0], name="a"), replace(results[1], name="b")])
    table = to_latex(found)
    ((name, *values),) = cells(table)
    assert name == "b" and f"{100 * found.difference('b', 'agg_risk').difference:+.2f}" in values[-1]
    assert "differences from a in points; probe ridge, protocol strict; paired 95 % intervals" in table


def test_latex_has_no_interval_of_encoders_that_are_equal_on_every_row(results):
    found = compare([replace(results[0], name=name) for name in "ab"])
    ((_, *values),) = cells(to_latex(found))
    assert set(values) == {"$+0.00$"}


def test_latex_of_a_frame_without_grades_has_no_marks(runs):
    frame = read_results(runs).drop("grade")
    assert "^{" not in to_latex(frame)


def test_latex_names_the_folders_of_runs_that_nothing_else_tells_apart(runs, tmp_path):
    first = read_results(runs).filter(pl.col("run") == pl.col("run").first())
    both = pl.concat([first, first.with_columns(run=pl.lit("other_one"), path=pl.lit("there/other_one"))])
    assert [row[1] for row in cells(to_latex(both))] == [first["run"][0].replace("_", r"\_"), r"other\_one"]
    assert "other" not in to_latex(first)


def test_what_latex_cannot_print_is_said(results):
    with pytest.raises(ParameterError, match="'accuracy' is no quantity"):
        to_latex(Run.of(results[0]), quantities=["accuracy"])
    with pytest.raises(ParameterError, match="nothing to print"):
        to_latex(Run.of(results[0]), quantities=["approx"])
    with pytest.raises(ParameterError, match="the frame has no column 'encoder'"):
        to_latex(pl.DataFrame({"a": [1]}))
    assert escape("a_b & 5% {x} \\ ^~ $#") == (
        r"a\_b \& 5\% \{x\} \textbackslash{} \textasciicircum{}\textasciitilde{} \$\#"
    )


# --- other locales

EXPORT = """
import sys
from ssl_risk_rs import read_results, to_latex
frame = read_results(sys.argv[1])
frame.write_csv("all.csv")
open("t.tex", "w", encoding="utf-8").write(to_latex(frame))
"""


def test_exports_are_the_same_under_a_plain_c_locale(runs, tmp_path):
    """ASCII only, as in a cron job or a container: names with other letters come through."""
    expected = read_results(runs)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG", "PYTHONIOENCODING"))}
    environment |= {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(ROOT / "python")}
    subprocess.run([sys.executable, "-c", EXPORT, str(runs)], check=True, env=environment, timeout=120, cwd=tmp_path)
    back = pl.read_csv(tmp_path / "all.csv", schema_overrides=dict(expected.schema))
    assert back.select("encoder", "estimate", "low").equals(expected.select("encoder", "estimate", "low"))
    assert (tmp_path / "t.tex").read_text(encoding="utf-8") == to_latex(expected)


def test_exports_have_points_where_a_locale_has_commas(runs):
    before = locale.setlocale(locale.LC_ALL)
    plain = to_latex(read_results(runs))
    for name in ("de_DE.UTF-8", "fr_FR.UTF-8", "de_DE", "fr_FR"):
        try:
            locale.setlocale(locale.LC_ALL, name)
        except locale.Error:
            continue
        try:
            assert locale.localeconv()["decimal_point"] == ","
            frame = read_results(runs)
            assert to_latex(frame) == plain
            assert pl.read_csv(frame.write_csv().encode())["estimate"].equals(frame["estimate"])
        finally:
            locale.setlocale(locale.LC_ALL, before)
        return
    pytest.skip("this machine has no locale with decimal commas")


def test_every_door_refuses_a_table_of_another_run(runs):
    shutil.copy(runs / "a" / "results.parquet", runs / "b")
    with pytest.raises(ResultError, match=r"b: results.parquet and run.json are not of the same run"):
        Run.load(runs / "b")
    file = runs / "c" / "results.parquet" if (runs / "c").exists() else runs / "deep" / "c" / "results.parquet"
    pl.read_parquet(file).clear().write_parquet(file)
    with pytest.raises(ResultError, match=r"it has 0 numbers of its own"):
        Run.load(file.parent)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d["covariance_of"].__setitem__(1, "x"), "a covariance of 'x' is recorded"),
        (lambda d: d["estimates"].pop("risk_af"), "no risk_af is recorded"),
        (lambda d: d["bottleneck"].__setitem__("quantity", "x"), "the largest part is recorded as 'x'"),
        (lambda d: d["estimates"]["enc_gen"].update(low=0.5, high=0.1), "the interval of enc_gen goes from 0.5 down"),
    ],
)
def test_a_record_that_no_table_could_be_made_of_is_refused(runs, change, said):
    file = runs / "a" / "run.json"
    document = json.loads(file.read_text(encoding="utf-8"))
    change(document["decompositions"][0])
    file.write_text(json.dumps(document), encoding="utf-8")
    (runs / "a" / "results.parquet").unlink()
    with pytest.raises(ResultError, match=said):
        Run.load(runs / "a")


@pytest.mark.parametrize("shots", ["30,5,1", "5,5%", "auto"])
def test_runs_whose_curve_leaves_sizes_out_are_read(tmp_path, shots):
    rng = np.random.default_rng(0)
    y, y_test = np.arange(300) % 3, np.arange(90) % 3
    x, x_test = (rng.normal(size=(len(labels), 6)) + labels[:, None] for labels in (y, y_test))
    result = decompose(x, y, x_test, y_test, probe="ridge", shots=shots, draws=3)
    folder = Run.of(result).save(tmp_path / "r")
    assert len(Run.load(folder).main.shots) == len(result.shots) > 0


def test_a_record_without_a_name_of_its_data_ends_in_words(runs):
    file = runs / "a" / "run.json"
    document = json.loads(file.read_text(encoding="utf-8"))
    del document["data"]
    file.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(ResultError, match="is damaged, or no run folder: KeyError 'data'"):
        Run.load(runs / "a")
