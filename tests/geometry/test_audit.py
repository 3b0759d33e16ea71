"""Near-duplicates: the search against all pairs, the rule's false share, and what leaving rows out changes."""

import json
import math

import numpy as np
import pytest
from click.testing import CliRunner
from ssl_risk_rs import decompose
from ssl_risk_rs.cli import main
from ssl_risk_rs.decomposition.settings import Settings
from ssl_risk_rs.decomposition.task import make_task
from ssl_risk_rs.errors import ParameterError, ShapeError
from ssl_risk_rs.geometry import SampleRows, find_matches
from ssl_risk_rs.geometry.measuring import _of_array
from ssl_risk_rs.geometry.nearest import _by_chance, _threshold
from ssl_risk_rs.probes.features import Features
from ssl_risk_rs.workflow.audit import _change, audit_task


def rows(x):
    return SampleRows(Features.of_arrays(np.ascontiguousarray(x, np.float32)), np.arange(len(x), dtype=np.uint32))


def cosines(a, b):
    a, b = (np.asarray(v, float) / np.linalg.norm(np.asarray(v, float), axis=1, keepdims=True) for v in (a, b))
    return a @ b.T


def world(n=600, m=200, d=16, seed=0):
    rng = np.random.default_rng(seed)
    centres = 1.5 * rng.standard_normal((4, d))
    y, y_test = rng.integers(0, 4, n), rng.integers(0, 4, m)
    x, x_test = (rng.standard_normal((len(v), d)) + centres[v] for v in (y, y_test))
    return x.astype(np.float32), y, x_test.astype(np.float32), y_test


def test_matches_are_those_of_all_pairs():
    x, _, x_test, _ = world()
    x_test[:5] = x[10:15]
    found = find_matches(rows(x_test), rows(x), false_share=0.05)
    of_all, among = cosines(x_test, x), cosines(x, x)
    np.fill_diagonal(among, -1)
    # float64 of a row found by float32 products, on AMX of 16 bits
    np.testing.assert_allclose(found.nearest, of_all.max(1), atol=3e-5)
    np.testing.assert_allclose(found.null, np.sort(among.max(1)), atol=3e-5)
    assert (found.null >= found.threshold).sum() <= 0.05 * 601
    next_below = found.null[found.null < found.threshold][-1]
    assert (found.null >= next_below).sum() > 0.05 * 601
    listed = np.flatnonzero(found.nearest > found.threshold)
    assert sorted(found.queries.tolist()) == listed.tolist()
    assert found.similarity.tolist() == sorted(found.similarity.tolist(), reverse=True)
    assert found.queries[:5].tolist() == [0, 1, 2, 3, 4] and found.base[:5].tolist() == [10, 11, 12, 13, 14]
    assert found.similarity[:5].tolist() == [1.0] * 5  # equal rows, exactly
    expected = [(1 + (found.null >= s).sum()) / 601 for s in found.similarity]
    assert found.p_value.tolist() == expected


@pytest.mark.parametrize("offset", [1e3, 1e4])
def test_a_common_mean_hides_no_copy(offset):
    """Cosines of all pairs lie within 1e-6 and 1e-8: float32 products told none apart, and copies were not listed."""
    rng = np.random.default_rng(5)
    x, x_test = (offset + rng.standard_normal((n, 16)) for n in (3000, 150))
    x, x_test = x.astype(np.float32), x_test.astype(np.float32)
    x_test[:50] = x[100:150]
    found = find_matches(rows(x_test), rows(x), false_share=0.01)
    of_all, among = cosines(x_test, x), cosines(x, x)
    np.fill_diagonal(among, -1)
    spread = 1 - of_all.mean()
    np.testing.assert_allclose(found.nearest, of_all.max(1), rtol=0, atol=2e-5 * spread)
    np.testing.assert_allclose(found.null, np.sort(among.max(1)), rtol=0, atol=2e-5 * spread)
    assert found.base[:50].tolist() == list(range(100, 150)) and (found.similarity == 1).sum() == 50


def test_a_multiple_of_a_row_is_no_copy():
    """Its cosine is 1 but for rounding, which decided whether it was listed."""
    x, _, x_test, _ = world(100, 40)
    x_test[:5], x_test[5:25] = x[10:15], np.arange(2, 22)[:, None] * x[20:40]
    found = find_matches(rows(x_test), rows(x))
    assert found.threshold == 1 and sorted(found.queries.tolist()) == list(range(5))


@pytest.mark.parametrize(("n", "share"), [(300, 0.05), (300, 0.004), (300, 0.007), (300, 0.0101)])
def test_the_share_that_is_listed_by_chance_is_the_one_said(n, share):
    """Rows drawn alike: the most similar ones are each other's nearest, so that the k-th largest of their similarities
    lists (k + 1)/(n + 1) of the test rows for odd k, twice as many as it says at k = 1."""
    listed, said, within = [], [], 0
    for seed in range(60):
        x, _, x_test, _ = world(n, 1000, 16, seed)
        found = find_matches(rows(x_test), rows(x), false_share=share)
        assert found.expected <= share * 1000 + 1e-9  # rounding of doubles
        listed.append(len(found.queries))
        said.append(found.expected)
        within += found.low <= listed[-1] <= found.high
    error = np.std(listed, ddof=1) / math.sqrt(60)
    assert abs(np.mean(listed) - np.mean(said)) <= 3 * error
    assert within >= 52  # 57 of 60 are expected


def test_copies_in_the_base_raise_the_threshold():
    x, _, x_test, _ = world()
    x[300:] = x[:300]
    found = find_matches(rows(x_test), rows(x), false_share=0.05)
    assert (found.threshold, len(found.queries)) == (1.0, 0)
    x_test[0] = x[0]
    found = find_matches(rows(x_test), rows(x), false_share=0.05)
    assert found.queries.tolist() == [0]  # a copy is listed whatever the threshold


def test_a_sample_of_the_base_gives_the_threshold():
    x, _, x_test, _ = world()
    found = find_matches(rows(x_test), rows(x), null_rows=100, seed=1, false_share=0.1)
    assert (found.null_rows, found.n_base) == (100, 600)
    assert find_matches(rows(x_test), rows(x), null_rows=100, seed=2, false_share=0.1).threshold != found.threshold


def test_rows_of_zeros_match_nothing():
    x, _, x_test, _ = world()
    x_test[3] = 0
    x[7] = 0
    found = find_matches(rows(x_test), rows(x), threshold=-1.0)
    assert found.zero_rows == 1 and 3 not in found.queries and 7 not in found.base
    assert (len(found.queries), found.null_rows) == (199, 599)
    assert math.isnan(found.false_share) and found.expected == 199  # every training row is above -1 too


def test_what_cannot_be_searched_is_named():
    x, _, x_test, _ = world()
    with pytest.raises(ParameterError, match="false_share must lie between 0 and 1"):
        find_matches(rows(x_test), rows(x), false_share=0.0)
    with pytest.raises(ParameterError, match="threshold is a cosine"):
        find_matches(rows(x_test), rows(x), threshold=1.5)
    with pytest.raises(ParameterError, match="there are 1 base rows"):
        find_matches(rows(x_test), rows(x[:1]))
    with pytest.raises(ShapeError, match="number of features"):
        find_matches(rows(x_test[:, :3]), rows(x))
    x[4, 2] = np.inf
    with pytest.raises(ParameterError, match="row 4, feature 2"):
        find_matches(rows(x_test), rows(x))


# --- what leaving rows out changes ----------------------------------------------------------------------------


def test_changes_are_those_of_a_decomposition_without_the_rows():
    x, y, x_test, y_test = world(d=8)
    x_test[:30], y_test[:30] = x[:30] + 1e-3, y[:30]
    task = make_task(x, y, x_test, y_test)
    found = audit_task(task, probe="ridge", false_share=0.01)
    listed = np.isin(task.test_rows, found.matches.queries)
    assert listed[:30].all() and listed.sum() == len(found.pairs) < 45
    whole = decompose(x, y, x_test, y_test, probe="ridge")
    rest = decompose(x, y, x_test[~listed], y_test[~listed], probe="ridge")
    changes = {change.quantity: change for change in found.changes}
    total = changes["agg_risk"]
    assert total.all_rows.estimate == whole.estimate("agg_risk")
    assert total.without.estimate == pytest.approx(rest.estimate("agg_risk"), abs=1e-12)  # rounding of doubles
    for change in changes.values():
        assert change.change == pytest.approx(change.without.estimate - change.all_rows.estimate, abs=1e-12)  # as above
        assert change.low < change.change < change.high
    # held-out training rows are the same: both move alike
    assert changes["enc_gen"].change == pytest.approx(total.change, abs=1e-12)  # as above
    assert total.without.n == (~listed).sum()
    nearest = found.matches.nearest
    beside = np.isin(np.arange(len(listed)), np.argsort(np.where(listed, 2.0, -nearest))[: listed.sum()])
    other = decompose(x, y, x_test[~beside], y_test[~beside], probe="ridge")
    assert total.beside == pytest.approx(other.estimate("agg_risk") - whole.estimate("agg_risk"), abs=1e-12)  # as above


def test_changes_are_found_in_both_orders():
    x, y, x_test, y_test = world(d=8)
    x_test[:30], y_test[:30] = x[:30] + 1e-3, y[:30]
    task = make_task(x, y, x_test, y_test)
    plain, both = (
        audit_task(task, probe="ridge", false_share=0.01, settings=Settings(order=order)) for order in ("paper", "both")
    )
    assert both.decomposition.judgements.uf is not None
    assert [c.change for c in both.changes] == [c.change for c in plain.changes] != []


@pytest.mark.parametrize("grouped", [False, True])
def test_the_interval_of_a_change_covers(grouped):
    rng = np.random.default_rng(0)
    m, n, covered = 1200, 240, []
    for _ in range(400):
        listed = np.zeros(m, bool)
        listed[:n] = True
        groups = np.arange(m) // 4 if grouped else None
        p = np.where(listed, 0.2, 0.3)
        common = rng.random(m // 4)[np.arange(m) // 4]
        errors = (np.where(rng.random(m) < 0.6, common, rng.random(m)) if grouped else rng.random(m)) < p
        change, half = _change(errors.astype(float), listed, groups, 0.95)
        truth = 0.3 - (0.2 * n + 0.3 * (m - n)) / m
        covered.append(abs(change - truth) <= half)
    assert 0.92 <= np.mean(covered) <= 0.99  # 0.95 ± 3 standard errors; guards make it longer


def test_a_group_column_makes_the_interval_one_of_groups():
    errors = np.repeat([1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0], 10)
    listed = np.zeros(80, bool)
    listed[:20] = True
    alone, grouped = (_change(errors, listed, g, 0.95) for g in (None, np.arange(80) // 10))
    assert alone[0] == grouped[0] and grouped[1] > 2 * alone[1]  # √10 but for the guard


def test_nothing_is_decomposed_where_nothing_is_listed_or_nothing_is_left():
    x, y, x_test, y_test = world()
    task = make_task(x, y, x_test, y_test)
    found = audit_task(task, threshold=0.99999)
    assert (found.pairs, found.decomposition, found.changes) == ((), None, ())
    every = audit_task(task, threshold=-1.0)
    assert len(every.pairs) == 200 and every.decomposition is None
    assert every.notes[-1].sentence().startswith("Nothing is decomposed: all 200 test rows are listed")
    assert audit_task(task, threshold=-1.0, probe=None).pairs == every.pairs


def test_pairs_are_listed_where_the_rows_are_too_few_to_decompose(tmp_path):
    x, _, x_test, _ = world(n=300, m=60)
    x_test[:5] = x[10:15]
    y, y_test = np.arange(300) % 100, np.arange(60) % 60
    np.savez(tmp_path / "f.npz", X_train=x, y_train=y, X_test=x_test, y_test=y_test)
    done = CliRunner().invoke(main, ["data", "audit", str(tmp_path / "f.npz")])
    assert done.exit_code == 0, done.stderr
    assert "Nothing is decomposed: " in " ".join((done.stdout + done.stderr).split())
    assert "fewer than the 100 classes" in " ".join((done.stdout + done.stderr).split())
    found = audit_task(make_task(x, y, x_test, y_test))
    assert len(found.pairs) >= 5 and found.decomposition is None and found.notes[-1].code == "not_decomposed"


def test_the_command_lists_pairs_and_changes(tmp_path):
    x, y, x_test, y_test = world(d=8)
    x_test[0], y_test[0] = x[5], (y[5] + 1) % 4
    np.savez(tmp_path / "f.npz", X_train=x, y_train=y, X_test=x_test, y_test=y_test)

    def run(*options, code=0):
        result = CliRunner().invoke(main, ["data", "audit", str(tmp_path / "f.npz"), *options])
        assert result.exit_code == code, result.output
        return result.output if code else result.stdout

    table = run("--probe", "ridge")
    assert (
        "pairs of different classes: 1" in " ".join(table.split())
        and "1.000000" in table
        and "aggregated risk" in table
    )
    assert all(len(line) <= 80 for line in table.splitlines())
    document = json.loads(run("--probe", "ridge", "--format", "json"))
    assert document["pairs"][0]["similarity"] == 1.0
    assert {change["quantity"] for change in document["changes"]} >= {"enc_gen", "agg_risk"}
    lines = run("--probe", "none", "--format", "csv").splitlines()
    assert lines[0] == "test_id,train_id,similarity,p_value,test_class,train_class"
    x_test[0] = -x_test[0]
    np.savez(tmp_path / "f.npz", X_train=x, y_train=y, X_test=x_test, y_test=y_test)
    assert "Nothing is decomposed, because no test row is listed." in run("--threshold", "0.99999")
    assert "give one of them" in run("--threshold", "0.9", "--false-share", "0.1", code=2)


def test_too_few_rows_for_the_share_are_said(tmp_path):
    x, y, x_test, y_test = world(300, 60)
    x_test[:5] = x[:5] + 1e-5
    np.savez(tmp_path / "f.npz", X_train=x, y_train=y, X_test=x_test, y_test=y_test)
    line = ["data", "audit", str(tmp_path / "f.npz"), "--probe", "none"]
    found = CliRunner().invoke(main, line)
    assert "only exact copies can be listed" in found.stdout and "--false-share 0.007" in found.stdout
    found = CliRunner().invoke(main, [*line, "--false-share", "0.007"])
    assert "only exact copies" not in found.stdout and "test rows are listed" in found.stdout


def test_the_listed_rows_that_the_probe_judges_wrongly_are_counted():
    x, y, x_test, y_test = world(d=8)
    x_test[:30], y_test[:30] = x[:30] + 1e-3, (y[:30] + 1) % 4  # copies under another label
    task = make_task(x, y, x_test, y_test)
    found = audit_task(task, probe="ridge", false_share=0.01)
    listed = np.isin(task.test_rows, found.matches.queries)
    wrong = found.decomposition.judgements.us.wrong
    assert found.wrong == wrong[listed].sum() != wrong[~listed].sum()


def test_copies_among_the_training_rows_say_nothing_of_chance():
    """All listed rows are planted copies, and `by chance it would be 49.9` was printed beside them."""
    from ssl_risk_rs.cli.audit import _lines

    x, y, x_test, y_test = world()
    x[300:420], y[300:420] = x[:120], y[:120]  # each twice
    x_test[:60] = x[:60]
    found = audit_task(make_task(x, y, x_test, y_test), name="e", data="d", false_share=0.001)
    text = "\n".join(_lines(found, 200))
    assert "60 test rows are listed" in text and "how many chance would list is not known" in text
    assert "by chance it would be" not in text and f"{found.pairs[0].p_value:.5f}" not in text
    x, y, *_ = world()
    usual = audit_task(make_task(x, y, x_test, y_test), name="e", data="d", false_share=0.02)
    assert "by chance it would be" in "\n".join(_lines(usual, 200))


def test_the_threshold_is_the_least_value_that_no_more_than_the_share_reaches():
    null = np.arange(999) / 1000
    assert _threshold(null, 0.001) == 0.998 and _threshold(null, 0.01) == 0.989  # of one more row
    assert _threshold(null[:998], 0.001) == 1.0


def test_base_rows_that_are_as_similar_as_a_copy_count_in_its_p_value():
    base = np.random.default_rng(0).standard_normal((20, 8)).astype(np.float32)
    base[7] = base[3]  # each other's nearest
    found = find_matches(_of_array(base[3:4], "x"), _of_array(base, "base"), n_threads=1)
    assert found.similarity.tolist() == [1.0] and found.p_value.tolist() == [(1 + 2) / (1 + 20)]


def test_pairs_of_copies_tell_half_as_much_of_what_chance_lists():
    """Beta-binomial of 2 independent pairs among 100 rows."""
    import scipy.stats

    null = np.concatenate([np.arange(96) / 100, np.ones(4)])
    expected, low, high = _by_chance(null, 1.0, 1000)
    share = 4 / 101
    listed = scipy.stats.betabinom(1000, 2, 2 * (1 - share) / share)
    assert expected == 1000 * share and (low, high) == (listed.ppf(0.025), listed.ppf(0.975))
