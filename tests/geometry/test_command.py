"""`ssl-risk-rs stats`: what is printed is what was measured."""

import csv
import io
import json

import numpy as np
import pytest
from click.testing import CliRunner
from ssl_risk_rs import stats
from ssl_risk_rs.cli import main
from ssl_risk_rs.geometry import SampleRows, linear_cka
from ssl_risk_rs.probes.features import Features


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((120, 8)).astype(np.float32), np.arange(120) % 3
    made = {}
    for name, z in {"a": x, "b": x[:, :5] ** 2, "c": x + 0.1 * rng.standard_normal(x.shape)}.items():
        z = z.astype(np.float32)
        np.savez(tmp_path / f"{name}.npz", X_train=z[:90], y_train=y[:90], X_test=z[90:], y_test=y[90:])
        made[name] = z
    return tmp_path, made, y


def run(*arguments, code=0):
    result = CliRunner().invoke(main, ["stats", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result.output


def test_formats_hold_the_numbers_of_the_library(files):
    folder, made, y = files
    rows = json.loads(run(folder / "a.npz", folder / "b.npz", "--format", "json"))
    for name in ("a", "b"):
        expected = stats(made[name][:90], y[:90])
        own = {row["statistic"]: row["value"] for row in rows if row["encoder"] == f"{name}.npz"}
        assert own == {s.name: s.value for s in expected.statistics}
    text = run(folder / "a.npz", folder / "b.npz", "--format", "csv")
    lines = list(csv.DictReader(io.StringIO(text)))
    assert [float(line["value"]) for line in lines] == [row["value"] for row in rows]
    table = run(folder / "a.npz", folder / "b.npz")
    assert f"{stats(made['a'][:90], y[:90]).value('effective_rank'):.4g}" in table
    assert all(len(line) <= 80 for line in table.splitlines() if str(folder) not in line)


def test_splits_and_views(files):
    folder, made, y = files
    rows = json.loads(run(folder / "a.npz", "--views", folder / "c.npz", "--split", "test", "--format", "json"))
    expected = stats(made["a"][90:], y[90:], views=[made["c"][90:]])
    assert {row["statistic"]: row["value"] for row in rows} == {s.name: s.value for s in expected.statistics}
    assert {row["n_views"] for row in rows} == {2}
    rows = json.loads(run(folder / "a.npz", "--split", "all", "--format", "json"))
    assert rows[0]["n"] == 120


def test_cka_is_a_matrix_and_rows_of_the_frame(files):
    folder, made, _ = files
    paths = [folder / f"{name}.npz" for name in "abc"]
    rows = json.loads(run(*paths, "--cka", "--format", "json"))
    pairs = {(row["encoder"], row["other"]): row["value"] for row in rows if row["statistic"] == "linear_cka"}
    assert set(pairs) == {("a.npz", "b.npz"), ("a.npz", "c.npz"), ("b.npz", "c.npz")}

    def sample(name):
        return SampleRows(Features.of_arrays(made[name][:90].copy()), np.arange(90, dtype=np.uint32))

    assert pairs["a.npz", "c.npz"] == linear_cka(sample("a"), sample("c"))
    assert f"{pairs['a.npz', 'c.npz']:.3f}" in run(*paths, "--cka")


def test_mistakes_are_named(files):
    folder, made, y = files
    a, b = folder / "a.npz", folder / "b.npz"
    assert "a target is named twice" in run(a, a, code=1)
    assert "views are of one target, and 2 are named" in run(a, b, "--views", folder / "c.npz", code=1)
    assert "name at least two" in run(a, "--cka", code=1)
    assert "views have [5, 8] features" in run(a, "--views", b, code=1)
    assert "no such file" in run(folder / "d.npz", code=1)
    other = np.roll(y, 1)
    np.savez(folder / "d.npz", X_train=made["a"][:90], y_train=other[:90], X_test=made["a"][90:], y_test=other[90:])
    assert "has other rows than a.npz" in run(a, folder / "d.npz", "--cka", code=1)
    np.savez(folder / "e.npz", X_train=made["a"][:80], y_train=y[:80], X_test=made["a"][80:], y_test=y[80:])
    assert "e.npz has 80 rows, a.npz has 90" in run(a, folder / "e.npz", "--cka", code=1)
    # ids that are numbers tell rows apart like others, unless they count all rows of a file
    same, ids = np.zeros(len(y), int), np.arange(1000, 1000 + len(y))
    for name, of in (("f", ids), ("g", np.r_[ids[:90][::-1], ids[90:]])):
        np.savez(folder / f"{name}.npz", X_train=made["a"][:90], y_train=same[:90], X_test=made["a"][90:],
                 y_test=same[90:], sample_id_train=of[:90], sample_id_test=of[90:])  # fmt: skip
    assert "differ first in row 0" in run(folder / "f.npz", folder / "g.npz", "--cka", code=1)


def test_one_name_for_two_targets_is_told_apart(files):
    folder, made, y = files
    (folder / "other").mkdir()
    np.savez(folder / "other" / "a.npz", X_train=made["b"], y_train=y, X_test=made["b"], y_test=y)
    table = run(folder / "a.npz", folder / "other" / "a.npz")
    assert "#1 = a.npz" in table and "#2 = a.npz" in table


def test_numbers_for_a_report(tmp_path):
    file, out = tmp_path / "a.npz", tmp_path / "geometry.parquet"
    x = np.random.default_rng(0).standard_normal((60, 5)).astype(np.float32)
    np.savez(file, X_train=x, y_train=np.arange(60) % 3, X_test=x[:9], y_test=np.arange(9) % 3)
    done = CliRunner().invoke(main, ["stats", str(file), "--out", str(out)])
    assert done.exit_code == 0 and "--geometry" in done.stderr, done.stderr
    from ssl_risk_rs.report.geometry import read_statistics

    found = {s.name: s for s in read_statistics(out)}
    spectrum = np.linalg.eigvalsh(np.corrcoef(x.T.astype(np.float64)))[::-1]
    assert [found[f"eigenvalue_{j}"].value for j in range(1, 6)] == pytest.approx(spectrum, rel=1e-6)
    assert found["effective_rank"].n == 60
    several = CliRunner().invoke(main, ["stats", str(file), str(file), "--out", str(out)])
    assert several.exit_code == 2 and "one representation" in several.stderr


def test_a_file_is_replaced_only_by_force(files):
    folder, _, _ = files
    before = (folder / "a.npz").read_bytes()
    assert "a.npz exists; name another file" in run(folder / "a.npz", "--out", folder / "a.npz", code=1)
    assert (folder / "a.npz").read_bytes() == before
    run(folder / "a.npz", "--out", folder / "g.parquet")
    run(folder / "a.npz", "--out", folder / "g.parquet", "--force")
