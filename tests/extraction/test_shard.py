"""Shards: each row once, whoever dies, and nobody in another's way."""

import json
import signal
import time

import numpy as np
import pytest
from click.testing import CliRunner
from local_encoder import WAIT, LocalEncoder, Spike, direct, numbered_data, spiky_data, start
from ssl_risk_rs.bank import FeatureBank
from ssl_risk_rs.bank.at_work import has_writer
from ssl_risk_rs.cli import main
from ssl_risk_rs.datasets import create_dataset
from ssl_risk_rs.errors import BankError, ParameterError
from ssl_risk_rs.extraction import Filled, Shard, extract, shards_filled
from ssl_risk_rs.extraction.reuse import N_IMAGES


@pytest.mark.parametrize("n_rows", [0, 1, 7, 31, 32, 33, 1797])
@pytest.mark.parametrize("count", [1, 2, 7, 40])
def test_spans_are_disjoint_complete_and_of_equal_length(n_rows, count):
    spans = [Shard(i, count).span(n_rows) for i in range(count)]
    assert [row for span in spans for row in span] == list(range(n_rows))
    assert max(map(len, spans)) - min(map(len, spans)) <= 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0/0", "there is at least one shard"),
        ("4/4", r"4/4 is out of range: shards count from 0, so these are 0/4 … 3/4"),
        ("1/1", r"1/1 is out of range: .*these are 0/1$"),
        ("-1/4", "'-1/4' is not i/n"),
        ("1", "'1' is not i/n"),
        ("1/2/3", "'1/2/3' is not i/n"),
        ("1.0/2", "'1.0/2' is not i/n"),
        ("", "'' is not i/n"),
    ],
)
def test_what_is_no_shard_is_named(text, message):
    with pytest.raises(ParameterError, match=message):
        Shard.parse(text)


def test_a_shard_is_whole_numbers_and_knows_its_part():
    assert Shard.parse(" 2/16 ") == Shard(2, 16) == Shard.of_part(Shard(2, 16).part)
    assert [Shard.of_part(name) for name in ("extract", "host-0", "shard-4-of-4", "shard-1-of-2x")] == [None] * 4
    for bad in (1.0, True, "1"):
        with pytest.raises(ParameterError, match=r"index of a shard is .+ give a whole number"):
            Shard(bad, 4)


def test_shards_in_any_order_give_the_bank_of_one_pass(tmp_path):
    dataset = create_dataset("digits", limit="2/class")
    for done, i in enumerate((2, 0, 1)):
        bank = extract(LocalEncoder(), dataset, store=tmp_path, dtype="float32", shard=Shard(i, 3))["deep"]
        assert shards_filled(bank, 3) == (done + 1, 3, bank.n_missing)
    assert bank.complete and {part.name: part.rows for part in bank.core.parts()} == {
        "shard-0-of-3": 13, "shard-1-of-3": 13, "shard-2-of-3": 14,
    }  # fmt: skip
    expected = direct(LocalEncoder(), dataset)["deep"]
    np.testing.assert_allclose(bank.read(np.arange(40)), expected, rtol=1e-5, atol=1e-6)
    bank.verify()


def test_more_shards_than_rows(tmp_path):
    dataset = create_dataset("digits", limit="1/class")  # 20 rows
    for i in range(33):
        bank = extract(LocalEncoder(), dataset, store=tmp_path, shard=Shard(i, 33))["deep"]
    assert bank.complete and shards_filled(bank, 33) == (33, 33, 0)


def test_how_far_a_bank_is_makes_a_sentence():
    assert str(Filled(3, 4, 1200)) == "3 of 4 shards are filled and 1,200 rows are missing"
    assert str(Filled(1, 4, 1)) == "1 of 4 shards is filled and 1 row is missing"


def test_shards_of_another_number_and_a_line_without_shard_fill_the_rest(tmp_path):
    dataset = create_dataset("digits", limit="2/class")
    extract(LocalEncoder(), dataset, store=tmp_path, shard=Shard(1, 4))
    bank = extract(LocalEncoder(), dataset, store=tmp_path, shard=Shard(0, 2))["deep"]
    assert bank.n_missing == 20
    whole = extract(LocalEncoder(), dataset, store=tmp_path)["deep"]
    assert whole.path == bank.path and whole.complete
    assert {part.name: part.rows for part in whole.core.parts()} == {
        "shard-1-of-4": 10, "shard-0-of-2": 10, "extract": 20,
    }  # fmt: skip


# --- who is at work


@pytest.mark.parametrize(
    ("at_work", "asked", "named"),
    [
        ("shard-0-of-3", Shard(0, 3), "shard 0/3"),
        ("shard-0-of-3", Shard(0, 2), "shard 0/3"),
        ("shard-0-of-3", None, "shard 0/3"),
        ("extract", Shard(1, 2), "into this bank; wait"),
        ("shard-0-of-3", Shard(1, 2), None),
        ("shard-0-of-3", Shard(1, 3), None),
    ],
)
def test_who_encodes_the_same_rows_is_named(tmp_path, at_work, asked, named):
    dataset = create_dataset("digits", limit="2/class")
    bank = extract(LocalEncoder(), dataset, store=tmp_path)["deep"]
    for path in bank.path.glob("extract*"):
        path.unlink()  # a bank without rows
    with bank.writer(at_work):
        if named is None:
            extract(LocalEncoder(), dataset, store=tmp_path, shard=asked)
        else:
            with pytest.raises(BankError, match=f"another process is encoding {named}"):
                extract(LocalEncoder(), dataset, store=tmp_path, shard=asked)
            assert not any(part.rows for part in FeatureBank.open(bank.path).core.parts())
    assert not any(has_writer(journal) for journal in bank.path.glob("*.journal"))  # nobody keeps a part
    assert extract(LocalEncoder(), dataset, store=tmp_path)["deep"].complete


def test_a_bank_that_another_shard_made_meanwhile_is_used(tmp_path, monkeypatch):
    dataset, create = create_dataset("digits", limit="1/class"), FeatureBank.create

    def overtaken(path, header, samples, **shape):
        create(path, {**header, "device": "cuda:3"}, samples, **shape)
        return create(path, header, samples, **shape)  # an error: device differs

    monkeypatch.setattr(FeatureBank, "create", overtaken)
    bank = extract(LocalEncoder(), dataset, store=tmp_path, shard=Shard(0, 2))["deep"]
    assert bank.header.device == "cuda:3" and bank.n_missing == 10


# --- features that do not fit float16


def test_a_shard_that_restarts_in_float32_takes_the_others_along(tmp_path):
    dataset, options = spiky_data(tmp_path, at=299), {"store": tmp_path / "s", "batch_size": 50}
    begun = []

    def meanwhile(event):  # the other shard meets the image beyond float16 while this one is at work
        if event.stage == "encode" and event.done and not begun:
            begun.append(event.done)
            extract(LocalEncoder(Spike()), dataset, **options, shard=Shard(1, 2))

    bank = extract(LocalEncoder(Spike()), dataset, **options, shard=Shard(0, 2), progress=meanwhile)["deep"]
    assert begun and bank.dtype == "float32" and bank.complete
    expected = direct(LocalEncoder(Spike()), dataset)["deep"]
    np.testing.assert_allclose(bank.read(np.arange(350)), expected, rtol=1e-5, atol=1e-6)


# --- processes


def wait_for_part(process, store, part, at_least):
    """The bank in the store, once this part has so many rows committed."""
    deadline = time.monotonic() + WAIT
    while time.monotonic() < deadline and process.poll() is None:
        for path in store.glob("*/bank.json"):
            bank = FeatureBank.open(path.parent)
            if any(p.name == part and p.rows >= at_least for p in bank.core.parts()):
                return bank
        time.sleep(0.05)
    raise AssertionError(process.communicate())


@pytest.mark.parametrize("filler", ["Shard(1, 2)", "None"])
def test_two_processes_at_once_one_killed_then_filled(tmp_path, filler):
    uri, log, store = numbered_data(tmp_path, n=600), tmp_path / "log", tmp_path / "s"
    source = (
        "from slow import *; from ssl_risk_rs.datasets import create_dataset; "
        "from ssl_risk_rs.extraction import Shard, extract; "
        f"extract(encoder(), create_dataset({uri!r}), store={str(store)!r}, batch_size=8, workers=1, shard=SHARD)"
    )
    first, second = (start(tmp_path, source.replace("SHARD", f"Shard({i}, 2)")) for i in range(2))
    bank = wait_for_part(second, store, "shard-1-of-2", 30)
    second.send_signal(signal.SIGKILL)
    second.communicate()
    _, err = first.communicate(timeout=WAIT)
    assert first.returncode == 0, err  # nothing of it depends on the other
    committed = set(range(600)) - set(bank.missing_rows().tolist())
    assert set(range(300)) <= committed and 330 <= len(committed) < 600
    assert shards_filled(bank, 2) == (1, 2, 600 - len(committed))
    log.unlink()
    third = start(tmp_path, source.replace("SHARD", filler))
    _, err = third.communicate(timeout=WAIT)
    assert third.returncode == 0, err
    decoded = [int(line) for line in log.read_text().split()]
    # those that are compared, before and after
    assert len(committed & set(decoded)) <= 2 * N_IMAGES and len(decoded) <= len(set(decoded)) + N_IMAGES
    bank = FeatureBank.open(bank.path)
    assert bank.complete
    expected = direct(LocalEncoder(), create_dataset(uri))["deep"]
    np.testing.assert_allclose(bank.read(np.arange(600)), expected, rtol=2**-11, atol=1e-6)
    bank.verify()


# --- the command line


def test_the_command_says_what_is_filled_and_fills_it(tmp_path):
    args = ["extract", "-m", "pixels:4", "-d", "digits", "--limit", "2/class", "--store", str(tmp_path)]
    first = CliRunner().invoke(main, [*args, "--shard", "0/2", "--format", "json"])
    assert first.exit_code == 0 and "1 of 2 shards is filled and 20 rows are missing." in first.stderr
    (entry,) = json.loads(first.stdout)
    assert (entry["shard"], entry["shard_rows"], entry["missing"], entry["rows"]) == ("0/2", 20, 20, 40)
    again = CliRunner().invoke(main, [*args, "--shard", "0/2"])
    assert again.exit_code == 0 and "1 of 2 shards is filled" in again.stderr
    rest = CliRunner().invoke(main, [*args, "--shard", "1/2"])
    assert "2 of 2 shards are filled and 0 rows are missing." in rest.stderr
    whole = CliRunner().invoke(main, [*args, "--format", "json"])
    assert json.loads(whole.stdout)[0]["path"] == entry["path"] and "shard" not in json.loads(whole.stdout)[0]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["extract", "-m", "pixels:4", "--shard", "2/2"], "shard 2/2 is out of range"),
        (["run", "-m", "pixels:4", "--shard", "0/2"], "--shard goes with  ssl-risk-rs extract"),
    ],
)
def test_a_shard_that_cannot_be_is_a_misuse(args, message):
    result = CliRunner().invoke(main, args)
    assert result.exit_code == 2 and message in result.stderr and not result.stdout
