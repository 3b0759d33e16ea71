"""Moments: every answer of one pass against float64, and files that may be anything."""

import copy
import json
import pickle
import struct
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import ssl_risk_rs
from safetensors.numpy import load_file
from sklearn.linear_model import Ridge
from ssl_risk_rs import BankError, Moments, ParameterError, ShapeError, choose_shift, stats

FOLDS = 4


def problem(n=400, d=24, k=4, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, k, n)
    y[: 2 * k] = np.arange(2 * k) % k
    x = (rng.normal(0, 1, (k, d))[y] + rng.normal(0, 1, (n, d))) * np.geomspace(0.3, 3, d)
    return x.astype(np.float32), y.astype(np.uint32)


def far():
    x, y = problem()
    x[:, ::3] += np.float32(40.0) * x[:, ::3].std(0)
    return x, y


def dead():
    x, y = problem()
    x[:, 3], x[:, 7] = 0, 0.3
    return x, y


def duplicated():
    x, y = problem()
    x[:, 5], x[:, 6] = x[:, 4], 2 * x[:, 4]
    return x, y


def absent():
    x, y = problem()
    y[(y == 2) & (folds(len(y)) != 1)] = 0  # class 2 lives in fold 1 only
    return x, y


CASES = {
    "plain": problem,
    "far from the origin": far,
    "dead": dead,
    "duplicated": duplicated,
    "class absent from the folds": absent,
    "more features than rows": lambda: problem(60, 100),
    "two classes": lambda: problem(k=2),
}


def folds(n: int) -> np.ndarray:
    return (np.arange(n) % FOLDS).astype(np.uint8)


def rows_of(x: np.ndarray) -> np.ndarray:
    return np.arange(len(x), dtype=np.uint32)


def moments_of(x, y, *, k=None, threads=1, rows=None) -> Moments:
    rows = rows_of(x) if rows is None else np.ascontiguousarray(rows)
    moments = Moments(x.shape[1], k or int(y.max()) + 1, n_cells=FOLDS, shift=choose_shift(x, rows_of(x)))
    moments.update(x, y, rows, folds(len(x)), n_threads=threads)
    return moments


def scaled(x, scaling):
    """Rows in float64, centred and scaled; dead features are 0."""
    x = x.astype(np.float64)
    width = {"none": np.ones(x.shape[1]), "standardize": x.std(0), "minmax": np.ptp(x, 0)}[scaling]
    alive = x.std(0) > 1e-6 * np.abs(x).max()
    return np.where(alive, (x - x.mean(0)) / np.where(alive, width, 1), 0)


def objective(x, targets, weights, intercept, alpha):
    residual = x @ weights.T + intercept - targets
    return (residual**2).sum() / (2 * len(x)) + alpha / 2 * (weights**2).sum()


@pytest.mark.parametrize("scaling", ["none", "standardize", "minmax"])
@pytest.mark.parametrize("case", CASES)
def test_solve_agrees_with_float64_at_every_penalty(case, scaling):
    x, y = CASES[case]()
    k = int(y.max()) + 1
    moments = moments_of(x, y)
    for cells in (None, [0, 2, 3]):
        kept = np.ones(len(x), bool) if cells is None else np.isin(folds(len(x)), cells)
        own, targets = scaled(x[kept], scaling), np.eye(k)[y[kept]]
        unit = own.var(0).mean()
        grid = np.array([1e-5, 1e-4, 1e-3, 1e-1, 10]) * unit * (1 + 1e-5)  # the floor comes from float32 sums
        probes = moments.solve(list(grid), cells, scaling=scaling)
        for alpha, probe in zip(grid, probes, strict=True):
            rival = Ridge(alpha=alpha * len(own), solver="svd").fit(own, targets)
            scores = probe.scores(x[kept], rows_of(x[kept]), n_threads=1)
            # targets are 0 and 1; scores are float32
            assert np.abs(scores - rival.predict(own)).max() <= 1e-5
            _, (coef, intercept, _, scale) = probe.__reduce__()
            best = objective(own, targets, rival.coef_, rival.intercept_, alpha)
            found = objective(own, targets, coef * (scale != 0), intercept, alpha)
            # with d > n the optimum itself goes to 0 with the penalty; then against the loss without weights
            nothing = objective(own, targets, 0 * coef, targets.mean(0), alpha)
            assert best * (1 - 1e-12) <= found <= best * (1 + 1e-6) + 1e-9 * nothing
            assert (coef[targets.sum(0) == 0] == 0).all() and (intercept[targets.sum(0) == 0] == 0).all()


def test_how_products_are_summed_changes_nothing_else(tmp_path, monkeypatch):
    x, y = problem(1000)
    monkeypatch.setenv("SSL_RISK_KERNEL", "portable,portable_bf16")
    files = {}
    for precision in ("auto", "float64", "float32", "bfloat16"):
        moments = Moments(x.shape[1], 4, n_cells=FOLDS, shift=choose_shift(x, rows_of(x)), precision=precision)
        moments.update(x, y, rows_of(x), folds(len(x)))
        moments.save(tmp_path / "m")
        files[precision] = load_file(tmp_path / "m")
        floor = {"auto": 1e-10, "float64": 1e-10, "float32": 1e-5, "bfloat16": 1e-2}[precision]
        for kept in (moments, Moments.load(tmp_path / "m")):
            design = kept.design(scaling="standardize")
            assert design.alpha_floor == pytest.approx(floor * design.mean_variance)
    exact = files["float64"]
    for precision, tensors in files.items():
        for name in exact:
            if name != "gram":
                assert np.array_equal(exact[name], tensors[name]), name
        scale = np.abs(exact["gram"]).max()
        error = np.abs(exact["gram"] - tensors["gram"]).max() / scale
        # 8 bits with errors of 250 rows that average, 24 bits, none: small updates are exact unless asked otherwise
        low, high = {"bfloat16": (1e-7, 2e-3), "float32": (1e-12, 1e-6)}.get(precision, (0, 1e-15))
        assert low <= error <= high, precision
    with pytest.raises(ParameterError, match="precision must be"):
        Moments(3, 2, precision="half")


def test_the_roughest_sums_decide(tmp_path):
    x, y = problem()
    fine, rough = (
        Moments(x.shape[1], 4, shift=choose_shift(x, rows_of(x)), precision=precision)
        for precision in ("float64", "float32")
    )
    for moments in (fine, rough):
        moments.update(x, y, rows_of(x), np.zeros(len(x), np.uint8))
    assert fine.design().alpha_floor < 1e-4 * rough.design().alpha_floor
    fine.merge(rough)
    assert fine.design().alpha_floor == pytest.approx(1e-5 * fine.design().mean_variance)


def test_a_row_costs_its_own_cell_only():
    """Peak memory of a child process: the sums of the cells that no row touches are not made."""
    code = """
import resource, numpy as np
from ssl_risk_rs import Moments
x = np.ones((1, 1024), np.float32)
moments = Moments(1024, 2, n_cells=64)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
moments.update(x, np.array([0], np.uint32), np.array([0], np.uint32), np.array([5], np.uint8))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    # kilobytes: a cell has 4.8 MB, 64 have 310
    assert int(done.stdout) < 100_000


def test_sizes_are_told_while_an_update_runs():
    """A getter that waited for the update would wait with the interpreter's lock, and nothing else would run."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20_000, 512)).astype(np.float32)
    y = (np.arange(len(x)) % 3).astype(np.uint32)
    moments = Moments(512, 3)
    done = threading.Event()

    def update():
        moments.update(x, y, rows_of(x), np.zeros(len(x), np.uint8), n_threads=1)
        done.set()

    thread = threading.Thread(target=update)
    thread.start()
    looks = 0
    while not done.is_set():
        assert (moments.n_features, moments.n_classes, moments.n_cells) == (512, 3, 1)
        assert repr(moments) in (f"Moments(512 features, 3 classes, 1 cells, {n} rows)" for n in (0, 20_000))
        looks += 1
    thread.join()
    assert looks > 10  # two or three, where getters wait for the update to end
    assert "20000 rows" in repr(moments)


def test_an_object_may_be_merged_with_itself():
    x, y = problem()
    moments = moments_of(x, y)
    moments.merge(moments)
    assert moments.design().n_samples == 800
    moments.subtract(moments)
    assert "0 rows" in repr(moments)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_updates_merges_and_differences_are_one_pass(dtype):
    x, y = problem(1000)
    x = x.astype(dtype)
    whole = moments_of(x, y)
    halves = [moments_of(x, y, rows=rows_of(x)[half::2]) for half in (0, 1)]
    grown = moments_of(x, y, rows=rows_of(x)[:300])
    grown.update(x, y, rows_of(x)[300:], folds(len(x)), n_threads=2)
    merged = halves[0]
    merged.merge(halves[1])
    alpha = [1e-3]
    expected = whole.solve(alpha)[0].raw()
    for other in (grown, merged):
        for a, b in zip(other.solve(alpha)[0].raw(), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)  # float32 sums in another order
    merged.subtract(halves[1])
    first = moments_of(x, y, rows=rows_of(x)[::2])
    for a, b in zip(merged.solve(alpha)[0].raw(), first.solve(alpha)[0].raw(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9)  # float64 sums cancel
    with pytest.raises(ParameterError, match="never added"):
        merged.subtract(whole)
    with pytest.raises(ParameterError, match="differ"):
        merged.merge(Moments(x.shape[1], 4, n_cells=FOLDS, shift=np.full(x.shape[1], 1e3, np.float32)))


def test_a_saved_file_gives_the_same_bits(tmp_path):
    x, y = far()
    moments = moments_of(x, y, k=6)
    path = tmp_path / "train.moments"
    moments.save(path)
    back = Moments.load(str(path))
    assert repr(back) == repr(moments) == "Moments(24 features, 6 classes, 4 cells, 400 rows)"
    assert (back.n_features, back.n_classes, back.n_cells) == (24, 6, 4)
    for cells, scaling in ((None, "standardize"), ([1, 3], "minmax")):
        for a, b in zip(
            back.solve([1e-3, 1.0], cells, scaling=scaling),
            moments.solve([1e-3, 1.0], cells, scaling=scaling),
            strict=True,
        ):
            assert all(np.array_equal(u, v) for u, v in zip(a.__reduce__()[1], b.__reduce__()[1], strict=True))
    back.update(x, y, rows_of(x), folds(len(x)), n_threads=1)  # and goes on
    assert back.design().n_samples == 800
    back.save(path)
    assert Moments.load(path).design().n_samples == 800
    assert [file.name for file in tmp_path.iterdir()] == ["train.moments"]
    # other tools read it
    tensors = load_file(path)
    gram = (x.astype(np.float64) - tensors["shift"]).T @ (x.astype(np.float64) - tensors["shift"])
    np.testing.assert_allclose(tensors["gram"].sum(0) / 2, gram[np.tril_indices(24)], rtol=1e-5, atol=1e-3)
    assert tensors["counts"].sum() == 800


def rewritten(path: Path, change) -> bytes:
    """The file with its header changed."""
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def test_hostile_files_are_named_errors(tmp_path):
    x, y = problem(60, 5)
    good = tmp_path / "good"
    moments_of(x, y).save(good)
    data = good.read_bytes()

    def metadata(name, value):
        return rewritten(good, lambda header: header["__metadata__"].update({name: value}))

    def shape(name, value):
        return rewritten(good, lambda header: header[name].update(shape=value))

    huge = (1 << 63).to_bytes(8, "little")
    bad = {
        "empty": b"",
        "text": b"hello, these are no moments at all",
        "huge header": huge + data[8:],
        "cut": data[:-1],
        "longer": data + b"\0",
        "flipped": data[:-3] + bytes([data[-3] ^ 1]) + data[-2:],
        "other format": metadata("format", "something"),
        "other version": metadata("schema_version", "2"),
        "other hash": metadata("xxh3", "0" * 16),
        "other sums": metadata("sums", "half"),
        "no metadata": rewritten(good, lambda header: header.pop("__metadata__")),
        "a tensor less": rewritten(good, lambda header: header.pop("sums")),
        "no cells": shape("counts", [0, 4]),
        "wild shape": shape("gram", [1 << 40, 1 << 40]),
        "flat": shape("counts", [16]),
        "other dtype": rewritten(good, lambda header: header["counts"].update(dtype="F64")),
    }
    for name, content in bad.items():
        path = tmp_path / "bad"
        path.write_bytes(content)
        with pytest.raises(BankError) as error:
            Moments.load(path)
        assert str(path) in str(error.value), name
    with pytest.raises(OSError):
        Moments.load(tmp_path / "none")
    with pytest.raises((BankError, OSError)):
        Moments.load(tmp_path)
    with pytest.raises(OSError):
        moments_of(x, y).save(tmp_path / "none" / "m")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["bad", "good"]


def test_files_of_earlier_releases_hold_float32_sums(tmp_path):
    x, y = problem()
    moments = moments_of(x, y)
    moments.save(tmp_path / "new")
    (tmp_path / "old").write_bytes(rewritten(tmp_path / "new", lambda header: header["__metadata__"].pop("sums")))
    for name, floor in (("new", 1e-10), ("old", 1e-5)):
        design = Moments.load(tmp_path / name).design()
        assert design.alpha_floor == pytest.approx(floor * design.mean_variance)


def test_bad_input_is_named_and_changes_nothing():
    x, y = problem()
    moments = moments_of(x, y)
    before = moments.solve([1e-2])[0].raw()[0]
    cells = folds(len(x))
    for value, name in ((np.nan, "NaN"), (np.inf, "inf")):
        broken = x.copy()
        broken[17, 5] = value
        with pytest.raises(ParameterError, match=f"row 17, feature 5 is {name}"):
            moments.update(broken, y, rows_of(x), cells)
    with pytest.raises(ParameterError, match="label 9"):
        moments.update(x, np.where(rows_of(x) == 3, 9, y).astype(np.uint32), rows_of(x), cells)
    with pytest.raises(ParameterError, match="cell 4"):
        moments.update(x, y, rows_of(x), cells + np.uint8(1))
    with pytest.raises(ParameterError, match="row 400"):
        moments.update(x, y, np.array([400], np.uint32), cells)
    with pytest.raises(ShapeError):
        moments.update(x[:, :5].copy(), y, rows_of(x), cells)
    with pytest.raises(ShapeError):
        moments.update(x, y[:-1].copy(), rows_of(x), cells[:-1].copy())
    moments.update(x, y, np.array([], np.uint32), cells)  # no rows: nothing to add
    for alpha in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ParameterError, match="alpha must be positive"):
            moments.solve([1e-2, alpha])
    with pytest.raises(ParameterError, match="use at least"):
        moments.solve([1e-12])
    with pytest.raises(ParameterError, match="cell 4"):
        moments.solve([1.0], [4])
    with pytest.raises(ParameterError, match="scaling"):
        moments.solve([1.0], scaling="wide")
    assert moments.solve([]) == []
    assert np.array_equal(moments.solve([1e-2])[0].raw()[0], before)
    for empty in (Moments(24, 4), moments_of(x, np.zeros(len(x), np.uint32), k=4)):
        with pytest.raises(ParameterError, match="two classes"):
            empty.solve([1.0])
    with pytest.raises(ParameterError, match="two classes"):
        moments.solve([1.0], [])


def test_it_is_public():
    assert ssl_risk_rs.Moments is ssl_risk_rs._core.Moments
    assert "one pass" in str(ssl_risk_rs.Moments.__doc__)


def test_a_cell_named_twice_is_refused():
    x, y = problem()
    moments = moments_of(x, y)
    for call in (lambda: moments.solve([1e-3], [0, 1, 0]), lambda: moments.design([2, 2])):
        with pytest.raises(ParameterError, match="named twice"):
            call()


def test_labels_alone_are_rows_of_one_cell():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((60, 5)).astype(np.float32), np.arange(60) % 3
    short, long = Moments(5, 3), Moments(5, 3)
    short.update(x, y, n_threads=1)
    long.update(x, y.astype(np.uint32), np.arange(60, dtype=np.uint32), np.zeros(60, np.uint8), n_threads=1)
    one, other = (m.solve([1e-2])[0].scores(x, np.arange(60, dtype=np.uint32)) for m in (short, long))
    np.testing.assert_array_equal(one, other)
    with pytest.raises(ParameterError, match="label -1 at position 2 is out of range"):
        short.update(x, np.where(np.arange(60) == 2, -1, y))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64", "uint64", ">i4"])
def test_labels_rows_and_cells_are_whole_numbers_of_any_type(dtype):
    x, y = np.random.default_rng(0).standard_normal((60, 5)).astype(np.float32), np.arange(60) % 3
    rows, cells = np.arange(0, 60, 2), np.arange(60) % 2
    plain, other = Moments(5, 3, n_cells=2), Moments(5, 3, n_cells=2)
    plain.update(x, y.astype(np.uint32), rows.astype(np.uint32), cells.astype(np.uint8))
    other.update(x, *(values.astype(dtype) for values in (y, rows, cells)))
    for one, two in zip(plain.solve([1e-2]), other.solve([1e-2]), strict=True):
        np.testing.assert_array_equal(one.raw()[0], two.raw()[0])
    listed = Moments(5, 3)
    listed.update(x, y.tolist(), rows.tolist())
    both = [moments.solve([1e-2])[0].raw()[0] for moments in (plain, listed)]
    np.testing.assert_allclose(*both, rtol=1e-9)  # the same rows in cells, and in one


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ((np.zeros(60),), ParameterError, "labels must be whole numbers, not float64"),
        ((np.zeros(60, bool),), ParameterError, "labels must be whole numbers, not bool"),
        ((np.zeros((1, 60), int),), ShapeError, r"labels must be a vector, not an array of shape \(1, 60\)"),
        ((np.ma.masked_equal(np.zeros(60, np.uint32), 0),), ParameterError, "labels are masked"),
        ((np.zeros(60, int), np.array([0, 2**40])), ParameterError, "row 1099511627776 at position 1"),
        ((np.zeros(60, int), None, np.full(60, 256)), ParameterError, "cell 256 at position 0"),
        ((np.full(60, 2**63, np.uint64),), ParameterError, "label 9223372036854775808 at position 0"),
    ],
)
def test_what_is_no_whole_number_is_named(arguments, error, says):
    x = np.zeros((60, 5), np.float32)
    with pytest.raises(error, match=says):
        Moments(5, 3).update(x, *arguments)


def test_more_features_than_memory_holds_are_an_error():
    """Not the end of the process, and with it of a notebook."""
    for call in (
        lambda: Moments(10**7, 2),
        lambda: stats(np.zeros((4, 10**7), np.float16)),
    ):
        with pytest.raises(ParameterError, match="GB, more than there is here: leave features out"):
            call()


@pytest.mark.parametrize("again", [lambda m: pickle.loads(pickle.dumps(m)), copy.copy, copy.deepcopy])
def test_moments_travel_between_processes(again):
    x, y = far()
    moments = moments_of(x, y, k=6)
    back = again(moments)
    assert repr(back) == repr(moments)
    probes = [m.solve([1e-3], [0, 2])[0].__reduce__()[1] for m in (moments, back)]
    assert all(np.array_equal(u, v) for u, v in zip(*probes, strict=True))
    back.update(x, y, rows_of(x), folds(len(x)))
    assert (back.design().n_samples, moments.design().n_samples) == (800, 400)  # they share nothing
    moments.merge(back)
    assert moments.design().n_samples == 1200


@pytest.mark.parametrize("precision", ["auto", "bfloat16"])
def test_moments_go_on_in_the_precision_that_was_asked_for(tmp_path, precision):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((3000, 33)).astype(np.float32), rng.integers(0, 3, 3000)
    moments = Moments(33, 3, precision=precision)
    moments.save(tmp_path / "m")
    kept = [moments, Moments.load(tmp_path / "m"), pickle.loads(pickle.dumps(moments))]
    for each in kept:
        each.update(x, y, n_threads=1)
    floors = {each.design().alpha_floor for each in kept}
    assert len(floors) == 1
    assert all(np.array_equal(each.totals()[3], moments.totals()[3]) for each in kept)


def test_bytes_that_are_no_moments_are_refused():
    remade, (data,) = Moments(4, 3).__reduce__()
    with pytest.raises(ParameterError, match="has changed since it was written"):
        remade(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ParameterError, match="not a sound file"):
        remade(b"")


@pytest.mark.parametrize("sizes", [(-1, 2), (4, -2), (0, 2)])
def test_fewer_features_or_classes_than_none_are_refused(sizes):
    with pytest.raises(ParameterError):
        Moments(*sizes)
