"""Packs and tables: every number is found again, every changed byte and digit is found."""

import hashlib
import json
import os
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from ssl_risk_rs import ParameterError, decompose, import_bank, read_results, to_latex
from ssl_risk_rs.cli import main
from ssl_risk_rs.errors import PackError, ResultError
from ssl_risk_rs.results import Run
from ssl_risk_rs.results.digests import with_digests
from ssl_risk_rs.workflow.packs import Evidence, open_pack, tasks_of, write_pack
from ssl_risk_rs.workflow.verify import Verdict, verify_table


def save_features(path: Path, seed: int = 0, n: int = 180, columns: int = 8) -> Path:
    y = np.arange(n + 90) % 3
    centres = np.random.default_rng(9).standard_normal((3, columns))
    x = (centres[y] + np.random.default_rng(seed).standard_normal((n + 90, columns))).astype(np.float32)
    np.savez(path, X_train=x[:n], y_train=y[:n], X_test=x[n:], y_test=y[n:])
    return path


def run(*arguments: object, code: int = 0):
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.stderr
    return result


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with features, two runs of both probes with few-shot sizes, and their table."""
    folder = tmp_path_factory.mktemp("packs")
    for i, name in enumerate("ab"):
        features = save_features(folder / f"{name}.npz", seed=i)
        out = folder / "runs" / name
        run("decompose", features, "--probe", "both", "--shots", "5", "--draws", "3", "--out", out)
    (folder / "table.tex").write_text(to_latex(read_results(folder / "runs")), encoding="utf-8")
    return folder


def pack(made: Path, evidence: str, target: Path, *more: object) -> Path:
    features = [option for name in "ab" for option in ("--features", made / f"{name}.npz")]
    given = features if evidence != "outcomes" else []
    run("pack", made / "runs/a", made / "runs/b", "--with", evidence, "-o", target, *given, *more)
    return target


@pytest.mark.parametrize(("evidence", "again"), [("outcomes", 0), ("moments", 4), ("features", 16)])
def test_every_number_holds(made: Path, tmp_path: Path, evidence: str, again: int):
    found = verify_table(made / "table.tex", pack(made, evidence, tmp_path / "p"))
    assert (
        found.holds and len(found.cells) == 2 * 2 * 2 * 4
    )  # runs, probes, all labels and 5 shots, components and total
    assert sum(c.again is not None for c in found.cells) == again
    for checked in found.cells:
        if checked.again is not None:  # the same solver on the same rows: what float32 and another order leave
            assert checked.again == pytest.approx(checked.computed.estimate, abs=1.5 / 90)
    trusted = " ".join(found.trusted)
    assert ("no features" in trusted) == (evidence == "outcomes") and "Labels" in trusted


def bank_with_a_site(folder: Path, seed: int = 0) -> Path:
    """A bank whose rows have a class and, in another column, a site."""
    features = np.load(save_features(folder / f"{seed}.npz", seed=seed))
    rows = np.concatenate([features["X_train"], features["X_test"]])
    site = np.random.default_rng(1).permutation(np.arange(len(rows)) % 2)
    rows[:, 0] += 3 * site
    table = pl.DataFrame({f"f{i}": column for i, column in enumerate(rows.T)}).with_columns(
        id=pl.Series([f"r{i}" for i in range(len(rows))]), label=pl.Series(np.arange(len(rows)) % 3),
        split=pl.Series(["train"] * 180 + ["test"] * 90), site=pl.Series([f"site {s}" for s in site]),
    )  # fmt: skip
    table.write_parquet(folder / "rows.parquet")
    import_bank(folder / "rows.parquet", folder / "bank", force=True)
    return folder / "bank"


@pytest.mark.parametrize(("evidence", "again"), [("moments", 2), ("features", 4)])
def test_a_run_of_a_target_is_packed_by_its_own_labels(tmp_path: Path, evidence: str, again: int):
    bank = bank_with_a_site(tmp_path)
    run("decompose", bank, "--target", "site", "--probe", "ridge", "--out", tmp_path / "r")
    run("pack", tmp_path / "r", "--with", evidence, "-o", tmp_path / "p")
    run("report", tmp_path / "r", "--latex", tmp_path / "t.tex")
    found = verify_table(tmp_path / "t.tex", tmp_path / "p")
    assert found.holds and sum(c.again is not None for c in found.cells) == again


def test_a_bank_that_holds_other_features_now_is_not_packed(tmp_path: Path):
    run("decompose", bank_with_a_site(tmp_path), "--probe", "ridge", "--out", tmp_path / "r")
    bank_with_a_site(tmp_path, seed=1)
    said = run("pack", tmp_path / "r", "--with", "moments", "-o", tmp_path / "p", code=1).stderr
    assert "other features are there now (content_hash" in said and not (tmp_path / "p").exists()


def test_csv_tables_hold_to_all_digits(made: Path, tmp_path: Path):
    table = tmp_path / "t.csv"
    frame = read_results(made / "runs")
    frame.write_csv(table)
    file = pack(made, "outcomes", tmp_path / "p")
    assert verify_table(table, file).holds
    first = frame.filter(quantity="risk_us")["estimate"][0]
    table.write_text(table.read_text().replace(f"{first}", f"{first + 1e-6}", 1))
    assert not verify_table(table, file).holds


def test_features_of_another_width_are_no_evidence(made: Path, tmp_path: Path):
    """They were packed, and the table was accused."""
    other = save_features(tmp_path / "wide.npz", columns=9)
    given = ["--features", other]
    told = run("pack", made / "runs/a", "--with", "features", "-o", tmp_path / "p", *given, code=1).stderr
    assert "was judged on 8 features, and these are 9: give the features that the run was made of" in told


def test_a_csv_table_divided_by_semicolons_holds(made: Path, tmp_path: Path):
    file, e = pack(made, "outcomes", tmp_path / "p"), Run.load(made / "runs/a").decompositions[0].estimates["agg_risk"]
    line = f"\ufeffencoder;probe;quantity;estimate;n\na.npz;logistic;agg_risk;{e.estimate:.3f};{e.n}\n"
    (tmp_path / "t.csv").write_text(line, "utf-8")
    assert verify_table(tmp_path / "t.csv", file).holds


def table_of(made: Path, target: Path, **changed: object) -> Path:
    """The CSV of a run, with columns that say something else."""
    frame = read_results(made / "runs/a")
    frame.with_columns(pl.lit(value).alias(name) for name, value in changed.items()).write_csv(target)
    return target


@pytest.mark.parametrize(
    "changed",
    [
        {"se": 9.9}, {"confidence": 0.99}, {"n": 7}, {"n_groups": 7}, {"df": 3.0}, {"grade": "none"},
        {"unit": "nats"}, {"split": "zzz"},
        {"low": 0.0001, "high": float("nan")}, {"low": None, "high": 0.0001}, {"low": 0.0001, "high": None},
        {"low": float("nan"), "high": float("nan")}, {"estimate": "5e-1", "low": None, "high": None},
        {"estimate": float("inf")}, {"estimate": float("nan")},
    ],
)  # fmt: skip
def test_every_changed_column_of_a_csv_table_is_found(made: Path, tmp_path: Path, changed: dict):
    file = pack(made, "outcomes", tmp_path / "p")
    assert verify_table(table_of(made, tmp_path / "t.csv"), file).holds
    found = verify_table(table_of(made, tmp_path / "t.csv", **changed), file)
    # one value may be that of a cell here and there
    assert sum(c.verdict is Verdict.OTHER_NUMBER for c in found.cells) > 0.6 * len(found.cells)


def test_a_csv_table_may_be_rounded_and_lack_columns(made: Path, tmp_path: Path):
    file, e = pack(made, "outcomes", tmp_path / "p"), Run.load(made / "runs/a").decompositions[0].estimates["agg_risk"]
    head = "\ufeffencoder,probe,quantity,estimate,high,n\n"  # as a spreadsheet writes it
    (tmp_path / "t.csv").write_text(f"{head}a.npz,logistic,agg_risk,{e.estimate:.2e}, {e.high:.3f},{e.n}\n", "utf-8")
    assert verify_table(tmp_path / "t.csv", file).holds
    (tmp_path / "t.csv").write_text(f"{head}a.npz,logistic,agg_risk,{e.estimate:.2e},0.9999,{e.n}\n", "utf-8")
    assert "high=0.9999" in run("verify", tmp_path / "t.csv", file, code=1).stdout


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("encoder,quantity,estimate\na,agg_risk\n", "line 2: it has 2 cells, the head 3"),
        ("encoder,quantity,estimate\n\na,agg_risk,0.1,7\n", "line 3: it has 4 cells, the head 3"),
        ("encoder,quantity,estimate,run\na,agg_risk,0.1,\na,agg_risk,0.1\n", "line 3: it has 3 cells, the head 4"),
        (f"encoder,quantity,estimate\na,agg_risk,{'9' * 200_000}\n", "line 2: field larger"),
        ("encoder,quantity,estimate\na,agg_risk,1_0.0\n", "line 2: estimate '1_0.0' is no number"),
        (f"encoder,quantity,estimate\na,agg_risk,1e-{'9' * 5000}\n", "line 2: estimate .* is no number"),
        ("encoder,quantity,estimate\na,agg_risk,\n", "line 2: estimate '' is no number"),
        ("encoder,quantity,estimate,se\na,agg_risk,0.1,x\n", "line 2: se 'x' is no number"),
        ("encoder,quantity,estimate,estimate\na,agg_risk,0.1,0.2\n", "two columns 'estimate'"),
        ("encoder,quantity,estimate,points\na,agg_risk,0.1,9\n", "column 'points' cannot be verified"),
        ("encoder,quantity,estimate,difference\na,agg_risk,0.1,0\n", "a table of differences"),
        ("encoder,quantity\na,agg_risk\n", "no columns encoder, quantity and estimate"),
        ("", "no columns encoder"),
    ],
)
def test_a_csv_table_that_cannot_be_read_whole_is_refused(made: Path, tmp_path: Path, text: str, said: str):
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    with pytest.raises(ParameterError, match=said):
        verify_table(tmp_path / "t.csv", made / "not read")


def test_other_metrics_and_the_other_order_hold_too(made: Path, tmp_path: Path):
    options = ["--probe", "ridge", "--metric", "balanced,top5", "--order", "both", "--out", tmp_path / "run"]
    run("decompose", made / "a.npz", *options)
    read_results(tmp_path / "run").write_csv(tmp_path / "t.csv")
    features = tasks_of(["-"], [str(made / "a.npz")])
    write_pack([tmp_path / "run"], tmp_path / "p", evidence=Evidence.FEATURES, tasks=features)
    found = verify_table(tmp_path / "t.csv", tmp_path / "p")
    quantities = {(dict(c.cell.keys)["metric"], c.cell.quantity) for c in found.cells}
    assert found.holds and {("balanced", "agg_risk"), ("error", "enc_gen_alt")} <= quantities


def test_metrics_of_the_control_hold_too(made: Path, tmp_path: Path):
    with np.load(made / "a.npz") as arrays:
        given = [arrays[name] for name in ("X_train", "y_train", "X_test", "y_test")]
    narrow = [array[:, :2].copy() if array.ndim == 2 else array for array in given]
    result, control = (decompose(*arrays, probe="ridge", metrics="balanced") for arrays in (given, narrow))
    result.with_control(control).save(tmp_path / "run")
    read_results(tmp_path / "run").write_csv(tmp_path / "t.csv")
    write_pack([tmp_path / "run"], tmp_path / "p")
    found = verify_table(tmp_path / "t.csv", tmp_path / "p")
    assert found.holds and ("control", "balanced") in {
        (dict(c.cell.keys)["group"], dict(c.cell.keys)["metric"]) for c in found.cells
    }
    wrong = pl.when(group="control", metric="balanced").then(0.123).otherwise("estimate")
    read_results(tmp_path / "run").with_columns(estimate=wrong).write_csv(tmp_path / "t.csv")
    found = verify_table(tmp_path / "t.csv", tmp_path / "p")
    assert {c.verdict for c in found.cells} == {Verdict.HOLDS, Verdict.OTHER_NUMBER}


def test_ten_thousand_changed_bytes_are_all_found(made: Path, tmp_path: Path):
    file = tmp_path / "p"
    write_pack([made / "runs/a"], file)
    whole = file.read_bytes()
    rng = np.random.default_rng(0)
    # places anywhere, and every byte of the end, which holds the hash
    places = np.concatenate([rng.integers(0, len(whole), 9_800), np.arange(len(whole) - 200, len(whole))])
    with file.open("r+b", buffering=0) as writer:
        for place in places.tolist():
            for byte in (whole[place] ^ int(rng.integers(1, 256)), whole[place]):  # changed, and back
                writer.seek(place)
                writer.write(bytes([byte]))
                if byte != whole[place]:
                    with pytest.raises(PackError, match=r"changed|cut off"), open_pack(file):
                        pass
    with open_pack(file) as pack:
        assert pack.sha256 == whole[-64:].decode()


def test_every_changed_digit_of_a_table_is_found(made: Path, tmp_path: Path):
    file, table = tmp_path / "p", tmp_path / "t.tex"
    write_pack([made / "runs/a", made / "runs/b"], file)
    text = (made / "table.tex").read_text(encoding="utf-8")
    digits = [m.start() for m in re.finditer(r"\d(?=[\d.]*[,$\]^])", text) if text[: m.start()].count("midrule")]
    rng = np.random.default_rng(1)
    for place in rng.choice(digits, 60, replace=False).tolist():
        other = str((int(text[place]) + int(rng.integers(1, 10))) % 10)
        table.write_text(text[:place] + other + text[place + 1 :], encoding="utf-8")
        assert not verify_table(table, file).holds, text[place - 20 : place + 20]


def test_tables_edited_by_hand(made: Path, tmp_path: Path):
    file, table = pack(made, "outcomes", tmp_path / "p"), tmp_path / "t.tex"
    total = Run.load(made / "runs/a").decompositions[0].estimate("agg_risk")
    head = r"\begin{tabular}{llr}\hline encoder & probe & agg\_risk \\ \hline "
    row = rf"a.npz & logistic & \textbf{{{100 * total:.1f}}} \\ % 99.9" + "\n"
    table.write_text(head + row + r"\end{tabular}", encoding="utf-8")
    assert verify_table(table, file).holds
    for text, verdict in (
        (row.replace("a.npz", "c.npz"), Verdict.NOT_FOUND),
        (row.replace("logistic", ""), Verdict.NOT_FOUND),  # two probes: which one is not said
        (row.replace(rf"\textbf{{{100 * total:.1f}}}", "--"), Verdict.OTHER_NUMBER),
    ):
        table.write_text(head + text + r"a.npz & ridge & -- \\ \end{tabular}", encoding="utf-8")
        if verdict is Verdict.OTHER_NUMBER:
            table.write_text(head + text + row + r"\end{tabular}", encoding="utf-8")
        assert verdict in {c.verdict for c in verify_table(table, file).cells}
    for text, said in (
        ("no table", "holds no tabular"),
        (head.replace("agg", "other") + row + r"\end{tabular}", "neither one of"),
        (head + row.replace("& logistic", "") + r"\end{tabular}", "has 2 cells"),
        (head + row.replace(r"\textbf", "about ") + r"\end{tabular}", "is no number"),
        (head + r"a.npz & logistic & $-$ \\ \end{tabular}", "is no number"),
        (head + r"\end{tabular}", "no number"),
    ):
        table.write_text(text, encoding="utf-8")
        with pytest.raises(ParameterError, match=said):
            verify_table(table, file)


def test_the_table_of_a_report_of_several_runs_holds(made: Path, tmp_path: Path):
    """It has the runs and their differences, which are results of no run."""
    run("report", made / "runs/a", made / "runs/b", "--latex", tmp_path / "t.tex")
    text = (tmp_path / "t.tex").read_text()
    assert text.count(r"\begin{tabular}") > 1
    write_pack([made / "runs/a", made / "runs/b"], tmp_path / "p")
    found = run("verify", tmp_path / "t.tex", tmp_path / "p")
    assert "numbers are differences of encoders, which are passed over" in found.stderr
    # a digit of a run is found as ever; differences alone are no table of results
    changed = re.sub(r"\$(\d+\.\d)(\d)", lambda m: f"${m[1]}{(int(m[2]) + 1) % 10}", text, count=1)
    (tmp_path / "changed.tex").write_text(changed)
    run("verify", tmp_path / "changed.tex", tmp_path / "p", code=1)
    tables = re.findall(r"\\begin\{tabular\}.*?\\end\{tabular\}", text, re.DOTALL)
    (tmp_path / "differences.tex").write_text("\n".join(t for t in tables if "$+" in t))
    assert "a table of differences" in run("verify", tmp_path / "differences.tex", tmp_path / "p", code=1).stderr


@pytest.fixture(scope="module")
def twice(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of one encoder's name on data of one name, which differ in scaling, and their pack."""
    folder = tmp_path_factory.mktemp("twice")
    for name, scaling in (("r1", "standardize"), ("r2", "none")):
        run("decompose", made / "a.npz", "--probe", "ridge", "--scaling", scaling, "--out", folder / name)
    write_pack([folder / "r1", folder / "r2"], folder / "p")
    return folder


@pytest.mark.parametrize("names", [["r1"], ["r2"], ["r1", "r2"]])
@pytest.mark.parametrize("form", ["csv", "tex", "csv without runs", "csv by quantity"])
def test_rows_of_encoders_of_one_name_are_told_apart(twice: Path, tmp_path: Path, names: list[str], form: str):
    frame = read_results([twice / name for name in names])
    table = tmp_path / f"t.{form[:3]}"
    if form == "tex":
        table.write_text(to_latex(frame), encoding="utf-8")
    elif form == "csv":
        frame.write_csv(table)
    else:
        kept = frame.sort("quantity", maintain_order=True) if form.endswith("quantity") else frame
        kept.drop("run", "path", "created").write_csv(table)
    found = verify_table(table, twice / "p")
    assert found.holds and len(found.cells) == len(names) * (4 if form == "tex" else len(frame) // len(names))
    # a number that one run has is none of the other
    value = frame.filter(quantity="probe_gen")["estimate"][0]
    old, new = (f"${100 * v:.2f}" if form == "tex" else f",probe_gen,{v}" for v in (value, value + 0.01))
    assert old in table.read_text(encoding="utf-8")
    table.write_text(table.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
    (wrong,) = (c for c in verify_table(table, twice / "p").cells if c.verdict is not Verdict.HOLDS)
    assert (wrong.verdict, wrong.cell.quantity) == (Verdict.OTHER_NUMBER, "probe_gen")


def test_a_row_is_of_the_run_that_it_names(twice: Path, tmp_path: Path):
    frame = read_results(twice / "r1").with_columns(run=pl.lit("r2"))
    frame.write_csv(tmp_path / "t.csv")
    assert not verify_table(tmp_path / "t.csv", twice / "p").holds
    frame.with_columns(run=pl.lit("folders may be renamed")).write_csv(tmp_path / "t.csv")
    assert verify_table(tmp_path / "t.csv", twice / "p").holds


def test_a_row_does_not_hold_under_the_name_of_another_run(twice: Path, made: Path, tmp_path: Path):
    write_pack([twice / "r1", twice / "r2", made / "runs/b"], tmp_path / "p")
    read_results(twice / "r1").with_columns(run=pl.lit("b")).write_csv(tmp_path / "t.csv")
    assert {c.verdict for c in verify_table(tmp_path / "t.csv", tmp_path / "p").cells} == {Verdict.NOT_FOUND}


def test_lines_of_two_runs_make_no_row(twice: Path, tmp_path: Path):
    """The total of one and a part of the other, told apart by a blank that says the same."""
    one, other = (read_results(twice / name).to_dicts() for name in ("r1", "r2"))
    pick = {
        name: next(r for r in rows if r["quantity"] == name) for rows, name in ((one, "risk_as"), (other, "risk_cs"))
    }
    assert all(abs(pick[q]["estimate"] - r["estimate"]) > 1e-6 for q, rows in (("risk_as", other), ("risk_cs", one))
               for r in rows if r["quantity"] == q)  # fmt: skip
    lines = [f"a.npz,ridge,{q},{pick[q]['estimate']},{metric}" for q, metric in (("risk_as", "error"), ("risk_cs", ""))]
    (tmp_path / "t.csv").write_text("\n".join(["encoder,probe,quantity,estimate,metric", *lines, ""]))
    assert not verify_table(tmp_path / "t.csv", twice / "p").holds
    frame = read_results(twice / "r1")
    frame.with_columns(run=pl.when(quantity="agg_risk").then(pl.lit("")).otherwise("run")).write_csv(tmp_path / "t.csv")
    with pytest.raises(ParameterError, match="it names no run, and other lines do"):
        verify_table(tmp_path / "t.csv", twice / "p")


def test_rows_of_dashes_alone_are_looked_at(made: Path, tmp_path: Path):
    file, table = pack(made, "outcomes", tmp_path / "p"), tmp_path / "t.tex"
    total = Run.load(made / "runs/a").decompositions[0].estimate("agg_risk")
    head = r"\begin{tabular}{llr}\hline encoder & probe & agg\_risk \\ \hline "
    row = rf"a.npz & logistic & {100 * total:.2f} \\ "
    for dashes, wrong in ((r"nobody & ridge & -- \\", Verdict.NOT_FOUND), (r"a.npz & & -- \\", Verdict.NOT_FOUND),
                          (r"a.npz & ridge & -- \\", Verdict.OTHER_NUMBER)):  # fmt: skip
        table.write_text(head + row + dashes + r" \end{tabular}", encoding="utf-8")
        assert [c.verdict for c in verify_table(table, file).cells] == [Verdict.HOLDS, wrong]


def test_rows_that_another_release_cut_otherwise_are_not_fitted_again(made: Path, tmp_path: Path, monkeypatch):
    from ssl_risk_rs.workflow import verify

    file, said = pack(made, "features", tmp_path / "p"), []
    (tmp_path / "t.tex").write_text((made / "table.tex").read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(verify, "subsets_of", lambda task, settings: np.zeros(1, np.int8))
    found = verify_table(tmp_path / "t.tex", file, say=said.append)
    assert found.holds and all(c.again is None for c in found.cells)
    assert any("another release held other rows out" in line for line in said)


def test_rows_of_one_control_beside_two_encoders_hold(made: Path, tmp_path: Path):
    with np.load(made / "a.npz") as arrays:
        given = [arrays[name] for name in ("X_train", "y_train", "X_test", "y_test")]
    for i, name in enumerate("ab"):
        noise = np.random.default_rng(i)
        other = [x + noise.standard_normal(x.shape) if x.ndim == 2 else x for x in given]
        beside = decompose(*(x[:, : 2 + i].copy() if x.ndim == 2 else x for x in given), probe="ridge")
        decompose(*other, probe="ridge").with_control(beside).save(tmp_path / name)
    write_pack([tmp_path / "a", tmp_path / "b"], tmp_path / "p")
    read_results([tmp_path / "a", tmp_path / "b"]).write_csv(tmp_path / "t.csv")
    found = verify_table(tmp_path / "t.csv", tmp_path / "p")
    assert found.holds and sum(dict(c.cell.keys).get("group") == "control" for c in found.cells) > 10


def test_dashes_are_of_the_run_that_lacks_the_number(made: Path, tmp_path: Path):
    """The same encoder with and without a twin."""
    run("decompose", made / "a.npz", "--probe", "ridge", "--out", tmp_path / "without")
    twin = ["--supervised-features", made / "b.npz"]
    run("decompose", made / "a.npz", "--probe", "ridge", *twin, "--out", tmp_path / "with")
    runs = [tmp_path / "without", tmp_path / "with"]
    write_pack(runs, tmp_path / "p")
    text = to_latex(read_results(runs))
    assert "--" in text
    (tmp_path / "t.tex").write_text(text, encoding="utf-8")
    assert verify_table(tmp_path / "t.tex", tmp_path / "p").holds


def test_sizes_that_pandas_writes_as_fractions_are_found(made: Path, tmp_path: Path):
    run("decompose", made / "a.npz", "--probe", "ridge", "--shots", "3,5", "--out", tmp_path / "r")
    write_pack([tmp_path / "r"], tmp_path / "p")
    read_results(tmp_path / "r").write_csv(tmp_path / "t.csv")
    text = re.sub(r",([35]),all,", r",\1.0,all,", (tmp_path / "t.csv").read_text())
    assert ",5.0,all," in text
    (tmp_path / "t.csv").write_text(text)
    assert verify_table(tmp_path / "t.csv", tmp_path / "p").holds


def test_a_fraction_without_digits_is_no_rounding_of_it(made: Path, tmp_path: Path):
    file = pack(made, "outcomes", tmp_path / "p")
    for value in (0, 1):
        (tmp_path / "t.csv").write_text(f"encoder,probe,quantity,estimate\na.npz,ridge,agg_risk,{value}\n")
        assert not verify_table(tmp_path / "t.csv", file).holds


def test_one_sign_does_not_make_a_table_of_differences(made: Path, tmp_path: Path):
    """It hid the other numbers of its tabular."""
    file, text = pack(made, "outcomes", tmp_path / "p"), (made / "table.tex").read_text(encoding="utf-8")
    for changed in (re.sub(r"\$(\d)", r"$+\1", text, count=1), re.sub(r"\$\d", "$+1", text, count=1)):
        (tmp_path / "t.tex").write_text(changed, encoding="utf-8")
        with pytest.raises(ParameterError, match=r"signs on all numbers.*stands beside"):
            verify_table(tmp_path / "t.tex", file)


def forge(record: Path, text: str) -> None:
    """Write another record with the digests that fit it."""
    document = {name: value for name, value in json.loads(text).items() if name != "sha256"}
    record.write_text(json.dumps(with_digests(document, record.parent)))


def test_the_record_is_not_believed(made: Path, tmp_path: Path):
    """A record whose estimates were changed, with right hashes and packed again: the outcomes tell."""
    shutil.copytree(made / "runs/a", tmp_path / "a")
    record = tmp_path / "a/run.json"
    total = Run.load(tmp_path / "a").decompositions[0].estimates["agg_risk"]
    text = record.read_text()
    forge(record, text.replace(f'"high": {total.high!r}', f'"high": {total.high + 0.1!r}'))
    with pytest.raises(ResultError, match=r"high of .* agg_risk is .* is recorded"):
        write_pack([tmp_path / "a"], tmp_path / "p")
    rows = pl.read_parquet(tmp_path / "a/results.parquet")
    changed = pl.when(pl.col("high") == total.high).then(pl.col("high") + 0.1).otherwise(pl.col("high"))
    rows.with_columns(changed.alias("high")).write_parquet(tmp_path / "a/results.parquet")
    write_pack([tmp_path / "a"], tmp_path / "p")
    (tmp_path / "t.tex").write_text(to_latex(Run.load(tmp_path / "a")))
    cells = verify_table(tmp_path / "t.tex", tmp_path / "p").cells
    assert {c.cell.quantity for c in cells if c.verdict is not Verdict.HOLDS} == {"agg_risk"}
    forge(record, text.replace(f"{total.estimate!r}", f"{total.estimate / 2!r}"))
    with pytest.raises(ResultError, match="not of the same run"):
        write_pack([tmp_path / "a"], tmp_path / "q")


def test_outcomes_that_no_probe_gives_are_found(made: Path, tmp_path: Path):
    """Features beside the outcomes of another run: new probes disagree."""
    other = save_features(tmp_path / "other.npz", seed=5)
    noise = np.load(other)
    np.savez(other, **{**noise, "X_train": noise["X_train"][::-1].copy(), "X_test": noise["X_test"]})
    write_pack([made / "runs/a"], tmp_path / "p", evidence=Evidence.FEATURES, tasks=tasks_of(["-"], [str(other)]))
    (tmp_path / "t.tex").write_text(to_latex(Run.load(made / "runs/a")))
    verdicts = {c.verdict for c in verify_table(tmp_path / "t.tex", tmp_path / "p").cells}
    assert Verdict.NOT_REPRODUCED in verdicts and Verdict.OTHER_NUMBER not in verdicts


def test_equal_runs_give_equal_packs_and_hostile_ones_are_refused(made: Path, tmp_path: Path):
    one = write_pack([made / "runs/a"], tmp_path / "p")
    assert (
        one
        == write_pack([made / "runs/a"], tmp_path / "q")
        == write_pack([made / "runs/a"], tmp_path / "p", force=True)
    )
    with pytest.raises(ParameterError, match="exists"):
        write_pack([made / "runs/a"], tmp_path / "p")
    with pytest.raises(ResultError, match="no run folder"):
        write_pack([tmp_path], tmp_path / "r")
    with pytest.raises(PackError, match="which these features do not hold"):
        task = tasks_of(["-"], [str(save_features(tmp_path / "few.npz", n=90))])
        write_pack([made / "runs/a"], tmp_path / "r", evidence=Evidence.FEATURES, tasks=task)
    with pytest.raises(PackError, match="names no feature bank"):
        tasks_of([made / "runs/a"])
    with pytest.raises(PackError, match="too short"):
        verify_table(made / "table.tex", save_empty(tmp_path))


def seal(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    """A pack of these files: whoever makes one can hash it rightly."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        archive.comment = b"sha256:" + b"0" * 64
    body = path.read_bytes()[:-64]
    path.write_bytes(body + hashlib.sha256(body).hexdigest().encode())
    return path


def members_of(file: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_a_sealed_pack_is_one(made: Path, tmp_path: Path):
    write_pack([made / "runs/a"], tmp_path / "p")
    with open_pack(seal(tmp_path / "q", members_of(tmp_path / "p"))) as pack:
        assert pack.run(pack.runs[0]).path.name == "0"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"folder": "/tmp"}, "names a folder '/tmp'"),
        ({"folder": "runs/0/../../.."}, "names a folder"),
        ({"folder": 3}, "is no pack: TypeError"),
        ({"files": []}, "is no pack: AttributeError"),
        ({"files": None}, "is no pack: AttributeError"),
        ({"files": {}}, "lists no run.json of runs/0"),
        ({"evidence": "moments"}, "lists no features.npz of runs/0"),
        ({"evidence": "all"}, "is no pack: ValueError"),
    ],
)
def test_runs_outside_of_the_pack_are_refused(made: Path, tmp_path: Path, change: dict, said: str):
    write_pack([made / "runs/a"], tmp_path / "p")
    members = members_of(tmp_path / "p")
    document = json.loads(members["manifest.json"])
    document["runs"][0] |= change
    members["manifest.json"] = json.dumps(document).encode()
    with pytest.raises(PackError, match=said), open_pack(seal(tmp_path / "q", members)):
        pass


@pytest.mark.parametrize(
    ("members", "compression", "said"),
    [
        ({"../outside": b"x"}, zipfile.ZIP_STORED, "which no pack holds"),
        ({"runs/0/zeros": b"0" * 1_000_000}, zipfile.ZIP_DEFLATED, "runs/0/zeros is compressed"),
        ({"runs/0/zeros": b"0" * 1_000_000}, zipfile.ZIP_LZMA, "runs/0/zeros is compressed"),
        ({"manifest.json": b"[" * 100_000}, zipfile.ZIP_STORED, "is no pack: RecursionError"),
        ({"manifest.json": b"[]"}, zipfile.ZIP_STORED, "is no pack: TypeError"),
        ({"runs/0/run.json": b"{}"}, zipfile.ZIP_STORED, "is no pack: KeyError"),
    ],
)
def test_what_is_no_pack_is_refused_before_it_is_unpacked(
    tmp_path: Path, members: dict[str, bytes], compression: int, said: str
):
    (tmp_path / "p").mkdir()
    with pytest.raises(PackError, match=said), open_pack(seal(tmp_path / "p" / "hostile", members, compression)):
        pass
    assert os.listdir(tmp_path) == ["p"]


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"train": np.zeros((5, 8), np.float32)}, "'test is not a file"),
        ({"train": np.zeros((5, 8), np.float32), "test": np.zeros((90, 8), np.float32)}, "are of 5 training and 90"),
    ],
)
def test_features_of_other_rows_are_refused(made: Path, tmp_path: Path, arrays: dict, said: str):
    features = tasks_of(["-"], [str(made / "a.npz")])
    write_pack([made / "runs/a"], tmp_path / "p", evidence=Evidence.FEATURES, tasks=features)
    members = members_of(tmp_path / "p")
    np.savez(tmp_path / "f.npz", **arrays)
    members["runs/0/features.npz"] = (tmp_path / "f.npz").read_bytes()
    document = json.loads(members["manifest.json"])
    document["runs"][0]["files"]["features.npz"] = hashlib.sha256(members["runs/0/features.npz"]).hexdigest()
    members["manifest.json"] = json.dumps(document).encode()
    with pytest.raises(PackError, match=said):
        verify_table(made / "table.tex", seal(tmp_path / "q", members))


def test_a_run_that_was_changed_in_a_pack_is_named(made: Path, tmp_path: Path):
    write_pack([made / "runs/a"], tmp_path / "p")
    members = members_of(tmp_path / "p")
    members["runs/0/run.json"] = members["runs/0/run.json"].replace(b'"confidence": 0.95', b'"confidence": 9.95')
    document = json.loads(members["manifest.json"])
    document["runs"][0]["files"]["run.json"] = hashlib.sha256(members["runs/0/run.json"]).hexdigest()
    members["manifest.json"] = json.dumps(document).encode()
    with pytest.raises(PackError, match=r"the pack's run 'a' cannot be read: runs/0: .*confidence 9.95"):
        verify_table(made / "table.tex", seal(tmp_path / "q", members))


def save_empty(folder: Path) -> Path:
    (folder / "empty").write_bytes(b"")
    return folder / "empty"


def test_the_commands(made: Path, tmp_path: Path):
    file = pack(made, "outcomes", tmp_path / "p")
    found = run("verify", made / "table.tex", file)
    assert "32 of 32 numbers hold" in found.stderr and "on trust" in found.stderr
    digest = write_pack([made / "runs/a", made / "runs/b"], tmp_path / "q")
    run("verify", made / "table.tex", file, "--sha256", digest)
    assert (
        "another than the one asked for" in run("verify", made / "table.tex", file, "--sha256", "0" * 64, code=1).stderr
    )
    changed = tmp_path / "t.tex"
    text = (made / "table.tex").read_text()
    changed.write_text(text.replace("a.npz", "z.npz", 1))
    assert "not found" in run("verify", changed, file, code=1).stdout
    assert "given" not in run("pack", made / "runs/a", "-o", tmp_path / "r", "--features", "x", code=2).stdout
    run("pack", made / "runs/a", made / "runs/b", "-o", tmp_path / "r", "--with", "features", "--features", "x", code=2)


def test_a_run_without_outcomes_is_refused(tmp_path: Path):
    y = np.arange(120) % 3
    x = np.random.default_rng(0).standard_normal((120, 4)).astype(np.float32)
    result = decompose(x[:80], y[:80], x[80:], y[80:], probe="ridge")
    from dataclasses import replace

    Run.of(replace(result, judgements=None)).save(tmp_path / "old")
    with pytest.raises(PackError, match="holds no outcomes"):
        write_pack([tmp_path / "old"], tmp_path / "p")


def test_a_hash_is_taken_as_it_is_printed_and_as_the_pack_ends(made: Path, tmp_path: Path):
    digest = write_pack([made / "runs/a"], tmp_path / "p")
    for text in (digest, digest.upper(), f"sha256:{digest}", f" {digest}\n"):
        assert verify_table(made / "table.tex", tmp_path / "p", sha256=text).sha256 == digest
    with pytest.raises(PackError, match="is no SHA-256, which has 64 hexadecimal digits"):
        verify_table(made / "table.tex", tmp_path / "p", sha256="abc")
    with pytest.raises(PackError, match="another than the one asked for"):
        verify_table(made / "table.tex", tmp_path / "p", sha256="0" * 64)
