"""The published table as plain text in percent: an encoder, and a run beside its published numbers."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from ssl_risk_rs.report.numbers import hundred
from ssl_risk_rs.report.text import between, folded
from ssl_risk_rs.results.counterpart import Counterpart, fault_notes
from ssl_risk_rs.results.place import Place, place
from ssl_risk_rs.results.published import CONFIDENCE, FEW_SHOT, RISKS, Published
from ssl_risk_rs.results.quantities import QUANTITIES

if TYPE_CHECKING:
    import polars as pl

__all__ = ["label", "render_beside", "render_encoder"]

_LABELS = {
    "risk_30_shots": "risk, 30 labels a class",
    "risk_1_percent": "risk, 1 % of the labels",
    "risk_5_shots": "risk, 5 labels a class",
    "risk_3_shots": "risk, 3 labels a class",
}
#: what a reader wants to know of a published encoder
_FACTS = (
    "objective", "ssl_mode", "architecture_exact", "z_dim", "z_layer", "n_parameters",
    "pretraining_data", "epochs", "batch_size", "views", "year", "license", "where",
)  # fmt: skip


def label(quantity: str) -> str:
    """What a table calls a quantity of the published table."""
    return _LABELS.get(quantity) or QUANTITIES[quantity].label


def render_beside(found: Counterpart, n_published: int, width: int | None = None) -> str:
    """One decomposition beside the published table: numbers, reasons, place."""
    lines = list(_beside(found, n_published))
    return "\n".join(line.rstrip() if width is None else folded(line, width) for line in lines)


def render_encoder(published: Published, encoder: str, width: int | None = None) -> str:
    """A published encoder: errors with their place, facts, what is wrong in its row.

    `encoder` : a name in the table
    """
    row = published.row(encoder)
    if row is None:
        raise KeyError(encoder)
    errors = {name: value for name in RISKS if isinstance(value := row[name], float)}
    found = place(published, errors, encoder=encoder)
    below = {str(r["quantity"]): r for r in found.standings.iter_rows(named=True)}
    lines = [f"{encoder}, as published for ImageNet-1K (logistic probe, no intervals)"]
    lines.append(f"{'':28}{'error %':>9}   lower than")
    sections = (("approx", "usability") if "approx" in errors else ("approx_usability",), ("probe_gen", "enc_gen"))
    for name in (*sections[0], *sections[1]):
        lines.append(_standing(name, errors[name], below[name]))
    lines.append(f"  {'─' * 56}")
    lines += [_standing(name, errors[name], below[name]) for name in ("agg_risk", *FEW_SHOT) if name in errors]
    lines += list(_place(found, standings=False))
    lines += [f"  {name:<20} {row[name]}" for name in _FACTS if row.get(name) is not None]
    lines += [f"  note  {note.sentence()}" for note in fault_notes(published, encoder)]
    return "\n".join(line.rstrip() if width is None else folded(line, width) for line in lines)


def _beside(found: Counterpart, n_published: int) -> Iterator[str]:
    if found.encoder is not None:
        yield f"{found.encoder} in the published table ({n_published} encoders, ImageNet-1K) · {found.probe} probe here"
        yield f"{'':28}{'here %':>9}   {'interval':^17} {'published %':>12} {'difference':>11}"
        for row in found.rows:
            interval = between(row.low, row.high)
            both = f"{'not known':>12} {'':>11}"
            if row.published is not None and row.difference is not None:
                both = f"{hundred(row.published):12.2f} {hundred(row.difference):+11.2f}"
            yield f"  {label(row.quantity):<26}{hundred(row.measured):9.2f}   {interval:<17} {both}"
        for note in found.reasons:
            yield f"  note  {note.sentence()}"
    else:
        yield f"This encoder is not among the {n_published} published ones (ImageNet-1K) · {found.probe} probe here"
    if found.place is not None:
        whose = "measured here" if found.place_is_measured else "published"
        yield f"  place of the errors {whose}: each is lower than this share of the published ones"
        yield from _place(found.place, standings=True)


def _standing(name: str, value: float, row: Mapping[str, float | int | None]) -> str:
    above = row["below"]
    of = "" if above is None else f"{hundred(1 - above, 0):5.0f} % of {row['n']} others"
    return f"  {label(name):<26}{hundred(value):9.2f}   {of}"


def _place(found: Place, *, standings: bool) -> Iterator[str]:
    if standings:
        for row in found.standings.iter_rows(named=True):
            ends = f"{'':10}"
            if row["below_low"] is not None and row["below_high"] is not None:
                ends = f"[{hundred(1 - row['below_high'], 0):3.0f}, {hundred(1 - row['below_low'], 0):3.0f}]"
            yield f"    {label(row['quantity']):<26}{hundred(1 - row['below'], 0):5.0f} %   {ends}   of {row['n']}"
    if found.nearest.height:
        near = ", ".join(
            f"{row['encoder']} ({hundred(row['distance'], 1):.1f})" for row in found.nearest.iter_rows(named=True)
        )
        yield f"  nearest published encoders (distance of their components, in points): {near}"
    if found.residuals.height:
        yield from _residuals(found.residuals)


def _residuals(rows: "pl.DataFrame") -> Iterator[str]:
    first = rows.row(0, named=True)
    yield (
        f"  beside what its architecture and dimension predict (least squares on {first['n']} encoders, "
        f"{first['n_alike']} of this architecture; {100 * CONFIDENCE:g} % interval for one more encoder)"
    )
    for row in rows.iter_rows(named=True):
        interval = between(row["low"], row["high"])
        yield (
            f"    {label(row['quantity']):<26} expected {hundred(row['expected']):6.2f} {interval}   "
            f"residual {hundred(row['residual']):+6.2f}"
        )
