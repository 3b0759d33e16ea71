"""Sentences of a study's text."""

from dataclasses import replace

from ssl_risk_rs.study.effects import Effect, Status
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
