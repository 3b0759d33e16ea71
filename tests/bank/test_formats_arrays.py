"""Files of arrays: what lies in them that is no plain matrix, and what travels beside the features."""

import json
import os
import re
import zipfile

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import save_file
from ssl_risk_rs import (
    BankError,
    DataError,
    FeatureBank,
    ParameterError,
    ShapeError,
    SslRiskError,
    export_bank,
    import_bank,
    load_features,
)
from ssl_risk_rs._splits import sample_keys
from ssl_risk_rs.bank.formats import read_source
from ssl_risk_rs.bank.formats.safetensors import decode_texts, encode_texts

N, D = 20, 4


def make(n=N, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, D)).astype(np.float32), np.arange(n) % 4


@pytest.fixture
def arrays():
    (x, y), (xt, yt) = make(), make(12, 1)
    return {"X_train": x, "y_train": y, "X_test": xt, "y_test": yt}


@pytest.fixture
def npz(tmp_path, arrays):
    def write(**change):
        np.savez(tmp_path / "f.npz", **{**arrays, **change})
        return tmp_path / "f.npz"

    return write


@pytest.fixture
def pt(tmp_path, arrays):
    import torch

    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}

    def write(content=None, **change):
        torch.save(content if content is not None else {**tensors, **change}, tmp_path / "f.pt")
        return tmp_path / "f.pt"

    write.tensors = tensors
    return write


# labels at this door


@pytest.mark.parametrize(
    ("train", "test", "match"),
    [
        (lambda y: y, lambda y: y + 1, "y_test: 1 class .* have 0, 1, 2, 3; the test rows have 1, 2, 3, 4.*shifted"),
        (lambda y: y, lambda y: np.array(["a", "b", "c", "d"])[y], "training labels are codes and the test labels are"),
        (lambda y: np.char.add(y.astype(str), "x "), lambda y: np.char.add(y.astype(str), "x"), "blanks"),
        (lambda y: y, lambda y: y * 100.0, "scaled: they are 100 times"),
    ],
    ids=["shifted", "codes against names", "blanks", "percent"],
)
def test_test_classes_that_were_never_trained(npz, arrays, train, test, match):
    with pytest.raises(DataError, match=match):
        load_features(npz(y_train=train(arrays["y_train"]), y_test=test(arrays["y_test"])))


def test_labels_that_are_no_classes(npz, arrays):
    y = arrays["y_train"]
    for bad, match in (
        (
            np.where(np.arange(N) == 7, -1, y),
            r"f\.npz: y_train: 1 of 20 rows have no label .* row 7\).*--drop-unlabelled",
        ),
        (np.where(np.arange(N) == 7, np.inf, y), r"f\.npz: y_train: row 7 has label inf"),
        (np.where(np.arange(N) == 7, 1e19, y), r"f\.npz: y_train: row 7 has label 1e\+19"),
        (np.where(np.arange(N) == 7, 2.5, y), r"f\.npz: y_train: row 7 has label 2\.5"),
        (np.eye(4, dtype=bool)[y], r"argmax\(axis=1\) undoes one-hot"),
    ):
        with pytest.raises((DataError, ShapeError), match=match):
            load_features(npz(y_train=bad))
    with pytest.raises(DataError, match=r"labels go from 0 to 3, there are 2 class_names.*row 3"):
        load_features(npz(class_names=np.array(["a", "b"])))


def test_unlabelled_rows_are_dropped_and_rows_keep_their_numbers(npz, arrays, tmp_path):
    y, yt = arrays["y_train"].copy(), arrays["y_test"].copy()
    y[[3, 11]] = -1
    path = npz(y_train=y, ids_train=np.arange(N) + 100, ids_test=np.arange(12) + 500)
    found = load_features(path, drop_unlabelled=True)
    assert np.array_equal(found.X_train, arrays["X_train"][y >= 0]) and np.array_equal(found.y_train, y[y >= 0])
    assert found.train_ids == [str(i + 100) for i in np.flatnonzero(y >= 0)]
    assert found.notes[0].sentence() == f"{path}: y_train: 2 of 20 rows have no label and are left out."
    bank = import_bank(path, tmp_path / "bank", drop_unlabelled=True, dtype="float32")
    assert np.array_equal(bank.read(bank.rows("train")), found.X_train)
    x = arrays["X_train"].copy()
    x[[3, 12], 2] = np.nan  # row 3 is left out
    path = npz(y_train=y, X_train=x)
    for call in (load_features, lambda *a, **k: import_bank(a[0], tmp_path / "other", **k)):
        with pytest.raises(ParameterError, match=r"X_train: row 12, feature 2 is NaN \(the only such value"):
            call(path, drop_unlabelled=True)
    with pytest.raises(DataError, match=r"has no test rows \(12 rows without label are left out\)"):
        load_features(npz(y_test=np.full_like(yt, -1)), drop_unlabelled=True)


# values


@pytest.mark.parametrize("kind", ["<f4", ">f4", "<f8", ">f8", "<f2", ">f2", "<i8", ">i2", "|u1", "|b1", "longdouble"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_types_and_orders(npz, arrays, kind, order):
    x = np.asarray(np.abs(arrays["X_train"] * 8).astype(kind), order=order)
    found = load_features(npz(X_train=x)).X_train
    assert found.dtype == (np.float16 if kind.endswith("f2") else np.float32)
    assert found.dtype.isnative and found.flags.c_contiguous and found.flags.aligned
    assert np.array_equal(found, x.astype(np.float64).astype(found.dtype))


def test_mapped_arrays_are_not_copied_where_they_are_right(tmp_path, arrays, monkeypatch):
    monkeypatch.setattr("ssl_risk_rs.bank.formats.npy.READ_AT_ONCE", 0)
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    found = load_features(tmp_path).X_train
    assert isinstance(found, np.memmap) or isinstance(found.base, np.memmap)


@pytest.mark.parametrize("kind", ["npy", "safetensors"])
def test_a_small_file_may_be_cut_off_once_it_is_read(tmp_path, arrays, kind):
    """Rows of a file that is mapped and cut off end the process without a word."""
    if kind == "npy":
        for name, array in arrays.items():
            np.save(tmp_path / f"{name}.npy", array)
        place, files = tmp_path, list(tmp_path.iterdir())
    else:
        place = tmp_path / "f.safetensors"
        save_file(arrays, place)
        files = [place]
    found = load_features(place)
    for file in files:
        os.truncate(file, 0)
    np.testing.assert_array_equal(found.X_train, arrays["X_train"])
    np.testing.assert_array_equal(found.X_test, arrays["X_test"])


@pytest.mark.parametrize(
    ("value", "error", "match"),
    [
        (lambda x: x * 1j, DataError, "X_train is complex64, expected numbers; take the real part"),
        (lambda x: x.astype(str), DataError, "X_train is <U.*expected numbers"),
        (lambda x: x[:, :0], ShapeError, r"X_train has shape \(20, 0\): no features"),
        (lambda x: x[:, 0], ShapeError, r"X_train has shape \(20,\), expected \(n_samples, n_features\)"),
        (lambda x: x.reshape(20, 2, 2), ShapeError, "pool or flatten each row"),
        (lambda x: np.zeros((20, 8, 8, 3), np.uint8), ShapeError, "if these are images, encode them"),
        (lambda x: np.float32(3), ShapeError, r"X_train has shape \(\)"),
        (lambda x: x[:0], ShapeError, "0 representations, 20 labels"),
        (lambda x: x.astype("f4,f4"), DataError, "expected numbers"),
        (
            lambda x: np.where(np.arange(20)[:, None] == 7, np.inf, x),
            ParameterError,
            "row 7, feature 0 is inf .4 such",
        ),
        (
            lambda x: np.where(np.arange(20)[:, None] == 7, -1e300, x.astype(float)),
            ParameterError,
            r"row 7, feature 0 is -1e\+300.*4 such",
        ),
    ],
)
def test_what_is_no_matrix_of_features(npz, arrays, value, error, match):
    with pytest.raises(error, match=match):
        load_features(npz(X_train=value(arrays["X_train"])))


def test_features_that_float32_cannot_tell_apart(npz, arrays):
    far = {name: arrays[name].astype(np.float64) + 3e7 for name in ("X_train", "X_test")}
    with pytest.raises(ParameterError, match=r"f\.npz: X_train: feature 0 has mean 3e\+07 .*steps of 2 there"):
        load_features(npz(**far))
    test = np.repeat(arrays["X_test"][:1].astype(np.float64), 12, axis=0)  # spread is that of the training rows
    assert len(load_features(npz(X_test=test + 1e-9 * np.arange(12)[:, None])).X_test) == 12


def test_a_single_value_is_no_vector_of_labels(npz):
    with pytest.raises(ShapeError, match=r"f\.npz: y_train is a single value \(3\), expected a label for each of 20"):
        load_features(npz(y_train=np.array(3)))


def test_a_sum_beyond_float32_is_no_infinite_value(npz, arrays):
    x = np.full_like(arrays["X_train"], 3e38)
    assert np.array_equal(load_features(npz(X_train=x)).X_train, x)


def test_float16_that_is_asked_for_names_the_row(npz, arrays, tmp_path):
    x = arrays["X_train"].copy()
    x[13, 1] = 70000
    with pytest.raises(ParameterError, match=r"X_train: row 13, feature 1 is 70000: beyond ±65504.*--dtype float32"):
        import_bank(npz(X_train=x), tmp_path / "bank", dtype="float16")


# torch


def test_tensors_that_are_no_plain_matrix(pt):
    import torch

    x = pt.tensors["X_train"]
    nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
    for value, match in (
        (x.to_sparse(), r"f\.pt: X_train is a sparse tensor .*to_dense"),
        (x.to_sparse_csr(), "X_train is a sparse tensor"),
        (x.to(torch.float8_e4m3fn), r"X_train is torch\.float8_e4m3fn, which NumPy lacks"),
        (nested, r"X_train is a nested|damaged"),
        (
            torch.quantize_per_tensor(x, 0.1, 0, torch.qint8),
            r"X_train is a quantized tensor .*dequantize",
        ),
        ([x[:3], x[3:]], "list of tensors of shapes"),
        ([[1.0, 2.0], [3.0]], "a list whose rows differ in length"),
        ({"a": x}, r"X_train is a dict \(a\)"),
        (None, "X_train is a NoneType"),
        (x.to(torch.complex64), "X_train is complex64"),
    ):
        with pytest.raises((DataError, ShapeError), match=match):
            load_features(pt(X_train=value))


def test_tensors_that_are_right_in_another_form(pt, arrays):
    import torch

    x = pt.tensors["X_train"]
    for value in (
        x.clone().requires_grad_(),
        torch.nn.Parameter(x.clone()),
        x.double(),
        x.t().contiguous().t(),
        list(x),
        x.tolist(),
        x.neg().clone()._neg_view() if hasattr(x, "_neg_view") else x,
    ):
        assert np.array_equal(load_features(pt(X_train=value)).X_train, arrays["X_train"])
    for value in (
        [int(v) for v in arrays["y_train"]],
        list(pt.tensors["y_train"]),
        arrays["y_train"].astype(str).tolist(),
    ):
        assert np.array_equal(load_features(pt(y_train=value)).y_train, arrays["y_train"])


def test_nested_dicts_of_train_and_test(pt, arrays):
    t = pt.tensors
    content = {split: {"X": t[f"X_{split}"], "y": t[f"y_{split}"]} for split in ("train", "test")}
    found = load_features(pt(content))
    assert all(np.array_equal(getattr(found, name), array) for name, array in arrays.items())
    with pytest.raises(DataError, match="has no array 'X_train'; it has data"):
        load_features(pt({"data": content}))
    with pytest.raises(DataError, match="holds a list; save a dict"):
        load_features(pt([t["X_train"]]))


def test_what_is_not_used_is_noted(pt, npz):
    import torch

    found = load_features(pt(model={"w": torch.ones(2)}, adjacency=torch.eye(3).to_sparse(), epoch=3))
    (note,) = found.notes
    assert note.code == "arrays_left_out" and note.values["arrays"] == "adjacency, epoch, model"
    found = load_features(
        npz(mean=np.ones(4), logits_train=np.ones((20, 3)), only_train=np.ones(20), label_train=np.ones(20))
    )
    assert found.notes[0].values["arrays"] == "label_train, logits_train, mean, only_train"
    found = load_features(npz(site_train=np.ones(20), site_test=np.ones(11)))  # of another length in one part
    assert found.notes[0].values["arrays"] == "site_test, site_train" and not found.test_columns


class Bomb:
    def __reduce__(self):
        return (os.mkdir, ("exploded",))


def test_objects_beside_the_features_are_left_alone(tmp_path, arrays, npz, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = load_features(npz(extra=np.array([Bomb()], dtype=object)))
    assert found.notes[0].values["arrays"] == "extra"
    with pytest.raises(DataError, match="y_train holds Python objects, which are never unpickled"):
        load_features(npz(y_train=np.array([Bomb()] * 20, dtype=object)))
    assert not (tmp_path / "exploded").exists()


def test_names_in_two_spellings(npz, arrays):
    with pytest.raises(DataError, match="arrays 'X_train' and 'x_train'; keep one"):
        load_features(npz(x_train=arrays["X_train"]))


def test_safetensors_types(tmp_path, arrays):
    import torch
    from safetensors.torch import save_file

    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    save_file({**tensors, "X_train": tensors["X_train"].to(torch.float8_e4m3fn)}, tmp_path / "f.safetensors")
    with pytest.raises(DataError, match="X_train has type F8_E4M3; save it as F32"):
        load_features(tmp_path / "f.safetensors")
    save_file({**tensors, "scale": tensors["X_train"].to(torch.float8_e4m3fn)}, tmp_path / "f.safetensors")
    assert load_features(tmp_path / "f.safetensors").notes[0].values["arrays"] == "scale"
    save_file(tensors, tmp_path / "f.safetensors", {"class_names": "{broken"})
    with pytest.raises(DataError, match="class_names in the metadata is no JSON list"):
        load_features(tmp_path / "f.safetensors")


def test_bfloat16_labels_are_refused(pt, tmp_path):
    import torch
    from safetensors.torch import save_file

    labels = {"y_train": pt.tensors["y_train"].to(torch.bfloat16)}
    save_file({**pt.tensors, **labels}, tmp_path / "f.safetensors")
    for path in (pt(**labels), tmp_path / "f.safetensors"):
        with pytest.raises(DataError, match="y_train is bfloat16, in which whole numbers beyond 256 are rounded"):
            load_features(path)


@pytest.mark.parametrize("kind", ["npz", "safetensors", "pt", "csv", "npy"])
def test_flipped_bits_end_in_a_sentence_or_in_numbers(tmp_path, arrays, kind):
    import torch
    from safetensors.numpy import save_file

    rng = np.random.default_rng(7)
    path = tmp_path / ("X_train.npy" if kind == "npy" else f"f.{kind}")
    if kind == "npz":
        np.savez(path, **arrays)
    elif kind == "safetensors":
        save_file(arrays, path)
    elif kind == "pt":
        torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, path)
    elif kind == "csv":
        frame = pl.DataFrame(arrays["X_train"], schema=[f"f{i}" for i in range(D)])
        frame.with_columns(label=pl.Series(arrays["y_train"])).write_csv(path)
    else:
        for name, array in arrays.items():
            np.save(tmp_path / f"{name}.npy", array)
    sound, read = path.read_bytes(), 0
    for _ in range(60):
        damaged = bytearray(sound)
        position = int(rng.integers(min(len(sound), 400) if rng.random() < 0.5 else len(sound)))
        damaged[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(damaged))
        try:
            load_features(tmp_path if kind == "npy" else path)
            read += 1
        except SslRiskError as error:
            assert path.name in str(error) or path.stem in str(error)
    assert read < 60


# what travels


def test_ids_and_columns_of_arrays(npz, tmp_path, arrays):
    path = npz(
        ids_train=np.array([f"a{i}" for i in range(N)]),
        ids_test=np.array([b"b%d" % i for i in range(12)]),
        groups_train=np.arange(N) // 4,
        groups_test=np.arange(12) // 4 + 100,
        site_train=np.array(["x", "y"] * 10),
        site_test=np.array(["z"] * 12),
        weight_train=np.linspace(0, 1, N, dtype=">f4")[:, None],
        weight_test=np.linspace(0, 1, 12),
    )
    found = load_features(path)
    assert found.test_ids[:2] == ["b0", "b1"] and found.train_columns["groups"].tolist() == [i // 4 for i in range(N)]
    assert set(found.train_columns) == {"groups", "site", "weight"} and found.notes == ()
    bank = import_bank(path, tmp_path / "bank")
    assert bank.samples["groups"].to_list() == [*(np.arange(N) // 4), *(np.arange(12) // 4 + 100)]
    assert bank.samples["site"].to_list() == ["x", "y"] * 10 + ["z"] * 12
    single = {"X": arrays["X_train"], "y": arrays["y_train"], "ids": np.arange(N), "groups": np.arange(N) // 2}
    np.savez(tmp_path / "g.npz", **single)
    found = load_features(tmp_path / "g.npz", group="groups")
    assert not set(found.train_columns["groups"]) & set(found.test_columns["groups"])
    assert sorted(map(int, [*found.train_ids, *found.test_ids])) == list(range(N))


def test_a_member_that_occurs_twice(npz):
    path = npz()
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("X_train.npy", archive.read("X_test.npy"))
    with pytest.raises(DataError, match=r"f\.npz has 2 members called 'X_train\.npy'; keep one"):
        load_features(path)


def test_text_that_is_called_a_torch_file(tmp_path):
    (tmp_path / "f.pt").write_bytes(b"hi" * 100)
    with pytest.raises(DataError, match=r"f\.pt is damaged or no \.pt file \(KeyError in its reader\)"):
        load_features(tmp_path / "f.pt")


def test_identifiers_that_do_not_fit(npz):
    ids, test = np.arange(N), np.arange(12)
    with pytest.raises(DataError, match="identifiers of one part only; add ids_test"):
        load_features(npz(ids_train=ids))
    with pytest.raises(DataError, match="identifier '0' occurs twice in the train rows"):
        load_features(npz(ids_train=ids * 0, ids_test=test))
    with pytest.raises(ShapeError, match="ids_train has 19 rows, the features have 20"):
        load_features(npz(ids_train=ids[:19], ids_test=test))
    with pytest.raises(DataError, match=r"ids_train: row 1 is 1\.5"):
        load_features(npz(ids_train=ids * 1.5, ids_test=test))
    with pytest.raises(DataError, match="ids_train: row 3 is inf; an identifier is"):
        load_features(npz(ids_train=np.where(ids == 3, np.inf, ids), ids_test=test))
    assert load_features(npz(ids_train=ids * 1.0, ids_test=test)).train_ids[1] == "1"


def bank_of(tmp_path, path, name="bank"):
    return import_bank(path, tmp_path / name, dtype="float32")


def rows_by_id(found):
    """id → label, features and columns, of both parts."""
    table = {}
    for part, x, y, ids, columns in (
        ("train", found.X_train, found.y_train, found.train_ids, found.train_columns),
        ("test", found.X_test, found.y_test, found.test_ids, found.test_columns),
    ):
        for i, name in enumerate(ids):
            table[part, name] = (int(y[i]), x[i].tolist(), {key: column[i] for key, column in columns.items()})
    return table


@pytest.mark.parametrize("kind", ["folder", "safetensors"])
@pytest.mark.parametrize("given", [True, False], ids=["with ids", "without ids"])
def test_file_bank_export_and_reimport_are_the_same_rows_with_the_same_splits(tmp_path, kind, given):
    rng = np.random.default_rng(3)
    n = 40
    x = rng.standard_normal((n, D)).astype(np.float32)
    frame = pl.DataFrame(x, schema=[f"f{i}" for i in range(D)]).with_columns(
        label=pl.Series(rng.choice(["ant", "bé", "cat"], n)),
        split=pl.Series(rng.permutation(["train"] * 25 + ["test"] * 15)),
        patient=pl.Series([f"p{i // 4}" for i in range(n)]),
        age=pl.Series(np.arange(n) / 4),
        visit=pl.Series([None, *range(n - 1)]),
        note=pl.Series(["", None, "é"] * 13 + ["x"]),
        ok=pl.Series([True, False] * 20),
    )
    if given:
        frame = frame.with_columns(sample_id=pl.Series([f"img/é{i}.png" for i in rng.permutation(n)]))
    frame.write_parquet(tmp_path / "f.parquet")
    original = load_features(tmp_path / "f.parquet")
    bank = bank_of(tmp_path, tmp_path / "f.parquet")
    target = export_bank(bank, tmp_path / ("out" if kind == "folder" else "out.safetensors"))
    exported = load_features(target)
    again = bank_of(tmp_path, target, "again")
    assert set(original.train_columns) == {"patient", "age", "visit", "note", "ok"}
    assert rows_by_id(exported) == rows_by_id(original)
    assert exported.class_names == original.class_names == ["ant", "bé", "cat"]
    assert exported.train_ids == original.train_ids and exported.test_ids == original.test_ids
    keys = sample_keys([*original.train_ids, *original.test_ids])
    assert np.array_equal(sample_keys([*exported.train_ids, *exported.test_ids]), keys)
    for one in (bank, again):
        ids = [one.samples["sample_id"].to_list()[row] for split in ("train", "test") for row in one.rows(split)]
        assert np.array_equal(sample_keys(ids), keys)
    visits = [dict(zip(one.samples["sample_id"], one.samples["visit"], strict=True)) for one in (bank, again)]
    assert visits[0] == visits[1]


def test_an_export_is_read_by_the_library(tmp_path, npz):
    from safetensors.numpy import load_file

    bank = import_bank(npz(groups_train=np.arange(N), groups_test=np.arange(12)), tmp_path / "bank", dtype="float16")
    tensors = load_file(export_bank(bank, tmp_path / "out.safetensors"))
    data, offsets = tensors["sample_id_bytes_test"], tensors["sample_id_offsets_test"]
    assert decode_texts(data, offsets, "ids") == [str(i) for i in range(N, N + 12)]
    assert tensors["groups_test"].tolist() == list(range(12)) and tensors["X_train"].dtype == np.float16


def test_texts_round_trip_and_what_does_not_fit_is_refused():
    values = ["", "a", "é\x00b", "日本"]
    data, offsets = encode_texts(values)
    assert decode_texts(data, offsets, "t") == values and decode_texts(*encode_texts([]), "t") == []
    for wrong in (offsets[:-1], offsets[::-1].copy(), offsets.astype(np.int32), offsets + 1, offsets[:0]):
        with pytest.raises(DataError, match=r"t: bytes .* do not fit"):
            decode_texts(data, wrong, "t")
    with pytest.raises(DataError, match="t: row 1 is no UTF-8 text"):
        decode_texts(np.array([97, 255], np.uint8), np.array([0, 1, 2]), "t")


def test_a_folder_beside_the_wrong_samples(tmp_path, npz, arrays):
    bank = import_bank(npz(), tmp_path / "bank", dtype="float32")
    target = export_bank(bank, tmp_path / "out")
    np.save(target / "y_train.npy", arrays["y_train"][::-1].copy())
    with pytest.raises(DataError, match=r"samples\.parquet has label 0 where row 0 of .*y_train has 3"):
        load_features(target)
    one = arrays["y_train"].copy()
    one[7] = (one[7] + 1) % 4
    np.save(target / "y_train.npy", one)
    with pytest.raises(DataError, match=r"samples\.parquet has label . where row 7 of .*y_train"):
        load_features(target)
    for name in ("X_train", "y_train"):
        np.save(target / f"{name}.npy", arrays[name][:-1])
    with pytest.raises(DataError, match=r"samples\.parquet has 20 rows for .*X_train, which has 19"):
        load_features(target)
    (target / "samples.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(DataError, match=r"samples\.parquet is damaged"):
        load_features(target)


def test_a_folder_with_its_own_ids(tmp_path, npz, arrays):
    bank = import_bank(npz(), tmp_path / "bank", dtype="float32")
    target = export_bank(bank, tmp_path / "out")
    np.save(target / "ids_train.npy", np.arange(N))
    np.save(target / "ids_test.npy", np.arange(12))
    with pytest.raises(DataError, match="identifiers beside it differ"):
        load_features(target)
    (target / "samples.parquet").unlink()
    assert load_features(target).test_ids == [str(i) for i in range(12)]


def test_arrays_file_and_import_give_the_same_ids(npz, tmp_path, arrays):
    path = npz()
    found, bank = load_features(path), import_bank(path, tmp_path / "bank")
    assert [*found.train_ids, *found.test_ids] == [str(i) for i in range(N + 12)]  # what decompose gives arrays
    assert bank.samples["sample_id"].to_list() == [*found.train_ids, *found.test_ids]
    np.savez(tmp_path / "cut.npz", X=arrays["X_train"], y=arrays["y_train"])
    found, bank = (
        load_features(tmp_path / "cut.npz"),
        import_bank(tmp_path / "cut.npz", tmp_path / "cut", dtype="float32"),
    )
    assert [*found.train_ids, *found.test_ids] == [str(i) for i in range(N)]
    for split, ids, x in (("train", found.train_ids, found.X_train), ("test", found.test_ids, found.X_test)):
        rows = bank.rows(split)
        assert bank.samples["sample_id"][rows.astype(np.int64)].to_list() == ids
        assert np.array_equal(bank.read(rows), x)


def test_the_cut_is_that_of_the_package(tmp_path, arrays):
    from ssl_risk_rs._splits import stratified_cut

    ids = np.array([f"img{i}" for i in range(N)])
    np.savez(tmp_path / "f.npz", X=arrays["X_train"], y=arrays["y_train"], ids=ids)
    found = read_source(tmp_path / "f.npz", seed=3, test_fraction=0.4)
    assert np.array_equal(found.is_test, stratified_cut(arrays["y_train"], ids.tolist(), share=0.4, seed=3))


# the bank that an import makes


def test_a_bank_records_the_files_and_the_notes(npz, tmp_path):
    path = npz(mean=np.ones(4))
    bank = import_bank(path, tmp_path / "bank", dtype="float32")
    (file,) = bank.header.extra["source_files"]
    assert file["name"] == "f.npz" and file["size"] == path.stat().st_size and len(file["sha256"]) == 64
    assert list(bank.header.notes) == [
        {"code": "arrays_left_out", "values": {"file": str(path), "count": 1, "arrays": "mean"}}
    ]
    os.utime(path, (1, 1))
    assert import_bank(path, tmp_path / "bank", dtype="float32").complete  # a touched file is the same file
    npz(mean=np.zeros(4))
    with pytest.raises(BankError, match="source_files"):
        import_bank(path, tmp_path / "bank", dtype="float32")
    assert import_bank(path, tmp_path / "bank", dtype="float32", force=True).complete
    assert json.loads((tmp_path / "bank" / "bank.json").read_text())["header"]["source"] == str(path)
    assert FeatureBank.open(tmp_path / "bank").missing_rows().size == 0
    assert re.fullmatch("[0-9a-f]{64}", bank.header.extra["source_files"][0]["sha256"])
