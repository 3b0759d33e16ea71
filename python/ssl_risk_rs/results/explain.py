"""What an explanation of a run holds: typed values that reports and other programs read.

How each is estimated: `decomposition.explaining`, `decomposition.nystrom`; what is said of it: `report.explanation`.
"""

import math
from dataclasses import asdict, dataclass
from enum import Enum
from typing import TYPE_CHECKING, Literal

from ssl_risk_rs._display import display
from ssl_risk_rs.results.compare import Difference
from ssl_risk_rs.results.estimate import Estimate, Grade
from ssl_risk_rs.results.explain_published import PublishedTraits
from ssl_risk_rs.results.provenance import Provenance
from ssl_risk_rs.results.quantities import QUANTITIES
from ssl_risk_rs.results.record import Bottleneck
from ssl_risk_rs.results.run import Decomposition

if TYPE_CHECKING:
    import polars as pl

__all__ = [
    "Confusion",
    "Explanation",
    "Layer",
    "NoGap",
    "Part",
    "Parts",
    "ProbeContrast",
    "Spread",
    "UsabilityGap",
    "Verdict",
]

#: directions that hold the variance of scaled features, below which a representation counts as collapsed, if it has
#: this many features or more
COLLAPSED_DIRECTIONS, LEAST_FEATURES = 1.05, 8
#: share of the variance from which rows far out decide what a probe sees
FAR_SHARE = 0.5
#: variance over squared mean below which features are a constant vector but for rounding
COLLAPSED_VARIANCE = 1e-6


class Verdict(str, Enum):
    """What an error is mostly made of, in the order in which it is decided: the first that holds."""

    #: nearly all variance (0.97 and more of that of scaled features) lies in one direction, or there is none, and the
    #: error is nearer to guessing than to none
    COLLAPSED = "collapsed"
    #: too few groups for an interval of the total: nothing can be told
    NO_INTERVAL = "no_interval"
    #: test rows are predicted as by guessing, or worse, and held-out training rows clearly better
    TEST_ROWS = "test_rows"
    #: the interval of the total reaches the error of guessing, or lies above it
    AT_CHANCE = "at_chance"
    #: an encoder that was never trained does as well, or nearly
    NOTHING_BEYOND_CONTROL = "nothing_beyond_control"
    #: it does worse in these rows, and that may be chance
    CONTROL_NOT_EXCLUDED = "control_not_excluded"
    #: the weights are random, as the encoder's name says
    UNTRAINED = "untrained"
    #: a probe separates the training rows: usability and probe generalization are not told apart
    NOT_IDENTIFIED = "not_identified"
    ARCHITECTURE = "architecture"
    #: the twin errs more than the encoder on the training rows: it measures no architecture
    WEAK_TWIN = "weak_twin"
    REPRESENTATION = "representation"
    #: as `REPRESENTATION`, but hardly a test row is judged wrongly: training rows are harder
    TRAINING_ROWS = "training_rows"
    #: more labels would help
    LABELS = "labels"
    #: classes may make all of encoder generalization: test rows have other shares of them, or some have no held-out row
    OF_CLASSES = "of_classes"
    #: train and test rows differ, for any encoder
    SHIFT = "shift"
    #: the encoder does better on images that it was pretrained on
    MEMORIZED = "memorized"
    #: test rows are predicted worse than held-out training rows, and nothing tells why
    UNSEEN = "unseen"


class NoGap(str, Enum):
    """Why no non-linear probe was fitted."""

    DECLINED = "declined"
    #: features in files that the record does not name
    FILES = "files"
    #: the bank is not there any more
    BANK_GONE = "bank_gone"
    TOO_LARGE = "too_large"
    PAPER = "paper"
    #: the bank has other rows than the run judged
    OTHER_ROWS = "other_rows"


@dataclass(frozen=True, slots=True)
class Part:
    """A component on the rows of one class or group.

    Attributes
    ----------
    kind, name : of which rows; quantity : name in `QUANTITIES`
    estimate, low, high : of these rows, fractions; n_train, n_subset, n_test : how many there are of them
    carried : what they add to the quantity over all rows, a fraction: each of its risks × their share of the rows which
        that is judged on, so that other shares of train and test enter too
    difference, se, p : against the quantity over all rows (of probe generalization of groups: over all held-out
        training rows, without the correction of the whole's R_AS); p_holm : after Holm's correction over all parts
        of a kind
    """

    kind: Literal["class", "group"]
    name: str
    quantity: str
    estimate: float
    low: float
    high: float
    n_train: int
    n_subset: int
    n_test: int
    carried: float
    difference: float
    se: float
    p: float
    p_holm: float
    grade: Grade


@dataclass(frozen=True, slots=True)
class Parts:
    """What a probe errs on by class and by group.

    Attributes
    ----------
    classes : each component, and the total, on the rows of each class; groups : see `group_parts`; the surest first
    classes_left_out : how many have too few rows in a set to be judged by themselves
    """

    classes: tuple[Part, ...]
    classes_left_out: int
    groups: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Confusion:
    """Test rows of a class that are taken for another one: `count` of `n`."""

    name: str
    taken_for: str
    count: int
    n: int


@dataclass(frozen=True, slots=True)
class ProbeContrast:
    """The ridge probe less the logistic one on the same rows, and the largest component of each."""

    differences: tuple[Difference, ...]
    bottlenecks: tuple[Bottleneck, Bottleneck]

    @property
    def identified(self) -> bool:
        """Whether both can tell which component is the largest: not where a probe separates its training rows, or a
        component has no interval."""
        return all(b.probability is not None for b in self.bottlenecks)

    @property
    def agree(self) -> bool:
        """Whether the same component is the largest."""
        return self.bottlenecks[0].quantity == self.bottlenecks[1].quantity


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of an encoder: components and total, and the ranks by total that the data do not exclude."""

    name: str
    n_features: int
    estimates: tuple[Estimate, ...]
    rank: int
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class UsabilityGap:
    """A probe that is linear in the features and in `landmarks` Nyström features of a Gaussian kernel, less the linear
    one; `bandwidth` in standard deviations of the features."""

    landmarks: int
    bandwidth: float
    differences: tuple[Difference, ...]
    seconds: float

    def difference(self, quantity: str) -> Difference:
        """One difference; KeyError if there is none."""
        for d in self.differences:
            if d.quantity == quantity:
                return d
        raise KeyError(quantity)


@dataclass(frozen=True, slots=True)
class Spread:
    """How a representation fills its space, on training rows.

    `directions` : (Σ λ)²/Σ λ² of the eigenvalues λ of the correlation matrix; `variance` : mean variance of the
    features over the squared length of their mean per feature; `n` : rows it was measured on, without the `far` ones
    that lie farthest out; `far_share` : what these would make of the variance of scaled features
    """

    directions: float
    variance: float
    n_features: int
    constant: int
    n: int
    far: int = 0
    far_share: float = 0.0

    @property
    def collapsed(self) -> bool:
        """Whether all rows lie next to one line, or in one point."""
        few = self.n_features >= LEAST_FEATURES and self.directions < COLLAPSED_DIRECTIONS
        return self.constant == self.n_features or few or self.variance < COLLAPSED_VARIANCE


@dataclass(frozen=True, eq=False)
class Explanation:
    """One decomposition explained; every other field may be empty where it could not be made.

    Attributes
    ----------
    result, provenance : what is explained
    verdict : what the error is mostly made of; untrained : whether the name says that the weights are random
    of_control : this encoder less the control: total and encoder generalization
    classes, groups : parts, the surest first; classes_left_out : with too few rows to be judged by themselves
    confusions : classes that are taken for another one, the most frequent first
    probes, layers, gap, published : see there; no_gap : why `gap` is missing
    """

    result: Decomposition
    provenance: Provenance
    verdict: Verdict
    untrained: bool = False
    of_control: tuple[Difference, ...] = ()
    spread: Spread | None = None
    classes: tuple[Part, ...] = ()
    classes_left_out: int = 0
    groups: tuple[Part, ...] = ()
    probes: ProbeContrast | None = None
    layers: tuple[Layer, ...] = ()
    gap: UsabilityGap | None = None
    no_gap: NoGap | None = None
    published: PublishedTraits | None = None
    confusions: tuple[Confusion, ...] = ()

    def __str__(self) -> str:
        return display().text(self)

    def control(self, quantity: str) -> Difference | None:
        """This encoder less the control."""
        return next((d for d in self.of_control if d.quantity == quantity), None)

    def frame(self) -> "pl.DataFrame":
        """A row for each number: `section`, `name`, `quantity`, `estimate`, `low`, `high`, `n`, `p`, `p_holm`,
        `grade`; fractions. Of classes and groups also `less_all` and `carried` (`Part`). `n` counts the rows that the
        quantity is judged on."""
        import polars as pl

        rows: list[dict[str, object]] = []
        for name in (*self.result.component_names, "agg_risk"):
            e = self.result.estimates[name]
            rows.append(_row("run", self.provenance.encoder, e.quantity, e.estimate, e.low, e.high, e.n, grade=e.grade))
        for section, found in (
            ("less control", self.of_control),
            ("ridge less logistic", () if self.probes is None else self.probes.differences),
            ("non-linear less linear", () if self.gap is None else self.gap.differences),
        ):
            rows += [
                _row(section, d.encoder, d.quantity, d.difference, d.low, d.high, d.n, d.p, d.p_holm, d.grade)
                for d in found
            ]
        for layer in self.layers:
            rows += [
                _row("layer", layer.name, e.quantity, e.estimate, e.low, e.high, e.n, grade=e.grade)
                for e in layer.estimates
            ]
        for part in (*self.classes, *self.groups):
            n = {"train": part.n_train, "subset": part.n_subset, "test": part.n_test}[QUANTITIES[part.quantity].rows]
            row = _row(part.kind, part.name, part.quantity, part.estimate, part.low, part.high, n, part.p, part.p_holm,
                       part.grade)  # fmt: skip
            rows.append({**row, "less_all": part.difference, "carried": part.carried})
        types = {"section": pl.String, "name": pl.String, "quantity": pl.String, "estimate": pl.Float64,
                 "low": pl.Float64, "high": pl.Float64, "n": pl.Int64, "p": pl.Float64, "p_holm": pl.Float64,
                 "grade": pl.String, "less_all": pl.Float64, "carried": pl.Float64}  # fmt: skip
        return pl.DataFrame(rows, schema=types)

    def to_dict(self) -> dict[str, object]:
        """What `--format json` prints, beside `frame()`: the verdict and what it rests on."""
        return {
            "encoder": self.provenance.encoder,
            "probe": self.result.method.probe,
            "verdict": self.verdict.value,
            "untrained": self.untrained,
            "bottleneck": self.result.bottleneck.quantity,
            "probability": self.result.bottleneck.probability,
            "chance": self.result.sizes.chance,
            "confusions": [asdict(each) for each in self.confusions],
            "no_gap": None if self.no_gap is None else self.no_gap.value,
            "spread": None if self.spread is None else asdict(self.spread),
            "published": None if self.published is None else self.published.to_dicts(),
        }


def _row(
    section: str,
    name: str,
    quantity: str,
    estimate: float,
    low: float,
    high: float,
    n: int,
    p: float = math.nan,
    p_holm: float | None = None,
    grade: Grade = Grade.SOUND,
) -> dict[str, object]:
    return {
        "section": section, "name": name, "quantity": quantity, "estimate": estimate, "low": low, "high": high, "n": n,
        "p": None if math.isnan(p) else p, "p_holm": p_holm, "grade": grade.value,
    }  # fmt: skip
