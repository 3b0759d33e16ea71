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

/// Where the descent stands, the steps it remembers, and the metric that it steps in.
struct Place<S: Space> {
    point: S::Vector,
    at: EvaluationIn<S>,
    memory: S::Memory,
    held: Held<S>,
}

/// A metric, F where it was made, and how many steps ago.
struct Held<S: Space> {
    metric: S::Metric,
    objective: f64,
    age: usize,
}

impl<S: Space> Held<S> {
    fn new(metric: S::Metric, at: &EvaluationIn<S>) -> Self {
        Self { metric, objective: at.objective, age: 0 }
    }
}

/// What came of the question whether a fit may end.
enum Doubt {
    /// It may.
    None,
    /// More is left: it goes on without the steps that misled it, or in another metric.
    GoesOn,
    /// More is left, and it was begun anew as often as it may.
    Exhausted,
}

impl<S: Space> Place<S> {
    fn end(self, gap: f64, stop: Stop) -> End<S> {
        End { point: self.point, at: self.at, gap, stop, memory: self.memory }
    }
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
    pub fn descend(&mut self, point: S::Vector, memory: S::Memory) -> Result<End<S>> {
        let space = self.space;
        if self.is_spent() {
            self.reduced = false;
        }
        let at = self.evaluate(&point, FRESH)?;
        if !at.objective.is_finite() {
            return Err(Error::Numerical("the objective is not finite at the start".into()));
        }
        let mut history = History::new(at.objective, at.train_error).of_rows(space.n_rows());
        let held = Held::new(self.metric_at(&point, &at)?, &at);
        let mut here = Place { point, at, memory, held };
        let (mut iteration, mut restarts) = (0, 0);
        // the rounded passes that the one exact pass since has judged
        let mut left: Option<(EvaluationIn<S>, History)> = None;
        let (mut returns, mut resumed) = (0, None);
        loop {
            if iteration >= LONG
                && !self.reduced
                && self.may_go_by_rows()
                && let Some(of_rows) = self.row_metric(&here.point)?
            {
                self.by_rows = true;
                self.hold(&mut here, of_rows)?;
            }
            let tol = if self.reduced { self.settings.tol.max(ROUNDED_TOL) } else { self.settings.tol };
            let least = if self.reduced { ROUNDED_TOL * here.at.objective } else { 0.0 };
            let tolerance = self.tolerance_at(here.at.objective).max(least);
            let gap = gap_bound(space, &self.design.priors, self.settings.alpha, &here.point, &here.at)?;
            let (mut direction, decrement) = self.direction(&mut here)?;
            let estimate = decrement.and_then(|decrement| history.estimated_gap(decrement, tol));
            let by_rule = if gap <= tolerance {
                Some(Stop::Certified)
            } else {
                estimate.and_then(|left| history.arrived(left, tolerance, self.settings.error_tol))
            };
            if self.settings.draft && decrement.is_some_and(|decrement| is_near(decrement, tolerance)) {
                return Ok(here.end(f64::INFINITY, Stop::Estimated));
            }
            let mut leave = false;
            if self.reduced {
                leave = self.is_spent() || history.leaves_reduced(by_rule, tolerance);
            } else {
                let spent = self.is_spent().then_some(Stop::MaxPasses);
                if let Some(stop) = by_rule.or(spent) {
                    if stop.is_proven() || spent.is_some() {
                        return Ok(here.end(gap, stop));
                    }
                    match self.doubt(&mut here, estimate.unwrap_or(0.0).max(tolerance), &mut restarts)? {
                        Doubt::GoesOn => continue,
                        Doubt::None => return Ok(here.end(gap, stop)),
                        Doubt::Exhausted => return Ok(here.end(gap, Stop::Stalled)),
                    }
                }
                if let Some((rounded, before)) = left.take()
                    && returns < RETURNS
                    && resumed != Some(iteration) // a search that fails would fail again
                    && !self.would_be_spent(true)
                    && let Some(decrement) = decrement.filter(|decrement| is_far(*decrement, tolerance))
                    && self.hidden(&rounded, &here)? <= HINDRANCE * decrement
                {
                    returns += 1;
                    resumed = Some(iteration);
                    self.reduced = true;
                    (here.at, history) = (rounded, before.trusted());
                    continue;
                }
            }
            if !leave {
                iteration += 1;
                // where only the intercept stands between the bound and the tolerance, move it alone
                let weights_gap = self.weights_gap(&here.at);
                if weights_gap <= tolerance && !here.at.sample.is_empty() {
                    direction = self.intercept_step(&here.at)?;
                }
                let collect = Collect {
                    curvature: self.wants_metric(&here, iteration),
                    covariance: weights_gap <= NEAR * tolerance,
                };
                match self.search(&here, &direction, decrement.unwrap_or(0.0), collect)? {
                    Step::To { point, at, gain } => {
                        let steps = (&point, &here.point);
                        space.remember(&mut here.memory, steps, (&at.gradient, &here.at.gradient))?;
                        (here.point, here.at) = (point, at);
                        here.held.age += 1;
                        if collect.curvature {
                            self.renew_metric(&mut here)?;
                        }
                        history.push(&gain, here.at.objective, here.at.train_error);
                    }
                    // no decrease along a descent direction: rounding noise, or a metric gone stale
                    Step::None | Step::Spent if self.reduced => leave = true,
                    Step::Spent => return Ok(here.end(gap, Stop::MaxPasses)),
                    Step::None if here.held.age == 0 => {
                        let believed = decrement.unwrap_or(0.0).max(tolerance);
                        if !matches!(self.doubt(&mut here, believed, &mut restarts)?, Doubt::GoesOn) {
                            let stop = decrement.map_or(Stop::Stalled, |decrement| {
                                without_decrease(decrement, here.at.objective, tolerance)
                            });
                            return Ok(here.end(gap, stop));
                        }
                    }
                    Step::None => {
                        space.forget(&mut here.memory)?;
                        here.at = self.evaluate(&here.point, FRESH)?;
                        self.renew_metric(&mut here)?;
                    }
                }
            }
            if leave {
                self.reduced = false;
                let exact = self.evaluate(&here.point, FRESH)?;
                let since = history.exact_from(exact.objective, exact.train_error, self.settings.tol);
                let before = (std::mem::replace(&mut here.at, exact), std::mem::replace(&mut history, since));
                self.renew_metric(&mut here)?;
                // where their bound was there, and the exact one is not, rounding is what is in the way
                left = (by_rule != Some(Stop::Certified)).then_some(before);
            }
        }
    }

    /// The next step's direction, and what F is above its minimum if the metric were the Hessian. Where that is upwards,
    /// and says nothing, the direction is down the gradient, and the steps so far are forgotten.
    fn direction(&self, here: &mut Place<S>) -> Result<(S::Vector, Option<f64>)> {
        let direction = self.space.direction(&here.memory, &here.at.gradient, &here.held.metric)?;
        let slope = self.space.dot(&direction, &here.at.gradient)?;
        let decrement = (slope <= 0.0).then_some(-0.5 * slope);
        if decrement.is_some_and(|decrement| decrement > 0.0) {
            return Ok((direction, decrement));
        }
        self.space.forget(&mut here.memory)?;
        Ok((self.space.scaled(-1.0, &here.at.gradient)?, decrement))
    }

    /// Whether the next point is to have a metric of its own.
    fn wants_metric(&self, here: &Place<S>, iteration: usize) -> bool {
        let renewed = RENEWED.max((self.space.row_metric_cost() / PASSES_A_STEP) as usize);
        (self.by_rows && here.held.age + 1 >= renewed)
            || REFRESH.contains(&iteration)
            || here.at.objective < FALLEN * here.held.objective
    }

    /// Make the metric of a place whose evaluation collected curvature.
    fn renew_metric(&mut self, here: &mut Place<S>) -> Result<()> {
        here.held = Held::new(self.metric_at(&here.point, &here.at)?, &here.at);
        Ok(())
    }

    /// Go on by another metric of this place; the steps so far are forgotten.
    fn hold(&self, here: &mut Place<S>, metric: S::Metric) -> Result<()> {
        here.held = Held::new(metric, &here.at);
        self.space.forget(&mut here.memory)
    }

    /// Ask, before the fit ends where no more than `believed` is left, the metric alone and that of the rows.
    fn doubt(&mut self, here: &mut Place<S>, believed: f64, restarts: &mut usize) -> Result<Doubt> {
        let is_collapsed = self.decrement_in(&here.held.metric, &here.at)? > COLLAPSED * believed;
        if is_collapsed && *restarts < RESTARTS {
            *restarts += 1;
            self.space.forget(&mut here.memory)?;
            if here.held.age > 0 {
                here.at = self.evaluate(&here.point, FRESH)?;
                self.renew_metric(here)?;
            }
            return Ok(Doubt::GoesOn);
        }
        if self.may_go_by_rows()
            && let Some(of_rows) = self.row_metric(&here.point)?
            && self.decrement_in(&of_rows, &here.at)? > DOUBTED * believed
        {
            self.by_rows = true;
            self.hold(here, of_rows)?;
            return Ok(Doubt::GoesOn);
        }
        Ok(if is_collapsed { Doubt::Exhausted } else { Doubt::None })
    }

    /// What rounding hid at a point, as a gain: of the objective, or by the step that the gradient asks for.
    fn hidden(&self, rounded: &EvaluationIn<S>, exact: &Place<S>) -> Result<f64> {
        let of_gradient = self.space.step(&exact.at.gradient, -1.0, &rounded.gradient)?;
        let step = self.space.direction(&exact.memory, &of_gradient, &exact.held.metric)?;
        let by_gradient = -0.5 * self.space.dot(&step, &of_gradient)?;
        let of_objective = (exact.at.objective - rounded.objective).abs();
        // a step upwards, and what is no number, say nothing
        Ok(if by_gradient >= 0.0 { by_gradient.max(of_objective) } else { f64::INFINITY })
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
        here: &Place<S>,
        direction: &S::Vector,
        decrement: f64,
        collect: Collect,
    ) -> Result<Step<S>> {
        let (point, at) = (&here.point, &here.at);
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
