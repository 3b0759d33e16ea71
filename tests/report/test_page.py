"""What a report says: its sections, its numbers against the record, what is missing and why. No extra is needed."""

import json
import math
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from ssl_risk_rs import DataError, ParameterError
from ssl_risk_rs._notes import Note
from ssl_risk_rs.decomposition import decompose
from ssl_risk_rs.decomposition.explaining import compare_layers, parts_of
from ssl_risk_rs.decomposition.paired import compare
from ssl_risk_rs.report import charts, sentences, several
from ssl_risk_rs.report.budget import budget
from ssl_risk_rs.report.build import build_page
from ssl_risk_rs.report.geometry import Statistic, read_statistics
from ssl_risk_rs.report.markdown import render_markdown
from ssl_risk_rs.report.numbers import interval, p_value, percent, points, probability, share
from ssl_risk_rs.report.overview import verdict
from ssl_risk_rs.report.page import Page, Section, Sentences, Table
from ssl_risk_rs.report.several import names
from ssl_risk_rs.results import Provenance, Run
from ssl_risk_rs.results.many import Curve, Entry, corrected_steps
from ssl_risk_rs.results.provenance import BankFacts
from ssl_risk_rs.results.quantities import QUANTITIES
from ssl_risk_rs.workflow.published import beside, load_published
from ssl_risk_rs.workflow.reporting import gather

from .conftest import make, material, rows

ONE = ("components", "metrics", "labels", "classes", "groups", "tuning", "uncertainty", "published", "geometry")


def sections(page: Page) -> dict[str, Section]:
    return {section.key: section for chapter in page.chapters for section in chapter.sections}


def tables(page: Page) -> Iterator[Table]:
    for section in sections(page).values():
        yield from (block for block in section.blocks if isinstance(block, Table))


def page_of(*runs: Run, **more: object) -> Page:
    return build_page(material(*runs, **more))


def test_a_run_has_every_section_or_says_why_not(rich):
    page = page_of(rich)
    there = sections(page).keys() | {m.key for m in page.missing}
    for probe in ("logistic", "ridge"):
        keys = {f"run1-{probe}-{name}" for name in ONE}
        assert keys - there <= {f"run1-{probe}-published", f"run1-{probe}-geometry"}  # told once, for both probes
        assert {f"run1-{probe}-{n}" for n in ("components", "labels", "classes", "groups", "tuning")} <= there
    assert {"method", "latex", "provenance"} <= sections(page).keys()
    missing = {m.title: m for m in page.missing}
    assert set(missing) == {
        "Against another encoder", "Shapes of the errors", "Layer by layer", "Beside the published encoders",
        "Geometry of the representation", "In other metrics",
    }  # fmt: skip
    for each in page.missing:
        assert each.command.startswith("ssl-risk-rs ") and each.why.endswith(".") and each.why[0].isupper()


def test_a_plain_run_names_what_it_lacks_and_the_command_that_adds_it():
    page = page_of(make("plain"))
    missing = {m.title: m.command for m in page.missing}
    assert missing["Fewer labels"] == "ssl-risk-rs fewshot FEATURES"
    assert missing["By group"] == "ssl-risk-rs decompose FEATURES --group COLUMN"
    assert "classes" in sections(page)["run1-ridge-classes"].key


@pytest.mark.parametrize("supervised", [False, True])
def test_a_run_in_the_alternative_order_is_told_in_its_own_parts(supervised):
    twin = {"supervised": rows(360, 0)[0][:, :5]} if supervised else {}
    run = make("other", probe="logistic", order="alternative", **twin)
    d = run.decompositions[0]
    page = page_of(run)
    for key in ("components", "classes"):
        table = next(b for b in sections(page)[f"run1-logistic-{key}"].blocks if isinstance(b, Table))
        said = " ".join(" ".join(row) for row in table.rows) + " ".join(c.head for c in table.columns)
        assert "other order" in said, key
    assert "encoder gen., other order" in render_markdown(page)
    # the variance of a training error on test rows is theirs
    made = {b.quantity: b for b in budget(d)}["probe_gen_alt"]
    # R_US less R_UF: on test rows alone, but for the probe's own variation
    assert made.train == pytest.approx(0, abs=1e-12) and made.test > 0  # rounding of doubles
    uf = d.estimate("risk_uf")
    assert made.floor == pytest.approx((d.floor.risk_above - d.estimate("risk_af")) ** 2 / 12) and uf > 0


def test_both_orders_are_in_the_table_of_parts():
    (x, y), (x_test, y_test) = rows(360, 0), rows(150, 1)
    result = decompose(x, y, x_test, y_test, probe="ridge", order="both")
    table = next(b for b in sections(page_of(Run.of(result)))["run1-ridge-components"].blocks if isinstance(b, Table))
    shown = {row[0]: row[1] for row in table.rows}
    for name in ("enc_gen_alt", "enc_gen_mean", "probe_gen_alt", "probe_gen_mean"):
        assert shown[QUANTITIES[name].label] == percent(result.estimate(name))
    assert any("The order matters by" in note for note in table.notes)


@pytest.mark.parametrize("kind", ["numbers", "labels"])
def test_a_target_that_is_no_class_is_not_told_as_one(kind):
    (x, y), (x_test, y_test) = rows(360, 0), rows(150, 1)
    groups = np.arange(360) // 9, 1000 + np.arange(150) // 5
    of = (lambda y: 1.5 * y) if kind == "numbers" else (lambda y: np.eye(3)[y])
    result = decompose(x, of(y), x_test, of(y_test), probe="ridge", groups=groups, target_kind=kind)
    page = page_of(Run.of(result, provenance=Provenance(encoder="e", data="d")))
    missing = {m.title: m for m in page.missing}
    for title in ("By class", "By group"):
        assert "neither right nor wrong" in missing[title].why and missing[title].command is None
    said = render_markdown(page)
    for wrong in ("None", "errs on", "tell these classes", "most frequent"):
        assert wrong not in said, wrong
    assert f"1 − {'R²' if kind == 'numbers' else 'AUROC'} of a ridge probe on e is" in said
    assert "0-1 errors" not in said and "one-hot" not in said


def test_runs_of_one_target_are_ranked_in_its_unit_and_those_of_several_are_not():
    (x, y), (x_test, y_test) = rows(360, 0), rows(150, 1)

    def run(name, kind, of):
        found = decompose(x, of(y), x_test, of(y_test), probe="ridge", target_kind=kind, name=name)
        return Run.of(found, provenance=Provenance(encoder=name, data="d", target=kind))

    one, same = run("e", "numbers", lambda y: 1.5 * y), run("f", "numbers", lambda y: 1.5 * y)
    other = run("g", "labels", lambda y: np.eye(3)[y])
    page = page_of(one, same)
    said = render_markdown(page)
    assert "err least, each with 1 − R² of" in said and "errs on" not in said and "of its test rows" not in said
    assert all("fewshot" not in (m.command or "") and "compare" not in (m.command or "") for m in page.missing)
    page = page_of(one, other)
    (missing,) = (m for m in page.missing if m.title == "The encoders side by side")
    assert "different targets (labels by 1 − AUROC, numbers by 1 − R²)" in missing.why
    assert "least" not in render_markdown(page)


def test_runs_without_a_common_probe_say_that_they_are_not_side_by_side():
    runs = make("a"), make("b", probe="logistic")
    missing = {m.title: m.why for m in page_of(*runs).missing}
    assert "No probe is common to all runs" in missing["The encoders side by side"]


def test_what_is_missing_of_several_runs_says_of_which(three):
    titles = {m.title for m in page_of(*three).missing}
    assert {"By group, wide (block4)", "By group, narrow", "By group, wide (block3)"} <= titles


def test_a_run_without_judged_rows_says_so(rich):
    bare = replace(rich, decompositions=tuple(replace(d, judgements=None) for d in rich.decompositions))
    page = page_of(bare)
    why = {m.title: m.why for m in page.missing}
    assert why["By class"] == "The record holds no judged rows, because an early version wrote it."
    assert "run1-ridge-components" in sections(page)


def test_every_table_states_its_n(rich, three):
    several = page_of(*three, comparisons=(compare(three, names=names(three)),))
    found = [*tables(page_of(rich)), *tables(several)]
    assert len(found) > 20
    for table in found:
        said = table.caption + " ".join(column.head for column in table.columns) + " ".join(table.notes)
        assert re.search(r"\bn, |rows", said), table.caption
        assert all(len(row) == len(table.columns) for row in table.rows), table.caption
        assert table.rows, table.caption


def test_the_table_of_parts_is_that_of_the_record(rich):
    d = rich.decompositions[0]
    table = next(b for b in sections(page_of(rich))["run1-logistic-components"].blocks if isinstance(b, Table))
    rows = {row[0]: row for row in table.rows}
    for label, name in (("probe generalization", "probe_gen"), ("aggregated risk", "agg_risk")):
        e = d.estimates[name]
        assert rows[label][1] == percent(e.estimate)
        assert rows[label][2].startswith(interval(e.low, e.high))
        assert (rows[label][4], rows[label][5]) == (f"{e.n:,}", f"{e.n_groups:,}")
    assert len(table.total) == 1 and table.rows[min(table.total)][0] == "aggregated risk"
    # percentages of two digits each: the four parts may be off by half a digit each
    parts = [float(rows[label][1].replace("−", "-")) for label in (
        "approximation", "representation usability", "probe generalization", "encoder generalization")]  # fmt: skip
    assert sum(parts) == pytest.approx(float(rows["aggregated risk"][1]), abs=0.021)
    assert any("control noise" in label for label in rows)


@pytest.mark.parametrize(("probability_", "separable", "words"), [
    (0.97, False, "Its largest part is "), (0.6, False, "Its largest part is probably "),
    (None, True, "cannot be told: a probe separates"), (None, False, "a part has no interval"),
])  # fmt: skip
def test_the_verdict_says_how_sure_it_is(rich, probability_, separable, words):
    d = rich.decompositions[0]
    bottleneck, floor = replace(d.bottleneck, probability=probability_), replace(d.floor, separable=separable)
    told = verdict(replace(d, bottleneck=bottleneck, floor=floor), rich.provenance)
    assert f"errs on {percent(d.estimate('agg_risk'))} %" in told[0]
    assert words in told[1] and told[1].endswith(".")


def shown(page: Page, key: str) -> tuple[Table, str]:
    """The table of a section, and its sentences."""
    blocks = sections(page)[key].blocks
    (table,) = (b for b in blocks if isinstance(b, Table))
    return table, " ".join(text for b in blocks if isinstance(b, Sentences) for text in b.texts)


def test_classes_have_the_parts_that_explain_gives(rich):
    d = rich.decompositions[0]
    parts = parts_of(d)
    table, said = shown(page_of(rich), f"run1-{d.method.probe}-classes")
    totals = [part for part in parts.classes if part.quantity == "agg_risk"]
    named = {(part.name, part.quantity): part for part in parts.classes}
    assert [row[0] for row in table.rows] == [total.name for total in totals]
    for row, total in zip(table.rows, totals, strict=True):
        mine = d.judgements.test_labels == d.judgements.class_names.index(total.name)
        assert row[1].split(" ")[0] == percent(d.judgements.us.wrong[mine].mean())
        assert row[2] == interval(total.low, total.high)
        for cell, name in zip(row[3:-3], d.component_names, strict=True):
            assert cell.split(" ")[0] == percent(named[total.name, name].estimate)
        assert row[-3:] == tuple(str(n) for n in (total.n_test, total.n_train, total.n_subset))
    above = [p for p in totals if p.p_holm < 0.05 and p.difference > 0]
    assert re.match(rf"{len(above)} of {len(totals)} classes lies? above the whole's", said)


def test_a_class_that_errs_far_more_is_said_to_lie_above():
    (x, y), (x_test, y_test) = rows(900, 0), rows(600, 1)
    for i, (part, labels) in enumerate(((x, y), (x_test, y_test))):
        mean = part[labels != 2].mean(0)
        part *= 2
        part[labels == 2] = mean + np.random.default_rng(i).standard_normal((int((labels == 2).sum()), 6))
    run = Run.of(decompose(x, y, x_test, y_test, probe="ridge"), provenance=Provenance(encoder="e", data="d"))
    table, said = shown(page_of(run), "run1-ridge-classes")
    assert said.startswith("1 of 3 classes lies above") and said.endswith("The highest is 2."), (said, table.rows)
    assert table.rows[0][0] == "2"


def test_classes_and_groups_of_few_rows_are_counted():
    (x, y), (x_test, y_test) = rows(360, 0), rows(150, 1)
    y_test = np.where((y_test == 2) & (np.cumsum(y_test == 2) > 1), 0, y_test)  # one row of class 2
    groups = np.arange(360) // 9, 1000 + np.minimum(np.arange(150) // 5, 29)
    groups[1][-1] = 5000
    run = Run.of(decompose(x, y, x_test, y_test, probe="ridge", groups=groups), provenance=Provenance(encoder="e"))
    page = page_of(run)
    table, _ = shown(page, "run1-ridge-classes")
    assert {row[0] for row in table.rows} == {"0", "1"}
    (said,) = (note for note in table.notes if note.startswith("1 class has fewer than two rows in a set and is left"))
    assert re.search(r"left out: of their 1 test row (0|100)\.00 % are wrong\.$", said)
    table, _ = shown(page, "run1-ridge-groups")
    assert len(table.rows) == 30 and "1 group has one test row and is left out." in table.notes


def test_classes_whose_rows_come_in_groups_have_intervals_of_groups():
    """Of 20 rows a group, alike."""
    rng = np.random.default_rng(0)
    centres = 0.8 * np.random.default_rng(1).standard_normal((4, 8))

    def rows(n_groups: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        of_group = np.repeat(np.arange(n_groups), 20)
        y = of_group % 4
        own = 0.7 * rng.standard_normal((n_groups, 8))
        return (centres[y] + own[of_group] + rng.standard_normal((len(y), 8))).astype(np.float32), y, of_group

    (x, y, g), (xt, yt, gt) = rows(80), rows(41)
    alone = yt == 3
    gt[alone] = gt[alone].min()  # all of one group
    grouped = decompose(x, y, xt, yt, probe="ridge", n_threads=1, groups=(g, 1000 + gt))
    # the same rows and probes, as if they were independent
    apart = replace(grouped, judgements=replace(grouped.judgements, test_groups=None, train_groups=None))
    of = [{p.name: p for p in parts_of(d).classes if p.quantity == "agg_risk"} for d in (grouped, apart)]
    for c, part in of[0].items():
        if c == "3":
            assert np.isnan(part.low) and np.isnan(part.high)
            continue
        assert part.low <= part.estimate <= part.high
        # both hold how the probe varies, which is much
        assert part.high - part.low > 0.97 * (of[1][c].high - of[1][c].low)
    part, other = (each["0"] for each in of)
    assert part.high - part.low > 1.2 * (other.high - other.low)


def test_groups_are_the_test_groups(rich):
    d = rich.decompositions[0]
    table, _ = shown(page_of(rich), f"run1-{d.method.probe}-groups")
    assert len(table.rows) == 30 and all(row[-1] == "5" for row in table.rows)
    wrong = {name.decode(): d.judgements.us.wrong[d.judgements.test_groups == name].mean()
             for name in np.unique(d.judgements.test_groups)}  # fmt: skip
    assert {row[0]: row[1].split(" ")[0] for row in table.rows} == {name: percent(e) for name, e in wrong.items()}


def test_the_budget_is_the_variance_of_the_interval(rich, three):
    for run in (rich, *three):
        for d in run.decompositions:
            for part in budget(d):
                se = d.estimates[part.quantity].se
                # the covariance is a sum over three sets of rows: rounding of that sum
                assert part.interval == pytest.approx(se * se, rel=1e-9, abs=1e-18)
                assert part.test >= 0 and part.train >= 0 and part.probe >= 0 and part.floor >= 0
    d = three[0].decompositions[0]
    whole = {b.quantity: b for b in budget(d)}["agg_risk"]
    assert whole.train == 0 and whole.floor == 0  # R_US rests on test rows and on the probe
    moved = replace(d, floor=replace(d.floor, risk_above=d.estimate("risk_af") + 0.06))
    assert {b.quantity: b for b in budget(moved)}["probe_gen"].floor == pytest.approx(0.06**2 / 12)


def test_several_runs_are_compared_and_their_layers_told(three):
    comparison = compare(three, names=names(three))
    page = page_of(*three, comparisons=(comparison,))
    there = sections(page)
    assert {"all-ridge", "compare-ridge", "ranks-ridge", "shapes", "layers"} <= there.keys()
    assert names(three) == ["wide (block4)", "narrow", "wide (block3)"]
    table = next(b for b in there["layers"].blocks if isinstance(b, Table))
    assert [row[0] for row in table.rows] == ["block4", "block3"]
    differences = [b for b in there["compare-ridge"].blocks if isinstance(b, Table)]
    row = next(row for row in differences[0].rows if row[0] == "aggregated risk")
    d = comparison.difference("narrow", "agg_risk")
    assert row[3] == points(d.difference) and row[4].startswith(interval(d.low, d.high))


@pytest.mark.parametrize(
    ("one", "other"),
    [({"supervised": rows(360, 0)[0][:, :5]}, {}), ({"order": "alternative"}, {}), ({}, {"order": "both"})],
)
def test_layers_are_told_in_parts_that_all_have(one, other):
    """Numbers of a run without a twin, or in another order, stood under the heads of the first."""
    runs = make("e", layer="block4", **one), make("e", layer="block3", **other)
    table = next(b for b in sections(page_of(*runs))["layers"].blocks if isinstance(b, Table))
    explained = compare_layers([run.main for run in runs], ["block4", "block3"])
    heads = {"approx.+usab.": "approx_usability", "probe gen.": "probe_gen", "encoder gen.": "enc_gen"}
    assert [c.head for c in table.columns][2:5] == list(heads)
    for run, row, layer in zip(runs, table.rows, explained, strict=True):
        risks = {name: run.main.estimate(name) for name in ("risk_af", "risk_as", "risk_us")}
        wanted = (risks["risk_af"], risks["risk_as"] - risks["risk_af"], risks["risk_us"] - risks["risk_as"])
        assert [100 * value for value in wanted] == pytest.approx(
            [float(c.replace("−", "-")) for c in row[2:5]], abs=0.006
        )
        assert [e.quantity for e in layer.estimates] == [*heads.values(), "agg_risk"]
        assert [e.estimate for e in layer.estimates] == pytest.approx([*wanted, risks["risk_us"]])


def test_of_many_encoders_the_best_are_compared_one_by_one(three, monkeypatch):
    comparison = compare(three, names=names(three))
    errors = {name: run.decompositions[0].estimate("agg_risk") for name, run in zip(names(three), three, strict=True)}
    best = min(names(three)[1:], key=errors.__getitem__)
    monkeypatch.setattr(several, "_DETAILED", 1)
    blocks = sections(page_of(*three, comparisons=(comparison,)))["compare-ridge"].blocks
    (table,) = (b for b in blocks if isinstance(b, Table))
    assert table.caption.startswith(best)
    said = " ".join(line for b in blocks if isinstance(b, Sentences) for line in b.texts)
    assert "the 1 of 2 other encoders that err least" in said


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("ckpt:/a/b/model.pth@resnet50", "ckpt:model.pth@resnet50"),
        ("ckpt:/runs/a/ep3.pth@resnet18?mean=half&std=half&ema=true", "ckpt:ep3.pth@resnet18?ema=true"),
        ("ckpt:/a?b/c.pth@resnet18?resize=32&interpolation=bicubic", "ckpt:c.pth@resnet18"),
        ("ckpt:/a/c.pth@vit?patch_size=4", "ckpt:c.pth@vit?patch_size=4"),
        ("ckpt:/a/c.pth", "ckpt:c.pth"),
        ("/work/zoo/encoders.py:simclr_s0", "encoders.py:simclr_s0"),
        ("hf:owner/repo@main", "hf:owner/repo@main"),
        ("swav", "swav"),
    ],
)
def test_names_are_told_without_folders_and_preparation(name, short):
    assert sentences.short(name) == short


def test_runs_that_cannot_be_compared_say_which_field_differs(three):
    page = page_of(*three, not_compared="a and b differ in seed of the splits (0 and 1).")
    assert {m.title: m.why for m in page.missing}["Against another encoder"].startswith("a and b differ in seed")


def test_a_twin_of_some_makes_one_part_of_two(rich, three):
    page = page_of(*three[:2], replace(rich, decompositions=rich.decompositions[1:]))
    section = sections(page)["all-ridge"]
    table = next(b for b in section.blocks if isinstance(b, Table))
    assert [c.head for c in table.columns][1:4] == ["approx.+usab.", "probe gen.", "encoder gen."]
    assert "not every encoder here has a supervised twin" in " ".join(table.notes)


def test_many_runs_leave_their_details_out_and_say_so(three):
    page = page_of(*(three * 2)[:5])
    assert "details" in {m.key for m in page.missing}
    assert not any(key.startswith("run1") for key in sections(page))


def test_the_authors_protocol_tunes_a_penalty_for_each_risk():
    page = page_of(make("theirs", protocol="paper"))
    table = next(b for b in sections(page)["run1-ridge-tuning"].blocks if isinstance(b, Table))
    labels = {row[0] for row in table.rows}
    assert {"R_AF", "R_US"} <= labels and sum(row[4] == "chosen" for row in table.rows) == len(labels)
    assert "paper protocol" in page.facts


def test_penalties_of_targets_that_are_numbers_are_shown_by_their_losses():
    rng = np.random.default_rng(4)
    x = rng.standard_normal((420, 5)).astype(np.float32)
    age = 40 + 3 * x[:, 0] + rng.standard_normal(420)
    result = decompose(x[:300], age[:300], x[300:], age[300:], probe="ridge", target_kind="numbers")
    page = page_of(Run.of(result))
    section = sections(page)["run1-ridge-tuning"]
    table = next(b for b in section.blocks if isinstance(b, Table))
    tuned = result.penalties["tuned"]
    assert [row[2] for row in table.rows] == [f"{loss:.4g}" for loss in tuned.losses] and table.rows
    assert [row[1] for row in table.rows if row[4] == "chosen"] == [f"{tuned.value:g}"]
    assert table.columns[2].head == "mean loss" and "error" not in table.caption
    assert not any("not judged on the folds" in note for note in table.notes)
    assert "1 number to predict" in render_markdown(page) and "classes ·" not in render_markdown(page)


def test_penalties_that_left_say_so(rich):
    tuned = next(iter(rich.decompositions)).penalties["tuned"]
    left = replace(tuned, rows=(100, *tuned.rows[1:]))
    changed = replace(rich.decompositions[0], penalties=rich.decompositions[0].penalties | {"tuned": left})
    table = next(
        b
        for b in sections(page_of(replace(rich, decompositions=(changed,))))["run1-logistic-tuning"].blocks
        if isinstance(b, Table)
    )
    assert table.rows[0][3] == "100" and any("not judged on the folds" in note for note in table.notes)


def test_a_run_stands_beside_its_published_numbers():
    folder = Path(os.environ.get("SSL_RISK_PAPER_DATA") or Path(__file__).parents[3] / "shared" / "paper")
    if not (folder / "all_results.csv").is_file():
        pytest.skip(f"the authors' table is not in {folder}; set SSL_RISK_PAPER_DATA to the folder that has it")
    published = load_published(folder / "all_results.csv")
    run = make("swav_rn50", data="imagenet:/data", probe="logistic")
    (found,) = beside(run, published)
    page = page_of(run, published={(0, "logistic"): found})
    own, place, near = (b for b in sections(page)["run1-logistic-published"].blocks if isinstance(b, Table))
    row = next(row for row in own.rows if row[0] == "aggregated risk")
    total = run.decompositions[0].estimate("agg_risk")
    measured = published.row("swav_rn50")["agg_risk"]
    assert row[1] == percent(total) and row[3] == percent(measured) and row[4] == points(total - measured)
    assert "150 test rows here, 50,000 published" in own.caption
    assert len(near.rows) == 5 and all(int(r[-1]) > 100 for r in place.rows)


def test_no_run_is_refused():
    with pytest.raises(ParameterError, match="at least one run"):
        page_of()


def test_statistics_are_shown_with_their_spectrum(three):
    spectrum = [Statistic(f"eigenvalue_{i}", 1 / i, 360) for i in range(1, 7)]
    found = (*spectrum, Statistic("rank_me", 4.25, 360))
    page = page_of(three[0], statistics={0: found})
    blocks = sections(page)["run1-ridge-geometry"].blocks
    table = next(b for b in blocks if isinstance(b, Table))
    assert table.rows == (("rank me", "4.25", "360"),)
    assert "from 1 at 1 to 0.167 at 6" in blocks[0].text


def test_statistics_are_read_and_a_wrong_file_is_refused(tmp_path):
    file = tmp_path / "geometry.parquet"
    pl.DataFrame({"statistic": ["alpha"], "value": [1.5], "n": [10]}).write_parquet(file)
    assert read_statistics(file) == (Statistic("alpha", 1.5, 10),)
    pl.DataFrame({"statistic": ["alpha"], "value": [1.5]}).write_parquet(file)
    with pytest.raises(DataError, match="no column 'n'"):
        read_statistics(file)
    pl.DataFrame({"statistic": ["alpha"], "value": ["x"], "n": [10]}).write_parquet(file)
    with pytest.raises(DataError, match="'value' holds String, not numbers"):
        read_statistics(file)
    file.write_bytes(b"no parquet")
    with pytest.raises(DataError, match=r"damaged or no .parquet file"):
        read_statistics(file)


def test_markdown_carries_the_same_tables_and_sentences(rich):
    page = page_of(rich)
    text = render_markdown(page)
    for section in sections(page).values():
        assert f"### {section.title}" in text
    for table in tables(page):
        for row in table.rows[:3]:
            assert all(re.sub(r"([\\`*_\[\]<>|])", r"\\\1", cell) in text for cell in row)
    for block in (b for s in sections(page).values() for b in s.blocks if isinstance(b, Sentences)):
        for said in block.texts:
            assert re.sub(r"([\\`*_\[\]<>|])", r"\\\1", said) in text
    heads = [line for line in text.splitlines() if line.startswith("|--") or line.startswith("|-")]
    assert len(heads) == len(list(tables(page)))


def test_markdown_links_the_drawings_that_were_written(rich):
    page = page_of(rich)
    figure = next(page.figures())
    text = render_markdown(page, {figure.key: "figs/x.svg"})
    assert "](figs/x.svg)" in text
    assert figure.title.split(" of ")[0] in render_markdown(page)  # told in words otherwise


def test_a_run_that_was_saved_reports_the_same(three, tmp_path):
    live, loaded = three[0], Run.load(three[0].save(tmp_path / "run"))
    one, two = (render_markdown(page_of(replace(run, path=None))) for run in (live, loaded))
    assert one == two


def test_numbers_have_one_way_of_writing():
    assert percent(0.12345) == "12.35" and percent(-0.001) == "−0.10" and percent(-0.00001) == "0.00"
    assert points(0.0123) == "+1.23" and points(-0.0123) == "−1.23" and points(0.0) == "0.00"
    assert interval(math.nan, 0.2) == "none" and percent(None) == "–"
    assert [probability(p) for p in (0.999, 0.5, 0.001)] == ["> 0.99", "0.50", "< 0.01"]
    assert [p_value(p) for p in (None, 0.0001, 0.04)] == ["", "< 0.001", "0.040"]
    assert [share(s) for s in (0.001, 0.4, -0.36)] == ["< 1 %", "40 %", "−36 %"]


def test_which_of_two_errs_least_is_said_with_what_the_data_exclude(three):
    wide, narrow, _ = three
    found = compare([wide, narrow])
    d = found.difference("narrow", "agg_risk")
    assert d.low > 0  # three of six features leave more errors
    for runs, ends in (((wide, narrow), "exclude that the other errs as little"), ((narrow, wide), "exclude that")):
        page = page_of(*runs, comparisons=(compare(list(runs)),))
        said = " ".join(sentences_of(sections(page)["all-ridge"]))
        assert said.startswith("wide errs least") and ends in said and "do not exclude" not in said
    unsure = replace(d, low=-d.difference, high=3 * d.difference)
    told = replace(found, differences=tuple(unsure if each is d else each for each in found.differences))
    said = " ".join(sentences_of(sections(page_of(wide, narrow, comparisons=(told,)))["all-ridge"]))
    assert "do not exclude that the other errs as little" in said


def test_an_order_that_nothing_tests_is_not_told_as_one(three):
    wide, narrow, _ = three
    said = " ".join(sentences_of(sections(page_of(wide, narrow))["all-ridge"]))
    assert said.startswith("wide errs least") and said.endswith("Nothing here tests whether that is chance.")
    elsewhere = replace(narrow, provenance=replace(narrow.provenance, data="other rows"))
    said = " ".join(sentences_of(sections(page_of(wide, elsewhere))["all-ridge"]))
    assert "2 data sets" in said and "other rows" in said and "least" not in said


@pytest.mark.parametrize("width", [340, 740])
def test_names_that_differ_at_their_ends_differ_in_drawings(width):
    names = [f"vit_small_patch14_dinov2_reg4_lvd142m_run_{i:03}" for i in range(3)]
    bars = [charts.Bar(name, (("risk", 0.1),), 0.1, 0.05, 0.2) for name in names]
    drawn = charts.stacked([replace(bar, parts=(("probe_gen", 0.1),)) for bar in bars], width).to_dict()
    falls = charts.waterfall((names[0], 0.2), [("probe gen.", -0.1, -0.2, 0.0)], (names[1], 0.1), width).to_dict()
    dots = charts.dots([charts.Dot(name, 0.1) for name in names], width, title="error, %").to_dict()
    for chart, count in ((drawn, 3), (falls, 3), (dots, 3)):
        rows = set(re.findall(r'"row": "([^"]*)"', json.dumps(chart, ensure_ascii=False)))
        assert len(rows) == count and all(len(row) < 0.38 * width / 5 for row in rows), rows


def test_columns_of_a_difference_have_names_that_differ(three):
    names = [f"vit_small_patch14_dinov2_reg4_lvd142m_run_{i:03}" for i in range(2)]
    found = compare(list(three[:2]), names=names)
    heads = [c.head for t in tables(page_of(*three[:2], comparisons=(found,))) for c in t.columns]
    assert {"vit_small_pa…d142m_run_000", "vit_small_pa…d142m_run_001"} <= set(heads), heads


def test_encoders_that_err_alike_are_named_together(three):
    one = three[0]
    twin, third = (replace(one, provenance=replace(one.provenance, encoder=name)) for name in ("twin", "third"))
    for runs, names_ in (((one, twin), "wide and twin"), ((one, twin, third), "wide, twin and third")):
        page = page_of(*runs, comparisons=(compare(list(runs)),))
        said = " ".join(sentences_of(sections(page)["all-ridge"]))
        assert said.startswith(f"{names_} err least, each on") and "exclude" not in said


def test_files_of_features_of_the_same_rows_are_one_data_set(three):
    runs = [replace(r, provenance=replace(r.provenance, data=f"the rows of {i}.npz")) for i, r in enumerate(three)]
    assert page_of(*runs).facts[0].startswith("3 data sets: the rows of 0.npz")
    compared = page_of(*runs, comparisons=(compare(runs, names=["a", "b", "c"]),))
    assert compared.facts == ("the same 360 training and 150 test rows",)


def test_other_metrics_have_a_table_with_their_intervals():
    run = make("measured", probe="logistic", metrics="balanced,log_loss")
    (table,) = (b for b in sections(page_of(run))["run1-logistic-metrics"].blocks if isinstance(b, Table))
    assert [row[0] for row in table.rows] == ["balanced %", "log-loss"]
    balanced, loss = (run.main.metric(name).estimates["agg_risk"] for name in ("balanced", "log_loss"))
    assert table.rows[0][-2].startswith(f"{percent(balanced.estimate)} ({interval(balanced.low, balanced.high)})")
    assert table.rows[1][-2].startswith(f"{loss.estimate:.3f} ({loss.low:.3f} to {loss.high:.3f})")


def test_what_is_missing_is_made_with_the_rows_of_the_run():
    run = make("some")
    dropped = replace(run.main, notes=(*run.main.notes, Note("unlabelled_dropped", {"where": "y", "count": 1, "n": 9})))
    grouped = replace(run, decompositions=(dropped,), provenance=replace(run.provenance, group="a b", target="site"))
    lines = {m.title: m.command for m in page_of(grouped).missing}
    assert lines["Fewer labels"] == "ssl-risk-rs fewshot FEATURES --drop-unlabelled --group 'a b' --target site"
    assert lines["In other metrics"].startswith("ssl-risk-rs decompose FEATURES --drop-unlabelled --group 'a b'")


def test_checkpoints_are_shown_along_training(three):
    entries = [Entry(n, f"ckpt:{n}", r, epoch=e) for n, r, e in zip("abc", three, (0.0, 1.0, 5.0), strict=True)]
    steps = tuple(compare([one.run, other.run], names=[one.name, other.name]) for one, other in pairwise(entries))
    page = page_of(*three, curve=Curve(tuple(entries), steps=corrected_steps(steps)))
    blocks = sections(page)["training"].blocks
    parts, changed = (b for b in blocks if isinstance(b, Table))
    assert [row[0] for row in parts.rows] == ["0", "1", "5"]
    assert parts.rows[1][-3] == percent(three[1].main.estimate("agg_risk"))
    assert [row[0] for row in changed.rows] == ["0 to 1", "1 to 5"]
    d = steps[0].difference("b", "agg_risk")
    assert changed.rows[0][1] == points(d.difference) and changed.rows[0][2].startswith(interval(d.low, d.high))
    assert "2 of 2 steps" in " ".join(sentences_of(sections(page)["training"]))
    assert "training" in {m.key for m in page_of(*three).missing}


def test_epochs_are_those_of_the_index_beside_the_runs(three, tmp_path):
    lines = {}
    for i, run in enumerate(three[:2]):
        run.save(tmp_path / f"ep{i}")
        lines[f"ep{i}"] = {"folder": f"ep{i}", "model": "ckpt:x", "question": "q", "bank": "b", "epoch": 9.0 - i,
                           "epoch_from": "file"}  # fmt: skip
    assert gather([tmp_path]).curve is None
    (tmp_path / "index.json").write_text(json.dumps(lines))
    curve = gather([tmp_path]).curve
    assert [(entry.epoch, entry.run.provenance.encoder) for entry in curve.entries] == [(8.0, "narrow"), (9.0, "wide")]
    assert [step.encoders for step in curve.steps] == [("narrow", "wide")]
    other = tmp_path / "other_recipe"
    three[2].save(other / "ep0")
    (other / "index.json").write_text(json.dumps({"ep0": lines["ep0"]}))
    assert gather([other, tmp_path / "ep1"]).curve is None  # two curves are none
    shutil.rmtree(other)
    three[2].save(tmp_path / "other")  # whose epoch nobody knows
    assert gather([tmp_path]).curve is None
    (tmp_path / "index.json").write_text("[1]")
    assert gather([tmp_path / "ep0", tmp_path / "ep1"]).curve is None


def sentences_of(section: Section) -> list[str]:
    return [text for block in section.blocks if isinstance(block, Sentences) for text in block.texts]


def test_lines_to_type_name_the_banks_of_the_run(rich, tmp_path):
    encoder, twin = tmp_path / "enc oder", tmp_path / "twin"
    banks = {"encoder": BankFacts(str(encoder)), "supervised": BankFacts(str(twin))}
    run = replace(rich, provenance=replace(rich.provenance, banks=banks))
    text = render_markdown(build_page(material(run)))
    assert "decompose FEATURES --supervised-features TWIN" in text and "stats FEATURES" in text  # they are gone
    encoder.mkdir()
    twin.mkdir()
    text = render_markdown(build_page(material(run)))
    assert f"decompose '{encoder}' --supervised-features {twin}" in text and f"stats '{encoder}'" in text


def test_which_totals_differ_is_told_with_what_the_parts_make_of_it(three):
    wide, narrow = three[:2]
    found = compare([wide, narrow])
    d = found.difference(found.encoders[1], "agg_risk")
    at = replace(found, differences=tuple(
        replace(each, p=0.03, p_holm=0.11) if each is d else each for each in found.differences
    ))  # fmt: skip
    least = found.baseline if d.difference > 0 else found.encoders[1]
    said = several._excluded(at, [least])
    assert said.endswith("exclude that the other errs as little, by the totals alone (p = 0.030); corrected for the "
                         "parts too, as in tables, p = 0.110.")  # fmt: skip
    assert "by the totals alone" not in several._excluded(found, [least])


def test_probabilities_and_p_values_near_their_ends_keep_their_digits():
    assert [probability(p) for p in (0.95, 0.05)] == ["0.95", "0.05"]
    assert [p_value(p) for p in (0.001, 0.005)] == ["0.001", "0.005"]


def test_a_budget_without_the_probes_variation_has_numbers(three):
    d = replace(three[0].decompositions[0], probe_variance=math.nan, probe_variation=None)
    assert all(part.test + part.train > 0 and part.probe == 0 for part in budget(d))


def test_what_the_penalty_of_other_metrics_was_tuned_on_is_said():
    run = make("measured", probe="logistic", metrics="balanced")
    d = run.main
    told = []
    for tuned_on in ("error", "balanced"):
        of = replace(run, decompositions=(replace(d, method=replace(d.method, tuned_on=tuned_on)),))
        told.append(" ".join(shown(page_of(of), "run1-logistic-metrics")[0].notes))
    assert "their penalty included" in told[0] and "tuned on the class-balanced one" in told[1]


def test_metrics_that_a_probe_allows_are_the_ones_that_are_named():
    for probe, names_ in (("logistic", "balanced,log_loss,ece"), ("ridge", "balanced,top5")):
        lines = {m.title: m.command for m in page_of(make("some", probe=probe)).missing}
        assert lines["In other metrics"].endswith(f" --metric {names_}")


def test_a_number_in_another_metric_without_an_interval_says_none():
    run = make("measured", metrics="balanced")
    (found,) = run.main.metrics
    bare = {name: replace(e, low=math.nan, high=math.nan) for name, e in found.estimates.items()}
    of = replace(run, decompositions=(replace(run.main, metrics=(replace(found, estimates=bare),)),))
    table, _ = shown(page_of(of), "run1-ridge-metrics")
    assert table.rows[0][-2].startswith(f"{percent(found.estimates['agg_risk'].estimate)} (none)")


def test_classes_that_stand_out_do_so_after_holm_s_correction(three):
    run = three[0]
    parts = parts_of(run.main)
    totals = [part for part in parts.classes if part.quantity == "agg_risk"]
    above = sum(part.difference > 0 for part in totals)
    assert 0 < above < len(totals) == 3
    for p_holm, counts in ((0.2, (0, 0)), (0.01, (above, 3 - above))):
        found = replace(parts, classes=tuple(replace(part, p=0.01, p_holm=p_holm) for part in parts.classes))
        _, said = shown(page_of(run, parts={(0, "ridge"): found}), "run1-ridge-classes")
        assert re.match(rf"{counts[0]} of 3 classes lies? above", said) and f"and {counts[1]} below it" in said


def test_the_drawing_of_classes_has_the_highest_error_first(three):
    totals = {part.estimate: part.name for part in parts_of(three[0].main).classes if part.quantity == "agg_risk"}
    most, least = max(totals), min(totals)
    (figure,) = (f for f in page_of(three[0]).figures() if f.key == "run1-ridge-classes")
    ends = f"{totals[most]} {percent(most)} and {totals[least]} {percent(least)} percent."
    assert figure.text.endswith(f"First and last: {ends}") and most > least
    assert (figure.labels[0], figure.labels[-1]) == (totals[most], totals[least])


def test_encoders_that_share_the_least_error_are_no_others(three):
    found = compare(three, names=["a", "b", "c"])
    ranks_ = tuple(replace(r, rank=1 + 2 * (r.encoder == "c"), low=1, high=3) for r in found.ranks)
    said = several._excluded(replace(found, ranks=ranks_), ["a", "b"])
    assert said.endswith("the data do not exclude that one other errs as little.")
    assert "2 others err as little" in several._excluded(replace(found, ranks=ranks_), ["a"])


def test_the_layer_that_errs_least_is_named(three):
    errors = {run.provenance.banks["encoder"].feature: run.main.estimate("agg_risk") for run in (three[0], three[2])}
    assert errors["block4"] != errors["block3"]
    for runs in ((three[0], three[2]), (three[2], three[0])):
        said = " ".join(sentences_of(sections(page_of(*runs))["layers"]))
        assert f"{min(errors, key=errors.__getitem__)} errs least on the test rows" in said


def test_ranks_are_told_with_those_that_are_not_excluded(three):
    found = compare(three, names=names(three))
    ranks_ = tuple(replace(r, rank=1, low=1, high=2 if r.encoder == "narrow" else 1) for r in found.ranks)
    table, _ = shown(page_of(*three, comparisons=(replace(found, ranks=ranks_),)), "ranks-ridge")
    cells = {row[0]: row[1] for row in table.rows}
    assert cells["narrow"] == "1 (1 to 2)" and {cells[name] for name in cells if name != "narrow"} == {"1"}


def test_areas_over_encoders_begin_with_the_least_error(three):
    (figure,) = (f for f in page_of(*three).figures() if f.key == "area")
    errors = sorted(run.main.estimate("agg_risk") for run in three)
    assert errors[0] < errors[-1]
    told = re.findall(r"(\d+\.\d\d)(?:;|\.$)", figure.text)
    assert told == [percent(error) for error in errors]


def test_runs_of_unequal_levels_say_the_level_of_each_interval(three):
    wide, narrow = three[:2]
    d = narrow.main
    other = replace(narrow, decompositions=(replace(d, method=replace(d.method, confidence=0.9)),))
    for runs, ends in (((wide, narrow), ("", "")), ((wide, other), (" (95 %)", " (90 %)"))):
        table = next(b for b in sections(page_of(*runs))["all-ridge"].blocks if isinstance(b, Table))
        for row, run, level in zip(table.rows, runs, ends, strict=True):
            e = run.main.estimates["agg_risk"]
            assert f"{interval(e.low, e.high)}{level} {sentences.mark(e.grade)}".rstrip() in row


def test_approximation_and_usability_together_are_the_training_error(rich, three):
    ridge = replace(rich, decompositions=rich.decompositions[1:])
    table = next(b for b in sections(page_of(three[0], ridge))["all-ridge"].blocks if isinstance(b, Table))
    for row, run in zip(table.rows, (three[0], ridge), strict=True):
        d = run.decompositions[0]
        assert row[1] == percent(d.estimate("risk_af")) != percent(d.estimate("risk_as"))


def test_an_error_that_is_less_by_a_row_of_many_is_the_least(three):
    one = three[0]
    total = one.main.estimates["agg_risk"]
    less = replace(total, estimate=total.estimate - 1e-4)
    d = replace(one.main, estimates={**one.main.estimates, "agg_risk": less})
    other = replace(one, decompositions=(d,), provenance=replace(one.provenance, encoder="other"))
    said = " ".join(sentences_of(sections(page_of(one, other))["all-ridge"]))
    assert said.startswith("other") and "errs least" in said


def test_training_rows_are_said_to_be_harder_only_where_that_is_sure(three):
    d = three[0].main
    for high, count_ in ((0.01, 0), (-0.01, 1)):
        e = replace(d.estimates["enc_gen_equal_labels"], estimate=-0.02, low=-0.05, high=high)
        found = replace(d, estimates={**d.estimates, "enc_gen_equal_labels": e})
        assert len(sentences.harder_training(found, str)) == count_


def test_one_penalty_at_the_end_of_its_grid_fails_the_check():
    d = make("theirs", protocol="paper").main
    first, *others = (name for name, p in d.penalties.items() if p.inside is not None)
    inside = {name: replace(d.penalties[name], inside=True) for name in others}
    for at, passed in ((True, True), (False, False)):
        found = replace(d, penalties={**d.penalties, **inside, first: replace(d.penalties[first], inside=at)})
        (check,) = (c for c in sentences.checks(found) if "tuned penalties" in c.text)
        assert check.passed is passed and check.text.startswith(f"{len(others) + at} of {len(others) + 1} ")


def test_pretraining_that_is_not_known_is_not_said_to_be_on_other_images(three):
    d, provenance = three[0].main, three[0].provenance
    codes = [{n.code for n in sentences.notes(d, replace(provenance, saw_training_images=s))} for s in (None, False)]
    assert "not_pretrained_here" not in codes[0] and "not_pretrained_here" in codes[1]


def test_rows_of_a_bank_are_dropped_by_nobody():
    run = make("some", layer="block4")
    dropped = replace(run.main, notes=(*run.main.notes, Note("unlabelled_dropped", {"where": "y", "count": 1, "n": 9})))
    assert "--drop-unlabelled" not in sentences.same_rows(replace(run, decompositions=(dropped,)))


def test_what_is_said_of_another_metric_is_among_the_notes():
    run = make("measured", probe="logistic", metrics="ece")
    codes = {note.code for note in sentences.notes(run.main, run.provenance)}
    assert "calibrated_by_chance" in codes


def test_a_part_that_is_more_than_the_error_is_no_share_of_it(three):
    d = three[0].main
    e = replace(d.estimates["probe_gen"], estimate=d.estimate("agg_risk") + 0.05)
    found = replace(d, estimates={**d.estimates, "probe_gen": e},
                    bottleneck=replace(d.bottleneck, quantity="probe_gen", probability=0.97))  # fmt: skip
    said = verdict(found, three[0].provenance)[1]
    assert f"{percent(e.estimate)} points, more than the error, since other parts are negative" in said
    assert "of the error" not in said


def test_steps_of_a_training_are_counted_after_holm_s_correction(three):
    entries = tuple(Entry(n, f"ckpt:{n}", r, epoch=float(i)) for i, (n, r) in enumerate(zip("ab", three, strict=False)))
    step = compare([entry.run for entry in entries], names=["a", "b"])
    for p_holm, said in ((0.2, "0 of 1 steps"), (0.01, "1 of 1 steps")):
        told = tuple(replace(d, p=0.001, p_holm=p_holm) for d in step.differences)
        page = page_of(*three[:2], curve=Curve(entries, steps=(replace(step, differences=told),)))
        assert said in " ".join(sentences_of(sections(page)["training"]))
