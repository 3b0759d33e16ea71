//! What a pass may round without taking more than a part of the tolerance.

use crate::moments::Design;

/// What an evaluation may round.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rounding {
    /// Nothing: what decides.
    Exact,
    /// Factors where that is faster; residuals below a size, by chance, to 0 or that size
    /// ([`crate::kernel::SparseProduct`]).
    Rounded {
        /// That size; 0 for none.
        small: f32,
    },
}

/// Tolerance that rounded passes are good for at best: on standardized features gradients in bfloat16 stall at
/// 2e-5 of the objective or above.
pub(super) const ROUNDED_TOL: f64 = 1e-4;
/// Size of residuals at tolerance · F · n / (d k) = 1, and the largest. Twice as much cost passes on three banks, half as much
/// saved none (docs/decisions/0015-sparse-residuals.md).
const SMALL: f64 = 0.4;
const LARGEST: f64 = 1.0 / 256.0;
/// Size at F = ln k from which rounding residuals alone pays, where factors are not rounded: below, most of them stay.
const PAYS: f32 = 1.0 / 512.0;

/// Size below which residuals may be rounded where F is `objective`.
///
/// A residual r that becomes 0 or ± s has the variance |r| s, so that gradients of `d k` weights are off by a gap of
/// d k · s · share / 2n, where `share` is that of the curvature in such residuals. It goes with the root of s; the
/// gap is to be a part of the tolerance.
pub(super) fn small_residual(design: &Design, tol: f64, objective: f64) -> f32 {
    let weights = (design.n_features() * design.classes.len()) as f64;
    let small = SMALL * (tol.max(ROUNDED_TOL) * objective * design.n as f64 / weights).powf(2.0 / 3.0);
    if small.is_finite() { small.min(LARGEST) as f32 } else { 0.0 }
}

/// Whether rounding residuals alone pays.
pub(super) fn pays(design: &Design, tol: f64) -> bool {
    small_residual(design, tol, (design.classes.len() as f64).ln()) >= PAYS
}
