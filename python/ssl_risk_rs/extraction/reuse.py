"""Whether an encoder in hand still gives the features that a bank holds.

A bank's key is a hash of all that is known to decide its numbers. A function of the user's may read a file, a module
may be imported late, a library may change: so a bank is used again only after a few of its images gave the same
features. That costs the encoding of these images, which is cut short for a slow encoder.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ssl_risk_rs.bank import FeatureBank

__all__ = ["N_IMAGES", "SameFeatures"]

#: images compared, spread over the rows that the bank has; FIRST of them alone if encoding these takes SLOW seconds
N_IMAGES, FIRST, SLOW = 8, 2, 0.25

#: largest difference, relative to the spread of the features over the images compared: of all features together, and
#: in root mean square over features, so that a wide one hides no others. float32 products differ by 1e-3 between
#: devices (TF32 convolutions, depth 50), half-precision ones by their 8 to 11 bits, summed over layers.
TOLERANCE = {"float32": 0.01, "bfloat16": 0.05, "float16": 0.05}
#: least spread of a feature, relative to its size, that products of a precision, and numbers stored in float16, can
#: tell from rounding: features of a collapsed encoder hardly vary, and batches of other sizes are rounded otherwise
LEAST_SPREAD = {"float32": 1e-4, "bfloat16": 0.1, "float16": 0.02}
LEAST_STORED = {"float32": 0.0, "float16": 3e-3}

#: rows → the rows that could be decoded, and features of these by name
Encode = Callable[[np.ndarray], tuple[np.ndarray, dict[str, np.ndarray]]]


class SameFeatures:
    """Compares banks with what `encode` gives now; encodes each set of rows once for all features."""

    def __init__(self, encode: Encode, precision: str) -> None:
        self.encode, self.precision = encode, precision
        self._encoded: dict[tuple[int, ...], tuple[np.ndarray, dict[str, np.ndarray]]] = {}

    def difference(self, name: str, bank: "FeatureBank") -> float | None:
        """None if feature `name` is that of the bank, else how far apart they are, relative to their spread."""
        present = np.setdiff1d(np.arange(bank.n_rows, dtype=np.uint64), bank.missing_rows())
        if len(present) == 0:
            return None
        rows = np.unique(
            present[np.linspace(0, len(present) - 1, min(N_IMAGES, len(present))).round().astype(np.int64)]
        )
        rows, features = self._features(rows)
        if len(rows) == 0:  # the images are gone or damaged: whoever needs them will say so
            return None
        stored = _stored(bank, rows).astype(np.float64)
        if stored.shape[1] != features[name].shape[1]:
            return float("inf")
        with np.errstate(over="ignore"):  # beyond float16 is infinitely far
            now = features[name].astype(bank.dtype).astype(np.float64)  # rounded as the stored ones are
        spread, size = np.linalg.norm(stored - stored.mean(0), axis=0), np.linalg.norm(stored, axis=0)
        if len(rows) == 1 or not spread.any():
            spread = size
        spread = np.maximum(spread, max(LEAST_SPREAD[self.precision], LEAST_STORED[bank.dtype]) * size)
        apart = _relative(np.linalg.norm(now - stored, axis=0), spread)
        return None if apart <= TOLERANCE[self.precision] else apart

    def _features(self, rows: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        key = tuple(rows.tolist())
        if key not in self._encoded:
            clock = time.perf_counter()
            found = self.encode(rows[:FIRST])
            if len(rows) > FIRST and time.perf_counter() - clock < SLOW:
                more = self.encode(rows[FIRST:])
                parts = [part for part in (found, more) if len(part[0])]
                found = (
                    np.concatenate([part[0] for part in parts]) if parts else found[0],
                    {name: np.concatenate([part[1][name] for part in parts]) for name in parts[0][1]} if parts else {},
                )
            self._encoded[key] = found
        return self._encoded[key]


def _relative(apart: np.ndarray, spread: np.ndarray) -> float:
    """How far features (d,) are apart, relative to their spread: the larger of all together and of the root mean square
    over features, where one that hardly varies counts as if it varied a tenth as much as others do."""
    if not spread.any():
        return float("inf") if apart.any() else 0.0
    least = 0.1 * float(np.median(spread[spread > 0]))
    together = float(np.linalg.norm(apart) / np.linalg.norm(spread))
    return max(together, float(np.sqrt(np.mean(np.square(apart / np.maximum(spread, least))))))


def _stored(bank: "FeatureBank", rows: np.ndarray) -> np.ndarray:
    """Features of rows that are there, also where others are missing: (m, n_features), in the order asked for."""
    if bank.complete:
        return bank.read(rows)
    found = np.empty((len(rows), bank.n_features), np.float32)
    for part in bank.arrays():
        lines = np.flatnonzero(np.isin(part.rows, rows))
        found[np.searchsorted(rows, part.rows[lines])] = part.features[lines]  # rows are ascending
    return found
