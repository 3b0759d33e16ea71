//! The descent of a logistic fit: L-BFGS steps, bfloat16 first where that is faster, exact passes for what decides.

use super::certificate::gap_bound;
use super::intercept::newton_step;
use super::lbfgs::Memory;
use super::metric::{ClassModel, Metric};
use super::pass::{Collect, Evaluation, Problem};
use super::settings::LogisticSettings;
use super::stop::{Gain, History, Stop, without_decrease};
use crate::error::{Error, Result};
use crate::kernel::{Kernel, Precision};

/// Iterations after which the metric is made again: curvature drops by orders of magnitude early on. And how far the
/// objective must have fallen below what it was at the last metric: where rows are separated, curvature goes on
/// falling with it.
const REFRESH: [usize; 4] = [3, 6, 10, 15];
const FALLEN: f64 = 0.8;
/// Sufficient decrease, and the slack for float32 noise of the objective.
const ARMIJO: f64 = 1e-4;
const NOISE: f64 = 2e-7;
/// Where scores are large sums of terms that cancel, their rounding moves the objective by up to this share of it
/// (features whose deviations span five decades); slopes, in which each row's rounding enters with its own
/// sign, still tell a decrease then. By how much the slope must fall for that.
const CANCELLATION: f64 = 1e-3;
const SLOPE_FALL: f64 = 0.5;
/// How many times the tolerance the bound on the weights' part may be when a step on the intercept is prepared.
const NEAR: f64 = 100.0;
/// Halvings before a line search gives up.
const MAX_HALVINGS: usize = 12;
/// Tolerance that passes in bfloat16 are good for at best: on standardized features their gradients stall at
/// 2e-5 of the objective or above.
const REDUCED_TOL: f64 = 1e-4;
const FRESH: Collect = Collect { curvature: true, covariance: true };

pub(super) struct Solver<'a> {
    pub problem: &'a Problem<'a>,
    pub model: &'a ClassModel,
    pub settings: LogisticSettings,
    /// Of the passes now.
    pub kernel: &'static Kernel,
    /// Of the passes that decide.
    pub exact: &'static Kernel,
    pub passes: f64,
    pub reduced_passes: f64,
}

/// What a line search found.
#[allow(clippy::large_enum_variant)] // one at a time
enum Step {
    To {
        point: Vec<f64>,
        at: Evaluation,
        gain: Gain,
    },
    /// No decrease.
    None,
    /// None within the limit on passes.
    Spent,
}

/// A point reached, and why the descent ended there.
pub(super) struct End {
    pub point: Vec<f64>,
    pub at: Evaluation,
    pub gap: f64,
    pub stop: Stop,
    pub memory: Memory,
}

impl Solver<'_> {
    fn is_reduced(&self) -> bool {
        self.kernel.precision == Precision::Bf16 && self.exact.precision == Precision::Exact
    }

    fn evaluate(&mut self, point: &[f64], collect: Collect) -> Result<Evaluation> {
        self.passes += 1.0;
        if self.is_reduced() {
            self.reduced_passes += 1.0;
        }
        self.problem.evaluate(self.kernel, point, collect)
    }

    /// Go down from `point` until a rule says stop. Rules look at exact passes only: when those in bfloat16 have done
    /// what they can, an exact one at the same point begins the history anew.
    pub fn descend(&mut self, mut point: Vec<f64>, mut memory: Memory) -> Result<End> {
        if self.is_spent() {
            self.kernel = self.exact;
        }
        let mut at = self.evaluate(&point, FRESH)?;
        if !at.objective.is_finite() {
            return Err(Error::Numerical("the objective is not finite at the start".into()));
        }
        let mut metric = metric_at(self.model, &at, self.problem.alpha);
        let mut history = History::new(at.objective, at.train_error);
        let mut fresh_metric = true;
        let mut metric_objective = at.objective;
        let mut iteration = 0;
        loop {
            let tol = if self.is_reduced() { self.settings.tol.max(REDUCED_TOL) } else { self.settings.tol };
            let tolerance = tol * at.objective;
            let gap = gap_bound(self.problem, &point, &at);
            let mut direction = memory.direction(&at.gradient, |v| metric.solve(v));
            let mut slope = dot(&direction, &at.gradient);
            if slope >= 0.0 {
                memory.clear();
                direction = at.gradient.iter().map(|g| -g).collect();
                slope = dot(&direction, &at.gradient);
            }
            let estimate = history.estimated_gap(-0.5 * slope, tol);
            let mut leave = false;
            if self.is_reduced() {
                leave = self.is_spent() || history.leaves_reduced(gap, -0.5 * slope, tolerance);
            } else {
                let stop = if gap <= tolerance {
                    Some(Stop::Certified)
                } else if estimate.is_some_and(|gap| gap <= tolerance) {
                    Some(Stop::Estimated)
                } else if self.is_spent() {
                    Some(Stop::MaxPasses)
                } else {
                    None
                };
                if let Some(stop) = stop {
                    return Ok(End { point, at, gap, stop, memory });
                }
            }
            if !leave {
                iteration += 1;
                // where only the intercept stands between the bound and the tolerance, move it alone
                let weights_gap = self.weights_gap(&at);
                if weights_gap <= tolerance && !at.sample.is_empty() {
                    direction = self.intercept_step(&at);
                }
                let collect = Collect {
                    curvature: REFRESH.contains(&iteration) || at.objective < FALLEN * metric_objective,
                    covariance: weights_gap <= NEAR * tolerance,
                };
                match self.search(&point, &at, &direction, collect)? {
                    Step::To { point: next, at: there, gain } => {
                        memory.push((&next, &point), (&there.gradient, &at.gradient));
                        (point, at) = (next, there);
                        if collect.curvature {
                            metric = metric_at(self.model, &at, self.problem.alpha);
                            metric_objective = at.objective;
                        }
                        fresh_metric = collect.curvature;
                        history.push(&gain, at.objective, at.train_error);
                    }
                    // no decrease along a descent direction: rounding noise, or a metric gone stale
                    Step::None | Step::Spent if self.is_reduced() => leave = true,
                    Step::Spent => return Ok(End { point, at, gap, stop: Stop::MaxPasses, memory }),
                    Step::None if fresh_metric => {
                        let stop = without_decrease(-0.5 * slope, at.objective, tolerance);
                        return Ok(End { point, at, gap, stop, memory });
                    }
                    Step::None => {
                        memory.clear();
                        at = self.evaluate(&point, FRESH)?;
                        metric = metric_at(self.model, &at, self.problem.alpha);
                        fresh_metric = true;
                    }
                }
            }
            if leave {
                self.kernel = self.exact;
                at = self.evaluate(&point, FRESH)?;
                metric = metric_at(self.model, &at, self.problem.alpha);
                fresh_metric = true;
                history = History::new(at.objective, at.train_error);
            }
        }
    }

    /// The bound if the intercept were at its optimum: ‖∇_W F‖² / 2α.
    fn weights_gap(&self, at: &Evaluation) -> f64 {
        let weights = &at.gradient[..at.gradient.len() - self.problem.n_classes()];
        dot(weights, weights) / (2.0 * self.problem.alpha)
    }

    /// Newton step on the intercept alone.
    fn intercept_step(&self, at: &Evaluation) -> Vec<f64> {
        let (weights, gradient) = at.gradient.split_at(at.gradient.len() - self.problem.n_classes());
        let mean: Vec<f64> = gradient.iter().zip(&self.problem.design.priors).map(|(g, p)| g + p).collect();
        let mut direction = vec![0.0; weights.len()];
        direction.extend(newton_step(gradient, &mean, &at.sample));
        direction
    }

    /// Whether the limit on passes leaves none, but for the exact one that ends a fit in bfloat16.
    fn is_spent(&self) -> bool {
        self.passes.floor() + f64::from(u8::from(self.is_reduced())) >= self.settings.max_passes as f64
    }

    /// First point along `direction` with sufficient decrease, step 1 first.
    fn search(
        &mut self,
        point: &[f64],
        at: &Evaluation,
        direction: &[f64],
        collect: Collect,
    ) -> Result<Step> {
        let slope = dot(direction, &at.gradient);
        let mut length = 1.0;
        for _ in 0..MAX_HALVINGS {
            let next: Vec<f64> = point.iter().zip(direction).map(|(p, d)| p + length * d).collect();
            let there = self.evaluate(&next, collect)?;
            let rise = there.objective - at.objective;
            let slope_there = dot(direction, &there.gradient);
            let lower = rise <= ARMIJO * length * slope + NOISE * at.objective.abs();
            // F is convex: where its slope has fallen and is not yet as steep upwards, F is lower
            let lower_by_slopes = !self.is_reduced()
                && rise <= CANCELLATION * at.objective.abs()
                && slope_there.abs() <= SLOPE_FALL * slope.abs();
            if there.objective.is_finite() && (lower || lower_by_slopes) {
                let gain = Gain {
                    measured: -rise,
                    by_slopes: -0.5 * length * (slope + slope_there),
                    promised: -length * (1.0 - 0.5 * length) * slope,
                };
                return Ok(Step::To { point: next, at: there, gain });
            }
            if self.is_spent() {
                return Ok(Step::Spent);
            }
            // minimum of the parabola through both values and the slope, kept within [0.1, 0.5]
            let parabola = -slope * length / (2.0 * (rise - slope * length));
            length *= if parabola.is_finite() { parabola.clamp(0.1, 0.5) } else { 0.1 };
        }
        Ok(Step::None)
    }
}

/// The metric at a point whose evaluation collected curvature.
fn metric_at<'a>(model: &'a ClassModel, at: &Evaluation, alpha: f64) -> Metric<'a> {
    Metric::new(model, at.curvature.as_ref().expect("curvature was asked for"), alpha)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
