//! Ridge probe: one symmetric eigendecomposition serves every penalty.

use faer::{Mat, MatRef, Side};

use super::{Linear, check_alpha};
use crate::error::{Error, Result};
use crate::moments::Design;

/// Below this penalty, relative to the mean variance, rounding of float32 sums shows in the solution
/// (a rank-deficient Gram: coefficients 5 % off at 1e-5, useless at 1e-6; predictions 2e-5 and 6e-2).
pub const ALPHA_FLOOR: f64 = 1e-5;

/// The eigendecomposition of a design's covariance and the rotated targets.
pub struct RidgeFactor {
    /// Eigenvalues clipped at zero, `(d)`.
    eigenvalues: Vec<f64>,
    /// Eigenvectors, `(d, d)`.
    basis: Mat<f64>,
    /// `Uᵀ Xᵀ(Y − 1πᵀ)/n`, `(d, k′)`.
    rotated: Mat<f64>,
}

impl RidgeFactor {
    /// Factor once, solve for many penalties.
    ///
    /// # Errors
    /// [`Error::Numerical`] if the eigendecomposition does not converge.
    pub fn new(design: &Design) -> Result<Self> {
        let d = design.n_features();
        let covariance = MatRef::from_row_major_slice(&design.covariance, d, d);
        let eigen = covariance
            .self_adjoint_eigen(Side::Lower)
            .map_err(|_| Error::Numerical("eigendecomposition of the covariance failed".into()))?;
        // centred features: column c of Xᵀ(Y − 1πᵀ)/n is π_c μ_c
        let targets =
            Mat::from_fn(d, design.classes.len(), |j, c| design.priors[c] * design.means[c * d + j]);
        let basis = eigen.U().to_owned();
        let rotated = basis.transpose() * &targets;
        let eigenvalues = eigen.S().column_vector().iter().map(|&v| v.max(0.0)).collect();
        Ok(Self { eigenvalues, basis, rotated })
    }

    /// The probe at one penalty; `design` is the one that was factored.
    ///
    /// # Errors
    /// [`Error::Parameter`] if alpha is not positive, or below [`ALPHA_FLOOR`] times the mean variance.
    pub fn solve(&self, design: &Design, alpha: f64) -> Result<Linear> {
        check_alpha(alpha)?;
        let floor = ALPHA_FLOOR * design.mean_variance();
        if alpha < floor * (1.0 - 1e-6) {
            return Err(Error::Parameter(format!(
                "alpha {alpha:e} is below {floor:e} (1e-5 of the mean feature variance), where float32 sums no \
                 longer determine the solution; use a larger alpha"
            )));
        }
        let shrunk = Mat::from_fn(self.rotated.nrows(), self.rotated.ncols(), |j, c| {
            self.rotated[(j, c)] / (self.eigenvalues[j] + alpha)
        });
        let weights = &self.basis * &shrunk;
        let (d, k) = (weights.nrows(), weights.ncols());
        let weights: Vec<f64> = (0..d * k).map(|i| weights[(i / k, i % k)]).collect();
        // an absent class has an all-zero target: weights 0, intercept 0
        Ok(Linear::from_present(design, &weights, &design.priors, 0.0))
    }
}
