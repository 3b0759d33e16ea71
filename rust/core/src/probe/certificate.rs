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

use super::pass::{Evaluation, Problem};

/// Features gone over at a time: a cache line of means, which lie by class, and that many rows of the gradient.
const FEATURES: usize = 8;

/// Share of the objective that the values of a float32 pass cannot resolve: no gap is said to be smaller.
pub(super) const RESOLUTION: f64 = 1.0 / (1 << 24) as f64;

/// The bound at `point`, whose evaluation is given; ≥ the true gap up to float32 rounding of the pass.
pub(super) fn gap_bound(problem: &Problem<'_>, point: &[f64], at: &Evaluation) -> f64 {
    let (d, k) = (problem.design.n_features(), problem.n_classes());
    let (priors, means, offset) = (&problem.design.priors, &problem.design.means, &problem.design.offset);
    let excess = &at.gradient[d * k..]; // q̄ − π
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
    let mut dual_norm = 0.0;
    for first in (0..d).step_by(FEATURES) {
        for c in 0..k {
            for j in first..(first + FEATURES).min(d) {
                let i = j * k + c;
                // (XᵀQ − XᵀY)/n = g − αW; ε (π − t) = (1−ε) (q̄ − π), which meets the rows' mean
                let v = epsilon * priors[c] * means[c * d + j] + (1.0 - epsilon) * offset[j] * excess[c]
                    - (1.0 - epsilon) * (at.gradient[i] - problem.alpha * point[i]);
                dual_norm += v * v;
            }
        }
    }
    let dual = (1.0 - epsilon) * at.entropy + epsilon * entropy_t - dual_norm / (2.0 * problem.alpha);
    (at.objective - dual).max(RESOLUTION * at.objective)
}
