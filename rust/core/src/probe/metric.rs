//! A metric close to the Hessian, class by class, from one-pass statistics.
//!
//! The Hessian block of class c is the mean of p_c(1 − p_c) x xᵀ + αI. Rows of true class j are replaced by
//! their class model, within-class covariance S_w (shared) plus μ_j μ_jᵀ:
//!
//! ```text
//! P_c = m_c S_w + αI + Σ_{j in top J} h[j, c] μ_j μ_jᵀ + rest_c diag(S_b)        m_c = Σ_j h[j, c]
//! ```
//!
//! with h the curvature mass that a pass collects. In the eigenbasis of S_w the first terms are diagonal
//! and the rest is a rank-J update (Woodbury). The intercept is one more coordinate with eigenvalue 0,
//! mean 1 and no penalty.

use faer::linalg::solvers::Solve;
use faer::{Mat, MatRef, Side};

use crate::error::{Error, Result};
use crate::moments::Design;

/// Classes whose means enter a block exactly; the others enter through the diagonal of S_b.
const TOP: usize = 16;

/// What depends on the training rows only.
pub(super) struct Spectrum {
    /// Eigenvalues of S_w, `(d)`.
    eigenvalues: Vec<f64>,
    /// Eigenvectors, `(d, d)`.
    basis: Mat<f64>,
    /// Class means in the eigenbasis, `(d, k′)`.
    means: Mat<f64>,
    /// Diagonal of the between-class covariance in the eigenbasis, `(d)`.
    between: Vec<f64>,
}

impl Spectrum {
    pub fn new(design: &Design) -> Result<Self> {
        let (d, k) = (design.n_features(), design.classes.len());
        let mu = MatRef::from_row_major_slice(&design.means, k, d);
        let weighted = Mat::from_fn(k, d, |c, j| design.priors[c] * mu[(c, j)]);
        let total = MatRef::from_row_major_slice(&design.covariance, d, d);
        let within = total - mu.transpose() * &weighted;
        let eigen = within.self_adjoint_eigen(Side::Lower).map_err(|_| {
            Error::Numerical("eigendecomposition of the within-class covariance failed".into())
        })?;
        let basis = eigen.U().to_owned();
        let means = basis.transpose() * mu.transpose();
        let between =
            (0..d).map(|j| (0..k).map(|c| design.priors[c] * means[(j, c)] * means[(j, c)]).sum()).collect();
        let eigenvalues = eigen.S().column_vector().iter().map(|&v| v.max(0.0)).collect();
        Ok(Self { eigenvalues, basis, means, between })
    }

    /// Linear discriminant with a ridge of a tenth of the mean variance, as parameters `(d + 1, k′)`: a
    /// starting direction whose scale is still to be found.
    pub fn discriminant(&self, design: &Design) -> Vec<f64> {
        let (d, k) = (self.eigenvalues.len(), self.means.ncols());
        let ridge = 0.1 * design.mean_variance().max(f64::MIN_POSITIVE);
        let rotated = Mat::from_fn(d, k, |j, c| self.means[(j, c)] / (self.eigenvalues[j] + ridge));
        let weights = &self.basis * &rotated;
        let mut point = vec![0.0; (d + 1) * k];
        for c in 0..k {
            let half: f64 = (0..d).map(|j| 0.5 * self.means[(j, c)] * rotated[(j, c)]).sum();
            for j in 0..d {
                point[j * k + c] = weights[(j, c)];
            }
            point[d * k + c] = design.priors[c].ln() - half;
        }
        point
    }
}

/// The metric for one curvature mass; applies P⁻¹.
pub(super) struct Metric<'a> {
    spectrum: &'a Spectrum,
    blocks: Vec<Block>,
}

struct Block {
    /// Inverse of the diagonal part in the eigenbasis, intercept last, `(d + 1)`.
    inverse: Vec<f64>,
    /// Classes of the rank-one terms with the square roots of their masses.
    top: Vec<(usize, f64)>,
    /// Inverse of I + Mᵀ D⁻¹ M, `(J, J)`.
    core: Mat<f64>,
}

impl<'a> Metric<'a> {
    /// `curvature` as in [`super::pass::Evaluation`].
    pub fn new(spectrum: &'a Spectrum, curvature: &[f64], alpha: f64) -> Self {
        let (d, k) = (spectrum.eigenvalues.len(), spectrum.means.ncols());
        let blocks = (0..k)
            .map(|c| {
                let mut order: Vec<(usize, f64)> = (0..k).map(|j| (j, curvature[j * k + c])).collect();
                order.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
                let mass: f64 = order.iter().map(|&(_, h)| h).sum::<f64>().max(1e-12);
                let rest: f64 = order.iter().skip(TOP).map(|&(_, h)| h).sum();
                order.truncate(TOP);
                let mut inverse: Vec<f64> = (0..d)
                    .map(|j| {
                        1.0 / (mass * spectrum.eigenvalues[j] + rest * spectrum.between[j] + alpha)
                            .max(1e-300)
                    })
                    .collect();
                // the intercept has no diagonal of its own; a hundredth of its mass keeps the update regular
                inverse.push(1.0 / rest.max(0.01 * mass));
                let top: Vec<(usize, f64)> =
                    order.iter().filter(|&&(_, h)| h > 1e-6 * mass).map(|&(j, h)| (j, h.sqrt())).collect();
                let gram = Mat::from_fn(top.len(), top.len(), |a, b| {
                    let ((ja, ra), (jb, rb)) = (top[a], top[b]);
                    let dot: f64 =
                        (0..d).map(|j| spectrum.means[(j, ja)] * inverse[j] * spectrum.means[(j, jb)]).sum();
                    ra * rb * (dot + inverse[d]) + f64::from(u8::from(a == b))
                });
                let core = match gram.llt(Side::Lower) {
                    Ok(factor) => factor.solve(Mat::<f64>::identity(top.len(), top.len())),
                    // not reached in exact arithmetic; without its rank-one terms the metric is still one
                    Err(_) => Mat::zeros(top.len(), top.len()),
                };
                Block { inverse, top, core }
            })
            .collect();
        Self { spectrum, blocks }
    }

    /// P⁻¹ v for a vector `(d + 1, k′)`.
    pub fn solve(&self, v: &[f64]) -> Vec<f64> {
        let (d, k) = (self.spectrum.eigenvalues.len(), self.spectrum.means.ncols());
        let mut rotated = self.spectrum.basis.transpose() * MatRef::from_row_major_slice(&v[..d * k], d, k);
        let mut out = vec![0.0; (d + 1) * k];
        for (c, block) in self.blocks.iter().enumerate() {
            let means = &self.spectrum.means;
            let mut u: Vec<f64> = (0..d).map(|j| rotated[(j, c)] * block.inverse[j]).collect();
            let mut intercept = v[d * k + c] * block.inverse[d];
            let projected: Vec<f64> = block
                .top
                .iter()
                .map(|&(j, root)| root * ((0..d).map(|i| means[(i, j)] * u[i]).sum::<f64>() + intercept))
                .collect();
            for (a, &(j, root)) in block.top.iter().enumerate() {
                let t: f64 =
                    root * (0..projected.len()).map(|b| block.core[(a, b)] * projected[b]).sum::<f64>();
                for (i, u) in u.iter_mut().enumerate() {
                    *u -= t * means[(i, j)] * block.inverse[i];
                }
                intercept -= t * block.inverse[d];
            }
            for (j, u) in u.into_iter().enumerate() {
                rotated[(j, c)] = u;
            }
            out[d * k + c] = intercept;
        }
        let weights = &self.spectrum.basis * &rotated;
        for j in 0..d {
            for c in 0..k {
                out[j * k + c] = weights[(j, c)];
            }
        }
        out
    }
}
