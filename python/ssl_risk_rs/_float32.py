"""Numbers of any type → float32, in which probes compute: what does not fit there, and what would be lost."""

import numpy as np

from ssl_risk_rs.errors import ParameterError

__all__ = ["FLOAT16_MAX", "drawn", "refuse_lost_spread", "refuse_masked", "refuse_overflow"]

#: largest number of float16
FLOAT16_MAX = 65504.0
#: rows, evenly drawn, that tell a feature's spread: the standard deviation of so many is known to 1 %
SAMPLE_ROWS = 4096
#: a feature whose standard deviation is fewer steps of float32 than this, and whose values merge, has lost its spread
LEAST_STEPS = 16.0
#: relative to its size, the spread of a feature that is constant up to rounding in float64
NO_SPREAD = 2.0**-32
#: float32 holds every whole number up to here
_EXACT = 2**24


def refuse_masked(x: object, name: str) -> None:
    """Refuse an array some of whose values are masked.

    Raises
    ------
    ParameterError naming the first row and feature.
    """
    if not isinstance(x, np.ma.MaskedArray):
        return
    mask = np.ma.getmaskarray(x)
    if mask.any():
        place = np.argwhere(mask)[0].tolist()
        where = f"row {place[0]}" + (f", feature {place[1]}" if len(place) > 1 else "")
        raise ParameterError(
            f"{name}: {where} is masked ({int(mask.sum()):,} of {mask.size:,} values are); a probe needs every value: "
            "fill them in, or leave those rows or features out"
        )


def refuse_overflow(x: np.ndarray, converted: np.ndarray, name: str) -> None:
    """Refuse numbers (n, d) that became infinite in float32.

    Raises
    ------
    ParameterError naming the first row and feature.
    """
    with np.errstate(invalid="ignore"):
        if np.isfinite(converted.sum(dtype=np.float64)):  # one read without temporaries
            return
    wrong = np.isinf(converted) & np.isfinite(x)
    if wrong.any():
        row, column = np.argwhere(wrong)[0].tolist()
        raise ParameterError(
            f"{name}: row {row}, feature {column} is {x[row, column]:g}: beyond ±3.4e38, the range of float32 "
            f"({int(wrong.sum()):,} such values); scale the features, or remove the row"
        )


def drawn(rows: np.ndarray) -> np.ndarray:
    """Of many rows, as many as tell a spread, evenly drawn."""
    return rows[:: max(1, -(-len(rows) // SAMPLE_ROWS))]


def refuse_lost_spread(x: np.ndarray, name: str, feature_names: tuple[str, ...] | None = None) -> None:
    """Refuse features that vary, and that float32 makes all but constant, since they lie far from 0.

    Parameters
    ----------
    x : numbers (n, d) as they were given; of many rows, some are looked at
    feature_names : columns of the file that the features are

    Raises
    ------
    ParameterError naming the first such feature, with its mean, its spread and the steps of float32 there.
    """
    if x.dtype.kind not in "fiu" or (x.dtype.kind == "f" and x.dtype.itemsize <= 4) or len(x) < 2 or not x.shape[1]:
        return
    sample = np.asarray(drawn(x))
    size = np.maximum(np.abs(sample.max(0).astype(np.float64)), np.abs(sample.min(0).astype(np.float64)))
    if sample.dtype.kind in "iu" and size.max() <= _EXACT:
        return
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused where rows are read
        spread = _from_lowest(sample).std(0)
        step = np.spacing(size.astype(np.float32)).astype(np.float64)
        varies = spread > (0.0 if sample.dtype.kind in "iu" else NO_SPREAD) * size
        varies &= size >= np.finfo(np.float32).tiny  # below it a feature is 0, and said to be constant
        close = np.flatnonzero(varies & (spread < LEAST_STEPS * step)).tolist()
    lost = [j for j in close if _distinct(sample[:, j].astype(np.float32)) < _distinct(sample[:, j])]
    if not lost:
        return
    first = lost[0]
    called = f"feature {first}" if feature_names is None else f"column {feature_names[first]!r}"
    raise ParameterError(
        f"{name}: {called} has mean {sample[:, first].mean(dtype=np.float64):.6g} and standard deviation "
        f"{spread[first]:.3g}, which float32, with steps of {step[first]:.3g} there, does not tell apart "
        f"({len(lost):,} of {x.shape[1]:,} features are so); probes compute in float32: subtract from each feature its "
        "mean over the training rows, in training and test rows alike, or leave the feature out"
    )


def _from_lowest(x: np.ndarray) -> np.ndarray:
    """Distances from the lowest value of each column: float64, exact before they are rounded."""
    low = x.min(0)
    if x.dtype.kind in "iu":  # differences modulo 2⁶⁴ are right whatever the type
        return np.asarray((x.astype(np.uint64) - low.astype(np.uint64)).astype(np.float64))
    return np.asarray((x - low).astype(np.float64))


def _distinct(values: np.ndarray) -> int:
    return len(np.unique(values))
