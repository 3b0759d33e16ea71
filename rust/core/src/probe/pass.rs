//! One pass of the logistic objective over the training rows: loss, gradient and what rides along.

use crate::control::Control;
use crate::error::Result;
use crate::kernel::parallel::fold_blocks;
use crate::kernel::{
    Columns, Kernel, Panels, Residual, RowBuffer, Rows, add_curvature, backward_add, block_rows, flush,
    forward, padded, panels_len, row_stride, softmax_residual,
};
use crate::moments::Design;
use crate::rows::Matrix;

/// The rows a probe is fitted on, and how to go over them.
pub(super) struct Problem<'a> {
    pub matrix: &'a Matrix<'a>,
    /// Training rows.
    pub rows: &'a [u32],
    /// Class of each training row among the design's present classes, `(n)`.
    pub targets: Vec<u32>,
    pub design: &'a Design,
    pub alpha: f64,
    pub n_threads: usize,
    pub control: &'a Control,
}

/// What a pass may collect besides loss and gradient.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Collect {
    /// Curvature mass by true class, for the metric.
    pub curvature: bool,
    /// Second moment of the predictions, for a Newton step on the intercept.
    pub covariance: bool,
}

/// Parameters are one vector `(d + 1, k′)`: weights, then the intercept as last row.
pub(super) struct Evaluation {
    /// F(W, b).
    pub objective: f64,
    /// (1/n) Σ H(qᵢ).
    pub entropy: f64,
    /// Share of training rows predicted wrongly.
    pub train_error: f64,
    /// Gradient of F, `(d + 1, k′)`.
    pub gradient: Vec<f64>,
    /// `[j, c]` = (1/n) Σ over rows of true class j of the curvature h of class c ([`add_curvature`]); the last
    /// row holds (1/n) Σ h² over all rows; `(k′ + 1, k′)`, empty unless asked for.
    pub curvature: Vec<f64>,
    /// Mean of q qᵀ over the rows or a strided sample of them, `(k′, k′)`; empty unless asked for.
    pub second_moment: Vec<f64>,
}

/// Rows summed in float32 before they are added to the float64 gradient.
const FLUSH_ROWS: usize = 4096;
/// Products that the second moment of the predictions may cost in one pass.
const SECOND_MOMENT_BUDGET: usize = 1 << 29;

/// A block of rows, scaled, and its scores.
struct Block {
    x: Vec<f32>,
    buffer: RowBuffer,
    z: Vec<f32>,
}

impl Block {
    fn new(rows: usize, d: usize, k: usize) -> Self {
        Self {
            x: vec![0.0; rows * row_stride(d)],
            buffer: RowBuffer::default(),
            z: vec![0.0; rows * padded(k)],
        }
    }
}

struct Run {
    block: Block,
    columns: Panels,
    residual: Panels,
    /// Float32 sum of the last rows, padded.
    sum: Vec<f32>,
    gradient: Vec<f64>,
    pending: usize,
    sums: Residual,
    curvature: Vec<f64>,
    second_moment: Vec<f64>,
    sampled: usize,
}

impl Problem<'_> {
    pub fn n_classes(&self) -> usize {
        self.design.classes.len()
    }

    /// Weights `(d, k)` packed, and the intercept.
    fn pack(&self, kernel: &Kernel, point: &[f64]) -> (Panels, Vec<f32>) {
        let (d, k) = (self.design.n_features(), self.n_classes());
        let point: Vec<f32> = point.iter().map(|&v| v as f32).collect();
        let mut weights = Panels::default();
        weights.pack(kernel, &point[..d * k], d, k, k);
        (weights, point[d * k..].to_vec())
    }

    /// Rows to scaled features and their scores.
    fn score(
        &self,
        kernel: &Kernel,
        rows: &[u32],
        weights: &Panels,
        intercept: &[f32],
        block: &mut Block,
    ) -> Result<()> {
        let d = self.design.n_features();
        self.control.advance(rows.len())?;
        let stride = row_stride(d);
        let x = &mut block.x[..rows.len() * stride];
        self.matrix.stage(rows, x, stride)?;
        self.design.affine.apply(x, stride);
        let operand = Rows::new(kernel, &block.x, rows.len(), d, stride, &mut block.buffer);
        forward(kernel, &operand, weights, intercept, &mut block.z);
        Ok(())
    }

    /// Evaluate F and its gradient at `point`.
    pub fn evaluate(&self, kernel: &Kernel, point: &[f64], collect: Collect) -> Result<Evaluation> {
        let (d, k) = (self.design.n_features(), self.n_classes());
        let (weights, intercept) = self.pack(kernel, point);
        let block = block_rows(3 * d + 2 * k);
        let stride = (self.rows.len() * k * k).div_ceil(SECOND_MOMENT_BUDGET).max(1);
        let runs = fold_blocks(
            self.rows.len(),
            block,
            self.n_threads,
            || Run {
                block: Block::new(block, d, k),
                columns: Panels::default(),
                residual: Panels::default(),
                sum: vec![0.0; panels_len(d, k)],
                gradient: vec![0.0; (d + 1) * k],
                pending: 0,
                sums: Residual::default(),
                curvature: vec![0.0; if collect.curvature { (k + 1) * k } else { 0 }],
                second_moment: vec![0.0; if collect.covariance { k * k } else { 0 }],
                sampled: 0,
            },
            |run, range| {
                let (rows, targets) = (&self.rows[range.clone()], &self.targets[range.clone()]);
                self.score(kernel, rows, &weights, &intercept, &mut run.block)?;
                let z = &mut run.block.z;
                let sums = softmax_residual(z, targets, k);
                run.sums.loss += sums.loss;
                run.sums.entropy += sums.entropy;
                run.sums.errors += sums.errors;
                run.residual.pack(kernel, z, rows.len(), k, padded(k));
                let (x, shape) = (&run.block.x, (rows.len(), d));
                let columns = Columns::new(kernel, x, shape, row_stride(d), &run.residual, &mut run.columns);
                backward_add(kernel, &columns, &run.residual, &mut run.sum);
                for (i, (row, &target)) in z.chunks_exact_mut(padded(k)).zip(targets).enumerate() {
                    let row = &mut row[..k];
                    for (g, &r) in run.gradient[d * k..].iter_mut().zip(row.iter()) {
                        *g += f64::from(r);
                    }
                    if collect.curvature {
                        let (by_class, squares) = run.curvature.split_at_mut(k * k);
                        add_curvature(row, &mut by_class[target as usize * k..][..k], squares);
                    }
                    if collect.covariance && (range.start + i).is_multiple_of(stride) {
                        row[target as usize] += 1.0; // back to probabilities
                        run.sampled += 1;
                        for (c, &p) in row.iter().enumerate() {
                            let line = &mut run.second_moment[c * k..][..k];
                            for (m, &q) in line.iter_mut().zip(row.iter()) {
                                *m += f64::from(p * q);
                            }
                        }
                    }
                }
                run.pending += rows.len();
                if run.pending >= FLUSH_ROWS {
                    flush(&mut run.sum, &mut run.gradient[..d * k], k);
                    run.pending = 0;
                }
                Ok(())
            },
        )?;
        Ok(self.combine(point, runs))
    }

    fn combine(&self, point: &[f64], runs: Vec<Run>) -> Evaluation {
        let (d, k) = (self.design.n_features(), self.n_classes());
        let inv_n = 1.0 / self.rows.len() as f64;
        let mut sums = Residual::default();
        let mut sampled = 0;
        let mut total: Option<Run> = None;
        for mut run in runs {
            flush(&mut run.sum, &mut run.gradient[..d * k], k);
            sums.loss += run.sums.loss;
            sums.entropy += run.sums.entropy;
            sums.errors += run.sums.errors;
            sampled += run.sampled;
            match &mut total {
                None => total = Some(run),
                Some(first) => {
                    add(&mut first.gradient, &run.gradient);
                    add(&mut first.curvature, &run.curvature);
                    add(&mut first.second_moment, &run.second_moment);
                }
            }
        }
        let mut total = total.expect("fold_blocks gives at least one run");
        for v in total.gradient.iter_mut().chain(&mut total.curvature) {
            *v *= inv_n;
        }
        for v in &mut total.second_moment {
            *v /= sampled.max(1) as f64;
        }
        let weights = &point[..d * k];
        for (g, &w) in total.gradient.iter_mut().zip(weights) {
            *g += self.alpha * w;
        }
        let penalty = 0.5 * self.alpha * weights.iter().map(|w| w * w).sum::<f64>();
        Evaluation {
            objective: sums.loss * inv_n + penalty,
            entropy: sums.entropy * inv_n,
            train_error: sums.errors as f64 * inv_n,
            gradient: total.gradient,
            curvature: total.curvature,
            second_moment: total.second_moment,
        }
    }

    /// Mean loss on every `stride`-th row for logits `T · (x W + b)`, for each factor `T`.
    pub fn losses_by_factor(
        &self,
        kernel: &Kernel,
        point: &[f64],
        factors: &[f64],
        stride: usize,
    ) -> Result<Vec<f64>> {
        let (d, k) = (self.design.n_features(), self.n_classes());
        let (weights, intercept) = self.pack(kernel, point);
        let sample: Vec<usize> = (0..self.rows.len()).step_by(stride).collect();
        let block = block_rows(2 * d + 2 * k);
        let runs = fold_blocks(
            sample.len(),
            block,
            self.n_threads,
            || (Block::new(block, d, k), vec![0.0; block * padded(k)], vec![0.0; factors.len()]),
            |(block, scaled, losses), range| {
                let rows: Vec<u32> = sample[range.clone()].iter().map(|&i| self.rows[i]).collect();
                let targets: Vec<u32> = sample[range].iter().map(|&i| self.targets[i]).collect();
                self.score(kernel, &rows, &weights, &intercept, block)?;
                for (&factor, loss) in factors.iter().zip(losses) {
                    for (s, &v) in scaled.iter_mut().zip(&block.z) {
                        *s = v * factor as f32;
                    }
                    *loss += softmax_residual(scaled, &targets, k).loss;
                }
                Ok(())
            },
        )?;
        let mut losses = vec![0.0; factors.len()];
        for (_, _, run) in &runs {
            add(&mut losses, run);
        }
        Ok(losses.into_iter().map(|l| l / sample.len().max(1) as f64).collect())
    }
}

fn add(a: &mut [f64], b: &[f64]) {
    for (a, &b) in a.iter_mut().zip(b) {
        *a += b;
    }
}
