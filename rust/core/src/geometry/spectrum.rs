//! Eigenvalues of symmetric matrices.

use faer::{Mat, MatRef, Side};

use crate::error::{Error, Result};
use crate::kernel::parallel::install;

/// Eigenvalues of a symmetric matrix `(d, d)`, row-major, ascending, `(d)`; the lower triangle is read.
///
/// # Errors
/// [`Error::Shape`] if it is not square, [`Error::Numerical`] if a value is not finite or the iteration breaks down.
pub fn eigenvalues(matrix: &[f64], d: usize, n_threads: usize) -> Result<Vec<f64>> {
    check(matrix, d)?;
    install(n_threads, || {
        MatRef::from_row_major_slice(matrix, d, d).self_adjoint_eigenvalues(Side::Lower).map_err(|_| failed())
    })
}

/// Eigenvalues as [`eigenvalues`], and the eigenvectors as columns, `(d, d)` row-major.
///
/// # Errors
/// As [`eigenvalues`].
pub fn eigen(matrix: &[f64], d: usize, n_threads: usize) -> Result<(Vec<f64>, Vec<f64>)> {
    check(matrix, d)?;
    install(n_threads, || {
        let found = MatRef::from_row_major_slice(matrix, d, d)
            .self_adjoint_eigen(Side::Lower)
            .map_err(|_| failed())?;
        let basis: Mat<f64> = found.U().to_owned();
        let vectors = (0..d * d).map(|at| basis[(at / d, at % d)]).collect();
        Ok((found.S().column_vector().iter().copied().collect(), vectors))
    })
}

fn check(matrix: &[f64], d: usize) -> Result<()> {
    if matrix.len() != d * d {
        return Err(Error::Shape {
            what: "number of entries of a square matrix",
            got: matrix.len(),
            expected: d * d,
        });
    }
    if !matrix.iter().all(|v| v.is_finite()) {
        return Err(Error::Numerical(
            "a matrix whose eigenvalues are asked for holds NaN or infinity".into(),
        ));
    }
    Ok(())
}

fn failed() -> Error {
    Error::Numerical("the eigenvalues of a symmetric matrix could not be found".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_is_rebuilt_from_its_eigenvectors() {
        let a = [2.0, -1.0, 0.5, -1.0, 3.0, 0.0, 0.5, 0.0, 1.0];
        let (values, vectors) = eigen(&a, 3, 1).unwrap();
        for i in 0..3 {
            for j in 0..3 {
                let back: f64 = (0..3).map(|e| vectors[i * 3 + e] * values[e] * vectors[j * 3 + e]).sum();
                assert!((back - a[i * 3 + j]).abs() < 1e-14); // a few roundings of float64
            }
        }
        let alone = eigenvalues(&a, 3, 2).unwrap();
        assert!(alone.windows(2).all(|pair| pair[0] <= pair[1]));
        assert!(alone.iter().zip(&values).all(|(a, b)| (a - b).abs() < 1e-14)); // as above
    }

    #[test]
    fn what_has_no_eigenvalues_is_refused() {
        assert!(matches!(eigenvalues(&[1.0, 2.0], 2, 1), Err(Error::Shape { .. })));
        assert!(matches!(eigenvalues(&[f64::NAN], 1, 1), Err(Error::Numerical(_))));
    }
}
