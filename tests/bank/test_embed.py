"""`embed:`: vectors without a model, joined to labels by identifier; HDF5 in the layouts of CLAM and TRIDENT."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from ssl_risk_rs.bank import FeatureBank
from ssl_risk_rs.bank.exchange import import_bank
from ssl_risk_rs.bank.formats import load_features
from ssl_risk_rs.bank.formats.embed import parse_embedding
from ssl_risk_rs.cli import main
from ssl_risk_rs.errors import DataError, ParameterError, ShapeError
from ssl_risk_rs.results import Run
from ssl_risk_rs.workflow.features import Reading, open_features

N, D = 60, 5


@pytest.fixture
def slides(rng) -> dict[str, np.ndarray]:
    """Patches of every slide, from 1 to 4 of them."""
    return {
        f"s{i:03}": (rng.standard_normal((1 + i % 4, D)) + 2 * np.eye(3, D)[i % 3]).astype(np.float32) for i in range(N)
    }


@pytest.fixture
def labels(slides) -> str:
    """labels.csv: slide_id, label, split, and the patient, with two slides each."""
    frame = pl.DataFrame(
        {
            "case_id": [f"p{i // 2}" for i in range(N)],
            "slide_id": list(slides),
            "label": [f"grade {i % 3}" for i in range(N)],
            "split": ["test" if i % 10 >= 6 else "train" for i in range(N)],
        }
    )
    frame.write_csv("labels.csv")
    return "labels.csv"


def write_h5(folder: str, slides: dict[str, np.ndarray], batch: bool = False) -> None:
    """One file a slide: `features` (n, d), in older files (1, n, d), and `coords` (n, 2)."""
    h5py = pytest.importorskip("h5py")
    Path(folder).mkdir()
    for name, patches in slides.items():
        coords = np.stack([np.arange(len(patches)) * 256, np.full(len(patches), 512)], 1)
        with h5py.File(f"{folder}/{name}.h5", "w") as file:
            file["features"] = patches[None] if batch else patches
            file["coords"] = coords
            file["coords"].attrs["patch_size"] = 256


def means(slides: dict[str, np.ndarray]) -> np.ndarray:
    return np.stack([patches.astype(np.float64).mean(0) for patches in slides.values()]).astype(np.float32)


def rows_of(found) -> dict[str, np.ndarray]:
    return dict(zip([*found.train_ids, *found.test_ids], np.vstack([found.X_train, found.X_test]), strict=True))


@pytest.mark.parametrize("batch", [False, True])
def test_slides_are_pooled_and_joined(slides, labels, batch):
    write_h5("h5_files", slides, batch)
    found = load_features("embed:h5_files?labels=labels.csv&pool=mean")
    assert (len(found.y_train), len(found.y_test)) == (36, 24) and found.class_names == [
        "grade 0",
        "grade 1",
        "grade 2",
    ]
    rows = rows_of(found)
    for name, mean in zip(slides, means(slides), strict=True):
        assert np.array_equal(rows[name], mean)
        expected = int(name[1:]) % 3
        y = dict(zip([*found.train_ids, *found.test_ids], [*found.y_train, *found.y_test], strict=True))
        assert y[name] == expected
    assert set(found.train_columns) == {"case_id"} and not found.notes


def test_patches_are_rows_with_their_slide_and_place(slides, labels):
    write_h5("h5_files", slides)
    found = load_features("embed:h5_files?labels=labels.csv")
    rows = rows_of(found)
    assert len(rows) == sum(map(len, slides.values())) and np.array_equal(rows["s003:2"], slides["s003"][2])
    assert set(found.train_columns) == {"case_id", "slide_id", "coord_x", "coord_y"}
    place = dict(zip(found.train_ids, found.train_columns["coord_x"], strict=True))
    assert place["s003:2"] == 512 and place["s003:0"] == 0


def h5_groups(slides):
    h5py = pytest.importorskip("h5py")
    with h5py.File("all.h5", "w") as file:
        for name, patches in slides.items():
            file[f"{name}/features"] = patches
    return "all.h5"


def h5_with_ids(slides):
    h5py = pytest.importorskip("h5py")
    with h5py.File("flat.hdf5", "w") as file:
        file["features"] = np.concatenate(list(slides.values()))
        file["ids"] = [name for name, patches in slides.items() for _ in patches]
    return "flat.hdf5"


def npz(slides):
    names = [name for name, patches in slides.items() for _ in patches]
    np.savez("all.npz", features=np.concatenate(list(slides.values())), ids=np.array(names))
    return "all.npz"


def parquet(slides):
    table = pl.DataFrame({"slide_id": list(slides), "features": means(slides).tolist()})
    table.write_parquet("all.parquet")
    return "all.parquet"


def csv_columns(slides):
    table = pl.DataFrame({"slide_id": list(slides)} | {f"f{j}": column for j, column in enumerate(means(slides).T)})
    table.write_csv("all.csv")
    return "all.csv"


def folder_of_npy(slides):
    Path("npy").mkdir()
    for name, patches in slides.items():
        np.save(f"npy/{name}.npy", patches[0] if len(patches) == 1 else patches)
    return "npy"


def folder_of_pt(slides):
    torch = pytest.importorskip("torch")
    Path("pt_files").mkdir()
    for name, patches in slides.items():
        torch.save(torch.from_numpy(patches), f"pt_files/{name}.pt")
    return "pt_files"


@pytest.mark.parametrize("make", [h5_groups, h5_with_ids, npz, parquet, csv_columns, folder_of_npy, folder_of_pt])
def test_every_kind_of_file_gives_the_same_rows(slides, labels, make):
    rows = rows_of(load_features(f"embed:{make(slides)}?labels=labels.csv&pool=mean"))
    for name, mean in zip(slides, means(slides), strict=True):
        # text and float32 means of means: one rounding more
        assert np.allclose(rows[name], mean, rtol=4 * np.finfo(np.float32).eps, atol=1e-7)


def test_decompose_run_import_and_compare_take_it(slides, labels):
    folder_of_npy(slides)
    uri = "embed:npy?labels=labels.csv&pool=mean&group=case_id"
    result = CliRunner().invoke(main, ["decompose", uri, "--probe", "ridge", "--out", "r", "--splits", "1"])
    assert result.exit_code == 0, result.stderr
    assert "npy on the rows of npy" in result.stdout and "whole groups of case_id" in result.stdout
    imported = CliRunner().invoke(main, ["store", "import", uri, "bank", "--format", "json"])
    assert imported.exit_code == 0, imported.stderr
    bank = FeatureBank.open("bank")
    assert open_features(uri, Reading()).task.groups is not None  # of knn, explain and audit too
    assert bank.n_rows == N and bank.header.encoder == "npy" and "case_id" in bank.extra_columns
    again = CliRunner().invoke(main, ["decompose", "bank", "--probe", "ridge", "--group", "case_id", "--splits", "1",
                                      "--out", "b", "--format", "json"])  # fmt: skip
    risks = {row["quantity"]: row["estimate"] for row in json.loads(again.stdout)}
    assert risks["risk_us"] == Run.load("r").decompositions[0].estimate("risk_us")
    in_store = CliRunner().invoke(main, ["store", "import", uri, "--store", "st", "--format", "json"])
    other = CliRunner().invoke(main, ["store", "import", uri.replace("&group=case_id", ""), "--store", "st"])
    assert in_store.exit_code == other.exit_code == 0 and len(list(Path("st").iterdir())) >= 2
    both = CliRunner().invoke(main, ["compare", "r", uri, "--probe", "ridge"])
    assert both.exit_code in (0, 1) and "does not exist" not in both.stderr


def test_what_is_left_out_is_counted_and_said(slides, labels):
    del slides["s000"]
    slides["stranger"] = np.ones((2, D), np.float32)
    slides["s001"] = np.empty((0, D), np.float32)
    folder_of_npy(slides)
    found = load_features("embed:npy?labels=labels.csv&pool=mean")
    (note,) = found.notes
    assert note.code == "embed_joined"
    assert {k: note.values[k] for k in ("joined", "unlabelled", "lacking", "empty")} == {
        "joined": 58, "unlabelled": 1, "lacking": 1, "empty": 1,
    }  # fmt: skip
    assert "58 identifiers are in both npy and labels.csv" in note.sentence()


def test_identifiers_of_digits_stay_text_and_a_file_without_split_is_cut():
    Path("npy").mkdir()
    for i in range(40):
        np.save(f"npy/{i:03}.npy", np.full((1, 2), i % 2, np.float32) + np.arange(2))
    pl.DataFrame({"id": [f"{i:03}" for i in range(40)], "y": [i % 2 for i in range(40)]}).write_csv("l.csv")
    found = load_features("embed:npy?labels=l.csv")
    assert "007" in [*found.train_ids, *found.test_ids] and [note.code for note in found.notes] == ["cut_made"]


def test_labels_and_groups_of_embeddings_are_told_apart_by_their_text(slides):
    folder_of_npy(slides)
    names = [("01", "1", "2")[i % 3] for i in range(N)]
    pl.DataFrame({"slide_id": list(slides), "grade": names, "site": names[::-1]}).write_csv("l.csv", separator=";")
    found = load_features("embed:npy?labels=l.csv&label=grade&group=site&pool=mean")
    assert found.class_names == ["01", "1", "2"] and set(found.train_columns["site"]) <= set(names)


def test_a_cut_keeps_the_patches_of_a_slide_together(slides):
    folder_of_npy(slides)
    pl.DataFrame({"slide_id": list(slides), "label": [i % 3 for i in range(N)]}).write_csv("l.csv")
    found = load_features("embed:npy?labels=l.csv")
    (note,) = found.notes
    assert note.code == "cut_made_by_group" and note.values["group"] == "slide_id"
    sides = [set(columns["slide_id"].tolist()) for columns in (found.train_columns, found.test_columns)]
    assert not sides[0] & sides[1] and sides[0] | sides[1] == set(slides)


def test_an_import_keeps_the_groups_of_the_name_together(slides):
    folder_of_npy(slides)
    cases = [f"p{i // 4}" for i in range(N)]
    pl.DataFrame({"slide_id": list(slides), "case": cases, "label": [i % 3 for i in range(N)]}).write_csv("l.csv")
    bank = import_bank("embed:npy?labels=l.csv&group=case&pool=mean", "bank")
    assert bank.header.notes[0]["values"]["group"] == "case"
    sides = [set(rows["case"]) for _, rows in bank.samples.group_by("split")]
    assert len(sides) == 2 and not sides[0] & sides[1]


def test_mistakes_are_named(slides, labels):
    for uri, match in (
        ("embed:npy", r"write embed:PATH\?labels=FILE"),
        ("embed:npy?labels=l.csv&pol=mean", "'pol=mean' is none of the options labels=…"),
        ("embed:npy?labels=l.csv&pool=max", "the one way to pool is mean"),
    ):
        with pytest.raises(ParameterError, match=match):
            parse_embedding(uri)
    folder_of_npy(slides)
    for query, match in (
        ("labels=none.csv", r"none\.csv: no such file"),
        ("labels=labels.csv&id=slide", r"has no column 'slide' \(id=\); it has case_id, slide_id"),
        ("labels=labels.csv&id=case_id", "'p0' is in two rows of column 'case_id'"),
        ("labels=labels.csv&group=patient", r"has no column 'patient' \(group=\)"),
    ):
        with pytest.raises(DataError, match=match):
            load_features(f"embed:npy?{query}")
    pl.read_csv("labels.csv").with_columns(pl.col("slide_id") + ".svs").write_csv("svs.csv")
    with pytest.raises(
        DataError, match=r"no identifier of svs\.csv .*such as 's000\.svs'.* is in npy, .*such as 's000'"
    ):
        load_features("embed:npy?labels=svs.csv")
    np.save("npy/s005.npy", np.ones((2, D + 1), np.float32))
    with pytest.raises(ShapeError, match="'s005' has 6 features, the others have 5"):
        load_features("embed:npy?labels=labels.csv")
    Path("empty").mkdir()
    with pytest.raises(DataError, match="CLAM writes them to h5_files"):
        load_features("embed:empty?labels=labels.csv")
    h5py = pytest.importorskip("h5py")
    Path("h5").mkdir()
    with h5py.File("h5/s000.h5", "w") as file:
        file["embeddings"] = np.ones((2, 3))
    with pytest.raises(DataError, match=r"s000\.h5 has no 'features'; it has embeddings; name it: &key=NAME"):
        load_features("embed:h5?labels=labels.csv")
    Path("h5/s000.h5").write_bytes(b"none")
    with pytest.raises(DataError, match=r"s000\.h5 is damaged or no \.h5 file"):
        load_features("embed:h5?labels=labels.csv")
    with pytest.raises(DataError, match=r"joined to its labels: embed:h5/s000\.h5\?labels=FILE\.csv"):
        load_features("h5/s000.h5")


def test_a_file_of_labels_has_no_features(slides, labels, tmp_path):
    """Its numbered columns keep their texts apart."""
    x = np.stack([patches[0] for patches in slides.values()])
    np.savez("vectors.npz", X=x, ids=np.array(list(slides)))
    sites = pl.Series("site1", ["01", "1", "2"] * (N // 3))
    pl.read_csv(labels).with_columns(sites, site2=pl.lit("7")).write_csv("sites.csv")
    found = load_features("embed:vectors.npz?labels=sites.csv")
    assert set(found.train_columns["site1"].tolist()) == {"01", "1", "2"}


def test_places_of_a_flat_file_follow_their_slide(labels):
    h5py = pytest.importorskip("h5py")
    x = np.arange(4 * D, dtype=np.float32).reshape(4, D)
    with h5py.File("flat.h5", "w") as file:
        file["features"], file["coords"] = x, np.array([[1, 0], [2, 0], [3, 0], [4, 0]])
        file["ids"] = np.array([b"s000", b"s006", b"s000", b"s006"])
    found = load_features("embed:flat.h5?labels=labels.csv")
    at = dict(
        zip(
            [*found.train_ids, *found.test_ids],
            [*found.train_columns["coord_x"], *found.test_columns["coord_x"]],
            strict=True,
        )
    )
    assert at == {"s000:0": 1, "s000:1": 3, "s006:0": 2, "s006:1": 4}


def test_places_of_other_patches_are_refused(labels):
    h5py = pytest.importorskip("h5py")
    with h5py.File("one.h5", "w") as file:
        file["s000/features"], file["s000/coords"] = np.ones((3, D), np.float32), np.zeros((2, 2))
    with pytest.raises(DataError, match=r"coords of shape \(2, 2\) do not belong to features of \(3, 5\)"):
        load_features("embed:one.h5?labels=labels.csv")
