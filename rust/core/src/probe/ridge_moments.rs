//! From moments to ridge probes, in one call.

use std::sync::Arc;

use super::{Linear, RidgeFactor};
use crate::error::Result;
use crate::moments::Moments;
use crate::scaling::Scaling;

impl Moments {
    /// Ridge probes on the union of `cells`, one for each penalty, from one eigendecomposition and without
    /// another look at the rows.
    ///
    /// ```text
    /// min_W,b  (1/2n) ‖X W + 1bᵀ − Y‖² + (α/2) ‖W‖²        X scaled by those rows, b is not penalized
    /// ```
    ///
    /// # Errors
    /// Those of [`Moments::design`]; [`crate::Error::Parameter`] for a penalty that is not positive, or below
    /// [`crate::probe::alpha_floor`]; [`crate::Error::Numerical`] if the eigendecomposition fails.
    ///
    /// # Accuracy
    /// That of [`RidgeFactor::solve`].
    pub fn solve(&self, alphas: &[f64], cells: &[usize], scaling: Scaling) -> Result<Vec<Linear>> {
        let factor = RidgeFactor::new(Arc::new(self.design(cells, scaling)?))?;
        alphas.iter().map(|&alpha| factor.solve(alpha)).collect()
    }
}
