"""Judging rows: what is checked, with and without probes."""

import numpy as np
import pytest
from ssl_risk_rs import ParameterError, ShapeError, _core


def test_without_probes_rows_and_labels_are_checked_all_the_same():
    x = np.zeros((5, 3), np.float32)
    rows, labels = np.arange(5, dtype=np.uint32), np.zeros(5, np.uint32)
    assert _core.judge(x, rows, labels, []) == []
    with pytest.raises(ParameterError, match="row 5 of 5"):
        _core.judge(x, rows + np.uint32(1), labels, [])
    with pytest.raises(ShapeError, match="number of labels has 4, expected 5"):
        _core.judge(x, rows, labels[:4].copy(), [])


def test_probes_of_other_tasks_and_no_rows():
    x = np.zeros((5, 3), np.float32)
    rows, labels = np.arange(5, dtype=np.uint32), np.arange(5, dtype=np.uint32) % 3
    small, large = (_core.LinearProbe(np.ones((k, 3)), np.arange(k, dtype=np.float64)) for k in (2, 4))
    with pytest.raises(ParameterError, match="row 2 has label 2, there are 2 classes"):
        _core.judge(x, rows, labels, [large, small])
    assert [len(outcome[0]) for outcome in _core.judge(x, rows[:2].copy(), labels, [large, small])] == [2, 2]
    assert [outcome[0].tolist() for outcome in _core.judge(x, rows, labels, [large])] == [[3] * 5]


def test_probes_of_other_coordinates_are_judged_as_each_alone():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 3)).astype(np.float32)
    rows, labels = np.arange(40, dtype=np.uint32), np.arange(40, dtype=np.uint32) % 2
    coordinates = [(0, 1), (0, 3), (1, 3), (1, 3), (0, 1)]  # shift, scale of the second feature
    probes = [
        _core.LinearProbe(np.eye(2, 3), np.zeros(2), np.full(3, shift, np.float32), np.array([1, scale, 1], np.float32))
        for shift, scale in coordinates
    ]
    together = _core.judge(x, rows, labels, probes)
    for outcome, probe in zip(together, probes, strict=True):
        assert all(map(np.array_equal, outcome, _core.judge(x, rows, labels, [probe])[0]))
    assert not np.array_equal(together[0][0], together[1][0])


def test_a_probe_of_one_class_has_no_margin():
    rows, labels = np.arange(5, dtype=np.uint32), np.zeros(5, np.uint32)
    probe = _core.LinearProbe(np.ones((1, 3)), np.zeros(1))
    (outcome,) = _core.judge(np.eye(5, 3, dtype=np.float32), rows, labels, [probe])
    assert [part.tolist() for part in outcome] == [[0] * 5] * 4  # class, rank, loss, margin
