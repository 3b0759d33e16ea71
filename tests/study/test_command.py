"""The command, as a user types it."""

import csv
import io
import json
import subprocess
import sys

import polars as pl
import pytest
from click.testing import CliRunner
from ssl_risk_rs.cli import main


@pytest.fixture
def zoo(planted, tmp_path):
    path = tmp_path / "zoo.csv"
    planted.write_csv(path)
    return path


def run(*arguments):
    result = CliRunner().invoke(main, ["study", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_the_text_has_every_part_and_states_its_n(zoo):
    result = run(zoo)
    assert result.exit_code == 0, result.output
    for part in (
        "Study of 96 encoders (96 from zoo) and 5 design choices",
        "Yardstick: how far two runs",
        "Controlled pairs (all else equal)",
        "Linear model with confounders, variance between groups",
        "Law of label counts: there is none, because the table has no few-shot risks",
        "Trade-offs: Spearman's ρ",
        "No encoder of 96 is better in both usability and probe_gen:",
        "Advice: what goes with a low risk",
    ):
        assert part in result.stdout
    assert "12 values of objective are the groups" in result.stdout
    line = next(row for row in result.stdout.splitlines() if row.split()[:3] == ["z_dim", "×", "e"] and "usab" in row)
    assert line.split()[-2:] == ["35", "14"]  # encoders, and comparisons that they make


def test_totals_that_are_no_sums_are_said(planted, tmp_path):
    path = tmp_path / "zoo.csv"
    planted.with_columns(agg_risk=pl.col("agg_risk") + 0.05).write_csv(path)
    said = run(path).stdout
    assert "agg_risk is not the sum of the four components in 96 rows; in " in said and "5.00 points more" in said


def test_tables_show_five_digits_and_files_all(zoo):
    shown = run(zoo, "--show", "fronts").stdout.split()
    assert max(len(word.partition(".")[2]) for word in shown) <= 6
    rows = csv.DictReader(io.StringIO(run(zoo, "--show", "fronts", "--format", "csv").stdout))
    assert max(len(row["risk"]) for row in rows) > 12


def test_formats_hold_the_same_effects(zoo):
    table = json.loads(run(zoo, "--format", "json").stdout)
    rows = list(csv.DictReader(io.StringIO(run(zoo, "--format", "csv").stdout)))
    assert len(table) == len(rows) > 50
    assert list(table[0]) == list(rows[0])
    assert list(table[0])[:7] == ["choice", "level", "reference", "component", "method", "effect", "se"]
    for a, b in zip(table, rows, strict=True):
        assert b["effect"] == ("" if a["effect"] is None else str(a["effect"]))
        assert {"p", "p_adjusted", "n", "groups", "low", "high", "status", "reason"} <= set(a)


@pytest.mark.parametrize("shown", ["tradeoffs", "fronts", "advice"])
def test_parts_are_tables_too(zoo, shown):
    rows = json.loads(run(zoo, "--show", shown, "--format", "json").stdout)
    assert rows and all(list(r) == list(rows[0]) for r in rows)
    assert run(zoo, "--show", shown).exit_code == 0


def test_options(zoo):
    rows = json.loads(
        run(zoo, "--only", "z_dim", "--component", "usability", "--confounder", "epochs", "--ci", "0.8", "--cluster",
            "objective", "--method", "linear", "--format", "json").stdout
    )  # fmt: skip
    assert "There is nothing to show for trees" in run(zoo, "--only", "z_dim", "--show", "trees").stderr
    kept = [r for r in rows if r["method"].startswith("linear")]
    assert {(r["choice"], r["component"], r["confidence"]) for r in kept} == {("z_dim", "usability", 0.8)}
    said = run(zoo, "--method", "lineal")
    assert said.exit_code == 1 and "'lineal' is no method of a study; take controlled, linear, trees" in said.output
    assert "is not COLUMN=N" in run(zoo, "--shots", "a").output


def test_one_of_several_probes_is_studied(planted, tmp_path):
    both = pl.concat([planted.with_columns(probe=pl.lit(name)) for name in ("logistic", "ridge")])
    both.write_csv(tmp_path / "sweep.csv")
    refused = run(tmp_path / "sweep.csv")
    assert refused.exit_code == 1 and "choose one (--probe)" in refused.output
    chosen = run(tmp_path / "sweep.csv", "--probe", "ridge")
    assert chosen.exit_code == 0 and "Study of 96 encoders" in chosen.stdout


def test_errors_name_the_next_step(zoo, tmp_path):
    bad = tmp_path / "bad.csv"
    bad.write_text("encoder,agg_risk,z_dim\na,20,64\nb,30,128\n")
    result = run(bad)
    assert result.exit_code == 1 and "--percent converts percent" in result.output
    two = run(bad, "--percent")
    assert two.exit_code == 0 and "too few rows" in two.stdout
    assert "no law can be saved" in run(zoo, "--save-law", tmp_path / "law.json").output


def test_figures_are_written_and_equal_each_time(zoo, tmp_path):
    pytest.importorskip("vl_convert")
    pytest.importorskip("altair")
    for name in ("one", "two"):
        assert "figures are in" in run(zoo, "--figures", tmp_path / name).stderr
    first, second = (sorted((tmp_path / name).iterdir()) for name in ("one", "two"))
    assert [p.name for p in first] == [p.name for p in second]
    assert {"effects_usability.png", "effects_usability.svg", "front_usability_probe_gen.svg"} <= {
        p.name for p in first
    }
    assert any(p.name.startswith("partial_z_dim") for p in first)
    for path, again in zip(first, second, strict=True):
        assert path.read_bytes() == again.read_bytes(), path.name
        head = path.read_bytes()[:8]
        assert head == b"\x89PNG\r\n\x1a\n" if path.suffix == ".png" else head.startswith(b"<svg")


def test_a_page_of_the_study_is_written_and_not_over_another(zoo, tmp_path):
    for package in ("altair", "vl_convert", "jinja2"):
        pytest.importorskip(package)
    page = tmp_path / "study.html"
    assert f"The page is in {page}." in run(zoo, "--html", page).stderr
    text = page.read_text(encoding="utf-8")
    assert "<title>What design choices do, over 96 encoders</title>" in text and "<script" not in text
    for key in ("yardstick", "effects-usability", "partial", "correlations", "fronts", "advice"):
        assert f'<section id="{key}"' in text, key
    for key in ("laws", "trees"):  # what is missing, and the command that adds it
        assert f'<dt id="{key}">' in text
    assert "z_dim" in text and "n, rows" in text
    refused = run(zoo, "--html", page)
    assert refused.exit_code == 1 and "exists; name another file, or give --force" in refused.output


TORCHLESS = """
import sys
import ssl_risk_rs.study
assert "torch" not in sys.modules, "the import"
from ssl_risk_rs.cli import main
try:
    main(["study", sys.argv[1], "--method", "controlled,linear,trees", "--component", "usability", "--format", "json"])
except SystemExit as end:
    assert not end.code, end.code
assert "lightgbm" in sys.modules
assert "torch" not in sys.modules, "the command"
"""


def test_neither_the_import_nor_the_command_imports_torch(zoo):
    """LightGBM's thread pool and PyTorch's in one process can hang."""
    pytest.importorskip("lightgbm")
    done = subprocess.run([sys.executable, "-c", TORCHLESS, str(zoo)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert {r["method"] for r in rows} >= {"controlled", "linear/cluster", "linear/HC3", "trees"}


MISSING = """
import builtins, sys
real = builtins.__import__
def refuse(name, *rest):
    if name.partition(".")[0] == "scipy":
        raise ModuleNotFoundError("No module named 'scipy'", name="scipy")
    return real(name, *rest)
builtins.__import__ = refuse
import importlib
found = importlib.import_module
importlib.import_module = lambda name, *r: refuse(name) if name.startswith("scipy") else found(name, *r)
import ssl_risk_rs.study._extra as extra
extra.import_module = importlib.import_module
from ssl_risk_rs.cli import main
main(["study", sys.argv[1]])
"""


def test_a_missing_package_names_the_extra(zoo):
    done = subprocess.run([sys.executable, "-c", MISSING, str(zoo)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "the study needs scipy, which is not installed:  python -m pip install 'ssl-risk-rs[study]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_published_table_as_a_user_sees_it(paper, tmp_path):
    law = tmp_path / "law.json"
    few = ("--only", "ssl_mode,projection2_arch,z_dim", "--component", "usability,probe_gen,agg_risk")
    result = run(paper / "all_results.csv", "--as-published", "--save-law", law, *few)
    text = result.stdout
    assert "Study of 168 encoders (168 from published)" in text
    assert "26 cells of the published table are corrected, 13 components" in text
    assert "deepcluster_rn50_bs512_ep200_mmselfsup is left out" in text
    assert "ssl_mode = generative" in text and "not identified" in text
    assert "90% intervals hold" in text
    assert "The authors' way beside ours" in text
    rows = json.loads(law.read_text())["laws"]
    assert len(rows) == 5
    shown = json.loads(run(paper / "all_results.csv", "--show", "corrections", "--format", "json").stdout)
    assert len(shown) == 40


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--shots", "agg_risk@30=300"), "--shots needs --labels N beside it"),
        (("--shots", "agg_risk@30=300", "--labels", "200"), "300 labels, which are not fewer than --labels 200"),
        (("--shots", "agg_risk@5=50", "--labels", "2000"), "no column 'agg_risk@5'; of few shots it has agg_risk@30"),
        (("--shots", "agg_risk@30=0", "--labels", "2000"), "is not COLUMN=N"),
    ],
)
def test_numbers_of_labels_are_those_of_the_table(planted, tmp_path, words, said):
    planted.with_columns(**{"agg_risk@30": pl.col("agg_risk") + 0.1}).write_csv(tmp_path / "t.csv")
    result = run(tmp_path / "t.csv", *words)
    assert result.exit_code == 2 and said in result.stderr


def test_percent_of_text_is_refused_by_name(planted, tmp_path):
    planted.with_columns(agg_risk=pl.lit("29.6 %")).write_csv(tmp_path / "t.csv")
    result = run(tmp_path / "t.csv", "--percent")
    assert result.exit_code == 1 and "'agg_risk' holds String; percent are numbers" in result.stderr


def test_the_law_of_the_published_table_is_a_table(paper):
    rows = list(csv.DictReader(io.StringIO(run(paper / "all_results.csv", "--only", "epochs", "--show", "law",
                                               "--format", "csv").stdout)))  # fmt: skip
    assert len(rows) > 5 and {"law", "rmse", "by_labels@30000"} <= set(rows[0])
