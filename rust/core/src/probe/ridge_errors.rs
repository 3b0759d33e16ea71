//! Held-out errors of ridge probes at many penalties, for a choice among them.
//!
//! ```text
//! scores(α) = z diag(1/(λ + α)) Uᵀ Xᵀ(Y − 1πᵀ)/n + π        z = ((x − shift) · scale) U
//! ```
//!
//! One product with U serves all penalties, and no penalty's weights are formed.

use crate::control::Control;
use crate::error::Result;
use crate::kernel::parallel::fold_blocks;
use crate::kernel::{
    Panels, Precision, REDUCED_CLASSES, RowBuffer, Rows, choose, forward, padded, row_stride,
};
use crate::moments::{Design, check_rows};
use crate::risk::check_scores;
use crate::rows::Matrix;

use super::RidgeFactor;

/// Rows of a block: each reads all weights of all penalties once.
const BLOCK_ROWS: usize = 256;

/// Rows that the probe of each penalty predicts wrongly; `labels` are indexed by matrix row, `design` is the one
/// that was factored.
///
/// # Errors
/// Those of [`RidgeFactor::solve`] and [`crate::risk::judge`].
///
/// # Accuracy
/// Where the CPU is faster at it and there are 32 classes or more, factors are rounded to bfloat16: near-ties of two
/// classes may fall the other way (measured on 4,000 rows of 1,000 classes: 4 at most, at penalties from the floor on).
#[allow(clippy::too_many_arguments)] // which probes, on which rows, how
pub fn ridge_errors(
    matrix: &Matrix<'_>,
    rows: &[u32],
    labels: &[u32],
    design: &Design,
    factor: &RidgeFactor,
    alphas: &[f64],
    n_threads: usize,
    control: &Control,
) -> Result<Vec<u64>> {
    check_rows(matrix, rows, labels, design.n_classes)?;
    let (d, k) = (design.n_features(), design.classes.len());
    matrix.check_features(d)?;
    let kernel = choose(if k >= REDUCED_CLASSES { Precision::Bf16 } else { Precision::Exact })?;
    let mut basis = Panels::default();
    basis.pack(kernel, &factor.basis(), d, d, d);
    let mut probes = Vec::with_capacity(alphas.len());
    for &alpha in alphas {
        let mut weights = Panels::default();
        weights.pack(kernel, &factor.rotated(design, alpha)?, d, k, k);
        probes.push(weights);
    }
    let (origin, shares) = (vec![0.0; d], design.priors.iter().map(|&p| p as f32).collect::<Vec<f32>>());
    let stride = row_stride(d);
    let runs = fold_blocks(
        rows.len(),
        BLOCK_ROWS,
        n_threads,
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
            let rows = &rows[range];
            control.advance(rows.len())?;
            let used = &mut x[..rows.len() * stride];
            matrix.stage_finite(rows, used, stride)?;
            design.affine.apply(used, stride);
            let operand = Rows::new(kernel, x, rows.len(), d, stride, &mut buffers.0);
            forward(kernel, &operand, &basis, &origin, rotated);
            let operand = Rows::new(kernel, rotated, rows.len(), d, padded(d), &mut buffers.1);
            for (weights, wrong) in probes.iter().zip(wrong) {
                forward(kernel, &operand, weights, &shares, scores);
                for (&row, scores) in rows.iter().zip(scores.chunks_exact(padded(k))) {
                    check_scores(row, &scores[..k])?;
                    let predicted = design.classes[largest(&scores[..k])];
                    *wrong += u64::from(predicted != labels[row as usize] as usize);
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
