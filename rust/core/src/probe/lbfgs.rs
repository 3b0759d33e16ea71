//! Limited-memory BFGS directions in a given metric (two-loop recursion).
//!
//! Pairs are kept in float32: they shape a direction, and the largest problem has gigabytes of them.

use std::collections::VecDeque;
use std::sync::Arc;

use rayon::prelude::*;

use super::vectors::{add_multiple_f32, add_two_multiples, difference, dot_f32, two_dots};

/// Differences of the last steps and gradients. A clone shares them.
#[derive(Clone)]
pub struct Memory {
    pairs: VecDeque<Held>,
    capacity: usize,
    /// Parameters that the penalty acts on, the first ones.
    penalized: usize,
}

struct Pair {
    step: Vec<f32>,
    change: Vec<f32>,
}

/// A pair at the penalty of now: its change of the gradient is `change` plus `added` times the penalized steps.
#[derive(Clone)]
struct Held {
    pair: Arc<Pair>,
    /// Penalty now less the penalty when the pair was made.
    added: f64,
    /// 1 / (step · change)
    rho: f64,
}

impl Held {
    /// Its change of the gradient times `v`.
    fn change_dot(&self, v: &[f32], penalized: usize) -> f64 {
        let Pair { step, change } = &*self.pair;
        if self.added == 0.0 {
            return dot(change, v);
        }
        let chunks = change[..penalized].par_chunks(CHUNK).zip(step[..penalized].par_chunks(CHUNK));
        let sums = chunks.zip(v[..penalized].par_chunks(CHUNK)).map(|((change, step), v)| {
            let (of_change, of_step) = two_dots(change, step, v);
            of_change + self.added * of_step
        });
        sums.collect::<Vec<f64>>().into_iter().sum::<f64>() + dot(&change[penalized..], &v[penalized..])
    }

    /// `v += by · (change of the gradient)`.
    fn add_change(&self, v: &mut [f32], by: f64, penalized: usize) {
        let Pair { step, change } = &*self.pair;
        if self.added == 0.0 {
            return axpy(v, by, change);
        }
        let (v, rest) = v.split_at_mut(penalized);
        let chunks = change.par_chunks(CHUNK).zip(step.par_chunks(CHUNK));
        v.par_chunks_mut(CHUNK).zip(chunks).for_each(|(v, (change, step))| {
            add_two_multiples(v, by as f32, change, (by * self.added) as f32, step);
        });
        axpy(rest, by, &change[penalized..]);
    }
}

/// Entries handled by one task. Fixed, so that sums have the same bits for any number of threads.
const CHUNK: usize = 1 << 15;

impl Memory {
    /// Of at most `capacity` steps of parameters whose first `penalized` have the penalty.
    pub(super) fn new(capacity: usize, penalized: usize) -> Self {
        Self { pairs: VecDeque::with_capacity(capacity), capacity, penalized }
    }

    pub(super) fn clear(&mut self) {
        self.pairs.clear();
    }

    /// Remember the step and the gradient's change from one point to the next; pairs without positive
    /// curvature are dropped.
    pub(super) fn push(
        &mut self,
        (to, from): (&[f64], &[f64]),
        (gradient_to, gradient_from): (&[f64], &[f64]),
    ) {
        let (step, change) = (difference(to, from), difference(gradient_to, gradient_from));
        let curvature = dot(&step, &change);
        if curvature <= 1e-12 * dot(&step, &step).sqrt() * dot(&change, &change).sqrt() {
            return;
        }
        if self.pairs.len() == self.capacity {
            self.pairs.pop_front();
        }
        let pair = Arc::new(Pair { step, change });
        self.pairs.push_back(Held { pair, added: 0.0, rho: curvature.recip() });
    }

    /// Make the pairs those of the same objective with `by` more penalty.
    pub(super) fn add_penalty(&mut self, by: f64) {
        let penalized = self.penalized;
        self.pairs.retain_mut(|held| {
            held.added += by;
            held.rho = held.change_dot(&held.pair.step, penalized).recip();
            held.rho.is_finite() && held.rho > 0.0
        });
    }

    /// −H g, where H agrees with the remembered pairs and is γ P⁻¹ elsewhere: `solve(v)` is P⁻¹ v,
    /// `norm_square(v)` vᵀ P⁻¹ v, both up to what is the same for all classes.
    pub(super) fn direction(
        &self,
        gradient: &[f64],
        solve: impl Fn(&[f32]) -> Vec<f32>,
        norm_square: impl Fn(Vec<f32>) -> f64,
    ) -> Vec<f64> {
        let penalized = self.penalized;
        let mut q: Vec<f32> = gradient.iter().map(|&g| g as f32).collect();
        let mut coefficients = Vec::with_capacity(self.pairs.len());
        for held in self.pairs.iter().rev() {
            let a = held.rho * dot(&held.pair.step, &q);
            held.add_change(&mut q, -a, penalized);
            coefficients.push(a);
        }
        let gamma = self.pairs.back().map_or(1.0, |held| {
            let mut change = vec![0.0; q.len()];
            held.add_change(&mut change, 1.0, penalized);
            let scaled = norm_square(change);
            if scaled > 0.0 { 1.0 / (held.rho * scaled) } else { 1.0 }
        });
        let mut r = solve(&q);
        r.iter_mut().for_each(|v| *v *= gamma as f32);
        for (held, a) in self.pairs.iter().zip(coefficients.into_iter().rev()) {
            let b = held.rho * held.change_dot(&r, penalized);
            axpy(&mut r, a - b, &held.pair.step);
        }
        r.into_iter().map(|v| -f64::from(v)).collect()
    }
}

/// Products in float64, in the pool of the caller.
fn dot(a: &[f32], b: &[f32]) -> f64 {
    let chunks = a.par_chunks(CHUNK).zip(b.par_chunks(CHUNK)).map(|(a, b)| dot_f32(a, b));
    chunks.collect::<Vec<f64>>().into_iter().sum()
}

fn axpy(y: &mut [f32], a: f64, x: &[f32]) {
    let chunks = y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK));
    chunks.for_each(|(y, x)| add_multiple_f32(y, a as f32, x));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A direction in the metric of the coordinates.
    fn plain(memory: &Memory, gradient: &[f64]) -> Vec<f64> {
        memory.direction(gradient, <[f32]>::to_vec, |v| dot(&v, &v))
    }

    /// A quadratic's minimum is one direction away once the pairs span the space, whatever the metric.
    #[test]
    fn pairs_that_span_the_space_give_newtons_direction() {
        let curvatures = [2.0_f64, 5.0, 0.5];
        let gradient = |w: &[f64]| -> Vec<f64> { w.iter().zip(&curvatures).map(|(w, c)| w * c).collect() };
        let mut memory = Memory::new(3, 3);
        for j in 0..3 {
            let mut to = vec![0.0; 3];
            to[j] = 1.0;
            memory.push((&to, &[0.0; 3]), (&gradient(&to), &[0.0; 3]));
        }
        let point = [1.0, -2.0, 3.0];
        let direction = plain(&memory, &gradient(&point));
        for (d, p) in direction.iter().zip(point) {
            assert!((d + p).abs() < 1e-5, "{d} {p}");
        }
        // the same with a unit more of penalty on all of them
        let before = memory.clone();
        memory.add_penalty(1.0);
        let stiffer: Vec<f64> = point.iter().zip(&curvatures).map(|(w, c)| w * (c + 1.0)).collect();
        for (d, p) in plain(&memory, &stiffer).iter().zip(point) {
            assert!((d + p).abs() < 1e-5, "{d} {p}");
        }
        // of which the pairs that it shares know nothing
        let direction = plain(&before, &gradient(&point));
        assert!(direction.iter().zip(point).all(|(d, p)| (d + p).abs() < 1e-5));
    }

    #[test]
    fn steps_without_curvature_are_dropped() {
        let mut memory = Memory::new(2, 2);
        memory.push((&[1.0, 0.0], &[0.0; 2]), (&[-1.0, 0.0], &[0.0; 2]));
        memory.push((&[0.0; 2], &[0.0; 2]), (&[0.0; 2], &[0.0; 2]));
        assert_eq!(plain(&memory, &[1.0, 2.0]), [-1.0, -2.0]);
    }

    #[test]
    fn sums_do_not_depend_on_threads_and_agree_with_float64() {
        let a: Vec<f32> = (0..100_003).map(|i| (i % 113) as f32 / 7.0 - 8.0).collect();
        let b: Vec<f32> = (0..100_003).map(|i| (i % 57) as f32 / 3.0 - 9.0).collect();
        let plain: f64 = a.iter().zip(&b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
        let by = |threads| crate::kernel::parallel::install(threads, || Ok(dot(&a, &b))).unwrap();
        assert_eq!(by(1), by(3));
        assert!((by(1) - plain).abs() <= 1e-12 * plain.abs().max(1e6));
    }
}
