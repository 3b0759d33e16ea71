"""The published table of 169 encoders (Dubois et al. 2023), with its known faults mended or marked; frames in and out.

The authors clip components at 0, so twelve rows do not sum to their total; 23 rows have no supervised twin; one row
is of another checkpoint than its name says; some cells of the hyper-parameters are wrong. Every cell that is changed
here stands in `Published.faults` with what was published, what is used, and why. Numbers are of
ImageNet-1K, one seed, a logistic probe (fitted by SGD), without intervals.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from ssl_risk_rs._corrections import OTHER_CHECKPOINT, corrections, unclipped
from ssl_risk_rs.errors import DataError, ParameterError

if TYPE_CHECKING:
    import polars as pl

__all__ = [
    "CONFIDENCE", "DATA", "FEW_SHOT", "PUBLISHED_TEST", "PUBLISHED_TRAIN", "RISKS", "Fault", "Published", "ranked",
    "read_published",
]  # fmt: skip

#: canonical id of the data that every number is of, and how many rows and classes they have
DATA = "imagenet-1k"
PUBLISHED_TRAIN, PUBLISHED_TEST, PUBLISHED_CLASSES = 1_281_167, 50_000, 1_000

#: columns of the file that are errors in percent → our names
_ERRORS = {
    "approx": "approx",
    "usability": "usability",
    "probe_gen": "probe_gen",
    "enc_gen": "enc_gen",
    "train_test": "agg_risk",
    "train-nperclass-30_test": "risk_30_shots",
    "train-balsbst-ntrain0.01_test": "risk_1_percent",
    "train-nperclass-5_test": "risk_5_shots",
    "train-nperclass-3_test": "risk_3_shots",
}
FEW_SHOT = ("risk_30_shots", "risk_1_percent", "risk_5_shots", "risk_3_shots")
#: what encoders can be ranked by
RISKS = ("approx", "usability", "approx_usability", "probe_gen", "enc_gen", "agg_risk", *FEW_SHOT)
#: of intervals that are told of published numbers
CONFIDENCE = 0.95


class Fault(str, Enum):
    """What is known to be wrong with a cell."""

    #: the authors set a negative component to 0; the signed value is restored from the total
    CLIPPED = "clipped"
    #: no supervised encoder of the same architecture was decomposed: approximation and usability are not known apart
    NO_TWIN = "no_twin"
    #: approximation is 0 because the authors assume it of a large network, not because it was measured
    ASSUMED = "assumed"
    #: the row is of another checkpoint than its name says
    OTHER_CHECKPOINT = "other_checkpoint"
    #: a hyper-parameter is wrong, and the right one is known
    WRONG_CELL = "wrong_cell"


@dataclass(frozen=True, eq=False)
class Published:
    """The table as it is used.

    Attributes
    ----------
    frame : a row for each encoder: `encoder`; errors as fractions, signed and additive (`approx`, `usability`, which
        are null without a twin, `approx_usability`, `probe_gen`, `enc_gen`, `agg_risk`, `risk_30_shots`, …);
        `trusted`, false where the row is of another checkpoint; then the published columns under their own names
    faults : `encoder`, `column`, `published`, `used`, `fault`, `reason`: cells that were changed.
        Errors are fractions here, too
    """

    frame: "pl.DataFrame"
    faults: "pl.DataFrame"

    def names(self) -> tuple[str, ...]:
        """The encoders, in the order of the file."""
        return tuple(self.frame["encoder"].to_list())

    def row(self, encoder: str) -> dict[str, object] | None:
        """The row of an encoder, whatever the case of its name; None if it is not published."""
        found = self.frame.filter(self.frame["encoder"] == encoder.lower())
        return found.row(0, named=True) if found.height else None


# --- reading


def read_published(text: str) -> Published:
    """Read the authors' `all_results.csv` (two header rows: group and column; index `enc`), mend and mark it.

    Raises
    ------
    DataError if the text is no such table, names the column or row that does not fit.
    """
    import polars as pl

    lines = list(csv.reader(io.StringIO(text)))
    if len(lines) < 4 or lines[2][:1] != ["enc"]:
        raise DataError("this is no published table: a row of groups, a row of columns, then 'enc' are expected")
    columns = lines[1][1:]
    missing = [name for name in (*_ERRORS, "architecture", "patch_size", "z_dim") if name not in columns]
    if missing:
        raise DataError(f"the published table has no column {missing[0]!r}; it is not the file of the pinned commit")
    body = lines[3:]
    if odd := [line[0] for line in body if len(line) != len(columns) + 1]:
        raise DataError(f"the published table has a row of another length: {odd[0]}")
    names = [line[0] for line in body]
    if len(set(names)) < len(names):
        raise DataError("the published table has an encoder twice")
    cells = {column: [line[i + 1] for line in body] for i, column in enumerate(columns)}
    typed = {column: _typed(values) for column, values in cells.items()}
    faults: list[dict[str, object]] = []
    errors = _errors(names, {ours: typed.pop(theirs) for theirs, ours in _ERRORS.items()}, faults)
    _correct(names, typed, faults)
    trusted = [name not in OTHER_CHECKPOINT for name in names]
    frame = pl.DataFrame({"encoder": names, **errors, "trusted": trusted, **typed})
    types = dict.fromkeys(("encoder", "column", "published", "used", "fault", "reason"), pl.String)
    return Published(frame, pl.DataFrame(faults, schema=types))


def _typed(values: Sequence[str]) -> list[object]:
    """A column of text as booleans, numbers or text; empty cells are None."""
    there = [value for value in values if value]
    if there and set(there) <= {"True", "False"}:
        return [None if not value else value == "True" for value in values]
    try:
        numbers = [None if not value else float(value) for value in values]
    except ValueError:
        return [value or None for value in values]
    if all(number is None or number == int(number) for number in numbers):
        return [None if number is None else int(number) for number in numbers]
    return list(numbers)


def _errors(
    names: Sequence[str], percent: Mapping[str, Sequence[object]], faults: list[dict[str, object]]
) -> dict[str, list[float | None]]:
    """Errors as fractions: additive again where the authors clipped, null where there is no twin."""
    found: dict[str, list[float | None]] = {name: [] for name in RISKS}
    for i, encoder in enumerate(names):
        row = {column: _number(values[i], encoder, column) for column, values in percent.items()}
        total, probe_gen, enc_gen = row["agg_risk"], row["probe_gen"], row["enc_gen"]
        if total is None or probe_gen is None or enc_gen is None:
            raise DataError(f"the published table lacks probe_gen, enc_gen or train_test of {encoder}")
        for column, published, used, fault, reason in _mended(encoder, row):
            row[column] = used
            faults.append(_fault(encoder, column, _percent(published), _percent(used), fault, reason))
        row["approx_usability"] = total - (row["probe_gen"] or 0.0) - (row["enc_gen"] or 0.0)
        for name in RISKS:
            value = row[name]
            found[name].append(None if value is None else value / 100)
        if encoder in OTHER_CHECKPOINT:
            reason = OTHER_CHECKPOINT[encoder]
            faults.append(_fault(encoder, "encoder", encoder, encoder, Fault.OTHER_CHECKPOINT, reason))
    return found


def _mended(
    encoder: str, row: Mapping[str, float | None]
) -> Iterator[tuple[str, float | None, float | None, Fault, str]]:
    """Column, published and used value, fault, reason, of each component of a row that is changed or marked."""
    approx, usability = row["approx"], row["usability"]
    probe_gen, enc_gen, total = row["probe_gen"] or 0.0, row["enc_gen"] or 0.0, row["agg_risk"] or 0.0
    if approx is None or usability is None:
        reason = "no supervised encoder of this architecture was decomposed; only the sum of both is known"
        for column in ("approx", "usability"):
            yield column, row[column], None, Fault.NO_TWIN, reason
        return
    if approx == 0:
        reason = "the authors assume 0 for networks this large; it was not measured"
        yield "approx", approx, approx, Fault.ASSUMED, reason
    parts = {"approx": approx, "usability": usability, "probe_gen": probe_gen, "enc_gen": enc_gen}
    found = unclipped(encoder, parts, total)
    if found is None:
        raise DataError(f"the components of {encoder} do not sum to its total, and the table does not tell why")
    reason = "the authors set negative components to 0; this value makes the four sum to the total again"
    if len(found) > 1:
        reason = "the authors set two negative components to 0; their earlier table tells R_AF, and with it both"
    for name, value in found.items():
        yield name, 0.0, value, Fault.CLIPPED, reason


def _correct(names: Sequence[str], typed: dict[str, list[object]], faults: list[dict[str, object]]) -> None:
    """Replace wrong hyper-parameters."""
    place = {name: i for i, name in enumerate(names)}
    for correction in corrections():
        i, values = place.get(correction.encoder.lower()), typed.get(correction.column)
        if i is None or values is None:
            continue
        (right,) = _typed([correction.corrected])
        if values[i] != right:
            was, used = _text(values[i]), _text(right)
            faults.append(_fault(names[i], correction.column, was, used, Fault.WRONG_CELL, correction.reason))
            values[i] = right


def _fault(
    encoder: str, column: str, published: str | None, used: str | None, fault: Fault, reason: str
) -> dict[str, object]:
    return {
        "encoder": encoder, "column": column, "published": published, "used": used, "fault": fault.value,
        "reason": reason,
    }  # fmt: skip


def _number(value: object, encoder: str, column: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 100:
        raise DataError(f"the published table has {column} {value!r} for {encoder}; an error in percent is expected")
    return float(value)


def _percent(value: float | None) -> str | None:
    return None if value is None else f"{value / 100:.6g}"


def _text(value: object) -> str | None:
    return None if value is None else str(value)


# --- ranks


def ranked(published: Published, by: str) -> "pl.DataFrame":
    """Encoders by an error, the least first; equal values share the smallest of their ranks.

    Parameters
    ----------
    by : one of `RISKS`

    Returns
    -------
    frame of `rank`, `encoder`, the error, `agg_risk`, `objective`, `architecture`, `patch_size`, `z_dim`,
    `pretraining_data`, `trusted`; encoders that lack the error are left out: `Published.frame` counts them.

    Raises
    ------
    ParameterError if encoders cannot be ranked by it.
    """
    import polars as pl

    if by not in RISKS:
        raise ParameterError(f"encoders are not ranked by {by!r}; choose one of {', '.join(RISKS)}")
    facts = ["objective", "architecture", "patch_size", "z_dim", "pretraining_data", "trusted"]
    chosen = list(dict.fromkeys(["rank", "encoder", by, "agg_risk", *(f for f in facts if f in published.frame)]))
    return (
        published.frame.filter(pl.col(by).is_not_null())
        .with_columns(pl.col(by).rank("min").cast(pl.Int64).alias("rank"))
        .sort(by, "encoder")
        .select(chosen)
    )
