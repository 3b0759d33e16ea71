//! The scaling of features that every probe folds in.

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

impl Scaling {
    /// The factor of each feature; 0 for a dead one.
    pub(crate) fn factors(
        self,
        variance: &[f64],
        mean: impl Fn(usize) -> f64,
        width: impl Fn(usize) -> f64,
    ) -> Vec<f64> {
        let largest = variance.iter().copied().fold(0.0, f64::max);
        let factor = |(j, &v): (usize, &f64)| {
            // below these a variance is rounding noise of the features, and scaling it up would make
            // a column of pure leverage
            let dead = v <= 1e-12 * largest || v <= 1e-9 * mean(j) * mean(j);
            match self {
                _ if dead => 0.0,
                Self::None => 1.0,
                Self::Standardize => v.sqrt().recip(),
                Self::MinMax => 1.0 / width(j),
            }
        };
        variance.iter().enumerate().map(factor).collect()
    }
}

/// `x ↦ (x − shift) · scale`, feature by feature; a dead feature has scale 0.
#[derive(Debug, Clone, PartialEq)]
pub struct Affine {
    /// `(d)`
    pub shift: Vec<f32>,
    /// `(d)`
    pub scale: Vec<f32>,
}

impl Affine {
    /// Apply to staged rows, which start every `stride` values, in place.
    pub fn apply(&self, x: &mut [f32], stride: usize) {
        for row in x.chunks_mut(stride) {
            shift_and_scale(&mut row[..self.shift.len()], &self.shift, &self.scale);
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
fn shift_and_scale(row: &mut [f32], shift: &[f32], scale: &[f32]) {
    for ((v, &m), &s) in row.iter_mut().zip(shift).zip(scale) {
        *v = (*v - m) * s;
    }
}
