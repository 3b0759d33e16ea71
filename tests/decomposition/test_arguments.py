"""What `decompose` is given by hand: converted, refused in words, or saved as what can be read back."""

import pickle
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from ssl_risk_rs import (
    FeatureBank,
    NotComparableError,
    ParameterError,
    ResultError,
    Run,
    Settings,
    ShapeError,
    compare,
    create_dataset,
    create_encoder,
    decompose,
    explain,
    extract,
    import_bank,
    knn,
    read_results,
)
from ssl_risk_rs._notes import Note
from ssl_risk_rs.decomposition.again import settings_like
from ssl_risk_rs.decomposition.decomposing import decompose_task
from ssl_risk_rs.decomposition.intervals import Uncertainty, find_bottleneck
from ssl_risk_rs.decomposition.task import make_task
from ssl_risk_rs.errors import SslRiskError
from ssl_risk_rs.probes import span_solver
from ssl_risk_rs.results.explain import Verdict
from ssl_risk_rs.results.record import Overlap
from ssl_risk_rs.workflow.evaluate import evaluate

pd = pytest.importorskip("pandas")


@pytest.fixture(scope="module")
def rows() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y = np.arange(180) % 3
    x = (rng.standard_normal((180, 5)) + 2 * np.eye(5)[y]).astype(np.float32)
    return x[:120], y[:120], x[120:], y[120:]


def ridge(rows, **options):
    return decompose(*rows, probe="ridge", n_threads=1, **options)


@pytest.mark.parametrize("kind", ["pandas", "polars"])
def test_frames_must_have_the_same_columns_in_the_same_order(rows, kind):
    x, y, x_test, y_test = rows
    names = [f"f{i}" for i in range(5)]
    make = {
        "pandas": lambda values, called: pd.DataFrame(values, columns=called),
        "polars": lambda values, called: pl.DataFrame(values, schema=called),
    }[kind]
    train, test = make(x, names), make(x_test, names)
    plain = ridge(rows).estimates["agg_risk"]
    assert ridge((train, y, test, y_test)).estimates["agg_risk"] == plain
    assert ridge((train, y, x_test, y_test)).estimates["agg_risk"] == plain  # arrays have no names
    swapped = test[names[::-1]]
    with pytest.raises(
        ParameterError, match=r"X_train and X_test have other columns.*column 0 is 'f0' in X_train and 'f4'"
    ):
        ridge((train, y, swapped, y_test))
    with pytest.raises(ParameterError, match="supervised and supervised_test have other columns"):
        ridge(rows, supervised=train, supervised_test=swapped)
    with pytest.raises(ParameterError, match="control and control_test have other columns"):
        ridge(rows, control=(train, swapped))


def test_numbers_of_numpy_are_saved_as_numbers(rows, tmp_path):
    options = {
        "n_folds": np.int64(4),
        "n_subsets": np.uint8(2),
        "confidence": np.float32(0.9),
        "floor": np.float64(1e-4),
    }
    for seed in np.arange(2):
        found = ridge(rows, seed=seed, random_counts=np.bool_(True), **options)
        again = Run.load(found.save(tmp_path / str(seed)))
        assert str(again) == str(found) and again.main.method.seed == int(seed)
    few = ridge(rows, shots=np.array([5, 3]), draws=np.int64(4), labels_for=np.array([0.3]))
    assert [shot.size.name for shot in few.shots] == ["3", "5"] or len(few.shots) == 2
    assert Settings(shots=np.array([5, 3])) == Settings(shots=(5, 3))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"name": 5}, "name must be text, got 5"),
        ({"name": ["a"]}, "name must be text"),
        ({"name": "\ud800"}, "no UTF-8 text can hold"),
        ({"random_counts": 1}, "random_counts must be True or False, got 1"),
        ({"midpoint": "no"}, "midpoint must be True or False"),
        ({"overlap": "ignore"}, "overlap must be 'refuse' or 'warn'"),
        ({"target_kind": "class"}, "target_kind must be 'auto', 'classes', 'numbers' or 'labels', got 'class'"),
        ({"device": None}, "device must be text, such as 'auto', 'cpu' or 'cuda:1', got None"),
        ({"shots": "5", "labels_for": 0.1}, "labels_for must be errors, such as"),
        ({"shots": "5", "labels_for": ("a",)}, "an error of 'a'"),
        ({"supervised_test": "nonsense"}, "give its training rows too, supervised="),
        ({"metrics": None}, "metrics must be names"),
        ({"sample_ids": ["\udcff", *map(str, range(179))]}, r"sample_ids\[0\] is .*, which no UTF-8 text can hold"),
        ({"control": [np.zeros((120, 2))]}, "control has 1 parts; of arrays it is a pair"),
    ],
)
def test_what_no_record_could_hold_is_refused_before_a_fit(rows, options, said):
    with pytest.raises(SslRiskError, match=said):
        ridge(rows, **options)


def test_a_device_of_torch_is_its_name(rows):
    torch = pytest.importorskip("torch")
    assert ridge(rows, device=torch.device("cpu")).estimates == ridge(rows).estimates


def test_a_run_of_nothing_is_refused(tmp_path):
    with pytest.raises(ParameterError, match="no probe is named"):
        evaluate("pixels:8", "digits", probes=(), store=tmp_path)
    with pytest.raises(ResultError, match="without decomposition"):
        Run(()).save(tmp_path / "run")


def test_a_result_tells_itself_in_a_line_and_as_a_frame(rows):
    found = ridge(rows, name="mine")
    assert repr(found).startswith("<Decomposition of mine: ridge probe, strict protocol, aggregated risk 0.")
    assert found.frame().equals(Run.of(found).frame())


def test_scalars_are_every_estimate_by_name(rows):
    run = Run.of(ridge(rows), decompose(*rows, probe="logistic", metrics="balanced,log_loss"))
    found, frame = run.scalars(), run.frame()
    assert len(found) == frame.height
    assert found["ridge/agg_risk"] == run.of_probe("ridge").estimate("agg_risk")
    with pytest.raises(ParameterError, match="there is no other probe, only "):
        run.of_probe("other")
    assert found["logistic/log_loss/agg_risk"] == run.main.metric("log_loss").estimates["agg_risk"].estimate
    assert sorted(found.values()) == pytest.approx(sorted(frame["estimate"]), abs=0)


def test_compare_and_explain_say_what_they_take(rows, tmp_path):
    found = ridge(rows)
    folder = found.save(tmp_path / "a[1]")
    ridge(rows, seed=3).save(tmp_path / "a1")
    assert str(Run.load(folder)) == str(found)  # the name is no pattern that a1 matches
    assert set(read_results(folder)["run"]) == {"a[1]"}
    assert explain(str(folder)).result.estimates == explain(folder).result.estimates == found.estimates
    for given in (found, Run.of(found), [found]):
        with pytest.raises(ParameterError, match=r"is no path; save it first: explain\(result\.save\(folder\)\)"):
            explain(given)
    with pytest.raises(ParameterError, match=r"is neither a run nor a decomposition; Run.load"):
        compare([str(folder), found])
    with pytest.raises(ParameterError, match="at least two results, got 1"):
        compare(found)
    other = ridge(rows, name="other")
    assert compare(result for result in (found, other)).encoders == ("features", "other")


def test_a_twin_of_arrays_beside_a_bank_whose_parts_are_mixed(rows, tmp_path):
    x, y = np.concatenate([rows[0], rows[2]]), np.concatenate([rows[1], rows[3]])
    np.savez(tmp_path / "f.npz", X=x, y=y)
    bank = import_bank(tmp_path / "f.npz", tmp_path / "bank")
    assert isinstance(bank, FeatureBank)
    train, test = bank.rows("train"), bank.rows("test")
    assert int(train[-1]) + 1 != len(train)
    whole = decompose(bank, supervised=x, probe="ridge", n_threads=1)
    apart = decompose(x[train], y[train], x[test], y[test], supervised=x[train], probe="ridge", n_threads=1,
                      sample_ids=[bank.sample_ids()[i] for i in (*train, *test)])  # fmt: skip
    assert whole.estimate("approx") == pytest.approx(apart.estimate("approx"), abs=1e-9)
    with pytest.raises(ShapeError, match="expected 180: training and test rows of the bank are mixed"):
        decompose(bank, supervised=x[train], probe="ridge")


def test_values_at_odd_addresses_are_copied(rows, tmp_path):
    x, y, x_test, y_test = rows
    (tmp_path / "x").write_bytes(b"......" + x.tobytes())
    odd = np.memmap(tmp_path / "x", np.float32, "r", offset=6, shape=x.shape)
    assert ridge((odd, y, x_test, y_test)).estimates == ridge(rows).estimates


@pytest.mark.parametrize("shuffled", [True, False])
def test_a_twin_whose_rows_are_in_another_order_is_suspected(shuffled: bool) -> None:
    rng = np.random.default_rng(0)
    y, y_test = np.arange(600) % 4, np.arange(400) % 4
    centres = 2 * rng.standard_normal((4, 6))
    x, x_test = ((centres[v] + rng.standard_normal((len(v), 6))).astype(np.float32) for v in (y, y_test))
    order = rng.permutation(600) if shuffled else np.arange(600)
    result = decompose(x, y, x_test, y_test, supervised=x[order], supervised_test=x_test, probe="ridge", n_threads=1)
    said = [note.sentence() for note in result.notes if note.code == "twin_at_chance"]
    assert len(said) == shuffled and all("are the twin's rows the same ones, in the same order?" in s for s in said)


@pytest.mark.parametrize("shared", [0, 3])
def test_identifiers_on_both_sides_of_train_and_test_are_counted(shared: int) -> None:
    rng = np.random.default_rng(0)
    y, y_test = np.arange(120) % 3, np.arange(60) % 3
    x, x_test = (rng.standard_normal((len(v), 4)).astype(np.float32) for v in (y, y_test))
    ids = [*(f"a{i}" for i in range(120)), *(f"a{i}" if i < shared else f"b{i}" for i in range(60))]
    result = decompose(x, y, x_test, y_test, sample_ids=ids, probe="ridge", n_threads=1)
    said = [note.sentence() for note in result.notes if note.code == "shared_ids"]
    assert [s.split(". If")[0] for s in said] == (
        ["3 identifiers are of a training row and of a test row (for example a0)"] if shared else []
    )


def test_a_weak_twin_beside_a_large_class_is_not_suspected() -> None:
    """Its probe errs as one that predicts the large class does, though it tells much."""
    rng = np.random.default_rng(0)
    y, y_test = (rng.random(n) < 0.1 for n in (800, 600))
    draw = [np.column_stack([4.0 * v, 1.5 * v]) + rng.standard_normal((len(v), 2)) for v in (y, y_test)]
    x, x_test = (np.float32(part[:, :1]) for part in draw)
    twin = [np.float32(part[:, 1:]) for part in draw]
    result = decompose(x, y, x_test, y_test, supervised=twin[0], supervised_test=twin[1], probe="ridge", n_threads=1)
    assert "twin_at_chance" not in {note.code for note in result.notes}


def test_an_error_of_two_arguments_can_be_pickled() -> None:
    error = pickle.loads(pickle.dumps(NotComparableError("group", "other groups")))
    assert (error.field, str(error)) == ("group", "other groups")


def test_settings_of_a_record_with_a_tolerance_that_is_refused_now_are_read() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(120) % 3
    x = (np.eye(3)[y] + rng.standard_normal((120, 3))).astype(np.float32)
    result = decompose(x, y, x[:60] + np.float32(0.1), y[:60], n_threads=1)
    old = replace(result, method=replace(result.method, tol=1e-8, error_tol=None))
    assert settings_like(old).tol == 1e-7


def _patients():
    rng = np.random.default_rng(0)
    train, test = np.arange(240) % 24, 100 + np.arange(120) // 5
    of = rng.normal(size=(200, 6)) * 3
    labels = rng.integers(0, 2, 200)
    x = {part: (of[g] + rng.normal(size=(len(g), 6))).astype(np.float32) for part, g in (("a", train), ("b", test))}
    return (x["a"], labels[train], x["b"], labels[test]), train, test


@pytest.mark.parametrize(
    "of",
    [
        torch.tensor,
        lambda g: torch.tensor(g, dtype=torch.int32),
        lambda g: [torch.tensor(i) for i in g],
        lambda g: g.astype(float),
        lambda g: g[:, None],
        lambda g: pl.Series(g),
        lambda g: pl.DataFrame({"patient": g}),
        lambda g: [str(i).encode() for i in g],
    ],
)
def test_groups_mean_the_same_whatever_holds_them(of):
    rows, train, test = _patients()
    expected = decompose(*rows, groups=(train.tolist(), test.tolist()), probe="ridge")
    found = decompose(*rows, groups=(of(train), of(test)), probe="ridge")
    assert found.estimate("risk_as") == expected.estimate("risk_as")
    assert found.estimates["risk_us"].n_groups == 24
    with pytest.raises(ParameterError, match="24 groups have training and test rows"):
        decompose(*rows, groups=(of(train), of(test - 100)), probe="ridge")
    with pytest.raises(ParameterError, match="24 groups have training and test rows"):
        decompose(*rows, groups=(of(train), test - 100), probe="ridge")


@pytest.mark.parametrize(
    "of", [torch.tensor, lambda i: i.astype(str), lambda i: [str(j).encode() for j in i], pl.Series]
)
def test_sample_ids_mean_the_same_whatever_holds_them(of):
    rows, _, _ = _patients()
    ids = np.random.default_rng(1).permutation(360)
    expected = decompose(*rows, sample_ids=ids.tolist(), probe="ridge").estimate("risk_as")
    assert decompose(*rows, sample_ids=of(ids), probe="ridge").estimate("risk_as") == expected


@pytest.mark.parametrize(
    ("groups", "error", "message"),
    [
        (lambda g, h: (g, h, h), ParameterError, "are a pair"),
        (lambda g, h: np.concatenate([g, h]), ParameterError, "are a pair"),
        (lambda g, h: {"train": g, "test": h}, ParameterError, "are a pair"),
        (lambda g, h: (np.stack([g, g], 1), h), ShapeError, r"shape \(240, 2\), expected one entry a row"),
        (lambda g, h: ("patient", h), ParameterError, "groups of the train rows are a str"),
        (lambda g, h: (g[:-1], h), ShapeError, "239 entries, expected 240"),
    ],
)
def test_groups_of_another_form_are_refused(groups, error, message):
    rows, train, test = _patients()
    with pytest.raises(error, match=message):
        decompose(*rows, groups=groups(train, test), probe="ridge")


@pytest.mark.parametrize("shots", [5.0, 0.05, [0.5]])
def test_shots_that_are_no_numbers_of_rows_are_refused(shots):
    rows, _, _ = _patients()
    with pytest.raises(ParameterError, match="neither a number of rows"):
        decompose(*rows, shots=shots, probe="ridge")


@pytest.mark.parametrize("frame", [pl.DataFrame, pd.DataFrame])
def test_targets_are_matched_by_the_names_of_their_columns(frame):
    rows, _, _ = _patients()
    y, y_test = ({"age": 10 * x[:, 0], "dose": x[:, 1] + 1} for x in (rows[0], rows[2]))
    with pytest.raises(ParameterError, match="column 0 is 'age' in y and 'dose' in y_test"):
        decompose(rows[0], frame(y), rows[2], frame(y_test)[["dose", "age"]], probe="ridge")
    constant = {**y, "dose": np.ones(240)}
    with pytest.raises(ParameterError, match="dose"):  # called by its name
        decompose(rows[0], frame(constant), rows[2], frame(y_test), probe="ridge")


def test_a_part_without_interval_is_not_surely_the_largest(tmp_path):
    """Two groups are held out: probe generalization and encoder generalization have no interval."""
    rng = np.random.default_rng(0)
    train, test = np.arange(200) // 20, 100 + np.arange(60) // 12
    of, labels = rng.normal(size=(200, 6)) * 2, np.arange(200) % 2
    x, x_test = ((of[g] + rng.normal(size=(len(g), 6))).astype(np.float32) for g in (train, test))
    found = decompose(x, labels[train], x_test, labels[test], groups=(train, test), probe="ridge")
    assert np.isnan(found.estimates["probe_gen"].low) and found.bottleneck.quantity == "probe_gen"
    assert found.bottleneck.probability is None and not found.floor.separable
    text = str(found)
    assert "← largest" not in text and "is negative (it has no interval)" in text
    assert "There is 1 held-out subset instead of 3" in text and "5 groups only: intervals that rest" in text
    told = explain(found.save(tmp_path / "run"), gap=False)
    assert "that it is the largest, over samples" not in str(told)
    assert "nothing says how sure that is" in str(replace(told, verdict=Verdict.LABELS))


def test_few_groups_leave_room_for_which_part_is_the_largest():
    """Samples spread as t of the components' degrees of freedom, not as normal numbers."""
    rng = np.random.default_rng(1)
    train, test = np.arange(480) // 20, 100 + np.arange(240) // 20
    of, labels = rng.normal(size=(200, 6)), np.arange(200) % 2
    x, x_test = ((of[g] + 2 * rng.normal(size=(len(g), 6))).astype(np.float32) for g in (train, test))
    found = decompose(x, labels[train], x_test, labels[test], groups=(train, test), probe="ridge")
    uncertain = Uncertainty(found.estimates, found.covariance, found.covariance_of, 0.0, 0.0, ())
    normal = {name: replace(e, df=np.inf) for name, e in found.estimates.items()}
    p, p_normal = (
        find_bottleneck(replace(uncertain, estimates=e), found.floor, seed=0).probability
        for e in (found.estimates, normal)
    )
    assert p == found.bottleneck.probability
    assert abs(p - 0.5) < abs(p_normal - 0.5) and min(e.df for e in found.estimates.values()) < 10


def test_a_bank_says_what_it_is_of(tmp_path):
    """As the command line does of the same banks: names, the twin, the control; also when it is saved and compared."""
    dataset = create_dataset("digits", limit="40/class")
    names = ("demo_ssl", "demo_supervised", "pixels:8")
    banks = [extract(create_encoder(name), dataset, store=tmp_path / "store") for name in names]
    found = decompose(banks[0], supervised=banks[1], control=banks[2], probe="ridge")
    assert str(found).startswith("demo_ssl on digits · ridge probe")
    assert "twin: demo_supervised" in str(found) and str(found).count("pixels:8") == 1
    assert "features on arrays" not in found._repr_html_()
    folder = found.save(tmp_path / "run")
    loaded = Run.load(folder)
    assert str(loaded) == str(found) and loaded.provenance == found.provenance
    assert set(loaded.provenance.banks) == {"encoder", "supervised", "control"}
    assert compare([found, decompose(banks[2], probe="ridge")]).encoders == ("demo_ssl", "pixels:8")
    assert decompose(banks[0], probe="ridge", name="mine").provenance.encoder == "mine"


def test_few_rows_of_many_classes_hold_out_fewer_subsets():
    """Three subsets would have five rows of ten classes: one is held out, unless another number is asked for."""
    rng = np.random.default_rng(0)
    y, y_test = np.repeat(np.arange(10), 8), np.repeat(np.arange(10), 20)
    centres = 2 * rng.normal(size=(10, 12))
    x, x_test = ((centres[c] + rng.normal(size=(len(c), 12))).astype(np.float32) for c in (y, y_test))
    found = decompose(x, y, x_test, y_test, probe="ridge")
    assert (found.sizes.subsets, found.sizes.subset_rows) == (1, (16,))
    assert "There is 1 held-out subset instead of 3, each of which would have fewer rows" in str(found)
    fewer = (
        r"subsets of 5 rows, fewer than the 10 classes; give 150 training rows or more, or fewer splits \(at most 1\)$"
    )
    with pytest.raises(ParameterError, match=fewer):
        decompose(x, y, x_test, y_test, probe="ridge", n_subsets=3)
    few = np.arange(0, 80, 4)
    with pytest.raises(ParameterError, match=r"fewer than the 10 classes; give 50 training rows or more$"):
        decompose(x[few], y[few], x_test, y_test, probe="ridge")
    enough, one = np.arange(80) % 8 < 5, np.arange(0, 200, 20)  # 50 rows; a test row of each class
    decompose(x[enough], y[enough], x_test, y_test, probe="ridge")
    rare_test = r"^80 training and 9 test rows give .* of 9 rows, fewer than the 10 classes; give 10 test rows or more$"
    with pytest.raises(ParameterError, match=rare_test):
        decompose(x, y, x_test[one[:9]], y_test[one[:9]], probe="ridge", n_subsets=1)
    with pytest.raises(ParameterError, match=r"give a subset_size of 10 or more$"):
        decompose(x, y, x_test, y_test, probe="ridge", subset_size=5)


@pytest.mark.parametrize(
    "of",
    [
        lambda g: np.array([b"" if i < 5 else str(j).encode() for i, j in enumerate(g)]),
        lambda g: pd.Series(pd.array([None if i < 5 else int(j) for i, j in enumerate(g)], dtype="Int64")),
        lambda g: pd.Series([pd.NA if i < 5 else f"p{j}" for i, j in enumerate(g)], dtype="string"),
        lambda g: pl.Series([None if i < 5 else int(j) for i, j in enumerate(g)]),
        lambda g: torch.tensor([float("nan") if i < 5 else float(j) for i, j in enumerate(g)]),
        lambda g: np.ma.masked_array(g, np.arange(len(g)) < 5),
    ],
)
def test_rows_without_group_are_refused_whatever_holds_the_groups(of):
    rows, train, test = _patients()
    with pytest.raises(ParameterError, match="5 of 360 rows have no group"):
        decompose(*rows, groups=(of(train), test), probe="ridge")


def test_frames_of_one_column_of_labels_may_be_called_otherwise():
    rows, _, _ = _patients()
    x, y, x_test, y_test = rows
    expected = decompose(*rows, probe="ridge").estimate("risk_us")
    found = decompose(x, pl.DataFrame({"y_train": y}), x_test, pl.DataFrame({"y_test": y_test}), probe="ridge")
    assert found.estimate("risk_us") == expected


def test_groups_keep_their_own_rule_of_how_many_subsets_there_are():
    """Groups hold more rows than are planned: 140 rows of 10 classes give three subsets of a group each."""
    rng = np.random.default_rng(0)
    groups = np.arange(140) // 10
    y, y_test = np.arange(140) % 10, np.arange(100) % 10
    x, x_test = (rng.normal(size=(len(c), 6)).astype(np.float32) + c[:, None] for c in (y, y_test))
    found = decompose(x, y, x_test, y_test, groups=(groups, 100 + np.arange(100) // 10), probe="ridge")
    assert found.sizes.subset_rows == (10, 10, 10)
    assert not [note for note in found.notes if note.code in ("small_subsets", "fewer_subsets")]


def test_names_of_the_user_are_no_grammar():
    note = Note("groups_unused", {"column": "Day 1 rows are"})
    assert "Day 1 rows are" in note.sentence()
    lacking = Note("uncovered_classes", {"classes": 1, "total": 31})
    assert lacking.sentence().startswith("1 of 31 classes are too small")
    values = {"file": "cohort 1 images.csv", "n_test": 8, "n": 24, "share": 0.3, "seed": 0, "group": "Day 1 rows"}
    assert Note("cut_made_by_group", values).sentence() == (
        "cohort 1 images.csv does not tell train from test: 8 of 24 rows, in whole groups of 'Day 1 rows' (about 30%, "
        "seed 0), are set aside as test rows."
    )
    assert Note("text", {"text": "\0" + "0\0 1 rows are"}).sentence() == "\0" + "0\0 1 rows are"
    assert Note("overlap", {"count": 1}).sentence().startswith("1 test image has the bytes")
    assert Note("overlap", {"count": 21}).sentence().startswith("21 test images have the bytes")


def test_loaded_decompositions_know_where_they_come_from(tmp_path):
    dataset = create_dataset("digits", limit="40/class")
    bank = extract(create_encoder("demo_ssl"), dataset, store=tmp_path / "store")
    folder = decompose(bank, probe="ridge").save(tmp_path / "run")
    loaded = Run.load(folder)
    assert str(Run.of(loaded.main)) == str(loaded) and loaded.main.provenance == loaded.provenance
    again = Run.load(loaded.main.save(tmp_path / "again"))
    assert again.provenance.banks == loaded.provenance.banks and again.provenance.data == "digits"


def test_repeated_rows_beside_a_control_are_counted_once(rows):
    x, y, xt, yt = rows
    xt = np.concatenate([xt[:-3], x[:3]])
    yt = np.concatenate([yt[:-3], y[:3]])
    found = decompose(x, y, xt, yt, probe="ridge", control=(x[:, :2], xt[:, :2]))
    assert found.sizes.overlap == Overlap("features", 3)
    assert [note.values["count"] for note in found.notes if note.code == "repeated_rows"] == [3]
    assert found.control.sizes.overlap == found.sizes.overlap


def test_training_rows_that_repeat_others_are_told(rows):
    """A probe of the others knows them by their copies, so that its own generalization hides in the encoder's."""
    x, y, xt, yt = rows
    codes = [note.code for note in decompose(x, y, xt, yt, probe="ridge").notes]
    assert "repeated_training_rows" not in codes
    double = np.repeat(np.arange(len(x)), 2)
    double[-1] = 0
    found = decompose(x[double], y[double], xt, yt, probe="ridge")
    (note,) = (note for note in found.notes if note.code == "repeated_training_rows")
    again = len(double) - len(np.unique(x[double], axis=0))
    assert note.values == {"count": again, "total": len(double)} and again == len(x)
    groups = (double, 10_000 + np.arange(len(xt)))  # copies stay together
    held = decompose(x[double], y[double], xt, yt, probe="ridge", groups=groups)
    assert "repeated_training_rows" not in [note.code for note in held.notes]


@pytest.mark.parametrize(
    ("repeats", "grouped", "codes"),
    [
        (0, False, set()),
        (3, False, {"repeated_training_images"}),
        (None, False, {"repeated_training_rows"}),  # a bank of an earlier release
        (3, True, set()),  # copies are of one group each
    ],
)
def test_training_images_that_repeat_others_are_told(rows, repeats, grouped, codes):
    x, y, xt, yt = rows
    double = np.repeat(np.arange(len(x)), 2)
    groups = (double, 10_000 + np.arange(len(xt))) if grouped else None
    task = replace(make_task(x[double], y[double], xt, yt, groups=groups), overlap=0, repeats=repeats)
    found = decompose_task(task, settings=Settings(probe="ridge"))
    assert {note.code for note in found.notes if note.code.startswith("repeated_training")} == codes
    assert found.sizes.overlap == Overlap("images", 0)


def test_features_without_a_column_are_refused(rows):
    with pytest.raises(ParameterError, match="no features"):
        decompose(rows[0][:, :0], rows[1], rows[2][:, :0], rows[3], probe="ridge")


def test_images_that_a_target_leaves_out_are_no_overlap(rows):
    """A bank counts images of all its rows; those that repeat may lack the target."""
    x, y, xt, yt = rows
    task = replace(make_task(x, y, xt, yt), overlap=5)
    result = decompose_task(task, settings=Settings(probe="ridge", overlap="warn"))
    assert result.sizes.overlap == Overlap("features", 0)
    assert "no test row equals a training row in every feature" in str(result)


def test_an_unknown_option_is_named_with_the_one_that_was_meant(rows):
    with pytest.raises(TypeError, match=r"^decompose\(\) has no option 'probes'; did you mean 'probe'\?$"):
        decompose(*rows, probes="ridge")
    with pytest.raises(TypeError, match=r"^decompose\(\) has no option 'xyz'; its options are probe, protocol, "):
        decompose(*rows, xyz=1)
    with pytest.raises(TypeError, match=r"^extract\(\) has no option 'batchsize'; did you mean 'batch_size'\?$"):
        extract(create_encoder("pixels:2"), create_dataset("digits"), batchsize=3)


def test_sums_that_will_not_fit_into_memory_are_announced(monkeypatch, caplog):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((120, 6)).astype(np.float32), np.arange(120) % 3
    decompose(x, y, x[:60], y[:60], probe="ridge")
    assert not caplog.records
    monkeypatch.setattr(span_solver, "SMALL_SUMS", 0)
    # 5 folds and 3 subsets, and no cell for the test rows
    monkeypatch.setattr(span_solver, "free_bytes", lambda: 8 * 36 * (8 + span_solver.DESIGNS))
    decompose(x, y, x[:60], y[:60], probe="ridge")
    assert not caplog.records
    monkeypatch.setattr(span_solver, "free_bytes", lambda: 8 * 36 * (8 + span_solver.DESIGNS) - 1)
    decompose(x, y, x[:60], y[:60], probe="ridge")
    (record,) = caplog.records
    assert record.getMessage().startswith("Sums of products of 6 features need about 0.0 GB, and 0.0 GB are free.")
    wide = rng.standard_normal((2, 60, 200))
    decompose(wide[0], y[:60], wide[1], y[:60], probe="ridge")
    assert len(caplog.records) == 1  # fewer rows than features are kept as they are
    decompose(x, 1.5 * y, x[:60], 1.5 * y[:60], probe="ridge", target_kind="numbers")
    assert len(caplog.records) == 2  # numbers to predict take the same sums
    monkeypatch.setattr(span_solver, "SMALL_SUMS", 8 * 36 * 12)
    decompose(x, y, x[:60], y[:60], probe="ridge")
    assert len(caplog.records) == 2
    given = Settings(shots=(size for size in ("30", 5)))
    assert given.shots == ("30", "5")


@pytest.mark.parametrize(
    ("ways", "asked"),
    [
        ([{}, {"metrics": "error"}, {"metrics": ["error"]}], {}),
        ([{"metrics": m} for m in ("balanced,top5", " top5, error,balanced", ("top5", "balanced"))],
         {"metrics": ["balanced", "error", "top5"]}),
        ([{"shots": s} for s in ("30,5", "5, 30", (30, 5), ["5", 30], np.array([30, 5]))], {"shots": ["30", "5"]}),
        ([{"shots": "30", "labels_for": e} for e in ((0.1, 0.2), [0.2, 0.1])],
         {"shots": ["30"], "labels_for": [0.1, 0.2]}),
    ],
)  # fmt: skip
def test_one_question_has_one_form_however_it_is_given(ways, asked):
    for given in ways:
        assert Settings(**given).asked() == asked


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_test_row_that_is_not_finite_has_its_own_number(rows, value):
    x, y, xt, yt = rows
    bad = xt.copy()
    bad[3, 1] = value
    said = rf"X_test: row 3, feature 1 is {'NaN' if np.isnan(value) else value}; remove the row"
    for judge in (lambda: decompose(x, y, bad, yt, probe="ridge"), lambda: knn(x, y, bad, yt)):
        with pytest.raises(ParameterError, match=said):
            judge()
    with pytest.raises(ParameterError, match="supervised_test: row 3, feature 1 is"):
        decompose(x, y, xt, yt, supervised=x, supervised_test=bad, probe="ridge")
    # a row without a label is in nothing
    labels = yt.astype(float)
    labels[3] = np.nan
    decompose(x, y.astype(float), bad, labels, probe="ridge", drop_unlabelled=True, n_threads=1)


def test_settings_that_are_none_are_told(rows):
    with pytest.raises(TypeError, match=r"decompose\(\) got a dict as settings; hand over \*\*settings"):
        decompose(*rows, settings={"probe": "ridge"})
    with pytest.raises(TypeError, match=r"got a str as settings; hand over keyword options"):
        decompose(*rows, settings="ridge")
