"""The law of label counts of Dubois et al. 2023, as its authors fit it, and the one they compare it with.

    err(n) = clip(enc_gen + (1 - B) R_AF + (B R_AF + probe_gen) (N / n)^α, 0, 1)

N are the labels less those of the held-out subset. At n = N it is the aggregated risk. The rival is a law of sizes,

    err(n) = I + C n^-α + K p^-β,    p = 1000 · dimension, the parameters of the probe

with the same five numbers for all encoders.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from ssl_risk_rs.study._extra import require
from ssl_risk_rs.study.labels import IMAGENET_LABELS, LabelPoints

__all__ = ["PaperLaw", "RivalLaw", "fit_paper_law", "fit_rival_law"]

#: training images of ImageNet-1K less the 50,000 of the held-out subset
_COMPLEMENT = 1_231_167


@dataclass(frozen=True, slots=True)
class PaperLaw:
    """The law of Dubois et al. 2023, two parameters for all encoders."""

    alpha: float
    b: float

    def predict(self, points: LabelPoints) -> Float64[np.ndarray, " n"]:
        """Errors at the points' numbers of labels."""
        growth = (_COMPLEMENT / IMAGENET_LABELS * points.n_full / points.n_labels) ** self.alpha
        kept = points.enc_gen + (1 - self.b) * points.risk_af
        return np.asarray(np.clip(kept + (self.b * points.risk_af + points.probe_gen) * growth, 0.0, 1.0))


def fit_paper_law(points: LabelPoints, *, b: float | None = None) -> PaperLaw:
    """Fit α in [0, 0.5] and B in [0, 1000] by least squares; a given `b` is held."""
    optimize = require("scipy.optimize")

    def law(parameters: Sequence[float]) -> PaperLaw:
        return PaperLaw(float(parameters[0]), float(parameters[1]) if b is None else b)

    start, upper = ([0.1, 0.5], [0.5, 1000.0]) if b is None else ([0.1], [0.5])
    found = optimize.least_squares(
        lambda parameters: law(parameters).predict(points) - points.error, start, bounds=([0.0] * len(start), upper),
        x_scale="jac", xtol=1e-12, ftol=1e-12, gtol=1e-12,
    )  # fmt: skip
    return law(found.x)


@dataclass(frozen=True, slots=True)
class RivalLaw:
    """A law of sizes that knows nothing of the components."""

    irreducible: float
    c: float
    alpha: float
    k: float
    beta: float

    def predict(self, points: LabelPoints) -> Float64[np.ndarray, " n"]:
        """Errors at the points' numbers of labels."""
        labels, size = points.n_labels**-self.alpha, (1000 * points.z_dim) ** -self.beta
        return np.asarray(np.clip(self.irreducible + self.c * labels + self.k * size, 0.0, 1.0))


def fit_rival_law(points: LabelPoints) -> RivalLaw:
    """Fit the law of sizes by least squares."""
    optimize = require("scipy.optimize")
    found = optimize.least_squares(
        lambda parameters: RivalLaw(*map(float, parameters)).predict(points) - points.error,
        [0.1, 2.0, 0.2, 1.0, 0.2], bounds=([0, 0, 0, 0, 0], [1, 1e3, 2, 1e3, 2]), x_scale="jac",
    )  # fmt: skip
    return RivalLaw(*map(float, found.x))
