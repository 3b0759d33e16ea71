//! Ridge probe: one symmetric eigendecomposition serves every penalty, a Cholesky factor one.

use std::sync::Arc;

use faer::linalg::solvers::Solve;
use faer::{Mat, MatRef, Side};

use super::{Linear, check_alpha};
use crate::error::{Error, Result};
use crate::moments::Design;

/// Part of the penalty by which rounding of sums may have moved eigenvalues below zero; an eigendecomposition can put
/// them back, a Cholesky factorization cannot.
const BELOW_ZERO: f64 = 0.1;
/// By how much a penalty may be below the floor: penalties computed as multiples of a mean variance round.
const FLOOR_SLACK: f64 = 1e-6;

/// A design with the eigendecomposition of its covariance and the rotated targets.
pub struct RidgeFactor {
    design: Arc<Design>,
    /// Eigenvalues clipped at zero, `(d)`.
    eigenvalues: Vec<f64>,
    /// Eigenvectors, `(d, d)`.
    basis: Mat<f64>,
    /// `Uᵀ Xᵀ(Y − 1πᵀ)/n`, `(d, k′)`.
    rotated: Mat<f64>,
    /// `Uᵀ` times the design's offset, `(d)`.
    offset: Vec<f64>,
}

impl RidgeFactor {
    /// Factor once, solve for many penalties.
    ///
    /// # Errors
    /// [`Error::Numerical`] if the eigendecomposition does not converge.
    pub fn new(design: Arc<Design>) -> Result<Self> {
        let d = design.n_features();
        let covariance = MatRef::from_row_major_slice(&design.covariance, d, d);
        let eigen = covariance
            .self_adjoint_eigen(Side::Lower)
            .map_err(|_| Error::Numerical("eigendecomposition of the covariance failed".into()))?;
        let basis = eigen.U().to_owned();
        let rotated = basis.transpose() * &targets(&design);
        let eigenvalues = eigen.S().column_vector().iter().map(|&v| v.max(0.0)).collect();
        let offset = basis.transpose() * MatRef::from_column_major_slice(&design.offset, d, 1);
        let offset = (0..d).map(|j| offset[(j, 0)]).collect();
        Ok(Self { design, eigenvalues, basis, rotated, offset })
    }

    /// What was factored.
    pub fn design(&self) -> &Design {
        &self.design
    }

    /// The probe at one penalty.
    ///
    /// # Errors
    /// [`Error::Parameter`] if alpha is not positive, or below [`alpha_floor`].
    ///
    /// # Accuracy
    /// Scores on targets of 0 and 1. Sums in float64: within 1e-5 of a float64 solution's from 1e-5 of the mean
    /// variance on, where float32 weights and scores are what is left (below, 1e-8 over the square root of the
    /// relative penalty). Sums in float32 are off by 1e-7 to 1e-6 of the largest eigenvalue, and small eigenvalues
    /// with them: within 1e-5 on features whose correlations are moderate; where one factor explains 99 % of the
    /// variance 5e-5, 99.99 % or a spectrum that falls as 1/j⁴ up to 6e-3 at the least penalty and 2e-3 at ten times
    /// it (4,000 rows; errors fall as one over the square root of the rows).
    pub fn solve(&self, alpha: f64) -> Result<Linear> {
        check_above_floor(&self.design, alpha)?;
        Ok(probe(&self.design, self.weights(alpha).as_ref()))
    }

    /// `(d, k′)`
    fn weights(&self, alpha: f64) -> Mat<f64> {
        let (d, k) = (self.rotated.nrows(), self.rotated.ncols());
        &self.basis * Mat::from_fn(d, k, |j, c| self.shrunk(j, c, alpha))
    }

    fn shrunk(&self, j: usize, c: usize, alpha: f64) -> f64 {
        self.rotated[(j, c)] / (self.eigenvalues[j] + alpha)
    }

    /// Eigenvectors, `(d, d)` row-major, in float32.
    pub(super) fn basis(&self) -> Vec<f32> {
        let d = self.basis.nrows();
        (0..d * d).map(|i| self.basis[(i / d, i % d)] as f32).collect()
    }

    /// The probe at one penalty in the eigenbasis: weights `(d, k′)` row-major and intercept `(k′)`, in float32;
    /// errors as [`Self::solve`].
    pub(super) fn rotated(&self, alpha: f64) -> Result<(Vec<f32>, Vec<f32>)> {
        check_above_floor(&self.design, alpha)?;
        let (d, k) = (self.rotated.nrows(), self.rotated.ncols());
        let weights: Vec<f64> = (0..d * k).map(|i| self.shrunk(i / k, i % k, alpha)).collect();
        let intercept = centred_intercept(&self.design.priors, &weights, &self.offset);
        let intercept = intercept.iter().map(|&b| b as f32).collect();
        Ok((weights.iter().map(|&w| w as f32).collect(), intercept))
    }
}

/// The probe at one penalty, without an eigendecomposition, which costs ten times as much; `None` where rounding of the
/// covariance asks for one.
///
/// # Errors
/// Those of [`RidgeFactor::solve`].
pub fn solve_ridge(design: &Design, alpha: f64) -> Result<Option<Linear>> {
    check_above_floor(design, alpha)?;
    if !is_positive(design, BELOW_ZERO * alpha) {
        return Ok(None);
    }
    Ok(solve_by_factor(design, alpha, &targets(design)).map(|weights| probe(design, weights.as_ref())))
}

/// Weights `(d, k′)` row-major and intercept `(k′)` of the probe at each penalty, in float32, without an
/// eigendecomposition if the covariance allows it.
///
/// # Errors
/// Those of [`RidgeFactor::solve`].
pub(super) fn solve_ridges(design: &Arc<Design>, alphas: &[f64]) -> Result<Vec<(Vec<f32>, Vec<f32>)>> {
    alphas.iter().try_for_each(|&alpha| check_above_floor(design, alpha))?;
    let targets = targets(design);
    // what is positive definite stays so under more penalty
    let sound = is_positive(design, BELOW_ZERO * alphas.iter().copied().fold(f64::INFINITY, f64::min));
    let mut factor = None;
    alphas
        .iter()
        .map(|&alpha| {
            let solved = if sound { solve_by_factor(design, alpha, &targets) } else { None };
            let linear = match solved {
                Some(weights) => return Ok(narrow(design, weights.as_ref())),
                None if factor.is_some() => factor.as_ref(),
                None => {
                    factor = Some(RidgeFactor::new(design.clone())?);
                    factor.as_ref()
                }
            };
            let factor = linear.expect("just made");
            Ok(narrow(design, factor.weights(alpha).as_ref()))
        })
        .collect()
}

/// Whether no eigenvalue of the covariance is as far below zero.
fn is_positive(design: &Design, below: f64) -> bool {
    ridged(design, below).llt(Side::Lower).is_ok()
}

/// `(C + αI)⁻¹` times the targets, if a Cholesky factor exists.
fn solve_by_factor(design: &Design, alpha: f64, targets: &Mat<f64>) -> Option<Mat<f64>> {
    Some(ridged(design, alpha).llt(Side::Lower).ok()?.solve(targets))
}

fn ridged(design: &Design, ridge: f64) -> Mat<f64> {
    let d = design.n_features();
    let mut ridged = MatRef::from_column_major_slice(&design.covariance, d, d).to_owned(); // symmetric
    (0..d).for_each(|i| ridged[(i, i)] += ridge);
    ridged
}

/// Weights and intercept as float32 has them.
fn narrow(design: &Design, weights: MatRef<'_, f64>) -> (Vec<f32>, Vec<f32>) {
    let weights = kept(design, weights);
    let intercept = centred_intercept(&design.priors, &weights, &design.offset);
    let narrow = |values: &[f64]| values.iter().map(|&v| v as f32).collect();
    (narrow(&weights), narrow(&intercept))
}

/// Least penalty of a ridge probe on this design: [`crate::moments::Sums::relative_floor`] times the mean variance.
pub fn alpha_floor(design: &Design) -> f64 {
    design.sums.relative_floor() * design.mean_variance()
}

pub(super) fn check_above_floor(design: &Design, alpha: f64) -> Result<()> {
    check_alpha(alpha)?;
    let floor = alpha_floor(design);
    if alpha < floor * (1.0 - FLOOR_SLACK) {
        let sums = design.sums;
        return Err(Error::Parameter(format!(
            "alpha {alpha:e} is below {:e} of the mean variance of the features, where sums in {} no longer determine \
             the solution; use at least {floor:e}",
            sums.relative_floor(),
            sums.name()
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
    let weights = kept(design, weights);
    let intercept = centred_intercept(&design.priors, &weights, &design.offset);
    // an absent class has an all-zero target: weights 0, intercept 0
    Linear::from_present(design, &weights, &intercept, 0.0)
}

/// Weights `(d, k′)` row-major; a constant feature has no part in the covariance but for the rounding of a basis.
fn kept(design: &Design, weights: MatRef<'_, f64>) -> Vec<f64> {
    let mut rows = Vec::with_capacity(weights.nrows() * weights.ncols());
    for (j, row) in weights.row_iter().enumerate() {
        let kept = design.affine.scale[j] != 0.0;
        rows.extend(row.iter().map(|&w| if kept { w } else { 0.0 }));
    }
    rows
}

/// `π − offsetᵀ W`: the intercept π of centred rows, for rows whose mean lies at `offset` `(d)`; weights `(d, k′)`.
pub(super) fn centred_intercept(priors: &[f64], weights: &[f64], offset: &[f64]) -> Vec<f64> {
    let mut intercept = priors.to_vec();
    for (row, &offset) in weights.chunks_exact(priors.len()).zip(offset) {
        for (b, w) in intercept.iter_mut().zip(row) {
            *b -= offset * w;
        }
    }
    intercept
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two features with these covariances; class means ±(1, ½) of two classes.
    fn design(covariance: [f64; 4]) -> Arc<Design> {
        let plain = Design::plain(1000, 2, 2);
        Arc::new(Design { covariance: covariance.into(), means: vec![1.0, 0.5, -1.0, -0.5], ..plain })
    }

    #[test]
    fn a_penalty_that_rounds_to_just_below_the_floor_is_at_it() {
        let design = design([1.0, 0.0, 0.0, 1.0]);
        let floor = alpha_floor(&design);
        assert!(check_above_floor(&design, floor * (1.0 - 1e-9)).is_ok());
        assert!(check_above_floor(&design, floor * 0.99).is_err());
    }

    #[test]
    fn a_variance_that_rounding_moved_below_zero_counts_as_zero() {
        let (design, alpha) = (design([1.0, 0.0, 0.0, -0.5e-3]), 1e-3);
        assert!(solve_ridge(&design, alpha).unwrap().is_none());
        let factor = RidgeFactor::new(design.clone()).unwrap();
        let weights = factor.weights(alpha);
        let targets = targets(&design);
        assert!((weights[(1, 0)] - targets[(1, 0)] / alpha).abs() < 1e-9 * weights[(1, 0)].abs());
        // of several penalties the least decides whether a Cholesky factor will do
        let solved = solve_ridges(&design, &[alpha, 1.0]).unwrap();
        assert_eq!(solved[0], narrow(&design, weights.as_ref()));
    }

    #[test]
    fn a_constant_feature_has_no_weight_whatever_rounding_left_of_it() {
        let mut design = Arc::into_inner(design([1.0, 1e-3, 1e-3, 1e-3])).expect("the only one");
        design.affine.scale[1] = 0.0;
        let solved = solve_ridges(&Arc::new(design), &[0.1]).unwrap();
        assert!(solved[0].0[..2].iter().all(|&w| w != 0.0) && solved[0].0[2..].iter().all(|&w| w == 0.0));
    }

    #[test]
    fn the_intercept_of_rows_about_an_offset_takes_it_away() {
        let intercept = centred_intercept(&[0.3, 0.7], &[1.0, 2.0, 0.0, 4.0], &[0.5, 0.25]);
        assert!((intercept[0] + 0.2).abs() < 1e-12 && (intercept[1] + 1.3).abs() < 1e-12);
    }
}
