//! Ridge probe from the Gram matrix of the rows, for fewer rows than features.

use faer::linalg::solvers::Solve;
use faer::{Mat, MatRef, Side};

use super::ridge::centred_intercept;
use super::{Linear, check_alpha};
use crate::control::Run;
use crate::error::{Error, Result};
use crate::kernel::parallel::install;
use crate::moments::RowScaling;
use crate::rows::TrainingRows;
use crate::scaling::Scaling;

/// Ridge probes for several penalties, fitted on the rows, and how their features are scaled.
///
/// ```text
/// W = Xᵀ A        (X Xᵀ / n + α I) A = (Y − 1πᵀ) / n        X (n, d) scaled and centred, b = π
/// ```
///
/// Costs n² d and n³ / 3 for each penalty, where the primal costs n d² and an eigendecomposition; in float64, so any
/// positive penalty is accepted. Takes 8 n d bytes: not for more rows than features.
///
/// # Errors
/// [`Error::Parameter`] for penalties out of range or fewer than two classes, [`Error::BadValue`] for NaN or infinity,
/// [`Error::Interrupted`].
pub fn solve_ridge_dual(
    training: TrainingRows<'_>,
    scaling: Scaling,
    alphas: &[f64],
    run: Run<'_>,
) -> Result<(Vec<Linear>, RowScaling)> {
    for &alpha in alphas {
        check_alpha(alpha)?;
    }
    let (n, d, n_classes) = (training.len(), training.matrix().n_features(), training.n_classes());
    let mut counts = vec![0_usize; n_classes];
    for &row in training.rows() {
        counts[training.label(row)] += 1;
    }
    let classes: Vec<usize> = (0..n_classes).filter(|&c| counts[c] > 0).collect();
    if classes.len() < 2 {
        return Err(Error::Parameter(format!(
            "a probe needs rows of at least two classes, its training rows have {} of {n_classes}",
            classes.len()
        )));
    }
    run.control.advance(n)?;
    let scaled = RowScaling::new(training.matrix(), training.rows(), scaling)?;
    let x = scaled_rows(training, &scaled)?;
    let x = MatRef::from_row_major_slice(&x, n, d);
    let priors: Vec<f64> = classes.iter().map(|&c| counts[c] as f64 / n as f64).collect();
    let targets = Mat::from_fn(n, classes.len(), |i, c| {
        let own = f64::from(u8::from(training.label(training.rows()[i]) == classes[c]));
        (own - priors[c]) / (n as f64).sqrt()
    });
    let probes = install(run.n_threads, || {
        let gram = x * x.transpose();
        alphas
            .iter()
            .map(|&alpha| {
                run.control.advance(0)?;
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
                let intercept = centred_intercept(&priors, &flat, &scaled.offset);
                Ok(Linear::of_classes(scaled.affine.clone(), &classes, n_classes, &flat, &intercept, 0.0))
            })
            .collect::<Result<_>>()
    })?;
    Ok((probes, scaled))
}

/// Rows in scaled, centred coordinates over √n, `(n, d)`.
fn scaled_rows(training: TrainingRows<'_>, scaled: &RowScaling) -> Result<Vec<f64>> {
    let (n, d) = (training.len(), training.matrix().n_features());
    let factor: Vec<f64> = scaled.affine.scale.iter().map(|&s| f64::from(s) / (n as f64).sqrt()).collect();
    let mut x = Vec::with_capacity(n * d);
    let mut staged = vec![0.0_f32; d];
    for &row in training.rows() {
        training.matrix().stage(&[row], &mut staged, d)?;
        x.extend(staged.iter().zip(&scaled.mean).zip(&factor).map(|((&v, m), f)| (f64::from(v) - m) * f));
    }
    Ok(x)
}
