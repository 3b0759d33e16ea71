"""A run beside the published numbers of its encoder: measured, published, difference, and why they may differ."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from ssl_risk_rs._identity import data_id
from ssl_risk_rs._inference import critical_value
from ssl_risk_rs._notes import Note, Values
from ssl_risk_rs.results.place import Place, place
from ssl_risk_rs.results.provenance import Provenance
from ssl_risk_rs.results.published import (
    CONFIDENCE,
    DATA,
    PUBLISHED_CLASSES,
    PUBLISHED_TEST,
    PUBLISHED_TRAIN,
    RISKS,
    Published,
)
from ssl_risk_rs.results.quantities import QUANTITIES
from ssl_risk_rs.results.run import Decomposition

__all__ = ["Beside", "Counterpart", "NotPublished", "counterpart", "fault_notes"]


class NotPublished(str, Enum):
    """Why a run is not shown beside the published table."""

    #: the table is not on this machine
    NOT_FETCHED = "not_fetched"
    #: it is damaged
    UNREADABLE = "unreadable"
    #: neither encoder nor data are published
    NOT_AMONG = "not_among"


@dataclass(frozen=True, slots=True)
class Beside:
    """One quantity, measured here and published; fractions. `published` is None where nothing is.

    `low`, `high` : interval of what was measured; published numbers have none
    """

    quantity: str
    measured: float
    low: float
    high: float
    published: float | None

    @property
    def difference(self) -> float | None:
        """Measured less published."""
        return None if self.published is None else self.measured - self.published


@dataclass(frozen=True, slots=True)
class Counterpart:
    """A decomposition beside the published table.

    Attributes
    ----------
    encoder : the published encoder; None where this one is not published
    probe : of the decomposition
    rows : components and total
    reasons : why measured and published numbers may differ
    place : of the measured errors where the data are those of the table, else of the published ones; None if neither
        is known
    place_is_measured : which of the two
    """

    encoder: str | None
    probe: str
    rows: tuple[Beside, ...]
    reasons: tuple[Note, ...]
    place: Place | None
    place_is_measured: bool


def counterpart(
    published: Published,
    result: Decomposition,
    provenance: Provenance,
    *,
    encoder: str | None,
    architecture: str | None = None,
) -> Counterpart:
    """Set a decomposition beside the published table.

    Parameters
    ----------
    encoder : name of the published encoder that it is of, None if it is not published
    architecture : of an encoder that is not published, as in `residuals`

    Raises
    ------
    ParameterError for an architecture that no published encoder has.
    """
    row = None if encoder is None else published.row(encoder)
    whole = row is not None and row["approx"] is not None and result.supervised
    names = ("approx", "usability") if whole or (row is None and result.supervised) else ("approx_usability",)
    shown = tuple(_beside(name, result, row) for name in (*names, "probe_gen", "enc_gen", "agg_risk"))
    same = _same_data(provenance, result)
    place_of: Place | None = None
    if same:
        measured = {b.quantity: b for b in (*shown, _beside("approx_usability", result, row))}
        place_of = place(
            published,
            {name: b.measured for name, b in measured.items()},
            low={name: b.low for name, b in measured.items()},
            high={name: b.high for name, b in measured.items()},
            encoder=encoder,
            architecture=architecture,
            z_dim=result.sizes.features or None,
        )
    elif row is not None:
        place_of = place(published, _errors(row), encoder=encoder)
    reasons = () if row is None else tuple(_reasons(published, row, result, provenance))
    return Counterpart(
        None if row is None else str(row["encoder"]), result.method.probe, shown, reasons, place_of, same
    )


def fault_notes(published: Published, encoder: str) -> list[Note]:
    """What is known to be wrong in a published row."""
    notes = []
    for fault in published.faults.filter(published.faults["encoder"] == encoder).iter_rows(named=True):
        used, was = _cell(fault["column"], fault["used"]), _cell(fault["column"], fault["published"])
        values: Values = {"encoder": encoder, "column": str(fault["column"]), "reason": str(fault["reason"])}
        if was and used and was != used:
            notes.append(Note("published_fault", {**values, "published": was, "used": used}))
        else:
            notes.append(Note("published_doubt", values))
    return notes


def _cell(column: object, value: object) -> str | None:
    """A cell of the faults as people read it: errors in percent."""
    if value is None:
        return None
    return f"{100 * float(str(value)):.2f} %" if column in RISKS else str(value)


def _errors(row: Mapping[str, object]) -> dict[str, float]:
    names = ("approx", "usability", "approx_usability", "probe_gen", "enc_gen", "agg_risk")
    return {name: value for name in names if isinstance(value := row[name], float)}


def _beside(name: str, result: Decomposition, row: Mapping[str, object] | None) -> Beside:
    # with a twin the sum of the first two is R_AF itself
    e = result.estimates[name] if name in result.estimates else result.estimates[next(iter(QUANTITIES[name].weights))]
    value = None if row is None else row[name]
    return Beside(name, e.estimate, e.low, e.high, value if isinstance(value, float) else None)


def _same_data(provenance: Provenance, result: Decomposition) -> bool:
    """Whether the run is of the table's data, or may be: features in a file do not tell."""
    known = data_id(provenance.data)
    return known == DATA or (known is None and result.sizes.classes == PUBLISHED_CLASSES)


def _reasons(
    published: Published, row: Mapping[str, object], result: Decomposition, provenance: Provenance
) -> Iterator[Note]:
    sizes, method = result.sizes, result.method
    known = data_id(provenance.data)
    if known is None and sizes.classes == PUBLISHED_CLASSES:
        yield Note("published_data_unknown", {"data": provenance.data})
    elif known != DATA:
        yield Note("published_other_data", {"data": provenance.data})
    if (sizes.train, sizes.test, sizes.classes) != (PUBLISHED_TRAIN, PUBLISHED_TEST, PUBLISHED_CLASSES):
        yield Note("published_other_rows", {"train": sizes.train, "test": sizes.test, "classes": sizes.classes})
    z_dim = row["z_dim"]
    if isinstance(z_dim, int) and sizes.features and z_dim != sizes.features:
        values: Values = {"published": z_dim, "layer": str(row["z_layer"]), "measured": sizes.features}
        yield Note("published_features", values)
    if method.probe != "logistic":
        yield Note("published_probe")
    else:
        yield Note("published_optimizer")
    if method.protocol != "paper":
        yield Note("published_protocol")
    if row["approx"] is None:
        yield Note("published_no_twin", {"side": "the published row"})
    elif not result.supervised:
        yield Note("published_no_twin", {"side": "this run"})
    elif provenance.supervised:
        yield Note("published_twin", {"twin": provenance.supervised})
    yield from fault_notes(published, str(row["encoder"]))
    total = _errors(row)["agg_risk"]
    half = critical_value(CONFIDENCE) * math.sqrt(total * (1 - total) / PUBLISHED_TEST)
    yield Note("published_no_interval", {"half": 100 * half})
