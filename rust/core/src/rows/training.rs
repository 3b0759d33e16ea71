//! The rows that a probe is fitted or judged on.

use super::Matrix;
use crate::error::{Error, Result};

/// Rows of a matrix with their classes, checked once: every row exists and has a label below `n_classes`. Whether
/// features are finite is checked where they are read.
#[derive(Clone, Copy)]
pub struct TrainingRows<'a> {
    matrix: &'a Matrix<'a>,
    rows: &'a [u32],
    labels: &'a [u32],
    n_classes: usize,
}

impl<'a> TrainingRows<'a> {
    /// `rows` of the matrix; `labels` are indexed by matrix row.
    ///
    /// # Errors
    /// [`Error::Shape`] for another number of labels than rows of the matrix, [`Error::Parameter`] for a row or label
    /// out of range.
    pub fn new(matrix: &'a Matrix<'a>, rows: &'a [u32], labels: &'a [u32], n_classes: usize) -> Result<Self> {
        check_rows(matrix, rows, labels, n_classes)?;
        Ok(Self { matrix, rows, labels, n_classes })
    }

    /// Where the rows lie.
    pub fn matrix(&self) -> &'a Matrix<'a> {
        self.matrix
    }

    /// The rows.
    pub fn rows(&self) -> &'a [u32] {
        self.rows
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Class of a row, below [`Self::n_classes`] for those of [`Self::rows`].
    pub fn label(&self, row: u32) -> usize {
        self.labels[row as usize] as usize
    }

    /// Classes of the task.
    pub fn n_classes(&self) -> usize {
        self.n_classes
    }
}

/// What every pass relies on: rows and labels in range.
///
/// # Errors
/// [`Error::Shape`], [`Error::Parameter`].
fn check_rows(matrix: &Matrix<'_>, rows: &[u32], labels: &[u32], n_classes: usize) -> Result<()> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::{Segment, Values};

    #[test]
    fn rows_and_labels_out_of_range_are_named() {
        let x = [0.0_f32; 6];
        let matrix = Matrix::new(2, vec![Segment { values: Values::F32(&x), guard: None }]).unwrap();
        let message = |rows: &[u32], labels: &[u32], k| {
            TrainingRows::new(&matrix, rows, labels, k).map(|_| ()).unwrap_err().to_string()
        };
        assert!(message(&[0], &[0, 1], 2).contains("number of labels has 2, expected 3"));
        assert!(message(&[3], &[0, 1, 0], 2).contains("row 3 of 3"));
        assert!(message(&[0, 1], &[0, 2, 0], 2).contains("row 1 has label 2, there are 2 classes"));
        // rows that nobody asks for may have any label
        let rows = TrainingRows::new(&matrix, &[0, 2], &[0, 9, 1], 2).unwrap();
        assert_eq!((rows.len(), rows.label(2), rows.n_classes(), rows.is_empty()), (2, 1, 2, false));
    }
}
