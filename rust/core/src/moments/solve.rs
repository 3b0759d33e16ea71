//! From moments to ridge probes, in one call.

use super::{Moments, Scaling};
use crate::error::Result;
use crate::probe::{Linear, RidgeFactor};

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
    /// 1e-5 of the mean variance; [`crate::Error::Numerical`] if the eigendecomposition fails.
    ///
    /// # Accuracy
    /// The objective within 1e-6 of a float64 solution's at every penalty accepted (1e-9 of the objective without
    /// weights, where d > n makes the optimum itself vanish); scores within 1e-5 from ten times the least
    /// penalty on, within 1e-4 at the least one.
    pub fn solve(&self, alphas: &[f64], cells: &[usize], scaling: Scaling) -> Result<Vec<Linear>> {
        let design = self.design(cells, scaling)?;
        let factor = RidgeFactor::new(&design)?;
        alphas.iter().map(|&alpha| factor.solve(&design, alpha)).collect()
    }
}
