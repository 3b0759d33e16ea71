//! Scores in whole numbers against sums in float64.

use super::layout::FIXED_LARGEST;
use super::{FixedRows, FixedScores, Kernel, Precision, Work, padded, row_stride, usable};

fn fixed_kernels() -> Vec<&'static Kernel> {
    usable().iter().copied().filter(|kernel| kernel.precision == Precision::Fixed).collect()
}

/// Rows `(n, d)`, weights `(d, k)`, an intercept and deviations.
struct Problem {
    x: Vec<f32>,
    w: Vec<f32>,
    b: Vec<f32>,
    s: Vec<f32>,
}

impl Problem {
    /// Post-relu features of very different deviations with an outlier here and there, a row and a class of zeros.
    fn new(n: usize, d: usize, k: usize) -> Self {
        let value = |at: usize| ((at * 7_919 + at / 13 * 31) % 1_009) as f32 / 1_009.0 - 0.5;
        let s: Vec<f32> = (0..d).map(|j| 4.0_f32.powi(j as i32 % 7 - 3)).collect();
        let mut x: Vec<f32> = (0..n * d).map(|at| value(at).max(0.0) * s[at % d]).collect();
        let mut w: Vec<f32> = (0..d * k).map(|at| value(at + 5) / s[at / k]).collect();
        for at in (0..n * d).step_by(d + 97) {
            x[at] *= 40.0;
        }
        x[n / 2 * d..][..d].fill(0.0);
        w.iter_mut().skip(k / 2).step_by(k).for_each(|w| *w = 0.0);
        Self { x, w, b: (0..k).map(value).collect(), s }
    }

    fn scores(&self, kernel: &'static Kernel, work: Work) -> Vec<f32> {
        let (d, k) = (self.s.len(), self.b.len());
        let (n, stride) = (self.x.len() / d, row_stride(d));
        let scores = FixedScores::new(kernel, &self.w, &self.s);
        let mut staged = vec![f32::NAN; n.next_multiple_of(16) * stride];
        for (staged, x) in staged.chunks_exact_mut(stride).zip(self.x.chunks_exact(d)) {
            staged[..d].copy_from_slice(x);
        }
        let mut rows = FixedRows::default();
        let mut z = vec![f32::NAN; n.next_multiple_of(16) * padded(k)];
        scores.forward(Work::Here, &staged, (n.min(3), stride), &self.b, &mut rows, &mut z); // what a buffer held would show
        scores.forward(work, &staged, (n, stride), &self.b, &mut rows, &mut z);
        z.chunks_exact(padded(k)).take(n).flat_map(|z| z[..k].to_vec()).collect()
    }
}

fn largest(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(0.0, |largest, v| largest.max(v.abs()))
}

#[test]
fn values_are_off_by_half_a_unit_of_their_row_or_class() {
    assert!(!fixed_kernels().is_empty());
    for kernel in fixed_kernels() {
        for (n, d, k) in [(1, 1, 2), (7, 3, 33), (33, 31, 40), (50, 129, 100), (20, 520, 37)] {
            let p = Problem::new(n, d, k);
            let z = p.scores(kernel, Work::Here);
            assert_eq!(z, p.scores(kernel, Work::Spread), "{}", kernel.name);
            let x = |i: usize, j: usize| f64::from(p.x[i * d + j]) / f64::from(p.s[j]);
            let w = |j: usize, c: usize| f64::from(p.w[j * k + c]) * f64::from(p.s[j]);
            let half = |largest: f64| 0.5 * largest / f64::from(FIXED_LARGEST);
            for i in 0..n {
                let u = half(largest((0..d).map(|j| x(i, j))));
                for c in 0..k {
                    let v = half(largest((0..d).map(|j| w(j, c))));
                    let want = f64::from(p.b[c]) + (0..d).map(|j| x(i, j) * w(j, c)).sum::<f64>();
                    // and what float32 takes from the sums of 128 products, of which there are at most five
                    let size =
                        (0..d).map(|j| (x(i, j) * w(j, c)).abs()).sum::<f64>() + f64::from(p.b[c]).abs();
                    let allowed = (0..d).map(|j| x(i, j).abs() * v + w(j, c).abs() * u + u * v).sum::<f64>()
                        + 8.0 * f64::from(f32::EPSILON) * size;
                    let got = f64::from(z[i * k + c]);
                    assert!(
                        (got - want).abs() <= allowed,
                        "{} {n} {d} {k} {i} {c}: {got} {want}",
                        kernel.name
                    );
                }
            }
        }
    }
}

/// All factors as large as they get, of one sign: sums of more words than fit into 32 bits.
#[test]
fn sums_of_the_largest_values_do_not_overflow() {
    for kernel in fixed_kernels() {
        for (sign, d) in [(1.0, 128), (1.0, 4096), (-1.0, 4096)] {
            let p = Problem { x: vec![sign; 2 * d], w: vec![1.0; 33 * d], b: vec![0.5; 33], s: vec![1.0; d] };
            for z in p.scores(kernel, Work::Here) {
                let want = sign * d as f32 + 0.5;
                assert!((z - want).abs() <= 1e-5 * d as f32, "{} {z} {want}", kernel.name); // 32 sums in float32
            }
        }
    }
}

#[test]
fn what_is_not_finite_stays_so() {
    for kernel in fixed_kernels() {
        let mut p = Problem::new(3, 20, 33);
        p.x[25] = f32::NAN;
        p.x[41] = f32::INFINITY;
        let z = p.scores(kernel, Work::Here);
        assert!(z[..33].iter().all(|z| z.is_finite()), "{}", kernel.name);
        assert!(z[33..].iter().all(|z| !z.is_finite()), "{}", kernel.name);
    }
}
