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
/// Size of residuals at worth · n / (d k) = 1: the gap that they make is then about 0.4 of `worth`. Twice as much ended
/// fits above their tolerance (docs/decisions/0015-sparse-residuals.md). And the largest near the minimum.
const SMALL: f64 = 0.4;
const LARGEST: f64 = 1.0 / 256.0;
/// Share of the gap before a step that may stand in place of the tolerance after it, and the largest size then: while much
/// is left to gain, coarser gradients lead as far (the same decision).
const FAR_SHARE: f64 = 0.1;
const LARGEST_FAR: f64 = 1.0 / 32.0;
/// Size at F = ln k from which rounding residuals alone pays, where factors are not rounded: below, most of them stay.
const PAYS: f32 = 1.0 / 512.0;

/// Size below which residuals may be rounded where F is `objective`, a fit may end `tolerance` above its minimum, and was
/// about `gap` above it before the step.
pub(super) fn small_residual(design: &Design, tolerance: f64, objective: f64, gap: f64) -> f32 {
    let near = size(design, tolerance.max(ROUNDED_TOL * objective)).min(LARGEST);
    let far = size(design, FAR_SHARE * gap).min(LARGEST_FAR);
    near.max(far) as f32
}

/// Size at which gradients are off by a gap of about 0.4 of `worth`.
///
/// A residual r that becomes 0 or ± s has a variance of up to |r| s, so that gradients of `d k` weights are off by a gap of
/// d k · s · share / 2n, where `share` is that of the curvature in such residuals, at most near 3.2 √s.
fn size(design: &Design, worth: f64) -> f64 {
    let weights = (design.n_features() * design.classes.len()) as f64;
    let size = SMALL * (worth * design.n as f64 / weights).powf(2.0 / 3.0);
    if size.is_finite() { size } else { 0.0 }
}

/// Whether rounding residuals alone pays.
pub(super) fn pays(design: &Design, tol: f64) -> bool {
    let objective = (design.classes.len() as f64).ln();
    small_residual(design, tol * objective, objective, 0.0) >= PAYS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_grow_with_tolerance_and_rows_and_stay_in_bounds() {
        let (few, many) = (Design::plain(1_000, 64, 50), Design::plain(100_000, 64, 50));
        let at = |design: &Design, tol: f64, objective: f64| {
            small_residual(design, tol * objective, objective, 0.0)
        };
        assert!(at(&few, 1e-3, 1.0) < at(&few, 1e-2, 1.0));
        assert!(at(&few, 1e-3, 1.0) < at(&many, 1e-3, 1.0));
        // 0.4 (1e-3 · 1 · 1000 / 3200)^(2/3)
        assert!((at(&few, 1e-3, 1.0) - 1.842e-3).abs() < 1e-6);
        assert_eq!(at(&few, 1e-15, 1.0), at(&few, ROUNDED_TOL, 1.0));
        assert_eq!(f64::from(at(&many, 10.0, 1.0)), LARGEST);
        for objective in [0.0, f64::NAN, f64::INFINITY, -1.0] {
            assert_eq!(at(&few, 1e-3, objective), 0.0);
        }
        // ten times the tolerance above the minimum, and far above it; what is no number counts as nothing
        assert_eq!(small_residual(&few, 1e-3, 1.0, 1e-2), at(&few, 1e-3, 1.0));
        assert_eq!(small_residual(&few, 1e-4, 1.0, 1e-2), at(&few, 1e-3, 1.0));
        assert_eq!(f64::from(small_residual(&many, 1e-3, 1.0, 1.0)), LARGEST_FAR);
        assert_eq!(small_residual(&few, 1e-3, 1.0, f64::NAN), at(&few, 1e-3, 1.0));
        assert!(pays(&many, 1e-3) && !pays(&Design::plain(500, 500, 100), 1e-3));
    }
}
