//! The sums themselves, over a union of cells: what statistics that are no probe are computed from.

use std::borrow::Cow;

use super::cell::Cell;
use super::{Moments, Sums};
use crate::error::{Error, Result};
use crate::scaling::{Scaling, Spread};

/// Sums over rows about a shift c; see [`Moments::totals`].
#[derive(Debug, Clone, PartialEq)]
pub struct Totals {
    /// c, `(d)`.
    pub shift: Vec<f32>,
    /// Rows of each class, `(k)`.
    pub counts: Vec<u64>,
    /// Σ (x − c) by class, `(k, d)`.
    pub sums: Vec<f64>,
    /// Σ (x−c)(x−c)ᵀ, `(d, d)`, both triangles.
    pub gram: Vec<f64>,
    /// How the products behind `gram` were summed.
    pub precision: Sums,
}

impl Totals {
    /// Features that do not vary beyond rounding, by the rule of [`crate::scaling`], ascending.
    pub fn constant(&self) -> Vec<u32> {
        let (d, n) = (self.shift.len(), self.counts.iter().sum::<u64>() as f64);
        let is_constant = |&j: &usize| {
            let offset = self.sums.iter().skip(j).step_by(d).sum::<f64>() / n;
            let square = self.gram[j * d + j] / n;
            let spread = Spread {
                mean: offset + f64::from(self.shift[j]),
                variance: square - offset * offset,
                width: 0.0,
                noise: self.precision.rounding() * square,
            };
            n == 0.0 || Scaling::None.factor(&spread) == 0.0
        };
        (0..d).filter(is_constant).map(|j| j as u32).collect()
    }
}

impl Moments {
    /// The sums over the union of `cells`. Classes without rows are there, with zeros.
    ///
    /// # Errors
    /// [`Error::Parameter`] if a cell does not exist or is named twice.
    pub fn totals(&self, cells: &[usize]) -> Result<Totals> {
        let (d, k) = (self.n_features, self.n_classes);
        let total = self.union(cells)?;
        let mut sums = vec![0.0; k * d];
        for (c, sums) in sums.chunks_exact_mut(d).enumerate() {
            for (j, sum) in sums.iter_mut().enumerate() {
                *sum = total.sum(c, j);
            }
        }
        let gram = total.gram.to_full();
        Ok(Totals {
            shift: self.shift.clone(),
            counts: total.counts.clone(),
            sums,
            gram,
            precision: self.sums,
        })
    }

    /// The sum of the given cells.
    pub(super) fn union(&self, cells: &[usize]) -> Result<Cow<'_, Cell>> {
        if let Some(bad) = cells.iter().find(|&&c| c >= self.cells.len()) {
            return Err(Error::Parameter(format!("cell {bad} of {}", self.cells.len())));
        }
        if let Some((_, twice)) = cells.iter().enumerate().find(|&(i, c)| cells[..i].contains(c)) {
            return Err(Error::Parameter(format!("cell {twice} is named twice")));
        }
        let Some((&first, others)) = cells.split_first() else {
            return Ok(Cow::Owned(Cell::new(self.n_features, self.n_classes)));
        };
        let mut total = Cow::Borrowed(&self.cells[first]);
        for &c in others {
            total.to_mut().add(&self.cells[c]);
        }
        Ok(total)
    }
}

#[cfg(test)]
mod tests {
    use super::super::choose_shift;
    use super::*;
    use crate::control::{Control, Run};
    use crate::rows::{Matrix, Segment, TrainingRows, Values};

    #[test]
    fn totals_are_sums_over_the_cells_asked_for() {
        let x: Vec<f32> = (0..40).flat_map(|i| [i as f32, 0.3, (i * i % 7) as f32 + 100.0]).collect();
        let labels: Vec<u32> = (0..40).map(|i| i % 2).collect();
        let cells: Vec<u8> = (0..40).map(|i| u8::from(i >= 30)).collect();
        let matrix = Matrix::new(3, vec![Segment { values: Values::F32(&x), guard: None }]).unwrap();
        let rows: Vec<u32> = (0..40).collect();
        let shift = choose_shift(&matrix, &rows).unwrap();
        let mut moments = Moments::new(3, 2, shift).unwrap();
        let run = Run { n_threads: 1, control: &Control::new() };
        moments.update(TrainingRows::new(&matrix, &rows, &labels, 3).unwrap(), &cells, run).unwrap();
        let first = moments.totals(&[0]).unwrap();
        assert_eq!((first.counts.as_slice(), first.constant()), ([15, 15, 0].as_slice(), vec![1]));
        for a in 0..3 {
            for b in 0..3 {
                let moved = |i: usize, j: usize| f64::from(x[3 * i + j]) - f64::from(first.shift[j]);
                let want: f64 = (0..30).map(|i| moved(i, a) * moved(i, b)).sum();
                assert!((first.gram[3 * a + b] - want).abs() < 1e-9); // sums of thousands in float64
            }
        }
        assert!(moments.totals(&[2]).is_err() && moments.totals(&[0, 0]).is_err());
        assert_eq!(Moments::new(1, 1, vec![0.0]).unwrap().totals(&[0]).unwrap().constant(), [0]);
    }
}
