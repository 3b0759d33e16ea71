"""Few-shot: the decomposition at small numbers of labels.

R_AF and R_ΦF are those of the full run, since they do not depend on labels. For each size, probes are fitted on m draws
of few rows, with a penalty tuned inside each draw, and judged on the test rows and on J, the training rows that no draw
has seen, a sample of them where they are many: no probe meets a row that any probe was fitted on, and R_AS and R_US
have equal label counts. Draws: `draws`; fits: `shotfits`; intervals: `crossed`; the curve of error against labels:
`labelcurve`.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from ssl_risk_rs import _core
from ssl_risk_rs._cpus import count_cpus
from ssl_risk_rs._notes import Note, Values
from ssl_risk_rs._splits import sample_keys, stratified_cut
from ssl_risk_rs.decomposition.crossed import Crossed
from ssl_risk_rs.decomposition.draws import MOST_DRAWS, DrawPlan, plan_draws
from ssl_risk_rs.decomposition.fitting import Fitter
from ssl_risk_rs.decomposition.settings import SMALL_PRODUCTS, TOL, TUNING_TOL, Settings, passes_for, products_of_pass
from ssl_risk_rs.decomposition.shotfits import DrawFit, Shot, fit_shot, fold_rows
from ssl_risk_rs.decomposition.task import Task
from ssl_risk_rs.errors import ParameterError
from ssl_risk_rs.events import Event, Report
from ssl_risk_rs.probes.opened import Solvers
from ssl_risk_rs.results.estimate import Estimate
from ssl_risk_rs.results.fewshot import FewShot, ShotOutcomes, parse_shots
from ssl_risk_rs.results.judgements import Judgements
from ssl_risk_rs.results.record import Method

__all__ = ["AUTO_SHOTS", "Planned", "few_shot", "plan_shots"]

#: the sizes of the paper, with `auto` those of them that the data allow
AUTO_SHOTS = "1%,30,5,3"
#: tolerance of fits of fewer than `SMALL_PRODUCTS` a pass: looser than in a decomposition, since errors are averaged
#: over draws, which differ by far more
SMALL_TOL = 1e-5
#: products below which draws are fitted side by side, one thread each, and bytes that they may take together
SIDE_BY_SIDE, SIDE_BYTES = 1e9, 1e9
#: products of one pass over all draws from which one fold of each draw is judged instead of all: minutes of tuning
ONE_FOLD_PRODUCTS = 5e10
#: training rows that probes are judged on where more of them were in no draw: a risk of 1/2 is known to 0.16 points
MOST_JUDGED = 100_000
#: probes are judged together as long as their outcomes, 16 bytes a row, take less than this
JUDGED_BYTES = 1 << 28


@dataclass(frozen=True, slots=True)
class Planned:
    """The draws of each size, and what was left out of the sizes asked for."""

    plans: tuple[DrawPlan, ...]
    notes: tuple[Note, ...] = ()


def plan_shots(task: Task, settings: Settings, seed: int) -> Planned:
    """Draws of every size that is asked for; before any fit, so that a size that cannot be had is said at once.

    Raises
    ------
    ParameterError if a class has too few rows for a size; with `auto`, only if no size is left.
    """
    if settings.shots is None:
        return Planned(())
    if settings.shots != "auto":
        return Planned(tuple(plan_draws(task, size, seed, settings.draws) for size in parse_shots(settings.shots)))
    plans, notes, last = [], [], None
    for size in parse_shots(AUTO_SHOTS):
        try:
            plan = plan_draws(task, size, seed, settings.draws)
        except ParameterError as error:
            last = error
            notes.append(Note("shots_left_out", {"size": size.title, "reason": f"{error}"}))
            continue
        if plan.counts.max() < 2:
            reason = (
                "it is one row of each class, on which no penalty can be tuned; ask for it by name to have it anyway"
            )
            notes.append(Note("shots_left_out", {"size": size.title, "reason": reason}))
            continue
        plans.append(plan)
    if not plans:
        raise last or ParameterError("no few-shot size fits these data; name sizes with --shots")
    return Planned(tuple(plans), tuple(notes))


def few_shot(
    task: Task,
    planned: Planned,
    judged: Judgements,
    full: dict[str, Estimate],
    settings: Settings,
    method: Method,
    report: Report,
    solvers: Solvers,
) -> tuple[FewShot, ...]:
    """Fit, judge and estimate every size; `judged` and `full` are of the full run.

    Sizes come in ascending order of labels.
    """
    plans = sorted(planned.plans, key=lambda plan: plan.labels)
    return tuple(_one_size(task, plan, judged, full, settings, method, report, solvers) for plan in plans)


def _one_size(
    task: Task,
    plan: DrawPlan,
    judged: Judgements,
    full: dict[str, Estimate],
    settings: Settings,
    method: Method,
    report: Report,
    solvers: Solvers,
) -> FewShot:
    began = time.perf_counter()
    fitter = _Drawing(task, plan, method, settings, report)
    judge = Fitter(task.features, task.labels, task.n_classes, method, report, solvers)
    n = len(task.train_rows)
    count, done = plan.first, 0
    fits: list[DrawFit] = []
    kept: ShotOutcomes | None = None
    sample = _sample(task, plan.judged(plan.most, n), method.seed)
    while True:
        new = fitter.fit(range(done, count))
        fits += new
        on = plan.judged(count, n) if sample is None else sample
        report(Event("tune", count, count, detail=f"{plan.size.title}, all draws; they are judged now"))
        wrong_train = _judge(judge, [fit.probe for fit in new], task.train_rows[on])
        wrong_test = _judge(judge, [fit.probe for fit in new], task.test_rows)
        if kept is not None:  # the new draws have taken rows away
            wrong_train = np.concatenate([kept.wrong_train[:, np.isin(kept.judged, on)], wrong_train])
            wrong_test = np.concatenate([kept.wrong_test, wrong_test])
        kept = ShotOutcomes(np.stack(plan.rows(count)), on, wrong_train, wrong_test)
        crossed = Crossed(judged, kept, overlap=plan.overlap, random_counts=method.random_counts)
        wanted = min(crossed.wanted(), plan.most, MOST_DRAWS)
        if plan.fixed or wanted <= count:
            break
        count, done = wanted, count
    estimates, variances = crossed.estimates(full, method.confidence)
    return FewShot(
        size=plan.size,
        labels=plan.labels,
        shots=plan.shots,
        draws=count,
        overlap=plan.overlap,
        pool=len(plan.pool),
        judged_train=len(kept.judged),
        judged_test=kept.wrong_test.shape[1],
        folds=max(fit.folds for fit in fits),
        folds_judged=max(fit.folds_judged for fit in fits),
        penalties=tuple(fit.penalty for fit in fits),
        estimates=estimates,
        variances=variances,
        fits=tuple(fit.fit for fit in fits),
        tuning_fits=sum(fit.tuning_fits for fit in fits),
        tuning_missed=sum(fit.tuning_missed for fit in fits),
        notes=tuple(_notes(plan, crossed, fits, count, settings.draws)),
        seconds=time.perf_counter() - began,
        groups_judged=crossed.units["judged"].n_units if crossed.grouped else None,
        outcomes=kept,
    )


class _Drawing:
    """Fits of the draws of one size: side by side where they are small, one after the other with all threads else."""

    def __init__(self, task: Task, plan: DrawPlan, method: Method, settings: Settings, report: Report) -> None:
        self.task, self.plan, self.report = task, plan, report
        products = plan.labels * task.features.n_features * task.n_classes
        of_pass = products_of_pass(plan.labels, task.features.n_features, task.n_classes)
        self.side_by_side = products < SIDE_BY_SIDE  # a matter of size alone: results do not depend on the machine
        self.method = replace(
            method,
            device="cpu",  # few rows: a GPU would wait for each of many small fits
            n_threads=1 if self.side_by_side else method.n_threads,
            tol=settings.tol or (SMALL_TOL if of_pass < SMALL_PRODUCTS else TOL),
            tuning_tol=settings.tol or TUNING_TOL,
            max_passes=settings.max_passes or passes_for(of_pass),
        )
        most = int(SIDE_BYTES / (32 * plan.labels * task.features.n_features))
        self.workers = max(1, min(method.n_threads or count_cpus(), plan.most, most))
        self.one_fold = method.probe == "logistic" and products * plan.first > ONE_FOLD_PRODUCTS
        self._stopped = threading.Event()

    def fit(self, draws: Sequence[int]) -> list[DrawFit]:
        """Probes of these draws, in their order."""
        if not self.side_by_side:
            return [self._say(j, self._draw(j)) for j in draws]
        from threadpoolctl import threadpool_limits

        pool = ThreadPoolExecutor(self.workers)
        try:
            with threadpool_limits(1, "blas"):  # its threads would wait for each other, spinning
                return [self._say(j, fit) for j, fit in zip(draws, pool.map(self._draw, draws), strict=True)]
        except BaseException:  # ^C reaches this thread only: the others end at their next event
            self._stopped.set()
            raise
        finally:
            pool.shutdown(cancel_futures=True)

    def _say(self, draw: int, fit: DrawFit) -> DrawFit:
        detail = f"{self.plan.size.title}, draw {draw + 1}"
        self.report(Event("tune", draw + 1, self.plan.first, detail=detail))
        return fit

    def _listen(self, event: Event) -> None:
        if self._stopped.is_set():
            raise KeyboardInterrupt
        if not self.side_by_side:  # a report need not bear several threads
            self.report(event)

    def _draw(self, draw: int) -> DrawFit:
        task = self.task
        positions = self.plan.rows(draw + 1)[draw]
        rows = task.train_rows[positions]
        labels = task.labels[rows]
        keys = sample_keys([task.sample_ids[row] for row in rows.tolist()], self.method.seed)
        groups = None if task.groups is None else task.groups[rows]
        folds, n_folds, cuts = fold_rows(keys, labels, groups)
        judged = min(1, n_folds) if self.one_fold else n_folds
        shot = Shot(task.features.read(rows, n_threads=1), labels, folds, n_folds, groups, cuts)
        role = f"{self.plan.size.name}_draw_{draw}"
        return fit_shot(shot, task.n_classes, self.method, role, judged, self._listen)


def _sample(task: Task, positions: np.ndarray, seed: int) -> np.ndarray | None:
    """Of training rows (positions, ascending) that no draw may have seen, `MOST_JUDGED` with the same share of each
    class; None where there are no more than that. No group of theirs is in a draw, so that parts of groups will do."""
    if len(positions) <= MOST_JUDGED:
        return None
    rows = task.train_rows[positions].tolist()
    ids = [task.sample_ids[row] for row in rows]
    cut = stratified_cut(task.labels[rows], ids, share=MOST_JUDGED / len(positions), seed=seed)
    return np.asarray(positions[cut])


def _judge(fitter: Fitter, probes: "list[_core.LinearProbe]", rows: np.ndarray) -> np.ndarray:
    """bool (probes, rows): what each got wrong."""
    at_once = max(1, JUDGED_BYTES // (16 * max(1, len(rows))))
    found = [
        outcome.wrong
        for start in range(0, len(probes), at_once)
        for outcome in fitter.judge(probes[start : start + at_once], rows)
    ]
    return np.stack(found)


def _notes(plan: DrawPlan, crossed: Crossed, fits: Sequence[DrawFit], count: int, asked: int | None) -> Iterator[Note]:
    size = plan.size.title
    if not plan.disjoint:
        values: Values = {"size": size, "draws": count, "percent": 100 * plan.overlap.share}
        yield Note("draws_overlap", values)
    elif asked is not None and count < asked:
        yield Note("fewer_draws", {"size": size, "draws": count, "asked": asked})
    folds = max(fit.folds for fit in fits)
    if folds == 0:
        yield Note("draws_untuned", {"size": size, "alpha": fits[0].penalty.value})
    elif max(fit.folds_judged for fit in fits) < folds:
        yield Note("draws_one_fold", {"size": size, "folds": folds})
    if any(fit.cuts_groups for fit in fits):
        yield Note("draws_cut_groups", {"size": size})
    edge = sum(fit.penalty.value in fit.penalty.grid[:1] for fit in fits)  # stronger ones than the last change nothing
    if edge * 2 > len(fits):
        yield Note("draws_at_edge", {"size": size, "count": edge, "draws": len(fits)})
    if crossed.uncovered:
        yield Note("draws_uncovered", {"size": size, "classes": crossed.uncovered})
