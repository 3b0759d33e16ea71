//! Ridge probe: one symmetric eigendecomposition serves every penalty, a Cholesky factor one.

use faer::linalg::solvers::Solve;
use faer::{Mat, MatRef, Side};

use super::{Linear, check_alpha};
use crate::error::{Error, Result};
use crate::moments::Design;

/// Below this penalty, relative to the mean variance, rounding of float32 sums shows in the solution
/// (a rank-deficient Gram: coefficients 5 % off at 1e-5, useless at 1e-6; predictions 2e-5 and 6e-2).
pub const ALPHA_FLOOR: f64 = 1e-5;

/// Part of the penalty by which rounding of float32 sums may have moved eigenvalues below zero; an eigendecomposition
/// can put them back, a Cholesky factorization cannot.
const BELOW_ZERO: f64 = 0.1;

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
        let basis = eigen.U().to_owned();
        let rotated = basis.transpose() * &targets(design);
        let eigenvalues = eigen.S().column_vector().iter().map(|&v| v.max(0.0)).collect();
        Ok(Self { eigenvalues, basis, rotated })
    }

    /// The probe at one penalty; `design` is the one that was factored.
    ///
    /// # Errors
    /// [`Error::Parameter`] if alpha is not positive, or below [`ALPHA_FLOOR`] times the mean variance.
    pub fn solve(&self, design: &Design, alpha: f64) -> Result<Linear> {
        check_above_floor(design, alpha)?;
        let shrunk =
            Mat::from_fn(self.rotated.nrows(), self.rotated.ncols(), |j, c| self.shrunk(j, c, alpha));
        Ok(probe(design, (&self.basis * &shrunk).as_ref()))
    }

    fn shrunk(&self, j: usize, c: usize, alpha: f64) -> f64 {
        self.rotated[(j, c)] / (self.eigenvalues[j] + alpha)
    }

    /// Eigenvectors, `(d, d)` row-major, in float32.
    pub(super) fn basis(&self) -> Vec<f32> {
        let d = self.basis.nrows();
        (0..d * d).map(|i| self.basis[(i / d, i % d)] as f32).collect()
    }

    /// Weights at one penalty in the eigenbasis, `(d, k′)` row-major, in float32; errors as [`Self::solve`].
    pub(super) fn rotated(&self, design: &Design, alpha: f64) -> Result<Vec<f32>> {
        check_above_floor(design, alpha)?;
        let (d, k) = (self.rotated.nrows(), self.rotated.ncols());
        Ok((0..d * k).map(|i| self.shrunk(i / k, i % k, alpha) as f32).collect())
    }
}

/// The probe at one penalty, without an eigendecomposition, which costs ten times as much.
///
/// # Errors
/// Those of [`RidgeFactor::solve`].
pub fn solve_ridge(design: &Design, alpha: f64) -> Result<Linear> {
    check_above_floor(design, alpha)?;
    let d = design.n_features();
    let factor = |ridge: f64| {
        let ridged = |i: usize, j: usize| design.covariance[i + j * d] + if i == j { ridge } else { 0.0 };
        Mat::from_fn(d, d, ridged).llt(Side::Lower)
    };
    // the first exists if no eigenvalue is further below zero
    match (factor(BELOW_ZERO * alpha), factor(alpha)) {
        (Ok(_), Ok(factor)) => Ok(probe(design, factor.solve(&targets(design)).as_ref())),
        _ => RidgeFactor::new(design)?.solve(design, alpha),
    }
}

/// Least penalty of a ridge probe on this design: [`ALPHA_FLOOR`] times the mean variance.
pub fn alpha_floor(design: &Design) -> f64 {
    ALPHA_FLOOR * design.mean_variance()
}

fn check_above_floor(design: &Design, alpha: f64) -> Result<()> {
    check_alpha(alpha)?;
    let floor = alpha_floor(design);
    if alpha < floor * (1.0 - 1e-6) {
        return Err(Error::Parameter(format!(
            "alpha {alpha:e} is below {floor:e} (1e-5 of the mean feature variance), where float32 sums no \
             longer determine the solution; use a larger alpha"
        )));
    }
    Ok(())
}

/// `Xᵀ(Y − 1πᵀ)/n`, `(d, k′)`: features are centred, so column c is π_c μ_c.
fn targets(design: &Design) -> Mat<f64> {
    let d = design.n_features();
    Mat::from_fn(d, design.classes.len(), |j, c| design.priors[c] * design.means[c * d + j])
}

fn probe(design: &Design, weights: MatRef<'_, f64>) -> Linear {
    let (d, k) = (weights.nrows(), weights.ncols());
    let weights: Vec<f64> = (0..d * k).map(|i| weights[(i / k, i % k)]).collect();
    // an absent class has an all-zero target: weights 0, intercept 0
    Linear::from_present(design, &weights, &design.priors, 0.0)
}
