"""Errors of the nearest neighbours as plain text in percent."""

from collections.abc import Iterator, Sequence

from ssl_risk_rs.report.numbers import hundred
from ssl_risk_rs.report.sentences import legend, mark, short
from ssl_risk_rs.report.text import between, folded
from ssl_risk_rs.results.knn import Neighbours

__all__ = ["render_neighbours"]

_LABELS = {
    "knn_test": "test rows",
    "knn_test_rest": "test rows, by the rest",
    "knn_held": "held-out rows, by the rest",
    "knn_gap": "difference in points",
}


def render_neighbours(every: Sequence[Neighbours], width: int | None = None) -> str:
    """A table for each representation, their notes, and what the marks mean."""
    lines: list[str] = []
    for found in every:
        lines += ["", *_table(found)] if lines else _table(found)
    notes = dict.fromkeys(note.sentence() for found in every for note in found.notes)
    lines += [f"  note  {sentence}" for sentence in notes]
    lines += legend({e.grade for found in every for e in found.estimates.values()})
    return "\n".join(line.rstrip() if width is None else folded(line, width) for line in lines)


def _table(found: Neighbours) -> Iterator[str]:
    weights = "one vote each" if found.temperature is None else f"weights exp(cosine/{found.temperature:g})"
    yield f"{short(found.name)} on {found.data} · {found.k} nearest training rows by cosine, {weights}"
    yield (
        f"  {found.n_train:,} training rows · {found.n_test:,} test rows · {found.n_features:,} features · "
        f"{found.n_classes:,} classes · chance level {hundred(found.chance):.2f} %"
    )
    yield f"{'':30}{'error %':>9}   {f'{100 * found.confidence:g} % interval':^17}   {'rows':>9}"
    for quantity, e in found.estimates.items():
        rows = "" if quantity == "knn_gap" else f"{e.n:,}"
        ends = f"{between(e.low, e.high):<17}{mark(e.grade) or ' '}"
        yield f"  {_LABELS[quantity]:<28}{hundred(e.estimate):>9.2f}   {ends}  {rows:>9}"
