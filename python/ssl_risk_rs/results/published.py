"""The published table of 169 encoders (Dubois et al. 2023), with its known faults mended or marked; frames in and out.

The authors clip components at 0, so twelve rows do not sum to their total; 23 rows have no supervised twin; one row
is of another checkpoint than its name says; some cells of the hyper-parameters are wrong. Every cell that is changed
here stands in `Published.faults` with what was published, what is used, and why. Numbers are of
ImageNet-1K, one seed, a logistic probe (fitted by SGD), without intervals.
"""

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from ssl_risk_rs._corrections import OTHER_CHECKPOINT, RISK_AF, corrections
from ssl_risk_rs._inference import quantile
from ssl_risk_rs.errors import DataError, ParameterError

if TYPE_CHECKING:
    import polars as pl

__all__ = [
    "CONFIDENCE", "DATA", "FEW_SHOT", "PUBLISHED_TEST", "PUBLISHED_TRAIN", "RISKS", "Fault", "Place", "Published",
    "nearest", "place", "ranked", "read_published", "residuals", "standings",
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
#: what every row has, and what neighbours and residuals are taken in
_COMPLETE = ("approx_usability", "probe_gen", "enc_gen", "agg_risk")
#: rounding of the sum of four float64 percentages
_SUMS = 1e-9
#: of the intervals of what is expected given architecture and dimension
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


@dataclass(frozen=True, eq=False)
class Place:
    """Where four errors stand among the published encoders; frames as `standings`, `nearest`, `residuals` give them."""

    standings: "pl.DataFrame"
    nearest: "pl.DataFrame"
    residuals: "pl.DataFrame"


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
    excess = approx + usability + probe_gen + enc_gen - total
    if abs(excess) <= _SUMS * max(1.0, total):
        return
    # an error rate such as approx is never negative, so it was never clipped
    clipped = [name for name in ("usability", "probe_gen", "enc_gen") if row[name] == 0]
    if excess > 0 and len(clipped) == 1:
        reason = "the authors set negative components to 0; this value makes the four sum to the total again"
        yield clipped[0], 0.0, -excess, Fault.CLIPPED, reason
    elif excess > 0 and clipped == ["usability", "enc_gen"] and encoder in RISK_AF:
        risk_af = RISK_AF[encoder]
        reason = "the authors set two negative components to 0; their earlier table tells R_AF, and with it both"
        yield "usability", 0.0, risk_af - approx, Fault.CLIPPED, reason
        yield "enc_gen", 0.0, total - probe_gen - risk_af, Fault.CLIPPED, reason
    else:
        raise DataError(f"the components of {encoder} do not sum to its total, and the table does not tell why")


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


# --- the place of an encoder


def place(
    published: Published,
    errors: Mapping[str, float],
    *,
    low: Mapping[str, float] | None = None,
    high: Mapping[str, float] | None = None,
    encoder: str | None = None,
    architecture: str | None = None,
    z_dim: int | None = None,
) -> Place:
    """Where errors stand among the published ones; arguments as in `standings`, `nearest` and `residuals`."""
    return Place(
        standings(published, errors, low=low, high=high, encoder=encoder),
        nearest(published, errors, encoder=encoder),
        residuals(published, errors, encoder=encoder, architecture=architecture, z_dim=z_dim),
    )


def standings(
    published: Published,
    errors: Mapping[str, float],
    *,
    low: Mapping[str, float] | None = None,
    high: Mapping[str, float] | None = None,
    encoder: str | None = None,
) -> "pl.DataFrame":
    """The share of published encoders that have less of each error.

    Parameters
    ----------
    errors : name in `RISKS` → error, a fraction; others are not used
    low, high : ends of their intervals
    encoder : a published encoder that the errors are of: it is not compared with itself

    Returns
    -------
    frame of `quantity`, `value`, `below`: share of the others with less, half of equal ones counted; `below_low`,
    `below_high`: the same at the ends of the interval (null without one); `n`: encoders that it was compared with
    """
    import polars as pl

    rows = []
    others = _others(published, encoder)
    for name in RISKS:
        value = errors.get(name)
        if value is None:
            continue
        known = np.array(others[name].drop_nulls().to_list(), float)

        def below(x: float | None, known: np.ndarray = known) -> float | None:
            if x is None or math.isnan(x) or not len(known):
                return None
            return float(((known < x).sum() + 0.5 * (known == x).sum()) / len(known))

        rows.append(
            {
                "quantity": name,
                "value": value,
                "below": below(value),
                "below_low": below(None if low is None else low.get(name)),
                "below_high": below(None if high is None else high.get(name)),
                "n": len(known),
            }
        )
    types = {"quantity": pl.String, **dict.fromkeys(("value", "below", "below_low", "below_high"), pl.Float64)}
    return pl.DataFrame(rows, schema={**types, "n": pl.Int64})


def nearest(
    published: Published, errors: Mapping[str, float], *, encoder: str | None = None, count: int = 5
) -> "pl.DataFrame":
    """Published encoders whose errors are most alike.

    The distance is Euclidean, in points of error, over (approximation + usability, probe generalization, encoder
    generalization), which every row has: `n` is the number of all others.

    Returns
    -------
    frame of `encoder`, `distance`, `approx_usability`, `probe_gen`, `enc_gen`, `agg_risk`, fractions all
    """
    import polars as pl

    axes = _COMPLETE[:3]
    others = _others(published, encoder)
    mine = _complete(errors)
    if mine is None:
        return others.with_columns(pl.lit(0.0).alias("distance")).select("encoder", "distance", *_COMPLETE).clear()
    distance = sum(((pl.col(axis) - mine[axis]) ** 2 for axis in axes), start=pl.lit(0.0)).sqrt()
    return (
        others.with_columns(distance.alias("distance"))
        .sort("distance", "encoder")
        .head(count)
        .select("encoder", "distance", *_COMPLETE)
    )


def residuals(
    published: Published,
    errors: Mapping[str, float],
    *,
    encoder: str | None = None,
    architecture: str | None = None,
    z_dim: int | None = None,
) -> "pl.DataFrame":
    """What an encoder errs beyond published ones of its architecture and dimension.

    Least squares of each error on architecture (with patch size) and log₂ of the dimension over all other trusted
    rows: what differs are objective, recipe, data and chance. The interval of `expected` is one for a single further
    encoder, with normal residuals of equal variance.

    Parameters
    ----------
    encoder : a published encoder: gives architecture and dimension, and is left out of the fit
    architecture : as in the published column, with patch size behind a slash where it has one ("resnet50", "vitb/16")
    z_dim : features

    Returns
    -------
    frame of `quantity`, `value`, `expected`, `low`, `high`, `residual` (value − expected), `n` (encoders in the fit),
    `n_alike` (of them, those of the same architecture); empty where architecture or dimension are not known, or no
    other encoder has the architecture.

    Raises
    ------
    ParameterError for an architecture that no published encoder has.
    """
    import polars as pl

    empty = pl.DataFrame(
        schema={
            "quantity": pl.String,
            **dict.fromkeys(("value", "expected", "low", "high", "residual"), pl.Float64),
            "n": pl.Int64,
            "n_alike": pl.Int64,
        }
    )
    own = None if encoder is None else published.row(encoder)
    if own is not None:
        architecture = architecture or _architecture(own)
        z_dim = z_dim or _whole(own["z_dim"])
    mine = _complete(errors)
    if architecture is None or z_dim is None or mine is None:
        return empty
    every = {_architecture(row) for row in published.frame.iter_rows(named=True)}
    if architecture not in every:
        raise ParameterError(f"no published encoder has the architecture {architecture!r}; choose of {sorted(every)}")
    rows = [row for row in _others(published, encoder).iter_rows(named=True) if row["trusted"]]
    kinds = [_architecture(row) for row in rows]
    if architecture not in kinds:
        return empty
    levels = sorted(set(kinds))
    sizes = np.array([math.log2(_whole(row["z_dim"]) or 1) for row in rows])
    design = np.array([[float(kind == level) for level in levels] for kind in kinds])  # (n, architectures)
    design = np.column_stack([design, sizes])
    point = np.array([*(float(architecture == level) for level in levels), math.log2(z_dim)])
    found = []
    inverse = np.linalg.pinv(design.T @ design)
    rank = int(np.linalg.matrix_rank(design))
    df = len(rows) - rank
    for name in _COMPLETE:
        y = np.array([row[name] for row in rows], float)
        coefficients = inverse @ design.T @ y
        expected = float(point @ coefficients)
        low = high = math.nan
        if df > 0:
            variance = float(((y - design @ coefficients) ** 2).sum()) / df * (1 + float(point @ inverse @ point))
            half = quantile(0.5 + CONFIDENCE / 2, df) * math.sqrt(variance)
            low, high = expected - half, expected + half
        found.append(
            {
                "quantity": name,
                "value": mine[name],
                "expected": expected,
                "low": low,
                "high": high,
                "residual": mine[name] - expected,
                "n": len(rows),
                "n_alike": kinds.count(architecture),
            }
        )
    return pl.DataFrame(found, schema=empty.schema)


def _others(published: Published, encoder: str | None) -> "pl.DataFrame":
    frame = published.frame
    return frame if encoder is None else frame.filter(frame["encoder"] != encoder.lower())


def _complete(errors: Mapping[str, float]) -> dict[str, float] | None:
    """The errors that every row has; approximation and usability as one."""
    found = dict(errors)
    if "approx_usability" not in found and {"approx", "usability"} <= found.keys():
        found["approx_usability"] = found["approx"] + found["usability"]
    return {name: found[name] for name in _COMPLETE} if found.keys() >= set(_COMPLETE) else None


def _architecture(row: Mapping[str, object]) -> str:
    """Architecture with patch size; the file's patch size of a network without patches is a filler."""
    name, patch = str(row["architecture"]), _whole(row["patch_size"])
    return f"{name}/{patch}" if name.startswith("vit") and patch is not None else name


def _whole(value: object) -> int | None:
    return int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
