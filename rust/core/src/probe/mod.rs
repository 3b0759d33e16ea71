//! Linear probes with L2: ridge in closed form, multinomial logistic with a certificate.
//!
//! One convention everywhere, `X` in the design's scaled coordinates and `b` never penalized:
//!
//! ```text
//! ridge     F(W, b) = (1/2n) ‖X W + 1bᵀ − Y‖² + (α/2) ‖W‖²
//! logistic  F(W, b) = (1/n) Σ −log softmax(xᵢW + b)[yᵢ] + (α/2) ‖W‖²
//! ```

mod certificate;
mod descent;
mod host;
mod intercept;
mod lbfgs;
mod logistic;
mod metric;
mod pass;
#[cfg(test)]
mod pass_tests;
mod ridge;
mod ridge_dual;
mod ridge_errors;
mod ridge_moments;
mod ridge_race;
mod rounding;
mod row_metric;
mod settings;
mod space;
mod start;
mod stop;
mod sums;
mod vectors;

pub use lbfgs::Memory as HostMemory;
pub use logistic::{Fit, fit_in, fit_logistic};
pub use metric::ClassModel;
pub use ridge::{RidgeFactor, alpha_floor, solve_ridge};
pub use ridge_dual::solve_ridge_dual;
pub use ridge_errors::ridge_errors;
pub use ridge_race::RidgeRace;
pub use rounding::Rounding;
pub use settings::LogisticSettings;
pub use space::{Collect, Evaluation, EvaluationIn, HEAVIEST, Space};
pub use start::{Continuation, Start};
pub use stop::Stop;

use crate::error::{Error, Result};
use crate::kernel::all_finite;
use crate::moments::Design;
use crate::scaling::Affine;

/// A score given to classes without training rows, so that they are never predicted.
pub const ABSENT_SCORE: f64 = -1e4;

/// A linear probe: scores `((x − shift) · scale) W + b`.
#[derive(Debug, Clone, PartialEq)]
pub struct Linear {
    /// From raw features to the coordinates of `weights`.
    pub affine: Affine,
    /// `(d, k)`, row-major.
    pub weights: Vec<f64>,
    /// `(k)`.
    pub intercept: Vec<f64>,
}

impl Linear {
    /// Number of classes.
    pub fn n_classes(&self) -> usize {
        self.intercept.len()
    }

    /// From the present classes of a design `(d, k′)` to all classes of the task.
    fn from_present(design: &Design, weights: &[f64], intercept: &[f64], absent: f64) -> Self {
        Self::of_classes(design.affine.clone(), &design.classes, design.n_classes, weights, intercept, absent)
    }

    /// From the weights `(d, k′)` of some classes to all `k`.
    fn of_classes(
        affine: Affine,
        classes: &[usize],
        k: usize,
        weights: &[f64],
        intercept: &[f64],
        absent: f64,
    ) -> Self {
        let (d, present) = (affine.shift.len(), classes.len());
        let mut all = Self { affine, weights: vec![0.0; d * k], intercept: vec![absent; k] };
        for (c, &class) in classes.iter().enumerate() {
            all.intercept[class] = intercept[c];
            for j in 0..d {
                all.weights[j * k + class] = weights[j * present + c];
            }
        }
        all
    }

    /// The same scores in another design's coordinates and present classes, as parameters `(d + 1, k′)`: a warm
    /// start.
    ///
    /// # Errors
    /// [`Error::Shape`] if features or classes differ in number.
    fn for_design(&self, design: &Design) -> Result<Vec<f64>> {
        let (d, k, present) = (design.n_features(), design.n_classes, design.classes.len());
        if self.weights.len() != d * k || self.n_classes() != k {
            return Err(Error::Shape {
                what: "number of weights of the starting probe",
                got: self.weights.len(),
                expected: d * k,
            });
        }
        let mut weights = vec![0.0; d * present];
        let mut intercept: Vec<f64> = design.classes.iter().map(|&c| self.intercept[c].max(-30.0)).collect();
        for j in 0..d {
            let here = f64::from(design.affine.scale[j]);
            if here == 0.0 {
                continue;
            }
            let there = f64::from(self.affine.scale[j]);
            let moved = f64::from(design.affine.shift[j]) - f64::from(self.affine.shift[j]);
            for (c, &class) in design.classes.iter().enumerate() {
                let raw = self.weights[j * k + class] * there;
                weights[j * present + c] = raw / here;
                intercept[c] += raw * moved;
            }
        }
        weights.extend(intercept);
        Ok(weights)
    }

    /// `(weights (d, k), intercept (k))` on raw features.
    pub fn raw(&self) -> (Vec<f64>, Vec<f64>) {
        let k = self.n_classes();
        let mut weights = self.weights.clone();
        let mut intercept = self.intercept.clone();
        for (j, row) in weights.chunks_exact_mut(k).enumerate() {
            let (shift, scale) = (f64::from(self.affine.shift[j]), f64::from(self.affine.scale[j]));
            for (w, b) in row.iter_mut().zip(&mut intercept) {
                *w *= scale;
                *b -= shift * *w;
            }
        }
        (weights, intercept)
    }
}

/// Penalties must be positive and finite.
pub(crate) fn check_alpha(alpha: f64) -> Result<()> {
    if alpha.is_finite() && alpha > 0.0 {
        return Ok(());
    }
    Err(Error::Parameter(format!("alpha must be positive and finite, got {alpha}")))
}

/// [`Error::Numerical`] if the scores `(k)` of a row are not finite: they could not be compared.
pub(crate) fn check_scores(row: u32, scores: &[f32]) -> Result<()> {
    if all_finite(scores) {
        return Ok(());
    }
    Err(Error::Numerical(format!(
        "scores of row {row} are not finite: its features or the probe's weights are too large"
    )))
}
