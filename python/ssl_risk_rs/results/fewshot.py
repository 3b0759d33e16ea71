"""What a few-shot decomposition records: sizes, draws, estimates at each size, the curve of error against labels."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Int32

from ssl_risk_rs._limits import whole_number
from ssl_risk_rs._notes import Note
from ssl_risk_rs.errors import ParameterError, ShapeError
from ssl_risk_rs.results.estimate import Estimate
from ssl_risk_rs.results.record import FitRecord, Penalty

__all__ = [
    "BackTest", "CurvePoint", "Doubling", "DrawVariance", "FewShot", "LabelCurve", "LabelsNeeded", "ShotOutcomes",
    "ShotSize", "Shots", "names_of", "parse_shots",
]  # fmt: skip

#: how sizes are asked for: "1%,30,5,3", or a sequence of such sizes
Shots: TypeAlias = str | Sequence[str | int]

#: a share of the training rows that is still few-shot: draws come from half of them
LARGEST_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class ShotSize:
    """Labelled rows that a probe gets: `shots` of each class, or a `share` of each class's training rows.

    >>> ShotSize.parse("5").name, ShotSize.parse("1%").title
    ('5', '1 %')
    """

    shots: int | None = None
    share: float | None = None

    @classmethod
    def parse(cls, value: str | int) -> "ShotSize":
        """`5` → 5 rows of each class; `"1%"` → 1 % of each class.

        Raises
        ------
        ParameterError for anything else, 0 shots, or a share outside 0 to 50 %.
        """
        text = str(value).strip()
        wrong = ParameterError(
            f"few-shot size {value!r} is neither a number of rows of each class (5) nor a share of them (1%)"
        )
        if text.endswith("%"):
            try:
                share = float(text[:-1]) / 100
            except ValueError:
                raise wrong from None
            if not 0 < share < LARGEST_SHARE:
                raise ParameterError(
                    f"few-shot size {text}: a share must lie between 0 and {100 * LARGEST_SHARE:g} %, since draws come "
                    "from half of the training rows"
                )
            return cls(share=share)
        shots = whole_number(text)
        if shots is None:
            raise wrong
        if shots < 1:
            raise ParameterError(
                f"few-shot size {text}: a probe needs at least one row of each class; ask for 1 or more"
            )
        return cls(shots=shots)

    @property
    def name(self) -> str:
        """As it is asked for, and as the column `shots` of results has it."""
        return f"{self.shots}" if self.share is None else f"{100 * self.share:g}%"

    @property
    def title(self) -> str:
        """As tables print it."""
        if self.share is not None:
            return f"{100 * self.share:g} %"
        return f"{self.shots} shot{'' if self.shots == 1 else 's'}"


def names_of(value: Shots) -> tuple[str, ...]:
    """Sizes as they were asked for, one by one; ParameterError for what is none, and for the same size twice.

    >>> names_of("1%, 30")
    ('1%', '30')
    """
    parts = _listed(value)
    parse_shots(parts)
    return tuple(str(part).strip() for part in parts)


def parse_shots(value: Shots) -> tuple[ShotSize, ...]:
    """Sizes as they were asked for; the same size twice is refused.

    >>> [size.name for size in parse_shots("1%,30,5,3")]
    ['1%', '30', '5', '3']
    """
    sizes = tuple(ShotSize.parse(part) for part in _listed(value))
    if not sizes:
        raise ParameterError("no few-shot size is given; for example 1%,30,5,3")
    twice = [size.name for i, size in enumerate(sizes) if size in sizes[:i]]
    if twice:
        raise ParameterError(f"few-shot size {twice[0]} is given twice")
    return sizes


def _listed(value: Shots) -> list[str | int]:
    """Sizes one by one, unchecked."""
    if isinstance(value, str):
        return list(value.split(","))
    return list(value) if isinstance(value, Iterable) else [value]


@dataclass(frozen=True, slots=True, eq=False)
class ShotOutcomes:
    """The draws of one size and what their probes got wrong; rows are positions among the training rows.

    Attributes
    ----------
    draws : int32 (m, rows of a draw), ascending in each draw
    judged : int32 (rows of J,), training rows that no probe was fitted on, ascending
    wrong_train : bool (m, rows of J); wrong_test : bool (m, n_te)
    """

    draws: Int32[np.ndarray, "m labels"]
    judged: Int32[np.ndarray, " n_judged"]
    wrong_train: Bool[np.ndarray, "m n_judged"]
    wrong_test: Bool[np.ndarray, "m n_te"]

    def __post_init__(self) -> None:
        m = len(self.draws)
        if self.wrong_train.shape != (m, len(self.judged)) or len(self.wrong_test) != m:
            raise ShapeError(
                f"few-shot outcomes disagree: {m} draws, {self.wrong_train.shape} and {self.wrong_test.shape} outcomes "
                f"for {len(self.judged)} judged training rows"
            )

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Named arrays for `numpy.savez`, outcomes as bits."""
        return {
            "draws": self.draws,
            "judged": self.judged,
            "wrong_train": np.packbits(self.wrong_train, axis=1),
            "wrong_test": np.packbits(self.wrong_test, axis=1),
            "n_test": np.array(self.wrong_test.shape[1]),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "ShotOutcomes":
        """The inverse of `to_arrays`."""
        judged, n_test = arrays["judged"], int(arrays["n_test"])

        def bits(name: str, count: int) -> np.ndarray:
            if arrays[name].ndim != 2 or not 0 <= count <= 8 * arrays[name].shape[1]:
                raise ShapeError(f"few-shot outcomes {name} are {arrays[name].shape}, too few for {count} rows")
            return np.asarray(np.unpackbits(arrays[name], axis=1, count=count).astype(bool))

        return cls(arrays["draws"], judged, bits("wrong_train", len(judged)), bits("wrong_test", n_test))


@dataclass(frozen=True, slots=True)
class Overlap:
    """What draws from one pool have in common, where they are not disjoint.

    A draw's effect is a sum over classes, where s_c rows of a class have a variance in proportion to 1/s_c. Draws from
    a pool of N_c rows show 1/s_c − 1/N_c of it, and pools differ by 1/N_c. So ρ/(1−ρ), what pools add over what draws
    show, is Σ 1/N_c over Σ (1/s_c − 1/N_c); it rests on N_c − 1 degrees of freedom in each class. With groups, s_c and
    N_c are groups that have rows of the class.

    Attributes
    ----------
    share : ρ = Σ 1/N_c / Σ 1/s_c, in [0, 1]; 0 of disjoint draws
    df : degrees of freedom of what pools add: (Σ 1/N_c)² / Σ 1/(N_c² (N_c − 1)), with 1 for N_c − 1 where N_c is 1;
        None of disjoint draws, and in runs of earlier versions, whose ρ is the share of all rows of the pool
    """

    share: float = 0.0
    df: float | None = None

    @classmethod
    def of(cls, drawn: np.ndarray, pool: np.ndarray) -> "Overlap":
        """From s_c and N_c, both positive."""
        added = 1 / pool
        df = added.sum() ** 2 / (added**2 / np.maximum(pool - 1, 1)).sum()
        return cls(float(added.sum() / (1 / drawn).sum()), float(df))

    def factor(self, m: int) -> float:
        """What the variance over m draws is multiplied with: 1/m + ρ/(1−ρ)."""
        return 1 / m + self.share / (1 - self.share)

    def degrees(self, m: int) -> float:
        """Degrees of freedom of the variance over m draws times `factor`."""
        of_pool = 1 - 1 / m / self.factor(m)
        return 1 / (1 / (m - 1) + (0 if self.df is None else of_pool**2 / self.df))


#: of draws that have no row in common
DISJOINT = Overlap()


@dataclass(frozen=True, slots=True)
class DrawVariance:
    """Of what the variance of a quantity is made: V = max(0, between − m · interaction)(1/m + ρ/(1−ρ)) + rows.

    between : S², variance of the quantity over draws; interaction : V_int; rows : V_row; total : V, at least S²/m
    """

    between: float
    interaction: float
    rows: float
    total: float


@dataclass(frozen=True, eq=False)
class FewShot:
    """The decomposition at one size.

    Attributes
    ----------
    size : what was asked for; labels : rows of one draw; shots : the fewest and most rows of a class in it
    draws : m; overlap : what they have in common
    pool : training rows that draws come from; judged_train, judged_test : rows that every probe is judged on
    folds : that the penalty of a draw is tuned on; folds_judged : how many of them are judged
    penalties : of each draw
    estimates : of every quantity; those of R_AF and R_ΦF alone are the full run's
    variances : of the quantities that depend on the draws
    fits : the fit of each draw; tuning_fits, tuning_missed : fits of tuning, and those that missed their tolerance
    """

    size: ShotSize
    labels: int
    shots: tuple[int, ...]
    draws: int
    overlap: Overlap
    pool: int
    judged_train: int
    judged_test: int
    folds: int
    folds_judged: int
    penalties: tuple[Penalty, ...]
    estimates: Mapping[str, Estimate]
    variances: Mapping[str, DrawVariance]
    fits: tuple[FitRecord, ...] = field(repr=False)
    tuning_fits: int
    tuning_missed: int
    notes: tuple[Note, ...]
    seconds: float
    groups_judged: int | None = None
    outcomes: ShotOutcomes | None = field(repr=False, default=None)

    def estimate(self, quantity: str) -> float:
        """Point estimate of a quantity."""
        return self.estimates[quantity].estimate


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """A measured size: labelled rows, R_US, its standard error."""

    name: str
    labels: int
    error: float
    se: float


@dataclass(frozen=True, slots=True)
class Doubling:
    """What twice the labels change: error(2 · labels) − error(labels), below 0 where they help.

    extrapolates : 2 · labels is more than the largest measured size
    """

    name: str
    labels: int
    change: float
    low: float
    high: float
    extrapolates: bool


@dataclass(frozen=True, slots=True)
class LabelsNeeded:
    """Labelled rows at which the error falls to `error`.

    NaN where the error is not reached within a hundred times the largest measured size. extrapolates : `labels` lies
    outside the sizes that were measured
    """

    error: float
    labels: float
    low: float
    high: float
    extrapolates: bool


@dataclass(frozen=True, slots=True)
class BackTest:
    """A measured size, predicted from the others; the interval holds the noise of its own measurement as well."""

    name: str
    labels: int
    measured: float
    predicted: float
    low: float
    high: float
    extrapolates: bool

    @property
    def inside(self) -> bool:
        """Whether the interval holds what was measured."""
        return self.low <= self.measured <= self.high


@dataclass(frozen=True, slots=True)
class LabelCurve:
    """Error against labels, through the measured sizes, and what it predicts.

    Attributes
    ----------
    points : measured sizes, few labels first; the last one is the full run
    doublings : from each of them; needed : for each error that was asked for; back_tests : where there are at least
        three points
    inflation : by how much the variance of the curve's bend was raised, because back-tests erred more than it allows,
        or none could be made
    """

    points: tuple[CurvePoint, ...]
    doublings: tuple[Doubling, ...]
    needed: tuple[LabelsNeeded, ...]
    back_tests: tuple[BackTest, ...]
    inflation: float = math.nan
