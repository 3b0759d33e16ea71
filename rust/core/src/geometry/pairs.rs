//! How evenly directions spread over the sphere: a sum over pairs of rows.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;

use super::{BLOCK_ROWS, norm, stage_wide};
use crate::control::Run;
use crate::error::Result;
use crate::kernel::parallel::install;
use crate::rows::Matrix;

/// The mean potential of pairs of rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Potential {
    /// log of the mean; NaN where there is no pair.
    pub log_mean: f64,
    /// Rows that have a direction; all pairs of them were used.
    pub rows: usize,
}

/// log of the mean of exp(−t ‖ẑᵢ − ẑⱼ‖²) over all pairs i < j of `rows`, ẑ = z/‖z‖; rows of zeros are left out.
///
/// ```text
/// ‖ẑᵢ − ẑⱼ‖² = 2 − 2 ẑᵢᵀẑⱼ
/// ```
///
/// Time n²·d, memory n·d float64: for a sample of some thousand rows.
///
/// # Errors
/// [`crate::Error::BadValue`] for NaN or infinity, [`crate::Error::Parameter`] for a row out of range,
/// [`crate::Error::Interrupted`].
///
/// # Accuracy
/// Float64, blocks added in a fixed order: the same bits for any number of threads.
///
/// # References
/// Wang and Isola 2020 (arXiv 2005.10242), uniformity, with t = 2.
pub fn log_potential(matrix: &Matrix<'_>, rows: &[u32], t: f64, run: Run<'_>) -> Result<Potential> {
    matrix.check_in(rows)?;
    let d = matrix.n_features();
    let mut directions = Vec::with_capacity(rows.len() * d);
    let (mut singles, mut wide) = (Vec::new(), Vec::new());
    for ids in rows.chunks(BLOCK_ROWS) {
        run.control.advance(ids.len())?;
        stage_wide(matrix, ids, &mut singles, &mut wide)?;
        for (row, narrow) in wide.chunks_exact(d).zip(singles.chunks_exact(d)) {
            let length = norm(narrow);
            if length > 0.0 {
                directions.extend(row.iter().map(|v| v / length));
            }
        }
    }
    let n = directions.len() / d;
    let blocks: Vec<&[f64]> = directions.chunks(BLOCK_ROWS * d).collect();
    let pairs: Vec<(usize, usize)> = (0..blocks.len()).flat_map(|i| (0..=i).map(move |j| (i, j))).collect();
    let sums: Vec<f64> = install(run.n_threads, || {
        pairs
            .par_iter()
            .map(|&(i, j)| {
                run.control.advance(0)?;
                Ok(potentials(blocks[i], blocks[j], d, t, i == j))
            })
            .collect()
    })?;
    let count = n as f64 * (n as f64 - 1.0) / 2.0;
    let log_mean = if n < 2 { f64::NAN } else { (sums.iter().sum::<f64>() / count).ln() };
    Ok(Potential { log_mean, rows: n })
}

/// Sum over pairs of a row of `a` and a row of `b`; within one block, of those above the diagonal.
fn potentials(a: &[f64], b: &[f64], d: usize, t: f64, same: bool) -> f64 {
    let (n, m) = (a.len() / d, b.len() / d);
    let mut cosines = vec![0.0; n * m]; // column-major (n, m)
    matmul(
        MatMut::from_column_major_slice_mut(&mut cosines, n, m),
        Accum::Replace,
        MatRef::from_row_major_slice(a, n, d),
        MatRef::from_row_major_slice(b, m, d).transpose(),
        1.0,
        Par::Seq,
    );
    let columns = cosines.chunks_exact(n.max(1)).enumerate();
    let of = |(j, column): (usize, &[f64])| {
        let above = if same { &column[..j] } else { column };
        above.iter().map(|&cosine| (2.0 * t * (cosine - 1.0)).exp()).sum::<f64>()
    };
    columns.map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{all, matrix, values};
    use super::*;
    use crate::control::Control;
    use crate::error::Error;

    fn potential(x: &[f32], d: usize, n_threads: usize) -> Potential {
        let run = Run { n_threads, control: &Control::new() };
        log_potential(&matrix(x, d), &all(x.len() / d), 2.0, run).unwrap()
    }

    #[test]
    fn the_potential_is_that_of_the_definition() {
        for (n, d) in [(2, 1), (255, 3), (257, 3), (600, 17)] {
            let mut x = values(n * d, 3);
            if n > 2 {
                x[..d].fill(0.0);
            }
            let rows: Vec<Vec<f64>> = x
                .chunks_exact(d)
                .filter(|row| norm(row) > 0.0)
                .map(|row| row.iter().map(|&v| f64::from(v) / norm(row)).collect())
                .collect();
            let (mut sum, mut pairs) = (0.0, 0.0);
            for i in 0..rows.len() {
                for j in 0..i {
                    let square: f64 = rows[i].iter().zip(&rows[j]).map(|(a, b)| (a - b).powi(2)).sum();
                    sum += (-2.0 * square).exp();
                    pairs += 1.0;
                }
            }
            let found = potential(&x, d, 2);
            assert_eq!((found.rows, found), (rows.len(), potential(&x, d, 1)));
            assert!((found.log_mean - (sum / pairs).ln()).abs() < 1e-12); // float64 in another order
        }
    }

    #[test]
    fn without_a_pair_there_is_no_potential() {
        assert!(potential(&[1.0, 2.0], 2, 1).log_mean.is_nan());
        assert_eq!(potential(&[0.0; 6], 2, 1).rows, 0);
        let run = Run { n_threads: 1, control: &Control::new() };
        let x = [1.0, f32::INFINITY];
        assert!(matches!(
            log_potential(&matrix(&x, 1), &[0, 1], 2.0, run),
            Err(Error::BadValue { row: 1, .. })
        ));
        assert!(matches!(log_potential(&matrix(&x, 1), &[2], 2.0, run), Err(Error::Parameter(_))));
    }
}
