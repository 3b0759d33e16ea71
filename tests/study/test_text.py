"""Sentences of a study's text, and of its figures."""

from dataclasses import replace
from types import SimpleNamespace

import polars as pl
import pytest
from ssl_risk_rs.study.effects import Effect, Status
from ssl_risk_rs.study.figures import front_figures
from ssl_risk_rs.study.text import _refused, _tested


def test_a_choice_without_an_effect_on_one_component_is_named_with_it():
    """One that has an effect on the others was named as one that has none."""
    refused = Effect("width", "b", "a", "approx", "linear/cluster", 9, 1, status=Status.ONE_GROUP)
    held = replace(refused, choice="depth", level="", reference="")
    rows = [
        refused, replace(refused, component="usability", status=Status.ESTIMATED),
        held, replace(held, component="usability"),
    ]  # fmt: skip
    (line,) = _refused(rows)
    assert line.endswith(": depth, width = b (of approx)")


def test_effects_are_counted_in_words_of_their_number():
    assert [_tested(n) for n in (0, 1, 1200)] == [
        "0 effects are tested",
        "1 effect is tested",
        "1,200 effects are tested",
    ]


@pytest.mark.parametrize(
    ("n", "said"), [(3, "named: e0, e1, e2."), (6, "numbered: 1 e0, 2 e1, 3 e2, 4 e3, 5 e4, 6 e5.")]
)
def test_points_of_a_crowded_front_are_numbered(n, said):
    """Names of more than a few lay on each other."""
    pytest.importorskip("altair")
    frame = pl.DataFrame({"encoder": [f"e{i}" for i in range(9)], "usability": [0.1 + 0.01 * i for i in range(9)],
                          "probe_gen": [0.3 - 0.01 * i for i in range(9)]})  # fmt: skip
    members = [SimpleNamespace(encoder=f"e{i}", on_front=i < n) for i in range(9)]
    front = SimpleNamespace(first="usability", second="probe_gen", members=members)
    (figure,) = front_figures(SimpleNamespace(fronts=[front], table=SimpleNamespace(frame=frame)))
    assert figure.text.endswith(said)
    drawn = figure.draw(600).to_json()
    assert ('"name": "6"' in drawn) == (n == 6) and ('"name": "e0"' in drawn) == (n == 3)
