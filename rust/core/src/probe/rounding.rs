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
/// Size of residuals at tolerance · F · n / (d k) = 1, and the largest: the gap that they are worth is then about 0.4 of the
/// tolerance. Twice as much ended fits above it (docs/decisions/0015-sparse-residuals.md).
const SMALL: f64 = 0.4;
const LARGEST: f64 = 1.0 / 256.0;
/// Size at F = ln k from which rounding residuals alone pays, where factors are not rounded: below, most of them stay.
const PAYS: f32 = 1.0 / 512.0;

/// Size below which residuals may be rounded where F is `objective`.
///
/// A residual r that becomes 0 or ± s has a variance of up to |r| s, so that gradients of `d k` weights are off by a gap of
/// d k · s · share / 2n, where `share` is that of the curvature in such residuals, at most near 3.2 √s.
pub(super) fn small_residual(design: &Design, tol: f64, objective: f64) -> f32 {
    let weights = (design.n_features() * design.classes.len()) as f64;
    let small = SMALL * (tol.max(ROUNDED_TOL) * objective * design.n as f64 / weights).powf(2.0 / 3.0);
    if small.is_finite() { small.min(LARGEST) as f32 } else { 0.0 }
}

/// Whether rounding residuals alone pays.
pub(super) fn pays(design: &Design, tol: f64) -> bool {
    small_residual(design, tol, (design.classes.len() as f64).ln()) >= PAYS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moments::{Affine, Sums};

    fn design(n: usize, d: usize, k: usize) -> Design {
        Design {
            n,
            n_classes: k,
            affine: Affine { shift: vec![0.0; d], scale: vec![1.0; d] },
            classes: (0..k).collect(),
            priors: vec![1.0 / k as f64; k],
            means: Vec::new(),
            covariance: Vec::new(),
            offset: Vec::new(),
            sums: Sums::Float64,
        }
    }

    #[test]
    fn sizes_grow_with_tolerance_and_rows_and_stay_in_bounds() {
        let (few, many) = (design(1_000, 64, 50), design(100_000, 64, 50));
        assert!(small_residual(&few, 1e-3, 1.0) < small_residual(&few, 1e-2, 1.0));
        assert!(small_residual(&few, 1e-3, 1.0) < small_residual(&many, 1e-3, 1.0));
        // 0.4 (1e-3 · 1 · 1000 / 3200)^(2/3)
        assert!((small_residual(&few, 1e-3, 1.0) - 1.842e-3).abs() < 1e-6);
        assert_eq!(small_residual(&few, 1e-15, 1.0), small_residual(&few, ROUNDED_TOL, 1.0));
        assert_eq!(f64::from(small_residual(&many, 10.0, 1.0)), LARGEST);
        for objective in [0.0, f64::NAN, f64::INFINITY, -1.0] {
            assert_eq!(small_residual(&few, 1e-3, objective), 0.0);
        }
        assert!(pays(&many, 1e-3) && !pays(&design(500, 500, 100), 1e-3));
    }
}
