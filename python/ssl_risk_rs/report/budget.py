"""What the variance of the intervals of a decomposition is made of."""

from dataclasses import dataclass

import numpy as np

from ssl_risk_rs.results.quantities import IN_SAMPLE, QUANTITIES
from ssl_risk_rs.results.run import Decomposition

__all__ = ["Budget", "budget"]


@dataclass(frozen=True, slots=True)
class Budget:
    """Of what the variance of a quantity is made, as fractions squared.

    Attributes
    ----------
    test, train : sampling of test rows, and of training rows (held out or not; they make the split)
    probe : refitting the probe on other training rows
    floor : moving the floor of the penalty by up to one decade; it is not in the interval
    """

    quantity: str
    test: float
    train: float
    probe: float
    floor: float

    @property
    def interval(self) -> float:
        """What the interval holds."""
        return self.test + self.train + self.probe

    @property
    def total(self) -> float:
        """The interval's variance and that of the floor."""
        return self.interval + self.floor


def budget(result: Decomposition) -> list[Budget]:
    """What the variance of each component and of the total is made of; nothing for numbers, whose errors on test rows
    are in units of the training rows' variance, and so vary with both.

    Scores of test rows and of training rows are independent, so that the covariance of the risks, less what the
    probe's own variation adds to it, falls into a block of each. A training error that is scaled because it is
    optimistic counts as training rows. The floor is taken as uniform between its value and one decade above.
    """
    if result.method.metric == "r2":
        return []
    of = result.covariance_of
    own = result.variation.covariance(of)
    on_test = np.array([QUANTITIES[name].rows == "test" for name in of], float)
    rows = np.asarray(result.covariance, float) - own
    rises = result.floor.rises(result.estimates)
    found = []
    for name in (*result.component_names, "agg_risk"):
        weights_of = QUANTITIES[name].weights
        weights = np.array([weights_of.get(risk, 0.0) for risk in of])
        test, probe = float((weights * on_test) @ rows @ (weights * on_test)), float(weights @ own @ weights)
        rest = weights * (1 - on_test)
        train = float(rest @ rows @ rest)
        se = result.estimates[name].se
        if set(weights_of) & set(IN_SAMPLE):  # it may be scaled: the standard error says by how much
            train = max(train, se * se - probe - max(0.0, test))
        shift = sum(weights_of.get(risk, 0.0) * rise for risk, rise in rises.items())
        found.append(Budget(name, max(0.0, test), max(0.0, train), max(0.0, probe), shift * shift / 12))
    return found
