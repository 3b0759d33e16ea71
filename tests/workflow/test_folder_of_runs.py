"""The folder of a curve: what a kill, another process or a changed checkpoint does to its index."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ssl_risk_rs import decompose
from ssl_risk_rs.results import ResultError, Run
from ssl_risk_rs.workflow import many
from ssl_risk_rs.workflow.many import INDEX, Item, RunFolder, run_each


@pytest.fixture(scope="module")
def run() -> Run:
    rng = np.random.default_rng(0)
    y = np.arange(120) % 3
    x = (rng.standard_normal((120, 4)) + 2 * np.eye(4)[y]).astype(np.float32)
    return Run.of(decompose(x[:80], y[:80], x[80:], y[80:], probe="ridge", n_threads=1))


def item(name: str, **given: object) -> Item:
    bank = Path("/banks") / name
    banks = SimpleNamespace(encoder=SimpleNamespace(path=bank), paths=lambda: {"encoder": bank})
    return Item(name, f"ckpt:{name}", lambda: banks, **given)  # type: ignore[arg-type]


def lines(folder: Path) -> dict[str, dict[str, object]]:
    return json.loads((folder / INDEX).read_text())


def test_a_folder_whose_first_index_was_never_finished_is_taken(tmp_path, run):
    folder = tmp_path / "curve"
    folder.mkdir()
    (folder / f".{INDEX}.123-0123abcd.tmp").write_text("{}")
    RunFolder(folder, "q", force=False).keep(item("a"), run, Path("/banks/a"), complete=True)
    assert lines(folder)["a"]["complete"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(ResultError, match="other exists"):
        RunFolder(tmp_path / "other", "q", force=False)


def test_two_processes_keep_each_others_lines(tmp_path, run):
    one, two = (RunFolder(tmp_path / "curve", "q", force=False) for _ in range(2))
    for folder, names in ((one, "ab"), (two, "cb"), (one, "d")):
        for name in names:
            folder.keep(item(name), run, Path("/banks") / name, complete=True)
    assert sorted(lines(tmp_path / "curve")) == ["a", "b", "c", "d"]
    folders = [line["folder"] for line in lines(tmp_path / "curve").values()]
    assert sorted(folders) == ["a", "b", "c", "d"]
    assert all((tmp_path / "curve" / folder / "run.json").is_file() for folder in folders)


def test_a_checkpoint_that_changes_while_it_is_encoded_is_no_run_of_its_epoch(tmp_path, run):
    folder, said = RunFolder(tmp_path / "curve", "q", force=False), []
    still = item("a", epoch=1.0, stamp="s", stamp_now=lambda: "s")
    changed = item("b", epoch=2.0, stamp="s", stamp_now=lambda: "t")
    entries, failed = run_each([still, changed], folder, lambda *_: (run, None), say=said.append)
    assert [e.name for e in entries] == ["a"] and [f.name for f in failed] == ["b"]
    assert "ckpt:b was changed while this ran" in failed[0].reason and list(lines(tmp_path / "curve")) == ["a"]


def test_an_epoch_that_was_written_anew_is_that_of_the_index(tmp_path, run, monkeypatch):
    monkeypatch.setattr(many, "is_made_of", lambda *_: True)
    folder = RunFolder(tmp_path / "curve", "q", force=False)
    first = item("a", epoch=2.0, epoch_from="file", stamp="s")
    run_each([first], folder, lambda *_: (run, None))
    before = (tmp_path / "curve" / INDEX).stat().st_mtime_ns
    again = RunFolder(tmp_path / "curve", "q", force=False)
    run_each([first], again, lambda *_: pytest.fail("it is there"))
    assert (tmp_path / "curve" / INDEX).stat().st_mtime_ns == before
    run_each([replace(first, epoch=20.0, stamp="t")], again, lambda *_: pytest.fail("it is there"))
    line = lines(tmp_path / "curve")["a"]
    assert (line["epoch"], line["stamp"], line["complete"]) == (20.0, "t", True)
