"""FeatureBank: round trips, resuming, damage, crashes, and the format as the document states it."""

import json
import os
import pickle
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from bank_helpers import HEADER, as_rows, create, features_of, filled, samples_of
from hypothesis import given, settings
from hypothesis import strategies as st
from ssl_risk_rs import BankError, FeatureBank, ParameterError, ShapeError, _core, fits_float16

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("given", [np.float16, np.float32])
@pytest.mark.parametrize(("n", "d"), [(0, 3), (1, 1), (130, 7)])
def test_round_trip(tmp_path, n, d, given, dtype):
    bank = create(tmp_path / "bank", n, d, dtype)
    assert bank.missing_rows().dtype == np.uint64
    assert bank.missing_rows().tolist() == list(range(n))
    order = np.random.default_rng(0).permutation(n).astype(np.uint64)
    for part, rows in enumerate(np.array_split(order, 3)):
        with bank.writer(f"p{part}") as writer:
            writer.append(rows, features_of(rows, d).astype(given))
    assert bank.complete and bank.missing_rows().size == 0
    bank = FeatureBank.open(tmp_path / "bank")
    assert (bank.n_rows, bank.n_features, bank.dtype, bank.class_names) == (n, d, dtype, ["a", "b", "c"])
    assert bank.header.to_json() == HEADER and bank.key == "bank"
    read = bank.read(order)
    assert read.dtype == np.float32 and np.array_equal(read, features_of(order, d))
    assert bank.labels().dtype == np.int64 and bank.labels().tolist() == [i % 3 for i in range(n)]
    assert bank.rows("train").dtype == np.uint32
    assert sorted([*bank.rows("train"), *bank.rows("test")]) == list(range(n))
    assert bank.verify().damage == []
    for name, rows, values in bank.arrays():
        assert np.array_equal(values, features_of(rows, d))
        # the promise of the format
        assert np.array_equal(np.load(bank.path / f"{name}.npy", mmap_mode="r"), features_of(rows, d))
        assert np.array_equal(np.load(bank.path / f"{name}.rows.npy"), rows)


def test_a_bank_is_pickled_as_its_path(tmp_path, monkeypatch):
    filled(tmp_path / "bank", 20, 3)
    monkeypatch.chdir(tmp_path)
    sent = pickle.dumps(FeatureBank.open("bank"))
    monkeypatch.chdir("/")  # as a worker that began elsewhere
    back = pickle.loads(sent)
    assert np.array_equal(back.read([3, 19]), features_of(np.array([3, 19]), 3))
    (tmp_path / "bank").rename(tmp_path / "gone")
    with pytest.raises(BankError, match="bank"):
        pickle.loads(sent)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_order_of_blocks_and_parts(tmp_path_factory, data):
    n, d = data.draw(st.integers(1, 30)), data.draw(st.integers(1, 4))
    path = tmp_path_factory.mktemp("bank")
    bank = create(path, n, d, data.draw(st.sampled_from(["float16", "float32"])))
    rest = np.array(data.draw(st.permutations(range(n))), dtype=np.uint64)
    while rest.size:
        rows, rest = np.split(rest, [data.draw(st.integers(1, 8))])
        with bank.writer(data.draw(st.sampled_from("xyz"))) as writer:
            writer.append(rows, features_of(rows, d))
        assert bank.missing_rows().tolist() == sorted(rest.tolist())
    assert np.array_equal(bank.read(np.arange(n)), features_of(np.arange(n), d))


def test_kept_columns_types_and_order_of_samples(tmp_path):
    frame = samples_of(6, group=["x", "y", None, "x", "y", "z"], path=[f"{i}.png" for i in range(6)])
    bank = create(tmp_path / "bank", samples=frame[::-1])
    assert bank.samples.columns == ["row", "split", "sample_id", "label", "path", "group"]
    assert bank.samples.schema["row"] == pl.UInt64 and bank.samples.schema["label"] == pl.Int64
    assert bank.samples["row"].to_list() == list(range(6))
    assert bank.samples["group"].to_list() == ["x", "y", None, "x", "y", "z"]


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (samples_of(4).drop("label"), r"lack the columns label; there are row, split, sample_id$"),
        (samples_of(4, row=[0, 1, 1, 3]), "0, 1, 2"),
        (samples_of(4, row=[1, 2, 3, 4]), "0, 1, 2"),
        (samples_of(4, split=["train", "test", "val", "train"]), "'val'"),
        (samples_of(4, label=[0, 1, -1, 0]), "-1"),
        (samples_of(4, label=[0, 1, 3, 0]), "class names"),
        (samples_of(4, label=[0, 1, None, 0]), "no label in line 2"),
        (samples_of(4, label=["a", "b", "c", "d"]), "wrong type"),
        (samples_of(4, sample_id=["s", "t", "s", "u"]), "'s' occurs twice"),
    ],
)
def test_samples_that_describe_no_bank(tmp_path, frame, message):
    with pytest.raises(ParameterError, match=message):
        create(tmp_path / "bank", samples=frame)
    assert not (tmp_path / "bank").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        {"d": 0},
        {"dtype": "float64"},
        {"header": {"x": float("nan")}},
        {"header": {"x": object()}},
        {"header": {"class_names": [1, 2]}},
    ],
)
def test_bad_arguments_leave_nothing(tmp_path, arguments):
    with pytest.raises(ParameterError):
        create(tmp_path / "bank", **arguments)
    assert not (tmp_path / "bank").exists()


def test_creating_again_resumes(tmp_path):
    bank = create(tmp_path / "bank")
    with bank.writer() as writer:
        writer.append(as_rows(3, 1), features_of([3, 1]))
    again = create(tmp_path / "bank", header={**HEADER, "class_names": ("a", "b", "c")})  # JSON-equal
    assert again.missing_rows().tolist() == [0, 2, 4, 5, 6, 7, 8, 9]
    with again.writer() as writer:
        assert writer.committed == 2  # this machine's part goes on
        writer.append(again.missing_rows(), features_of(again.missing_rows()))
    assert np.array_equal(again.read(np.arange(10)), features_of(np.arange(10)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"header": {**HEADER, "encoder": "other"}}, 'encoder: "tiny" there, "other" asked for'),
        ({"header": {k: v for k, v in HEADER.items() if k != "data"}}, 'data: "toy" there, null asked for'),
        ({"dtype": "float32"}, "dtype"),
        ({"d": 6}, "n_features: 5 there, 6 asked for"),
        ({"n": 11}, "n_rows: 10 there, 11 asked for"),
        ({"samples": samples_of(10, label=[0] * 10)}, "label of row 1 is 1 there, 0 asked for"),
        ({"samples": samples_of(10, more=[0] * 10)}, "more"),
    ],
)
def test_another_bank_is_not_overwritten(tmp_path, change, message):
    create(tmp_path / "bank")
    before = {file.name: file.read_bytes() for file in (tmp_path / "bank").iterdir()}
    with pytest.raises(BankError, match=message):
        create(tmp_path / "bank", **change)
    assert before == {file.name: file.read_bytes() for file in (tmp_path / "bank").iterdir()}


def test_samples_without_manifest_are_taken_up(tmp_path):
    create(tmp_path / "bank")
    (tmp_path / "bank" / "bank.json").unlink()  # a process died between the two
    with pytest.raises(BankError, match="is no feature bank"):
        FeatureBank.open(tmp_path / "bank")
    assert create(tmp_path / "bank").missing_rows().size == 10


def test_many_makers_one_bank(tmp_path):
    """All succeed, whoever is first; each then has a part of its own."""
    banks, writers, barrier = [], [], threading.Barrier(6)

    def make() -> None:
        barrier.wait()
        bank = create(tmp_path / "bank", 6)
        banks.append(bank)
        writers.append(bank.writer())

    threads = [threading.Thread(target=make) for _ in range(6)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(writers) == 6 and len({writer.part for writer in writers}) == 6
    for row, writer in enumerate(writers):
        writer.append(as_rows(row), features_of([row]))
        writer.close()
    assert np.array_equal(banks[0].read(range(6)), features_of(range(6)))
    assert not [file for file in (tmp_path / "bank").iterdir() if file.name.endswith(".tmp")]


def test_writer_refuses(tmp_path):
    bank = create(tmp_path / "bank")
    writer = bank.writer("a")
    with pytest.raises(BankError, match="has a writer already"):
        bank.writer("a")
    with pytest.raises(ParameterError, match="row 7, feature 1 is NaN"):
        values = features_of([2, 7])
        values[1, 1] = np.nan
        writer.append(as_rows(2, 7), values)
    with pytest.raises(ParameterError, match=r"row 7.*65504.*float32"):
        writer.append(as_rows(7), np.full((1, 5), 65505, np.float32))
    with pytest.raises(ParameterError, match="row 10 is beyond"):
        writer.append(as_rows(10), features_of([10]))
    with pytest.raises(ShapeError, match="4 columns, the bank has 5"):
        writer.append(as_rows(1), features_of([1], 4))
    with pytest.raises(ShapeError, match="2 rows, expected 1"):
        writer.append(as_rows(1), features_of([1, 2]))
    with pytest.raises(ShapeError, match="float16 or float32"):
        writer.append(as_rows(1), features_of([1]).astype(np.float64))
    with pytest.raises(ParameterError, match="part name"):
        bank.writer("../a")
    assert bank.missing_rows().size == 10
    writer.append(as_rows(1, 2), np.asfortranarray(features_of([1, 2])))  # copied into order
    writer.append(np.arange(3, 9, dtype=np.uint64)[::2], np.repeat(features_of([3, 5, 7]), 2, 0)[::2])
    writer.close()
    writer.close()
    with pytest.raises(BankError, match="closed"):
        writer.append(as_rows(0), features_of([0]))
    with bank.writer() as other:
        other.append(bank.missing_rows(), features_of(bank.missing_rows()))
    assert np.array_equal(bank.read(np.arange(10)), features_of(np.arange(10)))


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_read_gives_the_dtype_asked_for(tmp_path, dtype):
    bank = filled(tmp_path / "bank", dtype=dtype)
    rows = [9, 0, 9]
    wide = bank.read(rows, n_threads=1)
    assert wide.dtype == np.float32 and np.array_equal(wide, features_of(rows))
    if dtype == "float16":
        stored = bank.read(rows, dtype="float16")
        assert stored.dtype == np.float16 and np.array_equal(stored, features_of(rows).astype(np.float16))
    else:
        with pytest.raises(ParameterError, match="read float32"):
            bank.read(rows, dtype="float16")
    with pytest.raises(ParameterError, match="float64"):
        bank.core.read(as_rows(0), dtype="float64")
    assert bank.read([]).shape == (0, 5)


def test_feature_means_in_one_scan(tmp_path):
    x = features_of(range(1000), 37)
    rows = np.arange(1, 1000, 2, dtype=np.uint32)
    for array in (x, x.astype(np.float16), [x[:300], x[300:].astype(np.float16)]):
        for threads in (1, 2):
            means = _core.feature_means(array, rows, n_threads=threads)
            # integers below 1024: sums of 256 are exact in float32
            np.testing.assert_allclose(means, x[rows].mean(0, dtype=np.float64), rtol=1e-14)
    bank = filled(tmp_path / "bank")
    means = _core.feature_means(bank.core, np.arange(10, dtype=np.uint32))
    np.testing.assert_allclose(means, features_of(range(10)).mean(0, dtype=np.float64), rtol=1e-14)
    x[11, 3] = np.inf
    with pytest.raises(ParameterError, match="row 11, feature 3"):
        _core.feature_means(x, rows)
    huge = np.full((9, 2), 3e38, np.float32)  # finite, unlike their sum in float32
    np.testing.assert_allclose(_core.feature_means(huge, np.arange(9, dtype=np.uint32)), 3e38, rtol=1e-7)
    for bad in ([], [1000]):
        with pytest.raises(ParameterError):
            _core.feature_means(x, np.array(bad, np.uint32))


def test_read_refuses(tmp_path):
    bank = create(tmp_path / "bank")
    with pytest.raises(BankError, match="10 of 10 rows are missing; run the extraction again"):
        bank.read([0])
    bank = filled(tmp_path / "full")
    for rows in ([10], [-1], [0.5], [[0]]):
        with pytest.raises(ParameterError):
            bank.read(rows)
    assert bank.read([]).shape == (0, 5)
    with pytest.raises(ParameterError, match="train and test"):
        bank.rows("val")


def test_verify_names_part_block_and_rows(tmp_path):
    bank = filled(tmp_path / "bank")
    path = bank.path / "a.npy"
    content = bytearray(path.read_bytes())
    content[128 + 2 * 5 * 6] ^= 1  # row 6, in the second block
    path.write_bytes(content)
    with pytest.raises(BankError, match=r"a\.npy: block 1, lines 4 to 7 \(rows 4 to 7 of the bank\)"):
        bank.verify()
    content[128 + 2 * 5 * 6] ^= 1
    path.write_bytes(content)
    assert bank.verify().rows == 10
    samples_of(10, label=[1] * 10).write_parquet(bank.path / "samples.parquet")
    with pytest.raises(BankError, match=r"samples\.parquet is not the file that was written"):
        bank.verify()


def test_verify_tells_all_damage_of_a_bank_that_cannot_be_opened(tmp_path):
    bank = create(tmp_path / "bank", 8)
    for part, rows in (("a", [0, 1, 2, 3]), ("b", [4, 5, 6, 7])):
        with bank.writer(part) as writer:
            writer.append(as_rows(*rows), features_of(rows))
    index, payload = bank.path / "a.rows.npy", bank.path / "b.npy"
    content = bytearray(index.read_bytes())
    content[128 + 8] ^= 4  # row 1 becomes row 5, which part b holds
    index.write_bytes(content)
    content = bytearray(payload.read_bytes())
    content[-1] ^= 1
    payload.write_bytes(content)
    with pytest.raises(BankError, match=r"a\.rows\.npy: block 0, lines 0 to 3: the bytes are not those"):
        FeatureBank.open(bank.path)
    with pytest.raises(BankError, match="damaged in 2 place") as told:
        FeatureBank.verify_path(bank.path)
    first, second = str(told.value).splitlines()[1:3]
    assert "a.rows.npy: block 0, lines 0 to 3: its bytes are not those that were written" in first
    assert "b.npy: block 0, lines 0 to 3 (rows 4 to 7 of the bank)" in second
    with pytest.raises(BankError, match="is no feature bank"):
        FeatureBank.verify_path(tmp_path)


def test_damaged_files_are_bank_errors(tmp_path):
    bank = filled(tmp_path / "bank")
    for name, content in [
        ("a.npy", b""),
        ("a.rows.npy", b"\x93NUMPY"),
        ("a.journal", b"0 0 0 0 0\n0 0 0 0 0\n"),
        ("bank.json", b"{}"),
        ("bank.json", b'{"a": [[[['),
    ]:
        path = bank.path / name
        sound = path.read_bytes()
        path.write_bytes(content)
        with pytest.raises(BankError, match=re.escape(name)):
            FeatureBank.open(bank.path)
        path.write_bytes(sound)


def test_a_file_that_shrinks_is_an_error_not_a_signal(tmp_path):
    bank = filled(tmp_path / "bank", n=4000, step=1000)
    assert np.array_equal(bank.read([3999]), features_of([3999]))
    os.truncate(bank.path / "a.npy", 4096)
    with pytest.raises(BankError, match="shorter"):
        bank.read([3999])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
def test_no_committed_block_is_lost_to_kill_9(tmp_path):
    """At least 200 writers are killed; the deaths fall into every window of a commit."""
    program = Path(__file__).with_name("crash_writers.py")
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, program, tmp_path, "200", "7"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=180)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["kills"] >= 200
    assert seen["lost"] == 0, seen  # every block that `append` confirmed is there
    assert seen["beyond"] == 0, seen  # and at most the one it had not confirmed yet
    assert all(seen["hits"][window] > 0 for window in ("payload", "journal", "between")), seen


def test_headers_behind_are_repaired_when_the_bank_is_made_again(tmp_path):
    bank = filled(tmp_path / "bank")
    path = bank.path / "a.npy"
    content = path.read_bytes()
    path.write_bytes(content.replace(b"(10, 5), }", b"(8, 5), } "))
    assert FeatureBank.open(bank.path).core.parts()[0].header_behind
    assert np.array_equal(bank.read([9]), features_of([9]))  # the journal decides
    assert not create(tmp_path / "bank").core.parts()[0].header_behind
    assert path.read_bytes() == content


def test_the_reader_in_the_format_document_works(tmp_path):
    """The code of docs/bank-format.md, run as it stands."""
    text = (ROOT / "docs" / "bank-format.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.S)
    assert code.count("\n") < 35
    scope: dict = {}
    exec(code, scope)
    for dtype in ("float16", "float32"):
        bank = create(tmp_path / dtype, 23, 5, dtype)
        for part, rows in (("a", [22, 3, 4]), ("b", [0, 1])):
            with bank.writer(part) as writer:
                writer.append(as_rows(*rows), features_of(rows))
        with pytest.raises(AssertionError, match="missing"):
            scope["read_bank"](bank.path)
        with bank.writer("a") as writer:
            writer.append(bank.missing_rows(), features_of(bank.missing_rows()))
        with (bank.path / "a.journal").open("ab") as journal:
            journal.write(b"7 ")  # a torn tail
        matrix, header = scope["read_bank"](bank.path)
        assert matrix.dtype == dtype and header == HEADER
        assert np.array_equal(matrix, features_of(np.arange(23)))


def test_fits_float16():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((500, 8)).astype(np.float32)
    assert fits_float16(x) and fits_float16(x * 1000) and fits_float16(x * 1e-3) and fits_float16(x + 10)
    assert fits_float16(x.astype(np.float16)) and fits_float16(x[:1]) and fits_float16(x[:0])
    assert not fits_float16(x * 1e5)
    for bad in (np.nan, np.inf, -65505):
        y = x.copy()
        y[499, 7] = bad
        assert not fits_float16(y)
    assert not fits_float16(np.full((3, 2), np.inf, np.float16))
    assert not fits_float16(100 + x * 0.01)  # far from zero for its spread
    assert not fits_float16(100 + x * 0.5)  # by a little: steps of 0.06 add more than 1/64 of it
    assert not fits_float16(x * 1e-7)  # below its smallest steps
    x[:, 0] = 123.456  # a dead feature loses nothing
    x[:, 1] *= 1e-9
    assert fits_float16(x)


def test_import_is_light():
    program = (
        "import sys, ssl_risk_rs.bank, ssl_risk_rs.bank.store\nprint({'torch', 'polars', 'timm'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_core_bank_is_what_solvers_get(tmp_path):
    bank = filled(tmp_path / "bank")
    assert isinstance(bank.core, _core.Bank) and bank.core.path == bank.path
    assert (bank.core.n_rows, bank.core.n_features, bank.core.dtype) == (10, 5, "float16")
    (part,) = bank.core.parts()
    assert (part.name, part.rows, part.blocks) == ("a", 10, 3)


@pytest.mark.parametrize("ending", ["bank.json", ".journal", "0.npy", ".rows.npy"])
def test_a_file_that_cannot_be_read_is_told(tmp_path, ending):
    path = tmp_path / "bank"
    bank = create(path, 4, 2, "float32")
    with bank.writer("p0") as writer:
        writer.append(np.arange(4, dtype=np.uint64), features_of(np.arange(4), 2))
    (name,) = [file.name for file in path.iterdir() if file.name.endswith(ending)]
    (path / name).unlink()
    (path / name).symlink_to(name)
    for call in (FeatureBank.open, FeatureBank.verify_path):
        with pytest.raises(BankError, match=rf"{re.escape(name)}.*cannot be read: Too many levels of symbolic links"):
            call(path)


def test_rows_are_counted_as_numpy_does(tmp_path):
    bank = create(tmp_path / "bank", 4, 3)
    with bank.writer("p") as writer:
        writer.append(np.arange(2), features_of([0, 1], 3))
        for wrong, said in ((np.array([-1]), "row -1 is negative"), (np.array([0.5]), "uint64 or int64 array")):
            with pytest.raises(ParameterError, match=said):
                writer.append(wrong, features_of([2], 3))
        writer.append(np.arange(2, 4), features_of([2, 3], 3))
    assert bank.complete and np.array_equal(bank.read(np.arange(4)), features_of(np.arange(4), 3))


def test_samples_of_pandas_are_refused_in_words(tmp_path):
    with pytest.raises(ParameterError, match=r"must be a polars frame, got list: polars\.from_pandas makes one"):
        FeatureBank.create(tmp_path / "bank", {}, [], n_features=3, dtype="float32")


def test_the_hash_of_the_content_is_that_of_the_same_blocks_in_any_parts(tmp_path):
    samples = pl.DataFrame({
        "row": np.arange(8, dtype=np.uint64), "split": ["train"] * 4 + ["test"] * 4,
        "sample_id": [str(i) for i in range(8)], "label": [0, 1] * 4,
    })  # fmt: skip
    x = np.arange(16, dtype=np.float32).reshape(8, 2)
    found = []
    for i, parts in enumerate(("pp", "pq", "qp")):
        bank = FeatureBank.create(tmp_path / str(i), {}, samples, n_features=2, dtype="float32")
        for part, block in zip(parts, (slice(0, 4), slice(4, 8)) if i else (slice(4, 8), slice(0, 4)), strict=True):
            with bank.writer(part) as writer:
                writer.append(np.arange(8, dtype=np.uint64)[block], x[block])
        found.append(FeatureBank.open(bank.path).content_hash)
    assert len(set(found)) == 1
    other = FeatureBank.create(tmp_path / "other", {}, samples, n_features=2, dtype="float32")
    for block in (slice(0, 4), slice(4, 8)):
        with other.writer("p") as writer:
            writer.append(np.arange(8, dtype=np.uint64)[block], x[block] + (block.start == 4))
    assert FeatureBank.open(other.path).content_hash != found[0]
