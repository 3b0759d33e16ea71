"""`ssl-risk-rs report`: which files it writes, what it refuses, and that runs of other data are not compared."""

import re
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner
from ssl_risk_rs.cli import main

from .conftest import make


def call(*arguments: object, code: int = 0):
    result = CliRunner().invoke(main, ["report", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def folders(tmp_path, three):
    return [run.save(tmp_path / "runs" / f"r{i}") for i, run in enumerate(three)]


def test_markdown_and_latex_need_no_extra(folders):
    result = call(folders[0], "--md", "out/a.md", "--latex", "a.tex")
    assert result.stdout == "The report is in out/a.md.\nThe report is in a.tex.\n"
    assert Path("out/a.md").read_text(encoding="utf-8").startswith("# Where the error of wide comes from")
    assert r"\toprule" in Path("a.tex").read_text(encoding="utf-8")
    assert not Path("report.html").exists()


def test_the_default_is_a_page_and_figures_are_linked(folders):
    for package in ("altair", "vl_convert", "jinja2"):
        pytest.importorskip(package)
    call(*folders)
    assert "<h2" in Path("report.html").read_text(encoding="utf-8")
    call(*folders, "--md", "page/a.md", "--figures", "figs")
    drawn = re.findall(r"\]\(([^)]+\.svg)\)", Path("page/a.md").read_text(encoding="utf-8"))
    assert len(drawn) > 10 and all((Path("page") / name).is_file() for name in drawn)
    assert {p.suffix for p in Path("figs").iterdir()} == {".svg", ".png"}


def test_a_folder_of_runs_is_all_of_them_in_their_order(folders):
    call(folders[0].parent, "--md", "a.md")
    text = Path("a.md").read_text(encoding="utf-8")
    assert "# Where the error of 3 encoders comes from" in text and "### Against wide block4, ridge probe" in text


def test_runs_of_other_rows_are_reported_without_a_comparison(folders, tmp_path):
    other = make("other", seed=1).save(tmp_path / "other")
    result = call(folders[0], other, "--md", "a.md")
    assert "differ in seed of the splits (0 and 1)" in result.stderr
    assert "seed of the splits" in Path("a.md").read_text(encoding="utf-8")


def test_statistics_beside_the_run_are_found(folders):
    frame = pl.DataFrame({"statistic": ["effective_rank"], "value": [5.5], "n": [360]})
    frame.write_parquet(folders[1] / "geometry.parquet")
    call(folders[1], "--md", "a.md")
    assert "| effective rank | 5.5 | 360 |" in Path("a.md").read_text(encoding="utf-8")
    frame.write_parquet("other.parquet")
    call(folders[0], "--md", "b.md", "--geometry", "other.parquet")
    assert "effective rank" in Path("b.md").read_text(encoding="utf-8")
    assert "statistics of one run, and there are 2" in call(*folders[:2], "--geometry", "other.parquet", "--md", "c.md",
                                                            code=1).stderr  # fmt: skip


def test_what_is_there_is_not_overwritten(folders):
    Path("a.md").write_text("mine")
    assert "a.md exists; name another file, or give --force" in call(folders[0], "--md", "a.md", code=1).stderr
    assert Path("a.md").read_text() == "mine"
    call(folders[0], "--md", "a.md", "--force")
    assert Path("a.md").read_text(encoding="utf-8") != "mine"
    Path("folder").mkdir()
    assert "folder is a folder; name a file" in call(folders[0], "--md", "folder", "--force", code=1).stderr


def test_no_run_is_said(tmp_path):
    assert "there is no run folder (with run.json) in nowhere" in call("nowhere", "--md", "a.md", code=1).stderr
    assert "Missing argument" in call("--md", "a.md", code=2).stderr
