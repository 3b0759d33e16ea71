"""Jobs of submitit: on its stand-in for a cluster, whose jobs are processes of this machine, and as sbatch lines."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from ssl_risk_rs.cli import main
from ssl_risk_rs.workflow.engines import Change, Line
from sweep_helpers import SMALL, records, slow

submitit = pytest.importorskip("submitit", reason="needs submitit:  python -m pip install 'ssl-risk-rs[slurm]'")
pytest.importorskip("torch")
from ssl_risk_rs.workflow.engines.slurm import SlurmEngine  # noqa: E402


def test_pairs_run_as_jobs_and_one_that_fails_stops_no_other(tmp_path):
    good, bad = slow(tmp_path, "good", 0), slow(tmp_path, "bad", 0)
    text = (tmp_path / "bad.py").read_text()
    (tmp_path / "bad.py").write_text(
        text.replace("    return Slow()", "    raise ValueError('no weights')\n    return Slow()")
    )
    result = CliRunner().invoke(
        main,
        ["sweep", "-m", f"{good},{bad}", *SMALL, "--out", "out", "--format", "json", "--engine", "slurm",
         "--engine-option", "cluster=local", "--engine-option", "partition=gpu"],
    )  # fmt: skip
    assert result.exit_code == 1, result.stderr
    assert {row["encoder"]: row["state"] for row in json.loads(result.stdout)} == {good: "done", bad: "failed"}
    assert "no weights" in result.stderr and "To try it again:" in result.stderr
    assert {record["state"] for record in records(tmp_path / "out").values()} == {"done", "failed"}
    assert list((tmp_path / "out" / ".sweep" / "slurm").iterdir())  # submitit's own logs


def test_a_dry_run_prints_what_sbatch_would_get(tmp_path):
    result = CliRunner().invoke(
        main,
        ["sweep", "-m", "demo_ssl", "-d", "digits", "--dry-run", "--engine", "slurm", "--jobs", "4",
         "--engine-option", "partition=a100", "--engine-option", "account=me", "--engine-option", "mem_gb=64",
         "--engine-option", "timeout_min=90"],
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    for line in ("partition=a100", "account=me", "mem=64GB", "time=90", "gpus-per-node=1", "cpus-per-task=8"):
        assert f"#SBATCH --{line}" in result.stderr, result.stderr
    assert "4 at a time" in result.stderr and not (tmp_path / "sweep").exists()


def test_a_status_is_handed_over_and_no_more_jobs_run_than_asked_for(tmp_path):
    engine = SlurmEngine({"cluster": "local"}, jobs=1, device="cpu", folder=tmp_path)
    lines = [Line("help", ("--help",), tmp_path / "a.log"), Line("wrong", ("nothing",), tmp_path / "b.log")]
    changes: list[Change] = []
    engine.run(lines, changes.append)
    assert [(c.line.name, c.code) for c in changes if c.state == "ended"] == [("help", 0), ("wrong", 2)]
    assert "No such command 'nothing'" in Path(tmp_path / "b.log").read_text()


def test_a_machine_without_slurm_says_where_to_go(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    result = CliRunner().invoke(main, ["sweep", "-m", "demo_ssl", *SMALL, "--out", "out", "--engine", "slurm"])
    assert result.exit_code == 1 and "no srun" in result.stderr and "cluster=local" in result.stderr, result.stderr


def test_an_unknown_cluster_is_named():
    result = CliRunner().invoke(
        main, ["sweep", "-m", "demo_ssl", "-d", "digits", "--engine", "slurm", "--engine-option", "cluster=pbs"]
    )
    assert result.exit_code == 1 and "the cluster is slurm, or local or debug" in result.stderr
