//! Means of features: what a scan costs, nothing else computed.

use super::cell::add_into;
use crate::control::Run;
use crate::error::{Error, Result};
use crate::kernel::all_finite;
use crate::kernel::parallel::fold_blocks;
use crate::rows::Matrix;

/// Rows whose features are summed in float32.
const MEAN_ROWS: usize = 256;

/// Mean of each feature over `rows`: one scan, nothing else computed.
///
/// # Errors
/// [`Error::Parameter`] if there are no rows or one is out of range, [`Error::BadValue`] for NaN or infinity,
/// what a segment's guard says, [`Error::Interrupted`].
///
/// # Accuracy
/// Sums of [`MEAN_ROWS`] rows in float32, across them in float64.
pub fn feature_means(matrix: &Matrix<'_>, rows: &[u32], run: Run<'_>) -> Result<Vec<f64>> {
    let d = matrix.n_features();
    if rows.is_empty() {
        return Err(Error::Parameter("no rows to take means of".into()));
    }
    matrix.check_in(rows)?;
    let init = || (vec![0.0_f32; d], vec![0.0_f64; d]);
    let runs = fold_blocks(rows.len(), MEAN_ROWS, run.n_threads, init, |(sums, total), range| {
        let rows = &rows[range];
        run.control.advance(rows.len())?;
        sums.fill(0.0);
        matrix.add_rows(rows, sums)?;
        if all_finite(sums) {
            add_wide(sums, total);
            return Ok(());
        }
        for &row in rows {
            matrix.stage_finite(&[row], sums, d)?;
            add_wide(sums, total); // each is finite, their sum was not
        }
        Ok(())
    })?;
    let mut means = vec![0.0; d];
    for (_, total) in &runs {
        add_into(&mut means, total);
    }
    for mean in &mut means {
        *mean /= rows.len() as f64;
    }
    Ok(means)
}

fn add_wide(sums: &[f32], total: &mut [f64]) {
    for (t, &s) in total.iter_mut().zip(sums) {
        *t += f64::from(s);
    }
}
