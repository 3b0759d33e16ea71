"""Run folders, banks and feature files → an explanation: what the error is made of, for whom, and beside what."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssl_risk_rs._names import distinct, refuse_twice
from ssl_risk_rs.decomposition.explaining import (
    beside_control,
    compare_layers,
    compare_probes,
    confusions,
    decide,
    parts_of,
    spread_of,
)
from ssl_risk_rs.decomposition.nystrom import gap_bytes, usability_gap
from ssl_risk_rs.decomposition.settings import Settings
from ssl_risk_rs.decomposition.task import Task
from ssl_risk_rs.encoders.facts import BUNDLED, bundled_path, read_facts
from ssl_risk_rs.encoders.names import parse_name
from ssl_risk_rs.errors import NotComparableError, ParameterError, SslRiskError
from ssl_risk_rs.events import Report
from ssl_risk_rs.results.counterpart import NotPublished
from ssl_risk_rs.results.explain import Explanation, Layer, NoGap, UsabilityGap
from ssl_risk_rs.results.explain_published import PublishedTraits, published_traits
from ssl_risk_rs.results.provenance import Provenance
from ssl_risk_rs.results.run import Decomposition, Run
from ssl_risk_rs.workflow import published
from ssl_risk_rs.workflow.features import Reading, decompose_opened, open_features
from ssl_risk_rs.workflow.targets import is_run, refuse_other, task_of_run

__all__ = ["explain"]

#: products n·(d + m)·k of a pass of the non-linear probe up to which it is fitted unasked: 12,000 training rows of
#: Fashion-MNIST (196 + 512 features, 10 classes, 1.1e8) take a minute of one core
GAP_PRODUCTS = 1e8
#: memory that its features may take at most
MOST_BYTES = 4e9


@dataclass(frozen=True, slots=True)
class _Target:
    """A run, the features that it was made of where they are at hand, and why they are not."""

    name: str
    run: Run
    task: Task | None
    missing: NoGap | None = None

    @property
    def feature(self) -> str | None:
        """Layer and pooling of the features, as their bank names them."""
        bank = self.run.provenance.banks.get("encoder")
        return None if bank is None else bank.feature


def explain(
    targets: "str | os.PathLike[str] | Sequence[str | os.PathLike[str]]",
    *,
    probes: str | Sequence[str] = ("logistic",),
    probe: str | None = None,
    group: str | None = None,
    reading: Reading | None = None,
    gap: bool | None = None,
    settings: Settings | None = None,
    keep: Callable[[Run, str], Run] = lambda run, _: run,
    say: Callable[[str], None] = lambda _: None,
    report: Report | None = None,
) -> Explanation:
    """Explain a target; of several, which are layers of one encoder and are compared, the first.

    Parameters
    ----------
    targets : run folders, banks (a folder or a key in the store), or feature files with their test rows
    probes : "logistic", "ridge", or both, of what is decomposed here
    probe : the one that is explained; default: logistic, where a target has it
    group : column of groups, for what is decomposed here
    gap : whether a non-linear probe is fitted; None: where it takes a minute at most
    settings : of each probe, whatever probe they name, for what is decomposed here
    keep : called with each new run and its target; returns the run as it was kept
    say : receives a sentence where the published table is damaged

    Raises
    ------
    ParameterError for no target, one named twice, or layers of several encoders; NotComparableError for layers that
    were judged on other rows; those of `decompose_features`.
    """
    given: Any = targets
    if isinstance(targets, (str, os.PathLike)) or not isinstance(targets, Iterable):
        given = (targets,)
    given = tuple(given)
    for target in given:
        if not isinstance(target, (str, os.PathLike)):
            raise ParameterError(f"{target!r} is no path; save it first: explain(result.save(folder))")
    paths = tuple(os.fspath(target) for target in given)
    probes = (probes,) if isinstance(probes, str) else tuple(probes)
    if not paths:
        raise ParameterError("name a run folder, a feature bank or a feature file to explain")
    refuse_twice(paths, "layers are compared with other layers")
    reading = reading or Reading()
    opened = [_open(target, probes, group, reading, settings or Settings(), keep, report) for target in paths]
    first = opened[0]
    results = [_chosen(target, probe) for target in opened]
    result = results[0]
    if not result.predicts_classes:
        raise ParameterError(
            f"{first.name} predicts numbers or labels, and what explain says is of predicted classes: ssl-risk-rs "
            "report shows its parts"
        )
    untrained = _untrained(first.run.provenance)
    spread = None if first.task is None else spread_of(first.task.features, first.task.train_rows)
    control = first.run.provenance.control or "control"
    of_control = beside_control(result, (control, f"{first.run.provenance.encoder} (explained)"))
    parts = parts_of(result)
    found, no_gap = _gap(first, result, gap, report)
    return Explanation(
        result=result,
        provenance=first.run.provenance,
        verdict=decide(result, first.run.provenance, untrained=untrained, of_control=of_control, spread=spread),
        untrained=untrained,
        of_control=of_control,
        spread=spread,
        classes=parts.classes,
        classes_left_out=parts.classes_left_out,
        confusions=confusions(result.judgements),
        groups=parts.groups,
        probes=compare_probes(first.run),
        layers=_layers(opened, results),
        gap=found,
        no_gap=no_gap,
        published=_published(result, say),
    )


def _chosen(target: _Target, probe: str | None) -> Decomposition:
    if probe is not None and probe not in target.run.probes:
        raise ParameterError(f"{target.name} has no {probe} probe, only {', '.join(target.run.probes)}")
    return target.run.main if probe is None else target.run.of_probe(probe)


def _open(
    target: str,
    probes: Sequence[str],
    group: str | None,
    reading: Reading,
    settings: Settings,
    keep: Callable[[Run, str], Run],
    report: Report | None,
) -> _Target:
    if is_run(target):
        run = Run.load(target)
        refuse_other(target, "group", run.provenance.group, group)
        return _Target(target, run, *_features_of(run))
    opened = open_features(target, reading, group=group)
    run, failure = decompose_opened(opened, None, probes=probes, settings=settings, report=report)
    run = keep(run, target)
    if failure is not None:
        raise failure
    return _Target(target, run, opened.task)


def _features_of(run: Run) -> tuple[Task | None, NoGap | None]:
    """The features that a run was made of, or why they are not at hand."""
    if "encoder" not in run.provenance.banks:
        return None, NoGap.FILES
    try:
        return task_of_run(run, run.provenance.encoder), None
    except SslRiskError:
        return None, NoGap.BANK_GONE


def _untrained(provenance: Provenance) -> bool:
    """Whether the encoder's name says that its weights are random, or that it has none."""
    if provenance.encoder in BUNDLED:
        return read_facts(bundled_path(provenance.encoder)).get("objective") == "none"
    try:
        return parse_name(provenance.encoder).kind in ("random", "pixels")
    except SslRiskError:  # the name of a file
        return False


def _gap(
    target: _Target, result: Decomposition, asked: bool | None, report: Report | None
) -> tuple[UsabilityGap | None, NoGap | None]:
    if asked is False:
        return None, NoGap.DECLINED
    if result.method.protocol != "strict":
        return None, NoGap.PAPER
    if target.task is None:
        return None, target.missing
    task = target.task
    products = gap_bytes(task) / 4 * task.n_classes  # four bytes a number
    if gap_bytes(task) > MOST_BYTES or (asked is None and products > GAP_PRODUCTS):
        return None, NoGap.TOO_LARGE
    try:
        return usability_gap(task, result, report=report), None
    except NotComparableError:
        return None, NoGap.OTHER_ROWS


def _layers(opened: Sequence[_Target], results: Sequence[Decomposition]) -> tuple[Layer, ...]:
    if len(opened) < 2:
        return ()
    encoders = {t.run.provenance.encoder for t in opened if t.feature is not None}
    if len(encoders) > 1:
        raise ParameterError(
            f"several targets are explained as layers of one encoder, and these are of {', '.join(sorted(encoders))}: "
            "ssl-risk-rs compare compares encoders"
        )
    names = [t.feature or Path(t.name.split(",")[0]).name for t in opened]
    return compare_layers(results, distinct(names, [t.name for t in opened]))


def _published(result: Decomposition, say: Callable[[str], None]) -> PublishedTraits | None:
    """What published encoders with this bottleneck differ in; None where there is no table."""
    table = published.find_published(say)
    if isinstance(table, NotPublished):
        return None
    largest: Any = result.bottleneck.quantity.removesuffix("_alt")
    return published_traits(table, largest)
