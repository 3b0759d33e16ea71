"""Results and comparisons as LaTeX tables (booktabs), in percent."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ssl_risk_rs._limits import check_whole
from ssl_risk_rs.errors import ParameterError
from ssl_risk_rs.report.numbers import hundred
from ssl_risk_rs.results.compare import Comparison
from ssl_risk_rs.results.estimate import Grade
from ssl_risk_rs.results.metrics import ERROR, HEADLINES, METRICS
from ssl_risk_rs.results.quantities import QUANTITIES
from ssl_risk_rs.results.reading import HasFrame, frame_of

if TYPE_CHECKING:
    import polars as pl

__all__ = ["escape", "printed_key", "to_latex"]

#: after the point, more than any estimate is known to
MOST_DIGITS = 12
#: columns of a table, where they are in the results
_SHOWN = ("approx", "usability", "approx_usability", "probe_gen", "enc_gen", "agg_risk")
_KEYS = ("encoder", "data", "target", "metric", "probe", "protocol", "shots")
#: metrics as they are printed; `r2` is the name of 1 − R², whose parts add up
_METRICS = {"r2": "$1 - R^2$", "auroc": "$1 -$ AUROC"}
_MARKS = {Grade.FEW_ROWS: "*", Grade.FEW_GROUPS: r"\dagger", Grade.INDICATIVE: r"\ddagger", Grade.NONE: r"\circ"}
_SAID = {
    Grade.FEW_ROWS: "fewer than 10 rows decide it",
    Grade.FEW_GROUPS: "fewer than 20 groups in a set of rows",
    Grade.INDICATIVE: "the interval is indicative only",
    Grade.NONE: "too few groups for an interval",
}
_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "Φ": r"$\Phi$", "α": r"$\alpha$", "<": r"$<$", ">": r"$>$",
}  # fmt: skip


def escape(text: str) -> str:
    """Text as LaTeX prints it."""
    return "".join(_SPECIAL.get(character, character) for character in text)


def to_latex(
    results: "pl.DataFrame | Comparison | HasFrame | Sequence[HasFrame]",
    *,
    quantities: Sequence[str] | None = None,
    intervals: bool = True,
    digits: int = 2,
) -> str:
    r"""A table of components, or of differences, with intervals; needs ``\usepackage{booktabs}``.

    Numbers are errors (of numbers and labels that are predicted, 1 − R² and 1 − AUROC) in percent with a point,
    whatever the locale. A row stands for each encoder; data, target, probe and protocol are columns where they
    differ, else a comment; the run folder is one where nothing else tells rows apart. Missing components are dashes.

    Parameters
    ----------
    results : a frame as `read_results` or `Run.frame` give it, one or several runs, or a Comparison
    quantities : names in `QUANTITIES`, in order; default: components and aggregated risk
    intervals : print the intervals below the numbers
    digits : after the point

    Raises
    ------
    ParameterError for an unknown quantity, or results without any of them.

    Examples
    --------
    >>> result = decompose(X, y, X_test, y_test, probe="ridge", name="my_encoder")
    >>> "my\\_encoder" in to_latex(Run.of(result))
    True
    """
    if unknown := [name for name in quantities or () if name not in QUANTITIES]:
        raise ParameterError(f"{unknown[0]!r} is no quantity; choose from {', '.join(QUANTITIES)}")
    check_whole("digits", digits, 0, MOST_DIGITS)
    if isinstance(results, Comparison):
        return _comparison(results, quantities, intervals, digits)
    return _runs(frame_of(results), quantities, intervals, digits)


def _runs(frame: "pl.DataFrame", quantities: Sequence[str] | None, intervals: bool, digits: int) -> str:
    missing = [name for name in ("encoder", "probe", "group", "quantity", "estimate") if name not in frame.columns]
    if missing:
        raise ParameterError(f"the frame has no column {missing[0]!r}: give one of read_results or Run.frame")
    if "metric" in frame.columns:  # one for each run: percent of a log-loss means nothing
        frame = frame.filter(frame["metric"].is_in(list(HEADLINES)))
    rows = frame.filter(frame["group"] == "all").to_dicts()
    there = {row["quantity"] for row in rows}
    names = [name for name in quantities or _SHOWN if name in there]
    if not names:
        raise ParameterError("there is nothing to print: the results have none of these quantities")
    by_run: dict[tuple[object, ...], dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        key = (row.get("path") or row.get("run"), *(row.get(name) for name in _KEYS))
        by_run.setdefault(key, {})[row["quantity"]] = row
    alike = len({key[1:] for key in by_run}) < len(by_run)
    # a reader of the table alone would take 1 − R² for an error
    unlike = any(key[1 + _KEYS.index("metric")] not in (None, "error") for key in by_run)
    vary = [
        i
        for i, name in enumerate(_KEYS)
        if name == "encoder" or len({key[1 + i] for key in by_run}) > 1 or (name == "metric" and unlike)
    ]
    first = next(iter(by_run))
    fixed = [
        f"{name} {first[1 + i]}"
        for i, name in enumerate(_KEYS)
        if i not in vary and first[1 + i] not in (None, "error")
    ]
    keys = [*(_KEYS[i] for i in vary), *(["run"] if alike else [])]
    heads = [*keys, *(escape(QUANTITIES[name].label) for name in names)]
    body = []
    for key, found in by_run.items():
        words = [printed_key(_KEYS[i], key[1 + i]) for i in vary]
        folder = [printed_key("run", next(iter(found.values())).get("run"))] if alike else []
        body.append([*words, *folder, *(_cell(found.get(name), intervals, digits) for name in names)])
    grades = {row["grade"] for found in by_run.values() for name, row in found.items()
              if name in names and row.get("grade")}  # fmt: skip
    said = ["errors in percent", *fixed, *(_levels(by_run) if intervals else ())]
    return _table(heads, body, len(keys), comment="; ".join(said), grades=grades)


def _levels(by_run: Mapping[tuple[object, ...], Mapping[str, Mapping[str, Any]]]) -> Iterator[str]:
    """The level of the intervals, of each encoder where they differ; nothing for runs that did not keep it."""
    levels = {}
    for key, found in by_run.items():
        level = next(iter(found.values())).get("confidence")
        levels[key] = None if level is None or math.isnan(level) else f"{100 * level:g} %"
    known = set(levels.values())
    if len(known) == 1:
        yield from (f"{level} intervals" for level in known if level is not None)
    else:
        of = (f"{level or 'not recorded'} of {key[1 + _KEYS.index('encoder')]}" for key, level in levels.items())
        yield f"intervals: {', '.join(of)}"


def printed_key(column: str, value: object) -> str:
    """What a table has for a key of a result, in one of its columns."""
    if column == "metric" and value in _METRICS:
        return _METRICS[str(value)]
    return escape("" if value is None else str(value))


def _comparison(found: Comparison, quantities: Sequence[str] | None, intervals: bool, digits: int) -> str:
    names = [n for n in quantities or _SHOWN if any(d.quantity == n for d in found.differences)]
    if not names:
        raise ParameterError("there is nothing to print: the comparison has none of these quantities")
    heads = ["encoder", *(escape(QUANTITIES[name].label) for name in names)]
    body = []
    for encoder in found.encoders[1:]:
        rows = {d.quantity: d for d in found.against(encoder)}
        cells = []
        for name in names:
            d = rows[name]
            ends = {} if d.identical else {"low": d.low, "high": d.high, "grade": d.grade.value}
            value = {"estimate": d.difference, **ends}
            cells.append(_cell(value, intervals, digits, signed=True))
        body.append([escape(encoder), *cells])
    errors = "" if found.metric == ERROR.name else f" of {METRICS[found.metric].label}s"
    comment = (
        f"differences{errors} from {found.baseline} in points; probe {found.probe}, protocol {found.protocol}"
        f"{f', target {found.target}' if found.target else ''}; "
        f"paired {100 * found.confidence:g} % intervals"
    )
    grades = {d.grade.value for d in found.differences if d.quantity in names and not d.identical}
    return _table(heads, body, 1, comment=comment, grades=grades)


def _cell(row: Mapping[str, Any] | None, intervals: bool, digits: int, *, signed: bool = False) -> str:
    if row is None:
        return "--"
    sign = "+" if signed else ""
    mark = _MARKS.get(Grade(row["grade"])) if row.get("grade") else None
    power = "" if mark is None else f"^{{{mark}}}"
    value = f"${hundred(row['estimate'], digits):{sign}.{digits}f}{power}$"
    low, high = row.get("low"), row.get("high")
    if not intervals or low is None or high is None or math.isnan(low) or math.isnan(high):
        return value
    return rf"{value} {{\scriptsize $[{hundred(low, digits):.{digits}f}, {hundred(high, digits):.{digits}f}]$}}"


def _table(heads: Sequence[str], body: Sequence[Sequence[str]], n_text: int, *, comment: str, grades: set[str]) -> str:
    said = [f"{_MARKS[grade]}: {text}" for grade, text in _SAID.items() if grade.value in grades]
    lines = [f"% {line}" for line in (comment, *said, r"needs \usepackage{booktabs}")]
    lines.append(rf"\begin{{tabular}}{{{'l' * n_text}{'r' * (len(heads) - n_text)}}}")
    lines += [r"\toprule", " & ".join(heads) + r" \\", r"\midrule"]
    lines += [" & ".join(row) + r" \\" for row in body]
    lines += [r"\bottomrule", r"\end{tabular}"]
    return "\n".join(lines) + "\n"
