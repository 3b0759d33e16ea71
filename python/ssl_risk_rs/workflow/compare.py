"""Run folders, banks and feature files → comparisons: what is not decomposed yet is decomposed alike, then compared."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from ssl_risk_rs._limits import whole_number
from ssl_risk_rs._names import distinct, refuse_twice
from ssl_risk_rs.bank import is_bank
from ssl_risk_rs.bank.formats.embed import is_embedding
from ssl_risk_rs.bank.formats.folder import refuse_other_folder
from ssl_risk_rs.decomposition.again import settings_like
from ssl_risk_rs.decomposition.matched import match_dimensions
from ssl_risk_rs.decomposition.matched_labels import match_labels
from ssl_risk_rs.decomposition.paired import check_comparable, common_probes, compare
from ssl_risk_rs.decomposition.settings import Probe, Settings
from ssl_risk_rs.decomposition.task import Task
from ssl_risk_rs.errors import DataError, NotComparableError, ParameterError
from ssl_risk_rs.events import Report
from ssl_risk_rs.results.compare import Comparison, Matched, no_classes
from ssl_risk_rs.results.matched_labels import MatchedLabels
from ssl_risk_rs.results.run import Run
from ssl_risk_rs.workflow.features import Reading, decompose_features, find_bank, open_features
from ssl_risk_rs.workflow.question import Question
from ssl_risk_rs.workflow.targets import is_run, refuse_other, target_of, task_of_run

__all__ = ["Compared", "compare_targets", "match_target_labels", "match_targets", "parse_numbers"]


@dataclass(frozen=True, slots=True)
class Compared:
    """A comparison for each probe, and the run of each target; `made` are those that were decomposed for it."""

    comparisons: tuple[Comparison, ...]
    runs: tuple[Run, ...]
    made: tuple[Run, ...] = field(default=())


def compare_targets(
    targets: Sequence[str],
    *,
    probes: Sequence[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    group: str | None = None,
    confidence: float | None = None,
    metric: str = "error",
    reading: Reading | None = None,
    keep: Callable[[Run, str], Run] = lambda run, _: run,
    report: Report | None = None,
) -> Compared:
    """Compare the first target with each other one.

    Parameters
    ----------
    targets : two or more of: run folders, banks (a folder or a key in the store), feature files with their test rows
    probes : default: those that all run folders have; logistic where there is none
    settings : fields of `Settings` but the probe, for what is decomposed here; what is None, or not named, is as in
        the first run folder
    group : column whose groups are kept whole; default: as in the first run folder
    confidence : of intervals and ranks; metric : see `compare`
    keep : called with each new run and its target as soon as it is finished; returns it as it was kept

    Raises
    ------
    ParameterError for fewer than two targets, or one that occurs twice; DataError for a target that is nothing of the
    three; NotComparableError that names the field which differs; those of `decompose_features`.
    """
    reading, loaded = reading or Reading(), _load(targets)
    runs = dict(loaded)
    _check_before_work(loaded, [t for t in targets if t not in loaded], probes, settings or {}, group, reading)
    question = _alike(list(loaded.values()), probes, settings or {}, group)
    if any(run.left_rows_out for run in loaded.values()):
        reading = replace(reading, drop_unlabelled=True)
    made = []
    for target in targets:
        if target in runs:
            continue
        run, failure = decompose_features(
            target,
            group=question.group,
            target=question.target,
            reading=reading,
            probes=question.probes,
            settings=question.settings,
            report=report,
        )
        runs[target] = keep(run, target)
        made.append(runs[target])
        if failure is not None:
            raise failure
    ordered = [runs[target] for target in targets]
    common = probes or common_probes(ordered)
    if not common:
        compare(ordered)  # says which probes each has
        raise NotComparableError("probe", "the runs have no probe in common")
    names = distinct([run.provenance.encoder for run in ordered], targets)
    found = tuple(compare(ordered, names=names, probe=p, confidence=confidence, metric=metric) for p in common)
    return Compared(found, tuple(ordered), tuple(made))


def match_targets(
    targets: Sequence[str],
    dimensions: str,
    *,
    probe: str = "logistic",
    settings: Mapping[str, Any] | None = None,
    group: str | None = None,
    confidence: float | None = None,
    reading: Reading | None = None,
    report: Report | None = None,
) -> Matched:
    """Compare the first target with each other one at equal dimension.

    Parameters
    ----------
    targets : banks, feature files, or run folders whose bank is still there
    dimensions : "64..2048" (powers of two and both ends) or "64,100,512"; those beyond the narrowest encoder are
        replaced by its number of features, which is always among them
    the others : as in `compare_targets`; features are not scaled

    Raises
    ------
    ParameterError for fewer than two targets, or dimensions that are none; DataError for a run folder without a bank;
    those of `match_dimensions`.
    """
    grid = parse_numbers(dimensions, "dimensions")
    unscaled = {**(settings or {}), "scaling": None}  # whatever scaling the runs have
    tasks, names, asked = _opened(targets, unscaled, group, reading or Reading())
    least = min(task.features.n_features for task in tasks)
    return match_dimensions(
        tasks,
        names,
        sorted({min(m, least) for m in grid} | {least}),
        settings=replace(asked, probe=cast(Probe, probe)),
        confidence=confidence,
        report=report,
    )


def match_target_labels(
    targets: Sequence[str],
    counts: str,
    *,
    probe: str = "logistic",
    settings: Mapping[str, Any] | None = None,
    group: str | None = None,
    confidence: float | None = None,
    reading: Reading | None = None,
    report: Report | None = None,
) -> MatchedLabels:
    """Compare the first target with each other one at equal class counts.

    Parameters
    ----------
    targets : banks, feature files, or run folders whose bank is still there; the same test rows
    counts : numbers of training rows, "1000..50000" (powers of two and both ends) or "1000,5000"
    the others : as in `compare_targets`

    Raises
    ------
    ParameterError for fewer than two targets, or counts that are none; DataError for a run folder without a bank; those
    of `match_labels`.
    """
    grid = parse_numbers(counts, "numbers of training rows")
    tasks, names, asked = _opened(targets, settings or {}, group, reading or Reading())
    # what depends on the number of rows is not taken over: there will be fewer
    asked = replace(asked, probe=cast(Probe, probe), subset_size=None, tuning_folds=None, midpoint=None)
    return match_labels(tasks, names, grid, settings=asked, confidence=confidence, report=report)


def _load(targets: Sequence[str]) -> dict[str, Run]:
    """The runs among two or more different targets."""
    if len(targets) < 2:
        raise ParameterError(f"a comparison needs at least two targets, got {len(targets)}")
    refuse_twice(targets, "an encoder does not differ from itself")
    return {target: Run.load(target) for target in targets if is_run(target)}


def _opened(
    targets: Sequence[str], given: Mapping[str, Any], group: str | None, reading: Reading
) -> tuple[list[Task], list[str], Settings]:
    """The features of each target, different names for them, and settings: groups, target and settings are those of the
    first run folder, where nothing else is asked for."""
    loaded = _load(targets)
    _refuse_asked_otherwise(loaded, given, group)
    question = _alike(list(loaded.values()), None, given, group)
    _refuse_unlike(loaded)
    tasks, names = [], []
    for name in targets:
        if name in loaded:
            tasks.append(task_of_run(loaded[name], name))
            names.append(loaded[name].provenance.encoder)
            continue
        opened = open_features(name, reading, group=question.group, target=question.target)
        tasks.append(opened.task)
        names.append(opened.encoder)
    return tasks, distinct(names, targets), question.settings


def _refuse_unlike(loaded: Mapping[str, Run]) -> None:
    """Refuse run folders whose groups or targets differ: rows and what is predicted of them are those of the first."""
    if not loaded:
        return
    (first, of_first), *others = ((name, run.provenance) for name, run in loaded.items())
    for name, provenance in others:
        if provenance.group != of_first.group:
            raise NotComparableError("group", f"groups of {first} are {of_first.group}, of {name} {provenance.group}")
        if provenance.target != of_first.target:
            what = [
                f"{run} predicts {of.target or 'the labels'}" for run, of in ((first, of_first), (name, provenance))
            ]
            raise NotComparableError("target", f"{' and '.join(what)}: compare runs of one target")


def parse_numbers(text: str, what: str) -> list[int]:
    """The numbers that a text names: "64..2048" (powers of two and both ends) or "64,100,512"; `what` they are.

    Raises
    ------
    ParameterError for anything else.
    """
    first, dots, last = text.partition("..")
    parts = [first, last] if dots else text.split(",")
    given = [number for part in parts if (number := whole_number(part.strip()))]
    if len(given) < len(parts):
        raise ParameterError(f"{text!r} names no {what}: write 64..2048, or 64,100,512")
    numbers = sorted(set(given))
    if dots:
        low, high = given
        if low > high:
            raise ParameterError(f"{text!r} goes down: write {last}..{first}")
        numbers = sorted({low, high, *(2**i for i in range(high.bit_length()) if low <= 2**i <= high)})
    return numbers


def _refuse_asked_otherwise(loaded: Mapping[str, Run], given: Mapping[str, Any], group: str | None) -> None:
    """Refuse run folders that were made with other settings than are asked for."""
    for target, run in loaded.items():
        method, sizes = run.decompositions[0].method, run.decompositions[0].sizes
        for name, value, wanted in (
            ("protocol", method.protocol, given.get("protocol")),
            ("scaling", method.scaling, given.get("scaling")),
            ("seed", method.seed, given.get("seed")),
            ("splits", sizes.planned_subsets or sizes.subsets, given.get("n_subsets")),
            ("group", run.provenance.group, group),
        ):
            refuse_other(target, name, value, wanted)


def _check_before_work(
    loaded: Mapping[str, Run],
    others: Sequence[str],
    probes: Sequence[str] | None,
    given: Mapping[str, Any],
    group: str | None,
    reading: Reading,
) -> None:
    """Complain about what cannot be compared in the end before anything is decomposed."""
    for target, run in loaded.items():
        if not run.main.predicts_classes:
            raise no_classes(target)
        for probe in probes or ():
            if probe not in run.probes:
                raise NotComparableError("probe", f"{target} has no {probe} probe, only {', '.join(run.probes)}")
    _refuse_asked_otherwise(loaded, given, group)
    if len(loaded) > 1 and others:
        for wanted_probe in probes or (None,):
            check_comparable(list(loaded.values()), list(loaded), wanted_probe)
    for target in others:
        if is_embedding(target):
            continue
        files = [Path(part.strip()).expanduser() for part in target.split(",")]
        for file in files:
            if file.is_dir() and not is_bank(file):
                refuse_other_folder(file)
        if all(file.exists() for file in files):
            continue
        if any(file.suffix for file in files):
            raise DataError(f"{target} does not exist; name run folders, feature banks or feature files")
        find_bank(target, reading.store)  # a key in the store


def _alike(
    loaded: Sequence[Run], probes: Sequence[str] | None, given: Mapping[str, Any], group: str | None
) -> Question:
    """How the missing runs are made: as the first loaded one was, where nothing else is asked for."""
    fields = {name: value for name, value in given.items() if value is not None}
    if not loaded:
        return Question(tuple(probes or ("logistic",)), Settings(**fields), group)
    alike = settings_like(loaded[0].decompositions[0])
    # what depends on the size of features, or was told of other rows, is not taken over
    alike = replace(alike, probe="logistic", tol=None, overlap=None, shared_groups=None, n_threads=None)
    chosen = tuple(probes or common_probes(loaded))
    return Question(chosen, replace(alike, **fields), group or loaded[0].provenance.group, target_of(loaded[0]))
