//! Where a fit begins, and what it hands to the next.

use super::Linear;
use super::descent::Solver;
use super::lbfgs::Memory;
use crate::error::Result;
use crate::moments::Design;

/// Where a fit begins.
pub enum Start<'a> {
    /// The linear discriminant of the training rows.
    Discriminant,
    /// A probe fitted on a subset of the training rows.
    Probe(&'a Linear),
    /// Where a fit on the same rows ended, at another penalty.
    Continue(&'a Linear, &'a Continuation),
}

/// What a fit learned of the objective's curvature; for further fits on the same rows. They share its memory.
pub struct Continuation {
    pub(super) memory: Memory,
    pub(super) alpha: f64,
    /// Classes and their shares; steps between other classes mean nothing.
    pub(super) priors: Vec<(usize, f64)>,
}

impl Continuation {
    pub(super) fn new(memory: Memory, alpha: f64, design: &Design) -> Self {
        Self { memory, alpha, priors: present_priors(design) }
    }
}

fn present_priors(design: &Design) -> Vec<(usize, f64)> {
    design.classes.iter().copied().zip(design.priors.iter().copied()).collect()
}

/// Fewest and most steps remembered, and the bytes they may take beyond the fewest: 60 instead of 20 save a
/// sixth of the passes down a path of penalties on a bank of 10 classes, nothing on one of 312.
const MEMORY: (usize, usize) = (20, 60);
const MEMORY_BYTES: usize = 1 << 28;
/// Rows on which the scale of the starting discriminant is searched.
const START_ROWS: usize = 4096;

impl Start<'_> {
    /// The first point `(d + 1, k′)` and what is known of the curvature.
    pub(super) fn prepare(self, solver: &mut Solver<'_>) -> Result<(Vec<f64>, Memory)> {
        let design = solver.problem.design;
        let k = design.classes.len();
        let penalized = design.n_features() * k;
        let pair_bytes = 2 * size_of::<f32>() * (penalized + k);
        let new_memory = || Memory::new((MEMORY_BYTES / pair_bytes).clamp(MEMORY.0, MEMORY.1), penalized);
        let (mut point, memory) = match self {
            Self::Discriminant => (scaled_discriminant(solver)?, new_memory()),
            Self::Probe(probe) => (probe.for_design(design)?, new_memory()),
            Self::Continue(probe, from) => {
                let same = probe.affine == design.affine && from.priors == present_priors(design);
                let mut memory = if same { from.memory.clone() } else { new_memory() };
                memory.add_penalty(solver.problem.alpha - from.alpha);
                (probe.for_design(design)?, memory)
            }
        };
        // softmax does not see it, the penalty does, and the metric has no steps there
        for row in point.chunks_exact_mut(k) {
            let mean = row.iter().sum::<f64>() / row.len() as f64;
            row.iter_mut().for_each(|v| *v -= mean);
        }
        Ok((point, memory))
    }
}

/// The discriminant times the factor that fits a sample of the rows best, loss and penalty together.
fn scaled_discriminant(solver: &mut Solver<'_>) -> Result<Vec<f64>> {
    let problem = solver.problem;
    let mut point = solver.model.discriminant(problem.design);
    let stride = (problem.rows.len() / START_ROWS).max(1);
    let factors: Vec<f64> = (0..12).map(|i| 2.0_f64.powi(1 - i)).collect();
    let losses = problem.losses_by_factor(solver.exact, &point, &factors, stride)?;
    let weights = &point[..point.len() - problem.n_classes()];
    let penalty = 0.5 * problem.alpha * weights.iter().map(|w| w * w).sum::<f64>();
    let value = |i: usize| losses[i] + penalty * factors[i] * factors[i];
    let best = (0..factors.len()).min_by(|&a, &b| value(a).total_cmp(&value(b))).expect("factors");
    point.iter_mut().for_each(|v| *v *= factors[best]);
    solver.passes += 0.5 / stride as f64;
    Ok(point)
}
