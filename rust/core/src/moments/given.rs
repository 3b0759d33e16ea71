//! Sums over rows that were taken elsewhere: on another device, or by another program.

use rayon::prelude::*;

use super::file::MAX_ROWS;
use super::{Moments, Sums};
use crate::error::{Error, Result};
use crate::kernel::LANES;

/// Sums over the rows of one cell, about the shift c of the [`Moments`] they are added to.
#[derive(Debug, Clone, Copy)]
pub struct CellSums<'a> {
    /// Rows of each class, `(k)`.
    pub counts: &'a [u64],
    /// Σ (x − c) by class, `(k, d)`.
    pub sums: &'a [f64],
    /// Least x − c, `(d)`.
    pub least: &'a [f32],
    /// Largest x − c, `(d)`.
    pub largest: &'a [f32],
    /// Σ (x−c)(x−c)ᵀ, `(d, d)`; the lower triangle is used.
    pub gram: &'a [f64],
}

impl Moments {
    /// Add sums to a cell, on the threads of the current pool; `how` says how the products behind `gram` were summed.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::Parameter`] for a cell that does not exist, counts that cannot be added or values
    /// that are not finite. The moments are unchanged after an error.
    pub fn add_sums(&mut self, cell: usize, given: CellSums<'_>, how: Sums) -> Result<()> {
        let (d, k, n_cells) = (self.n_features, self.n_classes, self.cells.len());
        for (what, got, expected) in [
            ("number of counts by class", given.counts.len(), k),
            ("number of sums by class and feature", given.sums.len(), k * d),
            ("number of least values", given.least.len(), d),
            ("number of largest values", given.largest.len(), d),
            ("number of products of features", given.gram.len(), d * d),
        ] {
            if got != expected {
                return Err(Error::Shape { what, got, expected });
            }
        }
        let own = self
            .cells
            .get_mut(cell)
            .ok_or_else(|| Error::Parameter(format!("cell {cell} of {n_cells} does not exist")))?;
        let rows = given.counts.iter().chain(&own.counts).try_fold(0_u64, |rows, &n| rows.checked_add(n));
        if rows.is_none_or(|rows| rows > MAX_ROWS) {
            return Err(Error::Parameter("there are more rows than can be counted".into()));
        }
        if given.counts.iter().all(|&n| n == 0) {
            return Ok(());
        }
        let singles = given.least.iter().chain(given.largest).all(|v| v.is_finite());
        if !singles || ![given.sums, given.gram].par_iter().all(|v| v.par_iter().all(|v| v.is_finite())) {
            return Err(Error::Parameter("sums of rows must be finite".into()));
        }
        for (own, &given) in own.counts.iter_mut().zip(given.counts) {
            *own += given;
        }
        own.sums.par_chunks_exact_mut(k * LANES).enumerate().for_each(|(panel, own)| {
            let columns = panel * LANES..((panel + 1) * LANES).min(d);
            for (own, given) in own.chunks_exact_mut(LANES).zip(given.sums.chunks_exact(d)) {
                own.iter_mut().zip(&given[columns.clone()]).for_each(|(a, b)| *a += b);
            }
        });
        for (j, (&least, &largest)) in given.least.iter().zip(given.largest).enumerate() {
            let at = j / LANES * 2 * LANES + j % LANES;
            own.ranges[at] = own.ranges[at].min(least);
            own.ranges[at + LANES] = own.ranges[at + LANES].max(largest);
        }
        own.gram.add_full(given.gram);
        self.sums = self.sums.max(how);
        Ok(())
    }
}
