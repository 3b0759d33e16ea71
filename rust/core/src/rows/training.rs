//! The rows that a probe is fitted or judged on.

use super::Matrix;
use crate::error::{Error, Result};

/// What every pass relies on: rows and labels in range.
///
/// # Errors
/// [`Error::Shape`], [`Error::Parameter`].
pub fn check_rows(matrix: &Matrix<'_>, rows: &[u32], labels: &[u32], n_classes: usize) -> Result<()> {
    if labels.len() != matrix.n_rows() {
        return Err(Error::Shape { what: "number of labels", got: labels.len(), expected: matrix.n_rows() });
    }
    matrix.check_in(rows)?;
    for &row in rows {
        let label = labels[row as usize];
        if label as usize >= n_classes {
            return Err(Error::Parameter(format!(
                "row {row} has label {label}, there are {n_classes} classes, counted from 0"
            )));
        }
    }
    Ok(())
}
