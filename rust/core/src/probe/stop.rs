//! When a fit ends: the rules, and the steps they are judged by.

use super::certificate::RESOLUTION;

/// Which rule ended a fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The bound on the suboptimality is below the tolerance.
    Certified,
    /// Objective and training error no longer move; the bound is too loose to say more.
    Estimated,
    /// Next to nothing is left for the training error to move, which was all that was asked for.
    ErrorEstimated,
    /// Float32 shows no decrease any more, though more than the tolerance seems to be left.
    Stalled,
    /// The limit on passes.
    MaxPasses,
}

impl Stop {
    /// The word used in records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Certified => "certified",
            Self::Estimated => "estimated",
            Self::ErrorEstimated => "error_estimated",
            Self::Stalled => "stalled",
            Self::MaxPasses => "max_passes",
        }
    }

    /// Whether it needs no estimate: it is a bound, or says that nothing was reached.
    pub fn is_proven(self) -> bool {
        matches!(self, Self::Certified | Self::MaxPasses | Self::Stalled)
    }

    /// Whether what was asked for was reached, by any of the rules.
    pub fn converged(self) -> bool {
        matches!(self, Self::Certified | Self::Estimated | Self::ErrorEstimated)
    }
}

/// The "estimated" rule: how much the Newton decrement in the metric is below the true gap (measured: 1.3 to 4
/// at tuned penalties, 10 at 1e-5), the last steps it looks at, one by one and in two spans, and the movement of
/// the training error over the last steps that counts as none (0.05 percentage points; as many times more as the
/// tolerance is above 1e-3). Gains fall more slowly than a geometric series, so its sum is doubled.
const DECREMENT_FACTOR: f64 = 4.0;
const SERIES_FACTOR: f64 = 2.0;
const WINDOW: usize = 3;
const SPAN: usize = 5;
const STILL: f64 = 5e-4;

/// Gains above this share of the objective are no rounding, whatever the precision.
const ROUNDING: f64 = 1e-3;
/// The least share of what the gradient promises that a rounded step must gain, and the least gain that
/// rounded values can show.
const PROMISE: f64 = 0.25;
const REDUCED_NOISE: f64 = 1e-5;
/// The least share of the objective that rounded steps can say is left.
const REDUCED_LEFT: f64 = 2e-5;
/// Rounded steps for which the estimate is waited for after the gains have said that little is left: the training error then
/// stands still.
const PATIENCE: usize = 2;
/// Tolerances, by the decrement, above which it is worth while to go on with rounded passes after an exact one.
const FAR: f64 = 2.0;

/// The least share of the objective that a fit is asked for, unless its tolerance is less: a line search takes rises of float32
/// rounding of nearly this size for steps, and no bound or estimate is below a quarter of it.
const LEAST: f64 = 4.0 * RESOLUTION;

/// How far above its minimum a fit to `tol` may end where F is `objective`: that share of F, or of what the weights have gained
/// over the best intercept alone, whose loss is `constant`, where that is less. A strong penalty leaves F next to `constant`;
/// most of what little the weights gain would be within a share of F. What float32 cannot resolve is not asked for, unless
/// `tol` itself does.
pub(super) fn tolerance(tol: f64, objective: f64, constant: f64) -> f64 {
    let gained = (constant - objective).clamp(0.0, objective);
    (tol * gained).max(tol.min(LEAST) * objective)
}

/// What the steps of a fit did, all in one precision.
#[derive(Clone)]
pub(super) struct History {
    /// Objective at the start less what the steps gained.
    objectives: Vec<f64>,
    errors: Vec<f64>,
    /// Whether the last step gained next to nothing of what its gradient promised.
    empty_step: bool,
    /// What the rounded passes before the first point have left, by their own gains.
    left: Option<f64>,
    /// How the training error moved with the objective in those passes.
    slope: Option<f64>,
    /// Rounded steps after which the gains said that little is left.
    little: usize,
    /// What one row is of the training error.
    row: f64,
    /// Rounded steps that are yet to be taken whatever they gain, since rounding was seen to be no hindrance.
    trust: usize,
}

/// A step: its change of the objective, and what the slopes at both of its ends say of it.
pub(super) struct Gain {
    /// Decrease of the objective, where rounding may hide it.
    pub measured: f64,
    /// Decrease by the trapezoid rule from the slopes, exact for a quadratic.
    pub by_slopes: f64,
    /// What a quadratic model promised before the step.
    pub promised: f64,
}

impl History {
    pub fn new(objective: f64, train_error: f64) -> Self {
        Self {
            objectives: vec![objective],
            errors: vec![train_error],
            empty_step: false,
            left: None,
            slope: None,
            little: 0,
            row: 0.0,
            trust: 0,
        }
    }

    /// Whose training error is that of `n` rows: it is never taken to move by less than one of them.
    pub fn of_rows(self, n: usize) -> Self {
        Self { row: 1.0 / n as f64, ..self }
    }

    /// Of exact passes that begin where these rounded ones ended, at the same point. What these say of the steps before
    /// holds on, if the training error is the same; the exact gradient says what their rounding has hidden.
    pub fn exact_from(&self, objective: f64, train_error: f64, tol: f64) -> Self {
        let mut before = self.clone();
        if before.empty_step {
            // what it gained is rounding, and its series ends there
            before.objectives.pop();
            before.errors.pop();
        }
        let slope = before.error_slope(); // among themselves: the exact error differs by what rounding does to it
        before.errors.push(train_error);
        let left = before.ahead_if_still(tol, 2).map(|ahead| ahead.max(REDUCED_LEFT * objective.abs()));
        Self { left, slope, row: self.row, ..Self::new(objective, train_error) }
    }

    /// Of rounded passes that go on where these ended: rounding was seen to be no hindrance.
    pub fn trusted(self) -> Self {
        Self { empty_step: false, little: 0, trust: WINDOW, ..self }
    }

    /// Record a step. Where the objective's rounding may hide a gain, the larger of both measures of it counts: no
    /// fit is then taken for converged because its gains are lost in rounding.
    pub fn push(&mut self, gain: &Gain, objective: f64, train_error: f64) {
        let last = self.objectives.last().copied().unwrap_or(objective);
        let noise = ROUNDING * objective.abs();
        let hidden = gain.measured.abs() < noise;
        let gained = if hidden { gain.measured.max(gain.by_slopes) } else { gain.measured };
        self.objectives.push(last - gained.max(0.0));
        self.errors.push(train_error);
        self.trust = self.trust.saturating_sub(1);
        let least = (PROMISE * gain.promised).max(REDUCED_NOISE * objective.abs());
        self.empty_step = hidden && gain.measured < least;
    }

    /// The rule that ends a fit to `tolerance` where `left` is still to gain; or, where only the training error is wanted,
    /// that leaves less than `error_tol` of it to move, if it goes on moving with the objective as in the last span.
    pub fn arrived(&self, left: f64, tolerance: f64, error_tol: Option<f64>) -> Option<Stop> {
        if left <= tolerance {
            return Some(Stop::Estimated);
        }
        let ahead = left * self.error_slope()?;
        (ahead <= error_tol?).then_some(Stop::ErrorEstimated)
    }

    /// How far the training error was from where it is now in the last span of steps, for what that gained; the first exact
    /// steps after rounded passes go by what those did.
    fn error_slope(&self) -> Option<f64> {
        let Some(first) = self.objectives.len().checked_sub(SPAN + 1) else { return self.slope };
        let gained = self.objectives[first] - self.objectives[self.objectives.len() - 1];
        let now = self.errors[self.errors.len() - 1];
        let moved = self.errors[first..].iter().map(|e| (e - now).abs()).fold(self.row, f64::max);
        (gained > 0.0).then(|| moved / gained)
    }

    /// What is left to gain, judged by the last steps and the Newton decrement in the metric; `None` while the
    /// training error moves or there are too few steps.
    ///
    /// Gains are taken to go on as a geometric series, at the slower of the rates of the last steps: one by one, and
    /// span by span, since at weak penalties steps that gain little come before others that gain more (without the
    /// spans true gaps were up to nine times the tolerance, now up to two). The first exact steps after rounded
    /// passes go by what those had left, and by the exact decrement.
    pub fn estimated_gap(&self, decrement: f64, tol: f64) -> Option<f64> {
        let ahead = match self.left {
            Some(left) if self.objectives.len() <= WINDOW => {
                self.is_still(tol).then(|| left.max(self.gained()))
            }
            _ => self.ahead_if_still(tol, WINDOW),
        };
        let resolved = RESOLUTION * self.objectives.last()?.abs();
        Some(ahead?.max(DECREMENT_FACTOR * decrement).max(resolved))
    }

    /// What the series of `fewest` gains or more has left, where the training error stands still.
    fn ahead_if_still(&self, tol: f64, fewest: usize) -> Option<f64> {
        if self.errors.len() > WINDOW && self.is_still(tol) { self.ahead(fewest) } else { None }
    }

    /// Whether the training error has not moved in the last steps.
    fn is_still(&self, tol: f64) -> bool {
        let still = STILL * (tol / 1e-3).max(1.0);
        let last = &self.errors[self.errors.len().saturating_sub(WINDOW + 1)..];
        last.iter().all(|e| (e - last[last.len() - 1]).abs() < still)
    }

    /// By all steps.
    fn gained(&self) -> f64 {
        self.objectives[0] - self.objectives[self.objectives.len() - 1]
    }

    /// What the series of `fewest` gains or more has left.
    fn ahead(&self, fewest: usize) -> Option<f64> {
        if self.objectives.len() <= fewest {
            return None;
        }
        let back = |steps: usize| self.objectives.len().checked_sub(steps + 1).map(|i| self.objectives[i]);
        let gain = |from: usize, to: usize| Some((back(from)? - back(to)?).max(0.0));
        let mut rate = gain(1, 0)? / gain(2, 1)?;
        if let Some(before) = gain(3, 2) {
            rate = rate.max((gain(1, 0)? / before).sqrt());
        }
        let mut ahead = series(gain(1, 0)?, rate);
        if let Some(before) = gain(2 * SPAN, SPAN) {
            let now = gain(SPAN, 0)?;
            ahead = ahead.max(series(now, now / before));
        }
        Some(ahead)
    }

    /// Whether rounded passes have done what they can for a fit to `tolerance`: a rule says that it has arrived; the gains
    /// alone have said three times that little is left, and what keeps the estimate away may be rounding; or the gains
    /// stop, since below some gap (2e-5 to 1e-4 of the objective) they see rounding only. This decides nothing but the
    /// precision of the next passes.
    pub fn leaves_reduced(&mut self, by_rule: Option<Stop>, tolerance: f64) -> bool {
        self.little += usize::from(self.ahead(WINDOW).is_some_and(|ahead| ahead <= tolerance));
        let done = by_rule.is_some() || self.little > PATIENCE || self.empty_step;
        by_rule == Some(Stop::Certified) || self.trust == 0 && done
    }
}

/// Whether a fit to `tolerance` surely has steps before it, by the Newton decrement.
pub(super) fn is_far(decrement: f64, tolerance: f64) -> bool {
    !is_near(decrement, FAR * tolerance)
}

/// Whether a fit seems to be within a tolerance, by the Newton decrement alone: enough for a look at it.
pub(super) fn is_near(decrement: f64, tolerance: f64) -> bool {
    DECREMENT_FACTOR * decrement <= tolerance
}

/// The rule that ends a fit when a search along a fresh metric's direction finds no decrease of the objective.
pub(super) fn without_decrease(decrement: f64, objective: f64, tolerance: f64) -> Stop {
    let left = (DECREMENT_FACTOR * decrement).max(RESOLUTION * objective);
    if left <= tolerance { Stop::Estimated } else { Stop::Stalled }
}

/// What follows a gain if gains fall by `rate`, with the room that falling more slowly takes.
fn series(gain: f64, rate: f64) -> f64 {
    match rate {
        r if r.is_nan() => 0.0, // gains of nothing: 0/0
        r if r < 1.0 => SERIES_FACTOR * gain * r / (1.0 - r),
        _ => f64::INFINITY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(objectives: &[f64], error: f64) -> History {
        let mut history = History::new(objectives[0], error);
        for pair in objectives.windows(2) {
            let gain = pair[0] - pair[1];
            history.push(&Gain { measured: gain, by_slopes: gain, promised: gain }, pair[1], error);
        }
        history
    }

    /// Objectives of a fit whose distance from 1 falls by `rate` in each of `n` steps; its training error stands.
    fn falling(n: i32, rate: f64) -> History {
        of(&(0..n).map(|i| 1.0 + rate.powi(i)).collect::<Vec<_>>(), 0.25)
    }

    #[test]
    fn the_estimate_is_above_what_a_geometric_descent_has_left() {
        for (rate, n) in [(0.3_f64, 6), (0.8, 6), (0.8, 30), (0.97, 40)] {
            let left = rate.powi(n - 1);
            let estimate = falling(n, rate).estimated_gap(0.0, 1e-3).unwrap();
            assert!(left <= estimate && estimate <= 4.0 * left, "{rate} {n}: {left} {estimate}");
        }
        assert_eq!(without_decrease(1e-5, 1.0, 1e-4), Stop::Estimated);
        assert_eq!(without_decrease(1e-4, 1.0, 1e-4), Stop::Stalled);
        assert_eq!(without_decrease(0.0, 1.0, 1e-9), Stop::Stalled); // float32 cannot tell
        // the decrement counts where gains have stopped
        assert_eq!(of(&[1.0; 8], 0.0).estimated_gap(0.1, 1e-3), Some(0.1 * DECREMENT_FACTOR));
        // what float32 cannot tell is always left
        assert_eq!(of(&[3.0; 8], 0.0).estimated_gap(0.0, 1e-3), Some(3.0 * RESOLUTION));
    }

    #[test]
    fn a_tolerance_is_a_share_of_what_weights_gain_where_that_is_less_than_the_objective() {
        let of = |objective: f64| tolerance(1e-3, objective, 2.0);
        assert_eq!(of(0.25), 1e-3 * 0.25);
        assert_eq!(of(1.0), 1e-3);
        assert!((of(1.5) - 1e-3 * 0.5).abs() < 1e-12);
        assert_eq!(of(2.0), LEAST * 2.0); // nothing gained
        assert_eq!(of(3.0), LEAST * 3.0); // worse than without weights
        assert_eq!(tolerance(1e-9, 2.0, 2.0), 2e-9); // never reached, as is asked for
    }

    #[test]
    fn spans_see_gains_that_come_in_bursts() {
        // five large steps, four idle ones, five large ones, four idle ones …
        let mut at = 2.0;
        let values: Vec<f64> = (0..36)
            .map(|i| {
                at -= if i % 9 < 5 { 1e-2 } else { 1e-5 * f64::from(20 - i % 9) };
                at
            })
            .collect();
        let estimate = of(&values, 0.25).estimated_gap(0.0, 1e-3).unwrap();
        let of_single_steps = of(&values[values.len() - 4..], 0.25).estimated_gap(0.0, 1e-3).unwrap();
        assert!(estimate > 5e-3 && of_single_steps < estimate / 2.0, "{estimate} {of_single_steps}");
    }

    #[test]
    fn nothing_is_estimated_early_or_while_errors_move() {
        assert_eq!(falling(3, 0.5).estimated_gap(0.0, 1e-3), None);
        let mut history = falling(20, 0.5);
        history.errors[18] = 0.26;
        assert_eq!(history.estimated_gap(0.0, 1e-3), None);
        assert!(history.estimated_gap(0.0, 0.04).is_some()); // errors may move by 0.02
        // the last three steps count, from where they began
        history.errors[18] = 0.25;
        history.errors[16] = 0.26;
        assert_eq!(history.estimated_gap(0.0, 1e-3), None);
        history.errors[16] = 0.25;
        history.errors[15] = 0.26;
        assert!(history.estimated_gap(0.0, 1e-3).is_some());
    }

    #[test]
    fn gains_that_rounding_hides_count_by_their_slopes() {
        let mut history = History::new(1.0, 0.1);
        for _ in 0..12 {
            history.push(&Gain { measured: -1e-7, by_slopes: 1e-4, promised: 1e-4 }, 1.0, 0.1);
        }
        assert_eq!(history.estimated_gap(0.0, 1e-3), Some(f64::INFINITY)); // they do not fall
    }

    #[test]
    fn rounding_is_left_when_gains_stop_or_little_is_left() {
        let tolerance = 1e-4;
        let mut near = falling(16, 0.5); // 6e-5 left
        let leaves: Vec<bool> = (0..3).map(|_| near.leaves_reduced(None, tolerance)).collect();
        assert_eq!(leaves, [false, false, true]);
        let mut history = falling(6, 0.5);
        assert!(!history.leaves_reduced(None, tolerance));
        for rule in [Stop::Certified, Stop::Estimated, Stop::ErrorEstimated] {
            assert!(history.leaves_reduced(Some(rule), tolerance));
        }
        // gains stop far above the tolerance; an estimate could not tell it from having arrived
        let empty = Gain { measured: 1e-6, by_slopes: 1e-3, promised: 1e-3 };
        history.push(&empty, 1.03, 0.25);
        assert!(history.leaves_reduced(None, tolerance));
        // rounding was no hindrance: three steps are taken whatever they gain, unless the bound is there
        let mut trusted = history.trusted();
        for _ in 0..2 {
            assert!(!trusted.leaves_reduced(Some(Stop::Estimated), tolerance));
            trusted.push(&empty, 1.03, 0.25);
            assert!(!trusted.leaves_reduced(None, tolerance));
        }
        assert!(trusted.leaves_reduced(Some(Stop::Certified), tolerance));
        trusted.push(&empty, 1.03, 0.25);
        assert!(trusted.leaves_reduced(None, tolerance));
    }

    #[test]
    fn the_training_error_ends_a_fit_by_what_it_still_may_move() {
        // in five steps F gained 0.31, while the training error was up to 1e-3 from where it is now
        let mut history = History::new(1.0, 0.251).of_rows(10_000);
        for (gain, error) in [(0.16, 0.2505), (0.08, 0.2498), (0.04, 0.25), (0.02, 0.2501)] {
            history.push(&Gain { measured: gain, by_slopes: gain, promised: gain }, 0.0, error);
        }
        assert_eq!(history.arrived(0.01, 1e-3, Some(1e-4)), None); // too few steps
        history.push(&Gain { measured: 0.01, by_slopes: 0.01, promised: 0.01 }, 0.0, 0.25);
        let ahead = 1e-3 * 0.01 / 0.31;
        assert_eq!(history.arrived(0.01, 1e-3, Some(1.01 * ahead)), Some(Stop::ErrorEstimated));
        assert_eq!(history.arrived(0.01, 1e-3, Some(0.99 * ahead)), None);
        assert_eq!(history.arrived(0.01, 1e-3, None), None); // more is wanted than the training error
        assert_eq!(history.arrived(1e-3, 1e-3, Some(1e-9)), Some(Stop::Estimated));
        assert_eq!(history.arrived(f64::INFINITY, 1e-3, Some(1e-4)), None);
        // the exact passes after them go by their movement
        let exact = history.exact_from(0.69, 0.25, 1e-3);
        assert_eq!(exact.arrived(0.01, 1e-3, Some(1.01 * ahead)), Some(Stop::ErrorEstimated));
        // an error that stands still may move by a row yet
        let still = falling(12, 0.5).of_rows(100);
        let gained = 0.5_f64.powi(6) - 0.5_f64.powi(11);
        assert_eq!(still.arrived(1.01 * gained, 1e-3, Some(0.01)), None);
        assert_eq!(still.arrived(0.99 * gained, 1e-3, Some(0.01)), Some(Stop::ErrorEstimated));
        // nothing was gained, and the error moved: no slope
        assert_eq!(of(&[1.0; 8], 0.25).arrived(0.01, 1e-3, Some(1e-4)), None);
    }

    #[test]
    fn the_first_exact_pass_goes_by_the_steps_before_and_its_own_decrement() {
        let tol = 1e-3;
        let left = falling(12, 0.5).estimated_gap(0.0, tol).unwrap();
        let mut exact = falling(12, 0.5).exact_from(1.0005, 0.25, tol);
        assert_eq!(exact.estimated_gap(0.0, tol), Some(left));
        assert_eq!(exact.estimated_gap(left, tol), Some(DECREMENT_FACTOR * left)); // what rounding had hidden
        // an exact step gains more than was thought to be left; three have a series of their own
        exact.push(&Gain { measured: 0.1, by_slopes: 0.1, promised: 0.1 }, 0.9005, 0.25);
        assert!((exact.estimated_gap(0.0, tol).unwrap() - 0.1).abs() < 1e-9);
        for objective in [0.8505, 0.8255] {
            let gain = 0.9505 - objective - 0.05;
            exact.push(&Gain { measured: gain, by_slopes: gain, promised: gain }, objective, 0.25);
        }
        assert_ne!(exact.estimated_gap(0.0, tol), Some(left));
        // the training error is another one, or moves with an exact step: nothing is known
        assert_eq!(falling(12, 0.5).exact_from(1.0005, 0.26, tol).estimated_gap(0.0, tol), None);
        let mut moved = falling(12, 0.5).exact_from(1.0005, 0.25, tol);
        moved.push(&Gain { measured: 0.0, by_slopes: 0.0, promised: 0.0 }, 1.0005, 0.26);
        assert_eq!(moved.estimated_gap(0.0, tol), None);
        // a step that gained nothing but rounding ends no series: what was left before it is
        let slow = |history: History| history.exact_from(1.0, 0.25, tol).estimated_gap(0.0, tol).unwrap();
        let mut empty = falling(9, 0.8);
        empty.push(&Gain { measured: 0.0, by_slopes: 0.0, promised: 1e-3 }, 1.17, 0.25);
        assert!(empty.empty_step && (slow(empty) - slow(falling(9, 0.8))).abs() < 1e-12);
        // little is left by gains that rounding cannot tell from nothing
        assert_eq!(slow(of(&[1.0; 8], 0.25)), REDUCED_LEFT);
        // two rounded steps have a rate, one has none
        assert_eq!(falling(3, 0.5).exact_from(1.25, 0.25, tol).estimated_gap(0.0, tol), Some(0.5));
        assert_eq!(falling(2, 0.5).exact_from(1.5, 0.25, tol).estimated_gap(0.0, tol), None);
    }

    #[test]
    fn the_slower_of_two_rates_counts() {
        let left = of(&[2.0, 1.9, 1.8, 1.79], 0.25).estimated_gap(0.0, 1e-3).unwrap();
        let rate = 0.1_f64.sqrt(); // of two steps; the last one alone has 0.1
        assert!((left - SERIES_FACTOR * 0.01 * rate / (1.0 - rate)).abs() < 1e-9, "{left}");
    }

    #[test]
    fn gains_that_rounding_does_not_hide_count_as_measured() {
        let mut history = History::new(1.0, 0.25);
        history.push(&Gain { measured: 0.1, by_slopes: 0.2, promised: 0.2 }, 0.9, 0.25);
        assert!((history.gained() - 0.1).abs() < 1e-12);
    }

    #[test]
    fn a_tight_tolerance_asks_no_more_of_a_training_error_than_to_stand_still() {
        let mut history = falling(20, 0.5);
        history.errors[18] = 0.2503;
        assert!(history.estimated_gap(0.0, 1e-6).is_some());
    }
}
