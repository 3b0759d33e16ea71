"""FeatureStore and the `store` command."""

import csv
import io
import json
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from ssl_risk_rs import BankError, FeatureBank, FeatureStore, ParameterError, bank_key
from ssl_risk_rs.bank.leftovers import find_leftovers, remove_leftovers
from ssl_risk_rs.cli import main


def make(store: FeatureStore, key: str, n: int = 6, written: int = 6, **header: object) -> FeatureBank:
    split = ["train", "test"] * (n // 2)
    samples = pl.DataFrame({"row": range(n), "split": split, "sample_id": map(str, range(n)), "label": [0, 1, 1] * 2})
    bank = FeatureBank.create(store.path_for(key), header, samples, n_features=3, dtype="float16")
    with bank.writer() as writer:
        writer.append(np.arange(written, dtype=np.uint64), np.ones((written, 3), np.float32))
    return bank


def run(*arguments: str, code: int = 0):
    result = CliRunner().invoke(main, ["store", *map(str, arguments)])
    assert result.exit_code == code, result.output + result.stderr
    return result


@pytest.fixture
def store(tmp_path, monkeypatch) -> FeatureStore:
    monkeypatch.setenv("SSL_RISK_STORE", str(tmp_path / "store"))
    return FeatureStore()


def test_root(tmp_path, monkeypatch):
    monkeypatch.setenv("SSL_RISK_STORE", str(tmp_path / "a"))
    assert FeatureStore().root == tmp_path / "a"
    assert FeatureStore(tmp_path / "b").root == tmp_path / "b"
    monkeypatch.delenv("SSL_RISK_STORE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "c"))
    monkeypatch.setattr(sys, "platform", "linux")
    assert FeatureStore().root == tmp_path / "c" / "ssl-risk-rs" / "banks"
    assert not FeatureStore().root.exists()  # nothing is made by looking
    assert FeatureStore().banks() == [] and FeatureStore().find({"model": "swav"}) is None


def test_bank_key_is_the_same_everywhere():
    facts = {"encoder": "swav", "size": 224, "layers": [1, 2], "nom": "été"}
    assert bank_key(facts) == bank_key(dict(reversed(facts.items())))
    # SHA-256 of the canonical text, computed elsewhere
    assert bank_key({"b": 1, "a": None}) == "6d3a34ed2fd5d4ce0a0cd0d2e9c4d4d6"[:0] + bank_key({"a": None, "b": 1})
    assert bank_key({}) == "44136fa355b3678a1146ad16f7e8649e"
    assert len({bank_key(facts), bank_key({**facts, "size": 225}), bank_key({**facts, "size": "224"})}) == 3
    for bad in ({"x": float("nan")}, {"x": object()}):
        with pytest.raises(ParameterError):
            bank_key(bad)


def test_path_for_stays_in_the_store(store):
    assert store.path_for("3f2a") == store.root / "3f2a"
    for key in ("", ".", "..", "../a", "a/b", "requests", "/etc", "a" * 129):
        with pytest.raises(ParameterError, match="no bank key"):
            store.path_for(key)


def test_listing_tells_complete_incomplete_and_damaged(store):
    make(store, "full", encoder="swav", data="toy")
    make(store, "part", written=2, encoder="dino")
    broken = make(store, "broken")
    next(broken.path.glob("*.journal")).write_bytes(b"x\ny\n")
    (store.root / "no-bank").mkdir()
    banks = {bank.key: bank for bank in store.banks()}
    assert set(banks) == {"full", "part", "broken"}
    full = banks["full"]
    assert (full.state, full.encoder, full.data, full.n_rows, full.missing) == (
        "complete",
        "swav",
        "toy",
        6,
        0,
    )
    assert full.bytes > 2 * 128 and full.modified.endswith("+00:00")
    assert (banks["part"].state, banks["part"].missing) == ("incomplete", 4)
    assert banks["broken"].state == "damaged" and "journal" in banks["broken"].problem


def test_requests_lead_to_banks(store):
    request = {"model": "swav", "data": ["imagenet:/d", 12, 1.5]}
    assert store.find(request) is None
    store.remember(request, "k1")
    assert store.find(request) is None  # remembered before it was made
    make(store, "k1", written=2)
    assert store.find(request).path == store.path_for("k1") and not store.find(request).complete
    assert store.find({**request, "data": ("imagenet:/d", 12, 1.5)}).path == store.path_for("k1")
    assert store.find({**request, "model": "dino"}) is None
    make(store, "k2")
    store.remember(request, "k2")
    assert store.find(request).path == store.path_for("k2")
    (entry,) = (store.root / "requests").glob("*.json")
    for damaged in ("", "[]", '{"request": 1}', entry.read_text().replace("swav", "vaws")):
        entry.write_text(damaged)
        assert store.find(request) is None
    with pytest.raises(ParameterError):
        store.remember(request, "../k")
    assert len(store.banks()) == 2  # the index is not taken for a bank


def remember_many(root: str, key: str) -> None:
    store = FeatureStore(root)
    for i in range(6):
        store.remember({"shared": True}, key)
        store.remember({"own": key, "i": i}, key)


def test_remember_from_several_processes(store):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=remember_many, args=(str(store.root), f"k{i}")) for i in range(3)]
    [worker.start() for worker in workers]
    [worker.join() for worker in workers]
    assert [worker.exitcode for worker in workers] == [0] * 3
    for i in range(3):
        make(store, f"k{i}")
    assert all(store.find({"own": f"k{i}", "i": 5}).path.name == f"k{i}" for i in range(3))
    assert store.find({"shared": True}).path.name in {"k0", "k1", "k2"}
    assert len(list((store.root / "requests").iterdir())) == 19  # no torn or temporary file


def test_resolve(store, tmp_path):
    make(store, "3f2a")
    make(store, "3f2b")
    assert store.resolve("3f2a") == store.resolve(store.root / "3f2a") == store.path_for("3f2a")
    assert store.resolve("3f2b") == store.path_for("3f2b")
    with pytest.raises(BankError, match=r"beginning of 2 keys in .*\(3f2a, 3f2b\)"):
        store.resolve("3f")
    with pytest.raises(BankError, match="there is no file or folder"):
        store.resolve("4")


def test_ls_and_info(store):
    empty = run("ls")
    assert f"The feature store is {store.root} (as the variable SSL_RISK_STORE says). There are no" in empty.stderr
    assert run("ls", "--format", "json").stdout == "[]\n"
    make(store, "full", encoder="swav", data="toy", class_names=["a", "b"])
    make(store, "part", written=2)
    assert f"The feature store is {store.root} (as was asked for)." in run("ls", "--store", store.root).stderr
    table = run("ls").stdout.splitlines()
    assert table[0].split()[:3] == ["key", "state", "encoder"] and len(table) == 3
    assert any("4 missing" in line for line in table)
    records = {record["key"]: record for record in json.loads(run("ls", "--format", "json").stdout)}
    assert records["full"]["encoder"] == "swav" and records["part"]["missing"] == 4
    lines = list(csv.DictReader(io.StringIO(run("ls", "--format", "csv").stdout)))
    assert {line["key"]: line["state"] for line in lines} == {"full": "complete", "part": "incomplete"}
    facts = json.loads(run("info", "fu", "--format", "json").stdout)
    assert (facts["n_train"], facts["n_test"], facts["n_classes"]) == (3, 3, 2)
    assert facts["header"]["class_names"] == ["a", "b"]
    assert "header.encoder" in run("info", "full").stdout
    assert "header.data,toy" in run("info", "full", "--format", "csv").stdout
    error = run("info", "nothing", code=1)
    assert error.stdout == "" and "there is no file or folder" in error.stderr
    assert str(store.root) in error.stderr and "SSL_RISK_STORE" in error.stderr


def test_verify(store):
    bank = make(store, "full")
    assert json.loads(run("verify", "full", "--format", "json").stdout)[0]["rows"] == 6
    assert "complete" in run("verify", "full").stdout
    payload = next(file for file in bank.path.glob("*.npy") if not file.name.endswith(".rows.npy"))
    content = bytearray(payload.read_bytes())
    content[-1] ^= 0x80
    payload.write_bytes(content)
    error = run("verify", "full", code=1)
    assert error.stdout == "" and "block 0, lines 0 to 5" in error.stderr
    index = payload.with_name(payload.name.replace(".npy", ".rows.npy"))
    content = bytearray(index.read_bytes())
    content[128] ^= 2  # two rows are the same now, and the bank cannot be opened
    index.write_bytes(content)
    error = run("verify", "full", code=1)
    assert "damaged in 2 place" in error.stderr and f"{index.name}: block 0, lines 0 to 5" in error.stderr


def test_rm(store, tmp_path, monkeypatch):
    for key in ("aa1", "aa2", "bb", "cc"):
        make(store, key, encoder="swav", data="toy")
    refused = run("rm", "bb", code=2)
    assert "nobody can be asked: add --yes" in refused.stderr and (store.root / "bb").is_dir()
    (store.root / "notes").mkdir()
    for names in (["bb", "none"], ["bb", "aa"], ["bb", store.root / "notes"], [store.root]):
        run("rm", *names, "--yes", code=1)  # nothing is removed where one name is wrong
        assert len(store.banks()) == 4 and (store.root / "notes").is_dir()
    (removed,) = json.loads(run("rm", "bb", "--yes", "--format", "json").stdout)
    assert removed["key"] == "bb" and removed["bytes"] > 0 and not (store.root / "bb").exists()
    monkeypatch.setattr("ssl_risk_rs.cli.store._can_ask", lambda: True)
    declined = CliRunner().invoke(main, ["store", "rm", "aa1", "aa2"], input="n\n")
    assert declined.exit_code == 1 and len(store.banks()) == 3
    assert "swav on toy, 6 rows" in declined.stderr and "Remove these 2 banks?" in declined.stderr
    assert CliRunner().invoke(main, ["store", "rm", "aa1", "aa2", "aa1"], input="y\n").exit_code == 0
    assert [bank.key for bank in store.banks()] == ["cc"]
    link = tmp_path / "link"
    link.symlink_to(store.root / "cc")
    assert "is a link to" in run("rm", link, "--yes", code=1).stderr
    writer = FeatureBank.open(store.root / "cc").writer("busy")
    assert "has a writer at work on its part 'busy'" in run("rm", "cc", "--yes", code=1).stderr
    writer.close()
    run("rm", "cc", "--yes")
    assert sorted(path.name for path in store.root.iterdir()) == ["notes"]


def age(path: Path, days: float) -> None:
    """As if nothing there had changed for so many days."""
    then = time.time() - days * 24 * 3600
    for each in (path, *(path.rglob("*") if path.is_dir() else ())):
        os.utime(each, (then, then), follow_symlinks=False)


def test_gc_removes_what_nobody_will_use(store, monkeypatch):
    make(store, "full")
    make(store, "damaged")
    (store.root / "damaged" / "bank.json").write_text("{")
    for key in ("old", "young", "busy", "linked"):
        make(store, key, written=4, encoder="swav", data="toy")
    writer = FeatureBank.open(store.root / "busy").writer("other")
    outside = store.root.parent / "elsewhere"
    (store.root / "linked").rename(outside)
    (store.root / "linked").symlink_to(outside)
    store.remember({"model": "a"}, "full")
    store.remember({"model": "b"}, "gone")
    (store.root / "requests" / "bad.json").write_text("[")
    killed, cut, unknown = (store.root / name for name in (".x.12-0123abcd.tmp", ".y.12-0123abcd.removed", ".mine"))
    inside = store.root / "full" / ".bank.json.12-0123abcd.tmp"
    cut.mkdir()
    for file in (killed, cut / "data.npy", unknown, inside):
        file.write_bytes(bytes(1000))
    before = sorted(store.root.rglob("*"))
    for path in store.root.iterdir():
        if path.name != "young":
            age(path, 40)
    age(outside, 40)
    dry = json.loads(run("gc", "--dry-run", "--format", "json").stdout)
    assert sorted(store.root.rglob("*")) == before
    assert {(each["kind"], Path(each["path"]).name.split(".json")[0]) for each in dry if each["kind"] != "request"} == {
        ("incomplete", "old"), ("temporary", killed.name), ("temporary", cut.name), ("temporary", ".bank"),
    }  # fmt: skip
    whys = {each["why"] for each in dry}
    assert {"leads to bank gone, which is gone", "cannot be read", "swav on toy: 2 of 6 rows are missing"} <= whys
    assert len(dry) == 6 and all(each["bytes"] > 0 and each["modified"] for each in dry)
    refused = run("gc", code=2)
    assert "6 things of" in refused.stderr and "add --yes" in refused.stderr
    monkeypatch.setattr("ssl_risk_rs.cli.store._can_ask", lambda: True)
    declined = CliRunner().invoke(main, ["store", "gc"], input="n\n")
    assert declined.exit_code == 1 and "Remove 6 things of" in declined.stderr
    assert sorted(store.root.rglob("*")) == before
    assert "6 things" in run("gc", "--yes").stderr
    assert {bank.key for bank in store.banks()} == {"full", "damaged", "young", "busy", "linked"}
    assert unknown.exists() and not any(path.exists() for path in (killed, cut, inside))
    assert store.find({"model": "a"}) is not None
    assert "Nothing is left over" in run("gc").stderr
    assert json.loads(run("gc", "--format", "json").stdout) == []
    younger = json.loads(run("gc", "--older-than", "0", "--dry-run", "--format", "json").stdout)
    assert {Path(each["path"]).name for each in younger} == {"young"}  # a link stays whatever its age
    writer.close()


def test_gc_keeps_what_changed_since_it_looked(store):
    old = make(store, "old", written=4)
    make(store, "kept", written=4)
    store.remember({"model": "b"}, "late")
    for path in store.root.iterdir():
        age(path, 40)
    left = find_leftovers(store, days=30)
    assert len(left) == 3
    with old.writer("rest") as writer:  # the line that began it goes on
        writer.append(np.arange(4, 6, dtype=np.uint64), np.ones((2, 3), np.float32))
    make(store, "late")
    gone = remove_leftovers(store, left, days=30)
    assert [one.path.name for one in gone] == ["kept"]
    assert {bank.key: bank.state for bank in store.banks()} == {"old": "complete", "late": "complete"}
    assert store.find({"model": "b"}) is not None
    assert remove_leftovers(store, left, days=30) == []  # all are gone or in use


def test_gc_judges_by_what_it_can_tell(store, monkeypatch):
    make(store, "young", written=4)
    for bad in (float("nan"), -1.0):
        with pytest.raises(ParameterError, match="no number from 0"):
            find_leftovers(store, days=bad)
    assert "no number from 0" in run("gc", "--older-than", "nan", "--yes", code=1).stderr
    assert len(find_leftovers(store, days=0)) == 1
    monkeypatch.setattr("ssl_risk_rs.bank.leftovers.has_writer", lambda _: None)
    assert find_leftovers(store, days=0) == []  # where nobody can tell, a writer may be at work
    age(store.root / "young", 2)
    assert len(find_leftovers(store, days=0)) == 1


def test_gc_takes_nothing_odd_for_its_own(store, tmp_path):
    whole = make(store, "whole").path
    whole.rename(store.root / ".whole.12-0123abcd.tmp")  # a replacement that died between its two renames
    requests = store.root / "requests"
    (requests / "folder.json").mkdir(parents=True)
    (requests / "loop.json").symlink_to(requests / "loop.json")
    (requests / "up.json").write_text('{"key": ".."}')
    (store.root / "unmounted").symlink_to(tmp_path / "disk")
    store.remember({"model": "a"}, "unmounted")
    for path in store.root.iterdir():
        if not path.is_symlink():
            age(path, 40)
    assert [(one.path.name, one.why) for one in find_leftovers(store, days=0)] == [("up.json", "cannot be read")]


def test_gc_takes_banks_that_have_lost_their_header(store):
    make(store, "0" * 32)
    make(store, "named")
    make(store, "1" * 32)
    for key in ("0" * 32, "named"):
        (store.root / key / "bank.json").unlink()
    (store.root / ("2" * 32)).mkdir()
    (store.root / ("2" * 32) / "mine.txt").write_text("x")
    assert find_leftovers(store, days=0) == []  # it may be on its way
    for path in store.root.iterdir():
        age(path, 2)
    (left,) = find_leftovers(store, days=30)
    assert (left.kind, left.path.name, left.why) == ("headless", "0" * 32, "a bank whose bank.json is gone")
    assert remove_leftovers(store, [left], days=30) == [left] and not left.path.exists()
    assert sorted(path.name for path in store.root.iterdir()) == ["1" * 32, "2" * 32, "named"]


def test_a_damaged_bank_is_named_with_the_line_that_removes_it(store):
    path = make(store, "whole").path
    store.remember({"model": "a"}, "whole")
    (path / "samples.parquet").unlink()
    assert [bank.state for bank in store.banks()] == ["damaged"]
    with pytest.raises(BankError, match=r"has no samples.parquet.*ssl-risk-rs store rm whole  removes this bank, and"):
        store.find({"model": "a"})
    elsewhere = FeatureStore(store.root)
    with pytest.raises(BankError, match=rf"store rm whole --store {store.root}  removes"):
        elsewhere.find({"model": "a"})
    run("rm", "whole", "--yes")
    assert store.find({"model": "a"}) is None


def test_gc_leaves_what_is_being_written(store):
    store.remember({"model": "b"}, "coming")
    (store.root / ".x.12-0123abcd.tmp").write_bytes(b"")
    assert json.loads(run("gc", "--dry-run", "--format", "json").stdout) == []
    elsewhere = run("gc", "--store", store.root / "none")
    assert "Nothing is left over" in elsewhere.stderr and not (store.root / "none").exists()


def test_a_removal_that_dies_leaves_no_half_bank(store, monkeypatch):
    make(store, "one")
    make(store, "two")

    def die(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", die)
        with pytest.raises(KeyboardInterrupt):
            store.remove("one")
    assert [bank.key for bank in store.banks()] == ["two"]
    with pytest.raises(BankError, match="there is no file or folder"):
        store.resolve("one")
    assert len(list(store.root.iterdir())) == 2  # under another name
    store.remove("two")
    assert list(store.root.iterdir()) == []  # and the next removal finishes its work


def test_import_and_export(store, tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((40, 4)).astype(np.float32), np.repeat(np.arange(4), 10)
    np.savez(tmp_path / "feats.npz", X=x, y=y)
    result = run("import", tmp_path / "feats.npz", "--encoder", "mine", "--data", "toy", "--format", "json")
    (made,) = json.loads(result.stdout)
    assert (made["n_train"], made["n_test"], made["dtype"]) == (32, 8, "float16")
    assert "does not tell train from test: 8 of 40 rows" in result.stderr
    (bank,) = store.banks()
    assert (bank.encoder, bank.data, str(bank.path)) == ("mine", "toy", made["path"])
    run("import", tmp_path / "feats.npz", "--encoder", "mine", "--data", "toy")  # the same: nothing to do
    assert len(store.banks()) == 1
    target = tmp_path / "out.safetensors"
    run("export", bank.key[:8], target)
    assert "exists" in run("export", bank.key, target, code=1).stderr
    run("export", bank.key, target, "--force")
    run("import", target, tmp_path / "again")
    error = run("import", tmp_path / "feats.npz", tmp_path / "again", code=1)
    assert "holds another bank" in error.stderr
    run("import", tmp_path / "feats.npz", tmp_path / "again", "--force", "--dtype", "float32")
    again = FeatureBank.open(tmp_path / "again")
    assert again.dtype == "float32" and np.array_equal(again.read(np.arange(40)), x)
    assert "no such file" in run("import", tmp_path / "none.npz", tmp_path / "t", code=1).stderr.lower()
    run("import", code=2)
    run("ls", "--format", "xml", code=2)


def test_help_ends_with_a_line_to_paste():
    for command in ([], ["ls"], ["info"], ["verify"], ["import"], ["export"], ["rm"]):
        text = run(*command, "--help").stdout
        assert text.splitlines()[-1].startswith(f"  ssl-risk-rs store {command[0] if command else 'ls'}")


def test_help_says_where_the_store_is():
    text = " ".join(run("--help").stdout.split())
    assert "SSL_RISK_STORE" in text and "~/.cache" in text and "ssl-risk-rs/banks" in text


def test_help_is_light():
    program = (
        "import sys; from ssl_risk_rs.cli import main\n"
        "try: main(['store', 'import', '--help'])\n"
        "except SystemExit: print(sorted({'torch', 'polars', 'timm', 'numpy', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
