//! Upper bound on F(W, b) − min F from one evaluation, by a feasible dual point.
//!
//! The intercept is free, so a dual point Q needs the class shares as column means; the predictions have
//! them only at the optimal b. Mix them with a row t that repairs the means:
//!
//! ```text
//! Q′ = (1−ε) Q + ε 1tᵀ    t = π + (1−ε)/ε (π − q̄)    ε = max_c (1 − π_c/q̄_c)₊
//! F − min F ≤ F − (1−ε) mean H(qᵢ) − ε H(t) + (α/2) ‖V‖²
//! V = (XᵀY − (1−ε) XᵀQ − ε n x̄ tᵀ) / (nα)              (x̄ is next to 0: float32 rounds the shift)
//! ```
//!
//! by Fenchel's inequality and concavity of the entropy. First order in ε: bring b to its optimum first.

use super::space::{EvaluationIn, Space};
use crate::error::Result;

/// Share of the objective that the values of a float32 pass cannot resolve: no gap is said to be smaller.
pub(super) const RESOLUTION: f64 = 1.0 / (1 << 24) as f64;
/// What the gradient cannot resolve in nats, whatever the objective: its sums are whole numbers of 2⁻⁵⁰ of the largest there can
/// be, which enter times weights of some scores' size. It is more than a tolerance below an objective of 1e-8 or so, where all rows
/// are separated and a penalty is 1e-11 of the mean variance or less.
const GRAIN: f64 = 1.0 / (1_u64 << 48) as f64;

/// The bound at `point`, whose evaluation is given; ≥ the true gap up to float32 rounding of the pass. `priors` are π.
pub(super) fn gap_bound<S: Space>(
    space: &S,
    priors: &[f64],
    alpha: f64,
    point: &S::Vector,
    at: &EvaluationIn<S>,
) -> Result<f64> {
    let excess = &at.excess; // q̄ − π
    let epsilon =
        priors.iter().zip(excess).map(|(&p, &e)| if e > 0.0 { e / (p + e) } else { 0.0 }).fold(0.0, f64::max);
    let entropy_t = if epsilon > 0.0 {
        let ratio = (1.0 - epsilon) / epsilon;
        -priors
            .iter()
            .zip(excess)
            .map(|(&p, &e)| {
                let t = (p - ratio * e).max(0.0);
                if t > 0.0 { t * t.ln() } else { 0.0 }
            })
            .sum::<f64>()
    } else {
        0.0
    };
    let dual_square = space.dual_square(point, &at.gradient, excess, epsilon, alpha)?;
    let dual = (1.0 - epsilon) * at.entropy + epsilon * entropy_t - dual_square / (2.0 * alpha);
    Ok((at.objective - dual).max(RESOLUTION * at.objective).max(GRAIN))
}
