//! The descent of a logistic fit: L-BFGS steps, rounded passes first where they are faster, exact ones for what decides.

use super::certificate::gap_bound;
use super::intercept::newton_step;
use super::rounding::{ROUNDED_TOL, Rounding, small_residual};
use super::settings::LogisticSettings;
use super::space::{Collect, EvaluationIn, Space};
use super::stop::{Gain, History, Stop, is_far, is_near, tolerance, without_decrease};
use crate::error::{Error, Result};
use crate::moments::Design;

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
/// After an exact pass rounded ones go on where what they hid is at most this share of what the exact gradient says is
/// left, and at most so often: it was a poor step that ended them, and an exact pass costs two to three of theirs.
const HINDRANCE: f64 = 0.02;
const RETURNS: usize = 3;
/// How many times the tolerance, or what an estimate says is left, the metric alone may say, before the remembered steps
/// are forgotten instead of believed: pairs whose curvature is rounding make directions next to nothing. Of fits at
/// their minimum it said 0.01 to 1.5 times as much, of those that had stopped above it 6 to 30,000 times. And how often.
const COLLAPSED: f64 = 5.0;
const RESTARTS: usize = 8;
/// How many times the tolerance, or what an estimate says is left, the rows themselves may say before the class model's metric is
/// given up for theirs: of two classes they say twice what is left. And steps after which it is given up without a question.
const DOUBTED: f64 = 3.0;
const LONG: usize = 50;
/// Steps from one metric of the rows to the next: at least so many, and as many as a metric costs passes for each of these.
const RENEWED: usize = 4;
const PASSES_A_STEP: f64 = 4.0;
/// Halvings before a line search gives up.
const MAX_HALVINGS: usize = 12;
const FRESH: Collect = Collect { curvature: true, covariance: true };

pub(super) struct Solver<'a, S> {
    pub space: &'a S,
    pub design: &'a Design,
    pub settings: LogisticSettings,
    /// Whether passes now round; those that decide never do.
    pub reduced: bool,
    /// Size below which rounded passes may round residuals; 0 before F is known.
    pub small: f32,
    pub passes: f64,
    pub reduced_passes: f64,
    /// Whether metrics are of the rows themselves.
    pub by_rows: bool,
    /// Whether there was none at some point: a block of the Hessian that rounding leaves without a Cholesky factor.
    pub without_row_metric: bool,
}

/// What a line search found.
#[allow(clippy::large_enum_variant)] // one at a time
enum Step<S: Space> {
    To {
        point: S::Vector,
        at: EvaluationIn<S>,
        gain: Gain,
    },
    /// No decrease.
    None,
    /// None within the limit on passes.
    Spent,
}

/// A point reached, and why the descent ended there.
pub(super) struct End<S: Space> {
    pub point: S::Vector,
    pub at: EvaluationIn<S>,
    pub gap: f64,
    pub stop: Stop,
    pub memory: S::Memory,
}

impl<S: Space> Solver<'_, S> {
    fn evaluate(&mut self, point: &S::Vector, collect: Collect) -> Result<EvaluationIn<S>> {
        self.passes += 1.0;
        let rounding = if self.reduced {
            self.reduced_passes += 1.0;
            Rounding::Rounded { small: self.small }
        } else {
            Rounding::Exact
        };
        self.space.evaluate(point, self.settings.alpha, collect, rounding)
    }

    /// Let the next rounded passes round residuals below the size that suits where F is `objective`, about `gap` above its
    /// minimum.
    pub fn round_at(&mut self, objective: f64, gap: f64) {
        self.small = small_residual(self.design, self.tolerance_at(objective), objective, gap);
    }

    /// How far above its minimum the fit may end where F is `objective`, as exact passes tell.
    fn tolerance_at(&self, objective: f64) -> f64 {
        tolerance(self.settings.tol, objective, self.design.prior_entropy())
    }

    /// Go down from `point` until a rule says stop, which only an exact pass may, but for a draft: when those that round have done
    /// what they can, an exact one at the same point begins the history anew. Where it finds much left, and next to nothing
    /// of that hidden by rounding, rounded ones go on.
    pub fn descend(&mut self, mut point: S::Vector, mut memory: S::Memory) -> Result<End<S>> {
        let space = self.space;
        if self.is_spent() {
            self.reduced = false;
        }
        let mut at = self.evaluate(&point, FRESH)?;
        if !at.objective.is_finite() {
            return Err(Error::Numerical("the objective is not finite at the start".into()));
        }
        let mut metric = self.metric_at(&point, &at)?;
        let mut history = History::new(at.objective, at.train_error).of_rows(space.n_rows());
        let mut fresh_metric = true;
        let mut metric_objective = at.objective;
        let mut iteration = 0;
        // the rounded passes that the one exact pass since has judged
        let mut left: Option<(EvaluationIn<S>, History)> = None;
        let (mut returns, mut resumed) = (0, None);
        let (mut restarts, mut since_metric) = (0, 0);
        let renewed = RENEWED.max((space.row_metric_cost() / PASSES_A_STEP) as usize);
        loop {
            if iteration >= LONG
                && !self.reduced
                && self.may_go_by_rows()
                && let Some(of_rows) = self.row_metric(&point)?
            {
                self.by_rows = true;
                (metric, fresh_metric, since_metric) = (of_rows, true, 0);
                space.forget(&mut memory)?;
            }
            let tol = if self.reduced { self.settings.tol.max(ROUNDED_TOL) } else { self.settings.tol };
            let least = if self.reduced { ROUNDED_TOL * at.objective } else { 0.0 };
            let tolerance = self.tolerance_at(at.objective).max(least);
            let gap = gap_bound(space, &self.design.priors, self.settings.alpha, &point, &at)?;
            let mut direction = space.direction(&memory, &at.gradient, &metric)?;
            let slope = space.dot(&direction, &at.gradient)?;
            // what F is above its minimum, if the metric were the Hessian; a direction upwards says nothing of it
            let decrement = (slope <= 0.0).then_some(-0.5 * slope);
            if decrement.is_none_or(|decrement| decrement <= 0.0) {
                space.forget(&mut memory)?;
                direction = space.scaled(-1.0, &at.gradient)?;
            }
            let estimate = decrement.and_then(|decrement| history.estimated_gap(decrement, tol));
            let by_rule = if gap <= tolerance {
                Some(Stop::Certified)
            } else {
                estimate.and_then(|left| history.arrived(left, tolerance, self.settings.error_tol))
            };
            if self.settings.draft && decrement.is_some_and(|decrement| is_near(decrement, tolerance)) {
                return Ok(End { point, at, gap: f64::INFINITY, stop: Stop::Estimated, memory });
            }
            let mut leave = false;
            if self.reduced {
                leave = self.is_spent() || history.leaves_reduced(by_rule, tolerance);
            } else {
                let spent = self.is_spent().then_some(Stop::MaxPasses);
                if let Some(stop) = by_rule.or(spent) {
                    let believed = estimate.unwrap_or(0.0).max(tolerance);
                    if stop.is_proven() || spent.is_some() {
                        return Ok(End { point, at, gap, stop, memory });
                    }
                    if !self.is_collapsed(&at, &metric, believed)? {
                        let Some(of_rows) = self.doubted(&point, &at, believed)? else {
                            return Ok(End { point, at, gap, stop, memory });
                        };
                        (metric, fresh_metric, since_metric) = (of_rows, true, 0);
                        space.forget(&mut memory)?;
                        continue;
                    }
                    if restarts == RESTARTS {
                        return Ok(End { point, at, gap, stop: Stop::Stalled, memory });
                    }
                    restarts += 1;
                    space.forget(&mut memory)?;
                    if !fresh_metric {
                        at = self.evaluate(&point, FRESH)?;
                        metric = self.metric_at(&point, &at)?;
                        (fresh_metric, since_metric) = (true, 0);
                    }
                    continue;
                }
                if let Some((rounded, before)) = left.take()
                    && returns < RETURNS
                    && resumed != Some(iteration) // a search that fails would fail again
                    && !self.would_be_spent(true)
                    && let Some(decrement) = decrement.filter(|decrement| is_far(*decrement, tolerance))
                    && self.hidden(&rounded, &at, &memory, &metric)? <= HINDRANCE * decrement
                {
                    returns += 1;
                    resumed = Some(iteration);
                    self.reduced = true;
                    (at, history) = (rounded, before.trusted());
                    continue;
                }
            }
            if !leave {
                iteration += 1;
                // where only the intercept stands between the bound and the tolerance, move it alone
                let weights_gap = self.weights_gap(&at);
                if weights_gap <= tolerance && !at.sample.is_empty() {
                    direction = self.intercept_step(&at)?;
                }
                since_metric += 1;
                let renews = self.by_rows && since_metric >= renewed;
                let collect = Collect {
                    curvature: renews
                        || REFRESH.contains(&iteration)
                        || at.objective < FALLEN * metric_objective,
                    covariance: weights_gap <= NEAR * tolerance,
                };
                match self.search(&point, &at, &direction, decrement.unwrap_or(0.0), collect)? {
                    Step::To { point: next, at: there, gain } => {
                        space.remember(&mut memory, (&next, &point), (&there.gradient, &at.gradient))?;
                        (point, at) = (next, there);
                        if collect.curvature {
                            metric = self.metric_at(&point, &at)?;
                            metric_objective = at.objective;
                            since_metric = 0;
                        }
                        fresh_metric = collect.curvature;
                        history.push(&gain, at.objective, at.train_error);
                    }
                    // no decrease along a descent direction: rounding noise, or a metric gone stale
                    Step::None | Step::Spent if self.reduced => leave = true,
                    Step::Spent => return Ok(End { point, at, gap, stop: Stop::MaxPasses, memory }),
                    Step::None if fresh_metric => {
                        let believed = decrement.unwrap_or(0.0).max(tolerance);
                        if restarts < RESTARTS && self.is_collapsed(&at, &metric, believed)? {
                            restarts += 1;
                            space.forget(&mut memory)?;
                            continue;
                        }
                        if let Some(of_rows) = self.doubted(&point, &at, believed)? {
                            (metric, since_metric) = (of_rows, 0);
                            space.forget(&mut memory)?;
                            continue;
                        }
                        let stop = decrement.map_or(Stop::Stalled, |decrement| {
                            without_decrease(decrement, at.objective, tolerance)
                        });
                        return Ok(End { point, at, gap, stop, memory });
                    }
                    Step::None => {
                        space.forget(&mut memory)?;
                        at = self.evaluate(&point, FRESH)?;
                        metric = self.metric_at(&point, &at)?;
                        (fresh_metric, since_metric) = (true, 0);
                    }
                }
            }
            if leave {
                self.reduced = false;
                let exact = self.evaluate(&point, FRESH)?;
                metric = self.metric_at(&point, &exact)?;
                (fresh_metric, since_metric) = (true, 0);
                metric_objective = exact.objective;
                let since = history.exact_from(exact.objective, exact.train_error, self.settings.tol);
                let before = (std::mem::replace(&mut at, exact), std::mem::replace(&mut history, since));
                // where their bound was there, and the exact one is not, rounding is what is in the way
                left = (by_rule != Some(Stop::Certified)).then_some(before);
            }
        }
    }

    /// What rounding hid at a point, as a gain: of the objective, or by the step that the gradient asks for.
    fn hidden(
        &self,
        rounded: &EvaluationIn<S>,
        exact: &EvaluationIn<S>,
        memory: &S::Memory,
        metric: &S::Metric,
    ) -> Result<f64> {
        let of_gradient = self.space.step(&exact.gradient, -1.0, &rounded.gradient)?;
        let step = self.space.direction(memory, &of_gradient, metric)?;
        let by_gradient = -0.5 * self.space.dot(&step, &of_gradient)?;
        let of_objective = (exact.objective - rounded.objective).abs();
        // a step upwards, and what is no number, say nothing
        Ok(if by_gradient >= 0.0 { by_gradient.max(of_objective) } else { f64::INFINITY })
    }

    /// Whether the metric alone says that far more is left than is `believed`.
    fn is_collapsed(&self, at: &EvaluationIn<S>, metric: &S::Metric, believed: f64) -> Result<bool> {
        Ok(self.decrement_in(metric, at)? > COLLAPSED * believed)
    }

    /// What F is above its minimum, if a metric were the Hessian.
    fn decrement_in(&self, metric: &S::Metric, at: &EvaluationIn<S>) -> Result<f64> {
        let direction = self.space.direction(&self.space.memory()?, &at.gradient, metric)?;
        Ok(-0.5 * self.space.dot(&direction, &at.gradient)?)
    }

    /// Whether metrics can be of the rows from now on, for no more than the passes so far have cost.
    fn may_go_by_rows(&self) -> bool {
        !self.by_rows && !self.without_row_metric && self.space.row_metric_cost() <= self.passes
    }

    /// The metric of the rows at a point; the fit does without it once there is none.
    fn row_metric(&mut self, point: &S::Vector) -> Result<Option<S::Metric>> {
        let found = self.space.row_metric(point, self.settings.alpha)?;
        if found.is_none() {
            (self.by_rows, self.without_row_metric) = (false, true);
        }
        Ok(found)
    }

    /// The metric of the rows, by which the fit then goes on, where it says that more is left than is `believed`.
    fn doubted(
        &mut self,
        point: &S::Vector,
        at: &EvaluationIn<S>,
        believed: f64,
    ) -> Result<Option<S::Metric>> {
        if !self.may_go_by_rows() {
            return Ok(None);
        }
        let Some(metric) = self.row_metric(point)? else { return Ok(None) };
        self.by_rows = self.decrement_in(&metric, at)? > DOUBTED * believed;
        Ok(self.by_rows.then_some(metric))
    }

    /// The bound if the intercept were at its optimum: ‖∇_W F‖² / 2α.
    fn weights_gap(&self, at: &EvaluationIn<S>) -> f64 {
        at.weights_square / (2.0 * self.settings.alpha)
    }

    /// Newton step on the intercept alone.
    fn intercept_step(&self, at: &EvaluationIn<S>) -> Result<S::Vector> {
        let mean: Vec<f64> = at.excess.iter().zip(&self.design.priors).map(|(g, p)| g + p).collect();
        self.space.intercept_only(newton_step(&at.excess, &mean, &at.sample))
    }

    /// The metric at a point whose evaluation collected curvature.
    fn metric_at(&mut self, point: &S::Vector, at: &EvaluationIn<S>) -> Result<S::Metric> {
        if self.by_rows
            && let Some(metric) = self.row_metric(point)?
        {
            return Ok(metric);
        }
        let curvature = at.curvature.as_ref().expect("curvature was asked for");
        self.space.metric(curvature, self.settings.alpha)
    }

    /// Whether the limit on passes leaves none, but for the exact one that must follow rounded ones.
    fn is_spent(&self) -> bool {
        self.would_be_spent(self.reduced)
    }

    /// The same if passes rounded or did not.
    fn would_be_spent(&self, reduced: bool) -> bool {
        self.passes.floor() + f64::from(u8::from(reduced)) >= self.settings.max_passes as f64
    }

    /// First point along `direction` with sufficient decrease, step 1 first; `decrement` is about what F is above its minimum.
    fn search(
        &mut self,
        point: &S::Vector,
        at: &EvaluationIn<S>,
        direction: &S::Vector,
        decrement: f64,
        collect: Collect,
    ) -> Result<Step<S>> {
        let slope = self.space.dot(direction, &at.gradient)?;
        self.round_at(at.objective, decrement);
        let mut length = 1.0;
        for _ in 0..MAX_HALVINGS {
            let next = self.space.step(point, length, direction)?;
            let there = self.evaluate(&next, collect)?;
            let rise = there.objective - at.objective;
            let slope_there = self.space.dot(direction, &there.gradient)?;
            let lower = rise <= ARMIJO * length * slope + NOISE * at.objective.abs();
            // F is convex: where its slope has fallen and is not yet as steep upwards, F is lower
            let lower_by_slopes = !self.reduced
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
