//! Passes over representations that statistics of their geometry need beside [`crate::moments`].
//!
//! Ranks, spectra, class means and evidences follow from the sums of [`crate::moments::Moments::totals`]. What does
//! not is here: directions of rows by class ([`class_directions`]), pairs of rows ([`log_potential`]), views of the
//! same samples ([`view_sums`]), two representations of the same rows ([`cross_products`]), and the most similar rows
//! of another set ([`nearest`], [`nearest_of`]). No pass holds an array of rows by rows, or a copy of the features.
//!
//! *Not* for probes: their sums are scaled and rounded as a fit allows, here they are float64.

mod classes;
mod cross;
mod nearest;
mod pairs;
mod search;
mod spectrum;
mod views;

pub use classes::{ClassDirections, class_directions};
pub use cross::cross_products;
pub use nearest::{Nearest, nearest, nearest_of};
pub use pairs::{Potential, log_potential};
pub use spectrum::{eigen, eigenvalues};
pub use views::{Aligned, ViewSums, view_sums};

use crate::error::{Error, Result};
use crate::rows::Matrix;

/// Rows staged by one thread.
const BLOCK_ROWS: usize = 256;

/// Euclidean norm of a row, in float64: no float32 value overflows its square.
fn norm(row: &[f32]) -> f64 {
    row.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt()
}

/// Rows of a matrix as float64, row-major without holes.
fn stage_wide(matrix: &Matrix<'_>, rows: &[u32], singles: &mut Vec<f32>, wide: &mut Vec<f64>) -> Result<()> {
    let d = matrix.n_features();
    singles.resize(rows.len() * d, 0.0);
    matrix.stage_finite(rows, singles, d)?;
    wide.clear();
    wide.extend(singles.iter().map(|&v| f64::from(v)));
    Ok(())
}

/// [`Error::Shape`] unless both have as many rows.
fn check_same_rows(got: usize, expected: usize) -> Result<()> {
    if got == expected { Ok(()) } else { Err(Error::Shape { what: "number of rows", got, expected }) }
}

#[cfg(test)]
mod tests {
    use crate::rows::{Matrix, Segment, Values};

    /// Reproducible values in −0.5 … 0.5.
    pub fn values(n: usize, seed: u32) -> Vec<f32> {
        let mut s = seed.wrapping_mul(2_654_435_761).wrapping_add(12345);
        let mut next = || {
            s = s.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (s >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        (0..n).map(|_| next()).collect()
    }

    pub fn matrix(x: &[f32], d: usize) -> Matrix<'_> {
        Matrix::new(d, vec![Segment { values: Values::F32(x), guard: None }]).unwrap()
    }

    pub fn all(n: usize) -> Vec<u32> {
        (0..n as u32).collect()
    }
}
