"""What one run shows in several places is one thing: the same parts, levels, signs and marks."""

import numpy as np
import pytest
from ssl_risk_rs.cli._sweep_board import Board
from ssl_risk_rs.decomposition import decompose
from ssl_risk_rs.decomposition.explaining import parts_of
from ssl_risk_rs.decomposition.paired import compare
from ssl_risk_rs.report.budget import budget
from ssl_risk_rs.report.build import build_page
from ssl_risk_rs.report.latex import to_latex
from ssl_risk_rs.report.markdown import render_markdown
from ssl_risk_rs.report.notebook import render_html
from ssl_risk_rs.results import Provenance, Run
from ssl_risk_rs.results.many import Curve, Entry
from ssl_risk_rs.results.quantities import QUANTITIES
from ssl_risk_rs.workflow.sweep_records import Record, State

from .conftest import make, material, rows


@pytest.fixture(scope="module")
def other() -> Run:
    """Of the alternative order, with few-shot sizes and a control."""
    (x, y), (x_test, y_test) = rows(360, 0), rows(150, 1)
    found = decompose(
        x, y, x_test, y_test, probe="ridge", order="alternative", shots="12,30", draws=3,
        control=(x[:, :2], x_test[:, :2]), name="other",
    )  # fmt: skip
    return Run.of(found, provenance=Provenance(encoder="other", data="drawn", control="narrow"))


def page_text(*runs: Run) -> str:
    return render_markdown(build_page(material(*runs)))


def test_the_variance_of_numbers_is_not_told_by_rows():
    """Test errors are in units of the training rows' variance: 80 of these decide what 3,000 of those were said to."""
    (x, y), (x_test, y_test) = rows(80, 0), rows(3000, 1)
    found = decompose(x, 1.5 * y, x_test, 1.5 * y_test, probe="ridge", target_kind="numbers")
    assert budget(found) == []
    assert "so that both sets move them" in page_text(Run.of(found))


def test_each_interval_is_shown_with_its_own_level():
    runs = make("a"), make("b", confidence=0.5)
    text = page_text(*runs)
    assert "(95 %)" in text and "(50 %)" in text
    assert [run.frame()["confidence"].unique().to_list() for run in runs] == [[0.95], [0.5]]
    together = to_latex(list(runs))
    assert "intervals: 95 % of a, 50 % of b" in together
    assert "95 % intervals" in to_latex(runs[0]) and "intervals" not in to_latex(runs[0], intervals=False)


def test_other_class_shares_are_what_they_are_of_encoder_generalization():
    rng = np.random.default_rng(0)
    groups, groups_test = np.arange(400) // 8, 1000 + np.arange(240) // 8
    y, y_test = (np.arange(400) % 4 == 0).astype(int), (np.arange(240) % 4 < 3).astype(int)  # of mixed groups
    x, x_test = ((c[:, None] + 1.5 * rng.standard_normal((len(c), 5))).astype(np.float32) for c in (y, y_test))
    found = decompose(x, y, x_test, y_test, probe="ridge", groups=(groups, groups_test))
    wrong, shares = found.judgements.us.wrong, np.bincount(y) / len(y)
    at_training = sum(shares[c] * wrong[y_test == c].mean() for c in (0, 1))
    assert found.estimate("class_mix") == pytest.approx(wrong.mean() - at_training)
    assert found.estimate("class_mix") > 0.05


def test_the_alternative_order_is_one_through_every_door(other):
    d = other.main
    text, page = str(other), page_text(other, make("second", order="alternative"))
    assert "approximation + usability, probe generalization" not in text
    same = next(line for line in text.splitlines() if "At each size" in line)
    assert QUANTITIES["enc_gen_alt"].label not in same
    beside = next(line for line in text.splitlines() if "control: encoder" in line)
    assert f"{100 * d.control.estimate('enc_gen_alt'):.2f}" in beside
    head = next(line for line in page.splitlines() if "aggregated risk" in line and "encoder" in line)
    assert QUANTITIES["enc_gen_alt"].short in head or "other" in head
    html = render_html(other)
    assert QUANTITIES["enc_gen_alt"].label in html and f"<td>{QUANTITIES['enc_gen'].label}</td>" not in html
    entries = tuple(Entry(name, name, other) for name in ("a", "b"))
    assert QUANTITIES["enc_gen_alt"].short in str(Curve(entries))


def test_runs_of_both_orders_are_in_the_papers_and_say_so(other):
    assert "Parts are in the paper's order" in page_text(other, make("second"))
    both = Run.of(decompose(*rows(360, 0), *rows(150, 1), probe="ridge", order="both"))
    for name in ("enc_gen_alt", "probe_gen_mean"):
        assert QUANTITIES[name].label in render_html(both)


def test_a_sweep_shows_the_parts_of_its_order_and_no_interval_as_words(tmp_path):
    board = Board.__new__(Board)
    board.folder, board.names = type("Folder", (), {"root": tmp_path}), {"p": ("e", "d", None)}
    parts = {"approx_usability": 0.1, "enc_gen_alt": 0.2, "probe_gen_alt": 0.3, "agg_risk": 0.6}
    board.numbers = {"p": [{"probe": "ridge", **parts, "low": float("nan"), "high": float("nan")}]}
    records = [Record("p", "e", "d", None, State.DONE)]
    (shown,) = board.rows(records, "table")
    assert (shown["enc_gen_alt"], shown["probe_gen_alt"], shown["interval"]) == ("20.00", "30.00", "no interval")
    (machine,) = board.rows(records, "json")
    assert {name: machine[name] for name in parts} == parts


def test_too_few_groups_have_no_interval_anywhere():
    (x, y), (x_test, y_test) = rows(360, 0), rows(150, 1)
    groups = np.arange(360) // 9, 1000 + np.arange(150) // 50
    found = decompose(x, y, x_test, y_test, probe="ridge", groups=groups, shots="12,30", draws=3)
    assert np.isnan(found.estimates["agg_risk"].low)
    assert found.label_curve is None
    assert "no curve of error against labels: too few groups for an interval" in str(found)
    assert all(np.isnan(part.low) for part in parts_of(found).classes if part.quantity == "agg_risk")


def test_marks_of_a_control_have_their_legend():
    rng = np.random.default_rng(0)
    (x, y), (x_test, y_test) = rows(360, 0), rows(150, 1)
    told, told_test = 3 * np.eye(3)[y], 3 * np.eye(3)[y_test]  # a control that errs on next to nothing
    control = tuple((c + 0.01 * rng.standard_normal(c.shape)).astype(np.float32) for c in (told, told_test))
    text = str(decompose(x, y, x_test, y_test, probe="ridge", control=control))
    assert "*" in next(line for line in text.splitlines() if "control: encoder" in line)
    assert any(line.strip().startswith("* ") for line in text.splitlines())


def test_a_comparison_names_its_metric_in_latex():
    runs = [make(name, width) for name, width in (("a", 6), ("b", 3))]
    assert "class-balanced errors" in to_latex(compare(runs, metric="balanced"))
    assert "class-balanced" not in to_latex(compare(runs))
