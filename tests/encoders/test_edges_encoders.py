"""Edges of rules: several layers and checkpoints."""

from dataclasses import replace

import numpy as np
import pytest
from ssl_risk_rs import decompose
from ssl_risk_rs.decomposition import tuning
from ssl_risk_rs.workflow import layers
from ssl_risk_rs.workflow.checkpoints import _say_epochs, _some
from ssl_risk_rs.workflow.layers import _by_depth, fold_error


def test_inner_layers_come_before_the_last():
    banks = dict.fromkeys(("avgpool", "layer3:mean", "layer4:mean"))
    assert [name for name, _ in _by_depth(banks)] == ["layer3:mean", "layer4:mean", "avgpool"]


@pytest.mark.parametrize("most", [20_000, 7])
def test_the_error_on_folds_is_that_of_the_rows_that_were_judged(monkeypatch, rng, most):
    """Of two folds of five, and of large ones of every so many rows."""
    monkeypatch.setattr(tuning, "MAX_TUNING_ROWS", most)
    monkeypatch.setattr(layers, "MAX_TUNING_ROWS", most)
    y, y_test = np.arange(300) % 3, np.arange(90) % 3
    x, t = ((rng.standard_normal((len(v), 8)) + v[:, None]).astype(np.float32) for v in (y, y_test))
    found = decompose(x, y, t, y_test, probe="ridge", tuning_folds=2, n_threads=1)
    tuned = found.penalties["tuned"]
    place = tuned.grid.index(tuned.value)
    error = tuned.errors[place] / tuned.rows[place]
    older = replace(found, penalties={**found.penalties, "tuned": replace(tuned, rows=())})  # which did not record rows
    assert fold_error(found) == pytest.approx(error) and fold_error(older) == pytest.approx(error)


def test_up_to_four_names_are_told_and_of_more_their_number():
    assert _some(["a", "b", "c", "d"]) == "a, b, c, d" and _some(["a", "b", "c", "d", "e"]) == "a, b, c, d and 1 more"


def test_that_no_epoch_is_known_is_said_only_beside_epochs():
    said: list[str] = []
    _say_epochs({"a": (None, None), "b": (None, None)}, said.append)
    assert not said
    _say_epochs({"a": (3.0, "name"), "b": (None, None)}, said.append)
    assert said[-1] == "No epoch is known of b, so the runs stay in the order given."
