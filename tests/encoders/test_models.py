"""`ssl-risk-rs models`: every encoder with its status, and what is known of one."""

import csv
import io
import json

from click.testing import CliRunner, Result
from ssl_risk_rs.cli import main


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["models", *arguments])


def rows(*arguments: str) -> list[dict[str, object]]:
    return json.loads(run(*arguments, "--format", "json").output)


def test_list_has_the_status_of_every_encoder():
    listed = rows("list", "byol*")
    assert len(listed) == 12 and {row["status"] for row in listed} == {"loads"}
    dead = rows("list", "--status", "address dead")
    assert [row["name"] for row in dead] == ["beit_vitL16_pt22k", "beitv2_vitB16_pt1k_ep300", "beitv2_vitL16_pt1k"]
    assert all("ckpt:FILE@" in str(row["note"]) for row in dead)
    table = run("list", "swav*", "--format", "csv").output.splitlines()
    assert table[0].startswith("name,status,objective") and len(table) == 10
    assert run("list", "none*").exit_code == 1


def test_a_word_finds_the_names_that_contain_it():
    assert [row["name"] for row in rows("list", "px336")] == [
        "clip_vitL14_px336", "clip_vitL14_px336_extractB", "clip_vitL14_px336_extractPred",
        "clip_vitL14_px336_extractPredCls", "clip_vitL14_px336_extractS",
    ]  # fmt: skip
    assert "swav_rn50" in {row["name"] for row in rows("list", "swav")}


def test_the_table_fits_a_terminal():
    lines = run("list").output.splitlines()
    assert max(map(len, lines)) <= 80 and len(lines) > 185


def test_show_has_addresses_and_the_papers_columns():
    shown = run("show", "swav")
    assert "swav_800ep_pretrain.pth.tar" in shown.output and shown.exit_code == 0
    facts = json.loads(run("show", "dissl_resnet50_d8192_e800_m8", "--format", "json").output)
    assert facts["status"] == "loads" and facts["paper"]["epochs"] == "800" and facts["options"] == "expand=8192"
    assert facts["corrected"]["epochs"].startswith("800, published as 400: ")
    assert facts["addresses"][0].endswith("dissl_resnet50_d8192_e800_m8.torch (assumed, native)")
    values = {
        row["field"]: row["value"]
        for row in csv.DictReader(io.StringIO(run("show", "clip_rn50", "--format", "csv").output))
    }
    assert values["paper.objective"] == "clip" and "dead" in values["addresses"] and len(values["sha256"]) == 64
    missing = run("show", "swaf")
    assert missing.exit_code == 1 and "Error: no encoder 'swaf'" in missing.output
