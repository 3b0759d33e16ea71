//! A pass of the logistic objective by the kernels of this CPU.

use super::space::{Collect, HEAVIEST};
use super::sums::{Confusions, SharedGradient};
use crate::control::Control;
use crate::error::Result;
use crate::kernel::parallel::{fold_blocks, fold_runs};
use crate::kernel::{
    Columns, Kernel, Panels, Precision, Residual, RowBuffer, Rows, Work, add_curvature, backward_add_by,
    block_rows, curvature, forward_by, padded, panels_len, row_stride, softmax_residual,
};
use crate::moments::Design;
use crate::rows::Matrix;

/// Sums over the rows of a pass. `r` is softmax(x W + b) − onehot(y), `h` its [`curvature`].
pub(super) struct Sums {
    /// Σ −log p[y].
    pub loss: f64,
    /// Σ entropy of p.
    pub entropy: f64,
    /// Rows whose largest score is not the label's.
    pub errors: u64,
    /// Σ x rᵀ, then Σ r as last row, `(d + 1, k′)`.
    pub gradient: Vec<f64>,
    /// `None` unless asked for.
    pub curvature: Option<Curvature>,
    /// p of the rows or a strided sample of them, `(m, k′)`; empty unless asked for.
    pub sample: Vec<f32>,
}

/// Curvature h of the rows along each class's score; sums, and once divided by the rows, means.
pub(super) struct Curvature {
    /// Of h, `(k′)`.
    pub mass: Vec<f64>,
    /// Of h², `(k′)`.
    pub squares: Vec<f64>,
    /// For each class the true classes whose rows have most of its mass, at most [`HEAVIEST`], and that mass; largest
    /// first.
    pub heaviest: Vec<Vec<(usize, f64)>>,
}

/// The rows a probe is fitted on, and how to go over them.
pub(super) struct KernelPass<'a> {
    pub matrix: &'a Matrix<'a>,
    /// Training rows.
    pub rows: &'a [u32],
    /// Class of each training row among the design's present classes, `(n)`.
    pub targets: Vec<u32>,
    pub design: &'a Design,
    /// Of passes that decide, and of the others.
    pub exact: &'static Kernel,
    pub reduced: &'static Kernel,
    pub n_threads: usize,
    pub control: &'a Control,
}

/// Rows summed in float32 before they are added to the float64 gradient.
const FLUSH_ROWS: usize = 4096;
/// Products that a second moment of the sampled predictions may cost, and their number.
const SAMPLE_PRODUCTS: usize = 1 << 29;
const SAMPLE_VALUES: usize = 1 << 22;
/// Bytes of all float32 sums of a pass: where each thread's own would take more, threads share the rows of a block.
const SUMS_BYTES: usize = 1 << 29;
/// Rows of a block that threads share.
const SHARED_ROWS: usize = 512;

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
    /// Of the intercept, `(k′)`.
    intercept: Vec<f64>,
    pending: usize,
    sums: Residual,
    mass: Vec<f64>,
    squares: Vec<f64>,
    sample: Vec<f32>,
}

/// What the runs of a pass share.
struct Shared {
    gradient: SharedGradient,
    confusions: Option<Confusions>,
}

impl KernelPass<'_> {
    fn n_classes(&self) -> usize {
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
        work: Work,
    ) -> Result<()> {
        let d = self.design.n_features();
        self.control.advance(rows.len())?;
        let stride = row_stride(d);
        let x = &mut block.x[..rows.len() * stride];
        self.matrix.stage(rows, x, stride)?;
        self.design.affine.apply(x, stride);
        let operand = Rows::new(kernel, &block.x, rows.len(), d, stride, &mut block.buffer);
        forward_by(work, kernel, &operand, weights, intercept, &mut block.z);
        Ok(())
    }

    fn combine(&self, runs: Vec<Run>, shared: Shared) -> Sums {
        let (d, k) = (self.design.n_features(), self.n_classes());
        let mut sums = Residual::default();
        let mut intercept = vec![0.0; k];
        let masses = if shared.confusions.is_some() { k } else { 0 };
        let (mut mass, mut squares) = (vec![0.0; masses], vec![0.0; masses]);
        let mut sample = Vec::new();
        for mut run in runs {
            shared.gradient.flush(&mut run.sum, 0);
            sums.loss += run.sums.loss;
            sums.entropy += run.sums.entropy;
            sums.errors += run.sums.errors;
            add(&mut intercept, &run.intercept);
            add(&mut mass, &run.mass);
            add(&mut squares, &run.squares);
            sample.append(&mut run.sample);
        }
        let mut gradient = shared.gradient.into_rows(d, k);
        gradient.extend(intercept);
        Sums {
            loss: sums.loss,
            entropy: sums.entropy,
            errors: sums.errors as u64,
            gradient,
            curvature: shared.confusions.map(|confusions| Curvature {
                mass,
                squares,
                heaviest: confusions.heaviest(k, HEAVIEST),
            }),
            sample,
        }
    }

    /// Whether the reduced kernel rounds its factors.
    pub fn reduces(&self) -> bool {
        self.reduced.precision == Precision::Bf16 && self.exact.precision == Precision::Exact
    }

    /// Sums at `point`, on the threads of the current pool.
    pub fn sums(&self, point: &[f64], collect: Collect, reduced: bool) -> Result<Sums> {
        let kernel = if reduced { self.reduced } else { self.exact };
        let (d, k) = (self.design.n_features(), self.n_classes());
        let (weights, intercept) = self.pack(kernel, point);
        let n_runs = (SUMS_BYTES / (size_of::<f32>() * panels_len(d, k))).clamp(1, self.n_threads.max(1));
        let work = if n_runs < self.n_threads { Work::Spread } else { Work::Here };
        let block = match work {
            Work::Here => block_rows(3 * d + 2 * k),
            Work::Spread => SHARED_ROWS,
        };
        let of_products = (self.rows.len() * k).div_ceil(SAMPLE_PRODUCTS / k);
        let stride = of_products.max((self.rows.len() * k).div_ceil(SAMPLE_VALUES)).max(1);
        let shared = Shared {
            gradient: SharedGradient::new(self.design),
            confusions: collect.curvature.then(|| Confusions::new(k)),
        };
        let masses = if collect.curvature { k } else { 0 };
        let runs = fold_runs(
            self.rows.len(),
            block,
            n_runs,
            || Run {
                block: Block::new(block, d, k),
                columns: Panels::default(),
                residual: Panels::default(),
                sum: vec![0.0; panels_len(d, k)],
                intercept: vec![0.0; k],
                pending: 0,
                sums: Residual::default(),
                mass: vec![0.0; masses],
                squares: vec![0.0; masses],
                sample: Vec::new(),
            },
            |run, range| {
                let (rows, targets) = (&self.rows[range.clone()], &self.targets[range.clone()]);
                self.score(kernel, rows, &weights, &intercept, &mut run.block, work)?;
                let z = &mut run.block.z;
                let sums = softmax_residual(z, targets, k);
                run.sums.loss += sums.loss;
                run.sums.entropy += sums.entropy;
                run.sums.errors += sums.errors;
                run.residual.pack(kernel, z, rows.len(), k, padded(k));
                let (x, shape) = (&run.block.x, (rows.len(), d));
                let columns = Columns::new(kernel, x, shape, row_stride(d), &run.residual, &mut run.columns);
                backward_add_by(work, kernel, &columns, &run.residual, &mut run.sum);
                for (i, (row, &target)) in z.chunks_exact_mut(padded(k)).zip(targets).enumerate() {
                    let row = &mut row[..k];
                    for (g, &r) in run.intercept.iter_mut().zip(row.iter()) {
                        *g += f64::from(r);
                    }
                    if let Some(confusions) = &shared.confusions {
                        add_curvature(row, &mut run.mass, &mut run.squares);
                        confusions.add(target as usize, row, curvature);
                    }
                    if collect.covariance && (range.start + i).is_multiple_of(stride) {
                        row[target as usize] += 1.0; // back to probabilities
                        run.sample.extend_from_slice(row);
                    }
                }
                run.pending += rows.len();
                if run.pending >= FLUSH_ROWS {
                    shared.gradient.flush(&mut run.sum, range.start / block);
                    run.pending = 0;
                }
                Ok(())
            },
        )?;
        Ok(self.combine(runs, shared))
    }

    /// Mean loss on every `stride`-th row for logits `T · (x W + b)`, for each factor `T`.
    pub fn losses_by_factor(&self, point: &[f64], factors: &[f64], stride: usize) -> Result<Vec<f64>> {
        let kernel = self.exact;
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
                self.score(kernel, &rows, &weights, &intercept, block, Work::Here)?;
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
