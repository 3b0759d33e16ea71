//! Products of two representations of the same rows.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

use super::{check_same_rows, stage_wide};
use crate::control::Run;
use crate::error::Result;
use crate::kernel::parallel::install;
use crate::rows::Matrix;

/// Rows that are multiplied at a time.
const BLOCK: usize = 1024;

/// Σ (x − cₓ)(y − c_y)ᵀ over pairs of rows, `(dₓ, d_y)` row-major.
///
/// `rows` and `other_rows` follow each other pair by pair; the shifts `(dₓ)` and `(d_y)` are points near the rows, so
/// that nothing cancels when the means are taken away. Memory dₓ·d_y, whatever the rows and the threads.
///
/// # Errors
/// [`crate::Error::Shape`] for unequal numbers of rows or shifts of another length, [`crate::Error::BadValue`] for NaN
/// or infinity, [`crate::Error::Parameter`] for a row out of range, [`crate::Error::Interrupted`].
///
/// # Accuracy
/// Float64.
pub fn cross_products(
    (x, rows, shift): (&Matrix<'_>, &[u32], &[f64]),
    (y, other_rows, other_shift): (&Matrix<'_>, &[u32], &[f64]),
    run: Run<'_>,
) -> Result<Vec<f64>> {
    let (d, e) = (x.n_features(), y.n_features());
    check_same_rows(other_rows.len(), rows.len())?;
    x.check_features(shift.len())?;
    y.check_features(other_shift.len())?;
    x.check_in(rows)?;
    y.check_in(other_rows)?;
    let mut total = vec![0.0; d * e];
    let (mut singles, mut a, mut b) = (Vec::new(), Vec::new(), Vec::new());
    install(run.n_threads, || {
        for (rows, others) in rows.chunks(BLOCK).zip(other_rows.chunks(BLOCK)) {
            run.control.advance(rows.len())?;
            stage_wide(x, rows, &mut singles, &mut a)?;
            take_away(&mut a, shift);
            stage_wide(y, others, &mut singles, &mut b)?;
            take_away(&mut b, other_shift);
            // the sums are row-major (d, e): seen column-major they are (e, d)
            matmul(
                MatMut::from_column_major_slice_mut(&mut total, e, d),
                Accum::Add,
                MatRef::from_row_major_slice(&b, others.len(), e).transpose(),
                MatRef::from_row_major_slice(&a, rows.len(), d),
                1.0,
                Par::rayon(0),
            );
        }
        Ok(())
    })?;
    Ok(total)
}

fn take_away(rows: &mut [f64], shift: &[f64]) {
    for row in rows.chunks_exact_mut(shift.len()) {
        for (v, c) in row.iter_mut().zip(shift) {
            *v -= c;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{all, matrix, values};
    use super::*;
    use crate::control::Control;
    use crate::error::Error;

    #[test]
    fn products_are_those_of_the_definition() {
        let (n, d, e) = (1500, 5, 3);
        let (x, y) = (values(n * d, 4), values(n * e, 5));
        let (shift, other) = (vec![0.25; d], vec![-0.5; e]);
        let (rows, back): (Vec<u32>, Vec<u32>) = (all(n), all(n).into_iter().rev().collect());
        let run = Run { n_threads: 2, control: &Control::new() };
        let (mx, my) = (matrix(&x, d), matrix(&y, e));
        let found = cross_products((&mx, &rows, &shift), (&my, &back, &other), run).unwrap();
        for i in 0..d {
            for j in 0..e {
                let want: f64 = (0..n)
                    .map(|r| (f64::from(x[r * d + i]) - 0.25) * (f64::from(y[(n - 1 - r) * e + j]) + 0.5))
                    .sum();
                assert!((found[i * e + j] - want).abs() < 1e-10); // 1,500 terms below 1
            }
        }
        let bad = cross_products((&mx, &rows, &shift), (&my, &back[1..], &other), run);
        assert!(matches!(bad, Err(Error::Shape { .. })));
        let bad = cross_products((&mx, &rows, &shift), (&my, &back, &other[1..]), run);
        assert!(matches!(bad, Err(Error::Shape { .. })));
    }
}
