//! Sufficient statistics of rows, per cell: one pass, then every closed-form answer.
//!
//! A row belongs to one cell (a fold or a held-out subset). Each cell keeps counts, sums, sums by class,
//! ranges and `Σ (x−c)(x−c)ᵀ`; unions of cells are sums, so complements, cross-validation folds, centring,
//! scaling and every penalty follow without another pass ([`Moments::design`]).
//!
//! The shift `c` is zero except for features whose mean is far above their standard deviation: there,
//! sums of raw squares in float32 would cancel (measured: 0.12 relative at 30 standard deviations, 2e-5
//! shifted). Blocks are summed in float32, across blocks in float64.
//!
//! Moments of several machines or days are added with [`Moments::merge`], kept with [`Moments::save`], and
//! answered with [`Moments::solve`].

mod cell;
mod design;
mod file;
mod means;
mod shift;
mod solve;

use rayon::prelude::*;

use crate::control::Control;
use crate::error::{Error, Result};
use crate::kernel::parallel::install;
use crate::kernel::{Precision, choose};
use crate::rows::Matrix;

use cell::{Block, Cell, add_into};
pub use design::Design;
pub use means::feature_means;
pub use shift::choose_shift;

pub use crate::rows::check_rows;
pub use crate::scaling::{Affine, Scaling};

/// Statistics of rows in cells; see the module's documentation.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    n_features: usize,
    n_classes: usize,
    shift: Vec<f32>,
    precision: Precision,
    cells: Vec<Cell>,
}

/// Rows of one block, staged and packed by one thread.
const BLOCK_ROWS: usize = 256;
/// Rows summed in float32 before they are added to the float64 total: few enough that they stay in the last
/// cache (16 MB at 2048 features) while every tile reads them.
const FLUSH_ROWS: usize = 2048;
/// Rows that are sorted by cell at a time, for each cell: a scan in order, and few partly filled sums.
const SLAB_ROWS: usize = 4096;

impl Moments {
    /// No rows yet.
    ///
    /// # Errors
    /// [`Error::Parameter`] if there are no classes, features or cells, or the shift is not finite.
    pub fn new(n_classes: usize, n_cells: usize, shift: Vec<f32>) -> Result<Self> {
        let d = shift.len();
        if d == 0 || n_classes == 0 || n_cells == 0 {
            return Err(Error::Parameter(format!(
                "moments need features, classes and cells, got {d}, {n_classes} and {n_cells}"
            )));
        }
        if let Some(j) = shift.iter().position(|c| !c.is_finite()) {
            return Err(Error::Parameter(format!("shift of feature {j} is {}; it must be finite", shift[j])));
        }
        let cells = vec![Cell::new(d, n_classes); n_cells];
        Ok(Self { n_features: d, n_classes, shift, precision: Precision::Exact, cells })
    }

    /// The same, whose updates may round factors of `Σ (x−c)(x−c)ᵀ` as `precision` says. Counts, sums and ranges
    /// stay exact. Rounded moments are good enough for the metric of a logistic fit, not for ridge.
    #[must_use]
    pub fn with_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// Number of features.
    pub fn n_features(&self) -> usize {
        self.n_features
    }

    /// Number of classes.
    pub fn n_classes(&self) -> usize {
        self.n_classes
    }

    /// Number of cells.
    pub fn n_cells(&self) -> usize {
        self.cells.len()
    }

    /// Add `rows` of the matrix; `labels` and `cells` are indexed by matrix row.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a label or cell out of range, [`Error::BadValue`] for NaN or infinity,
    /// [`Error::Numerical`] for features whose squares exceed float32, [`Error::Interrupted`]. The moments are
    /// unchanged after an error.
    pub fn update(
        &mut self,
        matrix: &Matrix<'_>,
        rows: &[u32],
        labels: &[u32],
        cells: &[u8],
        n_threads: usize,
        control: &Control,
    ) -> Result<()> {
        let (d, k) = (self.n_features, self.n_classes);
        check_rows(matrix, rows, labels, k)?;
        matrix.check_features(d)?;
        for &row in rows {
            let cell = usize::from(*cells.get(row as usize).ok_or(Error::Shape {
                what: "number of cells by row",
                got: cells.len(),
                expected: matrix.n_rows(),
            })?);
            if cell >= self.cells.len() {
                return Err(Error::Parameter(format!(
                    "row {row} is in cell {cell}, there are {}",
                    self.cells.len()
                )));
            }
        }
        let mut added = vec![Cell::new(d, k); self.cells.len()];
        install(n_threads, || self.accumulate(&mut added, matrix, rows, labels, cells, control))?;
        if added.iter().any(|cell| !cell.gram.entries().iter().all(|v| v.is_finite())) {
            return Err(Error::Numerical(
                "features are too large: their squares exceed float32 (3e38); divide all of them by one number".into(),
            ));
        }
        for (cell, added) in self.cells.iter_mut().zip(&added) {
            cell.add(added);
        }
        Ok(())
    }

    fn accumulate(
        &self,
        added: &mut [Cell],
        matrix: &Matrix<'_>,
        rows: &[u32],
        labels: &[u32],
        cells: &[u8],
        control: &Control,
    ) -> Result<()> {
        let kernel = choose(self.precision)?;
        let mut blocks = Vec::new();
        for slab in rows.chunks(SLAB_ROWS * added.len().min(16)) {
            let mut members = vec![Vec::new(); added.len()];
            for &row in slab {
                members[usize::from(cells[row as usize])].push(row);
            }
            for (cell, members) in added.iter_mut().zip(&members) {
                for rows in members.chunks(FLUSH_ROWS) {
                    control.advance(rows.len())?;
                    blocks.resize_with(rows.len().div_ceil(BLOCK_ROWS), Block::default);
                    blocks
                        .par_iter_mut()
                        .zip(rows.par_chunks(BLOCK_ROWS))
                        .try_for_each(|(block, rows)| block.fill(kernel, matrix, rows, &self.shift))?;
                    let labels: Vec<u32> = rows.iter().map(|&row| labels[row as usize]).collect();
                    cell.add_blocks(kernel, &blocks, &labels);
                }
            }
        }
        Ok(())
    }

    /// Add the rows that another object saw, cell by cell.
    ///
    /// # Errors
    /// [`Error::Parameter`] if the two differ in features, classes, cells or shift.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        self.check_like(other)?;
        for (a, b) in self.cells.iter_mut().zip(&other.cells) {
            a.add(b);
        }
        Ok(())
    }

    /// Take away rows that were added before, cell by cell. Ranges cannot be taken away and keep their
    /// width: min-max scaling of the rest then needs [`Moments::design`] over cells instead.
    ///
    /// # Errors
    /// [`Error::Parameter`] if the two differ in shape or shift, or a class would have fewer than no rows.
    pub fn subtract(&mut self, other: &Self) -> Result<()> {
        self.check_like(other)?;
        for (a, b) in self.cells.iter().zip(&other.cells) {
            if a.counts.iter().zip(&b.counts).any(|(a, b)| a < b) {
                return Err(Error::Parameter(
                    "cannot subtract rows that were never added: a class has fewer than that".into(),
                ));
            }
        }
        for (a, b) in self.cells.iter_mut().zip(&other.cells) {
            for (a, &b) in a.counts.iter_mut().zip(&b.counts) {
                *a -= b;
            }
            for (a, &b) in a.sums.iter_mut().zip(&b.sums) {
                *a -= b;
            }
            for (a, &b) in a.gram.entries_mut().iter_mut().zip(b.gram.entries()) {
                *a -= b;
            }
        }
        Ok(())
    }

    fn check_like(&self, other: &Self) -> Result<()> {
        if self.shift != other.shift
            || self.n_classes != other.n_classes
            || self.cells.len() != other.cells.len()
        {
            return Err(Error::Parameter(
                "moments differ in features, shift, classes or cells; create both from one template".into(),
            ));
        }
        Ok(())
    }

    /// Rows of each class over the given cells.
    pub fn counts(&self, cells: &[usize]) -> Vec<u64> {
        let mut counts = vec![0; self.n_classes];
        for &c in cells {
            add_into(&mut counts, &self.cells[c].counts);
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::{Segment, Values};
    use half::f16;

    fn data(n: usize, d: usize, mean: f32) -> (Vec<f32>, Vec<u32>) {
        let mut s = 12345_u32;
        let mut next = || {
            s = s.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (s >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        let x = (0..n * d).map(|i| f16::from_f32(next() + mean * ((i % d) % 2) as f32).to_f32()).collect();
        (x, (0..n).map(|i| (i % 3) as u32).collect())
    }

    fn moments(x: &[f32], y: &[u32], d: usize, cells: &[u8], threads: usize) -> Moments {
        let matrix = Matrix::new(d, vec![Segment { values: Values::F32(x), guard: None }]).unwrap();
        let rows: Vec<u32> = (0..y.len() as u32).collect();
        let shift = choose_shift(&matrix, &rows).unwrap();
        let mut moments = Moments::new(3, 4, shift).unwrap();
        moments.update(&matrix, &rows, y, cells, threads, &Control::new()).unwrap();
        moments
    }

    /// Against plain float64 two-pass formulas, for far means, odd sizes and unions of cells.
    #[test]
    fn design_agrees_with_two_pass_float64() {
        for (n, d, mean) in [(9, 2, 0.0), (1031, 33, 0.0), (1031, 33, 30.0)] {
            let (x, y) = data(n, d, mean);
            let cells: Vec<u8> = (0..n).map(|i| (i % 4) as u8).collect();
            let design = moments(&x, &y, d, &cells, 2).design(&[0, 2, 3], Scaling::Standardize).unwrap();
            let rows: Vec<usize> = (0..n).filter(|i| i % 4 != 1).collect();
            let count = rows.len() as f64;
            let mu: Vec<f64> =
                (0..d).map(|j| rows.iter().map(|&i| f64::from(x[i * d + j])).sum::<f64>() / count).collect();
            let cov = |a: usize, b: usize| {
                rows.iter()
                    .map(|&i| (f64::from(x[i * d + a]) - mu[a]) * (f64::from(x[i * d + b]) - mu[b]))
                    .sum::<f64>()
                    / count
            };
            assert_eq!(design.n, rows.len());
            for (a, &mean) in mu.iter().enumerate() {
                assert!((f64::from(design.affine.shift[a]) - mean).abs() < 1e-6 * (1.0 + mean.abs()));
                for b in 0..d {
                    let want = cov(a, b) / (cov(a, a) * cov(b, b)).sqrt();
                    // float32 sums of ≤ 2048 products: 1e-6 of the scale
                    assert!((design.covariance[a * d + b] - want).abs() < 4e-6, "{n} {d} {mean}");
                }
            }
        }
    }

    #[test]
    fn complement_is_whole_minus_cell_and_threads_agree() {
        let (x, y) = data(500, 7, 0.0);
        let cells: Vec<u8> = (0..500).map(|i| (i % 2) as u8).collect();
        let all = moments(&x, &y, 7, &cells, 1);
        let other = moments(&x, &y, 7, &cells, 3);
        let (a, b) = (all.design(&[0, 1], Scaling::None), other.design(&[0, 1], Scaling::None));
        for (a, b) in a.unwrap().covariance.iter().zip(&b.unwrap().covariance) {
            assert!((a - b).abs() <= 1e-6 * a.abs().max(1e-3));
        }
        let mut rest = all.clone();
        rest.merge(&all).unwrap();
        rest.subtract(&all).unwrap();
        assert_eq!(rest, all);
        assert!(rest.subtract(&all).is_ok() && rest.subtract(&all).is_err());
    }

    #[test]
    fn constant_and_tiny_columns_are_dead_and_bad_rows_are_named() {
        let (mut x, y) = data(60, 3, 0.0);
        for row in x.chunks_exact_mut(3) {
            row[1] = 0.3;
        }
        let cells = vec![0; 60];
        let design = moments(&x, &y, 3, &cells, 1).design(&[0], Scaling::Standardize).unwrap();
        assert_eq!(design.affine.scale[1], 0.0);
        assert!(design.affine.scale[0] > 0.0);
        x[3 * 41 + 2] = f32::NAN;
        let matrix = Matrix::new(3, vec![Segment { values: Values::F32(&x), guard: None }]).unwrap();
        let rows: Vec<u32> = (0..60).collect();
        let mut moments = Moments::new(3, 1, vec![0.0; 3]).unwrap();
        let error = moments.update(&matrix, &rows, &y, &cells, 1, &Control::new()).unwrap_err();
        assert!(matches!(error, Error::BadValue { row: 41, column: 2, .. }));
        assert_eq!(moments, Moments::new(3, 1, vec![0.0; 3]).unwrap());
        let error = moments.design(&[0], Scaling::None).unwrap_err();
        assert!(error.to_string().contains("two classes"));
    }
}
