"""The same images and labels give the same run, whatever they are stored as."""

import io
import json
import tarfile

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from PIL import Image
from ssl_risk_rs import FeatureBank
from ssl_risk_rs.cli import main

CLASSES = ("ant", "bee", "cow")
#: images of each part
SIZES = {"train": 150, "test": 60}


def png(pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


@pytest.fixture(scope="module")
def images():
    """Pixels and labels of each part: three classes that overlap, in the order in which folders list them."""
    rng, found = np.random.default_rng(0), {}
    for part, n in SIZES.items():
        labels = np.repeat(np.arange(3), n // 3)
        x = rng.normal(128, 90, (n, 8, 8, 3)) + 40 * (np.arange(3) == labels[:, None])[:, None, None]
        found[part] = np.clip(x, 0, 255).astype(np.uint8), labels
    return found


def folder(root, images) -> str:
    for part, (x, y) in images.items():
        for i, (pixels, label) in enumerate(zip(x, y, strict=True)):
            path = root / part / CLASSES[label] / f"{i:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(pixels))
    return f"folder:{root}"


def rows(images) -> list[dict]:
    return [
        {
            "path": f"{part}/{CLASSES[label]}/{i:03}.png",
            "label": CLASSES[label],
            "split": part,
            "sample_id": f"{part}/{i}",
        }
        for part, (_, y) in images.items()
        for i, label in enumerate(y)
    ]


def manifest(root, images, ids: bool) -> str:
    folder(root, images)
    frame = pl.DataFrame(rows(images)).sample(fraction=1, shuffle=True, seed=0)
    (frame if ids else frame.drop("sample_id")).write_csv(root / "rows.csv")
    return f"manifest:{root / 'rows.csv'}"


def npz(root, images) -> str:
    arrays = {f"{name}_{part}": array for part, pair in images.items() for name, array in zip("xy", pair, strict=True)}
    np.savez(root / "a.npz", **arrays)
    return f"npz:{root / 'a.npz'}"


def wds(root, images) -> str:
    for part, (x, y) in images.items():
        for shard in range(2):
            with tarfile.open(root / f"{part}-{shard}.tar", "w") as archive:
                for i in range(shard * len(y) // 2, (shard + 1) * len(y) // 2):
                    for ending, data in (("png", png(x[i])), ("txt", CLASSES[y[i]].encode())):
                        member = tarfile.TarInfo(f"{i}.{ending}")
                        member.size = len(data)
                        archive.addfile(member, io.BytesIO(data))
    return f"wds:{root}/train-{{0..1}}.tar,{root}/test-{{0..1}}.tar"


def hf(root, images) -> str:
    library = pytest.importorskip("datasets")
    features = library.Features({"image": library.Image(), "label": library.ClassLabel(names=list(CLASSES))})
    splits = {
        part: library.Dataset.from_dict(
            {"image": [{"bytes": png(p), "path": None} for p in x], "label": y.tolist()}, features=features
        )
        for part, (x, y) in images.items()
    }
    library.DatasetDict(splits).save_to_disk(str(root / "saved"))
    return f"hf:{root / 'saved'}"


def result(root, uri):
    """Rows of the table of `run -m pixels:8`, and features and labels of its bank."""
    line = ["run", "-m", "pixels:8?channels=1", "-d", uri, "--control", "none", "--store", str(root / "banks"), "--out",
            str(root / "run"), "--format", "json", "--probe", "ridge"]  # fmt: skip
    done = CliRunner().invoke(main, line, catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    (bank,) = [path.parent for path in (root / "banks").glob("*/bank.json")]
    opened = FeatureBank.open(bank)
    numbers = {
        (row["quantity"], row["split"]): (row["estimate"], row["se"], row["n"]) for row in json.loads(done.stdout)
    }
    return numbers, np.asarray(opened.read(np.arange(opened.n_rows, dtype=np.uint64))), opened.samples


@pytest.fixture(scope="module")
def of_npz(images, tmp_path_factory):
    root = tmp_path_factory.mktemp("npz")
    return result(root, npz(root, images))


@pytest.fixture(scope="module")
def of_folder(images, tmp_path_factory):
    root = tmp_path_factory.mktemp("folder")
    return result(root, folder(root / "imgs", images))


def same(found, wanted) -> None:
    numbers, features, samples = found
    assert len(numbers) >= 9 and numbers.keys() == wanted[0].keys()
    for key, values in numbers.items():  # equal but for the last digits of sums: the order of rows differs
        assert values == pytest.approx(wanted[0][key], abs=1e-8), key
    columns = ["split", "sample_id", "label"]
    assert samples.select(columns).sort(columns).equals(wanted[2].select(columns).sort(columns))
    order, wanted_order = (np.lexsort((s["sample_id"].to_numpy(), s["split"].to_numpy())) for s in (samples, wanted[2]))
    assert np.array_equal(features[order], wanted[1][wanted_order])


@pytest.mark.parametrize("write", [lambda root, x: manifest(root, x, True), wds, hf], ids=["manifest", "wds", "hf"])
def test_equal_ids_give_the_same_run(images, of_npz, tmp_path, write):
    same(result(tmp_path, write(tmp_path, images)), of_npz)


def test_a_manifest_of_a_folder_is_that_folder(images, of_folder, tmp_path):
    same(result(tmp_path, manifest(tmp_path, images, False)), of_folder)


def test_a_folder_has_the_features_of_arrays(of_folder, of_npz):
    assert np.array_equal(of_folder[1], of_npz[1])
    assert of_folder[2]["label"].equals(of_npz[2]["label"])
