"""Edges of rules: records that disagree with their outcomes, ranks, what may be compared, frames."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from ssl_risk_rs import compare, decompose
from ssl_risk_rs._notes import Note
from ssl_risk_rs.report.sentences import _few_shot_penalties, harder_training, same_rows
from ssl_risk_rs.results import NotComparableError, Provenance, Run
from ssl_risk_rs.results.agreement import disagreements
from ssl_risk_rs.results.compare import Difference, _is_one_to_one, rank_intervals
from ssl_risk_rs.results.counterpart import _same_data
from ssl_risk_rs.results.estimate import Grade
from ssl_risk_rs.results.provenance import BankFacts
from ssl_risk_rs.results.record import Penalty


@pytest.fixture(scope="module")
def result():
    rng = np.random.default_rng(0)
    y = np.arange(180) % 3
    x = (rng.standard_normal((3, 4))[y] + rng.standard_normal((180, 4))).astype(np.float32)
    return decompose(x[:120], y[:120], x[120:], y[120:], probe="ridge", name="mine", n_threads=1)


def flipped(result):
    """The first complement's probe judges one more row, or one fewer, as wrong."""
    first, *others = result.judgements.cs
    predicted, rank = first.predicted.copy(), first.rank.copy()
    label = result.judgements.test_labels[0]
    wrong = bool(first.wrong[0])
    predicted[0], rank[0] = (label, 0) if wrong else ((label + 1) % 3, 1)
    changed = (replace(first, predicted=predicted, rank=rank), *others)
    return replace(result, judgements=replace(result.judgements, cs=changed))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: replace(d, sizes=replace(d.sizes, chance=0.5)), "the error of guessing is recorded as 0.5"),
        (lambda d: replace(d, judgements=replace(d.judgements, cs=d.judgements.cs[:-1])), "held-out subsets have"),
        (lambda d: replace(d, estimates={**d.estimates, "risk_us": replace(d.estimates["risk_us"], se=1e150)}),
         "with a standard error of 1e"),
        (flipped, "risk_cs"),
        (lambda d: replace(d, probe_variance=-1.0), "the probe's own variance is recorded as -1"),
        (lambda d: replace(d, penalties={
            name: replace(p, rows=(0,) * len(p.grid)) if p.grid else p for name, p in d.penalties.items()
        }), "recorded as judged on 0 to 0 rows"),
    ],
)  # fmt: skip
def test_what_a_record_says_and_its_outcomes_do_not_is_told(result, change, said):
    assert not list(disagreements(result))
    assert any(said in problem for problem in disagreements(change(result)))


def test_rows_of_a_control_are_named_as_it(result):
    both = replace(result, control=replace(result, name="pixels:8"))
    frame = Run.of(both, provenance=Provenance(encoder="mine", control="pixels:8")).frame()
    assert frame.select("group", "encoder").unique().sort("group").rows() == [("all", "mine"), ("control", "pixels:8")]


# --- comparisons


def test_penalties_above_other_floors_are_not_compared(result):
    other = replace(result.penalties["floor"], value=10 * result.penalties["floor"].value)
    with pytest.raises(NotComparableError, match="penalty's floor") as error:
        compare([result, replace(result, name="b", penalties={**result.penalties, "floor": other})])
    assert error.value.field == "floor"


@pytest.mark.parametrize(("se", "identical"), [(0.0, True), (0.1, False)])
def test_what_varies_is_not_identical(se, identical):
    found = Difference("agg_risk", "a", "b", 0.1, 0.1, 0.0, se, 0.0, 0.0, 9, None, 0, 9.0, 1.0, None, 0.5, Grade.SOUND)
    assert found.identical is identical


def test_errors_that_differ_by_rounding_share_a_rank():
    assert [rank[0] for rank in rank_intervals([0.1 + 0.2, 0.3, 0.4], np.zeros((3, 3), bool))] == [1, 1, 3]


def test_one_class_of_another_name_is_no_renaming():
    assert _is_one_to_one(np.array([0, 1, 1]), np.array([2, 0, 0]))
    assert not _is_one_to_one(np.array([0, 0, 0]), np.array([2, 2, 2]))


# --- what is said


def test_the_twin_of_a_bank_is_named_beside_it_and_rows_that_files_left_out_again(result):
    left_out = (Note("unlabelled_dropped", {"where": "y", "count": 1, "n": 9}),)

    def words(notes, *roles):
        banks = {role: BankFacts("/none") for role in roles}
        return same_rows(Run.of(result, provenance=Provenance(encoder="mine", banks=banks, notes=notes)))

    assert words(left_out) == "FEATURES --drop-unlabelled" and words(()) == "FEATURES"
    assert words(left_out, "encoder") == "FEATURES"
    assert words((), "encoder", "supervised") == "FEATURES --supervised-features TWIN"
    assert words((), "supervised") == "FEATURES"


@pytest.mark.parametrize(("weak", "passed"), [(2, True), (3, False)])
def test_few_shot_penalties_are_a_fault_where_most_lie_at_the_weak_end(weak, passed):
    grid = (1e-3, 1e-2, 1e-1)
    penalties = [Penalty(grid[0] if i < weak else grid[1], 1.0, grid, inside=i >= weak) for i in range(4)]
    (check,) = _few_shot_penalties(SimpleNamespace(shots=[SimpleNamespace(penalties=penalties)]))
    assert check.passed is passed and f"{weak} at the weak end" in check.text


@pytest.mark.parametrize(("high", "said"), [(0.02, 0), (-0.01, 1)])
def test_training_rows_are_called_harder_only_where_chance_does_not_explain_it(high, said):
    e = SimpleNamespace(estimate=-0.03, high=high)
    assert len(harder_training(SimpleNamespace(estimates={"enc_gen": e}), str)) == said


@pytest.mark.parametrize(("data", "classes", "same"), [("mine.npz", 10, False), ("mine.npz", 1000, True)])
def test_features_of_a_file_may_be_those_of_the_table_if_they_have_its_classes(result, data, classes, same):
    of = replace(result, sizes=replace(result.sizes, classes=classes))
    assert _same_data(Provenance(encoder="mine", data=data), of) is same


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: replace(d, bottleneck=replace(d.bottleneck, quantity=sorted(d.component_names, key=d.estimate)[-2])),
         "and another is larger"),
        (lambda d: replace(d, sizes=replace(d.sizes, chance=0.0)), "the error of guessing is recorded as 0, and"),
        # one row of a million
        (lambda d: replace(d, estimates={
            **d.estimates, "risk_us": replace(d.estimates["risk_us"], estimate=d.estimate("risk_us") + 1e-6)
        }), "risk_us"),
        (lambda d: replace(d, control=replace(d, sizes=replace(d.sizes, chance=0.5))),
         "of the control encoder, the error of guessing is recorded as 0.5"),
    ],
)  # fmt: skip
def test_what_a_record_says_otherwise_than_its_rows_is_told(result, change, said):
    assert not list(disagreements(result))
    assert any(said in problem for problem in disagreements(change(result)))


def test_the_error_of_a_probe_that_saw_the_test_rows_is_that_of_its_outcomes():
    rng = np.random.default_rng(0)
    y = np.arange(180) % 3
    x = (rng.standard_normal((3, 4))[y] + rng.standard_normal((180, 4))).astype(np.float32)
    d = decompose(x[:120], y[:120], x[120:], y[120:], probe="ridge", order="both", n_threads=1)
    assert not list(disagreements(d))
    uf = d.judgements.uf
    other = replace(
        d,
        judgements=replace(
            d.judgements, uf=replace(uf, predicted=(uf.predicted + 1) % 3, rank=1 - np.minimum(uf.rank, 1))
        ),
    )
    assert any("risk_uf (0-1 error) is recorded as" in problem for problem in disagreements(other))
