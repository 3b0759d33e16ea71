//! Multinomial logistic probe: streaming L-BFGS in a class-curvature metric, stopped by a certificate.
//!
//! Start: linear discriminant at its best scale, a given probe, or where a fit on the same rows ended, with
//! what it learned of the curvature. Each iteration is one pass over the rows ([`super::pass`]); the metric
//! ([`super::metric`]) is refreshed a few times early on. Where the CPU multiplies bfloat16 faster, passes
//! round their factors to it until the tolerance seems reached; the passes that decide are exact.
//!
//! The fit stops when the bound of [`super::certificate`] is below the tolerance ("certified"), or, where a
//! weak penalty makes every strict bound loose, when objective and training error stand still ("estimated").

use faer::linalg::solvers::Solve;
use faer::{Mat, Side};

use super::certificate::gap_bound;
use super::lbfgs::Memory;
use super::metric::{ClassModel, Metric};
use super::pass::{Collect, Evaluation, Problem};
use super::{ABSENT_SCORE, Linear, check_alpha};
use crate::control::Control;
use crate::error::{Error, Result};
use crate::kernel::parallel::install;
use crate::kernel::{Kernel, Precision, REDUCED_CLASSES, choose};
use crate::moments::{Design, check_rows};
use crate::rows::Matrix;

/// Settings of [`fit_logistic`].
#[derive(Debug, Clone, Copy)]
pub struct LogisticSettings {
    /// Penalty on the mean loss.
    pub alpha: f64,
    /// Relative suboptimality to reach, `(F − min F) / F`.
    pub tol: f64,
    /// Passes over the training rows at most; an exact one must follow those in bfloat16.
    pub max_passes: usize,
    /// Whether iterations may round their factors to bfloat16. What is returned never rests on them.
    pub reduced: bool,
    /// Threads.
    pub n_threads: usize,
}

/// Where a fit begins.
pub enum Start<'a> {
    /// The linear discriminant of the training rows.
    Discriminant,
    /// A probe fitted on a subset of the training rows.
    Probe(&'a Linear),
    /// Where a fit on the same rows ended, at another penalty.
    Continue(&'a Linear, Continuation),
}

/// What a fit learned of the objective's curvature; for the next fit on the same rows.
pub struct Continuation {
    memory: Memory,
    alpha: f64,
    /// Classes and their shares; steps between other classes mean nothing.
    priors: Vec<(usize, f64)>,
}

fn present_priors(design: &Design) -> Vec<(usize, f64)> {
    design.classes.iter().copied().zip(design.priors.iter().copied()).collect()
}

/// Which rule ended a fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The bound on the suboptimality is below the tolerance.
    Certified,
    /// Objective and training error no longer move; the bound is too loose to say more.
    Estimated,
    /// The limit on passes.
    MaxPasses,
}

impl Stop {
    /// The word used in records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Certified => "certified",
            Self::Estimated => "estimated",
            Self::MaxPasses => "max_passes",
        }
    }
}

/// A fitted logistic probe and how good it is.
pub struct Fit {
    /// The probe.
    pub probe: Linear,
    /// Its objective F(W, b).
    pub objective: f64,
    /// Upper bound on `(F − min F) / F`.
    pub gap: f64,
    /// The rule that ended the fit.
    pub stop: Stop,
    /// Passes over the training rows; the search for a start counts as its fraction.
    pub passes: f64,
    /// Those of them whose factors were rounded to bfloat16.
    pub reduced_passes: f64,
    /// 0-1 error on the training rows.
    pub train_error: f64,
    /// For the next fit on the same rows.
    pub continuation: Continuation,
}

impl Fit {
    /// Whether the tolerance was reached, by either rule.
    pub fn converged(&self) -> bool {
        self.stop != Stop::MaxPasses
    }
}

/// Fewest and most steps remembered, and the bytes they may take beyond the fewest: 60 instead of 20 save a
/// sixth of the passes down a path of penalties on a bank of 10 classes, nothing on one of 312.
const MEMORY: (usize, usize) = (20, 60);
const MEMORY_BYTES: usize = 1 << 28;
/// Iterations after which the metric is made again: curvature drops by orders of magnitude early on.
const REFRESH: [usize; 4] = [3, 6, 10, 15];
/// Sufficient decrease, and the slack for float32 noise of the objective.
const ARMIJO: f64 = 1e-4;
const NOISE: f64 = 2e-7;
/// The "estimated" rule: how much the Newton decrement in the metric is below the true gap (measured: 1.3 to 4
/// at tuned penalties, 10 at 1e-5), the last steps it looks at, one by one and in two spans, and the movement of
/// the training error over the last steps that counts as none (0.05 percentage points; as many times more as the
/// tolerance is above 1e-3). Gains fall more slowly than a geometric series, so its sum is doubled.
const DECREMENT_FACTOR: f64 = 4.0;
const SERIES_FACTOR: f64 = 2.0;
const WINDOW: usize = 3;
const SPAN: usize = 5;
const STILL: f64 = 5e-4;
/// How many times the tolerance the bound on the weights' part may be when a step on the intercept is prepared.
const NEAR: f64 = 100.0;
/// Halvings before a line search gives up.
const MAX_HALVINGS: usize = 12;
/// Rows on which the scale of the starting discriminant is searched.
const START_ROWS: usize = 4096;

/// Tolerance that passes in bfloat16 are trusted with: on standardized features their gradients stall at
/// 2e-5 of the objective.
const REDUCED_TOL: f64 = 1e-4;

/// Fit a probe on `rows`, whose statistics `design` and `model` hold; `labels` are indexed by matrix row.
///
/// # Errors
/// [`Error::Parameter`] for settings out of range or a design of other rows, [`Error::Interrupted`],
/// [`Error::Numerical`] if the objective is not finite. Reaching `max_passes` is no error.
#[allow(clippy::too_many_arguments)] // what, on which rows, from where, how
pub fn fit_logistic(
    matrix: &Matrix<'_>,
    rows: &[u32],
    labels: &[u32],
    design: &Design,
    model: &ClassModel,
    start: Start<'_>,
    settings: LogisticSettings,
    control: &Control,
) -> Result<Fit> {
    check_alpha(settings.alpha)?;
    if settings.tol.is_nan() || settings.tol <= 0.0 {
        return Err(Error::Parameter(format!("tol must be positive, got {}", settings.tol)));
    }
    check_rows(matrix, rows, labels, design.n_classes)?;
    matrix.check_features(design.n_features())?;
    if design.n != rows.len() {
        return Err(Error::Shape { what: "number of rows", got: rows.len(), expected: design.n });
    }
    let mut present = vec![u32::MAX; design.n_classes];
    for (c, &class) in design.classes.iter().enumerate() {
        present[class] = c as u32;
    }
    let targets: Vec<u32> = rows.iter().map(|&row| present[labels[row as usize] as usize]).collect();
    let mut counts = vec![0_usize; design.classes.len()];
    for &class in &targets {
        if let Some(count) = counts.get_mut(class as usize) {
            *count += 1; // a class that the design lacks leaves the counts short
        }
    }
    let expected = design.priors.iter().map(|&share| (share * design.n as f64).round() as usize);
    if !counts.iter().copied().eq(expected) {
        return Err(Error::Parameter(
            "the design is of other rows: their classes differ from those of these".into(),
        ));
    }
    let exact = choose(Precision::Exact)?;
    let reduced = settings.reduced && design.classes.len() >= REDUCED_CLASSES;
    let problem = Problem {
        matrix,
        rows,
        targets,
        design,
        alpha: settings.alpha,
        n_threads: settings.n_threads,
        control,
    };
    let kernel = if reduced { choose(Precision::Bf16)? } else { exact };
    let mut solver =
        Solver { problem: &problem, model, settings, kernel, exact, passes: 0.0, reduced_passes: 0.0 };
    let pair_bytes = 2 * size_of::<f32>() * (design.n_features() + 1) * design.classes.len();
    let new_memory = || Memory::new((MEMORY_BYTES / pair_bytes).clamp(MEMORY.0, MEMORY.1));
    let (mut point, memory) = match start {
        Start::Discriminant => (solver.scaled_discriminant()?, new_memory()),
        Start::Probe(probe) => (probe.for_design(design)?, new_memory()),
        Start::Continue(probe, from) => {
            let same = probe.affine == design.affine && from.priors == present_priors(design);
            let mut memory = if same { from.memory } else { new_memory() };
            memory.add_penalty(settings.alpha - from.alpha, design.n_features() * design.classes.len());
            (probe.for_design(design)?, memory)
        }
    };
    // softmax does not see it, the penalty does, and the metric has no steps there
    for row in point.chunks_exact_mut(design.classes.len()) {
        let mean = row.iter().sum::<f64>() / row.len() as f64;
        row.iter_mut().for_each(|v| *v -= mean);
    }
    let end = install(settings.n_threads, || solver.descend(point, memory))?;
    let split = design.n_features() * design.classes.len();
    Ok(Fit {
        probe: Linear::from_present(design, &end.point[..split], &end.point[split..], ABSENT_SCORE),
        objective: end.at.objective,
        gap: end.gap / end.at.objective,
        stop: end.stop,
        passes: solver.passes,
        reduced_passes: solver.reduced_passes,
        train_error: end.at.train_error,
        continuation: Continuation {
            memory: end.memory,
            alpha: settings.alpha,
            priors: present_priors(design),
        },
    })
}

struct Solver<'a> {
    problem: &'a Problem<'a>,
    model: &'a ClassModel,
    settings: LogisticSettings,
    /// Of the passes now.
    kernel: &'static Kernel,
    /// Of the passes that decide.
    exact: &'static Kernel,
    passes: f64,
    reduced_passes: f64,
}

/// What a line search found.
#[allow(clippy::large_enum_variant)] // one at a time
enum Step {
    To(Vec<f64>, Evaluation),
    /// No decrease.
    None,
    /// None within the limit on passes.
    Spent,
}

/// A point reached, and why the descent ended there.
struct End {
    point: Vec<f64>,
    at: Evaluation,
    gap: f64,
    stop: Stop,
    memory: Memory,
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

    /// The discriminant times the factor that fits a sample of the rows best.
    fn scaled_discriminant(&mut self) -> Result<Vec<f64>> {
        let mut point = self.model.discriminant(self.problem.design);
        let stride = (self.problem.rows.len() / START_ROWS).max(1);
        let factors: Vec<f64> = (0..12).map(|i| 2.0_f64.powi(1 - i)).collect();
        let losses = self.problem.losses_by_factor(self.exact, &point, &factors, stride)?;
        let weights = &point[..point.len() - self.problem.n_classes()];
        let penalty = 0.5 * self.settings.alpha * dot(weights, weights);
        let value = |i: usize| losses[i] + penalty * factors[i] * factors[i];
        let best = (0..factors.len()).min_by(|&a, &b| value(a).total_cmp(&value(b))).expect("factors");
        point.iter_mut().for_each(|v| *v *= factors[best]);
        self.passes += 0.5 / stride as f64;
        Ok(point)
    }

    fn descend(&mut self, start: Vec<f64>, mut memory: Memory) -> Result<End> {
        const FRESH: Collect = Collect { curvature: true, covariance: true };
        let mut point = start;
        let mut at = self.evaluate(&point, FRESH)?;
        if !at.objective.is_finite() {
            return Err(Error::Numerical("the objective is not finite at the start".into()));
        }
        let mut metric = Metric::new(self.model, &at.curvature, self.problem.alpha);
        let mut history = vec![(at.objective, at.train_error)];
        let mut iteration = 0;
        let mut fresh_metric = true;
        let still = STILL * (self.settings.tol / 1e-3).max(1.0);
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
            let mut stop = if gap <= tolerance {
                Some(Stop::Certified)
            } else if estimated_gap(&history, -0.5 * slope, still).is_some_and(|gap| gap <= tolerance) {
                Some(Stop::Estimated)
            } else if self.is_spent() {
                Some(Stop::MaxPasses)
            } else {
                None
            };
            iteration += 1;
            if stop.is_none() {
                // where only the intercept stands between the bound and the tolerance, move it alone
                let weights_gap = self.weights_gap(&at);
                if weights_gap <= tolerance && !at.second_moment.is_empty() {
                    direction = self.intercept_step(&at);
                }
                let collect = Collect {
                    curvature: REFRESH.contains(&iteration),
                    covariance: weights_gap <= NEAR * tolerance,
                };
                match self.search(&point, &at, &direction, collect)? {
                    Step::To(next, there) => {
                        memory.push((&next, &point), (&there.gradient, &at.gradient));
                        (point, at) = (next, there);
                        if collect.curvature {
                            metric = Metric::new(self.model, &at.curvature, self.problem.alpha);
                        }
                        fresh_metric = collect.curvature;
                        history.push((at.objective, at.train_error));
                    }
                    Step::Spent => stop = Some(Stop::MaxPasses),
                    // no decrease along a descent direction: rounding noise, or a metric gone stale
                    Step::None if fresh_metric => stop = Some(Stop::Estimated),
                    Step::None => {
                        memory.clear();
                        at = self.evaluate(&point, FRESH)?;
                        metric = Metric::new(self.model, &at.curvature, self.problem.alpha);
                        fresh_metric = true;
                    }
                }
            }
            if let Some(stop) = stop {
                if !self.is_reduced() {
                    return Ok(End { point, at, gap, stop, memory });
                }
                self.kernel = self.exact;
                at = self.evaluate(&point, FRESH)?;
                metric = Metric::new(self.model, &at.curvature, self.problem.alpha);
                fresh_metric = true;
                // what stands still in bfloat16 at this tolerance does so exactly
                let decided = self.settings.tol >= REDUCED_TOL && stop != Stop::Certified;
                if decided || stop == Stop::MaxPasses {
                    let gap = gap_bound(self.problem, &point, &at);
                    let stop = if gap <= self.settings.tol * at.objective { Stop::Certified } else { stop };
                    return Ok(End { point, at, gap, stop, memory });
                }
                history = vec![(at.objective, at.train_error)];
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
        let k = self.problem.n_classes();
        let gradient = &at.gradient[at.gradient.len() - k..];
        let mean: Vec<f64> = gradient.iter().zip(&self.problem.design.priors).map(|(g, p)| g + p).collect();
        // diag(q̄) − mean q qᵀ, singular along 1: add 11ᵀ/k of its own size
        let trace: f64 = (0..k).map(|c| mean[c] - at.second_moment[c * k + c]).sum::<f64>() / k as f64;
        let hessian = Mat::from_fn(k, k, |a, b| {
            let diagonal = if a == b { mean[a] + 1e-9 * trace } else { 0.0 };
            diagonal - at.second_moment[a * k + b] + trace / k as f64
        });
        let mut direction = vec![0.0; at.gradient.len()];
        let tail = at.gradient.len() - k;
        match hessian.llt(Side::Lower) {
            Ok(factor) => {
                let step = factor.solve(Mat::from_fn(k, 1, |c, _| -gradient[c]));
                for c in 0..k {
                    direction[tail + c] = step[(c, 0)];
                }
            }
            Err(_) => {
                for c in 0..k {
                    direction[tail + c] = -gradient[c] / mean[c].max(1e-12);
                }
            }
        }
        direction
    }

    /// Whether the limit on passes leaves none, but for the exact one that ends a fit in bfloat16.
    fn is_spent(&self) -> bool {
        self.passes + f64::from(u8::from(self.is_reduced())) >= self.settings.max_passes as f64
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
            if there.objective.is_finite() && rise <= ARMIJO * length * slope + NOISE * at.objective.abs() {
                return Ok(Step::To(next, there));
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

/// What is left to gain, judged by the last steps `(objective, training error)` and the Newton decrement
/// in the metric; `None` while the training error moves by `still` or there are too few steps.
///
/// Gains are taken to go on as a geometric series, at the slower of the rates of the last steps: one by one, and
/// span by span, since at weak penalties steps that gain little come before others that gain more (without the
/// spans true gaps were up to nine times the tolerance, now up to two).
fn estimated_gap(history: &[(f64, f64)], decrement: f64, still: f64) -> Option<f64> {
    let last = &history[history.len().checked_sub(WINDOW + 1)?..];
    let (_, error) = last[WINDOW];
    if last.iter().any(|&(_, e)| (e - error).abs() >= still) {
        return None;
    }
    let back = |steps: usize| history.len().checked_sub(steps + 1).map(|i| history[i].0);
    let gain = |from: usize, to: usize| Some((back(from)? - back(to)?).max(0.0));
    let rate = (gain(1, 0)? / gain(2, 1)?).max((gain(1, 0)? / gain(3, 2)?).sqrt());
    let mut ahead = series(gain(1, 0)?, rate);
    if let Some(before) = gain(2 * SPAN, SPAN) {
        let now = gain(SPAN, 0)?;
        ahead = ahead.max(series(now, now / before));
    }
    Some(ahead.max(DECREMENT_FACTOR * decrement))
}

/// What follows a gain if gains fall by `rate`, with the room that falling more slowly takes.
fn series(gain: f64, rate: f64) -> f64 {
    match rate {
        r if r.is_nan() => 0.0, // gains of nothing: 0/0
        r if r < 1.0 => SERIES_FACTOR * gain * r / (1.0 - r),
        _ => f64::INFINITY,
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Objectives of a fit whose distance from 1 falls by `rate` in each of `n` steps; its training error stands.
    fn falling(n: i32, rate: f64) -> Vec<(f64, f64)> {
        (0..n).map(|i| (1.0 + rate.powi(i), 0.25)).collect()
    }

    #[test]
    fn the_estimate_is_above_what_a_geometric_descent_has_left() {
        for (rate, n) in [(0.3_f64, 6), (0.8, 6), (0.8, 30), (0.97, 40)] {
            let left = rate.powi(n - 1);
            let estimate = estimated_gap(&falling(n, rate), 0.0, STILL).unwrap();
            assert!(left <= estimate && estimate <= 4.0 * left, "{rate} {n}: {left} {estimate}");
        }
        // the decrement counts where gains have stopped
        assert_eq!(estimated_gap(&[(1.0, 0.0); 8], 0.1, STILL), Some(0.1 * DECREMENT_FACTOR));
    }

    #[test]
    fn spans_see_gains_that_come_in_bursts() {
        // five large steps, four idle ones, five large ones, four idle ones …
        let mut at = 2.0;
        let history: Vec<(f64, f64)> = (0..36)
            .map(|i| {
                at -= if i % 9 < 5 { 1e-2 } else { 1e-5 * f64::from(20 - i % 9) };
                (at, 0.25)
            })
            .collect();
        let estimate = estimated_gap(&history, 0.0, STILL).unwrap();
        let of_single_steps = estimated_gap(&history[history.len() - 4..], 0.0, STILL).unwrap();
        assert!(estimate > 5e-3 && of_single_steps < estimate / 2.0, "{estimate} {of_single_steps}");
    }

    #[test]
    fn nothing_is_estimated_early_or_while_errors_move() {
        assert_eq!(estimated_gap(&falling(3, 0.5), 0.0, STILL), None);
        let mut history = falling(20, 0.5);
        history[18].1 = 0.26;
        assert_eq!(estimated_gap(&history, 0.0, STILL), None);
        assert!(estimated_gap(&history, 0.0, 0.02).is_some());
    }
}
