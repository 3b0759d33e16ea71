"""The one table of statistics: name, definition, what a larger value means, what it needs."""

from dataclasses import dataclass
from enum import Enum

__all__ = ["STATISTICS", "Definition", "Direction", "Needs"]


class Needs(str, Enum):
    """What a statistic is computed from."""

    ROWS = "rows"
    LABELS = "labels"
    VIEWS = "views"


class Direction(str, Enum):
    """Which values its authors take for a better representation."""

    LARGER = "larger"
    SMALLER = "smaller"
    #: no monotone reading: the spectrum's exponent, sums of variances in units of the features
    NEITHER = "neither"


@dataclass(frozen=True, slots=True)
class Definition:
    """A statistic.

    Attributes
    ----------
    label : what tables print; definition : the formula in a line, in full in docs/geometry.md
    larger : what a larger value means; better : which values its authors take for better
    needs : what it is computed from
    """

    name: str
    label: str
    definition: str
    larger: str
    better: Direction
    needs: Needs


def _table(*entries: Definition) -> dict[str, Definition]:
    return {entry.name: entry for entry in entries}


#: by name, in the order in which they are printed
STATISTICS: dict[str, Definition] = _table(
    Definition(
        "effective_rank", "effective rank", "exp of the entropy of the correlation matrix's eigenvalues",
        "variance is spread over more directions", Direction.LARGER, Needs.ROWS,
    ),
    Definition(
        "effective_dim", "effective dimension", "eigenvalues of the correlation matrix above 1 % of the largest",
        "more directions have 1 % of the largest one's variance", Direction.LARGER, Needs.ROWS,
    ),
    Definition(
        "rank_z", "rank of Z", "singular values of the uncentred features above 1 % of the largest",
        "more directions have 1 % of the largest one's length", Direction.LARGER, Needs.ROWS,
    ),
    Definition(
        "rankme", "RankMe", "exp of the entropy of the uncentred features' singular values",
        "length is spread over more directions", Direction.LARGER, Needs.ROWS,
    ),
    Definition(
        "alpha", "alpha of the spectrum", "exponent a of a fit j^-a to the covariance's eigenvalues",
        "the spectrum falls faster", Direction.NEITHER, Needs.ROWS,
    ),
    Definition(
        "uniformity", "uniformity", "log mean exp(-2 |z - z'|^2) over pairs of rows of unit length",
        "rows lie closer together on the sphere", Direction.SMALLER, Needs.ROWS,
    ),
    Definition(
        "intra_var", "intra-class variance", "mean over classes of the mean squared distance to the class mean",
        "classes are wider (in squared units of the features)", Direction.NEITHER, Needs.LABELS,
    ),
    Definition(
        "inter_var", "inter-class variance", "mean squared distance of class means to their mean",
        "class means are further apart (in squared units of the features)", Direction.NEITHER, Needs.LABELS,
    ),
    Definition(
        "var_ratio", "intra / inter variance", "intra-class over inter-class variance",
        "classes are wide for their distance", Direction.SMALLER, Needs.LABELS,
    ),
    Definition(
        "class_alignment", "class alignment", "mean over classes of |z - z'|^2 between rows of unit length",
        "rows of a class point in more directions", Direction.SMALLER, Needs.LABELS,
    ),
    Definition(
        "nc1", "NC1", "trace(pinv(covariance of class means) x covariance within classes)",
        "classes are wide along the directions that tell them apart", Direction.SMALLER, Needs.LABELS,
    ),
    Definition(
        "nc1_norm", "NC1 normalized", "NC1 / sqrt(effective dimension)",
        "as NC1, for encoders of unequal dimension", Direction.SMALLER, Needs.LABELS,
    ),
    Definition(
        "class_mean_coherence", "class-mean coherence", "largest |cosine| between two centred class means",
        "two classes lie along one line through the centre", Direction.SMALLER, Needs.LABELS,
    ),
    Definition(
        "h_score", "H-score", "trace(pinv(covariance) x covariance of class means), classes by their share",
        "class means explain more of the whitened features", Direction.LARGER, Needs.LABELS,
    ),
    Definition(
        "logme", "LogME", "log evidence of Bayesian linear regression of the labels, by row, mean over classes",
        "a linear model of the labels is more plausible", Direction.LARGER, Needs.LABELS,
    ),
    Definition(
        "alignment", "alignment of views", "mean |z - z'|^2 over pairs of views of a sample, of unit length",
        "views of a sample lie further apart", Direction.SMALLER, Needs.VIEWS,
    ),
    Definition(
        "view_intra_var", "variance within samples", "mean squared distance of views to their sample's mean",
        "views of a sample differ more (in squared units of the features)", Direction.NEITHER, Needs.VIEWS,
    ),
    Definition(
        "view_inter_var", "variance between samples", "mean squared distance of samples' means to their mean",
        "samples are further apart (in squared units of the features)", Direction.NEITHER, Needs.VIEWS,
    ),
    Definition(
        "view_nc1", "NC1 of views", "NC1 with every sample as a class of its views",
        "views differ along the directions that tell samples apart", Direction.SMALLER, Needs.VIEWS,
    ),
    Definition(
        "lidar", "LiDAR", "exp of the entropy of the linear discriminant spectrum of samples against their views",
        "more directions tell samples apart", Direction.LARGER, Needs.VIEWS,
    ),
)  # fmt: skip
