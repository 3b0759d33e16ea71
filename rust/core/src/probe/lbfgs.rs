//! Limited-memory BFGS directions in a given metric (two-loop recursion).

use std::collections::VecDeque;

/// Differences of the last steps and gradients.
pub(super) struct Memory {
    pairs: VecDeque<Pair>,
    capacity: usize,
}

struct Pair {
    step: Vec<f64>,
    change: Vec<f64>,
    /// 1 / (step · change)
    rho: f64,
}

pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn axpy(y: &mut [f64], a: f64, x: &[f64]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y += a * x;
    }
}

impl Memory {
    pub fn new(capacity: usize) -> Self {
        Self { pairs: VecDeque::with_capacity(capacity), capacity }
    }

    pub fn clear(&mut self) {
        self.pairs.clear();
    }

    /// Remember a step and the gradient's change over it; pairs without positive curvature are dropped.
    pub fn push(&mut self, step: Vec<f64>, change: Vec<f64>) {
        let curvature = dot(&step, &change);
        if curvature <= 1e-12 * dot(&step, &step).sqrt() * dot(&change, &change).sqrt() {
            return;
        }
        if self.pairs.len() == self.capacity {
            self.pairs.pop_front();
        }
        self.pairs.push_back(Pair { step, change, rho: curvature.recip() });
    }

    /// −H g, where H agrees with the remembered pairs and is γ P⁻¹ (`metric`) elsewhere.
    pub fn direction(&self, gradient: &[f64], metric: impl Fn(&[f64]) -> Vec<f64>) -> Vec<f64> {
        let mut q = gradient.to_vec();
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
        for v in &mut r {
            *v *= gamma;
        }
        for (pair, a) in self.pairs.iter().zip(coefficients.into_iter().rev()) {
            let b = pair.rho * dot(&pair.change, &r);
            axpy(&mut r, a - b, &pair.step);
        }
        for v in &mut r {
            *v = -*v;
        }
        r
    }
}
