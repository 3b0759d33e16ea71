"""The page of the zoo's findings: its tables are those of the results, and its sentences quote them."""

import importlib.util
import math
import re
import shutil
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import polars as pl
import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "findings.md"


@pytest.fixture(scope="module")
def findings():
    spec = importlib.util.spec_from_file_location("zoo_findings", ROOT / "bench" / "zoo" / "findings.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def page() -> str:
    return PAGE.read_text(encoding="utf-8")


def decimals(text: str) -> set[str]:
    return set(re.findall(r"(?<![\d.])\d+\.\d+(?![\d.])", text))


def test_the_tables_of_the_page_are_those_of_the_results(findings, page):
    for name, make in findings.BLOCKS.items():
        assert f"<!-- begin {name} -->\n{make()}\n<!-- end {name} -->" in page, (
            f"{name}: bench/zoo/findings.py --write docs/findings.md"
        )
    assert findings.filled(page) == page


def test_every_number_of_a_sentence_stands_in_a_table_of_its_section(findings, page):
    quoted = 0
    for section in page.split("\n## "):
        tables = decimals("".join(match.group(0) for match in findings.MARKED.finditer(section)))
        sentences = findings.MARKED.sub("", section)
        if section.startswith("What falls short"):  # sizes of the networks, which the twins' table has in full
            continue
        quoted += len(decimals(sentences))
        assert decimals(sentences) <= tables, section.partition("\n")[0]
    assert quoted >= 8  # a page without numbers would pass


def test_a_page_differs_when_a_result_does(findings, page, tmp_path, monkeypatch):
    results = tmp_path / "results"
    shutil.copytree(findings.RESULTS, results)
    path = results / "zoo_logistic.csv"
    value = str(findings.line("zoo", "mae_s0")["usability"])
    text = path.read_text()
    assert text.count(value) >= 1
    path.write_text(text.replace(value, "0.5"))
    clear(findings)
    monkeypatch.setattr(findings, "RESULTS", results)
    try:
        assert findings.filled(page) != page
        (results / "seen_ridge.csv").unlink()
        clear(findings)
        with pytest.raises(SystemExit, match=r"seen_ridge\.csv is missing; bench/zoo/seen\.py makes it"):
            findings.planted()
    finally:
        clear(findings)


def clear(findings) -> None:
    findings.table.cache_clear()
    findings.line.cache_clear()
    findings.measured.cache_clear()
    findings.pairs.cache_clear()
    findings.training_spread.cache_clear()
    findings.few_tau.cache_clear()


def test_a_block_without_a_table_is_named(findings, page):
    with pytest.raises(SystemExit, match="differ: twins, wings"):
        findings.filled(page.replace("begin twins -->", "begin wings -->").replace("end twins -->", "end wings -->"))


def test_writing_changes_nothing_of_a_page_that_is_up_to_date(findings, page, tmp_path, capsys):
    copy = tmp_path / "findings.md"
    copy.write_text(page.replace(findings.twins(), "an old table"), encoding="utf-8")
    assert findings.main(["--write", str(copy)]) == 0
    assert copy.read_text(encoding="utf-8") == page
    assert findings.main([]) == 0
    assert findings.twins() in capsys.readouterr().out


# --- what the sentences say ---------------------------------------------------------------------------


def test_planted_truths_are_found_or_not_as_the_page_says(findings):
    def signs(contrast, component):
        return {contrast.mean(component, probe).sign for probe in ("logistic", "ridge")}

    supervised = "supervised_ep60_weak"
    assert signs(findings._planted(supervised, "test_images"), "enc_gen") == {-1}
    assert signs(findings._planted("simclr", "test_images"), "enc_gen") == {0}
    assert findings._planted(supervised, "tenth").mean("enc_gen").sign == -1
    assert signs(findings._planted(supervised, "tenth"), "usability") == {1}
    assert signs(findings._seen(supervised, "tenth"), "enc_gen") == {1}
    assert signs(findings._seen("simclr", "share10"), "enc_gen") == {0}
    assert signs(findings._seen("vicreg", "share10"), "enc_gen") == {0}
    twin = findings.line("planted", "simclr_s0-shuffled_twin")
    assert twin["usability_high"] < 0
    collapsed = findings.line("planted", "simsiam_collapsed_s0")
    assert collapsed["agg_risk"] == pytest.approx(0.9, abs=1e-9)  # rounding of doubles
    assert (collapsed["constant_features"], collapsed["z_dim"]) == (128, 128)
    assert (
        "| a collapsed encoder | risk is 90, all features are constant | 90.00 | 90.00 | **found** |"
        in findings.planted()
    )


def test_only_one_fit_is_not_converged_and_only_the_memorized_rows_are_separated(findings):
    for name in findings.table("zoo", "logistic")["encoder"]:
        row = findings.line("zoo", name)
        assert row["converged"] == (name != "simclr_identity_s0"), name
        assert not row["separable"], name
    separable = findings.table("seen", "logistic").filter(pl.col("separable"))["encoder"].to_list()
    assert separable == ["supervised_ep60_weak_tenth_s0", "supervised_ep60_weak_tenth_s1"]


def test_seeds_differ_as_the_page_says(findings):
    spread = {c: findings.training_spread(c, "logistic", False) for c in findings.NAMES}
    assert spread["usability"] > 0.2 and findings.training_spread("usability", "logistic", True) > 0.8
    assert spread["probe_gen"] == spread["enc_gen"] == 0
    assert len(findings.SEED_PAIRS) == 41
    assert len(findings.seed_pairs("usability", False)) == 31  # without five twins and five random ones
    assert len(findings.seed_pairs("approx", True)) == 5


def test_few_labels_rank_as_the_page_says(findings):
    for size in findings.SHOTS:
        assert findings.few_tau(f"agg_risk@{size}", "usability").low > 0
        assert findings.few_tau(f"agg_risk@{size}", "agg_risk").low > 0
        assert findings.few_tau(f"change@{size}", "usability").low > 0
        for name in ("agg_risk", "change"):
            tau = findings.few_tau(f"{name}@{size}", "probe_gen")
            assert tau.low < 0 < tau.high


def test_both_objectives_agree_in_the_bold_differences_of_usability(findings):
    by_change: dict[str, set[int]] = {}
    for contrast in findings.CONTRASTS:
        if contrast.of in ("SimCLR", "VICReg"):
            by_change.setdefault(contrast.change, set()).add(contrast.mean("usability").sign)
    assert by_change == {
        "32 for 128": {1},
        "512 for 128": {-1},
        "none for MLP": {1},
        "linear for MLP": {1},
        "5 for 20": {1},
        "60 for 20": {-1},
        "weak for strong": {1},
        "ResNet for convnet": {1},
        "ViT for convnet": {0},
        "10 % for 100 %": {0},
    }


def test_every_contrast_differs_in_one_choice(findings):
    """Else a difference would be of two choices at once (a ViT also has a learning rate of its own: docs/zoo.md)."""
    shared = ("objective", "z_dim", "architecture", "projection2_arch", "epochs", "augmentation_strength")
    shared = (*shared, "pretraining_share", "seed")
    for contrast in [*findings.CONTRASTS, *findings.SEED_PAIRS, *(c.seed(1) for c in findings.CONTRASTS)]:
        one, other = findings.line("zoo", contrast.encoder), findings.line("zoo", contrast.base)
        differ = [column for column in shared if one[column] != other[column]]
        if contrast.choice == "weights":  # an untrained encoder has no choices of training
            assert [c for c in differ if c in ("z_dim", "architecture", "seed")] == [], contrast
        else:
            assert len(differ) == 1, contrast


# --- arithmetic -----------------------------------------------------------------------------------------


def test_a_difference_is_the_one_of_the_pair(findings):
    contrast = next(c for c in findings.CONTRASTS if c.change == "512 for 128" and c.of == "SimCLR")
    one, other = (findings.line("zoo", name) for name in (contrast.encoder, contrast.base))
    found = contrast.difference("probe_gen")
    assert found.value == pytest.approx(100 * (one["probe_gen"] - other["probe_gen"]), abs=1e-9)  # rounding of doubles
    assert 0 < found.half < 1.1 * 196 * math.hypot(one["probe_gen_se"], other["probe_gen_se"])
    assert contrast.seed(1).encoder == "simclr_d512_s1"
    assert str(findings.Difference(-1.234, 0.5)) == "**−1.23 ± 0.50**"
    assert str(findings.Difference(0.4, 0.5)) == "+0.40 ± 0.50"
    assert findings.signed(-0.001) == "0.00"


def test_the_mean_of_seeds_covers_images_and_training(findings):
    contrast = next(c for c in findings.CONTRASTS if c.change == "weak for strong" and c.of == "VICReg")
    both = [contrast.seed(number)._row("usability", "logistic") for number in (0, 1)]
    found = contrast.mean("usability")
    assert found.value == pytest.approx(50 * sum(row["difference"] for row in both), abs=1e-12)  # rounding of doubles
    images = sum((100 * row["se"]) ** 2 for row in both) / 2
    training = findings.training_spread("usability", "logistic", False) ** 2
    assert found.half == pytest.approx(1.959964 * math.sqrt(images + training), rel=1e-12)  # rounding of doubles
    assert str(contrast.mean("approx")) == "0"  # the same twins


def test_the_spread_of_trainings_is_found_in_made_seeds(findings, monkeypatch):
    """Pairs whose images draw 0.3 points and whose trainings have a spread of 0.4."""
    rng = np.random.default_rng(0)
    n, image, training = 4000, 0.003, 0.004
    rows = {
        (f"r{i}_s1", f"r{i}_s0", "usability"): {
            "difference": rng.normal(0, image) + rng.normal(0, training) - rng.normal(0, training), "se": image
        }
        for i in range(n)
    }  # fmt: skip
    monkeypatch.setattr(findings, "pairs", lambda probe: rows)
    monkeypatch.setattr(findings, "SEED_PAIRS", [findings.Contrast("seed", "", "", e, b) for e, b, _ in rows])
    findings.training_spread.cache_clear()
    try:
        # the standard error of a standard deviation of 4,000 values is 1.1 %; of the excess, twice that
        assert findings.training_spread("usability", "logistic", False) == pytest.approx(0.4, rel=0.06)
    finally:
        findings.training_spread.cache_clear()


def test_kendall_is_that_of_the_definition(findings):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 8, 30).astype(float), rng.integers(0, 8, 30).astype(float)
    pairs = [(np.sign(x[i] - x[j]), np.sign(y[i] - y[j])) for i, j in combinations(range(30), 2)]
    agree = sum(a * b for a, b in pairs)
    untied = sum(a != 0 for a, _ in pairs) * sum(b != 0 for _, b in pairs)
    tau = findings.kendall(x.tolist(), y.tolist())
    assert tau.value == pytest.approx(agree / math.sqrt(untied), abs=1e-12)  # rounding of doubles
    assert tau.low < tau.value < tau.high
    assert findings.kendall([1, 2, 3, 4], [10, 20, 30, 40]).value == 1
    assert findings.kendall([1, 2, 3, 4], [4, 3, 2, 1]).high == -1


def test_the_interval_of_kendall_covers_independent_ranks(findings, monkeypatch):
    monkeypatch.setattr(findings, "RESAMPLES", 500)
    rng = np.random.default_rng(0)
    taus = [findings.kendall(rng.normal(size=40).tolist(), rng.normal(size=40).tolist()) for _ in range(100)]
    covered = sum(t.low <= 0 <= t.high for t in taus)
    assert covered >= 88  # 95 of 100 are expected; 88 is three binomial standard errors below


def test_statistics_rank_encoders_as_the_page_says(findings):
    from ssl_risk_rs.geometry import STATISTICS, Needs

    def side(statistic, component="agg_risk", kept=None):
        tau = findings.statistic_tau(statistic, component, kept)
        return 1 if tau.low > 0 else -1 if tau.high < 0 else 0

    assert set(findings.measured()["encoder"]) == set(findings.table("zoo", "logistic")["encoder"])
    subsets = (None, findings._SELF_SUPERVISED, findings._ONE_SHAPE)
    signs = {name: expected for name, (_, expected) in findings.ranked().items()}
    in_every = {name for name, sign in signs.items() if sign and all(side(name, kept=k) == sign for k in subsets)}
    assert in_every == {"h_score", "logme", "rank_z"}
    label_free = [name for name, s in STATISTICS.items() if s.needs is not Needs.LABELS and signs[name]]
    assert {name for name in label_free if side(name) == signs[name]} == {"rank_z", "rankme", "lidar"}
    assert {name for name in label_free if side(name, kept=findings._ONE_SHAPE) == signs[name]} == {"rank_z"}
    of_usability = [name for name in label_free if side(name, "usability", ~findings._OWN_TWIN) == signs[name]]
    assert of_usability == ["rank_z", "rankme"]

    def shown(name):
        return [side(name, kept=kept) == signs[name] for kept in subsets]

    assert not any(any(shown(name)) for name in ("uniformity", "alignment", "nc1", "nc1_norm"))
    assert shown("rankme") == [True, True, False] and shown("lidar") == [True, True, False]
    assert shown("effective_rank") == shown("effective_dim") == [False, True, False]
    assert not [name for name, sign in signs.items() if sign and side(name, "enc_gen") == sign]
    assert {side(name, "probe_gen") for name in ("z_dim", "effective_rank", "rank_z", "rankme")} == {1}


def test_resampling_whole_clusters_widens_an_interval(findings):
    rng = np.random.default_rng(0)
    x = rng.standard_normal(20)
    y = x + rng.standard_normal(20)
    twice = kendall_of(findings, np.repeat(x, 2), np.repeat(y, 2), [str(i // 2) for i in range(40)])
    alone = kendall_of(findings, np.repeat(x, 2), np.repeat(y, 2), None)
    assert twice.value == alone.value
    assert twice.high - twice.low > alone.high - alone.low
    whole = kendall_of(findings, x, y, None)
    assert kendall_of(findings, x, y, [str(i) for i in range(10, 30)]) == whole  # a cluster for each


def kendall_of(findings, x, y, clusters):
    return findings.kendall(list(x), list(y), clusters)
