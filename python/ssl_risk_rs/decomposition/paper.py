"""The paper's protocol, as Dubois et al. 2023 ran it; every deviation is listed in docs/decomposition.md.

One subset as large as the test set, no scaling, a penalty for each risk from a study of its own on half of the
training rows of a fifth of the classes, for R_US on the test rows. Their SGD is replaced by the optimum at the same
weight decay.
"""

from dataclasses import dataclass

import numpy as np

from ssl_risk_rs._notes import Note
from ssl_risk_rs.decomposition.fitting import Fitted, Fitter, Start
from ssl_risk_rs.decomposition.outcomes import ProtocolResult, penalty_note, rows_of, sizes_of, twin_of, union_outcome
from ssl_risk_rs.decomposition.settings import PAPER_SEED, Settings
from ssl_risk_rs.decomposition.task import Task
from ssl_risk_rs.decomposition.tuning import Tried, as_penalty, best_of
from ssl_risk_rs.errors import ParameterError
from ssl_risk_rs.events import Report
from ssl_risk_rs.probes.features import Features
from ssl_risk_rs.probes.opened import Solvers
from ssl_risk_rs.results.judgements import Judgements
from ssl_risk_rs.results.record import Floor, Method

__all__ = ["paper"]

#: the share of the classes that the authors tune on
PAPER_CLASSES = 0.2
#: their weight decays, 1e-8 to 2e-4, in six steps instead of 30 trials
PAPER_ALPHAS = (2e-4, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)


@dataclass(frozen=True, slots=True)
class _Halves:
    """Rows of the tuning studies: a fifth of the classes, halved; and the test rows of those classes."""

    fitted: np.ndarray
    other: np.ndarray
    test: np.ndarray


def paper(
    task: Task, twin: Features | None, settings: Settings, method: Method, report: Report, solvers: Solvers
) -> ProtocolResult:
    """Fit and judge every probe of the paper's protocol."""
    train, test = task.train_rows, task.test_rows
    complement, subset, halves = draw_parts(task)
    fitter = Fitter(task.features, task.labels, task.n_classes, method, report, solvers)
    curves = _study(fitter, halves, {"af": halves.fitted, "as": halves.other, "us": halves.test})
    best = {name: best_of(curve) for name, curve in curves.items()}

    like = design = fitter.design(fitter.moments(complement))
    of_complement = fitter.fit("complement_0", design, complement, best["as"], absolute=True)
    held = fitter.outcome(of_complement.probe, subset)
    on_test = fitter.outcome(of_complement.probe, test)
    design = fitter.design(fitter.moments(train), like=like)
    fitted: dict[str, Fitted] = {}
    start: Start | None = None
    for name in sorted(("af", "us"), key=lambda name: -best[name]):
        fitted[name] = fitter.fit(f"full_{name}", design, train, best[name], start, absolute=True)
        start = fitted[name].start
    at_floor = fitter.outcome(fitted["af"].probe, train)
    floor_on_test = fitter.outcome(fitted["af"].probe, test)
    # the authors tune it in the study of R_AF
    alternative = settings.order != "paper"
    uf = union_outcome(fitter, task, best["af"], fitted["af"].start, design, absolute=True) if alternative else None
    fitted["as"] = of_complement
    penalties = {f"tuned_{name}": as_penalty(curves[name], fitted[name].absolute) for name in curves}
    of_twin = None
    if twin is not None:
        beside = Fitter(twin, task.labels, task.n_classes, method, report, solvers)
        curve = _study(beside, halves, {"sup": halves.fitted})["sup"]
        twin_design = beside.design(beside.moments(train))
        sup = beside.fit("supervised", twin_design, train, best_of(curve), absolute=True)
        of_twin = twin_of(beside, twin_design, sup.probe, np.nan, task)
        penalties["tuned_sup"] = as_penalty(curve, sup.absolute)

    in_subset = np.isin(train, subset)
    judgements = Judgements(
        **rows_of(task),
        subset=np.where(in_subset, 0, -1).astype(np.int8),
        fold=np.full(len(train), -1, np.int8),
        af=at_floor,
        us=fitter.outcome(fitted["us"].probe, test),
        held_out=held,
        cs=(on_test,),
        floor_on_test=floor_on_test,
        uf=uf,
        sup=None if of_twin is None else of_twin.train,
        sup_on_test=None if of_twin is None else of_twin.test,
    )
    notes = [Note("paper_protocol"), *_notes_on_groups(task, in_subset)]
    notes += [penalty_note(f"The penalty {_RISK[name]}", p) for name, p in penalties.items() if not p.inside]
    return ProtocolResult(
        judgements,
        sizes_of(task, judgements, design, of_twin, None),
        penalties,
        Floor(on_test=floor_on_test.error, separable=not at_floor.wrong.any()),
        (*fitter.fits, *(() if of_twin is None else of_twin.fits)),
        tuple(notes),
    )


def _notes_on_groups(task: Task, in_subset: np.ndarray) -> list[Note]:
    if task.groups is None:
        return []
    groups = task.groups[task.train_rows]
    cut = np.intersect1d(groups[in_subset], groups[~in_subset])
    return [Note("paper_cuts_groups", {"cut": len(cut), "total": len(np.unique(groups))})] if len(cut) else []


_RISK = {"tuned_af": "of R_AF", "tuned_as": "of R_AS", "tuned_us": "of R_US", "tuned_sup": "of R_ΦF"}


def draw_parts(task: Task) -> tuple[np.ndarray, np.ndarray, _Halves]:
    """Complement and held-out subset of the training rows, and the rows of the tuning studies.

    Raises
    ------
    ParameterError for rows that this protocol cannot cut.
    """
    train, test = task.train_rows, task.test_rows
    if len(test) * 2 > len(train):
        raise ParameterError(
            f"the paper's protocol sets aside as many training rows as there are test rows: {len(test)} of "
            f"{len(train)} are too many; use --protocol strict"
        )
    return (*_split(task, train, len(test)), _halves(task))


def _split(task: Task, rows: np.ndarray, size: int | float) -> tuple[np.ndarray, np.ndarray]:
    """Rest and stratified part of `rows`, as the authors draw them.

    Raises
    ------
    ParameterError where a class has a single row, or a part has fewer rows than there are classes.
    """
    from sklearn.model_selection import train_test_split

    classes, counts = np.unique(task.labels[rows], return_counts=True)
    if counts.min() < 2:
        name = task.class_names[int(classes[counts.argmin()])]
        raise ParameterError(
            f"the paper's protocol cuts the rows of each class in two, and class {name} has one training row; use "
            "--protocol strict"
        )
    smallest = min(size, len(rows) - size) if size >= 1 else int(size * len(rows))
    if smallest < len(classes):
        raise ParameterError(
            f"the paper's protocol sets aside rows of each of {len(classes)} classes, and there are {smallest} to set "
            "aside (as many as test rows, or half of a class); use --protocol strict"
        )
    rest, part = train_test_split(rows, stratify=task.labels[rows], test_size=size, random_state=PAPER_SEED)
    return np.sort(rest), np.sort(part)


def _halves(task: Task) -> _Halves:
    """A fifth of the classes is taken first, then their rows are halved."""
    classes = np.unique(task.labels[task.train_rows])
    count = max(2, int(PAPER_CLASSES * len(classes)))
    chosen = np.random.RandomState(PAPER_SEED).permutation(classes)[:count]

    def of_chosen(rows: np.ndarray) -> np.ndarray:
        return np.asarray(rows[np.isin(task.labels[rows], chosen)])

    other, fitted = _split(task, of_chosen(task.train_rows), 0.5)
    on_test = of_chosen(task.test_rows)
    if not len(on_test):
        raise ParameterError(
            f"none of the {count} classes that the paper's protocol tunes on has a test row; use --protocol strict"
        )
    return _Halves(fitted, other, on_test)


def _study(fitter: Fitter, halves: _Halves, judged_on: dict[str, np.ndarray]) -> dict[str, dict[float, Tried]]:
    """Errors by penalty of probes fitted on one half, on each set of rows."""
    design = fitter.design(fitter.moments(halves.fitted))
    lowest = design.alpha_floor if fitter.method.probe == "ridge" else 0.0
    alphas = [a for a in PAPER_ALPHAS if a >= lowest] or [lowest]
    curves: dict[str, dict[float, Tried]] = {name: {} for name in judged_on}
    start: Start | None = None
    for alpha in alphas:
        fitted = fitter.fit("tuning", design, halves.fitted, alpha, start, judged=False, absolute=True)
        start = fitted.start
        for name, rows in judged_on.items():
            curves[name][alpha] = Tried(fitter.errors(fitted.probe, rows), len(rows))
    return curves
