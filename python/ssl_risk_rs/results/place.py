"""Where the errors of an encoder stand among the published ones: shares, neighbours, what is expected of its like."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ssl_risk_rs._inference import critical_value
from ssl_risk_rs.errors import ParameterError
from ssl_risk_rs.results.published import CONFIDENCE, RISKS, Published

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Place", "nearest", "place", "residuals", "standings"]

#: what every row has, and what neighbours and residuals are taken in
_COMPLETE = ("approx_usability", "probe_gen", "enc_gen", "agg_risk")


@dataclass(frozen=True, eq=False)
class Place:
    """Where four errors stand among the published encoders; frames as `standings`, `nearest`, `residuals` give them."""

    standings: "pl.DataFrame"
    nearest: "pl.DataFrame"
    residuals: "pl.DataFrame"


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
            half = critical_value(CONFIDENCE, df) * math.sqrt(variance)
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
