"""`ssl-risk-rs report`: which files it writes, what it refuses, and that runs of other data are not compared."""

import os
import re
import stat
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from ssl_risk_rs._files import publish
from ssl_risk_rs.cli import main
from ssl_risk_rs.decomposition import decompose
from ssl_risk_rs.results import Provenance, Run

from .conftest import make, rows

X, Y = rows(120, 0)


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
    assert "# Where the error of 3 encoders comes from" in text and "### Against wide (block4), ridge probe" in text


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


def test_no_command_writes_over_what_it_reads(folders, tmp_path):
    before = (folders[0] / "run.json").read_bytes()
    for given in (folders[0], folders[0].parent):
        said = call(given, "--md", folders[0] / "run.json", "--force", code=1).stderr
        assert "run.json is read by this command and would be lost; name another file" in said
    assert (folders[0] / "run.json").read_bytes() == before
    call(folders[0], "--md", folders[0] / "report.md")
    call(folders[0], "--md", folders[0] / "report.md", "--force")
    assert "a.md is named for two files" in call(folders[0], "--md", "a.md", "--latex", "./a.md", code=1).stderr
    pack = CliRunner().invoke(main, ["pack", str(folders[0]), "-o", str(folders[0] / "outcomes.npz"), "--force"])
    assert pack.exit_code == 1 and "outcomes.npz is read by this command" in pack.stderr
    np.savez("a.npz", **{f"{a}_{p}": v for p in ("train", "test") for a, v in (("X", X), ("y", Y))})
    stats = CliRunner().invoke(main, ["stats", "a.npz", "--out", "a.npz", "--force"])
    assert stats.exit_code == 1 and "a.npz is read by this command" in stats.stderr
    Path("t.csv").write_text("a,b\n1,2\n")
    study = CliRunner().invoke(main, ["study", "t.csv", "--save-law", "t.csv", "--force"])
    assert study.exit_code == 1 and "t.csv is read by this command" in study.stderr


def test_a_pipe_or_a_device_is_no_file_to_replace(folders, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert "pipe is a pipe or a device, and no file" in call(folders[0], "--md", pipe, "--force", code=1).stderr
    with pytest.raises(OSError, match="Is a pipe or a device, and no file"):
        publish(pipe, lambda file: file.write_text("x"))
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_long_name_is_named_in_the_error(folders, tmp_path):
    name = "x" * 249 + ".md"
    call(folders[0], "--md", name)
    assert Path(name).is_file()
    said = call(folders[0], "--md", f"x{'y' * 260}.md", code=1).stderr
    assert "yyy.md: File name too long" in said and ".tmp" not in said


def test_control_characters_in_names_are_shown_as_replacements(tmp_path):
    for package in ("altair", "vl_convert", "jinja2"):
        pytest.importorskip(package)
    names = np.array(["a\x1b[31m", "b\x01\x00c", "d\x9b\r"])
    run_ = Run.of(
        decompose(X, names[Y], X, names[Y], probe="ridge", name="enc\x1b]0;t\x07"),
        provenance=Provenance(encoder="enc\x1b]0;t\x07", data="d\x02"),
    )  # fmt: skip
    folder = run_.save(tmp_path / "runs" / "r")
    call(folder, "--html", "a.html", "--md", "a.md", "--latex", "a.tex", "--figures", "figs")
    for file in (Path("a.html"), Path("a.md"), Path("a.tex"), *Path("figs").glob("*.svg")):
        text = file.read_text(encoding="utf-8")
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", text), file
    assert "enc\N{REPLACEMENT CHARACTER}]0;t\N{REPLACEMENT CHARACTER}" in Path("a.md").read_text(encoding="utf-8")
    shown = CliRunner().invoke(main, ["explain", str(folder), "--no-gap"])
    assert shown.exit_code == 0 and "\x1b" not in shown.stdout and "\N{REPLACEMENT CHARACTER}[31m" in shown.stdout


def test_statistics_of_another_representation_are_refused_or_told(folders):
    run_ = Run.load(folders[0])
    frame = pl.DataFrame({"statistic": ["rank"], "value": [5.5], "n": [360], "encoder": ["wide"], "n_features": [6]})
    frame.write_parquet("g.parquet")
    assert run_.provenance.encoder == "wide"
    assert call(folders[0], "--md", "a.md", "--geometry", "g.parquet").stderr == ""
    frame.with_columns(encoder=pl.lit("other")).write_parquet("g.parquet")
    told = call(folders[0], "--md", "b.md", "--geometry", "g.parquet").stderr
    assert told == "g.parquet was measured on other; the run is of wide.\n"
    frame.with_columns(n_features=pl.lit(7)).write_parquet(folders[0] / "geometry.parquet")
    assert "is of 7 features and the run of 6" in call(folders[0], "--md", "c.md", code=1).stderr


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"encoder": [7], "n_features": ["6"]}, "was measured on 7; the run is of wide"),
        ({"encoder": [None], "n_features": ["six"]}, ""),
        ({"n_features": [[6]]}, "has columns that are no names and numbers"),
    ],
)
def test_columns_of_other_kinds_beside_statistics_end_in_no_traceback(folders, columns, said):
    pl.DataFrame({"statistic": ["rank"], "value": [5.5], "n": [360], **columns}).write_parquet("g.parquet")
    result = CliRunner().invoke(main, ["report", str(folders[0]), "--md", "a.md", "--geometry", "g.parquet"])
    assert isinstance(result.exception, (SystemExit, type(None))) and said in result.stderr


def test_own_earlier_outputs_and_features_of_a_pack(folders):
    for _ in range(2):
        call(folders[0], "--md", folders[0] / "notes.txt", "--force")
    np.savez("f.npz", **{f"{a}_{p}": v for p in ("train", "test") for a, v in (("X", X), ("y", Y))})
    line = ["pack", str(folders[0]), "--with", "features", "--features", "f.npz", "-o", "f.npz", "--force"]
    packed = CliRunner().invoke(main, line)
    assert packed.exit_code == 1 and "f.npz is read by this command" in packed.stderr
    assert np.load("f.npz")["X_train"].shape == X.shape
