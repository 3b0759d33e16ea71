"""What is on both sides of train and test is told, whatever the door."""

from dataclasses import replace

import numpy as np
import pytest
from ssl_risk_rs import Settings, decompose, knn, load_features
from ssl_risk_rs.decomposition import both_sides, make_task
from ssl_risk_rs.decomposition.both_sides import overlap_of, shared_ids
from ssl_risk_rs.decomposition.matched_labels import match_labels
from ssl_risk_rs.decomposition.targets import Target, retargeted
from ssl_risk_rs.errors import DataError, ParameterError


def rows(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    centres = np.random.default_rng(99).standard_normal((4, 8))
    y = np.arange(n) % 4
    return (centres[y] + np.random.default_rng(seed).standard_normal((n, 8))).astype(np.float32), y


def codes(notes) -> set[str]:
    return {note.code for note in notes}


def test_neighbours_that_are_the_rows_themselves_are_told():
    """Each row finds itself, and the error is 0; nothing was said."""
    x, y = rows(400, 1)
    found = knn(x, y, x[:100], y[:100], k=1)
    assert found.estimate("knn_test") == 0
    said = [note.sentence() for note in found.notes]
    assert any("100 of 100 test rows are equal to a training row in every feature" in sentence for sentence in said)
    other = rows(100, 2)
    assert not codes(knn(x, y, *other, k=1).notes) & {"repeated_among_neighbours", "shared_groups", "shared_ids"}


def test_groups_on_both_sides_of_neighbours_are_told():
    (x, y), (t, z) = rows(400, 1), rows(100, 2)
    found = knn(x, y, t, z, k=5, groups=(np.arange(400) // 10, np.arange(100) // 10))
    assert any(note.sentence().startswith("10 groups are on both sides of train and test") for note in found.notes)
    apart = knn(x, y, t, z, k=5, groups=(np.arange(400) // 10, 100 + np.arange(100) // 10))
    assert "shared_groups" not in codes(apart.notes)


def test_equal_features_of_images_with_other_bytes_are_told(monkeypatch):
    """The same image saved in another way: `no test image has the bytes of a training image` was all that was said."""
    (x, y), (t, z) = rows(400, 1), rows(100, 2)
    t[:30] = x[:30]
    task = make_task(x, y, t, z)
    by_bytes = {"overlap": 0, "repeats": 0}
    task = type(task)(**{f: getattr(task, f) for f in task.__dataclass_fields__} | by_bytes)
    for refuse in (False, True):  # no bytes are equal: they may be other images
        overlap, notes = overlap_of(task, refuse=refuse)
        assert overlap is not None and (overlap.by, overlap.rows) == ("images", 0)
        (said,) = [note.sentence() for note in notes]
        assert said.startswith("30 of 100 test rows are equal to a training row in every feature, though no images")
    unknown = type(task)(**{f: getattr(task, f) for f in task.__dataclass_fields__} | {"overlap": None})
    assert overlap_of(unknown, refuse=False)[0].by == "features"
    with pytest.raises(ParameterError, match="30 of 100 test rows are equal to a training row in every feature"):
        overlap_of(unknown, refuse=True)
    monkeypatch.setattr(both_sides, "COMPARED_ROWS", 499)  # of many images bytes are all that is compared
    overlap, notes = overlap_of(task, refuse=False)
    assert overlap is not None and (overlap.by, overlap.rows) == ("images", 0) and not notes


def test_test_rows_are_the_same_where_training_rows_without_a_label_were_left_out(tmp_path):
    (x, y), (t, z) = rows(600, 1), rows(200, 2)
    y[5] = -1
    np.savez("a.npz", X_train=x, y_train=y, X_test=t, y_test=z)
    np.savez("b.npz", X_train=x[:400], y_train=rows(400, 1)[1], X_test=t, y_test=z)
    tasks = [make_task(load_features("a.npz", drop_unlabelled=True)), make_task(load_features("b.npz"))]
    found = match_labels(tasks, ["a", "b"], [100], settings=Settings(probe="ridge", n_threads=1))
    assert found.n_train == (599, 400) and found.n_test == 200


@pytest.mark.parametrize("probe", ["ridge", "logistic"])
def test_two_groups_of_training_rows_are_too_few(probe):
    """One is held out, and no fold is left beside the other; the error spoke of classes."""
    (x, y), (t, z) = rows(400, 1), rows(100, 2)
    groups = (np.arange(400) // 200, 9 + np.arange(100))
    with pytest.raises(ParameterError, match="2 groups of training rows are too few: one is held out"):
        decompose(x, y, t, z, groups=groups, probe=probe, n_threads=1)


def test_times_are_no_numbers_to_predict():
    (x, y), (t, z) = rows(400, 1), rows(100, 2)
    task = make_task(x, y, t, z)
    with pytest.raises(DataError, match=r"the column w holds times \(datetime64\[ns\]\), which are no numbers"):
        retargeted(task, {"w": np.arange(500).astype("datetime64[ns]")}, Target("w", "numbers"))
    mixed = np.array([np.float32(1)] * 499 + ["a"], dtype=object)
    with pytest.raises(DataError, match="the column w holds 'a', which is no number"):
        retargeted(task, {"w": mixed}, Target("w", "numbers"))


def test_repeated_training_rows_of_many_images_are_told_where_their_bytes_were_not_compared(monkeypatch):
    (x, y), (t, z) = rows(400, 1), rows(100, 2)
    x[10] = x[20]
    task = replace(make_task(x, y, t, z), overlap=0, repeats=None)
    monkeypatch.setattr(both_sides, "COMPARED_ROWS", 499)
    overlap, notes = overlap_of(task, refuse=False)
    assert overlap is not None and (overlap.by, overlap.rows) == ("images", 0)
    assert [note.values["count"] for note in notes if note.code == "repeated_training_rows"] == [1]


def test_shared_ids_are_those_of_the_rows_wherever_they_lie():
    (x, y), (t, z) = rows(40, 1), rows(20, 2)
    task = make_task(x, y, t, z, sample_ids=[f"r{i}" for i in range(60)])
    assert not shared_ids(task)
    turned = replace(task, train_rows=task.test_rows, test_rows=task.train_rows)
    assert not shared_ids(turned)
    ids = [*task.sample_ids]
    ids[50] = ids[3]
    (note,) = shared_ids(replace(turned, sample_ids=ids))
    assert note.values == {"count": 1, "example": "r3"}
