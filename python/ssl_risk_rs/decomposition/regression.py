"""The strict protocol for targets that are numbers, or several labels a row: ridge probes in closed form.

The same cells, floor, twin and judged rows as `strict`; the penalty with the least loss on the folds, ties to the
stronger. A probe is fitted from sums over cells, X'X by the kernels and X'Y here, in float64:

    W = (C + αI)⁻¹ D (Σ x yᵀ/n − x̄ ȳᵀ)        ŷ = ȳ + Wᵀ D (x − x̄)        C, D as in the design

Each judged row gets a loss, and a risk is the mean of losses over rows, so that intervals are those of `intervals`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ssl_risk_rs import _core
from ssl_risk_rs.decomposition.cells import draw_cells, fold_and_subset, notes_on_plan, plan_cells
from ssl_risk_rs.decomposition.losses import Auroc, Squared, check_targets, judgeable, outcome_of, scorer_of
from ssl_risk_rs.decomposition.outcomes import ProtocolResult, in_row_order, penalty_note, rows_of, sizes_of
from ssl_risk_rs.decomposition.settings import Settings
from ssl_risk_rs.decomposition.task import Task
from ssl_risk_rs.decomposition.tuning import ALPHAS, STRONGEST
from ssl_risk_rs.errors import NumericalError, ParameterError
from ssl_risk_rs.events import Event, Report
from ssl_risk_rs.probes.devices import open_solver
from ssl_risk_rs.probes.features import Features
from ssl_risk_rs.results.judgements import Judgements, Outcome
from ssl_risk_rs.results.record import FitRecord, Floor, Method, Penalty

__all__ = ["predict_targets"]

#: bytes of a block of rows in float64
BLOCK_BYTES = 64_000_000
#: loss of the floor probe on its own rows, as a share of that on test rows, at which it has only learnt them by heart
INTERPOLATED = 0.01


@dataclass(frozen=True, slots=True)
class _Sums:
    """Σ x (cells, d), Σ y (cells, k), Σ x yᵀ (cells, d, k) and rows (cells), all in float64."""

    x: np.ndarray
    y: np.ndarray
    xy: np.ndarray
    n: np.ndarray


@dataclass(frozen=True, slots=True)
class _Probe:
    """ŷ = intercept + (x − centre) @ weights, for weights (d, k); `absolute` : its penalty as it was used."""

    weights: np.ndarray
    intercept: np.ndarray
    centre: np.ndarray
    absolute: float


class _Ridge:
    """Ridge probes of one encoder's features."""

    def __init__(self, features: Features, targets: np.ndarray, method: Method, report: Report) -> None:
        self.features = features
        self.solver = open_solver(features, method.device, n_threads=method.n_threads)
        self.targets = targets[: features.n_rows]
        self.method, self.report = method, report
        self.fits: list[FitRecord] = []

    def sums(self, rows: np.ndarray, cells: np.ndarray) -> tuple["_core.Moments", _Sums]:
        """Sums over `rows` by cell."""
        self.report(Event("moments", detail=f"{len(rows):,} rows"))
        # moments want classes, of which nothing here depends: two, in turn within each cell
        labels = np.zeros(self.features.n_rows, np.uint32)
        order = rows[np.argsort(cells[rows], kind="stable")]
        labels[order] = np.arange(len(order)) % 2
        moments = self.solver.moments(rows, labels, 2, cells=cells)
        count, d, k = int(cells[rows].max()) + 1, self.features.n_features, self.targets.shape[1]
        found = _Sums(np.zeros((count, d)), np.zeros((count, k)), np.zeros((count, d, k)), np.zeros(count))
        for block, x in self._blocks(rows):
            y, own = self.targets[block], cells[block]
            for cell in np.unique(own).tolist():
                some = own == cell
                found.x[cell] += x[some].sum(0)
                found.y[cell] += y[some].sum(0)
                found.xy[cell] += x[some].T @ y[some]
                found.n[cell] += int(some.sum())
        return moments, found

    def design(self, moments: "_core.Moments", cells: Sequence[int]) -> "_core.Design":
        """Rows of these cells, scaled as the method says."""
        return moments.design(list(cells), scaling=self.method.scaling, n_threads=self.method.n_threads)

    def fit(
        self,
        role: str,
        moments: "_core.Moments",
        sums: _Sums,
        cells: Sequence[int],
        alphas: Sequence[float],
    ) -> list[_Probe]:
        """The probe on some cells at each penalty, in units of the mean variance of the scaled features."""
        self.report(Event("fit", detail=role))
        design = self.design(moments, cells)
        scale = design.scale.astype(np.float64)
        n = float(sums.n[list(cells)].sum())
        centre, mean = sums.x[list(cells)].sum(0) / n, sums.y[list(cells)].sum(0) / n
        cross = scale[:, None] * (sums.xy[list(cells)].sum(0) / n - np.outer(centre, mean))
        unit = design.mean_variance if design.mean_variance > 0 else 1.0
        found = []
        for alpha in alphas:
            taken = max(alpha * unit, design.alpha_floor)
            weights = scale[:, None] * _solve(design.covariance, taken, cross)
            found.append(_Probe(weights, mean, centre, taken))
            self.fits.append(FitRecord(role, "ridge", taken, int(n), True, "closed_form", 0.0, 0.0, 0.0, None, 0.0))
        return found

    def predict(self, probes: Sequence[_Probe], rows: np.ndarray) -> list[np.ndarray]:
        """ŷ of each probe on `rows`, (m, k), in one pass."""
        self.report(Event("judge", detail=f"{len(rows):,} rows"))
        k = self.targets.shape[1]
        together = np.concatenate([probe.weights for probe in probes], axis=1)
        offset = np.concatenate([probe.intercept - probe.centre @ probe.weights for probe in probes])
        found = np.empty((len(rows), together.shape[1]))
        begin = 0
        for block, x in self._blocks(rows):
            # about the first centre: far features would cancel
            own = (x - probes[0].centre) @ together + (offset + probes[0].centre @ together)
            if not np.isfinite(own).all():
                row = int(block[int(np.isfinite(own).all(1).argmin())])
                raise ParameterError(f"row {row} of the features gives predictions that are not finite (NaN, infinity)")
            found[begin : begin + len(block)] = own
            begin += len(block)
        return [found[:, i * k : (i + 1) * k] for i in range(len(probes))]

    def _blocks(self, rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Rows in blocks, and their features in float64."""
        d = self.features.n_features
        step = max(1, BLOCK_BYTES // (8 * d))
        for begin in range(0, len(rows), step):
            block = np.ascontiguousarray(rows[begin : begin + step])
            yield block, self.features.read(block).astype(np.float64)


def _solve(covariance: np.ndarray, alpha: float, cross: np.ndarray) -> np.ndarray:
    """(C + αI)⁻¹ cross; by eigenvalues, those below 0 put back to it, where rounding left C no factor."""
    from scipy.linalg import LinAlgError, cho_factor, cho_solve, eigh

    ridged = covariance.copy()
    np.fill_diagonal(ridged, covariance.diagonal() + alpha)
    try:
        return np.asarray(cho_solve(cho_factor(ridged, lower=True, overwrite_a=True), cross))
    except LinAlgError:
        pass
    try:
        values, vectors = eigh(covariance)
    except LinAlgError as error:
        raise NumericalError(f"the covariance of the features has no eigendecomposition ({error})") from error
    return np.asarray(vectors @ ((vectors.T @ cross) / (np.maximum(values, 0)[:, None] + alpha)))


def predict_targets(
    task: Task, twin: Features | None, settings: Settings, method: Method, report: Report
) -> ProtocolResult:
    """Fit and judge every probe of the strict protocol on numbers or labels; see the module."""
    check_targets(task)
    train, test, folds = task.train_rows, task.test_rows, settings.n_folds
    planned = plan_cells(task, settings, method)
    cells, subsets = draw_cells(task, settings, method, planned)
    own = cells[train]
    held_rows = [train[own == folds + j] for j in range(subsets)]
    task, left_out = judgeable(task, held_rows)
    notes = [*left_out, *notes_on_plan(planned, subsets)]
    scorer = scorer_of(task)
    assert task.targets is not None  # the caller's choice of this road
    ridge = _Ridge(task.features, task.targets, method, report)
    moments, sums = ridge.sums(train, cells)
    everything = list(range(folds + subsets))
    curve, fold_losses = _tuned(ridge, moments, sums, scorer, train, own, test, folds, planned.folds_judged)
    alpha = _best(curve)

    held: list[np.ndarray] = []
    held_floor: list[np.ndarray] = []
    cs: list[Outcome] = []
    for j in range(subsets):
        kept = [c for c in everything if c != folds + j]
        at_alpha, at_floor = ridge.fit(f"complement_{j}", moments, sums, kept, (alpha, settings.floor))
        for into, y in zip((held, held_floor), ridge.predict([at_alpha, at_floor], held_rows[j]), strict=True):
            into.append(y)
        cs.append(outcome_of(scorer.losses(ridge.predict([at_alpha], test)[0], test)))
    full, above, floor = ridge.fit("full", moments, sums, everything, (alpha, 10 * settings.floor, settings.floor))
    of_train = [outcome_of(scorer.losses(y, train)) for y in ridge.predict([full, above, floor], train)]
    us, floor_on_test = (outcome_of(scorer.losses(y, test)) for y in ridge.predict([full, floor], test))
    design = ridge.design(moments, everything)
    of_twin: list[Outcome] | None = None
    of_twin_fits: tuple[FitRecord, ...] = ()
    twin_constant = 0
    if twin is not None:
        beside = _Ridge(twin, task.targets, method, report)
        twin_moments, twin_sums = beside.sums(train, np.zeros(len(task.labels), np.uint8))
        probes = beside.fit("supervised", twin_moments, twin_sums, [0], (10 * settings.floor, settings.floor))
        of_twin = [outcome_of(scorer.losses(y, train)) for y in beside.predict(probes, train)]
        of_twin_fits = tuple(beside.fits)
        twin_constant = len(beside.design(twin_moments, [0]).constant)

    fold_of, subset_of = fold_and_subset(own, folds)
    judgements = Judgements(
        # rows of numbers have no classes: one stratum
        **rows_of(replace(task, labels=np.zeros_like(task.labels), class_names=(scorer.metric,))),
        subset=subset_of,
        fold=fold_of,
        af=of_train[2],
        at_alpha=of_train[0],
        us=us,
        held_out=in_row_order([outcome_of(v) for v in scorer.over_sets(held, held_rows)], subset_of),
        held_out_floor=in_row_order([outcome_of(v) for v in scorer.over_sets(held_floor, held_rows)], subset_of),
        cs=tuple(cs),
        floor_on_test=floor_on_test,
        fold_margins=np.zeros_like(fold_losses),
        fold_losses=fold_losses,
        sup=None if of_twin is None else of_twin[1],
    )
    grid = sorted(curve)
    inside = grid[0] < alpha < grid[-1]
    tuned = Penalty(alpha, full.absolute, tuple(grid), inside=inside, losses=tuple(curve[a] for a in grid))
    if not tuned.inside:
        notes.append(penalty_note("The tuned penalty", tuned))
    return ProtocolResult(
        judgements,
        replace(
            sizes_of(task, judgements, design, None, planned),
            classes=len(task.target_names),
            twin_features=None if twin is None else twin.n_features,
            constant_twin_features=twin_constant,
            chance=scorer.chance(test),
        ),
        {"tuned": tuned, "floor": Penalty(settings.floor, floor.absolute)},
        Floor(
            risk_above=float(of_train[1].loss.mean()),
            sup_above=np.nan if of_twin is None else float(of_twin[0].loss.mean()),
            on_test=float(floor_on_test.loss.mean()),
            separable=float(of_train[2].loss.mean()) <= INTERPOLATED * float(floor_on_test.loss.mean()),
        ),
        (*ridge.fits, *of_twin_fits),
        tuple(notes),
    )


def _tuned(
    ridge: _Ridge,
    moments: "_core.Moments",
    sums: _Sums,
    scorer: Squared | Auroc,
    train: np.ndarray,
    own: np.ndarray,
    test: np.ndarray,
    folds: int,
    judged: int,
) -> tuple[dict[float, float], np.ndarray]:
    """Mean loss on held-out folds by penalty, and the losses (folds, n_te) of the best penalty's probes on test rows.

    A closed form is cheap, so the whole grid is tried; stronger penalties as long as the strongest is the best.
    """

    def on_folds(alphas: Sequence[float]) -> dict[float, float]:
        total = np.zeros(len(alphas))
        for fold in range(judged):
            kept = [f for f in range(folds) if f != fold]
            probes = ridge.fit(f"fold_{fold}", moments, sums, kept, alphas)
            rows = train[own == fold]
            # a fold whose rows have every label or none says nothing of any penalty
            total += np.nan_to_num([scorer.losses(y, rows).mean() for y in ridge.predict(probes, rows)])
        return dict(zip(alphas, (total / judged).tolist(), strict=True))

    curve = on_folds((1.0, 0.1, *ALPHAS))
    while _best(curve) == max(curve) < STRONGEST:
        curve |= on_folds((10 * max(curve),))
    found = []
    for fold in range(judged):
        kept = [f for f in range(folds) if f != fold]
        probe = ridge.fit(f"fold_{fold}", moments, sums, kept, (_best(curve),))
        found.append(scorer.losses(ridge.predict(probe, test)[0], test).astype(np.float32))
    return curve, np.stack(found)


def _best(curve: Mapping[float, float]) -> float:
    """Penalty with the least loss, ties to the stronger."""
    return min(curve, key=lambda alpha: (curve[alpha], -alpha))
