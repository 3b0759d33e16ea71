"""Features that exist already, a bank or files → a run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ssl_risk_rs.bank import FeatureBank, is_bank
from ssl_risk_rs.bank.formats import FeatureArrays, load_features
from ssl_risk_rs.bank.formats.embed import is_embedding, parse_embedding
from ssl_risk_rs.bank.store import FeatureStore
from ssl_risk_rs.decomposition.provenance import with_banks
from ssl_risk_rs.decomposition.settings import Settings
from ssl_risk_rs.decomposition.targets import Target, array_values, bank_values, retargeted
from ssl_risk_rs.decomposition.task import Task, make_task, other_features, same_loaded_rows
from ssl_risk_rs.errors import ParameterError, SslRiskError
from ssl_risk_rs.events import Report
from ssl_risk_rs.probes.features import Features
from ssl_risk_rs.results.provenance import Provenance
from ssl_risk_rs.results.run import Run
from ssl_risk_rs.workflow.probes import decompose_each

__all__ = ["Opened", "Reading", "Twin", "decompose_features", "decompose_opened", "find_bank", "open_features"]


@dataclass(frozen=True, slots=True)
class Reading:
    """How feature files are read, as in `load_features`; `store`: folder in which keys of banks are looked up."""

    features_columns: str | None = None
    drop_unlabelled: bool = False
    store: "Path | str | None" = None


@dataclass(frozen=True, slots=True)
class Opened:
    """A task, what names it, its column of groups and target, and the file's rows for comparison with a twin's."""

    path: str
    task: Task
    encoder: str
    data: str
    bank: FeatureBank | None = None
    arrays: FeatureArrays | None = None
    group: str | None = None
    target: Target | None = None


@dataclass(frozen=True, slots=True)
class Twin:
    """Features of a supervised encoder of the same architecture, in the same rows, and what names them."""

    name: str
    features: Features
    bank: FeatureBank | None = None


def decompose_features(
    path: str,
    *,
    test: str | None = None,
    supervised: str | None = None,
    group: str | None = None,
    target: Target | None = None,
    reading: Reading | None = None,
    probes: Sequence[str] = ("logistic",),
    settings: Settings | None = None,
    report: Report | None = None,
    spread: Callable[[FeatureBank], Features] | None = None,
) -> tuple[Run, SslRiskError | None]:
    """Decompose a feature bank or feature files with each probe.

    Parameters
    ----------
    path : a bank's folder, its key in the store, or feature files as `load_features` takes them
    test : the test rows, if they are in a file of their own
    supervised : the twin's features, in the same rows
    group : column whose groups are kept whole
    target : column that is predicted instead of the labels
    settings : of each probe, whatever probe they name
    spread : gives the rows of a bank to processes that hold them, as `engines.parts` does; for banks only

    Returns
    -------
    the run, and why a later probe is missing from it
    """
    reading, settings = reading or Reading(), settings or Settings()
    opened = open_features(path, reading, test=test, group=group, target=target)
    twin = None if supervised is None else _twin(opened, test, supervised, reading)
    if spread is not None:
        if opened.bank is None:
            raise ParameterError(f"{path} is no feature bank, whose rows an engine can hold: ssl-risk-rs store import")
        if settings.shots:
            raise ParameterError("few-shot fits need all rows in one process: leave out --shots, or --engine")
        opened = replace(opened, task=replace(opened.task, features=spread(opened.bank)))
        if twin is not None and twin.bank is not None:
            twin = replace(twin, features=spread(twin.bank))
    return decompose_opened(opened, twin, probes=probes, settings=settings, report=report)


def decompose_opened(
    opened: Opened, twin: Twin | None, *, probes: Sequence[str], settings: Settings, report: Report | None = None
) -> tuple[Run, SslRiskError | None]:
    """:func:`decompose_features` of features that are open."""
    features = None if twin is None else twin.features
    try:
        finished = decompose_each(
            opened.task, probes=probes, settings=settings, twin=features, control=None, name=opened.encoder,
            report=report,
        )  # fmt: skip
    except ParameterError as error:  # the solvers do not know what the rows are called
        raise ParameterError(f"{opened.path}: {error}") from error
    provenance = Provenance(
        encoder=opened.encoder,
        data=opened.data,
        supervised=None if twin is None else twin.name,
        no_control="features alone do not tell how their images look without training (ssl-risk-rs run adds one)",
        group=opened.group,
        target=None if opened.target is None else opened.target.column,
    )
    provenance = with_banks(provenance, {"encoder": opened.bank, "supervised": None if twin is None else twin.bank})
    return Run.of(*finished.decompositions, provenance=provenance), finished.failure


def open_features(
    path: str, reading: Reading, *, test: str | None = None, group: str | None = None, target: Target | None = None
) -> Opened:
    """Open a bank or feature files, with a column of groups, and one that is predicted instead of the labels; an
    embedding's own column of groups counts where none is named."""
    if is_embedding(path):
        group = group or parse_embedding(path).group
    opened = _open(path, reading, test, group)
    if target is None:
        return opened
    values = _columns_of(opened, path, target)
    task = retargeted(opened.task, values, target, drop_unlabelled=reading.drop_unlabelled)
    return replace(opened, task=task, target=target)


def _open(path: str, reading: Reading, test: str | None, group: str | None) -> Opened:
    bank = find_bank(path, reading.store)
    if bank is None:
        loaded = load_features(
            path, test, features_columns=reading.features_columns, group=group, drop_unlabelled=reading.drop_unlabelled
        )
        name = parse_embedding(path).path.name if is_embedding(path) else Path(path.split(",")[0]).name
        return Opened(path, make_task(loaded, groups=group), name, f"the rows of {name}", arrays=loaded, group=group)
    if test is not None:
        raise ParameterError(f"{path} is a feature bank, which holds its test rows: leave out --test-features")
    if reading.features_columns is not None:
        raise ParameterError(f"{path} is a feature bank, whose features are known: leave out --features-columns")
    return Opened(path, make_task(bank, groups=group), bank.shown_encoder, bank.shown_data, bank=bank, group=group)


def _columns_of(opened: Opened, path: str, target: Target) -> dict[str, np.ndarray]:
    """The columns that a target names, in the order of the task's rows."""
    if opened.bank is not None:
        return bank_values(opened.bank, target)
    assert opened.arrays is not None  # a bank or files
    return array_values(opened.arrays, target, path)


def find_bank(path: str, store: "Path | str | None") -> FeatureBank | None:
    """The bank in a folder, or the one with that key in the store; None for anything else that exists."""
    folder = Path(path).expanduser()
    if is_bank(folder):
        return FeatureBank.open(folder)
    if is_embedding(path) or "," in path or folder.exists() or Path(path).suffix:
        return None
    return FeatureBank.open(FeatureStore(store).resolve(path))


def _twin(opened: Opened, test: str | None, supervised: str, reading: Reading) -> Twin:
    bank = find_bank(supervised, reading.store)
    if (bank is None) != (opened.bank is None):
        one, other = (opened.path, supervised) if bank is None else (supervised, opened.path)
        raise ParameterError(
            f"{one} is a feature bank, {other} is none; make both the same: ssl-risk-rs store export, or import"
        )
    if bank is not None:
        return Twin(supervised, other_features(opened.task, bank, None, "supervised"), bank)
    # where the test rows are in a file of their own, all rows of the twin's file are training rows
    beside = load_features(
        supervised, None if test is None else supervised, group=opened.group, drop_unlabelled=reading.drop_unlabelled
    )
    assert opened.arrays is not None  # a twin in files beside features in files
    task = make_task(opened.arrays)  # as loaded: a target has other labels
    return Twin(supervised, same_loaded_rows(task, beside, supervised, training_only=test is not None))
