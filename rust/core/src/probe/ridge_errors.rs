//! Held-out errors of ridge probes at many penalties, for a choice among them.
//!
//! ```text
//! scores(α) = z diag(1/(λ + α)) Uᵀ Xᵀ(Y − 1πᵀ)/n + π        z = ((x − shift) · scale) U
//! ```
//!
//! One product with U serves all penalties, and no penalty's weights are formed.

use crate::control::Run;
use crate::error::{Error, Result};
use crate::kernel::parallel::fold_blocks;
use crate::kernel::{Panels, Precision, RowBuffer, Rows, choose, forward, padded, row_stride};
use crate::rows::TrainingRows;

use super::{RidgeFactor, check_scores};

/// Rows of a block: each reads all weights of all penalties once.
const BLOCK_ROWS: usize = 256;

/// Rows that the probe of each penalty predicts wrongly.
///
/// # Errors
/// Those of [`RidgeFactor::solve`] and [`crate::risk::judge`].
///
/// # Accuracy
/// Products of float32 factors, always: rounded to bfloat16, 26 of 4,000 rows of correlated features fell the other way
/// at weak penalties, and the choice among penalties with them. Near-ties of two classes, within 1e-6, may fall as
/// the scores in another basis round.
pub fn ridge_errors(
    judged: TrainingRows<'_>,
    factor: &RidgeFactor,
    alphas: &[f64],
    run: Run<'_>,
) -> Result<Vec<u64>> {
    let (matrix, design) = (judged.matrix(), factor.design());
    if judged.n_classes() > design.n_classes {
        let (got, expected) = (judged.n_classes(), design.n_classes);
        return Err(Error::Shape { what: "number of classes", got, expected });
    }
    let (d, k) = (design.n_features(), design.classes.len());
    matrix.check_features(d)?;
    let kernel = choose(Precision::Exact)?;
    let mut basis = Panels::default();
    basis.pack(kernel, &factor.basis(), d, d, d);
    let mut probes = Vec::with_capacity(alphas.len());
    for &alpha in alphas {
        let (values, intercept) = factor.rotated(alpha)?;
        let mut weights = Panels::default();
        weights.pack(kernel, &values, d, k, k);
        probes.push((weights, intercept));
    }
    let origin = vec![0.0; d];
    let stride = row_stride(d);
    let runs = fold_blocks(
        judged.len(),
        BLOCK_ROWS,
        run.n_threads,
        || {
            (
                vec![0; alphas.len()],
                vec![0.0; BLOCK_ROWS * stride],
                vec![0.0; BLOCK_ROWS * padded(d)],
                vec![0.0; BLOCK_ROWS * padded(k)],
                (RowBuffer::default(), RowBuffer::default()),
            )
        },
        |(wrong, x, rotated, scores, buffers), range| {
            let rows = &judged.rows()[range];
            run.control.advance(rows.len())?;
            let used = &mut x[..rows.len() * stride];
            matrix.stage_finite(rows, used, stride)?;
            design.affine.apply(used, stride);
            let operand = Rows::new(kernel, x, rows.len(), d, stride, &mut buffers.0);
            forward(kernel, &operand, &basis, &origin, rotated);
            let operand = Rows::new(kernel, rotated, rows.len(), d, padded(d), &mut buffers.1);
            for ((weights, intercept), wrong) in probes.iter().zip(wrong) {
                forward(kernel, &operand, weights, intercept, scores);
                for (&row, scores) in rows.iter().zip(scores.chunks_exact(padded(k))) {
                    check_scores(row, &scores[..k])?;
                    let predicted = design.classes[largest(&scores[..k])];
                    *wrong += u64::from(predicted != judged.label(row));
                }
            }
            Ok(())
        },
    )?;
    let mut errors = vec![0; alphas.len()];
    for (wrong, ..) in &runs {
        errors.iter_mut().zip(wrong).for_each(|(all, one)| *all += one);
    }
    Ok(errors)
}

/// Index of the largest value, the lowest of equals.
fn largest(values: &[f32]) -> usize {
    let max = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    values.iter().position(|&v| v == max).unwrap_or(0)
}
