//! A pass of the logistic objective by the kernels of this CPU.

use rayon::prelude::*;

use super::rounding::Rounding;
use super::space::{Collect, HEAVIEST};
use super::sums::{Confusions, SharedGradient};
use crate::control::Control;
use crate::error::Result;
use crate::kernel::parallel::{fold_blocks, fold_runs};
use crate::kernel::{
    Columns, FEW_CLASSES, Few, FewRows, FixedRows, FixedScores, Kernel, LANES, Lines, Panels, Precision,
    Residual, RowBuffer, Rows, SparseProduct, Work, add_curvature, backward_add_by, block_rows, curvature,
    forward_by, padded, panels_len, row_stride, softmax_residual, softmax_residual_by_class,
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
    /// Of passes that decide, and of those that round, which may be the same.
    pub exact: &'static Kernel,
    pub reduced: &'static Kernel,
    /// Of scores in passes that round: the same as `reduced`, or one of whole numbers.
    pub scores: &'static Kernel,
    pub n_threads: usize,
    pub control: &'a Control,
}

/// Rows summed in float32 before they are added to the float64 gradient, in passes that decide and in rounded ones.
const FLUSH_ROWS: usize = 1 << 12;
const REDUCED_FLUSH_ROWS: usize = 1 << 15;
/// Products that a second moment of the sampled predictions may cost, and their number.
const SAMPLE_PRODUCTS: usize = 1 << 29;
const SAMPLE_VALUES: usize = 1 << 22;
/// Bytes of all float32 sums of a pass: where each thread's own would take more, threads share the rows of a block.
const SUMS_BYTES: usize = 1 << 29;
/// Rows of a block that threads share, and the most of one that few classes read where it lies.
const SHARED_ROWS: usize = 512;
/// Bytes of such a block, which is read twice: a part of the level-2 cache.
const FEW_BYTES: usize = 1 << 18;

/// A block of rows, scaled.
struct Block {
    x: Vec<f32>,
    buffer: RowBuffer,
    fixed: FixedRows,
}

impl Block {
    fn new(rows: usize, d: usize) -> Self {
        Self { x: vec![0.0; rows * row_stride(d)], buffer: RowBuffer::default(), fixed: FixedRows::default() }
    }
}

/// How rows get their scores.
#[derive(Clone, Copy)]
struct Scoring<'a> {
    kernel: &'static Kernel,
    weights: &'a Staged,
    intercept: &'a [f32],
    work: Work,
}

/// A probe as the products want it.
enum Weights {
    /// Of rows that are staged.
    Staged(Staged),
    /// Of few classes, on rows as they lie.
    Few(Few, Lines),
}

/// Weights for rows that are staged.
enum Staged {
    /// For the kernel of the other products.
    Floats(Panels),
    /// For whole numbers.
    Fixed(Box<FixedScores>),
}

/// What a thread has for the products of a block.
enum Products {
    Staged {
        block: Box<Block>,
        /// Scores, then residuals.
        z: Vec<f32>,
        columns: Panels,
        residual: Panels,
        /// Where residuals may be rounded: of the last rows for which that paid.
        sparse: Option<Box<SparseProduct>>,
    },
    /// Scores by class, and the float32 sum of the last rows in the order of [`Few`].
    Few { scores: Vec<f32>, sum: Lines },
}

struct Run {
    products: Products,
    /// Float32 sum of the last rows, in panels.
    sum: Vec<f32>,
    pending: usize,
    kept: Kept,
}

/// What is kept of residuals besides the gradient of the weights.
struct Kept {
    /// Of the intercept, `(k′)`.
    intercept: Vec<f64>,
    sums: Residual,
    mass: Vec<f64>,
    squares: Vec<f64>,
    sample: Vec<f32>,
}

/// What is to be kept of the rows from `first` on.
#[derive(Clone, Copy)]
struct Keep<'a> {
    first: usize,
    /// Rows from one of the sample to the next; `None` without a sample.
    stride: Option<usize>,
    /// `None` without curvature.
    confusions: Option<&'a Confusions>,
}

impl Keep<'_> {
    fn is_sampled(&self, i: usize) -> bool {
        self.stride.is_some_and(|stride| (self.first + i).is_multiple_of(stride))
    }
}

impl Kept {
    fn new(k: usize, curvature: bool) -> Self {
        let masses = if curvature { k } else { 0 };
        Self {
            intercept: vec![0.0; k],
            sums: Residual::default(),
            mass: vec![0.0; masses],
            squares: vec![0.0; masses],
            sample: Vec::new(),
        }
    }

    fn add_sums(&mut self, sums: Residual) {
        self.sums.loss += sums.loss;
        self.sums.entropy += sums.entropy;
        self.sums.errors += sums.errors;
    }

    /// What is kept of rows that come later.
    fn add(&mut self, mut later: Self) {
        self.add_sums(later.sums);
        add(&mut self.intercept, &later.intercept);
        add(&mut self.mass, &later.mass);
        add(&mut self.squares, &later.squares);
        self.sample.append(&mut later.sample);
    }

    /// Rows of residuals every [`padded`]`(k)` floats.
    fn add_by_row(&mut self, z: &mut [f32], targets: &[u32], keep: Keep<'_>) {
        let k = self.intercept.len();
        for (i, (row, &target)) in z.chunks_exact_mut(padded(k)).zip(targets).enumerate() {
            for (g, &r) in self.intercept.iter_mut().zip(row.iter()) {
                *g += f64::from(r);
            }
            if let (Some(confusions), Some(&next)) = (keep.confusions, targets.get(i + 1)) {
                confusions.prefetch(next as usize);
            }
            self.add_row(i, &mut row[..k], target, keep);
        }
    }

    /// The residual of row i and class c at `z[c · stride + i]`.
    fn add_by_class(&mut self, z: &[f32], stride: usize, targets: &[u32], keep: Keep<'_>) {
        let k = self.intercept.len();
        for (g, line) in self.intercept.iter_mut().zip(z.chunks_exact(stride)) {
            *g += line[..targets.len()].iter().map(|&r| f64::from(r)).sum::<f64>();
        }
        if keep.confusions.is_none() && keep.stride.is_none() {
            return;
        }
        let mut buffer = [0.0; FEW_CLASSES];
        for (i, &target) in targets.iter().enumerate() {
            for (out, line) in buffer.iter_mut().zip(z.chunks_exact(stride)) {
                *out = line[i];
            }
            self.add_row(i, &mut buffer[..k], target, keep);
        }
    }

    /// A row of residuals, which is not needed any more.
    fn add_row(&mut self, i: usize, row: &mut [f32], target: u32, keep: Keep<'_>) {
        if let Some(confusions) = keep.confusions {
            add_curvature(row, &mut self.mass, &mut self.squares);
            confusions.add(target as usize, row, curvature);
        }
        if keep.is_sampled(i) {
            row[target as usize] += 1.0; // back to probabilities
            self.sample.extend_from_slice(row);
        }
    }
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

    /// Weights `(d, k)` packed for scores by a kernel, and the intercept.
    fn pack(&self, kernel: &'static Kernel, point: &[f64]) -> (Staged, Vec<f32>) {
        let (d, k) = (self.design.n_features(), self.n_classes());
        let point: Vec<f32> = point.iter().map(|&v| v as f32).collect();
        let (weights, intercept) = point.split_at(d * k);
        let weights = if kernel.precision == Precision::Fixed {
            let deviations: Vec<f32> = self.design.deviations().map(|s| s as f32).collect();
            Staged::Fixed(Box::new(FixedScores::new(kernel, weights, &deviations)))
        } else {
            let mut panels = Panels::default();
            panels.pack(kernel, weights, d, k, k);
            Staged::Floats(panels)
        };
        (weights, intercept.to_vec())
    }

    /// Rows to scaled features, one every [`row_stride`] numbers.
    pub fn stage_scaled(&self, rows: &[u32], x: &mut [f32]) -> Result<()> {
        self.control.advance(rows.len())?;
        let stride = row_stride(self.design.n_features());
        self.matrix.stage(rows, x, stride)?;
        self.design.affine.apply(x, stride);
        Ok(())
    }

    /// Rows to scaled features, which are given back as operands, and their scores `z`.
    fn score<'b>(
        &self,
        scoring: Scoring<'_>,
        rows: &[u32],
        block: &'b mut Block,
        z: &mut [f32],
    ) -> Result<Rows<'b>> {
        let Scoring { kernel, weights, intercept, work } = scoring;
        let d = self.design.n_features();
        let stride = row_stride(d);
        self.stage_scaled(rows, &mut block.x[..rows.len() * stride])?;
        let operand = Rows::new(kernel, &block.x, rows.len(), d, stride, &mut block.buffer);
        match weights {
            Staged::Floats(weights) => forward_by(work, kernel, &operand, weights, intercept, z),
            Staged::Fixed(scores) => {
                scores.forward(work, &block.x, (rows.len(), stride), intercept, &mut block.fixed, z)
            }
        }
        Ok(operand)
    }

    fn combine(&self, runs: Vec<Run>, shared: Shared) -> Sums {
        let (d, k) = (self.design.n_features(), self.n_classes());
        let mut kept = Kept::new(k, shared.confusions.is_some());
        runs.into_iter().for_each(|run| kept.add(run.kept));
        let Kept { intercept, sums, mass, squares, sample } = kept;
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

    /// Bytes of the float32 sum of a thread.
    fn sum_bytes(&self) -> usize {
        size_of::<f32>() * panels_len(self.design.n_features(), self.n_classes())
    }

    /// Threads that have a sum of their own.
    fn n_runs(&self) -> usize {
        (SUMS_BYTES / self.sum_bytes()).clamp(1, self.n_threads.max(1))
    }

    /// Whether small residuals can be rounded: there is a product for what is left, and room for its sum beside the other.
    pub fn rounds_residuals(&self) -> bool {
        SparseProduct::suits(self.reduced) && 2 * self.sum_bytes() * self.n_runs() <= SUMS_BYTES
    }

    /// The probe for products on rows as they lie, where the kernel has them and rows are of one type; else packed.
    fn weights(&self, scores: &'static Kernel, point: &[f64], work: Work) -> (Weights, Vec<f32>) {
        let affine = &self.design.affine;
        let few = Few::new(scores, &affine.shift, &affine.scale, self.n_classes());
        match few {
            Some(few) if work == Work::Here && self.matrix.value_bytes().is_some() => {
                let (weights, intercept) = point.split_at(self.design.n_features() * self.n_classes());
                let weights = few.pack(weights);
                (Weights::Few(few, weights), intercept.iter().map(|&v| v as f32).collect())
            }
            _ => {
                let (weights, intercept) = self.pack(scores, point);
                (Weights::Staged(weights), intercept)
            }
        }
    }

    /// Rows of a block.
    fn block_of(&self, weights: &Weights, work: Work) -> usize {
        let (d, k) = (self.design.n_features(), self.n_classes());
        match (weights, work) {
            (Weights::Staged(_), Work::Here) => block_rows(3 * d + 2 * k),
            (Weights::Staged(_), Work::Spread) => SHARED_ROWS,
            (Weights::Few(..), _) => {
                let bytes = d * self.matrix.value_bytes().unwrap_or(size_of::<f32>());
                (FEW_BYTES / bytes).clamp(2 * LANES, SHARED_ROWS) / LANES * LANES
            }
        }
    }

    /// Sums at `point`, on the threads of the current pool.
    pub fn sums(&self, point: &[f64], collect: Collect, rounding: Rounding) -> Result<Sums> {
        let (kernel, scores, small, flush_rows) = match rounding {
            Rounding::Exact => (self.exact, self.exact, 0.0, FLUSH_ROWS),
            Rounding::Rounded { small } => (self.reduced, self.scores, small, REDUCED_FLUSH_ROWS),
        };
        let (d, k) = (self.design.n_features(), self.n_classes());
        let n_runs = self.n_runs();
        let work = if n_runs < self.n_threads { Work::Spread } else { Work::Here };
        let is_sparse = small > 0.0 && self.rounds_residuals();
        let (weights, intercept) = self.weights(scores, point, work);
        let block = self.block_of(&weights, work);
        let of_products = (self.rows.len() * k).div_ceil(SAMPLE_PRODUCTS / k);
        let stride = of_products.max((self.rows.len() * k).div_ceil(SAMPLE_VALUES)).max(1);
        let shared = Shared {
            gradient: SharedGradient::new(self.design),
            confusions: collect.curvature.then(|| Confusions::new(k)),
        };
        let init = || Run {
            products: match &weights {
                Weights::Staged(_) => Products::Staged {
                    block: Box::new(Block::new(block, d)),
                    z: vec![0.0; block * padded(k)],
                    columns: Panels::default(),
                    residual: Panels::default(),
                    sparse: is_sparse.then(|| Box::new(SparseProduct::new(kernel, d, k))),
                },
                Weights::Few(few, _) => {
                    Products::Few { scores: vec![0.0; FEW_CLASSES * block], sum: few.zeros() }
                }
            },
            sum: vec![0.0; panels_len(d, k)],
            pending: 0,
            kept: Kept::new(k, collect.curvature),
        };
        let flush = |run: &mut Run, from: usize| {
            match (&mut run.products, &weights) {
                (Products::Few { sum, .. }, Weights::Few(few, _)) => few.drain(sum, &mut run.sum),
                (Products::Staged { sparse: Some(sparse), .. }, _) => sparse.drain(&mut run.sum),
                _ => {}
            }
            shared.gradient.flush(&mut run.sum, from);
            run.pending = 0;
        };
        let mut runs = fold_runs(self.rows.len(), block, n_runs, init, |run, range| {
            let (rows, targets) = (&self.rows[range.clone()], &self.targets[range.clone()]);
            let keep = Keep {
                first: range.start,
                stride: collect.covariance.then_some(stride),
                confusions: shared.confusions.as_ref(),
            };
            match (&mut run.products, &weights) {
                (Products::Few { scores, sum }, Weights::Few(few, weights)) => {
                    self.control.advance(rows.len())?;
                    let rows = FewRows::new(self.matrix.values_of(rows)?);
                    few.forward(&rows, weights, scores, block);
                    run.kept.add_sums(softmax_residual_by_class(scores, block, &intercept, targets));
                    few.backward_add(&rows, scores, block, sum);
                    run.kept.add_by_class(scores, block, targets, keep);
                }
                (Products::Staged { block, z, columns, residual, sparse }, Weights::Staged(weights)) => {
                    let scoring = Scoring { kernel, weights, intercept: &intercept, work };
                    let operand = self.score(scoring, rows, block, z)?;
                    run.kept.add_sums(softmax_residual(z, targets, k));
                    let is_few = sparse.as_mut().is_some_and(|sparse| sparse.round(z, rows, small));
                    match sparse {
                        Some(sparse) if is_few => sparse.add(&operand),
                        _ => {
                            residual.pack(kernel, z, rows.len(), k, padded(k));
                            let columns = Columns::new(kernel, &operand, residual, columns);
                            backward_add_by(work, kernel, &columns, residual, &mut run.sum);
                        }
                    }
                    run.kept.add_by_row(z, targets, keep);
                }
                _ => unreachable!("products are made for the weights"),
            }
            run.pending += range.len();
            if run.pending >= flush_rows {
                flush(run, range.start / block);
            }
            Ok(())
        })?;
        runs.par_iter_mut().enumerate().for_each(|(t, run)| flush(run, t));
        Ok(self.combine(runs, shared))
    }

    /// Mean loss on every `stride`-th row for logits `T · (x W + b)`, for each factor `T`.
    pub fn losses_by_factor(&self, point: &[f64], factors: &[f64], stride: usize) -> Result<Vec<f64>> {
        let kernel = self.exact;
        let (d, k) = (self.design.n_features(), self.n_classes());
        let (weights, intercept) = self.pack(kernel, point);
        let scoring = Scoring { kernel, weights: &weights, intercept: &intercept, work: Work::Here };
        let sample: Vec<usize> = (0..self.rows.len()).step_by(stride).collect();
        let block = block_rows(2 * d + 2 * k);
        let runs = fold_blocks(
            sample.len(),
            block,
            self.n_threads,
            || {
                let scores = || vec![0.0; block * padded(k)];
                (Block::new(block, d), scores(), scores(), vec![0.0; factors.len()])
            },
            |(block, z, scaled, losses), range| {
                let rows: Vec<u32> = sample[range.clone()].iter().map(|&i| self.rows[i]).collect();
                let targets: Vec<u32> = sample[range].iter().map(|&i| self.targets[i]).collect();
                self.score(scoring, &rows, block, z)?;
                for (&factor, loss) in factors.iter().zip(losses) {
                    for (s, &v) in scaled.iter_mut().zip(z.iter()) {
                        *s = v * factor as f32;
                    }
                    *loss += softmax_residual(scaled, &targets, k).loss;
                }
                Ok(())
            },
        )?;
        let mut losses = vec![0.0; factors.len()];
        for (.., run) in &runs {
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
