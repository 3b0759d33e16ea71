//! The hot loops of every pass over the rows: Gram, forward, softmax residual, backward.
//!
//! All work on one staged block of rows (float32, row-major) and are called inside a worker, so they are
//! single-threaded; [`parallel`] spreads blocks over threads. Products are exact to float32 rounding.

pub mod parallel;
mod softmax;

pub use softmax::{FLUSH, Residual, softmax_residual};

use faer::linalg::matmul::matmul;
use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::{Accum, MatMut, MatRef, Par};

/// Rows of a block that keep its working set (`row_floats` floats a row) near the level-2 cache.
pub fn block_rows(row_floats: usize) -> usize {
    ((1 << 17) / row_floats.max(1)).clamp(16, 1024)
}

/// Lower triangle of `gram += xᵀ x`, with `x` `(n, d)` and `gram` `(d, d)`.
pub fn gram_add(x: &[f32], d: usize, gram: &mut [f32]) {
    let x = MatRef::from_row_major_slice(x, x.len() / d, d);
    triangular::matmul(
        MatMut::from_row_major_slice_mut(gram, d, d),
        BlockStructure::TriangularLower,
        Accum::Add,
        x.transpose(),
        BlockStructure::Rectangular,
        x,
        BlockStructure::Rectangular,
        1.0_f32,
        Par::Seq,
    );
}

/// `z = x w + 1 bᵀ`, with `x` `(n, d)`, `w` `(d, k)`, `b` `(k)` and `z` `(n, k)`.
pub fn forward(x: &[f32], w: &[f32], b: &[f32], z: &mut [f32]) {
    let k = b.len();
    let d = w.len() / k;
    let n = x.len() / d;
    for row in z.chunks_exact_mut(k) {
        row.copy_from_slice(b);
    }
    matmul(
        MatMut::from_row_major_slice_mut(z, n, k),
        Accum::Add,
        MatRef::from_row_major_slice(x, n, d),
        MatRef::from_row_major_slice(w, d, k),
        1.0_f32,
        Par::Seq,
    );
}

/// `g += xᵀ r`, with `x` `(n, d)`, `r` `(n, k)` and `g` `(d, k)`.
pub fn backward_add(x: &[f32], r: &[f32], k: usize, g: &mut [f32]) {
    let d = g.len() / k;
    let n = r.len() / k;
    matmul(
        MatMut::from_row_major_slice_mut(g, d, k),
        Accum::Add,
        MatRef::from_row_major_slice(x, n, d).transpose(),
        MatRef::from_row_major_slice(r, n, k),
        1.0_f32,
        Par::Seq,
    );
}

/// Add a float32 block sum to its float64 total and clear it.
pub fn flush(block: &mut [f32], total: &mut [f64]) {
    for (t, b) in total.iter_mut().zip(block.iter_mut()) {
        *t += f64::from(*b);
        *b = 0.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(n: usize, seed: u32) -> Vec<f32> {
        let mut s = seed.wrapping_mul(2_654_435_761).max(1);
        (0..n)
            .map(|_| {
                s ^= s << 13;
                s ^= s >> 17;
                s ^= s << 5;
                (s % 17) as f32 - 8.0
            })
            .collect()
    }

    /// Small integers have exact float32 products, so the kernels must be bit-exact.
    #[test]
    fn products_are_exact_on_small_integers_at_odd_sizes() {
        for (n, d, k) in [(1, 1, 2), (7, 3, 2), (33, 31, 10), (64, 65, 3), (257, 40, 17)] {
            let (x, w, b) = (values(n * d, 1), values(d * k, 2), values(k, 3));
            let mut z = vec![f32::NAN; n * k];
            forward(&x, &w, &b, &mut z);
            for i in 0..n {
                for c in 0..k {
                    let want: f32 = b[c] + (0..d).map(|j| x[i * d + j] * w[j * k + c]).sum::<f32>();
                    assert_eq!(z[i * k + c], want);
                }
            }
            let mut g = vec![1.0; d * k];
            backward_add(&x, &z, k, &mut g);
            let mut gram = vec![0.0; d * d];
            gram_add(&x, d, &mut gram);
            for j in 0..d {
                for c in 0..k {
                    let want: f64 =
                        1.0 + (0..n).map(|i| f64::from(x[i * d + j]) * f64::from(z[i * k + c])).sum::<f64>();
                    assert_eq!(f64::from(g[j * k + c]), want);
                }
                for l in 0..=j {
                    let want: f32 = (0..n).map(|i| x[i * d + j] * x[i * d + l]).sum();
                    assert_eq!(gram[j * d + l], want);
                }
            }
        }
    }
}
