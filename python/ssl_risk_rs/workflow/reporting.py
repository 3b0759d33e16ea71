"""Run folders → what a report is made of: the runs, their comparison, the published table, statistics beside them."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from ssl_risk_rs.decomposition.explaining import parts_of
from ssl_risk_rs.decomposition.paired import common_probes, compare
from ssl_risk_rs.errors import NotComparableError, ParameterError
from ssl_risk_rs.report.build import DETAILED, Material
from ssl_risk_rs.report.geometry import FILE, Statistic, read_statistics
from ssl_risk_rs.report.several import names
from ssl_risk_rs.results.compare import Comparison
from ssl_risk_rs.results.counterpart import Counterpart, NotPublished
from ssl_risk_rs.results.explain import Parts
from ssl_risk_rs.results.many import Curve, Entry
from ssl_risk_rs.results.reading import run_folders
from ssl_risk_rs.results.run import Run
from ssl_risk_rs.workflow import published
from ssl_risk_rs.workflow.many import kept_of, paired_steps

__all__ = ["gather", "material_of"]


def gather(
    targets: Sequence["str | os.PathLike[str]"],
    *,
    geometry: "str | os.PathLike[str] | None" = None,
    say: Callable[[str], None] = lambda _: None,
) -> Material:
    """Load runs and everything that is reported beside them.

    Parameters
    ----------
    targets : run folders, folders with run folders below them, or patterns, in the order they are reported; the first
        is what the others are compared with
    geometry : file of statistics of the one run; by default each run's own `geometry.parquet`
    say : receives a sentence for what a reader of the page should know before

    Raises
    ------
    ResultError if a run cannot be read; ParameterError for `geometry` with several runs; DataError for statistics that
    cannot be read.
    """
    folders = list(dict.fromkeys(folder for target in targets for folder in run_folders([target])))
    runs = tuple(Run.load(folder) for folder in folders)
    if geometry is not None and len(runs) > 1:
        raise ParameterError(
            f"--geometry names the statistics of one run, and there are {len(runs)}: put each file as {FILE} into its "
            "run folder instead"
        )
    comparisons, why = _compared(runs)
    if len(runs) > 1 and why:
        say(f"The runs are not compared row by row: {why}")
    found, missing = _published(runs, say)
    return Material(
        runs,
        _parts(runs),
        comparisons,
        why,
        found,
        missing,
        {i: read for i, run in enumerate(runs) if (read := _statistics(folders[i], run, geometry, say))},
        _along_training(folders, runs, say),
    )


def material_of(*runs: Run) -> Material:
    """What a report of these runs is made of, live or loaded, without what is beside them: a comparison, published
    numbers, statistics."""
    return Material(runs, _parts(runs))


def _parts(runs: Sequence[Run]) -> dict[tuple[int, str], Parts]:
    """The errors by class and by group of the runs whose details are shown."""
    shown = runs if len(runs) <= DETAILED else ()
    return {(i, d.method.probe): parts_of(d) for i, run in enumerate(shown) for d in run.decompositions}


def _compared(runs: Sequence[Run]) -> tuple[tuple[Comparison, ...], str]:
    """A comparison for each common probe, or why there is none."""
    if len(runs) < 2:
        return (), "The report has one run."
    probes = common_probes(runs)
    if not probes:
        return (), "No probe is common to all runs."
    try:
        return tuple(compare(runs, names=names(runs), probe=probe) for probe in probes), ""
    except NotComparableError as error:
        return (), f"{error}."


def _along_training(folders: Sequence[Path], runs: Sequence[Run], say: Callable[[str], None]) -> Curve | None:
    """The runs in the order of training; None unless one index beside all of them knows the epochs of checkpoints."""
    kept = [kept_of(folder) for folder in folders]
    if (
        len(runs) < 2
        or len({folder.parent.resolve() for folder in folders}) > 1
        or any(line is None or line.epoch is None for line in kept)
    ):
        return None
    entries = [
        Entry(name, line.model, run, epoch=line.epoch, epoch_from=line.epoch_from)
        for name, run, line in zip(names(runs), runs, kept, strict=True)
        if line is not None
    ]
    entries.sort(key=lambda entry: entry.epoch or 0.0)
    return Curve(tuple(entries), steps=paired_steps(entries, say))


def _published(
    runs: Sequence[Run], say: Callable[[str], None]
) -> tuple[dict[tuple[int, str], Counterpart], dict[int, NotPublished]]:
    """Each run beside the published table, or why not."""
    table = published.find_published(say)
    if isinstance(table, NotPublished):
        return {}, dict.fromkeys(range(len(runs)), table)
    found = {(i, each.probe): each for i, run in enumerate(runs) for each in published.beside(run, table)}
    there = {i for i, _ in found}
    return found, {i: NotPublished.NOT_AMONG for i in range(len(runs)) if i not in there}


def _statistics(
    folder: Path, run: Run, given: "str | os.PathLike[str] | None", say: Callable[[str], None]
) -> tuple[Statistic, ...]:
    file = folder / FILE if given is None else Path(given).expanduser()
    if given is None and not file.is_file():
        return ()
    return read_statistics(file, run, say)
