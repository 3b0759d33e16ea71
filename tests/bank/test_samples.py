"""samples.parquet: columns, labels, groups, and files that are damaged."""

import hashlib
import io
import json

import numpy as np
import polars as pl
import pytest
from bank_helpers import create, filled, samples_of
from ssl_risk_rs import BankError, FeatureBank, ParameterError


def replace_samples(bank: FeatureBank, frame: pl.DataFrame) -> FeatureBank:
    """The bank with other samples, as another program would have written them, hash included."""
    frame.write_parquet(bank.path / "samples.parquet")
    document = json.loads((bank.path / "bank.json").read_text())
    document["samples_sha256"] = hashlib.sha256((bank.path / "samples.parquet").read_bytes()).hexdigest()
    (bank.path / "bank.json").write_text(json.dumps(document))
    return FeatureBank.open(bank.path)


def test_no_flipped_bit_is_interpreted(tmp_path, monkeypatch):
    """Polars panics or aborts on some, and reads other values from most: it must not see any."""
    bank = filled(tmp_path / "bank")
    path = bank.path / "samples.parquet"
    sound = path.read_bytes()

    def never(*arguments: object, **options: object) -> None:
        raise AssertionError("polars was given a damaged file")

    for bit in range(0, len(sound) * 8, 61):  # 61: every byte's place in a word, every bit's in a byte
        damaged = bytearray(sound)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with monkeypatch.context() as patch:
            patch.setattr(pl, "read_parquet", never)
            with pytest.raises(BankError, match=r"samples\.parquet is not the file that was written with the bank"):
                _ = FeatureBank.open(bank.path).samples
            with pytest.raises(BankError, match=r"samples\.parquet is not the file"):
                create(bank.path)
            with pytest.raises(BankError, match=r"damaged in 1 place.*\n.*samples\.parquet is not the file"):
                FeatureBank.verify_path(bank.path)
    path.write_bytes(sound)
    assert FeatureBank.open(bank.path).samples.height == 10


def test_opening_does_not_read_samples(tmp_path):
    bank = filled(tmp_path / "bank")
    (bank.path / "samples.parquet").unlink()
    opened = FeatureBank.open(bank.path)
    assert opened.complete and opened.read([3]).shape == (1, 5)
    with pytest.raises(BankError, match=r"samples\.parquet cannot be read: No such file"):
        opened.labels()


def test_a_file_that_polars_cannot_read(tmp_path):
    bank = filled(tmp_path / "bank")
    (bank.path / "samples.parquet").write_bytes(b"PAR1")
    document = json.loads((bank.path / "bank.json").read_text())
    document["samples_sha256"] = hashlib.sha256(b"PAR1").hexdigest()
    (bank.path / "bank.json").write_text(json.dumps(document))
    with pytest.raises(BankError, match=r"samples\.parquet cannot be read"):
        FeatureBank.open(bank.path).labels()


@pytest.mark.parametrize("names", [None, ["a", "b", "c"]])
@pytest.mark.parametrize(
    ("label", "message"),
    [
        (-1, "line 4 has class -1"),
        (2**32, "line 4 has class 4294967296"),
        (2**31, "line 4 has class 2147483648"),
        (float("inf"), "float64, which is the wrong type"),
        (1e19, "float64, which is the wrong type"),
        (2.5, "float64, which is the wrong type"),
        ("b", "wrong type"),
        (None, "no label in line 4"),
    ],
)
def test_labels_are_checked_before_they_are_converted(tmp_path, label, message, names):
    frame = samples_of(10).with_columns(path=pl.lit(None, pl.String))
    kind = pl.String if isinstance(label, str) else pl.Float64 if isinstance(label, float) else pl.Int64
    values = [label if i == 4 else i % 3 for i in range(10)]
    wrong = frame.with_columns(pl.Series("label", values, kind, strict=False))
    header = {} if names is None else {"class_names": names}
    with pytest.raises(ParameterError, match=message):
        create(tmp_path / "new", header=header, samples=wrong)
    bank = replace_samples(create(tmp_path / "bank", header=header), wrong)
    for read in (bank.labels, bank.missing_rows, lambda: bank.rows("train")):
        with pytest.raises(BankError, match=rf"samples\.parquet.*{message}"):
            read()


def test_samples_of_another_bank_are_told(tmp_path):
    bank = create(tmp_path / "bank")
    for frame, message in [
        (samples_of(9), "has 9 rows .* the bank has 10 rows .* belongs to another bank"),
        (samples_of(10).drop("label"), "belongs to another bank"),
        (samples_of(10, row=[0, 1, 2, 3, 4, 5, 6, 7, 8, 8]), "must number their 10 rows"),
        (samples_of(10, split=["val"] * 10), "split 'val'"),
        (samples_of(10, sample_id=["s"] * 10), "'s' occurs twice"),
    ]:
        with pytest.raises(BankError, match=message):
            _ = replace_samples(
                bank, frame if frame.width < 4 else frame.with_columns(path=pl.lit(None, pl.String))
            ).samples


def test_groups(tmp_path):
    frame = samples_of(
        6,
        patient=["p1", "p1", "p2", "p2", "p3", "p3"],
        site=[1, 1, 2, 2, 3, 3],
        gap=["x", None, "x", None, "x", "x"],
        nested=[[1]] * 6,
    )
    bank = create(tmp_path / "bank", samples=frame)
    assert bank.extra_columns == ["patient", "site", "gap", "nested"]
    assert bank.groups("patient") == ["p1", "p1", "p2", "p2", "p3", "p3"]
    assert bank.groups("site") == ["1", "1", "2", "2", "3", "3"] and bank.groups("split")[3] == "test"
    assert bank.sample_ids() == [f"s{i}" for i in range(6)]
    with pytest.raises(ParameterError, match=r"no column 'slide'.*patient, site, gap, nested"):
        bank.groups("slide")
    with pytest.raises(ParameterError, match=r"'gap' has no value in 2 of 6 rows \(the first is row 1\)"):
        bank.groups("gap")
    with pytest.raises(ParameterError, match="'nested' is List"):
        bank.groups("nested")
    assert create(tmp_path / "plain").extra_columns == []
    with pytest.raises(ParameterError, match="further columns of this bank: none"):
        create(tmp_path / "plain").groups("patient")


def test_the_hash_is_that_of_the_bytes_that_are_read(tmp_path, monkeypatch):
    """The file is read once: it cannot change between the comparison and the reader."""
    bank = filled(tmp_path / "bank")
    given = []
    read = pl.read_parquet

    def noting(source: object) -> pl.DataFrame:
        given.append(source)
        return read(source)

    monkeypatch.setattr(pl, "read_parquet", noting)
    assert FeatureBank.open(bank.path).samples.height == 10
    (source,) = given
    assert isinstance(source, io.BytesIO)
    assert (
        hashlib.sha256(source.getvalue()).hexdigest()
        == json.loads((bank.path / "bank.json").read_text())["samples_sha256"]
    )
    assert np.array_equal(bank.labels(), [i % 3 for i in range(10)])
