//! A Newton step on the intercept alone.
//!
//! Its Hessian is diag(q̄) − mean q qᵀ over the rows, here over a sample of them; zero along 1.

use faer::linalg::solvers::Solve;
use faer::{Mat, MatRef, Side};

/// Classes up to which the Hessian is formed and factored; above, it is only multiplied with.
const DENSE_CLASSES: usize = 1024;
/// Steps of conjugate gradients: away from diag(q̄) the Hessian has the few directions of the sample.
const STEPS: usize = 30;

/// The step for a `gradient` `(k)`, where `mean` `(k)` is q̄ and `sample` `(m, k)` holds q of some rows.
pub(super) fn newton_step(gradient: &[f64], mean: &[f64], sample: &[f32]) -> Vec<f64> {
    let dense = if gradient.len() <= DENSE_CLASSES { factored(gradient, mean, sample) } else { None };
    dense.unwrap_or_else(|| conjugate(gradient, mean, sample))
}

/// `None` if rounding makes the Hessian indefinite.
fn factored(gradient: &[f64], mean: &[f64], sample: &[f32]) -> Option<Vec<f64>> {
    let k = gradient.len();
    let rows = sample.len() / k;
    let q = MatRef::from_row_major_slice(sample, rows, k);
    let second = q.transpose() * q;
    let second = |a: usize, b: usize| f64::from(second[(a, b)]) / rows.max(1) as f64;
    // singular along 1: add 11ᵀ/k of its own size
    let trace = (0..k).map(|c| mean[c] - second(c, c)).sum::<f64>() / k as f64;
    let hessian = Mat::from_fn(k, k, |a, b| {
        let diagonal = if a == b { mean[a] + 1e-9 * trace } else { 0.0 };
        diagonal - second(a, b) + trace / k as f64
    });
    let factor = hessian.llt(Side::Lower).ok()?;
    let step = factor.solve(Mat::from_fn(k, 1, |c, _| -gradient[c]));
    Some((0..k).map(|c| step[(c, 0)]).collect())
}

/// Conjugate gradients, preconditioned by diag(q̄).
fn conjugate(gradient: &[f64], mean: &[f64], sample: &[f32]) -> Vec<f64> {
    let k = gradient.len();
    let rows = sample.len() / k;
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let times = |v: &[f64]| {
        let mut out: Vec<f64> = mean.iter().zip(v).map(|(m, v)| m * v).collect();
        for q in sample.chunks_exact(k) {
            let along = q.iter().zip(v).map(|(&q, v)| f64::from(q) * v).sum::<f64>() / rows as f64;
            out.iter_mut().zip(q).for_each(|(out, &q)| *out -= along * f64::from(q));
        }
        out
    };
    let scaled = |r: &[f64]| -> Vec<f64> { r.iter().zip(mean).map(|(r, m)| r / m.max(1e-12)).collect() };
    let mut step = vec![0.0; k];
    let mut residual: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let mut z = scaled(&residual);
    let mut direction = z.clone();
    let mut size = dot(&residual, &z);
    let enough = 1e-8 * size;
    for _ in 0..STEPS {
        let image = times(&direction);
        let curvature = dot(&direction, &image);
        if size <= enough || curvature <= 1e-12 * dot(&direction, &direction) {
            break;
        }
        let length = size / curvature;
        step.iter_mut().zip(&direction).for_each(|(s, d)| *s += length * d);
        residual.iter_mut().zip(&image).for_each(|(r, i)| *r -= length * i);
        z = scaled(&residual);
        let next = dot(&residual, &z);
        direction.iter_mut().zip(&z).for_each(|(d, z)| *d = z + next / size * *d);
        size = next;
    }
    if size.is_finite() && step.iter().any(|&s| s != 0.0) {
        step
    } else {
        scaled(gradient).iter().map(|v| -v).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_solve_the_same_system() {
        let (k, m) = (40, 60);
        let mut sample: Vec<f32> = (0..m * k).map(|i| ((i * i * 7 + i * 3) % 97) as f32 + 1.0).collect();
        for row in sample.chunks_exact_mut(k) {
            let sum: f32 = row.iter().sum();
            row.iter_mut().for_each(|v| *v /= sum);
        }
        let mean: Vec<f64> =
            (0..k).map(|c| sample.chunks_exact(k).map(|q| f64::from(q[c])).sum::<f64>() / m as f64).collect();
        let mut gradient: Vec<f64> = (0..k).map(|c| ((c * 13) % 11) as f64 * 1e-3).collect();
        let shift = gradient.iter().sum::<f64>() / k as f64;
        gradient.iter_mut().for_each(|g| *g -= shift);
        let (a, b) = (factored(&gradient, &mean, &sample).unwrap(), conjugate(&gradient, &mean, &sample));
        let centred = |v: &[f64]| -> Vec<f64> {
            let mean = v.iter().sum::<f64>() / v.len() as f64;
            v.iter().map(|v| v - mean).collect()
        };
        for (a, b) in centred(&a).into_iter().zip(centred(&b)) {
            assert!((a - b).abs() < 1e-4 * (1.0 + a.abs()), "{a} {b}"); // float32 moments; 1e-8 of the residual
        }
        assert_eq!(newton_step(&gradient, &mean, &sample), a);
    }
}
