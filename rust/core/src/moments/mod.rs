//! Sufficient statistics of rows, per cell: one pass, then every closed-form answer.
//!
//! A row belongs to one cell (a fold or a held-out subset). Each cell keeps counts, sums, sums by class,
//! ranges and `Σ (x−c)(x−c)ᵀ`; unions of cells are sums, so complements, cross-validation folds, centring,
//! scaling and every penalty follow without another pass ([`Moments::design`]).
//!
//! The shift `c` is zero except for features whose mean is above their standard deviation: there, sums of raw
//! squares would cancel (measured in float32: 0.12 relative at 30 standard deviations, 2e-5 shifted). Products are
//! summed as [`Sums`] says.
//!
//! Moments of several machines or days are added with [`Moments::merge`], kept with [`Moments::save`], and
//! answered with [`Moments::solve`].

mod cell;
mod design;
mod file;
mod given;
mod means;
mod row_scaling;
mod shift;
mod sums;
mod totals;

use rayon::prelude::*;

use crate::control::Run;
use crate::error::{Error, Result};
use crate::kernel::choose;
use crate::kernel::parallel::install;
use crate::rows::TrainingRows;

use cell::{Block, Cell, Products, add_into};
pub use design::Design;
pub use given::CellSums;
pub use means::feature_means;
pub use row_scaling::RowScaling;
pub use shift::{SHIFT_ROWS, choose_shift};
pub use sums::{CHEAP_PRODUCTS, Sums};
pub use totals::Totals;

pub use crate::scaling::{Affine, Scaling};

/// Statistics of rows in cells; see the module's documentation.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    n_features: usize,
    n_classes: usize,
    shift: Vec<f32>,
    /// How updates sum; `None` decides by their size.
    wanted: Option<Sums>,
    /// The roughest sums so far.
    sums: Sums,
    cells: Vec<Cell>,
}

/// Rows of one block, staged and packed by one thread.
const BLOCK_ROWS: usize = 256;
/// Rows summed in float32 before they are added to the float64 total: few enough that they stay in the last
/// cache (16 MB at 2048 features) while every tile reads them.
pub const FLUSH_ROWS: usize = 2048;
/// Rows that are sorted by cell at a time, for each cell: a scan in order, and few partly filled sums.
const SLAB_ROWS: usize = 4096;

impl Moments {
    /// No rows yet.
    ///
    /// # Errors
    /// [`Error::Parameter`] if there are no classes, features or cells, the shift is not finite, or sums of so many features
    /// are beyond what memory can be had.
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
        check_room(d, n_cells)?;
        let cells = vec![Cell::new(d, n_classes); n_cells];
        Ok(Self { n_features: d, n_classes, shift, wanted: None, sums: Sums::Float64, cells })
    }

    /// The same, whose updates sum products in this way; without it, in float64 where that costs little.
    #[must_use]
    pub fn with_sums(self, sums: Sums) -> Self {
        Self { wanted: Some(sums), ..self }
    }

    /// The roughest sums of products so far.
    pub fn sums(&self) -> Sums {
        self.sums
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

    /// Number of rows.
    pub fn n_rows(&self) -> u64 {
        self.cells.iter().flat_map(|cell| &cell.counts).sum()
    }

    /// Add rows; `cells` are indexed by matrix row. Time and memory are those of the cells that have rows.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a label or cell out of range, [`Error::BadValue`] for NaN or infinity,
    /// [`Error::Numerical`] for features whose squares exceed the sums, [`Error::Interrupted`]. The moments are
    /// unchanged after an error.
    ///
    /// # Accuracy
    /// As [`Sums`] says, at the scale of each feature: features whose squares float32 cannot hold are multiplied by
    /// powers of two first.
    pub fn update(&mut self, training: TrainingRows<'_>, cells: &[u8], run: Run<'_>) -> Result<()> {
        let (d, k) = (self.n_features, self.n_classes);
        training.matrix().check_features(d)?;
        if training.n_classes() > k {
            return Err(Error::Shape { what: "number of classes", got: training.n_classes(), expected: k });
        }
        let mut touched = vec![false; self.cells.len()];
        for &row in training.rows() {
            let cell = usize::from(*cells.get(row as usize).ok_or(Error::Shape {
                what: "number of cells by row",
                got: cells.len(),
                expected: training.matrix().n_rows(),
            })?);
            *touched.get_mut(cell).ok_or_else(|| {
                Error::Parameter(format!("row {row} is in cell {cell}, there are {}", self.cells.len()))
            })? = true;
        }
        let sums = self.wanted.unwrap_or(Sums::for_products(training.len(), d));
        let fresh = || touched.iter().map(|&touched| touched.then(|| Cell::new(d, k))).collect::<Vec<_>>();
        let mut added = fresh();
        let products = match sums.precision() {
            None => Products::Wide,
            Some(precision) => Products::Packed { kernel: choose(precision)?, units: None },
        };
        install(run.n_threads, || {
            self.accumulate(&mut added, &products, training, cells, run)?;
            let Products::Packed { kernel, .. } = products else { return Ok(()) };
            if let Some(units) = sums::units(&added, d) {
                added = fresh();
                let products = Products::Packed { kernel, units: Some(&units) };
                self.accumulate(&mut added, &products, training, cells, run)?;
                let back: Vec<f64> = units.iter().map(|&unit| f64::from(unit).recip()).collect();
                added.iter_mut().flatten().for_each(|cell| cell.gram.scale(&back));
            }
            Ok(())
        })?;
        if added.iter().flatten().any(|cell| !cell.gram.entries().iter().all(|v| v.is_finite())) {
            return Err(Error::Numerical(
                "features are too large: their squares cannot be summed; divide all of them by one number"
                    .into(),
            ));
        }
        if !training.is_empty() {
            self.sums = self.sums.max(sums);
        }
        install(run.n_threads, || {
            for (cell, added) in self.cells.iter_mut().zip(added) {
                if let Some(added) = added {
                    cell.add(&added);
                }
            }
            Ok(())
        })
    }

    /// Add the rows to the cells that are there: those that have rows.
    fn accumulate(
        &self,
        added: &mut [Option<Cell>],
        products: &Products<'_>,
        training: TrainingRows<'_>,
        cells: &[u8],
        run: Run<'_>,
    ) -> Result<()> {
        let mut blocks = Vec::new();
        let touched = added.iter().flatten().count();
        for slab in training.rows().chunks(SLAB_ROWS * touched.clamp(1, 16)) {
            let mut members = vec![Vec::new(); added.len()];
            for &row in slab {
                members[usize::from(cells[row as usize])].push(row);
            }
            for (cell, members) in added.iter_mut().zip(&members) {
                let Some(cell) = cell else { continue };
                for rows in members.chunks(FLUSH_ROWS) {
                    run.control.advance(rows.len())?;
                    blocks.resize_with(rows.len().div_ceil(BLOCK_ROWS), Block::default);
                    blocks.par_iter_mut().zip(rows.par_chunks(BLOCK_ROWS)).try_for_each(
                        |(block, rows)| block.fill(products, training.matrix(), rows, &self.shift),
                    )?;
                    let labels: Vec<u32> = rows.iter().map(|&row| training.label(row) as u32).collect();
                    cell.add_blocks(products, &blocks, &labels);
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
        self.sums = self.sums.max(other.sums);
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
        self.sums = self.sums.max(other.sums);
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

/// Complain where half a covariance for each cell, and a whole one, are more than can be had: an allocation that fails would
/// end the process.
fn check_room(d: usize, n_cells: usize) -> Result<()> {
    let values = d.checked_mul(d).and_then(|square| square.checked_mul(n_cells / 2 + 1));
    let had = values.is_some_and(|values| {
        let mut probe = Vec::<f64>::new();
        let had = probe.try_reserve_exact(values).is_ok();
        std::hint::black_box(&probe); // an allocation that nobody looks at might be left out
        had
    });
    if had {
        return Ok(());
    }
    let gigabytes = 8e-9 * (d as f64).powi(2) * (n_cells / 2 + 1) as f64;
    Err(Error::Parameter(format!(
        "products of {d} features with each other take {gigabytes:.0} GB, more than there is here: leave features out, pool or \
         project them"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Control;
    use crate::rows::{Matrix, Segment, Values};
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
        update(&mut moments, &matrix, &rows, y, cells, threads).unwrap();
        moments
    }

    fn update(
        moments: &mut Moments,
        matrix: &Matrix<'_>,
        rows: &[u32],
        y: &[u32],
        cells: &[u8],
        n_threads: usize,
    ) -> Result<()> {
        let training = TrainingRows::new(matrix, rows, y, moments.n_classes())?;
        moments.update(training, cells, Run { n_threads, control: &Control::new() })
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
    fn more_features_than_memory_holds_are_an_error() {
        for d in [1 << 24, 1 << 31] {
            let error = check_room(d, 8).unwrap_err().to_string();
            assert!(error.contains("GB, more than there is here"), "{error}");
        }
        check_room(2048, 8).unwrap();
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
        let error = update(&mut moments, &matrix, &rows, &y, &cells, 1).unwrap_err();
        assert!(matches!(error, Error::BadValue { row: 41, column: 2, .. }));
        assert_eq!(moments, Moments::new(3, 1, vec![0.0; 3]).unwrap());
        let error = moments.design(&[0], Scaling::None).unwrap_err();
        assert!(error.to_string().contains("two classes"));
    }

    /// Rows 0 … n − 1 of one feature, in cell 0 of two, classes in turn.
    fn of_values(x: &[f32], shift: f32, sums: Sums) -> Result<Moments> {
        let matrix = Matrix::new(1, vec![Segment { values: Values::F32(x), guard: None }])?;
        let rows: Vec<u32> = (0..x.len() as u32).collect();
        let labels: Vec<u32> = (0..x.len() as u32).map(|i| i % 2).collect();
        let mut moments = Moments::new(2, 2, vec![shift])?.with_sums(sums);
        update(&mut moments, &matrix, &rows, &labels, &vec![0; x.len()], 1)?;
        Ok(moments)
    }

    #[test]
    fn the_roughest_sums_stay_whatever_is_added_or_taken_away() {
        let of = |sums| of_values(&[1.0, 2.0, 4.0], 0.0, sums).unwrap();
        let (fine, rough) = (of(Sums::Float64), of(Sums::Float32));
        let mut both = fine.clone();
        both.merge(&rough).unwrap();
        assert_eq!(both.sums(), Sums::Float32);
        let mut rest = fine.clone();
        rest.merge(&fine).unwrap();
        rest.subtract(&rough).unwrap();
        assert_eq!(rest.sums(), Sums::Float32);
        assert_eq!(of_values(&[], 0.0, Sums::Float32).unwrap().sums(), Sums::Float64); // no rows, no rounding
        let matrix = Matrix::new(1, vec![Segment { values: Values::F32(&[1.0, 2.0]), guard: None }]).unwrap();
        let mut later = rough.with_sums(Sums::Float64);
        update(&mut later, &matrix, &[0, 1], &[0, 1], &[0, 0], 1).unwrap();
        assert_eq!(later.sums(), Sums::Float32);
    }

    #[test]
    fn moments_about_another_shift_or_of_other_cells_are_not_added() {
        let mut one = of_values(&[1.0, 2.0], 0.0, Sums::Float64).unwrap();
        let other = of_values(&[1.0, 2.0], 1.0, Sums::Float64).unwrap();
        assert!(matches!(one.merge(&other), Err(Error::Parameter(_))));
        assert!(matches!(one.merge(&Moments::new(2, 3, vec![0.0]).unwrap()), Err(Error::Parameter(_))));
        assert!(matches!(one.subtract(&Moments::new(2, 1, vec![0.0]).unwrap()), Err(Error::Parameter(_))));
    }

    #[test]
    fn features_that_leave_float32_about_the_shift_are_an_error() {
        let error = of_values(&[3e38, 1.0], -3e38, Sums::Float64).unwrap_err();
        assert!(error.to_string().contains("too large"), "{error}");
    }

    #[test]
    fn squares_of_large_features_below_zero_are_held_as_those_above() {
        let x = [-1e25_f32, -2e25, 1.0];
        let gram = |x: &[f32]| of_values(x, 0.0, Sums::Float32).unwrap().cells[0].gram.get(0, 0);
        let want = 5e50;
        assert!((gram(&x) / want - 1.0).abs() < 1e-5 && gram(&x) == gram(&x.map(|v| -v)));
    }
}
