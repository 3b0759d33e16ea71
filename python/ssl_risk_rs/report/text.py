"""The table of a run, as plain text in percent."""

import math
import textwrap
from collections.abc import Iterator

from ssl_risk_rs.report.metrics import metric_lines, metric_marks
from ssl_risk_rs.report.numbers import hundred
from ssl_risk_rs.report.orders import encoder_generalization, order_rows, order_sentence, shown_names
from ssl_risk_rs.report.sentences import checks, legend, mark, notes, short, stand_in, targets
from ssl_risk_rs.report.shots import marks_of, shot_lines
from ssl_risk_rs.results.estimate import Estimate
from ssl_risk_rs.results.provenance import Provenance
from ssl_risk_rs.results.quantities import DETAILS, QUANTITIES
from ssl_risk_rs.results.run import Decomposition, Run

__all__ = ["bar", "between", "folded", "render", "render_one"]

BAR = 20
#: columns of a row without its bar, the mark of the bottleneck included
NARROW = 83
EIGHTHS = " ▏▎▍▌▋▊▉"
#: errors of targets that are no classes
_ERRORS = {"r2": "1 - R²", "auroc": "1 - AUROC"}
#: what a terminal without these characters is shown
PLAIN = str.maketrans({"─": "-", "█": "#", "←": "<-", "✓": "ok:", "✗": "FAILED:", "·": "-", "–": "-", "α": "alpha",
                       "Φ": "Phi", "×": "x", "…": "...", "†": "+", "‡": "++", "≤": "<=", "→": "->",
                       "±": "+-", "²": "^2", "−": "-", "▓": "=", "▒": "+", "░": ".",
                       **dict.fromkeys(EIGHTHS[1:], "#")})  # fmt: skip


def bar(share: float, columns: int = BAR) -> str:
    """A bar of `share` (0 … 1) of some columns, in eighths."""
    eighths = round(max(0.0, min(1.0, share)) * columns * 8)
    return ("█" * (eighths // 8) + EIGHTHS[eighths % 8]).rstrip()


def render(run: Run, width: int | None = None) -> str:
    """The tables of all decompositions of a run; with `width`, lines are folded to the columns of a terminal."""
    return "\n\n".join(render_one(d, run.provenance, width) for d in run.decompositions)


def render_one(result: Decomposition, provenance: Provenance, width: int | None = None) -> str:
    """One decomposition: heading, components with intervals, checks, notes."""
    columns = BAR if width is None else max(0, min(BAR, width - NARROW))
    lines = [
        *_heading(result, provenance),
        *_rows(result, provenance, columns),
        *metric_lines(result),
        *shot_lines(result),
    ]
    for check in checks(result):
        lines.append(f"  {'✓' if check.passed else '✗'} {check.text}")
    lines += [f"  note  {note.sentence()}" for note in notes(result, provenance)]
    used = {result.estimates[name].grade for name in shown_names(result)} | marks_of(result) | metric_marks(result)
    if result.control is not None:
        used |= {result.control.estimates[name].grade for name in (encoder_generalization(result), "agg_risk")}
    lines += legend(used)
    return "\n".join(line.rstrip() if width is None else folded(line, width) for line in lines)


def _heading(result: Decomposition, provenance: Provenance) -> Iterator[str]:
    sizes, method = result.sizes, result.method
    data = provenance.data + (f", target {provenance.target}" if provenance.target else "")
    yield f"{short(provenance.encoder)} on {data} · {method.probe} probe ({method.protocol} protocol)"
    yield from stand_in(provenance)
    facts = [f"{sizes.train:,} training rows", f"{sizes.test:,} test rows"]
    if sizes.features:
        facts.append(f"{sizes.features:,} features")
    facts.append(targets(result))
    if math.isfinite(sizes.chance):
        facts.append(f"chance level {hundred(sizes.chance):.2f} %")
    if method.device != "cpu":
        facts.append(f"probes on {method.device}")
    yield "  " + " · ".join(facts)
    if sizes.groups_train is not None:
        column = f" of {provenance.group}" if provenance.group else ""
        strict = method.protocol == "strict"  # the paper's protocol cuts rows
        whole, held = ("whole groups", "of them held out") if strict else ("groups", "with held-out rows")
        yield (
            f"  {whole}{column}: {sizes.groups_train:,} in the training rows ({sizes.groups_subset:,} {held}), "
            f"{sizes.groups_test:,} in the test rows"
        )


def _rows(result: Decomposition, provenance: Provenance, columns: int) -> Iterator[str]:
    estimates = result.estimates
    total = estimates["agg_risk"].estimate
    error = f"{_ERRORS.get(result.method.metric, 'error')} %"
    yield f"{'':24}{error:>13}   {f'{100 * result.method.confidence:g} % interval':^17}"
    for name in result.component_names:
        e = estimates[name]
        note = ""
        p = result.bottleneck.probability
        if name == result.bottleneck.quantity and p is not None:
            note = f"← largest, P {'> 0.99' if p > 0.99 else f'= {p:.2f}'}"
        if name == "approx" and provenance.supervised:
            note = f"{note}  twin: {short(provenance.supervised)}".strip()
        filled = bar(e.estimate / total if total > 0 else 0.0, columns)
        yield _row(QUANTITIES[name].label, e, f"{filled:<{columns}} {note}")
        if name == "enc_gen":
            for detail in DETAILS:
                if detail in estimates:
                    yield _row(f"  {QUANTITIES[detail].label}", estimates[detail])
    yield f"  {'─' * 56}"
    yield _row(QUANTITIES["agg_risk"].label, estimates["agg_risk"])
    for e in order_rows(result):
        yield _row(QUANTITIES[e.quantity].label, e)
    if sentence := order_sentence(result):
        yield f"  {sentence}"
    if result.control is not None:
        control = result.control.estimates
        name = short(provenance.control or "control encoder")
        encoder = encoder_generalization(result)
        yield _row(f"control: {QUANTITIES[encoder].short}", control[encoder], f"{'':<{columns}} {name}")
        yield _row("control: aggregated risk", control["agg_risk"])


def _row(label: str, e: Estimate, rest: str = "") -> str:
    interval = between(e.low, e.high)
    sign = mark(e.grade) or " "
    return f"  {label:<26}{hundred(e.estimate):9.2f}   {interval:<17}{sign} {rest}"


def between(low: float, high: float) -> str:
    """An interval in percent."""
    return "no interval" if math.isnan(low) else f"[{hundred(low):6.2f}, {hundred(high):6.2f}]"


def folded(line: str, width: int) -> str:
    """A line in the columns of a terminal; what goes on is indented."""
    return textwrap.fill(
        line.rstrip(), width, subsequent_indent=" " * 8, break_long_words=False, break_on_hyphens=False
    )
