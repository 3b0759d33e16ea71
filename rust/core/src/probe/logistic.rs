//! Multinomial logistic probe: streaming L-BFGS in a class-curvature metric, stopped by a certificate.
//!
//! Start: linear discriminant at its best scale, or a given probe. Each iteration is one pass over the rows
//! ([`super::pass`]); the metric ([`super::metric`]) is refreshed a few times early on. The fit stops when
//! the bound of [`super::certificate`] is below the tolerance ("certified"), or, where a weak penalty makes
//! every strict bound loose, when objective and training error stand still ("estimated").

use faer::linalg::solvers::Solve;
use faer::{Mat, Side};

use super::certificate::gap_bound;
use super::lbfgs::{Memory, dot};
use super::metric::{Metric, Spectrum};
use super::pass::{Collect, Evaluation, Problem};
use super::{ABSENT_SCORE, Linear, check_alpha};
use crate::control::Control;
use crate::error::{Error, Result};
use crate::kernel::{Precision, choose};
use crate::moments::{Design, check_rows};
use crate::rows::Matrix;

/// Settings of [`fit_logistic`].
#[derive(Debug, Clone, Copy)]
pub struct LogisticSettings {
    /// Penalty on the mean loss.
    pub alpha: f64,
    /// Relative suboptimality to reach, `(F − min F) / F`.
    pub tol: f64,
    /// Passes over the training rows at most.
    pub max_passes: usize,
    /// Threads.
    pub n_threads: usize,
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
#[derive(Debug, Clone)]
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
    /// 0-1 error on the training rows.
    pub train_error: f64,
}

impl Fit {
    /// Whether the tolerance was reached, by either rule.
    pub fn converged(&self) -> bool {
        self.stop != Stop::MaxPasses
    }
}

/// Steps remembered: more cost little and save little (51 passes with 5, 42 with 50, on one problem).
const MEMORY: usize = 20;
/// Iterations after which the metric is made again: curvature drops by orders of magnitude early on.
const REFRESH: [usize; 4] = [3, 6, 10, 15];
/// Sufficient decrease, and the slack for float32 noise of the objective.
const ARMIJO: f64 = 1e-4;
const NOISE: f64 = 2e-7;
/// Window and movement of the "estimated" rule (0.05 percentage points).
const WINDOW: usize = 5;
const STILL: f64 = 5e-4;
/// Halvings before a line search gives up.
const MAX_HALVINGS: usize = 12;
/// Rows on which the scale of the starting discriminant is searched.
const START_ROWS: usize = 4096;

/// Fit a probe on `rows`, whose statistics `design` holds; `labels` are indexed by matrix row.
///
/// `start`: a probe fitted on a subset of these rows, or none for the discriminant.
///
/// # Errors
/// [`Error::Parameter`] for settings out of range or a design of other rows, [`Error::Interrupted`],
/// [`Error::Numerical`] if the objective is not finite. Reaching `max_passes` is no error.
pub fn fit_logistic(
    matrix: &Matrix<'_>,
    rows: &[u32],
    labels: &[u32],
    design: &Design,
    start: Option<&Linear>,
    settings: LogisticSettings,
    control: &Control,
) -> Result<Fit> {
    check_alpha(settings.alpha)?;
    if settings.tol.is_nan() || settings.tol <= 0.0 {
        return Err(Error::Parameter(format!("tol must be positive, got {}", settings.tol)));
    }
    check_rows(matrix, rows, labels, design.n_classes)?;
    if design.n != rows.len() || design.n_features() != matrix.n_features() {
        return Err(Error::Shape { what: "rows of the design", got: design.n, expected: rows.len() });
    }
    let mut present = vec![u32::MAX; design.n_classes];
    for (c, &class) in design.classes.iter().enumerate() {
        present[class] = c as u32;
    }
    let targets: Vec<u32> = rows.iter().map(|&row| present[labels[row as usize] as usize]).collect();
    if targets.contains(&u32::MAX) {
        return Err(Error::Parameter("the design is of other rows: it lacks a class of these".into()));
    }
    let problem = Problem {
        matrix,
        rows,
        targets,
        design,
        alpha: settings.alpha,
        kernel: choose(Precision::Exact)?,
        n_threads: settings.n_threads,
        control,
    };
    let spectrum = Spectrum::new(design)?;
    let (point, passes) = match start {
        Some(probe) => {
            let (mut weights, intercept) = probe.for_design(design)?;
            weights.extend(intercept);
            (weights, 0.0)
        }
        None => scaled_discriminant(&problem, &spectrum)?,
    };
    let mut solver = Solver { problem: &problem, spectrum: &spectrum, settings, passes };
    let (point, at, gap, stop) = solver.descend(point)?;
    let split = design.n_features() * design.classes.len();
    Ok(Fit {
        probe: Linear::from_present(design, &point[..split], &point[split..], ABSENT_SCORE),
        objective: at.objective,
        gap: gap / at.objective,
        stop,
        passes: solver.passes,
        train_error: at.train_error,
    })
}

/// The discriminant times the factor that fits a sample of the rows best, and the passes that took.
fn scaled_discriminant(problem: &Problem<'_>, spectrum: &Spectrum) -> Result<(Vec<f64>, f64)> {
    let mut point = spectrum.discriminant(problem.design);
    let stride = (problem.rows.len() / START_ROWS).max(1);
    let factors: Vec<f64> = (0..12).map(|i| 2.0_f64.powi(1 - i)).collect();
    let losses = problem.losses_by_factor(&point, &factors, stride)?;
    let best = (0..factors.len()).min_by(|&a, &b| losses[a].total_cmp(&losses[b])).expect("factors");
    point.iter_mut().for_each(|v| *v *= factors[best]);
    Ok((point, 0.5 / stride as f64))
}

struct Solver<'a> {
    problem: &'a Problem<'a>,
    spectrum: &'a Spectrum,
    settings: LogisticSettings,
    passes: f64,
}

impl Solver<'_> {
    fn evaluate(&mut self, point: &[f64], collect: Collect) -> Result<Evaluation> {
        self.passes += 1.0;
        self.problem.evaluate(point, collect)
    }

    fn descend(&mut self, start: Vec<f64>) -> Result<(Vec<f64>, Evaluation, f64, Stop)> {
        let mut point = start;
        let mut at = self.evaluate(&point, Collect { curvature: true, covariance: true })?;
        if !at.objective.is_finite() {
            return Err(Error::Numerical("the objective is not finite at the start".into()));
        }
        let mut metric = Metric::new(self.spectrum, &at.curvature, self.problem.alpha);
        let mut memory = Memory::new(MEMORY);
        let mut history = vec![(at.objective, at.train_error)];
        let mut fresh_metric = true;
        loop {
            let tolerance = self.settings.tol * at.objective;
            let gap = gap_bound(self.problem, &point, &at);
            if gap <= tolerance {
                return Ok((point, at, gap, Stop::Certified));
            }
            if self.stands_still(&history) {
                return Ok((point, at, gap, Stop::Estimated));
            }
            if self.passes >= self.settings.max_passes as f64 {
                return Ok((point, at, gap, Stop::MaxPasses));
            }
            let iteration = history.len();
            let collect = Collect { curvature: REFRESH.contains(&iteration), covariance: true };
            // where only the intercept stands between the bound and the tolerance, move it alone
            let direction = if self.weights_gap(&at) <= tolerance {
                self.intercept_step(&at)
            } else {
                let d = memory.direction(&at.gradient, |v| metric.solve(v));
                if dot(&d, &at.gradient) < 0.0 {
                    d
                } else {
                    memory.clear();
                    at.gradient.iter().map(|g| -g).collect()
                }
            };
            match self.search(&point, &at, &direction, collect)? {
                Some((next, there)) => {
                    let step: Vec<f64> = next.iter().zip(&point).map(|(a, b)| a - b).collect();
                    let change: Vec<f64> =
                        there.gradient.iter().zip(&at.gradient).map(|(a, b)| a - b).collect();
                    memory.push(step, change);
                    (point, at) = (next, there);
                    if collect.curvature {
                        metric = Metric::new(self.spectrum, &at.curvature, self.problem.alpha);
                    }
                    fresh_metric = collect.curvature;
                }
                // no decrease along a descent direction: float32 noise, or a metric gone stale
                None if fresh_metric => return Ok((point, at, gap, Stop::Estimated)),
                None => {
                    memory.clear();
                    at = self.evaluate(&point, Collect { curvature: true, covariance: true })?;
                    metric = Metric::new(self.spectrum, &at.curvature, self.problem.alpha);
                    fresh_metric = true;
                }
            }
            history.push((at.objective, at.train_error));
        }
    }

    fn stands_still(&self, history: &[(f64, f64)]) -> bool {
        let Some(before) = history.len().checked_sub(WINDOW + 1) else {
            return false;
        };
        let (objective, error) = history[history.len() - 1];
        history[before].0 - objective <= 0.5 * self.settings.tol * objective
            && history[before..].iter().all(|&(_, e)| (e - error).abs() < STILL)
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

    /// First point along `direction` with sufficient decrease, step 1 first; `None` if there is none.
    fn search(
        &mut self,
        point: &[f64],
        at: &Evaluation,
        direction: &[f64],
        collect: Collect,
    ) -> Result<Option<(Vec<f64>, Evaluation)>> {
        let slope = dot(direction, &at.gradient);
        let mut length = 1.0;
        for _ in 0..MAX_HALVINGS {
            let next: Vec<f64> = point.iter().zip(direction).map(|(p, d)| p + length * d).collect();
            let there = self.evaluate(&next, collect)?;
            let rise = there.objective - at.objective;
            if there.objective.is_finite() && rise <= ARMIJO * length * slope + NOISE * at.objective.abs() {
                return Ok(Some((next, there)));
            }
            if self.passes >= 2.0 * self.settings.max_passes as f64 {
                return Ok(None);
            }
            // minimum of the parabola through both values and the slope, kept within [0.1, 0.5]
            let parabola = -slope * length / (2.0 * (rise - slope * length));
            length *= if parabola.is_finite() { parabola.clamp(0.1, 0.5) } else { 0.1 };
        }
        Ok(None)
    }
}
