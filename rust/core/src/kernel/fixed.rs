//! Scores in whole numbers, for passes that round on CPUs that multiply those faster than float32.
//!
//! ```text
//! z[i, c] = b[c] + u_i v_c Σ_j round(x[i, j] / (s_j u_i)) · round(w[j, c] s_j / v_c)
//! ```
//!
//! s_j is the deviation of feature j; u_i and v_c make the largest value of a row and of a class [`FIXED_LARGEST`], so that
//! none is cut off. A value is off by half a unit at most: by less than bfloat16 takes from the largest of its row or class,
//! by more than it takes from values that are 1/16 of that or less (docs/decisions/0018-fixed-point-scores.md).

use multiversion::multiversion;

use super::layout::FIXED_LARGEST;
use super::panels::{Panels, RowBuffer, Rows, fixed_of};
use super::product::{Work, forward_by, padded};
use super::tile::{Kernel, Precision};

/// Weights `(d, k)` for scores in whole numbers.
pub struct FixedScores {
    kernel: &'static Kernel,
    /// 1/s, `(d)`.
    inverse: Vec<f32>,
    weights: Panels,
    /// v, `(k)`.
    units: Vec<f32>,
}

/// Memory for the rows of a block.
#[derive(Default)]
pub struct FixedRows {
    words: RowBuffer,
    /// u of each row.
    units: Vec<f32>,
    /// A row by deviations.
    scaled: Vec<f32>,
}

impl FixedScores {
    /// By a kernel of [`Precision::Fixed`]; `deviations` of the features, `(d)`, positive.
    pub fn new(kernel: &'static Kernel, weights: &[f32], deviations: &[f32]) -> Self {
        debug_assert_eq!(kernel.precision, Precision::Fixed);
        let (d, k) = (deviations.len(), weights.len() / deviations.len());
        let mut scaled = vec![0.0; d * k];
        let mut largest = vec![0.0_f32; k];
        for ((out, row), &s) in scaled.chunks_exact_mut(k).zip(weights.chunks_exact(k)).zip(deviations) {
            for ((out, &w), largest) in out.iter_mut().zip(row).zip(&mut largest) {
                *out = w * s;
                *largest = largest.max(out.abs());
            }
        }
        let units: Vec<f32> = largest.into_iter().map(unit_of).collect();
        for row in scaled.chunks_exact_mut(k) {
            row.iter_mut().zip(&units).for_each(|(w, &unit)| *w /= unit);
        }
        let mut panels = Panels::default();
        panels.pack(kernel, &scaled, d, k, k);
        let inverse = deviations.iter().map(|s| s.recip()).collect();
        Self { kernel, inverse, weights: panels, units }
    }

    /// Scores of `n` rows that start every `stride` values of `x` to `z`, as [`super::forward`] gives them.
    pub fn forward(
        &self,
        work: Work,
        x: &[f32],
        (n, stride): (usize, usize),
        intercept: &[f32],
        rows: &mut FixedRows,
        z: &mut [f32],
    ) {
        let (d, k) = (self.inverse.len(), self.units.len());
        let FixedRows { words, units, scaled } = rows;
        scaled.resize(d, 0.0);
        units.clear();
        let x = x.chunks_exact(stride).take(n).map(|row| &row[..d]);
        let x = Rows::pack(self.kernel, x, (n, d), words, |row, out| {
            units.push(to_units(row, &self.inverse, scaled));
            fixed_of(scaled, out);
        });
        forward_by(work, self.kernel, &x, &self.weights, &vec![0.0; k], z);
        for (z, &unit) in z.chunks_exact_mut(padded(k)).zip(&*units) {
            to_scores(&mut z[..k], unit, &self.units, intercept);
        }
    }
}

/// The unit in which a value of this size is [`FIXED_LARGEST`]; what is not a number stays so.
fn unit_of(largest: f32) -> f32 {
    // never zero, and a number whose reciprocal is one
    (largest + 1e-30) / FIXED_LARGEST as f32
}

/// A row by deviations in its unit, which is returned.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
fn to_units(row: &[f32], inverse: &[f32], out: &mut [f32]) -> f32 {
    let mut bits = 0; // sizes are in the order of their bits, whose maximum needs no order of operations
    for ((out, &x), &inverse) in out.iter_mut().zip(row).zip(inverse) {
        *out = x * inverse;
        bits = bits.max(out.to_bits() & (u32::MAX >> 1));
    }
    let unit = unit_of(f32::from_bits(bits));
    let of_unit = unit.recip();
    out.iter_mut().for_each(|v| *v *= of_unit);
    unit
}

/// Sums of whole numbers to scores.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn to_scores(z: &mut [f32], row: f32, classes: &[f32], intercept: &[f32]) {
    for ((z, &class), &b) in z.iter_mut().zip(classes).zip(intercept) {
        *z = *z * (row * class) + b;
    }
}
