"""The choice of a penalty on folds, on folds whose wrong rows are given."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from ssl_risk_rs import LogisticProbe, ParameterError, RidgeProbe, Run, _core, compare, decompose
from ssl_risk_rs.decomposition import decompose_task, decomposing
from ssl_risk_rs.decomposition.again import settings_like
from ssl_risk_rs.decomposition.fitting import Fitter
from ssl_risk_rs.decomposition.settings import Settings
from ssl_risk_rs.decomposition.task import make_task
from ssl_risk_rs.decomposition.tuning import FROM_THE_MIDDLE, FoldPath, Leaves, Tried, as_penalty, best_of, race
from ssl_risk_rs.probes.span_solver import LogisticFit
from ssl_risk_rs.results import NotComparableError, Provenance

FOLD = 400


def tune(*args, **options):
    return race(*args, **options).curve()


class GivenFold:
    """Wrong rows of each penalty: `errors` of them, spread so that penalties share as many as they can, and all rows at
    penalties that are not given.

    unfinished : wrong rows of fits that are looked at before their end; those of `errors` where nothing is given
    """

    def __init__(
        self,
        errors: dict[float, int],
        rows: int = FOLD,
        groups: np.ndarray | None = None,
        unfinished: dict[float, int] | None = None,
    ) -> None:
        self.errors, self.rows, self.groups = errors, rows, groups
        self.labels = np.zeros(rows, np.uint32)
        self.unfinished = errors | (unfinished or {})
        self.judged: list[float] = []
        self.looked: dict[float, bool] = {}

    def wrong(self, alpha: float, leaves: Leaves | None = None) -> np.ndarray:
        self.judged.append(alpha)
        if leaves is not None:
            first = np.arange(self.rows) < self.unfinished.get(alpha, self.rows)
            self.looked[alpha] = leaves(first)
            if self.looked[alpha]:
                return first
        return np.arange(self.rows) < self.errors.get(alpha, self.rows)


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


def test_a_plateau_of_weak_penalties_does_not_hide_the_valley_of_a_strong_one():
    """Probes that next to interpolate err alike at all of them: one row more at the strongest ended the grid."""
    errors = {1e-5: 173, 1e-4: 173, 1e-3: 171, 1e-2: 172, 0.1: 171, 1.0: 150, 10.0: 110, 100.0: 130, 1e3: 210}
    assert best_of(tune([GivenFold(errors)])) == 10.0


def test_few_rows_and_small_differences_let_every_penalty_stay():
    few = tune(folds({1e-2: 10, 1e-3: 60, 1e-4: 61, 1e-5: 62, 1e-1: 11}, rows=99))
    # 495 rows: none leaves, the weak end is where errors rose twice, and every stronger one is tried
    assert few == {1e-2: Tried(50, 495), 1e-3: Tried(300, 495), 1e-4: Tried(305, 495), 1e-1: Tried(55, 495)} | {
        alpha: Tried(495, 495) for alpha in (1.0, 10.0, 100.0, 1e3)
    }
    close = tune(folds({10.0**p: 40 + (p % 2) for p in range(-5, 4)}))
    assert {tried.rows for tried in close.values()} == {2000}
    assert best_of(close) == 100.0  # ties go to the stronger


@pytest.mark.parametrize(("strongest", "tried"), [(1e-1, 4), (1.0, 5), (10.0, 6)])
def test_the_grid_grows_no_further_than_allowed(strongest, tried):
    errors = {1e-5: 24, 1e-4: 23, 1e-3: 22, 1e-2: 21, 1e-1: 20, 1.0: 19, 10.0: 18}
    assert len(tune(folds(errors), strongest=strongest)) == tried


def test_rows_of_one_group_count_as_one():
    errors = {1e-2: 40, 1e-3: 80, 1e-4: 90, 1e-1: 80} | dict.fromkeys((1.0, 10.0, 100.0, 1e3), 80)

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


def test_one_fold_is_looked_at_before_its_fits_end():
    errors = {1e-3: 80, 1e-2: 120, 1e-4: 84, 1e-5: 200}
    only = GivenFold(errors, rows=1000, unfinished={1e-2: 130, 1e-4: 88})
    curve = tune([only], FROM_THE_MIDDLE, early=True)
    # of 1000 rows: 50 more are clearly more than half a point, 50 − 5 > 3 √50; 8 are not, and the fit goes on
    assert only.looked == {1e-2: True, 1e-4: False, 1e-5: True}
    assert curve == {1e-3: Tried(80, 1000), 1e-2: Tried(130, 1000), 1e-4: Tried(84, 1000), 1e-5: Tried(200, 1000)}
    assert best_of(curve) == 1e-3


def test_a_clear_difference_below_half_a_point_waits_for_the_end():
    errors = {1e-3: 1000, 1e-2: 1150, 1e-4: 1040}
    only = GivenFold(errors, rows=40_000)
    tune([only], FROM_THE_MIDDLE, early=True)
    assert only.looked[1e-2] is False  # 150 > 3 √150, and not after 200 rows that it may still lose
    assert only.judged == [1e-3, 1e-2, 1e-4]  # 40 > 3 √40: the finished fit is clearly worse


def test_several_folds_and_strong_penalties_are_not_looked_at():
    paths = folds({1e-2: 40, 1e-3: 80, 1e-1: 30, 1.0: 90})
    tune(paths)
    assert not any(path.looked for path in paths)
    only = GivenFold({1e-2: 40, 1e-3: 80, 1e-1: 30, 1.0: 90, 1e-4: 99, 1e-5: 99}, rows=1000)
    tune([only], FROM_THE_MIDDLE, early=True)
    assert only.judged == [1e-3, 1e-2, 1e-1, 1.0]  # what is weaker than one that is out is left out
    assert only.looked == {1e-2: False}


def test_one_fold_of_a_few_shot_fit_is_not_looked_at():
    only = GivenFold({10.0: 400, 1.0: 300, 0.1: 200, 1e-2: 100, 1e-3: 200, 1e-4: 300, 100.0: 400}, rows=1000)
    tune([only], (10.0, 1.0, 0.1, 1e-2, 1e-3, 1e-4), 100.0)
    assert not only.looked


def test_a_penalty_that_wins_in_the_middle_has_both_neighbours_tried():
    only = GivenFold({1e-3: 10, 1e-2: 100, 1e-4: 100}, rows=1000)
    assert best_of(tune([only], FROM_THE_MIDDLE, early=True)) == 1e-3
    assert only.judged == [1e-3, 1e-2, 1e-4]


def mixture() -> tuple[np.ndarray, np.ndarray]:
    """32,000 rows of 96 features and 40 classes: enough for passes that round."""
    rng = np.random.default_rng(6)
    y = rng.integers(0, 40, 32_000).astype(np.uint32)
    return (rng.normal(0, 0.3, (40, 96))[y] + rng.normal(size=(len(y), 96))).astype(np.float32), y


@pytest.mark.parametrize("is_out", [True, False])
def test_a_fit_that_is_left_is_recorded_as_such_and_others_go_on(is_out):
    x, y = mixture()
    task = make_task(x[:28_000], y[:28_000], x[28_000:], y[28_000:])
    method = replace(decomposing._method(task, Settings(n_threads=2)), tuning_tol=1e-3)

    def fitted(leaves: Callable[["_core.LinearProbe"], bool] | None) -> Fitter:
        fitter = Fitter(task.features, task.labels, task.n_classes, method, lambda _: None)
        design = fitter.moments(task.train_rows).design(scaling="standardize")
        fitter.fit("fold_0", design, task.train_rows, 1e-4, judged=False, leaves=leaves)
        return fitter

    seen: list[_core.LinearProbe] = []

    def leaves(probe: "_core.LinearProbe") -> bool:
        seen.append(probe)
        return is_out

    (whole,), (record,) = fitted(None).fits, fitted(leaves).fits
    assert len(seen) == 1 and not record.missed and not whole.missed
    if is_out:
        assert (record.stop, record.converged, record.gap) == ("left", False, None)
        assert record.passes < whole.passes
    else:
        assert record.stop == whole.stop and record.gap is not None
        assert record.objective == pytest.approx(whole.objective, rel=2e-3)  # tol of each
        assert record.passes > whole.passes - 1  # both legs are counted
    assert record.reduced_passes > 1 and record.seconds > 0


@pytest.mark.parametrize(("limit", "asked"), [(3, 0), (12, 1)])
def test_a_draft_that_met_the_limit_is_not_asked_about(limit, asked):
    x, y = mixture()
    task = make_task(x[:28_000], y[:28_000], x[28_000:], y[28_000:])
    method = replace(decomposing._method(task, Settings(n_threads=2)), tuning_tol=1e-9, max_passes=limit)
    fitter = Fitter(task.features, task.labels, task.n_classes, method, lambda _: None)
    design = fitter.moments(task.train_rows).design(scaling="standardize")
    seen: list[_core.LinearProbe] = []

    def leaves(probe: "_core.LinearProbe") -> bool:
        seen.append(probe)
        return False

    fitter.fit("fold_0", design, task.train_rows, 1e-4, judged=False, leaves=leaves)
    (record,) = fitter.fits
    assert len(seen) == asked and record.stop == "max_passes" and record.missed
    assert limit <= record.passes < limit + 2  # of both legs together


def test_a_path_hands_on_the_stronger_of_equal_penalties():
    x, y = mixture()
    task = make_task(x[:28_000], y[:28_000], x[28_000:], y[28_000:])
    fitter = Fitter(task.features, task.labels, task.n_classes, decomposing._method(task, Settings()), lambda _: None)
    cells = np.zeros(len(y), np.uint8)
    cells[::5] = 1
    path = FoldPath(fitter, fitter.moments(task.train_rows, cells), task.train_rows, cells, 1, 2, hands_on=True)
    path._judged = lambda probe: np.zeros(9, bool)
    for alpha in (1e-1, 1.0, 1e-2):
        path.wrong(alpha)
    assert isinstance(path.start(1.0), LogisticFit)  # where `best_of` lets a tie fall


def test_a_decomposition_says_which_fits_were_left(tmp_path):
    x, y = mixture()
    found = decompose(x[:28_000], y[:28_000], x[28_000:], y[28_000:], n_threads=2, tuning_folds=1, n_subsets=1)
    left = replace(found.fits[0], stop="left", converged=False, gap=None)
    told = replace(found, fits=(left, *found.fits[1:]))
    assert found.converged and told.converged
    assert "1 that tuned was left as clearly worse" in str(told) and "left as clearly" not in str(found)
    missed = replace(found, fits=(replace(left, stop="max_passes"), *found.fits[1:]))
    assert not missed.converged and "1 missed their tolerance" in str(missed)


def unequal(n_test=80):
    """Four classes that overlap: 300, 120, 60 and 30 training rows."""
    rng = np.random.default_rng(2)
    centres = 0.6 * np.random.default_rng(9).normal(size=(4, 20))

    def rows(counts):
        y = np.repeat(np.arange(4), counts)
        return (centres[y] + rng.normal(size=(len(y), 20))).astype(np.float32), y

    return *rows([300, 120, 60, 30]), *rows([n_test, n_test // 2, n_test // 4, n_test // 4])


@pytest.mark.parametrize("probe", ["ridge", "logistic"])
@pytest.mark.parametrize("folds", [None, 1])
def test_the_penalty_is_tuned_on_the_mean_over_classes(probe, folds):
    x, y, xt, yt = unequal()
    task = make_task(x, y, xt, yt)
    settings = Settings(probe=probe, tune_on="balanced", n_threads=1, tuning_folds=folds, midpoint=False)
    found = decompose_task(task, settings=settings)
    tuned = found.penalties["tuned"]
    assert tuned.errors == () and len(tuned.losses) == len(tuned.grid) == len(tuned.rows)
    # again: a probe of each penalty on all folds but one, judged on that one
    judged = found.judgements
    wrong = {alpha: [] for alpha in tuned.grid}
    labels = []
    make = RidgeProbe if probe == "ridge" else partial(LogisticProbe, tol=1e-7, max_passes=3000)
    for fold in range(folds or 5):
        own, held = (judged.fold >= 0) & (judged.fold != fold), judged.fold == fold
        labels.append(y[held])
        for alpha in tuned.grid:
            fitted = make(alpha, scaling="standardize", n_threads=1).fit(x[own], y[own])
            wrong[alpha].append(fitted.predict(x[held]) != y[held])
    classes = np.concatenate(labels)
    for alpha, loss in zip(tuned.grid, tuned.losses, strict=True):
        every = np.concatenate(wrong[alpha])
        if tuned.rows[tuned.grid.index(alpha)] == len(classes):
            expected = np.mean([every[classes == c].mean() for c in range(4)])
            assert loss == pytest.approx(expected, abs=0.012 if probe == "logistic" else 1e-12)
    best = min(zip(tuned.losses, [-a for a in tuned.grid], strict=True))
    assert tuned.value == -best[1] and tuned.cost == best[0]
    assert "tuned on the class-balanced error" in str(found) and found.method.tuned_on == "balanced"


def test_what_penalties_are_tuned_on_is_recorded_asked_again_and_compared(tmp_path):
    data = unequal()
    one = decompose(*data, probe="ridge", n_threads=1, name="one")
    other = decompose(*data, probe="ridge", n_threads=1, name="other", tune_on="balanced")
    assert one.method.tuned_on == "error" and one.penalties["tuned"].errors
    with pytest.raises(NotComparableError, match="differ in error that penalties are tuned on"):
        compare([one, other])
    Run.of(other, provenance=Provenance()).save(tmp_path / "run")
    back = Run.load(tmp_path / "run").main
    assert back.method == other.method and back.penalties == other.penalties
    assert settings_like(back).tune_on == "balanced"
    shots = decompose(*data, probe="ridge", n_threads=1, tune_on="balanced", shots="10", draws=2)
    assert shots.shots[0].estimates["agg_risk"].estimate > 0
    with pytest.raises(ParameterError, match="--protocol paper fixes tune-on"):
        Settings(protocol="paper", tune_on="balanced")


def test_equal_classes_are_tuned_alike_on_either_error():
    rng = np.random.default_rng(0)
    y, yt = np.arange(400) % 4, np.arange(100) % 4
    x, xt = (rng.normal(size=(len(v), 12)) + 0.7 * np.eye(4, 12)[v] for v in (y, yt))
    one, other = (decompose(x, y, xt, yt, probe="ridge", n_threads=1, tune_on=on) for on in ("error", "balanced"))
    assert one.estimates == other.estimates
    a, b = one.penalties["tuned"], other.penalties["tuned"]
    # what the subsets leave of equal classes differs by a row
    assert b.losses == pytest.approx([e / n for e, n in zip(a.errors, a.rows, strict=True)], abs=0.01)
