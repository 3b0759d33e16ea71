//! When a fit ends: the rules, and the steps they are judged by.

use super::certificate::RESOLUTION;

/// Which rule ended a fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The bound on the suboptimality is below the tolerance.
    Certified,
    /// Objective and training error no longer move; the bound is too loose to say more.
    Estimated,
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
            Self::Stalled => "stalled",
            Self::MaxPasses => "max_passes",
        }
    }

    /// Whether the tolerance was reached, by either rule.
    pub fn converged(self) -> bool {
        matches!(self, Self::Certified | Self::Estimated)
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
/// Rounded steps for which the estimate is waited for after the gains have said that little is left.
const PATIENCE: usize = 1;

/// What the steps of a fit did, all in one precision.
pub(super) struct History {
    /// Objective at the start less what the steps gained.
    objectives: Vec<f64>,
    errors: Vec<f64>,
    /// Whether the last step gained next to nothing of what its gradient promised.
    empty_step: bool,
    /// What the rounded passes before the first point have left, by their own gains.
    left: Option<f64>,
    /// Rounded steps after which the gains said that little is left.
    arrived: usize,
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
            arrived: 0,
        }
    }

    /// Of exact passes that begin where these rounded ones ended, at the same point. What these say of the steps before
    /// holds on, if the training error is the same; the exact gradient says what their rounding has hidden.
    pub fn exact_from(mut self, objective: f64, train_error: f64, tol: f64) -> Self {
        if self.empty_step {
            // what it gained is rounding, and its series ends there
            self.objectives.pop();
            self.errors.pop();
        }
        self.errors.push(train_error);
        let left = self.ahead_if_still(tol).map(|ahead| ahead.max(REDUCED_LEFT * objective.abs()));
        Self { left, ..Self::new(objective, train_error) }
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
        let least = (PROMISE * gain.promised).max(REDUCED_NOISE * objective.abs());
        self.empty_step = hidden && gain.measured < least;
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
            _ => self.ahead_if_still(tol),
        };
        let resolved = RESOLUTION * self.objectives.last()?.abs();
        Some(ahead?.max(DECREMENT_FACTOR * decrement).max(resolved))
    }

    /// What the series of the gains has left, where the training error stands still.
    fn ahead_if_still(&self, tol: f64) -> Option<f64> {
        if self.errors.len() > WINDOW && self.is_still(tol) { self.ahead() } else { None }
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

    /// What the series of the gains has left.
    fn ahead(&self) -> Option<f64> {
        let back = |steps: usize| self.objectives.len().checked_sub(steps + 1).map(|i| self.objectives[i]);
        let gain = |from: usize, to: usize| Some((back(from)? - back(to)?).max(0.0));
        let rate = (gain(1, 0)? / gain(2, 1)?).max((gain(1, 0)? / gain(3, 2)?).sqrt());
        let mut ahead = series(gain(1, 0)?, rate);
        if let Some(before) = gain(2 * SPAN, SPAN) {
            let now = gain(SPAN, 0)?;
            ahead = ahead.max(series(now, now / before));
        }
        Some(ahead)
    }

    /// Whether rounded passes have done what they can for a fit to `tolerance`, where `gap` is the bound and
    /// `estimate` that of [`Self::estimated_gap`]: one of them says that little is left; the gains alone have said so
    /// twice, and what keeps the estimate away may be rounding; or the gains stop, since below some gap (2e-5 to 1e-4
    /// of the objective) they see rounding only. This decides nothing but the precision of the next passes.
    pub fn leaves_reduced(&mut self, gap: f64, estimate: Option<f64>, tolerance: f64) -> bool {
        self.arrived += usize::from(self.ahead().is_some_and(|ahead| ahead <= tolerance));
        let estimated = estimate.is_some_and(|left| left <= tolerance);
        gap <= tolerance || estimated || self.arrived > PATIENCE || self.empty_step
    }
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
        assert!(
            !near.leaves_reduced(1.0, Some(1e-2), tolerance)
                && near.leaves_reduced(1.0, Some(1e-2), tolerance)
        );
        let mut history = falling(6, 0.5);
        assert!(!history.leaves_reduced(1.0, Some(1e-2), tolerance));
        assert!(!history.leaves_reduced(1.0, None, tolerance)); // the training error moves
        assert!(history.leaves_reduced(0.5 * tolerance, None, tolerance)); // the bound is there
        assert!(history.leaves_reduced(1.0, Some(0.5 * tolerance), tolerance));
        // gains stop far above the tolerance; an estimate could not tell it from having arrived
        history.push(&Gain { measured: 1e-6, by_slopes: 1e-3, promised: 1e-3 }, 1.03, 0.25);
        assert!(history.leaves_reduced(1.0, Some(1e-2), tolerance));
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
        // too few rounded steps
        assert_eq!(falling(3, 0.5).exact_from(1.25, 0.25, tol).estimated_gap(0.0, tol), None);
    }
}
