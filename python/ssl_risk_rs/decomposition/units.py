"""Independent units of a set of judged rows (rows, or whole groups) and the strata that they are centred in."""

import math

import numpy as np

__all__ = ["Units"]

#: effective units of a class in a set below which it has no variance of its own
ONE_UNIT = 1.5


class Units:
    """Rows of one set, cut into independent units (rows or groups) and strata (classes, or pairs of classes).

    Attributes
    ----------
    stratum : of each row; unit : of each row, from 0; sizes : rows of each unit
    effective : G* of each stratum; whole : G* of the set
    """

    def __init__(self, labels: np.ndarray, units: np.ndarray | None, difficulty: np.ndarray, names: list[str]) -> None:
        self.n = len(labels)
        self.grouped = units is not None
        self.unit = np.arange(self.n) if units is None else np.unique(units, return_inverse=True)[1].ravel()
        self.n_units = int(self.unit.max(initial=-1)) + 1
        own = self._effective(labels, len(difficulty))
        self.stratum_of_class, self.collapsed = _collapse(own, difficulty, names)
        self.stratum = self.stratum_of_class[labels]
        self.n_strata = int(self.stratum_of_class.max(initial=-1)) + 1
        self.effective = self._effective(self.stratum, self.n_strata)
        sizes = np.bincount(self.unit, minlength=self.n_units).astype(float)
        self.whole = float(self.n**2 / (sizes**2).sum()) if self.n else 0.0
        self.stratum_of_unit = np.zeros(self.n_units, np.int64)
        self.stratum_of_unit[self.unit] = self.stratum

    def _effective(self, strata: np.ndarray, n_strata: int) -> np.ndarray:
        counts = np.bincount(strata, minlength=n_strata).astype(float)
        if not self.grouped:
            return np.asarray(counts)
        pairs, sizes = np.unique(strata.astype(np.int64) * self.n_units + self.unit, return_counts=True)
        squares = np.bincount(pairs // self.n_units, weights=sizes.astype(float) ** 2, minlength=n_strata)
        return np.asarray(np.divide(counts**2, squares, out=np.zeros(n_strata), where=squares > 0))

    def centred(self, values: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        """Values less their (weighted) mean in the stratum."""
        weights = np.ones(self.n) if weights is None else weights
        total = np.bincount(self.stratum, weights=weights * values, minlength=self.n_strata)
        mass = np.bincount(self.stratum, weights=weights, minlength=self.n_strata)
        means = np.divide(total, mass, out=np.zeros(self.n_strata), where=mass > 0)
        return np.asarray(values - means[self.stratum])

    @property
    def scale(self) -> np.ndarray:
        """√(G*/(G*−1)) of each row's stratum; 0 where a stratum has a single unit."""
        g = self.effective
        with np.errstate(divide="ignore", invalid="ignore"):
            kappa = np.where(g > 1 + 1e-9, np.sqrt(g / (g - 1)), 0.0)
        return np.asarray(kappa[self.stratum])

    def summed(self, scores: np.ndarray) -> np.ndarray:
        """Scores (n, r) summed by unit: (n_units, r)."""
        if not self.grouped:
            return scores
        columns = [np.bincount(self.unit, weights=scores[:, i], minlength=self.n_units) for i in range(scores.shape[1])]
        return np.stack(columns, axis=1)

    def degrees(self, parts: np.ndarray) -> float:
        """Degrees of freedom of a variance that is the sum of `parts` (n_strata,), G* − 1 of each; infinite where
        none is above 0."""
        with np.errstate(divide="ignore", invalid="ignore"):
            shares = np.where(parts > 0, parts**2 / (self.effective - 1), 0.0)
        return float(parts.sum() ** 2 / shares.sum()) if shares.sum() > 0 else math.inf

    @property
    def degrees_of_shares(self) -> float:
        """Degrees of freedom of the whole set: units are of no stratum, or the shares of the classes are drawn."""
        return max(self.whole - 1, 1e-9)

    def by_stratum(self, summed: np.ndarray) -> np.ndarray:
        """Products of unit scores summed by stratum: (n_strata, r, r)."""
        r = summed.shape[1]
        found = np.zeros((self.n_strata, r, r))
        for i in range(r):
            for j in range(i + 1):
                products = summed[:, i] * summed[:, j]
                found[:, i, j] = np.bincount(self.stratum_of_unit, weights=products, minlength=self.n_strata)
                found[:, j, i] = found[:, i, j]
        return found


def _collapse(effective: np.ndarray, difficulty: np.ndarray, names: list[str]) -> tuple[np.ndarray, int]:
    """Stratum of each class: its own, or, for classes of about one unit, one shared with the class of that kind that
    comes next in training error (the last three together if there is an odd one)."""
    present = effective > 0
    alone = np.flatnonzero(present & (effective < ONE_UNIT))
    strata = np.arange(len(effective))
    if len(alone) == 1 and present.sum() > 1:
        others = np.flatnonzero(present & (effective >= ONE_UNIT))
        near = min(others, key=lambda c: (abs(difficulty[c] - difficulty[alone[0]]), names[c]))
        strata[alone[0]] = near
    elif len(alone) > 1:
        order = sorted(alone.tolist(), key=lambda c: (difficulty[c], names[c]))
        for i, c in enumerate(order):
            strata[c] = order[min(i // 2, len(order) // 2 - 1) * 2]
    _, strata = np.unique(strata, return_inverse=True)
    return strata.ravel(), len(alone)
