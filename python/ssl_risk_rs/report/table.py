"""The table of a decomposition, as plain text in percent."""

import textwrap

from ssl_risk_rs.decomposition import Decomposition
from ssl_risk_rs.results import Provenance
from ssl_risk_rs.uncertainty import Estimate, components

LABELS = {
    "approx": "approximation",
    "usability": "representation usability",
    "approx_usability": "approximation + usability",
    "probe_gen": "probe generalization",
    "enc_gen": "encoder generalization",
    "agg_risk": "aggregated risk",
}

#: what a component below zero says
NEGATIVE = {
    "usability": "a probe on this representation fits the training rows better than one on the twin's",
    "probe_gen": "held-out training rows are predicted better than the rows the floor probe was fitted on",
    "enc_gen": "test rows are predicted better than held-out training rows",
}

BAR = 20
#: columns of a row without its bar, the mark of the bottleneck included
NARROW = 79
EIGHTHS = " ▏▎▍▌▋▊▉"


def bar(share: float, columns: int = BAR) -> str:
    """A bar of `share` (0 … 1) of some columns, in eighths."""
    eighths = round(max(0.0, min(1.0, share)) * columns * 8)
    return ("█" * (eighths // 8) + EIGHTHS[eighths % 8]).rstrip()


def short(name: str) -> str:
    """An encoder's name without the folders of its checkpoint."""
    scheme, _, rest = name.partition(":")
    return f"ckpt:{rest.rpartition('/')[2]}" if scheme == "ckpt" else name


def render(result: Decomposition, provenance: Provenance, width: int | None = None) -> str:
    """The table with its heading, checks and the sentences that belong to its numbers.

    With `width`, the columns of a terminal, bars are shortened or left out and lines folded to fit it.
    """
    estimates = result.uncertainty.estimates
    names = components(supervised=result.supervised)
    total = estimates["agg_risk"].estimate
    sizes, settings = result.sizes, result.settings
    columns = BAR if width is None else max(0, min(BAR, width - NARROW))
    lines = [
        f"{short(provenance.encoder)} · {provenance.data} {sizes['train']:,} + {sizes['test']:,} · "
        f"{sizes['classes']:,} classes · probe: {settings.probe} ({settings.protocol})",
        f"{'':28}{'error':>7}   {f'{100 * settings.confidence:g} % interval':^16}{'  share' if columns else ''}",
    ]
    for name in names:
        e = estimates[name]
        mark = ""
        if name == result.uncertainty.bottleneck:
            p = result.uncertainty.bottleneck_probability
            mark = f"← bottleneck, P {'> 0.99' if p > 0.99 else f'= {p:.2f}'}"
        if name == "approx" and provenance.supervised:
            mark = f"{mark}  twin: {short(provenance.supervised)}".strip()
        share = bar(e.estimate / total if total > 0 else 0.0, columns)
        lines.append(_row(LABELS[name], e, f"{share:<{columns}} {mark}"))
        if name == "enc_gen":
            lines += [
                _row("  at equal label count", estimates["enc_gen_equal_labels"]),
                _row("  fewer labels set aside", estimates["label_count"]),
            ]
    lines += [f"  {'─' * 54}", _row(LABELS["agg_risk"], estimates["agg_risk"], f"{'':<{columns}} rows add up")]
    if result.control is not None:
        e = result.control.uncertainty.estimates["enc_gen"]
        name = short(provenance.control or "control encoder")
        lines.append(_row("  control: enc. gen.", e, f"{'':<{columns}} {name}"))
    lines.append("  checks  " + "  ".join(_checks(result)))
    lines += [f"  note    {sentence}" for sentence in _sentences(result, provenance)]
    return "\n".join(line.rstrip() if width is None else _folded(line, width) for line in lines)


def _folded(line: str, width: int) -> str:
    return textwrap.fill(
        line.rstrip(), width, subsequent_indent=" " * 10, break_long_words=False, break_on_hyphens=False
    )


def _row(label: str, e: Estimate, rest: str = "") -> str:
    interval = f"[{100 * e.low:5.2f}, {100 * e.high:5.2f}]"
    rough = "*" if e.conservative else " "
    return f"  {label:<26}{100 * e.estimate:7.2f}   {interval:<16}{rough} {rest}"


def _checks(result: Decomposition) -> list[str]:
    certified = [f.gap for f in result.fits if f.stop == "certified" and f.gap is not None]
    counts = {stop: sum(f.stop == stop for f in result.fits) for stop in ("estimated", "max_passes")}
    found = []
    if result.settings.probe == "ridge":
        found.append("✓ closed form")
    else:
        text = f"{len(certified)} fits certified (gap ≤ {max(certified):.0e})" if certified else "0 fits certified"
        if counts["estimated"]:
            text += f", {counts['estimated']} estimated"
        if counts["max_passes"]:
            text += f", {counts['max_passes']} NOT converged"
        found.append(f"{'✓' if result.converged else '✗'} {text}")
    inside = not any("end of its grid" in note for note in result.notes)
    found.append(f"{'✓' if inside else '✗'} tuned penalty inside its grid")
    names = components(supervised=result.supervised)
    gap = abs(sum(result.estimate(n) for n in names) - result.estimate("agg_risk"))
    found.append(f"{'✓' if gap < 1e-9 else '✗'} components add up")
    return found


def _sentences(result: Decomposition, provenance: Provenance) -> list[str]:
    estimates = result.uncertainty.estimates
    said = list(result.notes)
    for name, meaning in NEGATIVE.items():
        e = estimates.get(name)
        if e is not None and e.estimate < 0:
            weight = "the interval covers 0" if e.high >= 0 else "more than chance explains"
            said.append(f"{LABELS[name]} is negative ({weight}): {meaning}")
    if not result.supervised:
        said.append("no supervised twin: approximation and usability are one row (--supervised names one)")
    if provenance.saw_training_images is False:
        said.append(
            f"the encoder was pretrained on {provenance.pretraining_data or 'other data'}, not on these images: "
            "encoder generalization is then the shift between train and test, and usability absorbs the rest"
        )
    if result.settings.protocol == "strict":
        said.append(
            f"usability rests on the penalty's floor: R_AF is {100 * result.estimate('risk_af'):.2f} at "
            f"{result.settings.floor:g}, {100 * result.sensitivity:.2f} one decade above"
        )
    if any(e.conservative for e in estimates.values()):
        said.append("* fewer than 10 rows decide this number: the interval is conservative")
    said += list(provenance.notes)
    return said
