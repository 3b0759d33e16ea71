"""Names of things that have the same name."""

import doctest
from pathlib import Path

import pytest
from ssl_risk_rs import ParameterError, _names


def test_the_examples_are_true():
    found = doctest.testmod(_names)
    assert found.failed == 0 and found.attempted >= 2


def test_names_that_differ_stay_and_no_two_are_left_alike():
    assert _names.distinct(["a", "b"], ["x", "x"]) == ["a", "b"]
    assert _names.distinct(["a", "a", "a"], ["x", "y", "x"], ["1", "2", "3"]) == ["a (x) (1)", "a (y)", "a (x) (3)"]
    assert _names.distinct(["a", "a"], ["x", "x"]) == ["a (x) #1", "a (x) #2"]


def test_a_path_named_twice_is_refused_however_it_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a").mkdir()
    _names.refuse_twice(["a", "b"], "why")
    with pytest.raises(ParameterError, match=r"a target is named twice \(a\): why"):
        _names.refuse_twice(["a", "b", f"{tmp_path}/b/../a"], "why")
