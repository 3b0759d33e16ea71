"""Features of other programs: reading, import, export."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import polars as pl
import pytest
from ssl_risk_rs import (
    BankError,
    DataError,
    FeatureBank,
    ParameterError,
    ShapeError,
    export_bank,
    import_bank,
    load_features,
)
from ssl_risk_rs._splits import encode_groups
from ssl_risk_rs.bank import exchange as convert_module

N_TRAIN, N_TEST, D = 30, 11, 5


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "X_train": rng.standard_normal((N_TRAIN, D)).astype(np.float32),
        "y_train": np.arange(N_TRAIN) % 3,
        "X_test": rng.standard_normal((N_TEST, D)).astype(np.float32),
        "y_test": np.arange(N_TEST) % 3,
    }


def save(folder, kind: str, arrays):
    """The arrays in one of the kinds of file; its path."""
    if kind == "npz":
        np.savez(folder / "f.npz", **arrays)
        return folder / "f.npz"
    if kind == "folder":
        (folder / "f").mkdir()
        for name, array in arrays.items():
            np.save(folder / "f" / f"{name}.npy", array)
        return folder / "f"
    if kind == "safetensors":
        from safetensors.numpy import save_file

        save_file(arrays, folder / "f.safetensors")
        return folder / "f.safetensors"
    if kind in ("pt", "pth"):
        import torch

        torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, folder / f"f.{kind}")
        return folder / f"f.{kind}"
    frames = [
        pl.DataFrame({"features": arrays[f"X_{s}"].tolist(), "label": arrays[f"y_{s}"], "split": [s] * n})
        for s, n in (("train", N_TRAIN), ("test", N_TEST))
    ]
    frame = pl.concat(frames).with_columns(pl.col("features").cast(pl.List(pl.Float32)))
    if kind == "parquet-wide":
        wide = pl.DataFrame(np.concatenate([arrays["X_train"], arrays["X_test"]]), [f"f{i}" for i in range(D)])
        frame = frame.drop("features").hstack(wide)
    frame.write_parquet(folder / "f.parquet")
    return folder / "f.parquet"


KINDS = ["npz", "folder", "safetensors", "pt", "pth", "parquet", "parquet-wide"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file(tmp_path, arrays, kind):
    path = save(tmp_path, kind, arrays)
    found = load_features(path)
    for name, array in arrays.items():
        assert np.array_equal(getattr(found, name), array), name
    assert found.X_train.dtype == np.float32 and found.y_train.dtype == np.int64
    assert found.class_names is None and found.notes == ()
    bank = import_bank(path, tmp_path / "bank", dtype="float32", header={"encoder": "mine"})
    assert bank.complete and bank.header.encoder == "mine"
    assert np.array_equal(bank.read(bank.rows("train")), arrays["X_train"])
    assert np.array_equal(bank.read(bank.rows("test")), arrays["X_test"])
    assert np.array_equal(bank.labels()[bank.rows("test")], arrays["y_test"])
    assert np.array_equal(np.sort(np.concatenate([bank.rows("train"), bank.rows("test")])), np.arange(41))


def test_a_safetensors_file_that_holds_a_name_twice_is_refused(tmp_path):
    """The library keeps the last of them, and says nothing."""
    X = '"X": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}'
    y = '"y": {"dtype": "I64", "shape": [2], "data_offsets": [16, 32]}'
    for header, name in ((f"{{{X}, {y}, {y}}}", "y"), (f'{{"__metadata__": {{"a": "1", "a": "2"}}, {X}, {y}}}', "a")):
        text = header.encode()
        (tmp_path / "f.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(32))
        with pytest.raises(DataError, match=rf"f\.safetensors: its header has '{name}' twice"):
            load_features(tmp_path / "f.safetensors")


@pytest.mark.parametrize("kind", ["folder", "safetensors"])
def test_export_comes_back(tmp_path, arrays, kind, monkeypatch):
    monkeypatch.setattr(convert_module, "BLOCK_BYTES", 3 * D * 4)  # several blocks
    names = {"class_names": np.array(["é", "b", "c"])}
    seen: list[tuple[int, int]] = []
    bank = import_bank(
        save(tmp_path, "npz", {**arrays, **names}), tmp_path / "bank", progress=lambda *p: seen.append(p)
    )
    assert bank.dtype == "float16" and bank.class_names == ["é", "b", "c"]
    assert seen[0] == (3, 41) and seen[-1] == (41, 41)
    target = tmp_path / ("out" if kind == "folder" else "out.safetensors")
    export_bank(bank, target)
    found = load_features(target)
    assert found.X_train.dtype == np.float16 and found.class_names == ["é", "b", "c"]
    for name, array in arrays.items():
        assert np.array_equal(getattr(found, name), array.astype(np.float16 if "X" in name else np.int64))
    if kind == "safetensors":
        from safetensors.numpy import load_file

        assert np.array_equal(load_file(target)["X_test"], found.X_test)
    else:
        assert np.array_equal(np.load(target / "X_train.npy"), found.X_train)
    with pytest.raises(BankError, match="exists"):
        export_bank(bank, target)
    assert export_bank(bank, target, force=True) == target
    again = import_bank(target, tmp_path / "again")
    assert np.array_equal(again.read(np.arange(41)), bank.read(np.arange(41)))
    assert not list(tmp_path.glob(".*"))


def test_export_keeps_strangers(tmp_path, arrays):
    bank = import_bank(save(tmp_path, "npz", arrays), tmp_path / "bank")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    with pytest.raises(BankError, match=r"thesis\.tex"):
        export_bank(bank, tmp_path / "mine", force=True)
    with pytest.raises(ParameterError, match=r"NAME\.safetensors"):
        export_bank(bank, tmp_path / "out.npz")
    part = FeatureBank.create(tmp_path / "part", {}, bank.samples, n_features=D, dtype="float16")
    with pytest.raises(BankError, match="41 of 41 rows are missing"):
        export_bank(part, tmp_path / "out")


def test_the_cut_is_stratified_seeded_and_independent_of_order(tmp_path):
    rng = np.random.default_rng(1)
    n = 203
    y = rng.choice(4, n, p=[0.5, 0.3, 0.15, 0.05])
    y[:2], ids = [4, 5], np.array([f"img{i}" for i in range(n)])  # two classes of one row
    x = np.arange(n, dtype=np.float32)[:, None] * np.ones(2, np.float32)
    np.savez(tmp_path / "a.npz", X=x, y=y, ids=ids)
    order = rng.permutation(n)
    np.savez(tmp_path / "b.npz", x=x[order], Y=y[order], ids=ids[order])  # names in any case
    a, b, c = (load_features(tmp_path / name, seed=seed) for name, seed in (("a.npz", 0), ("b.npz", 0), ("a.npz", 1)))
    assert set(a.test_ids) == set(b.test_ids) != set(c.test_ids)
    assert set(a.test_ids) | set(a.train_ids) == set(ids) and not set(a.test_ids) & set(a.train_ids)
    for label in range(6):
        total, test = (y == label).sum(), (a.y_test == label).sum()
        assert test == (0 if total == 1 else max(1, round(0.2 * total)))
    assert "20% of each class, seed 0" in a.notes[0].sentence()
    assert np.array_equal(a.X_test[:, 0], [int(name[3:]) for name in a.test_ids])  # rows go with their ids
    bank = import_bank(tmp_path / "a.npz", tmp_path / "bank", dtype="float32")
    assert set(bank.samples.filter(pl.col("split") == "test")["sample_id"]) == set(a.test_ids)
    assert np.array_equal(bank.read(bank.rows("test")), a.X_test) and bank.header.notes[0]["code"] == a.notes[0].code


def test_pairs_of_npy(tmp_path, arrays):
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    train, test = (f"{tmp_path}/X_{s}.npy,{tmp_path}/y_{s}.npy" for s in ("train", "test"))
    found = load_features(train, test)
    assert all(np.array_equal(getattr(found, name), array) for name, array in arrays.items())
    assert len(load_features(train).y_test) == 6
    bank = import_bank(train, tmp_path / "bank", test=test)
    assert len(bank.rows("test")) == N_TEST
    with pytest.raises(DataError, match="holds no labels"):
        load_features(tmp_path / "X_train.npy")
    with pytest.raises(DataError, match=r"X\.npy,y\.npy"):
        load_features(f"{train},more.npy")
    np.savez(tmp_path / "both.npz", **arrays)
    with pytest.raises(DataError, match="tells train from test itself"):
        load_features(tmp_path / "both.npz", test)


@pytest.mark.parametrize(
    ("train", "test", "codes", "names"),
    [
        ([0, 1, 2], [1, 1, 0], [0, 1, 2, 1, 1, 0], None),
        ([0.0, 1.0, 2.0], [2, 2, 2], [0, 1, 2, 2, 2, 2], None),
        ([[0], [1], [1]], [[0], [0], [1]], [0, 1, 1, 0, 0, 1], None),
        ([5, 7, 10], [7, 5, 7], [0, 1, 2, 1, 0, 1], ["5", "7", "10"]),
        (["cat", "dog", "ant"], ["dog", "dog", "cat"], [1, 2, 0, 2, 2, 1], ["ant", "cat", "dog"]),
        ([b"cat", b"dog", b"dog"], [b"dog"] * 3, [0, 1, 1, 1, 1, 1], ["cat", "dog"]),
        ([True, False, True], [True] * 3, [1, 0, 1, 1, 1, 1], None),
    ],
)
def test_labels_become_codes(tmp_path, train, test, codes, names):
    x = np.ones((3, 2), np.float32)
    np.savez(tmp_path / "f.npz", X_train=x, y_train=np.array(train), X_test=x, y_test=np.array(test))
    found = load_features(tmp_path / "f.npz")
    assert [*found.y_train, *found.y_test] == codes and found.class_names == names


def test_bfloat16_and_other_types(tmp_path, arrays):
    import torch
    from safetensors.torch import save_file

    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    wanted = tensors["X_train"].bfloat16()
    save_file({**tensors, "X_train": wanted}, tmp_path / "f.safetensors")
    torch.save({**tensors, "X_train": wanted}, tmp_path / "f.pt")
    for name in ("f.safetensors", "f.pt"):
        assert np.array_equal(load_features(tmp_path / name).X_train, wanted.float().numpy())
    np.savez(tmp_path / "f.npz", **{**arrays, "X_train": arrays["X_train"].astype(">f8")})
    found = load_features(tmp_path / "f.npz").X_train
    assert found.dtype == np.float32 and found.dtype.isnative and np.array_equal(found, arrays["X_train"])
    np.savez(tmp_path / "f.npz", **{**arrays, "X_train": np.asfortranarray(arrays["X_train"])})
    assert load_features(tmp_path / "f.npz").X_train.flags.c_contiguous


def test_what_cannot_be_used_is_named(tmp_path, arrays):
    def refuse(error, match, name="f.npz", **change):
        np.savez(tmp_path / "f.npz", **{**arrays, **change})
        with pytest.raises(error, match=match):
            load_features(tmp_path / name)

    refuse(ShapeError, r"shape \(30, 5, 1\)", X_train=arrays["X_train"][:, :, None])
    refuse(ShapeError, r"y_train have shape \(1, 30\), one row of 30 labels.*ravel", y_train=arrays["y_train"][None])
    refuse(ShapeError, "30 representations, 29 labels", y_train=arrays["y_train"][:29])
    refuse(ShapeError, "argmax", y_train=np.eye(3)[arrays["y_train"]])
    refuse(ShapeError, "5 and 4 features", X_test=arrays["X_test"][:, :4])
    refuse(DataError, "whole numbers", y_train=arrays["y_train"] + 0.5)
    refuse(DataError, "expected numbers", X_train=arrays["X_train"].astype("U8"))
    refuse(DataError, "2 class_names", class_names=np.array(["a", "b"]))
    refuse(DataError, "no test rows", X_test=arrays["X_test"][:0], y_test=arrays["y_test"][:0])
    np.savez(tmp_path / "g.npz", feats=arrays["X_train"], labels=arrays["y_train"])
    with pytest.raises(DataError, match=r"no array 'X_train'; it has feats, labels"):
        load_features(tmp_path / "g.npz")
    with pytest.raises(DataError, match="no such file"):
        load_features(tmp_path / "none.npz")
    (tmp_path / "f.xls").write_text("")
    with pytest.raises(DataError, match="unknown kind of file"):
        load_features(tmp_path / "f.xls")
    frame = pl.DataFrame({"features": [[1.0, 2.0], [3.0]], "label": [0, 1]})
    frame.write_parquet(tmp_path / "f.parquet")
    with pytest.raises(ShapeError, match="lists of lengths"):
        load_features(tmp_path / "f.parquet")
    frame.drop("label").write_parquet(tmp_path / "f.parquet")
    with pytest.raises(DataError, match=r"no column 'label' .*it has features"):
        load_features(tmp_path / "f.parquet")
    bank = import_bank(save(tmp_path, "folder", arrays), tmp_path / "bank")
    with pytest.raises(DataError, match=r"FeatureBank\.open"):
        load_features(bank.path)


class Bomb:
    def __reduce__(self):
        return (os.mkdir, ("exploded",))


def test_nothing_is_unpickled(tmp_path, arrays, monkeypatch):
    import torch

    monkeypatch.chdir(tmp_path)
    bomb = np.array([Bomb()], dtype=object)
    np.savez("f.npz", **{**arrays, "y_train": bomb})
    np.save("X.npy", bomb)
    np.save("y.npy", arrays["y_train"])
    torch.save({"X": Bomb()}, "f.pt")
    for name in ("f.npz", "X.npy,y.npy", "f.pt"):
        with pytest.raises(DataError, match="never unpickled"):
            load_features(name)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("name", ["f.npz", "f.safetensors", "f.pt", "f.parquet", "f/X_train.npy"])
def test_damaged_files_are_data_errors(tmp_path, arrays, name):
    kind = "folder" if "/" in name else name.split(".")[1]
    path = save(tmp_path, kind, arrays)
    file = tmp_path / name
    sound = file.read_bytes()
    for damaged in (b"", b"garbage" * 9, sound[: len(sound) // 2], sound[:9]):
        file.write_bytes(damaged)
        with pytest.raises(DataError, match=r"damaged|cannot be read|unpickled"):
            load_features(path)


def test_auto_dtype(tmp_path, arrays):
    def chosen(x) -> str:
        np.savez(tmp_path / "f.npz", X_train=x, y_train=arrays["y_train"], X_test=x, y_test=arrays["y_train"])
        return import_bank(tmp_path / "f.npz", tmp_path / "bank", force=True).dtype

    assert chosen(arrays["X_train"]) == "float16"
    large = arrays["X_train"].copy()
    large[29, 4] = 70000
    assert chosen(large) == "float32"
    assert chosen(arrays["X_train"].astype(np.float64) * 1e-3 + 1) == "float32"
    large[7, 2] = np.nan
    with pytest.raises(ParameterError, match="row 7, feature 2 is NaN"):
        chosen(large)
    with pytest.raises(BankError, match="is no bank"):
        import_bank(tmp_path / "f.npz", tmp_path, force=True)


IMPORTER = """
import sys
import ssl_risk_rs.bank.exchange as c
c.BLOCK_BYTES = 4 * 64 * 8  # 8 rows
c.import_bank(sys.argv[1], sys.argv[2], dtype="float32", progress=lambda *p: print(*p, flush=True))
"""


def test_a_killed_import_goes_on(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((1500, 64)).astype(np.float32), np.arange(1500) % 5
    np.save(tmp_path / "X.npy", x)
    np.save(tmp_path / "y.npy", y)
    command = [sys.executable, "-c", IMPORTER, f"{tmp_path}/X.npy,{tmp_path}/y.npy", str(tmp_path / "bank")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    before = 1500 - len(FeatureBank.open(tmp_path / "bank").missing_rows())
    assert 8 <= before < 1500
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout.split()[0]) == before + 8
    bank = FeatureBank.open(tmp_path / "bank")
    assert np.array_equal(bank.read(np.arange(1500)), x) and np.array_equal(bank.labels(), y)
    assert json.loads((tmp_path / "bank" / "bank.json").read_text())["header"]["notes"]


def table_with(folder, **columns) -> str:
    """A parquet file of features with further columns."""
    rng = np.random.default_rng(0)
    n = N_TRAIN + N_TEST
    frame = pl.DataFrame({
        "label": np.arange(n) % 3, "split": ["train"] * N_TRAIN + ["test"] * N_TEST,
        "sample_id": [f"s{i}" for i in range(n)], **columns,
        **{f"feat_{j}": rng.standard_normal(n).astype(np.float32) for j in range(D)},
    })  # fmt: skip
    frame.write_parquet(folder / "f.parquet")
    return str(folder / "f.parquet")


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (("y",), "the column 'y' .* belong to the file itself"),
        (("ids",), "the column 'ids' .* belong to the file itself"),
        (("A", "a"), "the column 'a' .* belong to A"),
        (("site", "site_valid"), "the column 'site_valid' .* belong to site"),
    ],
)
def test_columns_named_as_arrays_of_a_file_are_refused_there_and_kept_in_a_folder(tmp_path, columns, said):
    """The column `y` took the place of the labels: a risk of 31 % became 61 % without a word."""
    n = N_TRAIN + N_TEST
    given = {name: (np.arange(n) * (i + 2)) % 5 for i, name in enumerate(columns)}
    bank = import_bank(table_with(tmp_path, **given), tmp_path / "bank")
    with pytest.raises(BankError, match=said):
        export_bank(bank, tmp_path / "e.safetensors")
    assert not (tmp_path / "e.safetensors").exists()
    export_bank(bank, tmp_path / "e")
    back = import_bank(str(tmp_path / "e"), tmp_path / "back")
    for name, values in given.items():
        assert back.samples[name].to_list() == values.tolist()


@pytest.mark.parametrize("kind", ["float64", "float32", "bool"])
def test_a_bank_names_groups_as_its_file_does(tmp_path, kind):
    """Splits are drawn by the names: a bank had 4.0 and true where its file had 4 and True."""
    n = N_TRAIN + N_TEST
    values = {"float64": np.arange(n) // 3 * 0.4, "float32": (np.arange(n) // 3 * 0.4).astype(np.float32),
              "bool": np.arange(n) % 2 == 0}[kind]  # fmt: skip
    path = table_with(tmp_path, patient=values)
    bank, loaded = import_bank(path, tmp_path / "bank"), load_features(path)
    of_file = [*loaded.train_columns["patient"].tolist(), *loaded.test_columns["patient"].tolist()]
    assert encode_groups(bank.groups("patient"))[0] == encode_groups(of_file)[0]


def test_whole_numbers_beyond_int64_come_back_from_an_export(tmp_path):
    sites = np.arange(N_TRAIN + N_TEST, dtype=np.uint64) + np.uint64(2**63)
    bank = import_bank(table_with(tmp_path, site=sites), tmp_path / "bank")
    found = load_features(export_bank(bank, tmp_path / "e.safetensors"))
    assert [*found.train_columns["site"].tolist(), *found.test_columns["site"].tolist()] == sites.tolist()


def test_a_group_that_is_no_number_is_none(tmp_path):
    values = np.arange(N_TRAIN + N_TEST, dtype=float)
    values[3:6] = np.nan
    bank = import_bank(table_with(tmp_path, patient=values), tmp_path / "bank")
    with pytest.raises(ParameterError, match=r"column 'patient' has no value in 3 of 41 rows \(the first is row 3\)"):
        bank.groups("patient")
