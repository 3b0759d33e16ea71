//! How far the rows of a class scatter, and how far their directions agree.

use rayon::prelude::*;

use super::{BLOCK_ROWS, norm};
use crate::control::Run;
use crate::error::{Error, Result};
use crate::kernel::parallel::install;
use crate::rows::TrainingRows;

/// Sums over the rows of each class.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassDirections {
    /// Σ ‖x − the class's centre‖², `(k)`.
    pub squares: Vec<f64>,
    /// Rows that have a direction (‖x‖ > 0), `(k)`.
    pub counts: Vec<u64>,
    /// Σ x/‖x‖ over those, `(k, d)`.
    pub directions: Vec<f64>,
}

/// Rows that are staged before they are added to the sums.
const SLAB_ROWS: usize = 4096;
/// Features whose sums one thread adds to.
const COLUMNS: usize = 32;

/// Σ ‖x − centre‖² and Σ x/‖x‖ of each class.
///
/// The sums by class are shared: a sum for each thread would be paid for by every core. `centres` is `(k, d)`, of each
/// class a point near its mean, so that squares about class means are no small differences of large numbers.
///
/// # Errors
/// [`Error::Shape`] if the centres have another length, [`Error::BadValue`] for NaN or infinity, [`Error::Interrupted`].
///
/// # Accuracy
/// Float64; the same bits for any number of threads.
pub fn class_directions(rows: TrainingRows<'_>, centres: &[f64], run: Run<'_>) -> Result<ClassDirections> {
    let (matrix, d, k) = (rows.matrix(), rows.matrix().n_features(), rows.n_classes());
    if centres.len() != k * d {
        return Err(Error::Shape { what: "length of the centres", got: centres.len(), expected: k * d });
    }
    let mut found = ClassDirections { squares: vec![0.0; k], counts: vec![0; k], directions: Vec::new() };
    let panels = d.div_ceil(COLUMNS);
    let mut sums = vec![0.0_f64; panels * k * COLUMNS]; // (panels, k, COLUMNS)
    let mut blocks: Vec<Block> = Vec::new();
    install(run.n_threads, || {
        for slab in rows.rows().chunks(SLAB_ROWS) {
            run.control.advance(slab.len())?;
            blocks.resize_with(slab.len().div_ceil(BLOCK_ROWS), Block::default);
            blocks.par_iter_mut().zip(slab.par_chunks(BLOCK_ROWS)).try_for_each(|(block, ids)| {
                block.x.resize(ids.len() * d, 0.0);
                matrix.stage_finite(ids, &mut block.x, d)?;
                block.labels.clear();
                block.labels.extend(ids.iter().map(|&id| rows.label(id)));
                block.fill(d, centres);
                Ok(())
            })?;
            for block in &blocks {
                for ((&label, &square), &scale) in block.labels.iter().zip(&block.squares).zip(&block.scales)
                {
                    found.squares[label] += square;
                    found.counts[label] += u64::from(scale > 0.0);
                }
            }
            sums.par_chunks_exact_mut(k * COLUMNS).enumerate().for_each(|(p, sums)| {
                for block in &blocks {
                    block.add_columns(d, p * COLUMNS, sums);
                }
            });
        }
        Ok(())
    })?;
    found.directions = (0..k * d)
        .map(|at| {
            let (c, j) = (at / d, at % d);
            sums[(j / COLUMNS * k + c) * COLUMNS + j % COLUMNS]
        })
        .collect();
    Ok(found)
}

/// Rows staged by one thread.
#[derive(Default)]
struct Block {
    x: Vec<f32>,
    labels: Vec<usize>,
    /// ‖x − the class's centre‖²
    squares: Vec<f64>,
    /// 1/‖x‖, or 0 for a row of zeros.
    scales: Vec<f64>,
}

impl Block {
    fn fill(&mut self, d: usize, centres: &[f64]) {
        self.squares.clear();
        self.scales.clear();
        for (row, &label) in self.x.chunks_exact(d).zip(&self.labels) {
            let moved = |(&v, &c): (&f32, &f64)| (f64::from(v) - c).powi(2);
            self.squares.push(row.iter().zip(&centres[label * d..]).map(moved).sum());
            let length = norm(row);
            self.scales.push(if length > 0.0 { length.recip() } else { 0.0 });
        }
    }

    /// Add features `first ..` of each row's direction to the sums `(k, COLUMNS)`.
    fn add_columns(&self, d: usize, first: usize, sums: &mut [f64]) {
        let last = (first + COLUMNS).min(d);
        for ((row, &label), &scale) in self.x.chunks_exact(d).zip(&self.labels).zip(&self.scales) {
            for (sum, &v) in sums[label * COLUMNS..].iter_mut().zip(&row[first..last]) {
                *sum += f64::from(v) * scale;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{all, matrix, values};
    use super::*;
    use crate::control::Control;

    #[test]
    fn sums_are_those_of_the_definition_for_any_number_of_threads() {
        for (n, d) in [(0, 3), (1, 1), (300, 33), (5000, 40)] {
            let mut x = values(n * d, 1);
            if n > 2 {
                x[2 * d..3 * d].fill(0.0);
            }
            let labels: Vec<u32> = (0..n as u32).map(|i| i % 3).collect();
            let centres: Vec<f64> = (0..4 * d).map(|j| j as f64 / 50.0).collect();
            let (matrix, rows) = (matrix(&x, d), all(n));
            let found = |n_threads| {
                let rows = TrainingRows::new(&matrix, &rows, &labels, 4).unwrap();
                class_directions(rows, &centres, Run { n_threads, control: &Control::new() }).unwrap()
            };
            let (one, many) = (found(1), found(3));
            assert_eq!(one, many);
            for c in 0..4 {
                let own: Vec<&[f32]> = x
                    .chunks_exact(d)
                    .zip(&labels)
                    .filter(|(_, y)| **y == c as u32)
                    .map(|(row, _)| row)
                    .collect();
                let square: f64 = own
                    .iter()
                    .flat_map(|row| row.iter().zip(&centres[c * d..]))
                    .map(|(&v, &m)| (f64::from(v) - m).powi(2))
                    .sum();
                assert!((one.squares[c] - square).abs() <= 1e-12 * square); // sums in another order
                assert_eq!(one.counts[c], own.iter().filter(|row| norm(row) > 0.0).count() as u64);
                for j in 0..d {
                    let want: f64 = own
                        .iter()
                        .filter(|row| norm(row) > 0.0)
                        .map(|row| f64::from(row[j]) / norm(row))
                        .sum();
                    assert!((one.directions[c * d + j] - want).abs() < 1e-11); // of 1,700 terms below 1
                }
            }
        }
    }

    #[test]
    fn nan_and_another_centre_are_named() {
        let mut x = values(20, 2);
        x[7] = f32::NAN;
        let (matrix, rows, labels) = (matrix(&x, 4), all(5), vec![0; 5]);
        let rows = TrainingRows::new(&matrix, &rows, &labels, 1).unwrap();
        let run = Run { n_threads: 1, control: &Control::new() };
        let bad = class_directions(rows, &[0.0; 4], run);
        assert!(matches!(bad, Err(Error::BadValue { row: 1, column: 3, .. })));
        assert!(matches!(class_directions(rows, &[0.0; 3], run), Err(Error::Shape { .. })));
    }
}
