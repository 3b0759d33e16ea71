//! The sums themselves, over a union of cells: what statistics that are no probe are computed from.

use super::cell::Cell;
use super::{Moments, Sums};
use crate::error::{Error, Result};

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
    /// Largest relative error that rounding leaves in a sum of squares of [`Self::gram`].
    pub fn rounding(&self) -> f64 {
        self.precision.rounding()
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
        let mut gram = vec![0.0; d * d];
        for i in 0..d {
            for j in 0..=i {
                let v = total.gram.get(i, j);
                gram[i * d + j] = v;
                gram[j * d + i] = v;
            }
        }
        Ok(Totals { shift: self.shift.clone(), counts: total.counts, sums, gram, precision: self.sums })
    }

    /// The sum of the given cells.
    pub(super) fn union(&self, cells: &[usize]) -> Result<Cell> {
        if let Some(bad) = cells.iter().find(|&&c| c >= self.cells.len()) {
            return Err(Error::Parameter(format!("cell {bad} of {}", self.cells.len())));
        }
        if let Some((_, twice)) = cells.iter().enumerate().find(|&(i, c)| cells[..i].contains(c)) {
            return Err(Error::Parameter(format!("cell {twice} is named twice")));
        }
        let mut total = Cell::new(self.n_features, self.n_classes);
        for &c in cells {
            total.add(&self.cells[c]);
        }
        Ok(total)
    }
}
