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
