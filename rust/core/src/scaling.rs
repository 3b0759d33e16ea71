//! The scaling of features that every probe folds in.
//!
//! A feature is *constant* where its variance is no more than rounding gives: that of the sums it was computed
//! from, or one float32 step at its magnitude. Other features have no say in it: what is small beside them, or
//! small beside its own mean, still varies. Scaling a constant feature up would make a column of pure leverage.

use multiversion::multiversion;

/// How a probe scales its features, from its own training rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scaling {
    /// Centre only (the intercept absorbs it).
    #[default]
    None,
    /// Unit variance.
    Standardize,
    /// Unit range, as in the paper's few-shot probes.
    MinMax,
}

/// What is known of the values of one feature.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spread {
    pub mean: f64,
    pub variance: f64,
    /// Largest less least value.
    pub width: f64,
    /// Variance that rounding of the sums behind `variance` may have made.
    pub noise: f64,
}

impl Spread {
    /// See the module's documentation. A float32 step at x is at most 2^-23 |x|.
    fn is_constant(&self) -> bool {
        let step = f64::from(f32::EPSILON) * self.mean;
        self.variance <= self.noise.max(step * step)
    }
}

impl Scaling {
    /// The factor of a feature as float32 holds it; 0 for a constant one, and for one whose factor float32 cannot
    /// hold.
    pub(crate) fn factor(self, feature: &Spread) -> f32 {
        if feature.is_constant() {
            return 0.0;
        }
        let factor = match self {
            Self::None => 1.0,
            Self::Standardize => feature.variance.sqrt().recip(),
            Self::MinMax => feature.width.recip(),
        } as f32;
        if factor.is_normal() { factor } else { 0.0 }
    }
}

/// `x ↦ (x − shift) · scale`, feature by feature; a constant feature has scale 0.
#[derive(Debug, Clone, PartialEq)]
pub struct Affine {
    /// `(d)`
    pub shift: Vec<f32>,
    /// `(d)`
    pub scale: Vec<f32>,
}

impl Affine {
    /// The coordinates of features of these means and scales, and where the means lie in them, `(d)`: not quite at
    /// 0, since float32 rounds the shift (6e-4 standard deviations at a mean of 1e4 of them).
    pub(crate) fn centred(mean: impl Iterator<Item = f64>, scale: Vec<f32>) -> (Self, Vec<f64>) {
        let (shift, offset) = mean
            .zip(&scale)
            .map(|(mean, &scale)| {
                let shift = mean as f32;
                (shift, (mean - f64::from(shift)) * f64::from(scale))
            })
            .unzip();
        (Self { shift, scale }, offset)
    }

    /// Features that are constant on the rows that gave the scale, ascending.
    pub fn constant(&self) -> Vec<u32> {
        (0_u32..).zip(&self.scale).filter(|&(_, &scale)| scale == 0.0).map(|(j, _)| j).collect()
    }

    /// Apply to staged rows, which start every `stride` values, in place.
    pub fn apply(&self, x: &mut [f32], stride: usize) {
        for row in x.chunks_mut(stride) {
            shift_and_scale(&mut row[..self.shift.len()], &self.shift, &self.scale);
        }
    }
}

/// Mean over the features that vary of `variance`, which is that of the scaled features, `(d)`: what penalties are
/// measured in. 0 if all are constant, else positive.
pub(crate) fn mean_variance(variance: impl Iterator<Item = f64>, scale: &[f32]) -> f64 {
    let kept = scale.iter().filter(|&&scale| scale != 0.0).count();
    variance.zip(scale).filter(|&(_, &scale)| scale != 0.0).map(|(v, _)| v).sum::<f64>() / kept.max(1) as f64
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
fn shift_and_scale(row: &mut [f32], shift: &[f32], scale: &[f32]) {
    for ((v, &m), &s) in row.iter_mut().zip(shift).zip(scale) {
        *v = (*v - m) * s;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feature_is_constant_by_its_own_rounding_only() {
        let spread = |mean, variance, noise| Spread { mean, variance, width: 1.0, noise };
        for (feature, constant) in [
            (spread(0.0, 0.0, 0.0), true),
            (spread(0.0, 1e-60, 0.0), false),
            (spread(5e4, 1.0, 0.1), false),
            (spread(5e4, 1.0, 1.0), true),
            // float32 steps of 2^-10 at 8192
            (spread(8192.0, 2.0_f64.powi(-20), 0.0), true),
            (spread(-8192.0, 4.1 * 2.0_f64.powi(-20), 0.0), false),
        ] {
            assert_eq!(Scaling::None.factor(&feature) == 0.0, constant, "{feature:?}");
            assert_eq!(Scaling::Standardize.factor(&feature) == 0.0, constant, "{feature:?}");
        }
    }

    #[test]
    fn a_factor_that_float32_cannot_hold_is_none() {
        let spread = |sd: f64| Spread { mean: 0.0, variance: sd * sd, width: sd, noise: 0.0 };
        for scaling in [Scaling::Standardize, Scaling::MinMax] {
            for (sd, held) in [(1e-42, false), (1e-37, true), (1e37, true), (3e38, false)] {
                assert_eq!(scaling.factor(&spread(sd)) != 0.0, held, "{scaling:?} {sd}");
            }
        }
    }

    #[test]
    fn the_mean_variance_is_that_of_features_that_vary() {
        assert_eq!(mean_variance([1.0, 0.0, 3.0].into_iter(), &[1.0, 0.0, 1.0]), 2.0);
        assert_eq!(mean_variance([0.0].into_iter(), &[0.0]), 0.0);
    }
}
