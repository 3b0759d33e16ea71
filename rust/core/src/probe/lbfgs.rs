//! Limited-memory BFGS directions in a given metric (two-loop recursion).
//!
//! Pairs are kept in float32: they shape a direction, and the largest problem has gigabytes of them.

use std::collections::VecDeque;

use multiversion::multiversion;
use rayon::prelude::*;

/// Differences of the last steps and gradients.
pub(super) struct Memory {
    pairs: VecDeque<Pair>,
    capacity: usize,
}

struct Pair {
    step: Vec<f32>,
    change: Vec<f32>,
    /// 1 / (step · change)
    rho: f64,
}

/// Entries handled by one task. Fixed, so that sums have the same bits for any number of threads.
const CHUNK: usize = 1 << 15;

impl Memory {
    pub fn new(capacity: usize) -> Self {
        Self { pairs: VecDeque::with_capacity(capacity), capacity }
    }

    pub fn clear(&mut self) {
        self.pairs.clear();
    }

    /// Remember the step and the gradient's change from one point to the next; pairs without positive
    /// curvature are dropped.
    pub fn push(&mut self, (to, from): (&[f64], &[f64]), (gradient_to, gradient_from): (&[f64], &[f64])) {
        let (step, change) = (difference(to, from), difference(gradient_to, gradient_from));
        let curvature = dot(&step, &change);
        if curvature <= 1e-12 * dot(&step, &step).sqrt() * dot(&change, &change).sqrt() {
            return;
        }
        if self.pairs.len() == self.capacity {
            self.pairs.pop_front();
        }
        self.pairs.push_back(Pair { step, change, rho: curvature.recip() });
    }

    /// The pairs of the same objective with `by` more penalty on the first `penalized` parameters.
    pub fn add_penalty(&mut self, by: f64, penalized: usize) {
        self.pairs.retain_mut(|pair| {
            for (y, &s) in pair.change.iter_mut().zip(&pair.step).take(penalized) {
                *y += by as f32 * s;
            }
            pair.rho = dot(&pair.step, &pair.change).recip();
            pair.rho.is_finite() && pair.rho > 0.0
        });
    }

    /// −H g, where H agrees with the remembered pairs and is γ P⁻¹ (`metric`) elsewhere.
    pub fn direction(&self, gradient: &[f64], metric: impl Fn(&[f32]) -> Vec<f32>) -> Vec<f64> {
        let mut q: Vec<f32> = gradient.iter().map(|&g| g as f32).collect();
        let mut coefficients = Vec::with_capacity(self.pairs.len());
        for pair in self.pairs.iter().rev() {
            let a = pair.rho * dot(&pair.step, &q);
            axpy(&mut q, -a, &pair.change);
            coefficients.push(a);
        }
        let gamma = self.pairs.back().map_or(1.0, |pair| {
            let scaled = dot(&pair.change, &metric(&pair.change));
            if scaled > 0.0 { 1.0 / (pair.rho * scaled) } else { 1.0 }
        });
        let mut r = metric(&q);
        r.iter_mut().for_each(|v| *v *= gamma as f32);
        for (pair, a) in self.pairs.iter().zip(coefficients.into_iter().rev()) {
            let b = pair.rho * dot(&pair.change, &r);
            axpy(&mut r, a - b, &pair.step);
        }
        r.into_iter().map(|v| -f64::from(v)).collect()
    }
}

fn difference(a: &[f64], b: &[f64]) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| (a - b) as f32).collect()
}

/// Products in float64, in the pool of the caller.
fn dot(a: &[f32], b: &[f32]) -> f64 {
    let chunks = a.par_chunks(CHUNK).zip(b.par_chunks(CHUNK)).map(|(a, b)| dot_chunk(a, b));
    chunks.collect::<Vec<f64>>().into_iter().sum()
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
fn dot_chunk(a: &[f32], b: &[f32]) -> f64 {
    // sixteen sums at a time: the compiler may not reorder one
    let mut sums = [0.0_f64; 16];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    for (a, b) in a.iter().zip(b) {
        for ((s, &a), &b) in sums.iter_mut().zip(a).zip(b) {
            *s += f64::from(a) * f64::from(b);
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
    sums.iter().sum::<f64>() + rest
}

fn axpy(y: &mut [f32], a: f64, x: &[f32]) {
    y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(y, x)| {
        for (y, &x) in y.iter_mut().zip(x) {
            *y += a as f32 * x;
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A quadratic's minimum is one direction away once the pairs span the space, whatever the metric.
    #[test]
    fn pairs_that_span_the_space_give_newtons_direction() {
        let curvatures = [2.0_f64, 5.0, 0.5];
        let gradient = |w: &[f64]| -> Vec<f64> { w.iter().zip(&curvatures).map(|(w, c)| w * c).collect() };
        let mut memory = Memory::new(3);
        for j in 0..3 {
            let mut to = vec![0.0; 3];
            to[j] = 1.0;
            memory.push((&to, &[0.0; 3]), (&gradient(&to), &[0.0; 3]));
        }
        let point = [1.0, -2.0, 3.0];
        let direction = memory.direction(&gradient(&point), <[f32]>::to_vec);
        for (d, p) in direction.iter().zip(point) {
            assert!((d + p).abs() < 1e-5, "{d} {p}");
        }
        // the same with a unit more of penalty on all of them
        memory.add_penalty(1.0, 3);
        let stiffer: Vec<f64> = point.iter().zip(&curvatures).map(|(w, c)| w * (c + 1.0)).collect();
        for (d, p) in memory.direction(&stiffer, <[f32]>::to_vec).iter().zip(point) {
            assert!((d + p).abs() < 1e-5, "{d} {p}");
        }
    }

    #[test]
    fn steps_without_curvature_are_dropped() {
        let mut memory = Memory::new(2);
        memory.push((&[1.0, 0.0], &[0.0; 2]), (&[-1.0, 0.0], &[0.0; 2]));
        memory.push((&[0.0; 2], &[0.0; 2]), (&[0.0; 2], &[0.0; 2]));
        assert_eq!(memory.direction(&[1.0, 2.0], <[f32]>::to_vec), [-1.0, -2.0]);
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
