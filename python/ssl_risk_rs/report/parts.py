"""The error of one decomposition by class and by group: sections of a report."""

from collections.abc import Sequence

import numpy as np

from ssl_risk_rs._names import counted
from ssl_risk_rs.report import charts
from ssl_risk_rs.report.numbers import count, interval, percent
from ssl_risk_rs.report.overview import mark_notes, name_of
from ssl_risk_rs.report.page import Column, Figure, Missing, Section, Sentences, Table
from ssl_risk_rs.report.sentences import decomposed_again, mark
from ssl_risk_rs.results.explain import Part, Parts
from ssl_risk_rs.results.run import Decomposition, Run

__all__ = ["classes", "groups"]

#: classes or groups that a drawing shows, and a table lists
_DRAWN, _LISTED = 25, 50
_NO_CLASSES = "The target is numbers or labels, whose rows have a loss and are neither right nor wrong."
_NO_ROWS = "The record holds no judged rows, because an early version wrote it."
_TOTAL = "agg_risk"


def classes(run: Run, result: Decomposition, parts: Parts, key: str) -> Section | Missing:
    """Errors and components of each class."""
    title = "By class"
    if missing := _nothing_judged(run, result, f"{key}-classes", title):
        return missing
    totals = [part for part in parts.classes if part.quantity == _TOTAL]
    few = parts.classes_left_out
    left_out = f"{count(few)} {'class has' if few == 1 else 'classes have'} fewer than two rows in a set" if few else ""
    if not totals:
        return Missing(f"{key}-classes", title, f"{left_out or 'No class has rows'}: none is judged by itself.", None)
    named = {(part.name, part.quantity): part for part in parts.classes}
    names = result.component_names
    rows = [
        (total.name, _estimate(total), _interval(total), *(_estimate(named[total.name, name]) for name in names),
         count(total.n_test), count(total.n_train), count(total.n_subset))
        for total in totals[:_LISTED]
    ]  # fmt: skip
    table = Table(
        f"Error and its parts in percent, by class; {_first(totals, 'classes')}",
        (
            Column("class", False), Column("error"), Column(_level(result)),
            *(Column(charts.part_label(name)) for name in names), Column("n, test"), Column("n, train"),
            Column("n, held out"),
        ),
        tuple(rows),
        notes=(
            "Each class is decomposed on its own rows as the whole is on all. Its interval holds the sampling of "
            f"{'groups' if result.sizes.groups_test else 'rows'} and how the probe varies, as that of the whole does.",
            *([f"{left_out} and {'is' if few == 1 else 'are'} left out{_of_left_out(result, totals)}."] if few else []),
            *mark_notes([part.grade for total in totals[:_LISTED] for part in _of(named, total, names)]),
        ),
    )  # fmt: skip
    figure = _figure(f"{key}-classes", f"Error of {name_of(run, result)} by class", result, totals, "classes")
    return Section(f"{key}-classes", title, (Sentences(_spread(result, totals, "classes")), figure, table))


def groups(run: Run, result: Decomposition, parts: Parts, key: str) -> Section | Missing:
    """The error on each test group."""
    title = "By group"
    if missing := _nothing_judged(run, result, f"{key}-groups", title):
        return missing
    if result.sizes.groups_test is None:
        return Missing(
            f"{key}-groups", title, "Rows have no groups (patients, slides, scenes) in this run.",
            f"{decomposed_again(run)} --group COLUMN",
        )  # fmt: skip
    totals = [part for part in parts.groups if part.quantity == _TOTAL]
    if not totals:
        return Missing(f"{key}-groups", title, "No group has two test rows: none is judged by itself.", None)
    few = result.sizes.groups_test - len(totals)
    table = Table(
        f"Error on each test group in percent; {_first(totals, 'groups')}",
        (Column(run.provenance.group or "group", False), Column("error"), Column(_level(result)),
         Column("n, test rows")),
        tuple((part.name, _estimate(part), _interval(part), count(part.n_test)) for part in totals[:_LISTED]),
        notes=(
            "The interval is for further rows of that very group, not for further groups.",
            *([f"{count(few)} {'group has' if few == 1 else 'groups have'} one test row and "
               f"{'is' if few == 1 else 'are'} left out."] if few else []),
            *mark_notes([part.grade for part in totals[:_LISTED]]),
        ),
    )  # fmt: skip
    figure = _figure(f"{key}-groups", f"Error of {name_of(run, result)} by group", result, totals, "groups")
    return Section(f"{key}-groups", title, (Sentences(_spread(result, totals, "groups")), figure, table))


def _of_left_out(result: Decomposition, totals: Sequence[Part]) -> str:
    """What the probe errs on in test rows of classes that are not judged by themselves."""
    judged = result.judgements
    assert judged is not None  # it was asked for before
    there = ~np.isin(np.array(judged.class_names)[judged.test_labels], [part.name for part in totals])
    if not there.any():
        return ""
    error = percent(float(judged.us.wrong[there].mean()))
    return f": of their {counted(int(there.sum()), 'test row')} {error} % are wrong"


def _nothing_judged(run: Run, result: Decomposition, key: str, title: str) -> Missing | None:
    if not result.predicts_classes:
        return Missing(key, title, _NO_CLASSES, None)
    if result.judgements is None:
        return Missing(key, title, _NO_ROWS, run.provenance.command or decomposed_again(run))
    return None


def _of(named: dict[tuple[str, str], Part], total: Part, names: Sequence[str]) -> list[Part]:
    return [total, *(named[total.name, name] for name in names)]


def _estimate(part: Part) -> str:
    return f"{percent(part.estimate)} {mark(part.grade)}".rstrip()


def _interval(part: Part) -> str:
    return interval(part.low, part.high)


def _level(result: Decomposition) -> str:
    return f"{100 * result.method.confidence:g} % interval"


def _first(parts: Sequence[Part], what: str) -> str:
    """How a table is sorted, and what is left out of a long one."""
    first = "those that differ most surely from all rows first"
    return first if len(parts) <= _LISTED else f"{first} ({_LISTED} of {len(parts):,} {what})"


def _differs(part: Part, result: Decomposition) -> bool:
    """Whether the part differs from the whole, after Holm's correction over all parts of all classes or groups."""
    return part.p_holm < 1 - result.method.confidence


def _spread(result: Decomposition, parts: Sequence[Part], what: str) -> tuple[str, ...]:
    """Which parts stand out from the whole."""
    sure = [part for part in parts if _differs(part, result)]
    above = sorted((part for part in sure if part.difference > 0), key=lambda part: -part.estimate)
    said = [
        f"{len(above):,} of {len(parts):,} {what} {'lies' if len(above) == 1 else 'lie'} above the whole's "
        f"{percent(result.estimate(_TOTAL))} % and {len(sure) - len(above):,} below it beyond chance (Holm's "
        "correction)."
    ]
    if above:
        more = f" and {len(above) - 5:,} more" if len(above) > 5 else ""
        are = "is" if len(above) == 1 else "are"
        said.append(f"The highest {are} {', '.join(part.name for part in above[:5])}{more}.")
    return tuple(said)


def _figure(key: str, title: str, result: Decomposition, parts: Sequence[Part], what: str) -> Figure:
    total = result.estimate(_TOTAL)
    shown = sorted(parts[:_DRAWN], key=lambda part: (-part.estimate, part.name))
    rows = [
        charts.Dot(part.name, part.estimate, part.low, part.high, charts.INK, hollow=not _differs(part, result))
        for part in shown
    ]
    some = f", the {_DRAWN} of {len(parts):,} that differ most surely" if len(parts) > _DRAWN else ""
    ends = f"{shown[0].name} {percent(shown[0].estimate)} and {shown[-1].name} {percent(shown[-1].estimate)}"
    return Figure(
        key,
        title,
        f"The error of each of the {what}{some}, the highest first, with its interval; the dashed line is the whole's "
        f"{percent(total)} %, and points that differ from it beyond chance are filled. First and last: {ends} percent.",
        lambda width: charts.dots(rows, width, title="error, %", at=total),
        tuple(row.label for row in rows),
    )
