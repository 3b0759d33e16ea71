"""How alike two representations of the same rows are, from their cross products: nothing is n × n."""

import math

import numpy as np

from ssl_risk_rs import _core
from ssl_risk_rs.errors import ShapeError
from ssl_risk_rs.geometry.measuring import SampleRows
from ssl_risk_rs.geometry.sums import sum_rows

__all__ = ["linear_cka"]


def linear_cka(one: SampleRows, other: SampleRows, *, n_threads: int | None = None) -> float:
    """Linear centred kernel alignment, ‖XᵀY‖²_F / (‖XᵀX‖_F ‖YᵀY‖_F) of centred X (n, d), Y (n, e).

    Parameters
    ----------
    one, other : the same samples, row by row

    Returns
    -------
    1 if one is the other rotated and scaled; NaN if one is constant. Biased upwards where n is not well above d and e.

    Raises
    ------
    ShapeError unless both have as many rows; ParameterError for NaN or infinity.

    Notes
    -----
    Kornblith et al. 2019 (arXiv 1905.00414), section 3; time n·d·e, memory O(d·e), float64.
    """
    if len(one.rows) != len(other.rows):
        raise ShapeError(f"representations of {len(one.rows)} and {len(other.rows)} rows cannot be paired")
    centres, norms = [], []
    for sample in (one, other):
        sums = sum_rows(
            sample.features, sample.rows, np.zeros(sample.features.n_rows, np.uint32), 1, n_threads=n_threads
        )
        centres.append(sums.mean)
        norms.append(float(np.linalg.norm(sums.covariance())) if sums.varies.any() else 0.0)
    if not all(norms):
        return math.nan
    crossed = _core.cross_products(
        one.features.source, one.rows, centres[0], other.features.source, other.rows, centres[1], n_threads=n_threads
    )
    return float(np.sum((crossed / len(one.rows)) ** 2) / (norms[0] * norms[1]))
