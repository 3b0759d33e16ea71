"""A report from runs: which chapters and sections it has, and what is missing and why."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ssl_risk_rs.errors import ParameterError
from ssl_risk_rs.report import details, method, several
from ssl_risk_rs.report import parts as by_part
from ssl_risk_rs.report.geometry import Statistic
from ssl_risk_rs.report.geometry import section as geometry
from ssl_risk_rs.report.numbers import count
from ssl_risk_rs.report.other_metrics import metrics
from ssl_risk_rs.report.overview import components, facts, name_of
from ssl_risk_rs.report.page import Chapter, Missing, Page, Section
from ssl_risk_rs.report.sentences import place, short
from ssl_risk_rs.report.training import training
from ssl_risk_rs.results.compare import Comparison
from ssl_risk_rs.results.counterpart import Counterpart, NotPublished
from ssl_risk_rs.results.explain import Parts
from ssl_risk_rs.results.many import Curve
from ssl_risk_rs.results.metrics import HEADLINES
from ssl_risk_rs.results.run import Decomposition, Run

__all__ = ["DETAILED", "Material", "build_page"]

#: runs whose details are all on one page
DETAILED = 4


@dataclass(frozen=True, slots=True)
class Material:
    """What a report is made of.

    Attributes
    ----------
    runs : live or loaded
    parts : (position of the run, probe) → its errors by class and by group; of up to `DETAILED` runs
    comparisons : of all runs with the first, one for each probe; `not_compared` says why there are none
    published : (position of the run, probe) → the run beside the published table; `not_published` says for each
        position why there is nothing
    statistics : position of the run → statistics of its representation
    curve : the runs along training, where every one is of a checkpoint whose epoch is known
    """

    runs: tuple[Run, ...]
    parts: Mapping[tuple[int, str], Parts]
    comparisons: tuple[Comparison, ...] = ()
    not_compared: str = "The report has one run."
    published: Mapping[tuple[int, str], Counterpart] = field(default_factory=dict)
    not_published: Mapping[int, NotPublished] = field(default_factory=dict)
    statistics: Mapping[int, tuple[Statistic, ...]] = field(default_factory=dict)
    curve: Curve | None = None


def build_page(material: Material, *, made_by: str = "") -> Page:
    """The report of one run, or of several with their comparison.

    Raises
    ------
    ParameterError if there is no run.
    """
    runs = material.runs
    if not runs:
        raise ParameterError("a report needs at least one run")
    called = several.names(runs)
    chapters: list[Chapter] = []
    missing: list[Missing] = []
    found: list[Section | Missing] = _together(material, called)
    if sections := _kept(found, missing):
        chapters.append(Chapter("together", "The encoders together", sections))
    if len(runs) <= DETAILED:
        for i, run in enumerate(runs):
            for d in run.decompositions:
                found = _of_one(material, i, d)
                if len(runs) > 1:
                    found = [_named(each, called[i]) for each in found]
                of_one = _kept(found, missing)
                title = name_of(run, d) if len(runs) == 1 else f"{called[i]}, {d.method.probe}"
                chapters.append(Chapter(_key(i, d), title, of_one))
    else:
        where = place(runs[0])
        missing.append(
            Missing(
                "details", "Each encoder by itself",
                f"Classes, penalties and intervals of {len(runs)} runs would make a long page; up to {DETAILED} are "
                "shown.",
                f"ssl-risk-rs report {where}",
            )
        )  # fmt: skip
    closing = (method.method(runs), method.latex(runs, material.comparisons), method.provenance(runs, called))
    chapters.append(Chapter("how", "How it was made", closing))
    title = short(runs[0].provenance.encoder) if len(runs) == 1 else f"{len(runs)} encoders"
    head = facts(runs) if _alike(runs) else _differing(runs, material.comparisons)
    return Page(f"Where the error of {title} comes from", head, tuple(chapters), tuple(missing), made_by)


def _together(material: Material, called: Sequence[str]) -> list[Section | Missing]:
    runs = material.runs
    found: list[Section | Missing] = []
    probes = [p for p in ("logistic", "ridge") if all(p in run.probes for run in runs)]
    if apart := _targets_apart(runs):
        why = f"The runs predict different targets ({apart}), whose errors are not of one kind."
        return [Missing("beside", "The encoders side by side", why, f"ssl-risk-rs report {place(runs[0])}")]
    if len(runs) > 1 and not probes:
        found.append(
            Missing(
                "beside", "The encoders side by side",
                "No probe is common to all runs, so that their errors are not those of one kind of probe.",
                "ssl-risk-rs decompose FEATURES --probe both",
            )
        )  # fmt: skip
    if len(runs) > 1:
        by_probe = {each.probe: each for each in material.comparisons}
        found += [several.beside(runs, called, probe, by_probe.get(probe)) for probe in probes]
    for each in material.comparisons:
        found.append(several.comparison(each))
        if len(each.encoders) > 2:
            found.append(several.ranks(each))
    if not material.comparisons:
        command = None  # `compare` takes classes only
        if len(runs) == 1:
            command = f"ssl-risk-rs report {place(runs[0])} OTHER"
        elif all(run.main.predicts_classes for run in runs):
            command = "ssl-risk-rs compare A B"
        found.append(Missing("compare", "Against another encoder", material.not_compared, command))
    if probes and len(runs) > 1:
        found.append(training(material.curve, probes[0]))
    if probes:
        found += [several.shapes(runs, called, probes[0]), several.layers(runs, called, probes[0])]
    return found


def _targets_apart(runs: Sequence[Run]) -> str:
    """What runs predict, where that is not the same thing."""
    every = {(run.provenance.target or "the labels", run.main.method.metric) for run in runs}
    return "" if len(every) == 1 else ", ".join(sorted(f"{what} by {HEADLINES[m].label}" for what, m in every))


def _of_one(material: Material, i: int, d: Decomposition) -> list[Section | Missing]:
    run, key = material.runs[i], _key(i, d)
    beside = material.published.get((i, d.method.probe))
    why = material.not_published.get(i, NotPublished.NOT_FETCHED)
    parts = material.parts[i, d.method.probe]
    return [
        components(run, d, key),
        metrics(run, d, key),
        details.labels(run, d, key),
        by_part.classes(run, d, parts, key),
        by_part.groups(run, d, parts, key),
        details.tuning(run, d, key),
        details.uncertainty(run, d, key),
        details.published(run, d, beside, why, key),
        geometry(run, material.statistics.get(i, ()), key),
    ]


def _kept(found: Sequence[Section | Missing], missing: list[Missing]) -> tuple[Section, ...]:
    """The sections; those that are missing are put with the others, the same one only once."""
    for each in found:
        if isinstance(each, Missing) and (each.title, each.why, each.command) not in {
            (m.title, m.why, m.command) for m in missing
        }:
            missing.append(each)
    return tuple(each for each in found if isinstance(each, Section))


def _differing(runs: Sequence[Run], compared: Sequence[Comparison]) -> tuple[str, ...]:
    if compared:  # files of features have names of their own, whatever rows they are of
        return (f"the same {count(compared[0].n_train)} training and {count(compared[0].n_test)} test rows",)
    data = list(dict.fromkeys(run.provenance.data for run in runs))
    shown = ", ".join(data[:3]) + (" …" if len(data) > 3 else "")
    return (shown, "runs of unequal rows or protocol") if len(data) == 1 else (f"{len(data)} data sets: {shown}",)


def _named(each: Section | Missing, name: str) -> Section | Missing:
    """What is missing, with the run that it is missing of."""
    return replace(each, title=f"{each.title}, {name}") if isinstance(each, Missing) else each


def _key(i: int, d: Decomposition) -> str:
    return f"run{i + 1}-{d.method.probe}"


def _alike(runs: Sequence[Run]) -> bool:
    """Whether the runs are of the same data, rows and protocol."""
    firsts = [run.decompositions[0] for run in runs]
    kinds = [(d.sizes.train, d.sizes.test, d.sizes.classes, d.sizes.groups_test, d.method.protocol) for d in firsts]
    return len({run.provenance.data for run in runs}) == len(set(kinds)) == 1
