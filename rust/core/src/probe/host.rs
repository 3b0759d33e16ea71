//! Fits on this CPU: vectors of float64, rows by its kernels.

use super::lbfgs::Memory;
use super::metric::{ClassModel, Metric};
use super::pass::{Curvature, KernelPass};
use super::rounding::Rounding;
use super::row_metric::RowMetric;
use super::space::{Collect, Evaluation, EvaluationIn, Space};
use super::vectors::{dot_f64, scale_and_add, sum_with_multiple};
use crate::error::Result;
use crate::moments::Design;

/// Fewest and most steps remembered, and the bytes they may take beyond the fewest: 60 instead of 20 save a
/// sixth of the passes down a path of penalties on a bank of 10 classes, nothing on one of 312.
const MEMORY: (usize, usize) = (20, 60);
const MEMORY_BYTES: usize = 1 << 28;
/// Few rows: a step remembered costs as much as going over some 30 rows, so that there are no more than pay, nor fewer
/// than this.
const ROWS_A_STEP: usize = 32;
const FEWEST_STEPS: usize = 10;
/// Features gone over at a time: a cache line of means, which lie by class, and that many rows of the gradient.
const FEATURES: usize = 8;

/// The space of a fit on this CPU.
pub(super) struct Host<'a> {
    pub pass: KernelPass<'a>,
    pub model: &'a ClassModel,
    /// Whether there are passes that round.
    pub reduces: bool,
}

/// A metric of the class model, or of the rows themselves.
pub(super) enum HostMetric<'a> {
    OfClasses(Metric<'a>),
    OfRows(RowMetric),
}

impl Host<'_> {
    fn design(&self) -> &Design {
        self.model.design()
    }

    /// Number of weights: the first entries of a vector.
    fn n_weights(&self) -> usize {
        self.design().n_features() * self.design().classes.len()
    }
}

impl<'a> Space for Host<'a> {
    type Vector = Vec<f64>;
    type Curvature = Curvature;
    type Metric = HostMetric<'a>;
    type Memory = Memory;

    fn n_rows(&self) -> usize {
        self.pass.rows.len()
    }

    fn reduces(&self) -> bool {
        self.reduces
    }

    fn rounds_residuals(&self) -> bool {
        self.pass.rounds_residuals()
    }

    fn kernel(&self, reduced: bool) -> &str {
        if reduced { self.pass.scores.name } else { self.pass.exact.name }
    }

    fn discriminant(&self) -> Result<Vec<f64>> {
        Ok(self.model.discriminant())
    }

    fn vector(&self, values: Vec<f64>) -> Result<Vec<f64>> {
        Ok(values)
    }

    fn values(&self, v: &Vec<f64>) -> Result<Vec<f64>> {
        Ok(v.clone())
    }

    fn weights_square(&self, point: &Vec<f64>) -> Result<f64> {
        Ok(square(&point[..self.n_weights()]))
    }

    fn centred(&self, mut v: Vec<f64>) -> Result<Vec<f64>> {
        for row in v.chunks_exact_mut(self.design().classes.len()) {
            let mean = row.iter().sum::<f64>() / row.len() as f64;
            row.iter_mut().for_each(|v| *v -= mean);
        }
        Ok(v)
    }

    fn step(&self, point: &Vec<f64>, length: f64, direction: &Vec<f64>) -> Result<Vec<f64>> {
        Ok(sum_with_multiple(point, length, direction))
    }

    fn scaled(&self, factor: f64, v: &Vec<f64>) -> Result<Vec<f64>> {
        Ok(v.iter().map(|v| factor * v).collect())
    }

    fn intercept_only(&self, intercept: Vec<f64>) -> Result<Vec<f64>> {
        let mut v = vec![0.0; self.n_weights()];
        v.extend(intercept);
        Ok(v)
    }

    fn dot(&self, a: &Vec<f64>, b: &Vec<f64>) -> Result<f64> {
        Ok(dot_f64(a, b))
    }

    fn losses_by_factor(&self, point: &Vec<f64>, factors: &[f64], stride: usize) -> Result<Vec<f64>> {
        self.pass.losses_by_factor(point, factors, stride)
    }

    fn evaluate(
        &self,
        point: &Vec<f64>,
        alpha: f64,
        collect: Collect,
        rounding: Rounding,
    ) -> Result<EvaluationIn<Self>> {
        let sums = self.pass.sums(point, collect, rounding)?;
        let inv_n = 1.0 / self.design().n as f64;
        let weights = &point[..self.n_weights()];
        let mut gradient = sums.gradient;
        scale_and_add(&mut gradient[..weights.len()], inv_n, alpha, weights);
        gradient[weights.len()..].iter_mut().for_each(|g| *g *= inv_n);
        let curvature = sums.curvature.map(|mut curvature| {
            curvature.mass.iter_mut().chain(&mut curvature.squares).for_each(|v| *v *= inv_n);
            curvature.heaviest.iter_mut().flatten().for_each(|(_, v)| *v *= inv_n);
            curvature
        });
        let (of_weights, excess) = gradient.split_at(weights.len());
        Ok(Evaluation {
            objective: sums.loss * inv_n + 0.5 * alpha * square(weights),
            entropy: sums.entropy * inv_n,
            train_error: sums.errors as f64 * inv_n,
            weights_square: square(of_weights),
            excess: excess.to_vec(),
            gradient,
            curvature,
            sample: sums.sample,
        })
    }

    fn dual_square(
        &self,
        point: &Vec<f64>,
        gradient: &Vec<f64>,
        excess: &[f64],
        epsilon: f64,
        alpha: f64,
    ) -> Result<f64> {
        let design = self.design();
        let (d, k) = (design.n_features(), design.classes.len());
        let (priors, means, offset) = (&design.priors, &design.means, &design.offset);
        let mut total = 0.0;
        let mut values = vec![0.0; k];
        let mut of_features = vec![0.0; FEATURES * k]; // their class means, which lie by class
        for first in (0..d).step_by(FEATURES) {
            let width = FEATURES.min(d - first);
            for (c, means) in means.chunks_exact(d).enumerate() {
                for (j, mean) in means[first..first + width].iter().enumerate() {
                    of_features[j * k + c] = *mean;
                }
            }
            for (j, means) in (first..first + width).zip(of_features.chunks_exact(k)) {
                let row = j * k..(j + 1) * k;
                let classes = priors.iter().zip(means).zip(excess);
                let parameters = gradient[row.clone()].iter().zip(&point[row]);
                for ((v, ((prior, mean), excess)), (g, w)) in values.iter_mut().zip(classes).zip(parameters) {
                    // (XᵀQ − XᵀY)/n = g − αW; ε (π − t) = (1−ε) (q̄ − π), which meets the rows' mean
                    *v = epsilon * prior * mean + (1.0 - epsilon) * (offset[j] * excess - (g - alpha * w));
                }
                total += square(&values);
            }
        }
        Ok(total)
    }

    fn metric(&self, curvature: &Curvature, alpha: f64) -> Result<HostMetric<'a>> {
        Ok(HostMetric::OfClasses(Metric::new(self.model, curvature, alpha)))
    }

    fn row_metric_cost(&self) -> f64 {
        RowMetric::cost(self.n_rows(), self.design().n_features(), self.design().classes.len())
    }

    fn row_metric(&self, point: &Vec<f64>, alpha: f64) -> Result<Option<HostMetric<'a>>> {
        Ok(RowMetric::new(&self.pass, point, alpha)?.map(HostMetric::OfRows))
    }

    fn memory(&self) -> Result<Memory> {
        let pair_bytes = 2 * size_of::<f32>() * (self.n_weights() + self.design().classes.len());
        let capacity = (MEMORY_BYTES / pair_bytes).clamp(MEMORY.0, MEMORY.1);
        let capacity = capacity.min(self.n_rows() / ROWS_A_STEP).max(FEWEST_STEPS);
        Ok(Memory::new(capacity, self.n_weights()))
    }

    fn remember(
        &self,
        memory: &mut Memory,
        points: (&Vec<f64>, &Vec<f64>),
        gradients: (&Vec<f64>, &Vec<f64>),
    ) -> Result<()> {
        memory.push((points.0, points.1), (gradients.0, gradients.1));
        Ok(())
    }

    fn forget(&self, memory: &mut Memory) -> Result<()> {
        memory.clear();
        Ok(())
    }

    fn add_penalty(&self, memory: &mut Memory, by: f64) -> Result<()> {
        memory.add_penalty(by);
        Ok(())
    }

    fn direction(&self, memory: &Memory, gradient: &Vec<f64>, metric: &HostMetric<'a>) -> Result<Vec<f64>> {
        Ok(match metric {
            HostMetric::OfClasses(metric) => {
                memory.direction(gradient, |v| metric.solve(v), |v| metric.norm_square(v))
            }
            HostMetric::OfRows(metric) => {
                memory.direction(gradient, |v| metric.solve(v), |v| metric.norm_square(v))
            }
        })
    }
}

fn square(v: &[f64]) -> f64 {
    dot_f64(v, v)
}
