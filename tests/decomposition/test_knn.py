"""Nearest neighbours as a classifier: against scikit-learn's and all pairs; groups, ties and rows of zeros."""

import json

import numpy as np
import polars as pl
import pytest
from ssl_risk_rs import import_bank, knn
from ssl_risk_rs._splits import sample_keys
from ssl_risk_rs.decomposition.knn import _vote
from ssl_risk_rs.errors import ParameterError
from ssl_risk_rs.report.neighbours import render_neighbours
from ssl_risk_rs.results.estimate import Grade
from ssl_risk_rs.results.knn import KNN_QUANTITIES, knn_frame

K = 7


def draw(n: int, seed: int, d: int = 6, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n)
    centres = np.random.default_rng(99).standard_normal((classes, d))
    return (centres[y] + rng.standard_normal((n, d))).astype(np.float32), y


X, Y = draw(400, 1)
X_TEST, Y_TEST = draw(150, 2)


def by_all_pairs(
    rows: np.ndarray, k: int, temperature: float | None, x: np.ndarray = X, y: np.ndarray = Y
) -> np.ndarray:
    """Class of each row by its k nearest rows of `x`, in float64."""
    unit = [v.astype(float) / np.linalg.norm(v, axis=1, keepdims=True) for v in (rows, x)]
    named = []
    for row in unit[0] @ unit[1].T:
        nearest = np.argsort(-row, kind="stable")[:k]
        votes = np.zeros(Y.max() + 1)
        for place in nearest:
            votes[y[place]] += 1.0 if temperature is None else np.exp((row[place] - row[nearest[0]]) / temperature)
        best = np.flatnonzero(votes >= votes.max() * (1 - 1e-12))
        named.append(next(y[place] for place in nearest if y[place] in best))
    return np.array(named)


@pytest.mark.parametrize("temperature", [0.07, 1.0, None])
@pytest.mark.parametrize("k", [1, K, 320])
def test_errors_are_those_of_all_pairs(k, temperature):
    found = knn(X, Y, X_TEST, Y_TEST, k=k, temperature=temperature, seed=3)
    assert found.estimate("knn_test") == np.mean(by_all_pairs(X_TEST, k, temperature) != Y_TEST)
    held = np.zeros(len(X), dtype=bool)
    held[np.argsort(sample_keys([str(row) for row in range(len(X))], 3))[:80]] = True
    rest = X[~held], Y[~held]
    error = np.mean(by_all_pairs(X[held], k, temperature, *rest) != Y[held])
    assert found.estimate("knn_held") == error and found.n_held == found.estimates["knn_held"].n == 80
    gap = np.mean(by_all_pairs(X_TEST, k, temperature, *rest) != Y_TEST) - error
    assert found.estimate("knn_gap") == pytest.approx(gap, abs=1e-15)
    assert all(e.low <= e.estimate <= e.high for e in found.estimates.values())


@pytest.mark.parametrize("grouped", [False, True])
def test_rows_are_held_out_by_their_identifiers(tmp_path, grouped):
    """In another order of the file other rows were held out, and the gap was another."""
    sites = np.array([f"site {code}" for code in np.arange(len(X)) // 8])
    found = []
    for order in (np.arange(len(X)), np.random.default_rng(5).permutation(len(X))):
        columns = {"sample_id": [f"image {row}" for row in order], "split": ["train"] * len(X), "site": sites[order]}
        test = {"sample_id": [f"test {row}" for row in range(len(X_TEST))], "split": ["test"] * len(X_TEST)}
        test["site"] = [f"other {row // 5}" for row in range(len(X_TEST))]
        features = {f"f{j}": np.concatenate([X[order, j], X_TEST[:, j]]) for j in range(X.shape[1])}
        both = {name: [*columns[name], *test[name]] for name in columns}
        frame = pl.DataFrame({**both, "label": np.concatenate([Y[order], Y_TEST]), **features})
        frame.write_parquet(tmp_path / "rows.parquet")
        bank = import_bank(tmp_path / "rows.parquet", tmp_path / "bank", dtype="float32", force=True)
        found.append(knn(bank, k=K, seed=2, groups="site" if grouped else None))
    for quantity, estimate in found[0].estimates.items():
        assert found[1].estimate(quantity) == pytest.approx(estimate.estimate, abs=1e-12), quantity


def test_the_gap_is_between_errors_that_are_told():
    found = knn(X, Y, X_TEST, Y_TEST, k=K)
    gap = found.estimate("knn_test_rest") - found.estimate("knn_held")
    assert found.estimate("knn_gap") == pytest.approx(gap, abs=1e-15)


def test_where_too_few_rows_are_left_nothing_is_held_out_and_that_is_told():
    one_group = knn(X, Y, X_TEST, Y_TEST, groups=(np.zeros(400), np.ones(150)))
    few = knn(X[:23], Y[:23], X_TEST, Y_TEST)
    for found in (one_group, few):
        assert list(found.estimates) == ["knn_test"] and "nothing_held_out" in {note.code for note in found.notes}
    # a group that is larger than what is held out is not drawn
    groups = np.r_[np.zeros(200), 1 + np.arange(200) // 10]
    held = knn(X, Y, X_TEST, Y_TEST, groups=(groups, 1000 + np.arange(150))).estimates["knn_held"]
    assert (held.n, held.n_groups) == (80, 8)


def test_copies_among_training_rows_are_told():
    double = np.repeat(np.arange(200), 2)
    found = knn(X[double], Y[double], X_TEST, Y_TEST, k=1)
    (note,) = (note for note in found.notes if note.code == "repeated_neighbours")
    assert note.values == {"count": 200, "total": 400} and "probe" not in note.sentence()


def test_no_row_need_be_held_out():
    found = knn(X, Y, X_TEST, Y_TEST, k=400, held_rows=0)
    assert list(found.estimates) == ["knn_test"] and found.n_held == 0


def test_errors_are_those_of_scikit_learn():
    neighbors = pytest.importorskip("sklearn.neighbors")

    def weights(distance: np.ndarray) -> np.ndarray:
        return np.exp((1 - distance) / 0.07)

    peer = neighbors.KNeighborsClassifier(K, weights=weights, metric="cosine", algorithm="brute").fit(X, Y)
    assert knn(X, Y, X_TEST, Y_TEST, k=K).estimate("knn_test") == np.mean(peer.predict(X_TEST) != Y_TEST)


def test_groups_are_held_out_whole():
    """Held-out rows that have copies among the others would be classified by their copies."""
    groups = np.repeat(np.arange(100), 4)
    x, y = X[groups * 4], np.random.default_rng(5).integers(0, 4, 100)[groups]  # features know nothing of the labels
    of_test = np.arange(150) + 1000
    alone = knn(x, y, X_TEST, Y_TEST, k=1)
    whole = knn(x, y, X_TEST, Y_TEST, k=1, groups=(groups, of_test))
    assert alone.estimate("knn_held") < 0.1 and whole.estimate("knn_held") > 0.4
    held = whole.estimates["knn_held"]
    assert (held.n, held.n_groups, whole.estimates["knn_test"].n_groups) == (80, 20, 150)
    # a group errs as a whole: its rows tell no more than one
    p = held.estimate
    assert held.se == pytest.approx(np.sqrt(p * (1 - p) / 19)) and alone.estimates["knn_held"].n_groups is None
    few = knn(x, y, X_TEST, Y_TEST, k=3, groups=(groups % 10, of_test)).estimates["knn_held"]
    assert few.grade is Grade.NONE and np.isnan(few.low)


def test_equal_votes_go_to_the_class_of_the_nearer_row():
    places, labels = np.array([[0, 1, 2, 3], [3, 2, 1, 0]], np.uint32), np.array([5, 2, 2, 5], np.uint32)
    cosines = np.array([[0.9, 0.8, 0.7, 0.6]] * 2)
    assert _vote(places, cosines, labels, 6, None).tolist() == [5, 5]
    assert _vote(places[:, :3], cosines[:, :3], labels, 6, None).tolist() == [2, 2]
    cosines[0, 3] = np.nan  # there is no fourth
    assert _vote(places, cosines, labels, 6, None).tolist() == [2, 5]
    assert _vote(places, np.full((2, 4), np.nan), labels, 6, 0.07).tolist() == [-1, -1]


def test_rows_of_zeros_count_as_wrong_and_are_told():
    test = X_TEST.copy()
    test[:2] = 0
    found = knn(np.zeros_like(X), Y, X_TEST, Y_TEST, k=K)
    assert found.estimate("knn_test") == found.estimate("knn_held") == 1.0
    found = knn(X, Y, test, Y_TEST, k=K)
    assert [note.values["count"] for note in found.notes if note.code == "rows_without_direction"] == [2]
    rest = knn(X, Y, test[2:], Y_TEST[2:], k=K)
    assert round(found.estimate("knn_test") * 150) == round(rest.estimate("knn_test") * 148) + 2


def test_held_out_rows_are_drawn_by_the_seed():
    some = [knn(X, Y, X_TEST, Y_TEST, k=K, held_rows=90, seed=seed) for seed in (0, 0, 1)]
    assert [one.n_held for one in some] == [90] * 3
    assert some[0].frame().equals(some[1].frame())
    assert some[0].estimate("knn_held") != some[2].estimate("knn_held")
    assert some[0].estimate("knn_test") == some[2].estimate("knn_test")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"k": 0}, "k must be a whole number from 1 to 400"),
        ({"k": 401}, "k must be a whole number from 1 to 400"),
        ({"k": 321, "held_rows": 80}, "321 neighbours are asked for, and 320 training rows are not held out"),
        ({"temperature": 0.0}, r"temperature must be a number of at least 0\.001"),
        ({"temperature": float("nan")}, "temperature must be"),
        ({"held_rows": 400}, "held_rows must be a whole number from 0 to 399"),
        ({"confidence": 1.0}, "confidence must lie between 0 and 1"),
        ({"confidence": 0.9999999}, "confidence must lie between 0 and 1, at most"),
        ({"confidence": "0.9"}, "confidence must lie between 0 and 1"),
        ({"n_threads": 0}, "n_threads must be a whole number from 1 to 1024, got 0"),
        ({"n_threads": 5000}, "n_threads must be a whole number from 1 to 1024, got 5000"),
        (
            {"groups": (np.zeros(400), np.ones(150)), "held_rows": 9},
            "20 neighbours are asked for, and 0 training rows are not held out",
        ),
    ],
)
def test_what_makes_no_sense_is_named(asked, message):
    with pytest.raises(ParameterError, match=message):
        knn(X, Y, X_TEST, Y_TEST, **asked)


def test_frame_and_table():
    found = knn(X, Y, X_TEST, Y_TEST, k=K, name="mine")
    frame = knn_frame([found])
    assert frame["quantity"].to_list() == list(KNN_QUANTITIES) and frame.equals(found.frame())
    assert frame["k"].to_list() == [K] * 4 and frame["n"].to_list() == [150, 150, 80, 150]
    text = render_neighbours([found, knn(X, Y, X_TEST, Y_TEST, k=K, temperature=None, name="other")])
    assert "mine on arrays · 7 nearest training rows by cosine, weights exp(cosine/0.07)" in text
    assert f"{100 * found.estimate('knn_test'):.2f}" in text and "one vote each" in text
    assert f"chance level {100 * found.chance:.2f} %" in text


def test_the_command(tmp_path):
    from click.testing import CliRunner
    from ssl_risk_rs.cli import main

    files = [tmp_path / "a.npz", tmp_path / "b.npz"]
    for file, features in zip(files, (X, X + 3), strict=True):
        test = X_TEST if features is X else X_TEST + 3
        np.savez(file, X_train=features, y_train=Y, X_test=test, y_test=Y_TEST)
    table = CliRunner().invoke(main, ["knn", *map(str, files), "-k", "5"])
    assert table.exit_code == 0 and table.stdout.count("5 nearest training rows by cosine") == 2
    ran = CliRunner().invoke(main, ["knn", str(files[0]), "--equal-votes", "--format", "json"])
    rows = json.loads(ran.stdout)
    assert [row["quantity"] for row in rows] == list(KNN_QUANTITIES) and rows[0]["temperature"] is None
    assert rows[0]["estimate"] == knn(X, Y, X_TEST, Y_TEST, temperature=None).estimate("knn_test")
    both = CliRunner().invoke(main, ["knn", str(files[0]), "--equal-votes", "--temperature", "1"])
    assert both.exit_code == 2 and "give one of them" in both.stderr
    twice = CliRunner().invoke(main, ["knn", str(files[0]), str(files[0])])
    assert twice.exit_code == 1 and "classified once" in twice.stderr


def test_a_result_prints_its_table():
    """It printed the fields of a dataclass."""
    found = knn(X, Y, X_TEST, Y_TEST, k=K, name="mine")
    assert str(found) == render_neighbours([found])
    assert repr(found).startswith(f"<Neighbours of mine on arrays: 7 vote, error {found.estimate('knn_test'):.4f} [")
