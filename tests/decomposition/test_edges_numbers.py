"""Edges of tuning, of few-shot curves, of pairs of loose rows, and of targets."""

import numpy as np
import pytest
from ssl_risk_rs import Settings, decompose, knn
from ssl_risk_rs._float32 import refuse_lost_spread
from ssl_risk_rs.decomposition import decompose_task, loose, make_task
from ssl_risk_rs.decomposition.contrasts import Contrast, ScoredResult
from ssl_risk_rs.decomposition.matched_labels import _shared_out
from ssl_risk_rs.decomposition.target_ridge import _solve
from ssl_risk_rs.decomposition.targets import STRATUM_ROWS, _strata
from ssl_risk_rs.decomposition.tuning import Tried, best_of, race
from ssl_risk_rs.errors import ParameterError
from ssl_risk_rs.results.quantities import QUANTITIES


def tune(*args, **options):
    return race(*args, **options).curve()


class GivenFold:
    """As in test_tuning: wrong rows of each penalty, all rows at those that are not given."""

    def __init__(self, errors: dict[float, np.ndarray], labels: np.ndarray) -> None:
        self.errors, self.labels, self.groups = errors, labels, None

    def wrong(self, alpha: float, leaves=None) -> np.ndarray:
        return self.errors.get(alpha, np.ones(len(self.labels), bool))


def test_a_penalty_that_left_early_never_wins_by_its_share():
    """It was judged on fewer rows."""
    assert best_of({1e-2: Tried(300, 2000), 1e-3: Tried(190, 2000), 1e-4: Tried(60, 800)}) == 1e-3


def test_balanced_costs_are_means_over_the_classes_that_are_held_out():
    """Classes without held-out rows have no weight."""
    labels = np.array([0] * 300 + [4] * 100, np.uint32)
    wrong = np.r_[np.arange(300) < 30, np.arange(100) < 40]
    none = np.ones(400, bool)
    curve = tune([GivenFold({1e-2: wrong, 1e-1: none}, labels)], (1e-2,), on="balanced")
    assert curve[1e-2].cost == pytest.approx((0.1 + 0.4) / 2)


def test_errors_that_stand_still_do_not_end_the_grid():
    """Only errors that rise twice do."""
    labels = np.zeros(400, np.uint32)
    errors = {1e-1: 41, 1e-2: 40, 1e-3: 40, 1e-4: 40, 1e-5: 10}
    curve = tune([GivenFold({a: np.arange(400) < n for a, n in errors.items()}, labels)])
    assert best_of(curve) == 1e-5


def test_what_is_left_of_shared_out_rows_goes_to_the_largest_remainders():
    """And not to the smallest."""
    np.testing.assert_array_equal(_shared_out(np.array([10, 19, 21]), 5), [1, 2, 2])
    np.testing.assert_array_equal(_shared_out(np.array([9, 11, 30]), 10), [2, 2, 6])
    np.testing.assert_array_equal(_shared_out(np.array([13, 37]), 10), [3, 7])


def test_the_gap_of_nearest_neighbours_is_guarded_for_both_sets_of_rows():
    """By one row of the test rows, and one of the held-out rows."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 550)
    x = (np.random.default_rng(9).normal(size=(4, 6))[y] + rng.normal(size=(550, 6))).astype(np.float32)
    found = knn(x[:400], y[:400], x[400:], y[400:], k=5, held_rows=30).estimates["knn_gap"]
    half = 1.959964 * np.sqrt(found.se**2 + 1 / 150**2 + 1 / 30**2)
    assert found.high - found.estimate == pytest.approx(half, rel=1e-6)


def mixture(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """n points around four centres that overlap."""
    y = np.arange(n) % 4
    centres = np.random.default_rng(9).normal(size=(4, 6))
    return (0.7 * centres[y] + np.random.default_rng(seed).normal(size=(n, 6))).astype(np.float32), y


def test_test_rows_in_another_order_are_not_paired_by_their_place():
    """Ids of test rows are compared too."""
    (x, y), (xt, yt) = mixture(400, 1), mixture(120, 2)
    ids, order = [f"r{i}" for i in range(520)], np.random.default_rng(0).permutation(120)
    settings = Settings(probe="ridge", n_threads=1)
    one = make_task(x, y, xt, yt, sample_ids=ids)
    other = make_task(x, y, xt[order], yt[order], sample_ids=ids[:400] + [ids[400 + i] for i in order])
    judged = [ScoredResult.of(decompose_task(task, settings=settings)) for task in (one, other)]
    found = loose.gap([(-1, judged[0]), (1, judged[1])], "agg_risk", 0.95)
    alone = [Contrast.of([j], [1]).of_probes(QUANTITIES["agg_risk"]) for j in judged]
    assert found.value == 0 and found.se**2 == pytest.approx(sum(alone), rel=1e-6)


def test_a_test_row_with_the_id_of_a_training_row_is_another_row():
    """Its scores do not add to those of the training row."""
    (x, y), (xt, yt) = mixture(400, 1), mixture(120, 2)
    found = []
    for prefix in ("t", "r"):
        ids = [f"r{i}" for i in range(400)] + [f"{prefix}{i}" for i in range(120)]
        tasks = [make_task(a, y, b, yt, sample_ids=ids) for a, b in ((x, xt), (x[:, :3].copy(), xt[:, :3].copy()))]
        judged = [ScoredResult.of(decompose_task(t, settings=Settings(probe="ridge", n_threads=1))) for t in tasks]
        found.append(loose.gap([(-1, judged[0]), (1, judged[1])], "enc_gen", 0.95).se)
    assert found[1] == pytest.approx(found[0], rel=1e-9)


def test_a_penalty_of_numbers_at_the_end_of_its_grid_is_said():
    """The ends of the grid are not inside."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 5)).astype(np.float32)
    y = x.astype(float) @ rng.normal(size=(5, 1))  # without noise: the weakest penalty is the best
    d = decompose(x[:300], y[:300], x[300:], y[300:], target_kind="numbers", probe="ridge", n_threads=1)
    tuned = d.penalties["tuned"]
    assert tuned.value == min(tuned.grid) and not tuned.inside
    assert "penalty_at_edge" in {note.code for note in d.notes}


def test_eigenvalues_that_rounding_left_below_zero_are_put_back():
    """They would make a solution larger than any penalty allows."""
    found = _solve(np.diag([1.0, -1e-3]), 1e-4, np.ones((2, 1)))
    np.testing.assert_allclose(found[:, 0], [1 / 1.0001, 1e4], rtol=1e-9)


@pytest.mark.parametrize(("frequent", "own"), [(STRATUM_ROWS, True), (STRATUM_ROWS - 1, False)])
def test_a_combination_of_labels_is_a_stratum_by_its_training_rows(frequent, own):
    """Test rows do not count, and STRATUM_ROWS are enough."""
    labels = np.zeros((200, 2))
    train = np.arange(100)
    labels[:frequent, 0] = labels[100:, 0] = 1
    found = _strata(labels, train)
    assert (found[0] != 0) == own and found[99] == 1


@pytest.mark.parametrize(
    ("mean", "spread"),
    [(1e6, 0.05), (-1e6, 0.05), (3e7, 16.0)],  # less and more than 2²⁴; of one step, and of 8
)
def test_a_spread_of_fewer_than_16_steps_of_float32_is_lost(mean, spread):
    x = mean + spread * np.random.default_rng(0).standard_normal((500, 1))
    with pytest.raises(ParameterError, match="which float32, with steps of"):
        refuse_lost_spread(x, "X")
    refuse_lost_spread(mean + 100 * (x - mean), "X")


def test_numbers_that_float32_has_as_0_are_constant_and_no_fault():
    refuse_lost_spread(1e-46 * np.arange(9.0)[:, None], "X")


def test_whole_numbers_over_the_range_of_their_type_vary():
    refuse_lost_spread(np.array([[-(2**31)], [2**31 - 1], [2**31 - 2]], np.int32), "X")
