"""Representations and labels → five risks → four signed components with intervals.

Arrays or a feature bank come in; which encoder made them is never asked. Protocols: `strict` (default) never lets a
choice see the rows it is judged on; `paper` copies the choices of Dubois et al. 2023, tuning on the evaluation rows
included. Definitions and names: docs/decomposition.md.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from ssl_risk_rs._limits import check_choice, check_text
from ssl_risk_rs._notes import Note, each_once
from ssl_risk_rs._settings import with_options
from ssl_risk_rs.decomposition.both_sides import overlap_of, repeated, shared_groups, shared_ids
from ssl_risk_rs.decomposition.cells import draw_cells, plan_cells
from ssl_risk_rs.decomposition.fewshot import Planned, few_shot, plan_shots
from ssl_risk_rs.decomposition.intervals import crowded_risks, find_bottleneck, quantify_by
from ssl_risk_rs.decomposition.labelcurve import label_curve, measure
from ssl_risk_rs.decomposition.metrics import measure_metrics
from ssl_risk_rs.decomposition.paper import draw_parts, paper
from ssl_risk_rs.decomposition.regression import predict_targets
from ssl_risk_rs.decomposition.settings import (
    ERROR_TOL,
    PAPER_SEED,
    SMALL_PRODUCTS,
    TIGHT_TOL,
    TOL,
    TUNING_TOL,
    Settings,
    passes_for,
    products_of_pass,
)
from ssl_risk_rs.decomposition.strict import strict
from ssl_risk_rs.decomposition.targets import (
    HEADLINE_OF,
    Target,
    array_values,
    bank_values,
    refuse_for_targets,
    retargeted,
    with_arrays,
    with_numbers,
)
from ssl_risk_rs.decomposition.task import Representations, TargetKind, Task, check_task, make_task, other_features
from ssl_risk_rs.errors import ParameterError
from ssl_risk_rs.events import Event, Report, within
from ssl_risk_rs.probes.devices import choose_device
from ssl_risk_rs.probes.features import Features, column_names, refuse_other_columns
from ssl_risk_rs.probes.opened import Solvers
from ssl_risk_rs.results.estimate import Grade
from ssl_risk_rs.results.judgements import Judgements
from ssl_risk_rs.results.metrics import parse_metrics
from ssl_risk_rs.results.record import Floor, Method, Overlap, Sizes
from ssl_risk_rs.results.run import Decomposition

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["check_plan", "decompose", "decompose_task", "notes_on_floor", "refuse_overlap", "subsets_of"]

#: H/R_AF from which R_AF is said to be optimistic
OPTIMISTIC = 1.3
#: share of the variance of numbers from which one row decides what predicts them
MOST_OF_A_VARIANCE = 0.5
#: shares of the chance level: from here on a twin's probe tells nothing, and up to here an encoder's tells enough
AT_CHANCE, WELL_BELOW_CHANCE = 0.85, 0.7
#: chance level, as a share of that of equal classes, from which errors tell that
NEARLY_EQUAL = 0.8


def decompose(
    features: Representations,
    y: "ArrayLike | None" = None,
    X_test: "ArrayLike | None" = None,
    y_test: "ArrayLike | None" = None,
    *,
    supervised: "Representations | tuple[ArrayLike, ArrayLike] | None" = None,
    supervised_test: "ArrayLike | None" = None,
    control: "Representations | tuple[ArrayLike, ArrayLike] | None" = None,
    sample_ids: Sequence[str] | None = None,
    groups: "str | tuple[Sequence[object], Sequence[object]] | None" = None,
    drop_unlabelled: bool = False,
    target: str | None = None,
    target_kind: Literal["auto", "classes", "numbers", "labels"] = "auto",
    name: str | None = None,
    settings: Settings | None = None,
    report: Report | None = None,
    **options: Any,
) -> Decomposition:
    """Split the error of a linear probe into approximation, usability, probe and encoder generalization.

    Parameters
    ----------
    features : FeatureBank (or what `extract` gives, if it is one), what `load_features` gives, or array of shape
        (n_train, n_features)
        Representations; float16 and float32 are used as they lie, other numbers are converted to float32. Wherever
        arrays are taken, PyTorch tensors of any device are.
    y : array of shape (n_train,); X_test : (n_test, n_features); y_test : (n_test,)
        With arrays only. A label is a name: whole numbers or text. Every test class needs a training row. Arrays
        (n_train, k), (n_test, k) are k numbers a row, or k labels of 0 and 1, which a ridge probe predicts.
    supervised : as `features`, or array (n_train, d_s), or a pair (train, test); supervised_test : array (n_test, d_s)
        The supervised twin's representations of the same rows; gives the approximation error.
    control : as `features`, or pair of arrays (train, test)
        Representations that cannot have memorized an image; measures the data's own train-test shift.
    sample_ids : sequence of str, optional
        Identity of each row, training rows first: splits depend on them and on the seed, on nothing else. Default:
        the row number as text, so that splits then follow the order of the rows given.
    groups : name of a column of a bank or of loaded features, or (groups of the training rows, groups of the test
        rows), each a sequence, array, tensor or series
        Rows of one patient, slide or scene: folds and subsets take whole groups, intervals are by group.
    drop_unlabelled : leave rows labelled −1, NaN or empty out instead of refusing them
    target : column of a bank's samples, or of loaded features, to predict instead of the labels; several are joined by
        commas
    target_kind : how the target is read: "classes", "numbers" (errors are 1 − R²), "labels" (errors are 1 − AUROC, the
        mean over labels); "auto" tells them apart by what they hold, and takes one column of `y` for classes
    settings : Settings, whose fields keyword options (probe, protocol, seed, …) replace
    report : receives an Event for each step
    name : of the encoder, in tables and records; default: as the bank's header has it, "features" of arrays

    Returns
    -------
    Decomposition; `print` shows its table.

    Raises
    ------
    ShapeError, ParameterError, DataError, BankError; KeyboardInterrupt on ^C.

    Examples
    --------
    >>> result = decompose(X, y, X_test, y_test, probe="ridge")
    >>> round(sum(result.estimate(name) for name in result.component_names) - result.estimate("agg_risk"), 12)
    0.0

    Notes
    -----
    Dubois et al. 2023 (arXiv 2302.03068), section 3; docs/decomposition.md.
    """
    from ssl_risk_rs.bank import only_one
    from ssl_risk_rs.decomposition.provenance import provenance_of

    settings = with_options(settings or Settings(), options, "decompose")
    if name is not None:
        check_text("name", name)
    check_choice("target_kind", target_kind, ("auto", *get_args(TargetKind)))
    if isinstance(supervised, (tuple, list)) and supervised_test is None and len(supervised) == 2:
        supervised, supervised_test = supervised  # as a control comes
    if supervised is None and supervised_test is not None:
        raise ParameterError("supervised_test is the twin's test rows: give its training rows too, supervised=")
    features, supervised = only_one(features, "features"), only_one(supervised, "supervised")
    if isinstance(control, (tuple, list)):
        if len(control) != 2:
            raise ParameterError(f"control has {len(control)} parts; of arrays it is a pair: (train, test)")
        control = (control[0], control[1])
    else:
        control = only_one(control, "control")
    numbers = None
    target_names = column_names(y)
    if target_names is not None and len(target_names) > 1:  # of one there is no order to mistake
        refuse_other_columns(y, "y", y_test, "y_test")
    if y is not None and y_test is not None and (numbers := with_arrays(y, y_test, target_kind)) is not None:
        y, y_test = np.zeros(np.shape(y)[0], int), np.zeros(np.shape(y_test)[0], int)
    task = make_task(features, y, X_test, y_test, sample_ids=sample_ids, groups=groups, drop_unlabelled=drop_unlabelled)
    if numbers is not None:
        values, kind = numbers
        names = target_names or [str(i) for i in range(values.shape[1])]
        task = with_numbers(task, values, names, kind, drop_unlabelled=drop_unlabelled)
    if target is not None:
        task = _of_column(task, features, Target(target, target_kind), drop_unlabelled)
    twin = None if supervised is None else other_features(task, supervised, supervised_test, "supervised")
    blind = None
    if control is not None:
        control_train, control_test = control if isinstance(control, tuple) else (control, None)
        blind = other_features(task, control_train, control_test, "control")
        if blind.n_rows != task.features.n_rows:
            raise ParameterError("a control needs test rows as well: give control=(train, test)")
    provenance = provenance_of(
        features, supervised, control, name=name, target=target, group=groups if isinstance(groups, str) else None
    )
    found = decompose_task(task, twin=twin, control=blind, name=provenance.encoder, settings=settings, report=report)
    return replace(found, provenance=provenance)


def _of_column(task: Task, features: Representations, target: Target, drop_unlabelled: bool) -> Task:
    from ssl_risk_rs.bank import FeatureBank
    from ssl_risk_rs.bank.formats import FeatureArrays

    if isinstance(features, FeatureBank):
        values = bank_values(features, target)
    elif isinstance(features, FeatureArrays):
        values = array_values(features, target, "features")
    else:
        raise ParameterError("target names a column of a feature bank; the targets of arrays are y and y_test")
    return retargeted(task, values, target, drop_unlabelled=drop_unlabelled)


def decompose_task(
    task: Task,
    *,
    twin: Features | None = None,
    control: Features | None = None,
    name: str = "features",
    settings: Settings,
    report: Report | None = None,
    solvers: Solvers | None = None,
    overlap: Overlap | None = None,
) -> Decomposition:
    """:func:`decompose` on checked input; `twin` and `control` are features in the task's rows, `solvers` what another
    probe has opened and summed, `overlap` what is known of its rows already."""
    began = time.perf_counter()
    report, solvers = report or _silent, solvers or Solvers()
    method, planned, on_both_sides = _plan(task, settings)
    repeats: list[Note] = []
    if overlap is None:
        overlap, repeats = overlap_of(task, refuse=settings.overlap == "refuse")
    notes = [*task.notes, *on_both_sides, *shared_ids(task), *repeated(overlap, task), *repeats]
    if task.targets is not None:
        judged = predict_targets(task, twin, settings, method, report)
    else:
        protocol = strict if settings.protocol == "strict" else paper
        judged = protocol(task, twin, settings, method, report, solvers)
    sizes = replace(judged.sizes, overlap=overlap)
    found = quantify_by(judged.judgements, method, sizes)
    if crowded_risks(method, sizes):
        notes.append(Note("crowded", {"classes": sizes.classes}))
    metrics, left_out = measure_metrics(judged.judgements, parse_metrics(settings.metrics), method, sizes)
    notes += [*judged.notes, *found.notes, *planned.notes, *left_out]
    if sizes.constant_features:
        code = "features_all_constant" if sizes.constant_features == sizes.features else "constant_features"
        notes.append(Note(code, {"count": sizes.constant_features, "total": sizes.features}))
    if sizes.constant_twin_features:
        count, total = sizes.constant_twin_features, sizes.twin_features or 0
        notes.append(Note("constant_twin_features", {"count": count, "total": total}))
    if task.targets is None:
        notes += _notes_on_twin(judged.judgements, sizes)
    notes += _notes_on_targets(task, found.estimates["agg_risk"].estimate, sizes.chance)
    if task.targets is not None and judged.floor.separable:
        notes.append(Note("interpolated"))
    if task.targets is None:
        notes += notes_on_floor(judged.judgements, judged.floor, found.estimates["risk_af"].estimate)
    shots = few_shot(task, planned, judged.judgements, found.estimates, settings, method, report, solvers)
    measured = None
    totals = [found.estimates["agg_risk"], *(shot.estimates["agg_risk"] for shot in shots)]
    if shots and all(total.grade is not Grade.NONE for total in totals):
        measured = measure(judged.judgements, found.estimates["risk_us"], shots, random_counts=method.random_counts)
    result = Decomposition(
        name=name,
        method=method,
        sizes=sizes,
        penalties=judged.penalties,
        estimates=found.estimates,
        covariance=found.covariance,
        covariance_of=found.covariance_of,
        beta=found.beta,
        probe_variance=found.variation.test,
        probe_variation=found.variation,
        bottleneck=find_bottleneck(found, judged.floor, seed=method.seed, order=method.order),
        floor=judged.floor,
        fits=judged.fits,
        notes=tuple(each_once(notes)),
        seconds=time.perf_counter() - began,
        judgements=judged.judgements,
        metrics=metrics,
        shots=shots,
        label_curve=None
        if measured is None
        else label_curve(measured, confidence=method.confidence, n_classes=sizes.classes, errors=settings.labels_for),
    )
    if control is None:
        return result
    beside = replace(task, features=control, notes=())
    alone = replace(settings, shots=None, draws=None, labels_for=None)  # few-shot probes would take as long again
    told = within(report, "control")
    of_beside = decompose_task(
        beside, name="control", settings=alone, report=told, solvers=solvers, overlap=overlap
    )  # fmt: skip
    return result.with_control(of_beside)


def _notes_on_twin(judged: Judgements, sizes: Sizes) -> list[Note]:
    """A twin that tells nothing of labels which the encoder tells: its rows may be in another order."""
    chance = sizes.chance
    if judged.sup_on_test is None or judged.floor_on_test is None or chance < NEARLY_EQUAL * (1 - 1 / sizes.classes):
        return []  # beside a large class a probe that tells much errs as one that tells nothing
    twin, own = float(judged.sup_on_test.wrong.mean()), float(judged.floor_on_test.wrong.mean())
    if twin < AT_CHANCE * chance or own > WELL_BELOW_CHANCE * chance:
        return []
    return [Note("twin_at_chance", {"twin": 100 * twin, "chance": 100 * chance, "own": 100 * own})]


def check_plan(task: Task, settings: Settings) -> None:
    """Raise what `decompose_task` raises for rows, labels, groups and settings, before a feature is looked at.

    The task's features may still have to be made. How many subsets are held out depends on their number, so that,
    unless it is given, the plan that needs the fewest rows is tried: one subset.
    """
    method, _, _ = _plan(task, settings)
    if settings.protocol == "strict":
        settings = replace(settings, n_subsets=settings.n_subsets or 1)
        draw_cells(task, settings, method, plan_cells(task, settings, method))
    else:
        draw_parts(task)


def subsets_of(task: Task, settings: Settings) -> np.ndarray:
    """Number of the held-out subset of each training row, −1 where it is in none, int8 (n,), as they would be drawn."""
    if settings.protocol != "strict":
        _, subset, _ = draw_parts(task)
        return np.where(np.isin(task.train_rows, subset), 0, -1).astype(np.int8)
    method = _method(task, settings)
    cells = draw_cells(task, settings, method, plan_cells(task, settings, method))
    return cells.fold_and_subset(task.train_rows)[1]


def _plan(task: Task, settings: Settings) -> tuple[Method, Planned, list[Note]]:
    """What will run, few-shot draws, and notes on rows that are on both sides of train and test."""
    check_task(task)
    refuse_for_targets(task, settings)
    notes = _refused_or_noted(task, settings)
    method = _method(task, settings)
    return method, plan_shots(task, settings, method.seed), notes


def _silent(_: Event) -> None:
    pass


def _method(task: Task, settings: Settings) -> Method:
    """What will run."""
    products = products_of_pass(len(task.train_rows), task.features.n_features, task.n_classes)
    tol = settings.tol or (TIGHT_TOL if products < SMALL_PRODUCTS else TOL)
    paper_runs = settings.protocol == "paper"
    # the floor's training error is all that is wanted of it: no loss, no difference to a fit that ends by its objective
    by_error = (
        settings.probe == "logistic"
        and not paper_runs
        and not settings.tol
        and products >= SMALL_PRODUCTS
        and len(settings.metrics) == 1
        and settings.order == "paper"
    )
    return Method(
        probe=settings.probe,
        protocol=settings.protocol,
        scaling=settings.scaling or ("none" if paper_runs else "standardize"),
        seed=PAPER_SEED if paper_runs else settings.seed or 0,
        tol=tol,
        tuning_tol=tol if settings.tol or products < SMALL_PRODUCTS else TUNING_TOL,
        max_passes=settings.max_passes or passes_for(products),
        confidence=settings.confidence,
        random_counts=settings.random_counts,
        n_threads=settings.n_threads,
        device=choose_device(settings.device, products),
        error_tol=ERROR_TOL if by_error else None,
        view=task.view,
        metric=HEADLINE_OF[task.target_kind],
        order=settings.order,
        tuned_on=settings.tune_on,
    )


def _refused_or_noted(task: Task, settings: Settings) -> list[Note]:
    """Rows that are on both sides of train and test: refused under `strict`, unless a warning is asked for."""
    notes = shared_groups(task)
    if notes and (settings.shared_groups or _by_default(settings)) == "refuse":
        shared = notes[0].values
        raise ParameterError(
            f"{shared['count']} groups have training and test rows (for example {shared['example']}): the test error "
            "would be too low for new groups. Keep each group on one side, or give --shared-groups warn"
        )
    if task.overlap:
        refuse_overlap(task.overlap, settings)
        notes.append(Note("overlap", {"count": task.overlap}))
    return notes


def _by_default(settings: Settings) -> str:
    return "refuse" if settings.protocol == "strict" else "warn"


def refuse_overlap(n_test: int, settings: Settings) -> None:
    """Raise ParameterError for test images that are training images too, unless a warning is asked for."""
    if n_test and (settings.overlap or _by_default(settings)) == "refuse":
        images = f"{n_test:,} test images are also training images"
        if n_test == 1:
            images = "1 test image is also a training image"
        raise ParameterError(
            f"{images}, byte for byte: the test error would be too low. Remove {'it' if n_test == 1 else 'them'} "
            "(ssl-risk-rs data check lists them), or give --overlap warn"
        )


def _notes_on_targets(task: Task, total: float, chance: float) -> list[Note]:
    """Numbers of which one row makes most of the variance, and a probe that is worse than their mean."""
    if task.targets is None or task.target_kind != "numbers":
        return []
    notes = []
    for rows, name in ((task.train_rows, "training"), (task.test_rows, "test")):
        squares = np.square(task.targets[rows] - task.targets[rows].mean(0))
        variance = squares.mean(0)
        made = (squares[:, variance > 0] / variance[variance > 0]).sum(1)
        share = float(made.max() / made.sum()) if made.any() else 0.0
        if share > MOST_OF_A_VARIANCE:
            example = str(task.sample_ids[int(rows[made.argmax()])])
            notes.append(Note("one_row_of_targets", {"rows": name, "percent": 100 * share, "example": example}))
    if total > chance:
        notes.append(Note("above_guessing", {"total": 100 * total, "chance": 100 * chance}))
    return notes


def notes_on_floor(judged: Judgements, floor: Floor, risk_af: float) -> list[Note]:
    """What R_AF is worth: whether the floor probe separates its rows, how much more often such probes err on training
    rows that they have not seen, or, where none were judged, on test rows."""
    if floor.separable:
        return [Note("separable")]
    if risk_af <= 0:
        return []
    held = judged.held_out_floor
    code, unseen = ("optimistic_af", floor.on_test) if held is None else ("optimistic_af_held_out", held.error)
    return [Note(code, {"ratio": unseen / risk_af})] if unseen / risk_af >= OPTIMISTIC else []
