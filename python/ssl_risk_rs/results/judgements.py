"""What the probes of a decomposition did on every row they were judged on: enough to compute each number again."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from itertools import count, takewhile
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, Int8, Shaped, UInt16, UInt32

from ssl_risk_rs.errors import ShapeError

__all__ = ["Judgements", "Outcome"]

#: no subset: the row is in a fold
NO_SUBSET = -1


@dataclass(frozen=True, slots=True)
class Outcome:
    """One probe on rows in order.

    Attributes
    ----------
    predicted : uint32 (n,); rank : uint32 (n,), classes scored above the true one, 0 if the row is right;
    loss : float32 (n,), −log softmax; margin : float32 (n,), score of the true class less the best other one
    """

    predicted: UInt32[np.ndarray, " n"]
    rank: UInt32[np.ndarray, " n"]
    loss: Float32[np.ndarray, " n"]
    margin: Float32[np.ndarray, " n"]

    @property
    def wrong(self) -> np.ndarray:
        """bool (n,)"""
        return np.asarray(self.rank > 0)

    @property
    def error(self) -> float:
        """0-1 error."""
        return float(self.wrong.mean())

    @property
    def confidence(self) -> np.ndarray:
        """float64 (n,): softmax probability of the predicted class.

        The margin is how far the true class lies above the best other one, so the predicted class lies −margin
        above the true one where the row is wrong, and is the true one where it is right.
        """
        above = self.loss.astype(np.float64) + np.minimum(self.margin.astype(np.float64), 0.0)
        return np.asarray(np.exp(-np.maximum(above, 0.0)))  # float32 leaves −1e-8 for 0


#: a field of `Judgements` has a value for each training row, test row, or row of the held-out subsets, along its last
#: axis
_TRAIN, _TEST, _HELD = ({"rows": part} for part in ("train", "test", "held"))
_NO_ROWS: dict[str, str] = {"rows": ""}


@dataclass(frozen=True, slots=True)
class Judgements:
    """Every judged row with the outcome of every probe that the estimates use.

    Attributes
    ----------
    class_names : of the k classes
    train_ids, test_ids : bytes arrays (n,), (n_te,): sample ids
    train_labels, test_labels : uint32
    train_groups, test_groups : bytes arrays, or None where rows have no groups
    subset : int8 (n,), held-out subset of each training row, −1 in folds
    fold : int8 (n,), fold of each training row, −1 in subsets
    unit : float32 (n,), of numbers, how far the targets of each training row lie from their means, squared, as a share
        of their variance, less 1: what the unit of a risk rests on, mean 0. None of classes and labels
    af : floor probe of all training rows on them; at_alpha : probe at α* of all training rows on them;
    sup : floor probe of the twin, or None
    held_out : complement probe of each training row's own subset, on subset rows in row order
    held_out_floor : the same at the floor's penalty, or None where those were not fitted
    us : probe of all training rows on the test rows; cs : complement probes on the test rows
    floor_on_test : floor probe on the test rows
    uf : floor probe of training and test rows together, on the test rows; None unless the other order was asked for
    fold_margins, fold_losses : float32 (folds judged, n_te), margins and losses of the fold probes on the test rows;
        fold_ranks : uint16, their ranks of the true class, at most 65535; None where no folds were judged
    fold_margins_held, fold_losses_held, fold_ranks_held : the same on the rows of the held-out subsets, which no fold's
        probe was fitted on; None also in older records
    other_penalties, other_penalties_held : the first fold's probes at other penalties that another sample of training
        rows may have chosen, on the test rows and on those of the held-out subsets, from strong to weak
    penalty_chances : float64 (others + 1,), how probably α* and each of them would be chosen, sum 1; None where no
        folds were judged, and in older records
    """

    class_names: tuple[str, ...]
    train_ids: Shaped[np.ndarray, " n"] = field(metadata=_TRAIN)
    test_ids: Shaped[np.ndarray, " n_te"] = field(metadata=_TEST)
    train_labels: UInt32[np.ndarray, " n"] = field(metadata=_TRAIN)
    test_labels: UInt32[np.ndarray, " n_te"] = field(metadata=_TEST)
    subset: Int8[np.ndarray, " n"] = field(metadata=_TRAIN)
    fold: Int8[np.ndarray, " n"] = field(metadata=_TRAIN)
    af: Outcome = field(metadata=_TRAIN)
    us: Outcome = field(metadata=_TEST)
    held_out: Outcome = field(metadata=_HELD)
    cs: tuple[Outcome, ...] = field(metadata=_TEST)
    at_alpha: Outcome | None = field(default=None, metadata=_TRAIN)
    sup: Outcome | None = field(default=None, metadata=_TRAIN)
    held_out_floor: Outcome | None = field(default=None, metadata=_HELD)
    floor_on_test: Outcome | None = field(default=None, metadata=_TEST)
    sup_on_test: Outcome | None = field(default=None, metadata=_TEST)
    uf: Outcome | None = field(default=None, metadata=_TEST)
    train_groups: Shaped[np.ndarray, " n"] | None = field(default=None, metadata=_TRAIN)
    test_groups: Shaped[np.ndarray, " n_te"] | None = field(default=None, metadata=_TEST)
    fold_margins: Float32[np.ndarray, "folds n_te"] | None = field(default=None, metadata=_TEST)
    fold_losses: Float32[np.ndarray, "folds n_te"] | None = field(default=None, metadata=_TEST)
    fold_ranks: UInt16[np.ndarray, "folds n_te"] | None = field(default=None, metadata=_TEST)
    fold_margins_held: Float32[np.ndarray, "folds held"] | None = field(default=None, metadata=_HELD)
    fold_losses_held: Float32[np.ndarray, "folds held"] | None = field(default=None, metadata=_HELD)
    fold_ranks_held: UInt16[np.ndarray, "folds held"] | None = field(default=None, metadata=_HELD)
    unit: Float32[np.ndarray, " n"] | None = field(default=None, metadata=_TRAIN)
    other_penalties: tuple[Outcome, ...] = field(default=(), metadata=_TEST)
    other_penalties_held: tuple[Outcome, ...] = field(default=(), metadata=_HELD)
    penalty_chances: Float64[np.ndarray, " penalties"] | None = field(default=None, metadata=_NO_ROWS)

    def __post_init__(self) -> None:
        expected = {"train": len(self.train_labels), "test": len(self.test_labels), "held": int(self.in_subset.sum())}
        for name, part, outcome in self.outcomes():
            if len(outcome.rank) != expected[part]:
                raise ShapeError(f"outcomes {name} have {len(outcome.rank)} rows, expected {expected[part]}")

    @property
    def in_subset(self) -> np.ndarray:
        """bool (n,)"""
        return np.asarray(self.subset != NO_SUBSET)

    def outcomes(self) -> Iterator[tuple[str, str, Outcome]]:
        """Name, rows ("train", "test" or "held") and outcome of every probe that was judged; "cs_0" is of the first
        complement."""
        for name, part in _ROWS.items():
            value = getattr(self, name)
            if isinstance(value, Outcome):
                yield name, part, value
            elif isinstance(value, tuple):
                yield from ((f"{name}_{j}", part, outcome) for j, outcome in enumerate(value))

    @property
    def n_subsets(self) -> int:
        """m"""
        return len(self.cs)

    def outcome(self, risk: str) -> Outcome | None:
        """Of the probe that a risk of `BASE` is of, on the rows that judge it (of several complement probes the first);
        None where it was not fitted."""
        return {
            "risk_sup": self.sup, "risk_af": self.af, "risk_as": self.held_out, "risk_ah": self.held_out_floor,
            "risk_cs": self.cs[0], "risk_us": self.us, "risk_us_mix": self.us, "risk_uf": self.uf,
        }[risk]  # fmt: skip

    def places(self) -> np.ndarray:
        """int64 (n,): place of each training row among those of the held-out subsets, where it is one of them."""
        return np.asarray(np.cumsum(self.in_subset) - 1)

    def take(self, train: np.ndarray, test: np.ndarray, places: np.ndarray | None = None) -> "Judgements":
        """The judged training rows `train` and test rows `test` (positions, in that order); not all need be taken.
        Who takes many times hands over `places()`."""
        if _are_all(train, len(self.train_labels)) and _are_all(test, len(self.test_labels)):
            return self
        places = self.places() if places is None else places
        rows = {"train": train, "test": test, "held": places[train[self.subset[train] != NO_SUBSET]]}
        return replace(self, **{name: _of_rows(getattr(self, name), rows[part]) for name, part in _ROWS.items()})

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Named arrays, none of objects, for `numpy.savez`."""
        found: dict[str, np.ndarray] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, Outcome):
                found |= _spread(f.name, value)
            elif f.name == "class_names":
                found[f.name] = np.array([name.encode() for name in value], dtype=np.bytes_)
            elif isinstance(value, tuple):
                for j, outcome in enumerate(value):
                    found |= _spread(f"{f.name}_{j}", outcome)
            elif value is not None:
                found[f.name] = value
        return found

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "Judgements":
        """The inverse of `to_arrays`."""
        found: dict[str, Any] = {}
        for f in fields(cls):
            if f.name in _SEVERAL:
                every = takewhile(lambda name: f"{name}.rank" in arrays, (f"{f.name}_{j}" for j in count()))
                found[f.name] = tuple(_gathered(name, arrays) for name in every)
            elif f.name == "class_names":
                found[f.name] = tuple(name.decode() for name in arrays[f.name].tolist())
            elif f"{f.name}.rank" in arrays:
                found[f.name] = _gathered(f.name, arrays)
            elif f.name in arrays:
                found[f.name] = arrays[f.name]
        return cls(**found)


#: name of each field that has rows → "train", "test" or "held"; a field that does not say so fails here
_ROWS: dict[str, str] = {
    f.name: f.metadata["rows"] for f in fields(Judgements) if f.name != "class_names" and f.metadata["rows"]
}
#: fields of several probes: the arrays of the first one of `cs` are named "cs_0.rank" and so on
_SEVERAL = ("cs", "other_penalties", "other_penalties_held")


def _are_all(rows: np.ndarray, n: int) -> bool:
    return len(rows) == n and np.array_equal(rows, np.arange(n))


def _of_rows(values: Any, rows: np.ndarray) -> Any:  # a type comes back as it went in
    """Of an array, an outcome, several of them, or nothing, these rows."""
    if isinstance(values, tuple):
        return tuple(_of_rows(each, rows) for each in values)
    if isinstance(values, Outcome):
        return Outcome(*(getattr(values, f.name)[rows] for f in fields(Outcome)))
    return None if values is None else values[..., rows]


def _spread(name: str, outcome: Outcome) -> dict[str, np.ndarray]:
    return {f"{name}.{f.name}": getattr(outcome, f.name) for f in fields(Outcome)}


def _gathered(name: str, arrays: Mapping[str, np.ndarray]) -> Outcome:
    return Outcome(**{f.name: arrays[f"{name}.{f.name}"] for f in fields(Outcome)})
