//! A choice among ridge penalties by held-out errors, where those that are clearly worse are not counted to the end.
//!
//! Most of a grid of penalties is far from its best one, and a few hundred rows show it. A penalty leaves the race when,
//! on the rows that all in the race were judged on, it errs more than the best of them by more than three standard
//! errors of the difference:
//!
//! ```text
//! b − c > 3 √(b + c)        b rows that it alone predicts wrongly, c rows that the best alone predicts wrongly
//! ```
//!
//! Errors of those that stay are counted on every row. The rule can drop the penalty that would have had the fewest
//! errors in the end: with a chance of 1 in 700 at a look (there are up to four in a fold) if it is no worse than the
//! best so far, and then the two differ by few rows.

use std::sync::Arc;

use super::RidgeFactor;
use super::ridge::check_above_floor;
use super::ridge_errors::{Scorer, check_judged};
use crate::control::Run;
use crate::error::{Error, Result};
use crate::kernel::parallel::install;
use crate::moments::Design;
use crate::rows::TrainingRows;

/// Rows before the first look: fewer do not show much, and cost nothing.
const FIRST_LOOK: usize = 500;
/// Standard errors of a difference that are taken for clear.
const CLEAR: f64 = 3.0;
/// Looks within a fold: an eighth of its rows, as many again, twice as many, the rest; every eighth row from these on,
/// since rows may be sorted by class.
const STRIDE: usize = 8;
const LOOKS: [&[usize]; 4] = [&[0], &[4], &[2, 6], &[1, 3, 5, 7]];
/// Penalties that cost as much by a Cholesky factor each as by one eigendecomposition and the rows in its basis (measured
/// at 2048 features and 1,000 classes: 2.5 s against 0.5 s for each penalty, of one thread of an Intel Xeon).
const EIGEN_WORTH: usize = 5;

/// Held-out errors of penalties, fold by fold; see the module's documentation.
#[derive(Debug, Clone)]
pub struct RidgeRace {
    /// Of each penalty: whether each row judged so far was predicted wrongly.
    wrong: Vec<Vec<bool>>,
    running: Vec<bool>,
}

impl RidgeRace {
    /// Of so many penalties, all in the race.
    pub fn new(n_alphas: usize) -> Self {
        Self { wrong: vec![Vec::new(); n_alphas], running: vec![true; n_alphas] }
    }

    /// Judge the probes of the penalties that are in the race on a fold's rows, by the design of the other folds.
    ///
    /// # Errors
    /// Those of [`RidgeFactor::solve`], for all penalties, and of [`crate::risk::judge`]; [`Error::Shape`] for another
    /// number of penalties.
    ///
    /// # Accuracy
    /// That of [`super::ridge_errors`].
    pub fn add(
        &mut self,
        judged: TrainingRows<'_>,
        design: &Arc<Design>,
        alphas: &[f64],
        run: Run<'_>,
    ) -> Result<()> {
        if alphas.len() != self.running.len() {
            let (got, expected) = (alphas.len(), self.running.len());
            return Err(Error::Shape { what: "number of penalties", got, expected });
        }
        check_judged(judged, design)?;
        alphas.iter().try_for_each(|&alpha| check_above_floor(design, alpha))?;
        let entered = self.running();
        let penalties: Vec<f64> = entered.iter().map(|&i| alphas[i]).collect();
        let factor = if penalties.len() > EIGEN_WORTH {
            Some(install(run.n_threads, || RidgeFactor::new(design.clone()))?)
        } else {
            None
        };
        let scorer = install(run.n_threads, || match &factor {
            Some(factor) => Scorer::rotated(factor, &penalties),
            None => Scorer::direct(design, &penalties),
        })?;
        for look in LOOKS {
            let rows: Vec<u32> = judged
                .rows()
                .chunks(STRIDE)
                .flat_map(|rows| look.iter().filter_map(|&at| rows.get(at).copied()))
                .collect();
            let which: Vec<usize> = (0..entered.len()).filter(|&i| self.running[entered[i]]).collect();
            let wrong = scorer.wrong(judged, &rows, &which, run)?;
            for (&i, wrong) in which.iter().zip(wrong) {
                self.wrong[entered[i]].extend(wrong);
            }
            self.look();
        }
        Ok(())
    }

    /// Leave out what is clearly worse.
    fn look(&mut self) {
        let running = self.running();
        let Some(&best) = running.iter().min_by_key(|&&i| self.errors(i)) else { return };
        if self.wrong[best].len() < FIRST_LOOK {
            return;
        }
        for i in running {
            let pairs = || self.wrong[i].iter().zip(&self.wrong[best]);
            let alone = pairs().filter(|&(&own, &other)| own && !other).count() as f64;
            let best_alone = pairs().filter(|&(&own, &other)| !own && other).count() as f64;
            self.running[i] = alone - best_alone <= CLEAR * (alone + best_alone).sqrt();
        }
    }

    /// Those in the race, ascending.
    pub fn running(&self) -> Vec<usize> {
        (0..self.running.len()).filter(|&i| self.running[i]).collect()
    }

    /// Rows that penalty `i` predicted wrongly, of [`Self::judged`].
    pub fn errors(&self, i: usize) -> u64 {
        self.wrong[i].iter().filter(|&&wrong| wrong).count() as u64
    }

    /// Rows that penalty `i` was judged on: all, if it is in the race.
    pub fn judged(&self, i: usize) -> u64 {
        self.wrong[i].len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Control;
    use crate::moments::{Moments, Scaling};
    use crate::probe::ridge_errors;
    use crate::rows::{Matrix, Segment, Values};

    /// Rows of `k` classes in `d` features, most of which carry nothing.
    fn rows(n: usize, d: usize, k: usize) -> (Vec<f32>, Vec<u32>) {
        let mut s = 1_u32;
        let mut next = || {
            s = s.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (s >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        let y: Vec<u32> = (0..n).map(|i| (i * k / n) as u32).collect(); // sorted by class
        let x = (0..n * d).map(|i| next() + if i % d == y[i / d] as usize { 0.35 } else { 0.0 }).collect();
        (x, y)
    }

    /// Against all errors counted: who stays has the same, the best of them is the best of all, and most leave.
    #[test]
    fn those_that_stay_have_the_errors_of_the_slow_way_and_the_best_stays() {
        for (d, k, alphas) in [
            (60, 4, (0..16).map(|i| 10.0_f64.powf(f64::from(i) / 2.0 - 4.5)).collect::<Vec<_>>()),
            (40, 9, vec![1e-4, 1e-2, 1e3]),
        ] {
            let n = 6000;
            let (x, y) = rows(n, d, k);
            let matrix = Matrix::new(d, vec![Segment { values: Values::F32(&x), guard: None }]).unwrap();
            let control = Control::new();
            let run = |n_threads| Run { n_threads, control: &control };
            let all: Vec<u32> = (0..n as u32).collect();
            let cells: Vec<u8> = (0..n).map(|i| (i % 5) as u8).collect();
            let mut moments = Moments::new(k, 5, vec![0.0; d]).unwrap();
            // few training rows, so that the penalty matters
            let training: Vec<u32> = all.iter().copied().filter(|i| i / 5 % 10 == 0).collect();
            let training = TrainingRows::new(&matrix, &training, &y, k).unwrap();
            moments.update(training, &cells, run(1)).unwrap();
            let mut race = RidgeRace::new(alphas.len());
            let mut other = RidgeRace::new(alphas.len());
            let mut slow = vec![0; alphas.len()];
            for fold in 0..5 {
                let others: Vec<usize> = (0..5).filter(|&f| f != fold).collect();
                let design = Arc::new(moments.design(&others, Scaling::None).unwrap());
                let held: Vec<u32> = all.iter().copied().filter(|&i| i as usize % 5 == fold).collect();
                let held = TrainingRows::new(&matrix, &held, &y, k).unwrap();
                race.add(held, &design, &alphas, run(2)).unwrap();
                other.add(held, &design, &alphas, run(1)).unwrap();
                let factor = RidgeFactor::new(design).unwrap();
                let errors = ridge_errors(held, &factor, &alphas, run(1)).unwrap();
                slow.iter_mut().zip(errors).for_each(|(all, fold)| *all += fold);
            }
            let running = race.running();
            assert_eq!(running, other.running());
            assert!(!running.is_empty() && running.len() < alphas.len(), "{running:?} {slow:?}");
            for &i in &running {
                // a near-tie in another basis, as in `ridge_errors`
                assert!(race.errors(i).abs_diff(slow[i]) <= 2 && race.judged(i) == n as u64);
            }
            let best = *running.iter().min_by_key(|&&i| race.errors(i)).unwrap();
            assert!(slow.iter().all(|&errors| slow[best] <= errors + 2), "{best} {slow:?}");
            assert!((0..alphas.len()).all(|i| running.contains(&i) || race.judged(i) < n as u64));
        }
    }

    #[test]
    fn few_rows_drop_nobody_and_clear_differences_do() {
        let mut race = RidgeRace::new(3);
        race.wrong = vec![vec![true; 400], vec![false; 400], vec![false; 400]];
        race.look();
        assert_eq!(race.running(), [0, 1, 2]);
        // 21 against 5 rows: 16 is more than 3 √26; 19 against 5: 14 is not more than 3 √24
        let of = |own: usize, both: usize| -> Vec<bool> {
            (0..600).map(|i| (10..10 + own).contains(&i) || (300..300 + both).contains(&i)).collect()
        };
        let best = (0..600).map(|i| i < 5 || (300..400).contains(&i)).collect();
        race.wrong = vec![of(21, 100), best, of(19, 100)];
        race.look();
        assert_eq!(race.running(), [1, 2]);
        assert_eq!((race.errors(1), race.judged(1)), (105, 600));
    }

    #[test]
    fn penalties_that_left_the_race_are_still_checked() {
        let (x, y) = rows(100, 4, 2);
        let matrix = Matrix::new(4, vec![Segment { values: Values::F32(&x), guard: None }]).unwrap();
        let control = Control::new();
        let run = Run { n_threads: 1, control: &control };
        let all: Vec<u32> = (0..100).collect();
        let training = TrainingRows::new(&matrix, &all, &y, 2).unwrap();
        let mut moments = Moments::new(2, 1, vec![0.0; 4]).unwrap();
        moments.update(training, &[0; 100], run).unwrap();
        let design = Arc::new(moments.design(&[0], Scaling::None).unwrap());
        let mut race = RidgeRace { wrong: vec![Vec::new(); 2], running: vec![false, true] };
        assert!(matches!(race.add(training, &design, &[1e-30, 1.0], run), Err(Error::Parameter(_))));
        assert!(matches!(race.add(training, &design, &[1.0, 1.0, 1.0], run), Err(Error::Shape { .. })));
        race.add(training, &design, &[0.5, 1.0], run).unwrap();
        assert_eq!((race.judged(0), race.judged(1)), (0, 100));
    }
}
