"""The strict protocol: one penalty tuned on folds that nothing is judged on, a stated floor for R_AF and R_ΦF."""

from collections.abc import Sequence

import numpy as np

from ssl_risk_rs._notes import Note
from ssl_risk_rs.decomposition.cells import draw_cells, notes_on_cells, plan_cells
from ssl_risk_rs.decomposition.fitting import Fitter, floor_fits
from ssl_risk_rs.decomposition.outcomes import (
    ProtocolResult,
    Twin,
    in_row_order,
    penalty_note,
    rows_of,
    sizes_of,
    twin_of,
    union_outcome,
)
from ssl_risk_rs.decomposition.settings import Settings
from ssl_risk_rs.decomposition.shares import leave_out_by_shares
from ssl_risk_rs.decomposition.task import Task
from ssl_risk_rs.decomposition.tuning import FROM_THE_MIDDLE, FoldPath, as_penalty, best_of, race
from ssl_risk_rs.events import Report, Steps
from ssl_risk_rs.probes.features import Features
from ssl_risk_rs.probes.opened import Solvers
from ssl_risk_rs.results.judgements import Judgements, Outcome
from ssl_risk_rs.results.record import Floor, Method, Penalty

__all__ = ["strict"]


def strict(
    task: Task, twin: Features | None, settings: Settings, method: Method, report: Report, solvers: Solvers
) -> ProtocolResult:
    """Fit and judge every probe of the strict protocol.

    A fit starts only from a fit on a subset of its own rows: folds → complement → all rows at α* → all rows at the
    floor. A start that has seen the rows a probe is judged on would leak them until the fit has converged.
    """
    train, test = task.train_rows, task.test_rows
    plan = plan_cells(task, settings, method)
    cells = draw_cells(task, settings, method, plan)
    notes = notes_on_cells(task, cells, plan)
    union = settings.order != "paper"
    # the penalty, the complements, all rows, the floor, and what there is beside
    steps = Steps(report, 3 + cells.subsets + union + (twin is not None))
    fitter = Fitter(task.features, task.labels, task.n_classes, method, steps, solvers)
    moments = fitter.moments(train, cells.of_row)
    paths = [
        FoldPath(fitter, moments, train, cells.of_row, fold, cells.folds, task.groups, hands_on=fold == 0)
        for fold in range(plan.folds_judged)
    ]
    on = method.tuned_on
    tried = race(paths, FROM_THE_MIDDLE, early=True, on=on) if len(paths) == 1 else race(paths, on=on)
    curve = tried.curve()
    left_out = leave_out_by_shares(tried, [train, *(cells.others(train, j) for j in range(cells.subsets))])
    if left_out is not None:
        notes.append(left_out)
    alpha, chances = best_of(tried.curve()), tried.chances()
    del tried
    if on != "error":
        notes.append(Note("tuned_on_balanced"))
    of_folds = [fitter.outcome(path.probe(alpha), test) for path in paths]
    held_rows = cells.held_out(train)
    of_folds_held = [fitter.outcome(path.probe(alpha), held_rows) for path in paths]
    at_others = [paths[0].probe(other) for other in chances if other != alpha]
    others, others_held = (fitter.judge(at_others, rows) for rows in (test, held_rows)) if at_others else ([], [])
    del at_others
    start = paths[0].start(alpha)
    like = paths[0].design  # of rows that every further fit has
    del paths

    held, cs, held_floor = [], [], []
    for j in range(cells.subsets):
        steps.next()
        rows, own = cells.others(train, j), cells.held_out(train, j)
        design = fitter.design(moments, cells.complement(j), like=like)
        complement = fitter.fit(f"complement_{j}", design, rows, alpha, start)
        held.append(fitter.outcome(complement.probe, own))
        cs.append(fitter.outcome(complement.probe, test))
        if plan.midpoint:
            role = f"complement_{j}_floor"
            _, weak = floor_fits(fitter, role, design, rows, settings.floor, complement.start, alpha, by_error=False)
            held_floor.append(fitter.outcome(weak.probe, own))
        last = complement.start
        del complement  # and the steps that it remembers, which the next fit drops one by one
    del start
    steps.next()
    design = fitter.design(moments, cells.every, like=like)
    full = fitter.fit("full", design, train, alpha, last)
    del last
    us = fitter.outcome(full.probe, test)
    steps.next()
    above, floor = floor_fits(fitter, "floor", design, train, settings.floor, full.start, alpha)
    at_alpha, at_floor = fitter.judge([full.probe, floor.probe], train)
    floor_on_test = fitter.outcome(floor.probe, test)
    uf = of_twin = None
    if union:
        steps.next()
        uf = union_outcome(fitter, task, settings.floor, floor.start, design)
    if twin is not None:
        steps.next()
        of_twin = _judge_twin(twin, task, settings.floor, method, steps, solvers)

    fold_of, subset_of = cells.fold_and_subset(train)
    judgements = Judgements(
        **rows_of(task),
        subset=subset_of,
        fold=fold_of,
        af=at_floor,
        at_alpha=at_alpha,
        us=us,
        held_out=in_row_order(held, subset_of),
        held_out_floor=in_row_order(held_floor, subset_of) if held_floor else None,
        cs=tuple(cs),
        floor_on_test=floor_on_test,
        fold_margins=np.stack([outcome.margin for outcome in of_folds]),
        fold_losses=np.stack([outcome.loss for outcome in of_folds]),
        fold_ranks=_ranks(of_folds),
        fold_margins_held=np.stack([outcome.margin for outcome in of_folds_held]),
        fold_losses_held=np.stack([outcome.loss for outcome in of_folds_held]),
        fold_ranks_held=_ranks(of_folds_held),
        other_penalties=tuple(others),
        other_penalties_held=tuple(others_held),
        penalty_chances=np.array(list(chances.values())),
        uf=uf,
        sup=None if of_twin is None else of_twin.train,
        sup_on_test=None if of_twin is None else of_twin.test,
    )
    penalties = {
        "tuned": as_penalty(curve, full.absolute, chosen=alpha),
        "floor": Penalty(settings.floor, floor.absolute),
    }
    if not penalties["tuned"].inside:
        notes.append(penalty_note("The tuned penalty", penalties["tuned"]))
    separable = not at_floor.wrong.any()
    return ProtocolResult(
        judgements,
        sizes_of(task, judgements, design, of_twin, plan),
        penalties,
        Floor(
            risk_above=fitter.train_error(above, train),
            sup_above=np.nan if of_twin is None else of_twin.above,
            on_test=floor_on_test.error,
            separable=separable,
        ),
        (*fitter.fits, *(() if of_twin is None else of_twin.fits)),
        tuple(notes),
    )


def _ranks(outcomes: Sequence[Outcome]) -> np.ndarray:
    """uint16 (probes, rows)"""
    return np.stack([np.minimum(outcome.rank, 65535).astype(np.uint16) for outcome in outcomes])


def _judge_twin(features: Features, task: Task, floor: float, method: Method, report: Report, solvers: Solvers) -> Twin:
    fitter = Fitter(features, task.labels, task.n_classes, method, report, solvers)
    design = fitter.design(fitter.moments(task.train_rows))
    above, weak = floor_fits(fitter, "supervised_floor", design, task.train_rows, floor, None, None)
    return twin_of(fitter, design, weak.probe, fitter.train_error(above, task.train_rows), task)
