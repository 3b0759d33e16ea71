"""The choice of a penalty on folds, on folds whose wrong rows are given."""

import numpy as np
import pytest
from ssl_risk_rs.decomposition.tuning import Tried, as_penalty, best_of, tune

FOLD = 400


class GivenFold:
    """Wrong rows of each penalty: `errors` of them, spread so that penalties share as many as they can."""

    def __init__(self, errors: dict[float, int], rows: int = FOLD, groups: np.ndarray | None = None) -> None:
        self.errors, self.rows, self.groups = errors, rows, groups
        self.judged: list[float] = []
        self.restarted: list[float] = []

    def wrong(self, alpha: float) -> np.ndarray:
        self.judged.append(alpha)
        return np.arange(self.rows) < self.errors[alpha]

    def restart(self, alpha: float) -> None:
        self.restarted.append(alpha)


def folds(errors: dict[float, int], n: int = 5, rows: int = FOLD) -> list[GivenFold]:
    return [GivenFold(errors, rows) for _ in range(n)]


def test_a_penalty_that_is_clearly_worse_is_not_fitted_on_the_folds_that_remain():
    paths = folds({1e-2: 40, 1e-3: 38, 1e-4: 60, 1e-1: 70})
    curve = tune(paths)
    # 400 rows show nothing yet; 800 rows with 40 against 76 + 44 wrong ones do: 44 > 3 √44
    assert curve == {
        1e-2: Tried(200, 2000),
        1e-3: Tried(190, 2000),
        1e-4: Tried(120, 800),
    }
    assert best_of(curve) == 1e-3
    assert [len(path.judged) for path in paths] == [3, 3, 2, 2, 2]
    penalty = as_penalty(curve, 0.5)
    assert penalty.grid == (1e-4, 1e-3, 1e-2)
    assert penalty.errors == (120, 190, 200) and penalty.rows == (800, 2000, 2000)
    assert penalty.value == 1e-3 and penalty.inside and penalty.absolute == 0.5


def test_the_strong_end_is_followed_until_a_stronger_one_is_clearly_worse():
    paths = folds({1e-2: 40, 1e-3: 80, 1e-1: 30, 1.0: 90})
    curve = tune(paths)
    assert curve == {1e-2: Tried(200, 2000), 1e-3: Tried(160, 800), 1e-1: Tried(150, 2000), 1.0: Tried(180, 800)}
    assert best_of(curve) == 1e-1
    assert all(path.restarted == [1e-2] for path in paths)


def test_few_rows_and_small_differences_let_every_penalty_stay():
    few = tune(folds({1e-2: 10, 1e-3: 60, 1e-4: 61, 1e-5: 62, 1e-1: 11}, rows=99))
    # 495 rows: none leaves, and the grid ends where errors rose twice
    assert few == {1e-2: Tried(50, 495), 1e-3: Tried(300, 495), 1e-4: Tried(305, 495), 1e-1: Tried(55, 495)}
    close = tune(folds({1e-2: 40, 1e-3: 41, 1e-4: 40, 1e-5: 41, 1e-1: 41}))
    assert {tried.rows for tried in close.values()} == {2000}
    assert best_of(close) == 1e-2  # ties go to the stronger


@pytest.mark.parametrize(("strongest", "tried"), [(1e-1, 4), (1.0, 5), (10.0, 6)])
def test_the_grid_grows_no_further_than_allowed(strongest, tried):
    errors = {1e-5: 24, 1e-4: 23, 1e-3: 22, 1e-2: 21, 1e-1: 20, 1.0: 19, 10.0: 18}
    assert len(tune(folds(errors), strongest=strongest)) == tried


def test_rows_of_one_group_count_as_one():
    errors = {1e-2: 40, 1e-3: 80, 1e-4: 90, 1e-1: 80}

    def tuned(n_groups: int) -> dict[float, Tried]:
        """Groups of consecutive rows: the 40 rows that differ in each fold lie in the first few groups."""
        paths = [GivenFold(errors, groups=np.arange(FOLD) * n_groups // FOLD + n_groups * fold) for fold in range(5)]
        return tune(paths)

    independent = tune(folds(errors))
    assert independent[1e-3] == independent[1e-1] == Tried(160, 800)
    # 8 groups a fold, two of which have the 40 rows, 10 and 30: 40 n > 3 √(n (10² + 30²)) from 6 folds on
    assert {tried.rows for tried in tuned(8).values()} == {2000}
    # 100 groups a fold, ten of which have 4 rows each: 40 n > 3 · 4 √(10 n) from the first look on
    assert tuned(100)[1e-3] == Tried(160, 800)
    # fewer than 20 groups show nothing, whatever the rows
    assert {tried.rows for tried in tuned(3).values()} == {2000}
