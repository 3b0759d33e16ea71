//! Held-out outcomes of ridge probes at many penalties, for a choice among them.
//!
//! ```text
//! scores(α) = z diag(1/(λ + α)) Uᵀ Xᵀ(Y − 1πᵀ)/n + π        z = ((x − shift) · scale) U
//! ```
//!
//! One product with U serves all penalties, and no penalty's weights are formed. For few penalties Cholesky factors
//! are cheaper: [`Scorer::direct`].

use std::sync::Arc;

use crate::control::Run;
use crate::error::{Error, Result};
use crate::kernel::parallel::fold_blocks;
use crate::kernel::{Kernel, Panels, Precision, RowBuffer, Rows, choose, forward, padded, row_stride};
use crate::moments::Design;
use crate::rows::TrainingRows;

use super::ridge::solve_ridges;
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
    check_judged(judged, factor.design())?;
    let scorer = Scorer::rotated(factor, alphas)?;
    let all: Vec<usize> = (0..alphas.len()).collect();
    let wrong = scorer.wrong(judged, judged.rows(), &all, run)?;
    Ok(wrong.iter().map(|wrong| wrong.iter().filter(|&&wrong| wrong).count() as u64).collect())
}

/// Whether rows can be judged by probes of this design.
///
/// # Errors
/// [`Error::Shape`] for another number of features, or more classes.
pub(super) fn check_judged(judged: TrainingRows<'_>, design: &Design) -> Result<()> {
    if judged.n_classes() > design.n_classes {
        let (got, expected) = (judged.n_classes(), design.n_classes);
        return Err(Error::Shape { what: "number of classes", got, expected });
    }
    judged.matrix().check_features(design.n_features())
}

/// The probes of several penalties on one design, packed for products.
pub(super) struct Scorer<'a> {
    kernel: &'static Kernel,
    design: &'a Design,
    /// What rows are multiplied with first; `None` if the probes take them as they are.
    basis: Option<Panels>,
    /// Weights `(d, k′)` and intercept `(k′)` of each penalty.
    probes: Vec<(Panels, Vec<f32>)>,
}

impl<'a> Scorer<'a> {
    /// Of probes in the eigenbasis.
    ///
    /// # Errors
    /// Those of [`RidgeFactor::solve`].
    pub fn rotated(factor: &'a RidgeFactor, alphas: &[f64]) -> Result<Self> {
        let kernel = choose(Precision::Exact)?;
        let d = factor.design().n_features();
        let mut basis = Panels::default();
        basis.pack(kernel, &factor.basis(), d, d, d);
        let probes = alphas.iter().map(|&alpha| factor.rotated(alpha)).collect::<Result<Vec<_>>>()?;
        Ok(Self::new(kernel, factor.design(), Some(basis), probes))
    }

    /// Of probes in the features' own coordinates, from a Cholesky factor for each penalty.
    ///
    /// # Errors
    /// Those of [`RidgeFactor::solve`].
    pub fn direct(design: &'a Arc<Design>, alphas: &[f64]) -> Result<Self> {
        let kernel = choose(Precision::Exact)?;
        Ok(Self::new(kernel, design, None, solve_ridges(design, alphas)?))
    }

    fn new(
        kernel: &'static Kernel,
        design: &'a Design,
        basis: Option<Panels>,
        probes: Vec<(Vec<f32>, Vec<f32>)>,
    ) -> Self {
        let (d, k) = (design.n_features(), design.classes.len());
        let probes = probes
            .into_iter()
            .map(|(values, intercept)| {
                let mut weights = Panels::default();
                weights.pack(kernel, &values, d, k, k);
                (weights, intercept)
            })
            .collect();
        Self { kernel, design, basis, probes }
    }

    /// For each of the probes `which`, whether it predicts each of `rows`, some of those judged, wrongly.
    ///
    /// # Errors
    /// Those of [`crate::risk::judge`].
    pub fn wrong(
        &self,
        judged: TrainingRows<'_>,
        rows: &[u32],
        which: &[usize],
        run: Run<'_>,
    ) -> Result<Vec<Vec<bool>>> {
        let (d, k) = (self.design.n_features(), self.design.classes.len());
        let (origin, stride) = (vec![0.0; d], row_stride(d));
        let rotated = if self.basis.is_some() { BLOCK_ROWS * padded(d) } else { 0 };
        let runs = fold_blocks(
            rows.len(),
            BLOCK_ROWS,
            run.n_threads,
            || {
                (
                    vec![Vec::new(); which.len()],
                    vec![0.0; BLOCK_ROWS * stride],
                    vec![0.0; rotated],
                    vec![0.0; BLOCK_ROWS * padded(k)],
                    (RowBuffer::default(), RowBuffer::default()),
                )
            },
            |(wrong, x, rotated, scores, buffers), range| {
                let rows = &rows[range];
                run.control.advance(rows.len())?;
                let used = &mut x[..rows.len() * stride];
                judged.matrix().stage_finite(rows, used, stride)?;
                self.design.affine.apply(used, stride);
                let mut operand = Rows::new(self.kernel, x, rows.len(), d, stride, &mut buffers.0);
                if let Some(basis) = &self.basis {
                    forward(self.kernel, &operand, basis, &origin, rotated);
                    operand = Rows::new(self.kernel, rotated, rows.len(), d, padded(d), &mut buffers.1);
                }
                for (&probe, wrong) in which.iter().zip(wrong) {
                    let (weights, intercept) = &self.probes[probe];
                    forward(self.kernel, &operand, weights, intercept, scores);
                    for (&row, scores) in rows.iter().zip(scores.chunks_exact(padded(k))) {
                        check_scores(row, &scores[..k])?;
                        let predicted = self.design.classes[largest(&scores[..k])];
                        wrong.push(predicted != judged.label(row));
                    }
                }
                Ok(())
            },
        )?;
        let mut all = vec![Vec::with_capacity(rows.len()); which.len()];
        for (wrong, ..) in runs {
            all.iter_mut().zip(wrong).for_each(|(all, wrong)| all.extend(wrong));
        }
        Ok(all)
    }
}

/// Index of the largest value, the lowest of equals.
fn largest(values: &[f32]) -> usize {
    let max = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    values.iter().position(|&v| v == max).unwrap_or(0)
}
