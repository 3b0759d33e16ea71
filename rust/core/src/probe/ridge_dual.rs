//! Ridge probe from the Gram matrix of the rows, for fewer rows than features.

use faer::linalg::solvers::Solve;
use faer::{Mat, MatRef, Side};

use super::{Linear, check_alpha};
use crate::control::Control;
use crate::error::{Error, Result};
use crate::kernel::parallel::install;
use crate::moments::{Affine, Scaling, check_rows};
use crate::rows::Matrix;

/// Ridge probes for several penalties, fitted on `rows`; `labels` are indexed by matrix row.
///
/// ```text
/// W = Xᵀ A        (X Xᵀ / n + α I) A = (Y − 1πᵀ) / n        X (n, d) scaled and centred, b = π
/// ```
///
/// Costs n² d and n³ / 3 for each penalty, where the primal costs n d² and an eigendecomposition; in float64, so any
/// positive penalty is accepted. Takes 8 n d bytes: not for more rows than features.
///
/// # Errors
/// [`Error::Parameter`] for labels or penalties out of range or fewer than two classes, [`Error::BadValue`] for NaN or
/// infinity, [`Error::Interrupted`].
#[allow(clippy::too_many_arguments)] // which rows, how, at which penalties
pub fn solve_ridge_dual(
    matrix: &Matrix<'_>,
    rows: &[u32],
    labels: &[u32],
    n_classes: usize,
    scaling: Scaling,
    alphas: &[f64],
    n_threads: usize,
    control: &Control,
) -> Result<Vec<Linear>> {
    for &alpha in alphas {
        check_alpha(alpha)?;
    }
    check_rows(matrix, rows, labels, n_classes)?;
    let (n, d) = (rows.len(), matrix.n_features());
    let mut counts = vec![0_usize; n_classes];
    for &row in rows {
        counts[labels[row as usize] as usize] += 1;
    }
    let classes: Vec<usize> = (0..n_classes).filter(|&c| counts[c] > 0).collect();
    if classes.len() < 2 {
        return Err(Error::Parameter(format!(
            "a probe needs rows of at least two classes, its training rows have {} of {n_classes}",
            classes.len()
        )));
    }
    control.advance(n)?;
    let mut staged = vec![0.0_f32; n * d];
    matrix.stage_finite(rows, &mut staged, d)?;
    let (mut x, affine) = scaled(&staged, d, scaling);
    drop(staged);
    x.iter_mut().for_each(|v| *v /= (n as f64).sqrt());
    let x = MatRef::from_row_major_slice(&x, n, d);
    let priors: Vec<f64> = classes.iter().map(|&c| counts[c] as f64 / n as f64).collect();
    let targets = Mat::from_fn(n, classes.len(), |i, c| {
        let own = f64::from(u8::from(labels[rows[i] as usize] as usize == classes[c]));
        (own - priors[c]) / (n as f64).sqrt()
    });
    install(n_threads, || {
        let gram = x * x.transpose();
        alphas
            .iter()
            .map(|&alpha| {
                control.advance(0)?;
                let mut ridged = gram.clone();
                (0..n).for_each(|i| ridged[(i, i)] += alpha);
                let factor = ridged.llt(Side::Lower).map_err(|_| {
                    Error::Numerical(format!(
                        "factorization of the rows' Gram matrix failed; increase alpha (now {alpha:e})"
                    ))
                })?;
                let weights = x.transpose() * factor.solve(&targets);
                let flat: Vec<f64> =
                    (0..d * classes.len()).map(|i| weights[(i / classes.len(), i % classes.len())]).collect();
                Ok(Linear::of_classes(affine.clone(), &classes, n_classes, &flat, &priors, 0.0))
            })
            .collect()
    })
}

/// Rows `(n, d)` in scaled, centred coordinates, and the way there.
fn scaled(rows: &[f32], d: usize, scaling: Scaling) -> (Vec<f64>, Affine) {
    let n = (rows.len() / d) as f64;
    let mut mean = vec![0.0; d];
    let mut range = vec![(f64::INFINITY, f64::NEG_INFINITY); d];
    for row in rows.chunks_exact(d) {
        for ((m, r), &v) in mean.iter_mut().zip(&mut range).zip(row) {
            *m += f64::from(v) / n;
            *r = (r.0.min(f64::from(v)), r.1.max(f64::from(v)));
        }
    }
    let mut variance = vec![0.0; d];
    for row in rows.chunks_exact(d) {
        for ((s, m), &v) in variance.iter_mut().zip(&mean).zip(row) {
            *s += (f64::from(v) - m).powi(2) / n;
        }
    }
    let scale = scaling.factors(&variance, |j| mean[j], |j| range[j].1 - range[j].0);
    let affine = Affine {
        shift: mean.iter().map(|&m| m as f32).collect(),
        scale: scale.iter().map(|&s| s as f32).collect(),
    };
    let x = rows
        .chunks_exact(d)
        .flat_map(|row| row.iter().zip(&mean).zip(&scale).map(|((&v, m), s)| (f64::from(v) - m) * s))
        .collect();
    (x, affine)
}
