"""`run` with several checkpoints or several features: what is kept, found again, named; what is chosen on what."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from click.testing import CliRunner
from ssl_risk_rs import compare, decompose
from ssl_risk_rs._inference import holm
from ssl_risk_rs.cli import main
from ssl_risk_rs.encoders import create_encoder
from ssl_risk_rs.encoders.names import expand_names
from ssl_risk_rs.encoders.spec import choose_features
from ssl_risk_rs.encoders.weights.epochs import epoch_in_file, epoch_in_name, epoch_of
from ssl_risk_rs.errors import EncoderError
from ssl_risk_rs.report import sentences
from ssl_risk_rs.report.many import render_curve, render_layers
from ssl_risk_rs.report.sentences import DIGITS_STAND_IN
from ssl_risk_rs.results import Grade, Run
from ssl_risk_rs.results.many import Curve, Entry
from ssl_risk_rs.workflow.checkpoints import short_names
from ssl_risk_rs.workflow.layers import choose_layer, fold_error, on_unseen_rows

PREPARED = "mean=0.306&std=0.376&resize=8&interpolation=bilinear"
NAMES = f"ckpt:ck/ep*.pth@tiny_convnet?{PREPARED}"
COMMON = ("-d", "digits", "--limit", "40/class", "--probe", "ridge", "--supervised", "none", "--control", "none",
          "--store", "banks")  # fmt: skip
VIT = "random:vit_tiny_patch16_224?img_size=16&patch_size=8&depth=3"


def run(*arguments: object, code: int = 0):
    result = CliRunner().invoke(main, ["run", *map(str, arguments), *COMMON])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.stderr
    return result


def weights(share: float) -> dict[str, torch.Tensor]:
    """Weights on the way from random to trained ones."""
    ends = []
    for name in ("demo_random", "demo_ssl"):
        state = create_encoder(name).module.state_dict()
        ends.append({key.removeprefix("backbone."): value for key, value in state.items()})
    return {
        key: torch.lerp(value, ends[1][key], share) if value.is_floating_point() else value
        for key, value in ends[0].items()
    }


@pytest.fixture
def checkpoints() -> None:
    """ck/ep2.pth, ep10.pth with their epochs inside, ep30.pth without, ep99.pth that is none."""
    Path("ck").mkdir()
    for epoch, share in ((2, 0.0), (10, 0.5), (30, 1.0)):
        content = {"model": weights(share)} | ({"epoch": epoch} if epoch < 30 else {})
        torch.save(content, f"ck/ep{epoch}.pth")
    Path("ck/ep99.pth").write_bytes(b"no checkpoint")


# --- checkpoints


def test_checkpoints_of_a_network_of_the_users_own_make_a_curve(checkpoints):
    """Saved weights of code that no library knows, as those of named architectures: found again, until the code
    changes."""
    net = (
        "from ssl_risk_rs import create_encoder\n\ndef net():\n"
        "    known = create_encoder('demo_ssl')\n    return known.module.backbone, known.transform\n"
    )
    Path("own.py").write_text(net)
    names = "ckpt:ck/ep[123]*.pth@own.py:net"
    run("-m", names, "--out", "own")
    run("-m", NAMES.replace("ep*", "ep[123]*"), "--out", "named")
    table = [pl.read_parquet(f"{out}/curve.parquet").select("name", "epoch", "estimate") for out in ("own", "named")]
    assert table[0].equals(table[1], null_equal=True) and table[0]["epoch"].unique().sort().to_list() == [2, 10, 30]
    again = run("-m", names, "--out", "own").stderr
    assert all(f"ep{epoch} was finished before" in again for epoch in (2, 10, 30))
    Path("own.py").write_text(net.replace("backbone,", "backbone.double().float(),"))
    assert "ep10 is run again" in run("-m", names, "--out", "own").stderr


def test_runs_of_another_twin_are_made_again(checkpoints):
    """The key of a run had the name of its twin: a file with new weights answered with the runs of the old ones."""

    def parts() -> list[float]:
        names = "ckpt:ck/ep[13]0.pth@tiny_convnet?" + PREPARED
        common = [{"none": "ckpt:twin.pth@tiny_convnet?" + PREPARED}.get(word, word) for word in COMMON[:8]]
        result = CliRunner().invoke(main, ["run", "-m", names, *common, *COMMON[8:], "--out", "out"])
        assert result.exit_code == 0, result.stderr
        said.append(result.stderr)
        return [Run.load(f"out/ep{epoch}").main.estimate("approx") for epoch in (10, 30)]

    said: list[str] = []
    torch.save({"model": weights(0.9)}, "twin.pth")
    first = parts()
    assert parts() == first and "ep10 was finished before" in said[-1]
    torch.save({"model": weights(0.0), "more": 1}, "twin.pth")
    second = parts()
    assert "ep10 is run again: its features, its twin or its control have changed" in said[-1]
    assert second != first
    torch.save({"model": weights(0.9), "more": [1, 2]}, "twin.pth")
    assert parts() == first


def test_a_pattern_gives_a_run_each_and_a_failed_one_does_not_stop_the_others(checkpoints):
    result = run("-m", NAMES, "--out", "out", code=1)
    assert "1 failed:\n  ep99: ck/ep99.pth is neither a torch checkpoint" in result.stderr
    assert "The epochs of ep2, ep10 are those that the files record." in result.stderr
    assert "The epochs of ep30 (30), ep99 (99) are numbers in their names" in result.stderr
    assert sorted(os.listdir("out")) == ["curve.parquet", "ep10", "ep2", "ep30", "index.json", "steps.parquet"]
    rows = [line.split()[0] for line in result.stdout.splitlines() if line.startswith("  ") and line[2:3].isdigit()]
    assert rows == ["2", "10", "30"] * 2  # the table and the bars, by epoch and not by name
    assert max(len(line) for line in result.stdout.splitlines() if line[2:3].isdigit()) <= 80
    curve = pl.read_parquet("out/curve.parquet")
    alone = Run.load("out/ep10").frame()
    assert curve.filter(pl.col("name") == "ep10").drop("name", "epoch", "epoch_from").equals(alone, null_equal=True)
    assert curve["epoch_from"].unique().sort().to_list() == ["file", "name"]
    # what `run` makes of one alone is the same
    single = run("-m", f"ckpt:ck/ep10.pth@tiny_convnet?{PREPARED}", "--out", "one", "--format", "json")
    assert [row["estimate"] for row in json.loads(single.stdout)] == alone["estimate"].to_list()


def test_the_same_line_makes_only_what_is_missing(checkpoints):
    os.remove("ck/ep99.pth")
    first = run("-m", NAMES)
    (folder,) = Path("runs").iterdir()
    stamps = {path: path.stat().st_mtime_ns for path in folder.rglob("run.json")}
    again = run("-m", NAMES)
    assert again.stdout == first.stdout and again.stderr.count("was finished before") == 3
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("run.json")} == stamps
    torch.save({"model": weights(0.9), "epoch": 40}, "ck/ep30.pth")  # training went on
    changed = run("-m", NAMES)
    assert "ep30 is run again: its features, its twin or its control have changed" in changed.stderr
    assert "The epochs of ep2, ep10, ep30 are those that the files record." in changed.stderr
    moved = {path.parent.name for path in folder.rglob("run.json") if path.stat().st_mtime_ns != stamps[path]}
    assert moved == {"ep30"} and changed.stderr.count("was finished before") == 2
    (folder / "ep2" / "run.json").unlink()
    assert "ep2 is run again" in run("-m", NAMES).stderr


def test_another_question_is_not_answered_by_old_runs(checkpoints):
    os.remove("ck/ep99.pth")
    run("-m", NAMES, "--out", "out")
    complaint = run("-m", NAMES, "--out", "out", "--seed", 3, code=1).stderr
    assert "out holds runs that were made otherwise" in complaint and "ep2, ep10, ep30" in complaint
    assert "is run again" not in run("-m", NAMES, "--out", "out", "--seed", 3, "--force").stderr
    assert Run.load("out/ep2").decompositions[0].method.seed == 3
    assert "exists; choose another --out" in run("-m", NAMES, "--out", "ck", code=1).stderr
    assert sorted(os.listdir("ck")) == ["ep10.pth", "ep2.pth", "ep30.pth"]


def test_steps_are_paired_and_corrected_together(checkpoints):
    os.remove("ck/ep99.pth")
    found = json.loads(run("-m", NAMES, "--out", "out", "--format", "json").stdout)
    assert {(s["baseline"], s["encoder"]) for s in found["steps"]} == {("ep2", "ep10"), ("ep10", "ep30")}
    members = [s for s in found["steps"] if s["p_holm"] is not None]
    assert [s["p_holm"] for s in members] == pytest.approx(holm([s["p"] for s in members]), abs=1e-15)
    values = {(r["name"], r["quantity"]): r["estimate"] for r in found["runs"]}
    for step in members:
        ends = values[step["encoder"], step["quantity"]] - values[step["baseline"], step["quantity"]]
        assert step["difference"] == pytest.approx(ends, abs=1e-12)  # sums of the same rows in another order
    assert pl.read_parquet("out/steps.parquet").height == len(found["steps"]) and found["failed"] == []


def test_several_names_without_epochs_keep_their_order():
    result = run("-m", "demo_ssl", "-m", "demo_random", "--out", "out")
    assert "encoder" in result.stdout and result.stdout.index("demo_ssl") < result.stdout.index("demo_random")
    assert pl.read_parquet("out/curve.parquet")["epoch"].null_count() > 0


def test_patterns_are_expanded_in_the_order_of_numbers(checkpoints):
    assert [name.partition("@")[0] for name in expand_names([NAMES, "swav"])] == [
        "ckpt:ck/ep2.pth", "ckpt:ck/ep10.pth", "ckpt:ck/ep30.pth", "ckpt:ck/ep99.pth", "swav",
    ]  # fmt: skip
    assert all(name.endswith(f"@tiny_convnet?{PREPARED}") for name in expand_names([NAMES]))
    assert expand_names(["ckpt:ck/ep?.pth"]) == ["ckpt:ck/ep2.pth"]  # no architecture: the file may know it
    Path("ck/ep*.pth").write_bytes(b"")  # a file of that very name
    assert expand_names([NAMES]) == [NAMES]
    with pytest.raises(EncoderError, match=r"no file matches ck/none\*\.pth"):
        expand_names(["ckpt:ck/none*.pth@resnet18"])


@pytest.mark.parametrize(
    ("name", "epoch"),
    [
        ("ep010.pth", 10), ("checkpoint_0100.pth.tar", 100), ("vit16_epoch=7-step=900.ckpt", 7), ("last.pth", None),
        ("resnet18-e3.pt", 3), ("epoch_12.pth", 12), ("model_200.safetensors", 200),
        ("simclr_ep10_lr1e-3.pth", 10), ("ep010_e2e.pth", 10), ("epoch20_tau0.2_lr5e-4.pth", 20),
        ("simclr_200_lr1e-3.pth", 200), ("mae_e2e_7.pth", 7), ("tau0.5_300.pth.tar", 300), ("lr0.1.pth", None),
        ("resnet18.100.pth", 100), ("model-v1.100.pt", 100), ("stage2e10.pth", 10),
    ],
)  # fmt: skip
def test_epochs_in_names(name, epoch):
    assert epoch_in_name(name) == epoch


def test_epochs_in_files(tmp_path):
    held = {
        "plain": ({"epoch": 7}, 7), "lightning": ({"epoch": 3, "global_step": 900}, 3),
        "mm": ({"meta": {"epoch": 12}}, 12), "tensor": ({"epoch": torch.tensor(5)}, 5), "none": ({"epochs": 100}, None),
        "nan": ({"epoch": float("nan")}, None), "flag": ({"epoch": True}, None), "text": ({"epoch": "8"}, 8),
    }  # fmt: skip
    for name, (content, epoch) in held.items():
        torch.save(content | {"state_dict": {"w": torch.zeros(2)}}, tmp_path / name)
        assert epoch_in_file(tmp_path / name) == epoch, name
    from safetensors.torch import save_file

    save_file({"w": torch.zeros(2)}, tmp_path / "s.safetensors", metadata={"epoch": "4"})
    assert epoch_of(tmp_path / "s.safetensors") == (4, "file")
    assert epoch_of(tmp_path / "gone_ep9.pth") == (9, "name") and epoch_of(tmp_path / "gone") == (None, None)


def test_names_in_tables_are_short_and_different():
    assert short_names(["ckpt:/a/b/ep1.pth@x", "ckpt:/a/b/ep2.pth.tar@x"]) == ["ep1", "ep2"]
    assert short_names(["ckpt:/a/e20_tau0.2_lr5e-4.pth@x", "ckpt:/a/e9.pth.tar@x"]) == ["e20_tau0.2_lr5e-4", "e9"]
    assert short_names(["ckpt:/a/one/last.pth@x", "ckpt:/a/two/last.pth@x", "swav"]) == ["one/last", "two/last", "swav"]


def test_a_curve_with_and_without_twins_has_common_columns():
    rng = np.random.default_rng(0)
    y = np.arange(120) % 3
    x, t = (rng.standard_normal((120, 6)) + y[:, None] for _ in range(2))
    with_twin = decompose(x, y, t, y, supervised=x, probe="ridge", name="a")
    without = decompose(x, y, t, y, probe="ridge", name="b")
    entries = tuple(Entry(d.name, d.name, Run.of(d)) for d in (with_twin, without))
    head, *_ = [line for line in render_curve(Curve(entries)).splitlines() if "encoder " in line and "total" in line]
    assert "approx.+usab." in head and "usability" not in head


def test_marks_of_a_curve_are_those_of_its_runs_and_are_explained_once():
    rng = np.random.default_rng(0)
    y = np.arange(120) % 3
    found = [decompose(noise * rng.standard_normal((240, 6)) + np.tile(y, 2)[:, None], np.tile(y, 2),
                       rng.standard_normal((120, 6)) + y[:, None], y, probe="ridge", name=f"n{noise}")
             for noise in (0.1, 1.0)]  # fmt: skip
    names = ("risk_af", "probe_gen", "enc_gen", "agg_risk")
    marked = [[sentences.mark(d.estimates[name].grade) for name in names] for d in found]
    assert {m for row in marked for m in row} > {""}
    lines = render_curve(Curve(tuple(Entry(d.name, d.name, Run.of(d)) for d in found))).splitlines()
    for d, marks in zip(found, marked, strict=True):
        (row,) = [line for line in lines if line.startswith(f"  {d.name}") and "±" in line]
        assert [cell.strip(" 0123456789.-") for cell in row.split("±")[1:]] == marks
    for sign in {m for row in marked for m in row} - {""}:
        assert sum(line.startswith(f"  {sign}     ") for line in lines) == 1


def test_a_report_of_several_runs_is_written_where_it_is_asked_for(checkpoints):
    os.remove("ck/ep99.pth")
    for _ in range(2):  # the page is no run
        done = run("-m", NAMES, "--out", "out", "--report")
        assert "The report is in out/report.html." in done.stderr
    assert "by epoch" in Path("out/report.html").read_text(encoding="utf-8")


# --- layers


def test_layers_and_poolings_come_from_one_pass_and_one_is_marked():
    result = run("-m", VIT, "--layers", "all", "--pool", "cls,mean", "--out", "out")
    features = ["blocks.0:cls", "blocks.0:avg", "blocks.1:cls", "blocks.1:avg", "cls", "avg"]
    rows = [line.split() for line in result.stdout.splitlines() if " 192  " in line]
    assert [row[1] if row[0] == "→" else row[0] for row in rows] == features
    assert sum(row[0] == "→" for row in rows) == 1
    frame = pl.read_parquet("out/layers.parquet")
    chosen = frame.filter("chosen")["feature"].unique().to_list()
    assert len(chosen) == 1 and f"the chosen feature, {chosen[0]}:" in result.stdout
    errors = dict(frame.select("feature", "fold_error").unique().iter_rows())
    assert frame.filter(pl.col("rows") == "unseen")["feature"].unique().to_list() == chosen
    assert errors[chosen[0]] == min(errors.values()) and set(errors) == set(features)
    assert run("-m", VIT, "--layers", "all", "--pool", "cls,mean", "--out", "out").stdout == result.stdout
    assert len(list(Path("banks").rglob("bank.json"))) == 6


def test_tables_of_several_say_that_no_data_were_named(checkpoints):
    os.remove("ck/ep99.pth")
    words = (["-m", NAMES, "--out", "curve"], ["-m", VIT, "--layers", "cls,avg", "--out", "layers"])
    for given in words:
        first = CliRunner().invoke(main, ["run", *given, *COMMON[2:]])
        assert first.stdout.splitlines()[0].endswith(" on digits · ridge probe (strict protocol)"), first.stderr
        assert first.stdout.splitlines()[1] == f"  {DIGITS_STAND_IN}"
        assert run(*given).stderr.count("was finished before") >= 2  # with -d digits they are the same runs


def test_extracting_several_poolings_again_gives_all_of_them():
    common = ["extract", "-m", VIT, "-d", "digits", "--limit", "5/class", "--store", "banks", "--format", "json"]
    for pattern in (["--pool", "cls,mean"], ["--layers", "blocks.*"]):
        first, again = (json.loads(CliRunner().invoke(main, [*common, *pattern]).stdout) for _ in range(2))
        assert first == again and len(first) == 2


def test_a_choice_of_layers_sees_no_row_it_is_judged_on(rng):
    """Other labels of test rows and held-out subsets give the same fold errors, and so the same choice."""
    y = np.arange(240) % 3
    x = (rng.standard_normal((240, 8)) + y[:, None]).astype(np.float32)
    t = (rng.standard_normal((90, 8)) + (np.arange(90) % 3)[:, None]).astype(np.float32)
    first = decompose(x, y, t, np.arange(90) % 3, probe="ridge")
    judged = first.judgements
    assert judged is not None
    other = x.copy()
    other[judged.subset >= 0] = 9.0  # the features of held-out rows; splits depend on ids alone
    second = decompose(other, y, -t, np.arange(90) % 3, probe="ridge")
    assert fold_error(first) == fold_error(second) > 0
    assert first.estimate("risk_us") != second.estimate("risk_us")
    folds = (judged.fold >= 0).sum()
    tuned = first.penalties["tuned"]
    assert fold_error(first) * folds == pytest.approx(tuned.errors[tuned.grid.index(tuned.value)])


def test_the_chosen_feature_is_judged_on_rows_outside_the_folds(rng):
    y = np.arange(300) % 3
    x = (rng.standard_normal((300, 8)) + y[:, None]).astype(np.float32)
    t = (rng.standard_normal((90, 8)) + (np.arange(90) % 3)[:, None]).astype(np.float32)
    whole = decompose(x, y, t, np.arange(90) % 3, supervised=x[:, :5], probe="ridge", n_subsets=1)
    judged = whole.judgements
    unseen = on_unseen_rows(whole)
    assert judged is not None and judged.sup is not None
    held = judged.in_subset
    expected = {
        "risk_us": judged.us.error, "risk_as": judged.held_out.error,
        "risk_af": judged.af.wrong[held].mean(), "risk_sup": judged.sup.wrong[held].mean(),
    }  # fmt: skip
    for name, value in expected.items():  # classes are of equal size in every set, so weights are equal
        assert unseen.estimate(name) == pytest.approx(value, abs=1e-12), name
    parts = sum(unseen.estimate(name) for name in unseen.component_names)
    assert parts == pytest.approx(unseen.estimate("agg_risk"), abs=1e-12)
    for name in ("risk_us", "risk_cs", "agg_risk", "label_count"):  # test rows saw no choice: nothing changes
        assert unseen.estimates[name] == whole.estimates[name]
    assert unseen.estimates["risk_af"].se > whole.estimates["risk_af"].se  # of fewer rows
    assert unseen.notes[-1].values == {"rows": int(held.sum()), "train": 300}


def test_everything_of_the_chosen_feature_is_of_the_same_rows(rng):
    y, y_test = np.arange(300) % 3, np.arange(90) % 3
    x, t = ((rng.standard_normal((len(v), 8)) + v[:, None]).astype(np.float32) for v in (y, y_test))
    noise = rng.standard_normal((390, 4)).astype(np.float32)
    whole = decompose(x, y, t, y_test, control=(noise[:300], noise[300:]), probe="ridge", order="alternative",
                      metrics="balanced", n_subsets=1)  # fmt: skip
    unseen = on_unseen_rows(whole)
    held = int(whole.judgements.in_subset.sum())
    assert unseen.bottleneck.quantity in unseen.component_names  # those of the alternative order
    for made, before in ((unseen, whole), (unseen.control, whole.control)):
        for estimates in (made.estimates, *(m.estimates for m in made.metrics)):
            assert estimates["risk_af"].n == held < before.estimates["risk_af"].n
    balanced, of_all = (d.metric("balanced").estimates for d in (unseen, whole))
    # classes are of equal size in every set: the balanced error is the error
    assert balanced["risk_af"].estimate == pytest.approx(unseen.estimate("risk_af"), abs=1e-12)  # rounding of doubles
    assert balanced["risk_us"] == of_all["risk_us"]


def test_the_probe_and_its_floor_are_those_of_all_rows_where_few_judge():
    """Folds are none of the rows that judge a chosen feature: probes then seemed not to vary, to lack every class, and
    to fit a decade above the floor by as much worse as other rows are harder."""
    rng = np.random.default_rng(1)
    y, y_test = np.arange(150) % 3, np.arange(300) % 3
    x, t = ((0.5 * rng.standard_normal((len(v), 30)) + np.eye(30)[v] * 0.6).astype(np.float32) for v in (y, y_test))
    whole = decompose(x, y, t, y_test, metrics="log_loss", n_subsets=1)
    unseen = on_unseen_rows(whole)
    assert unseen.probe_variance == pytest.approx(whole.probe_variance) and whole.probe_variance > 0
    own, all_rows = (d.metric("log_loss") for d in (unseen, whole))
    assert own.estimates["enc_gen"].se > all_rows.estimates["enc_gen"].se  # of fewer rows
    assert "variation_without_classes" not in {note.code for note in own.notes}
    assert np.isnan(unseen.floor.risk_above) and "one decade above" not in str(Run.of(unseen))
    # the rise of R_AF one decade above the floor is that on all rows: without it probe generalization is larger
    level = replace(whole, floor=replace(whole.floor, risk_above=whole.estimate("risk_af")))
    found = on_unseen_rows(level).bottleneck
    assert unseen.bottleneck.quantity == "probe_gen" and found.probability > unseen.bottleneck.probability
    (note,) = (n for n in unseen.notes if n.code == "optimistic_af_held_out")
    assert note.values["ratio"] == pytest.approx(whole.judgements.held_out_floor.error / unseen.estimate("risk_af"))


def test_equal_fold_errors_go_to_fewer_features(rng):
    y = np.arange(150) % 3
    x = (rng.standard_normal((150, 4)) * 0.01 + np.eye(4)[y] * 9).astype(np.float32)
    wide = decompose(np.hstack([x, x]), y, np.hstack([x, x]), y, probe="ridge", overlap="warn")
    narrow = decompose(x, y, x, y, probe="ridge", overlap="warn")
    entries = (Entry("wide", "m", Run.of(wide), "wide"), Entry("narrow", "m", Run.of(narrow), "narrow"))
    found = choose_layer(entries)
    assert found.fold_errors["ridge"] == {"wide": 0.0, "narrow": 0.0} and found.chosen("ridge").name == "narrow"
    assert [found.rank(name, "ridge") for name in ("wide", "narrow")] == [1, 1]


def test_mistakes_are_named():
    assert (
        "does not have: leave out --protocol paper"
        in run("-m", VIT, "--layers", "all", "--protocol", "paper", code=1).stderr
    )
    assert "the encoder offers no feature blocks.9" in run("-m", VIT, "--layers", "blocks.9,cls", code=1).stderr
    assert "name one layer, or one encoder" in run("-m", VIT, "-m", "demo_ssl", "--layers", "a,b", code=1).stderr
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("layers", "pool", "chosen"),
    [
        (None, "cls,mean", ("cls", "avg")),
        (["all"], None, ("cls", "layer1:cls")),
        (["layer*"], "mean,cls", ("layer1:avg", "layer1:cls")),
        (["layer1", "last"], "avg", ("layer1:avg", "avg")),
        (["layer1:avg"], None, ("layer1:avg",)),
    ],
)
def test_layers_and_poolings_name_features(layers, pool, chosen):
    assert choose_features(("cls", "avg", "layer1:cls", "layer1:avg"), layers, pool) == chosen


def test_code_with_several_features_says_which_it_takes(tmp_path):
    Path("mine.py").write_text(
        "import torch\nclass Two(torch.nn.Module):\n    def forward(self, x):\n"
        "        return {'a': x.flatten(1)[:, :9], 'b': x.mean((2, 3))}\n\ndef both():\n    return Two()\n"
    )
    result = run("-m", "mine.py:both", "--img-size", "8", "--out", "one")
    assert "mine.py:both returns several features; a is decomposed, not b." in result.stderr
    assert "2 features of" in run("-m", "mine.py:both", "--img-size", "8", "--layers", "all", "--out", "two").stdout


def test_help_needs_no_torch():
    code = "import sys; from ssl_risk_rs.cli import main; main(['run', '--help'], standalone_mode=False); " \
           "sys.exit('torch' in sys.modules)"  # fmt: skip
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60).returncode == 0


def test_a_grid_of_pixels_among_several_encoders_is_of_its_own_size():
    result = run("-m", "pixels:4", "-m", "demo_ssl", "--img-size", "8", "--out", "curve")
    assert "pixels:4" in result.stdout and "demo_ssl" in result.stdout
    folder = next(path for path in Path("curve").iterdir() if "pixels" in path.name)
    assert Run.load(folder).main.sizes.features == 16 * 3


@pytest.fixture
def two(rng):
    """Two encoders on the same rows, the second with more noise."""
    y, y_test = np.arange(150) % 3, np.arange(90) % 3
    return [
        decompose(
            *(v for labels in (y, y_test) for v in (noise * rng.standard_normal((len(labels), 6)) + np.eye(6)[labels],
                                                    labels)),
            probe="ridge", name=f"n{noise}",
        )
        for noise in (0.5, 0.8)
    ]  # fmt: skip


def test_a_curve_tells_half_of_each_interval(two):
    lines = render_curve(Curve(tuple(Entry(d.name, d.name, Run.of(d)) for d in two))).splitlines()
    for d in two:
        (row,) = (line for line in lines if line.startswith(f"  {d.name}") and "±" in line)
        e = d.estimates["agg_risk"]
        assert f"{100 * e.estimate:.2f} ±{50 * (e.high - e.low):>5.2f}" in row and e.high > e.low


def test_a_curve_says_so_where_any_part_is_below_zero(two):
    def with_part(d, value):
        return replace(d, estimates={**d.estimates, "enc_gen": replace(d.estimates["enc_gen"], estimate=value)})

    for values in ((-0.02, 0.02), (0.02, -0.02), (0.02, 0.02)):
        entries = tuple(Entry(d.name, d.name, Run.of(with_part(d, v))) for d, v in zip(two, values, strict=True))
        positive = all(d.run.main.estimate("probe_gen") >= 0 for d in entries)
        said = "Components below zero have no part in a bar" in render_curve(Curve(entries))
        assert positive and said is (min(values) < 0)


def test_marks_of_steps_are_explained_too(two):
    entries = tuple(
        Entry(d.name, d.name, Run.of(replace(d, estimates={k: replace(e, grade=Grade.SOUND)
                                                           for k, e in d.estimates.items()})))
        for d in two
    )  # fmt: skip
    step = compare(two)
    marked = replace(step, differences=tuple(replace(d, grade=Grade.FEW_ROWS) for d in step.differences))
    assert "  *     fewer than 10 rows" in render_curve(Curve(entries, steps=(marked,)))
    assert "  *     fewer than 10 rows" not in render_curve(Curve(entries))


def test_the_table_of_layers_marks_the_one_with_the_least_error_on_folds(two):
    noisy, clear = (Entry(d.name, "m", Run.of(d), d.name) for d in reversed(two))
    found = choose_layer((noisy, clear))
    assert found.chosen("ridge") is clear
    lines = render_layers(found).splitlines()
    assert [line.split()[1] for line in lines if line.startswith("  → ")][:1] == [clear.name]
    assert any("fewest errors on held-out folds" in line for line in lines)
    d = clear.run.main
    balanced = replace(d, method=replace(d.method, tuned_on="balanced"))
    told = replace(found, entries=tuple(replace(e, run=Run.of(balanced)) for e in found.entries))
    assert "least class-balanced error on held-out folds" in render_layers(told)
