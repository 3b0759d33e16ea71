"""`ssl-risk-rs models`: every encoder with its status, and what is known of one."""

import csv
import http.server
import io
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
from click.testing import CliRunner, Result
from ssl_risk_rs.cli import main
from ssl_risk_rs.encoders.catalogue import Address, catalogue
from ssl_risk_rs.encoders.weights.check import Answer, check_addresses, files_without_address


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


def test_filters_and_what_they_find():
    found = rows("list", "--dim", "512..1024", "--family", "vit", "--objective", "DINO*")
    assert [row["name"] for row in found] == ["dino_vitB16_last", "dino_vitB8_last", "dino_vitS16_extractB"]
    assert {row["family"] for row in found} == {"vit"} and {row["dim"] for row in found} == {768}
    wide = rows("list", "--dim", "8192")
    assert wide and all(row["dim"] == 8192 for row in wide)
    none = run("list", "--objective", "dina")
    assert none.exit_code == 1 and "values of objective are " in none.output and "dino" in none.output
    assert run("list", "--dim", "x").exit_code == 2 and run("list", "timm:resnet1*", "--dim", "512").exit_code == 2


def test_show_prints_published_errors_where_the_table_is_here(paper_data):
    assert "published.agg_risk" not in run("show", "swav").output
    CliRunner().invoke(main, ["paper", "fetch", "--file", str(paper_data / "all_results.csv")])
    facts = json.loads(run("show", "swav", "--format", "json").output)["published"]
    assert facts["agg_risk"] == pytest.approx(0.2607, abs=5e-5)  # as printed, in percent with two places
    assert sum(facts[c] for c in ("approx", "usability", "probe_gen", "enc_gen")) == pytest.approx(facts["agg_risk"])
    assert "26.07 %" in run("show", "swav").output and "published.agg_risk" not in run("show", "demo_ssl").output


# --- check


@pytest.fixture
def host() -> Iterator[tuple[str, list[str]]]:
    """A server: /alive, /gone (404), /get (no HEAD), /busy (503); and the requests that it got."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            asked.append(f"{self.command} {self.path}")
            kind = self.path.strip("/").split("/")[0]
            status = {"alive": 200, "gone": 404, "get": 405 if self.command == "HEAD" else 200, "busy": 503}[kind]
            self.send_response(status)
            self.send_header("Content-Length", "1000")
            self.end_headers()

        do_HEAD = do_GET = answer

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


def place(file: str, address: str, n_bytes: int | None = None) -> Address:
    return Address(file, address, "native", "torch", "alive", n_bytes, "", "MIT", "LICENSE")


def test_addresses_are_asked_and_not_read(host):
    url, asked = host
    files = [
        (place("a", f"{url}/gone"), place("a", f"{url}/alive/1", 1000)),
        (place("b", f"{url}/get", 1000),),
        (place("c", f"{url}/alive/2", 999), place("c", f"{url}/busy")),
        (place("d", "http://127.0.0.1:9/x"),),
        (place("e", "no address"),),
    ]
    checked = check_addresses(files, timeout=5)
    assert [c.answer for c in checked] == [
        Answer.DEAD, Answer.ALIVE, Answer.ALIVE, Answer.OTHER_SIZE, Answer.NO_ANSWER, Answer.NO_ANSWER,
        Answer.NO_ANSWER,
    ]  # fmt: skip
    assert [c.mirror for c in checked] == [False, True, False, False, True, False, False]
    assert "404" in checked[0].detail and checked[3].detail == "1,000 bytes, published are 999"
    assert files_without_address(checked) == ["c", "d", "e"]
    assert sorted(asked) == ["GET /get", "HEAD /alive/1", "HEAD /alive/2", "HEAD /busy", "HEAD /get", "HEAD /gone"]


def test_the_command_names_files_without_an_address(host, monkeypatch):
    url, _ = host
    tables = catalogue()
    ends = {"swav_rn50": "gone", "swav_rn50w2": "busy"}
    files = {
        file: tuple(replace(p, address=f"{url}/{ends.get(file, 'alive')}", n_bytes=None) for p in places)
        for file, places in tables.files.items()
    }
    monkeypatch.setattr("ssl_risk_rs.encoders.catalogue.catalogue", lambda: replace(tables, files=files))
    result = run("check", "swav*")
    assert result.exit_code == 1 and "7 of 9 addresses of 9 files are alive." in result.output
    assert "2 files have no address that gives them: swav_rn50, swav_rn50w2" in result.output
    assert max(len(line) for line in result.stdout.splitlines() if "original" in line) <= 80
    assert run("check", "swav_rn50w4").exit_code == 0 and run("check", "demo*").exit_code == 1


def test_offline_says_what_would_be_asked(no_network):
    result = run("check", "swav", "--offline")
    assert result.exit_code == 0 and "9 addresses of 9 files would be asked; none was" in result.output
    assert "https://dl.fbaipublicfiles.com/deepcluster/swav_800ep_pretrain.pth.tar" in result.output
    assert os.environ.get("SSL_RISK_OFFLINE") is None and no_network == []
    asked = run("check", "swav_rn50w4", "--timeout", "1")
    assert no_network  # without it, the network is asked: the guard can see that
    assert asked.exit_code == 1 and "this machine may have no network" in asked.output


# --- nothing is downloaded offline


@pytest.mark.parametrize("how", ["option", "variable"])
def test_run_and_extract_touch_no_network_offline(no_network, monkeypatch, how):
    option = ["--offline"] if how == "option" else []
    if how == "variable":
        monkeypatch.setenv("SSL_RISK_OFFLINE", "1")

    def command(*arguments: str) -> Result:
        return CliRunner().invoke(main, [*arguments, "-d", "digits", "--limit", "20/class", "--store", "st", *option])

    assert command("run", "-m", "demo_ssl", "--probe", "ridge").exit_code == 0
    for name, words in (
        ("swav", "are not on this machine, and nothing is downloaded"),
        ("timm:resnet18", "cannot be had"),
        ("hub:facebookresearch/dino:main:dino_vits16", "is not on this machine, and nothing is downloaded"),
        ("hub:facebookresearch/dino:dino_vits16", "is not on this machine, and nothing is downloaded"),
    ):
        result = command("extract", "-m", name)
        assert result.exit_code == 1 and words in result.output, name
    for arguments in (("list", "swav*"), ("show", "swav"), ("list", "timm:resnet1*")):
        assert run(*arguments).exit_code == 0
    assert no_network == [] and (how == "variable" or os.environ.get("SSL_RISK_OFFLINE") is None)


def test_show_has_addresses_and_the_papers_columns():
    shown = run("show", "swav")
    assert "swav_800ep_pretrain.pth.tar" in shown.output and shown.exit_code == 0
    assert "ssl-risk-rs paper fetch  gets the table" in shown.stderr
    facts = json.loads(run("show", "dissl_resnet50_d8192_e800_m8", "--format", "json").stdout)
    assert facts["status"] == "loads" and facts["paper"]["epochs"] == "800" and facts["options"] == "expand=8192"
    assert facts["corrected"]["epochs"].startswith("800, published as 400: ")
    assert facts["addresses"][0].endswith("dissl_resnet50_d8192_e800_m8.torch (assumed, native)")
    values = {
        row["field"]: row["value"]
        for row in csv.DictReader(io.StringIO(run("show", "clip_rn50", "--format", "csv").stdout))
    }
    assert values["paper.objective"] == "clip" and "dead" in values["addresses"] and len(values["sha256"]) == 64
    missing = run("show", "swaf")
    assert missing.exit_code == 1 and "Error: no encoder 'swaf'" in missing.output
